"""Area, box, centroid and mean colour of every region; the largest; holes; fewer regions.

::

    ids             area  box_xyxy      fill_holes: 0s between 4-neighbours of one id alone, not at the border
    0 1 1 1 2       1: 8  (1, 0, 4, 3)  0 1 1 1 2
    0 1 0 1 2       2: 3  (4, 0, 5, 3)  0 1 1 1 2
    0 1 1 1 2                           0 1 1 1 2

An id outside 0 .. regions - 1 counts as 0, here and in the kernels.

Source: warp-aggregated atomics (Adinets 2014); privatised histograms (Podlozhnyuk 2007).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from streamstyle.errors import ShapeError
from streamstyle.gpu.kernels import chosen, launch, tunable
from streamstyle.stages.connected_components import connected_components

STEM = "region_stats"
MOST_PX = 2**31 - 2**13
"""In a frame: the kernels count its pixels, and a little beyond, in int32."""
MOST_ENTRIES = 2**28
"""In a table of regions: 2 GiB of areas."""
INT32 = torch.iinfo(torch.int32)


@dataclass(frozen=True)
class RegionStats:
    """Per frame and region, region 0 included: area [N, R] int64 px, box_xyxy [N, R, 4] int64 half-open px, centroid
    [N, R, 2] float32 (x, y) px, color [N, R, 3] float32 mean of the rgb given, if any. An absent region has area 0, an
    empty box (0, 0, 0, 0), centroid (0, 0) and colour (0, 0, 0).
    """

    area: Tensor
    box_xyxy: Tensor
    centroid: Tensor
    color: Tensor | None = None


def region_areas(ids: Tensor, regions: int, *, impl: str = "auto") -> Tensor:
    """Count the pixels of every region.

    Args:
        ids: [N, H, W] int32, 0 .. regions - 1; an id outside counts as 0.
        regions: R, one more than the largest id.
        impl: "auto" (the kernels on CUDA, else torch), "ref" or "cuda".

    Returns:
        [N, R] int64 on ids' device.

    Raises:
        ShapeError: ids is not [N, H, W] int32, a frame or the table has more entries than are counted, or regions is
            less than 1.

    Cost: 1 launch, 4 bytes a pixel, no synchronisation. On a CPU about 4 ms at 1080p.
    """
    _check(ids, regions)
    if ids.numel() and chosen(impl, ids):
        return _region_areas_cuda(ids.contiguous(), regions)
    if impl == "auto" and ids.device.type == "cpu" and 0 < ids[:1].numel() < 1 << 24:  # a float counts exactly so far
        return torch.from_numpy(np.stack([id_areas(frame, regions) for frame in known_ids(ids, regions).numpy()]))
    return _region_areas_ref(ids, regions)


def region_stats(ids: Tensor, regions: int, rgb: Tensor | None = None, *, impl: str = "auto") -> RegionStats:
    """Measure every region.

    Args:
        ids: [N, H, W] int32, 0 .. regions - 1; an id outside counts as 0.
        regions: R, one more than the largest id.
        rgb: [N, 3, H, W] uint8, for the mean colours.
        impl: "auto" (the kernels on CUDA, else torch), "ref" or "cuda".

    Returns:
        A RegionStats on ids' device. Sums are exact integers, so every thread order agrees; means are their quotients
        in float32.

    Raises:
        ShapeError: as for region_areas, or rgb does not fit ids.

    Cost: 1 launch and a dozen operations on the table, 4 bytes a pixel, 7 with rgb, no synchronisation. The reference
    makes seven scatters, ten with rgb.
    """
    _check(ids, regions)
    count, height, width = ids.shape
    if rgb is not None and (rgb.dtype != torch.uint8 or rgb.shape != (count, 3, height, width)):
        raise ShapeError(f"rgb must be uint8 {[count, 3, height, width]} as ids are, got {rgb.dtype} {[*rgb.shape]}")
    if rgb is not None and rgb.device != ids.device:
        raise ShapeError(f"rgb must be on ids' device, {ids.device}, got {rgb.device}")
    if ids.numel() and chosen(impl, ids):
        sums, low, high = _sums_cuda(ids.contiguous(), regions, rgb)
    else:
        sums, low, high = _sums_ref(ids, regions, rgb)
    area = sums[..., 0].contiguous()
    means = sums[..., 1:].float() / area.clamp_min(1)[..., None]
    box = torch.cat([low * (area > 0)[..., None], high], -1).long()
    return RegionStats(area, box, means[..., :2], None if rgb is None else means[..., 2:])


def largest_region(areas: Tensor) -> Tensor:
    """Find the largest region of each frame.

    Args:
        areas: [N, R] int64 from :func:`region_areas`.

    Returns:
        [N] int32: its id, 0 aside, the lowest of equals; 0 where there is no region.

    Raises:
        ShapeError: areas is not [N, R] int64 with R at least 1.

    Cost: a few operations on the table (torch's own maximum keeps the first of equals), no synchronisation.
    """
    _check_areas(areas)
    candidates = areas.clone()
    candidates[:, 0] = 0
    return candidates.argmax(1).to(torch.int32)  # the first of equals: 0 where all are 0


def limit_regions(ids: Tensor, areas: Tensor, most: int, *, impl: str = "auto") -> tuple[Tensor, Tensor]:
    """Keep the largest regions, so that a table of `most` entries holds them; the smallest go to the background.

    Args:
        ids: [N, H, W] int32, 0 .. R - 1; an id outside counts as 0.
        areas: [N, R] int64 of these ids, from :func:`region_areas`.
        most: how many ids there may be, 0 included: the most - 1 largest regions stay, of equals the lower id.
        impl: "auto" (the kernels on CUDA, else torch), "ref" or "cuda".

    Returns:
        ids [N, H, W] int32, renumbered 1, 2, 3 ... in the order they had, and how many regions of each frame went to
        the background, [N] int64. An id that no pixel has takes no number and is not counted.

    Raises:
        ShapeError: ids or areas do not fit, or most is less than 1.

    Cost: a sort of the table and 1 launch, 8 bytes a pixel, no synchronisation.
    """
    _check_areas(areas)
    _check(ids, areas.shape[1])
    if len(areas) != len(ids) or areas.device != ids.device:
        raise ShapeError(
            f"areas must be of ids' frames, [{len(ids)}, R] on {ids.device}, got {[*areas.shape]} on {areas.device}"
        )
    if most < 1:
        raise ShapeError(f"most must be at least 1, for the background, got {most}")
    present = areas > 0
    present[:, 0] = False
    stays = present
    if most < areas.shape[1]:
        best = areas[:, 1:].argsort(dim=1, descending=True, stable=True)[:, : most - 1] + 1
        stays = torch.zeros_like(present).scatter_(1, best, True) & present
    table = torch.where(stays, stays.cumsum(1), 0).to(torch.int32)
    dropped = present.sum(1) - stays.sum(1)
    if ids.numel() and chosen(impl, ids):
        return _look_up_cuda(ids.contiguous(), table), dropped
    return table.gather(1, known_ids(ids, areas.shape[1]).flatten(1).long()).view_as(ids), dropped


def fill_holes(ids: Tensor, *, impl: str = "auto") -> Tensor:
    """Give the holes of regions to them.

    A hole is a 4-connected part of the pixels with id 0 that does not touch the frame's border, and beside which (by
    4-neighbours) there is one id only.

    Args:
        ids: [N, H, W] int32; 0 is no region.
        impl: "auto" (the kernels on CUDA, else torch and OpenCV), "ref" or "cuda".

    Returns:
        [N, H, W] int32: ids, with that id in each hole.

    Raises:
        ShapeError: ids is not [N, H, W] int32 or a frame has more pixels than int32 counts.

    Cost: 4 launches beside those of connected_components, 29 bytes a pixel beside its 6, no synchronisation.
    """
    _check(ids, 1)
    if ids.numel() == 0:
        return ids.clone()
    parts = connected_components(ids == 0, connectivity=4, impl=impl)
    if chosen(impl, ids):
        return _fill_holes_cuda(ids.contiguous(), parts)
    return _fill_holes_ref(ids, parts)


def _check(ids: Tensor, regions: int) -> None:
    if ids.ndim != 3 or ids.dtype != torch.int32:
        raise ShapeError(f"ids must be int32 [N, H, W], got {ids.dtype} {[*ids.shape]}")
    if ids.shape[1] * ids.shape[2] > MOST_PX:
        raise ShapeError(f"pixels are counted in int32 and a frame of {[*ids.shape[1:]]} has more than {MOST_PX}")
    if regions < 1:
        raise ShapeError(f"regions must be at least 1, for the background, got {regions}")
    entries = len(ids) * regions
    if entries > MOST_ENTRIES:
        raise ShapeError(f"{len(ids)} frames of {regions} regions are {entries} entries; {MOST_ENTRIES} is the most")


def _check_areas(areas: Tensor) -> None:
    if areas.ndim != 2 or areas.dtype != torch.int64 or areas.shape[1] < 1:
        raise ShapeError(f"areas must be int64 [N, R] with R at least 1, got {areas.dtype} {[*areas.shape]}")


def known_ids(ids: Tensor, regions: int) -> Tensor:
    """The ids, with 0 for those outside 0 .. regions - 1."""
    if ids.device.type == "cpu" and ids.numel():  # a look at both ends costs a CPU less than a pass
        seen = ids.numpy()  # NumPy finds an end in 0.1 ms at 1080p, torch both in 4
        if seen.min() >= 0 and seen.max() < regions:
            return ids
    return torch.where((ids >= 0) & (ids < regions), ids, 0)


def _slots(ids: Tensor, regions: int) -> Tensor:
    """[N * H * W] int64: frame * regions + id."""
    frame = torch.arange(len(ids), dtype=torch.int32, device=ids.device).view(-1, 1, 1)
    return (known_ids(ids, regions) + frame * regions).flatten().long()


def id_areas(ids: np.ndarray, regions: int, where: np.ndarray | None = None) -> np.ndarray:
    """Areas of ids, exact to 2**24 px; OpenCV is twice as fast as NumPy.

    Args:
        ids: [h, w] int32, not below 0.
        regions: those from there on are not counted.
        where: [h, w] bool, which pixels are; None: all.

    Returns:
        [regions] int64.
    """
    if regions > 1 << 16:
        return np.bincount(ids.ravel() if where is None else ids[where], minlength=regions)[:regions]
    mask = None if where is None else where.view(np.uint8)
    counts = cv2.calcHist([ids.astype(np.uint16)], [0], mask, [regions], [0, regions])
    return counts.ravel().astype(np.int64)


def id_shares(ids: np.ndarray, regions: int, where: np.ndarray) -> np.ndarray:
    """Of each id the share of its pixels that a mask [h, w] bool has, [regions] float64; 0 of one that is nowhere."""
    return id_areas(ids, regions, where) / np.maximum(1, id_areas(ids, regions))


def _region_areas_ref(ids: Tensor, regions: int) -> Tensor:
    area = torch.zeros(len(ids), regions, dtype=torch.int64, device=ids.device)
    if ids.device.type == "cpu":
        for frame, counts in zip(known_ids(ids, regions), area, strict=True):
            counts += torch.bincount(frame.flatten(), minlength=regions)
        return area
    ones = area.new_ones(1).expand(ids.numel())  # bincount would synchronise
    area.view(-1).scatter_add_(0, _slots(ids, regions), ones)
    return area


def _sums_ref(ids: Tensor, regions: int, rgb: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Int64 sums [N, R, 3 or 6] of 1, x, y and the colours; int32 least x and y, and 1 + the most, [N, R, 2]."""
    area = _region_areas_ref(ids, regions)
    slots = _slots(ids, regions)
    count, height, width = ids.shape
    x, y = (torch.arange(size, dtype=torch.int32, device=ids.device) for size in (width, height))
    x, y = x.expand(count, height, width).reshape(-1), y.view(-1, 1).expand(count, height, width).reshape(-1)
    colors = [] if rgb is None else [plane.reshape(-1) for plane in rgb.unbind(1)]

    def gather(values: Tensor, how: str) -> Tensor:
        out = torch.zeros(count * regions, dtype=values.dtype, device=ids.device)
        return out.scatter_reduce_(0, slots, values, how, include_self=False).view(count, regions)

    sums = torch.stack([area, *(gather(values.long(), "sum") for values in (x, y, *colors))], -1)
    low = torch.stack([gather(x, "amin"), gather(y, "amin")], -1)
    high = torch.stack([gather(x, "amax"), gather(y, "amax")], -1) + (area > 0)[..., None]
    return sums, low, high


