"""The one-call fit: closed-form optima, warm starts, pytrees, derivatives.

One family of targets and options that repeat, so that few programs are compiled.
"""

import functools

import chex
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.tree_util import Partial

import divergence_flows as df

DIM = 3
fit = functools.partial(df.fit_gaussian, key=jr.key(0))


def log_bent(mean, precision, bend, x):
    """A Gaussian whose second coordinate is bent along the first: the banana has `bend` 1."""
    gap = x.at[1].add(-bend * x[0] ** 2) - mean
    return -0.5 * gap @ precision @ gap


def target(dim=DIM, decades=4):
    """An ill-conditioned Gaussian with nothing aligned to the axes."""
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(dim, dim)))
    scale = rotation * 10.0 ** np.linspace(-decades / 4, decades / 4, dim)
    return df.Gaussian(np.arange(dim) - 2.0, scale)


def log_target(p, bend=0.0):
    return Partial(log_bent, p.mean, jnp.linalg.inv(p.covariance), jnp.asarray(bend))


def standard(dim=DIM):
    return df.Gaussian(jnp.zeros(dim), jnp.eye(dim))


def test_a_gaussian_target_is_found_and_its_normaliser_too(x64):
    p = target()
    q, info = fit(log_target(p), standard(), n=64)
    xs = q.sample(jr.key(0), (7,))
    chex.assert_trees_all_equal(info.unravel(xs), xs)  # of a Gaussian start they stay vectors
    log_z = 0.5 * DIM * np.log(2 * np.pi) + np.linalg.slogdet(p.scale)[1]
    assert df.gaussian_kl(q, p) < 1e-9
    np.testing.assert_allclose(info.elbo, log_z, atol=1e-6)
    assert info.rested
    assert info.gap < 1e-9


