import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from streamstyle.errors import ShapeError
from streamstyle.stages.otsu_threshold import TILE_PX, local_thresholds, otsu_threshold
from tests import oracles

IMPLS = ["auto", "ref"]
METHODS = ["global", "local"]


def edge_pictures(count: int, height: int, width: int) -> np.ndarray:
    return np.stack([oracles.edge_picture(np.random.default_rng(i), height, width) for i in range(count)])


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (63, 65), (120, 160)])
@pytest.mark.parametrize("kind", ["edges", "noise", "two levels", "flat", "nearly flat"])
def test_global_equals_opencv(device, size, kind, impl):
    rng = np.random.default_rng(1)
    pictures = {
        "edges": edge_pictures(3, *size),
        "noise": rng.integers(0, 256, (3, *size), dtype=np.uint8),
        "two levels": rng.choice(np.array([17, 201], np.uint8), (3, *size)),
        "flat": np.full((3, *size), 90, np.uint8),
        "nearly flat": rng.integers(90, 92, (3, *size), dtype=np.uint8),
    }[kind]
    edges = otsu_threshold(torch.from_numpy(pictures).to(device), method="global", impl=impl)
    assert edges.dtype == torch.bool
    expected = np.stack([picture > oracles.otsu(picture) for picture in pictures])
    np.testing.assert_array_equal(edges.cpu().numpy(), expected)


@pytest.mark.parametrize("share", [0.3, 0.7, 1.0])
def test_global_share_moves_the_threshold(share):
    pictures = edge_pictures(2, 80, 90)
    expected = np.stack([picture > np.float32(share) * np.float32(oracles.otsu(picture)) for picture in pictures])
    for impl in IMPLS:
        found = otsu_threshold(torch.from_numpy(pictures), method="global", share=share, impl=impl)
        np.testing.assert_array_equal(found.numpy(), expected)


@settings(deadline=None, max_examples=40)
@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 255)))
def test_global_equals_opencv_on_anything(picture):
    expected = picture > oracles.otsu(picture)
    for impl in IMPLS:
        found = otsu_threshold(torch.from_numpy(picture)[None], method="global", impl=impl)
        np.testing.assert_array_equal(found[0].numpy(), expected)


@pytest.mark.parametrize("seed", range(3))
def test_local_agrees_with_the_exact_sliding_window(device, seed):
    picture = oracles.edge_picture(np.random.default_rng(seed), 256, 320)
    found = otsu_threshold(torch.from_numpy(picture)[None].to(device))[0].cpu().numpy()
    expected = picture > oracles.local_otsu(picture, 3 * TILE_PX)
    assert (found == expected).mean() > 0.97


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (130, 1), (64, 64), (65, 127), (100, 300)])
def test_local_thresholds_fit_any_size(size):
    edges = torch.from_numpy(edge_pictures(2, *size))
    levels = local_thresholds(edges)
    assert levels.shape == (2, *size)
    assert levels.dtype == torch.float32
    assert levels.min() >= 0
    assert levels.max() <= 255
    for i in range(2):
        assert torch.equal(local_thresholds(edges[i : i + 1])[0], levels[i])


def test_one_tile_has_one_threshold_and_it_is_the_global_one():
    picture = oracles.edge_picture(np.random.default_rng(0), TILE_PX, TILE_PX)
    assert local_thresholds(torch.from_numpy(picture)[None]).unique().tolist() == [oracles.otsu(picture)]


def test_at_tile_centres_the_threshold_is_that_of_three_by_three_tiles():
    picture = oracles.edge_picture(np.random.default_rng(4), 5 * TILE_PX, 5 * TILE_PX)
    levels = local_thresholds(torch.from_numpy(picture)[None])[0]
    for row in range(1, 4):
        for column in range(1, 4):
            window = picture[(row - 1) * TILE_PX : (row + 2) * TILE_PX, (column - 1) * TILE_PX : (column + 2) * TILE_PX]
            middle = slice(row * TILE_PX + 31, row * TILE_PX + 33), slice(column * TILE_PX + 31, column * TILE_PX + 33)
            assert abs(float(levels[middle].mean()) - oracles.otsu(window)) < 2


def test_a_flat_place_takes_the_frames_threshold():
    picture = np.full((6 * TILE_PX, 6 * TILE_PX), 10, np.uint8)
    picture[:, -TILE_PX:] = oracles.edge_picture(np.random.default_rng(0), 6 * TILE_PX, TILE_PX)
    levels = local_thresholds(torch.from_numpy(picture)[None])[0]
    assert levels[:, : 3 * TILE_PX].unique().tolist() == [oracles.otsu(picture)]
    assert not otsu_threshold(torch.from_numpy(picture)[None])[0, :, : 4 * TILE_PX].any()


def test_local_follows_the_surroundings():
    dark, bright = (oracles.edge_picture(np.random.default_rng(2), 256, 256) // k for k in (4, 1))
    both = torch.from_numpy(np.concatenate([dark, bright], 1))[None]
    alone = otsu_threshold(torch.from_numpy(dark)[None])[0, :, :128]
    assert (otsu_threshold(both)[0, :, :128] == alone).float().mean() > 0.99
    assert otsu_threshold(both, method="global")[0, :, :128].sum() < 0.5 * alone.sum()


@settings(deadline=None, max_examples=12)
@given(st.integers(1, 40), st.integers(0, 100), st.sampled_from(METHODS))
def test_adding_a_constant_changes_nothing(constant, seed, method):
    picture = torch.from_numpy(oracles.edge_picture(np.random.default_rng(seed), 70, 140) // 2)[None]
    assert torch.equal(otsu_threshold(picture, method=method), otsu_threshold(picture + constant, method=method))


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(0, 4, 5), (2, 0, 5)])
def test_no_pixels(method, impl, shape):
    found = otsu_threshold(torch.zeros(shape, dtype=torch.uint8), method=method, impl=impl)
    assert found.shape == shape
    assert found.dtype == torch.bool


@pytest.mark.parametrize(
    "edges", [torch.zeros(4, 4, dtype=torch.uint8), torch.zeros(1, 4, 4)], ids=["no batch", "float"]
)
def test_another_shape_or_type_is_refused_and_shown(edges):
    with pytest.raises(ShapeError) as error:
        otsu_threshold(edges)
    assert f"{edges.dtype} {list(edges.shape)}" in str(error.value)
