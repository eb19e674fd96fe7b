"""The last step of a frame: painted RGB to planes, laid over the original by each pixel's share.

::

    painted RGB ──► y, u, v ─┐
                             ├─ original + share * (painted - original) ──► y, u, v
    original y, u, v ────────┘     share = shares[index]: of luma; of chroma, the mean of 2 x 2 pixels (4:2:0)

Where a share is 0 the original's byte is kept; kept colours are a share of chroma of 0. The index is the one painting
reads, each pixel's row of the table of blends (``stages.blends``).

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
    index: Tensor | None = None,
    shares: Tensor | None = None,
    *,
    subsample: bool,
    out: Planes | None = None,
    impl: str = "auto",
) -> Planes:
    """Convert a painting to planes and lay it over the original.

    Args:
        rgb: [N, 3, H, W] floating, 0..1 (values outside are clipped); the kernels read channels-last, another layout
            is copied first.
        original: y, u, v uint8 in the layout wanted; None where there are no shares.
        color: matrix and range of both.
        index: [N, H, W] int32, rows of shares (the kernels do not check them); None: row 0 everywhere.
        shares: [R, 2] float32, the painted share of luma and of chroma of each row, 0 (original) .. 1 (painted);
            None paints all. See ``blends.blend_shares``.
        subsample: True for 4:2:0, H and W even; False for 4:4:4.
        out: planes of the shapes returned, any strides, to write to; None makes them.
        impl: "auto" (the kernels on CUDA, else torch), "ref" or "cuda".

    Returns:
        y [N, H, W], u and v [N, H/2, W/2] or [N, H, W], uint8; the caller's own.

    Raises:
        ShapeError: rgb, the original, the index or the shares do not fit each other, in shape, dtype or device; an odd
            size is to be subsampled.

    Cost: one launch, 7.5 bytes a pixel (bfloat16, 4:2:0), 13 with shares, 9 without an index. The reference runs some
    thirty passes. No synchronisation.
    """
    _check(rgb, original, index, shares, subsample)
    made = _composite_cuda if chosen(impl, rgb) else _composite_ref
    return filled(out, made(rgb, original, color, index, shares, subsample))


def _check(rgb: Tensor, original: Planes | None, index: Tensor | None, shares: Tensor | None, subsample: bool) -> None:
    if rgb.ndim != 4 or rgb.shape[1] != 3 or not rgb.is_floating_point():
        raise ShapeError(f"rgb must be floating [N, 3, H, W], got {rgb.dtype} {[*rgb.shape]}")
    count, _, height, width = rgb.shape
    if subsample and (height % 2 or width % 2):
        raise ShapeError(f"4:2:0 needs an even height and width, got {height}x{width}")
    full = (count, height, width)
    if index is not None and (index.shape != full or index.dtype != torch.int32 or index.device != rgb.device):
        raise ShapeError(
            f"index must be int32 [N, H, W] as rgb {[*rgb.shape]} on {rgb.device}, "
            f"got {index.dtype} {[*index.shape]} on {index.device}"
        )
    if shares is None:
        return
    fits = shares.ndim == 2 and shares.shape[0] > 0 and shares.shape[1] == 2
    if not fits or shares.dtype != torch.float32 or shares.device != rgb.device:
        raise ShapeError(
            f"shares must be float32 [R, 2] on {rgb.device}, got {shares.dtype} {[*shares.shape]} on {shares.device}"
        )
    if original is None:
        raise ShapeError("shares need the original planes, got None")
    half = (count, height // 2, width // 2) if subsample else full
    for plane, shape in zip(original, (full, half, half), strict=True):
        if plane.shape != shape or plane.dtype != torch.uint8 or plane.device != rgb.device:
            raise ShapeError(
                f"original planes must be uint8 {[*shape]} on {rgb.device}, "
                f"got {plane.dtype} {[*plane.shape]} on {plane.device}"
            )


def _composite_ref(
    rgb: Tensor,
    original: Planes | None,
    color: ColorTags,
    index: Tensor | None,
    shares: Tensor | None,
    subsample: bool,
) -> Planes:
    planes = _new_planes(rgb, subsample)
    step = 1 if rgb.device.type == "cpu" else max(1, len(rgb))  # one frame's temporaries stay in a CPU's caches
    for begin in range(0, len(rgb), step):
        part = slice(begin, begin + step)
        painted = rgb_to_yuv(rgb[part], color, subsample=subsample, out=_frames(planes, part), impl="ref")
        if original is not None and shares is not None:
            _lay_over_(painted, _frames(original, part), None if index is None else index[part], shares)
    return planes


def _new_planes(rgb: Tensor, subsample: bool) -> Planes:
    count, _, height, width = rgb.shape
    half = (count, height // 2, width // 2) if subsample else (count, height, width)
    y, u, v = (torch.empty(s, dtype=torch.uint8, device=rgb.device) for s in ((count, height, width), half, half))
    return y, u, v


def _frames(planes: Planes, part: slice) -> Planes:
    y, u, v = (plane[part] for plane in planes)
    return y, u, v


def _lay_over_(planes: Planes, original: Planes, index: Tensor | None, shares: Tensor) -> None:
    """Lay painted planes over the original, in place, by the shares of each pixel's row."""
    if index is None:
        index, shares = planes[0].new_zeros(planes[0].shape, dtype=torch.int32), shares[:1]
    luma, chroma = shares.t().contiguous()
    known = shares.device.type == "cpu"  # elsewhere what a table holds would be waited for
    share = None
    for column, which in ((luma, (0,)), (chroma, (1, 2))):
        if known and bool((column == 1).all()):
            continue
        if known and not column.any():
            for k in which:
                planes[k].copy_(original[k])
            continue
        if share is None or not (known and torch.equal(luma, chroma)):
            share = column.index_select(0, index.flatten()).view(index.shape)
        blend_planes_([planes[k] for k in which], [original[k] for k in which], share)


