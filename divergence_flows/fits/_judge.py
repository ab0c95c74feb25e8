r"""Why a fit cannot start, what its end is worth, and why it did not rest.

The end is judged on nodes that decided nothing. One set of them gives $|a + b|^2$, a the fit's
error and b its own; the two may cancel. The largest of several independent sets is reported.
"""

from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from .._checks import raise_first, some
from .._types import BoolScalar, Scalar
from ..flows._integrate import RESULTS
from ..gaussians._expectations import (
    HELD,
    Target,
    check_dimension,
    each_node,
    gap,
    gap_of,
    log_weights,
    moments,
    pulled,
    square_of,
    suited,
)
from ..gaussians._low_rank import Law, LowRankGaussian
from ..gaussians._nodes import Nodes, standard_nodes

# One set hides two thirds of the gap with a chance of .28 at most if b is normal with the variance
# of a: eight at once with one of 4e-5.
SETS = 8
# How many times wider than q0 the target is evaluated too, to see whether it is flat.
_WIDER = (1.0, 10.0, 1e3, 1e6)
_FAR = 1e6
# The gap at a jump and that of other nodes are two draws of one size; either may be unlucky.
LIKE = 10.0
_LOOK = "Look for NaN in the data, or log or sqrt of a negative number."
_WALL = (
    " A Gaussian reaches everywhere: transform bounded parameters to the line by a bijection with "
    "its Jacobian (x = exp(y) and log_p + y for x > 0), or start elsewhere or narrower."
)
_FLAT = "at every node of `q0`, also of one 10, 10^3 and 10^6 times wider. It has no normaliser."
_NO_START = (
    "the mean of `q0` is not finite. Start from finite numbers.",
    "`q0` has a singular scale or is not finite. Start from one of full rank.",
    f"`log_p` is NaN at every node, so not finite at nodes of `q0`. {_LOOK}",
    f"`log_p` is NaN, so not finite, at some nodes of `q0`. {_LOOK}{_WALL}",
    f"`log_p` is -inf at every node of `q0`, outside the support.{_WALL}",
    f"`log_p` is -inf at some nodes of `q0`, outside the support.{_WALL}",
    "`log_p` is +inf at nodes of `q0`: the density has no bound. Correct it, or start elsewhere.",
    "the gradient of `log_p` is not finite at nodes of `q0`, though log_p is: sqrt at 0, or one "
    "branch of `jnp.where`. Correct the gradient.",
    "`log_p` and its gradient at nodes of `q0` are so large that their squares overflow. Look for "
    "a factor in log_p (its unit is a nat); else start nearer or narrower.",
    "second derivatives of `log_p` are not finite at nodes of `q0`. Correct them, or use "
    'estimator="stein".',
    f"`log_p` is flat: its gradient is 0 {_FLAT} Check that log_p uses its argument.",
    f"`log_p` does not depend on some parameter: its gradient in it is 0 {_FLAT} Leave the "
    "parameter out, or give it a prior.",
)
_NO_REST = (
    "; its mean or scale grew without bound, beyond 10^6 times the scale of `q0`. A target without "
    "a normaliser has no optimum: give each parameter a prior. Else start nearer and wider.",
    ": on its own nodes it is, but `log_p` or its gradient is not finite at others, as outside a "
    "support. Transform bounded parameters to the line.",
    ": its steps ended, but the gap on fresh nodes exceeds `tol`, or a nat without mini-batches. "
    "Give more nodes `n`, larger mini-batches, or a larger `tol`.",
    " after `max_steps` steps. Give more, or a larger `tol`, or start elsewhere; with mini-batches "
    "more nodes `n`, or larger batches, or a log_p with control variates.",
    ": the gradient of `log_p` jumps between nodes, by more than is left to gain. Give more nodes.",
    ": the gap on its nodes grew by 10^9 or is NaN. A target without a normaliser has no optimum; "
    "else `log_p` is not finite where q came, or has no bound there.",
    ": steps shrank to no length. `log_p` or a derivative is not finite where q came, or has no "
    "bound there. Start elsewhere, or transform parameters that have a boundary.",
)


