"""The named divergences. Add one here: one block of closed forms in u = log r.

`Sloped(value, slope)` holds a function and its derivative; the slope of `log_f` is r f'(r).
"""

from functools import partial

import jax.numpy as jnp
from jax import lax
from jax.numpy import exp, log, log1p, ones_like, sqrt
from jaxtyping import Array, Float

from .._types import Values
from ..calculus._quadrature import derivative, integral_of_slope, standard_f
from ._divergence import closed_forms
from ._stable import (
    LOG_2,
    Sloped,
    below,
    by_sign,
    expm1,
    half_tanh as tanh,
    near_zero,
    sigmoid,
    softplus,
    solved,
    times_r,
    to_middle as middle,
)


def _slope(activation: Sloped, h: Sloped) -> Sloped:
    """r f'(r) and its derivative r f' + h', where these do not cancel."""
    return Sloped(
        lambda u: times_r(u, activation.value(u)),
        lambda u: times_r(u, activation.value(u)) + h.slope(u),
    )


kl_qp = closed_forms(
    "kl_qp",
    log_f=Sloped(lambda u: -u, lambda u: -ones_like(u)),
    activation=Sloped(lambda u: -exp(-u), lambda u: exp(-u)),
    h=Sloped(lambda u: u, ones_like),
    curvature=lambda u: exp(-2 * u),
    conjugate=partial(below, 0.0, lambda s: -1 - log(-s)),
    standard=Sloped(partial(near_zero, ones_like, lambda u: expm1(u) - u), expm1),
)
"""KL(q||p), the reverse KL of variational inference: f = -log r, h = u. Langevin's marginals."""

kl_pq = closed_forms(
    "kl_pq",
    log_f=Sloped(lambda u: times_r(u, u), lambda u: times_r(u, u + 1)),
    activation=Sloped(lambda u: u + 1, ones_like),
    h=Sloped(exp, exp),
    curvature=lambda u: exp(-u),
    conjugate=lambda s: exp(s - 1),
    standard=Sloped(
        partial(near_zero, exp, lambda u: times_r(u, u - 1) + 1), lambda u: times_r(u, u)
    ),
)
"""KL(p||q), the forward KL of maximum likelihood: f = r log r, h = e^u."""


def _past_end(s: Values) -> Values:
    """2 s - log 2; log 2 in two parts, of which the first has few bits, keeps the digits near 0."""
    return 2 * s - 0.693359375 + 2.1219444005469057e-4


def _js_conjugate(s: Values) -> Values:
    """-log(2 - e^(2 s)) / 2; beside its end 2 - e^(2 s) keeps its digits as -2 expm1(t)."""
    end = LOG_2 + log(-expm1(_past_end(jnp.maximum(s, 0.2))))
    return -jnp.where(s > 0.2, end, log1p(-expm1(2 * jnp.minimum(s, 0.2)))) / 2


_js_activation = Sloped(lambda u: middle(u) / 2, lambda u: sigmoid(-u) / 2)
_js_h = Sloped(lambda u: softplus(u) / 2, lambda u: sigmoid(u) / 2)
jensen_shannon = closed_forms(
    "jensen_shannon",
    log_f=Sloped(
        partial(near_zero, _js_h.slope, lambda u: (times_r(u, middle(u)) + middle(-u)) / 2),
        _slope(_js_activation, _js_h),
    ),
    activation=_js_activation,
    h=_js_h,
    curvature=lambda u: exp(-u) * sigmoid(-u) / 2,
    conjugate=partial(
        below, LOG_2 / 2, Sloped(_js_conjugate, lambda s: exp(_past_end(s)) / -expm1(_past_end(s)))
    ),
)
"""Jensen-Shannon, half of what GANs call 2 JS: h = softplus(u) / 2."""

_ns_activation = Sloped(
    lambda u: -middle(jnp.maximum(u, -1e3)) - exp(-u),  # -inf at u = -inf
    Sloped(lambda u: exp(-u) * sigmoid(-u), lambda u: -(exp(-u) + sigmoid(-u)) * sigmoid(-u)),
)
softened_reverse_kl = closed_forms(
    "softened_reverse_kl",
    log_f=Sloped(
        lambda u: -(1 + exp(u)) * middle(u),
        Sloped(lambda u: -times_r(u, middle(u)) - 1, lambda u: -times_r(u, middle(u)) - sigmoid(u)),
    ),
    activation=_ns_activation,
    h=Sloped(lambda u: -softplus(-u), lambda u: sigmoid(-u)),
    curvature=lambda u: exp(-2 * u) * sigmoid(-u),
    conjugate=partial(solved, _ns_activation, lambda u: middle(u) - 1, -LOG_2),
    standard=Sloped(
        partial(
            near_zero, lambda u: sigmoid(-u), lambda u: times_r(u, 1 - middle(u)) - (1 + middle(u))
        ),
        Sloped(
            partial(
                by_sign,
                lambda u: expm1(u) - times_r(u, middle(u)),
                lambda u: exp(u) * (-expm1(-u) - middle(u)),
            ),
            lambda u: times_r(u, 1 - middle(u)) - sigmoid(u),
        ),
    ),
)
"""2 KL((p + q)/2 || p), of the non-saturating GAN: h = -softplus(-u)."""

