"""What a device weighs is what the host weighs."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from discs_in_motion import SIZE, Situation, disc

from streamstyle.errors import ShapeError
from streamstyle.objects import device_weighing
from streamstyle.objects.device_weighing import DeviceWeighing, moving_odds
from streamstyle.objects.evidence import moves_by_itself, own_motion
from streamstyle.objects.host_weighing import HostWeighing
from streamstyle.objects.tracker import Tracker
from streamstyle.objects.weighing import FOUND, Cast, Motion
from streamstyle.stages import evidence_terms


@pytest.fixture
def device(kernel_device: torch.device) -> torch.device:
    return kernel_device


def both(situation, device, **given):
    """What the host and what the device makes of it."""
    twin = Tracker("components")
    twin.load_state_dict(situation.tracker.state_dict())
    host = situation.by(HostWeighing(situation.tracker), situation.tracker, torch.device("cpu"), **given)
    there = situation.by(DeviceWeighing(twin, device), twin, device, **given)
    assert twin.state_dict()["next_id"] == situation.tracker.state_dict()["next_id"]
    for slot, track in situation.tracker.tracks.items():
        assert twin.tracks[slot].moved == pytest.approx(track.moved, abs=0.02)
    return host, there


def check(host, there, cast):
    shares, overlap, totals, slots, _ = host
    apart = np.abs(shares - there[0])
    assert apart.mean() < 4e-3
    assert (apart > 0.1).mean() < 0.01
    assert there[0].sum(0).max() < 1 + 1e-5
    assert (slots != there[3]).mean() < 0.01
    assert there[1].shape == overlap.shape
    np.testing.assert_allclose(there[2].areas_px, totals.areas_px, rtol=0.03, atol=5)
    assert abs(there[2].rest_px - totals.rest_px) < 0.01 * slots.size
    np.testing.assert_array_equal(there[4][1:], np.bincount(there[3].ravel(), minlength=len(there[4]))[1:])
    np.testing.assert_allclose(there[2].areas_px, (there[0] > 0.5).sum((1, 2)))


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("named", [0, 1, 2])
def test_all_that_speaks_for_objects(device, named, seed):
    situation = Situation(seed, named=named)
    host, there = both(situation, device)
    check(host, there, situation.cast)
    for mask, slot in zip(situation.masks, situation.cast.members, strict=True):
        if slot != FOUND:
            assert ((there[3] == slot) & mask).sum() > 0.9 * mask.sum()


def nowhere(situation: Situation) -> np.ndarray:
    """Shares in which the first class is all but gone."""
    shares = situation.shares.copy()
    shares[0] *= 0.02
    return shares


def doubtful(situation: Situation) -> np.ndarray:
    """Shares in which the first class has a little of what it had, and more than half of nothing."""
    shares = situation.shares.copy()
    shares[0] = 0.3 * situation.masks[0]
    return shares


def motion_of(situation: Situation) -> Motion:
    return Motion(situation.flow, own_motion(situation.flow))


def at_rest(situation: Situation) -> Motion:
    return Motion(np.zeros_like(situation.flow), np.zeros((2, *situation.slots.shape), np.float32))


def doubt() -> np.ndarray:
    """Trust in what was carried: none at the left, all at the right."""
    return np.tile(np.linspace(0, 1, SIZE[1], dtype=np.float32), (SIZE[0], 1))


WAYS = {
    "a shot begins": lambda s: {"shares": None, "slots": None, "motion": Motion(), "look": None},
    "nobody knows how it moved": lambda s: {"motion": Motion()},
    "nobody knows how anybody looks": lambda s: {"look": None},
    "one class is not known yet": lambda s: {"cast": replace(s.cast, knows=(*s.cast.knows[:-1], False))},
    "all may be anything": lambda s: {"cast": replace(s.cast, eager=True)},
    "all may be anything, and nothing is known": lambda s: {
        "cast": replace(s.cast, eager=True),
        "look": None,
        "shares": None,
        "slots": None,
    },
    "what was found is gone": lambda s: {
        "slots": np.where(s.slots == len(s.cast.members), 0, s.slots).astype(np.int32),
        "shares": s.shares * np.array([*[1] * (len(s.cast.members) - 1), 0], np.float32)[:, None, None],
    },
    "who has a name is lost": lambda s: {"shares": nowhere(s)},
    "of who has a name doubtful shares are left": lambda s: {"shares": doubtful(s)},
    "what was carried is doubted": lambda s: {"motion": replace(motion_of(s), trust=doubt())},
    "who has a name is lost, and what was carried is doubted": lambda s: {
        "shares": nowhere(s),
        "motion": replace(motion_of(s), trust=doubt()),
    },
    "who has a name is partly hidden, and comes out elsewhere": lambda s: s.half_hidden()[0],
    "a little of who has a name is hidden": lambda s: s.half_hidden(0.8)[0],
    "what has no name stands out at rest": lambda s: {"motion": replace(at_rest(s), out=s.masks[-1])},
    "a shot begins, and what has no name stands out": lambda s: {
        "motion": Motion(own=at_rest(s).own, out=s.masks[-1]),
        "shares": None,
        "slots": None,
        "look": None,
    },
    "who has a name is lost, and stands out": lambda s: {
        "shares": nowhere(s),
        "motion": replace(motion_of(s), out=s.masks[0]),
    },
    "nothing moves": lambda s: {"motion": at_rest(s)},
}


@pytest.mark.parametrize("named", [0, 2])
@pytest.mark.parametrize("way", WAYS)
def test_whatever_is_known(device, way, named):
    situation = Situation(3, named=named)
    given = WAYS[way](situation)
    if given.get("shares", situation.shares) is None and named:
        pytest.skip("who has a name was somewhere")
    host, there = both(situation, device, **given)
    check(host, there, given.get("cast", situation.cast))


@pytest.mark.parametrize("size", [(90, 161), (123, 301), (240, 427)])
def test_any_size(device, size):
    situation = Situation(2, size)
    host, there = both(situation, device)
    check(host, there, situation.cast)


def test_who_comes_meanwhile_is_in_the_map(device):
    """A person names somebody between weighing and the map: one class and one slot more."""
    situation = Situation(1, named=1)
    weighing = DeviceWeighing(situation.tracker, device)
    motion = motion_of(situation)
    shares = torch.from_numpy(situation.shares).to(device)
    carried = weighing.carry(shares, situation.slots, motion, situation.cast, SIZE)
    seen = weighing.seen(situation.found, carried, motion, situation.look.to(device), situation.cast)
    place = torch.from_numpy(disc(180, 20, 9)).to(device)
    slot = situation.tracker.claim("new", 1)
    seen = torch.cat([seen.masked_fill(place, 0), place[None].float()])
    cast = Cast((*situation.cast.members, slot), (*situation.cast.knows, False), False)
    overlap, totals = weighing.settle(seen, carried, cast)
    slots = weighing.name(situation.tracker.update(overlap, 1)[:, 0])
    np.testing.assert_array_equal(slots == slot, place.cpu().numpy())
    assert totals.areas_px[-1] == int(place.sum())
    assert weighing.areas(slots)[slot] == int(place.sum())
    again = weighing.carry(seen, slots, Motion(), cast, SIZE)
    np.testing.assert_array_equal(weighing.carried_slots(again), slots)
    assert torch.equal(weighing.carried_shares(again), seen)


def test_blocks_of_slots_are_those_the_host_finds(device):
    situation = Situation(0)
    host, there = HostWeighing(situation.tracker), DeviceWeighing(situation.tracker, device)
    chosen, grid = [1, 3], (SIZE[0] // 4, SIZE[1] // 4)
    (weights, counts), (others, other_counts) = (way.blocks(situation.slots, chosen, grid) for way in (host, there))
    np.testing.assert_allclose(other_counts, counts, rtol=0.05)  # a block between two cells is cut otherwise
    np.testing.assert_allclose(others.sum(1).cpu(), 1, rtol=1e-5)
    assert ((others.cpu() > 0) == (weights > 0)).float().mean() > 0.99


def test_more_classes_than_bits_are_weighed_on_the_host(device):
    situation = Situation(0)
    count = evidence_terms.MOST_CLASSES + 1
    extra = count - len(situation.cast.members)
    slots = [situation.tracker.claim(f"more {k}", 0) for k in range(extra)]
    cast = Cast((*situation.cast.members[:2], *slots, FOUND), (True,) * count, False)
    shares = np.concatenate([situation.shares[:2], np.zeros((extra, *SIZE), np.float32), situation.shares[2:]])
    look = torch.cat([situation.look[:3], torch.zeros(extra, *situation.look.shape[1:]), situation.look[3:]])
    motion = replace(motion_of(situation), out=situation.masks[-1])
    host, there = both(situation, device, cast=cast, shares=shares, look=look, motion=motion)
    np.testing.assert_array_equal(host[3], there[3])


def test_motion_by_itself_is_what_the_host_finds(device):
    flows = np.stack([Situation(seed).flow for seed in (0, 1)])
    own = np.stack([own_motion(flow) for flow in flows])
    expected = np.stack([moves_by_itself(one) for one in own])
    np.testing.assert_allclose(moving_odds(torch.from_numpy(own).to(device)).cpu(), expected, atol=1e-4)


def test_what_is_there_is_not_brought_there(device):
    part = torch.zeros(3, 4, device=device)
    assert DeviceWeighing(Tracker(), torch.device(device.type))._here(part) is part


def test_a_device_is_the_one_its_tensors_are_on(monkeypatch):
    """ "cuda" is not equal to "cuda:1", on which tensors are that were put on it."""
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert DeviceWeighing(Tracker(), torch.device("cuda"))._device == torch.device("cuda", 1)
    assert DeviceWeighing(Tracker(), torch.device("cuda", 0))._device == torch.device("cuda", 0)


@pytest.mark.parametrize("bare", [False, True])
def test_regions_are_taken_from_where_they_are(device, bare):
    """On the device, in whatever layout; or from the host, where nobody knows how they join."""
    situation = Situation(0)
    found, (into, at) = situation.found, situation.found.tree
    host, _ = both(situation, device)
    picture = found.rgb.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    there = tuple(part.to(device) for part in (picture, found.finest, into, at))
    situation.found = replace(found, tree=None) if bare else replace(found, tree=None, there=there)
    shares = situation.by(DeviceWeighing(situation.tracker, device), situation.tracker, device)[0]
    if bare:
        host, _ = both(situation, device)
    assert np.abs(shares - host[0]).mean() < 4e-3


def test_regions_that_objects_cut_through_are_as_on_the_host(device):
    """Two regions, of which each object has a part; who has no name is drawn to them all the same."""
    situation = Situation(0)
    halves = torch.arange(SIZE[1]).ge(SIZE[1] // 2).to(torch.int32).expand(SIZE).contiguous()
    situation.found = replace(situation.found, finest=halves, finest_regions=2, tree=None)
    host, there = both(situation, device)
    apart = np.abs(host[0] - there[0])
    assert apart.mean() < 4e-3
    assert (apart > 0.1).mean() < 0.01


def test_where_nothing_is_found_unasked_there_are_no_pieces(device):
    situation = Situation(0)
    cast = Cast(situation.cast.members[:2], (True, True), False)
    given = {"cast": cast, "shares": situation.shares[:2], "look": situation.look[:3]}
    host, there = both(situation, device, **given)
    assert there[1].shape == host[1].shape
    check(host, there, cast)


def test_every_rule_is_told(device):
    rules = device_weighing.rules_of((240, 427), device)
    assert len(rules.weights) == len(evidence_terms.WEIGHTS)
    assert float(rules.weights[evidence_terms.WEIGHTS.index("near_px")]) == 20
    assert rules.reach_px == 40


def test_trust_of_another_size_is_refused(device):
    situation = Situation(named=1)
    motion = replace(motion_of(situation), trust=np.ones((3, 4), np.float32))
    with pytest.raises(ShapeError, match=r"trust must be \[120, 214\], got \[3, 4\]"):
        situation.by(DeviceWeighing(situation.tracker, device), situation.tracker, device, motion=motion)
