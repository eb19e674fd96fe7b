"""Otsu's threshold: global, local in tiles, and exact, from every pixel's own window.

::

    tile histograms, 64 px   windows of 3x3 tiles   one threshold a tile   bilinear between tile centres
    ┌──┬──┬──┬──┐            ┌────────┐
    ├──┼──┼──┼──┤      →     │        ├──┐     →      t  t  t  t      →      T(y, x)
    └──┴──┴──┴──┘            └────────┘  │

A window whose best split is weak (flat: no edges at all, or nothing else) takes the frame's global threshold. The exact
form knows no flat windows: it is scikit-image's rank filter, which splits the noise of a flat place too.

Source: Otsu 1979. Differs: the local form shares one threshold over a tile and interpolates, instead of sliding.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from streamstyle.errors import ShapeError
from streamstyle.gpu.kernels import chosen, launch

STEM = "otsu_threshold"
TILE_PX = 64
FLAT_VARIANCE = 64.0
"""Between-class variance (levels squared) under which a window counts as flat; as in the kernels."""
WINDOW_PX = 65
"""Side of the exact form's window; the kernels' WINDOW."""
MOST_PIXELS = 1 << 27
"""Of a frame: pixels squared times 255 must fit 64 bits."""
BAND_PX, STRIP_PX, CHUNK_PX = 32, 96, 16384
"""What a block of the kernels does: rows and columns of the exact form, pixels of a frame's histogram."""
WARP = 32
REACH = WINDOW_PX // 2
_AT_ONCE = 1 << 20
"""Pixels whose windows the exact form's reference searches together: that bounds its memory."""
_BAND_ROWS = 16
"""The same on a CPU, in rows: the tables stay in its cache."""
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

    Cost: global 3 bytes a pixel, local 3.5, in 3 launches and the clearing of a table; exact 1 launch, 4 bytes and some
    300 instructions of a warp a pixel. No synchronisation. At 1080p on a CPU: global 2 ms, local 50 ms, exact some
    4 s a core.
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
    return edges > share * _best_split(_tile_histograms(edges).sum((1, 2)))[0].view(-1, 1, 1)


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

    Cost: as for :func:`otsu_threshold`; the reference makes some 20 passes for each of 256 levels.
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
    level, variance = _best_split(_sum_3x3(histograms))
    overall = _best_split(histograms.sum((1, 2)))[0].view(-1, 1, 1)
    level = torch.where(variance > FLAT_VARIANCE, level, overall).float()
    height, width = edges.shape[1:]
    # Tiles are cut from the top left, so the last ones may be part tiles: interpolate over whole tiles, then crop.
    grown = F.interpolate(
        F.pad(level[:, None], (1, 1, 1, 1), mode="replicate"),
        scale_factor=TILE_PX,
        mode="bilinear",
        align_corners=False,
    )
    assert grown.shape[2:] == ((rows + 2) * TILE_PX, (columns + 2) * TILE_PX)
    return grown[:, 0, TILE_PX : TILE_PX + height, TILE_PX : TILE_PX + width]


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


def _sum_3x3(histograms: Tensor) -> Tensor:
    """Each tile's histogram and its neighbours'."""
    padded = F.pad(histograms, (0, 0, 1, 1, 1, 1))
    down = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    return down[:, :, :-2] + down[:, :, 1:-1] + down[:, :, 2:]


def _best_split(histograms: Tensor) -> tuple[Tensor, Tensor]:
    """Otsu level (int64) and its between-class variance (float64) of int64 [..., 256] histograms."""
    levels = torch.arange(256, device=histograms.device)
    below, mass = histograms.cumsum(-1), (histograms * levels).cumsum(-1)
    pixels, total = below[..., -1:], mass[..., -1:]
    # Times pixels squared, the variance is an exact integer, squared, over another: rounded alike on every device.
    between = (total * below - mass * pixels).double()
    variance = between * between / (below * (pixels - below)).clamp_min_(1).double()
    best = variance.amax(-1, keepdim=True)
    level = torch.where(variance >= best, levels, 256).amin(-1)  # argmax does not promise the lowest on every device
    return level, (best / pixels.double() ** 2)[..., 0]


def _global_opencv(frame: np.ndarray, share: float) -> np.ndarray:
    level = cv2.threshold(frame, 0, 255, cv2.THRESH_OTSU)[0]
    threshold = np.float32(share) * np.float32(level)  # as torch multiplies
    return cv2.threshold(frame, float(threshold), 1, cv2.THRESH_BINARY)[1].view(np.bool_)


