"""All between two convolutions of the painting network: norm, activation, residual, and the next layer's padding.

::

    y ──► y * scale[row] + shift[row] ──► ReLU ──► interior of the next layer's padded input, and its mirrored border
           first: picture_into (no norm yet)           last: picture_from (a sigmoid, and the picture)

Where the kernels run, layers lie as ``stages.folding`` says; the references take those forms too, by turning them into
plain ones.

Source: Dumoulin et al. 2017 (conditional instance norm). Differs: see ``stages.stylize_regions``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from streamstyle.gpu.kernels import SCALARS, THREADS, chosen, launch, tunable
from streamstyle.stages.folding import SLOT, Form, fold, unfold
from streamstyle.stages.padding import (
    Border,
    Maybe,
    border_px,
    by_phase,
    check_layer,
    check_picture_from,
    check_picture_into,
    fill_border_,
    geometry,
    interior,
    phase_view,
)

STEM = "stylize_regions"
CHANNELS = 32
"""The kernels' CHANNELS, unless said."""
Activation = Literal["none", "relu", "residual", "sigmoid"]
_ACTIVATIONS = ("none", "relu", "residual", "sigmoid")  # as the kernels count them


def region_affine(
    y: Tensor, index: Tensor | None, scale: Tensor | None, shift: Tensor | None, out: Tensor | None, relu: bool
) -> Tensor:
    """y * scale[index] + shift[index], then ReLU, into out: the masked transform between two convolutions.

    Args:
        y: [N, H, W, C] raw convolution; it may be overwritten.
        index: [N, H, W] int32 rows of scale and shift; None where they are one row.
        scale, shift: [R, C] with index, [C] without; None where already folded into the convolution.
        out: [N, H, W, C], any strides, or [N, H, 2, W, 2, C/4] for four phases; None to return a tensor.
        relu: clamp at zero.

    Returns:
        out, or the result where out is None.
    """
    if scale is not None and shift is not None:
        if index is None:
            y = torch.addcmul(shift, y, scale).to(y.dtype)
        else:
            y = F.embedding(index, shift).addcmul_(y, F.embedding(index, scale)).to(y.dtype)
    if out is None:
        return y.clamp_min_(0) if relu else y
    if out.ndim == 6:
        y = by_phase(y)
    return torch.clamp_min(y, 0, out=out) if relu else out.copy_(y)


def affine_into(
    y: Tensor,
    index: Maybe,
    scale: Maybe,
    shift: Maybe,
    padded: Maybe,
    *,
    activation: Activation = "relu",
    border: Border = "reflect",
    form: Form | None = None,
    impl: str = "auto",
) -> Tensor:
    """All between two convolutions: y * scale[index] + shift[index], activated, into the next layer's padded input.

    Args:
        y: [N, H, W, C] raw convolution; it may be overwritten.
        index: [N, H, W] int32 rows of scale and shift (the kernels do not check them); or [N, s H, s W], of which each
            pixel of y takes the first of its s x s. None where they are one row.
        scale, shift: [R, c] with index, [c] without, c the channels of padded; None where the convolution has them.
        padded: [N, C, H + 2 p, W + 2 p], channels-last; or [N, C/4, 2 H + 2 p, 2 W + 2 p] for four phases. Its
            interior and its border are written. None for no padding and no phases.
        activation: "residual" adds to what the interior holds.
        border: how it mirrors the interior, see :func:`streamstyle.stages.padding.fill_border_`.
        form: how y and padded lie, where that is not plain from their shapes; y's channels beyond those that padded
            takes are then left out.
        impl: "auto" (the kernels on CUDA, else torch), "ref" or "cuda".

    Returns:
        padded; or the result [N, C, H, W], channels-last.

    Raises:
        ShapeError: the tensors do not fit together in shape, dtype or device, or padded is not channels-last.

    Cost: one launch, 132 bytes a pixel of 32 bfloat16 channels, 64 more for a residual; no synchronisation. Computed in
    float32 and rounded once; the reference rounds before it adds a residual or takes the sigmoid.
    """
    check_layer(y, index, scale, shift, padded, form)
    into = affine_into_cuda if chosen(impl, y) else _formed_affine_into_ref
    return into(y, index, scale, shift, padded, activation, border, form)


