"""Digits of Bures geometry where coordinates differ in scale, against mpmath in many digits.

An entry is measured by its own size: d_i d_j for covariances with deviations d, min(d) / max(d)
for maps. The bound is eps times the condition of the correlations, whatever the deviations.
"""

import functools
import itertools
import types

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


# --- the definitions, in 150 digits ---


def of_spectrum(function, m):
    values, vectors = mp.eigsy((m + m.T) / 2)
    return vectors * mp.diag([function(value) for value in values]) * vectors.T


def root(m):
    return of_spectrum(mp.sqrt, m)


def brenier_map(a, b):
    half, back = root(a), of_spectrum(lambda x: 1 / mp.sqrt(x), a)
    return back * root(half * b * half) * back


def excess(a, b):
    return brenier_map(a, b) - mp.eye(a.rows)


def lyapunov(sigma, c):
    values, vectors = mp.eigsy(sigma)
    inside = vectors.T * c * vectors
    for i in range(DIM):
        for j in range(DIM):
            inside[i, j] /= values[i] + values[j]
    return vectors * inside * vectors.T


def trace(m):
    return sum(m[i, i] for i in range(DIM))


def squared_distance(a, b):
    return trace(excess(a, b) * a * excess(a, b))


def log(a, b):
    half = excess(a, b) * a
    return half + half.T


def geodesic(t, a, b):
    moved = (1 - t) * mp.eye(DIM) + t * brenier_map(a, b)
    return moved * a * moved


def exp(a, u):
    moved = mp.eye(DIM) + lyapunov(a, u)
    return moved * a * moved


def horizontal(s, x):
    pushed = x * s.T
    return lyapunov(s * s.T, pushed + pushed.T) * s


def rate(function, at, direction):
    ahead, behind = function(at + STEP * direction), function(at - STEP * direction)
    return (ahead - behind) / (2 * STEP)


DEFINED = types.SimpleNamespace(
    distance=lambda a, b: mp.sqrt(squared_distance(a, b)),
    squared_distance=squared_distance,
    gradients=lambda a, b: (-excess(a, b), -excess(b, a)),
    brenier_map=brenier_map,
    log=log,
    geodesic=geodesic,
    exp=exp,
    inner=lambda a, u, v: trace(lyapunov(a, u) * v) / 2,
    horizontal=horizontal,
    vertical=lambda s, x: x - horizontal(s, x),
    root=root,
    rate=rate,
)
OURS = types.SimpleNamespace(
    **vars(bures),
    gradients=jax.grad(bures.squared_distance, argnums=(0, 1)),
    root=_linalg.root,
    rate=lambda function, at, direction: jax.jvp(function, (at,), (direction,))[1],
)


def quantities(of, a, b, u, v, s, x):
    """What is compared, by our functions or by the definitions."""
    slopes = of.gradients(a, b)
    return {
        "distance": of.distance(a, b),
        "squared_distance": of.squared_distance(a, b),
        "brenier_map": of.brenier_map(a, b),
        "gradient": slopes[0],
        "gradient in b": slopes[1],
        "log": of.log(a, b),
        "geodesic": of.geodesic(0.25, a, b),
        "exp": of.exp(a, u),
        "inner": of.inner(a, u, v),
        "horizontal": of.horizontal(s, x),
        "vertical": of.vertical(s, x),
        "root": of.root(a),
        "rate of map": of.rate(lambda a: of.brenier_map(a, b), a, v),
        "rate of log": of.rate(lambda a: of.log(a, b), a, v),
        "rate of geodesic": of.rate(lambda a: of.geodesic(0.25, a, b), a, v),
        "rate of exp": of.rate(lambda a: of.exp(a, u), a, v),
        "rate of inner": of.rate(lambda a: of.inner(a, u, v), a, v),
        "rate of horizontal": of.rate(lambda s: of.horizontal(s, x), s, x),
        "rate of root": of.rate(of.root, a, v),
    }


def wanted(*given):
    """The definitions of what is compared, rounded to float64."""
    with mp.workdps(150):
        exact = (mp.matrix(m.astype(float).tolist()) for m in given)
        found = quantities(DEFINED, *exact)
    as_floats = lambda w: np.array(w.tolist(), float) if isinstance(w, mp.matrix) else float(w)
    return {name: as_floats(value) for name, value in found.items()}


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
    cases = list(itertools.product(CONDITIONS[dtype], (0, 6), KINDS))
    problems = [problem(rng, *case, dtype) for case in cases]
    together = map(jnp.stack, zip(*problems, strict=True))
    found = jax.jit(jax.vmap(functools.partial(quantities, OURS)))(*together)
    found = [{k: np.asarray(v[i], float) for k, v in found.items()} for i in range(len(cases))]
    return list(zip(cases, problems, found, [wanted(*each) for each in problems], strict=True))


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
        "map": here + ratio(mine),
        "log": both,
        "geodesic": both,
        "exp": np.outer(mine, mine),
        "root": np.minimum.outer(mine, mine),
    }.get(name.removeprefix("rate of "), np.ones((DIM, DIM)) * mine[:, None])


def error(name, problem, found, right):
    """The largest error of an entry, of the size that the largest entry has for its place."""
    if np.ndim(right) == 0:
        return abs(found / right - 1)
    size = natural(name, *problem[:2])
    return np.max(np.abs(found - right) / size) / np.max(np.abs(right) / size)


dtypes = pytest.mark.parametrize("dtype", CONDITIONS)


@dtypes
def test_errors_are_eps_times_the_condition_of_correlations_whatever_the_scales(dtype):
    for case, problem, found, right in results(dtype):
        bound = 50 * DIM * np.finfo(dtype).eps * case[0]
        for name in right:
            assert error(name, problem, found[name], right[name]) < bound, (name, case)


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


def test_the_gradient_is_as_exact_as_the_map_at_condition_1e12():
    turn = lambda w: np.array([[np.cos(w), -np.sin(w)], [np.sin(w), np.cos(w)]])
    a, b = (turn(w) @ np.diag([1.0, 1e-12]) @ turn(w).T for w in (0.3, 1.1))
    slope = jax.grad(bures.squared_distance)(a, b)
    with mp.workdps(80):
        right = -excess(mp.matrix(((a + a.T) / 2).tolist()), mp.matrix(b.tolist()))
    right = np.array(right.tolist(), float)
    np.testing.assert_allclose(slope, right, rtol=0, atol=1e-4 * np.abs(right).max())
