"""Bures-Wasserstein geometry: against scipy, closed forms, limits and its own axioms."""

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from oracles import CASES

import divergence_flows as df
from divergence_flows import _linalg, bures

pytestmark = pytest.mark.usefixtures("x64")
ORACLE = {case["id"]: case for case in CASES}
A = np.array([[2.0, 0.5], [0.5, 1.0]])
B = np.array([[1.0, -0.3], [-0.3, 0.5]])
IDENTITY = np.eye(3)
HESSIAN = jax.jit(jax.hessian(bures.squared_distance))
# Two equal eigenvalues and one other, not along the axes.
REPEATED = np.eye(3) + np.full((3, 3), 0.5)
dims = pytest.mark.parametrize("dim", [2, 5])


def sqrt(sigma):
    return _linalg.sqrt(jnp.asarray(sigma))


def lyapunov(sigma, c):
    return _linalg.lyapunov(jnp.asarray(sigma), jnp.asarray(c))


def rng(dim):
    return np.random.default_rng(dim)


def covariances(dim, count=2):
    """Positive definite, of condition below 100 or so, no two of which commute."""
    factors = rng(dim).normal(size=(count, dim, dim)) / np.sqrt(dim)
    return factors @ factors.transpose(0, 2, 1) + 0.1 * np.eye(dim)


def symmetric(dim):
    x = rng(dim + 100).normal(size=(dim, dim))
    return (x + x.T) / 2


def tangent(dim):
    """A factor and a tangent at it."""
    return rng(dim + 200).normal(size=(2, dim, dim))


def trace_formula(a, b):
    """W2^2 of centred Gaussians, by scipy and subtraction of traces."""
    root = scipy.linalg.sqrtm(a)
    return np.trace(a + b - 2 * scipy.linalg.sqrtm(root @ b @ root)).real


def map_formula(a, b):
    root = scipy.linalg.sqrtm(a).real
    inverse = np.linalg.inv(root)
    return inverse @ scipy.linalg.sqrtm(root @ b @ root).real @ inverse


def central(function, x, direction, step=1e-4):
    """Directional derivative, fourth order in the step."""
    at = lambda k: np.asarray(function(x + k * step * direction))
    return (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * step)


def close(actual, desired, rtol=1e-10, atol=1e-12):
    np.testing.assert_allclose(actual, desired, rtol=rtol, atol=atol)


# --- the oracles ---


def test_squared_distance_of_the_oracle():
    case = ORACLE["F001"]
    given = case["inputs"]
    square = bures.distance(np.array(given["Sigma"]), np.array(given["B"])) ** 2
    close(square, case["expected"], case["rtol"], case["atol"])


def test_logarithm_of_the_oracle():
    case = ORACLE["F003"]
    given = case["inputs"]
    velocity = bures.log(np.array(given["Sigma"]), np.array(given["B"]))
    close(velocity, case["expected"], case["rtol"], case["atol"])


def test_metric_of_the_oracle():
    case = ORACLE["F005"]
    given = {name: np.array(value) for name, value in case["inputs"].items()}
    close(bures.inner(given["Sigma"], given["V"], given["W"]), case["expected"], case["rtol"])


def test_geodesic_of_the_oracle():
    case = ORACLE["F007"]
    given = case["inputs"]
    middle = bures.geodesic(0.7, np.array(given["Sigma"]), np.array(given["B"]))
    close(middle, case["expected"], case["rtol"], case["atol"])


def test_vertical_part_of_the_oracle():
    case = ORACLE["F009"]
    given = case["inputs"]
    part = bures.vertical(np.array(given["S0"]), np.array(given["U"]))
    close(part, case["expected"], case["rtol"], case["atol"])


def test_two_gaussians_that_do_not_commute():
    close(bures.distance(A, B) ** 2, 0.5533014127705, rtol=1e-12)
    close(bures.squared_distance(A, B), 0.5533014127705, rtol=1e-12)


