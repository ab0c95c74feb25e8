"""Particles laid over devices: each device moves its share, and the numbers are those of one."""

import equinox as eqx
import jax
import jax.random as jr
import moved_clouds as clouds
import numpy as np
import pytest
from device_process import finish, read, start

import divergence_flows as df


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    """What four devices held, and computed."""
    file = tmp_path_factory.mktemp("clouds") / "four.npz"
    finish(start("moved_clouds", file, devices=4))
    return read(file)


def test_each_device_holds_its_share_of_the_particles_to_the_end(four):
    assert four[0] == [4, *[clouds.COUNT // 4] * len(clouds.FLOWS)]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", clouds.FLOWS)
def test_four_devices_move_particles_as_one_does(four, name):
    one = np.asarray(jax.jit(clouds.FLOWS[name])(*clouds.samples()))
    assert one.dtype == np.float64
    assert np.max(np.abs(one - one.mean(axis=0))) > 0.1
    np.testing.assert_allclose(four[1][name], one, rtol=1e-9, atol=1e-9)


def test_a_learned_ratio_sends_gradients_between_devices_and_no_particles(four):
    network = df.networks.Discriminator(2, 16, 2, key=jr.key(2))
    count = sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(network, eqx.is_array)))
    # The gradient and the loss, of q and of p if XLA does not add them first; and the mean speed.
    assert set(four[1]["names"]) == {"all-reduce"}
    *small, gradient = sorted(four[1]["counts"])
    assert small == [1]
    assert gradient in (count + 1, 2 * (count + 1))
