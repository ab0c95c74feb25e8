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
    check_samples,
    scalar_valued,
)
from .._types import LogRatioFn, Scalar, ScalarLike, as_float, vmapped
from ..gans._losses import NO_RATIO, discriminator_loss, require_fields
from ..gans._potentials import is_witness
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


class RatioCheck(eqx.Module):
    """How far a ratio is from one: see `ratio_check`."""

    mean_r: Scalar
    mean_inverse_r: Scalar
    effective_sample_size: Scalar


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


def ratio_check(
    log_r: LogRatioFn,
    xs_q: Real[ArrayLike, "n *event"],
    xs_p: Real[ArrayLike, "m *event"],
    *,
    t: ScalarLike = 0.0,
    args: Any = None,
) -> RatioCheck:
    r"""How far a function is from the log ratio of two samples, in three numbers.

    A true ratio has $E_q[r] = 1$ and $E_p[1/r] = 1$. The effective sample size
    $(\sum r)^2 / \sum r^2$ over samples of q is how many samples of p they are worth; when it is
    small neither mean says much. All sums are taken in log space.

    Args:
        log_r: `log_r(t, x, args)` of one point [nats].
        xs_q: Samples of q, best held out from what trained `log_r` [units of x].
        xs_p: Samples of p, likewise [units of x].
        t: Flow time passed on [units of flow time].
        args: Passed on.

    Returns:
        `mean_r` = E_q[r] and `mean_inverse_r` = E_p[1/r], both 1 for a true ratio, and
        `effective_sample_size` between 1 and the number of samples of q.

    Raises:
        ValueError: If `log_r` is a `witness` or an `mmd_witness`, which is no log ratio, or returns
            no scalar, or there are no samples.
        EquinoxRuntimeError: If a sample is not finite, or numbers are too large for their floats.

    References:
        Kong, A note on importance sampling using standardized weights, 1992.
    """
    caller = "ratio_check"
    if is_witness(log_r):
        raise ValueError(f"{caller}: `log_r` is no log ratio: {NO_RATIO}")
    one, other = check_samples(caller, xs_q=xs_q, xs_p=xs_p)
    along = jax.vmap(scalar_valued(caller, "log_r", log_r), in_axes=(None, 0, None))
    u_q, u_p = along(t, one, args), along(t, other, args)
    total = jax.nn.logsumexp(u_q)
    size = jnp.exp(2 * total - jax.nn.logsumexp(2 * u_q))
    mean_r = jnp.exp(total - jnp.log(u_q.size))
    mean_inverse = jnp.exp(jax.nn.logsumexp(-u_p) - jnp.log(u_p.size))
    return RatioCheck(mean_r, mean_inverse, size)
