"""The named divergences. Add one here: one block of closed forms in u = log r."""

from functools import partial as _partial

import jax.numpy as _jnp
from jax import lax as _lax
from jaxtyping import Array as _Array, Float as _Float

from .._types import ScalarFn as _ScalarFn, ScalarLike as _ScalarLike, as_float as _as_float
from ..calculus._quadrature import (
    derivative as _derivative,
    integral_of_slope as _integral_of_slope,
    standard_f as _standard_f,
)
from . import _stable as _s
from ._divergence import Divergence
from ._families import ALPHA as _ALPHA, SHIFTED as _SHIFTED
from ._row import Row as _Row, Solved as _Solved

_exp, _expm1, _log1p, _times_r = _s.exp, _s.expm1, _jnp.log1p, _s.times_r
_sigmoid, _softplus, _tanh = _s.sigmoid, _s.softplus, _s.half_tanh
_middle, _below, _near_zero = _s.to_middle, _s.below, _partial(_s.standard_within, 4.0)


def _slope(activation: _ScalarFn, h_prime: _ScalarFn) -> _s.Sloped:
    """r f'(r) and its derivative r f' + h', where these do not cancel."""
    return _s.Sloped(_partial(_rising, activation), _partial(_bending, activation, h_prime))


def _rising(activation: _ScalarFn, u: _s.Curve) -> _s.Curve:
    return _times_r(u, activation(u))


def _bending(activation: _ScalarFn, h_prime: _ScalarFn, u: _s.Curve) -> _s.Curve:
    return _times_r(u, activation(u)) + h_prime(u)


kl_qp = _Row(
    f=lambda u: -u,
    slope_of_f=lambda u: -_jnp.ones_like(u),
    activation=lambda u: -_exp(-u),
    slope_of_activation=lambda u: _exp(-u),
    h=lambda u: u,
    h_prime=_jnp.ones_like,
    curvature=lambda u: _exp(-2 * u),
    conjugate=_partial(_below, 0.0, lambda s: -1 - _jnp.log(-s)),
    standard=_partial(
        _near_zero,
        _jnp.ones_like,
        _partial(
            _s.by_sign, lambda u: _expm1(u) - u, lambda u: _exp(u) * (1 - _times_r(-u, 1 + u))
        ),
    ),
    slope_of_standard=_expm1,
)()
"""KL(q||p), the reverse KL of variational inference: f = -log r, h = u. Langevin's marginals."""

kl_pq = _Row(
    f=lambda u: _times_r(u, u),
    slope_of_f=lambda u: _times_r(u, u + 1),
    activation=lambda u: u + 1,
    slope_of_activation=_jnp.ones_like,
    h=_exp,
    h_prime=_exp,
    curvature=lambda u: _exp(-u),
    conjugate=lambda s: _exp(s - 1),
    standard=_partial(_near_zero, _exp, lambda u: _times_r(u, u - 1) + 1),
    slope_of_standard=lambda u: _times_r(u, u),
)()
"""KL(p||q), the forward KL of maximum likelihood: f = r log r, h = e^u."""


def _js_activation(u: _s.Curve) -> _s.Curve:
    return _middle(u) / 2


def _js_h_prime(u: _s.Curve) -> _s.Curve:
    return _sigmoid(u) / 2


def _js_conjugate(s: _s.Curve) -> _s.Curve:
    """-log(2 - e^(2 s)) / 2; beside its end 2 - e^(2 s) keeps its digits as -2 expm1(t)."""
    far = s > 0.2
    t = 2 * _jnp.where(far, s, 0.2) - _s.LOG_2_HIGH - _s.LOG_2_LOW
    end = _s.LOG_2 + _jnp.log(-_expm1(t))
    return -_jnp.where(far, end, _log1p(-_expm1(2 * _jnp.where(far, 0.2, s)))) / 2


def _js_ratio(s: _s.Curve) -> _s.Curve:
    t = 2 * s - _s.LOG_2_HIGH - _s.LOG_2_LOW
    return _exp(t) / -_expm1(t)


