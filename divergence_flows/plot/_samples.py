"""Clouds of points, numbers and images, as they are and on their way."""

import math
from typing import Any

import numpy as np
from jaxtyping import Real

from .._checks import check_counts, check_some
from .._types import AnyArray, AnyCloudLike, CloudLike
from ._axes import (
    COLORS,
    Axes,
    AxesRow,
    Options,
    axes_or_current,
    library,
    look,
    on_host,
    row_of_axes,
)

_CHANNELS = (1, 3, 4)


def samples(
    xs: CloudLike,
    *,
    columns: int | None = None,
    ax: Axes = None,
    **options: Options,
) -> Axes:
    """Draws samples: points of the plane as dots, numbers as a histogram, images as a grid.

    Args:
        xs: Points of two coordinates, numbers, or images (h, w), (h, w, c) or (c, h, w) of 1, 3
            or 4 channels.
        columns: Of the grid of images; as many as rows, or nearly, by default.
        ax: Axes to draw into; the current ones by default.
        **options: For matplotlib's `scatter`, `hist` or `imshow`. Colours of images lie between
            `vmin` and `vmax`, the least and largest number by default.

    Returns:
        The axes.

    Raises:
        ValueError: If samples are of no such kind, or inside a trace.
        ImportError: If matplotlib is missing.
    """
    (xs,) = check_drawable("samples", xs=xs)
    check_counts("samples", {"columns": columns})
    ax = axes_or_current("samples", ax)
    draw(ax, xs, {"color": COLORS["moved"]}, options, columns)
    return ax


def before_after(
    xs_q: AnyCloudLike,
    moved: AnyCloudLike,
    xs_p: AnyCloudLike,
    *,
    axes: AxesRow = None,
    **options: Options,
) -> AxesRow:
    """Draws q, what has moved and p side by side; points with those of p behind them, in grey.

    Args:
        xs_q: Samples of q, of a kind that `samples` draws.
        moved: The same samples moved, or others that stand for them.
        xs_p: Samples of p, best some that were held out.
        axes: Three axes; a new figure by default. All get the same limits.
        **options: For matplotlib's `scatter`, `hist` or `imshow`.

    Returns:
        The three axes.

    Raises:
        ValueError: If samples are of no kind that `samples` draws, or inside a trace.
        ImportError: If matplotlib is missing.
    """
    clouds = check_drawable("before_after", xs_q=xs_q, moved=moved, xs_p=xs_p)
    axes = row_of_axes("before_after", axes, 3)
    images = is_images(clouds[0])
    if images:  # one scale of colours
        low, high = min(map(np.min, clouds)), max(map(np.max, clouds))
        options = {"vmin": low, "vmax": high} | options
    for ax, xs, name in zip(axes, clouds, ("q", "moved", "p"), strict=True):
        if not images and name != "p":
            draw(ax, clouds[2], {"color": COLORS["p"], "zorder": 1}, options)
        draw(ax, xs, {"color": COLORS[name]}, options)
        ax.set_title(name)
    if not images:
        share_limits(axes, clouds)
    return axes


def paths(
    path: Real[AnyArray, "time n 2"], *, count: int = 200, ax: Axes = None, **options: Options
) -> Axes:
    """Draws the way of particles in the plane, with dots where they start and where they end.

    Args:
        path: Their places at some times: `info.path` of `transport`, or `solution.ys`.
        count: At most so many particles are drawn, evenly chosen [particles].
        ax: Axes to draw into; the current ones by default.
        **options: For matplotlib's `LineCollection`. One `color`, or one for each particle, is
            that of the dots as well.

    Returns:
        The axes.

    Raises:
        ValueError: If there is nothing to draw, or inside a trace.
        ImportError: If matplotlib is missing.
    """
    path = on_host("paths", "path", path)
    check_some("paths", "path", path[..., 0].ravel())
    check_counts("paths", {"count": count})
    ax = axes_or_current("paths", ax)
    n = path.shape[1]
    some = np.arange(n) if n <= count else np.linspace(0, n - 1, count).astype(int)
    path = path[:, some]
    start, end = COLORS["q"], COLORS["moved"]
    options = look("paths", "lines.Line2D", {}, options)
    if "color" in options:
        given = library("paths", "colors").to_rgba_array(options.pop("color"))
        start = end = given[some] if len(given) == n else given
    style = {"colors": end, "linewidth": 0.7, "alpha": 0.5} | options
    lines = library("paths", "collections").LineCollection(list(path.swapaxes(0, 1)), **style)
    ax.add_collection(lines)
    for xs, color, name in ((path[0], start, "start"), (path[-1], end, "end")):
        ax.scatter(*xs.T, s=7, c=color, linewidths=0, zorder=3, label=name)
    return ax


