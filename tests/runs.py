"""Runs that are interrupted: what `transport` and `train_gan` must both survive."""

import os
import pathlib
import signal
import subprocess
import sys

import jax
import numpy as np

KILLED = """
import sys
sys.path.insert(0, {tests!r})
import runs, {module}

{module}.run(checkpoint={file!r}, on_chunk=runs.kill_at_20)
"""


class Stopped(Exception):
    pass


def stop_at_20(state):
    if state.step == 20:
        raise Stopped


def kill_at_20(state):
    if state.step == 20:
        os.kill(os.getpid(), signal.SIGKILL)


def killed(module, file):
    """Runs a test module's `run` in a process of its own, which kills itself at step 20."""
    tests = str(pathlib.Path(__file__).parent)
    code = KILLED.format(tests=tests, module=module, file=str(file))
    return subprocess.run([sys.executable, "-c", code], capture_output=True)


def same(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
