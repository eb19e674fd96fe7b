import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamstyle.errors import ShapeError
from streamstyle.gpu import kernels
from streamstyle.stages import label_overlap as stage
from streamstyle.stages.label_overlap import best_matches, consecutive_overlaps, label_overlap
from tests import oracles, shim

LARGE = 70
"""Rows and columns of a table that shared memory does not hold."""


def blobs(rng: np.random.Generator, frames: int, height: int, width: int, grain: int, count: int) -> np.ndarray:
    """Cells of grain px, each of a random label."""
    cells = rng.integers(0, count, (frames, -(-height // grain), -(-width // grain)))
    return np.repeat(np.repeat(cells, grain, 1), grain, 2)[:, :height, :width].astype(np.int32)


def by_unique(label: np.ndarray, other: np.ndarray, count: int, others_count: int) -> np.ndarray:
    pairs, found = np.unique(label.astype(np.int64) * others_count + other, return_counts=True)
    table = np.zeros(count * others_count, np.int64)
    table[pairs] = found
    return table.reshape(count, others_count)


def test_a_table_a_person_can_check(way):
    labels = torch.tensor([[[0, 1, 1], [2, 2, 1]]], dtype=torch.int32, device=way.device)
    others = torch.tensor([[[0, 0, 1], [0, 1, 1]]], dtype=torch.int32, device=way.device)
    table = label_overlap(labels, others, 3, 2, impl=way.impl)
    assert table.tolist() == [[[1, 0], [1, 2], [1, 1]]]
    best = best_matches(table)
    assert (best.columns.tolist(), best.row_overlaps.tolist()) == ([[0, 1, 0]], [[1, 2, 1]])
    assert (best.rows.tolist(), best.column_overlaps.tolist()) == ([[0, 1]], [[1, 2]])


@settings(max_examples=40)
@given(st.integers(0, 3), st.integers(1, 20), st.integers(1, 20), st.integers(1, 6), st.integers(1, 6), st.integers())
def test_equals_numpy_and_counts_every_pixel_once(frames, height, width, count, others_count, seed):
    rng = np.random.default_rng(seed % 2**32)
    labels = rng.integers(0, count, (frames, height, width)).astype(np.int32)
    others = rng.integers(0, others_count, (frames, height, width)).astype(np.int32)
    table = label_overlap(torch.from_numpy(labels), torch.from_numpy(others), count, others_count)
    assert table.shape == (frames, count, others_count)
    assert table.dtype == torch.int64
    assert int(table.sum()) == labels.size
    for got, label, other in zip(table, labels, others, strict=True):
        np.testing.assert_array_equal(got.numpy(), oracles.overlap(label, other, count, others_count))
    turned = label_overlap(torch.from_numpy(others), torch.from_numpy(labels), others_count, count)
    assert torch.equal(turned, table.transpose(1, 2))


@pytest.mark.parametrize("count", [1, 9, LARGE])
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (37, 53), (128, 130)])
@pytest.mark.parametrize("grain", [1, 40])
def test_equals_numpy(way, size, grain, count):
    rng = np.random.default_rng(grain)
    labels, others = blobs(rng, 3, *size, grain, count), blobs(rng, 3, *size, 2 * grain, 2 * count)
    given = torch.from_numpy(labels).to(way.device), torch.from_numpy(others).to(way.device), count, 2 * count
    table = label_overlap(*given, impl=way.impl)
    assert table.device.type == way.device.type
    assert table.dtype == torch.int64
    for got, label, other in zip(table.cpu().numpy(), labels, others, strict=True):
        np.testing.assert_array_equal(got, by_unique(label, other, count, 2 * count))
    assert torch.equal(label_overlap(*given, impl=way.impl), table)


@pytest.mark.parametrize("count", [5, LARGE])
@pytest.mark.parametrize("frames", [1, 2, 5])
def test_consecutive_frames_equal_their_pairs(way, frames, count):
    maps = torch.from_numpy(blobs(np.random.default_rng(frames), frames + 1, 41, 63, 6, count)).to(way.device)
    before, ids = maps[0], maps[1:]
    inside = consecutive_overlaps(ids, count, impl=way.impl)
    assert inside.shape == (frames - 1, count, count)
    tables = consecutive_overlaps(ids, count, before, impl=way.impl)
    assert tables.shape == (frames, count, count)
    assert torch.equal(tables[1:], inside)
    for i, table in enumerate(tables.cpu().numpy()):
        pair = maps[i + 1].cpu().numpy(), maps[i].cpu().numpy()
        np.testing.assert_array_equal(table, oracles.overlap(*pair, count, count))


@pytest.mark.parametrize("count", [3, LARGE])
def test_labels_outside_count_as_background(way, count):
    labels = torch.tensor([[[0, 1, count, -1], [2, -(2**31), 2**31 - 1, 2]]], dtype=torch.int32, device=way.device)
    others = torch.tensor([[[2, 2, 2, 2], [-5, 1, count + 1, 1]]], dtype=torch.int32, device=way.device)
    expected = torch.zeros(1, count, count, dtype=torch.int64)
    for row, column in ((0, 2), (1, 2), (0, 2), (0, 2), (2, 0), (0, 1), (0, 0), (2, 1)):
        expected[0, row, column] += 1
    assert torch.equal(label_overlap(labels, others, count, count, impl=way.impl).cpu(), expected)


def test_any_layout_is_the_same_map(way):
    rng = np.random.default_rng(0)
    ids = torch.from_numpy(blobs(rng, 4, 40, 60, 7, 6)).to(way.device)
    turned = ids.transpose(1, 2).contiguous().transpose(1, 2)
    assert not turned.is_contiguous()
    # Frames that do not begin at a multiple of 16 bytes.
    shifted = torch.cat([ids.new_zeros(1), ids.flatten()])[1:].view_as(ids)
    expected = consecutive_overlaps(ids, 6, ids[3], impl=way.impl)
    for same in (turned, shifted, ids[:, :, :59].contiguous()):
        given = same, 6, same[3]
        assert torch.equal(consecutive_overlaps(*given, impl=way.impl), consecutive_overlaps(*given, impl="ref"))
    assert torch.equal(consecutive_overlaps(turned, 6, turned[3], impl=way.impl), expected)
    assert torch.equal(label_overlap(turned, shifted, 6, 6, impl=way.impl).sum((1, 2)).cpu(), torch.full((4,), 2400))


@pytest.mark.parametrize("shape", [(0, 4, 5), (2, 0, 5), (2, 4, 0)])
def test_no_pixels(way, shape):
    ids = torch.zeros(shape, dtype=torch.int32, device=way.device)
    tables = label_overlap(ids, ids, 2, 3, impl=way.impl)
    assert tables.shape == (shape[0], 2, 3)
    assert not tables.any()
    assert consecutive_overlaps(ids, 2, impl=way.impl).shape == (max(0, shape[0] - 1), 2, 2)
    assert consecutive_overlaps(ids, 2, ids.new_zeros(shape[1:]), impl=way.impl).shape == (shape[0], 2, 2)
    best = best_matches(tables)
    assert best.columns.tolist() == [[-1, -1]] * shape[0]
    assert best.rows.tolist() == [[-1, -1, -1]] * shape[0]


# -- best matches ------------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.integers(0, 3), st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.integers())
def test_best_matches_equal_a_loop(frames, rows, columns, most, seed):
    tables = np.random.default_rng(seed % 2**32).integers(0, most, (frames, rows, columns))
    best = best_matches(torch.from_numpy(tables))
    for found, overlaps, these in (
        (best.columns, best.row_overlaps, tables),
        (best.rows, best.column_overlaps, tables.transpose(0, 2, 1)),
    ):
        assert (found.dtype, overlaps.dtype) == (torch.int32, torch.int64)
        assert found.shape == these.shape[:2]
        for line, match, overlap in zip(
            these.reshape(-1, these.shape[2]).tolist(),
            found.flatten().tolist(),
            overlaps.flatten().tolist(),
            strict=True,
        ):
            assert overlap == max(line)
            assert match == (line.index(max(line)) if max(line) else -1)


def test_best_matches_on_each_device(device):
    tables = torch.randint(0, 3, (3, 40, 33))
    for there, here in zip(
        vars(best_matches(tables.to(device))).values(), vars(best_matches(tables)).values(), strict=True
    ):
        assert torch.equal(there.cpu(), here)


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "others"),
    [
        (torch.zeros(1, 4, 4, dtype=torch.int32), torch.zeros(1, 4, 5, dtype=torch.int32)),
        (torch.zeros(1, 4, 4, dtype=torch.int32), torch.zeros(1, 4, 4, dtype=torch.int64)),
        (torch.zeros(4, 4, dtype=torch.int32), torch.zeros(4, 4, dtype=torch.int32)),
    ],
    ids=["another size", "another type", "no batch"],
)
def test_maps_that_do_not_fit_are_refused_and_shown(labels, others):
    with pytest.raises(ShapeError) as error:
        label_overlap(labels, others, 2, 2)
    assert f"{labels.dtype} {list(labels.shape)}" in str(error.value)
    assert f"{others.dtype} {list(others.shape)}" in str(error.value)


