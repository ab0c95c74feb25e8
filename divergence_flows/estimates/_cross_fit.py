"""Log ratios of samples that the critic has not seen: folds, seeds and early stopping at once."""

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from .._types import Cloud, Function, IntScalar, Scalar, vmapped
from ..gans._losses import discriminator_loss
from ..training._update import Optimizer, descend, initial

# Columns that are drawn apart: one for samples of q, two for a product of marginals.
Columns = tuple[Float[Array, "n _"], ...]
# The last part of the rows outside of a fold decides when to stop, looked at so many times.
_HELD_OUT, _LOOKS = 0.2, 20


class Trainer(eqx.Module):
    """How critics are trained."""

    gan: Any
    critic: PyTree  # one for each seed
    optimizer: Optimizer = eqx.field(static=True)
    folds: int = eqx.field(static=True)
    steps: int = eqx.field(static=True)
    batch_size: int = eqx.field(static=True)


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
        n = self.order.size
        window = -(-n // self.count) + 1  # where n is no multiple, a fold begins a row later
        rest = jnp.roll(self.order, -(fold * n // self.count))[window:]
        few = max(1, int(_HELD_OUT * rest.size))
        return rest[few:], rest[:few]


def drawn(
    columns: Columns, rows: Int[Array, " rows"], size: int, key: PRNGKeyArray
) -> Float[Array, "size _"]:
    """Draws rows, of each column apart, and puts the columns side by side."""
    keys = jr.split(key, len(columns))
    picked = [jr.choice(each, rows, (size,)) for each in keys]
    return jnp.concatenate([xs[at] for xs, at in zip(columns, picked, strict=True)], axis=1)


def trained(
    how: Trainer, xs_p: Cloud, columns_q: Columns, folds: tuple[Folds, Folds], key: PRNGKeyArray
) -> PyTree:
    """The critics of each fold and seed, each as it was where its held-out loss was least."""
    seeds = jax.tree.leaves(eqx.filter(how.critic, eqx.is_array))[0].shape[0]

    def of_seed(critic: PyTree, key: PRNGKeyArray, fold: IntScalar) -> PyTree:
        (rows_p, stop_p), (rows_q, stop_q) = (each.parts(fold) for each in folds)
        key, of_stop = jr.split(key)
        held = xs_p[stop_p], drawn(columns_q, stop_q, stop_q.size, of_stop)

        def loss(data: tuple[Cloud, Cloud], critic: PyTree) -> tuple[Scalar, None]:
            values = vmapped(critic)
            return discriminator_loss(how.gan, values(data[0]), values(data[1])), None

        def step(state: tuple, key: PRNGKeyArray) -> tuple[tuple, None]:
            """One step on rows drawn anew."""
            critic, opt_state = state
            of_p, of_q = jr.split(key)
            data = (
                drawn((xs_p,), rows_p, min(how.batch_size, rows_p.size), of_p),
                drawn(columns_q, rows_q, min(how.batch_size, rows_q.size), of_q),
            )
            return descend(partial(loss, data), how.optimizer, critic, opt_state)[:2], None

        def look(carry: tuple, keys: Any) -> tuple[tuple, None]:
            """Some steps, and a look at what they gained."""
            state, best, least = carry
            state, _ = jax.lax.scan(step, state, keys)
            now, _ = loss(held, state[0])
            better = now < least
            best = jax.tree.map(lambda new, old: jnp.where(better, new, old), state[0], best)
            return (state, best, jnp.where(better, now, least)), None

        keys = jr.split(key, (_LOOKS, -(-how.steps // _LOOKS)))
        start = (critic, initial(how.optimizer, critic))
        (_, best, _), _ = jax.lax.scan(look, (start, critic, loss(held, critic)[0]), keys)
        return best

    keys = jr.split(key, (how.folds, seeds))
    over_seeds = jax.vmap(of_seed, (0, 0, None))
    return jax.vmap(over_seeds, (None, 0, 0))(how.critic, keys, jnp.arange(how.folds))


def held_out(
    log_t: Function, critics: PyTree, xs: Cloud, own: Int[Array, " n"]
) -> Float[Array, " n"]:
    """The mean of log r over seeds, at samples that the critics of their fold have not seen."""

    def of_one(critic: PyTree) -> Float[Array, " n"]:
        return log_t(vmapped(critic)(xs))

    # Fold by fold: all of their hidden units at once may not fit.
    each = jax.lax.map(lambda seeds: jnp.mean(jax.vmap(of_one)(seeds), axis=0), critics)
    return jnp.take_along_axis(each, own[None], axis=0)[0]
