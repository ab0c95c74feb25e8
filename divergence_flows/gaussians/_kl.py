"""The KL divergence between two Gaussians."""

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import raise_if
from .._linalg import product
from .._types import Matrix, Scalar, Values, Vector
from ._gaussian import Gaussian, no_time
from ._low_rank import Law, LowRankGaussian

_NODES, _MASSES = np.polynomial.legendre.leggauss(10)
_X, _WEIGHTS = (_NODES + 1) / 2, _MASSES / 2


def gaussian_kl(q: Law, p: Law) -> Scalar:
    r"""KL(q || p) between two Gaussians, with all its digits when they are nearly equal.

    With W = S_p^{-1} S_q and d = S_p^{-1}(mu_q - mu_p) it is
    $\tfrac12 (|W|_F^2 - dim - \log\det W W^T + |d|^2)$; near W W^T = I the first three are summed
    as $e_i - \log(1 + e_i)$, e the eigenvalues of $W W^T - I$.

    Two laws of low rank take dim rank^2, without a matrix of size dim, and err by eps dim.

    Args:
        q: One Gaussian, or one of low rank.
        p: The other, of the same dimension, its factor invertible.

    Returns:
        The divergence [nats]; infinite if q's factor is singular, NaN if q holds one.

    Raises:
        ValueError: If the dimensions differ, or one has a time axis.
        EquinoxRuntimeError: If p is singular or not finite.

    References:
        theory.md, trap 15: no subtraction of log determinants.
    """
    for name, law in (("q", q), ("p", p)):
        no_time(f"gaussian_kl: `{name}`", law.mean)
    if q.mean.shape != p.mean.shape:
        words = f"`q` has dimension {q.mean.size} and `p` {p.mean.size}; pass two of one."
        raise ValueError(f"gaussian_kl: {words}")
    held = jax.lax.stop_gradient((p.mean, p.log_det()))
    message = "gaussian_kl: `p` has a singular scale or is not finite. Pass one of full rank."
    p = raise_if(p, ~(jnp.all(jnp.isfinite(held[0])) & jnp.isfinite(held[1])), message)
    if isinstance(q, LowRankGaussian) and isinstance(p, LowRankGaussian):
        return _low_rank_kl(q, p)
    q, p = _dense(q), _dense(p)
    shift = p.standardise(q.mean)
    if q.diagonal and p.diagonal:
        gap = _diagonal_gap(q.scale, p.scale)
    else:
        both = jnp.concatenate([q.matrix, q.matrix - p.matrix], axis=1)
        gap = _matrix_gap(*jnp.split(jnp.linalg.solve(p.matrix, both), 2, axis=1))
    return 0.5 * (gap + jnp.sum(shift**2))


def _low_rank_kl(q: LowRankGaussian, p: LowRankGaussian) -> Scalar:
    """The same of two laws of low rank, without a matrix of size dim."""
    thin, low = p._capacitance()
    other = q.factor / p.scale[:, None]
    shift = (q.mean - p.mean) / p.scale
    rows = jax.scipy.linalg.solve_triangular(low, thin.T, lower=True)
    ratio = q.scale / p.scale
    # The squares of rows are what p's precision takes from the identity.
    trace = jnp.sum(other**2) - jnp.sum((rows @ other) ** 2) - jnp.sum(rows**2 * ratio**2)
    own = jnp.diagonal(q._capacitance()[1])
    logs = jnp.sum(jnp.log(jnp.diagonal(low))) - jnp.sum(jnp.log(own))
    near = _diagonal_gap(q.scale, p.scale)
    return 0.5 * (near + trace + jnp.sum(shift**2) - jnp.sum((rows @ shift) ** 2)) + logs


def _diagonal_gap(scale: Vector, other: Vector) -> Scalar:
    """Sums e - log(1 + e) over coordinates, 1 + e the ratio of variances."""
    change = (scale - other) / other
    return jnp.sum(_gap(change * (2 + change), 2 * jnp.log(jnp.abs(scale / other))))


def _dense(law: Law) -> Gaussian:
    """The same law with a factor that a matrix can be made of."""
    if isinstance(law, Gaussian):
        return law
    return Gaussian(law.mean, jnp.linalg.cholesky(law.covariance))


def _gap(excess: Values, log: Values) -> Values:
    r"""Evaluates $e - \log(1 + e)$, near zero as $e^2 \int_0^1 x / (1 + e x)\,dx$."""
    near = jnp.where(jnp.abs(excess) < 0.5, excess, 0.0)
    x, weights = jnp.asarray(_X, near.dtype), jnp.asarray(_WEIGHTS, near.dtype)
    integral = jnp.sum(weights * x / (1 + near[..., None] * x), axis=-1)
    return jnp.where(jnp.abs(excess) < 0.5, near**2 * integral, excess - log)


@jax.custom_jvp
def _matrix_gap(ratio: Matrix, change: Matrix) -> Scalar:
    r"""Evaluates $|W|_F^2 - dim - \log\det W W^T$ of W = `ratio` = I + `change`."""
    excess = change + change.T + product(change, change.T)
    eigenvalues = jnp.linalg.eigvalsh(excess)
    near = jnp.all(jnp.abs(eigenvalues) < 0.5)
    # Far from I a small eigenvalue of W W^T would be lost beside the large ones.
    far = jnp.trace(excess) - 2 * jnp.linalg.slogdet(ratio)[1]
    return jnp.where(near, jnp.sum(_gap(eigenvalues, jnp.log1p(eigenvalues))), far)


@_matrix_gap.defjvp
def _matrix_gap_jvp(
    primals: tuple[Matrix, Matrix], tangents: tuple[Matrix, Matrix]
) -> tuple[Scalar, Scalar]:
    """Uses the closed gradient 2 W^{-T} (W^T W - I), right at repeated eigenvalues too."""
    ratio, change = primals
    excess = change + change.T + product(change.T, change)
    gradient = jnp.linalg.solve(ratio.T, excess)
    return _matrix_gap(*primals), 2 * jnp.sum(gradient * tangents[0])
