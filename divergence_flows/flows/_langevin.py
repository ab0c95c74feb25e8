r"""Langevin's SDE, whose marginals are those of the h = u flow."""

import math
from collections.abc import Callable
from typing import Any

import diffrax
import jax
import lineax as lx
from jaxtyping import Array, Float, PRNGKeyArray

from .._types import Function, Scalar, ScalarLike, as_partial
from ._integrate import Names, Times, refuse_options, solve
from ._velocity import AnyEvent, AnyEventLike


def langevin(
    score: Callable[..., Any],
    x0: AnyEventLike,
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
        x0: Particles at `ts[0]` [units of x], an array or a pytree.
        ts: Times, increasing, at least two; cast to the particles' dtype [units of time].
        args: Passed to `score`; its numbers become arrays.
        dt0: Step [units of time].
        solver: A diffrax solver for additive noise; `ShARK()` by default, of strong order 1.5.
        key: Key of the Brownian motion; the path is the same at any step, down to `dt0` / 2.
        **options: As in `integrate`, but for `stepsize_controller` and `dense`.

    Returns:
        A diffrax solution: `.ys` holds the particles at all `ts`, as in `integrate`.

    Raises:
        ValueError: If `ts` holds fewer than two times, there are no particles, or an option is not
            for here; while tracing, if `score` returns no gradient of a particle, or by forward
            mode as in `integrate`.
        EquinoxRuntimeError: If `ts` does not increase, `dt0` is not positive, `x0` is not finite,
            or the solve fails.

    References:
        Jordan, Kinderlehrer & Otto, 1998; Foster et al., SIAM J. Numer. Anal. 2024 (ShARK).
    """
    refuse_options("langevin", options, "stepsize_controller", "dense")
    drift = jax.tree_util.Partial(_of_each_particle, as_partial(score))
    noise = jax.tree_util.Partial(_noise, key)
    options |= {"solver": diffrax.ShARK() if solver is None else solver, "dt0": dt0}
    options |= {"stepsize_controller": diffrax.ConstantStepSize()}
    return solve(Names("langevin", "score", "x0"), drift, x0, ts, args, noise, **options)


def _of_each_particle(score: Function, t: ScalarLike, xs: AnyEvent, args: Any) -> Any:
    """Evaluates a score of one particle on a cloud."""
    return jax.vmap(score, in_axes=(None, 0, None))(t, xs, args)


def _noise(
    key: PRNGKeyArray, x0: AnyEvent, ts: Float[Array, " time"], dt0: Scalar
) -> diffrax.ControlTerm:
    """Makes the term sqrt(2) dw; its path is resolved to half a step, as ShARK needs."""
    like = jax.eval_shape(lambda: x0)
    path = diffrax.VirtualBrownianTree(ts[0], ts[-1], dt0 / 2, like, key, diffrax.SpaceTimeLevyArea)
    root_two = math.sqrt(2.0) * lx.IdentityLinearOperator(like)
    return diffrax.ControlTerm(lambda t, xs, args: root_two, path)
