import cc3d
import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from streamstyle.errors import ShapeError
from streamstyle.stages.connected_components import (
    connected_components,
    dense_labels,
    label_regions,
    look_up,
    looked_up,
)
from tests import oracles

MASKS = oracles.known_masks()


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("name", MASKS)
def test_known_pictures(way, name, connectivity):
    mask = MASKS[name]
    labels = connected_components(torch.from_numpy(mask)[None].to(way.device), connectivity=connectivity, impl=way.impl)
    assert labels.dtype == torch.int32
    assert labels.device.type == way.device.type
    np.testing.assert_array_equal(labels[0].cpu().numpy(), oracles.components(mask, connectivity))


@pytest.mark.parametrize(("name", "four", "eight"), [("spiral", 1, 1), ("checkerboard", 21, 1), ("border", 1, 1)])
def test_how_many_a_person_counts(name, four, eight):
    mask = torch.from_numpy(MASKS[name])[None]
    for connectivity, count in ((4, four), (8, eight)):
        assert dense_labels(connected_components(mask, connectivity=connectivity))[1].tolist() == [count]


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (17, 23), (64, 65)])
@pytest.mark.parametrize("grain", [1, 3, 9])
def test_equals_scipy(way, size, grain, connectivity):
    rng = np.random.default_rng(grain)
    masks = np.stack([oracles.random_mask(rng, *size, density, grain) for density in (0.1, 0.4, 0.5, 0.6, 0.9)])
    labels = connected_components(torch.from_numpy(masks).to(way.device), connectivity=connectivity, impl=way.impl)
    expected = np.stack([oracles.components(mask, connectivity) for mask in masks])
    np.testing.assert_array_equal(labels.cpu().numpy(), expected)


@pytest.mark.parametrize("connectivity", [4, 8])
def test_partition_and_areas_equal_cc3d_and_opencv_over_density_and_grain(way, connectivity):
    rng = np.random.default_rng(7)
    sweep = [(density, grain) for density in np.linspace(0.05, 0.95, 7) for grain in (1, 2, 5, 16)]
    masks = np.stack([oracles.random_mask(rng, 90, 110, density, grain) for density, grain in sweep])
    ids, counts = label_regions(torch.from_numpy(masks).to(way.device), connectivity=connectivity, impl=way.impl)
    for mask, frame, count in zip(masks, ids.cpu().numpy(), counts.tolist(), strict=True):
        witnesses = [
            cc3d.connected_components(mask, connectivity=connectivity),
            cv2.connectedComponents(mask, connectivity=connectivity)[1],
        ]
        for witness in witnesses:
            pairs = np.unique(np.stack([frame.ravel(), witness.ravel()]), axis=1)
            assert pairs.shape[1] == count + (mask == 0).any()
            assert len(np.unique(witness[mask != 0])) == count
            np.testing.assert_array_equal(
                np.sort(np.bincount(frame.ravel())[1:]), np.sort(np.bincount(witness.ravel())[1:])
            )


