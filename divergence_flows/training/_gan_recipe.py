"""The options of a GAN's training: what they are, and which make no sense."""

from typing import Any

import equinox as eqx
from jaxtyping import Array, Float

from .._checks import Network, check_counts, check_critic, check_generator, check_numbers
from .._types import ScalarLike
from ..gans._losses import require_fields
from ._penalty import check_penalty
from ._update import Optimizer

_FORMS = ("loss", "distillation")


class Recipe(eqx.Module):
    """How a GAN is trained: the arguments of `gan_step` that stay the same."""

    gan: Any
    d_optimizer: Optimizer
    g_optimizer: Optimizer
    latent: int
    batch_size: int
    critic_steps: int
    generator_steps: int
    form: str
    step_size: ScalarLike
    penalty: str | None
    penalty_weight: ScalarLike
    ema_decay: ScalarLike
    share_fakes: bool


def _check_numbers(caller: str, recipe: Recipe) -> None:
    """Refuses numbers out of range."""
    # `Any`, since the checker's ScalarLike holds complex numbers, which have no order.
    eps: Any = recipe.step_size
    weight: Any = recipe.penalty_weight
    decay: Any = recipe.ema_decay
    numbers = {
        "step_size": (eps, eps > 0, "a positive number"),
        "penalty_weight": (weight, weight >= 0, "0 or more"),
        "ema_decay": (decay, (decay >= 0) & (decay < 1), "a number from 0 (no average) to below 1"),
    }
    check_numbers(caller, numbers)


def check_networks(
    caller: str, recipe: Recipe, networks: tuple[Network, Network], xs_p: Float[Array, "m *event"]
) -> None:
    """Refuses networks that do not fit the samples or the noise."""
    discriminator, generator = networks
    check_critic(caller, "discriminator", discriminator, xs_p=xs_p)
    check_generator(caller, "generator", generator, recipe.latent, xs_p)


def check_recipe(caller: str, recipe: Recipe) -> None:
    """Refuses options that make no step."""
    require_fields(caller, recipe.gan, "phi", "psi", "h_t")
    names = ("latent", "batch_size", "critic_steps", "generator_steps")
    check_counts(caller, {name: getattr(recipe, name) for name in names})
    check_penalty(caller, recipe.penalty, recipe.penalty_weight)
    _check_numbers(caller, recipe)
    if recipe.form not in _FORMS:
        raise ValueError(f"{caller}: `form` is {recipe.form!r}; pass 'loss' or 'distillation'.")
    if recipe.form == "loss" and recipe.generator_steps > 1:
        raise ValueError(
            f"{caller}: `generator_steps` is {recipe.generator_steps} with form='loss'. After one "
            "step the generator's samples are no longer those that the discriminator was trained "
            "on, and only regression onto a kept target stays right: pass form='distillation'."
        )
