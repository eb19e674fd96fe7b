"""Flow tracks: where in the frame before each pixel was, of some frames in a row, in whole steps; in one zip.

::

    000003.zip
        000001      [h, w, 2] int16, packed: differences to the pixel beside and those above, signs folded in, low
        000002 ...  bytes before high ones, by zlib; a frame of which nothing is known has none
        meta.json   written last: format, size, steps a pixel, which frames, and of what stretch of what film

Frames are written as they come and read one by one. Motion is smooth: of differences, most are a step or none. By runs
and Huffman's code alone (Z_RLE) zlib takes 1.7 ms of a core's time for 320x180 and makes 25 kB of its 230, where
matching takes 3.1 ms and makes 28; both of motion itself, not of differences, 50 kB.
"""

from __future__ import annotations

import contextlib
import json
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from streamstyle.errors import InputError, ShapeError
from streamstyle.media.disk import told

FORMAT, VERSION = "streamstyle flow track", 1
SUFFIX = ".zip"
_META = "meta.json"
_SAME_DATE = (1980, 1, 1, 0, 0, 0)  # the same motion makes the same bytes
_ZERO = np.int16(0)
_DAMAGE = (zipfile.BadZipFile, OSError, EOFError, ValueError, LookupError, RuntimeError, OverflowError, struct.error)
"""What zipfile raises for a file that is not as one was written: not only what it promises."""


class FlowTrackWriter:
    """Write a flow track; it is whole once finished.

    Args:
        path: the file to be.
        steps_per_px: what a number in it means.
        film: the film's fingerprint.
        first_pts: of the stretch of it that frames are counted in, in ticks.

    Raises:
        OutputError: the disk is full, or not ours to write on.
    """

    def __init__(self, path: Path, steps_per_px: int, film: dict[str, Any], first_pts: int) -> None:
        self._path, self._steps_per_px = path, steps_per_px
        self._of, self._numbers = _of(film, first_pts), list[int]()
        self._size: tuple[int, ...] | None = None
        with told(path):
            self._zip = zipfile.ZipFile(path, "w")

    def add(self, number: int, flow: np.ndarray) -> None:
        """Write a frame's motion.

        Args:
            number: of the frame in its stretch; ascending.
            flow: [h, w, 2] int16, all of one size.

        Raises:
            ShapeError: it is not; the message shows what it is. OutputError: the disk is full.

        Cost: 1.7 ms of a core for 320x180.
        """
        if flow.ndim != 3 or flow.shape[2] != 2 or flow.dtype != np.int16 or (self._size or flow.shape) != flow.shape:
            raise ShapeError(f"flow must be [h, w, 2] int16 of one size, got {flow.dtype} {[*flow.shape]}")
        self._size = flow.shape
        self._numbers.append(number)
        self._write(_name(number), _packed(flow))

    def finish(self) -> None:
        """Complete the file.

        Raises:
            OutputError: the disk is full, or not ours to write on.
        """
        meta = {
            "format": FORMAT,
            "version": VERSION,
            "size": [*(self._size or (0, 0))[:2]],
            "steps_per_px": self._steps_per_px,
            "frames": self._numbers,
            "of": self._of,
        }
        self._write(_META, json.dumps(meta).encode())
        with told(self._path):
            self._zip.close()

    def abandon(self) -> None:
        """Close the file, which counts for nothing."""
        with contextlib.suppress(OSError, ValueError):
            self._zip.close()

    def _write(self, name: str, content: bytes) -> None:
        with told(self._path):
            self._zip.writestr(zipfile.ZipInfo(name, _SAME_DATE), content)


