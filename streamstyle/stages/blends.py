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


def blend_table(styles: Sequence[Affine], shares: Tensor | None = None) -> Affine:
    """The table of K styles and of their blends in pairs; see :func:`blend_index`.

    Args:
        styles: scale and shift [C] (and whatever else there is) of each layer of each style.
        shares: [K] float32, how much of this network each look wears, where that is not all: at the border of two the
            one that wears more of it counts for more, and one that wears none of it for nothing.

    Returns:
        scale and shift [K * K * LEVELS, C] of each layer, and the rest alike.
    """
    first = _levels(styles[0][0][0])
    if shares is not None:
        ours, theirs = first * shares[:, None, None, None], (1 - first) * shares[None, :, None, None]
        both = ours + theirs
        first = torch.where(both > 0, ours / both.clamp_min(1e-9), first)
    layers = zip(*styles, strict=True)
    return tuple(tuple(_blends(torch.stack(parts), first) for parts in zip(*layer, strict=True)) for layer in layers)


def blend_shares(shares: Tensor) -> Tensor:
    """The painted share of each row of a table of blends.

    Args:
        shares: [K, C] float32 of each of K looks, such as those of luma and of chroma, 0..1.

    Returns:
        [K * K * LEVELS, C], rows as :func:`blend_index` numbers them.
    """
    return _blends(shares, _levels(shares))


def _levels(like: Tensor) -> Tensor:
    """The first one's weight at each level, [1, 1, LEVELS, 1]; made on its device: a copy would be waited for."""
    return torch.linspace(0.5, 1.0, LEVELS, dtype=like.dtype, device=like.device).view(1, 1, LEVELS, 1)


def _blends(each: Tensor, first: Tensor) -> Tensor:
    """[K, C] to [K * K * LEVELS, C], by the weight of the first."""
    return (first * each[:, None, None] + (1 - first) * each[None, :, None]).flatten(0, 2)


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

    def mixed(parts: Sequence[Tensor]) -> Tensor:
        return torch.stack([share * part for share, part in zip(shares, parts, strict=True)]).sum(0)

    layers = zip(*norms, strict=True)
    return tuple(tuple(mixed(parts) for parts in zip(*layer, strict=True)) for layer in layers)


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