def check_start(target: Target, q: Law, nodes: Nodes, others: Nodes) -> Law:
    """Refuses a start from which no flow can go; use the Gaussian returned."""
    latent = jnp.zeros(latent_size(q)) if isinstance(q, LowRankGaussian) else q.mean
    check_dimension(target.caller, nodes, "q0", latent)
    # Not of all leaves: another library's modules have functions and shapes among them.
    checked, (arrays, rest) = q, eqx.partition((target, q), eqx.is_inexact_array)
    target, q = eqx.combine(jax.lax.stop_gradient(arrays), rest)
    points = jnp.concatenate([nodes.points, others.points]).astype(q.mean.dtype)
    batches = jax.tree.map(lambda *two: jnp.concatenate(two), nodes.batches, others.batches)

    def seen(width: Scalar) -> tuple[Array, ...]:
        """Values at the nodes of a wider law, and what is wrong with the gradients there."""

        def one(z: Array, batch: Any) -> tuple[Array, ...]:
            value, score = jax.value_and_grad(target)(q.push(width * z), batch)
            own = pulled(q, score[None])
            return value, some(~jnp.isfinite(score)), jnp.vdot(own, own), score == 0

        values, broken, squares, zero = each_node(one, points, batches)
        return values, some(broken), jnp.vdot(squares, jnp.ones_like(squares)), jnp.all(zero, 0)

    def wider(state: tuple) -> tuple:
        """Looks at the next width, of which only what is flat counts."""
        i, flat, first = state
        *found, zero = seen(widths[i])
        first = jax.tree.map(partial(jnp.where, i == 0), tuple(found), first)
        return i + 1, flat & zero, first

    def goes_on(state: tuple) -> BoolScalar:
        """A target that is flat nowhere at the first width needs no others."""
        i, flat, _ = state
        return (i == 0) | (some(flat) & (i < len(_WIDER)))

    widths = jnp.asarray(_WIDER, q.mean.dtype)
    shapes = jax.eval_shape(seen, widths[0])[:-1]
    none = jax.tree.map(jnp.zeros_like, shapes)
    begin = jnp.asarray(0), jnp.ones(q.mean.shape, bool), none
    _, flat, (values, broken, square) = jax.lax.while_loop(goes_on, wider, begin)
    # Stein's gap has no more in it than these squares.
    second = jnp.isfinite(gap(target, nodes, q)) if target.estimator == "price" else jnp.array(True)
    nan, below = jnp.isnan(values), values == -jnp.inf
    bad = (
        some(~jnp.isfinite(q.mean)),
        ~jnp.isfinite(q.log_det()),
        ~some(~nan),
        some(nan),
        ~some(~below),
        some(below),
        some(values == jnp.inf),
        broken,
        ~jnp.isfinite(jnp.vdot(values, jnp.ones_like(values)) + square),
        ~second,
        ~some(~flat),
        some(flat),
    )
    words = (f"{target.caller}: {what}" for what in _NO_START)
    return raise_first(checked, dict(zip(words, bad, strict=True)))


class Judgement(NamedTuple):
    """What nodes that decided nothing say of q."""

    gap: Scalar
    gradient_norm: Scalar
    elbo: Scalar
    elbo_error: Scalar
    log_weights: Float[Array, " draws"]
    rounding: Float[Array, " draws"]  # of each log weight


