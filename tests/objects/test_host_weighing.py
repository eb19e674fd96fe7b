"""Evidence added up on the host: whom it gives a pixel, and whom never."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from discs_in_motion import SIZE, Situation

from streamstyle.objects.evidence import by_carried, own_motion
from streamstyle.objects.host_weighing import HostCarried, HostWeighing, like_named, mine, taken
from streamstyle.objects.tracker import BACKGROUND
from streamstyle.objects.weighing import FOUND, Cast, Motion, lost_below_px
from tests.oracles import iou


def weighed(situation: Situation, **given) -> tuple[np.ndarray, np.ndarray]:
    shares, _, _, slots, _ = situation.by(
        HostWeighing(situation.tracker), situation.tracker, torch.device("cpu"), **given
    )
    return shares, slots


@pytest.mark.parametrize("named", [0, 1, 2])
def test_each_object_is_where_it_moved_to(named):
    situation = Situation(named=named)
    _, slots = weighed(situation)
    for k, (mask, slot) in enumerate(zip(situation.masks, situation.cast.members, strict=True)):
        assert iou(slots == (slot if slot != FOUND else k + 1), mask) > 0.85


def test_all_is_of_32_bits():
    """A number of NumPy's among them would make it 64, and take twice the time."""
    situation = Situation()
    assert weighed(situation)[0].dtype == np.float32
    weighing, own = HostWeighing(situation.tracker), own_motion(situation.flow)
    for k in range(2):
        odds, gate = weighing.named_odds(k + 1, situation.shares[k], situation.shares[k], Motion(own=own))
        assert odds.dtype == gate.dtype == np.float32


def test_shares_of_a_pixel_are_not_more_than_all_of_it():
    assert weighed(Situation())[0].sum(0).max() <= 1 + 1e-6


def test_where_nobody_is_followed_nothing_is_weighed():
    situation = Situation()
    weighing, cast = HostWeighing(situation.tracker), Cast((), (), False)
    carried = weighing.carry(None, situation.slots, Motion(), cast, SIZE)
    seen = weighing.seen(situation.found, carried, Motion(), None, cast)
    assert seen.shape == (0, *SIZE)
    overlap, totals = weighing.settle(seen, carried, cast)
    assert (len(overlap), totals.areas_px, totals.rest_px) == (1, [], SIZE[0] * SIZE[1])
    assert not weighing.name(None).any()


def test_totals_are_of_pixels():
    situation = Situation()
    shares, _, totals, _, areas = situation.by(HostWeighing(situation.tracker), situation.tracker, torch.device("cpu"))
    assert totals.areas_px == (shares > 0.5).sum((1, 2)).tolist()
    assert totals.rest_px == (1 - shares.sum(0) > 0.5).sum()
    assert areas.sum() == SIZE[0] * SIZE[1]


def test_who_looks_like_a_named_object_is_nobody_new():
    look = np.zeros((3, 2, 2), np.float32)
    look[0, 0], look[1, 1], look[2, :, 1] = 0.6, 0.6, 0.9
    cast = Cast((1, FOUND), (True, True), False)
    np.testing.assert_array_equal(like_named(look, (2, 2), cast), [[False, False], [True, False]])
    unknown = replace(cast, knows=(False, True))
    assert not like_named(look, (2, 2), unknown).any()
    assert not like_named(None, (2, 2), cast).any()


def test_what_moves_where_a_named_object_was_carried_is_that():
    shares = np.zeros((2, 2, 2), np.float32)
    shares[0, 0], shares[1, 0, 1] = 0.5, 0.6
    np.testing.assert_array_equal(taken(shares, Cast((1, FOUND), (True, True), False)), [[True, False], [False, False]])
    assert taken(None, Cast((1, FOUND), (True, True), False)) is False
    assert taken(shares[1:], Cast((FOUND,), (True,), False)) is False


def test_what_was_carried_is_what_was_given_where_nothing_moved():
    situation = Situation()
    weighing = HostWeighing(situation.tracker)
    carried = weighing.carry(torch.from_numpy(situation.shares), situation.slots, Motion(), situation.cast, SIZE)
    assert isinstance(carried, HostCarried)
    np.testing.assert_array_equal(weighing.carried_shares(carried), situation.shares)
    np.testing.assert_array_equal(weighing.carried_slots(carried), situation.slots)


def test_pieces_are_no_named_objects():
    np.testing.assert_array_equal(mine([2, FOUND], 5), [0, 1, BACKGROUND, 3, 4])


@pytest.mark.parametrize("named", [1, 2])
def test_what_is_doubted_is_told_by_how_it_looks(named):
    """Where a named object was not carried to, for it came out from behind something, though it looks like it."""
    situation = Situation(named=named)
    situation.shares[0] = np.where(np.indices(SIZE)[1] > 56, 0, situation.shares[0])  # its right side was hidden
    came_out = situation.masks[0] & (np.indices(SIZE)[1] > 58)
    motion = Motion(situation.flow, own_motion(situation.flow))
    seen = [
        weighed(
            situation, motion=replace(motion, trust=None if sure else np.where(came_out, 0.01, 1).astype(np.float32))
        )
        for sure in (True, False)
    ]
    believed, doubting = (shares[0][came_out].mean() for shares, _ in seen)
    assert 1 - doubting < (1 - believed) / 2


