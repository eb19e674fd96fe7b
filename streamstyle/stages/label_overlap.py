"""How many pixels each label of one map shares with each label of another, and which fit best.

::

    labels  others  table[r, s]        best matches
    0 1 1   0 0 1          s=0  s=1    row 0: column 0 (1 px)    column 0: row 0 (1 px; of equals the lowest)
    2 2 1   0 1 1   r=0     1    0     row 1: column 1 (2 px)    column 1: row 1 (2 px)
                    r=1     1    2     row 2: column 0 (1 px)
                    r=2     1    1

A label outside its table counts as 0, here and in the kernels.

Source: warp-aggregated atomics over runs (Adinets 2014); privatised histograms (Podlozhnyuk 2007).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from streamstyle.errors import ShapeError
from streamstyle.gpu.kernels import chosen, launch
from streamstyle.stages.region_stats import known_ids

STEM = "label_overlap"
CHUNK_PX, TILE_PX = 1024, 8192
"""Pixels of a warp of count_large and of a block of count_small; the kernels' CHUNK and TILE."""
WARP = 32
SMALL_ENTRIES = 4096
"""Of one frame's table: so many are counted in shared memory, 16 KiB a block; the kernels' SLOTS."""
MOST_PX = 2**31 - 2**13
"""In a frame: the kernels count its pixels, and a little beyond, in int32."""
MOST_ENTRIES = 2**28
"""In the tables of a batch: 2 GiB."""


@dataclass(frozen=True)
class BestMatches:
    """For each row of tables [N, R, S] the column it shares most with, columns [N, R] int32, and the pixels shared,
    row_overlaps [N, R] int64; for each column likewise rows [N, S] and column_overlaps [N, S]. Of equals the lowest;
    -1 where nothing is shared.
    """

    columns: Tensor
    row_overlaps: Tensor
    rows: Tensor
    column_overlaps: Tensor


def label_overlap(labels: Tensor, others: Tensor, count: int, others_count: int, *, impl: str = "auto") -> Tensor:
    """Contingency tables of pairs of label maps.

    Args:
        labels: [N, H, W] int32, 0 .. count - 1; a label outside counts as 0.
        others: [N, H, W] int32, 0 .. others_count - 1 likewise.
        count, others_count: R and S.
        impl: "auto" (the kernels on CUDA, else torch), "ref" or "cuda".

    Returns:
        [N, R, S] int64: pixels where labels is r and others is s.

    Raises:
        ShapeError: the maps are not int32 [N, H, W] of one shape on one device, a frame has more pixels than int32
            counts, or the tables more than 2**28 entries.

    Cost: 1 launch, 8 bytes a pixel, no synchronisation. On a CPU about 8 ms at 1080p.
    """
    if labels.ndim != 3 or labels.shape != others.shape or {labels.dtype, others.dtype} != {torch.int32}:
        raise ShapeError(
            f"label maps must be int32 [N, H, W] of one shape, got {labels.dtype} {[*labels.shape]} "
            f"and {others.dtype} {[*others.shape]}"
        )
    _check(labels, others, len(labels), count, others_count)
    if labels.numel() and chosen(impl, labels):
        others = others.contiguous()
        return _label_overlap_cuda(labels.contiguous(), others[0], others[1:], count, others_count)
    return _label_overlap_ref(labels, others, count, others_count)


def consecutive_overlaps(ids: Tensor, regions: int, before: Tensor | None = None, *, impl: str = "auto") -> Tensor:
    """Contingency tables of each frame of a batch with the frame before it, all pairs at once.

    Args:
        ids: [N, H, W] int32, 0 .. regions - 1; an id outside counts as 0.
        regions: R, one more than the largest id of the batch and of before.
        before: [H, W] int32, the map before the batch, if there is one.
        impl: "auto" (the kernels on CUDA, else torch), "ref" or "cuda".

    Returns:
        [N - 1, R, R] int64, or [N, R, R] with before: pixels where a frame is r (row) and the one before it s (column).

    Raises:
        ShapeError: ids is not int32 [N, H, W], before does not fit it, or there are too many pixels or entries.

    Cost: as label_overlap; no map is copied.
    """
    if ids.ndim != 3 or ids.dtype != torch.int32:
        raise ShapeError(f"ids must be int32 [N, H, W], got {ids.dtype} {[*ids.shape]}")
    if before is not None and (before.dtype != torch.int32 or before.shape != ids.shape[1:]):
        raise ShapeError(
            f"before must be int32 {[*ids.shape[1:]]} as ids' frames are, got {before.dtype} {[*before.shape]}"
        )
    labels, previous = (ids[1:], ids[:-1]) if before is None else (ids, before[None])
    _check(labels, previous, len(labels), regions, regions)
    if labels.numel() == 0 or not chosen(impl, labels):
        if before is None:
            return _label_overlap_ref(labels, previous, regions, regions)
        first = _label_overlap_ref(ids[:1], before[None][: len(ids)], regions, regions)
        return torch.cat([first, _label_overlap_ref(ids[1:], ids[:-1], regions, regions)])
    ids = ids.contiguous()
    if before is None:
        return _label_overlap_cuda(ids[1:], ids[0], ids[1:-1], regions, regions)
    return _label_overlap_cuda(ids, before.contiguous(), ids[:-1], regions, regions)


