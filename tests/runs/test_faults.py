"""Faults: kills, Ctrl-C, full disks and broken files leave a whole checkpoint or none."""

import errno
import hashlib
import io
import json
import os
import pathlib
import pickle
import re
import resource
import signal
import time
import zipfile

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from jax.tree_util import Partial
from small_runs import RUNS, Child, Stopped, leftovers, same, steps_in, stop_at_20

import divergence_flows as df
from divergence_flows.runs import _checkpoint, _loop

on_every_loop = pytest.mark.parametrize("loop", RUNS)


# Runs that are stopped.


@on_every_loop
def test_a_stopped_run_resumes_bit_for_bit(loop, tmp_path):
    file, run, seen = tmp_path / "run.npz", RUNS[loop], []
    with pytest.raises(Stopped):
        run(checkpoint=file, on_chunk=stop_at_20)
    whole = run()
    same(run(checkpoint=file, on_chunk=lambda state: seen.append(int(state.step))), whole)
    assert seen == [30]
    same(run(checkpoint=file), whole)  # and once more from the finished file
    assert [path.name for path in tmp_path.iterdir()] == ["run.npz"]


# A kill in the middle of a chunk, or of writing the second checkpoint.
KILLS = {"transport": "save", "train_gan": "step", "train_flow_ratio": "step"}


@on_every_loop
def test_a_killed_run_resumes_bit_for_bit(loop, tmp_path):
    file, run = tmp_path / "run.npz", RUNS[loop]
    child = Child(loop, file, 30, 10, KILLS[loop])
    if KILLS[loop] == "save":
        child.wait_for("saving")
        child.go()
    child.wait_for("step 10")
    if KILLS[loop] == "save":
        child.wait_for("saving")
    else:
        child.go()
    assert child.kill()
    # A chunk here is so short that a kill meant for it may fall into the save after it.
    assert len(leftovers(file)) in ((1,) if KILLS[loop] == "save" else (0, 1))
    assert steps_in(file) in (10, 20)
    same(run(checkpoint=file), run())


def test_ctrl_c_leaves_a_whole_checkpoint_and_says_where_it_stands(tmp_path):
    # In a chunk, which lasts, or if this machine is slow just after it; then in a save.
    file = tmp_path / "run.npz"
    words = (
        r"stopped transport: stopped after step (\d+) of 60000; (.*) holds step (\d+); the same "
    )
    child = Child("transport", file, 60_000, 20_000, "signal")
    child.wait_for("step 20000")
    child.go()
    time.sleep(0.1)
    child.send(signal.SIGINT)
    info = re.match(words + r"call goes on from there\.$", child.wait_for("stopped"))
    assert info[2] == str(file)
    assert info[1] == info[3]
    at = int(info[1])
    assert at in (20_000, 40_000)
    child.wait_for("saving")
    child.send(signal.SIGINT)
    info = re.match(words + r"call goes on from there\.$", child.wait_for("stopped"))
    assert (int(info[1]), int(info[3])) == (at + 20_000, at)
    child.wait_for("end")
    assert child.end() == 0
    # What it said is so, and the file is whole.
    assert len(_checkpoint._read(file, "a test")[1]["losses"]) == at
    assert leftovers(file) == []


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


def tally(path=None, steps=6, on_chunk=None, meter=None, start=0.0, **header):
    meter = df.flows._integrate.NoProgressMeter() if meter is None else meter
    rough, none = jnp.zeros(3, jnp.bfloat16), jnp.zeros((2, 0))
    state = Tally(jnp.full(5, start), rough, none, jr.key(1), jnp.asarray(0))
    header = {"run": "tally", "steps": steps, **header}
    path = _loop.as_path("tally", path, state)
    loop = _loop.Loop("tally", steps, 2, meter, path, header, on_chunk)
    state, info = _loop.follow(loop, Partial(tick), state, {"losses": []})
    return (state.total, state.rough, jr.key_data(state.key), state.step), info


def at_4(state):
    if state.step == 4:
        raise Stopped


@pytest.fixture
def half(tmp_path):
    """A checkpoint after 4 of 6 steps."""
    file = tmp_path / "run.npz"
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
    for size in {*range(0, len(content), 61), *range(len(content) - 90, len(content))}:
        half.write_bytes(content[:size])
        refused(half, BROKEN if size < len(content) - 64 else "checksum does not fit")
    half.write_bytes(content + b"\n")
    refused(half, "checksum does not fit")


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


