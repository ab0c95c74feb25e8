r"""Optimal transport between samples: exact distances, and displacements.

Samples of one size without weights are an assignment, by SciPy; all others a linear program, by the
network simplex of POT. Both run in a callback from JAX, which works under `jit` and `vmap`. Pairs
and plans are constants to differentiation, which is right almost everywhere.
"""

import importlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, Int32, Real, UInt32

from .._checks import check_rate, check_samples, raise_first
from .._linalg import safe_sqrt
from .._types import AnyCloud, AnyCloudLike, AnyFloat, Cloud, Scalar, ScalarLike, as_float

Masses = Float[Array, " _"]
# Rows of floats, of the width of float32 or in two halves.
Bits = UInt32[ArrayLike, "_ _"] | UInt32[ArrayLike, "_ _ 2"]
# Rows, columns and masses of the pairs of a plan, and the dual potentials of both samples.
Plan = tuple[Int[Array, " k"], Int[Array, " k"], Float[Array, " k"], Masses, Masses]
# Far beyond what any program that fits into memory needs: POT stops early at its own limit.
_PIVOTS = 10**12


def coupling(
    xs: AnyCloudLike,
    ys: AnyCloudLike,
    *,
    weights_x: Real[ArrayLike, " n"] | None = None,
    weights_y: Real[ArrayLike, " m"] | None = None,
) -> Int[Array, " n"] | Float[Array, "n m"]:
    r"""Optimal pairing of two samples: the permutation of least $\sum_i |x_i - y_{\pi(i)}|^2$.

    Where sizes differ, or weights are given (equal ones too), it is the plan: a matrix of masses
    $P_{ij} \ge 0$ with row sums `weights_x` and column sums `weights_y`, of least
    $\sum_{ij} P_{ij} |x_i - y_j|^2$; at most n + m - 1 entries are not zero.

    Exact: 1 s for a thousand points on one core, 9 s for two thousand. Plans need POT,
    `pip install "divergence_flows[ot]"`.

    Args:
        xs: Points of one sample [units of x], finite.
        ys: Points of the other [units of x], finite.
        weights_x: Masses of `xs`, none negative, of sum 1; equal by default.
        weights_y: Masses of `ys`, in the same way.

    Returns:
        The index into `ys` of each point's partner, or the plan.

    Raises:
        ValueError: If there are no points, or POT is needed and not installed.
        EquinoxRuntimeError: If a coordinate is not finite, or too large for its floats; or if a
            weight is negative or not finite, or they do not sum to 1.

    References:
        Crouse, On implementing 2D rectangular assignment algorithms, IEEE TAES 2016; Bonneel et
        al., Displacement interpolation using Lagrangian mass transport, 2011.
    """
    x, y = check_samples("coupling", xs=xs, ys=ys)
    if _is_assignment(x, y, weights_x, weights_y):
        return _pairs(x, y)
    rows, columns, masses, *_ = _plan("coupling", x, y, weights_x, weights_y)
    return jnp.zeros((len(x), len(y)), masses.dtype).at[rows, columns].add(masses)


def wasserstein2(
    xs: AnyCloudLike,
    ys: AnyCloudLike,
    *,
    weights_x: Real[ArrayLike, " n"] | None = None,
    weights_y: Real[ArrayLike, " m"] | None = None,
) -> Scalar:
    r"""Wasserstein-2 distance between two samples, exact; the distance, not its square.

    $$W_2 = \min_P \Bigl(\sum_{ij} P_{ij} |x_i - y_j|^2\Bigr)^{1/2}$$
    over plans P with row sums `weights_x` and column sums `weights_y`. For as many points of equal
    weight P is a permutation. Otherwise it needs POT, `pip install "divergence_flows[ot]"`.

    Differentiable in both samples, with the plan held fixed, and in the weights, through the dual
    potentials: up to a constant, which weights of sum 1 do not see. The gradient is zero where the
    distance is, and one of several where plans or potentials are.

    Args:
        xs: Points of one sample [units of x], finite.
        ys: Points of the other [units of x], finite.
        weights_x: Masses of `xs`, none negative, of sum 1; equal by default.
        weights_y: Masses of `ys`, in the same way.

    Returns:
        The distance [units of x].

    Raises:
        ValueError: If there are no points, or POT is needed and not installed.
        EquinoxRuntimeError: If a coordinate is not finite, or too large for its floats; or if a
            weight is negative or not finite, or they do not sum to 1.

    Example:
        ```python
        xs = jr.normal(jr.key(0), (100, 2))
        print(df.wasserstein2(xs, xs + jnp.array([3.0, 4.0])))  # 5.0
        ```

    References:
        Peyre & Cuturi, Computational Optimal Transport, 2019, sections 2.2 and 9.1.
    """
    x, y = check_samples("wasserstein2", xs=xs, ys=ys)
    if _is_assignment(x, y, weights_x, weights_y):
        return safe_sqrt(jnp.sum((x - y[_pairs(x, y)]) ** 2) / x.shape[0])
    rows, columns, masses, *duals = _plan("wasserstein2", x, y, weights_x, weights_y)
    squares = jnp.sum((x[rows] - y[columns]).reshape(len(rows), -1) ** 2, axis=1)
    return safe_sqrt(masses @ squares + _slope(weights_x, duals[0]) + _slope(weights_y, duals[1]))


def _is_assignment(x: AnyCloud, y: AnyCloud, *weights: Any) -> bool:
    return len(x) == len(y) and all(one is None for one in weights)


