r"""Diagnostics of a flow: how fast a divergence falls, and how long a cloud's path is."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from .._checks import check_clouds, check_rate, scalar_valued
from .._linalg import safe_sqrt
from .._types import Cloud, Field, Scalar, ScalarFn, ScalarLike, as_float, as_partial
from ._integrate import Names, Times, as_state, refuse_options, solve


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
        of: The h of the divergence whose rate is returned; `of=h` for the flow's own.
        weights: Weights of a quadrature rule for $q_t$, not normalised; the mean by default.

    Returns:
        The rate [units of the divergence per unit of flow time].

    Raises:
        ValueError: If there are no particles.
        EquinoxRuntimeError: If `h` or `of` decreases at any `u`, or a number is not finite.

    Example:
        ```python
        u, grad_u = jnp.zeros(4), jnp.ones((4, 2))  # at four particles
        print(df.dissipation(df.divergences.kl_qp.h, u, grad_u))  # -2.0
        ```

    References:
        Yi, Zhu & Liu, MonoFlow, ICML 2023; slides, "Dissipation rate".
    """
    clouds = {"u": as_float(u), "grad_u": as_float(grad_u)}
    if weights is not None:
        clouds["weights"] = as_float(weights)
    u, grad_u, *rest = check_clouds("dissipation", **clouds)
    slope = _slope(h, u, "h") * (1.0 if of is None else _slope(of, u, "of"))
    rates = slope * jnp.sum(grad_u**2, axis=tuple(range(1, grad_u.ndim)))
    return -jnp.sum(rest[0] * rates) if rest else -jnp.mean(rates)


def _slope(h: ScalarFn, u: Float[Array, " n"], name: str) -> Float[Array, " n"]:
    """Derivative of h, refused if h decreases."""
    slope = jax.vmap(jax.grad(scalar_valued("dissipation", name, h)))(u)
    message = f"dissipation: `{name}` decreases at some `u`, or has no slope there; negate it."
    return eqx.error_if(slope, ~jnp.all(slope >= 0), message)


def curve_length(
    field: Field, y0: Real[ArrayLike, "n *event"], ts: Times, args: Any = None, **options: Any
) -> Scalar:
    r"""Length $\int \sqrt{E|v|^2}\,dt$ of the path that a cloud takes through Wasserstein space.

    At least `wasserstein2` between its ends, with equality on a geodesic.

    Args:
        field: `field(t, xs, args)`, the velocity of the cloud [units of x per unit of time].
        y0: Cloud at `ts[0]` [units of x].
        ts: Times, increasing; the length is from the first to the last [units of time].
        args: Passed to `field`; its numbers become arrays.
        **options: Those of `integrate` but `saveat`; with an `event` the length is up to there.

    Returns:
        The length [units of x]; inf if a solve with `throw=False` failed.

    Raises:
        ValueError: As `integrate`, and if `saveat` is given.
        EquinoxRuntimeError: As `integrate`.

    References:
        Ambrosio, Gigli & Savare, Gradient Flows, 2008, theorem 8.3.1.
    """
    refuse_options("curve_length", options, "saveat")
    names = Names("curve_length")
    start = as_state(names, y0)
    longer = jax.tree_util.Partial(_with_length, as_partial(field))
    solution = solve(names, longer, (start, jnp.zeros((), start.dtype)), ts, args, **options)
    return jax.tree.leaves(solution.ys)[-1][-1]


def _with_length(
    field: Field, t: ScalarLike, state: tuple[Cloud, Scalar], args: Any
) -> tuple[Cloud, Scalar]:
    """Adds the cloud's speed, the rate of the length."""
    xs, _ = state
    rate = check_rate("curve_length", "field", field(t, xs, args), xs)
    return rate, safe_sqrt(jnp.sum(rate**2) / rate.shape[0])
