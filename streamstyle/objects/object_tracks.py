"""Follows the objects of a film: small pictures in, one map of track slots a frame out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from streamstyle.errors import OptionError
from streamstyle.gpu.kernels import chosen
from streamstyle.gpu.streams import Download
from streamstyle.look import ObjectStyle
from streamstyle.objects.between import Followed
from streamstyle.objects.places import drawn_mask, place_mask
from streamstyle.objects.segmenter import Segmentation, Segmenter
from streamstyle.objects.tracker import BACKGROUND, Track, Tracker
from streamstyle.objects.weighing import Motion
from streamstyle.shots import ShotMemory
from streamstyle.stages.label_overlap import label_overlap
from streamstyle.stages.optical_flow import SMALLEST_PX, OpticalFlow, carry_labels
from streamstyle.stages.region_stats import id_areas

TAKEN_SHARE = 0.1
"""Of an object's mean area; who has less of it since a person last said what is part of it was taken away."""


@dataclass(frozen=True)
class ObjectReport:
    """What became of one track; areas in pixels of the film, frames counted from 0."""

    track_id: int
    name: str | None
    first_frame: int
    last_frame: int
    mean_area_px: float


@dataclass(frozen=True)
class Moment:
    """A frame as followers meet it.

    Attributes:
        motion: how it moved from the frame before, where that is of this shot.
        lumas: [h, w] uint8 of the frame before and of this one; the first is None where motion is.
        still: whether it is the frame before once more.
        found: its regions, where it is looked at.
        starts: a shot begins with it that is not one to which the film comes back.
        shot: the number of the shot it is of.
        index: its number; time_s: its time in seconds.
        size: (height, width) of the film.
    """

    motion: Motion
    lumas: tuple[np.ndarray | None, np.ndarray]
    still: bool
    found: Segmentation | None
    starts: bool
    shot: int
    index: int
    time_s: float
    size: tuple[int, int]


