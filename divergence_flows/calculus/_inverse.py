"""Inverts a strictly monotone elementwise function, numerically and differentiably.

Bisection (optimistix) brackets the root in a coordinate y that covers the whole domain with
relative precision at its finite ends. Newton steps on d then make it accurate, and differentiable
as often as curvatures of the result need, since the bracketed root carries no gradient.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jax.tree_util import Partial
from jaxtyping import Array, Bool

from .._types import BoolScalar, Scalar, ScalarFn, Values, elementwise, identity
from ._quadrature import value_and_slope

_BISECTION = optx.Bisection(rtol=0.0, atol=0.0, flip=False)
_NEWTON_STEPS = 3
_PROBES = np.concatenate([-np.geomspace(1, 1e-3, 32), [0.0], np.geomspace(1e-3, 1, 32)])
# Smooth increasing maps from the line onto (a, b), by whether a and b are finite.
_PLACES = {
    (False, False): lambda a, b, y: jnp.sinh(y),
    (True, False): lambda a, b, y: a + jnp.exp(y),
    (False, True): lambda a, b, y: b - jnp.exp(-y),
    (True, True): lambda a, b, y: jnp.where(
        y < 0, a + (b - a) * jax.nn.sigmoid(y), b - (b - a) * jax.nn.sigmoid(-y)
    ),
}


def domain(lower: float, upper: float) -> ScalarFn:
    """A smooth increasing map from the line onto (lower, upper)."""
    place = _PLACES[bool(np.isfinite(lower)), bool(np.isfinite(upper))]
    ends = jnp.asarray(lower, float), jnp.asarray(upper, float)
    return Partial(elementwise, Partial(place, *ends))


def _side(y: Scalar, problem: tuple[Any, ...]) -> Scalar:
    """Sign of (function - target) in the rising sense; values that are not finite lie outside."""
    function, place, target, reach, rises, middle = problem
    value = function(place(y))
    sign = jnp.sign(value - target) * jnp.where(rises, 1, -1)
    # Infinity too: a function that overflows on its way may come back with the wrong sign.
    sign = jnp.where(jnp.isfinite(value), sign, jnp.sign(y - middle))
    return jnp.where(jnp.abs(y) >= reach, jnp.sign(y), sign).astype(y.dtype)


def _root(
    function: ScalarFn, place: ScalarFn, reach: Scalar, target: Scalar
) -> tuple[Scalar, BoolScalar]:
    fixed, place, goal = jax.lax.stop_gradient((function, place, target))
    probes = reach * jnp.asarray(_PROBES, target.dtype)
    values = fixed(place(probes))
    valid = jnp.isfinite(values)
    first, last = jnp.argmax(valid), valid.size - 1 - jnp.argmax(valid[::-1])
    rises, middle = values[last] > values[first], (probes[first] + probes[last]) / 2
    problem = fixed, place, goal, reach, rises, middle
    ends, start = {"lower": -reach, "upper": reach}, jnp.zeros_like(target)
    steps = 6 + int(-jnp.finfo(target.dtype).machep)
    found = optx.root_find(_side, _BISECTION, start, problem, ends, max_steps=steps, throw=False)
    y = jax.lax.stop_gradient(found.value)
    width = reach * 2.0 ** (4 - steps) + 4 * jnp.finfo(target.dtype).eps * jnp.abs(y)
    around = fixed(place(y + jnp.stack([-width, width])))
    inside = (jnp.abs(y) + 2 * width < reach) & ~jnp.any(jnp.isnan(around))
    bracketed = d = place(y)
    for _ in range(_NEWTON_STEPS):
        value, slope = value_and_slope(function, d)
        step = (value - target) / slope
        d = jnp.where(jnp.isfinite(step), d - step, d)
    return jnp.where(jnp.isnan(function(d)), bracketed, d), inside


def inverse_on(
    function: ScalarFn, place: ScalarFn, reach: float, target: Values
) -> tuple[Values, Bool[Array, "*shape"]]:
    """The d = place(y), |y| <= reach, with function(d) = target; whether it is not at an end."""
    solve = Partial(_root, function, place, jnp.asarray(reach, target.dtype))
    return jnp.vectorize(solve)(target)


def inverse_of_increasing(function: ScalarFn, target: Values, end: float) -> Values:
    """Inverse of a function on (-end, end), held at the ends where it does not reach the value."""
    return inverse_on(function, Partial(identity), end, target)[0]
