r"""Divergences with a parameter: alpha (Cressie-Read), and the shifted vanilla GAN.

Their formulas divide by what vanishes at some orders, or subtract what is nearly equal at some
shifts; each part here is the form that does neither, chosen by the parameter and by u = log r.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax.numpy import exp, log, log1p, where

from .._types import AnyFloat, ScalarLike, Values, as_float
from ._divergence import Divergence, closed_forms
from ._label import labelled
from ._stable import (
    Sloped,
    below,
    by_sign,
    exp_of,
    expm1,
    expm1_over,
    log1p_over,
    near_standard,
    near_zero,
    nodes,
    quotient_expm1,
    quotient_log1p,
    sigmoid,
    softplus,
    times_r,
)


def _alpha_slope(a: AnyFloat, u: Values, over: AnyFloat | float = 1.0) -> Values:
    """(r^a - r)/(a - 1)/over, through a = 1, with the larger power taken out."""
    u = where(jnp.isinf(u), jnp.sign(u) * 1e18, u)  # the limit, without inf * 0
    z = (a - 1) * u
    near = jnp.abs(z) < 1  # there r is taken out, and all is smooth in a
    root = exp(where(near, u, jnp.maximum(a * u, u)) / 2)
    return root * (root * (u * expm1_over(where(near, z, -jnp.abs(z))) / over))


def _alpha_bend(a: AnyFloat, u: Values) -> Values:
    """Derivative of `_alpha_slope` in u, (a r^a - r)/(a - 1); both forms hold at a = 1/2."""
    low = a <= 0.5
    divisor, root = where(low, 1 - a, 1.0), exp_of(a / 2, jnp.minimum(u, 0.0))
    left = exp(u) / divisor - root * (a / divisor * root)
    left = where(u > 0, exp(u) * ((1 - a * exp_of(a - 1, u)) / divisor), left)
    return where(low, left, _alpha_slope(a, u) + exp_of(a, u))


def _alpha_f(a: AnyFloat, u: Values) -> Values:
    """By quadrature where (r^a - a r + a - 1)/(a (a - 1)) would cancel, near u = 0."""
    none, all_of = u == -jnp.inf, exp(u) == jnp.inf
    u = where(none | all_of, 0.0, u)
    low, near = a <= 0.5, jnp.abs(u) * (1 + jnp.abs(a)) < 2
    divisor, other = where(low, 1 - a, 1.0), where(low, 1.0, a)
    left = expm1(u) / divisor - quotient_expm1(a, u, divisor)
    right = _alpha_slope(a, u, other) - expm1(u) / other
    close = near_standard(partial(exp_of, a), where(near, u, 0.0))
    at_zero = where(a > 0, 1 / where(a > 0, a, 1.0), jnp.inf)
    found = where(near, close, where(low, left, right))
    return where(none, at_zero, where(all_of, jnp.inf, found))


def _halves(x: AnyFloat) -> tuple[AnyFloat, AnyFloat]:
    """A number as a sum of two with half of its digits each."""
    size = jnp.finfo(x.dtype)
    high = jax.lax.reduce_precision(x, size.nexp, size.nmant // 2)
    return high, x - high


def _alpha_power(a: AnyFloat, s: Values) -> Values:
    """1 + (a - 1) s = r^(a - 1), with the roundings of the sum and of the product put back."""
    b = a - 1
    left_out = (a - (b - (b - a))) + (-1 - (b - a))
    whole = 1 + b * where(b == 0, 0.0, s)
    finite = jnp.isfinite(whole)
    kept = where(finite, s, 0.0)
    (high, low), (top, rest) = _halves(b), _halves(kept)
    exact = (1 + high * top) + (low * top + (high * rest + low * rest)) + left_out * kept
    return where(finite, exact, whole)


def _alpha_log_ratio(a: AnyFloat, s: Values) -> Values:
    """log r where f'(r) = s: log(1 + (a - 1) s)/(a - 1)."""
    power = _alpha_power(a, s)
    small = power < 0.5
    beyond = log(where(small, power, 1.0)) / where(small, a - 1, 1.0)
    return where(small, beyond, quotient_log1p(a - 1, where(small, 0.0, s)))


_alpha_inside = Sloped(
    lambda a, s: quotient_expm1(a, _alpha_log_ratio(a, s)),
    Sloped(
        lambda a, s: exp(_alpha_log_ratio(a, s)),
        lambda a, s: exp(_alpha_log_ratio(a, s)) / _alpha_power(a, s),
    ),
)


def _alpha_conjugate(a: AnyFloat, s: Values) -> Values:
    """((1 + (a-1) s)^(a/(a-1)) - 1)/a, as (r^a - 1)/a at that log r."""
    beyond = _alpha_power(a, s) <= 0
    outside = where(a > 1, -1 / where(a > 1, a, 1.0), jnp.inf)
    return where(beyond, outside, _alpha_inside(a, where(beyond, 0.0, s)))


_ALPHA = partial(
    closed_forms,
    "alpha",
    log_f=Sloped(_alpha_f, Sloped(_alpha_slope, _alpha_bend)),
    activation=Sloped(lambda a, u: quotient_expm1(a - 1, u), lambda a, u: exp_of(a - 1, u)),
    h=Sloped(quotient_expm1, exp_of),
    curvature=lambda a, u: exp_of(a - 2, u),
    conjugate=_alpha_conjugate,
)


