r"""A generator distilled to the end: `distilled_step` in chunks of `lax.scan`."""

import os
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float, Int, PRNGKeyArray

from .._checks import Network
from .._types import Function, Scalar, ScalarFn, ScalarLike
from ..flows._integrate import AbstractProgressMeter
from ..runs._batches import Data, Source, first_of, sources
from ..runs._loop import Loop, run_chunks
from ..runs._stopping import FAR, STILL, Extent, Flag, Metrics, not_finite
from ..training._advice import CRITIC
from ..training._gan_step import made
from ..training._update import Optimizer, game_optimizer
from ._config import DistilledConfig, critic_config, default_weight, distilled_config
from ._distilled_step import DistilledState, unchecked_distilled_step
from ._levels import SPAN, Interval, Levels, variance_preserving
from ._ratio_scale import RatioScale

_SCORE = (
    "The steps of the score of q are too large, or `score_q` is no network of its level: lower its "
    "learning rate, or pass `networks.Denoiser` with predicts_q='data'."
)
_GENERATOR = (
    "The generator's steps are too large, or h' has no bound where the ratio is learned: lower its "
    "learning rate, take `ratio_clip`, `ratio_bins` or `normalise`, or more `critic_steps`."
)
_REST = "h' is zero at all samples: take an h whose slope does not vanish, or `ratio_clip`."
_ADVICE = {
    **{name: _SCORE for name in ("s_losses", "score_q", "s_opt_state")},
    **{name: CRITIC for name in ("d_losses", "penalties", "discriminator", "d_opt_state")},
    **{name: _GENERATOR for name in ("g_losses", "generator", "ema", "g_opt_state", "log_scale")},
}


class DistilledInfo(eqx.Module):
    """What `train_distilled` reports: its losses at each step.

    `g_losses` is half the mean square of how far samples of the generator are to move [units of x
    squared], before its update; `s_losses` the denoising loss of the score of q, `d_losses` and
    `penalties` those of the discriminator, without weights, before the last of their updates; zero
    without a discriminator. `diverged` is -1, or inside `jit` and `vmap`, where nothing is raised,
    the step at which the run diverged: metrics from there on are NaN, and the state is the last
    good one.
    """

    g_losses: Float[Array, " steps"]
    s_losses: Float[Array, " steps"]
    d_losses: Float[Array, " steps"]
    penalties: Float[Array, " steps"]
    diverged: Int[Array, ""]


def _step(
    config: DistilledConfig, key: PRNGKeyArray, state: DistilledState, data_p: Data | None = None
) -> tuple[DistilledState, dict[str, Scalar]]:
    """One step, its randomness from the run's key and the number of the step."""
    key = jax.random.fold_in(key, state.step)
    state, info = unchecked_distilled_step(config, data_p, state, key)
    losses = {"g_losses": info.g_loss, "s_losses": info.s_loss, "d_losses": info.d_loss}
    return state, {**losses, "penalties": info.penalty}


def _stop(
    config: DistilledConfig,
    key: Any,
    start: Network,
    old: Any,
    new: Any,
    info: Metrics,
    data_p: Data | None = None,
) -> list[Flag]:
    """Stops where numbers are not finite, the generator throws samples far, or none moves."""
    latents = config.latents(key, data_p)
    first, fakes = (made(generator, latents)[0] for generator in (start, new.generator))
    extent = Extent(first if data_p is None else data_p[0], first)
    far = extent.thrown_far(jnp.max(extent.distances(fakes)))
    reach = "first samples of the generator" if data_p is None else "data"
    problem = f"lie {FAR:g} times as far out as the {reach} reach, or more"
    flags = [*not_finite(_ADVICE, old, new, info), Flag("samples", problem, _GENERATOR, far)]
    if len(info["g_losses"]) < STILL:
        return flags
    problem = "is none: in the steps before no sample was to move"
    return [*flags, Flag("motion", problem, _REST, jnp.all(info["g_losses"] == 0))]


