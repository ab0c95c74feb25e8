"""Losses against closed forms: q = N(1, 1), p = N(0, 1), log r = 1/2 - x."""

import chex
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.stats import norm

import divergence_flows as df

pytestmark = pytest.mark.usefixtures("x64")

# Midpoint quantiles: deterministic samples, expectations right to about 1e-4.
QUANTILES = norm.ppf((np.arange(200_000) + 0.5) / 200_000)
JS = 0.11142148218
DIVERGENCES = {
    "kl_qp": 0.5,
    "kl_pq": 0.5,
    "jensen_shannon": JS,
    "squared_hellinger": 2 - 2 * np.exp(-1 / 8),
    "jeffreys": 1.0,
}
# d(x) at the optimum from u, and dKL(q||p)/dt of theory.md, section 8.
RATES = {
    "logit": (df.gans.logit(), lambda u: u, -1.0),
    "vanilla": (df.gans.vanilla(), lambda u: u, -0.397972867),
    "non_saturating": (df.gans.non_saturating(), lambda u: u, -0.602027133),
    "mle": (df.gans.mle(), lambda u: u, -1.0),
    "arcsinh": (df.gans.arcsinh(), lambda u: u, -0.762395451),
    "least_squares": (df.gans.least_squares(), jax.nn.sigmoid, -0.228874807),
}


def log_r(x):
    return 0.5 - x


def samples():
    z = jnp.asarray(QUANTILES)
    return z + 1, z


def test_the_optimal_logistic_loss_is_2_log_2_minus_2_js():
    xs_q, xs_p = samples()
    loss = df.discriminator_loss(df.gans.logit(), log_r(xs_p), log_r(xs_q))
    chex.assert_trees_all_close(loss, 2 * np.log(2) - 2 * JS, atol=1e-6)
    chex.assert_trees_all_close(loss, 1.163451396, atol=1e-6)


@pytest.mark.parametrize(("name", "value"), DIVERGENCES.items(), ids=DIVERGENCES)
def test_the_optimal_f_gan_loss_is_minus_its_divergence(name, value):
    gan = df.gans.f_gan(getattr(df.divergences, name))
    xs_q, xs_p = samples()
    loss = df.discriminator_loss(gan, log_r(xs_p), log_r(xs_q))
    chex.assert_trees_all_close(-loss, value, rtol=1e-3)


@pytest.mark.parametrize("eps", [-0.1, 0.1])
def test_the_true_log_ratio_minimises_the_discriminator_loss(eps):
    xs_q, xs_p = samples()
    gan = df.gans.logit()
    best = df.discriminator_loss(gan, log_r(xs_p), log_r(xs_q))
    for bump in (jnp.ones_like, jnp.sin, lambda x: x):
        other = [log_r(x) + eps * bump(x) for x in (xs_p, xs_q)]
        assert df.discriminator_loss(gan, *other) > best


@pytest.mark.parametrize(("gan", "link", "rate"), RATES.values(), ids=RATES)
def test_the_generator_loss_falls_at_the_flows_rate(gan, link, rate):
    xs_q, _ = samples()
    # Along grad log r = -1 the derivative of -E_q[h_T(d)] is -E_q[h'(u)] = dKL/dt.
    moved = lambda eps: df.generator_loss(gan, link(log_r(xs_q - eps)))
    chex.assert_trees_all_close(jax.grad(moved)(0.0), rate, rtol=1e-4)


def test_distillation_is_the_generator_step_seed_for_seed():
    eps, gans = 0.3, {name: gan for name, (gan, _, _) in RATES.items() if name != "least_squares"}

    @jax.jit
    @jax.vmap
    def slopes(key):
        key_g, key_d, key_z = jr.split(key, 3)
        generator = df.networks.Generator(3, 2, 16, 2, key=key_g)
        critic = df.networks.Discriminator(2, 16, 2, key=key_d)
        zs = jr.normal(key_z, (7, 3))
        made = lambda generator: jax.vmap(generator)(zs)

        def distilled(generator, gan):
            xs = made(generator)
            vs = df.velocity(gan.h_t, lambda t, x, args: critic(x))(0.0, xs, None)
            return df.distillation_loss(xs, vs, eps)

        def direct(generator, gan):
            return eps * df.generator_loss(gan, jax.vmap(critic)(made(generator)))

        one, other = (
            {name: jax.grad(loss)(generator, gan) for name, gan in gans.items()}
            for loss in (distilled, direct)
        )
        return one, other

    one, other = slopes(jr.split(jr.key(0), 4))
    chex.assert_trees_all_close(one, other, rtol=1e-10, atol=1e-14)


def test_distillation_sums_over_the_event_and_averages_over_the_batch():
    vs = jr.normal(jr.key(0), (5, 2, 3))
    loss = df.distillation_loss(jnp.zeros((5, 2, 3)), vs, 0.5)
    chex.assert_trees_all_close(loss, 0.125 * np.mean([np.sum(v**2) for v in vs]), rtol=1e-12)


@pytest.mark.parametrize("name", ["jensen_shannon", "pearson", "kl_pq", "kl_qp"])
def test_a_divergence_as_generator_loss_is_refused_with_the_reason(name):
    with pytest.raises(ValueError, match=r"h_eff' = -r f'\(r\)"):
        df.generator_loss(getattr(df.divergences, name), jnp.ones(3))


@pytest.mark.parametrize("loss", [df.generator_loss, df.discriminator_loss])
def test_what_is_no_gan_is_refused(loss):
    values = (jnp.ones(3),) * (1 if loss is df.generator_loss else 2)
    with pytest.raises(ValueError, match="pass a GAN"):
        loss(jnp.log, *values)
