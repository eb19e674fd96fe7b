import numpy as np
import pytest
import torch

from streamstyle.errors import ShapeError
from streamstyle.gpu import kernels
from streamstyle.stages import style_map as stage
from streamstyle.stages.blends import LEVELS, blend_index
from streamstyle.stages.style_map import MOST_LOOKS, UNIT, blend_map, pair_feathers, style_map
from tests import oracles, shim

IMPLS = ["auto", "ref"]
SIZE = (160, 240)


def halves(height: int = 40, width: int = 60, at: int = 30) -> torch.Tensor:
    looks = torch.zeros(1, height, width, dtype=torch.int32)
    looks[..., at:] = 1
    return looks


def patches(count: int, frames: int = 2) -> torch.Tensor:
    """Maps of blobs of all looks."""
    maps = []
    for seed in range(frames):
        rng = np.random.default_rng(seed)
        maps.append(np.argmax([oracles.smooth(rng, 40, 60, 5) for _ in range(count)], 0))
    return torch.from_numpy(np.stack(maps).astype(np.int32))


def share_of(look: int, first: torch.Tensor, second: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """How much of one look each pixel wears."""
    return torch.where(first == look, weight, torch.where(second == look, 1 - weight, 0.0))


@pytest.mark.parametrize("count", [2, 5])
@pytest.mark.parametrize("size", [SIZE, (40, 60), (37, 51), (161, 243)])
def test_shapes_types_and_bounds(way, count, size):
    first, second, weight = style_map(patches(count).to(way.device), count, size, 6.0, impl=way.impl)
    assert first.shape == second.shape == weight.shape == (2, *size)
    assert (first.dtype, second.dtype, weight.dtype) == (torch.uint8, torch.uint8, torch.float32)
    assert first.max() < count
    assert second.max() < count
    assert weight.min() >= 0.5
    assert weight.max() == 1


@pytest.mark.parametrize("count", [2, 5])
@pytest.mark.parametrize("feather_px", [0.0, 2.0, 6.0, 30.0])
def test_both_ways_agree(count, feather_px):
    looks = patches(count, 3)
    auto, ref = (style_map(looks, count, SIZE, feather_px, impl=impl) for impl in IMPLS)
    clear = auto[2] > 0.6 if feather_px else style_map(looks, count, SIZE, 6.0)[2] > 0.6
    assert (auto[0] == ref[0])[clear].float().mean() > 0.99
    shares = [torch.stack([share_of(look, *found) for look in range(count)]) for found in (auto, ref)]
    if feather_px:
        # Where three meet, who is second may differ; a narrow border multiplies the masks' 8-bit steps.
        apart = (shares[0] - shares[1]).abs()
        assert apart.quantile(0.99) < 0.03
        if count == 2:
            assert apart.max() < (0.03 if feather_px >= 6 else 0.06)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("feather_px", [0.0, 4.0, 12.0, 40.0])
def test_two_halves(impl, feather_px):
    first, second, weight = (x[0] for x in style_map(halves(), 2, SIZE, feather_px, impl=impl))
    border = 120
    far = int(feather_px) + 8
    assert (first[:, : border - far] == 0).all()
    assert (first[:, border + far :] == 1).all()
    assert (weight[:, : border - far] == 1).all()
    assert (weight[:, border + far :] == 1).all()
    if not feather_px:
        assert (weight == 1).all()
        assert ((first == 0).sum(1) - border).abs().max() <= 1
        return
    share = share_of(1, first, second, weight)
    profile = share[80]
    assert (share - profile).abs().max() < 0.01
    assert (profile.diff() >= -0.01).all()
    # Straight through the middle, half and half on the border itself.
    assert abs(float(profile[border - 1 : border + 1].mean()) - 0.5) < 0.02
    slope = float(profile[border + 1] - profile[border - 2]) / 3
    assert 1 / slope == pytest.approx(feather_px, rel=0.05)
    ramp = int(((profile > 0.02) & (profile < 0.98)).sum())
    assert 0.8 * feather_px - 1 <= ramp <= 1.7 * feather_px + 2


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("count", [2, 5])
def test_no_look_jumps_across_a_border(impl, count):
    feather_px = 20.0
    found = style_map(patches(count), count, SIZE, feather_px, impl=impl)
    for look in range(count):
        share = share_of(look, *found)
        met_by_two = torch.ones_like(share, dtype=torch.bool)
        if count > 2:  # where three meet, the third has to give way at once
            worn = torch.stack([(patches(count) == k).float() for k in range(count)], 1)
            near = torch.nn.functional.max_pool2d(worn, 11, 1, 5).sum(1, keepdim=True)
            met_by_two = torch.nn.functional.interpolate(near, SIZE, mode="nearest")[:, 0] <= 2
        for axis in (1, 2):
            calm = met_by_two.narrow(axis, 1, SIZE[axis - 1] - 1) & met_by_two.narrow(axis, 0, SIZE[axis - 1] - 1)
            assert share.diff(dim=axis).abs()[calm].max() < 0.15


def test_frames_of_a_batch_do_not_touch_each_other(way):
    looks = patches(3, 4).to(way.device)
    together = style_map(looks, 3, SIZE, 6.0, impl=way.impl)
    for i in range(4):
        for whole, alone in zip(together, style_map(looks[i : i + 1], 3, SIZE, 6.0, impl=way.impl), strict=True):
            assert torch.equal(whole[i], alone[0])


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2)])
def test_maps_of_few_pixels(way, shape):
    looks = torch.ones(1, *shape, dtype=torch.int32, device=way.device)
    first, _, weight = style_map(looks, 2, (shape[0] * 3, shape[1] * 3), 6.0, impl=way.impl)
    assert (first == 1).all()
    assert (weight == 1).all()


