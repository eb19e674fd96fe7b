"""The table of K styles and of their blends in pairs, and the row of it that a pixel takes.

::

    row = (first * K + second) * 16 + level        level 0: half and half ... 15: first alone

A pixel's two styles and their weight are one number, so that the norms look up one row.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from streamstyle.nets.stylenet import LAYERS

LEVELS = 16
"""Steps of the blend of two styles across a feathered border."""

Affine = tuple[tuple[Tensor, Tensor], ...]
"""For each layer (scale, shift), float32 [C]: one style, or [R, C]: a table of R rows."""


def blend_table(styles: Sequence[Affine]) -> Affine:
    """The table of K styles and of their blends in pairs, [K * K * LEVELS, C] a layer; see :func:`blend_index`."""
    return tuple(
        (
            _blends(torch.stack([style[layer][0] for style in styles])),
            _blends(torch.stack([style[layer][1] for style in styles])),
        )
        for layer in range(len(LAYERS))
    )


def blend_shares(shares: Tensor) -> Tensor:
    """The painted share of each row of a table of blends.

    Args:
        shares: [K, C] float32 of each of K looks, such as those of luma and of chroma, 0..1.

    Returns:
        [K * K * LEVELS, C], rows as :func:`blend_index` numbers them.
    """
    return _blends(shares)


def _blends(each: Tensor) -> Tensor:
    """[K, C] to [K * K * LEVELS, C]."""
    # Made on its device: a copy from the host would be waited for.
    weight = torch.linspace(0.5, 1.0, LEVELS, dtype=each.dtype, device=each.device).view(1, 1, LEVELS, 1)
    return (weight * each[:, None, None] + (1 - weight) * each[None, :, None]).flatten(0, 2)


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
