"""HED, holistically-nested edge detection: how strongly each pixel lies on an object's border.

::

    RGB -> block1 -> block2 -> block3 -> block4 -> block5        VGG-16; a 2 x 2 max-pool between blocks
             |         |         |         |         |
           side1     side2     side3     side4     side5         1 x 1 convolutions to one logit, upsampled to h x w
             +---------+-------- fuse -----+---------+           1 x 1 convolution over the five logits

Only the blocks that the chosen output needs are built: side 2 costs 31 % of the whole.

Note [Narrow]. What regions and tracks are found by need not be HED itself. A network of half its channels in blocks 1
to 3, a quarter of the arithmetic, was taught (``train.narrow_hed``) to give its side 3 and to tell places apart by
layers 2_2 and 3_2 as it does; and by a fourth block, of 192 channels, as VGG-16's 4_3 does, three tenths on top. It
comes with the package.

Source: Xie and Tu 2015. Differs: the weights are a retraining by the authors' recipe; each side output is upsampled by
plain bilinear interpolation instead of a transposed convolution and a crop.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast, get_args

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamstyle.config import EdgeSide
from streamstyle.errors import OptionError, ShapeError, WeightsError
from streamstyle.nets import weights

CHANNELS = (64, 128, 256, 512, 512)
"""Of each block."""
NARROW_CHANNELS = (32, 64, 128, 192)
"""Those of the narrow network, which ends at block 4. See Note [Narrow]."""
NARROW_FILE = "narrow_hed.safetensors"
"""Its weights, beside this file: float16, named as HED's."""
_CONVOLUTIONS = (2, 2, 3, 3, 3)  # of each block
_MEAN_RGB = (122.67892, 116.66877, 104.00699)  # of the training pictures, 0..255
LayerOutput = Any
"""What a layer gives: a tensor; of the network in integers, bytes and the size of their steps."""


