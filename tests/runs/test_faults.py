"""Faults: kills, Ctrl-C, full disks and broken files leave a whole checkpoint or none."""

import errno
import io
import json
import os
import pathlib
import pickle
import resource
import zlib

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.tree_util import Partial
from small_runs import Stopped, leftovers, same, steps_in

import divergence_flows as df
from divergence_flows.runs import _checkpoint, _loop

# A run of no cost, with arrays that files find hard: a typed key, bfloat16, no numbers at all.


class Tally(eqx.Module):
    total: jax.Array
    rough: jax.Array
    none: jax.Array
    key: jax.Array
    step: jax.Array


def tick(state):
    key, used = jr.split(state.key)
    total = state.total + jr.normal(used, (5,))
    rough = total[:3].astype(jnp.bfloat16)
    return Tally(total, rough, state.none, key, state.step + 1), {"losses": jnp.sum(total)}


def tally(path=None, on_chunk=None, meter=None, start=0.0, step=tick):
    meter = df.flows._integrate.NoProgressMeter() if meter is None else meter
    rough, none = jnp.zeros(3, jnp.bfloat16), jnp.zeros((2, 0))
    state = Tally(jnp.full(5, start), rough, none, jr.key(1), jnp.asarray(0))
    loop = _loop.Loop("tally", 6, 2, meter, path, None, on_chunk)
    state, info = _loop.run_chunks(loop, Partial(step), state, ())
    return (state.total, state.rough, jr.key_data(state.key), state.step), info


def at_4(state, metrics):
    if state.step == 4:
        raise Stopped


@pytest.fixture
def half(tmp_path):
    """A checkpoint after 4 of 6 steps."""
    file = tmp_path / "run"
    with pytest.raises(Stopped):
        tally(file, on_chunk=at_4)
    return file


def refused(file, words):
    """The call is refused with these words, and nothing there is touched."""
    folder = sorted(path.name for path in file.parent.iterdir())
    before = file.read_bytes() if file.is_file() else None
    with pytest.raises(ValueError, match="pass another `checkpoint`, or move that file") as caught:
        tally(file)
    info = str(caught.value)
    assert info.startswith(f"tally: checkpoint {file} ")
    assert words in info
    assert sorted(path.name for path in file.parent.iterdir()) == folder
    assert before is None or file.read_bytes() == before


def test_what_files_find_hard_comes_back_bit_for_bit(half):
    assert steps_in(half) == 4
    same(tally(half), tally())


BROKEN = "is no checkpoint, or was cut short or damaged"


def test_a_file_cut_short_anywhere_is_refused(half):
    content = half.read_bytes()
    for size in range(0, len(content), 13):
        half.write_bytes(content[:size])
        refused(half, BROKEN)
    half.write_bytes(content + b"\n")
    refused(half, BROKEN)


def test_a_single_wrong_bit_anywhere_is_refused(half):
    content, rng = half.read_bytes(), np.random.default_rng(0)
    for place in range(0, len(content), 17):
        wrong = bytearray(content)
        wrong[place] ^= 1 << rng.integers(8)
        half.write_bytes(wrong)
        refused(half, "")
    half.write_bytes(content)
    same(tally(half), tally())


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return pathlib.Path.touch, (self.file,)


def parts_of(file):
    """The first line of a checkpoint, and its arrays."""
    content = io.BytesIO(file.read_bytes()[:-4])
    head, arrays = json.loads(content.readline()), []
    while content.tell() < len(content.getbuffer()):
        arrays.append(np.load(content))
    return head, arrays


def forge(file, head, arrays):
    """Writes a checkpoint by hand, with a checksum that fits, as an attacker could."""
    content = io.BytesIO()
    content.write(json.dumps(head).encode() + b"\n")
    for array in arrays:
        np.save(content, array, allow_pickle=True)
    content.write(zlib.crc32(content.getvalue()).to_bytes(4, "big"))
    file.write_bytes(content.getvalue())


def test_loading_executes_no_code(half):
    loot = half.with_name("loot")
    head, arrays = parts_of(half)
    forge(half, head, [*arrays[:-1], np.array([Bomb(loot)], object)])
    refused(half, "holds another state")
    half.write_bytes(pickle.dumps(Bomb(loot)))
    refused(half, BROKEN)
    assert not loot.exists()
    pickle.loads(half.read_bytes())  # the bomb is a real one
    assert loot.exists()


@pytest.mark.parametrize("content", [b"", b"no checkpoint", pickle.dumps([1.0])])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, content):
    file = tmp_path / "run"
    file.write_bytes(content)
    refused(file, BROKEN)
    for line in (content, b"[1]\n"):
        file.write_bytes(line + zlib.crc32(line).to_bytes(4, "big"))
        refused(file, "is no checkpoint")


def test_a_folder_is_refused(tmp_path):
    refused(tmp_path, "cannot be read: Is a directory")


