r"""A generator that follows two scores, one step at a time.

With $v = h'(u)\,(s_p - s_q)$ at noised samples $y = \alpha g(z) + \sigma e$, the gradient of
$D_f(q_\sigma \| p_\sigma)$ in the generator's parameters is $-E[\alpha\,(\partial_\theta g)^T v]$.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from .._checks import Network, check_counts, scalar_valued
from .._types import Cloud, Function, Scalar, ScalarFn, ScalarLike, vmapped
from ..flows._velocity import chain
from ..gans._losses import distillation_loss
from ..runs._batches import Data, Samples, samples
from ..runs._loop import scan
from ..training._gan_step import made
from ..training._ratio_step import RatioState, draw
from ..training._update import Optimizer, average, check_opt_state, descend, initial
from ._config import DistilledConfig, critic_config, default_weight, distilled_config, floats_of
from ._denoising import score_from, unchecked_denoising_loss
from ._levels import SPAN, Interval, Level, Levels, noised, spread, variance_preserving
from ._noised_ratio import unchecked_noised_ratio_step
from ._ratio_scale import RatioScale


class DistilledState(eqx.Module):
    """A distillation in training: networks, the generator's average, optimisers, steps done.

    Without a discriminator its two fields are None. `log_scale` is the running mean of the ratio in
    each noise bin, as a log, or None.
    """

    generator: PyTree
    ema: PyTree
    score_q: PyTree
    discriminator: PyTree | None
    g_opt_state: PyTree
    s_opt_state: PyTree
    d_opt_state: PyTree | None
    log_scale: Float[Array, " bins"] | None
    step: Int[Array, ""]

    @classmethod
    def start(
        cls,
        generator: Network,
        score_q: Network,
        g_optimizer: Optimizer,
        s_optimizer: Optimizer,
        *,
        discriminator: Network | None = None,
        d_optimizer: Optimizer | None = None,
        ratio_bins: int | None = None,
    ) -> "DistilledState":
        """State before the first `distilled_step`, with the same optimizers and bins.

        The average starts at the generator itself, and running means at one.
        """
        caller = "DistilledState.start"
        if (discriminator is None) != (d_optimizer is None):
            raise ValueError(f"{caller}: pass `discriminator` and `d_optimizer`, or neither.")
        check_counts(caller, {"ratio_bins": ratio_bins})
        d_opt_state = None if d_optimizer is None else initial(d_optimizer, discriminator)
        opt_states = initial(g_optimizer, generator), initial(s_optimizer, score_q), d_opt_state
        log_scale = None if ratio_bins is None else jnp.zeros(ratio_bins, floats_of(generator))
        networks = generator, generator, score_q, discriminator
        return cls(*networks, *opt_states, log_scale, jnp.asarray(0))


class DistilledStepInfo(eqx.Module):
    """What one `distilled_step` reports, before its updates; `d_loss` is zero without one."""

    g_loss: Scalar
    s_loss: Scalar
    d_loss: Scalar
    penalty: Scalar


def displacements(
    config: DistilledConfig,
    score_q: PyTree,
    discriminator: Any,
    log_scale: Any,
    data: Data,
    noise: Cloud,
    ts: Float[Array, " n"],
    level: Level,
) -> tuple[Cloud, Any]:
    r"""How samples x shall move, $w \alpha\,h'(u)\,(s_p - s_q)(y)$, and the new running means."""
    inputs = noised(data, noise, level)
    ys = inputs[1]
    scores = [
        score_from(predicts, vmapped(model)(*inputs), ys, level)
        for predicts, model in (
            (config.predicts_p, config.score_p),
            (config.predicts_q, score_q),
        )
    ]
    if config.critic is None:
        assert config.u is not None
        u = jnp.broadcast_to(config.u(0.0, None, None), ys.shape[:1]).astype(ys.dtype)
    else:
        u = config.critic.gan.log_t(vmapped(discriminator)(*inputs))
        u, log_scale = config.scale.apply(u, log_scale, config.levels.place(ts))
    slopes = jax.vmap(jax.grad(scalar_valued("distilled_step", "h", config.h)))(u)
    slopes = config.scale.normalised(slopes)
    vs = jax.vmap(chain)(slopes, scores[0] - scores[1])
    alpha, sigma = level
    return spread(alpha * jax.vmap(config.weight)(alpha, sigma), vs) * vs, log_scale


