"""Several styles in one pass of the network: every pixel takes its own style's parameters, looked up, not recomputed.

Only the norms differ between styles, and with frozen statistics a norm is an affine map, so the frame needs one pass:

::

    index [N, H, W] ──► table row ──► scale, shift [C]
                                        │      │
    convolution ──► y [N, H, W, C] ──► y * scale + shift ──► ReLU ──► into the next layer's padded input

A row of the table is a style, or a blend of two at one of 16 weights: a feathered border costs nothing more. With a
single row, scale and shift are folded into the convolution. Layers are channels-last; each writes straight into the
interior of the next one's padded input, and upsampling is folded into the weights (four phases at low resolution).

Source: Dumoulin et al. 2017 (conditional instance norm). Differs: per pixel, statistics frozen on a reference frame.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from streamstyle.errors import ShapeError
from streamstyle.nets.stylenet import EPSILON, LAYERS, StyleNet

HALO_PX = 72
"""Rows beyond a band that its pixels can depend on: the receptive field's radius is 65 px; 72 is a multiple of 4."""
SMALLEST_PX = 16
FLAT_VARIANCE = 1e-4
"""Variance of a layer's channel below which a reference frame counts as flat there; pictures have far more."""
LEVELS = 16
"""Steps of the blend of two styles across a feathered border."""

Affine = tuple[tuple[Tensor, Tensor], ...]
"""For each layer (scale, shift), float32 [C]: one style, or [R, C]: a table of R rows."""
Measure = Callable[[int, Tensor], tuple[Tensor, Tensor]]


def blend_table(styles: Sequence[Affine]) -> Affine:
    """The table of K styles and of their blends in pairs, [K * K * LEVELS, C] a layer; see :func:`blend_index`."""
    first = torch.linspace(0.5, 1.0, LEVELS).view(1, 1, LEVELS, 1)
    table = []
    for layer in range(len(LAYERS)):
        scale, shift = (torch.stack([style[layer][part] for style in styles]) for part in (0, 1))
        weight = first.to(scale)
        table.append(
            tuple((weight * x[:, None, None] + (1 - weight) * x[None, :, None]).flatten(0, 2) for x in (scale, shift))
        )
    return tuple(table)  # type: ignore[arg-type]


def blend_index(first: Tensor, second: Tensor, weight: Tensor, count: int) -> Tensor:
    """Row of :func:`blend_table` for two styles and the first one's weight.

    Args:
        first, second: [N, H, W] integer, 0 .. count - 1.
        weight: [N, H, W] float, 0.5 (half and half) .. 1 (first alone).
        count: K, the number of styles in the table.

    Returns:
        [N, H, W] int32.
    """
    level = ((weight - 0.5) * (2 * (LEVELS - 1)) + 0.5).to(torch.int32).clamp_(0, LEVELS - 1)
    return (first.to(torch.int32) * count + second.to(torch.int32)) * LEVELS + level


@dataclass
class _Workspace:
    """Padded channels-last inputs of each kind of layer, kept from frame to frame: fresh pages cost as much as work."""

    shape: tuple[int, int, int]
    full3: Tensor
    full32: Tensor
    half32: Tensor
    quarter32: tuple[Tensor, Tensor]
    half8: Tensor
    full4: Tensor


