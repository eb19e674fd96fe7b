"""Share the pixels of an edge band out among the regions it separates, so that borders lie on the edge's ridge.

::

    strength   ▁▃▆█▅▂▁                 regions flood the band from both sides, weak edges first,
    labels     11·····22   →  1111|2222      and meet where it is strongest

Source: Meyer 1994 (watershed by flooding). Differs: flooded in a few levels of strength with a fixed number of steps
each, which is the same on every device and never waits for one.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from streamstyle.errors import ShapeError

LEVELS = (48, 80, 112, 144, 176, 208, 232, 255)
"""Edge strengths flooded to, one after the other."""
STEPS = 3
"""Pixels a region may grow at each level."""
LAST_STEPS = 24
"""Pixels it may grow at the last; what is out of reach even then (thick texture) stays 0."""


def grow_regions(labels: Tensor, edges: Tensor, *, impl: str = "auto") -> Tensor:
    """Flood unlabelled pixels from their 4-connected labelled neighbours, in order of edge strength.

    Args:
        labels: [N, H, W] int32; 0 is to be filled; labels below 2**24.
        edges: [N, H, W] uint8 edge strength.
        impl: "auto" (OpenCV on a CPU) or "ref" (torch on any device).

    Returns:
        [N, H, W] int32; of several neighbours at the same moment the largest label wins.

    Raises:
        ShapeError: the maps do not fit.

    Cost: 45 small dilations; about 5 ms at 427x240 on one core; no synchronisation.
    """
    if labels.ndim != 3 or labels.dtype != torch.int32 or edges.shape != labels.shape or edges.dtype != torch.uint8:
        raise ShapeError(
            f"labels must be int32 and edges uint8, both [N, H, W], got {labels.dtype} {[*labels.shape]} "
            f"and {edges.dtype} {[*edges.shape]}"
        )
    if impl == "auto" and labels.device.type == "cpu":
        pairs = zip(labels.numpy(), edges.numpy(), strict=True)
        frames = [_opencv(frame, strength) for frame, strength in pairs]
        return torch.from_numpy(np.stack(frames)) if frames else labels.clone()
    grown = labels[:, None].float()  # exact below 2**24
    for level in LEVELS:
        open_to = edges[:, None] <= level
        for _ in range(LAST_STEPS if level == LEVELS[-1] else STEPS):
            row = F.max_pool2d(grown, (1, 3), stride=1, padding=(0, 1))
            column = F.max_pool2d(grown, (3, 1), stride=1, padding=(1, 0))
            grown = torch.where((grown == 0) & open_to, torch.maximum(row, column), grown)
    return grown[:, 0].to(torch.int32)


def _opencv(labels: np.ndarray, edges: np.ndarray) -> np.ndarray:
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    grown = labels.astype(np.float32)
    for level in LEVELS:
        for _ in range(LAST_STEPS if level == LEVELS[-1] else STEPS):
            fill = (grown == 0) & (edges <= level)
            if not fill.any():
                break
            np.copyto(grown, cv2.dilate(grown, cross), where=fill)
    return grown.astype(np.int32)
