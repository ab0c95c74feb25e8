"""A long run in pieces: chunks of `lax.scan`, and between them a checkpoint or a look.

A step is `step(state) -> (state, metrics)`, `metrics` a dict of numbers by name; the state counts
its steps in `state.step`. The metrics of all steps so far are the run's history.
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

from .._types import traced
from ..flows._integrate import AbstractProgressMeter
from ._resume import History, check_place, count, join, read, standing, write
from ._stopping import Metrics, error, hold, no_signs, verdict

Cloud = Float[Array, "_ *event"]


class Loop(eqx.Module):
    """How long a run is, and what happens between its chunks."""

    caller: str
    steps: int
    chunk: int
    meter: AbstractProgressMeter
    path: pathlib.Path | None
    header: dict[str, Any]
    on_chunk: Callable[..., Any] | None


def _arrays_only(
    step: Callable[..., Any], rest: PyTree, arrays: PyTree, x: PyTree
) -> tuple[PyTree, PyTree]:
    state, metrics = step(eqx.combine(arrays, rest), x)
    return eqx.filter(state, eqx.is_array), metrics


def scan(
    step: Callable[..., Any], state: PyTree, xs: PyTree, length: int | None = None
) -> tuple[PyTree, PyTree]:
    """`lax.scan` of a state of which only the arrays change."""
    arrays, rest = eqx.partition(state, eqx.is_array)
    body = functools.partial(_arrays_only, step, rest)
    arrays, metrics = jax.lax.scan(body, arrays, xs, length=length)
    return eqx.combine(arrays, rest), metrics


def _metered(
    step: Callable[..., Any],
    meter: AbstractProgressMeter,
    steps: int,
    carry: tuple[PyTree, PyTree],
    _: None,
) -> tuple[tuple[PyTree, PyTree], PyTree]:
    state, shown = carry
    state, metrics = step(state)
    return (state, meter.step(shown, state.step / steps)), metrics


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
    (new, shown), metrics = scan(body, (state, shown), None, length)
    return new, shown, metrics, verdict(signs, state, new, metrics)


def nothing(state: PyTree, done: int) -> Metrics:
    """Keeps nothing of a state at the end of a chunk."""
    del state, done
    return {}


def _stopped(loop: Loop, done: int, history: History) -> KeyboardInterrupt:
    """What to tell somebody who pressed Ctrl-C."""
    words = f"{loop.caller}: stopped after step {done} of {loop.steps}; "
    if loop.path is None:
        words += "no checkpoint was asked for: pass `checkpoint` to keep what a run did"
    else:
        stands, at = standing(loop.caller, loop.path, loop.header, history)
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
    """Runs from the start, or from a checkpoint, to the end; the meter is closed in any case."""
    if loop.path is not None and os.path.exists(loop.path):
        state, history = read(loop.caller, loop.path, loop.header, state, history)
    done = count(history)
    if loop.path is not None and done < loop.steps:
        check_place(loop.caller, loop.path)
    # In a trace a run that has diverged runs on, so that others are the same programs as ever.
    shown, diverged, good = loop.meter.init(), jnp.asarray(-1), state
    try:
        while done < loop.steps:
            length = min(loop.chunk, loop.steps - done)
            new, shown, metrics, first = _run_chunk(
                step, loop.meter, loop.steps, length, signs, state, shown
            )
            metrics = {name: metrics[name] for name in history if name in metrics}
            if traced(first):
                good, metrics, diverged = hold(good, new, metrics, first, done, diverged)
            elif trouble := error(loop.caller, loop.steps, done, metrics, first, state, loop.path):
                raise trouble
            else:
                good = new
            state, done = new, done + length
            parts = {**metrics, **keep(good, done)}
            history = {name: [*past, parts[name]] for name, past in history.items()}
            # Checkpoint first, so that a caller who stops the run loses nothing.
            if loop.path is not None:
                write(loop.caller, loop.path, loop.header, good, history)
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


def as_path(caller: str, checkpoint: str | os.PathLike | None, tree: PyTree) -> pathlib.Path | None:
    """Makes a path of what was passed as a checkpoint, and refuses one inside a trace."""
    if checkpoint is None:
        return None
    # A trace may hold numbers only, and still make no numbers.
    if traced((tree, jnp.asarray(0) + 0)):
        raise ValueError(
            f"{caller}: `checkpoint` needs numbers, and this call is inside `jit` or `vmap`; "
            "leave `checkpoint` out there."
        )
    # A link's target is what is replaced, not the link.
    return pathlib.Path(os.path.realpath(checkpoint))
