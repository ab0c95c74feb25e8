r"""Bures-Wasserstein maths without its doors: horizontal parts, Brenier maps, squared distance.

T A T = B and K = T - I. Each value comes from the form that cancels least, and each derivative
from the equation of the result, so that it holds at repeated eigenvalues and at A = B, to any
order. Entry by entry, errors are relative to what the deviations of the coordinates make of it.
Nothing here checks its arguments; covariances are symmetric.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from .._linalg import (
    Matrix,
    congruence,
    divided,
    least_correlation,
    lyapunov_in_basis,
    product,
    singular,
    symmetric,
)
from .._types import Scalar

# Coordinates whose deviations differ by more are apart: T - I loses no digits there.
_APART = 8.0


@jax.custom_jvp
def horizontal_part(s: Matrix, x: Matrix) -> Matrix:
    """Projects in the singular vectors of s; scaled, so that no square underflows."""
    left, values, right_t = singular(s)
    inside = product(left.T, x, right_t.T)
    sizes = jnp.hypot(values[:, None], values[None, :])
    mine, other = values[None, :] / sizes, values[:, None] / sizes
    return product(left, mine * (mine * inside + other * inside.T), right_t)


@horizontal_part.defjvp
def _horizontal_jvp(
    primals: tuple[Matrix, Matrix], tangents: tuple[Matrix, Matrix]
) -> tuple[Matrix, Matrix]:
    """Differentiates the formula by Lyapunov's equation, which needs no singular vectors."""
    return horizontal_part(*primals), jax.jvp(_horizontal_by_lyapunov, primals, tangents)[1]


def _horizontal_by_lyapunov(s: Matrix, x: Matrix) -> Matrix:
    pushed = product(x, s.T)
    left, values, _ = singular(jax.lax.stop_gradient(s))
    k = lyapunov_in_basis(product(s, s.T), values, left, pushed + pushed.T)
    return product(k, s)


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


def _squared_jvp(
    primals: tuple[Matrix, Matrix], tangents: tuple[Any, Any]
) -> tuple[Scalar, Scalar]:
    """The envelope theorem: dd^2 = <I - T_AB, dA> + <I - T_BA, dB>."""
    (a, b), (da, db) = primals, tangents
    rate = jnp.zeros((), jnp.result_type(a, b))
    # A singular matrix that is held fixed must not put its infinite derivative times zero here.
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
def _brenier_jvp(
    primals: tuple[Matrix, Matrix], tangents: tuple[Matrix, Matrix]
) -> tuple[Matrix, Matrix]:
    t = brenier(*primals)
    return t, _map_rate(*primals, t, *tangents)


@jax.custom_jvp
def excess(a: Matrix, b: Matrix) -> Matrix:
    """K = T - I from K A (I + T)/2 + (I + T)/2 A K = B - A, which cancels nothing."""
    eye, t = jnp.eye(a.shape[0], dtype=a.dtype), brenier(a, b)
    middle = 0.5 * (eye + t)
    z, f, lengths, _ = congruence(a, middle)
    near = divided(functools.partial(_sandwich, a, middle), (z, f, lengths**2), b - a)
    ratio = jnp.sqrt(jnp.abs(jnp.diagonal(b))) / jnp.sqrt(jnp.abs(jnp.diagonal(a)))
    apart = (ratio < 1 / _APART) | (ratio > _APART)
    return symmetric(jnp.where(apart[:, None] | apart[None, :], t - eye, near))


@excess.defjvp
def _excess_jvp(
    primals: tuple[Matrix, Matrix], tangents: tuple[Matrix, Matrix]
) -> tuple[Matrix, Matrix]:
    return excess(*primals), _map_rate(*primals, brenier(*primals), *tangents)


@jax.custom_jvp
def between(t: Scalar, a: Matrix, b: Matrix) -> Matrix:
    """N N^T with N = (1 - t) S_A + t S_B, of factors as near as can be: nothing is inverted."""
    factor, _, _, other = congruence(a, b)
    moved = (1 - t) * factor + t * other
    return symmetric(product(moved, moved.T))


@between.defjvp
def _between_jvp(
    primals: tuple[Scalar, Matrix, Matrix], tangents: tuple[Scalar, Matrix, Matrix]
) -> tuple[Matrix, Matrix]:
    """Differentiates the same by the map, which needs no factors."""
    return between(*primals), jax.jvp(_between_by_map, primals, tangents)[1]


def _between_by_map(t: Scalar, a: Matrix, b: Matrix) -> Matrix:
    crossed = product(brenier(a, b), a)
    return (1 - t) ** 2 * a + t**2 * b + t * (1 - t) * (crossed + crossed.T)


def _map_rate(a: Matrix, b: Matrix, t: Matrix, da: Matrix, db: Matrix) -> Matrix:
    """From T A T = B: dT A T + T A dT = dB - T dA T."""
    z, f, lengths, _ = congruence(*jax.lax.stop_gradient((a, b)))
    change = symmetric(db - product(t, da, t))
    return symmetric(divided(functools.partial(_sandwich, a, t), (z, f, lengths), change))


def _sandwich(a: Matrix, u: Matrix, x: Matrix) -> Matrix:
    """The operator whose inverse a congruence of A and U gives."""
    return product(x, a, u) + product(u, a, x)
