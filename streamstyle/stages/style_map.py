"""From a small map of who is who to soft full-size weights: the two strongest styles of each pixel.

::

    slots [h, w]   looks = table[slots]   one mask a look, smoothed    the two strongest and the first one's weight
      0 0 2 2          a a b b             a: 1 1 .6 0                   (a, b, 1.0) (a, b, .7) (b, a, .7) ...
      0 2 2 2    →     a b b b      →      b: 0 0 .4 1           →

Two styles meet at most pixels of a border, so two and a weight are enough. What painting reads of them is one number a
pixel, a row of the table of blends; on CUDA that is all that is written at full size.

The blur is done in whole numbers, and what is enlarged of it product by product in a stated order, so that kernels and
reference agree to the last bit. Of equal masks the one with the lower number is the stronger.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from streamstyle.errors import ShapeError
from streamstyle.gpu.kernels import chosen, launch
from streamstyle.gpu.transfer import to_device
from streamstyle.stages.blends import LEVELS, blend_index

STEM = "style_map"
SMOOTH_PX = 0.8
"""Blur of a mask, in pixels of the small map, that rounds its staircase even where the border is hard."""
MOST_LOOKS = 32
"""A pixel of the small map says in the bits of one int which looks are near."""
UNIT = 15
"""A whole mask is 1 << UNIT: two factors of that size and their sums stay within 31 bits. The kernels' UNIT."""

Two = tuple[Tensor, Tensor, Tensor, Tensor]
"""Of each pixel the strongest look, the second, and their masks' values."""

Widths = float | Sequence[Sequence[float]]
"""The width of every border, or [K][K] of that between each two looks, the same from both sides."""


def style_map(
    looks: Tensor, count: int, size: tuple[int, int], feather_px: Widths, *, impl: str = "auto"
) -> tuple[Tensor, Tensor, Tensor]:
    """Enlarge maps of looks with soft borders.

    Args:
        looks: [N, h, w] int32, 0 .. count - 1.
        count: K, how many looks there are, at most MOST_LOOKS.
        size: (height, width) of the frame.
        feather_px: width of the soft borders in the frame's pixels, 0 for hard ones; or [K][K] widths, symmetric: that
            of the border between each two looks. See :func:`pair_feathers`.
        impl: "auto" (the kernels on CUDA, OpenCV on a CPU), "ref" (torch on any device) or "cuda".

    Returns:
        first, second [N, height, width] uint8 and first's weight [N, height, width] float32, 0.5 .. 1. Where a pixel
        is far from every border the weight is 1, and second the lowest number that is not first (OpenCV: any).

    Raises:
        ShapeError: looks is not int32 [N, h, w], or count or size is none that can be had; the widths are not K x K
            or not symmetric.

    Cost: three launches, 6 bytes a pixel and 20 + 8 K a pixel of the map; the reference some 40 K a pixel. No
    synchronisation.
    """
    _check(looks, count, size)
    blur, gains = _blur_and_gains(looks, count, size, feather_px)
    if chosen(impl, looks):
        first, second = (looks.new_empty(len(looks), *size, dtype=torch.uint8) for _ in range(2))
        weight = looks.new_empty(len(looks), *size, dtype=torch.float32)
        _enlarge_cuda("style_map_strongest", looks, count, blur, gains, size, (first, second, weight))
        return first, second, weight
    if impl != "auto" or looks.device.type != "cpu" or len(looks) == 0:
        two = _strongest_two_ref(looks, count, size, blur)
        return two[0], two[1], _weight(two, count, gains)
    found = []
    for frame in looks.numpy():  # one frame's temporaries stay in a CPU's caches
        first, second, best, next_best = (torch.from_numpy(x) for x in _strongest_two(frame, count, size, blur))
        found.append((first, second, _weight((first, second, best.float(), next_best.float()), count, gains)))
    first, second, weight = (torch.stack(part) for part in zip(*found, strict=True))
    return first, second, weight


