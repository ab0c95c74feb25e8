r"""Stable pieces that the rows of `divergences` are made of, as functions of u = log r.

Each row evaluates f(e^u), r f'(r), f'(e^u), h and h' in closed form. Automatic derivatives of f
would meet inf * 0 far out, so `curve` pairs a value with its closed slope.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

from ._types import ScalarFn

LOG_2 = 0.6931471805599453
Curve = Float[Array, "*shape"]


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def curve(value: ScalarFn, slope: ScalarFn, u: Curve, *params: Float[Array, "..."]) -> Curve:
    """A function of u with a closed derivative in u.

    Args:
        value: Called as value(u, *params).
        slope: Its derivative in u, with the same arguments.
        u: Log ratio [nats].
        params: Parameters; differentiated automatically when asked for.

    Returns:
        value(u, *params).
    """
    return value(u, *params)


def _curve_jvp(value: ScalarFn, slope: ScalarFn, primals: Any, tangents: Any) -> Any:
    u, *params = primals
    out = value(u, *params)
    tangent = jnp.zeros_like(out)
    if not isinstance(tangents[0], SymbolicZero):
        tangent = tangent + slope(u, *params) * tangents[0]
    moving = [i for i, t in enumerate(tangents[1:]) if not isinstance(t, SymbolicZero)]
    if moving:
        fixed = [jnp.zeros_like(p) for p in params]
        for i in moving:
            fixed[i] = jnp.broadcast_to(tangents[1 + i], params[i].shape)
        tangent = tangent + jax.jvp(partial(value, u), tuple(params), tuple(fixed))[1]
    return out, tangent


curve.defjvp(_curve_jvp, symbolic_zeros=True)


def dwarfed(x: Curve) -> Curve:
    """A term that stands beside one that overflows long before this one reaches a million.

    Bounded there, so that at r = 0 and r = inf, where both are infinite, their sum or product is
    the larger one's limit and not NaN; nothing finite changes.

    Args:
        x: The smaller term.

    Returns:
        x where |x| <= 1e6.
    """
    return jnp.clip(x, -1e6, 1e6)


def times_r(u: Curve, x: Curve) -> Curve:
    """r x, with 0 where r underflows even if x is -inf.

    Args:
        u: Log ratio [nats].
        x: A factor that falls at most like u.

    Returns:
        e^u x.
    """
    return jnp.exp(u) * dwarfed(x)


def _soft(u: Curve) -> Curve:
    near = jnp.where(jnp.abs(u) < 1, u, 0.0)
    return jnp.where(jnp.abs(u) < 1, jnp.log1p(jnp.tanh(near / 2)), LOG_2 - jax.nn.softplus(-u))


def _soft_slope(u: Curve) -> Curve:
    return jax.nn.sigmoid(-u)


def soft(u: Curve) -> Curve:
    r"""$\log(2 r / (1 + r))$: the log of p over the middle (p + q)/2, exact near 0.

    Args:
        u: Log ratio [nats].

    Returns:
        log 2 - softplus(-u).
    """
    return curve(_soft, _soft_slope, u)


def below(s: Curve, top: float | Float[Array, ""], value: Curve) -> Curve:
    """A conjugate's value below the end of its domain, inf from there on.

    Args:
        s: Slope.
        top: End of the domain.
        value: The value inside.

    Returns:
        value where s < top, else inf; NaN stays NaN.
    """
    return jnp.where(s >= top, jnp.inf, value)


def kept_below(s: Curve, top: float | Float[Array, ""]) -> Curve:
    """s inside its domain and something harmless elsewhere, for clean gradients of both branches.

    Args:
        s: Slope.
        top: End of the domain.

    Returns:
        s where s < top, else top - 1; NaN stays NaN.
    """
    return jnp.where(s >= top, top - 1.0, s)
