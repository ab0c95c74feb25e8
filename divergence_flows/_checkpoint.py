"""Checkpoints: arrays and a header of settings in one npz file, written whole or not at all.

No pickle is written or read. The header is the run's fingerprint: a file of another run is
refused, so that what resumes is bit for bit what was interrupted.
"""

import hashlib
import json
import os
import pathlib
import zipfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray, PyTree, Shaped

FORMAT = "divergence_flows checkpoint 1"
Stored = Shaped[np.ndarray, "..."]
_FOREIGN = "{owner}: checkpoint {path} {what}; pass another `checkpoint`, or move that file away."
_VERSION = "is not one of this version's"


def digest(tree: PyTree) -> str:
    """Fingerprint of every array of a tree.

    Args:
        tree: Any pytree of arrays.

    Returns:
        Hexadecimal digits.
    """
    total = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        array = np.asarray(leaf)
        total.update(f"{array.shape}{array.dtype}".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()[:16]


def key_digest(key: PRNGKeyArray) -> str:
    """Fingerprint of a key, typed or not.

    Args:
        key: The key.

    Returns:
        Hexadecimal digits.
    """
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    return digest(jax.random.key_data(key) if typed else key)


def values(gan: Any) -> list[list[float]]:
    """Fingerprint of a GAN: its functions at a few arguments.

    Args:
        gan: Whatever has phi, psi and h_t.

    Returns:
        Their values.
    """
    d = jnp.array([0.1, 0.3, 0.9])
    return [np.asarray(function(d)).tolist() for function in (gan.phi, gan.psi, gan.h_t)]


def save(path: pathlib.Path, header: dict[str, Any], arrays: dict[str, Stored]) -> None:
    """Writes a checkpoint so that a kill at any moment leaves the old file or the new one.

    Args:
        path: The file.
        header: Settings of the run, as JSON knows them.
        arrays: What to keep, by name.

    Raises:
        OSError: If the disk refuses.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    kept: dict[str, Any] = {"format": FORMAT, "header": json.dumps(header), **arrays}
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            np.savez(file, **kept)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _read(path: pathlib.Path, owner: str) -> dict[str, Stored]:
    """Reads every array of an npz file, or says that it is none."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (ValueError, EOFError, KeyError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(_FOREIGN.format(owner=owner, path=path, what="cannot be read")) from error


def load(path: pathlib.Path, header: dict[str, Any], owner: str) -> dict[str, Stored]:
    """Reads a checkpoint of this very run.

    Args:
        path: The file.
        header: The settings that it must have been written with.
        owner: Who asks, for the message.

    Returns:
        The arrays, by name.

    Raises:
        ValueError: If the file is no checkpoint of ours, or one of another run.
    """
    arrays = _read(path, owner)
    if str(arrays.pop("format", "")) != FORMAT:
        raise ValueError(_FOREIGN.format(owner=owner, path=path, what=_VERSION))
    theirs = json.loads(str(arrays.pop("header")))
    for name, ours in json.loads(json.dumps(header)).items():
        if json.dumps(theirs.get(name)) != json.dumps(ours):
            what = f"was written with {name} = {theirs.get(name)}, and this run has {ours}"
            raise ValueError(_FOREIGN.format(owner=owner, path=path, what=what))
    return arrays
