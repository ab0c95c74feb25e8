r"""The main job: samples of q moved onto samples of p by a discriminator that follows them.

A few discriminator steps, one Euler step of the MonoFlow, again: all inside `lax.scan`, a chunk
at a time. Between chunks the host may write a checkpoint or look at the particles.
"""

import os
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, ArrayLike, Float, Int, PRNGKeyArray, PyTree, Real

from .._checks import Network, check_counts, check_critic, check_positive, check_samples
from .._types import Scalar, ScalarLike, as_float, as_partial
from ..flows._integrate import AbstractProgressMeter, NoProgressMeter
from ..gans._losses import require_fields
from ..runs._checkpoint import digest, values
from ..runs._loop import Loop, as_path, follow
from ..runs._stopping import Metrics
from ._chunk import Plan, TransportState, signs, step
from ._penalty import check_penalty
from ._ratio_step import RatioState
from ._update import Optimizer, default_optimizer, default_step_size, first_updates


class TransportInfo(eqx.Module):
    """What happened on the way.

    `losses` is the discriminator loss before the last of its updates at each step [nats for the
    logistic pairs]; `speeds` the root mean square velocity [units of x per unit of flow time];
    `path` the particles at `path_steps`; `discriminator` the last one. `diverged` is -1; inside
    `jit` and `vmap`, where nothing is raised, the step at which the run diverged, if it did: what
    is told from there on is NaN, and all else is of the last good state.
    """

    losses: Float[Array, " steps"]
    speeds: Float[Array, " steps"]
    path: Float[Array, "time n *event"]
    path_steps: Int[Array, " time"]
    discriminator: PyTree
    diverged: Int[Array, ""]


def _constant(value: Scalar, step: Int[Array, ""]) -> Scalar:
    """A schedule that does not change."""
    del step
    return value


