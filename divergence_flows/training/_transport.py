r"""Samples of q moved onto samples of p by a discriminator that follows them.

A few discriminator steps, one Euler step of the MonoFlow, again: all inside `lax.scan`, a chunk
at a time. Between chunks the host may write a checkpoint or look at the particles.
"""

import functools
import os
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, ArrayLike, Float, Int, PRNGKeyArray, PyTree, Real

from .._checks import Network, check_counts, check_critic, check_positive, check_samples
from .._types import AnyCloud, Function, IntScalar, Scalar, ScalarLike, as_float, as_partial
from ..flows._integrate import AbstractProgressMeter, NoProgressMeter
from ..runs._loop import Loop, run_chunks, scan
from ..runs._stopping import STILL, Extent, Flag, Metrics, not_finite
from ._advice import COLLAPSED, CRITIC, PARTICLES
from ._ratio_step import RatioConfig, RatioState, unchecked_particle_step, unchecked_ratio_step
from ._update import Optimizer, default_optimizer, default_step_size

_ADVICE = {"losses": CRITIC, "ratio": CRITIC, "speeds": PARTICLES, "xs": PARTICLES}


class TransportState(eqx.Module):
    """Where a run stands: the particles, the discriminator, and the Euler steps done."""

    xs: Float[Array, "n *event"]
    ratio: RatioState
    step: Int[Array, ""]


class TransportInfo(eqx.Module):
    """What happened on the way.

    `losses` is the discriminator loss before the last of its updates at each step [nats for the
    logistic pairs]; `speeds` the root mean square velocity [units of x per unit of flow time];
    `path` the particles at `path_steps`; `discriminator` the last one. `diverged` is -1, or inside
    `jit` and `vmap`, where nothing is raised, the step at which the run diverged: metrics from
    there on are NaN, and all else is of the last good state.
    """

    losses: Float[Array, " steps"]
    speeds: Float[Array, " steps"]
    path: Float[Array, "time n *event"]
    path_steps: Int[Array, " time"]
    discriminator: PyTree
    diverged: Int[Array, ""]


class TransportConfig(eqx.Module):
    """The arguments of `transport` that its steps need."""

    critic: RatioConfig
    schedule: Callable[..., Any]
    critic_steps: int


def _step(
    config: TransportConfig, xs_p: AnyCloud, key: PRNGKeyArray, state: TransportState
) -> tuple[TransportState, dict[str, Scalar]]:
    """A few discriminator steps, then one Euler step."""
    keys = jax.random.split(jax.random.fold_in(key, state.step), config.critic_steps)
    critic = functools.partial(unchecked_ratio_step, config.critic, (state.xs, xs_p))
    ratio, metrics = scan(critic, state.ratio, keys)
    eps = config.schedule(state.step)
    xs, info = unchecked_particle_step(config.critic.gan, ratio.discriminator, state.xs, eps)
    new = TransportState(xs, ratio, state.step + 1)
    return new, {"losses": metrics.loss[-1], "speeds": info.speed}


def _stop(
    config: TransportConfig,
    xs_p: AnyCloud,
    start: AnyCloud,
    old: PyTree,
    new: PyTree,
    info: Metrics,
) -> list[Flag]:
    """Stops where numbers are not finite, and where a step throws particles far or none moves."""
    speeds, extent = jnp.asarray(info["speeds"]), Extent(xs_p, start)
    step = old.step + jnp.arange(len(speeds))
    eps = jax.vmap(lambda k: jnp.asarray(config.schedule(k), float))(step)
    far = extent.thrown_far(jnp.abs(eps) * speeds)
    flags = [
        *not_finite(_ADVICE, old, new, info),
        Flag("speeds", "throw the particles far from all data", PARTICLES, far),
    ]
    if len(speeds) < STILL:
        return flags
    still = jnp.all(speeds == 0) & extent.apart(new.xs)
    problem = "are exactly 0 from there on, the particles stand still"
    return [*flags, Flag("speeds", problem, COLLAPSED, still & (speeds == 0))]


def _constant(value: Scalar, step: IntScalar) -> Scalar:
    """A schedule that does not change."""
    del step
    return value


def _schedule(step_size: ScalarLike | Function | None, steps: int) -> Function:
    """A schedule of whatever was passed."""
    if step_size is None:
        return default_step_size(steps)
    if callable(step_size):
        return as_partial(step_size)
    check_positive("transport", step_size=step_size)
    return Partial(_constant, as_float(step_size))


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
        RunDiverged: At the end of a chunk in which a number is not finite any more, a step throws
            particles a thousand times as far as the data reach, or 100 steps move none of them
            though p is elsewhere; not inside `jit` and `vmap`.
        OSError: If the checkpoint cannot be written; the one before stands.
        KeyboardInterrupt: On Ctrl-C, with what the checkpoint holds.

    References:
        Yi, Zhu & Liu, MonoFlow, ICML 2023, algorithm 1.
    """
    caller = "transport"
    loop = Loop(caller, steps, chunk, progress_meter, checkpoint, on_chunk)
    check_counts(caller, {"critic_steps": critic_steps})
    optimizer = default_optimizer(steps * critic_steps) if optimizer is None else optimizer
    critic = RatioConfig(gan, optimizer, batch_size, penalty, penalty_weight)
    critic.check(caller, "phi", "psi", "h_t")
    start, goal = check_samples(caller, xs_q=xs_q, xs_p=xs_p)
    check_critic(caller, "discriminator", discriminator, xs_q=start)
    config = TransportConfig(critic, _schedule(step_size, steps), critic_steps)
    state = TransportState(start, RatioState.start(discriminator, optimizer), jnp.asarray(0))
    step, stop = Partial(_step, config, goal, key), Partial(_stop, config, goal, start)
    state, metrics = run_chunks(loop, step, state, stop, lambda now: {"path": now.xs[None]})
    path_steps = jnp.asarray([*range(0, steps, chunk), steps])
    network = state.ratio.discriminator
    return state.xs, TransportInfo(**metrics, path_steps=path_steps, discriminator=network)
