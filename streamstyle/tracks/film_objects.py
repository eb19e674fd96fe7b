"""A film in, its objects out: who is where in every frame, as masks, as a film that shows them, or as a label track."""

from __future__ import annotations

import functools
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from streamstyle.config import AnalysisOptions, Device, OutputOptions
from streamstyle.flow import Ahead
from streamstyle.frames import ColorTags, Frame, VideoInfo
from streamstyle.gpu.transfer import Planes, choose_device
from streamstyle.look import Look, ObjectStyle
from streamstyle.media.decode import decode
from streamstyle.media.masks import MOST_OBJECTS, Mask, object_name, read_mask
from streamstyle.naming import (
    Placed,
    check_mask_places,
    check_together,
    covered_or_doubt,
    frame_of,
    frames_after,
)
from streamstyle.objects.chosen_tracks import follow
from streamstyle.objects.film_follower import FilmFollower
from streamstyle.objects.foresight import Coming, Foresight
from streamstyle.objects.object_tracks import ObjectTracks, seen_alone
from streamstyle.objects.object_warnings import (
    lost_warnings,
    naming_warnings,
    nobody_warning,
    replaced_warnings,
    untaken_warnings,
)
from streamstyle.objects.places import place_mask, small_point
from streamstyle.objects.segmenter import Segmentation, Segmenter, left_out_warnings
from streamstyle.objects.tracker import Tracker
from streamstyle.scene import small_planes
from streamstyle.shots import ShotDetector
from streamstyle.stages.color import yuv_to_rgb
from streamstyle.styles import NONE
from streamstyle.tracks.export import LabelledFrame, export
from streamstyle.tracks.target import check_tracks, kind_of

MOST_LABELS = 65535
"""In a label track, of 16 bits a pixel."""
NOBODY = Look(style=NONE)
"""Names no object: all that are found get a label."""


@dataclass(frozen=True)
class TracksReport:
    """What was found and written: the fields of ``--json``."""

    input: str
    output: str
    kind: str
    frames: int
    width: int
    height: int
    audio: str
    objects: tuple[dict[str, Any], ...]
    warnings: tuple[str, ...]
    seconds: float
    fps: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def tracks(
    input: str | Path,
    out: str | Path,
    *,
    look: Look | None = None,
    mask: str | Path | None = None,
    analysis: AnalysisOptions | None = None,
    output: OutputOptions | None = None,
    device: Device = "auto",
    on_frames: Callable[[int, int | None], None] | None = None,
) -> TracksReport:
    """Follow the objects of a film and write where they are in each frame.

    Args:
        input: a film, or a folder of pictures.
        out: ``masks/%05d.png``, a film, or ``labels.npz``; put in its place when all of it is written.
        look: which objects, by its places; styles do not matter. None, without a mask: all that are found.
        mask: a picture of the first frame's objects; see read_mask.
        analysis: how objects are found and followed.
        output: overwrite, the rate of a folder of pictures, and how a film is encoded.
        device: where to compute.
        on_frames: called with (1, frames expected or None) after each frame.

    Raises:
        StreamstyleError: one line that says what, where, and the mend.
    """
    began, output, warnings = time.perf_counter(), output or OutputOptions(), list[str]()
    info = check_tracks(input, out, output.overwrite, output.fps, mask)
    drawn = None if mask is None else read_mask(mask, (info.height, info.width))
    most = MOST_OBJECTS if kind_of(out) == "masks" else MOST_LABELS
    found = FilmObjects(info, look or NOBODY, drawn, analysis or AnalysisOptions(), choose_device(device), most=most)
    written = export(
        found.labelled(warnings.append),
        out,
        info,
        found.names,
        options=output,
        warn=warnings.append,
        on_frames=None if on_frames is None else lambda count: on_frames(count, info.frames),
    )
    seconds = time.perf_counter() - began
    return TracksReport(
        str(input),
        str(out),
        kind_of(out),
        written.frames,
        info.width,
        info.height,
        written.audio,
        tuple(found.report()),
        (*warnings, *found.warnings()),
        round(seconds, 3),
        round(written.frames / seconds, 3),
    )


