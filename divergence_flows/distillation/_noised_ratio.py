r"""The ratio of noised samples: one discriminator of all noise levels, d(lambda, y)."""

from typing import Any

import jax
from jax.tree_util import Partial
from jaxtyping import PRNGKeyArray

from .._checks import Network, check_over_time
from .._types import Cloud, Function, Scalar, ScalarLike
from ..runs._batches import Data, Samples, samples
from ..training._ratio_step import Batch, RatioConfig, RatioInfo, RatioState, descend_ratio, draw
from ..training._update import Optimizer, check_opt_state
from ._levels import SPAN, Interval, Level, Levels, noised, variance_preserving


def _sample_first(network: Network, y: Any, level: Scalar, *condition: Any) -> Scalar:
    """A discriminator d(lambda, y) as one of y, whose level is a condition."""
    return network(level, y, *condition)


def sample_first(network: Network) -> Function:
    """Lets the losses and penalties of d(x, c) see d(lambda, y, c)."""
    return Partial(_sample_first, network)


def _noised(data: Data, noise: Cloud, level: Level) -> Data:
    level_of, ys, *conditions = noised(data, noise, level)
    return ys, level_of, *conditions


def noised_descent(
    config: RatioConfig,
    batch: Batch,
    noises: tuple[Cloud, Cloud],
    levels: tuple[Level, Level],
    state: RatioState,
    key: PRNGKeyArray | None,
) -> tuple[RatioState, RatioInfo]:
    """One step on the whole of a batch with this noise, of q first, then of p."""
    data_q, data_p = map(_noised, batch, noises, levels)
    return descend_ratio(config, (data_q, data_p), state, key, sample_first)


def unchecked_noised_ratio_step(
    config: RatioConfig, levels: Levels, batch: Batch, state: RatioState, key: PRNGKeyArray
) -> tuple[RatioState, RatioInfo]:
    """`noised_ratio_step` of arguments that have been checked."""
    key_q, key_p, key_levels, key = jax.random.split(key, 4)
    made, noises, drawn = [], [], []
    for each, data in zip((key_q, key_p), batch, strict=True):
        key_rows, key_noise = jax.random.split(each)
        data = draw(key_rows, data, config.batch_size)
        xs = data[0]
        made.append(data)
        noises.append(jax.random.normal(key_noise, xs.shape, xs.dtype))
        # As many samples of q and of p share their levels.
        drawn.append(levels.draw(key_levels, xs.shape[0], xs.dtype)[1])
    inputs = (made[0], made[1]), (noises[0], noises[1]), (drawn[0], drawn[1])
    return noised_descent(config, *inputs, state, key)


def noised_ratio_step(
    gan: Any,
    optimizer: Optimizer,
    state: RatioState,
    batch: tuple[Samples, Samples],
    *,
    schedule: Function = variance_preserving,
    span: Interval = SPAN,
    batch_size: int | None = None,
    penalty: str | None = None,
    penalty_weight: ScalarLike = 10.0,
    key: PRNGKeyArray,
) -> tuple[RatioState, RatioInfo]:
    r"""One step of d(lambda, y) towards the ratio of noised laws, at all noise levels at once.

    Up $E_t\{E_p[\phi(d)] + E_q[\psi(d)]\}$ at $y = \alpha x + \sigma e$ and
    $\lambda = \log\sigma/\alpha$: at the optimum log T(d) is the log ratio of the two laws, noised
    to that level. Nothing is simulated. `flow_log_ratio(gan, d)` is that ratio as a potential, with
    lambda for the time.

    Args:
        gan: The `GAN`, or `IPM`, whose phi and psi are used.
        optimizer: Any optax optimiser.
        state: Discriminator d(lambda, y) and optimiser state, from `RatioState.start`.
        batch: `(xs_q, xs_p)`: samples of q, then of p [units of x], each an array or, with
            conditions for a d(lambda, y, c), a tuple `(xs, cs)`.
        schedule: (alpha, sigma) as a function of t in [0, 1].
        span: Start and end of the times that are drawn, one from each of as many equal parts as
            there are samples.
        batch_size: Samples of each to draw, with replacement, for this step; all by default.
        penalty: None, or a `gradient_penalty` of d in y: "r1", "zero" or "one".
        penalty_weight: Its weight in the loss.
        key: Randomness of times, noise and minibatches.

    Returns:
        The new state, and the loss and the penalty before the step.

    Raises:
        ValueError: If an option is wrong, `gan` has no phi and psi, there are no samples, or the
            discriminator or the optimiser's state does not fit.

    References:
        Wang et al., Diffusion-GAN, ICLR 2023; Xu, Nie & Vahdat, f-distill, 2025.
    """
    caller = "noised_ratio_step"
    config = RatioConfig(gan, optimizer, batch_size, penalty, penalty_weight)
    config.check(caller, "phi", "psi")
    levels = Levels(caller, schedule, span)
    data = samples(caller, xs_q=batch[0], xs_p=batch[1])
    check_over_time(caller, "state.discriminator", state.discriminator, None, data[0])
    check_opt_state(caller, optimizer, state.discriminator, state.opt_state)
    return unchecked_noised_ratio_step(config, levels, data, state, key)
