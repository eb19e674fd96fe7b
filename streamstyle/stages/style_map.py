"""From a small map of who is who to soft full-size weights: the two strongest styles of each pixel.

::

    slots [h, w]   looks = table[slots]   one mask a look, smoothed    the two strongest and the first one's weight
      0 0 2 2          a a b b             a: 1 1 .6 0                   (a, b, 1.0) (a, b, .7) (b, a, .7) ...
      0 2 2 2    →     a b b b      →      b: 0 0 .4 1           →

Two styles meet at most pixels of a border, so two and a weight are enough.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from streamstyle.errors import ShapeError

SMOOTH_PX = 0.8
"""Blur of a mask, in pixels of the small map, that rounds its staircase even where the border is hard."""


def style_map(
    looks: Tensor, count: int, size: tuple[int, int], feather_px: float, *, impl: str = "auto"
) -> tuple[Tensor, Tensor, Tensor]:
    """Enlarge maps of looks with soft borders.

    Args:
        looks: [N, h, w] int32, 0 .. count - 1.
        count: K, how many looks there are.
        size: (height, width) of the frame.
        feather_px: width of the soft border in the frame's pixels; 0 for a hard one.
        impl: "auto" (OpenCV on a CPU) or "ref" (torch and kornia on any device).

    Returns:
        first, second [N, height, width] uint8 and first's weight [N, height, width] float32, 0.5 .. 1. Where a pixel
        is far from every border second is arbitrary and the weight is 1.

    Raises:
        ShapeError: looks is not int32 [N, h, w].

    Cost: about 5 K bytes a pixel; no synchronisation.
    """
    if looks.ndim != 3 or looks.dtype != torch.int32:
        raise ShapeError(f"looks must be int32 [N, h, w], got {looks.dtype} {[*looks.shape]}")
    scale = max(size[0] / looks.shape[1], 1e-6)
    blur = max(SMOOTH_PX, feather_px / 2.5 / scale)
    # A step blurred by sigma has slope 1 / (sigma sqrt(2 pi)) at the border: this gain makes the ramp feather_px wide.
    gain = math.inf if feather_px <= 0 else blur * scale * math.sqrt(2 * math.pi) / feather_px
    if impl == "auto" and looks.device.type == "cpu" and len(looks) > 0:
        frames = [_strongest_two(frame, count, size, blur) for frame in looks.numpy()]
        first, second, best, next_best = (torch.from_numpy(np.stack(part)) for part in zip(*frames, strict=True))
    else:
        masks = torch.stack([(looks == k).float() for k in range(max(2, count))], 1)
        masks = F.interpolate(_gaussian(masks, blur), size, mode="bilinear", align_corners=False)
        values, order = masks.topk(2, dim=1)
        best, next_best = values.unbind(1)
        first, second = order.clamp_(max=count - 1).to(torch.uint8).unbind(1)
    share = best.float() / (best.float() + next_best.float()).clamp_min(1e-6)
    if math.isinf(gain):
        return first, second, torch.ones_like(share)
    return first, second, ((share - 0.5) * gain + 0.5).clamp_(0.5, 1)


def _gaussian(masks: Tensor, sigma: float) -> Tensor:
    from kornia.filters import filter2d_separable  # here, because importing kornia takes most of a second

    radius = min(round(3 * sigma), min(masks.shape[2:]) - 1)
    if radius < 1:
        return masks
    # Made on the device: kornia's gaussian_blur2d brings sigma from the host, and waits for it.
    curve = torch.arange(-radius, radius + 1, dtype=masks.dtype, device=masks.device).square_().mul_(-0.5 / sigma**2)
    curve = (curve.exp_() / curve.sum()).view(1, -1)
    return filter2d_separable(masks, curve, curve, border_type="reflect")


def _strongest_two(
    looks: np.ndarray, count: int, size: tuple[int, int], sigma: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Indices and values (0..255) of the largest and second largest smoothed mask of each full-size pixel.

    The most common look is laid down first; each other one is compared only inside its own box.
    """
    areas = np.bincount(looks.ravel(), minlength=count)
    order = [int(k) for k in np.argsort(-areas, kind="stable") if areas[k]]
    radius = min(round(3 * sigma), min(looks.shape) - 1)
    best, next_best = np.zeros(size, np.uint8), np.zeros(size, np.uint8)
    first = np.full(size, order[0], np.uint8)
    second = np.full(size, order[min(1, len(order) - 1)], np.uint8)
    for k in order:
        small = (looks == k).astype(np.uint8) * np.uint8(255)
        box = _box(small, radius + 2, size)
        if radius >= 1:
            small = cv2.GaussianBlur(small, (2 * radius + 1,) * 2, sigma, borderType=cv2.BORDER_REFLECT_101)
        mask = cv2.resize(small, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
        if k == order[0]:
            best = mask
            continue
        mask, b, n, f, s = (x[box] for x in (mask, best, next_best, first, second))
        wins = mask > b
        runner = ~wins & (mask > n)
        np.copyto(s, f, where=wins)
        np.copyto(n, b, where=wins)
        np.copyto(f, k, where=wins)
        np.copyto(b, mask, where=wins)
        np.copyto(s, k, where=runner)
        np.copyto(n, mask, where=runner)
    return first, second, best, next_best


def _box(mask: np.ndarray, margin: int, size: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns, at full size, that a small mask can reach when blurred and enlarged."""
    slices = []
    for axis in range(2):
        at = np.flatnonzero(mask.any(1 - axis))
        scale = size[axis] / mask.shape[axis]
        slices.append(slice(max(0, int((at[0] - margin) * scale)), int((at[-1] + 1 + margin) * scale) + 1))
    return slices[0], slices[1]
