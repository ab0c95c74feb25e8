"""Rules that stop a run: where its numbers break, throw samples far, or nothing moves any more."""

import pickle

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from small_runs import XS_P, From, same, sgd, train_gan, transport

import divergence_flows as df


def stops(run, **options):
    with pytest.raises(df.RunDiverged) as caught:
        run(**options)
    return caught.value


def test_the_error_comes_whole_from_another_process():
    stop = stops(straight, weight=[0.0, 0.0], rate=0.0, eps=0.1)
    again = pickle.loads(pickle.dumps(stop))
    assert str(again) == str(stop)
    assert (again.step, again.quantity, again.done) == (stop.step, stop.quantity, stop.done)
    same(again.state, stop.state)


# Lost runs whose numbers are all finite.


class Linear(eqx.Module):
    """A linear critic; it holds an infinite number by design, as a mask does."""

    weight: jax.Array
    mask: jax.Array

    def __call__(self, x):
        return self.weight @ x + jnp.exp(jax.lax.stop_gradient(self.mask))


def straight(weight, rate, eps, xs_q=XS_P - 5, steps=100):
    """A linear critic of log ratios: all particles move by its weight."""
    options = {"steps": steps, "chunk": 100, "critic_steps": 1, "key": jr.key(0)}
    options |= {"step_size": From(eps), "optimizer": sgd(rate)}
    d = Linear(jnp.array(weight), jnp.array(-jnp.inf))
    return df.transport(df.gans.logit(), d, xs_q, XS_P, **options)


# The farthest of all samples from the mean of p.
REACH = float(np.linalg.norm(np.concatenate([XS_P, XS_P - 5]) - XS_P.mean(axis=0), axis=1).max())


def test_an_euler_step_of_a_thousand_times_the_extent_is_the_last_one():
    # The speed is |(3, 4)| = 5 at each step.
    straight([3.0, 4.0], 0.0, 0.999e3 * REACH / 5)
    stop = stops(straight, weight=[3.0, 4.0], rate=0.0, eps=1.001e3 * REACH / 5)
    assert (stop.step, stop.quantity) == (0, "speeds")
    assert "`speeds` throw the particles far from all data (5)" in str(stop)


def test_particles_that_stand_still_away_from_p_are_stopped():
    stop = stops(straight, weight=[0.0, 0.0], rate=0.0, eps=0.1)
    assert (stop.step, stop.quantity, stop.done) == (0, "speeds", 0)
    assert "exactly 0 from there on, the particles stand still" in str(stop)
    assert "The discriminator has collapsed" in str(stop)


def test_a_critic_that_starts_at_zero_and_a_q_that_is_p_are_no_collapse():
    _, info = straight([0.0, 0.0], 0.01, 0.1)
    assert info.speeds.min() > 0
    # Nor is an infinite number that stays as it was.
    assert info.discriminator.mask == -jnp.inf
    # Where q is p, a zero critic is right: no particle moves, and none should. It is held, since
    # on some machines it would learn the rounding of two equal sums.
    moved, info = straight([0.0, 0.0], 0.0, 0.1, xs_q=XS_P)
    same(moved, XS_P)
    assert info.speeds.max() == 0


class Point(eqx.Module):
    """A generator that makes one point of all noise."""

    place: jax.Array

    def __call__(self, z):
        return self.place + 0 * z


def pushed(weight, rate, place=(0.0, 0.0), steps=1):
    """A linear critic that stays as it is moves a point by `rate` times its weight each step."""
    d, g = Linear(jnp.array(weight), jnp.array(-jnp.inf)), Point(jnp.array(place))
    options = {"steps": steps, "chunk": steps, "latent": 2, "key": jr.key(0)}
    rates = {"d_optimizer": sgd(0.0), "g_optimizer": sgd(rate)}
    return df.train_gan(df.gans.logit(), d, g, XS_P, **rates, **options)


def test_a_generator_a_thousand_times_as_far_out_as_the_data_is_stopped():
    middle = np.asarray(XS_P.mean(axis=0), float)
    reach = max(np.linalg.norm(XS_P - middle, axis=1).max(), np.linalg.norm(middle))
    # |rate (3, 4) - middle| is 5 rate less what the middle has of that direction.
    rate = lambda far: (far * reach + middle @ [0.6, 0.8]) / 5
    state, _ = pushed([3.0, 4.0], rate(0.999e3))
    np.testing.assert_allclose(
        np.linalg.norm(state.generator.place - middle) / reach, 999, rtol=1e-4
    )
    stop = stops(pushed, weight=[3.0, 4.0], rate=rate(1.001e3))
    assert (stop.step, stop.quantity, stop.done) == (0, "samples", 0)
    assert "`samples` lie 1000 times as far out as the data reach" in str(stop)
    assert "lower its learning rate" in str(stop)
    same(stop.state.generator.place, jnp.zeros(2))


def test_a_generator_that_a_flat_critic_leaves_alone_is_stopped():
    stop = stops(pushed, weight=[0.0, 0.0], rate=0.1, steps=100)
    assert (stop.step, stop.quantity, stop.done) == (99, "motion", 0)
    assert "The discriminator has collapsed" in str(stop)


def test_a_generator_that_is_held_or_stands_at_p_is_no_collapse():
    held, _ = pushed([3.0, 4.0], 0.0, steps=100)
    same(held.generator.place, jnp.zeros(2))
    at_p, _ = pushed([0.0, 0.0], 0.1, place=XS_P.mean(axis=0), steps=100)
    same(at_p.generator.place, XS_P.mean(axis=0))
    pushed([0.0, 0.0], 0.1, steps=99)  # too short to tell


def test_a_gan_thrown_far_inside_vmap_leaves_the_seed_beside_it_alone():
    _, info = jax.jit(jax.vmap(lambda rate: pushed([3.0, 4.0], rate)))(jnp.array([1.0, 1e5]))
    assert info.diverged.tolist() == [-1, 0]


# Inside a trace nothing is raised.


def test_seeds_beside_a_diverged_one_are_what_they_are_without_it():
    def one(after, key):
        return transport(step_size=From(0.1, 12, after), steps=20, key=key)

    run, keys = jax.jit(jax.vmap(one)), jr.split(jr.key(6), 3)
    _, well = run(jnp.array([0.1, 0.1, 0.1]), keys)
    moved, info = run(jnp.array([0.1, 1e6, 0.1]), keys)
    assert info.diverged.tolist() == [-1, 12, -1]
    for seed in (0, 2):
        row = lambda tree, seed=seed: jax.tree.map(lambda leaf: leaf[seed], tree)
        same(row((moved, info)), row((well.path[:, -1], well)))
    # The bad one has what it had after 10 steps, and NaN in its metrics from step 12 on.
    same(moved[1], well.path[1, 1])
    same(info.path[1], well.path[1, jnp.array([0, 1, 1])])
    for bad, good in ((info.losses, well.losses), (info.speeds, well.speeds)):
        same(bad[1, :12], good[1, :12])
        assert np.isnan(bad[1, 12:]).all()


def test_a_gan_that_diverges_inside_jit_keeps_its_last_good_state():
    run = lambda rate: train_gan(g_optimizer=sgd(0.01, 15, rate), steps=20)
    at_10 = []
    train_gan(on_chunk=lambda state, metrics: at_10.append(state))
    state, info = jax.jit(run)(jnp.inf)
    assert int(info.diverged) == 16
    assert int(state.step) == 10
    chex.assert_trees_all_close(state, at_10[0], rtol=1e-5, atol=1e-6)
