"""Planar YUV, 8 or 10 bits, to RGB in 0..1 and back, on the tensors' own device.

Chroma 4:2:0 is sited as MPEG-2 and H.264 say: on the left luma column of its pair, between the two luma rows.

::

    luma   o . o .        x = chroma sample
           x   x
    luma   o . o .

Source: ITU-R BT.601-7, BT.709-6, BT.2020-2 (coefficients), ISO/IEC 14496-10 (siting). kornia's YUV 4:2:0 is BT.601
full range with repeated chroma only, so it is not used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from streamstyle.errors import ShapeError
from streamstyle.frames import ColorTags, Matrix
from streamstyle.gpu.kernels import SCALARS, chosen, launch, tunable
from streamstyle.gpu.transfer import Planes

STEM = "color"
HALF_WIDE = 8
"""Pixels of a row that a thread does in 16-bit floats, twice as many as in float32: on an H200, float16 has 0.63 of a
copy's bandwidth from planes and 0.68 to planes (bfloat16 to planes 0.49), and 0.60 and 0.58 with four."""
WARP = 32
LUMA_WEIGHTS: dict[Matrix, tuple[float, float]] = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
}
"""Weights of red and blue in luma; green takes the rest."""


def yuv_to_rgb(
    planes: Planes, color: ColorTags, *, dtype: torch.dtype = torch.float32, depth: int = 8, impl: str = "auto"
) -> Tensor:
    """Convert planes to RGB.

    Args:
        planes: y [N, H, W], u and v [N, ceil(H/2), ceil(W/2)] or [N, H, W]; uint8, or uint16 for a depth of 10.
        color: matrix and range of the numbers.
        dtype: float32, float16 or bfloat16.
        depth: bits of a sample, 8 or 10 (0..1023, for which a device must have uint16: MPS may not).
        impl: "auto" (the kernels on CUDA, else torch), "ref" or "cuda".

    Returns:
        [N, 3, H, W] of that dtype in 0..1, clipped; channels-last in memory from the kernels, planar from torch.

    Raises:
        ShapeError: the planes do not fit together, are not of the depth's type or lie on different devices; there is
            no such depth or dtype.

    Cost: one launch, 13.5 bytes a pixel for float32 and 7.5 for 16-bit floats (4:2:0, 8 bits). The reference is
    memory-bound, about 40 bytes a pixel. No synchronisation.
    """
    _check(planes, depth)
    if dtype not in SCALARS:
        raise ShapeError(f"dtype must be float32, float16 or bfloat16, got {dtype}")
    if planes[0].numel() == 0:
        return torch.zeros(len(planes[0]), 3, *planes[0].shape[1:], dtype=dtype, device=planes[0].device)
    if chosen(impl, planes[0]):
        y, u, v = (plane.contiguous() for plane in planes)
        return _yuv_to_rgb_cuda((y, u, v), color, dtype, depth)
    return _yuv_to_rgb_ref(planes, color, depth).to(dtype)


def rgb_to_yuv(
    rgb: Tensor,
    color: ColorTags,
    *,
    subsample: bool,
    depth: int = 8,
    out: Planes | None = None,
    impl: str = "auto",
) -> Planes:
    """Convert RGB to planes.

    Args:
        rgb: [N, 3, H, W] floating, 0..1 (values outside are clipped), any memory layout (the kernels read
            channels-last; another is copied first).
        color: matrix and range wanted.
        subsample: True for 4:2:0, H and W even; False for 4:4:4.
        depth: bits of a sample, 8 or 10 (0..1023).
        out: planes of the shapes returned, any strides, to write to; None makes them.
        impl: "auto" (the kernels on CUDA, else torch), "ref" or "cuda".

    Returns:
        y [N, H, W], u and v [N, H/2, W/2] or [N, H, W], uint8 (depth 10: uint16), rounded to nearest.

    Raises:
        ShapeError: rgb is not floating [N, 3, H, W], an odd size is to be subsampled, out does not fit, or there is no
            such depth.

    Cost: one launch, as many bytes as the other way; no synchronisation.
    """
    if rgb.ndim != 4 or rgb.shape[1] != 3 or not rgb.is_floating_point():
        raise ShapeError(f"rgb must be floating [N, 3, H, W], got {rgb.dtype} {[*rgb.shape]}")
    if subsample and (rgb.shape[2] % 2 or rgb.shape[3] % 2):
        raise ShapeError(f"4:2:0 needs an even height and width, got {rgb.shape[2]}x{rgb.shape[3]}")
    _sample_type(depth)
    if chosen(impl, rgb):
        held = rgb if rgb.dtype in SCALARS else rgb.float()
        held = held.contiguous(memory_format=torch.channels_last)
        return filled(out, _rgb_to_yuv_cuda(held, color, subsample, depth))
    return _rgb_to_yuv_ref(rgb, color, subsample, depth, out)


