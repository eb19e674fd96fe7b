"""How much of each pixel belongs to each layer: alpha planes that sum to one, from small maps of who is where.

The borders are those of :mod:`streamstyle.stages.style_map`: two layers meet in a pixel at most, so one plane's rest is
the other's share, to the last step.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from streamstyle.errors import ShapeError
from streamstyle.stages.style_map import Widths, style_map

OPAQUE = 255


def layer_alphas(
    layers: Tensor,
    count: int,
    size: tuple[int, int],
    feather_px: Widths,
    wanted: Sequence[int] | None = None,
    *,
    impl: str = "auto",
) -> Tensor:
    """Enlarge maps of layers to alpha planes with soft borders.

    Args:
        layers: [N, h, w] int32, 0 .. count - 1.
        count: how many layers there are, at most ``style_map.MOST_LOOKS``.
        size: (height, width) of the frame.
        feather_px: width of the soft border in the frame's pixels; 0 for a hard one.
        wanted: the layers whose planes are made; all of them where nothing is said.
        impl: as of ``style_map``.

    Returns:
        [len(wanted), N, height, width] uint8; those of all layers sum to 255 in each pixel.

    Raises:
        ShapeError: as style_map; or there is no such layer.

    Cost: style_map's, and a byte a pixel for each plane. No synchronisation.
    """
    wanted = range(count) if wanted is None else wanted
    if any(not 0 <= k < count for k in wanted):
        raise ShapeError(f"layers are 0 .. {count - 1}, got {[*wanted]}")
    first, second, weight = style_map(layers, count, size, feather_px, impl=impl)
    share = weight.mul_(OPAQUE).add_(0.5).to(torch.uint8)
    rest = OPAQUE - share
    alphas = share.new_empty(len(wanted), *share.shape)
    for alpha, k in zip(alphas, wanted, strict=True):
        torch.where(first == k, share, rest * (second == k), out=alpha)
    return alphas
