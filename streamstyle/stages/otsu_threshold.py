"""Otsu's threshold: global, local in tiles, and exact, from every pixel's own window.

::

    tile histograms, 16 px   windows of 4x4 tiles   a threshold a corner   bilinear between corners
    ┌──┬──┬──┬──┐            ┌───────────┐          t──t──t──t──t
    ├──┼──┼──┼──┤      →     │     ┼     ├──┐   →   t──t──t──t──t    →     T(y, x)
    └──┴──┴──┴──┘            └───────────┘  │       t──t──t──t──t

A window whose best split is weak (flat: no edges at all, or nothing else) takes the frame's global threshold. The exact
form knows no flat windows: it is scikit-image's rank filter, which splits the noise of a flat place too.

Source: Otsu 1979. Differs: the local form finds a threshold every TILE_PX and interpolates, instead of sliding.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from typing import Any, Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from streamstyle.errors import ShapeError
from streamstyle.gpu.kernels import chosen, launch

STEM = "otsu_threshold"
TILE_PX = 16
ACROSS = 4
"""Tiles of a window, each way: with as many pixels as the exact form's less one, it agrees with that best."""
FLAT_VARIANCE = 16
"""Between-class variance (levels squared) under which a window counts as flat; as in the kernels."""
WINDOW_PX = 65
"""Side of the exact form's window; the kernels' WINDOW."""
MOST_PIXELS = 1 << 27
"""Of a frame: pixels squared times 255 must fit 64 bits, see Note [Whole numbers]."""
PATCH_TILES, CHUNK_PX = 4, 16384
"""What a block of the kernels counts: tiles each way, pixels of a frame's histogram."""
BAND_PX, STRIP_PX = 32, 96
"""What it does of the exact form: rows and columns."""
WARP = 32
REACH = WINDOW_PX // 2
_AT_ONCE = 1 << 20
"""Pixels whose windows the exact form's reference searches together: that bounds its memory."""
_AT_ONCE_CPU = 1 << 14
"""The same of a CPU's own form: enough for NumPy's calls to be few, and little enough for a cache."""
_SUM: dict[str, Any] = {"normalize": False, "borderType": cv2.BORDER_CONSTANT}
"""For cv2.boxFilter: sums, and nothing beyond the border."""


def otsu_threshold(
    edges: Tensor, *, method: Literal["local", "global", "exact"] = "local", share: float = 1.0, impl: str = "auto"
) -> Tensor:
    """Tell edges from the rest.

    Args:
        edges: [N, H, W] uint8 edge strength, contiguous for the kernels.
        method: one threshold a frame, one that follows the surroundings, or one for each pixel from the square of
            WINDOW_PX around it.
        share: part of the threshold that is applied; below 1 weaker edges count too.
        impl: "auto" (OpenCV's histograms on a CPU, the kernels on CUDA), "ref" (torch on any device) or "cuda".

    Returns:
        [N, H, W] bool: strength is above share * threshold. The lowest threshold wins a tie, as in OpenCV.

    Raises:
        ShapeError: edges is not uint8 [N, H, W], a frame has more than MOST_PIXELS, or there is no such method.

    Cost: global 3 bytes a pixel, local 7, in 3 launches and the clearing of a table; exact 1 launch, 4 bytes and some
    300 instructions of a warp a pixel. No synchronisation. At 1080p on a CPU: global 2 ms, local 0.4 s and exact some
    3 s a core.
    """
    _check(edges, method)
    if edges.numel() == 0:
        return torch.zeros_like(edges, dtype=torch.bool)
    if method == "exact":
        return edges > share * exact_thresholds(edges, impl=impl)
    if chosen(impl, edges):
        return _otsu_threshold_cuda(edges.contiguous(), method, share)
    if method == "local":
        return edges.float() > share * local_thresholds(edges)
    if impl == "auto" and edges.device.type == "cpu":
        return torch.from_numpy(np.stack([_global_opencv(frame, share) for frame in edges.contiguous().numpy()]))
    return edges > share * _frame_levels(edges, _tile_histograms(edges))


