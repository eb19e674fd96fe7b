"""Soft borders between looks along the motion: how far what was painted with one fits where it is now.

::

    looks now     a a a b b b b     bits, as soft as painted     0 0 .3 .7 1 1 1 ─┐
    carried       a a b b b b b     the same, of then, moved     0 .3 .7 1 1 1 1 ─┴─► off by .4: painted anew

A border that goes along with the source lies, carried, where it is now, and the strokes about it are as good as any.
Where the two differ a trail would be left: some of one look in the other. A bit of its number at least tells a look
from another, so of K looks log2 K small pictures are enough.

What counts is not where the border was one frame ago but where it was in what is carried: errors do not add up.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
from torch import Tensor

from streamstyle.errors import ShapeError
from streamstyle.stages.calm import carried_along
from streamstyle.stages.calm_cpu import places_of, read_cpu

LEAST_SIGMA_PX, SIGMAS = 1.0, 2.5
"""Of the blur: a border that is sharper cannot be read between pixels; and how many a soft border is wide, as in
``style_map``."""
BORDER_HELD, BORDER_NEW = 0.05, 0.15
"""Parts of one look in the other by which the middle of a border may be off what is carried, and from which all is
painted anew."""
TAIL = 3.0
"""By how much more what is off weighs where the border ends: there the least of another look is seen, and stays."""
SAME = 1e-3
"""Of a hard border: within which bits are the same."""


def soft_bits(looks: Tensor, count: int, size: tuple[int, ...], feather_px: float, *, impl: str = "auto") -> Tensor:
    """The bits of the looks' numbers, as soft as the borders between them.

    Args:
        looks: [h', w'] int32; a number's look is what is left of it divided by count.
        count: how many looks there are.
        size: (h, w) of the small picture.
        feather_px: width of the widest soft border, in its pixels.
        impl: "auto" (OpenCV on a CPU, else torch) or "ref" (torch).

    Returns:
        [C, h, w] float32, 0..1: as many bits as count - 1 has; none of one look.

    Raises:
        ShapeError: looks is not int32 [h', w'].

    Cost: no synchronisation; on a CPU 0.3 ms a bit at 320x180.
    """
    if looks.ndim != 2 or looks.dtype != torch.int32:
        raise ShapeError(f"looks must be int32 [h, w], got {looks.dtype} {[*looks.shape]}")
    places, sigma = (count - 1).bit_length(), _sigma(feather_px)
    if impl == "auto" and looks.device.type == "cpu":
        soft = np.empty((places, *size), np.float32)
        worn = (looks.numpy() % count).astype(np.uint8)
        side = 2 * math.ceil(3 * sigma) + 1
        for place, plane in enumerate(soft):
            bit = np.bitwise_and(worn, np.uint8(1 << place)).astype(np.float32) * np.float32(0.5**place)
            small = cv2.resize(bit, size[::-1], interpolation=cv2.INTER_LINEAR)
            cv2.GaussianBlur(small, (side, side), sigma, dst=plane, borderType=cv2.BORDER_REPLICATE)
        return torch.from_numpy(soft)
    if places == 0:
        return torch.zeros(0, *size, device=looks.device)
    number = looks % count
    bits = torch.stack([(number >> place) & 1 for place in range(places)]).float()
    down, across = (_resized_and_soft(*sides, sigma, looks.device) for sides in zip(looks.shape, size, strict=True))
    return down @ bits @ across.T


def border_held(
    flow: Tensor, bits: Tensor, painted_in: Tensor, widest_px: float, narrowest_px: float, *, impl: str = "auto"
) -> tuple[Tensor, Tensor]:
    """How far borders between looks are where they were in what is carried.

    Args:
        flow: [h, w, 2] float32 px.
        bits: [C, h, w] float32: see :func:`soft_bits`.
        painted_in: [C, h, w] float32: bits when what is carried was painted, of the previous frame's pixels.
        widest_px, narrowest_px: widths of soft borders, in pixels of the small picture. At a hard one nothing is held:
            it has no width, and a cubic reading rings.
        impl: as for :func:`soft_bits`.

    Returns:
        share, [h, w] float32: of the carried picture, 0..1; and painted_in of the new frame's pixels.

    Raises:
        ShapeError: bits and painted_in are not of one shape, or not of flow's size.

    Cost: no synchronisation; on a CPU 0.3 ms a bit at 320x180.
    """
    if bits.shape != painted_in.shape or bits.shape[1:] != flow.shape[:2]:
        raise ShapeError(f"bits must be [C, *{[*flow.shape[:2]]}], got {[*bits.shape]} and {[*painted_in.shape]}")
    if len(bits) == 0:
        return torch.ones(flow.shape[:2], device=flow.device), painted_in
    if impl == "auto" and flow.device.type == "cpu":
        places = places_of(flow.numpy(), flow.shape[:2])
        before = np.empty(painted_in.shape, np.float32)
        for plane, out in zip(painted_in.numpy(), before, strict=True):
            read_cpu(plane, places, cv2.INTER_LINEAR, out)
        there = torch.from_numpy(before)
    else:
        there = carried_along(painted_in.permute(1, 2, 0), flow, impl="ref").permute(2, 0, 1)
    off = (bits - there).abs()
    if narrowest_px <= 0:
        return ((off < SAME) & ((bits - 0.5).abs() > 0.5 - SAME)).all(0).float(), there
    off = (off * (1 + TAIL * (2 * bits - 1).square())).amax(0)
    # How much steeper the narrowest border is than a step that is blurred as the widest.
    steeper = _sigma(widest_px) * math.sqrt(2 * math.pi) / narrowest_px
    return off.mul_(-steeper).add_(BORDER_NEW).div_(BORDER_NEW - BORDER_HELD).clamp_(0, 1), there


def _sigma(feather_px: float) -> float:
    return max(LEAST_SIGMA_PX, feather_px / SIGMAS)


def _resized_and_soft(side: int, size: int, sigma: float, device: torch.device) -> Tensor:
    """Of one axis, [size, side]: reads between pixels, linear, then blurs; what lies outside is the border's.

    As a product on the device, for taps of a wide blur one by one would be launches by the hundred.
    """
    radius = math.ceil(3 * sigma)
    place = ((torch.arange(size, device=device) + 0.5) * (side / size) - 0.5).clamp_(0, side - 1)[:, None]
    reads = (1 - (place - torch.arange(side, device=device)).abs()).clamp_min_(0)
    wide = torch.arange(-radius, size + radius, device=device)
    off = wide - torch.arange(size, device=device)[:, None]
    curve = torch.exp(off.float().square() * (-0.5 / sigma**2)).masked_fill_(off.abs() > radius, 0)
    return (curve / curve.sum(1, keepdim=True)) @ reads[wide.clamp(0, size - 1)]
