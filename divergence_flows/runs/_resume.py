"""A run in a checkpoint: its state and its history, put there and taken out again."""

import pathlib
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree, Shaped

from .._types import traced
from ._checkpoint import Stored, load, on_host, prepare, refusal, save

# Metrics of a run so far, by name, in parts along time.
History = dict[str, list[Any]]


def join(parts: list[Any]) -> Shaped[Array | np.ndarray, "..."]:
    """All of one kind of history, along time; on the host unless traced."""
    if traced(parts):
        return jnp.concatenate(parts)
    return np.concatenate([np.asarray(part) for part in parts])


def count(history: History) -> int:
    """Steps that a history has seen."""
    return sum(part.shape[0] for part in next(iter(history.values())))


def _named(state: PyTree) -> dict[str, Any]:
    """The state's arrays, each with the name that it has in the file."""
    leaves = jax.tree.leaves(eqx.filter(state, eqx.is_array))
    return {f"state{i:04d}": leaf for i, leaf in enumerate(leaves)}


def check_place(caller: str, path: pathlib.Path) -> None:
    """Refuses a place where no checkpoint can be written, before anything is computed."""
    try:
        prepare(path)
    except OSError as error:
        words = (
            f"{caller}: nothing can be written to checkpoint {path}: {error.strerror}; pass a "
            "`checkpoint` in a folder that you may write to, on a disk with room."
        )
        raise OSError(error.errno, words) from error


def write(
    caller: str, path: pathlib.Path, header: dict[str, Any], state: PyTree, history: History
) -> None:
    """Writes a run's checkpoint in the place of the last one."""
    arrays = {name: on_host(leaf) for name, leaf in _named(state).items()}
    arrays |= {name: np.asarray(join(parts)) for name, parts in history.items()}
    try:
        save(path, header, arrays)
    except OSError as error:
        stands, at = standing(caller, path, header, history)
        words = (
            f"{caller}: checkpoint {path} could not be written after step {count(history)}: "
            f"{error.strerror}. {stands}. Make room, and the same call goes on from "
            f"{'there' if at else 'the start'}."
        )
        raise OSError(error.errno, words) from error


def standing(
    caller: str, path: pathlib.Path, header: dict[str, Any], history: History
) -> tuple[str, int]:
    """Says what the file holds now, by reading it."""
    try:
        done = len(load(path, header, caller)[next(iter(history))])
    except (ValueError, KeyError):
        return f"{path} holds nothing of this run yet", 0
    return f"{path} holds step {done}", done


def _misfit(name: str, found: Stored, like: Any, done: int) -> str | None:
    """What is wrong with one stored array: `like` is an example, or None for one number a step."""
    shape, dtype = (done,), found.dtype if found.dtype.kind != "i" else "float"
    if like is not None:
        like = on_host(like)
        shape, dtype = like.shape, like.dtype
        if not name.startswith("state"):  # along time there may be any number
            shape = (found.size and len(found), *shape[1:]) if found.ndim else shape
    if (found.shape, found.dtype) == (shape, dtype):
        return None
    return f"holds `{name}` as {found.dtype}{found.shape}, and this run has {dtype}{shape}"


def _put(stored: Stored, leaf: Any) -> Any:
    """A stored array where an array of the first state was."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(jnp.asarray(stored), impl=jax.random.key_impl(leaf))
    return jnp.asarray(stored)


def read(
    caller: str, path: pathlib.Path, header: dict[str, Any], state: PyTree, history: History
) -> tuple[PyTree, History]:
    """Takes a run out of its checkpoint."""
    stored, named = load(path, header, caller), _named(state)
    known = {**named, **{name: (parts or [None])[0] for name, parts in history.items()}}
    if lacks := sorted(set(known) - set(stored)):
        raise refusal(caller, path, f"lacks {', '.join(lacks)}")
    if extra := sorted(set(stored) - set(known)):
        raise refusal(caller, path, f"holds {', '.join(extra)}, unknown to this run")
    done = stored[next(iter(history))].size
    for name, like in known.items():
        if (what := _misfit(name, stored[name], like, done)) is not None:
            raise refusal(caller, path, what)
    arrays, rest = eqx.partition(state, eqx.is_array)
    leaves = [_put(stored[name], leaf) for name, leaf in named.items()]
    state = eqx.combine(jax.tree.unflatten(jax.tree.structure(arrays), leaves), rest)
    return state, {name: [stored[name]] for name in history}
