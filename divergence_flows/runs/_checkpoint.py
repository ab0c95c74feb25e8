"""Checkpoints: a JSON line and a run's arrays in one file, written whole or not at all.

The line is the run's fingerprint: a file of another run is refused. The file ends in a CRC of all
bytes before it: one that was cut short or damaged is refused too. No pickle is written or read.
"""

import contextlib
import dataclasses
import glob
import hashlib
import io
import json
import os
import pathlib
import re
import secrets
import time
import zlib
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree, Shaped

from .._types import Function, traced

_CRC = 4  # bytes
# A temporary file that was not written to for so long was left by a killed process [s].
_STALE = 600.0
# What differs between two runs, by the entry of the fingerprint that does.
_OTHER = {
    "program": "another program: another GAN, network, optimiser or option, or another version; to "
    "extend a run pass an optimizer and a step size that do not depend on `steps`, as the defaults "
    "do",
    "numbers": "other numbers: other data, weights, options or another key",
}
# Metrics of a run so far, by name, in parts along time.
History = dict[str, list[Any]]


def join(parts: list[Any]) -> Shaped[Array | np.ndarray, "..."]:
    """One metric along time; on the host unless traced."""
    if traced(parts):
        return jnp.concatenate(parts)
    return np.concatenate([np.asarray(part) for part in parts])


def _constants(jaxpr: Any) -> list[Any]:
    """The constants of a program and of all programs inside it."""
    found = list(getattr(jaxpr, "consts", ()))
    for equation in jaxpr.eqns:
        for part in jax.tree.leaves(list(equation.params.values())):
            found += _constants(part) if hasattr(part, "eqns") else []
    return found


def fingerprint(caller: str, step: Function, inputs: tuple[PyTree, ...]) -> dict[str, str]:
    """Hashes of the program of one step, and of all numbers that go into it."""
    program = eqx.filter_make_jaxpr(lambda step, inputs: step(*inputs))(step, inputs)[0]
    numbers = jax.tree.leaves(eqx.filter((step, inputs), eqx.is_array)) + _constants(program)
    # Inside jit even constants are tracers; adding 0 detects that.
    if traced((numbers, jnp.asarray(0) + 0)):
        words = "needs numbers, and this call is inside `jit` or `vmap`; leave it out there."
        raise ValueError(f"{caller}: `checkpoint` {words}")
    text = re.sub(r" at 0x[0-9a-f]+", "", str(program))
    contents = {"program": [text.encode()], "numbers": [_plain(x).tobytes() for x in numbers]}
    return {k: hashlib.sha256(b"".join(part)).hexdigest()[:16] for k, part in contents.items()}


def _plain(leaf: Any) -> Shaped[np.ndarray, "..."]:
    """An array as numpy can write it, which takes neither typed keys nor bfloat16."""
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    array = np.asarray(leaf)
    return array.view(f"u{array.dtype.itemsize}") if array.dtype.kind == "V" else array