@pytest.mark.parametrize("feather_px", [0.0, 6.0])
def test_a_single_look_is_worn_everywhere(way, feather_px):
    first, second, weight = style_map(
        torch.zeros(2, 8, 9, dtype=torch.int32, device=way.device), 1, (24, 27), feather_px, impl=way.impl
    )
    assert not first.any()
    assert not second.any()
    assert (weight == 1).all()


@pytest.mark.parametrize("feather_px", [0.0, 6.0])
def test_no_frames(way, feather_px):
    found = style_map(
        torch.zeros(0, 8, 9, dtype=torch.int32, device=way.device), 3, (24, 27), feather_px, impl=way.impl
    )
    assert [x.shape for x in found] == [(0, 24, 27)] * 3
    assert [x.dtype for x in found] == [torch.uint8, torch.uint8, torch.float32]
    index = blend_map(
        torch.zeros(0, 8, 9, dtype=torch.int32, device=way.device), 3, (24, 27), feather_px, impl=way.impl
    )
    assert (index.shape, index.dtype) == ((0, 24, 27), torch.int32)


@pytest.mark.parametrize(
    "looks", [torch.zeros(4, 4, dtype=torch.int32), torch.zeros(1, 4, 4)], ids=["no batch", "float"]
)
def test_another_shape_or_type_is_refused_and_shown(looks):
    with pytest.raises(ShapeError) as error:
        style_map(looks, 2, (8, 8), 6.0)
    assert f"{looks.dtype} {list(looks.shape)}" in str(error.value)


def test_what_cannot_be_had_is_refused_and_shown():
    looks = torch.zeros(1, 4, 4, dtype=torch.int32)
    for refused, message in (
        (lambda: style_map(looks, 0, (8, 8), 6.0), "got 0"),
        (lambda: style_map(looks, MOST_LOOKS + 1, (8, 8), 6.0), f"got {MOST_LOOKS + 1}"),
        (lambda: style_map(looks[:, :0], 2, (8, 8), 6.0), r"\[0, 4\]"),
        (lambda: blend_map(looks, 2, (8, 0), 6.0), r"\[8, 0\]"),
        (lambda: blend_map(looks, 2, (8, 8), [[6.0, 6.0]]), r"2 x 2, got rows of \[2\]"),
        (lambda: style_map(looks, 2, (8, 8), [[6.0, 6.0], [6.0]]), r"2 x 2, got rows of \[2, 1\]"),
        (lambda: style_map(looks, 2, (8, 8), [[6.0, 6.0], [7.0, 6.0]]), "got 7.0 and 6.0 for looks 1 and 0"),
    ):
        with pytest.raises(ShapeError, match=message):
            refused()


