"""Pareto k-hat: whether importance weights from q to p can be believed.

All is done in logs, for weights of a bad q span more decades than floats have.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._types import IntScalar, Scalar

FEWEST_DRAWS = 25
# Largest weights that differ by no more than so many times their rounding, and by no more than
# 5 %, are as good as equal.
_UNITS, _EQUAL = 16.0, 0.05
# Above it a q is not to be believed.
_BELIEVED = 0.7


def pareto_k(log_weights: Float[Array, " n"], rounding: Float[Array, " n"] | None = None) -> Scalar:
    """Estimates the shape k of the generalised Pareto tail of importance weights."""
    n = log_weights.size
    most = math.ceil(min(0.2 * n, 3 * math.sqrt(n)))
    if n < FEWEST_DRAWS:
        raise ValueError(f"pareto_k: {n} draws have no tail to fit; give at least {FEWEST_DRAWS}.")
    # What is no number is the largest, and shows at the end.
    ordered = jnp.where(jnp.isnan(log_weights), jnp.inf, log_weights)
    largest, order = (found[::-1] for found in jax.lax.top_k(ordered, most + 1))
    broken = ~jnp.isfinite(largest[-1])
    heights = jnp.where(broken, jnp.linspace(-1.0, 0.0, most + 1), largest - largest[-1])
    above = heights[1:] > heights[0]
    size = _count(above)
    shapeless = broken | (size < 5) | (heights[-size] == 0)
    shape = (size * _generalised_pareto(heights[0], heights[1:], above) + 10 * 0.5) / (size + 10)
    if rounding is None:
        return jnp.where(shapeless, jnp.inf, shape).astype(log_weights.dtype)
    wrong = jnp.max(jnp.where(jnp.isfinite(largest), rounding[order], 0.0))
    length = -heights[0]
    equal = ~broken & (length <= _UNITS * wrong) & (length + wrong <= _EQUAL)
    # The quartile sets the scale, so k has the relative error of its excess, or less: twice that
    # covers what was seen on quantised weights of eight kinds. Ties count here: they are rounding.
    quartile = heights[(most + 2) // 4] - heights[0]
    lost = jnp.where(wrong > 0, 2 * wrong / quartile, 0.0)
    shapeless = shapeless | (lost >= 1)
    shape = jnp.where(shape <= _BELIEVED, shape + lost, shape)
    shape = jnp.where(equal, 0.0, jnp.where(shapeless, jnp.inf, shape))
    return shape.astype(log_weights.dtype)


def _generalised_pareto(
    cutoff: Scalar, heights: Float[Array, " most"], above: Bool[Array, " most"]
) -> Scalar:
    """Averages the shape over Zhang & Stephens' grid of scales, weighted by the likelihood."""
    most, size = heights.size, _count(above)
    size = jnp.where(size < 5, most, size)  # answered elsewhere
    step = jnp.where(above, heights - cutoff, 1.0)
    logs = jnp.where(above, heights + jnp.log(-jnp.expm1(-step)), 0.0)
    logs = logs - logs[-1]
    points = 30 + jnp.floor(jnp.sqrt(size.astype(logs.dtype)))
    places = jnp.arange(30 + math.isqrt(most), dtype=logs.dtype) + 0.5
    there = places < points
    # The scales, in units of the largest excess, are 1 - exp(u).
    ratio = points / jnp.where(there, places, 0.5)
    grid = (ratio - 1) / (1 + jnp.sqrt(ratio)) / 3
    u = jnp.log(grid) - logs[most - size + (size + 2) // 4 - 1]
    kept = above.astype(logs.dtype)
    # As b goes to 0, k goes to -b times the mean excess; no log is above 0.
    excesses = jnp.where(above, jnp.exp(logs), 0.0)
    none = jnp.log(jnp.vdot(kept, kept)) - jnp.log(jnp.vdot(excesses, kept))
    shape = partial(_shape, logs, kept, none)
    shapes, log_ratios = jax.vmap(shape)(u)
    log_likelihood = jnp.where(there, size * (log_ratios - shapes - 1), -jnp.inf)
    return shape(_log_sum(log_likelihood + u) - _log_sum(log_likelihood))[0]


def _count(above: Bool[Array, " _"]) -> IntScalar:
    """How many hold: an inner product, which compiles sooner than a sum."""
    ones = above.astype(int)
    return jnp.vdot(ones, ones)


def _log_sum(logs: Float[Array, " _"]) -> Scalar:
    top = jnp.max(logs)
    return top + jnp.log(jnp.vdot(jnp.exp(logs - top), jnp.ones_like(logs)))


def _shape(
    logs: Float[Array, " most"], kept: Float[Array, " most"], none: Scalar, u: Scalar
) -> tuple[Scalar, Scalar]:
    """k = mean log(1 - b x) for b = 1 - exp(u), and log(-b / k); `none` is the latter at b = 0."""
    heavy, flat = u > 0, u == 0
    up, down = jnp.where(heavy, u, 1.0), jnp.where(heavy | flat, -1.0, u)
    size_of_b = jnp.where(heavy, up + jnp.log(-jnp.expm1(-up)), jnp.log(-jnp.expm1(down)))
    light = jnp.log1p(jnp.expm1(down) * jnp.exp(logs))
    each = jnp.where(flat, 0.0, jnp.where(heavy, jax.nn.softplus(size_of_b + logs), light))
    mean = jnp.vdot(jnp.where(kept > 0, each, 0.0), kept) / jnp.vdot(kept, kept)
    return mean, jnp.where(flat, none, size_of_b - jnp.log(jnp.where(flat, 1.0, jnp.abs(mean))))
