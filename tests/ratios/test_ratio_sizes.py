"""What a ratio is fitted with is chosen by the sizes: few samples are not fitted to the letter."""

import functools

import chex
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.stats import norm

import divergence_flows as df

FRESH = 4000


def shift(dim):
    """Mean and deviations of p: it lies 1.5 away from q, which is N(0, I)."""
    return jnp.full(dim, 1.5 / np.sqrt(dim)), jnp.ones(dim)


def narrow(dim):
    return jnp.zeros(dim), jnp.full(dim, 1 - 0.4 / np.sqrt(dim))


def exact(law, x):
    mean, size = law
    return 0.5 * jnp.sum(x**2 - ((x - mean) / size) ** 2, -1) - jnp.sum(jnp.log(size))


def clouds(law, key, n, m):
    one, other = jr.split(key)
    mean, size = law
    return jr.normal(one, (n, mean.size)), mean + size * jr.normal(other, (m, mean.size))


@jax.jit
def excess(law, log_r, xs_q, xs_p):
    """Logistic loss on fresh samples above that of the true ratio."""
    loss = lambda u: jnp.mean(jax.nn.softplus(u(xs_q))) + jnp.mean(jax.nn.softplus(-u(xs_p)))
    return loss(jax.vmap(lambda x: log_r(0.0, x, None))) - loss(functools.partial(exact, law))


SIZES = [
    (200, 5000, 10),
    (5000, 200, 10),
    (200, 200, 10),
    (50, 2000, 5),
    (50, 50, 2),
    (300, 300, 2),
]


@pytest.mark.parametrize(("n", "m", "dim"), SIZES)
def test_the_mean_of_r_is_near_one_on_fresh_samples(n, m, dim):
    def info(law, key):
        fit = df.rff_log_ratio(*clouds(law, key, n, m), key=jr.key(1))
        fresh = clouds(law, jr.fold_in(key, 1), FRESH // 2, FRESH // 2)
        return jnp.array([df.ratio_check(fit, *fresh).mean_r, excess(law, fit, *fresh)])

    laws = jax.tree.map(lambda *both: jnp.stack(both), shift(dim), narrow(dim))
    each = jax.jit(jax.vmap(jax.vmap(info, (None, 0)), (0, None)))
    found = np.median(each(laws, jax.vmap(jr.key)(jnp.arange(3))), axis=1)
    # Of the true ratio, on as many samples as it was fitted to, the mean is off by 1.2 / sqrt(n).
    np.testing.assert_allclose(found[:, 0], 1, atol=0.35)
    assert np.all(found[:, 1] < 0.1)  # of the .44 (shift) and .1 (narrow) that a constant leaves


def test_few_samples_are_fitted_better_than_with_what_suits_many():
    fresh = clouds(shift(10), jr.key(9), FRESH, FRESH)
    few = clouds(shift(10), jr.key(0), 200, 5000)
    many = {"features": 256, "degree": 2, "ridge": 1e-4}
    old, new = (df.rff_log_ratio(*few, key=jr.key(1), **options) for options in (many, {}))
    assert excess(shift(10), new, *fresh) < 0.3 * excess(shift(10), old, *fresh)
    assert df.ratio_check(old, *fresh).mean_r > 1.8


def test_many_samples_in_the_plane_have_256_features_their_products_and_a_small_ridge():
    both = clouds(shift(2), jr.key(0), 5000, 7000)
    fit = functools.partial(df.rff_log_ratio, *both, newton_steps=1, key=jr.key(1))
    options = {"features": 256, "degree": 2, "ridge": 1e-4}
    np.testing.assert_array_equal(fit().args[1], fit(**options).args[1])


def test_a_least_squares_ratio_of_few_samples_does_not_blow_up():
    fresh = clouds(shift(2), jr.key(9), FRESH, FRESH)

    @jax.jit
    def losses(key):
        few, many = clouds(shift(2), key, 200, 5000), {"centres": 256, "ridge": 1e-3}
        fits = [df.ulsif_ratio(*few, key=jr.key(1), **options) for options in ({}, many)]
        r = [[jax.vmap(fit, (None, 0, None))(0.0, xs, None) for xs in fresh] for fit in fits]
        return jnp.array([jnp.mean(on_q**2) / 2 - jnp.mean(on_p) for on_q, on_p in r])

    new, old = np.max([losses(jr.key(seed)) for seed in (0, 2, 4)], axis=0)
    assert new < -1.5  # r = 1 has -.5, and the true ratio -3.8
    assert old > 10


LOSSES = {
    "logistic": {"features": 100, "degree": 1, "ridge": 1 / 500},
    "ulsif": {"features": 75, "ridge": 8 / 300},
}


@pytest.mark.parametrize("loss", LOSSES)
def test_the_bandwidth_is_chosen_for_what_the_ratio_will_be_fitted_with(loss):
    both = clouds(shift(2), jr.key(0), 300, 200)
    chosen = functools.partial(df.ratio_bandwidth, *both, loss=loss, key=jr.key(1))
    assert chosen() == chosen(**LOSSES[loss])


# The check of a ratio: what a true one passes, and a wrong one fails

Z = jnp.asarray(norm.ppf((np.arange(4000) + 0.5) / 4000)[:, None], jnp.float32)


def of_a_shift(t, x, args):
    return 0.5 - x[0]


def constant(t, x, args):
    return jnp.asarray(args, x.dtype)


def test_the_true_ratio_passes_its_check():
    check = df.ratio_check(of_a_shift, Z + 1, Z)
    chex.assert_trees_all_close(check.mean_r, 1.0, atol=2e-3)
    chex.assert_trees_all_close(check.mean_inverse_r, 1.0, atol=2e-3)
    # 1 / E_q[r^2] = 1/e; the quantiles' tails cost two per cent.
    chex.assert_trees_all_close(check.effective_sample_size / len(Z), np.exp(-1), rtol=0.03)


def test_a_wrong_ratio_fails_its_check_by_its_factor():
    check = df.ratio_check(constant, Z + 1, Z, args=np.log(3.0))
    chex.assert_trees_all_close(check.mean_r, 3.0, rtol=1e-5)
    chex.assert_trees_all_close(check.mean_inverse_r, 1 / 3, rtol=1e-5)


@pytest.mark.parametrize("u", [-80.0, 500.0])
def test_the_effective_sample_size_does_not_overflow(u):
    check = df.ratio_check(constant, Z, Z, args=u)
    chex.assert_trees_all_close(check.effective_sample_size, float(len(Z)), rtol=1e-3)
