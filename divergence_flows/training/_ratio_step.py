r"""Learned ratios and particles, one step at a time: pure `(state, batch) -> (state, info)`.

Every state is a pytree whose only leaves are arrays, so plain `jit`, `vmap` (over seeds) and
`scan` take it. `transport` loops over these steps.
"""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray, PyTree, Real

from .._checks import (
    Network,
    check_counts,
    check_critic,
    check_positive,
)
from .._types import Scalar, ScalarLike, as_float, vmapped
from ..gans._losses import discriminator_loss, require_fields
from ..networks._spectral import refresh
from ..runs._loop import Cloud
from ._penalty import check_penalty, gradient_penalty
from ._update import Optimizer, check_memory, descend, initial

# Samples of q first, then of p; a public door takes numpy arrays too.
Batch = tuple[Real[ArrayLike, "_ *event"], Real[ArrayLike, "_ *event"]]


class RatioState(eqx.Module):
    """A discriminator in training: itself, and what its optimiser remembers."""

    discriminator: PyTree
    opt_state: PyTree

    @classmethod
    def start(cls, discriminator: Network, optimizer: Optimizer) -> "RatioState":
        """State before the first step.

        Args:
            discriminator: A module d(x) of one sample.
            optimizer: The same as `ratio_step` will get.

        Returns:
            The state.
        """
        return cls(discriminator, initial(optimizer, discriminator))


class RatioInfo(eqx.Module):
    """What one `ratio_step` reports, before the step."""

    loss: Scalar
    penalty: Scalar


class ParticleInfo(eqx.Module):
    """What one `particle_step` reports, before the step."""

    loss: Scalar
    speed: Scalar


def _loss(
    gan: Any,
    penalty: str | None,
    weight: ScalarLike,
    batch: tuple[Cloud, Cloud],
    key: PRNGKeyArray | None,
    discriminator: PyTree,
) -> tuple[Scalar, RatioInfo]:
    xs_q, xs_p = batch
    values = vmapped(discriminator)
    loss = discriminator_loss(gan, values(xs_p), values(xs_q))
    if penalty is None:
        return loss, RatioInfo(loss, jnp.zeros_like(loss))
    price = gradient_penalty(penalty, discriminator, xs_p, xs_q, key=key)
    return loss + jnp.asarray(weight, loss.dtype) * price, RatioInfo(loss, price)


def draw(key: PRNGKeyArray, xs: Cloud, size: int | None) -> Cloud:
    """Draws a minibatch with replacement, or takes all samples if there are no more than `size`."""
    count = xs.shape[0]
    if size is None or size >= count:
        return xs
    return xs[jax.random.randint(key, (size,), 0, count)]


def ratio_step(
    gan: Any,
    optimizer: Optimizer,
    state: RatioState,
    batch: Batch,
    *,
    batch_size: int | None = None,
    penalty: str | None = None,
    penalty_weight: ScalarLike = 10.0,
    key: PRNGKeyArray | None = None,
) -> tuple[RatioState, RatioInfo]:
    r"""One step of a discriminator up $E_p[\phi(d)] + E_q[\psi(d)]$.

    Args:
        gan: The `GAN`, or `IPM`, whose phi and psi are used.
        optimizer: Any optax optimiser.
        state: Discriminator and optimiser state, from `RatioState.start`.
        batch: `(xs_q, xs_p)`: samples of q, then of p [units of x].
        batch_size: Samples of each to draw, with replacement, for this step; all by default.
        penalty: None, or a `gradient_penalty`: "r1", "zero" or "one".
        penalty_weight: Its weight in the loss.
        key: Randomness of the draw and of the penalty's points; without both it may be left out.

    Returns:
        The new state, and the loss and the penalty before the step.

    Raises:
        ValueError: If `batch_size` or a penalty that draws comes without `key`, the penalty is
            unknown, a number is out of range, `gan` has no phi and psi, there are no samples, or
            the discriminator or what the optimiser remembers does not fit.

    References:
        Yi, Zhu & Liu, MonoFlow, ICML 2023, algorithm 1.
    """
    caller = "ratio_step"
    require_fields(caller, gan, "phi", "psi")
    check_penalty(caller, penalty, penalty_weight)
    check_counts(caller, {"batch_size": batch_size})
    xs_q, xs_p = (as_float(xs) for xs in batch)
    check_critic(caller, "state.discriminator", state.discriminator, xs_q=xs_q, xs_p=xs_p)
    check_memory(caller, optimizer, state.discriminator, state.opt_state)
    key_penalty = None
    if key is not None:
        key_q, key_p, key_penalty = jax.random.split(key, 3)
        xs_q, xs_p = draw(key_q, xs_q, batch_size), draw(key_p, xs_p, batch_size)
    elif batch_size is not None:
        raise ValueError(f"{caller}: `batch_size` draws samples; pass `key` too.")
    loss = functools.partial(_loss, gan, penalty, penalty_weight, (xs_q, xs_p), key_penalty)
    discriminator, opt_state, info = descend(loss, optimizer, state.discriminator, state.opt_state)
    return RatioState(refresh(discriminator), opt_state), info


def _generator_value(gan: Any, discriminator: PyTree, x: Float[Array, "*event"]) -> Scalar:
    return gan.h_t(discriminator(x))


def particle_step(
    gan: Any,
    discriminator: Network,
    xs: Real[ArrayLike, "n *event"],
    step_size: ScalarLike,
) -> tuple[Float[Array, "n *event"], ParticleInfo]:
    r"""One Euler step of every particle: $x + \epsilon\, \nabla_x h_T(d(x))$.

    The gradient is each particle's own: no mean over particles divides the step.

    Args:
        gan: The GAN whose h_T is used.
        discriminator: A module d(x) of one sample.
        xs: The particles [units of x].
        step_size: eps [units of flow time; units of x squared where h_T is in nats].

    Returns:
        The moved particles, and what they did.

    Raises:
        ValueError: If `gan` is no GAN, there are no particles, `step_size` is not positive, or the
            discriminator does not fit.

    References:
        Yi, Zhu & Liu, MonoFlow, ICML 2023, algorithm 1.
    """
    caller = "particle_step"
    require_fields(caller, gan, "phi", "psi", "h_t")
    check_positive(caller, step_size=step_size)
    start = as_float(xs)
    check_critic(caller, "discriminator", discriminator, xs=start)
    value = functools.partial(_generator_value, gan, discriminator)
    values, vs = jax.vmap(jax.value_and_grad(value))(start)
    speed = jnp.sqrt(jnp.sum(vs**2) / start.shape[0])
    moved = start + jnp.asarray(step_size, start.dtype) * vs
    return moved, ParticleInfo(-jnp.mean(values), speed)
