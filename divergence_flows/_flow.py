r"""Following a field through time: ODEs, rest points, and Langevin's SDE.

The only importer of diffrax. One jitted solve serves all: a field that is a module-level function
or a `jax.tree_util.Partial` over one is traced once, a fresh lambda every time.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from diffrax import (
    AbstractProgressMeter as AbstractProgressMeter,
    NoProgressMeter as NoProgressMeter,
    TextProgressMeter as TextProgressMeter,
    TqdmProgressMeter as TqdmProgressMeter,
)
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray, Real

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
from ._types import Field, Scalar, ScalarLike, as_float, as_partial

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
    setup = _setup(
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
    terms = diffrax.ODETerm(as_partial(field))
    return _solve(terms, start, *cast_times(start, ts, dt0), as_arrays(args), setup, dense)


def settle(
    field: Field,
    y0: State,
    args: Any = None,
    *,
    rtol: float | None = None,
    atol: float | None = None,
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
    rest = _REST[bits(start)]
    event = _rest_event(rest if rtol is None else rtol, rest if atol is None else atol)
    ts = np.array([0.0, math.inf])
    setup = _setup(start, ts, dt0, event=event, **options)
    terms = diffrax.ODETerm(as_partial(field))
    return _solve(terms, start, *cast_times(start, ts, dt0), as_arrays(args), setup, only_end=True)


def langevin(
    score: Callable[..., Any],
    x0: Real[ArrayLike, "n *event"],
    ts: Times,
    args: Any = None,
    *,
    dt0: ScalarLike = 0.01,
    solver: diffrax.AbstractSolver | None = None,
    key: PRNGKeyArray,
    **options: Any,
) -> diffrax.Solution:
    r"""Langevin's diffusion $dx = \nabla\log p\,dt + \sqrt2\,dw$, in fixed steps.

    Its marginals are those of the h = u flow, whose particles move without noise.

    Args:
        score: `score(t, x, args)`, the gradient of log p at one particle [nats per unit of x].
        x0: Particles at `ts[0]` [units of x].
        ts: Times, increasing, at least two; cast to the particles' dtype [units of time].
        args: Passed to `score`; its numbers become arrays.
        dt0: Step [units of time].
        solver: A diffrax solver for additive noise; `ShARK()` by default, of strong order 1.5.
        key: Key of the Brownian motion; the path is the same at any step, down to `dt0` / 2.
        **options: As in `integrate`, but for `stepsize_controller` and `dense`.

    Returns:
        A diffrax solution: `.ys` holds the particles at all `ts`.

    Raises:
        ValueError: If `ts` holds fewer than two times.
        EquinoxRuntimeError: If `ts` does not increase, `dt0` is not positive, or the solve fails.

    References:
        Jordan, Kinderlehrer & Otto, 1998; Foster et al., SIAM J. Numer. Anal. 2024 (ShARK).
    """
    start = as_float(x0)
    at_least_two("langevin", ts)
    chosen = diffrax.ShARK() if solver is None else solver
    setup = _setup(start, ts, dt0, chosen, diffrax.ConstantStepSize(), **options)
    times, _ = cast_times(start, ts, None)
    step = jnp.asarray(dt0, times.dtype)
    path = diffrax.VirtualBrownianTree(
        times[0],
        times[-1],
        tol=step / 2,
        shape=jax.ShapeDtypeStruct(start.shape, start.dtype),
        key=key,
        levy_area=diffrax.SpaceTimeLevyArea,
    )
    drift = diffrax.ODETerm(jax.tree_util.Partial(_per_particle, as_partial(score)))
    terms = diffrax.MultiTerm(drift, diffrax.ControlTerm(_diffusion, path))
    return _solve(terms, start, times, step, as_arrays(args), setup)


def _per_particle(
    score: Callable[..., Any], t: ScalarLike, xs: Float[Array, "n *event"], args: Any
) -> Float[Array, "n *event"]:
    """Evaluates a score of one particle on a cloud."""
    return jax.vmap(score, in_axes=(None, 0, None))(t, xs, args)


def _diffusion(t: ScalarLike, xs: Float[Array, "n *event"], args: Any) -> lx.AbstractLinearOperator:
    """Scales the noise by sqrt 2, whatever the state."""
    return math.sqrt(2.0) * lx.IdentityLinearOperator(jax.ShapeDtypeStruct(xs.shape, xs.dtype))


@eqx.filter_jit
def _solve(
    terms: diffrax.AbstractTerm,
    y0: State,
    ts: Float[Array, " time"],
    dt0: Scalar | None,
    args: Any,
    setup: dict[str, Any],
    dense: bool = False,
    only_end: bool = False,
) -> diffrax.Solution:
    """Checks the times and solves, compiled once for each structure of its arguments."""
    ts = eqx.error_if(ts, ~jnp.all(jnp.diff(ts) > 0), "integrate: `ts` must increase, always.")
    if dt0 is not None:
        dt0 = eqx.error_if(dt0, ~(dt0 > 0), "integrate: `dt0` must be positive.")
    saveat = diffrax.SaveAt(t1=True) if only_end else diffrax.SaveAt(ts=ts, dense=dense)
    return diffrax.diffeqsolve(
        terms, t0=ts[0], t1=ts[-1], dt0=dt0, y0=y0, args=args, saveat=saveat, **setup
    )


def _setup(
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
