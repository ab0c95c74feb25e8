r"""Bures-Wasserstein maths without its doors: horizontal parts, Brenier maps, squared distance.

T A T = B and K = T - I. Each value comes from the form that cancels least, and each derivative
from the equation of the result, so that it holds at repeated eigenvalues and at A = B, to any
order. Nothing here checks its arguments; covariances are symmetric.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from ._matrix import Matrix, factors, lyapunov, product, root, symmetric
from ._types import Scalar


@jax.custom_jvp
def horizontal_part(s: Matrix, x: Matrix) -> Matrix:
    """Projects in the singular vectors of s; scaled, so that no square underflows."""
    left, values, right_t = jnp.linalg.svd(s)
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
    return product(lyapunov(product(s, s.T), pushed + pushed.T), s)


@jax.custom_jvp
def squared(a: Matrix, b: Matrix) -> Scalar:
    """|K S_A|^2 where B is within half of A, else the alignment of factors.

    The first has a relative error of eps times the condition of A; the second an absolute one,
    and needs no inverse.
    """
    (s_a, back), (s_b, _) = factors(a), factors(b)
    left, _, right_t = jnp.linalg.svd(product(s_a.T, s_b))
    aligned = s_a - product(s_b, right_t.T, left.T)
    near = jnp.sum(product(back.T, b - a, back) ** 2) <= 0.25
    return jnp.sum(jnp.where(near, product(excess(a, b), s_a), aligned) ** 2)


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
    """T = W W^T, so symmetric and positive; from singular values, so never a negative root."""
    (s_a, back), (s_b, _) = factors(a), factors(b)
    left, values, _ = jnp.linalg.svd(product(s_a.T, s_b))
    half = product(back, left) * jnp.sqrt(values)
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
    middle = 0.5 * (jnp.eye(a.shape[0], dtype=a.dtype) + brenier(a, b))
    return _sandwich(a, middle, b - a)


@excess.defjvp
def _excess_jvp(
    primals: tuple[Matrix, Matrix], tangents: tuple[Matrix, Matrix]
) -> tuple[Matrix, Matrix]:
    return excess(*primals), _map_rate(*primals, brenier(*primals), *tangents)


def _map_rate(a: Matrix, b: Matrix, t: Matrix, da: Matrix, db: Matrix) -> Matrix:
    """From T A T = B: dT A T + T A dT = dB - T dA T."""
    return _sandwich(a, t, symmetric(db - product(t, da, t)))


def _sandwich(a: Matrix, u: Matrix, h: Matrix) -> Matrix:
    """The symmetric X with X A U + U A X = H; U positive.

    With Q = U^{1/2} it is Lyapunov's equation for Q^{-1} X Q^{-1}, whose matrix Q A Q is as well
    conditioned as A where U is near I.
    """
    q = root(u)
    inside = jnp.linalg.solve(q, jnp.linalg.solve(q, h).T)
    return symmetric(product(q, lyapunov(product(q, a, q), inside), q))
