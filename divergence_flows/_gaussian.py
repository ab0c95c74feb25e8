r"""Gaussians as a mean and a factor of their covariance, and the KL divergence between two.

The factor S is any square matrix with Sigma = S S^T, or a vector, which stands for a diagonal. It
is a better state than Sigma: Sigma cannot leave the cone, and x = mu + S z needs no root.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Real

from ._matrix import product
from ._types import Scalar, as_float

_LOG_TWO_PI = math.log(2 * math.pi)
_NODES, _MASSES = np.polynomial.legendre.leggauss(10)
_X, _WEIGHTS = (_NODES + 1) / 2, _MASSES / 2


class Gaussian(eqx.Module):
    r"""The normal distribution of $x = \mu + S z$, $z \sim N(0, I)$, covariance $S S^T$.

    A vector `scale` holds standard deviations: the mean-field case, at linear cost. A leading
    time axis, as `integrate` makes it, is allowed on both fields and in `covariance`; fields of
    rates are Gaussians too, in the same two places.
    """

    mean: Float[Array, "*time dim"]
    scale: Float[Array, "*time dim dim"] | Float[Array, "*time dim"]

    def __init__(
        self,
        mean: Real[ArrayLike, "*time dim"],
        scale: Real[ArrayLike, "*time dim dim"] | Real[ArrayLike, "*time dim"],
    ) -> None:
        """Keeps a mean [units of x] and a factor of the covariance [units of x], as floats.

        Args:
            mean: The mean.
            scale: A square factor S of the covariance, or a vector of standard deviations.
        """
        mean, scale = as_float(mean), as_float(scale)
        dtype = jnp.result_type(mean, scale)
        self.mean, self.scale = mean.astype(dtype), scale.astype(dtype)

    @property
    def diagonal(self) -> bool:
        """Whether the factor is a vector of standard deviations."""
        return self.scale.ndim == self.mean.ndim

    @property
    def matrix(self) -> Float[Array, "*time dim dim"]:
        """The factor S as a matrix [units of x]."""
        if not self.diagonal:
            return self.scale
        return self.scale[..., None] * jnp.eye(self.mean.shape[-1], dtype=self.scale.dtype)

    @property
    def covariance(self) -> Float[Array, "*time dim dim"]:
        """The covariance S S^T [units of x, squared]."""
        return jnp.matmul(self.matrix, self.matrix.mT, precision="highest")

    def push(self, z: Real[ArrayLike, " dim"]) -> Float[Array, " dim"]:
        """Moves one standard normal draw to mu + S z [units of x]."""
        z = jnp.asarray(z, self.mean.dtype)
        if self.diagonal:
            return self.mean + self.scale * z
        return self.mean + jnp.matmul(self.scale, z, precision="highest")

    def standardise(self, x: Real[ArrayLike, " dim"]) -> Float[Array, " dim"]:
        """Undoes `push`: the z with x = mu + S z."""
        shift = jnp.asarray(x, self.mean.dtype) - self.mean
        # The inverse, not a solve: under vmap over x it is made once and the rest is one product.
        return shift / self.scale if self.diagonal else jnp.linalg.inv(self.scale) @ shift

    def log_prob(self, x: Real[ArrayLike, " dim"]) -> Scalar:
        """Log density at one point [nats]."""
        return self.log_prob_of_push(self.standardise(x))

    def log_prob_of_push(self, z: Float[Array, " dim"]) -> Scalar:
        """Log density at `push(z)`, for which no linear system is solved [nats]."""
        return -0.5 * (jnp.sum(z**2) + z.shape[-1] * _LOG_TWO_PI) - self.log_det()

    def log_det(self) -> Scalar:
        """Logarithm of |det S| [nats]."""
        if self.diagonal:
            return jnp.sum(jnp.log(jnp.abs(self.scale)))
        return jnp.linalg.slogdet(self.scale)[1]


def gaussian_kl(q: Gaussian, p: Gaussian) -> Scalar:
    r"""KL(q || p) between two Gaussians, with all its digits when they are nearly equal.

    With W = S_p^{-1} S_q and d = S_p^{-1}(mu_q - mu_p) it is
    $\tfrac12 (|W|_F^2 - dim - \log\det W W^T + |d|^2)$; near W W^T = I the first three are summed
    as $e_i - \log(1 + e_i)$, e the eigenvalues of $W W^T - I$.

    Args:
        q: One Gaussian.
        p: The other, of the same dimension, its factor invertible.

    Returns:
        The divergence [nats]; infinite if q's factor is singular.

    Raises:
        TypeCheckError: If the dimensions differ.

    References:
        theory.md, trap 15: no subtraction of log determinants.
    """
    shift = p.standardise(q.mean)
    if q.diagonal and p.diagonal:
        change = (q.scale - p.scale) / p.scale
        gap = jnp.sum(_gap(change * (2 + change), 2 * jnp.log(jnp.abs(q.scale / p.scale))))
    else:
        both = jnp.concatenate([q.matrix, q.matrix - p.matrix], axis=1)
        gap = _matrix_gap(*jnp.split(jnp.linalg.solve(p.matrix, both), 2, axis=1))
    return 0.5 * (gap + jnp.sum(shift**2))


def _gap(excess: Float[Array, "*shape"], log: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    r"""Evaluates $e - \log(1 + e)$, near zero as $e^2 \int_0^1 x / (1 + e x)\,dx$."""
    near = jnp.where(jnp.abs(excess) < 0.5, excess, 0.0)
    x, weights = jnp.asarray(_X, near.dtype), jnp.asarray(_WEIGHTS, near.dtype)
    integral = jnp.sum(weights * x / (1 + near[..., None] * x), axis=-1)
    return jnp.where(jnp.abs(excess) < 0.5, near**2 * integral, excess - log)


@jax.custom_jvp
def _matrix_gap(ratio: Float[Array, "dim dim"], change: Float[Array, "dim dim"]) -> Scalar:
    r"""Evaluates $|W|_F^2 - dim - \log\det W W^T$ of W = `ratio` = I + `change`.

    Both are given: each has digits where the other has none.
    """
    excess = change + change.T + product(change, change.T)
    eigenvalues = jnp.linalg.eigvalsh(excess)
    near = jnp.all(jnp.abs(eigenvalues) < 0.5)
    # Far from I a small eigenvalue of W W^T would be lost beside the large ones.
    far = jnp.trace(excess) - 2 * jnp.linalg.slogdet(ratio)[1]
    return jnp.where(near, jnp.sum(_gap(eigenvalues, jnp.log1p(eigenvalues))), far)


@_matrix_gap.defjvp
def _matrix_gap_jvp(
    primals: tuple[Float[Array, "dim dim"], Float[Array, "dim dim"]],
    tangents: tuple[Float[Array, "dim dim"], Float[Array, "dim dim"]],
) -> tuple[Scalar, Scalar]:
    """Uses the closed gradient 2 W^{-T} (W^T W - I), right at repeated eigenvalues too."""
    ratio, change = primals
    excess = change + change.T + product(change.T, change)
    gradient = jnp.linalg.solve(ratio.T, excess)
    return _matrix_gap(*primals), 2 * jnp.sum(gradient * tangents[0])
