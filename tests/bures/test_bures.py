"""Bures-Wasserstein geometry against closed forms, limits and finite differences.

Metric axioms, exp, log, maps and geodesics of drawn matrices are in test_hypothesis_geometry,
digits against mpmath in test_bures_digits, refusals and transforms in tests/contract.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from divergence_flows import _linalg, bures

pytestmark = pytest.mark.usefixtures("x64")
A = np.array([[2.0, 0.5], [0.5, 1.0]])
B = np.array([[1.0, -0.3], [-0.3, 0.5]])
LINE = np.diag([4.0, 0.0])
IDENTITY = np.eye(3)
# Two equal eigenvalues and one other, not along the axes.
REPEATED = np.eye(3) + np.full((3, 3), 0.5)


def normal(seed, count):
    return np.random.default_rng(seed).normal(size=(count, 3, 3))


FACTORS = normal(3, 2) / np.sqrt(3)
# Positive definite, of condition below 100 or so; they do not commute.
C, D = FACTORS @ FACTORS.transpose(0, 2, 1) + 0.1 * IDENTITY
U, V = (x + x.T for x in normal(103, 2) / 2)
S, X = normal(203, 2)


def map_formula(a, b):
    root = scipy.linalg.sqrtm(a).real
    inverse = np.linalg.inv(root)
    return inverse @ scipy.linalg.sqrtm(root @ b @ root).real @ inverse


def central(function, x, direction, step=1e-4):
    """Directional derivative, fourth order in the step."""
    at = lambda k: function(*(a + k * step * d for a, d in zip(x, direction, strict=True)))
    return (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * step)


def close(actual, desired, rtol=1e-10, atol=1e-12):
    np.testing.assert_allclose(actual, desired, rtol=rtol, atol=atol)


# --- the submersion ---


def test_horizontal_part_keeps_its_digits_in_float32_at_condition_1e4():
    left, right = np.linalg.qr(S)[0], np.linalg.qr(X)[0]
    s, x = ((left * [1.0, 1e-2, 1e-4]) @ right).astype(np.float32), U.astype(np.float32)
    # A float32 error of S turns its smallest singular vector by eps * 1e4 / 1e2.
    exact = bures.horizontal(s.astype(float), x.astype(float))
    close(bures.horizontal(s, x), exact, rtol=0, atol=1e-4)


def test_horizontal_part_has_a_derivative_at_repeated_singular_values():
    # At S = I, hor(X) = sym X. Along S = I + e U, to first order:
    # K = sym X + e K1, 2 K1 = X U + U X^T - 2 (U sym X + sym X U); hor = K S.
    sym = (X + X.T) / 2
    first = (X @ U + U @ X.T - 2 * (U @ sym + sym @ U)) / 2 + sym @ U
    _, ours = jax.jvp(lambda s: bures.horizontal(s, X), (IDENTITY,), (U,))
    close(ours, first)


# --- distance and geodesics ---


def test_exp_and_geodesic_are_refused_only_beyond_their_end():
    # L = u/2 at I: I + L is singular at u = -2 I.
    close(bures.exp(IDENTITY, -1.9 * IDENTITY), 0.05**2 * IDENTITY)
    with pytest.raises(Exception, match="exp: `u` leaves the geodesic"):
        bures.exp(IDENTITY, -2.1 * IDENTITY)
    # From I to I/4 the map is I/2: M = (1 - t/2) I, singular at t = 2.
    close(bures.geodesic(1.9, IDENTITY, IDENTITY / 4), 0.05**2 * IDENTITY)
    with pytest.raises(Exception, match="geodesic: `t` is beyond the end"):
        bures.geodesic(2.1, IDENTITY, IDENTITY / 4)


def test_both_triangles_of_an_argument_count():
    skew = np.array([[0.0, 0.1], [-0.1, 0.0]])
    close(bures.distance(A + skew, B - skew), bures.distance(A, B))
    close(bures.log(A + skew, B), bures.log(A, B))
    close(bures.inner(A + skew, B + skew, A), bures.inner(A, B, A))
    close(bures.exp(A + skew, 0.1 * B + skew), bures.exp(A, 0.1 * B))
    close(_linalg.root(jnp.asarray(A + skew)), _linalg.root(jnp.asarray(A)))
    slope = jax.grad(bures.squared_distance)(A, B)
    close(slope, slope.T, rtol=0)


def test_distance_of_close_matrices_keeps_its_digits():
    for size in (1e-1, 1e-3, 1e-5, 1e-6):
        a, b = C.astype(np.float32), (C + size * U).astype(np.float32)
        found = bures.distance(a, b)
        assert found.dtype == np.float32
        close(found, bures.distance(a.astype(float), b.astype(float)), rtol=2e-5)
    # In the limit it is the length of the difference, which a difference of traces would lose.
    b = C + 1e-9 * U
    close(bures.distance(C, b), np.sqrt(bures.inner(C, b - C, b - C)), rtol=1e-7)


def test_distance_to_a_singular_matrix_is_a_projection():
    # From N(0, A) to the point mass at 0, and to its own first coordinate stretched.
    far = np.trace(A) + 4.0 - 2 * np.sqrt(A[0, 0] * 4.0)
    pairs = (A, 0 * A), (A, LINE), (LINE, A), (LINE, LINE)
    found = [bures.squared_distance(*pair) for pair in pairs]
    close(found, [np.trace(A), far, far, 0.0], atol=1e-15)


# --- derivatives ---


def test_gradient_is_one_minus_the_map_at_repeated_eigenvalues_too():
    for a in (IDENTITY, REPEATED):
        for b in (IDENTITY, 2 * IDENTITY, REPEATED, D):
            slope = jax.grad(bures.squared_distance)(a, b)
            close(slope, IDENTITY - map_formula(a, b), atol=1e-7)


def test_gradient_of_the_distance_is_zero_at_equality_and_of_unit_length_near_it():
    gradient = jax.grad(bures.distance)
    for dtype, size in ((np.float32, 1e-5), (np.float64, 1e-12)):
        for a in (IDENTITY, REPEATED, C):
            a = a.astype(dtype)
            assert bures.distance(a, a) == 0.0
            slope = gradient(a, a)
            assert slope.dtype == dtype
            np.testing.assert_array_equal(slope, 0.0)
        # In the metric: the Riemannian gradient 2 (G A + A G) of a distance has length 1.
        slope = np.asarray(gradient(C.astype(dtype), (C + size * U).astype(dtype)))
        close(4 * np.trace(slope @ C @ slope), 1.0, rtol=1e-4)


def test_second_derivative_at_equality_is_twice_the_metric():
    along = lambda a, b: jax.jvp(lambda a: jax.grad(bures.squared_distance)(a, b), (a,), (U,))[1]
    for a in (IDENTITY, REPEATED, C):
        close(np.sum(along(a, a) * V), 2 * bures.inner(a, U, V))
    # Away from equality, against differences of the gradient I - T, with T from scipy.
    close(along(IDENTITY, C), central(lambda a: -map_formula(a, C), (IDENTITY,), (U,)), atol=1e-7)


def test_third_derivative_along_multiples_of_the_identity():
    # f(v) = d^2(v I, I) = 3 (v^1/2 - 1)^2, so f'' = 3/2 v^-3/2 and its slope at 1 is -9/4.
    along = lambda v: bures.squared_distance(v * IDENTITY, IDENTITY)
    third = jax.jit(jax.grad(jax.grad(jax.grad(along))))(1.0)
    close(third, -2.25)


def test_gradient_to_a_singular_matrix_held_fixed():
    # T carries A to the line diag(4, 0): T = 4 e e^T / sqrt(4 A_11).
    expected = np.eye(2) - np.diag([4.0 / np.sqrt(4.0 * A[0, 0]), 0.0])
    close(jax.grad(bures.squared_distance)(A, LINE), expected)
    close(jax.jit(jax.grad(bures.squared_distance, argnums=1))(LINE, A), expected)


# --- matrix functions ---


def test_derivatives_of_the_root_at_the_identity():
    # (I + e U)^{1/2} = I + e U/2 - e^2 U^2/8 + e^3 U^3/16.
    along = lambda e: _linalg.root(IDENTITY + e * U)
    second = jax.jacfwd(jax.jacfwd(along))
    first, second, third = jax.jit(
        lambda e: (jax.jacrev(along)(e), second(e), jax.jacrev(second)(e))
    )(0.0)
    atol = 20 * np.finfo(float).eps
    close(first, U / 2, atol=atol)
    close(second, -U @ U / 4, atol=atol)
    close(third, 3 * U @ U @ U / 8, atol=10 * atol)


def test_hessian_of_a_function_of_the_root_at_repeated_eigenvalues():
    # tr(R^3) = tr(Sigma^{3/2}): gradient 3/2 R, Hessian along U, V 3/2 tr(L_R[U] V).
    cube = lambda sigma: jnp.trace(_linalg.product(*[_linalg.root(sigma)] * 3))
    root = scipy.linalg.sqrtm(REPEATED)
    slope, rate = jax.jvp(jax.grad(cube), (jnp.asarray(REPEATED),), (jnp.asarray(U),))
    close(slope, 1.5 * root)
    close(np.sum(rate * V), 1.5 * np.trace(scipy.linalg.solve_sylvester(root, root, U) @ V))


def test_lyapunov_solves_its_equation_and_so_do_its_derivatives():
    x, dx = jax.jvp(_linalg.lyapunov, (jnp.asarray(C), jnp.asarray(S)), (U, X))
    close(C @ x + x @ C, S)
    close(C @ dx + dx @ C, X - U @ x - x @ U, atol=1e-10)
    # Along Sigma = I + e U with C = I: X = (I + e U)^{-1} / 2, X'' = U^2.
    along = lambda e: _linalg.lyapunov(IDENTITY + e * U, jnp.asarray(IDENTITY))
    close(jax.jit(jax.jacrev(jax.jacfwd(along)))(0.0), U @ U)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_root_of_a_singular_matrix_has_no_negative_or_lost_part(dtype):
    s = np.array([1.0, 2.0, -1.0], dtype)
    sigma = jnp.outer(s, s)
    # The root of s s^T is s s^T / |s|; an eigenvalue's roundoff eps is a root's sqrt(eps).
    atol = 10 * np.sqrt(np.finfo(dtype).eps)
    close(_linalg.root(sigma), sigma / np.linalg.norm(s), rtol=0, atol=atol)


def test_safe_sqrt_has_the_slope_of_a_root_and_none_at_zero():
    x = jnp.array([0.0, 4.0, jnp.inf, jnp.nan])
    close(_linalg.safe_sqrt(x), np.sqrt(x))
    close(jax.vmap(jax.grad(_linalg.safe_sqrt))(x), [0.0, 0.25, 0.0, np.nan])


def test_indefinite_and_nan_matrices_are_refused_under_jit_and_grad():
    gradient = eqx.filter_jit(jax.grad(bures.distance))
    for bad in (np.array([[1.0, 2.0], [2.0, 1.0]]), np.full((2, 2), np.nan)):
        with pytest.raises(Exception, match=r"distance: `b` has a negative .*Pass a covariance"):
            gradient(A, bad)
