"""Losses of a ratio at many times: p against each q_t, neighbours in time against each other.

With u(t, x) = log p/q_t, the difference u(s, x) - u(t, x) is log q_t/q_s: one network is also a
discriminator between any two times, and early ratios are learned through the chain of them.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float, PyTree

from .._types import Function, Sample, Scalar
from ..gans._losses import discriminator_loss
from ..runs._batches import Data

Paths = Float[Array, "time n *event"]
Grid = Float[Array, " time"]


def _rows(network: PyTree, t: Scalar, data: Data) -> Float[Array, " n"]:
    return jax.vmap(lambda *one: network(t, *one), axis_name="batch")(*data)


def _at(network: PyTree, ts: Grid, data: Data) -> Float[Array, "time n"]:
    """Evaluates d(t, x) on one cloud for each time; conditions have a time too."""
    return jax.vmap(Partial(_rows, network))(ts, data)


def score_loss(gan: Any, network: PyTree, ts: Grid, data: Data, score_p: Function) -> Scalar:
    """Implicit score matching of grad log q_t = grad log p - grad u at each time."""

    def at_one(t: Scalar, x: Sample, *c: PyTree) -> tuple[Scalar, Scalar]:
        """Hyvarinen's loss of the score of q_t at one point, and the squared slope of u there."""
        grad_u, push = jax.linearize(jax.grad(lambda x: gan.log_t(network(t, x, *c))), x)
        units = jnp.eye(x.size, dtype=x.dtype).reshape(x.size, *x.shape)
        laplacian = jnp.sum(jax.vmap(push)(units) * units)
        size = jnp.sum(grad_u**2)
        return 0.5 * size - jnp.sum(grad_u * score_p(x, *c)) - laplacian, size

    at_all = jax.vmap(lambda t, cloud: jax.vmap(lambda *one: at_one(t, *one))(*cloud))
    losses, sizes = at_all(ts, data)
    weights = jax.lax.stop_gradient(1 / (1 + jnp.mean(sizes, axis=1)))
    return jnp.mean(weights * jnp.mean(losses, axis=1))


def total_loss(
    config: Any, ts: Grid, data_q: Data, data_p: Data, network: PyTree
) -> tuple[Scalar, tuple[Scalar, Scalar, Scalar]]:
    """The weighted sum of the losses of a `FlowRatioConfig`, and each of them.

    They are of p against each q_t, of each time against the next, and of the score.
    """
    gan, d_q = config.gan, _at(network, ts, data_q)
    direct = discriminator_loss(gan, _at(network, ts, data_p), d_q)
    # Each cloud at its own time, and at the time of its neighbour.
    first = jax.tree.map(lambda leaf: leaf[:-1], data_q)
    last = jax.tree.map(lambda leaf: leaf[1:], data_q)
    u, u_next = gan.log_t(d_q), gan.log_t(_at(network, ts[1:], first))
    u_last = gan.log_t(_at(network, ts[:-1], last))
    later, earlier = gan.inverse(u_last - u[1:]), gan.inverse(u[:-1] - u_next)
    chain = discriminator_loss(gan, later, earlier)
    total = direct + jnp.asarray(config.neighbours, chain.dtype) * chain
    if config.score_p is None:
        return total, (direct, chain, jnp.zeros_like(direct))
    score = score_loss(gan, network, ts, data_q, config.score_p)
    total += jnp.asarray(config.score_weight, score.dtype) * score
    return total, (direct, chain, score)
