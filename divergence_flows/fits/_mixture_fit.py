r"""The best mixture for a log density, in one call: components are added where they gain most."""

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PRNGKeyArray, PyTree, Real

from .._checks import (
    check_clouds,
    check_counts,
    check_number,
    check_positive,
    described,
)
from .._types import Function, IntScalar, RowsLike, Scalar, ScalarLike, as_float
from ..flows._integrate import RESULTS, bits
from ..gaussians._expectations import Target
from ..gaussians._gaussian import Gaussian
from ..gaussians._low_rank import LowRankGaussian, check_rank
from ..gaussians._mixture import Mixture
from ..gaussians._nodes import Nodes, standard_nodes
from ._candidates import extended
from ._components import (
    Settled,
    elbo_and_gap,
    expected,
    in_use,
    known_of,
    settle_mixture,
    with_components,
)
from ._fit import first_law, problem, rules_of, unraveller
from ._judge import (
    LIKE,
    SETS,
    check_start,
    latent_size,
    mean_and_error,
    most_allowed,
    raise_no_rest,
    worst_of,
)
from ._pareto import FEWEST_DRAWS, pareto_k
from ._rounds import SHARE

_TOLERANCE = {16: 1e-1, 32: 1e-4, 64: 1e-6}
_NODES = 256
# Rounds before the last end at this gap, or after so many steps: what is added moves all again.
_LOOSE, _LOOSE_STEPS = 1e-2, 60
# Rounds with candidates after the one that has all k components: one may take another's place.
_AGAIN = 3
# Candidates of each kind, at least, and the fewest nodes on which they climb.
_CANDIDATES, _FEW = 24, 32
_NO_REST = (
    ": log_p is not finite at nodes of q. Transform bounded parameters to the line.",
    " after `max_steps` steps. Give more, or a larger `tol`.",
    ": no step is short enough, none gains, or fresh nodes see a gap of more than a nat. Give more "
    "nodes `n`, or a larger `tol`.",
)


class MixtureInfo(eqx.Module):
    """What `fit_mixture` reports, judged on nodes that neither fitted q nor ended the fit.

    `elbo` is unbiased, and `elbo_error` its standard error [nats]. `gap` is the ELBO that one more
    natural step of all components and weights would bring, 1/2 |gradient|^2 in Fisher's metric of
    (component, x), the largest over eight sets of `n` nodes (inf if NaN). Components that overlap
    may gain more in many steps. `k_hat` is that of draws of q. `eubo`, the average of log p - log q
    over samples of p, is at least log Z, up to its `eubo_error`; both are None without samples. No
    number shows a mode that neither nodes nor candidates met.

    `used` counts components of a weight above `tol`, `effective` is the exponential of the weights'
    entropy. `position` is the mean of q in the shape of `q0`, and `unravel` brings vectors into it,
    as in `FitInfo`.
    """

    elbo: Scalar
    elbo_error: Scalar
    eubo: Scalar | None
    eubo_error: Scalar | None
    gap: Scalar
    k_hat: Scalar
    used: Int[Array, ""]
    effective: Scalar
    steps: Int[Array, " rounds"]
    rested: Bool[Array, ""]
    result: Any
    position: PyTree
    unravel: Function


