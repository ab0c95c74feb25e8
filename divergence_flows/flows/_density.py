"""Densities along a flow: log q of each particle from the divergence of its velocity."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, ArrayLike, Float, PyTree, Real

from .._checks import check_clouds, check_rate
from .._types import Field, ScalarLike, as_float, as_partial
from ._velocity import AnyEvent, AnyEventLike, as_floats, descend_variation, refit_and_move

Probes = PyTree[Real[Array, "probes n ?*event"], "T"]
ProbesLike = PyTree[Real[ArrayLike, "probes n ?*event"], "T"]
Moving = tuple[AnyEventLike, Real[ArrayLike, " n"]]


def with_log_prob(field: Field, *, noise: ProbesLike | None = None) -> Field:
    r"""Carries log densities along: $\tfrac{d}{dt}\log q_t(x_t) = -\nabla\cdot v(t, x_t)$.

    The new field acts on the state `(xs, log_q)`; a point of `xs` is an array or a pytree. Its
    divergence is exact, from one directional derivative per coordinate; with `noise` it is
    Hutchinson's estimate
    $E[\epsilon^T (\partial v) \epsilon]$, unbiased if $E[\epsilon\epsilon^T] = I$ and the same
    noise throughout a solve.

    Args:
        field: A field that moves each particle on its own, such as `velocity(h, log_r)`. Fields
            of `gradient_flow` and `cloud_velocity` are refused; any other field whose particles
            interact is not detected and gets a wrong density.
        noise: Probes for Hutchinson's estimate [dimensionless], for instance normal or +-1: like
            `xs`, with an axis of probes in front.

    Returns:
        `field(t, (xs, log_q), args)`, returning velocities and rates of log q
        [nats per unit of flow time].

    Raises:
        ValueError: If `field` was made by `gradient_flow` or `cloud_velocity`, or `noise` has no
            probes; while tracing, if `field` returns no velocity for each particle.
        EquinoxRuntimeError: If `noise` is not finite.

    Example:
        ```python
        field = df.velocity(df.divergences.kl_qp.h, lambda t, x, args: -jnp.sum(x**2))  # -2 x
        start = jnp.ones((1, 2)), jnp.zeros(1)  # one particle, and log q there
        xs, log_q = df.integrate(df.with_log_prob(field), start, [0.0, 1.0]).ys
        print(log_q[-1])  # [4.]
        ```

    References:
        Chen et al., Neural ODEs, NeurIPS 2018; Grathwohl et al., FFJORD, ICLR 2019.
    """
    makers = {descend_variation: "gradient_flow", refit_and_move: "cloud_velocity"}
    func = getattr(field, "func", None)
    maker = makers.get(getattr(func, "function", func))
    if maker is not None:
        raise ValueError(
            f"with_log_prob: `field` came from `{maker}`, whose particles may interact, so log q "
            "has no equation along one particle. Pass `velocity(h, log_r)` for instance."
        )
    probes = jax.tree.map(_checked, noise)
    return jax.tree_util.Partial(_with_log_prob, as_partial(field), probes)


def _checked(noise: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Refuses probes that are not finite."""
    return check_clouds("with_log_prob", noise=as_float(noise))[0]


def _with_log_prob(
    field: Field, noise: Probes | None, t: ScalarLike, state: Moving, args: Any
) -> tuple[AnyEvent, Float[Array, " n"]]:
    """Pushes probes through the field's derivative and contracts them with themselves."""
    xs = as_floats("with_log_prob", "xs", state[0])
    checked = functools.partial(check_rate, "with_log_prob", "field")
    rate, push = jax.linearize(lambda xs: checked(field(t, xs, args), xs), xs)
    if noise is None:  # the same unit vectors for all particles, one for each coordinate
        origin = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape[1:], leaf.dtype), xs)
        flat, unravel = ravel_pytree(origin)
        units = jax.vmap(unravel)(jnp.eye(flat.size, dtype=flat.dtype))
        probes = jax.tree.map(
            lambda unit, leaf: jnp.broadcast_to(unit[:, None], (flat.size, *leaf.shape)), units, xs
        )
    else:
        probes = jax.tree.map(lambda probe, leaf: probe.astype(leaf.dtype), noise, xs)
    products = jax.tree.map(jnp.multiply, probes, jax.vmap(push)(probes))
    sums = (jnp.sum(leaf, axis=tuple(range(2, leaf.ndim))) for leaf in jax.tree.leaves(products))
    divergence = (jnp.sum if noise is None else jnp.mean)(sum(sums), axis=0)
    return rate, -divergence