# --- the submersion ---


@dims
def test_parts_add_up_and_are_orthogonal(dim):
    s, x = tangent(dim)
    level, upright = bures.horizontal(s, x), bures.vertical(s, x)
    close(level + upright, x)
    close(np.sum(level * upright), 0.0)


@dims
def test_horizontal_part_is_a_symmetric_matrix_times_s(dim):
    s, x = tangent(dim)
    k = np.asarray(bures.horizontal(s, x)) @ np.linalg.inv(s)
    close(k, k.T, atol=1e-10)


@dims
def test_vertical_part_is_a_skew_matrix_times_the_inverse_transpose(dim):
    s, x = tangent(dim)
    a = np.asarray(bures.vertical(s, x)) @ s.T
    close(a, -a.T, atol=1e-10)


@dims
def test_vertical_part_does_not_move_the_covariance(dim):
    s, x = tangent(dim)
    _, push = jax.jvp(bures.submersion, (s,), (np.asarray(bures.vertical(s, x)),))
    close(push, 0.0)


@dims
def test_submersion_keeps_the_length_of_horizontal_tangents(dim):
    s, x = tangent(dim)
    level = np.asarray(bures.horizontal(s, x))
    sigma, push = jax.jvp(bures.submersion, (s,), (level,))
    close(bures.inner(sigma, push, push), np.sum(level**2), rtol=1e-9)


def test_horizontal_part_keeps_its_digits_in_float32_at_condition_1e4():
    left, right = (np.linalg.qr(matrix)[0] for matrix in tangent(3))
    s = ((left * [1.0, 1e-2, 1e-4]) @ right).astype(np.float32)
    x = symmetric(3).astype(np.float32)
    # A float32 error of S turns its smallest singular vector by eps * 1e4 / 1e2.
    exact = bures.horizontal(s.astype(float), x.astype(float))
    close(bures.horizontal(s, x), exact, rtol=0, atol=1e-4)


@dims
def test_horizontal_part_has_the_derivative_of_finite_differences(dim):
    s, x = tangent(dim)
    direction = symmetric(dim)
    _, ours = jax.jvp(lambda s: bures.horizontal(s, x), (s,), (direction,))
    close(ours, central(lambda s: bures.horizontal(s, x), s, direction), rtol=1e-6, atol=1e-7)


def test_horizontal_part_has_a_derivative_at_repeated_singular_values():
    # At S = I, hor(X) = sym X. Along S = I + e W, to first order, with W symmetric:
    # K = sym X + e K1, 2 K1 = X W + W X^T - 2 (W sym X + sym X W); hor = K S.
    _, x = tangent(3)
    w, sym = symmetric(3), (x + x.T) / 2
    first = (x @ w + w @ x.T - 2 * (w @ sym + sym @ w)) / 2 + sym @ w
    _, ours = jax.jvp(lambda s: bures.horizontal(s, x), (IDENTITY,), (w,))
    close(ours, first)


# --- exp, log and the map ---


@dims
def test_map_is_symmetric_and_carries_a_to_b(dim):
    a, b = covariances(dim)
    t = np.asarray(bures.brenier_map(a, b))
    close(t @ a @ t, b)
    close(t, t.T, rtol=0, atol=0)
    assert np.all(np.linalg.eigvalsh(t) > 0)


@dims
def test_map_and_its_way_back_are_inverse(dim):
    a, b = covariances(dim)
    close(bures.brenier_map(a, b) @ bures.brenier_map(b, a), np.eye(dim), atol=1e-11)


@dims
def test_map_is_scipys(dim):
    a, b = covariances(dim)
    close(bures.brenier_map(a, b), map_formula(a, b), rtol=1e-9, atol=1e-10)


@dims
def test_exp_undoes_log_and_log_undoes_exp(dim):
    a, b = covariances(dim)
    close(bures.exp(a, bures.log(a, b)), b)
    u = 0.1 * symmetric(dim)
    close(bures.log(a, bures.exp(a, u)), u, atol=1e-11)


