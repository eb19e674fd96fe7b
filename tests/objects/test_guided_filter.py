"""The guided filter: by its definition, on pictures with an answer, and what the object tracker does with it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from streamstyle.objects import guided_filter
from streamstyle.objects.bilateral_filter import REACH_PX
from streamstyle.objects.guided_filter import EPS, STRIDE, GuidedFilter, drawn_to_colors
from streamstyle.objects.host_weighing import HostWeighing, agreed
from streamstyle.objects.segmenter import Segmentation
from streamstyle.objects.tracker import Tracker
from streamstyle.objects.weighing import FOUND, Cast, Motion
from tests.mottled_film import mottled
from tests.oracles import iou

SIZE = (240, 320)


def two_colors() -> tuple[np.ndarray, np.ndarray]:
    """A red disc on mottled green: the picture [3, H, W] uint8, and where the disc is."""
    disc = cv2.circle(np.zeros(SIZE, np.uint8), (150, 125), 60, 1, -1) > 0
    picture = np.where(disc[..., None], mottled(0, SIZE, (190, 70, 50)), mottled(1, SIZE, (70, 105, 80)))
    return np.ascontiguousarray(picture.transpose(2, 0, 1)), disc


# -- the filter -----------------------------------------------------------------------------------------------------


def by_definition(picture: np.ndarray, values: np.ndarray, radius: int) -> np.ndarray:
    """He, Sun and Tang's equations 11 to 16, a window at a time; windows at STRIDE, mirrored at the border."""
    height, width = values.shape
    grid = (width // STRIDE, height // STRIDE)
    colors = picture.transpose(1, 2, 0).astype(np.float64) / 255
    small, map_ = (cv2.resize(x, grid, interpolation=cv2.INTER_AREA) for x in (colors, values.astype(np.float64)))
    small, map_ = (np.pad(x, [(radius, radius)] * 2 + [(0, 0)] * (x.ndim - 2), mode="symmetric") for x in (small, map_))
    planes = np.zeros((grid[1], grid[0], 4))
    for y, x in np.ndindex(planes.shape[:2]):
        window = np.s_[y : y + 2 * radius + 1, x : x + 2 * radius + 1]
        colour, value = small[window].reshape(-1, 3), map_[window].ravel()
        covariance = np.cov(colour.T, bias=True) + EPS * np.eye(3)
        slope = np.linalg.solve(covariance, ((colour - colour.mean(0)) * (value - value.mean())[:, None]).mean(0))
        planes[y, x] = [*slope, value.mean() - slope @ colour.mean(0)]
    planes = np.pad(planes, [(radius, radius)] * 2 + [(0, 0)], mode="symmetric")
    means = [planes[y : y + 2 * radius + 1, x : x + 2 * radius + 1].mean((0, 1)) for y, x in np.ndindex(grid[::-1])]
    planes = cv2.resize(np.array(means).reshape(grid[1], grid[0], 4), (width, height))
    return (planes[..., :3] * colors).sum(-1) + planes[..., 3]


@pytest.mark.parametrize(("size", "radius"), [((96, 128), 3), ((41, 54), 2), ((24, 20), 1)])
def test_it_is_the_filter_of_the_paper(size, radius):
    rng = np.random.default_rng(0)
    noise = cv2.GaussianBlur(rng.random((*size, 3)), (0, 0), 2)
    picture = np.uint8(255 * (noise - noise.min()) / np.ptp(noise)).transpose(2, 0, 1)
    values = cv2.GaussianBlur(rng.random(size).astype(np.float32), (0, 0), 2)
    found = GuidedFilter(picture, radius * STRIDE)(values)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, by_definition(picture, values, radius), atol=2e-5)


def test_a_mask_beside_its_object_moves_to_the_objects_border():
    picture, disc = two_colors()
    beside = np.roll(disc, (4, 5), (0, 1))
    found = GuidedFilter(picture, 12)(beside.astype(np.float32)) > 0.5
    assert iou(beside, disc) < 0.9
    assert iou(found, disc) > 0.93


@pytest.mark.parametrize("colour", [(0, 0, 0), (128, 128, 128), (255, 255, 255)])
def test_on_an_even_picture_it_is_a_blur(colour):
    """Nothing to follow, and no variance to divide by."""
    picture = np.full((3, *SIZE), np.uint8(colour)[:, None, None])
    _, disc = two_colors()
    found = GuidedFilter(picture, 12)(disc.astype(np.float32))
    assert found.min() > -1e-4
    assert found.max() < 1 + 1e-4
    assert found.mean() == pytest.approx(disc.mean(), rel=0.02)


def test_what_is_one_everywhere_stays():
    picture, _ = two_colors()
    np.testing.assert_allclose(GuidedFilter(picture, 12)(np.ones(SIZE, np.float32)), 1, atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (3, 2), (7, 5)])
def test_pictures_smaller_than_a_window(size):
    rng = np.random.default_rng(0)
    found = GuidedFilter(rng.integers(0, 256, (3, *size), np.uint8), 12)(rng.random(size, np.float32))
    assert found.shape == size
    assert np.isfinite(found).all()


# -- in the tracker -------------------------------------------------------------------------------------------------


