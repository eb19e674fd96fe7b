"""A hierarchy of regions over an edge map: the watershed's basins, and the order in which walls between them fall.

::

    edges (as if not smoothed)  finest regions   absorbed              cut at 4         cut at 7
    . . 9 . . 3 .               1 1 1 2 2 2 3    3 into 2 at 3         1 1 1 2 2 2 2    1 1 1 1 1 1 1
    . . 9 . . 3 .               1 1 1 2 2 2 3    2 into 1 at 7,        1 1 1 2 2 2 2    1 1 1 1 1 1 1
    . . 9 . . 3 .               1 1 1 2 2 2 3    (9 + 9 + 9 + 1) / 4   1 1 1 2 2 2 2    1 1 1 1 1 1 1
    . . 1 . . 3 .               1 1 1 2 2 2 3                          1 1 1 2 2 2 2    1 1 1 1 1 1 1

A threshold on edge strength lets two regions run together through the weakest pixel between them. Here two regions
join at the *mean* strength of their whole border, so a short gap lowers a wall a little and does not open it. All cuts
come from one table, and a coarser cut is made of whole regions of a finer one.

Heights are whole numbers, 256 to an edge level (0 .. FULL), and so is all arithmetic: every device gives the same tree.

Source: Arbelaez, Maire, Fowlkes and Malik 2011 (oriented watershed, mean border strength: an ultrametric contour map);
Murtagh 1983 (reciprocal nearest neighbours). Differs: the edge map is smoothed a little; a border's direction is taken
from the regions around each of its pixels, the edge's from the map's second differences, both in whole numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from streamstyle.errors import OptionError, ShapeError
from streamstyle.gpu.kernels import chosen, launch
from streamstyle.stages import region_hierarchy_cpu as cpu
from streamstyle.stages import region_hierarchy_ref as ref
from streamstyle.stages.connected_components import connected_components, dense_labels, look_up

STEM = "region_hierarchy"
FLOOR = 8
"""Edge strength (of 255) that counts as none: below it HED's output is noise, and every pit in it would be a region."""
TAPS = (1, 8, 28, 56, 70, 56, 28, 8, 1)
"""Smoothing along x and y, a binomial of sigma 1.4 px: 250 to 600 regions a frame on HED's side 3 or fused, 427x240."""
SHIFT = 8
"""Bits that TAPS, along x and along y, add to 256 to an edge level."""
FULL = 255 * 256
"""The height of an edge of strength 255."""
NEVER = 2**31 - 1
"""In at: of a region that is absorbed by no other."""
FAR, NONE = 2**31 - 1, 2**63 - 1
"""No pixel, no border: the kernels' FAR and NONE."""
MOST_REGIONS = 4096
"""Finest regions of a frame; where the watershed has more, each joins the neighbour behind its lowest pass first."""
MOST_PX = 2**30
"""In a frame: the kernels count its pixels, and a row beyond, in int32."""


@dataclass(frozen=True)
class RegionHierarchy:
    """Regions of each frame and how they join.

    Attributes:
        ids: [N, H, W] int32, the finest regions, 1, 2, 3 ... in raster order of their first pixels; 4-connected, and
            every pixel is in one.
        regions: [N] int64, how many there are.
        into: [N, R] int32, the lower-numbered region that absorbs each, or itself: region 1, 0 and numbers not used.
            R is one more than the most regions a frame of this size can have.
        at: [N, R] int32, the height at which that happens, 0 .. FULL, never lower than what was absorbed before it;
            NEVER where nothing happens.
        joined: [N] int64, regions that were more than MOST_REGIONS and had to be joined beforehand.
    """

    ids: Tensor
    regions: Tensor
    into: Tensor
    at: Tensor
    joined: Tensor


# Note [Reciprocal neighbours]
# The tree is that of the greedy rule: of all borders the one with the least key falls, again and again. A key is
# (height, number): the mean strength of the border, rounded down, and one number of those of the finest borders it is
# made of, namely that of the lesser key when two borders become one. A merged border's mean lies between the two
# means, so its key is never below the lesser of both keys (the linkage is reducible), and no two keys are ever equal.
# Therefore two regions that are each other's weakest neighbour stay so whatever else falls before them, and all such
# pairs may be merged at once: the same tree in a few dozen rounds instead of as many steps as there are regions.


