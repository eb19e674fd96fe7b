"""Label tracks: which object each pixel of each frame belongs to, in one file that NumPy opens.

::

    labels.npz                    a zip, as numpy.load knows it
        frames/00000.npy          [h, w] uint8 (uint16 where a label is above 255); 0 is the background
        frames/00001.npy  ...
        pts.npy                   [frames] int64, when each frame is shown, in ticks of time_base
        meta.json                 written last: format, sizes, time_base, names, and what tells the film it is of

Frames are written as they come and read one by one, so memory does not grow with the film but for the zip's own table
(about half a kilobyte a frame). The file appears only when it is whole.
"""

from __future__ import annotations

import array
import contextlib
import io
import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from streamstyle.errors import InputError, ShapeError
from streamstyle.frames import VideoInfo
from streamstyle.media.disk import told
from streamstyle.media.fingerprint import fingerprint

FORMAT, VERSION = "streamstyle label track", 1
SUFFIX = ".npz"
_META, _PTS = "meta.json", "pts.npy"
_DEFLATE_LEVEL = 4  # of a map of a few flat areas no higher one makes less than 2 % off
_SAME_DATE = (1980, 1, 1, 0, 0, 0)  # the same labels make the same bytes


class LabelTrackWriter:
    """Write a label track frame by frame; a context manager, and what is left by an error leaves no file.

    Args:
        path: the file to be, which replaces one that is there.
        info: the film the labels are of.
        names: each label's name; read when the file is closed, so it may still be growing.
        film: the film's fingerprint, where it is known; else it is taken when the file is closed.

    Raises:
        OutputError: the disk is full, or not ours to write on.
    """

    def __init__(
        self, path: str | Path, info: VideoInfo, names: Mapping[int, str], *, film: dict[str, Any] | None = None
    ) -> None:
        self._target, self._info, self._names, self._film = Path(os.path.realpath(path)), info, names, film
        self._pts = array.array("q")
        self._size: tuple[int, ...] | None = None

    def __enter__(self) -> LabelTrackWriter:
        with told(self._target), contextlib.ExitStack() as undo:
            file, name = tempfile.mkstemp(dir=self._target.parent, prefix=".", suffix=".part")
            undo.callback(os.unlink, name)
            os.chmod(name, 0o644)
            self._part = Path(name)
            self._zip = zipfile.ZipFile(os.fdopen(file, "wb"), "w", zipfile.ZIP_DEFLATED)
            undo.pop_all()
        return self

    def add(self, labels: np.ndarray, pts: int) -> None:
        """Write the next frame's labels [h, w], integers 0..65535, all frames of one size."""
        if labels.ndim != 2 or labels.dtype.kind not in "iu" or (self._size or labels.shape) != labels.shape:
            raise ShapeError(f"labels must be [h, w] integers of one size, got {labels.dtype} {[*labels.shape]}")
        low, high = (int(labels.min()), int(labels.max())) if labels.size else (0, 0)
        if low < 0 or high > 65535:
            raise ShapeError(f"labels must be 0 .. 65535, got {low} .. {high}")
        self._size = labels.shape
        kind = np.uint8 if high < 256 else np.uint16
        with told(self._target):
            self._write(_frame_name(len(self._pts)), _npy(labels.astype(kind)))
        self._pts.append(pts)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                with told(self._target):
                    self._finish()
        finally:
            with contextlib.suppress(OSError, ValueError):
                self._close()
            self._part.unlink(missing_ok=True)

    def _finish(self) -> None:
        info = self._info
        meta = {
            "format": FORMAT,
            "version": VERSION,
            "frames": len(self._pts),
            "size": [*(self._size or (0, 0))],
            "source_size": [info.height, info.width],
            "time_base": str(info.time_base),
            "names": {str(label): name for label, name in sorted(self._names.items())},
            "input": self._film or fingerprint(info.path),
        }
        self._write(_PTS, _npy(np.frombuffer(self._pts, np.int64) if self._pts else np.zeros(0, np.int64)))
        self._write(_META, json.dumps(meta, indent=2).encode())
        self._close()
        os.replace(self._part, self._target)

    def _close(self) -> None:
        file = self._zip.fp
        self._zip.close()
        if file is not None:
            file.close()  # ZipFile leaves open what it was given open

    def _write(self, name: str, content: bytes) -> None:
        member = zipfile.ZipInfo(name, _SAME_DATE)
        member.compress_type = zipfile.ZIP_DEFLATED
        self._zip.writestr(member, content, compresslevel=_DEFLATE_LEVEL)


