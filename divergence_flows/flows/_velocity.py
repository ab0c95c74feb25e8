r"""What moves a cloud: velocity fields from potentials.

A field is `field(t, xs, args)` on a whole cloud, particles along the first axis: of one array, or
of each leaf where a point is a pytree. Nothing here solves an equation; `integrate` does.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import ArrayLike, Bool, Float, PyTree, Real

from .._checks import check_counts, check_some, scalar_valued
from .._types import (
    AnyFloat,
    Field,
    Frozen,
    Function,
    LogRatioFn,
    Sample,
    ScalarFn,
    ScalarLike,
    as_float,
    as_partial,
    split_partial,
)

# A cloud as an array, or as a pytree whose leaves share the particles' axis.
AnyEvent = PyTree[Float[jax.Array, "n ?*event"], "T"]
AnyEventLike = PyTree[Real[ArrayLike, "n ?*event"] | Bool[ArrayLike, "n ?*event"], "T"]


def velocity(h: ScalarFn, log_r: LogRatioFn) -> Field:
    r"""MonoFlow of `h`: the velocity field $v(x) = \nabla_x h(\log r(t, x))$ of a cloud.

    Args:
        h: Increasing function of the log ratio, scalar to scalar. A decreasing one moves up the
            divergence; only `dissipation` refuses it.
        log_r: $\log p / q_t$ as `log_r(t, x, args)` of one time and one point [nats], an array of
            any shape or a pytree of arrays; constants may be left out where h is the identity or a
            power of r.

    Returns:
        `field(t, xs, args)`: the velocity of each particle [units of x per unit of flow time], in
        the structure of `xs`.

    Raises:
        ValueError: While tracing the field, if `h` or `log_r` does not return a scalar, or `xs`
            holds no arrays.

    Example:
        ```python
        def log_r(t, x, args):  # from N(1, I) to N(0, I), up to a constant
            return -jnp.sum(x)


        field = df.velocity(df.divergences.kl_qp.h, log_r)
        print(field(0.0, jnp.zeros((1, 2)), None))  # [[-1. -1.]]
        ```

    References:
        Yi, Zhu & Liu, MonoFlow, ICML 2023.
    """
    return jax.tree_util.Partial(_velocity, as_partial(h), as_partial(log_r))


def _velocity(
    h: ScalarFn, log_r: LogRatioFn, t: ScalarLike, xs: AnyEventLike, args: Any
) -> AnyEvent:
    """Applies the chain rule to each particle on its own."""
    h, log_r = scalar_valued("velocity", "h", h), scalar_valued("velocity", "log_r", log_r)
    move = functools.partial(_velocity_of_one, h, log_r, t, args)
    return jax.vmap(move)(as_floats("velocity", "xs", xs))


def as_floats(caller: str, name: str, xs: AnyEventLike) -> AnyEvent:
    """Makes float arrays of a cloud, and refuses one without arrays."""
    if not jax.tree.leaves(xs):
        words = f"`{name}` is {xs!r}, without arrays; pass a cloud, its particles in front."
        raise ValueError(f"{caller}: {words}")
    return jax.tree.map(as_float, xs)


def _velocity_of_one(h: ScalarFn, log_r: LogRatioFn, t: ScalarLike, args: Any, x: PyTree) -> PyTree:
    """Applies the chain rule at one particle."""
    u, grad_u = jax.value_and_grad(log_r, argnums=1)(t, x, args)
    slope = jax.grad(h)(u)
    return jax.tree.map(lambda part: chain(slope, part).astype(part.dtype), grad_u)


def chain(slope: AnyFloat, grad_u: Sample) -> Sample:
    """Multiplies h'(u) by grad u; the product is zero where grad u is, even if h' overflows."""
    return jnp.where(jnp.isinf(slope) & (grad_u == 0), 0.0, slope * grad_u)


def gradient_flow(variation: LogRatioFn) -> Field:
    r"""Wasserstein gradient flow of any functional: $v(x) = -\nabla_x \frac{dF}{dq}(x)$.

    Potentials, interactions and entropies with a given score are all first variations;
    `velocity(h, log_r)` is the case $-h(\log r)$.

    Args:
        variation: First variation of F at q, `variation(t, x, xs, args)` of one time, one point
            and the cloud of all points, a scalar [units of F]; a point is an array or a pytree,
            and the cloud the same with an axis in front. It is differentiated in `x` only:
            the interaction $\tfrac12 E\,W(x - x')$ of pairs has the variation `mean(W(x - xs))`.

    Returns:
        `field(t, xs, args)`: the velocity of each particle [units of x per unit of flow time].

    Raises:
        ValueError: While tracing the field, if `variation` does not return a scalar, or `xs` holds
            no arrays.

    References:
        Ambrosio, Gigli & Savare, Gradient Flows, 2008, section 10.4.
    """
    return jax.tree_util.Partial(descend_variation, as_partial(variation))


def descend_variation(
    variation: LogRatioFn, t: ScalarLike, xs: AnyEventLike, args: Any
) -> AnyEvent:
    """Differentiates the variation at each particle with the cloud held fixed."""
    cloud = as_floats("gradient_flow", "xs", xs)
    slope = jax.grad(scalar_valued("gradient_flow", "variation", variation), argnums=1)
    slopes = jax.vmap(slope, in_axes=(None, 0, None, None))(t, cloud, cloud, args)
    return jax.tree.map(jnp.negative, slopes)


def cloud_velocity(
    h: ScalarFn, fit: Callable[..., Any], *, block: int | None = None, stop_fit: bool = False
) -> Field:
    r"""Velocity of a potential that is fitted to the cloud anew at each evaluation.

    $v(x) = \nabla_x h(u_{xs}(x))$ with `u = fit(xs)`: the gradient in x, with the cloud in u held
    fixed. For instance, for a log ratio to fixed samples of p, without training:

        fit = functools.partial(df.rff_log_ratio, xs_p=xs_p, key=key)
        field = df.cloud_velocity(h, fit, block=8192)

    Particles interact through the fit. Give a random fit a fixed key: a field that changes at each
    evaluation breaks adaptive steps. Derivatives of the field go through the fit and are exact;
    they cost about as much as several fits.

    Args:
        h: Increasing function of the potential, scalar to scalar.
        fit: `fit(xs)` of the cloud, an array or a pytree with particles along the first axes,
            returning `potential(t, x, args)` of one point. Arrays and floats bound by a
            `functools.partial` become leaves of the field, so that changing them does not retrace;
            counts and strings stay static.
        block: Particles moved at once, which bounds the memory; all of them by default.
        stop_fit: Whether derivatives of the field treat the fitted cloud as constant: cheaper, but
            a gradient through a solve lacks the fit's part.

    Returns:
        `field(t, xs, args)`: the velocity of each particle [units of x per unit of flow time].

    Raises:
        ValueError: If `block` is not positive; while tracing the field, if there are no particles,
            `fit` returns no function, or `h` or that function returns no scalar.

    Example:
        ```python
        def fit(xs):  # log p/q wherever the cloud is
            log_p, log_q = (df.kde_log_prob(cloud, bandwidth=1.0) for cloud in (xs_p, xs))
            return lambda t, x, args: log_p(x) - log_q(x)


        xs_q, xs_p = jr.normal(jr.key(0), (500, 1)), jr.normal(jr.key(1), (500, 1)) + 2.0
        field = df.cloud_velocity(df.divergences.kl_qp.h, fit)
        print(jnp.mean(field(0.0, xs_q, None)))  # 1.0
        ```

    References:
        Yi, Zhu & Liu, MonoFlow, ICML 2023, algorithm 1, its inner maximisation solved.
    """
    check_counts("cloud_velocity", {"block": block})
    move = Frozen(refit_and_move, (("block", block), ("stop", stop_fit)))
    return jax.tree_util.Partial(move, as_partial(h), split_partial(fit))


def refit_and_move(
    h: ScalarFn,
    fit: Function,
    t: ScalarLike,
    xs: AnyEventLike,
    args: Any,
    *,
    block: Any,
    stop: bool,
) -> AnyEvent:
    """Fits the potential, then moves `block` particles at a time."""
    caller = "cloud_velocity"
    cloud = as_floats(caller, "xs", xs)
    first = jax.tree.leaves(cloud)[0]
    check_some(caller, "xs", first)
    potential = fit(jax.lax.stop_gradient(cloud) if stop else cloud)
    if not callable(potential):
        words = "must return a function `potential(t, x, args)` of one point"
        raise ValueError(f"{caller}: `fit` {words}, and returns {potential}.")
    h, potential = scalar_valued(caller, "h", h), scalar_valued(caller, "fit(xs)", potential)
    move = functools.partial(_velocity_of_one, h, potential, t, args)
    return jax.lax.map(move, cloud, batch_size=min(block or len(first), len(first)))
