import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from streamstyle.errors import ShapeError
from streamstyle.frames import ColorTags
from streamstyle.stages.color import LUMA_WEIGHTS, blend_planes_, rgb_to_yuv, yuv_to_rgb
from tests import oracles

TAGS = [ColorTags(matrix, full) for matrix, full in itertools.product(LUMA_WEIGHTS, (False, True))]
NAMES = [f"{tags.matrix} {'full' if tags.full_range else 'limited'}" for tags in TAGS]
tagged = pytest.mark.parametrize("tags", TAGS, ids=NAMES)


def planes_of(count: int, height: int, width: int, subsample: bool, full_range: bool = False) -> list[torch.Tensor]:
    """Smooth y, u, v inside the colours that RGB holds."""
    low, span = (0, 255) if full_range else (16, 219)
    chroma = (-(-height // 2), -(-width // 2)) if subsample else (height, width)
    stacks = [
        np.stack([oracles.smooth(np.random.default_rng(10 * part + i), *size, 4) for i in range(count)])
        for part, size in enumerate([(height, width), chroma, chroma])
    ]
    y = low + span * (0.3 + 0.4 * stacks[0])
    u, v = (128 + 70 * (stack - 0.5) for stack in stacks[1:])
    return [torch.from_numpy(x.round().astype(np.uint8)) for x in (y, u, v)]


def rgb_of(count: int, height: int, width: int) -> torch.Tensor:
    """Smooth RGB uint8."""
    smooth = [oracles.smooth(np.random.default_rng(i), height, width, 4) for i in range(3 * count)]
    return torch.from_numpy((np.stack(smooth).reshape(count, 3, height, width) * 255).round().astype(np.uint8))


@tagged
@pytest.mark.parametrize("subsample", [True, False], ids=["420", "444"])
@pytest.mark.parametrize("size", [(64, 96), (45, 67), (33, 20)])
def test_rgb_equals_swscale(device, tags, subsample, size):
    planes = planes_of(2, *size, subsample, tags.full_range)
    rgb = yuv_to_rgb(tuple(plane.to(device) for plane in planes), tags)
    assert rgb.shape == (2, 3, *size)
    assert rgb.dtype == torch.float32
    for i in range(2):
        expected = oracles.swscale_to_rgb([plane[i].numpy() for plane in planes], tags.matrix, tags.full_range)
        assert np.abs(rgb[i].cpu().numpy() * 255 - expected).max() < 0.6


@tagged
@pytest.mark.parametrize("subsample", [True, False], ids=["420", "444"])
def test_yuv_equals_swscale(device, tags, subsample):
    rgb = rgb_of(1, 64, 96)
    found = rgb_to_yuv(rgb.to(device).float() / 255, tags, subsample=subsample)
    expected = oracles.swscale_to_yuv(rgb[0].numpy(), tags.matrix, tags.full_range, subsample)
    # swscale's full-range chroma sits half a level low, and its 4:2:0 filter is another one.
    for plane, levels, at_most in zip(found, expected, (1, 2, 2) if subsample else (1, 1, 1), strict=True):
        assert plane.dtype == torch.uint8
        assert np.abs(plane[0].cpu().numpy().astype(int) - levels).max() <= at_most


@tagged
@pytest.mark.parametrize("size", [(64, 96), (45, 67), (1, 1), (5, 300)])
def test_444_comes_back(tags, size):
    planes = planes_of(2, *size, False, tags.full_range)
    back = rgb_to_yuv(yuv_to_rgb(tuple(planes), tags), tags, subsample=False)
    for plane, again in zip(planes, back, strict=True):
        assert (plane.int() - again.int()).abs().max() <= 1


@tagged
def test_420_comes_back(tags):
    planes = planes_of(2, 64, 96, True, tags.full_range)
    back = rgb_to_yuv(yuv_to_rgb(tuple(planes), tags), tags, subsample=True)
    for plane, again in zip(planes, back, strict=True):
        assert again.shape == plane.shape
        assert (plane.int() - again.int()).abs().max() <= 2


@tagged
def test_known_colours(tags):
    low, high = (0, 255) if tags.full_range else (16, 235)
    grey = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 2, 2).contiguous()
    y, u, v = rgb_to_yuv(grey, tags, subsample=True)
    assert y[:, 0, 0].tolist() == [low, high]
    assert {*u.unique().tolist(), *v.unique().tolist()} == {128}
    assert (yuv_to_rgb((y, u, v), tags) - grey).abs().max() < 1e-6
    red, blue = LUMA_WEIGHTS[tags.matrix]
    pure = torch.eye(3).view(3, 3, 1, 1)
    y = rgb_to_yuv(pure, tags, subsample=False)[0].flatten().float()
    expected = torch.tensor([red, 1 - red - blue, blue]) * (high - low) + low
    assert (y - expected).abs().max() <= 0.5 + 1e-4
    # The strongest red and blue reach the end of their chroma's range.
    _, u, v = rgb_to_yuv(pure, tags, subsample=False)
    assert (int(v[0]), int(u[2])) == ((255, 255) if tags.full_range else (240, 240))


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (1, 9), (9, 1), (3, 5)])
def test_420_of_few_pixels(size):
    rgb = yuv_to_rgb(tuple(planes_of(2, *size, True)), ColorTags())
    assert rgb.shape == (2, 3, *size)
    assert torch.isfinite(rgb).all()


