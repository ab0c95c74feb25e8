"""Elementwise functions that keep their relative precision, to the second derivative and beyond.

Automatic differentiation of `sigmoid` computes 1 - s, which is 0 from u = 17 on in float32. A
function here is therefore `Sloped(value, slope)`: a value and its derivative in closed form, itself
made of such functions, of u = log r, right at r = 0 and r = inf without clipping.
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Bool, PyTree

from .._types import AnyFloat, ScalarFn, Values, as_partial
from ..calculus._inverse import inverse_of_increasing

LOG_2 = 0.6931471805599453
_NODES, _MASSES = np.polynomial.legendre.leggauss(16)
_T, _W = (_NODES + 1) / 2, _MASSES / 2


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def evaluate(value: ScalarFn, slope: ScalarFn, *args: PyTree) -> Values:
    """value(*args), whose derivative in the last argument is slope(*args)."""
    return value(*args)


def _evaluate_jvp(value: ScalarFn, slope: ScalarFn, primals: Any, tangents: Any) -> Any:
    (*params, u), (*rates, du) = primals, tangents
    out = value(*params, u)
    tangent = jnp.zeros_like(out)
    if not isinstance(du, SymbolicZero):
        tangent = tangent + slope(*params, u) * du
    if any(not isinstance(rate, SymbolicZero) for rate in jax.tree.leaves(rates)):
        rates = jax.tree.map(_instantiated, params, rates)
        tangent += jax.jvp(lambda *params: value(*params, u), tuple(params), tuple(rates))[1]
    return out, tangent


evaluate.defjvp(_evaluate_jvp, symbolic_zeros=True)


def _instantiated(param: AnyFloat, rate: Any) -> AnyFloat:
    return jnp.zeros_like(param) if isinstance(rate, SymbolicZero) else rate


@dataclasses.dataclass(frozen=True, eq=False)
class Sloped:
    """A function of `(*params, u)` with its derivative in u; make them at module level, once."""

    value: ScalarFn
    slope: ScalarFn

    def __call__(self, *args: AnyFloat) -> Values:
        """Evaluates the function."""
        return evaluate(self.value, self.slope, *args)


def either(
    first: ScalarFn, second: ScalarFn, u: Values, where: Bool[Array, "..."], stand_ins: Any
) -> Values:
    """first(u) or second(u); each sees its stand-in where the other is meant."""
    one, other = stand_ins
    return jnp.where(where, first(jnp.where(where, u, one)), second(jnp.where(where, other, u)))


def near_or_far(radius: float, near: ScalarFn, far: ScalarFn, u: Values) -> Values:
    """near(u) for |u| < radius, else far(u)."""
    return either(near, far, u, jnp.abs(u) < radius, (0.0, radius))


def by_sign(left: ScalarFn, right: ScalarFn, u: Values) -> Values:
    """left(u) for u < 0, else right(u)."""
    return either(left, right, u, u < 0, (-1.0, 1.0))


def times_r(u: Values, x: Values) -> Values:
    """e^u x, and 0 where e^u underflows: every x here grows at most like u."""
    r = jnp.exp(u)
    none = r == 0
    return jnp.where(none, 0.0, r * jnp.where(none, 0.0, x))


def at_log(function: ScalarFn, r: Values) -> Values:
    """A function of u = log r, at r."""
    return function(jnp.log(r))


expm1 = Sloped(jnp.expm1, jnp.exp)  # older jax differentiates expm1 as expm1(x) + 1
sigmoid = Sloped(jax.nn.sigmoid, lambda u: bump(u))
# sigmoid(u) sigmoid(-u)
bump = Sloped(lambda u: jax.nn.sigmoid(u) * jax.nn.sigmoid(-u), lambda u: -bump(u) * half_tanh(u))
# 2 sigmoid(u) - 1
half_tanh = Sloped(lambda u: jnp.tanh(u / 2), lambda u: 2 * bump(u))
softplus = Sloped(jax.nn.softplus, sigmoid)
# log(d / (1 - d)); near d = 1/2 the two logarithms would cancel
logit = Sloped(
    lambda d: jnp.where(
        jnp.abs(d - 0.5) < 0.25,
        2 * jnp.arctanh(2 * jnp.clip(d, 0.25, 0.75) - 1),
        jnp.log(d) - jnp.log1p(-d),
    ),
    lambda d: 1 / (d * (1 - d)),
)
# log(2 r / (1 + r)): the log of p over the middle (p + q)/2
to_middle = Sloped(
    partial(
        near_or_far,
        1.0,
        lambda u: jnp.log1p(jnp.tanh(u / 2)),
        lambda u: LOG_2 - jax.nn.softplus(-u),
    ),
    lambda u: sigmoid(-u),
)


def nodes(z: Values) -> tuple[Array, Array, Array]:
    """z with an axis behind, and 16 Gauss-Legendre nodes and weights on [0, 1] for it."""
    return z[..., None], jnp.asarray(_T, z.dtype), jnp.asarray(_W, z.dtype)


def _mean_exp(z: Values) -> Values:
    z, t, w = nodes(z)
    return jnp.sum(w * jnp.exp(z * t), axis=-1)


def _mean_inverse(x: Values) -> Values:
    x, t, w = nodes(x)
    return jnp.sum(w / (1 + x * t), axis=-1)


# (e^z - 1)/z, smooth through 0: near it, the integral of e^(z t) over t from 0 to 1
expm1_over = partial(near_or_far, 1.0, _mean_exp, lambda z: jnp.expm1(z) / z)
# log(1 + x)/x, smooth through 0: near it, the integral of 1/(1 + x t)
log1p_over = partial(near_or_far, 0.7, _mean_inverse, lambda x: jnp.log1p(x) / x)
# e^(a u), and 1 at a = 0 even where u is infinite
exp_of = Sloped(
    lambda a, u: jnp.exp(a * jnp.where(jnp.isinf(u) & (a == 0), 0.0, u)),
    lambda a, u: a * exp_of(a, u),
)


def _quotient(
    radius: float,
    mean: ScalarFn,
    far: ScalarFn,
    a: AnyFloat,
    u: Values,
    over: AnyFloat | float = 1.0,
) -> Values:
    """g(a u)/a/over for a g with g(z) = z mean(z); it is u/over at a = 0, infinite u included."""
    z = jnp.where(jnp.isinf(u) & (a == 0), 0.0, a * u)
    small = jnp.abs(z) < radius
    near = u * mean(jnp.where(small, z, 0.0)) / over
    return jnp.where(small, near, far(jnp.where(small, 1.0, z), jnp.where(small, 1.0, a) * over))


def _expm1_divided(z: Values, divisor: AnyFloat) -> Values:
    large = z > 40  # 1 is below round-off there, and e^z may overflow
    half = jnp.exp(jnp.where(large, z, 0.0) / 2)
    return jnp.where(large, half / divisor * half, jnp.expm1(jnp.where(large, 1.0, z)) / divisor)


# (e^(a u) - 1)/a and log(1 + a s)/a
quotient_expm1 = partial(_quotient, 1.0, _mean_exp, _expm1_divided)
quotient_log1p = partial(_quotient, 0.7, _mean_inverse, lambda z, a: jnp.log1p(z) / a)


def near_standard(h_prime: ScalarFn, u: Values) -> Values:
    r"""$\int_0^u h'(v)\,(e^{u-v} - 1)\,dv$ for an h' that is smooth on the scale of u."""
    u, t, w = nodes(u)
    return jnp.sum(w * u * h_prime(u * t) * expm1(u * (1 - t)), axis=-1)


def near_zero(h_prime: ScalarFn, far: ScalarFn, u: Values) -> Values:
    """Standardised f: by quadrature near u = 0, where closed forms cancel, else far(u)."""
    end = u == jnp.inf  # there a closed form may be inf - inf
    inside = near_or_far(4.0, partial(near_standard, h_prime), far, jnp.where(end, 0.0, u))
    return jnp.where(end, jnp.inf, inside)


def below(top: float | AnyFloat, value: ScalarFn, s: Values, *, closed: bool = False) -> Values:
    """A conjugate on its domain, inf beyond `top` (and at it unless closed); NaN stays NaN."""
    outside = s > top if closed else s >= top
    return jnp.where(outside, jnp.inf, value(jnp.where(outside, top - 1.0, s)))


def at_slope(activation: Sloped, function: ScalarFn, s: Values) -> Values:
    """function(u) at the u where f'(e^u) = s."""
    rate = partial(at_slope, activation, lambda u: 1 / activation.slope(u))
    return function(evaluate(partial(_solve, activation), rate, s))


def _solve(activation: Sloped, s: Values) -> Values:
    end = 0.99 * float(np.log(float(jnp.finfo(s.dtype).max)))
    return inverse_of_increasing(as_partial(activation.value), s, end)


def solved(activation: Sloped, value: ScalarFn, top: float, s: Values) -> Values:
    """A conjugate that is not elementary: f*(s) = r f' - f, as `value` of u, where f'(e^u) = s."""
    inside = Sloped(partial(at_slope, activation, value), partial(at_slope, activation, jnp.exp))
    return below(top, inside, s)
