"""A check of a log ratio: what a true one passes, and a wrong one fails."""

import chex
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

import divergence_flows as df

Z = jnp.asarray(norm.ppf((np.arange(4000) + 0.5) / 4000)[:, None], jnp.float32)


def exact(t, x, args):
    return 0.5 - x[0]


def constant(t, x, args):
    return jnp.asarray(args, x.dtype)


def test_the_true_ratio_passes_its_check():
    check = df.ratio_check(exact, Z + 1, Z)
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