jensen_shannon = _Row(
    f=_partial(
        _near_zero,
        _js_h_prime,
        _partial(
            _s.by_sign,
            lambda u: (_times_r(u, _middle(u)) + _middle(-u)) / 2,
            lambda u: _exp(u) * (_middle(u) + _times_r(-u, _middle(-u))) / 2,
        ),
    ),
    slope_of_f=_slope(_js_activation, _js_h_prime),
    activation=_js_activation,
    slope_of_activation=lambda u: _sigmoid(-u) / 2,
    h=lambda u: _softplus(u) / 2,
    h_prime=_js_h_prime,
    curvature=lambda u: _exp(-u) * _sigmoid(-u) / 2,
    conjugate=_partial(_below, _s.LOG_2 / 2, _s.Sloped(_js_conjugate, _js_ratio)),
)()
"""Jensen-Shannon, half of what GANs call 2 JS: h = softplus(u) / 2."""


_ns_activation = _partial(
    _s.by_sign,
    lambda u: -_exp(-u) * (1 + _times_r(u, _middle(u))),
    lambda u: -_middle(u) - _exp(-u),
)
_ns_rate = _s.Sloped(
    lambda u: _exp(-u) * _sigmoid(-u), lambda u: -(_exp(-u) + _sigmoid(-u)) * _sigmoid(-u)
)
softened_reverse_kl = _Row(
    f=lambda u: -(1 + _exp(u)) * _middle(u),
    slope_of_f=_s.Sloped(
        lambda u: -_times_r(u, _middle(u)) - 1, lambda u: -_times_r(u, _middle(u)) - _sigmoid(u)
    ),
    activation=_ns_activation,
    slope_of_activation=_ns_rate,
    h=lambda u: -_softplus(-u),
    h_prime=lambda u: _sigmoid(-u),
    curvature=lambda u: _exp(-2 * u) * _sigmoid(-u),
    conjugate=_Solved(_ns_activation, _ns_rate, lambda u: _middle(u) - 1, -_s.LOG_2),
    standard=_partial(
        _near_zero,
        lambda u: _sigmoid(-u),
        lambda u: _times_r(u, 1 - _middle(u)) - (1 + _middle(u)),
    ),
    slope_of_standard=_s.Sloped(
        _partial(
            _s.by_sign,
            lambda u: _expm1(u) - _times_r(u, _middle(u)),
            lambda u: _exp(u) * (-_expm1(-u) - _middle(u)),
        ),
        lambda u: _times_r(u, 1 - _middle(u)) - _sigmoid(u),
    ),
)()
"""2 KL((p + q)/2 || p), of the non-saturating GAN: h = -softplus(-u)."""

squared_hellinger = _Row(
    f=lambda u: _expm1(u / 2) ** 2,
    slope_of_f=lambda u: _exp(u / 2) * _expm1(u / 2),
    activation=lambda u: -_expm1(-u / 2),
    slope_of_activation=lambda u: _exp(-u / 2) / 2,
    h=lambda u: _exp(u / 2),
    h_prime=lambda u: _exp(u / 2) / 2,
    curvature=lambda u: _exp(-0.75 * u) / 2 * _exp(-0.75 * u),
    conjugate=_partial(
        _below,
        1.0,
        _s.Sloped(
            _partial(_s.near_or_far, 1.0, lambda s: s / (1 - s), lambda s: 1 / (1 / s - 1)),
            lambda s: 1 / (1 - s) ** 2,
        ),
    ),
)()
"""Squared Hellinger, the integral of (sqrt(p) - sqrt(q))^2: h = e^(u/2)."""

pearson = _Row(
    f=lambda u: _expm1(u) ** 2,
    slope_of_f=lambda u: 2 * _exp(u) * _expm1(u),
    activation=lambda u: 2 * _expm1(u),
    slope_of_activation=lambda u: 2 * _exp(u),
    h=lambda u: _exp(2 * u),
    h_prime=lambda u: 2 * _exp(2 * u),
    curvature=lambda u: _jnp.where(_jnp.isnan(u), u, 2.0),
    conjugate=lambda s: _jnp.where(s < -2, -1.0, s * (1 + s / 4)),
)()
"""Pearson chi^2, the integral of (p - q)^2 / q: f = (r - 1)^2, h = e^(2u)."""