def judge(target: Target, q: Law, n: int, key: PRNGKeyArray) -> Judgement:
    """Judges q on nodes that it has not seen: the worst gap and norm, and all weights together."""
    latent = latent_size(q)
    fresh = partial(standard_nodes, n, latent)
    found = jax.lax.map(
        lambda key: _judge_on(target, q, fresh(key=key)),
        jr.split(key, SETS),
        batch_size=min(max(HELD // (n * latent), 1), SETS),
    )
    weights, rounding = found.log_weights.ravel(), found.rounding.ravel()
    worst = worst_of(found.gap), worst_of(found.gradient_norm)
    return Judgement(*worst, *mean_and_error(found.elbo), weights, rounding)


def worst_of(values: Float[Array, " sets"]) -> Scalar:
    """The largest; no comparison with NaN warns, so that NaN counts as the worst."""
    return jnp.max(jnp.where(jnp.isnan(values), jnp.inf, values))


def mean_and_error(values: Float[Array, " n"]) -> tuple[Scalar, Scalar]:
    """A mean and its standard error."""
    return jnp.mean(values), jnp.std(values, ddof=1) / values.size**0.5


def _judge_on(target: Target, q: Law, nodes: Nodes) -> Judgement:
    """Judges on one set."""
    found = moments(target, suited(nodes, q), q)
    weights = log_weights(target, nodes, q)
    # The weights are differences, as exact as log p and log q are.
    points = nodes.points.astype(weights.dtype)
    log_q = each_node(lambda z, _: q.log_prob_of_push(z), points, None)
    rounding = jnp.finfo(weights.dtype).eps * jnp.maximum(jnp.abs(log_q), jnp.abs(weights + log_q))
    elbo = nodes.weights.astype(weights.dtype) @ weights
    norm = jnp.sqrt(square_of(q, found))
    return Judgement(gap_of(q, found), norm, elbo, jnp.zeros_like(elbo), weights, rounding)


def has_rested(
    far: BoolScalar, result: Any, left: Scalar, found: Judgement, tol: Scalar, most: Scalar
) -> BoolScalar:
    """Whether a fit came to rest; `left` is the gap on its own nodes, `most` allowed on others."""
    # Where log_p has kinks, averages over nodes jump, and cannot fall below a jump. Such a flow
    # rests when its steps lead nowhere and what is left is like the error of the nodes.
    jumps = (result == RESULTS.max_steps_rejected) & (left <= jnp.minimum(LIKE * found.gap, 1))
    ended = (result == RESULTS.event_occurred) & (left <= jnp.maximum(tol, 1))
    rested = (ended | (jumps & ~far)) & jnp.isfinite(found.elbo) & (found.gap < jnp.inf)
    return rested & (found.gap <= most)


def most_allowed(tol: Scalar) -> Scalar:
    """The gap on nodes of other keys at rest: `tol`, and node error of a nat at most.

    Both are half the square of a gradient, and gradients add up.
    """
    return (1 + jnp.sqrt(tol)) ** 2


def is_far(start: Law, q: Law) -> BoolScalar:
    """Whether q has left the start's scale far behind, or is not finite."""
    reach = jnp.maximum(_size(q), jnp.max(jnp.abs(q.mean - start.mean)))
    return ~(reach < _FAR * _size(start))


def _size(q: Law) -> Scalar:
    """The largest entry of a factor of the covariance."""
    largest = jnp.max(jnp.abs(q.scale))
    if isinstance(q, LowRankGaussian):
        largest = jnp.maximum(largest, jnp.max(jnp.abs(q.factor)))
    return largest


def latent_size(q: Law) -> int:
    """How many standard normal numbers make a sample."""
    return q.latent_size if isinstance(q, LowRankGaussian) else q.mean.size


def raise_unless_rested(
    far: BoolScalar, q: Law, rested: BoolScalar, result: Any, left: Scalar, found: Judgement
) -> Law:
    """Refuses an end without rest; use the Gaussian returned."""
    stopped = result == RESULTS.event_occurred
    ended = stopped & (left < _FAR)
    causes = (
        ~ended & far,
        ended & ~(jnp.isfinite(found.gap) & jnp.isfinite(found.elbo)),
        ended,
        result == RESULTS.max_steps_reached,
        result == RESULTS.max_steps_rejected,
        stopped,
        jnp.ones((), bool),
    )
    return raise_no_rest("fit_gaussian", q, rested, _NO_REST, causes)


def raise_no_rest(
    caller: str, q: Any, rested: BoolScalar, words: tuple[str, ...], causes: tuple[BoolScalar, ...]
) -> Any:
    """Refuses an end without rest by the first cause that holds; use the law returned."""
    last = "Or pass throw=False and look at `info`."
    words = tuple(f"{caller}: q is not at rest{why} {last}" for why in words)
    return raise_first(q, {why: ~rested & bad for why, bad in zip(words, causes, strict=True)})
