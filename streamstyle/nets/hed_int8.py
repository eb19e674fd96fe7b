"""HED in integers of eight bits, for x86 processors: half the time of float32 on AVX2.

::

    RGB -> conv (float) -> clamp, 8 bits -> conv -> pool -> ... -> conv     u8 x s8 -> s32 -> + bias, ReLU, u8
                                                     |               |
                                                   u8 x step       float32          to side outputs and features

Activations are unsigned and in steps of one size a layer, fixed below, so that a film's regions do not depend on its
other frames; weights are signed, in steps of one size an output channel. Values beyond 255 steps are clipped, and a
picture with more than a few of them is looked at once more, in floats.

Note [Pairs]. Without VNNI a processor multiplies the bytes of two neighbouring channels, of a weight each, and adds
both products in 16 bits, which saturate (vpmaddubsw), and oneDNN lets them: with all weights 127 and all activations
255 half of the sum is lost. So the steps of weights are as large as it takes for no pair's to add up to more than 127
or less than -127, give or take one by rounding; then 255 x 128 < 2**15, and every x86 processor gives the same sums.
On photographs edges are .85 of 255 off so in the mean, .99 where each weight alone is held to 64 steps.

oneDNN is called by the operators that torch's own quantised graphs are compiled to; they are not part of its stable
interface, so available() tries them.

Source: Jacob et al. 2018 (integer-only inference). Differs: symmetric, a step an output channel; trained without.
"""

from __future__ import annotations

import copy
import functools
import platform
from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamstyle.nets.hed import HED

MOST_STEPS = 127
"""Of two neighbouring channels' weights of one sign together. See Note [Pairs]."""
LARGEST = (
    (550.0, 1750.0),
    (1500.0, 1100.0),
    (560.0, 650.0, 530.0),
    (190.0, 140.0, 84.0),
    (190.0, 200.0, 790.0),
)
"""The activation that 255 steps stand for, after each convolution of each block. What leaves the least squared error
over 29 pictures of BSDS500 train and 16 frames of DAVIS at 240 lines, where about one value in 100 000 is larger; in
the first three blocks up to half as much more, for large even surfaces of one colour."""
MOST_CLIPPED = 256
"""How many values of a layer may be clipped, however large the picture: one line of lettering moves edges as far as a
frame full of it. At 240 lines 46 photographs and frames of films have 0 to 131, and edges at most 34 of 255 off; a line
of lettering, white on black or black on white, has 800 to 3400, and edges up to 56 off."""


@functools.cache
def available() -> bool:
    """Whether this is an x86 processor and this torch has what is needed here, and it gives exact sums."""
    if platform.machine().lower() not in ("x86_64", "amd64") or not torch.backends.mkldnn.is_available():
        return False
    try:
        return _is_exact()
    except (AttributeError, RuntimeError, TypeError):  # no such operator, or another's arguments
        return False


