"""Blocks of 2 x 2 pixels as channels, and convolutions whose shapes cuDNN has fast engines for.

::

    a b c d                          one pixel of the folded picture
    e f g h    ──fold──►   (a b e f) (c d g h)        has the channels of a, b, e and f

A convolution of k x k pixels of few channels equals one of about k / 2 blocks of four times as many, with zeros where
the kernel does not reach; its outputs are the block's four pixels. That is more arithmetic, but of a kind tensor cores
do: on an H200 the last layer (9 x 9, 4 to 3 channels) takes a twentieth of the time. Zero outputs serve the same end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from streamstyle.nets.painting import Layer

SLOT = 4
"""Channels of a pixel within a block, where the picture has three."""
TRUNK_OUTPUTS = 64
"""cuDNN 9 takes an sgemm for 32 outputs at some sizes (272x482, batches of 2 and more) and a fast engine for 64 at all,
at an eighth of the time."""


@dataclass(frozen=True)
class Form:
    """How a convolution's output and the input it goes to lie in memory.

    Args:
        up: the channels of the output are four phases, 2 x 2 pixels of the input.
        apart: phases have table rows of their own, as pixels do; else all four have that of the first, as copies do.
        folded: the input is folded.
    """

    up: bool = False
    apart: bool = False
    folded: bool = False


def forms(layers: Sequence[Layer]) -> tuple[Form, ...]:
    """Of a network's layers where the kernels run; the last has none, for it writes the picture."""
    inner = (Form(up=layer.up, folded=i == len(layers) - 2) for i, layer in enumerate(layers[:-1]) if i)
    return (Form(up=True, apart=True), *inner)


def fold(x: Tensor) -> Tensor:
    """[N, C, 2 H, 2 W] as [N, 4 C, H, W], phases (p00 p01 p10 p11) first, channels-last."""
    count, channels, height, width = x.shape
    blocks = x.reshape(count, channels, height // 2, 2, width // 2, 2).permute(0, 3, 5, 1, 2, 4)
    return blocks.reshape(count, 4 * channels, height // 2, width // 2).contiguous(memory_format=torch.channels_last)


def unfold(x: Tensor) -> Tensor:
    """The inverse of :func:`fold`, channels-last."""
    count, channels, height, width = x.shape
    phases = x.reshape(count, 2, 2, channels // 4, height, width).permute(0, 3, 4, 1, 5, 2)
    return phases.reshape(count, channels // 4, 2 * height, 2 * width).contiguous(memory_format=torch.channels_last)


def fold_weights(weight: Tensor) -> Tensor:
    """Weights [O, I, k, k], k = 1, 5, 9 ..., as those [4 O, 4 I, k // 2 + 1, k // 2 + 1] of the same on blocks."""
    outputs, inputs, size, _ = weight.shape
    reach = size // 4  # blocks on each side
    folded = weight.new_zeros(2, 2, outputs, 2, 2, inputs, 2 * reach + 1, 2 * reach + 1)
    for row in range(2):
        for column in range(2):
            for a, b in ((a, b) for a in range(size) for b in range(size)):
                # The source's row and column, counted from the outermost block's first pixel.
                y, x = row + a - size // 2 + 2 * reach, column + b - size // 2 + 2 * reach
                folded[row, column, :, y % 2, x % 2, :, y // 2, x // 2] = weight[:, :, a, b]
    return folded.flatten(3, 5).flatten(0, 2)


def widen(weight: Tensor, outputs: int, inputs: int) -> Tensor:
    """Weights [O, I, k, k] with zeros for more outputs and inputs."""
    return F.pad(weight, (0, 0, 0, 0, 0, inputs - weight.shape[1], 0, outputs - weight.shape[0]))


def fast_weights(layers: Sequence[Layer], weights: Sequence[Tensor]) -> list[Tensor]:
    """The network's weights (doublings in them) for cuDNN: the first and last layer's folded, the trunk's widened."""
    fast = list(weights)
    for i in range(1, len(layers)):
        if layers[i - 1].scale == 4:  # reads the quarter size
            fast[i] = widen(weights[i], max(TRUNK_OUTPUTS, weights[i].shape[0]), weights[i].shape[1])
    fast[0] = fold_weights(widen(weights[0], weights[0].shape[0], SLOT))
    fast[-1] = fold_weights(widen(weights[-1], SLOT, weights[-1].shape[1]))
    return fast


def pixels(layer: Layer, y: Tensor) -> Tensor:
    """What a layer's convolution [N, H, W, ...] says of each pixel, [P, C]: phases are pixels, padding is left out."""
    phases = y.shape[3] >= 4 * layer.channels and (layer.up or layer.scale == 1)
    slot = SLOT if phases and layer.channels < SLOT else layer.channels
    return y[..., : slot * (1 + 3 * phases)].reshape(-1, slot)[:, : layer.channels]
