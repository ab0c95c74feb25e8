r"""Expectations under a Gaussian that move it: $E[g]$ and $G = E[g z^T]$, $g = \nabla h(\log p/q)$.

By Stein's identity G is also $E[\nabla^2 h(\log p/q)]\,S$: two estimators of one matrix, from
first or from second derivatives of the target.
"""

import functools
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float

from ._callables import scalar_of
from ._gaussian import Gaussian
from ._matrix import product, symmetric
from ._nodes import Nodes, evaluate, replaced
from ._types import Frozen, Scalar, ScalarFn, as_partial
from ._velocity import chain

# Where an h is tried before it drives a field: it may decrease elsewhere, but round-off is small.
_TRIED = tuple(range(-5, 6))
_FIT = "fit_gaussian"
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
        EquinoxRuntimeError: If `h` decreases at an integer log ratio from -5 to 5.
    """
    estimators = {"stein": _stein, "price": _price}
    if estimator not in estimators:
        raise ValueError(
            f'{caller}: `estimator` is {estimator!r}; give "stein" (first derivatives of log_p) '
            'or "price" (second ones).'
        )
    chosen = Frozen(estimators[estimator], (("owner", caller),))
    nodes, h = rising(caller, nodes, h)
    return Partial(chosen, as_partial(log_p), nodes, h)


def rising(owner: str, nodes: Nodes, h: ScalarFn | None) -> tuple[Nodes, ScalarFn | None]:
    """Refuses an h that is seen to decrease, once, where a field is made and not where it is used.

    Args:
        owner: Who asks, for the message.
        nodes: The field's nodes, through which the refusal is threaded.
        h: Increasing function of the log ratio; None is the identity.

    Returns:
        The nodes, and h as a pytree; use these.

    Raises:
        ValueError: If h is not elementwise.
        EquinoxRuntimeError: If h decreases at an integer log ratio from -5 to 5.
    """
    if h is None:
        return nodes, None
    h = as_partial(h)
    u = jnp.asarray(_TRIED, jnp.result_type(float))
    slopes = jax.vmap(jax.grad(functools.partial(scalar_of, owner, "h", h)))(u)
    size = jnp.maximum(1.0, jnp.max(jnp.abs(jax.vmap(h)(u)), where=jnp.isfinite(slopes), initial=0))
    message = (
        f"{owner}: `h` decreases at some u = log p/q between -5 and 5, so it drives no MonoFlow. "
        "Give an increasing h, for instance `div.h` or `df.f_to_h(f)`, not f itself."
    )
    bad = jnp.any(slopes < -64 * jnp.finfo(u.dtype).eps * size)
    return replaced(nodes, "weights", eqx.error_if(nodes.weights, bad, message)), h


def velocities(
    owner: str, log_p: Callable[..., Scalar], nodes: Nodes, h: ScalarFn | None, q: Gaussian
) -> Float[Array, "n dim"]:
    r"""Evaluates $g = \nabla_x h(\log p/q)$ at the nodes' images $\mu + S z$.

    q is differentiated in x only, in closed form ($-\nabla\log q = S^{-T} z$), and not stopped: a
    solver's Jacobian needs its dependence on S.

    Args:
        owner: Who asks, for the message.
        log_p: As in `gaussian_field`.
        nodes: As in `gaussian_field`.
        h: Increasing function of the log ratio; None is the identity.
        q: The Gaussian.

    Returns:
        The velocities [units of x per unit of flow time].

    Raises:
        ValueError: If the nodes are not of q's dimension, or log_p returns no scalar.
    """
    same_dimension(owner, nodes, "q", q.mean)
    zs = nodes.points.astype(q.mean.dtype)
    xs = jax.vmap(q.push)(zs)
    values, scores = jax.vmap(jax.value_and_grad(functools.partial(evaluate, owner, log_p)))(
        xs, nodes.batches
    )
    grad_u = scores + (zs / q.scale if q.diagonal else zs @ jnp.linalg.inv(q.scale))
    if h is None:
        return grad_u
    slopes = jax.vmap(jax.grad(h))(values - jax.vmap(q.log_prob_of_push)(zs))[:, None]
    return chain(slopes, grad_u)


def same_dimension(owner: str, nodes: Nodes, name: str, mean: Float[Array, "..."]) -> None:
    """Refuses nodes of another dimension than the law's, before they broadcast or meet XLA.

    Args:
        owner: Who asks, for the message.
        nodes: The rule.
        name: The argument that is the law.
        mean: Its mean.

    Raises:
        ValueError: If the dimensions differ, or the law has axes in front.
    """
    dim = nodes.points.shape[1]
    if mean.shape != (dim,):
        raise ValueError(
            f"{owner}: `nodes` have dimension {dim} and the mean of `{name}` has shape {mean.shape}"
            f"; make nodes of the same dimension, and say `jax.vmap` for many of `{name}`."
        )


def _stein(
    log_p: Callable[..., Scalar], nodes: Nodes, h: ScalarFn | None, q: Gaussian, *, owner: str
) -> Moments:
    """Reads G = E[g z^T] off first derivatives."""
    gs = velocities(owner, log_p, nodes, h, q)
    weighted = nodes.weights.astype(gs.dtype)[:, None] * gs
    zs = nodes.points.astype(gs.dtype)
    return weighted.sum(0), jnp.sum(weighted * zs, 0) if q.diagonal else product(weighted.T, zs)


def _price(
    log_p: Callable[..., Scalar], nodes: Nodes, h: ScalarFn | None, q: Gaussian, *, owner: str
) -> Moments:
    """Reads G = E[hess h(u)] S off second ones: it is the Jacobian of E[g] in a shift of all z."""
    same_dimension(owner, nodes, "q", q.mean)
    mean = functools.partial(_mean_velocity, owner, log_p, nodes, h, q)
    none = jnp.zeros_like(q.mean)
    hessian = jax.jacfwd(mean)(none)
    return mean(none), jnp.diag(hessian) if q.diagonal else hessian


def _mean_velocity(
    owner: str,
    log_p: Callable[..., Scalar],
    nodes: Nodes,
    h: ScalarFn | None,
    q: Gaussian,
    shift: Float[Array, " dim"],
) -> Float[Array, " dim"]:
    """Averages the velocities over shifted nodes."""
    gs = velocities(owner, log_p, replaced(nodes, "points", nodes.points + shift), h, q)
    return jnp.sum(nodes.weights.astype(q.mean.dtype)[:, None] * gs, 0)


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
    values = jax.vmap(functools.partial(evaluate, _FIT, log_p))(jax.vmap(q.push)(zs), nodes.batches)
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
