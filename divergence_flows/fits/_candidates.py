r"""Where a component is worth adding: candidates all over, improved, weighed together and chosen.

A candidate c of weight $\epsilon$ climbs by natural steps of its own in
$q' = (1 - \epsilon) q + \epsilon c$: away from q, which repels it, and to a width that its entropy
keeps. What q would gain by it is then found on points where p is known already, and weights of
components that are held fixed are a concave problem.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float, Int, PRNGKeyArray

from .._types import BoolScalar, IntScalar, Scalar, Vector
from ..gaussians._expectations import Target
from ..gaussians._flows import natural_step
from ..gaussians._gaussian import Gaussian
from ..gaussians._low_rank import Law
from ..gaussians._mixture import Mixture
from ..gaussians._nodes import Nodes
from ._components import (
    component_moments,
    expected,
    in_use,
    over_components,
    with_components,
)
from ._judge import latent_size
from ._natural import is_finite

# Candidates start at mu + a S z + b (mu' - mu''), with a scale c S: so much of a, b and c for each
# of three kinds, about the start, a component of q, and along differences of its components.
_FAR = [(a, 0.0, a * c) for c in (0.1, 0.3, 1.0) for a in (1.0, 3.0, 10.0, 30.0)]
_NEAR = [(a, 0.0, c) for c in (1.0, 0.5, 2.0) for a in (0.0, 1.0, 2.0)]
_BETWEEN = [(1.0, b, c) for c in (1.0, 3.0, 0.5) for b in (0.3, 0.6, 1.0, 1.5)]
# A candidate makes so many steps, each of this share at most.
_STEPS, _SHARE = 16, 0.5
# Weights that a new component may get at first.
_EPSILONS = (0.4, 0.1, 0.02)
# Weights of all are improved so many times after each choice.
_SWEEPS = 3
# So many more than asked for are tried, as a part of them and at least.
_MORE, _LEAST_MORE = 4, 2
Values = Float[Array, "all m"]
Places = Int[Array, " places"]
Weights = Float[Array, " places"]


def candidates_of(q: Mixture, start: Law, count: int, key: PRNGKeyArray) -> Law:
    """Draws so many candidates of each kind."""
    kinds = [np.resize(kind, (count, 3)) for kind in (_FAR, _NEAR, _BETWEEN)]
    moves = jnp.asarray(np.concatenate(kinds), q.means.dtype)
    is_far = jnp.arange(3 * count) < count
    # One draw for all, since each takes a second to compile: z, and three components by weight.
    drawn = jr.normal(key, (3 * count, latent_size(start) + 3), q.means.dtype)
    below = jnp.cumsum(q.weights) < jax.scipy.special.ndtr(drawn[:, -3:, None])
    owners = jnp.minimum(jnp.sum(below, axis=-1), q.logits.size - 1)

    def one(move: Float[Array, "3"], far: BoolScalar, z: Vector, owners: Int[Array, "3"]) -> Law:
        """One candidate."""
        own, other, third = owners
        law = jax.tree.map(lambda a, b: jnp.where(far, a, b[own]), start, q.components)
        mean = law.push(move[0] * z) + move[1] * (q.means[other] - q.means[third])
        return about(law, mean, move[2])

    return jax.vmap(one)(moves, is_far, drawn[:, :-3], owners)


def about(law: Law, mean: Vector, by: Scalar) -> Law:
    """The law about another mean, and so many times as wide."""
    if isinstance(law, Gaussian):
        return Gaussian(mean, by * law.scale)
    return type(law)(mean, by * law.factor, by * law.scale)


def improved(target: Target, nodes: Nodes, q: Mixture, candidates: Law) -> Law:
    """Lets each candidate climb by itself, beside q."""
    weight = 1 / (1 + jnp.sum(in_use(q)).astype(q.means.dtype))

    def climb(law: Law) -> Law:
        """Steps, which are shorter after one that led to no precision."""

        def one(_: IntScalar, carry: tuple[Law, Scalar]) -> tuple[Law, Scalar]:
            law, share = carry
            _, found, gap = component_moments(target, nodes, Partial(_beside, q, weight, law), law)
            share = jnp.minimum(share, 1 / jnp.sqrt(2 * gap))
            made = natural_step(law, found, share)
            good = is_finite(made)
            law = jax.tree.map(partial(jnp.where, good), made, law)
            return law, jnp.where(good, _SHARE, 0.25 * share)

        begin = law, jnp.asarray(_SHARE, law.mean.dtype)
        return jax.lax.fori_loop(0, _STEPS, one, begin)[0]

    return over_components(climb, nodes.points.size * q.logits.size, candidates)


def _beside(q: Mixture, weight: Scalar, law: Law, x: Vector) -> Scalar:
    """The log density of a mixture of q and a law of that weight."""
    ours, own = q.log_prob(x), law.log_prob(x)
    return jnp.logaddexp(jnp.log1p(-weight) + ours, jnp.log(weight) + own)


class Pool(NamedTuple):
    """What is known at the points of all components that may be chosen, m of each."""

    log_p: Values
    log_parts: Float[Array, "all all m"]  # of each component, at points of all
    mass: Float[Array, " m"]

    @classmethod
    def of(cls, target: Target, nodes: Nodes, components: Law) -> "Pool":
        """Evaluates p and all components at all points."""
        dtype = components.mean.dtype
        zs = nodes.points.astype(dtype)
        xs = jax.vmap(lambda law: jax.vmap(law.push)(zs))(components)
        log_p = jax.vmap(jax.vmap(lambda x: target(x, None)))(xs)
        log_parts = jax.lax.map(lambda law: jax.vmap(jax.vmap(law.log_prob))(xs), components)
        return cls(log_p, log_parts, nodes.weights.astype(dtype))

    def at(self, places: Places) -> "Pool":
        """The pool of some components alone."""
        return Pool(self.log_p[places], self.log_parts[places][:, places], self.mass)

    def log_q(self, weights: Weights) -> Values:
        """The log density of a mixture of all."""
        return jax.nn.logsumexp(self.log_parts + jnp.log(weights)[:, None, None], axis=0)

    def values(self, log_q: Values) -> Weights:
        """The average log ratio over each component."""
        return (self.log_p - log_q) @ self.mass

    def elbo(self, weights: Weights) -> Scalar:
        """The ELBO of a mixture of all."""
        return expected(weights, self.values(self.log_q(weights)))

    def reweighed(self, weights: Weights) -> Weights:
        """Steps of length 1 at the Fisher-Rao rate."""

        def one(_: IntScalar, weights: Weights) -> Weights:
            values = jnp.where(weights > 0, self.values(self.log_q(weights)), 0.0)
            return jax.nn.softmax(jnp.log(weights) + values)

        return jax.lax.fori_loop(0, _SWEEPS, one, weights)


Chosen = tuple[Places, Weights, BoolScalar]


def extended(
    target: Target,
    nodes: Nodes,
    start: Law,
    count: int,
    least: Scalar,
    most: IntScalar,
    q: Mixture,
    key: PRNGKeyArray,
) -> Mixture:
    """Adds the components that gain most, and takes away those that others can replace.

    None is added that gains less than `least`, and none is kept of which the loss would be less.
    """
    drawn = candidates_of(q, start, count, key)
    climbed = improved(target, nodes, q, drawn)
    components = jax.tree.map(lambda *all: jnp.concatenate(all), q.components, drawn, climbed)
    pool = Pool.of(target, nodes, components)
    k = q.logits.size
    extra = max(_LEAST_MORE, k // _MORE)
    order = jnp.argsort(-q.weights)
    places = jnp.pad(order, (0, extra))
    weights = jnp.pad(q.weights[order], (0, extra))
    places, weights = _added(pool, places, weights, least, most + extra)
    weights = _thinned(pool.at(places), weights, least, most)
    best = jnp.argsort(-weights)[:k]
    chosen = jax.tree.map(lambda leaf: leaf[places[best]], components)
    return with_components(jnp.log(weights[best]), chosen)


def _added(
    pool: Pool, places: Places, weights: Weights, least: Scalar, most: IntScalar
) -> tuple[Places, Weights]:
    """Gives a place to one component after another: to that which gains most."""
    epsilons = jnp.asarray(_EPSILONS, weights.dtype)

    def with_one(used: Pool, log_q: Values, weights: Weights, new: tuple) -> Vector:
        """The ELBO with one more component, for each weight that it may get."""
        there, own, own_p, own_q = new

        def one(epsilon: Scalar) -> Scalar:
            less, more = jnp.log1p(-epsilon), jnp.log(epsilon)
            old = used.values(jnp.logaddexp(less + log_q, more + there))
            gained = (own_p - jnp.logaddexp(less + own_q, more + own)) @ pool.mass
            return (1 - epsilon) * expected(weights, old) + epsilon * gained

        return jax.vmap(one)(epsilons)

    def add(carry: Chosen) -> Chosen:
        """Adds the best candidate at its best weight, and weighs all anew."""
        places, weights, _ = carry
        used = pool.at(places)
        log_q = used.log_q(weights)
        # Of each candidate: its density and that of q at its points, its own at those of q.
        own_q = jax.nn.logsumexp(pool.log_parts[places] + jnp.log(weights)[:, None, None], axis=0)
        numbers = jnp.arange(len(pool.log_p))
        new = pool.log_parts[:, places], pool.log_parts[numbers, numbers], pool.log_p, own_q
        each = jax.lax.map(partial(with_one, used, log_q, weights), new)
        each = jnp.where(jnp.isfinite(each), each, -jnp.inf)
        best = jnp.argmax(each)
        number, epsilon = best // epsilons.size, epsilons[best % epsilons.size]
        free = jnp.argmin(weights)
        good = jnp.max(each) > expected(weights, used.values(log_q)) + least
        more = places.at[free].set(number)
        new = pool.at(more).reweighed(((1 - epsilon) * weights).at[free].set(epsilon))
        return jnp.where(good, more, places), jnp.where(good, new, weights), good

    def goes_on(carry: Chosen) -> BoolScalar:
        return carry[2] & (jnp.sum(carry[1] > 0) < most)

    return jax.lax.while_loop(goes_on, add, (places, weights, jnp.ones((), bool)))[:2]


def _thinned(pool: Pool, weights: Weights, least: Scalar, most: IntScalar) -> Weights:
    """Takes one component after another away: that which the others replace best."""

    def without(weights: Weights, number: IntScalar) -> Weights:
        """Weights when the others share that of one, each by how much it has of its points."""
        rest = weights.at[number].set(0.0)
        own = pool.log_parts[:, number] + jnp.log(rest)[:, None]
        return rest + weights[number] * (jax.nn.softmax(own, axis=0) @ pool.mass)

    def take(carry: tuple[Weights, BoolScalar]) -> tuple[Weights, BoolScalar]:
        """Takes the least one away, and weighs all anew."""
        weights, _ = carry
        each = jax.lax.map(lambda i: pool.elbo(without(weights, i)), jnp.arange(weights.size))
        each = jnp.where(weights > 0, each, -jnp.inf)
        best, many = jnp.argmax(each), jnp.sum(weights > 0)
        good = (many > most) | ((jnp.max(each) > pool.elbo(weights) - least) & (many > 1))
        fewer = pool.reweighed(without(weights, best))
        return jnp.where(good, fewer, weights), good

    start = weights, jnp.ones((), bool)
    return jax.lax.while_loop(lambda carry: carry[1], take, start)[0]
