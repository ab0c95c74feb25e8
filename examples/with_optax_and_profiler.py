"""Schedules of optax steer training and particles; jax's profiler looks inside a solve.

    python examples/with_optax_and_profiler.py [--fast]

1. `transport`: the step is a schedule, full for a while and then down a line to zero, and so is
   the discriminator's learning rate, which warms up first. Particles end at rest.
2. `train_gan`: each player has an optimiser of its own, a chain with clipped gradients for one.
3. `jax.profiler.trace` around a solve: where its time goes, for ui.perfetto.dev or TensorBoard.

Writes examples/out/with_optax_and_profiler.png: the particles' way, and the losses of both.
"""

import argparse
import gzip
import json
import pathlib

import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
import optax

import divergence_flows as df

OUT = pathlib.Path(__file__).parent / "out"
GAN = df.gans.logit()
CENTRE = np.array([2.0, -1.0], np.float32)


def target(key, count=512):
    return CENTRE + 0.5 * jr.normal(key, (count, 2))


def move(steps):
    """Particles under a schedule; how far their mean is off, the steps, and what happened."""
    hold = steps // 2
    step_size = optax.schedules.join_schedules(
        [optax.schedules.constant_schedule(0.05), optax.schedules.linear_schedule(0.05, 0, hold)],
        [hold],
    )
    rate = optax.schedules.warmup_cosine_decay_schedule(0, 5e-3, steps // 10, 5 * steps)
    start = jr.normal(jr.key(1), (256, 2))
    moved, info = df.transport(
        GAN,
        df.networks.Discriminator(2, width=32, key=jr.key(2)),
        start,
        target(jr.key(0)),
        steps=steps,
        step_size=step_size,
        optimizer=optax.adam(rate),
        chunk=steps // 10,
        key=jr.key(3),
    )
    way = jnp.linalg.norm(jnp.diff(info.path, axis=0), axis=2).mean(axis=1)
    return jnp.linalg.norm(moved.mean(axis=0) - CENTRE), way, info


def train(steps):
    """A generator under schedules; how far the mean of new samples is off, and what happened."""
    half = optax.schedules.piecewise_constant_schedule(2e-3, {steps // 2: 0.3})
    state, info = df.train_gan(
        GAN,
        df.networks.Discriminator(2, width=32, key=jr.key(4)),
        df.networks.Generator(2, 2, width=32, key=jr.key(5)),
        target(jr.key(0)),
        latent=2,
        steps=steps,
        d_optimizer=optax.chain(optax.clip_by_global_norm(1.0), optax.adam(half, b1=0.5)),
        g_optimizer=optax.adam(half, b1=0.5),
        ema_decay=0.98,
        chunk=steps,
        key=jr.key(6),
    )
    fakes = jax.vmap(state.ema)(jr.normal(jr.key(7), (1024, 2)))
    return jnp.linalg.norm(fakes.mean(axis=0) - CENTRE), info


def log_r(t, x, args):
    """p = N(0, I), q_t = N(0, (1 + 3 exp(-2t)) I), up to a constant."""
    return 0.5 * jnp.sum(x**2) * (1 / (1 + 3 * jnp.exp(-2 * t)) - 1)


def profile(folder):
    """Traces one solve, compiled before; returns the profiler's events."""
    field = df.velocity(df.divergences.kl_qp.h, log_r)
    start = 2 * jr.normal(jr.key(8), (4096, 2))

    def solve():
        return jax.block_until_ready(df.integrate(field, start, [0.0, 1.0]).ys)

    solve()
    with jax.profiler.trace(folder), jax.profiler.TraceAnnotation("flow to p"):
        solve()
    path = max(pathlib.Path(folder).rglob("*.trace.json.gz"))  # folders are named by the time
    return path, json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]


def draw(of_transport, of_gan):
    plt.style.use("divergence_flows.plot.style")
    figure, axes = plt.subplots(1, 3, figsize=(13, 4))
    df.plot.samples(target(jr.key(0)), ax=axes[0], color=df.plot.COLORS["p"])
    df.plot.paths(of_transport.path, ax=axes[0])
    axes[0].set(title="transport", aspect="equal")
    for axis, info in zip(axes[1:], (of_transport, of_gan), strict=True):
        df.plot.losses(info, gan=GAN, ax=axis)
    axes[1].set_title("transport")
    axes[2].set_title("train_gan")
    OUT.mkdir(exist_ok=True)
    figure.savefig(OUT / "with_optax_and_profiler.png", dpi=110)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="fewer steps, for a check")
    parser.add_argument("--out", default=OUT / "profile", help="where the trace goes")
    words = parser.parse_args(argv)
    off, way, of_transport = move(200 if words.fast else 1000)
    slower = way[-1] / way[0]
    print(f"transport: mean off by {off:.3f}; last tenth of the way {slower:.1%} of the first")
    assert off < 0.1
    assert slower < 0.1
    off, of_gan = train(300 if words.fast else 2000)
    print(f"train_gan: mean off by {off:.3f}")
    assert off < 0.3
    draw(of_transport, of_gan)
    path, events = profile(words.out)
    names = [event.get("name", "") for event in events]
    (span,) = (event for event in events if event.get("name") == "flow to p")
    calls = [event for event in events if event.get("name") == "PjitFunction(_solve)"]
    print(f"profiler: {len(events)} events, the solve {span['dur'] / 1000:.1f} ms, in {path}")
    # The solve is one compiled program inside our span, and nothing compiles a second time.
    assert calls
    assert all(0 < call["ts"] - span["ts"] < span["dur"] - call["dur"] for call in calls)
    assert not any("backend_compile" in name for name in names)


if __name__ == "__main__":
    main()
