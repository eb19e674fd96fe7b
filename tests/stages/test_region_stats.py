import numpy as np
import pytest
import scipy.ndimage
import skimage.measure
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamstyle.errors import ShapeError
from streamstyle.gpu import kernels
from streamstyle.stages import region_stats as stage
from streamstyle.stages.region_stats import (
    fill_holes,
    id_areas,
    id_shares,
    largest_region,
    limit_regions,
    region_areas,
    region_stats,
)
from tests import oracles, shim

SIZES = [(1, 1), (1, 30), (30, 1), (17, 40), (60, 61)]
ROUNDED = 2.0**-22
"""What a quotient of float32 may be off, its two numbers rounded before it."""


def random_ids(rng: np.random.Generator, frames: int, height: int, width: int, grain: int, regions: int) -> np.ndarray:
    """Cells of grain px, each of a random id."""
    cells = rng.integers(0, regions, (frames, -(-height // grain), -(-width // grain)))
    return np.repeat(np.repeat(cells, grain, 1), grain, 2)[:, :height, :width].astype(np.int32)


def check(ids: torch.Tensor, regions: int, impl: str = "auto", rgb: torch.Tensor | None = None) -> None:
    stats = region_stats(ids, regions, rgb, impl=impl)
    assert torch.equal(stats.area, region_areas(ids, regions, impl=impl))
    assert (stats.area.dtype, stats.box_xyxy.dtype, stats.centroid.dtype) == (torch.int64, torch.int64, torch.float32)
    assert stats.box_xyxy.shape == (len(ids), regions, 4)
    for i, frame in enumerate(ids.cpu().numpy()):
        measured = oracles.regions(frame)
        for region in range(regions):
            area, box, centroid = measured.get(region, (0, (0, 0, 0, 0), (0, 0)))
            assert stats.area[i, region] == area
            assert stats.box_xyxy[i, region].tolist() == list(box)
            np.testing.assert_allclose(stats.centroid[i, region].cpu(), centroid, rtol=ROUNDED)


def same(one: stage.RegionStats, other: stage.RegionStats) -> bool:
    pairs = zip(vars(one).values(), vars(other).values(), strict=True)
    return all((a is None and b is None) or torch.equal(a.cpu(), b.cpu()) for a, b in pairs)


# -- area, box, centroid, colour ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("grain", [1, 5])
def test_equals_scikit_image(way, size, grain):
    rng = np.random.default_rng(grain)
    maps = [oracles.dense(oracles.components(oracles.random_mask(rng, *size, d, grain), 4))[0] for d in (0, 0.4, 1)]
    # A few labels, though the maps have hundreds: scikit-image takes its time for each.
    ids = np.stack(maps) % 40
    check(torch.from_numpy(ids).to(way.device), int(ids.max()) + 3, way.impl)


@pytest.mark.parametrize("name", oracles.known_masks())
def test_known_pictures(way, name):
    check(torch.from_numpy(oracles.known_masks()[name].astype(np.int32))[None].to(way.device), 2, way.impl)


def test_a_box_a_person_can_check(way):
    ids = torch.zeros(1, 6, 8, dtype=torch.int32, device=way.device)
    ids[0, 2:5, 3:7] = 2
    stats = region_stats(ids, 4, impl=way.impl)
    assert stats.area.tolist() == [[36, 0, 12, 0]]
    assert stats.box_xyxy[0].tolist() == [[0, 0, 8, 6], [0, 0, 0, 0], [3, 2, 7, 5], [0, 0, 0, 0]]
    assert stats.centroid[0, 2].tolist() == [4.5, 3.0]
    assert stats.color is None


@pytest.mark.parametrize("grain", [1, 7, 50])
@pytest.mark.parametrize("size", [(1, 1), (33, 64), (41, 300)])
def test_mean_colours_equal_scipy(way, size, grain):
    rng = np.random.default_rng(grain)
    ids = random_ids(rng, 2, *size, grain, 6)
    rgb = rng.integers(0, 256, (2, 3, *size)).astype(np.uint8)
    given = torch.from_numpy(ids).to(way.device), 8, torch.from_numpy(rgb).to(way.device)
    stats = region_stats(*given, impl=way.impl)
    assert stats.color.dtype == torch.float32
    for color, frame, planes in zip(stats.color.cpu().numpy(), ids, rgb, strict=True):
        for channel, plane in enumerate(planes):
            present = np.unique(frame)
            expected = np.zeros(8)
            expected[present] = scipy.ndimage.mean(plane.astype(np.float64), frame, present)
            np.testing.assert_allclose(color[:, channel], expected, rtol=ROUNDED)
    assert same(stats, region_stats(*given, impl="ref"))
    assert same(stats, region_stats(*given, impl=way.impl))


@pytest.mark.parametrize("regions", [2, 400, 600, 5000])
@pytest.mark.parametrize("size", [(35, 1100), (18, 2050), (16, 1030)])
def test_tables_of_any_size_and_frames_of_several_tiles(way, size, regions):
    """A block's own table holds few regions; beyond that, areas, shapes and colours go to the batch's one by one."""
    rng = np.random.default_rng(regions)
    ids = random_ids(rng, 2, *size, 3, regions)
    ids[1] = np.repeat(ids[1, :, ::16], 16, 1)[
        :, : size[1]
    ]  # rows of four pixels that are alike, and rows that are not
    rgb = torch.from_numpy(rng.integers(0, 256, (2, 3, *size)).astype(np.uint8)).to(way.device)
    given = torch.from_numpy(ids).to(way.device)
    areas = region_areas(given, regions, impl=way.impl).cpu().numpy()
    np.testing.assert_array_equal(areas, np.stack([np.bincount(frame.ravel(), minlength=regions) for frame in ids]))
    for colors in (None, rgb):
        expected = region_stats(given, regions, colors, impl="ref")
        assert same(region_stats(given, regions, colors, impl=way.impl), expected)


def test_boxes_and_centres_equal_scipy(way):
    ids = random_ids(np.random.default_rng(3), 2, 70, 140, 20, 9)
    stats = region_stats(torch.from_numpy(ids).to(way.device), 9, impl=way.impl)
    for i, frame in enumerate(ids):
        for region, found in enumerate(scipy.ndimage.find_objects(frame), 1):
            if found is None:
                continue
            rows, columns = found
            assert stats.box_xyxy[i, region].tolist() == [columns.start, rows.start, columns.stop, rows.stop]
            y, x = scipy.ndimage.center_of_mass(frame == region)
            np.testing.assert_allclose(stats.centroid[i, region].cpu(), (x, y), rtol=ROUNDED)


@settings(max_examples=40)
@given(st.integers(1, 3), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 9), st.integers())
def test_kernels_equal_the_reference(frames, height, width, grain, regions, seed):
    if shim.compiler() is None:
        pytest.skip("there is no C++ compiler")
    rng = np.random.default_rng(seed % 2**32)
    ids = torch.from_numpy(random_ids(rng, frames, height, width, grain, regions + 2) - 1)  # some are outside
    rgb = torch.from_numpy(rng.integers(0, 256, (frames, 3, height, width)).astype(np.uint8))
    with shim.running("random"):
        assert torch.equal(region_areas(ids, regions, impl="cuda"), region_areas(ids, regions))
        assert same(region_stats(ids, regions, impl="cuda"), region_stats(ids, regions))
        assert same(region_stats(ids, regions, rgb, impl="cuda"), region_stats(ids, regions, rgb))
        assert torch.equal(fill_holes(ids, impl="cuda"), fill_holes(ids))


def test_ids_outside_count_as_background(way):
    ids = torch.tensor([[[0, 1, 2, 3], [-1, 1, 2**31 - 1, -(2**31)]]], dtype=torch.int32, device=way.device)
    assert region_areas(ids, 3, impl=way.impl).tolist() == [[5, 2, 1]]
    inside = torch.tensor([[[0, 1, 2, 0], [0, 1, 0, 0]]], dtype=torch.int32)
    assert same(region_stats(ids, 3, impl=way.impl), region_stats(inside, 3, impl="ref"))
    assert limit_regions(ids, region_areas(ids, 3), 2, impl=way.impl)[0].tolist() == [[[0, 1, 0, 0], [0, 1, 0, 0]]]


def test_any_layout_is_the_same_map(way):
    ids = torch.from_numpy(random_ids(np.random.default_rng(0), 3, 40, 60, 4, 5)).to(way.device)
    rgb = torch.randint(0, 256, (3, 3, 40, 60), dtype=torch.uint8).to(way.device)
    expected = region_stats(ids, 5, rgb, impl=way.impl)
    turned = ids.transpose(1, 2).contiguous().transpose(1, 2)
    assert not turned.is_contiguous()
    last = rgb.contiguous(memory_format=torch.channels_last)
    assert same(region_stats(turned, 5, last, impl=way.impl), expected)
    # Frames that do not begin at a multiple of 16 bytes.
    shifted = torch.cat([ids.new_zeros(1), ids.flatten()])[1:].view_as(ids)
    assert same(region_stats(shifted, 5, rgb, impl=way.impl), expected)
    assert torch.equal(fill_holes(turned, impl=way.impl), fill_holes(ids, impl=way.impl))


@pytest.mark.parametrize("shape", [(0, 4, 5), (2, 0, 5), (2, 4, 0)])
def test_no_pixels(way, shape):
    ids = torch.zeros(shape, dtype=torch.int32, device=way.device)
    rgb = torch.zeros(shape[0], 3, *shape[1:], dtype=torch.uint8, device=way.device)
    stats = region_stats(ids, 3, rgb, impl=way.impl)
    n = shape[0]
    assert [tuple(t.shape) for t in vars(stats).values()] == [(n, 3), (n, 3, 4), (n, 3, 2), (n, 3, 3)]
    assert not any(bool(values.any()) for values in vars(stats).values())
    assert fill_holes(ids, impl=way.impl).shape == shape
    assert largest_region(stats.area).tolist() == [0] * n
    limited, dropped = limit_regions(ids, stats.area, 2, impl=way.impl)
    assert (limited.shape, dropped.tolist()) == (shape, [0] * n)


# -- the largest, and fewer --------------------------------------------------------------------------------------------


def test_the_largest_region_is_the_lowest_of_equals_and_never_the_background():
    areas = torch.tensor([[90, 3, 7, 7], [5, 0, 0, 0], [0, 2, 1, 0]])
    largest = largest_region(areas)
    assert largest.dtype == torch.int32
    assert largest.tolist() == [2, 0, 1]
    assert areas[0, 0] == 90  # not written to
    assert largest_region(areas[:, :1]).tolist() == [0, 0, 0]


@pytest.mark.parametrize("most", [1, 2, 4, 30, 500])
def test_the_smallest_regions_go_to_the_background_and_are_counted(way, most):
    rng = np.random.default_rng(most)
    ids = random_ids(rng, 3, 37, 50, 5, 60)
    ids[2] = ids[2] // 7 * 7  # ids that no pixel has
    given = torch.from_numpy(ids).to(way.device)
    limited, dropped = limit_regions(given, region_areas(given, 61), most, impl=way.impl)
    assert (limited.dtype, dropped.dtype) == (torch.int32, torch.int64)
    for frame, got, count in zip(ids, limited.cpu().numpy(), dropped.tolist(), strict=True):
        areas = np.bincount(frame.ravel(), minlength=61)
        present = [region for region in range(1, 61) if areas[region]]
        kept = sorted(sorted(present, key=lambda region: (-areas[region], region))[: most - 1])
        table = np.zeros(61, np.int32)
        table[kept] = np.arange(1, len(kept) + 1)
        np.testing.assert_array_equal(got, table[frame])
        assert count == len(present) - len(kept)
        assert got.max() < most


# -- holes -------------------------------------------------------------------------------------------------------------


def test_holes_a_person_can_check(way):
    rows = ["111111.....", "1.11.1.2222", "111111.2..2", "11..33.222.", "1111......."]
    ids = torch.tensor([[[0 if c == "." else int(c) for c in row] for row in rows]], dtype=torch.int32)
    filled = fill_holes(ids.to(way.device), impl=way.impl)
    said = ["".join("." if v == 0 else str(v) for v in row) for row in filled[0].tolist()]
    # Two holes of 1, one of 2 (its corner is no way out); what lies between 1 and 3 belongs to neither.
    assert said == ["111111.....", "111111.2222", "111111.2222", "11..33.222.", "1111......."]


@pytest.mark.parametrize("size", [*SIZES, (50, 130)])
def test_holes_of_one_region_equal_scipy(way, size):
    rng = np.random.default_rng(0)
    masks = np.stack([oracles.random_mask(rng, *size, density, 2) for density in (0.3, 0.6, 0.8)])
    filled = fill_holes(torch.from_numpy(masks.astype(np.int32) * 7).to(way.device), impl=way.impl)
    assert filled.dtype == torch.int32
    expected = np.stack([scipy.ndimage.binary_fill_holes(mask) for mask in masks])
    np.testing.assert_array_equal(filled.cpu().numpy(), expected * 7)


@pytest.mark.parametrize("grain", [1, 3])
def test_holes_between_regions_stay(way, grain):
    ids = random_ids(np.random.default_rng(grain), 2, 45, 52, grain, 3)
    filled = fill_holes(torch.from_numpy(ids).to(way.device), impl=way.impl)
    for frame, got in zip(ids, filled.cpu().numpy(), strict=True):
        expected = frame.copy()
        parts = skimage.measure.label(frame == 0, connectivity=1)
        for part in range(1, parts.max() + 1):
            here = parts == part
            rows, columns = np.nonzero(here)
            at_border = 0 in (*rows, *columns) or rows.max() == 44 or columns.max() == 51
            beside = np.unique(frame[scipy.ndimage.binary_dilation(here) & ~here])
            if not at_border and beside.size == 1:
                expected[here] = beside[0]
        np.testing.assert_array_equal(got, expected)
        assert (got != frame).any()


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ids", [torch.zeros(4, 4, dtype=torch.int32), torch.zeros(1, 4, 4)], ids=["no batch", "float"])
def test_another_shape_or_type_is_refused_and_shown(ids):
    for measure in (
        lambda: region_areas(ids, 2),
        lambda: region_stats(ids, 2),
        lambda: fill_holes(ids),
        lambda: limit_regions(ids, torch.zeros(1, 2, dtype=torch.int64), 2),
    ):
        with pytest.raises(ShapeError) as error:
            measure()
        assert f"{ids.dtype} {list(ids.shape)}" in str(error.value)


def test_what_does_not_fit_is_refused_and_shown():
    ids, areas = torch.zeros(2, 4, 5, dtype=torch.int32), torch.zeros(2, 3, dtype=torch.int64)
    for refused, message in (
        (lambda: region_areas(ids, 0), "got 0"),
        (lambda: region_areas(ids, 2**28), str(2**29)),
        (lambda: region_areas(ids[:1, :1, :1].expand(1, 65536, 32768), 2), r"\[65536, 32768\]"),
        (lambda: region_stats(ids, 2, torch.zeros(2, 3, 4, 5)), r"float32 \[2, 3, 4, 5\]"),
        (lambda: region_stats(ids, 2, torch.zeros(2, 3, 5, 4, dtype=torch.uint8)), r"uint8 \[2, 3, 5, 4\]"),
        (lambda: region_stats(ids, 2, torch.zeros(2, 3, 4, 5, dtype=torch.uint8, device="meta")), "got meta"),
        (lambda: largest_region(areas.int()), r"int32 \[2, 3\]"),
        (lambda: largest_region(areas[:, :0]), r"\[2, 0\]"),
        (lambda: limit_regions(ids, areas[0], 2), r"\[3\]"),
        (lambda: limit_regions(ids, areas[:1], 2), r"\[1, 3\]"),
        (lambda: limit_regions(ids, areas, 0), "got 0"),
    ):
        with pytest.raises(ShapeError, match=message):
            refused()


# -- the kernels themselves --------------------------------------------------------------------------------------------


def test_every_entry_is_launched():
    if shim.compiler() is None:
        pytest.skip("there is no C++ compiler")
    ids = torch.ones(1, 4, 4, dtype=torch.int32)
    with shim.running() as runner:
        areas = region_areas(ids, 2, impl="cuda")
        region_stats(ids, 2, impl="cuda")
        region_stats(ids, 2, torch.zeros(1, 3, 4, 4, dtype=torch.uint8), impl="cuda")
        limit_regions(ids, areas, 2, impl="cuda")
        fill_holes(ids, impl="cuda")
    assert set(kernels.entries(stage.STEM)) <= set(runner.launched)


@pytest.mark.parametrize("shape", [(0, 4, 5), (2, 0, 5), (2, 4, 0)])
def test_areas_of_no_pixels_are_zeros(way, shape):
    areas = region_areas(torch.zeros(shape, dtype=torch.int32, device=way.device), 3, impl=way.impl)
    assert areas.dtype == torch.int64
    assert areas.shape == (shape[0], 3)
    assert not areas.any()


@pytest.mark.parametrize("regions", [3, 6, 70000])
@pytest.mark.parametrize("some", [False, True])
def test_areas_of_ids_by_hand(regions, some):
    """Those beyond the last are not counted, whichever way it is done."""
    ids = np.random.default_rng(2).integers(0, 5, (20, 30)).astype(np.int32)
    where = np.random.default_rng(3).random(ids.shape) < 0.5 if some else None
    counted = ids[where] if some else ids.ravel()
    expected = [int((counted == region).sum()) for region in range(5)] + [0] * regions
    assert id_areas(ids, regions, where).tolist() == expected[:regions]
    if where is not None:
        every = [max(1, int((ids == region).sum())) for region in range(5)] + [1] * regions
        shares = [area / of for area, of in zip(expected, every, strict=True)]
        assert id_shares(ids, regions, where).tolist() == shares[:regions]
