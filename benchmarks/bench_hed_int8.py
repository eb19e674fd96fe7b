"""HED in 8-bit integers beside float32 on the same processor: how far its edges are off, and its time.

    python benchmarks/bench_hed_int8.py

Photographs are every fourth of BSDS500 val, where STREAMSTYLE_DATA or ../shared/data has it: steps were chosen on
train. Lettering, bars and blocks of pure colours and the film of ``streamstyle bench``, of flat ones, are made here.
Largest is the farthest of all pixels of all pictures. Times are of small films, each picture 2 px on from the one
before, means over frames; the first of each film follows another picture, whose steps may be others. Side 3 is that of
regions; the networks give the features of LOOK_LAYERS, too, as far as they reach: HED's are of three blocks, those of
the narrow network, which regions and objects are found by, of four.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import torch
from common import Rows, figure, run_stage_bench

from streamstyle.bench.scene import batches
from streamstyle.frames import ColorTags
from streamstyle.nets import hed_int8, int8
from streamstyle.nets.hed import HED
from streamstyle.nets.hed_int8 import Int8HED
from streamstyle.objects.appearance import LOOK_LAYERS
from streamstyle.stages.color import yuv_to_rgb

DATA = Path(os.environ.get("STREAMSTYLE_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")) / "bsds"
LINES = (240, 360)
RUNS = 3


def photographs(lines: int) -> Iterator[torch.Tensor]:
    for path in sorted((DATA / "images" / "val").glob("*.jpg"))[::4]:
        read = cv2.imread(str(path))
        assert read is not None, path
        picture = cv2.cvtColor(read, cv2.COLOR_BGR2RGB)
        scale = lines / min(picture.shape[:2])
        yield as_rgb(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))


def lettering_and_flat_colors(lines: int) -> Iterator[torch.Tensor]:
    width = lines * 16 // 9
    for ink, paper in ((255, 0), (0, 255)):
        picture = np.full((lines, width, 3), paper, np.uint8)
        scale, place = lines / 240, (width // 3, lines // 2)
        cv2.putText(picture, "THE END", place, cv2.FONT_HERSHEY_SIMPLEX, scale, (ink,) * 3, 2, cv2.LINE_AA)
        yield as_rgb(picture)
    rng = np.random.default_rng(0)
    for cells in ((6, 11), (24, 43)):
        blocks = np.where(rng.random((*cells, 3)) > 0.5, np.uint8(255), np.uint8(0))
        yield as_rgb(cv2.resize(blocks, (width, lines), interpolation=cv2.INTER_NEAREST))
    bars = np.stack([np.arange(8) // 4 % 2, np.arange(8) // 2 % 2, np.arange(8) % 2], axis=-1)[None]
    yield as_rgb(cv2.resize((bars * 255).astype(np.uint8), (width, lines), interpolation=cv2.INTER_NEAREST))
    for batch in list(batches((width // 2 * 2, lines), 40))[::13]:
        planes = tuple(torch.from_numpy(plane) for plane in (batch.y, batch.u, batch.v))
        yield yuv_to_rgb((planes[0], planes[1], planes[2]), ColorTags())


def as_rgb(picture: np.ndarray) -> torch.Tensor:
    """[1, 3, h, w] float32 of [h, w, 3] uint8."""
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float() / 255


@torch.inference_mode()
def measure(device: torch.device) -> Rows:
    """Figures of the host's processor; the device is of no account."""
    if not int8.available():
        raise SystemExit("no x86 processor, or no torch with oneDNN's operators: HED computes in floats here")
    if not DATA.is_dir():
        print(f"{DATA}: no such folder, so no photographs; put BSDS500 there or set STREAMSTYLE_DATA", file=sys.stderr)
    hed, narrow = HED.load("3"), HED.load_narrow()
    made = Int8HED.of(hed)
    for name, pictures in (("photographs", photographs), ("lettering and flat colours", lettering_and_flat_colors)):
        for lines in LINES:
            if some := list(pictures(lines)):
                yield from beside_floats(f"{name}, {lines} lines", some, hed, made)
                yield from beside_floats(f"narrow, {name}, {lines} lines", some, narrow, Int8HED.of(narrow), made)


def beside_floats(
    what: str, pictures: list[torch.Tensor], net: HED, made: Int8HED, wide: Int8HED | None = None
) -> Rows:
    """Figures of a network in bytes; and of it beside HED in bytes, which it stands in for, if that is given."""
    off = torch.cat([(made(rgb) - net(rgb)).abs().flatten() * 255 for rgb in pictures])
    yield figure(f"{what}: pictures", len(pictures), "")
    wider = [widest_steps(made, rgb) > 1 for rgb in pictures]
    yield figure(f"{what}: in wider steps", sum(wider) / len(wider), "of the pictures")
    yield figure(f"{what}: edges off, mean", float(off.mean()), "of 255")
    yield figure(f"{what}: edges off, largest", float(off.max()), "of 255")
    kinds = {"float32": net, "int8": made} | ({} if wide is None else {"HED, int8": wide})
    took: dict[str, list[float]] = {kind: [] for kind in (*kinds, "int8, after another picture")}
    for rgb in pictures:
        for run in range(1 + RUNS):
            for kind, each in kinds.items():
                frame = rgb.roll(2 * run, 3)  # as in a film, where the frame before is like it but for the first
                began = time.perf_counter()
                each.edges_and_features(frame, layers_of(each))
                first = run == 0 and kind == "int8"
                took["int8, after another picture" if first else kind].append((time.perf_counter() - began) * 1e3)
    ms = {kind: float(np.mean(values)) for kind, values in took.items()}
    yield from (figure(f"{what}: {kind}", value, "ms a picture") for kind, value in ms.items())
    yield figure(f"{what}: float32 / int8", ms["float32"] / ms["int8"], "x", goal=1)
    if wide is not None:
        apart = torch.cat([(made(rgb) - wide(rgb)).abs().flatten() * 255 for rgb in pictures])
        yield figure(f"{what}: edges off HED's, mean", float(apart.mean()), "of 255")
        yield figure(f"{what}: HED in bytes / in bytes", ms["HED, int8"] / ms["int8"], "x", goal=2)


def layers_of(net: HED) -> list[tuple[int, int]]:
    """Those looked at, as far as the network reaches."""
    return [(block, place) for block, place in LOOK_LAYERS if block <= net.depth]


def widest_steps(made: Int8HED, rgb: torch.Tensor) -> float:
    """How many times as large as usual the steps of the layer are that takes the widest."""
    wide, fitted = list[float](), hed_int8._fitted

    def told(*given: Any) -> hed_int8._Bytes:
        found = fitted(*given)
        wide.append(found.wide)
        return found

    with mock.patch.object(hed_int8, "_fitted", told):
        made.edges_and_features(rgb, layers_of(made))
    return max(wide)


if __name__ == "__main__":
    run_stage_bench("hed_int8", measure)