class RegionStylizer:
    """The painting network with per-pixel styles.

    Args:
        net: the published network.
        device, dtype: where and in what precision to compute.
        compile_lookup: fuse the per-pixel lookup with ``torch.compile`` (pays on long clips with several styles).

    Cost: on a CPU with bfloat16 matrix units about 21 ms at 640x360 for one style, 25 to 29 ms for any number.
    """

    def __init__(
        self, net: StyleNet, device: torch.device, dtype: torch.dtype, *, compile_lookup: bool = False
    ) -> None:
        self.device, self.dtype = device, dtype
        self._gamma = [table.float().to(device) for table in net.gamma]
        self._beta = [table.float().to(device) for table in net.beta]
        weights = [_phases(w) if layer.up else w for layer, w in zip(LAYERS, net.convolution, strict=True)]
        self._weights = [w.detach().float().to(device) for w in weights]
        self._raw = [self._cast(w) for w in self._weights]
        self._workspace: _Workspace | None = None
        self.compile_error: str | None = None
        self._compiled = torch.compile(region_affine, dynamic=False) if compile_lookup else None
        # One band's largest tensor is 64 bytes a pixel in bfloat16; a GPU takes several frames at once.
        self.band_px = 1 << (24 if device.type == "cuda" else 22)

    @torch.inference_mode()
    def record(self, rgb: Tensor, style: int) -> Affine:
        """Freeze a style's statistics on a reference frame.

        Args:
            rgb: [1, 3, H, W] in 0..1.
            style: 0..25.

        Returns:
            scale and shift of each layer, float32 [C].

        Cost: one pass of the network and one reduction a layer.
        """
        affine: list[tuple[Tensor, Tensor]] = []

        def measure(i: int, y: Tensor) -> tuple[Tensor, Tensor]:
            channels = LAYERS[i].channels
            # An upsampling layer's four phases are channels here, and pixels of one channel to the norm.
            variance, mean = torch.var_mean(
                y.float().reshape(-1, y.shape[-1] // channels, channels), (0, 1), correction=0
            )
            # A flat reference (black, a fade) has no contrast to normalise, only rounding to blow up: paint it flat.
            scale = torch.where(variance > FLAT_VARIANCE, self._gamma[i][style] * torch.rsqrt(variance + EPSILON), 0.0)
            affine.append((scale, self._beta[i][style] - mean * scale))
            return self._per_phase(i, scale), self._per_phase(i, affine[-1][1])

        self._paint_padded(_pad_to_four(self._image(rgb)), measure)
        return tuple(affine)

    @torch.inference_mode()
    def paint(self, rgb: Tensor, styles: Affine, index: Tensor | None = None) -> Tensor:
        """Paint frames, each pixel in the style of its table row.

        Args:
            rgb: [N, 3, H, W] floating, 0..1; any size.
            styles: one style (scale and shift [C] a layer), or with index a table ([R, C] a layer).
            index: [N, H, W] int32 rows of the table; None where styles is one style.

        Returns:
            [N, 3, H, W], channels-last, in this stylizer's precision, 0..1.

        Raises:
            ShapeError: rgb is not [N, 3, H, W] or index does not match it.

        Cost: no synchronisation. Large frames go in bands of rows; bands agree with the whole frame.
        """
        if index is not None and (index.shape != (rgb.shape[0], *rgb.shape[2:]) or index.dtype != torch.int32):
            raise ShapeError(f"index must be int32 [N, H, W] as rgb {[*rgb.shape]}, got {index.dtype} {[*index.shape]}")
        if self._compiled is not None:
            # Seven layers differ in shape or activation, again for each size of band. The limit is a thread's own.
            torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)
        image = self._image(rgb)
        height, width = image.shape[2:]
        padded = _pad_to_four(image)
        rows = None if index is None else _pad_index(index, padded.shape[2:])
        measure = self._folded(styles) if rows is None else None
        table = None
        if rows is not None:
            table = tuple(
                (self._per_phase(i, scale).to(self.dtype), self._per_phase(i, shift).to(self.dtype))
                for i, (scale, shift) in enumerate(styles)
            )
        out = torch.empty_like(padded, memory_format=torch.channels_last)
        for frames, inner, outer in self._bands(padded.shape):
            band = padded[frames, :, outer]
            rows_band = None if rows is None else rows[frames, outer]
            painted = self._paint_padded(band, measure, table, rows_band)
            top = inner.start - outer.start
            out[frames, :, inner] = painted[:, :, top : top + inner.stop - inner.start]
        return out[:, :, :height, :width]

    def _image(self, rgb: Tensor) -> Tensor:
        if rgb.ndim != 4 or rgb.shape[1] != 3 or not rgb.is_floating_point():
            raise ShapeError(f"rgb must be floating [N, 3, H, W], got {rgb.dtype} {[*rgb.shape]}")
        return rgb.to(self.device, self.dtype)

    def _cast(self, weight: Tensor) -> Tensor:
        return weight.to(self.dtype).contiguous(memory_format=torch.channels_last)

    def _folded(self, style: Affine) -> list[tuple[Tensor, Tensor]]:
        """Convolution weights and biases with one style's norm folded in (float32, then rounded once)."""
        folded = []
        for i, (weight, (scale, shift)) in enumerate(zip(self._weights, style, strict=True)):
            scale, shift = self._per_phase(i, scale), self._per_phase(i, shift)
            folded.append((self._cast(weight * scale.view(-1, 1, 1, 1)), shift.to(self.dtype)))
        return folded

    @staticmethod
    def _per_phase(i: int, parameter: Tensor) -> Tensor:
        """[..., C] as [..., 4 C] for an upsampling layer, whose convolution gives four phases at once."""
        return torch.cat([parameter] * 4, -1) if LAYERS[i].up else parameter

    def _bands(self, shape: torch.Size) -> Iterator[tuple[slice, slice, slice]]:
        """(frames, rows to keep, rows to compute) that cover a padded batch within the memory of one band."""
        count, _, height, width = shape
        together = max(1, self.band_px // (height * width)) if self.device.type == "cuda" else 1
        keep = window = height
        if height * width > self.band_px:
            most = max(64, self.band_px // width - 2 * HALO_PX)
            keep = -(-height // -(-height // most) // 4) * 4
            window = min(height, keep + 2 * HALO_PX)  # one height for all, so that the workspace serves them all
        for first in range(0, count, together):
            frames = slice(first, min(count, first + together))
            for top in range(0, height, keep):
                bottom = min(height, top + keep)
                first_row = min(max(0, top - HALO_PX), height - window)
                yield frames, slice(top, bottom), slice(first_row, first_row + window)

    def _paint_padded(
        self,
        image: Tensor,
        style: list[tuple[Tensor, Tensor]] | Measure | None,
        table: Affine | None = None,
        rows: Tensor | None = None,
    ) -> Tensor:
        """One pass; style is folded weights, or measures each layer's affine as it goes, or a table with rows."""
        space = self._space(image)
        at = None if rows is None else {s: rows[:, ::s, ::s].contiguous() for s in (1, 2, 4)}

        def norm(i: int, source: Tensor, out: Tensor | None) -> Tensor:
            """Convolve source with layer i, normalise, activate, and write to out (NHWC) or return it."""
            layer = LAYERS[i]
            scale = shift = index = None
            if isinstance(style, list):
                weight, bias = style[i]
                y = F.conv2d(source, weight, bias, stride=layer.step).permute(0, 2, 3, 1)
            else:
                y = F.conv2d(source, self._raw[i], stride=layer.step).permute(0, 2, 3, 1)
                if style is not None:
                    scale, shift = (x.to(self.dtype) for x in style(i, y))
                else:
                    assert table is not None
                    assert at is not None
                    scale, shift = table[i]
                    index = at[2 * layer.scale if layer.up else layer.scale]
            relu = layer.activation == "relu"
            if self._compiled is not None and index is not None:
                try:
                    return self._compiled(y, index, scale, shift, out, relu)
                except Exception as error:  # whatever a compiler may say; the film goes on without it
                    self._compiled, self.compile_error = None, str(error).strip().splitlines()[0]
            return region_affine(y, index, scale, shift, out, relu)

        _interior(space.full3, 4).copy_(image.permute(0, 2, 3, 1))
        _reflect(space.full3, 4)
        norm(0, space.full3, _interior(space.full32, 1))
        _reflect(space.full32, 1)
        norm(1, space.full32, _interior(space.half32, 1))
        _reflect(space.half32, 1)
        trunk, branch = space.quarter32
        norm(2, space.half32, _interior(trunk, 1))
        _reflect(trunk, 1)
        for block in range(6):
            norm(3 + 2 * block, trunk, _interior(branch, 1))
            _reflect(branch, 1)
            _interior(trunk, 1).add_(norm(4 + 2 * block, branch, None))
            _reflect(trunk, 1) if block < 5 else _replicate(trunk)
        norm(15, trunk, _phase_view(_interior(space.half8, 1)))
        _replicate(space.half8)
        norm(16, space.half8, _phase_view(_interior(space.full4, 4)))
        _reflect(space.full4, 4)
        return norm(17, space.full4, None).sigmoid_().permute(0, 3, 1, 2)

    def _space(self, image: Tensor) -> _Workspace:
        count, _, height, width = image.shape
        shape = (count, height, width)
        if self._workspace is None or self._workspace.shape != shape:
            self._workspace = None  # give the old one back before asking for the new

            def padded(channels: int, scale: int, pad: int) -> Tensor:
                size = (count, channels, height // scale + 2 * pad, width // scale + 2 * pad)
                return torch.empty(size, dtype=self.dtype, device=self.device, memory_format=torch.channels_last)

            self._workspace = _Workspace(
                shape,
                full3=padded(3, 1, 4),
                full32=padded(32, 1, 1),
                half32=padded(32, 2, 1),
                quarter32=(padded(32, 4, 1), padded(32, 4, 1)),
                half8=padded(8, 2, 1),
                full4=padded(4, 1, 4),
            )
        return self._workspace


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
            y = torch.addcmul(shift, y, scale)
        else:
            y = F.embedding(index, shift).addcmul_(y, F.embedding(index, scale))
    if out is None:
        return y.clamp_min_(0) if relu else y
    if out.ndim == 6:
        y = y.unflatten(3, (2, 2, out.shape[-1])).permute(0, 1, 3, 2, 4, 5)
    return torch.clamp_min(y, 0, out=out) if relu else out.copy_(y)


def _phase_view(x: Tensor) -> Tensor:
    """[N, 2H, 2W, ...] seen as [N, H, 2, W, 2, ...]: where the four phases of an upsampling layer go."""
    return x.unflatten(1, (x.shape[1] // 2, 2)).unflatten(3, (x.shape[2] // 2, 2))


def _interior(padded: Tensor, pad: int) -> Tensor:
    return padded[:, :, pad:-pad, pad:-pad].permute(0, 2, 3, 1)


def _reflect(padded: Tensor, pad: int) -> None:
    """Fill the border by reflection about the outermost interior pixels, in place."""
    for k in range(pad):
        padded[:, :, k] = padded[:, :, 2 * pad - k]
        padded[:, :, -1 - k] = padded[:, :, -1 - 2 * pad + k]
    for k in range(pad):
        padded[..., k] = padded[..., 2 * pad - k]
        padded[..., -1 - k] = padded[..., -1 - 2 * pad + k]


def _replicate(padded: Tensor) -> None:
    """Fill a border of one with its neighbours: a reflection, seen before nearest-neighbour doubling."""
    padded[:, :, 0], padded[:, :, -1] = padded[:, :, 1], padded[:, :, -2]
    padded[..., 0], padded[..., -1] = padded[..., 1], padded[..., -2]


@functools.cache
def _taps(phase: int) -> tuple[int, int, int]:
    """Which low-resolution tap each of three high-resolution taps falls on."""
    return (0, 1, 1) if phase == 0 else (1, 1, 2)


def _phases(weight: Tensor) -> Tensor:
    """Weights [O, I, 3, 3] that follow a nearest doubling, as [4 O, I, 3, 3] before it, phases (row, column) first."""
    phases = weight.new_zeros(2, 2, *weight.shape)
    for row in range(2):
        for column in range(2):
            for a, b in ((a, b) for a in range(3) for b in range(3)):
                phases[row, column, :, :, _taps(row)[a], _taps(column)[b]] += weight[:, :, a, b]
    return phases.flatten(0, 2)


def _pad_to_four(image: Tensor) -> Tensor:
    """Reflect (replicate, where too small) right and down to multiples of 4, at least 16."""
    height, width = image.shape[2:]
    down = max(SMALLEST_PX, -(-height // 4) * 4) - height
    right = max(SMALLEST_PX, -(-width // 4) * 4) - width
    if not down and not right:
        return image
    mode = "reflect" if down < height and right < width else "replicate"
    return F.pad(image, (0, right, 0, down), mode=mode)


def _pad_index(index: Tensor, size: Sequence[int]) -> Tensor:
    down, right = size[0] - index.shape[1], size[1] - index.shape[2]
    if not down and not right:
        return index
    rows = torch.arange(size[0], device=index.device).clamp_(max=index.shape[1] - 1)
    columns = torch.arange(size[1], device=index.device).clamp_(max=index.shape[2] - 1)
    return index[:, rows][:, :, columns]
