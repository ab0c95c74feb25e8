r"""What is told of a fit: why it cannot start, what its end is worth, why it did not rest.

The end is judged on nodes that decided nothing. One set of them tells $|a + b|^2$, a the fit's
error and b its own; the two may cancel. Of several independent sets the largest is told.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from .._types import Scalar
from ..flows._integrate import RESULTS
from ._expectations import gap, log_weights, moments, same_dimension, velocities
from ._gaussian import Gaussian
from ._nodes import Nodes, evaluate, sobol_nodes

_FIT = "fit_gaussian"
# One set hides two thirds of the gap with a chance of .28 at most if b is normal with the variance
# of a: eight at once with one of 4e-5.
SETS = 8
# A standard error of random mini-batches enters the gap so many times, squared.
_DEVIATIONS = 3.0
# So many times wider than q0, the target is asked again whether it is flat.
_WIDER = (1.0, 10.0, 1e3, 1e6)
_FAR = 1e6
# What is left at a jump and what others tell are two draws of one size; either may be unlucky.
_LIKE = 10.0
_WALL = (
    " A Gaussian reaches everywhere: transform bounded parameters to the line by a bijection with "
    "its Jacobian (x = exp(y) and log_p + y for x > 0), or start elsewhere or narrower."
)
_NO_START = (
    "fit_gaussian: the mean of `q0` is not finite. Start from finite numbers.",
    "fit_gaussian: `q0` has a singular scale or one that is not finite. Start from a scale of full "
    "rank, for instance the identity.",
    "fit_gaussian: `log_p` is NaN at every node of `q0`, so it is not finite at nodes of `q0`. "
    "Look for a NaN in the data or a constant of it, or for log or sqrt of a negative number."
    + _WALL,
    "fit_gaussian: `log_p` is NaN, so not finite, at some nodes of `q0`, not at all: for instance "
    "log or sqrt of a negative number, outside a support." + _WALL,
    "fit_gaussian: `log_p` is -inf at every node of `q0`: the start lies outside the support, or "
    "log_p underflows there." + _WALL,
    "fit_gaussian: `log_p` is -inf at some nodes of `q0`, not at all: they lie outside its support."
    + _WALL,
    "fit_gaussian: `log_p` is +inf at nodes of `q0`: a density without a bound, or a number that "
    "overflows. Mend log_p there, or start elsewhere.",
    "fit_gaussian: the gradient of `log_p` is not finite at nodes of `q0`, though log_p itself is: "
    "for instance sqrt at 0, or `jnp.where` with a branch that is not finite. Mend the gradient.",
    "fit_gaussian: `log_p` and its gradient are finite at nodes of `q0`, but so large that their "
    "squares overflow. Look for a factor in log_p (its unit is a nat); else start nearer, or with "
    "a smaller scale, or in float64.",
    "fit_gaussian: averages over nodes of `q0` are not finite, though log_p and its gradient are: "
    'its second derivatives are not. Take estimator="stein", or mend them.',
    "fit_gaussian: `log_p` is flat: its gradient is 0 at every node of `q0`, and of a `q0` 10, "
    "10^3 and 10^6 times wider. Such a target has no normaliser, and no best Gaussian. Look if "
    "log_p uses its argument, or rounds it.",
    "fit_gaussian: `log_p` does not depend on some parameter: its gradient in it is 0 at every "
    "node of `q0`, and of a `q0` 10, 10^3 and 10^6 times wider. Such a target has no normaliser, "
    "and no best Gaussian. Leave the parameter out, or give it a prior.",
)
_NO_REST = tuple(
    "fit_gaussian: q is not at rest" + words + " Or take throw=False and look at `info`."
    for words in (
        "; its mean or scale grew without bound, beyond 10^6 times the scale of `q0`. A target "
        "without a normaliser has no optimum to rest at: give each parameter a prior, or, if the "
        "target is so far or wide, start nearer and wider.",
        ": on its own nodes it is, but `log_p` or its gradient is not finite at others, as outside "
        "a support. Transform bounded parameters to the line.",
        ": on its own nodes it is, but the gap on `judges` exceeds `tol`. Give more nodes and "
        "judges, larger mini-batches, or a larger `tol`.",
        " after `max_steps` steps. Give more steps or a larger `tol`, or start elsewhere. (A "
        "target without a normaliser has no optimum to rest at.)",
        ": the gradient of `log_p` jumps between its nodes, by more than what is left to gain. "
        "Give more nodes.",
        ": the gap on its nodes grew by 10^9 or is no number. A target without a normaliser has no "
        "optimum to rest at; else `log_p` is not finite where q came, or has no bound there.",
        ": the solve broke down, with steps of no length. `log_p` or a derivative is not finite "
        "where q came, or q has collapsed onto a point where log_p has no bound. Start elsewhere, "
        "or transform parameters that have a boundary.",
    )
)


def begin(
    log_p: Callable[..., Scalar], q: Gaussian, nodes: Nodes, others: Nodes, estimator: str
) -> Gaussian:
    """Refuses a start from which no flow can go."""
    same_dimension(_FIT, nodes, "q0", q.mean)
    points = jnp.concatenate([nodes.points, others.points]).astype(q.mean.dtype)
    batches = jax.tree.map(_joined, nodes.batches, others.batches)
    ask = jax.vmap(jax.value_and_grad(partial(evaluate, _FIT, log_p)))

    def at(wider: Scalar) -> tuple[Array, Array]:
        return ask(jax.vmap(q.push)(wider * points), batches)

    values, scores = jax.lax.map(at, jnp.asarray(_WIDER, q.mean.dtype))
    flat = jnp.all(scores == 0, axis=(0, 1))
    values, scores = values[0], scores[0]
    own = scores * q.scale if q.diagonal else scores @ q.scale
    first = gap(q, moments(_FIT, log_p, nodes, None, estimator)(q))
    nan, below = jnp.isnan(values), values == -jnp.inf
    wrong = jnp.stack(
        [
            ~jnp.all(jnp.isfinite(q.mean)),
            ~jnp.isfinite(q.log_det()),
            jnp.all(nan),
            jnp.any(nan),
            jnp.all(below),
            jnp.any(below),
            jnp.any(values == jnp.inf),
            ~jnp.all(jnp.isfinite(scores)),
            ~jnp.isfinite(jnp.sum(values) + jnp.sum(own**2)),
            ~jnp.isfinite(first),
            jnp.all(flat),
            jnp.any(flat),
        ]
    )
    return eqx.branched_error_if(q, jnp.any(wrong), jnp.argmax(wrong), _NO_START)


def _joined(first: Array, second: Array) -> Array:
    return jnp.concatenate([first, second])


def judge(
    log_p: Callable[..., Scalar],
    q: Gaussian,
    judges: Nodes | None,
    n: int,
    estimator: str,
    key: PRNGKeyArray,
) -> tuple[Scalar, Scalar, tuple[Float[Array, " draws"], Float[Array, " draws"]], Scalar]:
    """Judges q on nodes that it has not seen."""
    one = partial(_by_one, log_p, q, estimator)
    if judges is not None:
        gap, norm, weights, bound = one(judges)
        return _inf_for_nan(gap), _inf_for_nan(norm), weights, bound

    def fresh(key: PRNGKeyArray) -> tuple[Any, ...]:
        return one(sobol_nodes(n, q.mean.size, key=key))

    gaps, norms, weights, bounds = jax.lax.map(fresh, jr.split(key, SETS))
    largest = [_inf_for_nan(jnp.max(told)) for told in (gaps, norms)]
    return largest[0], largest[1], (weights[0].ravel(), weights[1].ravel()), jnp.mean(bounds)


def _inf_for_nan(told: Scalar) -> Scalar:
    """Tells the worst where nothing can be told: no comparison with NaN warns of anything."""
    return jnp.where(jnp.isnan(told), jnp.inf, told)


def _by_one(
    log_p: Callable[..., Scalar], q: Gaussian, estimator: str, rule: Nodes
) -> tuple[Scalar, Scalar, tuple[Float[Array, " n"], Float[Array, " n"]], Scalar]:
    """Judges on one set; mini-batches are drawn at random, and their own error is added."""
    found = moments(_FIT, log_p, rule, None, estimator)(q)
    weights = log_weights(log_p, rule, q)
    left, square = gap(q, found), sum(jnp.sum(part**2) for part in found)
    if rule.batches is not None:
        errors = _errors(log_p, q, rule)
        left, square = left + _DEVIATIONS * errors[0], square + _DEVIATIONS * errors[1]
    # The weights are differences, as exact as log p and log q are.
    log_q = jax.vmap(q.log_prob_of_push)(rule.points.astype(weights.dtype))
    rounding = jnp.finfo(weights.dtype).eps * jnp.maximum(jnp.abs(log_q), jnp.abs(weights + log_q))
    bound = rule.weights.astype(weights.dtype) @ weights
    return left, jnp.sqrt(square), (weights, rounding), bound


def _errors(log_p: Callable[..., Scalar], q: Gaussian, rule: Nodes) -> tuple[Scalar, Scalar]:
    """Estimates what random nodes add to the gap and to the squared norm on average."""
    gs = velocities(_FIT, log_p, rule, None, q)
    zs, masses = rule.points.astype(gs.dtype), rule.weights.astype(gs.dtype) ** 2
    if q.diagonal:
        own = gs * q.scale
        each = 0.5 * jnp.sum(own**2, 1) + 0.25 * jnp.sum((own * zs) ** 2, 1)
        return masses @ each, masses @ jnp.sum(gs**2 * (1 + zs**2), 1)
    own = gs @ q.scale
    sizes, lengths = jnp.sum(own**2, 1), jnp.sum(zs**2, 1)
    each = 0.5 * sizes + (sizes * lengths + jnp.sum(own * zs, 1) ** 2) / 8
    return masses @ each, masses @ (jnp.sum(gs**2, 1) * (1 + lengths))


def verdict(
    result: Any, left: Scalar, told: Scalar, bound: Scalar, tol: Scalar, batched: bool
) -> Bool[Array, ""]:
    """Tells whether a fit came to rest."""
    # Where log_p has kinks, averages over nodes jump, and cannot fall below a jump. Such a flow
    # rests when its steps lead nowhere and what is left is like the error of the nodes.
    jumps = (result == RESULTS.max_steps_rejected) & (left <= jnp.minimum(_LIKE * told, 1))
    ended = (result == RESULTS.event_occurred) & (left <= jnp.maximum(tol, 1))
    rested = (ended | jumps) & jnp.isfinite(bound) & (told < jnp.inf)
    return rested & (told <= tol) if batched else rested


def at_rest(
    start: Gaussian,
    q: Gaussian,
    rested: Bool[Array, ""],
    result: Any,
    left: Scalar,
    told: Scalar,
    bound: Scalar,
) -> Gaussian:
    """Refuses an end that is none."""
    reach = jnp.maximum(jnp.max(jnp.abs(q.scale)), jnp.max(jnp.abs(q.mean - start.mean)))
    lost = (result == RESULTS.event_occurred) & ~(left < _FAR)
    ended = (result == RESULTS.event_occurred) & ~lost
    found = jnp.stack(
        [
            ~ended & ~(reach < _FAR * jnp.max(jnp.abs(start.scale))),
            ended & ~(jnp.isfinite(told) & jnp.isfinite(bound)),
            ended,
            result == RESULTS.max_steps_reached,
            result == RESULTS.max_steps_rejected,
            lost,
            jnp.ones((), bool),
        ]
    )
    return eqx.branched_error_if(q, ~rested, jnp.argmax(found), _NO_REST)
