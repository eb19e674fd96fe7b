from fractions import Fraction

import numpy as np
import pytest
import skimage.data
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from streamstyle.errors import ShapeError
from streamstyle.gpu import kernels
from streamstyle.stages.otsu_threshold import (
    ACROSS,
    FLAT_VARIANCE,
    MOST_PIXELS,
    STEM,
    TILE_PX,
    WINDOW_PX,
    _below,
    _best_split,
    _exact_split,
    exact_thresholds,
    local_thresholds,
    otsu_threshold,
)
from tests import nvrtc, oracles, shim
from tests.conftest import skip_or_fail

IMPLS = ["auto", "ref"]
METHODS = ["global", "local", "exact"]
NOISE_FLOOR = 20
"""Strength below which the segmenter takes nothing for an edge, whatever the threshold."""


def edge_pictures(count: int, height: int, width: int) -> np.ndarray:
    return np.stack([oracles.edge_picture(np.random.default_rng(i), height, width) for i in range(count)])


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (63, 65), (120, 160)])
@pytest.mark.parametrize("kind", ["edges", "noise", "two levels", "flat", "nearly flat"])
def test_global_equals_opencv(way, size, kind):
    rng = np.random.default_rng(1)
    pictures = {
        "edges": edge_pictures(3, *size),
        "noise": rng.integers(0, 256, (3, *size), dtype=np.uint8),
        "two levels": rng.choice(np.array([17, 201], np.uint8), (3, *size)),
        "flat": np.full((3, *size), 90, np.uint8),
        "nearly flat": rng.integers(90, 92, (3, *size), dtype=np.uint8),
    }[kind]
    edges = otsu_threshold(torch.from_numpy(pictures).to(way.device), method="global", impl=way.impl)
    assert edges.dtype == torch.bool
    expected = np.stack([picture > oracles.otsu(picture) for picture in pictures])
    np.testing.assert_array_equal(edges.cpu().numpy(), expected)


@pytest.mark.parametrize("share", [0.3, 0.7, 1.0])
def test_global_share_moves_the_threshold(way, share):
    pictures = edge_pictures(2, 80, 90)
    expected = np.stack([picture > np.float32(share) * np.float32(oracles.otsu(picture)) for picture in pictures])
    found = otsu_threshold(torch.from_numpy(pictures).to(way.device), method="global", share=share, impl=way.impl)
    np.testing.assert_array_equal(found.cpu().numpy(), expected)


@settings(max_examples=40)
@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 255)))
def test_global_equals_opencv_on_anything(picture):
    expected = picture > oracles.otsu(picture)
    for impl in IMPLS:
        found = otsu_threshold(torch.from_numpy(picture)[None], method="global", impl=impl)
        np.testing.assert_array_equal(found[0].numpy(), expected)


