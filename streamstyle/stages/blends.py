"""The table of K styles and of their blends in pairs, and the row of it that a pixel takes.

::

    row = (first * K + second) * 16 + level        level 0: half and half ... 15: first alone

A pixel's two styles and their weight are one number, so that the norms look up one row.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from streamstyle.errors import ShapeError
from streamstyle.nets.painting import Affine

LEVELS = 16
"""Steps of the blend of two styles across a feathered border."""


def blend_table(styles: Sequence[Affine]) -> Affine:
    """The table of K styles and of their blends in pairs, [K * K * LEVELS, C] a layer; see :func:`blend_index`."""
    like = styles[0][0][0]  # made on its device: a copy from the host would be waited for
    weight = torch.linspace(0.5, 1.0, LEVELS, dtype=like.dtype, device=like.device).view(1, 1, LEVELS, 1)
    table = []
    for layer in range(len(styles[0])):
        scale, shift = (torch.stack([style[layer][part] for style in styles]) for part in (0, 1))
        table.append(
            tuple((weight * x[:, None, None] + (1 - weight) * x[None, :, None]).flatten(0, 2) for x in (scale, shift))
        )
    return tuple(table)  # type: ignore[arg-type]


def mixed_norms(norms: Sequence[Affine], weights: Sequence[float]) -> Affine:
    """The norms of a blend of styles of one network: their sum, weighted.

    Args:
        norms: of each style, on one device.
        weights: of each style, of any positive sum; they are divided by it.

    Raises:
        ShapeError: there are no norms, as many weights are missing, or the weights' sum is not positive.
    """
    total = float(sum(weights))
    if not norms or len(norms) != len(weights) or not total > 0:
        raise ShapeError(f"{len(norms)} norms need as many weights, of a positive sum, got {[*weights]}")
    shares = [weight / total for weight in weights]

    def mixed(layer: int, part: int) -> Tensor:
        return torch.stack([share * each[layer][part] for share, each in zip(shares, norms, strict=True)]).sum(0)

    return tuple((mixed(layer, 0), mixed(layer, 1)) for layer in range(len(norms[0])))


def blend_index(first: Tensor, second: Tensor, weight: Tensor, count: int) -> Tensor:
    """Row of :func:`blend_table` for two styles and the first one's weight.

    Args:
        first, second: [N, H, W] integer, 0 .. count - 1.
        weight: [N, H, W] float, 0.5 (half and half) .. 1 (first alone).
        count: K, the number of styles in the table.

    Returns:
        [N, H, W] int32.
    """
    level = ((weight - 0.5) * (2 * (LEVELS - 1)) + 0.5).to(torch.int32).clamp_(0, LEVELS - 1)
    return (first.to(torch.int32) * count + second.to(torch.int32)) * LEVELS + level
