"""Clouds whose points are pytrees move as the vectors of all their numbers do."""

import functools

import diffrax
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import divergence_flows as df

pytestmark = pytest.mark.usefixtures("x64")
N, RNG = 5, np.random.default_rng(0)
FLAT, NOISE, MIX = RNG.normal(size=(3, N, 9)), RNG.normal(size=(4, N, 9)), RNG.normal(size=(9, 9))


def tree_of(vectors):
    """Nine numbers, as arrays of three shapes."""
    matrices = vectors[..., 3:].reshape(*vectors.shape[:-1], 2, 3)
    return {"x": vectors[..., :2], "y": (vectors[..., 2], matrices)}


CLOUDS = tree_of(FLAT)  # three clouds of five points


def of_vector(t, x, args):
    """Every coordinate with every other, and with the time."""
    return -0.5 * jnp.sum(jnp.tanh(MIX @ x) ** 2) * args + t * x[0]


def of_tree(t, x, args):
    return of_vector(t, ravel_pytree(x)[0], args)


def rows(cloud):
    return jax.vmap(lambda x: ravel_pytree(x)[0])(cloud)


def pull(t, x, xs, args):
    """A potential of one point in the cloud of all."""
    return args * jnp.mean(jnp.tanh(jnp.sum((x - xs) ** 2, axis=1)))


def pull_of_trees(t, x, xs, args):
    return pull(t, ravel_pytree(x)[0], rows(xs), args)


def fit(xs):
    return functools.partial(fitted, jnp.mean(xs, axis=0))


def fitted(mean, t, x, args):
    return of_vector(t, x - mean, args)


def fit_of_trees(xs):
    return functools.partial(fitted_of_trees, fit(rows(xs)))


def fitted_of_trees(potential, t, x, args):
    return potential(t, ravel_pytree(x)[0], args)


FIELDS = {
    "velocity": (df.velocity(jnp.arcsinh, of_tree), df.velocity(jnp.arcsinh, of_vector)),
    "gradient_flow": (df.gradient_flow(pull_of_trees), df.gradient_flow(pull)),
    "cloud_velocity": [df.cloud_velocity(jnp.exp, f, block=2) for f in (fit_of_trees, fit)],
}


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_moves_trees_as_it_moves_vectors_under_jit_and_vmap(name):
    trees, vectors = (jax.jit(jax.vmap(f, (None, 0, 0))) for f in FIELDS[name])
    moved = trees(0.3, CLOUDS, jnp.ones(3))
    assert jax.tree.structure(moved) == jax.tree.structure(CLOUDS)
    found = jax.vmap(rows)(moved)
    np.testing.assert_allclose(found, vectors(0.3, FLAT, jnp.ones(3)), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("estimate", [False, True])
def test_densities_of_trees_change_as_those_of_vectors(estimate):
    noises = (tree_of(NOISE), NOISE) if estimate else (None, None)
    trees, vectors = FIELDS["velocity"]
    trees = jax.jit(df.with_log_prob(trees, noise=noises[0]))
    vectors = jax.jit(df.with_log_prob(vectors, noise=noises[1]))
    cloud, start = jax.tree.map(lambda leaf: leaf[0], CLOUDS), jnp.zeros(N)
    moved, change = trees(0.3, (cloud, start), 1.0)
    flat, expected = vectors(0.3, (FLAT[0], start), 1.0)
    np.testing.assert_allclose(rows(moved), flat, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(change, expected, rtol=1e-12, atol=1e-14)


def test_paths_lengths_and_dissipation_of_trees_are_those_of_vectors():
    cloud, options = jax.tree.map(lambda leaf: leaf[0], CLOUDS), {"solver": diffrax.Euler()}
    trees, vectors = FIELDS["velocity"]
    solve = lambda call, field, y0: call(field, y0, [0.0, 0.5, 1.0], 1.0, dt0=0.25, **options)
    paths = solve(df.integrate, trees, cloud).ys, solve(df.integrate, vectors, FLAT[0]).ys
    np.testing.assert_allclose(jax.vmap(rows)(paths[0]), paths[1], rtol=1e-12, atol=1e-14)
    lengths = solve(df.curve_length, trees, cloud), solve(df.curve_length, vectors, FLAT[0])
    np.testing.assert_allclose(lengths[0], lengths[1], rtol=1e-12)
    rates = [df.dissipation(jnp.exp, FLAT[0, :, 0], slope) for slope in (cloud, FLAT[0])]
    np.testing.assert_allclose(*rates, rtol=1e-12)


def score(t, x, args):
    return jax.tree.map(lambda leaf: -args * leaf, x)


def test_noise_of_trees_has_the_variance_of_each_coordinate_and_none_in_common():
    """Two steps of x' = (1 - rate / 4) x + noise of variance 1/2, from 0."""
    start = {"x": np.zeros((4000, 2)), "y": np.zeros(4000)}
    how = {"solver": diffrax.Euler(), "dt0": 0.25, "key": jr.key(2)}
    end = df.langevin(score, start, [0, 0.5], 2.0, **how).ys
    covariance = np.cov(rows(jax.tree.map(lambda leaf: leaf[-1], end)).T)
    variance = 0.5 * (1 + 0.25)
    # Five sigma; independent coordinates have a covariance of variance v^2 / n.
    assert np.all(np.abs(covariance - variance * np.eye(3)) < 5 * variance * (2 / 4000) ** 0.5)


def test_each_leaf_keeps_its_dtype():
    cloud = {"half": np.ones((3, 2), np.float32), "whole": np.ones(3), "n": np.arange(3)}
    field = df.velocity(jnp.exp, lambda t, x, args: -(sum(map(jnp.sum, x.values())) ** 2))
    dtypes = jax.tree.map(lambda leaf: leaf.dtype.name, field(0.0, cloud, None))
    assert dtypes == {"half": "float32", "whole": "float64", "n": "float64"}
