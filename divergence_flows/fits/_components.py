r"""Natural-gradient steps of all components of a mixture at once.

With $u = \log p - \log q$, q the mixture, a component moves by its own averages,
$P_+ = P - \rho\,E_j[\nabla^2 u]$ and $\mu_+ = \mu + \rho\,\Sigma_+ E_j[\nabla u]$, and log weights
at the Fisher-Rao rate $E_j[u]$. For weights alone a step of length 1 never lowers the ELBO, which
is 1-smooth relative to their entropy.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._types import BoolScalar, Function, IntScalar, Scalar
from ..flows._integrate import RESULTS
from ..gaussians._expectations import Found, Target, averages, gap_of
from ..gaussians._flows import natural_step
from ..gaussians._gaussian import Gaussian
from ..gaussians._low_rank import Law, LowRankGaussian, direction, frame, low_rank_averages
from ..gaussians._mixture import Mixture
from ..gaussians._nodes import Blocks, Nodes, replaced
from ._natural import AIM, is_finite

Each = Float[Array, " k"]
# So many numbers are held at once, where many components have many nodes.
_HELD = 1 << 22
# Steps begin with this share of the way to where a Gaussian target would lead.
_FIRST = 0.5
# A share grows or falls by these factors at most.
_MOST, _LEAST = 2.0, 0.25
# Fresh nodes are asked after so many steps how large the error of the nodes is.
_ASKED = 8
# Steps end where none is short enough, or where the gap has not fallen by a factor in so many.
_NONE, _LESS, _PATIENCE = 1e-6, 0.9, 60


class Known(NamedTuple):
    """What nodes say of each component of a mixture."""

    values: Each  # E_j[u]
    found: Found  # its moments
    gaps: Each  # half the squared gradient of E_j[u], in its own Fisher metric


class State(NamedTuple):
    """A mixture on its way."""

    q: Mixture
    known: Known
    shares: Each
    of_weights: Scalar  # the share of their step
    steps: IntScalar
    least: Scalar  # the least gap so far
    idle: IntScalar  # steps since then
    age: IntScalar  # steps since fresh nodes were asked
    fresh: tuple[Scalar, Scalar]  # the ELBO and the gap that they saw


class Settled(NamedTuple):
    """Where the steps ended."""

    q: Mixture
    gap: Scalar  # on its own nodes
    fresh_elbo: Scalar
    result: Any
    steps: IntScalar


def in_use(q: Mixture) -> Bool[Array, " k"]:
    """Which components have a weight."""
    return q.logits > -jnp.inf


def expected(weights: Each, values: Each) -> Scalar:
    """The average over components, without those of no weight."""
    return jnp.sum(jnp.where(weights > 0, weights * values, 0.0))


def with_components(logits: Each, components: Law) -> Mixture:
    """A mixture of a stack of components."""
    if isinstance(components, Gaussian):
        return Mixture(logits, components.mean, components.scale)
    return Mixture(logits, components.mean, components.scale, components.factor)


def component_moments(target: Target, nodes: Nodes, log_q: Function, own: Law) -> Known:
    """Averages over one component, of the log ratio to any density."""
    zs = nodes.points.astype(own.mean.dtype)
    weights = nodes.weights.astype(own.mean.dtype)
    xs = jax.vmap(own.push)(zs)
    log_p, scores = jax.vmap(lambda x: jax.value_and_grad(target)(x, None))(xs)
    log_qs, own_scores = jax.vmap(jax.value_and_grad(log_q))(xs)
    gs = scores - own_scores
    if isinstance(own, LowRankGaussian):
        at_zs = jax.vmap(own.score_of_push)(zs)
        found = direction(own, low_rank_averages(own, frame(own)[0], weights, at_zs, gs))
    else:
        found = averages(nodes, gs, own.diagonal)
    return Known(weights @ (log_p - log_qs), found, gap_of(own, found))


def over_components(function: Function, numbers: int, components: Any) -> Any:
    """Applies a function that holds so many numbers to each, to few of them at once."""
    k = len(jax.tree.leaves(components)[0])
    most = max(1, _HELD // numbers)
    size = max(size for size in range(1, k + 1) if k % size == 0 and size <= most)
    if size == k:
        return jax.vmap(function)(components)
    return jax.lax.map(function, components, batch_size=size)


def known_of(target: Target, nodes: Nodes, q: Mixture) -> Known:
    """What nodes say of each component."""
    one = partial(component_moments, target, nodes, q.log_prob)
    return over_components(one, nodes.points.size * q.logits.size, q.components)


def elbo_and_gap(q: Mixture, known: Known) -> tuple[Scalar, Scalar]:
    """The ELBO, and half its squared gradient in Fisher's metric of components and weights."""
    elbo = expected(q.weights, known.values)
    return elbo, expected(q.weights, known.gaps + 0.5 * (known.values - elbo) ** 2)


