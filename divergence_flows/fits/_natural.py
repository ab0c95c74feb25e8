r"""Natural-gradient steps until rest: precisions decay exponentially towards $E[-\nabla^2\log p]$.

Along the Fisher-Rao flow $\dot P = -P - E[\nabla^2 \log p]$; with the expectation held, a time h
of it is $P_+ = (1 - \rho) P - \rho\,E[\nabla^2 \log p]$, $\rho = 1 - e^{-h}$. A Gaussian target is
reached in one long step. Where the flow ends does not depend on the path, so that a step is judged
by its use: whether what is left has decayed as it does on a Gaussian.
"""

from functools import partial
from typing import Any, NamedTuple

import equinox.internal as eqxi
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from .._types import BoolScalar, Function, IntScalar, Scalar
from ..flows._integrate import RESULTS
from ..gaussians._expectations import Found, Rule, Target, gap_of, moments
from ..gaussians._flows import natural_step
from ..gaussians._low_rank import Law

# q, diffrax's result, the number of steps and the gap that is left on the nodes.
Settled = tuple[Law, Any, Int[Array, ""], Scalar]
# Steps aim at this difference between the decay that was made and that on a Gaussian; beyond 1 a
# step may lead away, and is made again, shorter.
AIM = 0.6
_SHORTER, _LONGER = 0.25, 3.0
# e^-4: further steps would gain less than the error of the nodes takes.
_LONGEST = 4.0
# Where log_p has kinks, averages over nodes jump, and near rest no step is short enough: a gap of
# less than a nat that jumps in a step of this length ends the solve, as do steps of the second, in
# units of the first one's.
_SHORT, _NONE = 1e-3, 1e-5
# So does a gap that has not fallen by this factor in so many steps.
_LESS, _PATIENCE = 0.9, 100


class _State(NamedTuple):
    q: Law
    found: Found
    left: Scalar  # the gap at q
    length: Scalar  # of the next step, in time of the flow
    first: Scalar  # the gap at the start
    least: Scalar  # the least gap so far
    idle: IntScalar  # steps since then
    steps: IntScalar  # -1 before the start has been looked at
    result: Any


def is_finite(law: Any) -> BoolScalar:
    """Whether a step led to a law: all of its numbers are finite."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(law)]))


def first_step(gap: Scalar) -> Scalar:
    """Short where much is left to gain, so that the first nodes do not throw q far."""
    return 1 / (2 + jnp.sqrt(gap))


def natural_steps(
    target: Target, nodes: Rule, rests: Function, max_steps: int, start: Law
) -> Settled:
    """Steps until `rests(q, left, first)`, the gaps at q and at the start, or no step is left.

    The target is in the program once: the first turn only looks at the start.
    """
    shapes = jax.eval_shape(partial(moments, target, nodes), start)
    found = jax.tree.map(jnp.zeros_like, shapes)
    one, zero = jnp.ones_like(start.mean[0]), jnp.zeros((), jnp.result_type(int))
    state = _State(start, found, one, one, one, one, zero, zero - 1, RESULTS.successful)

    def turn(state: _State) -> _State:
        """Moves q and evaluates the target there; a step that leads away is not made."""
        looks = state.steps < 0
        decay = jnp.exp(-state.length)
        moved = jax.lax.cond(
            looks, lambda q, found, share: q, natural_step, state.q, state.found, 1 - decay
        )
        seen = moments(target, nodes, moved)
        left = jax.lax.stop_gradient(gap_of(moved, seen))
        error = jnp.abs(jnp.sqrt(left / state.left) - decay)
        # A gap that grows is the flow's own way only if a short step shows it.
        error = jnp.where(left > state.left, error / AIM, error)
        good = looks | (error < 1)
        longer = jnp.clip(AIM / error, jnp.where(good, 1, _SHORTER), _LONGER)
        length = state.length * jnp.where(jnp.isfinite(error), longer, _SHORTER)
        length = jnp.where(looks, first_step(left), jnp.minimum(length, _LONGEST))
        first = jnp.where(looks, left, state.first)
        less = looks | (good & (left < _LESS * state.least))
        least = jnp.where(less, left, state.least)
        idle = jnp.where(less, 0, state.idle + 1)
        shortest = _NONE * first_step(first)
        near = (state.left < 1) & (state.length < _SHORT)
        jump = ~looks & near & (error > 1) & jnp.isfinite(left)
        q, found, left = jax.tree.map(
            partial(jnp.where, good), (moved, seen, left), (state.q, state.found, state.left)
        )
        # A step that is not made changes nothing, and what it led to is no reason to rest.
        done = good & rests(q, jnp.where(good, left, jnp.inf), first)
        result = RESULTS.where(done, RESULTS.event_occurred, RESULTS.successful)
        result = RESULTS.where(~good & (length < shortest), RESULTS.dt_min_reached, result)
        stuck = jump | (~done & (idle >= _PATIENCE))
        result = RESULTS.where(stuck, RESULTS.max_steps_rejected, result)
        return _State(q, found, left, length, first, least, idle, state.steps + 1, result)

    def goes_on(state: _State) -> BoolScalar:
        return (state.result == RESULTS.successful) & (state.steps < max_steps)

    end = eqxi.while_loop(goes_on, turn, state, max_steps=max_steps + 1, kind="checkpointed")
    ended = end.result == RESULTS.successful
    result = RESULTS.where(ended, RESULTS.max_steps_reached, end.result)
    return end.q, result, end.steps, end.left
