"""Ratios and witnesses fitted to samples: the same numbers as dense sums and other solvers."""

import functools

import chex
import diffrax
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.spatial.distance import cdist, pdist
from scipy.stats import gaussian_kde
from sklearn.linear_model import LogisticRegression

import divergence_flows as df
from divergence_flows.ratios._least_squares import both, least_squares_loss

pytestmark = pytest.mark.usefixtures("x64")
RNG = np.random.default_rng(0)
XS_Q = RNG.normal(size=(53, 2))
XS_P = RNG.normal(size=(31, 2)) @ np.array([[1.0, 0.5], [0.0, 0.8]]) + np.array([1.0, -0.5])
POINTS = 2 * RNG.normal(size=(7, 2))
KEY = jr.key(3)
SMALL = {"features": 20, "key": KEY}
FITS = {
    "rff": functools.partial(df.rff_log_ratio, **SMALL),
    "ulsif": functools.partial(df.ulsif_ratio, centres=12, key=KEY),
    "mmd": df.mmd_witness,
    "mmd of features": functools.partial(df.mmd_witness, **SMALL),
}
on_every_fit = pytest.mark.parametrize("fit", FITS.values(), ids=FITS)


def identity(u):
    return u


@jax.jit
def at(potential, points=POINTS):
    return jax.vmap(potential, (None, 0, None))(0.0, jnp.asarray(points), None)


@jax.jit
def slopes(potential, points=POINTS):
    return df.velocity(identity, potential)(0.0, points, None)


# KDE


def test_kde_is_scipys_and_keeps_its_digits_in_float32_thirty_deviations_out():
    theirs = gaussian_kde(XS_Q.T).logpdf
    ours = jax.vmap(df.kde_log_prob(XS_Q, block=10))(POINTS)
    np.testing.assert_allclose(ours, theirs(POINTS.T), rtol=1e-10)
    far = np.array([[30.0, 30.0], [-30.0, 10.0]], np.float32)
    ours = jax.vmap(df.kde_log_prob(np.float32(XS_Q)))(far)
    assert ours.dtype == jnp.float32
    np.testing.assert_allclose(ours, theirs(far.T), rtol=1e-5)


@pytest.mark.parametrize("block", [1, 10])
def test_kde_of_a_bandwidth_and_its_gradient_are_the_dense_ones(block):
    log_prob = df.kde_log_prob(XS_Q, bandwidth=0.4, block=block)
    found, slope = jax.vmap(jax.value_and_grad(log_prob))(POINTS)
    kernel = np.exp(-0.5 * cdist(POINTS, XS_Q) ** 2 / 0.4**2)
    np.testing.assert_allclose(found, np.log(np.mean(kernel, 1) / (2 * np.pi * 0.4**2)), rtol=1e-10)
    nearest = kernel @ XS_Q / np.sum(kernel, 1, keepdims=True)
    np.testing.assert_allclose(slope, (nearest - POINTS) / 0.4**2, rtol=1e-8)


# Logistic


def features_of(log_r, points):
    return np.asarray(jax.vmap(log_r.args[0])(jnp.asarray(points)))


def test_logistic_ratio_is_scikit_learns_on_the_same_features():
    ridge, n, m = 1e-2, len(XS_Q), len(XS_P)
    log_r = df.rff_log_ratio(XS_Q, XS_P, ridge=ridge, newton_steps=12, block=9, **SMALL)
    model = LogisticRegression(C=1 / (ridge * (n + m)), tol=1e-12, max_iter=10_000)
    pooled = features_of(log_r, np.concatenate([XS_Q, XS_P]))[:, 1:]
    model.fit(pooled, np.arange(n + m) >= n)
    theirs = model.decision_function(features_of(log_r, POINTS)[:, 1:]) - np.log(m / n)
    np.testing.assert_allclose(at(log_r), theirs, atol=1e-5)


FACTOR = np.array([[1.0, 0.0], [0.5, 0.8]])


def two_gaussians():
    """q = N(0, I), p = N((1, -.5), C C^T)."""
    return df.Gaussian(np.zeros(2), np.eye(2)), df.Gaussian(np.array([1.0, -0.5]), FACTOR)


def gaussian_log_r(x):
    q, p = two_gaussians()
    return p.log_prob(x) - q.log_prob(x)


