"""Flows: what solving costs, how fits to samples grow, and where learned and fitted ratios arrive.

One JSON line a case; `value` is ours / baseline, and at or below `goal` is good. Run it alone on
the machine: `nox -s bench -- flow`. One function a case, chosen by the names after it, or all.
"""

import functools
import sys

import _flow_devices
import _flow_ratios
import _flow_solver
import _flow_time
import _line

CASES = {
    "overhead": _flow_solver.overhead,
    "first_call": _flow_solver.first_call,
    "equal_error": _flow_solver.equal_error,
    "kernels": _flow_ratios.kernels,
    "s_curve": _flow_ratios.s_curve,
    "time_ratio": _flow_time.ou,
    "against_transport": _flow_time.against_transport,
    "equal_time": _flow_time.equal_time,
    "scaling": _flow_devices.scaling,
}
CASES = {name: functools.partial(case, _line.tell) for name, case in CASES.items()}

if __name__ == "__main__":
    for name in sys.argv[1:] or CASES:
        CASES[name]()
