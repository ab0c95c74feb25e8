"""Laws in the plane: ellipses of Gaussians, mixtures and their flows, and contours of a density."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import check_counts, scalar_valued
from .._types import LogDensity, ScalarLike
from ..gaussians._gaussian import Gaussian
from ..gaussians._mixture import Mixture
from ._axes import COLORS, Axes, Options, axes_or_current, library, look, on_host

_Span = tuple[ScalarLike, ScalarLike]
_TURN = np.linspace(0.0, 2 * np.pi, 129)
_CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1)
# Standard deviations of a Gaussian whose density falls as far below its maximum.
_DEPTHS = np.arange(3.0, -0.1, -0.5)


def ellipses(
    laws: Gaussian | Mixture,
    *,
    levels: Sequence[ScalarLike] = (1.0, 2.0),
    coordinates: tuple[int, int] = (0, 1),
    count: int = 6,
    ax: Axes = None,
    **options: Options,
) -> Axes:
    r"""Draws ellipses of Gaussians, or of a mixture's components, with a dot in their middle.

    The ellipse of level s holds the points $\mu + s S z$, |z| = 1, of the marginal law of two
    coordinates; inside of it lies $1 - e^{-s^2/2}$ of the mass. A flow of Gaussians, with a time
    axis in front, is drawn at some of its times, later ones stronger, and so is the way of its
    means.

    Args:
        laws: A Gaussian or a mixture of at least two dimensions, or many along one time axis, as
            `integrate` makes them.
        levels: How many standard deviations, one ellipse each.
        coordinates: The two that span the picture.
        count: At most so many times are drawn, evenly chosen.
        ax: Axes to draw into; the current ones by default.
        **options: For matplotlib's `LineCollection`.

    Returns:
        The axes.

    Raises:
        ValueError: If there are no two such coordinates, or inside a trace.
        ImportError: If matplotlib is missing.
    """
    check_counts("ellipses", {"count": count})
    mixture = isinstance(laws, Mixture)
    means, factors = (on_host("ellipses", "laws", part) for part in _moments(laws))
    axes = means.ndim - 1 - mixture
    if axes > 1 or means.shape[-1] < 2 or not all(i < means.shape[-1] for i in coordinates):
        words = f"`laws` has means of shape {means.shape}; pass laws of two dimensions or more"
        raise ValueError(f"ellipses: {words}, along at most one axis of time, and two of these.")
    ax = axes_or_current("ellipses", ax)
    # Times, then components; rows of S are a factor of the marginal covariance.
    means = means.reshape(-1, means.shape[-2] if mixture else 1, means.shape[-1])
    means = means[..., list(coordinates)]
    factors = factors.reshape(*means.shape[:2], *factors.shape[-2:])[..., list(coordinates), :]
    roots = np.linalg.qr(factors.swapaxes(-1, -2))[1].swapaxes(-1, -2)
    times = np.unique(np.linspace(0, len(means) - 1, min(count, len(means))).astype(int))
    rings = [
        mean + level * _CIRCLE @ root.T
        for i in times
        for mean, root in zip(means[i], roots[i], strict=True)
        for level in levels
    ]
    options = look("ellipses", "lines.Line2D", {"color": COLORS["moved"]}, options)
    color = options.pop("color")
    shades = np.linspace(0.35, 1.0, len(times)) if len(times) > 1 else np.ones(1)
    alphas = np.repeat(shades, len(levels) * means.shape[1])
    to_rgba = library("ellipses", "colors").to_rgba
    style = {"colors": [to_rgba(color, alpha) for alpha in alphas], "linewidth": 1.5}
    make = library("ellipses", "collections").LineCollection
    ax.add_collection(make(rings, **(style | options)))
    if len(means) > 1:
        way = {"color": color, "linestyle": options.get("linestyle", "-"), "linewidth": 1.0}
        ax.plot(*np.moveaxis(means, 2, 0), **way)
    ax.scatter(*means[-1].T, s=20, color=color, linewidths=0, zorder=3)
    return ax


def _moments(laws: Gaussian | Mixture) -> tuple[Any, Any]:
    """Means and factors of covariances, with at least as many columns as rows."""
    if isinstance(laws, Gaussian):
        return laws.mean, laws.matrix
    own = Gaussian(laws.means, laws.scales).matrix
    return laws.means, own if laws.factors is None else jnp.concatenate([laws.factors, own], -1)


def density(
    log_p: LogDensity,
    box: tuple[_Span, _Span] | None = None,
    *,
    points: int = 150,
    ax: Axes = None,
    **options: Options,
) -> Axes:
    """Fills contours of a density on the plane, in grey.

    By default they lie where a Gaussian would be 3, 2.5, ... standard deviations from its mean,
    below the greatest density in the box; the density need not be normalised.

    Args:
        log_p: Log density of one point of two coordinates, up to a constant [nats].
        box: The least and largest x, and of y; what the axes show by default.
        points: Of the grid, along x and along y.
        ax: Axes to draw into; the current ones by default.
        **options: For matplotlib's `contourf`; `levels` are parts of the greatest density.

    Returns:
        The axes.

    Raises:
        ValueError: If log_p returns no number, or is nowhere finite in the box; if there is no
            box; if inside a trace.
        ImportError: If matplotlib is missing.
    """
    check_counts("density", {"points": points})
    ax = axes_or_current("density", ax)
    if box is None:
        if not ax.has_data():
            words = "pass `box`, ((least x, largest x), (least y, largest y)): the axes are empty."
            raise ValueError(f"density: {words}")
        box = ax.get_xlim(), ax.get_ylim()
    sides = [np.linspace(*ends, points) for ends in box]
    grid = jnp.asarray(np.stack(np.meshgrid(*sides), axis=-1).reshape(-1, 2), float)
    values = jax.vmap(scalar_valued("density", "log_p", log_p))(grid)
    values = on_host("density", "log_p", values).reshape(points, points)
    finite = np.isfinite(values)
    if not np.any(finite):
        raise ValueError("density: `log_p` is nowhere finite in the box; pass another `box`.")
    height = np.exp(values - np.max(values, where=finite, initial=-np.inf))
    to_rgba = library("density", "colors").to_rgba
    shades = [to_rgba(COLORS["p"], alpha) for alpha in np.linspace(0.15, 0.9, len(_DEPTHS) - 1)]
    style: dict[str, Any] = {"levels": np.exp(-0.5 * _DEPTHS**2), "zorder": 0}
    if "cmap" not in options and "levels" not in options:
        style["colors"] = shades
    ax.contourf(*sides, height, **(style | options))
    return ax
