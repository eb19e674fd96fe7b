"""Several styles in one pass of the network: every pixel takes its own style's parameters, looked up, not recomputed.

Only the norms differ between styles, and with frozen statistics a norm is an affine map, so the frame needs one pass:

::

    index [N, H, W] ──► table row ──► scale, shift [C]
                                        │      │
    convolution ──► y [N, H, W, C] ──► y * scale + shift ──► ReLU ──► into the next layer's padded input

A row of the table is a style, or a blend of two at one of 16 weights: a feathered border costs nothing more, and a
pixel reads one row number instead of two styles and a weight. Layers are channels-last; each writes straight into the
interior of the next one's padded input, and upsampling is folded into the weights (four phases at low resolution). On
CUDA one launch a layer does all between two convolutions (``stages.region_affine``), and the convolutions have the
shapes of ``stages.folding``; on a CPU a single row is folded into the convolution.

Source: Dumoulin et al. 2017 (conditional instance norm). Differs: per pixel, statistics frozen on a reference frame.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from streamstyle.errors import ShapeError
from streamstyle.gpu.kernels import chosen
from streamstyle.nets.painting import Affine, PaintingNet, reach_px
from streamstyle.stages.blends import LEVELS, blend_index, blend_table, mixed_norms
from streamstyle.stages.folding import fast_weights, forms, pixels
from streamstyle.stages.padding import (
    Border,
    KeptBuffers,
    Maybe,
    Workspace,
    pad_index,
    pad_to_four,
    phase_weights,
    workspace,
)
from streamstyle.stages.region_affine import (
    affine_into,
    affine_into_cuda,
    affine_into_ref,
    of_outputs,
    picture_from,
    picture_from_cuda,
    picture_from_ref,
    picture_into,
    picture_into_cuda,
    region_affine,
)

__all__ = [
    "LEVELS",
    "Affine",
    "RegionStylizer",
    "affine_into",
    "blend_index",
    "blend_table",
    "mixed_norms",
    "picture_from",
    "picture_into",
    "region_affine",
]

FLAT_VARIANCE = 1e-4
"""Variance of a layer's channel below which a reference frame counts as flat there; pictures have far more."""
Measure = Callable[[int, Tensor], tuple[Tensor | None, Tensor | None]]
"""A layer's scale and shift, from its number and its convolution; None where they are in the convolution already."""


