"""HED in integers of eight bits, for x86 processors: half the time of float32 on AVX2.

::

    RGB -> conv (float) -> clamp, 8 bits -> conv -> pool -> ... -> conv     u8 x s8 -> s32 -> + bias, ReLU, u8
                                                     |               |
                                                   u8 x step       float32          to side outputs and features

Activations are unsigned and in steps of one size a layer, fixed below, so that a film's regions do not depend on its
other frames; weights are signed, in steps of one size an output channel. Values beyond 255 steps are clipped, and a
picture with more than a few of them is looked at once more, in floats.

On photographs edges are .85 of 255 off in the mean. See ``nets.int8``.

Source: Xie and Tu 2015; Jacob et al. 2018.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from streamstyle.nets.hed import HED
from streamstyle.nets.int8 import Convolution, FloatConvolution, halved

_Layer = Callable[[Tensor], Tensor]

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


class Int8HED(HED):
    """HED's function in 8-bit integers, on a CPU; made by of().

    The first convolution, whose input is centred and whose padding means the mean colour, and the side outputs are
    computed in float32.
    """

    floats: HED
    _convolutions: list[list[_Layer]]
    _dtype: torch.dtype

    @classmethod
    def of(cls, net: HED, dtype: torch.dtype = torch.float32) -> Int8HED:
        """The same network in 8-bit integers, where ``nets.int8`` is available().

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
            block: list[_Layer] = []
            for k, (layer, most) in enumerate(zip(layers, largest, strict=True), start=1):
                weight, bias, after = cast(Tensor, layer.weight), cast(Tensor, layer.bias), most / 255
                if before is None:
                    block.append(_first_convolution(weight, bias, after))
                else:
                    # Whoever reads the deepest side's block wants floats, whether another block follows or not.
                    in_floats = number >= made._sides[-1] and k == len(layers)
                    block.append(Convolution(weight, bias, before, None if in_floats else after))
                before = after
            made._convolutions.append(block)
            made.add_module(f"block{number}", None)  # its floats are not needed any more
        return made.eval().requires_grad_(False)

    def edges_and_features(self, rgb: Tensor, layers: Sequence[tuple[int, int]]) -> tuple[Tensor, list[Tensor]]:
        """As HED's, each picture by itself; the features' dtype is of()'s."""
        if len(rgb) == 1:  # copied no more than need be
            edges, features = self._edges_and_features(rgb, layers)
            return edges, [seen.to(self._dtype) for seen in features]
        found = [self._edges_and_features(picture, layers) for picture in rgb.split(1)]  # one, if there are none
        features = [torch.cat(maps).to(self._dtype) for maps in zip(*(seen for _, seen in found), strict=True)]
        return torch.cat([edges for edges, _ in found]), features

    def _edges_and_features(self, rgb: Tensor, layers: Sequence[tuple[int, int]]) -> tuple[Tensor, list[Tensor]]:
        try:
            return super().edges_and_features(rgb, layers)
        except _TooManyClipped:
            return self.floats.edges_and_features(rgb, layers)

    def _block(self, number: int, x: Tensor) -> Iterator[Tensor]:
        if number > 1:
            if x.is_floating_point():
                x = (x * (255 / LARGEST[number - 2][-1])).add_(0.5).clamp_(max=255).to(torch.uint8)
                _check_clipped(x)
            x = halved(x)
        for convolution in self._convolutions[number - 1]:
            x = convolution(x)
            if not x.is_floating_point():
                _check_clipped(x)
            yield x

    def _floats(self, number: int, place: int, x: Tensor) -> Tensor:
        return x if x.is_floating_point() else x.float().mul_(LARGEST[number - 1][place - 1] / 255)


class _TooManyClipped(Exception):
    """A picture needs more than 8 bits."""


def _check_clipped(x: Tensor) -> None:
    """Raise where more than MOST_CLIPPED of x, bytes, are as large as they can be."""
    if x.numel() == 0 or int(x.amax()) < 255:  # .2 ms of 8 MB; most pictures have none
        return
    if np.count_nonzero(x.permute(0, 2, 3, 1).numpy() == 255) > MOST_CLIPPED:  # 3 ms; torch's own count takes 80
        raise _TooManyClipped


def _first_convolution(weight: Tensor, bias: Tensor, after: float) -> _Layer:
    """A 3 x 3 convolution and ReLU from floats to bytes, in steps of size after, which is folded into its weights."""
    steps = FloatConvolution(weight / after, bias / after)
    return lambda x: steps(x).to(torch.uint8)
