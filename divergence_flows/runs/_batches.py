"""What a run takes for samples: an array, an array with conditions, or a batch for each step.

Inside a run samples are a tuple: x alone, or x and its condition c, any pytree. A stream makes such
a tuple for each step on the host; the batches of a chunk are stacked, and the chunk scans them.
"""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Shaped

from .._checks import (
    array_of,
    check_events,
    check_samples,
    check_some,
    described,
    raise_first,
    some_not_finite,
)
from .._types import Function

# What public functions take: an array of x alone, or a tuple (xs, cs) with conditions; and for a
# run also a function batch(step), or an iterable of batches. They are checked here, in words: the
# hook would print every type that a union has.
Samples = Any
Source = Any
# The same inside: x alone, or x and its condition, as arrays.
Data = tuple[Any, ...]
_SAMPLES = "an array with one sample a row, or a tuple (xs, cs) of samples and their conditions"
_SOURCES = f"{_SAMPLES}, or a function `batch(step)` or an iterable that makes them"


def _is_array(value: Any) -> bool:
    return hasattr(value, "__array__") or isinstance(value, (bool, int, float))


def _is_real(leaf: Any) -> bool:
    """Whether an array of ours has real numbers or booleans; `array_of` asks those of others."""
    kinds = jnp.bool, jnp.integer, jnp.floating
    ours = isinstance(leaf, np.ndarray | jax.Array)
    return not ours or any(jnp.issubdtype(leaf.dtype, kind) for kind in kinds)


def _kind_of(value: Any) -> str:
    arrays = _is_array(value) or isinstance(value, tuple)
    return described(value) if arrays else f"a {type(value).__name__}"


def _parts(caller: str, name: str, value: Any) -> Data:
    """Takes samples apart into x and its condition, and refuses what is none."""
    parts = (value,) if _is_array(value) else value
    known = isinstance(parts, tuple | list) and len(parts) in (1, 2) and _is_array(parts[0])
    if not known or not all(map(_is_array, jax.tree.leaves(parts[1:]))):
        raise ValueError(f"{caller}: `{name}` is {_kind_of(value)}; pass {_SAMPLES}.")
    if not np.ndim(parts[0]):
        raise ValueError(f"{caller}: `{name}` is one number; pass {_SAMPLES}.")
    if not all(map(_is_real, jax.tree.leaves(tuple(parts)))):
        raise ValueError(f"{caller}: `{name}` is {described(value)}; pass real numbers.")
    parts = jax.tree.map(Partial(array_of, caller, name), tuple(parts))
    check_some(caller, name, parts[0])
    if len({np.shape(leaf)[:1] for leaf in jax.tree.leaves(parts)}) > 1:
        words = f"is {described(value)}; pass one condition for each sample."
        raise ValueError(f"{caller}: `{name}` {words}")
    return parts


def _with_conditions(caller: str, check: Function, values: Mapping[str, Any]) -> Any:
    """Lets a check make arrays of all x, and makes arrays of their conditions, which must match."""
    parts = {name: _parts(caller, name, value) for name, value in values.items()}
    clouds = check(caller, **{name: part[0] for name, part in parts.items()})
    conditions = [jax.tree.map(jnp.asarray, part[1:]) for part in parts.values()]
    found = {str(jax.tree.map(lambda leaf: leaf.shape[1:], c)): c for c in conditions}
    if len(found) > 1:
        words = " and ".join(
            f"`{name}` {described(c)}" for name, c in zip(parts, conditions, strict=True)
        )
        raise ValueError(f"{caller}: conditions do not match: {words}; pass all of one kind.")
    return tuple((xs, *c) for xs, c in zip(clouds, conditions, strict=True))


def samples(caller: str, **values: Samples) -> Any:  # a tuple of as many Data
    """Samples as one step takes them, of one shape."""
    return _with_conditions(caller, check_events, values)


