"""Pareto k-hat against draws whose tail is known, and against scipy's fit of the same tail."""

import math

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.stats

from divergence_flows._psis import pareto_k

N = 40_000


@pytest.mark.parametrize("k", [0.2, 0.5, 0.7, 1.2])
def test_k_hat_finds_the_tail_of_pareto_weights(k, x64):
    log_weights = -k * jnp.log(jr.uniform(jr.key(0), (N,)))
    tail = 3 * math.sqrt(N)
    error = 4 * (1 + k) / math.sqrt(tail)  # asymptotic deviation of a shape estimate
    assert abs(pareto_k(log_weights) - k) < error


@pytest.mark.parametrize("variance", [1.5, 3.0])
def test_k_hat_is_the_maximum_likelihood_shape_of_the_tail(variance, x64):
    x = jr.normal(jr.key(1), (N,))
    log_weights = 0.5 * x**2 * (1 - 1 / variance)  # p = N(0, variance), q = N(0, 1)
    ordered = np.sort(np.asarray(log_weights))
    m = math.ceil(3 * math.sqrt(N))
    excess = np.exp(ordered[-m:]) - np.exp(ordered[-m - 1])
    shape, _, _ = scipy.stats.genpareto.fit(excess, floc=0)
    shrunk = (m * shape + 10 * 0.5) / (m + 10)
    np.testing.assert_allclose(pareto_k(log_weights), shrunk, atol=0.01)


@pytest.mark.parametrize("k", [0.2, 1.0])
def test_a_short_tail_is_drawn_towards_one_half_by_ten_observations(k, x64):
    # Over many samples of 100, whose tail has 20, the fit itself is unbiased to a few hundredths.
    log_weights = -k * jnp.log(jr.uniform(jr.key(3), (2000, 100)))
    mean = jnp.mean(jax.vmap(pareto_k)(log_weights))
    assert abs(mean - (20 * k + 10 * 0.5) / (20 + 10)) < 0.06


def test_k_hat_ignores_the_constant_of_log_p(x64):
    log_weights = jr.normal(jr.key(2), (1000,))
    np.testing.assert_allclose(pareto_k(log_weights + 500.0), pareto_k(log_weights), rtol=1e-9)


def test_equal_weights_have_no_tail_at_all():
    assert jax.jit(pareto_k)(jnp.zeros(100)) == -jnp.inf


def test_too_few_draws_are_refused():
    with pytest.raises(ValueError, match="20 draws"):
        pareto_k(jnp.zeros(20))
