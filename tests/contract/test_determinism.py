"""Same key, same numbers: in another process, on several devices, and of keys of either kind.

Of each public function that takes a key, test_transforms.py compares jit and vmap with eager calls
and one key with another. Flows on four devices are in test_clouds.py; resumed runs beside each
training loop.
"""

import socket

import chex
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import on_devices
import pytest
from device_process import finish, read, start

import divergence_flows as df

each = pytest.mark.parametrize("name", on_devices.NAMES)


@pytest.fixture(scope="module")
def layouts(tmp_path_factory):
    """What each layout made: one device here, four, and two processes of two devices each."""
    folder = tmp_path_factory.mktemp("layouts")
    files = {name: folder / f"{name}.npz" for name in ("four", "rank0", "rank1")}
    four = start("on_devices", files["four"], devices=on_devices.COUNT)
    with jax.enable_x64(True):
        leaves, held, _ = on_devices.trained()
        many = [on_devices.maker()(key) for key in on_devices.keys()]
    finish(four)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    ranks = [(files[f"rank{rank}"], address, str(rank)) for rank in (0, 1)]
    finish(*[start("on_devices", *rank, devices=2) for rank in ranks])
    here = {f"seeds/{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)}
    for name in on_devices.NAMES:
        leaves = zip(*(made[name] for made in many), strict=True)
        here |= {f"laid/{name}/{i}": np.stack(leaf) for i, leaf in enumerate(leaves)}
    return {"one": (held, here), **{name: read(file) for name, file in files.items()}}


def part(layout, name):
    """Numbers of a layout by the rest of their names."""
    return {key.removeprefix(name): x for key, x in layout[1].items() if key.startswith(name)}


def test_each_device_and_each_process_holds_its_share_of_the_seeds(layouts):
    """Devices of the process, seeds on the first of them, and devices that share four keys."""
    shares = {name: held for name, (held, _) in layouts.items()}
    assert shares == {"one": [1, 8], "four": [4, 2, 4], "rank0": [2, 2], "rank1": [2, 2]}


def test_four_devices_give_the_numbers_of_one(layouts):
    # Not bitwise: XLA sums in an order that depends on how many seeds a device holds.
    one, four = part(layouts["one"], "seeds/"), part(layouts["four"], "seeds/")
    assert one["0"].dtype == np.float64
    chex.assert_trees_all_close(four, one, rtol=1e-11, atol=1e-13)
    assert len(np.unique(one["0"].reshape(on_devices.SEEDS, -1), axis=0)) == on_devices.SEEDS


def test_devices_that_share_seeds_exchange_nothing(layouts):
    assert layouts["four"][1]["sent"] == 0


@pytest.mark.parametrize("rank", [0, 1])
def test_two_processes_give_bit_for_bit_the_numbers_of_one_process(layouts, rank):
    alone, four = (part(layouts[layout], "seeds/") for layout in (f"rank{rank}", "four"))
    chex.assert_trees_all_equal(alone, four)


@each
def test_another_process_makes_of_a_key_the_same_numbers_bit_for_bit(name, layouts):
    here, there = part(layouts["one"], f"laid/{name}/"), part(layouts["four"], f"one/{name}/")
    chex.assert_trees_all_equal(there, {i: x[0] for i, x in here.items()})


@each
def test_four_devices_and_keys_of_the_old_kind_make_the_numbers_of_one(name, layouts):
    here, laid = (part(layouts[layout], f"laid/{name}/") for layout in ("one", "four"))
    # XLA fuses and sums in another order under vmap and on several devices.
    chex.assert_trees_all_close(laid, here, rtol=1e-10, atol=1e-10)


def test_laying_out_changes_no_value_on_any_kind_of_leaf():
    tree = {
        "numpy": np.arange(6.0).reshape(3, 2),
        "jax": jnp.arange(3),
        "typed": jr.split(jr.key(0), 3),
        "legacy": jr.split(jr.PRNGKey(0), 3),
    }
    laid = df.over_devices(tree)
    assert laid["typed"].dtype == tree["typed"].dtype
    plain = lambda tree: {**tree, "typed": jr.key_data(tree["typed"])}
    chex.assert_trees_all_equal(plain(laid), plain(tree))


@pytest.mark.parametrize("leaf", [1.0, jnp.ones(())], ids=["number", "scalar"])
def test_a_leaf_without_an_axis_is_refused(leaf):
    with pytest.raises(ValueError, match=r"leaf of shape \(\)"):
        df.over_devices({"keys": jr.split(jr.key(0), 3), "rate": leaf})


def test_a_number_of_seeds_that_devices_cannot_share_is_refused(monkeypatch):
    monkeypatch.setattr(jax, "devices", lambda: [None] * 4)
    with pytest.raises(ValueError, match="a multiple of 4"):
        df.over_devices(np.ones(6))
