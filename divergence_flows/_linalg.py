r"""Functions of symmetric matrices whose derivatives hold at repeated eigenvalues too.

Derivatives come from the equation that defines the result, solved in its eigenbasis, never from
eigenvectors, which have none where eigenvalues meet. Each rule is made of such functions again, so
it can be differentiated any number of times, in either mode.

Digits belong to entries, not to norms: with $\Sigma = D R D$, D the deviations and R correlations,
entry ij of a function of $\Sigma$ has an error of eps times the condition of R, relative to its own
size. So $\Sigma$ becomes a factor D L, L triangular from R, large deviations first, and Jacobi's
rotations diagonalise it: LAPACK's svd would lose all that is small beside the largest.
"""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

Matrix = Float[Array, "dim dim"]

# Roundoff in a matrix of unit diagonal, in units of dim * eps: what a product of a few matrices
# may leave below zero, and what must be left above for an inverse to have digits.
_BELOW, _ABOVE = -10.0, 1.0
# Jacobi converges quadratically: five to ten sweeps are usual.
_SWEEPS = 40
_COVARIANCE = "Pass a covariance matrix, S @ S.T of a factor S for one."
_FULL_RANK = "Pass a covariance of full rank, S @ S.T of an invertible S for one, or use float64."


def product(*matrices: Float[Array, "_ _"]) -> Float[Array, "_ _"]:
    """Multiplies from left to right in full precision, also where a GPU would round to TF32."""
    return functools.reduce(functools.partial(jnp.matmul, precision="highest"), matrices)


def symmetric(a: Matrix) -> Matrix:
    """Half of a matrix plus its transpose: reads both triangles."""
    return 0.5 * a + 0.5 * a.T


def definite(sigma: Matrix, caller: str, remedy: str = _FULL_RANK) -> Matrix:
    """Refuses a matrix that is not positive definite to working precision."""
    some_rows(sigma, caller)
    message = f"{caller} is not positive definite to working precision. {remedy}"
    return _bounded_below(sigma, _ABOVE, message)


def semidefinite(
    sigma: Matrix, caller: str, remedy: str = _COVARIANCE, result: Matrix | None = None
) -> Matrix:
    """Refuses a matrix that has a negative eigenvalue; roundoff about zero is none."""
    some_rows(sigma, caller)
    message = f"{caller} has a negative eigenvalue or is not finite. {remedy}"
    return _bounded_below(sigma, _BELOW, message, result)


def some_rows(a: Matrix, caller: str) -> None:
    """Refuses a matrix without entries, of which no eigenvalue can be asked."""
    if not a.size:
        raise ValueError(
            f"{caller} is empty, of shape {a.shape}; pass a matrix of one row or more."
        )


def _bounded_below(
    sigma: Matrix, floor: float, message: str, result: Matrix | None = None
) -> Matrix:
    """Compares the least eigenvalue of the matrix of unit diagonal with `floor * dim * eps`."""
    sigma = symmetric(sigma)
    least = least_correlation(jax.lax.stop_gradient(sigma))
    bound = floor * sigma.shape[0] * jnp.finfo(sigma.dtype).eps
    # A NaN is refused too.
    return eqx.error_if(sigma if result is None else result, ~(least >= bound), message)


def least_correlation(sigma: Matrix) -> Float[Array, ""]:
    """The least eigenvalue after scaling to unit diagonal; not differentiable at repeated ones."""
    return jnp.min(jnp.linalg.eigvalsh(_unit_diagonal(sigma)[1]))


def _unit_diagonal(sigma: Matrix) -> tuple[Float[Array, " dim"], Matrix]:
    """Scales to a correlation matrix; a row of zero variance stays as it is."""
    size = jnp.sqrt(jnp.abs(jnp.diagonal(sigma)))
    size = jnp.where(size > 0, size, 1.0)
    return size, sigma / size[:, None] / size[None, :]


@jax.jit
def congruence(
    a: Matrix, b: Matrix
) -> tuple[Matrix, Matrix, Float[Array, " dim"], Float[Array, "dim dim"]]:
    """Makes two covariances diagonal at once; not differentiable."""
    order = jnp.argsort(-jnp.sqrt(jnp.abs(jnp.diagonal(a))) * jnp.sqrt(jnp.abs(jnp.diagonal(b))))
    back = jnp.argsort(order)
    (size, low), (other_size, other) = _lower(a, order), _lower(b, order)
    s_a, s_b = size[:, None] * low, other_size[:, None] * other
    turns, rows = _orthogonal_rows(product(s_a.T, s_b))
    lengths = _lengths(rows)
    f = jax.scipy.linalg.solve_triangular(low, turns.T, lower=True, trans="T") / size[:, None]
    # Rows of no length have directions too, which QR finds if they come last.
    falling = jnp.argsort(-lengths)
    q, r = jnp.linalg.qr(rows[falling].T)
    right = jnp.where(jnp.diagonal(r) < 0, -q, q)[:, jnp.argsort(falling)]
    return product(s_a, turns.T)[back], f[back], lengths, product(s_b, right)[back]


@jax.jit
def spectrum(sigma: Matrix) -> tuple[Float[Array, " dim"], Matrix]:
    """Square roots of eigenvalues, never negative, and eigenvectors; not differentiable."""
    order = jnp.argsort(-jnp.abs(jnp.diagonal(sigma)))
    size, low = _lower(sigma, order)
    turns, rows = _orthogonal_rows(size[:, None] * low)
    return _lengths(rows), turns.T[jnp.argsort(order)]


