"""Moves clouds laid over all devices of this process; test_clouds.py runs it.

python tests/workers/moved_clouds.py FILE
"""

import functools
import sys

import diffrax
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from collectives import collectives

import divergence_flows as df

COUNT = 64
# One flow has the default solver, whose steps the whole cloud chooses; these compile faster.
EULER = {"solver": diffrax.Euler(), "dt0": 0.1}
identity = lambda u: u


def exact(t, x, args):
    """N(3, 1/4 I) to N(0, I): log p/q_t of the KL flow."""
    mean, variance = 3 * jnp.exp(-t), 1 - 0.75 * jnp.exp(-2 * t)
    return jnp.sum((x - mean) ** 2 / variance - x**2) / 2


def following(xs_q, xs_p):
    return df.integrate(df.velocity(identity, exact), xs_q, [0.0, 0.5]).ys[-1]


def learning(xs_q, xs_p):
    critic = df.networks.Discriminator(2, 16, 2, key=jr.key(2))
    return df.transport(df.gans.logit(), critic, xs_q, xs_p, steps=20, key=jr.key(3))[0]


def refitting(fit, xs_q, xs_p):
    field = df.cloud_velocity(identity, functools.partial(fit, xs_p=xs_p))
    return df.integrate(field, xs_q, [0.0, 0.2], **EULER).ys[-1]


def time_ratio(xs_q, xs_p):
    network = df.networks.TimeDiscriminator(2, 16, 1, key=jr.key(4))
    options = {"horizon": 1.0, "steps": 10, "batch_size": 16, "chunk": 10, "key": jr.key(5)}
    gan = df.gans.logit()
    state, _ = df.train_flow_ratio(gan, network, xs_q, xs_p, **options)
    field = df.velocity(gan.h, df.flow_log_ratio(gan, state.ema))
    return df.integrate(field, xs_q, [0.0, 1.0], **EULER).ys[-1]


FLOWS = {
    "exact": following,
    "learned": learning,
    "features": functools.partial(
        refitting,
        functools.partial(df.rff_log_ratio, features=32, bandwidth=2.0, ridge=1e-2, key=jr.key(6)),
    ),
    "witness": functools.partial(refitting, functools.partial(df.mmd_witness, bandwidth=1.0)),
    "time": time_ratio,
}


def samples():
    xs_q = 0.5 * jr.normal(jr.key(0), (COUNT, 2)) + 3.0
    return xs_q, jr.normal(jr.key(1), (2 * COUNT, 2))


def work(file):
    """Every flow on clouds that all devices share, each jitted whole."""
    clouds = df.over_devices(samples())
    programs = {name: jax.jit(flow).lower(*clouds).compile() for name, flow in FLOWS.items()}
    out = {name: program(*clouds) for name, program in programs.items()}
    shards = {name: xs.sharding.shard_shape(xs.shape)[0] for name, xs in out.items()}
    in_steps, _ = collectives(programs["learned"])
    sent = dict(zip(("names", "counts"), zip(*in_steps, strict=True), strict=True))
    np.savez(file, held=[len(jax.devices()), *shards.values()], **sent, **out)


if __name__ == "__main__":
    work(*sys.argv[1:])
