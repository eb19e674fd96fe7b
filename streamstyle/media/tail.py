"""The painted frames of a segment that is still being filled, so that a crash costs seconds, however slow painting is.

::

    film.mp4.parts/
        tail.frames          frames as painted, one after another, since the last closed segment; after each what goes
                             with it, deflated: alphas of layers, the motion that a project keeps
        tail.safetensors     how many of them count, and the painter's state after these

A job that goes on encodes them again, from the segment's beginning, and paints what comes after: the encoder, and what
is written beside the film, are given the very same frames, and make the very same segment. The second file is replaced
as a whole once the frames it tells of are on the disk, batch after batch; what the first has beyond them counts for
nothing. The 48 frames and more of a segment are 38 MB at 360 lines and 149 at 1080, what goes with them is a tenth of
that, the state some kB, with calm or a project up to 15 MB; all go when the segment is closed. Frames are given up, and
the job goes on without, where they cannot be written or there would be less room left on the disk than they take.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import itertools
import math
import os
import shutil
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np

from streamstyle.errors import OutputError
from streamstyle.frames import Checkpoint, Faults, FrameBatch
from streamstyle.media.closed import KeptSegment
from streamstyle.media.disk import DISK_FULL, crc_of, sync
from streamstyle.media.states import DAMAGED, read_state, write_state

FRAMES, STATE = "tail.frames", "tail.safetensors"
TAIL_BATCHES = 2
"""After how many batches the frames painted since are to count. By batches and not by the clock: who reads runs ahead
of who paints, the farthest at the beginning."""
TAIL_SHARE = 0.05
"""Of a job's time that having them count may take; where that is long, as with calm on a large film, it is done more
seldom. To write each frame takes 0.3 ms at 360 lines and 2 at 1080, and 0.8 and 8 for each layer's alpha."""
Item = TypeVar("Item", FrameBatch, FrameBatch | KeptSegment)
"""What frames come in: of a film that is painted again some segments are copied."""
_REPLAYED_FRAMES = 4
_FLOW = "flow"
_DEFLATE_LEVEL = 1  # alphas are flat but for their borders


