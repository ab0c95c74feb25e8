r"""Langevin's SDE, whose marginals are those of the h = u flow."""

import math
from collections.abc import Callable
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray, Real

from .._checks import check_rate
from .._types import ScalarLike, as_partial
from ._integrate import setup, solve
from ._states import (
    Names,
    Times,
    as_arrays,
    as_state,
    begin,
    cast_times,
    increasing,
    refuse_options,
)


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
        ValueError: If `ts` holds fewer than two times, there are no particles, or an option is not
            for here; while tracing, if `score` returns no gradient of a particle.
        EquinoxRuntimeError: If `ts` does not increase, `dt0` is not positive, `x0` is not finite,
            or the solve fails.

    References:
        Jordan, Kinderlehrer & Otto, 1998; Foster et al., SIAM J. Numer. Anal. 2024 (ShARK).
    """
    names = Names("langevin", "score", "x0")
    refuse_options(names.caller, options, "stepsize_controller", "dense")
    start = as_state(names, x0)
    begin(names.caller, ts)
    chosen = diffrax.ShARK() if solver is None else solver
    settings = setup(names.caller, start, ts, dt0, chosen, diffrax.ConstantStepSize(), **options)
    times, _ = cast_times(start, ts, None)
    times = increasing(names.caller, times, False)  # or the path's words come first
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
    return solve(names, terms, start, times, step, as_arrays(args), settings)


def _per_particle(
    score: Callable[..., Any], t: ScalarLike, xs: Float[Array, "n *event"], args: Any
) -> Float[Array, "n *event"]:
    """Evaluates a score of one particle on a cloud."""
    rate = jax.vmap(score, in_axes=(None, 0, None))(t, xs, args)
    return check_rate("langevin", "score", rate, xs)


def _diffusion(t: ScalarLike, xs: Float[Array, "n *event"], args: Any) -> lx.AbstractLinearOperator:
    """Scales the noise by sqrt 2, whatever the state."""
    return math.sqrt(2.0) * lx.IdentityLinearOperator(jax.ShapeDtypeStruct(xs.shape, xs.dtype))
