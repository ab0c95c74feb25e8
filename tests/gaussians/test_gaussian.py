"""Gaussians against scipy, and their KL against 50-digit arithmetic."""

import chex
import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from scipy.stats import kstest, multivariate_normal, norm
from targets import close

import divergence_flows as df

pytestmark = pytest.mark.usefixtures("x64")
MEAN = np.array([0.5, -1.0, 2.0])
# Not symmetric, not triangular, of negative determinant.
SCALE = np.array([[0.9, 0.7, 0.1], [-0.4, 0.5, 0.3], [0.2, 1.1, -0.8]])
OTHER = np.array([[1.1, -0.2, 0.4], [0.3, 0.8, -0.5], [0.6, 0.1, 0.7]])
SDS = np.array([0.3, -2.0, 1.5])
X = np.array([1.0, 0.3, -0.7])
ROTATION, _ = np.linalg.qr(OTHER)


def exact_kl(q_mean, q_scale, p_mean, p_scale):
    """The textbook's formula, in 50 digits, of the numbers as they are in float64."""
    with mp.workdps(50):
        s, t = mp.matrix(q_scale), mp.matrix(p_scale)
        ratio = mp.inverse(t * t.T) * (s * s.T)
        d = mp.matrix(q_mean) - mp.matrix(p_mean)
        trace = sum(ratio[i, i] for i in range(ratio.rows))
        shift = (d.T * mp.inverse(t * t.T) * d)[0]
        return float((trace - ratio.rows - mp.log(mp.det(ratio)) + shift) / 2)


@jax.jit
def kl(mean, scale):
    return df.gaussian_kl(df.Gaussian(mean, scale), df.Gaussian(MEAN, SCALE))


SLOPES = jax.jit(jax.grad(df.gaussian_kl, (0, 1)))


@pytest.mark.parametrize("scale", [SCALE, SDS], ids=["square", "diagonal"])
def test_log_prob_is_scipys_and_push_goes_there_and_back(scale):
    assert np.linalg.det(SCALE) < 0
    q, nodes = df.Gaussian(MEAN, scale), df.gauss_hermite(3, 2)
    matrix = scale if scale.ndim == 2 else np.diag(scale)
    expected = multivariate_normal(MEAN, matrix @ matrix.T).logpdf(X)
    close(q.log_prob(X), expected, rtol=1e-12)
    close(q.standardise(q.push(X)), X, atol=1e-12)
    close(q.log_prob_of_push(jnp.asarray(X)), q.log_prob(q.push(X)), rtol=1e-12)
    # Normal draws get the covariance.
    xs = jax.vmap(q.push)(nodes.points)
    centred = xs - nodes.weights @ xs
    close((nodes.weights[:, None] * centred).T @ centred, q.covariance, atol=1e-12)


