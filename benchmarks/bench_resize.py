"""1080p planes shrunk to the analysis size, beside the torch reference and torch's own area mean.

    python benchmarks/bench_resize.py

Peers, on the same device: the torch reference, and F.interpolate(mode="area") of floats. Bytes: 1 read a pixel, and few
written. On a CPU ours is OpenCV.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from common import Rows, copy_gbps, figure, run_stage_bench, time_on

from streamstyle.stages.resize import resize_planes

SIZE, SMALL, BATCH = (1080, 1920), (240, 427), 16
CPU_BATCH = 4


def measure(device: torch.device) -> Rows:
    """Figures on a device; the results are verified first."""
    on_gpu = device.type == "cuda"
    count = BATCH if on_gpu else CPU_BATCH
    planes = torch.randint(0, 256, (count, *SIZE), dtype=torch.uint8, device=device)
    small, reference = resize_planes(planes, SMALL), resize_planes(planes, SMALL, impl="ref")
    assert (small.int() - reference.int()).abs().max() <= (0 if on_gpu else 2)
    ours = time_on(device, lambda: resize_planes(planes, SMALL))["median"] / count
    yield figure(f"one plane to 427x240, 1080p, batch {count}", ours, "ms/frame")
    if on_gpu:
        gbps = SIZE[0] * SIZE[1] / ours / 1e6
        yield figure("bandwidth / device copy", gbps / copy_gbps(device), "x", goal=0.3)
    for name, peer, goal in (
        ("torch reference", lambda: resize_planes(planes, SMALL, impl="ref"), 5.0),
        ("F.interpolate, area", lambda: F.interpolate(planes[:, None].float(), SMALL, mode="area"), 2.0),
    ):
        ms = time_on(device, peer, runs=5)["median"] / count
        yield figure(name, ms, "ms/frame")
        yield figure(f"{name} / ours", ms / ours, "x", goal=goal if on_gpu else 1.0)


if __name__ == "__main__":
    run_stage_bench("resize", measure)
