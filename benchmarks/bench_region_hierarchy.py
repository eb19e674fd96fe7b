"""The region hierarchy of a batch of edge maps of 427x240, and its cuts, beside higra.

    python benchmarks/bench_region_hierarchy.py

Peers: higra's mean_pb_hierarchy (a watershed and mean border strength, as ours, in C++; its boundaries lie on the edges
of a pixel graph, so its regions are not ours and only the time is compared), and the torch reference on a GPU. Bytes:
about 110 a pixel for what is done pixel by pixel; merging works on a few thousand borders.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from common import Rows, figure, run_stage_bench, time_on, try_peer

from streamstyle.stages import region_hierarchy as stage
from streamstyle.stages import region_hierarchy_cpu as cpu
from streamstyle.stages.region_hierarchy import cut, region_hierarchy

HEIGHT, WIDTH, BATCH = 240, 427, 16
CPU_BATCH = 4
FIELDS = ("ids", "regions", "into", "at", "joined")


def edge_maps(count: int) -> torch.Tensor:
    """Ridges of varied height and width between blobs, with a faint noise: much as HED's fused output."""
    rng = np.random.default_rng(0)
    maps = []
    for _ in range(count):
        strength = np.zeros((HEIGHT, WIDTH), np.float32)
        for grain, height in ((7, 90), (12, 170), (24, 255)):
            field = cv2.GaussianBlur(rng.normal(size=(HEIGHT, WIDTH)).astype(np.float32), (0, 0), grain)
            ridge = np.exp(-((field / field.std() * grain / 3) ** 2))
            there = cv2.GaussianBlur(rng.random((HEIGHT, WIDTH), np.float32), (0, 0), grain)
            strength = np.maximum(strength, height * ridge * cv2.normalize(there, there, 0, 1, cv2.NORM_MINMAX))
        maps.append(np.clip(strength + rng.normal(4, 2, strength.shape), 0, 255).astype(np.uint8))
    return torch.from_numpy(np.stack(maps))


def measure(device: torch.device) -> Rows:
    """Figures on a device; the results are verified first."""
    count = BATCH if device.type == "cuda" else CPU_BATCH
    edges = edge_maps(count).to(device)
    hierarchy, reference = region_hierarchy(edges), region_hierarchy(edges[:4].cpu(), impl="ref")
    for name in FIELDS:
        assert torch.equal(getattr(hierarchy, name)[:4].cpu(), getattr(reference, name)), name
    ms = time_on(device, lambda: region_hierarchy(edges))["median"] / count
    yield figure("finest regions, mean", float(hierarchy.regions.float().mean()), "")
    on_cpu = device.type == "cpu"
    limit_ms = 12.0 if on_cpu else None
    yield figure(f"hierarchy, {WIDTH}x{HEIGHT}, batch {count}", ms, "ms/frame", goal=limit_ms, at_least=False)
    yield figure("cut at 0.3", time_on(device, lambda: cut(hierarchy, 0.3))["median"] / count, "ms/frame")
    if on_cpu:
        yield from _parts(edges[0].numpy())
    else:
        slow = time_on(device, lambda: region_hierarchy(edges, impl="ref"), runs=3, warm_up=1)["median"] / count
        yield figure("torch reference / ours", slow / ms, "x", goal=2.0)
    yield from _beside_higra(edges[0].cpu().numpy(), ms)


def _parts(edges: np.ndarray) -> Rows:
    heights = cpu.smoothed(edges, stage.FLOOR, stage.TAPS, stage.SHIFT)
    ids, count = cpu.watershed(heights)
    one, _, across = cpu.borders(ids)
    into, at = np.arange(count + 1, dtype=np.int32), np.zeros(count + 1, np.int32)
    parts: tuple[tuple[str, Callable[[], Any]], ...] = (
        ("smoothing", lambda: cpu.smoothed(edges, stage.FLOOR, stage.TAPS, stage.SHIFT)),
        ("watershed", lambda: cpu.watershed(heights)),
        ("strength of borders", lambda: cpu.strengths(ids, heights, one, across)),
        ("borders, their strength and merging", lambda: cpu.merge(ids, count, heights, into, at)),
    )
    for name, call in parts:
        yield figure(f"of which {name}", time_on(torch.device("cpu"), call)["median"], "ms/frame")


def _beside_higra(edges: np.ndarray, ours_ms: float) -> Rows:
    def with_higra() -> Any:
        import higra

        graph = higra.get_4_adjacency_graph(edges.shape)
        smoothed = cv2.GaussianBlur(np.maximum(edges, stage.FLOOR).astype(np.float64), (0, 0), 2**0.5)
        return higra.mean_pb_hierarchy(graph, higra.weight_graph(graph, smoothed, higra.WeightFunction.mean))

    peer = "higra.mean_pb_hierarchy, on the CPU"
    ms = try_peer(peer, lambda: time_on(torch.device("cpu"), with_higra)["median"])
    if ms is not None:
        yield figure(peer, ms, "ms/frame")
        yield figure("higra.mean_pb_hierarchy / ours", ms / ours_ms, "x", goal=1.0)


if __name__ == "__main__":
    run_stage_bench("region_hierarchy", measure)
