"""Writes the tables of `benchmarks/results/*.jsonl` into the README.

python benchmarks/_readme.py
"""

import json
import pathlib

HERE = pathlib.Path(__file__).parent
README = HERE.parent / "README.md"
END = "<!-- bench:end -->"
PEERS = {
    "blackjax.fullrank_vi": "blackjax",
    "numpyro.AutoMultivariateNormal": "numpyro",
    "gsmvi.GSM": "GSM",
}
HEAD = ("case", "metric", "ours", "theirs", "value", "goal")


def number(value):
    if value is None:
        return "-"
    return f"{value:.1e}" if value != 0 and abs(value) < 1e-3 else f"{value:.2g}"


def rows(head, body):
    escaped = [[str(each).replace("|", r"\|") for each in row] for row in (head, *body)]
    lines = ["| " + " | ".join(row) + " |" for row in escaped]
    return "\n".join([lines[0], "|---|" + "---|" * (len(head) - 1), *lines[1:]])


def cell(gap, seconds):
    return f"{number(gap)} in {number(seconds)} s"


def gaussian(lines):
    """One row a target: gap and time of every method."""
    found = {}
    for line in lines:
        if line["baseline_name"] in PEERS:
            key = "gap" if line["metric"].startswith("final") else line["metric"]
            row = found.setdefault(line["case"], {})
            row.setdefault("ours", {})[key] = line["ours"]
            row.setdefault(PEERS[line["baseline_name"]], {})[key] = line["baseline"]
    names = ["ours", *PEERS.values()]
    body = [
        [case, *(cell(row[name]["gap"], row[name]["time"]) for name in names)]
        for case, row in found.items()
    ]
    return rows(["target", *names], body)


def measured(value, unit):
    if unit == "s" and value < 0.1:
        return f"{1e3 * value:.3g} ms"
    return f"{value:.3g}" + (f" {unit}" if unit in ("s", "GB") else "")


def pair(line):
    """One row a line: ours, theirs and the value, mostly their ratio, beside its goal."""
    ours, theirs = (measured(line[name], line["unit"]) for name in ("ours", "baseline"))
    met = line["goal"] is None or line["value"] <= line["goal"]
    goal = "-" if line["goal"] is None else f"{line['goal']:g}" + ("" if met else ", **missed**")
    theirs = f"{line['baseline_name']}: {theirs}"
    return [line["case"], line["metric"], ours, theirs, f"{line['value']:.3g}", goal]


def gan(lines):
    return rows(HEAD, map(pair, lines))


def flow(lines):
    """The OU flow's ten goals in one row a case; devices that share two cores left out."""
    ou, body = {}, []
    for line in lines:
        if line["case"].startswith("OU flow"):
            ou.setdefault(line["case"], []).append(line)
        elif "scaling" not in line["metric"]:
            body.append(pair(line))
    for case, each in ou.items():
        met = sum(line["value"] <= line["goal"] for line in each)
        worst = max(each, key=lambda line: line["value"] / line["goal"])
        words = f"goals met of {len(each)}; nearest to its goal is the {worst['metric']}"
        theirs = f"{worst['baseline_name']}: {number(worst['baseline'])}"
        missed = "" if met == len(each) else ", **missed**"
        goal = f"{number(worst['goal'])}{missed}"
        ours = f"{met}; {number(worst['ours'])}"
        body.append([case, words, ours, theirs, number(worst["value"]), goal])
    return rows(HEAD, body)


TABLES = {"gaussian": gaussian, "gan": gan, "flow": flow}


def tables():
    """Every table that the README holds, by name."""
    results = {name: HERE / "results" / f"{name}.jsonl" for name in TABLES}
    lines = {name: map(json.loads, path.read_text().splitlines()) for name, path in results.items()}
    return {name: make(lines[name]) for name, make in TABLES.items()}


def filled(text):
    """The README's text with its tables as the results have them."""
    for name, table in tables().items():
        begin = f"<!-- bench:{name}, by benchmarks/_readme.py -->"
        before, rest = text.split(begin)
        text = f"{before}{begin}\n{table}\n{END}{rest.split(END, 1)[1]}"
    return text


if __name__ == "__main__":
    README.write_text(filled(README.read_text()))
