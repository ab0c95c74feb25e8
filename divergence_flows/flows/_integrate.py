"""Following a field through time: the one place where diffrax solves.

A field that is a module-level function, or a `jax.tree_util.Partial` over one, is traced once; a
fresh lambda is traced at each call.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
from diffrax import (
    RESULTS as RESULTS,
    AbstractAdaptiveSolver as AbstractAdaptiveSolver,
    AbstractProgressMeter as AbstractProgressMeter,
    AbstractSolver as AbstractSolver,
    AbstractStepSizeController as AbstractStepSizeController,
    AbstractTerm as AbstractTerm,
    Kvaerno3 as Kvaerno3,
    LocalLinearInterpolation as LocalLinearInterpolation,
    NoProgressMeter as NoProgressMeter,
    PIDController as PIDController,
    TqdmProgressMeter as TqdmProgressMeter,
    Tsit5 as Tsit5,
)
from jaxtyping import Array, ArrayLike, Float, PyTree, Real

from .._checks import check_counts, check_positive, check_rate, raise_first, raise_if, some
from .._types import AnyFloat, Field, Scalar, ScalarLike, as_float, as_partial, traced
from ._fixed_steps import Schedule, in_scan, one_way, schedule
from ._forward_mode import reverse_only
from ._saving import any_not_finite, checked, held_at_event, not_finite, parts_of, rule

# Any pytree of numbers or arrays: one array, a tuple, a Gaussian.
State = PyTree[Real[ArrayLike, "..."]]
Times = Real[Array | np.ndarray, " time"] | Sequence[ScalarLike]

# By bits of the state's dtype: (rtol, atol) of explicit and of implicit solvers.
# In float32 an implicit solve of a stiff problem never ends at tighter tolerances.
_EXPLICIT = {16: (1e-2, 1e-2), 32: (1e-5, 1e-5), 64: (1e-8, 1e-8)}
_IMPLICIT = {16: (1e-2, 1e-2), 32: (1e-3, 1e-4), 64: (1e-6, 1e-8)}
_NOT_FINITE = "{}: `{}` has NaN or inf; pass finite numbers."
_BROKEN = "{}: the state is not finite; the steps are too large, or `field` is not."


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
    saveat: diffrax.SaveAt | None = None,
    adjoint: diffrax.AbstractAdjoint | None = None,
    max_steps: int | None = None,
    dense: bool = False,
    progress_meter: AbstractProgressMeter | None = None,
    throw: bool = True,
) -> diffrax.Solution:
    r"""Follows $dy/dt = \mathrm{field}(t, y, args)$ from `ts[0]` and returns the state at all `ts`.

    `solver=diffrax.Euler(), dt0=0.01` is the slides' scheme. Fixed steps of `Euler` and of explicit
    Runge-Kutta methods run in a `lax.scan`, as quick as a loop by hand, if `ts` and `dt0` are
    numbers or numpy arrays rather than traced, and no other option is given.

    With `throw=False` a failed solve leaves the states it did not reach at inf and gives the
    reason in `.result`; errors that `field` raises are still raised.

    Args:
        field: `field(t, y, args)`, the rate of the whole state [units of y per unit of time].
        y0: State at `ts[0]`: an array, a tuple, or any pytree of numbers or arrays.
        ts: Times, increasing, at least two; cast to the state's dtype [units of time]. With
            `saveat` they are start and end alone.
        args: Passed to `field`; its numbers become arrays, so that changing them traces nothing.
        solver: Any diffrax solver, explicit or implicit; `Tsit5()` by default.
        stepsize_controller: By default the steps are fixed, of size `dt0`, for solvers without an
            error estimate, and else adaptive with tolerances (rtol, atol): explicit 1e-5, 1e-5 in
            float32 and 1e-8, 1e-8 in float64; implicit 1e-3, 1e-4 and 1e-6, 1e-8.
        dt0: First step, or every step of a fixed-step solver [units of time].
        event: Where to stop early. The state is then that of the event at all later times, and
            `.ts` says when that was: the last row is where it stopped. `diffrax.Event(condition,
            optimistix.Newton(rtol, atol))` finds the time exactly; without a root finder it is the
            end of a step.
        saveat: What to save in place of the states at all `ts`: a `diffrax.SaveAt`, passed on as it
            is, whose own times lie between `ts[0]` and `ts[-1]`; `.ts` and `.ys` are then as in
            diffrax.
        adjoint: How to differentiate; diffrax's `RecursiveCheckpointAdjoint()` by default, which
            has first derivatives in reverse mode alone; fixed steps of `Euler` in a scan have
            all. `diffrax.ForwardMode()` has `jvp` and
            `jacfwd`; `diffrax.DirectAdjoint()` has both, and `hessian`, for more memory.
        max_steps: Steps allowed. By default as many as fixed steps need, else 65536 (4096 if all
            steps are saved, as for `dense`); the latter also if steps are fixed and `ts` or `dt0`
            is traced.
        dense: Whether the solution can be evaluated at any time.
        progress_meter: A diffrax progress meter; none by default.
        throw: Whether a failed solve raises.

    Returns:
        A diffrax solution: `.ys` with a time axis in front of every leaf, `.result` (which is
        `diffrax.RESULTS.event_occurred` after an event), `.stats`.

    Raises:
        ValueError: If `ts` holds fewer than two times, or more with `saveat`; `y0` holds no
            numbers; fixed steps come without `dt0`, or `dense=True` with a `saveat` that is not.
            While tracing, if `field` returns no rate of the state, or by forward mode with an
            `adjoint` that has none.
        EquinoxRuntimeError: If `ts` does not increase, `dt0` is not positive, `y0` is not finite
            (unless `throw=False`), or the solve fails.

    Example:
        ```python
        def field(t, y, args):
            return -args * y


        solution = df.integrate(field, jnp.ones(2), [0.0, 1.0, 2.0], 0.5)
        print(solution.ys[-1])  # [0.368 0.368]
        ```

    References:
        Kidger, On Neural Differential Equations, 2021; diffrax.
    """
    how: dict[str, Any] = {"solver": solver, "stepsize_controller": stepsize_controller}
    how |= {"dt0": dt0, "event": event, "adjoint": adjoint, "progress_meter": progress_meter}
    how |= {"saveat": saveat, "max_steps": max_steps, "dense": dense, "throw": throw}
    return solve(Names("integrate"), field, y0, ts, args, **how)


class Names(eqx.Module):
    """The public function that solves and its arguments' names, for error messages."""

    caller: str = eqx.field(static=True)
    field: str = eqx.field(static=True, default="field")
    state: str = eqx.field(static=True, default="y0")


