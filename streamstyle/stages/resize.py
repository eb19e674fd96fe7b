"""Planes to another size: shrinking averages, growing interpolates; a kernel shrinks on CUDA, OpenCV on a CPU."""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from streamstyle.errors import ShapeError
from streamstyle.gpu.kernels import chosen, launch

STEM = "resize"
MOST_PX = (1 << 15) - 1
"""The largest side whose parts the kernel counts in 32 bits."""


def small_size(shape: tuple[int, ...], short_side: int) -> tuple[int, int]:
    """(height, width) of a picture [H, W] shrunk to a short side, aspect kept; never larger than it is."""
    height, width = shape[-2:]
    scale = min(1.0, short_side / min(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def resize_planes(planes: Tensor, size: tuple[int, int], *, impl: str = "auto") -> Tensor:
    """Resize uint8 planes to (height, width).

    Args:
        planes: [N, H, W] uint8.
        size: (height, width) wanted.
        impl: "auto" (the kernel on CUDA where neither side grows, OpenCV on a CPU), "ref" (torch) or "cuda".

    Returns:
        [N, height, width] uint8. The kernel equals the reference, OpenCV is within two levels of it.

    Raises:
        ShapeError: planes is not uint8 [N, H, W].

    Cost: one launch and a byte a pixel where it shrinks; the reference several passes of int64. No synchronisation.
    """
    if planes.ndim != 3 or planes.dtype != torch.uint8:
        raise ShapeError(f"planes must be uint8 [N, H, W], got {planes.dtype} {[*planes.shape]}")
    if tuple(planes.shape[1:]) == tuple(size):
        return planes
    height, width = size
    shrinks = height <= planes.shape[1] and width <= planes.shape[2]
    if chosen(impl, planes) and shrinks and max(planes.shape[1:]) <= MOST_PX:
        return _shrink_cuda(planes.contiguous(), size)
    if impl != "auto" or planes.device.type != "cpu" or len(planes) == 0:
        return _resize_planes_ref(planes, size)
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized = [cv2.resize(plane, (width, height), interpolation=method) for plane in planes.numpy()]
    return torch.from_numpy(np.stack(resized).reshape(-1, height, width))


def _resize_planes_ref(planes: Tensor, size: tuple[int, int]) -> Tensor:
    shrinks = size[0] <= planes.shape[1] and size[1] <= planes.shape[2]
    if shrinks:
        sums = _area_sums(_area_sums(planes.long(), size[1]).transpose(1, 2), size[0]).transpose(1, 2)
        pixels = planes.shape[1] * planes.shape[2]
        return ((sums + pixels // 2) // pixels).to(torch.uint8)
    resized = F.interpolate(planes[:, None].float(), size, mode="bilinear", align_corners=False)[:, 0]
    return (resized + 0.5).clamp_(0, 255).to(torch.uint8)


def _area_sums(x: Tensor, length: int) -> Tensor:
    """Int64 sums of the last axis over length equal cells, each element counted in parts of 1 / length.

    The integral of a piecewise-constant picture: whole numbers, so exact for cells that cut elements too.
    """
    full = x.shape[-1]
    integral = F.pad(x.cumsum(-1), (1, 0))
    edges = torch.arange(length + 1, device=x.device) * full
    at = (edges // length).clamp_(max=full - 1)
    value = integral[..., at] * length + (edges - at * length) * x[..., at]
    return value.diff(dim=-1)


def _shrink_cuda(planes: Tensor, size: tuple[int, int]) -> Tensor:
    small = planes.new_empty(len(planes), *size)
    lines = len(planes) * size[0]
    launch(STEM, "resize_shrink", lines, planes, small, lines, *planes.shape[1:], *size, by_block=True)
    return small
