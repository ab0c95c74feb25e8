"""Flows of mixtures against the divergence they descend, integrated with numpy and scipy."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import kstest, multivariate_normal, norm
from targets import banana, rates

import divergence_flows as df

pytestmark = pytest.mark.usefixtures("x64")

X = np.arange(-14.0, 14.0, 0.01)
LOGITS = np.array([0.3, -0.2, 0.9])
MEANS, SCALES = np.array([-1.0, 0.2, 1.5]), np.array([0.9, 1.1, 0.8])
F = {
    "kl_qp": lambda u: -u,
    "pearson": lambda u: np.expm1(u) ** 2,
    "jensen_shannon": lambda u: (
        0.5 * (np.exp(u) * u - (1 + np.exp(u)) * np.log1p(np.exp(u)))
        + 0.5 * np.log(2) * (1 + np.exp(u))
    ),
}
every_f = pytest.mark.parametrize("name", F)


def weights_of(logits):
    return np.exp(logits - logsumexp(logits))


def log_mixture(x, logits, means, scales):
    each = norm.logpdf(x[:, None], means, scales)
    return logsumexp(each + np.log(weights_of(logits)), axis=1)


def log_p(x):
    """A law with heavier tails than the mixture, so that every F is finite."""
    return jnp.sum(-0.5 * (x / 1.15) ** 2 + 0.3 * jnp.sin(x)) - LOG_Z


LOG_Z = np.log(0.01 * np.sum(np.exp(-0.5 * (X / 1.15) ** 2 + 0.3 * np.sin(X))))


def divergence(name, logits, means, scales):
    log_q = log_mixture(X, logits, means, scales)
    u = -0.5 * (X / 1.15) ** 2 + 0.3 * np.sin(X) - LOG_Z - log_q
    return 0.01 * np.sum(np.exp(log_q) * F[name](u))


@functools.cache
def slopes(name):
    """Central differences of F in each logit, mean and scale."""
    theta, eps = np.stack([LOGITS, MEANS, SCALES]), 1e-5
    out = np.zeros_like(theta)
    for index in np.ndindex(theta.shape):
        step = np.zeros_like(theta)
        step[index] = eps
        out[index] = divergence(name, *(theta + step)) - divergence(name, *(theta - step))
    return out / (2 * eps)


def mixture(diagonal=True):
    scales = SCALES[:, None] if diagonal else SCALES[:, None, None]
    return df.Mixture(LOGITS, MEANS[:, None], scales)


def rates_of(name, diagonal=True, **options):
    field = df.mixture_field(log_p, df.trapezoid(1), h=getattr(df.divergences, name).h, **options)
    return flat(rates(field, mixture(diagonal)))


def flat(q):
    return np.stack([np.ravel(leaf) for leaf in (q.logits, q.means, q.scales)])


@every_f
def test_the_euclidean_flow_is_minus_the_gradient_of_the_divergence(name):
    still, moving = (rates_of(name, metric="euclidean", move_weights=w) for w in (False, True))
    np.testing.assert_allclose(moving, -slopes(name), atol=1e-8)
    np.testing.assert_allclose(still, [0 * moving[0], *moving[1:]], atol=1e-12)


@every_f
def test_the_wasserstein_drift_has_no_factor_w_and_weights_follow_fisher_rao(name):
    still, moving = rates_of(name), rates_of(name, move_weights=True)
    weights = weights_of(LOGITS)
    np.testing.assert_allclose(still[1:], -slopes(name)[1:] / weights, atol=1e-7)
    np.testing.assert_array_equal(still[0], 0.0)
    np.testing.assert_allclose(moving[1:], still[1:], rtol=1e-10)
    # Fisher-Rao: w_k' = -w_k (dF/dw_k - sum_j w_j dF/dw_j), and dF/dlogits is what stands there.
    moved = weights * (moving[0] - weights @ moving[0])
    np.testing.assert_allclose(moved, -slopes(name)[0], atol=1e-8)


def test_it_is_minus_the_gradient_of_the_path_gradient_loss():
    q, nodes, h = mixture(diagonal=False), df.gauss_hermite(1, 9), jnp.arcsinh
    field = df.mixture_field(log_p, nodes, h=h, metric="euclidean", move_weights=True)
    loss = jax.jit(jax.grad(lambda q: df.stl_loss(log_p, q, nodes, h=h)))
    minus = jax.tree.map(jnp.negative, loss(q))
    chex.assert_trees_all_close(rates(field, q), minus, rtol=1e-10, atol=1e-14)


def test_a_vector_scale_moves_as_the_matrix_of_one_dimension():
    ours = rates_of("jensen_shannon", diagonal=False)
    np.testing.assert_allclose(ours, rates_of("jensen_shannon"), rtol=1e-10, atol=1e-14)


SKEW = np.array([[0.8, 0.1], [-0.4, 1.1]])


@pytest.mark.parametrize("scale", [SKEW, np.diag(SKEW)], ids=["full", "diagonal"])
@pytest.mark.parametrize(
    ("name", "metric"), [("kl_qp", "euclidean"), ("jensen_shannon", "wasserstein")]
)
def test_one_component_is_the_gaussian_flow(scale, name, metric):
    mean, nodes, h = np.array([0.5, -1.0]), df.gauss_hermite(2, 8), getattr(df.divergences, name).h
    alone = rates(df.gaussian_field(banana, nodes, h=h), df.Gaussian(mean, scale))
    q = df.Mixture(np.zeros(1), mean[None], scale[None])
    rate = rates(df.mixture_field(banana, nodes, h=h, metric=metric, move_weights=True), q)
    ours = (rate.logits, rate.means[0], rate.scales[0])
    chex.assert_trees_all_close(ours, (np.zeros(1), alone.mean, alone.scale), atol=1e-12)


def uniform(x):
    return jnp.zeros(())


def test_components_repel_where_their_own_scores_would_leave_them_at_rest():
    means, nodes = np.array([-0.4, 0.4]), df.trapezoid(1)
    q = df.Mixture(np.zeros(2), means[:, None], np.ones((2, 1)))
    ours = rates(df.mixture_field(uniform, nodes), q).means[:, 0]
    # Trap 9: one component under its own score on a flat target does not move its mean.
    own = rates(df.gaussian_field(uniform, nodes), df.Gaussian(means[:1], np.ones(1)))
    np.testing.assert_allclose(own.mean, 0.0, atol=1e-14)
    # -d/dx log q = x - .4 tanh(.4 x), averaged over N(.4, 1).
    drift = 0.01 * np.sum(norm.pdf(X, 0.4) * (X - 0.4 * np.tanh(0.4 * X)))
    np.testing.assert_allclose(ours, [-drift, drift], rtol=1e-9)
    assert drift > 0.2


def test_log_prob_push_and_weights_of_a_mixture_in_the_plane():
    scales = np.stack([SKEW, np.eye(2)])
    q, x = df.Mixture(LOGITS[:2], np.arange(4.0).reshape(2, 2), scales), np.array([0.3, 1.7])
    densities = [
        w * multivariate_normal.pdf(x, mean, scale @ scale.T)
        for w, mean, scale in zip(weights_of(LOGITS[:2]), q.means, scales, strict=True)
    ]
    np.testing.assert_allclose(q.log_prob(x), np.log(sum(densities)), rtol=1e-12)
    np.testing.assert_allclose(q.push(x), np.asarray(q.means) + scales @ x, rtol=1e-12)
    np.testing.assert_allclose(q.weights, weights_of(LOGITS[:2]), rtol=1e-12)
    np.testing.assert_allclose(np.exp(q.log_weights), q.weights, rtol=1e-12)
    np.testing.assert_allclose(q.components.covariance, scales @ scales.mT, rtol=1e-12)


def shifted(x, shift):
    return -0.5 * jnp.sum((x - shift) ** 2)


def test_mini_batches_average_the_target():
    z, shifts = np.array([[-1.0], [1.0]] * 2), np.array([2.0, 2.0, -1.0, -1.0])
    nodes = df.Nodes(z, np.full(4, 0.25), shifts)
    plain = df.mixture_field(lambda x: shifted(x, 0.5), df.Nodes(z[:2], np.full(2, 0.5)))
    ours = rates(df.mixture_field(shifted, nodes), mixture())
    chex.assert_trees_all_close(ours, rates(plain, mixture()), atol=1e-12)


def three_modes():
    means, scales = np.array([[-3.0], [0.0], [2.5]]), np.array([[0.5], [0.8], [0.4]])
    return df.Mixture(np.log([0.3, 0.5, 0.2]), means, scales)


def kl(q, p, nodes):
    return df.stl_loss(p.log_prob, q, nodes)  # its value, for the identity


def test_samples_of_a_mixture_have_its_distribution_on_the_line():
    p = three_modes()
    xs = jax.jit(lambda key: p.sample(key, (40, 100)))(jax.random.key(0))
    assert xs.shape == (40, 100, 1)
    means, scales = p.means[:, 0], p.scales[:, 0]
    below = lambda x: norm.cdf(x[:, None], means, scales) @ np.asarray(p.weights)
    assert kstest(np.ravel(xs), below).pvalue > 1e-3
    # Where it is one, differentiable in the component that drew.
    shift = jax.grad(lambda q: jnp.sum(q.sample(jax.random.key(1), (1000,))))(p).means[:, 0] / 1000
    error = np.sqrt(p.weights * (1 - p.weights) / 1000)
    assert np.all(np.abs(shift - p.weights) < 5 * error)


@pytest.mark.parametrize("metric", ["wasserstein", "euclidean"])
def test_kl_falls_to_zero_where_the_family_contains_the_target(metric):
    p = three_modes()
    start = df.Mixture(np.zeros(3), np.array([[-2.0], [0.0], [2.0]]), np.ones((3, 1)))
    nodes, options = df.gauss_hermite(1, 60), {"metric": metric, "move_weights": True}
    field = df.mixture_field(p.log_prob, nodes, **options)
    ys = df.integrate(field, start, np.linspace(0.0, 100.0, 11)).ys
    kls = jax.jit(jax.vmap(lambda q: kl(q, p, df.trapezoid(1))))(ys)
    assert kls[0] > 0.1
    assert kls[-1] < 1e-9
    assert np.all(np.diff(kls) < 1e-9)
    np.testing.assert_allclose(ys.weights[-1], p.weights, atol=1e-4)
    np.testing.assert_allclose(ys.means[-1], p.means, atol=1e-4)


def test_four_components_find_the_four_modes_of_a_square():
    modes = 1.5 * np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    p = df.Mixture(np.zeros(4), modes, np.stack([0.6 * np.eye(2)] * 4))
    begin = 0.8 * np.array([[1.0, 0.8], [0.9, -1.0], [-1.1, 1.0], [-1.0, -1.2]])
    start = df.Mixture(np.zeros(4), begin, np.stack([np.eye(2)] * 4))
    field = df.mixture_field(p.log_prob, df.gauss_hermite(2, 12))
    ys = df.integrate(field, start, np.linspace(0.0, 12.0, 7)).ys
    kls = jax.jit(jax.vmap(lambda q: kl(q, p, df.gauss_hermite(2, 24))))(ys)
    assert np.all(np.diff(kls) < 1e-7)
    assert kls[-1] < 1e-9
    np.testing.assert_allclose(ys.means[-1], modes, atol=1e-4)
