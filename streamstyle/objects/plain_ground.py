"""What stands out of a plain ground is an object, be it at rest: a plane in the sky, goods before a white wall.

::

    ┌─────────────────┐   one even region, but for weak edges, is most of the picture and of its rim: the
    │     ╭──╮        │   ground. What a clear contour parts from it counts as what surely moves by itself;
    │   ──┴──┴──   ╭╮ │   of the ground motion tells, as of any other.
    └──────────────┴┴─┘

Motion tells nothing there: an even ground shows none. What the camera follows is at rest in the picture, and so, as far
as anybody can tell, is the sky behind it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import cv2
import numpy as np
import torch
from torch import Tensor

from streamstyle.gpu.transfer import to_device
from streamstyle.objects.bodies import joined
from streamstyle.objects.segmenter import Segmentation
from streamstyle.objects.tracker import Track
from streamstyle.objects.weighing import SMALLEST_FOUND, Motion
from streamstyle.stages.connected_components import looked_up
from streamstyle.stages.region_stats import id_shares

GROUND_EDGE, CONTOUR = 0.2, 0.3
"""Edge strengths (of 1): no stronger ones lie within a plain ground, and none so weak about what stands out of it. In a
grey wall with noise of 5 to 10 levels chance draws edges of .1 and more, of .2 none."""
RIM_SHARE, AREA_SHARE = 0.75, 0.5
"""Of the picture's rim and of its area, what is ground at least: somebody before a wall may be cut by one side. Of the
eight DAVIS sequences none has such a ground in any frame; where a plane is followed, or drawn pigs dance before white,
it has all of the rim."""
MOST_SLOPE, SLOPE_PX = 1.0, 5
"""Levels of 255 a pixel (of 240 lines) by which the ground rises or falls in the mean, once so many px are blurred:
more shows how it moves. Of skies, walls, black and white it is .4 at most, of mottled ground without an edge 3."""
LEAST_APART, BESIDE_PX = 8.0, 4
"""Levels of 255 by which what stands out differs from the ground so many px (of 240 lines) around it, in the mean of
its pixels and channels: a white sticker on a white wall does by 12, what HED sees in an even slope by 6."""
FRAMED_SHARE, FRAMED_FILL, BLACK = 0.15, 0.95, 24
"""A piece inside that is so much of the picture and so much of the box it is in, before a ground of fewer levels or of
one colour, is a picture in a frame."""
ONE_COLOR = (1, 0.9)
"""So many levels from its median is such a share of a ground of one colour; no wall is as even."""
NAMED_SHARE = 0.1
"""Of a piece: who has so much of it has a name for it, and what is left of it is not somebody else."""
WHOLE_SHARE, SURELY = 1 / 3, 0.9
"""Of a piece, what must be a class's for all of it to be; and the least share it then has of what is nobody else's."""


def stands_out(found: Segmentation) -> np.ndarray | None:
    """What stands out of a plain ground, in pieces; None where there is no such ground, or nothing on it.

    Args:
        found: the frame's regions; without a tree there is none.

    Returns:
        [h, w] int32, each piece its own number above 0; where the ground is, or what is too small to be an object, 0.

    Cost: .1 ms of 427x240 on the host where no ground has the rim, 1 to 2 ms where one has; on CUDA, too.
    """
    if found.tree is None:
        return None
    ids, (into, at) = found.finest.numpy(), (part.numpy() for part in found.tree)
    (plain,) = joined(into, at, (GROUND_EDGE,))
    rim = np.concatenate([ids[0], ids[-1], ids[1:-1, 0], ids[1:-1, -1]])
    on_rim = np.bincount(plain[rim])
    ground = int(on_rim.argmax())
    if on_rim[ground] < RIM_SHARE * rim.size:
        return None
    of_ground = looked_up(ids, plain == ground).astype(bool)
    if np.count_nonzero(of_ground) < AREA_SHARE * ids.size or not _is_even(found.rgb[1].numpy(), of_ground):
        return None
    (about,) = joined(into, at, (CONTOUR,))
    _, pieces, boxes, _ = cv2.connectedComponentsWithStats(looked_up(ids, about != about[ground]).astype(np.uint8))
    kept = boxes[:, cv2.CC_STAT_AREA] >= SMALLEST_FOUND * ids.size
    kept &= _differ(pieces, len(boxes), found.rgb.numpy())
    framed = _fill_boxes(boxes, ids.shape)
    if framed.any() and _is_frame(found.rgb[1].numpy()[of_ground]):
        kept &= ~framed
    kept[0] = False
    return looked_up(pieces, kept * np.arange(len(boxes))) if kept.any() else None


def with_what_stands_out(motion: Motion, pieces: np.ndarray) -> Motion:
    """Motion in which pieces, from stands_out, count as what moves by itself; where nobody knows how the rest moves, it
    does not."""
    own = np.zeros((2, *pieces.shape), np.float32) if motion.own is None else motion.own
    return replace(motion, own=own, out=pieces > 0)


def theirs(pieces: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Where pieces are of which NAMED_SHARE is taken, both [h, w] bool."""
    is_taken = id_shares(pieces, int(pieces.max()) + 1, taken) >= NAMED_SHARE
    is_taken[0] = False
    return looked_up(pieces, is_taken).astype(bool)


