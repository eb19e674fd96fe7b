"""Labels, ids and areas of a batch of 1080p masks, beside every library that labels.

    python benchmarks/bench_connected_components.py

On a GPU: our kernels beside CuPy's ndimage.label (the batch as one 3-D volume), kornia_rs and kornia. On a CPU: our
production path beside cv2.connectedComponentsWithStats. Bytes: 16 a pixel is the floor that the goal names (mask 1,
labels written and read once, ids written: 1 + 4 + 4 + 4, and a read of the row above, 3); ours are about 10, for ids
are written from the bits and runs of the mask, and areas read them.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch
from common import Rows, copy_gbps, figure, run_stage_bench, spread, time_on, try_peer

from streamstyle.stages.connected_components import connected_components, label_regions
from streamstyle.stages.region_stats import region_areas

HEIGHT, WIDTH, BATCH = 1080, 1920, 16
ROUNDS = 9
FLOOR_BYTES = 16


def masks(count: int) -> torch.Tensor:
    """Blobs as edges leave them: smoothed noise, cut at its median."""
    rng = np.random.default_rng(0)
    frames = [cv2.GaussianBlur(rng.random((HEIGHT, WIDTH), np.float32), (0, 0), 6) for _ in range(count)]
    return torch.from_numpy(np.stack([frame > np.median(frame) for frame in frames])).to(torch.uint8)


def measure(device: torch.device) -> Rows:
    """Figures on a device; the result is verified first."""
    count = BATCH if device.type == "cuda" else 4
    mask = masks(count).to(device)

    def ours(impl: str = "auto") -> tuple[torch.Tensor, torch.Tensor]:
        return label_regions(mask, connectivity=8, impl=impl)

    ids, counts = ours()
    for i in range(count):
        expected, labels = cv2.connectedComponents(mask[i].cpu().numpy(), connectivity=8)
        assert expected - 1 == int(counts[i])
        assert len(np.unique(labels.astype(np.int64) * (int(counts[i]) + 1) + ids[i].cpu().numpy())) == expected
    regions = int(counts.max()) + 1

    def ours_with_areas() -> torch.Tensor:
        return region_areas(ours()[0], regions)

    where, ms = f"1080p, batch {count}", 0.0
    for name, call in (
        ("labels", lambda: connected_components(mask, connectivity=8)),
        ("labels and ids", ours),
        ("labels, ids and areas", ours_with_areas),
    ):
        ms = time_on(device, call)["median"] / count
        yield figure(f"{name}, {where}", ms, "ms/frame")
    yield from _on_gpu(mask, ms, device) if device.type == "cuda" else _on_cpu(mask, ours_with_areas)


def _on_cpu(mask: torch.Tensor, ours: Callable[[], torch.Tensor]) -> Rows:
    """By turns, so that both meet the same disturbances."""
    frames, device = mask.numpy(), torch.device("cpu")
    took: dict[str, list[float]] = {"ours": [], "peer": []}
    for _ in range(ROUNDS):
        took["ours"].append(time_on(device, ours)["median"])
        peer = time_on(device, lambda: [cv2.connectedComponentsWithStats(f, connectivity=8) for f in frames])
        took["peer"].append(peer["median"])
    mine, stats = (spread(values)["median"] / len(frames) for values in took.values())
    yield figure("cv2.connectedComponentsWithStats", stats, "ms/frame")
    yield figure("ours / cv2.connectedComponentsWithStats", mine / stats, "x", goal=0.6, at_least=False)


def _on_gpu(mask: torch.Tensor, all_ms: float, device: torch.device) -> Rows:
    count, pixels = len(mask), HEIGHT * WIDTH
    floor_ms = FLOOR_BYTES * pixels / copy_gbps(device) / 1e6
    yield figure("copy floor of 16 B/px / ours (labels, ids and areas)", floor_ms / all_ms, "x", goal=0.25)
    few = mask[:2]  # what a GPU without CuPy gets; it takes its time
    ref = time_on(device, lambda: label_regions(few, connectivity=8, impl="ref"), runs=3, warm_up=1)["median"]
    yield figure("torch reference, labels and ids", ref / len(few), "ms/frame")

    def with_cupy() -> float:
        import cupy
        from cupyx.scipy import ndimage

        volume = cupy.asarray(mask)
        structure = cupy.zeros((3, 3, 3), dtype=bool)
        structure[1] = True

        def call() -> None:
            labels, _ = ndimage.label(volume, structure)
            cupy.bincount(labels.ravel())
            torch.cuda.synchronize()

        return time_on(device, call, runs=5)["median"] / count

    def with_kornia() -> float:
        from kornia.contrib import connected_components_union_find

        image = mask[:, None].float()
        return time_on(device, lambda: connected_components_union_find(image), runs=3, warm_up=1)["median"] / count

    def with_kornia_rs() -> float:
        from kornia_rs.image import Image
        from kornia_rs.imgproc import connected_components as label

        frames = [Image.from_numpy(frame[..., None].cpu().numpy()).to_cuda() for frame in mask]

        def call() -> None:
            for frame in frames:
                label(frame, 8)
            torch.cuda.synchronize()

        return time_on(device, call, runs=5)["median"] / count

    for name, call, goal in (
        ("cupyx.scipy.ndimage.label + bincount", with_cupy, 5.0),
        ("kornia.contrib.connected_components_union_find", with_kornia, 20.0),
        ("kornia_rs CUDA", with_kornia_rs, 3.0),
    ):
        ms = try_peer(name, call)
        if ms is not None:
            yield figure(name, ms, "ms/frame")
            yield figure(f"{name} / ours", ms / all_ms, "x", goal=goal)


if __name__ == "__main__":
    run_stage_bench("connected_components", measure)
