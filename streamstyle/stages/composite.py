"""The last step of a frame: painted RGB to planes, laid over the original by each pixel's share.

::

    painted RGB ──► y, u, v ─┐
                             ├─ original + share * (painted - original) ──► y, u, v
    original y, u, v ────────┘     share of luma: strength; of chroma: chroma_strength, the mean of 2 x 2 pixels (4:2:0)

Where a share is 0 the original's byte is kept. Kept colours are a chroma_strength of 0.

Source: ``stages.color``; the kernels are in ``kernels/stylize_regions.cu``, whose last layer they follow.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from streamstyle.errors import ShapeError
from streamstyle.frames import ColorTags
from streamstyle.gpu.kernels import SCALARS, chosen, launch, tunable
from streamstyle.gpu.transfer import Planes
from streamstyle.stages.color import LUMA_WEIGHTS, blend_planes_, filled, rgb_to_yuv

STEM = "stylize_regions"


def composite(
    rgb: Tensor,
    original: Planes | None,
    color: ColorTags,
    strength: Tensor | None = None,
    chroma_strength: Tensor | None = None,
    *,
    subsample: bool,
    out: Planes | None = None,
    impl: str = "auto",
) -> Planes:
    """Convert a painting to planes and lay it over the original.

    Args:
        rgb: [N, 3, H, W] floating, 0..1 (values outside are clipped); the kernels read channels-last, another layout
            is copied first.
        original: y, u, v uint8 in the layout wanted; None where there is no strength.
        color: matrix and range of both.
        strength: [N, H, W] floating, 0 (original) .. 1 (painted); None paints all.
        chroma_strength: the same for chroma; None is strength.
        subsample: True for 4:2:0, H and W even; False for 4:4:4.
        out: planes of the shapes returned, any strides, to write to; None makes them.
        impl: "auto" (the kernels on CUDA, else torch), "ref" or "cuda".

    Returns:
        y [N, H, W], u and v [N, H/2, W/2] or [N, H, W], uint8; the caller's own.

    Raises:
        ShapeError: rgb, the original or a strength does not fit the others, in shape, dtype or device; an odd size is
            to be subsampled.

    Cost: one launch, 7.5 bytes a pixel (bfloat16, 4:2:0), 13 with strength, 17 with another chroma_strength. The
    reference runs some thirty passes. No synchronisation.
    """
    if chroma_strength is not None and strength is None:
        strength = torch.ones_like(chroma_strength)
    chroma_strength = strength if chroma_strength is None else chroma_strength
    _check(rgb, original, strength, chroma_strength, subsample)
    if not chosen(impl, rgb):
        return _composite_ref(rgb, original, color, strength, chroma_strength, subsample, out)
    return filled(out, _composite_cuda(rgb, original, color, strength, chroma_strength, subsample))


def _check(
    rgb: Tensor, original: Planes | None, strength: Tensor | None, chroma_strength: Tensor | None, subsample: bool
) -> None:
    if rgb.ndim != 4 or rgb.shape[1] != 3 or not rgb.is_floating_point():
        raise ShapeError(f"rgb must be floating [N, 3, H, W], got {rgb.dtype} {[*rgb.shape]}")
    count, _, height, width = rgb.shape
    if subsample and (height % 2 or width % 2):
        raise ShapeError(f"4:2:0 needs an even height and width, got {height}x{width}")
    for share in (strength, chroma_strength):
        if share is None:
            continue
        if share.shape != (count, height, width) or not share.is_floating_point() or share.device != rgb.device:
            raise ShapeError(
                f"strength must be floating [N, H, W] as rgb {[*rgb.shape]} on {rgb.device}, "
                f"got {share.dtype} {[*share.shape]} on {share.device}"
            )
    if strength is None:
        return
    if original is None:
        raise ShapeError("a strength needs the original planes, got None")
    half = (count, height // 2, width // 2) if subsample else (count, height, width)
    for plane, shape in zip(original, ((count, height, width), half, half), strict=True):
        if plane.shape != shape or plane.dtype != torch.uint8 or plane.device != rgb.device:
            raise ShapeError(
                f"original planes must be uint8 {[*shape]} on {rgb.device}, "
                f"got {plane.dtype} {[*plane.shape]} on {plane.device}"
            )


def _composite_ref(
    rgb: Tensor,
    original: Planes | None,
    color: ColorTags,
    strength: Tensor | None,
    chroma_strength: Tensor | None,
    subsample: bool,
    out: Planes | None,
) -> Planes:
    planes = rgb_to_yuv(rgb, color, subsample=subsample, out=out, impl="ref")
    if strength is not None and chroma_strength is not None and original is not None:
        blend_planes_(planes[:1], original[:1], strength)
        blend_planes_(planes[1:], original[1:], chroma_strength)
    return planes


def _composite_cuda(
    rgb: Tensor,
    original: Planes | None,
    color: ColorTags,
    strength: Tensor | None,
    chroma_strength: Tensor | None,
    subsample: bool,
) -> Planes:
    held = (rgb if rgb.dtype in SCALARS else rgb.float()).contiguous(memory_format=torch.channels_last)
    count, _, height, width = held.shape
    pixels = torch.empty((count, height, width), dtype=torch.uint8, device=rgb.device)
    size = (count, height // 2, width // 2) if subsample else pixels.shape
    out = (pixels, pixels.new_empty(size), pixels.new_empty(size))
    nothing = held.new_empty(0, dtype=torch.float32)  # a null pointer to the kernels
    luma_share, chroma_share = (nothing if x is None else x.float().contiguous() for x in (strength, chroma_strength))
    if chroma_strength is strength:
        chroma_share = luma_share  # read once
    planes = (pixels.new_empty(0),) * 3 if original is None else tuple(plane.contiguous() for plane in original)
    reads = (held, luma_share, *planes)
    wide = min(16 // held.element_size(), tunable(STEM, "COMPOSITE_VEC"))
    fits = (width if subsample else pixels.numel()) % wide == 0
    fits = fits and all(x.data_ptr() % min(16, wide * x.element_size()) == 0 for x in (*reads, chroma_share))
    together = wide if fits else 1
    shares = (luma_share, chroma_share)
    defines: dict[str, Any] = {"SCALAR": SCALARS[held.dtype], "VEC": str(together)}
    numbers = _numbers(color)
    if subsample:
        sizes = (count * height // 2, width)
        threads = sizes[0] * (width // (wide if fits else 2))
        launch(STEM, "stylize_regions_composite", threads, held, *shares, *planes, *out, *sizes, *numbers, **defines)
    else:
        groups = pixels.numel() // together
        launch(STEM, "stylize_regions_composite_444", groups, held, *shares, *planes, *out, groups, *numbers, **defines)
    return out


def _numbers(color: ColorTags) -> tuple[float, ...]:
    """The kernels' Color: weights of red, green, blue; factors of Cb and Cr; luma's range; black and a half."""
    red, blue = LUMA_WEIGHTS[color.matrix]
    low, luma, chroma = (0, 255, 255) if color.full_range else (16, 219, 224)
    return red, 1 - red - blue, blue, chroma / (2 * (1 - blue)), chroma / (2 * (1 - red)), luma, low + 0.5
