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

import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import optax
from jax.experimental.multihost_utils import process_allgather

import divergence_flows as df

OUT = pathlib.Path(__file__).parent / "out"
SD, SHARE = 0.1, 0.01
LATENT, WIDTH, DEPTH = 2, 64, 2
OPTIMIZER = optax.adam(1e-3, b1=0.5, b2=0.999)


def modes():
    turn = 2 * np.pi * np.arange(8) / 8
    return 2 * np.stack([np.cos(turn), np.sin(turn)], axis=1)


def ring(key, count):
    key_mode, key_noise = jr.split(key)
    which = jr.randint(key_mode, (count,), 0, 8)
    return jnp.asarray(modes())[which] + SD * jr.normal(key_noise, (count, 2))


def train(steps, xs_p, key):
    """One seed: its networks, its game, and samples of the averaged generator."""
    key_d, key_g, key_run, key_noise = jr.split(key, 4)
    state, _ = df.train_gan(
        df.gans.logit(),
        df.networks.Discriminator(2, WIDTH, DEPTH, key=key_d),
        df.networks.Generator(LATENT, 2, WIDTH, DEPTH, key=key_g),
        xs_p,
        latent=LATENT,
        steps=steps,
        d_optimizer=OPTIMIZER,
        g_optimizer=OPTIMIZER,
        ema_decay=0.99,
        chunk=steps,
        key=key_run,
    )
    return jax.vmap(state.ema)(jr.normal(key_noise, (1000, LATENT)))


def covered(xs):
    """How many of the modes one generator's samples cover."""
    near = np.linalg.norm(xs[:, None] - modes(), axis=2) < 3 * SD
    return np.sum(near.mean(axis=0) >= SHARE)


def draw(clouds, found, path):
    figure, axes = plt.subplots(4, 4, figsize=(9, 9.4), layout="constrained")
    for axis, xs, count in zip(axes.flat, clouds, found, strict=False):
        axis.scatter(*xs.T, s=1, color="#1f5fa8")
        axis.scatter(*modes().T, marker="+", color="#d9772b")
        axis.set(title=f"{count} of 8", xlim=(-3, 3), ylim=(-3, 3), aspect="equal")
        axis.set(xticks=[], yticks=[])
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
    xs_p = ring(jr.key(1), 4096)
    keys = df.over_devices(jr.split(jr.key(0), given.seeds))
    start = time.perf_counter()
    run = jax.jit(jax.vmap(jax.tree_util.Partial(train, steps), in_axes=(None, 0)))
    clouds = process_allgather(run(xs_p, keys), tiled=True)
    seconds = time.perf_counter() - start
    if jax.process_index() > 0:
        return
    found = np.array([covered(xs) for xs in clouds])
    print(
        f"{given.seeds} seeds, {steps:,} steps, {jax.device_count()} devices of "
        f"{jax.process_count()} processes, {seconds:.0f} s: modes covered "
        f"{found.mean():.2f} of 8, all of them by {np.sum(found == 8)} seeds"
    )
    OUT.mkdir(exist_ok=True)
    draw(clouds, found, OUT / "many_seeds.png")


if __name__ == "__main__":
    main()