def test_a_file_that_may_not_be_read_is_refused(half, monkeypatch):
    def closed(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    content = half.read_bytes()
    with monkeypatch.context() as patch:  # root may read any file
        patch.setattr(pathlib.Path, "read_bytes", closed)
        with pytest.raises(ValueError, match="cannot be read: Permission denied; pass another"):
            tally(half)
    assert half.read_bytes() == content


STATES = {
    "missing": lambda arrays: arrays[:-1],
    "extra": lambda arrays: [*arrays, np.zeros(2)],
    "shape": lambda arrays: [np.zeros(1, np.float32), *arrays[1:]],
    "scalar": lambda arrays: [np.zeros((), np.float32), *arrays[1:]],
    "dtype": lambda arrays: [np.zeros(5), *arrays[1:]],
    "metrics": lambda arrays: [*arrays[:-1], np.zeros((2, 2), np.float32)],
}


@pytest.mark.parametrize("change", STATES.values(), ids=STATES)
def test_a_state_that_is_not_in_all_parts_this_runs_is_refused_never_broadcast(half, change):
    head, arrays = parts_of(half)
    forge(half, head, arrays)
    same(tally(half, on_chunk=None), tally())
    forge(half, head, change(arrays))
    refused(half, "holds another state than this run's")


def scaled(numbers):
    @jax.jit
    def inside(x):
        return x * numbers.sum()  # a constant of a program inside the program

    def step(state):
        state, info = tick(state)
        return state, {"losses": inside(info["losses"])}

    return step


def test_a_number_that_a_function_closes_over_is_in_the_fingerprint(tmp_path):
    file = tmp_path / "run"
    step = lambda number: scaled(np.full(300, number))
    whole = tally(file, step=step(1.0))
    same(tally(file, step=step(1.0)), whole)
    with pytest.raises(ValueError, match=r"tally: checkpoint .* was written with"):
        tally(file, step=step(2.0))


# Writing.


def test_a_full_disk_loses_no_checkpoint_and_the_run_goes_on_once_there_is_room(tmp_path):
    # A limit on the size of files stands for a full disk: it too stops a write half-way.
    file, limits = tmp_path / "run", resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.raises(Stopped):
        tally(file, on_chunk=at_4)
    before = file.read_bytes()
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        with pytest.raises(OSError) as caught:
            tally(file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.errno == errno.EFBIG
    words = f"tally: checkpoint {file} could not be written after step 6: File too large. {file} "
    words += "holds step 4; the same call goes on from there, so make room first."
    assert words in str(caught.value)
    assert file.read_bytes() == before
    assert leftovers(file) == []
    same(tally(file), tally())


def test_a_place_that_cannot_be_written_to_is_refused_before_anything_is_computed(tmp_path):
    blocked, seen = tmp_path / "file", []
    blocked.write_text("no folder")
    with pytest.raises(OSError, match=r"tally: nothing can be written to checkpoint .*run"):
        tally(blocked / "run", on_chunk=lambda *now: seen.append(now))
    assert seen == []


def test_a_finished_run_is_read_from_where_nothing_can_be_written(half, monkeypatch):
    whole = tally(half)
    monkeypatch.setattr(_checkpoint.Checkpoint, "prepare", None)
    same(tally(half), whole)


def test_old_temporaries_of_killed_writers_are_cleared_and_nothing_else(tmp_path):
    file = tmp_path / "run"
    old = tmp_path / "run.0123456789abcdef.tmp"
    kept = [tmp_path / name for name in ("run.1123456789abcdef.tmp", "run.mine.tmp", "other.tmp")]
    for path in (old, *kept):
        path.write_bytes(b"half a file")
    for path in (old, *kept[1:]):
        os.utime(path, (0, 0))
    same(tally(file), tally())
    assert set(tmp_path.iterdir()) == {file, *kept}


def test_writers_at_the_same_time_leave_a_whole_file_of_one_of_them(tmp_path):
    # Each save of the one falls into the middle of one of the other.
    file, synced = tmp_path / "run", os.fsync

    def meanwhile(handle):
        os.fsync = synced
        try:
            tally(file)
        finally:
            os.fsync = meanwhile
        synced(handle)

    os.fsync = meanwhile
    try:
        found = tally(file)
    finally:
        os.fsync = synced
    same(found, tally())
    same(tally(file), tally())
    assert list(tmp_path.iterdir()) == [file]


def test_a_link_stays_one_and_its_target_is_replaced(tmp_path):
    place, link = tmp_path / "elsewhere", tmp_path / "run"
    link.symlink_to(place)
    whole = tally(link)
    assert link.is_symlink() and steps_in(place) == 6
    same(tally(link), whole)


# Ctrl-C, in this process.


def interrupt(*now):
    raise KeyboardInterrupt


class Meter(df.flows._integrate.AbstractProgressMeter):
    closed: list

    def init(self):
        return None

    def step(self, state, progress):
        return state

    def close(self, state):
        self.closed.append(state)


def test_ctrl_c_without_a_checkpoint_says_what_would_have_kept_the_run():
    closed = []
    words = r"tally: stopped after step 2 of 6; no checkpoint was asked for: pass `checkpoint`"
    with pytest.raises(KeyboardInterrupt, match=words) as caught:
        tally(on_chunk=interrupt, meter=Meter(closed))
    assert caught.value.__suppress_context__
    assert len(closed) == 1


def test_a_run_that_diverges_closes_the_meter_and_leaves_no_checkpoint(tmp_path):
    closed = []
    with pytest.raises(
        df.RunDiverged, match=r"tally: diverged at step 0 .* of 6: `losses` are not finite \(nan\)"
    ):
        tally(tmp_path / "run", start=jnp.nan, meter=Meter(closed))
    assert len(closed) == 1
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_before_the_first_checkpoint_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(_checkpoint.os, "replace", lambda *paths: interrupt(None))
    words = r"stopped after step 2 of 6; .*run holds nothing .* yet; the same call starts anew\."
    with pytest.raises(KeyboardInterrupt, match=words):
        tally(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_words_of_a_callers_own_interrupt_stay_his():
    def own(*now):
        raise KeyboardInterrupt("enough")

    with pytest.raises(KeyboardInterrupt, match=r"^enough$"):
        tally(on_chunk=own)
