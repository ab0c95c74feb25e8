"""Pareto k-hat: whether importance weights from q to p can be believed."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float

from ._types import Scalar

FEWEST_DRAWS = 25


def pareto_k(log_weights: Float[Array, " n"]) -> Scalar:
    r"""Estimates the shape k of the generalised Pareto tail of importance weights.

    Below .5 the weights have a variance, below .7 smoothed estimates work, above it q misses
    mass of p. The fit is Zhang & Stephens' posterior mean, shrunk towards .5 by ten observations.

    Args:
        log_weights: log p - log q at draws of q, up to a constant [nats].

    Returns:
        k-hat [dimensionless]; -inf if the largest weights are all equal, as they are at q = p.

    Raises:
        ValueError: If there are fewer than 25 draws, too few for a tail.

    References:
        Vehtari et al., Pareto smoothed importance sampling, JMLR 2024; Zhang & Stephens,
        Technometrics 2009; Yao et al., Yes, but did it work?, ICML 2018.
    """
    n = log_weights.size
    tail = math.ceil(min(0.2 * n, 3 * math.sqrt(n)))
    if n < FEWEST_DRAWS:
        raise ValueError(f"pareto_k: {n} draws have no tail to fit; give at least {FEWEST_DRAWS}.")
    ordered = jnp.sort(log_weights)
    scaled = jnp.exp(ordered[-tail - 1 :] - ordered[-1])
    excess = scaled[1:] - scaled[0]
    flat = excess[-1] <= 0
    # A flat tail has no shape; an arbitrary one stands in, and the answer below is -inf.
    excess = jnp.where(flat, jnp.linspace(0.1, 1.0, tail, dtype=excess.dtype), excess)
    shape = tail / (tail + 10) * _generalised_pareto(excess) + 10 / (tail + 10) * 0.5
    return jnp.where(flat, -jnp.inf, shape)


def _generalised_pareto(excess: Float[Array, " tail"]) -> Scalar:
    """Averages the shape over Zhang & Stephens' grid of scales, weighted by the likelihood."""
    size = excess.size
    points = 30 + math.isqrt(size)
    grid = 1 - jnp.sqrt(points / (jnp.arange(points, dtype=excess.dtype) + 0.5))
    quartile = excess[int(size / 4 + 0.5) - 1]
    scales = 1 / excess[-1] + grid / (3 * quartile)
    shapes = jnp.mean(jnp.log1p(-scales[:, None] * excess), axis=1)
    log_likelihood = size * (jnp.log(-scales / shapes) - shapes - 1)
    weights = jnp.exp(log_likelihood - jnp.max(log_likelihood))
    scale = jnp.sum(weights * scales) / jnp.sum(weights)
    return jnp.mean(jnp.log1p(-scale * excess))
