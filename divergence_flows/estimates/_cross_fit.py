"""Log ratios of samples that the critic has not seen: folds, seeds and early stopping at once."""

import itertools
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from .._checks import check_counts, check_critic, check_over_time
from .._types import AnyCloud, Cloud, Function, IntScalar, Scalar, vmapped
from ..gans._losses import discriminator_loss, require_fields
from ..gans._table import vanilla
from ..networks._mlp import Discriminator
from ..networks._time import TimeDiscriminator
from ..training._update import Optimizer, default_optimizer, descend, initial
from ._path import Path

# Columns that are drawn apart: one for samples of q, two for a product of marginals.
Rows = Float[Array, "_ _"]
Columns = tuple[Rows, ...]
# The last part of the rows outside of a fold decides when to stop, looked at so many times.
_HELD_OUT, _LOOKS = 0.2, 20


class Trainer(eqx.Module):
    """How critics are trained."""

    gan: Any
    critic: PyTree  # its arrays, of each seed
    rest: PyTree  # and what else it has
    optimizer: Optimizer = eqx.field(static=True)
    folds: int = eqx.field(static=True)
    steps: int = eqx.field(static=True)
    batch_size: int = eqx.field(static=True)
    path: Path | None

    def values(self, critic: PyTree) -> Function:
        """A critic of a batch, of a time before it on a path, from the arrays of one."""
        network = eqx.combine(critic, self.rest)
        return vmapped(network) if self.path is None else jax.vmap(network, (None, 0))

    def loss(self, data: Columns, critic: PyTree) -> Scalar:
        """What a critic minimises on samples of p and of q."""
        (xs_p, xs_q), values = data, self.values(critic)
        if self.path is not None:
            return self.path.loss(self.gan, values, xs_p, xs_q)
        return discriminator_loss(self.gan, values(xs_p), values(xs_q))

    def batch(
        self, xs_p: Cloud, columns_q: Columns, rows: tuple[Array, Array], key: PRNGKeyArray
    ) -> Columns:
        """Rows of p and of q for a step; on a path in pairs, as many for each leg."""
        of_p, of_q = jr.split(key)
        size_p, size_q = (min(self.batch_size, each.size) for each in rows)
        if self.path is None:
            return drawn((xs_p,), rows[0], size_p, of_p), drawn(columns_q, rows[1], size_q, of_q)
        return drawn_pairs(self.path.legs, xs_p, columns_q, rows, max(size_p, size_q), key)


def asked(
    caller: str, how: tuple, xs_p: Cloud, fewest: int, key: PRNGKeyArray, first: int = 0
) -> tuple[Trainer, PRNGKeyArray]:
    """Checks how critics are to be trained, and makes those of each seed; uses up a key."""
    critic, gan, folds, seeds, steps, batch_size, optimizer, legs = how
    gan = vanilla() if gan is None else gan
    require_fields(caller, gan, "phi", "psi", "log_t")
    counts = {"folds": folds, "seeds": seeds, "steps": steps, "batch_size": batch_size}
    check_counts(caller, counts | ({} if legs is None else {"path": legs}))
    if folds < 2 or fewest < 4 * folds:
        words = f"`folds` is {folds} and the smaller sample has {fewest}"
        raise ValueError(f"{caller}: {words}; pass 2 folds or more, of 4 samples at least.")
    own_key, key = jr.split(key)
    if critic is None:
        make = partial(_default if legs is None else _default_on_path, xs_p.shape[1])
        critic, rest = eqx.partition(jax.vmap(make)(jr.split(own_key, seeds)), eqx.is_array)
    else:
        if legs is None:
            check_critic(caller, "critic", critic, (xs_p,))
        else:
            check_over_time(caller, "critic", critic, None, (xs_p,))
        critic, rest = eqx.partition(critic, eqx.is_array)
        if not jax.tree.leaves(critic):
            words = (
                f"`critic` is a {type(rest).__name__} without arrays, so that nothing is trained"
            )
            raise ValueError(f"{caller}: {words}; pass a module, such as `networks.Discriminator`.")
        critic = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (seeds, *leaf.shape)), critic)
    if optimizer is None:
        optimizer = default_optimizer(steps, 2e-3 if legs is None else 1e-2)
    path = None if legs is None else Path(legs, first)
    return Trainer(gan, critic, rest, optimizer, folds, steps, batch_size, path), key


def _default(dim: int, key: PRNGKeyArray) -> Discriminator:
    return Discriminator(dim, quadratic=True, key=key)


def _default_on_path(dim: int, key: PRNGKeyArray) -> TimeDiscriminator:
    """Its quadratic is zero at first: most of dim^2 random coefficients would stay noise."""
    made = TimeDiscriminator(dim, key=key)
    zero = partial(jax.tree.map, jnp.zeros_like)
    return eqx.tree_at(lambda network: network.quadratic[-1], made, replace_fn=zero)


