"""Specks and pinholes, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from streamstyle.objects.area_filter import SPECK_SHARE, clear_specks_, pinholes, specks
from streamstyle.objects.host_weighing import HostCarried, HostWeighing
from streamstyle.objects.tracker import Tracker
from streamstyle.objects.weighing import FOUND, Cast


def drawn() -> np.ndarray:
    """A block of 40 x 50 in 120 x 160."""
    return box(30, 70, 40, 90)


def box(top: int, bottom: int, left: int, right: int) -> np.ndarray:
    mask = np.zeros((120, 160), bool)
    mask[top:bottom, left:right] = True
    return mask


def test_what_hangs_on_nothing_is_a_speck_and_a_corner_hangs_on():
    mask = drawn()
    mask[100:103, 20:23] = True  # alone
    mask[70, 90] = True  # by a corner
    small, holes = specks(mask)
    assert small.sum() == 9
    assert small[100:103, 20:23].all()
    assert not holes.any()


def test_a_pinhole_is_one_and_a_bay_is_none():
    mask = drawn()
    mask[40:43, 50:53] = False
    mask[30:34, 60:63] = False  # open to what lies around
    small, holes = specks(mask)
    assert not small.any()
    assert holes.sum() == 9
    assert holes[40:43, 50:53].all()


def test_what_is_large_beside_the_whole_is_a_part_of_it():
    mask = drawn()
    mask[100:105, 20:25] = True  # 25 of 2025 px
    mask[40:45, 50:55] = False
    small, holes = specks(mask)
    assert not small.any()
    assert not holes.any()


def test_a_bay_at_the_frames_border_is_no_hole():
    mask = np.ones((480, 640), bool)  # the frame's rim is shorter than a hundredth of its area
    mask[0:3, 50:53] = False
    assert not specks(mask)[1].any()


@pytest.mark.parametrize("fill", [False, True])
def test_nothing_and_all_have_none(fill):
    small, holes = specks(np.full((12, 16), fill))
    assert not small.any()
    assert not holes.any()


def test_an_object_that_is_tiny_is_not_its_own_speck():
    mask = np.zeros((120, 160), bool)
    mask[5, 5] = True
    assert not specks(mask)[0].any()


def test_followed_objects_have_neither():
    """An object's map in a frame, from shares that have them; another object in a pinhole stays what it is."""
    shares = np.zeros((2, 120, 160), np.float32)
    shares[0][drawn()] = 0.9
    shares[0][100:103, 20:23] = 0.9  # a speck
    shares[0][40:43, 50:53] = 0.2  # a pinhole
    shares[0][50:53, 70:73], shares[1][50:53, 70:73] = 0.1, 0.9  # another object, and a rim about it
    shares[0][49, 70:73] = 0.2
    weighing = HostWeighing(Tracker("components"))
    weighing.settle(torch.from_numpy(shares), HostCarried(None, None), Cast((3, 4), (True, True), False))
    slots = weighing.name(None)
    np.testing.assert_array_equal(slots == 4, shares[1] > 0.5)
    np.testing.assert_array_equal(slots == 3, drawn() & (shares[1] < 0.5))


def test_pinholes_of_what_has_no_name_are_its_pieces():
    """Each of the piece to its left; one in a piece that is too small to be any stays the background's."""
    found = np.zeros((120, 160), np.float32)
    found[drawn()] = found[80:110, 100:150] = 0.9
    found[40:42, 50] = found[90, 120:122] = 0.2  # a pinhole in each
    found[50:54, 70:75] = 0.2  # more than one
    found[10:15, 10:15], found[12, 12] = 0.9, 0  # a speck that has one
    weighing = HostWeighing(Tracker("components"))
    overlap, _ = weighing.settle(torch.from_numpy(found[None]), HostCarried(None, None), Cast((FOUND,), (True,), True))
    slots = weighing.name(np.array([0, 5, 7]))
    assert overlap[:, 0].tolist() == [120 * 160 - 1980 - 1500, 1980, 1500]
    np.testing.assert_array_equal(slots == 5, drawn() & ~box(50, 54, 70, 75))
    np.testing.assert_array_equal(slots == 7, box(80, 110, 100, 150))
    assert not slots[:20, :20].any()


