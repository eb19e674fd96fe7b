import ast
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamstyle.objects import tracker as module
from streamstyle.objects.tracker import BACKGROUND, CONFIRM_AFTER, HOLD_SHARE, MOST_ENDED, SNAP_SHARE, Tracker

RULES = ["components", "regions"]


def overlap_of(rows: list[list[int]]) -> np.ndarray:
    return np.array(rows, np.int64)


def started(rule: str, areas: list[int]) -> Tracker:
    """A tracker whose first frame has objects of these areas, in slots 1, 2 ..."""
    tracker = Tracker(rule)
    tracker.start(len(areas) + 1, 0)
    tracker.observe(np.array([1000, *areas]), 0)
    return tracker


def step(tracker: Tracker, overlap: np.ndarray, frame: int) -> np.ndarray:
    """Update and observe, as the caller does: pixels move to where the table sends them."""
    table = tracker.update(overlap, frame)
    areas = np.bincount(table.ravel(), overlap.ravel(), minlength=tracker.slots)
    tracker.observe(areas.astype(np.int64), frame)
    return table


def ids_of(tracker: Tracker) -> dict[int, int]:
    return {slot: track.track_id for slot, track in tracker.tracks.items()}


# -- both rules -------------------------------------------------------------------------------------------------------


def test_it_knows_no_torch():
    imports = {
        name
        for node in ast.walk(ast.parse(Path(module.__file__).read_text("utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in [getattr(node, "module", None), *(alias.name for alias in node.names)]
    }
    known = {name for name in imports if name and name.partition(".")[0] in {"torch", "streamstyle"}}
    assert known == {"streamstyle.shots"}  # which knows none either; see test_house


@pytest.mark.parametrize("rule", RULES)
def test_the_first_frame_is_all_births(rule):
    tracker = Tracker(rule)
    assert tracker.slots == 1
    table = tracker.start(4, 7)
    assert table.dtype == np.int32
    assert table.tolist() == [[BACKGROUND], [1], [2], [3]]
    assert ids_of(tracker) == {1: 1, 2: 2, 3: 3}
    assert tracker.slots == 4
    assert all(track.first_frame == 7 and track.confirmed for track in tracker.tracks.values())


@pytest.mark.parametrize("rule", RULES)
def test_nothing_but_background(rule):
    tracker = Tracker(rule)
    assert tracker.start(1, 0).tolist() == [[BACKGROUND]]
    assert step(tracker, overlap_of([[500]]), 1).tolist() == [[BACKGROUND]]
    assert not tracker.tracks


@pytest.mark.parametrize("rule", RULES)
def test_what_stays_keeps_its_slot_whatever_its_label(rule):
    tracker = started(rule, [100, 50])
    table = step(tracker, overlap_of([[850, 0, 0], [0, 0, 50], [0, 100, 0]]), 1)
    assert [table[1, 2], table[2, 1], table[0, 0]] == [2, 1, BACKGROUND]
    assert ids_of(tracker) == {1: 1, 2: 2}
    assert [track.seen for track in tracker.tracks.values()] == [2, 2]


@pytest.mark.parametrize("rule", RULES)
def test_what_is_gone_ends_and_its_id_is_not_given_again(rule):
    tracker = started(rule, [100, 50])
    step(tracker, overlap_of([[950, 100, 0], [0, 0, 50]]), 1) if rule == "components" else tracker.observe(
        np.array([1100, 0, 50]), 1
    )
    assert ids_of(tracker) == {2: 2}
    assert [(track.track_id, track.last_frame) for track in tracker.ended] == [(1, 0)]
    for frame in range(2, 2 + CONFIRM_AFTER):
        overlap = [[850, 0, 0], [0, 0, 50], [100, 0, 0]] if frame == 2 else [[850, 0, 0], [0, 0, 50], [0, 100, 0]]
        table = step(tracker, overlap_of(overlap), frame)
    assert table[2, 1] == 1, "the slot is free and may be used again"
    assert ids_of(tracker) == {1: 3, 2: 2}


@pytest.mark.parametrize("rule", RULES)
def test_a_cut_ends_everything(rule):
    tracker = started(rule, [100, 50])
    table = tracker.start(3, 10)
    assert table.tolist() == [[BACKGROUND], [1], [2]]
    assert ids_of(tracker) == {1: 3, 2: 4}
    assert [track.track_id for track in tracker.ended] == [1, 2]


@pytest.mark.parametrize("rule", RULES)
def test_a_name_is_one_slot(rule):
    tracker = started(rule, [100, 50])
    swan = tracker.claim("swan", 5)
    assert swan == tracker.claim("swan", 6) == 3
    assert tracker.claim("dog", 6) == 4
    assert tracker.tracks[swan].name == "swan"
    assert tracker.slots == 5
    tracker.start(1, 7)
    assert tracker.claim("swan", 7) == 1, "after a cut the name is free for a new track"
    assert tracker.tracks[1].track_id == 5


@pytest.mark.parametrize("rule", RULES)
def test_areas_are_averaged_over_the_frames_seen(rule):
    tracker = started(rule, [100])
    tracker.observe(np.array([900, 50]), 4)
    track = tracker.tracks[1]
    assert (track.area_px, track.mean_area_px, track.seen, track.last_frame) == (50, 75.0, 2, 4)


@settings(max_examples=40)
@given(st.sampled_from(RULES), st.integers(0, 2**32 - 1))
def test_ids_are_never_given_twice(rule, seed):
    """A film of random overlaps: each id is born once, lives in one slot, and never comes back after its end."""
    rng = np.random.default_rng(seed)
    tracker = Tracker(rule)
    tracker.start(4, 0)
    tracker.observe(rng.integers(0, 50, 4), 0)
    dead: set[int] = set()
    home: dict[int, int] = {}
    for frame in range(1, 12):
        if rng.random() < 0.1:
            tracker.start(int(rng.integers(1, 5)), frame)
            tracker.observe(rng.integers(0, 50, tracker.slots), frame)
        else:
            overlap = rng.integers(0, 100, (rng.integers(1, 6), tracker.slots)) * (rng.random() < 0.9)
            overlap = overlap * (rng.random(overlap.shape) < 0.5)
            overlap[:, [s for s in range(1, tracker.slots) if s not in tracker.tracks]] = 0
            table = step(tracker, overlap, frame)
            assert table.shape == overlap.shape
            assert table.dtype == np.int32
            assert set(np.unique(table[overlap > 0])) <= {BACKGROUND, *tracker.tracks}
        living = ids_of(tracker)
        assert len(set(living.values())) == len(living)
        assert not dead & set(living.values())
        for slot, track_id in living.items():
            assert home.setdefault(track_id, slot) == slot
        dead |= set(home) - set(living.values())


# -- components -------------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.data())
def test_track_ids_do_not_depend_on_label_order(data):
    regions, slots = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
    distinct = st.lists(st.integers(1, 10_000), min_size=regions * slots, max_size=regions * slots, unique=True)
    overlap = np.array(data.draw(distinct), np.int64).reshape(regions, slots)
    shown = st.lists(st.booleans(), min_size=regions * slots, max_size=regions * slots)
    overlap *= np.array(data.draw(shown)).reshape(regions, slots)
    order = [0, *(1 + np.array(data.draw(st.permutations(range(regions - 1))), int))]
    one, other = (started("components", [100] * (slots - 1)) for _ in range(2))
    table, shuffled = one.update(overlap, 1), other.update(overlap[order], 1)
    old = set(range(slots))
    for region, label in enumerate(order):
        before, after = int(table[label, 0]), int(shuffled[region, 0])
        assert (before == after) if before in old else (after not in old)
    assert sorted(ids_of(one).values()) == sorted(ids_of(other).values())


@pytest.mark.parametrize(
    ("overlap", "owners"),
    [
        ([[900, 0, 0], [0, 60, 0], [0, 30, 40]], [0, 1, 2]),
        ([[900, 0, 0], [0, 60, 0], [0, 40, 0]], [0, 1, 3]),  # a split: the largest part keeps the track
        ([[900, 0, 0], [0, 40, 0], [0, 60, 0]], [0, 3, 1]),
        ([[900, 0, 0], [0, 40, 60]], [0, 2]),  # a merge: the largest contributor's track lives on
        ([[900, 0, 0], [0, 50, 50]], [0, 1]),  # a tie: the lower slot
        ([[900, 0, 0], [0, 50, 0], [0, 50, 0]], [0, 1, 3]),  # a tie: the lower region
        ([[900, 0, 0], [0, 0, 0], [80, 0, 0]], [0, 3, 4]),  # births: from nothing, and out of the background
        ([[900, 90, 90]], [0]),
        # The best pairs first, over all regions: the second region loses both to better ones.
        ([[900, 0, 0], [0, 90, 80], [0, 85, 70], [0, 0, 75]], [0, 1, 3, 2]),
    ],
)
def test_components_are_matched_by_their_largest_overlap(overlap, owners):
    tracker = started("components", [100, 100])
    table = tracker.update(overlap_of(overlap), 1)
    assert table.tolist() == [[owner] * len(overlap[0]) for owner in owners]


# -- regions ----------------------------------------------------------------------------------------------------------


def test_a_region_snaps_to_the_track_that_covers_most_of_it():
    tracker = started("regions", [100, 100])
    overlap = overlap_of([[900, 2, 2], [5, 98, 0], [0, 0, 98]])
    assert tracker.update(overlap, 1).tolist() == [[0, 0, 0], [1, 1, 1], [2, 2, 2]]


def test_parts_of_one_object_stay_together():
    tracker = started("regions", [100])
    overlap = overlap_of([[900, 0], [0, 40], [0, 35], [0, 25]])
    assert tracker.update(overlap, 1)[1:, 1].tolist() == [1, 1, 1]
    assert ids_of(tracker) == {1: 1}


def test_a_region_nobody_covers_most_of_leaves_its_pixels_as_they_were():
    tracker = started("regions", [100, 100])
    half = int(SNAP_SHARE * 100) - 1
    overlap = overlap_of([[900, 0, 0], [0, half, 100 - half]])
    assert tracker.update(overlap, 1)[1].tolist() == [0, 1, 2]


@pytest.mark.parametrize(("color", "slot"), [((250, 0, 0), 1), ((4, 0, 0), 1), ((0, 0, 250), 2)])
def test_a_small_part_of_a_track_goes_to_the_track_it_looks_like(color, slot):
    """Track 1, red, left a stain in a region that it shares with blue track 2."""
    tracker = started("regions", [1000, 1000])
    overlap = overlap_of([[900, 0, 0], [0, 900, 0], [0, 0, 940], [0, 45, 55]])
    red, blue = np.array((250, 0, 0)), np.array((0, 0, 250))
    sums = np.zeros((4, 3, 3))
    sums[1, 1], sums[2, 2], sums[3, 1], sums[3, 2] = 900 * red, 940 * blue, 45 * np.array(color), 55 * blue
    assert tracker.update(overlap, 1, sums)[3].tolist() == [0, slot, 2]
    assert tracker.update(overlap, 2)[3].tolist() == [0, 1, 2]


def test_a_large_part_of_a_track_keeps_its_pixels_whatever_their_color():
    tracker = started("regions", [100, 1000])
    overlap = overlap_of([[900, 0, 0], [0, 55, 0], [0, 0, 945], [0, 45, 55]])
    sums = np.zeros((4, 3, 3))
    sums[2, 2, 2], sums[3, 1, 2], sums[3, 2, 2] = 945 * 250, 45 * 250, 55 * 250
    assert tracker.update(overlap, 1, sums)[3].tolist() == [0, 1, 2]


@pytest.mark.parametrize(("inside", "held"), [(int(HOLD_SHARE * 100), True), (int(HOLD_SHARE * 100) - 1, False)])
def test_a_leak_does_not_swallow_an_object(inside, held):
    tracker = started("regions", [100])
    overlap = overlap_of([[1000, inside], [0, 100 - inside]])
    assert tracker.update(overlap, 1)[0].tolist() == [0, 1 if held else 0]


def test_a_part_that_leaves_the_background_has_to_stay_before_it_counts():
    tracker = started("regions", [100])
    table = step(tracker, overlap_of([[700, 0], [0, 100], [200, 0]]), 1)
    assert table[2, 0] == 2
    seen = [tracker.tracks[2].confirmed]
    for frame in range(2, 5):
        step(tracker, overlap_of([[700, 0, 0], [0, 100, 0], [0, 0, 200]]), frame)
        seen.append(tracker.tracks[2].confirmed)
    assert seen == [count + 1 >= CONFIRM_AFTER for count in range(4)]
    assert (tracker.tracks[2].first_frame, tracker.tracks[2].shown_frame) == (1, CONFIRM_AFTER)
    assert tracker.tracks[1].shown_frame == 0, "an object at once"


def test_a_part_that_never_counted_is_not_reported():
    tracker = started("regions", [100])
    step(tracker, overlap_of([[700, 0], [0, 100], [200, 0]]), 1)
    step(tracker, overlap_of([[700, 0, 200], [0, 100, 0]]), 2)
    step(tracker, overlap_of([[900, 0, 0], [0, 100, 0]]), 3)
    tracker.start(1, 4)
    assert [track.track_id for track in tracker.ended] == [1]


def test_two_objects_in_one_region_both_live():
    tracker = started("regions", [100, 60])
    table = step(tracker, overlap_of([[900, 0, 0], [0, 100, 60]]), 1)
    assert table[1].tolist()[1:] == [1, 2]
    assert ids_of(tracker) == {1: 1, 2: 2}


def test_the_background_stays_itself_when_another_region_outgrows_it():
    tracker = Tracker("regions")
    tracker.start(2, 0)
    tracker.observe(np.array([52, 48]), 0)
    # What was slot 0 is region 1 now, and what was slot 1 has become the largest region, number 0.
    table = tracker.update(np.array([[0, 48], [52, 0]]), 1)
    assert table[1, BACKGROUND] == BACKGROUND
    assert table[0, 1] == 1
    assert set(tracker.tracks) == {1}


def test_ended_tracks_do_not_grow_with_the_film():
    tracker = Tracker("regions")
    for frame in range(MOST_ENDED):
        tracker.start(4, frame)
        if frame == 5:
            tracker.claim("swan", frame)
        tracker.observe(np.array([10, 1 + frame % 7, 2, 3, 4]), frame)
    assert len(tracker.ended) <= 2 * MOST_ENDED
    assert tracker.forgotten + len(tracker.ended) + len(tracker.tracks) > 3 * (MOST_ENDED - 1)
    assert any(track.name == "swan" for track in tracker.ended)


# -- one that comes back ----------------------------------------------------------------------------------------------


def lost_and_born(confirmed: bool) -> Tracker:
    """Track 1 lived in frames 0 and 1, a track in the same slot since frame 2."""
    tracker = started("components", [100])
    step(tracker, overlap_of([[900, 0], [0, 100]]), 1)
    tracker.observe(np.array([1000, 0]), 2)
    tracker.update(overlap_of([[960], [40]]), 3, sure=confirmed)
    tracker.observe(np.array([960, 40]), 3)
    return tracker


def test_one_that_comes_back_is_one_track_with_two_parts_of_life():
    tracker = lost_and_born(confirmed=False)
    tracker.revive(1, 1)
    (track,) = tracker.all_tracks
    assert (track.track_id, track.first_frame, track.last_frame, track.confirmed) == (1, 0, 3, True)
    assert (track.seen, track.mean_area_px, track.usual_area_px) == (3, 80, 80)
    assert tracker.ended_track(1) is None
    tracker.update(overlap_of([[960, 0], [0, 40], [30, 0]]), 4)
    assert ids_of(tracker) == {1: 1, 2: 3}  # the id between is no one's


@pytest.mark.parametrize("confirmed", [False, True])
def test_one_that_comes_back_has_moved_if_any_of_the_two_did(confirmed: bool):
    tracker = lost_and_born(confirmed)
    tracker.tracks[1].moved = 0.7
    tracker.revive(1, 1)
    assert tracker.tracks[1].moved == 0.7


def test_one_that_had_a_number_of_its_own_keeps_what_it_was_seen_as():
    tracker = lost_and_born(confirmed=True)
    tracker.revive(1, 1)
    assert ids_of(tracker) == {1: 1}
    assert [(track.track_id, track.first_frame, track.last_frame) for track in tracker.ended] == [(2, 3, 3)]
    assert tracker.tracks[1].seen == 2


def test_who_is_on_screen_is_noted_where_nobody_looks():
    """By areas of all slots, or of the first ones."""
    tracker = Tracker("components")
    first, second = tracker.claim("first", 0), tracker.claim("second", 0)
    tracker.present(np.array([50, 3, 0]), 4)
    assert [tracker.tracks[slot].last_frame for slot in (first, second)] == [4, 0]
    tracker.present(np.array([50, 2]), 5)
    tracker.present(np.array([50, 2, 7, 9]), 6)
    assert [tracker.tracks[slot].last_frame for slot in (first, second)] == [6, 6]
