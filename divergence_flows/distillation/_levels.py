r"""Noise levels: $y = \alpha x + \sigma e$, with $(\alpha, \sigma)$ a function of t in [0, 1].

Networks get the level as $\lambda = \log \sigma / \alpha$, one number that tells levels apart in
every schedule; where alpha = 1 it is log sigma. Near t = 1 of the variance-preserving schedule
log sigma itself does not: it is -5e-5 at alpha = .01 and -5e-3 at alpha = .1.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray, Real

from .._checks import check_number, check_positive, described
from .._types import (
    AnyFloat,
    Cloud,
    Function,
    ScalarLike,
    Values,
    ValuesLike,
    as_float,
    split_partial,
)
from ..runs._batches import Data

Level = tuple[Any, Any]  # alpha and sigma: numbers, or one of each for every sample
# Where something starts and where it ends.
Interval = Real[ArrayLike, " 2"] | tuple[ScalarLike, ScalarLike] | list[ScalarLike]
# Of DMD: at the ends of [0, 1] there is no noise, or hardly a sample.
SPAN = (0.02, 0.98)


def variance_preserving(
    t: ValuesLike, beta_min: ScalarLike = 0.1, beta_max: ScalarLike = 20.0
) -> tuple[Values, Values]:
    r"""Noise schedule of DDPM: $\log\alpha = -\tfrac14 t^2 (b_1 - b_0) - \tfrac12 t b_0$.

    $\sigma^2 = 1 - \alpha^2$: data of unit variance keep it. Other limits by `functools.partial`.

    Args:
        t: Times in [0, 1]; elementwise.
        beta_min: b_0, the rate of noise at t = 0 [per unit of t].
        beta_max: b_1, that at t = 1 [per unit of t].

    Returns:
        alpha, and sigma [units of x, if the data have unit variance].

    Raises:
        ValueError: If a rate is not positive.

    References:
        Song et al., Score-based generative modeling through SDEs, ICLR 2021, equation 33.
    """
    check_positive("variance_preserving", beta_min=beta_min, beta_max=beta_max)
    t = as_float(t)
    low, high = (jnp.asarray(beta, t.dtype) for beta in (beta_min, beta_max))
    log_alpha = -0.25 * t**2 * (high - low) - 0.5 * t * low
    return jnp.exp(log_alpha), jnp.sqrt(-jnp.expm1(2 * log_alpha))


def variance_exploding(
    t: ValuesLike, sigma_min: ScalarLike = 0.002, sigma_max: ScalarLike = 80.0
) -> tuple[Values, Values]:
    r"""Noise schedule of EDM: alpha = 1, sigma geometric from `sigma_min` to `sigma_max`.

    Other limits by `functools.partial`, for instance `partial(variance_exploding, sigma_max=10)`.

    Args:
        t: Times in [0, 1]; elementwise.
        sigma_min: sigma at t = 0 [units of x].
        sigma_max: sigma at t = 1 [units of x].

    Returns:
        alpha, which is one, and sigma [units of x].

    Raises:
        ValueError: If a sigma is not positive.

    References:
        Song et al., ICLR 2021, equation 31; Karras et al., EDM, NeurIPS 2022 (the limits).
    """
    check_positive("variance_exploding", sigma_min=sigma_min, sigma_max=sigma_max)
    t = as_float(t)
    low, high = (jnp.log(jnp.asarray(sigma, t.dtype)) for sigma in (sigma_min, sigma_max))
    return jnp.ones_like(t), jnp.exp(low + t * (high - low))


class Levels(eqx.Module):
    """Where noise levels are drawn: the arguments `schedule` and `span` of steps and loops."""

    schedule: Function
    span: Float[Array, " 2"]

    def __init__(self, caller: str, schedule: Function, span: Any):
        """Refuses a schedule that makes no pair of numbers, and times outside [0, 1]."""
        self.schedule, (low, high) = split_partial(schedule), span
        good = (0 <= low) & (low < high) & (high <= 1)
        check_number(caller, "span", span, good, "two times, 0 <= start < end <= 1")
        self.span = jnp.asarray([low, high], float)
        made = jax.eval_shape(self.schedule, jnp.zeros(()))
        if not isinstance(made, tuple) or [jnp.shape(one) for one in made] != [(), ()]:
            words = f"returns {described(made)} at one time; pass one that returns (alpha, sigma)"
            raise ValueError(f"{caller}: `schedule` {words}, as `variance_preserving` does.")

    def draw(self, key: PRNGKeyArray, count: int, dtype: Any) -> tuple[Values, Level]:
        """One time from each of `count` equal parts of the span, in random order, and its level."""
        key_place, key_order = jax.random.split(key)
        places = jnp.arange(count) + jax.random.uniform(key_place, (count,))
        places = jax.random.permutation(key_order, places) / count
        ts = (self.span[0] + places * (self.span[1] - self.span[0])).astype(dtype)
        return ts, jax.vmap(self.schedule)(ts)

    def place(self, ts: Values) -> Values:
        """Where times lie in the span, from 0 to 1."""
        return (ts - self.span[0]) / (self.span[1] - self.span[0])


def spread(part: Any, xs: Cloud) -> AnyFloat:
    """One number, or one for each sample, ready to multiply samples."""
    return jnp.broadcast_to(part, xs.shape[:1]).astype(xs.dtype).reshape(-1, *[1] * (xs.ndim - 1))


def noised(data: Data, noise: Cloud, level: Level) -> Data:
    """What networks take of noised samples: lambda and y of each, and its condition."""
    xs, *conditions = data
    alpha, sigma = (jnp.broadcast_to(part, xs.shape[:1]) for part in level)
    ys = spread(alpha, xs) * xs + spread(sigma, xs) * noise
    return (jnp.log(sigma) - jnp.log(alpha)).astype(xs.dtype), ys, *conditions
