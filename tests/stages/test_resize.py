import numpy as np
import pytest
import skimage.transform
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamstyle.errors import ShapeError
from streamstyle.gpu import kernels
from streamstyle.stages import resize as stage
from streamstyle.stages.resize import resize_planes, small_size
from tests import oracles, shim

IMPLS = ["auto", "ref"]


def planes_of(count: int, height: int, width: int) -> torch.Tensor:
    planes = [oracles.smooth(np.random.default_rng(i), height, width, 2) * 255 for i in range(count)]
    return torch.from_numpy(np.stack(planes).astype(np.uint8))


@pytest.mark.parametrize(
    ("shape", "short_side", "expected"),
    [
        ((1080, 1920), 240, (240, 427)),
        ((1920, 1080), 240, (427, 240)),
        ((100, 60), 240, (100, 60)),
        ((1, 9), 64, (1, 9)),
    ],
)
def test_small_size(shape, short_side, expected):
    assert small_size(shape, short_side) == expected
    assert small_size((7, *shape), short_side) == expected


@pytest.mark.parametrize("size", [(30, 40), (31, 17), (59, 80), (60, 79), (1, 1), (60, 1), (1, 80)])
def test_both_ways_agree_when_shrinking(device, size):
    planes = torch.cat([planes_of(2, 60, 80), torch.randint(0, 256, (1, 60, 80), dtype=torch.uint8)])
    auto, ref = resize_planes(planes, size), resize_planes(planes.to(device), size, impl="ref").cpu()
    assert auto.shape == ref.shape == (3, *size)
    assert auto.dtype == ref.dtype == torch.uint8
    assert (auto.int() - ref.int()).abs().max() <= 2


@pytest.mark.parametrize("size", [(120, 160), (61, 99), (120, 40), (30, 200)])
def test_both_ways_agree_when_growing(size):
    planes = planes_of(2, 60, 80)
    auto, ref = resize_planes(planes, size), resize_planes(planes, size, impl="ref")
    assert (auto.int() - ref.int()).abs().max() <= 2


@pytest.mark.parametrize("impl", IMPLS)
def test_shrinking_by_a_whole_number_is_the_mean_of_blocks(impl):
    planes = torch.randint(0, 256, (2, 24, 36), dtype=torch.uint8)
    expected = np.stack(
        [skimage.transform.downscale_local_mean(plane.astype(float), (4, 3)) for plane in planes.numpy()]
    )
    assert np.abs(resize_planes(planes, (6, 12), impl=impl).numpy() - expected).max() <= 0.5 + 1e-6


@settings(max_examples=40)
@given(st.tuples(*[st.integers(1, 30)] * 4), st.integers(0, 2**32 - 1))
def test_shrinking_is_the_rounded_mean_of_cells_that_cut_pixels(sizes, seed):
    (h, height), (w, width) = sorted(sizes[:2]), sorted(sizes[2:])
    planes = np.random.default_rng(seed).integers(0, 256, (2, height, width), dtype=np.uint8)
    fine = np.repeat(np.repeat(planes.astype(np.int64), h, 1), w, 2)  # each cell is height x width of these
    sums = fine.reshape(2, h, height, w, width).sum((2, 4))
    expected = (2 * sums + height * width) // (2 * height * width)
    np.testing.assert_array_equal(resize_planes(torch.from_numpy(planes), (h, w), impl="ref").numpy(), expected)


@settings(max_examples=25)
@given(st.tuples(*[st.integers(1, 40)] * 4), st.integers(0, 255), st.sampled_from(IMPLS))
def test_flat_stays_flat_at_any_size(sizes, level, impl):
    planes = torch.full((2, *sizes[:2]), level, dtype=torch.uint8)
    resized = resize_planes(planes, sizes[2:], impl=impl)
    assert resized.shape == (2, *sizes[2:])
    assert resized.unique().tolist() == [level]


@pytest.mark.parametrize("shape", [(60, 80), (1, 1), (1, 90), (70, 1), (53, 301)])
def test_equals_the_reference(way, shape):
    planes = torch.randint(0, 256, (3, *shape), dtype=torch.uint8, device=way.device)
    planes[2] = 255
    turned = planes.transpose(1, 2).contiguous().transpose(1, 2)
    sizes = {
        (1, 1),
        (shape[0], 1),
        (1, shape[1]),
        (-(-shape[0] // 3), -(-shape[1] // 7)),
        (shape[0], shape[1] // 2 + 1),
    }
    for size in sizes:
        expected = resize_planes(planes, size, impl="ref").int()
        for same in (planes, turned):
            found = resize_planes(same, size, impl=way.impl).int()
            assert (found - expected).abs().max() <= (2 if way.impl == "auto" else 0)


def test_one_launch_where_it_shrinks():
    if shim.compiler() is None:
        pytest.skip("there is no C++ compiler")
    with shim.running() as runner:
        resize_planes(planes_of(2, 60, 80), (31, 17), impl="cuda")
        resize_planes(planes_of(2, 6, 8), (31, 17), impl="cuda")
    assert runner.launched == [*kernels.entries(stage.STEM)]


@pytest.mark.parametrize("impl", IMPLS)
def test_the_same_size_is_the_same_planes(impl):
    planes = planes_of(1, 9, 7)
    assert resize_planes(planes, (9, 7), impl=impl) is planes


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("size", [(3, 3), (30, 30), (30, 3)])
def test_no_frames(impl, size):
    resized = resize_planes(torch.zeros(0, 9, 7, dtype=torch.uint8), size, impl=impl)
    assert resized.shape == (0, *size)
    assert resized.dtype == torch.uint8


@pytest.mark.parametrize(
    "planes", [torch.zeros(4, 4, dtype=torch.uint8), torch.zeros(1, 4, 4)], ids=["no batch", "float"]
)
def test_another_shape_or_type_is_refused_and_shown(planes):
    with pytest.raises(ShapeError) as error:
        resize_planes(planes, (2, 2))
    assert f"{planes.dtype} {list(planes.shape)}" in str(error.value)
