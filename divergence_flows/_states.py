"""States, times and arguments of a solve, made fit for it: arrays of one dtype.

Public doors accept numpy arrays, lists of times and Python numbers; what lies behind them does not.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float, PyTree, Real

from ._types import Scalar, ScalarLike

# Any pytree of numbers or arrays: one array, a tuple, a Gaussian.
State = PyTree[Real[ArrayLike, "..."]]
Times = Real[Array | np.ndarray, " time"] | Sequence[ScalarLike]


def root_mean_square(tree: PyTree[Float[Array, "..."]]) -> Scalar:
    """Measures a state or its rate by all entries alike."""
    flat, _ = jax.flatten_util.ravel_pytree(tree)
    return jnp.sqrt(jnp.mean(flat**2))


def as_arrays(args: Any) -> Any:
    """Makes arrays of the numbers among leaves, and leaves functions and flags alone."""
    kinds = (int, float, complex, np.ndarray, np.generic)
    leaves, tree = jax.tree.flatten(args)
    made = [
        jnp.asarray(x) if isinstance(x, kinds) and not isinstance(x, bool) else x for x in leaves
    ]
    return jax.tree.unflatten(tree, made)


def cast_times(
    y0: State, ts: Times, dt0: ScalarLike | None
) -> tuple[Float[Array, " time"], Scalar | None]:
    """Casts the times and the step to the state's dtype."""
    dtype = jnp.result_type(*jax.tree.leaves(y0))
    return jnp.asarray(ts, dtype), None if dt0 is None else jnp.asarray(dt0, dtype)


def bits(y0: State) -> int:
    """Tells the width of the state's dtype."""
    return jnp.finfo(jnp.result_type(*jax.tree.leaves(y0))).bits


def fixed_steps(ts: Times, dt0: ScalarLike | None) -> int | None:
    """Counts fixed steps, rounded up to a power of two so that few numbers are ever compiled."""
    traced = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((ts, dt0)))
    if dt0 is None or traced:
        return None
    times = np.asarray(ts, np.float64)
    steps = (times[-1] - times[0]) / np.asarray(dt0, np.float64)
    return 1 << int(steps + 2).bit_length() if 0 < steps < 2**40 else None


def at_least_two(caller: str, ts: Times) -> None:
    """Refuses times that leave nothing to solve."""
    if len(ts) < 2:
        raise ValueError(
            f"{caller}: `ts` holds {len(ts)} time(s); give at least two, the first being the time "
            "of the initial state."
        )
