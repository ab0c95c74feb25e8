r"""Forward-backward steps of a Gaussian: the potential explicitly, the entropy exactly."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from .._checks import raise_first
from .._linalg import differentiated_as, product, root
from .._types import Matrix, Scalar, ScalarLike
from ._expectations import Target, check_dimension, log_weights, mean_hessian, moments
from ._gaussian import Gaussian
from ._nodes import Nodes


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
    check_dimension("forward_backward_step", nodes, "q", q.mean)
    target = Target("forward_backward_step", log_p, None, estimator)
    rate, moment = moments(target, nodes, q)
    inverse = jnp.linalg.inv(q.matrix)
    hessian = mean_hessian(jnp.diag(moment) if q.diagonal else moment, inverse)
    step = jnp.asarray(step, q.mean.dtype)
    map_ = jnp.eye(q.mean.size, dtype=step.dtype) + step * hessian
    smallest = jnp.linalg.eigvalsh(map_)[0]
    # At the bound M is singular up to the round-off of what was subtracted, not beyond the bound.
    slack = 10 * map_.shape[0] * jnp.finfo(step.dtype).eps * (1 + step * jnp.sum(inverse**2))
    # Outside a support the gradient may be 0, and then derivatives show nothing.
    values = jax.lax.stop_gradient(log_weights(target, nodes, q))
    advice = "A Gaussian reaches everywhere: transform bounded parameters, or start elsewhere."
    singular = ~(jnp.all(jnp.isfinite(q.mean)) & jnp.isfinite(q.log_det()))
    overflow = ~(jnp.all(jnp.isfinite(rate)) & jnp.all(jnp.isfinite(hessian)))
    nan, below, above = (jnp.any(test(values)) for test in (jnp.isnan, jnp.isneginf, jnp.isposinf))
    faults = (
        ("`q` has a singular scale or is not finite; pass one of full rank.", singular),
        (f"`log_p` is NaN, so not finite at nodes of `q`. {advice}", nan),
        (f"`log_p` is -inf at nodes of `q`, outside its support. {advice}", below),
        ("`log_p` is +inf at nodes of `q`; start elsewhere.", above),
        (
            "derivatives of `log_p` are not finite at nodes, or sums overflow; correct them.",
            overflow,
        ),
        (
            "`step` must be positive and at most 1 / lambda_max(E[-hess log p]), beyond which the "
            "fixed point is biased; make it smaller.",
            ~((smallest >= -slack) & (step > 0)),
        ),
    )
    map_ = raise_first(map_, {f"forward_backward_step: {words}": bad for words, bad in faults})
    scale = jnp.linalg.cholesky(_backward(product(map_, q.matrix), step))
    return Gaussian(q.mean + step * rate, jnp.diag(scale) if q.diagonal else scale)


def _backward_by_roots(half: Matrix, step: Scalar) -> Matrix:
    """The same formula by matrix roots, which needs no singular vectors."""
    before = product(half, half.T)
    shift = 4 * step * jnp.eye(half.shape[0], dtype=half.dtype)
    factor = 0.5 * (root(before) + root(before + shift))
    return product(factor, factor.T)


@differentiated_as(_backward_by_roots)
def _backward(half: Matrix, step: Scalar) -> Matrix:
    r"""Evaluates $\Sigma_+$ from a factor of $\Sigma'$, whose singular values r are not squared."""
    vectors, roots, _ = jnp.linalg.svd(half)
    factor = vectors * (0.5 * (roots + jnp.sqrt(roots**2 + 4 * step)))
    return product(factor, factor.T)
