"""What functions of four kinds make of keys, also on all devices; test_determinism.py runs it.

python tests/workers/keyed_functions.py FILE
"""

import functools
import pathlib
import sys

import jax
import jax.random as jr
import numpy as np

import divergence_flows as df

sys.path.append(str(pathlib.Path(__file__).parents[1] / "contract"))
from transforms import ROWS

COUNT = 4
# A solve, a fit that draws some samples, quasi-random points, and weights.
NAMES = ("langevin", "ulsif_ratio", "sobol_nodes", "networks.ConvGenerator")


def keys(make=jr.key):
    return jr.split(make(11), COUNT)


def made(name, key):
    """Every number, in the order of the tree."""
    return jax.tree.leaves(ROWS[name](ROWS[name].x(), key))


@functools.cache
def one(name):
    return jax.jit(functools.partial(made, name))


def work(file):
    """Each function of one key of either kind, and of keys laid over all devices."""
    laid, out = df.over_devices(keys()), {}
    for name in NAMES:
        many = jax.jit(jax.vmap(functools.partial(made, name)))(laid)
        runs = {"one": one(name)(keys()[0]), "old": one(name)(keys(jr.PRNGKey)[0]), "laid": many}
        out |= {f"{run}/{name}/{i}": x for run, xs in runs.items() for i, x in enumerate(xs)}
        (shares,) = {len(x.addressable_shards) for x in many}
    np.savez(file, held=[len(jax.devices()), shares], **out)


if __name__ == "__main__":
    work(*sys.argv[1:])
