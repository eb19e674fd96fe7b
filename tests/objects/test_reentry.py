"""Found objects that leave and come back: who has an old number, and who a new one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from streamstyle.config import AnalysisOptions
from streamstyle.media.states import read_state, write_state
from streamstyle.objects.appearance_tracks import AppearanceTracks
from streamstyle.objects.host_weighing import HostWeighing
from streamstyle.objects.reentry import COLORS, MOST_GONE, Reentry, likeness
from streamstyle.objects.segmenter import Segmenter
from streamstyle.objects.tracker import Tracker
from tests.mottled_film import BLUE, GREY, RED, Film, Thing, rising, run, tracks_of

FRAMES = 36
GRID = (12, 16)
VIOLET = (150, 60, 160)
CHANNELS = 12
"""Of descriptions that are made up, and colours beside them."""


@pytest.fixture(scope="module")
def segmenter(cached: None) -> Segmenter:
    return Segmenter(AnalysisOptions(detail=0.5), torch.device("cpu"), features=True)


def out_and_back(y: int, *, out: bool = True, back: bool = True) -> Callable[[int], tuple[int, int] | None]:
    """To the right, out of the picture by frame 14, and in again from frame 20 on; or only one of the two."""

    def at(frame: int) -> tuple[int, int] | None:
        if frame < 17:
            return (y, 110 + 6 * frame) if out else None
        return (y, 310 - 6 * frame) if back else None

    return at


def numbers(tracks: AppearanceTracks, slots: np.ndarray, where: np.ndarray) -> set[int]:
    """Ids of the confirmed tracks in the part of a map where something is."""
    living = tracks.tracker.tracks
    return {living[slot].track_id for slot in np.unique(slots[where]) if slot and living[slot].confirmed}


# -- films ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two() -> Film:
    """Two things that leave together, and together come back."""
    return Film([Thing(RED, 40, out_and_back(8), round=True), Thing(BLUE, 40, out_and_back(90), round=True)])


@pytest.mark.weights
@pytest.mark.parametrize("every", [1, 3])
def test_who_comes_back_into_the_picture_has_its_number_again(segmenter, two, every):
    tracks = tracks_of(segmenter, every=every, find=True)
    before = list[set[int]]()
    for i, slots in enumerate(run(tracks, two, range(FRAMES))):
        if i == 8:
            before = [numbers(tracks, slots, two.seen(k, i)) for k in (0, 1)]
    assert [numbers(tracks, slots, two.seen(k, FRAMES - 1)) for k in (0, 1)] == before
    assert sorted(map(len, before)) == [1, 1]
    lives = {thing.track_id: (thing.first_frame < 6, thing.last_frame) for thing in tracks.report()}
    assert {lives[track_id] for ids in before for track_id in ids} == {(True, FRAMES - 1)}


@pytest.mark.weights
def test_who_was_hidden_has_its_number_again(segmenter):
    film = Film([Thing(RED, 40, rising(40, 0, 0, 4), round=True), Thing(GREY, 60, lambda _: (30, 80))])
    tracks = tracks_of(segmenter, every=2, find=True)
    hidden, first = False, set[int]()
    for i, slots in enumerate(run(tracks, film, range(38))):
        first = first or numbers(tracks, slots, film.seen(0, i))
        hidden |= i > 10 and not slots.any()
    assert hidden
    assert numbers(tracks, slots, film.seen(0, 37)) == first == {1}


@pytest.mark.weights
def test_another_thing_has_another_number(segmenter):
    film = Film(
        [
            Thing(RED, 40, out_and_back(50, back=False), round=True),
            Thing(VIOLET, 40, out_and_back(50, out=False), round=True),
        ]
    )
    tracks = tracks_of(segmenter, every=2, find=True)
    *_, last = run(tracks, film, range(FRAMES))
    assert numbers(tracks, last, film.seen(1, FRAMES - 1)) - {1} != set()
    assert {thing.track_id: thing.last_frame < 20 for thing in tracks.report()}[1]


@pytest.mark.weights
def test_of_two_alike_who_stays_keeps_its_number(segmenter):
    film = Film(
        [
            Thing(RED, 40, lambda i: (8, 20 + 3 * i), round=True),
            Thing(RED, 40, out_and_back(90), round=True),
        ]
    )
    tracks = tracks_of(segmenter, every=2, find=True)
    stays = set[int]()
    for i, slots in enumerate(run(tracks, film, range(FRAMES))):
        if i >= 6:
            stays |= numbers(tracks, slots, film.seen(0, i))
    assert len(stays) == 1
    assert not stays & numbers(tracks, slots, film.seen(1, FRAMES - 1))


@pytest.mark.weights
def test_nobody_comes_back_through_a_cut(segmenter):
    film = Film([Thing(RED, 40, out_and_back(50), round=True)])
    tracks = tracks_of(segmenter, every=2, find=True)
    *_, last = run(tracks, film, range(FRAMES), cut_at=(18,))
    assert numbers(tracks, last, film.seen(0, FRAMES - 1)) not in ({1}, set())


@pytest.mark.weights
@pytest.mark.parametrize("stop", [16, 24])
def test_a_job_that_goes_on_gives_the_same_numbers(segmenter, two, tmp_path: Path, stop):
    first, second = (tracks_of(segmenter, every=3, find=True) for _ in range(2))
    list(run(first, two, range(stop)))
    state = first.state_dict()
    rest = list(run(first, two, range(stop, FRAMES)))
    write_state(tmp_path / "state", state)  # later than it was taken, as a job in segments does it
    second.load_state_dict(read_state(tmp_path / "state"))
    assert all(map(np.array_equal, rest, run(second, two, range(stop, FRAMES))))
    assert first.report() == second.report()
    assert all(thing.last_frame == FRAMES - 1 for thing in first.report()[:2])


# -- looks without a network ------------------------------------------------------------------------------------------


class Stage:
    """A picture of GRID, of descriptions that are made up; things are columns of it."""

    def __init__(self) -> None:
        self.tracker, self.reentry = Tracker("components"), Reentry(torch.device("cpu"))
        self.tracker.start(1, 0)
        self._rng = np.random.default_rng(5)
        self._frame = 0

    def show(self, *things: tuple[int, int]) -> list[int]:
        """A frame with some things, each (its look, its first column of two); the ids of who is there."""
        x = self._rng.normal(0, 0.1, (*GRID, CHANNELS + COLORS))
        regions = np.zeros(GRID, np.int64)
        for k, (look, column) in enumerate(things, 1):
            x[:, column : column + 2, look] += 2
            regions[:, column : column + 2] = k
        x[..., -1] = 1
        count = self.tracker.slots
        before = np.zeros(GRID, np.int64) if self._frame == 0 else self._slots
        pairs = np.bincount((regions * count + before).ravel(), minlength=(len(things) + 1) * count)
        table = self.tracker.update(pairs.reshape(-1, count), self._frame, sure=False)
        self._slots = table[:, 0][regions].astype(np.int64)
        areas = np.bincount(self._slots.ravel(), minlength=self.tracker.slots)
        blocks = functools.partial(HostWeighing(self.tracker).blocks, self._slots.astype(np.int32), grid=GRID)
        self.reentry.step(self.tracker, areas, blocks, torch.from_numpy(x).float().flatten(0, 1))
        self.tracker.observe(areas, self._frame)
        self._frame += 1
        return [self.tracker.tracks[int(self._slots[0, column])].track_id for _, column in things]


def lasting(stage: Stage, *things: tuple[int, int], frames: int = 10) -> list[int]:
    for _ in range(frames):
        ids = stage.show(*things)
    return ids


def test_it_comes_back_at_another_place():
    stage = Stage()
    assert lasting(stage, (1, 2), (2, 8)) == [1, 2]
    lasting(stage, (1, 2), frames=5)
    assert stage.show((1, 2), (2, 13)) == [1, 2]


def test_who_is_there_shares_its_number_with_none():
    stage = Stage()
    assert lasting(stage, (1, 2), (1, 8)) == [1, 2]
    lasting(stage, (1, 2))
    assert lasting(stage, (1, 2), (1, 8)) == [1, 3]


def test_of_two_alike_that_are_gone_neither_comes_back():
    stage = Stage()
    lasting(stage, (1, 2), (1, 8))
    lasting(stage)
    assert lasting(stage, (1, 5)) == [3]


def test_of_two_alike_that_come_neither_is_the_one_that_left():
    stage = Stage()
    lasting(stage, (1, 2))
    lasting(stage)
    assert lasting(stage, (1, 2), (1, 8)) == [2, 3]


def test_who_lived_beside_it_was_never_the_same():
    stage = Stage()
    lasting(stage, (1, 2))
    stage.show((1, 2), (2, 8))
    assert lasting(stage, (1, 8), frames=12) == [2]


def test_what_flickered_and_never_was_an_object_is_not_remembered():
    stage = Stage()
    stage.show((1, 2))
    stage.show()
    stage.show()
    assert stage.reentry.state_dict() == {"living": [], "gone": []}


def test_what_was_seen_a_moment_is_no_rival():
    stage = Stage()
    lasting(stage, (1, 2), frames=6)
    stage.tracker.tracks[1].confirmed = True
    stage.show((1, 2), (1, 8))
    stage.tracker.tracks[2].confirmed = True  # as in the first frames of a shot
    stage.show((1, 2))
    lasting(stage, frames=2)
    assert [track.track_id for track in stage.tracker.ended] == [2, 1]
    assert lasting(stage, (1, 5)) == [1]


def test_what_is_remembered_is_bounded():
    stage = Stage()
    for look in range(MOST_GONE + 2):
        lasting(stage, (look, 2), frames=4)
        lasting(stage, frames=2)
    gone = stage.reentry.state_dict()["gone"]
    assert [track_id for track_id, _ in gone] == list(range(3, MOST_GONE + 3))
    assert lasting(stage, (0, 2)) == [MOST_GONE + 3]  # the first is forgotten
    lasting(stage, frames=2)
    assert stage.show((5, 2)) == [6]


def test_a_much_larger_thing_is_another():
    stage = Stage()
    lasting(stage, (1, 2))
    stage.show()
    stage.show()
    assert stage.tracker.ended[0].mean_area_px == 24
    stage.tracker.ended[0].area_sum_px //= 6
    assert lasting(stage, (1, 2)) == [2]


def test_likeness_is_by_what_sets_a_look_apart_from_the_frame():
    rng = np.random.default_rng(0)
    x = rng.normal(0, [5, 1, 1, 0], (500, 4))
    x[:, -1] = 1
    looks = torch.tensor([[9.0, 3, 0, 1], [-9.0, 3, 0, 1], [9.0, -3, 0, 1]])
    alike = likeness(looks, looks, torch.from_numpy(x).float(), 4)
    np.testing.assert_allclose(alike, alike.T, atol=1e-12)
    np.testing.assert_allclose(np.diag(alike), 1, atol=1e-12)
    # The first direction scatters most, so that it says least, though looks differ most in it.
    assert alike[0, 1] > 0.3 > -0.3 > alike[0, 2]


def test_likeness_is_by_the_channels_and_by_all():
    """Two looks of the same channels and opposite colours."""
    x = torch.from_numpy(np.random.default_rng(0).normal(0, 1, (500, 8))).float()
    looks = torch.tensor([[4.0, 0, 0, 0, 4, 0, 0, 0], [4.0, 0, 0, 0, -4, 0, 0, 0]])
    by_all, by_half = (likeness(looks, looks, x, channels)[0, 1] for channels in (8, 4))
    assert abs(by_all) < 0.1
    assert by_half == pytest.approx((1 + by_all) / 2, abs=0.05)


def test_in_a_flat_picture_nothing_fails():
    x = torch.full((6420, 106), 0.7)
    assert np.isfinite(likeness(x[:2], x[:3], x, 96)).all()
    assert np.isfinite(likeness(x[:2] + 1, x[:3] - 1, x, 96)).all()