@pytest.mark.parametrize("sigma", [0.8, 2.4, 7.0])
def test_the_blur_is_kornias(sigma):
    from kornia.filters import gaussian_blur2d

    masks = (patches(4)[:, None] == torch.arange(4).view(1, 4, 1, 1)).float()
    window = 2 * min(round(3 * sigma), 39) + 1
    expected = gaussian_blur2d(masks, window, (sigma, sigma), border_type="reflect")
    found = stage._blurred(patches(4), 4, sigma).float() / (1 << UNIT)
    torch.testing.assert_close(found, expected, atol=3e-4, rtol=0)


@pytest.mark.parametrize("size", [(40, 60), (160, 240), (37, 51), (161, 243), (9, 7), (1, 1)])
def test_enlarging_is_torchs(size):
    looks, sigma = patches(3), 1.5
    masks = torch.nn.functional.interpolate(stage._blurred(looks, 3, sigma).float(), size, mode="bilinear")
    best = masks.topk(2, dim=1).values / (1 << UNIT)
    _, _, *found = stage._strongest_two_ref(looks, 3, size, sigma)
    torch.testing.assert_close(torch.stack(found, 1) / (1 << UNIT), best, atol=1e-4, rtol=0)


# -- kernels and reference ---------------------------------------------------------------------------------------------


def noise(count: int, shape: tuple[int, int], frames: int = 2) -> torch.Tensor:
    """Maps of single pixels, where all looks are near each other and many masks are equal."""
    return torch.randint(0, count, (frames, *shape), dtype=torch.int32)


def widths_of(count: int) -> list[list[float]]:
    """A width of its own for each pair, some of them hard, and one that nobody has for a look with itself."""
    widths = [[99.0] * count for _ in range(count)]
    for a in range(count):
        for b in range(a):
            widths[a][b] = widths[b][a] = (0.0, 0.5, 6.0, 9.5, 21.0)[(a + 3 * b) % 5]
    return widths


@pytest.mark.parametrize("count", [1, 2, 3, 27, MOST_LOOKS])
@pytest.mark.parametrize("feather_px", [0.0, 0.5, 6.0, 40.0, "mixed"])
def test_equals_the_reference(way, count, feather_px):
    if way.impl == "auto":
        pytest.skip("OpenCV counts in 8 bits")
    width = widths_of(count) if feather_px == "mixed" else feather_px
    for looks in (patches(count), noise(count, (17, 23))):
        given = looks.to(way.device)
        for size in ((68, 92), (67, 89), tuple(looks.shape[1:]), (11, 13), (1, 1)):
            found = style_map(given, count, size, width, impl=way.impl)
            expected = style_map(given, count, size, width, impl="ref")
            for got, wanted in zip(found, expected, strict=True):
                assert torch.equal(got, wanted)
            assert torch.equal(blend_map(given, count, size, width, impl=way.impl), blend_index(*expected, count))


@pytest.mark.parametrize("feather_px", [0.0, 6.0])
def test_widths_that_are_alike_are_one_width(way, feather_px):
    looks = patches(3).to(way.device)
    widths = [[feather_px if a != b else 50.0 for b in range(3)] for a in range(3)]
    for one, other in zip(
        style_map(looks, 3, SIZE, widths, impl=way.impl),
        style_map(looks, 3, SIZE, feather_px, impl=way.impl),
        strict=True,
    ):
        assert torch.equal(one, other)


