"""How many pixels each label of one map shares with each label of another."""

from __future__ import annotations

import torch
from torch import Tensor

from streamstyle.errors import ShapeError


def label_overlap(labels: Tensor, others: Tensor, count: int, others_count: int) -> Tensor:
    """Contingency tables of pairs of label maps.

    Args:
        labels: [N, H, W] int32, 0 .. count - 1.
        others: [N, H, W] int32, 0 .. others_count - 1.
        count, others_count: R and S.

    Returns:
        [N, R, S] int64: pixels where labels is r and others is s.

    Raises:
        ShapeError: the maps are not int32 [N, H, W] of one shape.

    Cost: one scatter; no synchronisation.
    """
    if labels.ndim != 3 or labels.shape != others.shape or {labels.dtype, others.dtype} != {torch.int32}:
        raise ShapeError(
            f"label maps must be int32 [N, H, W] of one shape, got {labels.dtype} {[*labels.shape]} "
            f"and {others.dtype} {[*others.shape]}"
        )
    frame = torch.arange(labels.shape[0], device=labels.device).view(-1, 1, 1)
    pair = ((frame * count + labels.long()) * others_count + others.long()).flatten()
    table = torch.zeros(labels.shape[0] * count * others_count, dtype=torch.int64, device=labels.device)
    table.scatter_add_(0, pair, torch.ones_like(table[:1]).expand(pair.numel()))
    return table.view(labels.shape[0], count, others_count)
