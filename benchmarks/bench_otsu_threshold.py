"""Otsu's threshold of a batch of 1080p edge maps: global, local in tiles, exact in sliding windows.

    python benchmarks/bench_otsu_threshold.py

Global: beside kornia on the same device and cv2.threshold a frame. Local and exact: beside scikit-image's rank filter
(a square of 65), which takes seconds a frame: it is timed on a crop and scaled by area. Bytes a pixel: global 3 (edges
twice, mask), local 7 (2 + 2 more for the tiles' histograms), exact 6 (edges, levels; both again, and the mask). How far
local and exact agree is measured on drawn edge maps and on HED's, of scikit-image's own pictures.
"""

from __future__ import annotations

import functools
from typing import Literal

import cv2
import numpy as np
import torch
from common import Rows, copy_gbps, figure, run_stage_bench, time_on, try_peer, weights_or_random

from streamstyle.config import AnalysisOptions, EdgeSide
from streamstyle.objects.segmenter import EDGE_FLOOR, Segmenter
from streamstyle.stages.otsu_threshold import WINDOW_PX, exact_thresholds, otsu_threshold

HEIGHT, WIDTH, BATCH = 1080, 1920, 16
CROP = 96, 160
PICTURES = "coffee", "rocket", "astronaut", "camera", "chelsea"
Method = Literal["local", "global", "exact"]
BYTES: dict[Method, float] = {"global": 3.0, "local": 7.0, "exact": 6.0}


def edge_maps(count: int) -> torch.Tensor:
    """Soft lines of varied strength on a dark, faintly noisy ground."""
    rng = np.random.default_rng(0)
    frames = []
    for _ in range(count):
        lines = np.zeros((HEIGHT, WIDTH), np.float32)
        for _ in range(120):
            points = rng.integers(-50, (WIDTH + 50, HEIGHT + 50), (4, 2)).astype(np.int32)
            cv2.polylines(lines, [points], False, float(rng.uniform(90, 250)), int(rng.integers(2, 6)))
        soft = cv2.GaussianBlur(lines, (0, 0), 1.5) + rng.normal(8, 3, lines.shape)
        frames.append(np.clip(soft, 0, 255).astype(np.uint8))
    return torch.from_numpy(np.stack(frames))


def verify(edges: torch.Tensor) -> None:
    """Each method on small frames against the reference."""
    some = edges[:2, :200, :304].contiguous()
    for method in BYTES:
        assert torch.equal(otsu_threshold(some, method=method), otsu_threshold(some, method=method, impl="ref"))


def rank_otsu(picture: np.ndarray) -> np.ndarray:
    from skimage.filters import rank

    return rank.otsu(picture, np.ones((WINDOW_PX, WINDOW_PX), np.uint8))


def measure(device: torch.device) -> Rows:
    """Figures on a device; the results are verified first."""
    on_gpu = device.type == "cuda"
    count = BATCH if on_gpu else 2
    edges = edge_maps(count).to(device)
    verify(edges)
    taken = {}
    gbps = copy_gbps(device) if on_gpu else None
    for method, size in BYTES.items():
        batch = edges if on_gpu or method != "exact" else edges[:1, : CROP[0] * 2, : CROP[1] * 2].contiguous()
        scale = HEIGHT * WIDTH / batch.numel()
        note = "" if batch is edges else f", scaled from {batch.shape[2]}x{batch.shape[1]}"
        runs = 20 if batch is edges else 12
        taken[method] = ms = (
            time_on(device, functools.partial(otsu_threshold, batch, method=method), runs)["median"] * scale
        )
        yield figure(f"{method}, 1080p, batch {len(batch)}{note}", ms, "ms/frame")
        if gbps:
            used = size * HEIGHT * WIDTH / ms / 1e6
            yield figure(f"{method}: {size:g} B/px, part of a copy's bandwidth", used / gbps, "x")
            if method != "exact":  # what a GPU without CuPy gets; exact is for those who ask for it
                few = edges[:2]
                plain = functools.partial(otsu_threshold, few, method=method, impl="ref")
                ref = time_on(device, plain, runs=3)["median"]
                yield figure(f"{method}: torch reference", ref / len(few), "ms/frame")
    yield from _global_peers(edges, taken["global"], device)
    yield from _local_peers(edges, taken, on_gpu)
    if weights_or_random():
        yield from _agreement("2", (240, 427), PICTURES, device)
        yield from _agreement("3", (240, 427), PICTURES, device)
        yield from _agreement("2", (HEIGHT, WIDTH), PICTURES[:2], device)


