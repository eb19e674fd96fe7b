import itertools

import cv2
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamstyle.errors import OptionError, ShapeError
from streamstyle.gpu import kernels
from streamstyle.stages import region_hierarchy as stage
from streamstyle.stages import region_hierarchy_cpu as cpu
from streamstyle.stages import region_hierarchy_ref as ref
from streamstyle.stages.connected_components import label_regions
from streamstyle.stages.region_hierarchy import FULL, NEVER, RegionHierarchy, cut, region_hierarchy, table_at
from tests import oracles, shim

FIELDS = ("ids", "regions", "into", "at", "joined")


def cells(rng: np.random.Generator, height: int, width: int, grain: int, top: int) -> np.ndarray:
    """Squares of grain px, each of a random strength below top."""
    values = rng.integers(0, top, (-(-height // grain), -(-width // grain)))
    return np.repeat(np.repeat(values, grain, 0), grain, 1)[:height, :width].astype(np.uint8)


def pictures(height: int, width: int) -> np.ndarray:
    """Noise, plateaus, steps, ramps and natural-like edges of one size, [N, H, W]."""
    rng = np.random.default_rng(height * 1000 + width)
    y, x = np.indices((height, width))
    frames = [cells(rng, height, width, grain, top) for grain in (1, 3, 7) for top in (3, 40, 256)]
    frames += [cells(rng, height, width, 12, 2) * 255, oracles.checkerboard(height, width) * 255]
    frames += [np.full((height, width), 90), x % 256, 255 - (x + y) % 256, (x // 9 + y // 7) * 16 % 256]
    return np.stack([*frames, oracles.edge_picture(rng, height, width)]).astype(np.uint8)


def on(way, *frames: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack(frames)).to(way.device)


def equal(one: RegionHierarchy, other: RegionHierarchy) -> None:
    for name in FIELDS:
        ours, theirs = getattr(one, name).cpu(), getattr(other, name).cpu()
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours, theirs), name


def tree_of(hierarchy: RegionHierarchy, frame: int = 0) -> dict[int, tuple[int, int]]:
    """{absorbed: (absorber, height)}, after a look at what is not used."""
    count, into, at = int(hierarchy.regions[frame]), hierarchy.into[frame].tolist(), hierarchy.at[frame].tolist()
    unused = [0, *range(count + 1, len(into))]
    assert all(into[region] == region and at[region] == NEVER for region in unused)
    return {region: (into[region], at[region]) for region in range(1, count + 1) if into[region] != region}


# -- pictures with an answer one can say aloud -------------------------------------------------------------------------


def wall(strength: int) -> int:
    """The height of a straight wall a pixel wide, alone."""
    peak = stage.TAPS[len(stage.TAPS) // 2]
    return (peak * strength + (sum(stage.TAPS) - peak) * stage.FLOOR) * 256 // sum(stage.TAPS)


def test_walls_fall_in_order_of_their_height(way):
    picture = np.zeros((20, 80), np.uint8)
    picture[:, 16], picture[:, 32], picture[:, 48], picture[:, 64] = 200, 90, 250, 120
    hierarchy = region_hierarchy(on(way, picture), impl=way.impl)
    assert tree_of(hierarchy) == {2: (1, wall(200)), 3: (2, wall(90)), 4: (1, wall(250)), 5: (4, wall(120))}
    assert hierarchy.ids[0, 5, [0, 20, 40, 60, 79]].tolist() == [1, 2, 3, 4, 5]
    cuts = {90: [1, 2, 2, 3, 4], 120: [1, 2, 2, 3, 3], 200: [1, 1, 1, 2, 2], 250: [1, 1, 1, 1, 1]}
    for strength, expected in cuts.items():
        ids, counts = cut(hierarchy, wall(strength) / FULL)
        assert ids[0, 5, [0, 20, 40, 60, 79]].tolist() == expected
        assert counts.tolist() == [max(expected)]
    just_below, _ = cut(hierarchy, (wall(90) - 1) / FULL)
    assert torch.equal(just_below, hierarchy.ids)


def test_rooms_join_over_their_weakest_walls(way):
    picture = np.zeros((48, 48), np.uint8)
    picture[24, :24], picture[24, 24:], picture[:24, 24], picture[24:, 24] = 140, 170, 220, 60  # two above, two below
    hierarchy = region_hierarchy(on(way, picture), impl=way.impl)
    assert hierarchy.ids[0, [5, 5, 40, 40], [5, 40, 5, 40]].tolist() == [1, 2, 3, 4]
    tree = tree_of(hierarchy)
    assert [tree[region][0] for region in (4, 3, 2)] == [3, 1, 1]  # the lower ones; one over the other; the rest
    assert tree[4][1] < tree[3][1] <= tree[2][1]


def test_equal_walls_fall_in_order_of_their_regions(way):
    picture = np.zeros((12, 100), np.uint8)
    picture[:, 20::20] = 100
    hierarchy = region_hierarchy(on(way, picture), impl=way.impl)
    assert tree_of(hierarchy) == {region: (1, wall(100)) for region in range(2, 6)}


def test_a_weak_gap_does_not_leak(way):
    picture = np.zeros((60, 60), np.uint8)
    picture[:, 30] = 250
    picture[25:31, 30] = 0
    edges = on(way, picture)
    level = 0.2
    _, components = label_regions(edges <= level * 255, connectivity=4, impl=way.impl)
    assert components.tolist() == [1], "components run together through the gap"
    ids, counts = cut(region_hierarchy(edges, impl=way.impl), level)
    assert counts.tolist() == [2]
    assert ids[0, :25, :30].unique().tolist() == [1]
    assert ids[0, :25, 31:].unique().tolist() == [2]


def test_a_border_across_a_ridge_counts_a_quarter():
    ridge = torch.zeros(21, 41, dtype=torch.int32)
    ridge[9:12] = torch.tensor([200, 400, 200])[:, None]
    along, across = torch.ones_like(ridge), torch.ones_like(ridge)
    along[11:] = 2
    across[:, 20:] = 2
    for ids, expected in ((along, [400] * 41), (across, [50, 100, 50])):
        one, other = ref.borders(ids)
        found = ref.strengths(ids, ridge, one, other)
        assert found[found > 0].tolist() == expected
        pixels, _, side_by_side = cpu.borders(ids.numpy())
        np.testing.assert_array_equal(cpu.strengths(ids.numpy(), ridge.numpy(), pixels, side_by_side), found.numpy())


@pytest.mark.parametrize("strength", [0, 7, 8, 100, 255])
@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (1, 30), (30, 1), (20, 30)])
def test_a_flat_picture_is_one_region(way, strength, size):
    hierarchy = region_hierarchy(on(way, np.full(size, strength, np.uint8)), impl=way.impl)
    assert tree_of(hierarchy) == {}
    assert (hierarchy.ids == 1).all()
    assert [part.tolist() for part in (hierarchy.regions, hierarchy.joined)] == [[1], [0]]


def test_a_ramp_is_one_region_and_a_ridge_parts_two(way):
    ramp = np.arange(40, dtype=np.uint8)[None].repeat(9, 0) * 6
    ridge = np.minimum(ramp, ramp[:, ::-1])
    hierarchy = region_hierarchy(on(way, ramp, ridge), impl=way.impl)
    assert hierarchy.regions.tolist() == [1, 2]
    assert hierarchy.ids[1, :, :19].unique().tolist() == [1]
    assert hierarchy.ids[1, :, 21:].unique().tolist() == [2]


def test_a_thick_plateau_goes_to_one_side_whole(way):
    picture = np.zeros((15, 60), np.uint8)
    picture[:, 20:41] = 255  # wider than the smoothing: its middle is flat
    hierarchy = region_hierarchy(on(way, picture), impl=way.impl)
    assert tree_of(hierarchy) == {2: (1, FULL)}
    assert cut(hierarchy, 1.0)[1].tolist() == [1]
    assert hierarchy.ids[0, :, 27:34].unique().tolist() == [1]


def test_strength_below_the_floor_is_none(way):
    faint = cells(np.random.default_rng(0), 40, 50, 2, stage.FLOOR + 1)
    assert region_hierarchy(on(way, faint), impl=way.impl).regions.tolist() == [1]


# -- equal to the witness ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (1, 60), (60, 1), (2, 2), (9, 9), (33, 47)])
def test_equals_a_plain_watershed_and_a_heap(way, size):
    frames = pictures(*size)
    hierarchy = region_hierarchy(on(way, *frames), impl=way.impl)
    assert hierarchy.ids.device.type == way.device.type
    for i, frame in enumerate(frames):
        ids, tree, _ = oracles.region_tree(frame, stage.FLOOR, stage.TAPS)
        np.testing.assert_array_equal(hierarchy.ids[i].cpu().numpy(), ids)
        assert int(hierarchy.regions[i]) == ids.max()
        assert tree_of(hierarchy, i) == tree
    assert not hierarchy.joined.any()


@pytest.mark.parametrize("size", [(96, 130), (120, 71)])
def test_equals_the_reference(way, size):
    edges = on(way, *pictures(*size))
    hierarchy = region_hierarchy(edges, impl=way.impl)
    equal(hierarchy, region_hierarchy(edges.cpu(), impl="ref"))
    equal(hierarchy, region_hierarchy(edges, impl=way.impl))
    turned = edges.transpose(1, 2).contiguous().transpose(1, 2)
    assert not turned.is_contiguous()
    equal(hierarchy, region_hierarchy(turned, impl=way.impl))


@settings(max_examples=60)
@given(st.integers(1, 24), st.integers(1, 24), st.integers(1, 256), st.integers(1, 5), st.integers())
def test_both_cpu_ways_equal_the_witness(height, width, top, grain, seed):
    frame = cells(np.random.default_rng(seed % 2**32), height, width, grain, top)
    ids, tree, _ = oracles.region_tree(frame, stage.FLOOR, stage.TAPS)
    for impl in ("auto", "ref"):
        hierarchy = region_hierarchy(torch.from_numpy(frame)[None], impl=impl)
        np.testing.assert_array_equal(hierarchy.ids[0].numpy(), ids)
        assert tree_of(hierarchy) == tree


@pytest.mark.parametrize("seed", range(12))
def test_borders_of_equal_height_fall_in_the_order_of_their_keys(way, seed):
    """Heights so few that means, rounded down, are often equal: each way must take the number of the lesser key."""
    ids = np.kron(np.arange(1, 64).reshape(7, 9), np.ones((3, 4))).astype(np.int32)
    heights = np.random.default_rng(seed).integers(0, 9, ids.shape).astype(np.int32)
    into, at = np.arange(64, dtype=np.int32), np.full(64, NEVER, np.int32)
    if way.impl == "auto":
        cpu.merge(ids, 63, heights, into, at)
    elif way.impl == "ref":
        ref.merge(torch.from_numpy(ids), torch.from_numpy(heights), torch.from_numpy(into), torch.from_numpy(at))
    else:
        frame = [torch.from_numpy(plane)[None].to(way.device) for plane in (ids, heights)]
        into, at = (part[0, :64].cpu().numpy() for part in stage._tree_cuda(*frame))
    tree = {region: (int(into[region]), int(at[region])) for region in range(1, 64) if into[region] != region}
    assert tree == oracles.greedy_tree(ids, heights)


def test_a_frame_does_not_depend_on_its_batch(way):
    frames = pictures(31, 44)
    together = region_hierarchy(on(way, *frames), impl=way.impl)
    for i, frame in enumerate(frames):
        alone = region_hierarchy(on(way, frame), impl=way.impl)
        for name in FIELDS:
            assert torch.equal(getattr(alone, name)[0], getattr(together, name)[i])


# -- what always holds -------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@example(7, 43, 171, 1, -45196885)
@given(st.integers(2, 60), st.integers(2, 60), st.integers(2, 256), st.integers(1, 5), st.integers())
def test_it_is_ultrametric_and_cuts_nest(height, width, top, grain, seed):
    frame = cells(np.random.default_rng(seed % 2**32), height, width, grain, top)
    hierarchy = region_hierarchy(torch.from_numpy(frame)[None])
    tree, count = tree_of(hierarchy), int(hierarchy.regions)
    assert set(tree) == set(range(2, count + 1)), "each but the first is absorbed, once"
    for region, (absorber, at) in tree.items():
        assert absorber < region
        assert 0 <= at <= FULL
        assert at <= tree.get(absorber, (0, NEVER))[1]
    finer = hierarchy.ids[0].numpy()
    heights = sorted({at for _, at in tree.values()})
    for at in heights[:: max(1, len(heights) // 6)]:
        level = at / FULL
        ids, counts = cut(hierarchy, level)
        coarser = ids[0].numpy()
        assert int(counts) == coarser.max() == 1 + sum(height > at for _, height in tree.values())
        np.testing.assert_array_equal(oracles.dense(coarser)[0], coarser)
        assert len(np.unique(finer.astype(np.int64) << 32 | coarser)) == finer.max(), "whole regions of the finer cut"
        table, counted = table_at(hierarchy, level)
        assert torch.equal(table[0][hierarchy.ids[0].long()], ids[0])
        assert torch.equal(counted, counts)
        assert table[0, 0] == 0
        assert not table[0, count + 1 :].any()
        finer = coarser


@settings(max_examples=25)
@given(st.integers(2, 50), st.integers(2, 50), st.integers(1, 100), st.integers())
def test_a_constant_leaves_the_finest_regions_alone(height, width, lift, seed):
    frame = cells(np.random.default_rng(seed % 2**32), height, width, 3, 120) + stage.FLOOR
    hierarchy = region_hierarchy(torch.from_numpy(np.stack([frame, frame + lift]).astype(np.uint8)))
    assert torch.equal(*hierarchy.ids)


def test_regions_are_connected_and_cover_the_picture():
    for frame in pictures(60, 90):
        ids = region_hierarchy(torch.from_numpy(frame)[None]).ids[0].numpy()
        assert ids.min() == 1
        parts = sum(cv2.connectedComponents((ids == i).astype(np.uint8), connectivity=4)[0] - 1 for i in np.unique(ids))
        assert parts == ids.max()


def test_levels_beyond_the_ends_are_the_ends():
    hierarchy = region_hierarchy(torch.from_numpy(pictures(40, 40)))
    for level in (-1e-9, -5.0):
        assert torch.equal(cut(hierarchy, level)[0], hierarchy.ids)
    for level in (1.0, 7.0):
        assert (cut(hierarchy, level)[0] == 1).all()


# -- too many regions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 6, 40])
def test_too_many_regions_join_over_their_lowest_passes(way, monkeypatch, most):
    edges = on(way, *pictures(61, 50))
    whole = region_hierarchy(edges, impl=way.impl)
    monkeypatch.setattr(stage, "MOST_REGIONS", most)
    few = region_hierarchy(edges, impl=way.impl)
    equal(few, region_hierarchy(edges.cpu(), impl="ref"))
    assert few.into.shape[1] == most + 1
    assert int(few.regions.max()) <= most
    assert int(few.joined.max()) > 0
    assert torch.equal(few.regions + few.joined, whole.regions)
    for i, (fine, coarse) in enumerate(zip(whole.ids.cpu().numpy(), few.ids.cpu().numpy(), strict=True)):
        assert len(np.unique(fine.astype(np.int64) << 32 | coarse)) == fine.max()
        if int(whole.regions[i]) <= most:
            np.testing.assert_array_equal(fine, coarse)


def test_a_larger_picture_of_noise_has_too_many():
    noise = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 700, 900), dtype=np.uint8))
    hierarchy = region_hierarchy(noise)
    assert 1 < int(hierarchy.regions) <= stage.MOST_REGIONS
    assert int(hierarchy.regions + hierarchy.joined) > stage.MOST_REGIONS
    assert len(tree_of(hierarchy)) == int(hierarchy.regions) - 1


# -- nothing, and errors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(0, 4, 5), (2, 0, 5), (2, 4, 0)])
def test_no_pixels(way, shape):
    hierarchy = region_hierarchy(torch.zeros(shape, dtype=torch.uint8, device=way.device), impl=way.impl)
    assert hierarchy.ids.shape == shape
    assert hierarchy.regions.tolist() == hierarchy.joined.tolist() == [0] * shape[0]
    assert hierarchy.into.shape == hierarchy.at.shape
    ids, counts = cut(hierarchy, 0.5)
    assert ids.shape == shape
    assert counts.tolist() == [0] * shape[0]


def test_what_does_not_fit_is_refused_and_shown():
    edges = torch.zeros(2, 4, 5, dtype=torch.uint8)
    for refused, message in (
        (lambda: region_hierarchy(edges[0]), r"uint8 \[4, 5\]"),
        (lambda: region_hierarchy(edges.float()), r"float32 \[2, 4, 5\]"),
        (lambda: region_hierarchy(edges[:1, :1, :1].expand(1, 65536, 32768)), r"\[65536, 32768\]"),
        (lambda: region_hierarchy(edges, impl="fast"), "'fast'"),
    ):
        with pytest.raises(ShapeError, match=message):
            refused()
    for level in (float("nan"), float("inf")):
        with pytest.raises(OptionError, match="finite"):
            table_at(region_hierarchy(edges), level)


# -- the kernels themselves --------------------------------------------------------------------------------------------


def test_without_kernels_a_device_has_the_host_do_it(device, monkeypatch):
    monkeypatch.setattr(stage, "chosen", lambda impl, tensor: False)
    edges = torch.randint(0, 256, (2, 40, 50), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found, expected = region_hierarchy(edges.to(device)), region_hierarchy(edges, impl="ref")
    for name in ("ids", "regions", "into", "at", "joined"):
        assert getattr(found, name).device.type == device.type
        torch.testing.assert_close(getattr(found, name).cpu(), getattr(expected, name))


def test_every_pass_is_launched_and_thinning_only_where_it_could_be_needed(monkeypatch):
    if shim.compiler() is None:
        pytest.skip("there is no C++ compiler")
    edges = torch.from_numpy(pictures(20, 20)[:2])
    with shim.running() as runner:
        region_hierarchy(edges, impl="cuda")
        plain = set(runner.launched)
        monkeypatch.setattr(stage, "MOST_REGIONS", 60)
        region_hierarchy(edges, impl="cuda")
    entries = set(kernels.entries(stage.STEM))
    thinning = {f"region_hierarchy_{name}" for name in ("passes", "join", "flatten")}
    assert entries - plain == thinning
    assert entries <= set(runner.launched)
    rounds = runner.launched.count("region_hierarchy_join")
    assert 200 >> rounds <= 60 < 200 >> (rounds - 1), "as many as a checkerboard of basins would take"


def test_the_table_of_borders_cannot_overflow():
    """Euler: a planar graph of R regions has at most 3 R - 6 borders; here as many as a grid of pixels can make."""
    rng = np.random.default_rng(0)
    for grain, top in itertools.product((1, 2, 5), (2, 256)):
        frame = cells(rng, 90, 90, grain, top)
        ids, _, _ = oracles.region_tree(frame, stage.FLOOR, stage.TAPS)
        pairs = {
            (int(a), int(b))
            for one, other in ((ids[:, :-1], ids[:, 1:]), (ids[:-1], ids[1:]))
            for a, b in zip(np.minimum(one, other).ravel(), np.maximum(one, other).ravel(), strict=True)
            if a != b
        }
        assert len(pairs) <= 3 * max(1, ids.max())
