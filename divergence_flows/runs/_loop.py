"""A long run in pieces: chunks of `lax.scan`, and between them a checkpoint or a look.

A step is `step(state) -> (state, metrics)`, `metrics` a dict of numbers by name; the state counts
its steps in `state.step`.
"""

import os
import pathlib
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, PyTree, Shaped

from .._checks import check_counts
from .._types import Function, Scalar, traced
from ..flows._integrate import AbstractProgressMeter
from ._checkpoint import Checkpoint, fingerprint, join
from ._stopping import error, first_bad_step, keep_last_good, not_finite

_STOP = Partial(not_finite, {})


class Loop(eqx.Module):
    """How long a run is, and what happens between its chunks."""

    caller: str
    steps: int
    chunk: int
    progress_meter: AbstractProgressMeter
    checkpoint: str | os.PathLike | None
    on_chunk: Callable[..., Any] | None

    def __check_init__(self) -> None:
        """Refuses a run of no steps."""
        check_counts(self.caller, {"steps": self.steps, "chunk": self.chunk})


def scan(
    step: Function, state: PyTree, xs: PyTree, length: int | None = None
) -> tuple[PyTree, PyTree]:
    """`lax.scan` of a state of which only the arrays change."""
    arrays, rest = eqx.partition(state, eqx.is_array)

    def body(arrays: PyTree, x: PyTree) -> tuple[PyTree, PyTree]:
        state, metrics = step(eqx.combine(arrays, rest), x)
        return eqx.filter(state, eqx.is_array), metrics

    arrays, metrics = jax.lax.scan(body, arrays, xs, length=length)
    return eqx.combine(arrays, rest), metrics


@eqx.filter_jit
def _run_chunk(
    step: Function,
    stop: Function,
    meter: Any,
    steps: Scalar,
    length: int,
    state: PyTree,
    shown: PyTree,
) -> tuple[PyTree, ...]:
    """Runs `length` steps without coming back to the host, and looks whether they went well."""

    def body(carry: tuple[PyTree, PyTree], _: None) -> tuple[tuple[PyTree, PyTree], PyTree]:
        new, metrics = step(carry[0])
        return (new, meter.step(carry[1], new.step / steps)), metrics

    (new, shown), metrics = scan(body, (state, shown), None, length)
    flags = stop(state, new, metrics)
    return new, shown, metrics, flags, first_bad_step(flags, length)


def run_chunks(
    loop: Loop, step: Function, state: PyTree, stop: Function = _STOP, keep: Function = lambda s: {}
) -> tuple[PyTree, dict[str, Shaped[Array, "..."]]]:
    """Runs from the start, or from a checkpoint, to the end.

    `keep(state)` is what else to collect, at the start and at the end of each chunk.
    """
    done, history = 0, {name: [part] for name, part in keep(state).items()}
    file = None
    if loop.checkpoint is not None:
        run = {"caller": loop.caller, "steps": loop.steps, "chunk": loop.chunk}
        run |= fingerprint(loop.caller, step, state)
        # The target of a link is replaced, not the link.
        file = Checkpoint(pathlib.Path(os.path.realpath(loop.checkpoint)), run)
        if os.path.exists(file.path):
            done, state, history = file.load(state)
        if done < loop.steps:
            file.prepare()
    meter, tracing = loop.progress_meter, False
    shown, diverged, good = meter.init(), jnp.asarray(-1), state
    total = jnp.asarray(loop.steps, float)
    try:
        while done < loop.steps:
            length = min(loop.chunk, loop.steps - done)
            run = _run_chunk(step, stop, meter, total, length, state, shown)
            new, shown, metrics, flags, first = run
            if tracing := traced(first):
                # A run that has diverged goes on: the program is the same for all seeds.
                good, metrics, diverged = keep_last_good(good, new, metrics, first, done, diverged)
            elif (at := np.asarray(first)).min() < length:
                path = file.path if file is not None and done else None
                raise error(loop, done, state, metrics, flags, at, path)
            else:
                good = new
            state, done = new, done + length
            for name, part in {**metrics, **keep(good)}.items():
                history.setdefault(name, []).append(part)
            # Checkpoint first, so that a caller who stops the run loses nothing.
            if file is not None:
                file.save(done, good, history)
            if loop.on_chunk is not None:
                loop.on_chunk(good)
    except KeyboardInterrupt as stopped:
        # Re-raise unchanged if the caller gave a message, or if we are only tracing.
        if stopped.args or tracing:
            raise
        none = "no checkpoint was asked for: pass `checkpoint` to keep what a run did"
        words = f"{loop.caller}: stopped after step {done} of {loop.steps}; "
        raise KeyboardInterrupt(words + (none if file is None else file.standing()) + ".") from None
    finally:
        meter.close(shown)
    whole = {name: jnp.asarray(join(parts)) for name, parts in history.items()}
    return good, {**whole, "diverged": diverged}
