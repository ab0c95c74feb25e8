"""What stands at public doors: checks of samples and numbers that many functions share.

Contents are looked at once for each call of a door, never inside a field or a loop. The rule for
samples: a column is constant where its maximum is its minimum, exactly; one that varies must do so
by a thousand times the spacing of its floats; columns depend on each other where no rounding could
tell (`check_spans`).
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Bool, Float, PyTree, Real

from ._types import as_float, refuse, refuse_first


def check_cloud(owner: str, name: str, xs: Float[Array, "_ *event"]) -> Float[Array, "_ *event"]:
    """Refuses samples that are none, or not finite.

    Args:
        owner: Who asks, for the message.
        name: The argument's.
        xs: Samples.

    Returns:
        The samples; use these.

    Raises:
        ValueError: If there are no samples.
        EquinoxRuntimeError: If one is not finite.
    """
    return check_clouds(owner, **{name: xs})[0]


def check_clouds(owner: str, **clouds: Float[Array, "..."]) -> tuple[Float[Array, "..."], ...]:
    """As `check_cloud`, of several: what is wrong with one is told by all that come back.

    So nothing is left out under jit, where an input that decides nothing is not looked at.

    Args:
        owner: Who asks, for the message.
        clouds: By the name of their argument.

    Returns:
        The same in order; use these.

    Raises:
        ValueError: If one has no samples.
        EquinoxRuntimeError: If one is not finite.
    """
    checked = tuple(clouds.values())  # a dict would come back sorted
    for name, xs in clouds.items():
        check_some(owner, name, xs)
        words = f"{owner}: `{name}` has NaN or inf; drop those samples first."
        checked = refuse(checked, ~jnp.all(jnp.isfinite(xs)), words)
    return checked


def check_samples(owner: str, **clouds: Real[ArrayLike, "..."]) -> tuple[Float[Array, "..."], ...]:
    """As `check_clouds`, of data: numbers too large for their floats are refused too.

    Args:
        owner: Who asks, for the message.
        clouds: By the name of their argument, as they were passed: what is no float is looked at
            before it becomes one.

    Returns:
        The same in order, as floats; use these.

    Raises:
        ValueError: If one has no samples.
        EquinoxRuntimeError: If one is not finite, or a column of it varies by less than a thousand
            times the spacing of its floats, and is not constant.
    """
    checked, faults = tuple(as_float(raw) for raw in clouds.values()), {}
    for (name, raw), xs in zip(clouds.items(), checked, strict=True):
        check_some(owner, name, xs)
        words = f"{owner}: `{name}` has NaN or inf; drop those samples first."
        faults[words] = ~jnp.all(jnp.isfinite(xs))
        # Half floats are coarser than this wherever they are: who takes them wants that.
        if jnp.finfo(xs.dtype).bits > 16:
            words = (
                f"{owner}: `{name}` has numbers too large for {xs.dtype}: the spacing of these is "
                "more than a thousandth of the standard deviation of a coordinate. Subtract the "
                "mean first, in float64 or integers, or pass float64 with jax_enable_x64."
            )
            faults[words] = jnp.any(_coarse(xs, constant(raw)))
    return refuse_first(checked, faults)


def constant(xs: Real[ArrayLike, "n *event"]) -> Bool[Array, "*event"]:
    """Which coordinates are exactly the same in all samples."""
    own = xs if isinstance(xs, jax.Array) else np.asarray(xs)
    return jnp.asarray(own.max(axis=0) == own.min(axis=0))


@jax.jit
def _coarse(xs: Float[Array, "n *event"], fixed: Bool[Array, "*event"]) -> Bool[Array, "*event"]:
    """Which coordinates vary by less than a thousand times the spacing of their floats."""
    xs = jax.lax.stop_gradient(xs)
    _, half, unit = centred(xs)
    top = jnp.max(jnp.abs(xs), axis=0)
    return ~fixed & (1e3 * spacing(top) > half * jnp.sqrt(jnp.mean(unit**2, axis=0)))


def spacing(top: Float[Array, "*event"]) -> Float[Array, "*event"]:
    """From a number to the next float; below the least normal one none can be told apart."""
    top = jax.lax.stop_gradient(top)  # `nextafter` has no derivative
    return jnp.maximum(jnp.nextafter(top, jnp.inf) - top, jnp.finfo(top.dtype).tiny)


def centred(xs: Float[Array, "n *event"]) -> tuple[Float[Array, "..."], ...]:
    """A middle, half the range, and samples about their mean in units of it; zero if constant."""
    low, high = jax.lax.stop_gradient((jnp.min(xs, axis=0), jnp.max(xs, axis=0)))
    half = high / 2 - low / 2
    middle = low + half
    unit = (xs - middle) / jnp.where(half > 0, half, 1.0)
    mean = jnp.mean(unit, axis=0)
    return middle + half * mean, half, jnp.where(half > 0, unit - mean, 0.0)


def check_some(owner: str, name: str, xs: Real[ArrayLike, "*shape"]) -> None:
    """Refuses no samples, by their shape alone.

    Args:
        owner: Who asks, for the message.
        name: The argument's.
        xs: Samples, or a number for each.

    Raises:
        ValueError: If there are none, or none of their coordinates.
    """
    if np.size(xs) < 1:
        raise ValueError(f"{owner}: `{name}` has no samples, {told(xs)}; pass at least one.")


def told(tree: PyTree) -> str:
    """Names the dtype and shape of every array of a tree, as in float32[4,2].

    Args:
        tree: Arrays, or what stands for them, or anything else.

    Returns:
        The words; of what is no array, its type.
    """
    leaves = jax.tree.leaves(tree)
    words = [_told(leaf) for leaf in leaves]
    return words[0] if len(words) == 1 and leaves[0] is tree else f"({', '.join(words)})"


def _told(leaf: Any) -> str:
    if not hasattr(leaf, "shape"):
        return type(leaf).__name__
    return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"


def check_positive(owner: str, **numbers: Any) -> None:
    """Refuses numbers that are not positive and finite; those inside a trace are not known yet.

    Args:
        owner: Who asks, for the message.
        numbers: By the name of their argument.

    Raises:
        ValueError: If one is not.
    """
    for name, value in numbers.items():
        if not isinstance(value, Tracer) and not 0 < value < np.inf:
            raise ValueError(f"{owner}: `{name}` is {value}; pass a positive number.")


def check_input(owner: str, argument: str, x: Float[Array, "..."], *shape: int) -> None:
    """Refuses what is not of the one shape that a network or a fitted function takes.

    Args:
        owner: Its name, for the message.
        argument: The input's name.
        x: The input.
        shape: The shape.

    Raises:
        ValueError: While tracing, if it has another.
    """
    if x.shape != shape:
        raise ValueError(
            f"{owner}: `{argument}` has shape {x.shape}, and this one was made for shape {shape}; "
            "pass that, or make one for these sizes."
        )
