"""Gaussians of low rank plus a diagonal: densities, KL, the direction, and fits, without dim^2."""

import functools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.tree_util import Partial
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

import divergence_flows as df
from divergence_flows.gaussians._expectations import Target, gap, moments
from divergence_flows.gaussians._low_rank import frame, low_rank_step

pytestmark = pytest.mark.usefixtures("x64")
DIM, RANK = 12, 2


def law(key, dim=DIM, rank=RANK):
    a, b, c = jr.split(key, 3)
    scale = jnp.exp(0.5 * jr.normal(a, (dim,)))
    return df.LowRankGaussian(jr.normal(b, (dim,)), jr.normal(c, (dim, rank)), scale)


def dense(q):
    return df.Gaussian(q.mean, jnp.linalg.cholesky(q.covariance))


def log_normal(mean, precision, x):
    return -0.5 * (x - mean) @ precision @ (x - mean)


def test_densities_scores_and_samples_are_those_of_the_full_covariance():
    q = law(jr.key(0))
    zs = jr.normal(jr.key(1), (5, q.latent_size))
    xs = jax.vmap(q.push)(zs)
    exact = multivariate_normal(q.mean, q.covariance).logpdf(xs)
    np.testing.assert_allclose(jax.vmap(q.log_prob)(xs), exact, rtol=1e-12)
    np.testing.assert_allclose(jax.vmap(q.log_prob_of_push)(zs), exact, rtol=1e-12)
    slopes = jax.vmap(jax.grad(q.log_prob))(xs)
    np.testing.assert_allclose(jax.vmap(q.score_of_push)(zs), slopes, atol=1e-12)
    np.testing.assert_allclose(q.variances, np.diag(q.covariance), rtol=1e-14)
    drawn = q.sample(jr.key(2), (2**16,))
    np.testing.assert_allclose(np.cov(drawn.T), q.covariance, atol=0.2)


