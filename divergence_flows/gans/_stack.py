"""Several GANs as one, whose leaves have a leading axis that `jax.vmap` takes apart."""

from typing import Any

import equinox as eqx

from .._types import IntScalar
from ..divergences._stack import choice, label_of_choice, stacked
from ._gan import GAN
from ._ipm import IPM

_DERIVED = ("log_t", "inverse", "h", "descends", "measures")


def _choose(members: tuple[GAN | IPM, ...], which: IntScalar) -> GAN | IPM:
    kind, names = (GAN, _DERIVED) if all(isinstance(one, GAN) for one in members) else (IPM, ())
    triple: Any = [choice(members, name, which) for name in ("phi", "psi", "h_t")]
    made = kind(*triple, **{name: choice(members, name, which) for name in names})
    return eqx.tree_at(lambda one: one._label, made, label_of_choice(members))


def stack(*gans: GAN | IPM) -> GAN | IPM:
    r"""Several GANs as one, so that one program plays all games, by `jax.vmap`.

    Every leaf has a leading axis, one entry for each: with
    `games = stack(vanilla(), logit(), least_squares())`, `jax.vmap(train, in_axes=(0, None))(games,
    key)` trains all three at once, and `jax.tree.map(lambda leaf: leaf[i], games)` is the one
    number i, for a program that is compiled once for all. Each has all closed forms of the GAN
    that it is. GANs that differ in numbers alone are stacked as they are. Of others all are
    computed under `vmap` and one is kept: these are elementwise functions of d, cheap beside a
    network.

    Args:
        *gans: The GANs. An `IPM` among them makes the whole an `IPM`, which has no ratio.

    Returns:
        One GAN of them, to be taken apart by `jax.vmap`, or by an index into its leaves.

    Raises:
        ValueError: If there are none, or one is no GAN.
    """
    return stacked("gans.stack", gans, (GAN, IPM), _choose)