@pytest.mark.parametrize("connectivity", [4, 8])
def test_a_large_frame(way, connectivity):
    mask = oracles.random_mask(np.random.default_rng(3), 1080, 1920, 0.55, 2)
    labels = connected_components(torch.from_numpy(mask)[None].to(way.device), connectivity=connectivity, impl=way.impl)
    np.testing.assert_array_equal(labels[0].cpu().numpy(), oracles.components(mask, connectivity))


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("width", [1, 31, 32, 33, 64, 100, 1023, 1025, 2050])
def test_any_width(way, width, connectivity):
    """Rows that end within a word of 32 pixels, and words and tiles beside one another."""
    rng = np.random.default_rng(width)
    masks = np.stack(
        [oracles.random_mask(rng, 37, width, density, grain) for density in (0.4, 0.7) for grain in (1, 2)]
    )
    ids, _ = label_regions(torch.from_numpy(masks).to(way.device), connectivity=connectivity, impl=way.impl)
    labels = connected_components(torch.from_numpy(masks).to(way.device), connectivity=connectivity, impl=way.impl)
    for mask, label, frame in zip(masks, labels.cpu().numpy(), ids.cpu().numpy(), strict=True):
        expected = oracles.components(mask, connectivity)
        np.testing.assert_array_equal(label, expected)
        np.testing.assert_array_equal(frame, oracles.dense(expected)[0])


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("x", [3, 31, 32, 1023, 1024])
@pytest.mark.parametrize("y", [3, 15, 16])
def test_corners_at_borders_of_words_and_tiles(way, x, y, connectivity):
    """Every picture of two by two pixels, around a corner where words, tiles of 16 rows and of 1024 pixels meet."""
    masks = np.zeros((16, 35, 1056), np.uint8)
    for picture, mask in enumerate(masks):
        for bit in range(4):
            mask[y + bit // 2 - 1, x + bit % 2 - 1] = picture >> bit & 1
    labels = connected_components(torch.from_numpy(masks).to(way.device), connectivity=connectivity, impl=way.impl)
    expected = np.stack([oracles.components(mask, connectivity) for mask in masks])
    np.testing.assert_array_equal(labels.cpu().numpy(), expected)


def test_a_way_through_every_tile(way):
    """Spirals and combs over many tiles: the longest paths to a root."""
    for mask in (oracles.spiral(301), oracles.comb(120, 1300, joined_at_foot=True), 1 - oracles.spiral(301)):
        labels = connected_components(torch.from_numpy(mask)[None].to(way.device), impl=way.impl)
        np.testing.assert_array_equal(labels[0].cpu().numpy(), oracles.components(mask, 4))


def test_masks_that_begin_anywhere_in_memory(way):
    """Not at a multiple of the 16 bytes that are read at once."""
    mask = (torch.rand(2, 20, 96) < 0.5).to(way.device, torch.uint8)
    expected = connected_components(mask, impl=way.impl)
    for skipped in (1, 4):
        shifted = torch.cat([mask.new_zeros(skipped), mask.flatten()])[skipped:].view_as(mask)
        assert torch.equal(connected_components(shifted, impl=way.impl), expected)


def test_frames_of_a_batch_do_not_touch_each_other(way):
    masks = (torch.rand(4, 19, 22) < 0.5).to(way.device, torch.uint8)
    together = connected_components(masks, impl=way.impl)
    for i in range(4):
        assert torch.equal(connected_components(masks[i : i + 1], impl=way.impl)[0], together[i])


def test_bool_any_nonzero_and_any_layout_are_the_same_mask(way):
    mask = (torch.rand(2, 30, 20) < 0.5).to(way.device, torch.uint8)
    expected = connected_components(mask, impl=way.impl)
    assert torch.equal(connected_components(mask.bool(), impl=way.impl), expected)
    assert torch.equal(connected_components(mask * 7, impl=way.impl), expected)
    turned = mask.transpose(1, 2).contiguous().transpose(1, 2)
    assert not turned.is_contiguous()
    assert torch.equal(connected_components(turned, impl=way.impl), expected)


@pytest.mark.parametrize("shape", [(0, 4, 5), (2, 0, 5), (2, 4, 0)])
def test_no_pixels_give_no_labels(way, shape):
    labels = connected_components(torch.zeros(shape, dtype=torch.uint8, device=way.device), impl=way.impl)
    assert labels.shape == shape
    assert labels.dtype == torch.int32


@pytest.mark.parametrize(
    "mask", [torch.zeros(4, 4, dtype=torch.uint8), torch.zeros(1, 4, 4)], ids=["no batch", "float"]
)
def test_another_shape_or_type_is_refused_and_shown(mask):
    with pytest.raises(ShapeError) as error:
        connected_components(mask)
    assert f"{mask.dtype} {list(mask.shape)}" in str(error.value)


def test_a_frame_too_large_for_int32_is_refused_and_shown():
    with pytest.raises(ShapeError, match=r"\[65536, 32768\]"):
        connected_components(torch.zeros(1, 1, 1, dtype=torch.uint8).expand(1, 65536, 32768))
    with pytest.raises(ShapeError, match=r"\[67108864, 1\]"):  # a row takes 32 at least
        connected_components(torch.zeros(1, 1, 1, dtype=torch.uint8).expand(1, 2**26, 1))


def test_another_connectivity_is_refused_and_shown():
    with pytest.raises(ShapeError, match="got 6"):
        connected_components(torch.zeros(1, 4, 4, dtype=torch.uint8), connectivity=6)


@settings(max_examples=40)
@given(
    hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, max_side=9), elements=st.integers(0, 1)),
    st.sampled_from([4, 8]),
)
def test_both_ways_agree_and_labels_are_first_pixels(masks, connectivity):
    mask = torch.from_numpy(masks)
    labels = connected_components(mask, connectivity=connectivity)
    assert torch.equal(labels, connected_components(mask, connectivity=connectivity, impl="ref"))
    assert torch.equal(labels > 0, mask > 0)
    for frame in labels:
        values, first = np.unique(frame.numpy(), return_index=True)
        assert all(value in (0, index + 1) for value, index in zip(values, first, strict=True))