def solve(
    names: Names,
    field: Field,
    y0: State,
    ts: Times | None,
    args: Any,
    noise: Callable[..., diffrax.AbstractTerm] | None = None,
    /,
    *,
    solver: diffrax.AbstractSolver | None = None,
    stepsize_controller: diffrax.AbstractStepSizeController | None = None,
    dt0: ScalarLike | None = None,
    saveat: diffrax.SaveAt | None = None,
    max_steps: int | None = None,
    dense: bool = False,
    throw: bool = True,
    **options: Any,
) -> diffrax.Solution:
    """Checks and casts what a public function was given, and solves.

    Without `ts` it solves from time 0 until the event and keeps only the end. `noise(y0, ts, dt0)`
    makes the second term of an SDE. Other options go to diffrax unless they are None.
    """
    y0 = as_state(names, y0)
    if ts is not None:
        check_times(names.caller, ts, on_device=False)
    check_counts(names.caller, {"max_steps": max_steps})
    if dt0 is not None and not isinstance(dt0, jax.Array):
        check_positive(names.caller, dt0=dt0)
    solver = diffrax.Tsit5() if solver is None else solver
    if stepsize_controller is None:
        if isinstance(solver, diffrax.AbstractAdaptiveSolver):
            implicit = isinstance(solver, diffrax.AbstractImplicitSolver)
            stepsize_controller = PIDController(*(_IMPLICIT if implicit else _EXPLICIT)[bits(y0)])
        elif dt0 is None:
            words = f"`solver` {type(solver).__name__} takes fixed steps, and `dt0` is None"
            raise ValueError(f"{names.caller}: {words}; give their size, for instance dt0=0.01.")
        else:
            stepsize_controller = diffrax.ConstantStepSize()
    fixed = isinstance(stepsize_controller, diffrax.ConstantStepSize)
    dtype = jnp.result_type(*jax.tree.leaves(y0))
    if saveat is not None:
        saveat = checked(names.caller, saveat, 2 if ts is None else len(ts), dense, dtype)
    plan = None
    plain = saveat is None and noise is None and not dense
    if fixed and plain and all(value is None for value in options.values()):
        plan = schedule(solver, ts, dt0, max_steps, dtype)
    if max_steps is None:
        every = dense if saveat is None else saveat.dense or any(x.steps for x in parts_of(saveat))
        max_steps = (_fixed_steps(ts, dt0) if fixed else None) or (4096 if every else 65536)
    settings = {name: value for name, value in options.items() if value is not None}
    settings |= {"solver": solver, "stepsize_controller": stepsize_controller}
    settings |= {"max_steps": max_steps, "args": jax.tree.map(_number_to_array, args)}
    # Only a step controller needs NaN for a rate that overflows.
    rate = jax.tree_util.Partial(_rate if fixed else _rate_or_nan, names, as_partial(field))
    times = jnp.asarray((0.0, jnp.inf) if ts is None else ts, dtype)
    step = None if dt0 is None else jnp.asarray(dt0, dtype)
    how = (settings, saveat, dense, ts is None, throw)
    try:
        if plan is not None and step is not None:
            made = settings["solver"], settings["args"], plan, throw
            return _solve_in_scan(names, rate, y0, times, step, *made)
        return _solve(names, rate, noise, y0, times, step, *how)
    except TypeError as error:  # of what `rate` has closed over: `reverse_only` cannot see it
        if "forward-mode" in str(error) and _is_one_way(settings):
            raise ValueError(_no_forward_mode(names)) from error
        raise


