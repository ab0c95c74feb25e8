r"""Following a flow of Gaussians until it rests, with steps and rest measured in q's own units."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float, Int, PyTree

from ._flow import (
    AbstractSolver,
    AbstractStepSizeController,
    Bosh3,
    Kvaerno3,
    PIDController,
    Tsit5,
    settle,
)
from ._gaussian import Gaussian
from ._gaussian_flow import fisher_rao_field, gaussian_field
from ._gaussian_moments import Moments, moments
from ._nodes import Nodes
from ._states import root_mean_square
from ._types import Field, Scalar, ScalarLike

# Bosh3's stability function vanishes at -1.596: a step of that length ends every mode of rate 1,
# and near its rest all modes of the Fisher-Rao flow have that rate, on a Gaussian target exactly.
_LONGEST = 1.596
# A loose one suffices: where the flow ends does not depend on the path.
_LOCAL = 0.1
# Beyond this ratio of curvatures an explicit solver of the Bures-Wasserstein flow is slower.
_STIFF = 30.0
FIELDS = {"fisher_rao": fisher_rao_field, "bures": gaussian_field}


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


def gap(q: Gaussian, moments_of_q: Moments) -> Scalar:
    r"""Half the squared gradient of the ELBO in Fisher's metric.

    Near the optimum it is the ELBO still to gain: the KL divergence from q to q after a Newton
    step, $\tfrac12 |S^T E[g]|^2 + \tfrac14 |\mathrm{sym}(S^T G)|^2$.

    Args:
        q: The Gaussian.
        moments_of_q: E[g] and G at q.

    Returns:
        The gap [nats].
    """
    rate, product = moments_of_q
    if q.diagonal:
        return 0.5 * jnp.sum((q.scale * rate) ** 2) + 0.25 * jnp.sum((q.scale * product) ** 2)
    half = q.scale.T @ product
    return 0.5 * jnp.sum((q.scale.T @ rate) ** 2) + jnp.sum((half + half.T) ** 2) / 16


def follow(
    log_p: Callable[..., Scalar],
    q: Gaussian,
    nodes: Nodes,
    fresh: Nodes,
    tol: Scalar,
    *,
    geometry: str,
    estimator: str,
    solver: AbstractSolver | None,
    stepsize_controller: AbstractStepSizeController | None,
    max_steps: int,
    share: float,
) -> tuple[Gaussian, Any, Int[Array, ""]]:
    """Settles one flow on one set of nodes.

    Args:
        log_p: Log density of the target, of a flat vector.
        q: Where to start.
        nodes: The flow's nodes.
        fresh: Others, that say whether going on is worth it.
        tol: Gap at which to rest [nats].
        geometry: A key of `FIELDS`.
        estimator: "stein" or "price".
        solver: A diffrax solver or None.
        stepsize_controller: A diffrax controller or None.
        max_steps: Steps allowed.
        share: It also rests when its gap is this part of the fresh nodes'; 0 for never.

    Returns:
        The state where it ended, diffrax's result, and the number of steps.
    """
    field = FIELDS[geometry](log_p, nodes, estimator=estimator)
    own = moments("fit_gaussian", log_p, nodes, None, estimator)
    other = moments("fit_gaussian", log_p, fresh, None, estimator)
    rest = Partial(_rests, own, tol)
    if share:
        rest = Partial(_rests_or_fits, own, other, tol, jnp.asarray(share, q.mean.dtype))
    options: dict[str, Any] = {
        "rest": rest,
        "stepsize_controller": stepsize_controller,
        "max_steps": max_steps,
        "throw": False,
    }
    if geometry == "fisher_rao":
        speed = jnp.sqrt(gap(q, own(q)))
        options["dt0"] = _LONGEST / (1 + 10 * speed)
        if stepsize_controller is None:
            pid = PIDController(rtol=0.0, atol=_LOCAL, dtmax=_LONGEST)
            options["stepsize_controller"] = OwnUnits(pid)
        return _ended(settle(field, q, solver=Bosh3() if solver is None else solver, **options))
    if solver is not None:
        return _ended(settle(field, q, solver=solver, **options))
    ways = [Partial(_settle_bures, field, chosen, options) for chosen in (Tsit5(), Kvaerno3())]
    return jax.lax.cond(_is_stiff(q, own(q)), ways[1], ways[0], q)


def _settle_bures(
    field: Field, solver: AbstractSolver, options: dict[str, Any], q: Gaussian
) -> tuple[Gaussian, Any, Int[Array, ""]]:
    """Settles with one of the two solvers."""
    return _ended(settle(field, q, solver=solver, **options))


def _ended(solution: Any) -> tuple[Gaussian, Any, Int[Array, ""]]:
    """Takes a solution of one time apart."""
    last = jax.tree.map(_only, solution.ys)
    return last, solution.result, jnp.asarray(solution.stats["num_steps"])


def _only(leaf: Float[Array, "1 *shape"]) -> Float[Array, "*shape"]:
    """Drops the axis of a single time."""
    return leaf[0]


def _is_stiff(q: Gaussian, moments_of_q: Moments) -> Bool[Array, ""]:
    """Compares the largest and the smallest curvature of E[-hess log p] at q."""
    _, product = moments_of_q
    if q.diagonal:
        curvatures = jnp.abs(product / q.scale - 1 / q.scale**2)
        return jnp.max(curvatures) > _STIFF * jnp.min(curvatures)
    inverse = jnp.linalg.inv(q.scale)
    curvature = product @ inverse - inverse.T @ inverse
    curvatures = jnp.abs(jnp.linalg.eigvalsh((curvature + curvature.T) / 2))
    return jnp.max(curvatures) > _STIFF * jnp.min(curvatures)


def _rests(
    own: Callable[[Gaussian], Moments], tol: Scalar, t: ScalarLike, q: Gaussian, args: PyTree
) -> Bool[Array, ""]:
    """Tells whether nothing is left to gain on the nodes."""
    return gap(q, own(q)) < tol


def _rests_or_fits(
    own: Callable[[Gaussian], Moments],
    other: Callable[[Gaussian], Moments],
    tol: Scalar,
    share: ScalarLike,
    t: ScalarLike,
    q: Gaussian,
    args: PyTree,
) -> Bool[Array, ""]:
    """Tells whether nothing is left to gain on the nodes, or little beside their own error."""
    left = gap(q, own(q))
    # Far from rest the fresh nodes would say nothing new, so they are not asked.
    return jax.lax.cond(left < 1, Partial(_little, other, tol, share), _much, left, q)


def _little(
    other: Callable[[Gaussian], Moments],
    tol: Scalar,
    share: ScalarLike,
    left: Scalar,
    q: Gaussian,
) -> Bool[Array, ""]:
    """Compares what is left with the tolerance and with the fresh nodes' gap."""
    return (left < tol) | (left < share * gap(q, other(q)))


def _much(left: Scalar, q: Gaussian) -> Bool[Array, ""]:
    """Answers far from rest."""
    return jnp.zeros((), bool)
