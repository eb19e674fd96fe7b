"""Writes a project while a film is painted: what is read on the reading thread, what is painted where it is encoded."""

from __future__ import annotations

import array
import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from streamstyle._version import __version__
from streamstyle.config import Options
from streamstyle.errors import OptionError
from streamstyle.frames import Checkpoint, FrameBatch, VideoInfo
from streamstyle.frozen_statistics import FrozenStatistics, light_of
from streamstyle.label_track import LabelTrackWriter
from streamstyle.look import Look
from streamstyle.masks import object_name
from streamstyle.media.links import link_or_copy
from streamstyle.media.lossless import LosslessWriter
from streamstyle.media.segments import KeptSegment, WorkFolder, fingerprint, told
from streamstyle.nets.painting import Affine
from streamstyle.projects.project import (
    ENCODED,
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
    file_name,
    put_in_place,
)
from streamstyle.scene import ObjectStyleReport, Scene
from streamstyle.tracker import Tracker


class ObjectNumbers:
    """A label for each object that is met, for good; one for each name, and for each track without one.

    Attributes:
        names: each label's name.
        wore: the name by which it finds its style in the Look; None for what is not named.
    """

    def __init__(self) -> None:
        self.names: dict[int, str] = {}
        self.wore: dict[int, str | None] = {}
        self._labels: dict[str | int, int] = {}

    def table(self, tracker: Tracker) -> np.ndarray:
        """Slot -> label, int32; what is not confirmed as an object is background."""
        table = np.zeros(tracker.slots, np.int32)
        for slot, track in tracker.tracks.items():
            if slot and (track.confirmed or track.name):
                table[slot] = self._label(track.name, track.track_id)
        return table

    def name_of_track(self, track_id: int) -> str | None:
        """What a track without a name is called, if it was ever met."""
        return self.names.get(self._labels.get(track_id, 0))

    def _label(self, name: str | None, track_id: int) -> int:
        key = name or track_id
        if key not in self._labels:
            label = len(self.names) + 1
            self._labels[key] = label
            self.names[label] = name or object_name(label)
            self.wore[label] = name
        return self._labels[key]


