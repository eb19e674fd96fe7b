"""What moves too slowly for one frame to show it, before a camera at rest."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from streamstyle.config import AnalysisOptions
from streamstyle.objects.evidence import SURELY_MOVING, moves_by_itself, own_motion
from streamstyle.objects.segmenter import Segmenter
from streamstyle.objects.slow_motion import (
    CAMERA_PX,
    FAR_PX,
    FAST_PX,
    FAST_REACH_PX,
    LONG_FRAMES,
    MOST_COPIES,
    MOST_FRAMES,
    SEEN_TIMES,
    SlowMotion,
    changed,
    gone_far,
    gone_far_on_device,
    usual_motion_px,
    usual_motions_px,
)
from streamstyle.objects.weighing import Motion
from tests.mottled_film import RED, SwayingFilm, Thing, run, tracks_of
from tests.oracles import iou

SIZE = (240, 320)
KEPT = {"host": None, "device": torch.device("cpu")}
THING = np.zeros(SIZE, bool)
THING[80:160, 120:180] = True
SLOW_PX = 0.3


def texture(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 1, SIZE).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), 2) * 250 + 128


def picture(at_px: float, ground: np.ndarray | None = None, camera_px: float = 0.0) -> np.ndarray:
    """A textured thing so far to the right of where it was, before a ground that the camera moves."""
    moves = [np.array([[1, 0, px], [0, 1, 0]], np.float32) for px in (camera_px + at_px, camera_px)]
    there, behind = (
        cv2.warpAffine(plane, way, SIZE[::-1], borderMode=cv2.BORDER_REFLECT)
        for plane, way in zip((texture(1), texture(0) if ground is None else ground), moves, strict=True)
    )
    where = cv2.warpAffine(THING.astype(np.float32), moves[0], SIZE[::-1])
    return (behind + where * (there - behind)).round().clip(0, 255).astype(np.uint8)


def flow(thing_px: float, camera_px: float = 0.0) -> np.ndarray:
    """To the frame before."""
    moved = np.full((*SIZE, 2), 0, np.float32)
    moved[..., 0] = -camera_px
    moved[THING, 0] -= thing_px
    return moved


def motion_of(moved: np.ndarray, told: str) -> Motion:
    """As the host, or a device, tells it."""
    own = own_motion(moved)
    if told == "host":
        return Motion(moved, own)
    parts = (torch.from_numpy(part) for part in (moved, own, moves_by_itself(own)))
    return Motion(*parts, usual_px=usual_motion_px(moved))


WAYS = pytest.mark.parametrize("told", ["host", "device"])


def after(told: str, frames: int, thing_px: float = SLOW_PX, camera_px: float = 0.0, slow: SlowMotion | None = None):
    """The motion of the last of some frames after an anchor, as SlowMotion tells it; alone it is looked at."""
    slow = slow or SlowMotion(KEPT[told])
    step(slow, Motion(), picture(0), looked_at=True)
    for i in range(1, frames + 1):
        luma = picture(i * thing_px, camera_px=i * camera_px)
        motion = step(slow, motion_of(flow(thing_px, camera_px), told), luma, looked_at=i == frames)
    return motion


@WAYS
def test_a_body_that_sways_is_seen_moving_after_a_while_and_not_at_once(told):
    """By .3 px a frame: of the frame alone it stands still."""
    alone = moves_by_itself(own_motion(flow(SLOW_PX)))
    assert alone[THING].max() < 0
    early, late = (np.asarray(after(told, frames).moving) for frames in (LONG_FRAMES - 1, LONG_FRAMES))
    np.testing.assert_allclose(early, alone, atol=1e-5)
    inside = cv2.erode(THING.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    assert (late[inside] > 0).mean() > 0.9
    beside = cv2.dilate(THING.astype(np.uint8), np.ones((9, 9), np.uint8)) == 0
    assert late[beside].max() < 0
    assert late.dtype == np.float32


@WAYS
@pytest.mark.parametrize("camera_px", [CAMERA_PX[1] + 0.2, 5.0])
def test_before_a_camera_that_moves_nothing_is_asked(told, camera_px):
    """Near things move beside far ones there, the more the longer one waits."""
    slow, moved = SlowMotion(KEPT[told]), motion_of(flow(SLOW_PX, camera_px), told)
    step(slow, Motion(), picture(0), looked_at=True)
    for _ in range(2 * LONG_FRAMES):
        assert step(slow, moved, picture(0), looked_at=True) is moved
    assert slow.state_dict()["anchor"] is slow.state_dict()["changed"] is None


@WAYS
def test_a_camera_that_comes_to_rest_is_known_after_a_while(told):
    slow = SlowMotion(KEPT[told])
    step(slow, Motion(), picture(0), looked_at=True)
    step(slow, motion_of(flow(0, 4 * CAMERA_PX[1]), told), picture(0), looked_at=True)
    still = motion_of(flow(0), told)
    rests = [step(slow, still, picture(0), looked_at=True) is not still for _ in range(40)]
    assert not rests[0]
    assert rests[-1]
    assert rests == sorted(rests)


@WAYS
def test_what_is_seen_moving_before_a_camera_at_rest_counts_more(told):
    fast = own_motion(flow(4))
    given = np.asarray(after(told, 1, 4).moving)
    alone = moves_by_itself(fast)
    np.testing.assert_allclose(given, np.where(alone > 0, SEEN_TIMES * alone, alone), atol=1e-5)
    half = np.asarray(after(told, 1, 4, camera_px=sum(CAMERA_PX) / 2).moving)
    assert alone[THING].mean() * 1.1 < half[THING].mean() < given[THING].mean() * 0.95


def step(slow: SlowMotion, motion: Motion, luma: np.ndarray, *, before: np.ndarray | None = None, **how) -> Motion:
    """One frame; before it what it shows was somewhere else, or what is given."""
    return slow.step(motion, (picture(-9) if before is None else before, luma), **how)


def way_and_pictures(at_px: float, ground: np.ndarray | None = None) -> tuple[np.ndarray, ...]:
    return picture(at_px, ground), picture(0, ground), flow(at_px), np.zeros(SIZE, bool)


def test_where_only_grain_differs_nothing_was_seen_moving():
    """On an even ground flow follows it; a thing before it is told all the same."""
    rng, even = np.random.default_rng(0), np.full(SIZE, 180, np.float32)
    for thing in (False, True):
        luma, anchor = (
            np.where(np.roll(THING, px, 1) & thing, np.roll(texture(1), px, 1), even) + rng.normal(0, 3, SIZE)
            for px in (3, 0)
        )
        luma, anchor = (plane.round().clip(0, 255).astype(np.uint8) for plane in (luma, anchor))
        way = flow(3)
        way[170:, :, 0] = -3  # below
        told = gone_far(luma, anchor, way, np.zeros(SIZE, bool)) > 0
        assert told[170:].mean() < 0.02
        assert bool(told[THING].mean() > 0.6) is thing
        assert changed(luma, anchor)[170:].mean() < 0.02
        assert bool(changed(luma, anchor)[THING].mean() > 0.6) is thing


@WAYS
def test_where_the_picture_did_not_change_what_is_seen_moving_counts_as_ever(told):
    slow, moved = SlowMotion(KEPT[told]), motion_of(flow(4), told)
    step(slow, Motion(), picture(0), looked_at=True)
    given = np.asarray(step(slow, moved, picture(4), before=picture(4), looked_at=True).moving)
    np.testing.assert_allclose(given, moves_by_itself(own_motion(flow(4))), atol=1e-5)


def test_what_flow_takes_along_is_not_what_moved():
    """The ground around a thing, which stands where it stood: pictures tell."""
    luma, anchor, way, fast = way_and_pictures(3)
    wide = cv2.dilate(THING.astype(np.uint8), np.ones((21, 21), np.uint8)) > 0
    way[wide, 0] = -3
    odds = gone_far(luma, anchor, way, fast)
    far = wide & (cv2.dilate(THING.astype(np.uint8), np.ones((13, 13), np.uint8)) == 0)
    assert moves_by_itself(own_motion(way))[far].min() > 0
    assert (odds[far] > 0).mean() < 0.05
    assert (odds[THING] > 0).mean() > 0.8


def test_what_is_the_same_to_the_level_did_not_move():
    """Black bars, into which flow spills."""
    black = texture(0)
    black[:, 200:] = 0
    luma, anchor, way, fast = way_and_pictures(3, black)
    way[:, 200:, 0] = -3
    assert gone_far(luma, anchor, way, fast)[:, 206:].max() == -SURELY_MOVING


def test_what_nothing_fits_did_not_move():
    """A thing that was not there: flow leads it anywhere."""
    luma, _, way, fast = way_and_pictures(3)
    anchor = texture(0).clip(0, 255).astype(np.uint8)
    assert (gone_far(luma, anchor, way, fast)[THING] > 0).mean() < 0.3


def test_where_something_fast_went_past_nothing_is_asked():
    luma, anchor, way, fast = way_and_pictures(3)
    fast[100:120, 130:140] = True
    odds = gone_far(luma, anchor, way, fast)
    reach = FAST_REACH_PX
    assert odds[100 - reach : 120 + reach, 130 - reach : 140 + reach].max() == -SURELY_MOVING
    assert (odds[122 + reach : 150, 130:140] > 0).all()


@WAYS
def test_fast_is_so_far_in_one_frame(told):
    for px, is_fast in ((0.9 * FAST_PX, False), (1.1 * FAST_PX, True)):
        slow = SlowMotion(KEPT[told])
        after(told, 2, px, slow=slow)
        fast = slow.state_dict()["fast"]
        assert bool(fast[THING[::2, ::2]].all()) is is_fast
        assert not fast[~THING[::2, ::2]].any()


@WAYS
def test_a_camera_that_sets_off_is_known_at_once(told):
    slow = SlowMotion(KEPT[told])
    for _ in range(20):
        step(slow, motion_of(flow(0), told), picture(0), looked_at=False)
    moved = motion_of(flow(SLOW_PX, CAMERA_PX[1] + 0.2), told)
    assert step(slow, moved, picture(0), looked_at=True) is moved


@WAYS
def test_a_film_on_twos_counts_as_its_pictures_do(told):
    """A copy counts as what it shows again, and neither for the camera's rest nor, for the third time, as seen."""
    slow, moved = SlowMotion(KEPT[told]), motion_of(flow(4), told)
    step(slow, Motion(), picture(0), looked_at=True)
    alone = moves_by_itself(own_motion(flow(4)))
    for copies, times in ((0, SEEN_TIMES), (1, SEEN_TIMES), (MOST_COPIES, SEEN_TIMES), (MOST_COPIES + 1, 1)):
        given = np.asarray(step(slow, moved, picture(4), looked_at=True, copies=copies).moving)
        np.testing.assert_allclose(given, np.where(alone > 0, times * alone, alone), atol=1e-5)
    panned = motion_of(flow(0, 2 * CAMERA_PX[1]), told)
    step(slow, panned, picture(0), looked_at=False)
    camera_px = slow.state_dict()["camera_px"]
    step(slow, motion_of(flow(0), told), picture(0), looked_at=False, copies=1)
    assert slow.state_dict()["camera_px"] == camera_px


