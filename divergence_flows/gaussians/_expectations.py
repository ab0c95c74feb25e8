r"""Expectations under a Gaussian that move it: $E[g]$ and $G = E[g z^T]$, $g = \nabla h(\log p/q)$.

By Stein's identity G is also $E[\nabla^2 h(\log p/q)]\,S$: two estimators of one matrix, from
first or from second derivatives of the target.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from .._checks import scalar_of
from .._linalg import product, symmetric
from .._types import (
    AnyFloat,
    Function,
    LogDensity,
    Matrix,
    Scalar,
    ScalarFn,
    Vector,
    as_partial,
)
from ..flows._velocity import chain
from ._gaussian import Gaussian
from ._low_rank import (
    Law,
    LowRankGaussian,
    Thin,
    direction,
    frame,
    low_rank_averages,
    low_rank_gap,
)
from ._nodes import Blocks, Nodes, Regression, evaluate, regression, replaced

# Where an h is tried before it drives a field: it may decrease elsewhere, but round-off is small.
_TRIED = tuple(range(-5, 6))
Alone = Nodes | Regression
Rule = Alone | Blocks
# So many numbers of nodes are held at once, where their dimension makes them many.
HELD = 1 << 18
Moments = tuple[Float[Array, " dim"], Float[Array, "dim dim"] | Float[Array, " dim"]]
Found = Any  # moments of a `Gaussian`, or the `Direction` of one of low rank


class Target(eqx.Module):
    """A log density, the h of the flow towards it, and how G is estimated."""

    log_p: Callable[..., Scalar]
    h: ScalarFn | None
    caller: str = eqx.field(static=True)
    estimator: str = eqx.field(static=True)

    def __init__(
        self, caller: str, log_p: LogDensity, h: ScalarFn | None = None, estimator: str = "stein"
    ) -> None:
        if estimator not in ("stein", "price"):
            raise ValueError(f'{caller}: `estimator` is {estimator!r}; give "stein" or "price".')
        self.log_p, self.h = as_partial(log_p), None if h is None else as_partial(h)
        self.caller, self.estimator = caller, estimator

    def __call__(self, x: Vector, batch: PyTree) -> Scalar:
        return evaluate(self.caller, self.log_p, x, batch)


def rising(target: Target, nodes: Nodes) -> Nodes:
    """Refuses an h that decreases, once, where a field is made; use the nodes returned."""
    caller, h = target.caller, target.h
    if h is None:
        return nodes
    u = jnp.asarray(_TRIED, jnp.result_type(float))
    slopes = jax.vmap(jax.grad(partial(scalar_of, caller, "h", h)))(u)
    size = jnp.maximum(1.0, jnp.max(jnp.abs(jax.vmap(h)(u)), where=jnp.isfinite(slopes), initial=0))
    message = (
        f"{caller}: `h` decreases at some u = log p/q between -5 and 5, so it drives no MonoFlow. "
        "Give an increasing h, for instance `div.h` or `df.f_to_h(f)`, not f itself."
    )
    bad = jnp.any(slopes < -64 * jnp.finfo(u.dtype).eps * size)
    return replaced(nodes, "weights", eqx.error_if(nodes.weights, bad, message))


def check_dimension(caller: str, nodes: Rule, name: str, mean: AnyFloat) -> None:
    """Refuses nodes of another dimension than the law's, before they broadcast or meet XLA."""
    dim = nodes.points.shape[-1]
    if mean.shape != (dim,):
        words = f"`nodes` have dimension {dim} and the mean of `{name}` has shape {mean.shape}"
        raise ValueError(f"{caller}: {words}; make nodes for it, and use `jax.vmap` for many.")


def velocities(target: Target, nodes: Alone, q: Gaussian) -> Float[Array, "n dim"]:
    r"""Evaluates $g = \nabla_x h(\log p/q)$ at the nodes' images $\mu + S z$."""
    zs = nodes.points.astype(q.mean.dtype)
    values, scores = jax.vmap(jax.value_and_grad(target))(jax.vmap(q.push)(zs), nodes.batches)
    grad_u = scores + (zs / q.scale if q.diagonal else zs @ jnp.linalg.inv(q.scale))
    if target.h is None:
        return grad_u
    slopes = jax.vmap(jax.grad(target.h))(values - jax.vmap(q.log_prob_of_push)(zs))[:, None]
    return chain(slopes, grad_u)


def averages(nodes: Alone, gs: Float[Array, "n dim"], diagonal: bool) -> Moments:
    """Averages g and g z^T, or the diagonal of the latter."""
    mean, slopes = nodes.weights.astype(gs.dtype) @ gs, nodes.slopes.astype(gs.dtype)
    return mean, jnp.sum(gs * slopes, 0) if diagonal else product(gs.T, slopes)


