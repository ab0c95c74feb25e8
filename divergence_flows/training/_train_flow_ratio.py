r"""A time-conditioned ratio trained to the end: `flow_ratio_step` in chunks of `lax.scan`."""

import os
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float, Int, PRNGKeyArray

from .._checks import Network, check_over_time, check_positive, raise_if
from .._types import Scalar, ScalarLike, as_partial
from ..flows._integrate import AbstractProgressMeter, Times, check_times
from ..runs._batches import Data, Source, first_of, sources, whole
from ..runs._loop import Loop, run_chunks
from ..runs._stopping import not_finite
from ._advice import CRITIC
from ._flow_ratio_step import FlowRatioConfig, FlowRatioState, unchecked_flow_ratio_step
from ._update import Optimizer, default_optimizer

# Intervals of the default grid; each is one midpoint step of the flow.
_INTERVALS = 32
_FORMS = ("self_consistent", "sequential")
_METRICS = ("losses", "neighbour_losses", "score_losses")
_STATE = ("discriminator", "ema", "opt_state", "replay")
_STOP = Partial(not_finite, dict.fromkeys((*_METRICS, *_STATE), CRITIC))


class FlowRatioInfo(eqx.Module):
    """What `train_flow_ratio` reports: its losses before each step, without weights.

    `losses` of p against q_t and `neighbour_losses` of each time against the next, means over
    times [nats for the logistic pairs]; `score_losses`, zero without `score_p`. `diverged` is -1,
    or inside `jit` and `vmap`, where nothing is raised, the step at which the run diverged:
    metrics from there on are NaN, and the state is the last good one.
    """

    losses: Float[Array, " steps"]
    neighbour_losses: Float[Array, " steps"]
    score_losses: Float[Array, " steps"]
    diverged: Int[Array, ""]


def _step(
    config: FlowRatioConfig,
    key: PRNGKeyArray,
    state: FlowRatioState,
    data_q: Data,
    data_p: Data,
) -> tuple[FlowRatioState, dict[str, Scalar]]:
    """One step, its randomness from the run's key and the number of the step."""
    key = jax.random.fold_in(key, state.step)
    state, info = unchecked_flow_ratio_step(config, (data_q, data_p), state, key)
    losses = (info.loss, info.neighbour_loss, info.score_loss)
    return state, dict(zip(_METRICS, losses, strict=True))


def _times(horizon: ScalarLike | None, ts: Times | None, like: Array) -> Float[Array, " time"]:
    """The grid that was passed, or one with square spacing, dense early."""
    caller = "train_flow_ratio"
    if (horizon is None) == (ts is None):
        words = "pass either `horizon`, when the flow ends, or `ts`, all times to train at."
        raise ValueError(f"{caller}: {words}")
    if ts is not None:
        check_times(caller, ts)
        grid = jnp.asarray(ts, like.dtype)
    else:
        check_positive(caller, horizon=horizon)
        grid = jnp.asarray(horizon, like.dtype) * jnp.linspace(0, 1, _INTERVALS + 1) ** 2
    bad = ~(jnp.all(jnp.diff(grid) > 0) & jnp.all(jnp.isfinite(grid)))
    name = "horizon" if ts is None else "ts"
    return raise_if(grid, bad, f"{caller}: `{name}` makes no finite times that increase.")


