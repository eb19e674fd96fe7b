"""A painting network for one style, of the type that others train and publish.

::

    RGB ─ 9x9 ─ 3x3/2 ─ 3x3/2 ─ residual blocks ─ up2, 3x3 ─ up2, 3x3 ─ 9x9 ─ RGB
           32      64     128       128 each          64         32       3

Each convolution has an instance norm behind it; the last one only in lengstrom's networks. Channels and blocks are the
file's. Two recipes differ in padding, in how they double, and in what the last numbers mean: see
:class:`streamstyle.nets.johnson_file.Recipe`.

Source: Johnson, Alahi and Fei-Fei, "Perceptual Losses for Real-Time Style Transfer and Super-Resolution", 2016.
Differs: this is the readable form, whole frames with their own statistics. Frozen statistics and parts of a frame are
``stages.network_stylizer``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from streamstyle.errors import ShapeError
from streamstyle.nets import johnson_file
from streamstyle.nets.johnson_file import Parameters, Recipe

LEVEL = 255.0
"""Networks of this type see and paint 0..255."""


@dataclass(frozen=True)
class Layer:
    """One convolution; ``scale`` is the resolution of its output: 1 full, 2 half, 4 quarter. ``up`` doubles."""

    size: int
    inputs: int
    channels: int
    scale: int
    step: int = 1
    up: bool = False
    activation: Literal["relu", "residual", "last"] = "relu"


class JohnsonNet(torch.nn.Module):
    """One style's network.

    Holds ``convolution`` (one [O, I, k, k] weight a layer), ``gamma`` and ``beta`` (one [O] a layer with a norm) and
    ``bias`` ([3]; None where the last layer has a norm), all float32; its ``recipe``, and its ``layers``.
    """

    def __init__(self, parameters: Parameters) -> None:
        super().__init__()
        self.recipe: Recipe = parameters.recipe
        self.convolution = torch.nn.ParameterList(parameters.convolution)
        self.gamma = torch.nn.ParameterList(parameters.gamma)
        self.beta = torch.nn.ParameterList(parameters.beta)
        self.bias = None if parameters.bias is None else torch.nn.Parameter(parameters.bias)
        self.layers = _layers([(w.shape[2], w.shape[1], w.shape[0]) for w in parameters.convolution])
        self.requires_grad_(False).eval()

    @classmethod
    def read(cls, path: Path) -> JohnsonNet:
        """The network in a .safetensors file; see :mod:`streamstyle.nets.johnson_file`.

        Raises:
            WeightsError: there is no such file, or it does not hold such a network.
        """
        return cls(johnson_file.read(path))

    def write(self, path: Path, about: Mapping[str, str] | None = None) -> None:
        """Write a network of the recipe of pytorch/examples to a .safetensors file, about: more words on it.

        Raises:
            OutputError: path cannot be written.
        """
        lists = ([*self.convolution], [*self.gamma], [*self.beta])
        johnson_file.write(path, Parameters(self.recipe, *lists, self.bias), about)

    @property
    def halo_px(self) -> int:
        """How far the input pixels that an output pixel depends on are from it, at most; computed from the layers."""
        return max(abs(reach) for phase in range(4) for reach in _reach(self.layers, self.recipe, phase))

    def forward(self, rgb: Tensor, *, clamp: bool = True) -> Tensor:
        """Paint whole frames.

        Args:
            rgb: [N, 3, H, W] float32 in 0..1; H and W multiples of 4, at least 16.
            clamp: to 0..1; training wants the slope beyond.

        Returns:
            [N, 3, H, W] float32 in 0..1.

        Raises:
            ShapeError: rgb is not [N, 3, H, W] with H and W multiples of 4, at least 16.
        """
        if rgb.ndim != 4 or rgb.shape[1] != 3 or min(rgb.shape[2:]) < 16 or rgb.shape[2] % 4 or rgb.shape[3] % 4:
            raise ShapeError(f"rgb must be [N, 3, H, W], H and W multiples of 4 and at least 16, got {[*rgb.shape]}")
        x = skip = rgb * LEVEL
        for i, layer in enumerate(self.layers):
            if layer.scale == 4 and layer.step == 1 and layer.activation == "relu":
                skip = x
            x = self._convolve(i, layer, x)
            if i < len(self.gamma):
                variance, mean = torch.var_mean(x, dim=(2, 3), correction=0, keepdim=True)
                x = (x - mean) * torch.rsqrt(variance + self.recipe.epsilon) * self.gamma[i].view(1, -1, 1, 1)
                x = x + self.beta[i].view(1, -1, 1, 1)
            if layer.activation == "relu":
                x = x.relu()
            elif layer.activation == "residual":
                x = x + skip
        x = (150 * torch.tanh(x) + LEVEL / 2 if self.recipe.output == "tanh" else x) / LEVEL
        return x.clamp(0, 1) if clamp else x

    def _convolve(self, i: int, layer: Layer, x: Tensor) -> Tensor:
        weight = self.convolution[i]
        bias = self.bias if layer.activation == "last" else None
        if layer.up and self.recipe.up == "transposed":
            # TensorFlow's SAME: as many pixels as twice the input's; the last row and column are the overhang.
            return F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)[:, :, :-1, :-1]
        if layer.up:
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        before, after = padding(layer, self.recipe)
        mode = "constant" if self.recipe.padding == "zero" else "reflect"
        return F.conv2d(F.pad(x, (before, after, before, after), mode=mode), weight, bias, stride=layer.step)


def padding(layer: Layer, recipe: Recipe) -> tuple[int, int]:
    """Pixels of border before and after a convolution's input; its height and width are even."""
    if recipe.padding == "zero" and layer.step == 2:
        return layer.size // 2 - 1, layer.size // 2
    return layer.size // 2, layer.size // 2


def _layers(shapes: list[tuple[int, int, int]]) -> tuple[Layer, ...]:
    """From (size, inputs, outputs) of each convolution."""
    trunk = len(shapes) - 6
    first = [Layer(*shapes[0], 1), Layer(*shapes[1], 2, step=2), Layer(*shapes[2], 4, step=2)]
    blocks = [Layer(*shapes[3 + i], 4, activation="residual" if i % 2 else "relu") for i in range(trunk)]
    up = [Layer(*shapes[-3], 2, up=True), Layer(*shapes[-2], 1, up=True)]
    return (*first, *blocks, *up, Layer(*shapes[-1], 1, activation="last"))


def _reach(layers: tuple[Layer, ...], recipe: Recipe, phase: int) -> tuple[int, int]:
    """The first and the last input pixel that an output pixel depends on, counted from it."""
    pixel = (1 << 16) + phase  # far from any border; the four phases differ in what doubling gives them
    low = high = pixel
    for layer in reversed(layers):
        if layer.up and recipe.up == "transposed":
            low, high = (low + 1) // 2 - 1, high // 2
            continue
        before, _ = padding(layer, recipe)
        low, high = low * layer.step - before, high * layer.step - before + layer.size - 1
        if layer.up:
            low, high = low // 2, high // 2
    return low - pixel, high - pixel
