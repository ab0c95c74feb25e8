r"""Elementwise functions that keep their relative precision, to the second derivative and beyond.

Automatic differentiation of `sigmoid` takes 1 - s, which is 0 from u = 17 on in float32, and that
of a quotient subtracts what is nearly equal. So a function here is a value with its derivative in
closed form, which is again made of such functions: `Sloped(value, slope)`. All take u = log r,
parameters first; none needs a clip to be right at r = 0 and r = inf.
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

from .._types import ScalarFn

LOG_2 = 0.6931471805599453
# The same in two parts, of which the first has few bits: x - HIGH is exact for x near it.
LOG_2_HIGH, LOG_2_LOW = 0.693359375, -2.1219444005469057e-4
Curve = Float[Array, "*shape"]
Param = Float[Array, "..."]
_NODES, _MASSES = np.polynomial.legendre.leggauss(16)
_T, _W = (_NODES + 1) / 2, _MASSES / 2


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def evaluate(value: ScalarFn, slope: ScalarFn, *args: Float[Array, "..."]) -> Curve:
    """value(*args), whose derivative in the last argument is slope(*args)."""
    return value(*args)


def _evaluate_jvp(value: ScalarFn, slope: ScalarFn, primals: Any, tangents: Any) -> Any:
    """Takes derivatives in the parameters from `value` by autodiff, if there are any."""
    *params, u = primals
    out = value(*params, u)
    tangent = jnp.zeros_like(out)
    if not isinstance(tangents[-1], SymbolicZero):
        tangent = tangent + slope(*params, u) * tangents[-1]
    moving = [i for i, t in enumerate(tangents[:-1]) if not isinstance(t, SymbolicZero)]
    if moving:
        rates = [jnp.zeros_like(p) for p in params]
        for i in moving:
            rates[i] = jnp.broadcast_to(tangents[i], params[i].shape)
        tangent = tangent + jax.jvp(partial(_at, value, u), tuple(params), tuple(rates))[1]
    return out, tangent


def _at(value: ScalarFn, u: Curve, *params: Float[Array, "..."]) -> Curve:
    return value(*params, u)


evaluate.defjvp(_evaluate_jvp, symbolic_zeros=True)


@dataclasses.dataclass(frozen=True, eq=False)
class Sloped:
    """A function of `(*params, u)` with its derivative in u; make them at module level, once."""

    value: ScalarFn
    slope: ScalarFn

    def __call__(self, *args: Float[Array, "..."]) -> Curve:
        """Evaluates the function."""
        return evaluate(self.value, self.slope, *args)


def near_or_far(radius: float, near: ScalarFn, far: ScalarFn, u: Curve) -> Curve:
    """near(u) for |u| < radius, else far(u); neither sees the other's arguments."""
    inside = jnp.abs(u) < radius
    beyond = far(jnp.where(inside, radius, u))
    return jnp.where(inside, near(jnp.where(inside, u, 0.0)), beyond)


def by_sign(left: ScalarFn, right: ScalarFn, u: Curve) -> Curve:
    """left(u) for u < 0, else right(u); neither sees the other's arguments."""
    low = u < 0
    return jnp.where(low, left(jnp.where(low, u, -1.0)), right(jnp.where(low, 1.0, u)))


def times_r(u: Curve, x: Curve) -> Curve:
    """e^u x, and 0 where e^u underflows: every x here grows at most like u."""
    r = jnp.exp(u)
    none = r == 0
    return jnp.where(none, 0.0, r * jnp.where(none, 0.0, x))


def at_log(function: ScalarFn, r: Curve) -> Curve:
    """A function of u = log r, at r."""
    return function(jnp.log(r))


exp = jnp.exp
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


def _nodes(z: Curve) -> tuple[Array, Array, Array]:
    """z with an axis behind, and 16 Gauss-Legendre nodes and weights on [0, 1] for it."""
    return z[..., None], jnp.asarray(_T, z.dtype), jnp.asarray(_W, z.dtype)


def _mean_exp(z: Curve) -> Curve:
    z, t, w = _nodes(z)
    return jnp.sum(w * jnp.exp(z * t), axis=-1)


def expm1_over(z: Curve) -> Curve:
    """(e^z - 1)/z, smooth through 0: near it, the integral of e^(z t) over t from 0 to 1."""
    return near_or_far(1.0, _mean_exp, _expm1_quotient, z)


def _expm1_quotient(z: Curve) -> Curve:
    return jnp.expm1(z) / z


def _mean_inverse(x: Curve) -> Curve:
    x, t, w = _nodes(x)
    return jnp.sum(w / (1 + x * t), axis=-1)


def log1p_over(x: Curve) -> Curve:
    """log(1 + x)/x, smooth through 0: near it, the integral of 1/(1 + x t)."""
    return near_or_far(0.7, _mean_inverse, _log1p_quotient, x)