@dataclass(frozen=True)
class _More:
    """What goes with a frame: a layer's alpha, by its number, or motion; how it lies in the file."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    size: int


class Tail:
    """What is kept of a segment that is not closed.

    Args:
        folder: the job's work folder.
        target: the film that is to be, of which is told what is wrong.
        say: told in one line, the first time that frames are given up.

    Attributes:
        frames: how many frames count.
        damaged: whether there was something that go_on could not take over.
        checkpoint: the state after the last of those that go_on took over; None where there are none.
        cost_s: what it took to have frames count the last time; infinite while none are kept.
    """

    def __init__(self, folder: Path, target: Path, say: Callable[[str], None] | None = None) -> None:
        self._frames, self._state, self._target, self._say = folder / FRAMES, folder / STATE, target, say
        self._pts: list[int] = []
        self._more: list[list[_More]] = []
        self._crc = 0
        self.cost_s, self._noted_s, self._unnoted = 0.0, time.monotonic(), 0
        self._shapes: list[list[int]] = []
        self.frames, self.damaged = 0, False
        self.checkpoint: Checkpoint | None = None

    def is_due(self, closes: bool) -> bool:
        """Whether it is time for a checkpoint: all up to it counts then. Asked batch by batch by whoever makes them.

        Args:
            closes: there is one anyway, for a segment ends.
        """
        now_s, self._unnoted = time.monotonic(), self._unnoted + 1
        # Given up now, frames may be kept again by the time this batch is painted: in the next segment.
        paid = math.isinf(self.cost_s) or now_s - self._noted_s >= self.cost_s / TAIL_SHARE
        due = closes or (paid and self._unnoted >= TAIL_BATCHES)
        if due:
            self._noted_s, self._unnoted = now_s, 0
        return due

    def go_on(self, segments: int) -> None:
        """Take over what an earlier run of the same job left, if it is of the segment after so many."""
        try:
            kept = read_state(self._state)
            if kept["segments"] != segments:
                return
            shapes = [list(shape) for shape in kept["shapes"]]
            more = [[_More(name, tuple(shape), *rest) for name, shape, *rest in frame] for frame in kept["more"]]
            if len(more) != len(kept["pts"]) or crc_of(self._frames, _size(shapes, more)) != kept["crc"]:
                raise ValueError(f"{self._frames}: is damaged")
            at = kept["at"]
            checkpoint = Checkpoint(
                at["pts"], at["crc"], kept["state"], Faults.of(at["faults"]), closes=False, noted=kept["noted"]
            )
        except DAMAGED as error:
            # Cut short or changed, or there is none: the job goes on from its last segment.
            self.damaged = not isinstance(error, FileNotFoundError) or self._state.exists()
            return
        self._pts, self._more, self._crc, self._shapes = list(kept["pts"]), more, kept["crc"], shapes
        self.frames, self.checkpoint = len(self._pts), checkpoint

    def replayed(self, painted: Iterable[Item], index: int) -> Iterator[Item]:
        """Batches of the frames that count, and then painted ones.

        Args:
            painted: batches, the first of which follows the frames that count; closed at the end.
            index: number of the first frame that is in no closed segment.

        Raises:
            OutputError: what was kept is there no more.
        """
        with closing(iter(painted)) as upstream:  # type: ignore[type-var]
            begun = list(itertools.islice(upstream, 1 if self.frames else 0))  # they paint while these are encoded
            try:
                yield from self._batches(index)
            except OSError as error:
                said = f"{self._target}: frames painted before cannot be read again ({error.strerror or error})"
                raise OutputError(f"{said}; run the same command again, it goes on without them") from error
            while begun:
                yield begun.pop()
            yield from upstream

    def _batches(self, index: int) -> Iterator[FrameBatch]:
        """The frames that count; index: number of the first."""
        if not self.frames:
            return
        with open(self._frames, "rb") as file:
            for first in range(0, self.frames, _REPLAYED_FRAMES):
                part = slice(first, min(first + _REPLAYED_FRAMES, self.frames))
                pts, count = tuple(self._pts[part]), part.stop - first
                y, u, v = (np.empty((count, *shape), np.uint8) for shape in self._shapes)
                alphas: dict[int, np.ndarray] = {}
                flows: list[np.ndarray | None] = [None] * count
                for i, more in enumerate(self._more[part]):
                    for plane in (y, u, v):
                        plane[i] = _read(file, plane[i].nbytes).reshape(plane[i].shape)
                    for each in more:
                        raw = zlib.decompress(_read(file, each.size).data)
                        array = np.frombuffer(raw, each.dtype).reshape(each.shape)
                        if each.name == _FLOW:
                            flows[i] = array
                        else:
                            alphas.setdefault(int(each.name), np.zeros_like(y))[i] = array
                yield FrameBatch(y, u, v, pts, index + first, alphas=alphas, flows=flows)

    def keep(self, painted: Iterable[Item], segments: int, index: int) -> Iterator[Item]:
        """Batches on their way to the encoder: painted ones are kept, those of the frames that count are already.

        Where a batch has a checkpoint, all up to its end counts from then on. By the time the batch after one that
        closes a segment is asked for, whoever counts segments has called forget.

        Args:
            painted: as replayed gives them, and layers have passed them on; closed at the end.
            segments: closed so far.
            index: number of the first frame that is in none of them.
        """
        first = index + self.frames
        with closing(iter(painted)) as upstream:  # type: ignore[type-var]
            for batch in upstream:
                if isinstance(batch, KeptSegment):
                    segments += 1
                    yield batch
                    continue
                at = batch.checkpoint
                if batch.index >= first and math.isfinite(self.cost_s):
                    try:
                        self._append(batch)
                        if at is not None and not at.closes:
                            self._count(at, segments)
                    except OSError as error:
                        self._give_up(error)
                yield replace(batch, alphas={}) if batch.alphas else batch
                if at is not None and at.closes:
                    segments, self.cost_s = segments + 1, 0.0

    def _give_up(self, error: OSError) -> None:
        """Keep no more of this segment; what counts does so still, unless the film itself needs the room."""
        self.cost_s, full = math.inf, error.errno in DISK_FULL
        if self._say is not None:
            why = "the disk is nearly full" if full else error.strerror or str(error)
            self._say(
                f"{self._target}: painted frames cannot be kept ({why}); a crash costs up to a segment until they can"
            )
            self._say = None
        if full:
            self.forget()
            return
        with contextlib.suppress(OSError):
            os.truncate(self._frames, _size(self._shapes, self._more[: self.frames]))

    def _append(self, batch: FrameBatch) -> None:
        planes = (batch.y, batch.u, batch.v)
        if not self._pts:
            self._shapes, self._crc = [list(plane.shape[1:]) for plane in planes], 0
            self._frames.unlink(missing_ok=True)
        size, more_bytes = _size(self._shapes, self._more), sum(plane.nbytes for plane in planes)
        if shutil.disk_usage(self._frames.parent).free < size + more_bytes:
            raise OSError(errno.ENOSPC, "is left to the film", str(self._frames))
        added = list[list[_More]]()
        with open(self._frames, "ab") as file:
            file.truncate(size)  # what an earlier run wrote and did not count

            def write(data: Any) -> None:
                self._crc = zlib.crc32(data, self._crc)
                file.write(data)

            for i in range(len(batch)):
                for plane in planes:
                    write(np.ascontiguousarray(plane[i]).data)
                added.append([])
                for name, array in _more_of(batch, i):
                    data = zlib.compress(np.ascontiguousarray(array).data, _DEFLATE_LEVEL)
                    added[-1].append(_More(name, array.shape, array.dtype.str, len(data)))
                    write(data)
        self._pts += batch.pts
        self._more += added

    def _count(self, checkpoint: Checkpoint, segments: int) -> None:
        began = time.monotonic()
        sync(self._frames)
        faults = dataclasses.asdict(checkpoint.faults)
        kept: dict[str, Any] = {
            "segments": segments,
            "shapes": self._shapes,
            "pts": self._pts,
            "more": [[dataclasses.astuple(each) for each in frame] for frame in self._more],
            "crc": self._crc,
            "at": {"pts": checkpoint.pts, "crc": checkpoint.crc, "faults": faults},
            "state": checkpoint.state,
            "noted": checkpoint.noted,
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
        self.frames = len(self._pts)
        sync(self._state.parent)
        self.cost_s = time.monotonic() - began

    def forget(self) -> None:
        """Nothing counts any more, for its segment is closed, or the film needs the room."""
        with contextlib.suppress(OSError):
            self._state.unlink(missing_ok=True)
            self._frames.unlink(missing_ok=True)
        self._pts, self._more, self.frames, self.checkpoint = [], [], 0, None


def _more_of(batch: FrameBatch, i: int) -> Iterator[tuple[str, np.ndarray]]:
    """What goes with a frame of a batch, by name."""
    for layer, alpha in batch.alphas.items():
        if alpha[i].any():
            yield str(layer), alpha[i]
    if batch.flows and (flow := batch.flows[i]) is not None:
        yield _FLOW, flow


def _size(shapes: list[list[int]], more: list[list[_More]]) -> int:
    """Bytes of so many frames, and of what goes with them."""
    return len(more) * sum(map(math.prod, shapes)) + sum(each.size for frame in more for each in frame)


def _read(file: BinaryIO, size: int) -> np.ndarray:
    """The next bytes of a file, [size] uint8."""
    read = np.fromfile(file, np.uint8, size)
    if read.size < size:
        raise OSError(errno.EIO, "was cut short while the job ran", str(file.name))
    return read
