"""A film in the making: closed segments and a journal in a folder beside the target, so that no crash costs much.

::

    film.mp4.parts/
        lock                 held while a job works here
        journal.jsonl        what job this is, then a line a closed segment
        000000.mp4  ...      closed segments, pictures only; each begins with a keyframe and needs no other
        000000/  ...         what goes with each of them: of layers, of a project
        000007.safetensors   the painter's state after the last of them
        tail.*               of a slow job: the frames painted since, and the state after these; see ``media.tail``

A segment counts once its line is in the journal, and its line is written after all that belongs to it is on the disk
(fsync). So a process killed at any moment, or a machine without power, leaves whole segments and at most one file that
counts for nothing. A segment costs the same however many there are; in memory it leaves five numbers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout

from streamstyle.errors import OutputError
from streamstyle.frames import Checkpoint
from streamstyle.media.beside import Beside
from streamstyle.media.closed import KeptSegment, Segment
from streamstyle.media.disk import crc_of, extent, link_or_copy, remove, sync, told
from streamstyle.media.earlier import PART_DAMAGED, Earlier
from streamstyle.media.journal import (
    JOURNAL,
    Placed,
    beside_folder,
    parts_folder,
    plain,
    print_of,
    segment_file,
    state_file,
)
from streamstyle.media.states import DAMAGED, write_state
from streamstyle.media.tail import FRAMES, Tail
from streamstyle.media.tail import STATE as TAIL

Say = Callable[[str], None]
LOCK = "lock"


class WorkFolder:
    """The folder of one job; a context manager that holds its lock.

    Entered, it first has all places checked: a job that is refused leaves what an earlier one left. Left without an
    error, the folder goes. Left by an error it stays if frames are kept in it and the job may be resumed, and the error
    gets a note that says so; else it goes too.

    Args:
        target: the film that is to be.
        job: what the pictures depend on, as plain values; a journal of another job is started afresh.
        resume: go on from what is there, and leave something to go on from.
        suffix: of the segments' files.
        overwrite: replace a film that is there; one that this very job placed is no such film.
        beside: what is put in place with the film, before it.
        say: told in one line that the job goes on, or why it starts afresh.

    Attributes:
        placed: what was noted of the film when an earlier run of this job put it and all beside it in place, and was
            killed before it was done; then nothing is left to do. Else None.

    Raises:
        OutputError: another process works there, something else of that name is in the way, or a place is taken.
    """

    def __init__(
        self,
        target: Path,
        job: dict[str, Any],
        *,
        resume: bool = True,
        suffix: str = ".mp4",
        overwrite: bool = True,
        beside: Sequence[Beside] = (),
        say: Say | None = None,
    ) -> None:
        self.path, self.suffix = parts_folder(target), suffix
        self.segments: list[Segment] = []
        self.checkpoint: Checkpoint | None = None
        self.complete = False
        self.placed: dict[str, Any] | None = None
        self.resumed_frames = 0
        self._target, self._resume, self._say = target, resume, say or (lambda line: None)
        self.tail = Tail(self.path, target, self._say)
        self._overwrite, self._parts = overwrite, beside
        self._job = plain(job)
        self._lock = FileLock(str(self.path / LOCK))

    @property
    def frames(self) -> int:
        """Frames in closed segments."""
        return sum(segment.frames for segment in self.segments)

    @property
    def kept_frames(self) -> int:
        """Frames that need not be painted again: those, and the tail's."""
        return self.frames + self.tail.frames

    def file(self, number: int) -> Path:
        """Where a segment's pictures are."""
        return segment_file(self.path, number, self.suffix)

    def beside(self, number: int, name: str) -> Path:
        """The folder for what goes with a segment."""
        return beside_folder(self.path, number) / name

    def make_beside(self, number: int, name: str) -> Path:
        """The same, made where it is not there."""
        with told(self._target):
            self.beside(number, name).mkdir(parents=True, exist_ok=True)
        return self.beside(number, name)

    def prospect(self) -> str | None:
        """What to enter it would make of an earlier run's work, in a line; None where there is none. Only reads, and
        not what is beside: what part.begin would find damaged is not foretold.

        Raises:
            OutputError: as of entering.
        """
        if not self.path.exists():
            self._check(Placed())
            return None
        self._refuse_others()
        is_locked = (self.path / LOCK).exists()
        if is_locked:  # else nobody works there, and to lock it would be to write
            self._acquire()
        try:
            earlier = self._earlier()
            if earlier.placed.note is None:
                self._check(earlier.placed)
        finally:
            if is_locked:
                self._lock.release()
        line = earlier.prospect()
        return None if line is None else f"{self.path}: {line}"

    def __enter__(self) -> WorkFolder:
        self._take()
        keep = any(entry.name != LOCK for entry in self.path.iterdir())  # until it is known that the job is not refused
        try:
            earlier = self._earlier()
            self.placed = earlier.placed.note
            if self.placed is None:
                self._check(earlier.placed)
            keep = earlier.frames > 0
            self._go_on(earlier)
            if not self.segments and not self.tail.frames:
                keep = False
                with told(self._target):
                    self._begin(earlier.placed)
                for part in self._parts:
                    part.begin(self)
        except BaseException:
            self._leave(keep=keep)
            raise
        return self

    def _check(self, placed: Placed) -> None:
        if not self._overwrite and os.path.lexists(self._target) and not placed.has(self._target):
            raise OutputError(f"{self._target}: exists; add --overwrite")
        for part in self._parts:
            part.check(placed)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        kept = error is not None and self._resume and bool(self.segments or self.tail.frames)
        if kept and error is not None:
            frames = f"{self.kept_frames} frames are kept in {self.path}"
            error.add_note(f"{frames}; run the same command again to go on, or delete that folder")
        self._leave(keep=kept)

    def add(self, segment: Segment, checkpoint: Checkpoint | None) -> None:
        """Count a closed segment; checkpoint is the state after it, without which no job can go on from there.

        Cost: three or four fsyncs, one more for each file beside the segment, and a read of the segment (its checksum),
        where the job may be resumed.
        """
        sync(self.file(segment.number))
        line: dict[str, Any] = {"segment": dataclasses.asdict(segment)}
        if self._resume:
            line["crc"] = crc_of(self.file(segment.number))
        if (beside := beside_folder(self.path, segment.number)).is_dir():
            for path in (beside, *beside.rglob("*")):
                sync(path)
            line["beside"] = extent(beside)
        if checkpoint is not None and self._resume:
            write_state(state_file(self.path, segment.number), checkpoint.state)
            sync(state_file(self.path, segment.number))
            faults = dataclasses.asdict(checkpoint.faults)
            line["checkpoint"] = {"pts": checkpoint.pts, "crc": checkpoint.crc, "faults": faults}
        sync(self.path)
        self._append(line)
        self.segments.append(segment)
        self.checkpoint = checkpoint
        self.tail.forget()
        state_file(self.path, segment.number - 1).unlink(missing_ok=True)

    def take(self, kept: KeptSegment) -> None:
        """Count a segment that was written before as the next of this film."""
        number = len(self.segments)
        link_or_copy(kept.file, self.file(number))
        self.add(dataclasses.replace(kept.segment, number=number), kept.checkpoint)

    def hand_over(self, joined: Path, note: dict[str, Any] | None = None) -> None:
        """Put the whole film, which lies in this folder, in the target's place, and before it what goes beside it.

        All is on the disk when this returns. Cut short, the same job does it again, or finds it done; then it finds
        the note, too, plain values that tell of the film.
        """
        sync(joined)
        try:
            files = {self._target: joined}
            for part in self._parts:
                files |= part.stage()
            placing = {str(place): print_of(file) for place, file in files.items()}
            self._append({"placing": placing, "note": note or {}})
            self._place(joined)
            sync(self._target.parent)
        finally:
            for part in self._parts:
                part.clear()

    def _place(self, joined: Path) -> None:
        """All of it, or nothing: not the layers of this film beside those of the one before."""
        begun = list[Beside]()
        try:
            for part in self._parts:
                begun.append(part)
                part.place()
            os.replace(joined, self._target)
        except (Exception, KeyboardInterrupt, SystemExit):
            for part in reversed(begun):
                with contextlib.suppress(OSError):  # the error that led here is the one to tell
                    part.put_back()
            raise

    def finish(self) -> None:
        """Note that no more segments follow: only the joining is left."""
        if not self.complete:
            self._append({"complete": True})
            self.complete = True

    # -- beginning and going on ---------------------------------------------------------------------------------

    def _take(self) -> None:
        self._refuse_others()
        with told(self._target):
            self.path.mkdir(exist_ok=True)
        self._acquire()

    def _refuse_others(self) -> None:
        if self.path.exists() and not self._is_ours():
            said = "is in the way (no work folder of streamstyle); move it, or rename the output"
            raise OutputError(f"{self.path}: {said}")

    def _acquire(self) -> None:
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            said = "another streamstyle is writing this film; wait for it, or rename the output"
            raise OutputError(f"{self.path}: {said}") from None

    def _is_ours(self) -> bool:
        if not self.path.is_dir():
            return False
        names = {entry.name for entry in self.path.iterdir()}
        return not names or JOURNAL in names or names <= {LOCK}

    def _earlier(self) -> Earlier:
        return Earlier.read(self.path, self._target, self.suffix, self._job, resume=self._resume, say=self._say)

    def _begin(self, placed: Placed) -> None:
        self._clear()
        self._append({"job": self._job})
        for line in placed.lines:  # of this job: it may be cut short again
            self._append(line)
        sync(self.path)
        sync(self.path.parent)

    def _clear(self) -> None:
        """Remove all but the lock, the journal last: killed on the way, the folder is still known as ours.

        Before it what is of the last segment, which is what a report is made from.
        """
        for entry in sorted(self.path.iterdir(), key=lambda entry: (entry.name == JOURNAL, entry.name)):
            if entry.name != LOCK:
                remove(entry)

    def _leave(self, *, keep: bool) -> None:
        """Give the lock back, and remove the folder unless it is to be kept."""
        try:
            if not keep:
                with contextlib.suppress(OSError):
                    self._clear()
                with contextlib.suppress(OSError):
                    (self.path / LOCK).unlink()  # before it is released, or it might be the next one's
        finally:
            self._lock.release()
        if not keep:
            with contextlib.suppress(OSError):  # somebody else may have begun there
                if os.name == "nt":  # where an open file cannot be removed
                    (self.path / LOCK).unlink(missing_ok=True)
                self.path.rmdir()

    def _go_on(self, earlier: Earlier) -> None:
        """Take over the segments of an earlier run of the same job."""
        why = earlier.afresh
        if self.placed is not None or earlier.hindrance is None:
            self.segments, self.checkpoint, self.tail = earlier.segments, earlier.checkpoint, earlier.tail
            try:
                if self.kept_frames and self.placed is None:
                    self._begin_parts()
            except DAMAGED:
                self.segments, self.checkpoint, why = [], None, PART_DAMAGED
                self.tail.forget()
        self.complete, self.resumed_frames = earlier.complete and bool(self.segments), self.kept_frames
        if self.placed is not None:
            self._take_placed()
        elif why is not None:
            gone = f"; {earlier.frames} frames that were kept are gone" if earlier.frames else ""
            self._say(f"{self.path}: starting afresh, for {why}{gone}")
        elif self.kept_frames:
            self._tidy(earlier.lines, self.segments)
            self._say(f"{self.path}: going on after frame {self.kept_frames}{earlier.lost}")

    def _begin_parts(self) -> None:
        """Let what is beside the film go on; where that fails, from the last segment, without the tail."""
        try:
            for part in self._parts:
                part.begin(self)
        except DAMAGED:
            if not self.tail.frames or not self.segments:
                raise
            self.tail.forget()
            self._begin_parts()

    def _take_placed(self) -> None:
        """All is in place, and perhaps a part of this folder removed: then less can be told of what was done."""
        for part in self._parts:
            with contextlib.suppress(*DAMAGED):
                part.begin(self)
            part.clear()
        self._say(f"{self._target}: is whole; what an earlier run left beside it is removed")

    def _tidy(self, lines: list[dict[str, Any]], found: list[Segment]) -> None:
        """Remove what counts for nothing: a half-written segment or state, a torn last line."""
        last = found[-1].number if found else -1
        wanted = {
            JOURNAL,
            LOCK,
            state_file(self.path, last).name,
            *(self.file(segment.number).name for segment in found),
        }
        wanted |= {beside_folder(self.path, segment.number).name for segment in found}
        wanted |= {FRAMES, TAIL} if self.tail.frames else set()
        for entry in self.path.iterdir():
            if entry.name not in wanted:
                remove(entry)
        text = "".join(json.dumps(line) + "\n" for line in lines)
        if (self.path / JOURNAL).read_text(errors="replace") != text:
            fresh = self.path / f"{JOURNAL}.new"
            fresh.write_text(text)
            sync(fresh)
            fresh.replace(self.path / JOURNAL)
            sync(self.path)

    def _append(self, line: dict[str, Any]) -> None:
        with open(self.path / JOURNAL, "a") as journal:
            journal.write(json.dumps(line) + "\n")
            journal.flush()
            os.fsync(journal.fileno())