def histograms_of(kind: str, most: int, count: int = 40) -> np.ndarray:
    """[count, 256] int64 histograms of `most` pixels at most, some of them hard to split."""
    rng = np.random.default_rng(most)
    found = np.zeros((count, 256), np.int64)
    for row in found:
        if kind == "any":
            np.add.at(row, rng.integers(0, 256, min(most, 3000)), 1)
        elif kind == "mirrored":  # two best levels, exactly
            row[:128] = np.bincount(rng.integers(0, 128, most // 2 if most < 9000 else 4000), minlength=128)
            row[128:] = row[:128][::-1]
        elif kind == "two peaks":  # and a pixel here and there: splits alike to 1 in most
            row[[3, 250]] = most // 2 - 40
            row[rng.choice(np.arange(4, 250), 40)] = 1
        elif kind == "one level":
            row[rng.integers(0, 256)] = most
    return found


@pytest.mark.parametrize("kind", ["any", "mirrored", "two peaks", "one level"])
@pytest.mark.parametrize("most", [100, (ACROSS * TILE_PX) ** 2, 1920 * 1080, MOST_PIXELS])
def test_the_best_split_is_that_of_fractions(kind, most):
    histograms = histograms_of(kind, most)
    expected = []
    for row in histograms.tolist():
        pixels, total = sum(row), sum(level * n for level, n in enumerate(row))
        below, mass, best, at = 0, 0, Fraction(0), 0
        for level, n in enumerate(row):
            below, mass = below + n, mass + level * n
            variance = Fraction((total * below - mass * pixels) ** 2, max(1, below * (pixels - below)))
            if variance > best:
                best, at = variance, level
        expected.append(at)
    sums = _below(torch.from_numpy(histograms))
    assert _best_split(*sums, most).tolist() == expected
    assert _exact_split(*sums, most).tolist() == expected


@pytest.mark.parametrize(("apart", "flat"), [(8, True), (9, False)])
def test_a_window_is_flat_up_to_the_variance_and_at_it(way, apart, flat):
    picture = np.full((TILE_PX, 6 * TILE_PX), 200, np.uint8)
    picture[:, : 2 * TILE_PX : 2], picture[:, 1 : 2 * TILE_PX : 2] = 10, 10 + apart  # a variance of apart^2 / 4
    edges = torch.from_numpy(picture)[None].to(way.device)
    found = otsu_threshold(edges, impl=way.impl)
    assert torch.equal(found.cpu(), edges.cpu().float() > local_thresholds(edges.cpu()))
    # At the left of the first tile its own window's level holds, or the frame's, which is above both.
    assert found[0, :, 1 : TILE_PX // 2 : 2].all().item() is not flat


@pytest.mark.parametrize("seed", range(3))
def test_local_agrees_with_exact_where_there_is_more_than_noise(device, seed):
    edges = torch.from_numpy(oracles.edge_picture(np.random.default_rng(seed), 256, 320))[None].to(device)
    strong = edges > NOISE_FLOOR  # in the noise between edges the exact form splits noise, as it must
    found, exact = (otsu_threshold(edges, method=method) & strong for method in ("local", "exact"))
    assert (found == exact).float().mean() >= 0.99


@pytest.mark.parametrize(
    ("size", "share"),
    [((1, 1), 1.0), ((1, 200), 0.37), ((130, 1), 0.37), ((64, 64), 1.0), ((100, 304), 0.37), ((200, 300), 0.7)],
)
@pytest.mark.parametrize("kind", ["edges", "noise", "half flat"])
def test_local_equals_the_reference(way, size, kind, share):
    pictures = edge_pictures(2, *size)
    if kind == "noise":
        pictures = np.random.default_rng(1).integers(0, 256, (2, *size), dtype=np.uint8)
    elif kind == "half flat":
        pictures[:, :, size[1] // 3 :] = 10
    edges = torch.from_numpy(pictures)
    found = otsu_threshold(edges.to(way.device), share=share, impl=way.impl)
    assert found.dtype == torch.bool
    assert torch.equal(found.cpu(), edges.float() > share * local_thresholds(edges))


NATURAL = {
    "camera": lambda: skimage.data.camera()[60:130, 90:290],
    "astronaut": lambda: skimage.data.astronaut()[:40, 100:293, 1],
    "texture": lambda: (oracles.smooth(np.random.default_rng(0), 70, 100) * 255).astype(np.uint8),
    "edges": lambda: oracles.edge_picture(np.random.default_rng(3), 80, 120),
    "noise": lambda: np.random.default_rng(1).integers(0, 256, (50, 99), dtype=np.uint8),
    "three levels": lambda: np.random.default_rng(1).choice(np.array([0, 100, 101], np.uint8), (40, 97)),
    "nearly flat": lambda: np.random.default_rng(1).integers(90, 92, (33, 70), dtype=np.uint8),
    "mirrored": lambda: np.tile(np.array([[10, 20, 30, 40]], np.uint8), (66, 20)),
    "flat": lambda: np.full((34, 40), 90, np.uint8),
    "one row": lambda: np.random.default_rng(1).integers(0, 256, (1, 200), dtype=np.uint8),
    "one column": lambda: np.random.default_rng(1).integers(0, 256, (130, 1), dtype=np.uint8),
    "one pixel": lambda: np.full((1, 1), 7, np.uint8),
}


@pytest.mark.parametrize("name", NATURAL)
def test_exact_equals_scikit_image_in_every_pixel(way, name):
    picture = np.ascontiguousarray(NATURAL[name]())
    pictures = torch.from_numpy(np.stack([picture, 255 - picture])).to(way.device)
    levels = exact_thresholds(pictures, impl=way.impl)
    assert levels.dtype == torch.uint8
    expected = np.stack([oracles.local_otsu(one, WINDOW_PX) for one in pictures.cpu().numpy()])
    np.testing.assert_array_equal(levels.cpu().numpy(), expected)
    assert torch.equal(otsu_threshold(pictures, method="exact", share=0.9, impl=way.impl), pictures > 0.9 * levels)


@settings(max_examples=25)
@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 8), st.integers(1, 8)), elements=st.sampled_from([0, 1, 2, 9, 255]))
)
def test_exact_equals_scikit_image_on_anything(picture):
    expected = oracles.local_otsu(picture, WINDOW_PX)
    for impl in IMPLS:
        np.testing.assert_array_equal(exact_thresholds(torch.from_numpy(picture)[None], impl=impl)[0].numpy(), expected)


