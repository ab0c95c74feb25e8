"""Fixtures for all tests."""

import gc

import equinox as eqx
import jax
import pytest

# Tracing makes many objects and few cycles: at the usual 700, some of the time is spent looking.
gc.set_threshold(50_000, 20, 100)


@pytest.fixture
def x64():
    """Runs one test in float64: `@pytest.mark.usefixtures("x64")`."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module", autouse=True)
def _forget():
    """Forgets a file's programs after it: thousands slow down every compilation, and fill 8 GB."""
    yield
    jax.clear_caches()
    eqx.clear_caches()
    gc.collect()
