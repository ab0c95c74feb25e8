r"""Following a field through time, to given times or until it rests.

With `_langevin` the only importer of diffrax. One jitted solve serves all: a field that is a
module-level function or a `jax.tree_util.Partial` over one is traced once, a fresh lambda always.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from diffrax import (
    RESULTS as RESULTS,
    AbstractProgressMeter as AbstractProgressMeter,
    AbstractSolver as AbstractSolver,
    AbstractStepSizeController as AbstractStepSizeController,
    Bosh3 as Bosh3,
    Kvaerno3 as Kvaerno3,
    NoProgressMeter as NoProgressMeter,
    PIDController as PIDController,
    TextProgressMeter as TextProgressMeter,
    TqdmProgressMeter as TqdmProgressMeter,
    Tsit5 as Tsit5,
)
from jaxtyping import Array, Float

from ._states import (
    State,
    Times,
    as_arrays,
    at_least_two,
    bits,
    cast_times,
    fixed_steps,
    root_mean_square,
)
from ._types import Field, Scalar, ScalarLike, as_float, as_partial, refuse

# By bits of the state's dtype: (rtol, atol) of explicit and of implicit solvers, and of rest.
# In float32 an implicit solve of a stiff problem never ends at tighter tolerances.
_EXPLICIT = {16: (1e-2, 1e-2), 32: (1e-5, 1e-5), 64: (1e-8, 1e-8)}
_IMPLICIT = {16: (1e-2, 1e-2), 32: (1e-3, 1e-4), 64: (1e-6, 1e-8)}
_REST = {16: 1e-1, 32: 1e-3, 64: 1e-6}


def integrate(
    field: Field,
    y0: State,
    ts: Times,
    args: Any = None,
    *,
    solver: diffrax.AbstractSolver | None = None,
    stepsize_controller: diffrax.AbstractStepSizeController | None = None,
    dt0: ScalarLike | None = None,
    event: diffrax.Event | None = None,
    adjoint: diffrax.AbstractAdjoint | None = None,
    max_steps: int | None = None,
    dense: bool = False,
    progress_meter: AbstractProgressMeter | None = None,
    throw: bool = True,
) -> diffrax.Solution:
    r"""Follows $dy/dt = \mathrm{field}(t, y, args)$ from `ts[0]` and returns the state at all `ts`.

    `solver=diffrax.Euler(), dt0=0.01` is the slides' scheme. A failed solve with `throw=False`
    leaves the states it did not reach at inf and says why in `.result`; it catches no `error_if`.

    Args:
        field: `field(t, y, args)`, the rate of the whole state [units of y per unit of time].
        y0: State at `ts[0]`: an array, a tuple, or any pytree of numbers or arrays.
        ts: Times, increasing, at least two; cast to the state's dtype [units of time].
        args: Passed to `field`; its numbers become arrays, so that changing them traces nothing.
        solver: Any diffrax solver, explicit or implicit; `Tsit5()` by default.
        stepsize_controller: By default the steps are fixed, of size `dt0`, for solvers without an
            error estimate, and else adaptive with tolerances (rtol, atol): explicit 1e-5, 1e-5 in
            float32 and 1e-8, 1e-8 in float64; implicit 1e-3, 1e-4 and 1e-6, 1e-8.
        dt0: First step, or every step of a fixed-step solver [units of time].
        event: Where to stop early; states beyond it stay at inf.
        adjoint: How to differentiate; diffrax's `RecursiveCheckpointAdjoint()` by default.
        max_steps: Steps allowed. By default as many as fixed steps need, else 65536 (4096 if
            `dense`); the latter also if steps are fixed and `ts` or `dt0` is traced.
        dense: Whether the solution can be evaluated at any time.
        progress_meter: A diffrax progress meter; none by default.
        throw: Whether a failed solve raises.

    Returns:
        A diffrax solution: `.ys` with a time axis in front of every leaf, `.result`, `.stats`.

    Raises:
        ValueError: If `ts` holds fewer than two times, or fixed steps come without `dt0`.
        EquinoxRuntimeError: If `ts` does not increase, `dt0` is not positive, or the solve fails.

    References:
        Kidger, On Neural Differential Equations, 2021; diffrax.
    """
    start = jax.tree.map(as_float, y0)
    at_least_two("integrate", ts)
    settings = setup(
        start,
        ts,
        dt0,
        solver,
        stepsize_controller,
        event,
        adjoint,
        max_steps,
        dense,
        progress_meter,
        throw,
    )
    terms = _terms(field, settings)
    return solve(terms, start, *cast_times(start, ts, dt0), as_arrays(args), settings, dense)


def settle(
    field: Field,
    y0: State,
    args: Any = None,
    *,
    rtol: float | None = None,
    atol: float | None = None,
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
        rest: Another rule: `rest(t, y, args)` says whether the state rests. `rtol` and `atol` are
            then not used.
        dt0: As in `integrate`.
        **options: As in `integrate`, but for `event` and `dense`; `max_steps`, 65536 by default,
            decides when to give up, and with `throw=False` the state reached then is returned.

    Returns:
        A diffrax solution: `.ys` holds one time in front of every leaf, `.ts` says which, and
        `.result` is `diffrax.RESULTS.event_occurred` if the state came to rest.

    Raises:
        ValueError: If fixed steps come without `dt0`.
        EquinoxRuntimeError: If the state is not at rest after `max_steps`, or the solve fails.

    References:
        diffrax, "Steady state".
    """
    start = jax.tree.map(as_float, y0)
    if rest is None:
        slow = _REST[bits(start)]
        event = _rest_event(slow if rtol is None else rtol, slow if atol is None else atol)
    else:
        event = diffrax.Event(jax.tree_util.Partial(_without_options, as_partial(rest)))
    ts = np.array([0.0, math.inf])
    settings = setup(start, ts, dt0, event=event, **options)
    terms = _terms(field, settings)
    return solve(
        terms, start, *cast_times(start, ts, dt0), as_arrays(args), settings, only_end=True
    )


