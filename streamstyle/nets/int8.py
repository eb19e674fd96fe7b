"""Convolutions of 8-bit integers on x86 processors: half the time of float32 on AVX2, more where there is VNNI.

::

    bytes u8 ─┐
              ├─ s32 ─ times a factor of the output ─ plus a term ─ ReLU ─ rounded and clipped to 0..255 ─ bytes
    steps s8 ─┘                                                     └─ or as it is ─ float32

Note [Pairs]. Without VNNI a processor multiplies the bytes of two neighbouring channels, of a weight each, and adds
both products in 16 bits, which saturate (vpmaddubsw), and oneDNN lets them: with all weights 127 and all activations
255 half of the sum is lost. So the steps of weights are as large as it takes for no pair's to add up to more than 127
or less than -127, give or take one by rounding; then 255 x 128 < 2**15, and every x86 processor gives the same sums.

Note [Even surfaces]. Where a picture is even, the errors of a kernel's weights add up with one sign, and norms or
further layers blow the sum up. So weights are rounded up or down such that the sum over a kernel is that of the floats:
of the painting network's first layer alone, 9 x 9 over RGB, that makes 54 to 65 dB of 28 to 38.

Note [Laid out]. oneDNN lays weights out when they are packed, for a picture of a size that it guesses unless it is told
one. Where it then wants another layout, it makes that anew at each call, slowly: on two threads with VNNI, 192 outputs
of 192 channels take 12 ms of 30 x 54, and 1.6 when they are packed for that size. Up to 128 outputs no size was found
where it matters, so more than these are packed for the size that comes.

oneDNN is called by the operators that torch's own quantised graphs are compiled to; they are not part of its stable
interface, so available() tries them.

Source: Jacob et al. 2018 (integer-only inference). Differs: symmetric, a step an output channel; trained without;
Note [Even surfaces].
"""

from __future__ import annotations

import functools
import platform
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

MOST_STEPS = 127
"""Of two neighbouring channels' weights of one sign together. See Note [Pairs]."""
ANY_SIZE = 128
"""Outputs that are packed once for pictures of all sizes. See Note [Laid out]."""
CLAMP = ("hardtanh", [0.0, 255.0], "")


@functools.cache
def available() -> bool:
    """Whether this is an x86 processor and this torch has what is needed here, and it gives exact sums."""
    if platform.machine().lower() not in ("x86_64", "amd64") or not torch.backends.mkldnn.is_available():
        return False
    try:
        return _is_exact()
    except (AttributeError, RuntimeError, TypeError):  # no such operator, or another's arguments
        return False


class Convolution:
    """A convolution of bytes.

    Args:
        weight, bias: float32; [O, I, k, k] for steps of size before, and [O].
        before: size of a step of what it is given.
        after: of what it gives, None where that is to be float32.
        stride, padding: as of torch's; padding is with zeros.
        relu: clamp at zero, as bytes are in any case.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        before: float,
        after: float | None,
        *,
        stride: int = 1,
        padding: int = 1,
        relu: bool = True,
    ) -> None:
        sizes = step_sizes(weight)
        self._steps = kept_even(weight / sizes.view(-1, 1, 1, 1)).to(torch.int8)
        self._where = ([stride] * 2, [padding] * 2, [1, 1], 1)
        self._pack = functools.partial(torch.ops.onednn.qconv_prepack, self._steps, sizes, before, 0, *self._where)
        self._packed: tuple[tuple[int, ...], Tensor] = (), self._pack()
        self._rest = sizes, torch.zeros(len(weight), dtype=torch.int32), bias
        self._before, self._after = before, after
        self._activation: tuple[str, list[float], str] = ("relu" if relu else "none", [], "")

    def __call__(self, x: Tensor, before: float | None = None, after: float | None = None) -> Tensor:
        """[N, O, h, w], channels-last, of x [N, I, H, W] uint8, channels-last.

        Args:
            before, after: sizes of steps, where they are others than the constructor was given; after counts for bytes.
        """
        # Not bfloat16: oneDNN has no quick way to it before AMX, and takes 400 times as long.
        to = (1.0, 0, torch.float32) if self._after is None else (after or self._after, 0, torch.uint8)
        of = (x, before or self._before, 0)
        weight = (self._packed_for(x), *self._rest)
        found = torch.ops.onednn.qconv2d_pointwise(*of, *weight, *self._where, *to, *self._activation)
        return cast(Tensor, found)

    def _packed_for(self, x: Tensor) -> Tensor:
        """The weights, laid out for a picture of x's size where that matters."""
        size, packed = self._packed
        if len(self._steps) > ANY_SIZE and size != (wanted := (*x.shape, torch.get_num_threads())):
            packed = self._pack(list(x.shape))
            self._packed = wanted, packed
        return packed


