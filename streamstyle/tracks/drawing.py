"""Objects drawn into a decoded frame: tinted, outlined, named.

Drawn in the planes themselves, so what no object and no name covers stays the bytes it was.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
import torch

from streamstyle.frames import ColorTags, Frame
from streamstyle.media.masks import PALETTE, color_index, object_name
from streamstyle.stages.color import rgb_to_yuv

TINT = 0.5
LABELLED_SHARE = 0.001
"""Objects smaller than this share of the frame are tinted but not named: the words would hide them."""
_FONT = cv2.FONT_HERSHEY_SIMPLEX


class ObjectPainter:
    """Draws the objects of one film's frames, each label in one colour for ever.

    Args:
        color: what the numbers of the film's planes mean.
        names: each label's name; may grow as the film goes on.
    """

    def __init__(self, color: ColorTags, names: Mapping[int, str]) -> None:
        rgb = torch.from_numpy(PALETTE.T.astype(np.float32) / 255)[None, :, None, :]  # [1, 3, 1, 256]
        self._colors = [
            plane.numpy().reshape(256).astype(np.float32) for plane in rgb_to_yuv(rgb, color, subsample=False)
        ]
        black, white = rgb_to_yuv(torch.tensor([0.0, 1.0]).repeat(1, 3, 1, 1), color, subsample=False)[0].flatten()
        self._black, self._white = int(black), int(white)
        self._names = names

    def draw(self, frame: Frame, labels: np.ndarray) -> Frame:
        """The frame with its objects drawn in; labels [H, W] of the frame's size, 0 the background."""
        index = color_index(labels)
        halo, letters = self._words(labels)
        outline = (labels > 0) & _border(labels)
        y = self._tinted(frame.y, index, 0)
        y[outline] = self._white
        y[halo] = self._black
        y[letters] = self._white
        step = 2 if frame.u.shape != frame.y.shape else 1
        shown, grey = index[::step, ::step], (outline | halo)[::step, ::step]
        u, v = (self._tinted(plane, shown, number) for number, plane in ((1, frame.u), (2, frame.v)))
        u[grey] = v[grey] = 128
        return Frame(y, u, v, frame.pts)

    def _tinted(self, plane: np.ndarray, index: np.ndarray, number: int) -> np.ndarray:
        """A plane with every object's pixels moved half way to its colour's number there."""
        mixed = plane + TINT * (self._colors[number][index] - plane)
        return np.where(index > 0, (mixed + 0.5).astype(np.uint8), plane)

    def _words(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the names' dark halo and bright letters are, [H, W] bool each."""
        halo, letters = (np.zeros(labels.shape, np.uint8) for _ in range(2))
        areas = np.bincount(labels.ravel())
        size = max(0.4, labels.shape[0] / 900)
        thickness = max(1, round(2 * size))
        for label in np.flatnonzero(areas[1:] >= LABELLED_SHARE * labels.size) + 1:
            name = self._names.get(int(label), object_name(int(label)))
            text = str(label) if name == object_name(int(label)) else f"{label} {name}"
            (width, height), _ = cv2.getTextSize(text, _FONT, size, thickness)
            at = _beside(_deepest(labels == label), (width, height), labels.shape)
            cv2.putText(halo, text, at, _FONT, size, 1, thickness + 3, cv2.LINE_8)
            cv2.putText(letters, text, at, _FONT, size, 1, thickness, cv2.LINE_8)
        return halo > 0, letters > 0


def _border(labels: np.ndarray) -> np.ndarray:
    """Pixels [H, W] bool beside a pixel of another label."""
    small = labels.astype(np.float32)  # exact up to 2**24; of wide integers OpenCV has no minimum
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    return np.asarray(cv2.dilate(small, cross) != cv2.erode(small, cross))


def _deepest(mask: np.ndarray) -> tuple[int, int]:
    """The pixel (x, y) farthest from the border of a mask [H, W] bool."""
    x0, y0, width, height = cv2.boundingRect(mask.astype(np.uint8))
    inside = np.pad(mask[y0 : y0 + height, x0 : x0 + width].astype(np.uint8), 1)
    row, column = np.unravel_index(int(cv2.distanceTransform(inside, cv2.DIST_L2, 3).argmax()), inside.shape)
    return int(x0 + column - 1), int(y0 + row - 1)


def _beside(middle: tuple[int, int], text: tuple[int, int], shape: tuple[int, ...]) -> tuple[int, int]:
    """Where a text of (width, height) begins, lower left, to stand about a point and inside the frame."""
    x = np.clip(middle[0] - text[0] // 2, 0, max(0, shape[1] - text[0]))
    y = np.clip(middle[1] + text[1] // 2, text[1], max(text[1], shape[0] - 1))
    return int(x), int(y)
