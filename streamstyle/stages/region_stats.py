"""Area, box and centroid of every region."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from streamstyle.errors import ShapeError


@dataclass(frozen=True)
class RegionStats:
    """Per frame and region, region 0 included: area [N, R] int64 px, box_xyxy [N, R, 4] int64 half-open px,
    centroid [N, R, 2] float64 (x, y) px. An absent region has area 0, an empty box (0, 0, 0, 0) and centroid (0, 0).
    """

    area: Tensor
    box_xyxy: Tensor
    centroid: Tensor


def region_areas(ids: Tensor, regions: int) -> Tensor:
    """Pixels of every region: [N, regions] int64 for ids [N, H, W] int32 in 0 .. regions - 1."""
    if ids.ndim != 3 or ids.dtype != torch.int32:
        raise ShapeError(f"ids must be int32 [N, H, W], got {ids.dtype} {[*ids.shape]}")
    frame = torch.arange(ids.shape[0], device=ids.device).view(-1, 1, 1) * regions
    area = torch.zeros(ids.shape[0] * regions, dtype=torch.int64, device=ids.device)
    area.scatter_add_(0, (ids.long() + frame).flatten(), torch.ones_like(area[:1]).expand(ids.numel()))
    return area.view(ids.shape[0], regions)


def region_stats(ids: Tensor, regions: int) -> RegionStats:
    """Measure every region.

    Args:
        ids: [N, H, W] int32, 0 .. regions - 1.
        regions: R, one more than the largest id.

    Returns:
        A RegionStats on ids' device.

    Raises:
        ShapeError: ids is not int32 [N, H, W].

    Cost: seven scatters; no synchronisation.
    """
    area = region_areas(ids, regions)
    count, height, width = ids.shape
    device = ids.device
    where = (ids.long() + torch.arange(count, device=device).view(-1, 1, 1) * regions).flatten()
    x = torch.arange(width, device=device).expand(count, height, width).reshape(-1)
    y = torch.arange(height, device=device).view(-1, 1).expand(count, height, width).reshape(-1)

    def gather(values: Tensor, how: str) -> Tensor:
        out = torch.zeros(count * regions, dtype=values.dtype, device=device)
        return out.scatter_reduce_(0, where, values, how, include_self=False).view(count, regions)

    seen = area > 0
    corners = [gather(x, "amin"), gather(y, "amin"), gather(x, "amax") + seen, gather(y, "amax") + seen]
    middle = torch.stack([gather(v.double(), "sum") for v in (x, y)], -1) / area.clamp_min(1)[..., None]
    return RegionStats(area, torch.stack(corners, -1), middle)