def _fill_holes_ref(ids: Tensor, parts: Tensor) -> Tensor:
    # Beside a pixel; the border, as what pads, is below and above every id.
    low = F.pad(torch.where(ids == 0, INT32.max, ids), (1, 1, 1, 1), value=INT32.min)
    high = F.pad(torch.where(ids == 0, INT32.min, ids), (1, 1, 1, 1), value=INT32.max)
    low = torch.minimum(
        torch.minimum(low[:, 1:-1, :-2], low[:, 1:-1, 2:]), torch.minimum(low[:, :-2, 1:-1], low[:, 2:, 1:-1])
    )
    high = torch.maximum(
        torch.maximum(high[:, 1:-1, :-2], high[:, 1:-1, 2:]), torch.maximum(high[:, :-2, 1:-1], high[:, 2:, 1:-1])
    )
    size = 1 + ids.shape[1] * ids.shape[2]
    frame = torch.arange(len(ids), device=ids.device).view(-1, 1, 1)
    at = (frame * size + parts).flatten()  # entry 0 of a frame's table, where there is an id, is never read
    table = torch.zeros(len(ids) * size, dtype=torch.int32, device=ids.device)
    told: Tensor | slice = slice(None)
    if ids.device.type == "cpu":  # few pixels have anything to tell; to count them, a GPU would synchronise
        told = ((ids == 0) & (low <= high)).flatten().nonzero()[:, 0]
    least = table.scatter_reduce(0, at[told], low.flatten()[told], "amin", include_self=False)[at].view_as(ids)
    most = table.scatter_reduce(0, at[told], high.flatten()[told], "amax", include_self=False)[at].view_as(ids)
    return torch.where((ids == 0) & (least == most), least, ids)


