"""Bures-Wasserstein maths without checks: horizontal parts, Brenier maps, squared distance.

Each value is computed by the form that cancels least, and each derivative solves the equation of
the result, so it holds at repeated eigenvalues and at A = B, to any order.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from .._linalg import (
    congruence,
    differentiated_as,
    least_correlation,
    product,
    singular,
    solve_in_basis,
    symmetric,
)
from .._types import Matrix, Scalar

Pair = tuple[Matrix, Matrix]

# T - I loses no digits in coordinates whose deviations differ by more than this factor.
_APART = 8.0


def _horizontal_by_lyapunov(s: Matrix, x: Matrix) -> Matrix:
    """Differentiable, for it needs no singular vectors."""
    pushed = product(x, s.T)
    left, values, _ = singular(jax.lax.stop_gradient(s))
    basis = left, left, values**2
    return product(solve_in_basis((product(s, s.T),), basis, pushed + pushed.T), s)


@differentiated_as(_horizontal_by_lyapunov)
def horizontal_part(s: Matrix, x: Matrix) -> Matrix:
    """Projects in the singular vectors of s; scaled, so that no square underflows."""
    left, values, right_t = singular(s)
    inside = product(left.T, x, right_t.T)
    sizes = jnp.hypot(values[:, None], values[None, :])
    mine, other = values[None, :] / sizes, values[:, None] / sizes
    return product(left, mine * (mine * inside + other * inside.T), right_t)


@jax.custom_jvp
def squared(a: Matrix, b: Matrix) -> Scalar:
    """|S_A - S_B O|^2 where that is large, else |K S_A|^2, A the better conditioned."""
    least = least_correlation(a), least_correlation(b)
    swap = least[0] < least[1]
    a, b = jnp.where(swap, b, a), jnp.where(swap, a, b)
    factor, _, _, other = congruence(a, b)
    aligned = jnp.sum((factor - other) ** 2)
    far = aligned > 1e-2 * (jnp.trace(a) + jnp.trace(b))
    poor = jnp.maximum(*least) < a.shape[0] * jnp.finfo(a.dtype).eps
    return jnp.where(far | poor, aligned, jnp.sum(product(excess(a, b), factor) ** 2))


def _squared_jvp(primals: Pair, tangents: tuple[Any, Any]) -> tuple[Scalar, Scalar]:
    """The envelope theorem: dd^2 = <I - T_AB, dA> + <I - T_BA, dB>."""
    (a, b), (da, db) = primals, tangents
    rate = jnp.zeros((), jnp.result_type(a, b))
    # Skip symbolic-zero tangents: at a singular matrix they give inf * 0 = nan.
    if not isinstance(da, SymbolicZero):
        rate = rate - jnp.sum(excess(a, b) * da)
    if not isinstance(db, SymbolicZero):
        rate = rate - jnp.sum(excess(b, a) * db)
    return squared(a, b), rate


squared.defjvp(_squared_jvp, symbolic_zeros=True)


@jax.custom_jvp
def brenier(a: Matrix, b: Matrix) -> Matrix:
    """T = F l F^T, so symmetric and positive; from singular values, so never a negative root."""
    _, f, lengths, _ = congruence(a, b)
    half = f * jnp.sqrt(lengths)
    return symmetric(product(half, half.T))


@brenier.defjvp
def _brenier_jvp(primals: Pair, tangents: Pair) -> Pair:
    t = brenier(*primals)
    return t, _map_rate(*primals, t, *tangents)


@jax.custom_jvp
def excess(a: Matrix, b: Matrix) -> Matrix:
    """K = T - I from K A (I + T)/2 + (I + T)/2 A K = B - A, which cancels nothing."""
    eye, t = jnp.eye(a.shape[0], dtype=a.dtype), brenier(a, b)
    middle = 0.5 * (eye + t)
    z, f, lengths, _ = congruence(a, middle)
    near = solve_in_basis((a, middle), (z, f, lengths**2), b - a)
    ratio = jnp.sqrt(jnp.abs(jnp.diagonal(b))) / jnp.sqrt(jnp.abs(jnp.diagonal(a)))
    apart = (ratio < 1 / _APART) | (ratio > _APART)
    return symmetric(jnp.where(apart[:, None] | apart[None, :], t - eye, near))


@excess.defjvp
def _excess_jvp(primals: Pair, tangents: Pair) -> Pair:
    return excess(*primals), _map_rate(*primals, brenier(*primals), *tangents)


def _map_rate(a: Matrix, b: Matrix, t: Matrix, da: Matrix, db: Matrix) -> Matrix:
    """From T A T = B: dT A T + T A dT = dB - T dA T."""
    z, f, lengths, _ = congruence(*jax.lax.stop_gradient((a, b)))
    change = symmetric(db - product(t, da, t))
    return symmetric(solve_in_basis((a, t), (z, f, lengths), change))


def _between_by_map(t: Scalar, a: Matrix, b: Matrix) -> Matrix:
    """The same by the map, which needs no factors."""
    crossed = product(brenier(a, b), a)
    return (1 - t) ** 2 * a + t**2 * b + t * (1 - t) * (crossed + crossed.T)


@differentiated_as(_between_by_map)
def between(t: Scalar, a: Matrix, b: Matrix) -> Matrix:
    """N N^T with N = (1 - t) S_A + t S_B, of factors as near as can be: nothing is inverted."""
    factor, _, _, other = congruence(a, b)
    moved = (1 - t) * factor + t * other
    return symmetric(product(moved, moved.T))
