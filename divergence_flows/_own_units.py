"""Step sizes for a Gaussian, from errors in units of the Gaussian itself."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import PyTree

from ._flow import AbstractStepSizeController, PIDController
from ._gaussian import Gaussian
from ._states import root_mean_square


class OwnUnits(AbstractStepSizeController):
    """Adapts steps to errors in units of the Gaussian itself, S^{-1} d mu and S^{-1} d S.

    No entry of mu or S has a scale of its own, so steps chosen this way commute with affine maps.
    An error is measured against what the step moved, if that is less than 1: a fixed tolerance
    would let an explicit solver tremble around its rest, at the edge of stability, for ever.
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
            The first step's end and the inner state.
        """
        return self.pid.init(*args)

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
            controller_state: The inner controller's.

        Returns:
            What the inner controller decides.
        """
        moved = _in_units_of(y0, jax.tree.map(jnp.subtract, y1_candidate, y0))
        share = 1 / jnp.minimum(root_mean_square(moved), 1)
        error = jax.tree.map(Partial(jnp.multiply, share), _in_units_of(y0, y_error))
        return self.pid.adapt_step_size(
            t0, t1, error, error, args, error, error_order, controller_state
        )


def _in_units_of(q: Gaussian, change: Gaussian) -> Gaussian:
    """Multiplies a change of q by S^{-1}."""
    if q.diagonal:
        return Gaussian(change.mean / q.scale, change.scale / q.scale)
    both = jnp.concatenate([change.mean[:, None], change.scale], axis=1)
    local = jnp.linalg.solve(q.scale, both)
    return Gaussian(local[:, 0], local[:, 1:])
