"""Painting a part of a frame: where that is, and how it comes out as it would of the whole.

With frozen statistics nothing depends on the rest of the frame, so a box with as much around it as the network sees
is enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from streamstyle.nets.painting import Affine
from streamstyle.stages.network_stylizer import NetworkStylizer
from streamstyle.stages.stylize_regions import RegionStylizer

Painter = RegionStylizer | NetworkStylizer
BOX_STEP_PX = 32
"""Boxes begin and end on multiples of it: a workspace serves many frames, and strides fall alike."""
BOX_PAYS = 0.7
"""Share of the frame from which on all of it is painted at once."""


@dataclass(frozen=True)
class Box:
    """Rows and columns of a frame, half-open."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def area_px(self) -> int:
        """Pixels in it."""
        return max(0, self.bottom - self.top) * max(0, self.right - self.left)

    def meet(self, other: Box, grown_px: int = 0) -> Box:
        """What lies in both, once the other has grown on all sides; NOWHERE where nothing does."""
        top, left = max(self.top, other.top - grown_px), max(self.left, other.left - grown_px)
        bottom, right = min(self.bottom, other.bottom + grown_px), min(self.right, other.right + grown_px)
        return Box(top, left, bottom, right) if top < bottom and left < right else NOWHERE

    def moved(self, down: int, right: int) -> Box:
        """The same elsewhere; what is nowhere stays there."""
        if not self.area_px:
            return self
        return Box(self.top + down, self.left + right, self.bottom + down, self.right + right)

    def join(self, other: Box) -> Box:
        """The smallest that holds both."""
        if not self.area_px or not other.area_px:
            return self if self.area_px else other
        top, left = min(self.top, other.top), min(self.left, other.left)
        return Box(top, left, max(self.bottom, other.bottom), max(self.right, other.right))

    def on_grid(self, size: Sequence[int]) -> Box:
        """The same, outwards to multiples of BOX_STEP_PX within a frame of (height, width)."""
        top, left = (x // BOX_STEP_PX * BOX_STEP_PX for x in (self.top, self.left))
        bottom, right = (
            min(full, -(-x // BOX_STEP_PX) * BOX_STEP_PX)
            for x, full in zip((self.bottom, self.right), size, strict=True)
        )
        return Box(top, left, bottom, right)

    def scaled(self, old: Sequence[int], new: Sequence[int]) -> Box:
        """The same on a frame of (height, width) new instead of old, outwards."""
        (top, bottom), (left, right) = (
            (begin * after // before, min(after, -(-end * after // before)))
            for begin, end, before, after in zip(
                (self.top, self.left), (self.bottom, self.right), old, new, strict=True
            )
        )
        return Box(top, left, bottom, right)


CHROMA_PX = 4
"""How far a pixel's colour reaches into its neighbours' chroma, and more."""
NOWHERE = Box(0, 0, 0, 0)


def narrowed(box: Box | None, within: Box | None, size: Sequence[int], grown_px: int) -> Box | None:
    """Of a box (None: of all the frame) what lies within another that has grown; None where that is nearly all."""
    if within is None:
        return box
    part = (box or Box(0, 0, size[0], size[1])).meet(within, grown_px)
    return None if box is None and part.area_px >= BOX_PAYS * size[0] * size[1] else part


def box_of(looks: np.ndarray | None, by: frozenset[int], size: Sequence[int], margin_px: float) -> Box | None:
    """What of N frames some looks may reach; None where that is nearly all.

    Args:
        looks: [N, h, w] int32; None where all wear one.
        by: the looks that count.
        size: (height, width) of the frames.
        margin_px: how far beyond the map's own pixels, in pixels of the frames.
    """
    if looks is None:
        return None
    worn = np.isin(looks, list(by)).any(0)
    if not worn.any():
        return NOWHERE
    spans = []
    for axis, full in enumerate(size):
        at = np.flatnonzero(worn.max(axis=1 - axis))
        scale = full / worn.shape[axis]
        reach = margin_px + 4 * scale
        begin = max(0, int((at[0] * scale - reach) // BOX_STEP_PX) * BOX_STEP_PX)
        end = min(full, -int(-((at[-1] + 1) * scale + reach) // BOX_STEP_PX) * BOX_STEP_PX)
        spans.append((begin, end))
    (top, bottom), (left, right) = spans
    if (bottom - top) * (right - left) >= BOX_PAYS * size[0] * size[1]:
        return None
    return Box(top, left, bottom, right)


def paint_box(painter: Painter, rgb: Tensor, affine: Affine, index: Tensor | None, box: Box) -> Tensor:
    """What a painter makes of the box, as it would be of all the frame: with what lies around it, as far as it sees.

    Returns:
        [N, 3, H, W]; rgb outside the box.
    """
    image = rgb.to(painter.dtype, memory_format=torch.channels_last, copy=True)
    if box.bottom <= box.top or box.right <= box.left:
        return image
    if isinstance(painter, NetworkStylizer):
        inner = painter.paint(rgb, affine, (box.top, box.left, box.bottom, box.right))
        image[:, :, box.top : box.bottom, box.left : box.right] = inner
        return image
    halo, (height, width) = painter.halo_px, rgb.shape[2:]
    top, left = (max(0, (x - halo) // 4 * 4) for x in (box.top, box.left))
    bottom, right = (
        size if x + halo + 4 >= size else -(-(x + halo) // 4) * 4
        for x, size in ((box.bottom, height), (box.right, width))
    )
    rows = None if index is None else index[:, top:bottom, left:right].contiguous()
    painted = painter.paint(rgb[:, :, top:bottom, left:right], affine, rows)
    inner = painted[:, :, box.top - top : box.bottom - top, box.left - left : box.right - left]
    image[:, :, box.top : box.bottom, box.left : box.right] = inner
    return image
