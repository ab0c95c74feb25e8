r"""Rows of the catalogue made of powers of r and log r, one block a row, in u = log r.

A block gives `f` = f(e^u) with the slope r f'(r) attached, `act` = f'(e^u), `h`, `dh` = h'(u) and,
where it is elementary, the conjugate `conj`. f and h have the constants of theory.md's catalogue.
"""

import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float

from ._curves import Curve, below, curve, kept_below, times_r
from ._quadrature import expm1, standard_f

Param = Float[Array, ""]
exp = jnp.exp


# KL(q || p): f = -log r


def _kl_qp_value(u: Curve) -> Curve:
    return -u


def _kl_qp_slope(u: Curve) -> Curve:
    return -jnp.ones_like(u)


def kl_qp_f(u: Curve) -> Curve:
    return curve(_kl_qp_value, _kl_qp_slope, u)


def kl_qp_act(u: Curve) -> Curve:
    return -exp(-u)


def kl_qp_h(u: Curve) -> Curve:
    return u


def kl_qp_dh(u: Curve) -> Curve:
    return jnp.ones_like(u)


def kl_qp_conj(s: Curve) -> Curve:
    return below(s, 0.0, -1 - jnp.log(-kept_below(s, 0.0)))


def kl_qp_standard(u: Curve) -> Curve:
    return expm1(u) - jnp.minimum(u, 1e6)  # past there e^u is infinite


# KL(p || q): f = r log r


def _kl_pq_value(u: Curve) -> Curve:
    return times_r(u, u)


def _kl_pq_slope(u: Curve) -> Curve:
    return times_r(u, u + 1)


def kl_pq_f(u: Curve) -> Curve:
    return curve(_kl_pq_value, _kl_pq_slope, u)


def kl_pq_act(u: Curve) -> Curve:
    return u + 1


def kl_pq_h(u: Curve) -> Curve:
    return exp(u)


def kl_pq_dh(u: Curve) -> Curve:
    return exp(u)


def kl_pq_conj(s: Curve) -> Curve:
    return exp(s - 1)


def kl_pq_standard(u: Curve) -> Curve:
    return times_r(u, u - 1) + 1


# Squared Hellinger: (sqrt r - 1)^2


def _hellinger_value(u: Curve) -> Curve:
    return expm1(u / 2) ** 2


def _hellinger_slope(u: Curve) -> Curve:
    return exp(u / 2) * expm1(u / 2)


def hellinger_f(u: Curve) -> Curve:
    return curve(_hellinger_value, _hellinger_slope, u)


def hellinger_act(u: Curve) -> Curve:
    return -expm1(-u / 2)


def hellinger_h(u: Curve) -> Curve:
    return exp(u / 2)


def hellinger_dh(u: Curve) -> Curve:
    return exp(u / 2) / 2


def hellinger_conj(s: Curve) -> Curve:
    kept = kept_below(s, 1.0)
    inside = jnp.where(kept == -jnp.inf, -1.0, kept / (1 - kept))
    return below(s, 1.0, inside)


# Pearson: (r - 1)^2


def _pearson_value(u: Curve) -> Curve:
    return expm1(u) ** 2


def _pearson_slope(u: Curve) -> Curve:
    return 2 * exp(u) * expm1(u)


def pearson_f(u: Curve) -> Curve:
    return curve(_pearson_value, _pearson_slope, u)


def pearson_act(u: Curve) -> Curve:
    return 2 * expm1(u)


def pearson_h(u: Curve) -> Curve:
    return exp(2 * u)


def pearson_dh(u: Curve) -> Curve:
    return 2 * exp(2 * u)


def pearson_conj(s: Curve) -> Curve:
    return jnp.where(s < -2, -1.0, s**2 / 4 + s)


# Neyman: (r - 1)^2 / r


def _neyman_value(u: Curve) -> Curve:
    return 4 * jnp.sinh(u / 2) ** 2


def _neyman_slope(u: Curve) -> Curve:
    return 2 * jnp.sinh(u)


def neyman_f(u: Curve) -> Curve:
    return curve(_neyman_value, _neyman_slope, u)


def neyman_act(u: Curve) -> Curve:
    return -expm1(-2 * u)


def neyman_h(u: Curve) -> Curve:
    return -2 * exp(-u)


def neyman_dh(u: Curve) -> Curve:
    return 2 * exp(-u)


def neyman_conj(s: Curve) -> Curve:
    inside = 2 - 2 * jnp.sqrt(1 - kept_below(s, 1.0))
    return jnp.where(s == 1, 2.0, below(s, 1.0, inside))


# Jeffreys: (r - 1) log r


def _jeffreys_value(u: Curve) -> Curve:
    return u * expm1(u)


def _jeffreys_slope(u: Curve) -> Curve:
    return times_r(u, u) + expm1(u)


def jeffreys_f(u: Curve) -> Curve:
    return curve(_jeffreys_value, _jeffreys_slope, u)


def jeffreys_act(u: Curve) -> Curve:
    return u - expm1(-u)


def jeffreys_h(u: Curve) -> Curve:
    return exp(u) + u


def jeffreys_dh(u: Curve) -> Curve:
    return exp(u) + 1


# alpha (Cressie-Read): parameters first


def scaled_expm1(a: Param, u: Curve) -> Curve:
    """(e^(a u) - 1) / a, which is u at a = 0."""
    tiny = jnp.abs(a) < jnp.finfo(u.dtype).tiny
    safe = jnp.where(tiny, 1.0, a)
    return jnp.where(tiny, u * (1 + a * u / 2), expm1(safe * jnp.where(tiny, 0.0, u)) / safe)


def alpha_act(a: Param, u: Curve) -> Curve:
    return scaled_expm1(a - 1, u)


def alpha_f(a: Param, u: Curve) -> Curve:
    at_zero = jnp.where(a > 0, 1 / jnp.where(a > 0, a, 1.0), jnp.inf)
    kept = jnp.where(u == -jnp.inf, 0.0, u)
    return jnp.where(u == -jnp.inf, at_zero, standard_f(Partial(alpha_dh, a), kept))


def alpha_h(a: Param, u: Curve) -> Curve:
    return scaled_expm1(a, u)


def alpha_dh(a: Param, u: Curve) -> Curve:
    return exp(a * u)


def alpha_conj(a: Param, s: Curve) -> Curve:
    """((1 + (a-1) s)^(a/(a-1)) - 1)/a, as expm1(a w)/a with w = log(1 + (a-1) s)/(a-1)."""
    b = a - 1
    limit = jnp.abs(b) < jnp.finfo(s.dtype).tiny
    beyond = 1 + b * s <= 0
    safe = jnp.where(limit, 1.0, b)
    log_r = jnp.where(limit, s, jnp.log1p(jnp.where(beyond, 0.0, b * s)) / safe)
    outside = jnp.where(a > 1, -1 / jnp.where(a > 1, a, 1.0), jnp.inf)
    return jnp.where(beyond, outside, scaled_expm1(a, log_r))
