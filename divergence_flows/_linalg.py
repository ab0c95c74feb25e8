r"""Functions of symmetric matrices whose derivatives hold at repeated eigenvalues too.

Derivatives solve the equation that defines the result, in its eigenbasis; they never differentiate
eigenvectors, which have no derivative where eigenvalues meet. Errors are relative to each entry,
not to a norm: with $\Sigma = D R D$, D the deviations, R the correlations, an entry of a function
of $\Sigma$ has an error of eps times the condition of R, relative to its own size. So $\Sigma$ is
factored as D L, and Jacobi rotations diagonalise it: LAPACK would lose all but the largest entries.
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ._types import Function, IntScalar, Matrix, Scalar, Values, Vector

# The least eigenvalue, in units of dim * eps, of a matrix of unit diagonal: roundoff in a product
# may leave it this far below zero; an inverse has digits only this far above.
_BELOW, _ABOVE = -10.0, 1.0
# Jacobi converges quadratically: five to ten sweeps are usual.
_SWEEPS = 40
_COVARIANCE = "Pass a covariance matrix, S @ S.T of a factor S for one."
_FULL_RANK = "Pass a covariance of full rank, S @ S.T of an invertible S for one, or use float64."


def differentiated_as(formula: Function) -> Function:
    """Decorates a function whose derivatives are those of another formula for the same."""

    def decorate(function: Function) -> Function:
        rule = jax.custom_jvp(function)
        rule.defjvp(lambda xs, dxs: (rule(*xs), jax.jvp(formula, xs, dxs)[1]))
        return rule

    return decorate


def product(*matrices: Float[Array, "_ _"]) -> Float[Array, "_ _"]:
    """Multiplies from left to right in full precision, also where a GPU would round to TF32."""
    return functools.reduce(functools.partial(jnp.matmul, precision="highest"), matrices)


def symmetric(a: Matrix) -> Matrix:
    """Half of a matrix plus its transpose: reads both triangles."""
    return 0.5 * a + 0.5 * a.T


def safe_sqrt(x: Values) -> Values:
    """Square root of a sum of squares, whose derivative at zero is zero; NaN stays NaN."""
    zero = x == 0
    return jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, x)))


def or_one(x: Values) -> Values:
    """Replaces what is not positive by one: a divisor that leaves rows of zeros as they are."""
    return jnp.where(x > 0, x, 1.0)


def definite(sigma: Matrix, caller: str, remedy: str = _FULL_RANK) -> Matrix:
    """Refuses a matrix that is not positive definite to working precision."""
    message = f"{caller} is not positive definite to working precision. {remedy}"
    return _bounded_below(sigma, _ABOVE, caller, message)


def semidefinite(
    sigma: Matrix, caller: str, remedy: str = _COVARIANCE, result: Matrix | None = None
) -> Matrix:
    """Refuses a matrix that has a negative eigenvalue, beyond roundoff; returns `result` or it."""
    message = f"{caller} has a negative eigenvalue or is not finite. {remedy}"
    return _bounded_below(sigma, _BELOW, caller, message, result)


def not_empty(a: Matrix, caller: str) -> None:
    """Refuses a matrix without entries, which has no eigenvalues."""
    if not a.size:
        raise ValueError(f"{caller} is empty, of shape {a.shape}; pass a matrix with rows.")


def _bounded_below(
    sigma: Matrix, floor: float, caller: str, message: str, result: Matrix | None = None
) -> Matrix:
    """Compares the least eigenvalue of the matrix of unit diagonal with `floor * dim * eps`."""
    not_empty(sigma, caller)
    sigma = symmetric(sigma)
    least = least_correlation(jax.lax.stop_gradient(sigma))
    bound = floor * sigma.shape[0] * jnp.finfo(sigma.dtype).eps
    # NaN is refused too.
    return eqx.error_if(sigma if result is None else result, ~(least >= bound), message)


def least_correlation(sigma: Matrix) -> Scalar:
    """The least eigenvalue after scaling to unit diagonal; not differentiable at repeated ones."""
    return jnp.min(jnp.linalg.eigvalsh(_unit_diagonal(sigma)[1]))


def _unit_diagonal(sigma: Matrix) -> tuple[Vector, Matrix]:
    """Scales to a correlation matrix; a row of zero variance stays as it is."""
    size = or_one(jnp.sqrt(jnp.abs(jnp.diagonal(sigma))))
    return size, sigma / size[:, None] / size[None, :]


@jax.jit
def congruence(a: Matrix, b: Matrix) -> tuple[Matrix, Matrix, Vector, Matrix]:
    """Makes two covariances diagonal at once; not differentiable."""
    order = jnp.argsort(-jnp.sqrt(jnp.abs(jnp.diagonal(a))) * jnp.sqrt(jnp.abs(jnp.diagonal(b))))
    back = jnp.argsort(order)
    (size, low), (other_size, other) = _lower(a, order), _lower(b, order)
    s_a, s_b = size[:, None] * low, other_size[:, None] * other
    turns, rows, lengths = _orthogonal_rows(product(s_a.T, s_b))
    f = jax.scipy.linalg.solve_triangular(low, turns.T, lower=True, trans="T") / size[:, None]
    # Rows of zero length need directions too, which QR finds if they come last.
    falling = jnp.argsort(-lengths)
    q, r = jnp.linalg.qr(rows[falling].T)
    right = jnp.where(jnp.diagonal(r) < 0, -q, q)[:, jnp.argsort(falling)]
    return product(s_a, turns.T)[back], f[back], lengths, product(s_b, right)[back]


@jax.jit
def spectrum(sigma: Matrix) -> tuple[Vector, Matrix]:
    """Square roots of eigenvalues, never negative, and eigenvectors; not differentiable."""
    order = jnp.argsort(-jnp.abs(jnp.diagonal(sigma)))
    size, low = _lower(sigma, order)
    turns, _, lengths = _orthogonal_rows(size[:, None] * low)
    return lengths, turns.T[jnp.argsort(order)]


@jax.jit
def singular(s: Matrix) -> tuple[Matrix, Vector, Matrix]:
    """Singular vectors and values of an invertible factor; not differentiable."""
    size = or_one(_lengths(s))
    order = jnp.argsort(-size)
    q, r = jnp.linalg.qr((s / size[:, None])[order].T)
    turns, rows, values = _orthogonal_rows(size[order][:, None] * r.T)
    return turns.T[jnp.argsort(order)], values, product(rows / values[:, None], q.T)


def _lower(sigma: Matrix, order: Int[Array, " dim"]) -> tuple[Vector, Matrix]:
    """Deviations, and the triangular factor of correlations, of coordinates in some order."""
    size, scaled = _unit_diagonal(sigma[order][:, order])
    low = jnp.linalg.cholesky(scaled)
    values, vectors = jnp.linalg.eigh(scaled)
    # A singular matrix has no computable Cholesky factor; roundoff counts by its size.
    roots = (vectors * jnp.sqrt(jnp.abs(values))).T
    return size, jnp.where(jnp.all(jnp.isfinite(low)), low, jnp.linalg.qr(roots)[1].T)


def _lengths(rows: Float[Array, "n m"]) -> Float[Array, " n"]:
    """Lengths of rows, without squares that underflow."""
    most = or_one(jnp.max(jnp.abs(rows), 1))
    return most * jnp.linalg.norm(rows / most[:, None], axis=1)


def _orthogonal_rows(rows: Matrix) -> tuple[Matrix, Matrix, Vector]:
    """One-sided Jacobi: rotations that make rows orthogonal, those rows, and their lengths."""
    n = rows.shape[0]
    half = (n + 1) // 2
    eye = jnp.eye(n, dtype=rows.dtype)
    padded = jnp.pad(jnp.concatenate([rows, eye], 1), ((0, 2 * half - n), (0, 0)))
    # A round-robin in which the first row stays: after a sweep all pairs have met, all are back.
    ring = np.r_[0, half, 1 : half - 1, half + 1 : 2 * half, half - 1][: 2 * half]

    def rotate(_: IntScalar, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        state, most = carry
        lengths = or_one(_lengths(state[:, :n]))
        units = state[:, :n] / lengths[:, None]
        cosine = jnp.sum(units[:half] * units[half:], 1)
        ratio = lengths[half:] / lengths[:half]
        gap = 0.5 * (ratio - 1 / ratio)
        sum_ = gap + jnp.where(gap < 0, -1.0, 1.0) * jnp.hypot(gap, cosine)
        tangent = cosine / jnp.where(cosine == 0, 1.0, sum_)
        c = (1 / jnp.hypot(1.0, tangent))[:, None]
        s = c * tangent[:, None]
        one, other = state[:half], state[half:]
        turned = jnp.concatenate([c * one - s * other, s * one + c * other])
        return turned[ring], jnp.maximum(most, jnp.max(jnp.abs(cosine)))

    def sweep(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        state, most, count = carry
        start = state, jnp.zeros_like(most)
        return *jax.lax.fori_loop(0, 2 * half - 1, rotate, start), count + 1

    def unfinished(carry: tuple[Array, Array, Array]) -> Array:
        return (carry[1] > n * jnp.finfo(rows.dtype).eps) & (carry[2] < _SWEEPS)

    first = padded, jnp.ones((), rows.dtype), jnp.asarray(0)
    state = jax.lax.while_loop(unfinished, sweep, first)[0][:n]
    return state[:, n:], state[:, :n], _lengths(state[:, :n])


@jax.custom_jvp
def root(sigma: Matrix) -> Matrix:
    """The root R, R^2 = Sigma, of a positive semidefinite matrix; differentiable to any order."""
    roots, vectors = spectrum(symmetric(sigma))
    return product(vectors * roots, vectors.T)


@root.defjvp
def _root_jvp(primals: tuple[Matrix], tangents: tuple[Matrix]) -> tuple[Matrix, Matrix]:
    """From R^2 = Sigma: R dR + dR R = dSigma."""
    result = root(*primals)
    return result, lyapunov(result, symmetric(*tangents))


def lyapunov(sigma: Matrix, c: Matrix) -> Matrix:
    r"""The X with $\Sigma X + X \Sigma = C$, differentiable to any order."""
    sigma = symmetric(sigma)
    roots, vectors = spectrum(jax.lax.stop_gradient(sigma))
    c = c.astype(jnp.result_type(sigma, c))
    return solve_in_basis((sigma,), (vectors, vectors, roots**2), c)


def solve_in_basis(
    factors: tuple[Matrix, ...], basis: tuple[Matrix, Matrix, Vector], c: Matrix
) -> Matrix:
    """The X with X P + P^T X = C, P the product of factors that the basis makes diagonal."""
    z, f, sizes = basis
    sums = sizes[:, None] + sizes[None, :]

    def operator(x: Matrix) -> Matrix:
        return product(x, *factors) + product(*factors[::-1], x)

    def solve(z: Matrix, f: Matrix, _: object, c: Matrix) -> Matrix:
        return product(f, product(z.T, c, z) / sums, f.T)

    # Not a custom_jvp: in reverse mode JAX would drop its rule where only C is differentiated
    # first, and then differentiate eigenvectors.
    forward, backward = functools.partial(solve, z, f), functools.partial(solve, f, z)
    return jax.lax.custom_linear_solve(operator, c, forward, transpose_solve=backward)