def _exact_ref(edges: Tensor) -> Tensor:
    """Every level is tried in every window at once; all but the quotient are whole numbers, exact in float64."""
    _, height, width = edges.shape
    rows = max(1, _AT_ONCE // (len(edges) * width))
    bands = []
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        begin, end = max(0, top - REACH), min(height, bottom + REACH)
        band, inner = edges[:, begin:end], slice(top - begin, bottom - begin)
        pixels, total = _window_sum(torch.ones_like(band))[:, inner], _window_sum(band)[:, inner]
        below, mass, best = (torch.zeros_like(total) for _ in range(3))
        levels = torch.zeros_like(band[:, inner])
        for level in range(256):
            here = _window_sum(band == level)[:, inner]
            below += here
            mass += level * here
            if level == 0:  # never split there
                continue
            variance = (total * below - mass * pixels) ** 2 / (below * (pixels - below)).clamp_min_(1)
            better = (here > 0) & (variance > best)
            best = torch.where(better, variance, best)
            levels.masked_fill_(better, level)
        bands.append(levels)
    return torch.cat(bands, 1)


def _window_sum(values: Tensor) -> Tensor:
    """Float64 sums over the square of WINDOW_PX around each element of [N, H, W], as differences of cumulative ones."""
    for axis, padding in ((1, (0, 0, 1, 0)), (2, (1, 0))):
        size = values.shape[axis]
        at = torch.arange(size, device=values.device)
        until = F.pad(values.cumsum(axis), padding)
        ends, begins = (at + REACH + 1).clamp_max_(size), (at - REACH).clamp_min_(0)
        values = until.index_select(axis, ends) - until.index_select(axis, begins)
    return values.double()


def _exact_cpu(edges: np.ndarray) -> np.ndarray:
    """exact_thresholds of a frame: bands of rows in threads, for NumPy and OpenCV let go of the interpreter."""
    tops = range(0, len(edges), _BAND_ROWS)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        return np.concatenate([*pool.map(lambda top: _exact_band(edges, top), tops)])


def _exact_band(edges: np.ndarray, top: int) -> np.ndarray:
    """The levels of _BAND_ROWS rows, from histograms of columns that are moved down and added up sideways."""
    columns, total, pixels = _column_histograms(edges, top)
    below, between, best = (np.zeros_like(total) for _ in range(3))
    scratch, variance = np.empty_like(total), np.empty_like(total)
    levels, at_zero = np.zeros(total.shape, np.uint8), None
    weight = total.copy()  # of a pixel in `between`: S - level * n
    for level in range(256):
        if columns[level].any():
            here = cv2.boxFilter(columns[level], cv2.CV_64F, (WINDOW_PX, 1), **_SUM)
            below += here
            between += np.multiply(here, weight, out=scratch)
            if level == 0:  # never split there
                at_zero = here
            else:
                np.subtract(pixels, below, out=scratch)
                np.maximum(np.multiply(scratch, below, out=scratch), 1, out=scratch)
                np.divide(np.multiply(between, between, out=variance), scratch, out=variance)
                if at_zero is not None:  # until a window has met another level, its split is still that at level 0
                    still = below == at_zero
                    variance[still] = 0
                    at_zero = at_zero if still.any() else None
                np.maximum(levels, np.greater(variance, best).view(np.uint8) * np.uint8(level), out=levels)
                np.maximum(best, variance, out=best)
        weight -= pixels
    return levels


def _column_histograms(edges: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Histograms of the columns at each row of a band [256, rows, W]; mass and pixels of the windows [rows, W]."""
    height, width = edges.shape
    rows = min(_BAND_ROWS, height - top)
    begin, end = max(0, top - REACH), min(height, top + rows + REACH)
    square = (WINDOW_PX, WINDOW_PX)
    inner = slice(top - begin, top - begin + rows)
    total = cv2.boxFilter(edges[begin:end], cv2.CV_64F, square, **_SUM)[inner]
    pixels = cv2.boxFilter(np.ones_like(edges[begin:end]), cv2.CV_64F, square, **_SUM)[inner]
    column = np.arange(width)
    counts = np.zeros((256, width), np.uint8)
    for y in range(begin, min(height, top + REACH)):
        counts[edges[y], column] += 1
    held = np.empty((256, rows, width), np.uint8)
    for row in range(rows):
        y = top + row
        if y + REACH < height:
            counts[edges[y + REACH], column] += 1
        if row > 0 and y - REACH > 0:
            counts[edges[y - REACH - 1], column] -= 1
        held[:, row] = counts
    return held, total, pixels


def _otsu_threshold_cuda(edges: Tensor, method: str, share: float) -> Tensor:
    count, height, width = edges.shape
    rows, columns = (-(-height // TILE_PX), -(-width // TILE_PX)) if method == "local" else (0, 0)

    def table(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.int32, device=edges.device)

    tiles, frames = table(count, rows, columns, 256), table(count, 256).zero_()
    levels, overall = table(count, rows, columns), table(count)
    mask = torch.empty_like(edges, dtype=torch.bool)
    if method == "local":
        size = count * rows * columns
        launch(STEM, "otsu_threshold_tiles", size, edges, tiles, frames, *edges.shape, by_block=True)
    else:
        height, width = 1, height * width  # one long row: its length decides whether 16 pixels go at once
        size = count * -(-width // CHUNK_PX)
        launch(STEM, "otsu_threshold_frames", size, edges, frames, count, width, by_block=True)
    warps = count * (1 + rows * columns)
    launch(STEM, "otsu_threshold_split", warps * WARP, tiles, frames, levels, overall, count, rows, columns)
    sizes = count, height, width, rows, columns
    launch(STEM, "otsu_threshold_binarise", -(-edges.numel() // 16), edges, levels, overall, mask, *sizes, share)
    return mask


def _exact_thresholds_cuda(edges: Tensor) -> Tensor:
    count, height, width = edges.shape
    levels = torch.empty_like(edges)
    blocks = count * -(-height // BAND_PX) * -(-width // STRIP_PX)
    launch(STEM, "otsu_threshold_sliding", blocks, edges, levels, *edges.shape, by_block=True)
    return levels
