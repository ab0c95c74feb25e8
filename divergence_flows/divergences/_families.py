r"""Rows of the catalogue with a parameter: alpha (Cressie-Read), and the shifted vanilla GAN.

Their formulas divide by what vanishes at some orders, or subtract what is nearly equal at some
shifts; each part here is the form that does neither, chosen by the parameter and by u = log r.
"""

from functools import partial

import jax.numpy as jnp

from . import _stable as stable
from ._row import Row

exp, expm1, log1p, times_r = stable.exp, stable.expm1, jnp.log1p, stable.times_r
sigmoid, softplus = stable.sigmoid, stable.softplus
below, near_zero = stable.below, partial(stable.standard_within, 4.0)


def _alpha_slope(
    a: stable.Param, u: stable.Curve, over: stable.Param | float = 1.0
) -> stable.Curve:
    """(r^a - r)/(a - 1)/over, through a = 1, with the larger power taken out."""
    u = jnp.where(jnp.isinf(u), jnp.sign(u) * 1e18, u)  # the limit, without inf * 0
    z = (a - 1) * u
    near = jnp.abs(z) < 1  # there r is taken out, and all is smooth in a
    root = exp(jnp.where(near, u, jnp.maximum(a * u, u)) / 2)
    return root * (root * (u * stable.expm1_over(jnp.where(near, z, -jnp.abs(z))) / over))


def _alpha_bend(a: stable.Param, u: stable.Curve) -> stable.Curve:
    """Derivative of `_alpha_slope` in u, (a r^a - r)/(a - 1); both forms hold at a = 1/2."""
    low = a <= 0.5
    divisor, root = jnp.where(low, 1 - a, 1.0), stable.exp_of(a / 2, jnp.minimum(u, 0.0))
    left = exp(u) / divisor - root * (a / divisor * root)
    left = jnp.where(u > 0, exp(u) * ((1 - a * stable.exp_of(a - 1, u)) / divisor), left)
    return jnp.where(low, left, _alpha_slope(a, u) + stable.exp_of(a, u))


def _alpha_f(a: stable.Param, u: stable.Curve) -> stable.Curve:
    """By quadrature where (r^a - a r + a - 1)/(a (a - 1)) would cancel, near u = 0."""
    none, all_of = u == -jnp.inf, exp(u) == jnp.inf
    u = jnp.where(none | all_of, 0.0, u)
    low, near = a <= 0.5, jnp.abs(u) * (1 + jnp.abs(a)) < 2
    divisor = jnp.where(low, 1 - a, 1.0)
    left = expm1(u) / divisor - stable.quotient_expm1(a, u, divisor)
    other = jnp.where(low, 1.0, a)
    right = _alpha_slope(a, u, other) - expm1(u) / other
    close = stable.near_standard(partial(stable.exp_of, a), jnp.where(near, u, 0.0))
    at_zero = jnp.where(a > 0, 1 / jnp.where(a > 0, a, 1.0), jnp.inf)
    found = jnp.where(near, close, jnp.where(low, left, right))
    return jnp.where(none, at_zero, jnp.where(all_of, jnp.inf, found))


def _alpha_power(a: stable.Param, s: stable.Curve) -> stable.Curve:
    """1 + (a - 1) s = r^(a - 1), exact to the last digit also where it is small."""
    return stable.one_plus_product(a, -1.0, s)


def _alpha_log_ratio(a: stable.Param, s: stable.Curve) -> stable.Curve:
    """log r where f'(r) = s: log(1 + (a - 1) s)/(a - 1)."""
    power = _alpha_power(a, s)
    small = power < 0.5
    beyond = jnp.log(jnp.where(small, power, 1.0)) / jnp.where(small, a - 1, 1.0)
    return jnp.where(small, beyond, stable.quotient_log1p(a - 1, jnp.where(small, 0.0, s)))


_alpha_inside = stable.Sloped(
    lambda a, s: stable.quotient_expm1(a, _alpha_log_ratio(a, s)),
    stable.Sloped(
        lambda a, s: exp(_alpha_log_ratio(a, s)),
        lambda a, s: exp(_alpha_log_ratio(a, s)) / _alpha_power(a, s),
    ),
)


def _alpha_conjugate(a: stable.Param, s: stable.Curve) -> stable.Curve:
    """((1 + (a-1) s)^(a/(a-1)) - 1)/a, as (r^a - 1)/a at that log r."""
    beyond = _alpha_power(a, s) <= 0
    outside = jnp.where(a > 1, -1 / jnp.where(a > 1, a, 1.0), jnp.inf)
    return jnp.where(beyond, outside, _alpha_inside(a, jnp.where(beyond, 0.0, s)))


ALPHA = Row(
    f=_alpha_f,
    slope_of_f=stable.Sloped(_alpha_slope, _alpha_bend),
    activation=lambda a, u: stable.quotient_expm1(a - 1, u),
    slope_of_activation=lambda a, u: stable.exp_of(a - 1, u),
    h=stable.quotient_expm1,
    h_prime=stable.exp_of,
    curvature=lambda a, u: stable.exp_of(a - 2, u),
    conjugate=_alpha_conjugate,
)


