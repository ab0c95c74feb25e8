r"""What moves a cloud: velocities from potentials, and what they do to density and divergence.

A field is `field(t, xs, args)` on a whole cloud, particles along the first axis. Nothing here
solves an equation; `integrate` does.
"""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from .._checks import check_clouds, check_counts, check_rate, check_some, scalar_valued
from .._types import (
    Field,
    LogRatioFn,
    Scalar,
    ScalarFn,
    ScalarLike,
    as_float,
    as_partial,
    split_partial,
)


def velocity(h: ScalarFn, log_r: LogRatioFn) -> Field:
    r"""MonoFlow of `h`: the velocity field $v(x) = \nabla_x h(\log r(t, x))$ of a cloud.

    Args:
        h: Increasing function of the log ratio, scalar to scalar. One that decreases moves the
            other way, up the divergence; nothing refuses it but `dissipation`.
        log_r: $\log p / q_t$ as `log_r(t, x, args)` of one time and one point of any event shape
            [nats]; a constant may be left out where h is the identity or a power of r.

    Returns:
        `field(t, xs, args)`: the velocity of each particle [units of x per unit of flow time].

    Raises:
        ValueError: While tracing the field, if `h` or `log_r` does not return a scalar.

    References:
        Yi, Zhu & Liu, MonoFlow, ICML 2023.
    """
    return jax.tree_util.Partial(_velocity, as_partial(h), as_partial(log_r))


def _velocity(
    h: ScalarFn, log_r: LogRatioFn, t: ScalarLike, xs: Real[ArrayLike, "n *event"], args: Any
) -> Float[Array, "n *event"]:
    """Applies the chain rule to each particle on its own."""
    caller = "velocity"
    h, log_r = scalar_valued(caller, "h", h), scalar_valued(caller, "log_r", log_r)
    one = functools.partial(_velocity_of_one, h, log_r)
    return jax.vmap(one, in_axes=(None, 0, None))(t, as_float(xs), args)


def _velocity_of_one(
    h: ScalarFn, log_r: LogRatioFn, t: ScalarLike, x: Float[Array, "*event"], args: Any
) -> Float[Array, "*event"]:
    """Applies the chain rule at one particle."""
    u, grad_u = jax.value_and_grad(log_r, argnums=1)(t, x, args)
    return chain(jax.grad(h)(u), grad_u)


def chain(slope: Float[Array, "..."], grad_u: Float[Array, "*event"]) -> Float[Array, "*event"]:
    """Multiplies h'(u) by grad u; an h' that overflows moves nothing where grad u is zero."""
    return jnp.where(jnp.isinf(slope) & (grad_u == 0), 0.0, slope * grad_u)


def gradient_flow(variation: LogRatioFn) -> Field:
    r"""Wasserstein gradient flow of any functional: $v(x) = -\nabla_x \frac{dF}{dq}(x)$.

    Potentials, interactions and entropies with a given score are all first variations;
    `velocity(h, log_r)` is the case $-h(\log r)$.

    Args:
        variation: First variation of F at q, `variation(t, x, xs, args)`: one time, one point,
            the cloud of all points, a scalar out [units of F]. It is differentiated in `x` only:
            for an interaction of each pair, $\tfrac12 E\,W(x - x')$ has the variation
            `mean(W(x - xs))`.

    Returns:
        `field(t, xs, args)`: the velocity of each particle [units of x per unit of flow time].

    Raises:
        ValueError: While tracing the field, if `variation` does not return a scalar.

    References:
        Ambrosio, Gigli & Savare, Gradient Flows, 2008, section 10.4.
    """
    return jax.tree_util.Partial(_gradient_flow, as_partial(variation))


def _gradient_flow(
    variation: LogRatioFn, t: ScalarLike, xs: Real[ArrayLike, "n *event"], args: Any
) -> Float[Array, "n *event"]:
    """Differentiates the variation at each particle, the cloud held fixed."""
    cloud = as_float(xs)
    slope = jax.grad(scalar_valued("gradient_flow", "variation", variation), argnums=1)
    return -jax.vmap(slope, in_axes=(None, 0, None, None))(t, cloud, cloud, args)


class _Options(eqx.Module):
    """Particles moved at once (None is all), and whether derivatives stop at the fit's cloud."""

    block: int | None = eqx.field(static=True)
    stop_fit: bool = eqx.field(static=True)


