r"""Following a field until it rests."""

import functools
import math
from collections.abc import Callable
from typing import Any

import diffrax
import jax
import jax.numpy as jnp

from .._checks import check_number, described
from .._types import Field, Function, Scalar, ScalarLike, as_partial
from ._integrate import Names, State, as_state, bits, refuse_options, root_mean_square, solve

# At rest, by bits of the state's dtype.
_REST = {16: 1e-1, 32: 1e-3, 64: 1e-6}


def settle(
    field: Field,
    y0: State,
    args: Any = None,
    *,
    rtol: float | int | None = None,
    atol: float | int | None = None,
    rest: Callable[..., Any] | None = None,
    dt0: ScalarLike | None = None,
    **options: Any,
) -> diffrax.Solution:
    r"""Follows a field from time 0 until it rests: $|v| < atol + rtol\,|y|$ in root mean square.

    Args:
        field: `field(t, y, args)`, the rate of the whole state [units of y per unit of time].
        y0: State at time 0: any pytree of numbers or arrays.
        args: Passed to `field`; its numbers become arrays.
        rtol: Relative tolerance of rest [per unit of time]; 1e-6 in float64, 1e-3 in float32.
        atol: Absolute tolerance of rest [units of y per unit of time]; the same numbers.
        rest: Another rule in place of the tolerances: `rest(t, y, args)` returns whether the state
            rests.
        dt0: As in `integrate`.
        **options: As in `integrate`, but for `event` and `dense`; `max_steps`, 65536 by default,
            decides when to give up, and with `throw=False` the state reached then is returned.

    Returns:
        A diffrax solution: `.ys` holds one time in front of every leaf, `.ts` says which (or what
        a `saveat` asks for), and `.result` is `diffrax.RESULTS.event_occurred` if the state came
        to rest.

    Raises:
        ValueError: If fixed steps come without `dt0`, a tolerance is negative, or an option is not
            for here; while tracing, if `field` returns no rate or `rest` no scalar, or by forward
            mode as in `integrate`.
        EquinoxRuntimeError: If the state is not at rest after `max_steps`, the solve fails, or
            `y0` is not finite (unless `throw=False`).

    Example:
        ```python
        def field(t, y, args):
            return args - y


        end = df.settle(field, jnp.zeros(2), jnp.array([1.0, 2.0]))
        print(end.ys[-1])  # [1.00 2.00]
        ```

    References:
        diffrax, "Steady state".
    """
    names = Names("settle")
    refuse_options("settle", options, "event", "dense")
    y0 = as_state(names, y0)
    if rest is None:
        rtol, atol = (_REST[bits(y0)] if x is None else float(x) for x in (rtol, atol))
        for name, value in {"rtol": rtol, "atol": atol}.items():
            good = 0 <= value < math.inf and max(rtol, atol) > 0
            check_number("settle", name, value, good, "a positive number")
        event = _rest_event(rtol, atol)
    else:
        event = diffrax.Event(jax.tree_util.Partial(_rests, as_partial(rest)))
    return solve(names, field, y0, None, args, dt0=dt0, event=event, **options)


@functools.cache
def _rest_event(rtol: float, atol: float) -> diffrax.Event:
    """Makes one event for each pair of tolerances: a new one would be traced again."""
    return diffrax.Event(diffrax.steady_state_event(rtol, atol, root_mean_square))


def _rests(rest: Function, t: Scalar, y: State, args: Any, **_: Any) -> Any:
    """Calls a rule of rest without the options that diffrax passes to events."""
    found = rest(t, y, args)
    if jnp.shape(found) != ():
        words = f"`rest` returns {described(found)}; it must return one flag for the whole state."
        raise ValueError(f"settle: {words}")
    return found
