r"""Two networks in training, one step at a time: a discriminator, and a generator that follows it.

The generator moves its samples along $\nabla h_T(d)$: by the gradient of its loss, or by
regression onto moved samples. At the weights that made the samples the two are the same step;
after it only the regression still means what the discriminator said.
"""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int, PRNGKeyArray, PyTree, Real

from .._checks import Network
from .._types import Scalar, ScalarLike, as_float, vmapped
from ..gans._losses import generator_loss, regression_loss
from ..runs._loop import scan
from ._gan_recipe import Recipe, check_networks, check_recipe
from ._ratio_step import Cloud, RatioInfo, RatioState, particle_step, ratio_step
from ._update import Optimizer, average, check_memory, descend, initial

Noise = Float[Array, "_ latent"]


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
        """State before the first step.

        Args:
            discriminator: A module d(x) of one sample.
            generator: A module g(z) of one noise vector.
            d_optimizer: The same as `gan_step` will get.
            g_optimizer: Likewise.

        Returns:
            The state; the average starts at the generator itself.
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


def _sample(recipe: Recipe, generator: PyTree, key: PRNGKeyArray, like: Cloud) -> tuple[Any, Any]:
    """Noise, and what the generator makes of it."""
    zs = jax.random.normal(key, (recipe.batch_size, recipe.latent), like.dtype)
    return zs, vmapped(generator)(zs)


def _critic(
    recipe: Recipe,
    generator: PyTree,
    shared: Cloud | None,
    xs_p: Cloud,
    ratio: RatioState,
    key: PRNGKeyArray,
) -> tuple[RatioState, RatioInfo]:
    """One discriminator step, on a fresh minibatch of p and on shared or fresh fakes."""
    key_noise, key_step = jax.random.split(key)
    fakes = _sample(recipe, generator, key_noise, xs_p)[1] if shared is None else shared
    return ratio_step(
        recipe.gan,
        recipe.d_optimizer,
        ratio,
        (fakes, xs_p),
        batch_size=recipe.batch_size,
        penalty=recipe.penalty,
        penalty_weight=recipe.penalty_weight,
        key=key_step,
    )


def _direct(gan: Any, discriminator: PyTree, zs: Noise, generator: PyTree) -> tuple[Scalar, Scalar]:
    loss = generator_loss(gan, vmapped(discriminator)(vmapped(generator)(zs)))
    return loss, loss


def _regression(zs: Noise, targets: Cloud, generator: PyTree) -> tuple[Scalar, Scalar]:
    loss = regression_loss(vmapped(generator)(zs), targets)
    return loss, loss


def _regress(
    optimizer: Optimizer, zs: Noise, targets: Cloud, carry: tuple[PyTree, PyTree], _: None
) -> tuple[tuple[PyTree, PyTree], Scalar]:
    """One of several steps onto the same targets."""
    loss = functools.partial(_regression, zs, targets)
    generator, opt_state, metrics = descend(loss, optimizer, *carry)
    return (generator, opt_state), metrics


def _generator(
    recipe: Recipe, discriminator: PyTree, zs: Noise, state: GANState
) -> tuple[PyTree, PyTree, Scalar]:
    """The generator's steps in either form, and its loss before them."""
    carry = (state.generator, state.g_opt_state)
    if recipe.form == "loss":
        loss = functools.partial(_direct, recipe.gan, discriminator, zs)
        return descend(loss, recipe.g_optimizer, *carry)
    fakes = vmapped(state.generator)(zs)
    targets, info = particle_step(recipe.gan, discriminator, fakes, recipe.step_size)
    body = functools.partial(_regress, recipe.g_optimizer, zs, targets)
    (generator, opt_state), _ = scan(body, carry, None, recipe.generator_steps)
    return generator, opt_state, info.loss