def _pairs(xs: Cloud, ys: Cloud) -> Int[Array, " n"]:
    """Calls SciPy back; the pairs are constants to differentiation."""
    out = jax.ShapeDtypeStruct((xs.shape[0],), jnp.int32)
    return jax.pure_callback(_assign, out, *_bits(xs, ys), vmap_method="sequential")


def _assign(x: Bits, y: Bits) -> Int32[np.ndarray, " n"]:
    """Solves the assignment on the host, in float64."""
    _, columns = importlib.import_module("scipy.optimize").linear_sum_assignment(_cost(x, y))
    return columns.astype(np.int32)


def _cost(x: Bits, y: Bits) -> Float[np.ndarray, "n m"]:
    """Squared distances; SciPy is imported when it is needed."""
    cdist = importlib.import_module("scipy.spatial.distance").cdist
    return cdist(_floats(x), _floats(y), "sqeuclidean")


def _bits(*arrays: AnyFloat) -> list[Bits]:
    """Rows of floats as bits, for the host.

    A callback may run in a thread that does not know of `jax.enable_x64`: JAX would round there.
    """
    dtype = jnp.promote_types(jnp.result_type(*arrays), jnp.float32)
    rows = [jax.lax.stop_gradient(x).reshape(len(x), -1).astype(dtype) for x in arrays]
    return [jax.lax.bitcast_convert_type(x, jnp.uint32) for x in rows]


def _floats(bits: Bits) -> Float[np.ndarray, "n size"]:
    """On the host: rows of floats from their bits, of which a float64 has two halves."""
    own = np.ascontiguousarray(bits)
    if own.ndim == 2:
        return own.view(np.float32).astype(np.float64)
    return own.view(np.float64)[..., 0]


def _from_bits(bits: UInt32[Array, "n halves"]) -> Float[Array, " n"]:
    """On the device: floats that the host made bits of."""
    if bits.shape[1] == 1:
        return jax.lax.bitcast_convert_type(bits[:, 0], jnp.float32)
    return jax.lax.bitcast_convert_type(bits, jnp.float64)


def _plan(caller: str, x: AnyCloud, y: AnyCloud, *weights: ArrayLike | None) -> Plan:
    """Calls POT back; the plan is a constant to differentiation."""
    try:
        importlib.import_module("ot")  # here, since in a callback it might wait for itself
    except ImportError as error:
        words = "samples of unequal sizes or with weights need POT, which is not installed"
        remedy = 'pip install "divergence_flows[ot]"'
        raise ValueError(f"{caller}: {words}; {remedy}.") from error
    names, sizes = ("weights_x", "weights_y"), (len(x) + len(y) - 1, len(x), len(y))
    masses = [_masses(caller, *each) for each in zip(names, (x, y), weights, strict=True)]
    bits = _bits(x, y, *masses)
    halves = np.ndim(bits[0]) - 1
    out = [jax.ShapeDtypeStruct((2, sizes[0]), jnp.int32)]
    out += [jax.ShapeDtypeStruct((n, halves), jnp.uint32) for n in sizes]
    (rows, columns), *made = jax.pure_callback(_solve, out, *bits, vmap_method="sequential")
    flow, *duals = (_from_bits(each).astype(jnp.result_type(x, y)) for each in made)
    return rows, columns, flow, duals[0], duals[1]


def _masses(caller: str, name: str, xs: AnyCloud, weights: ArrayLike | None) -> Masses:
    """Refuses weights that are no probabilities; makes equal ones of none."""
    if weights is None:
        return jnp.full(len(xs), 1 / len(xs), xs.dtype)
    weights = as_float(weights)
    if len(weights) != len(xs):
        words = f"`{name}` has {len(weights)} entries for {len(xs)} points; pass one for each."
        raise ValueError(f"{caller}: {words}")
    gap = jnp.abs(jnp.sum(weights) - 1)
    faults = {
        "must be finite, and none negative": ~jnp.all((weights >= 0) & jnp.isfinite(weights)),
        "must sum to 1; divide them by their sum": ~(gap <= jnp.finfo(weights.dtype).eps ** 0.5),
    }
    return raise_first(weights, {f"{caller}: `{name}` {x}.": bad for x, bad in faults.items()})


def _solve(x: Bits, y: Bits, a: Bits, b: Bits) -> list[np.ndarray]:
    """Solves the linear program; a simplex method ends at a corner, of n + m - 1 pairs at most."""
    ot = importlib.import_module("ot")
    masses = [_floats(weights)[:, 0] for weights in (a, b)]
    masses = [each / each.sum() for each in masses]
    cost = _cost(x, y)
    plan, log = ot.emd(*masses, cost, numItermax=_PIVOTS, log=True)
    if log["warning"] is not None:
        raise RuntimeError(f"wasserstein2, coupling: POT found no plan: {log['warning']}")
    used = np.nonzero(plan)
    pairs, flow = np.zeros((2, sum(cost.shape) - 1), np.int32), np.zeros(sum(cost.shape) - 1)
    pairs[:, : len(used[0])], flow[: len(used[0])] = used, plan[used]
    made = flow, *(log[name] - np.mean(log[name]) for name in ("u", "v"))
    dtype = np.float32 if np.ndim(x) == 2 else np.float64
    return [pairs, *(each.astype(dtype)[:, None].view(np.uint32) for each in made)]


def _slope(weights: ArrayLike | None, potential: Masses) -> Scalar:
    """Zero, whose derivative in the weights is the dual potential."""
    if weights is None:
        return jnp.zeros((), potential.dtype)
    weights = as_float(weights).astype(potential.dtype)
    return potential @ (weights - jax.lax.stop_gradient(weights))


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