@functools.cache
def many(n, m):
    noise = jr.normal(jr.key(0), (n, 2)), jr.normal(jr.key(1), (m, 2))
    return [jax.vmap(law.push)(z) for law, z in zip(two_gaussians(), noise, strict=True)]


@pytest.mark.parametrize(("n", "m"), [(8000, 2000), (2000, 8000)])
def test_gradient_of_the_log_ratio_of_two_gaussians(n, m):
    xs_q, xs_p = many(n, m)
    log_r = df.rff_log_ratio(xs_q, xs_p, features=64, ridge=1e-3, key=KEY)
    unseen = jr.normal(jr.key(2), (2000, 2))
    value, exact = jax.vmap(jax.value_and_grad(gaussian_log_r))(unseen)
    error = jnp.linalg.norm(slopes(log_r, unseen) - exact) / jnp.linalg.norm(exact)
    assert error < 0.15 * np.sqrt(4000 / min(n, m))
    # Unequal numbers shift no log ratio: log(8000 / 2000) would be 1.39.
    assert abs(jnp.median(at(log_r, unseen) - value)) < 0.15


def test_an_infinite_penalty_leaves_no_ratio_whatever_the_numbers():
    flat = df.rff_log_ratio(XS_Q, XS_P, ridge=1e9, **SMALL)
    chex.assert_trees_all_close(at(flat), np.zeros(7), atol=1e-7)
    flat = df.ulsif_ratio(XS_Q, XS_P, ridge=1e9, key=KEY)
    chex.assert_trees_all_close(at(flat), np.ones(7), atol=1e-7)


def test_newton_arrives_on_samples_that_do_not_overlap():
    xs_p = XS_P + 40.0
    options = {"ridge": 1e-5, **SMALL}
    few, more = (df.rff_log_ratio(XS_Q, xs_p, newton_steps=k, **options) for k in (30, 60))
    chex.assert_trees_all_close(at(few, XS_Q), at(more, XS_Q), rtol=1e-6)
    assert at(more, XS_Q).max() < -5 < 5 < at(more, xs_p).min()


# uLSIF


def test_ulsif_solves_its_normal_equations():
    ridge, width, n, m = 1e-2, 0.7, len(XS_Q), len(XS_P)
    ratio = df.ulsif_ratio(XS_Q, XS_P, bandwidth=width, ridge=ridge, block=9, centres=12, key=KEY)
    centres = np.asarray(ratio.args[0].points)
    bumps = lambda xs: np.exp(-0.5 * cdist(xs, centres) ** 2 / width**2)
    design = lambda xs: np.concatenate([np.ones((len(xs), 1)), bumps(xs)], axis=1)
    # Least squares with rows of the penalty, whose right side is found from E_p of features.
    rows = np.vstack([design(XS_Q) / np.sqrt(n), np.sqrt(ridge) * np.eye(13)[1:]])
    right = np.linalg.lstsq(rows.T, np.mean(design(XS_P), 0), rcond=None)[0]
    theirs = design(POINTS) @ np.linalg.lstsq(rows, right, rcond=None)[0]
    assert set(map(tuple, centres)) <= set(map(tuple, XS_P))
    assert m > 12
    np.testing.assert_allclose(at(ratio), theirs, rtol=1e-7)


def test_ulsif_finds_the_ratio_of_two_gaussians():
    xs_q, xs_p = jr.normal(jr.key(0), (8000, 2)), 0.7 * jr.normal(jr.key(1), (2000, 2)) + 0.3
    ratio = df.ulsif_ratio(xs_q, xs_p, centres=64, key=KEY)
    unseen = jr.normal(jr.key(2), (2000, 2))
    p, q = df.Gaussian(np.full(2, 0.3), 0.7 * np.eye(2)), df.Gaussian(np.zeros(2), np.eye(2))
    exact = jnp.exp(jax.vmap(p.log_prob)(unseen) - jax.vmap(q.log_prob)(unseen))
    error = jnp.mean((at(ratio, unseen) - exact) ** 2) / jnp.mean((1 - exact) ** 2)
    assert error < 0.05


# MMD


def half_squared_mmd(xs_q, xs_p, widths):
    def mean(xs, ys):
        squares = jnp.sum((xs[:, None] - ys) ** 2, axis=-1)
        return sum(jnp.mean(jnp.exp(-squares / (2 * b**2))) for b in widths) / len(widths)

    return 0.5 * (mean(xs_q, xs_q) - 2 * mean(xs_q, xs_p) + mean(xs_p, xs_p))


