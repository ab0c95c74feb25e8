"""Bad input: each public function says what is wrong with it, or gives the right answer."""

import bad_clouds
import bad_scalars
import equinox as eqx
import jax
import pytest
from bad_input import COLUMNS, check, check_under_plain_jit
from test_architecture import PLAIN_FUNCTIONS

TABLE = {**bad_scalars.TABLE, **bad_clouds.TABLE}
ABSENT = {**bad_scalars.ABSENT, **bad_clouds.ABSENT}
CELLS = {
    f"{name}, {column}, {i}": cell
    for name, row in TABLE.items()
    for column, cells in row.items()
    for i, cell in enumerate(cells)
}


# Refused at run time by one of two doors, `refuse` and `eqx.error_if`: scalars, matrices, clouds,
# solves and training; arrays only, as plain `jax.jit` wants them.
BY_CONTENT = (
    "GAN",
    "Nodes",
    "bures.exp",
    "dissipation",
    "integrate",
    "kde_log_prob",
    "median_bandwidth",
    "stl_loss",
    "transport",
    "wasserstein2",
)


def refused_by_content(name):
    """The first such cell of a row."""
    for cell in (cell for cells in TABLE[name].values() for cell in cells):
        arrays = all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(cell.arguments))
        refused = getattr(cell.verdict, "error", None) is eqx.EquinoxRuntimeError
        if arrays and refused and not cell.jit:
            return cell
    raise LookupError(name)


UNDER_JIT = {where: cell for where, cell in CELLS.items() if not cell.jit}


def test_every_public_function_has_a_row():
    assert not set(PLAIN_FUNCTIONS) - set(TABLE)


@pytest.mark.parametrize("name", TABLE)
def test_every_row_speaks_of_every_column_once(name):
    assert sorted([*TABLE[name], *ABSENT[name]]) == sorted(COLUMNS)


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_what_a_call_with_bad_input_says(cell):
    check(cell, jit=False)


@pytest.mark.parametrize("cell", UNDER_JIT.values(), ids=UNDER_JIT)
def test_what_it_says_under_jit(cell):
    check(cell, jit=True)


@pytest.mark.parametrize("name", BY_CONTENT)
def test_what_it_says_under_plain_jit(name):
    check_under_plain_jit(refused_by_content(name))
