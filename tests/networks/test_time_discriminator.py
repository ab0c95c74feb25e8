"""The network d(t, x): smooth, blind to units, and what it is without its parts."""

import functools

import chex
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import divergence_flows as df


@pytest.mark.usefixtures("x64")
def test_the_network_is_smooth_in_time_and_sample():
    net = df.networks.TimeDiscriminator(2, 8, 2, horizon=3.0, key=jr.key(0))
    net = jax.tree.map(lambda leaf: leaf + 0.02, net)
    value, x = jax.jit(lambda t, x: net(t, x)), jr.normal(jr.key(1), (2,))
    chex.assert_numerical_grads(value, (jnp.asarray(0.4), x), order=2, atol=1e-4, rtol=1e-4)


@pytest.mark.usefixtures("x64")
def test_without_hidden_layers_the_network_is_a_quadratic_of_the_sample():
    net = df.networks.TimeDiscriminator(2, depth=0, key=jr.key(0))
    net = jax.tree.map(lambda leaf: leaf + 0.1, net)
    x, way = jr.normal(jr.key(1), (2, 2))
    values = jnp.array([net(0.3, x + k * way) for k in range(4)])
    chex.assert_trees_all_close(jnp.diff(values, 3), jnp.zeros(1), atol=1e-10)
    assert abs(jnp.diff(values, 2)[0]) > 1e-3


@pytest.mark.usefixtures("x64")
def test_without_the_quadratic_it_is_affine_in_the_sample():
    net = df.networks.TimeDiscriminator(2, depth=0, quadratic=False, key=jr.key(0))
    x, way = jr.normal(jr.key(1), (2, 2))
    values = jnp.array([net(0.3, x + k * way) for k in range(3)])
    chex.assert_trees_all_close(jnp.diff(values, 2), jnp.zeros(1), atol=1e-12)
    assert abs(jnp.diff(values)[0]) > 1e-3


def test_like_makes_the_network_blind_to_the_units_of_each_coordinate():
    xs = jr.normal(jr.key(0), (500, 2))
    unit, shift = jnp.array([3.0, 0.1]), jnp.array([5.0, -1.0])
    make = functools.partial(df.networks.TimeDiscriminator, 2, 8, 2, key=jr.key(1))
    one, other = make(like=xs), make(like=unit * xs + shift)
    chex.assert_trees_all_close(one(0.3, xs[0]), other(0.3, unit * xs[0] + shift), rtol=1e-4)


def test_like_keeps_the_unit_of_a_coordinate_that_does_not_vary():
    net = df.networks.TimeDiscriminator(2, like=jnp.array([[1.0, 7.0], [3.0, 7.0]]), key=jr.key(1))
    np.testing.assert_array_equal(net.scale, [1.0, 1.0])
    np.testing.assert_array_equal(net.center, [2.0, 7.0])


def test_far_beyond_the_horizon_the_network_stands_still():
    net = df.networks.TimeDiscriminator(1, 8, 1, horizon=1.0, key=jr.key(3))
    net, x = jax.tree.map(lambda leaf: leaf + 0.1, net), jnp.array([0.7])
    chex.assert_trees_all_close(net(1e4, x), net(1e6, x), rtol=1e-3)
