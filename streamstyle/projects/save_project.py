"""Writes a project while a film is painted: what is read on the reading thread, what is painted where it is encoded.

Both are kept segment by segment in the film's work folder, with what the next segment depends on; when the film is
whole they are put together. So a job that goes on makes the project it would have been, byte for byte::

    000003/project/read.safetensors       of each frame its time, shot, light and labels; object numbers, statistics
                   labels.npz             a label track of the segment
                   references/000012.npz
                   painted.mkv
                   flow.zip               where calm went by some; see painted_parts
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch

from streamstyle._version import __version__
from streamstyle.config import Options
from streamstyle.errors import OptionError
from streamstyle.frames import Checkpoint, FrameBatch
from streamstyle.frozen_statistics import FrozenStatistics
from streamstyle.look import Look
from streamstyle.media.closed import KeptSegment
from streamstyle.media.disk import link_or_copy, staging, sync, told
from streamstyle.media.journal import Placed
from streamstyle.media.label_track import LabelTrack, LabelTrackWriter
from streamstyle.media.segments import WorkFolder
from streamstyle.nets.painting import Affine
from streamstyle.plan import Plan
from streamstyle.projects.object_numbers import ObjectNumbers
from streamstyle.projects.painted_parts import PaintedWriter, put_painted, take_painted
from streamstyle.projects.project import (
    ENCODED,
    FLOW,
    FORMAT,
    FRAMES,
    LABELS,
    LOOK,
    META,
    PAINTED,
    REFERENCES,
    VERSION,
    Project,
    bytes_by_kind,
    check_place,
    file_name,
    forget_old,
    put_in_place,
    take_back,
    what_must_stay,
)
from streamstyle.projects.read_parts import Noted, ReadPartsWriter, read_of
from streamstyle.scene import ObjectStyleReport, Scene


class ProjectWriter:
    """A project in the making, segment by segment as the film; put in place with it: see Beside.

    A context manager that closes what is open where a job stops.

    Args:
        path: where it is to be; what is there is replaced.
        job: the film that is painted.
        look: what it is painted with, as a person said it.
        options: likewise.
        same: the job's identity.
        objects: gives the report of the objects, once all is painted.
        known: the project this one follows: all but what is painted, and the motion of that, is taken from it.

    Attributes:
        files: bytes of its files by name, once it is staged.
        notes: whether checkpoints within a segment are to hold what it needs to go on there.

    Raises:
        OptionError: a project of this Look would be of no use. OutputError: it could not or must not be there.
    """

    def __init__(
        self,
        path: str | Path,
        job: Plan,
        look: Look,
        options: Options,
        same: dict[str, Any],
        objects: Callable[[], list[ObjectStyleReport]],
        known: Project | None = None,
    ) -> None:
        self._said, self._job, self._look, self._options, self._known = path, job, look, options, known
        self._target = Path(os.path.realpath(path))
        self.check(Placed.beside(job.target))
        if not look.needs_objects and known is None:
            raise OptionError(
                "--save-project: this Look has no objects, so that a change would paint all of the film again; give "
                "--object, or --background and --foreground"
            )
        self._folder = staging(self._target.parent, job.target, ".project.part")
        self._moved = False
        self._suffix, self._same, self._objects = job.encoder.segment_suffix, same, objects
        self.numbers, self.notes = ObjectNumbers(), False
        self.files: dict[str, int] = {}
        self._statistics, self._reference = FrozenStatistics(), False
        self._open: ReadPartsWriter | None = None
        self._noted: Noted | None = None
        self._store: PaintedWriter | None = None

    def check(self, placed: Placed) -> None:
        """Refuse what could not be saved, or would replace unasked what this job did not place: OutputError."""
        overwrite = self._options.output.overwrite or placed.has(self._target / META)
        known = None if self._known is None else self._known.path
        check_place(self._said, overwrite=overwrite, going_on=known)

    def __enter__(self) -> ProjectWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._store is not None:
            self._store.abandon()
        if self._open is not None:
            self._open.abandon()

    def begin(self, work: WorkFolder) -> None:
        """Go on from the segments a work folder has, and what was noted of the one that is open."""
        self._work, self._noted = work, None
        if work.placed is not None:
            self._moved = True  # what was replaced may still be there
            self.files = json.loads((self._target / META).read_text("utf-8"))["files"]
        self._number = self._reading = len(work.segments)
        self.numbers.load_state_dict({"objects": []})
        self._statistics = FrozenStatistics()
        if self._number and self._known is None:
            states = [read_of(self._beside(number)) for number in range(self._number)]
            if any(len(state["pts"]) != segment.frames for state, segment in zip(states, work.segments, strict=True)):
                raise ValueError("what was read of a segment is not of it")
            self._load(states[-1])
        if work.tail.checkpoint is not None and self._known is None:
            noted = work.tail.checkpoint.noted or {}
            self._noted = Noted.of(noted["read"])
            self._load(noted)

    def _load(self, state: dict[str, Any]) -> None:
        self._statistics.load_state_dict(state["statistics"], torch.device("cpu"))
        self.numbers.load_state_dict(state["numbers"])

    def _state(self) -> dict[str, Any]:
        return {"numbers": self.numbers.state_dict(), "statistics": self._statistics.state_dict()}

    @property
    def saved(self) -> dict[str, int]:
        """Bytes of its parts, by kind, once it is staged."""
        return bytes_by_kind(self.files)

    def bytes_of(self, *numbers: int) -> int:
        """Of segments' painted frames and motion, once it is staged."""
        names = (file_name(kind, number, self._suffix) for number in numbers for kind in (PAINTED, FLOW))
        return sum(self.files.get(name, 0) for name in names)

    # -- segment by segment ---------------------------------------------------------------------------------------

    def read(self, batch: FrameBatch, scene: Scene | None, checkpoint: Checkpoint | None) -> Checkpoint | None:
        """Keep what was seen in a batch, and the frames that statistics are recorded from.

        Returns:
            The checkpoint, with what this one needs to go on within the segment, unless it closes that.

        Raises:
            OutputError: the disk is full, or not ours to write on.
        """
        if scene is None or scene.labels is None:
            raise OptionError("--save-project: nothing is painted by this Look; give something a style")
        if self._open is None:
            self._make_beside(self._reading)
            self._open = ReadPartsWriter(
                self._beside(self._reading), self._job.info, self._same["input"], self._target, notes=self.notes
            )
            if self._noted is not None:
                self._open.take(self._noted)
                self._noted = None
        for i, (luma, shot, labels) in enumerate(zip(scene.lumas, scene.shots, scene.labels, strict=True)):
            self._open.add(batch.pts[i], shot, luma, labels)
            self._statistics.step(luma, shot, self._refer_next)
            if self._reference:
                self._reference = False
                self._open.refer(batch, i)
        if checkpoint is None:
            return None
        if not checkpoint.closes:
            return replace(checkpoint, noted={"read": self._open.noted(), **self._state()})
        done, self._open = self._open, None
        done.finish(checkpoint, self._state())
        self._reading += 1
        return checkpoint

    def _refer_next(self) -> list[Affine]:
        """Statistics would be recorded from this frame."""
        self._reference = True
        return []

    def keep(
        self, painted: Iterator[FrameBatch | KeptSegment], has_flow: Callable[[int], bool] = lambda number: False
    ) -> Iterator[FrameBatch | KeptSegment]:
        """The same, on their way to the encoder; what is new is stored bit for bit.

        Args:
            has_flow: whether the project this one follows has motion of a segment that is to be taken from it.
        """
        with contextlib.closing(painted):  # type: ignore[type-var]
            for item in painted:
                if isinstance(item, KeptSegment):
                    assert self._known is not None
                    self._make_beside(self._number)
                    number, folder = item.segment.number, self._beside(self._number)
                    with told(self._target):
                        take_painted(self._known, number, folder, flow=has_flow(number))
                    self._number += 1
                else:
                    self._add(item)
                yield item

    def _add(self, batch: FrameBatch) -> None:
        if self._store is None:
            self._make_beside(self._number)
            size = self._job.width, self._job.height
            self._store = PaintedWriter(self._beside(self._number), size, self._same["input"])
        self._store.add(batch)
        if batch.checkpoint is not None and batch.checkpoint.closes:
            self._store.finish()
            self._store = None
            self._number += 1

    def _beside(self, number: int) -> Path:
        return self._work.beside(number, "project")

    def _make_beside(self, number: int) -> None:
        self._work.make_beside(number, "project")

    # -- all of it ------------------------------------------------------------------------------------------------

    def stage(self) -> dict[Path, Path]:
        """Put the project together, and have it on the disk, under a hidden name beside its place.

        Returns:
            The place of its description, and where that is now.

        Raises:
            OutputError: the disk is full, or not ours to write on.
        """
        with told(self._target):
            self.clear()
            for part in (ENCODED, PAINTED, REFERENCES):
                (self._folder / part).mkdir(parents=True)
            self._fill()
            for path in (*self._folder.rglob("*"), self._folder):
                sync(path)
        return {self._target / META: self._folder / META}

    def place(self) -> None:
        """Move it to its place."""
        with told(self._target):
            put_in_place(self._folder, self._target)
        self._moved = True

    def put_back(self) -> None:
        """The project that was there is there again."""
        if self._moved:
            take_back(self._folder, self._target)
        self._moved = False

    def clear(self) -> None:
        """Remove what was staged and not moved, and the project that was replaced."""
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._moved:
            forget_old(self._target)
        self._moved = False

    def _fill(self) -> None:
        for segment in self._work.segments:
            number = segment.number
            link_or_copy(self._work.file(number), self._folder / file_name(ENCODED, number, self._suffix))
            put_painted(self._beside(number), self._folder, number)
        names, wore = self.numbers.names, self.numbers.wore
        if self._known is None:
            ends = self._join_read()
        else:
            names, wore = self._known.names, _worn_now(self._known, self._look)
            ends = [(segment.crc, asdict(segment.faults)) for segment in self._known.segments]
            for name in (LABELS, FRAMES):
                link_or_copy(self._known.path / name, self._folder / name)
            for reference in (self._known.path / REFERENCES).iterdir():
                link_or_copy(reference, self._folder / REFERENCES / reference.name)
        files = {
            path.relative_to(self._folder).as_posix(): path.stat().st_size
            for path in sorted(self._folder.rglob("*"))
            if path.is_file()
        }
        said = {
            "format": FORMAT,
            "version": VERSION,
            "streamstyle": __version__,
            "film": self._same["input"],
            "size": (self._job.width, self._job.height),
            "same": what_must_stay(self._same),
            "options": asdict(self._options),
            "painted_with": {os.path.abspath(file): known for file, known in self._same["painted_with"].items()},
            "names": names,
            "wore": wore,
            "objects": [asdict(replace(thing, name=self._name_of(thing))) for thing in self._objects()],
            "segments": [
                {"segment": asdict(segment), "crc": crc, "faults": faults}
                for segment, (crc, faults) in zip(self._work.segments, ends, strict=True)
            ],
            "files": files,
        }
        self._write_look()
        (self._folder / META).write_text(json.dumps(said, indent=1, default=str), "utf-8")
        self.files = files

    def _join_read(self) -> list[tuple[int, dict[str, Any]]]:
        """Put together what was read; where a reader may go on after each segment."""
        ends, frames, before = [], list[dict[str, Any]](), 0
        info, names = self._job.info, self.numbers.names
        with LabelTrackWriter(self._folder / LABELS, info, names, film=self._same["input"]) as whole:
            for number in range(len(self._work.segments)):
                folder, state = self._beside(number), read_of(self._beside(number))
                ends.append((state["crc"], state["faults"]))
                frames.append({name: state[name] for name in ("pts", "shots", "light", "labels")})
                frames[-1]["ends"] = state["ends"] + before
                before += len(state["labels"])
                for reference in folder.glob(f"{REFERENCES}/*"):
                    link_or_copy(reference, self._folder / REFERENCES / reference.name)
                with LabelTrack(folder / LABELS) as track:
                    for labels, pts in zip(track, track.pts.tolist(), strict=True):
                        whole.add(labels, pts)
        joined = {name: np.concatenate([part[name] for part in frames]) for name in frames[0]}
        np.savez_compressed(self._folder / FRAMES, **joined)  # type: ignore[arg-type]
        return ends

    def _name_of(self, thing: ObjectStyleReport) -> str | None:
        return thing.name or self.numbers.name_of_track(thing.track_id)

    def _write_look(self) -> None:
        """The Look, its paths as they are told from where it will be."""
        folder = str(self._target)
        look = self._look.moved(lambda file: file if os.path.isabs(file) else os.path.relpath(file, folder))
        (self._folder / LOOK).write_text(look.to_toml(), "utf-8")


def _worn_now(project: Project, look: Look) -> dict[int, str | None]:
    """By which name each label of a project finds its style in another Look."""
    there = {thing.name for thing in look.objects}
    final = {label: look.name_of(name) for label, name in project.names.items()}
    return {label: name if name in there else None for label, name in final.items()}


def styled(objects: list[dict[str, Any]], look: Look) -> list[ObjectStyleReport]:
    """A project's report of objects, in another Look."""
    worn = {thing.name: thing.style for thing in look.objects}
    found = [ObjectStyleReport(**each) for each in objects]
    return [replace(each, style=worn.get(look.name_of(each.name or ""), look.foreground_style)) for each in found]
