r"""The best Gaussian for a log density, in one call: a flow followed until it rests."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PRNGKeyArray, PyTree, Real

from ._flow import RESULTS, AbstractSolver, AbstractStepSizeController
from ._gaussian import Gaussian
from ._gaussian_moments import elbo, gap, log_weights, moments
from ._gaussian_rest import FIELDS, climb
from ._nodes import Nodes, cubature, replaced, sobol_nodes
from ._psis import FEWEST_DRAWS, pareto_k
from ._states import bits
from ._types import Scalar, ScalarLike, as_float, as_partial, check_counts, check_numbers

_TOLERANCE = {16: 1e-1, 32: 1e-5, 64: 1e-10}
# Random nodes have nothing more to say when their own gap is this part of what fresh ones see.
_SHARE = 1e-2
# A round between the cubature points and all nodes has at least so many.
_FEWEST = 64
_NO_START = (
    "fit_gaussian: `q0` has a singular scale or is not finite. Start from a scale of full rank, "
    "for instance the identity."
)
_NOT_FINITE = (
    "fit_gaussian: `log_p` or its gradient is not finite at nodes of `q0`. A Gaussian reaches "
    "everywhere: transform bounded parameters to the line, or start elsewhere."
)
_NO_REST = (
    "fit_gaussian: q is not at rest after `max_steps` steps, or the solve broke down. Give more "
    "steps or a larger `tol`, start elsewhere, or take throw=False and look at `info`. A target "
    "without a normaliser has no optimum to rest at."
)


class FitInfo(eqx.Module):
    """What `fit_gaussian` reports; all judged on nodes that the fit has not seen.

    `gap` is the ELBO that one more Newton step would bring, 1/2 |gradient|^2 in Fisher's metric:
    what is left to gain, or the error of the nodes, whichever is larger [nats].
    `k_hat` is never NaN: it is 0 where the largest weights are equal up to the rounding of log p,
    as at q = p, and +inf, which warns, where no k can be had or rounding hides it.
    """

    elbo: Scalar
    gap: Scalar
    gradient_norm: Scalar
    k_hat: Scalar
    steps: Int[Array, " rounds"]
    rested: Bool[Array, ""]
    result: Any
    position: PyTree


def fit_gaussian(
    log_p: Callable[..., Scalar],
    q0: Gaussian | PyTree[Real[ArrayLike, "..."]],
    *,
    geometry: str = "fisher_rao",
    estimator: str = "stein",
    nodes: Nodes | None = None,
    n: int = 1024,
    tol: ScalarLike | None = None,
    solver: AbstractSolver | None = None,
    stepsize_controller: AbstractStepSizeController | None = None,
    max_steps: int = 4096,
    throw: bool = True,
    key: PRNGKeyArray,
) -> tuple[Gaussian, FitInfo]:
    r"""Minimises KL(q || p) over Gaussians, following a flow until it rests.

    It rests when the gap, 1/2 |gradient|^2 in Fisher's metric, is below `tol` on the flow's nodes,
    or, unless the nodes were given, below a hundredth of what fresh nodes say: then only the
    nodes would be fitted better. It starts on few nodes, goes on with more from where they lead,
    if that is better than where it began, and ends when fresh nodes put the gap below `tol`.

    Args:
        log_p: Log density of the target, up to a constant, of a flat vector if `q0` is a
            `Gaussian`, else of a pytree like `q0` [nats].
        q0: Where to start: a `Gaussian` (a result starts the next fit warm; a vector `scale`
            makes the fit mean-field, which strong correlations slow down), or a pytree of
            parameters, taken as mean, with scale I.
        geometry: "fisher_rao", whose rate does not depend on the target's conditioning, or
            "bures".
        estimator: "stein" (gradients of log_p) or "price" (its Hessians too).
        nodes: Rule for the standard normal, with or without mini-batches; by default the 2 dim
            cubature points first, then Sobol nodes: n / 16, if that is enough for a round, and n.
        n: Number of the last, and of the fresh nodes that judge; at least 25. Raise it if
            `info.gap` is larger than you can accept. Mini-batches are judged on their own number.
        tol: Gap at which to rest [nats]; 1e-10 in float64, 1e-5 in float32.
        solver: A diffrax solver. By default Bosh3 for "fisher_rao"; for "bures" Kvaerno3 if the
            curvatures at `q0` differ by a factor beyond 30, else Tsit5.
        stepsize_controller: By default, for "fisher_rao", errors in units of q itself, which makes
            the whole fit commute with affine maps; for "bures" as in `integrate`.
        max_steps: Steps allowed in each round.
        throw: Whether a fit that has not come to rest raises.
        key: Key of the Sobol nodes, those that judge included.

    Returns:
        The Gaussian, over the ravelled parameters, and a `FitInfo`: `elbo` (it goes up), `gap`,
        `gradient_norm` (Bures-Wasserstein), `k_hat` (above .7 do not believe q), `steps` of each
        round, `rested`, diffrax's `result`, and `position`, the mean in the shape of `q0`.

    Raises:
        ValueError: If `geometry` or `estimator` is unknown, `n`, `tol` or `max_steps` too small,
            the nodes not of q0's dimension, or q0 empty.
        EquinoxRuntimeError: If q0 is singular or not finite, log_p or its gradient is not finite at
            nodes of q0, or q is not at rest after `max_steps`.

    References:
        Lambert et al., NeurIPS 2022; Khan & Rue, JMLR 2023; Roeder et al., 2017; Vehtari et al.,
        2024, for k-hat.
    """
    if geometry not in FIELDS:
        raise ValueError(f'fit_gaussian: `geometry` is {geometry!r}; give "fisher_rao" or "bures".')
    check_counts("fit_gaussian", {"max_steps": max_steps})
    name, judges = "n", n
    if nodes is not None and nodes.batches is not None:
        name, judges = "nodes", nodes.weights.size
    if judges < FEWEST_DRAWS:
        raise ValueError(
            f"fit_gaussian: `{name}` makes {judges} draws to judge by; pass {FEWEST_DRAWS} or more."
        )
    if tol is not None:
        good: Any = tol
        check_numbers("fit_gaussian", {"tol": (tol, good > 0, "a positive number")})
    if not jax.tree.leaves(q0):
        raise ValueError(f"fit_gaussian: `q0` is {q0!r}, without parameters; pass where to start.")
    options = {
        "geometry": geometry,
        "estimator": estimator,
        "solver": solver,
        "stepsize_controller": stepsize_controller,
        "max_steps": max_steps,
        "share": _SHARE if nodes is None else 0.0,
    }
    start = jax.tree.map(as_float, q0)
    tol = jnp.asarray(_TOLERANCE[bits(start)] if tol is None else tol, jnp.result_type(float))
    return _fit(as_partial(log_p), start, nodes, n, tol, options, throw, key)


@eqx.filter_jit
def _fit(
    log_p: Callable[..., Scalar],
    q0: Gaussian | PyTree,
    nodes: Nodes | None,
    n: int,
    tol: Scalar,
    options: dict[str, Any],
    throw: bool,
    key: PRNGKeyArray,
) -> tuple[Gaussian, FitInfo]:
    """Goes through the rounds and judges the end, all in one program."""
    template = q0.mean if isinstance(q0, Gaussian) else q0
    q = q0 if isinstance(q0, Gaussian) else _around(template)
    target = Partial(_of_flat, log_p, template)
    tol = tol.astype(q.mean.dtype)
    dim, (key, fresh_key) = q.mean.size, jr.split(key)
    batches = None if nodes is None else nodes.batches
    size = n if batches is None or nodes is None else nodes.weights.size
    fresh = sobol_nodes(size, dim, key=fresh_key)
    fresh = fresh if batches is None else replaced(fresh, "batches", batches)
    rounds = _ladder(n, dim, key) if nodes is None else [nodes]
    q = _checked(target, q, rounds[0], fresh, options["estimator"])
    q, result, steps = climb(target, q, rounds, fresh, tol, options)
    position = ravel_pytree(template)[1](q.mean)
    info = _judged(target, q, fresh, options["estimator"], steps, result, position)
    return eqx.error_if(q, ~info.rested, _NO_REST) if throw else q, info


def _checked(
    log_p: Callable[..., Scalar], q: Gaussian, nodes: Nodes, fresh: Nodes, estimator: str
) -> Gaussian:
    """Refuses a start at which the target is no number."""
    first = gap(q, moments("fit_gaussian", log_p, nodes, None, estimator)(q))
    singular = ~(jnp.all(jnp.isfinite(q.mean)) & jnp.isfinite(q.log_det()))
    wrong = jnp.stack([singular, ~jnp.isfinite(first + elbo(log_p, fresh, q))])
    return eqx.branched_error_if(q, jnp.any(wrong), jnp.argmax(wrong), (_NO_START, _NOT_FINITE))


def _judged(
    log_p: Callable[..., Scalar],
    q: Gaussian,
    fresh: Nodes,
    estimator: str,
    steps: Int[Array, " rounds"],
    result: Any,
    position: PyTree,
) -> FitInfo:
    """Looks at the end with nodes that the fit has not seen."""
    judged = moments("fit_gaussian", log_p, fresh, None, estimator)(q)
    weights = log_weights(log_p, fresh, q)
    bound = fresh.weights.astype(weights.dtype) @ weights
    # The weights are differences, as exact as log p and log q are.
    log_q = jax.vmap(q.log_prob_of_push)(fresh.points.astype(weights.dtype))
    size = jnp.maximum(jnp.abs(log_q), jnp.abs(weights + log_q))
    return FitInfo(
        elbo=bound,
        gap=gap(q, judged),
        gradient_norm=jnp.sqrt(sum(jnp.sum(part**2) for part in judged)),
        k_hat=pareto_k(weights, jnp.finfo(size.dtype).eps * size),
        steps=steps,
        rested=(result == RESULTS.event_occurred) & jnp.isfinite(bound),
        result=result,
        position=position,
    )


def _ladder(n: int, dim: int, key: PRNGKeyArray) -> list[Nodes]:
    """Makes rounds of more and more nodes: most of the way is cheap, and only the end is exact."""
    counts = [n // 16, n] if n // 16 >= max(_FEWEST, 4 * dim) else [n]
    return [cubature(dim), *(sobol_nodes(count, dim, key=key) for count in counts)]


def _around(template: PyTree) -> Gaussian:
    """Makes a Gaussian of unit scale around a position."""
    flat, _ = ravel_pytree(template)
    return Gaussian(flat, jnp.eye(flat.size, dtype=flat.dtype))


def _of_flat(
    log_p: Callable[..., Scalar], template: PyTree, flat: Float[Array, " dim"], *batch: PyTree
) -> Any:
    """Evaluates a target of a pytree at a vector; `evaluate` says what is wrong with the result."""
    return log_p(ravel_pytree(template)[1](flat), *batch)
