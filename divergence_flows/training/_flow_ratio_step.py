r"""A ratio at all times, d(t, x), in training: one step at a time.

The network learns log p/q_t on clouds that it moves itself, through which no gradient is taken. At
the fixed point it moves q_0 along the MonoFlow of its own ratio: a field, with which any solver
moves new particles.
"""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from .._checks import Network, check_counts, check_over_time, check_samples
from .._types import AnyCloud, AnyCloudLike, Clouds, IntScalar, Scalar, ScalarLike, identity
from ..flows._integrate import Times, check_times
from ..gans._losses import require_fields
from ..runs._batches import Data, Samples, samples
from ._flow_ratio_losses import Grid, Paths, total_loss
from ._penalty import check_weights
from ._ratio_step import draw
from ._update import Optimizer, average, check_decay, check_opt_state, descend, initial


def trajectories(gan: Any, network: PyTree, data: Data, ts: Grid) -> Paths:
    """Moves a cloud through all times, one midpoint step from each to the next."""
    xs, *conditions = data

    def field(t: Scalar, xs: AnyCloud) -> AnyCloud:
        slope = jax.grad(lambda *one: gan.h_t(network(t, *one)))
        return jax.vmap(slope)(xs, *conditions)

    def midpoint(xs: AnyCloud, span: tuple[Scalar, Scalar]) -> Clouds:
        start, end = span
        half = 0.5 * (end - start)
        middle = xs + half * field(start, xs)
        moved = xs + 2 * half * field(start + half, middle)
        return moved, moved

    _, later = jax.lax.scan(midpoint, xs, (ts[:-1], ts[1:]))
    return jnp.concatenate([xs[None], later])


def jittered(ts: Grid, key: PRNGKeyArray) -> Grid:
    """Draws each time but the first from the interval that ends at it."""
    back = jax.random.uniform(key, (ts.shape[0] - 1,), ts.dtype)
    return jnp.concatenate([ts[:1], ts[1:] - back * jnp.diff(ts)])


class Replay(eqx.Module):
    """Clouds at the times of a grid, of which those up to a stage are known."""

    ts: Float[Array, " time"]
    clouds: Float[Array, "time n *event"]

    @classmethod
    def start(cls, xs: AnyCloud, ts: Grid) -> "Replay":
        """Knows the cloud at the first time only."""
        return cls(ts, jnp.broadcast_to(xs, (ts.shape[0], *xs.shape)))

    def pick(
        self, stage: IntScalar, size: int, key: PRNGKeyArray, conditions: Data
    ) -> tuple[Grid, Data]:
        """Draws as many times as there are from the known ones, and a minibatch at each."""
        count, n = self.clouds.shape[:2]
        key_times, key_rows = jax.random.split(key)
        place = (jnp.arange(count) + jax.random.uniform(key_times, (count,))) / count
        chosen = jnp.minimum(jnp.floor(place * (stage + 1)).astype(int), stage)
        rows = jax.random.randint(key_rows, (count, size), 0, n)
        paths = self.clouds[chosen[:, None], rows]
        return self.ts[chosen], (paths, *jax.tree.map(lambda leaf: leaf[rows], conditions))


