"""Bad input: each public function says what is wrong with it, or gives the right answer."""

import bad_clouds
import bad_scalars
import pytest
from bad_input import COLUMNS, check
from test_architecture import PLAIN_FUNCTIONS

TABLE = {**bad_scalars.TABLE, **bad_clouds.TABLE}
ABSENT = {**bad_scalars.ABSENT, **bad_clouds.ABSENT}
CELLS = {
    f"{name}, {column}, {i}": cell
    for name, row in TABLE.items()
    for column, cells in row.items()
    for i, cell in enumerate(cells)
}
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