def _measured_tiles(ids: Tensor) -> int:
    rows, columns = tunable(STEM, "TILE_ROWS"), tunable(STEM, "TILE_COLUMNS")
    return len(ids) * -(-ids.shape[1] // rows) * -(-ids.shape[2] // columns)


def _tiles(ids: Tensor) -> int:
    return len(ids) * -(-ids.shape[1] * ids.shape[2] // tunable(STEM, "TILE"))


def _region_areas_cuda(ids: Tensor, regions: int) -> Tensor:
    sums = torch.zeros(len(ids), regions, dtype=torch.int64, device=ids.device)
    launch(STEM, "region_stats_area", _measured_tiles(ids), ids, sums, *ids.shape, regions, by_block=True)
    return sums


def _sums_cuda(ids: Tensor, regions: int, rgb: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    table, device = (len(ids), regions), ids.device
    sums = torch.zeros(*table, 3 if rgb is None else 6, dtype=torch.int64, device=device)
    low = torch.full((*table, 2), INT32.max, dtype=torch.int32, device=device)
    high = torch.zeros(*table, 2, dtype=torch.int32, device=device)
    given = (ids, sums, low, high) if rgb is None else (ids, rgb.contiguous(), sums, low, high)
    entry = "region_stats_shape" if rgb is None else "region_stats_color"
    launch(STEM, entry, _measured_tiles(ids), *given, *ids.shape, regions, by_block=True)
    return sums, low, high


def _look_up_cuda(ids: Tensor, table: Tensor) -> Tensor:
    found, pixels = torch.empty_like(ids), ids.shape[1] * ids.shape[2]
    launch(
        STEM, "region_stats_look_up", _tiles(ids), ids, table, found, len(ids), pixels, table.shape[1], by_block=True
    )
    return found


def _fill_holes_cuda(ids: Tensor, parts: Tensor) -> Tensor:
    least, most, filled = (torch.empty_like(ids) for _ in range(3))  # written where a part begins, and only there
    tiles, pixels = _tiles(ids), ids.shape[1] * ids.shape[2]
    launch(STEM, "region_stats_clear", tiles, parts, least, most, len(ids), pixels, by_block=True)
    launch(STEM, "region_stats_surround", tiles, ids, parts, least, most, *ids.shape, by_block=True)
    launch(STEM, "region_stats_fill", tiles, ids, parts, least, most, filled, len(ids), pixels, by_block=True)
    return filled
