r"""Settling a flow of Gaussians on one set of nodes after another."""

import operator
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
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
from ._natural import BY_USE, NaturalSteps, first_step, moments_at

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
Settled = tuple[Law, Any, Int[Array, ""]]  # q, diffrax's result, number of steps


def fit_in_rounds(
    target: Target, settle: Function, rounds: list[Alone], fresh: Alone, tol: Scalar, q: Law
) -> tuple[Law, Any, Int[Array, " rounds"]]:
    """Settles on one set of nodes after another, until fresh ones see no gap.

    All rounds are one program, for blocks of nodes: most of what a fit costs is its compilation.
    """
    if len(rounds) == 1:
        q, result, steps = settle(rounds[0], q)
        return q, result, steps[None]
    sizes = [nodes.weights.size for nodes in rounds]
    blocks, places = Blocks.of(rounds, max(sizes[0], sizes[-1] // _MOST_BLOCKS))

    def settled(at: PyTree, q: Law) -> Settled:
        """Keeps q unless few nodes lead to a higher ELBO on fresh ones; all nodes always do."""
        (first, last), final = at
        used = eqx.tree_at(lambda b: (b.first, b.last), blocks, (first, last))
        end, result, count = settle(used, q)
        better = final | (elbo(target, fresh, end) > elbo(target, fresh, q))
        return jax.tree.map(partial(jnp.where, better), end, q), result, count

    def one(carry: tuple[Law, Any], at: PyTree) -> tuple[tuple[Law, Any], Array]:
        """A round, unless fresh nodes see no gap after those before it."""
        q, _ = carry
        *place, begins = at
        none = RESULTS.event_occurred, jnp.zeros((), jnp.result_type(int))
        skip = ~begins & (gap(target, fresh, q) < tol)
        q, result, count = jax.lax.cond(
            skip, lambda q: (q, *none), partial(settled, tuple(place)), q
        )
        return (q, result), count

    order = np.arange(len(rounds))
    begin = q, jax.tree.map(jnp.asarray, RESULTS.successful)
    (q, result), steps = jax.lax.scan(one, begin, (tuple(places.T), order == order[-1], order == 0))
    return q, result, steps


class Geometry(NamedTuple):
    """How `fit_gaussian` follows a geometry by default."""

    motion: Callable[..., Moments]
    # One solver, or one for a stiff flow and one for others.
    solvers: tuple[AbstractSolver, ...]
    # None is as in `integrate`.
    stepsize_controller: AbstractStepSizeController | None = None
    max_steps: int = 4096


GEOMETRIES = {
    "fisher_rao": Geometry(fisher_rao_motion, (NaturalSteps(),), BY_USE),
    "bures": Geometry(bures_motion, (Kvaerno3(), Tsit5())),
}


def settle_on(
    target: Target, fresh: Alone | None, tol: Scalar, way: Geometry, nodes: Rule, q: Law
) -> Settled:
    """Settles the flow on one set of nodes: to `tol`, or to a share of the gap on fresh ones."""
    start = moments(target, nodes, q)
    first = gap_of(q, start)
    if isinstance(fresh, Nodes):
        fresh = few_of(fresh, max(_FEWEST_FRESH, fresh.weights.size // 4))

    def rests(q: Law, left: Scalar) -> BoolScalar:
        """Whether q rests on the nodes, or is as good as they can tell, or is lost."""
        rests = left < tol
        if fresh is not None:
            # Far from rest the fresh nodes would show nothing new, so they are not evaluated.
            none = jnp.zeros((), q.mean.dtype)
            other = jax.lax.cond(left < 1, partial(gap, target, fresh), lambda _: none, q)
            rests = rests | (left < SHARE * other)
        return rests | ~(left <= _LOST * jnp.maximum(first, 1))

    def stepped(solver: AbstractSolver, q: Law) -> Settled:
        """Settles by steps that carry the moments along."""
        end = settled(
            Partial(moments_at, target, nodes),
            lambda t, known, args: rests(known[0], gap_of(*known)),
            (q, start),
            solver,
            first_step(first),
        )
        return end[0][0], *end[1:]

    def flowed(solver: AbstractSolver, q: Law) -> Settled:
        """Settles by a solver of the field."""
        field = flow(target, nodes, way.motion, False)
        dt0 = first_step(first) if way.motion is fisher_rao_motion else None
        return settled(field, lambda t, q, args: rests(q, gap(target, nodes, q)), q, solver, dt0)

    def settled(field: Any, rest: Function, y0: Any, solver: Any, dt0: Any) -> Any:
        """Settles, and drops the axis of the single time."""
        how = {"solver": solver, "stepsize_controller": way.stepsize_controller, "dt0": dt0}
        solution = settle(field, y0, rest=rest, max_steps=way.max_steps, throw=False, **how)
        end = jax.tree.map(operator.itemgetter(0), solution.ys)
        return end, solution.result, jnp.asarray(solution.stats["num_steps"])

    if isinstance(way.solvers[0], NaturalSteps):
        return stepped(way.solvers[0], q)
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
