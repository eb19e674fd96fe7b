"""What is in the film: shots, and which look each pixel wears. Small pictures in, one map of looks a frame out."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import numpy as np
import torch

from streamstyle.config import AnalysisOptions
from streamstyle.errors import OptionError
from streamstyle.frames import ColorTags, Frame, FrameBatch
from streamstyle.gpu.memory import Portions
from streamstyle.gpu.streams import Download
from streamstyle.gpu.transfer import Planes, upload
from streamstyle.look import Look
from streamstyle.objects.chosen_tracks import follow
from streamstyle.objects.film_follower import FilmFollower, FollowedFrame
from streamstyle.objects.following import Following, Given
from streamstyle.objects.foresight import Coming, Foresight
from streamstyle.objects.object_tracks import ObjectTracks, seen_alone
from streamstyle.objects.object_warnings import (
    lost_warnings,
    naming_warnings,
    replaced_warnings,
    unnamed_warnings,
    untaken_warnings,
)
from streamstyle.objects.segmenter import Segmentation, Segmenter, left_out_warnings, segmentations
from streamstyle.objects.tracker import BACKGROUND, Tracker
from streamstyle.shots import ShotDetector
from streamstyle.stages.color import yuv_to_rgb
from streamstyle.stages.connected_components import look_up
from streamstyle.stages.resize import resize_planes, small_size

Upcoming = Callable[[], Iterable[Frame]]
"""Gives the frames that come next, from the first on at each call."""
SlotTables = tuple[np.ndarray, np.ndarray, np.ndarray | None]
"""Of a frame's slots, int32: the index of the style each wears, and of its layer; its label, where these are wanted."""


@dataclass(frozen=True)
class Scene:
    """What was seen in a batch of N frames, all on the host.

    Attributes:
        lumas: [N, h, w] uint8.
        shots: the number of the shot each frame is of.
        looks: [N, h, w] int32, the index of the style each pixel wears; None where all wear one.
        layers: [N, h, w] int32, the index in layer_names of what each pixel is a part of; None as looks.
        parts: [N, h, w] int32, of each pixel which object it belongs to, whether that has a name or not: its slot
            times the number of layers, plus its layer; 0 is the background.
        labels: [N, h, w] int32, the number of the object each pixel belongs to; None where nobody gives them.
    """

    lumas: np.ndarray
    shots: list[int]
    looks: np.ndarray | None
    layers: np.ndarray | None = None
    labels: np.ndarray | None = None
    parts: np.ndarray | None = None


@dataclass(frozen=True)
class ObjectStyleReport:
    """One object of a finished job: as in the JSON report."""

    track_id: int
    name: str | None
    style: str
    first_frame: int
    last_frame: int
    mean_area_px: float


class Numbers(Protocol):
    """Who numbers a film's objects; see Scene.labels."""

    def table(self, tracker: Tracker) -> np.ndarray:
        """Slot -> number, int32."""


def small_planes(frame: Frame, options: AnalysisOptions, device: torch.device) -> Planes:
    """A frame at the analysis size, [1, h, w] each, on the device."""
    batch = FrameBatch.stack([frame])
    size = small_size(frame.y.shape, options.analysis_size)
    y, u, v = (resize_planes(plane, size) for plane in upload((batch.y, batch.u, batch.v), device))
    return y, u, v


