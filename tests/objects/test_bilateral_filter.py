"""The last step at borders: beside its definition, and what it is for."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from streamstyle.objects.bilateral_filter import COLOR, REACH_PX, SPACE_PX, smooth_borders_

SIZE = (48, 64)


def picture_of(*seeds: int) -> np.ndarray:
    return np.random.default_rng(seeds).integers(0, 256, (3, *SIZE), np.uint8)


def by_definition(shares: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """Tomasi and Manduchi's filter a pixel at a time, at the pixels whose square has both sides of a border."""
    found, height, width = shares.copy(), *SIZE
    for y, x in np.ndindex(*SIZE):
        square = np.s_[:, max(0, y - REACH_PX) : y + REACH_PX + 1, max(0, x - REACH_PX) : x + REACH_PX + 1]
        if not np.ptp(np.uint8(shares[square] > 0.5), axis=(1, 2)).any():
            continue
        sums, total = np.zeros(len(shares)), 0.0
        for down in range(-REACH_PX, REACH_PX + 1):
            for right in range(-REACH_PX, REACH_PX + 1):
                if down**2 + right**2 >= 2 * REACH_PX**2:
                    continue
                at = min(max(y + down, 0), height - 1), min(max(x + right, 0), width - 1)
                apart = ((picture[:, *at].astype(float) - picture[:, y, x]) ** 2).sum()
                weight = np.exp(-(down**2 + right**2) / (2 * SPACE_PX**2) - apart / (2 * COLOR**2))
                sums += weight * shares[:, *at]
                total += weight
        found[:, y, x] = sums / total
    return found


@pytest.mark.parametrize("count", [1, 3])
def test_it_is_the_filter_of_the_paper_at_borders(count):
    rng = np.random.default_rng(0)
    shares = np.stack([cv2.GaussianBlur(rng.random(SIZE, np.float32), (0, 0), 3) for _ in range(count)])
    shares = np.clip((shares - shares.mean()) * 8 + 0.45, 0, 1).astype(np.float32)
    picture = (picture_of(1) // 8 + 90).astype(np.uint8)
    expected = by_definition(shares, picture)
    assert (expected != shares).any()
    assert (expected == shares).all(0).any()
    smooth_borders_(shares, picture)
    np.testing.assert_allclose(shares, expected, atol=1e-5)


def test_a_ragged_border_takes_the_line_of_the_colours():
    picture = np.full((3, *SIZE), 60, np.uint8)
    picture[:, :, 32:] = 190
    true = np.zeros(SIZE, bool)
    true[:, 32:] = True
    share = np.where(true, 0.7, 0.3).astype(np.float32)
    share[::3, 31], share[1::3, 32] = 0.6, 0.4
    assert ((share > 0.5) != true).any()
    smooth_borders_(share[None], picture)
    np.testing.assert_array_equal(share > 0.5, true)


def test_what_is_of_another_colour_is_left_alone():
    """A line of one pixel, which a blur of that size would take away."""
    picture = np.full((3, *SIZE), 60, np.uint8)
    picture[:, :, 32] = 190
    share = np.zeros((1, *SIZE), np.float32)
    share[..., 32] = 1
    smooth_borders_(share, picture)
    np.testing.assert_allclose(share[0, :, 32], 1, atol=1e-4)
    assert share[0, :, [31, 33]].max() < 1e-4


def test_shares_of_a_pixel_stay_no_more_than_all_of_it():
    shares = np.random.default_rng(0).dirichlet(np.ones(4), SIZE).astype(np.float32)[..., :3].transpose(2, 0, 1).copy()
    smooth_borders_(shares, picture_of(2))
    assert shares.min() >= 0
    assert shares.sum(0).max() <= 1 + 1e-5


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_without_a_border_nothing_changes(value):
    shares = np.full((2, *SIZE), value, np.float32)
    smooth_borders_(shares, picture_of(3))
    assert (shares == value).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 2)])
def test_maps_smaller_than_its_reach(size):
    rng = np.random.default_rng(0)
    shares, picture = rng.random((2, *size), np.float32), rng.integers(0, 256, (3, *size), np.uint8)
    smooth_borders_(shares, picture)
    assert np.isfinite(shares).all()


def test_nobody_is_followed():
    smooth_borders_(np.zeros((0, *SIZE), np.float32), picture_of(4))
