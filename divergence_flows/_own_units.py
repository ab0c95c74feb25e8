"""Step sizes for a Gaussian, from errors in units of the Gaussian itself."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Int, PyTree

from ._flow import RESULTS, AbstractStepSizeController, PIDController
from ._gaussian import Gaussian
from ._states import root_mean_square
from ._types import Scalar

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
    """Adapts steps to errors in units of the Gaussian itself, S^{-1} d mu and S^{-1} d S.

    No entry of mu or S has a scale of its own, so steps chosen this way commute with affine maps.
    An error is measured against what the step moved, if that is less than 1: a fixed tolerance
    would let an explicit solver tremble around its rest, at the edge of stability, for ever.

    Where the field jumps, as averages over nodes do of a target with kinks, no step is short
    enough for that. An error that falls more slowly than the square of the length is a jump's,
    and the step is taken. When such steps do not make q slower any more, the solve ends with
    `RESULTS.max_steps_rejected`; when a rejected step has no length left, with `dt_min_reached`.
    """

    pid: PIDController

    def wrap(self, direction: Any) -> "OwnUnits":
        """Follows diffrax's protocol; nothing depends on the direction.

        Args:
            direction: 1 or -1.

        Returns:
            The controller itself.
        """
        return self

    def init(self, *args: Any) -> Any:
        """Starts the inner controller.

        Args:
            *args: As diffrax passes them, with a first step.

        Returns:
            The first step's end and the state.
        """
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
        """Lets the inner controller see the error in units of the state before the step.

        Args:
            t0: Start of the step.
            t1: Its end.
            y0: State before it.
            y1_candidate: State after it.
            args: The field's.
            y_error: Its estimated error.
            error_order: The solver's.
            controller_state: What is remembered.

        Returns:
            What the inner controller decides.
        """
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
