"""What a divergence is: f, its MonoFlow h and its conjugate, evaluated from u = log r."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.tree_util import Partial
from jaxtyping import Array, ArrayLike, Float, Real

from .._types import ScalarFn, as_float, as_partial, elementwise
from ..calculus._duality import conjugate_at, f_to_h, h_to_f, in_log_space, slope_in_r
from ..calculus._quadrature import derivative, standard_f
from ._stable import at_log


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
    _of_ratio: ScalarFn

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
        curvature: ScalarFn | None = None,
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
            curvature: u -> f''(e^u); with `activation` it gives the derivatives of f in r, which
                otherwise come by autodiff.

        Raises:
            ValueError: If none of f, log_f and h is given, or both f and log_f.
        """
        if f is not None and log_f is None:
            log_f = in_log_space(f, False)
        elif log_f is not None and f is None:
            log_f = as_partial(log_f)
        elif h is not None and f is None:
            log_f = in_log_space(h_to_f(h), False)
        else:
            raise ValueError(
                "Divergence: give exactly one of f (a function of r) and log_f (of u = log r), or h"
                f" alone; got f={f}, log_f={log_f}, h={h}."
            )
        self.log_f = Partial(elementwise, log_f)
        self.h = f_to_h(log_f, log_space=True) if h is None else _elementwise(h)
        slope = Partial(derivative, self.h) if h_prime is None else as_partial(h_prime)
        self.h_prime = Partial(elementwise, slope)
        act = Partial(slope_in_r, log_f) if activation is None else as_partial(activation)
        self.activation = Partial(elementwise, act)
        star = Partial(conjugate_at, log_f, act) if conjugate is None else as_partial(conjugate)
        self.conjugate = Partial(elementwise, star)
        standard = Partial(standard_f, slope) if standard is None else as_partial(standard)
        self.standard = Partial(elementwise, standard)
        if activation is not None and curvature is not None:
            derivatives = (self.log_f, self.activation, _elementwise(curvature))
            self._of_ratio = Partial(_in_r, derivatives)
        elif f is not None:
            self._of_ratio = _elementwise(f)
        else:
            self._of_ratio = Partial(at_log, self.log_f)

    def f(self, r: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
        """The convex function itself, with f(1) = 0.

        Args:
            r: The ratio p/q, >= 0.

        Returns:
            f(r); NaN for r < 0.
        """
        return self._of_ratio(as_float(r))

    def f_prime(self, r: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
        """First derivative of f.

        Args:
            r: The ratio p/q, > 0.

        Returns:
            f'(r); NaN for r < 0.
        """
        return derivative(self._of_ratio, as_float(r))

    def f_second(self, r: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
        """Second derivative of f, h'(log r) / r^2.

        Args:
            r: The ratio p/q, > 0.

        Returns:
            f''(r); NaN for r < 0.
        """
        return derivative(Partial(derivative, self._of_ratio), as_float(r))


def _elementwise(function: ScalarFn) -> ScalarFn:
    return Partial(elementwise, as_partial(function))


@jax.custom_jvp
def _in_r(derivatives: tuple[ScalarFn, ...], r: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The first of `derivatives` at u = log r; the next is its derivative in r."""
    return derivatives[0](jnp.log(r))


def _in_r_jvp(primals: Any, tangents: Any) -> Any:
    """No derivative of log r comes in: 1/r would overflow where f'(r) is finite."""
    (derivatives, r), (rates, dr) = primals, tangents
    u = jnp.log(r)
    out = derivatives[0](u)
    tangent = jnp.zeros_like(out)
    if not isinstance(dr, SymbolicZero):
        rest = derivatives[1:]
        slope = _in_r(rest, r) if len(rest) > 1 else at_log(rest[0], r)
        tangent = tangent + slope * dr
    moving = jax.tree.map(_instantiated, derivatives[0], rates[0])
    if any(not isinstance(rate, SymbolicZero) for rate in jax.tree.leaves(rates[0])):
        tangent = tangent + jax.jvp(Partial(_applied, u), (derivatives[0],), (moving,))[1]
    return out, tangent


_in_r.defjvp(_in_r_jvp, symbolic_zeros=True)


def _instantiated(parameter: Any, rate: Any) -> Any:
    return jnp.zeros_like(parameter) if isinstance(rate, SymbolicZero) else rate


def _applied(u: Float[Array, "*shape"], function: ScalarFn) -> Float[Array, "*shape"]:
    return function(u)