@jax.jit
def singular(s: Matrix) -> tuple[Matrix, Float[Array, " dim"], Matrix]:
    """Singular vectors and values of an invertible factor; not differentiable."""
    size = _lengths(s)
    size = jnp.where(size > 0, size, 1.0)
    order = jnp.argsort(-size)
    q, r = jnp.linalg.qr((s / size[:, None])[order].T)
    turns, rows = _orthogonal_rows(size[order][:, None] * r.T)
    values = _lengths(rows)
    return turns.T[jnp.argsort(order)], values, product(rows / values[:, None], q.T)


def _lower(sigma: Matrix, order: Int[Array, " dim"]) -> tuple[Float[Array, " dim"], Matrix]:
    """Deviations, and the triangular factor of correlations, of coordinates in some order."""
    size, scaled = _unit_diagonal(sigma[order][:, order])
    low = jnp.linalg.cholesky(scaled)
    values, vectors = jnp.linalg.eigh(scaled)
    # A singular matrix has no Cholesky factor that could be computed; roundoff counts by its size.
    roots = (vectors * jnp.sqrt(jnp.abs(values))).T
    return size, jnp.where(jnp.all(jnp.isfinite(low)), low, jnp.linalg.qr(roots)[1].T)


def _lengths(rows: Float[Array, "n m"]) -> Float[Array, " n"]:
    """Lengths of rows, without squares that underflow."""
    most = jnp.max(jnp.abs(rows), 1)
    most = jnp.where(most > 0, most, 1.0)
    return most * jnp.linalg.norm(rows / most[:, None], axis=1)


def _orthogonal_rows(rows: Matrix) -> tuple[Matrix, Matrix]:
    """Jacobi's one-sided method: turns of rows after which they are orthogonal, and those rows."""
    n, m = rows.shape
    half = (n + 1) // 2
    eye = jnp.eye(n, dtype=rows.dtype)
    state = jnp.pad(jnp.concatenate([rows, eye], 1), ((0, 2 * half - n), (0, 0)))
    enough = n * jnp.finfo(rows.dtype).eps

    def turn(_: Int[Array, ""], carry: tuple[Array, Array]) -> tuple[Array, Array]:
        state, most = carry
        one, other = state[:half], state[half:]
        lengths = _lengths(state[:, :m])
        lengths = jnp.where(lengths > 0, lengths, 1.0)
        units = state[:, :m] / lengths[:, None]
        cosine = jnp.sum(units[:half] * units[half:], 1)
        ratio = lengths[half:] / lengths[:half]
        gap = 0.5 * (ratio - 1 / ratio)
        sum_ = gap + jnp.where(gap < 0, -1.0, 1.0) * jnp.hypot(gap, cosine)
        tangent = jnp.where(cosine == 0, 0.0, cosine / jnp.where(cosine == 0, 1.0, sum_))
        c = (1 / jnp.hypot(1.0, tangent))[:, None]
        s = c * tangent[:, None]
        one, other = c * one - s * other, s * one + c * other
        # A ring of which one stands still: after all turns everyone is back.
        one, other = (
            jnp.concatenate([one[:1], other[:1], one[1:-1]])[:half],
            jnp.concatenate([other[1:], one[-1:]]) if half > 1 else other,
        )
        return jnp.concatenate([one, other]), jnp.maximum(most, jnp.max(jnp.abs(cosine)))

    def sweep(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        state, _, count = carry
        return *jax.lax.fori_loop(
            0, 2 * half - 1, turn, (state, jnp.zeros((), rows.dtype))
        ), count + 1

    def unfinished(carry: tuple[Array, Array, Array]) -> Array:
        return (carry[1] > enough) & (carry[2] < _SWEEPS)

    state, _, _ = jax.lax.while_loop(
        unfinished, sweep, (state, jnp.ones((), rows.dtype), jnp.asarray(0))
    )
    return state[:n, m:], state[:n, :m]


def sqrt(sigma: Matrix) -> Matrix:
    r"""The positive semidefinite R with $R^2 = \Sigma$, differentiable to any order."""
    return root(semidefinite(sigma, "sqrt: `sigma`"))


@jax.custom_jvp
def root(sigma: Matrix) -> Matrix:
    """The same as `sqrt`, for a matrix known to be positive semidefinite."""
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
    return lyapunov_in_basis(sigma, roots, vectors, c.astype(jnp.result_type(sigma, c)))


def lyapunov_in_basis(
    sigma: Matrix, roots: Float[Array, " dim"], vectors: Matrix, c: Matrix
) -> Matrix:
    """The same as `lyapunov`, for a spectrum that is known."""
    basis = jax.lax.stop_gradient((vectors, vectors, roots**2))
    return divided(functools.partial(_lyapunov_operator, sigma), basis, c)


def _lyapunov_operator(sigma: Matrix, x: Matrix) -> Matrix:
    return product(sigma, x) + product(x, sigma)


def divided(
    operator: Callable[[Matrix], Matrix],
    basis: tuple[Matrix, Matrix, Float[Array, " dim"]],
    c: Matrix,
) -> Matrix:
    """Solves a linear equation for a matrix that a congruence makes diagonal."""
    # Not a custom_jvp: in reverse mode JAX would drop its rule where only C is differentiated
    # first, and then take derivatives of eigenvectors.
    z, f, sizes = basis
    solve = functools.partial(_divided, z, f, sizes)
    transposed = functools.partial(_divided, f, z, sizes)
    return jax.lax.custom_linear_solve(operator, c, solve, transpose_solve=transposed)


def _divided(
    z: Matrix,
    f: Matrix,
    sizes: Float[Array, " dim"],
    operator: Callable[..., Any],
    c: Matrix,
) -> Matrix:
    """Divides by sums of sizes."""
    return product(f, product(z.T, c, z) / (sizes[:, None] + sizes[None, :]), f.T)


def safe_sqrt(square: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Square root of what is not negative, with gradient zero at zero."""
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1.0)), 0.0)
