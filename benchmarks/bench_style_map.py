"""Maps of looks enlarged to what painting reads of each 1080p pixel, beside the torch reference and torch.topk.

    python benchmarks/bench_style_map.py

Peers, on the same device: the torch reference, which keeps the best two mask by mask, and torch.topk over all enlarged
masks. Bytes: 4 of index written a pixel; the masks' own, 20 + 8 K a pixel of the small map, are few beside them.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from bench_region_stats import maps
from common import Rows, copy_gbps, figure, run_stage_bench, time_on
from torch import Tensor

from streamstyle.stages.blends import blend_index
from streamstyle.stages.style_map import _blurred, blend_map, pair_feathers, style_map

SIZE, SMALL, BATCH = (1080, 1920), (240, 427), 16
CPU_BATCH = 2
FEATHER_PX, SIGMA = 6.0, 0.8
"""The default border, and the blur that makes it at this size."""


def measure(device: torch.device) -> Rows:
    """Figures on a device; the results are verified first."""
    for count in (2, 5, 27):
        yield from _measure(count, device)


def _with_topk(looks: Tensor, count: int) -> Tensor:
    """As one writes it down: every mask enlarged, then the largest two of each pixel."""
    masks = F.interpolate(_blurred(looks, count, SIGMA).float(), SIZE, mode="bilinear")
    values, order = masks.topk(2, dim=1)
    gain = SIGMA * SIZE[0] / SMALL[0] * math.sqrt(2 * math.pi) / FEATHER_PX
    share = values[:, 0] / values.sum(1).clamp_min_(1e-6)
    return blend_index(order[:, 0], order[:, 1], ((share - 0.5) * gain + 0.5).clamp_(0.5, 1), count)


@torch.inference_mode()
def _measure(count: int, device: torch.device) -> Rows:
    on_gpu = device.type == "cuda"
    frames = BATCH if on_gpu else CPU_BATCH
    looks = F.interpolate(maps(frames)[:, None].float(), SMALL, mode="nearest")[:, 0].to(torch.int32) % count
    looks = looks.to(device)
    given = looks, count, SIZE, FEATHER_PX
    mixed = looks, count, SIZE, pair_feathers([0.0, 2.0, *[None] * (count - 2)], FEATHER_PX)
    index, expected = blend_map(*given), blend_map(*given, impl="ref")
    # OpenCV counts in 8 bits, on a CPU; where three meet or nobody is second the number may be another's.
    levels = (index % 16 - expected % 16).abs()
    assert torch.equal(index, expected) if on_gpu else (levels <= 1).float().mean() > 0.98
    assert ((_with_topk(looks, count) % 16 - expected % 16).abs() <= 1).all()
    ours = time_on(device, lambda: blend_map(*given))["median"] / frames
    yield figure(f"{count} looks: rows of the table of blends, 1080p, batch {frames}", ours, "ms/frame")
    for name, call in (
        ("rows, borders of several widths", lambda: blend_map(*mixed)),
        ("first, second and weight", lambda: style_map(*given)),
    ):
        yield figure(f"{count} looks: {name}", time_on(device, call)["median"] / frames, "ms/frame")
    if on_gpu:
        gbps = 4 * SIZE[0] * SIZE[1] / ours / 1e6
        yield figure(f"{count} looks: bandwidth / device copy", gbps / copy_gbps(device), "x", goal=0.3)
    for name, peer, goal in (
        ("torch reference", lambda: blend_map(*given, impl="ref"), 5.0),
        ("torch.topk", lambda: _with_topk(looks, count), 20.0),
    ):
        ms = time_on(device, peer, runs=5)["median"] / frames
        yield figure(f"{count} looks: {name}", ms, "ms/frame")
        yield figure(f"{count} looks: {name} / ours", ms / ours, "x", goal=goal if on_gpu else 1.0)


if __name__ == "__main__":
    run_stage_bench("style_map", measure)
