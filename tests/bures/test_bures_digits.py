"""Digits of Bures geometry where coordinates differ in scale, against mpmath in many digits.

An entry is measured by its own size: d_i d_j for covariances with deviations d, min(d) / max(d)
for maps. The bound is eps times the condition of the correlations, whatever the deviations.
"""

import functools

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

from divergence_flows import _linalg, bures

pytestmark = pytest.mark.usefixtures("x64")
DIM = 3
KINDS = ("near", "far", "mixed", "apart")
CONDITIONS = {np.float64: (10.0, 1e12), np.float32: (10.0, 1e3)}
STEP = mp.mpf(10) ** -40


# --- the reference: definitions, in 150 digits ---


def of_spectrum(function, m):
    values, vectors = mp.eigsy((m + m.T) / 2)
    return vectors * mp.diag([function(value) for value in values]) * vectors.T


def root(m):
    return of_spectrum(mp.sqrt, m)


def brenier(a, b):
    half, back = root(a), of_spectrum(lambda x: 1 / mp.sqrt(x), a)
    return back * root(half * b * half) * back


def lyapunov(sigma, c):
    values, vectors = mp.eigsy(sigma)
    inside = vectors.T * c * vectors
    for i in range(DIM):
        for j in range(DIM):
            inside[i, j] /= values[i] + values[j]
    return vectors * inside * vectors.T


def trace(m):
    return sum(m[i, i] for i in range(DIM))


def log(a, b):
    half = (brenier(a, b) - mp.eye(DIM)) * a
    return half + half.T


def geodesic(t, a, b):
    moved = (1 - t) * mp.eye(DIM) + t * brenier(a, b)
    return moved * a * moved


def exp(a, u):
    moved = mp.eye(DIM) + lyapunov(a, u)
    return moved * a * moved


def inner(a, u, v):
    return trace(lyapunov(a, u) * v) / 2


def horizontal(s, x):
    pushed = x * s.T
    return lyapunov(s * s.T, pushed + pushed.T) * s


def slope(function, at, direction):
    ahead, behind = function(at + STEP * direction), function(at - STEP * direction)
    return (ahead - behind) / (2 * STEP)


def wanted(a, b, u, v, s, x):
    a, b, u, v, s, x = (mp.matrix(m.astype(float).tolist()) for m in (a, b, u, v, s, x))
    there, t = brenier(a, b), mp.mpf(0.25)
    excess = there - mp.eye(DIM)
    square, level = trace(excess * a * excess), horizontal(s, x)
    found = {
        "distance": mp.sqrt(square),
        "squared_distance": square,
        "brenier_map": there,
        "gradient": -excess,
        "gradient in b": mp.eye(DIM) - brenier(b, a),
        "log": log(a, b),
        "geodesic": geodesic(t, a, b),
        "exp": exp(a, u),
        "inner": inner(a, u, v),
        "horizontal": level,
        "vertical": x - level,
        "root": root(a),
        "rate of map": slope(lambda a: brenier(a, b), a, v),
        "rate of log": slope(lambda a: log(a, b), a, v),
        "rate of geodesic": slope(lambda a: geodesic(t, a, b), a, v),
        "rate of exp": slope(lambda a: exp(a, u), a, v),
        "rate of inner": slope(lambda a: inner(a, u, v), a, v),
        "rate of horizontal": slope(lambda s: horizontal(s, x), s, x),
        "rate of root": slope(root, a, v),
    }
    return {k: np.array(w.tolist(), float) if isinstance(w, mp.matrix) else float(w)
            for k, w in found.items()}  # fmt: skip


# --- ours ---


def measured(a, b, u, v, s, x):
    def rate(function, at, direction):
        return jax.jvp(function, (at,), (direction,))[1]

    slopes = jax.grad(bures.squared_distance, argnums=(0, 1))(a, b)
    return {
        "distance": bures.distance(a, b),
        "squared_distance": bures.squared_distance(a, b),
        "brenier_map": bures.brenier_map(a, b),
        "gradient": slopes[0],
        "gradient in b": slopes[1],
        "log": bures.log(a, b),
        "geodesic": bures.geodesic(0.25, a, b),
        "exp": bures.exp(a, u),
        "inner": bures.inner(a, u, v),
        "horizontal": bures.horizontal(s, x),
        "vertical": bures.vertical(s, x),
        "root": _linalg.root(a),
        "rate of map": rate(lambda a: bures.brenier_map(a, b), a, v),
        "rate of log": rate(lambda a: bures.log(a, b), a, v),
        "rate of geodesic": rate(lambda a: bures.geodesic(0.25, a, b), a, v),
        "rate of exp": rate(lambda a: bures.exp(a, u), a, v),
        "rate of inner": rate(lambda a: bures.inner(a, u, v), a, v),
        "rate of horizontal": rate(lambda s: bures.horizontal(s, x), s, x),
        "rate of root": rate(_linalg.root, a, v),
    }


NAMES = (
    "distance", "squared_distance", "brenier_map", "gradient", "gradient in b", "log", "geodesic",
    "exp", "inner", "horizontal", "vertical", "root", "rate of map", "rate of log",
    "rate of geodesic", "rate of exp", "rate of inner", "rate of horizontal", "rate of root",
)  # fmt: skip


# --- problems ---


def correlations(rng, condition):
    basis = np.linalg.qr(rng.normal(size=(DIM, DIM)))[0]
    m = (basis * np.geomspace(1, 1 / condition, DIM)) @ basis.T
    return m / np.sqrt(np.outer(np.diag(m), np.diag(m)))


