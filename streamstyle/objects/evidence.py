"""What motion, place and edges say of where an object is: NumPy arrays of log-odds that the object tracker adds up.

All maps are of the small picture, [h, w]. Log-odds above 0 speak for the object, below 0 against it.
"""

from __future__ import annotations

import functools

import cv2
import numpy as np
import torch
from torch import Tensor

from streamstyle.objects.area_filter import box_of
from streamstyle.objects.bodies import body_means
from streamstyle.stages.dominant_motion import dominant_motion
from streamstyle.stages.region_stats import id_shares

NEAR_PX = 20
"""A pixel this far from where the object was carried to (of 240 lines) may still be it; twice as far it may not, but of
what is lost or partly hidden."""
SEPARATE_PX = 0.7
"""An object whose motion is no farther from the camera's (of 240 lines) cannot be told by it ..."""
SEPARATE_FULL_PX = 2.2
"""... and from here on it can fully."""
RELIABLE = (0.7, 0.9)
"""Motion counts in so far as it tells the object as it was carried from its surroundings: nothing where the balanced
accuracy is at the first, fully at the second."""
CARRIED_WEIGHT, LOOK_WEIGHT = 0.6, 0.5
"""Of what was here before, and of what looks like it: log_weighed. On eight DAVIS sequences J is .797 at .5 of the
first, .801 at .6, .802 at .7."""
FOUND_CARRIED_WEIGHT = 0.5
"""Of the first where nobody has a name: what was found is a guess, and must be able to go. At .6 J of what is found
unasked is the same, at .7 it is .663 for .697, and after a cut things are found later."""
NOT_FOUND = -4.0
"""Log-odds of what has no name where it cannot be."""
STEP_PX = 0.955
"""What OpenCV's distances count for a pixel straight ahead."""
STEEPNESS = 3.0
ALIKE_WEIGHT = 0.4
"""Of moving as a named object does. What moves with it speaks for it as much as what stands still speaks against it: if
less, for water and shadows move with it too, a new side of what turns is not taken for a part of it. On eight DAVIS
sequences J is .797 at .5, .801 at .4; at .3 the car that turns loses .06."""
MOTION_WEIGHT = 0.5
"""Of moving by itself."""
MOVING_TIMES, MOVING_PX = 8.0, 1.5
"""A pixel moves by itself if its motion is so many times the median's distance from the camera's, and at least so far
(of 240 lines). On those sequences J of what is found unasked is .35 at 3 times the median, .50 at 8, .49 at 12."""
STANDS_OUT_PERCENT, STANDS_OUT_TIMES, STANDS_OUT_SHARE = 97, 5.0, 0.75
"""Where that percentile of the motion is so many times the median, this share of it is enough: on rippling water the
swan moves at 7 times the median, and without this one flow found it (J .92) and another as good did not (.20)."""
MOVING_STEEPNESS = 2.0
SURELY_MOVING = 3 * MOTION_WEIGHT
"""Log-odds that a pixel moves by itself are no more than that, and no less than its negative, of a frame alone; what
stands out of a plain ground has as much, and what is seen moving before a camera at rest more."""
STILL_TIMES = 3.0
"""What stands still of a found object that moves is hardly a part of it, and neither is one that never moved an object:
ground behind a car, gates beside a horse. On eight DAVIS sequences J of what is found unasked is .60 at 1, .624 at 2,
.629 at 3. One that moved and now rests, or of which little moves, is held: then stillness tells nothing."""
MOVING_SHARE, MOVED_SHARE = 0.65, 0.3
"""An object moves if the first share of it does, and has moved if the second once did. At .4 of the first who moves no
more than the arms loses the body."""
NEWCOMER_ODDS = 0.6
"""What begins to move far from all that is followed has so much more to overcome than what moves from the first: where
the camera turns, what lies near moves by itself a little, a barrier beside the car that is followed. On eight DAVIS
sequences, in which nobody new comes, J of what is found unasked is .698 without newcomers, .696 with them, .689 at 0;
where every 4th frame is looked at .660, .671 and .672."""
SNAP = 0.8
"""How far a share is drawn to its region's mean where the region is at one; where some of it is sure of one thing and
some of another, an edge was missed and the mean is neither: it is drawn by less, not at all where each pixel is sure.
True masks of eight DAVIS sequences, drawn to regions by .8 and to colours, keep J .84: legs and lines lie in regions
of the ground. On those sequences J is .780 where all are drawn alike, .784 so; zero clicks .66 at .4, .69 at .8."""
LEAST_SPREAD = 1e-4
"""Variance of a share that counts as none."""
BORDER = (-0.2, 0.1)
"""Log-odds at the picture's border, and from BORDER_SHARE of its width inwards: cameras aim at what matters."""
BORDER_SHARE = 0.15