def _restored(like: Any, stored: Shaped[np.ndarray, "..."]) -> Any:
    """Undoes `_plain` for an array of the state."""
    if jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(jnp.asarray(stored), impl=jax.random.key_impl(like))
    return jnp.asarray(stored.view(like.dtype))


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """The file of one run: where it is, and the run's fingerprint."""

    path: pathlib.Path
    run: dict[str, Any]

    def _refusal(self, what: str) -> ValueError:
        """The error for a file that is not this run's checkpoint."""
        return ValueError(
            f"{self.run['caller']}: checkpoint {self.path} {what}; pass another `checkpoint`, or "
            "move that file away."
        )

    def prepare(self) -> None:
        """Refuses a place that cannot be written to, and removes what killed processes left."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            for left in self.path.parent.glob(f"{glob.escape(self.path.name)}.{'?' * 16}.tmp"):
                with contextlib.suppress(OSError):
                    if time.time() - left.stat().st_mtime > _STALE:
                        left.unlink()
            trial = self._temporary()
            trial.touch(exist_ok=False)
            trial.unlink()
        except OSError as error:
            words = (
                f"{self.run['caller']}: nothing can be written to checkpoint {self.path}: "
                f"{error.strerror}; pass a `checkpoint` where you may write and there is room."
            )
            raise OSError(error.errno, words) from error

    def _temporary(self) -> pathlib.Path:
        """A name beside the file that no other process, on this machine or another, will choose."""
        return self.path.with_name(f"{self.path.name}.{secrets.token_hex(8)}.tmp")

    def save(self, done: int, state: PyTree, history: History, places: list[Any]) -> None:
        """Writes the run so that a kill at any moment leaves the old file or the new one.

        `places` is where the streams stand that feed it.
        """
        metrics = {name: np.asarray(join(parts)) for name, parts in history.items()}
        shapes = {name: [part.shape, part.dtype.name] for name, part in metrics.items()}
        arrays = jax.tree.map(_plain, (eqx.filter(state, eqx.is_array), metrics))
        content = io.BytesIO()
        head = {**self.run, "done": done, "metrics": shapes, "places": places}
        content.write(json.dumps(head).encode() + b"\n")
        eqx.tree_serialise_leaves(content, arrays)
        content.write(zlib.crc32(content.getbuffer()).to_bytes(_CRC, "big"))
        temporary = self._temporary()
        try:
            with open(temporary, "xb") as file:
                file.write(content.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
        except OSError as error:
            words = (
                f"{self.run['caller']}: checkpoint {self.path} could not be written after step "
                f"{done}: {error.strerror}. {self.standing()}, so make room first."
            )
            raise OSError(error.errno, words) from error
        finally:
            temporary.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # Windows and some network file systems cannot do this
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)  # so that the new name survives a power cut
            finally:
                os.close(folder)

    def _read(self) -> tuple[dict[str, Any], io.BytesIO]:
        """The JSON line and the arrays of a whole file of this very run."""
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise self._refusal(f"cannot be read: {error.strerror}") from error
        body, crc = content[:-_CRC], content[-_CRC:]
        if len(content) <= _CRC or zlib.crc32(body).to_bytes(_CRC, "big") != crc:
            raise self._refusal("is no checkpoint, or was cut short or damaged")
        file = io.BytesIO(body)
        try:
            head = dict(json.loads(file.readline()))
        except (ValueError, TypeError) as error:
            raise self._refusal("is no checkpoint") from error
        for name, ours in self.run.items():
            if (theirs := head.get(name)) != ours:
                other = f"{name} = {theirs}, and this run has {ours}"
                raise self._refusal(f"was written with {_OTHER.get(name, other)}")
        return head, file

    def load(self, state: PyTree, steps: int) -> tuple[int, PyTree, History, list[Any]]:
        """Steps done, state, metrics and places of streams; `state` is the run's first."""
        head, file = self._read()
        if head["done"] > steps:
            words = f"holds step {head['done']}, and this run has {steps} steps"
            raise self._refusal(words)
        arrays, rest = eqx.partition(state, eqx.is_array)
        try:
            shapes = {name: (s, jnp.dtype(d)) for name, (s, d) in head["metrics"].items()}
            metrics = {name: np.empty(*shape) for name, shape in shapes.items()}
            like = jax.tree.map(_plain, (arrays, metrics))
            stored, parts = eqx.tree_deserialise_leaves(file, like)
            if file.read():
                raise ValueError("There is more in the file than belongs to the run.")
        except Exception as error:  # of numpy and equinox, for a file that was forged
            raise self._refusal("holds another state than this run's") from error
        history = {name: [part.view(metrics[name].dtype)] for name, part in parts.items()}
        state = eqx.combine(jax.tree.map(_restored, arrays, stored), rest)
        return head["done"], state, history, head["places"]

    def standing(self) -> str:
        """What the file holds now, found by reading it, and what the same call will do."""
        try:
            done = self._read()[0]["done"]
        except (ValueError, KeyError):
            return f"{self.path} holds nothing of this run yet; the same call starts anew"
        return f"{self.path} holds step {done}; the same call goes on from there"