def problem(rng, condition, decades, kind, dtype):
    """Two covariances, a short step and a tangent at the first, a factor and a tangent at it."""
    mine = theirs = 10 ** rng.uniform(-decades, decades, DIM)
    a = correlations(rng, condition)
    low, h, v, x = np.linalg.cholesky(a), *rng.normal(size=(3, DIM, DIM))
    b = correlations(rng, condition)
    if kind == "near":
        b = a + 1e-4 * low @ (h + h.T) @ low.T
    elif kind == "mixed":  # only the smallest coordinate moves, and far
        b, theirs = a, mine * np.where(np.arange(DIM) == mine.argmin(), 2.0, 1.0)
    elif kind == "apart":
        theirs = 10 ** rng.uniform(-decades, decades, DIM)
    u = 0.1 * low @ (h + h.T) @ low.T
    here = np.outer(mine, mine)
    found = a * here, b * np.outer(theirs, theirs), u * here, (v + v.T) * here
    found = *((m + m.T) / 2 for m in found), low * mine[:, None], x * mine[:, None]
    return tuple(m.astype(dtype) for m in found)


@functools.lru_cache
def results(dtype):
    """What was found and is right for every kind, condition and spread of scales."""
    rng = np.random.default_rng(0)
    cases = [
        (condition, decades, kind)
        for condition in CONDITIONS[dtype] for decades in (0, 6) for kind in KINDS
    ]  # fmt: skip
    problems = [problem(rng, *case, dtype) for case in cases]
    found = jax.jit(jax.vmap(measured))(*map(jnp.stack, zip(*problems, strict=True)))
    with mp.workdps(150):
        right = [wanted(*each) for each in problems]
    found = [{k: np.asarray(v[i], float) for k, v in found.items()} for i in range(len(cases))]
    return list(zip(cases, problems, found, right, strict=True))


def natural(name, a, b):
    """What the deviations make of an entry's size, up to a factor common to all entries."""
    mine, theirs = (np.sqrt(np.diag(m).astype(float)) for m in (a, b))
    both = np.outer(mine + theirs, mine + theirs)
    least = np.minimum.outer(mine * theirs, mine * theirs)
    ratio = lambda d: np.minimum.outer(d, d) / np.maximum.outer(d, d)
    here = least / np.outer(mine, mine)
    return {
        "brenier_map": here,
        "gradient": here + ratio(mine),
        "gradient in b": least / np.outer(theirs, theirs) + ratio(theirs),
        "rate of map": here + ratio(mine),
        "log": both,
        "geodesic": both,
        "rate of log": both,
        "rate of geodesic": both,
        "exp": np.outer(mine, mine),
        "rate of exp": np.outer(mine, mine),
        "root": np.minimum.outer(mine, mine),
        "rate of root": np.minimum.outer(mine, mine),
    }.get(name, np.ones((DIM, DIM)) * mine[:, None])


def error(name, problem, found, right):
    """The largest error of an entry, of the size that the largest entry has for its place."""
    if np.ndim(right) == 0:
        return abs(found / right - 1)
    size = natural(name, *problem[:2])
    return np.max(np.abs(found - right) / size) / np.max(np.abs(right) / size)


dtypes = pytest.mark.parametrize("dtype", CONDITIONS)


@dtypes
@pytest.mark.parametrize("name", NAMES)
def test_the_error_is_eps_times_the_condition_of_correlations_whatever_the_scales(name, dtype):
    for case, problem, found, right in results(dtype):
        bound = 50 * DIM * np.finfo(dtype).eps * case[0]
        assert error(name, problem, found[name], right[name]) < bound, case


@dtypes
def test_the_distance_of_close_matrices_keeps_its_digits_at_any_condition_and_scale(dtype):
    for (condition, _, kind), problem, found, right in results(dtype):
        if kind == "near":
            bound = 1e3 * DIM * np.finfo(dtype).eps
            assert error("", problem, found["distance"], right["distance"]) < bound, condition


@dtypes
def test_a_geodesic_keeps_its_digits_where_conditions_are_moderate(dtype):
    for (condition, _, _), problem, found, right in results(dtype):
        if condition < 1e4:
            bound = 50 * DIM * np.finfo(dtype).eps
            assert error("geodesic", problem, found["geodesic"], right["geodesic"]) < bound


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e4, 1e6])
def test_float32_distance_does_not_see_the_scale_of_a_coordinate_that_stays(scale):
    # The first coordinate stretches by 1 %, the correlation stays.
    a = jnp.array([[1.0, 0.5 * scale], [0.5 * scale, scale**2]], jnp.float32)
    b = jnp.array([[1.0201, 0.505 * scale], [0.505 * scale, scale**2]], jnp.float32)
    right = 0.01  # d^2 = (1.01 - 1)^2 up to 1 / scale^2
    atol = 1e-6 if scale > 1 else 1e-3
    np.testing.assert_allclose(bures.distance(a, b), right, rtol=0, atol=atol)


def test_the_gradient_is_as_exact_as_the_map_at_condition_1e12():
    turn = lambda w: np.array([[np.cos(w), -np.sin(w)], [np.sin(w), np.cos(w)]])
    a, b = (turn(w) @ np.diag([1.0, 1e-12]) @ turn(w).T for w in (0.3, 1.1))
    slope = jax.grad(bures.squared_distance)(a, b)
    with mp.workdps(80):
        right = mp.eye(2) - brenier(mp.matrix(((a + a.T) / 2).tolist()), mp.matrix(b.tolist()))
    right = np.array(right.tolist(), float)
    np.testing.assert_allclose(slope, right, rtol=0, atol=1e-4 * np.abs(right).max())