def _composite_cuda(
    rgb: Tensor,
    original: Planes | None,
    color: ColorTags,
    index: Tensor | None,
    shares: Tensor | None,
    subsample: bool,
) -> Planes:
    held = (rgb if rgb.dtype in SCALARS else rgb.float()).contiguous(memory_format=torch.channels_last)
    count, _, height, width = held.shape
    out = _new_planes(held, subsample)
    planes: tuple[Tensor, ...] = (out[0].new_empty(0),) * 3  # null pointers to the kernels
    rows, table = held.new_empty(0, dtype=torch.int32), held.new_empty(0, dtype=torch.float32)
    if original is not None and shares is not None:
        planes, table = tuple(plane.contiguous() for plane in original), shares.contiguous()
        rows = rows if index is None else index.contiguous()
        table = table if table.data_ptr() % 8 == 0 else table.clone()  # a row is read at once
    wide = min(16 // held.element_size(), tunable(STEM, "COMPOSITE_VEC"))
    fits = (width if subsample else out[0].numel()) % wide == 0
    fits = fits and all(x.data_ptr() % min(16, wide * x.element_size()) == 0 for x in (held, rows, *planes))
    together = wide if fits else 1
    given = (held, rows, table, *planes, *out)
    defines: dict[str, Any] = {"SCALAR": SCALARS[held.dtype], "VEC": str(together)}
    numbers = _numbers(color)
    if subsample:
        sizes = (count * height // 2, width)
        threads = sizes[0] * (width // (wide if fits else 2))
        launch(STEM, "stylize_regions_composite", threads, *given, *sizes, *numbers, **defines)
    else:
        groups = out[0].numel() // together
        launch(STEM, "stylize_regions_composite_444", groups, *given, groups, *numbers, **defines)
    return out


def _numbers(color: ColorTags) -> tuple[float, ...]:
    """The kernels' Color: weights of red, green, blue; factors of Cb and Cr; luma's range; black and a half."""
    red, blue = LUMA_WEIGHTS[color.matrix]
    low, luma, chroma = (0, 255, 255) if color.full_range else (16, 219, 224)
    return red, 1 - red - blue, blue, chroma / (2 * (1 - blue)), chroma / (2 * (1 - red)), luma, low + 0.5