class LabelTrack:
    """Read a label track, a frame at a time; a context manager, to be closed by one or by close().

    Args:
        path: a file LabelTrackWriter wrote.

    Attributes:
        size: (height, width) of the labels; source_size of the film.
        time_base: seconds of one tick of pts.
        pts: [frames] int64.
        names: each label's name.

    Raises:
        InputError: no such file, cut short, damaged, or no label track.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except FileNotFoundError:
            raise InputError(f"{path}: no such file; check the name") from None
        except zipfile.BadZipFile:
            raise InputError(
                f"{path}: not a label track, or cut short; make one with `streamstyle tracks IN --out labels.npz`"
            ) from None
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); give a label track") from None
        try:
            self._read_meta()
        except BaseException:
            self.close()
            raise

    def _read_meta(self) -> None:
        if _META not in self._zip.NameToInfo:
            raise InputError(f"{self.path}: no {_META} in it, so not a label track; give one of `streamstyle tracks`")
        try:
            meta = json.loads(self._member(_META))
            if meta["format"] != FORMAT or int(meta["version"]) > VERSION:
                raise ValueError(f"{meta['format']!r}, version {meta['version']}")
            self.size: tuple[int, int] = (int(meta["size"][0]), int(meta["size"][1]))
            self.source_size: tuple[int, int] = (int(meta["source_size"][0]), int(meta["source_size"][1]))
            self.time_base = Fraction(meta["time_base"])
            self.names = {int(label): str(name) for label, name in meta["names"].items()}
            self._input: dict[str, Any] = dict(meta["input"])
            self.pts = _array(self._member(_PTS))
            if self.pts.shape != (int(meta["frames"]),):
                raise ValueError(f"{len(self.pts)} times for {meta['frames']} frames")
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, ZeroDivisionError) as error:
            raise InputError(
                f"{self.path}: not a label track this version reads ({error}); make it again with `streamstyle tracks`"
            ) from None

    def __len__(self) -> int:
        return len(self.pts)

    def __getitem__(self, number: int) -> np.ndarray:
        """The labels [h, w] uint8 or uint16 of a frame, counted from 0."""
        if not 0 <= number < len(self):
            raise IndexError(f"{self.path}: no frame {number}; it has {len(self)}")
        try:
            labels = _array(self._member(_frame_name(number)))
            if labels.shape != self.size or labels.dtype.kind != "u":
                raise ValueError(f"{labels.dtype} {[*labels.shape]}")
        except (ValueError, KeyError) as error:
            raise InputError(
                f"{self.path}: frame {number} is damaged ({error}); make it again with `streamstyle tracks`"
            ) from None
        return labels

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[number] for number in range(len(self)))

    def check(self, info: VideoInfo) -> list[str]:
        """Whether this is a track of a film: warnings, a line each, where it is doubtful.

        Raises:
            InputError: the film has another size.
        """
        shown = (info.height, info.width)
        if self.source_size != shown:
            ours, film = (f"{width}x{height}" for height, width in (self.source_size, shown))
            raise InputError(f"{self.path}: labels of a film of {ours}, {info.path} is {film}; give the film's own")
        now = fingerprint(info.path)
        if all(self._input.get(part) == now[part] for part in ("size_bytes", "blake2b")):
            return []  # how many frames a film says that it has may be an estimate
        lines = [f"{info.path}: is not, or no longer, the file that {self.path} was made from"]
        if info.frames is not None and info.frames != len(self):
            lines.append(f"{self.path}: has {len(self)} frames, {info.path} {info.frames}; it may be of another film")
        return lines

    def close(self) -> None:
        """Close the file."""
        self._zip.close()

    def __enter__(self) -> LabelTrack:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _member(self, name: str) -> bytes:
        try:
            return self._zip.read(name)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as error:
            raise ValueError(f"{name}: {error}") from None


def _frame_name(number: int) -> str:
    return f"frames/{number:05d}.npy"


def _npy(values: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.lib.format.write_array(content, np.ascontiguousarray(values), allow_pickle=False)
    return content.getvalue()


def _array(content: bytes) -> np.ndarray:
    return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
