"""Otsu's threshold: global, and local in tiles.

::

    tile histograms, 64 px   windows of 3x3 tiles   one threshold a tile   bilinear between tile centres
    ┌──┬──┬──┬──┐            ┌────────┐
    ├──┼──┼──┼──┤      →     │        ├──┐     →      t  t  t  t      →      T(y, x)
    └──┴──┴──┴──┘            └────────┘  │

A window whose best split is weak (flat: no edges at all, or nothing else) takes the frame's global threshold.

Source: Otsu 1979. Differs: the local form shares one threshold over a tile and interpolates, instead of sliding.
"""

from __future__ import annotations

from typing import Literal

import cv2
import torch
import torch.nn.functional as F
from torch import Tensor

from streamstyle.errors import ShapeError

TILE_PX = 64
FLAT_VARIANCE = 64.0
"""Between-class variance (levels squared) under which a window counts as flat."""


def otsu_threshold(
    edges: Tensor, *, method: Literal["local", "global"] = "local", share: float = 1.0, impl: str = "auto"
) -> Tensor:
    """Tell edges from the rest.

    Args:
        edges: [N, H, W] uint8 edge strength.
        method: one threshold a frame, or one that follows the surroundings.
        share: part of the threshold that is applied; below 1 weaker edges count too.
        impl: "auto" or "ref" (torch on any device).

    Returns:
        [N, H, W] bool: strength is above share * threshold. The lowest threshold wins a tie, as in OpenCV.

    Raises:
        ShapeError: edges is not uint8 [N, H, W].

    Cost: one histogram pass and one comparison; no synchronisation (OpenCV serves the global form on a CPU).
    """
    if edges.ndim != 3 or edges.dtype != torch.uint8:
        raise ShapeError(f"edges must be uint8 [N, H, W], got {edges.dtype} {[*edges.shape]}")
    if edges.numel() == 0:
        return torch.zeros_like(edges, dtype=torch.bool)
    if method == "global":
        if impl == "auto" and edges.device.type == "cpu":
            levels = [cv2.threshold(frame, 0, 255, cv2.THRESH_OTSU)[0] for frame in edges.numpy()]
            return edges > share * torch.tensor(levels).view(-1, 1, 1)
        return edges > share * _best_split(_tile_histograms(edges).sum((1, 2)))[0].view(-1, 1, 1)
    return edges.float() > share * local_thresholds(edges)


def local_thresholds(edges: Tensor) -> Tensor:
    """The interpolated threshold of every pixel, float32 [N, H, W], for edges uint8 [N, H, W]."""
    histograms = _tile_histograms(edges)
    rows, columns = histograms.shape[1:3]
    bins = histograms.permute(0, 3, 1, 2)
    windows = F.avg_pool2d(bins.double(), 3, stride=1, padding=1, divisor_override=1).permute(0, 2, 3, 1)
    level, variance = _best_split(windows)
    overall = _best_split(histograms.sum((1, 2)))[0].view(-1, 1, 1)
    level = torch.where(variance > FLAT_VARIANCE, level, overall).float()
    height, width = edges.shape[1:]
    # Tiles are cut from the top left, so the last ones may be part tiles: interpolate over whole tiles, then crop.
    grown = F.interpolate(
        F.pad(level[:, None], (1, 1, 1, 1), mode="replicate"),
        scale_factor=TILE_PX,
        mode="bilinear",
        align_corners=False,
    )
    assert grown.shape[2:] == ((rows + 2) * TILE_PX, (columns + 2) * TILE_PX)
    return grown[:, 0, TILE_PX : TILE_PX + height, TILE_PX : TILE_PX + width]


def _tile_histograms(edges: Tensor) -> Tensor:
    """[N, rows, columns, 256] int64 histograms of TILE_PX tiles."""
    count, height, width = edges.shape
    rows, columns = -(-height // TILE_PX), -(-width // TILE_PX)
    device = edges.device
    row = torch.arange(height, device=device).div(TILE_PX, rounding_mode="floor").view(1, -1, 1)
    column = torch.arange(width, device=device).div(TILE_PX, rounding_mode="floor").view(1, 1, -1)
    frame = torch.arange(count, device=device).view(-1, 1, 1)
    bins = ((frame * rows + row) * columns + column) * 256 + edges.long()
    histograms = torch.zeros(count * rows * columns * 256, dtype=torch.int64, device=device)
    histograms.scatter_add_(0, bins.flatten(), torch.ones((), dtype=torch.int64, device=device).expand(bins.numel()))
    return histograms.view(count, rows, columns, 256)


def _best_split(histograms: Tensor) -> tuple[Tensor, Tensor]:
    """Otsu level (int64) and its between-class variance (float64) of [..., 256] histograms."""
    share = histograms.double()
    share = share / share.sum(-1, keepdim=True)
    levels = torch.arange(256, dtype=torch.float64, device=share.device)
    below = share.cumsum(-1)
    mass = (share * levels).cumsum(-1)
    total = mass[..., -1:]
    spread = below * (1 - below)
    variance = torch.where(spread > 1e-12, (total * below - mass) ** 2 / spread.clamp_min(1e-12), 0.0)
    best = variance.amax(-1, keepdim=True)
    # The lowest level of a plateau, which argmax does not promise on every device; 1e-9 levels is rounding.
    level = torch.where(variance >= best - 1e-9 * (1 + best), levels, 256.0).amin(-1)
    return level.long(), best[..., 0]
