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


def style_map(
    looks: Tensor, count: int, size: tuple[int, int], feather_px: float, *, impl: str = "auto"
) -> tuple[Tensor, Tensor, Tensor]:
    """Enlarge maps of looks with soft borders.

    Args:
        looks: [N, h, w] int32, 0 .. count - 1.
        count: K, how many looks there are, at most MOST_LOOKS.
        size: (height, width) of the frame.
        feather_px: width of the soft border in the frame's pixels; 0 for a hard one.
        impl: "auto" (the kernels on CUDA, OpenCV on a CPU), "ref" (torch on any device) or "cuda".

    Returns:
        first, second [N, height, width] uint8 and first's weight [N, height, width] float32, 0.5 .. 1. Where a pixel
        is far from every border the weight is 1, and second the lowest number that is not first (OpenCV: any).

    Raises:
        ShapeError: looks is not int32 [N, h, w], or count or size is none that can be had.

    Cost: three launches, 6 bytes a pixel and 20 + 8 K a pixel of the map; the reference some 40 K a pixel. No
    synchronisation.
    """
    _check(looks, count, size)
    blur, gain = _blur_and_gain(looks, size, feather_px)
    if chosen(impl, looks):
        first, second = (looks.new_empty(len(looks), *size, dtype=torch.uint8) for _ in range(2))
        weight = looks.new_empty(len(looks), *size, dtype=torch.float32)
        _enlarge_cuda("style_map_strongest", looks, count, blur, gain, size, (first, second, weight))
        return first, second, weight
    if impl == "auto" and looks.device.type == "cpu" and len(looks) > 0:
        frames = [_strongest_two(frame, count, size, blur) for frame in looks.numpy()]
        first, second, best, next_best = (torch.from_numpy(np.stack(part)) for part in zip(*frames, strict=True))
    else:
        first, second, best, next_best = _strongest_two_ref(looks, count, size, blur)
    return first, second, _weight(best.float(), next_best.float(), gain)


def blend_map(
    looks: Tensor,
    count: int,
    size: tuple[int, int],
    feather_px: float,
    paints: Sequence[bool] | None = None,
    *,
    impl: str = "auto",
) -> tuple[Tensor, Tensor | None]:
    """Enlarge maps of looks to what painting reads: :func:`style_map`, then ``blends.blend_index``, in one.

    Args:
        looks, count, size, feather_px, impl: as of :func:`style_map`.
        paints: whether each of the K looks paints, where the painted share is wanted.

    Returns:
        index [N, height, width] int32, rows of the table of K styles and their blends; and with paints the painted
        share [N, height, width] float32 of each pixel, else None.

    Raises:
        ShapeError: as style_map; or paints are not K.

    Cost: three launches, 4 bytes a pixel, 8 with paints, and 20 + 8 K a pixel of the map. No synchronisation.
    """
    _check(looks, count, size)
    if paints is not None and len(paints) != count:
        raise ShapeError(f"paints must be {count}, one a look, got {len(paints)}")
    if chosen(impl, looks):
        blur, gain = _blur_and_gain(looks, size, feather_px)
        index = looks.new_empty(len(looks), *size)
        wanted = (len(looks), *size) if paints is not None else (0,)  # empty: a null pointer
        painted = looks.new_empty(wanted, dtype=torch.float32)
        painting = sum(1 << k for k, does in enumerate(paints or ()) if does)
        _enlarge_cuda("style_map_blend_rows", looks, count, blur, gain, size, (index, painted), LEVELS, painting)
        return index, None if paints is None else painted
    borders = style_map(looks, count, size, feather_px, impl=impl)
    index = looks.new_empty(len(looks), *size)
    share = None if paints is None else torch.empty_like(index, dtype=torch.float32)
    step = 1 if looks.device.type == "cpu" else max(1, len(looks))  # one frame's temporaries stay in a CPU's caches
    for begin in range(0, len(looks), step):
        part = slice(begin, begin + step)
        first, second, weight = (x[part] for x in borders)
        index[part] = blend_index(first, second, weight, count)
        if share is not None and paints is not None:
            share[part] = _share(first, second, weight, paints)
    return index, share


def _check(looks: Tensor, count: int, size: tuple[int, int]) -> None:
    if looks.ndim != 3 or looks.dtype != torch.int32:
        raise ShapeError(f"looks must be int32 [N, h, w], got {looks.dtype} {[*looks.shape]}")
    if not 1 <= count <= MOST_LOOKS:
        raise ShapeError(f"count must be 1 .. {MOST_LOOKS}, got {count}")
    if min(*looks.shape[1:], *size) < 1:
        raise ShapeError(f"a map and a frame have pixels, got {[*looks.shape[1:]]} and {[*size]}")


def _blur_and_gain(looks: Tensor, size: tuple[int, int], feather_px: float) -> tuple[float, float]:
    """Sigma of the blur in pixels of the map, and the slope of a border; infinite for a hard one."""
    scale = size[0] / looks.shape[1]
    blur = max(SMOOTH_PX, feather_px / 2.5 / scale)
    # A step blurred by sigma has slope 1 / (sigma sqrt(2 pi)) at the border: this gain makes the ramp feather_px wide.
    return blur, math.inf if feather_px <= 0 else blur * scale * math.sqrt(2 * math.pi) / feather_px


def _weight(best: Tensor, next_best: Tensor, gain: float) -> Tensor:
    if math.isinf(gain):
        return torch.ones_like(best)
    share = best / (best + next_best).clamp_min_(1e-6)
    return share.sub_(0.5).mul_(gain).add_(0.5).clamp_(0.5, 1)


def _share(first: Tensor, second: Tensor, weight: Tensor, paints: Sequence[bool]) -> Tensor:
    """The painted share of each pixel; compared with those that do not paint, because a table would be waited for."""
    share = weight.new_ones(weight.shape)
    for k, does in enumerate(paints):
        if not does:
            share.sub_(weight * (first == k)).sub_((1 - weight) * (second == k))
    return share


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
    gain: float,
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
    slope = 0.0 if math.isinf(gain) else gain
    launch(STEM, entry, sizes[0], masks, bits, *out, *sizes, slope, *numbers, by_block=True)


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
