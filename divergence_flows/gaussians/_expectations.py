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

from .._checks import scalar_of
from .._linalg import product, symmetric
from .._types import Frozen, Scalar, ScalarFn, as_partial
from ..flows._velocity import chain
from ._gaussian import Gaussian
from ._nodes import Nodes, evaluate, replaced

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
    """Chooses how $E[g]$ and $G = E[g z^T]$ are estimated."""
    estimators = {"stein": _stein, "price": _price}
    if estimator not in estimators:
        raise ValueError(
            f'{caller}: `estimator` is {estimator!r}; give "stein" (first derivatives of log_p) '
            'or "price" (second ones).'
        )
    chosen = Frozen(estimators[estimator], (("caller", caller),))
    nodes, h = rising(caller, nodes, h)
    return Partial(chosen, as_partial(log_p), nodes, h)


def rising(caller: str, nodes: Nodes, h: ScalarFn | None) -> tuple[Nodes, ScalarFn | None]:
    """Refuses an h that decreases, once, where a field is made."""
    if h is None:
        return nodes, None
    h = as_partial(h)
    u = jnp.asarray(_TRIED, jnp.result_type(float))
    slopes = jax.vmap(jax.grad(functools.partial(scalar_of, caller, "h", h)))(u)
    size = jnp.maximum(1.0, jnp.max(jnp.abs(jax.vmap(h)(u)), where=jnp.isfinite(slopes), initial=0))
    message = (
        f"{caller}: `h` decreases at some u = log p/q between -5 and 5, so it drives no MonoFlow. "
        "Give an increasing h, for instance `div.h` or `df.f_to_h(f)`, not f itself."
    )
    bad = jnp.any(slopes < -64 * jnp.finfo(u.dtype).eps * size)
    return replaced(nodes, "weights", eqx.error_if(nodes.weights, bad, message)), h


def velocities(
    caller: str, log_p: Callable[..., Scalar], nodes: Nodes, h: ScalarFn | None, q: Gaussian
) -> Float[Array, "n dim"]:
    r"""Evaluates $g = \nabla_x h(\log p/q)$ at the nodes' images $\mu + S z$."""
    same_dimension(caller, nodes, "q", q.mean)
    zs = nodes.points.astype(q.mean.dtype)
    xs = jax.vmap(q.push)(zs)
    values, scores = jax.vmap(jax.value_and_grad(functools.partial(evaluate, caller, log_p)))(
        xs, nodes.batches
    )
    grad_u = scores + (zs / q.scale if q.diagonal else zs @ jnp.linalg.inv(q.scale))
    if h is None:
        return grad_u
    slopes = jax.vmap(jax.grad(h))(values - jax.vmap(q.log_prob_of_push)(zs))[:, None]
    return chain(slopes, grad_u)


def same_dimension(caller: str, nodes: Nodes, name: str, mean: Float[Array, "..."]) -> None:
    """Refuses nodes of another dimension than the law's, before they broadcast or meet XLA."""
    dim = nodes.points.shape[1]
    if mean.shape != (dim,):
        raise ValueError(
            f"{caller}: `nodes` have dimension {dim} and the mean of `{name}` has shape "
            f"{mean.shape}; make nodes of the same dimension, and say `jax.vmap` for many "
            f"of `{name}`."
        )


def _stein(
    log_p: Callable[..., Scalar], nodes: Nodes, h: ScalarFn | None, q: Gaussian, *, caller: str
) -> Moments:
    """Reads G = E[g z^T] off first derivatives."""
    gs = velocities(caller, log_p, nodes, h, q)
    weighted = nodes.weights.astype(gs.dtype)[:, None] * gs
    zs = nodes.points.astype(gs.dtype)
    return weighted.sum(0), jnp.sum(weighted * zs, 0) if q.diagonal else product(weighted.T, zs)


def _price(
    log_p: Callable[..., Scalar], nodes: Nodes, h: ScalarFn | None, q: Gaussian, *, caller: str
) -> Moments:
    """Reads G = E[hess h(u)] S off second ones: it is the Jacobian of E[g] in a shift of all z."""
    same_dimension(caller, nodes, "q", q.mean)
    mean = functools.partial(_mean_velocity, caller, log_p, nodes, h, q)
    none = jnp.zeros_like(q.mean)
    hessian = jax.jacfwd(mean)(none)
    return mean(none), jnp.diag(hessian) if q.diagonal else hessian


def _mean_velocity(
    caller: str,
    log_p: Callable[..., Scalar],
    nodes: Nodes,
    h: ScalarFn | None,
    q: Gaussian,
    shift: Float[Array, " dim"],
) -> Float[Array, " dim"]:
    """Averages the velocities over shifted nodes."""
    gs = velocities(caller, log_p, replaced(nodes, "points", nodes.points + shift), h, q)
    return jnp.sum(nodes.weights.astype(q.mean.dtype)[:, None] * gs, 0)


def mean_hessian(
    moment: Float[Array, "dim dim"], inverse: Float[Array, "dim dim"]
) -> Float[Array, "dim dim"]:
    r"""$E[\nabla^2 \log p]$: what G says of h = u, less q's own curvature $-\Sigma^{-1}$."""
    return symmetric(product(moment, inverse) - product(inverse.T, inverse))


def gap(q: Gaussian, moments_of_q: Moments) -> Scalar:
    """Half the squared gradient of the ELBO in Fisher's metric."""
    rate, product = moments_of_q
    if q.diagonal:
        return 0.5 * jnp.sum((q.scale * rate) ** 2) + 0.25 * jnp.sum((q.scale * product) ** 2)
    half = q.scale.T @ product
    return 0.5 * jnp.sum((q.scale.T @ rate) ** 2) + jnp.sum((half + half.T) ** 2) / 16


def log_weights(log_p: Callable[..., Scalar], nodes: Nodes, q: Gaussian) -> Float[Array, " n"]:
    """Evaluates log p - log q at the nodes' images."""
    zs = nodes.points.astype(q.mean.dtype)
    values = jax.vmap(functools.partial(evaluate, _FIT, log_p))(jax.vmap(q.push)(zs), nodes.batches)
    return values - jax.vmap(q.log_prob_of_push)(zs)


def elbo(log_p: Callable[..., Scalar], nodes: Nodes, q: Gaussian) -> Scalar:
    """Averages log p - log q."""
    return nodes.weights.astype(q.mean.dtype) @ log_weights(log_p, nodes, q)