class SceneReader:
    """Tells shots and follows objects through a film.

    Args:
        look: which object gets which style.
        options: how objects are found and followed.
        device: where they are looked for.
        given: knows the objects already; then no network is loaded.

    Attributes:
        drawn: [H, W] uint8 labels of a mask of the first frame, for the objects that are its labels.
        numbers: who gives objects their labels, where they are wanted.
    """

    def __init__(self, look: Look, options: AnalysisOptions, device: torch.device, given: Given | None = None) -> None:
        self._options, self._device, self._given = options, device, given
        self.portions = Portions(device, lambda: False)
        wants = options.tracker == "appearance"
        needed = look.needs_objects and given is None
        self.segmenter = Segmenter(options, device, features=wants) if needed else None
        self.drawn: np.ndarray | None = None
        self.numbers: Numbers | None = None
        self.restart(look)

    def restart(self, look: Look) -> None:
        """Forget the film so far; from now on this Look."""
        self.portions.forget()
        self.look = look
        self.tracks: Following | None = None
        if self._given is not None and look.needs_objects:
            self._given.restart(look)
            self.tracks = self._given
        elif self.segmenter is not None:
            tracks = follow(self.segmenter, self._options, look.objects, find=self._finds)
            self.tracks, tracks.drawn = tracks, self.drawn
        self._shots = ShotDetector()
        self._follower: FilmFollower[SlotTables] | None = None
        if self.tracks is not None:
            self._follower = FilmFollower(self.tracks, self._shots, self._regions, self._note)
        self._begun = False

    @property
    def _finds(self) -> bool:
        """Whether objects that are not named wear a style of their own."""
        return self.look.background_style != self.look.foreground_style

    def small(self, planes: Planes) -> Planes:
        """y, u, v all at the analysis size (never larger than the frame)."""
        size = planes[0].shape[1], planes[0].shape[2]
        y, u, v = (self._shrunk(plane, size) for plane in planes)
        return y, u, v

    def _shrunk(self, plane: torch.Tensor, frame: tuple[int, int]) -> torch.Tensor:
        """A plane of frames of a size (H, W), at the analysis size."""
        size = small_size(frame, self._options.analysis_size)
        return torch.cat(self.portions.each(len(plane), frame, lambda part: resize_planes(plane[part], size)))

    def read(
        self,
        planes: Planes,
        color: ColorTags,
        index: int,
        times_s: list[float],
        ahead: Upcoming | None = None,
        time_of: Callable[[int], float] | None = None,
    ) -> Scene:
        """Advance by a batch.

        Args:
            planes: its frames, on the device.
            color: what their numbers mean.
            index: number of the first frame; times_s: each frame's time in seconds.
            ahead: the frames that come after the batch, from its end on at each call; few are taken, and only where a
                shot begins, a click is on no region, or the batch ends between two frames that are looked at. Without
                it, what moves by itself is known some frames after that, and such a click is refused.
            time_of: a time in seconds by its pts. Without it, or ahead, frames that are not looked at are followed from
                one side alone.

        Cost: the regions' networks and kernels, one synchronisation (where not every frame is looked at one more for
        those that are in any case, and one for each other), and flow and matching on the host. Where objects are
        followed by their look some more for each frame looked at: what it shows is learned before the next is read; and
        where not every frame is looked at, of what is between two that are, see Between.step. Where a batch ends
        between two, the frames up to the next that is looked at are followed with it, and not again with their own. See
        also FilmFollower.step.
        """
        self._begun = True
        size, count = (planes[0].shape[1], planes[0].shape[2]), len(planes[0])
        if self._follower is None:
            lumas = Download((self._shrunk(planes[0], size),)).wait()[0].numpy()
            return Scene(lumas, [self._shots.step(luma) for luma in lumas], None, None)
        known = len(self._follower.held)
        if known < count:
            fresh = self.small((planes[0][known:], planes[1][known:], planes[2][known:]))
            may_wait = ahead is not None and time_of is not None
            self._follow(fresh, color, index + known, times_s[known:], size, ahead, may_wait=may_wait)
        if ahead is not None and time_of is not None:
            self._follow_on(color, index + count, size, ahead, time_of)
        return self._scene([self._follower.take(number) for number in range(index, index + count)])

    def _follow(
        self,
        small: Planes,
        color: ColorTags,
        index: int,
        times_s: list[float],
        size: tuple[int, int],
        ahead: Upcoming | None,
        *,
        may_wait: bool,
    ) -> None:
        """Follow frames of a batch that were not followed yet, to its end; see read, and FilmFollower.step."""
        assert self._follower is not None
        assert self.tracks is not None
        foresight = self._follower.foresight
        at_once = self.tracks.every == 1 and not foresight.knows(index)
        told, features = self._find(small, color) if at_once else ((), ())
        here, there = self._motions(small[0])
        arrived = Download((small[0], *here, *told)).wait()
        lumas = arrived[0].numpy()
        moved: list[Any] = [*(part.numpy() for part in arrived[1 : 1 + len(here)]), *there]
        if at_once:
            foresight.learn(index, dict(enumerate(segmentations(arrived[1 + len(here) :], features, told))))
        else:
            foresight.find(small, color, index, [i for i in range(len(lumas)) if self.tracks.is_due(index + i)])
        for i, luma in enumerate(lumas):
            y, u, v = (plane[i:] for plane in small)
            later = None if ahead is None else functools.partial(self._later, ahead)
            coming, motion = Coming(index + i, (y, u, v), color, later), [part[i] for part in moved]
            self._follower.step(luma, motion, times_s[i], size, coming, may_wait=may_wait)

    def _follow_on(
        self,
        color: ColorTags,
        index: int,
        size: tuple[int, int],
        ahead: Upcoming,
        time_of: Callable[[int], float],
    ) -> None:
        """Follow frames after a batch, numbered from index on, until all of the batch's are known for good."""
        assert self._follower is not None
        for i in itertools.count(sum(number >= index for number in self._follower.held)):
            frame = next(islice(ahead(), i, None), None) if self._follower.waits else None
            if frame is None:
                break
            assert isinstance(self.tracks, ObjectTracks)  # of given ones none waits
            small = small_planes(frame, self._options, self._device)
            coming = Coming(index + i, small, color, functools.partial(self._later, ahead, i + 1))
            seen = seen_alone(self.tracks, small[0])
            self._follower.step(*seen, time_of(frame.pts), size, coming)
        self._follower.end()

    def _scene(self, frames: Sequence[FollowedFrame[SlotTables]]) -> Scene:
        """Of what each frame's slots were in it: the styles and layers, and the labels if wanted."""
        maps, noted, names = [frame.slots for frame in frames], [frame.noted for frame in frames], len(self.layer_names)
        numbers = [part_numbers(np.arange(len(layers)), layers, names) for _, layers, _ in noted]
        tables = [of for of, *_ in noted], [of for _, of, _ in noted], numbers
        looks, layers, parts = (_looked_up(of, maps) for of in tables)
        labels = [of for *_, of in noted if of is not None]
        known = _looked_up(labels, maps) if labels else None
        lumas = np.stack([frame.luma for frame in frames])
        return Scene(lumas, [frame.shot for frame in frames], looks, layers, known, parts)

    @property
    def layer_names(self) -> tuple[str, ...]:
        """The background, all objects without a name together, and each that has one."""
        return ("background", "foreground", *dict.fromkeys(thing.name for thing in self.look.objects))

    @property
    def layers(self) -> dict[int, str]:
        """The layers that may be there, by number; none where all wear one style and nothing is looked for."""
        if self.tracks is None:
            return {}
        has_nameless = self._finds or self._given is not None or self._options.tracker == "overlap"
        return {k: name for k, name in enumerate(self.layer_names) if k != 1 or has_nameless}

    def find_objects(self, planes: Planes, color: ColorTags, ahead: Upcoming | None = None) -> Segmentation:
        """The regions of the one frame of planes, as they are numbered for ``#N``; ahead: as for read."""
        if self.segmenter is None:
            raise OptionError("this Look paints the whole frame in one style; there are no objects to find")
        small = self.small(planes)
        found = self.segmenter(yuv_to_rgb(small, color))[0]
        coming = Coming(0, small, color, None if ahead is None else functools.partial(self._later, ahead))
        return Foresight(self._regions).telling(found, self.tracks, coming)

    def _later(self, ahead: Upcoming, begin: int = 0) -> Iterable[Planes]:
        """Small pictures of the frames that come, but for the first so many."""
        return (small_planes(frame, self._options, self._device) for frame in islice(ahead(), begin, None))

    def report(self) -> list[ObjectStyleReport]:
        """The objects found so far, with the style each wore."""
        if self.tracks is None:
            return []
        worn = {thing.name: thing.style for thing in self.look.objects}
        return [
            ObjectStyleReport(
                o.track_id,
                o.name,
                worn.get(o.name or "", self.look.foreground_style),
                o.first_frame,
                o.last_frame,
                o.mean_area_px,
            )
            for o in self.tracks.report()
        ]

    def warnings(self) -> list[str]:
        """What a person should know of the objects so far, a line each."""
        if self.tracks is None or not self._begun:  # nothing is looked for, or was yet
            return [] if self._given is not None else self.look.renamed_nobody()
        names, lines = [o.name for o in self.tracks.report()], list[str]()
        if self._given is None:
            lines = naming_warnings(self.look.objects, self.tracks.pending, names) + self.look.renamed_nobody()
        if self._finds and (self._given is None or None in names):
            lines += unnamed_warnings(self.look, self._options.tracker, names)
        lines += untaken_warnings(self.tracks.untaken) + replaced_warnings(self.tracks.replaced)
        lines += lost_warnings(self.tracks.lost())
        lines += left_out_warnings(self.tracks.left_out)
        if self.tracks.tracker.forgotten:
            lines.append(f"{self.tracks.tracker.forgotten} small objects are left out of the report")
        return lines

    def state_dict(self) -> dict[str, Any]:
        """Everything later frames depend on; see load_state_dict."""
        return {
            "tracks": None if self.tracks is None else self.tracks.state_dict(),
            "shots": self._shots.state_dict(),
            "follower": None if self._follower is None else self._follower.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as the reader, of the same Look and options, whose state_dict this is."""
        self.restart(self.look)
        if self.tracks is not None:
            self.tracks.load_state_dict(state["tracks"])
        self._shots.load_state_dict(state["shots"])
        if self._follower is not None:
            self._follower.load_state_dict(state["follower"])
        self._begun = True

    def _motions(self, lumas: torch.Tensor) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
        """What the host is told of a batch's motion, and what stays on the device."""
        if self.tracks is None:
            return (), ()
        find = functools.partial(self.tracks.motions, lumas)
        motions = _joined(self.portions.each(len(lumas), lumas.shape[1:], find))
        told = motions[: self.tracks.motions_told]
        return told, motions[len(told) :]

    def _find(self, small: Planes, color: ColorTags) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
        assert self.segmenter is not None
        find, (y, u, v) = self.segmenter.find, small
        found = self.portions.each(
            len(y), y.shape[1:], lambda part: find(yuv_to_rgb((y[part], u[part], v[part]), color))
        )
        told, features = (_joined(half) for half in zip(*found, strict=True))
        return told, features

    def _regions(self, small: Planes, color: ColorTags) -> list[Segmentation]:
        told, features = self._find(small, color)
        return segmentations(Download(told).wait(), features, told)

    def _note(self) -> SlotTables:
        """Slot -> index of the style it wears, and of its layer; a part not confirmed is the background's."""
        assert self.tracks is not None
        number = {style: k for k, style in enumerate(self.look.styles)}
        layer = {name: k for k, name in enumerate(self.layer_names[2:], 2)}
        worn = {thing.name: thing.style for thing in self.look.objects}
        looks = np.full(self.tracks.tracker.slots, number[self.look.background_style], np.int32)
        layers = np.zeros_like(looks)
        for slot, track in self.tracks.tracker.tracks.items():
            if slot != BACKGROUND and (track.confirmed or track.name):
                looks[slot] = number[worn.get(track.name or "", self.look.foreground_style)]
                layers[slot] = layer.get(track.name or "", 1)
        return looks, layers, None if self.numbers is None else self.numbers.table(self.tracks.tracker)


def part_numbers(slots: np.ndarray, layers: np.ndarray, count: int) -> np.ndarray:
    """Scene.parts of slots and layers [h, w] int32, of so many layers."""
    return np.where(layers == 0, 0, slots * count + layers).astype(np.int32)


def _looked_up(tables: Sequence[np.ndarray], maps: Sequence[np.ndarray]) -> np.ndarray:
    """[N, h, w] int32, what each table says of the slots of its map."""
    found = np.empty((len(maps), *maps[0].shape), np.int32)
    for out, table, slots in zip(found, tables, maps, strict=True):
        look_up(slots, table, out)
    return found


def _joined(portions: Sequence[tuple[torch.Tensor, ...]]) -> tuple[torch.Tensor, ...]:
    """What was found in portions, as if it had been at once."""
    return portions[0] if len(portions) == 1 else tuple(torch.cat(parts) for parts in zip(*portions, strict=True))
