"""A path as an animation."""

import functools
from typing import Any

import numpy as np
from jaxtyping import Real

from .._types import AnyArray, AnyCloudLike, ScalarLike
from ..flows._integrate import Times
from ._axes import (
    COLORS,
    Animation,
    Axes,
    Options,
    axes_or_current,
    check_not_traced,
    library,
    on_host,
)
from ._samples import check_drawable, draw, is_images, mosaic, share_limits


def animate(
    path: Real[AnyArray, "time n ..."],
    xs_p: AnyCloudLike | None = None,
    *,
    times: Times | None = None,
    interval: ScalarLike = 100.0,
    ax: Axes = None,
    **options: Options,
) -> Animation:
    """Animates samples on their way: `animate(path, xs_p).save("path.gif", writer="pillow")`.

    Args:
        path: Points of two coordinates, or images, at some times: `info.path` of `transport`, or
            `solution.ys`. Each time is a frame; the last one stays a while.
        xs_p: Points of p, drawn in grey behind.
        times: Times or steps to write above the frames.
        interval: Between two frames [milliseconds].
        ax: Axes to draw into; the current ones by default.
        **options: For matplotlib's `scatter` or `imshow`.

    Returns:
        A `matplotlib.animation.FuncAnimation`: keep it until it is saved or shown.

    Raises:
        ValueError: If samples are neither points of the plane nor images, or inside a trace.
        ImportError: If matplotlib is missing.
    """
    path = on_host("animate", "path", path)
    rows = path.reshape(-1, *path.shape[2:])
    (flat,) = check_drawable("animate", path=rows)
    images = is_images(flat)
    if not images and flat.shape[1:] != (2,):
        words = f"`path` has events of shape {flat.shape[1:]}; pass points of two coordinates"
        raise ValueError(f"animate: {words} or images.")
    clouds = [flat]
    ax = axes_or_current("animate", ax)
    if xs_p is not None and not images:
        _, behind = check_drawable("animate", path=rows, xs_p=xs_p)
        draw(ax, behind, {"color": COLORS["p"], "zorder": 1}, {})
        clouds.append(behind)
    if images:
        options = {"vmin": np.min(flat), "vmax": np.max(flat)} | options
    else:
        share_limits([ax], clouds)
    moving = draw(ax, path[0], {"color": COLORS["moved"]}, options)
    check_not_traced("animate", "times", times)
    frame = functools.partial(_frame, ax, moving, path, times, options)
    frames = [*range(len(path)), *[len(path) - 1] * (len(path) // 4)]
    make = library("animate", "animation").FuncAnimation
    return make(ax.figure, frame, frames=frames, interval=interval, blit=False)


def _frame(
    ax: Axes, moving: Any, path: np.ndarray, times: Any, options: dict[str, Any], i: int
) -> list[Any]:
    """Moves what was drawn to the time number `i`."""
    if is_images(path[i]):
        moving.set_data(mosaic(path[i], None, options))
    else:
        moving.set_offsets(path[i])
    if times is not None:
        ax.set_title(f"t = {float(times[i]):.3g}")
    return [moving]
