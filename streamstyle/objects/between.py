"""Frames that were not looked at: once the next one is, their maps come from both sides.

::

    looked at      carried ─►  carried ─►  carried ─►   looked at
        a ─────────── t ──────────┼───────────┼──────────── b
                  ◄─ carried  ◄─ carried  ◄─ carried

    share in t  =  the mean of both, each by how near its side is and how far it may be trusted; see trust

Flow is known from each frame to the one before it, so what goes back goes along the inverse: where flow leads more
pixels to one place, those that were not seen there do not count. It tells nothing of what follows: objects go on from
the frame that was looked at.

Benchmarks/eval_objects.py --choices says what it is worth.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from torch import Tensor

from streamstyle.objects.area_filter import SPECK_SHARE, box_of
from streamstyle.objects.tracker import BACKGROUND
from streamstyle.objects.weighing import FOUND, Motion
from streamstyle.stages.connected_components import looked_up
from streamstyle.stages.optical_flow import carry, carry_labels, leads_to

SEEN_TRUST = 0.5
"""A pixel that is trusted less was not seen in the frame before."""
LEAST_TRUST = 0.02
"""Of either side: where neither is trusted, nearness decides."""
SURELY = 0.51
"""The least share of what a map says is somebody's."""
MOST_BETWEEN = 16
"""Where frames are looked at more rarely than that, those between stay as they were carried: all would be held."""
AROUND_PX = 20
"""What goes back is looked for so far (of 240 lines) around where it is in any of the frames."""


@dataclass(frozen=True)
class Followed:
    """A frame as it was followed; maps are arrays, or tensors anywhere.

    Attributes:
        slots: [h, w] int32.
        shares: [K, h, w] float32 of the classes; members: [K] their slots, FOUND of what has no name.
        tracks: slot -> number of its track.
        motion: with flow, and trust in it and in all that was carried; where the shot begins, None or from another.
        since: how many frames ago one was looked at, but for those that repeat another; 0: it is this one, or as good.
        repeats: whether it is the frame before once more.
        shot: the number of the shot it is of.
        said: whether somebody was given a place here, as a person says, which tells nothing of frames before.
    """

    slots: np.ndarray
    shares: Any
    members: tuple[int, ...]
    tracks: dict[int, int]
    motion: Motion
    since: int
    repeats: bool
    shot: int
    said: bool

    @property
    def frayed(self) -> dict[int, float]:
        """Of what was carried along flow, which frays it, what share of each slot is a speck; see clear_specks_."""
        if not self.since:
            return {}
        return {slot: SPECK_SHARE if slot in self.members else 0.0 for slot in self.tracks if slot != BACKGROUND}


class Between:
    """Takes frames in their order and gives maps of those that were carried, as soon as they are known better."""

    def __init__(self) -> None:
        self._frames: list[tuple[int, Followed]] = []

    def forget(self) -> None:
        """Begin anew: what was carried so far stays as it is."""
        self._frames.clear()

    @property
    def waits(self) -> bool:
        """Whether frames would be known better once one is looked at."""
        return bool(self._frames)

    def step(self, index: int, followed: Followed | None) -> list[tuple[int, np.ndarray]]:
        """Numbers of frames that are known better now, with their maps of slots, [h, w] int32.

        Args:
            index: the frame's number.
            followed: the frame; None where nobody tells.

        Cost: of carried frames some 2 ms each at 427x240 on one core, more for objects that fill it.
        """
        if self._frames and (followed is None or followed.shot != self._frames[-1][1].shot):
            self.forget()
        if followed is None or followed.motion.trust is None or followed.shares is None:
            self.forget()
            return []
        if followed.since:
            self._frames.append((index, followed))
            return []
        waiting, self._frames = self._frames, []
        if not waiting or followed.said:
            return []
        maps = revised([frame for _, frame in waiting], followed)
        return [(number, slots) for (number, _), slots in zip(waiting, maps, strict=True)]


def revised(carried: Sequence[Followed], seen: Followed) -> list[np.ndarray]:
    """Maps of slots of frames that were carried, known better by the one after them that was looked at.

    Args:
        carried: consecutive frames.
        seen: the next.

    Returns:
        [h, w] int32 of each.
    """
    # What is known of a frame depends on those after it alone, however many were carried before it: so does its box.
    shape, margin_px = seen.slots.shape, round(AROUND_PX * min(seen.slots.shape) / 240)
    somebody, after, maps = seen.slots != BACKGROUND, seen, list[np.ndarray]()
    whole = (slice(None), slice(None))
    back, slots, trust = _shares(seen, whole), seen.slots, np.ones(shape, np.float32)
    for frame in reversed(carried):
        somebody |= frame.slots != BACKGROUND
        if not somebody.any():
            maps.append(frame.slots)
            back, after = {}, frame
            continue
        box = box_of(somebody, margin_px)
        steady, own = _here(after.motion.steady[box]), _shares(frame, box)
        way = _Back(_here(after.motion.flow[box]), steady)
        same = {slot for slot, track in frame.tracks.items() if seen.tracks.get(slot) == track} | {FOUND}
        trust = _within(box, way.carry(trust[box] * steady), shape)
        slots = _within(box, way.carry_labels(slots[box]), shape)
        back = {
            slot: _within(box, way.carry(back[slot][box], share), shape)
            for slot, share in own.items()
            if slot in same and slot in back
        }
        near = frame.since / (carried[-1].since + (not seen.repeats))
        ours = (1 - near) * _at_least(_here(frame.motion.trust[box]), LEAST_TRUST)
        theirs = _only(near * _at_least(trust[box], LEAST_TRUST), way.seen)
        theirs = theirs / (ours + theirs)
        both = {k: share + theirs * (back[k][box] - share) if k in back else share for k, share in own.items()}
        now = frame.slots.copy()
        now[box] = _map(both, frame, box, _only(slots[box], _are(slots[box], same)))
        maps.append(now)
        after = frame
    return maps[::-1]


