"""Strokes of one size in films of any size: painted small, and enlarged.

A network's strokes are so many pixels wide. Where the film has more than REFERENCE_PX lines, or larger strokes are
asked for, a smaller picture is painted, and the painting is enlarged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

REFERENCE_PX = 480
"""Lines of a film whose strokes are as the networks make them; up to here smaller films are painted as they are."""
SAME = 0.02
"""A size so little off is taken as it is."""


def working_size(size: Sequence[int], scale: float) -> tuple[int, int]:
    """The size at which frames are painted.

    Args:
        size: (height, width) of the film.
        scale: of the strokes; 2 are twice as large.

    Returns:
        (height, width); size itself where it is nearly that, and never more than 4 times size or less than 16 pixels.
    """
    factor = max(0.25, scale * max(1.0, min(size) / REFERENCE_PX))
    if abs(factor - 1) < SAME:
        return size[0], size[1]
    height, width = (max(16, round(pixels / factor)) for pixels in size)
    return height, width


def enlarging_px(size: Sequence[int], scale: float) -> int:
    """How far in a painting of (height, width) a pixel of the smaller one reaches by being enlarged."""
    small = working_size(size, scale)
    if small == tuple(size):
        return 0
    return math.ceil(4 * max(full / part for full, part in zip(size, small, strict=True)))


def shrink(rgb: Tensor, size: tuple[int, int]) -> Tensor:
    """Frames [N, 3, H, W] at another size, by the mean of what each pixel covers; rgb itself where it has that size."""
    return rgb if tuple(rgb.shape[2:]) == size else _resized(rgb, size, cv2.INTER_AREA)


def enlarge(image: Tensor, size: Sequence[int]) -> Tensor:
    """A painting [N, 3, h, w], 0..1, at the film's size (bicubic; by means where that is smaller), channels-last."""
    if tuple(image.shape[2:]) == tuple(size):
        return image
    smaller = image.shape[2] > size[0]
    return _resized(image, size, cv2.INTER_AREA if smaller else cv2.INTER_CUBIC).clamp_(0, 1)


def _resized(image: Tensor, size: Sequence[int], how: int) -> Tensor:
    """On a CPU by OpenCV: torch takes five times as long."""
    height, width = size
    if how == cv2.INTER_AREA and (height > image.shape[2] or width > image.shape[3]):
        how = cv2.INTER_CUBIC
    if image.device.type == "cpu":
        frames = [
            cv2.resize(np.ascontiguousarray(frame.float().permute(1, 2, 0).numpy()), (width, height), interpolation=how)
            for frame in image
        ]
        return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).to(image.dtype)
    mode, antialias = ("bilinear", True) if how == cv2.INTER_AREA else ("bicubic", False)
    resized = F.interpolate(image.float(), (height, width), mode=mode, antialias=antialias)
    return resized.to(image.dtype, memory_format=torch.channels_last)
