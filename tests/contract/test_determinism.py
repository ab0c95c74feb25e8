"""Same key, same numbers: in another process, on four devices, and of keys of either kind.

Of each public function that takes a key, test_transforms.py compares jit and vmap with eager calls
and one key with another. Training runs and flows on one device, four, and two processes are in
test_seeds.py and test_clouds.py; resumed runs beside each training loop.
"""

import keyed_functions as keyed
import numpy as np
import pytest
from device_process import finish, read, start

pytestmark = pytest.mark.usefixtures("x64")
each = pytest.mark.parametrize("name", keyed.NAMES)


@pytest.fixture(scope="module")
def four_devices(tmp_path_factory):
    """What a process with four devices made: of one key, and of four keys laid over them."""
    file = tmp_path_factory.mktemp("keys") / "four.npz"
    finish(start("keyed_functions", file, devices=keyed.COUNT))
    return read(file)


@each
def test_another_process_makes_the_same_numbers_bit_for_bit(name, four_devices):
    for i, leaf in enumerate(keyed.one(name)(keyed.keys()[0])):
        np.testing.assert_array_equal(four_devices[1][f"one/{name}/{i}"], leaf)


@each
def test_four_devices_and_keys_of_the_old_kind_make_the_numbers_of_one(name, four_devices):
    held, stored = four_devices
    assert held == [keyed.COUNT, keyed.COUNT]
    for k, key in enumerate(keyed.keys()):
        for i, leaf in enumerate(keyed.one(name)(key)):
            # XLA fuses and sums in another order under vmap and on several devices.
            np.testing.assert_allclose(stored[f"laid/{name}/{i}"][k], leaf, rtol=1e-10, atol=1e-10)
            if k == 0:
                np.testing.assert_allclose(stored[f"old/{name}/{i}"], leaf, rtol=1e-10, atol=1e-10)
