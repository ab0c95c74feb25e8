"""Transport between samples: against brute force, sorting, translation and Brenier's map."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import divergence_flows as df

pytestmark = pytest.mark.usefixtures("x64")
A = np.array([[2.0, 0.5], [0.5, 1.0]])
B = np.array([[1.0, -0.3], [-0.3, 0.5]])
RNG = np.random.default_rng(0)
XS, YS = RNG.normal(size=(6, 2)), 0.5 + RNG.normal(size=(6, 2))


def brenier():
    """The optimal map of N(0, A) to N(0, B), a symmetric matrix; A and B do not commute."""
    root = scipy.linalg.sqrtm(A)
    inverse = np.linalg.inv(root)
    return inverse @ scipy.linalg.sqrtm(root @ B @ root) @ inverse


def cubature():
    """Four points with mean 0 and covariance A."""
    columns = np.sqrt(2) * np.linalg.cholesky(A).T
    return np.concatenate([columns, -columns])


def push(x):
    return jnp.asarray(brenier()) @ x


def test_assignment_is_the_best_of_all_permutations():
    costs = {
        order: np.mean(np.sum((XS - YS[list(order)]) ** 2, 1))
        for order in itertools.permutations(range(6))
    }
    best = min(costs, key=costs.get)
    np.testing.assert_array_equal(df.coupling(XS, YS), best)
    np.testing.assert_allclose(df.wasserstein2(XS, YS), np.sqrt(costs[best]), rtol=1e-12)


def test_on_a_line_points_pair_in_order():
    x, y = RNG.normal(size=(2, 200, 1))
    sorted_pairs = np.sqrt(np.mean((np.sort(x, 0) - np.sort(y, 0)) ** 2))
    np.testing.assert_allclose(df.wasserstein2(x, y), sorted_pairs, rtol=1e-12)


@pytest.mark.parametrize("shape", [(30, 2), (30, 2, 3)])
def test_translation_is_as_long_as_its_vector(shape):
    x = RNG.normal(size=shape)
    shift = RNG.normal(size=shape[1:])
    moved = RNG.permutation(x + shift)
    np.testing.assert_allclose(df.wasserstein2(x, moved), np.linalg.norm(shift), rtol=1e-12)


def test_two_gaussians_that_do_not_commute():
    x = cubature()
    np.testing.assert_allclose(df.wasserstein2(x, x @ brenier()) ** 2, 0.5533014127705, rtol=1e-11)


def test_gradient_is_the_pairs_difference_and_zero_at_equality():
    distance, slope = jax.value_and_grad(df.wasserstein2)(jnp.asarray(XS), YS)
    expected = (XS - YS[np.asarray(df.coupling(XS, YS))]) / (6 * distance)
    np.testing.assert_allclose(slope, expected, rtol=1e-12)
    np.testing.assert_array_equal(jax.grad(df.wasserstein2)(jnp.asarray(XS), XS), 0.0)


def test_displacement_splits_the_distance_as_time_does():
    x = cubature()
    middle, end = df.displacement(push, 0.3, x), df.displacement(push, 1, x)
    whole = np.sqrt(0.5533014127705)
    np.testing.assert_allclose(df.wasserstein2(x, middle), 0.3 * whole, rtol=1e-10)
    np.testing.assert_allclose(df.wasserstein2(middle, end), 0.7 * whole, rtol=1e-10)
    np.testing.assert_allclose(end.T @ end / 4, B, atol=1e-12)


def geodesic_field(t, xs, args):
    """The velocity of x + t (T x - x), seen from where the particle is at t."""
    matrix, one = jnp.asarray(brenier()), jnp.eye(2)
    starts = jnp.linalg.solve((1 - t) * one + t * matrix, xs.T).T
    return starts @ (matrix - one)


def test_a_displacement_follows_its_geodesic_which_is_as_long_as_the_distance_of_its_ends():
    x = cubature()
    length = df.curve_length(geodesic_field, x, [0.0, 1.0])
    np.testing.assert_allclose(length, df.wasserstein2(x, x @ brenier()), atol=1e-7)
    middle, rate = jax.jvp(lambda t: df.displacement(push, t, x), (0.5,), (1.0,))
    np.testing.assert_allclose(rate, geodesic_field(0.5, middle, None), rtol=1e-12)


def linear(t, xs, matrix):
    return xs @ matrix.T


def spiral_length(shrink, turn=1.0):
    """Of x' = (-shrink I + turn J) x from t = 0 to 2."""
    matrix = jnp.array([[-shrink, turn], [-turn, -shrink]])
    return df.curve_length(linear, jnp.asarray(XS), [0.0, 2.0], matrix)


@pytest.mark.parametrize("shrink", [1e-9, 0.5])
def test_circles_and_spirals_are_as_long_as_their_closed_form_and_longer_than_the_distance(shrink):
    radius = np.sqrt(np.mean(np.sum(XS**2, axis=1)))
    exact = np.hypot(shrink, 2.0) * radius * (-np.expm1(-2 * shrink)) / shrink
    length = spiral_length(shrink, 2.0)
    np.testing.assert_allclose(length, exact, rtol=1e-6)
    end = XS @ scipy.linalg.expm(2 * np.array([[-shrink, 2.0], [-2.0, -shrink]])).T
    assert length > 1.05 * df.wasserstein2(XS, end)


def test_a_cloud_at_rest_has_length_and_gradient_zero():
    assert jax.value_and_grad(spiral_length)(0.0, 0.0) == (0.0, 0.0)
