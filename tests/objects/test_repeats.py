"""Frames that repeat the one before."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from streamstyle.objects.evidence import moves_by_itself, own_motion
from streamstyle.objects.repeats import MOST_REPEATS, REPEATED_PX, Repeats
from streamstyle.objects.weighing import Motion

SIZE = (60, 80)
HOST = torch.device("cpu")


def flow(thing_px: float, rest_px: float = 0.0) -> np.ndarray:
    """A thing that moves, over ground that does, or does not."""
    moved = np.full((*SIZE, 2), rest_px, np.float32)
    moved[20:40, 30:50, 0] += thing_px
    return moved


def on_host(moved: np.ndarray) -> Motion:
    return Motion(moved)


def on_device(moved: np.ndarray) -> Motion:
    """As a device tells it: tensors, and a number for the host."""
    own = own_motion(moved)
    parts = (torch.from_numpy(part) for part in (moved, own, moves_by_itself(own)))
    return Motion(*parts, farthest_px=float(np.abs(moved).max()))


WAYS = pytest.mark.parametrize("told", [on_host, on_device])
COPY = flow(0.5 * REPEATED_PX, 0.2 * REPEATED_PX)
"""The motion of a copy that an encoder made."""


@WAYS
def test_a_frame_in_which_nothing_moves_repeats_the_one_before_so_often(told):
    repeats = Repeats(HOST)
    said = [repeats.step(told(moved)) for moved in (COPY, flow(5), *[COPY] * (MOST_REPEATS + 2), flow(5), COPY)]
    assert said == [False, False, *[True] * MOST_REPEATS, False, True, False, True]


def test_where_nobody_knows_the_motion_nothing_repeats():
    repeats = Repeats(HOST)
    assert not repeats.step(on_host(flow(5)))
    assert not repeats.step(Motion())


@WAYS
def test_it_moves_as_the_one_before(told):
    repeats = Repeats(HOST)
    moving, copy = told(flow(5)), told(COPY)
    repeats.step(moving)
    assert repeats.step(copy)
    motion = repeats.as_before(copy)
    assert motion.flow is copy.flow
    expected = own_motion(flow(5))
    np.testing.assert_allclose(np.asarray(motion.own), expected, atol=1e-2)
    if told is on_device:
        np.testing.assert_allclose(np.asarray(motion.moving), moves_by_itself(expected), atol=1e-2)
    assert motion.moving is None or told is on_device


@WAYS
def test_a_state_goes_on_alike_and_a_shot_begins_anew(told):
    first, second = Repeats(HOST), Repeats(HOST)
    for moved in (flow(5), COPY):
        first.step(told(moved))
    second.load_state_dict(first.state_dict())
    for _ in range(MOST_REPEATS):
        copy = told(COPY)
        assert first.step(copy) == second.step(copy)
        one, other = first.as_before(copy), second.as_before(copy)
        assert np.array_equal(np.asarray(one.own), np.asarray(other.own))
    second.reset()
    assert not second.step(told(COPY))
    empty = Repeats(HOST)
    empty.load_state_dict(Repeats(HOST).state_dict())
    assert not empty.step(told(COPY))
