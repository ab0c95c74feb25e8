"""Several GANs as one, whose leaves have a leading axis that `jax.vmap` takes apart."""

from typing import Any

import equinox as eqx

from .._types import IntScalar
from ..divergences._stack import choice, label_of_choice, stacked
from ._gan import GAN
from ._ipm import IPM
from ._pair import PairGAN

_DERIVED = ("log_t", "inverse", "h", "descends", "measures")


Game = GAN | IPM | PairGAN


def _choose(members: tuple[Game, ...], which: IntScalar) -> Game:
    kinds = {type(one) for one in members}
    kind, names = (GAN, _DERIVED) if kinds == {GAN} else (IPM, ())
    players: tuple[str, ...] = ("phi", "psi", "h_t")
    if PairGAN in kinds:
        kind, players = PairGAN, ("critic", "generator")
    functions: Any = [choice(members, name, which) for name in players]
    made = kind(*functions, **{name: choice(members, name, which) for name in names})
    return eqx.tree_at(lambda one: one._label, made, label_of_choice(members))


def stack(*gans: GAN | IPM | PairGAN) -> GAN | IPM | PairGAN:
    r"""Several GANs as one, so that one program plays all games, by `jax.vmap`.

    Every leaf has a leading axis, one entry for each: with
    `games = stack(vanilla(), logit(), least_squares())`, `jax.vmap(train, in_axes=(0, None))(games,
    key)` trains all three at once, and `jax.tree.map(lambda leaf: leaf[i], games)` is the one
    number i, for a program that is compiled once for all. Each has all closed forms of the GAN
    that it is. GANs that differ in numbers alone are stacked as they are. Of others all are
    computed under `vmap` and one is kept: these are elementwise functions of d, cheap beside a
    network.

    Args:
        *gans: The GANs. An `IPM` among them makes the whole an `IPM`, which has no ratio; a
            `PairGAN` has other functions, and stands with its like alone.

    Returns:
        One GAN of them, to be taken apart by `jax.vmap`, or by an index into its leaves.

    Raises:
        ValueError: If there are none, one is no GAN, or only some are a `PairGAN`.
    """
    if 0 < sum(isinstance(one, PairGAN) for one in gans) < len(gans):
        words = "a PairGAN has no phi and psi, and others have no functions of pairs"
        raise ValueError(f"gans.stack: {words}; pass games of pairs alone, or none.")
    return stacked("gans.stack", gans, Game, _choose)
