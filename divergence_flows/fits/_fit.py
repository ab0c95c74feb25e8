r"""The best Gaussian for a log density, in one call: a flow followed until it rests."""

import math
import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial
from jaxtyping import Array, ArrayLike, Bool, Int, PRNGKeyArray, PyTree, Real

from .._checks import check_counts, check_positive
from .._types import (
    Frozen,
    Function,
    LogDensity,
    Scalar,
    ScalarLike,
    Vector,
    as_float,
    as_partial,
)
from ..flows._integrate import RESULTS, AbstractSolver, AbstractStepSizeController, bits
from ..gaussians._expectations import Target, suited
from ..gaussians._gaussian import Gaussian
from ..gaussians._low_rank import Law, LowRankGaussian, check_rank
from ..gaussians._mixture import Mixture
from ..gaussians._nodes import Nodes, cubature, few_of, standard_nodes
from ._judge import (
    check_start,
    has_rested,
    is_far,
    judge,
    latent_size,
    most_allowed,
    raise_unless_rested,
)
from ._pareto import FEWEST_DRAWS, pareto_k
from ._rounds import GEOMETRIES, Geometry, fit_in_rounds, settle_on
from ._stochastic import Draws, fit_on_draws

_TOLERANCE = {16: 1e-1, 32: 1e-5, 64: 1e-10}
# A round between the cubature points and all nodes has at least so many.
_FEWEST = 64
_NODES = 1024
# Nats: mini-batches average their noise, at a price that grows like the inverse.
_TOLERANCE_OF_BATCHES = 0.05
# Beyond so many parameters neither the memory nor the time of a full covariance is to be had.
_MOST_FULL = 10_000


class FitInfo(eqx.Module):
    """What `fit_gaussian` reports, judged on nodes that neither fitted q nor ended the fit.

    `gap` is the ELBO that one more Newton step would bring, 1/2 |gradient|^2 in Fisher's metric:
    what is left to gain, or the error of the nodes, whichever is larger [nats]. It and
    `gradient_norm` are the largest over eight sets of `n` nodes, scrambled independently (inf if
    NaN); `elbo` and `k_hat` use all of them together, and `elbo_error` is the standard error of
    their mean [nats]. None shows what n nodes cannot see, such as a rare spike of log_p. `k_hat` is
    0 where the largest weights are equal up to the rounding of log p, as at q = p, and inf, a
    warning, where no k exists or rounding hides it.

    `position` is the mean in the shape of `q0`. `unravel` brings vectors into that shape and keeps
    axes in front of them: `info.unravel(q.sample(key, (1000,)))` is a pytree of samples.
    """

    elbo: Scalar
    elbo_error: Scalar
    gap: Scalar
    gradient_norm: Scalar
    k_hat: Scalar
    steps: Int[Array, " rounds"]
    rested: Bool[Array, ""]
    result: Any
    position: PyTree
    unravel: Function