class LabelBook:
    """Which number and name each object has; neither ever changes while a film lasts.

    Objects of a mask keep its labels, other named ones follow. Objects without a name are numbered after those, in the
    order they are met, and called ``object N``; one that the Look calls by another's name shares that one's number.

    Args:
        look: the named objects, and what others are called.
        mask: objects drawn in the first frame.
        most: the largest number there may be; who would need a larger one gets none.

    Attributes:
        names: each number's name.
        said: what they are called before the Look renames them.
        left_out: objects that got no number.
    """

    def __init__(self, look: Look, mask: Mask | None, most: int = MOST_LABELS) -> None:
        self.names: dict[int, str] = {}
        self._look, self._mask, self._most = look, mask, most
        self.restart()
        self.only_named = bool(self.names)

    def restart(self) -> None:
        """Forget all that were met; names stays the object it is."""
        self.names.clear()
        self.left_out = 0
        self._labels: dict[str, int] = {}
        self._of_track: dict[int, int] = {}
        drawn = {} if self._mask is None else self._mask.names
        self.said = {*drawn.values(), *(thing.name for thing in self._look.objects)}
        of_label = {o.mask: o.name for o in self._look.objects if o.mask is not None}
        for label, name in drawn.items():
            self._enter(of_label.get(label) or self._look.name_of(name), label)
        for thing in self._look.objects:
            self._enter(thing.name, self._free())
        self._met = max(self.names, default=0)

    def label_of(self, name: str) -> int:
        """A named object's number; 0 for what was taken out of one, or got none."""
        return self._labels.get(name, 0)

    def label_of_track(self, track_id: int) -> int:
        """The number of a track without a name, given when it is first asked for; 0 where only named objects count."""
        if self.only_named:
            return 0
        if track_id not in self._of_track:
            self._met += 1
            name = object_name(self._met)
            self._of_track[track_id] = self._enter(self._look.name_of(name), self._met)
            if self._of_track[track_id]:
                self.said.add(name)
        return self._of_track[track_id]

    def keep(self, track_ids: set[int]) -> None:
        """Forget the tracks without a name but these: they will not be asked for again."""
        self._of_track = {track: label for track, label in self._of_track.items() if track in track_ids}

    def _free(self) -> int:
        """A number for one more named object: the next, or else the lowest there is."""
        following = max(self.names, default=0) + 1
        if following <= self._most:
            return following
        return next(label for label in range(1, len(self.names) + 2) if label not in self.names)

    def _enter(self, name: str, label: int) -> int:
        if name not in self._labels:
            if label > self._most:
                self.left_out += 1
                return 0
            self._labels[name] = label
            self.names[label] = name
        return self._labels[name]


