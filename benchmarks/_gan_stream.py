"""Data that no memory holds, for `gan.py`: a GAN on a file of 20 GB, and what batches cost.

The file is sparse: its rows are zeros, to which each batch adds noise of its own. `report` takes
pairs of times, ours and theirs.
"""

import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import jax
import jax.random as jr
import numpy as np

import divergence_flows as df

ROWS, COLUMNS, SIZE, STEPS, ROUNDS = 6_400_000, 784, 128, 400, 5
GB = 1e9


def networks():
    d = df.networks.Discriminator(COLUMNS, 64, 2, key=jr.key(0))
    return d, df.networks.Generator(16, COLUMNS, 64, 2, key=jr.key(1))


def train(xs_p, steps=STEPS):
    options = {"latent": 16, "batch_size": SIZE, "steps": steps, "chunk": 50, "key": jr.key(2)}
    return jax.block_until_ready(df.train_gan(df.gans.logit(), *networks(), xs_p, **options))


def rows_of(path):
    """A function of the step that reads rows anywhere in the file."""

    def batch(step):
        rng = np.random.default_rng(step)
        file = np.memmap(path, np.float32, "r", shape=(ROWS, COLUMNS))
        chosen = file[np.sort(rng.integers(ROWS, size=SIZE))]
        return chosen + rng.standard_normal((SIZE, COLUMNS), np.float32)

    return batch


def peak(path):
    """Trains on the file, and prints the most memory that this process had, in bytes."""
    train(rows_of(path))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def stream(report):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "rows.float32"
        path.touch()
        os.truncate(path, 4 * ROWS * COLUMNS)
        size = path.stat().st_size
        command = [sys.executable, __file__, str(path)]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
    case = f"GAN on a file of {size / GB:.0f} GB, {STEPS} batches of {SIZE} x {COLUMNS}"
    pairs = [(float(run.stdout) / GB, 2.0)]
    report(case, "peak memory of the process / 2 GB", pairs, 1.0, "what issue 16 allows", "GB")

    whole = np.random.default_rng(0).standard_normal((50 * SIZE, COLUMNS), np.float32)
    batch = lambda step: whole[(step % 50) * SIZE : (step % 50 + 1) * SIZE]
    pairs = []
    for xs_p in (batch, whole):  # compiles
        train(xs_p, 50)
    for _ in range(ROUNDS):  # alternating
        seconds = []
        for xs_p in (batch, whole):
            start = time.perf_counter()
            train(xs_p)
            seconds.append((time.perf_counter() - start) / STEPS)
        pairs.append(tuple(seconds))
    case = f"GAN on batches of {SIZE} x {COLUMNS} from `batch(step)`"
    report(case, "time of a step", pairs, 1.1, "the same rows as one array")


if __name__ == "__main__":
    peak(sys.argv[1])
