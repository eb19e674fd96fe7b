"""Specks of a mask, and pinholes in it, by their area: an opening and a closing that leave outlines as they are.

Source: Vincent 1993 (area openings and closings). Differs: the least area may be a share of the mask's.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np

from streamstyle.stages.region_stats import id_areas

SPECK_SHARE = 0.01
"""Of a mask, what is no more than so much of it and hangs on nothing. On eight DAVIS sequences J is .003 higher than
without (F .004 lower: a speck beside an outline is a match of it); of .01, .02 and .05 the first leaves most."""
SPECK_LINES = 1 / 76
"""And what is smaller than a square of so much of the short side: 10 px of 240 lines."""


def clear_specks_(slots: np.ndarray, shares: Mapping[int, float], background: int) -> None:
    """Give the specks of some slots of a map to the background, then the background in their pinholes to them.

    Args:
        slots: [h, w] int32; written to.
        shares: which of its slots, and of each what share of it is a speck; see specks.
        background: that which is nobody's.

    Cost: as of :func:`specks` for each slot, a third of it where it has neither.
    """
    filled = list[tuple[int, tuple[slice, slice], np.ndarray]]()
    for slot, share in shares.items():
        box, small, holes = _parts(slots == slot, share)
        if small is not None:
            slots[box][small] = background
        if holes is not None:
            filled.append((slot, box, holes))
    for slot, box, holes in filled:
        slots[box][holes & (slots[box] == background)] = slot


def specks(mask: np.ndarray, share: float = SPECK_SHARE) -> tuple[np.ndarray, np.ndarray]:
    """Where a mask has specks, and where it has pinholes.

    Args:
        mask: [h, w] bool.
        share: of the mask, what is no larger is one; what is smaller than a square of SPECK_LINES always is.

    Returns:
        Two [h, w] bool: parts of the mask that hang together by sides and corners and are small beside the whole; and
        parts of the rest that hang together by sides, are as small, and do not reach the frame's border.

    Cost: two passes of connected components over the box it is in, up to 1 ms of 427x240 on the host.
    """
    box, *found = _parts(mask, share)
    small, holes = np.zeros(mask.shape, bool), np.zeros(mask.shape, bool)
    for whole, part in zip((small, holes), found, strict=True):
        if part is not None:
            whole[box] = part
    return small, holes


def pinholes(mask: np.ndarray) -> np.ndarray:
    """Where a mask [h, w] bool has pinholes smaller than a square of SPECK_LINES, likewise; see specks."""
    holes, box = np.zeros(mask.shape, bool), box_of(mask)
    gaps = _gaps(mask[box].view(np.uint8), speck_px(mask.shape))
    if gaps is not None:
        holes[box] = gaps
    return holes


def fill_(values: np.ndarray, holes: np.ndarray, where: np.ndarray) -> None:
    """Give holes what is to their left.

    Args:
        values: [h, w]; written to.
        holes: [h, w] bool, none of which begins a row.
        where: [h, w] bool, which of their pixels take it.
    """
    rows, columns = np.nonzero(holes & where)
    left, within = columns - 1, np.ones(len(rows), bool)
    while within.any():
        within = holes[rows, left]
        left = left - within
    values[rows, columns] = values[rows, left]


def speck_px(shape: tuple[int, ...]) -> float:
    """The area of a square of SPECK_LINES of a picture's (height, width)."""
    return (SPECK_LINES * min(shape)) ** 2


def box_of(mask: np.ndarray, margin: int = 0) -> tuple[slice, slice]:
    """The rows and columns in which a mask [h, w] bool is, and so many more on each side; none where it is nowhere."""
    ends = []
    for axis in (1, 0):
        there = np.flatnonzero(mask.any(axis))
        if not there.size:
            return slice(0), slice(0)
        ends.append(slice(max(0, int(there[0]) - margin), int(there[-1]) + 1 + margin))
    return ends[0], ends[1]


def _parts(mask: np.ndarray, share: float) -> tuple[tuple[slice, slice], np.ndarray | None, np.ndarray | None]:
    """The box a mask [h, w] bool is in, and of specks both within it; None where there are none."""
    box, small = box_of(mask), None
    inside = mask[box].view(np.uint8)  # beyond it there is neither
    least = max(share * np.count_nonzero(inside), speck_px(mask.shape))
    labels, is_small = small_parts(inside, least, 8)
    if is_small.any() and not is_small[1:].all():  # a tiny object is no speck of itself
        small = is_small.take(labels)
    return box, small, _gaps(inside, least)


def _gaps(inside: np.ndarray, least: float) -> np.ndarray | None:
    """Parts smaller than least of what is not inside, [h, w] uint8, and does not reach its border: [h, w] bool, None
    where there are none."""
    around, tight = small_parts(cv2.copyMakeBorder(1 - inside, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1), least, 4)
    tight[around[0, 0]] = False  # what reaches the border, or the outside
    return tight.take(around[1:-1, 1:-1]) if tight.any() else None


def small_parts(inside: np.ndarray, least: float, connectivity: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels of connected parts, 0 where none is, and which labels are of small ones; inside: [h, w] uint8."""
    if not inside.size:
        return np.zeros(inside.shape, np.int32), np.zeros(1, bool)
    count, labels = cv2.connectedComponents(inside, connectivity=connectivity)  # with stats it takes twice the time
    small = id_areas(labels, count) < least
    small[0] = False
    return labels, small
