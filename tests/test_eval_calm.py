"""That the measure of calm measures."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import draw_mottled

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import common
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


def test_an_object_its_background_and_its_outline_have_a_row_each() -> None:
    frames, masks = [], []
    for i in range(eval_calm.SETTLED + 3):
        frame, mask = draw_mottled(0, (160, 120)), np.zeros((120, 160), bool)
        mask[30:90, 20 + 2 * i : 90 + 2 * i] = True
        frame[mask] = (200, 60, 40)
        frames.append(frame)
        masks.append(mask)
    rows = eval_calm.measure_objects(eval_calm.Film("film", frames, 19), masks, ("card", 19, 8))
    assert [(row["object"], row.get("style")) for row in rows] == [
        ("card", 19),
        ("background", 8),
        (eval_calm.OUTLINE, None),
    ]
    assert all(0 < row["warping error"] <= row["warping error alone"] for row in rows)
    assert all(0.5 < row["sharpness ratio"] < 1.5 for row in rows)


def test_only_what_counts_is_scored() -> None:
    left = np.zeros((40, 60), bool)
    left[:, :20] = True
    rng = np.random.default_rng(0)
    film = [np.zeros((40, 60, 3), np.float32) for _ in range(eval_calm.SETTLED + 2)]
    for picture in film:
        picture[:, 40:] = rng.random((40, 20, 3))
    flows = [(np.zeros((40, 60, 2), np.float32), np.ones((40, 60), bool))] * (len(film) - 1)
    assert eval_calm.scores(film, flows, [left] * len(film)) == (0.0, 0.0)
    assert min(eval_calm.scores(film, flows)) > 0.01
    assert eval_calm.without_border(left).sum() == 40 * (20 - eval_calm.MARGIN_PX)


def test_one_part_alone_leaves_the_others_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eval_calm, "RESULTS", tmp_path)
    monkeypatch.setattr(eval_calm, "DATA", tmp_path)
    monkeypatch.setattr(common, "RESULTS", tmp_path)

    def part(name: str, value: float) -> eval_calm.Part:
        return [eval_calm.figure(name, value, "x")], [{"name": name}]

    monkeypatch.setattr(eval_calm, "films_part", lambda count, say: part("films: ratio", 0.4))
    monkeypatch.setattr(eval_calm, "objects_part", lambda count, say: part("swan alone: ratio", 0.3))
    monkeypatch.setattr(eval_calm, "time_part", lambda count, say: part(f"{eval_calm.WHOLE}bikes", 1.2))
    monkeypatch.setattr(sys, "argv", ["eval_calm.py"])
    assert eval_calm.main([].append) == 0
    monkeypatch.setattr(eval_calm, "objects_part", lambda count, say: part("swan alone: ratio", 0.2))
    monkeypatch.setattr(sys, "argv", ["eval_calm.py", "--only", "objects"])
    assert eval_calm.main([].append) == 0
    found = json.loads((tmp_path / "calm.json").read_text())
    assert [row["value"] for row in found["figures"]] == [0.4, 0.2, 1.2]
    assert [len(found[name]) for name in ("films", "objects", "time")] == [1, 1, 1]
    assert found["objects"] == [{"name": "swan alone: ratio"}]
