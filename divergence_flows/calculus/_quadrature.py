r"""Derivatives and graded quadrature of elementwise functions: what the calculus is built on."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._types import ScalarFn

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)
_FEW_NODES, _FEW_WEIGHTS = np.polynomial.legendre.leggauss(5)
# Panels double in size away from both ends of an interval, up to 1/32 of it: layers of width 1 are
# resolved at either end of an interval of length 1e4, and anywhere in one of length 100.
_GRADED = (2.0 ** np.arange(11) - 1) / 2.0**15
_HALF = np.concatenate([_GRADED, np.linspace(_GRADED[-1], 0.5, 16)[1:]])
_EDGES = np.concatenate([_HALF, (1 - _HALF)[-2::-1]])
_POINTS = (_EDGES[:-1, None] + np.diff(_EDGES)[:, None] * (_NODES + 1) / 2).ravel()
_MASSES = (np.diff(_EDGES)[:, None] * _WEIGHTS / 2).ravel()


def derivative(function: ScalarFn, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Derivative of an elementwise function, elementwise."""
    return jax.jvp(function, (x,), (jnp.ones_like(x),))[1]


def integral_of_slope(
    slope: ScalarFn, kernel: ScalarFn, u: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    r"""Integrates $\int_0^u s(v)\,k(u, v)\,dv$ by Gauss-Legendre on panels graded to both ends."""
    fixed = jax.lax.stop_gradient(u)
    nodes = fixed[..., None] * jnp.asarray(_POINTS, u.dtype)
    terms = slope(nodes) * kernel(u[..., None], nodes)
    total = fixed * jnp.sum(terms * jnp.asarray(_MASSES, u.dtype), axis=-1)
    step = (u - fixed)[..., None]
    # Where the integral overflows the second rule would be inf * 0; there it starts from 0.
    start = jnp.where(jnp.isfinite(total), fixed, 0.0)[..., None]
    late = start + step * jnp.asarray((_FEW_NODES + 1) / 2, u.dtype)
    rest = slope(late) * kernel(start + step, late) * step
    return total + jnp.sum(rest * jnp.asarray(_FEW_WEIGHTS / 2, u.dtype), axis=-1)


@jax.custom_jvp
def expm1(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """e^x - 1, whose derivative is e^x to full relative precision on every jax."""
    return jnp.expm1(x)


def _expm1_slope(
    tangent: Float[Array, "*shape"], value: Float[Array, "*shape"], x: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    del value
    return tangent * jnp.exp(x)


expm1.defjvps(_expm1_slope)


def _growth(u: Float[Array, "*shape"], v: Float[Array, "*nodes"]) -> Float[Array, "*nodes"]:
    return expm1(u - v)


def standard_f(slope: ScalarFn, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    r"""Standardised f at $r = e^u$ from h': $\int_0^u h'(v)\,(e^{u-v} - 1)\,dv$."""
    top = float(np.log(float(jnp.finfo(u.dtype).max)))
    value = integral_of_slope(slope, _growth, jnp.where(u < top, u, 0.0))
    # f grows at least like r, so past the largest float it is inf with an infinite slope.
    return jnp.where(u < top, value, jnp.exp(u))