def test_what_is_thin_fades_less(monkeypatch):
    """A line of the ground's own colour: windows smooth it away, DETAIL is the part of it that stays."""
    guided = GuidedFilter(np.full((3, *SIZE), 128, np.uint8), 12)
    line = np.zeros(SIZE, np.float32)
    line[:, 60:63] = 1
    kept, share = drawn_to_colors(line, guided)[50, 61], guided_filter.DETAIL
    monkeypatch.setattr(guided_filter, "DETAIL", 0.0)
    faded = drawn_to_colors(line, guided)[50, 61]
    assert faded < 0.2
    assert kept == pytest.approx(faded + share * (1 - faded), abs=1e-3)


def cast_of(*members: int) -> Cast:
    return Cast(members, (True,) * len(members), False)


def seen(picture: np.ndarray) -> Segmentation:
    """A picture of one region a pixel, so that regions change nothing."""
    ids = torch.arange(SIZE[0] * SIZE[1], dtype=torch.int32).view(SIZE)
    return Segmentation(ids, ids.numel(), torch.from_numpy(picture), ids, ids.numel())


def odds_of(mask: np.ndarray) -> np.ndarray:
    return np.where(mask, 2, -2).astype(np.float32)


def test_a_share_is_drawn_to_the_colours_inside_its_gate():
    picture, disc = two_colors()
    beside = np.roll(disc, (4, 5), (0, 1))
    gate = np.ones(SIZE, np.float32)
    gate[:100] = 0
    (share,) = agreed(np.zeros(SIZE, np.float32), [odds_of(beside)], [gate], seen(picture), cast_of(1))
    assert iou(share[100:] > 0.5, disc[100:]) > 0.93
    assert not share[: 100 - REACH_PX].any()


def test_shares_of_a_pixel_are_not_more_than_all_of_it():
    picture, disc = two_colors()
    left = np.zeros(SIZE, bool)
    left[:, :150] = True
    odds = [odds_of(disc & left), odds_of(disc & ~left)]
    shares = agreed(np.zeros(SIZE, np.float32), odds, [None, None], seen(picture), cast_of(1, 2))
    assert shares.min() >= 0
    assert shares.sum(0).max() <= 1 + 1e-6
    assert iou(shares.sum(0) > 0.5, disc) > 0.93


def test_what_is_found_follows_colours_only_around_where_it_was():
    picture, disc = two_colors()
    beside = np.roll(disc, (4, 5), (0, 1))
    around = np.zeros(SIZE, np.float32)
    around[:, 150:] = 1
    rest, odds = np.zeros(SIZE, np.float32), [odds_of(beside)]
    (plain,) = agreed(rest, odds, [None], seen(picture), cast_of(FOUND))
    (share,) = agreed(rest, odds, [around], seen(picture), cast_of(FOUND))
    assert iou(plain > 0.5, beside) > 0.99  # but for the last step, at borders
    np.testing.assert_array_equal(share[:, : 150 - 2 * REACH_PX], plain[:, : 150 - 2 * REACH_PX])
    assert iou(share[:, 150:] > 0.5, disc[:, 150:]) > 0.93


def test_a_firm_share_does_not_fade(monkeypatch):
    """On an even picture each pass is a blur: what says half stays, what is a little surer becomes so."""
    guided = GuidedFilter(np.full((3, *SIZE), 128, np.uint8), 12)
    assert drawn_to_colors(np.full(SIZE, 0.5, np.float32), guided)[50, 60] == pytest.approx(0.5, abs=1e-4)
    assert drawn_to_colors(np.full(SIZE, 0.7, np.float32), guided)[50, 60] > 0.75
    assert drawn_to_colors(np.full(SIZE, 0.3, np.float32), guided)[50, 60] < 0.25
    monkeypatch.setattr(guided_filter, "FIRMNESS", 1.0)
    assert drawn_to_colors(np.full(SIZE, 0.7, np.float32), guided)[50, 60] == pytest.approx(0.7, abs=1e-4)


def test_what_is_lost_is_rather_what_moves_by_itself():
    """Both look like it; one stands, one walks."""
    weighing = HostWeighing(Tracker("components"))
    slot = weighing.tracker.claim("it", 0)
    weighing.tracker.observe(np.array([0, 900]), 0)
    walks, stands = np.zeros(SIZE, bool), np.zeros(SIZE, bool)
    walks[20:40, 20:40] = stands[20:40, 80:100] = True
    look = np.where(walks | stands, 0.8, 0.1).astype(np.float32)
    own = np.zeros((2, *SIZE), np.float32)
    own[0, walks] = 4
    own += np.random.default_rng(0).normal(0, 0.05, own.shape).astype(np.float32)
    nowhere = np.zeros(SIZE, np.float32)
    odds, gate = weighing.named_odds(slot, nowhere, look, Motion(own=own))
    assert gate is None
    assert odds[walks].min() > odds[stands].max() + 0.5
    unmoved, _ = weighing.named_odds(slot, nowhere, look, Motion())
    assert odds[stands].max() == unmoved[stands].max()  # that it stands says nothing against it
    assert unmoved[walks].max() == unmoved[stands].max()