def region_hierarchy(edges: Tensor, *, impl: str = "auto") -> RegionHierarchy:
    """Find the finest regions of edge maps and the order in which they join.

    Args:
        edges: [N, H, W] uint8 edge strength, of any source; not thinned, not thresholded.
        impl: "auto" (the kernels on CUDA, else OpenCV and NumPy on the host), "ref" (torch, the tree on the host) or
            "cuda".

    Returns:
        A RegionHierarchy on edges' device.

    Raises:
        ShapeError: edges is not [N, H, W] uint8, or a frame has more pixels than int32 counts.

    Cost: about 8 ms a picture at 427x240 on one core. 13 launches, 3 more for each time the pixels could make twice
    MOST_REGIONS, and about 110 bytes a pixel; no synchronisation. The reference synchronises often.
    """
    if edges.ndim != 3 or edges.dtype != torch.uint8:
        raise ShapeError(f"edges must be [N, H, W] uint8, got {edges.dtype} {[*edges.shape]}")
    if edges.shape[1] * edges.shape[2] > MOST_PX:
        raise ShapeError(f"pixels are int32 and a frame of {[*edges.shape[1:]]} has more than {MOST_PX}")
    if edges.numel() == 0:
        return _none(edges)
    if chosen(impl, edges):
        return _region_hierarchy_cuda(edges.contiguous())
    if impl == "auto":
        # Without kernels a device's own operations take half a second a picture, thirty times as long as the way there.
        found = _region_hierarchy_cpu(edges.cpu())  # synchronises, where edges are on a device
        parts = (found.ids, found.regions, found.into, found.at, found.joined)
        return found if edges.device.type == "cpu" else RegionHierarchy(*(part.to(edges.device) for part in parts))
    return _region_hierarchy_ref(edges)


def table_at(hierarchy: RegionHierarchy, level: float) -> tuple[Tensor, Tensor]:
    """The region of a cut that each finest region belongs to.

    Args:
        hierarchy: from :func:`region_hierarchy`.
        level: borders of this mean edge strength, 0..1, and weaker ones have fallen; below 0 none has.

    Returns:
        [N, R] int32, 1, 2, 3 ... in raster order of their first pixels, 0 for 0 and for numbers not used; and how
        many regions the cut has, [N] int64.

    Raises:
        OptionError: level is not a finite number.

    Cost: a dozen look-ups in a table of R numbers, no synchronisation.
    """
    if not math.isfinite(level):
        raise OptionError(f"level must be a finite number, got {level}")
    height = math.floor(max(-1.0, min(1.0, level)) * FULL + 1e-6)  # 16333 / FULL * FULL is just below 16333
    here = torch.arange(hierarchy.into.shape[1], device=hierarchy.into.device)
    top = torch.where(hierarchy.at <= height, hierarchy.into, here)
    for _ in range((len(here) - 1).bit_length()):
        top = top.gather(1, top)
    used = (here > 0) & (here <= hierarchy.regions[:, None])
    number = ((top == here) & used).cumsum(1)
    return torch.where(used, number.gather(1, top), 0).to(torch.int32), number[:, -1]


def cut(hierarchy: RegionHierarchy, level: float) -> tuple[Tensor, Tensor]:
    """The regions that are left when every border up to a level has fallen.

    Args:
        hierarchy, level: as for :func:`table_at`.

    Returns:
        ids [N, H, W] int32, 1, 2, 3 ... in raster order of their first pixels, and how many each frame has, [N] int64.

    Raises:
        OptionError: level is not a finite number.

    Cost: as table_at, and one look-up a pixel; no synchronisation.
    """
    table, counts = table_at(hierarchy, level)
    if hierarchy.ids.device.type != "cpu" or hierarchy.ids.numel() == 0:
        return table.gather(1, hierarchy.ids.flatten(1).long()).view_as(hierarchy.ids), counts
    ids = torch.empty_like(hierarchy.ids)
    for labels, numbers, out in zip(hierarchy.ids.numpy(), table.numpy(), ids.numpy(), strict=True):
        look_up(labels, numbers, out)
    return ids, counts


