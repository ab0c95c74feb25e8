"""What a cell of the table of bad input says, and how a row of cells is checked."""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import TypeCheckError

# A row is a dictionary from columns to lists of cells. It has each of these columns, empty where
# the function takes no such thing, or the file's ABSENT names the column.
REQUIRED = (
    "wrong rank",
    "wrong dtype",
    "mismatched shapes",
    "empty",
    "nan and inf",
    "wrong value",  # of an option: a count below 1, an unknown word, a negative scale
)
# One conversion serves many functions: one row for each conversion has these.
CONVERSIONS = ("integers", "python floats", "numpy arrays")
# Only few functions take a matrix, an h, a pair (phi, psi); `ts` and `key` stand in signatures.
COLUMNS = (
    *REQUIRED,
    *CONVERSIONS,
    "not positive definite",
    "h does not increase",
    "no ratio estimator",
    "outside the domain",
    "ts does not increase",
    "key missing",
)
# What a user may see. All else (a tracer's complaint, XLA's, a bare shape error) is a defect.
FRIENDLY = (TypeCheckError, ValueError, eqx.EquinoxRuntimeError, TypeError)


@dataclasses.dataclass(frozen=True)
class Refused:
    """An error of this kind, whose message holds these words: function, argument, remedy."""

    error: type[Exception]
    words: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Right:
    """The right answer: a closed form, or what the same call says of good float arrays."""

    value: Any
    rtol: float = 1e-5
    atol: float = 1e-6


@dataclasses.dataclass(frozen=True)
class Same:
    """What the same call says of these good arguments."""

    arguments: tuple[Any, ...]
    rtol: float = 1e-5
    atol: float = 1e-6


@dataclasses.dataclass(frozen=True)
class Cell:
    """One call, what must come of it; `jit` says in words why it cannot stand under jit."""

    call: Callable[..., Any]
    arguments: tuple[Any, ...]
    verdict: Refused | Right | Same
    jit: str = ""


def by_type(function: str, argument: str) -> Refused:
    """The hook's refusal: it names function, argument, value and the type that is asked."""
    words = (f"{function}.", f"parameter '{argument}'", "Actual value", "Expected type")
    return Refused(TypeCheckError, words)


def by_value(function: str, *words: str) -> Refused:
    """A ValueError of ours: it names the function first."""
    return Refused(ValueError, (f"{function}: ", *words))


def by_content(function: str, *words: str) -> Refused:
    """A refusal of what an array holds, which under jit is known only at run time."""
    return Refused(eqx.EquinoxRuntimeError, (f"{function}: ", *words))


def without_key() -> Refused:
    """Python's own word; the function stands in the line that calls it."""
    return Refused(TypeError, ("missing", "'key'"))


def refused_by_content(cell: Cell) -> bool:
    """Whether an error is raised at run time, by `eqx.error_if`."""
    return getattr(cell.verdict, "error", None) is eqx.EquinoxRuntimeError


def check(cell: Cell, jit: bool) -> None:
    """Asserts that a cell is true of the library."""
    call, verdict = eqx.filter_jit(cell.call) if jit else cell.call, cell.verdict
    if not isinstance(verdict, Refused):
        value = verdict.value if isinstance(verdict, Right) else call(*verdict.arguments)
        found, wanted = jax.tree.leaves(call(*cell.arguments)), jax.tree.leaves(value)
        for one, other in zip(found, wanted, strict=True):
            assert np.shape(one) == np.shape(other)
            np.testing.assert_allclose(
                one, other, rtol=verdict.rtol, atol=verdict.atol, equal_nan=True
            )
        return
    try:
        jax.block_until_ready(call(*cell.arguments))
    except FRIENDLY as error:
        # Equinox puts the place before the words, and advice about its debugger after them.
        text = "\n".join([str(error), *getattr(error, "__notes__", [])])
        assert isinstance(error, verdict.error), f"{type(error).__name__}: {error}"
        missing = [word for word in verdict.words if word not in text]
        assert not missing, f"{missing} not in: {text}"
    else:
        raise AssertionError("nothing was refused")


def modes(column: str, cell: Cell) -> tuple[bool, ...]:
    """Eagerly (False), under jit (True), or both.

    An error raised while tracing is the same code in both. An answer needs one: test_transforms.py
    compares the two. Numbers and numpy arrays are converted before a trace.
    """
    if cell.jit:
        return (False,)
    if isinstance(cell.verdict, Refused):
        return (False, True) if refused_by_content(cell) else (False,)
    return (column not in ("python floats", "numpy arrays"),)


def check_row(row: dict[str, list[Cell]]) -> None:
    """Asserts that all cells of a row are true, and shows those that are not."""
    wrong = []
    for column, cells in row.items():
        for i, cell in enumerate(cells):
            for jit in modes(column, cell):
                try:
                    check(cell, jit)
                except Exception as error:  # one wrong cell hides no other
                    kind = type(error).__name__
                    wrong.append(f"{column}, {i}, {'jit' if jit else 'eager'}: {kind}: {error}")
    assert not wrong, "\n\n".join(wrong)


def check_columns(row: dict[str, list[Cell]], absent: tuple[str, ...], takes: set[str]) -> None:
    """Asserts that a row has the columns of what its function takes."""
    assert set(row) <= set(COLUMNS) and not set(row) & set(absent)
    assert set(REQUIRED) <= {*row, *absent}
    assert "ts" not in takes or "ts does not increase" in row
    assert "key" not in takes or "key missing" in row


def check_under_plain_jit(row: dict[str, list[Cell]]) -> None:
    """Asserts that a refusal of content stands, word for word, inside XLA's own error."""
    cell = next(
        cell
        for cell in (cell for cells in row.values() for cell in cells)
        if refused_by_content(cell) and not cell.jit and all(map(eqx.is_array, _leaves(cell)))
    )
    try:
        jax.block_until_ready(jax.jit(cell.call)(*cell.arguments))
    except jax.errors.JaxRuntimeError as error:
        missing = [word for word in cell.verdict.words if word not in str(error)]
        assert not missing, f"{missing} not in: {error}"
    else:
        raise AssertionError("nothing was refused")


def _leaves(cell: Cell) -> list[Any]:
    return jax.tree.leaves(cell.arguments)
