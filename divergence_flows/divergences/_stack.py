"""Several divergences as one, whose leaves have a leading axis that `jax.vmap` takes apart."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import PyTree

from .._types import Function, IntScalar, ScalarFn, Values, as_elementwise
from ._divergence import Divergence
from ._label import Label

_FIELDS = ("log_f", "h", "h_prime", "activation", "conjugate", "standard", "_of_ratio")


def _chosen(which: IntScalar, functions: tuple[ScalarFn, ...], x: Values) -> Values:
    """One of some functions. Under `vmap` all are computed, and no gradient leaks from others."""
    return jax.lax.switch(which, functions, x)


def choice(members: tuple[Any, ...], name: str, which: IntScalar) -> ScalarFn:
    """The function of this name of the member whose number is an array."""
    return as_elementwise(Partial(_chosen, which, tuple(getattr(one, name) for one in members)))


def label_of_choice(members: tuple[Any, ...]) -> Label:
    """The label of several: names alone, for the numbers may differ and the structure may not."""
    words = (one._label.words for one in members)
    names = (each.split(", ")[0] if each.startswith("'") else f"({each})" for each in words)
    return Label(" | ".join(names), {})


def stacked(caller: str, members: tuple[Any, ...], kinds: Any, choose: Function) -> PyTree:
    """Stacks members of one structure; of several, makes a choice by an index, and stacks that."""
    if not members:
        raise ValueError(f"{caller}: nothing to stack; pass one or more.")
    for number, one in enumerate(members):
        if not isinstance(one, kinds):
            words = f"argument {number} is a {type(one).__name__}"
            raise ValueError(f"{caller}: {words}; pass those of `{caller.split('.')[0]}`.")
    if len({jax.tree.structure(one) for one in members}) == 1:
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
    return jax.vmap(choose, in_axes=(None, 0))(members, jnp.arange(len(members)))


def _choose(members: tuple[Divergence, ...], which: IntScalar) -> Divergence:
    functions = [choice(members, name, which) for name in _FIELDS]
    return eqx.tree_at(
        lambda div: [*(getattr(div, name) for name in _FIELDS), div._label],
        members[0],
        [*functions, label_of_choice(members)],
    )


def stack(*divs: Divergence) -> Divergence:
    r"""Several divergences as one, so that one program does for all, by `jax.vmap`.

    Every leaf has a leading axis, one entry for each: `jax.vmap(f)(stack(a, b, c))` calls f with
    one divergence at a time, which has all closed forms of the one it is. Divergences that differ
    in numbers alone are stacked as they are. Of others all are computed under `vmap` and one is
    kept: these are elementwise functions, cheap beside a network.

    Args:
        *divs: The divergences.

    Returns:
        One divergence of them, to be taken apart by `jax.vmap`, or by an index into its leaves.

    Raises:
        ValueError: If there are none, or one is no `Divergence`.
    """
    return stacked("divergences.stack", divs, Divergence, _choose)
