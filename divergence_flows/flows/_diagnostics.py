"""The length of a cloud's path through Wasserstein space: an ODE with one state more."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from .._checks import check_rate
from .._types import Field, Scalar, ScalarLike, as_partial
from ._integrate import follow
from ._states import Names, Times, as_state


def curve_length(
    field: Field,
    y0: Real[ArrayLike, "n *event"],
    ts: Times,
    args: Any = None,
    **options: Any,
) -> Scalar:
    r"""Length $\int \sqrt{E|v|^2}\,dt$ of the path that a cloud takes through Wasserstein space.

    At least `wasserstein2` between its ends, and equal on a geodesic.

    Args:
        field: `field(t, xs, args)`, the velocity of the cloud [units of x per unit of time].
        y0: Cloud at `ts[0]` [units of x].
        ts: Times, increasing; the length is from the first to the last [units of time].
        args: Passed to `field`; its numbers become arrays.
        **options: Those of `integrate`.

    Returns:
        The length [units of x]; inf if a solve with `throw=False` failed.

    Raises:
        ValueError: As `integrate`.
        EquinoxRuntimeError: As `integrate`.

    References:
        Ambrosio, Gigli & Savare, Gradient Flows, 2008, theorem 8.3.1.
    """
    names = Names("curve_length")
    start = as_state(names, y0)
    longer = jax.tree_util.Partial(_with_length, as_partial(field))
    solution = follow(names, longer, (start, jnp.zeros((), start.dtype)), ts, args, **options)
    return jax.tree.leaves(solution.ys)[-1][-1]


def _with_length(
    field: Field,
    t: ScalarLike,
    state: tuple[Float[Array, "n *event"], Scalar],
    args: Any,
) -> tuple[Float[Array, "n *event"], Scalar]:
    """Adds the speed, whose gradient is zero where the cloud rests."""
    xs, _ = state
    rate = check_rate("curve_length", "field", field(t, xs, args), xs)
    square = jnp.sum(rate**2) / rate.shape[0]
    moves = square > 0
    return rate, jnp.where(moves, jnp.sqrt(jnp.where(moves, square, 1.0)), 0.0)