def own_motions(flows: Tensor) -> Tensor:
    """Motion beside the camera's, [N, 2, h, w] float32 px, of flows [N, h, w, 2], on their device."""
    return dominant_motion(flows)[1]


def own_motion(flow: np.ndarray) -> np.ndarray:
    """own_motions of one frame, [2, h, w] float32 px of a flow [h, w, 2]."""
    return own_motions(torch.from_numpy(np.ascontiguousarray(flow))[None])[0].numpy()


def near(carried: np.ndarray) -> np.ndarray:
    """How far, 0..1, a pixel may be the object for its distance from where that was carried to ([h, w] bool)."""
    if not carried.any():
        return np.zeros(carried.shape, np.float32)
    reach = NEAR_PX * min(carried.shape) / 240
    box = box_of(carried, int(2 * reach / STEP_PX) + 2)  # beyond which nothing is near
    distance = cv2.distanceTransform((~carried[box]).astype(np.uint8), cv2.DIST_L2, 3)
    found = np.zeros(carried.shape, np.float32)
    found[box] = np.clip(2 - distance / reach, 0, 1)
    return found


def moves_alike(own: np.ndarray, carried: np.ndarray, around: np.ndarray) -> np.ndarray | None:
    """Log-odds that a pixel moves as the object rather than as the camera; None where motion cannot tell.

    Args:
        own: [2, h, w], from own_motion.
        carried: [h, w] bool, the object as it was carried here.
        around: [h, w] bool, where else it might be.
    """
    if not carried.any() or not around.any():
        return None
    scale = min(carried.shape) / 240
    object_motion = np.array([np.median(part[carried]) for part in own], np.float32)
    apart = float(np.linalg.norm(object_motion)) / scale
    # A number of Python's: one of NumPy's would make all that is multiplied with it float64, and take twice the time.
    weight = float(np.clip((apart - SEPARATE_PX) / (SEPARATE_FULL_PX - SEPARATE_PX), 0, 1))
    if weight == 0:
        return None
    from_camera, from_object = _lengths(own), _lengths(own - object_motion[:, None, None])
    odds = np.clip((from_camera - from_object) / scale / max(1.0, apart) * STEEPNESS, -3, 3)
    accuracy = (float((odds[carried] > 0).mean()) + float((odds[around] < 0).mean())) / 2
    weight *= float(np.clip((accuracy - RELIABLE[0]) / (RELIABLE[1] - RELIABLE[0]), 0, 1))
    return ALIKE_WEIGHT * weight * odds


def moves_by_itself(own: np.ndarray, *, least_px: float = MOVING_PX) -> np.ndarray:
    """Log-odds that a pixel moves by itself, [h, w], of own_motion; less than least_px (of 240 lines) is no motion."""
    speed = _lengths(own)
    usual, top = (float(x) for x in np.percentile(speed[::2, ::2], (50, STANDS_OUT_PERCENT)))
    enough = MOVING_TIMES * usual
    if top > STANDS_OUT_TIMES * usual:
        enough = min(enough, STANDS_OUT_SHARE * top)
    enough = max(least_px * min(speed.shape) / 240, enough)
    return np.clip(MOTION_WEIGHT * MOVING_STEEPNESS * np.log((speed + 0.02) / enough), -SURELY_MOVING, SURELY_MOVING)


def surely(odds: np.ndarray, out: np.ndarray | None) -> np.ndarray:
    """Log-odds [h, w] that a pixel moves by itself, at least SURELY_MOVING where out is, [h, w] bool; None: nowhere."""
    return odds if out is None else np.where(out, np.maximum(odds, np.float32(SURELY_MOVING)), odds)


def by_carried(share: np.ndarray, *, named: bool) -> np.ndarray:
    """Log-likelihood of what had this share of each pixel, carried here; named: whether anybody has a name."""
    return log_weighed(share, CARRIED_WEIGHT if named else FOUND_CARRIED_WEIGHT)


def by_look(probability: np.ndarray) -> np.ndarray:
    """Log-likelihood of what each pixel looks like so probably."""
    return log_weighed(probability, LOOK_WEIGHT)


def found_odds(
    before: np.ndarray | None,
    seen: np.ndarray | None,
    motion: np.ndarray | None,
    shape: tuple[int, ...],
    *,
    named: bool = False,
) -> np.ndarray:
    """Log-likelihood of what moves by itself and has no name, [h, w]; of motion and place that beside the background's.

    Args:
        before: [h, w] its share of each pixel, carried here; None while there is nobody.
        seen: [h, w] probability that a pixel looks like it; None if nobody knows.
        motion: [h, w] log-odds that a pixel moves by itself; None if nobody knows.
        shape: h, w.
        named: whether anybody has a name.
    """
    if motion is None and before is None and seen is None:
        return np.full(shape, NOT_FOUND, np.float32)
    odds = aimed_at(shape)
    if motion is not None:
        odds = odds + motion * (2 if before is None else 1)
    if before is not None:
        odds = odds + by_carried(before, named=named)
    if seen is not None:
        odds = odds + by_look(seen)
    return odds


