"""Scalar functions of a discriminator's value d that the rows of Table 1 are made of."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from .._types import ScalarFn, identity as identity
from ..calculus._quadrature import derivative, integral_of_slope
from ..divergences import _stable as stable

Value = Float[Array, "*shape"]
Param = Float[Array, ""]


def f_of(div: Any, r: Value) -> Value:
    return div.f(r)


def log(d: Value) -> Value:
    return jnp.log(d)


def exp(d: Value) -> Value:
    return jnp.exp(d)


def arcsinh(d: Value) -> Value:
    return jnp.arcsinh(d)


def sigmoid(d: Value) -> Value:
    return stable.sigmoid(d)


def logit(d: Value) -> Value:
    return stable.logit(d)


def log_sigmoid(d: Value) -> Value:
    return -stable.softplus(-d)


def log_other(d: Value) -> Value:
    return -stable.softplus(d)


def shifted_softplus(shift: Param, d: Value) -> Value:
    return stable.softplus(d + shift)


def minus_square(d: Value) -> Value:
    return -(d**2)


def minus_half_square(d: Value) -> Value:
    return -(d**2) / 2


def minus_square_to_one(d: Value) -> Value:
    return -((d - 1) ** 2)


def energy(lam: Param, d: Value) -> Value:
    return -(d + lam)


def energy_weight(lam: Param, d: Value) -> Value:
    return jnp.exp(-d - lam)


def nwj_psi(d: Value) -> Value:
    return -jnp.exp(d - 1)


def minus_one(d: Value) -> Value:
    return d - 1


def plus_one(u: Value) -> Value:
    return u + 1


def double(d: Value) -> Value:
    return 2 * d


def half(u: Value) -> Value:
    return u / 2


def minus_exp(d: Value) -> Value:
    return -jnp.exp(d)


def minus_exp_minus(d: Value) -> Value:
    return -jnp.exp(-d)


def negative(function: ScalarFn, d: Value) -> Value:
    return -function(d)


def log_slope(function: ScalarFn, d: Value) -> Value:
    """log of the derivative: log T of an f-GAN from its conjugate."""
    return jnp.log(derivative(function, d))


def h_of_ratio(div: Any, d: Value) -> Value:
    """d f'(d) - f(d) at the ratio d, exactly: h with the constant that psi needs."""
    return exact_h(div, jnp.log(d))


def slope_of_ratio(div: Any, d: Value) -> Value:
    return div.f_prime(d)


def exact_h(div: Any, u: Value) -> Value:
    """H(u) = r f'(r) - f(r), from the tabled h and its value at u = 0, where f = 0."""
    zero = jnp.zeros_like(u)
    return div.h(u) - div.h(zero) + div.activation(zero) - div.log_f(zero)


def mirror_psi(h_prime: ScalarFn, log_t: ScalarFn, d: Value) -> Value:
    return -integral_of_slope(h_prime, _growing, log_t(d))


def _growing(u: Value, v: Float[Array, "*nodes"]) -> Float[Array, "*nodes"]:
    return jnp.exp(v)
