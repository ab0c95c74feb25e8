r"""Flows of one Gaussian: how a target's ratio moves its mean and its factor.

All need two expectations under q, $E[g]$ and $G = E[g z^T]$ with $g(x) = \nabla_x h(\log p/q)$. How
they are estimated is an *estimator*; what is done with them is a *geometry*, one function and one
row of `GEOMETRIES`. The choices are independent.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, ArrayLike, Int, PyTree, Real

from .._linalg import product, symmetric
from .._types import Field, Frozen, Function, Matrix, Scalar, ScalarFn, ScalarLike, Vector, as_float
from ..flows._integrate import (
    RESULTS,
    AbstractSolver,
    AbstractStepSizeController,
    Bosh3,
    Kvaerno3,
    PIDController,
    Tsit5,
    root_mean_square,
)
from ._expectations import Moments, Rule, Target, check_dimension, moments, rising
from ._gaussian import Gaussian
from ._nodes import Nodes

Pair = tuple[Real[ArrayLike, " dim"], Real[ArrayLike, "dim dim"]]
# Bosh3's stability function vanishes at -1.596: a step of that length ends every mode of rate 1,
# and near its rest all modes of the Fisher-Rao flow have that rate, on a Gaussian target exactly.
_LONGEST = 1.596
# A loose tolerance suffices: where the flow ends does not depend on the path.
_LOCAL = 0.1
# Nearer to rest than this, in units of q, a step may move q by no more than a jump of the field.
_NEAR = 0.1
# A kinked target lets the field jump; after so many jumps without a slower step, the flow rests.
_PATIENCE = 8
_SLOWER = 0.7


def gaussian_field(
    log_p: Callable[..., Scalar],
    nodes: Nodes,
    *,
    h: ScalarFn | None = None,
    estimator: str = "stein",
    triangular: bool = False,
) -> Field:
    r"""Bures-Wasserstein flow of `h` on (mu, S): $\dot\mu = E[g]$, $\dot S = E[g z^T]$.

    It is the gradient flow, among Gaussians, of the divergence whose h it is. The square factor
    moves horizontally, and an Euler step is Bures-Wasserstein gradient descent exactly,
    $\Sigma_+ = M \Sigma M$ with $M = I + \eta E[\nabla^2 h(\log p/q)]$.

    Args:
        log_p: Log density of the target at one point, `log_p(x)`, or `log_p(x, batch)` for nodes
            with mini-batches [nats]. Its constant matters for every h but the identity (and only
            changes the speed for powers of r).
        nodes: Rule for the standard normal. On cubature nodes the flow is exact for quadratics.
        h: Increasing function of the log ratio; the identity, KL(q||p), by default.
        estimator: "stein" (gradients of log_p) or "price" (its Hessians too).
        triangular: Whether a lower triangular factor stays so, under the same metric:
            $\dot S = S\,\mathrm{Low}(S^{-1} \dot\Sigma S^{-T})$, for the same flow of Sigma. Any
            other square factor moves so that Sigma does the same.

    Returns:
        `field(t, q, args)` of a `Gaussian`: the rates of its mean and scale, as a `Gaussian`. For
        a diagonal scale it is the mean-field flow. A singular scale has NaN rates.

    Raises:
        ValueError: If `estimator` is unknown; from the field, if the nodes are not of q's
            dimension or log_p returns no scalar.
        EquinoxRuntimeError: If `h` decreases where it is tried, at log ratios from -5 to 5.

    Example:
        ```python
        def log_p(x):  # N(2, 1)
            return -0.5 * jnp.sum((x - 2.0) ** 2)


        field = df.gaussian_field(log_p, df.cubature(1))
        q = df.integrate(field, df.Gaussian(jnp.zeros(1), jnp.eye(1)), [0.0, 1.0]).ys
        print(q.mean[-1])  # [1.264]
        ```

    References:
        Lambert et al., Variational inference via Wasserstein gradient flows, NeurIPS 2022; Yi &
        Liu, Bridging the gap between VI and WGF, 2023; theory.md, section 6.
    """
    target = Target("gaussian_field", log_p, h, estimator)
    return flow(target, rising(target, nodes), bures_motion, triangular)


def fisher_rao_field(
    log_p: Callable[..., Scalar],
    nodes: Nodes,
    *,
    h: ScalarFn | None = None,
    estimator: str = "stein",
    triangular: bool = False,
) -> Field:
    r"""Natural-gradient flow of `h` on (mu, S): $\dot\mu = \Sigma E[g]$.

    $\dot\Sigma = \Sigma E[\nabla^2 h(\log p/q)] \Sigma$, carried by
    $\dot S = \tfrac12 S\,\mathrm{sym}(S^T G)$. For KL the precision obeys
    $\dot\Lambda = -\Lambda - E[\nabla^2 \log p]$: on a Gaussian target every direction converges
    at rate 1, whatever its scale, and the flow commutes with affine maps.

    Args:
        log_p: As in `gaussian_field`.
        nodes: As in `gaussian_field`.
        h: As in `gaussian_field`.
        estimator: As in `gaussian_field`.
        triangular: Whether a lower triangular factor stays so; the flow of Sigma is the same.

    Returns:
        `field(t, q, args)` of a `Gaussian`, as in `gaussian_field`.

    Raises:
        ValueError: As `gaussian_field`, with its other errors.

    References:
        Amari, Natural gradient works efficiently in learning, 1998; Khan & Rue, The Bayesian
        learning rule, JMLR 2023.
    """
    target = Target("fisher_rao_field", log_p, h, estimator)
    return flow(target, rising(target, nodes), fisher_rao_motion, triangular)


def bures_field(
    log_p: Callable[..., Scalar],
    nodes: Nodes,
    *,
    h: ScalarFn | None = None,
    estimator: str = "stein",
) -> Field:
    r"""Bures-Wasserstein flow of `h` on (mu, Sigma).

    $\dot\Sigma = E[g (x - \mu)^T] + E[(x - \mu) g^T]$, the image of `gaussian_field` under
    $S \mapsto S S^T$. A covariance that leaves the cone has no factor: its rate is NaN, which an
    adaptive solver rejects and any other reports.

    Args:
        log_p: As in `gaussian_field`.
        nodes: As in `gaussian_field`.
        h: As in `gaussian_field`.
        estimator: As in `gaussian_field`.

    Returns:
        `field(t, (mean, covariance), args)`: the two rates.

    Raises:
        ValueError: As `gaussian_field`, with its other errors.

    References:
        Sarkka, Unscented Kalman-Bucy filter, 2007; Lambert et al., NeurIPS 2022.
    """
    target = Target("bures_field", log_p, h, estimator)
    return Partial(_covariance_rates, target, rising(target, nodes))


def bures_motion(q: Gaussian, rate: Array, moment: Array, triangular: bool) -> Moments:
    """Moves the factor by G."""
    if q.diagonal or not triangular:
        return rate, moment
    # Not solve_triangular: it would read half of a factor that is not triangular.
    half = jnp.linalg.solve(q.scale, moment)
    return rate, product(q.scale, _low(half + half.T))


def fisher_rao_motion(q: Gaussian, rate: Array, moment: Array, triangular: bool) -> Moments:
    """Multiplies by the inverse of Fisher's metric."""
    if q.diagonal:
        return q.scale**2 * rate, 0.5 * q.scale**2 * moment
    half = symmetric(product(q.scale.T, moment))
    half = _low(half) if triangular else 0.5 * half
    return product(q.scale, q.scale.T, rate[:, None])[:, 0], product(q.scale, half)


