"""Objects followed by all that is known of them, in films with an answer: mottled things over a mottled ground."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from streamstyle.config import AnalysisOptions
from streamstyle.media.states import read_state, write_state
from streamstyle.objects.appearance_tracks import EAGER_FRAMES, AppearanceTracks
from streamstyle.objects.between import Between
from streamstyle.objects.evidence import STILL_TIMES
from streamstyle.objects.host_weighing import HostWeighing
from streamstyle.objects.segmenter import Segmentation, Segmenter
from streamstyle.objects.tracker import Tracker
from streamstyle.objects.weighing import MUST_MOVE_LOOKS, Motion, lost_below_px
from tests.mottled_film import BLUE, GREEN, GREY, RED, SIZE, Film, Thing, named, rising, run, tracks_of
from tests.oracles import iou


@pytest.fixture(scope="module")
def segmenter(cached: None) -> Segmenter:
    return Segmenter(AnalysisOptions(detail=0.5), torch.device("cpu"), features=True)


def slot_of(tracks: AppearanceTracks, name: str) -> int:
    (slot,) = (slot for slot, track in tracks.tracker.tracks.items() if track.name == name)
    return slot


def labels(film: Film, frame: int = 0) -> np.ndarray:
    """A mask of all things, numbered from 1."""
    drawn = np.zeros(SIZE, np.uint8)
    for k in range(len(film.things)):
        drawn[film.seen(k, frame)] = k + 1
    return drawn


def enough(frame: int, every: int) -> float:
    """The least IoU: of a frame that is looked at, and of one that a map is only carried to."""
    return 0.85 if frame == 0 or (frame + 1) % every == 0 else 0.55


# -- a named object -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def walk() -> Film:
    """A square that goes its way over a ground that moves too."""
    return Film([Thing(RED, 36, rising(30, 20, 1, 3))], pan=1)


@pytest.mark.weights
@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize("how", ["mask", "point"])
def test_a_named_object_keeps_its_slot_for_thirty_frames(segmenter, walk, every, how):
    place = {"mask": 1} if how == "mask" else {"point": (38, 48)}
    tracks = tracks_of(segmenter, named("it", **place), every=every, drawn=labels(walk))
    for i, slots in enumerate(run(tracks, walk, range(30))):
        assert iou(slots == slot_of(tracks, "it"), walk.seen(0, i)) > enough(i, every), f"frame {i}"
        assert set(np.unique(slots)) <= {0, slot_of(tracks, "it")}
    (report,) = tracks.report()
    assert (report.name, report.first_frame, report.last_frame) == ("it", 0, 29)
    assert report.mean_area_px == pytest.approx(36 * 36, rel=0.1)
    assert tracks.lost() == []


@pytest.mark.weights
@pytest.mark.parametrize(("every", "find"), [(1, True), (4, True), (4, False)])
def test_in_a_still_film_nothing_changes(segmenter, every, find):
    """However often it is looked at; and what a person says of a later frame counts there."""
    still = Film([Thing(RED, 36, rising(40, 40, 0, 0)), Thing(BLUE, 30, rising(70, 120, 0, 0))])
    places = named("red", point=(58, 58)), named("blue", 0.24, point=(135, 85))
    tracks = tracks_of(segmenter, *places, every=every, find=find)
    maps = list(run(tracks, still, range(14)))
    for first, last in ((0, 6), (6, 14)):
        for slots in maps[first:last]:
            np.testing.assert_array_equal(slots, maps[first])
    assert iou(maps[0] == slot_of(tracks, "red"), still.seen(0, 0)) > 0.85
    assert iou(maps[6] == slot_of(tracks, "blue"), still.seen(1, 0)) > 0.85


@pytest.mark.weights
def test_a_mask_is_taken_as_drawn(segmenter, walk):
    drawn = np.zeros(SIZE, np.uint8)
    drawn[40:60, 30:50] = 7
    tracks = tracks_of(segmenter, named("it", mask=7), drawn=drawn)
    (slots,) = run(tracks, walk, range(1))
    np.testing.assert_array_equal(slots > 0, drawn > 0)


@pytest.fixture(scope="module")
def hidden() -> Film:
    """A square that goes behind a post, is not seen at all for five frames, and comes out."""
    film = Film([Thing(RED, 30, rising(50, 10, 0, 3)), Thing(GREY, 44, lambda _: (43, 70))])
    assert [i for i in range(40) if not film.seen(0, i).any()] == [20, 21, 22, 23, 24]
    return film


@pytest.mark.weights
@pytest.mark.parametrize("every", [1, 2])
def test_an_object_is_found_again_after_it_was_hidden(segmenter, hidden, every):
    tracks = tracks_of(segmenter, named("it", mask=1), every=every, drawn=labels(hidden))
    found = list(run(tracks, hidden, range(44)))
    it = slot_of(tracks, "it")
    for i in range(44):
        there = hidden.seen(0, i)
        if there.sum() == 900:
            assert iou(found[i] == it, there) > 0.8, f"frame {i}"
        if not there.any():  # a rim may be carried once more
            looked_at = i % every == every - 1
            assert (found[i] == it).sum() < (90 if looked_at else 120), f"frame {i}"
    (report,) = tracks.report()
    assert (report.name, report.last_frame) == ("it", 43)


@pytest.mark.weights
def test_what_is_refused_far_from_the_object_is_told_from_it(segmenter):
    """Before anything of it was taken, as what lies beside the object is told from it."""
    film = Film([Thing(RED, 34, rising(56, 10, 0, 2)), Thing((170, 90, 60), 34, lambda _: (56, 150))])
    taken = []
    for refused in ([], [named("it", point=(166, 72), remove=True)]):
        tracks = tracks_of(segmenter, named("it", mask=1), *refused, drawn=np.uint8(labels(film) == 1))
        list(run(tracks, film, range(2)))
        small = tracks._look(film.found(segmenter, 2))
        look = F.interpolate(small[None], size=SIZE, mode="bilinear")[0].numpy()
        assert look[1][film.seen(0, 2)].mean() > 0.8
        taken.append(float(look[1][film.seen(1, 2)].mean()))
    assert taken[1] < taken[0] / 2


@pytest.mark.weights
def test_what_is_taken_out_of_an_object_stays_out(segmenter):
    film = Film([Thing(RED, 30, rising(60, 20, 0, 2)), Thing(BLUE, 30, rising(30, 20, 0, 2))])
    drawn = np.uint8(labels(film) > 0)  # both as one
    at = 8
    y, x = 45, 20 + 2 * at + 15
    tracks = tracks_of(segmenter, named("it", mask=1), named("it", at / 25, point=(x, y), remove=True), drawn=drawn)
    found = list(run(tracks, film, range(24)))
    it = slot_of(tracks, "it")
    for i in range(24):
        both = film.seen(0, i) | film.seen(1, i)
        assert iou(found[i] == it, both if i < at else film.seen(0, i)) > 0.8, f"frame {i}"


@pytest.mark.weights
def test_what_is_taken_out_where_no_region_is_leaves_the_region_beside_it(segmenter):
    """What was drawn too large, a strip of the ground beside the square, and a patch of it elsewhere."""
    film = Film([Thing(RED, 30, rising(60, 40, 0, 2))])
    drawn = np.uint8(labels(film) > 0)
    drawn[60:90, 70:90] = drawn[110:130, 120:140] = 1
    for taken, left in ((80, 75), (130, 120)), ((130, 120), (80, 75)):
        tracks = tracks_of(segmenter, named("it", mask=1), named("it", point=taken, remove=True), drawn=drawn)
        (slots,) = run(tracks, film, range(1))
        assert film.found(segmenter, 0).ids[taken[1], taken[0]] == 0
        assert not slots[taken[1], taken[0]]
        assert slots[left[1], left[0]]
        assert slots[film.seen(0, 0)].mean() > 0.9


@pytest.mark.weights
def test_who_is_taken_away_is_not_lost(segmenter):
    film = Film([Thing(RED, 30, rising(60, 20, 0, 2))])
    at, drawn = 6, np.uint8(labels(film) > 0)
    y, x = 75, 20 + 2 * at + 15
    for taken, lost in ([], []), ([named("it", at / 25, point=(x, y), remove=True)], []):
        tracks = tracks_of(segmenter, named("it", mask=1), *taken, drawn=drawn)
        found = list(run(tracks, film, range(16)))
        assert bool(found[-1].any()) is not bool(taken)
        assert tracks.lost() == lost


@pytest.mark.weights
def test_an_object_named_later_is_followed_from_then_on(segmenter, walk):
    tracks = tracks_of(segmenter, named("it", 10 / 25, point=(20 + 30 + 18, 30 + 10 + 18)), every=4)
    found = list(run(tracks, walk, range(24)))
    it = slot_of(tracks, "it")
    assert not any(slots.any() for slots in found[:10])
    for i in range(10, 24):
        assert iou(found[i] == it, walk.seen(0, i)) > enough(i, 4), f"frame {i}"
    assert tracks.pending == ()


@pytest.mark.weights
def test_an_object_named_later_does_not_take_the_first_one(segmenter):
    film = Film([Thing(RED, 30, rising(20, 20, 0, 2)), Thing(BLUE, 30, rising(90, 140, 0, -2))])
    one, other = named("one", mask=1), named("other", 8 / 25, point=(140 - 16 + 15, 105))
    tracks = tracks_of(segmenter, one, other, drawn=labels(film))
    found = list(run(tracks, film, range(20)))
    for i in range(20):
        assert iou(found[i] == slot_of(tracks, "one"), film.seen(0, i)) > 0.8, f"frame {i}"
        if i >= 8:
            assert iou(found[i] == slot_of(tracks, "other"), film.seen(1, i)) > 0.8, f"frame {i}"


@pytest.mark.weights
def test_two_objects_that_cross_keep_their_names(segmenter):
    film = Film([Thing(RED, 32, rising(50, 10, 0, 4)), Thing(BLUE, 32, rising(60, 150, 0, -4))])
    tracks = tracks_of(segmenter, named("red", mask=1), named("blue", mask=2), drawn=labels(film))
    found = list(run(tracks, film, range(34)))
    assert min(film.seen(0, i).sum() for i in range(34)) < 0.4 * 32 * 32  # they do cross
    for i in range(34):
        assert iou(found[i] == slot_of(tracks, "blue"), film.seen(1, i)) > 0.75, f"frame {i}"
        if film.seen(0, i).sum() == 32 * 32:
            assert iou(found[i] == slot_of(tracks, "red"), film.seen(0, i)) > 0.75, f"frame {i}"


@pytest.mark.weights
def test_an_object_leaves_the_picture_and_is_nowhere_else(segmenter):
    film = Film([Thing(RED, 30, rising(50, 120, 0, 5))])
    tracks = tracks_of(segmenter, named("it", mask=1), drawn=labels(film))
    found = list(run(tracks, film, range(24)))
    assert not film.seen(0, 15).any()
    for slots in found[16:]:
        assert slots.astype(bool).mean() < 0.01


# -- without a word -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rolling() -> Film:
    return Film([Thing(RED, 40, rising(50, 20, 0, 3), round=True)])


@pytest.mark.weights
@pytest.mark.parametrize("every", [1, 4])
def test_what_moves_by_itself_is_found_and_is_one_track(segmenter, rolling, every):
    tracks = tracks_of(segmenter, every=every, find=True)
    found = list(run(tracks, rolling, range(30)))
    ids = {int(slot) for slots in found for slot in np.unique(slots)} - {0}
    assert len(ids) == 1
    for i in range(EAGER_FRAMES, 30):
        assert iou(found[i] > 0, rolling.seen(0, i)) > enough(i, every), f"frame {i}"
    (report,) = tracks.report()
    assert (report.track_id, report.name, report.last_frame) == (1, None, 29)
    assert report.first_frame < EAGER_FRAMES


@pytest.mark.weights
def test_what_begins_to_move_later_is_found_at_once(segmenter):
    """For twelve frames it was learned as background, and it moves no more than counts as motion."""
    film = Film([Thing(RED, 40, lambda i: (50, round(20 + 1.5 * max(0, i - 12))), round=True)])
    found = list(run(tracks_of(segmenter, find=True), film, range(30)))
    assert not any(slots.any() for slots in found[:13])
    for i in range(14, 30):
        assert iou(found[i] > 0, film.seen(0, i)) > 0.85, f"frame {i}"


@pytest.mark.weights
@pytest.mark.parametrize("every", [1, 4])
def test_who_begins_to_move_while_another_is_followed_is_found_too(segmenter, every):
    first = Thing(RED, 36, lambda i: (20, 10 + 3 * i), round=True)
    second = Thing(BLUE, 36, lambda i: (96, 140 - 3 * max(0, i - 12)), round=True)
    film, halves = Film([first, second]), (np.indices(SIZE)[0] < 72, np.indices(SIZE)[0] >= 72)
    found = list(run(tracks_of(segmenter, every=every, find=True), film, range(30)))
    assert not any((slots > 0)[film.seen(1, i)].any() for i, slots in enumerate(found[:13]))
    for i in range(16, 30, every):
        for k in (0, 1):
            assert iou((found[i] > 0) & halves[k], film.seen(k, i)) > 0.8, f"frame {i}"
    numbers = [{int(slot) for i in range(18, 30, every) for slot in found[i][film.seen(k, i)]} - {0} for k in (0, 1)]
    assert len(numbers[0]) == len(numbers[1]) == len(numbers[0] ^ numbers[1]) / 2 == 1


@pytest.mark.weights
@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize("alone", [True, False])
def test_a_named_object_that_comes_back_is_nobody_new(segmenter, alone, every):
    """Whether or not somebody without a name is followed all along."""
    gone = range(12, 20)
    it = Thing(RED, 36, lambda i: None if i in gone else (96, 130 - 3 * (i if i < 12 else i - 8)), round=True)
    film = Film([it] if alone else [it, Thing(BLUE, 36, lambda i: (20, 10 + 3 * i), round=True)])
    drawn = np.uint8(labels(film) == 1)
    tracks = tracks_of(segmenter, named("it", mask=1), every=every, find=True, drawn=drawn)
    found = list(run(tracks, film, range(36)))
    slot = slot_of(tracks, "it")
    for i in (0, *range(every - 1, 36, every)):
        if i in gone:
            assert (found[i] == slot).sum() < 90, f"frame {i}"
        else:
            assert iou(found[i] == slot, film.seen(0, i)) > 0.8, f"frame {i}"
        if i > 6:
            others = (found[i] > 0) & (found[i] != slot)
            assert others.any() != alone, f"frame {i}"
            if not alone:
                assert others[film.seen(1, i)].mean() > 0.8, f"frame {i}"


@pytest.mark.weights
def test_who_begins_to_move_is_found_though_a_named_object_has_left(segmenter):
    things = [
        Thing(RED, 36, lambda i: (96, 130 - 3 * i) if i < 8 else None, round=True),
        Thing(BLUE, 36, lambda i: (20, 10 + 3 * i), round=True),
        Thing(GREEN, 36, lambda i: (96, 20 + 3 * max(0, i - 14)), round=True),
    ]
    film = Film(things)
    tracks = tracks_of(segmenter, named("it", mask=1), find=True, drawn=np.uint8(labels(film) == 1))
    found = list(run(tracks, film, range(30)))
    for i in range(18, 30):
        assert (found[i] > 0)[film.seen(2, i)].mean() > 0.8, f"frame {i}"
        assert not (found[i] == slot_of(tracks, "it")).any(), f"frame {i}"


@pytest.mark.weights
@pytest.mark.parametrize("other", [BLUE, (150, 60, 90)], ids=["of another colour", "alike"])
def test_a_named_object_that_leaps_is_nobody_new(segmenter, other):
    film = Film(
        [
            Thing(RED, 36, lambda i: (96, 60 - 2 * i) if i < 10 else (96, 140 - 2 * i), round=True),
            Thing(other, 36, lambda i: (20, 10 + 3 * i), round=True),
        ]
    )
    tracks = tracks_of(segmenter, named("it", mask=1), find=True, drawn=np.uint8(labels(film) == 1))
    found = list(run(tracks, film, range(24)))
    it = slot_of(tracks, "it")
    for i in range(10, 24):
        others = (found[i] > 0) & (found[i] != it)
        assert others[film.seen(0, i)].mean() < 0.1, f"frame {i}"
        if i > 11:
            assert iou(found[i] == it, film.seen(0, i)) > 0.8, f"frame {i}"


@pytest.mark.weights
def test_what_moved_and_rests_is_held(segmenter):
    film = Film([Thing(RED, 40, lambda i: (50, 20 + 3 * min(i, 12)), round=True)])
    found = list(run(tracks_of(segmenter, find=True), film, range(40)))
    for i in range(EAGER_FRAMES, 40):
        assert iou(found[i] > 0, film.seen(0, i)) > 0.85, f"frame {i}"


@pytest.mark.weights
def test_who_moves_no_more_than_the_arms_keeps_the_body(segmenter):
    """For ten frames all of it goes its way, and then a half of it alone, to and fro."""
    body = Thing(RED, 36, lambda i: (60, 20 + 3 * min(i, 10)))
    arm = Thing(RED, 34, lambda i: (28, 21 + 3 * min(i, 10) + (6 if i > 10 and i % 4 < 2 else 0)))
    film = Film([body, arm])
    found = list(run(tracks_of(segmenter, find=True), film, range(30)))
    for i in range(EAGER_FRAMES, 30):
        assert (found[i] > 0)[film.seen(0, i)].mean() > 0.9, f"frame {i}"


@pytest.mark.weights
@pytest.mark.parametrize(
    ("moving", "moved", "seen", "counts"),
    [
        (0.0, 0.0, MUST_MOVE_LOOKS, True),  # never moved
        (0.0, 0.0, MUST_MOVE_LOOKS - 1, False),  # may do so yet
        (0.0, 1.0, MUST_MOVE_LOOKS, False),  # moved, and rests
        (0.75, 1.0, 1, True),  # moves, but for a part
        (0.5, 1.0, 1, False),  # rests, but for a part
    ],
)
def test_when_standing_still_counts_against_a_found_object(segmenter, moving, moved, seen, counts):
    tracks = tracks_of(segmenter, find=True)
    slots = np.zeros(SIZE, np.int32)
    slots[20:60, 20:60] = slot = int(tracks.tracker.start(2, 0)[1, 0])
    track = tracks.tracker.tracks[slot]
    track.moved, track.seen = moved, seen
    own = np.zeros((2, *SIZE), np.float32)
    own[0, 20 : 20 + round(40 * moving), 20:60] = 5
    odds = HostWeighing(tracks.tracker).motion_of_found(Motion(own=own), slots)
    still, outside = odds[59, 59], odds[100, 100]
    assert still == pytest.approx(outside * (STILL_TIMES if counts else 1))
    assert track.moved == max(moved, moving)


@pytest.mark.weights
def test_it_is_found_beside_a_camera_that_pans(segmenter, walk):
    tracks = tracks_of(segmenter, find=True)
    found = list(run(tracks, walk, range(16)))
    for i in range(6, 16):
        assert iou(found[i] > 0, walk.seen(0, i)) > 0.75, f"frame {i}"


@pytest.mark.weights
@pytest.mark.parametrize("pan", [0, 2])
def test_where_nothing_moves_by_itself_nothing_is_found(segmenter, pan):
    film = Film([Thing(RED, 40, lambda i: (50, 100 - pan * i))], pan=pan)
    tracks = tracks_of(segmenter, find=True)
    assert not any(slots.any() for slots in run(tracks, film, range(12)))
    assert tracks.report() == []


@pytest.mark.weights
def test_named_and_found_are_two(segmenter):
    film = Film([Thing(RED, 32, rising(20, 20, 0, 3)), Thing(BLUE, 32, rising(90, 20, 0, 3))])
    tracks = tracks_of(segmenter, named("it", mask=1), find=True, drawn=labels(film))
    found = list(run(tracks, film, range(20)))
    it = slot_of(tracks, "it")
    for i in range(20):
        assert iou(found[i] == it, film.seen(0, i)) > 0.8, f"frame {i}"
        if i >= 6:
            assert iou((found[i] != it) & (found[i] > 0), film.seen(1, i)) > 0.75, f"frame {i}"
    assert [thing.name for thing in tracks.report()].count(None) == 1


@pytest.mark.weights
def test_what_was_found_may_be_named_and_is_then_the_persons(segmenter, rolling):
    tracks = tracks_of(segmenter, named("ball", 10 / 25, point=(20 + 30 + 20, 70)), find=True, every=3)
    found = list(run(tracks, rolling, range(26)))
    for i in range(10, 26):
        assert iou(found[i] == slot_of(tracks, "ball"), rolling.seen(0, i)) > enough(i, 3), f"frame {i}"
        assert set(np.unique(found[i])) <= {0, slot_of(tracks, "ball")}


# -- cuts, batches, states ------------------------------------------------------------------------------------------


@pytest.mark.weights
def test_a_cut_ends_all_tracks_and_begins_anew(segmenter, rolling):
    tracks = tracks_of(segmenter, find=True, every=100)
    found = list(run(tracks, rolling, range(8), cut_at=(8,)))
    found += run(tracks, rolling, range(8, 20), cut_at=(8,))
    assert not found[8].any()
    report = tracks.report()
    assert [thing.track_id for thing in report] == [1, 2]
    assert report[0].last_frame == 7
    assert 8 < report[1].first_frame < 8 + EAGER_FRAMES
    again = list(run(tracks_of(segmenter, find=True, every=100), rolling, range(8, 20)))
    for a, b in zip(found[8:], again, strict=True):
        np.testing.assert_array_equal(a > 0, b > 0)


@pytest.mark.weights
def test_a_named_object_does_not_live_through_a_cut(segmenter, walk):
    tracks = tracks_of(segmenter, named("it", mask=1), drawn=labels(walk))
    found = list(run(tracks, walk, range(10), cut_at=(5,)))
    assert found[4].any()
    assert not any(slots.any() for slots in found[5:])
    assert tracks.report()[0].last_frame == 4


def looked_at(tracks: AppearanceTracks, film: Film, frames: range, shots: str = "") -> list[int]:
    """Which frames of a film are looked at; shots has a digit a frame, or all is one."""
    seen, step = list[int](), tracks.step

    def note(luma: np.ndarray, found: Segmentation | None, shot: int, index: int, *rest: Any) -> np.ndarray:
        seen.extend([index] if found is not None else [])
        return step(luma, found, shot, index, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracks, "step", note)
        list(run(tracks, film, frames, shot_of=lambda i: int(shots[i - frames.start]) if shots else 0))
    return seen


@pytest.mark.weights
def test_a_shot_is_looked_at_eagerly_until_something_can_be_found(segmenter, rolling):
    eager = list(range(EAGER_FRAMES))
    assert looked_at(tracks_of(segmenter, find=True, every=100), rolling, range(8)) == eager
    assert looked_at(tracks_of(segmenter, find=False, every=100), rolling, range(8)) == [0]
    cut = "0" * 2 + "1" * 6
    assert looked_at(tracks_of(segmenter, find=True, every=100), rolling, range(8), cut) == [0, 1, 2, 3, 4, 5]


# -- a shot that the film comes back to -------------------------------------------------------------------------------

LEFT = 7
"""The frame at which the inserts below begin."""


@dataclass
class Interrupted:
    """A film, with some frames of each of others put in before its frame LEFT."""

    film: Film
    inserts: tuple[tuple[Film, int], ...]

    @property
    def inserted(self) -> int:
        return sum(count for _, count in self.inserts)

    def at(self, frame: int) -> tuple[int, Film, int]:
        """The shot, 0 and from 1 the inserts, the film that is shown, and its frame."""
        at = frame - LEFT
        for shot, (film, count) in enumerate(self.inserts, 1):
            if 0 <= at < count:
                return shot, film, at
            at -= count
        return 0, self.film, frame if frame < LEFT else frame - self.inserted

    def shot(self, frame: int) -> int:
        return self.at(frame)[0]

    def luma(self, frame: int) -> np.ndarray:
        _, film, at = self.at(frame)
        return film.luma(at)

    def found(self, segmenter: Segmenter, frame: int) -> Segmentation:
        _, film, at = self.at(frame)
        return film.found(segmenter, at)


TWO = Film([Thing(RED, 36, rising(20, 20, 1, 3)), Thing(BLUE, 32, rising(90, 130, 0, -3), round=True)], 1)
"""A named square and a disc that moves by itself, over a ground that moves too."""
FLASH = Film([], ground=(255, 255, 255))
REVERSE = Film([Thing(GREY, 40, rising(40, 100, 0, -4))], ground=(180, 120, 60))


@pytest.fixture(scope="module")
def straight(segmenter) -> dict[tuple[int, bool], list[np.ndarray]]:
    """Maps of the film without an insert, by every and find."""
    maps = {}
    for every, find in ((1, True), (4, False)):
        tracks = tracks_of(segmenter, named("it", mask=1), every=every, find=find, drawn=labels(TWO))
        maps[every, find] = list(run(tracks, TWO, range(LEFT + 8)))
    return maps


@pytest.mark.weights
@pytest.mark.parametrize(
    "inserts", [((FLASH, 4),), ((REVERSE, 12),), ((REVERSE, 4), (FLASH, 4)), ((FLASH, 1), (REVERSE, 2), (FLASH, 1))]
)
@pytest.mark.parametrize(("every", "find"), [(1, True), (4, False)])
def test_after_an_insert_all_goes_on_as_if_it_had_not_been(segmenter, straight, every, find, inserts):
    film = Interrupted(TWO, inserts)
    tracks = tracks_of(segmenter, named("it", mask=1), every=every, find=find, drawn=labels(TWO))
    maps = list(run(tracks, film, range(LEFT + film.inserted + 8), shot_of=film.shot))
    np.testing.assert_array_equal(maps[:LEFT] + maps[LEFT + film.inserted :], straight[every, find])
    it = [thing for thing in tracks.report() if thing.name == "it"]
    assert [(thing.first_frame, thing.last_frame) for thing in it] == [(0, LEFT + film.inserted + 7)]
    assert tracks.lost() == []
    assert all(not (slots == slot_of(tracks, "it")).any() or find for slots in maps[LEFT : LEFT + film.inserted])


@pytest.mark.weights
@pytest.mark.parametrize("every", [2, 4])
@pytest.mark.parametrize("times", [2, 3])
def test_what_moves_in_a_film_of_repeated_frames_is_followed(segmenter, rolling, every, times):
    """Whichever copy is looked at: that it stands still in it says nothing. And copies have one map."""
    tracks, between = tracks_of(segmenter, find=True, every=every), Between()
    maps = list[np.ndarray]()
    for i in range(15 * times):
        look = tracks.wants(i, 0, i / 25)
        frame = i // times
        found = rolling.found(segmenter, frame) if look else None
        maps.append(tracks.step(rolling.luma(frame), found, 0, i, i / 25, SIZE).copy())
        for number, slots in between.step(i, tracks.followed):
            maps[number] = slots
    for i in range(6 * times, 15 * times):
        assert iou(maps[i] > 0, rolling.seen(0, i // times)) > 0.7, f"frame {i}"


@pytest.mark.weights
def test_no_frame_is_known_better_by_another_shot(segmenter):
    film, between = Interrupted(TWO, ((REVERSE, 11),)), Between()
    tracks = tracks_of(segmenter, named("it", mask=1), every=4, find=True, drawn=labels(TWO))
    known = set[int]()
    for i, _ in enumerate(run(tracks, film, range(LEFT + 20), shot_of=film.shot)):
        numbers = [number for number, _ in between.step(i, tracks.followed)]
        assert {film.shot(number) for number in numbers} <= {film.shot(i)}
        known.update(numbers)
    assert known & set(range(LEFT, LEFT + 11))
    assert known & set(range(LEFT + 11, LEFT + 20))


@pytest.mark.weights
def test_what_does_not_come_back_is_lost(segmenter):
    film = Interrupted(TWO, ((REVERSE, 12),))
    tracks = tracks_of(segmenter, named("it", mask=1), drawn=labels(TWO))
    list(run(tracks, film, range(LEFT + 6), shot_of=film.shot))
    assert tracks.lost() == [("it", LEFT - 1)]
    assert [(thing.name, thing.last_frame) for thing in tracks.report()] == [("it", LEFT - 1)]


@pytest.mark.weights
def test_a_shot_that_is_back_is_as_eager_as_it_was_left(segmenter, rolling):
    for seen in (0, 2, EAGER_FRAMES):
        tracks = tracks_of(segmenter, find=True, every=100)
        list(run(tracks, rolling, range(seen)))
        found = looked_at(tracks, rolling, range(seen, seen + 8), "01100000")
        left = EAGER_FRAMES - seen  # one of which is seen before the insert
        back = range(seen + 3, seen + 3 + max(1, left - 1))
        assert found == [*([seen] if left else []), seen + 1, seen + 2, *back]


@pytest.mark.weights
@pytest.mark.parametrize("stop", [LEFT, LEFT + 2, LEFT + 3])
def test_a_state_in_the_midst_of_an_insert_goes_on_alike(segmenter, tmp_path: Path, stop):
    film = Interrupted(TWO, ((REVERSE, 3), (FLASH, 1)))
    first, second = (tracks_of(segmenter, named("it", mask=1), every=3, find=True, drawn=labels(TWO)) for _ in range(2))
    list(run(first, film, range(stop), shot_of=film.shot))
    state = first.state_dict()
    rest = list(run(first, film, range(stop, 18), shot_of=film.shot))
    write_state(tmp_path / "state", state)
    second.load_state_dict(read_state(tmp_path / "state"))
    assert all(map(np.array_equal, rest, run(second, film, range(stop, 18), shot_of=film.shot)))
    assert first.report() == second.report()


FINDING = {"find": True, "every": 3}


def some_tracks(segmenter: Segmenter) -> AppearanceTracks:
    """With a name from the start, one for later, and something to find."""
    return tracks_of(segmenter, named("it", 0.2, point=(20 + 15 + 18, 30 + 5 + 18)), **FINDING)


@pytest.mark.weights
@pytest.mark.parametrize("stop", [1, 4, 5, 6, 11])
def test_a_state_goes_on_alike_through_a_file(segmenter, walk, tmp_path: Path, stop):
    first, second = some_tracks(segmenter), some_tracks(segmenter)
    list(run(first, walk, range(stop)))
    state = first.state_dict()
    rest = list(run(first, walk, range(stop, 16)))
    write_state(tmp_path / "state", state)  # later than it was taken, as a job in segments does it
    second.load_state_dict(read_state(tmp_path / "state"))
    assert all(map(np.array_equal, rest, run(second, walk, range(stop, 16))))
    assert first.report() == second.report()


@pytest.mark.weights
@pytest.mark.parametrize("stop", range(5, 11))
def test_a_state_goes_on_alike_where_frames_repeat(segmenter, rolling, tmp_path: Path, stop):
    """A frame that repeats another moves as that did, whether that was before the stop or not."""

    def followed(tracks: AppearanceTracks, frames: range) -> list[np.ndarray]:
        maps = []
        for i in frames:
            look = tracks.wants(i, 0, i / 25)
            found = rolling.found(segmenter, i // 2) if look else None
            maps.append(tracks.step(rolling.luma(i // 2), found, 0, i, i / 25, SIZE).copy())
        return maps

    first, second = (tracks_of(segmenter, find=True, every=2) for _ in range(2))
    followed(first, range(stop))
    state = first.state_dict()
    rest = followed(first, range(stop, 20))
    write_state(tmp_path / "state", state)
    second.load_state_dict(read_state(tmp_path / "state"))
    assert all(map(np.array_equal, rest, followed(second, range(stop, 20))))


@pytest.mark.weights
def test_where_motion_leaves_doubt_is_looked_more_often(segmenter):
    """What hardly moves is looked at every 8th time, what is quicker more often, and nothing twice running."""
    click = named("it", point=(30, 60))
    slow, quick, wild = (Film([Thing(RED, 36, rising(50, 20, 0, step))]) for step in (0.2, 6, 9))
    rarely, more, most = (
        looked_at(tracks_of(segmenter, click, every=8, doubts=True), film, range(16)) for film in (slow, quick, wild)
    )
    assert rarely == [0, 7, 15]
    assert len(rarely) < len(more) < len(most)
    assert 1 not in np.diff(more + most)
    assert looked_at(tracks_of(segmenter, click, every=8), wild, range(16)) == rarely


@pytest.mark.weights
def test_who_is_missing_is_looked_for_every_fourth_time(segmenter):
    gone = Film([Thing(RED, 36, lambda i: (50, 20) if i < 5 else None)], pan=1)
    tracks = tracks_of(segmenter, named("it", point=(30, 60)), every=8, doubts=True)
    seen = looked_at(tracks, gone, range(24))
    assert set(np.diff([i for i in seen if i > 5])) == {4}


@pytest.mark.weights
@pytest.mark.parametrize("stop", [8, 9, 10])
def test_a_state_goes_on_alike_where_looks_go_by_doubt(segmenter, tmp_path: Path, stop):
    """What leads to the look at frame 11 began before the stop."""
    film = Film([Thing(RED, 36, rising(50, 20, 0, 6))])
    first, second = (tracks_of(segmenter, named("it", point=(30, 60)), every=8, doubts=True) for _ in range(2))
    list(run(first, film, range(stop)))
    write_state(tmp_path / "state", first.state_dict())
    second.load_state_dict(read_state(tmp_path / "state"))
    looks = looked_at(first, film, range(stop, 15))
    assert looks == [11]
    assert looked_at(second, film, range(stop, 15)) == looks


@pytest.mark.weights
def test_what_may_be_an_object_is_looked_at_more_often_until_that_is_known(segmenter):
    """Beside one that hardly moves; then it is another's like."""
    two = Film(
        [
            Thing(RED, 36, rising(90, 20, 0, 0.3)),
            Thing(BLUE, 32, lambda i: (20, 190 - 3 * (i - 12)) if i >= 12 else None, round=True),
        ]
    )
    tracks = tracks_of(segmenter, named("it", point=(30, 100)), every=8, find=True, doubts=True)
    seen = looked_at(tracks, two, range(40))
    new = [track for track in tracks.report() if track.name is None]
    assert len(new) == 1
    steps = np.diff([i for i in seen if i >= 7])
    assert steps[0] == 8
    assert 4 in steps
    assert steps[-1] > 4


