"""Fully connected networks of vectors: discriminators d(x) and generators g(z)."""

import equinox as eqx
import jax
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray, Real

from .._checks import check_input as _check_input
from .._types import as_float as _as_float, identity as _identity
from ._layers import Activation, Layers, forward as _forward, layers as _layers


class Discriminator(eqx.Module):
    """A scalar network d(x), smooth because flows differentiate it in x.

    It is always per sample: a batch norm would make d(x) depend on the other samples, and its
    gradient would be no field.
    """

    layers: Layers
    dim: int = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)
    last: Activation = eqx.field(static=True)

    def __init__(
        self,
        dim: int,
        width: int = 64,
        depth: int = 2,
        *,
        activation: Activation = jax.nn.silu,
        last: Activation = _identity,
        key: PRNGKeyArray,
    ):
        """Builds `depth` hidden layers of `width` units on samples of size `dim`.

        Args:
            dim: Coordinates of one sample.
            width: Units of each hidden layer.
            depth: Number of hidden layers; 0 is a linear discriminator.
            activation: Elementwise and smooth; a module-level function, not a fresh lambda.
            last: Elementwise map of the raw output, for instance `jax.nn.softplus` where a GAN
                wants d > 0 (b-GAN, uLSIF) or `jax.nn.sigmoid` where 0 < d < 1 (least squares).
            key: Randomness of the weights.

        Raises:
            ValueError: If a size is not positive.
        """
        self.layers = _layers("Discriminator", {"dim": dim, "width": width}, "scalar", depth, key)
        self.dim, self.activation, self.last = dim, activation, last

    def __call__(self, x: Real[ArrayLike, " dim"]) -> Float[Array, ""]:
        """Evaluates one sample; `jax.vmap(d)(xs)` evaluates a cloud."""
        x = _as_float(x)
        _check_input("Discriminator", "x", x, self.dim)
        return _forward(self.layers, self.activation, self.last, x)


class Generator(eqx.Module):
    """A network g(z) that turns latent noise into a sample."""

    layers: Layers
    latent: int = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)
    last: Activation = eqx.field(static=True)

    def __init__(
        self,
        latent: int,
        dim: int,
        width: int = 64,
        depth: int = 2,
        *,
        activation: Activation = jax.nn.silu,
        last: Activation = _identity,
        key: PRNGKeyArray,
    ):
        """Builds `depth` hidden layers of `width` units from `latent` to `dim` coordinates.

        Args:
            latent: Coordinates of one noise vector.
            dim: Coordinates of one sample.
            width: Units of each hidden layer.
            depth: Number of hidden layers; 0 is an affine generator.
            activation: Elementwise; a module-level function, not a fresh lambda.
            last: Elementwise map of the raw output, for instance `jax.nn.tanh` for images.
            key: Randomness of the weights.

        Raises:
            ValueError: If a size is not positive.
        """
        sizes = {"latent": latent, "dim": dim, "width": width}
        self.layers = _layers("Generator", sizes, dim, depth, key)
        self.latent, self.activation, self.last = latent, activation, last

    def __call__(self, z: Real[ArrayLike, " latent"]) -> Float[Array, " dim"]:
        """Evaluates one noise vector; `jax.vmap(g)(zs)` makes a batch."""
        z = _as_float(z)
        _check_input("Generator", "z", z, self.latent)
        return _forward(self.layers, self.activation, self.last, z)
