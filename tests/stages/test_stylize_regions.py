import functools

import numpy as np
import pytest
import torch

from streamstyle.errors import ShapeError
from streamstyle.nets.stylenet import LAYERS, STYLES, StyleNet
from streamstyle.stages.stylize_regions import LEVELS, RegionStylizer, blend_index, blend_table, region_affine
from tests import oracles

pytestmark = pytest.mark.weights


@functools.cache
def published() -> StyleNet:
    return StyleNet.load()


@pytest.fixture
def net(asset):
    asset("multistyle26")
    return RegionStylizer(published(), torch.device("cpu"), torch.float32)


def picture(height: int, width: int, seed: int = 0, frames: int = 1) -> torch.Tensor:
    """Smooth colours, float32 [N, 3, H, W] in 0..1."""
    smooth = [oracles.smooth(np.random.default_rng(100 * seed + i), height, width, 3) for i in range(3 * frames)]
    return torch.from_numpy(np.stack(smooth)).float().view(frames, 3, height, width)


def close(painted: torch.Tensor, expected: torch.Tensor, at_most: float) -> None:
    assert painted.shape == expected.shape
    assert (painted.float() - expected.float()).abs().max() <= at_most


# -- one style --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", range(STYLES))
def test_one_style_with_its_own_statistics_is_the_network(net, style):
    rgb = picture(64, 96)
    painted = net.paint(rgb, net.record(rgb, style))
    assert painted.dtype == torch.float32
    close(painted, published()(rgb, style), 1e-4)


@pytest.mark.parametrize("size", [(16, 16), (16, 200), (100, 20), (132, 136)])
def test_at_other_sizes_too(net, size):
    rgb = picture(*size)
    close(net.paint(rgb, net.record(rgb, 19)), published()(rgb, 19), 1e-4)


def test_on_each_device_and_in_bfloat16(device, asset):
    asset("multistyle26")
    rgb = picture(64, 96)
    expected = published()(rgb, 4)
    for dtype, at_most in ((torch.float32, 2e-3), (torch.bfloat16, 0.15)):
        net = RegionStylizer(published(), device, dtype)
        painted = net.paint(rgb, net.record(rgb, 4))
        assert (painted.dtype, painted.device.type) == (dtype, device.type)
        close(painted.cpu(), expected, at_most)
        assert (painted.cpu().float() - expected).abs().mean() < at_most / 10


def test_statistics_are_one_row_a_layer(net):
    affine = net.record(picture(32, 40), 2)
    assert [(scale.shape, shift.shape) for scale, shift in affine] == [((layer.channels,),) * 2 for layer in LAYERS]
    assert {x.dtype for pair in affine for x in pair} == {torch.float32}


def test_frozen_statistics_do_not_follow_the_frame(net):
    """Painting a crop paints what the whole frame's painting has there, away from the crop's edge."""
    rgb = picture(160, 168)
    styles = net.record(rgb, 9)
    whole, part = net.paint(rgb, styles), net.paint(rgb[:, :, :, :96], styles)
    close(part[..., :24], whole[..., :24], 1e-5)


@pytest.mark.parametrize("level", [0.0, 0.063])
def test_a_flat_reference_paints_what_the_network_paints(net, level):
    """A film that opens in black: the flat frame is painted as it should be, and a picture after it is finite."""
    flat = torch.full((1, 3, 32, 48), level)
    for style in (0, 8, 19):
        styles = net.record(flat, style)
        close(net.paint(flat, styles), published()(flat, style), 0.1)
        assert torch.isfinite(net.paint(picture(32, 48), styles)).all()


# -- several styles ---------------------------------------------------------------------------------------------------


