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

from .._checks import (
    Network,
    check_counts,
    check_critic,
    check_input,
    check_positive,
    raise_if,
    some,
)
from .._types import Function, IntScalar, Scalar, ScalarLike, as_float, as_partial
from ..flows._integrate import AbstractProgressMeter
from ..runs._batches import Data, Samples, Source, samples, sources, whole
from ..runs._loop import Loop, run_chunks, scan
from ..runs._stopping import STILL, Extent, Flag, Metrics, not_finite
from ._advice import COLLAPSED, CRITIC, PARTICLES
from ._ratio_step import RatioConfig, RatioState, unchecked_ratio_step
from ._transport_map import TransportMap, euler_step, kept_map, replay, replay_with_density
from ._update import Optimizer, default_optimizer, default_step_size

_ADVICE = {"losses": CRITIC, "ratio": CRITIC, "speeds": PARTICLES, "xs": PARTICLES}


class TransportState(eqx.Module):
    """Where a run stands: the particles, the discriminator, and the Euler steps done."""

    xs: Float[Array, "n *event"]
    ratio: RatioState
    step: Int[Array, ""]


class TransportInfo(eqx.Module):
    """What `transport` reports: its losses, and the particles on their way.

    `losses` is the discriminator loss before the last of its updates at each step [nats for the
    logistic pairs]; `speeds` the root mean square velocity [units of x per unit of flow time];
    `path` the particles at `path_steps`; `discriminator` the last one; `map` the map for new
    points, if `keep_map` asked for it. `diverged` is -1, or inside `jit` and `vmap`, where nothing
    is raised, the step at which the run diverged: metrics from there on are NaN, and all else is
    of the last good state.
    """

    losses: Float[Array, " steps"]
    speeds: Float[Array, " steps"]
    path: Float[Array, "time n *event"]
    path_steps: Int[Array, " time"]
    discriminator: PyTree
    map: TransportMap | None
    diverged: Int[Array, ""]

    def push(self, xs: Samples) -> Float[Array, "n *event"]:
        """Moves points that were not there in training, by the same Euler steps.

        Needs `transport(..., keep_map=True)`, or a number. The particles of the run end where they
        ended, bit for bit, if the discriminator of each step was kept; else to within
        `info.map.error`. In the middle of a crowd new points land like the run's own; where q had
        no particles the discriminator was never trained.

        Args:
            xs: Points [units of x], or `(xs, cs)` with their conditions.

        Returns:
            Where they end [units of x].

        Raises:
            ValueError: If no map was kept, or the points do not fit.
        """
        kept, data = self._fitting("TransportInfo.push", xs)
        return replay(kept, data)

    def push_with_log_prob(
        self, xs: Samples, log_prob: Real[ArrayLike, " n"]
    ) -> tuple[Float[Array, "n *event"], Float[Array, " n"]]:
        r"""As `push`, and follows the log density of the points, by the exact Jacobian.

        $\log q(y) = \log q_0(x) - \sum_k \log |\det(I + \epsilon_k \nabla^2 h_T(d_k(x_k)))|$, one
        determinant of a dim x dim matrix for each step and point: for small dimensions.

        Args:
            xs: Points [units of x], or `(xs, cs)` with their conditions.
            log_prob: Log density of q_0 at the points [nats].

        Returns:
            Where they end [units of x], and the log density of the moved q there [nats].

        Raises:
            ValueError: If no map was kept, or the points do not fit.
            EquinoxRuntimeError: If a step turned space over at a point, so that it has no
                density: take smaller steps.
        """
        caller, log_q = "TransportInfo.push_with_log_prob", as_float(log_prob)
        kept, data = self._fitting(caller, xs)
        if log_q.shape != data[0].shape[:1]:
            words = f"`log_prob` has shape {log_q.shape}, and there are {len(data[0])} points"
            raise ValueError(f"{caller}: {words}; pass one number for each point.")
        moved, log_q = replay_with_density(kept, data, log_q)
        words = f"{caller}: an Euler step turned space over at a point, which has no density then; "
        return moved, raise_if(log_q, jnp.any(jnp.isnan(log_q)), f"{words}take smaller steps.")

    def _fitting(self, caller: str, xs: Samples) -> tuple[TransportMap, Data]:
        """The map, and points that it can move."""
        if self.map is None:
            words = "no map was kept; call transport(..., keep_map=True) for it."
            raise ValueError(f"{caller}: {words}")
        (data,) = samples(caller, xs=xs)
        check_input(caller, "xs", data[0][0], *self.path.shape[2:])
        return self.map, data


