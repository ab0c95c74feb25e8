r"""Functions of symmetric matrices whose derivatives hold at repeated eigenvalues too.

Derivatives come from the equation that defines the result, solved in its eigenbasis, never from
eigenvectors, which have none where eigenvalues meet. Each rule is made of such functions again, so
it can be differentiated any number of times, in either mode.

A spectrum comes from a factor: with $\Sigma = S S^T$ the eigenvalues are squares of singular
values and cannot be negative. The factor is taken of the matrix scaled to unit diagonal, so
variances of very different size keep their digits.
"""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Matrix = Float[Array, "dim dim"]

# Roundoff in a matrix of unit diagonal, in units of dim * eps: what a product of a few matrices
# may leave below zero, and what must be left above for an inverse to have digits.
_BELOW, _ABOVE = -10.0, 1.0
_COVARIANCE = "Pass a covariance matrix, S @ S.T of a factor S for one."
_FULL_RANK = "Pass a covariance of full rank, S @ S.T of an invertible S for one, or use float64."


def product(*matrices: Float[Array, "_ _"]) -> Float[Array, "_ _"]:
    """Multiplies from left to right in full precision, also where a GPU would round to TF32.

    Args:
        matrices: The factors.

    Returns:
        Their product.
    """
    return functools.reduce(functools.partial(jnp.matmul, precision="highest"), matrices)


def symmetric(a: Matrix) -> Matrix:
    """Half of a matrix plus its transpose: reads both triangles.

    Args:
        a: Any square matrix.

    Returns:
        Its symmetric part.
    """
    return 0.5 * a + 0.5 * a.T


def definite(sigma: Matrix, owner: str, remedy: str = _FULL_RANK) -> Matrix:
    """Refuses a matrix that is not positive definite to working precision.

    Args:
        sigma: Its symmetric part is meant.
        owner: Function and argument, for the message.
        remedy: What to do instead, for the message.

    Returns:
        The symmetric part.

    Raises:
        ValueError: If the matrix is empty.
        EquinoxRuntimeError: If the matrix has an eigenvalue below roundoff, or is not finite.
    """
    some_rows(sigma, owner)
    message = f"{owner} is not positive definite to working precision. {remedy}"
    return _bounded_below(sigma, _ABOVE, message)


def semidefinite(sigma: Matrix, owner: str, remedy: str = _COVARIANCE) -> Matrix:
    """Refuses a matrix that has a negative eigenvalue; roundoff about zero is none.

    Args:
        sigma: Its symmetric part is meant.
        owner: Function and argument, for the message.
        remedy: What to do instead, for the message.

    Returns:
        The symmetric part.

    Raises:
        ValueError: If the matrix is empty.
        EquinoxRuntimeError: If the matrix is indefinite or not finite.
    """
    some_rows(sigma, owner)
    message = f"{owner} has a negative eigenvalue or is not finite. {remedy}"
    return _bounded_below(sigma, _BELOW, message)


def some_rows(a: Matrix, owner: str) -> None:
    """Refuses a matrix without entries, of which no eigenvalue can be asked.

    Args:
        a: Any square matrix.
        owner: Function and argument, for the message.

    Raises:
        ValueError: If it is 0 by 0.
    """
    if not a.size:
        raise ValueError(f"{owner} is empty, of shape {a.shape}; pass a matrix of one row or more.")


def _bounded_below(sigma: Matrix, floor: float, message: str) -> Matrix:
    """Compares the least eigenvalue of the matrix of unit diagonal with `floor * dim * eps`."""
    sigma = symmetric(sigma)
    _, scaled = _unit_diagonal(jax.lax.stop_gradient(sigma))
    least = jnp.min(jnp.linalg.eigvalsh(scaled))
    bound = floor * sigma.shape[0] * jnp.finfo(sigma.dtype).eps
    return eqx.error_if(sigma, ~(least >= bound), message)  # a NaN is refused too


