"""Frames are followed in their order, each once, and held until nothing that comes changes what is known of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from streamstyle.frames import ColorTags
from streamstyle.media.states import read_state, write_state
from streamstyle.objects import area_filter, between
from streamstyle.objects.between import Followed
from streamstyle.objects.film_follower import FilmFollower
from streamstyle.objects.foresight import Coming
from streamstyle.objects.weighing import Motion
from streamstyle.shots import ShotDetector

SIZE = (12, 16)
EVERY = 4


class Steps:
    """Looks at every 4th frame; what it carries is its number, and so is what it sees."""

    every = EVERY
    followed: Followed | None = None

    def __init__(self) -> None:
        self.met, self.looked = list[int](), list[int]()
        self._since = 0

    def wants(self, index: int, shot: int, time_s: float) -> bool:
        return (index + 1) % EVERY == 0

    def step(
        self,
        luma: np.ndarray,
        found: Any,
        shot: int,
        index: int,
        time_s: float,
        size: tuple[int, int],
        motion: Sequence[Any] = (),
    ) -> np.ndarray:
        assert motion == [index]
        self.met.append(index)
        self.looked.extend([index] if found is not None else [])
        self._since = 0 if found is not None else self._since + 1
        slots = np.full(SIZE, index, np.int32)
        flow, sure = np.zeros((*SIZE, 2), np.float32), np.ones(SIZE, np.float32)
        moved = Motion(flow, steady=sure, trust=sure)
        self.followed = Followed(
            slots, np.ones((1, *SIZE), np.float32), (index,), {}, moved, self._since, False, shot, False
        )
        return slots


@pytest.fixture
def better(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known better of a frame is 100 more than what was carried."""
    monkeypatch.setattr(between, "revised", lambda carried, seen: [frame.slots + 100 for frame in carried])


def follower_of(tracks: Steps, noted: Callable[[], Any] = lambda: None) -> FilmFollower[Any]:
    def find(small: Any, color: ColorTags) -> list[Any]:
        return ["regions"] * len(small[0])

    return FilmFollower(tracks, ShotDetector(), find, noted)  # type: ignore[arg-type]


def follow(follower: FilmFollower[Any], number: int, **said: bool) -> None:
    luma = np.full(SIZE, 60, np.uint8)
    plane = torch.from_numpy(luma)[None]
    coming = Coming(number, (plane, plane, plane), ColorTags(), None)
    follower.step(luma, [number], number / 25, SIZE, coming, **said)


def numbers(follower: FilmFollower[Any], frames: range) -> list[int]:
    return [int(follower.take(number).slots[0, 0]) for number in frames]


@pytest.mark.usefixtures("better")
def test_frames_wait_for_one_that_is_looked_at():
    tracks = Steps()
    follower = follower_of(tracks)
    waits = []
    for number in range(8):
        follow(follower, number)
        waits.append(follower.waits)
    assert waits == [True, True, True, False] * 2
    assert (tracks.met, tracks.looked) == (list(range(8)), [3, 7])
    assert numbers(follower, range(8)) == [100, 101, 102, 3, 104, 105, 106, 7]
    assert not follower.held


@pytest.mark.usefixtures("better")
def test_where_no_more_come_they_stay_as_they_were_carried():
    follower = follower_of(Steps())
    for number in range(6):
        follow(follower, number)
    follower.end()
    assert not follower.waits
    assert numbers(follower, range(6)) == [100, 101, 102, 3, 4, 5]


@pytest.mark.usefixtures("better")
def test_where_none_may_wait_all_are_known_at_once():
    follower = follower_of(Steps())
    for number in range(4):
        follow(follower, number, may_wait=False)
        assert not follower.waits
        assert numbers(follower, range(number, number + 1)) == [number]


def test_what_slots_are_is_noted_when_a_frame_is_followed():
    tracks = Steps()
    follower = follower_of(tracks, lambda: tracks.met[-1])
    for number in range(4):
        follow(follower, number)
    assert [follower.take(number).noted for number in range(4)] == [0, 1, 2, 3]


@pytest.mark.usefixtures("better")
def test_frames_that_are_held_go_on_through_a_file(tmp_path: Path):
    tracks = Steps()
    first, second = follower_of(tracks, lambda: [np.arange(3), None]), follower_of(Steps())
    for number in range(4):
        follow(first, number)
    first.take(0)
    write_state(tmp_path / "state", first.state_dict())
    second.load_state_dict(read_state(tmp_path / "state"))
    assert list(second.held) == [1, 2, 3]
    for number in range(1, 4):
        there, here = second.take(number), first.take(number)
        np.testing.assert_array_equal(there.slots, here.slots)
        np.testing.assert_array_equal(there.luma, here.luma)
        np.testing.assert_array_equal(there.noted[0], here.noted[0])
        assert (there.shot, there.noted[1]) == (here.shot, None)


class Specked(Steps):
    """Shows one object, and a speck beside it; of which it tells where it may be known better."""

    tells = True

    def step(self, *args: Any, **more: Any) -> np.ndarray:
        slots = super().step(*args, **more)
        slots[:] = 0
        slots[2:9, 2:9] = slots[10, 14] = 1
        assert self.followed is not None
        self.followed = replace(self.followed, members=(1,), tracks={0: 0, 1: 7}) if self.tells else None
        return slots


@pytest.fixture
def large_specks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(area_filter, "SPECK_LINES", 1 / 5)
    monkeypatch.setattr(between, "revised", lambda carried, seen: [frame.slots for frame in carried])


@pytest.mark.usefixtures("large_specks")
@pytest.mark.parametrize("every", [EVERY, between.MOST_BETWEEN + 1])
def test_what_was_carried_is_without_specks_and_what_was_seen_as_it_was_seen(every: int):
    """Nothing of it reaches the frames that follow."""
    tracks = Specked()
    tracks.every = every
    follower = follower_of(tracks)
    for number in range(4):
        follow(follower, number)
    assert not follower.waits
    assert [int(follower.held[number].slots.sum()) for number in range(4)] == [50] * 4
    assert [int(follower.take(number).slots.sum()) for number in range(4)] == [49, 49, 49, 50]
    follow(follower, 4, may_wait=False)
    assert follower.take(4).slots.sum() == 49
    assert tracks.followed is not None
    assert tracks.followed.slots.sum() == 50


@pytest.mark.usefixtures("large_specks")
def test_maps_of_which_nobody_tells_more_stay_as_they_are():
    """Given ones, and those that are followed by overlap, as it was published."""
    tracks = Specked()
    tracks.tells = False
    follower = follower_of(tracks)
    for number in range(3):
        follow(follower, number)
        assert follower.take(number).slots.sum() == 50


@pytest.mark.usefixtures("large_specks")
def test_what_was_carried_is_without_specks_after_a_file_too(tmp_path: Path):
    first, second = follower_of(Specked()), follower_of(Specked())
    for number in range(2):
        follow(first, number)
    write_state(tmp_path / "state", first.state_dict())
    second.load_state_dict(read_state(tmp_path / "state"))
    assert [int(second.take(number).slots.sum()) for number in range(2)] == [49, 49]
