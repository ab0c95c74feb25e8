"""What reads the lines of benchmarks, on lines that were made up."""

import importlib
import json
import pathlib

import jax.numpy as jnp
import jax.random as jr
import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def folder(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")


def line(case, value, goal=1.0, baseline_name="a peer", hardware="one CPU"):
    numbers = {"value": value, "goal": goal, "ours": value, "baseline": 1.0, "unit": "s"}
    names = {"metric": "time", "baseline_name": baseline_name, "hardware": hardware}
    return {"case": case, **names, **numbers}


OLD = [
    line("slower", 1.0),
    line("as slow", 1.0),
    line("faster", 1.0),
    line("beside another", 1.0, baseline_name="a peer"),
    line("a difference of gaps", -1.0),
    line("that arrived", 1.0),
    line("that now arrives", None),
    line("that never does", None),
    line("gone", 1.0),
]
NEW = [
    line("slower", 1.12),
    line("as slow", 1.09),
    line("faster", 0.5),
    line("beside another", 5.0, baseline_name="another"),
    line("a difference of gaps", -0.8),
    line("that arrived", None),
    line("that now arrives", 7.0),
    line("that never does", None),
]


def test_two_files_are_compared_by_case_metric_and_baseline():
    compare = importlib.import_module("_compare")
    found = compare.compared(OLD, NEW)
    assert {kind: [name[0] for name in names] for kind, names in found.items()} == {
        "worse": ["slower", "a difference of gaps", "that arrived"],
        "better": ["faster", "that now arrives"],
        "missing": ["beside another", "gone"],
        "new": ["beside another"],
    }
    assert compare.compared(OLD, OLD) == {"worse": [], "better": [], "missing": [], "new": []}
    assert not compare.compared(OLD, NEW, share=0.2)["worse"][2:]


def test_it_says_what_changed_and_that_another_machine_measured():
    compare = importlib.import_module("_compare")
    assert [*compare.written([line("one", 1.0)], [line("one", 2.0, hardware="a GPU")])] == [
        "the hardware differs: one CPU; then a GPU",
        "worse: one: time, beside a peer: 1 -> 2",
    ]


def test_a_line_says_its_hardware_and_is_json(capsys):
    lines = importlib.import_module("_line")
    lines.tell_pairs("a case", "time", [(1.0, 2.0), (3.0, 2.0), (2.0, 4.0)], 1.0, "a peer")
    told = json.loads(capsys.readouterr().out)
    assert (told["ours"], told["baseline"], told["value"]) == (2.0, 2.0, 1.0)
    assert told["hardware"].endswith(("core", "cores"))


def test_two_machines_stand_side_by_side():
    tables = importlib.import_module("_readme")
    cpu = [line("both", 0.5), line("on the CPU alone", 1.0)]
    gpu = [line("both", 2.0, hardware="a GPU"), line("on the GPU alone", 1.0, hardware="a GPU")]
    head, _, *rows = tables.beside(cpu, gpu).splitlines()
    assert head == "| case | metric | theirs | one CPU | a GPU |"
    assert rows == ["| both | time | a peer | 0.5 s / 1 s = 0.5 | 2 s / 1 s = 2 |"]


def test_errors_of_mutual_information_stand_beside_published_ones():
    script, tables = (importlib.import_module(n) for n in ("ratios_high_dimension", "_readme"))
    xs, ys = script.pairs(8, 20_000, jr.key(0))
    for x, y in zip(xs.T, ys.T, strict=True):
        assert jnp.corrcoef(x, y)[0, 1] == pytest.approx(script.RHO, abs=0.02)
    found = {"values": [39.9, 40.9], "ours": 0.5, "truth": 40.9}
    rest = {"case": "160 dimensions: one way", "published": dict(script.PUBLISHED[160])}
    table = tables.ratios_high_dimension([found | rest])
    assert table.endswith("| 160 | 40.9 | 0.5 (40.4) | MVP 1.02, best fixed path 4.18 |")
