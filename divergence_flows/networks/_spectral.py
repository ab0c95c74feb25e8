"""Spectral normalisation: a layer's weight over its largest singular value.

The singular vectors are arrays of the layer, so that a critic stays a function d(x) of one sample:
training steps call `refresh` after each update, and evaluation changes nothing.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from .._types import AnyFloat

_FIRST_ITERATIONS = 15  # as in equinox


def _weight(layer: Any) -> Any:
    """The `kernel` of our image layers, or the `weight` of equinox's."""
    return layer.kernel if hasattr(layer, "kernel") else getattr(layer, "weight", None)


def _matrix(layer: Any) -> Float[Array, "out rest"]:
    """One row per output: outputs come last in a `kernel`, first in a `weight`."""
    weight = _weight(layer)
    rows = jnp.moveaxis(weight, -1, 0) if hasattr(layer, "kernel") else weight
    return rows.reshape(rows.shape[0], -1)


def _power_iteration(
    matrix: Float[Array, "out rest"], v: Float[Array, " rest"]
) -> tuple[Float[Array, " out"], Float[Array, " rest"]]:
    u = matrix @ v
    u = u / jnp.maximum(jnp.linalg.norm(u), 1e-12)
    v = matrix.T @ u
    return u, v / jnp.maximum(jnp.linalg.norm(v), 1e-12)


class Normalised(eqx.Module):
    """A layer whose weight is divided by u^T W v, its largest singular value."""

    layer: Any
    u: Float[Array, " out"]
    v: Float[Array, " rest"]

    def __call__(self, x: AnyFloat) -> AnyFloat:
        """Applies the layer to one sample, the singular vectors held fixed."""
        u, v = jax.lax.stop_gradient((self.u, self.v))
        divided = _weight(self.layer) / (u @ _matrix(self.layer) @ v)
        return eqx.tree_at(_weight, self.layer, divided)(x)


def _is_normalised(x: Any) -> bool:
    return isinstance(x, Normalised)


def _is_layer(x: Any) -> bool:
    wide = isinstance(x, eqx.Module) and getattr(_weight(x), "ndim", 0) >= 2
    return _is_normalised(x) or wide


def spectral(network: PyTree, *, key: PRNGKeyArray) -> PyTree:
    r"""Divides every weight of a network by its spectral norm: $W / \sigma(W)$.

    With activations of slope at most 1 a network of linear layers then has slope at most 1: an
    IPM critic without a gradient penalty. A kernel of images counts as a matrix, one row an
    output channel. Each `ratio_step` or `gan_step` updates sigma by one power iteration, so it
    lags a little behind the weights.

    Args:
        network: Any module; its layers with a `weight` or `kernel` of two or more axes are
            wrapped, once.
        key: Randomness of the power iterations' start.

    Returns:
        A network called like the first, with arrays only if the first has.

    Raises:
        ValueError: If there is no such layer.

    References:
        Miyato et al., Spectral normalization for generative adversarial networks, ICLR 2018.
    """
    parts, structure = jax.tree.flatten(network, is_leaf=_is_layer)
    if not any(_is_layer(part) for part in parts):
        words = "no layer to normalise; pass one with a `weight` or `kernel` of two or more axes."
        raise ValueError(f"spectral: `network` is a {type(network).__name__} with {words}")
    keys = jax.random.split(key, len(parts))
    return jax.tree.unflatten(structure, map(_normalised, parts, keys))


def _normalised(part: Any, key: PRNGKeyArray) -> Any:
    if _is_normalised(part) or not _is_layer(part):
        return part
    matrix = _matrix(part)
    v = jax.random.normal(key, matrix.shape[1:], matrix.dtype)
    for _ in range(_FIRST_ITERATIONS):
        u, v = _power_iteration(matrix, v)
    return Normalised(part, u, v)


def refresh(network: PyTree) -> PyTree:
    """Updates singular vectors by one power iteration; nothing without `spectral` layers.

    Args:
        network: Any module.

    Returns:
        The network to go on with.
    """
    return jax.tree.map(_refreshed, network, is_leaf=_is_normalised)


def _refreshed(part: Any) -> Any:
    if not _is_normalised(part):
        return part
    matrix = jax.lax.stop_gradient(_matrix(part.layer))
    return Normalised(part.layer, *_power_iteration(matrix, part.v))