def best_matches(tables: Tensor) -> BestMatches:
    """Find, for each row and each column of contingency tables, what it shares most with.

    Args:
        tables: [N, R, S] int64 from :func:`label_overlap` or :func:`consecutive_overlaps`.

    Returns:
        A BestMatches on tables' device.

    Raises:
        ShapeError: tables is not [N, R, S] int64 with R and S at least 1.

    Cost: two reductions of the table (torch's own maximum keeps the first of equals), no synchronisation.
    """
    if tables.ndim != 3 or tables.dtype != torch.int64 or 0 in tables.shape[1:]:
        raise ShapeError(
            f"tables must be int64 [N, R, S] with R and S at least 1, got {tables.dtype} {[*tables.shape]}"
        )
    (row_overlaps, columns), (column_overlaps, rows) = tables.max(2), tables.max(1)
    columns = torch.where(row_overlaps > 0, columns, -1).to(torch.int32)
    rows = torch.where(column_overlaps > 0, rows, -1).to(torch.int32)
    return BestMatches(columns, row_overlaps, rows, column_overlaps)


def _check(labels: Tensor, others: Tensor, tables: int, count: int, others_count: int) -> None:
    if labels.device != others.device:
        raise ShapeError(f"label maps must be on one device, got {labels.device} and {others.device}")
    if labels.shape[1] * labels.shape[2] > MOST_PX:
        raise ShapeError(f"pixels are counted in int32 and a frame of {[*labels.shape[1:]]} has more than {MOST_PX}")
    if count < 1 or others_count < 1:
        raise ShapeError(f"a table must have at least 1 row and 1 column, got {count} and {others_count}")
    entries = tables * count * others_count
    if entries > MOST_ENTRIES:
        raise ShapeError(
            f"{tables} tables of {count} rows and {others_count} columns have {entries} entries; "
            f"{MOST_ENTRIES} is the most"
        )


def _label_overlap_ref(labels: Tensor, others: Tensor, count: int, others_count: int) -> Tensor:
    pairs = torch.add(known_ids(others, others_count), known_ids(labels, count), alpha=others_count).flatten(1)
    table = torch.zeros(len(labels), count * others_count, dtype=torch.int64, device=labels.device)
    if labels.device.type == "cpu":
        for frame, counts in zip(pairs, table, strict=True):
            counts += torch.bincount(frame, minlength=len(counts))
    else:  # bincount would synchronise
        table.scatter_add_(1, pairs.long(), table.new_ones(1, 1).expand_as(pairs))
    return table.view(-1, count, others_count)


def _label_overlap_cuda(labels: Tensor, first: Tensor, others: Tensor, count: int, others_count: int) -> Tensor:
    """first: [H, W], beside labels[0]; others: [N - 1, H, W], beside labels[1:], on labels' own memory or not."""
    table = torch.zeros(len(labels), count, others_count, dtype=torch.int64, device=labels.device)
    pixels = labels.shape[1] * labels.shape[2]
    maps = (labels, first, others, table, len(labels), pixels, count, others_count)
    if count * others_count <= SMALL_ENTRIES:
        launch(STEM, "label_overlap_count_small", len(labels) * -(-pixels // TILE_PX), *maps, by_block=True)
    else:
        launch(STEM, "label_overlap_count_large", len(labels) * -(-pixels // CHUNK_PX) * WARP, *maps)
    return table
