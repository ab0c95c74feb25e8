"""Where pictures go: matplotlib on demand, axes in and out, numbers to draw, one palette."""

import importlib
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import PyTree

from .._checks import array_of
from .._types import traced

# matplotlib's axes, several of them, and animations; their types are known once it is imported.
Axes = Any
AxesRow = Any
Animation = Any
Options = Any  # keyword arguments that are handed on to matplotlib

COLORS = {"p": "#B0B0B0", "q": "#D55E00", "moved": "#0072B2"}
"""Colours of p, of q and of what has moved from q to p, the same in every picture."""

MISSING = 'pictures are drawn by matplotlib; pip install "divergence_flows[plot]".'


def library(caller: str, part: str) -> ModuleType:
    """A module of matplotlib, imported when something is drawn."""
    try:
        return importlib.import_module(f"matplotlib.{part}")
    except ModuleNotFoundError:
        raise ImportError(f"{caller}: {MISSING}") from None


def axes_or_current(caller: str, ax: Axes, name: str = "ax") -> Axes:
    """The axes that were passed, or the current ones."""
    if ax is None:
        return library(caller, "pyplot").gca()
    if not isinstance(ax, library(caller, "axes").Axes):
        words = f"`{name}` is a {type(ax).__name__}; pass axes of matplotlib, or None."
        raise ValueError(f"{caller}: {words}")
    return ax


def row_of_axes(caller: str, axes: AxesRow, count: int) -> np.ndarray:
    """So many axes that were passed, some of them None, or a new figure's."""
    if axes is None:
        size = (3.4 * count, 3.4)
        plt = library(caller, "pyplot")
        return plt.subplots(1, count, figsize=size, layout="constrained")[1]
    row = np.ravel(np.asarray(axes, object))
    if len(row) != count:
        words = f"`axes` holds {len(row)}; pass {count} axes, as `plt.subplots(1, {count})` makes."
        raise ValueError(f"{caller}: {words}")
    for ax in row:
        if ax is not None:
            axes_or_current(caller, ax, "axes")
    return row


def on_host(caller: str, name: str, values: Any) -> np.ndarray:
    """Numbers to draw, as an array of numpy."""
    check_not_traced(caller, name, values)
    return np.asarray(array_of(caller, name, values), float)


def check_not_traced(caller: str, name: str, tree: PyTree) -> None:
    """Refuses what is inside a trace, and has no numbers yet."""
    if traced(tree):
        words = "is inside `jit`, `vmap` or another transform and has no numbers yet"
        raise ValueError(f"{caller}: `{name}` {words}; return it, and draw it outside.")


def look(caller: str, artist: str, defaults: dict[str, Any], options: dict[str, Any]) -> Any:
    """Keyword arguments of an artist such as "lines.Line2D": options, under any of their names."""
    module, name = artist.split(".")
    given = library(caller, "cbook").normalize_kwargs(
        options, getattr(library(caller, module), name)
    )
    return defaults | given
