"""Proximal steps of a generator against closed forms of Gaussians whose covariances commute."""

import functools

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from small_networks import affine, critic

import divergence_flows as df

pytestmark = pytest.mark.usefixtures("x64")
FROZEN = optax.sgd(0.0)
TURN = np.array([[0.8, -0.6], [0.6, 0.8]])
# In the common axes: means and deviations of q and of p.
M_Q, S_Q = np.array([1.0, -0.5]), np.array([0.7, 2.0])
M_P, S_P = np.array([-1.0, 2.0]), np.array([1.5, 0.8])


class LogRatio(eqx.Module):
    """log N(m_p, S_p) / N(m_q, S_q), with deviations along the axes of TURN."""

    centre_p: jax.Array
    root_p: jax.Array
    centre_q: jax.Array
    root_q: jax.Array

    def __call__(self, x):
        turned = x @ TURN
        far_p, far_q = (
            (turned - self.centre_p) / self.root_p,
            (turned - self.centre_q) / self.root_q,
        )
        sizes = jnp.sum(jnp.log(self.root_q) - jnp.log(self.root_p))
        return 0.5 * jnp.sum(far_q**2) - 0.5 * jnp.sum(far_p**2) + sizes


def stepped(gan, d, g, tau, *, rate, steps, form="proximal", calls=1):
    """The generator after gan steps of a critic that stands still."""
    optimizer, xs_p = optax.sgd(rate), jnp.zeros((4, 2))
    state = df.GANState.start(d, g, FROZEN, optimizer)
    options = {"latent": 2, "batch_size": 32, "form": form, "generator_steps": steps, "tau": tau}
    step = jax.jit(functools.partial(df.gan_step, gan, FROZEN, optimizer, **options))
    for key in jr.split(jr.key(0), calls):
        state, info = step(state, xs_p, key=key)
    return state.generator, info


class Point(eqx.Module):
    """A generator of one point, whatever the noise."""

    x: jax.Array

    def __call__(self, z):
        return self.x + 0 * z


def on_the_axes(generator):
    """Mean and deviations of an affine generator x = TURN (s z + m)."""
    layer = generator.layers[0]
    made = TURN.T @ np.asarray(layer.weight)
    return TURN.T @ np.asarray(layer.bias), np.diagonal(made), made - np.diag(np.diagonal(made))


def start():
    return affine(TURN * S_Q, TURN @ M_Q)


@pytest.mark.parametrize("tau", [0.1, 0.4])
def test_a_frozen_log_ratio_has_its_proximal_point(tau):
    """x = x_old + tau grad log p/q(x) in each axis, q held where the step began."""
    d = LogRatio(*map(jnp.asarray, (M_P, S_P, M_Q, S_Q)))
    made, info = stepped(df.gans.logit(), d, start(), tau, rate=0.3 * tau, steps=1000)
    slope, pull = 1 / S_P**2 - 1 / S_Q**2, M_P / S_P**2 - M_Q / S_Q**2
    wanted = (M_Q + tau * pull) / (1 + tau * slope), S_Q / (1 + tau * slope)
    *found, rest = on_the_axes(made)
    chex.assert_trees_all_close(tuple(found), wanted, rtol=1e-8)
    np.testing.assert_allclose(rest, 0, atol=1e-8)
    # What is reported is the loss of the GAN before the step.
    _, other = stepped(df.gans.logit(), d, start(), tau, rate=0.0, steps=1, form="loss")
    chex.assert_trees_all_close(info.g_loss, other.g_loss, rtol=1e-12)


@pytest.mark.parametrize("tau", [0.1, 1.0, 10.0])
def test_with_the_ratio_at_its_end_the_step_is_that_of_jordan_kinderlehrer_and_otto(tau):
    """The JKO step of KL(q||p): (1 + tau / s_p^2) s^2 - s_q s - tau = 0 in each axis."""
    grown = 1 + tau / S_P**2
    mean = (M_Q + tau * M_P / S_P**2) / grown
    root = (S_Q + np.sqrt(S_Q**2 + 4 * tau * grown)) / (2 * grown)
    d = LogRatio(*map(jnp.asarray, (M_P, S_P, mean, root)))
    rate = 0.3 / (1 / tau + np.max(1 / S_P**2))
    made, _ = stepped(df.gans.logit(), d, start(), tau, rate=rate, steps=3000)
    *found, rest = on_the_axes(made)
    chex.assert_trees_all_close(tuple(found), (mean, root), rtol=1e-7)
    np.testing.assert_allclose(rest, 0, atol=1e-7)


GANS = {"vanilla": df.gans.vanilla(1.0), "wasserstein": df.gans.wasserstein()}
POINT = np.array([0.3, -0.2])


def moved(gan, tau):
    """Where a generator of one point goes, and the slope of h_T(d) as a function."""
    d = critic(depth=2)
    end, _ = stepped(gan, d, Point(jnp.asarray(POINT)), tau, rate=0.3 * tau, steps=200)
    return end.x, jax.grad(lambda x: gan.h_t(d(x)))


@pytest.mark.parametrize("gan", GANS.values(), ids=GANS)
def test_the_slope_is_that_at_the_end_and_a_small_tau_makes_it_a_distillation(gan):
    gaps = []
    for tau in (0.2, 0.1, 0.05):
        end, slope = moved(gan, tau)
        chex.assert_trees_all_close(end, POINT + tau * slope(end), rtol=1e-9)
        gaps.append(jnp.linalg.norm(end - (POINT + tau * slope(POINT))))
    # The target of distillation with eps = tau, to the order of tau^2.
    gaps = np.array(gaps)
    np.testing.assert_allclose(gaps[:-1] / gaps[1:], 4.0, rtol=0.1)


@pytest.mark.parametrize("gan", GANS.values(), ids=GANS)
def test_a_large_tau_makes_it_the_loss_of_the_gan_step_by_step(gan):
    """A generator of one point needs no fresh noise: five steps of one call or of five."""
    start = Point(jnp.asarray(POINT))
    one, _ = stepped(gan, critic(), start, 1e10, rate=0.1, steps=5)
    other, _ = stepped(gan, critic(), start, 1.0, rate=0.1, steps=1, form="loss", calls=5)
    chex.assert_trees_all_close(one.x, other.x, rtol=1e-9)
    near, _ = stepped(gan, critic(), start, 0.1, rate=0.05, steps=5)
    assert jnp.linalg.norm(near.x - POINT) < 0.9 * jnp.linalg.norm(one.x - POINT)


def test_the_loop_makes_the_same_steps():
    xs_p, optimizer = jr.normal(jr.key(1), (40, 2)) + 2, optax.sgd(0.05)
    game = df.gans.relativistic()
    options = {"latent": 2, "batch_size": 8, "form": "proximal", "tau": 0.3, "generator_steps": 3}
    nets, rates = (critic(), affine(jnp.eye(2), [0, 0])), (optimizer, optimizer)
    run = {"d_optimizer": optimizer, "g_optimizer": optimizer, "key": jr.key(5), "steps": 3}
    state, info = df.train_gan(game, *nets, xs_p, **options, **run)
    again, step = df.GANState.start(*nets, *rates), eqx.filter_jit(df.gan_step)
    losses = []
    for i in range(3):
        key = jr.fold_in(jr.key(5), i)
        again, told = step(game, *rates, again, xs_p, **options, key=key)
        losses.append(told.g_loss)
    chex.assert_trees_all_close(state.generator, again.generator, rtol=1e-10)
    chex.assert_trees_all_close(info.g_losses, jnp.stack(losses), rtol=1e-10)
