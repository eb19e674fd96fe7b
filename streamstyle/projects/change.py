"""What a new Look changes in a film that was painted before: which frames, within which boxes, in which paint."""

from __future__ import annotations

import bisect
import functools
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice
from typing import Any, cast

import numpy as np
import torch

from streamstyle.errors import InputError
from streamstyle.flow import rebatch
from streamstyle.frames import Checkpoint, Frame, FrameBatch, VideoInfo
from streamstyle.frozen_statistics import FrozenStatistics
from streamstyle.media.closed import KeptSegment
from streamstyle.media.decode import decode
from streamstyle.media.label_track import LabelTrack
from streamstyle.media.lossless import read_lossless
from streamstyle.media.tail import Tail
from streamstyle.nets.painting import Affine
from streamstyle.painting.boxes import NOWHERE, Box
from streamstyle.painting.worn import Worn, changed_looks
from streamstyle.projects.kept_flow import KeptFlow
from streamstyle.projects.pieces import Piece
from streamstyle.projects.project import ENCODED, LABELS, PAINTED, Project, seconds_of
from streamstyle.projects.recorded import Recorded
from streamstyle.projects.touched import Sketch, Touched, carries_paint
from streamstyle.scene import Scene, part_numbers
from streamstyle.stages.stylize_regions import RegionStylizer
from streamstyle.stylizer import Stylizer

BATCH_PX = {"cpu": 1 << 20, "cuda": 1 << 25}
MOST_FRAMES = 8
"""Frames and pixels of a batch at most, as of a film that is painted whole."""