def test_a_slider_is_not_at_rest():
    """Half a pixel a frame is, of a frame; of eight near things have gone as far beside far ones as what sways has."""
    fast = np.zeros(SIZE, bool)
    for camera_px, told in ((0, 1), (1, 1), (3, 0.5), (5, 0)):
        luma, anchor = (picture(2 * gone, camera_px=camera_px * gone) for gone in (1, 0))
        odds = gone_far(luma, anchor, flow(2, camera_px), fast)
        alone = moves_by_itself(own_motion(flow(2)), least_px=FAR_PX)[THING].max()
        assert odds.max() == pytest.approx(alone - 2 * SURELY_MOVING * (1 - told), abs=0.15)


@WAYS
def test_after_too_many_frames_nobody_asks(told):
    slow = SlowMotion(KEPT[told])
    motion = after(told, MOST_FRAMES + 1, slow=slow)
    assert np.asarray(motion.moving)[THING].max() < 0
    assert slow.state_dict()["frames"] == 0


@WAYS
def test_what_is_held_is_let_go_where_something_fast_comes_or_flow_is_not_to_be_trusted(told):
    for given, goes in ((flow(0), False), (flow(2 * FAST_PX), True), ("distrust", True)):
        slow = SlowMotion(KEPT[told])
        held = np.asarray(after(told, LONG_FRAMES, slow=slow).moving)
        assert (held[THING] > 0).mean() > 0.8
        moved = motion_of(flow(0) if isinstance(given, str) else given, told)
        if isinstance(given, str):
            distrust = np.zeros(SIZE, np.float32)
            moved = replace(moved, steady=distrust if told == "host" else torch.from_numpy(distrust))
        step(slow, moved, picture(0), looked_at=False)
        far = slow.state_dict()["far"]
        inside = cv2.erode(THING.astype(np.uint8), np.ones((25, 25), np.uint8))[::2, ::2] > 0
        assert (far[inside] > 0).mean() == pytest.approx(0 if goes else 1, abs=0.1)