def train_flow_ratio(
    gan: Any,
    discriminator: Network,
    xs_q: Source,
    xs_p: Source,
    *,
    horizon: ScalarLike | None = None,
    ts: Times | None = None,
    steps: int = 3000,
    optimizer: Optimizer | None = None,
    form: str = "self_consistent",
    batch_size: int = 64,
    neighbours: ScalarLike = 1.0,
    score_p: Callable[..., Any] | None = None,
    score_weight: ScalarLike = 1.0,
    ema_decay: ScalarLike = 0.995,
    chunk: int = 200,
    progress: bool | AbstractProgressMeter = True,
    checkpoint: str | os.PathLike | None = None,
    save_every: int | None = None,
    on_chunk: Callable[..., Any] | None = None,
    key: PRNGKeyArray,
) -> tuple[FlowRatioState, FlowRatioInfo]:
    r"""Trains log p/q_t at all times of the MonoFlow that it generates itself.

    What comes back moves particles that training never saw:

        state, metrics = df.train_flow_ratio(gan, d, xs_q, xs_p, horizon=3.0, key=key)
        field = df.velocity(gan.h, df.flow_log_ratio(gan, state.ema))
        moved = df.integrate(field, new_xs, [0.0, 3.0]).ys[-1]

    Each step is a `flow_ratio_step`, whose arguments mean the same here. Under `jax.vmap` over
    `key` (and, if you like, over discriminators and clouds) it trains many seeds at once.

    Args:
        gan: A GAN: phi and psi train the discriminator, h_T moves the particles.
        discriminator: A module d(t, x), for instance `networks.TimeDiscriminator`; or d(t, x, c),
            if samples have conditions.
        xs_q: Samples of q at the start [units of x], as `transport` takes those of p: an array, a
            tuple `(xs, cs)` with conditions, a function `batch(step)`, or an iterable of batches;
            the sequential form keeps its clouds, and takes no batches here.
        xs_p: Samples of p, the same; not necessarily as many [units of x].
        horizon: When the flow ends; 33 times with square spacing to it [units of flow time].
        ts: The times themselves instead of `horizon` [units of flow time].
        steps: Gradient steps.
        optimizer: Of the discriminator; Adam from 2e-3 down a cosine to zero by default.
        form: "self_consistent" or "sequential", see `flow_ratio_step`.
        batch_size: Samples of q and of p at each time.
        neighbours: Weight of the loss between neighbouring times; 0 is the plain form.
        score_p: grad log p of one sample, where known [nats per unit of x].
        score_weight: Weight of score matching, which needs `score_p`.
        ema_decay: Weight of the past in the average, less in the first steps.
        chunk: Steps between two visits to the host, as in `transport`.
        progress: True for a bar on a terminal, False, or one of diffrax's progress meters.
        checkpoint: A file to write after each chunk and to go on from, as in `transport`.
        save_every: Steps between two writes of the checkpoint, at ends of chunks.
        on_chunk: Called as `on_chunk(state, metrics)` after each chunk, with the `FlowRatioState`,
            as in `transport`; True ends the run.
        key: Randomness of times and minibatches.

    Returns:
        The last state, whose `ema` is the averaged discriminator, and the losses.

    Raises:
        ValueError: If an option is wrong, `gan` has no ratio, or the discriminator or `score_p`
            does not fit the samples; and all errors of `transport`.
        RunDiverged: At the end of a chunk in which a number is not finite any more; not inside
            `jit` and `vmap`.

    Example:
        ```python
        xs_q, xs_p = jr.normal(jr.key(0), (64, 1)), jr.normal(jr.key(1), (64, 1)) + 2.0
        gan, d = df.gans.logit(), df.networks.TimeDiscriminator(1, 16, 1, key=jr.key(2))
        options = dict(ts=[0.0, 0.5, 1.0], steps=20, key=jr.key(3))
        state, info = df.train_flow_ratio(gan, d, xs_q, xs_p, **options)
        field = df.velocity(gan.h, df.flow_log_ratio(gan, state.ema))  # it moves new points too
        print(field(0.0, jnp.zeros((5, 1)), None).shape)  # (5, 1)
        ```

    References:
        Franceschi et al., NeurIPS 2023; Rhodes et al., NeurIPS 2020: see `flow_ratio_step`.
    """
    caller = "train_flow_ratio"
    loop = Loop(caller, steps, chunk, progress, checkpoint, save_every, on_chunk)
    inputs = sources(caller, xs_q=xs_q, xs_p=xs_p)
    start = first_of(inputs[0])
    grid = _times(horizon, ts, start[0])
    check_over_time(caller, "discriminator", discriminator, score_p, start)
    if form not in _FORMS:
        raise ValueError(f"{caller}: `form` is {form!r}; pass 'self_consistent' or 'sequential'.")
    optimizer = default_optimizer(steps) if optimizer is None else optimizer
    score = None if score_p is None else as_partial(score_p)
    # An array, so that runs of other lengths share a program.
    hold = jnp.asarray(max(1, steps // grid.shape[0]) if form == "sequential" else 1)
    options = (hold, batch_size, neighbours, score, score_weight, ema_decay)
    config = FlowRatioConfig(gan, optimizer, grid, *options)
    config.check(caller)
    stored = {}
    if form == "sequential":
        cloud = whole(caller, "xs_q", inputs[0], "the sequential form keeps its clouds")
        stored = {"xs_q": cloud[0], "ts": grid}
    state = FlowRatioState.start(discriminator, optimizer, **stored)
    state, metrics = run_chunks(loop, Partial(_step, config, key), state, inputs, _STOP)
    del metrics["kept"]
    return state, FlowRatioInfo(**metrics)