def _most_regions(pixels: int) -> int:
    """Region numbers of a frame, 0 with them: a checkerboard has a basin for every second pixel."""
    return min(MOST_REGIONS, (pixels + 1) // 2) + 1


def _none(edges: Tensor) -> RegionHierarchy:
    """The hierarchy of frames without pixels, or of no frames."""
    zeros = torch.zeros(len(edges), dtype=torch.int64, device=edges.device)
    return RegionHierarchy(torch.zeros_like(edges, dtype=torch.int32), zeros, *_no_tree(edges), zeros.clone())


def _no_tree(edges: Tensor) -> tuple[Tensor, Tensor]:
    """into and at before anything is absorbed."""
    count, numbers = len(edges), _most_regions(edges.shape[1] * edges.shape[2])
    into = torch.arange(numbers, dtype=torch.int32, device=edges.device).repeat(count, 1)
    return into, torch.full_like(into, NEVER)


def _region_hierarchy_cpu(edges: Tensor) -> RegionHierarchy:
    ids = np.empty(edges.shape, np.int32)
    into, at = _no_tree(edges)
    regions, joined = torch.zeros(2, len(edges), dtype=torch.int64)
    for i, frame in enumerate(edges.numpy()):
        heights = cpu.smoothed(frame, FLOOR, TAPS, SHIFT)
        basins, found = cpu.watershed(heights)
        ids[i], count = cpu.thinned(basins, found, heights, MOST_REGIONS)
        cpu.merge(ids[i], count, heights, into[i].numpy(), at[i].numpy())
        regions[i], joined[i] = count, found - count
    return RegionHierarchy(torch.from_numpy(ids), regions, into, at, joined)


def _region_hierarchy_ref(edges: Tensor) -> RegionHierarchy:
    heights = ref.smoothed(edges, FLOOR, TAPS, SHIFT)
    ids, found = dense_labels(ref.watershed(heights), impl="ref")
    into, at = (part.cpu() for part in _no_tree(edges))
    frames, regions = ids.cpu(), found.clone()  # synchronises
    for i, over in enumerate(heights.cpu()):
        frames[i], regions[i] = ref.thinned(frames[i], over, MOST_REGIONS)
        ref.merge(frames[i], over, into[i], at[i])
    return RegionHierarchy(*(part.to(edges.device) for part in (frames, regions, into, at, found - regions)))


def _region_hierarchy_cuda(edges: Tensor) -> RegionHierarchy:
    heights = torch.empty_like(edges, dtype=torch.int32)
    launch(STEM, "region_hierarchy_smooth", edges.numel(), edges, heights, *edges.shape)
    labels, found = _basins_cuda(heights)
    _thin_cuda_(labels, heights, found)
    ids, regions = dense_labels(labels, impl="cuda")
    return RegionHierarchy(ids, regions, *_tree_cuda(ids, heights), found - regions)


def _basins_cuda(heights: Tensor) -> tuple[Tensor, Tensor]:
    """1 + the first pixel of each pixel's basin, [N, H, W] int32, and how many basins a frame has, [N] int32."""
    shape, size = heights.shape, heights.numel()
    parent, level = torch.empty_like(heights), torch.empty_like(heights, dtype=torch.uint8)
    launch(STEM, "region_hierarchy_fall", size, heights, parent, level, *shape)
    plateaus = connected_components(level, impl="cuda")
    target, first = torch.full_like(heights, FAR), torch.full_like(heights, FAR)
    launch(STEM, "region_hierarchy_leave", size, heights, plateaus, target, *shape)
    roots, labels = torch.empty_like(heights), parent  # which is no longer needed when labels are written
    launch(STEM, "region_hierarchy_follow", size, parent, plateaus, target, roots, first, *shape)
    found = torch.zeros(len(heights), dtype=torch.int32, device=heights.device)
    launch(STEM, "region_hierarchy_label", size, roots, first, labels, found, *shape)
    return labels, found


def _thin_cuda_(labels: Tensor, heights: Tensor, found: Tensor) -> None:
    """Join basins where there are more than MOST_REGIONS: as often as it could take, for each time halves them."""
    shape, size = labels.shape, labels.numel()
    most_basins = (shape[1] * shape[2] + 1) // 2
    if most_basins <= MOST_REGIONS:
        return
    best = torch.full(shape, NONE, dtype=torch.int64, device=labels.device)
    while most_basins > MOST_REGIONS:
        left = torch.zeros_like(found)
        launch(STEM, "region_hierarchy_passes", size, heights, labels, found, best, *shape, MOST_REGIONS)
        launch(STEM, "region_hierarchy_join", size, best, labels, *shape)
        launch(STEM, "region_hierarchy_flatten", size, found, labels, left, *shape, MOST_REGIONS)
        found, most_basins = left, most_basins // 2


def _tree_cuda(ids: Tensor, heights: Tensor) -> tuple[Tensor, Tensor]:
    into, at = _no_tree(ids)
    count, numbers = into.shape
    most_borders = 3 * numbers  # region graphs are planar
    slots = 1 << (2 * most_borders - 1).bit_length()
    code = torch.zeros(count, slots, dtype=torch.int32, device=ids.device)
    total, length = torch.zeros(2, count, slots, dtype=torch.int64, device=ids.device)
    table = (code, total, length, torch.full_like(total, NONE))
    launch(STEM, "region_hierarchy_border", ids.numel(), ids, heights, *table, *ids.shape, numbers, slots)
    listed = torch.empty(count, most_borders, 4, dtype=torch.int64, device=ids.device)
    weakest = torch.empty(count, numbers, dtype=torch.int64, device=ids.device)
    sizes = (count, numbers, slots, most_borders)
    launch(STEM, "region_hierarchy_merge", count, *table, listed, weakest, into, at, *sizes, by_block=True)
    return into, at
