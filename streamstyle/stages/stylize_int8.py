"""Several styles in one pass, in 8-bit integers where most of the work is: on x86 processors without bfloat16.

::

    RGB u8 ─ 9x9 ─ u8 ─ 3x3/2 ─ u8 ─ 3x3/2 ─ float32: residual blocks, up2 ─ u8 ─ up2 ─ u8 ─ 9x9 ─ RGB
            s8          s8           s8                                           s8          s8

The layers at the full and at half the size are two thirds of the products and nearly all of the memory; in the trunk,
where errors add up from block to block, floats stay. A channel's bytes are steps of its own size: 255 of them reach
beyond its largest value on the reference frame, and for quiet channels, whose steps would make the next layer's weights
uneven, somewhat farther. Steps are folded into the weights on both sides, so that only K styles together (whose steps
are one for all) need a pass over the floats between two convolutions.

Note [Reach]. What is beyond 255 steps is clipped, and clipped features cost far more than coarse ones. Values grow with
a picture's contrast; a shot may gain DRIFT_LEVELS of it before its statistics are recorded anew, so that a dull
reference frame needs more room than a lively one. From a spread of 8, 15 and 25 levels of luma to 17 more: 46, 46 and
47 dB to float32 in the median of four styles, where 1.2 times the largest value gave 18, 27 and 33; a frame of 43
levels, 46 in place of 47. What is harsher still, such as colour bars in a film of landscapes, stays clipped.

Note [Check]. Where a picture is flat (slides, credits, cartoons), norms blow up the least: half a level of noise in it
changes such paintings by as much as bytes do, 15 to 30 dB. So each style's reference frame is painted in bytes, too,
when it is recorded, and where that is not within LEAST_DB of the floats' painting, all it is the reference of is
painted in floats. Later frames were at most 3 dB worse than their reference, on seven films in four styles.

Source: Jacob et al. 2018 (integer-only inference); Nagel et al. 2019 (steps evened out across channels).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from streamstyle.errors import OptionError
from streamstyle.gpu.transfer import choose_dtype, has_native_bfloat16
from streamstyle.nets import int8
from streamstyle.nets.painting import Affine, PaintingNet
from streamstyle.stages.folding import pixels
from streamstyle.stages.padding import Border, Maybe, by_phase, fill_border_, interior, phase_view
from streamstyle.stages.region_affine import affine_into_ref, of_outputs, per_phase, picture_from_ref, region_affine
from streamstyle.stages.stylize_regions import RegionStylizer

LEVELS = 255
HEADROOM = 1.1
"""How far beyond the largest value that a shot's contrast may grow to a channel's bytes reach."""
DRIFT_LEVELS = 18.0
"""By how much a shot's contrast may grow; as of ``frozen_statistics``. See Note [Reach]."""
DULL_LEVELS = 6.0
"""Duller reference frames are taken for frames of this spread of luma; as of its FLAT_LEVELS."""
LUMA = (0.2126, 0.7152, 0.0722)
LEAST_DB = 35.0
"""Of a reference frame's painting to that in floats. See Note [Check]."""
BINDINGS = 4
"""Of styles, or tables, that a thread keeps: several coats are painted in turn, and binding takes as long as a box."""
EVENNESS = 0.75
"""A channel's step is the largest channel's to the power of 1 - EVENNESS, times its own to EVENNESS."""
CHUNK_BYTES = 1 << 19
"""Of floats that become bytes at once: what stays in a core's cache from one pass over it to the next."""


def in_bytes(precision: str, device: torch.device, *, apart: bool = False, briefly: bool = False) -> bool:
    """Whether a precision (as of ``StyleOptions``) means 8-bit integers here; auto does where nothing is quicker.

    Args:
        precision, device: what is asked for, and where.
        apart: what a style paints must not depend on which others are worn, as steps do: parts of a film are painted
            in one run, and parts in another.
        briefly: for one frame, for which it does not pay to record and bind in bytes; then only where it is asked for.

    Raises:
        OptionError: they are asked for, and cannot be.
    """
    can = device.type == "cpu" and int8.available()
    if precision == "int8" and not can:
        why = "this torch has no such operators" if device.type == "cpu" else f"{device.type} computes in floats"
        raise OptionError(f"--precision int8: {why}; it needs an x86 processor and oneDNN. Use auto")
    if precision == "int8" and apart:
        raise OptionError(
            "--precision int8: rounds by all styles worn, so that a project's parts would not match; use auto"
        )
    auto = precision == "auto" and not apart and not briefly
    return precision == "int8" or (auto and can and not has_native_bfloat16())


def region_stylizer(
    net: PaintingNet, device: torch.device, precision: str, *, compile_lookup: bool = False
) -> RegionStylizer:
    """The stylizer of a precision, as of ``StyleOptions``.

    Raises:
        OptionError: this machine has it not.
    """
    dtype = None if in_bytes(precision, device) else choose_dtype(precision, device)
    return stylizer_in(dtype, net, device, compile_lookup=compile_lookup)