def _low(matrix: Matrix) -> Matrix:
    """Keeps the lower triangle with half the diagonal: A + A^T for symmetric results."""
    return jnp.tril(matrix, -1) + 0.5 * jnp.diag(jnp.diag(matrix))


def flow(target: Target, nodes: Rule, motion: Callable[..., Moments], triangular: bool) -> Field:
    """Makes the field of a motion; `h` is checked by `rising`, where a user may give one."""
    return Partial(Frozen(_rates, (("by", motion), ("low", triangular))), target, nodes)


def _rates(
    target: Target, nodes: Rule, t: ScalarLike, q: Gaussian, args: Any, *, by: Function, low: bool
) -> Gaussian:
    """Turns the two expectations into rates."""
    check_dimension(target.caller, nodes, "q", q.mean)
    return Gaussian(*by(q, *moments(target, nodes, q), low))


def _covariance_rates(
    target: Target, nodes: Nodes, t: ScalarLike, state: Pair, args: PyTree
) -> tuple[Vector, Matrix]:
    """Factors the covariance and maps the rates of its factor."""
    mean, covariance = map(as_float, state)
    check_dimension(target.caller, nodes, "q", mean)
    scale = jnp.linalg.cholesky(covariance)
    rate, moment = moments(target, nodes, Gaussian(mean, scale))
    half = product(moment, scale.T)
    return rate, half + half.T


