r"""Expectations under a Gaussian that move it: $E[g]$ and $G = E[g z^T]$, $g = \nabla h(\log p/q)$.

By Stein's identity G is also $E[\nabla^2 h(\log p/q)]\,S$: two estimators of one matrix, from
first or from second derivatives of the target.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float

from ._gaussian import Gaussian
from ._matrix import product, symmetric
from ._nodes import Nodes, evaluate
from ._types import Scalar, ScalarFn, as_partial
from ._velocity import chain

Moments = tuple[Float[Array, " dim"], Float[Array, "dim dim"] | Float[Array, " dim"]]


def moments(
    caller: str,
    log_p: Callable[..., Scalar],
    nodes: Nodes,
    h: ScalarFn | None,
    estimator: str,
) -> Callable[[Gaussian], Moments]:
    r"""Chooses how $E[g]$ and $G = E[g z^T]$ are estimated.

    Args:
        caller: Who asks, for the message.
        log_p: Log density of the target.
        nodes: Rule for the standard normal.
        h: Increasing function of the log ratio; None is the identity.
        estimator: "stein" or "price".

    Returns:
        `moments(q)`: the two expectations; for a diagonal scale, G's diagonal.

    Raises:
        ValueError: If `estimator` is unknown.
    """
    estimators = {"stein": _stein, "price": _price}
    if estimator not in estimators:
        raise ValueError(
            f'{caller}: `estimator` is {estimator!r}; give "stein" (first derivatives of log_p) '
            'or "price" (second ones).'
        )
    h = None if h is None else as_partial(h)
    return Partial(estimators[estimator], as_partial(log_p), nodes, h)


def velocities(
    log_p: Callable[..., Scalar], nodes: Nodes, h: ScalarFn | None, q: Gaussian
) -> Float[Array, "n dim"]:
    r"""Evaluates $g = \nabla_x h(\log p/q)$ at the nodes' images $\mu + S z$.

    q is differentiated in x only, in closed form ($-\nabla\log q = S^{-T} z$), and not stopped: a
    solver's Jacobian needs its dependence on S.

    Args:
        log_p: As in `gaussian_field`.
        nodes: As in `gaussian_field`.
        h: Increasing function of the log ratio; None is the identity.
        q: The Gaussian.

    Returns:
        The velocities [units of x per unit of flow time].
    """
    zs = nodes.points.astype(q.mean.dtype)
    xs = jax.vmap(q.push)(zs)
    values, scores = jax.vmap(jax.value_and_grad(Partial(evaluate, log_p)))(xs, nodes.batches)
    grad_u = scores + (zs / q.scale if q.diagonal else zs @ jnp.linalg.inv(q.scale))
    if h is None:
        return grad_u
    slopes = jax.vmap(jax.grad(h))(values - jax.vmap(q.log_prob_of_push)(zs))[:, None]
    return chain(slopes, grad_u)


def _stein(log_p: Callable[..., Scalar], nodes: Nodes, h: ScalarFn | None, q: Gaussian) -> Moments:
    """Reads G = E[g z^T] off first derivatives."""
    gs = velocities(log_p, nodes, h, q)
    weighted = nodes.weights.astype(gs.dtype)[:, None] * gs
    zs = nodes.points.astype(gs.dtype)
    return weighted.sum(0), jnp.sum(weighted * zs, 0) if q.diagonal else product(weighted.T, zs)


def _price(log_p: Callable[..., Scalar], nodes: Nodes, h: ScalarFn | None, q: Gaussian) -> Moments:
    """Reads G = E[hess h(u)] S off second ones: it is the Jacobian of E[g] in a shift of all z."""
    mean = Partial(_mean_velocity, log_p, nodes, h, q)
    none = jnp.zeros_like(q.mean)
    hessian = jax.jacfwd(mean)(none)
    return mean(none), jnp.diag(hessian) if q.diagonal else hessian


def _mean_velocity(
    log_p: Callable[..., Scalar],
    nodes: Nodes,
    h: ScalarFn | None,
    q: Gaussian,
    shift: Float[Array, " dim"],
) -> Float[Array, " dim"]:
    """Averages the velocities over shifted nodes."""
    moved = Nodes(nodes.points + shift, nodes.weights, nodes.batches)
    return jnp.sum(nodes.weights.astype(q.mean.dtype)[:, None] * velocities(log_p, moved, h, q), 0)


def mean_hessian(
    moment: Float[Array, "dim dim"], inverse: Float[Array, "dim dim"]
) -> Float[Array, "dim dim"]:
    r"""$E[\nabla^2 \log p]$: what G says of h = u, less q's own curvature $-\Sigma^{-1}$.

    Args:
        moment: $G = E[\nabla^2 u]\,S$ of a square factor S.
        inverse: $S^{-1}$.

    Returns:
        The symmetric matrix [nats per unit of x, squared].
    """
    return symmetric(product(moment, inverse) - product(inverse.T, inverse))


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


def log_weights(log_p: Callable[..., Scalar], nodes: Nodes, q: Gaussian) -> Float[Array, " n"]:
    """Evaluates log p - log q at the nodes' images.

    Args:
        log_p: Log density of the target.
        nodes: Rule for the standard normal.
        q: The Gaussian.

    Returns:
        The log importance weights [nats].
    """
    zs = nodes.points.astype(q.mean.dtype)
    values = jax.vmap(Partial(evaluate, log_p))(jax.vmap(q.push)(zs), nodes.batches)
    return values - jax.vmap(q.log_prob_of_push)(zs)


def elbo(log_p: Callable[..., Scalar], nodes: Nodes, q: Gaussian) -> Scalar:
    """Averages log p - log q.

    Args:
        log_p: Log density of the target.
        nodes: Rule for the standard normal.
        q: The Gaussian.

    Returns:
        The evidence lower bound [nats]; it goes up.
    """
    return nodes.weights.astype(q.mean.dtype) @ log_weights(log_p, nodes, q)
