"""Bad input for clouds: solves, distances, ratios, networks, training; see test_bad_input.py."""

import bad_clouds
import pytest
from bad_input import check_row


@pytest.mark.parametrize("name", bad_clouds.TABLE)
def test_what_a_call_with_bad_input_says(name):
    check_row(bad_clouds.TABLE[name])
