"""Trains GANs, and calls functions of keys, on all devices there are; test_determinism.py runs it.

python tests/workers/on_devices.py FILE [ADDRESS RANK]     alone, or as one of two processes
"""

import functools
import pathlib
import sys

import jax
import jax.random as jr
import numpy as np
import optax
from collectives import collectives
from jax.experimental import multihost_utils

import divergence_flows as df

sys.path.append(str(pathlib.Path(__file__).parents[1] / "contract"))
SEEDS, STEPS, COUNT = 8, 20, 4
SGD = optax.sgd(0.05)
# A solve, a fit that draws some samples, quasi-random points, and weights.
NAMES = ("langevin", "ulsif_ratio", "sobol_nodes", "networks.ConvGenerator")


def keys(make=jr.key):
    return jr.split(make(11), COUNT)


@functools.cache
def maker():
    """A program: every number that each function makes of a key."""
    from transforms import ROWS  # it makes arrays, before which two processes must find each other

    made = lambda key: {name: jax.tree.leaves(ROWS[name](ROWS[name].x(), key)) for name in NAMES}
    return jax.jit(made)


def train(xs_p, key):
    """One seed, whole: every array of the last state, and the losses."""
    key_d, key_g, key_run = jr.split(key, 3)
    d = df.networks.Discriminator(2, 8, 1, key=key_d)
    g = df.networks.Generator(2, 2, 8, 1, key=key_g)
    options = {"latent": 2, "steps": STEPS, "chunk": STEPS, "batch_size": 16, "key": key_run}
    options |= {"d_optimizer": SGD, "g_optimizer": SGD}
    return jax.tree.leaves(df.train_gan(df.gans.logit(), d, g, xs_p, **options))


def trained():
    """All seeds in one call, (devices, seeds on the first of them), and what devices exchange."""
    inputs = jr.normal(jr.key(1), (64, 2)), df.over_devices(jr.split(jr.key(0), SEEDS))
    program = jax.jit(jax.vmap(train, in_axes=(None, 0))).lower(*inputs).compile()
    out = program(*inputs)
    # The weights of the networks come first: those must lie where their seeds lie.
    shards = out[0].addressable_shards
    held = [len(shards), len(shards[0].data)]
    return multihost_utils.process_allgather(out, tiled=True), held, collectives(program)


def work(file, address="", rank="0"):
    if address:
        jax.distributed.initialize(address, 2, int(rank), initialization_timeout=60)
    leaves, held, sent = trained()
    out = {f"seeds/{i}": x for i, x in enumerate(leaves)} | {"sent": sum(map(len, sent))}
    if not address:  # one key, and keys of the old kind laid over all devices
        made = maker()
        laid = jax.jit(jax.vmap(made))(df.over_devices(keys(jr.PRNGKey)))
        (shares,) = {len(x.addressable_shards) for x in jax.tree.leaves(laid)}
        runs = {"one": made(keys()[0]), "laid": laid}
        for run, found in runs.items():
            out |= {f"{run}/{name}/{i}": x for name in NAMES for i, x in enumerate(found[name])}
        held.append(shares)
    np.savez(file, held=held, **out)


if __name__ == "__main__":
    work(*sys.argv[1:])