def train_distilled(
    h: ScalarFn,
    score_p: Network,
    generator: Network,
    score_q: Network,
    discriminator: Network | None = None,
    xs_p: Source | None = None,
    *,
    latent: int,
    gan: Any = None,
    schedule: Function = variance_preserving,
    span: Interval = SPAN,
    weight: Function = default_weight,
    score_weight: Function | None = None,
    predicts_p: str = "score",
    predicts_q: str = "score",
    steps: int = 4000,
    g_optimizer: Optimizer | None = None,
    s_optimizer: Optimizer | None = None,
    d_optimizer: Optimizer | None = None,
    batch_size: int = 128,
    critic_steps: int = 5,
    penalty: str | None = None,
    penalty_weight: ScalarLike | Callable[..., Any] = 10.0,
    ratio_clip: Interval | None = None,
    ratio_bins: int | None = None,
    ratio_decay: ScalarLike = 0.99,
    normalise: bool = False,
    ema_decay: ScalarLike = 0.999,
    chunk: int = 200,
    progress: bool | AbstractProgressMeter = True,
    checkpoint: str | os.PathLike | None = None,
    save_every: int | None = None,
    on_chunk: Callable[..., Any] | None = None,
    key: PRNGKeyArray,
) -> tuple[DistilledState, DistilledInfo]:
    r"""Trains a one-step generator on the score of a teacher, by any f-divergence of noised laws.

    Each step is a `distilled_step`, whose arguments mean the same here: the score of q is learned
    by denoising the generator's samples, the log ratio u by a discriminator of noised samples, and
    the generator follows $h'(u)\,(s_p - s_q)$. Where h' is constant, KL(q||p), no ratio is
    needed, and `discriminator` and `xs_p` are left out: that is DMD without its regression loss,
    Diff-Instruct and variational score distillation. Under `jax.vmap` over `key` it trains many
    seeds at once.

    Args:
        h: Increasing function of the log ratio, for instance `divergences.jensen_shannon.h`.
        score_p: The teacher: s(lambda, y) of noised samples at $\lambda = \log\sigma/\alpha$,
            or s(lambda, y, c).
        generator: A module g(z) of one noise vector, or g(z, c), with c from samples of p.
        score_q: A module s(lambda, y) to learn the score of the generator's noised samples;
            the teacher itself is a good start.
        discriminator: A module d(lambda, y), for instance `networks.NoisedDiscriminator`, or None
            where h' is constant.
        xs_p: Samples of p [units of x], as `transport` takes them: an array, a tuple `(xs, cs)`
            with conditions, a function `batch(step)`, or an iterable of batches. Needed for a
            discriminator and for conditions only.
        latent: Coordinates of the standard normal noise z that the generator takes.
        gan: Of the discriminator: any `GAN`; `gans.logit()` by default.
        schedule: (alpha, sigma) as a function of t in [0, 1].
        span: Start and end of the times that are drawn.
        weight: w(alpha, sigma) of the divergence at each level; sigma^2/alpha^2 by default.
        score_weight: The `weight` of `denoising_loss`, as a function of alpha and sigma.
        predicts_p: What the teacher predicts: "score", "noise" or "data", see `denoising_loss`.
        predicts_q: What `score_q` predicts.
        steps: Steps of the generator.
        g_optimizer: Of the generator; Adam(.5, .999) at 1e-4 by default.
        s_optimizer: Of the score of q; Adam(.5, .999) at 1e-3 by default.
        d_optimizer: Of the discriminator; as that of the score by default.
        batch_size: Fakes, and samples of p, for each update.
        critic_steps: Updates of the score of q, and of the ratio, at each step.
        penalty: None, or a `gradient_penalty` of the discriminator.
        penalty_weight: Its weight in the discriminator's loss, a number or a schedule
            `step -> weight`.
        ratio_clip: Interval that the learned ratio is clipped to.
        ratio_bins: Number of noise bins in each of which the ratio is divided by its running mean;
            None leaves it.
        ratio_decay: Weight of the past in these means.
        normalise: Whether h' is divided by its mean over the batch.
        ema_decay: Weight of the past in the generator's average.
        chunk: Steps between two visits to the host, as in `transport`.
        progress: True for a bar on a terminal, False, or one of diffrax's progress meters.
        checkpoint: A file to write after each chunk and to go on from, as in `transport`.
        save_every: Steps between two writes of the checkpoint, at ends of chunks.
        on_chunk: Called as `on_chunk(state, metrics)` after each chunk, with the `DistilledState`,
            as in `transport`; True ends the run.
        key: Randomness of times, noise and minibatches.

    Returns:
        The last state, whose `ema` is the averaged generator, and the losses.

    Raises:
        ValueError: If h' depends on u and there is no `discriminator`, a discriminator comes
            without `xs_p`, an option is wrong, or a network does not fit; and all errors of
            `transport`.
        RunDiverged: At the end of a chunk in which a number is not finite any more, a sample of the
            generator lies a thousand times as far out as the data, or without `xs_p` its first
            samples, or 100 steps are to move no sample; not inside `jit` and `vmap`.

    Example:
        ```python
        def teacher(lam, y):  # N(2, 1) at y = alpha x + sigma e, of the default schedule
            return 2 * jax.nn.sigmoid(-2 * lam) ** 0.5 - y


        h = df.divergences.kl_qp.h  # h' = 1: no ratio is needed
        g = df.networks.Generator(2, 1, 16, 1, key=jr.key(0))
        s = df.networks.Denoiser(1, 16, 1, key=jr.key(1))
        options = dict(latent=2, predicts_q="data", steps=20, key=jr.key(2))
        state, info = df.train_distilled(h, teacher, g, s, **options)
        print(info.g_losses.shape, jax.vmap(state.ema)(jnp.zeros((5, 2))).shape)  # (20,) (5, 1)
        ```

    References:
        Yin et al., DMD, CVPR 2024, and DMD2, NeurIPS 2024; Luo et al., Diff-Instruct, NeurIPS 2023;
        Wang et al., ProlificDreamer, NeurIPS 2023; Xu, Nie & Vahdat, f-distill, 2025.
    """
    caller = "train_distilled"
    loop = Loop(caller, steps, chunk, progress, checkpoint, save_every, on_chunk)
    g_optimizer = game_optimizer(1e-4) if g_optimizer is None else g_optimizer
    s_optimizer = game_optimizer(1e-3) if s_optimizer is None else s_optimizer
    d_optimizer = game_optimizer(1e-3) if d_optimizer is None else d_optimizer
    critic = critic_config(
        caller, discriminator, gan, d_optimizer, batch_size, penalty, penalty_weight
    )
    config = distilled_config(
        *(caller, h, score_p, generator, critic, (g_optimizer, s_optimizer)),
        Levels(caller, schedule, span),
        RatioScale(ratio_clip, ratio_bins, ratio_decay, normalise),
        (weight, score_weight),
        *(latent, batch_size, critic_steps, predicts_p, predicts_q, ema_decay),
    )
    inputs = () if xs_p is None else sources(caller, xs_p=xs_p)
    trained = {
        "discriminator": discriminator,
        "d_optimizer": None if critic is None else d_optimizer,
    }
    data_p = first_of(inputs[0]) if inputs else None
    config.check(caller, (generator, score_q, discriminator), data_p)
    networks = generator, score_q, g_optimizer, s_optimizer
    state = DistilledState.start(*networks, **trained, ratio_bins=ratio_bins)
    step, stop = Partial(_step, config, key), Partial(_stop, config, key, generator)
    state, metrics = run_chunks(loop, step, state, inputs, stop)
    del metrics["kept"]
    return state, DistilledInfo(**metrics)
