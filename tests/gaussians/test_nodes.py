"""Rules for the standard normal: what each integrates, and to how many digits."""

import itertools
import math

import chex
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.stats import kstest
from targets import close

import divergence_flows as df

pytestmark = pytest.mark.usefixtures("x64")
KEY = jr.key(0)
RULES = {
    "cubature": lambda: df.cubature(3),
    "gauss_hermite": lambda: df.gauss_hermite(2, 7),
    "trapezoid": lambda: df.trapezoid(2),
    "normal": lambda: df.normal_nodes(100, 3, key=jr.key(0)),
    "sobol": lambda: df.sobol_nodes(100, 3, key=jr.key(0)),
}


def moment(powers):
    """E[z1^a z2^b ...] under the standard normal."""
    return math.prod(0 if a % 2 else math.prod(range(1, a, 2)) for a in powers)


def estimate(nodes, powers):
    return np.asarray(nodes.weights) @ np.prod(np.asarray(nodes.points) ** powers, axis=1)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_weights_are_positive_and_sum_to_one(rule):
    for x64 in (True, False):
        with jax.enable_x64(x64):
            nodes = rule()
            eps = jnp.finfo(nodes.weights.dtype).eps
            close(jnp.sum(nodes.weights), 1.0, rtol=100 * float(eps))
            assert bool(jnp.all(nodes.weights >= 0))
            assert bool(jnp.all(jnp.isfinite(nodes.points)))
            assert nodes.points.dtype == nodes.weights.dtype == jnp.result_type(float)


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_cubature_is_exact_to_degree_three_and_not_four(dim):
    nodes = df.cubature(dim)
    for powers in itertools.product(range(4), repeat=dim):
        if sum(powers) <= 3:
            close(estimate(nodes, powers), moment(powers), atol=1e-13)
    fourth = estimate(nodes, (4,) + (0,) * (dim - 1))
    close(fourth, float(dim), rtol=1e-13)  # the normal's is 3


@pytest.mark.parametrize(("dim", "order"), [(1, 1), (1, 6), (2, 3), (3, 2), (1, 40)])
def test_gauss_hermite_is_exact_to_degree_two_order_minus_one(dim, order):
    nodes = df.gauss_hermite(dim, order)
    assert nodes.points.shape == (order**dim, dim)
    for powers in itertools.product(range(min(2 * order, 24)), repeat=dim):
        size = moment(tuple(a + a % 2 for a in powers))
        close(estimate(nodes, powers), moment(powers), atol=1e-13 * size)
    first_missed = estimate(nodes, (2 * order,) + (0,) * (dim - 1))
    assert order == 40 or float(first_missed) < moment((2 * order,)) * (1 - 1e-3)


def test_gauss_hermite_holds_up_to_its_last_order():
    nodes = df.gauss_hermite(1, 180)
    close(nodes.weights @ jnp.cos(nodes.points[:, 0]), np.exp(-0.5), rtol=1e-13)


@pytest.mark.parametrize("dim", [1, 2])
def test_trapezoid_is_right_to_round_off(dim):
    # Moment generating function, cosines, and E|z|^2k; a sum of 145,161 terms rounds by 1e-13.
    nodes = df.trapezoid(dim)
    assert len(nodes.weights) == 381**dim
    direction = np.array([1.3, -0.8])[:dim]
    dots = nodes.points @ direction
    size = direction @ direction
    close(nodes.weights @ jnp.exp(dots), np.exp(size / 2), rtol=3e-13)
    close(nodes.weights @ jnp.cos(dots), np.exp(-size / 2), rtol=3e-13)
    close(nodes.weights @ dots**8, 105 * size**4, rtol=3e-13)


def test_sobol_beats_monte_carlo_on_a_smooth_integrand():
    def error(nodes):
        values = jnp.prod(1 + 0.5 * jnp.sin(nodes.points), axis=1)
        return nodes.weights @ values - 1.0

    def spread(rule, n):
        of_key = jax.jit(jax.vmap(lambda key: error(rule(n, 4, key=key))))
        return jnp.std(of_key(jr.split(jr.key(0), 16)))

    monte_carlo = spread(df.normal_nodes, 1024)
    few, many = (spread(df.sobol_nodes, n) for n in (1024, 16384))
    assert 20 * few < monte_carlo
    assert few / many > 8  # near 16 for an error like 1/n, 4 for n^(-1/2)


def test_each_sobol_node_is_normal_over_the_keys():
    # The first point of the sequence is 0, which no normal quantile would survive unshifted.
    of_key = jax.jit(jax.vmap(lambda key: df.sobol_nodes(128, 2, key=key).points))
    draws = np.asarray(of_key(jr.split(jr.key(1), 2000)))
    for index in (0, 1, 77):
        assert kstest(draws[:, index, 0], "norm").pvalue > 1e-3
        assert abs(np.corrcoef(draws[:, index].T)[0, 1]) < 4 / np.sqrt(2000)


