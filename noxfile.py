"""Everything a developer runs. Each session sets itself up: `nox -s tests`, `nox -s demo`, ..."""

import os
import pathlib
import shutil
import tarfile

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["tests", "lint", "types"]

ROOT = pathlib.Path(__file__).parent
PYPROJECT = nox.project.load_toml("pyproject.toml")
TESTS = nox.project.dependency_groups(PYPROJECT, "tests")
PEERS = nox.project.dependency_groups(PYPROJECT, "peers")
COVERAGE = nox.project.dependency_groups(PYPROJECT, "coverage")
TORCH = nox.project.dependency_groups(PYPROJECT, "torch")
DOCS = nox.project.dependency_groups(PYPROJECT, "docs")
TOOLS = nox.project.dependency_groups(PYPROJECT, "tools")
SBIBM = ("--no-deps", *nox.project.dependency_groups(PYPROJECT, "sbibm"))
BMI = ("--no-deps", *nox.project.dependency_groups(PYPROJECT, "bmi"))
# Two workers and no picture windows, on any machine; a file stays with one worker, so that no
# program is compiled by both.
PYTEST = ("python", "-m", "pytest", "-n", "2", "--dist", "loadfile")
HEADLESS = {"MPLBACKEND": "Agg"}


def quickly(session: nox.Session) -> dict[str, str]:
    """The environment of a test run in which XLA compiles fast, the suite's largest cost.

    Whoever sets XLA_FLAGS, if only to nothing, gets those: `XLA_FLAGS= nox -s tests`.
    """
    if "XLA_FLAGS" in os.environ:
        return HEADLESS
    flags = session.run("python", "tests/fast_xla_flags.py", silent=True, log=False)
    # Nor does a program that nobody debugs need to know which line wrote which of its operations.
    # Workers, and the processes that tests start, share what they compile, Python's bytecode too;
    # the path is absolute, since some tests change the working directory.
    fast = {
        "PYTHONDONTWRITEBYTECODE": "",
        "XLA_FLAGS": str(flags).strip(),
        "JAX_TRACEBACK_IN_LOCATIONS_LIMIT": "0",
        "JAX_TRACEBACK_FILTERING": "off",
        "JAX_COMPILATION_CACHE_DIR": str(ROOT / session.create_tmp() / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    }
    return HEADLESS | fast


def covered(session: nox.Session) -> None:
    """Runs the tests, and fails if they leave too much of the package unseen."""
    session.run("coverage", "erase")
    session.run("coverage", "run", *PYTEST[1:], *session.posargs, env=quickly(session))
    session.run("coverage", "combine", "-q")
    session.run("coverage", "report")


@nox.session
def demo(session: nox.Session) -> None:
    """Moves one data set onto another and leaves pictures; arguments after -- are passed on."""
    session.install("-e", ".[examples]")
    session.run("python", "examples/two_samples.py", *session.posargs, env=HEADLESS)


@nox.session
def tests(session: nox.Session) -> None:
    """Runs the tests on the interpreter that runs nox."""
    session.install("-e", ".[examples]", *TESTS)
    session.install(*SBIBM)
    session.run(*PYTEST, *session.posargs, env=quickly(session))


@nox.session(venv_backend="uv")
def lowest(session: nox.Session) -> None:
    """Runs the tests on the oldest versions that pyproject.toml allows."""
    session.install("--resolution", "lowest-direct", "-e", ".[examples]", *TESTS)
    session.run(*PYTEST, *session.posargs, env=quickly(session))


@nox.session
def coverage(session: nox.Session) -> None:
    """Says which lines and branches of the package no test reaches; fails below 95 %."""
    session.install("-e", ".[examples]", *TESTS, *COVERAGE)
    covered(session)


@nox.session
def mutations(session: nox.Session) -> None:
    """Puts one wrong character into a formula at a time: the laws near it must notice."""
    session.install("-e", ".[examples]", *TESTS)
    session.run("python", "tests/mutations.py", *session.posargs, env=quickly(session))


@nox.session
def drills(session: nox.Session) -> None:
    """Kills runs at random moments, resumes them, and says whether they end bit for bit alike."""
    session.install("-e", ".[examples]", *TESTS)
    session.run("python", "tests/workers/drills.py", *session.posargs, env=HEADLESS)


@nox.session(venv_backend="uv", reuse_venv=False)
def release(session: nox.Session) -> None:
    """Builds twice, looks into what was built, and tests the wheel, with its coverage."""
    folder = pathlib.Path(session.create_tmp())
    built, again, unpacked = folder / "built", folder / "again", folder / "unpacked"
    for old in (built, again, unpacked):
        shutil.rmtree(old, ignore_errors=True)
    # hatchling takes the date from here, or from a constant: never from the clock.
    when = session.run("git", "log", "-1", "--format=%ct", external=True, silent=True).strip()
    for out in (built, again):
        session.run("uv", "build", "-q", "--out-dir", out, env={"SOURCE_DATE_EPOCH": when})
    session.run("python", "tests/release.py", built, again)
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    session.run("uv", "tool", "run", "twine", "check", "--strict", wheel, sdist)
    with tarfile.open(sdist) as archive:
        archive.extractall(unpacked, filter="data")
    (source,) = unpacked.iterdir()
    # Nothing is left to import but the wheel.
    shutil.rmtree(source / "divergence_flows")
    session.install(f"divergence_flows[examples] @ {wheel.resolve().as_uri()}", *TESTS, *COVERAGE)
    session.chdir(source)
    session.run("python", "tests/release.py")
    covered(session)


@nox.session
def docs(session: nox.Session) -> None:
    """Builds the documentation in site/, tutorials executed; any warning is an error."""
    session.install("-e", ".[examples]", *PEERS, *DOCS)
    session.run("python", "docs/_build.py", env={"PYTHONPATH": "docs"})


@nox.session
def screenshots(session: nox.Session) -> None:
    """Looks at every page of site/ in chromium, which must be on the path."""
    session.run("python", "docs/_screenshots.py", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Checks style and format, and changes nothing."""
    session.install(*TOOLS)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Checks types."""
    session.install("-e", ".", *TOOLS)
    session.run("pyright", *session.posargs)


@nox.session
def examples(session: nox.Session) -> None:
    """Runs every example in its small form."""
    session.install("-e", ".[examples]", *PEERS)
    for script in sorted((ROOT / "examples").glob("[!_]*.py")):
        session.run("python", str(script), "--fast", *session.posargs, env=HEADLESS)


@nox.session
def bench(session: nox.Session) -> None:
    """Runs the benchmarks named after --, or all, one JSON line a case; options go to each."""
    session.install("-e", ".[examples]", *PEERS)
    given = session.posargs
    options = next((given[i:] for i, each in enumerate(given) if each.startswith("-")), [])
    names = given[: len(given) - len(options)]
    names = names or sorted(path.stem for path in (ROOT / "benchmarks").glob("[!_]*.py"))
    for name, suite in (("simulation", SBIBM), ("information", BMI)):
        if name in names:
            session.install(*suite)
    if {"gan", "gpu"} & {*names}:
        # On Linux PyPI's wheel brings CUDA's libraries; UV_TORCH_BACKEND=cpu gets the one without.
        cuda = ["jax[cuda13]"] if "gpu" in names and shutil.which("nvidia-smi") else []
        session.install(*TORCH, *cuda)
    for name in names:
        # One BLAS thread: two of them fight for the cores with XLA's, and a numpy peer crawls.
        run = ("python", f"benchmarks/{name}.py", *options)
        session.run(*run, env={"OPENBLAS_NUM_THREADS": "1"})
