"""The painted frames of a segment that is still being filled, so that a crash costs seconds, however slow painting is.

::

    film.mp4.parts/
        tail.yuv             frames as painted, one after another, since the last closed segment
        tail.safetensors     how many of them count, and the painter's state after these

A job that goes on encodes them again, from the segment's beginning, and paints what comes after: the encoder is given
the very same frames, and makes the very same segment. The second file is replaced as a whole once the frames it tells
of are on the disk, every few seconds; what the first has beyond them counts for nothing. Frames are 38 MB at 360 lines,
149 at 1080 (48 of them), the state some kB, with calm as much again; both go when the segment is closed. Where they
cannot be written the job goes on without.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import itertools
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from streamstyle.frames import Checkpoint, Faults, FrameBatch
from streamstyle.media.disk import sync, told
from streamstyle.media.states import read_state, write_state

FRAMES, STATE = "tail.yuv", "tail.safetensors"
_REPLAYED_FRAMES = 4


class Tail:
    """What is kept of a segment that is not closed.

    Args:
        folder: the job's work folder.
        target: the film that is to be; errors of the disk are told of it.

    Attributes:
        frames: how many frames count.
        checkpoint: the state after the last of them; None where there are none.
        cost_s: what it took to have frames count the last time.
    """

    def __init__(self, folder: Path, target: Path) -> None:
        self._frames, self._state, self._target = folder / FRAMES, folder / STATE, target
        self._pts: list[int] = []
        self._crc = 0
        self.cost_s = 0.0
        self._shapes: list[list[int]] = []
        self.frames = 0
        self.checkpoint: Checkpoint | None = None

    def go_on(self, segments: int) -> None:
        """Take over what an earlier run of the same job left, if it is of the segment after so many."""
        try:
            kept = read_state(self._state)
            if kept["segments"] != segments:
                return
            shapes = [list(shape) for shape in kept["shapes"]]
            size = sum(int(np.prod(shape)) for shape in shapes)
            if _crc_of(self._frames, size * len(kept["pts"])) != kept["crc"]:
                return
            checkpoint = Checkpoint(
                kept["at"]["pts"], kept["at"]["crc"], kept["state"], Faults.of(kept["at"]["faults"])
            )
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return  # missing, cut short or changed: the job goes on from its last segment
        self._pts, self._crc, self._shapes = list(kept["pts"]), kept["crc"], shapes
        self.frames, self.checkpoint = len(self._pts), checkpoint

    def _batches(self, index: int) -> Iterator[FrameBatch]:
        """The frames that count, for the encoder; index: number of the first."""
        if not self.frames:
            return
        sizes = [int(np.prod(shape)) for shape in self._shapes]
        with open(self._frames, "rb") as file:
            for first in range(0, self.frames, _REPLAYED_FRAMES):
                pts = tuple(self._pts[first : first + _REPLAYED_FRAMES])
                read = np.fromfile(file, np.uint8, len(pts) * sum(sizes))
                if read.size < len(pts) * sum(sizes):
                    raise OSError(errno.EIO, "was cut short while the job ran", str(self._frames))
                read = read.reshape(len(pts), -1)
                planes = np.split(read, np.cumsum(sizes)[:-1], axis=1)
                y, u, v = (
                    np.ascontiguousarray(plane).reshape(len(pts), *shape)
                    for plane, shape in zip(planes, self._shapes, strict=True)
                )
                yield FrameBatch(y, u, v, pts, index + first)

    def keep(self, painted: Iterable[FrameBatch], segments: int, index: int) -> Iterator[FrameBatch]:
        """Batches on their way to the encoder: those of the frames that count, and painted ones, kept on the way.

        Where a batch has a checkpoint, all up to its end counts from then on; one that closes its segment is encoded by
        the time the next batch is asked for, and what is kept of it goes.

        Args:
            painted: batches, the first of which follows the frames that count; closed at the end.
            segments: closed so far.
            index: number of the first frame that is in none of them.
        """
        keeps = True
        with closing(iter(painted)) as upstream:  # type: ignore[type-var]
            begun = list(itertools.islice(upstream, 1 if self.frames else 0))  # they paint while these are encoded
            with told(self._target):
                yield from self._batches(index)
            for batch in itertools.chain(begun, upstream):
                begun.clear()
                at = batch.checkpoint
                if keeps:
                    try:
                        self._append(batch)
                        if at is not None and not at.closes:
                            self._count(at, segments)
                    except OSError:
                        keeps = False  # until the next segment; what counts already does so still
                yield batch
                if at is not None and at.closes:
                    segments, keeps = segments + 1, True
                    self.forget()

    def _append(self, batch: FrameBatch) -> None:
        planes = (batch.y, batch.u, batch.v)
        if not self._pts:
            self._shapes, self._crc = [list(plane.shape[1:]) for plane in planes], 0
            self._frames.unlink(missing_ok=True)
        size = sum(int(np.prod(shape)) for shape in self._shapes)
        with open(self._frames, "ab") as file:
            file.truncate(size * len(self._pts))  # what an earlier run wrote and did not count
            for i in range(len(batch)):
                for plane in planes:
                    data = np.ascontiguousarray(plane[i]).data
                    self._crc = zlib.crc32(data, self._crc)
                    file.write(data)
        self._pts += batch.pts

    def _count(self, checkpoint: Checkpoint, segments: int) -> None:
        began = time.monotonic()
        sync(self._frames)
        faults = dataclasses.asdict(checkpoint.faults)
        kept: dict[str, Any] = {
            "segments": segments,
            "shapes": self._shapes,
            "pts": self._pts,
            "crc": self._crc,
            "at": {"pts": checkpoint.pts, "crc": checkpoint.crc, "faults": faults},
            "state": checkpoint.state,
        }
        fresh = self._state.with_suffix(".new")
        try:
            write_state(fresh, kept)
            sync(fresh)
            fresh.replace(self._state)
        except BaseException:
            with contextlib.suppress(OSError):
                fresh.unlink(missing_ok=True)
            raise
        self.frames, self.checkpoint = len(self._pts), checkpoint
        sync(self._state.parent)
        self.cost_s = time.monotonic() - began

    def forget(self) -> None:
        """Nothing counts any more, for its segment is closed."""
        with contextlib.suppress(OSError):
            self._state.unlink(missing_ok=True)
            self._frames.unlink(missing_ok=True)
        self._pts, self.frames, self.checkpoint = [], 0, None


def _crc_of(path: Path, size: int) -> int:
    """CRC-32 of a file's first bytes, so many; OSError where there are fewer."""
    crc = 0
    with open(path, "rb") as file:
        while size:
            data = file.read(min(size, 1 << 20))
            if not data:
                raise OSError(f"{path}: is cut short")
            crc, size = zlib.crc32(data, crc), size - len(data)
    return crc
