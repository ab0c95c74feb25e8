r"""A GAN trained to the end: `gan_step` in chunks of `lax.scan`, seeds side by side if you like."""

import os
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float, Int, PRNGKeyArray

from .._checks import Network
from .._types import Scalar, ScalarLike, vmapped
from ..flows._integrate import AbstractProgressMeter
from ..runs._batches import Data, Source, first_of, sources
from ..runs._loop import Loop, run_chunks
from ..runs._stopping import FAR, STILL, Extent, Flag, Metrics, not_finite
from ._advice import COLLAPSED, CRITIC, GENERATOR
from ._gan_step import GANConfig, GANState, made, unchecked_gan_step
from ._ratio_step import RatioConfig
from ._update import Optimizer, game_optimizer

_ADVICE = {
    **{name: CRITIC for name in ("d_losses", "penalties", "discriminator", "d_opt_state")},
    **{name: GENERATOR for name in ("g_losses", "generator", "ema", "g_opt_state")},
}


class TrainInfo(eqx.Module):
    """What `train_gan` reports: its losses at each step.

    `d_losses` is the discriminator loss without the penalty, and `penalties` the penalty without
    its weight, before the last of the discriminator's updates; `g_losses` is -E_q[h_T(d)] before
    the generator's. `diverged` is -1, or inside `jit` and `vmap`, where nothing is raised, the step
    at which the run diverged: metrics from there on are NaN, and the state is the last good one.
    """

    d_losses: Float[Array, " steps"]
    g_losses: Float[Array, " steps"]
    penalties: Float[Array, " steps"]
    diverged: Int[Array, ""]


def _step(
    config: GANConfig, key: PRNGKeyArray, state: GANState, data_p: Data
) -> tuple[GANState, dict[str, Scalar]]:
    """One step, its randomness from the run's key and the number of the step."""
    state, info = unchecked_gan_step(config, data_p, state, jax.random.fold_in(key, state.step))
    return state, {"d_losses": info.d_loss, "g_losses": info.g_loss, "penalties": info.penalty}


def _stop(
    config: GANConfig, key: Any, start: Network, old: Any, new: Any, info: Metrics, data_p: Data
) -> list[Flag]:
    """Stops where numbers are not finite, and where the generator throws samples far or rests."""
    latents = config.latents(key, data_p)
    first, fakes = (made(generator, latents) for generator in (start, new.generator))
    extent = Extent(data_p[0], first[0])
    problem = f"lie {FAR:g} times as far out as the data reach, or more"
    far = extent.thrown_far(jnp.max(extent.distances(fakes[0])))
    flags = [*not_finite(_ADVICE, old, new, info), Flag("samples", problem, GENERATOR, far)]
    if len(info["g_losses"]) < STILL:
        return flags
    d, (xs, *conditions) = vmapped(new.discriminator), fakes
    h_t = config.critic.h_t(new.discriminator, data_p, key)
    pull = jax.grad(lambda xs: jnp.sum(h_t(d(xs, *conditions))))(xs)
    unchanged = jnp.asarray(eqx.tree_equal(old.generator, new.generator))
    still = jnp.all(pull == 0) & unchanged & extent.apart(fakes[0])
    problem = "is none: the generator rests in the steps before, and its samples are not p's"
    return [*flags, Flag("motion", problem, COLLAPSED, still)]