def test_each_pair_has_its_own_width(way):
    """Four stripes: a hard border, a wide one, a narrow one."""
    looks = (torch.arange(120) // 30).to(torch.int32).expand(1, 40, 120).contiguous().to(way.device)
    own = [[0.0, 0.0, 5.0, 5.0], [0.0, 0.0, 24.0, 5.0], [5.0, 24.0, 0.0, 8.0], [5.0, 5.0, 8.0, 0.0]]
    first, second, weight = (x[0, 80].cpu() for x in style_map(looks, 4, (160, 480), own, impl=way.impl))
    for border, width in ((120, 0.0), (240, 24.0), (360, 8.0)):
        left, right = border // 120 - 1, border // 120
        near = slice(border - 50, border + 50)
        assert ((first[near] == left).sum() - 50).abs() <= 1
        if not width:
            assert (weight[near] == 1).all()
            continue
        profile = share_of(right, first, second, weight)
        slope = float(profile[border + 1] - profile[border - 2]) / 3
        assert 1 / slope == pytest.approx(width, rel=0.08)
        ramp = int(((profile > 0.02) & (profile < 0.98))[near].sum())
        assert 0.8 * width - 1 <= ramp <= 1.7 * width + 2


def test_a_look_that_is_alone_is_worn_whole_whatever_its_width(way):
    looks = torch.full((1, 8, 9), 2, dtype=torch.int32, device=way.device)
    first, _, weight = style_map(looks, 3, (24, 27), widths_of(3), impl=way.impl)
    assert (first == 2).all()
    assert (weight == 1).all()


def test_the_wider_of_two_that_say_one_and_the_default_where_none_does():
    assert pair_feathers([None, 3.0, 12.0, None], 6.0) == [
        [6.0, 3.0, 12.0, 6.0],
        [3.0, 3.0, 12.0, 3.0],
        [12.0, 12.0, 12.0, 12.0],
        [6.0, 3.0, 12.0, 6.0],
    ]
    assert pair_feathers([0.0, None], 6.0) == [[0.0, 0.0], [0.0, 6.0]]


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2), (3, 5)])
def test_small_maps_equal_the_reference(way, shape):
    if way.impl == "auto":
        pytest.skip("OpenCV counts in 8 bits")
    looks = noise(4, shape, 5).to(way.device)
    for size in ((5, 4), (1, 3), (31, 33)):
        for feather_px in (0.0, 9.0):
            found = style_map(looks, 4, size, feather_px, impl=way.impl)
            for got, wanted in zip(found, style_map(looks, 4, size, feather_px, impl="ref"), strict=True):
                assert torch.equal(got, wanted)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_rows_are_what_blend_index_makes_of_the_map(way, count):
    looks = patches(count, 3).to(way.device)
    for width in (6.0, widths_of(count)):
        index = blend_map(looks, count, SIZE, width, impl=way.impl)
        assert torch.equal(index, blend_index(*style_map(looks, count, SIZE, width, impl=way.impl), count))


def test_any_layout_is_the_same_map(way):
    looks = patches(3).to(way.device)
    turned = looks.transpose(1, 2).contiguous().transpose(1, 2)
    assert not turned.is_contiguous()
    got, wanted = (blend_map(given, 3, SIZE, 6.0, impl=way.impl) for given in (turned, looks))
    assert torch.equal(got, wanted)


def test_of_equals_the_lower_number_is_first(way):
    if way.impl == "auto":
        pytest.skip("OpenCV lays the commonest down first")
    # A map one pixel high is not blurred, and the middle one of three columns is half of each.
    looks = torch.tensor([[[2, 1]]], dtype=torch.int32, device=way.device)
    first, second, weight = style_map(looks, 4, (1, 3), 1.0, impl=way.impl)
    assert first.tolist() == [[[2, 1, 1]]]
    assert second[0, 0, 1] == 2
    assert weight[0, 0, 1] == 0.5
    # All others are 0: the lowest number that is not first.
    for look, other in ((0, 1), (3, 0)):
        first, second, _ = style_map(torch.full_like(looks, look), 4, (2, 5), 1.0, impl=way.impl)
        assert (first == look).all()
        assert (second == other).all()


def test_looks_outside_are_worn_by_nobody_and_read_nothing(way):
    if way.impl == "auto":
        pytest.skip("OpenCV counts them")
    looks = torch.tensor([[[0, 5, -1], [2**31 - 1, -(2**31), 1]]], dtype=torch.int32, device=way.device)
    for got, wanted in zip(
        style_map(looks, 3, (6, 9), 3.0, impl=way.impl), style_map(looks, 3, (6, 9), 3.0, impl="ref"), strict=True
    ):
        assert torch.equal(got, wanted)


def test_three_launches_whatever_is_asked():
    if shim.compiler() is None:
        pytest.skip("there is no C++ compiler")
    with shim.running() as runner:
        style_map(patches(3), 3, SIZE, 6.0, impl="cuda")
        blend_map(patches(3), 3, SIZE, 6.0, impl="cuda")
    blurs = ["style_map_blur_rows", "style_map_blur_columns"]
    assert runner.launched == [*blurs, "style_map_strongest", *blurs, "style_map_blend_rows"]
    assert set(kernels.entries(stage.STEM)) == set(runner.launched)
    assert kernels._macros(stage.STEM)["UNIT"] == str(UNIT)
    assert 27 * 27 * LEVELS < 2**31
