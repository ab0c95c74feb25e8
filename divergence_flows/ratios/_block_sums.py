"""Sums over many samples, a block at a time: memory grows with the block, not with the samples."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
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
    # Rows are dealt out in turn, so that each of several devices holds a share of every block.
    dealt = (jnp.swapaxes(x.reshape(size, -1, *x.shape[1:]), 0, 1) for x in (rows, weights))
    return Blocks(*dealt)


def total(
    function: Function, data: Blocks, add: Function = jnp.add, zero: float = 0.0
) -> PyTree[AnyFloat]:
    """Adds up `function(rows, weights)` of each block; derivatives recompute a block."""
    like = jax.eval_shape(function, data.rows[0], data.weights[0])
    start = jax.tree.map(functools.partial(jnp.full_like, fill_value=zero), like)

    def step(so_far: PyTree, block: tuple[Array, Array]) -> tuple[PyTree, None]:
        return jax.tree.map(add, so_far, function(*block)), None

    step = jax.checkpoint(step, prevent_cse=False)
    return jax.lax.scan(step, start, (data.rows, data.weights))[0]


@eqx.filter_jit
def weighted_sum(function: Function, data: Blocks) -> AnyFloat:
    """Weighted sum of a function of one sample."""
    values = jax.vmap(function)
    return total(lambda xs, ws: jnp.matmul(ws, values(xs), precision="highest"), data)
