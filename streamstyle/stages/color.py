"""Planar YUV, 8 bits, to RGB in 0..1 and back, on the tensors' own device.

Chroma 4:2:0 is sited as MPEG-2 and H.264 say: on the left luma column of its pair, between the two luma rows.

::

    luma   o . o .        x = chroma sample
           x   x
    luma   o . o .

Source: ITU-R BT.601-7, BT.709-6, BT.2020-2 (coefficients), ISO/IEC 14496-10 (siting). kornia's YUV 4:2:0 is BT.601
full range with repeated chroma only, so it is not used.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from streamstyle.errors import ShapeError
from streamstyle.frames import ColorTags, Matrix
from streamstyle.gpu.transfer import Planes

LUMA_WEIGHTS: dict[Matrix, tuple[float, float]] = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
}
"""Weights of red and blue in luma; green takes the rest."""


def yuv_to_rgb(planes: Planes, color: ColorTags) -> Tensor:
    """Convert planes to RGB.

    Args:
        planes: y [N, H, W], u and v [N, ceil(H/2), ceil(W/2)] or [N, H, W], uint8.
        color: matrix and range of the numbers.

    Returns:
        [N, 3, H, W] float32 in 0..1, clipped.

    Raises:
        ShapeError: the planes do not fit together or are not uint8.

    Cost: memory-bound, about 40 bytes a pixel; no synchronisation.
    """
    y, u, v = planes
    _check(planes)
    red, blue = LUMA_WEIGHTS[color.matrix]
    green = 1 - red - blue
    low, luma_range, chroma_range = (0, 255, 255) if color.full_range else (16, 219, 224)
    luma = (y.float() - low).mul_(1 / luma_range)
    chroma = torch.stack((u, v), 1).float().sub_(128).mul_(1 / chroma_range)
    if u.shape != y.shape:
        chroma = _upsample(chroma, y.shape[1], y.shape[2])
    cb, cr = chroma.unbind(1)
    rgb = torch.empty(y.shape[0], 3, *y.shape[1:], device=y.device)
    torch.add(luma, cr, alpha=2 * (1 - red), out=rgb[:, 0])
    torch.add(luma, cb, alpha=-2 * blue * (1 - blue) / green, out=rgb[:, 1]).sub_(cr, alpha=2 * red * (1 - red) / green)
    torch.add(luma, cb, alpha=2 * (1 - blue), out=rgb[:, 2])
    return rgb.clamp_(0, 1)


def rgb_to_yuv(rgb: Tensor, color: ColorTags, *, subsample: bool) -> Planes:
    """Convert RGB to planes.

    Args:
        rgb: [N, 3, H, W] floating, 0..1 (values outside are clipped), any memory layout.
        color: matrix and range wanted.
        subsample: True for 4:2:0, H and W even; False for 4:4:4.

    Returns:
        y [N, H, W], u and v [N, H/2, W/2] or [N, H, W], uint8, rounded to nearest.

    Raises:
        ShapeError: rgb is not floating [N, 3, H, W], or an odd size is to be subsampled.
    """
    if rgb.ndim != 4 or rgb.shape[1] != 3 or not rgb.is_floating_point():
        raise ShapeError(f"rgb must be floating [N, 3, H, W], got {rgb.dtype} {[*rgb.shape]}")
    if subsample and (rgb.shape[2] % 2 or rgb.shape[3] % 2):
        raise ShapeError(f"4:2:0 needs an even height and width, got {rgb.shape[2]}x{rgb.shape[3]}")
    weight_red, weight_blue = LUMA_WEIGHTS[color.matrix]
    low, luma_range, chroma_range = (0, 255, 255) if color.full_range else (16, 219, 224)
    red, green, blue = rgb.float().clamp(0, 1).unbind(1)
    luma = (red * weight_red).add_(green, alpha=1 - weight_red - weight_blue).add_(blue, alpha=weight_blue)
    cb = (blue - luma).mul_(chroma_range / (2 * (1 - weight_blue)))
    cr = (red - luma).mul_(chroma_range / (2 * (1 - weight_red)))
    if subsample:
        cb, cr = _subsample(cb), _subsample(cr)
    y = luma.mul_(luma_range).add_(low + 0.5).clamp_(0, 255).to(torch.uint8)
    u, v = (x.add_(128.5).clamp_(0, 255).to(torch.uint8) for x in (cb, cr))
    return y, u, v


def _check(planes: Planes) -> None:
    y, u, v = planes
    half = (y.shape[0], -(-y.shape[1] // 2), -(-y.shape[2] // 2)) if y.ndim == 3 else ()
    if y.ndim != 3 or u.shape != v.shape or tuple(u.shape) not in (half, tuple(y.shape)):
        raise ShapeError(f"planes must be 4:2:0 or 4:4:4 [N, H, W], got {[*y.shape]} {[*u.shape]} {[*v.shape]}")
    if any(plane.dtype != torch.uint8 for plane in planes):
        raise ShapeError(f"planes must be uint8, got {y.dtype} {u.dtype} {v.dtype}")


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


def blend_planes_(planes: Planes, original: Planes, share: Tensor) -> None:
    """Lay painted planes over the original, in place: planes = original + share * (planes - original).

    Args:
        planes: painted y, u, v, uint8, overwritten.
        original: y, u, v of the same shapes, uint8.
        share: [N, H, W] float, 0 (original, kept byte for byte) .. 1 (painted).

    Cost: no synchronisation.
    """
    for painted, kept in zip(planes, original, strict=True):
        part = share
        if painted.shape != share.shape:
            part = F.avg_pool2d(share[:, None], 2, ceil_mode=True)[:, 0]
        mixed = torch.lerp(kept.float(), painted.float(), part.float()).add_(0.5).to(torch.uint8)
        painted.copy_(torch.where(part > 0, mixed, kept))
