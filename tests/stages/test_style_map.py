import numpy as np
import pytest
import torch

from streamstyle.errors import ShapeError
from streamstyle.stages.style_map import _gaussian, style_map
from tests import oracles

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


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("count", [2, 5])
@pytest.mark.parametrize("size", [SIZE, (40, 60), (37, 51), (161, 243)])
def test_shapes_types_and_bounds(device, count, size, impl):
    first, second, weight = style_map(patches(count).to(device), count, size, 6.0, impl=impl)
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


@pytest.mark.parametrize("impl", IMPLS)
def test_frames_of_a_batch_do_not_touch_each_other(impl):
    looks = patches(3, 4)
    together = style_map(looks, 3, SIZE, 6.0, impl=impl)
    for i in range(4):
        for whole, alone in zip(together, style_map(looks[i : i + 1], 3, SIZE, 6.0, impl=impl), strict=True):
            assert torch.equal(whole[i], alone[0])


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2)])
def test_maps_of_few_pixels(impl, shape):
    looks = torch.ones(1, *shape, dtype=torch.int32)
    first, _, weight = style_map(looks, 2, (shape[0] * 3, shape[1] * 3), 6.0, impl=impl)
    assert (first == 1).all()
    assert (weight == 1).all()


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("feather_px", [0.0, 6.0])
def test_a_single_look_is_worn_everywhere(impl, feather_px):
    first, second, weight = style_map(torch.zeros(2, 8, 9, dtype=torch.int32), 1, (24, 27), feather_px, impl=impl)
    assert not first.any()
    assert not second.any()
    assert (weight == 1).all()


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("feather_px", [0.0, 6.0])
def test_no_frames(impl, feather_px):
    found = style_map(torch.zeros(0, 8, 9, dtype=torch.int32), 3, (24, 27), feather_px, impl=impl)
    assert [x.shape for x in found] == [(0, 24, 27)] * 3
    assert [x.dtype for x in found] == [torch.uint8, torch.uint8, torch.float32]


@pytest.mark.parametrize(
    "looks", [torch.zeros(4, 4, dtype=torch.int32), torch.zeros(1, 4, 4)], ids=["no batch", "float"]
)
def test_another_shape_or_type_is_refused_and_shown(looks):
    with pytest.raises(ShapeError) as error:
        style_map(looks, 2, (8, 8), 6.0)
    assert f"{looks.dtype} {list(looks.shape)}" in str(error.value)


@pytest.mark.parametrize("sigma", [0.8, 2.4, 7.0])
def test_the_blur_is_kornias(sigma):
    from kornia.filters import gaussian_blur2d

    masks = (patches(4)[:, None] == torch.arange(4).view(1, 4, 1, 1)).float()
    window = 2 * min(round(3 * sigma), 39) + 1
    expected = gaussian_blur2d(masks, window, (sigma, sigma), border_type="reflect")
    torch.testing.assert_close(_gaussian(masks, sigma), expected, atol=2e-6, rtol=0)