def filled(out: Planes | None, planes: Planes) -> Planes:
    """out, with the planes copied into it, where there is an out; else the planes."""
    if out is None:
        return planes
    for target, plane in zip(out, planes, strict=True):
        if target.shape != plane.shape:
            raise ShapeError(f"out must hold planes {[*plane.shape]}, got {[*target.shape]}")
        target.copy_(plane)
    return out


def _sample_type(depth: int) -> torch.dtype:
    if depth not in (8, 10):
        raise ShapeError(f"depth must be 8 or 10, got {depth}")
    return torch.uint8 if depth == 8 else torch.uint16


def _check(planes: Planes, depth: int) -> None:
    y, u, v = planes
    half = (y.shape[0], -(-y.shape[1] // 2), -(-y.shape[2] // 2)) if y.ndim == 3 else ()
    if y.ndim != 3 or u.shape != v.shape or tuple(u.shape) not in (half, tuple(y.shape)):
        raise ShapeError(f"planes must be 4:2:0 or 4:4:4 [N, H, W], got {[*y.shape]} {[*u.shape]} {[*v.shape]}")
    held = _sample_type(depth)
    if any(plane.dtype != held for plane in planes):
        name = str(held).removeprefix("torch.")
        raise ShapeError(f"planes of depth {depth} must be {name}, got {y.dtype} {u.dtype} {v.dtype}")
    if not y.device == u.device == v.device:
        raise ShapeError(f"planes must be on one device, got {y.device} {u.device} {v.device}")


def _levels(full_range: bool, depth: int) -> tuple[int, int, int]:
    """Black, and the ranges of luma and chroma; chroma is centred on 2^(depth-1)."""
    if full_range:
        return 0, 2**depth - 1, 2**depth - 1
    return 16 << (depth - 8), 219 << (depth - 8), 224 << (depth - 8)


def _rgb_factors(color: ColorTags, depth: int) -> tuple[float, float, float, float, float]:
    """What luma, Cr in red, Cb in green, Cr in green and Cb in blue are multiplied by, counted in levels."""
    _, luma, chroma = _levels(color.full_range, depth)
    red, blue = LUMA_WEIGHTS[color.matrix]
    green = 1 - red - blue
    cr, cb = 2 * (1 - red), 2 * (1 - blue)
    return 1 / luma, cr / chroma, -cb * blue / green / chroma, -cr * red / green / chroma, cb / chroma


def _yuv_to_rgb_ref(planes: Planes, color: ColorTags, depth: int) -> Tensor:
    y, u, v = (plane if depth == 8 else plane.to(torch.int32) for plane in planes)  # torch does little with uint16
    to_luma, red_cr, green_cb, green_cr, blue_cb = _rgb_factors(color, depth)
    luma = (y.float() - _levels(color.full_range, depth)[0]).mul_(to_luma)
    chroma = torch.stack((u, v), 1).float().sub_(1 << (depth - 1))
    if u.shape != y.shape:
        chroma = _upsample(chroma, y.shape[1], y.shape[2])
    cb, cr = chroma.unbind(1)
    rgb = torch.empty(y.shape[0], 3, *y.shape[1:], device=y.device)
    torch.add(luma, cr, alpha=red_cr, out=rgb[:, 0])
    torch.add(luma, cb, alpha=green_cb, out=rgb[:, 1]).add_(cr, alpha=green_cr)
    torch.add(luma, cb, alpha=blue_cb, out=rgb[:, 2])
    return rgb.clamp_(0, 1)


def _rgb_to_yuv_ref(rgb: Tensor, color: ColorTags, subsample: bool, depth: int, out: Planes | None) -> Planes:
    weight_red, weight_blue = LUMA_WEIGHTS[color.matrix]
    low, luma_range, chroma_range = _levels(color.full_range, depth)
    top, middle = 2**depth - 1, 1 << (depth - 1)
    red, green, blue = rgb.float().clamp(0, 1).unbind(1)
    luma = (red * weight_red).add_(green, alpha=1 - weight_red - weight_blue).add_(blue, alpha=weight_blue)
    cb = (blue - luma).mul_(chroma_range / (2 * (1 - weight_blue)))
    cr = (red - luma).mul_(chroma_range / (2 * (1 - weight_red)))
    if subsample:
        cb, cr = _subsample(cb), _subsample(cr)
    luma.mul_(luma_range).add_(low + 0.5)
    y, u, v = (x.clamp_(0, top) for x in (luma, cb.add_(middle + 0.5), cr.add_(middle + 0.5)))
    if out is None:
        held = _sample_type(depth)
        out = y.new_empty(y.shape, dtype=held), u.new_empty(u.shape, dtype=held), v.new_empty(v.shape, dtype=held)
    return filled(out, (y, u, v))


def _upsample(chroma: Tensor, height: int, width: int) -> Tensor:
    """[N, 2, ceil(H/2), ceil(W/2)] to [N, 2, H, W]: linear, left-sited."""
    rows = chroma.new_empty(*chroma.shape[:2], 2 * chroma.shape[2], chroma.shape[3])
    padded = torch.cat((chroma[:, :, :1], chroma, chroma[:, :, -1:]), 2)
    torch.lerp(padded[:, :, :-2], chroma, 0.75, out=rows[:, :, 0::2])
    torch.lerp(padded[:, :, 2:], chroma, 0.75, out=rows[:, :, 1::2])
    rows = rows[:, :, :height]
    full = chroma.new_empty(*rows.shape[:3], 2 * rows.shape[3])
    full[..., 0::2] = rows
    full[..., -1] = rows[..., -1]
    torch.lerp(rows[..., :-1], rows[..., 1:], 0.5, out=full[..., 1:-1:2])
    return full[..., :width]


def _subsample(chroma: Tensor) -> Tensor:
    """[N, H, W] to [N, H/2, W/2]: mean of two rows, then 1 2 1 over columns centred on the even ones."""
    rows = (chroma[:, 0::2] + chroma[:, 1::2]).mul_(0.125)
    even, odd = rows[..., 0::2], rows[..., 1::2]
    before = torch.cat((even[..., :1], odd[..., :-1]), -1)
    return (before + odd).add_(even, alpha=2)


def _yuv_to_rgb_cuda(planes: Planes, color: ColorTags, dtype: torch.dtype, depth: int) -> Tensor:
    y, u, _ = planes
    count, height, width = y.shape
    rgb = torch.empty((count, 3, height, width), dtype=dtype, device=y.device, memory_format=torch.channels_last)
    entry = "color_to_rgb_444" if u.shape == y.shape else "color_to_rgb_420"
    black = _levels(color.full_range, depth)[0]
    numbers = (black, 1 << (depth - 1), *_rgb_factors(color, depth))
    launch(STEM, entry, _threads(rgb), *planes, rgb, *y.shape, *numbers, **_defines(dtype, depth))
    return rgb


def _rgb_to_yuv_cuda(rgb: Tensor, color: ColorTags, subsample: bool, depth: int) -> Planes:
    count, _, height, width = rgb.shape
    size = (height // 2, width // 2) if subsample else (height, width)
    held = _sample_type(depth)
    y = torch.empty((count, height, width), dtype=held, device=rgb.device)
    u, v = (torch.empty((count, *size), dtype=held, device=rgb.device) for _ in range(2))
    red, blue = LUMA_WEIGHTS[color.matrix]
    black, luma, chroma = _levels(color.full_range, depth)
    levels = (black, 1 << (depth - 1), 2**depth - 1)
    numbers = (*levels, red, 1 - red - blue, blue, luma, chroma / (2 * (1 - blue)), chroma / (2 * (1 - red)))
    entry = "color_to_yuv_420" if subsample else "color_to_yuv_444"
    launch(STEM, entry, _threads(rgb), rgb, y, u, v, *y.shape, *numbers, **_defines(rgb.dtype, depth))
    return y, u, v


def _threads(rgb: Tensor) -> int:
    """Two rows of a few pixels a thread, whole warps in a row."""
    wide = HALF_WIDE if rgb.element_size() == 2 else tunable(STEM, "WIDE")
    warps = -(-rgb.shape[3] // (WARP * wide))
    return rgb.shape[0] * -(-rgb.shape[2] // 2) * warps * WARP


def _defines(dtype: torch.dtype, depth: int) -> dict[str, Any]:
    build = {"SCALAR": SCALARS[dtype], "SAMPLE": "u8" if depth == 8 else "u16"}
    return build | ({"WIDE": str(HALF_WIDE), "BLOCKS": "3"} if dtype.itemsize == 2 else {})


def blend_planes_(planes: Sequence[Tensor], original: Sequence[Tensor], share: Tensor) -> None:
    """Lay painted planes over the original, in place: planes = original + share * (planes - original).

    Args:
        planes: painted planes, uint8, each of share's size or halved, overwritten.
        original: planes of the same shapes, uint8.
        share: [N, H, W] float, 0 (original, kept byte for byte) .. 1 (painted).

    Cost: no synchronisation.
    """
    share = share.float()
    parts = {share.shape: share}
    for painted, kept in zip(planes, original, strict=True):
        if painted.shape not in parts:
            parts[painted.shape] = _halved(share)
        painted.copy_(torch.lerp(kept.float(), painted.float(), parts[painted.shape]).add_(0.5))


def _halved(share: Tensor) -> Tensor:
    """[N, H, W] to [N, ceil(H/2), ceil(W/2)], means of 2 x 2: avg_pool2d takes a CPU five times as long."""
    odd = share.shape[1] % 2, share.shape[2] % 2
    if any(odd):
        share = F.pad(share[:, None], (0, odd[1], 0, odd[0]), mode="replicate")[:, 0]
    rows = share[:, 0::2] + share[:, 1::2]
    return (rows[..., 0::2] + rows[..., 1::2]).mul_(0.25)
