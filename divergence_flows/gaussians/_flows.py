r"""Flows of one Gaussian: how a target's ratio moves its mean and its factor.

All need two expectations under q, $E[g]$ and $G = E[g z^T]$ with $g(x) = \nabla_x h(\log p/q)$. How
they are estimated is an *estimator*; what is done with them is a *geometry*. The choices are
independent.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, ArrayLike, PyTree, Real

from .._linalg import product, symmetric
from .._types import Field, Frozen, Function, Matrix, Scalar, ScalarFn, ScalarLike, Vector, as_float
from ._expectations import Found, Moments, Rule, Target, check_dimension, moments, rising
from ._gaussian import Gaussian
from ._low_rank import Law, LowRankGaussian, low_rank_step
from ._nodes import Nodes

Pair = tuple[Real[ArrayLike, " dim"], Real[ArrayLike, "dim dim"]]


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


def natural_step(q: Law, found: Found, share: Scalar) -> Law:
    """Moves the precision that share of its way, and the mean by the new covariance.

    The law is NaN where the precision is not positive definite.
    """
    if isinstance(q, LowRankGaussian):
        return low_rank_step(q, found, share)
    rate, moment = found
    if q.diagonal:
        scale = q.scale * jax.lax.rsqrt(1 - share * q.scale * moment)
        return Gaussian(q.mean + share * scale**2 * rate, scale)
    own = symmetric(product(q.scale.T, moment))
    low = jnp.linalg.cholesky(jnp.eye(q.mean.size, dtype=own.dtype) - share * own)
    scale = jax.scipy.linalg.solve_triangular(low, q.scale.T, lower=True).T
    return Gaussian(q.mean + share * product(scale, scale.T, rate[:, None])[:, 0], scale)


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