def kept_whole_(shares: Tensor, k: int, pieces: np.ndarray) -> None:
    """Pieces are a class's as a whole, but for what is another's, if a good part of them is: colours around cannot tell
    what is lighter here and darker there than the ground.

    Args:
        shares: [K, h, w] float32, together at most 1; written to.
        k: the class.
        pieces: [h, w] int32, from stands_out.

    Cost: a copy of pieces to the device, a dozen passes over a map; no synchronisation.
    """
    count = int(pieces.max()) + 1
    ids = to_device(torch.from_numpy(pieces), shares.device).long()
    areas, its = shares.new_zeros(2, count)
    areas.scatter_add_(0, ids.flatten(), torch.ones_like(shares[k]).flatten())
    its.scatter_add_(0, ids.flatten(), (shares[k] > 0.5).float().flatten())
    whole = its >= WHOLE_SHARE * areas
    whole[0] = False
    others = shares.sum(0) - shares[k]
    torch.maximum(shares[k], SURELY * (1 - others) * whole[ids], out=shares[k])


def note_standing(tracks: Mapping[int, Track], slots: np.ndarray, pieces: np.ndarray) -> None:
    """Tell tracks (by slot) of which, in a map of slots [h, w] int32, half stands out.

    They need not move for some looks, but then: of what a fade from black shows first, lamps stand out of the night,
    and when the room is seen they are a part of it.
    """
    standing = id_shares(slots, max(tracks, default=0) + 1, pieces > 0)
    for slot, track in tracks.items():
        track.stood = track.seen if standing[slot] >= 0.5 else track.stood


def _fill_boxes(boxes: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Which pieces of a picture [h, w] are large, full rectangles inside it: [R] bool, of OpenCV's numbers [R, 5]."""
    left, top, width, height, areas = boxes.T
    is_full = areas >= np.maximum(FRAMED_SHARE * shape[0] * shape[1], FRAMED_FILL * width * height)
    return is_full & (left > 0) & (top > 0) & (left + width < shape[1]) & (top + height < shape[0])


def _is_frame(levels: np.ndarray) -> bool:
    """Whether a ground of these levels, [P] uint8, frames a picture: it is black, or of one colour."""
    median = np.median(levels)
    is_one = np.mean(cv2.absdiff(levels, np.full_like(levels, median)) <= ONE_COLOR[0]) >= ONE_COLOR[1]
    return bool(median < BLACK or is_one)


def _differ(pieces: np.ndarray, count: int, rgb: np.ndarray) -> np.ndarray:
    """Which pieces [h, w] int32 differ from the ground around them, in colours [3, h, w] uint8: [count] bool. Every
    second row and column is asked."""
    every = np.ascontiguousarray(pieces[::2, ::2], np.uint16)
    reach = max(1, round(BESIDE_PX * min(pieces.shape) / 480))
    near = cv2.dilate(every, np.ones((2 * reach + 1,) * 2, np.uint8)).ravel()
    here, colors = every.ravel(), rgb[:, ::2, ::2].reshape(len(rgb), -1)
    inside, outside = np.flatnonzero(here), np.flatnonzero((near > 0) & (here == 0))
    whose, apart = here[inside], np.zeros(count)
    outside_px = np.bincount(near[outside], minlength=count)
    for plane in colors:
        ground = np.bincount(near[outside], plane[outside], count) / np.maximum(1, outside_px)
        apart += np.bincount(whose, np.abs(plane[inside] - ground[whose]), count)
    differs: np.ndarray = apart >= LEAST_APART * len(rgb) * np.maximum(1, np.bincount(whose, minlength=count))
    return differs & (outside_px > 0)


def _is_even(green: np.ndarray, where: np.ndarray) -> bool:
    """Whether a plane [h, w] uint8 slopes by MOST_SLOPE at most where a mask [h, w] bool is and no border of it is
    near; not where that is nowhere. Every second row and column is asked. Luma is mostly green, and green is there."""
    green, where = green[::2, ::2], np.ascontiguousarray(where[::2, ::2])
    scale = min(green.shape) / 240
    window = 2 * round(SLOPE_PX * scale / 2) + 1
    even = cv2.blur(green.astype(np.float32), (window, window))
    inside = cv2.erode(where.view(np.uint8), np.ones((2 * window - 1,) * 2, np.uint8))[:-1, :-1]
    if not inside.any():
        return False
    beside, below = (cv2.absdiff(even[:-1, :-1], there) for there in (even[:-1, 1:], even[1:, :-1]))
    return (cv2.mean(beside, inside)[0] + cv2.mean(below, inside)[0]) / 2 * scale <= MOST_SLOPE