def _unit_diagonal(sigma: Matrix) -> tuple[Float[Array, " dim"], Matrix]:
    """Scales to a correlation matrix; a row of zero variance stays as it is."""
    size = jnp.sqrt(jnp.abs(jnp.diagonal(sigma)))
    size = jnp.where(size > 0, size, 1.0)
    return size, sigma / size[:, None] / size[None, :]


def factors(sigma: Matrix) -> tuple[Matrix, Matrix]:
    r"""A factor S of $\Sigma = S S^T$ and its inverse transpose; not differentiable.

    Args:
        sigma: Symmetric positive semidefinite. An eigenvalue within roundoff of zero, of either
            sign, counts by its size.

    Returns:
        S and $S^{-T}$, which is infinite where sigma is singular.
    """
    size, scaled = _unit_diagonal(sigma)
    values, vectors = jnp.linalg.eigh(scaled)
    roots = jnp.sqrt(jnp.abs(values))
    return size[:, None] * vectors * roots, vectors / roots / size[:, None]


def _roots(sigma: Matrix) -> tuple[Float[Array, " dim"], Matrix]:
    """Square roots of eigenvalues, never negative, and eigenvectors as columns."""
    vectors, roots, _ = jnp.linalg.svd(factors(symmetric(sigma))[0])
    return roots, vectors


def sqrt(sigma: Matrix) -> Matrix:
    r"""The positive semidefinite R with $R^2 = \Sigma$, differentiable to any order.

    Args:
        sigma: Positive semidefinite; its symmetric part is meant.

    Returns:
        R. Its derivative is finite where sigma is positive definite.

    Raises:
        EquinoxRuntimeError: If sigma is indefinite or not finite.

    References:
        Higham, Functions of Matrices, 2008, section 6.1.
    """
    return root(semidefinite(sigma, "sqrt: `sigma`"))


@jax.custom_jvp
def root(sigma: Matrix) -> Matrix:
    """The same as `sqrt`, for a matrix known to be positive semidefinite.

    Args:
        sigma: Positive semidefinite, unchecked.

    Returns:
        Its positive semidefinite square root.
    """
    roots, vectors = _roots(sigma)
    return product(vectors * roots, vectors.T)


@root.defjvp
def _root_jvp(primals: tuple[Matrix], tangents: tuple[Matrix]) -> tuple[Matrix, Matrix]:
    """From R^2 = Sigma: R dR + dR R = dSigma."""
    result = root(*primals)
    return result, lyapunov(result, symmetric(*tangents))


def lyapunov(sigma: Matrix, c: Matrix) -> Matrix:
    r"""The X with $\Sigma X + X \Sigma = C$, differentiable to any order.

    Args:
        sigma: Positive definite, unchecked; its symmetric part is meant.
        c: Any square matrix; X is symmetric where it is.

    Returns:
        X.

    References:
        Bhatia, Jain & Lim, On the Bures-Wasserstein distance, Expo. Math. 2019.
    """
    sigma = symmetric(sigma)
    c = c.astype(jnp.result_type(sigma, c))
    # Not a custom_jvp: in reverse mode JAX would drop its rule where only C is differentiated
    # first, and then take derivatives of eigenvectors.
    operator = functools.partial(_lyapunov_operator, sigma)
    solve = functools.partial(_lyapunov_solution, sigma)
    return jax.lax.custom_linear_solve(operator, c, solve, symmetric=True)


def _lyapunov_operator(sigma: Matrix, x: Matrix) -> Matrix:
    return product(sigma, x) + product(x, sigma)


def _lyapunov_solution(sigma: Matrix, operator: Callable[..., Any], c: Matrix) -> Matrix:
    """Divides by sums of eigenvalues."""
    roots, vectors = _roots(sigma)
    inside = product(vectors.T, c, vectors) / (roots[:, None] ** 2 + roots[None, :] ** 2)
    return product(vectors, inside, vectors.T)