def _log1p_quotient(x: Curve) -> Curve:
    return jnp.log1p(x) / x


# e^(a u), and 1 at a = 0 even where u is infinite
exp_of = Sloped(
    lambda a, u: jnp.exp(a * jnp.where(jnp.isinf(u) & (a == 0), 0.0, u)),
    lambda a, u: a * exp_of(a, u),
)


def quotient_expm1(a: Param, u: Curve, over: Param | float = 1.0) -> Curve:
    """(e^(a u) - 1)/a/over, which is u/over at a = 0; infinite u included."""
    z = jnp.where(jnp.isinf(u) & (a == 0), 0.0, a * u)
    small, large = jnp.abs(z) < 1, z > 40  # beyond, 1 is below round-off, and e^z may overflow
    divisor = jnp.where(small, 1.0, a) * over
    far = jnp.expm1(jnp.where(small | large, 1.0, z)) / divisor
    half = jnp.exp(jnp.where(large, z, 0.0) / 2)
    near = u * _mean_exp(jnp.where(small, z, 0.0)) / over
    return jnp.where(small, near, jnp.where(large, half / divisor * half, far))


def quotient_log1p(a: Param, s: Curve) -> Curve:
    """log(1 + a s)/a, which is s at a = 0; infinite s included."""
    z = jnp.where(jnp.isinf(s) & (a == 0), 0.0, a * s)
    small = jnp.abs(z) < 0.7
    far = jnp.log1p(jnp.where(small, 1.0, z)) / jnp.where(small, 1.0, a)
    return jnp.where(small, s * _mean_inverse(jnp.where(small, z, 0.0)), far)


def one_plus_product(a: Param, shift: float, s: Curve) -> Curve:
    """1 + (a + shift) s, with the roundings of the sum and of the product put back."""
    b = a + shift
    left_out = (a - (b - (b - a))) + (shift - (b - a))
    whole = 1 + b * jnp.where(b == 0, 0.0, s)
    finite = jnp.isfinite(whole)
    kept = jnp.where(finite, s, 0.0)
    (high, low), (top, rest) = _halves(b), _halves(kept)
    exact = (1 + high * top) + (low * top + (high * rest + low * rest)) + left_out * kept
    return jnp.where(finite, exact, whole)


def _halves(x: Float[Array, "..."]) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """A number as a sum of two with half of its digits each."""
    size = jnp.finfo(x.dtype)
    high = jax.lax.reduce_precision(x, size.nexp, size.nmant // 2)
    return high, x - high


def skew(z: Curve) -> Curve:
    """e^z log(1 + e^-z), which tends to 1 on the right and to -z e^z on the left."""
    return by_sign(_skew_left, _skew_right, z)


def _skew_left(z: Curve) -> Curve:
    return jnp.exp(z) * softplus(-z)


def _skew_right(z: Curve) -> Curve:
    return log1p_over(jnp.exp(-z))


def skew_excess(z: Curve) -> Curve:
    """skew(z) - sigmoid(z) for z > 0, of the size of e^-z / 2."""
    x, t, w = _nodes(jnp.exp(-z))
    return jnp.sum(w * x * (1 - t) / ((1 + x * t) * (1 + x)), axis=-1)


def standard_within(radius: float, h_prime: ScalarFn, far: ScalarFn, u: Curve) -> Curve:
    """Standardised f: by quadrature near u = 0, where closed forms cancel, else far(u)."""
    return near_or_far(radius, partial(near_standard, h_prime), far, u)


def near_standard(h_prime: ScalarFn, u: Curve) -> Curve:
    r"""$\int_0^u h'(v)\,(e^{u-v} - 1)\,dv$ for an h' that is smooth on the scale of u."""
    u, t, w = _nodes(u)
    return jnp.sum(w * u * h_prime(u * t) * expm1(u * (1 - t)), axis=-1)


def below(top: float | Float[Array, ""], value: ScalarFn, s: Curve) -> Curve:
    """A conjugate below the end of its domain, inf from there on; NaN stays NaN."""
    outside = s >= top
    return jnp.where(outside, jnp.inf, value(jnp.where(outside, top - 1.0, s)))


def up_to(top: float, value: ScalarFn, s: Curve) -> Curve:
    """The same for a domain that holds its end."""
    outside = s > top
    return jnp.where(outside, jnp.inf, value(jnp.where(outside, top, s)))


def beyond(bottom: float, held: float, value: ScalarFn, s: Curve) -> Curve:
    """A conjugate above the slope f'(0); below it is -f(0), `held`."""
    outside = s <= bottom
    return jnp.where(outside, held, value(jnp.where(outside, bottom + 1.0, s)))
