"""A map that follows a picture's colours: around each pixel it is the best linear function of colour, see He et al.

::

    colours, every STRIDE px ──► mean, covariance in each window ─┐
    map, every STRIDE px ──────► mean, covariance with colour ────┴─► a, b of each window, map = a . colour + b
                                                                             │ mean over the windows a pixel is in
    colours, every px ────────────────────────────────────────────► a . colour + b of each pixel
    map, every px, less its own mean over those windows ──────────► + DETAIL of that: what is thin, and of any colour
"""

from __future__ import annotations

import cv2
import numpy as np

STRIDE = 4
"""Pixels each way that share a window. On six DAVIS sequences J is within .002 of every pixel's having its own, which
takes five times as long."""
EPS = 1e-4
"""Variance of colour, black 0 and white 1, that counts as none. Of 2e-5, 1e-4 and 1e-3 the first two give one J, the
last .008 less."""

FIRMNESS = 2.0
"""Shares are so many times further from a half before they follow the colours, in which they would else fade: J on
eight DAVIS sequences is .778 at 1.25, .784 at 1.5, .787 at 2 and at 3."""
DETAIL = 0.2
"""What is kept of that in a share which its windows' mean has not: what is thin fades else. Of those sequences J is
.787 without, .789 at .2, .785 at .4, where what was taken for a part of an object once stays."""


class Windows:
    """Where a map is a linear function of colours: windows around each place of a coarse grid.

    Args:
        colors: [h, w, 3] float64, 0..1: the variance of an even surface is a small difference of large numbers, and the
            grid is small.
        side: of a window, odd.
    """

    def __init__(self, colors: np.ndarray, side: int) -> None:
        self._colors, self.side = colors, side
        self._mean = self.box(colors)
        r, g, b = np.moveaxis(colors, -1, 0)
        seconds = self.box(np.stack([r * r, g * g, b * b], -1)), self.box(np.stack([r * g, r * b, g * b], -1))
        mr, mg, mb = np.moveaxis(self._mean, -1, 0)
        rr, gg, bb = np.moveaxis(seconds[0] - self._mean**2 + EPS, -1, 0)
        rg, rb, gb = np.moveaxis(seconds[1], -1, 0)
        rg, rb, gb = rg - mr * mg, rb - mr * mb, gb - mg * mb
        # The inverse of a symmetric 3 x 3, by its cofactors.
        upper = gg * bb - gb * gb, rb * gb - rg * bb, rg * gb - rb * gg
        lower = rr * bb - rb * rb, rg * rb - rr * gb, rr * gg - rg * rg
        cofactors = np.stack([*upper, *lower])
        self._inverse = cofactors / (rr * cofactors[0] + rg * cofactors[1] + rb * cofactors[2])

    def lines(self, values: np.ndarray, where: tuple[slice, slice] = (slice(None), slice(None))) -> np.ndarray:
        """[h, w, 5] float64: by how much a map rises with each colour, what it is where all are 0, and what it would be
        were colours not asked, each a mean over the windows a place is in.

        Args:
            values: [h, w] float64, of the places of where; nothing outside that, but beyond the grid's end.
            where: rows and columns of the grid, two windows wider than where there is anything, or to its end.
        """
        colors, mean_color = self._colors[where], self._mean[where]
        mean = self.box(values)
        x, y, z = np.moveaxis(self.box(colors * values[..., None]) - mean_color * mean[..., None], -1, 0)
        rr, rg, rb, gg, gb, bb = self._inverse[(slice(None), *where)]
        slope = np.stack([rr * x + rg * y + rb * z, rg * x + gg * y + gb * z, rb * x + gb * y + bb * z], -1)
        offset = mean - (slope * mean_color).sum(-1)
        return self.box(np.concatenate([slope, offset[..., None], mean[..., None]], -1))

    def box(self, planes: np.ndarray) -> np.ndarray:
        """Means over a window."""
        return cv2.blur(planes, (self.side, self.side), borderType=cv2.BORDER_REFLECT)


class GuidedFilter:
    """Filters of one picture.

    Args:
        picture: [3, h, w] uint8.
        radius_px: half the side of a window.

    Cost: the windows of a 427x240 picture .8 ms, each map that is filtered 1.6 ms, on one core.
    Source: He, Sun and Tang 2013; He and Sun 2015 (windows on a coarse grid). Differs: as published.
    """

    def __init__(self, picture: np.ndarray, radius_px: float) -> None:
        self._colors = picture.astype(np.float32) * np.float32(1 / 255)
        height, width = picture.shape[1:]
        self._grid = max(1, width // STRIDE), max(1, height // STRIDE)
        coarse = np.stack([self._shrunk(plane) for plane in self._colors], -1)
        self._windows = Windows(coarse, side_of(radius_px))

    def __call__(self, values: np.ndarray, detail: float = 0.0) -> np.ndarray:
        """A map [h, w] float32 filtered, alike; it may overshoot its range by a little.

        Args:
            values: the map.
            detail: how much of what windows smooth away is kept.
        """
        planes = self._windows.lines(self._shrunk(values)).astype(np.float32)
        # Plane by plane: NumPy takes three times as long for channels that lie together.
        *slopes, filtered, unled = (
            cv2.resize(plane, values.shape[::-1], interpolation=cv2.INTER_LINEAR) for plane in cv2.split(planes)
        )
        for fine, color in zip(slopes, self._colors, strict=True):
            filtered += np.multiply(fine, color, out=fine)
        filtered += np.multiply(np.subtract(values, unled, out=unled), detail, out=unled)
        return filtered

    def _shrunk(self, planes: np.ndarray) -> np.ndarray:
        return cv2.resize(planes, self._grid, interpolation=cv2.INTER_AREA).astype(np.float64)


def side_of(radius_px: float) -> int:
    """Of a window, in places of the grid."""
    return 2 * max(1, round(radius_px / STRIDE)) + 1


def drawn_to_colors(share: np.ndarray, guided: GuidedFilter) -> np.ndarray:
    """A share [h, w] made firm and then like the colours around each pixel, 0..1."""
    share = np.clip((share - 0.5) * FIRMNESS + 0.5, 0, 1)
    return np.clip(guided(share, DETAIL), 0, 1)
