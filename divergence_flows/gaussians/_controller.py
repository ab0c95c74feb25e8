"""Step sizes for a Gaussian, from errors in units of the Gaussian itself."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Int, PyTree

from .._types import Scalar
from ..flows._integrate import (
    RESULTS,
    AbstractStepSizeController,
    PIDController,
    root_mean_square,
)
from ._gaussian import Gaussian

# So near to rest, in own units, what a step moves may be as small as a jump of the field.
_NEAR = 0.1
# A kinked target lets the field jump; after so many steps over jumps without less speed, it rests.
_PATIENCE = 8
_SLOWER = 0.7


class Tries(NamedTuple):
    """What the controller remembers: a rejected step, the least speed, jumps since then."""

    inner: Any
    length: Scalar
    error: Scalar
    speed: Scalar
    jumps: Int[Array, ""]


class OwnUnits(AbstractStepSizeController):
    """Adapts steps to errors in units of the Gaussian itself, S^{-1} d mu and S^{-1} d S."""

    pid: PIDController

    def wrap(self, direction: Any) -> "OwnUnits":
        """Follows diffrax's protocol; nothing depends on the direction."""
        return self

    def init(self, *args: Any) -> Any:
        """Starts the inner controller."""
        end, inner = self.pid.init(*args)
        never = jnp.full((), jnp.inf, jnp.result_type(end))
        return end, Tries(inner, jnp.ones_like(never), never, never, jnp.zeros((), jnp.int32))

    def adapt_step_size(
        self,
        t0: Any,
        t1: Any,
        y0: Gaussian,
        y1_candidate: Gaussian,
        args: PyTree,
        y_error: Gaussian,
        error_order: Any,
        controller_state: Any,
    ) -> Any:
        """Lets the inner controller see the error in units of the state before the step."""
        last, length = controller_state, t1 - t0
        moved = root_mean_square(
            _in_units_of(y0, jax.tree.map(jnp.subtract, y1_candidate, y0))
        ).astype(length.dtype)
        error = _in_units_of(y0, y_error)
        size = root_mean_square(error).astype(length.dtype)
        jump = (size > last.error * (length / last.length) ** 2) & (moved < _NEAR)
        share = jnp.where(jump, 0, 1 / jnp.minimum(moved, 1)).astype(y0.mean.dtype)
        error = jax.tree.map(Partial(jnp.multiply, share), error)
        keep, start, end, made_jump, inner, result = self.pid.adapt_step_size(
            t0, t1, error, error, args, error, error_order, last.inner
        )
        slower = keep & (moved / length < _SLOWER * last.speed)
        jumps = jnp.where(slower, 0, last.jumps + jump)
        tries = Tries(
            inner,
            jnp.where(keep, 1, length),
            jnp.where(keep, jnp.inf, size),
            jnp.where(slower, moved / length, last.speed),
            jumps,
        )
        result = RESULTS.where(jumps >= _PATIENCE, RESULTS.max_steps_rejected, result)
        result = RESULTS.where(~keep & ~(end > start), RESULTS.dt_min_reached, result)
        return keep, start, end, made_jump, jax.lax.stop_gradient(tries), result


def _in_units_of(q: Gaussian, change: Gaussian) -> Gaussian:
    """Multiplies a change of q by S^{-1}."""
    if q.diagonal:
        return Gaussian(change.mean / q.scale, change.scale / q.scale)
    both = jnp.concatenate([change.mean[:, None], change.scale], axis=1)
    local = jnp.linalg.solve(q.scale, both)
    return Gaussian(local[:, 0], local[:, 1:])
