"""What a job carries from segment to segment, in a file: nested plain values and NumPy arrays."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

DAMAGED = (OSError, ValueError, LookupError, TypeError, AttributeError)
"""What reading a state or a journal that is missing, cut short or changed ends in."""


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write nested dicts and lists of plain values and NumPy arrays to a safetensors file."""
    from safetensors.numpy import save

    arrays: dict[str, np.ndarray] = {}
    text = json.dumps(_plain(state, arrays))
    said = f"{_crc(text, arrays.values())} {text}"  # one value: of several safetensors draws the order by lot
    path.write_bytes(save(arrays, metadata={"state": said}))  # unlike its save_file, an OSError where the disk is full


def read_state(path: Path) -> dict[str, Any]:
    """The state written by write_state; tuples come back as lists.

    Raises:
        OSError, ValueError, LookupError, TypeError: no such file, or damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            said, arrays = file.metadata()["state"], {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path}: {error}") from None
    crc, _, text = said.partition(" ")
    if crc != str(_crc(text, (arrays[str(i)] for i in range(len(arrays))))):
        raise ValueError(f"{path}: is damaged")
    return _whole(json.loads(text), arrays)


def _crc(text: str, arrays: Iterable[np.ndarray]) -> int:
    """CRC-32 of all that is written; of arrays their bytes, for the text has no more than their names."""
    crc = zlib.crc32(text.encode())
    for array in arrays:
        crc = zlib.crc32(f"{array.dtype.str}{array.shape}".encode(), crc)
        crc = zlib.crc32(np.ascontiguousarray(array).data, crc)
    return crc


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


def _whole(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The value with the arrays in place of their names."""
    if isinstance(value, list):
        return [_whole(part, arrays) for part in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"array"}:
        return arrays[value["array"]]
    return {key: _whole(part, arrays) for key, part in value.items()}
