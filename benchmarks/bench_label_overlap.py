"""Contingency tables of all consecutive frames of a batch of 1080p maps, beside NumPy.

    python benchmarks/bench_label_overlap.py

Peers: np.unique of packed pairs (as published code does it), np.bincount of the same, scikit-image's
contingency_table, and the torch reference on the same device. Bytes: 8 a pixel, each map read once as itself and once
as the one before (the second reading may come from the cache).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from bench_region_stats import maps
from common import Rows, copy_gbps, figure, run_stage_bench, time_on, try_peer

from streamstyle.stages.label_overlap import best_matches, consecutive_overlaps

HEIGHT, WIDTH, BATCH = 1080, 1920, 16
CPU_BATCH = 2
TABLES = {"48 regions": 48, "200 regions": 200}
"""Of which the first table fits shared memory and the second does not."""


def measure(device: torch.device) -> Rows:
    """Figures on a device; the results are verified first."""
    for name, regions in TABLES.items():
        yield from _measure(name, regions, device)


def _measure(name: str, regions: int, device: torch.device) -> Rows:
    count = BATCH if device.type == "cuda" else CPU_BATCH
    frames = maps(count + 1, regions)
    before, ids = frames[0].to(device), frames[1:].to(device)
    pairs = list(zip(frames.numpy()[1:], frames.numpy()[:-1], strict=True))
    tables = consecutive_overlaps(ids, regions, before)
    assert torch.equal(tables, consecutive_overlaps(ids, regions, before, impl="ref"))
    for table, (now, then) in zip(tables.cpu().numpy(), pairs, strict=True):
        assert np.array_equal(table, _bincount(now, then, regions))

    ours = time_on(device, lambda: consecutive_overlaps(ids, regions, before))["median"] / count
    yield figure(f"{name}: tables, 1080p, batch {count}", ours, "ms/frame")
    best = time_on(device, lambda: best_matches(tables))["median"] / count
    yield figure(f"{name}: best matches", best, "ms/frame")
    if device.type == "cuda":
        gbps = 8 * HEIGHT * WIDTH / ours / 1e6
        yield figure(f"{name}: bandwidth", gbps, "GB/s")
        yield figure(f"{name}: bandwidth / device copy", gbps / copy_gbps(device), "x", goal=0.5)
        reference = time_on(device, lambda: consecutive_overlaps(ids, regions, before, impl="ref"), runs=5)["median"]
        yield figure(f"{name}: torch reference / ours", reference / count / ours, "x", goal=2.0)
    yield from _beside_numpy(name, *pairs[0], regions, ours, device.type == "cuda")


def _packed(now: np.ndarray, then: np.ndarray, regions: int) -> np.ndarray:
    return now.ravel().astype(np.int64) * regions + then.ravel()


def _bincount(now: np.ndarray, then: np.ndarray, regions: int) -> np.ndarray:
    return np.bincount(_packed(now, then, regions), minlength=regions**2).reshape(regions, regions)


def _beside_numpy(name: str, now: np.ndarray, then: np.ndarray, regions: int, ours: float, on_gpu: bool) -> Rows:
    def with_unique() -> Any:
        return np.unique(_packed(now, then, regions), return_counts=True)

    def with_skimage() -> Any:
        from skimage.metrics import contingency_table

        return contingency_table(now, then, sparse_type="array")

    peers: tuple[tuple[str, Callable[[], Any], float], ...] = (
        ("np.unique of packed pairs", with_unique, 500.0 if on_gpu else 1.0),
        ("np.bincount of packed pairs", lambda: _bincount(now, then, regions), 100.0 if on_gpu else 1.0),
        ("skimage.metrics.contingency_table", with_skimage, 100.0 if on_gpu else 1.0),
    )
    for peer, call, goal in peers:
        taken = try_peer(peer, functools.partial(time_on, torch.device("cpu"), call, runs=12))
        if taken is not None:
            ms = taken["median"]
            yield figure(f"{name}: {peer}, on the CPU", ms, "ms/frame")
            yield figure(f"{name}: {peer} / ours", ms / ours, "x", goal=goal)


if __name__ == "__main__":
    run_stage_bench("label_overlap", measure)