def settle_mixture(
    target: Target,
    nodes: Nodes,
    fresh: Nodes,
    floor: float,
    tol: Scalar,
    max_steps: IntScalar,
    q: Mixture,
) -> Settled:
    """Steps until the gap is below `tol`, or below that share of the gap on fresh nodes."""
    both, _ = Blocks.of([nodes, fresh], max(nodes.weights.size, fresh.weights.size))
    nothing = jax.eval_shape(partial(known_of, target, nodes), q)
    known = jax.tree.map(jnp.zeros_like, nothing)
    zero, none = jnp.zeros((), q.means.dtype), jnp.zeros((), jnp.int32)
    shares = jnp.full_like(known.values, _FIRST)
    # The first of all evaluations is a step of no length.
    start = State(q, known, shares, zero + _FIRST, none - 1, zero, none, none + 1, (zero, zero))

    def rests(state: State) -> BoolScalar:
        least = jnp.maximum(tol, floor * state.fresh[1])
        return elbo_and_gap(state.q, state.known)[1] <= least

    def ended(state: State) -> BoolScalar:
        idle = (state.idle >= _PATIENCE) | (jnp.max(state.shares) < _NONE)
        return (state.steps >= 0) & (rests(state) | idle | (state.steps >= max_steps))

    def step(state: State) -> State:
        """Moves, or asks the fresh nodes: both are one program."""
        ask = ended(state) | (state.age >= _ASKED)
        made, moved = _moved(state)
        made = jax.tree.map(partial(jnp.where, ask), state.q, made)
        points, weights = (jnp.where(ask, two[1], two[0]) for two in (both.points, both.weights))
        used = replaced(replaced(nodes, "points", points), "weights", weights)
        after = known_of(target, used, made)
        asked = state._replace(age=jnp.zeros_like(state.age), fresh=elbo_and_gap(made, after))
        stepped = _judged(state, made, after, moved)
        return jax.tree.map(partial(jnp.where, ask), asked, stepped)

    end = jax.lax.while_loop(lambda state: ~ended(state) | (state.age > 0), step, start)
    short = RESULTS.where(
        end.steps < max_steps, RESULTS.max_steps_rejected, RESULTS.max_steps_reached
    )
    result = RESULTS.where(rests(end), RESULTS.event_occurred, short)
    return Settled(end.q, elbo_and_gap(end.q, end.known)[1], end.fresh[0], result, end.steps)


def _moved(state: State) -> tuple[Mixture, Bool[Array, " k"]]:
    """Where a step leads, and which components have a precision there."""
    q, known = state.q, state.known
    moved = jax.vmap(natural_step)(q.components, known.found, state.shares)
    good = jax.vmap(is_finite)(moved)
    spread = known.values - expected(q.weights, known.values)
    logits = jnp.where(in_use(q), q.logits + state.of_weights * spread, -jnp.inf)
    components = choose(good & in_use(q), moved, q.components)
    return with_components(logits - jax.nn.logsumexp(logits), components), good


def _judged(state: State, made: Mixture, after: Known, moved: Bool[Array, " k"]) -> State:
    """Takes a step, unless the ELBO fell and the gap rose, and says how long the next may be."""
    q, known = state.q, state.known
    (elbo, gap), (new_elbo, new_gap) = elbo_and_gap(q, known), elbo_and_gap(made, after)
    first = state.steps < 0
    good = (new_elbo > elbo) | (new_gap < gap) | first
    good = good & jnp.isfinite(new_elbo + new_gap)
    error = jnp.abs(jnp.sqrt(after.gaps / known.gaps) - (1 - state.shares)) / AIM
    factor = jnp.clip(1 / error, _LEAST, _MOST)
    factor = jnp.where(jnp.isnan(factor), _MOST, factor)  # of a component without a gap
    factor = jnp.where(first, 1.0, jnp.where(good & moved, factor, _LEAST))
    of_weights = state.of_weights * jnp.where(first, 1.0, jnp.where(good, _MOST, 0.5))
    less = good & ((new_gap < _LESS * state.least) | first)
    made, after = jax.tree.map(partial(jnp.where, good | first), (made, after), (q, known))
    return State(
        q=made,
        known=after,
        shares=jnp.minimum(state.shares * factor, 1.0),
        of_weights=jnp.minimum(of_weights, 1.0),
        steps=state.steps + 1,
        least=jnp.where(less, new_gap, state.least),
        idle=jnp.where(less, 0, state.idle + 1),
        age=state.age + 1,
        fresh=state.fresh,
    )


def choose(take: Bool[Array, " k"], one: Any, other: Any) -> Any:
    """For each component of two stacks one of both."""
    pick = jax.vmap(jnp.where)
    return jax.tree.map(lambda a, b: pick(take, a, b), one, other)