@dims
def test_log_is_as_long_as_the_distance(dim):
    a, b = covariances(dim)
    u = bures.log(a, b)
    close(bures.inner(a, u, u), trace_formula(a, b))


@dims
def test_log_is_minus_the_gradient_of_half_the_squared_distance(dim):
    a, b = covariances(dim)
    slope = jax.grad(bures.squared_distance)(a, b) / 2
    close(-2 * (slope @ a + a @ slope), bures.log(a, b), atol=1e-11)


def test_log_of_a_matrix_close_by_keeps_its_digits_in_float32():
    a = covariances(3)[0].astype(np.float32)
    b = (a + 1e-5 * symmetric(3)).astype(np.float32)
    u = bures.log(a, b)
    assert u.dtype == np.float32
    close(u, bures.log(a.astype(float), b.astype(float)), rtol=0, atol=3e-5 * np.abs(u).max())


def test_exp_refuses_a_step_beyond_the_end():
    # L = u/2 at I: I + L is singular at u = -2 I.
    with pytest.raises(Exception, match="exp: `u` leaves the geodesic"):
        bures.exp(IDENTITY, -2.1 * IDENTITY)
    close(bures.exp(IDENTITY, -1.9 * IDENTITY), 0.05**2 * IDENTITY)


@dims
def test_geodesic_runs_at_the_speed_of_the_distance(dim):
    a, b = covariances(dim)
    length = np.sqrt(trace_formula(a, b))
    for t, s in ((0.0, 0.3), (0.3, 0.9), (0.25, 1.0), (0.0, 1.0)):
        step = bures.distance(bures.geodesic(t, a, b), bures.geodesic(s, a, b))
        close(step, (s - t) * length, rtol=1e-9)


def test_geodesic_ends_at_both_matrices_and_is_refused_where_it_ends():
    a, b = covariances(5)
    close(bures.geodesic(0, a, b), a)
    close(bures.geodesic(1, a, b), b)
    # From I to I/4 the map is I/2: M = (1 - t/2) I, singular at t = 2.
    close(bures.geodesic(1.5, IDENTITY, IDENTITY / 4), IDENTITY / 16)
    with pytest.raises(Exception, match="geodesic: `t` is beyond the end"):
        bures.geodesic(2.5, IDENTITY, IDENTITY / 4)


# --- the distance ---


@dims
def test_distance_is_scipys_trace_formula(dim):
    a, b = covariances(dim)
    close(bures.distance(a, b) ** 2, trace_formula(a, b))


@dims
def test_distance_is_the_best_alignment_of_factors(dim):
    a, b = covariances(dim)
    lower_a, lower_b = np.linalg.cholesky(a), np.linalg.cholesky(b)
    rotation, _ = scipy.linalg.orthogonal_procrustes(lower_b, lower_a)
    close(bures.distance(a, b), np.linalg.norm(lower_a - lower_b @ rotation))


@dims
def test_distance_is_symmetric(dim):
    a, b = covariances(dim)
    close(bures.distance(a, b), bures.distance(b, a), rtol=1e-12)


def test_distance_obeys_the_triangle_inequality():
    triples = covariances(5, 30).reshape(10, 3, 5, 5)
    d = jax.jit(jax.vmap(bures.distance))
    a, b, c = triples[:, 0], triples[:, 1], triples[:, 2]
    assert np.all(d(a, b) < d(a, c) + d(c, b))
    # It is an equality along a geodesic.
    middle = jax.vmap(bures.geodesic, in_axes=(None, 0, 0))(0.4, a, b)
    close(d(a, middle) + d(middle, b), d(a, b))


