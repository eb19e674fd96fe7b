"""Areas, shapes and colours of the regions of a batch of 1080p maps, and their holes, beside libraries that measure.

    python benchmarks/bench_region_stats.py

Peers: NumPy's bincount (areas), scikit-image's regionprops_table (area, box, centroid, mean colour), SciPy's
binary_fill_holes, and the torch reference on the same device. Bytes a pixel: 4 for areas and shapes (ids read once), 7
with colours, 35 for holes (the mask and the labels of connected_components 11 of them).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from common import Rows, copy_gbps, figure, run_stage_bench, time_on, try_peer

from streamstyle.stages.region_stats import RegionStats, fill_holes, limit_regions, region_areas, region_stats

HEIGHT, WIDTH, BATCH, REGIONS = 1080, 1920, 16, 48
CPU_BATCH = 2


def maps(count: int, regions: int = REGIONS) -> torch.Tensor:
    """Maps as a segmenter gives them: cells with an edge of id 0 between them and a few holes, each frame 3 px on."""
    rng = np.random.default_rng(0)
    seeds = np.ones((HEIGHT, WIDTH), np.uint8)
    seeds.ravel()[rng.choice(seeds.size, regions - 1, replace=False)] = 0
    _, ids = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    edges = cv2.dilate(ids.astype(np.float32), np.ones((3, 3))) != ids
    for x, y in rng.integers(0, (WIDTH, HEIGHT), (4 * regions, 2)).tolist():
        edges[y : y + 5, x : x + 5] = True
    ids[edges] = 0
    return torch.from_numpy(np.stack([np.roll(ids, 3 * i, 1) for i in range(count)]))


def equal(one: RegionStats, other: RegionStats) -> bool:
    return all(torch.equal(a, b) for a, b in zip(vars(one).values(), vars(other).values(), strict=True))


def measure(device: torch.device) -> Rows:
    """Figures on a device; the results are verified first."""
    count = BATCH if device.type == "cuda" else CPU_BATCH
    ids = maps(count).to(device)
    small = torch.arange(WIDTH, dtype=torch.int32, device=device).div(4, rounding_mode="floor") % REGIONS
    small = small.expand_as(ids).contiguous()
    rgb = torch.randint(0, 256, (count, 3, HEIGHT, WIDTH), dtype=torch.uint8, device=device)
    areas = region_areas(ids, REGIONS)
    expected = np.stack([np.bincount(frame.ravel(), minlength=REGIONS) for frame in ids.cpu().numpy()])
    assert np.array_equal(areas.cpu().numpy(), expected)
    for these in (ids, small):
        assert equal(region_stats(these, REGIONS, rgb), region_stats(these, REGIONS, rgb, impl="ref"))
    assert torch.equal(fill_holes(ids), fill_holes(ids, impl="ref"))
    calls: dict[str, tuple[Callable[[str], Any], int]] = {
        "areas": (lambda impl: region_areas(ids, REGIONS, impl=impl), 4),
        "area, box, centroid": (lambda impl: region_stats(ids, REGIONS, impl=impl), 4),
        "area, box, centroid of stripes of 4 px": (lambda impl: region_stats(small, REGIONS, impl=impl), 4),
        "area, box, centroid, colour": (lambda impl: region_stats(ids, REGIONS, rgb, impl=impl), 7),
        "fewer regions": (lambda impl: limit_regions(ids, areas, 9, impl=impl), 8),
        "holes": (lambda impl: fill_holes(ids, impl=impl), 35),
    }
    ours = {}
    for name, (call, size) in calls.items():
        ours[name] = time_on(device, functools.partial(call, "auto"))["median"] / count
        yield figure(f"{name}, 1080p, batch {count}", ours[name], "ms/frame")
        if device.type == "cuda":
            yield from _beside_reference(name, call, ours[name], size, device)
    yield from _beside_libraries(ids[0].cpu().numpy(), rgb[0].cpu().numpy(), ours, device)


def _beside_reference(name: str, call: Callable[[str], Any], ours: float, size: int, device: torch.device) -> Rows:
    gbps = size * HEIGHT * WIDTH / ours / 1e6
    yield figure(f"{name}: bandwidth", gbps, "GB/s")
    yield figure(f"{name}: bandwidth / device copy", gbps / copy_gbps(device), "x", goal=0.5)
    theirs = time_on(device, lambda: call("ref"), runs=5)["median"] / BATCH
    yield figure(f"{name}: torch reference / ours", theirs / ours, "x", goal=2.0)


def _beside_libraries(ids: np.ndarray, rgb: np.ndarray, ours: dict[str, float], device: torch.device) -> Rows:
    cpu = torch.device("cpu")
    on_gpu = device.type == "cuda"

    def with_skimage() -> float:
        from skimage.measure import regionprops_table

        wanted, picture = ("area", "bbox", "centroid", "intensity_mean"), np.moveaxis(rgb, 0, -1)
        return time_on(cpu, lambda: regionprops_table(ids + 1, picture, wanted), runs=4, warm_up=0)["median"]

    def with_bincount() -> float:
        return time_on(cpu, lambda: np.bincount(ids.ravel(), minlength=REGIONS))["median"]

    def with_scipy() -> float:
        from scipy.ndimage import binary_fill_holes

        return time_on(cpu, lambda: binary_fill_holes(ids), runs=4)["median"]

    for name, beside, peer, goal in (
        ("np.bincount", "areas", with_bincount, 50.0 if on_gpu else 1.0),
        ("skimage.measure.regionprops_table", "area, box, centroid, colour", with_skimage, 500.0 if on_gpu else 1.0),
        ("scipy.ndimage.binary_fill_holes", "holes", with_scipy, 100.0 if on_gpu else 1.0),
    ):
        ms = try_peer(name, peer)
        if ms is not None:
            yield figure(f"{name}, on the CPU", ms, "ms/frame")
            yield figure(f"{name} / ours ({beside})", ms / ours[beside], "x", goal=goal)


if __name__ == "__main__":
    run_stage_bench("region_stats", measure)