@pytest.mark.parametrize("widths", [np.array([0.8]), np.array([0.5, 2.0])])
def test_the_witness_is_its_mean_of_kernels_and_moves_particles_down_the_squared_mmd(widths):
    witness = df.mmd_witness(XS_Q, XS_P, bandwidth=widths, block=10)
    kernels = lambda xs: np.exp(-(cdist(POINTS, xs) ** 2)[..., None] / (2 * widths**2))
    p, q = (np.mean(kernels(xs), axis=(1, 2)) for xs in (XS_P, XS_Q))
    np.testing.assert_allclose(at(witness), p - q, rtol=1e-8, atol=1e-12)
    steepest = -len(XS_Q) * jax.grad(half_squared_mmd)(jnp.asarray(XS_Q), XS_P, widths)
    np.testing.assert_allclose(slopes(witness, XS_Q), steepest, rtol=1e-8, atol=1e-12)


def test_random_features_approximate_the_exact_witness():
    exact = at(df.mmd_witness(XS_Q, XS_P, bandwidth=np.array([0.5, 2.0])))
    found = at(df.mmd_witness(XS_Q, XS_P, bandwidth=np.array([0.5, 2.0]), features=40_000, key=KEY))
    # Hoeffding at 20,000 frequencies, each worth at most 2 in size: five deviations.
    np.testing.assert_allclose(found, exact, atol=5 * 2 / np.sqrt(20_000))


# All of them


@on_every_fit
def test_what_is_fitted_holds_arrays_only_and_the_block_changes_no_result(fit):
    whole, cut = (fit(XS_Q, XS_P, block=block) for block in (1000, 9))
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(whole))
    chex.assert_trees_all_close(at(cut), at(whole), rtol=1e-7)


@on_every_fit
def test_units_origin_and_precision_change_no_result(fit):
    expected = at(fit(XS_Q, XS_P))
    moved = [1e3 * xs + 5e4 for xs in (XS_Q, XS_P, POINTS)]
    chex.assert_trees_all_close(at(fit(*moved[:2]), moved[2]), expected, rtol=1e-6, atol=1e-8)
    small = at(fit(np.float32(XS_Q), np.float32(XS_P)), np.float32(POINTS))
    assert small.dtype == jnp.float32
    chex.assert_trees_all_close(small, np.float32(expected), rtol=2e-2, atol=2e-2)


# Bandwidths


def test_the_median_rule_is_the_median_of_all_distances():
    middle = lambda xs: np.sqrt(np.median(pdist(xs) ** 2))
    both = np.concatenate([XS_Q, XS_P])
    np.testing.assert_allclose(df.median_bandwidth(XS_Q), middle(XS_Q), rtol=1e-12)
    np.testing.assert_allclose(df.median_bandwidth(XS_Q, XS_P), middle(both), rtol=1e-12)


def test_the_median_rule_of_some_samples_is_near_that_of_their_density():
    found = df.median_bandwidth(many(8000, 2000)[0], size=800)
    # |x - y| of two standard normals in the plane: sqrt(2) times a Rayleigh variable.
    np.testing.assert_allclose(found, 2 * np.sqrt(np.log(2)), rtol=0.05)


@pytest.mark.parametrize("loss", ["logistic", "ulsif"])
def test_the_chosen_bandwidth_has_the_least_loss_on_what_was_left_out(loss):
    multiples = (0.1, 0.4, 1.0, 3.0)
    options = {"features": 100, "degree": 0, "ridge": 1e-3, "key": KEY}
    # Thirds of one size, where each size would be compiled.
    samples = [XS_Q[:51], XS_P[:30]] if loss == "logistic" else [XS_Q, XS_P]
    found = df.ratio_bandwidth(*samples, loss=loss, multiples=multiples, **options)
    candidates = np.array(multiples) * df.median_bandwidth(*samples)
    losses = np.zeros(4)
    for part in range(3):
        left_out = [np.arange(len(xs)) % 3 == part for xs in samples]
        inside = [xs[~out] for xs, out in zip(samples, left_out, strict=True)]
        outside = [xs[out] for xs, out in zip(samples, left_out, strict=True)]
        for i, width in enumerate(candidates):
            if loss == "ulsif":
                losses[i] += left_out_ulsif(inside, outside, width)
                continue
            u = df.rff_log_ratio(*inside, bandwidth=width, **options)
            logits = [at(u, xs) + np.log(len(outside[1]) / len(outside[0])) for xs in outside]
            losses[i] += np.mean(np.logaddexp(0, np.concatenate([logits[0], -logits[1]])))
    np.testing.assert_allclose(found, candidates[np.argmin(losses)], rtol=1e-10)