def test_motion_that_the_host_found_is_taken_where_maps_are_tensors():
    """As of the first frame after a shot is taken up."""
    slow, same = (SlowMotion(KEPT["device"]) for _ in range(2))
    for i in range(1, 2 * LONG_FRAMES):
        luma = picture(i * SLOW_PX)
        mixed = step(slow, motion_of(flow(SLOW_PX), ("host", "device")[i % 2]), luma, looked_at=True)
        tensors = step(same, motion_of(flow(SLOW_PX), "device"), luma, looked_at=True)
        assert isinstance(mixed.moving, torch.Tensor)
        np.testing.assert_allclose(mixed.moving, tensors.moving, atol=1e-4)


@WAYS
def test_who_comes_back_to_a_shot_begins_with_another_anchor(told):
    slow = SlowMotion(KEPT[told])
    after(told, LONG_FRAMES, slow=slow)
    camera_px = slow.state_dict()["camera_px"]
    slow.drop()
    left = slow.state_dict()
    assert left.pop("camera_px") == camera_px
    assert left.pop("changed") is not None
    assert set(left.values()) == {None, 0}


def test_most_of_a_picture_is_its_lower_half_on_devices_too(device):
    halves = np.zeros((1, 16, 32, 2), np.float32)
    halves[:, :, 16:, 0] = 2
    assert usual_motion_px(halves[0]) == 0
    assert usual_motions_px(torch.from_numpy(halves).to(device)).item() == 0


