"""GANs beside PyTorch: the same algorithm, networks, weights, batches and threads.

One JSON line a case; `value` is ours / baseline, and at or below `goal` is good. Run it alone on
the machine: `nox -s bench -- gan`. One function a case, chosen by the names after it, or all.
"""

import functools
import json
import statistics
import sys
import time

import _gan_2d
import _gan_stream
import _torch_dcgan as peer
import jax
import jax.random as jr
import numpy as np
import optax

import divergence_flows as df

REPEATS = 7
RATES, BETAS = (2e-4, 1e-4), (0.5, 0.999)  # of the published runs: critic, generator


def report(case, metric, runs, goal, baseline_name, unit="s"):
    """Prints one line from pairs of seconds, ours first, that alternated."""
    ours, baseline = (statistics.median(column) for column in zip(*runs, strict=True))
    line = {
        "case": case,
        "metric": metric,
        "value": ours / baseline,
        "goal": goal,
        "ours": ours,
        "baseline": baseline,
        "baseline_name": baseline_name,
        "unit": unit,
    }
    print(json.dumps(line), flush=True)


# (b) DCGAN


def dcgan_step(gan, optimizers, state, batch):
    """One step of each network on one fake batch, the critic first."""
    (d, d_memory), (g, g_memory) = state
    xs, zs = batch
    fakes, pull = jax.vjp(lambda g: jax.vmap(g)(zs), g)

    def critic_loss(d):
        return df.discriminator_loss(gan, jax.vmap(d)(xs), jax.vmap(d)(fakes))

    loss_d, slope = jax.value_and_grad(critic_loss)(d)
    updates, d_memory = optimizers[0].update(slope, d_memory)
    d = optax.apply_updates(d, updates)

    def generator_loss(fakes):
        return df.generator_loss(gan, jax.vmap(d)(fakes))

    loss_g, slope = jax.value_and_grad(generator_loss)(fakes)
    updates, g_memory = optimizers[1].update(*pull(slope), g_memory)
    return ((d, d_memory), (optax.apply_updates(g, updates), g_memory)), (loss_d, loss_g)


def dcgan(size=28, batch=128, width=64, latent=100, steps=10):
    """Steps of a non-saturating DCGAN in a `scan`, beside PyTorch's loop."""
    d = df.networks.ConvDiscriminator(size, width=width, key=jr.key(0))
    g = df.networks.ConvGenerator(latent, size, width=width, key=jr.key(1))
    optimizers = [optax.adam(rate, *BETAS) for rate in RATES]
    state = tuple((net, tool.init(net)) for net, tool in zip((d, g), optimizers, strict=True))
    step = functools.partial(dcgan_step, df.gans.non_saturating(), optimizers)
    run = jax.jit(lambda state, data: jax.lax.scan(step, state, data))
    data = (
        np.asarray(jr.uniform(jr.key(2), (steps, batch, 1, size, size), minval=-1)),
        np.asarray(jr.normal(jr.key(3), (steps, batch, latent))),
    )

    def ours():
        start = time.perf_counter()
        end, losses = jax.block_until_ready(run(state, data))
        del end
        return time.perf_counter() - start, [float(each[-1]) for each in losses]

    def theirs(channels_last):
        nets = (
            peer.discriminator(d, size, 1, width),
            peer.generator(g, latent, size, 1, width),
        )
        return peer.Training(*nets, RATES, BETAS, channels_last).run(*data)

    _, mine = ours()  # compiles
    for channels_last in (False, True):
        _, yours = theirs(channels_last)
        if not np.allclose(mine, yours, rtol=1e-3, atol=1e-4):
            raise RuntimeError(f"dcgan: the last losses differ: {mine} and {yours}")
    first, second = [], []
    for _ in range(REPEATS):  # alternating
        mine = ours()[0] / steps
        first.append((mine, theirs(False)[0] / steps))
        second.append((mine, theirs(True)[0] / steps))
    case = f"DCGAN step on {size}x{size}, batch {batch}, width {width}"
    report(case, "time of a step", first, 1.0, "PyTorch")
    report(case, "time of a step", second, 1.0, "PyTorch, channels_last")


CASES = {
    "dcgan": dcgan,
    "blog": functools.partial(_gan_2d.blog, report),
    "seeds": functools.partial(_gan_2d.seeds, report),
    "stream": functools.partial(_gan_stream.stream, report),
}

if __name__ == "__main__":
    for name in sys.argv[1:] or CASES:
        CASES[name]()
