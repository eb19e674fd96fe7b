"""That the measure of calm measures."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import draw_mottled

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import eval_calm

from streamstyle.nets.stylenet import StyleNet
from streamstyle.stages.stylize_regions import RegionStylizer

pytestmark = [pytest.mark.weights, pytest.mark.usefixtures("cached")]


@pytest.mark.parametrize("step_px", [0, 2])
def test_a_row(step_px: int) -> None:
    width, height = eval_calm.SIZE
    wide = draw_mottled(0, (width + 64, height))
    frames = [np.ascontiguousarray(wide[:, step_px * i : step_px * i + width]) for i in range(eval_calm.SETTLED + 2)]
    motion = np.zeros((height, width, 2), np.float32)
    motion[..., 0] = step_px
    stylenet, said = StyleNet.load(), list[str]()
    net = RegionStylizer(stylenet, torch.device("cpu"), torch.float32)
    row = eval_calm.measure(eval_calm.Film("film", frames, 19, motion), stylenet, net, said.append)
    assert row["frames"] == len(frames)
    assert row["warping error"] <= row["warping error alone"]
    assert row["pictures that differ"] == (None if step_px else 0)
    assert len(said) == 1
