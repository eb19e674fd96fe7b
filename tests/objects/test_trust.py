"""How far what was carried may be trusted: fully where the picture is what it was, hardly where something came out."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from streamstyle.media.states import read_state, write_state
from streamstyle.objects.trust import (
    DOUBT_LEVELS,
    DOUBT_PER_PX,
    LOOK_DOUBT,
    NOISE_LEVELS,
    OPEN_EVERY,
    Doubt,
    Trust,
    carried_maps,
    doubted,
    trust,
    trust_in,
    trusts,
)
from streamstyle.objects.weighing import Motion
from streamstyle.stages.optical_flow import carry

SIZE = (60, 90)
POST = (slice(None), slice(40, 48))


def ground(shift: int = 0) -> np.ndarray:
    """[h, w] uint8, texture that moves to the right by whole pixels."""
    texture = np.random.default_rng(0).integers(60, 120, (SIZE[0], SIZE[1] + 40), np.uint8)
    return np.ascontiguousarray(cv2.GaussianBlur(texture, (0, 0), 1)[:, 40 - shift : 40 - shift + SIZE[1]])


def flow(dx: float = 0, dy: float = 0) -> np.ndarray:
    return np.full((*SIZE, 2), (dx, dy), np.float32)


def test_what_went_where_flow_says_is_trusted():
    found = trust(ground(3), ground(), flow(-3))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[:, 4:], 1)


def test_what_came_out_from_behind_something_is_not():
    before, now = ground(), ground()
    before[POST] = 230
    found = trust(now, before, flow())
    assert found[:, 41:47].max() < 0.1
    np.testing.assert_array_equal(np.delete(found, np.s_[39:49], 1), 1)


def test_noise_is_no_doubt():
    noisy = np.clip(ground() + np.random.default_rng(1).normal(0, 4, SIZE), 0, 255).astype(np.uint8)
    assert trust(noisy, ground(), flow()).min() > 0.95


def test_how_trust_falls():
    levels = np.array([0, NOISE_LEVELS, NOISE_LEVELS + DOUBT_LEVELS, 255])
    np.testing.assert_allclose(trust_in(levels), [1, 1, np.exp(-1), 0], atol=1e-6)


def test_of_frames_at_once_it_is_the_same(device):
    rng = np.random.default_rng(2)
    lumas = np.stack([ground(shift) for shift in range(4)])
    lumas[2, 20:40, 30:50] = 210
    flows = np.stack([flow(-1) + rng.normal(0, 0.3, (*SIZE, 2)) for _ in range(3)]).astype(np.float32)
    found = trusts(*(torch.from_numpy(part).to(device) for part in (lumas[1:], lumas[:-1], flows))).cpu()
    for i in range(3):
        wanted = trust(lumas[i + 1], lumas[i], flows[i])
        assert np.abs(found[i].numpy() - wanted).max() < 0.06  # a level more or less: places are rounded to 1/32 px
        assert np.abs(found[i].numpy() - wanted).mean() < 1e-3


def test_maps_are_carried_alike_on_a_device(device):
    rng = np.random.default_rng(3)
    values = cv2.GaussianBlur(rng.random(SIZE, np.float32), (0, 0), 2)
    to = rng.normal(0, 30, (*SIZE, 2)).astype(np.float32)  # many of them outside
    found = carried_maps(torch.from_numpy(values)[None, None].to(device), torch.from_numpy(to)[None].to(device))[0, 0]
    np.testing.assert_allclose(found.cpu().numpy(), carry(values, to), atol=0.02)


@pytest.mark.parametrize(("trusted", "wanted"), [(1, 0.9), (0.5, 0.7), (0, 0.5)])
def test_a_share_that_is_doubted_is_drawn_to_a_half(trusted, wanted):
    share = np.full(SIZE, 0.9, np.float32)
    found = doubted(share, np.full(SIZE, trusted, np.float32))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_without_trust_all_is_believed():
    share = np.full(SIZE, 0.9, np.float32)
    assert doubted(share, None) is share


def film() -> list[np.ndarray]:
    """A ground that moves by two pixels a frame, in which something flashes in the third frame."""
    lumas = [ground(2 * i) for i in range(6)]
    lumas[2][20:40, 30:50] = 230
    return lumas


def stepped(trusted: Trust, frames: range, looked_at: int = 99) -> list[np.ndarray]:
    lumas = film()
    return [
        trusted.step(Motion(flow(-2)), lumas[i - 1], lumas[i], looked_at=i % looked_at == 0)[1].copy() for i in frames
    ]


def test_doubt_goes_along_until_a_frame_is_looked_at():
    trusted = Trust(torch.device("cpu"))
    maps = stepped(trusted, range(1, 6), looked_at=4)
    assert maps[0].min() > 0.99
    assert maps[1][25:35, 35:45].max() < 0.1
    assert maps[2][25:35, 37:47].max() < 0.1
    assert maps[3][25:35, 39:49].max() < 0.1  # what came into the frame that is looked at
    assert maps[4][:, 4:].min() > 0.99
    assert trusted.since == 1


def test_how_long_ago_a_frame_was_looked_at():
    trusted, seen = Trust(torch.device("cpu")), []
    for i in range(1, 6):
        stepped(trusted, range(i, i + 1), looked_at=3)
        seen.append(trusted.since)
    assert seen == [1, 2, 0, 1, 2]
    trusted.reset()
    assert trusted.since == 0


def test_where_motion_is_not_known_nobody_knows():
    trusted, luma = Trust(torch.device("cpu")), ground()
    assert trusted.step(Motion(), luma, luma, looked_at=False) == (None, None)
    assert trusted.step(Motion(flow()), None, luma, looked_at=False) == (None, None)


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_state_goes_on_alike_through_a_file(tmp_path: Path, stop):
    whole = stepped(Trust(torch.device("cpu")), range(1, 6))
    first = Trust(torch.device("cpu"))
    stepped(first, range(1, 1 + stop))
    write_state(tmp_path / "state", first.state_dict())
    again = Trust(torch.device("cpu"))
    again.load_state_dict(read_state(tmp_path / "state"))
    np.testing.assert_array_equal(stepped(again, range(1 + stop, 6)), whole[stop:])
    assert again.since == 5


def test_on_a_device_the_motions_own_trust_is_taken(device):
    lumas = film()
    host, there = Trust(torch.device("cpu")), Trust(device)
    for i in range(1, 5):
        pair = [torch.from_numpy(luma)[None].to(device) for luma in (lumas[i], lumas[i - 1])]
        moved = torch.from_numpy(flow(-2)).to(device)
        motion = Motion(moved, steady=trusts(*pair, moved[None])[0])
        steady, both = there.step(motion, lumas[i - 1], lumas[i], looked_at=False)
        wanted = host.step(Motion(flow(-2)), lumas[i - 1], lumas[i], looked_at=False)
        assert isinstance(both, torch.Tensor)
        np.testing.assert_allclose(steady.cpu().numpy(), wanted[0], atol=1e-6)
        np.testing.assert_allclose(both.cpu().numpy(), wanted[1], atol=1e-4)


# -- how far all that was carried is doubted ---------------------------------------------------------------------------

THERE = np.zeros(SIZE, np.int32)
THERE[20:40, 30:60] = 2
SURE = np.ones(SIZE, np.float32)


def doubt_after(*frames: tuple[np.ndarray, np.ndarray, np.ndarray], missing: bool = False) -> float:
    """Of frames that were carried one after another: slots, flow, trust."""
    doubt = Doubt()
    for since, (slots, moved, trusted) in enumerate(frames, start=1):
        doubt.step(slots, Motion(moved, trust=trusted), since, open_question=missing)
    return doubt.so_far


def test_what_stands_still_and_looks_the_same_is_not_doubted():
    assert doubt_after(*[(THERE, flow(), SURE)] * 7) == 0


def test_doubt_is_what_trust_lacks_where_objects_are_and_a_little_around():
    there, aside = SURE.copy(), SURE.copy()
    there[20:40, 30:45] = 0
    aside[:10] = 0
    assert doubt_after((THERE, flow(), aside)) == 0
    assert doubt_after((THERE, flow(), there)) == pytest.approx((20 * 15) / (28 * 38))


def test_doubt_grows_with_the_way_that_objects_went_at_any_size():
    moved = flow()
    moved[20:40, 30:60] = (3, -4)
    way_px = 5 * 240 / SIZE[0]
    assert doubt_after((THERE, moved, SURE), (THERE, moved, SURE)) == pytest.approx(2 * DOUBT_PER_PX * way_px)
    large = cv2.resize(THERE.astype(np.uint8), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST).astype(np.int32)
    twice = cv2.resize(2 * moved, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    once = doubt_after((THERE, moved, SURE))
    assert doubt_after((large, twice, np.ones(large.shape, np.float32))) == pytest.approx(once)


def test_doubt_does_not_fall_until_a_frame_is_looked_at():
    unlike = (THERE, flow(), 0.5 * SURE)
    doubt = Doubt()
    for since, (slots, moved, trusted) in enumerate((unlike, (THERE, flow(), SURE)), start=1):
        doubt.step(slots, Motion(moved, trust=trusted), since, open_question=False)
    assert doubt.so_far == pytest.approx(0.5)
    doubt.reset()
    assert doubt.so_far == 0


@pytest.mark.parametrize("missing", [True, False])
def test_who_is_missing_is_looked_for_as_often_as_ever(missing):
    nobody = np.zeros(SIZE, np.int32)
    carried = (THERE if missing else nobody, flow(), SURE)
    assert doubt_after(*[carried] * (OPEN_EVERY - 2), missing=missing) < LOOK_DOUBT
    assert doubt_after(*[carried] * (OPEN_EVERY - 1), missing=missing) >= LOOK_DOUBT


def test_where_motion_is_not_known_there_is_no_doubt():
    doubt = Doubt()
    doubt.step(THERE, Motion(), 1, open_question=False)
    doubt.step(THERE, Motion(flow()), 2, open_question=False)
    assert doubt.so_far == 0


def test_a_doubt_goes_on_through_a_file(tmp_path: Path):
    first, second = Doubt(), Doubt()
    first.step(THERE, Motion(flow(1.7), trust=0.97 * SURE), 1, open_question=False)
    write_state(tmp_path / "state", first.state_dict())
    second.load_state_dict(read_state(tmp_path / "state"))
    for doubt in (first, second):
        doubt.step(THERE, Motion(flow(2.3), trust=0.9 * SURE), 2, open_question=False)
    assert second.so_far == first.so_far > 0.1
