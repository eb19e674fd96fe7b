"""Any painting as a style, without training: a predictor of style vectors, and a painting network that takes them.

::

    painting ─ MobileNetV2 ─ mean ─ [100] ─ 1x1 ─ gamma, beta of 13 norms
                                                        │
    RGB ─ 9x9 ─ 3x3/2 ─ 3x3/2 ─ five residual blocks ─ up2, 3x3 ─ up2, 3x3 ─ 9x9 ─ sigmoid ─ RGB
           8      16      32          32 each              16          8        3

Source: Ghiasi et al., "Exploring the structure of a real-time, arbitrary neural artistic stylization network", 2017;
distilled by Magenta. The published graphs are quantised, fixed to pictures of 256x256 and 384x384.
Differs: weights are turned into floats once, and everything is computed in floats, at any size. What the published
graphs round (every activation, mean and variance, to eight bits) is not rounded here.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from streamstyle.errors import ShapeError
from streamstyle.nets import weights
from streamstyle.nets.painting import Affine, Layer, PaintingNet

VECTOR = 100
"""Numbers of a style vector."""
PICTURE_PX = 256
"""The square that the predictor looks at."""

# MobileNetV2: a block's expansion, channels, and stride of its depthwise convolution.
BLOCKS: tuple[tuple[int, int, int], ...] = (
    (1, 16, 1),
    *((6, 24, 2), (6, 24, 1)),
    *((6, 32, 2), (6, 32, 1), (6, 32, 1)),
    *((6, 64, 2), (6, 64, 1), (6, 64, 1), (6, 64, 1)),
    *((6, 96, 1), (6, 96, 1), (6, 96, 1)),
    *((6, 160, 2), (6, 160, 1), (6, 160, 1)),
    (6, 320, 1),
)

LAYERS: tuple[Layer, ...] = (
    Layer("contract/conv1", 9, 8, 1, norm=False),
    Layer("contract/conv2", 3, 16, 2, step=2, norm=False),
    Layer("contract/conv3", 3, 32, 4, step=2, norm=False),
    *(
        Layer(f"residual/residual{block}/conv{half}", 3, 32, 4, activation="residual" if half == 2 else "relu")
        for block in range(1, 6)
        for half in (1, 2)
    ),
    Layer("expand/conv1/conv", 3, 16, 2, up=True),
    Layer("expand/conv2/conv", 3, 8, 1, up=True),
    Layer("expand/conv3/conv", 9, 3, 1, activation="sigmoid"),
)


class StylePredictor(torch.nn.Module):
    """A painting's style vector. Batch norms are in the convolutions already, as published."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(3, 32, 3, 2)
        self.blocks = torch.nn.ModuleList()
        inputs = 32
        for expansion, channels, stride in BLOCKS:
            self.blocks.append(_Block(inputs, expansion, channels, stride))
            inputs = channels
        self.last = torch.nn.Conv2d(inputs, 1280, 1)
        self.vector = torch.nn.Conv2d(1280, VECTOR, 1)
        self.requires_grad_(False).eval()

    @classmethod
    def load(cls) -> StylePredictor:
        """The published network, fetched into the cache on first use.

        Raises:
            WeightsError: the weights are not cached and cannot be fetched.
        """
        published, net = weights.load("arbitrary_predict"), cls()
        named: dict[str, torch.nn.Module] = {
            "MobilenetV2/Conv": net.first,
            "MobilenetV2/Conv_1": net.last,
            "mobilenet_conv/Conv": net.vector,
        }
        for i, block in enumerate(net.blocks):
            name = f"MobilenetV2/expanded_conv_{i}" if i else "MobilenetV2/expanded_conv"
            named |= {f"{name}/{part}": convolution for part, convolution in block.named_children()}
        for name, convolution in named.items():
            convolution.load_state_dict({part: published[f"{name}.{part}"] for part in ("weight", "bias")})
        return net

    def forward(self, rgb: Tensor) -> Tensor:
        """The style vector of a picture: of its middle square, at 256x256.

        Args:
            rgb: [1, 3, H, W] float32 in 0..1; any size.

        Returns:
            [100] float32.

        Raises:
            ShapeError: rgb is not one picture.
        """
        if rgb.ndim != 4 or rgb.shape[:2] != (1, 3) or not rgb.is_floating_point() or not rgb.numel():
            raise ShapeError(f"rgb must be one floating picture [1, 3, H, W], got {rgb.dtype} {[*rgb.shape]}")
        x = F.relu6(self.first(_pad_after(self.square(rgb))))
        for block in self.blocks:
            x = block(x)
        return self.vector(F.relu6(self.last(x)).mean((2, 3), keepdim=True)).flatten()

    @staticmethod
    def square(rgb: Tensor) -> Tensor:
        """The middle square of [N, 3, H, W], at 256x256 (bicubic, antialiased; published: Lanczos)."""
        side = min(rgb.shape[2:])
        top, left = ((extent - side) // 2 for extent in rgb.shape[2:])
        middle = rgb[:, :, top : top + side, left : left + side]
        if side == PICTURE_PX:
            return middle
        return F.interpolate(middle, (PICTURE_PX, PICTURE_PX), mode="bicubic", antialias=True).clamp(0, 1)


class _Block(torch.nn.Module):
    """An inverted residual: 1x1 up to many channels, 3x3 on each alone, 1x1 down."""

    def __init__(self, inputs: int, expansion: int, channels: int, stride: int) -> None:
        super().__init__()
        wide = inputs * expansion
        if expansion > 1:
            self.expand = torch.nn.Conv2d(inputs, wide, 1)
        self.depthwise = torch.nn.Conv2d(wide, wide, 3, stride, padding=int(stride == 1), groups=wide)
        self.project = torch.nn.Conv2d(wide, channels, 1)
        self.skips = stride == 1 and inputs == channels

    def forward(self, x: Tensor) -> Tensor:
        wide = F.relu6(self.expand(x)) if hasattr(self, "expand") else x
        wide = F.relu6(self.depthwise(wide if self.depthwise.padding[0] else _pad_after(wide)))
        return x + self.project(wide) if self.skips else self.project(wide)


def _pad_after(x: Tensor) -> Tensor:
    """Zeros right and below: TensorFlow's "SAME" for a stride of 2 and an even size."""
    return F.pad(x, (0, 1, 0, 1))


class ArbitraryNet(PaintingNet):
    """A whole frame in the style of a vector, normalised by the frame's own statistics.

    Holds ``convolution`` (one [out, in, k, k] weight a layer), ``gamma`` and ``beta`` (one [out, 101] table a layer: of
    what each number of a vector adds, and in the last column what there is without them), all float32.
    """

    def __init__(self) -> None:
        super().__init__(LAYERS)
        self.gamma, self.beta = (
            torch.nn.ParameterList(torch.zeros(layer.channels, VECTOR + 1) for layer in LAYERS) for _ in range(2)
        )
        for gamma in self.gamma:
            gamma.data[:, VECTOR] = 1
        self.requires_grad_(False).eval()

    @classmethod
    def load(cls) -> ArbitraryNet:
        """The published network, fetched into the cache on first use.

        Raises:
            WeightsError: the weights are not cached and cannot be fetched.
        """
        published, net = weights.load("arbitrary_transform"), cls()
        for i, layer in enumerate(LAYERS):
            name = f"transformer/{layer.name}"
            net.convolution[i].copy_(published[f"{name}.weight"])
            if not layer.norm:
                net.beta[i][:, VECTOR] = published[f"{name}.bias"]
                continue
            for table, part in ((net.gamma[i], "Conv_1"), (net.beta[i], "Conv")):
                table[:, :VECTOR] = published[f"style_params/{name}/StyleNorm/{part}.weight"].flatten(1)
                table[:, VECTOR] = published[f"style_params/{name}/StyleNorm/{part}.bias"]
        return net

    def norms(self, vector: Tensor) -> Affine:
        """A style vector's (gamma, beta), each [C], of every layer.

        Args:
            vector: [100] float32, a :class:`StylePredictor`'s or a blend of some.

        Raises:
            ShapeError: vector is not [100].
        """
        if vector.shape != (VECTOR,):
            raise ShapeError(f"vector must be [{VECTOR}], got {[*vector.shape]}")
        terms = torch.cat([vector, vector.new_ones(1)])
        return tuple((gamma @ terms, beta @ terms) for gamma, beta in zip(self.gamma, self.beta, strict=True))

    def forward(self, rgb: Tensor, vector: Tensor) -> Tensor:
        """Paint whole frames.

        Args:
            rgb: [N, 3, H, W] float32 in 0..1; H and W multiples of 4, at least 16.
            vector: [100] float32.

        Returns:
            [N, 3, H, W] float32 in 0..1.

        Raises:
            ShapeError: rgb is not [N, 3, H, W] with H and W multiples of 4, at least 16, or vector is not [100].
        """
        return self.paint(rgb, self.norms(vector))