class FilmObjects:
    """The objects of one film.

    Args:
        info: the film.
        look: the objects that are meant, and what they are called; none: all that are found.
        mask: objects drawn in the first frame.
        analysis: how objects are found and followed.
        device: where.
        most: the largest label there may be; objects met beyond are left out, and warnings tells.

    Attributes:
        names: each label's name; grows as the film is read.
    """

    def __init__(
        self,
        info: VideoInfo,
        look: Look,
        mask: Mask | None,
        analysis: AnalysisOptions,
        device: torch.device,
        *,
        most: int = MOST_LABELS,
    ) -> None:
        check_mask_places(look, mask)
        look = _without_found(look, mask)
        self._info, self._look, self._mask, self._analysis, self._device = info, look, mask, analysis, device
        self._most, self._forgotten = most, 0
        self._book = LabelBook(look, mask, most)
        self._segmenter = Segmenter(analysis, device, features=analysis.tracker == "appearance")
        self._tracks: ObjectTracks | None = None
        self._places = list[ObjectStyle]()
        self.names = self._book.names

    @torch.inference_mode()
    def labelled(self, warn: Callable[[str], None] | None = None) -> Iterator[LabelledFrame]:
        """Every frame with its labels [h, w] int32 at the analysis size; each call begins anew, one at a time.

        Raises:
            OptionError: a place outside the frame, or on no object and nothing that moves.
        """
        for frame, table, slots in self._followed(warn):
            yield LabelledFrame(frame, table[slots])

    def _followed(self, warn: Callable[[str], None] | None) -> Iterator[tuple[Frame, np.ndarray, np.ndarray]]:
        """Every frame, what label each slot has in it, and its map of slots, as soon as that is known for good."""
        info, waiting = self._info, deque[tuple[int, Frame]]()
        self._forgotten = 0
        self._book.restart()
        self._tracks = tracks = self._begin()
        follower = FilmFollower(tracks, ShotDetector(), self._find, lambda: self._label_table(tracks.tracker))

        def known() -> Iterator[tuple[Frame, np.ndarray, np.ndarray]]:
            while waiting:
                number, frame = waiting.popleft()
                of_frame = follower.take(number)
                yield frame, of_frame.noted, of_frame.slots

        with closing(Ahead(decode(info, warn=warn))) as film:
            for index, frame in enumerate(film):
                small = self._small(frame)
                coming = Coming(index, small, info.color, lambda: map(self._small, film.ahead()))
                seen = seen_alone(tracks, small[0])
                follower.step(*seen, info.time_of(frame.pts), frame.y.shape, coming)
                waiting.append((index, frame))
                if not follower.waits:
                    yield from known()
        follower.end()
        yield from known()

    def report(self) -> list[dict[str, Any]]:
        """Every object so far: its label, name, first and last frame, and mean area in pixels of the film."""
        if self._tracks is None:
            return []
        rows = [(self._label(track), track) for track in self._tracks.report()]
        return [
            {
                "label": label,
                "name": self.names[label],
                "first_frame": track.first_frame,
                "last_frame": track.last_frame,
                "mean_area_px": track.mean_area_px,
            }
            for label, track in rows
            if label
        ]

    def warnings(self) -> list[str]:
        """What a person should know of the objects, a line each."""
        if self._tracks is None:
            return []
        names = [track.name for track in self._tracks.report()]
        lines = naming_warnings(self._places, self._tracks.pending, names)
        if not self._tracks.tracker.all_tracks:
            lines.append(nobody_warning(self._analysis.tracker))
        if self._book.left_out:
            them = "1 object is" if self._book.left_out == 1 else f"{self._book.left_out} objects are"
            lines.append(
                f"{them} left out, beyond number {self._most}, the last there is; "
                + ("write labels.npz, or " if self._most < MOST_LABELS else "")
                + "name the objects that matter"
            )
        lines += self._look.unknown_names(self._book.said, self._info.path)
        lost = [(name, frame) for name, frame in self._tracks.lost() if self._book.label_of(name)]
        return (
            lines
            + untaken_warnings(self._tracks.untaken)
            + replaced_warnings(self._tracks.replaced)
            + lost_warnings(lost)
            + left_out_warnings(self._tracks.left_out)
        )

    def _small(self, frame: Frame) -> Planes:
        return small_planes(frame, self._analysis, self._device)

    def _find(self, small: Planes, color: ColorTags) -> list[Segmentation]:
        return self._segmenter(yuv_to_rgb(small, color))

    def _begin(self) -> ObjectTracks:
        """Tracks of the objects that are meant."""
        at = {thing: frame_of(self._info, thing) for thing in self._look.objects}
        places = [replace(thing, at_s=self._info.time_of(frame.pts)) for thing, frame in at.items()]
        self._check(places, at)
        if self._mask is not None:
            said = {thing.mask for thing in places}
            labels = [label for label in self._mask.names if label not in said and label in self.names]
            places += [ObjectStyle(self.names[label], mask=label) for label in labels]
        self._places = places
        tracks = follow(self._segmenter, self._analysis, tuple(places), find=not places)
        tracks.drawn = None if self._mask is None else self._mask.labels
        return tracks

    def _check(self, places: Sequence[ObjectStyle], at: Mapping[ObjectStyle, Frame]) -> None:
        """Refuse, before any work is done, places that are none; at: those as they were said, and their frames."""
        placed, size, seen = list[Placed](), (self._info.height, self._info.width), dict[float, Segmentation]()
        for (said, frame), thing in zip(at.items(), places, strict=True):
            if said.point is not None:
                small_point(said, said.point, size, size)  # refuses one outside, be it taken away or not
            if thing.mask is None and thing.has_place:
                if thing.at_s not in seen:  # places of one frame share its regions
                    seen[thing.at_s] = self._seen(thing.at_s, frame)
                look_for = functools.partial(place_mask, thing, seen[thing.at_s], self._segmenter, size)
                placed.append((said, thing, covered_or_doubt(look_for, said, thing, self._analysis.tracker)))
        check_together(placed, places, size)

    def _seen(self, at_s: float, frame: Frame) -> Segmentation:
        """A frame's regions, which tell what moves there."""
        small, foresight = self._small(frame), Foresight(self._find)
        ahead = functools.partial(frames_after, self._info, at_s, OutputOptions())
        coming = Coming(0, small, self._info.color, lambda: map(self._small, ahead()))
        tracks = follow(self._segmenter, self._analysis, (), find=True)
        return foresight.telling(self._find(small, self._info.color)[0], tracks, coming)

    def _label_table(self, tracker: Tracker) -> np.ndarray:
        """Slot -> label, int32; what is not confirmed as an object has none, and uses no number up."""
        table = np.zeros(tracker.slots, np.int32)
        for slot, track in tracker.tracks.items():
            if track.confirmed or track.name:
                table[slot] = self._label(track)
        if tracker.forgotten != self._forgotten:
            self._forgotten = tracker.forgotten
            self._book.keep({track.track_id for track in tracker.all_tracks})
        return table

    def _label(self, track: Any) -> int:
        return self._book.label_of(track.name) if track.name else self._book.label_of_track(track.track_id)


def _without_found(look: Look, mask: Mask | None) -> Look:
    """The Look without those objects that need no place, for they are merged of what a mask has or what is found."""
    drawn = set() if mask is None else {look.name_of(name) for name in mask.names.values()}
    finds = mask is None and not any(thing.has_place for thing in look.objects)
    merged = {look.name_of(old) for old, _ in look.called} if finds else set()
    objects = tuple(o for o in look.objects if o.has_place or o.name not in drawn | merged)
    return replace(look, objects=objects, style=look.style or NONE)
