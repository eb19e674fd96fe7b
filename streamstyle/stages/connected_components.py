"""Connected regions of a mask, labelled so that every device, run and thread order agrees.

::

    mask          4-connected     8-connected
    # . # #       1 . 3 3         1 . 3 3
    # # . .       1 1 . .         1 1 . .
    . . # .       . . 11 .        . . 1 .        a label is 1 + the smallest row-major index in its region

Source: Oliveira and Lotufo 2010; Playne and Hawick 2018 (labels); OpenCV's Spaghetti on a CPU (Bolelli et al. 2019).
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from streamstyle.errors import ShapeError


def connected_components(mask: Tensor, *, connectivity: Literal[4, 8] = 4, impl: str = "auto") -> Tensor:
    """Label the connected foreground regions of each mask.

    Args:
        mask: [N, H, W] uint8 or bool; non-zero is foreground.
        connectivity: 4 or 8 neighbours.
        impl: "auto" (OpenCV on a CPU) or "ref" (torch on any device).

    Returns:
        [N, H, W] int32 on mask's device; 0 is background, else 1 + the smallest row-major index of the region.

    Raises:
        ShapeError: mask is not [N, H, W] uint8 or bool, or connectivity is neither 4 nor 8.

    Cost: OpenCV about 4 ms at 1080p. The reference runs a few dozen passes and synchronises once each.
    """
    if mask.ndim != 3 or mask.dtype not in (torch.uint8, torch.bool):
        raise ShapeError(f"mask must be [N, H, W] uint8 or bool, got {mask.dtype} {[*mask.shape]}")
    if connectivity not in (4, 8):
        raise ShapeError(f"connectivity must be 4 or 8, got {connectivity}")
    if mask.numel() == 0:
        return torch.zeros(mask.shape, dtype=torch.int32, device=mask.device)
    if impl == "auto" and mask.device.type == "cpu":
        frames = [_opencv(frame, connectivity) for frame in mask.to(torch.uint8).numpy()]
        return torch.from_numpy(np.stack(frames))
    return _connected_components_ref(mask != 0, connectivity)


def dense_labels(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Number the regions of each frame 1, 2, 3 ... in raster order of their first pixels.

    Args:
        labels: [N, H, W] int32 from :func:`connected_components`.

    Returns:
        ids [N, H, W] int32 (0 stays 0), and how many regions each frame has, [N] int64.

    Cost: one scan and one lookup; no synchronisation.
    """
    flat = labels.flatten(1)
    first = flat == torch.arange(1, flat.shape[1] + 1, dtype=torch.int32, device=labels.device)
    rank = first.cumsum(1)
    ids = torch.where(flat > 0, rank.gather(1, (flat.long() - 1).clamp_min_(0)), 0)
    return ids.to(torch.int32).view_as(labels), rank[:, -1]


def _opencv(mask: np.ndarray, connectivity: int) -> np.ndarray:
    count, labels = cv2.connectedComponents(mask, connectivity=connectivity, ltype=cv2.CV_32S)
    flat = labels.ravel()
    starts = np.flatnonzero(np.diff(flat, prepend=-1))[::-1]  # only the start of a run can be a region's first pixel
    canonical = np.zeros(count, np.int32)
    canonical[flat[starts]] = starts + 1
    canonical[0] = 0
    return canonical[labels]


def _connected_components_ref(mask: Tensor, connectivity: int) -> Tensor:
    """Minimum propagation with pointer jumping, until nothing changes."""
    count, height, width = mask.shape
    here = torch.arange(height * width, device=mask.device).view(1, height, width).expand(count, -1, -1)
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
        table = F.pad(hooked, (0, 1), value=far).scatter_reduce_(1, parent.flatten(1), hooked, "amin")
        table[:, far] = far
        for _ in range(4):
            table = table.gather(1, table)
        jumped = torch.where(mask, table[:, :-1].view_as(parent), far)
        if torch.equal(jumped, parent):  # synchronises
            return torch.where(mask, parent + 1, 0).to(torch.int32)
        parent = jumped
