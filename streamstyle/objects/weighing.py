"""Who weighs what speaks for each object at each pixel: on the host or on the device, by the same rules.

::

    carry ─► carried ─► seen ─► shares, [K, h, w] ─► settle ─► overlaps ─► (the tracker names pieces) ─► name ─► slots
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from streamstyle.objects.segmenter import Segmentation
from streamstyle.objects.tracker import Track

FOUND = -1
"""In the list of slots that classes have: the class whose pieces are tracks."""
LOST_SHARE = 0.1
"""An object with less than this share of its usual area is looked for everywhere, by its look and motion, and not
learned."""
HIDDEN_SHARE = 0.5
"""One with less than this share of what it had lately is partly hidden: more of it may come out anywhere. On eight
DAVIS sequences J is .802 without, .805 with, and the same at .4 and .6."""
SMALLEST_FOUND = 0.003
"""Share of the frame below which a piece of FOUND is no object."""
MUST_MOVE_LOOKS = 6
"""Analysed frames in which a found object must have moved, or else it was none; since it stood out of a plain ground,
if it did."""


@dataclass(frozen=True)
class Cast:
    """Who is followed in a frame.

    Attributes:
        members: the slot of each of K classes, FOUND for what has no name.
        knows: whether each class's look is known; the background's is where any is.
        eager: whether FOUND may still be anything.
    """

    members: tuple[int, ...]
    knows: tuple[bool, ...]
    eager: bool

    @property
    def named(self) -> list[int]:
        """The classes that have a name."""
        return [k for k, slot in enumerate(self.members) if slot != FOUND]


@dataclass(frozen=True)
class Motion:
    """How a frame moved, each as its Weighing takes it; None where nobody knows.

    Attributes:
        flow: [h, w, 2] float32 px to the frame before.
        own: [2, h, w] float32 px, beside the camera's.
        moving: [h, w] float32, log-odds that a pixel moves by itself; None: it is to be found of own.
        steady: [h, w] float32, trust in flow; None: it is to be found of the pictures.
        trust: [h, w] float32, in all that was carried since a frame was looked at; None: all of it.
        out: [h, w] bool on the host, what stands out of a plain ground, and counts as what moves by itself; None:
            nothing.
        farthest_px: how far anything moved along an axis; None: it is to be found of flow.
        usual_px: how far most of the picture moved, as slow_motion has it; likewise.
    """

    flow: Any = None
    own: Any = None
    moving: Any = None
    steady: Any = None
    trust: Any = None
    out: Any = field(default=None, kw_only=True)
    farthest_px: float | None = field(default=None, kw_only=True)
    usual_px: float | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class Totals:
    """Of each class, and of the rest, the pixels of which it has more than half."""

    areas_px: Sequence[int]
    rest_px: int


class Weighing(Protocol):
    """Weighs; what it gives is for itself, but for shares, totals, overlaps and slots."""

    def carry(
        self, shares: Tensor | None, slots: np.ndarray | None, motion: Motion, cast: Cast, size: tuple[int, int]
    ) -> Any:
        """What was known of the frame before, carried into this one; size: (h, w)."""

    def carried_shares(self, carried: Any) -> Tensor | None:
        """The shares [K, h, w] that were carried here; None where a shot begins."""

    def carried_slots(self, carried: Any) -> np.ndarray:
        """The slots [h, w] int32 that were carried here."""

    def seen(self, found: Segmentation, carried: Any, motion: Motion, look: Tensor | None, cast: Cast) -> Tensor:
        """Each class's share of each pixel, [K, h, w] float32.

        Args:
            found: the frame's regions.
            carried: what carry gave.
            motion: what carry was given; it may have kept that in carried.
            look: [K + 1, h, w] float32, or smaller, probability that places look like the background and each class;
                None before anybody's look is known.
            cast: who is followed.
        """

    def settle(self, shares: Tensor, carried: Any, cast: Cast) -> tuple[np.ndarray, Totals]:
        """Pixels of each piece of FOUND (from row 1 on) that were carried as each slot, [P, S]; and totals.

        Synchronises, where it weighs on the device.
        """

    def name(self, owners: np.ndarray | None) -> np.ndarray:
        """The map of slots, [h, w] int32, of what was settled last, whose pieces belong to owners [P]."""

    def areas(self, slots: np.ndarray) -> np.ndarray:
        """Pixels of each slot of the map that was named last."""

    def blocks(self, slots: np.ndarray, chosen: Sequence[int], grid: tuple[int, int]) -> tuple[Tensor, Sequence[float]]:
        """By how much each block of a grid (height, width) is one of some slots' of that map, [len(chosen), P] float32:
        weights of sum 1, nothing where less than half is; and how many blocks they are together. Synchronises."""


def lost_below_px(track: Track) -> float:
    """An object that has more than half of fewer pixels is lost, and looked for everywhere.

    Sums of shares would count what is left where it was last seen, of which nobody is sure: of films that are looked at
    every 4th frame J was .003 lower, and who came back was found one look later.
    """
    return LOST_SHARE * track.usual_area_px


def had_time_to_move(track: Track) -> bool:
    """Whether a found object that never moved was none."""
    return track.seen - track.stood >= MUST_MOVE_LOOKS


def hidden_below_px(track: Track) -> float:
    """An object that has more than half of fewer pixels is partly hidden."""
    return HIDDEN_SHARE * track.recent_px