def with_newcomers(odds: np.ndarray, rest: np.ndarray, motion: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Log-likelihood of what moves by itself and has no name: far from who is followed by motion alone.

    There looks tell nothing, so what is new is as likely by them as the background.

    Args:
        odds: [h, w], from found_odds, by all that is known of who is followed.
        rest: [h, w], of the background.
        motion: [h, w], log-odds that a pixel moves by itself.
        where: [h, w] bool, far from who is followed.
    """
    alone = rest + found_odds(None, None, motion, odds.shape) - NEWCOMER_ODDS
    return np.where(where, alone, odds)


def held_against(odds: np.ndarray, slots: np.ndarray, firm: np.ndarray) -> np.ndarray:
    """Log-odds of moves_by_itself, where what stands still in a slot that is firm counts STILL_TIMES against it.

    Args:
        odds: [h, w].
        slots: [h, w] int32, below S.
        firm: [S] bool.
    """
    if not firm.any():
        return odds
    times = np.where(firm, np.float32(STILL_TIMES), np.float32(1))
    return np.minimum(odds, odds * times[slots])  # times are 1 or more: those above 0 stay


def moving_shares(odds: np.ndarray, slots: np.ndarray, count: int) -> np.ndarray:
    """[count] share of each slot of a map [h, w] that moves by itself, of log-odds [h, w]; 0 of one that is nowhere."""
    return id_shares(slots, count, odds > 0)


@functools.lru_cache(maxsize=4)
def aimed_at(shape: tuple[int, ...]) -> np.ndarray:
    """Log-odds that a pixel matters, for its distance from the border; the same read-only array each time."""
    height, width = shape
    across, down = (np.minimum(np.arange(n), np.arange(n)[::-1]) / n for n in (width, height))
    inwards = np.minimum(across[None], down[:, None])
    odds = BORDER[0] + (BORDER[1] - BORDER[0]) * np.clip(inwards / BORDER_SHARE, 0, 1)
    odds = odds.astype(np.float32)
    odds.flags.writeable = False
    return odds


def region_means(
    values: np.ndarray, ids: np.ndarray, areas: np.ndarray, tree: tuple[Tensor, Tensor] | None = None
) -> np.ndarray:
    """The mean over each region, or over all that weak edges part from it; see bodies.

    Args:
        values: [h, w] float or bool.
        ids: [h, w] integers, below R; NumPy counts by intp in a third of the time.
        areas: [R] pixels of each region, as ``numpy.bincount`` of ids gives them.
        tree: how regions join, as Segmentation has it; None: they do not.

    Returns:
        [R] float64.
    """
    sums = np.bincount(ids.ravel(), weights=values.ravel(), minlength=len(areas))
    if tree is None:
        return sums / np.maximum(1, areas)
    return body_means(sums, areas, tree[0].numpy(), tree[1].numpy())


def drawn_to_regions_(share: np.ndarray, ids: np.ndarray, areas: np.ndarray) -> None:
    """Draw a share [h, w] float32, 0..1, to its regions' means, in place: by SNAP of the way, less where one disagrees.

    Args:
        share: the map.
        ids, areas: as region_means has them.

    Cost: two counts over the map, .6 ms at 427x240 on one core.
    """
    means = region_means(share, ids, areas)
    spread = region_means(cv2.multiply(share, share), ids, areas) - means**2
    snaps = SNAP * (1 - np.clip(spread / np.maximum(means * (1 - means), LEAST_SPREAD), 0, 1))
    share *= np.take((1 - snaps).astype(np.float32), ids)
    share += np.take((snaps * means).astype(np.float32), ids)


def drawn_to_bodies_(share: np.ndarray, ids: np.ndarray, areas: np.ndarray, tree: tuple[Tensor, Tensor] | None) -> None:
    """Likewise a share of what has no name, to the means of bodies, by SNAP everywhere: which parts of one move says
    little of where it ends.

    Args:
        share: the map.
        ids, areas, tree: as region_means has them.
    """
    means = region_means(share, ids, areas, tree)
    share *= np.float32(1 - SNAP)
    share += np.take((SNAP * means).astype(np.float32), ids)


def log_weighed(probability: np.ndarray, weight: float) -> np.ndarray:
    """weight times the logarithm; what is nearly sure says no more than what is sure."""
    odds = cv2.log(np.clip(probability, 0.03, 0.97))  # OpenCV's takes a sixth of NumPy's time
    odds *= weight
    return odds


def _lengths(vectors: np.ndarray) -> np.ndarray:
    """[h, w] lengths of vectors [2, h, w]; NumPy's own norm takes five times as long."""
    x, y = vectors
    return np.sqrt(x * x + y * y)
