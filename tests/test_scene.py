"""Batches of a film as the scene reader takes them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from streamstyle.config import AnalysisOptions
from streamstyle.frames import ColorTags
from streamstyle.look import Look
from streamstyle.objects import object_tracks
from streamstyle.scene import SceneReader, look_every

FRAMES, CUT = 12, 7
SIZE = (96, 144)


def luma(frame: int) -> np.ndarray:
    """A textured square that crosses a textured ground; another ground from the cut on."""
    rng = np.random.default_rng(frame >= CUT)
    ground = cv2.GaussianBlur(rng.integers(0, 256, SIZE, np.uint8), (0, 0), 1.5)
    ground = cv2.normalize(ground, None, 20 + 100 * (frame >= CUT), 90 + 100 * (frame >= CUT), cv2.NORM_MINMAX)
    thing = cv2.normalize(cv2.GaussianBlur(rng.integers(0, 256, (40, 40), np.uint8), (0, 0), 1), None, 130, 255, 32)
    left = 10 + 4 * frame
    ground[30:70, left : left + 40] = thing
    return ground


@pytest.mark.weights
@pytest.mark.parametrize("tracker", ["appearance", "overlap"])
def test_motion_found_for_batches_of_any_size_gives_the_same_film(asset, monkeypatch, tracker):
    """As on CUDA, where a batch's motion is found at once, in portions that the memory holds."""
    asset("hed")
    monkeypatch.setattr(object_tracks, "chosen", lambda impl, tensor: True)
    options = AnalysisOptions(tracker=tracker, analysis_size=SIZE[0], analyse_every=1)
    films = []
    for batch in (1, 3, 12):
        reader = SceneReader(Look(background="wave", foreground="ember"), options, torch.device("cpu"))
        reader.portions._together = 2
        looks = []
        for begin in range(0, FRAMES, batch):
            y = torch.from_numpy(np.stack([luma(i) for i in range(begin, begin + batch)]))
            grey = torch.full_like(y, 128)
            times_s = [i / 25 for i in range(begin, begin + batch)]
            scene = reader.read((y, grey, grey), ColorTags(), begin, times_s, (2 * SIZE[0], 2 * SIZE[1]))
            assert [shot > 0 for shot in scene.shots] == [i >= CUT for i in range(begin, begin + batch)]
            assert scene.looks is not None
            looks.append(scene.looks)
        films.append(np.concatenate(looks))
    assert 0.02 < films[0].mean() < 0.5
    np.testing.assert_array_equal(films[1], films[0])
    np.testing.assert_array_equal(films[2], films[0])


@pytest.mark.parametrize(
    ("said", "cpu", "cuda"),
    [
        ({}, 4, 1),
        ({"segmenter": "components"}, 4, 1),
        ({"tracker": "overlap"}, 4, 1),
        ({"tracker": "overlap", "segmenter": "components"}, 1, 1),
        ({"tracker": "overlap", "segmenter": "components", "analyse_every": 3}, 3, 3),
        ({"analyse_every": 7}, 7, 7),
    ],
)
def test_how_often_is_looked_and_always_where_it_is_as_published(said, cpu, cuda):
    options = AnalysisOptions(**said)
    assert (look_every(options, "cpu"), look_every(options, "cuda")) == (cpu, cuda)
