r"""Gaussians as a mean and a factor of their covariance.

The factor S is any square matrix with Sigma = S S^T, or a vector, which stands for a diagonal. It
is a better state than Sigma: Sigma cannot leave the cone, and x = mu + S z needs no root.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray, Real

from .._checks import no_empty_axes
from .._types import AnyFloat, Function, Scalar, as_float

Shape = tuple[int | np.integer, ...]

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
            scale: A square factor S of the covariance, or a vector of standard deviations. It may
                be singular, as rates are; its log density is NaN then.

        Raises:
            ValueError: If the dimension is 0.
        """
        no_empty_axes("Gaussian", "mean", mean)
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
        one_point("Gaussian.push", "z", z, self.mean)
        z = jnp.asarray(z, self.mean.dtype)
        if self.diagonal:
            return self.mean + self.scale * z
        return self.mean + jnp.matmul(self.scale, z, precision="highest")

    def sample(self, key: PRNGKeyArray, shape: Shape = ()) -> Float[Array, "... dim"]:
        """Draws samples of shape (*shape, dim), `push` of standard normals [units of x].

        Args:
            key: Key of the draws.
            shape: How many, along which axes; one by default.

        Returns:
            The samples, differentiable in the mean and the factor.

        Raises:
            ValueError: If the law has a time axis, or a size in `shape` is negative.
        """
        no_time("Gaussian.sample", self.mean)
        sizes = sizes_of("Gaussian.sample", shape)
        z = jr.normal(key, (*sizes, self.mean.size), self.mean.dtype)
        return over_axes(self.push, z)

    def standardise(self, x: Real[ArrayLike, " dim"]) -> Float[Array, " dim"]:
        """Undoes `push`: the z with x = mu + S z; not finite if S is singular."""
        one_point("Gaussian.standardise", "x", x, self.mean)
        shift = jnp.asarray(x, self.mean.dtype) - self.mean
        # The inverse, not a solve: under vmap over x it is made once and the rest is one product.
        return shift / self.scale if self.diagonal else jnp.linalg.inv(self.scale) @ shift

    def log_prob(self, x: Real[ArrayLike, " dim"]) -> Scalar:
        """Log density at one point [nats]; NaN if the factor is singular: there is none."""
        one_point("Gaussian.log_prob", "x", x, self.mean)
        return self.log_prob_of_push(self.standardise(x))

    def log_prob_of_push(self, z: Real[ArrayLike, " dim"]) -> Scalar:
        """Log density at `push(z)`, for which no linear system is solved [nats]."""
        one_point("Gaussian.log_prob_of_push", "z", z, self.mean)
        z = jnp.asarray(z, self.mean.dtype)
        return -0.5 * (jnp.sum(z**2) + z.shape[-1] * _LOG_TWO_PI) - self.log_det()

    def log_det(self) -> Scalar:
        """Logarithm of |det S| [nats]."""
        no_time("Gaussian.log_det", self.mean)
        if self.diagonal:
            return jnp.sum(jnp.log(jnp.abs(self.scale)))
        return jnp.linalg.slogdet(self.scale)[1]


def one_point(caller: str, name: str, point: ArrayLike, means: AnyFloat, ndim: int = 1) -> None:
    """Refuses a point of another dimension, and a law of many times, before they broadcast."""
    if means.ndim != ndim or np.shape(point) != means.shape[-1:]:
        words = f"`{name}` has shape {np.shape(point)} and the means {means.shape}"
        raise ValueError(f"{caller}: {words}; pass one point and one law, `jax.vmap` for many.")


def sizes_of(caller: str, shape: Shape) -> tuple[int, ...]:
    """The sizes of a shape, of which none may be negative."""
    if any(size < 0 for size in shape):
        raise ValueError(f"{caller}: `shape` is {shape}; pass sizes that are not negative.")
    return tuple(int(size) for size in shape)


def over_axes(function: Function, *arrays: Array) -> Array:
    """Applies a function of vectors along all axes but the last."""
    for _ in range(arrays[0].ndim - 1):
        function = jax.vmap(function)
    return function(*arrays)


def no_time(caller: str, mean: AnyFloat, ndim: int = 1) -> None:
    """Refuses a law with axes in front."""
    if mean.ndim != ndim:
        words = f"the mean has shape {mean.shape}, with axes in front of its dimension"
        raise ValueError(f"{caller}: {words}; use `jax.vmap` over them.")
