r"""Scalar calculus of divergences: f <-> h, (phi, psi) -> T, and back.

Everything here works for any f, h, phi and psi by autodiff and quadrature: slow but sure. The
tables `divergences` and `gans` carry closed forms and use this module as their oracle. Functions
are elementwise, differentiable, and return `jax.tree_util.Partial`s over module functions, so
that a solve that holds one does not retrace.

References:
    Yi, Zhu & Liu, MonoFlow, ICML 2023; Nguyen, Wainwright & Jordan, IEEE Trans. IT, 2010.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, ArrayLike, Float, Real

from ._monotone import domain, inverse, inverse_of_increasing
from ._types import ScalarFn, as_float, as_partial

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)
_FEW_NODES, _FEW_WEIGHTS = np.polynomial.legendre.leggauss(5)
# Panels double in size away from both ends of an interval: layers of width 1 at either end of an
# interval of length 1e4 are resolved, and so is everything between.
_HALF = (2.0 ** np.arange(15) - 1) / (2.0**14 - 1) / 2
_EDGES = np.concatenate([_HALF, (1 - _HALF)[-2::-1]])
_POINTS = (_EDGES[:-1, None] + np.diff(_EDGES)[:, None] * (_NODES + 1) / 2).ravel()
_MASSES = (np.diff(_EDGES)[:, None] * _WEIGHTS / 2).ravel()


def derivative(function: ScalarFn, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Derivative of an elementwise function, elementwise.

    Args:
        function: Scalar to scalar, applied elementwise.
        x: Where.

    Returns:
        The derivative at each element.
    """
    return jax.jvp(function, (x,), (jnp.ones_like(x),))[1]