def cloud_velocity(
    h: ScalarFn, fit: Callable[..., Any], *, block: int | None = None, stop_fit: bool = False
) -> Field:
    r"""Velocity of a potential that is fitted to the cloud anew at each evaluation.

    $v(x) = \nabla_x h(u_{xs}(x))$ with `u = fit(xs)`: a gradient in x alone, the cloud held fixed
    in u. For a log ratio to fixed samples of p that no training makes:

        fit = functools.partial(df.rff_log_ratio, xs_p=xs_p, key=key)
        field = df.cloud_velocity(h, fit, block=8192)

    Particles interact through the fit. A fit that draws must be given its key, or the right side
    is a new one each time and adaptive steps break.

    Derivatives of the field go through the fit and are exact: those of a solve in its start or in
    a parameter, and the Jacobian of an implicit solver. They cost about as much as several fits.

    Args:
        h: Increasing function of the potential, scalar to scalar.
        fit: `fit(xs)` of the cloud, returning `potential(t, x, args)` of one point. Of a
            `functools.partial` the arrays and floats become leaves of the field, so that changing
            them traces nothing; the rest (numbers of things, words) stays as it is.
        block: Particles moved at once, which bounds the memory; all of them by default.
        stop_fit: Whether derivatives of the field take the cloud that was fitted for a constant.
            It changes no velocity and makes derivatives cheaper; a gradient through a solve is
            then wrong by the fit's part, and an implicit solver, whose Jacobian is inexact, takes
            many more steps.

    Returns:
        `field(t, xs, args)`: the velocity of each particle [units of x per unit of flow time].

    Raises:
        ValueError: If `block` is not positive; while tracing the field, if there are no particles,
            or `fit` returns no potential, or that or `h` no scalar.

    References:
        Yi, Zhu & Liu, MonoFlow, ICML 2023, algorithm 1, with the inner maximum solved.
    """
    check_counts("cloud_velocity", {"block": block})
    options = _Options(block, stop_fit)
    return jax.tree_util.Partial(_cloud_velocity, options, as_partial(h), split_partial(fit))


def _cloud_velocity(
    options: _Options,
    h: ScalarFn,
    fit: Callable[..., Any],
    t: ScalarLike,
    xs: Real[ArrayLike, "n *event"],
    args: Any,
) -> Float[Array, "n *event"]:
    """Fits, then moves some particles at a time."""
    caller, cloud = "cloud_velocity", as_float(xs)
    check_some(caller, "xs", cloud)
    potential = fit(jax.lax.stop_gradient(cloud) if options.stop_fit else cloud)
    if not callable(potential):
        raise ValueError(
            f"{caller}: `fit` returns {potential}; it must return a function `potential(t, x, "
            "args)` of one point."
        )
    whole = scalar_valued(caller, "fit(xs)", potential)
    move = functools.partial(_velocity_of_one, scalar_valued(caller, "h", h), whole, t, args=args)
    return jax.lax.map(move, cloud, batch_size=min(options.block or len(cloud), len(cloud)))


def with_log_prob(
    field: Field, *, noise: Real[ArrayLike, "probes n *event"] | None = None
) -> Field:
    r"""Carries log densities along: $\tfrac{d}{dt}\log q_t(x_t) = -\nabla\cdot v(t, x_t)$.

    The new field acts on the state `(xs, log_q)`. Its divergence is exact, from one directional
    derivative per coordinate; with `noise` it is Hutchinson's estimate
    $E[\epsilon^T (\partial v) \epsilon]$, unbiased if $E[\epsilon\epsilon^T] = I$ and the same
    noise throughout a solve.

    Args:
        field: A field that moves each particle without looking at the others, such as
            `velocity(h, log_r)`. What `gradient_flow` or `cloud_velocity` made is refused;
            another field whose particles interact cannot be told apart and would get a wrong
            density.
        noise: Probes for Hutchinson's estimate [dimensionless], for instance normal or +-1.

    Returns:
        `field(t, (xs, log_q), args)`, returning velocities and rates of log q
        [nats per unit of flow time].

    Raises:
        ValueError: If `field` was made by `gradient_flow` or `cloud_velocity`, or `noise` has no
            probes; while tracing, if `field` returns no velocity for each particle.
        EquinoxRuntimeError: If `noise` is not finite.

    References:
        Chen et al., Neural ODEs, NeurIPS 2018; Grathwohl et al., FFJORD, ICLR 2019.
    """
    made = {_gradient_flow: "gradient_flow", _cloud_velocity: "cloud_velocity"}
    maker = made.get(getattr(field, "func", None))
    if maker is not None:
        raise ValueError(
            f"with_log_prob: `field` came from `{maker}`, whose particles may interact: "
            "log q then has no equation along one particle. Give a field of each particle alone, "
            "for instance `velocity(h, log_r)`."
        )
    probes = noise if noise is None else check_clouds("with_log_prob", noise=as_float(noise))[0]
    return jax.tree_util.Partial(_with_log_prob, as_partial(field), probes)