class FloatConvolution:
    """A convolution of floats and ReLU whose output goes into bytes: clipped to 255.5, so that its whole part is one.

    Args:
        weight, bias: float32, for outputs in steps of 1.
        padding: with zeros.
    """

    def __init__(self, weight: Tensor, bias: Tensor, *, padding: int = 1) -> None:
        self._weight, self._bias = weight.to(memory_format=torch.channels_last), bias + 0.5
        self._padding = [padding] * 2

    def __call__(self, x: Tensor) -> Tensor:
        """[N, O, h, w] float32, 0..255 and a half too much, of x [N, I, H, W] float32."""
        # Clamped in the same pass: by clamp_ it is half as long again.
        run, one = torch.ops.mkldnn._convolution_pointwise, [1, 1]
        return cast(Tensor, run(x, self._weight, self._bias, self._padding, one, one, 1, *CLAMP))


def step_sizes(weight: Tensor) -> Tensor:
    """The size of each output's steps, [O], for weights [O, I, k, k]. See Note [Pairs]."""
    positive_and_negative = torch.stack([weight, -weight]).clamp_min(0)
    pairs = F.pad(positive_and_negative, (0, 0, 0, 0, 0, weight.shape[1] % 2)).unflatten(2, (-1, 2)).sum(3)
    return pairs.amax((0, 2, 3, 4)).clamp_min(1e-12) / MOST_STEPS


def kept_even(steps: Tensor) -> Tensor:
    """Whole numbers near [O, I, k, k], a kernel's of its sum to half of one. See Note [Even surfaces]."""
    kernels = steps.flatten(2)
    whole = kernels.round()
    errors = whole - kernels
    surplus = errors.sum(2, keepdim=True).round()
    # Those that were rounded farthest the wrong way are rounded the other way; a stable order is the same everywhere.
    order = (errors * surplus.sign()).argsort(dim=2, descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(2, order, torch.arange(order.shape[2]).expand_as(order))
    return (whole - surplus.sign() * (rank < surplus.abs())).view_as(steps)


def halved(x: Tensor) -> Tensor:
    """The maximum of 2 x 2 bytes; torch.max_pool2d refuses them channels-last, and in floats takes 15 times as long."""
    return cast(Tensor, torch.ops.quantized.max_pool2d(x, [2, 2], [2, 2], [0, 0], [1, 1], True))


@torch.inference_mode()
def _is_exact() -> bool:
    """Whether the largest sums that there can be come out right, and so do the other two operators."""
    most = MOST_STEPS
    # More than ANY_SIZE outputs, so that packing for a size is tried, too.
    pairs = torch.tensor([[most, 0], [0, most], [most - most // 2, most // 2], [-most, 0]]).repeat(33, 1)
    weight = pairs.repeat(1, 32)[:, :, None, None].expand(-1, -1, 3, 3).float()
    bias = (pairs[:, 0] < 0) * (255.0 * most * 9 * 32)  # so that no sum is below zero; all are exact in float32
    bytes_ = torch.full((1, 64, 7, 10), 255, dtype=torch.uint8).to(memory_format=torch.channels_last)
    sums = F.conv2d(bytes_.float(), weight, bias, padding=1)
    if not torch.equal(Convolution(weight, bias, 1.0, None)(bytes_), sums):
        return False
    rgb = torch.arange(60.0).view(1, 3, 4, 5) * 5 - 20
    first = FloatConvolution(torch.eye(3)[:, :, None, None] * F.pad(torch.ones(1, 1), (1,) * 4), torch.zeros(3))
    bytes_[:, ::3, 1::2] = 7
    return torch.equal(first(rgb).to(torch.uint8).float(), rgb.clamp(0, 255)) and torch.equal(
        halved(bytes_).float(), F.max_pool2d(bytes_.float(), 2, ceil_mode=True)
    )
