r"""Learned ratios and particles, one step at a time: pure `(state, batch) -> (state, info)`.

Every state is a pytree whose only leaves are arrays, so plain `jit`, `vmap` (over seeds) and
`scan` take it. `transport` loops over these steps.
"""

import dataclasses
import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from .._checks import Network, check_counts, check_critic, check_positive
from .._types import Cloud, Function, IntScalar, Scalar, ScalarFn, ScalarLike, Values, vmapped
from ..gans._losses import discriminator_loss, h_t_of, require_fields, require_p
from ..networks._spectral import refresh
from ..runs._batches import Data, Samples, samples
from ._penalty import DRAWING, check_penalty, unchecked_penalty
from ._update import Optimizer, check_opt_state, descend, initial

# Samples of q first, then of p.
Batch = tuple[Data, Data]


class RatioState(eqx.Module):
    """A discriminator in training, and its optimiser's state."""

    discriminator: PyTree
    opt_state: PyTree

    @classmethod
    def start(cls, discriminator: Network, optimizer: Optimizer) -> "RatioState":
        """State before the first `ratio_step` of d(x), with the same optimizer."""
        return cls(discriminator, initial(optimizer, discriminator))


class RatioInfo(eqx.Module):
    """What one `ratio_step` reports, before the step."""

    loss: Scalar
    penalty: Scalar


class ParticleInfo(eqx.Module):
    """What one `particle_step` reports, before the step."""

    loss: Scalar
    speed: Scalar


class RatioConfig(eqx.Module):
    """How a discriminator is trained: the arguments of `ratio_step` that stay the same."""

    gan: Any
    optimizer: Optimizer
    batch_size: int | None
    penalty: str | None
    penalty_weight: Any  # a number, or a schedule `step -> weight` until `at` asks it

    def check(self, caller: str, *fields: str) -> None:
        """Refuses options that make no step, and a GAN without these fields."""
        require_fields(caller, self.gan, *fields)
        check_penalty(caller, self.penalty, self.penalty_weight)
        check_counts(caller, {"batch_size": self.batch_size})

    def at(self, step: IntScalar) -> "RatioConfig":
        """The same at one step of a game, where the weight of the penalty is a number."""
        if not callable(self.penalty_weight):
            return self
        return dataclasses.replace(self, penalty_weight=self.penalty_weight(step))

    def h_t(self, discriminator: PyTree, data_p: Data, key: PRNGKeyArray) -> ScalarFn:
        """h_T with the discriminator as it is; that of pairs looks at a minibatch of p."""
        return h_t_of(self.gan, Partial(_values, self, discriminator, data_p, key))


def _values(config: RatioConfig, discriminator: PyTree, data: Data, key: PRNGKeyArray) -> Values:
    """Values of a discriminator at a minibatch."""
    return vmapped(discriminator)(*draw(key, data, config.batch_size))


def _loss(
    config: RatioConfig,
    batch: Batch,
    key: PRNGKeyArray | None,
    seen_as: Function | None,
    discriminator: PyTree,
) -> tuple[Scalar, RatioInfo]:
    data_q, data_p = batch
    discriminator = discriminator if seen_as is None else seen_as(discriminator)
    values = vmapped(discriminator)
    loss = discriminator_loss(config.gan, values(*data_p), values(*data_q))
    if config.penalty is None:
        return loss, RatioInfo(loss, jnp.zeros_like(loss))
    price = unchecked_penalty(config.penalty, discriminator, data_p, data_q, key)
    weight = jnp.asarray(config.penalty_weight, loss.dtype)
    return loss + weight * price, RatioInfo(loss, price)


def draw(key: PRNGKeyArray, data: Data, size: int | None) -> Data:
    """Draws a minibatch with replacement, or takes all samples if there are no more than `size`."""
    count = data[0].shape[0]
    if size is None or size >= count:
        return data
    rows = jax.random.randint(key, (size,), 0, count)
    return jax.tree.map(lambda leaf: leaf[rows], data)


def unchecked_ratio_step(
    config: RatioConfig, batch: Batch, state: RatioState, key: PRNGKeyArray | None
) -> tuple[RatioState, RatioInfo]:
    """`ratio_step` of arguments that have been checked."""
    data_q, data_p = batch
    if key is not None:
        key_q, key_p, key = jax.random.split(key, 3)
        data_q, data_p = (
            draw(key_q, data_q, config.batch_size),
            draw(key_p, data_p, config.batch_size),
        )
    return descend_ratio(config, (data_q, data_p), state, key)


def descend_ratio(
    config: RatioConfig,
    batch: Batch,
    state: RatioState,
    key: PRNGKeyArray | None,
    seen_as: Function | None = None,
) -> tuple[RatioState, RatioInfo]:
    """One step on the whole of a batch; the loss sees the discriminator as a function makes it."""
    loss = functools.partial(_loss, config, batch, key, seen_as)
    network, opt_state, info = descend(loss, config.optimizer, state.discriminator, state.opt_state)
    return RatioState(refresh(network), opt_state), info


