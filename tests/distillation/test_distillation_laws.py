"""Noise levels, denoising, noised ratios and the generator's step, each by quadrature."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from catalogue import ROWS
from jax.tree_util import Partial

import divergence_flows as df
from divergence_flows.distillation._config import DistilledConfig, default_weight
from divergence_flows.distillation._distilled_step import generator_descent
from divergence_flows.distillation._levels import Levels
from divergence_flows.distillation._noised_ratio import noised_descent
from divergence_flows.distillation._ratio_scale import RatioScale
from divergence_flows.training._ratio_step import RatioConfig

pytestmark = pytest.mark.usefixtures("x64")
LEVEL = (0.8, 0.6)
SGD = optax.sgd(1.0)  # what it changes is minus the gradient
# Means and deviations; all integrals of the catalogue exist, since the widths are alike.
MIXTURE, Q = ((0.4, -0.6, 0.9), (0.6, 0.7, 0.8)), (0.3, 1.0)
GANS = {"logit": df.gans.logit, "vanilla": df.gans.vanilla, "least_squares": df.gans.least_squares}
GANS["f_gan(pearson)"] = lambda: df.gans.f_gan(df.divergences.pearson)


def nodes(count=141, end=11.0):
    """The trapezium rule for two standard normals, exact to round-off for smooth functions."""
    x = np.linspace(-end, end, count)
    weights = np.exp(-0.5 * x**2)
    weights /= weights.sum()
    z, e = (part.ravel() for part in np.meshgrid(x, x))
    return jnp.asarray(z), jnp.asarray(e), jnp.asarray(np.outer(weights, weights).ravel())


def expected(tree, weights):
    return jax.tree.map(lambda leaf: jnp.tensordot(weights, leaf, 1), tree)


def log_normal(mean, deviation, level, y):
    alpha, sigma = level
    variance = (alpha * deviation) ** 2 + sigma**2
    return -0.5 * ((y - alpha * mean) ** 2 / variance + jnp.log(2 * jnp.pi * variance))


def log_mixture(level, y):
    parts = [np.log(w) + log_normal(mean, scale, level, y) for w, mean, scale in MIXTURE]
    return jax.nn.logsumexp(jnp.stack(parts), axis=0)


def level_of(lam):
    return jnp.sqrt(jax.nn.sigmoid(-2 * lam)), jnp.sqrt(jax.nn.sigmoid(2 * lam))


def score_of(log_density, lam, y):
    return jax.grad(lambda y: log_density(level_of(lam), y[0]))(y)


def log_ratio(lam, y):
    level = level_of(lam)
    return log_mixture(level, y[0]) - log_normal(*Q, level, y[0])


def noised_divergence(div, mean, deviation):
    y = jnp.linspace(-18.0, 18.0, 8001)
    log_q, log_p = log_normal(mean, deviation, LEVEL, y), log_mixture(LEVEL, y)
    return jnp.trapezoid(jnp.exp(log_q) * div.f(jnp.exp(log_p - log_q)), y)


class Affine(eqx.Module):
    mean: jax.Array
    deviation: jax.Array

    def __call__(self, z):
        return self.mean + self.deviation * z


@pytest.mark.parametrize("name", ROWS)
def test_the_generators_step_is_the_gradient_of_the_noised_divergence(name):
    scores = Partial(score_of, log_mixture), Partial(score_of, Partial(log_normal, *Q))
    generator, ratio = Affine(*map(jnp.asarray, Q)), Partial(log_ratio)
    config = DistilledConfig(
        *(ROWS[name].h, scores[0], RatioConfig(df.gans.logit(), SGD, None, None, 0.0), None),
        *(SGD, SGD, Levels("", df.variance_preserving, (0.0, 1.0))),
        *(RatioScale(None, None, 0.0, False), Partial(default_weight), None, float),
        *(1, 1, 1, "score", "score", 0.0),
    )
    options = {"discriminator": ratio, "d_optimizer": SGD}
    state = df.DistilledState.start(generator, scores[1], SGD, SGD, **options)

    def change(z, e):
        one = (part[None, None] for part in (z, e))
        new, _ = generator_descent(config, state, (next(one),), next(one), z[None], level)
        return new.generator.mean, new.generator.deviation

    level = tuple(jnp.full(1, part) for part in LEVEL)
    z, e, weights = nodes()
    found = expected(jax.jit(jax.vmap(change))(z, e), weights)
    slopes = jax.jit(jax.grad(Partial(noised_divergence, ROWS[name]), (0, 1)))(*Q)
    wanted = [q - (0.6 / 0.8) ** 2 * slope for q, slope in zip(Q, slopes, strict=True)]
    np.testing.assert_allclose(found, wanted, rtol=1e-8)


class Shifted(eqx.Module):
    """The exact discriminator of two noised Gaussians, and a quadratic in its log ratio."""

    shift: jax.Array
    gan: df.GAN

    def __call__(self, lam, y):
        level, powers = level_of(lam), jnp.stack([jnp.ones_like(y[0]), y[0], y[0] ** 2])
        u = log_normal(0.5, 1.2, level, y[0]) - log_normal(*Q, level, y[0])
        return self.gan.inverse(u + self.shift @ powers)


@pytest.mark.parametrize("name", GANS)
def test_a_noised_ratio_rests_at_the_ratio_of_the_noised_laws(name):
    gan = GANS[name]()
    config = RatioConfig(gan, SGD, None, None, 0.0)

    def change(shift, z, e):
        state = df.RatioState.start(Shifted(shift, jax.lax.stop_gradient(gan)), SGD)
        x_q, x_p, e = ((part[None, None],) for part in (Q[0] + Q[1] * z, 0.5 + 1.2 * z, e))
        levels = (tuple(jnp.full(1, part) for part in LEVEL),) * 2
        new, _ = noised_descent(config, (x_q, x_p), (e[0], e[0]), levels, state, None)
        return new.discriminator.shift - shift

    z, e, weights = nodes()
    change = jax.jit(jax.vmap(change, (None, 0, 0)))
    at_rest = expected(change(jnp.zeros(3), z, e), weights)
    np.testing.assert_allclose(at_rest, 0, atol=1e-12)
    beside = expected(change(jnp.array([0.1, 0.0, 0.0]), z, e), weights)
    assert beside[0] < -1e-3  # back down


PREDICTIONS = {
    "score": lambda s, y, level: s,
    "noise": lambda s, y, level: -level[1] * s,
    "data": lambda s, y, level: (y + level[1] ** 2 * s) / level[0],
}


@pytest.mark.parametrize("predicts", PREDICTIONS)
def test_denoising_is_least_at_the_score_whatever_is_predicted(predicts):
    mean, deviation = 0.5, 1.2
    alpha, sigma = LEVEL
    variance = (alpha * deviation) ** 2 + sigma**2

    def loss(weights, z, e):
        # An affine score is exact for a Gaussian.
        score = lambda y: weights[0] - weights[1] * y
        model = lambda lam, y: PREDICTIONS[predicts](score(y), y, level_of(lam))
        xs, noise = mean + deviation * z[None, None], e[None, None]
        return df.denoising_loss(model, xs, noise, LEVEL, predicts=predicts)

    exact = jnp.array([alpha * mean / variance, 1 / variance])
    z, e, weights = nodes()
    values = jax.jit(jax.vmap(jax.value_and_grad(loss), (None, 0, 0)))
    value, slope = expected(values(exact, z, e), weights)
    np.testing.assert_allclose(slope, 0, atol=1e-12)
    # What is left is the variance of e given y.
    np.testing.assert_allclose(value, (alpha * deviation) ** 2 / variance, rtol=1e-12)
    # Elsewhere it grows by sigma^2 E|s - s*|^2, for all three alike.
    other = expected(values(exact + jnp.array([0.3, 0.0]), z, e)[0], weights)
    np.testing.assert_allclose(other - value, sigma**2 * 0.3**2, rtol=1e-10)


def test_weights_of_denoising_are_one_for_each_sample():
    xs, noise = jr.normal(jr.key(0), (2, 5, 2, 3))
    level = df.variance_preserving(jnp.linspace(0.1, 0.9, 5))
    model = lambda lam, y: jnp.tanh(lam) * y
    each = [
        df.denoising_loss(model, xs[i : i + 1], noise[i : i + 1], tuple(part[i] for part in level))
        for i in range(5)
    ]
    weights = jnp.arange(5.0)
    whole = df.denoising_loss(model, xs, noise, level, weight=weights)
    np.testing.assert_allclose(whole, weights @ jnp.stack(each) / 5, rtol=1e-12)


def test_schedules_have_their_rates_and_ends():
    t = jnp.linspace(0.05, 0.95, 7)
    alpha, sigma = df.variance_preserving(t)
    np.testing.assert_allclose(alpha**2 + sigma**2, 1, rtol=1e-12)
    rate = jax.vmap(jax.grad(lambda t: jnp.log(df.variance_preserving(t)[0])))(t)
    np.testing.assert_allclose(rate, -0.5 * (0.1 + t * 19.9), rtol=1e-12)
    ends = df.variance_exploding(jnp.array([0.0, 0.5, 1.0]), sigma_max=80.0)
    np.testing.assert_allclose(ends[0], 1)
    np.testing.assert_allclose(ends[1], [0.002, 0.4, 80.0], rtol=1e-12)


def test_every_part_of_the_span_has_one_time():
    levels = Levels("", df.variance_preserving, (0.1, 0.9))
    ts, _ = levels.draw(jr.key(0), 40, float)
    assert sorted(jnp.floor(40 * levels.place(ts)).astype(int).tolist()) == list(range(40))
    assert ts.tolist() != sorted(ts.tolist())


def test_means_of_ratios_are_those_of_their_bins_and_never_overflow():
    scale, u = RatioScale((0.5, 4.0), 3, 0.9, True), jnp.log(jnp.array([1.0, 3.0, 8.0, 0.1]))
    moved, means = scale.apply(u, jnp.zeros(3), jnp.array([0.1, 0.2, 0.5, 0.6]))
    wanted = np.array([0.9 + 0.1 * 2.0, 0.9 + 0.1 * (4.0 + 0.5) / 2, 1.0])
    np.testing.assert_allclose(jnp.exp(means), wanted, rtol=1e-12)
    clipped = np.array([1.0, 3.0, 4.0, 0.5]) / wanted[[0, 0, 1, 1]]
    np.testing.assert_allclose(jnp.exp(moved), clipped, rtol=1e-12)
    np.testing.assert_allclose(jnp.mean(scale.normalised(jnp.arange(4.0))), 1, rtol=1e-12)
    scale = RatioScale(None, 2, 0.0, False)
    moved, means = scale.apply(jnp.array([1e4, 1e4, -1e4]), jnp.zeros(2), jnp.array([0, 0, 1.0]))
    np.testing.assert_allclose(means, [1e4, -1e4])
    np.testing.assert_allclose(moved, 0, atol=1e-9)