def left_out_ulsif(inside, outside, width):
    """With all samples of p as centres, as the choice has them."""
    design = lambda xs: np.concatenate(
        [np.ones((len(xs), 1)), np.exp(-0.5 * cdist(xs, XS_P) ** 2 / width**2)], axis=1
    )
    on_q, on_p = (design(xs) for xs in inside)
    penalty = 1e-3 * np.diag(np.arange(len(XS_P) + 1) > 0)
    c = np.linalg.solve(on_q.T @ on_q / len(on_q) + penalty, np.mean(on_p, 0))
    return np.mean((design(outside[0]) @ c) ** 2) / 2 - np.mean(design(outside[1]) @ c)


def test_the_loss_that_chooses_an_ulsif_bandwidth_is_that_of_the_ratio_itself():
    fit = df.ulsif_ratio(XS_Q, XS_P, centres=12, bandwidth=1.0, key=KEY)
    data = both(jnp.asarray(XS_Q), jnp.asarray(XS_P), 10, jnp.ones(53), jnp.ones(31))
    expected = np.mean(at(fit, XS_Q) ** 2) / 2 - np.mean(at(fit, XS_P))
    np.testing.assert_allclose(
        least_squares_loss(fit.args[0], data, fit.args[1]), expected, rtol=1e-10
    )


# The field that refits


def test_the_refitting_field_is_the_velocity_of_the_fit():
    fit = functools.partial(df.rff_log_ratio, xs_p=XS_P, **SMALL)
    expected = df.velocity(jax.nn.softplus, fit(XS_Q))(0.0, XS_Q, None)
    for block in (None, 20):
        field = df.cloud_velocity(jax.nn.softplus, fit, block=block)
        chex.assert_trees_all_close(field(0.0, XS_Q, None), expected, rtol=1e-7)


def test_the_refitting_field_follows_the_ornstein_uhlenbeck_flow():
    # Fitted logarithms of ratios of Gaussians are exact but for noise; KL(t) has a closed form.
    xs_q, xs_p = 0.5 * jr.normal(jr.key(0), (2000, 2)) + 1.5, jr.normal(jr.key(1), (4000, 2))
    options = {"features": 4, "ridge": 1e-3, "newton_steps": 5}
    fit = functools.partial(df.rff_log_ratio, xs_p=xs_p, key=KEY, **options)
    ts = np.array([0.0, 0.25, 0.5, 1.0])
    steps = diffrax.PIDController(rtol=1e-3, atol=1e-3)
    field = df.cloud_velocity(identity, fit)
    found = df.integrate(field, xs_q, ts, dt0=0.05, stepsize_controller=steps)
    standard, kl = df.Gaussian(np.zeros(2), np.eye(2)), jax.jit(df.gaussian_kl)
    for t, xs in zip(ts, found.ys, strict=True):
        deviation = np.sqrt(1 - 0.75 * np.exp(-2 * t))
        exact = df.Gaussian(np.full(2, 1.5 * np.exp(-t)), deviation * np.eye(2))
        measured = df.Gaussian(np.mean(xs, 0), np.linalg.cholesky(np.cov(xs.T)))
        found_kl, exact_kl = kl(measured, standard), kl(exact, standard)
        np.testing.assert_allclose(found_kl, exact_kl, rtol=0.06, atol=0.01)


def test_a_refitting_field_is_traced_once_for_all_samples_and_numbers():
    def fitted(xs, scale, xs_p, words):
        assert words == "as they are"
        return df.mmd_witness(xs, xs_p, bandwidth=scale)

    @jax.jit
    @chex.assert_max_traces(n=1)
    def rate(field, xs):
        return field(0.0, xs, None)

    for scale in (0.5, 1.5):
        fit = functools.partial(fitted, scale=scale, xs_p=XS_P, words="as they are")
        field = df.cloud_velocity(identity, fit)
        expected = slopes(df.mmd_witness(XS_Q, XS_P, bandwidth=scale), XS_Q)
        chex.assert_trees_all_close(rate(field, XS_Q), expected, rtol=1e-9)