def _global_peers(edges: torch.Tensor, ours: float, device: torch.device) -> Rows:
    on_gpu = device.type == "cuda"
    frames = edges.cpu().numpy()
    host = torch.device("cpu")

    def with_kornia() -> float:
        from kornia.filters import otsu_threshold as kornia_otsu

        images = edges[:, None]
        return time_on(device, lambda: kornia_otsu(images, return_mask=True))["median"] / len(edges)

    def with_opencv() -> float:
        def call() -> None:
            for frame in frames:
                cv2.threshold(frame, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)

        return time_on(host, call)["median"] / len(frames)

    for name, call, goal in (
        ("kornia.filters.otsu_threshold", with_kornia, 10.0 if on_gpu else None),
        ("cv2.threshold on the CPU", with_opencv, None),
    ):
        ms = try_peer(name, call)
        if ms is not None:
            yield figure(name, ms, "ms/frame")
            yield figure(f"{name} / ours (global)", ms / ours, "x", goal=goal)


def _local_peers(edges: torch.Tensor, ours: dict[Method, float], on_gpu: bool) -> Rows:
    crop = edges[:1, : CROP[0] * 2, : CROP[1] * 2].contiguous()
    picture = crop[0].cpu().numpy()

    def with_skimage() -> float:
        levels = rank_otsu(picture)
        differ = int((exact_thresholds(crop)[0].cpu().numpy() != levels).sum())
        assert differ == 0, f"{differ} levels differ from scikit-image's"
        once = time_on(torch.device("cpu"), lambda: rank_otsu(picture), runs=12)["median"]
        return once * HEIGHT * WIDTH / picture.size

    strong = edges > 20
    local = otsu_threshold(crop) & strong[:1, : crop.shape[1], : crop.shape[2]]
    exact = otsu_threshold(crop, method="exact") & strong[:1, : crop.shape[1], : crop.shape[2]]
    agree = float((local == exact).float().mean()) * 100
    yield figure("local equals exact, of pixels of drawn edge maps, above strength 20", agree, "%", goal=97.0)
    name = f"skimage.filters.rank.otsu on the CPU, scaled from {picture.shape[1]}x{picture.shape[0]}"
    ms = try_peer(name, with_skimage)
    if ms is None:
        return
    goals = {"exact": 300.0, "local": 20000.0} if on_gpu else {}
    yield figure(name, ms, "ms/frame")
    for method in ("exact", "local"):
        yield figure(f"skimage.filters.rank.otsu / ours ({method})", ms / ours[method], "x", goal=goals.get(method))


def _agreement(side: EdgeSide, size: tuple[int, int], names: tuple[str, ...], device: torch.device) -> Rows:
    """Pixels on which local and exact agree, in HED's edge maps."""
    import skimage.data

    segmenter = Segmenter(AnalysisOptions(segmenter="components", edge_side=side), device)
    every, strong = [], []
    for name in names:
        picture = getattr(skimage.data, name)()
        rgb = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, 2)
        smaller = size[0] < rgb.shape[0]
        scaled = cv2.resize(rgb, size[::-1], interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)
        planes = torch.from_numpy(scaled).permute(2, 0, 1)[None].to(device).float() / 255
        with torch.inference_mode():
            edges, _ = segmenter._edges(planes)
        alike = otsu_threshold(edges) == otsu_threshold(edges, method="exact")
        every.append(float(alike.float().mean()) * 100)
        strong.append(float((alike | (edges <= EDGE_FLOOR)).float().mean()) * 100)
    where = f"HED side {side} of {len(names)} pictures, {size[1]}x{size[0]}"
    for shares, what in ((strong, f", above strength {EDGE_FLOOR}"), (every, "")):
        yield figure(f"local equals exact, of pixels of {where}{what}", float(np.mean(shares)), "%", goal=97.0)
        yield figure(f"local equals exact, of pixels of {where}{what}: the worst", min(shares), "%", goal=97.0)


if __name__ == "__main__":
    run_stage_bench("otsu_threshold", measure)