class TransportConfig(eqx.Module):
    """The arguments of `transport` that its steps need."""

    critic: RatioConfig
    schedule: Callable[..., Any]
    critic_steps: int


def _step(
    config: TransportConfig, key: PRNGKeyArray, state: TransportState, start: Data, data_p: Data
) -> tuple[TransportState, dict[str, Scalar]]:
    """A few discriminator steps, then one Euler step; conditions stay as at the start."""
    data_q = state.xs, *start[1:]
    keys = jax.random.split(jax.random.fold_in(key, state.step), config.critic_steps)
    at_step = config.critic.at(state.step)
    critic = functools.partial(unchecked_ratio_step, at_step, (data_q, data_p))
    ratio, metrics = scan(critic, state.ratio, keys)
    eps = jnp.asarray(config.schedule(state.step), state.xs.dtype)
    # One key more than those of the discriminator's steps.
    key_p = jax.random.fold_in(jax.random.fold_in(key, state.step), config.critic_steps)
    h_t = config.critic.h_t(ratio.discriminator, data_p, key_p)
    xs, speed = euler_step(h_t, ratio.discriminator, data_q, eps)
    new = TransportState(xs, ratio, state.step + 1)
    return new, {"losses": metrics.loss[-1], "speeds": speed, "step_sizes": eps}


def _stop(old: PyTree, new: PyTree, info: Metrics, start: Data, data_p: Data) -> list[Flag]:
    """Stops where numbers are not finite, and where a step throws particles far or none moves."""
    speeds, extent = jnp.asarray(info["speeds"]), Extent(data_p[0], start[0])
    far = extent.thrown_far(jnp.abs(info["step_sizes"]) * speeds)
    flags = [
        *not_finite(_ADVICE, old, new, info),
        Flag("speeds", "throw the particles far from all data", PARTICLES, far),
    ]
    if len(speeds) < STILL:
        return flags
    still = ~some(speeds != 0) & extent.apart(new.xs)
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


def _path(state: TransportState) -> dict[str, Array]:
    """The particles of a moment."""
    return {"path": state.xs[None], "path_steps": state.step[None]}


def _discriminator(state: TransportState) -> list[Array]:
    """What a kept map needs of each step."""
    return jax.tree.leaves(eqx.filter(state.ratio.discriminator, eqx.is_array))