def _header(plan: Plan, state: TransportState, steps: int, chunk: int) -> dict[str, Any]:
    """The run's fingerprint: its settings, and its functions at a few arguments."""
    when, discriminator = (0, steps // 2, steps - 1), state.ratio.discriminator
    return {
        "run": "transport",
        "steps": steps,
        "chunk": chunk,
        "critic_steps": plan.critic_steps,
        "batch_size": plan.batch_size,
        "step_size": [float(plan.schedule(jnp.asarray(moment))) for moment in when],
        "gan": values(plan.gan),
        "penalty": plan.penalty and [plan.penalty, np.asarray(plan.penalty_weight).item()],
        "key": digest(plan.key),
        "xs_q": digest(state.xs),
        "xs_p": digest(plan.xs_p),
        "discriminator": digest((state.ratio, discriminator(state.xs[0]))),
        "optimizer": digest(first_updates(plan.optimizer, discriminator)),
    }


def _keep(state: TransportState, done: int) -> Metrics:
    """The particles at the end of a chunk."""
    return {"path": state.xs[None], "path_steps": np.array([done])}


def transport(
    gan: Any,
    discriminator: Network,
    xs_q: Real[ArrayLike, "n *event"],
    xs_p: Real[ArrayLike, "m *event"],
    *,
    steps: int = 4000,
    step_size: ScalarLike | Callable[..., Any] | None = None,
    critic_steps: int = 5,
    optimizer: Optimizer | None = None,
    batch_size: int | None = None,
    penalty: str | None = None,
    penalty_weight: ScalarLike = 10.0,
    chunk: int = 200,
    progress_meter: AbstractProgressMeter = NoProgressMeter(),
    checkpoint: str | os.PathLike | None = None,
    on_chunk: Callable[..., Any] | None = None,
    key: PRNGKeyArray,
) -> tuple[Float[Array, "n *event"], TransportInfo]:
    r"""Moves samples of q onto samples of p along the MonoFlow of a GAN, the ratio learned.

    Each step trains the discriminator a little on the particles where they are, then moves them
    by $x + \epsilon\, \nabla_x h_T(d(x))$. Under `jax.vmap` over `key` (and, if you like, over
    discriminators and clouds) it runs many seeds at once. The default steps suit data of about
    unit scale: standardise first.

    Args:
        gan: The `GAN`, or `IPM`: phi and psi train the discriminator, h_T moves the particles.
        discriminator: A module d(x) of one sample, for instance `networks.Discriminator`.
        xs_q: Samples of q, the particles to move [units of x].
        xs_p: Samples of p; not necessarily as many [units of x].
        steps: Euler steps.
        step_size: eps of an Euler step, a number or a schedule `step -> eps` [units of flow time];
            from 1e-2 down a cosine to 1e-3 by default.
        critic_steps: Discriminator steps before each Euler step.
        optimizer: Of the discriminator; Adam from 2e-3 down a cosine to zero by default.
        batch_size: Samples of p and of q drawn, with replacement, for each discriminator step; a
            cloud of no more samples is used whole, and all are by default.
        penalty: None, or a `gradient_penalty` of the discriminator: "r1", "zero" or "one".
        penalty_weight: Its weight in the discriminator's loss.
        chunk: Euler steps between two visits to the host: a compiled program for this length, and
            one more for the rest if it does not divide `steps`.
        progress_meter: One of diffrax's; stepped at each Euler step.
        checkpoint: A file, written after each chunk. If it exists, the run goes on from there bit
            for bit; it must have been written by the same call.
        on_chunk: Called with the `TransportState` after each chunk; what it raises ends the run.
        key: Randomness of the minibatches.

    Returns:
        The moved particles, and a `TransportInfo`.

    Raises:
        ValueError: If a number is not positive, a cloud is empty, the discriminator does not make
            one number of one sample, the checkpoint is another run's, or `checkpoint` is asked
            for inside a trace.
        EquinoxRuntimeError: If a sample is not finite, or numbers are too large for their floats.
        RunDiverged: At the end of a chunk in which a number is not finite any more, an Euler step
            throws the particles a thousand times as far as the data reach, or, in 100 steps or
            more, none has moved at all though p is elsewhere; not inside `jit` and `vmap`.
        OSError: If the checkpoint cannot be written; the one before stands.
        KeyboardInterrupt: On Ctrl-C, with what the checkpoint holds.

    References:
        Yi, Zhu & Liu, MonoFlow, ICML 2023, algorithm 1.
    """
    require_fields("transport", gan, "phi", "psi", "h_t")
    check_penalty("transport", penalty, penalty_weight)
    counts = {"steps": steps, "critic_steps": critic_steps, "batch_size": batch_size}
    check_counts("transport", {**counts, "chunk": chunk})
    start, goal = check_samples("transport", xs_q=xs_q, xs_p=xs_p)
    check_critic("transport", "discriminator", discriminator, xs_q=start)
    optimizer = default_optimizer(steps * critic_steps) if optimizer is None else optimizer
    schedule, price = _schedule(step_size, steps), (penalty, penalty_weight)
    plan = Plan(gan, optimizer, schedule, goal, key, critic_steps, batch_size, *price)
    path = as_path("transport", checkpoint, (plan, discriminator, start))
    ratio = RatioState.start(discriminator, optimizer)
    state = TransportState(start, ratio, jnp.asarray(0))
    header = {} if path is None else _header(plan, state, steps, chunk)
    loop = Loop("transport", steps, chunk, progress_meter, path, header, on_chunk)
    history = {"losses": [], "speeds": [], **{k: [v] for k, v in _keep(state, 0).items()}}
    lost = Partial(signs, plan, start)
    state, metrics = follow(loop, Partial(step, plan), state, history, _keep, lost)
    return state.xs, TransportInfo(**metrics, discriminator=state.ratio.discriminator)


def _schedule(step_size: ScalarLike | Callable[..., Any] | None, steps: int) -> Callable[..., Any]:
    """Makes a schedule of whatever was passed."""
    if step_size is None:
        return default_step_size(steps)
    if callable(step_size):
        return as_partial(step_size)
    check_positive("transport", step_size=step_size)
    return Partial(_constant, as_float(step_size))