def checked_samples(caller: str, **values: Samples) -> Any:
    """As `samples`, and looks at the numbers too."""
    made = _with_conditions(caller, check_samples, values)
    faults = {}
    for name, (_, *conditions) in zip(values, made, strict=True):
        floats = [c for c in jax.tree.leaves(conditions) if jnp.issubdtype(c.dtype, jnp.inexact)]
        if floats:
            words = f"{caller}: `{name}` has conditions with NaN or inf; drop those samples first."
            for one in floats:
                faults[words] = faults.get(words, np.False_) | some_not_finite(one)
    if not faults:
        return made
    clouds = raise_first(tuple(xs for xs, *_ in made), faults)
    return tuple((xs, *data[1:]) for xs, data in zip(clouds, made, strict=True))


def sources(caller: str, **values: Source) -> Any:  # a tuple of as many Data or Batches
    """Whatever a run takes for samples."""
    streams = {}
    for name, value in values.items():
        given = callable(value) or isinstance(value, Iterable)
        if _is_array(value) or isinstance(value, tuple):
            continue
        if not given or isinstance(value, str | Mapping):
            raise ValueError(f"{caller}: `{name}` is {_kind_of(value)}; pass {_SOURCES}.")
        streams[name] = Batches(caller, name, value)
    first = {name: streams[name].first if name in streams else values[name] for name in values}
    made = checked_samples(caller, **first)
    return tuple(streams.get(name, data) for name, data in zip(values, made, strict=True))


def whole(caller: str, name: str, data: "Data | Batches", why: str) -> Data:
    """Refuses batches where all samples are needed at once."""
    if isinstance(data, Batches):
        raise ValueError(f"{caller}: `{name}` makes batches, and {why}; pass an array.")
    return data


def first_of(data: "Data | Batches") -> Data:
    """All samples, or those of the first step."""
    return data.first if isinstance(data, Batches) else data


def _on_host(leaf: Any) -> Shaped[np.ndarray, "..."]:
    """An array as numpy has it, of a type that JAX has."""
    array = np.asarray(leaf)
    return array.astype(jax.dtypes.canonicalize_dtype(array.dtype), copy=False)


def _kind(batch: Data) -> Any:
    """What all batches of a run have in common."""
    leaves, structure = jax.tree.flatten(batch)
    return structure, [(leaf.shape[1:], leaf.dtype) for leaf in leaves]


def _count(batch: Data) -> int:
    return len(batch[0])


