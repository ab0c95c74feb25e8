"""Transport between samples: against brute force, sorting, translation and Brenier's map."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import divergence_flows as df

A = np.array([[2.0, 0.5], [0.5, 1.0]])
B = np.array([[1.0, -0.3], [-0.3, 0.5]])
RNG = np.random.default_rng(0)
XS, YS = RNG.normal(size=(6, 2)), 0.5 + RNG.normal(size=(6, 2))


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


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
    chex.assert_numerical_grads(df.wasserstein2, (jnp.asarray(XS), jnp.asarray(YS)), order=1)


def test_samples_of_different_size_are_refused():
    with pytest.raises(Exception, match="ys"):
        df.wasserstein2(XS, YS[:5])


def test_not_a_number_is_refused():
    with pytest.raises(Exception, match="wasserstein2: `xs` has NaN"):
        jax.block_until_ready(df.wasserstein2(np.full((2, 1), np.nan), np.zeros((2, 1))))


def test_jit_and_vmap_change_nothing():
    xs, ys = jnp.asarray(RNG.normal(size=(2, 3, 8, 2)))
    each = jnp.stack([df.wasserstein2(x, y) for x, y in zip(xs, ys, strict=True)])
    chex.assert_trees_all_close(jax.jit(jax.vmap(df.wasserstein2))(xs, ys), each, rtol=1e-12)
    slopes = jax.vmap(jax.grad(df.wasserstein2))(xs, ys)
    chex.assert_trees_all_close(slopes[0], jax.grad(df.wasserstein2)(xs[0], ys[0]), rtol=1e-12)


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


def test_a_geodesic_is_as_long_as_the_distance_of_its_ends():
    x = cubature()
    length = df.curve_length(geodesic_field, x, [0.0, 1.0])
    np.testing.assert_allclose(length, df.wasserstein2(x, x @ brenier()), atol=1e-7)
    end = df.integrate(geodesic_field, x, [0.0, 0.5, 1.0]).ys
    np.testing.assert_allclose(end[1], df.displacement(push, 0.5, x), atol=1e-7)


def spiral(t, xs, args):
    return xs @ jnp.array([[-0.5, 2.0], [-2.0, -0.5]]) + jnp.sin(t)


def test_any_other_curve_is_longer_than_the_distance_of_its_ends():
    length = df.curve_length(spiral, XS, [0.0, 1.0, 2.0])
    end = df.integrate(spiral, XS, [0.0, 2.0]).ys[-1]
    assert length > 1.05 * df.wasserstein2(XS, end)


def circle(t, xs, args):
    return xs @ jnp.array([[0.0, 1.0], [-1.0, 0.0]])


def test_a_circles_length_is_that_of_its_arc():
    x = np.array([[2.0, 0.0], [0.0, -2.0]])
    np.testing.assert_allclose(df.curve_length(circle, x, [0, np.pi]), 2 * np.pi, atol=1e-6)


def still(t, xs, args):
    return args * xs


def still_length(rate):
    return df.curve_length(still, np.ones((2, 1)), [0.0, 1.0], rate)


def test_a_cloud_at_rest_has_length_and_gradient_zero():
    assert jax.value_and_grad(still_length)(0.0) == (0.0, 0.0)
