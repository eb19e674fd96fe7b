"""The last step at objects' borders: each pixel beside one is a mean of those around it that have its colour.

A guided filter's windows are wide and its picture coarse; what is as thin as a pixel or two is left to this.

Source: Tomasi and Manduchi 1998, of one map by another picture (Petschnigg et al. 2004). Differs: at borders alone.
"""

from __future__ import annotations

import cv2
import numpy as np

REACH_PX = 2
"""Each way, without corners, of the analysed picture whatever its size; 3 gives the same J."""
SPACE_PX = 1.2
"""Of the Gaussian over them, likewise."""
COLOR = 25.0
"""Of 255, over all three channels together, that counts as another colour; of 20, 25 and 30 one J comes. On eight DAVIS
sequences J is .789 without, .792 with; a blur of that size without colours takes .003."""


def smooth_borders_(shares: np.ndarray, picture: np.ndarray) -> None:
    """Filter shares in place, where a border of any is within REACH_PX.

    Args:
        shares: [K, h, w] float32; a border is where one of them passes a half.
        picture: [3, h, w] uint8.

    Cost: of each pixel beside a border of any, all shares: some 1 ms an object at 427x240 on one core.
    """
    y, x = np.nonzero(_beside_borders(shares))
    if not y.size:
        return
    # Grown by what is at the border, so that a neighbour is a constant away; all neighbours at once.
    (down, right), line = _around(), shares.shape[2] + 2 * REACH_PX
    at = (y + REACH_PX) * line + x + REACH_PX
    there = at + (down * line + right)[:, None]
    apart = np.zeros(there.shape, np.int32)
    for plane in picture:
        values = _grown(plane)
        by = values.take(there).astype(np.int32)
        by -= values.take(at)
        apart += np.multiply(by, by, out=by)
    weights = cv2.exp(apart.astype(np.float32) * np.float32(-0.5 / COLOR**2))
    weights *= np.exp(-(down**2 + right**2) / (2 * SPACE_PX**2)).astype(np.float32)[:, None]
    total = weights.sum(0)
    for share in shares:
        parts = _grown(share).take(there)
        share[y, x] = np.multiply(parts, weights, out=parts).sum(0) / total


def _grown(plane: np.ndarray) -> np.ndarray:
    """A plane [h, w], REACH_PX larger each way, in one row."""
    return cv2.copyMakeBorder(plane, *(REACH_PX,) * 4, cv2.BORDER_REPLICATE).ravel()


def _beside_borders(shares: np.ndarray) -> np.ndarray:
    """[h, w] bool, where the square around a pixel has some of an object and some that is not."""
    found, square = np.zeros(shares.shape[1:], bool), np.ones((2 * REACH_PX + 1,) * 2, np.uint8)
    for share in shares:
        found |= cv2.morphologyEx((share > 0.5).view(np.uint8), cv2.MORPH_GRADIENT, square) > 0
    return found


def _around() -> np.ndarray:
    """Rows and columns to the pixels around one, and to itself: [2, P]."""
    steps = range(-REACH_PX, REACH_PX + 1)
    return np.array([(y, x) for y in steps for x in steps if y**2 + x**2 < 2 * REACH_PX**2]).T
