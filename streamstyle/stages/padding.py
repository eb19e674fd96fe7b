"""Padded channels-last buffers between the layers of the painting network, and what their borders hold.

::

    reflect          replicate          a layer of phases: channels (p00 p01 p10 p11) of one pixel
    f e f g h        e e f g h                              are 2 x 2 pixels of the next buffer
    c b c d ..       b b c d ..             p00 p01
    f e f g h        e e f g h              p10 p11
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from streamstyle.errors import ShapeError
from streamstyle.gpu.kernels import SCALARS
from streamstyle.nets.painting import Layer
from streamstyle.stages.folding import SLOT, Form

T = TypeVar("T")

SMALLEST_PX = 16
Maybe = Tensor | None
Border = Literal["reflect", "replicate"]


KEPT_TIMES = {"cpu": 2.0}
"""Buffers are kept up to so many times the largest that was needed: on a CPU twice, so that two coats of one network
over all of the frame, or one and the boxes of objects that move, do not take each other's, and a thread's memory for
layers is never more than twice what one pass takes in each form that it is painted in (recording in floats, painting in
bytes). Elsewhere once, the last ones: torch's pool of a GPU's memory hands
the same pages out again, while those of a CPU's go back to the system and come as new ones."""


class KeptBuffers(Generic[T]):
    """The buffers of the shapes that were painted last, for one thread: fresh pages cost as much as work."""

    def __init__(self, device: torch.device) -> None:
        self._times = KEPT_TIMES.get(device.type, 1.0)
        self._kept: dict[tuple[int, ...], T] = {}  # what was needed last is last
        self._largest = 0

    def of(self, shape: tuple[int, int, int], make: Callable[[], T]) -> T:
        """Those of so many pictures of a height and width, made where they are not kept."""
        if shape in self._kept:
            self._kept[shape] = found = self._kept.pop(shape)
            return found
        wanted = math.prod(shape)
        self._largest = max(self._largest, wanted)
        # Before the new are asked for, so that both never stand beside each other.
        while self._kept and sum(map(math.prod, self._kept)) + wanted > self._times * self._largest:
            del self._kept[next(iter(self._kept))]
        self._kept[shape] = found = make()
        return found


