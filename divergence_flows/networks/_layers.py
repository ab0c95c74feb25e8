"""Fully connected layers, made and applied: what the networks of vectors share."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from .._checks import check_counts

Activation = Callable[..., Any]
Layers = tuple[Callable[..., Any], ...]


def layers(
    caller: str, sizes: dict[str, int], out: int | str, depth: int, key: PRNGKeyArray
) -> Layers:
    """Makes `depth` hidden layers and an output layer."""
    # A depth of zero is a linear network.
    check_counts(caller, {**sizes, "depth": depth or None})
    first, width = next(iter(sizes.values())), sizes["width"]
    widths = [first, *[width] * depth, out]
    keys = jax.random.split(key, depth + 1)
    pairs = zip(widths[:-1], widths[1:], keys, strict=True)
    return tuple(eqx.nn.Linear(a, b, key=k) for a, b, k in pairs)


def forward(
    stack: Layers, activation: Activation, last: Activation, x: Float[Array, " size"]
) -> Float[Array, "*out"]:
    """Applies the layers to one sample."""
    for layer in stack[:-1]:
        x = activation(layer(x))
    return last(stack[-1](x))
