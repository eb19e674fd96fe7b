"""What a job carries from segment to segment, in a file: nested plain values and NumPy arrays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write nested dicts and lists of plain values and NumPy arrays to a safetensors file."""
    from safetensors.numpy import save

    arrays: dict[str, np.ndarray] = {}
    text = json.dumps(_plain(state, arrays))
    path.write_bytes(save(arrays, metadata={"state": text}))  # unlike its save_file, an OSError where the disk is full


def read_state(path: Path) -> dict[str, Any]:
    """The state written by write_state; tuples come back as lists.

    Raises:
        OSError, ValueError: no such file, or damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            return _whole(json.loads(file.metadata()["state"]), file)
    except SafetensorError as error:
        raise ValueError(f"{path}: {error}") from None


# Functions within a function that call themselves would be cycles, which keep all arrays of a state until Python next
# looks for such.
def _plain(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The value with a name for each array, which arrays then has under it."""
    if isinstance(value, dict):
        return {key: _plain(part, arrays) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part, arrays) for part in value]
    if isinstance(value, np.ndarray):
        arrays[str(len(arrays))] = np.ascontiguousarray(value)
        return {"array": str(len(arrays) - 1)}
    return value


def _whole(value: Any, file: Any) -> Any:
    """The value with the arrays of a file in place of their names."""
    if isinstance(value, list):
        return [_whole(part, file) for part in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"array"}:
        return file.get_tensor(value["array"])
    return {key: _whole(part, file) for key, part in value.items()}
