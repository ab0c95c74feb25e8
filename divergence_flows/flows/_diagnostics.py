r"""Diagnostics of a flow: how fast a divergence falls, and how long a cloud's path is."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from .._checks import check_clouds, check_rate, scalar_valued
from .._linalg import safe_sqrt
from .._types import AnyFloat, Field, Scalar, ScalarFn, ScalarLike, as_float, as_partial
from ._integrate import Names, Times, as_state, refuse_options, solve
from ._velocity import AnyEvent, AnyEventLike, as_floats


def dissipation(
    h: ScalarFn,
    u: Real[ArrayLike, " n"],
    grad_u: AnyEventLike,
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
        grad_u: Its gradient at the same particles [nats per unit of x], an array or a pytree.
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
    clouds = {"u": as_float(u)}
    if weights is not None:
        clouds["weights"] = as_float(weights)
    u, *rest = check_clouds("dissipation", **clouds)
    slope = _slope(h, u, "h") * (1.0 if of is None else _slope(of, u, "of"))
    parts = jax.tree.leaves(as_floats("dissipation", "grad_u", grad_u))
    rates = slope * squares([check_clouds("dissipation", grad_u=part)[0] for part in parts])
    return -jnp.sum(rest[0] * rates) if rest else -jnp.mean(rates)


def squares(parts: list[AnyFloat]) -> Float[Array, " n"]:
    """Squared length of what each particle has in all parts."""
    return jnp.asarray(sum(jnp.sum(part**2, axis=tuple(range(1, part.ndim))) for part in parts))


def _slope(h: ScalarFn, u: Float[Array, " n"], name: str) -> Float[Array, " n"]:
    """Derivative of h, refused if h decreases."""
    slope = jax.vmap(jax.grad(scalar_valued("dissipation", name, h)))(u)
    message = f"dissipation: `{name}` decreases at some `u`, or has no slope there; negate it."
    return eqx.error_if(slope, ~jnp.all(slope >= 0), message)


def curve_length(
    field: Field, y0: AnyEventLike, ts: Times, args: Any = None, **options: Any
) -> Scalar:
    r"""Length $\int \sqrt{E|v|^2}\,dt$ of the path that a cloud takes through Wasserstein space.

    At least `wasserstein2` between its ends, with equality on a geodesic.

    Args:
        field: `field(t, xs, args)`, the velocity of the cloud [units of x per unit of time].
        y0: Cloud at `ts[0]` [units of x], an array or a pytree.
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
    length = jnp.zeros((), jnp.result_type(*jax.tree.leaves(start)))
    solution = solve(names, longer, (start, length), ts, args, **options)
    return jax.tree.leaves(solution.ys)[-1][-1]


def _with_length(
    field: Field, t: ScalarLike, state: tuple[AnyEvent, Scalar], args: Any
) -> tuple[AnyEvent, Scalar]:
    """Adds the cloud's speed, the rate of the length."""
    xs, _ = state
    rate = check_rate("curve_length", "field", field(t, xs, args), xs)
    return rate, safe_sqrt(jnp.mean(squares(jax.tree.leaves(rate))))
