r"""Named f-divergences $F(q) = E_q[f(p/q)]$ with closed forms, as values and constructors.

A `Divergence` holds f, its MonoFlow h and its conjugate, evaluated from u = log r so that nothing
overflows where the true value is finite. f and h carry the textbook's constants: f + a (r - 1) is
the same divergence and h + c the same flow.

References:
    Yi, Zhu & Liu, MonoFlow, ICML 2023; Nowozin, Cseke & Tomioka, f-GAN, NeurIPS 2016; Liese &
    Vajda, IEEE Trans. IT, 2006.
"""

import equinox as eqx
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, ArrayLike, Float, Real

from . import _rows_logistic as logistic, _rows_power as power
from ._calculus import (
    conjugate_at as _conjugate_at,
    f_to_h as _f_to_h,
    h_to_f as _h_to_f,
    in_log_space as _in_log_space,
    slope_in_r as _slope_in_r,
)
from ._quadrature import derivative as _derivative, standard_f as _standard_f
from ._types import (
    ScalarFn,
    ScalarLike,
    as_float as _as_float,
    as_partial as _as_partial,
    elementwise as _elementwise,
)


def _from_standard(
    far: ScalarFn, h_prime: ScalarFn, u: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """Quadrature near u = 0, where closed forms cancel; the closed form elsewhere."""
    near = jnp.abs(u) < 1
    return jnp.where(near, _standard_f(h_prime, jnp.where(near, u, 0.0)), far(u))


class Divergence(eqx.Module):
    r"""An f-divergence $F(q) = E_q[f(r)]$, r = p/q, with its MonoFlow and its conjugate.

    Fields are functions, elementwise, of u = log r [nats] or of a slope s; leaves are arrays only.
    `conjugate` is $f^*(s) = \sup_{r \ge 0} s r - f(r)$, inf outside its domain; `activation` is
    $f'(e^v)$, which maps a raw network's output v onto the domain of f* so that v = log r at the
    optimum.

    References:
        Nowozin, Cseke & Tomioka, f-GAN, NeurIPS 2016; Yi, Zhu & Liu, MonoFlow, ICML 2023.
    """

    log_f: ScalarFn
    h: ScalarFn
    h_prime: ScalarFn
    activation: ScalarFn
    conjugate: ScalarFn
    standard: ScalarFn

    def __init__(
        self,
        f: ScalarFn | None = None,
        *,
        h: ScalarFn | None = None,
        log_f: ScalarFn | None = None,
        h_prime: ScalarFn | None = None,
        activation: ScalarFn | None = None,
        conjugate: ScalarFn | None = None,
        standard: ScalarFn | None = None,
    ):
        """Builds a divergence from one of f, log_f and h; what is missing is derived.

        Args:
            f: Strictly convex function of r; elementwise.
            h: Increasing function of u = log r.
            log_f: u -> f(e^u), such as the `discrepancy_fn(logu)` of TFP.
            h_prime: Derivative of h.
            activation: v -> f'(e^v).
            conjugate: The convex conjugate on r >= 0.
            standard: u -> f(e^u) with f(1) = f'(1) = 0.

        Raises:
            ValueError: If none of f, log_f and h is given, or both f and log_f.
        """
        if f is not None and log_f is None:
            log_f = _in_log_space(f, False)
        elif log_f is not None and f is None:
            log_f = _as_partial(log_f)
        elif h is not None and f is None:
            log_f = _in_log_space(_h_to_f(h), False)
        else:
            raise ValueError(
                "Divergence: give exactly one of f (a function of r) and log_f (of u = log r), or h"
                f" alone; got f={f}, log_f={log_f}, h={h}."
            )
        self.log_f = Partial(_elementwise, log_f)
        self.h = (
            _f_to_h(log_f, log_space=True) if h is None else Partial(_elementwise, _as_partial(h))
        )
        slope = Partial(_derivative, self.h) if h_prime is None else _as_partial(h_prime)
        self.h_prime = Partial(_elementwise, slope)
        act = Partial(_slope_in_r, log_f) if activation is None else _as_partial(activation)
        self.activation = Partial(_elementwise, act)
        star = Partial(_conjugate_at, log_f, act) if conjugate is None else _as_partial(conjugate)
        self.conjugate = Partial(_elementwise, star)
        standard = Partial(_standard_f, slope) if standard is None else _as_partial(standard)
        self.standard = Partial(_elementwise, standard)

    def f(self, r: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
        """The convex function itself, with f(1) = 0.

        Args:
            r: The ratio p/q, >= 0.

        Returns:
            f(r); NaN for r < 0.
        """
        return self.log_f(jnp.log(_as_float(r)))

    def f_prime(self, r: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
        """First derivative of f.

        Args:
            r: The ratio p/q, > 0.

        Returns:
            f'(r); NaN for r < 0.
        """
        return self.activation(jnp.log(_as_float(r)))

    def f_second(self, r: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
        """Second derivative of f, h'(log r) / r^2.

        Args:
            r: The ratio p/q, > 0.

        Returns:
            f''(r); NaN for r < 0, and where it is 0 * inf, as at r = 0 it may be.
        """
        u = jnp.log(_as_float(r))
        return self.h_prime(u) * jnp.exp(-2 * u)


def _row(
    log_f: ScalarFn,
    h: ScalarFn,
    h_prime: ScalarFn,
    activation: ScalarFn,
    conjugate: ScalarFn | None = None,
    far: ScalarFn | None = None,
) -> Divergence:
    far = log_f if far is None else far
    return Divergence(
        log_f=log_f,
        h=h,
        h_prime=h_prime,
        activation=activation,
        conjugate=conjugate,
        standard=Partial(_from_standard, _as_partial(far), _as_partial(h_prime)),
    )


kl_qp = _row(
    power.kl_qp_f,
    power.kl_qp_h,
    power.kl_qp_dh,
    power.kl_qp_act,
    power.kl_qp_conj,
    power.kl_qp_standard,
)
"""KL(q||p), the reverse KL of variational inference: f = -log r, h = u. Langevin's marginals."""
kl_pq = _row(
    power.kl_pq_f,
    power.kl_pq_h,
    power.kl_pq_dh,
    power.kl_pq_act,
    power.kl_pq_conj,
    power.kl_pq_standard,
)
"""KL(p||q), the forward KL of maximum likelihood: f = r log r, h = e^u."""
jensen_shannon = _row(
    logistic.js_f, logistic.js_h, logistic.js_dh, logistic.js_act, logistic.js_conj
)
"""Jensen-Shannon, half of what GANs call 2 JS: h = softplus(u) / 2."""
softened_reverse_kl = _row(
    logistic.ns_f, logistic.ns_h, logistic.ns_dh, logistic.ns_act, far=logistic.ns_standard
)
"""2 KL((p + q)/2 || p), of the non-saturating GAN: h = -softplus(-u)."""
squared_hellinger = _row(
    power.hellinger_f,
    power.hellinger_h,
    power.hellinger_dh,
    power.hellinger_act,
    power.hellinger_conj,
)
"""Squared Hellinger, the integral of (sqrt(p) - sqrt(q))^2: h = e^(u/2)."""
pearson = _row(
    power.pearson_f, power.pearson_h, power.pearson_dh, power.pearson_act, power.pearson_conj
)
"""Pearson chi^2, the integral of (p - q)^2 / q: f = (r - 1)^2, h = e^(2u)."""
neyman = _row(power.neyman_f, power.neyman_h, power.neyman_dh, power.neyman_act, power.neyman_conj)
"""Neyman chi^2, the integral of (p - q)^2 / p: f = (r - 1)^2 / r, h = -2 e^(-u)."""
le_cam = _row(
    logistic.le_cam_f,
    logistic.le_cam_h,
    logistic.le_cam_dh,
    logistic.le_cam_act,
    logistic.le_cam_conj,
)
"""Le Cam, the integral of (p - q)^2 / (p + q): f = (r - 1)^2 / (r + 1)."""
jeffreys = _row(power.jeffreys_f, power.jeffreys_h, power.jeffreys_dh, power.jeffreys_act)
"""Jeffreys, KL(q||p) + KL(p||q): f = (r - 1) log r, h = e^u + u."""
least_squares = _row(
    logistic.ls_f, logistic.ls_h, logistic.ls_dh, logistic.ls_act, far=logistic.ls_standard
)
"""What the least-squares GAN's generator descends: h = -sigmoid(-u)^2."""
arcsinh = _row(logistic.arcsinh_f, logistic.arcsinh_h, logistic.arcsinh_dh, logistic.arcsinh_act)
"""The divergence of the flow h = arcsinh(u); its f is a quadrature."""


def alpha(a: ScalarLike) -> Divergence:
    r"""The alpha (Cressie-Read) divergence, $f = (r^a - a r + a - 1) / (a (a - 1))$.

    a = 0 is KL(q||p), 1 KL(p||q), 2 half Pearson, 1/2 twice squared Hellinger, -1 half Neyman;
    its h is (e^(a u) - 1)/a, smooth through a = 0. f is by quadrature.

    Args:
        a: Order; an array leaf, so vmap over it works and changing it does not retrace.

    Returns:
        The divergence.

    References:
        Cressie & Read, JRSS B, 1984.
    """
    a = _as_float(a)
    return Divergence(
        log_f=Partial(power.alpha_f, a),
        h=Partial(power.alpha_h, a),
        h_prime=Partial(power.alpha_dh, a),
        activation=Partial(power.alpha_act, a),
        conjugate=Partial(power.alpha_conj, a),
        standard=Partial(power.alpha_f, a),
    )


def shifted_vanilla(c: ScalarLike) -> Divergence:
    r"""The divergence of the shifted vanilla GAN, h(u) = softplus(u + c): a skew 2 JS.

    It tends to KL(q||p) as c grows.

    Args:
        c: Shift C of the generator's loss [nats]; an array leaf.

    Returns:
        The divergence.

    References:
        Slides, "An Embarrassingly Simple Trick to Fix the Vanilla GAN".
    """
    c = _as_float(c)
    return _row(
        Partial(logistic.shifted_f, c),
        Partial(logistic.shifted_h, c),
        Partial(logistic.shifted_dh, c),
        Partial(logistic.shifted_act, c),
        Partial(logistic.shifted_conj, c),
    )
