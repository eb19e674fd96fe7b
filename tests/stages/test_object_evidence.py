"""Each pass beside NumPy, SciPy and OpenCV; all together beside what a host weighs in tests/objects."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.ndimage
import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from discs_in_motion import SIZE, Situation, disc

from streamstyle.errors import ShapeError
from streamstyle.gpu import kernels
from streamstyle.objects.area_filter import specks
from streamstyle.objects.bilateral_filter import smooth_borders_
from streamstyle.objects.bodies import LEVELS
from streamstyle.objects.device_weighing import rules_of
from streamstyle.objects.evidence import NEAR_PX, drawn_to_bodies_, drawn_to_regions_, own_motion
from streamstyle.objects.guided_filter import GuidedFilter, drawn_to_colors
from streamstyle.objects.host_weighing import HostCarried, HostWeighing
from streamstyle.objects.tracker import Tracker
from streamstyle.objects.weighing import Cast
from streamstyle.stages import evidence_terms
from streamstyle.stages import object_evidence as stage
from streamstyle.stages.evidence_terms import Found, Who
from tests import shim


@pytest.fixture
def device(kernel_device: torch.device) -> torch.device:
    return kernel_device


def who_of(device: torch.device, slots: tuple[int, ...] = (1, 2, -1), many: int = 4, *, eager: bool = False) -> Who:
    """Classes whose look is known, none of which is ever lost."""
    classes = torch.tensor([[float(slot < 0), 0.0, 1.0, 0.0] for slot in slots], device=device).view(-1, 4)
    facts = torch.tensor([[0.0, 0.0, float(slot in slots)] for slot in range(many)], device=device)
    return Who(classes, facts, torch.tensor(slots, dtype=torch.float32, device=device), slots, eager)


def carried_of(device: torch.device, situation: Situation, flow: np.ndarray | None = None) -> evidence_terms.Carried:
    shares, slots = (torch.from_numpy(x).to(device) for x in (situation.shares, situation.slots))
    return stage.carry(
        shares, slots, None if flow is None else torch.from_numpy(flow).to(device), None, None, who_of(device), SIZE
    )


# -- carry ------------------------------------------------------------------------------------------------------------


def test_without_flow_all_stays(device):
    situation = Situation()
    carried = carried_of(device, situation)
    np.testing.assert_array_equal(carried.before.cpu(), situation.shares)
    np.testing.assert_array_equal(carried.slots.cpu(), situation.slots)


def test_shares_are_means_of_four_and_slots_the_nearest(device):
    situation = Situation()
    rng = np.random.default_rng(0)
    flow = rng.uniform(-30, 30, (*SIZE, 2)).astype(np.float32)
    carried = carried_of(device, situation, flow)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float32)
    x, y = columns + flow[..., 0], rows + flow[..., 1]
    grid = torch.from_numpy(np.stack([x / (SIZE[1] - 1) * 2 - 1, y / (SIZE[0] - 1) * 2 - 1], -1))[None]
    expected = F.grid_sample(
        torch.from_numpy(situation.shares)[None], grid, mode="bilinear", padding_mode="border", align_corners=True
    )[0]
    torch.testing.assert_close(carried.before.cpu(), expected, atol=1e-4, rtol=0)
    nearest = situation.slots[
        np.clip(np.rint(y), 0, SIZE[0] - 1).astype(int), np.clip(np.rint(x), 0, SIZE[1] - 1).astype(int)
    ]
    np.testing.assert_array_equal(carried.slots.cpu(), nearest)


@pytest.mark.parametrize("far", [1e9, -1e9, float("inf"), float("nan")])
def test_flow_that_leads_anywhere_reads_inside(device, far):
    situation = Situation()
    carried = carried_of(device, situation, np.full((*SIZE, 2), far, np.float32))
    assert set(np.unique(carried.slots.cpu())) <= {0, 1, 2, 3}
    assert set(np.unique(carried.before.cpu())) <= set(np.unique(situation.shares[:, [0, 0, -1, -1], [0, -1, 0, -1]]))


def test_what_it_tells_in_numbers(device):
    situation = Situation()
    own = own_motion(situation.flow)
    moving = np.where(np.any(situation.masks, 0), 2.0, -2.0).astype(np.float32)
    shares, slots, flow, own_there, moving_there = (
        torch.from_numpy(x).to(device) for x in (situation.shares, situation.slots, situation.flow, own, moving)
    )
    who = who_of(device)
    carried = stage.carry(shares, slots, flow, own_there, moving_there, who, SIZE)
    before, here = carried.before.cpu().numpy(), carried.slots.cpu().numpy()
    tally = carried.tally.cpu().numpy()
    by_class = tally[: 3 * evidence_terms.PER_CLASS].reshape(3, -1)
    np.testing.assert_array_equal(by_class[:, evidence_terms.CORE], (before > 0.5).sum((1, 2)))
    bits = carried.bits.cpu().numpy()
    for k in range(3):
        np.testing.assert_array_equal(bits >> k & 1, before[k] > 0.5)
    np.testing.assert_array_equal(bits >> 3 & 1, here > 0)
    for slot, (pixels, moves) in enumerate(tally[3 * evidence_terms.PER_CLASS + 1 :].reshape(-1, 2)[1:], 1):
        assert pixels == (here == slot).sum()
        assert moves == ((here == slot) & (moving > 0)).sum()
    for k in range(2):
        core = before[k] > 0.5
        expected = [np.median(part[core]) for part in own]
        np.testing.assert_allclose(carried.medians[k].cpu(), expected, atol=1 / stage.tunable(stage.STEM, "BINS_A_PX"))


def test_a_median_beyond_what_is_counted_is_its_end(device):
    situation = Situation(named=1)
    own = np.full((2, *SIZE), -500, np.float32)
    who = who_of(device, (1, -1))
    given = (torch.from_numpy(x).to(device) for x in (situation.shares, situation.slots))
    own_there = torch.from_numpy(own).to(device)
    carried = stage.carry(*given, None, own_there, own_there[0], who, SIZE)
    np.testing.assert_allclose(carried.medians[0].cpu(), -64, atol=0.02)


# -- distances --------------------------------------------------------------------------------------------------------


def test_how_near_is_by_the_exact_distance(device):
    situation = Situation()
    carried = carried_of(device, situation)
    rules = rules_of(SIZE, device)
    nears = stage.nearness(carried, who_of(device), rules).cpu().numpy()
    masks = [*(situation.shares > 0.5), situation.slots > 0]
    for near, mask in zip(nears, masks, strict=True):
        apart = scipy.ndimage.distance_transform_edt(~mask)
        np.testing.assert_allclose(near, np.clip(2 - apart / (NEAR_PX * min(SIZE) / 240), 0, 1), atol=1e-5)


def test_what_is_nowhere_is_near_nothing(device):
    situation = Situation()
    situation.shares[:] = 0
    situation.slots[:] = 0
    nears = stage.nearness(carried_of(device, situation), who_of(device), rules_of(SIZE, device))
    assert not nears.any()


# -- regions and colours ----------------------------------------------------------------------------------------------


def found_of(situation: Situation, device: torch.device) -> Found:
    found = situation.found
    assert found.tree is not None
    return Found(*(part.to(device) for part in (found.finest, found.rgb, *found.tree)))


def test_shares_are_drawn_to_regions_and_to_bodies(device):
    situation = Situation()
    found, rules, who = found_of(situation, device), rules_of(SIZE, device), who_of(device)
    regions, levels = len(found.into), len(rules.heights)
    ids, shares = situation.found.finest.numpy(), situation.shares
    areas = np.bincount(ids.ravel(), minlength=regions)
    sums = torch.zeros((6 + 1 + 2 * levels), regions, dtype=torch.int64)
    for k, values in enumerate([*shares, *shares**2]):
        whole = np.round(values * evidence_terms.UNIT).ravel()
        sums[k] = torch.from_numpy(np.bincount(ids.ravel(), weights=whole, minlength=regions).astype(np.int64))
    sums[6] = torch.from_numpy(areas)
    stays, added = stage._pulls(tuple(sums.to(device).split([6, 1, levels, levels])), found, who, rules).cpu().numpy()
    for k, share in enumerate(shares):
        expected = share.copy()
        if k == who.found:
            drawn_to_bodies_(expected, ids, areas, situation.found.tree)
        else:
            drawn_to_regions_(expected, ids, areas)
        np.testing.assert_allclose(stays[k][ids] * share + added[k][ids], expected, atol=2e-5)


def test_shares_are_drawn_to_colours_as_the_guided_filter_does(device):
    situation = Situation(named=1)
    found, rules, who = found_of(situation, device), rules_of(SIZE, device), who_of(device, (1, -1), 3)
    carried = stage.carry(
        *(torch.from_numpy(x).to(device) for x in (situation.shares, situation.slots)), None, None, None, who, SIZE
    )
    pulls = torch.zeros(2, 2, len(found.into), device=device)
    pulls[0] = 1
    nears = torch.ones(3, *SIZE, device=device)
    shares = torch.from_numpy(situation.shares).to(device)
    drawn = stage._drawn(shares, pulls, nears, carried, found, who, rules, carried.known).cpu().numpy()
    guided = GuidedFilter(situation.found.rgb.numpy(), rules.window_px)
    expected = np.stack([drawn_to_colors(share, guided) for share in situation.shares])
    np.testing.assert_allclose(drawn, expected / np.maximum(1, expected.sum(0)), atol=2e-4)


def test_borders_are_smoothed_as_on_the_host(device):
    situation = Situation()
    rules, found = rules_of(SIZE, device), found_of(situation, device)
    soft = np.stack([cv2.GaussianBlur(share, (0, 0), 1.5) for share in situation.shares])
    smooth = stage._smooth(torch.from_numpy(soft).to(device), found, rules).cpu().numpy()
    expected = soft.copy()
    smooth_borders_(expected, situation.found.rgb.numpy())
    assert (expected != soft).any()
    np.testing.assert_allclose(smooth, expected, atol=1e-5)


# -- the map ----------------------------------------------------------------------------------------------------------


def settled(device: torch.device, shares: np.ndarray, who: Who, slots: np.ndarray | None = None) -> tuple:
    there = None if slots is None else torch.from_numpy(slots).to(device)
    carried = stage.carry(None, there, None, None, None, who, SIZE)
    result = stage.settle(torch.from_numpy(shares).to(device), carried, who, rules_of(SIZE, device))
    return result.map.cpu().numpy(), result.overlap.cpu().numpy(), int(result.pieces), carried.tally.cpu().numpy()


def test_specks_go_and_pinholes_are_filled(device):
    shares = np.zeros((1, *SIZE), np.float32)
    mask = disc(100, 60, 30)
    mask[60:62, 100:102] = False
    mask[5:7, 5:7] = True
    shares[0][mask] = 0.9
    found, _, _, tally = settled(device, shares, who_of(device, (2,), 3))
    small, holes = specks(mask)
    assert small.any()
    assert holes.any()
    np.testing.assert_array_equal(found == 2, (mask & ~small) | holes)
    assert tally[evidence_terms.PIXELS] == mask.sum()
    assert tally[evidence_terms.LEFT] == (found == 2).sum()
    assert tally[evidence_terms.PER_CLASS] == (~mask).sum()


def test_a_tiny_object_is_no_speck_of_itself(device):
    shares = np.zeros((1, *SIZE), np.float32)
    shares[0, 5, 5] = 1
    assert (settled(device, shares, who_of(device, (1,), 2))[0] == 1).sum() == 1


def test_pieces_are_what_hangs_together_and_is_large(device):
    shares = np.zeros((2, *SIZE), np.float32)
    shares[0][disc(40, 40, 12)] = 0.8
    pieces = disc(100, 60, 14) | disc(170, 30, 11) | disc(10, 100, 2)
    shares[1][pieces] = 0.7
    slots = np.zeros(SIZE, np.int32)
    slots[disc(102, 60, 14)], slots[disc(40, 40, 12)] = 2, 1
    found, overlap, count, _ = settled(device, shares, who_of(device, (1, -1), 3), slots)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(pieces.astype(np.uint8), connectivity=8)
    large = np.flatnonzero(stats[:, cv2.CC_STAT_AREA] >= 0.003 * pieces.size)[1:]
    assert count == len(large) + 1 == 3
    np.testing.assert_array_equal(found == 1, disc(40, 40, 12))
    for piece in (1, 2):
        (label,) = np.unique(labels[found == -piece])
        assert label in large
        np.testing.assert_array_equal(found == -piece, labels == label)
        expected = np.bincount(slots[labels == label], minlength=3)
        np.testing.assert_array_equal(overlap[piece], expected)
    assert not (found == 0)[disc(100, 60, 14)].any()
    assert (found == 0)[disc(10, 100, 2)].all()


def test_pinholes_are_of_the_piece_around_them(device):
    """As on the host: of a named object first, else of the piece to its left; of nobody in what is too small."""
    shares = np.zeros((2, *SIZE), np.float32)
    shares[0][disc(40, 40, 14)], shares[1][disc(100, 60, 20) | disc(170, 60, 12) | disc(10, 100, 4)] = 0.8, 0.7
    holes = [(40, 40), (100, 60), (101, 60), (170, 58), (10, 100)]
    for x, y in holes:
        shares[:, y, x] = 0
    shares[0, 66, 100], shares[1, 66, 99:101] = 0.9, 0  # a speck of the named object in one
    found, overlap, _, _ = settled(device, shares, who_of(device, (1, -1), 3))
    assert [int(found[y, x]) for x, y in holes[:3]] == [1, found[60, 99], found[60, 99]]
    assert found[60, 99] < 0
    assert found[58, 170] == found[58, 169] < 0
    assert found[100, 10] == 0
    assert (found[66, 98:103] == found[60, 99]).all()
    for piece in (1, 2):
        assert overlap[piece].sum() == (found == -piece).sum()


def test_the_map_is_the_hosts(device):
    """Of noisy shares, with specks in pinholes and pinholes in specks."""
    rng = np.random.default_rng(5)
    for members in ((1, 2, -1), (-1,), (2, 1)):
        shares = np.zeros((len(members), *SIZE), np.float32)
        for share in shares:
            share[disc(int(rng.integers(30, 170)), int(rng.integers(30, 90)), 28)] = 1
        noise = rng.random(shares.shape) < 0.03
        shares[noise] = 1 - shares[noise]
        shares /= np.maximum(1, shares.sum(0))
        slots = rng.integers(0, 4, SIZE).astype(np.int32)
        found, overlap, count, _ = settled(device, shares, who_of(device, members, 4), slots)
        tracker = Tracker("components")
        for k in range(1, 4):
            tracker.claim(str(k), 0)
        host = HostWeighing(tracker)
        cast = Cast(members, (True,) * len(members), True)
        expected, _ = host.settle(torch.from_numpy(shares), HostCarried(None, slots), cast)
        if -1 in members:
            np.testing.assert_array_equal(overlap[1:count, 1:], expected[1:, 1:])
        owners = np.concatenate([[0], 100 + np.arange(1, count)])
        there = np.where(found < 0, owners[np.maximum(0, -found)], found)
        np.testing.assert_array_equal(there, host.name(owners if -1 in members else None))


def test_pieces_get_their_names(device):
    given = torch.tensor([[0, 4, -1], [-2, -1, 0]], dtype=torch.int32, device=device)
    owners = torch.tensor([0, 7, 3], dtype=torch.int32, device=device)
    assert stage.name(given, owners).tolist() == [[0, 4, 7], [3, 7, 0]]


# -- all together -----------------------------------------------------------------------------------------------------


def weighed(device: torch.device) -> torch.Tensor:
    situation, who = Situation(), who_of(device)
    own = torch.from_numpy(own_motion(situation.flow)).to(device)
    shares, slots, flow = (torch.from_numpy(x).to(device) for x in (situation.shares, situation.slots, situation.flow))
    moving = own.square().sum(0).sqrt() - 1
    carried = stage.carry(shares, slots, flow, own, moving, who, SIZE)
    look, found = situation.look.to(device), found_of(situation, device)
    return stage.weigh(carried, look, found, who, rules_of(SIZE, device))


def test_every_order_gives_the_same_to_the_bit(device):
    with shim.running("natural") if device.type == "cpu" else torch.cuda.device(0):
        expected = weighed(device)
    if device.type == "cpu":
        with shim.running("random"):
            assert torch.equal(weighed(device), expected)
    assert torch.equal(weighed(device), expected)
    assert expected.sum(0).max() <= 1 + 1e-6
    assert expected.min() >= 0


def test_what_cannot_be_weighed_is_refused(device):
    many = who_of(device, tuple(range(1, evidence_terms.MOST_CLASSES + 2)), evidence_terms.MOST_CLASSES + 2)
    with pytest.raises(ShapeError, match=r"at most 30 classes are weighed at once, got 31"):
        stage.carry(None, None, None, None, None, many, SIZE)
    with pytest.raises(ShapeError, match=r"flow must be \[120, 214, 2\], got \[3, 4, 2\]"):
        stage.carry(None, None, torch.zeros(3, 4, 2, device=device), None, None, who_of(device), SIZE)


def test_python_and_kernels_mean_the_same_by_their_numbers():
    text = kernels.source(stage.STEM).read_text("utf-8")
    named = text.split("enum Weight {")[1].split("}")[0]
    words = [line.split("//")[0].strip(" ,\n") for line in named.splitlines()]
    assert [word.lower() for word in words if word] == list(evidence_terms.WEIGHTS)
    assert stage.tunable(stage.STEM, "MOST_CLASSES") == evidence_terms.MOST_CLASSES
    assert stage.tunable(stage.STEM, "LEVELS") == len(LEVELS)
    assert float(text.split("#define UNIT ")[1].split("f")[0]) == evidence_terms.UNIT
    assert "PER_CLASS }" in text.split("enum Tally {")[1].split(";")[0]
    tally = text.split("enum Tally {")[1].split("}")[0].replace("\n", " ").split(",")
    assert [getattr(evidence_terms, word.strip()) for word in tally] == list(range(evidence_terms.PER_CLASS + 1))
