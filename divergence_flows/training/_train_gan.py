r"""A GAN trained to the end: `gan_step` in chunks of `lax.scan`, seeds side by side if you like."""

import functools
import os
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PRNGKeyArray, PyTree, Real

from .._checks import Network, check_counts, check_samples
from .._types import Scalar, ScalarLike, vmapped
from ..flows._integrate import AbstractProgressMeter, NoProgressMeter
from ..runs._checkpoint import digest, values
from ..runs._loop import Loop, as_path, follow
from ..runs._stopping import FAR, STILL, Metrics, extent, flat, lengths
from ._gan_recipe import Recipe, check_networks, check_recipe
from ._gan_step import GANState, take
from ._ratio_step import particle_step
from ._update import Optimizer, first_updates, game_optimizer


class TrainInfo(eqx.Module):
    """What happened at each step.

    `d_losses` is the discriminator loss without the penalty, and `penalties` the penalty without
    its weight, before the last of the discriminator's updates; `g_losses` is -E_q[h_T(d)] before
    the generator's. `diverged` is -1; inside `jit` and `vmap`, where nothing is raised, the step at
    which the run diverged, if it did: what is told from there on is NaN, and the state is the last
    good one.
    """

    d_losses: Float[Array, " steps"]
    g_losses: Float[Array, " steps"]
    penalties: Float[Array, " steps"]
    diverged: Int[Array, ""]


class _Plan(eqx.Module):
    """All that stays the same during a run."""

    recipe: Recipe
    xs_p: Array
    key: PRNGKeyArray


def _step(plan: _Plan, state: GANState) -> tuple[GANState, dict[str, Scalar]]:
    """One step, its randomness from the run's key and the number of the step."""
    key = jax.random.fold_in(plan.key, state.step)
    state, info = take(plan.recipe, state, plan.xs_p, key)
    return state, {"d_losses": info.d_loss, "g_losses": info.g_loss, "penalties": info.penalty}


def _signs(
    plan: _Plan, start: Network, old: GANState, new: GANState, metrics: Metrics
) -> dict[str, Bool[Array, ""]]:
    """Signs of a game that is lost though its numbers are finite."""
    recipe = plan.recipe
    noise = jax.random.normal(plan.key, (recipe.batch_size, recipe.latent), plan.xs_p.dtype)
    first, fakes = (vmapped(generator)(noise) for generator in (start, new.generator))
    middle, reach = extent(plan.xs_p, first)
    away = flat(fakes) - middle
    far = (jnp.max(lengths(away)) > FAR * reach) & (reach > 0)
    if len(metrics["g_losses"]) < STILL:
        return {"samples": far}
    slope = particle_step(recipe.gan, new.discriminator, fakes, 1.0)[1].speed
    idle = (slope == 0) & _unchanged(old.generator, new.generator)
    apart = lengths(jnp.mean(away, axis=0)) > 1e-3 * reach
    return {"samples": far, "motion": idle & apart}


def _unchanged(old: PyTree, new: PyTree) -> Bool[Array, ""]:
    """Whether all numbers of two trees are the same."""
    before, after = (jax.tree.leaves(eqx.filter(tree, eqx.is_array)) for tree in (old, new))
    equal = [jnp.all(a == b) for a, b in zip(before, after, strict=True)]
    return functools.reduce(jnp.logical_and, equal, jnp.asarray(True))


def _header(plan: _Plan, state: GANState, steps: int, chunk: int) -> dict[str, Any]:
    """The run's fingerprint: its settings, and its functions at a few arguments."""
    recipe, d, g = plan.recipe, state.discriminator, state.generator
    noise = jnp.eye(2, recipe.latent, dtype=plan.xs_p.dtype)
    names = ("latent", "batch_size", "critic_steps", "generator_steps", "form", "penalty")
    numbers = ("step_size", "penalty_weight", "ema_decay")
    return {
        "run": "train_gan",
        "steps": steps,
        "chunk": chunk,
        **{name: getattr(recipe, name) for name in names},
        **{name: np.asarray(getattr(recipe, name)).tolist() for name in numbers},
        "share_fakes": recipe.share_fakes,
        "gan": values(recipe.gan),
        "key": digest(plan.key),
        "xs_p": digest(plan.xs_p),
        "discriminator": digest((d, vmapped(d)(plan.xs_p[:2]))),
        "generator": digest((g, vmapped(g)(noise))),
        "d_optimizer": digest(first_updates(recipe.d_optimizer, d)),
        "g_optimizer": digest(first_updates(recipe.g_optimizer, g)),
    }


