"""Bad input: each public function says what is wrong with it, or gives the right answer.

The tables stand in bad_*.py, in two files of tests so that two workers share them.
"""

import inspect

import bad_calculus
import bad_clouds
import bad_fits
import bad_games
import bad_gaussians
import bad_losses
import bad_paths
import pytest
from bad_input import check_columns, check_row, check_under_plain_jit
from test_architecture import PLAIN_FUNCTIONS, PUBLIC

PARTS = (bad_calculus, bad_games, bad_losses, bad_gaussians, bad_fits, bad_paths)
SCALARS = {name: row for part in PARTS for name, row in part.TABLE.items()}
TABLE = SCALARS | bad_clouds.TABLE
SHAPES, EMPTY, OPTION = "mismatched shapes", "empty", "wrong value"
RULE = (SHAPES, EMPTY)  # sizes only
ABSENT = {
    **{f"bures.{name}": (OPTION,) for name in bad_gaussians.BURES},
    "bures.submersion": (OPTION, SHAPES),
    "Gaussian": (OPTION,),
    "gaussian_kl": (EMPTY, OPTION),  # of two laws, not of arrays
    "Mixture": (OPTION,),
    **dict.fromkeys(("cubature", "gauss_hermite", "trapezoid"), RULE),
    **dict.fromkeys(("normal_nodes", "sobol_nodes"), RULE),
    # Their parts refuse to be empty.
    **{f"{name}_field": (EMPTY,) for name in ("gaussian", "fisher_rao", "bures", "mixture")},
    "forward_backward_step": (EMPTY,),
    **bad_clouds.ABSENT,
}
# Refused at run time by `raise_if` or `eqx.error_if`: scalars, matrices, clouds, solves, training.
BY_CONTENT = ("GAN", "Nodes", "bures.exp", "dissipation", "integrate", "stl_loss", "transport")


def test_every_public_function_has_a_row():
    assert not set(PLAIN_FUNCTIONS) - set(TABLE)


@pytest.mark.parametrize("name", TABLE)
def test_every_row_has_the_columns_of_what_its_function_takes(name):
    public = PUBLIC.get(name)
    takes = set(inspect.signature(public).parameters) if callable(public) else set()
    check_columns(TABLE[name], ABSENT.get(name, ()), takes)


@pytest.mark.parametrize("name", SCALARS)
def test_what_a_call_with_bad_input_says(name):
    check_row(TABLE[name])


@pytest.mark.parametrize("name", BY_CONTENT)
def test_what_it_says_under_plain_jit(name):
    check_under_plain_jit(TABLE[name])
