"""What a cell of the table of bad input says, and how it is checked, eagerly and under jit."""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import TypeCheckError

# Every row has something to say on every column: a cell, or that the function takes no such thing.
COLUMNS = (
    "wrong rank",
    "wrong dtype",
    "mismatched shapes",
    "empty",
    "nan and inf",
    "not positive definite",
    "h does not increase",
    "no ratio estimator",
    "outside the domain",
    "ts does not increase",
    "key missing",
    "integers",
    "python floats",
    "numpy arrays",
    "wrong value",  # of an option: a count below 1, an unknown word, a negative scale
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
    """What the same call says, not under jit, of these good arguments."""

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


def _message(error: Exception) -> str:
    # Equinox puts the place before, and advice about its debugger after the words.
    return "\n".join([str(error), *getattr(error, "__notes__", [])])


def check(cell: Cell, jit: bool) -> None:
    """Asserts that a cell is true of the library."""
    call = eqx.filter_jit(cell.call) if jit else cell.call
    if not isinstance(cell.verdict, Refused):
        info = cell.verdict
        value = info.value if isinstance(info, Right) else cell.call(*info.arguments)
        found, wanted = jax.tree.leaves(call(*cell.arguments)), jax.tree.leaves(value)
        for one, other in zip(found, wanted, strict=True):
            assert np.shape(one) == np.shape(other)
            np.testing.assert_allclose(one, other, rtol=info.rtol, atol=info.atol, equal_nan=True)
        return
    try:
        jax.block_until_ready(call(*cell.arguments))
    except FRIENDLY as error:
        assert isinstance(error, cell.verdict.error), f"{type(error).__name__}: {error}"
        text = _message(error)
        missing = [word for word in cell.verdict.words if word not in text]
        assert not missing, f"{missing} not in: {text}"
    else:
        raise AssertionError("nothing was refused")


def check_under_plain_jit(cell: Cell) -> None:
    """Asserts that a refusal of content stands, word for word, inside XLA's own error."""
    try:
        jax.block_until_ready(jax.jit(cell.call)(*cell.arguments))
    except jax.errors.JaxRuntimeError as error:
        missing = [word for word in cell.verdict.words if word not in str(error)]
        assert not missing, f"{missing} not in: {error}"
    else:
        raise AssertionError("nothing was refused")