@eqx.filter_jit
def _solve_in_scan(
    names: Names,
    rate: Field,
    y0: State,
    ts: Float[Array, " time"],
    dt0: Scalar,
    solver: diffrax.AbstractSolver,
    args: Any,
    plan: Schedule,
    throw: bool,
) -> diffrax.Solution:
    """As `_solve`, for fixed steps to times that the host has seen; one look at all contents."""
    if one_way(solver):
        rate, y0, args = _reverse_only(names, (rate, y0, args))
    solution = in_scan(diffrax.ODETerm(rate), solver, y0, ts, dt0, args, plan)
    if not throw:
        return solution
    ends = jax.tree.map(lambda leaf: leaf[-1], solution.ys)  # what is not finite stays so
    words = _NOT_FINITE.format(names.caller, names.state), _BROKEN.format(names.caller)
    faults = {words[0]: any_not_finite(y0), words[1]: any_not_finite(ends)}
    return dataclasses.replace(solution, ys=raise_first(solution.ys, faults))


@eqx.filter_jit
def _solve(
    names: Names,
    rate: Field,
    noise: Callable[..., diffrax.AbstractTerm] | None,
    y0: State,
    ts: Float[Array, " time"],
    dt0: Scalar | None,
    settings: dict[str, Any],
    saveat: diffrax.SaveAt | None,
    dense: bool,
    until_event: bool,
    throw: bool,
) -> diffrax.Solution:
    """Solves, compiled once for each structure of its arguments; refuses wrong contents."""
    caller = names.caller
    good = ~some(~(jnp.diff(ts) > 0)) & (~some(~jnp.isfinite(ts)) | until_event)
    # One refusal for all: each takes a tenth of a second to trace and compile.
    faults = {f"{caller}: `ts` must increase; pass finite times, each after the last.": ~good}
    if dt0 is not None:
        words = f"{caller}: `dt0` must be positive and finite; pass such a step."
        faults[words] = ~((dt0 > 0) & jnp.isfinite(dt0))
    if throw:
        faults[_NOT_FINITE.format(caller, names.state)] = any_not_finite(y0)
    y0, ts = raise_first((y0, ts), faults)
    if _is_one_way(settings):
        inputs = rate, noise, y0, ts, dt0, settings
        rate, noise, y0, ts, dt0, settings = _reverse_only(names, inputs)
    terms = diffrax.ODETerm(rate)
    if noise is not None:
        terms = diffrax.MultiTerm(terms, noise(y0, ts, dt0))
    event = "event" in settings
    saves = rule(ts, event, until_event, throw, dense) if saveat is None else saveat
    solution = diffrax.diffeqsolve(
        terms, t0=ts[0], t1=ts[-1], dt0=dt0, y0=y0, saveat=saves, throw=False, **settings
    )
    if event and saveat is None and not until_event:
        solution = held_at_event(solution)
    if not throw:
        return solution
    # Only flags go to the host, so that a cloud stays where it lies.
    result = solution.result
    failed = result.error_if(jnp.zeros((), bool), ~diffrax.is_okay(result))
    # Fixed steps have no error estimate that would reject a state which is not finite.
    broken = not_finite(solution, parts_of(saves)) | failed
    field = "interpolation" if solution.ys is None else "ys"
    floats, rest = eqx.partition(getattr(solution, field), eqx.is_inexact_array)
    guarded = eqx.combine(raise_if(floats, broken, _BROKEN.format(caller)), rest)
    return dataclasses.replace(solution, **{field: guarded})


