"""Particles laid over devices: each device moves its share, and the numbers are those of one."""

import jax
import moved_clouds as clouds
import numpy as np
import pytest
from device_process import finish, read, start


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
