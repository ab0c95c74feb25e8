"""Pictures of moving samples: before, the path, after; images for digits, dots for the rest."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.animation import FuncAnimation, PillowWriter

BLUE, GREY = "#1f5fa8", "#c8c8c8"
IMAGE = 28


def plane(problem):
    """How to see samples in the plane: as they are, or along the target's principal axes."""
    target = problem.train
    dim = target.shape[1]
    if dim == 2:
        return np.zeros(2), np.eye(2), ("x", "y")
    if dim == 1:
        return np.zeros(1), np.array([[1.0]]), ("x", "")
    mean = target.mean(axis=0)
    rows = np.linalg.svd(target - mean, full_matrices=False)[2][:2]
    return mean, rows.T, ("first principal axis of the target", "second")


def flat(view, xs):
    """Samples in the plane; those on a line are spread at random along y."""
    mean, axes, _ = view
    out = (np.asarray(xs) - mean) @ axes
    if out.shape[1] == 1:
        jitter = np.random.default_rng(0).uniform(-0.4, 0.4, size=out.shape)
        out = np.concatenate([out, jitter], axis=1)
    return out


def _limits(*clouds):
    both = np.concatenate(clouds)
    low, high = np.quantile(both, 0.001, axis=0), np.quantile(both, 0.999, axis=0)
    middle, half = (low + high) / 2, 0.56 * np.max(high - low) + 1e-6
    return middle - half, middle + half


def _frame(axis, low, high, title, labels):
    axis.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), title=title)
    axis.set_xlabel(labels[0])
    axis.set_ylabel(labels[1])
    axis.set_box_aspect(1)
    axis.spines[["top", "right"]].set_visible(False)


def _dots(axis, xs, color, label):
    axis.scatter(*xs.T, s=4, color=color, alpha=0.7, linewidths=0, label=label, rasterized=True)


def draw_clouds(file, problem, path, info, log_r=None):
    """Writes before, path and after in one row; the learned log ratio too, if there is one."""
    view = plane(problem)
    target, clouds = flat(view, problem.held[:1024]), [flat(view, xs) for xs in path]
    low, high = _limits(target, clouds[0], clouds[-1])
    count = 3 if log_r is None else 4
    figure, axes = plt.subplots(1, count, figsize=(4.3 * count, 4.3), layout="constrained")
    titles = ("before", "path", f"after: {info}")
    for axis, title in zip(axes, titles, strict=False):
        _dots(axis, target, GREY, "target, held out")
        _frame(axis, low, high, title, view[2])
    _dots(axes[0], clouds[0], BLUE, "particles")
    _dots(axes[2], clouds[-1], BLUE, "particles")
    lines = np.stack(clouds)[:, :: max(1, len(clouds[0]) // 120)]
    axes[1].plot(lines[..., 0], lines[..., 1], color=BLUE, alpha=0.45, linewidth=0.7)
    axes[1].scatter(*lines[-1].T, s=5, color=BLUE, linewidths=0, zorder=3)
    axes[0].legend(loc="upper right", markerscale=3, framealpha=0.9, fontsize=8)
    if log_r is not None:
        _ratio_map(figure, axes[3], low, high, log_r, view[2])
    figure.savefig(file, dpi=130, bbox_inches="tight")
    plt.close(figure)


def _ratio_map(figure, axis, low, high, log_r, labels):
    grids = np.meshgrid(*(np.linspace(a, b, 160) for a, b in zip(low, high, strict=True)))
    values = log_r(np.stack([grid.ravel() for grid in grids], axis=1)).reshape(grids[0].shape)
    levels = np.linspace(-4, 4, 17)
    filled = axis.contourf(*grids, values, levels, cmap="RdBu", extend="both")
    axis.contour(*grids, values, [0.0], colors="black", linewidths=0.8)
    figure.colorbar(filled, ax=axis, label="log p/q [nats]", ticks=[-4, -2, 0, 2, 4])
    _frame(axis, low, high, "learned log ratio before the move", labels)


def _mosaic(images, across):
    images = np.asarray(images)[: across * across]
    side = int(np.sqrt(len(images)))
    tiles = images[: side * side].reshape(side, side, IMAGE, IMAGE)
    return tiles.transpose(0, 2, 1, 3).reshape(side * IMAGE, side * IMAGE)


def _show(axis, picture, title):
    axis.imshow(picture, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
    axis.set_title(title)
    axis.axis("off")


def draw_digits(file, problem, path, info):
    """Writes mosaics of digits: before, a few paths, after, and real ones that were held out."""
    figure, axes = plt.subplots(1, 4, figsize=(17.6, 4.6), layout="constrained")
    figure.get_layout_engine().set(wspace=0.06, w_pad=0.1)
    when = np.unique(np.linspace(0, len(path) - 1, 8).astype(int))
    rows = np.stack([path[i][: len(when)] for i in when], axis=1)
    rows = rows.reshape(*rows.shape[:2], IMAGE, IMAGE).transpose(0, 2, 1, 3)
    _show(axes[0], _mosaic(path[0], 8), "before")
    _show(axes[1], rows.reshape(rows.shape[0] * IMAGE, -1), "path, left to right")
    _show(axes[2], _mosaic(path[-1], 8), f"after: {info}")
    _show(axes[3], _mosaic(problem.held, 8), "target, held out")
    figure.savefig(file, dpi=110, bbox_inches="tight")
    plt.close(figure)


def _clouds_at(i, dots, clouds):
    dots.set_offsets(clouds[i])
    return (dots,)


def _mosaic_at(i, shown, path):
    shown.set_data(_mosaic(path[i], 10))
    return (shown,)


def animate(file, problem, path, is_images):
    """Writes the path as a GIF."""
    figure, axis = plt.subplots(figsize=(4.5, 4.5), layout="constrained")
    if is_images:
        _show(axis, _mosaic(path[0], 10), "")
        update, args = _mosaic_at, (axis.images[0], path)
    else:
        view = plane(problem)
        target, clouds = flat(view, problem.held[:1024]), [flat(view, xs) for xs in path]
        _dots(axis, target, GREY, "target")
        _dots(axis, clouds[0], BLUE, "particles")
        _frame(axis, *_limits(target, clouds[0], clouds[-1]), "", view[2])
        update, args = _clouds_at, (axis.collections[1], clouds)
    frames = [*range(len(path)), *[len(path) - 1] * 8]
    film = FuncAnimation(figure, update, frames=frames, fargs=args, blit=False)
    film.save(file, writer=PillowWriter(fps=10))
    plt.close(figure)