def blend_map(looks: Tensor, count: int, size: tuple[int, int], feather_px: Widths, *, impl: str = "auto") -> Tensor:
    """Enlarge maps of looks to what painting reads: :func:`style_map`, then ``blends.blend_index``, in one.

    Args:
        looks, count, size, feather_px, impl: as of :func:`style_map`.

    Returns:
        [N, height, width] int32, rows of the table of K styles and their blends.

    Raises:
        ShapeError: as style_map.

    Cost: three launches, 4 bytes a pixel, and 20 + 8 K a pixel of the map; widths that differ are a copy of K * K
    floats from pinned memory. No synchronisation.
    """
    _check(looks, count, size)
    index = looks.new_empty(len(looks), *size)
    if chosen(impl, looks):
        blur, gains = _blur_and_gains(looks, count, size, feather_px)
        _enlarge_cuda("style_map_blend_rows", looks, count, blur, gains, size, (index,), LEVELS)
        return index
    borders = style_map(looks, count, size, feather_px, impl=impl)
    step = 1 if looks.device.type == "cpu" else max(1, len(looks))  # one frame's temporaries stay in a CPU's caches
    for begin in range(0, len(looks), step):
        part = slice(begin, begin + step)
        first, second, weight = (x[part] for x in borders)
        index[part] = blend_index(first, second, weight, count)
    return index


def pair_feathers(own: Sequence[float | None], default: float) -> list[list[float]]:
    """The width of the border between each two looks, [K][K].

    Args:
        own: the width each look says, None where it says none.
        default: where neither of two says one. Where one does its own is taken, where both do the wider.
    """
    return [[default if a is b is None else max(w for w in (a, b) if w is not None) for b in own] for a in own]


def _check(looks: Tensor, count: int, size: tuple[int, int]) -> None:
    if looks.ndim != 3 or looks.dtype != torch.int32:
        raise ShapeError(f"looks must be int32 [N, h, w], got {looks.dtype} {[*looks.shape]}")
    if not 1 <= count <= MOST_LOOKS:
        raise ShapeError(f"count must be 1 .. {MOST_LOOKS}, got {count}")
    if min(*looks.shape[1:], *size) < 1:
        raise ShapeError(f"a map and a frame have pixels, got {[*looks.shape[1:]]} and {[*size]}")


def _blur_and_gains(
    looks: Tensor, count: int, size: tuple[int, int], feather_px: Widths
) -> tuple[float, float | Tensor]:
    """Sigma of the blur in pixels of the map, that of the widest border, and how steep the borders are.

    A gain is 1 or more, or 0 for a hard border: one where all widths are alike, else a table [K * K] on looks' device.
    """
    scale = size[0] / looks.shape[1]
    if isinstance(feather_px, (int, float)):
        blur = max(SMOOTH_PX, feather_px / 2.5 / scale)
        return blur, _gain(blur * scale, feather_px)
    if len(feather_px) != count or any(len(row) != count for row in feather_px):
        raise ShapeError(f"widths must be {count} x {count}, got rows of {[len(row) for row in feather_px]}")
    pairs = [(a, b) for a in range(count) for b in range(a)] or [(0, 0)]
    for a, b in pairs:
        if feather_px[a][b] != feather_px[b][a]:
            both = f"{feather_px[a][b]} and {feather_px[b][a]}"
            raise ShapeError(f"a border has one width from both sides, got {both} for looks {a} and {b}")
    widths = {feather_px[a][b] for a, b in pairs}
    widest = max(widths)
    blur, gain = _blur_and_gains(looks, count, size, widest)
    if len(widths) == 1:
        return blur, gain
    gains = [[_gain(blur * scale, width) for width in row] for row in feather_px]
    for k in range(count):
        gains[k][k] = 0.0  # OpenCV's second where nobody is
    return blur, to_device(torch.tensor(gains).flatten(), looks.device)


