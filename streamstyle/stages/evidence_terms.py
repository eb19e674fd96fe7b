"""What object_evidence is told of a frame and tells of it: the order of the kernels' numbers, and bundles of tensors.

The kernels' enums of kernels/object_evidence.cu, by the same names.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

WEIGHTS = (
    "scale",
    "carried_weight",
    "found_carried_weight",
    "look_weight",
    "not_found",
    "lost_prior",
    "lost_motion_weight",
    "separate_px",
    "separate_full_px",
    "reliable",
    "reliable_full",
    "alike_weight",
    "steepness",
    "still_times",
    "moving_share",
    "moved_share",
    "newcomer_odds",
    "border",
    "border_inside",
    "border_share",
    "near_px",
    "tie",
    "snap",
    "least_spread",
    "firmness",
    "detail",
    "eps",
    "smooth_space_px",
    "smooth_color_distance",
    "speck_share",
    "speck_px",
)
"""What the numbers of Rules.weights are, in the order of the kernels' enum Weight."""
HAS_SHARES, HAS_SLOTS, HAS_MOTION, HAS_LOOK, EAGER, HAS_TRUST = (1 << bit for bit in range(6))
"""The kernels' enum Known."""
CORE, CORE_ALIKE, AROUND, AROUND_ELSE, PIXELS, LEFT, PER_CLASS = range(7)
"""The kernels' enum Tally."""
MOST_CLASSES = 30
"""The kernels' MOST_CLASSES: a bit each, and one for all that is followed."""
UNIT = 1 << 20
"""Sums of shares are whole numbers of 1 / UNIT."""


@dataclass(frozen=True)
class Rules:
    """What is the same for all frames of a size.

    Attributes:
        weights: [len(WEIGHTS)] float32, on the device.
        heights: [LEVELS] int32, on the device, up to which borders fall for a region's mean.
        reach_px: pixels from where an object was carried to at which it can no more be.
        stride_px, window_px: a coarse cell's side of the guided filter, and the radius of its window.
        smooth_reach_px: how far a border's pixels are smoothed by others, each way.
        piece_px: the least area of a piece of what has no name.
    """

    weights: Tensor
    heights: Tensor
    reach_px: int
    stride_px: int
    window_px: float
    smooth_reach_px: int
    piece_px: float


@dataclass(frozen=True)
class Who:
    """Who is followed, K classes in S slots.

    Attributes:
        classes: [K, 4] float32 on the device: 1 for FOUND, what has no name, else 0; lost where more than half was
            carried of fewer px; 1 if its look is known; partly hidden where more than half was carried of fewer px.
        facts: [S, 3] float32 on the device, of slots: the largest share that ever moved; 1 if it was seen long enough
            to have moved; 1 for slots of named objects.
        members: [K] float32 on the device, the slots below.
        slots: of each class its slot, -1 of FOUND.
        eager: whether FOUND may still be anything.
    """

    classes: Tensor
    facts: Tensor
    members: Tensor
    slots: tuple[int, ...]
    eager: bool

    @property
    def found(self) -> int:
        """The class of FOUND; -1 where nothing is found unasked."""
        return self.slots.index(-1) if -1 in self.slots else -1


@dataclass(frozen=True)
class Carried:
    """What was carried into a frame, all on the device.

    Attributes:
        before: [K, h, w] float32 shares; None in a shot's first frame.
        slots: [h, w] int32; None likewise.
        bits: [h, w] int32, bit k where class k has more than half, bit K where anything is followed.
        tally: [K * PER_CLASS + 1 + 2 S] int64, counts of pixels; see the kernels.
        medians: [K, 2] float32 px, how each named object moves.
        own: [2, h, w] float32 px, beside the camera's motion; None if that is not known.
        moving: [h, w] float32, log-odds that a pixel moves by itself; with own.
        known: which of HAS_SHARES, HAS_SLOTS, HAS_MOTION and EAGER hold.
    """

    before: Tensor | None
    slots: Tensor | None
    bits: Tensor
    tally: Tensor
    medians: Tensor
    own: Tensor | None
    moving: Tensor | None
    known: int


@dataclass(frozen=True)
class Found:
    """A frame's regions and colours on the device: ids [h, w] int32, rgb [3, h, w] uint8, into and at [R] int32."""

    ids: Tensor
    rgb: Tensor
    into: Tensor
    at: Tensor


@dataclass(frozen=True)
class Settled:
    """A frame's map before the tracker has named the pieces of what has no name.

    Attributes:
        map: [h, w] int32: a slot, or minus the number of a piece.
        overlap: [P, S] int64: pixels of each piece that were carried as each slot, named objects' as 0; row 0 is empty.
        pieces: [1] int32, how many numbers there are.
    """

    map: Tensor
    overlap: Tensor
    pieces: Tensor