def generator_descent(
    config: DistilledConfig,
    state: DistilledState,
    latents: Data,
    noise: Cloud,
    ts: Float[Array, " n"],
    level: Level,
) -> tuple[DistilledState, Scalar]:
    """One step of the generator on this noise."""
    networks = state.score_q, state.discriminator, state.log_scale

    def loss(generator: PyTree) -> tuple[Scalar, tuple[Scalar, Any]]:
        data = made(generator, latents)
        fixed = jax.lax.stop_gradient(data)
        vs, log_scale = displacements(config, *networks, fixed, noise, ts, level)
        value = distillation_loss(data[0], vs, 1.0)
        return value, (value, log_scale)

    old = (state.generator, state.g_opt_state)
    generator, g_opt_state, (value, log_scale) = descend(loss, config.g_optimizer, *old)
    ema = average(generator, state.ema, config.ema_decay)
    fields = generator, ema, state.score_q, state.discriminator, g_opt_state
    opt_states = state.s_opt_state, state.d_opt_state
    return DistilledState(*fields, *opt_states, log_scale, state.step + 1), value


def _critic(
    config: DistilledConfig,
    generator: PyTree,
    data_p: Data | None,
    critics: tuple[PyTree, PyTree, RatioState | None],
    key: PRNGKeyArray,
) -> tuple[tuple[PyTree, PyTree, RatioState | None], tuple[Scalar, ...]]:
    """One step of the score of q and one of the ratio, on fresh samples of the generator."""
    score_q, s_opt_state, ratio = critics
    key_latents, key_p, key_noise, key_levels, key_ratio = jax.random.split(key, 5)
    real = data_p
    if data_p is not None and config.critic is not None:
        real = draw(key_p, data_p, config.batch_size)
    data = made(generator, config.latents(key_latents, real))
    noise = jax.random.normal(key_noise, data[0].shape, data[0].dtype)
    level = config.levels.draw(key_levels, noise.shape[0], noise.dtype)[1]
    weight = None if config.score_weight is None else jax.vmap(config.score_weight)(*level)

    def loss(model: PyTree) -> tuple[Scalar, Scalar]:
        value = unchecked_denoising_loss(model, data, noise, level, config.predicts_q, weight)
        return value, value

    score_q, s_opt_state, s_loss = descend(loss, config.s_optimizer, score_q, s_opt_state)
    zero = jnp.zeros_like(s_loss)
    if ratio is None or config.critic is None:
        return (score_q, s_opt_state, ratio), (s_loss, zero, zero)
    assert real is not None
    inputs = config.levels, (data, real), ratio, key_ratio
    ratio, info = unchecked_noised_ratio_step(config.critic, *inputs)
    return (score_q, s_opt_state, ratio), (s_loss, info.loss, info.penalty)


def unchecked_distilled_step(
    config: DistilledConfig, data_p: Data | None, state: DistilledState, key: PRNGKeyArray
) -> tuple[DistilledState, DistilledStepInfo]:
    """`distilled_step` of arguments that have been checked."""
    key_critics, key_latents, key_noise, key_levels = jax.random.split(key, 4)
    ratio = None
    if config.critic is not None:
        ratio = RatioState(state.discriminator, state.d_opt_state)
        config = dataclasses.replace(config, critic=config.critic.at(state.step))
    step = Partial(_critic, config, state.generator, data_p)
    critics = (state.score_q, state.s_opt_state, ratio)
    keys = jax.random.split(key_critics, config.critic_steps)
    (score_q, s_opt_state, ratio), losses = scan(step, critics, keys)
    d, d_opt_state = (None, None) if ratio is None else (ratio.discriminator, ratio.opt_state)
    fields = (state.generator, state.ema, score_q, d, state.g_opt_state, s_opt_state, d_opt_state)
    state = DistilledState(*fields, state.log_scale, state.step)
    latents = config.latents(key_latents, data_p)
    like = eqx.filter_eval_shape(made, state.generator, latents)[0]
    noise = jax.random.normal(key_noise, like.shape, like.dtype)
    ts, level = config.levels.draw(key_levels, noise.shape[0], noise.dtype)
    state, value = generator_descent(config, state, latents, noise, ts, level)
    return state, DistilledStepInfo(value, *(loss[-1] for loss in losses))


