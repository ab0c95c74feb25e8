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
from jaxtyping import Array, Float, PyTree, Shaped

from ._diverged import Told, error, hold, no_signs, verdict
from ._flow import AbstractProgressMeter
from ._resume import History, check_place, count, join, read, standing, write
from ._types import traced

Cloud = Float[Array, "_ *event"]


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
    signs: Callable[..., Any],
    state: PyTree,
    shown: PyTree,
) -> tuple[PyTree, PyTree, PyTree, PyTree]:
    """Runs `length` steps without coming back to the host, and says whether they went well."""
    body = functools.partial(_metered, step, meter, steps)
    (new, shown), told = scan(body, (state, shown), None, length)
    return new, shown, told, verdict(signs, state, new, told)


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


def _stopped(loop: Loop, done: int, history: History) -> KeyboardInterrupt:
    """What to tell somebody who pressed Ctrl-C."""
    words = f"{loop.owner}: stopped after step {done} of {loop.steps}; "
    if loop.path is None:
        words += "no checkpoint was asked for: pass `checkpoint` to keep what a run did"
    else:
        stands, at = standing(loop.owner, loop.path, loop.header, history)
        words += f"{stands}; the same call goes on from {'there' if at else 'the start'}"
    return KeyboardInterrupt(f"{words}.")


def follow(
    loop: Loop,
    step: Callable[..., Any],
    state: PyTree,
    history: History,
    keep: Callable[..., Any] = nothing,
    signs: Callable[..., Any] = no_signs,
) -> tuple[PyTree, dict[str, Shaped[Array, "..."]]]:
    """Runs from the start, or from a checkpoint, to the end; the meter is closed in any case.

    Args:
        loop: How long, and what happens between chunks.
        step: `step(state) -> (state, told)`, a pytree such as a `Partial`, or it retraces.
        state: The first state.
        history: What is known before the first step; the first kind has one entry a step.
        keep: `keep(state, done)`: what to keep of the state after each chunk, by name.
        signs: More signs of a diverged run than NaN and inf, as `verdict` takes them; a pytree.

    Returns:
        The last state, and the whole history with `diverged`: -1, or in a trace, where nothing
        can be raised, the step at which the run diverged; its last good state is returned then.

    Raises:
        RunDiverged: At the end of a chunk that is not finite, or has one of the signs.
        ValueError: If the checkpoint is not this run's.
        OSError: If it cannot be written.
        KeyboardInterrupt: On Ctrl-C, with words that say what the checkpoint holds.
    """
    if loop.path is not None and os.path.exists(loop.path):
        state, history = read(loop.owner, loop.path, loop.header, state, history)
    done = count(history)
    if loop.path is not None and done < loop.steps:
        check_place(loop.owner, loop.path)
    # In a trace a run that has diverged runs on, so that others are the same programs as ever.
    shown, diverged, good = loop.meter.init(), jnp.asarray(-1), state
    try:
        while done < loop.steps:
            length = min(loop.chunk, loop.steps - done)
            new, shown, told, first = _run_chunk(
                step, loop.meter, loop.steps, length, signs, state, shown
            )
            told = {name: told[name] for name in history if name in told}
            if traced(first):
                good, told, diverged = hold(good, new, told, first, done, diverged)
            elif trouble := error(loop.owner, loop.steps, done, told, first, state, loop.path):
                raise trouble
            else:
                good = new
            state, done = new, done + length
            parts = {**told, **keep(good, done)}
            history = {name: [*past, parts[name]] for name, past in history.items()}
            # Checkpoint first, so that a caller who stops the run loses nothing.
            if loop.path is not None:
                write(loop.owner, loop.path, loop.header, good, history)
            if loop.on_chunk is not None:
                loop.on_chunk(good)
    except KeyboardInterrupt as stop:
        # Words are a caller's own; a trace has not run yet.
        if stop.args or traced(diverged):
            raise
        raise _stopped(loop, done, history) from None
    finally:
        loop.meter.close(shown)
    whole = {name: jnp.asarray(join(parts)) for name, parts in history.items()}
    return good, {**whole, "diverged": diverged}


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
    # A trace may hold numbers only, and still make no numbers.
    if traced((tree, jnp.asarray(0) + 0)):
        raise ValueError(
            f"{owner}: `checkpoint` needs numbers, and this call is inside `jit` or `vmap`; "
            "leave `checkpoint` out there."
        )
    # A link's target is what is replaced, not the link.
    return pathlib.Path(os.path.realpath(checkpoint))
