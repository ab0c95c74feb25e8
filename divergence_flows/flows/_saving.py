"""What a solve saves: states at times, a state at an event, or what a user's `SaveAt` says."""

import dataclasses
import functools
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from .._checks import some_not_finite
from .._types import BoolScalar

_SAVES_STATE = diffrax.SubSaveAt(t1=True).fn


def rule(
    ts: Float[Array, " time"], event: bool, until_event: bool, throw: bool, dense: bool
) -> diffrax.SaveAt:
    """What to save by default; with an event, first at times and then where it stopped."""
    if until_event:
        return diffrax.SaveAt(t1=True, dense=dense)
    if event:
        both = diffrax.SubSaveAt(ts=ts), diffrax.SubSaveAt(t1=True)
        return diffrax.SaveAt(subs=both, dense=dense)
    # Saving at times costs a loop inside each step; start and end alone need none. But only saving
    # at times marks by inf what a solve that fails does not reach.
    if ts.shape[0] == 2 and throw:
        return diffrax.SaveAt(t0=True, t1=True, dense=dense)
    return diffrax.SaveAt(ts=ts, dense=dense)


def checked(
    caller: str, saveat: diffrax.SaveAt, times: int, dense: bool, dtype: Any
) -> diffrax.SaveAt:
    """Casts the times of a user's `saveat`, and refuses one that `ts` or `dense` contradicts."""
    if times > 2:
        words = f"`ts` holds {times} times, and `saveat` says what to save"
        raise ValueError(f"{caller}: {words}; pass ts=[start, end] with it, or leave it out.")
    if dense and not saveat.dense:
        words = "`dense` is True and that of `saveat` is not"
        raise ValueError(f"{caller}: {words}; pass diffrax.SaveAt(dense=True, ...) instead.")
    parts = parts_of(saveat)
    if not parts and not saveat.dense:
        words = "`saveat` saves nothing; pass for instance diffrax.SaveAt(t1=True), the end alone."
        raise ValueError(f"{caller}: {words}")
    cast = [
        part if part.ts is None else dataclasses.replace(part, ts=part.ts.astype(dtype))
        for part in parts
    ]
    structure = jax.tree.structure(saveat.subs, is_leaf=_is_part)
    return dataclasses.replace(saveat, subs=jax.tree.unflatten(structure, cast))


def _is_part(node: Any) -> bool:
    return isinstance(node, diffrax.SubSaveAt)


def parts_of(saveat: diffrax.SaveAt) -> list[Any]:
    """The rules of a `saveat`, one for each of the solution's arrays of times."""
    return jax.tree.leaves(saveat.subs, is_leaf=_is_part)


def held_at_event(solution: diffrax.Solution) -> diffrax.Solution:
    """Fills what lies beyond an event with when and where it stopped."""
    saved: Any = solution.ts, solution.ys
    (ts, end), (ys, last) = saved
    rows = ~(jnp.isinf(ts) & (solution.result == diffrax.RESULTS.event_occurred))
    fill = functools.partial(_rows_or, rows)
    ts, ys = jax.tree.map(fill, (ts, ys), (end, last))
    return dataclasses.replace(solution, ts=ts, ys=ys)


def not_finite(solution: diffrax.Solution, parts: list[Any]) -> BoolScalar:
    """Whether a state that was reached is NaN or inf; what a user makes of a state may be."""
    # After `held_at_event` one array of times is left, of two rules that save the state.
    times, structure = jax.tree.flatten(solution.ts)
    found = jnp.zeros((), bool)
    for part, ts, ys in zip(parts, times, structure.flatten_up_to(solution.ys), strict=False):
        if part.fn is _SAVES_STATE:
            reached = [_rows_or(jnp.isfinite(ts), leaf, 0.0) for leaf in jax.tree.leaves(ys)]
            found = found | any_not_finite(reached)
    return found


def _rows_or(rows: Bool[Array, " time"], values: Array, other: Any) -> Array:
    """Takes other values in all rows but those."""
    return jnp.where(rows.reshape(-1, *[1] * (values.ndim - 1)), values, other)


def any_not_finite(tree: PyTree) -> BoolScalar:
    """Whether any number of a pytree is NaN or inf."""
    bad = map(some_not_finite, jax.tree.leaves(tree))
    return functools.reduce(jnp.logical_or, bad, jnp.zeros((), bool))