squared_hellinger = closed_forms(
    "squared_hellinger",
    log_f=Sloped(lambda u: expm1(u / 2) ** 2, lambda u: exp(u / 2) * expm1(u / 2)),
    activation=Sloped(lambda u: -expm1(-u / 2), lambda u: exp(-u / 2) / 2),
    h=Sloped(lambda u: exp(u / 2), lambda u: exp(u / 2) / 2),
    curvature=lambda u: exp(-0.75 * u) / 2 * exp(-0.75 * u),
    conjugate=partial(
        below,
        1.0,
        Sloped(lambda s: jnp.where(s < -1e30, -1.0, s / (1 - s)), lambda s: 1 / (1 - s) ** 2),
    ),
)
"""Squared Hellinger, the integral of (sqrt(p) - sqrt(q))^2: h = e^(u/2)."""

pearson = closed_forms(
    "pearson",
    log_f=Sloped(lambda u: expm1(u) ** 2, lambda u: 2 * exp(u) * expm1(u)),
    activation=Sloped(lambda u: 2 * expm1(u), lambda u: 2 * exp(u)),
    h=Sloped(lambda u: exp(2 * u), lambda u: 2 * exp(2 * u)),
    curvature=lambda u: jnp.where(jnp.isnan(u), u, 2.0),
    conjugate=lambda s: jnp.where(s < -2, -1.0, s * (1 + s / 4)),
)
"""Pearson chi^2, the integral of (p - q)^2 / q: f = (r - 1)^2, h = e^(2u)."""

neyman = closed_forms(
    "neyman",
    log_f=Sloped(lambda u: -expm1(u) * expm1(-u), lambda u: expm1(u) - expm1(-u)),
    activation=Sloped(lambda u: -expm1(-2 * u), lambda u: 2 * exp(-2 * u)),
    h=Sloped(lambda u: -2 * exp(-u), lambda u: 2 * exp(-u)),
    curvature=lambda u: 2 * exp(-3 * u),
    conjugate=partial(
        below,
        1.0,
        Sloped(lambda s: 2 * s / (1 + sqrt(1 - s)), lambda s: 1 / sqrt(1 - s)),
        closed=True,
    ),
)
"""Neyman chi^2, the integral of (p - q)^2 / p: f = (r - 1)^2 / r, h = -2 e^(-u)."""

_le_cam_activation = Sloped(
    lambda u: tanh(u) * (2 - tanh(u)), lambda u: 8 * sigmoid(u) * sigmoid(-u) ** 2
)
_le_cam_h = Sloped(lambda u: tanh(u) * (2 + tanh(u)), lambda u: 8 * sigmoid(u) ** 2 * sigmoid(-u))
_le_cam_conjugate = Sloped(
    lambda s: s / (1 + sqrt(1 - s)) * (3 - sqrt(1 - s)),
    lambda s: (3 + s) / (sqrt(1 - s) * (2 + sqrt(1 - s))),
)
le_cam = closed_forms(
    "le_cam",
    log_f=Sloped(lambda u: expm1(u) * tanh(u), _slope(_le_cam_activation, _le_cam_h)),
    activation=_le_cam_activation,
    h=_le_cam_h,
    curvature=lambda u: 8 * sigmoid(-u) ** 3,
    # Below the slope f'(0) = -3 it is -f(0).
    conjugate=partial(
        below,
        1.0,
        lambda s: jnp.where(s <= -3, -1.0, _le_cam_conjugate(jnp.where(s <= -3, -2.0, s))),
        closed=True,
    ),
)
"""Le Cam, the integral of (p - q)^2 / (p + q): f = (r - 1)^2 / (r + 1)."""

