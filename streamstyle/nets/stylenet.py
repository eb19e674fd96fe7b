"""The painting network: one convolutional trunk, 26 styles that differ only in their instance-norm parameters.

::

    RGB ─ 9x9 ─ 3x3/2 ─ 3x3/2 ─ six residual blocks ─ up2, 3x3 ─ up2, 3x3 ─ 9x9 ─ sigmoid ─ RGB
           32      32      32           32 each            8           4        3

Source: Dumoulin, Shlens and Kudlur, "A Learned Representation for Artistic Style", 2017; weights by Magenta.
Differs: this is the readable form, a whole frame in one style with the frame's own statistics. Several styles in one
pass, with frozen statistics, is ``stages.stylize_regions``, which drives the same layers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from streamstyle.nets import weights
from streamstyle.nets.painting import Affine, Layer, PaintingNet

STYLES = 26

LAYERS: tuple[Layer, ...] = (
    Layer("contract.0", 9, 32, 1),
    Layer("contract.1", 3, 32, 2, step=2),
    Layer("contract.2", 3, 32, 4, step=2),
    *(
        Layer(f"res.{block}.{half}", 3, 32, 4, activation="residual" if half else "relu")
        for block in range(6)
        for half in range(2)
    ),
    Layer("expand.0", 3, 8, 2, up=True),
    Layer("expand.1", 3, 4, 1, up=True),
    Layer("expand.2", 9, 3, 1, activation="sigmoid"),
)


class StyleNet(PaintingNet):
    """The 26 built-in styles; a whole frame in one style, normalised by the frame's own statistics.

    Holds ``convolution`` (one [out, in, k, k] weight a layer), ``gamma`` and ``beta`` (one [26, out] table a layer),
    all float32.
    """

    def __init__(self) -> None:
        super().__init__(LAYERS)
        self.gamma = torch.nn.ParameterList(torch.ones(STYLES, layer.channels) for layer in LAYERS)
        self.beta = torch.nn.ParameterList(torch.zeros(STYLES, layer.channels) for layer in LAYERS)
        self.requires_grad_(False).eval()

    @classmethod
    def load(cls) -> StyleNet:
        """The published network, fetched into the cache on first use.

        Raises:
            WeightsError: the weights are not cached and cannot be fetched.
        """
        published, net = weights.load("multistyle26"), cls()
        for i, layer in enumerate(LAYERS):
            net.convolution[i].copy_(published[f"{layer.name}.w"])
            net.gamma[i].copy_(published[f"{layer.name}.norm.gamma"])
            net.beta[i].copy_(published[f"{layer.name}.norm.beta"])
        return net

    def norms(self, style: int) -> Affine:
        """A style's (gamma, beta), each [C], of every layer; style: 0..25."""
        return tuple((gamma[style], beta[style]) for gamma, beta in zip(self.gamma, self.beta, strict=True))

    def forward(self, rgb: Tensor, style: int) -> Tensor:
        """Paint whole frames.

        Args:
            rgb: [N, 3, H, W] float32 in 0..1; H and W multiples of 4, at least 16.
            style: 0..25.

        Returns:
            [N, 3, H, W] float32 in 0..1.

        Raises:
            ShapeError: rgb is not [N, 3, H, W] with H and W multiples of 4, at least 16.
        """
        return self.paint(rgb, self.norms(style))
