"""Evidence of where an object is: motion beside the camera's, nearness, regions."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from streamstyle.objects.bodies import TIE
from streamstyle.objects.evidence import (
    ALIKE_WEIGHT,
    BORDER,
    MOVING_PX,
    MOVING_TIMES,
    NEAR_PX,
    STILL_TIMES,
    aimed_at,
    by_carried,
    drawn_to_bodies_,
    drawn_to_regions_,
    found_odds,
    held_against,
    moves_alike,
    moves_by_itself,
    moving_shares,
    near,
    own_motion,
    own_motions,
    region_means,
    with_newcomers,
)

SHAPE = (120, 160)


def square(y: int = 40, x: int = 50, side: int = 30, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[y : y + side, x : x + side] = True
    return mask


def field(
    rng: np.random.Generator, mask: np.ndarray, camera: tuple[float, float], moves: tuple[float, float], noise: float
) -> np.ndarray:
    """Flow [h, w, 2] of a camera that pans, and of a thing that moves beside it; see planes."""
    flow = np.zeros((*mask.shape, 2), np.float32) + np.float32(camera)
    flow[mask] += np.float32(moves)
    return flow + rng.normal(0, noise, flow.shape).astype(np.float32)


def planes(*field_of) -> np.ndarray:
    """A field as own_motion gives it, [2, h, w]."""
    return np.ascontiguousarray(np.moveaxis(field(*field_of), -1, 0))


# -- the camera's motion, and the rest ------------------------------------------------------------------------------


@pytest.mark.parametrize("camera", [(0.0, 0.0), (4.5, -1.5)])
def test_a_pan_is_taken_off_and_what_moves_beside_it_stays(camera):
    mask = square()
    own = own_motion(field(np.random.default_rng(0), mask, camera, (3.0, 1.0), 0.05))
    assert own.shape == (2, *SHAPE)
    assert own.dtype == np.float32
    np.testing.assert_allclose(np.median(own[:, ~mask], axis=1), 0, atol=0.05)
    np.testing.assert_allclose(np.median(own[:, mask], axis=1), (3, 1), atol=0.1)


def test_own_motions_of_many_frames_are_those_of_each():
    rng, mask = np.random.default_rng(0), square()
    flows = np.stack([field(rng, mask, (camera, 1.0), (3.0, 1.0), 0.05) for camera in (0.0, 2.5)])
    found = own_motions(torch.from_numpy(flows)).numpy()
    np.testing.assert_array_equal(found, [own_motion(flow) for flow in flows])


def test_a_zoom_is_the_cameras():
    height, width = SHAPE
    x, y = np.meshgrid(np.arange(width) - 80.0, np.arange(height) - 60.0)
    flow = (0.04 * np.stack([x, y], -1)).astype(np.float32)
    assert np.linalg.norm(flow, axis=-1).max() > 3
    assert np.abs(own_motion(flow)).max() < 0.1


def test_a_scene_that_stands_still_has_no_motion_of_its_own():
    assert np.abs(own_motion(np.zeros((*SHAPE, 2), np.float32))).max() < 1e-4


# -- does a pixel move as the object does? --------------------------------------------------------------------------


def around(mask: np.ndarray) -> np.ndarray:
    return (near(mask) > 0) & ~mask


@pytest.mark.parametrize("scale", [1, 2])
def test_motion_tells_an_object_as_it_was_carried_from_its_surroundings(scale):
    """Whatever the size of the picture: twice the pixels with twice the motion say the same."""
    shape = (SHAPE[0] * scale, SHAPE[1] * scale)
    truth = square(40 * scale, 50 * scale, 30 * scale, shape)
    carried = square(42 * scale, 52 * scale, 30 * scale, shape)  # it was carried here, a little beside the truth
    own = planes(np.random.default_rng(0), truth, (0, 0), (3.0 * scale, 0), 0.02)
    odds = moves_alike(own, carried, around(carried))
    assert odds is not None
    assert odds[~truth].max() < 0 < odds[truth].min()
    assert odds[carried & ~truth].max() < 0  # and so mends what was carried wrongly
    assert odds[truth].mean() == pytest.approx(-odds[~truth].mean(), rel=0.1)
    assert np.abs(odds).max() <= 3 * ALIKE_WEIGHT + 1e-6


def test_motion_counts_the_less_the_nearer_it_is_to_the_cameras():
    mask, rng = square(), np.random.default_rng(0)
    strengths = []
    for px in (0.5, 0.8, 1.3):  # of 240 lines twice that
        odds = moves_alike(planes(rng, mask, (0, 0), (px, 0), 0.001), mask, around(mask))
        strengths.append(0.0 if odds is None else float(-odds[~mask].mean()))
    assert 0 < strengths[0] < strengths[1] < strengths[2]


def test_motion_cannot_tell_what_moves_with_the_camera():
    mask = square()
    own = planes(np.random.default_rng(0), mask, (0, 0), (0.2, 0.1), 0.02)
    assert moves_alike(own, mask, around(mask)) is None


def test_motion_counts_for_nothing_where_it_does_not_tell_the_object_from_what_is_around():
    mask = square()
    there = around(mask)
    own = planes(np.random.default_rng(0), mask | there, (0, 0), (3.0, 0), 0.02)  # all around moves along
    odds = moves_alike(own, mask, there)
    assert odds is not None
    assert not odds.any()


def test_motion_of_nothing_or_in_nothing_cannot_tell():
    mask, none = square(), np.zeros(SHAPE, bool)
    own = planes(np.random.default_rng(0), mask, (0, 0), (3.0, 0), 0.02)
    assert moves_alike(own, none, mask) is None
    assert moves_alike(own, mask, none) is None


# -- does a pixel move by itself? -----------------------------------------------------------------------------------


def test_what_moves_by_itself_is_told_unasked():
    mask = square()
    odds = moves_by_itself(planes(np.random.default_rng(0), mask, (0, 0), (3.0, 0), 0.05))
    assert odds[mask].min() > 0 > odds[~mask].max()


def test_little_motion_is_none():
    mask = square()
    enough = MOVING_PX * SHAPE[0] / 240
    slow, fast = (
        moves_by_itself(planes(np.random.default_rng(0), mask, (0, 0), (px, 0), 0))
        for px in (0.8 * enough, 1.2 * enough)
    )
    assert slow[mask].max() < 0 < fast[mask].min()


def test_what_stands_out_of_ripples_is_told():
    """A swan on water: not MOVING_TIMES the median, for that ripples too, but far beyond all else."""
    mask = square()
    own = planes(np.random.default_rng(0), mask, (0, 0), (3.0, 0), 0.4)
    assert np.median(np.hypot(*own)) * MOVING_TIMES > 3.0
    odds = moves_by_itself(own)
    assert (odds[mask] > 0).mean() > 0.95
    assert (odds[~mask] > 0).mean() < 0.001


def test_where_all_is_astir_a_motion_must_stand_out():
    """Water, leaves: the same motion that is told in a quiet scene is not where the median pixel moves too."""
    mask, rng = square(), np.random.default_rng(0)
    quiet, astir = (moves_by_itself(planes(rng, mask, (0, 0), (3.0, 0), noise)) for noise in (0.05, 1.0))
    assert (quiet[mask] > 0).all()
    assert (astir[mask] > 0).mean() < 0.05


def test_the_share_of_each_slot_that_moves():
    slots = np.zeros(SHAPE, np.int32)
    slots[square()], slots[square(80, 100, 20)] = 1, 3
    odds = np.where(square(40, 50, 15), 1.0, -1.0)
    assert moving_shares(odds, slots, 5) == pytest.approx([0, 0.25, 0, 0, 0])


def test_what_stands_still_counts_more_in_a_firm_slot_alone():
    slots, odds = square().astype(np.int32), np.where(square(40, 50, 15), 0.5, -1.5)
    assert (held_against(odds, slots, np.array([False, False])) == odds).all()
    firm = held_against(odds, slots, np.array([False, True]))
    assert (firm[slots == 0] == -1.5).all()
    assert (firm[square() & ~square(40, 50, 15)] == STILL_TIMES * -1.5).all()
    assert (firm[square(40, 50, 15)] == 0.5).all()


# -- place ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1, 2])
def test_an_object_is_near_where_it_was(scale):
    mask = square(40 * scale, 60 * scale, 20 * scale, (SHAPE[0] * scale, SHAPE[1] * scale))
    found = near(mask)
    assert found.shape == mask.shape
    assert (found[mask] == 1).all()
    row, right = 50 * scale, 80 * scale - 1
    reach = NEAR_PX * SHAPE[0] * scale / 240
    distances = np.arange(mask.shape[1] - right)
    expected = np.clip(2 - distances / reach, 0, 1)
    np.testing.assert_allclose(found[row, right:], expected, atol=0.11)  # OpenCV's distance is a near one
    assert found[0, -1] == 0


def test_somebody_new_is_who_moves_by_itself_more_than_near_ground_does_whatever_that_looks_like():
    motion, rest = np.full((240, 427), -1.5, np.float32), np.zeros((240, 427), np.float32)
    motion[:, 200:300], motion[:, 300:400] = 0.2, 1.0
    rest[120:] = -1.75
    where = np.zeros((240, 427), bool)
    where[:, 80:] = True
    odds = with_newcomers(np.full((240, 427), -2.0, np.float32), rest, motion, where)
    assert (odds[:, :80] == -2).all()  # by all that is known
    for beyond in (odds - rest)[:120], (odds - rest)[120:]:
        assert (beyond[:, 80:300] < 0).all()
        assert (beyond[:, 300:400] > 1).all()


def test_what_nobody_named_is_held_less_by_where_it_was():
    share = np.array([[0.9, 0.2]], np.float32)
    named, found = (by_carried(share, named=named) for named in (True, False))
    assert (np.abs(found) < np.abs(named)).all()
    apart = found_odds(share, None, None, share.shape, named=True) - found_odds(share, None, None, share.shape)
    np.testing.assert_allclose(apart, named - found, atol=1e-6)


def test_nothing_is_near_nothing():
    assert not near(np.zeros(SHAPE, bool)).any()


@pytest.mark.parametrize("shape", [SHAPE, (33, 20), (1, 1)])
def test_cameras_aim_at_what_matters(shape):
    odds = aimed_at(shape)
    assert odds.shape == shape
    assert odds[0, 0] == pytest.approx(BORDER[0])
    np.testing.assert_allclose(odds, odds[::-1, ::-1])
    if min(shape) > 1:
        assert odds[shape[0] // 2, shape[1] // 2] == pytest.approx(BORDER[1])
        assert (np.diff(odds[shape[0] // 2, : shape[1] // 2]) >= 0).all()


# -- regions --------------------------------------------------------------------------------------------------------


def test_each_region_takes_its_mean():
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 7, SHAPE).astype(np.int32)
    ids[ids == 4] = 5  # one that is empty
    values = rng.random(SHAPE)
    means = region_means(values, ids, np.bincount(ids.ravel(), minlength=9))
    assert means.shape == (9,)
    assert not means[[4, 7, 8]].any()
    for region in np.unique(ids):
        np.testing.assert_allclose(means[region], values[ids == region].mean(), rtol=1e-5)


def test_regions_of_one_pixel_keep_their_values():
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    ids = np.arange(12, dtype=np.int32).reshape(3, 4)
    np.testing.assert_array_equal(region_means(values, ids, np.ones(12, np.int64))[ids], values)


@pytest.mark.parametrize("lines", [240, 480, 720])
def test_what_is_near_is_so_wherever_the_object_is(lines):
    mask = square(lines // 2, lines * 2 // 3, 5, (lines, lines * 4 // 3))
    distance = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 3)
    expected = np.clip(2 - distance / (NEAR_PX * lines / 240), 0, 1)
    np.testing.assert_allclose(near(mask), expected, atol=1e-6)


def test_a_share_is_drawn_to_a_region_that_agrees_and_not_to_one_of_two_minds():
    ids = np.zeros((40, 60), np.int32)
    ids[:, 20:40], ids[:, 40:] = 1, 2
    share = np.full(ids.shape, 0.5, np.float32)
    share[:, :20] = np.random.default_rng(0).uniform(0.5, 0.7, (40, 20))  # nearly at one
    share[:10, 20:40], share[10:, 20:40] = 1, 0  # an edge was missed: sure of both
    share[:, 40:] = 0.9
    before, areas = share.copy(), np.bincount(ids.ravel())
    drawn_to_regions_(share, ids, areas)
    assert share[:, :20].std() < 0.3 * before[:, :20].std()
    np.testing.assert_allclose(share[:, :20].mean(), before[:, :20].mean(), atol=1e-5)
    np.testing.assert_allclose(share[:, 20:], before[:, 20:], atol=1e-5)


def test_what_has_no_name_is_drawn_to_bodies_whatever_their_pixels_say():
    """Two regions that weak edges part, of means .5 and 0; with TIE of the way each is drawn to .25."""
    ids = np.zeros((40, 60), np.int32)
    ids[:, 30:] = 1
    share = np.zeros(ids.shape, np.float32)
    share[:20, :30] = 1
    tree = torch.zeros(2, dtype=torch.int32), torch.zeros(2, dtype=torch.int32)
    drawn_to_bodies_(share, ids, np.bincount(ids.ravel()), tree)
    left, right = (1 - TIE) * 0.5 + TIE * 0.25, TIE * 0.25
    np.testing.assert_allclose(share[:20, :30], 0.2 + 0.8 * left, atol=1e-6)
    np.testing.assert_allclose(share[20:, :30], 0.8 * left, atol=1e-6)
    np.testing.assert_allclose(share[:, 30:], 0.8 * right, atol=1e-6)
