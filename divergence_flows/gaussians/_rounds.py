r"""Settling a flow of Gaussians on one set of nodes after another."""

import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Int, PyTree

from .._types import BoolScalar, Field, Scalar, ScalarLike
from ..flows._integrate import RESULTS, AbstractSolver
from ..flows._settle import settle
from ._expectations import Target, elbo, gap, gap_of, mean_hessian, moments
from ._flows import Geometry, flow
from ._gaussian import Gaussian
from ._nodes import Nodes

# Beyond this ratio of curvatures an explicit solver of the Bures-Wasserstein flow is slower.
_STIFF = 30.0
# A gap that has grown by this factor, or is NaN, leads nowhere: p may have no normaliser.
_LOST = 1e9
# Random nodes are followed until their own gap is this part of the gap on fresh ones: the rest is
# node error.
SHARE = 1e-2
Settled = tuple[Gaussian, Any, Int[Array, ""]]  # q, diffrax's result, number of steps


def fit_in_rounds(
    target: Target,
    settle: Callable[[Nodes, Gaussian], Settled],
    rounds: Sequence[Nodes],
    fresh: Nodes,
    tol: Scalar,
    q: Gaussian,
) -> tuple[Gaussian, Any, Int[Array, " rounds"]]:
    """Settles on one set of nodes after another, until fresh ones see no gap."""
    steps, result = [], RESULTS.successful
    for i, nodes in enumerate(rounds):
        settled = partial(settle, nodes)
        if nodes is not rounds[-1]:
            settled = partial(_if_better, target, fresh, settled)
        if i == 0:
            q, result, count = settled(q)
        else:
            q, result, count = jax.lax.cond(gap(target, fresh, q) < tol, _skip, settled, q)
        steps.append(count)
    return q, result, jnp.stack(steps)


def _if_better(target: Target, fresh: Nodes, settled: Any, q: Gaussian) -> Settled:
    """Keeps q where few nodes lead to a lower ELBO on fresh ones."""
    end, result, count = settled(q)
    better = elbo(target, fresh, end) > elbo(target, fresh, q)
    return jax.tree.map(partial(jnp.where, better), end, q), result, count


def _skip(q: Gaussian) -> Settled:
    """Leaves a round out."""
    return q, RESULTS.event_occurred, jnp.zeros((), jnp.result_type(int))


def settle_on(
    target: Target,
    fresh: Nodes | None,
    tol: Scalar,
    geometry: Geometry,
    max_steps: int,
    nodes: Nodes,
    q: Gaussian,
) -> Settled:
    """Settles the flow on one set of nodes: to `tol`, or to a share of the gap on fresh ones."""
    field = flow(target, nodes, geometry.motion, triangular=False)
    start = moments(target, nodes, q)
    first = gap_of(q, start)
    most = _LOST * jnp.maximum(first, 1)
    options = {
        "rest": Partial(_rests, target, nodes, fresh, tol, most),
        "dt0": None if geometry.first_step is None else geometry.first_step(first),
        "stepsize_controller": geometry.stepsize_controller,
        "max_steps": max_steps,
        "throw": False,
    }
    ways = [partial(_settled, field, options, solver) for solver in geometry.solvers]
    return ways[0](q) if len(ways) == 1 else jax.lax.cond(_is_stiff(q, start[1]), *ways, q)


def _settled(field: Field, options: dict[str, Any], solver: AbstractSolver, q: Gaussian) -> Settled:
    """Settles, and drops the axis of the single time."""
    solution = settle(field, q, solver=solver, **options)
    end = jax.tree.map(operator.itemgetter(0), solution.ys)
    return end, solution.result, jnp.asarray(solution.stats["num_steps"])


def _is_stiff(q: Gaussian, moment: Array) -> BoolScalar:
    """Compares the largest and the smallest curvature of E[-hess log p] at q."""
    if q.diagonal:
        curvatures = moment / q.scale - 1 / q.scale**2
    else:
        curvatures = jnp.linalg.eigvalsh(mean_hessian(moment, jnp.linalg.inv(q.scale)))
    sizes = jnp.abs(curvatures)
    return jnp.max(sizes) > _STIFF * jnp.min(sizes)


def _rests(
    target: Target,
    nodes: Nodes,
    fresh: Nodes | None,
    tol: Scalar,
    most: Scalar,
    t: ScalarLike,
    q: Gaussian,
    args: PyTree,
) -> BoolScalar:
    """Whether q rests on the nodes, or is as good as they can tell, or is lost."""
    left = gap(target, nodes, q)
    rests = left < tol
    if fresh is not None:
        # Far from rest the fresh nodes would show nothing new, so they are not evaluated.
        other = jax.lax.cond(left < 1, partial(gap, target, fresh), _no_gap, q)
        rests = rests | (left < SHARE * other)
    return rests | ~(left <= most)


def _no_gap(q: Gaussian) -> Scalar:
    return jnp.zeros((), q.mean.dtype)
