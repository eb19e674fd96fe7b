"""What the encoder's thread spends on a 1080p frame beside encoding: planes copied, or their memory handed over.

    python benchmarks/bench_encode.py

Sixteen frames in turn, more than the caches hold, so that the copy is from and to memory as it is in a job.
"""

from __future__ import annotations

import tempfile
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from common import Rows, figure, run_stage_bench, spread

from streamstyle.config import OutputOptions
from streamstyle.frames import FrameBatch, VideoInfo, packed_planes
from streamstyle.media import encode as encode_module

HEIGHT, WIDTH, FRAMES, ROUNDS = 1080, 1920, 16, 9


def measure(device: torch.device) -> Rows:
    """Figures of the host; the device is of no account."""
    packed = np.random.default_rng(0).integers(0, 256, (FRAMES, WIDTH * HEIGHT * 3 // 2), dtype=np.uint8)
    y, u, v = (plane.copy() for plane in packed_planes(packed, HEIGHT, WIDTH, subsample=True))
    pts = tuple(range(FRAMES))
    batches = {"copied": FrameBatch(y, u, v, pts), "handed over": FrameBatch(y, u, v, pts, packed=packed)}
    took: dict[str, list[float]] = {name: [] for name in batches}

    class Timed(encode_module._SegmentWriter):
        def write(self, batch: FrameBatch) -> None:
            for _ in range(ROUNDS):
                for name, given in batches.items():
                    for i in range(FRAMES):
                        began = time.perf_counter()
                        self._taken(given, i)
                        took[name].append((time.perf_counter() - began) * 1e3)
            super().write(batch)

    encode_module._SegmentWriter = Timed  # type: ignore[misc]
    info = VideoInfo("made here", WIDTH, HEIGHT, Fraction(1, 25), Fraction(25))
    with tempfile.TemporaryDirectory() as folder:
        encode_module.encode(
            [batches["handed over"]], Path(folder) / "out.mp4", info, OutputOptions(), size=(WIDTH, HEIGHT)
        )
    medians = {name: spread(values)["median"] for name, values in took.items()}
    for name, ms in medians.items():
        yield figure(f"1080p frame to the encoder, planes {name}", ms, "ms")
    yield figure("planes copied / handed over", medians["copied"] / medians["handed over"], "x", goal=1)


if __name__ == "__main__":
    run_stage_bench("encode", measure)
