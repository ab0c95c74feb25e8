r"""Optimal transport between samples: exact distances, and displacements.

SciPy solves the assignment in a callback from JAX, which works under `jit` and `vmap`. The pairs
are constants to differentiation, which is right almost everywhere.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, Int32, Num, Real
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from .._checks import check_rate, check_samples
from .._linalg import safe_sqrt
from .._types import Cloud, Scalar, ScalarLike


def coupling(xs: Real[ArrayLike, "n *event"], ys: Real[ArrayLike, "n *event"]) -> Int[Array, " n"]:
    r"""Optimal pairing of two samples: the permutation of least $\sum_i |x_i - y_{\pi(i)}|^2$.

    Exact, by assignment: 1 s for a thousand points on one core, 9 s for two thousand.

    Args:
        xs: Points of one sample [units of x], finite.
        ys: As many points of the other [units of x], finite.

    Returns:
        The index into `ys` of each point's partner.

    Raises:
        ValueError: If there are no points.
        EquinoxRuntimeError: If a coordinate is not finite, or too large for its floats.

    References:
        Crouse, On implementing 2D rectangular assignment algorithms, IEEE TAES 2016.
    """
    return _pairs(*check_samples("coupling", xs=xs, ys=ys))


def _pairs(xs: Cloud, ys: Cloud) -> Int[Array, " n"]:
    """Calls SciPy back; the pairs are constants to differentiation."""
    out = jax.ShapeDtypeStruct((xs.shape[0],), jnp.int32)
    clouds = jax.lax.stop_gradient((xs, ys))
    return jax.pure_callback(_assign, out, *clouds, vmap_method="sequential")


def _assign(
    x: Num[ArrayLike, "n *event"], y: Num[ArrayLike, "n *event"]
) -> Int32[np.ndarray, " n"]:
    """Solves the assignment on the host, in float64."""
    x, y = (np.asarray(cloud, np.float64).reshape(np.shape(cloud)[0], -1) for cloud in (x, y))
    _, columns = linear_sum_assignment(cdist(x, y, "sqeuclidean"))
    return columns.astype(np.int32)


def wasserstein2(xs: Real[ArrayLike, "n *event"], ys: Real[ArrayLike, "n *event"]) -> Scalar:
    r"""Wasserstein-2 distance between two samples, exact; the distance, not its square.

    $$W_2 = \min_\pi \Bigl(\tfrac1n \sum_i |x_i - y_{\pi(i)}|^2\Bigr)^{1/2}$$

    Differentiable in both samples; the gradient is zero where the distance is.

    Args:
        xs: Points of one sample [units of x], finite.
        ys: As many points of the other [units of x], finite.

    Returns:
        The distance [units of x].

    Raises:
        ValueError: If there are no points.
        EquinoxRuntimeError: If a coordinate is not finite, or too large for its floats.

    Example:
        ```python
        xs = jr.normal(jr.key(0), (100, 2))
        print(df.wasserstein2(xs, xs + jnp.array([3.0, 4.0])))  # 5.0
        ```

    References:
        Peyre & Cuturi, Computational Optimal Transport, 2019, section 2.2.
    """
    x, y = check_samples("wasserstein2", xs=xs, ys=ys)
    gap = x - y[_pairs(x, y)]
    return safe_sqrt(jnp.sum(gap**2) / x.shape[0])


def displacement(
    transport_map: Callable[..., Any], t: ScalarLike, xs: Real[ArrayLike, "n *event"]
) -> Float[Array, "n *event"]:
    r"""McCann's displacement of a cloud: $((1 - t)\,\mathrm{id} + t\,T)(x)$ for each point.

    If T is optimal (the gradient of a convex function) this is the Wasserstein geodesic from the
    cloud to its image, for t from 0 to 1; beyond, it is an extrapolation.

    Args:
        transport_map: T, of one point, to a point of the same event shape [units of x].
        t: Fraction of the way [dimensionless].
        xs: The cloud at t = 0 [units of x].

    Returns:
        The cloud at `t` [units of x].

    Raises:
        ValueError: If there are no points, or `transport_map` changes the event shape.
        EquinoxRuntimeError: If a coordinate is not finite, or too large for its floats.

    References:
        McCann, A convexity principle for interacting gases, Adv. Math. 1997.
    """
    x = check_samples("displacement", xs=xs)[0]
    moved = check_rate("displacement", "transport_map", jax.vmap(transport_map)(x), x)
    fraction = jnp.asarray(t, x.dtype)
    return (1 - fraction) * x + fraction * moved
