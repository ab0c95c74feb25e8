"""f <-> h, first variation and conjugate of any f-divergence, by autodiff and quadrature.

`divergences` and `gans` carry closed forms, tested against these (Yi, Zhu & Liu, MonoFlow, ICML
2023; Nguyen, Wainwright & Jordan, IEEE Trans. IT, 2010).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from .._types import ScalarFn, Values, ValuesLike, as_float, as_partial, evaluated
from ._inverse import inverse_of_increasing
from ._quadrature import derivative, standard_f, value_and_slope


def _rising_slope(h: ScalarFn, v: Values) -> Values:
    slope = derivative(h, v)
    # Autodiff of a rising h may leave round-off below zero where h is flat.
    round_off = 8 * jnp.finfo(slope.dtype).eps * jnp.max(jnp.abs(slope), initial=1.0)
    message = (
        "h_to_f: `h` decreases between log r = 0 and this point: it drives no MonoFlow, and no "
        "convex f belongs to it. Give an increasing h."
    )
    return eqx.error_if(slope, jnp.any(slope < -round_off), message)


def _log_space(f: ScalarFn, u: Values) -> Values:
    return f(jnp.exp(u))


def in_log_space(f: ScalarFn, log_space: bool) -> ScalarFn:
    """The function u -> f(e^u), which a log-space f is already."""
    return as_partial(f) if log_space else Partial(_log_space, as_partial(f))


def _h_of_f(log_f: ScalarFn, u: ValuesLike) -> Values:
    u = as_float(u)
    value, slope = value_and_slope(log_f, u)
    second = derivative(Partial(derivative, log_f), u)
    bend = second - slope
    # Judge only where nothing overflows and round-off is far below a true curvature.
    usable = (jnp.abs(u) < 5) & jnp.isfinite(value)
    round_off = max(1e-3, 64 * float(jnp.finfo(u.dtype).eps)) * (jnp.abs(second) + jnp.abs(slope))
    bad = jnp.any(usable & ((bend == 0) | (bend < -round_off)))
    message = (
        "f_to_h: `f` is not strictly convex here. Where f'' = 0 (total variation, or any linear f) "
        "particles do not move. Give a strictly convex f; negate a concave one."
    )
    return eqx.error_if(slope - value, bad, message)


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
        EquinoxRuntimeError: When h is evaluated where f'' = 0, as for total variation, or f'' < 0
            (checked at |u| < 5, where round-off is small).

    Example:
        ```python
        h = jax.jit(df.f_to_h(lambda r: r * jnp.log(r)))  # f of KL(p||q), whose h is e^u
        print(h(jnp.array([0.0, 1.0])))  # [1.    2.718]
        ```

    References:
        Yi, Zhu & Liu, MonoFlow, ICML 2023, section 3.
    """
    return Partial(evaluated, Partial(_h_of_f, in_log_space(f, log_space)))


def _f_of_h(h: ScalarFn, r: ValuesLike) -> Values:
    return standard_f(Partial(_rising_slope, h), jnp.log(as_float(r)))


def h_to_f(h: ScalarFn) -> ScalarFn:
    r"""The f-divergence of a MonoFlow: $f(r) = \int_0^{\log r} (r e^{-v} - 1)\,h'(v)\,dv$.

    The result is standardised: f(1) = f'(1) = 0 and f >= 0. f plus any a (r - 1) is the same
    divergence, so `h_to_f(f_to_h(f))` is f up to such a term.

    Args:
        h: Increasing function of u = log r; elementwise.

    Returns:
        f, a function of r > 0; NaN elsewhere.

    Raises:
        EquinoxRuntimeError: When f is evaluated across a point where h decreases.

    Example:
        ```python
        f = df.h_to_f(lambda u: u)  # h of KL(q||p), whose f is r - 1 - log r
        print(f(2.0))  # 0.3069
        ```

    References:
        Yi, Zhu & Liu, MonoFlow, ICML 2023, section 3.
    """
    return Partial(evaluated, Partial(_f_of_h, as_partial(h)))


def _variation(f: ScalarFn, r: ValuesLike) -> Values:
    r = as_float(r)
    return f(r) - r * derivative(f, r)


def first_variation(f: ScalarFn) -> ScalarFn:
    r"""First variation of $F(q) = E_q[f(p/q)]$ in q, as a function of r: $f(r) - r f'(r)$.

    It equals -h(log r) up to a constant, and minus its gradient in x is the flow's velocity.

    Args:
        f: Convex function of r = p/q; elementwise.

    Returns:
        A function of r; NaN where f or its slope is, as outside f's domain.
    """
    return Partial(evaluated, Partial(_variation, as_partial(f)))


def slope_in_r(log_f: ScalarFn, u: Values) -> Values:
    """f' at r = e^u, from the derivative of u -> f(e^u)."""
    return derivative(log_f, u) * jnp.exp(-u)


def conjugate_at(log_f: ScalarFn, activation: ScalarFn, s: ValuesLike) -> Values:
    r"""$\sup_{r \ge 0} s r - f(r)$ by solving $f'(e^u) = s$ for u."""
    given = as_float(s)
    end = float(jnp.finfo(given.dtype).maxexp) * float(np.log(2.0)) / 2
    last = jnp.full_like(given, end)
    lowest, highest = activation(-last), activation(last)
    # Ignore an end at which f' overflows, as that of (r - 1)^2 / r does by autodiff.
    low, high = jnp.isfinite(lowest), jnp.isfinite(highest)
    message = "conjugate: `f` is not convex, f' falls between r = 0 and r = inf. Give a convex f."
    given = eqx.error_if(given, jnp.any((lowest > highest) & low & high), message)
    below, above = (given < lowest) & low, (given > highest) & high
    # Outside the range use f'(1), so that the unused branch has a finite gradient.
    slope = jnp.where(below | above, activation(jnp.zeros_like(given)), given)
    u = inverse_of_increasing(activation, slope, end)
    short = slope - activation(jax.lax.stop_gradient(u))
    above = above | (short > float(jnp.finfo(last.dtype).eps) ** 0.5 * (1 + jnp.abs(slope)))
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

    Raises:
        EquinoxRuntimeError: When evaluated, if f' falls from r = 0 to r = inf: f is not convex.

    References:
        Nguyen, Wainwright & Jordan, IEEE Trans. IT, 2010.
    """
    log_f = in_log_space(f, log_space)
    return Partial(evaluated, Partial(conjugate_at, log_f, Partial(slope_in_r, log_f)))
