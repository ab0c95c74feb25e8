"""Fixtures for all tests."""

import jax
import pytest


@pytest.fixture
def x64():
    """Runs one test in float64: `@pytest.mark.usefixtures("x64")`."""
    with jax.enable_x64(True):
        yield
