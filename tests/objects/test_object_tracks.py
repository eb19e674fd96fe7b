from types import SimpleNamespace

import numpy as np
import pytest
import torch

from streamstyle.config import AnalysisOptions
from streamstyle.look import ObjectStyle
from streamstyle.media.states import read_state, write_state
from streamstyle.objects.object_tracks import ObjectTracks, OverlapTracks
from streamstyle.objects.segmenter import Segmentation, Segmenter
from streamstyle.shots import SHOTS_REMEMBERED
from streamstyle.stages.optical_flow import OpticalFlow
from tests.oracles import FRAMES, HEIGHT, WIDTH, disc, disc_centre, disc_luma, disc_picture, iou

SIZE = (HEIGHT, WIDTH)


def tracks_of(*things: ObjectStyle, every: int = 1, kind: str = "regions") -> ObjectTracks:
    """Of regions that are given, whose segmenter takes no prompts."""
    return OverlapTracks(SimpleNamespace(takes=()), kind, things, every)


def thing(name: str = "swan", at_s: float = 0.0, **place) -> ObjectStyle:
    return ObjectStyle(name, "wave", at_s=at_s, **(place or {"point": (3, 4)}))


def found_in(ids: np.ndarray) -> Segmentation:
    ids = torch.from_numpy(ids.astype(np.int32))
    regions = int(ids.max()) + 1
    return Segmentation(ids, regions, torch.zeros((3, *ids.shape), dtype=torch.uint8), ids, regions)


def true_discs(frame: int) -> Segmentation:
    """The discs as a perfect segmenter would find them."""
    return found_in(np.select([disc(k, frame) for k in range(3)], [1, 2, 3], 0))


# -- which frames are looked at ---------------------------------------------------------------------------------------


def looked_at(tracks: ObjectTracks, shots: str, first: int = 0) -> list[int]:
    """Which frames of a film of still discs are looked at; shots has a digit a frame."""
    seen = []
    for i, shot in enumerate(map(int, shots), first):
        look = tracks.wants(i, shot, i / 25)
        tracks.step(disc_luma(0), true_discs(0) if look else None, shot, i, i / 25, SIZE)
        seen.extend([i] if look else [])
    return seen


def test_every_nth_frame_by_its_number_in_the_film():
    assert looked_at(tracks_of(every=4), "0" * 13) == [0, 3, 7, 11]


def test_the_first_frame_seen_whatever_its_number():
    assert looked_at(tracks_of(every=4), "0" * 3, 5) == [5, 7]


def test_a_cut_is_looked_at():
    assert looked_at(tracks_of(every=100), "0110") == [0, 1, 3]


def test_where_a_person_points_is_looked_at_once():
    places = [tuple(map(int, disc_centre(k, 0))) for k in range(2)]
    tracks = tracks_of(thing("dog", 0.10, point=places[0]), thing("swan", 0.05, point=places[1]), every=100)
    assert [thing.name for thing in tracks.pending] == ["swan", "dog"]
    assert looked_at(tracks, "0" * 6) == [0, 2, 3]


# -- following --------------------------------------------------------------------------------------------------------


def run(tracks: ObjectTracks, segment, frames: int = FRAMES, shots: str = "") -> list[np.ndarray]:
    """The slot maps of the film of discs, 25 frames a second; shots has a digit a frame, or all is one."""
    maps = []
    for i in range(frames):
        shot, time_s = int(shots[i] if shots else 0), i / 25
        look = tracks.wants(i, shot, time_s)
        maps.append(tracks.step(disc_luma(i), segment(i) if look else None, shot, i, time_s, SIZE))
    return maps


@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize("kind", ["regions", "components"])
def test_perfect_regions_keep_their_tracks(kind, every):
    tracks = tracks_of(every=every, kind=kind)
    maps = run(tracks, true_discs)
    slots = [int(maps[0][disc(k, 0)][0]) for k in range(3)]
    assert len(set(slots)) == 3
    np.testing.assert_array_equal(maps[0] > 0, disc(0, 0) | disc(1, 0) | disc(2, 0))
    for i, slot_map in enumerate(maps):
        for k, slot in enumerate(slots):
            assert iou(slot_map == slot, disc(k, i)) > (0.99 if i in (0, *range(every - 1, FRAMES, every)) else 0.85)
    report = tracks.report()
    assert [o.track_id for o in report if o.name is None][:3] == [1, 2, 3]
    assert {(o.first_frame, o.last_frame) for o in report} == {(0, FRAMES - 1)}
    for k, o in enumerate(report):
        assert o.mean_area_px == pytest.approx(disc(k, 0).sum(), rel=0.05)


