"""One axis of a pytree laid over every device, of this process or of many."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxtyping import Array, ArrayLike, PyTree, Shaped

Leaf = Shaped[ArrayLike, "*shape"]


def _check(leaf: Any, devices: int) -> None:
    """Refuses what has no leading axis that the devices can share evenly."""
    if not isinstance(leaf, (jax.Array, np.ndarray, np.generic, bool, int, float, complex)):
        kind = type(leaf).__name__
        raise ValueError(f"over_devices: `tree` has a leaf of type {kind}; pass arrays.")
    if isinstance(leaf, Tracer):
        words = "is inside `jit` or `vmap`; lay it out first, then call those."
        raise ValueError(f"over_devices: `tree` {words}")
    shape = np.shape(leaf)
    if not shape or shape[0] % devices:
        raise ValueError(
            f"over_devices: `tree` has a leaf of shape {shape}, and there are {devices} devices; "
            f"pass leaves whose leading axis is a multiple of {devices}."
        )


def _place(leaf: Leaf, where: NamedSharding) -> Shaped[Array, "..."]:
    """Puts one leaf in its place."""
    if isinstance(leaf, jax.Array):
        # With several processes, JAX spreads numbers that all of them hold, but not typed keys.
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            data = _place(jax.random.key_data(leaf), where)
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
        if not leaf.is_fully_addressable:
            return jax.device_put(leaf, where)
    # From the host: an array that was put on one device is not spread over other processes'.
    return jax.device_put(np.asarray(leaf), where)


def over_devices(tree: PyTree) -> PyTree:
    """Lays the leading axis of every leaf over all devices, so that each computes its share.

    What a `jax.vmap` over that axis computes under `jit` then runs on all devices at once, with no
    change to the program: seeds as keys, or settings, or data sets side by side. It works on one
    device, on several, and on those of several processes after `jax.distributed.initialize()`.
    Then every process must pass the same tree, which is checked, and holds its own share of the
    result; `jax.experimental.multihost_utils.process_allgather(x, tiled=True)` brings all of it to
    every host.

    Args:
        tree: Any pytree of arrays, `jax.random.split(key, 64)` for one.

    Returns:
        The same values, laid out.

    Raises:
        ValueError: If there is no leaf, or one is no array or has no leading axis, if the
            number of devices does not divide it, or inside a trace.
        AssertionError: From JAX, if the processes do not pass the same values.
    """
    leaves, structure = jax.tree.flatten(tree)
    if not leaves:
        raise ValueError("over_devices: `tree` holds no arrays; pass one at least.")
    devices = jax.devices()
    for leaf in leaves:
        _check(leaf, len(devices))
    mesh = jax.make_mesh((len(devices),), ("lead",), axis_types=(AxisType.Auto,))
    where = NamedSharding(mesh, PartitionSpec("lead"))
    return jax.tree.unflatten(structure, [_place(leaf, where) for leaf in leaves])
