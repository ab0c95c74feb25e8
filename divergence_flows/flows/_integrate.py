r"""Following a field through time.

With `_langevin` the only importer of diffrax. One jitted solve serves all: a field that is a
module-level function or a `jax.tree_util.Partial` over one is traced once, a fresh lambda always.
"""

import dataclasses
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from diffrax import (
    RESULTS as RESULTS,
    AbstractProgressMeter as AbstractProgressMeter,
    AbstractSolver as AbstractSolver,
    AbstractStepSizeController as AbstractStepSizeController,
    Bosh3 as Bosh3,
    Event as Event,
    Kvaerno3 as Kvaerno3,
    NoProgressMeter as NoProgressMeter,
    PIDController as PIDController,
    Solution as Solution,
    TextProgressMeter as TextProgressMeter,
    TqdmProgressMeter as TqdmProgressMeter,
    Tsit5 as Tsit5,
    steady_state_event as steady_state_event,
)
from jaxtyping import Array, Float

from .._checks import check_counts, check_positive, raise_if
from .._types import Field, Scalar, ScalarLike, as_partial
from ._states import (
    Names,
    State,
    Times,
    as_arrays,
    as_state,
    begin,
    bits,
    cast_times,
    fixed_steps,
    overflow_is_nan,
    rate_of,
    sound,
)

# By bits of the state's dtype: (rtol, atol) of explicit and of implicit solvers.
# In float32 an implicit solve of a stiff problem never ends at tighter tolerances.
_EXPLICIT = {16: (1e-2, 1e-2), 32: (1e-5, 1e-5), 64: (1e-8, 1e-8)}
_IMPLICIT = {16: (1e-2, 1e-2), 32: (1e-3, 1e-4), 64: (1e-6, 1e-8)}


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
        ValueError: If `ts` holds fewer than two times, `y0` no numbers, or fixed steps come without
            `dt0`; while tracing, if `field` returns no rate of the state.
        EquinoxRuntimeError: If `ts` does not increase, `dt0` is not positive, `y0` is not finite
            (unless `throw=False`), or the solve fails.

    References:
        Kidger, On Neural Differential Equations, 2021; diffrax.
    """
    return follow(
        Names("integrate"),
        field,
        y0,
        ts,
        args,
        solver=solver,
        stepsize_controller=stepsize_controller,
        dt0=dt0,
        event=event,
        adjoint=adjoint,
        max_steps=max_steps,
        dense=dense,
        progress_meter=progress_meter,
        throw=throw,
    )


def follow(
    names: Names,
    field: Field,
    y0: State,
    ts: Times,
    args: Any = None,
    *,
    dt0: ScalarLike | None = None,
    dense: bool = False,
    **options: Any,
) -> diffrax.Solution:
    """As `integrate`, for whoever names itself."""
    start = as_state(names, y0)
    begin(names.caller, ts)
    settings = setup(names.caller, start, ts, dt0, dense=dense, **options)
    terms = terms_of(names, field, settings)
    times = cast_times(start, ts, dt0)
    return solve(names, terms, start, *times, as_arrays(args), settings, dense)


def terms_of(names: Names, field: Field, settings: dict[str, Any]) -> diffrax.ODETerm:
    """Makes diffrax's term of a field; fixed steps have no controller to mislead."""
    fixed = isinstance(settings["stepsize_controller"], diffrax.ConstantStepSize)
    rate = rate_of if fixed else overflow_is_nan
    return diffrax.ODETerm(jax.tree_util.Partial(rate, names, as_partial(field)))


@eqx.filter_jit
def solve(
    names: Names,
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
    throw = settings["throw"]
    y0, ts, dt0 = sound(names, y0, ts, dt0, only_end, throw)
    # Saving at times costs a loop inside each step; start and end alone need none. What stops
    # early must say so by an inf, and only saving at times does.
    ends = ts.shape[0] == 2 and settings["event"] is None and throw
    if only_end or ends:
        saveat = diffrax.SaveAt(t0=not only_end, t1=True, dense=dense)
    else:
        saveat = diffrax.SaveAt(ts=ts, dense=dense)
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
    return _raise(names.caller, solution) if throw else solution


def _raise(caller: str, solution: diffrax.Solution) -> diffrax.Solution:
    """Raises if a solve failed; only flags go to the host, so that a cloud stays where it lies."""
    result = solution.result
    failed = result.error_if(jnp.zeros((), bool), ~diffrax.is_okay(result))
    # Fixed steps have no error estimate that would reject a state which is no number.
    broken = sum(jnp.sum(~jnp.isfinite(leaf)) for leaf in jax.tree.leaves(solution.ys)) > 0
    reached = (result == diffrax.RESULTS.successful) & ~failed
    message = f"{caller}: the state is not finite; the steps are too large, or `field` is not."
    return dataclasses.replace(solution, ys=raise_if(solution.ys, broken & reached, message))


def setup(
    caller: str,
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
    check_counts(caller, {"max_steps": max_steps})
    if dt0 is not None and not isinstance(dt0, jax.Array):
        check_positive(caller, dt0=dt0)
    solver = diffrax.Tsit5() if solver is None else solver
    if stepsize_controller is None:
        stepsize_controller = _controller(caller, solver, dt0, bits(y0))
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
    caller: str, solver: diffrax.AbstractSolver, dt0: ScalarLike | None, width: int
) -> diffrax.AbstractStepSizeController:
    """Adapts the steps of a solver that estimates its error, and fixes the others'."""
    if isinstance(solver, diffrax.AbstractAdaptiveSolver):
        table = _IMPLICIT if isinstance(solver, diffrax.AbstractImplicitSolver) else _EXPLICIT
        rtol, atol = table[width]
        return diffrax.PIDController(rtol=rtol, atol=atol)
    if dt0 is None:
        raise ValueError(
            f"{caller}: `solver` {type(solver).__name__} takes fixed steps, and `dt0` is None; "
            "give their size, for instance dt0=0.01."
        )
    return diffrax.ConstantStepSize()