def train_gan(
    gan: Any,
    discriminator: Network,
    generator: Network,
    xs_p: Source,
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
    tau: ScalarLike = 1.0,
    penalty: str | None = None,
    penalty_weight: ScalarLike | Callable[..., Any] = 10.0,
    ema_decay: ScalarLike = 0.999,
    share_fakes: bool = False,
    chunk: int = 200,
    progress: bool | AbstractProgressMeter = True,
    checkpoint: str | os.PathLike | None = None,
    save_every: int | None = None,
    on_chunk: Callable[..., Any] | None = None,
    key: PRNGKeyArray,
) -> tuple[GANState, TrainInfo]:
    r"""Trains a generator on samples of p, by the game of any divergence GAN.

    Each step is a `gan_step`, whose arguments mean the same here. Under `jax.vmap` over `key`
    (and, if you like, over networks, GANs and samples) it trains many seeds at once.

    Args:
        gan: A `GAN`, a `PairGAN`, or an `IPM` with a penalty or `networks.spectral` critics.
        discriminator: A module d(x) of one sample, for instance `networks.Discriminator`; or
            d(x, c), if samples have conditions.
        generator: A module g(z) of one noise vector, for instance `networks.Generator`; or
            g(z, c), with c from samples of p.
        xs_p: Samples of p [units of x], as `transport` takes them: an array, a tuple `(xs, cs)`
            with conditions, a function `batch(step)`, or an iterable of batches.
        latent: Coordinates of the standard normal noise z that the generator takes.
        steps: Steps of the game.
        d_optimizer: Of the discriminator; Adam(.5, .999) at 2e-4 by default.
        g_optimizer: Of the generator; Adam(.5, .999) at 1e-4 by default. Both defaults are those
            of the MonoFlow paper's image runs; small networks learn faster at 1e-3.
        batch_size: Fakes, and samples of p, for each update.
        critic_steps: Discriminator updates at each step.
        generator_steps: Generator updates on one batch of noise; more than 1 only in distillation
            and in a proximal step.
        form: "loss", "distillation" or "proximal".
        step_size: eps of the distillation's target [units of flow time].
        tau: Length of a proximal step [units of flow time].
        penalty: None, or a `gradient_penalty`: "r1", "r2", "r1+r2", "zero" or "one".
        penalty_weight: Its weight in the discriminator's loss, a number or a schedule
            `step -> weight`.
        ema_decay: Weight of the past in the generator's average.
        share_fakes: Whether discriminator and generator see one batch of fakes.
        chunk: Steps between two visits to the host, as in `transport`.
        progress: True for a bar on a terminal, False, or one of diffrax's progress meters.
        checkpoint: A file to write after each chunk and to go on from, as in `transport`.
        save_every: Steps between two writes of the checkpoint, at ends of chunks.
        on_chunk: Called as `on_chunk(state, metrics)` after each chunk, with the `GANState`, as
            in `transport`; True ends the run.
        key: Randomness of the noise and the minibatches.

    Returns:
        The last state, whose `ema` is the averaged generator, and the losses.

    Raises:
        ValueError: If an option is wrong, `gan` is a `Divergence`, or a network does not fit; and
            all errors of `transport`.
        RunDiverged: At the end of a chunk in which a number is not finite any more, a sample of the
            generator lies a thousand times as far out as the data reach, or 100 steps do not
            change it since the discriminator is flat at its samples; not inside `jit` and `vmap`.

    Example:
        ```python
        xs_p = jr.normal(jr.key(0), (64, 1)) + 2.0
        d = df.networks.Discriminator(1, 16, 1, key=jr.key(1))
        g = df.networks.Generator(2, 1, 16, 1, key=jr.key(2))
        state, info = df.train_gan(df.gans.logit(), d, g, xs_p, latent=2, steps=20, key=jr.key(3))
        print(info.d_losses.shape, jax.vmap(state.ema)(jnp.zeros((5, 2))).shape)  # (20,) (5, 1)
        ```

    References:
        Yi, Zhu & Liu, MonoFlow, ICML 2023, section 4.
    """
    d_optimizer = game_optimizer(2e-4) if d_optimizer is None else d_optimizer
    g_optimizer = game_optimizer(1e-4) if g_optimizer is None else g_optimizer
    caller = "train_gan"
    loop = Loop(caller, steps, chunk, progress, checkpoint, save_every, on_chunk)
    critic = RatioConfig(gan, d_optimizer, batch_size, penalty, penalty_weight)
    options = (latent, critic_steps, generator_steps, form, step_size, tau, ema_decay, share_fakes)
    config = GANConfig(critic, g_optimizer, *options)
    (data_p,) = sources(caller, xs_p=xs_p)
    config.check(caller, discriminator, generator, first_of(data_p))
    state = GANState.start(discriminator, generator, d_optimizer, g_optimizer)
    step, stop = Partial(_step, config, key), Partial(_stop, config, key, generator)
    state, metrics = run_chunks(loop, step, state, (data_p,), stop)
    del metrics["kept"]
    return state, TrainInfo(**metrics)
