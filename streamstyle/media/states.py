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

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(part) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return [plain(part) for part in value]
        if isinstance(value, np.ndarray):
            arrays[str(len(arrays))] = np.ascontiguousarray(value)
            return {"array": str(len(arrays) - 1)}
        return value

    text = json.dumps(plain(state))
    path.write_bytes(save(arrays, metadata={"state": text}))  # unlike its save_file, an OSError where the disk is full


def read_state(path: Path) -> dict[str, Any]:
    """The state written by write_state; tuples come back as lists.

    Raises:
        OSError, ValueError: no such file, or damaged.
    """
    from safetensors import SafetensorError, safe_open

    def whole(value: Any) -> Any:
        if isinstance(value, list):
            return [whole(part) for part in value]
        if not isinstance(value, dict):
            return value
        if value.keys() == {"array"}:
            return file.get_tensor(value["array"])
        return {key: whole(part) for key, part in value.items()}

    try:
        with safe_open(path, "np") as file:
            return whole(json.loads(file.metadata()["state"]))
    except SafetensorError as error:
        raise ValueError(f"{path}: {error}") from None
