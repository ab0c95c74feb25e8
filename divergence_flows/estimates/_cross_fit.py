"""Log ratios of samples that the critic has not seen: folds, seeds and early stopping at once."""

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from .._checks import check_counts, check_critic
from .._types import Cloud, Function, IntScalar, Scalar, vmapped
from ..gans._losses import discriminator_loss, require_fields
from ..gans._table import vanilla
from ..networks._mlp import Discriminator
from ..training._update import Optimizer, default_optimizer, descend, initial

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

    def values(self, critic: PyTree) -> Function:
        """A critic of a batch, from the arrays of one."""
        return vmapped(eqx.combine(critic, self.rest))


def asked(
    caller: str, how: tuple, xs_p: Cloud, fewest: int, key: PRNGKeyArray
) -> tuple[Trainer, PRNGKeyArray]:
    """Checks how critics are to be trained, and makes those of each seed; uses up a key."""
    critic, gan, folds, seeds, steps, batch_size, optimizer = how
    gan = vanilla() if gan is None else gan
    require_fields(caller, gan, "phi", "psi", "log_t")
    counts = {"folds": folds, "seeds": seeds, "steps": steps, "batch_size": batch_size}
    check_counts(caller, counts)
    if folds < 2 or fewest < 4 * folds:
        words = f"`folds` is {folds} and the smaller sample has {fewest}"
        raise ValueError(f"{caller}: {words}; pass 2 folds or more, of 4 samples at least.")
    own_key, key = jr.split(key)
    if critic is None:
        critic = jax.vmap(partial(_default, xs_p.shape[1]))(jr.split(own_key, seeds))
        critic, rest = eqx.partition(critic, eqx.is_array)
    else:
        check_critic(caller, "critic", critic, (xs_p,))
        critic, rest = eqx.partition(critic, eqx.is_array)
        critic = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (seeds, *leaf.shape)), critic)
    optimizer = default_optimizer(steps) if optimizer is None else optimizer
    return Trainer(gan, critic, rest, optimizer, folds, steps, batch_size), key


def _default(dim: int, key: PRNGKeyArray) -> Discriminator:
    return Discriminator(dim, quadratic=True, key=key)


class Folds(eqx.Module):
    """A random order of rows, in which a window is held out of each fold."""

    order: Int[Array, " n"]
    count: int = eqx.field(static=True)

    def of_rows(self) -> Int[Array, " n"]:
        """The fold that holds out each row."""
        n = self.order.size
        own = jnp.arange(n) * self.count // n
        return jnp.zeros(n, own.dtype).at[self.order].set(own)

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


def drawn(
    columns: Columns, rows: Int[Array, " some"], size: int, key: PRNGKeyArray
) -> Float[Array, "size _"]:
    """Draws rows, of each column apart, and puts the columns side by side."""
    keys = jr.split(key, len(columns))
    picked = [jr.choice(each, rows, (size,)) for each in keys]
    return jnp.concatenate([xs[at] for xs, at in zip(columns, picked, strict=True)], axis=1)


def trained(
    how: Trainer, xs_p: Cloud, columns_q: Columns, folds: tuple[Folds, Folds], key: PRNGKeyArray
) -> PyTree:
    """The critics of each fold and seed, each as it was where its held-out loss was least."""

    def of_seed(critic: PyTree, key: PRNGKeyArray, fold: IntScalar) -> PyTree:
        (rows_p, stop_p), (rows_q, stop_q) = (each.parts(fold) for each in folds)
        key, of_stop = jr.split(key)
        held = xs_p[stop_p], drawn(columns_q, stop_q, stop_q.size, of_stop)

        def batch(key: PRNGKeyArray) -> Columns:
            of_p, of_q = jr.split(key)
            return (
                drawn((xs_p,), rows_p, min(how.batch_size, rows_p.size), of_p),
                drawn(columns_q, rows_q, min(how.batch_size, rows_q.size), of_q),
            )

        return descended(how, critic, partial(_loss, how), batch, held, key)

    return of_all(how, of_seed, key)


def _loss(how: Trainer, data: Columns, critic: PyTree) -> Scalar:
    """That of a critic at samples of p and of q."""
    d_p, d_q = map(how.values(critic), data)
    return discriminator_loss(how.gan, d_p, d_q)


def of_all(how: Trainer, of_seed: Function, key: PRNGKeyArray) -> PyTree:
    """What a function (critic, key, fold) makes of each fold and seed."""
    seeds = jax.tree.leaves(how.critic)[0].shape[0]
    over_seeds = jax.vmap(of_seed, (0, 0, None))
    keys = jr.split(key, (how.folds, seeds))
    return jax.vmap(over_seeds, (None, 0, 0))(how.critic, keys, jnp.arange(how.folds))


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


def held_out(how: Trainer, critics: PyTree, xs: Cloud, own: Int[Array, " n"]) -> Float[Array, " n"]:
    """The mean of log r over seeds, at samples that the critics of their fold have not seen."""

    def of_one(critic: PyTree) -> Float[Array, " n"]:
        return how.gan.log_t(how.values(critic)(xs))

    # Fold by fold: all of their hidden units at once may not fit.
    each = jax.lax.map(lambda seeds: jnp.mean(jax.vmap(of_one)(seeds), axis=0), critics)
    return jnp.take_along_axis(each, own[None], axis=0)[0]