def sealed(file, members):
    """Writes an npz file by hand, with a checksum that fits, as an attacker could."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, value in members.items():
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, np.asarray(value), allow_pickle=True)
        archive.comment = bytes(64)
    content = file.read_bytes()
    file.write_bytes(content[:-64] + hashlib.sha256(content).hexdigest().encode())


def members_of(file):
    with np.load(file) as stored:
        return {name: stored[name] for name in stored.files}


@pytest.mark.parametrize("seal", [False, True])
@pytest.mark.parametrize("name", ["format", "header", "losses", "state0000", "more"])
def test_loading_executes_no_code(half, seal, name):
    loot = half.with_name("loot")
    members = {**members_of(half), name: np.array([Bomb(loot)], object)}
    if seal:
        sealed(half, members)
    else:
        np.savez(half, **members)
    refused(half, "")
    assert not loot.exists()
    with np.load(half, allow_pickle=True) as stored:  # the bomb is a real one
        stored[name]
    assert loot.exists()


FOREIGN = {
    "text": b"not an archive",
    "empty": b"",
    "pickle": pickle.dumps({"losses": [1.0]}),
    "a zip of no arrays": b"PK\x05\x06" + bytes(18),
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, content):
    file = tmp_path / "run.npz"
    file.write_bytes(content)
    refused(file, BROKEN)
    with pytest.raises(ValueError, match=rf"transport: checkpoint .* {BROKEN}"):
        RUNS["transport"](checkpoint=file)


def test_an_npz_of_someone_else_and_a_folder_are_refused(tmp_path):
    file, folder = tmp_path / "run.npz", tmp_path / "folder"
    np.savez(file, xs=np.zeros(3))
    refused(file, BROKEN)
    sealed(file, {"xs": np.zeros(3)})
    refused(file, "is sealed as a checkpoint, and holds none")
    folder.mkdir()
    refused(folder, "cannot be read: Is a directory")


def test_a_file_that_may_not_be_read_is_refused(half, monkeypatch):
    def closed(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    content = half.read_bytes()
    with monkeypatch.context() as patch:  # root may read any file
        patch.setattr(pathlib.Path, "read_bytes", closed)
        with pytest.raises(ValueError, match="cannot be read: Permission denied; pass another"):
            tally(half)
    assert half.read_bytes() == content


def test_a_checkpoint_of_another_version_is_refused_with_both_numbers(half):
    # Version 0.1 in development wrote format 1 by np.savez: no seal, no dtypes.
    members = members_of(half)
    old = {**members, "format": "divergence_flows checkpoint 1"}
    del old["dtypes"]
    np.savez(half, **old)
    refused(half, "has format 1, which an older version of divergence_flows wrote")
    sealed(half, {**members, "format": "divergence_flows checkpoint 3"})
    refused(half, "has format 3, which a newer version of divergence_flows wrote, and this version")


def changed(**changes):
    return lambda members: {**members, **changes}


def without(name):
    return lambda members: {key: value for key, value in members.items() if key != name}


def retyped(members, **dtypes):
    return {**members, "dtypes": json.dumps({**json.loads(str(members["dtypes"])), **dtypes})}


STATES = {
    "missing": (without("state0001"), "lacks state0001"),
    "history missing": (without("losses"), "lacks losses"),
    "extra": (lambda m: retyped({**m, "more": np.zeros(2)}, more="float64"), "holds more, unknown"),
    "shape": (changed(state0000=np.zeros(1, np.float32)), "holds `state0000` as float32(1,), and"),
    "scalar": (changed(state0000=np.zeros((), np.float32)), "holds `state0000` as float32()"),
    "dtype": (
        lambda m: retyped({**m, "state0000": np.zeros(5)}, state0000="float64"),
        "holds `state0000` as float64(5,), and this run has float32(5,)",
    ),
    "history shape": (changed(losses=np.zeros((2, 2), np.float32)), "holds `losses` as float32"),
    "history dtype": (
        lambda m: retyped({**m, "losses": np.arange(4)}, losses="int64"),
        "holds `losses` as int64(4,)",
    ),
}


@pytest.mark.parametrize(("change", "words"), STATES.values(), ids=STATES)
def test_a_state_that_is_not_in_all_parts_this_runs_is_refused_never_broadcast(half, change, words):
    sealed(half, change(members_of(half)))
    refused(half, words)


def test_a_checkpoint_of_other_settings_is_refused_whichever_run_knows_more(half):
    for header, words in (({"steps": 8}, "steps = 6, and"), ({"more": 1}, "more = None, and")):
        with pytest.raises(ValueError, match=f"was written with {words} this run has"):
            tally(half, **header)
    half.unlink()
    tally(half, more=2)
    with pytest.raises(ValueError, match="was written with more = 2, and this run has None"):
        tally(half)


ADAMS = {
    "b1": (optax.adam(0.1), optax.adam(0.1, b1=0.5)),
    "b2": (optax.adam(0.1), optax.adam(0.1, b2=0.9)),
    "momentum": (optax.sgd(0.1, momentum=0.9), optax.sgd(0.1, momentum=0.8)),
}


@pytest.mark.parametrize(("one", "other"), ADAMS.values(), ids=ADAMS)
def test_a_checkpoint_of_another_momentum_is_refused(tmp_path, one, other):
    # The first update alone is the same for both.
    file, run = tmp_path / "run.npz", RUNS["transport"]
    options = {"steps": 10, "checkpoint": file}
    run(optimizer=one, **options)
    with pytest.raises(ValueError, match="was written with optimizer = "):
        run(optimizer=other, **options)


# Writing.


def test_a_full_disk_loses_no_checkpoint_and_the_run_goes_on_once_there_is_room(tmp_path):
    # A limit on the size of files stands for a full disk: it too stops a write half-way.
    file, limits = tmp_path / "run.npz", resource.getrlimit(resource.RLIMIT_FSIZE)
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
    words += "holds step 4. Make room, and the same call goes on from there."
    assert words in str(caught.value)
    assert file.read_bytes() == before
    assert leftovers(file) == []
    same(tally(file), tally())


@pytest.mark.parametrize("when", range(1, 60, 6))
def test_a_disk_that_fills_up_at_any_write_leaves_the_old_file(half, monkeypatch, when):
    class Full(io.FileIO):
        count = 0

        def write(self, data):
            Full.count += 1
            if Full.count >= when:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(data)

    before = half.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(_checkpoint, "open", Full, raising=False)
        with pytest.raises(OSError, match=r"No space left on device. .* holds step 4. Make room"):
            tally(half)
    assert half.read_bytes() == before
    assert leftovers(half) == []


def test_a_place_that_cannot_be_written_to_is_refused_before_anything_is_computed(tmp_path):
    blocked, seen = tmp_path / "file", []
    blocked.write_text("no folder")
    with pytest.raises(OSError, match=r"tally: nothing can be written to checkpoint .*run\.npz"):
        tally(blocked / "run.npz", on_chunk=seen.append)
    assert seen == []


def test_a_finished_run_is_read_from_where_nothing_can_be_written(half, monkeypatch):
    whole = tally(half)
    monkeypatch.setattr(_loop, "check_place", None)
    same(tally(half), whole)


def test_old_temporaries_of_killed_writers_are_cleared_and_nothing_else(tmp_path):
    file = tmp_path / "run.npz"
    old = tmp_path / "run.npz.123.0123abcd.tmp"
    kept = [tmp_path / name for name in ("run.npz.9.0123abcd.tmp", "run.npz.mine.tmp", "other.tmp")]
    for path in (old, *kept):
        path.write_bytes(b"half a file")
    for path in (old, *kept[1:]):
        os.utime(path, (0, 0))
    same(tally(file), tally())
    assert set(tmp_path.iterdir()) == {file, *kept}


def test_writers_at_the_same_time_leave_a_whole_file_of_one_of_them(tmp_path):
    # Each save of the one falls into the middle of one of the other.
    file, synced = tmp_path / "run.npz", os.fsync

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
    place, link = tmp_path / "elsewhere.npz", tmp_path / "run.npz"
    link.symlink_to(place)
    whole = tally(link)
    assert link.is_symlink() and steps_in(place) == 6
    same(tally(link), whole)


# Ctrl-C, in this process.


def interrupt(state):
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
    with pytest.raises(df.RunDiverged, match=r"tally: diverged at step 0 .* of 6: `losses` has"):
        tally(tmp_path / "run.npz", start=jnp.nan, meter=Meter(closed))
    assert len(closed) == 1
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_before_the_first_checkpoint_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(_checkpoint.os, "replace", lambda *paths: interrupt(None))
    words = r"stopped after step 2 of 6; .*run\.npz holds nothing .* yet; .* from the start\."
    with pytest.raises(KeyboardInterrupt, match=words):
        tally(tmp_path / "run.npz")
    assert list(tmp_path.iterdir()) == []


def test_words_of_a_callers_own_interrupt_stay_his():
    def own(state):
        raise KeyboardInterrupt("enough")

    with pytest.raises(KeyboardInterrupt, match=r"^enough$"):
        tally(on_chunk=own)


# Traces.


@on_every_loop
def test_a_checkpoint_inside_a_trace_is_refused(loop, tmp_path):
    call = lambda key: RUNS[loop](key=key, checkpoint=tmp_path / "x.npz")[0]
    with pytest.raises(ValueError, match="inside `jit` or `vmap`"):
        jax.vmap(call)(jr.split(jr.key(0)))
    with pytest.raises(ValueError, match="inside `jit` or `vmap`"):
        jax.jit(lambda: call(jr.key(0)))()  # no argument of the call is a tracer
    assert list(tmp_path.iterdir()) == []
