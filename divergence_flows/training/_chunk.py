"""A transport step by step: what stays the same, what changes, and one step of it."""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from .._types import Scalar, ScalarLike
from ..runs._loop import Cloud, scan
from ..runs._stopping import FAR, STILL, Metrics, extent, flat, lengths
from ._ratio_step import RatioInfo, RatioState, particle_step, ratio_step
from ._update import Optimizer


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
    """A few discriminator steps, then one Euler step."""
    keys = jax.random.split(jax.random.fold_in(plan.key, state.step), plan.critic_steps)
    ratio, metrics = scan(functools.partial(_critic, plan, state.xs), state.ratio, keys)
    eps = plan.schedule(state.step)
    xs, info = particle_step(plan.gan, ratio.discriminator, state.xs, eps)
    new = TransportState(xs, ratio, state.step + 1)
    return new, {"losses": metrics.loss[-1], "speeds": info.speed}


def _eps(schedule: Callable[..., Any], moment: Int[Array, ""]) -> Scalar:
    return jnp.asarray(schedule(moment), float)


def signs(
    plan: Plan, start: Cloud, old: TransportState, new: TransportState, metrics: Metrics
) -> dict[str, Bool[Array, " steps"]]:
    """Signs of a run that is lost though its numbers are finite."""
    speeds, (middle, reach) = metrics["speeds"], extent(plan.xs_p, start)
    eps = jax.vmap(functools.partial(_eps, plan.schedule))(old.step + jnp.arange(len(speeds)))
    far = (jnp.abs(eps) * speeds > FAR * reach) & (reach > 0)
    if len(speeds) < STILL:
        return {"speeds": far}
    apart = lengths(jnp.mean(flat(new.xs), axis=0) - middle)
    still = jnp.all(speeds == 0) & (apart > 1e-3 * reach)
    return {"speeds": far | still}