def test_published_tracks_are_not_moved_along_flow():
    """A disc that leaps by more than itself is another to DeepGIF, and the same where regions are moved first."""

    def square(frame: int) -> np.ndarray:
        picture = np.zeros(SIZE, bool)
        picture[30:50, 10 + 26 * frame : 30 + 26 * frame] = True
        return picture

    rng, seen = np.random.default_rng(0), {}
    ground, patch = rng.integers(80, 120, SIZE), rng.integers(150, 250, (20, 20))
    for kind in ("regions", "components"):
        tracks, ids = tracks_of(kind=kind), []
        for i in range(4):
            luma = ground.copy()
            luma[square(i)] = patch.ravel()
            slots = tracks.step(luma.astype(np.uint8), found_in(square(i)), 0, i, i / 25, SIZE)
            ids.append(tracks.tracker.tracks[int(slots[square(i)][0])].track_id)
        seen[kind] = len(set(ids))
    assert seen["components"] == 4
    assert seen["regions"] < 4


def test_an_object_named_later_takes_its_track_from_then_on():
    tracks = tracks_of(thing("sun", 0.2, point=tuple(map(int, disc_centre(2, 5)))), every=100)
    maps = run(tracks, true_discs, 10)
    assert tracks.pending == ()
    (sun,) = (slot for slot, track in tracks.tracker.tracks.items() if track.name == "sun")
    assert not (maps[4] == sun).any()
    for i in range(5, 10):
        assert iou(maps[i] == sun, disc(2, i)) > 0.85


def test_two_places_with_one_name_are_one_track():
    tracks = tracks_of(thing("pair", region=1), thing("pair", region=2))
    (slot_map,) = run(tracks, true_discs, 1)
    (pair,) = (slot for slot, track in tracks.tracker.tracks.items() if track.name == "pair")
    np.testing.assert_array_equal(slot_map == pair, disc(0, 0) | disc(1, 0))


def test_a_cut_starts_new_tracks():
    tracks = tracks_of(every=100)
    maps = run(tracks, true_discs, 6, "000111")
    np.testing.assert_array_equal(maps[3] > 0, disc(0, 3) | disc(1, 3) | disc(2, 3))
    assert [(o.track_id, o.first_frame) for o in tracks.report()] == [(1, 0), (2, 0), (3, 0), (4, 3), (5, 3), (6, 3)]


def watch(tracks: ObjectTracks, frames: list[tuple[int, int]], first: int = 0) -> list[np.ndarray]:
    """The slot maps of a film of (frame of the discs, shot), 25 frames a second; shots but the first show nothing."""
    maps = []
    for i, (at, shot) in enumerate(frames, first):
        look = tracks.wants(i, shot, i / 25)
        found = found_in(np.zeros(SIZE)) if shot else true_discs(at)
        luma = np.full(SIZE, 255, np.uint8) if shot else disc_luma(at)
        maps.append(tracks.step(luma, found if look else None, shot, i, i / 25, SIZE))
    return maps


@pytest.mark.parametrize("every", [1, 3])
def test_motion_is_searched_for_to_carry_just_where_nobody_looks(every, monkeypatch):
    tracks, asked = tracks_of(every=every), list[bool]()
    step = tracks._flow.step
    monkeypatch.setattr(
        tracks._flow, "step", lambda luma, *, to_carry: asked.append(to_carry) or step(luma, to_carry=to_carry)
    )
    watch(tracks, [(i, 0) for i in range(9)])
    assert asked == [i > 0 and (i + 1) % every != 0 for i in range(9)]


FLASH = [(i, 0) for i in range(6)] + [(0, 1)] + [(i, 0) for i in range(6, 12)]


@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize("kind", ["regions", "components"])
@pytest.mark.parametrize("inserted", [[1], [1] * 30, [1, 2], [1, 1, 2, 3, 3]])
def test_tracks_go_on_when_the_film_is_back(kind, every, inserted):
    tracks = tracks_of(thing("sun", point=tuple(map(int, disc_centre(2, 0)))), every=every, kind=kind)
    before = watch(tracks, FLASH[:6])
    watch(tracks, [(0, shot) for shot in inserted], 6)
    back = 6 + len(inserted)
    after = watch(tracks, FLASH[7:], back)
    assert tracks.wants(99, 1, 4.0)
    for k in range(3):
        slot = before[0][disc(k, 0)][0]
        assert iou(after[0] == slot, disc(k, 6)) > 0.99  # looked at, wherever N falls
        assert iou(after[-1] == slot, disc(k, 11)) > 0.85
    report = tracks.report()
    assert {(o.first_frame, o.last_frame) for o in report if o.name} == {(0, back + 5)}
    assert len({o.track_id for o in report}) == len(report) == 3
    assert tracks.lost() == []
    assert tracks.tracker.ended == []


def test_the_flow_on_coming_back_is_from_the_frame_the_shot_was_left_at():
    """Were it none, or from the flash, a map that is only carried would stay behind."""
    tracks = tracks_of(every=100)
    moments = []
    advance = tracks._advance
    tracks._advance = lambda moment: moments.append(moment) or advance(moment)  # type: ignore[method-assign]
    watch(tracks, FLASH)
    straight = OpticalFlow()
    straight.step(disc_luma(5))
    np.testing.assert_array_equal(moments[7].motion.flow, straight.step(disc_luma(6)))
    assert moments[6].motion.flow is None
    assert [moment.starts for moment in moments] == [i in (0, 6) for i in range(13)]


