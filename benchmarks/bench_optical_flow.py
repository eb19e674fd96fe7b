"""Dense optical flow, occlusion and the camera's motion of pairs of pictures of the analysis' size, beside OpenCV.

    python benchmarks/bench_optical_flow.py

Speed: beside OpenCV's DIS (fast and medium presets) and Farneback's flow on the CPU, and on CUDA the torch reference.
Accuracy: end-point error against the true flow of two rendered pairs, where STREAMSTYLE_DATA or ../shared/data has
flow_gt; the kernels' is that of the reference, to which they are equal. Bytes of occlusion: 17 a pixel.
"""

from __future__ import annotations

import functools
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from common import Rows, copy_gbps, figure, read_picture, run_stage_bench, time_on

from streamstyle.stages.dominant_motion import dominant_motion
from streamstyle.stages.optical_flow import DENSE_PX, SPARSE_PX, OpticalFlow, occlusion, optical_flow

HEIGHT, WIDTH, BATCH = 240, 427, 16
CPU_BATCH = 4
PEER_RUNS = 15
DATA = Path(os.environ.get("STREAMSTYLE_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")) / "flow_gt"
NEW: Any = None
"""For OpenCV: give back a new array. Its types do not know of that."""
CAREFUL = {
    "careful search": (DENSE_PX, False),
    "careful search, sparse": (SPARSE_PX, False),
    "careful search, to carry": (SPARSE_PX, True),
}
PRESETS = {"fast": cv2.DISOPTICAL_FLOW_PRESET_FAST, "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM}


def film(count: int) -> torch.Tensor:
    """uint8 [count, H, W]: textured ground that pans and turns, and a disc that crosses it."""
    rng = np.random.default_rng(0)
    noise = rng.random((HEIGHT + 200, WIDTH + 200)).astype(np.float32)
    grains = np.sum([cv2.GaussianBlur(noise, (0, 0), sigma) * sigma * 400 for sigma in (1.5, 3, 6, 12)], 0)
    ground = cv2.normalize(grains, grains, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    frames = []
    for i in range(count):
        turn = cv2.getRotationMatrix2D((WIDTH / 2 + 100, HEIGHT / 2 + 100), 0.6 * i, 1 + 0.004 * i)
        turn[:, 2] -= np.array((100 - 2.5 * i, 100))
        picture = cv2.warpAffine(ground, turn, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR)
        disc = np.zeros_like(picture)
        cv2.circle(disc, (60 + 7 * i, 120 + 3 * i), 40, 255, -1)
        frames.append(np.where(disc > 0, np.roll(ground[:HEIGHT, :WIDTH], (3 * i, 7 * i), (0, 1)), picture))
    return torch.from_numpy(np.stack(frames))


def truths() -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Pairs of rendered pictures and the true flow between them; none where the data is absent."""
    found = {}
    for path in sorted(DATA.glob("*_flow.flo")):
        name = path.name.removesuffix("_flow.flo")
        one, two = (read_picture(DATA / f"{name}_img{k}.ppm", grey=True) for k in (1, 2))
        flow = np.fromfile(path, "<f4", offset=12).reshape(*one.shape, 2)
        found[name] = (one, two, flow)
    return found


def measure(device: torch.device) -> Rows:
    """Figures on a device; the results are verified first."""
    frames = film((BATCH if device.type == "cuda" else CPU_BATCH) + 1).to(device)
    source, target = frames[:-1].contiguous(), frames[1:].contiguous()
    count, on_gpu = len(source), device.type == "cuda"
    forward, backward = optical_flow(source, target), optical_flow(target, source)
    reference = optical_flow(source[:2], target[:2], impl="ref")
    if on_gpu:
        assert torch.equal(forward[:2], reference)
        assert torch.equal(occlusion(forward, backward), occlusion(forward, backward, impl="ref"))
    assert (forward[:2] - reference).norm(dim=3).median() < 0.25

    ours = time_on(device, lambda: optical_flow(source, target))["median"] / count
    yield figure(f"flow, {WIDTH}x{HEIGHT}, batch {count}", ours, "ms/frame")
    hidden = time_on(device, lambda: occlusion(forward, backward))["median"] / count
    yield figure(f"occlusion, {WIDTH}x{HEIGHT}, batch {count}", hidden, "ms/frame")
    camera = time_on(device, lambda: dominant_motion(forward))["median"] / count
    yield figure(f"camera's motion, {WIDTH}x{HEIGHT}, batch {count}", camera, "ms/frame")
    one = time_on(device, lambda: optical_flow(source[:1], target[:1]))["median"]
    yield figure(f"flow, {WIDTH}x{HEIGHT}, one pair", one, "ms/frame")
    if on_gpu:
        gbps = 17 * HEIGHT * WIDTH / hidden / 1e6
        yield figure("occlusion: bandwidth / device copy", gbps / copy_gbps(device), "x", goal=0.3)
    slow = time_on(device, lambda: optical_flow(source[:1], target[:1], impl="ref"), runs=5)["median"]
    yield figure("torch reference", slow, "ms/frame")
    yield figure("torch reference / ours", slow / ours, "x", goal=20.0 if on_gpu else None)
    yield from _beside_opencv(source, target, ours)
    yield from _beside_consensus(forward[0].cpu().numpy(), camera)
    yield from _accuracy(device)


def _beside_opencv(source: torch.Tensor, target: torch.Tensor, ours: float) -> Rows:
    """Peers on the CPU. Where ours runs there too it is the fast preset, and timed again between the other peers."""
    one, two = source[0].cpu().numpy(), target[0].cpu().numpy()
    searches = {preset: cv2.DISOpticalFlow.create(number) for preset, number in PRESETS.items()}
    calls: dict[str, Callable[[], Any]] = {
        f"OpenCV's DIS, {preset}": functools.partial(search.calc, one, two, NEW) for preset, search in searches.items()
    }
    for name, how in CAREFUL.items():
        calls[name] = functools.partial(careful_flow, one, two, *how)
    calls["OpenCV's Farneback"] = lambda: cv2.calcOpticalFlowFarneback(one, two, NEW, 0.5, 5, 15, 3, 5, 1.2, 0)
    if not source.is_cuda:
        del calls["OpenCV's DIS, fast"]
        calls["ours"] = lambda: optical_flow(source[:1], target[:1])
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(PEER_RUNS):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            taken[name].append((time.perf_counter() - began) * 1e3)
    medians = {name: statistics.median(times) for name, times in taken.items()}
    ours = medians.pop("ours", ours)
    for name, ms in medians.items():
        yield figure(f"{name}, on the CPU", ms, "ms/frame")
        goal = 10.0 if source.is_cuda and "DIS" in name else None
        yield figure(f"{name} / ours", ms / ours, "x", goal=goal)
    for name in CAREFUL:
        yield figure(f"OpenCV's DIS, medium / {name}", medians["OpenCV's DIS, medium"] / medians[name], "x")


@functools.cache
def _careful(stride_px: int) -> OpticalFlow:
    return OpticalFlow(careful_px=stride_px)


def careful_flow(source: np.ndarray, target: np.ndarray, stride_px: int, to_carry: bool) -> np.ndarray | None:
    """Flow as a CPU searches it to tell what moves, or to carry where others tell."""
    search = _careful(stride_px)
    search.previous = target
    return search.step(source, to_carry=to_carry)


def _beside_consensus(flow: np.ndarray, ours: float) -> Rows:
    """The camera's motion from as many points, without what is left of the flow."""
    y, x = np.mgrid[7:HEIGHT:14, 7:WIDTH:15]
    points = np.stack([x.ravel(), y.ravel()], 1).astype(np.float32)
    ahead = points + flow[y.ravel(), x.ravel()]
    cpu = torch.device("cpu")
    ms = time_on(cpu, lambda: cv2.findHomography(points, ahead, cv2.USAC_MAGSAC, 1.0), runs=40)["median"]
    yield figure("cv2.findHomography, MAGSAC, on the CPU", ms, "ms/frame")
    yield figure("cv2.findHomography / ours", ms / ours, "x")


def _accuracy(device: torch.device) -> Rows:
    """Mean end-point errors; only with the data."""
    for name, (source, target, truth) in truths().items():
        pair = [torch.from_numpy(picture)[None].to(device) for picture in (source, target)]
        found = {
            "kernels": optical_flow(*pair, impl="auto" if device.type == "cuda" else "ref")[0].cpu().numpy(),
            **{name: careful_flow(source, target, *how) for name, how in CAREFUL.items()},
            **{
                f"OpenCV's DIS, {preset}": cv2.DISOpticalFlow.create(number).calc(source, target, NEW)
                for preset, number in PRESETS.items()
            },
        }
        errors = {way: float(np.linalg.norm(flow - truth, axis=2).mean()) for way, flow in found.items()}
        for way, error in errors.items():
            goal = round(errors["OpenCV's DIS, medium"], 4) if way == "kernels" else None
            yield figure(f"end-point error, pair {name}, {way}", error, "px", goal=goal, at_least=False)


if __name__ == "__main__":
    run_stage_bench("optical_flow", measure)
