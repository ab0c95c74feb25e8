"""Case (b) of `gan.py`: a DCGAN beside PyTorch's, and beside XLA's matrix product of its size."""

import functools
import time

import _torch_dcgan as peer
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from _gan_2d import REPEATS, alternate

import divergence_flows as df

RATES, BETAS = (2e-4, 1e-4), (0.5, 0.999)  # of the published runs: critic, generator
KINDS = {"PyTorch": {}, "PyTorch, channels_last": {"channels_last": True}}
LATENT, SHARE = 100, 0.9  # the second of XLA's matrix product


def step(gan, optimizers, dtype, state, batch):
    """One step of each network on one fake batch, the critic first, both computed in `dtype`."""
    (d, d_memory), (g, g_memory) = state
    xs, zs = (each.astype(dtype) for each in batch)

    def low(net):
        return jax.vmap(jax.tree.map(lambda leaf: leaf.astype(dtype), net))

    def value(d, xs):
        return low(d)(xs).astype(jnp.float32)

    fakes, pull = jax.vjp(lambda g: low(g)(zs), g)

    def critic_loss(d):
        return df.discriminator_loss(gan, value(d, xs), value(d, fakes))

    loss_d, slope = jax.value_and_grad(critic_loss)(d)
    updates, d_memory = optimizers[0].update(slope, d_memory)
    d = optax.apply_updates(d, updates)

    def generator_loss(fakes):
        return df.generator_loss(gan, value(d, fakes))

    loss_g, slope = jax.value_and_grad(generator_loss)(fakes)
    updates, g_memory = optimizers[1].update(*pull(slope), g_memory)
    return ((d, d_memory), (optax.apply_updates(g, updates), g_memory)), (loss_d, loss_g)


def product(size, batch, width, count):
    """FLOP of some matrix products of the size of the second convolution, and what times them."""
    rows, inner, out = batch * (size // 4) ** 2, 16 * width, 2 * width
    x, w = jr.normal(jr.key(0), (rows, inner)), jr.normal(jr.key(1), (inner, out))
    multiply = jax.jit(jnp.matmul)
    jax.block_until_ready(multiply(x, w))  # compiles

    def seconds():
        start = time.perf_counter()
        jax.block_until_ready([multiply(x, w) for _ in range(count)])
        return time.perf_counter() - start

    return 2 * rows * inner * out * count, seconds


def dcgan(
    report,
    size=28,
    channels=1,
    batch=128,
    width=64,
    steps=10,
    *,
    dtype=jnp.float32,
    kinds=KINDS,
    repeats=REPEATS,
    rtol=1e-3,
):
    """Steps of a non-saturating DCGAN in a `scan`, beside PyTorch's loop."""
    d = df.networks.ConvDiscriminator(size, channels, width, key=jr.key(0))
    g = df.networks.ConvGenerator(LATENT, size, channels, width, key=jr.key(1))
    optimizers = [optax.adam(rate, *BETAS) for rate in RATES]
    state = tuple((net, tool.init(net)) for net, tool in zip((d, g), optimizers, strict=True))
    one = functools.partial(step, df.gans.non_saturating(), optimizers, dtype)
    run = jax.jit(lambda state, data: jax.lax.scan(one, state, data))
    data = (
        jr.uniform(jr.key(2), (steps, batch, channels, size, size), minval=-1),
        jr.normal(jr.key(3), (steps, batch, LATENT)),
    )

    def ours():
        start = time.perf_counter()
        end, losses = jax.block_until_ready(run(state, data))
        del end
        return time.perf_counter() - start, [float(each[-1]) for each in losses]

    def training(options):
        nets = (
            peer.discriminator(d, size, channels, width),
            peer.generator(g, LATENT, size, channels, width),
        )
        low = dtype == jnp.bfloat16
        made = peer.Training(*nets, RATES, BETAS, low=low, **options)
        return functools.partial(made.run, *map(np.asarray, data))

    runs = {"ours": ours} | {name: training(each) for name, each in kinds.items()}
    ends = {name: each()[1] for name, each in runs.items()}  # compiles
    for name, end in ends.items():
        if not np.allclose(ends["ours"], end, rtol=rtol, atol=rtol / 10):
            raise RuntimeError(f"dcgan: the last losses differ: {ends['ours']}, {name}: {end}")
    turns = {name: lambda each=each: each()[0] / steps for name, each in runs.items()}
    flop, turns["product"] = product(size, batch, width, steps)
    found = alternate(turns, repeats)
    colours = "" if channels == 1 else f"x{channels}"
    digits = "" if dtype == jnp.float32 else f", {jnp.dtype(dtype).name}"
    case = f"DCGAN step on {size}x{size}{colours}, batch {batch}, width {width}{digits}"
    for name in kinds:
        pairs = list(zip(found["ours"], found[name], strict=True))
        report(case, "time of a step", pairs, 1.0, name)
    if dtype == jnp.float32 and jax.default_backend() == "cpu":
        # It counts sums and the like too, 1 % of all.
        cost = jax.jit(one).lower(state, [each[0] for each in data]).cost_analysis()
        pairs = zip(found["ours"], found["product"], strict=True)
        pairs = [(1e9 * mine / cost["flops"], 1e9 * theirs / flop) for mine, theirs in pairs]
        words = "time of a GFLOP: 1 / share of XLA's matmul rate"
        report(case, words, pairs, 1 / SHARE, "XLA's matmul, alone")
