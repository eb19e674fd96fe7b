"""HED in integers of eight bits, for x86 processors: half the time of float32 on AVX2.

::

    RGB -> conv (float) -> clamp, 8 bits -> conv -> pool -> ... -> conv     u8 x s8 -> s32 -> + bias, ReLU, u8
                                                     |               |
                                                     u8           float32           to features and side outputs

Activations are unsigned and in steps of one size a layer, fixed below, so that a film's regions do not depend on its
other frames; weights are signed, in steps of one size an output channel.

Note [Wider steps]. Values beyond 255 steps are clipped. Where more than a few of a picture's are, for it is of
lettering or of pure colours, that layer is computed once more in steps half as large again, until no more than a few
are, and the layers after it begin with steps as wide, up to one that gives floats. A film's pictures are alike, so each
layer begins with as many growths as the picture before took; whether fewer would do is read from what it gives. So a
picture's steps are its own affair, and only the time they take depends on the pictures before.

See ``nets.int8``; benchmarks/bench_hed_int8.py says how far edges are off, and in which time.

Source: Xie and Tu 2015; Jacob et al. 2018.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from streamstyle.nets.hed import HED, LayerOutput
from streamstyle.nets.int8 import Convolution, FloatConvolution, halved

LARGEST = (
    (550.0, 1750.0),
    (1500.0, 1100.0),
    (560.0, 650.0, 530.0),
    (190.0, 140.0, 84.0),
    (190.0, 200.0, 790.0),
)
"""The activation that 255 steps stand for, after each convolution of each block. What leaves the least squared error
over 29 pictures of BSDS500 train and 16 frames of DAVIS at 240 lines, where about one value in 100 000 is larger; in
the first three blocks up to half as much more, for large even surfaces of one colour. The narrow network's layers
are scaled such that these fit them, too (``train.narrow_hed.scale``): other values here want other weights of it."""
MOST_CLIPPED = 32
"""How many values of a layer may be clipped, however large the picture: one line of lettering moves edges as far as a
frame full of it. Of 24 photographs of BSDS500 train and 11 frames of DAVIS at 240 lines, by side 2, edges are up to 60
of 255 off at 256, 24 at 32, 23 at 8, and in the mean .90, .94 and 1.0."""
WIDER = 1.5
"""See Note [Wider steps]. At 2 the edges of 16 pictures that take them, by side 2, are off .56 of 255 in the mean, not
.46."""
SURE = math.floor(254.5 / WIDER + 0.5) + 1
"""What is as large as this in wider steps was clipped in those before: 255 at the least, however it was rounded."""
CACHED = 1 << 16
"""Bytes counted at once, which a core's cache holds."""
STRIP_ROWS = 64
"""Of a picture, convolved at once where floats become bytes."""
MOST_WIDER = 10
"""How often steps grow at most, whatever is clipped then; those of bars of pure colours do 4 times."""


class _Bytes(NamedTuple):
    """What a layer gives."""

    values: Tensor
    """[N, C, h, w] uint8, channels-last."""
    step: float
    """The size of their steps."""
    wide: float
    """How many times what LARGEST says that is."""
    grown: int = 0
    """How often they grew in this layer."""


