r"""A quadratic of a sample whose coefficients are a small network of features, of time or noise."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from .._types import Scalar, Vector, identity
from ._mlp import Layers, forward, linear_layers

# Hidden units between the features and the coefficients.
_HIDDEN = 32


def quadratic_layers(caller: str, features: dict[str, int], dim: int, key: PRNGKeyArray) -> Layers:
    """The layers from so many features to a matrix, a slope and a constant."""
    return linear_layers(caller, {**features, "width": _HIDDEN}, dim * dim + dim + 1, 1, key)


def quadratic_of(layers: Layers, features: Float[Array, " features"], z: Vector) -> Scalar:
    r"""Evaluates $z^T A z + B \cdot z + c$, with A, B and c of the features."""
    coefficients = forward(layers, jax.nn.silu, identity, features)
    a, slope, constant = jnp.split(coefficients, (z.size**2, z.size**2 + z.size))
    return z @ (a.reshape(z.size, z.size) @ z) + slope @ z + constant[0]