def distilled_step(
    h: ScalarFn,
    score_p: Network,
    g_optimizer: Optimizer,
    s_optimizer: Optimizer,
    state: DistilledState,
    xs_p: Samples | None = None,
    *,
    latent: int,
    gan: Any = None,
    d_optimizer: Optimizer | None = None,
    schedule: Function = variance_preserving,
    span: Interval = SPAN,
    weight: Function = default_weight,
    score_weight: Function | None = None,
    predicts_p: str = "score",
    predicts_q: str = "score",
    batch_size: int = 128,
    critic_steps: int = 5,
    penalty: str | None = None,
    penalty_weight: ScalarLike | Callable[..., Any] = 10.0,
    ratio_clip: Interval | None = None,
    ratio_decay: ScalarLike = 0.99,
    normalise: bool = False,
    ema_decay: ScalarLike = 0.999,
    key: PRNGKeyArray,
) -> tuple[DistilledState, DistilledStepInfo]:
    r"""A few steps of the score of q and of the noised ratio, then one of the generator.

    The generator goes down $E_t[w\,D_f(q_\sigma \| p_\sigma)]$, with p and q noised to the level at
    t and f the divergence of `h`: at $y = \alpha x + \sigma e$ its samples regress onto

    $$sg(x + w\,\alpha\,h'(u)\,(s_p - s_q)(y)),$$
    since one level alone has the gradient $-E[\alpha\,(\partial_\theta g)^T v]$. With the default
    $w = \sigma^2/\alpha^2$ that is h' times the difference of the two denoised samples.

    Args:
        h: Increasing function of the log ratio, for instance `divergences.jensen_shannon.h`.
        score_p: The teacher: s(lambda, y) at $\lambda = \log\sigma/\alpha$, exact or trained by
            `denoising_loss`, or s(lambda, y, c). It is not trained here.
        g_optimizer: Of the generator, any of optax.
        s_optimizer: Of the score of q.
        state: Where training stands, from `DistilledState.start`.
        xs_p: Samples of p [units of x], or `(xs, cs)` with conditions, which all networks then
            take last. Needed for a discriminator and for conditions only.
        latent: Coordinates of the standard normal noise z that the generator takes.
        gan: Of the discriminator: any `GAN`; `gans.logit()` by default.
        d_optimizer: Of the discriminator, where the state has one.
        schedule: (alpha, sigma) as a function of t in [0, 1].
        span: Start and end of the times that are drawn.
        weight: w(alpha, sigma), a function of two numbers.
        score_weight: The `weight` of `denoising_loss`, as a function of alpha and sigma.
        predicts_p: What the teacher predicts: "score", "noise" or "data", see `denoising_loss`.
        predicts_q: What the model of the state's `score_q` predicts.
        batch_size: Fakes, and samples of p, for each update.
        critic_steps: Updates of the score of q, and of the ratio, each on fresh fakes.
        penalty: None, or a `gradient_penalty` of the discriminator.
        penalty_weight: Its weight in the discriminator's loss, a number or a schedule
            `step -> weight`.
        ratio_clip: Interval that the learned ratio is clipped to; f-distill has (.1, 20).
        ratio_decay: Weight of the past in the running mean of the ratio in each noise bin, by
            which it is divided if the state has bins: at the optimum $E_q[r] = 1$.
        normalise: Whether h' is divided by its mean over the batch.
        ema_decay: Weight of the past in the generator's average.
        key: Randomness of times, noise and minibatches.

    Returns:
        The new state, and the losses before the updates; that of the generator is half the mean
        square of how far its samples are to move.

    Raises:
        ValueError: If h' depends on u and the state has no discriminator, there is a discriminator
            without `xs_p`, an option is wrong, or a network or an optimiser's state does not fit.

    References:
        Yin et al., DMD, CVPR 2024; Luo et al., Diff-Instruct, NeurIPS 2023; Xu, Nie & Vahdat,
        f-distill, 2025 (weights and stabilisers).
    """
    caller = "distilled_step"
    options = (latent, batch_size, critic_steps, predicts_p, predicts_q, ema_decay)
    critic = critic_config(
        caller, state.discriminator, gan, d_optimizer, batch_size, penalty, penalty_weight
    )
    bins = None if state.log_scale is None else state.log_scale.size
    config = distilled_config(
        *(caller, h, score_p, state.generator, critic, (g_optimizer, s_optimizer)),
        Levels(caller, schedule, span),
        RatioScale(ratio_clip, bins, ratio_decay, normalise),
        (weight, score_weight),
        *options,
    )
    data_p = None if xs_p is None else samples(caller, xs_p=xs_p)[0]
    networks = state.generator, state.score_q, state.discriminator
    config.check(caller, networks, data_p)
    check_opt_state(caller, g_optimizer, state.generator, state.g_opt_state)
    check_opt_state(caller, s_optimizer, state.score_q, state.s_opt_state)
    if critic is not None:
        check_opt_state(caller, critic.optimizer, state.discriminator, state.d_opt_state)
    return unchecked_distilled_step(config, data_p, state, key)
