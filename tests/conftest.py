"""Fixtures for all tests."""

import gc

import equinox as eqx
import jax
import pytest

from divergence_flows import _types

# Tracing makes many objects and few cycles: at the usual 700, some of the time is spent looking.
gc.set_threshold(50_000, 20, 100)


@pytest.fixture
def x64():
    """Runs one test in float64: `@pytest.mark.usefixtures("x64")`."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def own_pictures():
    """Closes the figures of a script that a test runs, and takes back the style that it used."""
    import matplotlib.pyplot as plt  # half a second, which few files need

    with plt.rc_context():
        yield
    plt.close("all")


@pytest.fixture(scope="module", autouse=True)
def _forget():
    """Forgets a file's programs after it: thousands slow down every compilation, and fill 8 GB."""
    yield
    jax.clear_caches()
    eqx.clear_caches()
    gc.collect()


@pytest.fixture(scope="session", autouse=True)
def _op_by_op():
    """Leaves calls of f, h and their relatives outside of `jit` uncompiled.

    The suite makes thousands of them, each once. `test_transforms.py` compares every function with
    its compiled program, `test_outside_of_jit.py` has the calls as users make them.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_types, "_in_one_program", _types._in_one_program.__wrapped__)
        yield
