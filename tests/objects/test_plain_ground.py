"""What stands out of a plain ground is found at rest, by hand and in films; of no other ground anything is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from streamstyle.config import AnalysisOptions
from streamstyle.media.states import read_state, write_state
from streamstyle.objects.appearance_tracks import AppearanceTracks
from streamstyle.objects.evidence import SURELY_MOVING, moves_by_itself
from streamstyle.objects.host_weighing import moving_of
from streamstyle.objects.plain_ground import (
    CONTOUR,
    GROUND_EDGE,
    SURELY,
    kept_whole_,
    note_standing,
    stands_out,
    theirs,
    with_what_stands_out,
)
from streamstyle.objects.recalling_tracks import RecallingTracks
from streamstyle.objects.segmenter import Segmentation, Segmenter
from streamstyle.objects.tracker import Track
from streamstyle.objects.weighing import MUST_MOVE_LOOKS, Motion, had_time_to_move
from streamstyle.stages.region_hierarchy import FULL
from tests.mottled_film import BLUE, RED, SIZE, Film, PlainFilm, Thing, named, run, tracks_of
from tests.oracles import iou

SMALL, PLAIN_FRAMES = (40, 60), 8
LIGHT = (190, 195, 200)
BLOCK = (slice(10, 20), slice(20, 35))


def found_of(ids: np.ndarray, *edges: float) -> Segmentation:
    """Regions of which 2 and those after it fall into the first at these edge strengths; by clear ones, light ones."""
    count = int(ids.max()) + 1
    into = np.array([0, *[1] * (count - 1)], np.int32)
    at = np.array([FULL + 1, FULL + 1, *(int(edge * FULL) for edge in edges)], np.int32)
    colours = np.full(count, 90, np.uint8)
    colours[[k for k, edge in enumerate(edges, 2) if edge > CONTOUR]] = 200
    rgb, whole = torch.from_numpy(colours[ids]).expand(3, -1, -1), torch.zeros(ids.shape, dtype=torch.int32)
    tree = (torch.from_numpy(into), torch.from_numpy(at))
    return Segmentation(whole, 1, rgb, torch.from_numpy(ids), count, tree=tree)


def ground(**places: tuple[slice, slice]) -> np.ndarray:
    ids = np.ones(SMALL, np.int32)
    for number, place in enumerate(places.values(), 2):
        ids[place] = number
    return ids


def test_what_a_clear_contour_parts_from_the_ground_stands_out():
    ids = ground(half=(slice(None), slice(30, None)), it=BLOCK, cloud=(slice(25, 30), slice(40, 50)))
    there = stands_out(found_of(ids, GROUND_EDGE - 0.01, CONTOUR + 0.1, CONTOUR - 0.1))
    np.testing.assert_array_equal(there > 0, ids == 3)


def test_a_ground_with_edges_in_it_is_not_plain():
    """Of two halves none has enough of the rim."""
    ids = ground(half=(slice(None), slice(30, None)), it=BLOCK)
    assert stands_out(found_of(ids, GROUND_EDGE + 0.01, CONTOUR + 0.1)) is None


@pytest.mark.parametrize(("levels", "differs"), [(5, False), (11, True)])
def test_what_has_the_grounds_colour_does_not_stand_out(levels, differs):
    found = found_of(ground(it=BLOCK), CONTOUR + 0.1)
    rgb = torch.from_numpy(np.where(found.finest.numpy() == 2, 90 + levels, 90).astype(np.uint8)).expand(3, -1, -1)
    assert (stands_out(replace(found, rgb=rgb)) is not None) == differs


def test_what_is_lighter_here_and_darker_there_differs():
    """Though not in the mean."""
    found = found_of(ground(it=BLOCK), CONTOUR + 0.1)
    rgb = found.rgb.clone()
    rgb[:, 10:15, 20:35], rgb[:, 15:20, 20:35] = 60, 120
    np.testing.assert_array_equal(stands_out(replace(found, rgb=rgb)) > 0, found.finest.numpy() == 2)


def test_a_ground_that_shows_how_it_moves_is_not_plain():
    """Though there is no edge in it."""
    found = found_of(ground(it=BLOCK), CONTOUR + 0.1)
    waves = 60 * np.sin(np.arange(SMALL[1]) / 2)
    rgb = torch.from_numpy((found.rgb.numpy() + waves).clip(0, 255).astype(np.uint8))
    assert stands_out(found) is not None
    assert stands_out(replace(found, rgb=rgb)) is None


@pytest.mark.parametrize(("share", "is_plain"), [(0.2, True), (0.3, False)])
def test_somebody_may_be_cut_by_one_side(share, is_plain):
    ids, columns = np.ones(SMALL, np.int32), round(share * 2 * (sum(SMALL) - 2))
    ids[20:, 5 : 5 + columns] = 2
    there = stands_out(found_of(ids, CONTOUR + 0.1))
    assert (there is not None) == is_plain
    assert there is None or ((there > 0) == (ids == 2)).all()


def test_a_frame_is_no_ground():
    ids = np.ones(SMALL, np.int32)
    ids[4:-4, 4:-4] = 2
    assert stands_out(found_of(ids, CONTOUR + 0.1)) is None


@pytest.mark.parametrize("place", [(slice(0), slice(0)), (slice(5, 7), slice(5, 7))])
def test_where_nothing_or_a_speck_is_on_it_motion_tells(place):
    assert stands_out(found_of(ground(it=place), *[CONTOUR + 0.1] * bool(place[0].stop))) is None


def test_without_a_hierarchy_nothing_is_told():
    assert stands_out(replace(found_of(ground(it=BLOCK), 0.9), tree=None)) is None


def test_a_picture_of_one_pixel_has_nothing_on_it():
    assert stands_out(found_of(np.ones((1, 1), np.int32))) is None


@pytest.mark.parametrize("known", [True, False])
def test_it_counts_as_what_moves_by_itself(known):
    pieces, own = (ground(it=BLOCK) == 2).astype(np.int32), np.ones((2, *SMALL), np.float32)
    motion = with_what_stands_out(Motion(own=own if known else None), pieces)
    np.testing.assert_array_equal(motion.out, pieces > 0)
    np.testing.assert_array_equal(motion.own, own if known else 0 * own)
    odds = moving_of(motion)
    np.testing.assert_array_equal(odds, np.where(motion.out, SURELY_MOVING, moves_by_itself(motion.own)))
    assert odds.dtype == np.float32


def test_who_stands_out_need_not_move_for_some_looks():
    """Who does by half."""
    slots = np.zeros(SMALL, np.int32)
    slots[:10], slots[10:20, :20], slots[20:] = 1, 2, 4
    tracks = {slot: Track(slot, 0, seen=20) for slot in (1, 2, 3, 4)}
    assert all(map(had_time_to_move, tracks.values()))
    note_standing(tracks, slots, (np.arange(SMALL[1])[None].repeat(SMALL[0], 0) < 29).astype(np.int32))
    assert [track.stood for track in tracks.values()] == [0, 20, 0, 0]
    for seen, had_time in ((20 + MUST_MOVE_LOOKS - 1, False), (20 + MUST_MOVE_LOOKS, True)):
        assert had_time_to_move(replace(tracks[2], seen=seen)) == had_time


def test_what_stands_out_is_whole_but_for_what_is_anothers():
    """Of two pieces one is the class's for the most part; of the other it has too little."""
    pieces = ground(it=BLOCK, other=(slice(30, 35), slice(5, 20))) - 1
    shares = torch.zeros(2, *SMALL)
    shares[0, 10:15, 20:25], shares[1, 12:18, 20:35], shares[1, 30, 5:20] = 1, 0.97, 0.97
    shares[1] *= shares[0] == 0
    before, its = shares.clone(), torch.from_numpy(pieces == 1)
    kept_whole_(shares, 1, pieces)
    assert torch.equal(shares[0], before[0])
    assert torch.equal(shares[1][~its], before[1][~its])
    alone = its & (before[0] == 0)
    torch.testing.assert_close(shares[1][alone], torch.maximum(before[1], torch.full(SMALL, SURELY))[alone])
    assert not shares[1, 10:15, 20:25].any()
    kept_whole_(before, 0, pieces)
    assert (before[0] > 0.5).sum() == 25, "of whom less than a third is somebody's"


