"""Spectral normalisation by equinox, made per sample and with arrays only.

`eqx.nn.SpectralNorm` carries its power iteration in a state beside the network. Here the state
sits in the layer, so that a critic stays a function d(x) of one sample; training steps call
`refresh` after each update, and evaluation changes nothing.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

Weight = Float[Array, "..."]


class _Matrix(eqx.Module):
    """A layer that is its weight: what equinox makes of it is the normalised weight."""

    weight: Float[Array, "out rest"]

    def __call__(self, x: None) -> Float[Array, "out rest"]:
        """Ignores its input."""
        del x
        return self.weight


def _weight(layer: Any) -> Any:
    """Equinox's layers have a `weight`, outputs first; ours for images a `kernel`, outputs last."""
    return layer.kernel if hasattr(layer, "kernel") else getattr(layer, "weight", None)


def _matrix(layer: Any) -> Float[Array, "out rest"]:
    weight = _weight(layer)
    outputs_first = jnp.moveaxis(weight, -1, 0) if hasattr(layer, "kernel") else weight
    return outputs_first.reshape(outputs_first.shape[0], -1)


def _like(layer: Any, matrix: Float[Array, "out rest"]) -> Weight:
    """Undoes `_matrix`."""
    if not hasattr(layer, "kernel"):
        return matrix.reshape(layer.weight.shape)
    shape = layer.kernel.shape
    return jnp.moveaxis(matrix.reshape(shape[-1], *shape[:-1]), 0, -1)


def _inner(norm: Any) -> Any:
    return norm.layer


def _state(layer: Any) -> eqx.nn.State:
    return layer.state


def _is_none(x: Any) -> bool:
    return x is None


class Normalised(eqx.Module):
    """A layer whose weight is divided by its largest singular value."""

    layer: Any
    norm: Any
    state: eqx.nn.State

    def __init__(self, layer: Any, *, key: PRNGKeyArray):
        """Wraps a layer."""
        make: Any = eqx.nn.make_with_state(eqx.nn.SpectralNorm)
        # A True or False here would be a leaf that is no array; every call says which it means.
        norm, self.state = make(_Matrix(_matrix(layer)), "weight", inference=None, key=key)
        self.norm = eqx.tree_at(_inner, norm, None)
        self.layer = layer

    def _normalise(
        self, matrix: Float[Array, "out rest"], inference: bool
    ) -> tuple[Float[Array, "out rest"], eqx.nn.State]:
        norm = eqx.tree_at(_inner, self.norm, _Matrix(matrix), is_leaf=_is_none)
        # equinox spends the state that it is given: `stop_gradient` makes the copy.
        return norm(None, jax.lax.stop_gradient(self.state), inference=inference)

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Applies the layer to one sample, the singular vectors held fixed."""
        matrix, _ = self._normalise(_matrix(self.layer), True)
        return eqx.tree_at(_weight, self.layer, _like(self.layer, matrix))(x)

    def refreshed(self) -> "Normalised":
        """Follows the weight with one power iteration."""
        _, state = self._normalise(jax.lax.stop_gradient(_matrix(self.layer)), False)
        return eqx.tree_at(_state, self, state)


def _is_normalised(x: Any) -> bool:
    return isinstance(x, Normalised)


def _is_layer(x: Any) -> bool:
    wide = isinstance(x, eqx.Module) and getattr(_weight(x), "ndim", 0) >= 2
    return _is_normalised(x) or wide


def spectral(network: PyTree, *, key: PRNGKeyArray) -> PyTree:
    r"""Divides every weight of a network by its spectral norm: $W / \sigma(W)$.

    With activations of slope at most 1 a network of linear layers then has slope at most 1: an
    IPM critic without a gradient penalty. A kernel of images counts as a matrix, one row an
    output channel. sigma is followed by one power iteration after each `ratio_step` or
    `gan_step`, so it lags a little behind the weights.

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
        raise ValueError(
            f"spectral: `network` is a {type(network).__name__} with no layer to normalise; pass a "
            "module whose layers have a `weight` or `kernel` of two or more axes."
        )
    keys = jax.random.split(key, len(parts))
    plain = [_is_layer(part) and not _is_normalised(part) for part in parts]
    made = [
        Normalised(part, key=one) if wrap else part
        for part, wrap, one in zip(parts, plain, keys, strict=True)
    ]
    return jax.tree.unflatten(structure, made)


def _refreshed(part: Any) -> Any:
    return part.refreshed() if _is_normalised(part) else part


def refresh(network: PyTree) -> PyTree:
    """Follows changed weights with one power iteration; nothing without `spectral` layers.

    Args:
        network: Any module.

    Returns:
        The network to go on with.
    """
    return jax.tree.map(_refreshed, network, is_leaf=_is_normalised)
