"""A long run in pieces: chunks of `lax.scan`, and between them a checkpoint or a look.

A step is `step(state, *inputs) -> (state, metrics)`, `metrics` a dict of numbers by name; the state
counts its steps in `state.step`.
"""

import os
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import PyTree

from .._checks import check_counts
from .._types import BoolScalar, Function, Scalar, traced
from ..flows._integrate import AbstractProgressMeter, NoProgressMeter, TqdmProgressMeter
from ._batches import Batches, Data, Feed, at_step
from ._checkpoint import Checkpoint, History, fingerprint, join
from ._stopping import error, first_bad_step, keep_last_good, not_finite

_STOP = Partial(not_finite, {})
_KEPT = "kept."  # what `collect` gave, by the number of its leaf


class Loop(eqx.Module):
    """How long a run is, and what happens between its chunks."""

    caller: str
    steps: int
    chunk: int
    progress: bool | AbstractProgressMeter
    checkpoint: str | os.PathLike | None
    save_every: int | None
    on_chunk: Callable[..., Any] | None

    def __check_init__(self) -> None:
        """Refuses a run of no steps."""
        counts = {"steps": self.steps, "chunk": self.chunk, "save_every": self.save_every}
        check_counts(self.caller, counts)

    def meter(self, tracing: bool) -> AbstractProgressMeter:
        """The progress meter: a bar by default, if someone can see it."""
        if not isinstance(self.progress, bool):
            return self.progress
        shown = self.progress and not tracing and sys.stderr.isatty()
        return TqdmProgressMeter() if shown else NoProgressMeter()

    def saves(self, old: int, new: int) -> bool:
        """Whether a checkpoint is due after the chunk between two steps."""
        every = self.save_every or self.chunk
        return old // every < new // every or new == self.steps

    def ends(self, state: PyTree, metrics: dict[str, Any]) -> bool:
        """Shows a chunk to the caller, who may end the run."""
        if self.on_chunk is None:
            return False
        answer = self.on_chunk(state, {name: np.asarray(part) for name, part in metrics.items()})
        return isinstance(answer, (bool, np.bool, jax.Array)) and bool(answer)

    def refuse_traces(self, tracing: bool, has_streams: bool) -> None:
        """Refuses what happens on the host, inside a trace."""
        asked = {"`on_chunk`": self.on_chunk is not None, "batches of each step": has_streams}
        for what, is_so in asked.items():
            if tracing and is_so:
                words = "need the host, and this call is inside `jit` or `vmap`; leave them out"
                raise ValueError(f"{self.caller}: {what} {words} there, or call it outside.")


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
    collect: Function,
    meter: Any,
    steps: Scalar,
    length: int,
    state: PyTree,
    shown: PyTree,
    fixed: list[PyTree],
    batches: list[PyTree],
) -> tuple[PyTree, ...]:
    """Runs `length` steps without coming back to the host, and looks whether they went well."""

    def body(carry: tuple[PyTree, PyTree], batch: PyTree) -> tuple[tuple[PyTree, PyTree], PyTree]:
        new, metrics = step(carry[0], *at_step(fixed, batch))
        return (new, meter.step(carry[1], new.step / steps)), (metrics, collect(new))

    (new, shown), (metrics, kept) = scan(body, (state, shown), batches, length)
    last = at_step(fixed, jax.tree.map(lambda leaf: leaf[-1], batches))
    flags = stop(state, new, metrics, *last)
    return new, shown, metrics, kept, flags, first_bad_step(flags, length)


def _nothing(state: PyTree) -> dict[str, Any]:
    """Collects nothing."""
    return {}


def _zeros_if(lost: BoolScalar, leaf: Any) -> Any:
    return jnp.where(lost, jnp.zeros_like(leaf), leaf)