class Int8HED(HED):
    """HED's function in 8-bit integers, on a CPU; made by of().

    The first convolution, whose input is centred and whose padding means the mean colour, and the side outputs are
    computed in float32.
    """

    _convolutions: list[list[Callable[..., Tensor]]]
    _grown: dict[tuple[int, int], int]
    """How often steps grew in each layer, by block and place in it, for the picture before."""

    @classmethod
    def of(cls, net: HED) -> Int8HED:
        """The same network in 8-bit integers, where ``nets.int8`` is available().

        Args:
            net: in float32 on a CPU.
        """
        with torch.device("meta"):
            made = cls(net.side, net.depth, net.channels)
        made.load_state_dict({key: values.clone() for key, values in net.state_dict().items()}, assign=True)
        made.eval().requires_grad_(False)
        made._convolutions, made._grown = [], {}
        before: float | None = None
        for number, largest in enumerate(LARGEST[: net.depth], start=1):
            layers = cast(nn.ModuleList, made.get_submodule(f"block{number}"))
            block = list[Callable[..., Tensor]]()
            for place, (layer, most) in enumerate(zip(layers, largest, strict=True), start=1):
                weight, bias, after = cast(Tensor, layer.weight), cast(Tensor, layer.bias), most / 255
                if before is None:
                    block.append(functools.partial(_first_convolution, weight, bias))
                else:
                    gives = None if made._gives_floats(number, place) else after
                    block.append(Convolution(weight, bias, before, gives))
                before = after
            made._convolutions.append(block)
            made.add_module(f"block{number}", None)  # its floats are not needed any more
        return made

    def edges_and_features(self, rgb: Tensor, layers: Sequence[tuple[int, int]]) -> tuple[Tensor, list[Tensor]]:
        """As HED's, each picture by itself.

        Features are uint8, in steps of a size that may be another in each picture and layer: who compares their
        directions alone need not know it. Those of a layer that _gives_floats are float32.
        """
        look = super().edges_and_features
        if len(rgb) == 1:  # copied no more than need be
            return look(rgb, layers)
        found = [look(picture, layers) for picture in rgb.split(1)]  # one, if there are none
        features = [torch.cat(maps) for maps in zip(*(seen for _, seen in found), strict=True)]
        return torch.cat([edges for edges, _ in found]), features

    def _block(self, number: int, x: LayerOutput) -> Iterator[LayerOutput]:
        if number > 1:
            if isinstance(x, Tensor):
                x = self._fit((number, 0), functools.partial(_in_steps, x), LARGEST[number - 2][-1])
            x = x._replace(values=halved(x.values))
        for place, convolution in enumerate(self._convolutions[number - 1], start=1):
            most = LARGEST[number - 1][place - 1]
            if isinstance(x, Tensor):  # the picture
                x = self._fit((number, place), functools.partial(convolution, x), most)
            elif self._gives_floats(number, place):
                x = convolution(x.values, x.step)
            else:
                x = self._fit((number, place), functools.partial(convolution, x.values, x.step), most, x.wide)
            yield x

    def _fit(self, layer: tuple[int, int], run: Callable[[float], Tensor], largest: float, wide: float = 1.0) -> _Bytes:
        fitted = _fitted(run, largest / 255, wide, self._grown.get(layer, 0))
        self._grown[layer] = fitted.grown
        return fitted

    def _gives_floats(self, number: int, place: int) -> bool:
        """Whoever reads the deepest side's block wants floats, whether another block follows or not."""
        return number >= self._sides[-1] and place == len(LARGEST[number - 1])

    def _floats(self, x: LayerOutput) -> Tensor:
        return x if isinstance(x, Tensor) else x.values.float().mul_(x.step)

    def _seen(self, x: LayerOutput) -> Tensor:
        return x if isinstance(x, Tensor) else x.values


def _fitted(run: Callable[[float], Tensor], step: float, wide: float = 1.0, guess: int = 0) -> _Bytes:
    """What run gives in steps of a size, or of the least that is wide enough. See Note [Wider steps].

    Args:
        run: bytes of steps of a size.
        step: that size, as long as nothing is clipped.
        wide: how many times that it is at least.
        guess: how often it grows, likely. What is given is the same whatever is guessed; the
            right guess takes one run, two where rounding decides whether less would do.
    """
    widths = list(itertools.accumulate([WIDER] * MOST_WIDER, operator.mul, initial=wide))
    grown = min(guess, MOST_WIDER)
    values = run(step * widths[grown])
    if _many(values, 255):
        for width in widths[grown + 1 :]:
            values, grown = run(step * width), grown + 1
            if not _many(values, 255):
                break
    else:
        while grown and not _many(values, SURE):
            narrower = run(step * widths[grown - 1])
            if _many(narrower, 255):
                break
            values, grown = narrower, grown - 1
    return _Bytes(values, step * widths[grown], widths[grown], grown)


def _many(x: Tensor, least: int) -> bool:
    """Whether more of x, bytes, than may be clipped are so large at least."""
    if x.numel() == 0 or int(x.amax()) < least:  # .2 ms of 8 MB; most pictures have none
        return False
    values, count = x.permute(0, 2, 3, 1).reshape(-1).numpy(), 0
    for start in range(0, len(values), CACHED):  # torch's own count takes 80 ms
        count += int(np.count_nonzero(values[start : start + CACHED] >= least))
        if count > MOST_CLIPPED:
            return True
    return False


def _in_steps(x: Tensor, step: float) -> Tensor:
    """Floats, none below 0, as bytes."""
    return (x * (1 / step)).add_(0.5).clamp_(max=255).to(torch.uint8)


def _first_convolution(weight: Tensor, bias: Tensor, x: Tensor, step: float) -> Tensor:
    """A 3 x 3 convolution and ReLU from floats to bytes, in steps of a size, which is folded into its weights.

    STRIP_ROWS at a time, whose floats are still in a core's cache when they become bytes: half the time.
    """
    run, (count, _, height, width) = FloatConvolution(weight / step, bias / step), x.shape
    found = torch.empty((count, len(weight), height, width), dtype=torch.uint8, memory_format=torch.channels_last)
    for top in range(0, height, STRIP_ROWS):
        above = min(top, 1)
        strip = run(x[:, :, top - above : top + STRIP_ROWS + 1])
        into = found[:, :, top : top + STRIP_ROWS]
        into.copy_(strip[:, :, above : above + into.shape[2]])
    return found