@pytest.mark.parametrize("method", METHODS)
def test_layout_batch_and_alignment_change_nothing(way, method):
    pictures = torch.from_numpy(edge_pictures(3, 70, 80)).to(way.device)
    expected = otsu_threshold(pictures, method=method, impl=way.impl)
    for i in range(3):
        assert torch.equal(otsu_threshold(pictures[i : i + 1], method=method, impl=way.impl)[0], expected[i])
    turned = pictures.transpose(1, 2).contiguous().transpose(1, 2)
    assert not turned.is_contiguous()
    assert torch.equal(otsu_threshold(turned, method=method, impl=way.impl), expected)
    shifted = torch.cat([pictures.new_zeros(1), pictures.flatten()])[1:].view_as(pictures)
    assert torch.equal(otsu_threshold(shifted, method=method, impl=way.impl), expected)


def test_every_entry_is_launched():
    if shim.compiler() is None:
        skip_or_fail("shim", "there is no C++ compiler (g++ or clang++)")
    with shim.running() as runner:
        for method in METHODS:
            otsu_threshold(torch.from_numpy(edge_pictures(1, 20, 30)), method=method, impl="cuda")
    assert {*runner.launched} == {*kernels.entries(STEM)}


@pytest.mark.parametrize("architecture", nvrtc.ARCHITECTURES)
def test_compiles_to_a_cubin(architecture):
    try:
        cubin, log = nvrtc.compile_cubin(kernels.text(STEM), architecture)
    except ImportError as error:
        skip_or_fail("nvrtc", str(error))
    assert log == ""
    assert all(entry.encode() in cubin for entry in kernels.entries(STEM))


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


def test_half_a_window_has_one_threshold_and_it_is_the_global_one():
    side = ACROSS // 2 * TILE_PX
    picture = oracles.edge_picture(np.random.default_rng(0), side, side)
    assert local_thresholds(torch.from_numpy(picture)[None]).unique().tolist() == [oracles.otsu(picture)]


def test_around_a_corner_of_tiles_the_threshold_is_that_of_its_window():
    picture = oracles.edge_picture(np.random.default_rng(4), 9 * TILE_PX, 10 * TILE_PX)
    levels = local_thresholds(torch.from_numpy(picture)[None])[0]
    corners = {}
    for row in range(10):
        for column in range(11):
            y, x, reach = row * TILE_PX, column * TILE_PX, ACROSS // 2 * TILE_PX
            window = picture[max(0, y - reach) : y + reach, max(0, x - reach) : x + reach]
            above = window > oracles.otsu(window)
            apart = window[above].mean() - window[~above].mean()
            flat = above.mean() * (~above).mean() * apart**2 <= FLAT_VARIANCE
            corners[row, column] = oracles.otsu(picture if flat else window)
    for y, x in np.random.default_rng(0).integers(0, picture.shape, (200, 2)):
        (row, down), (column, along) = (divmod((at + 0.5) / TILE_PX, 1) for at in (y, x))
        row, column = int(row), int(column)
        left, right = (corners[row, at] * (1 - down) + corners[row + 1, at] * down for at in (column, column + 1))
        assert levels[y, x] == left * (1 - along) + right * along


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


@settings(max_examples=12)
@given(st.integers(1, 40), st.integers(0, 100), st.sampled_from(METHODS))
def test_adding_a_constant_changes_nothing(constant, seed, method):
    picture = torch.from_numpy(oracles.edge_picture(np.random.default_rng(seed), 70, 140) // 2)[None]
    assert torch.equal(otsu_threshold(picture, method=method), otsu_threshold(picture + constant, method=method))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(0, 4, 5), (2, 0, 5), (2, 4, 0)])
def test_no_pixels(way, method, shape):
    found = otsu_threshold(torch.zeros(shape, dtype=torch.uint8, device=way.device), method=method, impl=way.impl)
    assert found.shape == shape
    assert found.dtype == torch.bool


@pytest.mark.parametrize(
    "edges", [torch.zeros(4, 4, dtype=torch.uint8), torch.zeros(1, 4, 4)], ids=["no batch", "float"]
)
def test_another_shape_or_type_is_refused_and_shown(edges):
    with pytest.raises(ShapeError) as error:
        otsu_threshold(edges)
    assert f"{edges.dtype} {list(edges.shape)}" in str(error.value)


def test_a_frame_too_large_is_refused_and_shown():
    huge = torch.zeros(1, 1, 1, dtype=torch.uint8).expand(1, MOST_PIXELS // 1024, 1025)
    for call in (otsu_threshold, exact_thresholds):
        with pytest.raises(ShapeError, match=r"\[131072, 1025\]"):
            call(huge)


def test_another_method_is_refused_and_shown():
    with pytest.raises(ShapeError, match="got 'tiles'"):
        otsu_threshold(torch.zeros(1, 4, 4, dtype=torch.uint8), method="tiles")
