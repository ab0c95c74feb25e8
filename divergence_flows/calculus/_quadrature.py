"""Derivatives and graded quadrature of elementwise functions: what the calculus is built on."""

import jax
import jax.numpy as jnp
import numpy as np

from .._types import ScalarFn, Values

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)
_FEW_NODES, _FEW_WEIGHTS = np.polynomial.legendre.leggauss(5)
# Panels double in size away from both ends of an interval, up to 1/32 of it: they resolve layers of
# width 1 at either end of an interval of length 1e4, and anywhere in one of length 100.
_GRADED = (2.0 ** np.arange(11) - 1) / 2.0**15
_HALF = np.concatenate([_GRADED, np.linspace(_GRADED[-1], 0.5, 16)[1:]])
_EDGES = np.concatenate([_HALF, (1 - _HALF)[-2::-1]])
_POINTS = (_EDGES[:-1, None] + np.diff(_EDGES)[:, None] * (_NODES + 1) / 2).ravel()
_MASSES = (np.diff(_EDGES)[:, None] * _WEIGHTS / 2).ravel()


def value_and_slope(function: ScalarFn, x: Values) -> tuple[Values, Values]:
    """An elementwise function and its derivative, elementwise."""
    return jax.jvp(function, (x,), (jnp.ones_like(x),))


def derivative(function: ScalarFn, x: Values) -> Values:
    """Derivative of an elementwise function, elementwise."""
    return value_and_slope(function, x)[1]


def integral_of_slope(slope: ScalarFn, kernel: ScalarFn, u: Values) -> Values:
    r"""Integrates $\int_0^u s(v)\,k(u, v)\,dv$ by Gauss-Legendre on panels graded to both ends."""
    fixed = jax.lax.stop_gradient(u)
    nodes = fixed[..., None] * jnp.asarray(_POINTS, u.dtype)
    terms = slope(nodes) * kernel(u[..., None], nodes)
    total = fixed * jnp.sum(terms * jnp.asarray(_MASSES, u.dtype), axis=-1)
    # The integral from `fixed` to u: zero, but not its derivatives. Where the first integral
    # overflows this one would be inf * 0; there it starts from 0.
    step = (u - fixed)[..., None]
    start = jnp.where(jnp.isfinite(total), fixed, 0.0)[..., None]
    late = start + step * jnp.asarray((_FEW_NODES + 1) / 2, u.dtype)
    rest = slope(late) * kernel(start + step, late) * step
    return total + jnp.sum(rest * jnp.asarray(_FEW_WEIGHTS / 2, u.dtype), axis=-1)


@jax.custom_jvp
def expm1(x: Values) -> Values:
    """e^x - 1, whose derivative is e^x to full relative precision on every jax."""
    return jnp.expm1(x)


expm1.defjvps(lambda tangent, value, x: tangent * jnp.exp(x))


def standard_f(slope: ScalarFn, u: Values) -> Values:
    r"""Standardised f at $r = e^u$ from h': $\int_0^u h'(v)\,(e^{u-v} - 1)\,dv$."""
    top = float(np.log(float(jnp.finfo(u.dtype).max)))
    value = integral_of_slope(slope, lambda u, v: expm1(u - v), jnp.where(u < top, u, 0.0))
    # f grows at least like r, so past the largest float it is inf with an infinite slope.
    return jnp.where(u < top, value, jnp.exp(u))