@pytest.mark.parametrize("scale", [SCALE, SDS], ids=["square", "diagonal"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_samples_have_the_mean_and_the_covariance_under_jit_and_vmap(scale, dtype):
    q = df.Gaussian(MEAN.astype(dtype), scale.astype(dtype))
    draw = jax.jit(jax.vmap(lambda key: q.sample(key, (100, 50))))
    xs = draw(jax.random.split(jax.random.key(0), 4))
    assert xs.shape == (4, 100, 50, 3)
    assert xs.dtype == q.sample(jax.random.key(0)).dtype == dtype
    xs = np.asarray(xs, np.float64).reshape(-1, 3)
    variances, gap = np.diag(q.covariance), xs - MEAN
    assert np.all(np.abs(gap.mean(0)) < 5 * np.sqrt(variances / len(xs)))  # five sigma
    error = np.sqrt((np.outer(variances, variances) + q.covariance**2) / len(xs))
    assert np.all(np.abs(gap.T @ gap / len(xs) - q.covariance) < 5 * error)
    # As normal in every direction as the law says, and each draw its own.
    z = jax.vmap(q.standardise)(jnp.asarray(xs, dtype))
    assert kstest(np.ravel(z), "norm").pvalue > 1e-3
    assert len(np.unique(xs, axis=0)) == len(xs)


def test_covariance_keeps_a_leading_time_axis():
    scales = np.stack([SCALE, OTHER])
    path = df.Gaussian(np.stack([MEAN, X]), scales)
    expected = np.stack([SCALE @ SCALE.T, OTHER @ OTHER.T])
    close(path.covariance, expected, rtol=1e-14)
    sds = np.stack([SDS, X])
    diagonal = df.Gaussian(np.stack([MEAN, X]), sds)
    assert diagonal.diagonal
    assert not path.diagonal
    close(diagonal.covariance, np.stack([np.diag(SDS**2), np.diag(X**2)]), rtol=1e-14)


def test_integers_become_floats_and_one_dtype_serves_both_fields():
    q = df.Gaussian(np.zeros(2, int), np.eye(2, dtype=int))
    close(q.log_prob(np.array([1, 2])), 2 * norm.logpdf(0) - 2.5, rtol=1e-14)
    mixed = df.Gaussian(np.zeros(2, np.float32), np.eye(2))
    assert mixed.mean.dtype == mixed.scale.dtype == jnp.float64
    single = df.Gaussian(np.zeros(2, np.float32), np.ones(2, np.float32))
    assert single.log_prob(np.ones(2)).dtype == jnp.float32


PAIRS = {
    "square": (X, OTHER, SCALE),
    "narrow": (X, 1e-9 * OTHER, SCALE),
    "wide": (X, 1e6 * OTHER, SCALE),
    "one diagonal": (X, SDS, SCALE),
    "two diagonal": (X, np.array([1e-9, -2.1, 7.0]), SDS),
    "nearly equal diagonal": (MEAN, SDS * (1 + 1e-7), SDS),
}


@pytest.mark.parametrize(("mean", "scale", "p_scale"), PAIRS.values(), ids=PAIRS)
def test_kl_is_the_textbooks(mean, scale, p_scale):
    q, p = df.Gaussian(mean, scale), df.Gaussian(MEAN, p_scale)
    expected = exact_kl(mean, np.asarray(q.matrix), MEAN, np.asarray(p.matrix))
    close(df.gaussian_kl(q, p), expected, rtol=1e-13 if mean is MEAN else 1e-12, atol=0)


def test_kl_of_a_narrow_gaussian_is_finite_in_float32():
    q = df.Gaussian(np.zeros(2, np.float32), np.diag([1e-5, 1.0]).astype(np.float32))
    p = df.Gaussian(np.zeros(2, np.float32), np.eye(2, dtype=np.float32))
    expected = exact_kl(q.mean, q.scale, p.mean, p.scale)
    close(df.gaussian_kl(q, p), expected, rtol=1e-6)


@pytest.mark.parametrize("gap", [1e-3, 1e-6, 1e-9])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_kl_keeps_its_digits_when_the_two_nearly_agree(gap, dtype):
    # KLs of 1e-6, 1e-12 and 1e-18; in float32 the factors themselves differ in few digits.
    p_scale = SCALE.astype(dtype)
    q_scale = (p_scale + gap * OTHER).astype(dtype)
    q, p = df.Gaussian(MEAN.astype(dtype), q_scale), df.Gaussian(MEAN.astype(dtype), p_scale)
    expected = exact_kl(q.mean, q.scale, p.mean, p.scale)
    assert (expected > 0) == (gap > 1e-8 or dtype == np.float64)
    close(df.gaussian_kl(q, p), expected, rtol=200 * np.finfo(dtype).eps, atol=0)


def test_kl_does_not_see_a_rotation_of_either_factor():
    close(kl(MEAN, SCALE @ ROTATION), 0.0, atol=1e-14)
    close(kl(X, OTHER @ ROTATION), kl(X, OTHER), rtol=1e-13)


@pytest.mark.parametrize("scale", [OTHER, np.eye(3), 3 * ROTATION, SCALE + 1e-3 * OTHER])
def test_gradient_of_kl_is_the_closed_one_in_both_arguments(scale):
    """With P = T T^T: P^-1 (mu - m) and P^-1 S - S^-T; in T also at repeated eigenvalues of S."""
    precision, gap = np.linalg.inv(SCALE @ SCALE.T), X - MEAN
    pull = precision @ gap
    mismatch = precision - precision @ (scale @ scale.T + np.outer(gap, gap)) @ precision
    expected = df.Gaussian(pull, precision @ scale - np.linalg.inv(scale).T)
    in_target = df.Gaussian(-pull, mismatch @ SCALE)
    found = SLOPES(df.Gaussian(X, scale), df.Gaussian(MEAN, SCALE))
    close(found, (expected, in_target), rtol=1e-11, atol=1e-12)


def test_gradient_of_kl_at_equality_is_zero_where_eigenvalues_repeat():
    for scale in (np.eye(3), SCALE):
        same = df.Gaussian(MEAN, scale)
        chex.assert_trees_all_equal(SLOPES(same, same)[0], jax.tree.map(jnp.zeros_like, same))


@pytest.mark.parametrize("scale", [np.eye(3), SCALE], ids=["identity", "generic"])
def test_hessian_of_kl_at_equality_is_the_fisher_metric(scale):
    # Fisher on (mu, Sigma): dmu' P^-1 dmu + tr(P^-1 U P^-1 U) / 2, U = dS S' + S dS'.
    def along(e):
        q = df.Gaussian(MEAN + e * X, scale + e * OTHER)
        return df.gaussian_kl(q, df.Gaussian(MEAN, scale))

    precision, change = np.linalg.inv(scale @ scale.T), OTHER @ scale.T + scale @ OTHER.T
    whitened = precision @ change
    expected = X @ precision @ X + 0.5 * np.trace(whitened @ whitened)
    close(jax.jit(jax.grad(jax.grad(along)))(0.0), expected, rtol=1e-11)


def test_second_derivatives_of_a_diagonal_kl_at_equality():
    # Var = s^2: the Fisher information of s is 2 / s^2.
    def in_sds(sds):
        return df.gaussian_kl(df.Gaussian(MEAN, sds), df.Gaussian(MEAN, SDS))

    close(jax.jit(jax.hessian(in_sds))(SDS), np.diag(2 / SDS**2), atol=1e-11)