class Batches:
    """A batch for each step, from a function of the step, or from an iterable again and again.

    An iterable's rows keep their order; they are cut into batches of the first one's size.
    """

    def __init__(self, caller: str, name: str, origin: Any):
        """Reads the first batch."""
        self._caller, self._name, self._origin = caller, name, origin
        self._iterator: Any = None if callable(origin) else iter(origin)
        self._like: Data | None = None
        first = self._checked(0, origin(0) if callable(origin) else self._read(0))
        # Rows that were read, and not yet handed out.
        self._unused: Data | None = None if callable(origin) else first
        self._like = first
        self.first = tuple(jax.tree.map(jnp.asarray, first))

    def _refusal(self, words: str) -> ValueError:
        return ValueError(f"{self._caller}: `{self._name}` {words}")

    def _read(self, step: int) -> Any:
        """The next batch of the iterable, which begins again at its end."""
        for attempt in (self._iterator, None):
            if attempt is None:
                again = iter(self._origin)
                if again is self._iterator:
                    words = f"ended before step {step}; pass what can begin again, as a loader can"
                    raise self._refusal(f"{words}, a function `batch(step)`, or fewer `steps`.")
                self._iterator = again
            with contextlib.suppress(StopIteration):
                return next(self._iterator)
        raise self._refusal("has no batches; pass one at least.")

    def _checked(self, step: int, batch: Any) -> Data:
        """A batch as numpy arrays, x as floats; it must be like the first one."""
        xs, *conditions = jax.tree.map(_on_host, _parts(self._caller, self._name, batch))
        if not jnp.issubdtype(xs.dtype, jnp.inexact):
            xs = xs.astype(jnp.result_type(float))
        batch = (xs, *conditions)
        if self._like is not None and _kind(batch) != _kind(self._like):
            words = f"has {described(batch)} at step {step}, and {described(self._like)} at step 0"
            raise self._refusal(f"{words}; make samples of one shape and type.")
        floats = [leaf for leaf in jax.tree.leaves(batch) if leaf.dtype.kind == "f"]
        if not all(np.isfinite(leaf).all() for leaf in floats):
            raise self._refusal(f"has NaN or inf at step {step}; drop those samples first.")
        return batch

    def _next(self, step: int) -> Data:
        """The batch of one step."""
        assert self._like is not None
        size = _count(self._like)
        if callable(self._origin):
            batch = self._checked(step, self._origin(step))
            if _count(batch) != size:
                words = f"has {_count(batch)} samples at step {step}, and {size} at step 0"
                raise self._refusal(f"{words}; make as many at each step.")
            return batch
        while self._unused is None or _count(self._unused) < size:
            more = self._checked(step, self._read(step))
            parts = [more] if self._unused is None else [self._unused, more]
            self._unused = jax.tree.map(lambda *rows: np.concatenate(rows), *parts)
        batch = jax.tree.map(lambda rows: rows[:size], self._unused)
        rest = jax.tree.map(lambda rows: rows[size:], self._unused)
        self._unused = rest if _count(rest) else None
        return batch

    def take(self, step: int, count: int) -> Data:
        """The batches of so many steps, stacked."""
        batches = [self._next(step + i) for i in range(count)]
        if not batches:
            return ()
        return jax.tree.map(lambda *leaves: np.stack(leaves), *batches)

    def check_rewinds(self) -> None:
        """Refuses what cannot be read again from where a checkpoint was written."""
        if self._iterator is not None and not hasattr(self._iterator, "set_state"):
            raise self._refusal(
                "is an iterable that cannot be rewound, so that no run with `checkpoint` could go "
                "on from it; pass a function `batch(step)`, or an iterator with `get_state` and "
                "`set_state`, as grain's have."
            )

    def position(self) -> Any:
        """Where an iterable stands, for JSON."""
        if self._iterator is None:
            return None
        if self._unused is not None:
            words = "has batches of several sizes, between which no checkpoint can be written; drop"
            raise self._refusal(f"{words} the last batch of an epoch if it is smaller.")
        state = self._iterator.get_state()
        return {"bytes": state.hex()} if isinstance(state, bytes) else state

    def rewind(self, position: Any) -> None:
        """Goes back to where an iterable stood."""
        if self._iterator is not None:
            is_bytes = isinstance(position, dict) and list(position) == ["bytes"]
            self._iterator.set_state(bytes.fromhex(position["bytes"]) if is_bytes else position)
            self._unused = None


class Feed:
    """The inputs of a run: some are the same at all steps, some are batches of each step."""

    def __init__(self, inputs: Sequence[Data | Batches]):
        """Tells the two apart."""
        self._streams = [data if isinstance(data, Batches) else None for data in inputs]
        self.fixed = [None if isinstance(data, Batches) else data for data in inputs]
        self.first = [first_of(data) for data in inputs]
        self.streams = [data for data in inputs if isinstance(data, Batches)]

    def attempt(self, step: int, count: int) -> tuple[list[Data | None], Exception | None]:
        """The batches of so many steps, stacked, None where there are none; or what went wrong.

        An error of the next chunk waits until the chunk before it has been saved.
        """
        try:
            return [stream and stream.take(step, count) for stream in self._streams], None
        except Exception as error:
            return [], error

    def places(self) -> list[Any]:
        """Where each stream stands, for JSON."""
        return [stream.position() for stream in self.streams]


def at_step(fixed: list[Any], batch: list[Any]) -> list[Data]:
    """The inputs of one step."""
    return [one if other is None else other for one, other in zip(fixed, batch, strict=True)]
