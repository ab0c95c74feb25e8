"""Fully connected networks of vectors: discriminators d(x) and generators g(z)."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, Real

from .._checks import check_counts, check_input
from .._types import AnyArray, VectorLike, as_float, identity

Activation = Callable[..., Any]
NoiseLike = Real[AnyArray, " latent"] | Bool[AnyArray, " latent"]
Layers = tuple[Callable[..., Any], ...]


def linear_layers(
    caller: str, sizes: dict[str, int], out: int | str, depth: int, key: PRNGKeyArray
) -> Layers:
    """Makes `depth` hidden layers, from the first of `sizes` to "width" units, and an output."""
    check_counts(caller, {**sizes, "depth": depth or None})  # a depth of 0 is a linear network
    widths = [next(iter(sizes.values())), *[sizes["width"]] * depth, out]
    pairs = zip(widths[:-1], widths[1:], jax.random.split(key, depth + 1), strict=True)
    return tuple(eqx.nn.Linear(size, after, key=each) for size, after, each in pairs)


def forward(
    layers: Layers, activation: Activation, last: Activation, x: Float[Array, " size"]
) -> Float[Array, "*out"]:
    """Applies the layers to one sample."""
    for layer in layers[:-1]:
        x = activation(layer(x))
    return last(layers[-1](x))


class Discriminator(eqx.Module):
    """A scalar network d(x), smooth because flows differentiate it in x.

    A batch norm would make d(x) depend on the other samples, and its gradient would be no field.
    """

    layers: Layers
    curvature: Float[Array, "dim dim"] | None
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
        last: Activation = identity,
        quadratic: bool = False,
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
            quadratic: Whether a quadratic x^T C x, zero at first, is added to the raw output: with
                it every log ratio of two Gaussians is in the family, at a depth of 0 too.
            key: Randomness of the weights.

        Raises:
            ValueError: If a size is not positive.
        """
        sizes = {"dim": dim, "width": width}
        self.layers = linear_layers("Discriminator", sizes, "scalar", depth, key)
        self.curvature = jnp.zeros((dim, dim)) if quadratic else None
        self.dim, self.activation, self.last = dim, activation, last

    def __call__(self, x: VectorLike) -> Float[Array, ""]:
        """Evaluates one sample; `jax.vmap(d)(xs)` evaluates a cloud."""
        x = as_float(x)
        check_input("Discriminator", "x", x, self.dim)
        if self.curvature is None:
            return forward(self.layers, self.activation, self.last, x)
        return self.last(
            forward(self.layers, self.activation, identity, x) + x @ self.curvature @ x
        )


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
        last: Activation = identity,
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
        self.layers = linear_layers("Generator", sizes, dim, depth, key)
        self.latent, self.activation, self.last = latent, activation, last

    def __call__(self, z: NoiseLike) -> Float[Array, " dim"]:
        """Evaluates one noise vector; `jax.vmap(g)(zs)` makes a batch."""
        z = as_float(z)
        check_input("Generator", "z", z, self.latent)
        return forward(self.layers, self.activation, self.last, z)
