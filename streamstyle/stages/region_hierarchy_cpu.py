"""The fast path of region_hierarchy on a CPU: OpenCV and NumPy, a frame at a time, equal to the reference.

Pixels are numbered in a frame with a border of one pixel, so that a neighbour is a constant away; the border is higher
than anything. Borders fall one after the other, from a heap: a few thousand steps of plain Python, which some ninety
rounds of NumPy on arrays as small as these do not beat.
"""

from __future__ import annotations

from heapq import heappop, heappush

import cv2
import numpy as np

from streamstyle.stages.connected_components import look_up

BORDER = 1 << 16
"""Above every height."""
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


def borders(ids: np.ndarray, heights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each pair of 4-neighbours in different regions: lower region, higher region, the higher of the heights."""
    width = ids.shape[1]
    of, over = ids.ravel(), heights.ravel()
    beside = np.zeros(ids.shape, bool)
    beside[:, :-1] = ids[:, 1:] != ids[:, :-1]
    across, down = np.flatnonzero(beside), np.flatnonzero(of[width:] != of[:-width])
    one = np.concatenate([across, down])
    other = np.concatenate([across + 1, down + width])
    a, b = of[one], of[other]
    return np.minimum(a, b), np.maximum(a, b), np.maximum(over[one], over[other])


def thinned(ids: np.ndarray, count: int, heights: np.ndarray, most: int) -> tuple[np.ndarray, int]:
    """Join each region with the neighbour behind its lowest pass, all at once, until at most `most` are left."""
    while count > most:
        a, b, over = borders(ids, heights)
        key = over.astype(np.int64) << 32 | np.arange(len(over))
        best = np.full(count + 1, NO_KEY)
        np.minimum.at(best, a, key)
        np.minimum.at(best, b, key)
        region = np.arange(1, count + 1)
        crack = best[1:] & LOW_BITS
        beyond = np.where(a[crack] == region, b[crack], a[crack])
        root = np.concatenate([[0], beyond])
        # Passes are all different, so the only rings are two regions that chose each other: the lower is the root.
        root[1:][(root[beyond] == region) & (region < beyond)] = region[(root[beyond] == region) & (region < beyond)]
        while not np.array_equal(root[root], root):
            root = root[root]
        survivors, dense = np.unique(root[1:], return_inverse=True)
        count = len(survivors)
        ids = in_raster_order(np.concatenate([[0], dense + 1]).astype(np.int32)[ids], count)
    return ids, count


def merge(ids: np.ndarray, count: int, heights: np.ndarray, into: np.ndarray, at: np.ndarray) -> None:
    """Fill into and at, [R] int32, for the regions 1 .. count."""
    a, b, over = borders(ids, heights)
    code = a.astype(np.int64) * (count + 1) + b
    order = code.argsort()
    starts = np.flatnonzero(np.diff(code[order], prepend=-1))
    if not len(starts):
        return
    one, other = np.divmod(code[order[starts]], count + 1)
    total = np.add.reduceat(over[order].astype(np.int64), starts)
    length = np.diff(starts, append=len(order))
    absorbed, absorbers, levels = _greedy(count, *(part.tolist() for part in (one, other, total, length)))
    into[absorbed], at[absorbed] = absorbers, levels


def _greedy(
    count: int, one: list[int], other: list[int], total: list[int], length: list[int]
) -> tuple[list[int], list[int], list[int]]:
    """Let the weakest border fall until none is left; border k is between one[k] and other[k].

    Of two regions that merge, that with fewer neighbours is taken out of the graph, and the other goes by the lower of
    their numbers. A heap holds keys; one that is no longer its border's is passed over.

    Returns:
        In order: the regions absorbed, their absorbers, and the heights.
    """
    near: list[dict[int, int]] = [{} for _ in range(count + 1)]  # of each region: neighbour, border
    for k, (x, y) in enumerate(zip(one, other, strict=True)):
        near[x][y] = near[y][x] = k
    keys = [(t // n) << 32 | k for k, (t, n) in enumerate(zip(total, length, strict=True))]
    heap, number, merged = sorted(keys), list(range(count + 1)), []
    while heap:
        key = heappop(heap)
        k = key & LOW_BITS
        if keys[k] != key:
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
                heappush(heap, keys[k])
            kept[z] = near[z][x] = k
            one[k], other[k] = x, z
        gone.clear()
    absorbed, absorbers, levels = zip(*merged, strict=True)
    return list(absorbed), list(absorbers), list(levels)