def train_gan(
    gan: Any,
    discriminator: Network,
    generator: Network,
    xs_p: Real[ArrayLike, "m *event"],
    *,
    latent: int,
    steps: int = 4000,
    d_optimizer: Optimizer | None = None,
    g_optimizer: Optimizer | None = None,
    batch_size: int = 128,
    critic_steps: int = 1,
    generator_steps: int = 1,
    form: str = "loss",
    step_size: ScalarLike = 0.1,
    penalty: str | None = None,
    penalty_weight: ScalarLike = 10.0,
    ema_decay: ScalarLike = 0.999,
    share_fakes: bool = False,
    chunk: int = 200,
    progress_meter: AbstractProgressMeter = NoProgressMeter(),
    checkpoint: str | os.PathLike | None = None,
    on_chunk: Callable[..., Any] | None = None,
    key: PRNGKeyArray,
) -> tuple[GANState, TrainInfo]:
    r"""Trains a generator on samples of p, by the game of any divergence GAN.

    Each step is a `gan_step`, whose arguments mean the same here. Under `jax.vmap` over `key`
    (and, if you like, over networks, GANs and samples) it trains many seeds at once.

    Args:
        gan: A `GAN`, or an `IPM` with a penalty or `networks.spectral` critics.
        discriminator: A module d(x) of one sample, for instance `networks.Discriminator`.
        generator: A module g(z) of one noise vector, for instance `networks.Generator`.
        xs_p: Samples of p [units of x].
        latent: Coordinates of the standard normal noise z that the generator takes.
        steps: Steps of the game.
        d_optimizer: Of the discriminator; Adam(.5, .999) at 2e-4 by default.
        g_optimizer: Of the generator; Adam(.5, .999) at 1e-4 by default. Both defaults are those
            of the MonoFlow paper's image runs; small networks learn faster at 1e-3.
        batch_size: Fakes, and samples of p, for each update.
        critic_steps: Discriminator updates at each step.
        generator_steps: Generator updates on one target; more than 1 only in distillation.
        form: "loss" or "distillation".
        step_size: eps of the distillation's target [units of flow time].
        penalty: None, or a `gradient_penalty`: "r1", "zero" or "one".
        penalty_weight: Its weight in the discriminator's loss.
        ema_decay: Weight of the past in the generator's average.
        share_fakes: Whether discriminator and generator see one batch of fakes.
        chunk: Steps between two visits to the host: a compiled program for this length, and one
            more for the rest if it does not divide `steps`.
        progress_meter: One of diffrax's; stepped at each step.
        checkpoint: A file, written after each chunk. If it exists, the run goes on from there bit
            for bit; it must have been written by the same call.
        on_chunk: Called with the `GANState` after each chunk; what it raises ends the run.
        key: Randomness of the noise and the minibatches.

    Returns:
        The last state, whose `ema` is the averaged generator, and the losses.

    Raises:
        ValueError: If an option is wrong, `gan` is a `Divergence`, there are no samples, a network
            does not fit them, the checkpoint is another run's, or `checkpoint` is asked for
            inside a trace.
        EquinoxRuntimeError: If a sample is not finite, or numbers are too large for their floats.
        RunDiverged: At the end of a chunk in which a number is not finite any more, at whose end
            a sample of the generator lies a thousand times as far out as the data reach, or, in
            100 steps or more, it has not changed at all since the discriminator is flat where its
            samples are; not inside `jit` and `vmap`.
        OSError: If the checkpoint cannot be written; the one before stands.
        KeyboardInterrupt: On Ctrl-C, with what the checkpoint holds.

    References:
        Yi, Zhu & Liu, MonoFlow, ICML 2023, section 4.
    """
    d_optimizer = game_optimizer(2e-4) if d_optimizer is None else d_optimizer
    g_optimizer = game_optimizer(1e-4) if g_optimizer is None else g_optimizer
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
    check_recipe("train_gan", recipe)
    check_counts("train_gan", {"steps": steps, "chunk": chunk})
    goal = check_samples("train_gan", xs_p=xs_p)[0]
    check_networks("train_gan", recipe, (discriminator, generator), goal)
    plan = _Plan(recipe, goal, key)
    path = as_path("train_gan", checkpoint, (plan, discriminator, generator))
    state = GANState.start(discriminator, generator, d_optimizer, g_optimizer)
    header = {} if path is None else _header(plan, state, steps, chunk)
    loop = Loop("train_gan", steps, chunk, progress_meter, path, header, on_chunk)
    history: dict[str, Any] = {"d_losses": [], "g_losses": [], "penalties": []}
    lost = Partial(_signs, plan, generator)
    state, metrics = follow(loop, Partial(_step, plan), state, history, signs=lost)
    return state, TrainInfo(**metrics)
