"""Writes the table of `benchmarks/results/gaussian.jsonl` into the README.

python benchmarks/_readme.py
"""

import json
import pathlib

HERE = pathlib.Path(__file__).parent
BEGIN, END = "<!-- bench:gaussian, by benchmarks/_readme.py -->", "<!-- bench:end -->"
PEERS = {
    "blackjax.fullrank_vi": "blackjax",
    "numpyro.AutoMultivariateNormal": "numpyro",
    "gsmvi.GSM": "GSM",
}


def number(value):
    if value is None:
        return "-"
    return f"{value:.1e}" if value != 0 and abs(value) < 1e-3 else f"{value:.2g}"


def cell(gap, seconds):
    return f"{number(gap)} in {number(seconds)} s"


def table(lines):
    found = {}
    for line in lines:
        if line["baseline_name"] in PEERS:
            key = "gap" if line["metric"].startswith("final") else line["metric"]
            row = found.setdefault(line["case"], {})
            row.setdefault("ours", {})[key] = line["ours"]
            row.setdefault(PEERS[line["baseline_name"]], {})[key] = line["baseline"]
    names = ["ours", *PEERS.values()]
    out = ["| target | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for case, row in found.items():
        cells = [cell(row[name]["gap"], row[name]["time"]) for name in names]
        out.append(f"| {case} | " + " | ".join(cells) + " |")
    return "\n".join(out)


if __name__ == "__main__":
    results = (HERE / "results" / "gaussian.jsonl").read_text().splitlines()
    readme = HERE.parent / "README.md"
    text = readme.read_text()
    start, stop = text.index(BEGIN) + len(BEGIN), text.index(END)
    body = table([json.loads(line) for line in results])
    readme.write_text(f"{text[:start]}\n{body}\n{text[stop:]}")