def test_a_picture_in_a_frame_is_no_object():
    """But a box before a wall is, and so is what is no rectangle, or lies beside one."""
    noise = np.random.default_rng(0).normal(0, 3, SMALL).round()

    def framed(ids: np.ndarray, shown: Callable[[np.ndarray], np.ndarray]) -> np.ndarray | None:
        found = found_of(ids, *[CONTOUR + 0.1] * int(ids.max() - 1))
        return stands_out(replace(found, rgb=torch.from_numpy(shown(found.rgb.numpy()).astype(np.uint8))))

    ids = ground(inner=(slice(6, 34), slice(9, 48)))
    assert framed(ids, lambda rgb: rgb) is None, "of one colour"
    assert framed(ids, lambda rgb: rgb // 6 + noise) is None, "black"
    assert (framed(ids, lambda rgb: rgb + noise) > 0).sum() == 28 * 39, "a wall"
    with_other = ids.copy()
    with_other[10:20, 52:57] = 3
    np.testing.assert_array_equal(framed(with_other, lambda rgb: rgb) > 0, with_other == 3)
    ids[6:20, 9:20] = 1
    assert framed(ids, lambda rgb: rgb) is not None


def test_a_piece_of_which_somebody_has_a_tenth_is_theirs():
    pieces = (ground(it=BLOCK, other=(slice(30, 35), slice(5, 20))) - 1).astype(np.int32)
    taken = np.zeros(SMALL, bool)
    taken[10, 20:35] = taken[30, 5:11] = True  # 15 of 150 px, 6 of 75
    np.testing.assert_array_equal(theirs(pieces, taken), pieces == 1)
    np.testing.assert_array_equal(theirs(np.where(pieces == 1, pieces, 0), taken), pieces == 1)
    assert not theirs(pieces, np.zeros(SMALL, bool)).any()


def test_specks_do_not_stand_out_however_many_they_are():
    ids = ground(it=BLOCK)
    ids[25:, ::4] = np.where(np.arange(15)[:, None] % 4 == 0, 3, ids[25:, ::4])
    there = stands_out(found_of(ids, CONTOUR + 0.1, CONTOUR + 0.1))
    np.testing.assert_array_equal(there > 0, ids == 2)
    assert stands_out(found_of(np.where(ids == 2, 1, ids), CONTOUR + 0.1, CONTOUR + 0.1)) is None


def test_of_a_ground_that_is_all_rims_nobody_knows_whether_it_is_even():
    ids = ground(it=BLOCK)
    ids[::2, ::2] = 3
    assert stands_out(found_of(ids, CONTOUR + 0.1, CONTOUR + 0.1)) is None


@pytest.fixture(scope="module")
def segmenter(cached: None, networks: None) -> Segmenter:
    return Segmenter(AnalysisOptions(detail=0.5), torch.device("cpu"), features=True)


def slot_of(tracks: AppearanceTracks) -> int:
    """The slot of the only one who has a name."""
    (slot,) = (slot for slot, track in tracks.tracker.tracks.items() if track.name)
    return slot


def at_rest(y: int, x: int) -> Callable[[int], tuple[int, int]]:
    return lambda _: (y, x)


@pytest.mark.weights
@pytest.mark.parametrize("every", [1, 4])
def test_what_is_at_rest_before_a_plain_ground_is_found_from_the_first_frame(segmenter, every):
    film = PlainFilm([Thing(RED, 44, at_rest(50, 70), round=True)], ground=LIGHT)
    tracks = tracks_of(segmenter, every=every, find=True)
    found = list(run(tracks, film, range(12)))
    for i, slots in enumerate(found):
        assert iou(slots > 0, film.seen(0, i)) > 0.85, f"frame {i}"
    assert len({*np.unique(found)} - {0}) == 1


@pytest.mark.weights
def test_what_is_lighter_here_and_darker_there_than_the_ground_is_whole(segmenter):
    """As a plane in the sky: the colours around would draw its light half to the ground."""
    light, dark = Thing((235, 235, 238), 22, at_rest(56, 70)), Thing((60, 60, 66), 22, at_rest(78, 70))
    film = PlainFilm([light, dark], ground=LIGHT)
    for i, slots in enumerate(run(tracks_of(segmenter, find=True), film, range(8))):
        assert iou(slots > 0, film.seen(0, i) | film.seen(1, i)) > 0.8, f"frame {i}"


@pytest.mark.weights
@pytest.mark.parametrize("every", [1, 2])
def test_somebody_named_stays_who_they_are(segmenter, every):
    film = PlainFilm([Thing(RED, 40, at_rest(50, 30)), Thing(BLUE, 40, at_rest(50, 120))], ground=LIGHT)
    labels = film.seen(0, 0).astype(np.uint8)
    tracks = tracks_of(segmenter, named("it", mask=1), every=every, find=True, drawn=labels)
    found, it = list(run(tracks, film, range(8))), slot_of(tracks)
    for i, slots in enumerate(found):
        assert iou(slots == it, film.seen(0, i)) > 0.85, f"frame {i}"
        assert iou((slots > 0) & (slots != it), film.seen(1, i)) > 0.8, f"frame {i}"


@pytest.mark.weights
def test_somebody_named_who_leaps_is_nobody_new(segmenter):
    film = PlainFilm([Thing(RED, 36, lambda i: (50, 20 if i < 8 else 130))], ground=LIGHT)
    tracks = tracks_of(segmenter, named("it", mask=1), find=True, drawn=film.seen(0, 0).astype(np.uint8))
    found, it = list(run(tracks, film, range(16))), slot_of(tracks)
    for i in (*range(8), *range(10, 16)):
        assert iou(found[i] == it, film.seen(0, i)) > 0.85, f"frame {i}"
        assert not ((found[i] > 0) & (found[i] != it)).any(), f"frame {i}"


@pytest.mark.weights
def test_of_half_a_thing_that_is_named_the_rest_is_nobodys(segmenter):
    light, dark = Thing((235, 235, 238), 30, at_rest(40, 70)), Thing((60, 60, 66), 30, at_rest(70, 70))
    film = PlainFilm([light, dark], ground=LIGHT)
    tracks = tracks_of(segmenter, named("it", mask=1), find=True, drawn=film.seen(1, 0).astype(np.uint8))
    found, it = list(run(tracks, film, range(8))), slot_of(tracks)
    for i, slots in enumerate(found):
        assert iou(slots == it, film.seen(1, i)) > 0.7, f"frame {i}"
        assert not ((slots > 0) & (slots != it)).any(), f"frame {i}"


@pytest.mark.weights
def test_what_moves_beside_something_at_rest_is_found_too(segmenter):
    film = PlainFilm([Thing(BLUE, 40, at_rest(10, 10)), Thing(RED, 36, lambda i: (90, 20 + 5 * i))], ground=LIGHT)
    for i, slots in enumerate(run(tracks_of(segmenter, find=True), film, range(10))):
        for k in (0, 1):
            assert max(iou(slots == slot, film.seen(k, i)) for slot in np.unique(slots)) > 0.8, f"frame {i}"


@pytest.mark.weights
def test_goes_on_elsewhere_to_the_same_bit(segmenter, tmp_path):
    film = PlainFilm([Thing(RED, 44, at_rest(50, 70), round=True)], ground=LIGHT)
    first, second = (tracks_of(segmenter, every=2, find=True) for _ in range(2))
    list(run(first, film, range(5)))
    write_state(tmp_path / "state", first.state_dict())
    second.load_state_dict(read_state(tmp_path / "state"))
    rest = zip(run(first, film, range(5, 12)), run(second, film, range(5, 12)), strict=True)
    assert all(np.array_equal(*pair) for pair in rest)
    assert first.report() == second.report()
    assert [t.stood for t in first.tracker.tracks.values()] == [t.stood for t in second.tracker.tracks.values()] != [0]


@pytest.mark.weights
@pytest.mark.parametrize("find", [False, True])
def test_a_film_that_cuts_to_another_plain_ground_and_back_goes_on(segmenter, find):
    """Who is named is sought there by a scout where nobody is found, and there is a thing that stands out."""
    things = [Thing(RED, 40, lambda i: (50, 30 + 2 * i), round=True), Thing(BLUE, 36, at_rest(90, 140))]
    film, other = PlainFilm(things, ground=LIGHT), PlainFilm([Thing(RED, 44, at_rest(40, 100))], ground=(60, 70, 60))
    tracks = RecallingTracks(segmenter, (named("it", point=(50, 70)),), 1, find=find)
    scenes = [
        *((film, i, 0) for i in range(5)),
        *((other, i, 1) for i in range(5)),
        *((film, i, 0) for i in range(5, 9)),
    ]
    for number, (scene, i, shot) in enumerate(scenes):
        found = scene.found(segmenter, i)
        slots = tracks.step(scene.luma(i), found, shot, number, number / 25, SIZE)
        if scene is film:
            it = slot_of(tracks)
            assert iou(slots == it, film.seen(0, i)) > 0.85, f"frame {number}"
            assert (iou((slots > 0) & (slots != it), film.seen(1, i)) > 0.8) == find, f"frame {number}"


class GrainyFilm(Film):
    """With a film's noise, so that no frame is the one before."""

    def picture(self, frame: int) -> np.ndarray:
        noise = np.random.default_rng(frame).normal(0, 1, (*SIZE, 1))
        return (super().picture(frame) + noise).round().clip(0, 255).astype(np.uint8)


def away_from_plain(segmenter: Segmenter, way: Callable[[int], int]) -> list[np.ndarray]:
    """What is found of a disc on even ground, which lies on mottled ground then, and goes a way to the left."""
    disc = Thing(RED, 44, lambda i: (50, 60 - way(i)), round=True)
    plain, other = PlainFilm([disc], ground=LIGHT), GrainyFilm([disc], ground=LIGHT)
    tracks, found = tracks_of(segmenter, find=True), []
    for i in range(PLAIN_FRAMES + MUST_MOVE_LOOKS + 4):
        film = plain if i < PLAIN_FRAMES else other
        assert (stands_out(film.found(segmenter, i)) is not None) == (film is plain)
        slots = tracks.step(film.luma(i), film.found(segmenter, i), 0, i, i / 25, SIZE)
        found.append((slots > 0)[disc.mask(i)])
    return found


@pytest.mark.weights
def test_who_rests_where_the_ground_is_plain_no_more_is_let_go_after_some_looks(segmenter):
    """As the rest of a room is seen when a film fades in; a single look changes nothing."""
    shares = [float(there.mean()) for there in away_from_plain(segmenter, lambda i: 0)]
    assert min(shares[: PLAIN_FRAMES + MUST_MOVE_LOOKS - 1]) > 0.8
    assert max(shares[PLAIN_FRAMES + MUST_MOVE_LOOKS + 1 :]) < 0.1


@pytest.mark.weights
def test_who_moves_there_stays(segmenter):
    shares = away_from_plain(segmenter, lambda i: 2 * max(0, i - PLAIN_FRAMES))
    assert min(float(there.mean()) for there in shares) > 0.7