def test_the_fit_commutes_with_affine_maps(x64):
    p, start = target(), standard()
    shift, rng = jnp.arange(DIM) * 3.0, np.random.default_rng(1)
    matrix = jnp.asarray(rng.normal(size=(DIM, DIM)) * 50.0)
    moved = [df.Gaussian(matrix @ g.mean + shift, matrix @ g.scale) for g in (p, start)]
    options = {"n": 64, "tol": 1e-3}  # stops early, on the way
    q, info = fit(log_target(p), start, **options)
    there, info_there = fit(log_target(moved[0]), moved[1], **options)
    chex.assert_trees_all_equal(info.steps, info_there.steps)
    np.testing.assert_allclose(there.mean, matrix @ q.mean + shift, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(there.scale, matrix @ q.scale, rtol=1e-5, atol=1e-6)


def test_a_start_ten_billion_deviations_away_is_no_harder(x64):
    # A gap of 10^20 nats: the first step is as short, and the next ones grow.
    p = df.Gaussian(jnp.ones(DIM), 1e-10 * jnp.eye(DIM))
    log_p = log_target(p)
    q, info = fit(log_p, standard(), n=64)
    np.testing.assert_allclose(q.mean, p.mean, atol=1e-14)
    np.testing.assert_allclose(q.covariance / 1e-20, np.eye(DIM), atol=1e-4)
    assert info.rested


def test_a_result_starts_the_next_fit_at_its_end(x64):
    log_p = log_target(df.Gaussian(np.ones(DIM), np.eye(DIM)), bend=0.2)
    q, info = fit(log_p, standard(), n=64)
    again, info_again = fit(log_p, q, n=64)
    assert info_again.steps[-1] < 0.5 * info.steps[-1]
    np.testing.assert_allclose(again.mean, q.mean, atol=1e-3)


def test_parameters_and_samples_may_be_any_pytree_also_of_a_batch_of_fits(x64):
    start = {"a": np.zeros(1, np.float32), "b": np.zeros((2, 1))}
    scale = np.array([[1.0, 0.0, 0.0], [1.2, 1.6, 0.0], [0.0, 1.2, 1.6]])  # deviations 1, 2, 2
    p = [df.Gaussian(np.array([mean, 0.0, 0.0]), scale) for mean in (1.0, -2.0)]

    def log_p(mean, x):
        return log_bent(mean, jnp.linalg.inv(scale @ scale.T), 0.0, jnp.append(x["a"], x["b"]))

    fits = lambda mean: fit(Partial(log_p, mean), start, nodes=df.cubature(DIM))
    q, info = jax.jit(jax.vmap(fits))(jnp.stack([each.mean for each in p]))
    for i, each in enumerate(p):
        assert df.gaussian_kl(jax.tree.map(lambda leaf: leaf[i], q), each) < 1e-9  # noqa: B023
    np.testing.assert_allclose(info.position["b"], np.asarray(q.mean[:, 1:]).reshape(2, 2, 1))
    keys = jr.split(jr.key(1), 2)
    vectors = jax.vmap(lambda q, key: q.sample(key, (1000, 5)))(q, keys)
    samples = info.unravel(vectors)
    assert jax.tree.map(jnp.shape, samples) == {"a": (2, 1000, 5, 1), "b": (2, 1000, 5, 2, 1)}
    assert samples["a"].dtype == jnp.float32
    # To five sigma.
    np.testing.assert_allclose(samples["a"].mean((1, 2))[:, 0], [1, -2], atol=5 / 5000**0.5)
    np.testing.assert_allclose(samples["b"].std((1, 2)), 2.0, rtol=5 / 10000**0.5)
    one = jax.tree.map(lambda leaf: leaf[1, 7, 2], samples)
    chex.assert_trees_all_equal(one["b"], vectors[1, 7, 2, 1:, None])
    chex.assert_trees_all_equal(info.unravel(q.mean), info.position)
    assert not jax.tree.leaves(info.unravel)


def test_float32_ends_at_its_own_tolerance():
    p = target(decades=2)
    q, info = fit(log_target(p), standard(), nodes=df.cubature(DIM))
    assert q.mean.dtype == jnp.float32
    assert df.gaussian_kl(q, p) < 1e-4
    assert info.rested


@pytest.mark.parametrize("geometry", ["fisher_rao", "bures"])
def test_the_banana_gets_its_known_optimum(geometry, x64):
    round_one = df.Gaussian(np.array([1.0, 0.0]), np.sqrt(0.5) * np.eye(2))
    start = df.Gaussian(jnp.array([3.0, -2.0]), jnp.eye(2))
    nodes = df.gauss_hermite(2, 4)  # exact: the target is of degree 4
    q, _ = fit(log_target(round_one, bend=1.0), start, geometry=geometry, nodes=nodes)
    np.testing.assert_allclose(q.mean, [1, 1.25], atol=1e-4)
    np.testing.assert_allclose(q.covariance, [[0.25, 0.5], [0.5, 1.5]], atol=1e-4)


@pytest.mark.parametrize("decades", [1, 3])
def test_the_bures_flow_rests_where_the_target_is_stiff_or_not(decades, x64):
    p = target(2, decades)  # Tsit5 is chosen for the first, Kvaerno3 for the second
    q, info = fit(log_target(p), standard(2), geometry="bures", nodes=df.gauss_hermite(2, 4))
    assert df.gaussian_kl(q, p) < 1e-8
    assert info.steps.sum() < 500


@pytest.mark.parametrize(("geometry", "estimator"), [("fisher_rao", "price"), ("bures", "stein")])
def test_a_vector_scale_gives_the_mean_field_optimum(geometry, estimator, x64):
    p = target(decades=2)
    start = df.Gaussian(jnp.zeros(DIM), jnp.ones(DIM))
    options = {"geometry": geometry, "estimator": estimator, "nodes": df.cubature(DIM)}
    q, _ = fit(log_target(p), start, **options)
    best = 1 / np.sqrt(np.diag(np.linalg.inv(p.covariance)))
    np.testing.assert_allclose(np.abs(q.scale), best, rtol=1e-4)
    np.testing.assert_allclose(q.mean, p.mean, atol=1e-3)


def test_the_optimum_can_be_differentiated_in_the_target(x64):
    precision, way = jnp.array([[2.0, 0.3], [0.3, 1.0]]), jnp.array([1.0, -2.0])

    def optimum(mean):
        log_p = Partial(log_bent, mean, precision, 0.0)
        start = df.Gaussian(jnp.zeros(2), jnp.ones(2))  # whatever the scale, the mean is p's
        return way @ fit(log_p, start, nodes=df.cubature(2))[0].mean

    slope = jax.grad(optimum)(jnp.array([1.0, -1.0]))
    np.testing.assert_allclose(slope, way, atol=1e-4)


def log_correlated(factor, x):
    """A Gaussian of mean 1 and precision I + factor factor^T."""
    shift = x - 1.0
    return -0.5 * jnp.sum(shift**2) - 0.5 * jnp.sum((factor.T @ shift) ** 2)


def test_a_mean_field_of_five_hundred_rests_at_its_optimum(x64):
    # Its precisions are the diagonal of the target's, and its mean is the target's.
    dim = 500
    factor = jr.normal(jr.key(1), (dim, 5)) / 8
    start = df.Gaussian(jnp.zeros(dim), jnp.ones(dim))
    q, info = df.fit_gaussian(Partial(log_correlated, factor), start, key=jr.key(0))
    ratio = q.scale**2 * (1 + jnp.sum(factor**2, axis=1))
    shift = q.mean - 1.0
    above = 0.5 * jnp.sum(ratio - 1 - jnp.log(ratio))
    above += 0.5 * jnp.sum(shift**2) + 0.5 * jnp.sum((factor.T @ shift) ** 2)
    assert info.rested
    assert above < 1e-8
    assert info.k_hat > 0.7
