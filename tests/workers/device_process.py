"""Runs a worker of this folder on a number of CPU devices, in a fresh Python.

A process chooses its devices once, so that every layout needs its own.
"""

import os
import pathlib
import subprocess
import sys

import numpy as np

HERE = pathlib.Path(__file__).parent
LIMIT = 200


def start(worker, file, *arguments, devices):
    """Starts `python WORKER.py FILE ARGUMENTS`, which leaves its numbers in the file."""
    count = f"--xla_force_host_platform_device_count={devices}"
    flags = f"{os.environ.get('XLA_FLAGS', '')} {count}"
    fixed = {"XLA_FLAGS": flags, "JAX_ENABLE_X64": "1", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, str(HERE / f"{worker}.py"), str(file), *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=os.environ | fixed, stdout=pipe, stderr=subprocess.STDOUT)


def finish(*processes):
    """Waits for all; a failure, or a hang, ends them all and shows what they said."""
    try:
        for process in processes:
            said, _ = process.communicate(timeout=LIMIT)
            assert process.returncode == 0, said.decode()
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def read(file):
    """What each device held, and the numbers."""
    stored = dict(np.load(file))
    return stored.pop("held").tolist(), stored