_jeffreys_activation = Sloped(lambda u: u - expm1(-u), lambda u: 1 + exp(-u))
jeffreys = closed_forms(
    "jeffreys",
    log_f=Sloped(lambda u: u * expm1(u), lambda u: times_r(u, u) + expm1(u)),
    activation=_jeffreys_activation,
    h=Sloped(lambda u: exp(u) + u, lambda u: exp(u) + 1),
    curvature=lambda u: exp(-2 * u) + exp(-u),
    conjugate=partial(solved, _jeffreys_activation, lambda u: expm1(u) + u, jnp.inf),
)
"""Jeffreys, KL(q||p) + KL(p||q): f = (r - 1) log r, h = e^u + u."""

_ls_activation = Sloped(
    lambda u: 2 * middle(u) + sigmoid(-u) * (2 + sigmoid(-u)), lambda u: 2 * sigmoid(-u) ** 3
)
_ls_h = Sloped(lambda u: -(sigmoid(-u) ** 2), lambda u: 2 * sigmoid(u) * sigmoid(-u) ** 2)
# f' - f'(1), to the last digit near u = 0
_ls_standard_activation = Sloped(
    lambda u: 2 * middle(u) - tanh(u) * (6 - tanh(u)) / 4, _ls_activation.slope
)
least_squares = closed_forms(
    "least_squares",
    log_f=Sloped(lambda u: 2 * times_r(u, middle(u)) + tanh(u) / 2, _slope(_ls_activation, _ls_h)),
    activation=_ls_activation,
    h=_ls_h,
    curvature=lambda u: 2 * exp(-u) * sigmoid(-u) ** 3,
    conjugate=partial(solved, _ls_activation, lambda u: 1.5 - sigmoid(-u) ** 2, 2 * LOG_2),
    standard=Sloped(
        partial(
            near_zero, _ls_h.slope, lambda u: times_r(u, 2 * middle(u) - 1.25) + tanh(u) / 2 + 1.25
        ),
        _slope(_ls_standard_activation, _ls_h),
    ),
)
"""What the least-squares GAN's generator descends: h = -sigmoid(-u)^2."""


def _arcsinh_h_prime(u: Values) -> Values:
    # In units of the larger of |u| and 1, so that no square overflows; any constant would do.
    size = lax.stop_gradient(jnp.clip(jnp.abs(u), 1.0, 1e30))
    return 1 / (size * sqrt((u / size) ** 2 + (1 / size) ** 2))


def _arcsinh_f(u: Values) -> Values:
    none = u == -jnp.inf
    return jnp.where(none, jnp.inf, standard_f(_arcsinh_h_prime, jnp.where(none, 0.0, u)))


def _growth(u: Values, v: Float[Array, "*nodes"]) -> Float[Array, "*nodes"]:
    return exp(u - v)


def _arcsinh_rise(u: Values) -> Values:
    """r f'(r)."""
    found = integral_of_slope(_arcsinh_h_prime, _growth, jnp.where(jnp.isinf(u), 0.0, u))
    return jnp.where(jnp.isinf(u), exp(u), found)


def _arcsinh_bend(u: Values) -> Values:
    """Its derivative r f' + h', integrated by parts for u < 0, where its terms cancel."""
    left = jnp.where(jnp.isinf(u), 0.0, jnp.minimum(u, 0.0))
    parts = integral_of_slope(partial(derivative, _arcsinh_h_prime), _growth, left)
    return jnp.where(u < 0, exp(left) + parts, _arcsinh_rise(u) + _arcsinh_h_prime(u))


def _arcsinh_slope(u: Values) -> Values:
    """f'(r)."""
    # Beyond 1e3 there is nothing to add on the right and nothing finite on the left.
    kept = jnp.where(jnp.isinf(u), jnp.sign(u) * 1e3, u)
    return integral_of_slope(_arcsinh_h_prime, lambda u, v: exp(-v), kept)


_arcsinh_activation = Sloped(
    _arcsinh_slope,
    Sloped(
        lambda u: exp(-u) * _arcsinh_h_prime(u),
        lambda u: exp(-u) * (derivative(_arcsinh_h_prime, u) - _arcsinh_h_prime(u)),
    ),
)
arcsinh = closed_forms(
    "arcsinh",
    log_f=Sloped(_arcsinh_f, Sloped(_arcsinh_rise, _arcsinh_bend)),
    activation=_arcsinh_activation,
    h=Sloped(jnp.arcsinh, _arcsinh_h_prime),
    curvature=lambda u: exp(-2 * u) * _arcsinh_h_prime(u),
    conjugate=partial(solved, _arcsinh_activation, jnp.arcsinh, 0.75461002577097217),
)
"""The divergence of the flow h = arcsinh(u); its f is a quadrature."""