def integral_of_slope(
    slope: ScalarFn, kernel: ScalarFn, u: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    r"""Integrates $\int_0^u s(v)\,k(u, v)\,dv$ by Gauss-Legendre on panels graded to both ends.

    Gradients in u are exact to any order that a few nodes reach: the nodes are frozen, and a
    second rule on the empty interval from the frozen u to u carries the moving endpoint.

    Args:
        slope: s, here always an h'.
        kernel: k(u, v), smooth.
        u: The upper end, of either sign [nats].

    Returns:
        The integral at each element.
    """
    fixed = jax.lax.stop_gradient(u)
    nodes = fixed[..., None] * jnp.asarray(_POINTS, u.dtype)
    terms = slope(nodes) * kernel(u[..., None], nodes)
    total = fixed * jnp.sum(terms * jnp.asarray(_MASSES, u.dtype), axis=-1)
    step = (u - fixed)[..., None]
    late = fixed[..., None] + step * jnp.asarray((_FEW_NODES + 1) / 2, u.dtype)
    rest = slope(late) * kernel(u[..., None], late) * step
    return total + jnp.sum(rest * jnp.asarray(_FEW_WEIGHTS / 2, u.dtype), axis=-1)


def _growth(u: Float[Array, "*shape"], v: Float[Array, "*nodes"]) -> Float[Array, "*nodes"]:
    return jnp.expm1(u - v)


def _rising_slope(h: ScalarFn, v: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    slope = derivative(h, v)
    return eqx.error_if(
        slope,
        jnp.any(slope < 0),
        "divergence_flows: `h` decreases somewhere between log r = 0 and the point asked for, so it"
        " drives no MonoFlow and belongs to no convex f. Give an increasing h.",
    )


def standard_f(slope: ScalarFn, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    r"""Standardised f at $r = e^u$ from h': $\int_0^u h'(v)\,(e^{u-v} - 1)\,dv$.

    One-signed integrand, so no cancellation near u = 0.

    Args:
        slope: h', elementwise.
        u: Log ratio [nats].

    Returns:
        f with f(1) = f'(1) = 0; infinite where e^u is.
    """
    top = float(np.log(float(jnp.finfo(u.dtype).max)))
    value = integral_of_slope(slope, _growth, jnp.where(u < top, u, 0.0))
    # f grows at least like r, so past the largest float it is inf with an infinite slope.
    return jnp.where(u < top, value, jnp.exp(u))


def _log_space(f: ScalarFn, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return f(jnp.exp(u))


def in_log_space(f: ScalarFn, log_space: bool) -> ScalarFn:
    """The function u -> f(e^u), which a log-space f is already.

    Args:
        f: Function of r, or of u when `log_space`.
        log_space: Whether f takes u = log r.

    Returns:
        A function of u.
    """
    return as_partial(f) if log_space else Partial(_log_space, as_partial(f))


def _h_of_f(log_f: ScalarFn, u: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    u = as_float(u)
    value, slope = jax.jvp(log_f, (u,), (jnp.ones_like(u),))
    bend = derivative(Partial(derivative, log_f), u) - slope
    flat = (bend == 0) & (jnp.abs(u) < 5) & jnp.isfinite(value)
    return eqx.error_if(
        slope - value,
        jnp.any(flat),
        "f_to_h: f'' = 0 here, so f (total variation, or any linear f) drives no flow: its h has"
        " h' = 0 almost everywhere. Give a strictly convex f.",
    )


def f_to_h(f: ScalarFn, *, log_space: bool = False) -> ScalarFn:
    r"""The MonoFlow of an f-divergence: $h(u) = r f'(r) - f(r)$ at $r = e^u$.

    Its slope is $h'(u) = r^2 f''(r)$. By autodiff of $u \mapsto f(e^u)$, so it is as stable as
    that function is; the tables' closed forms are stabler.

    Args:
        f: Strictly convex function of r = p/q; elementwise.
        log_space: Whether f is given as a function of u = log r instead.

    Returns:
        h, a function of u [nats].

    Raises:
        EquinoxRuntimeError: When h is evaluated where f'' = 0, as for total variation.

    References:
        Yi, Zhu & Liu, MonoFlow, ICML 2023, section 3.
    """
    return Partial(_h_of_f, in_log_space(f, log_space))


def _f_of_h(h: ScalarFn, r: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    return standard_f(Partial(_rising_slope, h), jnp.log(as_float(r)))


def h_to_f(h: ScalarFn) -> ScalarFn:
    r"""The f-divergence of a MonoFlow: $f(r) = \int_0^{\log r} (r e^{-v} - 1)\,h'(v)\,dv$.

    The result is standardised: f(1) = f'(1) = 0 and f >= 0. f plus any a (r - 1) is the same
    divergence, so `h_to_f(f_to_h(f))` is f up to such a term.

    Args:
        h: Increasing function of u = log r; elementwise.

    Returns:
        f, a function of r > 0.

    Raises:
        EquinoxRuntimeError: When f is evaluated across a point where h decreases.

    References:
        Yi, Zhu & Liu, MonoFlow, ICML 2023, section 3.
    """
    return Partial(_f_of_h, as_partial(h))


def _variation(f: ScalarFn, r: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    r = as_float(r)
    return f(r) - r * derivative(f, r)


def first_variation(f: ScalarFn) -> ScalarFn:
    r"""First variation of $F(q) = E_q[f(p/q)]$ in q, as a function of r: $f(r) - r f'(r)$.

    It equals -h(log r) up to a constant, and minus its gradient in x is the flow's velocity.

    Args:
        f: Convex function of r = p/q; elementwise.

    Returns:
        A function of r.

    References:
        Slides, "The first variation of f-divergence".
    """
    return Partial(_variation, as_partial(f))


def slope_in_r(log_f: ScalarFn, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """f' at r = e^u, from the derivative of u -> f(e^u).

    Args:
        log_f: u -> f(e^u).
        u: Log ratio [nats].

    Returns:
        f'(e^u).
    """
    return derivative(log_f, u) * jnp.exp(-u)


def conjugate_at(
    log_f: ScalarFn, activation: ScalarFn, s: Real[ArrayLike, "*shape"]
) -> Float[Array, "*shape"]:
    r"""$\sup_{r \ge 0} s r - f(r)$ by solving $f'(e^u) = s$ for u.

    Args:
        log_f: u -> f(e^u).
        activation: u -> f'(e^u), increasing.
        s: Slope.

    Returns:
        The conjugate: -f(0) below the range of f', inf above it.
    """
    s = as_float(s)
    end = float(jnp.finfo(s.dtype).maxexp) * float(np.log(2.0)) / 2
    last = jnp.full_like(s, end)
    below, above = s < activation(-last), s > activation(last)
    outside = below | above
    # A slope that is reached stands in outside the range, so that gradients there are not NaN.
    slope = jnp.where(outside, activation(jnp.zeros_like(s)), s)
    u = inverse_of_increasing(activation, slope, end)
    inside = slope * jnp.exp(u) - log_f(u)
    return jnp.where(below, -log_f(-last), jnp.where(above, jnp.inf, inside))


def conjugate(f: ScalarFn, *, log_space: bool = False) -> ScalarFn:
    r"""Convex conjugate on the half line, $f^*(s) = \sup_{r \ge 0} s r - f(r)$.

    Below the range of f' it is -f(0), above it inf. Solved numerically in u = log r.

    Args:
        f: Convex function of r; elementwise.
        log_space: Whether f is given as a function of u = log r instead.

    Returns:
        f*, a function of the slope s; its derivative is the maximising r.

    References:
        Nguyen, Wainwright & Jordan, IEEE Trans. IT, 2010.
    """
    log_f = in_log_space(f, log_space)
    return Partial(conjugate_at, log_f, Partial(slope_in_r, log_f))


def _log_t(phi: ScalarFn, psi: ScalarFn, d: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    d = as_float(d)
    on_p, bend_p = jax.jvp(Partial(derivative, phi), (d,), (jnp.ones_like(d),))
    on_q, bend_q = jax.jvp(Partial(derivative, psi), (d,), (jnp.ones_like(d),))
    log_t = jnp.log(jnp.abs(on_q)) - jnp.log(jnp.abs(on_p))
    log_t = jnp.where(on_p * jnp.sign(on_q) <= 0, log_t, jnp.nan)
    usable = jnp.isfinite(on_p) & jnp.isfinite(on_q) & (on_p != 0) & (on_q != 0)
    flat = usable & (bend_q / on_q == bend_p / on_p)
    return eqx.error_if(
        log_t,
        jnp.any(flat),
        "log_ratio: T = -psi'/phi' is flat in d, so (phi, psi) is no ratio estimator (hinge keeps"
        " only the sign of p - q, Wasserstein has T = 1). Give a pair with T strictly monotone.",
    )


def log_ratio(phi: ScalarFn, psi: ScalarFn) -> ScalarFn:
    r"""log r as a function of an optimal discriminator's value: $\log(-\psi'(d)/\phi'(d))$.

    By autodiff, so in float32 the logistic pair is right to about |d| = 87; tables have closed
    forms. NaN where T <= 0: there d is outside the domain.

    Args:
        phi: What the discriminator maximises on samples of p; elementwise.
        psi: What it maximises on samples of q; elementwise.

    Returns:
        log T, a function of d [nats].

    Raises:
        EquinoxRuntimeError: When evaluated where phi' and psi' are finite and nonzero and T is
            flat, as for the hinge and Wasserstein pairs.

    References:
        Yi, Zhu & Liu, MonoFlow, ICML 2023, Lemma 3.4; slides, Table 1.
    """
    return Partial(_log_t, as_partial(phi), as_partial(psi))


def _exp_of(log_t: ScalarFn, d: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    return jnp.exp(log_t(d))


def ratio(phi: ScalarFn, psi: ScalarFn) -> ScalarFn:
    r"""The density ratio of an optimal discriminator, $T(d) = -\psi'(d)/\phi'(d)$.

    Args:
        phi: What the discriminator maximises on samples of p; elementwise.
        psi: What it maximises on samples of q; elementwise.

    Returns:
        T, a function of d; NaN where it would not be positive.

    Raises:
        EquinoxRuntimeError: As `log_ratio`.

    References:
        Slides, "Two Sample Density Ratio Estimation".
    """
    return Partial(_exp_of, log_ratio(phi, psi))


def _invert(log_t: ScalarFn, place: ScalarFn, u: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    return inverse(log_t, place, as_float(u))


def inverse_log_ratio(
    log_t: ScalarFn, *, lower: float = -np.inf, upper: float = np.inf
) -> ScalarFn:
    """The optimal discriminator as a function of u = log r: the inverse of log T, numerically.

    Args:
        log_t: Strictly monotone, rising or falling; NaN outside its domain; elementwise.
        lower: Lower end of the domain of d.
        upper: Upper end; with finite ends the result keeps relative precision there.

    Returns:
        A function of u [nats]; NaN where no d in the domain has that log ratio.

    Raises:
        ValueError: If `lower` is not below `upper`.

    References:
        Yi, Zhu & Liu, MonoFlow, ICML 2023, Lemma 3.4.
    """
    if not lower < upper:
        raise ValueError(
            f"inverse_log_ratio: `lower`={lower} must be below `upper`={upper}; they bound d."
        )
    return Partial(_invert, as_partial(log_t), domain(lower, upper))


def _compose(outer: ScalarFn, inner: ScalarFn, x: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    return outer(inner(as_float(x)))


def lift(h: ScalarFn, log_t: ScalarFn) -> ScalarFn:
    r"""The generator's map of a divergence: $h_T(d) = h(\log T(d))$.

    Args:
        h: Increasing function of u = log r; elementwise.
        log_t: log ratio as a function of the discriminator's value.

    Returns:
        h_T, a function of d.

    References:
        Slides, "Two Sample Density Ratio Estimation".
    """
    return Partial(_compose, as_partial(h), as_partial(log_t))


def lower(h_t: ScalarFn, log_t: ScalarFn, *, inverse: ScalarFn | None = None) -> ScalarFn:
    r"""The MonoFlow of a generator's loss: $h(u) = h_T(T^{-1}(e^u))$.

    With `h_to_f` it tells which divergence a GAN's generator descends.

    Args:
        h_t: What the generator maximises, as a function of d; elementwise.
        log_t: log ratio as a function of d.
        inverse: u -> d if known; `inverse_log_ratio(log_t)` otherwise.

    Returns:
        h, a function of u [nats].

    References:
        Yi, Zhu & Liu, MonoFlow, ICML 2023, section 4.
    """
    inverse = inverse_log_ratio(log_t) if inverse is None else as_partial(inverse)
    return Partial(_compose, as_partial(h_t), inverse)
