"""Pure training steps: what a discriminator learns, and how particles follow it."""

import functools

import chex
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from scipy.stats import norm

import divergence_flows as df

# Midpoint quantiles of N(0, 1): deterministic samples.
Z = jnp.asarray(norm.ppf((np.arange(4000) + 0.5) / 4000)[:, None], jnp.float32)
GAN = df.gans.logit()


def train(critic, xs_q, xs_p, steps, rate, *, gan=GAN, batch_size=None):
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, steps))
    state = df.RatioState.start(critic, optimizer)
    step = functools.partial(df.ratio_step, gan, optimizer, batch_size=batch_size)
    body = lambda state, key: step(state, (xs_q, xs_p), key=key)
    keys = jr.split(jr.key(7), steps)
    return jax.jit(lambda state: jax.lax.scan(body, state, keys))(state)


def test_a_linear_critic_finds_a_log_ratio_that_passes_on_samples_it_has_not_seen():
    critic = df.networks.Discriminator(1, depth=0, key=jr.key(0))
    state, info = train(critic, Z + 1, Z, 600, 0.1)
    fresh = jr.normal(jr.key(5), (2, 20_000, 1))
    log_r = df.learned_log_ratio(GAN, state.discriminator)
    check = df.ratio_check(log_r, fresh[0] + 1, fresh[1])
    # Var_q[r] = e - 1: three standard errors are .028.
    chex.assert_trees_all_close(check.mean_r, 1.0, atol=0.03)
    chex.assert_trees_all_close(check.mean_inverse_r, 1.0, atol=0.03)
    layer = state.discriminator.layers[0]
    # Adam's last digits and the quantiles' tails allow 2e-3.
    chex.assert_trees_all_close(layer.weight[0], jnp.array([-1.0]), atol=2e-3)
    chex.assert_trees_all_close(layer.bias[0], 0.5, atol=2e-3)
    chex.assert_trees_all_close(info.loss[-1], 1.163451, atol=1e-4)


def test_the_learned_velocity_is_near_the_exact_one(capsys):
    centre, spread = jnp.array([1.0, -0.5]), jnp.array([1.2, 0.8])
    xs_q = centre + jr.normal(jr.key(1), (50_000, 2))
    xs_p = spread * jr.normal(jr.key(2), (50_000, 2))
    critic = df.networks.Discriminator(2, 32, 2, key=jr.key(0))
    state, _ = train(critic, xs_q, xs_p, 1000, 5e-3, batch_size=1024)
    fresh = centre + jr.normal(jr.key(3), (2000, 2))
    exact = (fresh - centre) - fresh / spread**2
    field = df.velocity(GAN.h_t, df.learned_log_ratio(GAN, state.discriminator))
    error = jnp.linalg.norm(field(0.0, fresh, None) - exact) / jnp.linalg.norm(exact)
    with capsys.disabled():
        print(f"\nlearned velocity, relative L2 error: {error:.3f}")
    # Measured .106: a small network, a thousand steps, errors where samples are few.
    assert error < 0.15


def test_a_particle_step_is_euler_along_the_velocity():
    critic = df.networks.Discriminator(2, 16, 2, key=jr.key(0))
    xs = jr.normal(jr.key(1), (9, 2))
    for gan in (df.gans.vanilla(), df.gans.arcsinh()):
        moved, info = df.particle_step(gan, critic, xs, 0.1)
        vs = df.velocity(gan.h, df.learned_log_ratio(gan, critic))(0.0, xs, None)
        chex.assert_trees_all_close(moved, xs + 0.1 * vs, rtol=1e-5, atol=1e-6)
        speed = np.sqrt(np.mean([v @ v for v in np.asarray(vs)]))
        chex.assert_trees_all_close(info.speed, speed, rtol=1e-4)


def test_a_particle_does_not_feel_how_many_others_there_are():
    critic = df.networks.Discriminator(2, 16, 2, key=jr.key(0))
    xs = jr.normal(jr.key(1), (9, 2))
    all_moved, _ = df.particle_step(GAN, critic, xs, 0.1)
    one_moved, _ = df.particle_step(GAN, critic, xs[:1], 0.1)
    # Another batch size is another order of summation on a GPU: 4.4e-6 was seen on an H100.
    chex.assert_trees_all_close(all_moved[:1], one_moved, rtol=1e-5)


def test_a_training_state_holds_arrays_only():
    critic, adam = df.networks.Discriminator(2, key=jr.key(0)), optax.adam(1e-3)
    maker = df.networks.Generator(2, 2, key=jr.key(0))
    timed = df.networks.TimeDiscriminator(1, key=jr.key(0))
    states = (
        df.RatioState.start(critic, adam),
        df.GANState.start(critic, maker, adam, adam),
        df.FlowRatioState.start(timed, adam, xs_q=Z, ts=[0.0, 1.0]),
    )
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(states))


def test_a_minibatch_gradient_is_unbiased():
    critic = df.networks.Discriminator(1, depth=0, key=jr.key(0))
    xs_q, xs_p = Z[::400] + 1, Z[::400]
    optimizer = optax.sgd(1.0)
    state = df.RatioState.start(critic, optimizer)
    step = functools.partial(df.ratio_step, GAN, optimizer, state, (xs_q, xs_p))
    small = lambda key: step(batch_size=2, key=key)[0].discriminator
    many = jax.vmap(small)(jr.split(jr.key(1), 20_000))
    mean = jax.tree.map(lambda leaf: jnp.mean(leaf, 0), many)
    # 20,000 draws leave a standard error of a few thousandths.
    chex.assert_trees_all_close(mean, step()[0].discriminator, atol=2e-2)


def test_a_gaussian_arrives_at_another():
    q = 0.5 * jr.normal(jr.key(0), (256, 2))
    p, held, other = jr.normal(jr.key(1), (3, 256, 2)) * 0.8 + jnp.array([2.0, -1.0])
    net = df.networks.Discriminator(2, 32, 2, key=jr.key(2))
    moved, info = df.transport(
        df.gans.logit(), net, q, p, steps=600, step_size=0.02, critic_steps=3, key=jr.key(3)
    )
    # Held-out distance: a quarter above that of two independent samples is allowed, from 9 times.
    assert df.wasserstein2(moved, held) < 1.25 * df.wasserstein2(other, held)
    assert df.wasserstein2(q, held) > 5 * df.wasserstein2(other, held)
    chex.assert_trees_all_close(info.losses[-100:].mean(), 2 * np.log(2), atol=0.05)
