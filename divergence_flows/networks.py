"""Thin per-sample networks: discriminators d(x) and generators g(z), of vectors and of images.

One sample in, one value out; `jax.vmap` makes the batch. The only leaves are arrays, so that a
network passes through plain `jit`, `vmap` and `scan`; activations are part of the structure.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from ._conv_networks import (
    ConvDiscriminator as ConvDiscriminator,
    ConvGenerator as ConvGenerator,
)
from ._spectral import refresh as refresh, spectral as spectral
from ._types import check_counts as _check_counts, same as _same

Activation = Callable[..., Any]
Layers = tuple[Callable[..., Any], ...]


def _layers(
    owner: str, sizes: dict[str, int], out: int | str, depth: int, key: PRNGKeyArray
) -> Layers:
    """Makes `depth` hidden layers and an output layer."""
    # A depth of zero is a linear network.
    _check_counts(owner, {**sizes, "depth": depth or None})
    first, width = next(iter(sizes.values())), sizes["width"]
    widths = [first, *[width] * depth, out]
    keys = jax.random.split(key, depth + 1)
    pairs = zip(widths[:-1], widths[1:], keys, strict=True)
    return tuple(eqx.nn.Linear(a, b, key=k) for a, b, k in pairs)


def _forward(
    layers: Layers, activation: Activation, last: Activation, x: Float[Array, " size"]
) -> Float[Array, "*out"]:
    """Applies the layers to one sample."""
    for layer in layers[:-1]:
        x = activation(layer(x))
    return last(layers[-1](x))


class Discriminator(eqx.Module):
    """A scalar network d(x), smooth because flows differentiate it in x.

    It is always per sample: a batch norm would make d(x) depend on the other samples, and its
    gradient would be no field.
    """

    layers: Layers
    activation: Activation = eqx.field(static=True)
    last: Activation = eqx.field(static=True)

    def __init__(
        self,
        dim: int,
        width: int = 64,
        depth: int = 2,
        *,
        activation: Activation = jax.nn.silu,
        last: Activation = _same,
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
        self.activation = activation
        self.last = last

    def __call__(self, x: Float[Array, " dim"]) -> Float[Array, ""]:
        """Evaluates one sample; `jax.vmap(d)(xs)` evaluates a cloud.

        Args:
            x: One sample [units of x].

        Returns:
            d(x), in the units of the GAN's discriminator.
        """
        return _forward(self.layers, self.activation, self.last, x)


class Generator(eqx.Module):
    """A network g(z) that turns latent noise into a sample."""

    layers: Layers
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
        last: Activation = _same,
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
        self.activation = activation
        self.last = last

    def __call__(self, z: Float[Array, " latent"]) -> Float[Array, " dim"]:
        """Evaluates one noise vector; `jax.vmap(g)(zs)` makes a batch.

        Args:
            z: Latent noise, usually standard normal.

        Returns:
            One sample [units of x].
        """
        return _forward(self.layers, self.activation, self.last, z)