def _terms(field: Field, settings: dict[str, Any]) -> diffrax.ODETerm:
    """Makes diffrax's term of a field; fixed steps have no controller to mislead."""
    if isinstance(settings["stepsize_controller"], diffrax.ConstantStepSize):
        return diffrax.ODETerm(as_partial(field))
    return diffrax.ODETerm(jax.tree_util.Partial(_overflow_is_nan, as_partial(field)))


def _overflow_is_nan(field: Field, t: ScalarLike, y: State, args: Any) -> State:
    """Makes no number of a rate that overflows.

    A controller rejects a NaN; an inf ends in inf / inf, diffrax's scaled error, and the length
    of every later step is then NaN.
    """
    rate = field(t, y, args)
    return jax.tree.map(_finite_or_nan, rate)


def _finite_or_nan(leaf: Float[Array, "..."]) -> Float[Array, "..."]:
    return jnp.where(jnp.isfinite(leaf), leaf, jnp.nan)


@eqx.filter_jit
def solve(
    terms: diffrax.AbstractTerm,
    y0: State,
    ts: Float[Array, " time"],
    dt0: Scalar | None,
    args: Any,
    settings: dict[str, Any],
    dense: bool = False,
    only_end: bool = False,
) -> diffrax.Solution:
    """Checks the times and solves, compiled once for each structure of its arguments."""
    ts = eqx.error_if(ts, ~jnp.all(jnp.diff(ts) > 0), "integrate: `ts` must increase, always.")
    if dt0 is not None:
        dt0 = eqx.error_if(dt0, ~(dt0 > 0), "integrate: `dt0` must be positive.")
    # Saving at times costs a loop inside each step; start and end alone need none. What stops
    # early must say so by an inf, and only saving at times does.
    ends = ts.shape[0] == 2 and settings["event"] is None and settings["throw"]
    if only_end or ends:
        saveat = diffrax.SaveAt(t0=not only_end, t1=True, dense=dense)
    else:
        saveat = diffrax.SaveAt(ts=ts, dense=dense)
    throw = settings["throw"]
    solution = diffrax.diffeqsolve(
        terms,
        t0=ts[0],
        t1=ts[-1],
        dt0=dt0,
        y0=y0,
        args=args,
        saveat=saveat,
        **{**settings, "throw": False},
    )
    return _raise(solution) if throw else solution


def _raise(solution: diffrax.Solution) -> diffrax.Solution:
    """Raises if a solve failed; only flags go to the host, so that a cloud stays where it lies."""
    result = solution.result
    failed = result.error_if(jnp.zeros((), bool), ~diffrax.is_okay(result))
    # Fixed steps have no error estimate that would reject a state which is no number.
    broken = sum(jnp.sum(~jnp.isfinite(leaf)) for leaf in jax.tree.leaves(solution.ys)) > 0
    reached = (result == diffrax.RESULTS.successful) & ~failed
    message = "integrate: the state is not finite; the steps are too large, or `field` is not."
    return dataclasses.replace(solution, ys=refuse(solution.ys, broken & reached, message))


def setup(
    y0: State,
    ts: Times,
    dt0: ScalarLike | None,
    solver: diffrax.AbstractSolver | None = None,
    stepsize_controller: diffrax.AbstractStepSizeController | None = None,
    event: diffrax.Event | None = None,
    adjoint: diffrax.AbstractAdjoint | None = None,
    max_steps: int | None = None,
    dense: bool = False,
    progress_meter: AbstractProgressMeter | None = None,
    throw: bool = True,
) -> dict[str, Any]:
    """Fills in what was not given, each choice fit for the ones before it."""
    solver = diffrax.Tsit5() if solver is None else solver
    if stepsize_controller is None:
        stepsize_controller = _controller(solver, dt0, bits(y0))
    if max_steps is None:
        fixed = isinstance(stepsize_controller, diffrax.ConstantStepSize)
        max_steps = (fixed_steps(ts, dt0) if fixed else None) or (4096 if dense else 65536)
    return {
        "solver": solver,
        "stepsize_controller": stepsize_controller,
        "event": event,
        "adjoint": diffrax.RecursiveCheckpointAdjoint() if adjoint is None else adjoint,
        "max_steps": max_steps,
        "progress_meter": NoProgressMeter() if progress_meter is None else progress_meter,
        "throw": throw,
    }


def _controller(
    solver: diffrax.AbstractSolver, dt0: ScalarLike | None, width: int
) -> diffrax.AbstractStepSizeController:
    """Adapts the steps of a solver that estimates its error, and fixes the others'."""
    if isinstance(solver, diffrax.AbstractAdaptiveSolver):
        table = _IMPLICIT if isinstance(solver, diffrax.AbstractImplicitSolver) else _EXPLICIT
        rtol, atol = table[width]
        return diffrax.PIDController(rtol=rtol, atol=atol)
    if dt0 is None:
        raise ValueError(
            f"integrate: `solver` {type(solver).__name__} takes fixed steps, and `dt0` is None; "
            "give their size, for instance dt0=0.01."
        )
    return diffrax.ConstantStepSize()


@functools.cache
def _rest_event(rtol: float, atol: float) -> diffrax.Event:
    """Makes one event for each pair of tolerances, so that none is traced twice."""
    return diffrax.Event(diffrax.steady_state_event(rtol, atol, root_mean_square))


def _without_options(rest: Callable[..., Any], t: Scalar, y: State, args: Any, **_: Any) -> Any:
    """Spares a rule of rest what diffrax tells an event besides."""
    return rest(t, y, args)