def test_doubt_moves_nothing_where_nobody_has_a_name():
    situation = Situation(named=0)
    motion = Motion(situation.flow, own_motion(situation.flow))
    known, doubting = (
        weighed(situation, motion=replace(motion, trust=trust))[0] for trust in (None, np.zeros(SIZE, np.float32))
    )
    np.testing.assert_array_equal(doubting, known)


def test_doubt_leaves_what_has_no_name_where_it_was():
    """Beside named objects, too: it is as sure against the background as it was."""
    situation = Situation(named=2)
    motion = Motion(situation.flow, own_motion(situation.flow))
    (known, _), (doubting, _) = (
        weighed(situation, motion=replace(motion, trust=trust)) for trust in (None, np.full(SIZE, 0.3, np.float32))
    )
    inside = situation.masks[2]
    assert abs(known[2][inside].mean() - doubting[2][inside].mean()) < 0.02


def test_doubtful_shares_that_are_left_are_nobody():
    """More than half of nothing: who has them is lost, may be anywhere, and is found where it looks like itself."""
    situation = Situation(named=1)
    before = 0.3 * np.roll(situation.masks[0], 60, 1).astype(np.float32)  # as much of it as of an object that is there
    tracker = situation.tracker
    slot = situation.cast.members[0]
    assert before.sum() > lost_below_px(tracker.tracks[slot])
    _, gate = HostWeighing(tracker).named_odds(slot, before, situation.masks[0].astype(np.float32), Motion())
    assert gate is None
    _, gate = HostWeighing(tracker).named_odds(slot, 2 * before, None, Motion())
    assert gate is not None
    situation.shares[0] = before
    _, slots = weighed(situation, motion=Motion())
    assert (slots == slot)[situation.masks[0]].mean() > 0.9


@pytest.mark.parametrize("named", [1, 2])
def test_who_is_partly_hidden_comes_out_anywhere(named):
    """Where it looks and moves like it, however far; one of which most is there is only near where it was."""
    situation, slot = Situation(named=named), 1
    for left, least, most in ((0.3, 0.6, 1), (0.8, 0, 0)):
        given, there = situation.half_hidden(left)
        _, slots = weighed(situation, **given)
        assert least <= (slots == slot)[there].mean() <= most
        still = replace(given["motion"], own=np.zeros((2, *SIZE), np.float32))
        _, slots = weighed(situation, **{**given, "motion": still})
        assert not (slots == slot)[there].any()


def test_only_what_looks_and_moves_like_it_comes_out():
    """Each condition alone: another look, another motion, and none beside the camera's."""
    situation, slot = Situation(named=1), 1
    given, there = situation.half_hidden()
    weighing, before, seen = HostWeighing(situation.tracker), given["shares"][0], given["look"][1].numpy()
    own, flow = given["motion"].own, given["motion"].flow
    before = weighing.carry(torch.from_numpy(given["shares"]), situation.slots, Motion(flow), situation.cast, SIZE)
    before = before.shares[0]
    unlike, across, slow = seen.copy(), own.copy(), own.copy()
    unlike[there] = 0.4
    across[:, there] *= -1
    slow[:, there] *= 0.1
    expected = {"like it": (seen, own, True), "unlike": (unlike, own, False)}
    expected |= {"another way": (seen, across, False), "hardly at all": (seen, slow, False)}
    for way, (look, motion, comes) in expected.items():
        odds, gate = weighing.named_odds(slot, before, look, Motion(own=motion))
        assert gate is not None
        assert (gate[there] == 1).mean() == pytest.approx(1 if comes else 0, abs=0.05), way
        if comes:  # as one that is lost
            assert odds[there].mean() > by_carried(np.float32([[0.3]]), named=True).item()
    situation.tracker.tracks[slot].recent_px /= 4  # as it shrinks, it is not hidden
    _, gate = weighing.named_odds(slot, before, seen, Motion(own=own))
    assert not gate[there].any()


def test_doubt_is_no_word_for_who_comes_out():
    """What the background gains by it, that gains as well, as who is lost does."""
    situation = Situation(named=1)
    given, there = situation.half_hidden()
    shares = [
        weighed(situation, **{**given, "motion": replace(given["motion"], trust=trust)})[0][0]
        for trust in (None, np.where(there, 0, 1).astype(np.float32))
    ]
    np.testing.assert_allclose(shares[1][there].mean(), shares[0][there].mean(), atol=0.02)


def test_who_is_lost_is_no_likelier_for_doubt():
    """A camera that turns fast leaves nothing to be trusted, and who is lost would be anywhere."""
    situation = Situation(named=1)
    situation.shares[0] *= 0.02
    motion = Motion(situation.flow, own_motion(situation.flow))
    (known, _), (doubting, _) = (
        weighed(situation, motion=replace(motion, trust=trust)) for trust in (None, np.zeros(SIZE, np.float32))
    )
    np.testing.assert_allclose(doubting[0], known[0], atol=1e-5)
