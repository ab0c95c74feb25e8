r"""Gaussians of low rank plus a diagonal: $\Sigma = W W^T + \mathrm{diag}(s^2)$.

Everything is in units of s, where T = W/s has orthonormal directions U and $\Sigma_s = I + T T^T$.
Nothing has the size of a covariance. With $R = E[\nabla^2 \log p] + \Sigma^{-1}$, the gradient, all
that moves q are R U, the diagonal of R and the gradient in the mean: the Fisher-Rao direction A is
the covariance of that form with $\Sigma^{-1} A \Sigma^{-1} = R$ on U and on the diagonal.
"""

import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import lineax as lx
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray, Real

from .._checks import no_empty_axes
from .._linalg import product
from .._types import Scalar, Vector, as_float
from ._gaussian import Gaussian, Shape, one_point, over_axes, sizes_of

_LOG_TWO_PI = math.log(2 * math.pi)
Thin = Float[Array, "dim rank"]
Small = Float[Array, "rank rank"]
Parts = tuple[Float[Array, " rank"], Float[Array, " dim"]]
# Conjugate gradients for the diagonal: the system is near the identity where no coordinate is the
# factor's alone, and a direction that is not quite solved is one all the same.
_SOLVED, _MOST = 1e-8, 64
# What is left of a coordinate off U at least, as a share: below it round-off decides.
_BOUND = 1e-3


class LowRankGaussian(eqx.Module):
    r"""The normal distribution of $x = \mu + W a + s \circ b$, $(a, b) \sim N(0, I)$.

    Its covariance $W W^T + \mathrm{diag}(s^2)$ is never formed: sampling and densities cost
    dim rank, by Woodbury's identity, so that ten thousand dimensions are no problem.

    References:
        Ong, Nott & Smith, Gaussian variational approximation with a factor covariance structure,
        2018.
    """

    mean: Float[Array, " dim"]
    factor: Float[Array, "dim rank"]
    scale: Float[Array, " dim"]

    def __init__(
        self,
        mean: Real[ArrayLike, " dim"],
        factor: Real[ArrayLike, "dim rank"],
        scale: Real[ArrayLike, " dim"],
    ) -> None:
        """Keeps a mean, a thin factor and deviations, all [units of x].

        Args:
            mean: The mean.
            factor: W, as many columns as the rank; at most as many as dimensions.
            scale: s, deviations of what the factor leaves; none may be zero where the log density
                is asked for.

        Raises:
            ValueError: If the dimension or the rank is 0, or the rank exceeds the dimension.
        """
        no_empty_axes("LowRankGaussian", "factor", factor)
        dim, rank = np.shape(factor)
        if rank > dim:
            words = f"`factor` has {rank} columns and {dim} rows; pass a `Gaussian`."
            raise ValueError(f"LowRankGaussian: {words}")
        parts = [as_float(part) for part in (mean, factor, scale)]
        dtype = jnp.result_type(*parts)
        self.mean, self.factor, self.scale = (part.astype(dtype) for part in parts)

    @property
    def latent_size(self) -> int:
        """How many standard normal numbers make a sample: rank + dim."""
        return self.mean.size + self.factor.shape[1]

    @property
    def covariance(self) -> Float[Array, "dim dim"]:
        """The covariance as a matrix [units of x, squared]; for small dimensions."""
        return product(self.factor, self.factor.T) + jnp.diag(self.scale**2)

    @property
    def variances(self) -> Float[Array, " dim"]:
        """The diagonal of the covariance [units of x, squared]."""
        return jnp.sum(self.factor**2, axis=1) + self.scale**2

    def push(self, z: Real[ArrayLike, " latent"]) -> Float[Array, " dim"]:
        """Moves rank + dim standard normal numbers, a then b, to mu + W a + s b [units of x]."""
        a, b = self._parts("LowRankGaussian.push", z)
        return self.mean + jnp.matmul(self.factor, a, precision="highest") + self.scale * b

    def sample(self, key: PRNGKeyArray, shape: Shape = ()) -> Float[Array, "... dim"]:
        """Draws samples of shape (*shape, dim), `push` of standard normals [units of x].

        Args:
            key: Key of the draws.
            shape: How many, along which axes; one by default.

        Returns:
            The samples, differentiable in the mean and the factors.

        Raises:
            ValueError: If a size in `shape` is negative.
        """
        sizes = sizes_of("LowRankGaussian.sample", shape)
        z = jr.normal(key, (*sizes, self.latent_size), self.mean.dtype)
        return over_axes(self.push, z)

    def log_prob(self, x: Real[ArrayLike, " dim"]) -> Scalar:
        """Log density at one point [nats]."""
        one_point("LowRankGaussian.log_prob", "x", x, self.mean)
        y = (jnp.asarray(x, self.mean.dtype) - self.mean) / self.scale
        thin, low = self._capacitance()
        along = jax.scipy.linalg.solve_triangular(low, thin.T @ y, lower=True)
        return self._log_prob(jnp.sum(y**2) - jnp.sum(along**2))

    def log_prob_of_push(self, z: Real[ArrayLike, " latent"]) -> Scalar:
        """Log density at `push(z)`, with less round-off than by `log_prob` [nats]."""
        a, b = self._parts("LowRankGaussian.log_prob_of_push", z)
        thin, low = self._capacitance()
        rest = jax.scipy.linalg.solve_triangular(low, a - thin.T @ b, lower=True)
        return self._log_prob(jnp.sum(a**2) + jnp.sum(b**2) - jnp.sum(rest**2))

    def log_det(self) -> Scalar:
        """Half the logarithm of the determinant of the covariance [nats]."""
        low = self._capacitance()[1]
        return jnp.sum(jnp.log(jnp.abs(self.scale))) + jnp.sum(jnp.log(jnp.diagonal(low)))

    def score_of_push(self, z: Real[ArrayLike, " latent"]) -> Float[Array, " dim"]:
        """The gradient of the log density at `push(z)` [nats per unit of x]."""
        a, b = self._parts("LowRankGaussian.score_of_push", z)
        thin, low = self._capacitance()
        w = jax.scipy.linalg.cho_solve((low, True), a - thin.T @ b)
        return -(b + thin @ w) / self.scale

    def _parts(self, caller: str, z: Real[ArrayLike, " latent"]) -> Parts:
        one_point(caller, "z", z, jnp.zeros(self.latent_size))
        z = jnp.asarray(z, self.mean.dtype)
        rank = self.factor.shape[1]
        return z[:rank], z[rank:]

    def _capacitance(self) -> tuple[Thin, Small]:
        """T, and a triangular factor of I + T^T T."""
        thin = self.factor / self.scale[:, None]
        eye = jnp.eye(thin.shape[1], dtype=thin.dtype)
        return thin, jnp.linalg.cholesky(eye + product(thin.T, thin))

    def _log_prob(self, square: Scalar) -> Scalar:
        return -0.5 * (square + self.mean.size * _LOG_TWO_PI) - self.log_det()