def _within(box: tuple[slice, slice], values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A map [h, w] that is 0 but for a box."""
    found = np.zeros(shape, values.dtype)
    found[box] = values
    return found


def _shares(frame: Followed, box: tuple[slice, slice]) -> dict[int, np.ndarray]:
    """What a box [h, w] has of each class, by its slot: more than half just where the map says that it is there."""
    slots, shares = frame.slots[box], _here(frame.shares[:, *box])
    found = {}
    for slot, share in zip(frame.members, shares, strict=True):
        there = _is_piece(slots, frame) if slot == FOUND else (slots == slot).view(np.uint8)
        found[slot] = np.minimum(share, 1 - SURELY)
        _copy_onto_(found[slot], _at_least(share, SURELY), there)
    return found


def _map(shares: dict[int, np.ndarray], frame: Followed, box: tuple[slice, slice], later: np.ndarray) -> np.ndarray:
    """The slots of a box [h, w], by shares; which piece of what has no name, the frame says, or else later, the slots
    that come from behind."""
    found = np.full(later.shape, BACKGROUND, np.int32)
    for slot, share in shares.items():
        its, slots = np.full_like(later, slot), frame.slots[box]
        if slot == FOUND:
            its = _only(later, _is_piece(later, frame))
            _copy_onto_(its, slots, _is_piece(slots, frame))
        _copy_onto_(found, its, (share > 0.5).view(np.uint8))
    return found


def _is_piece(slots: np.ndarray, frame: Followed) -> np.ndarray:
    """Where slots [h, w] are of pieces of what has no name: uint8, not 0."""
    return _are(slots, set(frame.tracks) - set(frame.members))


def _are(slots: np.ndarray, these: Collection[int]) -> np.ndarray:
    """Where slots [h, w] int32 are some of these: uint8, not 0."""
    table = np.zeros(int(slots.max(initial=0)) + 1, np.int32)
    table[[slot for slot in these if BACKGROUND < slot < len(table)]] = 1
    return looked_up(slots, table).astype(np.uint8)


def _copy_onto_(values: np.ndarray, others: np.ndarray, where: np.ndarray) -> None:
    """Values [h, w], contiguous and written to, become others of their type where a mask [h, w] uint8 is not 0; OpenCV
    takes a fifth of NumPy's time."""
    cv2.copyTo(others, where, values)


def _only(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Values [h, w] where a mask [h, w] uint8 is not 0; elsewhere 0, which of slots is the background."""
    return cv2.copyTo(values, where)


def _at_least(values: np.ndarray, least: float) -> np.ndarray:
    """The larger, of [h, w] float32; OpenCV takes a third of NumPy's time."""
    return cv2.max(values, least)  # type: ignore[call-overload]  # its types know of no number


def _here(part: Any) -> np.ndarray:
    """A map on the host; synchronises where it is on a device."""
    there: np.ndarray = part.cpu().numpy() if isinstance(part, Tensor) else part
    return there


class _Back:
    """The way from a frame to the one before it, for each pixel of that one.

    Args:
        flow: [h, w, 2] float32 px, from the frame to the one before it.
        steady: [h, w] float32, trust in that.

    Attributes:
        seen: [h, w] uint8, not 0 where the one before shows what the frame shows, too.
    """

    def __init__(self, flow: np.ndarray, steady: np.ndarray) -> None:
        height, width = steady.shape
        to = cv2.add(leads_to(flow), 0.0, dtype=cv2.CV_16S)  # type: ignore[call-overload]  # rounds, and saturates
        x, y = cv2.split(to)
        leads = (x.view(np.uint16) < width) & (y.view(np.uint16) < height) & (steady >= SEEN_TRUST)
        # What leads nowhere, and what was not seen there, is written beyond the end. Of others to one place the last
        # counts. Both parts of a flow are written at once, as one complex number; and NumPy takes three times as long
        # for an index of 32 bits.
        nowhere = height * width
        led_to = np.full(leads.shape, nowhere, np.int32)
        _copy_onto_(led_to, y.astype(np.int32) * width + x, leads.view(np.uint8))
        at = led_to.ravel().astype(np.intp)
        back, led = np.zeros(nowhere + 1, np.complex64), np.zeros(nowhere + 1, np.float32)
        back[at] = np.ascontiguousarray(flow).view(np.complex64).ravel()
        led[at] = 1
        way, is_led = back[:-1].view(np.float32).reshape(height, width, 2), led[:-1].reshape(height, width)
        # What flow draws apart leaves gaps of a pixel; what the frame hides is wider, and stays open.
        around = cv2.blur(is_led, (3, 3))
        gaps = (around > 0.5) & (is_led == 0)
        at = np.flatnonzero(gaps)
        back[at] = cv2.blur(way, (3, 3)).view(np.complex64).ravel()[at] / around.ravel()[at]
        self.seen: np.ndarray = (gaps | (is_led > 0)).view(np.uint8)
        self._flow = -way

    def carry(self, values: np.ndarray, elsewhere: np.ndarray | None = None) -> np.ndarray:
        """Values [h, w] float32 of the frame, in the one before; where it shows nothing of that, those of elsewhere, or
        0."""
        carried = carry(values, self._flow)
        if elsewhere is None:
            return _only(carried, self.seen)
        found = elsewhere.copy()
        _copy_onto_(found, carried, self.seen)
        return found

    def carry_labels(self, labels: np.ndarray) -> np.ndarray:
        """Likewise labels [h, w] int32, below 32768; 0 elsewhere."""
        return _only(carry_labels(labels, self._flow), self.seen)
