"""Connected regions of a mask, labelled so that every device, run and thread order agrees.

::

    mask          4-connected     8-connected
    # . # #       1 . 3 3         1 . 3 3
    # # . .       1 1 . .         1 1 . .
    . . # .       . . 11 .        . . 1 .        a label is 1 + the smallest row-major index in its region

Source: Oliveira and Lotufo 2010; Playne and Hawick 2018; He et al. 2008 (labels); OpenCV on a CPU: SAUF
(Wu et al. 2009), Spaghetti (Bolelli et al. 2019).
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from streamstyle.errors import ShapeError
from streamstyle.gpu.kernels import chosen, launch, tunable

STEM = "connected_components"
WARP, WORD_PX = 32, 32
MOST_PX = 2**31 - 2**14
"""In a frame whose rows are rounded up to words: the kernels count its pixels, and a chunk beyond, in int32."""
_OPENCV = int(cv2.__version__.partition(".")[0])


def connected_components(mask: Tensor, *, connectivity: Literal[4, 8] = 4, impl: str = "auto") -> Tensor:
    """Label the connected foreground regions of each mask.

    Args:
        mask: [N, H, W] uint8 or bool, contiguous for the kernels; non-zero is foreground.
        connectivity: 4 or 8 neighbours.
        impl: "auto" (OpenCV on a CPU, the kernels on CUDA), "ref" (torch on any device) or "cuda".

    Returns:
        [N, H, W] int32 on mask's device; 0 is background, else 1 + the smallest row-major index of the region.

    Raises:
        ShapeError: mask is not [N, H, W] uint8 or bool, a frame, its rows rounded up to 32 pixels, has more than
            int32 counts, or connectivity is neither 4 nor 8.

    Cost: 4 launches, about 6 bytes a pixel, no synchronisation; 2 more bytes a pixel of memory meanwhile. OpenCV about
    4 ms at 1080p. The reference runs a few dozen passes and synchronises once each.
    """
    _check(mask, connectivity)
    if mask.numel() == 0:
        return torch.zeros(mask.shape, dtype=torch.int32, device=mask.device)
    if chosen(impl, mask):
        return _connected_components_cuda(mask.contiguous(), connectivity)
    if impl == "auto" and mask.device.type == "cpu":
        labels = np.empty(mask.shape, np.int32)
        for frame, out in zip(mask.to(torch.uint8).numpy(), labels, strict=True):
            _opencv(frame, connectivity, out)
        return torch.from_numpy(labels)
    return _connected_components_ref(mask != 0, connectivity)


def label_regions(mask: Tensor, *, connectivity: Literal[4, 8] = 4, impl: str = "auto") -> tuple[Tensor, Tensor]:
    """Number the connected foreground regions of each mask 1, 2, 3 ... in raster order of their first pixels.

    Args:
        mask, connectivity, impl: as for :func:`connected_components`.

    Returns:
        ids [N, H, W] int32 (0 is background), and how many regions each frame has, [N] int64.

    Raises:
        ShapeError: as :func:`connected_components`.

    Cost: 5 launches and a scan of a few numbers, about 6 bytes a pixel, for labels are not written; no
    synchronisation. OpenCV about 3 ms at 1080p.
    """
    _check(mask, connectivity)
    if mask.numel() and chosen(impl, mask):
        return _label_regions_cuda(mask.contiguous(), connectivity)
    if impl != "auto" or mask.device.type != "cpu" or mask.numel() == 0:
        return dense_labels(connected_components(mask, connectivity=connectivity, impl=impl), impl=impl)
    ids = np.empty(mask.shape, np.int32)
    frames = zip(mask.to(torch.uint8).numpy(), ids, strict=True)
    counts = [_opencv_dense(frame, connectivity, out) for frame, out in frames]
    return torch.from_numpy(ids), torch.tensor(counts, dtype=torch.int64)


def dense_labels(labels: Tensor, *, impl: str = "auto") -> tuple[Tensor, Tensor]:
    """Number the regions of each frame 1, 2, 3 ... in raster order of their first pixels.

    Args:
        labels: [N, H, W] int32 from :func:`connected_components`.
        impl: "auto" (the kernels on CUDA, else torch), "ref" or "cuda".

    Returns:
        ids [N, H, W] int32 (0 stays 0), and how many regions each frame has, [N] int64.

    Raises:
        ShapeError: labels is not [N, H, W] int32.

    Cost: 3 launches and a scan of a few numbers, 16 bytes a pixel, no synchronisation.
    """
    if labels.ndim != 3 or labels.dtype != torch.int32:
        raise ShapeError(f"labels must be [N, H, W] int32, got {labels.dtype} {[*labels.shape]}")
    if labels.numel() == 0:
        return labels.clone(), torch.zeros(labels.shape[0], dtype=torch.int64, device=labels.device)
    if chosen(impl, labels):
        return _dense_labels_cuda(labels.contiguous())
    flat = labels.flatten(1)
    first = flat == torch.arange(1, flat.shape[1] + 1, dtype=torch.int32, device=labels.device)
    rank = first.cumsum(1)
    ids = torch.where(flat > 0, rank.gather(1, (flat.long() - 1).clamp_min_(0)), 0)
    return ids.to(torch.int32).view_as(labels), rank[:, -1]


def _check(mask: Tensor, connectivity: int) -> None:
    if mask.ndim != 3 or mask.dtype not in (torch.uint8, torch.bool):
        raise ShapeError(f"mask must be [N, H, W] uint8 or bool, got {mask.dtype} {[*mask.shape]}")
    if mask.shape[1] * -(-mask.shape[2] // WORD_PX) * WORD_PX > MOST_PX:
        raise ShapeError(f"labels are int32 and a frame of {[*mask.shape[1:]]} has more pixels than that")
    if connectivity not in (4, 8):
        raise ShapeError(f"connectivity must be 4 or 8, got {connectivity}")


def _opencv(mask: np.ndarray, connectivity: int, out: np.ndarray) -> None:
    count, labels = cv2.connectedComponents(mask, connectivity=connectivity, ltype=cv2.CV_32S)
    look_up(labels, _first_pixels(mask, labels, count, connectivity), out)


def _opencv_dense(mask: np.ndarray, connectivity: int, out: np.ndarray) -> int:
    # SAUF goes pixel by pixel and keeps the earliest number of a region, so its numbers are in raster order. OpenCV's
    # default for 8 neighbours goes by blocks of 2 x 2; it is no faster, and its numbers would have to be changed.
    count, labels = cv2.connectedComponentsWithAlgorithm(mask, connectivity, cv2.CV_32S, cv2.CCL_SAUF, labels=out)
    if labels is not out:
        np.copyto(out, labels)
    return int(count) - 1


def _first_pixels(mask: np.ndarray, labels: np.ndarray, count: int, connectivity: int) -> np.ndarray:
    """[count] int32: 1 + the first pixel of each label, 0 for label 0.

    A region's first pixel has no neighbour in the row above or to its left; few other pixels have none.
    """
    earlier = np.array([[0, 1, 0], [1, 0, 0]] if connectivity == 4 else [[1, 1, 1], [1, 0, 0]], np.uint8)
    around = cv2.dilate(mask, earlier, anchor=(1, 1), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    at = np.flatnonzero((mask != 0) & (around == 0))[::-1]
    first = np.zeros(count, np.int32)
    first[labels.ravel()[at]] = at + 1
    return first


def look_up(labels: np.ndarray, table: np.ndarray, out: np.ndarray) -> None:
    """out = table[labels], for int32 labels below len(table), which is not checked, and an int32 table.

    out may be labels itself. OpenCV 5 does it eight times faster than NumPy, earlier ones for 256 entries at most.
    """
    index = np.uint8 if len(table) <= 1 << 8 else np.uint16
    if len(table) > 1 << 16 or (index == np.uint16 and _OPENCV < 5):
        np.copyto(out, table[labels])
        return
    padded = np.zeros(1 << 8 * index().itemsize, np.int32)
    padded[: len(table)] = table
    found = cv2.LUT(labels.astype(index), padded, dst=out)
    if found is not out:
        np.copyto(out, found)


def looked_up(labels: np.ndarray, table: np.ndarray) -> np.ndarray:
    """look_up into a new array, int32; the table may be of bool or other whole numbers."""
    found = np.empty_like(labels)
    look_up(labels, table.astype(np.int32), found)
    return found


def _connected_components_ref(mask: Tensor, connectivity: int) -> Tensor:
    """Minimum propagation with pointer jumping, until nothing changes; in int32, whose minima every device scatters."""
    count, height, width = mask.shape
    here = (
        torch.arange(height * width, dtype=torch.int32, device=mask.device).view(1, height, width).expand(count, -1, -1)
    )
    far = height * width
    parent = torch.where(mask, here, far)
    while True:
        padded = F.pad(parent, (1, 1, 1, 1), value=far)
        low = torch.minimum(
            torch.minimum(padded[:, 1:-1, :-2], padded[:, 1:-1, 2:]),
            torch.minimum(padded[:, :-2, 1:-1], padded[:, 2:, 1:-1]),
        )
        if connectivity == 8:
            for rows in (slice(None, -2), slice(2, None)):
                for columns in (slice(None, -2), slice(2, None)):
                    low = torch.minimum(low, padded[:, rows, columns])
        hooked = torch.where(mask, torch.minimum(parent, low), far).flatten(1)
        # A pixel that learned a smaller index tells its old root, then everyone asks the root of their root.
        table = F.pad(hooked, (0, 1), value=far).scatter_reduce_(1, parent.flatten(1).long(), hooked, "amin")
        table[:, far] = far
        for _ in range(4):
            table = table.gather(1, table.long())
        jumped = torch.where(mask, table[:, :-1].view_as(parent), far)
        if torch.equal(jumped, parent):  # synchronises
            return torch.where(mask, parent + 1, 0)
        parent = jumped


def _connected_components_cuda(mask: Tensor, connectivity: int) -> Tensor:
    bits, parents, _ = _forest_cuda(mask, connectivity)
    return _write_cuda(bits, parents, mask.shape)


def _label_regions_cuda(mask: Tensor, connectivity: int) -> tuple[Tensor, Tensor]:
    bits, parents, roots = _forest_cuda(mask, connectivity)
    until = roots.cumsum(1, dtype=torch.int32)
    launch(STEM, "connected_components_rank", roots.numel() * WARP, bits, until, parents, *mask.shape)
    return _write_cuda(bits, parents, mask.shape), until[:, -1].long()


def _forest_cuda(mask: Tensor, connectivity: int) -> tuple[Tensor, Tensor, Tensor]:
    """Bits [N, words], the flat forest of their runs [N, RUNS, words], and how many roots a row has, [N, H]."""
    count, height, width = mask.shape
    row_words = -(-width // WORD_PX)
    across, down = -(-row_words // tunable(STEM, "TILE_WORDS")), -(-height // tunable(STEM, "TILE_ROWS"))
    words, runs = height * row_words, tunable(STEM, "RUNS")
    bits, parents, roots = (
        torch.empty(count, *size, dtype=torch.int32, device=mask.device)
        for size in ((words,), (runs, words), (height,))
    )
    tiles, borders = count * across * down, count * ((down - 1) * row_words + (across - 1) * height)
    launch(STEM, "connected_components_tile", tiles, mask, bits, parents, *mask.shape, connectivity, by_block=True)
    launch(STEM, "connected_components_merge", borders, bits, parents, *mask.shape, connectivity)
    launch(STEM, "connected_components_flatten", roots.numel() * WARP, bits, parents, roots, *mask.shape)
    return bits, parents, roots


def _write_cuda(bits: Tensor, parents: Tensor, shape: torch.Size) -> Tensor:
    numbers = torch.empty(shape, dtype=torch.int32, device=bits.device)
    quads = bits.shape[1] * WORD_PX // 4
    blocks = len(bits) * -(-quads // tunable(STEM, "QUADS"))
    launch(STEM, "connected_components_write", blocks, bits, parents, numbers, *shape, by_block=True)
    return numbers


def _dense_labels_cuda(labels: Tensor) -> tuple[Tensor, Tensor]:
    count, pixels = len(labels), labels[0].numel()
    ids, chunks = torch.empty_like(labels), -(-pixels // tunable(STEM, "CHUNK"))
    roots = torch.empty(count, chunks, dtype=torch.int32, device=labels.device)
    launch(STEM, "connected_components_count_roots", roots.numel() * WARP, labels, roots, count, pixels)
    until = roots.cumsum(1, dtype=torch.int32)
    launch(STEM, "connected_components_rank_roots", roots.numel() * WARP, labels, until, ids, count, pixels)
    launch(STEM, "connected_components_number", roots.numel(), labels, ids, count, pixels, by_block=True)
    return ids, until[:, -1].long()
