"""Fault drills: runs of the three loops are killed at random moments and resumed.

    python tests/workers/drills.py [--kills 8] [--seed 0]         all drills, one line for each kill
    python tests/workers/drills.py LOOP FILE STEPS CHUNK [WORD]   one run; the drills start these

Kills by SIGKILL fall at a uniform moment of a run that is going, or as soon as a checkpoint is
being written. After each, the checkpoint must be whole, and the run that resumes from a copy of it
must end as the unbroken run did, bit for bit. Every other killed run goes on in a new process
and is killed again. `nox -s drills`.
"""

import argparse
import contextlib
import os
import pathlib
import shutil
import signal
import stat
import sys
import tempfile
import time

import numpy as np
from small_runs import RUNS, Child, Stopped, leftovers, same, steps_in, stop_at_20

# Steps, and steps in a chunk: many of them, or so few that a run mostly saves.
SIZES = {"chunk": (100_000, 5000), "save": (3000, 20)}


def say(*words):
    print(*words, flush=True)


def work(loop, file, steps, chunk, word="free"):
    """One run, which prints what it does; a "tested" one is stopped, or waits for a line.

    First Ctrl-C stops it after the first chunk, and again in a save. Half a run of each other loop
    follows, and then a short one of this loop, which waits in each save until it is killed.
    """
    synced, run = os.fsync, RUNS[loop]

    def tell(state, metrics):
        say("step", int(state.step))
        if word == "tested":
            sys.stdin.readline()

    def slowly(handle):
        if stat.S_ISREG(os.fstat(handle).st_mode):  # the file, not its folder
            say("saving")
            sys.stdin.readline()
        synced(handle)

    options = {"steps": int(steps), "chunk": int(chunk), "checkpoint": file, "on_chunk": tell}
    if word == "free":
        run(**options)
        return
    # A shell without job control starts what runs in the background with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for handler in (synced, slowly):
        os.fsync = handler
        try:
            run(**options)
        except KeyboardInterrupt as stop:
            say("stopped", stop)
    os.fsync = synced
    for name, other in RUNS.items():
        with contextlib.suppress(Stopped):
            if name != loop:
                other(checkpoint=f"{file}-{name}", on_chunk=stop_at_20)
    os.fsync = slowly
    run(checkpoint=f"{file}-{loop}")


def drill(loop, kind, rng, folder, whole, seconds, again):
    """Kills one run; returns its file, and whether all was well, or None if it ended before."""
    file = folder / "run.npz"
    if not again:
        shutil.rmtree(folder, ignore_errors=True)
    old = set(leftovers(file)) if again else set()  # of the kill before
    child = Child(loop, file, *SIZES[kind])
    child.wait_for("step")
    start = time.perf_counter()
    moment = rng.uniform(0, seconds)
    while time.perf_counter() - start < moment:
        time.sleep(1e-3)
    if kind == "save":  # the next moment at which a temporary file is there
        while child.process.poll() is None and set(leftovers(file)) <= old:
            pass
    moment = time.perf_counter() - start
    if not child.kill():
        say(f"{loop}: ended before the kill at {moment:.2f} s; that is no drill")
        return None
    left, at = len(set(leftovers(file)) - old), steps_in(file)
    copy = folder / "copy.npz"
    shutil.copy(file, copy)
    steps, chunk = SIZES[kind]
    try:
        same(RUNS[loop](steps=steps, chunk=chunk, checkpoint=copy), whole)
        well = True
    except AssertionError:
        well = False
    where = "while saving" if left else "in a chunk or between"
    run = "resumed run" if again else "run"
    say(
        f"{loop}: {run}, kill -9 {moment:.2f} s after the first chunk, {where}; checkpoint "
        f"whole, at step {at} of {steps}; temporary files left: {left}; resumed to the end: "
        + ("bit-identical" if well else "DIFFERENT")
    )
    return well


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=8, help="of each loop and kind")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    rng, bad, count = np.random.default_rng(args.seed), 0, 0
    with tempfile.TemporaryDirectory() as place:
        for loop, run in RUNS.items():
            for kind, (steps, chunk) in SIZES.items():
                whole = run(steps=steps, chunk=chunk)
                start = time.perf_counter()
                run(steps=steps, chunk=chunk, checkpoint=pathlib.Path(place) / "timed.npz")
                seconds = time.perf_counter() - start
                (pathlib.Path(place) / "timed.npz").unlink()
                say(f"{loop}: {steps} steps in chunks of {chunk} take {seconds:.1f} s unbroken")
                done = tries = 0
                while done < args.kills and tries < 3 * args.kills:
                    folder, tries = pathlib.Path(place) / f"{loop}-{kind}", tries + 1
                    again = done % 2 == 1 and 0 < steps_in(folder / "run.npz") < steps
                    well = drill(loop, kind, rng, folder, whole, seconds * 0.6, again)
                    if well is None:
                        shutil.rmtree(folder)
                        continue
                    done, bad = done + 1, bad + (not well)
                count += done
    say(f"{count} kills, {bad} runs that ended otherwise than unbroken ones")
    return bad


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] in RUNS:
        sys.exit(work(*sys.argv[1:]))
    sys.exit(main(sys.argv[1:]))
