"""Inverts a strictly monotone elementwise function, numerically and differentiably.

Bisection (optimistix) brackets the root in a coordinate y that covers the whole domain with
relative precision at its finite ends; Newton steps on d then make it accurate, and differentiable
to the orders that curvatures of the result need, since the bracketed root carries no gradient.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float

from .._types import ScalarFn

_NEWTON_STEPS = 3
_PROBES = np.concatenate([-np.geomspace(1, 1e-3, 32), [0.0], np.geomspace(1e-3, 1, 32)])


def _whole_line(y: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return jnp.sinh(y)


def _above(lower: Float[Array, ""], y: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return lower.astype(y.dtype) + jnp.exp(y)


def _below(upper: Float[Array, ""], y: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return upper.astype(y.dtype) - jnp.exp(-y)


def _between(
    lower: Float[Array, ""], upper: Float[Array, ""], y: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    lower, upper = lower.astype(y.dtype), upper.astype(y.dtype)
    from_below = lower + (upper - lower) * jax.nn.sigmoid(y)
    return jnp.where(y < 0, from_below, upper - (upper - lower) * jax.nn.sigmoid(-y))


def _itself(y: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return y


def domain(lower: float, upper: float) -> ScalarFn:
    """A smooth increasing map from the line onto (lower, upper)."""
    ends = jnp.asarray(lower, float), jnp.asarray(upper, float)
    if np.isfinite(lower):
        return Partial(_between, *ends) if np.isfinite(upper) else Partial(_above, ends[0])
    return Partial(_below, ends[1]) if np.isfinite(upper) else Partial(_whole_line)


class _Problem(NamedTuple):
    function: ScalarFn
    place: ScalarFn
    target: Float[Array, ""]
    reach: Float[Array, ""]
    rises: Bool[Array, ""]
    middle: Float[Array, ""]


def _side(y: Float[Array, ""], problem: _Problem) -> Float[Array, ""]:
    """Sign of (function - target) in the rising sense; what is not finite lies outside."""
    value = problem.function(problem.place(y))
    sign = jnp.sign(value - problem.target) * jnp.where(problem.rises, 1, -1)
    # Infinity too: a function that overflows on its way may come back with the wrong sign.
    sign = jnp.where(jnp.isfinite(value), sign, jnp.sign(y - problem.middle))
    return jnp.where(jnp.abs(y) >= problem.reach, jnp.sign(y), sign).astype(y.dtype)


def _pose(
    function: ScalarFn, place: ScalarFn, target: Float[Array, ""], reach: Float[Array, ""]
) -> _Problem:
    probes = reach * jnp.asarray(_PROBES, target.dtype)
    values = function(place(probes))
    valid = jnp.isfinite(values)
    first, last = jnp.argmax(valid), valid.size - 1 - jnp.argmax(valid[::-1])
    middle = (probes[first] + probes[last]) / 2
    return _Problem(function, place, target, reach, values[last] > values[first], middle)


def root(
    function: ScalarFn, place: ScalarFn, target: Float[Array, ""], reach: Float[Array, ""]
) -> tuple[Float[Array, ""], Bool[Array, ""]]:
    """Solves function(d) = target for d = place(y), |y| <= reach."""
    frozen = jax.lax.stop_gradient((function, place, target, reach))
    problem = _pose(*frozen)
    steps = 6 + int(-jnp.finfo(target.dtype).machep)
    solver = optx.Bisection(rtol=0.0, atol=0.0, flip=False)
    ends = {"lower": -frozen[3], "upper": frozen[3]}
    start = jnp.zeros_like(target)
    found = optx.root_find(
        _side, solver, start, problem, options=ends, max_steps=steps, throw=False
    )
    y = jax.lax.stop_gradient(found.value)
    width = frozen[3] * 2.0 ** (4 - steps) + 4 * jnp.finfo(target.dtype).eps * jnp.abs(y)
    around = function(place(y + jnp.stack([-width, width])))
    inside = (jnp.abs(y) + 2 * width < frozen[3]) & ~jnp.any(jnp.isnan(around))
    bracketed = d = jax.lax.stop_gradient(place(y))
    for _ in range(_NEWTON_STEPS):
        value, slope = jax.jvp(function, (d,), (jnp.ones_like(d),))
        step = (value - target) / slope
        d = jnp.where(jnp.isfinite(step), d - step, d)
    return jnp.where(jnp.isnan(function(d)), bracketed, d), inside


def _inverse_at(function: ScalarFn, place: ScalarFn, target: Float[Array, ""]) -> Float[Array, ""]:
    reach = jnp.asarray(0.98 * np.log(float(jnp.finfo(target.dtype).max)), target.dtype)
    d, inside = root(function, place, target, reach)
    return jnp.where(inside, d, jnp.nan)


def inverse(
    function: ScalarFn, place: ScalarFn, target: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """Inverse of a monotone function over the domain that `place` covers, elementwise."""
    return jnp.vectorize(Partial(_inverse_at, function, place))(target)


def _increasing_at(
    function: ScalarFn, reach: Float[Array, ""], target: Float[Array, ""]
) -> Float[Array, ""]:
    return root(function, Partial(_itself), target, reach)[0]


def inverse_of_increasing(
    function: ScalarFn, target: Float[Array, "*shape"], end: float
) -> Float[Array, "*shape"]:
    """Inverse of a function on (-end, end), held at the ends where it does not reach the value."""
    reach = jnp.asarray(end, target.dtype)
    return jnp.vectorize(Partial(_increasing_at, function, reach))(target)