def take(
    recipe: Recipe, state: GANState, xs_p: Cloud, key: PRNGKeyArray
) -> tuple[GANState, GANInfo]:
    """Makes one step of a recipe that has been checked."""
    key_noise, key_critics = jax.random.split(key)
    zs, fakes = _sample(recipe, state.generator, key_noise, xs_p)
    shared = fakes if recipe.share_fakes else None
    critic = functools.partial(_critic, recipe, state.generator, shared, xs_p)
    ratio = RatioState(state.discriminator, state.d_opt_state)
    ratio, metrics = scan(critic, ratio, jax.random.split(key_critics, recipe.critic_steps))
    generator, g_opt_state, g_loss = _generator(recipe, ratio.discriminator, zs, state)
    ema = average(generator, state.ema, recipe.ema_decay)
    new = (ratio.discriminator, generator, ema, ratio.opt_state, g_opt_state, state.step + 1)
    return GANState(*new), GANInfo(metrics.loss[-1], g_loss, metrics.penalty[-1])


def gan_step(
    gan: Any,
    d_optimizer: Optimizer,
    g_optimizer: Optimizer,
    state: GANState,
    xs_p: Real[ArrayLike, "m *event"],
    *,
    latent: int,
    batch_size: int = 128,
    critic_steps: int = 1,
    generator_steps: int = 1,
    form: str = "loss",
    step_size: ScalarLike = 0.1,
    penalty: str | None = None,
    penalty_weight: ScalarLike = 10.0,
    ema_decay: ScalarLike = 0.999,
    share_fakes: bool = False,
    key: PRNGKeyArray,
) -> tuple[GANState, GANInfo]:
    r"""A few discriminator steps up $E_p[\phi(d)] + E_q[\psi(d)]$, then the generator's.

    The generator goes down $-E_z[h_T(d(g(z)))]$, or regresses onto its own samples moved by
    $\epsilon \nabla h_T(d)$. The first regression step has eps times the gradient of the loss.

    Args:
        gan: A `GAN` or an `IPM`.
        d_optimizer: Of the discriminator, any of optax.
        g_optimizer: Of the generator.
        state: Where training stands, from `GANState.start`.
        xs_p: Samples of p [units of x].
        latent: Coordinates of the standard normal noise z that the generator takes.
        batch_size: Fakes, and samples of p drawn with replacement, for each update; a cloud of no
            more samples is used whole.
        critic_steps: Discriminator updates, each on a fresh minibatch of p.
        generator_steps: Generator updates on one target; more than 1 only in distillation.
        form: "loss" or "distillation".
        step_size: eps of the distillation's target [units of flow time]; the loss has none.
        penalty: None, or a `gradient_penalty`: "r1", "zero" or "one".
        penalty_weight: Its weight in the discriminator's loss.
        ema_decay: Weight of the past in the generator's average.
        share_fakes: Whether discriminator and generator see one batch of fakes, or each update of
            the discriminator and the generator's draw fresh ones.
        key: Randomness of the noise and the minibatches.

    Returns:
        The new state, and the losses before the updates.

    Raises:
        ValueError: If an option is wrong, `gan` is a `Divergence`, with the reason, there are no
            samples, or a network or what an optimiser remembers does not fit.

    References:
        Yi, Zhu & Liu, MonoFlow, ICML 2023, section 4; Gao et al., Deep generative learning via
        variational gradient flow, ICML 2019 (distillation).
    """
    recipe = Recipe(
        gan,
        d_optimizer,
        g_optimizer,
        latent,
        batch_size,
        critic_steps,
        generator_steps,
        form,
        step_size,
        penalty,
        penalty_weight,
        ema_decay,
        share_fakes,
    )
    caller, goal = "gan_step", as_float(xs_p)
    check_recipe(caller, recipe)
    check_networks(caller, recipe, (state.discriminator, state.generator), goal)
    check_memory(caller, d_optimizer, state.discriminator, state.d_opt_state)
    check_memory(caller, g_optimizer, state.generator, state.g_opt_state)
    return take(recipe, state, goal, key)