class ObjectTracks(ABC):
    """What every way to follow objects has in common: which frames are looked at, and the person's places.

    Args:
        segmenter: finds the regions of a frame.
        tracker: gives slots and identities.
        objects: what the person named; places with a mask are found in ``drawn``.
        every: look for regions in every Nth frame.

    Attributes:
        drawn: [H, W] uint8 labels of the first frame's mask, at any size; None without one.
        left_out: regions so far that were more than a frame may have.
        untaken: of clicks on no region that were to take away of an object, and where it had nothing: its name, and
            when in seconds.
        replaced: of places that were nearly all of another object: whose they are, its name, and when in seconds.
        followed: the last frame, as ``between`` takes it; None where nobody tells. Nothing later depends on it.
    """

    def __init__(self, segmenter: Segmenter, tracker: Tracker, objects: tuple[ObjectStyle, ...], every: int) -> None:
        self.segmenter, self.every, self.tracker = segmenter, every, tracker
        self.drawn: np.ndarray | None = None
        self.left_out, self.untaken = 0, list[tuple[str, float]]()
        self.replaced = list[tuple[str, str, float]]()
        self.followed: Followed | None = None
        self._sought_every = every
        """Of how many frames one is looked at at least while somebody is missing."""
        self._flow = OpticalFlow()
        self._slots: np.ndarray | None = None
        self._shot: int | None = None
        self._left = ShotMemory[dict[str, Any]]()
        self._objects = objects
        self._pending = sorted(objects, key=lambda thing: (thing.at_s, thing.remove))
        self._scale_px = 1.0
        self._frames = 0

    @property
    def pending(self) -> tuple[ObjectStyle, ...]:
        """Named objects whose moment has not come yet."""
        return tuple(self._pending)

    def is_due(self, number: int) -> bool:
        """Whether a frame will be looked at in any case, as one of every Nth; the Nth and not the first of N."""
        return (number + 1) % self.every == 0

    def wants(self, index: int, shot: int, time_s: float) -> bool:
        """Whether the next frame must be looked at: one of every Nth, the first after a cut, and where a person points.

        Args:
            index, shot, time_s: as for step.
        """
        said = bool(self._pending) and self._pending[0].at_s <= time_s + 1e-6
        return shot != self._shot or said or self.is_due(index)

    @property
    def motions_told(self) -> int | None:
        """How many of motions, from the first on, step wants on the host; None for all."""
        return None

    def motions(self, lumas: Tensor, part: slice = slice(None)) -> tuple[Tensor, ...]:
        """What step may be given of a batch's motion, found on the device: nothing without kernels; step finds it then.

        Args:
            lumas: [N, h, w] uint8, small pictures of the frames that come next.
            part: consecutive ones whose motion is wanted.

        Returns:
            (), or flows [M, h, w, 2] float32 px of the part's frames, and what else _advance wants, a frame each.

        Cost: no synchronisation; see :meth:`OpticalFlow.together`.
        """
        if not chosen("auto", lumas) or min(lumas.shape[1:]) < SMALLEST_PX:
            return ()
        return (self._flow.together(lumas, part),)

    def step(
        self,
        luma: np.ndarray,
        found: Segmentation | None,
        shot: int,
        index: int,
        time_s: float,
        size: tuple[int, int],
        motion: Sequence[Any] = (),
    ) -> np.ndarray:
        """Advance by one frame.

        Args:
            luma: [h, w] uint8 small picture.
            found: its regions, where wants() asked for them.
            shot: the number of the shot it is of; see ShotDetector.
            index: the frame's number; time_s: its time in seconds.
            size: (height, width) of the film, for points and areas.
            motion: of motions, this frame's; arrays of those the host is told.

        Returns:
            [h, w] int32 map of slots.
        """
        self._scale_px = size[0] * size[1] / luma.size
        self.left_out += 0 if found is None else found.left_out
        if shot != self._shot:
            self._turn(shot)
            motion = ()  # it is that from another shot
        if motion and (self._flow.previous is None or self._flow.previous.shape != luma.shape):
            motion = ()  # from nowhere; and step says that there is none
        before = self._flow.previous
        moved, still = self._motion_of(motion) if motion else _by_flow(self._flow.step(luma, to_carry=found is None))
        self._flow.previous = luma
        moment = Moment(moved, (before, luma), still, found, self._slots is None, shot, index, time_s, size)
        self._slots = self._advance(moment)
        self._frames = index + 1
        return self._slots

    def _motion_of(self, motion: Sequence[Any]) -> tuple[Motion, bool]:
        """A frame's share of motions; and whether nothing moved."""
        flow, *own = motion
        return Motion(flow, *own), not flow.any()

    def _turn(self, shot: int) -> None:
        """Leave a shot for another: where it is remembered all goes on as it was left, where not nothing is known."""
        known = self._left.take(shot)
        if self._shot is not None:
            self._left.keep(self._shot, self._shot_state())
        self.tracker.turn(self._shot, shot)
        self._shot, self._slots = shot, None
        self._flow.reset()
        if known is not None:
            self._take_up(known)

    def _shot_state(self) -> dict[str, Any]:
        """What later frames of this shot depend on, beside the tracker's part; see _take_up."""
        luma = self._flow.previous  # a view, which would hold its whole batch
        return {"slots": self._slots, "luma": None if luma is None else luma.copy()}

    def _take_up(self, state: dict[str, Any]) -> None:
        """Go on in the shot whose _shot_state this is."""
        self._slots, self._flow.previous = state["slots"], state["luma"]

    @abstractmethod
    def _advance(self, moment: Moment) -> np.ndarray:
        """The map of slots of the next frame."""

    def _due(self, time_s: float) -> Iterator[ObjectStyle]:
        """Places whose moment has come, each once."""
        while self._pending and self._pending[0].at_s <= time_s + 1e-6:
            yield self._pending.pop(0)

    def _place(self, thing: ObjectStyle, found: Segmentation, size: tuple[int, int]) -> np.ndarray:
        """Where a place is, [h, w] bool."""
        if thing.mask is None:
            gone = [o.point for o in self._objects if o.remove and (o.name, o.at_s) == (thing.name, thing.at_s)]
            return place_mask(thing, found, self.segmenter, size, [point for point in gone if point is not None])
        if self.drawn is None:
            raise OptionError(f"object '{thing.name}' @{thing.where}: a label of a mask; give the mask with --mask")
        return drawn_mask(self.drawn, thing.mask, (found.ids.shape[0], found.ids.shape[1]))

    def state_dict(self) -> dict[str, Any]:
        """Everything later frames depend on; see load_state_dict."""
        return {
            "tracker": self.tracker.state_dict(),
            "shot": self._shot,
            "now": self._shot_state(),
            "left": list(self._left.items()),
            "pending": len(self._pending),
            "left_out": self.left_out,
            "untaken": list(self.untaken),
            "replaced": list(self.replaced),
            "scale_px": self._scale_px,
            "frames": self._frames,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as the tracks, of the same objects, whose state_dict this is."""
        self.tracker.load_state_dict(state["tracker"])
        self._shot, self._left = state["shot"], ShotMemory(state["left"])
        self._take_up(state["now"])
        self._pending = self._pending[len(self._pending) - state["pending"] :]
        self.left_out, self._scale_px, self._frames = state["left_out"], state["scale_px"], state["frames"]
        self.untaken = [(name, at_s) for name, at_s in state["untaken"]]
        self.replaced = [(name, other, at_s) for name, other, at_s in state["replaced"]]

    def lost(self) -> list[tuple[str, int]]:
        """Named objects that were gone well before the film was: name, and the last frame they were in.

        One of which a person took out nearly all was taken away, not lost; of one that was never seen, all.
        """
        last: dict[str, int] = {}
        for track in self.tracker.all_tracks:
            if track.name and not was_taken(track):
                last[track.name] = max(last.get(track.name, 0), track.last_frame)
        return [(name, frame) for name, frame in last.items() if frame + 2 * self._sought_every < self._frames]

    def report(self) -> list[ObjectReport]:
        """Every confirmed or named track so far, in the order of its birth."""
        tracks = [track for track in self.tracker.all_tracks if track.seen and (track.confirmed or track.name)]
        return [
            ObjectReport(t.track_id, t.name, t.shown_frame, t.last_frame, round(t.mean_area_px * self._scale_px, 1))
            for t in sorted(tracks, key=lambda track: track.track_id)
        ]


class OverlapTracks(ObjectTracks):
    """Regions found in some frames, carried by optical flow through all, and matched into tracks by overlap; by the
    rule "components" by that with where they were in the frame before, as in DeepGIF.

    State between frames is the tracker's table, the last slot map and the last small luma picture, and the same of the
    shots that are remembered: nothing grows. Of cuts the paper says nothing; by either rule all begins anew there, or
    goes on where the film comes back, and within a shot tracks are the rule's own.

    Args:
        segmenter: finds the regions of a frame.
        rule: by which they are matched; see Tracker.
        objects: what the person named.
        every: look for regions in every Nth frame.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        rule: Literal["components", "regions"],
        objects: tuple[ObjectStyle, ...],
        every: int,
    ) -> None:
        super().__init__(segmenter, Tracker(rule), objects, every)
        self._compensates = rule == "regions"

    def _advance(self, moment: Moment) -> np.ndarray:
        found, index = moment.found, moment.index
        if found is None:
            assert self._slots is not None
            carried = carry_labels(self._slots, moment.motion.flow)
            self.tracker.present(id_areas(carried, self.tracker.slots), index)
            return carried
        carried = np.zeros(found.ids.shape, np.int32)
        if self._slots is not None:
            carried = carry_labels(self._slots, moment.motion.flow if self._compensates else None)
        slots = self._match(found, carried, moment.starts, index)
        for thing in self._due(moment.time_s):
            place = self._place(thing, found, moment.size)
            slot = self.tracker.claim(thing.name, index)
            if thing.remove:
                slots[place & (slots == slot)] = BACKGROUND
            else:
                slots[place] = slot
        self.tracker.observe(id_areas(slots, self.tracker.slots), index)
        return slots

    def _match(self, found: Segmentation, carried: np.ndarray, starts: bool, index: int) -> np.ndarray:
        ids = found.ids
        if starts:
            table = self.tracker.start(found.regions, index)
        else:
            counts = label_overlap(ids[None], torch.from_numpy(carried)[None], found.regions, self.tracker.slots)
            sums = color_sums(found.rgb.flatten(1).numpy(), ids.numpy(), carried, counts.shape[1:])
            table = self.tracker.update(counts[0].numpy(), index, sums)
        return table[ids.numpy(), carried]


