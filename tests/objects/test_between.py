"""Frames that were carried, once the next is looked at: known from both sides, and from neither where that says
nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from streamstyle.objects.between import Between, Followed, revised
from streamstyle.objects.tracker import BACKGROUND
from streamstyle.objects.weighing import FOUND, Motion
from tests.oracles import iou

SIZE = (80, 120)
IT, OTHER = 1, 2


def square(left: int, width: int = 30) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[20:60, left : left + width] = True
    return mask


def frame(
    mask: np.ndarray, since: int, *, member: int = IT, slot: int = IT, speed: float = 4, trust: np.ndarray | None = None
) -> Followed:
    """One object that goes to the right over a ground that stands still."""
    flow = np.zeros((*SIZE, 2), np.float32)
    flow[mask, 0] = -speed
    steady = np.ones(SIZE, np.float32) if trust is None else trust
    slots = np.where(mask, slot, BACKGROUND).astype(np.int32)
    shares = np.where(mask, 0.9, 0.05).astype(np.float32)[None]
    motion = Motion(flow, steady=steady, trust=steady)
    return Followed(slots, shares, (member,), {slot: 7}, motion, since, repeats=False, shot=0, said=False)


def coming_out(member: int = IT) -> tuple[list[Followed], Followed, list[np.ndarray]]:
    """What stands still comes out by 6 pixels a frame from behind something, and is carried as it was seen first."""
    true = [square(30, 12 + 6 * i) for i in range(1, 5)]
    out = [np.where(square(42, 6 * i), 0.01, 1).astype(np.float32) for i in range(1, 5)]
    carried = [frame(square(30, 12), i, member=member, speed=0, trust=out[i - 1]) for i in range(1, 4)]
    last = np.where(square(30 + 12 + 18, 6), 0.01, 1).astype(np.float32)
    for i, shown in enumerate(carried):
        only = np.where(square(42 + 6 * i, 6), 0.01, 1).astype(np.float32)
        carried[i] = replace(shown, motion=replace(shown.motion, steady=only))
    return carried, frame(true[3], 0, member=member, speed=0, trust=last), true[:3]


@pytest.mark.parametrize("member", [IT, FOUND])
def test_what_came_out_is_known_from_behind(member):
    carried, seen, true = coming_out(member)
    for before, after, mask in zip(carried, revised(carried, seen), true, strict=True):
        assert after.dtype == np.int32
        assert iou(before.slots == IT, mask) < 0.7
        assert iou(after == IT, mask) > 0.95
        assert set(np.unique(after)) == {BACKGROUND, IT}


@pytest.mark.parametrize("member", [IT, FOUND])
def test_what_was_followed_well_stays_as_it_is(member):
    """What it uncovers at its back leads nowhere, and what it covers next is not seen behind."""
    uncovered = [np.where(square(16 + 4 * i, 4), 0.01, 1).astype(np.float32) for i in range(5)]
    carried = [frame(square(20 + 4 * i), i, member=member, trust=uncovered[i]) for i in range(1, 4)]
    found = revised(carried, frame(square(36), 0, member=member, trust=uncovered[4]))
    for i, slots in enumerate(found, start=1):
        assert iou(slots == IT, square(20 + 4 * i)) > 0.98


def test_in_a_still_film_nothing_changes():
    carried = [frame(square(20), i, speed=0) for i in range(1, 4)]
    for before, after in zip(carried, revised(carried, frame(square(20), 0, speed=0)), strict=True):
        np.testing.assert_array_equal(after, before.slots)


def test_a_frame_is_nearer_to_one_side():
    """What both sides say with the same right is decided by which of them is nearer."""
    carried = [frame(square(20), i, speed=0) for i in range(1, 4)]
    first, _, last = revised(carried, frame(square(20, 60), 0, speed=0))
    np.testing.assert_array_equal(first == IT, square(20))
    np.testing.assert_array_equal(last == IT, square(20, 60))


def test_a_frame_that_repeats_another_has_its_map():
    """Whichever of them is looked at."""
    first, second = frame(square(20), 1, speed=0), frame(square(20), 2, speed=0)
    again = replace(first, repeats=True)
    maps = revised([first, again, second, replace(second, repeats=True)], frame(square(20, 60), 0, speed=0))
    np.testing.assert_array_equal(maps[0], maps[1])
    np.testing.assert_array_equal(maps[2], maps[3])
    last = revised([first, again, second], replace(frame(square(20, 60), 0, speed=0), repeats=True))
    np.testing.assert_array_equal(last[2] == IT, square(20, 60))


def test_who_is_born_there_was_not_before():
    carried = [frame(square(20), i, speed=0) for i in range(1, 4)]
    seen = frame(square(20, 60), 0, speed=0)
    for other in (replace(seen, tracks={IT: 8}), replace(seen, members=(OTHER,))):
        for before, after in zip(carried, revised(carried, other), strict=True):
            np.testing.assert_array_equal(after, before.slots)


def test_pieces_keep_their_numbers():
    """Two things without a name, the second of which comes out later: it is itself, and not the first."""
    carried, seen, true = coming_out(FOUND)
    far = np.zeros(SIZE, bool)
    far[5:15, 70:100] = True

    def with_far(shown: Followed) -> Followed:
        shares = np.maximum(shown.shares, np.where(far, 0.9, 0).astype(np.float32))
        return replace(shown, slots=np.where(far, OTHER, shown.slots), shares=shares, tracks={IT: 7, OTHER: 9})

    for after, mask in zip(revised([with_far(one) for one in carried], with_far(seen)), true, strict=True):
        assert iou(after == IT, mask) > 0.95
        np.testing.assert_array_equal(after == OTHER, far)


def test_two_objects_know_each_other():
    carried, seen, true = coming_out()
    beside = square(90, 20)

    def with_other(shown: Followed) -> Followed:
        other = np.where(beside, 0.9, 0.05).astype(np.float32)[None]
        return replace(
            shown,
            slots=np.where(beside, OTHER, shown.slots),
            shares=np.concatenate([shown.shares, other]),
            members=(IT, OTHER),
            tracks={IT: 7, OTHER: 9},
        )

    for after, mask in zip(revised([with_other(one) for one in carried], with_other(seen)), true, strict=True):
        assert iou(after == IT, mask) > 0.95
        np.testing.assert_array_equal(after == OTHER, beside)


def test_frames_on_a_device_are_known_alike(device):
    def there(shown: Followed) -> Followed:
        parts = {name: torch.from_numpy(getattr(shown.motion, name)).to(device) for name in ("flow", "steady", "trust")}
        return replace(shown, shares=torch.from_numpy(shown.shares).to(device), motion=Motion(**parts))

    carried, seen, _ = coming_out()
    for host, found in zip(revised(carried, seen), revised([*map(there, carried)], there(seen)), strict=True):
        np.testing.assert_array_equal(found, host)


def test_where_nobody_is_followed_nothing_is_to_be_known():
    nobody = np.zeros(SIZE, bool)
    carried = [frame(nobody, i) for i in range(1, 4)]
    assert [slots.any() for slots in revised(carried, frame(nobody, 0))] == [False] * 3


def test_what_leaves_the_picture_is_no_error():
    carried = [frame(square(100 + 5 * i), i, speed=5) for i in range(1, 4)]
    found = revised(carried, frame(np.zeros(SIZE, bool), 0))
    assert [slots.shape for slots in found] == [SIZE] * 3


# -- as a film is read ------------------------------------------------------------------------------------------------


def test_maps_come_with_the_frame_that_is_looked_at():
    carried, seen, _ = coming_out()
    between = Between()
    for i, shown in enumerate(carried, start=5):
        assert between.step(i, shown) == []
        assert between.waits
    found = between.step(8, seen)
    assert [index for index, _ in found] == [5, 6, 7]
    np.testing.assert_array_equal([slots for _, slots in found], revised(carried, seen))
    assert not between.waits
    assert between.step(9, seen) == []


def test_what_a_person_says_tells_nothing_of_frames_before():
    carried, seen, _ = coming_out()
    between = Between()
    for i, shown in enumerate(carried):
        between.step(i, shown)
    assert between.step(3, replace(seen, said=True)) == []
    assert not between.waits


def test_nothing_is_known_through_a_cut():
    carried, seen, _ = coming_out()
    between = Between()
    for i, shown in enumerate(carried):
        between.step(i, shown)
    assert between.step(3, replace(seen, shot=1)) == []  # with its motion, from where that shot was left
    assert not between.waits
    between.step(4, carried[0])
    assert between.step(5, replace(carried[1], motion=Motion())) == []
    assert not between.waits


def test_where_nobody_tells_nothing_waits():
    between = Between()
    assert between.step(0, None) == []
    between.step(1, coming_out()[0][0])
    between.forget()
    assert not between.waits
