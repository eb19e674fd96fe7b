"""What an earlier run left of a film in the making, and whether a job may go on from it; see ``media.segments``.

Only reads, so that what a run would do can be told without one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamstyle.frames import Checkpoint, Faults
from streamstyle.media.closed import Segment
from streamstyle.media.disk import crc_of, extent, size_of
from streamstyle.media.journal import (
    JOURNAL,
    Placed,
    beside_folder,
    changes,
    read_journal,
    segment_file,
    state_file,
)
from streamstyle.media.states import DAMAGED, read_state
from streamstyle.media.tail import Tail

PART_DAMAGED = "a part of it is missing or damaged"
JOURNAL_DAMAGED = "its journal is damaged"
NOT_ASKED = "--no-resume is given"


@dataclass(frozen=True)
class Earlier:
    """What lies in a work folder.

    Attributes:
        lines: of its journal, as far as they are whole; torn: whether it goes on with others.
        placed: what was being put in place; of the job that asked, else nothing.
        segments: closed ones; none where another job closed them, or they are not to be gone on from.
        checkpoint: the state after the last of them.
        tail: what was painted since, by whatever job.
        complete: only the joining was left.
        frames: how many are kept, for this job or another.
        hindrance: why the job does not go on from here, as it follows "for"; None where it may, or nothing is there.
    """

    lines: list[dict[str, Any]]
    torn: bool
    placed: Placed
    segments: list[Segment]
    checkpoint: Checkpoint | None
    tail: Tail
    complete: bool
    frames: int
    hindrance: str | None

    @classmethod
    def read(
        cls,
        folder: Path,
        target: Path,
        suffix: str,
        job: dict[str, Any],
        *,
        resume: bool = True,
        say: Callable[[str], None] | None = None,
    ) -> Earlier:
        """Look at a work folder, or at where one would be; damage, of whatever kind, is no error but a hindrance.

        Args:
            folder: of the film to be.
            target: that film.
            suffix: of the segments' files.
            job: what its pictures are to depend on, as ``journal.plain`` gives it.
            resume: whether it wants to go on.
            say: as of Tail.

        Cost: segments, the tail and two states are read, for their checksums: 1 to 2 s a GB. Of what goes with segments
        no more than sizes.
        """
        lines, torn = read_journal(folder / JOURNAL)
        changed = changes(lines[0].get("job", {}), job) if lines else []
        closed = [line for line in lines if "segment" in line]
        complete, tail = any("complete" in line for line in lines), Tail(folder, target, say)
        if not complete:
            tail.go_on(len(closed))
        placed = Placed(lines if resume and not changed else ())
        segments, checkpoint, hindrance = list[Segment](), None, None
        if not resume:
            hindrance = NOT_ASKED
        elif changed:
            hindrance = f"{', '.join(changed)} changed since"
        elif not lines and (folder / JOURNAL).exists():
            hindrance = JOURNAL_DAMAGED
        else:
            try:
                segments = [Segment(**line["segment"]) for line in closed]
                whole = placed.note is not None or all(_is_whole(folder, suffix, line) for line in closed)
                checkpoint = _checkpoint(folder, closed[-1]) if closed else None
            except DAMAGED:
                whole = False
            if not whole:
                hindrance = JOURNAL_DAMAGED if torn else PART_DAMAGED
            elif not segments and not tail.frames and (torn or tail.damaged):
                hindrance = JOURNAL_DAMAGED if torn else "what was painted so far is damaged"
        counts = [line["segment"].get("frames") for line in closed]
        frames = sum(count for count in counts if isinstance(count, int)) + tail.frames
        return cls(lines, torn, placed, segments, checkpoint, tail, complete, frames, hindrance)

    @property
    def afresh(self) -> str | None:
        """The hindrance, where it is worth a word: not where nobody wants to go on from nothing."""
        return self.hindrance if self.frames or self.hindrance != NOT_ASKED else None

    @property
    def lost(self) -> str:
        """That there is more that cannot be used, as a sentence goes on; empty where there is not."""
        if self.torn:
            return "; its journal is damaged from there on"
        return "; what was painted since is damaged" if self.tail.damaged else ""

    def prospect(self) -> str | None:
        """What a run would make of it, in a line; None where there is nothing."""
        if self.placed.note is not None:
            return "a run would find the film whole, and remove this folder"
        if self.afresh is not None:
            also = f", and lose the {self.frames} frames that are kept" if self.frames else ""
            return f"a run would start afresh, for {self.afresh}{also}"
        return f"a run would go on after frame {self.frames}{self.lost}" if self.frames else None


def _is_whole(folder: Path, suffix: str, line: dict[str, Any]) -> bool:
    number, size = line["segment"]["number"], line["segment"]["size_bytes"]
    file, beside = segment_file(folder, number, suffix), extent(beside_folder(folder, number))
    return size_of(file) == size and beside == line.get("beside", [0, 0]) and crc_of(file) == line["crc"]


def _checkpoint(folder: Path, line: dict[str, Any]) -> Checkpoint:
    said = line["checkpoint"]
    state = read_state(state_file(folder, line["segment"]["number"]))
    return Checkpoint(said["pts"], said["crc"], state, Faults.of(said["faults"]))