def stylizer_in(
    dtype: torch.dtype | None, net: PaintingNet, device: torch.device, *, compile_lookup: bool = False
) -> RegionStylizer:
    """The stylizer that computes in a dtype; in 8-bit integers for None."""
    if dtype is None:
        return Int8Stylizer(net, device, compile_lookup=compile_lookup)
    return RegionStylizer(net, device, dtype, compile_lookup=compile_lookup)


@dataclass(frozen=True)
class _Bound:
    """A layer with its norm: in its convolution, or for several styles the table's scale and shift beside it."""

    convolution: Callable[[Tensor], Tensor]
    scale: Maybe = None
    shift: Maybe = None


class Int8Stylizer(RegionStylizer):
    """The painting network with per-pixel styles, in 8-bit integers around a trunk in float32; on a CPU.

    What :meth:`record` gives has besides, for each layer, how far its channels' bytes reach; what is painted needs it.
    Infinity stands for floats. See Note [Check].

    Args:
        net, device, compile_lookup: as of RegionStylizer; where ``nets.int8`` is available().

    Cost: two thirds (several styles) to three quarters (one) of float32's time with AVX2; to record, a pass in bytes
    more.
    """

    def __init__(self, net: PaintingNet, device: torch.device, *, compile_lookup: bool = False) -> None:
        super().__init__(net, device, torch.float32, compile_lookup=compile_lookup, impl="ref")
        inputs = [1, *(layer.scale for layer in net.layers[:-1])]
        self._in_bytes = frozenset(i for i, scale in enumerate(inputs) if scale < 4)
        self._compiled_bytes: Callable[..., Tensor] | None = None
        if compile_lookup:
            self._compiled_bytes = torch.compile(region_bytes, dynamic=False)

    @torch.inference_mode()
    def record(self, rgb: Tensor, norms: Affine) -> Affine:
        """As RegionStylizer's, with how far each channel's bytes are to reach, [C], as a third part of each layer."""
        image = self._image(rgb)
        spread = (image * image.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1).std(correction=0) * LEVELS
        spread = spread.clamp_min(DULL_LEVELS)
        recorded, expected = self._record(image, norms)
        room = HEADROOM * (spread + DRIFT_LEVELS) / spread
        affine = tuple((scale, shift, largest * room) for scale, shift, largest in recorded)
        height, width = image.shape[2:]
        if _psnr(self.paint(image, affine), expected[:, :, :height, :width]) >= LEAST_DB:
            return affine
        return tuple((scale, shift, torch.full_like(reach, torch.inf)) for scale, shift, reach in affine)

    def _recorded(self, i: int, y: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, ...]:
        """Scale, shift, and the largest value of each channel."""
        values = pixels(self.layers[i], y)
        largest = torch.maximum(values.amax(0) * scale, values.amin(0) * scale) + shift
        return scale, shift, largest.clamp_min(1e-3)

    def _pass_of(self, styles: Affine, *, looked_up: bool) -> Callable[[Tensor, Maybe], Tensor]:
        if not styles[0][2].isfinite().all():  # nor are they where one of several is not, or one of a fade's two
            return super()._pass_of(tuple(layer[:2] for layer in styles), looked_up=looked_up)
        kept: dict[int, tuple[Affine, list[_Bound]]] = vars(self._own).setdefault("bindings", {})
        found = kept.pop(id(styles), None)  # which is this one's as long as it is kept
        if found is None:
            found = styles, self._bind(styles, looked_up=looked_up)
            while len(kept) >= BINDINGS:
                del kept[next(iter(kept))]
        kept[id(styles)] = found
        layers = found[1]
        return lambda image, rows: self._paint_bytes(image, layers, rows)

    # -- weights ------------------------------------------------------------------------------------------------------

    def _bind(self, styles: Affine, *, looked_up: bool) -> list[_Bound]:
        """Every layer with one style's norm, or a table of them, and with the steps of what it takes and gives."""
        last, bound = len(self.layers) - 1, []
        before = torch.tensor([1 / LEVELS] * 3)
        for i, (weight, (scale, shift, reach)) in enumerate(zip(self._weights, styles, strict=True)):
            if i in self._in_bytes:
                weight = weight * per_phase(before, weight.shape[1]).view(1, -1, 1, 1)
            gives_bytes = i < last and i + 1 in self._in_bytes
            if gives_bytes:
                before = _steps(reach)
                scale, shift = scale / before, shift / before
            if looked_up:
                bound.append(_Bound(self._convolution(i, weight, None, gives_bytes=False), scale, shift))
                continue
            scale, shift = (of_outputs(x, weight.shape[0]) for x in (scale, shift))
            folded = weight * scale.view(-1, 1, 1, 1)
            bound.append(_Bound(self._convolution(i, folded, shift, gives_bytes=gives_bytes)))
        return bound

    def _convolution(self, i: int, weight: Tensor, bias: Maybe, *, gives_bytes: bool) -> Callable[[Tensor], Tensor]:
        """A layer's; raw where there is no bias, else with its activation if it is of bytes or gives them."""
        stride = self.layers[i].step
        if i in self._in_bytes:
            relu = bias is not None and self.layers[i].activation == "relu"
            zeros, after = weight.new_zeros(len(weight)), 1.0 if gives_bytes else None
            return int8.Convolution(
                weight, zeros if bias is None else bias, 1.0, after, stride=stride, padding=0, relu=relu
            )
        if gives_bytes and bias is not None:
            return int8.FloatConvolution(weight, bias, padding=0)
        return functools.partial(F.conv2d, weight=self._cast(weight), bias=bias, stride=stride)

    # -- one pass -----------------------------------------------------------------------------------------------------

    def _paint_bytes(self, image: Tensor, layers: list[_Bound], rows: Maybe) -> Tensor:
        """One pass over a band."""
        space = self._kept("bytes", image, folded=self._blocks, bytes_=self._in_bytes)
        at = None if rows is None else self._rows(rows)
        first, edge = space.inputs[0], self.layers[0].size // 2
        levels = (image * LEVELS).add_(0.5).clamp_(0, LEVELS + 0.5).to(torch.uint8)  # enlarged pictures overshoot
        interior(first, edge).copy_(levels.permute(0, 2, 3, 1))
        fill_border_(first, edge, "reflect")
        for i, (kind, layer) in enumerate(zip(self.layers, layers, strict=True)):
            y = layer.convolution(space.inputs[i]).permute(0, 2, 3, 1)
            index = None if at is None else at[2 * kind.scale if kind.up else kind.scale]
            if i + 1 < len(layers):
                self._into_next(i, y, index, layer, space.inputs[i + 1])
        return picture_from_ref(y, index, layer.scale, layer.shift, self._affine)

    def _into_next(self, i: int, y: Tensor, index: Maybe, layer: _Bound, padded: Tensor) -> None:
        following = self.layers[i + 1]
        border: Border = "replicate" if following.up else "reflect"
        if padded.dtype != torch.uint8:
            affine = region_affine if index is None else self._affine
            affine_into_ref(y, index, layer.scale, layer.shift, padded, self.layers[i].activation, border, affine)
            return
        folded = i + 1 in self._blocks
        pad = 1 if following.up else following.size // 2
        target = interior(padded, pad // (1 + folded))
        if padded.shape[1] != y.shape[3]:
            target = phase_view(target)
        if index is None:
            target.copy_(y if target.ndim == 4 else by_phase(y))
        else:
            assert layer.scale is not None
            assert layer.shift is not None
            scale, shift = (per_phase(x, y.shape[3]) for x in (layer.scale, layer.shift))
            self._into_bytes(y, index, scale, shift, target)
        fill_border_(padded, pad, border, folded=folded)

    def _into_bytes(self, y: Tensor, index: Tensor, scale: Tensor, shift: Tensor, out: Tensor) -> None:
        """region_bytes, compiled if wanted and while it can be; else by rows that stay in the cache."""
        compiled = self._compiled_bytes
        if compiled is not None:
            try:
                compiled(y, index, scale, shift, out)
                return
            except Exception as error:  # as of region_affine
                self._compiled_bytes, self.compile_error = None, str(error).strip().splitlines()[0]
        rows = max(1, CHUNK_BYTES // (4 * y.shape[2] * y.shape[3]))
        for first in range(0, y.shape[1], rows):
            part = slice(first, first + rows)
            region_bytes(y[:, part], index[:, part], scale, shift, out[:, part])


def region_bytes(y: Tensor, index: Tensor, scale: Tensor, shift: Tensor, out: Tensor) -> Tensor:
    """y * scale[index] + shift[index], rounded and clipped to 0..255, into out.

    Args:
        y: [N, H, W, C] float32.
        index: [N, H, W] int32.
        scale, shift: [R, C] float32, in steps.
        out: [N, H, W, C] uint8, any strides, or [N, H, 2, W, 2, C / 4] for four phases.

    Returns:
        out.
    """
    y = F.embedding(index, shift + 0.5).addcmul_(y, F.embedding(index, scale)).clamp_(0, LEVELS + 0.5)
    return out.copy_(by_phase(y) if out.ndim == 6 else y)


def _psnr(painted: Tensor, expected: Tensor) -> float:
    """Of pictures in 0..1, in dB."""
    return -10 * math.log10(max(1e-12, float((painted - expected).square().mean())))


def _steps(reach: Tensor) -> Tensor:
    """The size of each channel's steps, [C], from how far they must reach: a style's [C], or a table's [R, C]."""
    reach = reach.amax(0) if reach.ndim == 2 else reach
    return reach.amax() ** (1 - EVENNESS) * reach**EVENNESS / LEVELS
