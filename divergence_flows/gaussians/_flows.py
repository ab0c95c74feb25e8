r"""Flows of one Gaussian: how a target's ratio moves its mean and its factor.

With $g(x) = \nabla_x h(\log p/q)$ all of them need two expectations under q, $E[g]$ and
$G = E[g z^T] = E[\nabla^2 h(\log p/q)]\,S$. Stein reads G off the first derivatives, Price off the
second: an *estimator*. What is done with the two is a *geometry*; the choices are independent.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, ArrayLike, Float, PyTree, Real

from .._linalg import product, root, symmetric
from .._types import Field, Scalar, ScalarFn, ScalarLike, as_float
from ._expectations import Moments, log_weights, mean_hessian, moments
from ._gaussian import Gaussian
from ._nodes import Nodes

_WALL = " A Gaussian reaches everywhere: transform bounded parameters, or start elsewhere."
_NO_STEP = (
    "forward_backward_step: `q` has a singular scale or is not finite; pass one of full rank.",
    "forward_backward_step: `log_p` is NaN, so not finite at nodes of `q`." + _WALL,
    "forward_backward_step: `log_p` is -inf at nodes of `q`, outside its support." + _WALL,
    "forward_backward_step: `log_p` is +inf at nodes of `q`; start elsewhere.",
    "forward_backward_step: `log_p` is finite at nodes of `q`, but derivatives are not, or their "
    "sums overflow, of numbers so large. Mend them, or start elsewhere.",
    "forward_backward_step: `step` must be positive and at most 1 / lambda_max(E[-hess log p]), or "
    "the fixed point is biased; make it smaller.",
)


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
    $\Sigma_+ = M \Sigma M$ with $M = I + \eta E[\nabla^2 h(\log p/q)]$, whatever the nodes if
    they are Price's, and for exact nodes if they are Stein's.

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

    References:
        Lambert et al., Variational inference via Wasserstein gradient flows, NeurIPS 2022; Yi &
        Liu, Bridging the gap between VI and WGF, 2023; theory.md, section 6.
    """
    motion = _triangular_bures if triangular else _bures
    return Partial(_rates, moments("gaussian_field", log_p, nodes, h, estimator), Partial(motion))


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
        ValueError: As `gaussian_field`.
        EquinoxRuntimeError: As `gaussian_field`.

    References:
        Amari, Natural gradient works efficiently in learning, 1998; Khan & Rue, The Bayesian
        learning rule, JMLR 2023.
    """
    motion = _triangular_fisher_rao if triangular else _fisher_rao
    estimate = moments("fisher_rao_field", log_p, nodes, h, estimator)
    return Partial(_rates, estimate, Partial(motion))


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
        ValueError: As `gaussian_field`.
        EquinoxRuntimeError: As `gaussian_field`.

    References:
        Sarkka, Unscented Kalman-Bucy filter, 2007; Lambert et al., NeurIPS 2022.
    """
    return Partial(_covariance_rates, moments("bures_field", log_p, nodes, h, estimator))


def forward_backward_step(
    log_p: Callable[..., Scalar],
    nodes: Nodes,
    q: Gaussian,
    *,
    step: ScalarLike,
    estimator: str = "price",
) -> Gaussian:
    r"""One step of forward-backward Gaussian VI: the potential explicitly, the entropy exactly.

    $M = I + \eta E[\nabla^2 \log p]$, $\Sigma' = M \Sigma M$,
    $\Sigma_+ = \tfrac12 (\Sigma' + 2 \eta I + (\Sigma' (\Sigma' + 4 \eta I))^{1/2})$. The entropy
    is not smooth, so an explicit step of it is bounded by the smallest variance; this is not.

    Args:
        log_p: As in `gaussian_field`.
        nodes: As in `gaussian_field`.
        q: The Gaussian before the step.
        step: Step eta [units of flow time]; at most 1 / lambda_max(E[-hess log p]).
        estimator: As in `gaussian_field`.

    Returns:
        The Gaussian after the step, with a lower triangular scale (diagonal if q's is). It is
        differentiable to any order below the bound on `step`.

    Raises:
        ValueError: If `estimator` is unknown, the nodes are not of q's dimension, or log_p returns
            no scalar.
        EquinoxRuntimeError: If q is singular, log_p or a derivative is not finite at a node, or
            `step` not positive or beyond its bound. It says which.

    References:
        Diao et al., Forward-backward Gaussian variational inference via JKO, ICML 2023.
    """
    rate, moment = moments("forward_backward_step", log_p, nodes, None, estimator)(q)
    inverse = jnp.linalg.inv(q.matrix)
    hessian = mean_hessian(jnp.diag(moment) if q.diagonal else moment, inverse)
    step = jnp.asarray(step, q.mean.dtype)
    map_ = jnp.eye(q.mean.size, dtype=step.dtype) + step * hessian
    smallest = jnp.linalg.eigvalsh(map_)[0]
    # At the bound M is singular up to the round-off of what was subtracted, not beyond the bound.
    slack = 10 * map_.shape[0] * jnp.finfo(step.dtype).eps * (1 + step * jnp.sum(inverse**2))
    singular = ~(jnp.all(jnp.isfinite(q.mean)) & jnp.isfinite(q.log_det()))
    # Outside a support the gradient may be 0, so that derivatives alone would not tell.
    values = jax.lax.stop_gradient(log_weights(log_p, nodes, q))
    wrong = jnp.stack(
        [
            singular,
            *[jnp.any(f(values)) for f in (jnp.isnan, jnp.isneginf, jnp.isposinf)],
            ~(jnp.all(jnp.isfinite(rate)) & jnp.all(jnp.isfinite(hessian))),
            ~((smallest >= -slack) & (step > 0)),
        ]
    )
    map_ = eqx.branched_error_if(map_, jnp.any(wrong), jnp.argmax(wrong), _NO_STEP)
    scale = jnp.linalg.cholesky(_backward(product(map_, q.matrix), step))
    return Gaussian(q.mean + step * rate, jnp.diag(scale) if q.diagonal else scale)


