"""Loss curves, with what a discriminator says once p and q are one."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Real

from .._checks import check_some
from .._types import AnyArray
from ..gans._gan import GAN
from ..gans._ipm import IPM
from ..gans._losses import discriminator_loss, generator_loss
from ..gans._pair import PairGAN
from ..training._train_flow_ratio import FlowRatioInfo
from ..training._train_gan import TrainInfo
from ..training._transport import TransportInfo
from ._axes import Axes, Options, axes_or_current, look, on_host
from ._names import AT, name_of, slopes

# What a report holds: the label of a curve, its field, and the player whose loss it is.
_FIELDS = {
    TransportInfo: (("discriminator", "losses", "d"),),
    TrainInfo: (("discriminator", "d_losses", "d"), ("generator", "g_losses", "g")),
    FlowRatioInfo: (("p against q", "losses", "d"), ("neighbours", "neighbour_losses", "d")),
}
_BAND = (0.1, 0.9)


def losses(
    info: TransportInfo
    | TrainInfo
    | FlowRatioInfo
    | Mapping[str, Real[AnyArray, "... steps"]]
    | Real[AnyArray, "... steps"],
    *,
    gan: GAN | IPM | PairGAN | None = None,
    ax: Axes = None,
    **options: Options,
) -> Axes:
    """Draws losses over steps; of many seeds the median, and the band of the middle 80 %.

    Args:
        info: What `transport`, `train_gan` or `train_flow_ratio` reports, also vmapped over seeds;
            or losses themselves, the steps on the last axis, or several of them by name.
        gan: The game. Its divergences are named in the legend, and a thin line shows each player's
            loss at p = q, which is 2 log 2 for the discriminator of a logistic pair [nats].
        ax: Axes to draw into; the current ones by default.
        **options: For matplotlib's `plot`.

    Returns:
        The axes.

    Raises:
        ValueError: If there are no losses, or inside a trace.
        ImportError: If matplotlib is missing.
    """
    ax = axes_or_current("losses", ax)
    names = _names(gan)
    for label, values, player in _curves_of(info):
        values = on_host("losses", "info", values)
        check_some("losses", "info", values)
        rows = values.reshape(-1, values.shape[-1])
        steps = np.arange(rows.shape[1])
        label += names.get(player, "")
        band = None
        if len(rows) > 1:
            # A seed that diverged is NaN from there on: the others are shown, and counted.
            whole = rows[np.all(np.isfinite(rows), axis=1)]
            if len(whole) == 0:
                raise ValueError("losses: `info` has no seed of finite losses; all diverged.")
            label += f", median of {len(whole)} seeds"
            label += f" ({len(rows) - len(whole)} diverged)" if len(whole) < len(rows) else ""
            rows, *band = np.split(np.quantile(whole, (0.5, *_BAND), axis=0), 3)
        style = look("losses", "lines.Line2D", {"linewidth": 1.0, "label": label}, options)
        (line,) = ax.plot(steps, rows[0], **style)
        if band:
            low, high = band
            ax.fill_between(steps, low[0], high[0], color=line.get_color(), alpha=0.25, linewidth=0)
        if gan is not None and player:
            limit = _at_the_match(gan, player)
            style = {"color": line.get_color(), "linewidth": 0.8, "linestyle": ":"}
            ax.axhline(limit, label=f"the same at p = q: {limit:.3f}", **style)
    ax.set(xlabel="step", ylabel="loss")
    if ax.get_legend_handles_labels()[1]:
        ax.legend()
    return ax


def _curves_of(info: Any) -> list[tuple[str, Any, str]]:
    """Label, losses and player of every curve."""
    for kind, fields in _FIELDS.items():
        if isinstance(info, kind):
            return [(label, getattr(info, field), player) for label, field, player in fields]
    if isinstance(info, Mapping):
        return [(label, values, "") for label, values in info.items()]
    return [("loss", info, "d")]


def _names(gan: GAN | IPM | PairGAN | None) -> dict[str, str]:
    """What is said of each player's divergence."""
    if not isinstance(gan, GAN):
        return {}
    found = slopes(gan, jnp.asarray(AT, float))
    names = {"d": name_of(np.asarray(found.measured)), "g": name_of(np.asarray(found.descended))}
    verbs = {"d": "measures", "g": "descends"}
    return {player: f", {verbs[player]} {name}" for player, name in names.items() if name}


def _at_the_match(gan: GAN | IPM | PairGAN, player: str) -> float:
    """A player's loss where p = q and the discriminator is at its optimum."""
    d = gan.inverse(jnp.zeros(())) if isinstance(gan, GAN) else jnp.zeros(())
    loss = generator_loss if player == "g" else discriminator_loss
    return float(loss(gan, d, d)) + 0.0  # never -0