class Int8HED(HED):
    """HED's function in 8-bit integers, on a CPU; made by of().

    The first convolution, whose input is centred and whose padding means the mean colour, and the side outputs are
    computed in float32.
    """

    floats: HED
    _convolutions: list[list[_FirstConvolution | _Convolution]]
    _dtype: torch.dtype

    @classmethod
    def of(cls, net: HED, dtype: torch.dtype = torch.float32) -> Int8HED:
        """The same network in 8-bit integers, where available() says so.

        Args:
            net: in float32 on a CPU.
            dtype: of the features it gives, and of the network that is kept for pictures that need floats.
        """
        with torch.device("meta"):
            made = cls(net.side, net.depth)
        made.load_state_dict(net.state_dict(), assign=True)
        made.floats = net if dtype == torch.float32 else copy.deepcopy(net).to(dtype)
        made._dtype, made._convolutions = dtype, []
        before: float | None = None
        for number, largest in enumerate(LARGEST[: net.depth], start=1):
            layers = cast(nn.ModuleList, made.get_submodule(f"block{number}"))
            block: list[_FirstConvolution | _Convolution] = []
            for k, (layer, most) in enumerate(zip(layers, largest, strict=True), start=1):
                weight, bias, after = cast(Tensor, layer.weight), cast(Tensor, layer.bias), most / 255
                if before is None:
                    block.append(_FirstConvolution(weight, bias, after))
                else:
                    # Whoever reads the deepest side's block wants floats, whether another block follows or not.
                    in_floats = number >= made._sides[-1] and k == len(layers)
                    block.append(_Convolution(weight, bias, before, None if in_floats else after))
                before = after
            made._convolutions.append(block)
            made.add_module(f"block{number}", None)  # its floats are not needed any more
        return made.eval().requires_grad_(False)

    def edges_and_features(self, rgb: Tensor, blocks: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
        """As HED's, each picture by itself; the features' dtype is of()'s."""
        found = [self._edges_and_features(picture, blocks) for picture in rgb.split(1)]  # one, if there are none
        features = [torch.cat(maps).to(self._dtype) for maps in zip(*(seen for _, seen in found), strict=True)]
        return torch.cat([edges for edges, _ in found]), features

    def _edges_and_features(self, rgb: Tensor, blocks: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
        try:
            return super().edges_and_features(rgb, blocks)
        except _TooManyClipped:
            return self.floats.edges_and_features(rgb, blocks)

    def _block(self, number: int, x: Tensor) -> Tensor:
        if number > 1:
            if x.is_floating_point():
                x = (x * (255 / LARGEST[number - 2][-1])).add_(0.5).clamp_(max=255).to(torch.uint8)
                _check_clipped(x)
            x = _halved(x)
        for convolution in self._convolutions[number - 1]:
            x = convolution(x)
            if not x.is_floating_point():
                _check_clipped(x)
        return x

    def _floats(self, number: int, x: Tensor) -> Tensor:
        return x if x.is_floating_point() else x.float().mul_(LARGEST[number - 1][-1] / 255)


class _TooManyClipped(Exception):
    """A picture needs more than 8 bits."""


def _check_clipped(x: Tensor) -> None:
    """Raise where more than MOST_CLIPPED of x, bytes, are as large as they can be."""
    if x.numel() == 0 or int(x.amax()) < 255:  # .2 ms of 8 MB; most pictures have none
        return
    if np.count_nonzero(x.permute(0, 2, 3, 1).numpy() == 255) > MOST_CLIPPED:  # 3 ms; torch's own count takes 80
        raise _TooManyClipped


class _FirstConvolution:
    """A 3 x 3 convolution and ReLU from floats to bytes, in steps of size after, which is folded into its weights."""

    def __init__(self, weight: Tensor, bias: Tensor, after: float) -> None:
        self._weight = (weight / after).to(memory_format=torch.channels_last)
        self._bias = bias / after + 0.5  # a byte takes the whole part

    def __call__(self, x: Tensor) -> Tensor:
        one = [1, 1]
        clamp = ("hardtanh", [0.0, 255.0], "")  # in the same pass: by clamp_ it is half as long again
        steps = torch.ops.mkldnn._convolution_pointwise(x, self._weight, self._bias, one, one, one, 1, *clamp)
        return cast(Tensor, steps.to(torch.uint8))


class _Convolution:
    """A 3 x 3 convolution and ReLU of bytes.

    Args:
        weight, bias: float32.
        before: size of a step of what it is given.
        after: of what it gives, None where that is to be float32.
    """

    def __init__(self, weight: Tensor, bias: Tensor, before: float, after: float | None) -> None:
        positive_and_negative = torch.stack([weight, -weight]).clamp_min(0)
        pairs = positive_and_negative.unflatten(2, (-1, 2)).sum(3)  # see Note [Pairs]
        self._steps = pairs.amax((0, 2, 3, 4)).clamp_min(1e-12) / MOST_STEPS
        steps = (weight / self._steps.view(-1, 1, 1, 1)).round().to(torch.int8)
        one = [1, 1]
        self._packed = torch.ops.onednn.qconv_prepack(steps, self._steps, before, 0, one, one, one, 1)
        self._zeros = torch.zeros(len(weight), dtype=torch.int32)
        self._bias, self._before, self._after = bias, before, after

    def __call__(self, x: Tensor) -> Tensor:
        one = [1, 1]
        weight = (self._packed, self._steps, self._zeros, self._bias)
        # Not bfloat16: oneDNN has no quick way to it before AMX, and takes 400 times as long.
        to = (1.0, 0, torch.float32) if self._after is None else (self._after, 0, torch.uint8)
        found = torch.ops.onednn.qconv2d_pointwise(x, self._before, 0, *weight, one, one, one, 1, *to, "relu", [], "")
        return cast(Tensor, found)


def _halved(x: Tensor) -> Tensor:
    """The maximum of 2 x 2 bytes; torch.max_pool2d refuses them channels-last, and in floats takes 15 times as long."""
    return cast(Tensor, torch.ops.quantized.max_pool2d(x, [2, 2], [2, 2], [0, 0], [1, 1], True))


@torch.inference_mode()
def _is_exact() -> bool:
    """Whether the largest sums that there can be come out right, and so do the other two operators."""
    most = MOST_STEPS
    pairs = torch.tensor([[most, 0], [0, most], [most - most // 2, most // 2], [-most, 0]]).repeat(8, 1)
    weight = pairs.repeat(1, 32)[:, :, None, None].expand(-1, -1, 3, 3).float()
    bias = (pairs[:, 0] < 0) * (255.0 * most * 9 * 32)  # so that no sum is below zero; all are exact in float32
    bytes_ = torch.full((1, 64, 7, 10), 255, dtype=torch.uint8).to(memory_format=torch.channels_last)
    sums = F.conv2d(bytes_.float(), weight, bias, padding=1)
    if not torch.equal(_Convolution(weight, bias, 1.0, None)(bytes_), sums):
        return False
    rgb = torch.arange(60.0).view(1, 3, 4, 5) * 5 - 20
    first = _FirstConvolution(torch.eye(3)[:, :, None, None] * F.pad(torch.ones(1, 1), (1,) * 4), torch.zeros(3), 1.0)
    bytes_[:, ::3, 1::2] = 7
    return torch.equal(first(rgb).float(), rgb.clamp(0, 255)) and torch.equal(
        _halved(bytes_).float(), F.max_pool2d(bytes_.float(), 2, ceil_mode=True)
    )
