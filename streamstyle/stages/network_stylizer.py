"""A network of one's own, over a whole frame or over a box of it, with statistics frozen on a reference frame.

::

    frame ┌───────────────────────┐      With frozen statistics a norm is an affine map, folded into its convolution,
          │   ┌───────────┐ halo  │      and nothing depends on the rest of the frame: what is painted inside the box
          │   │  ┌─────┐  │       │      is what the whole frame's painting has there. The box is grown by the halo,
          │   │  │ box │  │       │      starts at a multiple of 4, so that strides fall alike, and ends where the
          │   └──┴─────┴──┘       │      frame ends, so that the border padding is the frame's own.
          └───────────────────────┘

A doubling and its convolution are one convolution of 2 x 2 at the low resolution that gives four phases, with fewer
than half the products; the first and the last layer are folded (``stages.folding``), which is faster at 9 x 9.

Source: Johnson, Alahi and Fei-Fei 2016; Dumoulin et al. 2017. Differs: statistics frozen on a reference frame.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from streamstyle.errors import ShapeError
from streamstyle.nets.johnson import LEVEL, JohnsonNet, padding
from streamstyle.nets.painting import Affine
from streamstyle.stages.folding import SLOT, fold_weights, widen
from streamstyle.stages.padding import KeptBuffers, Padded, pad_to_four

GRAIN_PX = 32
"""Sides of what is computed for a box are multiples of this, so that an object that moves and turns brings few new
shapes, each of which costs libraries of convolutions a plan."""
FLAT_VARIANCE = 1e-4
"""Variance of a layer's channel below which a reference frame counts as flat there (of pixels in 0..1, or of numbers
that were normalised before); pictures have far more."""

Box = tuple[int, int, int, int]
Weights = list[tuple[Tensor, Tensor | None]]
PHASES = ((0, 0), (0, 1), (1, 0), (1, 1))
Window = tuple[slice, slice]
"""Of rows or of columns: those to keep, those to compute."""


class NetworkStylizer:
    """A painting network of Johnson's type with frozen statistics.

    Args:
        net: the network.
        device, dtype: where and in what precision to paint; statistics are recorded in float32.

    Cost: 140 000 multiplications a pixel for the published networks' 32, 64 and 128 channels and five blocks.
    """

    def __init__(self, net: JohnsonNet, device: torch.device, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype
        self.layers, self.recipe = net.layers, net.recipe
        self.halo_px = -(-net.halo_px // 4) * 4
        self._gamma = [x.detach().float().to(device) for x in net.gamma]
        self._beta = [x.detach().float().to(device) for x in net.beta]
        self._bias = None if net.bias is None else net.bias.detach().float().to(device)
        self._slot = _slot(device)
        self._weights = [
            self._formed(i, w.detach().float()).to(device, memory_format=torch.channels_last)
            for i, w in enumerate(net.convolution)
        ]
        self._own = threading.local()  # each thread that paints has buffers of its own
        # One band's largest tensor is 64 bytes a pixel in 16 bits; a GPU takes several frames at once.
        self.band_px = 1 << (24 if device.type == "cuda" else 22)

    @torch.inference_mode()
    def record(self, rgb: Tensor) -> Affine:
        """Freeze the norms' statistics on a reference frame.

        Args:
            rgb: [1, 3, H, W] floating, 0..1; any size.

        Returns:
            scale and shift of each layer with a norm, float32 [C].

        Raises:
            ShapeError: rgb is not [1, 3, H, W].

        Cost: one pass of the network in float32 and one reduction a layer; no synchronisation.
        """
        if rgb.ndim != 4 or rgb.shape[0] != 1:
            raise ShapeError(f"rgb must be one reference frame [1, 3, H, W], got {[*rgb.shape]}")
        affine: list[tuple[Tensor, Tensor]] = []

        def measure(i: int, y: list[Tensor]) -> list[Tensor]:
            if i >= len(self._gamma):
                return y if self._bias is None else [part + self._widened(self._bias) / LEVEL for part in y]
            values = torch.cat([part.reshape(-1, part.shape[-1]) for part in y])[:, : self.layers[i].channels]
            mean = values.mean(0)
            variance = (values - mean).square_().mean(0)
            # A flat reference (black, a fade) has no contrast to normalise, only rounding to blow up: paint it flat.
            flat = FLAT_VARIANCE * (LEVEL**2 if i == 0 else 1)
            scale = torch.where(variance > flat, self._gamma[i] * torch.rsqrt(variance + self.recipe.epsilon), 0.0)
            affine.append((scale, self._beta[i] - mean * scale))
            if self.layers[i].activation == "last":
                scale, shift = (self._widened(x) for x in affine[-1])
            else:
                scale, shift = affine[-1]
            return [torch.addcmul(shift, part, scale) for part in y]

        image = pad_to_four(self._image(rgb, torch.float32))
        plain: Weights = [(w, None) for w in self._weights]
        self._pass(image, plain, measure, self._buffers(image.shape, torch.float32))
        return tuple(affine)

    @torch.inference_mode()
    def paint(self, rgb: Tensor, affine: Affine, box: Box | None = None) -> Tensor:
        """Paint frames, or a box of them.

        Args:
            rgb: [N, 3, H, W] floating, 0..1; any size.
            affine: what :meth:`record` gave.
            box: (top, left, bottom, right) in pixels, half-open, within the frame; None is the whole frame.

        Returns:
            [N, 3, bottom - top, right - left], channels-last, in this stylizer's precision, 0..1: what the whole
            frame's painting has there, to rounding.

        Raises:
            ShapeError: rgb is not [N, 3, H, W] or box does not lie in it.

        Cost: the box and its halo; no synchronisation. Large ones go in bands of rows.
        """
        image = self._image(rgb, self.dtype)
        height, width = image.shape[2:]
        top, left, bottom, right = box or (0, 0, height, width)
        if not (0 <= top <= bottom <= height and 0 <= left <= right <= width):
            raise ShapeError(f"box must be (top, left, bottom, right) within {[*rgb.shape]}, got {box}")
        size = (image.shape[0], 3, bottom - top, right - left)
        out = torch.empty(size, dtype=self.dtype, device=self.device, memory_format=torch.channels_last)
        if not out.numel():
            return out
        weights, padded = self._folded(affine), pad_to_four(image)
        for frames, (kept_rows, rows), (kept_columns, columns) in self._bands(padded.shape, top, left, bottom, right):
            part = padded[frames, :, rows, columns]
            painted = self._pass(part, weights, lambda i, y: y, self._kept_buffers(part.shape))
            first_row, first_column = kept_rows.start - rows.start, kept_columns.start - columns.start
            out[frames, :, kept_rows.start - top : kept_rows.stop - top] = painted[
                :,
                :,
                first_row : first_row + kept_rows.stop - kept_rows.start,
                first_column : first_column + kept_columns.stop - kept_columns.start,
            ]
        return out

    def forget_workspace(self) -> None:
        """Give this thread's memory for the layers back until its next frame."""
        self._own.kept = None

    def _image(self, rgb: Tensor, dtype: torch.dtype) -> Tensor:
        if rgb.ndim != 4 or rgb.shape[1] != 3 or not rgb.is_floating_point() or not rgb.shape[2] * rgb.shape[3]:
            raise ShapeError(f"rgb must be floating [N, 3, H, W], got {rgb.dtype} {[*rgb.shape]}")
        return rgb.to(self.device, dtype)

    # -- weights ------------------------------------------------------------------------------------------------------

    def _formed(self, i: int, weight: Tensor) -> Tensor:
        """A layer's weights in the form they are applied in."""
        if self.layers[i].up:
            return _pair_weights(weight, nearest=self.recipe.up == "nearest")
        if i == 0:  # sees pixels in 0..1
            return fold_weights(widen(weight * LEVEL, weight.shape[0], self._slot))
        if self.layers[i].activation == "last":
            level = LEVEL if self.recipe.output == "levels" else 1.0
            return fold_weights(widen(weight / level, SLOT, weight.shape[1]))
        return weight

    def _folded(self, affine: Affine) -> Weights:
        """Weights and biases with the norms folded in (float32, then rounded once), kept while affine is the same."""
        kept: tuple[Affine, Weights] | None = getattr(self._own, "folded", None)
        if kept is not None and kept[0] is affine:
            return kept[1]
        folded: Weights = []
        for i, weight in enumerate(self._weights):
            if i < len(affine):
                scale, shift = (x.float() for x in affine[i])
            else:
                scale, shift = weight.new_ones(3), self._last_bias()
            if self.layers[i].activation == "last":
                scale, shift = self._widened(scale), self._widened(shift)
            times = weight.shape[0] // scale.shape[0]
            scale, shift = scale.repeat(times), shift.repeat(times)
            weight = (weight * scale.view(-1, 1, 1, 1)).to(self.dtype)
            folded.append((weight.contiguous(memory_format=torch.channels_last), shift.to(self.dtype)))
        self._own.folded = (affine, folded)
        return folded

    def _last_bias(self) -> Tensor:
        return self._weights[0].new_zeros(3) if self._bias is None else self._bias / LEVEL

    @staticmethod
    def _widened(x: Tensor) -> Tensor:
        return F.pad(x, (0, SLOT - x.shape[0]))

    # -- windows and buffers ------------------------------------------------------------------------------------------

    def _bands(
        self, shape: torch.Size, top: int, left: int, bottom: int, right: int
    ) -> Iterator[tuple[slice, Window, Window]]:
        """(frames, rows, columns) that cover a box of a padded batch within the memory of one band."""
        count, _, height, width = shape
        wide = self._window_px(right - left, width)
        columns = self._window(left, right, width, wide)
        rows, keep = bottom - top, bottom - top
        if self._window_px(keep, height) * wide > self.band_px:
            most = max(64, self.band_px // wide - 2 * self.halo_px - GRAIN_PX)
            keep = -(-rows // -(-rows // most))
        high = self._window_px(keep, height)  # one for all bands, so that the buffers serve them all
        together = max(1, self.band_px // (high * wide)) if self.device.type == "cuda" else 1
        for first in range(0, count, together):
            frames = slice(first, min(count, first + together))
            for row in range(top, bottom, keep):
                yield frames, self._window(row, min(bottom, row + keep), height, high), columns

    def _window_px(self, kept: int, size: int) -> int:
        """How many rows (or columns) are computed to keep so many, wherever they begin."""
        return min(size, -(-(kept + 2 * self.halo_px + 3) // GRAIN_PX) * GRAIN_PX)

    def _window(self, first: int, last: int, size: int, window: int) -> Window:
        start = min(max(0, (first - self.halo_px) // 4 * 4), size - window)
        return slice(first, last), slice(start, start + window)

    def _kept_buffers(self, shape: torch.Size) -> list[Padded]:
        """This thread's buffers, kept from frame to frame."""
        kept: KeptBuffers[list[Padded]] | None = getattr(self._own, "kept", None)
        if kept is None:
            self._own.kept = kept = KeptBuffers(self.device)
        return kept.of((shape[0], shape[2], shape[3]), lambda: self._buffers(shape, self.dtype))

    def _buffers(self, shape: torch.Size, dtype: torch.dtype) -> list[Padded]:
        """The padded input of each layer; those of the trunk are two, in turn. Borders of zeros stay as they are."""
        count, _, height, width = shape
        buffers: list[Padded] = []
        for i, layer in enumerate(self.layers):
            if i > 4 and self.layers[i - 1].scale == 4:
                buffers.append(buffers[i - 2])
                continue
            folded = layer.size != 3
            scale = 1 if i == 0 else self.layers[i - 1].scale
            before, after = (1, 1) if layer.up else padding(layer, self.recipe)
            channels = 4 * (self._slot if i == 0 else layer.inputs) if folded else layer.inputs
            block = scale * (1 + folded)
            pads = (before + after) // (1 + folded)
            size = (count, channels, height // block + pads, width // block + pads)
            empty = torch.empty(size, dtype=dtype, device=self.device, memory_format=torch.channels_last)
            buffers.append(Padded(empty.zero_(), before, after, folded))
        return buffers

    # -- one pass -----------------------------------------------------------------------------------------------------

    def _pass(
        self,
        image: Tensor,
        weights: Weights,
        affine: Callable[[int, list[Tensor]], list[Tensor]],
        buffers: list[Padded],
    ) -> Tensor:
        """Each layer's convolution into the next one's padded input; affine is a layer's norm, if not folded in."""
        for row, column in PHASES:
            buffers[0].phase(row, column)[..., :3] = image[:, :, row::2, column::2].permute(0, 2, 3, 1)
        self._border_(0, buffers[0])
        for i, layer in enumerate(self.layers[:-1]):
            y = F.conv2d(buffers[i].tensor, *weights[i], stride=layer.step).permute(0, 2, 3, 1)
            parts = affine(i, self._phases(i, y))
            target = buffers[i + 1]
            into = [target.phase(*phase) for phase in PHASES] if len(parts) == 4 else [target.interior()]
            for part, place in zip(parts, into, strict=True):
                if layer.activation == "residual":
                    place.add_(part)
                else:
                    torch.clamp_min(part, 0, out=place)
            self._border_(i + 1, target)
        last = len(self.layers) - 1
        y = F.conv2d(buffers[last].tensor, *weights[last]).permute(0, 2, 3, 1)
        painted = torch.empty_like(image, memory_format=torch.channels_last)
        for part, (row, column) in zip(affine(last, list(y.split(SLOT, 3))), PHASES, strict=True):
            painted[:, :, row::2, column::2] = part[..., :3].permute(0, 3, 1, 2)
        if self.recipe.output == "tanh":
            painted = painted.tanh().mul_(150 / LEVEL).add_(0.5)
        return painted.clamp_(0, 1)

    def _phases(self, i: int, y: Tensor) -> list[Tensor]:
        """The pixels that a convolution gives, [N, H, W, C]; four phases of them where it gives those."""
        layer = self.layers[i]
        if i and not layer.up:
            return [y]
        phases = y.split(layer.channels, 3)
        if i == 0:
            return list(phases)
        height, width = y.shape[1] - 1, y.shape[2] - 1
        ahead = int(self.recipe.up == "nearest")
        return [
            phases[2 * row + column][:, ahead * row : ahead * row + height, ahead * column : ahead * column + width]
            for row, column in PHASES
        ]

    def _border_(self, i: int, padded: Padded) -> None:
        if self.recipe.padding == "reflect":
            # A reflection after a nearest doubling is a mirror between the pixels before it.
            padded.mirror_(int(self.layers[i].up))


def _slot(device: torch.device) -> int:
    """Channels of a pixel of the first input: tensor cores want eights of them, elsewhere a fourth is but more work."""
    return SLOT if device.type == "cuda" else 3


def _pair_weights(weight: Tensor, *, nearest: bool) -> Tensor:
    """Weights [O, I, 3, 3] of a doubling layer as those [4 O, I, 2, 2] of its four phases.

    Phase 0 is made of pixels i - 1 and i, phase 1 of i and i + 1 after a nearest doubling, else of i - 1 and i too.
    """
    # What each of the pair takes of the three: [phase, of the pair, of the three].
    after_doubling = (((1, 0, 0), (0, 1, 1)), ((1, 1, 0), (0, 0, 1)))
    transposed = (((0, 0, 1), (1, 0, 0)), ((0, 0, 0), (0, 1, 0)))
    taps = torch.tensor(after_doubling if nearest else transposed, dtype=weight.dtype, device=weight.device)
    return torch.einsum("rua,cvb,oiab->rcoiuv", taps, taps, weight).flatten(0, 2)