# What a fit may return: any structure of the covariance behind one call.
Law = Gaussian | LowRankGaussian


class Direction(NamedTuple):
    """What moves a law: the mean's gradient, R on U and on the diagonal, and A in three parts."""

    rate: Vector  # E[g]
    on_frame: Thin  # R U, in units of s
    diagonal: Vector  # of R, in units of s
    change: Vector  # of the diagonal of A
    thin: Thin  # X, A = diag + U X^T + X U^T
    inverse: Thin  # Y, of the precision, P A P = diag + U Y^T + Y U^T


def check_rank(caller: str, rank: int, dim: int) -> None:
    """Refuses a rank beyond Ledermann's bound: many factors make one covariance there."""
    if rank > dim or (dim - rank) ** 2 < dim + rank:
        words = "a full covariance has no more numbers: leave `rank` out, or pass a smaller one"
        raise ValueError(f"{caller}: `rank` is {rank} in {dim} dimensions; {words}.")


def frame(q: LowRankGaussian) -> tuple[Thin, Small]:
    """Orthonormal directions U, and t with T = U t."""
    return jnp.linalg.qr(q.factor / q.scale[:, None])


def low_rank_averages(
    q: LowRankGaussian,
    u: Thin,
    weights: Float[Array, " n"],
    scores: Float[Array, "n dim"],
    gs: Float[Array, "n dim"],
) -> tuple[Vector, Thin, Vector]:
    """E[g], R U and the diagonal of R, by Stein's identity with the score of q.

    Nodes make no symmetric R. It is symmetrised, since R U stands for both R U and U^T R: where U
    has all but taken a coordinate, its share of R is a small difference of these.
    """
    weighted = weights[:, None] * gs
    own, left = weighted * q.scale, -scores * q.scale
    on_frame = 0.5 * product(own.T, product(left, u)) + 0.5 * product(left.T, product(own, u))
    return weighted.sum(0), on_frame, jnp.sum(own * left, axis=0)


