r"""Gaussians as a mean and a factor of their covariance, and the KL divergence between two.

The factor S is any square matrix with Sigma = S S^T, or a vector, which stands for a diagonal. It
is a better state than Sigma: Sigma cannot leave the cone, and x = mu + S z needs no root.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from ._types import Scalar, as_float

_LOG_TWO_PI = math.log(2 * math.pi)


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
        return self.matrix @ self.matrix.mT

    def push(self, z: Real[ArrayLike, " dim"]) -> Float[Array, " dim"]:
        """Moves one standard normal draw to mu + S z [units of x]."""
        z = jnp.asarray(z, self.mean.dtype)
        return self.mean + (self.scale * z if self.diagonal else self.scale @ z)

    def standardise(self, x: Real[ArrayLike, " dim"]) -> Float[Array, " dim"]:
        """Undoes `push`: the z with x = mu + S z."""
        shift = jnp.asarray(x, self.mean.dtype) - self.mean
        return shift / self.scale if self.diagonal else jnp.linalg.solve(self.scale, shift)

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
    $\tfrac12 (\sum_i (e_i - \log(1 + e_i)) + |d|^2)$, e the eigenvalues of $W W^T - I$.

    Args:
        q: One Gaussian.
        p: The other, of the same dimension, its factor invertible.

    Returns:
        The divergence [nats].

    Raises:
        TypeCheckError: If the dimensions differ.

    References:
        theory.md, trap 15: no subtraction of log determinants.
    """
    shift = p.standardise(q.mean)
    ratio = jnp.linalg.solve(p.matrix, q.matrix)
    excess = ratio @ ratio.T - jnp.eye(ratio.shape[0], dtype=ratio.dtype)
    return 0.5 * (_trace_less_log_det(excess) + jnp.sum(shift**2))


@jax.custom_jvp
def _trace_less_log_det(excess: Float[Array, "dim dim"]) -> Scalar:
    """Evaluates tr(E) - log det(I + E) of a symmetric E without cancellation."""
    eigenvalues = jnp.linalg.eigvalsh(excess)
    return jnp.sum(eigenvalues - jnp.log1p(eigenvalues))


@_trace_less_log_det.defjvp
def _trace_less_log_det_jvp(
    primals: tuple[Float[Array, "dim dim"]], tangents: tuple[Float[Array, "dim dim"]]
) -> tuple[Scalar, Scalar]:
    """Uses the closed gradient E (I + E)^{-1}, right at repeated eigenvalues too."""
    (excess,), (change,) = primals, tangents
    eye = jnp.eye(excess.shape[0], dtype=excess.dtype)
    gradient = jnp.linalg.solve(eye + excess, excess)
    return _trace_less_log_det(excess), jnp.sum(gradient * change)