@WAYS
def test_repeated_frames_are_not_counted(told):
    slow = SlowMotion(KEPT[told])
    step(slow, Motion(), picture(0), looked_at=True)
    for i in range(1, LONG_FRAMES):
        step(slow, motion_of(flow(SLOW_PX), told), picture(i * SLOW_PX), looked_at=False)
    again = step(slow, motion_of(flow(0), told), picture((LONG_FRAMES - 1) * SLOW_PX), looked_at=True, copies=1)
    assert np.asarray(again.moving)[THING].max() < 0
    last = step(slow, motion_of(flow(SLOW_PX), told), picture(LONG_FRAMES * SLOW_PX), looked_at=True)
    assert (np.asarray(last.moving)[THING] > 0).mean() > 0.8


@WAYS
@pytest.mark.parametrize("frames", [0, 1, LONG_FRAMES - 1, LONG_FRAMES])
def test_a_state_goes_on_alike(told, frames):
    first, second = SlowMotion(KEPT[told]), SlowMotion(KEPT[told])
    after(told, frames, slow=first) if frames else step(first, Motion(), picture(0), looked_at=True)
    state = first.state_dict()
    assert all(part is None or isinstance(part, (np.ndarray, int, float)) for part in state.values())
    second.load_state_dict(state)
    for i in range(frames + 1, frames + 2 * LONG_FRAMES):
        moved, luma = motion_of(flow(SLOW_PX), told), picture(i * SLOW_PX)
        one, other = (step(slow, moved, luma, looked_at=True) for slow in (first, second))
        np.testing.assert_array_equal(np.asarray(one.moving), np.asarray(other.moving))


