import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamstyle.errors import ShapeError
from streamstyle.stages.grow_regions import LAST_STEPS, LEVELS, STEPS, grow_regions
from tests import oracles

IMPLS = ["auto", "ref"]


def seeded(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Edge strength and the regions between its edges."""
    edges = oracles.edge_picture(rng, height, width)
    return oracles.dense(oracles.components(edges < 40, 4))[0], edges


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (37, 53), (120, 160)])
@pytest.mark.parametrize("frames", [1, 3])
def test_both_ways_agree(device, size, frames):
    rng = np.random.default_rng(frames)
    labels, edges = (
        torch.from_numpy(np.stack(x)) for x in zip(*(seeded(rng, *size) for _ in range(frames)), strict=True)
    )
    expected = grow_regions(labels, edges)
    assert expected.dtype == torch.int32
    assert torch.equal(grow_regions(labels.to(device), edges.to(device), impl="ref").cpu(), expected)
    for i in range(frames):
        assert torch.equal(grow_regions(labels[i : i + 1], edges[i : i + 1])[0], expected[i])


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 25), st.integers(1, 25), st.integers(0, 2**31), st.floats(0.0, 0.3))
def test_flooding_keeps_labels_and_grows_them_connected(height, width, seed, density):
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random((height, width)) < density, rng.integers(1, 6, (height, width)), 0).astype(np.int32)
    edges = rng.integers(0, 256, (height, width), dtype=np.uint8)
    before = labels.copy()
    grown = grow_regions(torch.from_numpy(labels)[None], torch.from_numpy(edges)[None])
    assert torch.equal(grown, grow_regions(torch.from_numpy(labels)[None], torch.from_numpy(edges)[None], impl="ref"))
    found = grown[0].numpy()
    np.testing.assert_array_equal(labels, before)
    np.testing.assert_array_equal(found[labels > 0], labels[labels > 0])
    assert oracles.stray_parts(found, labels) == 0


@pytest.mark.parametrize("impl", IMPLS)
def test_everything_within_reach_is_filled_and_no_more(impl):
    labels = torch.zeros(1, 1, 400, dtype=torch.int32)
    labels[0, 0, 0] = 9
    reach = (len(LEVELS) - 1) * STEPS + LAST_STEPS
    easy = grow_regions(labels, torch.zeros(1, 1, 400, dtype=torch.uint8), impl=impl)
    assert (easy[0, 0] > 0).sum() == 1 + reach
    hard = grow_regions(labels, torch.full((1, 1, 400), 255, dtype=torch.uint8), impl=impl)
    assert (hard[0, 0] > 0).sum() == 1 + LAST_STEPS


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("ridge", [24, 30, 36])
def test_regions_meet_on_the_ridge(impl, ridge):
    x = np.arange(60)
    strength = np.clip(250 - 25 * np.abs(x - ridge), 0, 255).astype(np.uint8)
    edges = torch.from_numpy(np.tile(strength, (20, 1)))[None]
    labels = torch.zeros(1, 20, 60, dtype=torch.int32)
    labels[..., :20], labels[..., 40:] = 1, 2
    grown = grow_regions(labels, edges, impl=impl)[0]
    assert (grown > 0).all()
    borders = (grown == 1).sum(1)
    assert ((borders - ridge).abs() <= 1).all()


def test_agrees_with_the_watershed_by_a_queue():
    labels, edges = seeded(np.random.default_rng(5), 160, 200)
    grown = grow_regions(torch.from_numpy(labels)[None], torch.from_numpy(edges)[None])[0].numpy()
    unknown = (labels == 0) & (grown > 0)
    assert (grown[unknown] == oracles.watershed(labels, edges)[unknown]).mean() > 0.85


@pytest.mark.parametrize("impl", IMPLS)
def test_of_several_neighbours_the_largest_label_wins(impl):
    labels = torch.tensor([[[3, 0, 8], [0, 0, 0], [5, 0, 2]]], dtype=torch.int32)
    grown = grow_regions(labels, torch.zeros(1, 3, 3, dtype=torch.uint8), impl=impl)
    assert grown[0].tolist() == [[3, 8, 8], [5, 8, 8], [5, 5, 2]]


@pytest.mark.parametrize("impl", IMPLS)
def test_nothing_to_start_from_and_no_frames(impl):
    empty = torch.zeros(2, 5, 6, dtype=torch.int32)
    assert torch.equal(grow_regions(empty, torch.zeros(2, 5, 6, dtype=torch.uint8), impl=impl), empty)
    none = grow_regions(empty[:0], torch.zeros(0, 5, 6, dtype=torch.uint8), impl=impl)
    assert none.shape == (0, 5, 6)
    assert none.dtype == torch.int32


@pytest.mark.parametrize(
    ("labels", "edges"),
    [
        (torch.zeros(1, 4, 4, dtype=torch.int64), torch.zeros(1, 4, 4, dtype=torch.uint8)),
        (torch.zeros(1, 4, 4, dtype=torch.int32), torch.zeros(1, 4, 4)),
        (torch.zeros(1, 4, 4, dtype=torch.int32), torch.zeros(1, 4, 5, dtype=torch.uint8)),
        (torch.zeros(4, 4, dtype=torch.int32), torch.zeros(4, 4, dtype=torch.uint8)),
    ],
    ids=["int64 labels", "float edges", "another size", "no batch"],
)
def test_maps_that_do_not_fit_are_refused_and_shown(labels, edges):
    with pytest.raises(ShapeError) as error:
        grow_regions(labels, edges)
    assert f"{labels.dtype} {list(labels.shape)}" in str(error.value)
    assert f"{edges.dtype} {list(edges.shape)}" in str(error.value)