class Change:
    """What a new Look changes in a film, and the film's frames with it.

    Attributes:
        touched: [F] bool, frames that may be painted again.
        touched_segments: for each segment whether it has one.
        flow: what is known of the film's motion.
    """

    def __init__(self, project: Project, stylizer: Stylizer, info: VideoInfo, prints: dict[str, Any]) -> None:
        self._project, self._stylizer, self._info = project, stylizer, info
        self.flow = KeptFlow(project)
        painting = stylizer.options.painting
        before = Sketch(project.look, project.options.painting, project.painted_with)
        after = Sketch(stylizer.look, painting, prints)
        tables = before.table_of(project.names, project.wore), after.table_of(project.names)
        painters = [coat.painter for coat in stylizer.palette.coats]
        halo_px = max((p.halo_px for p in painters if isinstance(p, RegionStylizer)), default=0)
        self._size = project.size[::-1]
        self._of = Touched(before, after, tables, self._size, halo_px, stylizer.device)
        frames = project.frames
        self._times_s = [seconds_of(info, int(pts)) for pts in frames.pts]
        self.touched = np.array([self._of.may_touch(frames.labels_in(i), t) for i, t in enumerate(self._times_s)], bool)
        self._episodes = np.cumsum(np.diff(frames.shots, prepend=frames.shots[:1]) != 0)
        names = {label: stylizer.look.name_of(name) for label, name in project.names.items()}
        layers = {name: k for k, name in enumerate(stylizer.layer_names[2:], 2)}
        self._layer_of = np.zeros(max(names, default=0) + 1, np.int32)
        for label, name in names.items():
            self._layer_of[label] = layers.get(name, 1)
        self._layers = len(stylizer.layer_names)
        self._whole = carries_paint(painting) or carries_paint(project.options.painting)
        if painting.calm != project.options.painting.calm:
            self.touched[:] = True
        if self._whole:
            self.touched = np.isin(frames.shots, frames.shots[self.touched])
        counts = [each.segment.frames for each in project.segments]
        self._begins = np.cumsum([0, *counts]).tolist()
        self.touched_segments = [
            bool(self.touched[a:b].any()) for a, b in zip(self._begins, self._begins[1:], strict=False)
        ]
        self._painted_frames = self._painted_px = self._first = self._reached = 0
        self._done, self._after = 0, cast(Checkpoint | None, None)

    def go_on(self, segments: int, frames: int, after: Checkpoint) -> None:
        """Leave out what is done: the first segments and, perhaps, some frames of the next.

        Args:
            frames: all of them; after: the checkpoint behind the last, with what _counted noted.
        """
        self._first = self._reached = segments
        self._done, self._after = frames, after
        self._painted_frames, self._painted_px = after.state["painted"]
        self.flow.load_state_dict(after.state["flow"])

    def _bytes_read(self) -> int:
        """What was read of the project for the segments reached."""
        kinds = (PAINTED if touched else ENCODED for touched in self.touched_segments[: self._reached])
        return self.flow.bytes_read + sum(self._project.bytes_of(kind, number) for number, kind in enumerate(kinds))

    def report(self) -> dict[str, Any]:
        """How much was kept and how much painted; of a job that has not begun, how much may be."""
        frames, (height, width) = len(self.touched), self._size
        encoded = sum(self.touched_segments)
        return {
            "frames_painted": self._painted_frames,
            "frames_reused": frames - self._painted_frames,
            "frames_touched_at_most": int(self.touched.sum()),
            "pixels_painted": round(self._painted_px / max(1, frames * height * width), 6),
            "segments_copied": len(self.touched_segments) - encoded,
            "segments_encoded": encoded,
            "bytes_read": self._bytes_read(),
        }

    def pieces(self) -> Iterator[Piece | KeptSegment]:
        """The film: segments to copy, and of the others the frames, as decoded and as they were painted."""
        project, film, at = self._project, None, -1
        try:
            for number in range(self._first, len(self.touched_segments)):
                self._reached = number + 1
                if not self.touched_segments[number]:
                    yield project.kept(number)
                    continue
                within = max(0, self._done - self._begins[number])
                if film is None or at != number:
                    _close(film)
                    before = project.after(number - 1) if number else None
                    film = self._film_after(self._after if within else before)
                yield from self._segment(number, film, within)
                at = number + 1
        finally:
            _close(film)

    def _film_after(self, after: Checkpoint | None) -> Iterator[Frame]:
        """The film's frames as decoded, from its beginning or after a checkpoint."""
        out = self._stylizer.options.output
        return decode(
            self._info,
            start_s=out.start,
            duration_s=out.duration,
            size=out.size,
            after=after,
            hwaccel=out.hwaccel,
        )

    def _segment(self, number: int, film: Iterator[Frame], within: int) -> Iterator[Piece]:
        """The pieces of a segment but for its first frames, so many; film goes on behind those."""
        begin, end = self._begins[number : number + 2]
        path = self._project.file(PAINTED, number)
        pixels = self._size[0] * self._size[1]
        per_batch = max(1, min(MOST_FRAMES, BATCH_PX[self._stylizer.device.type] // pixels))
        with closing(read_lossless(path, self._project.size)) as kept:  # type: ignore[type-var]
            done = begin + within
            for _ in islice(kept, within):
                pass  # lossless packets need those before them
            for group in rebatch(islice(film, end - done), per_batch):
                batch = FrameBatch.stack(group, done)
                painted = list(islice(kept, len(batch)))
                same_times = batch.pts == tuple(self._project.frames.pts[done : done + len(batch)].tolist())
                if len(painted) != len(batch) or not same_times:
                    raise InputError(f"{path}: is not of this stretch of {self._info.path}; run without --project")
                done += len(batch)
                if done == end:
                    batch = replace(batch, checkpoint=self._project.after(number))
                yield Piece(batch, np.stack(painted))
        if done != end:
            raise InputError(
                f"{self._info.path}: ends after frame {done}, {self._project.path} goes on; is it cut short?"
            )

    @torch.inference_mode()
    def readings(
        self, pieces: Iterator[Piece | KeptSegment], tail: Tail | None = None
    ) -> Iterator[Piece | KeptSegment]:
        """The pieces, with what is to be painted in them; statistics are followed through all that is copied, too.

        Args:
            tail: tells where a checkpoint is due within a segment.
        """
        statistics, done = FrozenStatistics(), self._done
        worn: tuple[Any, Worn] | None = None
        before: tuple[Any, ...] = ()
        palette, frames = self._stylizer.palette, self._project.frames

        def step(i: int) -> tuple[Sequence[Affine], tuple[Any, ...]]:
            light, shot = tuple(frames.light[i].tolist()), int(frames.shots[i])
            with self._stylizer.analysing():
                recorded = statistics.step_light(light, shot, functools.partial(self._record, i))
            return recorded, (statistics.version, palette.moment(self._times_s[i]))

        for i in range(done):
            _, before = step(i)
        path = self._project.path / LABELS
        with closing(pieces), closing(self.flow), LabelTrack(path) as track:  # type: ignore[type-var]
            for piece in pieces:
                at, boxes, maps, parts, wears, fading = [], [], [], [], [], []
                for i in range(done, done + len(piece)):
                    time_s, (recorded, what) = self._times_s[i], step(i)
                    changes, before = changed_looks(before, what), what
                    if not self.touched[i]:
                        continue
                    labels = track[i].astype(np.int32)
                    box = Box(0, 0, *self._size) if self._whole else self._of.box(labels, time_s)
                    if box == NOWHERE:
                        continue
                    if worn is None or worn[0] != what:
                        with self._stylizer.analysing():
                            worn = what, palette.wear(recorded, time_s)
                    at.append(i - done)
                    boxes.append(box)
                    maps.append(self._of.looks(labels))
                    parts.append(part_numbers(labels, self._layer_of[labels], self._layers))
                    wears.append(worn[1])
                    fading.append(changes)
                done += len(piece)
                self._painted_frames += len(at)
                self._painted_px += sum(box.area_px for box in boxes)
                piece = self._counted(self._with_flow(piece, done - len(piece), at), tail)
                if isinstance(piece, KeptSegment) or not at:
                    yield piece
                    continue
                batch, none = _some(piece.batch, at), np.zeros((len(at), 0, 0), np.uint8)
                known = np.stack(parts) if self._stylizer.look.needs_objects else None
                # An episode is a shot without a break: what is skipped between two of one shot is a cut for calm.
                scene = Scene(
                    none, [int(self._episodes[done - len(piece) + i]) for i in at], np.stack(maps), parts=known
                )
                flows = [piece.flows[i] for i in at]
                reading = self._stylizer.reading_of(batch, self._info.color, scene, wears, fading, tuple(boxes), flows)
                yield replace(piece, at=tuple(at), boxes=tuple(boxes), reading=reading)

    def _with_flow(self, piece: Piece | KeptSegment, first: int, at: list[int]) -> Piece | KeptSegment:
        """The piece, with what is known of its frames' motion: of those calm goes by, of all where a project is saved.

        Args:
            first: the piece's first frame in the film; at: those of the piece's frames that are painted.
        """
        saves = self._stylizer.painter.keeps_flow
        calmed = at if self._stylizer.options.painting.calm > 0 else []
        if isinstance(piece, KeptSegment):
            if saves:
                self.flow.check(piece.segment.number)
            return piece
        number = bisect.bisect_right(self._begins, first) - 1
        flows: list[np.ndarray | None] = [None] * len(piece)
        for k in range(len(piece)) if saves else calmed:
            flows[k] = self.flow.frame(number, first - self._begins[number] + k, calmed=k in calmed)
        return replace(piece, flows=flows)

    def _counted(self, piece: Piece | KeptSegment, tail: Tail | None) -> Piece | KeptSegment:
        """The piece; in its checkpoint, where it has one or one is due, what is told at the end of all up to it."""
        state = {"painted": [self._painted_frames, self._painted_px], "flow": self.flow.state_dict()}
        if isinstance(piece, KeptSegment):
            return replace(piece, checkpoint=replace(piece.checkpoint, state=state))
        batch = piece.batch
        closes = batch.checkpoint is not None
        if not (tail.is_due(closes) if tail is not None else closes):
            return piece
        checkpoint = batch.checkpoint or Checkpoint.after(batch, {}, closes=False)
        return replace(piece, batch=replace(batch, checkpoint=replace(checkpoint, state=state)))

    def _record(self, frame: int) -> Sequence[Affine]:
        return Recorded(lambda: self._stylizer.record_frame(self._project.reference(frame), self._info.color))


def _close(film: Any) -> None:
    if film is not None:
        film.close()


def _some(batch: FrameBatch, at: list[int]) -> FrameBatch:
    """Some frames of a batch."""
    return FrameBatch(batch.y[at], batch.u[at], batch.v[at], tuple(batch.pts[i] for i in at), batch.index)