def test_a_shot_begins_anew():
    slow = SlowMotion(None)
    after("host", LONG_FRAMES - 1, slow=slow)
    assert step(slow, Motion(), picture(0), looked_at=True).moving is None
    motion = step(slow, motion_of(flow(SLOW_PX), "host"), picture(0), looked_at=True)
    assert motion.moving[THING].max() < 0
    slow.reset()
    assert slow.state_dict() == SlowMotion(None).state_dict()


@pytest.fixture(scope="module")
def segmenter(cached: None) -> Segmenter:
    return Segmenter(AnalysisOptions(detail=0.5), torch.device("cpu"), features=True)


@pytest.mark.weights
@pytest.mark.parametrize("every", [1, 4])
def test_who_sways_is_found_unasked_and_without_slow_motion_nobody_is(segmenter, every, monkeypatch):
    """By .2 px a frame; once found it is held at its turning points, too."""
    film = SwayingFilm(Thing(RED, 50, lambda _: (50, 70), round=True), 3, 90)
    found = list(run(tracks_of(segmenter, every=every, find=True), film, range(60)))
    for i in range(2 * LONG_FRAMES + 4, 60):
        assert iou(found[i] > 0, film.seen(0, i)) > (0.8 if every == 1 else 0.7), f"frame {i}"
    assert not any(slots.any() for slots in found[:LONG_FRAMES])
    monkeypatch.setattr(SlowMotion, "step", lambda self, motion, *_, **__: motion)
    assert not any(slots.any() for slots in run(tracks_of(segmenter, every=every, find=True), film, range(60)))


@pytest.mark.weights
def test_before_a_camera_at_rest_where_nothing_moves_nothing_is_found(segmenter):
    """But for a film's noise."""
    film = SwayingFilm(Thing(RED, 50, lambda _: (50, 70), round=True), 0, 90)
    still, rng = film.picture(0), np.random.default_rng(0)
    film.picture = lambda _: (still + rng.normal(0, 2, still.shape)).round().clip(0, 255).astype(np.uint8)
    assert not any(slots.any() for slots in run(tracks_of(segmenter, find=True), film, range(30)))


def test_while_anybody_may_be_found_what_is_seen_counts_as_ever():
    slow, moved = SlowMotion(None), motion_of(flow(4), "host")
    step(slow, Motion(), picture(0), looked_at=True)
    eager = step(slow, moved, picture(4), looked_at=True, eager=True)
    np.testing.assert_array_equal(eager.moving, moves_by_itself(moved.own))


def test_tensors_tell_what_arrays_do(device):
    luma, anchor, way, fast = way_and_pictures(3)
    way += np.random.default_rng(0).normal(0, 0.02, way.shape).astype(np.float32)
    fast[100:104, 130:134] = True
    expected = gone_far(luma, anchor, way, fast)
    assert 0.1 < (expected > 0).sum() / THING.sum() < 2
    found = gone_far_on_device(*(torch.from_numpy(part).to(device) for part in (luma, anchor, way, fast))).cpu().numpy()
    assert (np.abs(found - expected) > 1e-3).mean() < 0.005  # where a level was rounded otherwise
    flows = np.stack([flow(1, 3), flow(2)])
    told = usual_motions_px(torch.from_numpy(flows).to(device)).cpu()
    np.testing.assert_allclose(told, [usual_motion_px(one) for one in flows], atol=1e-4)
