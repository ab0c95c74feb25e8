"""A transport step by step: what stays the same, what changes, and one step of it."""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ._loop import Cloud, scan
from ._optimizer import Optimizer
from ._train import RatioInfo, RatioState, particle_step, ratio_step
from ._types import Scalar, ScalarLike


class TransportState(eqx.Module):
    """Where a run stands: the particles, the discriminator, and the Euler steps done."""

    xs: Float[Array, "n *event"]
    ratio: RatioState
    step: Int[Array, ""]


class Plan(eqx.Module):
    """All that stays the same during a run."""

    gan: Any
    optimizer: Optimizer
    schedule: Callable[..., Any]
    xs_p: Array
    key: PRNGKeyArray
    critic_steps: int
    batch_size: int | None
    penalty: str | None
    penalty_weight: ScalarLike


def _critic(
    plan: Plan, xs: Cloud, ratio: RatioState, key: PRNGKeyArray
) -> tuple[RatioState, RatioInfo]:
    """One discriminator step."""
    return ratio_step(
        plan.gan,
        plan.optimizer,
        ratio,
        (xs, plan.xs_p),
        batch_size=plan.batch_size,
        penalty=plan.penalty,
        penalty_weight=plan.penalty_weight,
        key=key,
    )


def step(plan: Plan, state: TransportState) -> tuple[TransportState, dict[str, Scalar]]:
    """A few discriminator steps, then one Euler step.

    Args:
        plan: The run.
        state: Where it stands.

    Returns:
        The new state, and the step's loss and speed.
    """
    keys = jax.random.split(jax.random.fold_in(plan.key, state.step), plan.critic_steps)
    ratio, told = scan(functools.partial(_critic, plan, state.xs), state.ratio, keys)
    eps = plan.schedule(state.step)
    xs, info = particle_step(plan.gan, ratio.discriminator, state.xs, eps)
    new = TransportState(xs, ratio, state.step + 1)
    return new, {"losses": told.loss[-1], "speeds": info.speed}