_softplus_rise = stable.Sloped(lambda c, u: _shifted_rise(c, u), lambda c, u: sigmoid(u + c))


def _shifted_rise(c: stable.Param, u: stable.Curve) -> stable.Curve:
    """softplus(u + c) - softplus(c)."""
    near = (u > -1) & (u < 30)
    small = log1p(sigmoid(c) * expm1(jnp.where(near, u, 0.0)))
    return jnp.where(near, small, softplus(u + c) - softplus(c))


def _shifted_activation(c: stable.Param, u: stable.Curve) -> stable.Curve:
    """e^c (softplus(-c) - softplus(-u - c)), each form where nothing cancels or overflows."""
    near, right = (u > -30) & (u < 1), u + c > 0
    v = expm1(-jnp.where(near, u, 0.0))
    small = -sigmoid(c) * v * stable.log1p_over(sigmoid(-c) * v)
    below = jnp.where(right, 0.0, c)
    left = exp(below) * (softplus(-below) - softplus(-(u + below)))
    beyond = stable.skew(c) - times_r(-u, stable.skew(jnp.where(right, u + c, 1.0)))
    return jnp.where(near, small, jnp.where(right, beyond, left))


def _shifted_rate(c: stable.Param, u: stable.Curve) -> stable.Curve:
    """e^-u sigmoid(u + c) = e^c sigmoid(-u - c), the factor that is near 1 last."""
    right = u + c > 0
    left = exp(jnp.where(right, 0.0, c)) * sigmoid(-(u + c))
    return jnp.where(right, exp(-jnp.where(right, u, 0.0)) * sigmoid(u + c), left)


_shifted_slope_of_activation = stable.Sloped(
    _shifted_rate, lambda c, u: -_shifted_rate(c, u) * sigmoid(u + c)
)
_shifted_act = stable.Sloped(_shifted_activation, _shifted_slope_of_activation)


def _shifted_left(c: stable.Param, u: stable.Curve, more: stable.Curve) -> stable.Curve:
    """e^(u + c) (softplus(-c) - softplus(-u - c) + more), far left, where e^u underflows first."""
    z = u + c
    return times_r(z / 2, times_r(z / 2, softplus(-c) - softplus(-z) + more))


def _shifted_slope(c: stable.Param, u: stable.Curve) -> stable.Curve:
    """r f'(r)."""
    far = (u < -30) & (u + c <= 0)
    left = _shifted_left(jnp.where(far, c, 0.0), jnp.where(far, u, -1.0), jnp.zeros_like(u))
    return jnp.where(far, left, times_r(u, _shifted_act(c, u)))


def _shifted_bend(c: stable.Param, u: stable.Curve) -> stable.Curve:
    """Derivative of r f'(r) in u, r f' + sigmoid(u + c), whose terms cancel for u + c >> 0."""
    right = u + c > 0
    z = jnp.where(right, u + c, 1.0)
    split = exp(u) * stable.skew(c) - stable.skew_excess(z)
    near = times_r(u, _shifted_act(c, u) + _shifted_slope_of_activation(c, u))
    left = _shifted_left(jnp.where(right, -1.0, c), jnp.where(right, 0.0, u), sigmoid(-(u + c)))
    return jnp.where(right, split, jnp.where(u > -30, near, left))


def _shifted_f(c: stable.Param, u: stable.Curve) -> stable.Curve:
    """r f'(r) - (softplus(u + c) - softplus(c)) far out, with r taken out of it for u > 0."""
    low = u < 0
    left, right = jnp.where(low, u, -1.0), jnp.where(low, 1.0, u)
    one = times_r(left, _shifted_act(c, left)) - _softplus_rise(c, left)
    other = exp(right) * (_shifted_act(c, right) - times_r(-right, _softplus_rise(c, right)))
    return jnp.where(low, one, other)


_shifted_power = stable.Sloped(
    lambda c, s: s * stable.expm1_over(s * exp(-c)), lambda c, s: exp(s * exp(-c))
)
_shifted_conjugate = stable.Sloped(
    lambda c, s: -log1p(-_shifted_power(c, s)),
    lambda c, s: exp(s * exp(-c)) / (1 - _shifted_power(c, s)),
)
SHIFTED = Row(
    f=lambda c, u: near_zero(lambda v: sigmoid(v + c), partial(_shifted_f, c), u),
    slope_of_f=stable.Sloped(_shifted_slope, _shifted_bend),
    activation=_shifted_activation,
    slope_of_activation=_shifted_slope_of_activation,
    h=lambda c, u: softplus(u + c),
    h_prime=lambda c, u: sigmoid(u + c),
    curvature=lambda c, u: exp(-u) * _shifted_slope_of_activation(c, u),
    conjugate=lambda c, s: below(stable.skew(c), partial(_shifted_conjugate, c), s),
)
