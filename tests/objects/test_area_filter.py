"""Specks and pinholes, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from streamstyle.objects.area_filter import specks
from streamstyle.objects.host_weighing import HostCarried, HostWeighing
from streamstyle.objects.tracker import Tracker
from streamstyle.objects.weighing import Cast


def drawn() -> np.ndarray:
    """A block of 40 x 50 in 120 x 160."""
    mask = np.zeros((120, 160), bool)
    mask[30:70, 40:90] = True
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