def exact_thresholds(edges: Tensor, *, impl: str = "auto") -> Tensor:
    """The threshold of every pixel from the square of WINDOW_PX around it, cut at the frame's border.

    Equal to ``skimage.filters.rank.otsu``, which never splits at level 0 and gives a flat window level 0.

    Args:
        edges: [N, H, W] uint8.
        impl: as for :func:`otsu_threshold`.

    Returns:
        [N, H, W] uint8.

    Raises:
        ShapeError: edges is not uint8 [N, H, W], or a frame has more than MOST_PIXELS.

    Cost: as for :func:`otsu_threshold`; the reference makes some 30 passes for each of 256 levels.
    """
    _check(edges, "exact")
    if edges.numel() == 0:
        return torch.zeros_like(edges)
    if chosen(impl, edges):
        return _exact_thresholds_cuda(edges.contiguous())
    if impl == "auto" and edges.device.type == "cpu":
        return torch.from_numpy(np.stack([_exact_cpu(frame) for frame in edges.contiguous().numpy()]))
    return _exact_ref(edges)


def local_thresholds(edges: Tensor) -> Tensor:
    """The interpolated threshold of every pixel, float32 [N, H, W], for edges uint8 [N, H, W]."""
    histograms = _tile_histograms(edges)
    rows, columns = histograms.shape[1:3]
    windows = _below(_window_histograms(histograms))
    level = _best_split(*windows, (ACROSS * TILE_PX) ** 2)
    level = torch.where(_is_flat(*windows, level), _frame_levels(edges, histograms), level).float()
    height, width = edges.shape[1:]
    # Scaling takes a level for its cell's centre, half a tile below and to the right of its corner.
    grown = F.interpolate(level[:, None], scale_factor=TILE_PX, mode="bilinear", align_corners=False)
    assert grown.shape[2:] == ((rows + 1) * TILE_PX, (columns + 1) * TILE_PX)
    return grown[:, 0, TILE_PX // 2 :, TILE_PX // 2 :][:, :height, :width]


def _check(edges: Tensor, method: str) -> None:
    if edges.ndim != 3 or edges.dtype != torch.uint8:
        raise ShapeError(f"edges must be uint8 [N, H, W], got {edges.dtype} {[*edges.shape]}")
    if edges.shape[1] * edges.shape[2] > MOST_PIXELS:
        raise ShapeError(f"a frame may have {MOST_PIXELS} pixels, got one of {[*edges.shape[1:]]}")
    if method not in ("local", "global", "exact"):
        raise ShapeError(f"method must be local, global or exact, got {method!r}")


def _tile_histograms(edges: Tensor) -> Tensor:
    """[N, rows, columns, 256] int64 histograms of TILE_PX tiles."""
    count, height, width = edges.shape
    rows, columns = -(-height // TILE_PX), -(-width // TILE_PX)
    device = edges.device
    row = torch.arange(height, device=device).div(TILE_PX, rounding_mode="floor").view(1, -1, 1)
    column = torch.arange(width, device=device).div(TILE_PX, rounding_mode="floor").view(1, 1, -1)
    frame = torch.arange(count, device=device).view(-1, 1, 1)
    bins = ((frame * rows + row) * columns + column) * 256 + edges.long()
    histograms = torch.zeros(count * rows * columns * 256, dtype=torch.int64, device=device)
    histograms.scatter_add_(0, bins.flatten(), torch.ones((), dtype=torch.int64, device=device).expand(bins.numel()))
    return histograms.view(count, rows, columns, 256)


def _window_histograms(tiles: Tensor) -> Tensor:
    """[N, rows + 1, columns + 1, 256]: around each corner of tiles, those of ACROSS x ACROSS tiles there are."""
    reach = ACROSS // 2
    sums = F.pad(tiles, (0, 0, reach, reach, reach, reach))
    for axis in (1, 2):
        corners = tiles.shape[axis] + 1
        sums = reduce(torch.add, (sums.narrow(axis, i, corners) for i in range(ACROSS)))
    return sums


def _frame_levels(edges: Tensor, tiles: Tensor) -> Tensor:
    """[N, 1, 1] int32 levels of whole frames, from the histograms of their tiles."""
    return _best_split(*_below(tiles.sum((1, 2))), edges[0].numel()).view(-1, 1, 1)


def _below(histograms: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels and mass at or below each level, of int64 [..., 256] histograms."""
    levels = torch.arange(256, device=histograms.device)
    return histograms.cumsum(-1), (histograms * levels).cumsum(-1)


# Note [Whole numbers]
# Splits can be closer to each other than float32 tells, and MPS has no float64: the references compare variances as
# whole numbers and remainders, exactly. With b pixels of mass M at or below a level and c of mass L above it, n in all,
# n times the variance between the two classes is M^2 / b + L^2 / c, less what is the same for every level. A class has
# a mean m = M // b below 256; with r = M - m b, its M^2 / b is m (M + r) + r^2 / b, where r^2 < b^2 fits 54 bits for
# MOST_PIXELS. In a window of WINDOW_PX the square of S b - M n itself fits 63 bits. The kernels round quotients to
# float64, which may tell otherwise only where splits differ by some parts in 2^52.


def _best_split(below: Tensor, mass: Tensor, most: int) -> Tensor:
    """The best of 256 splits, of equal ones the lowest, [...] int32, for windows of `most` pixels at most.

    A CPU looks in float32 first, right to 5 in 10^7, and compares exactly only where that leaves several splits; to
    know where, another device would synchronise.
    """
    if below.device.type != "cpu":
        return _exact_split(below, mass, most)
    pixels, total = below[..., -1:], mass[..., -1:]
    between = (total * below - mass * pixels).float()
    variance = between * between / (below * (pixels - below)).clamp_min_(1)
    close = variance >= variance.amax(-1, keepdim=True) * (1 - 1e-6)
    level = _lowest(close)
    highest = 255 - _lowest(close.flip(-1))
    first, last = (below.gather(-1, at[..., None].long())[..., 0] for at in (level, highest))
    several = first != last  # otherwise no pixel is of a level between them: it is one split
    level[several] = _exact_split(below[several], mass[several], most)
    return level


def _lowest(levels: Tensor) -> Tensor:
    """[...] int32: the lowest level that is set in [..., 256]."""
    numbers = torch.arange(256, dtype=torch.int32, device=levels.device)
    return torch.where(levels, numbers, 256).amin(-1)  # argmax does not promise the first on every device


def _exact_split(below: Tensor, mass: Tensor, most: int) -> Tensor:
    """_best_split by long division, a few bits at a time: see Note [Whole numbers]."""
    above, mass_above = below[..., -1:] - below, mass[..., -1:] - mass
    below, above = below.clamp_min(1), above.clamp_min(1)  # a class without pixels has no mass: 0 / 1
    (whole, part), (whole_above, part_above) = _square_over(mass, below), _square_over(mass_above, above)
    divisor = below * above
    left = part * above + part_above * below
    digit = whole + whole_above + left // divisor
    length = max(most, most * most // 4).bit_length()  # of the divisor
    bits = 63 - length
    best = torch.ones_like(below, dtype=torch.bool)
    for _ in range(1 + -(-2 * length // bits)):  # fractions of such divisors that agree in 2 * length bits are equal
        best &= digit == torch.where(best, digit, 0).amax(-1, keepdim=True)
        left = left % divisor * 2**bits
        digit = left // divisor
    return _lowest(best)


def _square_over(number: Tensor, divisor: Tensor) -> tuple[Tensor, Tensor]:
    """number^2 / divisor as a whole number and a remainder, of a number less than 256 times the divisor."""
    mean = number // divisor
    rest = number - mean * divisor
    square = rest * rest
    whole = square // divisor
    return mean * (number + rest) + whole, square - whole * divisor


def _is_flat(below: Tensor, mass: Tensor, level: Tensor) -> Tensor:
    """Whether the variance between the classes is FLAT_VARIANCE at most, for windows of a few tiles."""
    pixels, total = below[..., -1], mass[..., -1]
    below, mass = (sums.gather(-1, level[..., None].long())[..., 0] for sums in (below, mass))
    whole, part = _square_over(total * below - mass * pixels, (below * (pixels - below)).clamp_min_(1))
    return whole + (part > 0) <= FLAT_VARIANCE * pixels * pixels


def _global_opencv(frame: np.ndarray, share: float) -> np.ndarray:
    level = cv2.threshold(frame, 0, 255, cv2.THRESH_OTSU)[0]
    threshold = np.float32(share) * np.float32(level)  # as torch multiplies
    return cv2.threshold(frame, float(threshold), 1, cv2.THRESH_BINARY)[1].view(np.bool_)


def _exact_ref(edges: Tensor) -> Tensor:
    """Every level is tried in every window at once, exactly: see Note [Whole numbers]."""
    _, height, width = edges.shape
    rows = max(1, _AT_ONCE // (len(edges) * width))
    bands = []
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        begin, end = max(0, top - REACH), min(height, bottom + REACH)
        band, inner = edges[:, begin:end], slice(top - begin, bottom - begin)
        pixels, total = (_window_sum(x)[:, inner].long() for x in (torch.ones_like(band), band))
        below, mass, best, best_rest = (torch.zeros_like(total) for _ in range(4))
        best_divisor = torch.ones_like(total)
        levels = torch.zeros_like(band[:, inner])
        for level in range(256):
            here = _window_sum(band == level)[:, inner]
            below += here
            mass.add_(here, alpha=level)
            if level == 0:  # never split there
                continue
            between, divisor = total * below - mass * pixels, (below * (pixels - below)).clamp_min_(1)
            square = between.mul_(between)
            whole = square // divisor
            rest = square.sub_(whole * divisor)
            better = (whole > best) | ((whole == best) & (rest * best_divisor > best_rest * divisor))
            better &= here > 0
            best = torch.where(better, whole, best)
            best_rest = torch.where(better, rest, best_rest)
            best_divisor = torch.where(better, divisor, best_divisor)
            levels = torch.maximum(levels, better.to(torch.uint8) * level)
        bands.append(levels)
    return torch.cat(bands, 1)


def _window_sum(values: Tensor) -> Tensor:
    """Int32 sums over the square of WINDOW_PX around each element of [N, H, W], as differences of cumulative ones."""
    for axis, padding in ((1, (0, 0, REACH + 1, REACH)), (2, (REACH + 1, REACH))):
        until = F.pad(values, padding).cumsum(axis, dtype=torch.int32)  # may run over: differences do not
        size = values.shape[axis]
        values = until.narrow(axis, WINDOW_PX, size) - until.narrow(axis, 0, size)
    return values


def _exact_cpu(edges: np.ndarray) -> np.ndarray:
    """exact_thresholds of a frame, its rows shared by threads: NumPy and OpenCV let go of the interpreter."""
    height, threads = len(edges), torch.get_num_threads()
    levels = np.empty_like(edges)
    limits = [height * i // threads for i in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda i: _exact_rows(edges, limits[i], limits[i + 1], levels), range(threads)))
    return levels


def _exact_rows(edges: np.ndarray, top: int, bottom: int, levels: np.ndarray) -> None:
    """Levels of some rows, band by band, from histograms of columns that are moved down and added up sideways."""
    height, width = edges.shape
    column = np.arange(width)
    counts = np.zeros((256, width), np.uint8)
    for y in range(max(0, top - REACH), min(height, top + REACH)):
        counts[edges[y], column] += 1
    rows = max(1, _AT_ONCE_CPU // width)
    held = np.empty((256, min(rows, bottom - top), width), np.uint8)
    for begin in range(top, bottom, rows):
        end = min(bottom, begin + rows)
        for y in range(begin, end):
            if y + REACH < height:
                counts[edges[y + REACH], column] += 1
            if y > top and y - REACH > 0:
                counts[edges[y - REACH - 1], column] -= 1
            held[:, y - begin] = counts
        levels[begin:end] = _exact_band(edges, begin, end, held[:, : end - begin])


def _exact_band(edges: np.ndarray, top: int, bottom: int, columns: np.ndarray) -> np.ndarray:
    """The levels of a few rows, from their columns' histograms [256, rows, W]: every level is tried in every window.

    Counts and `between` are whole numbers that fit 32 bits, so that only quotients are rounded, as the kernels round.
    """
    first, last = max(0, top - REACH), min(len(edges), bottom + REACH)
    seen, square = edges[first:last], (WINDOW_PX, WINDOW_PX)
    total, pixels = (
        np.asarray(cv2.boxFilter(x, cv2.CV_32S, square, **_SUM)[top - first : bottom - first])
        for x in (seen, np.ones_like(seen))
    )
    below, between, scratch, here = (np.zeros(total.shape, np.int32) for _ in range(4))
    variance, divisor, best = (np.zeros(total.shape) for _ in range(3))
    levels, better, at_zero = np.zeros(total.shape, np.uint8), np.empty(total.shape, np.bool_), None
    weight, passed = total.copy(), 0  # of a pixel in `between`: S - level * n
    for level in np.flatnonzero(np.bincount(seen.ravel(), minlength=256)).tolist():
        weight -= np.multiply(pixels, level - passed, out=scratch)
        passed = level
        cv2.boxFilter(columns[level], cv2.CV_32S, (WINDOW_PX, 1), here, **_SUM)
        below += here
        between += np.multiply(here, weight, out=scratch)
        if level == 0:  # never split there
            at_zero = here.copy()
            continue
        cv2.multiply(between, between, variance, dtype=cv2.CV_64F)
        cv2.multiply(np.subtract(pixels, below, out=scratch), below, divisor, dtype=cv2.CV_64F)
        with np.errstate(invalid="ignore"):  # 0 / 0 where a class is empty; that is not greater than anything
            np.divide(variance, divisor, out=variance)
        if at_zero is not None:  # until a window has met another level, its split is still that at level 0
            still = below == at_zero
            variance[still] = 0
            at_zero = at_zero if still.any() else None
        np.greater(variance, best, out=better)
        np.maximum(levels, np.multiply(better.view(np.uint8), np.uint8(level)), out=levels)
        np.fmax(best, variance, out=best)
    return levels


def _otsu_threshold_cuda(edges: Tensor, method: str, share: float) -> Tensor:
    count, height, width = edges.shape
    rows, columns = (-(-height // TILE_PX), -(-width // TILE_PX)) if method == "local" else (0, 0)
    corners = (rows + 1, columns + 1) if method == "local" else (0, 0)

    def table(*shape: int, dtype: torch.dtype = torch.int32) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=edges.device)

    tiles, frames = table(count, rows, columns, 256, dtype=torch.uint16), table(count, 256).zero_()
    levels, overall = table(count, *corners), table(count)
    mask = torch.empty_like(edges, dtype=torch.bool)
    if method == "local":
        size = count * -(-rows // PATCH_TILES) * -(-columns // PATCH_TILES)
        launch(STEM, "otsu_threshold_tiles", size, edges, tiles, frames, *edges.shape, by_block=True)
    else:
        height, width = 1, height * width  # one long row: its length decides whether 16 pixels go at once
        size = count * -(-width // CHUNK_PX)
        launch(STEM, "otsu_threshold_frames", size, edges, frames, count, width, by_block=True)
    warps = count * (1 + corners[0] * corners[1])
    launch(STEM, "otsu_threshold_split", warps * WARP, tiles, frames, levels, overall, count, *corners)
    sizes = count, height, width, *corners
    launch(STEM, "otsu_threshold_binarise", -(-edges.numel() // 16), edges, levels, overall, mask, *sizes, share)
    return mask


def _exact_thresholds_cuda(edges: Tensor) -> Tensor:
    count, height, width = edges.shape
    levels = torch.empty_like(edges)
    blocks = count * -(-height // BAND_PX) * -(-width // STRIP_PX)
    launch(STEM, "otsu_threshold_sliding", blocks, edges, levels, *edges.shape, by_block=True)
    return levels