def fit_gaussian(
    log_p: Callable[..., Scalar],
    q0: Gaussian | LowRankGaussian | PyTree[Real[ArrayLike, "..."]],
    *,
    rank: int | None = None,
    geometry: str = "fisher_rao",
    estimator: str = "stein",
    nodes: Nodes | None = None,
    batch: Callable[[PRNGKeyArray], PyTree] | None = None,
    n: int | None = None,
    tol: ScalarLike | None = None,
    solver: AbstractSolver | None = None,
    stepsize_controller: AbstractStepSizeController | None = None,
    max_steps: int = 4096,
    throw: bool = True,
    key: PRNGKeyArray,
) -> tuple[Gaussian | LowRankGaussian, FitInfo]:
    r"""Minimises KL(q || p) over Gaussians, following a flow until it rests.

    It rests when the gap, 1/2 |gradient|^2 in Fisher's metric, is below `tol` on the flow's nodes
    or, unless `nodes` are given, below a hundredth of the gap on fresh nodes: the rest is node
    error, of which no more than a nat counts as rest. It starts on few nodes, goes on with more, at
    most `n`, if fresh nodes show a gain, and ends when they put the gap below `tol`. Where log_p
    has kinks, as |x| has, averages over nodes jump: there it rests when steps lead nowhere and what
    is left is like the error of the nodes. `info.gap` judges the end on other nodes.

    Args:
        log_p: Log density of the target, up to a constant, of a flat vector if `q0` is a
            `Gaussian`, else of a pytree like `q0` [nats].
        q0: Where to start: a `Gaussian` (a result starts the next fit warm; a vector `scale`
            makes the fit mean-field, which strong correlations slow down), or a pytree of
            parameters, taken as mean, with scale I. A `LowRankGaussian` fits one of its rank.
        rank: Columns k of a covariance W W^T + diag(s^2), for parameters beyond the thousand that
            a full covariance serves: a step costs n k dim, and nothing has dim^2 numbers. Only for
            "fisher_rao" and "stein"; `q0` gives mean and deviations, W starts at random.
        geometry: "fisher_rao", whose rate does not depend on the target's conditioning, or
            "bures".
        estimator: "stein" (gradients of log_p) or "price" (its Hessians too).
        nodes: Rule for the standard normal, without mini-batches; by default the 2 dim cubature
            points first, if `n` is as many, then n / 16 and n Sobol nodes.
        batch: `batch(key)` draws a mini-batch, rows or their indices, for `log_p(x, batch)`, an
            unbiased estimate of the log density. Every step then has fresh nodes and batches, one
            for each pair z and -z, and more of them once noise is what is left. The fit is at rest
            when the gap on draws that q has not seen, with three times the variance of their noise,
            is below `tol`. `k_hat` is inf: noisy weights are not those of p. Only for "fisher_rao"
            and its own solver.
        n: Number of the last nodes, and of each set that judges; at least 25. By default 1024, or 2
            dim if that is more and the scale a matrix; with `batch` the nodes of a step, 256.
            Raise it to lower `info.gap`.
        tol: Gap at which to rest [nats]; 1e-10 in float64, 1e-5 in float32, .05 with `batch`.
        solver: A diffrax solver of the flow. By default steps of natural parameters for
            "fisher_rao", which commute with affine maps and reach a Gaussian target at once; for
            "bures" Kvaerno3 if the curvatures at `q0` differ by a factor beyond 30, else Tsit5.
        stepsize_controller: Of a solver, as in `integrate`; those steps have a rule of their own.
        max_steps: Steps allowed in each round.
        throw: Whether a fit that has not come to rest raises. Without it a jitted function that
            returns q alone leaves out what judges q, most of a quick fit's time.
        key: Key of the Sobol nodes, those that judge included; all sets are independent.

    Returns:
        The Gaussian, or with a rank the `LowRankGaussian`, over the ravelled parameters, and a
        `FitInfo`: `elbo` (it goes up), `elbo_error`, `gap`, `gradient_norm` (Bures-Wasserstein),
        `k_hat` (above .7 do not believe q), `steps` of each round (with `batch` those on the first
        draws, and the draws), `rested`, diffrax's `result`, `position`, the mean in the shape of
        `q0`, and `unravel`, which brings samples into that shape.

    Raises:
        ValueError: If `geometry` or `estimator` is unknown, `n`, `tol` or `max_steps` too small,
            the nodes not of q0's dimension or with mini-batches, q0 empty, or `batch` comes with
            what it does not go with.
        EquinoxRuntimeError: If q0 is singular or not finite; log_p or a derivative is not finite,
            overflows or is flat at nodes of q0; or q is not at rest, with the cause. A bad start
            is refused before the fit is compiled.

    Example:
        ```python
        def log_p(x):  # N((1, 2), I)
            return -0.5 * jnp.sum((x - jnp.array([1.0, 2.0])) ** 2)


        q, info = df.fit_gaussian(log_p, jnp.zeros(2), nodes=df.cubature(2), key=jr.key(0))
        print(q.mean, info.rested)  # [1.00 2.00] True
        ```

    References:
        Lambert et al., NeurIPS 2022; Khan & Rue, JMLR 2023; Roeder et al., 2017; Vehtari et al.,
        2024, for k-hat.
    """
    if geometry not in GEOMETRIES:
        names = " or ".join(f'"{name}"' for name in GEOMETRIES)
        raise ValueError(f"fit_gaussian: `geometry` is {geometry!r}; give {names}.")
    check_counts("fit_gaussian", {"max_steps": max_steps})
    q0, like, target = problem("fit_gaussian", log_p, q0, estimator)
    dim = sum(map(np.size, jax.tree.leaves(like)))
    rank = _check_rank(q0, rank, dim, geometry, estimator, solver)
    _check_batch(nodes, batch, geometry, solver, stepsize_controller)
    full = rank == 0 and not (isinstance(q0, Gaussian) and q0.diagonal)
    if n is None:
        least = _NODES if batch is None else _NODES // 4
        n = max(least, 2 * dim) if full else least
    if n < FEWEST_DRAWS:
        words = f"`n` makes {n} draws to judge by; pass {FEWEST_DRAWS} or more."
        raise ValueError(f"fit_gaussian: {words}")
    if tol is None:
        tol = _TOLERANCE[bits(q0)] if batch is None else _TOLERANCE_OF_BATCHES
    check_positive("fit_gaussian", tol=tol)
    way = GEOMETRIES[geometry]._replace(max_steps=max_steps)
    if solver is not None:
        way = way._replace(solvers=(solver,))
    if stepsize_controller is not None:
        if not way.solvers:
            words = "`stepsize_controller` is for a solver of the flow; pass one, diffrax.Tsit5()"
            raise ValueError(f"fit_gaussian: {words} for instance, or leave it out.")
        way = way._replace(stepsize_controller=stepsize_controller)
    least = (4 * dim if full else 16 * rank) if batch is None else 0
    source = nodes if batch is None else Draws(as_partial(batch), -(-n // 2), dim + rank)
    # A program of its own, which takes a second: a bad start need not wait for the long one.
    start, source, fresh, key = _begin(target, q0, rank, source, n, least, key)
    tol = jnp.asarray(tol, start.mean.dtype)
    return _fit(
        target, unraveller(like), start, source, fresh, tol, way, nodes is not None, throw, key
    )


def problem(
    caller: str, log_p: LogDensity, q0: Any, estimator: str = "stein"
) -> tuple[Any, PyTree, Target]:
    """The start as floats, what one sample is like, and the target as a function of a vector."""
    if not jax.tree.leaves(q0):
        raise ValueError(f"{caller}: `q0` is {q0!r}, without parameters; pass where to start.")
    q0 = like = jax.tree.map(as_float, q0)
    if isinstance(q0, Mixture):
        like = jnp.zeros_like(q0.means[0])
    elif isinstance(q0, Gaussian | LowRankGaussian):
        like = q0.mean
    flat = Partial(_of_flat, as_partial(log_p), unraveller(like))
    return q0, like, Target(caller, flat, None, estimator)


def _check_rank(
    q0: Any, rank: int | None, dim: int, geometry: str, estimator: str, solver: Any
) -> int:
    """The rank of the covariance that is fitted, 0 for a full or a diagonal one."""
    caller = "fit_gaussian"
    check_counts(caller, {"rank": rank})
    if isinstance(q0, LowRankGaussian):
        own = q0.factor.shape[1]
        if rank not in (None, own):
            words = f"`rank` is {rank}, and `q0` has rank {own}; leave one out."
            raise ValueError(f"{caller}: {words}")
        rank = own
    if rank is None:
        if dim > _MOST_FULL and not (isinstance(q0, Gaussian) and q0.diagonal):
            words = f"{dim:,} parameters have a covariance of {8e-9 * dim**2:.1f} GB in float64"
            better = "pass rank=20, say, or a `Gaussian` of a vector scale (mean field)"
            raise ValueError(f"{caller}: {words}, and a step takes dim^3; {better}.")
        return 0
    check_rank(caller, rank, dim)
    if isinstance(q0, Gaussian) and not q0.diagonal:
        words = (
            "`rank` comes with a `q0` of a full scale; pass parameters, a `Gaussian` of a vector"
        )
        raise ValueError(f"{caller}: {words} scale, or a `LowRankGaussian`.")
    if geometry != "fisher_rao" or estimator != "stein" or solver is not None:
        words = 'a rank is for geometry="fisher_rao", estimator="stein" and its own solver'
        raise ValueError(f"{caller}: {words}; leave them out, or the rank.")
    return rank


def _check_batch(
    nodes: Nodes | None, batch: Any, geometry: str, solver: Any, stepsize_controller: Any
) -> None:
    """Refuses mini-batches that a fit would see again and again, and what goes with no draws."""
    if nodes is not None and nodes.batches is not None:
        words = "`nodes` have mini-batches, to which a fit would adapt; pass `batch`, which draws"
        raise ValueError(f"fit_gaussian: {words} them anew for each step.")
    options = {"nodes": nodes, "solver": solver, "stepsize_controller": stepsize_controller}
    given = [f"`{name}`" for name, value in options.items() if value is not None]
    if geometry != "fisher_rao":
        given.append(f'geometry="{geometry}"')
    if batch is not None and given:
        words = f"`batch` draws nodes for steps of its own and does not go with {given[0]}"
        raise ValueError(f"fit_gaussian: {words}; leave one out.")


@eqx.filter_jit
def _begin(
    target: Target,
    q0: Law | PyTree,
    rank: int,
    source: Nodes | Draws | None,
    n: int,
    least: int,
    key: PRNGKeyArray,
) -> tuple[Law, list[Nodes] | Draws, Nodes, PRNGKeyArray]:
    """Makes the first law and all nodes, and refuses a start from which no flow can go."""
    first_key, fresh_key, key = jr.split(key, 3)
    law = first_law(q0, rank, first_key)
    if isinstance(source, Draws):
        first, fresh = source(first_key), source(fresh_key)
        return check_start(target, law, first, fresh), source, fresh, key
    dim = latent_size(law)
    if source is None:
        last, fresh = rules_of(n, dim, first_key, fresh_key)
        rounds = rounds_of(last, least)
    else:
        rounds, fresh = [source], standard_nodes(n, dim, key=fresh_key)
    return check_start(target, law, rounds[0], fresh), rounds, fresh, key


def first_law(q0: Law | PyTree, rank: int, key: PRNGKeyArray) -> Law:
    """The law around parameters, of the rank that is asked for; laws stay as they are."""
    if not isinstance(q0, Gaussian | LowRankGaussian):
        flat, _ = ravel_pytree(q0)
        ones = jnp.ones_like(flat)
        q0 = Gaussian(flat, ones if rank else jnp.diag(ones))
    if rank and isinstance(q0, Gaussian):
        frame = jnp.linalg.qr(jr.normal(key, (q0.mean.size, rank), q0.mean.dtype))[0]
        q0 = LowRankGaussian(q0.mean, q0.scale[:, None] * frame, q0.scale)
    return q0


@eqx.filter_jit
def _fit(
    target: Target,
    unravel: Function,
    start: Law,
    source: list[Nodes] | Draws,
    fresh: Nodes,
    tol: Scalar,
    way: Geometry,
    given: bool,
    throw: bool,
    key: PRNGKeyArray,
) -> tuple[Law, FitInfo]:
    """Goes through the rounds and judges the end, all in one program."""
    if isinstance(source, Draws):
        q, result, steps, found = fit_on_draws(target, source, tol, way, start, key)
        left, k_hat = found.gap, jnp.full_like(found.gap, jnp.inf)
    else:
        suit = partial(suited, given=given)
        rounds, others = [suit(nodes, start) for nodes in source], suit(fresh, start)
        settle = partial(settle_on, target, None if given else others, tol, way)
        q, result, steps, left = fit_in_rounds(target, settle, rounds, others, tol, start)
        found = judge(target, q, fresh.weights.size, key)
        k_hat = pareto_k(found.log_weights, found.rounding)
    far = is_far(start, q)
    if isinstance(source, Draws):
        most = tol
    else:
        # Nodes of a user's own may be few.
        most = jnp.full_like(tol, jnp.inf) if given else most_allowed(tol)
    rested = has_rested(far, result, left, found, tol, most)
    jumped = result == RESULTS.max_steps_rejected
    worst = jnp.where(jumped, jnp.maximum(found.gap, left), found.gap)
    report = (found.elbo, found.elbo_error, worst, found.gradient_norm, k_hat, steps)
    info = FitInfo(*report, rested, result, unravel(q.mean), unravel)
    return raise_unless_rested(far, q, rested, result, left, found) if throw else q, info


def rules_of(n: int, dim: int, *keys: PRNGKeyArray) -> tuple[Nodes, ...]:
    """Makes a rule for each key, all in one program."""
    rules = jax.vmap(lambda key: standard_nodes(n, dim, key=key))(jnp.stack(keys))
    return tuple(jax.tree.map(operator.itemgetter(i), rules) for i in range(len(keys)))


def rounds_of(last: Nodes, least: int) -> list[Nodes]:
    """Makes rounds of more and more nodes: most of the way is cheap, and only the end is exact."""
    n, dim = last.points.shape
    few = n // 16
    middle = [few_of(last, few)] if few >= max(_FEWEST, least) else []
    return [*([cubature(dim)] if 2 * dim <= n else []), *middle, last]


def _of_flat(log_p: LogDensity, unravel: Function, flat: Vector, *batch: PyTree) -> Any:
    """Evaluates a target of a pytree at a vector; `Target` checks the result."""
    return log_p(unravel(flat), *batch)


def unraveller(like: PyTree) -> Function:
    """Undoes `ravel_pytree`; it holds no arrays, so that it is the same for a batch of fits."""
    leaves, structure = jax.tree.flatten(like)
    kinds = tuple((leaf.shape, leaf.dtype) for leaf in leaves)
    return Partial(Frozen(_unravel, (("structure", structure), ("kinds", kinds))))


def _unravel(vectors: Real[ArrayLike, "*axes dim"], *, structure: Any, kinds: Any) -> PyTree:
    """Splits the last axis into the leaves of a pytree, and keeps those in front of it."""
    vectors = as_float(vectors)
    sizes = [math.prod(shape) for shape, _ in kinds]
    if vectors.shape[-1] != sum(sizes):
        words = f"vectors of {sum(sizes)} numbers, and not of {vectors.shape[-1]}"
        raise ValueError(f"FitInfo.unravel: `vectors` must be {words}; pass samples of the fit.")
    parts = jnp.split(vectors, np.cumsum(sizes)[:-1], axis=-1)
    leaves = [
        part.reshape(*vectors.shape[:-1], *shape).astype(dtype)
        for part, (shape, dtype) in zip(parts, kinds, strict=True)
    ]
    return jax.tree.unflatten(structure, leaves)
