"""What stands out of a plain ground is an object, be it at rest: a plane in the sky, goods before a white wall.

::

    ┌─────────────────┐   one even region, but for weak edges, is most of the picture and of its rim: the
    │     ╭──╮        │   ground. What a clear contour parts from it counts as what moves by itself, and the
    │   ──┴──┴──   ╭╮ │   ground as what does not.
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
from streamstyle.objects.evidence import SURELY_MOVING
from streamstyle.objects.segmenter import Segmentation
from streamstyle.objects.tracker import Track
from streamstyle.objects.weighing import SMALLEST_FOUND, Motion
from streamstyle.stages.connected_components import look_up
from streamstyle.stages.region_stats import id_areas

GROUND_EDGE, CONTOUR = 0.1, 0.3
"""Edge strengths (of 1): no stronger ones lie within a plain ground, and none so weak about what stands out of it."""
RIM_SHARE, AREA_SHARE = 0.75, 0.5
"""Of the picture's rim and of its area, what is ground at least: somebody before a wall may be cut by one side. In 64
frames of eight DAVIS sequences no ground has more than .40 of the rim; where a plane is followed, or drawn pigs dance
before white, it has all."""
MOST_SLOPE, SLOPE_PX = 1.0, 5
"""Levels of 255 a pixel (of 240 lines) by which the ground rises or falls in the mean, once so many px are blurred:
more shows how it moves. Of skies, walls, black and white it is .4 at most, of mottled ground without an edge 3."""
LEAST_APART, BESIDE_PX = 8.0, 4
"""Levels of 255 by which what stands out differs from the ground so many px (of 240 lines) around it, in the mean of
its pixels and channels: a white sticker on a white wall does by 12, what HED sees in an even slope by 6."""
SURELY = 0.9
"""The least share of what stands out, of what is nobody else's."""


def stands_out(found: Segmentation) -> np.ndarray | None:
    """Where something stands out of a plain ground, [h, w] bool; None where there is no such ground, or nothing on it.

    Args:
        found: the frame's regions; without a tree there is none.

    Cost: .1 ms of 427x240 on the host where no ground has the rim, 1 to 2 ms where one has.
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
    of_ground = _those(plain == ground, ids)
    if np.count_nonzero(of_ground) < AREA_SHARE * ids.size or _slope(found.rgb[1].numpy(), of_ground) > MOST_SLOPE:
        return None
    (about,) = joined(into, at, (CONTOUR,))
    there = _apart_from_ground(_those(about != about[ground], ids), found.rgb.numpy())
    return there if np.count_nonzero(there) >= SMALLEST_FOUND * ids.size else None


def moving_out(there: np.ndarray, motion: Motion) -> Motion:
    """Motion in which what stands out moves by itself, and the ground does not.

    Args:
        there: [h, w] bool, from stands_out.
        motion: the frame's.
    """
    return replace(motion, moving=np.where(there, np.float32(SURELY_MOVING), np.float32(-SURELY_MOVING)))


def kept_whole_(shares: Tensor, k: int, there: np.ndarray) -> None:
    """What stands out is a class's, but for what is another's: colours cannot tell what is lighter here and darker
    there than the ground.

    Args:
        shares: [K, h, w] float32, together at most 1; written to.
        k: the class.
        there: [h, w] bool, from stands_out.
    """
    others = shares.sum(0) - shares[k]
    least = SURELY * (1 - others) * to_device(torch.from_numpy(there), shares.device)
    torch.maximum(shares[k], least, out=shares[k])


def note_standing(tracks: Mapping[int, Track], slots: np.ndarray, there: np.ndarray) -> None:
    """Tell tracks (by slot) of which, in a map of slots [h, w] int32, half stands out ([h, w] bool, from stands_out).

    They need not move for some looks, but then: of what a fade from black shows first, lamps stand out of the night,
    and when the room is seen they are a part of it.
    """
    count = max(tracks, default=0) + 1
    standing = id_areas(slots, count, there) >= np.maximum(1, id_areas(slots, count) / 2)
    for slot, track in tracks.items():
        track.stood = track.seen if standing[slot] else track.stood


def _apart_from_ground(there: np.ndarray, rgb: np.ndarray) -> np.ndarray:
    """Those pieces of a mask [h, w] bool that differ from what is around them, in colours [3, h, w] uint8; every second
    row and column is asked."""
    count, pieces = cv2.connectedComponents(there.view(np.uint8))
    every = np.ascontiguousarray(pieces[::2, ::2], np.uint16)
    reach = max(1, round(BESIDE_PX * min(there.shape) / 480))
    near = cv2.dilate(every, np.ones((2 * reach + 1,) * 2, np.uint8)).ravel()
    here, colors = every.ravel(), rgb[:, ::2, ::2].reshape(len(rgb), -1)
    inside, beside = np.flatnonzero(here), np.flatnonzero((near > 0) & (here == 0))
    whose, apart = here[inside], np.zeros(count)
    beside_px = np.maximum(1, np.bincount(near[beside], minlength=count))
    for plane in colors:
        ground = np.bincount(near[beside], plane[beside], count) / beside_px
        apart += np.bincount(whose, np.abs(plane[inside] - ground[whose]), count)
    kept = apart >= LEAST_APART * len(rgb) * np.maximum(1, np.bincount(whose, minlength=count))
    return _those(kept, pieces)


def _those(which: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Where ids [h, w] int32 are some of these ([R] bool): [h, w] bool."""
    found = np.empty_like(ids)
    look_up(ids, which.astype(np.int32), found)
    return found.astype(bool)


def _slope(green: np.ndarray, where: np.ndarray) -> float:
    """Mean levels a pixel (of 240 lines) by which a plane [h, w] uint8 changes along rows and columns, where a mask
    [h, w] bool is and no border of it is near; every second row and column is asked."""
    green, where = green[::2, ::2], np.ascontiguousarray(where[::2, ::2])
    scale = min(green.shape) / 240
    window = 2 * round(SLOPE_PX * scale / 2) + 1
    even = cv2.blur(green.astype(np.float32), (window, window))
    inside = cv2.erode(where.view(np.uint8), np.ones((2 * window - 1,) * 2, np.uint8))[:-1, :-1]
    if not inside.any():
        return 0.0
    beside, below = (cv2.absdiff(even[:-1, :-1], there) for there in (even[:-1, 1:], even[1:, :-1]))
    return (cv2.mean(beside, inside)[0] + cv2.mean(below, inside)[0]) / 2 * scale
