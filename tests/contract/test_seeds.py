"""Seeds laid over devices and processes: each holds its share, and the numbers are the same."""

import socket

import chex
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from device_process import finish, read, start

import divergence_flows as df

SEEDS = 8


@pytest.fixture(scope="module")
def layouts(tmp_path_factory):
    """What each layout computed: one device, four, and two processes of two devices each."""
    folder = tmp_path_factory.mktemp("seeds")
    files = {name: folder / f"{name}.npz" for name in ("one", "four", "rank0", "rank1")}
    finish(*[start("gan_seeds", files[name], devices=n) for name, n in (("one", 1), ("four", 4))])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    ranks = [(files[f"rank{rank}"], address, str(rank)) for rank in (0, 1)]
    finish(*[start("gan_seeds", *each, devices=2) for each in ranks])
    return {name: read(file) for name, file in files.items()}


def test_each_device_and_each_process_holds_its_share_of_the_seeds(layouts):
    """Devices of the process, and seeds on the first of them."""
    shares = {name: held for name, (held, _) in layouts.items()}
    assert shares == {"one": [1, 8], "four": [4, 2], "rank0": [2, 2], "rank1": [2, 2]}


def test_four_devices_give_the_numbers_of_one(layouts):
    # Not bitwise: XLA sums in an order that depends on how many seeds a device holds.
    one, four = layouts["one"][1], layouts["four"][1]
    assert one["out0"].dtype == np.float64
    chex.assert_trees_all_close(four, one, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("rank", [0, 1])
def test_two_processes_give_bit_for_bit_the_numbers_of_one_process(layouts, rank):
    chex.assert_trees_all_equal(layouts[f"rank{rank}"][1], layouts["four"][1])


def test_seeds_differ(layouts):
    weights = layouts["one"][1]["out0"].reshape(SEEDS, -1)
    assert len(np.unique(weights, axis=0)) == SEEDS


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


def test_a_trace_is_refused():
    with pytest.raises(ValueError, match="inside `jit` or `vmap`"):
        jax.jit(df.over_devices)(jr.split(jr.key(0), 3))