class ProjectWriter:
    """A project in the making; a context manager, and what is left by an error leaves none.

    Args:
        path: where it is to be; what is there is replaced.
        info: the film.
        look: what it is painted with, as a person said it.
        options: likewise.
        size: (width, height) painted.
        suffix: of encoded segments.
        known: the project this one follows: all but what is painted is taken from it.
    """

    def __init__(
        self,
        path: str | Path,
        info: VideoInfo,
        look: Look,
        options: Options,
        size: tuple[int, int],
        suffix: str,
        known: Project | None = None,
    ) -> None:
        if not look.needs_objects and known is None:
            raise OptionError(
                "--save-project: this Look has no objects, so that a change would paint all of the film again; give "
                "--object, or --background and --foreground"
            )
        self._target, self._info, self._look, self._options = Path(os.path.realpath(path)), info, look, options
        self._size, self._suffix, self._known = size, suffix, known
        self.numbers = ObjectNumbers()
        self.written_bytes = 0
        self._statistics, self._reference = FrozenStatistics(), False
        self._pts, self._shots, self._light = array.array("q"), array.array("q"), array.array("d")
        self._labels, self._ends = array.array("H"), array.array("q")
        self._ends_at: list[tuple[int, dict[str, Any]]] = []
        self._store: LosslessWriter | None = None
        self._number = 0

    def __enter__(self) -> ProjectWriter:
        self._folder = self._target.with_name(f".{self._target.name}.part")
        with told(self._target):
            shutil.rmtree(self._folder, ignore_errors=True)
            for part in (ENCODED, PAINTED, REFERENCES):
                (self._folder / part).mkdir(parents=True)
        try:
            self._track = LabelTrackWriter(self._folder / LABELS, self._info, self.numbers.names)
            if self._known is None:
                self._track.__enter__()
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._store is not None:
            self._store.abandon()
        if self._known is None and kind is not None:
            with contextlib.suppress(OSError):
                self._track.__exit__(kind, error, trace)
        shutil.rmtree(self._folder, ignore_errors=True)

    def read(self, batch: FrameBatch, scene: Scene | None) -> None:
        """Keep what was seen in a batch, and the frames that statistics are recorded from."""
        if scene is None or scene.labels is None:
            raise OptionError("--save-project: nothing is painted by this Look; give something a style")
        for i, (luma, shot, labels) in enumerate(zip(scene.lumas, scene.shots, scene.labels, strict=True)):
            self._track.add(labels, batch.pts[i])
            self._labels.extend(np.unique(labels).tolist())
            self._ends.append(len(self._labels))
            self._pts.append(batch.pts[i])
            self._shots.append(shot)
            self._light.extend(light_of(luma))
            self._statistics.step(luma, shot, self._note)
            if self._reference:
                self._reference = False
                path = self._folder / file_name(REFERENCES, batch.index + i, self._suffix)
                with told(self._target):
                    np.savez_compressed(path, **{p: getattr(batch, p)[i : i + 1] for p in "yuv"})

    def _note(self) -> list[Affine]:
        """Statistics would be recorded from this frame."""
        self._reference = True
        return []

    def keep(self, painted: Iterator[FrameBatch | KeptSegment]) -> Iterator[FrameBatch | KeptSegment]:
        """The same, on their way to the encoder; what is new is stored bit for bit."""
        with contextlib.closing(painted):  # type: ignore[type-var]
            for item in painted:
                if isinstance(item, KeptSegment):
                    self._take(item)
                else:
                    self._add(item)
                yield item

    def _take(self, item: KeptSegment) -> None:
        assert self._known is not None
        number = item.segment.number
        with told(self._target):
            link_or_copy(self._known.file(PAINTED, number), self._painted())
        self._close(self._known.segments[number].crc, asdict(self._known.segments[number].faults))

    def _add(self, batch: FrameBatch) -> None:
        if self._store is None:
            self._store = LosslessWriter(self._painted(), self._size)
        self._store.add(batch)
        checkpoint: Checkpoint | None = batch.checkpoint
        if checkpoint is not None:
            self._store.finish()
            self._store = None
            self.written_bytes += self._painted().stat().st_size
            self._close(checkpoint.crc, asdict(checkpoint.faults))

    def _painted(self) -> Path:
        return self._folder / file_name(PAINTED, self._number, self._suffix)

    def _close(self, crc: int, faults: dict[str, Any]) -> None:
        self._ends_at.append((crc, faults))
        self._number += 1

    def finish(
        self,
        work: WorkFolder,
        same: dict[str, Any],
        painted_with: dict[str, Any],
        objects: list[ObjectStyleReport],
    ) -> dict[str, int]:
        """Put the project in place, once the film is written.

        Args:
            work: where its segments are.
            same: see project.what_must_stay.
            painted_with: fingerprints of paintings and networks.
            objects: the report.

        Returns:
            Bytes of its parts, by kind.

        Raises:
            OutputError: the disk is full, or not ours to write on.
        """
        with told(self._target):
            for segment in work.segments:
                name = file_name(ENCODED, segment.number, self._suffix)
                link_or_copy(work.file(segment.number), self._folder / name)
            names, wore = self.numbers.names, self.numbers.wore
            if self._known is None:
                self._track.__exit__(None, None, None)
                self._write_frames()
            else:
                names, wore = self._known.names, _worn_now(self._known, self._look)
                for part in (LABELS, FRAMES):
                    link_or_copy(self._known.path / part, self._folder / part)
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
                "film": fingerprint(self._info.path),
                "size": self._size,
                "same": same,
                "options": asdict(self._options),
                "painted_with": {os.path.abspath(file): known for file, known in painted_with.items()},
                "names": names,
                "wore": wore,
                "objects": [asdict(replace(thing, name=self._name_of(thing))) for thing in objects],
                "segments": [
                    {"segment": asdict(segment), "crc": crc, "faults": faults}
                    for segment, (crc, faults) in zip(work.segments, self._ends_at, strict=True)
                ],
                "files": files,
            }
            self._write_look()
            (self._folder / META).write_text(json.dumps(said, indent=1, default=str), "utf-8")
            put_in_place(self._folder, self._target)
        return bytes_by_kind(files)

    def _name_of(self, thing: ObjectStyleReport) -> str | None:
        return thing.name or self.numbers.name_of_track(thing.track_id)

    def _write_look(self) -> None:
        """The Look, its paths as they are told from where it will be."""
        folder = str(self._target)
        look = self._look.moved(lambda file: file if os.path.isabs(file) else os.path.relpath(file, folder))
        (self._folder / LOOK).write_text(look.to_toml(), "utf-8")

    def _write_frames(self) -> None:
        np.savez_compressed(
            self._folder / FRAMES,
            pts=np.array(self._pts, np.int64),
            shots=np.array(self._shots, np.int64),
            light=np.array(self._light, np.float64).reshape(-1, 2),
            labels=np.array(self._labels, np.uint16),
            ends=np.array(self._ends, np.int64),
        )


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