@pytest.mark.parametrize("apart", [1e-4, 1.0])
def test_kl_is_that_of_the_full_covariances(apart):
    p, other = law(jr.key(0)), law(jr.key(1))
    q = jax.tree.map(lambda a, b: a + apart * (b - a), p, other)
    kl = df.gaussian_kl(dense(q), dense(p))
    np.testing.assert_allclose(df.gaussian_kl(q, p), kl, rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(df.gaussian_kl(q, dense(p)), kl, rtol=1e-9, atol=1e-14)


def test_the_gap_is_what_one_newton_step_brings_and_the_step_brings_it():
    """KL of a law near a target of its family is the gap up to third order."""
    p = law(jr.key(0))
    q = jax.tree.map(lambda a, b: a + 1e-4 * (b - a), p, law(jr.key(1)))
    target = Target("test", p.log_prob)
    nodes = df.cubature(q.latent_size)  # exact, since log p is quadratic
    np.testing.assert_allclose(gap(target, nodes, q), df.gaussian_kl(q, p), rtol=1e-3)
    stepped = low_rank_step(q, moments(target, nodes, q), jnp.asarray(1.0))
    assert df.gaussian_kl(stepped, p) < 1e-6 * df.gaussian_kl(q, p)


def local_optima(precision, mean):
    """KLs of laws of the rank at which scipy rests; factor models have several such."""
    p = df.Gaussian(mean, jnp.linalg.cholesky(jnp.linalg.inv(precision)))

    def loss(flat):
        factor, logs = flat[: DIM * RANK].reshape(DIM, RANK), flat[DIM * RANK :]
        return df.gaussian_kl(dense(df.LowRankGaussian(mean, factor, jnp.exp(logs))), p)

    slope = jax.jit(jax.value_and_grad(loss))
    starts = np.random.default_rng(0).normal(size=(4, DIM * RANK + DIM)) * 0.3
    options = {"maxiter": 3000, "ftol": 1e-14, "gtol": 1e-9}
    ends = [minimize(slope, x, jac=True, method="L-BFGS-B", options=options) for x in starts]
    return np.array([end.fun for end in ends])


def test_a_target_outside_of_the_family_gets_a_law_that_is_best_nearby():
    root = jr.normal(jr.key(5), (DIM, DIM)) + 2 * jnp.eye(DIM)
    precision, mean = root @ root.T / DIM, jnp.arange(DIM) / 3.0
    nodes = df.cubature(DIM + RANK)
    log_p = Partial(log_normal, mean, precision)
    options = {"nodes": nodes, "rank": RANK, "key": jr.key(0), "throw": False}
    q, info = df.fit_gaussian(log_p, jnp.zeros(DIM), **options)
    p = df.Gaussian(mean, jnp.linalg.cholesky(jnp.linalg.inv(precision)))
    found = df.gaussian_kl(q, p)
    assert info.rested
    np.testing.assert_allclose(q.mean, mean, atol=1e-4)
    assert jnp.min(jnp.abs(found - local_optima(precision, mean))) < 1e-4
    # The ELBO is minus the KL, but for the normaliser of p.
    log_z = 0.5 * DIM * math.log(2 * math.pi) - 0.5 * np.linalg.slogdet(precision)[1]
    np.testing.assert_allclose(info.elbo, log_z - found, atol=0.05)


def test_a_target_of_the_rank_is_found_where_a_mean_field_loses_nats():
    dim = 300
    p = law(jr.key(3), dim, 3)
    q, info = df.fit_gaussian(p.log_prob, jnp.zeros(dim), rank=3, n=256, key=jr.key(0))
    assert df.gaussian_kl(q, p) < 1e-8
    np.testing.assert_allclose(info.elbo, 0, atol=1e-6)
    assert info.rested
    assert info.gap < 1e-8
    precision = jnp.linalg.inv(p.covariance)
    mean_field = df.LowRankGaussian(p.mean, jnp.zeros((dim, 1)), jnp.diagonal(precision) ** -0.5)
    assert df.gaussian_kl(mean_field, p) > 3


def test_columns_beyond_the_rank_of_the_target_do_no_harm():
    # Too few nodes for a rule that is exact: the surplus columns meet noise, and one of them may
    # take the place of a coordinate's deviation.
    p = law(jr.key(0), dim=60)
    fit = lambda key: df.fit_gaussian(p.log_prob, jnp.zeros(60), rank=10, n=128, key=key)
    q, info = jax.jit(jax.vmap(fit))(jr.split(jr.key(1), 3))
    lost = jax.vmap(df.gaussian_kl, (0, None))(q, p)
    assert jnp.all(info.rested)
    assert jnp.all(lost < 1e-4), lost
    assert jnp.all(lost < info.gap), info.gap


def test_a_deviation_that_the_factor_has_all_but_replaced_grows_back():
    p = df.LowRankGaussian(0.1 * jnp.arange(8), jr.normal(jr.key(5), (8, RANK)), jnp.ones(8))
    log_p = Partial(log_normal, p.mean, jnp.linalg.inv(p.covariance))
    start = df.LowRankGaussian(jnp.zeros(8), jnp.eye(8, RANK), jnp.ones(8).at[0].set(1e-2))
    q, info = df.fit_gaussian(log_p, start, key=jr.key(0))
    assert info.rested
    assert df.gaussian_kl(q, p) < 1e-9


def test_a_step_leaves_a_deviation_a_thousandth_that_is_not_the_factors():
    """From a law whose factor has 99.8 % of a coordinate, of which the target wants all back."""
    factor = jnp.eye(8, RANK) + 0.3 * jr.normal(jr.key(1), (8, RANK))
    q = df.LowRankGaussian(jnp.zeros(8), factor, jnp.ones(8).at[0].set(0.05))
    p = df.LowRankGaussian(jnp.zeros(8), factor.at[0].set(0), jnp.ones(8).at[0].set(1e-3))
    own = 1 - jnp.sum(frame(q)[0] ** 2, axis=1)
    assert 1e-3 < own[0] < 2e-3
    found = moments(Target("test", p.log_prob), df.cubature(q.latent_size), q)
    stepped = low_rank_step(q, found, jnp.asarray(0.1))
    assert own[0] * (stepped.scale[0] / q.scale[0]) ** 2 > 0.999e-3
    assert df.gaussian_kl(stepped, p) < df.gaussian_kl(q, p)


def test_a_fit_commutes_with_permutations_and_scales_of_coordinates():
    p, start = law(jr.key(0)), law(jr.key(1))
    order = np.random.default_rng(0).permutation(DIM)
    sizes = 10.0 ** np.linspace(-4, 4, DIM)

    def moved(q):
        rows = (q.mean * sizes, q.factor * sizes[:, None], q.scale * sizes)
        return df.LowRankGaussian(*(row[order] for row in rows))

    rule = df.sobol_nodes(256, start.latent_size, key=jr.key(2))
    turned = jnp.concatenate([np.arange(RANK), RANK + order])
    options = {"tol": 1e-2, "n": 256, "key": jr.key(0)}  # stops early, on the way
    q, _ = df.fit_gaussian(p.log_prob, start, nodes=rule, **options)
    rule = df.Nodes(rule.points[:, turned], rule.weights)
    other, _ = df.fit_gaussian(moved(p).log_prob, moved(start), nodes=rule, **options)
    assert df.gaussian_kl(other, moved(q)) < 1e-10
    assert df.gaussian_kl(q, p) > 1e-6


def sizes_of(jaxpr):
    """Sizes of all that a program makes, in inner programs too."""
    for equation in jaxpr.eqns:
        yield from (math.prod(out.aval.shape) for out in equation.outvars)
        for inner in jax.tree.leaves(
            equation.params, is_leaf=lambda p: hasattr(p, "eqns") or hasattr(p, "jaxpr")
        ):
            if hasattr(inner, "eqns"):
                yield from sizes_of(inner)
            elif hasattr(inner, "jaxpr"):
                yield from sizes_of(inner.jaxpr)


def test_nothing_of_the_size_of_a_covariance_is_made():
    dim, n = 3000, 256

    def fitted(mean, key):
        log_p = lambda x: -jnp.sum((x - mean) ** 2) - jnp.sum(jnp.cos(x))
        return df.fit_gaussian(log_p, mean, rank=4, n=n, key=key, throw=False)[0].mean

    jaxpr = jax.make_jaxpr(fitted)(jnp.zeros(dim), jr.key(0))
    assert dim * n <= max(sizes_of(jaxpr.jaxpr)) < 4 * (dim + 4) * n < dim**2


def test_what_a_covariance_would_cost_is_said_and_a_wrong_rank_refused():
    flat = lambda x: -0.5 * jnp.sum(x**2)
    fit = functools.partial(df.fit_gaussian, flat, key=jr.key(0))
    with pytest.raises(
        ValueError, match=r"42,000 parameters have a covariance of 14.1 GB.*rank=20"
    ):
        fit(jnp.zeros(42_000))
    with pytest.raises(ValueError, match="`rank` is 3 in 2 dimensions"):
        fit(jnp.zeros(2), rank=3)
    with pytest.raises(ValueError, match="`rank` is 1, and `q0` has rank 2"):
        fit(law(jr.key(0)), rank=1)
    with pytest.raises(ValueError, match="full scale"):
        fit(df.Gaussian(jnp.zeros(4), jnp.eye(4)), rank=1)
    with pytest.raises(ValueError, match='a rank is for geometry="fisher_rao"'):
        fit(jnp.zeros(4), rank=1, estimator="price")
    with pytest.raises(ValueError, match="`factor` has 3 columns and 2 rows"):
        df.LowRankGaussian(jnp.zeros(2), jnp.ones((2, 3)), jnp.ones(2))
    with pytest.raises(eqx.EquinoxRuntimeError, match="singular"):
        jax.block_until_ready(fit(df.LowRankGaussian(jnp.zeros(4), jnp.ones((4, 1)), jnp.zeros(4))))