def was_taken(track: Track) -> bool:
    """Whether a person took nearly all of it out: then it is not lost where it is nowhere."""
    return track.usual_area_px <= TAKEN_SHARE * track.mean_area_px


def motion_of_each(tracks: ObjectTracks, lumas: Tensor) -> list[list[Any]]:
    """What step may be given of the motion of each of small pictures [N, h, w] uint8; synchronises."""
    motions = tracks.motions(lumas)
    told = motions[: tracks.motions_told]
    parts: list[Any] = [*(part.numpy() for part in Download(told).wait()), *motions[len(told) :]]
    return [[part[i] for part in parts] for i in range(len(lumas))]


def seen_alone(tracks: ObjectTracks, luma: Tensor) -> tuple[np.ndarray, list[Any]]:
    """One small picture [1, h, w] uint8 on the host, and what step may be given of its motion; synchronises."""
    (here,) = Download((luma,)).wait()
    return here[0].numpy(), motion_of_each(tracks, luma)[0]


def _by_flow(flow: np.ndarray | None) -> tuple[Motion, bool]:
    return Motion(flow), flow is not None and not flow.any()


def color_sums(rgb: np.ndarray, ids: np.ndarray, carried: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Sums of rgb [3, h * w] over the pixels of each region carried as each slot: [R, S, 3], shape is (R, S)."""
    pair = (ids.astype(np.int64) * shape[1] + carried).ravel()
    sums = [np.bincount(pair, weights=plane, minlength=shape[0] * shape[1]) for plane in rgb]
    return np.stack(sums, axis=-1).reshape(*shape, 3)
