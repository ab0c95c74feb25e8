"""Trains a few GANs on all devices of one or two processes; test_seeds.py runs it.

python tests/workers/gan_seeds.py FILE [ADDRESS RANK]
"""

import sys

import jax
import jax.random as jr
import numpy as np
from jax.experimental import multihost_utils

import divergence_flows as df

SEEDS, STEPS = 8, 20


def train(xs_p, key):
    """One seed, whole: every array of the last state, and the losses."""
    key_d, key_g, key_run = jr.split(key, 3)
    state, info = df.train_gan(
        df.gans.logit(),
        df.networks.Discriminator(2, 8, 1, key=key_d),
        df.networks.Generator(2, 2, 8, 1, key=key_g),
        xs_p,
        latent=2,
        steps=STEPS,
        batch_size=16,
        chunk=STEPS,
        key=key_run,
    )
    return jax.tree.leaves((state, info))


def work(file, address="", rank="0"):
    """Trains all seeds in one jitted call on all devices there are, and writes what came out."""
    if address:
        jax.distributed.initialize(address, 2, int(rank), initialization_timeout=60)
    xs_p = jr.normal(jr.key(1), (64, 2))
    seeds = df.over_devices(jr.split(jr.key(0), SEEDS))
    out = jax.jit(jax.vmap(train, in_axes=(None, 0)))(xs_p, seeds)
    # The weights of the networks come first: those must lie where their seeds lie.
    shards = out[0].addressable_shards
    held = [len(shards), len(shards[0].data)]
    whole = multihost_utils.process_allgather(out, tiled=True)
    np.savez(file, held=held, **{f"out{i}": x for i, x in enumerate(whole)})


if __name__ == "__main__":
    work(*sys.argv[1:])