def halves(height: int, width: int, at: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """first, second, weight: style 0 left of a column, style 1 right of it, a hard border."""
    first = torch.zeros(1, height, width, dtype=torch.uint8)
    first[..., at:] = 1
    return first, 1 - first, torch.ones(1, height, width)


@pytest.mark.parametrize("pair", [(19, 8), (4, 24), (0, 12)])
def test_one_mixed_pass_is_two_passes_composited(net, pair):
    rgb = picture(64, 320)
    styles = [net.record(rgb, style) for style in pair]
    left, right = (net.paint(rgb, style) for style in styles)
    first, second, weight = halves(64, 320, 160)
    mixed = net.paint(rgb, blend_table(styles), blend_index(first, second, weight, 2))
    composited = torch.where(first[:, None] == 0, left, right)
    reach = 66  # more than a pixel can see
    close(mixed[..., : 160 - reach], left[..., : 160 - reach], 1e-5)
    close(mixed[..., 160 + reach :], right[..., 160 + reach :], 1e-5)
    seam = (mixed - composited).abs().mean((0, 1, 2))
    assert seam.mean() < 0.02
    assert seam[144:176].mean() > 3 * seam[112:144].mean()


def test_one_style_everywhere_is_that_style_alone(net):
    rgb = picture(61, 83, frames=2)
    styles = [net.record(rgb[:1], style) for style in (3, 11, 20)]
    index = torch.full((2, 61, 83), (1 * 3 + 2) * LEVELS + LEVELS - 1, dtype=torch.int32)
    close(net.paint(rgb, blend_table(styles), index), net.paint(rgb, styles[1]), 1e-4)


def test_the_order_of_the_styles_does_not_matter(net):
    rgb = picture(48, 64)
    styles = [net.record(rgb, style) for style in (3, 11, 20)]
    first, second = torch.randint(0, 3, (2, 1, 48, 64))
    weight = torch.rand(1, 48, 64) / 2 + 0.5
    expected = net.paint(rgb, blend_table(styles), blend_index(first, second, weight, 3))
    order = torch.tensor([2, 0, 1])
    place = order.argsort()
    table = blend_table([styles[k] for k in order])
    assert torch.equal(net.paint(rgb, table, blend_index(place[first], place[second], weight, 3)), expected)


def test_half_and_half_is_the_same_from_both_sides(net):
    rgb = picture(32, 48)
    table = blend_table([net.record(rgb, style) for style in (3, 11)])
    first = torch.randint(0, 2, (1, 32, 48))
    half = torch.full((1, 32, 48), 0.5)
    one, other = (net.paint(rgb, table, blend_index(a, 1 - a, half, 2)) for a in (first, 1 - first))
    close(one, other, 1e-5)


# -- the table --------------------------------------------------------------------------------------------------------


def affines(count: int) -> list:
    return [tuple((torch.randn(x.channels), torch.randn(x.channels)) for x in LAYERS) for _ in range(count)]


def test_weight_one_is_exactly_the_first_style_and_half_their_mean():
    styles = affines(3)
    table = blend_table(styles)
    for layer in range(len(LAYERS)):
        for part in (0, 1):
            rows = table[layer][part]
            assert rows.shape == (3 * 3 * LEVELS, LAYERS[layer].channels)
            for a in range(3):
                for b in range(3):
                    pair = torch.tensor([[[a]]]), torch.tensor([[[b]]])
                    one, half = (int(blend_index(*pair, torch.full((1, 1, 1), w), 3)) for w in (1.0, 0.5))
                    assert torch.equal(rows[one], styles[a][layer][part])
                    torch.testing.assert_close(rows[half], (styles[a][layer][part] + styles[b][layer][part]) / 2)


def test_rows_follow_the_weight():
    weight = torch.linspace(0.5, 1, 301).view(1, 1, -1)
    rows = blend_index(torch.full((1, 1, 301), 2), torch.full((1, 1, 301), 1), weight, 4)
    assert rows.dtype == torch.int32
    level = rows - (2 * 4 + 1) * LEVELS
    assert level.min() == 0
    assert level.max() == LEVELS - 1
    assert (level / (LEVELS - 1) / 2 + 0.5 - weight).abs().max() <= 0.5 / (LEVELS - 1) / 2 + 1e-6


def test_many_styles_do_not_overflow_small_integers():
    last = torch.full((1, 1, 1), 26, dtype=torch.uint8)
    assert int(blend_index(last, last, torch.ones(1, 1, 1), 27)) == 27 * 27 * LEVELS - 1


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("given_out", [True, False])
def test_region_affine_is_its_formula(relu, given_out):
    y, index = torch.randn(2, 5, 7, 8), torch.randint(0, 6, (2, 5, 7), dtype=torch.int32)
    scale, shift = torch.randn(2, 6, 8)
    expected = y * scale[index.long()] + shift[index.long()]
    expected = expected.clamp_min(0) if relu else expected
    wide = torch.empty(2, 5, 7, 10)
    out = wide[..., 1:9] if given_out else None
    found = region_affine(y.clone(), index, scale, shift, out, relu)
    torch.testing.assert_close(found, expected)
    assert (found is out) == given_out
    one = region_affine(y.clone(), None, scale[0], shift[0], None, relu)
    expected = y * scale[0] + shift[0]
    torch.testing.assert_close(one, expected.clamp_min(0) if relu else expected)


# -- bands, sizes, batches --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(300, 20), (209, 33), (65, 16)])
def test_bands_are_the_whole_frame(net, size):
    rgb = picture(*size)
    styles = [net.record(rgb, style) for style in (19, 8)]
    index = torch.randint(0, 2 * 2 * LEVELS, (1, *size), dtype=torch.int32)
    whole = net.paint(rgb, styles[0]).clone(), net.paint(rgb, blend_table(styles), index).clone()
    net.band_px = 1
    if size[0] > 200:
        assert len(list(net._bands(torch.Size((1, 3, size[0] + 3 & ~3, size[1] + 3 & ~3))))) > 3
    close(net.paint(rgb, styles[0]), whole[0], 1e-5)
    close(net.paint(rgb, blend_table(styles), index), whole[1], 1e-5)


@pytest.mark.parametrize("size", [(1, 1), (5, 300), (300, 5), (17, 19), (1, 64), (64, 1), (23, 24)])
def test_any_size(net, size):
    rgb = picture(*size)
    styles = [net.record(rgb, style) for style in (19, 8)]
    first, second, weight = halves(*size, size[1] // 2)
    index = blend_index(first, second, weight, 2)
    for painted in (net.paint(rgb, styles[0]), net.paint(rgb, blend_table(styles), index)):
        assert painted.shape == rgb.shape
        assert torch.isfinite(painted).all()
        assert painted.min() >= 0
        assert painted.max() <= 1


def test_an_odd_size_is_the_crop_of_the_reflected_frame(net):
    rgb = picture(45, 50)
    padded = torch.nn.functional.pad(rgb, (0, 2, 0, 3), mode="reflect")
    styles = net.record(rgb, 6)
    close(net.paint(rgb, styles), net.paint(padded, styles)[:, :, :45, :50], 0)
    close(net.paint(rgb, styles), published()(padded, 6)[:, :, :45, :50], 1e-4)


def test_frames_of_a_batch_do_not_touch_each_other(net):
    rgb = picture(36, 52, frames=3)
    styles = [net.record(rgb[:1], style) for style in (19, 8)]
    index = torch.randint(0, 2 * 2 * LEVELS, (3, 36, 52), dtype=torch.int32)
    for arguments in ((styles[0], None), (blend_table(styles), index)):
        together = net.paint(rgb, *arguments).clone()
        for i in range(3):
            rows = None if arguments[1] is None else index[i : i + 1]
            assert torch.equal(net.paint(rgb[i : i + 1], arguments[0], rows)[0], together[i])
        assert torch.equal(net.paint(rgb, *arguments), together)


def test_a_painting_is_the_callers_own(net):
    """The next frame, of the same size, does not overwrite the last one; nor is the caller's picture touched."""
    rgb = picture(32, 48)
    before = rgb.clone()
    styles = net.record(rgb, 5)
    painted = net.paint(rgb, styles)
    kept = painted.clone()
    net.paint(picture(32, 48, seed=1), styles)
    assert torch.equal(painted, kept)
    assert torch.equal(rgb, before)


@pytest.mark.parametrize("size", [(32, 48), (17, 19), (5, 300)])
def test_no_frames(net, size):
    styles = net.record(picture(32, 48), 0)
    assert net.paint(torch.zeros(0, 3, *size), styles).shape == (0, 3, *size)
    index = torch.zeros(0, *size, dtype=torch.int32)
    assert net.paint(torch.zeros(0, 3, *size), blend_table([styles, styles]), index).shape == (0, 3, *size)


@pytest.mark.parametrize(
    "rgb",
    [torch.zeros(3, 16, 16), torch.zeros(1, 4, 16, 16), torch.zeros(1, 3, 16, 16, dtype=torch.uint8)],
    ids=["no batch", "four channels", "bytes"],
)
def test_another_picture_is_refused_and_shown(net, rgb):
    for paint in (lambda: net.paint(rgb, affines(1)[0]), lambda: net.record(rgb, 0)):
        with pytest.raises(ShapeError) as error:
            paint()
        assert f"{rgb.dtype} {list(rgb.shape)}" in str(error.value)


@pytest.mark.parametrize(
    "index",
    [torch.zeros(1, 16, 20), torch.zeros(1, 20, 16, dtype=torch.int32), torch.zeros(2, 16, 20, dtype=torch.int32)],
    ids=["float", "turned", "another batch"],
)
def test_an_index_that_does_not_fit_is_refused_and_shown(net, index):
    with pytest.raises(ShapeError) as error:
        net.paint(torch.zeros(1, 3, 16, 20), blend_table(affines(2)), index)
    assert f"{index.dtype} {list(index.shape)}" in str(error.value)
