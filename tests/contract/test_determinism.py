"""Same key, same numbers: run to run, jit or not, vmapped or not, one device or four.

keyed_functions.py has one row for each public function that takes a key. Training runs and flows
on one device, four, and two processes are in test_seeds.py and test_clouds.py; what jit changes,
with a key or without, in test_transforms.py; resumed runs beside each training loop.
"""

import functools
import inspect

import keyed_functions as keys
import numpy as np
import pytest
from device_process import finish, read, start
from test_architecture import PUBLIC

pytestmark = pytest.mark.usefixtures("x64")
each = pytest.mark.parametrize("name", keys.MAKES)
# XLA fuses and sums in another order under vmap and on several devices.
ROUND_OFF = 1e-10


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """What a process with four devices made: of one key alone, and of four keys laid over them."""
    file = tmp_path_factory.mktemp("keys") / "four.npz"
    finish(start("keyed_functions", file, devices=4))
    return read(file)


@functools.cache
def one(name):
    """What this process makes of the first key, of the old kind."""
    return [np.asarray(leaf) for leaf in keys.one(name)(keys.legacy()[0])]


@functools.cache
def many(name):
    """What it makes of four keys, of the new kind, under vmap."""
    return [np.asarray(leaf) for leaf in keys.many(name)(keys.keys())]


def near(found, wanted):
    for one, other in zip(found, wanted, strict=True):
        size = max(1.0, float(np.max(np.abs(other), initial=0.0)))
        np.testing.assert_allclose(one, other, rtol=0, atol=ROUND_OFF * size)


def test_every_public_function_with_a_key_has_a_row():
    takes_key = {
        name
        for name, door in PUBLIC.items()
        if callable(door) and "key" in inspect.signature(door).parameters
    }
    assert takes_key == set(keys.MAKES)


@each
def test_another_process_makes_the_same_numbers_bit_for_bit(name, elsewhere):
    for i, leaf in enumerate(one(name)):
        np.testing.assert_array_equal(elsewhere[1][f"one/{name}/{i}"], leaf)


@each
def test_vmapped_or_alone_and_with_keys_of_either_kind_the_numbers_are_the_same(name):
    near([leaf[0] for leaf in many(name)], one(name))


# `ratio_bandwidth` chooses one of a few widths: other keys may well choose the same.
@pytest.mark.parametrize("name", [name for name in keys.MAKES if name != "ratio_bandwidth"])
def test_other_keys_make_other_numbers(name):
    lanes = [np.concatenate([np.ravel(leaf[i]) for leaf in many(name)]) for i in range(keys.COUNT)]
    # Two orders of a few samples may put the same ones first.
    assert len(np.unique(lanes, axis=0)) >= (2 if name == "ulsif_ratio" else keys.COUNT)


@pytest.mark.parametrize("name", keys.LAID)
def test_four_devices_make_the_numbers_of_one(name, elsewhere):
    held, stored = elsewhere
    assert held == [keys.COUNT, keys.COUNT]
    near([stored[f"laid/{name}/{i}"] for i in range(len(many(name)))], many(name))
