"""A long run in pieces: chunks of `lax.scan`, and between them a checkpoint or a look.

A step is `step(state) -> (state, told)`, `told` a dict of numbers by name; the state counts its
steps in `state.step`. What a run has told so far is its history.
"""

import functools
import os
import pathlib
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, PyTree, Shaped

from ._checkpoint import load, save
from ._doors import check_cloud as check_cloud
from ._flow import AbstractProgressMeter

Cloud = Float[Array, "_ *event"]
History = dict[str, list[Any]]
Told = dict[str, Shaped[Array | np.ndarray, "..."]]


class Loop(eqx.Module):
    """How long a run is, and what happens between its chunks."""

    owner: str
    steps: int
    chunk: int
    meter: AbstractProgressMeter
    path: pathlib.Path | None
    header: dict[str, Any]
    on_chunk: Callable[..., Any] | None


def _arrays_only(
    step: Callable[..., Any], rest: PyTree, arrays: PyTree, x: PyTree
) -> tuple[PyTree, PyTree]:
    state, told = step(eqx.combine(arrays, rest), x)
    return eqx.filter(state, eqx.is_array), told


def scan(
    step: Callable[..., Any], state: PyTree, xs: PyTree, length: int | None = None
) -> tuple[PyTree, PyTree]:
    """`lax.scan` of a state of which only the arrays change.

    Args:
        step: `step(state, x) -> (state, told)`.
        state: Any pytree.
        xs: What each step gets, along the first axis.
        length: Number of steps; only needed without `xs`.

    Returns:
        The last state, and what the steps told.
    """
    arrays, rest = eqx.partition(state, eqx.is_array)
    body = functools.partial(_arrays_only, step, rest)
    arrays, told = jax.lax.scan(body, arrays, xs, length=length)
    return eqx.combine(arrays, rest), told


def _metered(
    step: Callable[..., Any],
    meter: AbstractProgressMeter,
    steps: int,
    carry: tuple[PyTree, PyTree],
    _: None,
) -> tuple[tuple[PyTree, PyTree], PyTree]:
    state, shown = carry
    state, told = step(state)
    return (state, meter.step(shown, state.step / steps)), told


@eqx.filter_jit
def _run_chunk(
    step: Callable[..., Any],
    meter: AbstractProgressMeter,
    steps: int,
    length: int,
    state: PyTree,
    shown: PyTree,
) -> tuple[PyTree, PyTree, PyTree]:
    """Runs `length` steps without coming back to the host."""
    body = functools.partial(_metered, step, meter, steps)
    (state, shown), told = scan(body, (state, shown), None, length)
    return state, shown, told


def _join(parts: list[Any]) -> Shaped[Array | np.ndarray, "..."]:
    """All of one kind of history, along time; on the host unless traced."""
    if any(isinstance(part, Tracer) for part in parts):
        return jnp.concatenate(parts)
    return np.concatenate([np.asarray(part) for part in parts])


def _save(loop: Loop, path: pathlib.Path, state: PyTree, history: History) -> None:
    """Writes the state's arrays and the history."""
    leaves = jax.tree.leaves(eqx.filter(state, eqx.is_array))
    arrays: dict[str, Any] = {f"state{i:04d}": np.asarray(x) for i, x in enumerate(leaves)}
    arrays |= {name: _join(parts) for name, parts in history.items()}
    save(path, loop.header, arrays)


def _resume(
    loop: Loop, path: pathlib.Path, state: PyTree, history: History
) -> tuple[PyTree, History]:
    """Puts the arrays of a checkpoint in the place of the first state's."""
    stored = load(path, loop.header, loop.owner)
    arrays, rest = eqx.partition(state, eqx.is_array)
    leaves, structure = jax.tree.flatten(arrays)
    leaves = [jnp.asarray(stored[f"state{i:04d}"], leaf.dtype) for i, leaf in enumerate(leaves)]
    state = eqx.combine(jax.tree.unflatten(structure, leaves), rest)
    return state, {name: [stored[name]] for name in history}


def nothing(state: PyTree, done: int) -> Told:
    """Keeps nothing of a state at the end of a chunk.

    Args:
        state: Where the run stands.
        done: Steps done.

    Returns:
        No history.
    """
    del state, done
    return {}


def follow(
    loop: Loop,
    step: Callable[..., Any],
    state: PyTree,
    history: History,
    keep: Callable[..., Any] = nothing,
) -> tuple[PyTree, dict[str, Shaped[Array, "..."]]]:
    """Runs from the start, or from a checkpoint, to the end; the meter is closed in any case.

    Args:
        loop: How long, and what happens between chunks.
        step: `step(state) -> (state, told)`, a pytree such as a `Partial`, or it retraces.
        state: The first state.
        history: What is known before the first step; the first kind has one entry a step.
        keep: `keep(state, done)`: what to keep of the state after each chunk, by name.

    Returns:
        The last state, and the whole history.
    """
    if loop.path is not None and loop.path.exists():
        state, history = _resume(loop, loop.path, state, history)
    done = sum(part.shape[0] for part in next(iter(history.values())))
    shown = loop.meter.init()
    try:
        while done < loop.steps:
            length = min(loop.chunk, loop.steps - done)
            state, shown, told = _run_chunk(step, loop.meter, loop.steps, length, state, shown)
            done += length
            for name, part in {**told, **keep(state, done)}.items():
                history[name].append(part)
            # Checkpoint first, so that a caller who stops the run loses nothing.
            if loop.path is not None:
                _save(loop, loop.path, state, history)
            if loop.on_chunk is not None:
                loop.on_chunk(state)
    finally:
        loop.meter.close(shown)
    return state, {name: jnp.asarray(_join(parts)) for name, parts in history.items()}


def as_path(owner: str, checkpoint: str | os.PathLike | None, tree: PyTree) -> pathlib.Path | None:
    """Makes a path of what was passed as a checkpoint, and refuses one inside a trace.

    Args:
        owner: Who asks, for the message.
        checkpoint: A file, or None.
        tree: All that the run depends on.

    Returns:
        The path, or None.

    Raises:
        ValueError: If `tree` has no numbers yet.
    """
    if checkpoint is None:
        return None
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(tree)):
        raise ValueError(
            f"{owner}: `checkpoint` needs numbers, and this call is inside `jit` or `vmap`; "
            "leave `checkpoint` out there."
        )
    return pathlib.Path(checkpoint)