neyman = _Row(
    f=lambda u: -_expm1(u) * _expm1(-u),
    slope_of_f=lambda u: _expm1(u) - _expm1(-u),
    activation=lambda u: -_expm1(-2 * u),
    slope_of_activation=lambda u: 2 * _exp(-2 * u),
    h=lambda u: -2 * _exp(-u),
    h_prime=lambda u: 2 * _exp(-u),
    curvature=lambda u: 2 * _exp(-3 * u),
    conjugate=_partial(
        _s.up_to,
        1.0,
        _s.Sloped(lambda s: 2 * s / (1 + _jnp.sqrt(1 - s)), lambda s: 1 / _jnp.sqrt(1 - s)),
    ),
)()
"""Neyman chi^2, the integral of (p - q)^2 / p: f = (r - 1)^2 / r, h = -2 e^(-u)."""


def _le_cam_activation(u: _s.Curve) -> _s.Curve:
    return _tanh(u) * (2 - _tanh(u))


def _le_cam_h_prime(u: _s.Curve) -> _s.Curve:
    return 8 * _sigmoid(u) ** 2 * _sigmoid(-u)


def _le_cam_conjugate(s: _s.Curve) -> _s.Curve:
    y = _jnp.sqrt(1 - s)
    return s / (1 + y) * (3 - y)


def _le_cam_ratio(s: _s.Curve) -> _s.Curve:
    y = _jnp.sqrt(1 - s)
    return (3 + s) / (y * (2 + y))


le_cam = _Row(
    f=lambda u: _expm1(u) * _tanh(u),
    slope_of_f=_slope(_le_cam_activation, _le_cam_h_prime),
    activation=_le_cam_activation,
    slope_of_activation=lambda u: 8 * _sigmoid(u) * _sigmoid(-u) ** 2,
    h=lambda u: _tanh(u) * (2 + _tanh(u)),
    h_prime=_le_cam_h_prime,
    curvature=lambda u: 8 * _sigmoid(-u) ** 3,
    conjugate=_partial(
        _s.up_to, 1.0, _partial(_s.beyond, -3.0, -1.0, _s.Sloped(_le_cam_conjugate, _le_cam_ratio))
    ),
)()
"""Le Cam, the integral of (p - q)^2 / (p + q): f = (r - 1)^2 / (r + 1)."""


def _jeffreys_activation(u: _s.Curve) -> _s.Curve:
    return u - _expm1(-u)


def _jeffreys_rate(u: _s.Curve) -> _s.Curve:
    return 1 + _exp(-u)


jeffreys = _Row(
    f=lambda u: u * _expm1(u),
    slope_of_f=lambda u: _times_r(u, u) + _expm1(u),
    activation=_jeffreys_activation,
    slope_of_activation=_jeffreys_rate,
    h=lambda u: _exp(u) + u,
    h_prime=lambda u: _exp(u) + 1,
    curvature=lambda u: _exp(-2 * u) + _exp(-u),
    conjugate=_Solved(_jeffreys_activation, _jeffreys_rate, lambda u: _expm1(u) + u, _jnp.inf),
)()
"""Jeffreys, KL(q||p) + KL(p||q): f = (r - 1) log r, h = e^u + u."""


def _ls_activation(u: _s.Curve) -> _s.Curve:
    return 2 * _middle(u) + _sigmoid(-u) * (2 + _sigmoid(-u))


def _ls_rate(u: _s.Curve) -> _s.Curve:
    return 2 * _sigmoid(-u) ** 3


def _ls_h_prime(u: _s.Curve) -> _s.Curve:
    return 2 * _sigmoid(u) * _sigmoid(-u) ** 2


# f' - f'(1), to the last digit near u = 0
_ls_standard_activation = _s.Sloped(
    lambda u: 2 * _middle(u) - _tanh(u) * (6 - _tanh(u)) / 4, _ls_rate
)