class Folds(eqx.Module):
    """A random order of rows, in which a window is held out of each fold."""

    order: Int[Array, " n"]
    count: int = eqx.field(static=True)

    def of_rows(self) -> Int[Array, " n"]:
        """The fold that holds out each row."""
        n = self.order.size
        own = jnp.arange(n) * self.count // n
        return jnp.zeros(n, own.dtype).at[self.order].set(own)

    def windows(self) -> list[Int[np.ndarray, " _"]]:
        """Places in the order that each fold holds out."""
        begins = -(-np.arange(self.count + 1) * self.order.size // self.count)
        return [np.arange(*pair) for pair in itertools.pairwise(begins)]

    def parts(self, fold: IntScalar) -> tuple[Array, Array]:
        """Rows for training, and rows that stop it; none are those of the window."""
        rest, _ = self.split(fold)
        few = max(1, int(_HELD_OUT * rest.size))
        return rest[few:], rest[:few]

    def split(self, fold: IntScalar) -> tuple[Array, Array]:
        """Rows out of the window, and rows in it."""
        n = self.order.size
        window = -(-n // self.count) + 1  # where n is no multiple, a fold begins a row later
        turned = jnp.roll(self.order, -(fold * n // self.count))
        return turned[window:], turned[: n // self.count]


def units_of(xs: Rows) -> Float[Array, "2 _"]:
    """Means and deviations of coordinates; 1 where nothing varies."""
    # The mean of equal numbers is rounded, and their deviation not always 0.
    still = jnp.max(xs, axis=0) == jnp.min(xs, axis=0)
    return jnp.stack([jnp.mean(xs, axis=0), jnp.where(still, 1, jnp.std(xs, axis=0))])


def side_by_side(
    first: AnyCloud, others: list, at_first: Array, at_others: Array
) -> Float[Array, "_ _"]:
    """Rows of the first columns, and beside them rows of the others."""
    return jnp.concatenate([first[at_first], *(xs[at_others] for xs in others)], axis=1)


def drawn(
    columns: Columns, rows: Int[Array, " some"], size: int, key: PRNGKeyArray
) -> Float[Array, "size _"]:
    """Draws rows, of each column apart, and puts the columns side by side."""
    keys = jr.split(key, len(columns))
    picked = [jr.choice(each, rows, (size,)) for each in keys]
    return jnp.concatenate([xs[at] for xs, at in zip(columns, picked, strict=True)], axis=1)


def drawn_pairs(
    legs: int,
    xs_p: Cloud,
    columns_q: Columns,
    rows: tuple[Array, Array],
    size: int,
    key: PRNGKeyArray,
) -> tuple[AnyCloud, AnyCloud]:
    """Rows of p and of q drawn apart; of a product of marginals the first columns are p's."""
    size = -(-size // legs) * legs
    keys = jr.split(key)
    at_p, at_q = (jr.choice(key, each, (size,)) for key, each in zip(keys, rows, strict=True))
    first, *others = columns_q
    return xs_p[at_p], side_by_side(first, others, at_p if others else at_q, at_q)


def trained(
    how: Trainer, xs_p: Cloud, columns_q: Columns, folds: tuple[Folds, Folds], key: PRNGKeyArray
) -> PyTree:
    """The critics of each fold and seed, each as it was where its held-out loss was least."""

    def of_seed(critic: PyTree, key: PRNGKeyArray, fold: IntScalar) -> PyTree:
        (rows_p, stop_p), (rows_q, stop_q) = (each.parts(fold) for each in folds)
        key, of_stop = jr.split(key)
        if how.path is None:
            held = xs_p[stop_p], drawn(columns_q, stop_q, stop_q.size, of_stop)
        else:
            rows = stop_p, stop_q
            held = drawn_pairs(how.path.legs, xs_p, columns_q, rows, stop_p.size, of_stop)

        def batch(key: PRNGKeyArray) -> Columns:
            return how.batch(xs_p, columns_q, (rows_p, rows_q), key)

        return descended(how, critic, how.loss, batch, held, key)

    return of_all(how, of_seed, key)


def of_all(how: Trainer, of_seed: Function, key: PRNGKeyArray) -> PyTree:
    """What a function (critic, key, fold) makes of each fold and seed."""
    seeds = jax.tree.leaves(how.critic)[0].shape[0]
    of_fold = jax.vmap(of_seed, (0, 0, None))
    keys = jr.split(key, (how.folds, seeds))
    return jax.vmap(of_fold, (None, 0, 0))(how.critic, keys, jnp.arange(how.folds))


def descended(
    how: Trainer, critic: PyTree, loss: Function, batch: Function, held: Columns, key: PRNGKeyArray
) -> PyTree:
    """A critic as it was where `loss(held, critic)` was least; `batch(key)` draws a step's data."""

    def step(state: tuple, key: PRNGKeyArray) -> tuple[tuple, None]:
        """One step on rows drawn anew."""
        critic, opt_state = state
        data = batch(key)
        descent = descend(lambda it: (loss(data, it), None), how.optimizer, critic, opt_state)
        return descent[:2], None

    def look(carry: tuple, keys: Any) -> tuple[tuple, None]:
        """Some steps, and a look at what they gained."""
        state, best, least = carry
        state, _ = jax.lax.scan(step, state, keys)
        now = loss(held, state[0])
        better = now < least
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), state[0], best)
        return (state, best, jnp.where(better, now, least)), None

    keys = jr.split(key, (_LOOKS, -(-how.steps // _LOOKS)))
    start = (critic, initial(how.optimizer, critic))
    (_, best, _), _ = jax.lax.scan(look, (start, critic, loss(held, critic)), keys)
    return best


def over_seeds(how: Trainer, function: Function, critics: PyTree) -> Float[Array, "*shape"]:
    """The mean over seeds of what a function makes of a critic of a batch."""
    return jnp.mean(jax.vmap(lambda critic: function(how.values(critic)))(critics), axis=0)


def by_each(how: Trainer, critics: PyTree, function: Function) -> Float[Array, "folds *shape"]:
    """The same for each fold."""
    # Fold by fold: all of their hidden units at once may not fit.
    return jax.lax.map(partial(over_seeds, how, function), critics)


def held_out(how: Trainer, critics: PyTree, xs: Cloud, own: Int[Array, " n"]) -> Float[Array, " n"]:
    """The mean of log r over seeds, at samples that the critics of their fold have not seen."""
    each = by_each(how, critics, lambda values: how.gan.log_t(values(xs)))
    return jnp.take_along_axis(each, own[None], axis=0)[0]