def _with_log_prob(
    field: Field,
    noise: Real[Array, "probes n *event"] | None,
    t: ScalarLike,
    state: tuple[Real[ArrayLike, "n *event"], Real[ArrayLike, " n"]],
    args: Any,
) -> tuple[Float[Array, "n *event"], Float[Array, " n"]]:
    """Pushes probes through the field's derivative and contracts them with themselves."""
    xs = as_float(state[0])
    rate, push = jax.linearize(functools.partial(_at, field, t, args), xs)
    probes = _basis(xs) if noise is None else noise.astype(xs.dtype)
    pushed = jax.vmap(push)(probes)
    each = jnp.sum(probes * pushed, axis=tuple(range(2, probes.ndim)))
    divergence = jnp.sum(each, axis=0) if noise is None else jnp.mean(each, axis=0)
    return rate, -divergence


def _at(
    field: Field, t: ScalarLike, args: Any, xs: Float[Array, "n *event"]
) -> Float[Array, "n *event"]:
    """Puts the field's differentiated argument last."""
    return check_rate("with_log_prob", "field", field(t, xs, args), xs)


def _basis(xs: Float[Array, "n *event"]) -> Float[Array, "dim n *event"]:
    """Gives every particle the same unit vector, one for each coordinate of an event."""
    size = xs[0].size
    units = jnp.eye(size, dtype=xs.dtype).reshape(size, 1, *xs.shape[1:])
    return jnp.broadcast_to(units, (size, *xs.shape))


def dissipation(
    h: ScalarFn,
    u: Real[ArrayLike, " n"],
    grad_u: Real[ArrayLike, "n *event"],
    *,
    of: ScalarFn | None = None,
    weights: Real[ArrayLike, " n"] | None = None,
) -> Scalar:
    r"""Rate of change of a divergence along the MonoFlow of `h`; never positive.

    $$\tfrac{d}{dt} F(q_t) = -E_{q_t}[h_F'(u)\, h'(u)\, \|\nabla u\|^2], \qquad u = \log p/q_t,$$
    with $h_F' = 1$ for KL(q||p), the default.

    Args:
        h: Increasing function of the log ratio that drives the flow, scalar to scalar.
        u: $\log p / q_t$ at particles of $q_t$ [nats].
        grad_u: Its gradient at the same particles [nats per unit of x].
        of: The h of the divergence whose rate is asked for; `of=h` is the flow's own.
        weights: Weights of a quadrature rule for $q_t$, used as they are; the mean without.

    Returns:
        The rate [units of the divergence per unit of flow time].

    Raises:
        TypeCheckError: While tracing, if the particles do not line up.
        ValueError: If there are no particles.
        EquinoxRuntimeError: If `h` or `of` decreases at any `u`, or a number is not finite.

    References:
        Yi, Zhu & Liu, MonoFlow, ICML 2023; slides, "Dissipation rate".
    """
    caller = "dissipation"
    clouds = {"u": as_float(u), "grad_u": as_float(grad_u)}
    if weights is not None:
        clouds["weights"] = as_float(weights)
    u, grad_u, *rest = check_clouds(caller, **clouds)
    slope = _slope(h, u, "h") * (1.0 if of is None else _slope(of, u, "of"))
    squared = jnp.sum(grad_u**2, axis=tuple(range(1, grad_u.ndim)))
    if not rest:
        return -jnp.mean(slope * squared)
    return -jnp.sum(rest[0] * slope * squared)


def _slope(h: ScalarFn, u: Float[Array, " n"], name: str) -> Float[Array, " n"]:
    """Differentiates h and refuses one that decreases."""
    slope = jax.vmap(jax.grad(scalar_valued("dissipation", name, h)))(u)
    message = (
        f"dissipation: `{name}` decreases at some `u`, or has no slope there, so it drives no "
        "MonoFlow; negate it, or pass `u` of its domain."
    )
    return eqx.error_if(slope, ~jnp.all(slope >= 0), message)
