"""What tests of pages and examples leave behind: nothing."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest


@pytest.fixture(autouse=True)
def _pictures():
    """Closes a test's figures, and takes back the style that its script used."""
    with mpl.rc_context():
        yield
    plt.close("all")