def _is_one_way(settings: dict[str, Any]) -> bool:
    """Whether a solve has derivatives in reverse mode alone, as diffrax's own choice has."""
    one_way = diffrax.RecursiveCheckpointAdjoint, diffrax.BacksolveAdjoint
    return isinstance(settings.get("adjoint", one_way[0]()), one_way)


def _reverse_only(names: Names, inputs: Any) -> Any:
    """Marks all floats that a solve may be differentiated in."""
    mark = functools.partial(reverse_only, _no_forward_mode(names))
    floats, rest = eqx.partition(inputs, eqx.is_inexact_array)
    return eqx.combine(jax.tree.map(mark, floats), rest)


def _no_forward_mode(names: Names) -> str:
    """What to do where forward mode has no derivatives."""
    words = "`adjoint` has no forward mode, of which `jvp`, `jacfwd` and `hessian` are made"
    better = "adjoint=diffrax.DirectAdjoint(), or diffrax.ForwardMode() where nothing is reversed"
    return f"{names.caller}: {words}; pass {better}."


def _rate(names: Names, field: Field, t: ScalarLike, y: State, args: Any) -> State:
    """Evaluates a field and checks that it returns a rate of the state."""
    return check_rate(names.caller, names.field, field(t, y, args), y)


def _rate_or_nan(names: Names, field: Field, t: ScalarLike, y: State, args: Any) -> State:
    """As `_rate`, with NaN where the rate overflows, so that a step controller rejects the step."""
    rate = _rate(names, field, t, y, args)
    return jax.tree.map(lambda leaf: jnp.where(jnp.isfinite(leaf), leaf, jnp.nan), rate)


def _number_to_array(leaf: Any) -> Any:
    """Makes an array of a number; functions and flags stay as they are."""
    return jnp.asarray(leaf) if eqx.is_array_like(leaf) and not isinstance(leaf, bool) else leaf


def _fixed_steps(ts: Times | None, dt0: ScalarLike | None) -> int | None:
    """Counts fixed steps, rounded up to a power of two so that few counts are compiled."""
    if ts is None or dt0 is None or traced((ts, dt0)):
        return None
    times, step = np.asarray(ts, np.float64), float(np.asarray(dt0))
    steps = (times[-1] - times[0]) / step if step > 0 else 0  # the solve refuses such a step
    return 1 << int(steps + 2).bit_length() if 0 < steps < 2**40 else None


def as_state(names: Names, y0: State) -> PyTree[AnyFloat]:
    """Makes float arrays of a state, and refuses an empty one."""
    if not any(np.size(leaf) for leaf in jax.tree.leaves(y0)):
        words = f"`{names.state}` holds no numbers; pass a state of at least one."
        raise ValueError(f"{names.caller}: {words}")
    return jax.tree.map(as_float, y0)


def check_times(caller: str, ts: Times, *, on_device: bool = True) -> None:
    """Refuses times that do not increase; those inside a trace are not known yet.

    With `on_device=False` the values of a JAX array are left to the solve, which checks them there.
    """
    if len(ts) < 2:
        words = f"`ts` holds {len(ts)} time(s); give two or more, from that of the initial state."
        raise ValueError(f"{caller}: {words}")
    if traced(ts) or (isinstance(ts, jax.Array) and not on_device):
        return
    times = np.asarray(ts, np.float64)
    good = (np.diff(times) > 0) & np.isfinite(times[1:]) & np.isfinite(times[:-1])
    if not np.all(good):
        first = int(np.argmin(good))
        words = f"`ts` must increase, and goes from {times[first]} to {times[first + 1]}"
        raise ValueError(f"{caller}: {words}; pass finite times, each after the last.")


def refuse_options(caller: str, options: dict[str, Any], *names: str) -> None:
    """Refuses options of `integrate` that a solve fills in itself."""
    for name in options.keys() & set(names):
        raise ValueError(f"{caller}: `{name}` is no option here; leave it out, or use `integrate`.")
    if "dense" in names and getattr(options.get("saveat"), "dense", False):
        raise ValueError(
            f"{caller}: `saveat` has dense=True, which is no option here; leave it out."
        )


def bits(y0: State) -> int:
    """Width of the state's dtype."""
    return jnp.finfo(jnp.result_type(*jax.tree.leaves(y0))).bits


def root_mean_square(tree: PyTree[AnyFloat]) -> Scalar:
    """Root mean square of all entries of a state or its rate."""
    flat, _ = jax.flatten_util.ravel_pytree(tree)
    return jnp.sqrt(jnp.mean(flat**2))