def test_what_is_outside_is_clipped():
    rgb = torch.tensor([-0.5, 1.5, 0.5]).view(1, 3, 1, 1).expand(1, 3, 4, 4).contiguous()
    clipped = rgb_to_yuv(rgb.clamp(0, 1), ColorTags(), subsample=True)
    for plane, expected in zip(rgb_to_yuv(rgb, ColorTags(), subsample=True), clipped, strict=True):
        assert torch.equal(plane, expected)
    wild = yuv_to_rgb(tuple(torch.full((1, 4, 4), 255, dtype=torch.uint8) for _ in range(3)), ColorTags())
    assert wild.min() >= 0
    assert wild.max() <= 1


@pytest.mark.parametrize("rgb", [torch.full((1, 3, 4, 4), 1.5), torch.full((1, 3, 1, 1), 0.5).expand(1, 3, 4, 4)])
def test_the_callers_picture_stays_as_it_is(rgb):
    before = rgb.clone()
    rgb_to_yuv(rgb, ColorTags(), subsample=True)
    assert torch.equal(rgb, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_memory_format_does_not_matter(dtype):
    rgb = torch.rand(2, 3, 8, 10).to(dtype)
    expected = rgb_to_yuv(rgb, ColorTags(), subsample=True)
    for plane, again in zip(
        expected, rgb_to_yuv(rgb.to(memory_format=torch.channels_last), ColorTags(), subsample=True), strict=True
    ):
        assert torch.equal(plane, again)


def test_no_frames():
    empty = [torch.zeros(0, *size, dtype=torch.uint8) for size in ((4, 6), (2, 3), (2, 3))]
    assert yuv_to_rgb(tuple(empty), ColorTags()).shape == (0, 3, 4, 6)
    found = rgb_to_yuv(torch.zeros(0, 3, 4, 6), ColorTags(), subsample=True)
    assert [plane.shape for plane in found] == [(0, 4, 6), (0, 2, 3), (0, 2, 3)]


@pytest.mark.parametrize("subsample", [True, False], ids=["420", "444"])
@pytest.mark.parametrize("size", [(8, 10), (7, 9), (1, 1)])
def test_blending_by_nothing_keeps_the_bytes_and_by_all_takes_the_paint(device, subsample, size):
    chroma = (-(-size[0] // 2), -(-size[1] // 2)) if subsample else size
    shapes = [(2, *size), (2, *chroma), (2, *chroma)]
    original, paint = ([torch.randint(0, 256, s, dtype=torch.uint8).to(device) for s in shapes] for _ in range(2))
    for share, expected in ((0.0, original), (1.0, paint)):
        planes = tuple(plane.clone() for plane in paint)
        blend_planes_(planes, tuple(original), torch.full((2, *size), share, device=device))
        for plane, wanted in zip(planes, expected, strict=True):
            assert torch.equal(plane, wanted)


def test_blending_touches_only_where_there_is_a_share():
    original, paint = (
        [torch.randint(0, 256, s, dtype=torch.uint8) for s in ((1, 8, 8), (1, 4, 4), (1, 4, 4))] for _ in "ab"
    )
    share = torch.zeros(1, 8, 8)
    share[0, 2:5, 4:6] = torch.tensor([0.25, 1.0])
    planes = tuple(plane.clone() for plane in paint)
    blend_planes_(planes, tuple(original), share)
    for plane, kept, painted in zip(planes, original, paint, strict=True):
        part = share if plane.shape == share.shape else F.avg_pool2d(share, 2)
        exact = kept.double() + part.double() * (painted.double() - kept.double())
        assert torch.equal(plane[part == 0], kept[part == 0])
        assert (plane.double() - exact).abs().max() <= 0.5 + 1e-4


@pytest.mark.parametrize(
    ("sizes", "dtype"),
    [
        (((8, 8), (4, 4), (4, 5)), torch.uint8),
        (((8, 8), (2, 2), (2, 2)), torch.uint8),
        (((7, 7), (3, 3), (3, 3)), torch.uint8),
        (((8, 8), (4, 4), (4, 4)), torch.int32),
    ],
    ids=["u is not v", "quarter", "rounded down", "int32"],
)
def test_planes_that_do_not_fit_are_refused(sizes, dtype):
    with pytest.raises(ShapeError):
        yuv_to_rgb(tuple(torch.zeros(1, *size, dtype=dtype) for size in sizes), ColorTags())


@pytest.mark.parametrize(
    ("rgb", "subsample", "shown"),
    [
        (torch.zeros(3, 4, 4), False, "[3, 4, 4]"),
        (torch.zeros(1, 4, 4, 3), False, "[1, 4, 4, 3]"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.uint8), False, "torch.uint8"),
        (torch.zeros(1, 3, 4, 5), True, "4x5"),
        (torch.zeros(1, 3, 5, 4), True, "5x4"),
    ],
    ids=["no batch", "channels last", "bytes", "odd width", "odd height"],
)
def test_rgb_that_cannot_be_converted_is_refused_and_shown(rgb, subsample, shown):
    with pytest.raises(ShapeError) as error:
        rgb_to_yuv(rgb, ColorTags(), subsample=subsample)
    assert shown in str(error.value)