class FlowTrack:
    """Read a flow track, a frame at a time; a context manager.

    Args:
        path: a file FlowTrackWriter wrote.
        size: (height, width) that its motion must have; steps_per_px: what its numbers must mean.
        film: the fingerprint of the film it must be of; first_pts: of the stretch.

    Raises:
        InputError: no such file, cut short, damaged, of another size or steps, or of another film or stretch.
    """

    def __init__(
        self, path: Path, size: tuple[int, int], steps_per_px: int, film: dict[str, Any], first_pts: int
    ) -> None:
        self.path, self._size = path, size
        try:
            self._zip = zipfile.ZipFile(path)
        except _DAMAGE as error:
            raise InputError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
        try:
            meta = json.loads(self._member(_META))
            if (meta["format"], meta["version"]) != (FORMAT, VERSION):
                raise ValueError(f"{meta['format']!r}, version {meta['version']}")
            if (*meta["size"], meta["steps_per_px"]) != (*size, steps_per_px):
                raise ValueError(f"of {meta['size']}, {meta['steps_per_px']} steps a pixel")
            if meta["of"] != _of(film, first_pts):
                raise ValueError("of another film, or another stretch of it")
            self._numbers: list[int] = meta["frames"]
            if self._zip.namelist() != [*map(_name, self._numbers), _META]:
                raise ValueError("its frames are not those it tells of")
        except (ValueError, TypeError, KeyError) as error:
            self._zip.close()
            raise InputError(f"{path}: is not the flow track wanted ({error})") from None

    def check(self) -> None:
        """Read all that is packed, without unpacking it.

        Raises:
            InputError: damaged.
        """
        for number in self._numbers:
            self._frame(number)

    def frame(self, number: int) -> np.ndarray | None:
        """A frame's motion [h, w, 2] int16; None where nothing is known of it.

        Raises:
            InputError: damaged.
        """
        if _name(number) not in self._zip.NameToInfo:
            return None
        content = self._frame(number)
        try:
            return _unpacked(content, self._size)
        except ValueError as error:
            raise InputError(f"{self.path}: frame {number} is damaged ({error})") from None

    def _frame(self, number: int) -> bytes:
        try:
            return self._member(_name(number))
        except ValueError as error:
            raise InputError(f"{self.path}: frame {number} is damaged ({error})") from None

    def __enter__(self) -> FlowTrack:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def _member(self, name: str) -> bytes:
        try:
            if self._zip.getinfo(name).compress_type != zipfile.ZIP_STORED:
                raise ValueError("is packed otherwise")
            return self._zip.read(name)
        except _DAMAGE as error:
            raise ValueError(f"{name}: {error}") from None


def _name(number: int) -> str:
    return f"{number:06d}"


def _of(film: dict[str, Any], first_pts: int) -> dict[str, Any]:
    """What tells a stretch of a film from others: a film that was copied is the same."""
    return {"film": {part: said for part, said in film.items() if part != "changed_ns"}, "first_pts": first_pts}


def _packed(flow: np.ndarray) -> bytes:
    """See the top of this file; differences may run over, and run back."""
    planes = np.ascontiguousarray(np.moveaxis(flow, 2, 0))
    left = np.diff(np.diff(planes, axis=2, prepend=_ZERO), axis=1, prepend=_ZERO)
    folded = ((left << 1) ^ (left >> 15)).astype("<i2").reshape(-1)
    press = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
    return press.compress(folded.view(np.uint8).reshape(-1, 2).T.tobytes()) + press.flush()


def _unpacked(content: bytes, size: tuple[int, int]) -> np.ndarray:
    wanted = 4 * size[0] * size[1]
    try:
        press = zlib.decompressobj()
        held = press.decompress(content, wanted + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if len(held) != wanted or not press.eof:
        raise ValueError("of another length")
    low, high = np.frombuffer(held, np.uint8).reshape(2, -1)
    folded = low | high.astype(np.uint16) << 8
    left = ((folded >> 1) ^ -(folded & 1)).view(np.int16).reshape(2, *size)
    return np.ascontiguousarray(np.moveaxis(left.cumsum(1, np.int16).cumsum(2, np.int16), 0, 2))
