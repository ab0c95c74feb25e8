r"""Rows of the catalogue made of logistic functions of u = log r, and the arcsinh row.

A block gives `f` = f(e^u) with the slope r f'(r) attached, `act` = f'(e^u), `h`, `dh` = h'(u) and,
where it is elementary, the conjugate `conj`. f and h have the constants of theory.md's catalogue.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ._curves import LOG_2, Curve, below, curve, dwarfed, kept_below, soft, times_r
from ._quadrature import expm1, integral_of_slope, standard_f

Param = Float[Array, ""]
sp, sigmoid, exp = jax.nn.softplus, jax.nn.sigmoid, jnp.exp


# Jensen-Shannon: half of r log r - (1+r) log((1+r)/2)


def _js_value(u: Curve) -> Curve:
    return (times_r(u, soft(u)) + dwarfed(soft(-u))) / 2


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
    return below(s, top, -jnp.log1p(-expm1(2 * kept_below(s, top))) / 2)


# Softened reverse KL, 2 KL((p+q)/2 || p): (1+r) log((1+r)/(2r))


def _ns_value(u: Curve) -> Curve:
    return -times_r(u, soft(u)) - soft(u)


def _ns_slope(u: Curve) -> Curve:
    return -times_r(u, soft(u)) - 1


def ns_f(u: Curve) -> Curve:
    return curve(_ns_value, _ns_slope, u)


def ns_act(u: Curve) -> Curve:
    return -dwarfed(soft(u)) - exp(-u)


def ns_h(u: Curve) -> Curve:
    return -sp(-u)


def ns_dh(u: Curve) -> Curve:
    return sigmoid(-u)


def _ns_far(u: Curve) -> Curve:
    return -times_r(u, soft(u) - 1) - soft(u) - 1


def _ns_far_slope(u: Curve) -> Curve:
    return -times_r(u, soft(u) - 1) - 1


def ns_standard(u: Curve) -> Curve:
    return curve(_ns_far, _ns_far_slope, u)


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
    kept = kept_below(s, 1.0)
    inside = 4 - kept - 4 * jnp.sqrt(1 - kept)
    return jnp.where(s <= -3, -1.0, jnp.where(s == 1, 3.0, below(s, 1.0, inside)))


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
    # Its limits: what is beyond adds nothing on the right and nothing finite on the left.
    kept = jnp.where(jnp.isinf(u), jnp.sign(u) * 1e3, u)
    return integral_of_slope(arcsinh_dh, _decay, kept)


# Shifted vanilla, c = e^C: c r log r - (1 + c r) log((1 + c r)/(1 + c))


def _shifted_value(u: Curve, c: Param) -> Curve:
    return times_r(u, shifted_act(c, u)) - (dwarfed(sp(u + c)) - sp(c))


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
    kept = kept_below(s, top)
    return below(s, top, -jnp.log1p(-exp(c) * expm1(kept * exp(-c))))