@pytest.mark.parametrize("name", MASKS)
def test_dense_labels_of_known_pictures(way, name):
    labels = oracles.components(MASKS[name], 4)
    ids, counts = dense_labels(torch.from_numpy(labels)[None].to(way.device), impl=way.impl)
    expected, count = oracles.dense(labels)
    assert ids.dtype == torch.int32
    assert counts.dtype == torch.int64
    assert counts.tolist() == [count]
    np.testing.assert_array_equal(ids[0].cpu().numpy(), expected)


def test_dense_labels_number_each_frame_from_one(way):
    labels = connected_components((torch.rand(3, 70, 61) < 0.4).to(way.device, torch.uint8), impl=way.impl)
    ids, counts = dense_labels(labels, impl=way.impl)
    for frame, label, count in zip(ids.cpu(), labels.cpu(), counts.tolist(), strict=True):
        np.testing.assert_array_equal(frame.numpy(), oracles.dense(label.numpy())[0])
        assert frame.unique().tolist() == list(range(count + 1))


def test_dense_labels_of_no_frames(way):
    ids, counts = dense_labels(torch.zeros(0, 3, 4, dtype=torch.int32, device=way.device), impl=way.impl)
    assert ids.shape == (0, 3, 4)
    assert counts.shape == (0,)


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("grain", [1, 4])
def test_regions_are_numbered_in_raster_order(way, grain, connectivity):
    rng = np.random.default_rng(grain)
    masks = np.stack([oracles.random_mask(rng, 61, 74, density, grain) for density in (0.0, 0.2, 0.5, 0.8, 1.0)])
    ids, counts = label_regions(torch.from_numpy(masks).to(way.device), connectivity=connectivity, impl=way.impl)
    assert ids.dtype == torch.int32
    for frame, mask, count in zip(ids.cpu(), masks, counts.tolist(), strict=True):
        expected, regions = oracles.dense(oracles.components(mask, connectivity))
        np.testing.assert_array_equal(frame.numpy(), expected)
        assert count == regions


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_raster_order_does_not_depend_on_opencvs_threads(connectivity, threads):
    """They label stripes of a large frame and join them; the wide grain makes regions that cross every stripe."""
    before = cv2.getNumThreads()
    masks = [oracles.random_mask(np.random.default_rng(g), 600, 801, 0.5, g) for g in (1, 6)]
    try:
        cv2.setNumThreads(threads)
        ids, counts = label_regions(torch.from_numpy(np.stack(masks)), connectivity=connectivity)
    finally:
        cv2.setNumThreads(before)
    for frame, mask, count in zip(ids.numpy(), masks, counts.tolist(), strict=True):
        expected, regions = oracles.dense(oracles.components(mask, connectivity))
        np.testing.assert_array_equal(frame, expected)
        assert count == regions


@pytest.mark.parametrize("count", [1, 2, 256, 257, 65536, 65537])
def test_a_table_is_looked_up_whatever_its_length(count):
    table = np.random.default_rng(0).integers(-9, 9, count).astype(np.int32)
    labels = np.random.default_rng(1).integers(0, count, (40, 50)).astype(np.int32)
    expected = table[labels]
    kept = labels.copy()
    np.testing.assert_array_equal(looked_up(labels, table > 0), expected > 0)
    np.testing.assert_array_equal(labels, kept)
    for out in (np.empty_like(labels), labels):
        look_up(labels, table, out)
        np.testing.assert_array_equal(out, expected)