class RegionStylizer:
    """The painting network with per-pixel styles.

    Args:
        net: a painting network; its weights are copied.
        device, dtype: where and in what precision to compute.
        compile_lookup: fuse the per-pixel lookup with ``torch.compile`` (pays on long clips with several styles);
            of no account where the kernels run.
        impl: "auto" (the kernels on CUDA, else torch), "ref" or "cuda".

    Cost: on a CPU with bfloat16 matrix units about 21 ms at 640x360 for one style, 25 to 29 ms for any number.
    """

    def __init__(
        self,
        net: PaintingNet,
        device: torch.device,
        dtype: torch.dtype,
        *,
        compile_lookup: bool = False,
        impl: str = "auto",
    ) -> None:
        self.device, self.dtype = device, dtype
        self.layers, self.epsilon = net.layers, net.epsilon
        self.halo_px = -(-reach_px(net.layers) // 4) * 4
        self._own = threading.local()  # each thread that paints has a workspace of its own
        plain = [w.detach().float().to(device) for w in net.convolution]
        self._kernels, self._forms = chosen(impl, plain[0]), forms(net.layers)
        weights = [phase_weights(w) if layer.up else w for layer, w in zip(net.layers, plain, strict=True)]
        last = len(weights) - 1
        self._blocks = (0, last) if self._kernels else (last,)  # layers whose input is folded
        fast = fast_weights(net.layers, weights)
        self._weights = fast if self._kernels else [*weights[:-1], fast[-1]]
        self._raw: list[tuple[Tensor, Tensor | None]] = [(self._cast(w), None) for w in self._weights]
        self.compile_error: str | None = None
        self._compiled: Callable[..., Tensor] | None = None
        if compile_lookup and not self._kernels:
            self._compiled = torch.compile(region_affine, dynamic=False)
        # One band's largest tensor is 64 bytes a pixel in bfloat16; a GPU takes several frames at once.
        self.band_px = 1 << (24 if device.type == "cuda" else 22)

    @torch.inference_mode()
    def record(self, rgb: Tensor, norms: Affine) -> Affine:
        """Freeze a style's statistics on a reference frame.

        Args:
            rgb: [1, 3, H, W] in 0..1.
            norms: the style's gamma and beta of each layer, [C], as the network's ``norms`` gives them.

        Returns:
            scale and shift of each layer, float32 [C].

        Raises:
            ShapeError: rgb is not [1, 3, H, W], or norms are not of this network's layers.

        Cost: one pass of the network and one reduction a layer; no synchronisation for norms on this device.
        """
        return self._record(rgb, norms)[0]

    def _record(self, rgb: Tensor, norms: Affine) -> tuple[Affine, Tensor]:
        """The statistics, and the reference frame's painting (its sides multiples of 4)."""
        given, affine = self._norms(norms), []

        def measure(i: int, y: Tensor) -> tuple[Tensor, Tensor]:
            gamma, beta = given[i]
            if not self.layers[i].norm:
                affine.append(self._recorded(i, y, gamma, beta))
                return self._held(affine[-1])
            values = pixels(self.layers[i], y.float())
            mean = values.mean(0)
            variance = (values - mean).square_().mean(0)  # torch.var_mean takes four times as long on a CPU
            # A flat reference (black, a fade) has no contrast to normalise, only rounding to blow up: paint it flat.
            scale = torch.where(variance > FLAT_VARIANCE, gamma * torch.rsqrt(variance + self.epsilon), 0.0)
            affine.append(self._recorded(i, y, scale, beta - mean * scale))
            return self._held(affine[-1])

        painted = self._paint_padded(pad_to_four(self._image(rgb)), self._raw, measure)
        return tuple(affine), painted

    @torch.inference_mode()
    def paint(self, rgb: Tensor, styles: Affine, index: Tensor | None = None) -> Tensor:
        """Paint frames, each pixel in the style of its table row.

        Args:
            rgb: [N, 3, H, W] floating, 0..1; any size.
            styles: one style (scale and shift [C] a layer), or with index a table ([R, C] a layer).
            index: [N, H, W] int32 rows of the table; None where styles is one style.

        Returns:
            [N, 3, H, W] in this stylizer's precision, 0..1; where the kernels run channels-last.

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
        padded = pad_to_four(image)
        rows = None if index is None else pad_index(index, padded.shape[2:])
        one_pass = self._pass_of(styles, looked_up=rows is not None)
        out = torch.empty_like(padded)
        for frames, inner, outer in self._bands(padded.shape):
            rows_band = None if rows is None else rows[frames, outer]
            painted = one_pass(padded[frames, :, outer], rows_band)
            if painted.shape == out.shape:
                out = painted  # one band is the whole
                break
            top = inner.start - outer.start
            out[frames, :, inner] = painted[:, :, top : top + inner.stop - inner.start]
        return out[:, :, :height, :width]

    def _recorded(self, i: int, y: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, ...]:
        """What is kept of a layer, whose convolution of the reference frame is y."""
        return scale, shift

    def _pass_of(self, styles: Affine, *, looked_up: bool) -> Callable[[Tensor, Maybe], Tensor]:
        """What paints a band of pictures, their sides multiples of 4, and of table rows, where they are looked up."""
        affine: Measure
        if not looked_up and not self._kernels:
            weights, affine = self._folded(styles), lambda i, y: (None, None)
        else:
            table = [self._held(pair) for pair in styles]
            weights, affine = self._raw, lambda i, y: table[i]
        return lambda image, rows: self._paint_padded(image, weights, affine, rows)

    def forget_workspace(self) -> None:
        """Give this thread's memory for the layers back until its next frame."""
        vars(self._own).clear()

    def _norms(self, norms: Affine) -> Affine:
        """norms on this device, by one copy."""
        wanted = [(layer.channels,) * 2 for layer in self.layers]
        shapes = [tuple(x.shape) for pair in norms for x in pair]
        if shapes != [(channels,) for pair in wanted for channels in pair]:
            raise ShapeError(f"norms must be two [C] a layer, C {[c for c, _ in wanted]}, got {[*map(list, shapes)]}")
        parts = torch.cat([x.float() for pair in norms for x in pair]).to(self.device)
        halves = iter(parts.split([channels for pair in wanted for channels in pair]))
        return tuple(zip(halves, halves, strict=True))

    def _image(self, rgb: Tensor) -> Tensor:
        if rgb.ndim != 4 or rgb.shape[1] != 3 or not rgb.is_floating_point():
            raise ShapeError(f"rgb must be floating [N, 3, H, W], got {rgb.dtype} {[*rgb.shape]}")
        layout = torch.channels_last if self._kernels else torch.preserve_format
        return rgb.to(self.device, self.dtype, memory_format=layout)

    def _cast(self, weight: Tensor) -> Tensor:
        return weight.to(self.dtype).contiguous(memory_format=torch.channels_last)

    def _held(self, pair: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """A layer's scale and shift as its affine takes them: the kernels' in float32, torch's as the pixels are."""
        return (pair[0], pair[1]) if self._kernels else (pair[0].to(self.dtype), pair[1].to(self.dtype))

    def _folded(self, style: Affine) -> list[tuple[Tensor, Tensor | None]]:
        """Convolution weights and biases with one style's norm folded in (float32, then rounded once)."""
        folded: list[tuple[Tensor, Tensor | None]] = []
        for weight, (scale, shift) in zip(self._weights, style, strict=True):
            scale, shift = (of_outputs(x, weight.shape[0]) for x in (scale, shift))
            folded.append((self._cast(weight * scale.view(-1, 1, 1, 1)), shift.to(self.dtype)))
        return folded

    def _bands(self, shape: torch.Size) -> Iterator[tuple[slice, slice, slice]]:
        """(frames, rows to keep, rows to compute) that cover a padded batch within the memory of one band."""
        count, _, height, width = shape
        together = max(1, self.band_px // (height * width)) if self.device.type == "cuda" else 1
        keep = window = height
        if height * width > self.band_px:
            most = max(64, self.band_px // width - 2 * self.halo_px)
            keep = -(-height // -(-height // most) // 4) * 4
            window = min(height, keep + 2 * self.halo_px)  # one height for all, so that the workspace serves them all
        for first in range(0, count, together):
            frames = slice(first, min(count, first + together))
            for top in range(0, height, keep):
                bottom = min(height, top + keep)
                first_row = min(max(0, top - self.halo_px), height - window)
                yield frames, slice(top, bottom), slice(first_row, first_row + window)

    def _paint_padded(
        self,
        image: Tensor,
        weights: list[tuple[Tensor, Tensor | None]],
        affine: Measure,
        rows: Tensor | None = None,
    ) -> Tensor:
        """One pass: each layer's convolution, and its affine into the next layer's input; rows are of its table."""
        space = self._space(image)
        at = None if rows is None else self._rows(rows)

        self._picture_into(image, space.inputs[0])
        for i, kind in enumerate(self.layers):
            weight, bias = weights[i]
            y = F.conv2d(space.inputs[i], weight, bias, stride=kind.step).permute(0, 2, 3, 1)
            scale, shift = affine(i, y)
            index = None if at is None else at[2 * kind.scale if kind.up else kind.scale]
            following = self.layers[i + 1 : i + 2]
            border: Border = "replicate" if any(x.up for x in following) else "reflect"
            painted = self._into(i, y, index, scale, shift, space.inputs[i + 1] if following else None, border)
        return painted

    def _rows(self, rows: Tensor) -> dict[int, Tensor]:
        """Table rows at each resolution: the kernels take their steps in the whole, torch wants copies."""
        if self._kernels:
            return dict.fromkeys((1, 2, 4), rows.contiguous())
        return {s: rows[:, ::s, ::s].contiguous() for s in (1, 2, 4)}

    def _picture_into(self, image: Tensor, padded: Tensor) -> None:
        if self._kernels:
            picture_into_cuda(image, padded)
        else:
            affine_into_ref(image.permute(0, 2, 3, 1), None, None, None, padded, "none", "reflect")

    def _into(
        self, i: int, y: Tensor, index: Maybe, scale: Maybe, shift: Maybe, padded: Maybe, border: Border
    ) -> Tensor:
        activation = self.layers[i].activation
        if padded is None:
            if self._kernels:
                return picture_from_cuda(y, index, scale, shift)
            return picture_from_ref(y, index, scale, shift, self._affine)
        if not self._kernels:
            affine = region_affine if index is None else self._affine
            blocks = i + 1 in self._blocks
            return affine_into_ref(y, index, scale, shift, padded, activation, border, affine, folded=blocks)
        return affine_into_cuda(y, index, scale, shift, padded, activation, border, self._forms[i])

    def _affine(self, y: Tensor, *rest: Any) -> Tensor:
        """region_affine, compiled if wanted and while it can be."""
        compiled = self._compiled  # another thread may find just now that it cannot be
        if compiled is not None:
            try:
                return compiled(y, *rest)
            except Exception as error:  # whatever a compiler may say; the film goes on without it
                self._compiled, self.compile_error = None, str(error).strip().splitlines()[0]
        return region_affine(y, *rest)

    def _space(self, image: Tensor) -> Workspace:
        return self._kept("floats", image, folded=self._blocks)

    def _kept(self, name: str, image: Tensor, folded: Container[int] = (), bytes_: Container[int] = ()) -> Workspace:
        """This thread's workspace of a form for such an image, made where it is not kept."""
        kept: KeptBuffers[Workspace] | None = getattr(self._own, name, None)
        if kept is None:
            kept = KeptBuffers(self.device)
            setattr(self._own, name, kept)
        count, _, height, width = image.shape
        form = (self.dtype, self.device)
        return kept.of(
            (count, height, width),
            lambda: workspace(self.layers, count, height, width, *form, folded=folded, bytes_=bytes_),
        )
