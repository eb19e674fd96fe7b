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
RING = ((0, -3), (2, -2), (3, 0), (2, 2), (0, 3), (-2, 2), (-3, 0), (-2, -2))
"""x and y of the pixels around a border that tell its direction."""
REACH = 3
CURVED_PX = 2
"""Between the heights of which second differences are taken."""
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


def borders(ids: Tensor) -> tuple[Tensor, Tensor]:
    """Each pair of 4-neighbours of one frame in different regions, first those side by side, then those one above the
    other: two columns of (row, column), [-, 2]."""
    found = []
    for axis, step in ((1, (0, 1)), (0, (1, 0))):
        size = ids.shape[axis] - 1
        one = (ids.narrow(axis, 0, size) != ids.narrow(axis, 1, size)).nonzero()
        found.append((one, one + torch.tensor(step)))
    (one, other), (above, below) = found
    return torch.cat([one, above]), torch.cat([other, below])


def strengths(ids: Tensor, heights: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """[-] int64: how strong the border is at each of these pairs of pixels.

    Note [Along the ridge]
    It is the higher of both heights where the border runs along a ridge, a quarter of it where it runs across one, and
    5/8 of it where no direction is more curved than another. The border's normal points from the pixels of the one
    region on a ring around it to those of the other; the second differences of the heights along and across it say
    which way the ridge runs. Plain borders that close a region over the end of a ridge weigh less so.
    """

    def at(plane: Tensor, pixels: Tensor, x: int, y: int) -> Tensor:  # the picture goes on beyond its border
        rows, columns = (pixels[:, 0] + y).clamp(0, plane.shape[0] - 1), (pixels[:, 1] + x).clamp(0, plane.shape[1] - 1)
        return plane[rows, columns].long()

    def both(x: int, y: int) -> Tensor:
        return at(heights, one, x, y) + at(heights, other, x, y)

    here, there = at(ids, one, 0, 0), at(ids, other, 0, 0)
    normal_x = normal_y = torch.zeros_like(here)
    for x, y in RING:
        seen = at(ids, one, x, y)
        side = (seen == there).long() - (seen == here).long()
        normal_x, normal_y = normal_x + x * side, normal_y + y * side
    k = CURVED_PX
    xx, yy = both(-k, 0) + both(k, 0) - 2 * both(0, 0), both(0, -k) + both(0, k) - 2 * both(0, 0)
    four_xy = both(k, k) + both(-k, -k) - both(k, -k) - both(-k, k)
    across = 2 * normal_x**2 * xx + normal_x * normal_y * four_xy + 2 * normal_y**2 * yy
    along = 2 * normal_y**2 * xx - normal_x * normal_y * four_xy + 2 * normal_x**2 * yy
    size = across.abs() + along.abs()
    highest = torch.maximum(at(heights, one, 0, 0), at(heights, other, 0, 0))
    return torch.where(size > 0, highest * (5 * size + 3 * (along - across)) // (8 * size).clamp_min(1), highest)


def _values(plane: Tensor, pixels: Tensor) -> Tensor:
    return plane[pixels[:, 0], pixels[:, 1]].long()


def thinned(ids: Tensor, heights: Tensor, most: int) -> tuple[Tensor, int]:
    """Join each region of a frame with the neighbour behind its lowest pass, all at once, while there are too many."""
    while (count := int(ids.max())) > most:
        pair = borders(ids)
        a, b = (_values(ids, pixels) for pixels in pair)
        over = torch.maximum(*(_values(heights, pixels) for pixels in pair))
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
    pair = borders(ids)
    a, b = (_values(ids, pixels) for pixels in pair)
    most = len(into)
    code, border = torch.unique(torch.minimum(a, b) * most + torch.maximum(a, b), return_inverse=True)
    total = torch.zeros_like(code).index_add_(0, border, strengths(ids, heights, *pair))
    length = torch.zeros_like(code).index_add_(0, border, torch.ones_like(a))
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
