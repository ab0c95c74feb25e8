"""Sums over many samples, a block at a time: memory grows with the block, not with the samples."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float, PyTree

from .._types import AnyFloat, Function


class Blocks(eqx.Module):
    """Samples in blocks of one size; the rows that fill the last block have weight zero."""

    rows: Float[Array, "blocks block dim"]
    weights: Float[Array, "blocks block *kinds"]


def blocks(xs: Float[Array, "n dim"], weights: Float[Array, "n *kinds"], size: int) -> Blocks:
    """Cuts samples into blocks."""
    size = min(size, xs.shape[0])
    spare = -xs.shape[0] % size
    # Copies of a sample, not zeros: whatever is finite at samples is finite there.
    rows = jnp.pad(xs, ((0, spare), (0, 0)), mode="edge")
    weights = jnp.pad(weights, ((0, spare), *((0, 0),) * (weights.ndim - 1)))
    return Blocks(_dealt(rows, size), _dealt(weights, size))


def _dealt(rows: Float[Array, "n *rest"], size: int) -> Float[Array, "blocks {size} *rest"]:
    """Deals rows out in turn, so that each of several devices holds a share of every block."""
    return jnp.swapaxes(rows.reshape(size, -1, *rows.shape[1:]), 0, 1)


def total(
    function: Function, data: Blocks, add: Function = jnp.add, zero: float = 0.0
) -> PyTree[AnyFloat]:
    """Adds up `function(rows, weights)` of each block; derivatives recompute a block."""
    like = jax.eval_shape(function, data.rows[0], data.weights[0])
    start = jax.tree.map(functools.partial(jnp.full_like, fill_value=zero), like)
    step = jax.checkpoint(Partial(_step, function, add), prevent_cse=False)
    return jax.lax.scan(step, start, (data.rows, data.weights))[0]


def _step(
    function: Function, add: Function, so_far: PyTree, block: tuple[Array, Array]
) -> tuple[PyTree, None]:
    return jax.tree.map(add, so_far, function(*block)), None


@eqx.filter_jit
def weighted_sum(function: Function, data: Blocks) -> AnyFloat:
    """Weighted sum of a function of one sample."""
    return total(Partial(_weighted, function), data)


def _weighted(
    function: Function, rows: Float[Array, "n dim"], weights: Float[Array, " n"]
) -> AnyFloat:
    return jnp.matmul(weights, jax.vmap(function)(rows), precision="highest")