def test_wrong_formulas_are_right_only_for_matrices_that_commute():
    wrong = {
        "roots": lambda a, b: np.linalg.norm(scipy.linalg.sqrtm(a) - scipy.linalg.sqrtm(b)) ** 2,
        "cholesky": lambda a, b: np.sum((np.linalg.cholesky(a) - np.linalg.cholesky(b)) ** 2),
        "elementwise": lambda a, b: np.trace(a + b - 2 * np.sqrt(np.abs(a * b))),
    }
    for formula in wrong.values():
        assert abs(formula(A, B) - bures.squared_distance(A, B)) > 1e-3
        diagonal = (np.diag([2.0, 0.3]), np.diag([1.0, 4.0]))
        close(bures.squared_distance(*diagonal), formula(*diagonal))


def test_both_triangles_of_an_argument_count():
    skew = np.array([[0.0, 0.1], [-0.1, 0.0]])
    close(bures.distance(A + skew, B - skew), bures.distance(A, B))
    close(bures.log(A + skew, B), bures.log(A, B))
    close(bures.inner(A + skew, B + skew, A), bures.inner(A, B, A))
    close(bures.exp(A + skew, 0.1 * B + skew), bures.exp(A, 0.1 * B))
    close(sqrt(A + skew), sqrt(A))
    slope = jax.grad(bures.squared_distance)(A, B)
    close(slope, slope.T, rtol=0)


@pytest.mark.parametrize("size", [1e-1, 1e-3, 1e-5, 1e-6])
def test_float32_distance_of_close_matrices_keeps_its_digits(size):
    a = covariances(5)[0].astype(np.float32)
    b = (a + size * symmetric(5)).astype(np.float32)
    exact = bures.distance(a.astype(float), b.astype(float))
    assert bures.distance(a, b).dtype == np.float32
    close(bures.distance(a, b), exact, rtol=2e-5)


def test_float64_distance_of_close_matrices_is_the_length_of_their_difference():
    a, u = covariances(5)[0], symmetric(5)
    b = a + 1e-9 * u
    close(bures.distance(a, b), np.sqrt(bures.inner(a, b - a, b - a)), rtol=1e-7)
    # The trace formula has lost it: that is what our form avoids.
    assert abs(trace_formula(a, b) - bures.squared_distance(a, b)) > 1e-17


def test_distance_is_exactly_zero_at_equality():
    for dtype in (np.float32, np.float64):
        a = covariances(5)[0].astype(dtype)
        assert bures.distance(a, a) == 0.0


def test_float32_distance_of_variances_of_very_different_size():
    # Correlations scale: variances 1, 1e-4 and 1e-8, whose cross terms float32 holds.
    size = np.array([1.0, 1e-2, 1e-4])
    a, b = covariances(3) * np.outer(size, size)
    a, b = a.astype(np.float32), b.astype(np.float32)
    exact = bures.distance(a.astype(float), b.astype(float))
    # In absolute terms: eps times the largest deviation, 1, on a distance of .03.
    close(bures.distance(a, b), exact, rtol=1e-5)


@pytest.mark.parametrize("grade", [0.5, 0.2, 0.1])
def test_float32_map_loses_no_more_digits_than_the_condition_of_a(grade):
    size = grade ** np.arange(3)
    a, b = (covariances(3) * np.outer(size, size)).astype(np.float32)
    exact = bures.brenier_map(a.astype(float), b.astype(float))
    bound = np.finfo(np.float32).eps * np.linalg.cond(a.astype(float))
    close(bures.brenier_map(a, b), exact, rtol=0, atol=bound * np.linalg.norm(exact))


def test_distance_to_a_singular_matrix_is_a_projection():
    # From N(0, A) to the point mass at 0, and to its own first coordinate stretched.
    close(bures.squared_distance(A, np.zeros((2, 2))), np.trace(A))
    line = np.diag([4.0, 0.0])
    root = np.sqrt(A[0, 0] * 4.0)
    close(bures.squared_distance(A, line), np.trace(A) + 4.0 - 2 * root)
    close(bures.squared_distance(line, A), np.trace(A) + 4.0 - 2 * root)
    close(bures.distance(line, line), 0.0, atol=1e-15)


