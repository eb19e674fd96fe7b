import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from streamstyle.errors import ShapeError
from streamstyle.frames import ColorTags
from streamstyle.gpu import kernels
from streamstyle.stages.color import LUMA_WEIGHTS, STEM, blend_planes_, rgb_to_yuv, yuv_to_rgb
from tests import oracles, shim
from tests.conftest import skip_or_fail

TAGS = [ColorTags(matrix, full) for matrix, full in itertools.product(LUMA_WEIGHTS, (False, True))]
NAMES = [f"{tags.matrix} {'full' if tags.full_range else 'limited'}" for tags in TAGS]
tagged = pytest.mark.parametrize("tags", TAGS, ids=NAMES)


layouts = pytest.mark.parametrize("subsample", [True, False], ids=["420", "444"])
depths = pytest.mark.parametrize("depth", [8, 10])
HELD = {8: torch.uint8, 10: torch.uint16}
# A tile of the kernels is 4 x 512: whole ones, parts, and each remainder of 2, 4 and 8 columns.
SIZES = [(1, 1), (1, 2), (2, 1), (3, 5), (1, 9), (9, 1), (6, 16), (5, 514), (8, 1024), (7, 1030)]


def planes_of(
    count: int, height: int, width: int, subsample: bool, full_range: bool = False, depth: int = 8
) -> list[torch.Tensor]:
    """Smooth y, u, v inside the colours that RGB holds."""
    low, span = (0, 255) if full_range else (16, 219)
    chroma = (-(-height // 2), -(-width // 2)) if subsample else (height, width)
    stacks = [
        np.stack([oracles.smooth(np.random.default_rng(10 * part + i), *size, 4) for i in range(count)])
        for part, size in enumerate([(height, width), chroma, chroma])
    ]
    y = low + span * (0.3 + 0.4 * stacks[0])
    u, v = (128 + 70 * (stack - 0.5) for stack in stacks[1:])
    held = np.uint8 if depth == 8 else np.uint16
    return [torch.from_numpy((x * 2 ** (depth - 8)).round().astype(held)) for x in (y, u, v)]


def noise_of(count: int, height: int, width: int, subsample: bool, depth: int) -> tuple[torch.Tensor, ...]:
    """Planes of any number at all."""
    chroma = (-(-height // 2), -(-width // 2)) if subsample else (height, width)
    sizes = [(height, width), chroma, chroma]
    return tuple(torch.randint(0, 2**depth, (count, *size), dtype=torch.int32).to(HELD[depth]) for size in sizes)


def swscale_white(full_range: bool, depth: int) -> int:
    """The RGB number that libswscale means by 1: it shifts 8 bits up, except from full range to as many bits."""
    return 2**depth - 1 if full_range else 255 << (depth - 8)


def distance(plane: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Levels between two planes."""
    assert plane.dtype == other.dtype
    return (plane.cpu().to(torch.int32) - other.cpu().to(torch.int32)).abs()


@tagged
@depths
@layouts
def test_rgb_equals_swscale(way, tags, subsample, depth):
    white = swscale_white(tags.full_range, depth)
    for size in ((64, 96), (45, 67), (33, 20)):
        planes = planes_of(2, *size, subsample, tags.full_range, depth)
        rgb = yuv_to_rgb(tuple(plane.to(way.device) for plane in planes), tags, depth=depth, impl=way.impl)
        assert rgb.shape == (2, 3, *size)
        assert rgb.dtype == torch.float32
        assert rgb.device.type == way.device.type
        for i in range(2):
            expected = oracles.swscale_to_rgb([plane[i].numpy() for plane in planes], tags.matrix, tags.full_range)
            assert np.abs(rgb[i].cpu().numpy() * white - expected).max() < 0.6


@tagged
@depths
@layouts
def test_yuv_equals_swscale(way, tags, subsample, depth):
    # Very smooth: swscale's filter for 4:2:0 is another one, which only curvature shows.
    smooth = np.stack([oracles.smooth(np.random.default_rng(i), 64, 96, 16) for i in range(3)])
    white = swscale_white(False, depth)
    levels = (smooth * white).round().astype(np.uint8 if depth == 8 else np.uint16)
    rgb = torch.from_numpy(levels.astype(np.float32))[None].to(way.device) / white
    found = rgb_to_yuv(rgb, tags, subsample=subsample, depth=depth, impl=way.impl)
    expected = oracles.swscale_to_yuv(levels, tags.matrix, tags.full_range, subsample)
    for plane, wanted in zip(found, expected, strict=True):
        assert plane.dtype == HELD[depth]
        assert plane.device.type == way.device.type
        assert distance(plane[0], torch.from_numpy(wanted)).max() <= 1


@depths
@layouts
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=["f32", "f16", "bf16"])
def test_rgb_equals_the_reference(way, subsample, dtype, depth):
    for size, tags in itertools.product(SIZES, TAGS[:4:3]):
        planes = noise_of(2, *size, subsample, depth)
        here = tuple(plane.to(way.device) for plane in planes)
        rgb = yuv_to_rgb(here, tags, dtype=dtype, depth=depth, impl=way.impl)
        assert rgb.dtype == dtype
        assert way.impl != "cuda" or rgb.is_contiguous(memory_format=torch.channels_last)
        expected = yuv_to_rgb(planes, tags, depth=depth, impl="ref")
        # Half a step of the dtype below 1, besides the order of float32 additions.
        step = {torch.float32: 0, torch.float16: 2**-12, torch.bfloat16: 2**-9}[dtype]
        assert (rgb.cpu().float() - expected).abs().max() <= step + 1e-6


@depths
@layouts
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=["f32", "f16", "bf16"])
def test_yuv_equals_the_reference(way, subsample, dtype, depth):
    for size, tags in itertools.product(SIZES, TAGS[:4:3]):
        height, width = (side + side % 2 for side in size) if subsample else size
        rgb = (torch.rand(2, 3, height, width) * 1.2 - 0.1).to(dtype)
        found = rgb_to_yuv(rgb.to(way.device), tags, subsample=subsample, depth=depth, impl=way.impl)
        expected = rgb_to_yuv(rgb, tags, subsample=subsample, depth=depth, impl="ref")
        for plane, wanted in zip(found, expected, strict=True):
            assert plane.shape == wanted.shape
            apart = distance(plane, wanted)
            assert apart.max() <= 1
            assert (apart > 0).sum() <= 1 + apart.numel() // 1000


@tagged
@depths
def test_444_comes_back(way, tags, depth):
    for size in ((64, 96), (45, 67), (1, 1), (5, 300)):
        planes = planes_of(2, *size, False, tags.full_range, depth)
        rgb = yuv_to_rgb(tuple(plane.to(way.device) for plane in planes), tags, depth=depth, impl=way.impl)
        back = rgb_to_yuv(rgb, tags, subsample=False, depth=depth, impl=way.impl)
        for plane, again in zip(planes, back, strict=True):
            assert distance(plane, again).max() <= 1


@tagged
def test_420_comes_back(way, tags):
    planes = planes_of(2, 64, 96, True, tags.full_range)
    rgb = yuv_to_rgb(tuple(plane.to(way.device) for plane in planes), tags, impl=way.impl)
    back = rgb_to_yuv(rgb, tags, subsample=True, impl=way.impl)
    for plane, again in zip(planes, back, strict=True):
        assert again.shape == plane.shape
        assert distance(plane, again).max() <= 2


@tagged
@depths
def test_known_colours(way, tags, depth):
    def back(rgb: torch.Tensor, subsample: bool) -> list[torch.Tensor]:
        found = rgb_to_yuv(rgb.to(way.device), tags, subsample=subsample, depth=depth, impl=way.impl)
        return [plane.cpu().to(torch.int32) for plane in found]

    scale, top = 2 ** (depth - 8), 2**depth - 1
    low, high = (0, top) if tags.full_range else (16 * scale, 235 * scale)
    grey = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 2, 2).contiguous()
    y, u, v = back(grey, subsample=True)
    assert y[:, 0, 0].tolist() == [low, high]
    assert {*u.unique().tolist(), *v.unique().tolist()} == {128 * scale}
    planes = tuple(plane.to(HELD[depth]).to(way.device) for plane in (y, u, v))
    assert (yuv_to_rgb(planes, tags, depth=depth, impl=way.impl).cpu() - grey).abs().max() < 1e-6
    red, blue = LUMA_WEIGHTS[tags.matrix]
    y, u, v = back(torch.eye(3).view(3, 3, 1, 1), subsample=False)
    expected = torch.tensor([red, 1 - red - blue, blue]) * (high - low) + low
    assert (y.flatten() - expected).abs().max() <= 0.5 + 1e-4
    # The strongest red and blue reach the end of their chroma's range.
    assert (int(v[0]), int(u[2])) == ((top, top) if tags.full_range else (240 * scale, 240 * scale))


def test_what_is_outside_is_clipped(way):
    rgb = torch.tensor([-0.5, 1.5, 0.5]).view(1, 3, 1, 1).expand(1, 3, 4, 4).contiguous().to(way.device)
    clipped = rgb_to_yuv(rgb.clamp(0, 1), ColorTags(), subsample=True, impl=way.impl)
    for plane, expected in zip(rgb_to_yuv(rgb, ColorTags(), subsample=True, impl=way.impl), clipped, strict=True):
        assert torch.equal(plane, expected)
    full = tuple(torch.full((1, 4, 4), 255, dtype=torch.uint8, device=way.device) for _ in range(3))
    wild = yuv_to_rgb(full, ColorTags(), impl=way.impl)
    assert wild.min() >= 0
    assert wild.max() <= 1


@pytest.mark.parametrize("rgb", [torch.full((1, 3, 4, 4), 1.5), torch.full((1, 3, 1, 1), 0.5).expand(1, 3, 4, 4)])
def test_the_callers_picture_stays_as_it_is(way, rgb):
    rgb = rgb.to(way.device)
    before = rgb.clone()
    rgb_to_yuv(rgb, ColorTags(), subsample=True, impl=way.impl)
    assert torch.equal(rgb, before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_memory_format_does_not_matter(way, dtype):
    rgb = torch.rand(2, 3, 8, 10).to(way.device, dtype)
    expected = rgb_to_yuv(rgb, ColorTags(), subsample=True, impl=way.impl)
    turned = rgb.transpose(2, 3).contiguous().transpose(2, 3)
    for other in (rgb.to(memory_format=torch.channels_last), turned):
        assert not other.is_contiguous()
        found = rgb_to_yuv(other, ColorTags(), subsample=True, impl=way.impl)
        assert all(torch.equal(plane, again) for plane, again in zip(expected, found, strict=True))


@depths
def test_planes_may_begin_anywhere_in_memory(way, depth):
    planes = noise_of(3, 9, 31, True, depth)
    rgb = yuv_to_rgb(tuple(plane.to(way.device) for plane in planes), ColorTags(), depth=depth, impl=way.impl)
    for i in range(3):
        views = tuple(plane.to(way.device)[i : i + 1] for plane in planes)
        one = yuv_to_rgb(views, ColorTags(), depth=depth, impl=way.impl)
        assert (one - rgb[i : i + 1]).abs().max() <= 1e-6
    wide = tuple(plane.to(way.device).expand(3, *plane.shape[1:])[:, ::2, ::2] for plane in planes[:1] * 3)
    assert not wide[0].is_contiguous()
    expected = yuv_to_rgb(tuple(plane.contiguous() for plane in wide), ColorTags(), depth=depth, impl=way.impl)
    assert torch.equal(yuv_to_rgb(wide, ColorTags(), depth=depth, impl=way.impl), expected)


@pytest.mark.parametrize("offset", [1, 2, 3])
def test_rgb_may_begin_anywhere_in_memory(way, offset):
    held = torch.rand(2 * 6 * 16 * 3 + offset, device=way.device)
    rgb = held[offset:].view(2, 6, 16, 3).permute(0, 3, 1, 2)
    found = rgb_to_yuv(rgb, ColorTags(), subsample=True, impl=way.impl)
    expected = rgb_to_yuv(rgb.clone(memory_format=torch.channels_last), ColorTags(), subsample=True, impl=way.impl)
    assert all(torch.equal(plane, again) for plane, again in zip(found, expected, strict=True))


def test_twice_gives_the_same_bytes(way):
    planes = tuple(plane.to(way.device) for plane in noise_of(2, 11, 530, True, 8))
    first, again = (yuv_to_rgb(planes, ColorTags(), dtype=torch.bfloat16, impl=way.impl) for _ in "ab")
    assert torch.equal(first, again)
    rgb = torch.rand(2, 3, 10, 530, device=way.device)
    first, again = (rgb_to_yuv(rgb, ColorTags(), subsample=True, impl=way.impl) for _ in "ab")
    assert all(torch.equal(plane, other) for plane, other in zip(first, again, strict=True))


@depths
@pytest.mark.parametrize("sizes", [((4, 6), (2, 3)), ((0, 6), (0, 3)), ((4, 0), (2, 0)), ((4, 6), (4, 6))])
@pytest.mark.parametrize("count", [0, 1])
def test_no_pixels(way, sizes, count, depth):
    planes = tuple(torch.zeros(count, *sizes[part], dtype=HELD[depth], device=way.device) for part in (0, 1, 1))
    assert yuv_to_rgb(planes, ColorTags(), depth=depth, impl=way.impl).shape == (count, 3, *sizes[0])
    rgb = torch.zeros(count, 3, *sizes[0], device=way.device)
    found = rgb_to_yuv(rgb, ColorTags(), subsample=sizes[0] != sizes[1], depth=depth, impl=way.impl)
    assert [plane.shape for plane in found] == [(count, *sizes[part]) for part in (0, 1, 1)]


def test_every_entry_is_launched_once_a_call():
    if shim.compiler() is None:
        skip_or_fail("shim", "there is no C++ compiler (g++ or clang++)")
    with shim.running() as runner:
        for subsample in (True, False):
            rgb = yuv_to_rgb(noise_of(1, 4, 6, subsample, 8), ColorTags(), impl="cuda")
            rgb_to_yuv(rgb, ColorTags(), subsample=subsample, impl="cuda")
    assert sorted(runner.launched) == sorted(kernels.entries(STEM))


@layouts
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
    ("sizes", "dtype", "depth", "shown"),
    [
        (((8, 8), (4, 4), (4, 5)), torch.uint8, 8, "[1, 4, 4] [1, 4, 5]"),
        (((8, 8), (2, 2), (2, 2)), torch.uint8, 8, "[1, 8, 8] [1, 2, 2]"),
        (((7, 7), (3, 3), (3, 3)), torch.uint8, 8, "[1, 7, 7] [1, 3, 3]"),
        (((8, 8), (4, 4), (4, 4)), torch.int32, 8, "must be uint8, got torch.int32"),
        (((8, 8), (4, 4), (4, 4)), torch.uint16, 8, "depth 8 must be uint8, got torch.uint16"),
        (((8, 8), (4, 4), (4, 4)), torch.uint8, 10, "depth 10 must be uint16, got torch.uint8"),
        (((8, 8), (4, 4), (4, 4)), torch.uint16, 12, "got 12"),
    ],
    ids=["u is not v", "quarter", "rounded down", "int32", "too deep", "not deep enough", "no such depth"],
)
def test_planes_that_do_not_fit_are_refused_and_shown(sizes, dtype, depth, shown):
    with pytest.raises(ShapeError) as error:
        yuv_to_rgb(tuple(torch.zeros(1, *size, dtype=dtype) for size in sizes), ColorTags(), depth=depth)
    assert shown in str(error.value)


def test_planes_on_two_devices_are_refused_and_shown():
    y, u, v = noise_of(1, 4, 4, False, 8)
    with pytest.raises(ShapeError, match="cpu cpu meta"):
        yuv_to_rgb((y, u, v.to("meta")), ColorTags())


@pytest.mark.parametrize("dtype", [torch.float64, torch.uint8])
def test_another_dtype_of_rgb_is_refused_and_shown(dtype):
    with pytest.raises(ShapeError, match=str(dtype)):
        yuv_to_rgb(noise_of(1, 4, 4, True, 8), ColorTags(), dtype=dtype)


def test_another_depth_of_planes_is_refused_and_shown():
    with pytest.raises(ShapeError, match="got 12"):
        rgb_to_yuv(torch.zeros(1, 3, 4, 4), ColorTags(), subsample=True, depth=12)


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
