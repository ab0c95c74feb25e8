"""Samples far apart, by a path of densities: closed forms, errors that hold them, and verdicts."""

import functools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.stats import norm

import divergence_flows as df
from divergence_flows.estimates._on_path import fitted_again, two_sided
from divergence_flows.estimates._path import Path

SHIFT = 4.2  # KL is 8.8 nats
FAR = jnp.array([SHIFT, 0.0])
OPTIONS = {"folds": 3, "batch_size": 96}


@functools.cache
def found_in_many(name, legs=6, count=8, n=1000, steps=500):
    critic = df.networks.TimeDiscriminator(2, depth=0, key=jr.key(0))

    def found(key):
        of_p, of_q, key = jr.split(key, 3)
        xs_p, xs_q = FAR + jr.normal(of_p, (n, 2)), jr.normal(of_q, (n, 2))
        options = {"critic": critic, "path": legs, "steps": steps, "key": key}
        div = getattr(df.divergences, name)
        return df.divergence_between(xs_p, xs_q, div, **OPTIONS, **options)

    return jax.jit(jax.vmap(found))(jr.split(jr.key(1), count))


def test_far_apart_the_path_is_right_within_its_two_errors_and_one_critic_is_not():
    found, truth = found_in_many("kl_pq"), SHIFT**2 / 2
    assert jnp.sum(jnp.abs(found.value - truth) <= 2 * found.error) >= 7
    assert abs(jnp.mean(found.value) - truth) < jnp.mean(found.error)
    assert abs(jnp.mean(found.plug_in) - truth) < jnp.mean(found.plug_in_error) / 2
    # Wide, and no wider than it needs to be by much.
    assert jnp.std(found.value) < jnp.mean(found.error) < 4 * jnp.std(found.value)
    assert jnp.mean(found.believe) > 0.7
    # Hardly trained the value may be right, and is not believed.
    assert not jnp.any(found_in_many("kl_pq", count=2, steps=100).believe)
    keys = jr.split(jr.key(2))
    xs_p, xs_q = FAR + jr.normal(keys[0], (1000, 2)), jr.normal(keys[1], (1000, 2))
    critic = df.networks.Discriminator(2, depth=0, key=jr.key(0))
    options = {"critic": critic, "steps": 200, "key": jr.key(3)}
    direct = df.divergence_between(xs_p, xs_q, df.divergences.kl_pq, **OPTIONS, **options)
    assert direct.value < truth - 2
    assert not direct.believe


def test_legs_that_do_not_overlap_are_not_believed():
    found = found_in_many("kl_pq", legs=1, count=2)
    assert not jnp.any(found.believe)
    assert jnp.all(found.check.effective_sample_size < 100)


@pytest.mark.parametrize("name", ["kl_qp", "jensen_shannon", "squared_hellinger", "jeffreys"])
def test_every_divergence_has_the_two_sided_form(name, x64):
    # The trapezoidal rule is exact to rounding for what dies out at both ends.
    div, xs = getattr(df.divergences, name), jnp.linspace(-9, 9 + SHIFT, 2000)
    p, q = norm.pdf(xs, SHIFT), norm.pdf(xs)
    u = SHIFT * xs - SHIFT**2 / 2
    total = jnp.trapezoid((p + q) * two_sided(div, u), xs)
    near = jnp.where(q > 1e-300, q, 0) * jnp.where(q > 1e-300, div.standard(u), 0)
    assert total == pytest.approx(float(jnp.trapezoid(near, xs)), rel=1e-7)


def test_log_ratios_whose_exponential_overflows_are_numbers_too():
    u = jnp.array([-300.0, -50.0, 50.0, 300.0])
    np.testing.assert_allclose(two_sided(df.divergences.kl_pq, u), [1, 1, 49, 299], rtol=1e-6)
    np.testing.assert_allclose(two_sided(df.divergences.kl_qp, u), [299, 49, 1, 1], rtol=1e-6)


def test_the_path_has_both_ends_and_keeps_variances():
    xs_q, xs_p = jr.normal(jr.key(0), (4000, 2)), 2 + jr.normal(jr.key(1), (4000, 2))
    path = Path(legs=3, fixed=1)
    np.testing.assert_array_equal(path.at(jnp.asarray(0), xs_q, xs_p)[:, 1], xs_q[:, 1])
    np.testing.assert_array_equal(path.at(jnp.asarray(3), xs_q, xs_p), xs_p)
    between = path.at(jnp.asarray(1), xs_q, xs_p)
    np.testing.assert_array_equal(between[:, 0], xs_p[:, 0])
    assert jnp.var(between[:, 1]) == pytest.approx(1, abs=0.1)


def test_fitting_again_finds_what_a_log_ratio_has_missed(x64):
    # p = N(1, 1) against q = N(0, 1): the log ratio x - 1/2, of which a tenth is missing.
    near, far = jr.normal(jr.key(0), (200_000,)), 1 + jr.normal(jr.key(1), (200_000,))
    features = [jnp.stack([jnp.ones_like(xs), xs]) for xs in (near, far)]
    adds = fitted_again(0.9 * (near - 0.5), 0.9 * (far - 0.5), *features)
    error = jnp.std(adds, axis=1) / near.size**0.5
    # Newton's step is good to the second order in a tenth.
    assert jnp.all(jnp.abs(jnp.mean(adds, axis=1) - jnp.array([-0.05, 0.1])) < 3 * error + 0.005)


def test_mutual_information_of_ten_nats():
    pairs, n, rho = 20, 4000, 0.8
    of_x, of_e = jr.split(jr.key(0))
    xs = jr.normal(of_x, (n, pairs))
    ys = rho * xs + jnp.sqrt(1 - rho**2) * jr.normal(of_e, (n, pairs))
    options = {"folds": 2, "steps": 300, "batch_size": 160, "key": jr.key(1)}
    found = df.mutual_information(xs, ys, path=6, **options)
    truth = -0.5 * pairs * np.log(1 - rho**2)
    assert abs(found.value - truth) < 2 * found.error
    assert found.error < 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"path": 0}, "`path` is 0; pass a positive integer"),
        ({"path": 2, "critic": df.networks.Discriminator(2, key=jr.key(0))}, "`critic`"),
    ],
)
def test_what_gives_no_path_is_refused(options, words):
    xs = jr.normal(jr.key(0), (20, 2))
    with pytest.raises(ValueError, match=words):
        df.divergence_between(xs, xs, df.divergences.kl_qp, **options, folds=2, key=jr.key(1))