def fit_mixture(
    log_p: Callable[..., Scalar],
    k: int,
    q0: Gaussian | LowRankGaussian | Mixture | PyTree[Real[ArrayLike, "..."]],
    *,
    xs_p: RowsLike | PyTree[Real[ArrayLike, "..."]] = None,
    rank: int | None = None,
    nodes: Nodes | None = None,
    n: int | None = None,
    tol: ScalarLike | None = None,
    max_steps: int = 1000,
    throw: bool = True,
    key: PRNGKeyArray,
) -> tuple[Mixture, MixtureInfo]:
    r"""Minimises KL(q || p) over mixtures of at most k Gaussians, from one on.

    All components take natural-gradient steps by the score of the whole, so that they repel each
    other, and weights follow $E_j[\log p / q]$. In each round twice as many may be there:
    candidates are drawn around `q0` (1 to 30 times as wide), near q, and along the differences of
    its components; each climbs beside q, and those that raise the ELBO most are taken. Later rounds
    exchange components that others can replace.

    The stop is entropic. The ELBO holds the entropy of q, so that a component which only repeats
    others gains nothing. None is added that gains less than `tol`, and a round is undone unless it
    raises the ELBO on fresh nodes by more. Then `info.used` is below k: the other components have
    no weight.

    Args:
        log_p: As in `fit_gaussian`, without mini-batches [nats].
        k: Most components.
        q0: Where to start, as in `fit_gaussian`: its kind of scale, a matrix, a vector (diagonal
            components) or of low rank, is that of all. A scale like the distance of the modes helps
            to find them. A `Mixture` starts warm.
        xs_p: Samples of p, vectors or pytrees like `q0`, with one axis in front; for `eubo` alone.
        rank: Columns of factors W, for components of covariance W W^T + diag(s^2).
        nodes: Rule for the standard normal, used in each component, in place of `n` Sobol nodes.
        n: Nodes of each component, and of each set that judges; at least 25. By default 256, or 4
            dim if that is more and scales are matrices.
        tol: What is not worth a component, or a step [nats]: 1e-6 in float64, 1e-4 in float32. A
            larger one, .01 for instance, chooses their number.
        max_steps: Steps allowed in each of the last two rounds.
        throw: Whether a fit that has not come to rest raises.
        key: Key of nodes and candidates, those that judge included.

    Returns:
        The `Mixture`, over the ravelled parameters, and a `MixtureInfo`: `elbo` and its error,
        `gap`, `k_hat` (above .7 do not believe q), `eubo`, how many components are `used`,
        `rested`. It rests when the gap is below `tol` on its own nodes or, unless `nodes` are
        given, below a hundredth of that on fresh ones; or when steps lead nowhere and what is left
        is like that.

    Raises:
        ValueError: If `k`, `n`, `tol` or `max_steps` is too small, `q0` is empty or has more than k
            components, `nodes` are of another dimension or have mini-batches, `xs_p` are not like
            `q0`, or `rank` does not go with `q0`; if it is differentiated.
        EquinoxRuntimeError: If q0 is no start, as in `fit_gaussian`; `xs_p` are not finite; or q is
            not at rest.

    Example:
        ```python
        p = df.Mixture(jnp.zeros(2), jnp.array([[-4.0], [4.0]]), jnp.ones((2, 1)))
        q, info = df.fit_mixture(p.log_prob, 2, jnp.zeros(1), key=jr.key(0))
        print(jnp.sort(q.means[:, 0]), info.rested)  # [-4.00 4.00] True
        ```

    References:
        Lin, Khan & Schmidt, Fast and simple natural-gradient variational inference with mixture of
        exponential-family approximations, 2019; Arenz et al., A unified perspective on natural
        gradient variational inference with Gaussian mixture models, 2023; Miller et al.,
        Variational boosting, 2017; Blessing et al., Beyond ELBOs, 2024, for the EUBO.
    """
    caller = "fit_mixture"
    check_counts(caller, {"k": k, "rank": rank, "max_steps": max_steps})
    q0, like, target = problem(caller, log_p, q0)
    dim = sum(map(np.size, jax.tree.leaves(like)))
    rank, full = _check_kind(q0, rank, k, dim)
    if n is None:
        n = max(_NODES, 4 * dim) if full else _NODES
    check_number(caller, "n", n, n >= FEWEST_DRAWS, f"{FEWEST_DRAWS} or more, to judge by")
    if nodes is not None and nodes.batches is not None:
        raise ValueError(f"{caller}: `nodes` have mini-batches; pass nodes and a log_p without.")
    if tol is None:
        tol = _TOLERANCE[bits(q0)]
    check_positive(caller, tol=tol)
    given = nodes is not None
    few = max(_FEW, 4 * dim if full else 16 * rank)
    # A program of its own, which takes a second: a bad start need not wait for the long one.
    start, rules, key = _begin(target, q0, rank, nodes, n, few, key)
    xs_p = None if xs_p is None else _flat_samples(xs_p, like).astype(start.means.dtype)
    tol, most_steps = jnp.asarray(tol, start.means.dtype), jnp.asarray(max_steps)
    return _fit(target, unraveller(like), start, k, rules, xs_p, tol, most_steps, given, throw, key)


def _check_kind(q0: Any, rank: int | None, k: int, dim: int) -> tuple[int, bool]:
    """The rank of factors, 0 for none, and whether scales are matrices."""
    own = None
    if isinstance(q0, Mixture):
        if q0.means.ndim != 2 or len(q0.means) > k:
            words = f"`q0` has means of shape {q0.means.shape} and `k` is {k}"
            raise ValueError(f"fit_mixture: {words}; pass at most k components, of one time.")
        own = 0 if q0.factors is None else q0.factors.shape[-1]
        full = q0.scales.ndim == 3
    elif isinstance(q0, LowRankGaussian):
        own, full = q0.factor.shape[1], False
    else:
        full = not (isinstance(q0, Gaussian) and q0.diagonal)
    square = isinstance(q0, Gaussian) and not q0.diagonal
    if rank is not None and (square or own not in (None, rank)):
        words = f"`rank` is {rank}, and `q0` has {dim} dimensions and a scale of another kind"
        raise ValueError(f"fit_mixture: {words}; leave `rank` out, or pass parameters alone.")
    rank = rank or own or 0
    if rank:
        check_rank("fit_mixture", rank, dim)
    return rank, full and rank == 0