def _gain(sigma: float, feather_px: float) -> float:
    # A step blurred by sigma has slope 1 / (sigma sqrt(2 pi)) at the border: this gain makes the ramp feather_px wide.
    return 0.0 if feather_px <= 0 else sigma * math.sqrt(2 * math.pi) / feather_px


def _weight(two: Two, count: int, gains: float | Tensor) -> Tensor:
    """The first look's weight; best and next_best are overwritten."""
    first, second, best, next_best = two
    if isinstance(gains, float) and gains == 0:
        return torch.ones_like(best)
    weight = best.div_(next_best.add_(best).clamp_min_(1e-6)).sub_(0.5)
    if isinstance(gains, float):
        return weight.mul_(gains).add_(0.5).clamp_(0.5, 1)
    pair = first.to(torch.int32).mul_(count).add_(second)
    gain = gains.index_select(0, pair.flatten()).view(pair.shape)
    return weight.mul_(gain).add_(0.5).clamp_(0.5, 1).masked_fill_(gain == 0, 1)


def _curve(radius: int, sigma: float, device: torch.device) -> Tensor:
    """The Gaussian [2 radius + 1] int32, in parts of 1 << UNIT; made on the device, for a copy is waited for."""
    curve = torch.arange(-radius, radius + 1, dtype=torch.float32, device=device)
    curve.square_().mul_(-0.5 / sigma**2).exp_()
    return (curve / curve.sum()).mul_(1 << UNIT).round_().to(torch.int32)


def _radius(looks: Tensor, sigma: float) -> int:
    return min(round(3 * sigma), min(looks.shape[1:]) - 1)


def _strongest_two_ref(looks: Tensor, count: int, size: tuple[int, int], sigma: float) -> Two:
    """The best two so far, mask by mask."""
    masks = _blurred(looks, count, sigma)
    top, bottom, down = _between(masks.shape[2], size[0], looks.device)
    left, right, across = _between(masks.shape[3], size[1], looks.device)
    best, next_best = (looks.new_zeros(len(looks), *size, dtype=torch.float32) for _ in range(2))
    first, second = (looks.new_zeros(len(looks), *size, dtype=torch.uint8) for _ in range(2))
    for k in range(count):
        small = masks[:, k].float()
        rows = _mixed(small.index_select(1, top), small.index_select(1, bottom), down[:, None])
        mask = _mixed(rows.index_select(2, left), rows.index_select(2, right), across)
        wins = mask > best
        second.masked_fill_(mask > next_best, k)
        second = torch.where(wins, first, second)
        first.masked_fill_(wins, k)
        next_best = torch.maximum(next_best, torch.minimum(best, mask))
        best = torch.maximum(best, mask, out=best)
    lowest_other = (first == 0).to(torch.uint8) if count > 1 else torch.zeros_like(first)
    return first, torch.where(next_best > 0, second, lowest_other), best, next_best


def _mixed(before: Tensor, after: Tensor, part: Tensor) -> Tensor:
    """Linear between two, rounded after each step; after is overwritten."""
    return after.sub_(before).mul_(part).add_(before)