def test_a_named_object_in_a_pinhole_stays_what_it_is():
    shares = np.zeros((2, 120, 160), np.float32)
    shares[0][drawn()] = 0.9
    shares[0][40, 50:52], shares[1][40, 51] = 0.1, 0.9  # a rim beside it
    weighing = HostWeighing(Tracker("components"))
    weighing.settle(torch.from_numpy(shares), HostCarried(None, None), Cast((FOUND, 4), (True, True), False))
    slots = weighing.name(np.array([0, 3]))
    assert slots[40, 49:54].tolist() == [3, 3, 4, 3, 3]
    np.testing.assert_array_equal(slots > 0, drawn())


def test_specks_go_before_pinholes_are_filled():
    """Whoever's turn is first: a speck of one in a pinhole of another is filled."""
    for order in ((3, 8), (8, 3)):
        slots = np.where(drawn(), 3, 0).astype(np.int32)
        slots[80:110, 40:90] = 8
        slots[40, 50], slots[90, 50] = 8, 3
        slots[100, 20] = 3
        clear_specks_(slots, dict.fromkeys(order, SPECK_SHARE), 0)
        np.testing.assert_array_equal(slots, 3 * drawn() + 8 * box(80, 110, 40, 90))


def test_what_is_a_speck_beside_the_whole_is_none_for_its_size_alone():
    mask = drawn()
    mask[100:103, 20:23] = True  # 9 of 2009 px
    mask[110, 20] = True
    mask[40:43, 50:53] = False
    small, holes = specks(mask, 0)
    assert np.argwhere(small).tolist() == [[110, 20]]
    assert not holes.any()
    slots = np.where(mask, 5, 0).astype(np.int32)
    clear_specks_(slots, {5: 0.0}, 0)
    np.testing.assert_array_equal(slots == 5, mask & ~small)


def test_a_gap_between_two_is_nobodys():
    slots = np.where(drawn(), 3, 0).astype(np.int32)
    slots[30:70, 65:90] = 8
    slots[50, 64:66] = 0
    expected = slots.copy()
    clear_specks_(slots, dict.fromkeys((3, 8), SPECK_SHARE), 0)
    np.testing.assert_array_equal(slots, expected)


def test_a_bay_at_a_border_is_no_pinhole():
    mask = np.ones((120, 160), bool)
    mask[0, 40] = mask[30, 0] = mask[30, 40] = False
    assert np.argwhere(pinholes(mask)).tolist() == [[30, 40]]


def test_an_island_in_a_pinhole_goes_with_it():
    found = np.zeros((480, 640), np.float32)
    found[100:300, 100:300] = 0.9
    found[200:203, 200:203], found[201, 201] = 0.1, 0.9
    weighing = HostWeighing(Tracker("components"))
    weighing.settle(torch.from_numpy(found[None]), HostCarried(None, None), Cast((FOUND,), (True,), True))
    assert (weighing.name(np.array([0, 4]))[100:300, 100:300] == 4).all()


def test_a_settled_map_has_nothing_left_to_clear():
    """So that frames that were looked at and those that were carried from them are alike."""
    rng = np.random.default_rng(3)
    for _ in range(10):
        shares = np.zeros((3, 120, 160), np.float32)
        for share in shares:
            y, x = rng.integers(0, 90, 2)
            share[y : y + 40, x : x + 60] = 1
        noise = rng.random(shares.shape) < 0.02
        shares[noise] = 1 - shares[noise]
        shares /= np.maximum(1, shares.sum(0))
        weighing = HostWeighing(Tracker("components"))
        overlap, _ = weighing.settle(
            torch.from_numpy(shares), HostCarried(None, None), Cast((1, 2, FOUND), (True,) * 3, True)
        )
        slots = weighing.name(np.array([0, *range(3, len(overlap) + 2)]))
        again = slots.copy()
        clear_specks_(again, {1: SPECK_SHARE, 2: SPECK_SHARE} | dict.fromkeys(range(3, len(overlap) + 2), 0.0), 0)
        assert (again != slots).mean() < 1e-3
