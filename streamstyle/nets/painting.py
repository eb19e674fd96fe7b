"""What painting networks have in common: a trunk of convolutions, and norms that alone differ from style to style.

::

    RGB ─ 9x9 ─ 3x3/2 ─ 3x3/2 ─ residual blocks ─ up2, 3x3 ─ up2, 3x3 ─ 9x9 ─ sigmoid ─ RGB

Source: Dumoulin, Shlens and Kudlur, "A Learned Representation for Artistic Style", 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from streamstyle.errors import ShapeError

Activation = Literal["relu", "residual", "sigmoid"]

Affine = tuple[tuple[Tensor, ...], ...]
"""For each layer a factor and a term, float32 [C], or [R, C]: a table of R rows. A style's norms are gamma and beta;
with a frame's statistics in them they are scale and shift; recorded for 8 bits, also how far its values reach."""


@dataclass(frozen=True)
class Layer:
    """One convolution with its conditional instance norm.

    ``scale`` is the resolution of its output: 1 full, 2 half, 4 quarter. ``up`` doubles the input first (nearest).
    Without ``norm`` gamma and beta are scale and shift as they are, whatever the statistics: a bias.
    """

    name: str
    size: int
    channels: int
    scale: int
    step: int = 1
    up: bool = False
    activation: Activation = "relu"
    norm: bool = True


class PaintingNet(torch.nn.Module):
    """A trunk of layers; a whole frame in one style, normalised by the frame's own statistics.

    Holds ``layers``, ``epsilon`` (added to each variance) and ``convolution`` (one [out, in, k, k] weight a layer,
    float32). A subclass gives ``norms``: a style's gamma and beta, [C] a layer.
    """

    layers: tuple[Layer, ...]
    epsilon: float = 1e-5

    def __init__(self, layers: Sequence[Layer]) -> None:
        super().__init__()
        self.layers = tuple(layers)
        inputs = [3, *(layer.channels for layer in layers[:-1])]
        shapes = [(layer.channels, i, layer.size, layer.size) for layer, i in zip(layers, inputs, strict=True)]
        self.convolution = torch.nn.ParameterList(torch.zeros(shape) for shape in shapes)

    def paint(self, rgb: Tensor, norms: Affine) -> Tensor:
        """Paint whole frames, [N, 3, H, W] float32 in 0..1, H and W multiples of 4, at least 16; see forward."""
        if rgb.ndim != 4 or rgb.shape[1] != 3 or min(rgb.shape[2:]) < 16 or rgb.shape[2] % 4 or rgb.shape[3] % 4:
            raise ShapeError(f"rgb must be [N, 3, H, W], H and W multiples of 4 and at least 16, got {[*rgb.shape]}")
        x = skip = rgb
        for i, (layer, (gamma, beta)) in enumerate(zip(self.layers, norms, strict=True)):
            if any(after.activation == "residual" for after in self.layers[i + 1 : i + 2]):
                skip = x  # a block begins
            if layer.up:
                x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = F.conv2d(F.pad(x, (layer.size // 2,) * 4, mode="reflect"), self.convolution[i], stride=layer.step)
            if layer.norm:
                variance, mean = torch.var_mean(x, dim=(2, 3), correction=0, keepdim=True)
                x = (x - mean) * torch.rsqrt(variance + self.epsilon)
            x = x * gamma.view(1, -1, 1, 1) + beta.view(1, -1, 1, 1)
            if layer.activation == "relu":
                x = x.relu()
            elif layer.activation == "residual":
                x = x + skip
        return x.sigmoid()


def reach_px(layers: Sequence[Layer]) -> int:
    """The receptive field's radius: how many rows above or below it a pixel of the painting can depend on."""
    far = 0
    for row in range(layers[0].scale * 4):
        first = last = row
        for layer in reversed(layers):
            first, last = (layer.step * x + d * (layer.size // 2) for x, d in ((first, -1), (last, 1)))
            if layer.up:
                first, last = first // 2, last // 2
        far = max(far, row - first, last - row)
    return far
