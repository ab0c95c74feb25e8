"""What a release must be; `nox -s release` runs this file.

python tests/release.py BUILT AGAIN     looks into two folders with a wheel and an sdist each
python tests/release.py                 says that the installed package is imported, no source tree
"""

import email
import hashlib
import importlib.metadata
import pathlib
import re
import sys
import sysconfig
import tarfile
import zipfile

ROOT = pathlib.Path(__file__).parents[1]
# What an sdist holds beside the files that git knows in these folders and files.
FOLDERS = ("divergence_flows", "tests", "examples", "benchmarks", "docs")
FILES = {
    ".gitignore",  # hatchling always takes it
    "CHANGELOG.md",
    "CITATION.cff",
    "CONTRIBUTING.md",
    "LICENSE",
    "PKG-INFO",
    "README.md",
    "noxfile.py",
    "pyproject.toml",
    "zensical.toml",
}
LEFTOVERS = {"__pycache__", "out", ".pytest_cache", ".ruff_cache"}


def only(folder, pattern):
    (path,) = pathlib.Path(folder).glob(pattern)
    return path


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def tree(folder):
    """All files below a folder of the checkout, but for what tools leave."""
    paths = (path.relative_to(ROOT) for path in (ROOT / folder).rglob("*") if path.is_file())
    return {path.as_posix() for path in paths if not LEFTOVERS & set(path.parts)}


def check_wheel(path):
    """The package as it stands in the checkout, the licence and metadata; nothing else."""
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        (about,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(about))
        for name in tree("divergence_flows"):
            assert archive.read(name) == (ROOT / name).read_bytes(), name
    info = about.removesuffix("/METADATA")
    extra = {f"{info}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "licenses/LICENSE")}
    assert names == tree("divergence_flows") | extra, names ^ (tree("divergence_flows") | extra)
    assert "divergence_flows/py.typed" in names
    assert path.name.endswith("-py3-none-any.whl")
    assert metadata["Name"] == "divergence_flows"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload() == (ROOT / "README.md").read_text()
    assert any(re.match(r"jax\b", needed) for needed in metadata.get_all("Requires-Dist"))
    return metadata["Version"]


def check_sdist(path):
    """What the tests read, and what makes the wheel again."""
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    expected = FILES.union(*map(tree, FOLDERS))
    assert names == expected, names ^ expected


def check_built(built, again):
    for pattern in ("*.whl", "*.tar.gz"):
        one, other = only(built, pattern), only(again, pattern)
        assert digest(one) == digest(other), f"two builds of {one.name} differ"
        print(f"{digest(one)}  {one.name}, twice")
    version = check_wheel(only(built, "*.whl"))
    check_sdist(only(built, "*.tar.gz"))
    print(f"wheel and sdist of {version} hold what they should")


def check_installed():
    import divergence_flows

    where = pathlib.Path(divergence_flows.__file__).parent
    assert where == pathlib.Path(sysconfig.get_path("purelib")) / "divergence_flows", where
    distribution = importlib.metadata.distribution("divergence_flows")
    assert '"editable"' not in (distribution.read_text("direct_url.json") or "")
    print(f"divergence_flows {divergence_flows.__version__} is the one in {where}")


if __name__ == "__main__":
    check_built(*sys.argv[1:]) if sys.argv[1:] else check_installed()
