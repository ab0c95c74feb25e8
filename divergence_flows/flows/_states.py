"""States, times and arguments of a solve, made fit for it: arrays of one dtype.

Public doors accept numpy arrays, lists of times and Python numbers; what lies behind them does not.
"""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PyTree, Real

from .._checks import check_rate, raise_if
from .._types import Field, Scalar, ScalarLike, as_float, traced

# Any pytree of numbers or arrays: one array, a tuple, a Gaussian.
State = PyTree[Real[ArrayLike, "..."]]
Times = Real[Array | np.ndarray, " time"] | Sequence[ScalarLike]


class Names(eqx.Module):
    """Who solves, and what its arguments are called: for messages."""

    caller: str = eqx.field(static=True)
    field: str = eqx.field(static=True, default="field")
    state: str = eqx.field(static=True, default="y0")


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


def as_state(names: Names, y0: State) -> PyTree[Float[Array, "..."]]:
    """Makes float arrays of a state, and refuses one that holds no numbers."""
    if not any(np.size(leaf) for leaf in jax.tree.leaves(y0)):
        raise ValueError(
            f"{names.caller}: `{names.state}` holds no numbers; pass a state of at least one."
        )
    return jax.tree.map(as_float, y0)


def sound(
    names: Names,
    y0: State,
    ts: Float[Array, " time"],
    dt0: Scalar | None,
    endless: bool,
    throw: bool,
) -> tuple[State, Float[Array, " time"], Scalar | None]:
    """Refuses what no solve can start from; use what is returned."""
    ts = increasing(names.caller, ts, endless)
    if dt0 is not None:
        words = f"{names.caller}: `dt0` must be positive and finite; pass such a step."
        dt0 = eqx.error_if(dt0, ~((dt0 > 0) & jnp.isfinite(dt0)), words)
    if throw:
        broken = sum(jnp.sum(~jnp.isfinite(leaf)) for leaf in jax.tree.leaves(y0)) > 0
        words = f"{names.caller}: `{names.state}` has NaN or inf; pass finite numbers."
        y0 = raise_if(y0, jnp.asarray(broken), words)
    return y0, ts, dt0


def increasing(caller: str, ts: Float[Array, " time"], endless: bool) -> Float[Array, " time"]:
    """Refuses times that do not increase; use what is returned."""
    good = jnp.all(jnp.diff(ts) > 0) & (jnp.all(jnp.isfinite(ts)) | endless)
    words = f"{caller}: `ts` must increase, always; pass finite times, each after the last."
    return eqx.error_if(ts, ~good, words)


def rate_of(names: Names, field: Field, t: ScalarLike, y: State, args: Any) -> State:
    """Evaluates a field, and refuses what is no rate of the state."""
    return check_rate(names.caller, names.field, field(t, y, args), y)


def overflow_is_nan(names: Names, field: Field, t: ScalarLike, y: State, args: Any) -> State:
    """As `rate_of`, and makes no number of a rate that overflows."""
    return jax.tree.map(_finite_or_nan, rate_of(names, field, t, y, args))


def _finite_or_nan(leaf: Float[Array, "..."]) -> Float[Array, "..."]:
    return jnp.where(jnp.isfinite(leaf), leaf, jnp.nan)


def bits(y0: State) -> int:
    """Tells the width of the state's dtype."""
    return jnp.finfo(jnp.result_type(*jax.tree.leaves(y0))).bits


def fixed_steps(ts: Times, dt0: ScalarLike | None) -> int | None:
    """Counts fixed steps, rounded up to a power of two so that few numbers are ever compiled."""
    if dt0 is None or traced((ts, dt0)):
        return None
    times, step = np.asarray(ts, np.float64), float(np.asarray(dt0))
    if not step > 0:
        return None  # refused before the first step
    steps = (times[-1] - times[0]) / step
    return 1 << int(steps + 2).bit_length() if 0 < steps < 2**40 else None


def at_least_two(caller: str, ts: Times) -> None:
    """Refuses times that leave nothing to solve."""
    if len(ts) < 2:
        raise ValueError(
            f"{caller}: `ts` holds {len(ts)} time(s); give at least two, the first being the time "
            "of the initial state."
        )


def check_times(caller: str, ts: Times) -> None:
    """Refuses times that no flow runs through; those inside a trace are not known yet."""
    at_least_two(caller, ts)
    if traced(ts):
        return
    times = np.asarray(ts, np.float64)
    good = (np.diff(times) > 0) & np.isfinite(times[1:]) & np.isfinite(times[:-1])
    if not np.all(good):
        first = int(np.argmin(good))
        raise ValueError(
            f"{caller}: `ts` must increase, and goes from {times[first]} to {times[first + 1]}; "
            "pass finite times, each after the last."
        )


def begin(caller: str, ts: Times) -> None:
    """As `check_times`, but times on a device wait for the solve, which looks at them there."""
    if isinstance(ts, jax.Array):
        at_least_two(caller, ts)
    else:
        check_times(caller, ts)


def refuse_options(caller: str, options: dict[str, Any], *names: str) -> None:
    """Refuses options that a solve fills in itself."""
    for name in names:
        if name in options:
            raise ValueError(
                f"{caller}: `{name}` is no option here; leave it out, or use `integrate`."
            )


def check_tolerances(caller: str, rtol: float, atol: float) -> None:
    """Refuses tolerances at which nothing ever rests."""
    for name, value in (("rtol", rtol), ("atol", atol)):
        if not 0 <= value < np.inf or rtol + atol == 0:
            raise ValueError(f"{caller}: `{name}` is {value}; pass a positive number.")
