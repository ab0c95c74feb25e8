r"""Closed forms of the catalogue, one block a row, all as functions of u = log r.

A block gives `f` = f(e^u) with the slope r f'(r) attached, `act` = f'(e^u), `h`, `dh` = h'(u) and, where it is
elementary, the conjugate `conj`. f and h have the constants of theory.md's catalogue.
"""

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float

from ._calculus import integral_of_slope, standard_f
from ._curves import LOG_2, Curve, curve, soft, times_r

Param = Float[Array, ""]
sp, sigmoid, exp, expm1 = jax.nn.softplus, jax.nn.sigmoid, jnp.exp, jnp.expm1


def _below(s: Curve, top: float | Param, value: Curve) -> Curve:
    return jnp.where(s < top, value, jnp.inf)


def _kept_below(s: Curve, top: float | Param) -> Curve:
    """s where s < top, something harmless elsewhere: keeps gradients of the unused branch clean."""
    return jnp.where(s < top, s, top - 1.0)


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
    return _below(s, 0.0, -1 - jnp.log(-_kept_below(s, 0.0)))


def kl_qp_standard(u: Curve) -> Curve:
    return expm1(u) - u


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


# Jensen-Shannon: half of r log r - (1+r) log((1+r)/2)


def _js_value(u: Curve) -> Curve:
    return (times_r(u, soft(u)) + soft(-u)) / 2


def _js_slope(u: Curve) -> Curve:
    return times_r(u, soft(u)) / 2


def js_f(u: Curve) -> Curve:
    return curve(_js_value, _js_slope, u)


def js_act(u: Curve) -> Curve:
    return soft(u) / 2


def js_h(u: Curve) -> Curve:
    return sp(u) / 2


def js_dh(u: Curve) -> Curve:
    return sigmoid(u) / 2


def js_conj(s: Curve) -> Curve:
    top = LOG_2 / 2
    return _below(s, top, -jnp.log1p(-expm1(2 * _kept_below(s, top))) / 2)


# Softened reverse KL, 2 KL((p+q)/2 || p): (1+r) log((1+r)/(2r))


def _ns_value(u: Curve) -> Curve:
    return -times_r(u, soft(u)) - soft(u)


def _ns_slope(u: Curve) -> Curve:
    return -times_r(u, soft(u)) - 1


def ns_f(u: Curve) -> Curve:
    return curve(_ns_value, _ns_slope, u)


def ns_act(u: Curve) -> Curve:
    return -soft(u) - exp(-u)


def ns_h(u: Curve) -> Curve:
    return -sp(-u)


def ns_dh(u: Curve) -> Curve:
    return sigmoid(-u)


def _ns_far(u: Curve) -> Curve:
    return times_r(u, 1 - soft(u)) - soft(u) - 1


def _ns_far_slope(u: Curve) -> Curve:
    return times_r(u, 1 - soft(u)) - 1


def ns_standard(u: Curve) -> Curve:
    return curve(_ns_far, _ns_far_slope, u)


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
    kept = _kept_below(s, 1.0)
    return _below(s, 1.0, kept / (1 - kept))


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
    return jnp.where(s >= -2, s**2 / 4 + s, -1.0)


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
    inside = 2 - 2 * jnp.sqrt(1 - _kept_below(s, 1.0))
    return jnp.where(s == 1, 2.0, _below(s, 1.0, inside))


# Le Cam: (r - 1)^2 / (r + 1)


def _le_cam_value(u: Curve) -> Curve:
    return expm1(u) * jnp.tanh(u / 2)


def _le_cam_slope(u: Curve) -> Curve:
    return times_r(u, le_cam_act(u))


def le_cam_f(u: Curve) -> Curve:
    return curve(_le_cam_value, _le_cam_slope, u)


def le_cam_act(u: Curve) -> Curve:
    return jnp.tanh(u / 2) * (2 - jnp.tanh(u / 2))


def le_cam_h(u: Curve) -> Curve:
    return jnp.tanh(u / 2) * (2 + jnp.tanh(u / 2))


def le_cam_dh(u: Curve) -> Curve:
    return 8 * sigmoid(u) ** 2 * sigmoid(-u)