class _Steps(NamedTuple):
    """State of `AffineInvariantController`: a rejected step, the lowest speed, jumps since then."""

    inner: Any
    length: Scalar
    error: Scalar
    speed: Scalar
    jumps: Int[Array, ""]


class AffineInvariantController(AbstractStepSizeController):
    """Adapts steps to errors in units of the Gaussian itself, S^{-1} d mu and S^{-1} d S.

    A field that jumps, near rest, is not followed to ever smaller steps: an error that does not
    shrink with the step is no error of the solver, and after `_PATIENCE` of them the solve ends.
    """

    pid: PIDController

    def wrap(self, direction: Any) -> "AffineInvariantController":
        return self

    def init(self, *args: Any) -> Any:
        end, inner = self.pid.init(*args)
        never = jnp.full((), jnp.inf, jnp.result_type(end))
        return end, _Steps(inner, jnp.ones_like(never), never, never, jnp.zeros((), jnp.int32))

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
        change = jax.tree.map(jnp.subtract, y1_candidate, y0)
        moved = root_mean_square(_in_units_of(y0, change)).astype(length.dtype)
        error = _in_units_of(y0, y_error)
        size = root_mean_square(error).astype(length.dtype)
        jump = (size > last.error * (length / last.length) ** 2) & (moved < _NEAR)
        share = jnp.where(jump, 0, 1 / jnp.minimum(moved, 1)).astype(y0.mean.dtype)
        error = jax.tree.map(partial(jnp.multiply, share), error)
        keep, start, end, made_jump, inner, result = self.pid.adapt_step_size(
            t0, t1, error, error, args, error, error_order, last.inner
        )
        slower = keep & (moved / length < _SLOWER * last.speed)
        jumps = jnp.where(slower, 0, last.jumps + jump)
        speed = jnp.where(slower, moved / length, last.speed)
        rejected = jnp.where(keep, 1, length), jnp.where(keep, jnp.inf, size)
        state = _Steps(inner, *rejected, speed, jumps)
        result = RESULTS.where(jumps >= _PATIENCE, RESULTS.max_steps_rejected, result)
        result = RESULTS.where(~keep & ~(end > start), RESULTS.dt_min_reached, result)
        return keep, start, end, made_jump, jax.lax.stop_gradient(state), result


def _in_units_of(q: Gaussian, change: Gaussian) -> Gaussian:
    """Multiplies a change of q by S^{-1}."""
    if q.diagonal:
        return Gaussian(change.mean / q.scale, change.scale / q.scale)
    both = jnp.concatenate([change.mean[:, None], change.scale], axis=1)
    local = jnp.linalg.solve(q.scale, both)
    return Gaussian(local[:, 0], local[:, 1:])


class Geometry(NamedTuple):
    """How a geometry moves a Gaussian, and how `fit_gaussian` follows it by default."""

    motion: Callable[..., Moments]
    # One solver, or one for a stiff flow and one for others.
    solvers: tuple[AbstractSolver, ...]
    # None is as in `integrate`.
    stepsize_controller: AbstractStepSizeController | None = None
    # Of the gap at the start; None lets diffrax choose.
    first_step: Callable[[Scalar], Scalar] | None = None
    max_steps: int = 4096


_IN_ITS_UNITS = AffineInvariantController(PIDController(rtol=0.0, atol=_LOCAL, dtmax=_LONGEST))
GEOMETRIES = {
    "fisher_rao": Geometry(
        motion=fisher_rao_motion,
        solvers=(Bosh3(),),
        stepsize_controller=_IN_ITS_UNITS,
        first_step=lambda gap: _LONGEST / (1 + 10 * jnp.sqrt(gap)),
    ),
    "bures": Geometry(motion=bures_motion, solvers=(Kvaerno3(), Tsit5())),
}
