"""Files of arrays that the app keeps for itself: they are read as they were written, or not at all."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from mcnet.arrays import Array
from mcnet.files import replacing
from mcnet.model_file import content_hash

_TOLD, _SHA256 = "told", "sha256"


def write_arrays(path: Path, arrays: Mapping[str, Array], told: Mapping[str, Any] | None = None) -> None:
    """Write a file in one step, for its owner alone, with a hash of what is in it.

    It is not waited for until it is on the disk, as it is written between two frames: what a power cut left of it is
    told by the hash, and made anew.

    Args:
        path: of the file, in a folder that is there.
        arrays: by name.
        told: what is said beside them, as JSON has it.

    Raises:
        OSError: it cannot be written.
    """
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    said = json.dumps(dict(told or {}))
    try:
        with replacing(path, lasting=False) as partial:
            partial.touch(mode=0o600)
            save_file(whole, partial, {_TOLD: said, _SHA256: _hash_of(whole, said)})
    except SafetensorError as error:  # a full disk, say
        raise OSError(str(error)) from error


def read_arrays(path: Path) -> tuple[dict[str, Array], dict[str, Any]]:
    """Read a file of `write_arrays`.

    Returns:
        The arrays by name, and what is said beside them.

    Raises:
        OSError: it cannot be read; `FileNotFoundError` where there is none.
        ValueError: it is damaged, or was written without a hash, as by the app of before.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, TypeError, KeyError) as error:  # the latter of a type that NumPy has not
        raise ValueError(f"it is damaged: {error}") from error
    said = metadata.get(_TOLD, "")
    if metadata.get(_SHA256) != _hash_of(arrays, said):
        raise ValueError("it is damaged: got other data than its hash is of")
    told = json.loads(said)
    return arrays, told


def _hash_of(arrays: Mapping[str, Array], said: str) -> str:
    return hashlib.sha256(f"{content_hash(arrays)} {said}".encode()).hexdigest()
