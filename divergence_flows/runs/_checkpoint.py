"""Checkpoints: arrays and a header of settings in one npz file, written whole or not at all.

No pickle is written or read. The header is the run's fingerprint: a file of another run is
refused, so that what resumes is bit for bit what was interrupted. The archive's comment is the
SHA-256 of all other bytes: a file that was cut short, or lost a bit, is refused too.
"""

import contextlib
import hashlib
import io
import json
import os
import pathlib
import re
import secrets
import time
import zipfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree, Shaped

_KIND = "divergence_flows checkpoint "
_NUMBER = 2
_SEAL = 64  # hexadecimal digits at the end of the file
# A temporary file that nobody has touched for so long was left by a killed process [s].
_STALE = 600.0
Stored = Shaped[np.ndarray, "..."]
_FOREIGN = "{caller}: checkpoint {path} {what}; pass another `checkpoint`, or move that file away."


def refusal(caller: str, path: pathlib.Path, what: str) -> ValueError:
    """The error for a file that is not this run's checkpoint."""
    return ValueError(_FOREIGN.format(caller=caller, path=path, what=what))


def digest(tree: PyTree) -> str:
    """Fingerprint of every array of a tree."""
    total = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        array = on_host(leaf)
        total.update(f"{array.shape}{array.dtype}".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()[:16]


def on_host(leaf: Any) -> Stored:
    """An array as a file can hold it."""
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return np.asarray(jax.random.key_data(leaf))
    return np.asarray(leaf)


def values(gan: Any) -> list[list[float]]:
    """Fingerprint of a GAN: its functions at a few arguments."""
    d = jnp.array([0.1, 0.3, 0.9])
    return [np.asarray(function(d)).tolist() for function in (gan.phi, gan.psi, gan.h_t)]


def prepare(path: pathlib.Path) -> None:
    """Makes the folder, tries to write there, and clears away what killed processes left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ours = re.compile(re.escape(path.name) + r"\.[0-9]+\.[0-9a-f]{8}\.tmp")
    for left in path.parent.iterdir():
        if ours.fullmatch(left.name):
            with contextlib.suppress(OSError):
                if time.time() - left.stat().st_mtime > _STALE:
                    left.unlink()
    trial = _temporary(path)
    trial.touch(exist_ok=False)
    trial.unlink()


def _temporary(path: pathlib.Path) -> pathlib.Path:
    """A name beside the file that no other process, on this machine or another, will choose."""
    return path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")


def _sync_folder(path: pathlib.Path) -> None:
    """Makes a new name in a folder survive a power cut, where the system knows how."""
    if os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        # Some network file systems know no such thing; the file itself is safe by now.
        with contextlib.suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


def save(path: pathlib.Path, header: dict[str, Any], arrays: dict[str, Stored]) -> None:
    """Writes a checkpoint so that a kill at any moment leaves the old file or the new one."""
    dtypes = {name: array.dtype.name for name, array in arrays.items()}
    words = {"format": f"{_KIND}{_NUMBER}", "header": json.dumps(header)}
    kept = {**words, "dtypes": json.dumps(dtypes), **arrays}
    temporary = _temporary(path)
    try:
        with open(temporary, "x+b") as file:
            with zipfile.ZipFile(file, "w") as archive:
                for name, array in kept.items():
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                        np.lib.format.write_array(member, _plain(array), allow_pickle=False)
                archive.comment = bytes(_SEAL)
            file.seek(0)
            seal = hashlib.file_digest(file, "sha256").hexdigest().encode()
            file.seek(-_SEAL, os.SEEK_END)
            file.write(seal)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _plain(value: Any) -> Stored:
    """Numpy's own dtypes instead of those that npz files do not know, bfloat16 for one."""
    array = np.asarray(value)
    return array.view(f"u{array.dtype.itemsize}") if array.dtype.kind == "V" else array


def _unsealed(content: bytes) -> str:
    """What is wrong with a file whose checksum does not fit."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            number = int(str(stored["format"]).removeprefix(_KIND))
    # A file of any kind, broken in any way: numpy and zipfile raise nearly everything.
    except Exception:
        return "is no checkpoint, or was cut short or damaged"
    if number == _NUMBER:
        return "is damaged: its checksum does not fit its bytes"
    return _version(number)


def _version(number: int) -> str:
    age = "an older" if number < _NUMBER else "a newer"
    return (
        f"has format {number}, which {age} version of divergence_flows wrote, and this version "
        f"reads format {_NUMBER}"
    )


def _opened(content: bytes) -> tuple[int, dict[str, Any], dict[str, Stored]]:
    """Number of the format, header and arrays of a file whose checksum fits."""
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        number = int(str(stored["format"]).removeprefix(_KIND))
        if number != _NUMBER:
            return number, {}, {}
        header, dtypes = (json.loads(str(stored[name])) for name in ("header", "dtypes"))
        names = set(stored.files) - {"format", "header", "dtypes"}
        return number, dict(header), {n: stored[n].view(jnp.dtype(dtypes[n])) for n in names}


def _read(path: pathlib.Path, caller: str) -> tuple[dict[str, Any], dict[str, Stored]]:
    """Reads header and arrays of a checkpoint, or says why it is none."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise refusal(caller, path, f"cannot be read: {error.strerror}") from error
    body, seal = memoryview(content)[:-_SEAL], content[-_SEAL:]
    total = hashlib.sha256(body)
    total.update(bytes(_SEAL))
    if total.hexdigest().encode() != seal:
        raise refusal(caller, path, _unsealed(content))
    try:
        number, header, arrays = _opened(content)
    except Exception as error:
        raise refusal(caller, path, "is sealed as a checkpoint, and holds none") from error
    if number != _NUMBER:
        raise refusal(caller, path, _version(number))
    return header, arrays


def load(path: pathlib.Path, header: dict[str, Any], caller: str) -> dict[str, Stored]:
    """Reads a checkpoint of this very run."""
    theirs, arrays = _read(path, caller)
    ours = json.loads(json.dumps(header))
    for name in (*ours, *theirs):
        one, other = theirs.get(name), ours.get(name)
        # As text, in which NaN equals itself.
        if json.dumps(one) != json.dumps(other):
            what = f"was written with {name} = {one}, and this run has {other}"
            raise refusal(caller, path, what)
    return arrays
