"""Posteriors from simulations against closed forms, and verdicts on ratios that are wrong."""

import functools

import blackjax
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from jax.tree_util import Partial

import divergence_flows as df

A = jnp.array([[1.0, 0.5], [-0.3, 0.8], [0.2, 0.4]])
PRIOR, NOISE = jnp.array([1.0, 1.5]), jnp.array([0.7, 0.5, 0.9])
OPTIONS = {"steps": 600, "folds": 2, "batch_size": 128, "contrasts": 31}
OPTIONS |= {"optimizer": optax.adam(optax.cosine_decay_schedule(0.1, 600))}
SMALL = {"folds": 2, "contrasts": 3, "steps": 20}


def simulated(n, key):
    """theta ~ N(1, diag(PRIOR^2)), and x = A theta + noise."""
    of_theta, of_noise = jr.split(key)
    thetas = 1 + PRIOR * jr.normal(of_theta, (n, 2))
    return thetas, thetas @ A.T + NOISE * jr.normal(of_noise, (n, 3))


def log_prior(theta):
    return jnp.sum(jax.scipy.stats.norm.logpdf(theta, 1.0, PRIOR))


def exact(x):
    """Mean and covariance of the posterior."""
    precision = jnp.diag(PRIOR**-2) + A.T @ jnp.diag(NOISE**-2) @ A
    covariance = jnp.linalg.inv(precision)
    return covariance @ (PRIOR**-2 + A.T @ (x / NOISE**2)), covariance


def gaussian(log_p, at):
    """Mean and covariance of a density that is Gaussian, from its derivatives."""
    covariance = jnp.linalg.inv(-jax.hessian(log_p)(at))
    return at + covariance @ jax.grad(log_p)(at), covariance


@functools.cache
def learned(n=4000):
    """By critics that have the true ratio in their family."""
    critic = df.networks.Discriminator(5, depth=0, quadratic=True, key=jr.key(0))
    return df.conditional_ratio(*simulated(n, jr.key(1)), critic=critic, **OPTIONS, key=jr.key(2))


EVIDENCE = np.asarray(A) @ np.diag(np.asarray(PRIOR) ** 2) @ np.asarray(A).T
EVIDENCE += np.diag(np.asarray(NOISE) ** 2)  # the covariance of x
PRECISION, LOG_VOLUME = np.linalg.inv(EVIDENCE), np.linalg.slogdet(EVIDENCE)[1]


def log_ratio(theta, x):
    """log p(x | theta) - log p(x)."""
    off, noise = x - A @ jnp.ones(2), (x - A @ theta) / NOISE
    log_q = -0.5 * (off @ PRECISION @ off + LOG_VOLUME)
    return -0.5 * jnp.sum(noise**2) - jnp.sum(jnp.log(NOISE)) - log_q


def information():
    return 0.5 * LOG_VOLUME - jnp.sum(jnp.log(NOISE))


@pytest.mark.parametrize("x", [[1.0, 0.0, 0.5], [3.0, 1.5, -0.5]])
def test_a_linear_gaussian_posterior_has_its_mean_and_covariance(x, x64):
    """One ratio serves for both x."""
    log_p = df.log_posterior(learned(), log_prior, jnp.array(x))
    mean, covariance = gaussian(log_p, jnp.ones(2))
    true_mean, true_covariance = exact(jnp.array(x))
    deviation = jnp.sqrt(jnp.diag(true_covariance))
    np.testing.assert_allclose((mean - true_mean) / deviation, 0, atol=0.15)
    np.testing.assert_allclose(covariance, true_covariance, atol=0.1 * deviation.max() ** 2)


def test_the_ratio_is_that_of_densities_and_what_is_told_of_it_is_true(x64):
    ratio = learned()
    assert ratio.believe
    assert abs(ratio.information - information()) < 3 * ratio.error + 0.02
    # Its constant is right too, which no posterior needs.
    thetas, xs = simulated(300, jr.key(5))
    off = jax.vmap(ratio)(thetas, xs) - jax.vmap(log_ratio)(thetas, xs)
    assert jnp.mean(jnp.abs(off)) < 0.1
    assert abs(jnp.mean(ratio.levels) - 0.5) < 3 / (12 * ratio.levels.size) ** 0.5