class HED(nn.Module):
    """Edge strength of pictures, from one side output or from all five fused.

    Args:
        side: "1" (fine) to "5" (coarse), or "fuse".
        blocks: build at least so many, for features of their layers.
        channels: of each block, as many blocks as are built or more.

    Raises:
        OptionError: an unknown side, or channels of too few blocks.
    """

    def __init__(self, side: EdgeSide = "2", blocks: int = 0, channels: tuple[int, ...] = CHANNELS) -> None:
        super().__init__()
        if side not in get_args(EdgeSide):
            raise OptionError(f"side {side!r}: unknown; give one of {', '.join(get_args(EdgeSide))}")
        self.side, self.channels = side, channels
        depth = len(_CONVOLUTIONS) if side == "fuse" else int(side)
        self._sides = range(1, depth + 1) if side == "fuse" else range(depth, depth + 1)
        self.depth, before = max(depth, blocks), 3
        if len(channels) < self.depth:
            raise OptionError(f"channels {channels}: {self.depth} blocks are built; give as many")
        built = zip(channels[: self.depth], _CONVOLUTIONS[: self.depth], strict=True)
        for number, (width, convolutions) in enumerate(built, start=1):
            block = nn.ModuleList()
            for _ in range(convolutions):
                block.append(nn.Conv2d(before, width, 3, padding=1))
                before = width
            self.add_module(f"block{number}", block)
            if number in self._sides:
                self.add_module(f"side{number}", nn.Conv2d(width, 1, 1))
        if side == "fuse":
            self.fuse = nn.Conv2d(len(_CONVOLUTIONS), 1, 1)

    @classmethod
    def load(
        cls,
        side: EdgeSide = "2",
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        *,
        blocks: int = 0,
        say: weights.Say | None = weights.announce,
    ) -> HED:
        """The trained network, for inference: channels-last, in eval mode, without gradients.

        Args:
            side: "1" (fine) to "5" (coarse), or "fuse".
            device: where to put it.
            dtype: of its convolutions; float32, bfloat16 or float16.
            blocks: build at least so many, for features of their layers.
            say: given one line before a download; None is silent.

        Raises:
            WeightsError: the weights are not cached and cannot be fetched.
        """
        with torch.device("meta"):  # no memory, no time and no random numbers for values about to be replaced
            net = cls(side, blocks)
        return net._ready(weights.load("hed", say), device, dtype)

    @classmethod
    def load_narrow(cls, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> HED:
        """The narrow network, of side 3 and its blocks alone, as load gives HED. See Note [Narrow].

        Args:
            device, dtype: as of load.

        Raises:
            WeightsError: the package was installed without them.
        """
        with torch.device("meta"):
            net = cls("3", len(NARROW_CHANNELS), NARROW_CHANNELS)
        try:
            packed = importlib.resources.files(__package__).joinpath(NARROW_FILE).read_bytes()
        except FileNotFoundError:
            raise WeightsError(f"{NARROW_FILE} is missing in {__package__}; install streamstyle again") from None
        return net._ready(safetensors.torch.load(packed), device, dtype)

    def _ready(self, trained: Mapping[str, Tensor], device: torch.device | str, dtype: torch.dtype) -> HED:
        """Itself with those of some weights that it has, ready for inference."""
        self.load_state_dict({key: trained[key] for key in self.state_dict()}, assign=True)
        self.to(device=device, dtype=dtype)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's overloads forget it alone
        return self.eval().requires_grad_(False)

    def forward(self, rgb: Tensor) -> Tensor:
        """Edge strength of each pixel.

        Args:
            rgb: [N, 3, h, w] floating point, 0..1; any size from 1 x 1 and any memory format.

        Returns:
            [N, h, w] float32 in 0..1 on rgb's device, not thresholded and not thinned.

        Raises:
            ShapeError: rgb is not [N, 3, h, w] floating point; the message shows what it is.
        """
        return self.edges_and_features(rgb, ())[0]

    def edges_and_features(self, rgb: Tensor, layers: Sequence[tuple[int, int]]) -> tuple[Tensor, list[Tensor]]:
        """Edge strength as forward gives it, and what some layers saw on the way to it.

        Args:
            rgb: as of forward.
            layers: (block, place in it), both from 1 and rising, of blocks that are built.

        Returns:
            The edges, and [N, C, ceil(h / 2**(b - 1)), ceil(w / 2**(b - 1))] of each layer of a block b, after its
            ReLU, in the network's dtype; of a network in integers see Int8HED.

        Raises:
            ShapeError: rgb is not [N, 3, h, w] floating point; the message shows what it is.
        """
        if rgb.ndim != 4 or rgb.shape[1] != 3 or not rgb.is_floating_point():
            raise ShapeError(f"rgb must be [N, 3, h, w] floating point, got {list(rgb.shape)} {rgb.dtype}")
        size = rgb.shape[-2:]
        x: LayerOutput = self._centred(rgb)
        logits, features, last = [], [], max(layers, default=(0, 0))
        for number in range(1, max(self._sides[-1], last[0]) + 1):
            before = x
            for place, x in enumerate(self._block(number, before), start=1):
                if (number, place) in layers:
                    features.append(self._seen(x))
                if (number, place) == last and number > self._sides[-1]:
                    break  # nobody asked for what comes after
            if number in self._sides:
                logit = self.get_submodule(f"side{number}")(self._floats(x)).float()
                logits.append(F.interpolate(logit, size=size, mode="bilinear", align_corners=False))
        assert len(features) == len(layers)
        if self.side == "fuse":
            bias = cast(Tensor, self.fuse.bias)
            logits = [F.conv2d(torch.cat(logits, dim=1), self.fuse.weight.float(), bias.float())]
        return torch.sigmoid(logits[0][:, 0]), features

    def _block(self, number: int, x: LayerOutput) -> Iterator[LayerOutput]:
        """What each layer of a block makes of what the block before it gave."""
        if number > 1:
            x = F.max_pool2d(x, 2, stride=2, ceil_mode=True)
        for convolution in cast(nn.ModuleList, self.get_submodule(f"block{number}")):
            x = F.relu_(convolution(x))
            yield x

    def _floats(self, x: LayerOutput) -> Tensor:
        """What a layer gave, in the network's own dtype."""
        return cast(Tensor, x)

    def _seen(self, x: LayerOutput) -> Tensor:
        """What a layer gave, as it is told to who asks for it."""
        return cast(Tensor, x)

    def _centred(self, rgb: Tensor) -> Tensor:
        """What the first convolution was trained on: BGR, 0..255, minus the mean, in the network's own dtype.

        Not folded into that convolution: its zero padding stands for the mean colour, not for black.
        """
        rgb = rgb.float()
        planes = [rgb[:, c] * 255 - _MEAN_RGB[c] for c in (2, 1, 0)]
        dtype = next(self.parameters()).dtype
        return torch.stack(planes, dim=1).to(dtype=dtype, memory_format=torch.channels_last)
