"""The fast path of region_hierarchy on a CPU: OpenCV and NumPy, a frame at a time, equal to the reference.

Pixels are numbered in a frame with a border of one pixel, so that a neighbour is a constant away; the border is higher
than anything. Borders fall one after the other, from a heap: a few thousand steps of plain Python, which some ninety
rounds of NumPy on arrays as small as these do not beat.
"""

from __future__ import annotations

from heapq import heappop, heapreplace

import cv2
import numpy as np

from streamstyle.stages.connected_components import look_up
from streamstyle.stages.region_hierarchy_ref import BORDER, CURVED_PX, REACH, RING

NO_KEY = np.iinfo(np.int64).max
LOW_BITS = 2**32 - 1
FALLEN = -1
"""The key of a border that is gone."""


def smoothed(edges: np.ndarray, floor: int, taps: tuple[int, ...], shift: int) -> np.ndarray:
    """[H, W] int32 heights. Whole numbers below 2**24 all the way: exact in float32."""
    row = np.array(taps, np.float32)
    sums = cv2.sepFilter2D(np.maximum(edges, floor), cv2.CV_32F, row, row, borderType=cv2.BORDER_REPLICATE)
    return sums.astype(np.int32) >> shift


def watershed(heights: np.ndarray) -> tuple[np.ndarray, int]:
    """Basins [H, W] int32, numbered 1, 2, 3 ... in raster order of their first pixels, and how many there are."""
    height, width = heights.shape
    grid = np.full((height + 2, width + 2), BORDER, np.int32)
    grid[1:-1, 1:-1] = heights
    parent, minima = _downhill(grid)
    while True:
        further = parent[parent]
        if np.array_equal(further, parent):
            break
        parent = further
    number = np.zeros(grid.size, np.int32)
    number[minima] = np.arange(1, len(minima) + 1)
    basins = np.ascontiguousarray(number[parent].reshape(grid.shape)[1:-1, 1:-1])
    return in_raster_order(basins, len(minima)), len(minima)