@jax.custom_jvp
def _backward(half: Float[Array, "dim dim"], step: Scalar) -> Float[Array, "dim dim"]:
    r"""Evaluates $\Sigma_+$ from a factor of $\Sigma'$, whose singular values r are not squared."""
    vectors, roots, _ = jnp.linalg.svd(half)
    factor = vectors * (0.5 * (roots + jnp.sqrt(roots**2 + 4 * step)))
    return product(factor, factor.T)


@_backward.defjvp
def _backward_jvp(
    primals: tuple[Float[Array, "dim dim"], Scalar],
    tangents: tuple[Float[Array, "dim dim"], Scalar],
) -> tuple[Float[Array, "dim dim"], Float[Array, "dim dim"]]:
    """Differentiates the same formula by matrix roots, which need no singular vectors."""
    return _backward(*primals), jax.jvp(_backward_by_roots, primals, tangents)[1]


def _backward_by_roots(half: Float[Array, "dim dim"], step: Scalar) -> Float[Array, "dim dim"]:
    """Evaluates the formula by matrix roots."""
    before = product(half, half.T)
    factor = 0.5 * (
        root(before) + root(before + 4 * step * jnp.eye(half.shape[0], dtype=half.dtype))
    )
    return product(factor, factor.T)


def _rates(
    estimate: Callable[[Gaussian], Moments],
    motion: Callable[..., Moments],
    t: ScalarLike,
    q: Gaussian,
    args: PyTree,
) -> Gaussian:
    """Turns the two expectations into rates."""
    return Gaussian(*motion(q, *estimate(q)))


def _covariance_rates(
    estimate: Callable[[Gaussian], Moments],
    t: ScalarLike,
    state: tuple[Real[ArrayLike, " dim"], Real[ArrayLike, "dim dim"]],
    args: PyTree,
) -> tuple[Float[Array, " dim"], Float[Array, "dim dim"]]:
    """Factors the covariance and maps the rates of its factor."""
    mean, covariance = map(as_float, state)
    scale = jnp.linalg.cholesky(covariance)
    rate, moment = estimate(Gaussian(mean, scale))
    half = product(moment, scale.T)
    return rate, half + half.T


def _bures(q: Gaussian, rate: Array, moment: Array) -> Moments:
    """Moves the factor by G."""
    return rate, moment


def _triangular_bures(q: Gaussian, rate: Array, moment: Array) -> Moments:
    """Moves a triangular factor so that Sigma moves as under G."""
    if q.diagonal:
        return rate, moment
    # Not solve_triangular: it would read half of a factor that is not triangular.
    half = jnp.linalg.solve(q.scale, moment)
    return rate, product(q.scale, _low(half + half.T))


def _fisher_rao(q: Gaussian, rate: Array, moment: Array) -> Moments:
    """Multiplies by the inverse of Fisher's metric."""
    if q.diagonal:
        return q.scale**2 * rate, 0.5 * q.scale**2 * moment
    half = product(q.scale.T, moment)
    return _precondition(q.scale, rate), 0.5 * product(q.scale, symmetric(half))


def _triangular_fisher_rao(q: Gaussian, rate: Array, moment: Array) -> Moments:
    """Does the same for a triangular factor."""
    if q.diagonal:
        return _fisher_rao(q, rate, moment)
    half = symmetric(product(q.scale.T, moment))
    return _precondition(q.scale, rate), product(q.scale, _low(half))


def _precondition(
    scale: Float[Array, "dim dim"], rate: Float[Array, " dim"]
) -> Float[Array, " dim"]:
    """Multiplies by the covariance."""
    return product(scale, scale.T, rate[:, None])[:, 0]


def _low(matrix: Float[Array, "dim dim"]) -> Float[Array, "dim dim"]:
    """Keeps the lower triangle with half the diagonal: A + A^T for symmetric results."""
    return jnp.tril(matrix, -1) + 0.5 * jnp.diag(jnp.diag(matrix))