class _Record:
    """What a run has done, and its file, if it has one."""

    def __init__(self, loop: Loop, step: Function, state: PyTree, feed: Feed, kept: int):
        """Refuses inputs that cannot be read again; of what is collected one in `kept` stays."""
        self.loop, self.done, self.saved, self.places = loop, 0, -1, []
        self.history: History = {}
        self.file = None
        if loop.checkpoint is not None:
            for stream in feed.streams:
                stream.check_rewinds()
            # The inputs of the first step stand for those of all.
            run = {"caller": loop.caller, "chunk": loop.chunk, "keep_map": kept}
            run |= fingerprint(loop.caller, step, (state, *feed.first))
            # The target of a link is replaced, not the link.
            self.file = Checkpoint(pathlib.Path(os.path.realpath(loop.checkpoint)), run)

    def resume(self, state: PyTree, feed: Feed) -> PyTree:
        """Reads the file, if it is there."""
        if self.file is None:
            return state
        if os.path.exists(self.file.path):
            self.done, state, self.history, places = self.file.load(state, self.loop.steps)
            self.saved = self.done
            for stream, place in zip(feed.streams, places, strict=True):
                stream.rewind(place)
        if self.done < self.loop.steps:
            self.file.prepare()
        return state

    def add(self, parts: dict[str, Any]) -> None:
        """Adds metrics to those of the steps before; on the host, unless traced."""
        for name, part in parts.items():
            self.history.setdefault(name, []).append(part if traced(part) else np.asarray(part))

    def save(self, state: PyTree, places: list[Any]) -> None:
        """Writes the file, unless it has this step already."""
        if self.file is not None and self.saved < self.done:
            self.file.save(self.done, state, self.history, places)
            self.saved = self.done

    def interrupted(self) -> KeyboardInterrupt:
        """What Ctrl-C says."""
        none = "no checkpoint was asked for: pass `checkpoint` to keep what a run did"
        standing = none if self.file is None else self.file.standing()
        words = f"{self.loop.caller}: stopped after step {self.done} of {self.loop.steps}; "
        return KeyboardInterrupt(f"{words}{standing}.")


def run_chunks(
    loop: Loop,
    step: Function,
    state: PyTree,
    inputs: Sequence[Data | Batches],
    stop: Function = _STOP,
    keep: Function = _nothing,
    collect: Function = _nothing,
    every: int = 1,
) -> tuple[PyTree, dict[str, Any]]:
    """Runs from the start, or from a checkpoint, to the end.

    `keep(state)` is what else to collect, at the start and at the end of each chunk; `collect`
    a pytree after each step, of which every `every`-th goes to the host.
    """
    feed = Feed(inputs)
    # Inside jit even constants are tracers; adding 0 detects that.
    tracing = traced((step, state, feed.first, jnp.asarray(0) + 0))
    loop.refuse_traces(tracing, bool(feed.streams))
    record = _Record(loop, step, state, feed, 0 if collect is _nothing else every)
    record.add(keep(state))
    state = record.resume(state, feed)
    meter = loop.meter(tracing)
    shown, diverged, good = meter.init(), jnp.asarray(-1), state
    total = jnp.asarray(loop.steps, float)
    batches, failed = feed.attempt(record.done, min(loop.chunk, loop.steps - record.done))
    try:
        while record.done < loop.steps:
            if failed is not None:
                raise failed
            done, length = record.done, min(loop.chunk, loop.steps - record.done)
            now = (total, length, state, shown, feed.fixed, batches)
            run = _run_chunk(step, stop, collect, meter, *now)
            # The device computes while the host loads the next batches.
            places = feed.places() if record.file is not None else []
            batches, failed = feed.attempt(
                done + length, min(loop.chunk, loop.steps - done - length)
            )
            new, shown, metrics, kept, flags, first = run
            if tracing := traced(first):
                loop.refuse_traces(tracing, bool(feed.streams))
                # A run that has diverged goes on: the program is the same for all seeds.
                good, metrics, diverged = keep_last_good(good, new, metrics, first, done, diverged)
                kept = jax.tree.map(Partial(_zeros_if, diverged >= 0), kept)
            elif (at := np.asarray(first)).min() < length:
                path = (
                    record.file.path if record.file is not None and record.saved == done else None
                )
                raise error(loop, done, state, metrics, flags, at, path)
            else:
                good = new
            thin = slice(-done % every, None, every)
            kept = {f"{_KEPT}{i}": leaf[thin] for i, leaf in enumerate(jax.tree.leaves(kept))}
            record.add({**metrics, **keep(good), **kept})
            state, record.done = new, done + length
            # Checkpoint first, so that a caller who stops the run loses nothing.
            if loop.saves(done, record.done):
                record.save(good, places)
            if loop.ends(good, metrics):
                record.save(good, places)
                break
    except KeyboardInterrupt as stopped:
        # Re-raise unchanged if the caller gave a message, or if we are only tracing.
        if stopped.args or tracing:
            raise
        raise record.interrupted() from None
    finally:
        meter.close(shown)
    joined = {name: join(parts) for name, parts in record.history.items()}
    kept = [joined.pop(name) for name in list(joined) if name.startswith(_KEPT)]
    metrics = {name: jnp.asarray(part) for name, part in joined.items()}
    return good, {**metrics, "kept": kept, "diverged": diverged}
