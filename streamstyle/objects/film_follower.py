"""Follows a film's objects frame by frame, and holds each frame until nothing that comes changes what is known of it.

::

    frames       4   5   6   7   8                 looked at: 3, 7
    followed     ─►  ─►  ─►  ─►│                   in their order, each once, whoever asks for it first
    known        ◄───────────  │                   4, 5 and 6 with 7: see between
                 └ taken ┘                         by batches, or one by one

What a batch has followed beyond its end, to know its own frames, waits for the batch that it belongs to, and is a part
of the state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np

from streamstyle.objects.area_filter import clear_specks_
from streamstyle.objects.between import MOST_BETWEEN, Between
from streamstyle.objects.following import Following
from streamstyle.objects.foresight import Coming, Find, Foresight
from streamstyle.objects.tracker import BACKGROUND
from streamstyle.shots import ShotDetector

T = TypeVar("T")


@dataclass(frozen=True)
class FollowedFrame(Generic[T]):
    """What is known of a frame.

    Attributes:
        luma: [h, w] uint8; shot: the number of the shot it is of.
        slots: [h, w] int32.
        frayed: as of Followed; nothing where that is not told.
        noted: what the slots were when it was followed, as whoever asks noted it.
    """

    luma: np.ndarray
    shot: int
    slots: np.ndarray
    frayed: dict[int, float]
    noted: T


class FilmFollower(Generic[T]):
    """Follows objects through a film.

    Args:
        tracks: what follows them; its state is a part of a film's, too.
        shots: likewise what tells the film's shots.
        find: the regions of small frames.
        note: asked after each frame what its slots are: plain values and arrays, which a state can hold.

    Attributes:
        foresight: knows regions that were found before their frame's turn.
        held: frames that were followed and not taken yet, by number.
    """

    def __init__(self, tracks: Following, shots: ShotDetector, find: Find, note: Callable[[], T]) -> None:
        self.tracks, self.foresight = tracks, Foresight(find)
        self.held: dict[int, FollowedFrame[T]] = {}
        self._shots, self._note, self._between = shots, note, Between()

    @property
    def waits(self) -> bool:
        """Whether frames that are held would be known better by those that come next."""
        return self._between.waits

    def step(
        self,
        luma: np.ndarray,
        motion: Sequence[Any],
        time_s: float,
        size: tuple[int, int],
        coming: Coming,
        *,
        may_wait: bool = True,
    ) -> None:
        """Follow the next frame, and hold it.

        Args:
            luma: [h, w] uint8, its small picture.
            motion: of tracks.motions, this frame's; arrays of those the host is told.
            time_s: its time in seconds.
            size: (height, width) of the film.
            coming: the frame, and those that follow it.
            may_wait: whether it may be known better by a later one; the same for all frames of a film, or some would
                be and some not, as batches end.

        Raises:
            OptionError: a place outside the frame, or on no object and nothing that moves.

        Cost: a step of tracks. Of a frame that is looked at its regions, unless they are known, and Between.step; where
        a shot begins, Foresight.look; where a click is on no region, Foresight.moving.
        """
        number, shot = coming.index, self._shots.step(luma)
        wanted = self.tracks.wants(number, shot, time_s)
        self.foresight.look(self.tracks, shot, coming)
        found = None
        if wanted:
            self.foresight.find(coming.small, coming.color, number, [0])
            found = self.foresight.telling(self.foresight.regions(number), self.tracks, coming)
        self.foresight.pass_by(number + 1)
        slots = self.tracks.step(luma, found, shot, number, time_s, size, motion)
        followed = self.tracks.followed
        frayed = {} if followed is None else followed.frayed
        self.held[number] = FollowedFrame(luma, shot, slots, frayed, self._note())
        if may_wait and self.tracks.every <= MOST_BETWEEN:
            for earlier, better in self._between.step(number, followed):
                self.held[earlier] = replace(self.held[earlier], slots=better)

    def end(self) -> None:
        """Frames that wait do so no longer, for no more come before they are taken."""
        self._between.forget()

    def take(self, number: int) -> FollowedFrame[T]:
        """A frame that waits no longer; it is held no more.

        What was carried is cleared of specks and pinholes, of which each frame has others, and which would flicker: on
        eight DAVIS sequences four a frame with a name, eight with zero clicks. What is followed keeps them.

        Cost: of one that was carried .1 ms an object at 427x240 on one core, .3 for one that fills half of it.
        """
        frame = self.held.pop(number)
        if not frame.frayed:
            return frame
        slots = frame.slots.copy()
        clear_specks_(slots, frame.frayed, BACKGROUND)
        return replace(frame, slots=slots)

    def state_dict(self) -> dict[str, Any]:
        """What later frames depend on beside the states of tracks and shots, where none waits; see load_state_dict."""
        return {
            "held": [
                [number, frame.luma, frame.shot, frame.slots, list(frame.frayed.items()), frame.noted]
                for number, frame in sorted(self.held.items())
            ]
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as the follower, of the same film, whose state_dict this is."""
        self.held = {
            number: FollowedFrame(luma, shot, slots, dict(frayed), noted)
            for number, luma, shot, slots, frayed, noted in state["held"]
        }
