r"""Settling a flow of Gaussians on one set of nodes after another."""

import operator
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PyTree

from .._types import BoolScalar, Function, Scalar
from ..flows._integrate import (
    RESULTS,
    AbstractSolver,
    AbstractStepSizeController,
    Kvaerno3,
    Tsit5,
)
from ..flows._settle import settle
from ..gaussians._expectations import (
    Alone,
    Moments,
    Rule,
    Target,
    elbo,
    gap,
    gap_of,
    mean_hessian,
    moments,
)
from ..gaussians._flows import bures_motion, fisher_rao_motion, flow
from ..gaussians._low_rank import Law
from ..gaussians._nodes import Blocks, Nodes, few_of
from ._natural import Settled, first_step, natural_steps

# Beyond this ratio of curvatures an explicit solver of the Bures-Wasserstein flow is slower.
_STIFF = 30.0
# A gap that has grown by this factor, or is NaN, leads nowhere: p may have no normaliser.
_LOST = 1e9
# Random nodes are followed until their own gap is this part of the gap on fresh ones: the rest is
# node error.
SHARE = 1e-2
# Into so many blocks the last round's nodes are cut at most; a GPU takes them one by one.
_MOST_BLOCKS = 16
# Of the fresh nodes so many at least tell when to rest; all of them judge a round.
_FEWEST_FRESH = 64


def fit_in_rounds(
    target: Target, settle: Function, rounds: list[Alone], fresh: Alone, tol: Scalar, q: Law
) -> tuple[Law, Any, Int[Array, " rounds"], Scalar]:
    """Settles on one set of nodes after another, until fresh ones see no gap.

    All rounds are one program, for blocks of nodes: most of what a fit costs is its compilation.
    The gap that is returned is that on the last nodes or, if these were not needed, on fresh ones.
    """
    if len(rounds) == 1:
        q, result, steps, left = settle(rounds[0], q)
        return q, result, steps[None], left
    sizes = [nodes.weights.size for nodes in rounds]
    blocks, places = Blocks.of(rounds, max(sizes[0], sizes[-1] // _MOST_BLOCKS))

    def is_better(end: Law, q: Law) -> BoolScalar:
        both = jax.tree.map(lambda *two: jnp.stack(two), end, q)
        elbos = jax.lax.map(partial(elbo, target, fresh), both)
        return elbos[0] > elbos[1]

    def settled(at: PyTree, q: Law) -> Settled:
        """Keeps q unless few nodes lead to a higher ELBO on fresh ones; all nodes always do."""
        (first, last), final = at
        used = eqx.tree_at(lambda b: (b.first, b.last), blocks, (first, last))
        end, result, count, left = settle(used, q)
        better = jax.lax.cond(final, lambda *_: jnp.array(True), is_better, end, q)
        return jax.tree.map(partial(jnp.where, better), end, q), result, count, left

    def one(carry: tuple[Law, Any, Scalar], at: PyTree) -> tuple[tuple[Law, Any, Scalar], Array]:
        """A round, unless fresh nodes see no gap after those before it."""
        q, *_ = carry
        *place, begins = at
        unseen = jnp.full((), jnp.inf, q.mean.dtype)
        seen = jax.lax.cond(begins, lambda q: unseen, partial(gap, target, fresh), q)
        none = RESULTS.event_occurred, jnp.zeros((), jnp.result_type(int)), seen
        q, result, count, left = jax.lax.cond(
            seen < tol, lambda q: (q, *none), partial(settled, tuple(place)), q
        )
        return (q, result, left), count

    order = np.arange(len(rounds))
    begin = q, jax.tree.map(jnp.asarray, RESULTS.successful), jnp.zeros((), q.mean.dtype)
    places = tuple(places.T), order == order[-1], order == 0
    (q, result, left), steps = jax.lax.scan(one, begin, places)
    return q, result, steps, left


class Geometry(NamedTuple):
    """How `fit_gaussian` follows a geometry by default."""

    motion: Callable[..., Moments]
    # One solver, or one for a stiff flow and one for others; none for steps of natural parameters.
    solvers: tuple[AbstractSolver, ...]
    # None is as in `integrate`.
    stepsize_controller: AbstractStepSizeController | None = None
    max_steps: int = 4096


GEOMETRIES = {
    "fisher_rao": Geometry(fisher_rao_motion, ()),
    "bures": Geometry(bures_motion, (Kvaerno3(), Tsit5())),
}


def settle_on(
    target: Target, fresh: Alone | None, tol: Scalar, way: Geometry, nodes: Rule, q: Law
) -> Settled:
    """Settles the flow on one set of nodes: to `tol`, or to a share of the gap on fresh ones."""
    if isinstance(fresh, Nodes):
        fresh = few_of(fresh, max(_FEWEST_FRESH, fresh.weights.size // 4))

    def rests(q: Law, left: Scalar, first: Scalar) -> BoolScalar:
        """Whether q rests on the nodes, or is as good as they can tell, or is lost."""
        rests = left < tol
        if fresh is not None:
            # Far from rest the fresh nodes would show nothing new, so they are not evaluated.
            none = jnp.zeros((), q.mean.dtype)
            other = jax.lax.cond(left < 1, partial(gap, target, fresh), lambda _: none, q)
            rests = rests | (left < SHARE * other)
        return rests | ~(left <= _LOST * jnp.maximum(first, 1))

    if not way.solvers:
        return natural_steps(target, nodes, rests, way.max_steps, q)
    start = moments(target, nodes, q)
    first = gap_of(q, start)

    def flowed(solver: AbstractSolver, q: Law) -> Settled:
        """Settles by a solver of the field, and drops the axis of the single time."""
        solution = settle(
            flow(target, nodes, way.motion, False),
            q,
            rest=lambda t, q, args: rests(q, gap(target, nodes, q), first),
            max_steps=way.max_steps,
            throw=False,
            solver=solver,
            stepsize_controller=way.stepsize_controller,
            dt0=first_step(first) if way.motion is fisher_rao_motion else None,
        )
        end = jax.tree.map(operator.itemgetter(0), solution.ys)
        steps = jnp.asarray(solution.stats["num_steps"])
        return end, solution.result, steps, gap(target, nodes, end)

    ways = [partial(flowed, solver) for solver in way.solvers]
    return ways[0](q) if len(ways) == 1 else jax.lax.cond(_is_stiff(q, start[1]), *ways, q)


def _is_stiff(q: Any, moment: Array) -> BoolScalar:
    """Compares the largest and the smallest curvature of E[-hess log p] at q."""
    if q.diagonal:
        curvatures = moment / q.scale - 1 / q.scale**2
    else:
        curvatures = jnp.linalg.eigvalsh(mean_hessian(moment, jnp.linalg.inv(q.scale)))
    sizes = jnp.abs(curvatures)
    return jnp.max(sizes) > _STIFF * jnp.min(sizes)