@labelled
def alpha(a: ScalarLike) -> Divergence:
    r"""The alpha (Cressie-Read) divergence, $f = (r^a - a r + a - 1) / (a (a - 1))$.

    a = 0 is KL(q||p), 1 KL(p||q), 2 half Pearson, 1/2 twice squared Hellinger, -1 half Neyman;
    all is smooth through a = 0 and a = 1, derivatives in a included. Its h is (e^(a u) - 1)/a.

    Args:
        a: Order; an array leaf, so vmap over it works and changing it does not retrace.

    Returns:
        The divergence.

    References:
        Cressie & Read, JRSS B, 1984.
    """
    return _ALPHA(as_float(a))


# e^z log(1 + e^-z), which tends to 1 on the right and to -z e^z on the left
_skew = partial(by_sign, lambda z: exp(z) * softplus(-z), lambda z: log1p_over(exp(-z)))


def _skew_excess(z: Values) -> Values:
    """_skew(z) - sigmoid(z) for z > 0, of the size of e^-z / 2."""
    x, t, w = nodes(exp(-z))
    return jnp.sum(w * x * (1 - t) / ((1 + x * t) * (1 + x)), axis=-1)


def _shifted_rise(c: AnyFloat, u: Values) -> Values:
    """softplus(u + c) - softplus(c)."""
    near = (u > -1) & (u < 30)
    small = log1p(sigmoid(c) * expm1(where(near, u, 0.0)))
    return where(near, small, softplus(u + c) - softplus(c))


def _shifted_activation(c: AnyFloat, u: Values) -> Values:
    """e^c (softplus(-c) - softplus(-u - c)), each form where nothing cancels or overflows."""
    near, right = (u > -30) & (u < 1), u + c > 0
    v = expm1(-where(near, u, 0.0))
    small = -sigmoid(c) * v * log1p_over(sigmoid(-c) * v)
    low = where(right, 0.0, c)
    left = exp(low) * (softplus(-low) - softplus(-(u + low)))
    beyond = _skew(c) - times_r(-u, _skew(where(right, u + c, 1.0)))
    return where(near, small, where(right, beyond, left))


def _shifted_rate(c: AnyFloat, u: Values) -> Values:
    """e^-u sigmoid(u + c) = e^c sigmoid(-u - c), the factor that is near 1 last."""
    right = u + c > 0
    left = exp(where(right, 0.0, c)) * sigmoid(-(u + c))
    return where(right, exp(-where(right, u, 0.0)) * sigmoid(u + c), left)


_rise = Sloped(_shifted_rise, lambda c, u: sigmoid(u + c))
_activation = Sloped(
    _shifted_activation, Sloped(_shifted_rate, lambda c, u: -_shifted_rate(c, u) * sigmoid(u + c))
)


def _shifted_left(c: AnyFloat, u: Values, more: Values | float) -> Values:
    """e^(u + c) (softplus(-c) - softplus(-u - c) + more), far left, where e^u underflows first."""
    z = u + c
    return times_r(z / 2, times_r(z / 2, softplus(-c) - softplus(-z) + more))


def _shifted_slope(c: AnyFloat, u: Values) -> Values:
    """r f'(r)."""
    far = (u < -30) & (u + c <= 0)
    left = _shifted_left(where(far, c, 0.0), where(far, u, -1.0), 0.0)
    return where(far, left, times_r(u, _activation(c, u)))


def _shifted_bend(c: AnyFloat, u: Values) -> Values:
    """Derivative of r f'(r) in u, r f' + sigmoid(u + c), whose terms cancel for u + c >> 0."""
    right = u + c > 0
    split = exp(u) * _skew(c) - _skew_excess(where(right, u + c, 1.0))
    near = times_r(u, _activation(c, u) + _activation.slope(c, u))
    left = _shifted_left(where(right, -1.0, c), where(right, 0.0, u), sigmoid(-(u + c)))
    return where(right, split, where(u > -30, near, left))


_power = Sloped(lambda c, s: s * expm1_over(s * exp(-c)), lambda c, s: exp(s * exp(-c)))
_conjugate = Sloped(
    lambda c, s: -log1p(-_power(c, s)), lambda c, s: exp(s * exp(-c)) / (1 - _power(c, s))
)
_SHIFTED = partial(
    closed_forms,
    "shifted_vanilla",
    log_f=Sloped(
        lambda c, u: near_zero(
            lambda v: sigmoid(v + c), lambda v: times_r(v, _activation(c, v)) - _rise(c, v), u
        ),
        Sloped(_shifted_slope, _shifted_bend),
    ),
    activation=_activation,
    h=Sloped(lambda c, u: softplus(u + c), lambda c, u: sigmoid(u + c)),
    curvature=lambda c, u: exp(-u) * _activation.slope(c, u),
    conjugate=lambda c, s: below(_skew(c), partial(_conjugate, c), s),
)


@labelled
def shifted_vanilla(c: ScalarLike) -> Divergence:
    r"""The divergence of the shifted vanilla GAN, h(u) = softplus(u + c): a skew 2 JS.

    It tends to KL(q||p) as c grows.

    Args:
        c: Shift C of the generator's loss [nats]; an array leaf.

    Returns:
        The divergence.
    """
    return _SHIFTED(as_float(c))
