"""The command line: one small run to the end, and a clear line for each wrong input."""

import pathlib
import sys

import numpy as np
import pytest

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))
two_samples = pytest.importorskip("two_samples")
data = sys.modules["_data"]
pytestmark = pytest.mark.usefixtures("own_pictures")

GOOD = np.random.default_rng(0).normal(size=(40, 2))


def save(path, rows):
    data.write(path, rows)
    return str(path)


def test_own_arrays_move_and_come_back_in_their_own_order_and_units(tmp_path, capsys, monkeypatch):
    whole = two_samples._pictures.animate
    few = lambda problem, path: whole(problem, path[::8])  # a frame takes longer than a step
    monkeypatch.setattr(two_samples._pictures, "animate", few)
    rng = np.random.default_rng(0)
    source = save(tmp_path / "a.npy", rng.normal(size=(30, 2)) * 100)
    target = save(tmp_path / "b.csv", rng.normal(size=(50, 2)) * 100 + 300)
    out = tmp_path / "moved.csv"
    words = ["--source", source, "--target", target, "--out", str(out), "--fast"]
    assert two_samples.main([*words, "--animate", "--out-dir", str(tmp_path)]) == 0
    before, target, moved = map(data.read, (source, target, out))
    assert moved.shape == (30, 2)
    # Forty small steps after the affine map: about the target's mean and spread, in its units.
    np.testing.assert_allclose(moved.mean(0), target.mean(0), atol=60)
    np.testing.assert_allclose(moved.std(0), target.std(0), rtol=0.4)
    for axis in range(2):
        assert np.corrcoef(moved[:, axis], before[:, axis])[0, 1] > 0.9
    assert (tmp_path / "own.png").stat().st_size > 10_000
    assert (tmp_path / "own.gif").stat().st_size > 10_000
    said = capsys.readouterr().out
    assert "floor" in said and "held-out" in said


def test_problems_hold_out_what_they_measure_on(monkeypatch):
    some = [images[:300] for images in data.mnist_data()]  # their singular values take a while
    monkeypatch.setattr(data, "mnist_data", lambda: some)
    for make in (data.curve, data.digits, data.bananas):
        problem = make(np.random.default_rng(0), 64)
        seen = {row.tobytes() for row in np.ascontiguousarray(problem.train)}
        held = [row.tobytes() for row in np.ascontiguousarray(problem.held)]
        # Bananas' coordinates are rounded: a few rows occur twice in the file.
        assert sum(row in seen for row in held) <= (3 if problem.name == "bananas" else 0)


def test_coordinates_of_the_flow_lead_back_to_the_users():
    problem = data.matched("own", GOOD * 50 + 7, GOOD * 20, GOOD)
    again = problem.decode(problem.encode(problem.source))
    np.testing.assert_allclose(again, problem.source, rtol=1e-5, atol=1e-4)


def test_the_floor_is_the_distance_of_independent_samples():
    # In one dimension W2 pairs sorted samples: an independent computation.
    rng = np.random.default_rng(0)
    pool, held = rng.normal(size=(2, 4000, 1))
    pairs = [np.sort(rng.normal(size=(2, 100)), axis=1) for _ in range(400)]
    expected = np.mean([np.sqrt(np.mean((a - b) ** 2)) for a, b in pairs])
    found = two_samples.floor(two_samples.batches(held, 100), pool, rng, pairs=100)
    # Ten held-out sets, ten times each: a standard error of about .01.
    assert abs(found - expected) < 0.03


def assert_refused(capsys, *words, arguments):
    """One line that names what is wrong, and the remedy."""
    assert two_samples.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    for word in words:
        assert word in error


WRONG = {
    "missing": (None, "no such file"),
    "one row": (GOOD[:1], "at least two samples"),
    "no rows": (GOOD[:0], "at least two samples"),
    "one axis": (GOOD[:, 0], "reshape it"),
    "three axes": (GOOD[None], "reshape it"),
    "NaN": (np.where(GOOD > 2, np.nan, GOOD), "rows hold NaN or inf"),
    "inf": (np.where(GOOD > 2, np.inf, GOOD), "rows hold NaN or inf"),
    "other dimensions": (np.ones((40, 3)), "same coordinates"),
    "text": (np.array([["a", "b"]] * 3), "not real numbers"),
    "complex": (GOOD * 1j, "not real numbers"),
    "objects": (np.array([[None, 1]] * 3), "cannot be read"),
    "header in csv": ("x,y\n1,2\n3,4\n", "no header"),
    "ragged csv": ("1,2\n3\n4,5\n", "cannot be read"),
    "empty csv": ("", "at least two samples"),
    "NaN in csv": ("1,2\nnan,4\n", "1 of 2 rows hold NaN"),
    "one row of csv": ("1,2\n", "at least two samples"),
}


@pytest.mark.parametrize(("rows", "words"), WRONG.values(), ids=WRONG)
def test_a_wrong_file_is_named_in_one_line_with_the_remedy(tmp_path, capsys, rows, words):
    bad = tmp_path / ("bad.csv" if isinstance(rows, str) else "bad.npy")
    if isinstance(rows, str):
        bad.write_text(rows)
    elif rows is not None:
        np.save(bad, rows, allow_pickle=True)
    source, out = save(tmp_path / "a.npy", GOOD), str(tmp_path / "c.npy")
    files = ["--source", source, "--target", str(bad), "--out", out]
    assert_refused(capsys, bad.name, words, arguments=files)


def test_files_go_together(capsys):
    assert_refused(capsys, "pass all three", arguments=["--source", "a.npy"])


@pytest.mark.parametrize(("out", "words"), [("m.txt", "unknown kind"), ("no/m.npy", "folder")])
def test_a_place_that_cannot_take_the_result_is_refused_first(tmp_path, capsys, out, words):
    source = save(tmp_path / "a.npy", GOOD)
    files = ["--source", source, "--target", source, "--out", str(tmp_path / out)]
    assert_refused(capsys, words, arguments=files)


ENDS = {
    "diverged": (two_samples.df.RunDiverged("transport: diverged at step 3", 3, "xs", None, 0), 3),
    "Ctrl-C": (KeyboardInterrupt("transport: stopped after step 3 of 9"), 130),
}


@pytest.mark.parametrize(("error", "status"), ENDS.values(), ids=ENDS)
def test_a_run_that_is_stopped_ends_in_one_line(monkeypatch, capsys, error, status):
    def stop(*args, **options):
        raise error

    monkeypatch.setattr(two_samples.df, "transport", stop)
    assert two_samples.main(["--only", "curve", "--fast"]) == status
    said = capsys.readouterr().err
    assert said == f"two_samples: {error}\n"