# --- derivatives ---


@dims
def test_gradient_is_one_minus_the_map(dim):
    a, b = covariances(dim)
    slopes = jax.grad(bures.squared_distance, argnums=(0, 1))(a, b)
    expected = (np.eye(dim) - map_formula(a, b), np.eye(dim) - map_formula(b, a))
    chex.assert_trees_all_close(slopes, expected, atol=1e-9)


@pytest.mark.parametrize("a", [IDENTITY, REPEATED], ids=["identity", "repeated"])
@pytest.mark.parametrize("b", [IDENTITY, 2 * IDENTITY, REPEATED, covariances(3)[0]])
def test_gradient_at_repeated_eigenvalues(a, b):
    slope = jax.grad(bures.squared_distance)(a, b)
    close(slope, np.eye(3) - map_formula(a, b), atol=1e-7)


def test_gradient_of_the_distance_is_zero_at_equality():
    gradient = jax.jit(jax.grad(bures.distance))
    for dtype in (np.float32, np.float64):
        for a in (IDENTITY, REPEATED, covariances(3)[0]):
            a = jnp.asarray(a, dtype)
            slope = gradient(a, a)
            assert slope.dtype == dtype
            np.testing.assert_array_equal(slope, 0.0)


def test_gradient_of_the_distance_has_unit_length_near_equality():
    # In the metric: the Riemannian gradient 2 (G A + A G) of a distance has length 1.
    for dtype, size in ((np.float32, 1e-5), (np.float64, 1e-12)):
        a = covariances(3)[0].astype(dtype)
        b = (a + size * symmetric(3)).astype(dtype)
        slope = np.asarray(jax.grad(bures.distance)(a, b))
        close(4 * np.trace(slope @ a @ slope), 1.0, rtol=1e-4)


@dims
def test_gradient_of_the_distance_is_that_of_finite_differences(dim):
    a, b = covariances(dim)
    direction = symmetric(dim)
    ours = np.sum(jax.grad(bures.distance)(a, b) * direction)
    close(ours, central(lambda a: bures.distance(a, b), a, direction), rtol=1e-8)


@pytest.mark.parametrize("a", [IDENTITY, REPEATED, covariances(3)[0]])
def test_second_derivative_at_equality_is_twice_the_metric(a):
    hessian = HESSIAN(a, a)
    u, v = symmetric(3), tangent(3)[0] + tangent(3)[0].T
    ours = np.einsum("ij,ijkl,kl", u, hessian, v)
    close(ours, 2 * bures.inner(a, u, v))


def test_second_derivative_of_the_square_of_one_argument_away_from_equality():
    # Against differences of the gradient I - T, with T from scipy.
    b, u = covariances(3)[0], symmetric(3)
    _, ours = jax.jvp(jax.grad(bures.squared_distance), (IDENTITY, b), (u, np.zeros((3, 3))))
    close(ours, central(lambda a: -map_formula(a, b), IDENTITY, u), atol=1e-7)


def test_third_derivative_along_multiples_of_the_identity():
    # f(v) = d^2(v I, I) = 3 (v^1/2 - 1)^2, so f'' = 3/2 v^-3/2 and its slope at 1 is -9/4.
    along = lambda v: bures.squared_distance(v * IDENTITY, IDENTITY)
    third = jax.jit(jax.grad(jax.grad(jax.grad(along))))(1.0)
    close(third, -2.25)


def test_gradient_to_a_singular_matrix_held_fixed():
    # T carries A to the line diag(4, 0): T = 4 e e^T / sqrt(4 A_11).
    line = np.diag([4.0, 0.0])
    expected = np.eye(2) - np.diag([4.0 / np.sqrt(4.0 * A[0, 0]), 0.0])
    close(jax.grad(bures.squared_distance)(A, line), expected)
    close(jax.jit(jax.grad(bures.squared_distance, argnums=1))(line, A), expected)


