"""A run in pieces: what stays the same, what changes, and a chunk of steps in one program."""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from ._flow import AbstractProgressMeter
from ._train import Cloud, Optimizer, RatioState, particle_step, ratio_step
from ._types import Scalar


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
    meter: AbstractProgressMeter
    steps: int
    critic_steps: int
    batch_size: int | None


def _critic(
    plan: Plan, xs: Cloud, rest: PyTree, arrays: PyTree, key: PRNGKeyArray
) -> tuple[PyTree, Scalar]:
    """One discriminator step, its arrays carried."""
    ratio, info = ratio_step(
        plan.gan,
        plan.optimizer,
        eqx.combine(arrays, rest),
        (xs, plan.xs_p),
        batch_size=plan.batch_size,
        key=key,
    )
    return eqx.filter(ratio, eqx.is_array), info.loss


def _step(
    plan: Plan, rest: PyTree, carry: tuple[PyTree, PyTree], _: None
) -> tuple[tuple[PyTree, PyTree], tuple[Scalar, Scalar]]:
    """A few discriminator steps, then one Euler step."""
    arrays, meter = carry
    state = eqx.combine(arrays, rest)
    keys = jax.random.split(jax.random.fold_in(plan.key, state.step), plan.critic_steps)
    trained, frozen = eqx.partition(state.ratio, eqx.is_array)
    critic = functools.partial(_critic, plan, state.xs, frozen)
    trained, losses = jax.lax.scan(critic, trained, keys)
    ratio = eqx.combine(trained, frozen)
    eps = plan.schedule(state.step)
    xs, info = particle_step(plan.gan, ratio.discriminator, state.xs, eps)
    done = state.step + 1
    meter = plan.meter.step(meter, done / plan.steps)
    state = TransportState(xs, ratio, done)
    return (eqx.filter(state, eqx.is_array), meter), (losses[-1], info.speed)


@eqx.filter_jit
def run_chunk(
    plan: Plan, length: int, state: TransportState, meter: PyTree
) -> tuple[TransportState, PyTree, tuple[Float[Array, " length"], Float[Array, " length"]]]:
    """Runs `length` Euler steps without coming back to the host.

    Args:
        plan: The run.
        length: How many steps.
        state: Where it stands.
        meter: State of the progress meter.

    Returns:
        The new state, the meter's, and (losses, speeds) of each step.
    """
    arrays, rest = eqx.partition(state, eqx.is_array)
    step = functools.partial(_step, plan, rest)
    (arrays, meter), told = jax.lax.scan(step, (arrays, meter), None, length=length)
    return eqx.combine(arrays, rest), meter, told