def test_samplers_take_the_posterior(x64):
    """`fit_gaussian` and blackjax, the second for many x at once."""
    xs = jnp.array([[1.0, 0.0, 0.5], [3.0, 1.5, -0.5]])
    q, _ = df.fit_gaussian(
        df.log_posterior(learned(), log_prior, xs[0]),
        df.Gaussian(jnp.ones(2), jnp.eye(2)),
        key=jr.key(0),
    )
    mean, covariance = gaussian(df.log_posterior(learned(), log_prior, xs[0]), jnp.ones(2))
    np.testing.assert_allclose(q.mean, mean, atol=1e-3)
    np.testing.assert_allclose(q.scale @ q.scale.T, covariance, atol=1e-3)

    @jax.jit
    @jax.vmap
    def sampled(x, key):
        log_p = df.log_posterior(learned(), log_prior, x)
        kernel = blackjax.hmc(log_p, 0.4, jnp.ones(2), 4)
        step = lambda state, key: (kernel.step(key, state)[0],) * 2
        return jax.lax.scan(step, kernel.init(jnp.ones(2)), jr.split(key, 3000))[1].position

    draws = sampled(xs, jr.split(jr.key(3)))
    for x, some in zip(xs, draws, strict=True):
        mean, covariance = exact(x)
        np.testing.assert_allclose(some[200:].mean(0), mean, atol=0.2)
        np.testing.assert_allclose(jnp.cov(some[200:].T), covariance, atol=0.15)


def test_a_critic_that_is_blind_or_too_sure_is_not_believed():
    data = simulated(600, jr.key(3))
    still = {"optimizer": optax.sgd(0.0), "steps": 20, "folds": 2, "key": jr.key(4)}
    blind = jax.tree.map(jnp.zeros_like, df.networks.Discriminator(5, 1, 0, key=jr.key(0)))
    found = df.conditional_ratio(*data, critic=blind, **still)
    assert found.information == 0
    assert not found.believe
    # What says nothing is right where there is nothing to be said.
    shuffled = data[0], jr.permutation(jr.key(6), data[1])
    assert df.conditional_ratio(*shuffled, critic=blind, **still).believe
    # The true ratio, and posteriors too wide and too narrow.
    assert df.conditional_ratio(*data, critic=of_power(1.0, *data), **still).believe
    assert not df.conditional_ratio(*data, critic=of_power(0.7, *data), **still).believe
    assert not df.conditional_ratio(*data, critic=of_power(1.4, *data), **still).believe


def of_power(power, *data):
    """A critic with a power of the true ratio, of these simulations in units of their own."""
    pairs = jnp.concatenate(data, axis=1)
    return Partial(_scaled, jnp.asarray(power), jnp.mean(pairs, axis=0), jnp.std(pairs, axis=0))


def _scaled(power, mean, deviation, pair):
    theta, x = jnp.split(mean + deviation * pair, [2])
    return power * log_ratio(theta, x)


def test_any_pair_learns_it_and_any_shape_of_event(x64):
    thetas, xs = simulated(1000, jr.key(7))
    critic = df.networks.Discriminator(5, depth=0, quadratic=True, key=jr.key(0))
    options = OPTIONS | {"critic": critic, "gan": df.gans.exponential()}
    ratio = df.conditional_ratio(thetas, xs[:, :, None], **options, key=jr.key(8))
    x = jnp.array([[1.0], [0.0], [0.5]])
    mean, _ = gaussian(df.log_posterior(ratio, log_prior, x), jnp.ones(2))
    true_mean, covariance = exact(x[:, 0])
    np.testing.assert_allclose((mean - true_mean) / jnp.sqrt(jnp.diag(covariance)), 0, atol=0.3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"folds": 1}, "`folds` is 1 and the smaller sample has 40; pass 2 folds or more"),
        ({"contrasts": 9}, "`contrasts` is 9 and the least batch has 9 simulations; pass fewer"),
        ({"contrasts": 0}, "`contrasts` is 0"),
        ({"gan": df.divergences.kl_qp}, "`gan` is a Divergence"),
        ({"critic": df.networks.Discriminator(3, key=jr.key(0))}, "`x` has shape"),
    ],
)
def test_what_learns_no_ratio_is_refused(options, words):
    thetas, xs = simulated(40, jr.key(0))
    options = SMALL | {"folds": 4} | options
    with pytest.raises(ValueError, match=words):
        df.conditional_ratio(thetas, xs, **options, key=jr.key(1))


def test_pairs_of_other_shapes_are_refused():
    thetas, xs = simulated(40, jr.key(0))
    with pytest.raises(
        ValueError, match="`thetas` has 40 parameters and `xs` 39 samples; pass one"
    ):
        df.conditional_ratio(thetas, xs[1:], key=jr.key(1))
    ratio = df.conditional_ratio(thetas, xs, **SMALL, key=jr.key(1))
    with pytest.raises(ValueError, match=r"log_posterior: `x` has shape \(2,\)"):
        df.log_posterior(ratio, log_prior, xs[0, :2])
    with pytest.raises(ValueError, match=r"`theta` has shape \(3,\)"):
        df.log_posterior(ratio, jnp.sum, xs[0])(xs[0])
    with pytest.raises(ValueError, match="`log_prior` returns"):
        df.log_posterior(ratio, jnp.square, xs[0])(thetas[0])
