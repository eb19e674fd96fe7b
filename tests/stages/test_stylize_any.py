"""The per-pixel painter on the network for any style: other channels, a bias in place of some norms."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from streamstyle.nets.arbitrary import LAYERS, VECTOR, ArbitraryNet
from streamstyle.nets.painting import reach_px
from streamstyle.stages.folding import SLOT, fast_weights, fold, forms, pixels
from streamstyle.stages.padding import phase_weights, workspace
from streamstyle.stages.stylize_regions import LEVELS, RegionStylizer, blend_index, blend_table, mixed_norms
from tests import oracles
from tests.arbitrary_net import untrained_net

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.fixture
def untrained() -> ArbitraryNet:
    return untrained_net()


@pytest.fixture
def norms(untrained):
    return [untrained.norms(torch.randn(VECTOR)) for _ in range(3)]


@pytest.fixture
def net(untrained):
    return RegionStylizer(untrained, torch.device("cpu"), torch.float32)


def picture(height: int, width: int, frames: int = 1) -> torch.Tensor:
    smooth = [oracles.smooth(np.random.default_rng(i), height, width, 3) for i in range(3 * frames)]
    return torch.from_numpy(np.stack(smooth)).float().view(frames, 3, height, width)


def close(painted: torch.Tensor, expected: torch.Tensor, at_most: float) -> None:
    assert painted.shape == expected.shape
    assert (painted.float() - expected.float()).abs().max() <= at_most


def test_one_style_with_its_own_statistics_is_the_network(untrained, net, norms):
    rgb = picture(64, 96)
    for each in norms:
        close(net.paint(rgb, net.record(rgb, each)), untrained.paint(rgb, each), 1e-4)


@pytest.mark.weights
def test_so_with_published_weights(asset):
    asset("arbitrary_transform")
    published = ArbitraryNet.load()
    net, rgb = RegionStylizer(published, torch.device("cpu"), torch.float32), picture(64, 96)
    norms = published.norms(torch.randn(VECTOR))
    close(net.paint(rgb, net.record(rgb, norms)), published.paint(rgb, norms), 1e-3)


def test_a_bias_is_not_recorded(net, norms):
    affine = net.record(picture(32, 48), norms[0])
    for layer, (scale, shift), (_, beta) in zip(LAYERS, affine, norms[0], strict=True):
        assert scale.shape == shift.shape == (layer.channels,)
        if not layer.norm:
            assert torch.equal(scale, torch.ones_like(scale))
            assert torch.equal(shift, beta)


def test_an_odd_size_is_the_crop_of_the_reflected_frame(untrained, net, norms):
    rgb = picture(45, 50)
    padded = F.pad(rgb, (0, 2, 0, 3), mode="reflect")
    styles = net.record(rgb, norms[0])
    assert torch.equal(net.paint(rgb, styles), net.paint(padded, styles)[:, :, :45, :50])
    close(net.paint(rgb, styles), untrained.paint(padded, norms[0])[:, :, :45, :50], 1e-4)


def test_several_styles_in_one_pass_are_passes_composited(net, norms):
    rgb, edge = picture(32, 480), 160
    styles = [net.record(rgb, each) for each in norms]
    which = (torch.arange(480) // edge).expand(1, 32, 480)
    mixed = net.paint(rgb, blend_table(styles), blend_index(which, which, torch.ones(1, 32, 480), 3))
    reach = reach_px(LAYERS)
    for k, style in enumerate(styles):
        alone = net.paint(rgb, style)
        left, right = k * edge + reach * (k > 0), (k + 1) * edge - reach * (k < 2)
        close(mixed[..., left:right], alone[..., left:right], 1e-5)
        assert (mixed - alone).abs().max() > 0.01


def test_a_blend_of_vectors_is_the_blend_of_their_norms(untrained):
    one, other = torch.randn(2, VECTOR)
    mixed = mixed_norms([untrained.norms(one), untrained.norms(other)], (3, 1))
    for found, expected in zip(mixed, untrained.norms(0.75 * one + 0.25 * other), strict=True):
        for x, y in zip(found, expected, strict=True):
            torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)


def test_bands_are_the_whole_frame_and_every_run_the_same(net, norms):
    rgb = picture(300, 20)
    styles = [net.record(rgb, each) for each in norms[:2]]
    index = torch.randint(0, 2 * 2 * LEVELS, (1, 300, 20), dtype=torch.int32)
    for arguments in ((styles[0],), (blend_table(styles), index)):
        whole = net.paint(rgb, *arguments).clone()
        assert torch.equal(net.paint(rgb, *arguments), whole)
        before, net.band_px = net.band_px, 1
        assert len(list(net._bands(rgb.shape))) > 3
        close(net.paint(rgb, *arguments), whole, 1e-5)
        net.band_px = before


# -- with the kernels -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("size", [(32, 48), (21, 35)])
def test_the_kernels_paint_what_torch_paints(way, untrained, norms, size, dtype):
    nets = [RegionStylizer(untrained, way.device, dtype, impl=impl) for impl in (way.impl, "ref")]
    exact = RegionStylizer(untrained, way.device, torch.float32, impl="ref")
    rgb = picture(*size, frames=2).to(way.device)
    styles = [exact.record(rgb[:1], each) for each in norms]
    index = torch.randint(0, 3 * 3 * LEVELS, (2, *size), dtype=torch.int32).to(way.device)
    for arguments in ((styles[0], None), (blend_table(styles), index)):
        found, expected = (net.paint(rgb, *arguments) for net in nets)
        assert found.dtype == dtype
        if dtype == torch.float32:
            close(found, expected, 1e-4)
        else:  # two roundings of the same picture
            true = exact.paint(rgb, *arguments)
            assert (found - true).abs().mean() < 1.1 * (expected - true).abs().mean() + 1e-3


def test_the_kernels_record_what_torch_records(way, untrained, norms):
    net, reference = (RegionStylizer(untrained, way.device, torch.float32, impl=impl) for impl in (way.impl, "ref"))
    rgb = picture(32, 40).to(way.device)
    for found, expected in zip(net.record(rgb, norms[0]), reference.record(rgb, norms[0]), strict=True):
        for x, y in zip(found, expected, strict=True):
            torch.testing.assert_close(x, y, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("i", range(len(LAYERS)))
def test_fast_weights_give_the_same_pixels(i):
    plain = [torch.randn(w.shape, dtype=torch.float64) for w in ArbitraryNet().convolution]
    weights = [phase_weights(w) if layer.up else w for layer, w in zip(LAYERS, plain, strict=True)]
    fast, layer = fast_weights(LAYERS, weights)[i], LAYERS[i]
    x = torch.randn(2, weights[i].shape[1], 24, 28, dtype=torch.float64)
    y = F.conv2d(x, weights[i], stride=layer.step)
    channels = max(SLOT, x.shape[1])
    source = fold(F.pad(x, (0, 0, 0, 0, 0, channels - x.shape[1]))) if layer.size == 9 else x
    fast_y = F.conv2d(source, fast, stride=layer.step)
    found, expected = (pixels(layer, part.permute(0, 2, 3, 1)) for part in (fast_y, y))
    if layer.size == 9:
        expected = y.permute(0, 2, 3, 1).reshape(2, y.shape[2] // 2, 2, y.shape[3] // 2, 2, -1)
        expected = expected.transpose(2, 3).reshape(-1, layer.channels)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_each_layer_writes_into_the_next_ones_input():
    """Residual blocks in two buffers, an input of blocks of pixels for each convolution of 9 x 9."""
    space = workspace(LAYERS, 1, 16, 24, torch.float32, torch.device("cpu"), folded=(0, len(LAYERS) - 1))
    shapes = [tuple(x.shape[1:]) for x in space.inputs]
    assert shapes[0] == (4 * SLOT, 12, 16)
    assert shapes[1:4] == [(8, 18, 26), (16, 10, 14), (32, 6, 8)]
    assert len({x.data_ptr() for x in space.inputs[3:14]}) == 2
    assert all(a.data_ptr() != b.data_ptr() for a, b in zip(space.inputs, space.inputs[1:], strict=False))
    assert shapes[13:] == [(32, 6, 8), (16, 10, 14), (32, 12, 16)]
    assert [form.folded for form in forms(LAYERS)] == [False] * 14 + [True]
