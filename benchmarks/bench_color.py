"""A batch of 1080p frames from planes to RGB and back, beside a plain copy and other libraries.

    python benchmarks/bench_color.py

On a GPU: each dtype and depth as a share of the bandwidth of a copy, beside our torch reference, the reference
compiled, and kornia (BT.601 full range with repeated chroma: less work than ours). On a CPU: our production path beside
OpenCV and libswscale, whose RGB is bytes (a quarter of ours in memory). Bytes a pixel: 1.5 samples (4:2:0) or 3 (4:4:4)
and 3 scalars, each once.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any

import cv2
import numpy as np
import torch
from common import Rows, copy_gbps, figure, run_stage_bench, time_on, try_peer

from streamstyle.frames import ColorTags
from streamstyle.stages.color import rgb_to_yuv, yuv_to_rgb

HEIGHT, WIDTH, BATCH = 1080, 1920, 16
COLOR = ColorTags("bt709")
GOAL = 0.7
NAMES = {torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16"}

Planes = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def frames(count: int, depth: int, subsample: bool, device: torch.device) -> Planes:
    """Smoothed noise, as smooth as a film."""
    rng = np.random.default_rng(0)
    half = (HEIGHT // 2, WIDTH // 2) if subsample else (HEIGHT, WIDTH)

    def plane(height: int, width: int) -> torch.Tensor:
        picture = cv2.GaussianBlur(rng.random((height, width), np.float32), (0, 0), 3)
        picture = (picture - picture.min()) / np.ptp(picture) * (2**depth - 1)
        levels = torch.from_numpy(np.stack([np.roll(picture, 8 * i, 1) for i in range(count)]).astype(np.int32))
        return levels.to(device).to(torch.uint8 if depth == 8 else torch.uint16)

    return plane(HEIGHT, WIDTH), plane(*half), plane(*half)


def verify(planes: Planes, rgb: torch.Tensor, dtype: torch.dtype, depth: int, subsample: bool) -> None:
    """Both directions against the reference."""
    few = planes[0][:2], planes[1][:2], planes[2][:2]
    expected = yuv_to_rgb(few, COLOR, dtype=dtype, depth=depth, impl="ref")
    step = {torch.float32: 1e-5, torch.float16: 2**-11, torch.bfloat16: 2**-8}[dtype]
    assert (rgb[:2].float() - expected.float()).abs().max() <= step
    back = rgb_to_yuv(rgb[:2], COLOR, subsample=subsample, depth=depth)
    wanted = rgb_to_yuv(rgb[:2], COLOR, subsample=subsample, depth=depth, impl="ref")
    for plane, other in zip(back, wanted, strict=True):
        assert (plane.to(torch.int32) - other.to(torch.int32)).abs().max() <= 1


def measure(device: torch.device) -> Rows:
    """Figures on a device; the result is verified first."""
    return _on_gpu(device) if device.type == "cuda" else _on_cpu(device)


def _on_cpu(device: torch.device) -> Rows:
    planes = frames(1, 8, True, device)
    rgb = yuv_to_rgb(planes, COLOR)
    verify(planes, rgb, torch.float32, 8, True)
    to_rgb = time_on(device, lambda: yuv_to_rgb(planes, COLOR))["median"]
    yield figure("planes to RGB, 1080p, float32, 8 bits, 4:2:0", to_rgb, "ms/frame")
    to_yuv = time_on(device, lambda: rgb_to_yuv(rgb, COLOR, subsample=True))["median"]
    yield figure("RGB to planes, 1080p, float32, 8 bits, 4:2:0", to_yuv, "ms/frame")
    packed = np.concatenate([plane[0].numpy().reshape(-1, WIDTH) for plane in planes])
    picture = np.ascontiguousarray((rgb[0] * 255).round().byte().permute(1, 2, 0).numpy())

    def with_swscale(array: np.ndarray, source: str, target: str) -> Any:
        import av

        return av.VideoFrame.from_ndarray(array, source).reformat(format=target)

    for name, ours, call in (
        ("cv2.cvtColor, planes to RGB bytes", to_rgb, lambda: cv2.cvtColor(packed, cv2.COLOR_YUV2RGB_I420)),
        ("cv2.cvtColor, RGB bytes to planes", to_yuv, lambda: cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420)),
        ("libswscale, planes to RGB bytes", to_rgb, lambda: with_swscale(packed, "yuv420p", "rgb24")),
        ("libswscale, RGB bytes to planes", to_yuv, lambda: with_swscale(picture, "rgb24", "yuv420p")),
    ):
        taken = try_peer(name, functools.partial(time_on, device, call))
        if taken is not None:
            ms = taken["median"]
            yield figure(name, ms, "ms/frame")
            yield figure(f"{name} / ours", ms / ours, "x")


def _on_gpu(device: torch.device) -> Rows:
    copy = copy_gbps(device)
    yield figure("copy of 256 MiB", copy, "GB/s")
    pixels = BATCH * HEIGHT * WIDTH
    for depth, subsample, dtype in itertools.product((8, 10), (True, False), NAMES):
        planes = frames(BATCH, depth, subsample, device)
        rgb = yuv_to_rgb(planes, COLOR, dtype=dtype, depth=depth)
        verify(planes, rgb, dtype, depth, subsample)
        to_rgb, to_yuv = _both_ways(planes, rgb, dtype, depth, subsample, device)
        size = (1.5 if subsample else 3) * planes[0].element_size() + 3 * rgb.element_size()
        what = f"{NAMES[dtype]}, {depth} bits, {'4:2:0' if subsample else '4:4:4'}"
        for way, ms in (("planes to RGB", to_rgb), ("RGB to planes", to_yuv)):
            gbps = pixels * size / ms / 1e6
            yield figure(f"{way}, {what}, 1080p, batch {BATCH}", ms / BATCH, "ms/frame")
            yield figure(f"{way}, {what}: bandwidth / copy ({size:g} B/px)", gbps / copy, "x", goal=GOAL)
        if depth == 8 and subsample and dtype == torch.float32:
            yield from _peers(planes, rgb, to_rgb, to_yuv, device)


def _both_ways(
    planes: Planes, rgb: torch.Tensor, dtype: torch.dtype, depth: int, subsample: bool, device: torch.device
) -> tuple[float, float]:
    to_rgb = time_on(device, lambda: yuv_to_rgb(planes, COLOR, dtype=dtype, depth=depth))["median"]
    to_yuv = time_on(device, lambda: rgb_to_yuv(rgb, COLOR, subsample=subsample, depth=depth))["median"]
    return to_rgb, to_yuv


def _peers(planes: Planes, rgb: torch.Tensor, to_rgb: float, to_yuv: float, device: torch.device) -> Rows:
    def kornia_to_rgb() -> float:
        from kornia.color import yuv420_to_rgb

        luma = planes[0][:, None].float() / 255
        chroma = torch.stack(planes[1:], 1).float() / 255 - 0.5
        return time_on(device, lambda: yuv420_to_rgb(luma, chroma))["median"]

    def kornia_to_yuv() -> float:
        from kornia.color import rgb_to_yuv420

        planar = rgb.contiguous()
        return time_on(device, lambda: rgb_to_yuv420(planar))["median"]

    def compiled_to_rgb() -> float:
        call = torch.compile(lambda: yuv_to_rgb(planes, COLOR, impl="ref"))
        return time_on(device, call)["median"]

    def reference_to_rgb() -> float:
        return time_on(device, lambda: yuv_to_rgb(planes, COLOR, impl="ref"))["median"]

    def reference_to_yuv() -> float:
        return time_on(device, lambda: rgb_to_yuv(rgb, COLOR, subsample=True, impl="ref"))["median"]

    for name, ours, call in (
        ("torch reference, planes to RGB", to_rgb, reference_to_rgb),
        ("torch reference, RGB to planes", to_yuv, reference_to_yuv),
        ("torch.compile of the reference, planes to RGB", to_rgb, compiled_to_rgb),
        ("kornia.color.yuv420_to_rgb, from and to float", to_rgb, kornia_to_rgb),
        ("kornia.color.rgb_to_yuv420, from and to float", to_yuv, kornia_to_yuv),
    ):
        ms = try_peer(name, call)
        if ms is not None:
            yield figure(name, ms / BATCH, "ms/frame")
            yield figure(f"{name} / ours", ms / ours, "x")


if __name__ == "__main__":
    run_stage_bench("color", measure)