def ratio_step(
    gan: Any,
    optimizer: Optimizer,
    state: RatioState,
    batch: tuple[Samples, Samples],
    *,
    batch_size: int | None = None,
    penalty: str | None = None,
    penalty_weight: ScalarLike = 10.0,
    key: PRNGKeyArray | None = None,
) -> tuple[RatioState, RatioInfo]:
    r"""One step of a discriminator up $E_p[\phi(d)] + E_q[\psi(d)]$.

    Args:
        gan: The `GAN`, or `IPM`, whose phi and psi are used; or a `PairGAN`, with all pairs.
        optimizer: Any optax optimiser.
        state: Discriminator and optimiser state, from `RatioState.start`.
        batch: `(xs_q, xs_p)`: samples of q, then of p [units of x], each an array or, with
            conditions, a tuple `(xs, cs)` of which a discriminator d(x, c) sees both.
        batch_size: Samples of each to draw, with replacement, for this step; all by default.
        penalty: None, or a `gradient_penalty`: "r1", "r2", "r1+r2", "zero" or "one".
        penalty_weight: Its weight in the loss.
        key: Randomness of the draw and of the penalty's points; without both it may be left out.

    Returns:
        The new state, and the loss and the penalty before the step.

    Raises:
        ValueError: If `batch_size` or a penalty that draws comes without `key`, the penalty is
            unknown, a number is out of range, `gan` has no phi and psi, there are no samples, or
            the discriminator or the optimiser's state does not fit.

    References:
        Yi, Zhu & Liu, MonoFlow, ICML 2023, algorithm 1.
    """
    caller = "ratio_step"
    config = RatioConfig(gan, optimizer, batch_size, penalty, penalty_weight)
    config.check(caller, "phi", "psi")
    data = samples(caller, xs_q=batch[0], xs_p=batch[1])
    check_critic(caller, "state.discriminator", state.discriminator, data[0], bool(penalty))
    check_opt_state(caller, optimizer, state.discriminator, state.opt_state)
    if key is None and (batch_size is not None or penalty in DRAWING):
        words = "`batch_size` and the penalties between p and q draw; pass `key` too."
        raise ValueError(f"{caller}: {words}")
    return unchecked_ratio_step(config, data, state, key)


def particle_step(
    gan: Any,
    discriminator: Network,
    xs: Samples,
    step_size: ScalarLike,
    *,
    xs_p: Samples | None = None,
) -> tuple[Float[Array, "n *event"], ParticleInfo]:
    r"""One Euler step of every particle: $x + \epsilon\, \nabla_x h_T(d(x))$.

    The gradient is each particle's own: no mean over particles divides the step.

    Args:
        gan: The GAN whose h_T is used.
        discriminator: A module d(x) of one sample, or d(x, c).
        xs: The particles [units of x], or `(xs, cs)` with their conditions, which stay.
        step_size: eps [units of flow time; units of x squared where h_T is in nats].
        xs_p: Samples of p [units of x], or `(xs, cs)`, for a `PairGAN`, whose h_T is a mean over
            all of them; others ignore them.

    Returns:
        The moved particles, and what they did.

    Raises:
        ValueError: If `gan` is no GAN, there are no particles, `step_size` is not positive, the
            discriminator does not fit, or a `PairGAN` comes without `xs_p`.

    References:
        Yi, Zhu & Liu, MonoFlow, ICML 2023, algorithm 1.
    """
    caller = "particle_step"
    require_fields(caller, gan, "phi", "psi", "h_t")
    require_p(caller, gan, "xs_p", xs_p)
    check_positive(caller, step_size=step_size)
    data, *data_p = samples(caller, xs=xs, **({} if xs_p is None else {"xs_p": xs_p}))
    check_critic(caller, "discriminator", discriminator, data)
    h_t = h_t_of(gan, lambda: vmapped(discriminator)(*data_p[0]))
    return unchecked_particle_step(h_t, discriminator, data, step_size)


def unchecked_particle_step(
    h_t: ScalarFn, discriminator: Network, data: Data, step_size: ScalarLike
) -> tuple[Cloud, ParticleInfo]:
    """`particle_step` of arguments that have been checked."""
    potential = jax.value_and_grad(lambda *one: h_t(discriminator(*one)))
    values, vs = jax.vmap(potential)(*data)
    xs = data[0]
    speed = jnp.sqrt(jnp.sum(vs**2) / xs.shape[0])
    moved = xs + jnp.asarray(step_size, xs.dtype) * vs
    return moved, ParticleInfo(-jnp.mean(values), speed)
