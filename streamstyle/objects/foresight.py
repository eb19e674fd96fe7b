"""What moves by itself is known in the first frame of a shot already, from the frames that follow it.

::

    frames       5  6  7 │ 8  9 10 11 12 13 14          a cut before frame 8
                          └──────────────┘              looked at by a follower of its own before frame 8 is read,
                                                        whatever batches they come in

Motion is found by a shot's second frame, an object by its fourth: without foresight a style pops in after each cut.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice, takewhile

import numpy as np
import torch

from streamstyle.frames import ColorTags
from streamstyle.gpu.streams import Download
from streamstyle.gpu.transfer import Planes
from streamstyle.objects.appearance_tracks import EAGER_FRAMES, AppearanceTracks
from streamstyle.objects.object_tracks import motion_of_each
from streamstyle.objects.segmenter import Segmentation, Segmenter
from streamstyle.objects.tracker import BACKGROUND
from streamstyle.shots import ShotDetector

FORESIGHT_FRAMES = 6
"""Frames of a shot looked at before its first is read; the fourth completes what is known, others change little."""
Find = Callable[[Planes, ColorTags], Sequence[Segmentation]]
"""Finds the regions of small frames, which depend on no other frame, by what their numbers mean."""


@dataclass(frozen=True)
class Coming:
    """A frame and those that follow it.

    Attributes:
        index: the frame's number in the film.
        small: the frame and others that follow it, at the analysis size on the device.
        color: what they mean.
        later: gives the frames after those, likewise, from the first on at each call; few are taken. None where nobody
            knows them: then nothing is foreseen.
    """

    index: int
    small: Planes
    color: ColorTags
    later: Callable[[], Iterable[Planes]] | None


class Foresight:
    """Looks ahead where a shot begins. Regions found ahead serve again when their frames are read.

    It carries nothing that later frames depend on: who goes on elsewhere finds the same regions again.

    Args:
        find: the regions of small frames.
    """

    def __init__(self, find: Find) -> None:
        self._find = find
        self._known: dict[int, Segmentation] = {}

    def find(self, small: Planes, color: ColorTags, index: int, wanted: Sequence[int]) -> None:
        """Have the regions of the frames of small that are wanted, from 0 on; index: the number of its first."""
        missing = [i for i in wanted if index + i not in self._known]
        if missing:
            y, u, v = (plane[missing] for plane in small)
            self.learn(index, dict(zip(missing, self._find((y, u, v), color), strict=True)))

    def learn(self, index: int, found: dict[int, Segmentation]) -> None:
        """Take regions that were found already, by their frame's number from index on."""
        self._known.update({index + i: regions for i, regions in found.items()})

    def knows(self, number: int) -> bool:
        """Whether the regions of a frame were found already."""
        return number in self._known

    def regions(self, number: int) -> Segmentation:
        """The regions of a frame, which is read now: they are not asked for again."""
        return self._known.pop(number)

    def telling(self, found: Segmentation, tracks: object, coming: Coming) -> Segmentation:
        """Regions that tell what moves in their frame, where tracks go by motion; found out when asked, and once."""
        if not isinstance(tracks, AppearanceTracks) or coming.later is None:
            return found
        return replace(found, moving=functools.cache(functools.partial(self.moving, tracks.segmenter, found, coming)))

    def pass_by(self, number: int) -> None:
        """Forget the frames before a number."""
        self._known = {frame: regions for frame, regions in self._known.items() if frame >= number}

    @torch.inference_mode()
    def moving(self, segmenter: Segmenter, found: Segmentation, coming: Coming) -> np.ndarray:
        """Where something moves by itself in a frame, were it a film's first, [h, w] bool; found: its regions.

        Cost: that of look where a shot begins, and one step of tracks more; some synchronisations.
        """
        tracks = AppearanceTracks(segmenter, (), 1, find=True)
        self.learn(coming.index, {0: found})
        self.look(tracks, 0, coming)
        luma = Download((coming.small[0][:1],)).wait()[0][0].numpy()  # synchronises
        return tracks.step(luma, found, 0, 0, 0.0, luma.shape) != BACKGROUND

    @torch.inference_mode()
    def look(self, tracks: object, shot: int, coming: Coming) -> None:
        """Before tracks meet a frame: where it begins a shot, let them know what moves by itself in that.

        A follower of its own looks at FORESIGHT_FRAMES, up to a cut. A shot too short to learn from is not looked at,
        and neither is one that the film comes back to, nor anything where tracks do not go by motion.

        Args:
            tracks: what follows the film's objects.
            shot: the number of the shot that the frame is of.
            coming: the frame and those that follow it; later ones are taken only where a shot begins.

        Cost: where a shot begins, of each frame its regions, its motion and one step of tracks.
        """
        if coming.later is None or not isinstance(tracks, AppearanceTracks) or not tracks.foresees(shot):
            return
        index, color, here = coming.index, coming.color, coming.small[0].shape[0]
        frames = [coming.small, *islice(coming.later(), max(0, FORESIGHT_FRAMES - here))]
        y, u, v = (torch.cat(planes)[:FORESIGHT_FRAMES] for planes in zip(*frames, strict=True))
        lumas = Download((y,)).wait()[0].numpy()  # synchronises
        shots = ShotDetector()
        count = sum(1 for _ in takewhile(lambda luma: shots.step(luma) == 0, lumas))
        if count < EAGER_FRAMES:
            return
        self.find((y, u, v), color, index, range(count))
        ahead = AppearanceTracks(tracks.segmenter, (), 1, find=True)
        for i, (luma, motion) in enumerate(zip(lumas[:count], motion_of_each(ahead, y[:count]), strict=True)):
            ahead.step(luma, self._known[index + i], 0, i, 0.0, luma.shape, motion)
        tracks.foresee(ahead)