@dims
def test_map_and_log_have_the_derivatives_of_finite_differences(dim):
    a, b = covariances(dim)
    u = symmetric(dim)
    for function in (bures.brenier_map, bures.log):
        _, ours = jax.jvp(function, (a, b), (u, np.zeros((dim, dim))))
        close(ours, central(lambda a, f=function: f(a, b), a, u), rtol=1e-6, atol=1e-6)
        _, ours = jax.jvp(function, (a, b), (np.zeros((dim, dim)), u))
        close(ours, central(lambda b, f=function: f(a, b), b, u), rtol=1e-6, atol=1e-6)


def test_geodesic_starts_with_the_velocity_of_log():
    a, b = covariances(3)
    _, start = jax.jvp(lambda t: bures.geodesic(t, a, b), (0.0,), (1.0,))
    close(start, bures.log(a, b), atol=1e-11)


# --- matrix functions ---


@dims
def test_root_is_scipys_and_its_derivative_solves_sylvesters_equation(dim):
    sigma, u = covariances(dim)[0], symmetric(dim)
    root, rate = jax.jvp(sqrt, (sigma,), (u,))
    close(root, scipy.linalg.sqrtm(sigma))
    close(rate, scipy.linalg.solve_sylvester(root, root, u))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_derivatives_of_the_root_at_the_identity(dtype):
    # (I + e U)^{1/2} = I + e U/2 - e^2 U^2/8 + e^3 U^3/16.
    eps, u = jnp.asarray(0.0, dtype), symmetric(3).astype(dtype)
    along = lambda e: sqrt(IDENTITY.astype(dtype) + e * u)
    second = jax.jacfwd(jax.jacfwd(along))
    first, second, third = jax.jit(
        lambda e: (jax.jacrev(along)(e), second(e), jax.jacrev(second)(e))
    )(eps)
    atol = 20 * np.finfo(dtype).eps
    close(first, u / 2, atol=atol)
    close(second, -u @ u / 4, rtol=1e-5, atol=atol)
    close(third, 3 * u @ u @ u / 8, rtol=1e-5, atol=atol)


def test_hessian_of_a_function_of_the_root_at_repeated_eigenvalues():
    # tr(R^3) = tr(Sigma^{3/2}): gradient 3/2 R, Hessian along U, V 3/2 tr(L_R[U] V).
    cube = lambda sigma: jnp.trace(_linalg.product(*[sqrt(sigma)] * 3))
    u, v = symmetric(3), covariances(3)[0]
    close(jax.grad(cube)(REPEATED), 1.5 * scipy.linalg.sqrtm(REPEATED))
    hessian = np.einsum("ij,ijkl,kl", u, jax.jit(jax.hessian(cube))(REPEATED), v)
    root = scipy.linalg.sqrtm(REPEATED)
    close(hessian, 1.5 * np.trace(scipy.linalg.solve_sylvester(root, root, u) @ v))


@dims
def test_lyapunov_solves_its_equation_and_so_does_its_derivative(dim):
    sigma, other = covariances(dim)
    c, dc = tangent(dim)
    ds = other - sigma
    x, dx = jax.jvp(lyapunov, (sigma, c), (ds, dc))
    close(sigma @ x + x @ sigma, c)
    close(sigma @ dx + dx @ sigma, dc - ds @ x - x @ ds, atol=1e-10)


def test_lyapunov_is_differentiated_twice_at_the_identity():
    # Along Sigma = I + e U with C = I: X = (I + e U)^{-1} / 2, X'' = U^2.
    u = symmetric(3)
    along = lambda e: lyapunov(IDENTITY + e * u, IDENTITY)
    close(jax.jacrev(jax.jacfwd(along))(0.0), u @ u)


