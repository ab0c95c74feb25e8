r"""Natural-gradient steps on mini-batches: each averages fresh draws, and more of them near rest.

Both signs of a node share a batch, so that the noise of its mean gradient, which the number of
rows makes the largest, leaves $E[g z^T]$. The draws of a step judge the law before it, which they
have not seen: the gap of their mean and the variance of their noise are both at hand.
"""

from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Int, PRNGKeyArray

from .._types import BoolScalar, Function, IntScalar, Scalar
from ..flows._integrate import RESULTS
from ..gaussians._expectations import Found, Target, elbo, gap_of, moments, square_of
from ..gaussians._flows import natural_step
from ..gaussians._low_rank import Law
from ..gaussians._nodes import Nodes, pairs_of
from ._judge import Judgement
from ._natural import is_finite
from ._rounds import Geometry, settle_on

# Variances of the noise that enter the gap.
_DEVIATIONS = 3.0
# A step has this part more draws once the gap of their mean is below so many of its variances.
_MORE, _NOISY = 1.5, 4.0
_FEWEST_DRAWS = 8
# Shares of a step; half of the way averages the noise of the last steps.
_FIRST, _LARGEST, _SMALLEST = 0.25, 0.5, 1e-3


class Draws(eqx.Module):
    """Draws nodes: antithetic pairs, each with a mini-batch of its own."""

    batch: Function
    pairs: int = eqx.field(static=True)
    dim: int = eqx.field(static=True)

    def __call__(self, key: PRNGKeyArray) -> Nodes:
        of_points, of_batches = jr.split(key)
        batches = jax.vmap(self.batch)(jr.split(of_batches, self.pairs))
        return pairs_of(jr.normal(of_points, (self.pairs, self.dim)), batches)


class _At(NamedTuple):
    """What fresh draws say of a law."""

    mean: Found
    noise: Scalar  # the variance that draws add to the gap
    found: Judgement


class _State(NamedTuple):
    q: Law
    at: _At
    share: Scalar
    draws: IntScalar
    used: IntScalar


def fit_on_draws(
    target: Target, draws: Draws, tol: Scalar, way: Geometry, q: Law, key: PRNGKeyArray
) -> tuple[Law, Any, Int[Array, "2"], Judgement]:
    """Settles on the first draws, then steps on fresh ones until these put the gap below `tol`.

    Returns q, diffrax's result, the steps and the draws, and the judgement.
    """
    begin, key = jr.split(key)
    q, _, first, _ = settle_on(target, None, jnp.ones_like(tol), way, draws(begin), q)

    def seen(q: Law, count: IntScalar, used: IntScalar) -> _At:
        return _judge(target, draws, q, count, jr.fold_in(key, used))

    def step(state: _State) -> _State:
        """Moves q, and looks at it with fresh draws."""
        q, at, share, count, used = state
        end = natural_step(q, at.mean, share)
        good = is_finite(end)
        end = jax.tree.map(partial(jnp.where, good), end, q)
        before = gap_of(q, at.mean)
        more = jnp.ceil(_MORE * count).astype(count.dtype)
        count = jnp.where(before < _NOISY * at.noise, more, count)
        next_at = seen(end, count, used)
        # A gap that grew by more than the noise explains: the step was too long.
        worse = ~good | (gap_of(end, next_at.mean) > before + _NOISY * next_at.noise)
        share = jnp.where(worse, jnp.maximum(share / 2, _SMALLEST), share * _MORE)
        return _State(end, next_at, jnp.minimum(share, _LARGEST), count, used + count)

    def goes_on(state: _State) -> BoolScalar:
        left = state.at.found.gap
        return (left > tol) & (left < jnp.inf) & (state.used < way.max_steps)

    count = jnp.full_like(first, _FEWEST_DRAWS)
    start = _State(q, seen(q, count, count * 0), jnp.full_like(tol, _FIRST), count, count)
    end = jax.lax.while_loop(goes_on, step, start)
    found = end.at.found
    result = RESULTS.where(found.gap <= tol, RESULTS.event_occurred, RESULTS.max_steps_reached)
    result = RESULTS.where(jnp.isfinite(found.gap), result, RESULTS.dt_min_reached)
    return end.q, result, jnp.stack([first, end.used]), found


def _judge(target: Target, draws: Draws, q: Law, count: IntScalar, key: PRNGKeyArray) -> _At:
    """Averages so many fresh draws at q."""
    begin, key = jr.split(key)
    first, zero = elbo(target, draws(begin), q), jnp.zeros((), q.mean.dtype)

    def add(index: IntScalar, total: tuple) -> tuple:
        nodes = draws(jr.fold_in(key, index))
        one = moments(target, nodes, q)
        # A number near the values, so that their squares lose no digits.
        value = elbo(target, nodes, q) - first
        parts = one, gap_of(q, one), square_of(q, one), value, value**2
        return jax.tree.map(jnp.add, total, parts)

    none = jax.tree.map(jnp.zeros_like, moments(target, draws(begin), q))
    total = jax.lax.fori_loop(0, count, add, (none, zero, zero, zero, zero))
    size = count.astype(zero.dtype)
    mean, gaps, squares, value, spread = jax.tree.map(lambda leaf: leaf / size, total)

    def noise(of_mean: Scalar, of_each: Scalar) -> Scalar:
        """The variance of a mean, from its square and the mean of squares."""
        return jnp.maximum(of_each - of_mean, 0) / (size - 1)

    left, square = gap_of(q, mean), square_of(q, mean)
    of_gap, of_square = noise(left, gaps), noise(square, squares)
    norm = jnp.sqrt(square + _DEVIATIONS * of_square)
    no_weights = jnp.zeros(0, zero.dtype)
    judged = left + _DEVIATIONS * of_gap, norm, first + value, jnp.sqrt(noise(value**2, spread))
    return _At(mean, of_gap, Judgement(*judged, no_weights, no_weights))
