"""One version everywhere, and classifiers that say what is supported."""

import importlib.metadata
import pathlib
import re
import tomllib

ROOT = pathlib.Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_changelogs_top_entry_and_the_citation_are_of_this_version():
    tops = re.findall(
        r"^## (\S+), (unreleased|\d{4}-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text(), re.M
    )
    assert tops[0][0] == PROJECT["version"]
    # Newest first, and only the newest may still be open.
    versions = [tuple(map(int, version.split("."))) for version, _ in tops]
    assert versions == sorted(versions, reverse=True)
    assert all(date != "unreleased" for _, date in tops[1:])
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.M)
    assert cited[1] == PROJECT["version"]
    assert importlib.metadata.version("divergence_flows") == PROJECT["version"]


def test_classifiers_and_the_python_floor_agree():
    classified = re.findall(r"Python :: 3\.(\d+)", "\n".join(PROJECT["classifiers"]))
    floor = int(re.fullmatch(r">=3\.(\d+)", PROJECT["requires-python"])[1])
    assert min(map(int, classified)) == floor
    # Semantic versioning: what is before 1.0 is not called stable.
    status = next(c for c in PROJECT["classifiers"] if c.startswith("Development Status"))
    assert ("Stable" in status) == (not PROJECT["version"].startswith("0."))