@pytest.mark.weights
def test_who_is_taken_away_is_not_looked_for(segmenter):
    film = Film([Thing(RED, 36, rising(50, 20, 0, 0.3)), Thing(BLUE, 36, rising(50, 120, 0, 0.2))], pan=1)
    places = named("it", point=(30, 60)), named("other", point=(140, 60))
    away = named("it", 5 / 25, point=(30, 60), remove=True)
    tracks = tracks_of(segmenter, *places, away, every=8, doubts=True)
    assert looked_at(tracks, film, range(32)) == [0, 5, 7, 15, 23, 31]


@pytest.mark.weights
def test_it_is_the_same_every_time(segmenter, walk):
    one, other = (list(run(some_tracks(segmenter), walk, range(12))) for _ in range(2))
    assert all(map(np.array_equal, one, other))


# -- a removal that leaves little, and objects of a few pixels ---------------------------------------------------------


def test_what_a_removal_leaves_is_followed_though_it_was_a_part_before():
    """Its mean area from before the removal does not make it lost."""
    tracker = Tracker("components")
    slot = tracker.claim("swan", 0)
    for frame in range(4):
        tracker.observe(np.array([0, 5000]), frame)
    assert lost_below_px(tracker.tracks[slot]) > 200
    tracker.forget_area(slot)
    assert lost_below_px(tracker.tracks[slot]) < 200
