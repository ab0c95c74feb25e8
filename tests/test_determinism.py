"""Same key, same numbers: run to run, jit or not, vmapped or not, one device or four.

keys.py has one row for each public function that takes a key. Training runs and flows on one
device, four, and two processes are in test_seeds.py and test_clouds.py; resumed runs beside them.
"""

import inspect

import jax.random as jr
import keys
import numpy as np
import pytest
from layouts import finish, read, start
from test_architecture import DOORS

# One group, so that two workers do not each make all of it.
pytestmark = [pytest.mark.usefixtures("x64"), pytest.mark.xdist_group("keys")]
each = pytest.mark.parametrize("name", keys.MAKES)
# XLA fuses and sums in another order under jit, vmap and on several devices.
ROUND_OFF = 1e-10


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """What a process with four devices made: of one key alone, and of four keys laid over them."""
    file = tmp_path_factory.mktemp("keys") / "four.npz"
    finish(start("keys", file, devices=4))
    return read(file)


@pytest.fixture(scope="module")
def here():
    """What this process makes, each once."""
    return Here()


class Here:
    def __init__(self):
        self.known = {}

    def of(self, kind, name, make):
        if (kind, name) not in self.known:
            self.known[kind, name] = [np.asarray(leaf) for leaf in make()]
        return self.known[kind, name]

    def one(self, name):
        return self.of("one", name, lambda: keys.made(name, keys.keys()[0]))

    def many(self, name):
        """Under jit and vmap, of keys of the old kind."""
        legacy = jr.split(jr.PRNGKey(keys.SEED), keys.COUNT)
        return self.of("many", name, lambda: keys.many(name)(legacy))


def near(found, wanted):
    for one, other in zip(found, wanted, strict=True):
        size = max(1.0, float(np.max(np.abs(other), initial=0.0)))
        np.testing.assert_allclose(one, other, rtol=0, atol=ROUND_OFF * size)


def test_every_public_function_with_a_key_has_a_row():
    takes_key = {
        name
        for name, door in DOORS.items()
        if callable(door) and "key" in inspect.signature(door).parameters
    }
    assert takes_key == set(keys.MAKES)


@each
def test_another_process_makes_the_same_numbers_bit_for_bit(name, here, elsewhere):
    for i, leaf in enumerate(here.one(name)):
        np.testing.assert_array_equal(elsewhere[1][f"one/{name}/{i}"], leaf)


@each
def test_jitted_vmapped_and_with_keys_of_the_old_kind_the_numbers_are_the_same(name, here):
    near([leaf[0] for leaf in here.many(name)], here.one(name))


@each
def test_other_keys_make_other_numbers(name, here):
    lanes = zip(*(leaf for leaf in here.many(name)), strict=True)
    rows = np.array([np.concatenate([np.ravel(leaf) for leaf in lane]) for lane in lanes])
    # A choice among a few bandwidths, or orders of a few samples, may come out twice.
    assert len(np.unique(rows, axis=0)) >= (2 if name in FEW_OUTCOMES else keys.COUNT)


FEW_OUTCOMES = {"ratio_bandwidth", "ulsif_ratio"}


@pytest.mark.parametrize("name", keys.LAID)
def test_four_devices_make_the_numbers_of_one(name, here, elsewhere):
    held, stored = elsewhere
    assert held == [keys.COUNT, keys.COUNT]
    near([stored[f"laid/{name}/{i}"] for i in range(len(here.many(name)))], here.many(name))
