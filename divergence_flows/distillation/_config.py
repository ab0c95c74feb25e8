"""How a generator is distilled: the arguments of a step that stay the same, and their checks."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray, PyTree

from .._checks import Network, check_counts, check_generator, check_over_time, described
from .._types import Function, LogRatioFn, Scalar, ScalarFn, ScalarLike, as_partial
from ..flows._scores import ratio_or_constant
from ..gans._table import logit
from ..runs._batches import Data
from ..training._ratio_step import RatioConfig
from ..training._update import Optimizer, check_decay
from ._denoising import check_predicts, check_score
from ._levels import Levels
from ._ratio_scale import RatioScale


def default_weight(alpha: Scalar, sigma: Scalar) -> Scalar:
    """The weight at which a sample moves by h' times the difference of two denoised samples."""
    return (sigma / alpha) ** 2


class DistilledConfig(eqx.Module):
    """How a generator is distilled: the arguments of `distilled_step` that stay the same."""

    h: ScalarFn
    score_p: Function
    critic: RatioConfig | None
    u: LogRatioFn | None  # a constant one where there is no discriminator
    g_optimizer: Optimizer
    s_optimizer: Optimizer
    levels: Levels
    scale: RatioScale
    weight: Function
    score_weight: Function | None
    dtype: Any  # of noise and samples where there are none of p
    latent: int
    batch_size: int
    critic_steps: int
    predicts_p: str
    predicts_q: str
    ema_decay: ScalarLike

    def check(self, caller: str, networks: tuple[Any, Any, Any], data_p: Data | None) -> None:
        """Refuses options that make no step; generator, score and discriminator that do not fit."""
        generator, score_q, discriminator = networks
        names = ("latent", "batch_size", "critic_steps")
        check_counts(caller, {name: getattr(self, name) for name in names})
        check_decay(caller, self.ema_decay)
        check_predicts(caller, predicts_p=self.predicts_p, predicts_q=self.predicts_q)
        self.scale.check(caller, self.critic is not None)
        for name in ("weight", "score_weight"):
            if (found := getattr(self, name)) is not None:
                shape = jax.eval_shape(found, jnp.ones(()), jnp.ones(()))
                if jnp.shape(shape) != ():
                    words = f"returns {described(shape)} for alpha and sigma; pass one that returns"
                    raise ValueError(f"{caller}: `{name}` {words} a number.")
        like = _like(caller, generator, self.latent) if data_p is None else data_p
        check_generator(caller, "generator", generator, self.latent, like)
        check_score(caller, "score_p", self.score_p, like)
        check_score(caller, "score_q", score_q, like)
        if self.critic is not None:
            if data_p is None:
                words = "`discriminator` learns p/q from samples of p; pass `xs_p` too, or None"
                raise ValueError(f"{caller}: {words} for it where h' is constant.")
            self.critic.check(caller, "phi", "psi", "log_t")
            check_over_time(caller, "discriminator", discriminator, None, like)

    def latents(self, key: PRNGKeyArray, data_p: Data | None) -> Data:
        """One minibatch of what the generator takes: noise, and conditions from those of p."""
        conditions, dtype = (), self.dtype
        if data_p is not None:
            key_rows, dtype = jax.random.fold_in(key, 1), data_p[0].dtype
            if data_p[1:]:
                rows = jax.random.randint(key_rows, (self.batch_size,), 0, data_p[0].shape[0])
                conditions = jax.tree.map(lambda leaf: leaf[rows], data_p[1:])
        return jax.random.normal(key, (self.batch_size, self.latent), dtype), *conditions


def floats_of(generator: PyTree) -> Any:
    """The type of a generator's weights, or the default one."""
    weights = jax.tree.leaves(eqx.filter(generator, eqx.is_inexact_array))
    return weights[0].dtype if weights else jnp.result_type(float)


def _like(caller: str, generator: Network, latent: int) -> Data:
    """One sample of zeros, made like what a generator makes of noise alone."""
    try:
        noise = jax.ShapeDtypeStruct((latent,), floats_of(generator))
        one = eqx.filter_eval_shape(generator, noise)
        return (jnp.zeros((1, *one.shape), one.dtype),)
    except Exception as error:
        words = f"does not take noise of shape ({latent},) ({type(error).__name__})"
        remedy = "pass a function g(z) of noise of this shape, another `latent`, or, where g has"
        remedy += " conditions, `xs_p` with them"
        raise ValueError(f"{caller}: `generator` {words}; {remedy}.") from error


def critic_config(
    caller: str, discriminator: Any, gan: Any, optimizer: Optimizer | None, *options: Any
) -> RatioConfig | None:
    """How the discriminator is trained, if there is one."""
    if discriminator is None:
        return None
    if optimizer is None:
        words = "`d_optimizer` is None, and the state has a discriminator; pass the one that it was"
        raise ValueError(f"{caller}: {words} started with.")
    return RatioConfig(logit() if gan is None else gan, optimizer, *options)


def distilled_config(
    caller: str,
    h: ScalarFn,
    score_p: Network,
    generator: Network,
    critic: RatioConfig | None,
    optimizers: tuple[Optimizer, Optimizer],
    levels: Levels,
    scale: RatioScale,
    weights: tuple[Function, Function | None],
    *options: Any,
) -> DistilledConfig:
    """Makes functions of what users pass; refuses an h that needs a ratio where none is learned."""
    u = None
    if critic is None:
        remedy = "`discriminator` is None; pass a d(lambda, y) and `xs_p` to learn it from"
        u = ratio_or_constant(caller, h, None, remedy)
    weight, score_weight = weights
    return DistilledConfig(
        as_partial(h),
        as_partial(score_p),
        critic,
        u,
        *optimizers,
        levels,
        scale,
        as_partial(weight),
        score_weight if score_weight is None else as_partial(score_weight),
        floats_of(generator),
        *options,
    )
