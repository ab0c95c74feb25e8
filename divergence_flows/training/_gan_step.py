r"""Two networks in training, one step at a time: a discriminator, and a generator that follows it.

The generator moves its samples along $\nabla h_T(d)$: by the gradient of its loss, or by
regression onto moved samples. At the weights that made the samples the two are the same step. A
proximal step takes the gradient of the loss too, and stays near the samples that it started from.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

from .._checks import Network, check_counts, check_critic, check_generator, check_positive
from .._types import Scalar, ScalarLike, vmapped
from ..gans._losses import regression_loss
from ..runs._batches import Data, Samples, samples
from ..runs._loop import scan
from ._ratio_step import (
    RatioConfig,
    RatioInfo,
    RatioState,
    descend_ratio,
    draw,
    unchecked_particle_step,
)
from ._update import Optimizer, average, check_decay, check_opt_state, descend, initial

_FORMS = ("loss", "distillation", "proximal")


class GANState(eqx.Module):
    """A GAN in training: both networks, the generator's average, both optimisers, steps done."""

    discriminator: PyTree
    generator: PyTree
    ema: PyTree
    d_opt_state: PyTree
    g_opt_state: PyTree
    step: Int[Array, ""]

    @classmethod
    def start(
        cls,
        discriminator: Network,
        generator: Network,
        d_optimizer: Optimizer,
        g_optimizer: Optimizer,
    ) -> "GANState":
        """State before the first `gan_step` of d(x) and g(z), with the same optimizers.

        The average starts at the generator itself.
        """
        d_opt_state = initial(d_optimizer, discriminator)
        g_opt_state = initial(g_optimizer, generator)
        step = jnp.asarray(0)
        return cls(discriminator, generator, generator, d_opt_state, g_opt_state, step)


class GANInfo(eqx.Module):
    """What one `gan_step` reports."""

    d_loss: Scalar
    g_loss: Scalar
    penalty: Scalar


class GANConfig(eqx.Module):
    """How a GAN is trained: the arguments of `gan_step` that stay the same."""

    critic: RatioConfig
    g_optimizer: Optimizer
    latent: int
    critic_steps: int
    generator_steps: int
    form: str
    step_size: ScalarLike
    tau: ScalarLike
    ema_decay: ScalarLike
    share_fakes: bool

    def check(self, caller: str, discriminator: Network, generator: Network, data_p: Data) -> None:
        """Refuses options that make no step, and networks that do not fit samples or noise."""
        self.critic.check(caller, "phi", "psi", "h_t")
        names = ("latent", "critic_steps", "generator_steps")
        check_counts(caller, {name: getattr(self, name) for name in names})
        check_positive(caller, step_size=self.step_size, tau=self.tau)
        check_decay(caller, self.ema_decay)
        if self.form not in _FORMS:
            words = f"`form` is {self.form!r}; pass 'loss', 'distillation' or 'proximal'."
            raise ValueError(f"{caller}: {words}")
        if self.form == "loss" and self.generator_steps > 1:
            words = f"`generator_steps` is {self.generator_steps} with form='loss'"
            remedy = "for several on one batch pass form='distillation' or 'proximal'"
            raise ValueError(f"{caller}: {words}; {remedy}.")
        each = self.form == "distillation" or self.critic.penalty is not None
        check_critic(caller, "discriminator", discriminator, data_p, each)
        check_generator(caller, "generator", generator, self.latent, data_p)

    def latents(self, key: PRNGKeyArray, data_p: Data) -> Data:
        """One minibatch of what the generator takes: noise, and conditions from those of p."""
        size: Any = self.critic.batch_size  # None in `transport` only
        xs, *conditions = data_p
        if conditions:
            xs, *conditions = draw(jax.random.fold_in(key, 1), data_p, size)
            size = xs.shape[0]
        return jax.random.normal(key, (size, self.latent), xs.dtype), *conditions


def made(generator: PyTree, latents: Data) -> Data:
    """The generator's samples, with their conditions."""
    return vmapped(generator)(*latents), *latents[1:]


def unchecked_gan_step(
    config: GANConfig, data_p: Data, state: GANState, key: PRNGKeyArray
) -> tuple[GANState, GANInfo]:
    """`gan_step` of arguments that have been checked."""
    at_step = config.critic.at(state.step)
    key_noise, key_critics = jax.random.split(key)
    latents = config.latents(key_noise, data_p)
    fakes = made(state.generator, latents)

    def critic(ratio: RatioState, key: PRNGKeyArray) -> tuple[RatioState, RatioInfo]:
        """One discriminator step, on a fresh minibatch of p and on shared or fresh fakes."""
        key_noise, key = jax.random.split(key)
        _, key_p, key = jax.random.split(key, 3)
        real = draw(key_p, data_p, config.critic.batch_size)
        # Fresh fakes have the conditions of the samples beside them.
        data_q = fakes
        if not config.share_fakes:
            data_q = made(state.generator, config.latents(key_noise, real))
        return descend_ratio(at_step, (data_q, real), ratio, key)

    ratio = RatioState(state.discriminator, state.d_opt_state)
    ratio, metrics = scan(critic, ratio, jax.random.split(key_critics, config.critic_steps))
    d, moved = ratio.discriminator, None
    h_t = config.critic.h_t(d, data_p, jax.random.fold_in(key_noise, 2))
    if config.form == "distillation":
        moved = unchecked_particle_step(h_t, d, fakes, config.step_size)

    def loss(generator: PyTree) -> tuple[Scalar, Scalar]:
        xs, *conditions = made(generator, latents)
        if moved is not None:
            return regression_loss(xs, moved[0]), moved[1].loss
        value = -jnp.mean(h_t(vmapped(d)(xs, *conditions)))
        if config.form == "loss":
            return value, value
        return regression_loss(xs, fakes[0]) / jnp.asarray(config.tau, xs.dtype) + value, value

    def descended(old: tuple[PyTree, PyTree], _: None) -> tuple[tuple[PyTree, PyTree], Scalar]:
        generator, opt_state, value = descend(loss, config.g_optimizer, *old)
        return (generator, opt_state), value

    old = (state.generator, state.g_opt_state)
    (generator, g_opt_state), g_losses = scan(descended, old, None, config.generator_steps)
    ema = average(generator, state.ema, config.ema_decay)
    new = (d, generator, ema, ratio.opt_state, g_opt_state, state.step + 1)
    return GANState(*new), GANInfo(metrics.loss[-1], g_losses[0], metrics.penalty[-1])


