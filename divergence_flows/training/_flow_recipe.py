"""How a time-conditioned ratio is trained: the options, and which make no sense."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
from jaxtyping import Array, Float

from .._checks import check_counts, check_numbers
from .._types import ScalarLike
from ..gans._losses import require_fields
from ._update import Optimizer

FORMS = ("self_consistent", "sequential")


class FlowRecipe(eqx.Module):
    """The arguments of `flow_ratio_step` that stay the same."""

    gan: Any
    optimizer: Optimizer
    ts: Float[Array, " time"]
    form: str
    hold: int
    batch_size: int
    neighbours: ScalarLike
    score_p: Callable[..., Any] | None
    score_weight: ScalarLike
    ema_decay: ScalarLike


def _check_numbers(caller: str, recipe: FlowRecipe) -> None:
    """Refuses numbers out of range."""
    decay: Any = recipe.ema_decay
    weight: Any = recipe.neighbours
    price: Any = recipe.score_weight
    numbers = {
        "ema_decay": (decay, (decay >= 0) & (decay < 1), "a number from 0 (no average) to below 1"),
        "neighbours": (weight, weight >= 0, "0 or more"),
        "score_weight": (price, price >= 0, "0 or more"),
    }
    check_numbers(caller, numbers)


def check_flow(caller: str, recipe: FlowRecipe) -> None:
    """Refuses options that make no step."""
    require_fields(caller, recipe.gan, "phi", "psi", "h_t", "log_t", "inverse")
    check_counts(caller, {"batch_size": recipe.batch_size, "hold": recipe.hold})
    _check_numbers(caller, recipe)
    if recipe.form not in FORMS:
        words = " or ".join(map(repr, FORMS))
        raise ValueError(f"{caller}: `form` is {recipe.form!r}; pass {words}.")
