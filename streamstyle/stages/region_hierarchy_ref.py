"""What region_hierarchy means: pixel by pixel in torch on any device, then border by border on the host.

Slow and plain on purpose. The tree is made by the greedy rule itself, one border after the other.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from streamstyle.stages.connected_components import connected_components

BORDER = 1 << 16
"""Above every height."""
NEIGHBOURS = ((0, 1), (1, 0), (1, 2), (2, 1))
"""Row and column of the 4-neighbours in a 3 x 3 window, in the order of their indices."""


def smoothed(edges: Tensor, floor: int, taps: tuple[int, ...], shift: int) -> Tensor:
    """[N, H, W] int32 heights; the picture goes on beyond its border as it ends there."""
    sums = edges.clamp_min(floor).to(torch.int32)
    for axis in (1, 2):
        places = torch.arange(sums.shape[axis], device=edges.device) - len(taps) // 2
        total = torch.zeros_like(sums)
        for k, tap in enumerate(taps):
            total += tap * sums.index_select(axis, (places + k).clamp(0, len(places) - 1))
        sums = total
    return sums >> shift


def watershed(heights: Tensor) -> Tensor:
    """[N, H, W] int32, 1 + the first pixel of the basin that each pixel's water flows to.

    Water goes to the lowest of the four neighbours, of equals to the first, if that is lower. Where none is, the pixels
    of one height that hang together are a plateau: it flows to the first pixel of its height beside it that falls. If
    there is none it is a minimum.
    """
    count, height, width = heights.shape
    pixels = height * width
    here = torch.arange(pixels, dtype=torch.int32, device=heights.device).view(1, height, width)
    steps = torch.tensor([-width, -1, 1, width], dtype=torch.int32, device=heights.device)
    around = _neighbours(heights, BORDER)
    lowest = around.amin(1)
    which = torch.where(around == lowest[:, None], torch.arange(4, device=heights.device).view(1, 4, 1, 1), 4).amin(1)
    falls = lowest < heights
    parent = torch.where(falls, here + steps[which], here).flatten(1)

    plateau = connected_components(~falls, impl="ref")
    leaves = (around == heights[:, None]) & _neighbours(falls, False) & ~falls[:, None]
    exits = torch.where(leaves, here[:, None] + steps.view(1, 4, 1, 1), pixels).amin(1).flatten(1)
    of = plateau.flatten(1).long()
    table = torch.full((count, pixels + 1), pixels, dtype=torch.int32, device=heights.device)
    target = table.scatter_reduce_(1, of, exits, "amin").gather(1, of)
    target = torch.where(target < pixels, target, plateau.flatten(1) - 1)
    parent = torch.where(falls.flatten(1), parent, target)
    while not torch.equal(further := parent.gather(1, parent.long()), parent):  # synchronises
        parent = further
    first = torch.full_like(parent, pixels)
    first.scatter_reduce_(1, parent.long(), here.flatten(1).expand(count, -1), "amin")
    return 1 + first.gather(1, parent.long()).view_as(heights)


def _neighbours(plane: Tensor, beyond: int) -> Tensor:
    """[N, 4, H, W]: the neighbours above, to the left, to the right and below."""
    height, width = plane.shape[1:]
    grown = F.pad(plane, (1, 1, 1, 1), value=beyond)
    return torch.stack([grown[:, y : y + height, x : x + width] for y, x in NEIGHBOURS], 1)


def borders(ids: Tensor, heights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Each pair of 4-neighbours of one frame in different regions, first those side by side, then those one above the
    other: the lower region, the higher region, the higher of both heights."""
    found = []
    for axis in (1, 0):
        size = ids.shape[axis] - 1
        one, other = ids.narrow(axis, 0, size), ids.narrow(axis, 1, size)
        over = torch.maximum(heights.narrow(axis, 0, size), heights.narrow(axis, 1, size))
        apart = one != other
        found.append(torch.stack([torch.minimum(one, other)[apart], torch.maximum(one, other)[apart], over[apart]]))
    a, b, over = torch.cat(found, 1).long()
    return a, b, over


def thinned(ids: Tensor, heights: Tensor, most: int) -> tuple[Tensor, int]:
    """Join each region of a frame with the neighbour behind its lowest pass, all at once, while there are too many."""
    while (count := int(ids.max())) > most:
        a, b, over = borders(ids, heights)
        passes = over.argsort(stable=True)
        seen, root = [False] * (count + 1), list(range(count + 1))
        for one, other in torch.stack([a, b], 1)[passes].tolist():
            if seen[one] and seen[other]:
                continue  # for each a lower pass was found
            seen[one] = seen[other] = True
            low, high = sorted((_root(root, one), _root(root, other)))
            root[high] = low
        table = torch.tensor([_root(root, region) for region in range(count + 1)])
        ids = ((table == torch.arange(count + 1)).cumsum(0)[table] - 1).to(torch.int32)[ids.long()]
    return ids, count


def _root(root: list[int], region: int) -> int:
    while root[region] != region:
        region = root[region]
    return region


def merge(ids: Tensor, heights: Tensor, into: Tensor, at: Tensor) -> None:
    """Fill into and at, [R] int32, of a frame by the greedy rule of Note [Reciprocal neighbours]."""
    a, b, over = borders(ids, heights)
    most = len(into)
    code, border = torch.unique(a * most + b, return_inverse=True)
    total = torch.zeros_like(code).index_add_(0, border, over)
    length = torch.zeros_like(code).index_add_(0, border, torch.ones_like(over))
    a, b = code // most, code % most
    key = (total // length << 32) + torch.arange(len(code))
    while len(key):
        weakest = key.argmin()
        low, high = int(a[weakest]), int(b[weakest])
        into[high], at[high] = low, key[weakest] >> 32
        a[a == high], b[b == high] = low, low
        apart = a != b
        a, b = torch.minimum(a, b)[apart], torch.maximum(a, b)[apart]
        code, border = torch.unique(a * most + b, return_inverse=True)
        total = torch.zeros_like(code).index_add_(0, border, total[apart])
        length = torch.zeros_like(code).index_add_(0, border, length[apart])
        lesser = torch.full_like(code, int(key.max())).scatter_reduce_(0, border, key[apart], "amin")
        a, b = code // most, code % most
        key = (total // length << 32) + lesser % 2**32