@dataclass(frozen=True)
class Padded:
    """A layer's input with its border, channels-last; folded: blocks of 2 x 2 pixels as channels.

    Attributes:
        tensor: [N, C, H + b, W + b], or folded [N, 4 C, (H + b) / 2, (W + b) / 2].
        before, after: pixels of border above and left, below and right; b is their sum.
    """

    tensor: Tensor
    before: int
    after: int
    folded: bool

    def phase(self, row: int, column: int) -> Tensor:
        """Every second pixel of the interior from (row, column) on, [N, H / 2, W / 2, C]."""
        if self.folded:
            edge, channels = self.before // 2, self.tensor.shape[1] // 4
            first = (2 * row + column) * channels
            return self.tensor[:, first : first + channels, edge:-edge, edge:-edge].permute(0, 2, 3, 1)
        return self.interior()[:, row::2, column::2]

    def interior(self) -> Tensor:
        """[N, H, W, C]; not of a folded one."""
        height, width = (size - self.after for size in self.tensor.shape[2:])
        return self.tensor[:, :, self.before : height, self.before : width].permute(0, 2, 3, 1)

    def mirror_(self, edge: int) -> None:
        """Fill the border: mirror about the outermost pixels (0) or between them and the border (1)."""
        for line, size in zip((self._row, self._column), self.tensor.shape[2:], strict=True):
            last = size * (1 + self.folded) - 1
            for k in range(self.before):
                line(k).copy_(line(2 * self.before - k - edge))
            for k in range(self.after):
                line(last - k).copy_(line(last - 2 * self.after + k + edge))

    def _row(self, k: int) -> Tensor:
        return self.tensor.unflatten(1, (2, 2, -1))[:, k % 2, :, :, k // 2] if self.folded else self.tensor[:, :, k]

    def _column(self, k: int) -> Tensor:
        if self.folded:
            return self.tensor.unflatten(1, (2, 2, -1))[:, :, k % 2, :, :, k // 2]
        return self.tensor[..., k]


@dataclass
class Workspace:
    """Padded channels-last inputs of each layer, kept from frame to frame.

    Residual blocks share two: what enters a block, to which its end is added, and what is within.
    """

    inputs: tuple[Tensor, ...]


def workspace(
    layers: Sequence[Layer],
    count: int,
    height: int,
    width: int,
    dtype: torch.dtype,
    device: torch.device,
    *,
    folded: Container[int] = (),
    bytes_: Container[int] = (),
) -> Workspace:
    """Buffers for a batch of pictures, height and width multiples of 4.

    Args:
        layers, count, height, width, dtype, device: of what, and where.
        folded: the layers whose inputs are blocks of 2 x 2 pixels, see ``stages.folding``.
        bytes_: those whose inputs are uint8.
    """

    def padded(i: int, channels: int, scale: int, pad: int) -> Tensor:
        size = (count, channels, height // scale + 2 * pad, width // scale + 2 * pad)
        if i in folded:
            size = (count, 4 * max(SLOT, channels), size[2] // 2, size[3] // 2)
        holds = torch.uint8 if i in bytes_ else dtype
        return torch.empty(size, dtype=holds, device=device, memory_format=torch.channels_last)

    inputs: list[Tensor] = []
    for i, layer in enumerate(layers):
        ends = [0 <= j < len(layers) and layers[j].activation == "residual" for j in (i - 2, i - 1, i)]
        if ends[1] or (ends[0] and ends[2]):  # after a block's end; within a block that is not the first
            inputs.append(inputs[i - 2])
            continue
        channels, scale = (layers[i - 1].channels, layers[i - 1].scale) if i else (3, 1)
        pad = 1 if layer.up else layer.size // 2
        inputs.append(padded(i, channels, scale, pad))
    return Workspace(tuple(inputs))


def geometry(y: Tensor, padded: Tensor | None) -> tuple[bool, int]:
    """Whether the channels of y [N, H, W, C] are phases of padded, and padded's border in pixels."""
    if padded is None:
        return False, 0
    up = padded.shape[1] != y.shape[3]
    return up, border_px(y, padded, Form(up=up))


def border_px(y: Tensor, padded: Tensor, form: Form) -> int:
    """The border of padded around what y [N, H, W, C] becomes, in pixels."""
    return (padded.shape[3] * (1 + form.folded) - y.shape[2] * (1 + form.up)) // 2


def check_layer(y: Tensor, index: Maybe, scale: Maybe, shift: Maybe, padded: Maybe, form: Form | None = None) -> None:
    """Raise ShapeError where the tensors of a layer (see ``region_affine.affine_into``) do not fit together."""
    if y.ndim != 4 or y.dtype not in SCALARS:
        raise ShapeError(f"y must be [N, H, W, C] float32, bfloat16 or float16, got {y.dtype} {[*y.shape]}")
    into = y.permute(0, 3, 1, 2) if padded is None else padded
    if into.ndim != 4 or into.dtype != y.dtype:
        raise ShapeError(f"padded must be {y.dtype} [N, C, H, W], got {into.dtype} {[*into.shape]}")
    given = form is not None
    form = form or Form(up=into.shape[1] != y.shape[3])
    _check_index(y, index, 2 if form.apart else 1)
    pad, kept, side = border_px(y, into, form), into.shape[1] // (1 + 3 * form.folded), 1 + form.up
    used, height, width, block = kept * side**2, y.shape[1] * side, y.shape[2] * side, 1 + form.folded
    shape = (y.shape[0], kept * block**2, (height + 2 * pad) // block, (width + 2 * pad) // block)
    whole = not any(x % block for x in (height, width, pad))
    if (
        into.shape != shape
        or not whole
        or (y.shape[3] < used if given else y.shape[3] != used)
        or (pad and not 0 <= pad < min(height, width))
    ):
        raise ShapeError(f"padded must hold y {[*y.shape]} and a border within it, got {[*into.shape]}")
    if padded is not None and not padded.is_contiguous(memory_format=torch.channels_last):
        raise ShapeError(f"padded must be channels-last, got {[*padded.shape]} with strides {padded.stride()}")
    check_table(index, scale, shift, kept)
    check_devices(y, index, scale, shift, padded)


def _check_index(y: Tensor, index: Maybe, step: int) -> None:
    """index must have a whole number of rows a pixel of y, in both directions; a multiple of step."""
    if index is None:
        return
    steps = max(1, index.shape[1] // max(1, y.shape[1])) if index.ndim == 3 else 1
    shape = (y.shape[0], steps * y.shape[1], steps * y.shape[2])
    if index.dtype != torch.int32 or index.shape != shape or steps % step:
        raise ShapeError(f"index must be int32 [N, H, W] as y {[*y.shape]}, got {index.dtype} {[*index.shape]}")


def check_table(index: Maybe, scale: Maybe, shift: Maybe, channels: int) -> None:
    """Raise ShapeError where scale and shift are not alike, not a table (with index) or not a row (without)."""
    if (scale is None) != (shift is None) or (scale is not None and shift is not None and scale.shape != shift.shape):
        shapes = [None if x is None else [*x.shape] for x in (scale, shift)]
        raise ShapeError(f"scale and shift must be alike, got {shapes[0]} and {shapes[1]}")
    if scale is not None and (scale.ndim != 1 + (index is not None) or scale.shape[-1] != channels):
        wanted = f"[{channels}]" if index is None else f"[R, {channels}]"
        raise ShapeError(f"scale and shift must be {wanted}, got {[*scale.shape]}")


def check_devices(y: Tensor, *others: Maybe) -> None:
    """Raise ShapeError where a tensor is not on y's device."""
    for other in others:
        if other is not None and other.device != y.device:
            raise ShapeError(f"all tensors must be on y's {y.device}, got {[*other.shape]} on {other.device}")


def check_picture_into(rgb: Tensor, padded: Tensor) -> None:
    """Raise ShapeError where the tensors of ``region_affine.picture_into`` do not fit together."""
    if rgb.ndim != 4 or rgb.shape[1] != 3 or rgb.dtype not in SCALARS or rgb.shape[2] % 2 or rgb.shape[3] % 2:
        raise ShapeError(f"rgb must be floating [N, 3, 2 H, 2 W], got {rgb.dtype} {[*rgb.shape]}")
    count, _, height, width = rgb.shape
    pad = padded.shape[3] - width // 2 if padded.ndim == 4 else 0
    shape = (count, 4 * SLOT, height // 2 + pad, width // 2 + pad)
    if padded.shape != shape or padded.dtype != rgb.dtype or pad % 2 or not 0 <= pad < min(height, width):
        raise ShapeError(
            f"padded must be {rgb.dtype} and hold the blocks of rgb {[*rgb.shape]} and a border within it, "
            f"got {padded.dtype} {[*padded.shape]}"
        )
    if not padded.is_contiguous(memory_format=torch.channels_last):
        raise ShapeError(f"padded must be channels-last, got {[*padded.shape]} with strides {padded.stride()}")
    check_devices(rgb, padded)


def check_picture_from(y: Tensor, index: Maybe, scale: Tensor, shift: Tensor) -> None:
    """Raise ShapeError where the tensors of ``region_affine.picture_from`` do not fit together."""
    if y.ndim != 4 or y.dtype not in SCALARS or y.shape[3] != 4 * SLOT or y.shape[2] % 2:
        raise ShapeError(f"y must be floating [N, H, 2 W, {4 * SLOT}], got {y.dtype} {[*y.shape]}")
    if index is not None and (
        index.dtype != torch.int32 or index.shape != (y.shape[0], 2 * y.shape[1], 2 * y.shape[2])
    ):
        raise ShapeError(f"index must be int32, two by two for y {[*y.shape]}, got {index.dtype} {[*index.shape]}")
    check_table(index, scale, shift, 3)
    check_devices(y, index, scale, shift)


def interior(padded: Tensor, pad: int) -> Tensor:
    """A padded [N, C, H, W] without its border, seen as [N, H, W, C]."""
    height, width = padded.shape[2:]
    return padded[:, :, pad : height - pad, pad : width - pad].permute(0, 2, 3, 1)


def phase_view(x: Tensor) -> Tensor:
    """[N, 2H, 2W, ...] seen as [N, H, 2, W, 2, ...]: where the four phases of an upsampling layer go."""
    return x.unflatten(1, (x.shape[1] // 2, 2)).unflatten(3, (x.shape[2] // 2, 2))


def by_phase(y: Tensor) -> Tensor:
    """[N, H, W, 4 C] seen as [N, H, 2, W, 2, C]."""
    return y.unflatten(3, (2, 2, y.shape[3] // 4)).permute(0, 1, 3, 2, 4, 5)


def fill_border_(padded: Tensor, pad: int, border: Border, *, folded: bool = False) -> None:
    """Fill the border from the interior, in place.

    "reflect" mirrors about the outermost interior pixels; "replicate" between them and the border (for a pad of 1
    their copies): a reflection, seen before nearest-neighbour doubling. folded: blocks of 2 x 2 pixels as channels.
    """
    Padded(padded, pad, pad, folded).mirror_(int(border == "replicate"))


@functools.cache
def _taps(phase: int) -> tuple[int, int, int]:
    """Which low-resolution tap each of three high-resolution taps falls on."""
    return (0, 1, 1) if phase == 0 else (1, 1, 2)


def phase_weights(weight: Tensor) -> Tensor:
    """Weights [O, I, 3, 3] that follow a nearest doubling, as [4 O, I, 3, 3] before it, phases (row, column) first."""
    phases = weight.new_zeros(2, 2, *weight.shape)
    for row in range(2):
        for column in range(2):
            for a, b in ((a, b) for a in range(3) for b in range(3)):
                phases[row, column, :, :, _taps(row)[a], _taps(column)[b]] += weight[:, :, a, b]
    return phases.flatten(0, 2)


def pad_to_four(image: Tensor) -> Tensor:
    """Reflect (replicate, where too small) right and down to multiples of 4, at least 16."""
    height, width = image.shape[2:]
    down = max(SMALLEST_PX, -(-height // 4) * 4) - height
    right = max(SMALLEST_PX, -(-width // 4) * 4) - width
    if not down and not right:
        return image
    mode = "reflect" if down < height and right < width else "replicate"
    return F.pad(image, (0, right, 0, down), mode=mode)


def pad_index(index: Tensor, size: Sequence[int]) -> Tensor:
    """Repeat the last row and column of [N, H, W] down and right to a size."""
    down, right = size[0] - index.shape[1], size[1] - index.shape[2]
    if not down and not right:
        return index
    rows = torch.arange(size[0], device=index.device).clamp_(max=index.shape[1] - 1)
    columns = torch.arange(size[1], device=index.device).clamp_(max=index.shape[2] - 1)
    return index[:, rows][:, :, columns]
