r"""Natural-gradient steps as a solver: precisions decay exponentially towards $E[-\nabla^2\log p]$.

Along the Fisher-Rao flow $\dot P = -P - E[\nabla^2 \log p]$; with the expectation held, a time h
of it is $P_+ = (1 - \rho) P - \rho\,E[\nabla^2 \log p]$, $\rho = 1 - e^{-h}$. A Gaussian target is
reached in one long step. Where the flow ends does not depend on the path, so that a step is judged
by its use: whether what is left has decayed as it does on a Gaussian.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from .._types import BoolScalar, IntScalar, Scalar
from ..flows._integrate import (
    RESULTS,
    AbstractAdaptiveSolver,
    AbstractTerm,
    LocalLinearInterpolation,
    PIDController,
)
from ..gaussians._expectations import Found, Rule, Target, gap_of, moments
from ..gaussians._flows import natural_step
from ..gaussians._low_rank import Law

# A law and its moments, so that a step and the rule of rest share one evaluation of the target.
Known = tuple[Law, Found]
Progress = tuple[Scalar, IntScalar]  # the least gap so far, steps since then
# Steps aim at this difference between the decay that was made and that on a Gaussian; beyond 1 a
# step may lead away, and is made again, shorter.
AIM = 0.6
# e^-4: further steps would gain less than the error of the nodes takes.
_LONGEST = 4.0
# Where log_p has kinks, averages over nodes jump, and near rest no step is short enough: a gap
# that jumps in a step of this length ends the solve, as do steps of the second.
_SHORT, _NONE = 1e-3, 1e-5
# So does a gap that has not fallen by this factor in so many steps.
_LESS, _PATIENCE = 0.9, 100
BY_USE = PIDController(
    rtol=0.0,
    atol=1.0,
    safety=AIM,
    factormin=0.25,
    factormax=3.0,
    dtmin=_NONE,
    dtmax=_LONGEST,
    force_dtmin=False,
)


def is_finite(law: Any) -> BoolScalar:
    """Whether a step led to a law: all of its numbers are finite."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(law)]))


def first_step(gap: Scalar) -> Scalar:
    """Short where much is left to gain, so that the first nodes do not throw q far."""
    return 1 / (2 + jnp.sqrt(gap))


class NaturalSteps(AbstractAdaptiveSolver):
    """Steps of natural parameters, on states of a law and its moments."""

    term_structure: ClassVar = AbstractTerm
    interpolation_cls: ClassVar[Callable[..., Any]] = LocalLinearInterpolation

    def order(self, terms: Any) -> int:
        return 1

    def error_order(self, terms: Any) -> int:
        return 1

    def init(self, terms: Any, t0: Any, t1: Any, y0: Known, args: Any) -> Progress:
        return gap_of(*y0), jnp.zeros((), jnp.int32)

    def step(
        self,
        terms: Any,
        t0: Any,
        t1: Any,
        y0: Known,
        args: Any,
        solver_state: Progress,
        made_jump: Any,
    ) -> Any:
        """Moves the law, evaluates the target there, and compares the two gaps."""
        decay = jnp.exp(t0 - t1)
        q = natural_step(*y0, 1 - decay)
        y1 = q, terms.vf(t1, (q, y0[1]), args)[1]
        before, after = gap_of(*y0), gap_of(*y1)
        error = jnp.abs(jnp.sqrt(after / before) - decay)
        # A gap that grows is the flow's own way only if a short step shows it.
        error = jnp.where(after > before, error / AIM, error)
        jump = (error > 1) & (t1 - t0 < _SHORT) & jnp.isfinite(after)
        least, idle = solver_state
        less = after < _LESS * least
        progress = jnp.where(less, after, least), jnp.where(less, 0, idle + 1)
        stuck = jump | (progress[1] >= _PATIENCE)
        result = RESULTS.where(stuck, RESULTS.max_steps_rejected, RESULTS.successful)
        error = jax.tree.map(partial(jnp.full_like, fill_value=error), y0)
        return y1, error, {"y0": y0, "y1": y1}, progress, result

    def func(self, terms: Any, t0: Any, y0: Known, args: Any) -> Known:
        return terms.vf(t0, y0, args)


def moments_at(target: Target, nodes: Rule, t: Scalar, known: Known, args: Any) -> Known:
    """The field of these steps: the moments at a law; the law's own part is not used."""
    q, _ = known
    return jax.tree.map(jnp.zeros_like, q), moments(target, nodes, q)