def test_root_of_a_singular_matrix_has_no_negative_or_lost_part():
    for dtype in (np.float32, np.float64):
        s = np.ones((4, 1), dtype) * np.array([[1.0], [2.0], [-1.0], [0.5]], dtype)
        sigma = s @ s.T
        # The root of s s^T is s s^T / |s|; an eigenvalue's roundoff eps is a root's sqrt(eps).
        atol = 10 * np.sqrt(np.finfo(dtype).eps)
        close(sqrt(sigma), sigma / np.linalg.norm(s), rtol=0, atol=atol)


REFUSED = {
    "sqrt: `sigma`": lambda bad: sqrt(bad),
    "inner: `sigma`": lambda bad: bures.inner(bad, A, B),
    "exp: `sigma`": lambda bad: bures.exp(bad, 0 * B),
    "log: `sigma`": lambda bad: bures.log(bad, B),
    "log: `other`": lambda bad: bures.log(B, bad),
    "geodesic: `a`": lambda bad: bures.geodesic(0.5, bad, B),
    "geodesic: `b`": lambda bad: bures.geodesic(0.5, B, bad),
    "distance: `a`": lambda bad: bures.distance(bad, B),
    "distance: `b`": lambda bad: bures.distance(B, bad),
    "squared_distance: `a`": lambda bad: bures.squared_distance(bad, B),
    "squared_distance: `b`": lambda bad: bures.squared_distance(B, bad),
    "brenier_map: `a`": lambda bad: bures.brenier_map(bad, B),
    "brenier_map: `b`": lambda bad: bures.brenier_map(B, bad),
}


@pytest.mark.parametrize("bad", [[[1.0, 2.0], [2.0, 1.0]], [[-1e-3, 0.0], [0.0, 1.0]]])
@pytest.mark.parametrize("name", REFUSED)
def test_an_indefinite_matrix_is_refused_with_a_remedy(name, bad):
    with pytest.raises(Exception, match=f"{name} .*Pass a covariance"):
        REFUSED[name](jnp.asarray(bad))


def test_an_indefinite_matrix_and_a_nan_are_refused_under_jit_and_grad():
    gradient = eqx.filter_jit(jax.grad(bures.distance))
    batch = eqx.filter_jit(jax.vmap(bures.distance))
    for bad in (np.array([[1.0, 2.0], [2.0, 1.0]]), np.full((2, 2), np.nan)):
        with pytest.raises(Exception, match="distance: `b` has a negative eigenvalue"):
            gradient(A, bad)
        with pytest.raises(Exception, match="distance: `a` has a negative eigenvalue"):
            batch(np.stack([A, bad]), np.stack([B, B]))


@pytest.mark.parametrize("name", ["horizontal", "vertical"])
def test_a_singular_factor_is_refused(name):
    with pytest.raises(Exception, match=f"{name}: `s` is singular"):
        getattr(bures, name)(np.ones((2, 2)), A)


def test_a_singular_start_is_refused_where_no_map_exists():
    with pytest.raises(Exception, match="brenier_map: `a` is not positive definite"):
        bures.brenier_map(np.ones((2, 2)), A)


# --- transforms and doors ---


def test_vmap_under_jit_equals_a_loop():
    a, b = covariances(3, 6).reshape(2, 3, 3, 3)
    a[0] = b[0] = IDENTITY
    functions = (
        jax.value_and_grad(bures.distance),
        bures.log,
        bures.horizontal,
    )
    for function in functions:
        each = [function(*pair) for pair in zip(a, b, strict=True)]
        together = jax.jit(jax.vmap(function))(a, b)
        chex.assert_trees_all_close(
            together, jax.tree.map(lambda *x: jnp.stack(x), *each), atol=1e-12
        )


def test_integers_and_numpy_arrays_are_taken():
    close(bures.distance(4 * np.eye(2, dtype=int), np.eye(2, dtype=int)), np.sqrt(2.0))
    close(df.bures.submersion(np.array([[1, 2], [0, 1]])), [[5.0, 2.0], [2.0, 1.0]])
