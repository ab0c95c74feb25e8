"""The JSON line of a benchmark: what was measured beside what, and on which hardware."""

import functools
import json
import os
import pathlib
import platform
import re
import statistics

import jax


@functools.cache
def cpu():
    """The model of the CPU, and how many of its cores this process may use."""
    info = pathlib.Path("/proc/cpuinfo")
    named = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    affinity = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count()))
    count = len(affinity(0))
    model = named[1] if named else platform.processor() or platform.machine()
    return f"{model}, {count} core{'s' if count > 1 else ''}"


@functools.cache
def hardware():
    """The name of what JAX computes on."""
    device = jax.devices()[0]
    return cpu() if device.platform == "cpu" else device.device_kind


def plain(number):
    """A number that JSON knows."""
    return number if number is None or isinstance(number, int) else float(number)


def tell(*, case, metric, value, goal, ours, baseline, baseline_name, unit, file=None, **more):
    """Prints one line, and writes it to `file` too; `value` at or below `goal` is good."""
    numbers = {"value": value, "goal": goal, "ours": ours, "baseline": baseline}
    line = {
        "case": case,
        "metric": metric,
        **{name: plain(each) for name, each in numbers.items()},
        "baseline_name": baseline_name,
        "unit": unit,
        "hardware": hardware(),
        **more,
    }
    text = json.dumps(line)
    print(text, flush=True)
    if file is not None:
        print(text, file=file, flush=True)


def tell_pairs(case, metric, runs, goal, baseline_name, unit="s", file=None):
    """Prints one line of medians from pairs of seconds, ours first, that took turns."""
    ours, baseline = (statistics.median(column) for column in zip(*runs, strict=True))
    numbers = {"value": ours / baseline, "goal": goal, "ours": ours, "baseline": baseline}
    tell(case=case, metric=metric, **numbers, baseline_name=baseline_name, unit=unit, file=file)