def _between(small: int, full: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Between which two of a small map's pixels each full-size one lies, and how far towards the second."""
    position = torch.arange(full, dtype=torch.float32, device=device).add_(0.5).mul_(small / full).sub_(0.5)
    position = position.clamp_min_(0)
    before = position.to(torch.int32).clamp_(max=small - 1)
    return before, (before + 1).clamp_(max=small - 1), position - before


def _blurred(looks: Tensor, count: int, sigma: float) -> Tensor:
    """A mask for each look, [N, K, h, w] int32, in parts of 1 << UNIT; blurred, mirrored at the border (reflect)."""
    radius = _radius(looks, sigma)
    curve = _curve(radius, sigma, looks.device)
    masks = (looks[:, None] == torch.arange(count, device=looks.device).view(-1, 1, 1)).to(torch.int32)
    half = 1 << (UNIT - 1)
    return (_blur_axis(_blur_axis(masks, curve, radius, 3), curve, radius, 2) + half) >> UNIT


def _blur_axis(masks: Tensor, curve: Tensor, radius: int, axis: int) -> Tensor:
    length = masks.shape[axis]
    at = torch.arange(-radius, length + radius, device=masks.device).abs_()
    padded = masks.index_select(axis, (length - 1) - ((length - 1) - at).abs_())
    out = torch.zeros_like(masks)
    for tap in range(2 * radius + 1):
        out.addcmul_(padded.narrow(axis, tap, length), curve[tap])
    return out


def _enlarge_cuda(
    entry: str,
    looks: Tensor,
    count: int,
    sigma: float,
    gains: float | Tensor,
    size: tuple[int, int],
    out: tuple[Tensor, ...],
    *numbers: int,
) -> None:
    """Blur the masks, and have an entry enlarge them into out."""
    looks = looks.contiguous()
    frames, height, width = looks.shape
    radius = _radius(looks, sigma)
    curve = _curve(radius, sigma, looks.device)
    rows, masks = (looks.new_empty(frames, count, height, width, dtype=torch.uint16) for _ in range(2))
    row_bits, bits = torch.empty_like(looks), torch.empty_like(looks)
    shape = (frames * height, count, height, width, radius)
    launch(STEM, "style_map_blur_rows", shape[0], looks, curve, rows, row_bits, *shape, by_block=True)
    launch(STEM, "style_map_blur_columns", shape[0], rows, row_bits, curve, masks, bits, *shape, by_block=True)
    sizes = (frames * size[0], count, height, width, *size, height / size[0], width / size[1])
    table = gains if isinstance(gains, Tensor) else torch.full((count * count,), gains, device=looks.device)
    launch(STEM, entry, sizes[0], masks, bits, table, *out, *sizes, *numbers, by_block=True)


def _strongest_two(
    looks: np.ndarray, count: int, size: tuple[int, int], sigma: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Indices and values (0..255) of the largest and second largest smoothed mask of each full-size pixel.

    The most common look is laid down first; each other one is compared only inside its own box.
    """
    areas = np.bincount(looks.ravel(), minlength=count)
    order = [int(k) for k in np.argsort(-areas, kind="stable") if areas[k]]
    radius = min(round(3 * sigma), min(looks.shape) - 1)
    best, next_best = np.zeros(size, np.uint8), np.zeros(size, np.uint8)
    first = np.full(size, order[0], np.uint8)
    second = np.full(size, order[min(1, len(order) - 1)], np.uint8)
    for k in order:
        small = (looks == k).astype(np.uint8) * np.uint8(255)
        box = _box(small, radius + 2, size)
        if radius >= 1:
            small = cv2.GaussianBlur(small, (2 * radius + 1,) * 2, sigma, borderType=cv2.BORDER_REFLECT_101)
        mask = cv2.resize(small, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
        if k == order[0]:
            best = mask
            continue
        mask, b, n, f, s = (x[box] for x in (mask, best, next_best, first, second))
        wins = mask > b
        runner = ~wins & (mask > n)
        np.copyto(s, f, where=wins)
        np.copyto(n, b, where=wins)
        np.copyto(f, k, where=wins)
        np.copyto(b, mask, where=wins)
        np.copyto(s, k, where=runner)
        np.copyto(n, mask, where=runner)
    return first, second, best, next_best


def _box(mask: np.ndarray, margin: int, size: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns, at full size, that a small mask can reach when blurred and enlarged."""
    slices = []
    for axis in range(2):
        at = np.flatnonzero(mask.any(1 - axis))
        scale = size[axis] / mask.shape[axis]
        slices.append(slice(max(0, int((at[0] - margin) * scale)), int((at[-1] + 1 + margin) * scale) + 1))
    return slices[0], slices[1]