@eqx.filter_jit
def moments(target: Target, nodes: Rule, q: Law) -> Found:
    """Estimates $E[g]$ and $G = E[g z^T]$; jitted so that a solve traces them once."""
    if isinstance(q, LowRankGaussian):
        averaged = partial(_of_low_rank, target, frame(q)[0])  # once for all parts
        blocks = isinstance(nodes, Blocks)
        return direction(q, (nodes.total if blocks else partial(_in_parts, nodes))(averaged, q))
    if isinstance(nodes, Blocks):
        return nodes.total(partial(moments, target), q)
    if target.estimator == "stein":
        return averages(nodes, velocities(target, nodes, q), q.diagonal)
    weights, none = nodes.weights.astype(q.mean.dtype), jnp.zeros_like(q.mean)

    def mean(shift: Vector) -> Vector:
        shifted = replaced(nodes, "points", nodes.points + shift)
        return jnp.sum(weights[:, None] * velocities(target, shifted, q), 0)

    # Price: E[hess h(u)] S is the Jacobian of E[g] in a shift of all z.
    hessian = jax.jacfwd(mean)(none)
    return mean(none), jnp.diag(hessian) if q.diagonal else hessian


def _in_parts(nodes: Alone, sum_over: Function, q: LowRankGaussian) -> PyTree:
    """What `sum_over(nodes, q)` makes of all, from parts of which few numbers are held at once."""
    size = HELD // nodes.points.shape[1]
    if nodes.batches is not None or size >= nodes.weights.size:
        return sum_over(nodes, q)
    blocks, ends = Blocks.of([nodes], max(size, 1))
    return replaced(blocks, "last", jnp.asarray(ends[0, 1])).total(sum_over, q)


def each_node(function: Function, points: Float[Array, "n dim"], batches: PyTree) -> PyTree:
    """Evaluates a function of a point and a mini-batch at each node, few of them at once."""
    size = max(HELD // points.shape[1], 1)
    if size >= len(points):
        return jax.vmap(function)(points, batches)
    return jax.lax.map(lambda node: function(*node), (points, batches), batch_size=size)


def _of_low_rank(
    target: Target, u: Thin, nodes: Nodes, q: LowRankGaussian
) -> tuple[Vector, Thin, Vector]:
    """The averages of which the direction of a low-rank law is made."""
    zs = nodes.points.astype(q.mean.dtype)
    own = jax.vmap(q.score_of_push)(zs)
    gs = jax.vmap(jax.grad(target))(jax.vmap(q.push)(zs), nodes.batches) - own
    return low_rank_averages(q, u, nodes.weights.astype(gs.dtype), own, gs)


def suited(nodes: Nodes, q: Law, *, given: bool = False) -> Alone:
    """Makes a regression of nodes for a mean-field law, if they are enough and not a user's own.

    At rest others are in no need of it: the slope of g vanishes, but for what is no line.
    """
    points = nodes.points
    diagonal = isinstance(q, Gaussian) and q.diagonal and not given
    return regression(nodes) if diagonal and len(points) >= 2 * points.shape[1] else nodes


def mean_hessian(moment: Matrix, inverse: Matrix) -> Matrix:
    r"""$E[\nabla^2 \log p]$: G of h = u, times $S^{-1}$, less q's own curvature $-\Sigma^{-1}$."""
    return symmetric(product(moment, inverse) - product(inverse.T, inverse))


def gap_of(q: Law, found: Found) -> Scalar:
    """Half the squared gradient of the ELBO in Fisher's metric."""
    if isinstance(q, LowRankGaussian):
        return low_rank_gap(q, found)
    rate, moment = found
    if q.diagonal:
        return 0.5 * _square(q.scale * rate) + 0.25 * _square(q.scale * moment)
    half = q.scale.T @ moment
    return 0.5 * _square(q.scale.T @ rate) + _square(half + half.T) / 16


def square_of(q: Law, found: Found) -> Scalar:
    """The squared gradient in the mean and the factors, as Bures and Wasserstein measure it."""
    if isinstance(q, LowRankGaussian):
        columns = product(found.on_frame, frame(q)[1])
        parts = found.rate, columns / q.scale[:, None], found.diagonal / q.scale
    else:
        parts = found
    return sum(map(_square, parts), start=jnp.zeros((), q.mean.dtype))


def pulled(q: Law, gs: Float[Array, "n dim"]) -> Float[Array, "n _"]:
    """Gradients in the coordinates of the standard normal."""
    if isinstance(q, LowRankGaussian):
        return jnp.concatenate([gs @ q.factor, gs * q.scale], axis=1)
    return gs * q.scale if q.diagonal else gs @ q.scale


def _square(values: AnyFloat) -> Scalar:
    return jnp.vdot(values, values)


def gap(target: Target, nodes: Rule, q: Law) -> Scalar:
    """`gap_of` q, by these nodes."""
    return gap_of(q, moments(target, nodes, q))


def log_weights(target: Target, nodes: Alone, q: Law) -> Float[Array, " n"]:
    """Evaluates log p - log q at the nodes' images."""

    def one(z: Vector, batch: PyTree) -> Scalar:
        return target(q.push(z), batch) - q.log_prob_of_push(z)

    return each_node(one, nodes.points.astype(q.mean.dtype), nodes.batches)


def elbo(target: Target, nodes: Alone, q: Law) -> Scalar:
    """Averages log p - log q."""
    return nodes.weights.astype(q.mean.dtype) @ log_weights(target, nodes, q)