def test_what_does_not_fit_is_refused_and_shown():
    ids = torch.zeros(2, 4, 5, dtype=torch.int32)
    tall = ids[:1, :1, :1].expand(2, 65536, 32768)
    for refused, message in (
        (lambda: label_overlap(ids, ids, 0, 2), "got 0 and 2"),
        (lambda: label_overlap(ids, ids, 2**14, 2**14), str(2**29)),
        (lambda: label_overlap(ids, ids.to("meta"), 2, 2), "cpu and meta"),
        (lambda: label_overlap(tall, tall, 2, 2), r"\[65536, 32768\]"),
        (lambda: consecutive_overlaps(tall, 2), r"\[65536, 32768\]"),
        (lambda: consecutive_overlaps(ids, 2**16), str(2**32)),
        (lambda: consecutive_overlaps(ids.long(), 2), r"int64 \[2, 4, 5\]"),
        (lambda: consecutive_overlaps(ids, 2, ids[0, :3]), r"int32 \[3, 5\]"),
        (lambda: consecutive_overlaps(ids, 2, ids[0].long()), r"int64 \[4, 5\]"),
        (lambda: consecutive_overlaps(ids, 2, ids[0].to("meta")), "meta"),
        (lambda: best_matches(ids), r"int32 \[2, 4, 5\]"),
        (lambda: best_matches(ids[:, :0].long()), r"\[2, 0, 5\]"),
    ):
        with pytest.raises(ShapeError, match=message):
            refused()


# -- the kernels themselves --------------------------------------------------------------------------------------------


def test_one_launch_by_size_of_the_table():
    if shim.compiler() is None:
        pytest.skip("there is no C++ compiler")
    ids = torch.ones(3, 4, 4, dtype=torch.int32)
    with shim.running() as runner:
        consecutive_overlaps(ids, 64, impl="cuda")
        consecutive_overlaps(ids, 65, ids[0], impl="cuda")
    assert runner.launched == ["label_overlap_count_small", "label_overlap_count_large"]
    assert set(kernels.entries(stage.STEM)) == set(runner.launched)
