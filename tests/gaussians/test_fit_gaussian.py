"""The one-call fit: closed-form optima, warm starts, pytrees, mini-batches, transforms.

Targets hold arrays and fits of one size share their options, so that few programs are compiled.
"""

import functools

import chex
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.tree_util import Partial
from targets import banana

import divergence_flows as df

DIM = 5
fit = functools.partial(df.fit_gaussian, key=jr.key(0))


def log_gaussian(mean, precision, x):
    return -0.5 * (x - mean) @ precision @ (x - mean)


def log_sinh_arcsinh(skew, x):
    z = jnp.sinh(jnp.arcsinh(x) - skew)
    return jnp.sum(-0.5 * z**2 + jnp.log(jnp.cosh(jnp.arcsinh(x) - skew)) - 0.5 * jnp.log1p(x**2))


def target(dim=DIM, decades=4):
    """An ill-conditioned Gaussian with nothing aligned to the axes."""
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(dim, dim)))
    scale = rotation * 10.0 ** np.linspace(-decades / 4, decades / 4, dim)
    return df.Gaussian(np.arange(dim) - 2.0, scale)


def log_target(p):
    return Partial(log_gaussian, p.mean, jnp.linalg.inv(p.covariance))


def standard(dim=DIM):
    return df.Gaussian(jnp.zeros(dim), jnp.eye(dim))


@pytest.mark.parametrize("estimator", ["stein", "price"])
def test_a_gaussian_target_is_found_and_its_normaliser_too(estimator, x64):
    p = target()
    q, info = fit(log_target(p), standard(), estimator=estimator, n=64)
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


@pytest.mark.parametrize("geometry", ["fisher_rao", "bures"])
def test_the_banana_gets_its_known_optimum(geometry, x64):
    q, _ = fit(
        banana,
        df.Gaussian(jnp.array([3.0, -2.0]), jnp.eye(2)),
        geometry=geometry,
        nodes=df.gauss_hermite(2, 4),  # exact: the target is of degree 4
    )
    np.testing.assert_allclose(q.mean, [1, 1.25], atol=1e-4)
    np.testing.assert_allclose(q.covariance, [[0.25, 0.5], [0.5, 1.5]], atol=1e-4)


@pytest.mark.parametrize("decades", [1, 3])
def test_the_bures_flow_rests_where_the_target_is_stiff_or_not(decades, x64):
    p = target(3, decades)  # Tsit5 is chosen for the first, Kvaerno3 for the second
    q, info = fit(log_target(p), standard(3), geometry="bures", nodes=df.cubature(3))
    assert df.gaussian_kl(q, p) < 1e-8
    assert info.steps.sum() < 500


@pytest.mark.parametrize("geometry", ["fisher_rao", "bures"])
def test_a_vector_scale_gives_the_mean_field_optimum(geometry, x64):
    p = target(decades=2)
    start = df.Gaussian(jnp.zeros(DIM), jnp.ones(DIM))
    q, _ = fit(log_target(p), start, geometry=geometry, nodes=df.cubature(DIM))
    best = 1 / np.sqrt(np.diag(np.linalg.inv(p.covariance)))
    np.testing.assert_allclose(np.abs(q.scale), best, rtol=1e-4)
    np.testing.assert_allclose(q.mean, p.mean, atol=1e-3)


def test_a_result_starts_the_next_fit_at_its_end(x64):
    log_p = Partial(log_sinh_arcsinh, jnp.asarray(0.5))
    q, info = fit(log_p, standard(3), n=128)
    again, info_again = fit(log_p, q, n=128)
    assert info_again.steps[-1] < 0.5 * info.steps[-1]
    np.testing.assert_allclose(again.mean, q.mean, atol=1e-3)


@pytest.mark.parametrize("skew", [0.2, 0.8])
def test_the_reported_gap_is_of_the_size_of_what_is_lost(skew, x64):
    log_p = Partial(log_sinh_arcsinh, jnp.asarray(skew))
    few, info = fit(log_p, standard(3), n=128)
    best, _ = fit(log_p, few, n=128, nodes=df.sobol_nodes(2**14, 3, key=jr.key(1)))
    nodes = df.sobol_nodes(2**16, 3, key=jr.key(2))

    def elbo(q):
        return jnp.mean(jax.vmap(lambda z: log_p(q.push(z)) - q.log_prob_of_push(z))(nodes.points))

    lost = elbo(best) - elbo(few)
    assert lost / 3 < info.gap < 10 * lost


