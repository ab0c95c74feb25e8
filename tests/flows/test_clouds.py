"""Particles laid over devices: each device moves its share, and the numbers are those of one."""

import moved_clouds as clouds
import numpy as np
import pytest
from device_process import finish, read, start


@pytest.fixture(scope="module")
def layouts(tmp_path_factory):
    """What one device computed, and four."""
    folder = tmp_path_factory.mktemp("clouds")
    files = {count: folder / f"{count}.npz" for count in (1, 4)}
    finish(*[start("moved_clouds", file, devices=count) for count, file in files.items()])
    return {count: read(file) for count, file in files.items()}


def test_each_device_holds_its_share_of_the_particles_to_the_end(layouts):
    whole = [clouds.COUNT] * len(clouds.FLOWS)
    assert layouts[1][0] == [1, *whole]
    assert layouts[4][0] == [4, *(count // 4 for count in whole)]


@pytest.mark.parametrize("name", clouds.FLOWS)
def test_four_devices_move_particles_as_one_does(layouts, name):
    one, four = layouts[1][1][name], layouts[4][1][name]
    assert one.dtype == np.float64
    assert np.max(np.abs(one - one.mean(axis=0))) > 0.1
    np.testing.assert_allclose(four, one, rtol=1e-9, atol=1e-9)