def extend(
    gan: Any,
    network: PyTree,
    replay: Replay,
    step: IntScalar,
    hold: int | IntScalar,
    conditions: Data,
) -> tuple[Replay, IntScalar]:
    """Fills in one time more whenever `hold` steps have passed."""
    stage = jnp.minimum(step // hold, replay.ts.shape[0] - 1)
    fresh = (step % hold == 0) & (step > 0) & (step // hold == stage)

    def move(clouds: Paths) -> Paths:
        """Moves the cloud before a stage to it."""
        pair = jax.lax.dynamic_slice_in_dim(replay.ts, stage - 1, 2)
        moved = trajectories(gan, network, (clouds[stage - 1], *conditions), pair)[-1]
        return clouds.at[stage].set(moved)

    return Replay(replay.ts, jax.lax.cond(fresh, move, identity, replay.clouds)), stage


class FlowRatioState(eqx.Module):
    """A time-conditioned discriminator in training.

    `ema` is its average, which moves the particles and is the result; `replay` the clouds of the
    sequential form, None in the self-consistent one.
    """

    discriminator: PyTree
    ema: PyTree
    opt_state: PyTree
    step: Int[Array, ""]
    replay: Replay | None

    @classmethod
    def start(
        cls,
        discriminator: Network,
        optimizer: Optimizer,
        *,
        xs_q: AnyCloudLike | None = None,
        ts: Times | None = None,
    ) -> "FlowRatioState":
        """State before the first step.

        Args:
            discriminator: A module d(t, x) of one time and one sample.
            optimizer: The same as `flow_ratio_step` will get.
            xs_q: Samples of q at `ts[0]`, for the sequential form only [units of x].
            ts: The times, for the sequential form only [units of flow time].

        Returns:
            The state; the average starts at the discriminator itself.

        Raises:
            ValueError: If only one of `xs_q` and `ts` is given, there are no samples, or `ts` does
                not increase.
            EquinoxRuntimeError: If a sample is not finite, or too large for its floats.
        """
        caller = "FlowRatioState"
        if (xs_q is None) != (ts is None):
            raise ValueError(f"{caller}: pass both `xs_q` and `ts` (sequential form), or neither.")
        replay = None
        if xs_q is not None and ts is not None:
            check_times(caller, ts)
            xs = check_samples(caller, xs_q=xs_q)[0]
            replay = Replay.start(xs, jnp.asarray(ts, xs.dtype))
        opt_state = initial(optimizer, discriminator)
        return cls(discriminator, discriminator, opt_state, jnp.asarray(0), replay)


class FlowRatioStepInfo(eqx.Module):
    """The losses of one `flow_ratio_step`, before the step and without weights."""

    loss: Scalar
    neighbour_loss: Scalar
    score_loss: Scalar


class FlowRatioConfig(eqx.Module):
    """The arguments of `flow_ratio_step` that stay the same."""

    gan: Any
    optimizer: Optimizer
    ts: Grid
    hold: Any  # an int, or an array of one
    batch_size: int
    neighbours: ScalarLike
    score_p: Callable[..., Any] | None
    score_weight: ScalarLike
    ema_decay: ScalarLike

    def check(self, caller: str) -> None:
        """Refuses options that make no step."""
        require_fields(caller, self.gan, "phi", "psi", "h_t", "log_t", "inverse")
        check_counts(caller, {"batch_size": self.batch_size, "hold": self.hold})
        check_decay(caller, self.ema_decay)
        check_weights(caller, neighbours=self.neighbours, score_weight=self.score_weight)


def unchecked_flow_ratio_step(
    config: FlowRatioConfig, batch: tuple[Data, Data], state: FlowRatioState, key: PRNGKeyArray
) -> tuple[FlowRatioState, FlowRatioStepInfo]:
    """`flow_ratio_step` of arguments that have been checked."""
    data_q, data_p = batch
    key_q, key_p = jax.random.split(key)
    key_times, key_rows = jax.random.split(key_q)
    if state.replay is None:
        replay, ts = None, jittered(config.ts.astype(data_q[0].dtype), key_times)
        start = draw(key_rows, data_q, config.batch_size)
        paths = trajectories(config.gan, state.ema, start, ts)
        data_q = paths, *jax.tree.map(lambda c: jnp.broadcast_to(c, ts.shape + c.shape), start[1:])
    else:
        conditions = data_q[1:]
        now = (state.replay, state.step, config.hold, conditions)
        replay, stage = extend(config.gan, state.ema, *now)
        ts, data_q = replay.pick(stage, config.batch_size, key_rows, conditions)
    rows = jax.random.randint(key_p, data_q[0].shape[:2], 0, data_p[0].shape[0])
    data_q = jax.lax.stop_gradient(data_q)
    data_p = jax.tree.map(lambda leaf: leaf[rows], data_p)
    loss = functools.partial(total_loss, config, ts, data_q, data_p)
    old = (state.discriminator, state.opt_state)
    network, opt_state, losses = descend(loss, config.optimizer, *old)
    # The weight of the past is less in the first steps, so that the first weights are forgotten.
    step = state.step
    decay = jnp.minimum(jnp.asarray(config.ema_decay), (1 + step) / (10 + step))
    ema = average(network, state.ema, decay)
    new = FlowRatioState(network, ema, opt_state, step + 1, replay)
    return new, FlowRatioStepInfo(*losses)


def flow_ratio_step(
    gan: Any,
    optimizer: Optimizer,
    state: FlowRatioState,
    batch: tuple[Samples, Samples],
    *,
    ts: Times,
    hold: int = 100,
    batch_size: int = 64,
    neighbours: ScalarLike = 1.0,
    score_p: Callable[..., Any] | None = None,
    score_weight: ScalarLike = 1.0,
    ema_decay: ScalarLike = 0.995,
    key: PRNGKeyArray,
) -> tuple[FlowRatioState, FlowRatioStepInfo]:
    r"""One step of d(t, x) towards log p/q_t, on particles that its own average has moved.

    Self-consistent form: fresh samples of q are moved through all times, jittered anew at each
    step. Sequential form, if the state was started with `xs_q` and `ts`: clouds are kept for each
    time, the newest moves to the next time every `hold` steps, and steps are made on all that are
    known. Both minimise

    $$-E_t\{E_p[\phi(d)] + E_{q_t}[\psi(d)]\}$$
    plus `neighbours` times the same loss of each time against the next, whose discriminator is
    $T^{-1}$ of the difference of log ratios, plus `score_weight` times implicit score matching.

    Args:
        gan: A GAN; phi and psi train, h_T moves.
        optimizer: Any optax optimiser.
        state: Where training stands, from `FlowRatioState.start`.
        batch: `(xs_q, xs_p)`: samples of q at `ts[0]`, then of p [units of x], each an array or,
            with conditions for a d(t, x, c), a tuple `(xs, cs)`.
        ts: Increasing times from the start of the flow to its end, one midpoint step from each
            to the next; closer together early [units of flow time].
        hold: Steps at each time before the next, in the sequential form.
        batch_size: Samples of q and of p at each time.
        neighbours: Weight of the loss between neighbouring times; 0 is the plain form.
        score_p: grad log p of one sample, where known [nats per unit of x].
        score_weight: Weight of score matching, which needs `score_p`.
        ema_decay: Weight of the past in the average, less in the first steps.
        key: Randomness of times and minibatches.

    Returns:
        The new state, and the losses before the step.

    Raises:
        ValueError: If an option is wrong, `gan` has no ratio, there are no samples, or the
            discriminator, `score_p` or the optimiser's state does not fit.

    References:
        Franceschi et al., Unifying GANs and score-based diffusion as generative particle models,
        NeurIPS 2023; Rhodes, Xu & Gutmann, Telescoping density-ratio estimation, NeurIPS 2020.
    """
    caller = "flow_ratio_step"
    data = samples(caller, xs_q=batch[0], xs_p=batch[1])
    check_times(caller, ts)
    network = state.discriminator
    check_over_time(caller, "state.discriminator", network, score_p, data[0])
    check_opt_state(caller, optimizer, network, state.opt_state)
    grid = jnp.asarray(ts, data[0][0].dtype)
    options = (hold, batch_size, neighbours, score_p, score_weight, ema_decay)
    config = FlowRatioConfig(gan, optimizer, grid, *options)
    config.check(caller)
    return unchecked_flow_ratio_step(config, data, state, key)
