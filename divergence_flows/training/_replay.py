r"""Where particles are when a time-conditioned ratio moves them: trajectories and their replay.

No gradient is ever taken through what is here.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from .._types import AnyCloud, Clouds, IntScalar, Scalar, identity
from ..runs._batches import Data
from ._flow_ratio_losses import Grid, Paths


def trajectories(gan: Any, network: PyTree, data: Data, ts: Grid) -> Paths:
    """Moves a cloud through all times, one midpoint step from each to the next."""
    xs, *conditions = data

    def field(t: Scalar, xs: AnyCloud) -> AnyCloud:
        slope = jax.grad(lambda *one: gan.h_t(network(t, *one)))
        return jax.vmap(slope)(xs, *conditions)

    def midpoint(xs: AnyCloud, span: tuple[Scalar, Scalar]) -> Clouds:
        start, end = span
        half = 0.5 * (end - start)
        middle = xs + half * field(start, xs)
        moved = xs + 2 * half * field(start + half, middle)
        return moved, moved

    _, later = jax.lax.scan(midpoint, xs, (ts[:-1], ts[1:]))
    return jnp.concatenate([xs[None], later])


def jittered(ts: Grid, key: PRNGKeyArray) -> Grid:
    """Draws each time but the first from the interval that ends at it."""
    back = jax.random.uniform(key, (ts.shape[0] - 1,), ts.dtype)
    return jnp.concatenate([ts[:1], ts[1:] - back * jnp.diff(ts)])


class Replay(eqx.Module):
    """Clouds at the times of a grid, of which those up to a stage are known."""

    ts: Float[Array, " time"]
    clouds: Float[Array, "time n *event"]

    @classmethod
    def start(cls, xs: AnyCloud, ts: Grid) -> "Replay":
        """Knows the cloud at the first time only."""
        return cls(ts, jnp.broadcast_to(xs, (ts.shape[0], *xs.shape)))

    def pick(
        self, stage: IntScalar, size: int, key: PRNGKeyArray, conditions: Data
    ) -> tuple[Grid, Data]:
        """Draws as many times as there are from the known ones, and a minibatch at each."""
        count, n = self.clouds.shape[:2]
        key_times, key_rows = jax.random.split(key)
        place = (jnp.arange(count) + jax.random.uniform(key_times, (count,))) / count
        chosen = jnp.minimum(jnp.floor(place * (stage + 1)).astype(int), stage)
        rows = jax.random.randint(key_rows, (count, size), 0, n)
        paths = self.clouds[chosen[:, None], rows]
        return self.ts[chosen], (paths, *jax.tree.map(lambda leaf: leaf[rows], conditions))


def extend(
    gan: Any,
    network: PyTree,
    replay: Replay,
    step: IntScalar,
    hold: int | IntScalar,
    conditions: Data,
) -> tuple[Replay, IntScalar]:
    """Fills in one time more whenever `hold` steps have passed."""
    stage = jnp.minimum(step // hold, replay.ts.shape[0] - 1)
    fresh = (step % hold == 0) & (step > 0) & (step // hold == stage)

    def move(clouds: Paths) -> Paths:
        """Moves the cloud before a stage to it."""
        pair = jax.lax.dynamic_slice_in_dim(replay.ts, stage - 1, 2)
        moved = trajectories(gan, network, (clouds[stage - 1], *conditions), pair)[-1]
        return clouds.at[stage].set(moved)

    return Replay(replay.ts, jax.lax.cond(fresh, move, identity, replay.clouds)), stage
