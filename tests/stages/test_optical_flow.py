import numpy as np
import pytest

from streamstyle.errors import ShapeError
from streamstyle.stages.optical_flow import SMALLEST_PX, OpticalFlow, carry_labels
from tests import oracles

HEIGHT, WIDTH, MARGIN = 160, 200, 24


def window(right: int, down: int) -> np.ndarray:
    """A view of one large textured picture whose content has moved right and down."""
    texture = (oracles.smooth(np.random.default_rng(3), HEIGHT + 80, WIDTH + 80, 2.5) * 255).astype(np.uint8)
    return np.ascontiguousarray(texture[40 - down : 40 - down + HEIGHT, 40 - right : 40 - right + WIDTH])


@pytest.mark.parametrize(("right", "down"), [(0, 0), (1, 0), (0, -2), (3, 2), (-6, 4), (10, 0)])
def test_a_known_shift_is_found(right, down):
    flow = OpticalFlow()
    assert flow.step(window(0, 0)) is None
    found = flow.step(window(right, down))
    assert found.shape == (HEIGHT, WIDTH, 2)
    assert found.dtype == np.float32
    middle = found[MARGIN:-MARGIN, MARGIN:-MARGIN]
    assert np.abs(middle - (-right, -down)).max() < 0.5


@pytest.mark.parametrize(("right", "down"), [(3, 2), (-6, 4)])
def test_labels_are_carried_by_the_shift(right, down):
    labels = np.zeros((HEIGHT, WIDTH), np.int32)
    labels[60:100, 70:120] = 1234
    flow = OpticalFlow()
    flow.step(window(0, 0))
    carried = carry_labels(labels, flow.step(window(right, down)))
    assert carried.dtype == np.int32
    expected = np.roll(labels, (down, right), (0, 1))
    assert ((carried > 0) & (expected > 0)).sum() > 0.97 * ((carried > 0) | (expected > 0)).sum()
    assert np.unique(carried).tolist() == [0, 1234]


def test_labels_carried_by_an_exact_flow_are_moved_exactly():
    labels = np.random.default_rng(0).integers(0, 32768, (9, 11)).astype(np.int32)
    flow = np.zeros((9, 11, 2), np.float32) + np.float32([2, -1])
    expected = np.pad(labels, ((1, 0), (0, 2)), mode="edge")[:9, 2:]
    np.testing.assert_array_equal(carry_labels(labels, flow), expected)


def test_no_motion_carries_nothing():
    labels = np.ones((4, 5), np.int32)
    assert carry_labels(labels, None) is labels


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (16, 300), (300, 16), (SMALLEST_PX - 1, 96), (31, 2000)])
def test_pictures_too_small_for_the_search_have_no_flow(size):
    flow = OpticalFlow()
    for _ in range(3):
        assert flow.step(np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)) is None


@pytest.mark.parametrize("size", [(32, 32), (32, 2000), (2000, 33), (63, 64)])
def test_the_smallest_pictures_it_takes(size):
    flow = OpticalFlow()
    luma = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    flow.step(luma)
    assert np.isfinite(flow.step(np.roll(luma, 1, 1))).all()


def test_a_cut_or_another_size_starts_again():
    flow = OpticalFlow()
    flow.step(window(0, 0))
    assert flow.step(window(1, 0)[:100].copy()) is None
    assert flow.step(window(1, 0)[:100].copy()) is not None
    flow.reset()
    assert flow.step(window(1, 0)[:100].copy()) is None


def test_the_same_pictures_give_the_same_flow():
    twice = []
    for _ in range(2):
        flow = OpticalFlow()
        flow.step(window(0, 0))
        twice.append(flow.step(window(3, 2)))
    np.testing.assert_array_equal(*twice)


@pytest.mark.parametrize(
    "luma", [np.zeros((40, 40, 1), np.uint8), np.zeros((40, 40), np.float32)], ids=["3-D", "float"]
)
def test_another_shape_or_type_is_refused_and_shown(luma):
    with pytest.raises(ShapeError) as error:
        OpticalFlow().step(luma)
    assert f"{luma.dtype} {list(luma.shape)}" in str(error.value)
