"""64 GANs on a ring of eight Gaussians, side by side, on a laptop or on a cluster.

    python examples/many_seeds.py [--fast]
    srun python examples/many_seeds.py --distributed
    python examples/many_seeds.py --distributed --coordinator HOST:PORT --processes 2 --rank 0

One jitted call trains every seed; `df.over_devices` lays the seeds over all devices there are, and
the program is the same on one device and on many. With --distributed the devices are those of all
processes: Slurm, Open MPI and TPU pods tell JAX who they are, elsewhere the three options do. All
processes must hold the same number of devices. A mode is covered if one sample in 100 lies within
3 sd of it. Writes examples/out/many_seeds.png, the first 16 generators.
"""

import argparse
import pathlib
import time

import _ring
import jax
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
from jax.experimental.multihost_utils import process_allgather

import divergence_flows as df

OUT = pathlib.Path(__file__).parent / "out"
SD = 0.1


def train(steps, xs_p, key):
    return _ring.train(df.gans.logit(), steps, xs_p, key, count=1000)


def draw(clouds, found, path):
    plt.style.use("divergence_flows.plot.style")
    figure, axes = plt.subplots(4, 4, figsize=(9, 9.4))
    for axis, xs, count in zip(axes.flat, clouds, found, strict=False):
        _ring.draw(axis, xs, f"{count} of 8")
    for axis in axes.flat[len(clouds) :]:
        axis.axis("off")
    figure.savefig(path, dpi=110)
    plt.close(figure)
    print(f"wrote {path}")


def arguments(argv):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="fewer steps, for a check")
    parser.add_argument("--seeds", type=int, default=64, help="a multiple of all devices")
    parser.add_argument("--distributed", action="store_true", help="use the devices of a cluster")
    parser.add_argument("--coordinator", help="host:port of process 0, where no cluster says it")
    parser.add_argument("--processes", type=int, help="how many there are")
    parser.add_argument("--rank", type=int, help="which one this is, from 0")
    return parser.parse_args(argv)


def main(argv=None):
    given = arguments(argv)
    # Before JAX touches a device.
    if given.distributed:
        jax.distributed.initialize(given.coordinator, given.processes, given.rank)
    steps = 200 if given.fast else 5000
    xs_p = _ring.ring(jr.key(1), 4096, SD)
    keys = df.over_devices(jr.split(jr.key(0), given.seeds))
    start = time.perf_counter()
    run = jax.jit(jax.vmap(jax.tree_util.Partial(train, steps), in_axes=(None, 0)))
    clouds = process_allgather(run(xs_p, keys), tiled=True)
    seconds = time.perf_counter() - start
    if jax.process_index() > 0:
        return
    found = np.array([_ring.score(xs, SD)[0] for xs in clouds])
    print(
        f"{given.seeds} seeds, {steps:,} steps, {jax.device_count()} devices of "
        f"{jax.process_count()} processes, {seconds:.0f} s: modes covered "
        f"{found.mean():.2f} of 8, all of them by {np.sum(found == 8)} seeds"
    )
    OUT.mkdir(exist_ok=True)
    draw(clouds, found, OUT / "many_seeds.png")


if __name__ == "__main__":
    main()