def test_a_shot_that_is_forgotten_begins_anew():
    tracks = tracks_of()
    watch(tracks, [(0, 0), *((0, shot) for shot in range(1, SHOTS_REMEMBERED + 2))])
    assert [track.track_id for track in tracks.tracker.ended] == [1, 2, 3]
    watch(tracks, [(1, 0)], SHOTS_REMEMBERED + 2)
    assert [track.track_id for track in tracks.tracker.tracks.values()] == [4, 5, 6]
    assert [o.track_id for o in tracks.report()] == [1, 2, 3, 4, 5, 6]
    assert len(tracks.state_dict()["left"]) == SHOTS_REMEMBERED


def test_what_is_in_a_shot_that_does_not_come_back_is_reported_and_lost():
    tracks = tracks_of(thing("sun", point=tuple(map(int, disc_centre(2, 0)))))
    watch(tracks, FLASH[:7])
    assert tracks.lost() == []  # it may be a flash
    watch(tracks, [(0, 1)] * 5, 7)
    assert tracks.lost() == [("sun", 5)]
    assert {o.last_frame for o in tracks.report()} == {5}
    assert "sun" in {o.name for o in tracks.report()}


def test_what_is_named_in_an_insert_is_of_the_insert():
    tracks = tracks_of(thing("late", 0.28, point=(3, 4)))
    tracks._place = lambda *_: disc(0, 0)  # type: ignore[method-assign]  # the insert shows nothing to point at
    maps = watch(tracks, [*FLASH[:6], *[(0, 1)] * 3, *FLASH[7:]])
    assert tracks.pending == ()
    (late,) = (o for o in tracks.report() if o.name == "late")
    assert (late.first_frame, late.last_frame) == (7, 8)
    assert set(np.unique(maps[-1])) == {0, 1, 2, 3}


@pytest.mark.parametrize("kind", ["regions", "components"])
@pytest.mark.parametrize("stop", [5, 6, 7, 8])
def test_a_state_goes_on_alike_through_a_file(tmp_path, kind, stop):
    sun = thing("sun", point=tuple(map(int, disc_centre(2, 0))))
    tracks, again = (tracks_of(sun, every=2, kind=kind) for _ in range(2))
    watch(tracks, FLASH[:stop])
    state = tracks.state_dict()
    rest = watch(tracks, FLASH[stop:], stop)
    write_state(tmp_path / "state", state)  # later than it was taken, as a job in segments does it
    again.load_state_dict(read_state(tmp_path / "state"))
    np.testing.assert_array_equal(watch(again, FLASH[stop:], stop), rest)
    assert again.report() == tracks.report()
    assert again.lost() == tracks.lost()


def test_a_missing_moment_stays_pending():
    tracks = tracks_of(thing("late", 99.0))
    run(tracks, true_discs, 3)
    assert [thing.name for thing in tracks.pending] == ["late"]


@pytest.fixture(scope="module")
def memory() -> dict[int, Segmentation]:
    return {}


@pytest.fixture
def segmented(asset, memory):
    """The regions segmenter's answer to each frame of the film, kept between tests."""
    asset("hed")
    segmenter = Segmenter(AnalysisOptions(), torch.device("cpu"))

    def segment(frame: int) -> Segmentation:
        if frame not in memory:
            (memory[frame],) = segmenter(disc_picture(frame))
        return memory[frame]

    return segment


@pytest.mark.weights
@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize("k", [0, 1, 2])
def test_a_named_disc_is_followed(segmented, every, k):
    point = tuple(map(int, disc_centre(k, 0)))
    tracks = tracks_of(thing("disc", point=point), every=every)
    maps = run(tracks, segmented)
    (slot,) = (slot for slot, track in tracks.tracker.tracks.items() if track.name == "disc")
    for i, slot_map in enumerate(maps):
        assert iou(slot_map == slot, disc(k, i)) > 0.85, f"frame {i}"
    (report,) = (o for o in tracks.report() if o.name == "disc")
    assert report.first_frame == 0
    assert report.mean_area_px == pytest.approx(disc(k, 0).sum(), rel=0.15)


@pytest.mark.parametrize("shots", ["0" * 12, "000001111111", "000011000000", "000111000111", "012012012012"])
def test_motion_that_was_found_for_a_batch_at_once_gives_the_same_maps(shots):
    expected = run(tracks_of(every=4), true_discs, 12, shots)
    tracks, maps = tracks_of(every=4), []
    for begin in range(0, 12, 3):
        batch = range(begin, begin + 3)
        flows = tracks._flow.together(torch.from_numpy(np.stack([disc_luma(i) for i in batch])))
        for i in batch:
            shot = int(shots[i])
            look = tracks.wants(i, shot, i / 25)
            found, motion = true_discs(i) if look else None, [flows[i - begin].numpy(), np.zeros((2, *SIZE))]
            maps.append(tracks.step(disc_luma(i), found, shot, i, i / 25, SIZE, motion))
    np.testing.assert_array_equal(maps, expected)