def _downhill(grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each pixel of the bordered grid the one its water flows to, and the minima, [-] in order."""
    line, size = grid.shape[1], grid.size
    flat = grid.ravel()
    key = flat << 2  # below it, which neighbour: in order of their indices
    best = np.full(size, BORDER << 2, np.int32)
    inner = best[line:-line]
    np.minimum(key[: size - 2 * line], key[2 * line :] + 3, out=inner)
    np.minimum(inner, key[line - 1 : size - line - 1] + 1, out=inner)
    np.minimum(inner, key[line + 1 : size - line + 1] + 2, out=inner)
    falls = best < key
    falls[flat == BORDER] = False
    steps = np.array([-line, -1, 1, line], np.int64)
    here = np.arange(size)
    parent = np.where(falls, here + steps[best & 3], here)

    # Plateaus: pixels with no lower neighbour, as one. They flow to the first pixel of their height that falls.
    level = ~falls & (flat < BORDER)
    count, plateaus = cv2.connectedComponents(level.view(np.uint8).reshape(grid.shape), connectivity=4)
    pixels = np.flatnonzero(level)
    of = plateaus.ravel()[pixels]
    target = np.full(count, size, np.int64)
    for step in steps:
        beside = pixels + step
        leaves = falls[beside] & (flat[beside] == flat[pixels])
        np.minimum.at(target, of[leaves], beside[leaves])
    first = np.zeros(count, np.int64)
    first[of[::-1]] = pixels[::-1]
    is_minimum = target == size
    target[is_minimum] = first[is_minimum]
    parent[pixels] = target[of]
    return parent, np.sort(first[1:][is_minimum[1:]])


def in_raster_order(labels: np.ndarray, count: int) -> np.ndarray:
    """Renumber labels 1 .. count, in place, in the order of their first pixels (which differ from above and left)."""
    begins = np.ones(labels.shape, bool)
    begins[:, 1:] = labels[:, 1:] != labels[:, :-1]
    begins[1:] &= labels[1:] != labels[:-1]
    pixels = np.flatnonzero(begins)[::-1]
    first = np.zeros(count + 1, np.int64)
    first[labels.ravel()[pixels]] = pixels
    number = np.zeros(count + 1, np.int32)
    number[1 + first[1:].argsort()] = np.arange(1, count + 1)
    look_up(labels, number, labels)
    return labels


def borders(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Each pair of 4-neighbours in different regions: two columns of pixels, first `across` pairs side by side, then
    pairs one above the other; and how many the first are."""
    width = ids.shape[1]
    of = ids.ravel()
    beside = np.zeros(ids.shape, bool)
    beside[:, :-1] = ids[:, 1:] != ids[:, :-1]
    across, down = np.flatnonzero(beside), np.flatnonzero(of[width:] != of[:-width])
    return np.concatenate([across, down]), np.concatenate([across + 1, down + width]), len(across)


def strengths(ids: np.ndarray, heights: np.ndarray, one: np.ndarray, across: int) -> np.ndarray:
    """[-] int64: how strong the border is at each of these pairs of pixels, by Note [Along the ridge]."""
    width = ids.shape[1]
    grown = [cv2.copyMakeBorder(plane, *(REACH,) * 4, cv2.BORDER_REPLICATE) for plane in (ids, heights)]
    line = grown[0].shape[1]
    of, over = (plane.ravel() for plane in grown)
    p = (one // width + REACH) * line + one % width + REACH
    q = p + 1
    q[across:] += line - 1
    here, there = of[p], of[q]
    normal_x, normal_y = np.zeros((2, len(p)), np.int64)
    for x, y in RING:
        seen = of[p + (y * line + x)]
        side = (seen == there).astype(np.int8) - (seen == here)
        normal_x += x * side
        normal_y += y * side

    def around(x: int, y: int) -> np.ndarray:
        step = y * line + x
        return over[p + step] + over[q + step]

    twice, k = 2 * around(0, 0), CURVED_PX
    xx, yy = around(-k, 0) + around(k, 0) - twice, around(0, -k) + around(0, k) - twice
    xy = around(k, k) + around(-k, -k) - around(k, -k) - around(-k, k)  # four times, and halved where it is used
    mixed, nn_x, nn_y = normal_x * normal_y * xy, 2 * normal_x**2, 2 * normal_y**2
    beyond, along = nn_x * xx + mixed + nn_y * yy, nn_y * xx - mixed + nn_x * yy
    size = np.abs(beyond) + np.abs(along)
    highest = np.maximum(over[p], over[q]).astype(np.int64)
    return np.where(size > 0, highest * (5 * size + 3 * (along - beyond)) // np.maximum(8 * size, 1), highest)


def thinned(ids: np.ndarray, count: int, heights: np.ndarray, most: int) -> tuple[np.ndarray, int]:
    """Join each region with the neighbour behind its lowest pass, all at once, until at most `most` are left."""
    while count > most:
        one, other, _ = borders(ids)
        a, b = ids.ravel()[one], ids.ravel()[other]
        over = np.maximum(heights.ravel()[one], heights.ravel()[other])
        key = over.astype(np.int64) << 32 | np.arange(len(over))
        best = np.full(count + 1, NO_KEY)
        np.minimum.at(best, a, key)
        np.minimum.at(best, b, key)
        region = np.arange(1, count + 1)
        crack = best[1:] & LOW_BITS
        beyond = np.where(a[crack] == region, b[crack], a[crack])
        root = np.concatenate([[0], beyond])
        # Passes are all different, so the only rings are two regions that chose each other: the lower is the root.
        is_root = (root[beyond] == region) & (region < beyond)
        root[1:][is_root] = region[is_root]
        while not np.array_equal(root[root], root):
            root = root[root]
        survivors, dense = np.unique(root[1:], return_inverse=True)
        count = len(survivors)
        ids = in_raster_order(np.concatenate([[0], dense + 1]).astype(np.int32)[ids], count)
    return ids, count


def merge(ids: np.ndarray, count: int, heights: np.ndarray, into: np.ndarray, at: np.ndarray) -> None:
    """Fill into and at, [R] int32, for the regions 1 .. count."""
    one, other, across = borders(ids)
    strength = strengths(ids, heights, one, across)
    a, b = ids.ravel()[one].astype(np.int64), ids.ravel()[other]
    code = np.minimum(a, b) * (count + 1) + np.maximum(a, b)
    order = code.argsort()
    starts = np.flatnonzero(np.diff(code[order], prepend=-1))
    if not len(starts):
        return
    a, b = np.divmod(code[order[starts]], count + 1)
    total = np.add.reduceat(strength[order], starts)
    length = np.diff(starts, append=len(order))
    absorbed, absorbers, levels = _greedy(count, *(part.tolist() for part in (a, b, total, length)))
    into[absorbed], at[absorbed] = absorbers, levels


def _greedy(
    count: int, one: list[int], other: list[int], total: list[int], length: list[int]
) -> tuple[list[int], list[int], list[int]]:
    """Let the weakest border fall until none is left; border k is between one[k] and other[k].

    Of two regions that merge, that with fewer neighbours is taken out of the graph, and the other goes by the lower of
    their numbers. A heap holds a key of each border, never above what it is now: where two become one, the lower rises.
    One that has risen goes back, by its key of now, once it is the least.

    Returns:
        In order: the regions absorbed, their absorbers, and the heights.
    """
    near: list[dict[int, int]] = [{} for _ in range(count + 1)]  # of each region: neighbour, border
    for k, (x, y) in enumerate(zip(one, other, strict=True)):
        near[x][y] = near[y][x] = k
    keys = [(t // n) << 32 | k for k, (t, n) in enumerate(zip(total, length, strict=True))]
    heap, number, merged = sorted(keys), list(range(count + 1)), []
    while heap:
        key = heap[0]
        k = key & LOW_BITS
        now = keys[k]
        if now > key:
            heapreplace(heap, now)
            continue
        heappop(heap)
        if now == FALLEN:
            continue
        keys[k] = FALLEN
        x, y = one[k], other[k]
        if len(near[x]) < len(near[y]):
            x, y = y, x
        low, high = sorted((number[x], number[y]))
        merged.append((high, low, key >> 32))
        number[x] = low
        kept, gone = near[x], near[y]
        del kept[y], gone[x]
        for z, k in gone.items():
            del near[z][y]
            if (rival := kept.get(z)) is not None:  # two borders become one, by the lesser's number
                k, void = (k, rival) if keys[k] < keys[rival] else (rival, k)
                total[k] += total[void]
                length[k] += length[void]
                keys[k], keys[void] = (total[k] // length[k]) << 32 | k, FALLEN
            kept[z] = near[z][x] = k
            one[k], other[k] = x, z
        gone.clear()
    absorbed, absorbers, levels = zip(*merged, strict=True)
    return list(absorbed), list(absorbers), list(levels)
