"""What changed between two files of results, by more than a tenth.

    python benchmarks/_compare.py OLD.jsonl NEW.jsonl

Lines belong together if case, metric and baseline are the same. `value` is good where it is small,
so larger is worse, and what is negative (a difference of gaps) is compared by its size too. Exits
with 1 if anything got worse.
"""

import argparse
import json
import pathlib

TENTH = 0.1
NAMES = ("case", "metric", "baseline_name")


def read(path):
    return [json.loads(line) for line in pathlib.Path(path).read_text().splitlines() if line]


def by_name(lines):
    """The value of each line, None where nothing was reached; a later line replaces its double."""
    return {tuple(line[name] for name in NAMES): line["value"] for line in lines}


def change(old, new, share=TENTH):
    """1 for worse, -1 for better, 0 for about the same; None is the worst value there is."""
    if old is None or new is None:
        return (new is None) - (old is None)
    beyond = share * abs(old)
    return (new > old + beyond) - (new < old - beyond)


def compared(old, new, share=TENTH):
    """Names of lines: worse, better, missing in the new file, and only there."""
    before, after = by_name(old), by_name(new)
    both = [name for name in before if name in after]
    signs = {name: change(before[name], after[name], share) for name in both}
    return {
        "worse": [name for name in both if signs[name] > 0],
        "better": [name for name in both if signs[name] < 0],
        "missing": [name for name in before if name not in after],
        "new": [name for name in after if name not in before],
    }


def written(old, new, share=TENTH):
    """One line of text for each that is worse or better, missing or new; hardware first."""
    before, after = by_name(old), by_name(new)
    used = [{line.get("hardware", "unknown") for line in lines} for lines in (old, new)]
    if used[0] != used[1]:
        first, second = (" and ".join(sorted(each)) for each in used)
        yield f"the hardware differs: {first}; then {second}"
    for kind, names in compared(old, new, share).items():
        for name in names:
            values = [each[name] for each in (before, after) if name in each]
            digits = " -> ".join("never" if x is None else f"{x:.3g}" for x in values)
            yield f"{kind}: {name[0]}: {name[1]}, beside {name[2]}: {digits}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("--share", type=float, default=TENTH)
    options = parser.parse_args()
    files = read(options.old), read(options.new)
    print(*written(*files, options.share), sep="\n")
    raise SystemExit(bool(compared(*files, options.share)["worse"]))
