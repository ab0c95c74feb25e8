r"""Following a flow of Gaussians until it rests, with steps and rest measured in q's own units."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float, Int, PyTree

from .._types import Field, Scalar, ScalarLike
from ..flows._integrate import (
    RESULTS,
    AbstractSolver,
    AbstractStepSizeController,
    Bosh3,
    Kvaerno3,
    PIDController,
    Tsit5,
)
from ..flows._settle import settle
from ._controller import OwnUnits
from ._expectations import Moments, elbo, gap, mean_hessian, moments
from ._flows import fisher_rao_field, gaussian_field
from ._gaussian import Gaussian
from ._nodes import Nodes

# Bosh3's stability function vanishes at -1.596: a step of that length ends every mode of rate 1,
# and near its rest all modes of the Fisher-Rao flow have that rate, on a Gaussian target exactly.
_LONGEST = 1.596
# A loose one suffices: where the flow ends does not depend on the path.
_LOCAL = 0.1
# Beyond this ratio of curvatures an explicit solver of the Bures-Wasserstein flow is slower.
_STIFF = 30.0
# A gap that has grown so much, or is no number, leads nowhere, as of a target with no normaliser.
_LOST = 1e9
FIELDS = {"fisher_rao": fisher_rao_field, "bures": gaussian_field}


def follow(
    log_p: Callable[..., Scalar],
    q: Gaussian,
    nodes: Nodes,
    fresh: Nodes,
    tol: Scalar,
    *,
    geometry: str,
    estimator: str,
    solver: AbstractSolver | None,
    stepsize_controller: AbstractStepSizeController | None,
    max_steps: int,
    share: float,
) -> tuple[Gaussian, Any, Int[Array, ""]]:
    """Settles one flow on one set of nodes."""
    field = FIELDS[geometry](log_p, nodes, estimator=estimator)
    own = moments("fit_gaussian", log_p, nodes, None, estimator)
    other = moments("fit_gaussian", log_p, fresh, None, estimator)
    first = gap(q, own(q))
    most = _LOST * jnp.maximum(first, 1)
    rest = Partial(_ends, own, Partial(_rests, tol), most)
    if share:
        fits = Partial(_rests_or_fits, other, tol, jnp.asarray(share, q.mean.dtype))
        rest = Partial(_ends, own, fits, most)
    options: dict[str, Any] = {
        "rest": rest,
        "stepsize_controller": stepsize_controller,
        "max_steps": max_steps,
        "throw": False,
    }
    if geometry == "fisher_rao":
        options["dt0"] = _LONGEST / (1 + 10 * jnp.sqrt(first))
        if stepsize_controller is None:
            pid = PIDController(rtol=0.0, atol=_LOCAL, dtmax=_LONGEST)
            options["stepsize_controller"] = OwnUnits(pid)
        solver = Bosh3() if solver is None else solver
    way = functools.partial(_settled, field, options)
    if solver is not None:
        return way(solver, q)
    ways = [functools.partial(way, each) for each in (Kvaerno3(), Tsit5())]
    return jax.lax.cond(_is_stiff(q, own(q)), *ways, q)


def climb(
    log_p: Callable[..., Scalar],
    q: Gaussian,
    rounds: Sequence[Nodes],
    fresh: Nodes,
    tol: Scalar,
    options: dict[str, Any],
) -> tuple[Gaussian, Any, Int[Array, " rounds"]]:
    """Settles on one set of nodes after another, until fresh ones see no gap."""
    judge = moments("fit_gaussian", log_p, fresh, None, options["estimator"])
    steps, result = [], RESULTS.successful
    for i, nodes in enumerate(rounds):
        last = i == len(rounds) - 1
        run = functools.partial(_round, log_p, nodes, fresh, tol, options, last)
        if i == 0:
            q, result, count = run(q)
        else:
            q, result, count = jax.lax.cond(gap(q, judge(q)) < tol, _skip, run, q)
        steps.append(count)
    return q, result, jnp.stack(steps)


def _round(
    log_p: Callable[..., Scalar],
    nodes: Nodes,
    fresh: Nodes,
    tol: Scalar,
    options: dict[str, Any],
    last: bool,
    q: Gaussian,
) -> tuple[Gaussian, Any, Int[Array, ""]]:
    """Goes through one round; before the last, few nodes may lead astray, and fresh ones say so."""
    end, result, count = follow(log_p, q, nodes, fresh, tol, **options)
    if last:
        return end, result, count
    better = elbo(log_p, fresh, end) > elbo(log_p, fresh, q)
    return jax.tree.map(Partial(jnp.where, better), end, q), result, count


def _skip(q: Gaussian) -> tuple[Gaussian, Any, Int[Array, ""]]:
    """Leaves a round out, in the form of its results."""
    return q, RESULTS.event_occurred, jnp.zeros((), jnp.result_type(int))


def _settled(
    field: Field, options: dict[str, Any], solver: AbstractSolver, q: Gaussian
) -> tuple[Gaussian, Any, Int[Array, ""]]:
    """Settles, and takes the solution of one time apart."""
    solution = settle(field, q, solver=solver, **options)
    last = jax.tree.map(_only, solution.ys)
    return last, solution.result, jnp.asarray(solution.stats["num_steps"])


def _only(leaf: Float[Array, "1 *shape"]) -> Float[Array, "*shape"]:
    """Drops the axis of a single time."""
    return leaf[0]


def _is_stiff(q: Gaussian, moments_of_q: Moments) -> Bool[Array, ""]:
    """Compares the largest and the smallest curvature of E[-hess log p] at q."""
    _, moment = moments_of_q
    if q.diagonal:
        curvatures = moment / q.scale - 1 / q.scale**2
    else:
        curvatures = jnp.linalg.eigvalsh(mean_hessian(moment, jnp.linalg.inv(q.scale)))
    sizes = jnp.abs(curvatures)
    return jnp.max(sizes) > _STIFF * jnp.min(sizes)


def _ends(
    own: Callable[[Gaussian], Moments],
    rests: Callable[[Scalar, Gaussian], Bool[Array, ""]],
    most: Scalar,
    t: ScalarLike,
    q: Gaussian,
    args: PyTree,
) -> Bool[Array, ""]:
    """Tells whether to go on is idle: q rests, or is lost."""
    left = gap(q, own(q))
    return rests(left, q) | ~(left <= most)


def _rests(tol: Scalar, left: Scalar, q: Gaussian) -> Bool[Array, ""]:
    """Tells whether nothing is left to gain on the nodes."""
    return left < tol


def _rests_or_fits(
    other: Callable[[Gaussian], Moments],
    tol: Scalar,
    share: ScalarLike,
    left: Scalar,
    q: Gaussian,
) -> Bool[Array, ""]:
    """Tells whether nothing is left to gain on the nodes, or little beside their own error."""
    # Far from rest the fresh nodes would say nothing new, so they are not asked.
    return jax.lax.cond(left < 1, Partial(_little, other, tol, share), _much, left, q)


def _little(
    other: Callable[[Gaussian], Moments],
    tol: Scalar,
    share: ScalarLike,
    left: Scalar,
    q: Gaussian,
) -> Bool[Array, ""]:
    """Compares what is left with the tolerance and with the fresh nodes' gap."""
    return (left < tol) | (left < share * gap(q, other(q)))


def _much(left: Scalar, q: Gaussian) -> Bool[Array, ""]:
    """Answers far from rest."""
    return jnp.zeros((), bool)
