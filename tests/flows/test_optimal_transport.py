"""Transport between samples: against brute force, sorting, quantiles and Brenier's map."""

import functools
import itertools
import sys

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.optimize

import divergence_flows as df

pytestmark = pytest.mark.usefixtures("x64")
A = np.array([[2.0, 0.5], [0.5, 1.0]])
B = np.array([[1.0, -0.3], [-0.3, 0.5]])
RNG = np.random.default_rng(0)
XS, YS = RNG.normal(size=(6, 2)), 0.5 + RNG.normal(size=(6, 2))
MORE = RNG.normal(size=(9, 2))
A_6, A_9 = RNG.dirichlet(np.ones(6)), RNG.dirichlet(np.ones(9))


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


def test_numbers_are_samples_too_whatever_library_holds_them():
    x, y = np.random.default_rng(0).normal(size=(2, 30))
    wanted = np.sqrt(np.mean((np.sort(x) - np.sort(y)) ** 2))
    for kind in (np.asarray, jnp.asarray):
        np.testing.assert_allclose(df.wasserstein2(kind(x), kind(y)), wanted, rtol=1e-6)


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


@pytest.mark.parametrize("weights", [(None, None), (A_6, None), (A_6, A_9)])
def test_a_plan_is_the_optimum_of_the_linear_program(weights):
    masses = [np.full(n, 1 / n) if a is None else a for n, a in zip((6, 9), weights, strict=True)]
    cost = np.sum((XS[:, None] - MORE) ** 2, axis=2)
    rows = [np.kron(np.eye(6), np.ones(9)), np.kron(np.ones(6), np.eye(9))]
    best = scipy.optimize.linprog(cost.ravel(), A_eq=np.concatenate(rows), b_eq=np.hstack(masses))
    given = dict(zip(("weights_x", "weights_y"), weights, strict=True))
    plan = df.coupling(XS, MORE, **given)
    np.testing.assert_allclose(plan, best.x.reshape(6, 9), atol=1e-12)
    np.testing.assert_allclose(df.wasserstein2(XS, MORE, **given) ** 2, best.fun, rtol=1e-12)


def quantile_distance(x, y, a, b):
    """W2 on a line, from both quantile functions, which are constant between their jumps."""
    order, other = np.argsort(x), np.argsort(y)
    up_x, up_y = np.cumsum(a[order]), np.cumsum(b[other])
    jumps = np.unique(np.concatenate([[0.0], up_x, up_y]).clip(0, 1))
    middle = (jumps[1:] + jumps[:-1]) / 2
    at_x = x[order][np.searchsorted(up_x, middle).clip(0, len(x) - 1)]
    at_y = y[other][np.searchsorted(up_y, middle).clip(0, len(y) - 1)]
    return np.sqrt(np.diff(jumps) @ (at_x - at_y) ** 2)


def test_on_a_line_weighted_samples_are_as_far_apart_as_their_quantiles_under_jit_and_vmap():
    x, y = RNG.normal(size=(3, 50)), 1 + RNG.normal(size=(3, 31))
    a, b = RNG.dirichlet(np.ones(50), 3), RNG.dirichlet(np.ones(31), 3)
    found = jax.jit(jax.vmap(lambda x, y, a, b: df.wasserstein2(x, y, weights_x=a, weights_y=b)))
    expected = [quantile_distance(*each) for each in zip(x, y, a, b, strict=True)]
    np.testing.assert_allclose(found(x, y, a, b), expected, rtol=1e-12)


def test_a_point_twice_is_a_point_of_twice_the_weight_and_equal_weights_are_an_assignment():
    expected = df.wasserstein2(XS, YS)
    np.testing.assert_allclose(df.wasserstein2(np.repeat(XS, 2, 0), YS), expected, rtol=1e-12)
    sixths = np.full(6, 1 / 6)
    plan = df.coupling(XS, YS, weights_x=sixths)
    np.testing.assert_allclose(plan, np.eye(6)[np.asarray(df.coupling(XS, YS))] / 6, atol=1e-15)
    doubled = df.wasserstein2(XS, YS[[0, 0, 1, 2]], weights_y=np.array([0.1, 0.3, 0.2, 0.4]))
    once = df.wasserstein2(XS, YS[:3], weights_y=np.array([0.4, 0.2, 0.4]))
    np.testing.assert_allclose(doubled, once, rtol=1e-12)
    zero = df.wasserstein2(XS, YS[:4], weights_y=np.array([0.4, 0.2, 0.4, 0.0]))
    np.testing.assert_allclose(zero, once, rtol=1e-12)


def test_gradients_of_a_weighted_distance_are_its_difference_quotients():
    """In the points, and in the weights along ways that keep their sum."""

    def distance(x, y, a, b):
        return df.wasserstein2(x, y, weights_x=a, weights_y=b)

    point, step = (XS, MORE, A_6, A_9), 1e-6
    slopes = jax.grad(distance, (0, 1, 2, 3))(*map(jnp.asarray, point))
    ways = [RNG.normal(size=np.shape(x)) for x in point]
    for i, (slope, way) in enumerate(zip(slopes, ways, strict=True)):
        way = way - way.mean() if i > 1 else way
        ends = [[*point[:i], point[i] + by * way, *point[i + 1 :]] for by in (step, -step)]
        rise = (distance(*ends[0]) - distance(*ends[1])) / (2 * step)
        np.testing.assert_allclose(np.sum(slope * way), rise, rtol=1e-6)
        assert i < 2 or abs(np.sum(slope)) < 1e-12  # along the simplex
    at_rest = jax.grad(distance)(jnp.asarray(XS), np.repeat(XS, 2, 0), A_6, np.repeat(A_6 / 2, 2))
    np.testing.assert_array_equal(at_rest, 0.0)


def test_without_pot_a_plan_is_refused_with_what_to_install_and_an_assignment_is_not(monkeypatch):
    monkeypatch.setitem(sys.modules, "ot", None)  # as if it were not installed
    for call in (df.coupling, df.wasserstein2):
        with pytest.raises(
            ValueError, match=r'POT.* pip install "divergence_flows\[ot\]"'
        ) as error:
            call(XS, MORE)
        assert str(error.value).startswith(f"{call.__name__}: ") and "\n" not in str(error.value)
        call(XS, YS)


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


def spiral_length(shrink, turn, **options):
    """Of x' = (-shrink I + turn J) x from t = 0 to 2."""
    matrix = jnp.array([[-shrink, turn], [-turn, -shrink]])
    return df.curve_length(linear, jnp.asarray(XS), [0.0, 2.0], matrix, **options)


@pytest.mark.parametrize("shrink", [1e-9, 0.5])
def test_circles_and_spirals_are_as_long_as_their_closed_form_and_longer_than_the_distance(shrink):
    radius = np.sqrt(np.mean(np.sum(XS**2, axis=1)))
    exact = np.hypot(shrink, 2.0) * radius * (-np.expm1(-2 * shrink)) / shrink
    length = spiral_length(shrink, 2.0)
    np.testing.assert_allclose(length, exact, rtol=1e-6)
    end = XS @ scipy.linalg.expm(2 * np.array([[-shrink, 2.0], [-2.0, -shrink]])).T
    assert length > 1.05 * df.wasserstein2(XS, end)


def test_a_cloud_at_rest_has_length_and_gradient_zero():
    by_euler = functools.partial(spiral_length, turn=0.0, solver=diffrax.Euler(), dt0=1.0)
    assert jax.value_and_grad(by_euler)(0.0) == (0.0, 0.0)