def _formed_affine_into_ref(
    y: Tensor,
    index: Maybe,
    scale: Maybe,
    shift: Maybe,
    padded: Maybe,
    activation: Activation,
    border: Border,
    form: Form | None,
) -> Tensor:
    if form is not None and padded is not None:
        y = y[..., : padded.shape[1] // (1 + 3 * form.folded) * (1 + 3 * form.up)]
        y = unfold(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1) if form.apart else y
    if index is not None:
        step = max(1, index.shape[1] // max(1, y.shape[1]))
        index = index[:, ::step, ::step].contiguous()
    if form is None or not form.folded or padded is None:
        return affine_into_ref(y, index, scale, shift, padded, activation, border)
    return padded.copy_(fold(affine_into_ref(y, index, scale, shift, unfold(padded), activation, border)))


def affine_into_ref(
    y: Tensor,
    index: Maybe,
    scale: Maybe,
    shift: Maybe,
    padded: Maybe,
    activation: Activation,
    border: Border,
    affine: Callable[..., Tensor] = region_affine,
    *,
    folded: bool = False,
) -> Tensor:
    """:func:`affine_into` in torch, for tensors that fit and are of plain form; affine stands for region_affine.

    folded: padded is of blocks of 2 x 2 pixels, which are the four phases of y.
    """
    if scale is not None and shift is not None:
        scale, shift = per_phase(scale, y.shape[3]), per_phase(shift, y.shape[3])
    up, pad = geometry(y, padded)
    target = None if padded is None else interior(padded, pad)
    target = phase_view(target) if up and target is not None else target
    if target is not None and activation in ("none", "relu"):
        affine(y, index, scale, shift, target, activation == "relu")
    else:
        done = affine(y, index, scale, shift, None, activation == "relu")
        done = done.sigmoid_() if activation == "sigmoid" else done
        if target is None:
            return done.permute(0, 3, 1, 2)
        done = by_phase(done) if up else done
        target.add_(done) if activation == "residual" else target.copy_(done)
    assert padded is not None
    fill_border_(padded, pad * (1 + folded), border, folded=folded)
    return padded


def per_phase(parameter: Tensor, channels: int) -> Tensor:
    """[..., C] as [..., 4 C] for an upsampling layer, whose convolution gives four phases at once."""
    return parameter if parameter.shape[-1] == channels else torch.cat([parameter] * 4, -1)


def of_outputs(x: Tensor, outputs: int) -> Tensor:
    """[C] for a convolution's outputs: four phases of it, and of the picture's with a channel of no account."""
    return per_phase(F.pad(x, (0, SLOT - len(x))) if len(x) < SLOT else x, outputs)


def affine_into_cuda(
    y: Tensor,
    index: Maybe,
    scale: Maybe,
    shift: Maybe,
    padded: Maybe,
    activation: Activation,
    border: Border,
    form: Form | None,
) -> Tensor:
    """:func:`affine_into` by its kernel, for tensors that fit."""
    y = y.contiguous()
    out = y.permute(0, 3, 1, 2) if padded is None else padded
    form = form or Form(up=out.shape[1] != y.shape[3])
    pad, kept = border_px(y, out, form), out.shape[1] // (1 + 3 * form.folded)
    channels = kept * (1 + 3 * form.up)
    index = _rows(y, index)
    scales, shifts = (
        y.new_full((kept,), one, dtype=torch.float32) if x is None else x.float().contiguous()
        for x, one in ((scale, 1), (shift, 0))
    )
    together = _together(y, out, form, pad, scales, shifts)
    defines: dict[str, Any] = {"SCALAR": SCALARS[y.dtype], "VEC": str(together)}
    defines["ACTIVATION"] = str(_ACTIVATIONS.index(activation))
    if form.up or form.folded or channels != CHANNELS:  # two builds for most layers
        defines |= {"CHANNELS": str(channels), "UP": str(int(form.up)), "FOLDED": str(int(form.folded))}
    count, height, width = y.shape[:3]
    step = index.shape[1] // height if index.numel() else 1
    numbers = (height, width, y.shape[3], step, step // 2 if form.apart else 0, pad, int(border == "replicate"))
    blocks = _spans(count * height, -(-width * channels // together // tunable(STEM, "ITEMS")))
    values = (y, index, scales, shifts, out, count * height, *numbers)
    launch(STEM, "stylize_regions_affine", blocks, *values, by_block=True, **defines)
    return out


def _rows(y: Tensor, index: Maybe) -> Tensor:
    """index as the kernels take it; empty, and so a null pointer, where there is none."""
    return y.new_empty(0, dtype=torch.int32) if index is None else index.contiguous()


def _spans(rows: int, threads: int) -> int:
    """Blocks for so many rows of so many threads, as the kernels divide them."""
    return rows * -(-threads // THREADS)


def _together(y: Tensor, out: Tensor, form: Form, pad: int, *tables: Tensor) -> int:
    """How many channels a thread takes: 16 bytes of them, or fewer where a pack would not be whole or aligned."""
    kept, width = out.shape[1] // (1 + 3 * form.folded), out.shape[3]
    phase_pair = kept * (1 + form.up)  # what lies together in out at least
    for together in (16 // y.element_size(), 4):
        piece = min(together, kept)
        counts = (y.shape[3], phase_pair, *(() if form.folded else (kept * width, kept * pad)))
        fits = all(count % together == 0 for count in counts) and kept % piece == 0 and together % piece == 0
        fits = fits and not (form.apart and piece < together)
        fits = fits and all(x.data_ptr() % (together * x.element_size()) == 0 for x in (y, out))
        if fits and all(x.data_ptr() % (piece * 4) == 0 for x in tables):
            return together
    return 1


def picture_into(rgb: Tensor, padded: Tensor, *, impl: str = "auto") -> Tensor:
    """A picture into the folded, padded input of the first layer, its border reflected.

    Args:
        rgb: [N, 3, 2 H, 2 W] float32, bfloat16 or float16.
        padded: [N, 16, H + p, W + p], channels-last, rgb's dtype: blocks of 2 x 2 pixels of 4 channels, the fourth 0,
            and a border of p pixels, an even number.
        impl: "auto" (the kernel on CUDA, else torch), "ref" or "cuda".

    Returns:
        padded.

    Raises:
        ShapeError: the tensors do not fit together in shape, dtype or device, or padded is not channels-last.

    Cost: one launch, 14 bytes a pixel of 16-bit floats; no synchronisation.
    """
    check_picture_into(rgb, padded)
    return (picture_into_cuda if chosen(impl, rgb) else _picture_into_ref)(rgb, padded)


def _picture_into_ref(rgb: Tensor, padded: Tensor) -> Tensor:
    pad = padded.shape[3] - rgb.shape[3] // 2
    if rgb.shape[0]:  # torch mirrors no empty batch
        padded.copy_(fold(F.pad(F.pad(rgb, (pad,) * 4, mode="reflect"), (0, 0, 0, 0, 0, SLOT - 3))))
    return padded


def picture_into_cuda(rgb: Tensor, padded: Tensor) -> Tensor:
    """:func:`picture_into` by its kernel, for tensors that fit."""
    rgb = rgb.contiguous(memory_format=torch.channels_last)
    count, _, height, width = rgb.shape
    blocks = _spans(count * padded.shape[2], padded.shape[3])
    numbers = (count, height, width, padded.shape[3] - width // 2)
    build: dict[str, Any] = {"SCALAR": SCALARS[rgb.dtype], "VEC": str(16 // rgb.element_size())}
    launch(STEM, "stylize_regions_picture_into", blocks, rgb, padded, *numbers, by_block=True, **build)
    return padded


def picture_from(y: Tensor, index: Maybe, scale: Tensor, shift: Tensor, *, impl: str = "auto") -> Tensor:
    """The picture from the last layer's folded convolution: y * scale[index] + shift[index], and the sigmoid.

    Args:
        y: [N, H, W, 16]: four phases of 4 channels, the fourth of no account; W even. It may be overwritten.
        index: [N, 2 H, 2 W] int32 rows of scale and shift (the kernel does not check them); None where they are one.
        scale, shift: [R, 3] with index, [3] without.
        impl: "auto" (the kernel on CUDA, else torch), "ref" or "cuda".

    Returns:
        [N, 3, 2 H, 2 W], from the kernel channels-last.

    Raises:
        ShapeError: the tensors do not fit together in shape, dtype or device.

    Cost: one launch, 18 bytes a pixel of 16-bit floats; no synchronisation.
    """
    check_picture_from(y, index, scale, shift)
    return (picture_from_cuda if chosen(impl, y) else picture_from_ref)(y, index, scale, shift)


def picture_from_ref(
    y: Tensor, index: Maybe, scale: Maybe, shift: Maybe, affine: Callable[..., Tensor] = region_affine
) -> Tensor:
    """:func:`picture_from` in torch, for tensors that fit, as planes; without scale and shift they are in y already.

    affine stands for region_affine where there is an index.
    """
    count, height, width = y.shape[:3]
    blocks = y.reshape(count, height, width, 2, 2, SLOT)
    if scale is not None and shift is not None:
        scale, shift = (F.pad(x, (0, SLOT - 3)) for x in (scale, shift))
        if index is not None:
            index = index.reshape(count, height, 2, width, 2).transpose(2, 3).contiguous()
        blocks = (region_affine if index is None else affine)(blocks, index, scale, shift, None, False)
    out = y.new_empty(count, 3, 2 * height, 2 * width)
    planes = out.view(count, 3, height, 2, width, 2).permute(0, 2, 4, 3, 5, 1)  # three channels last are slow to copy
    planes.copy_(blocks.sigmoid_()[..., :3])
    return out


def picture_from_cuda(y: Tensor, index: Maybe, scale: Maybe, shift: Maybe) -> Tensor:
    """:func:`picture_from` by its kernel, for tensors that fit."""
    assert scale is not None
    assert shift is not None
    y, index = _aligned(y.contiguous()), _aligned(_rows(y, index))
    count, height, width = y.shape[:3]
    scales, shifts = (F.pad(x.float(), (0, SLOT - 3)).contiguous() for x in (scale, shift))
    size = (count, 3, 2 * height, 2 * width)
    out = torch.empty(size, dtype=y.dtype, device=y.device, memory_format=torch.channels_last)
    blocks = _spans(count * height, width // 2)
    values = (y, index, scales, shifts, out, count * height, width)
    build: dict[str, Any] = {"SCALAR": SCALARS[y.dtype], "VEC": str(16 // y.element_size())}
    launch(STEM, "stylize_regions_picture_from", blocks, *values, by_block=True, **build)
    return out


def _aligned(x: Tensor) -> Tensor:
    return x if x.data_ptr() % 16 == 0 else x.clone()