def uniform(n, dim, key):
    return np.asarray(jax.scipy.special.ndtr(df.sobol_nodes(n, dim, key=key).points))


@pytest.mark.parametrize("n", [1, 2, 8, 256])
def test_sobol_nodes_stay_a_net_when_scrambled(n):
    cells = np.sort(np.floor(n * uniform(n, 3, jr.key(2))), axis=0)
    np.testing.assert_array_equal(cells, np.arange(n)[:, None] + np.zeros(3))


def test_every_elementary_box_of_the_first_two_coordinates_holds_one_sobol_node():
    points = uniform(256, 2, jr.key(3))
    for power in range(9):
        rows = np.floor(points[:, 0] * 2**power) * 2 ** (8 - power)
        boxes = np.sort(rows + np.floor(points[:, 1] * 2 ** (8 - power)))
        np.testing.assert_array_equal(boxes, np.arange(256))


def test_in_one_dimension_sobol_nodes_are_independent_strata():
    of_key = jax.jit(jax.vmap(lambda key: df.sobol_nodes(64, 1, key=key).points[:, 0]))
    points = of_key(jr.split(jr.key(5), 2000))
    offsets = 64 * np.sort(np.asarray(jax.scipy.special.ndtr(points)), axis=1) - np.arange(64)
    assert kstest(offsets.ravel(), "uniform").pvalue > 1e-3
    # A shift shared by all points makes these correlations 1.
    assert np.max(np.abs(np.corrcoef(offsets.T) - np.eye(64))) < 5 / np.sqrt(2000)


def test_sobol_nodes_are_never_infinite_in_float32():
    with jax.enable_x64(False):
        points = df.sobol_nodes(2**20, 1, key=jr.key(3)).points
    # The outermost of 2^23 cells is 5.2 out.
    assert 4.7 < float(jnp.max(jnp.abs(points))) < 5.5


# Mini-batches: linear regression with unit noise, a standard normal prior, and n rows of data.
ROWS = np.random.default_rng(5).normal(size=(6, 2))
TARGETS = np.random.default_rng(6).normal(size=6)
PRECISION = np.eye(2) + ROWS.T @ ROWS
Q = (np.array([0.3, -0.2]), np.array([[0.5, 0.1], [-0.3, 0.8]]))


def log_posterior(x, rows):
    """Unbiased for the whole data when `rows` are drawn evenly."""
    residuals = jnp.asarray(TARGETS)[rows] - jnp.asarray(ROWS)[rows] @ x
    return -0.5 * x @ x - 0.5 * len(ROWS) / rows.shape[0] * residuals @ residuals


def full_field():
    """The exact Bures-Wasserstein rates on all the data."""
    mean, scale = Q
    rate = ROWS.T @ TARGETS - PRECISION @ mean
    return df.Gaussian(rate, np.linalg.inv(scale).T - PRECISION @ scale)


def paired(rule, batches):
    """Every node of a rule with every batch."""
    n, m = len(rule.weights), len(batches)
    points, weights = jnp.repeat(rule.points, m, 0), jnp.repeat(rule.weights, m) / m
    return df.Nodes(points, weights, jnp.tile(jnp.asarray(batches), (n, 1)))


@pytest.mark.parametrize("estimator", ["stein", "price"])
def test_all_mini_batches_together_give_the_field_of_all_the_data(estimator):
    batches = np.array(list(itertools.combinations(range(6), 2)))
    nodes = paired(df.cubature(2), batches)
    field = df.gaussian_field(log_posterior, nodes, estimator=estimator)
    close(field(0.0, df.Gaussian(*Q), None), full_field(), atol=1e-12)


def test_a_batch_may_be_the_key_that_draws_it():
    def log_p(x, key):
        return log_posterior(x, jr.choice(key, 6, (2,)))

    def field(n):
        nodes = df.sobol_nodes(n, 2, key=jr.key(7))
        nodes = df.Nodes(nodes.points, nodes.weights, jr.split(jr.key(8), n))
        return df.gaussian_field(log_p, nodes)

    q, expected = df.Gaussian(*Q), full_field()
    errors = [
        float(jnp.linalg.norm(field(n)(0.0, q, None).scale - expected.scale)) for n in (64, 16384)
    ]
    # 256 times the draws make the error about 16 times smaller.
    assert errors[1] < errors[0] / 6
    assert errors[1] < 0.15
    chex.assert_trees_all_equal(field(64)(0.0, q, None), field(64)(1.0, q, None))