def gan_step(
    gan: Any,
    d_optimizer: Optimizer,
    g_optimizer: Optimizer,
    state: GANState,
    xs_p: Samples,
    *,
    latent: int,
    batch_size: int = 128,
    critic_steps: int = 1,
    generator_steps: int = 1,
    form: str = "loss",
    step_size: ScalarLike = 0.1,
    tau: ScalarLike = 1.0,
    penalty: str | None = None,
    penalty_weight: ScalarLike | Callable[..., Any] = 10.0,
    ema_decay: ScalarLike = 0.999,
    share_fakes: bool = False,
    key: PRNGKeyArray,
) -> tuple[GANState, GANInfo]:
    r"""A few discriminator steps up $E_p[\phi(d)] + E_q[\psi(d)]$, then the generator's.

    The generator goes down $-E_z[h_T(d(g(z)))]$, or regresses onto its own samples moved by
    $\epsilon \nabla h_T(d)$, or goes down the first plus $E_z|g - g_{old}|^2 / (2 \tau)$. The first
    regression step has eps times the gradient of the loss, and the first proximal step is that of
    the loss.

    A proximal step, in many generator steps, ends at the proximal point of the frozen potential
    $-h_T(d)$, for a free generator $x = x_{old} + \tau \nabla h_T(d(x))$, the slope taken at its
    end. A small tau makes it distillation with eps = tau, to the order of tau squared, and a large
    one the GAN's loss. With a critic that knows the ratio at the end of the step it is the JKO
    step of the divergence; this one knows that at the start, which agrees to the first order.

    Args:
        gan: A `GAN`, an `IPM` or a `PairGAN`.
        d_optimizer: Of the discriminator, any of optax.
        g_optimizer: Of the generator.
        state: Where training stands, from `GANState.start`.
        xs_p: Samples of p [units of x], or `(xs, cs)` with conditions: the networks are then
            d(x, c) and g(z, c), with c from these samples.
        latent: Coordinates of the standard normal noise z that the generator takes.
        batch_size: Fakes, and samples of p drawn with replacement, for each update.
        critic_steps: Discriminator updates, each on a fresh minibatch of p.
        generator_steps: Generator updates on one batch of noise; more than 1 only in distillation
            and in a proximal step.
        form: "loss", "distillation" or "proximal".
        step_size: eps of the distillation's target [units of flow time]; the others have none.
        tau: Length of a proximal step [units of flow time]; the others have none. The loss has
            1/tau in it, so a small one asks a plain optimizer for a small rate.
        penalty: None, or a `gradient_penalty`: "r1", "r2", "r1+r2", "zero" or "one".
        penalty_weight: Its weight in the discriminator's loss, a number or a schedule
            `step -> weight`.
        ema_decay: Weight of the past in the generator's average.
        share_fakes: Whether discriminator and generator see one batch of fakes, or each update of
            the discriminator and the generator's draw fresh ones.
        key: Randomness of the noise and the minibatches.

    Returns:
        The new state, and the losses before the updates.

    Raises:
        ValueError: If an option is wrong, `gan` is a `Divergence`, with the reason, there are no
            samples, or a network or an optimiser's state does not fit.

    References:
        Yi, Zhu & Liu, MonoFlow, ICML 2023, section 4; Gao et al., Deep generative learning via
        variational gradient flow, ICML 2019 (distillation); Choi, Choi & Kang, Scalable
        Wasserstein gradient flow for generative modeling, ICML 2024 (JKO steps of generators).
    """
    caller = "gan_step"
    (data_p,) = samples(caller, xs_p=xs_p)
    critic = RatioConfig(gan, d_optimizer, batch_size, penalty, penalty_weight)
    options = (latent, critic_steps, generator_steps, form, step_size, tau, ema_decay, share_fakes)
    config = GANConfig(critic, g_optimizer, *options)
    config.check(caller, state.discriminator, state.generator, data_p)
    check_opt_state(caller, d_optimizer, state.discriminator, state.d_opt_state)
    check_opt_state(caller, g_optimizer, state.generator, state.g_opt_state)
    return unchecked_gan_step(config, data_p, state, key)
