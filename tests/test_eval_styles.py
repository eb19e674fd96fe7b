"""The style evaluation's own arithmetic, on pictures whose distances one can say aloud."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import eval_styles as styles

from streamstyle.nets.vgg import CONTENT_LAYER, STYLE_LAYERS, gram


def seen(features: torch.Tensor) -> styles.Look:
    return styles.Look(dict.fromkeys(STYLE_LAYERS, features), dict.fromkeys(STYLE_LAYERS, gram(features)))


def test_a_picture_is_at_no_distance_from_itself():
    rgb = np.random.default_rng(0).integers(0, 256, (32, 40, 3), np.uint8)
    same = seen(torch.rand(1, 4, 6, 8))
    found = styles.distances(rgb, same, same, same)
    assert set(found) == set(styles.MEASURES)
    assert [found[key] for key in styles.MEASURES[:3]] == [0, 0, 0]


def test_style_is_blind_to_places_and_content_to_nothing():
    features = torch.rand(1, 4, 6, 8)
    frame, moved = seen(features), seen(features.flip(3))
    found = styles.distances(np.zeros((9, 9, 3), np.uint8), moved, frame, frame)
    assert found["style distance"] == pytest.approx(0, abs=1e-6)
    expected = (features.flip(3) - features).square().sum() / features.square().sum()
    assert found["content distance"] == pytest.approx(float(expected))
    assert CONTENT_LAYER in STYLE_LAYERS, "the layers that are looked at hold it"


def test_features_without_anything_in_common_are_two_apart_whatever_their_strength():
    one, other = torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 3, 3)
    one[:, 0], other[:, 1] = 5, 0.1
    assert styles.feature_distance(seen(one), seen(other)) == pytest.approx(2)
    assert styles.feature_distance(seen(one), seen(one * 7)) == pytest.approx(0)


def test_two_scales_are_the_coarse_ones_strokes_and_the_fine_ones_detail():
    coarse = np.full((64, 64, 3), 90, np.uint8)
    fine = np.full((64, 64, 3), 200, np.uint8)
    assert np.array_equal(styles.fused(coarse, fine, 2), coarse)
    fine[:, ::2] -= 40
    both = styles.fused(coarse, fine, 2)
    assert abs(float(both.mean()) - 90) < 2
    assert styles.fine_detail(coarse) == 0
    assert styles.fine_detail(both) == pytest.approx(styles.fine_detail(fine), rel=0.1)


def test_sizes():
    assert styles.at_lines(np.zeros((90, 160, 3), np.uint8), 45).shape == (45, 80, 3)
    assert styles.at_lines(np.zeros((160, 90, 3), np.uint8), 180).shape == (320, 180, 3)