def check_drawable(caller: str, **clouds: Any) -> list[np.ndarray]:
    """Samples as numpy's arrays; refuses those of which there is no picture."""
    drawn = []
    for name, xs in clouds.items():
        xs = on_host(caller, name, xs)
        check_some(caller, name, xs)
        if xs.shape[1:] not in ((), (1,), (2,)) and not is_images(xs):
            words = f"`{name}` has events of shape {xs.shape[1:]}; draw two coordinates of them, "
            raise ValueError(f"{caller}: {words}numbers, or images (h, w), (h, w, c) or (c, h, w).")
        drawn.append(xs)
    events = {name: xs.shape[1:] for name, xs in zip(clouds, drawn, strict=True)}
    if len(set(events.values())) > 1:
        words = ", ".join(f"`{name}` has events {event}" for name, event in events.items())
        raise ValueError(f"{caller}: {words}; pass samples of one shape.")
    return drawn


def is_images(xs: np.ndarray) -> bool:
    """Whether events are images."""
    event = xs.shape[1:]
    return len(event) == 2 or (len(event) == 3 and (event[2] in _CHANNELS or event[0] in _CHANNELS))


def draw(
    ax: Axes, xs: np.ndarray, style: dict[str, Any], options: dict[str, Any], columns: Any = None
) -> Any:
    """Draws samples as what they are; returns what moves in an animation."""
    if is_images(xs):
        ax.set_axis_off()
        return ax.imshow(mosaic(xs, columns, options), **({"cmap": "gray"} | options))
    if xs.size == len(xs):
        style = style | {"bins": 40, "density": True, "histtype": "step", "linewidth": 1.5}
        return ax.hist(np.ravel(xs), **look("samples", "patches.Polygon", style, options))[2]
    style = style | {"s": min(12.0, max(3.0, 4000 / len(xs))), "linewidth": 0, "alpha": 0.8}
    options = look("samples", "collections.PathCollection", {}, options)
    if "c" in options:  # numbers for a colour map, in the place of a colour
        style.pop("color")
    return ax.scatter(*xs.T, **({"zorder": 2} | style | options))


def mosaic(xs: np.ndarray, columns: int | None, options: dict[str, Any]) -> np.ndarray:
    """Images side by side, row by row, with a transparent pixel between them."""
    if xs.ndim == 4 and xs.shape[3] not in _CHANNELS:
        xs = np.moveaxis(xs, 1, 3)
    n, height, width = xs.shape[:3]
    xs = xs.reshape(n, height, width, -1)
    if xs.shape[3] > 1:
        low, high = options.get("vmin", np.min(xs)), options.get("vmax", np.max(xs))
        opaque = np.ones_like(xs[..., :1])
        xs = np.concatenate(
            [(xs[..., :3] - low) / ((high - low) or 1.0), xs[..., 3:], opaque], axis=3
        )
        xs = np.clip(xs[..., :4], 0.0, 1.0)  # as matplotlib does with numbers of one channel
    columns = columns or math.ceil(math.sqrt(n))
    rows = -(-n // columns)
    empty = np.nan if xs.shape[3] == 1 else 0.0
    canvas = np.full((rows * (height + 1), columns * (width + 1), xs.shape[3]), empty)
    for i, image in enumerate(xs):
        top, left = i // columns * (height + 1), i % columns * (width + 1)
        canvas[top : top + height, left : left + width] = image
    return np.squeeze(canvas[:-1, :-1], axis=2) if xs.shape[3] == 1 else canvas[:-1, :-1]


def share_limits(axes: AxesRow, clouds: list[np.ndarray]) -> None:
    """Gives axes the same limits, around all points."""
    both = np.concatenate([np.reshape(xs, (len(xs), -1)) for xs in clouds])
    low, high = np.min(both, axis=0), np.max(both, axis=0)
    margin = 0.05 * (high - low)
    for ax in axes:
        ax.set_box_aspect(1)
        ax.set_xlim(low[0] - margin[0], high[0] + margin[0])
        if len(low) == 2:
            ax.set_ylim(low[1] - margin[1], high[1] + margin[1])
