r"""The map of a transport for new points: the Euler steps of the run, one by one.

A step needs the discriminator that it had. All of them, or one of so many, are in host memory; a
piece at a time goes to the device.
"""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float, PyTree

from .._types import Cloud, Scalar, ScalarFn, Values, Vector
from ..runs._batches import Data
from ._ratio_step import unchecked_particle_step

# Discriminators that are on the device at a time.
_PIECE = 256
# The points, and their log densities, if any.
Carry = tuple[Cloud, Values | None]


def euler_step(
    h_t: ScalarFn, discriminator: PyTree, data: Data, eps: Scalar
) -> tuple[Cloud, Scalar]:
    """A particle step that is compiled alike in all programs, so that a replay is bit for bit."""
    arrays, rest = eqx.partition(discriminator, eqx.is_array)
    arrays, data, eps = jax.lax.optimization_barrier((arrays, data, eps))
    moved, info = unchecked_particle_step(h_t, eqx.combine(arrays, rest), data, eps)
    return jax.lax.optimization_barrier((moved, info.speed))


class TransportMap(eqx.Module):
    """The discriminators of a run, stacked, and the sizes of the steps that each of them makes.

    `error` is the root mean square distance between where the run's own particles ended and where
    this map puts them [units of x]: 0 if each step's discriminator was kept.
    """

    gan: Any
    discriminators: PyTree
    step_sizes: Float[Array | np.ndarray, "kept each"]
    error: Scalar


def replay(kept: TransportMap, data: Data) -> Cloud:
    """Moves points by all steps."""
    return _in_pieces(kept, data, None)[0]


def replay_with_density(kept: TransportMap, data: Data, log_q: Values) -> tuple[Cloud, Values]:
    """Moves points and their log density, which is NaN where a step turned space over."""
    return _in_pieces(kept, data, log_q)


def _in_pieces(kept: TransportMap, data: Data, log_q: Values | None) -> Any:
    """All steps, a piece of the discriminators at a time."""
    carry, (arrays, rest) = (data[0], log_q), eqx.partition(kept.discriminators, eqx.is_array)
    for start in range(0, len(kept.step_sizes), _PIECE):
        part = Partial(_rows, start)
        carry = _replay(
            kept.gan, rest, jax.tree.map(part, (arrays, kept.step_sizes)), carry, data[1:]
        )
    return carry


def _rows(start: int, leaf: Any) -> Any:
    return leaf[start : start + _PIECE]


@eqx.filter_jit
def _replay(gan: Any, rest: PyTree, piece: PyTree, carry: Carry, conditions: Data) -> Carry:
    """A piece of the steps: each discriminator moves the points as often as it has step sizes."""

    def by_one(carry: Carry, kept: PyTree) -> tuple[Carry, None]:
        arrays, step_sizes = kept
        discriminator = eqx.combine(arrays, rest)

        def step(carry: Carry, eps: Scalar) -> tuple[Carry, None]:
            xs, log_q = carry
            if log_q is not None:
                growth = functools.partial(_log_det, gan, discriminator, eps)
                log_q = log_q - jax.vmap(growth)(xs, *conditions)
            moved, _ = euler_step(gan.h_t, discriminator, (xs, *conditions), eps)
            return (moved, log_q), None

        return jax.lax.scan(step, carry, step_sizes)

    return jax.lax.scan(by_one, carry, piece)[0]


def _log_det(gan: Any, discriminator: PyTree, eps: Scalar, x: Cloud, *condition: PyTree) -> Scalar:
    """Log determinant of the Jacobian of one step at one point; NaN where it is not positive."""

    def potential(flat: Vector) -> Scalar:
        return gan.h_t(discriminator(flat.reshape(x.shape), *condition))

    hessian = jax.hessian(potential)(jnp.ravel(x))
    sign, size = jnp.linalg.slogdet(jnp.eye(x.size, dtype=x.dtype) + eps * hessian)
    return jnp.where(sign > 0, size, jnp.nan)


def kept_map(
    gan: Any,
    network: PyTree,
    leaves: list[Any],
    step_sizes: Float[Array, " steps"],
    every: int,
    start: Data,
    end: Cloud,
) -> TransportMap:
    """The map of a run from what it collected, and its error at the run's own particles."""
    arrays, rest = eqx.partition(network, eqx.is_array)
    stacked = eqx.combine(jax.tree.unflatten(jax.tree.structure(arrays), leaves), rest)
    # A step of size 0 stays where it is.
    sizes = jnp.pad(step_sizes, (0, -len(step_sizes) % every)).reshape(-1, every)
    whole = TransportMap(gan, stacked, sizes, jnp.zeros((), end.dtype))
    if every == 1:
        return whole
    gap = replay(whole, start) - end
    return TransportMap(gan, stacked, sizes, jnp.sqrt(jnp.sum(gap**2) / len(end)))
