"""What an earlier run left of a film in the making, and whether a job may go on from it; see ``media.segments``.

Only reads, so that what a run would do can be told without one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamstyle.frames import Checkpoint, Faults
from streamstyle.media.closed import Segment
from streamstyle.media.disk import extent, size_of
from streamstyle.media.journal import JOURNAL, changes, plain, read_journal
from streamstyle.media.states import read_state
from streamstyle.media.tail import Tail

DAMAGED = (OSError, ValueError, LookupError, TypeError, AttributeError)
"""What reading a file that is missing, cut short or changed ends in."""
PART_DAMAGED = "a part of it is missing or damaged"
_TAIL_DAMAGED = "what was painted so far is damaged"


@dataclass(frozen=True)
class Earlier:
    """What lies in a work folder.

    Attributes:
        lines: of its journal, as far as they are whole.
        same: whether it is of the job that asked.
        segments: closed ones, of this job.
        checkpoint: the state after the last of them.
        tail: what was painted since, taken over.
        complete: only the joining was left.
        frames: how many are kept, for this job or another.
        hindrance: why no job goes on from here, as it follows "for"; None where one may.
    """

    lines: list[dict[str, Any]]
    same: bool
    segments: list[Segment]
    checkpoint: Checkpoint | None
    tail: Tail
    complete: bool
    frames: int
    hindrance: str | None

    @classmethod
    def read(cls, folder: Path, target: Path, suffix: str, job: dict[str, Any], *, resume: bool = True) -> Earlier:
        """Look at a work folder, or at where one would be.

        Args:
            folder: of the film to be.
            target: that film.
            suffix: of the segments' files.
            job: what its pictures are to depend on, as plain values.
            resume: whether it wants to go on.

        Cost: the tail's frames are read, for their checksum: 2 s a GB. Segments are only looked up.
        """
        lines = read_journal(folder / JOURNAL)
        changed = changes(lines[0].get("job", {}), plain(job)) if lines else []
        closed = [line for line in lines if "segment" in line]
        complete, tail = any("complete" in line for line in lines), Tail(folder, target)
        if not complete:
            tail.go_on(len(closed))
        frames = sum(line["segment"].get("frames", 0) for line in closed) + tail.frames
        segments, checkpoint, hindrance = list[Segment](), None, None
        if not resume:
            hindrance = "--no-resume is given"
        elif changed:
            hindrance = f"{', '.join(changed)} changed since"
        elif not lines and (folder / JOURNAL).exists():
            hindrance = "the journal changed since"
        else:
            try:
                segments = [Segment(**line["segment"]) for line in closed]
                whole = all(_is_whole(folder, suffix, line) for line in closed)
                checkpoint = _checkpoint(folder, closed[-1]) if closed else None
            except DAMAGED:
                whole = False
            if not whole:
                hindrance = PART_DAMAGED
            elif not frames and tail.damaged:
                hindrance = _TAIL_DAMAGED
        same = bool(lines) and resume and not changed
        return cls(lines, same, segments, checkpoint, tail, complete, frames, hindrance)

    @property
    def lost(self) -> str:
        """That the tail cannot be used, as a sentence goes on; empty where it can."""
        return "; what was painted since is damaged" if self.tail.damaged else ""

    def prospect(self) -> str | None:
        """What a run would make of it, in a line; None where there is nothing."""
        if self.hindrance is not None and (self.frames or self.hindrance == _TAIL_DAMAGED):
            also = f", and lose the {self.frames} frames that are kept" if self.frames else ""
            return f"a run would start afresh, for {self.hindrance}{also}"
        return f"a run would go on after frame {self.frames}{self.lost}" if self.frames else None


def state_file(folder: Path, number: int) -> Path:
    """Where the state after a segment is."""
    return folder / f"{number:06d}.safetensors"


def segment_file(folder: Path, number: int, suffix: str) -> Path:
    """Where a segment's pictures are."""
    return folder / f"{number:06d}{suffix}"


def beside_folder(folder: Path, number: int) -> Path:
    """Where what goes with a segment is."""
    return folder / f"{number:06d}"


def _is_whole(folder: Path, suffix: str, line: dict[str, Any]) -> bool:
    number, size = line["segment"]["number"], line["segment"]["size_bytes"]
    beside = extent(beside_folder(folder, number))
    return size_of(segment_file(folder, number, suffix)) == size and beside == line.get("beside", [0, 0])


def _checkpoint(folder: Path, line: dict[str, Any]) -> Checkpoint:
    said = line["checkpoint"]
    state = read_state(state_file(folder, line["segment"]["number"]))
    return Checkpoint(said["pts"], said["crc"], state, Faults.of(said["faults"]))