def transport(
    gan: Any,
    discriminator: Network,
    xs_q: Samples,
    xs_p: Source,
    *,
    steps: int = 4000,
    step_size: ScalarLike | Callable[..., Any] | None = None,
    critic_steps: int = 5,
    optimizer: Optimizer | None = None,
    batch_size: int | None = None,
    penalty: str | None = None,
    penalty_weight: ScalarLike | Callable[..., Any] = 10.0,
    keep_map: bool | int = False,
    chunk: int = 200,
    progress: bool | AbstractProgressMeter = True,
    checkpoint: str | os.PathLike | None = None,
    save_every: int | None = None,
    on_chunk: Callable[..., Any] | None = None,
    key: PRNGKeyArray,
) -> tuple[Float[Array, "n *event"], TransportInfo]:
    r"""Moves samples of q onto samples of p along the MonoFlow of a GAN, the ratio learned.

    Each step trains the discriminator a little on the particles where they are, then moves them
    by $x + \epsilon\, \nabla_x h_T(d(x))$. Under `jax.vmap` over `key` (and, if you like, over
    discriminators and clouds) it runs many seeds at once. The default steps suit data of about
    unit scale: standardise first.

    Args:
        gan: The `GAN`, or `IPM`: phi and psi train the discriminator, h_T moves the particles. Or
            a `PairGAN`, with all pairs of a minibatch.
        discriminator: A module d(x) of one sample, for instance `networks.Discriminator`; or
            d(x, c), if samples have conditions.
        xs_q: Samples of q, the particles to move [units of x]; or `(xs, cs)` with conditions c,
            any pytree with one row for each sample, which stay as they are.
        xs_p: Samples of p; not necessarily as many [units of x]. An array, `(xs, cs)`, a function
            `batch(step)` that makes either for each step, or an iterable of batches of them, such
            as a torch `DataLoader` or grain's, which begins again at its end. Batches are loaded
            on the host while the device computes.
        steps: Euler steps.
        step_size: eps of an Euler step, a number or a schedule `step -> eps` [units of flow time];
            from 1e-2 down a cosine to 1e-3 by default.
        critic_steps: Discriminator steps before each Euler step.
        optimizer: Of the discriminator; Adam from 2e-3 down a cosine to zero by default.
        batch_size: Samples of p and of q drawn, with replacement, for each discriminator step; a
            cloud of no more samples is used whole, and all are by default.
        penalty: None, or a `gradient_penalty` of the discriminator: "r1", "r2",
            "r1+r2", "zero" or "one".
        penalty_weight: Its weight in the discriminator's loss, a number or a schedule
            `step -> weight` of Euler steps.
        keep_map: Whether to keep the discriminator of each step, in host memory, for
            `info.push`; a number k keeps one of k, and `info.map.error` says what that costs. Not
            with a `PairGAN`, whose h_T changes with the samples of p.
        chunk: Euler steps between two visits to the host: a compiled program for this length, and
            one more for the rest if it does not divide `steps`. The batches of a chunk are in
            memory together.
        progress: True for a bar where standard error is a terminal, False for none, or one of
            diffrax's progress meters, stepped at each Euler step.
        checkpoint: A file, written after each chunk. If it exists, the run goes on from there bit
            for bit; it must have been written by the same call, but `steps` may be more, if
            `optimizer` and `step_size` do not depend on it.
        save_every: Euler steps between two writes of the checkpoint, at ends of chunks.
        on_chunk: Called as `on_chunk(state, metrics)` after each chunk, with the `TransportState`
            and the chunk's metrics by name, numpy arrays. True ends the run as if `steps` had been
            fewer; what it raises ends it too. Not inside a trace.
        key: Randomness of the minibatches.

    Returns:
        The moved particles, and a `TransportInfo`.

    Raises:
        ValueError: If a number is not positive, a cloud is empty, the discriminator does not make
            one number of one sample, the checkpoint is another run's, batches end or change
            their shape, or the host is needed inside a trace: `checkpoint`, `on_chunk`, batches.
        EquinoxRuntimeError: If a sample is not finite, or numbers are too large for their floats.
        RunDiverged: At the end of a chunk in which a number is not finite any more, a step throws
            particles a thousand times as far as the data reach, or 100 steps move none of them
            though p is elsewhere; not inside `jit` and `vmap`.
        OSError: If the checkpoint cannot be written; the one before stands.
        KeyboardInterrupt: On Ctrl-C, with what the checkpoint holds.

    Example:
        ```python
        xs_q, xs_p = jr.normal(jr.key(0), (64, 1)), jr.normal(jr.key(1), (64, 1)) + 2.0
        gan, d = df.gans.logit(), df.networks.Discriminator(1, 16, 1, key=jr.key(2))
        moved, info = df.transport(gan, d, xs_q, xs_p, steps=50, step_size=0.05, key=jr.key(3))
        print(jnp.mean(moved) > 1.0)  # True
        ```

    References:
        Yi, Zhu & Liu, MonoFlow, ICML 2023, algorithm 1.
    """
    caller = "transport"
    loop = Loop(caller, steps, chunk, progress, checkpoint, save_every, on_chunk)
    check_counts(caller, {"critic_steps": critic_steps, "keep_map": keep_map or None})
    optimizer = default_optimizer(steps * critic_steps) if optimizer is None else optimizer
    critic = RatioConfig(gan, optimizer, batch_size, penalty, penalty_weight)
    critic.check(caller, "phi", "psi", "h_t")
    if keep_map and not hasattr(gan, "h_t"):
        words = f"`keep_map` is {keep_map} with a PairGAN, whose h_T changes with samples of p"
        raise ValueError(f"{caller}: {words}; leave it out, or take a GAN of `gans`.")
    data_q, data_p = sources(caller, xs_q=xs_q, xs_p=xs_p)
    start = whole(caller, "xs_q", data_q, "these are the particles, which all move")
    check_critic(caller, "discriminator", discriminator, start)
    config = TransportConfig(critic, _schedule(step_size, steps), critic_steps)
    state = TransportState(start[0], RatioState.start(discriminator, optimizer), jnp.asarray(0))
    run = loop, Partial(_step, config, key), state, (start, data_p), Partial(_stop)
    collect: Any = (_discriminator, int(keep_map)) if keep_map else ()
    state, metrics = run_chunks(*run, _path, *collect)
    network, leaves, eps = state.ratio.discriminator, metrics.pop("kept"), metrics.pop("step_sizes")
    kept = kept_map(gan, network, leaves, eps, int(keep_map), start, state.xs) if keep_map else None
    return state.xs, TransportInfo(**metrics, discriminator=network, map=kept)