def le_cam_conj(s: Curve) -> Curve:
    kept = _kept_below(s, 1.0)
    inside = 4 - kept - 4 * jnp.sqrt(1 - kept)
    return jnp.where(s <= -3, -1.0, jnp.where(s == 1, 3.0, _below(s, 1.0, inside)))


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


# Least-squares GAN: 2 r log(2r/(1+r)) - 1/(1+r) + 1/2


def _ls_value(u: Curve) -> Curve:
    return 2 * times_r(u, soft(u)) + jnp.tanh(u / 2) / 2


def _ls_slope(u: Curve) -> Curve:
    return 2 * times_r(u, soft(u)) + sigmoid(u) * (2 + sigmoid(-u))


def ls_f(u: Curve) -> Curve:
    return curve(_ls_value, _ls_slope, u)


def ls_act(u: Curve) -> Curve:
    return 2 * soft(u) + sigmoid(-u) * (2 + sigmoid(-u))


def ls_h(u: Curve) -> Curve:
    return -(sigmoid(-u) ** 2)


def ls_dh(u: Curve) -> Curve:
    return 2 * sigmoid(u) * sigmoid(-u) ** 2


def _ls_far(u: Curve) -> Curve:
    return times_r(u, 2 * soft(u) - 1.25) + jnp.tanh(u / 2) / 2 + 1.25


def _ls_far_slope(u: Curve) -> Curve:
    return times_r(u, 2 * soft(u) - 1.25) + sigmoid(u) * (2 + sigmoid(-u))


def ls_standard(u: Curve) -> Curve:
    return curve(_ls_far, _ls_far_slope, u)


# arcsinh: only h and h' are elementary


def arcsinh_h(u: Curve) -> Curve:
    return jnp.arcsinh(u)


def arcsinh_dh(u: Curve) -> Curve:
    size = jnp.maximum(jnp.abs(u), 1.0)
    return 1 / (size * jnp.sqrt((u / size) ** 2 + (1 / size) ** 2))


def arcsinh_f(u: Curve) -> Curve:
    kept = jnp.where(u == -jnp.inf, 0.0, u)
    return jnp.where(u == -jnp.inf, jnp.inf, standard_f(arcsinh_dh, kept))


def _decay(u: Curve, v: Float[Array, "*nodes"]) -> Float[Array, "*nodes"]:
    return exp(-v)


def arcsinh_act(u: Curve) -> Curve:
    return integral_of_slope(arcsinh_dh, _decay, u)


# alpha (Cressie-Read): parameters first


def scaled_expm1(a: Param, u: Curve) -> Curve:
    """(e^(a u) - 1) / a, which is u at a = 0."""
    tiny = jnp.abs(a) < jnp.finfo(u.dtype).tiny
    safe = jnp.where(tiny, 1.0, a)
    return jnp.where(tiny, u * (1 + a * u / 2), expm1(safe * u) / safe)


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
    inside = 1 + b * s > 0
    safe = jnp.where(limit, 1.0, b)
    log_r = jnp.where(limit, s, jnp.log1p(jnp.where(inside, b * s, 0.0)) / safe)
    outside = jnp.where(a > 1, -1 / jnp.where(a > 1, a, 1.0), jnp.inf)
    return jnp.where(inside, scaled_expm1(a, log_r), outside)


# Shifted vanilla, c = e^C: c r log r - (1 + c r) log((1 + c r)/(1 + c))


def _shifted_value(u: Curve, c: Param) -> Curve:
    return times_r(u, shifted_act(c, u)) - (sp(u + c) - sp(c))


def _shifted_slope(u: Curve, c: Param) -> Curve:
    return times_r(u, shifted_act(c, u))


def shifted_f(c: Param, u: Curve) -> Curve:
    return curve(_shifted_value, _shifted_slope, u, c)


def shifted_act(c: Param, u: Curve) -> Curve:
    return exp(c) * (sp(-c) - sp(-(u + c)))


def shifted_h(c: Param, u: Curve) -> Curve:
    return sp(u + c)


def shifted_dh(c: Param, u: Curve) -> Curve:
    return sigmoid(u + c)


def shifted_conj(c: Param, s: Curve) -> Curve:
    top = exp(c) * sp(-c)
    kept = _kept_below(s, top)
    return _below(s, top, -jnp.log1p(-exp(c) * expm1(kept * exp(-c))))
