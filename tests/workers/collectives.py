"""What a compiled program sends between devices, read from its text."""

import math
import re

_CALL = re.compile(
    r"^\s*(?:ROOT )?\S+ = (.*?) "
    r"(all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)(?:-start)?\((.*)$",
    re.MULTILINE,
)
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\]")


def collectives(compiled):
    """[operations in loops, those outside]: pairs of a name and how many numbers it brings.

    A single bit, on which all devices agree that an error is raised, is left out.
    """
    found = [], []
    for result, name, rest in _CALL.findall(compiled.as_text()):
        sizes = [each for kind, each in _ARRAY.findall(result) if kind != "pred"]
        counts = [math.prod(int(size) for size in each.split(",") if size) for each in sizes]
        if counts:
            found["while/body" not in rest].append((name, sum(counts)))
    return found
