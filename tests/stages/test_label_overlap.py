import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamstyle.errors import ShapeError
from streamstyle.stages.label_overlap import label_overlap
from tests import oracles


def test_a_table_a_person_can_check():
    labels = torch.tensor([[[0, 1, 1], [2, 2, 1]]], dtype=torch.int32)
    others = torch.tensor([[[0, 0, 1], [0, 1, 1]]], dtype=torch.int32)
    assert label_overlap(labels, others, 3, 2).tolist() == [[[1, 0], [1, 2], [1, 1]]]


@settings(deadline=None, max_examples=40)
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


def test_on_each_device(device):
    labels = torch.randint(0, 5, (3, 33, 47), dtype=torch.int32)
    others = torch.randint(0, 9, (3, 33, 47), dtype=torch.int32)
    table = label_overlap(labels.to(device), others.to(device), 5, 9)
    assert table.device.type == device.type
    assert torch.equal(table.cpu(), label_overlap(labels, others, 5, 9))


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