def test_parameters_may_be_any_pytree(x64):
    p = target()

    def log_p(parameters):
        flat = jnp.concatenate([parameters["a"], parameters["b"].ravel()])
        return log_target(p)(flat)

    start = {"a": np.zeros(1), "b": np.zeros((2, 2))}
    q, info = fit(log_p, start, n=64)
    flat, _ = fit(log_target(p), standard(), n=64)
    chex.assert_trees_all_close(q, flat, rtol=1e-6)
    np.testing.assert_allclose(info.position["b"], np.asarray(flat.mean[1:]).reshape(2, 2))


def log_batch(data, size, x, key):
    """A linear-Gaussian model on a mini-batch that a key draws: N(0, I) prior, unit noise."""
    batch = jr.choice(key, data, (size,), replace=False)
    return -0.5 * jnp.sum(x**2) - 0.5 * len(data) * jnp.mean(jnp.sum((batch - x) ** 2, axis=1))


def test_mini_batches_with_fixed_keys_find_the_posterior(x64):
    data = jr.normal(jr.key(3), (40, 2)) * jnp.array([1.0, 3.0]) + 1.0
    n = 2**12

    def batched(key):
        nodes = df.sobol_nodes(n, 2, key=key)
        return df.Nodes(nodes.points, nodes.weights, jr.split(jr.fold_in(key, 1), n))

    nodes, judges = batched(jr.key(4)), batched(jr.key(5))
    log_p = Partial(log_batch, data, 4)
    q, info = fit(log_p, standard(2), nodes=nodes, judges=judges, tol=0.5)
    # exact posterior: precision 41, mean sum(data) / 41; the batches' noise averages over nodes
    spread = jnp.std(data, axis=0) / jnp.sqrt(4 * n)
    assert jnp.all(jnp.abs(q.mean - data.sum(0) / 41) < 4 * spread)
    np.testing.assert_allclose(q.covariance, np.eye(2) / 41, rtol=0.15, atol=0.15 / 41)
    assert info.rested


def test_vmapped_starts_and_targets_equal_single_ones(x64):
    means = jnp.array([[0.0, 5.0], [-3.0, 1.0]])
    precisions = jnp.stack([jnp.diag(jnp.array([1.0, 100.0])), jnp.array([[2.0, 0.9], [0.9, 1.0]])])
    starts = df.Gaussian(jnp.array([[1.0, 1.0], [9.0, -9.0]]), jnp.stack([jnp.eye(2)] * 2))

    def one(mean, precision, start):
        return fit(Partial(log_gaussian, mean, precision), start, n=64)

    qs, infos = jax.vmap(one)(means, precisions, starts)
    for i in range(2):
        start = df.Gaussian(starts.mean[i], starts.scale[i])
        q, info = one(means[i], precisions[i], start)
        np.testing.assert_allclose(qs.mean[i], q.mean, atol=1e-6)
        np.testing.assert_allclose(qs.covariance[i], q.covariance, atol=1e-6)
        chex.assert_trees_all_equal(infos.steps[i], info.steps)


def test_float32_ends_at_its_own_tolerance():
    p = target(4, 2)
    q, info = fit(log_target(p), standard(4), n=64)
    assert q.mean.dtype == jnp.float32
    assert df.gaussian_kl(q, p) < 1e-4
    assert info.rested


def test_the_optimum_can_be_differentiated_in_the_target(x64):
    precision = jnp.array([[2.0, 0.3], [0.3, 1.0]])

    def optimum(mean):
        log_p = Partial(log_gaussian, mean, precision)
        return fit(log_p, standard(2), nodes=df.cubature(2))[0].mean

    slope = jax.jacrev(optimum)(jnp.array([1.0, -1.0]))
    np.testing.assert_allclose(slope, np.eye(2), atol=1e-4)