def _flat_samples(xs_p: PyTree, like: PyTree) -> Float[Array, "m dim"]:
    """Samples as rows, which must be like the parameters."""
    xs_p = jax.tree.map(as_float, xs_p)
    leaves, wanted = jax.tree.leaves(xs_p), [np.shape(leaf) for leaf in jax.tree.leaves(like)]
    alike = jax.tree.structure(xs_p) == jax.tree.structure(like)
    alike = alike and len({leaf.shape[:1] for leaf in leaves}) == 1
    if not alike or [leaf.shape[1:] for leaf in leaves] != wanted:
        words = f"`xs_p` is {described(xs_p)} and one sample is {described(like)}"
        raise ValueError(f"fit_mixture: {words}; pass samples like `q0`, one axis in front.")
    m = len(leaves[0])
    flat = jnp.concatenate([leaf.reshape(m, leaf.size // max(m, 1)) for leaf in leaves], axis=1)
    return check_clouds("fit_mixture", xs_p=flat)[0]


@eqx.filter_jit
def _begin(
    target: Target,
    q0: Any,
    rank: int,
    nodes: Nodes | None,
    n: int,
    few: int,
    key: PRNGKeyArray,
) -> tuple[Mixture, tuple[Nodes, Nodes, Nodes], PRNGKeyArray]:
    """Makes the first mixture and all nodes, and refuses a component that is no start."""
    own_key, fresh_key, few_key, key = jr.split(key, 4)
    if isinstance(q0, Mixture):
        logits, laws = q0.logits, q0.components
    else:
        law = first_law(q0, rank, own_key)
        logits = jnp.zeros(1, law.mean.dtype)
        laws = jax.tree.map(partial(jnp.expand_dims, axis=0), law)
    latent = latent_size(jax.tree.map(lambda leaf: leaf[0], laws))
    if nodes is None:
        nodes, fresh = rules_of(n, latent, own_key, fresh_key)
    else:
        fresh = standard_nodes(n, latent, key=fresh_key)
    rules = nodes, fresh, standard_nodes(few, latent, key=few_key)
    checked = jax.vmap(lambda law: check_start(target, law, nodes, fresh))(laws)
    return with_components(logits, checked), rules, key


@eqx.filter_jit
def _fit(
    target: Target,
    unravel: Function,
    start: Mixture,
    k: int,
    rules: tuple[Nodes, Nodes, Nodes],
    xs_p: Float[Array, "m dim"] | None,
    tol: Scalar,
    max_steps: IntScalar,
    given: bool,
    throw: bool,
    key: PRNGKeyArray,
) -> tuple[Mixture, MixtureInfo]:
    """Goes through the rounds and judges the end, all in one program."""
    rounds_key, judge_key, draw_key = jr.split(key, 3)
    end, steps = _in_rounds(target, start, k, rules, tol, max_steps, given, rounds_key)
    q, n = end.q, rules[1].weights.size
    latent = latent_size(jax.tree.map(lambda leaf: leaf[0], q.components))

    def judged(key: PRNGKeyArray) -> tuple[Scalar, Scalar]:
        """The ELBO and the gap on one set of fresh nodes."""
        return elbo_and_gap(q, known_of(target, standard_nodes(n, latent, key=key), q))

    elbos, gaps = jax.lax.map(judged, jr.split(judge_key, SETS))
    elbo, elbo_error = mean_and_error(elbos)
    gap = worst_of(gaps)
    # Steps that lead nowhere end at rest if what is left is like the error of the nodes.
    idle = end.result == RESULTS.max_steps_rejected
    rested = (end.result == RESULTS.event_occurred) | (
        idle & (end.gap <= jnp.minimum(LIKE * gap, 1))
    )
    finite = jnp.isfinite(elbo) & jnp.isfinite(end.gap) & (gap < jnp.inf)
    # Nodes of a user's own may be few.
    rested = rested & finite & (given | (gap <= most_allowed(tol)))

    def ratio(x: Float[Array, " dim"]) -> tuple[Scalar, Scalar]:
        """The log ratio, and how large the logs are of which it is made."""
        log_p, log_q = target(x, None), q.log_prob(x)
        return log_p - log_q, jnp.maximum(jnp.abs(log_p), jnp.abs(log_q))

    weights, sizes = jax.vmap(ratio)(q.sample(draw_key, (SETS * n,)))
    k_hat = pareto_k(weights, jnp.finfo(weights.dtype).eps * sizes)
    eubo, eubo_error = (None, None) if xs_p is None else mean_and_error(jax.vmap(ratio)(xs_p)[0])
    entropy = expected(q.weights, -q.log_weights)
    info = MixtureInfo(
        elbo=elbo,
        elbo_error=elbo_error,
        eubo=eubo,
        eubo_error=eubo_error,
        gap=jnp.where(idle, jnp.maximum(gap, end.gap), gap),
        k_hat=k_hat,
        used=jnp.sum(q.weights > tol),
        effective=jnp.exp(entropy),
        steps=steps,
        rested=rested,
        result=end.result,
        position=unravel(q.weights @ q.means),
        unravel=unravel,
    )
    if throw:
        causes = ~finite, end.result == RESULTS.max_steps_reached, jnp.ones((), bool)
        q = raise_no_rest(target.caller, q, rested, _NO_REST, causes)
    return _without_derivative(q), info


@jax.custom_jvp
def _without_derivative(q: Mixture) -> Mixture:
    """The mixture, whose derivatives are refused."""
    return q


def _refused(primals: tuple[Mixture], tangents: tuple[Mixture]) -> tuple[Mixture, Mixture]:
    """Refuses derivatives that are not zero by structure."""
    if not all(isinstance(one, SymbolicZero) for one in jax.tree.leaves(tangents)):
        words = "which components are chosen jumps, so that a fit has no derivative"
        better = "differentiate an ELBO of its result, with `stl_loss` for one"
        raise ValueError(f"fit_mixture: {words}; {better}, or use `jax.lax.stop_gradient`.")
    return primals[0], tangents[0]


_without_derivative.defjvp(_refused, symbolic_zeros=True)


def _in_rounds(
    target: Target,
    start: Mixture,
    k: int,
    rules: tuple[Nodes, Nodes, Nodes],
    tol: Scalar,
    max_steps: IntScalar,
    given: bool,
    key: PRNGKeyArray,
) -> tuple[Settled, Int[Array, " rounds"]]:
    """Steps, then candidates and steps, and at last steps to the end: one program for all."""
    nodes, fresh, few = rules
    begin, dtype = len(start.means), start.means.dtype
    heaviest = jax.tree.map(lambda leaf: leaf[jnp.argmax(start.logits)], start.components)

    def padded(leaf: Array, law: Array) -> Array:
        more = jnp.broadcast_to(law, (k - begin, *law.shape))
        return jnp.concatenate([leaf, more])

    components = jax.tree.map(padded, start.components, heaviest)
    none = jnp.full(k - begin, -jnp.inf, dtype)
    q = with_components(jnp.concatenate([start.log_weights, none]), components)
    most = [begin]
    while most[-1] < k:
        most.append(min(k, 2 * most[-1]))
    # The last two rounds go to the end: the latter from what exchanges of the former's q gain.
    again = [k] * (_AGAIN if k > 1 else 0)
    most = np.asarray([*most, *again, *([0, k] if k > 1 else [0])])
    rounds = np.arange(len(most))
    final = rounds >= len(most) - (2 if k > 1 else 1)
    settle = partial(settle_mixture, target, nodes, fresh, 0.0 if given else SHARE)
    add = partial(extended, target, few, heaviest, max(_CANDIDATES, k), tol)

    def one(best: Settled, at: tuple) -> tuple[Settled, IntScalar]:
        """Adds components and settles; it is undone unless fresh nodes see a gain."""
        most, adds, keeps, goal, steps, key = at
        q = jax.lax.cond(adds, add, lambda *same: same[1], most, best.q, key)
        end = settle(goal, steps, q)
        fewer = jnp.sum(in_use(end.q)) < jnp.sum(in_use(best.q))
        better = keeps | (end.fresh_elbo > best.fresh_elbo + jnp.where(fewer, -tol, tol))
        return jax.tree.map(partial(jnp.where, better), end, best), end.steps

    adds = (rounds > 0) & (most > 0)
    goals = jnp.where(final, tol, jnp.maximum(tol, _LOOSE))
    allowed = jnp.where(final, max_steps, jnp.minimum(max_steps, _LOOSE_STEPS))
    places = most, adds, ~adds, goals, allowed, jr.split(key, len(most))
    zero = jnp.zeros((), dtype)
    first = Settled(q, zero, zero, RESULTS.max_steps_reached, jnp.zeros((), jnp.int32))
    return jax.lax.scan(one, first, jax.tree.map(jnp.asarray, places))