def direction(q: LowRankGaussian, found: tuple[Vector, Thin, Vector]) -> Direction:
    """Solves for the Fisher-Rao direction."""
    rate, on_frame, diagonal = found
    u, t = frame(q)
    half = on_frame - 0.5 * product(u, product(u.T, on_frame))
    wanted = diagonal - 2 * jnp.sum(half * u, axis=1)
    own = 1 - jnp.sum(u**2, axis=1)
    # A deviation that the factor has all but replaced shrinks no more: its optimum is at zero.
    free = (own > _BOUND) | (wanted > 0)
    scale = jnp.where(free, 1 / jnp.maximum(own, _BOUND), 0.0)
    operator = lx.FunctionLinearOperator(
        Partial(_off_frame, u, scale),
        jax.ShapeDtypeStruct(wanted.shape, wanted.dtype),
        lx.positive_semidefinite_tag,
    )
    tolerance = max(_SOLVED, float(jnp.finfo(wanted.dtype).eps))
    solver = lx.CG(rtol=tolerance, atol=0.0, max_steps=_MOST)
    change = scale * lx.linear_solve(operator, scale * wanted, solver, throw=False).value
    rest = _on_frame(u, change)
    size = product(t, t.T)
    wide = half + product(u, product(size, u.T, half))
    return Direction(
        rate, on_frame, diagonal, change, wide + product(wide, size) - rest, half - rest
    )


def _on_frame(u: Thin, change: Vector) -> Thin:
    """X of diag(change) - U X^T - X U^T = Q diag(change) Q, Q the projector off U."""
    rest = change[:, None] * u
    return rest - 0.5 * product(u, product(u.T, rest))


def _off_frame(u: Thin, scale: Vector, y: Vector) -> Vector:
    """The diagonal of Q diag(change) Q, Q the projector off U, scaled to a unit diagonal."""
    change = scale * y
    mixed = product(u, product(u.T, change[:, None] * u))
    square = (1 - 2 * jnp.sum(u**2, axis=1)) * change + jnp.sum(mixed * u, axis=1)
    return jnp.where(scale > 0, scale * square, y)


def low_rank_gap(q: LowRankGaussian, to: Direction) -> Scalar:
    """Half the squared gradient of the ELBO in Fisher's metric of these laws."""
    own = q.scale * to.rate
    means = jnp.sum(own**2) + jnp.sum((q.factor.T @ to.rate) ** 2)
    spreads = to.diagonal @ to.change + 2 * jnp.vdot(to.on_frame, to.thin)
    return 0.5 * means + 0.25 * spreads


def low_rank_step(q: LowRankGaussian, to: Direction, share: Scalar) -> LowRankGaussian:
    """Moves the precision by that share of P A P, and keeps the largest part of the rank."""
    u, t = frame(q)
    rank = u.shape[1]
    size = product(t, t.T)
    eye = jnp.eye(rank, dtype=size.dtype)
    kept = jnp.linalg.solve(eye + size, size)
    blocks = jnp.block([[kept, share * eye], [share * eye, jnp.zeros_like(eye)]])
    # A precision falls to 1 - y of itself at most until y = 1/2; from there on the variance grows
    # along its tangent, 4 y. Where the factor has all but replaced a deviation, y is a million. No
    # step takes from a deviation so much that it falls below the share at which it shrinks no more.
    wanted = share * to.change
    left = jnp.where(wanted > 0.5, 0.25 / jnp.maximum(wanted, 0.5), 1 - wanted)
    own = 1 - jnp.sum(u**2, axis=1)
    left = jnp.minimum(left, jnp.maximum(own / _BOUND, 1))
    # A deviation that grows back takes of the factor what is the coordinate's alone, and no more.
    squares, axes = jnp.linalg.eigh(size)
    inverses = 1 + 1 / jnp.maximum(squares, jnp.finfo(squares.dtype).tiny)
    room = 1 / (product(u, axes) ** 2 @ inverses)
    left = jnp.where(own < _BOUND, jnp.maximum(left, 1 - room), left)
    inverse = to.inverse + _on_frame(u, to.change - (1 - left) / share)
    scale = jax.lax.rsqrt(left)
    both = scale[:, None] * jnp.concatenate([u, inverse], axis=1)
    basis, upper = jnp.linalg.qr(both)
    inner = product(upper, blocks, upper.T)
    values, vectors = jnp.linalg.eigh(0.5 * inner + 0.5 * inner.T)
    # An eigenvalue of 1 or more is a precision that is not positive definite.
    values = jnp.where(values < 1, values, jnp.nan)[-rank:]
    lengths = jnp.sqrt(jnp.maximum(values, 0.0) / (1 - values))
    thin = product(basis, vectors[:, -rank:] * lengths)
    # Nodes see the columns of the factor, so that these turn no more than they must.
    left, _, right = jnp.linalg.svd(product(thin.T, u, t))
    thin = product(thin, left, right)
    scale = q.scale * scale
    factor = scale[:, None] * thin
    turned = scale**2 * to.rate + product(factor, factor.T @ to.rate[:, None])[:, 0]
    return LowRankGaussian(q.mean + share * turned, factor, scale)
