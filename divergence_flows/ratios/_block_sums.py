"""Sums over many samples, a block at a time: memory grows with the block, not with the samples."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float, PyTree

from .._types import Scalar


class Blocks(eqx.Module):
    """Samples in blocks of one size; what fills the last one has weight zero."""

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


def total(function: Callable[..., Any], data: Blocks) -> PyTree[Float[Array, "..."]]:
    """Adds up a function of each block; its derivative recomputes a block instead of storing it."""
    like = jax.eval_shape(function, data.rows[0], data.weights[0])
    start = jax.tree.map(_zeros, like)
    step = jax.checkpoint(Partial(_add, function), prevent_cse=False)
    return jax.lax.scan(step, start, (data.rows, data.weights))[0]


def _zeros(like: Any) -> Float[Array, "..."]:
    return jnp.zeros(like.shape, like.dtype)


def _add(
    function: Callable[..., Any], so_far: PyTree, block: tuple[Array, Array]
) -> tuple[PyTree, None]:
    return jax.tree.map(jnp.add, so_far, function(*block)), None


def log_total(function: Callable[..., Any], data: Blocks) -> Scalar:
    r"""$\log \sum_i w_i e^{a_i}$ without overflow: the logarithm of a sum over all blocks."""
    start = jnp.full((), -jnp.inf, data.rows.dtype)
    step = jax.checkpoint(Partial(_log_add, function), prevent_cse=False)
    logs = jnp.log(data.weights)
    return jax.lax.scan(step, start, (data.rows, logs))[0]


def _log_add(
    function: Callable[..., Any], so_far: Scalar, block: tuple[Array, Array]
) -> tuple[Scalar, None]:
    rows, log_weights = block
    return jnp.logaddexp(so_far, jax.nn.logsumexp(function(rows) + log_weights)), None