least_squares = _Row(
    f=lambda u: 2 * _times_r(u, _middle(u)) + _tanh(u) / 2,
    slope_of_f=_slope(_ls_activation, _ls_h_prime),
    activation=_ls_activation,
    slope_of_activation=_ls_rate,
    h=lambda u: -(_sigmoid(-u) ** 2),
    h_prime=_ls_h_prime,
    curvature=lambda u: 2 * _exp(-u) * _sigmoid(-u) ** 3,
    conjugate=_Solved(_ls_activation, _ls_rate, lambda u: 1.5 - _sigmoid(-u) ** 2, 2 * _s.LOG_2),
    standard=_partial(
        _near_zero,
        _ls_h_prime,
        lambda u: _times_r(u, 2 * _middle(u) - 1.25) + _tanh(u) / 2 + 1.25,
    ),
    slope_of_standard=_slope(_ls_standard_activation, _ls_h_prime),
)()
"""What the least-squares GAN's generator descends: h = -sigmoid(-u)^2."""


def _arcsinh_h_prime(u: _s.Curve) -> _s.Curve:
    # In units of the larger of |u| and 1, so that no square overflows; any constant would do.
    size = _lax.stop_gradient(_jnp.clip(_jnp.abs(u), 1.0, 1e30))
    return 1 / (size * _jnp.sqrt((u / size) ** 2 + (1 / size) ** 2))


def _arcsinh_f(u: _s.Curve) -> _s.Curve:
    none = u == -_jnp.inf
    return _jnp.where(none, _jnp.inf, _standard_f(_arcsinh_h_prime, _jnp.where(none, 0.0, u)))


def _rise(u: _s.Curve, v: _Float[_Array, "*nodes"]) -> _Float[_Array, "*nodes"]:
    return _exp(u - v)


def _arcsinh_rise(u: _s.Curve) -> _s.Curve:
    """r f'(r)."""
    found = _integral_of_slope(_arcsinh_h_prime, _rise, _jnp.where(_jnp.isinf(u), 0.0, u))
    return _jnp.where(_jnp.isinf(u), _exp(u), found)


def _arcsinh_bend(u: _s.Curve) -> _s.Curve:
    """Its derivative r f' + h', integrated by parts for u < 0, where its terms cancel."""
    left = _jnp.where(_jnp.isinf(u), 0.0, _jnp.minimum(u, 0.0))
    parts = _integral_of_slope(_partial(_derivative, _arcsinh_h_prime), _rise, left)
    return _jnp.where(u < 0, _exp(left) + parts, _arcsinh_rise(u) + _arcsinh_h_prime(u))


def _decay(u: _s.Curve, v: _Float[_Array, "*nodes"]) -> _Float[_Array, "*nodes"]:
    return _exp(-v)


def _arcsinh_activation(u: _s.Curve) -> _s.Curve:
    # Beyond 1e3 there is nothing to add on the right and nothing finite on the left.
    kept = _jnp.where(_jnp.isinf(u), _jnp.sign(u) * 1e3, u)
    return _integral_of_slope(_arcsinh_h_prime, _decay, kept)


_arcsinh_rate = _s.Sloped(
    lambda u: _exp(-u) * _arcsinh_h_prime(u),
    lambda u: _exp(-u) * (_derivative(_arcsinh_h_prime, u) - _arcsinh_h_prime(u)),
)
arcsinh = _Row(
    f=_arcsinh_f,
    slope_of_f=_s.Sloped(_arcsinh_rise, _arcsinh_bend),
    activation=_arcsinh_activation,
    slope_of_activation=_arcsinh_rate,
    h=_jnp.arcsinh,
    h_prime=_arcsinh_h_prime,
    curvature=lambda u: _exp(-2 * u) * _arcsinh_h_prime(u),
    conjugate=_Solved(_arcsinh_activation, _arcsinh_rate, _jnp.arcsinh, 0.75461002577097217),
)()
"""The divergence of the flow h = arcsinh(u); its f is a quadrature."""


def alpha(a: _ScalarLike) -> Divergence:
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
    return _ALPHA(_as_float(a))


def shifted_vanilla(c: _ScalarLike) -> Divergence:
    r"""The divergence of the shifted vanilla GAN, h(u) = softplus(u + c): a skew 2 JS.

    It tends to KL(q||p) as c grows.

    Args:
        c: Shift C of the generator's loss [nats]; an array leaf.

    Returns:
        The divergence.

    References:
        Slides, "An Embarrassingly Simple Trick to Fix the Vanilla GAN".
    """
    return _SHIFTED(_as_float(c))
