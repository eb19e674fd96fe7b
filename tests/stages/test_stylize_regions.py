import functools
import re

import numpy as np
import pytest
import torch

from streamstyle.errors import ShapeError
from streamstyle.frames import ColorTags, packed_bytes, packed_planes
from streamstyle.gpu import kernels
from streamstyle.nets.stylenet import LAYERS, STYLES, StyleNet
from streamstyle.stages.blends import blend_shares
from streamstyle.stages.composite import composite
from streamstyle.stages.folding import (
    SLOT,
    TRUNK_OUTPUTS,
    Form,
    fast_weights,
    fold,
    fold_weights,
    forms,
    pixels,
    unfold,
)
from streamstyle.stages.padding import phase_weights
from streamstyle.stages.stylize_regions import (
    LEVELS,
    RegionStylizer,
    affine_into,
    blend_index,
    blend_table,
    mixed_norms,
    picture_from,
    picture_into,
    region_affine,
)
from tests import nvrtc, oracles

pytestmark = pytest.mark.weights
FORMS = forms(LAYERS)


@functools.cache
def published() -> StyleNet:
    return StyleNet.load()


def norms(style: int):
    return published().norms(style)


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
    painted = net.paint(rgb, net.record(rgb, norms(style)))
    assert painted.dtype == torch.float32
    close(painted, published()(rgb, style), 1e-4)


@pytest.mark.parametrize("size", [(16, 16), (16, 200), (100, 20), (132, 136)])
def test_at_other_sizes_too(net, size):
    rgb = picture(*size)
    # Of 16 x 16 pixels statistics are over 4 x 4, which makes much of rounding: .0001 and a little where a CPU has AMX.
    close(net.paint(rgb, net.record(rgb, norms(19))), published()(rgb, 19), 2e-4)


def test_on_each_device_and_in_bfloat16(device, asset):
    asset("multistyle26")
    rgb = picture(64, 96)
    expected = published()(rgb, 4)
    for dtype, at_most in ((torch.float32, 2e-3), (torch.bfloat16, 0.15)):
        net = RegionStylizer(published(), device, dtype)
        painted = net.paint(rgb, net.record(rgb, norms(4)))
        assert (painted.dtype, painted.device.type) == (dtype, device.type)
        close(painted.cpu(), expected, at_most)
        assert (painted.cpu().float() - expected).abs().mean() < at_most / 10


def test_statistics_are_one_row_a_layer(net):
    affine = net.record(picture(32, 40), norms(2))
    assert [(scale.shape, shift.shape) for scale, shift in affine] == [((layer.channels,),) * 2 for layer in LAYERS]
    assert {x.dtype for pair in affine for x in pair} == {torch.float32}


def test_frozen_statistics_do_not_follow_the_frame(net):
    """Painting a crop paints what the whole frame's painting has there, away from the crop's edge."""
    rgb = picture(160, 168)
    styles = net.record(rgb, norms(9))
    whole, part = net.paint(rgb, styles), net.paint(rgb[:, :, :, :96], styles)
    close(part[..., :24], whole[..., :24], 1e-5)


@pytest.mark.parametrize("level", [0.0, 0.063])
def test_a_flat_reference_paints_what_the_network_paints(net, level):
    """A film that opens in black: the flat frame is painted as it should be, and a picture after it is finite."""
    flat = torch.full((1, 3, 32, 48), level)
    for style in (0, 8, 19):
        styles = net.record(flat, norms(style))
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
    styles = [net.record(rgb, norms(style)) for style in pair]
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
    styles = [net.record(rgb[:1], norms(style)) for style in (3, 11, 20)]
    index = torch.full((2, 61, 83), (1 * 3 + 2) * LEVELS + LEVELS - 1, dtype=torch.int32)
    close(net.paint(rgb, blend_table(styles), index), net.paint(rgb, styles[1]), 1e-4)


def test_the_order_of_the_styles_does_not_matter(net):
    rgb = picture(48, 64)
    styles = [net.record(rgb, norms(style)) for style in (3, 11, 20)]
    first, second = torch.randint(0, 3, (2, 1, 48, 64))
    weight = torch.rand(1, 48, 64) / 2 + 0.5
    expected = net.paint(rgb, blend_table(styles), blend_index(first, second, weight, 3))
    order = torch.tensor([2, 0, 1])
    place = order.argsort()
    table = blend_table([styles[k] for k in order])
    assert torch.equal(net.paint(rgb, table, blend_index(place[first], place[second], weight, 3)), expected)


def test_half_and_half_is_the_same_from_both_sides(net):
    rgb = picture(32, 48)
    table = blend_table([net.record(rgb, norms(style)) for style in (3, 11)])
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


def test_shares_are_blended_as_styles_are():
    shares = torch.tensor([[0.0, 1.0], [1.0, 1.0], [0.5, 0.25]])
    table = blend_shares(shares)
    assert table.shape == (3 * 3 * LEVELS, 2)
    for a in range(3):
        for b in range(3):
            rows = table[(a * 3 + b) * LEVELS : (a * 3 + b + 1) * LEVELS]
            weight = torch.linspace(0.5, 1, LEVELS)[:, None]
            torch.testing.assert_close(rows, weight * shares[a] + (1 - weight) * shares[b], rtol=0, atol=1e-6)
            assert torch.equal(rows[-1], shares[a])
    # Exactly, for what is kept is kept to the bit, and a table of ones is skipped.
    assert (table.view(3, 3, LEVELS, 2)[:2, :2, :, 1] == 1).all()
    assert (table.view(3, 3, LEVELS, 2)[0, 0, :, 0] == 0).all()


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


def test_mixed_norms_are_their_weighted_sum():
    styles = affines(3)
    mixed = mixed_norms(styles, (1, 0.5, 0.5))
    for layer in range(len(LAYERS)):
        for part in (0, 1):
            x, y, z = (style[layer][part] for style in styles)
            torch.testing.assert_close(mixed[layer][part], x / 2 + (y + z) / 4)
    for x, y in zip(mixed_norms(styles, (0, 3, 0)), styles[1], strict=True):
        assert torch.equal(x[0], y[0])
        assert torch.equal(x[1], y[1])


@pytest.mark.parametrize("weights", [(1,), (0, 0), (1, -1), (float("nan"), 1)])
def test_weights_that_are_no_blend_are_refused_and_shown(weights):
    with pytest.raises(ShapeError, match=re.escape(str([*weights]))):
        mixed_norms(affines(2), weights)


def test_norms_of_another_network_are_refused(net):
    for given in (affines(1)[0][1:], tuple((a[:4], b) for a, b in affines(1)[0])):
        with pytest.raises(ShapeError, match="norms"):
            net.record(picture(16, 16), given)


# -- bands, sizes, batches --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(300, 20), (209, 33), (65, 16)])
def test_bands_are_the_whole_frame(net, size):
    rgb = picture(*size)
    styles = [net.record(rgb, norms(style)) for style in (19, 8)]
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
    styles = [net.record(rgb, norms(style)) for style in (19, 8)]
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
    styles = net.record(rgb, norms(6))
    close(net.paint(rgb, styles), net.paint(padded, styles)[:, :, :45, :50], 0)
    close(net.paint(rgb, styles), published()(padded, 6)[:, :, :45, :50], 1e-4)


def test_frames_of_a_batch_do_not_touch_each_other(net):
    rgb = picture(36, 52, frames=3)
    styles = [net.record(rgb[:1], norms(style)) for style in (19, 8)]
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
    styles = net.record(rgb, norms(5))
    painted = net.paint(rgb, styles)
    kept = painted.clone()
    net.paint(picture(32, 48, seed=1), styles)
    assert torch.equal(painted, kept)
    assert torch.equal(rgb, before)


@pytest.mark.parametrize("size", [(32, 48), (17, 19), (5, 300)])
def test_no_frames(net, size):
    styles = net.record(picture(32, 48), norms(0))
    assert net.paint(torch.zeros(0, 3, *size), styles).shape == (0, 3, *size)
    index = torch.zeros(0, *size, dtype=torch.int32)
    assert net.paint(torch.zeros(0, 3, *size), blend_table([styles, styles]), index).shape == (0, 3, *size)


@pytest.mark.parametrize(
    "rgb",
    [torch.zeros(3, 16, 16), torch.zeros(1, 4, 16, 16), torch.zeros(1, 3, 16, 16, dtype=torch.uint8)],
    ids=["no batch", "four channels", "bytes"],
)
def test_another_picture_is_refused_and_shown(net, rgb):
    for paint in (lambda: net.paint(rgb, affines(1)[0]), lambda: net.record(rgb, norms(0))):
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


# -- a layer's affine, into the next layer's input --------------------------------------------------------------------

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
HALF_PLACE = {torch.bfloat16: 2**-8, torch.float16: 2**-11}
# channels, four phases, border in px, how, size: the layers of the network, and small or odd ones
LAYERS_INTO = {
    "picture": (3, False, 4, "reflect", (9, 16)),
    "trunk": (32, False, 1, "reflect", (4, 5)),
    "before doubling": (32, False, 1, "replicate", (5, 4)),
    "up to 8": (32, True, 1, "replicate", (4, 6)),
    "up to 4": (16, True, 4, "reflect", (3, 5)),
    "last": (3, False, None, "reflect", (5, 7)),
    "smallest": (32, False, 1, "reflect", (2, 3)),
    "one pixel": (32, False, None, "reflect", (1, 1)),
    "no frames": (32, False, 1, "reflect", (4, 4)),
}


def layer(name: str, dtype: torch.dtype, device: torch.device):
    """y, index, scale, shift [6, c], padded (full of numbers)."""
    channels, up, pad, _, (height, width) = LAYERS_INTO[name]
    count = 0 if name == "no frames" else 2
    kept, side = (channels // 4, 2) if up else (channels, 1)
    y = torch.randn(count, height, width, channels).to(device, dtype)
    index = torch.randint(0, 6, (count, height, width), dtype=torch.int32).to(device)
    scale, shift = torch.randn(2, 6, kept).to(device)
    padded = None
    if pad is not None:
        padded = torch.randn(count, kept, side * height + 2 * pad, side * width + 2 * pad).to(device, dtype)
        padded = padded.contiguous(memory_format=torch.channels_last)
    return y, index, scale, shift, padded


def expected_into(name, y, index, scale, shift, padded, activation):
    """The formula in float64 by NumPy; and the sum of its terms' magnitudes, by which rounding is measured."""
    return formula(LAYERS_INTO[name][1:4], y, index, scale, shift, padded, activation)


def formula(layer, y, index, scale, shift, padded, activation):
    """As expected_into, of a plain layer (four phases, border in px, how)."""
    up, pad, how = layer
    y = y.double().cpu().numpy()
    magnitude = np.abs(y)
    if scale is not None:
        repeat = y.shape[3] // scale.shape[-1]
        rows = np.zeros(y.shape[:3], int) if index is None else index.cpu().numpy()
        scale, shift = (np.tile(np.atleast_2d(x.double().cpu().numpy()), repeat)[rows] for x in (scale, shift))
        magnitude = np.abs(y * scale) + np.abs(shift)
        y = y * scale + shift
    if activation == "relu":
        y = np.maximum(y, 0)
    if activation == "sigmoid":
        y = 1 / (1 + np.exp(-y))
    out = []
    for x in (y, magnitude):
        if up:
            n, h, w, c = x.shape
            x = x.reshape(n, h, w, 2, 2, c // 4).transpose(0, 1, 3, 2, 4, 5).reshape(n, 2 * h, 2 * w, c // 4)
        x = x.transpose(0, 3, 1, 2)
        if activation == "residual":
            before = padded.double().cpu().numpy()
            before = before[:, :, pad : before.shape[2] - pad, pad : before.shape[3] - pad]
            x = x + (np.abs(before) if out else before)
        if pad:
            x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)), "reflect" if how == "reflect" else "symmetric")
        out.append(x)
    return out


@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", LAYERS_INTO)
def test_a_layer_into_the_next(way, name, dtype):
    padded_too = LAYERS_INTO[name][2] is not None
    for activation in ("none", "relu", "sigmoid", "residual") if padded_too else ("none", "relu", "sigmoid"):
        for rows in ("table", "one row", "in the convolution"):
            y, index, scale, shift, padded = layer(name, dtype, way.device)
            if rows != "table":
                index, scale, shift = (None, scale[2], shift[2]) if rows == "one row" else (None, None, None)
            exact, magnitude = expected_into(name, y, index, scale, shift, padded, activation)
            found = affine_into(
                y, index, scale, shift, padded, activation=activation, border=LAYERS_INTO[name][3], impl=way.impl
            )
            assert padded is None or found is padded
            assert found.dtype == dtype
            assert found.shape == exact.shape
            # Half a last place of bfloat16 is 2^-8 of the value, of float16 2^-11; torch also rounds what it then adds
            # or activates.
            twice = way.impl != "cuda" and activation in ("residual", "sigmoid")
            allowed = 1e-6 * magnitude + 1e-6
            if dtype in HALF_PLACE:
                allowed += HALF_PLACE[dtype] * (np.abs(exact) + twice * magnitude)
            assert (np.abs(found.double().cpu().numpy() - exact) <= allowed).all(), (activation, rows)


@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "bfloat16", "float16"])
def test_a_layer_is_the_same_each_time_and_in_any_memory(way, dtype):
    """y as another layout's view; tables that lie askew, so that a thread takes one channel."""
    y, index, scale, shift, padded = layer("trunk", dtype, way.device)
    expected = affine_into(
        y.clone(), index, scale, shift, padded.clone(memory_format=torch.preserve_format), impl=way.impl
    )
    turned = y.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    assert not turned.is_contiguous()
    askew = torch.cat((scale.flatten()[:1], scale.flatten()))[1:].view_as(scale)
    found = affine_into(turned, index.transpose(1, 2).contiguous().transpose(1, 2), askew, shift, padded, impl=way.impl)
    if way.impl == "cuda":
        assert torch.equal(found, expected)
    else:
        torch.testing.assert_close(found, expected, rtol=1e-6 if dtype == torch.float32 else 1e-2, atol=1e-6)


def test_kernels_and_reference_agree_to_the_last_place(way):
    """Of bfloat16, with the tables in float32."""
    for name in ("trunk", "up to 8", "up to 4", "picture"):
        y, index, scale, shift, padded = layer(name, torch.bfloat16, way.device)
        other = padded.clone(memory_format=torch.preserve_format)
        how = LAYERS_INTO[name][3]
        found = affine_into(y.clone(), index, scale, shift, padded, border=how, impl=way.impl).view(torch.int16).int()
        expected = affine_into(y, index, scale, shift, other, border=how, impl="ref").view(torch.int16).int()
        assert (found - expected).abs().max() <= 1


def test_a_border_must_fit_into_the_picture(way):
    y = torch.zeros(1, 4, 4, 32, device=way.device)
    padded = torch.zeros(1, 32, 12, 12, device=way.device).contiguous(memory_format=torch.channels_last)
    with pytest.raises(ShapeError, match=r"\[1, 4, 4, 32\] .* \[1, 32, 12, 12\]"):
        affine_into(y, None, None, None, padded, impl=way.impl)


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({"y": torch.zeros(1, 4, 4, 32, dtype=torch.float64)}, "float64"),
        ({"y": torch.zeros(4, 4, 32)}, r"\[4, 4, 32\]"),
        ({"index": torch.zeros(1, 4, 4)}, "float32"),
        ({"index": torch.zeros(1, 4, 5, dtype=torch.int32)}, r"\[1, 4, 5\]"),
        ({"scale": torch.zeros(32), "shift": torch.zeros(32)}, r"\[R, 32\], got \[32\]"),
        ({"shift": torch.zeros(6, 8)}, r"\[6, 8\]"),
        ({"shift": None}, "None"),
        ({"padded": torch.zeros(1, 32, 6, 6)}, "strides"),
        ({"padded": torch.zeros(1, 32, 6, 8).contiguous(memory_format=torch.channels_last)}, r"\[1, 32, 6, 8\]"),
        ({"padded": torch.zeros(1, 6, 6, 32)}, r"\[1, 6, 6, 32\]"),
        ({"padded": torch.zeros(1, 32, 6, 6, dtype=torch.bfloat16)}, "bfloat16"),
        ({"index": torch.zeros(1, 4, 4, dtype=torch.int32, device="meta")}, "meta"),
    ],
)
def test_a_layer_that_does_not_fit_is_refused_and_shown(change, shown):
    given = {
        "y": torch.zeros(1, 4, 4, 32),
        "index": torch.zeros(1, 4, 4, dtype=torch.int32),
        "scale": torch.zeros(6, 32),
        "shift": torch.zeros(6, 32),
        "padded": torch.zeros(1, 32, 6, 6).contiguous(memory_format=torch.channels_last),
    }
    with pytest.raises(ShapeError, match=shown):
        affine_into(**given | change)


@pytest.mark.parametrize("architecture", nvrtc.ARCHITECTURES)
@pytest.mark.parametrize(
    "build",
    [
        (16, 0, 0, 1),
        (64, 1, 0, 1),
        (32, 1, 1, 1),
        (32, 1, 0, 1),
        (128, 1, 0, 1),
        (16, 1, 1, 1),
        (16, 1, 0, 1),
        (32, 0, 1, 0),
        (32, 0, 0, 2),
        (3, 0, 0, 3),
    ],
)
def test_the_networks_builds_compile_without_a_word(build, architecture):
    """Those whose CHANNELS, UP, FOLDED or ACTIVATION are not the source's, and plain ones of fewer channels."""
    pytest.importorskip("cuda.bindings")
    channels, up, folded, activation = build
    for scalar, vec in (("float", 4), ("bf16", 8), ("f16", 8)):
        defines = (f"SCALAR={scalar}", f"VEC={1 if channels == 3 else vec}", f"CHANNELS={channels}")
        defines = (*defines, f"UP={up}", f"FOLDED={folded}", f"ACTIVATION={activation}")
        _, log = nvrtc.compile_cubin(kernels.text("stylize_regions"), architecture, defines)
        assert log == ""


# -- layers in the forms that cuDNN is fast with ----------------------------------------------------------------------

# channels of the input, of y, form, border in px, how, index rows a pixel of y, size of y
FORMED = {
    "first": (32, 128, FORMS[0], 1, "reflect", 2, (3, 5)),
    "half size": (32, 32, FORMS[1], 1, "reflect", 2, (5, 4)),
    "trunk": (32, 64, FORMS[3], 1, "reflect", 4, (4, 5)),
    "up to 8": (8, 64, FORMS[15], 1, "replicate", 4, (4, 6)),
    "up to 4, folded": (4, 16, FORMS[16], 4, "reflect", 2, (4, 5)),
    "up to 4, wider": (4, 24, FORMS[16], 2, "replicate", 1, (3, 4)),
    "folded, not up": (8, 8, Form(folded=True), 2, "reflect", 1, (4, 6)),
    "apart and folded": (4, 16, Form(up=True, apart=True, folded=True), 4, "reflect", 4, (3, 5)),
    "apart, three channels": (3, 13, Form(up=True, apart=True), 1, "reflect", 2, (2, 3)),
    "wide rows": (32, 64, FORMS[3], 1, "reflect", 1, (2, 130)),
}


def unfolded(x: np.ndarray) -> np.ndarray:
    """[N, 4 C, H, W] phase by phase into [N, C, 2 H, 2 W]."""
    channels = x.shape[1] // 4
    out = np.empty((x.shape[0], channels, 2 * x.shape[2], 2 * x.shape[3]), x.dtype)
    for phase in range(4):
        out[:, :, phase // 2 :: 2, phase % 2 :: 2] = x[:, channels * phase : channels * (phase + 1)]
    return out


def formed(name: str, dtype: torch.dtype, device: torch.device, count: int = 2):
    """y, index, scale, shift [6, c], padded (full of numbers); and y, index and padded as a plain layer has them."""
    kept, channels, form, pad, _, step, (height, width) = FORMED[name]
    y = torch.randn(count, height, width, channels).to(dtype)
    index = torch.randint(0, 6, (count, step * height, step * width), dtype=torch.int32)
    scale, shift = torch.randn(2, 6, kept).to(device)
    size = ((1 + form.up) * height + 2 * pad, (1 + form.up) * width + 2 * pad)
    plain = torch.randn(count, kept, *size).to(dtype)
    padded = (fold(plain) if form.folded else plain).contiguous(memory_format=torch.channels_last)
    plain_y, plain_index = y[..., : kept * (4 if form.up else 1)], index[:, ::step, ::step]
    if form.apart:
        pixels_of_y = unfolded(plain_y.permute(0, 3, 1, 2).double().numpy()).transpose(0, 2, 3, 1)
        plain_y, plain_index = torch.from_numpy(pixels_of_y), index[:, :: step // 2, :: step // 2]
    return (y.to(device), index.to(device), scale, shift, padded.to(device)), (plain_y, plain_index, plain)


@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", FORMED)
def test_a_layer_in_its_form(way, name, dtype):
    _, _, form, pad, how, _, _ = FORMED[name]
    for activation in ("none", "relu", "sigmoid", "residual"):
        for rows in ("table", "one row", "in the convolution"):
            (y, index, scale, shift, padded), (plain_y, plain_index, plain) = formed(name, dtype, way.device)
            if rows != "table":
                plain_index = index = None
                scale, shift = (scale[2], shift[2]) if rows == "one row" else (None, None)
            layer_of = (form.up and not form.apart, pad, how)
            exact, magnitude = formula(layer_of, plain_y, plain_index, scale, shift, plain, activation)
            found = affine_into(
                y, index, scale, shift, padded, activation=activation, border=how, form=form, impl=way.impl
            )
            assert found is padded
            values = found.double().cpu().numpy()
            values = unfolded(values) if form.folded else values
            twice = way.impl != "cuda" and activation in ("residual", "sigmoid")
            allowed = 1e-6 * magnitude + 1e-6
            if dtype in HALF_PLACE:
                allowed += HALF_PLACE[dtype] * (np.abs(exact) + twice * magnitude)
            assert (np.abs(values - exact) <= allowed).all(), (activation, rows)


def test_formed_layers_of_no_frames(way):
    for name in FORMED:
        (y, index, scale, shift, padded), _ = formed(name, torch.float32, way.device, 0)
        assert affine_into(y, index, scale, shift, padded, form=FORMED[name][2], impl=way.impl) is padded


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({"index": torch.zeros(1, 8, 12, dtype=torch.int32)}, r"\[1, 8, 12\]"),
        ({"index": torch.zeros(1, 4, 6, dtype=torch.int32)}, r"\[1, 4, 6\]"),
        ({"y": torch.zeros(1, 4, 4, 12)}, r"\[1, 4, 4, 12\]"),
        ({"padded": torch.zeros(1, 16, 7, 7).contiguous(memory_format=torch.channels_last)}, r"\[1, 16, 7, 7\]"),
        ({"padded": torch.zeros(1, 16, 8, 8)}, "strides"),
    ],
)
def test_a_form_that_does_not_fit_is_refused_and_shown(change, shown):
    given = {
        "y": torch.zeros(1, 4, 4, 16),
        "index": torch.zeros(1, 8, 8, dtype=torch.int32),
        "scale": torch.zeros(6, 4),
        "shift": torch.zeros(6, 4),
        "padded": torch.zeros(1, 16, 8, 8).contiguous(memory_format=torch.channels_last),
        "form": Form(up=True, apart=True, folded=True),
    }
    with pytest.raises(ShapeError, match=shown):
        affine_into(**given | change)


@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(("size", "pad"), [((16, 20), 4), ((6, 8), 4), ((8, 6), 2), ((4, 600), 0)])
def test_a_picture_into_its_blocks(way, size, pad, dtype):
    rgb = torch.rand(2, 3, *size).to(way.device, dtype)
    padded = torch.full((2, 16, size[0] // 2 + pad, size[1] // 2 + pad), 7.0).to(way.device, dtype)
    padded = padded.contiguous(memory_format=torch.channels_last)
    for given in (rgb, rgb.contiguous(memory_format=torch.channels_last)):
        assert picture_into(given, padded.fill_(7), impl=way.impl) is padded
        found = unfolded(padded.double().cpu().numpy())
        edges = ((0, 0), (0, 0), (pad, pad), (pad, pad))
        assert (found[:, :3] == np.pad(rgb.double().cpu().numpy(), edges, "reflect")).all()
        assert (found[:, 3] == 0).all()
    assert picture_into(rgb[:0], padded[:0], impl=way.impl).shape[0] == 0


@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("size", [(1, 2), (3, 6), (5, 520)])
def test_a_picture_from_its_blocks(way, size, dtype):
    height, width = size
    y = torch.randn(2, height, width, 16).to(dtype)
    index = torch.randint(0, 6, (2, 2 * height, 2 * width), dtype=torch.int32)
    scale, shift = torch.randn(2, 6, 3)
    plain = torch.from_numpy(unfolded(y.permute(0, 3, 1, 2).double().numpy())[:, :3].transpose(0, 2, 3, 1).copy())
    skewed = torch.cat((index.flatten()[:1], index.flatten()))[1:].view_as(index)
    for rows, table in ((index, (scale, shift)), (skewed, (scale, shift)), (None, (scale[2], shift[2]))):
        exact, _ = formula((False, 0, "reflect"), plain, rows, *table, None, "sigmoid")
        rows = None if rows is None else rows.to(way.device)
        found = picture_from(y.clone().to(way.device), rows, *(x.to(way.device) for x in table), impl=way.impl)
        assert found.dtype == dtype
        assert found.shape == (2, 3, 2 * height, 2 * width)
        if way.impl == "cuda":
            assert found.is_contiguous(memory_format=torch.channels_last)
        at_most = 1e-6 + 8 * HALF_PLACE[dtype] if dtype in HALF_PLACE else 2e-6
        if way.impl == "cuda" and dtype in HALF_PLACE:
            at_most = 1e-6 + HALF_PLACE[dtype]  # rounded once
        assert np.abs(found.double().cpu().numpy() - exact).max() <= at_most
    assert (
        picture_from(y[:0].to(way.device), None, *(x[0].to(way.device) for x in (scale, shift)), impl=way.impl).shape[0]
        == 0
    )


def test_pictures_that_do_not_fit_are_refused_and_shown():
    padded = torch.zeros(1, 16, 6, 7).contiguous(memory_format=torch.channels_last)
    for rgb, into, shown in (
        (torch.zeros(1, 3, 7, 10), padded, r"\[1, 3, 7, 10\]"),
        (torch.zeros(1, 3, 8, 10, dtype=torch.uint8), padded, "uint8"),
        (torch.zeros(1, 3, 8, 10), padded.contiguous(), "strides"),
        (torch.zeros(1, 3, 8, 12), padded, r"\[1, 16, 6, 7\]"),
        (torch.zeros(1, 3, 8, 12).half(), padded, "float16"),
    ):
        with pytest.raises(ShapeError, match=shown):
            picture_into(rgb, into)
    y, row = torch.zeros(1, 2, 4, 16), torch.zeros(3)
    for given, shown in (
        ((y[..., :12], None, row, row), r"\[1, 2, 4, 12\]"),
        ((y[:, :, :3], None, row, row), r"\[1, 2, 3, 16\]"),
        ((y, torch.zeros(1, 2, 4, dtype=torch.int32), row, row), r"\[1, 2, 4\]"),
        ((y, None, torch.zeros(4), torch.zeros(4)), r"\[3\], got \[4\]"),
        ((y, None, row, torch.zeros(3, device="meta")), "meta"),
    ):
        with pytest.raises(ShapeError, match=shown):
            picture_from(*given)


# -- convolutions in those forms --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 3, 1, 1), (3, 2, 5, 5), (32, 4, 9, 9), (4, 4, 9, 9), (2, 1, 13, 13)])
def test_folded_weights_are_the_same_convolution(shape):
    weight, pad = torch.randn(shape, dtype=torch.float64), shape[2] // 2
    x = torch.randn(2, shape[1], 10 + 2 * pad, 14 + 2 * pad, dtype=torch.float64)
    folded = torch.nn.functional.conv2d(fold(x), fold_weights(weight))
    torch.testing.assert_close(unfold(folded), torch.nn.functional.conv2d(x, weight), rtol=1e-12, atol=1e-12)
    assert (fold_weights(weight) != 0).sum() == 4 * weight.numel()


def test_unfold_is_the_inverse_of_fold():
    x = torch.randn(2, 3, 6, 10)
    assert (unfolded(fold(x).numpy()) == x.numpy()).all()
    assert torch.equal(unfold(fold(x)), x)


@pytest.mark.parametrize("i", range(len(LAYERS)))
def test_the_networks_fast_weights_give_the_same_pixels(i):
    plain = [torch.randn(w.shape, dtype=torch.float64) for w in StyleNet().convolution]
    weights = [phase_weights(w) if layer.up else w for layer, w in zip(LAYERS, plain, strict=True)]
    fast, layer = fast_weights(LAYERS, weights)[i], LAYERS[i]
    x = torch.randn(2, weights[i].shape[1], 24, 28, dtype=torch.float64)
    y = torch.nn.functional.conv2d(x, weights[i], stride=layer.step)
    source = fold(torch.nn.functional.pad(x, (0, 0, 0, 0, 0, SLOT - x.shape[1]))) if layer.size == 9 else x
    fast_y = torch.nn.functional.conv2d(source, fast, stride=layer.step)
    if 3 <= i <= 15:
        assert fast.shape[0] == TRUNK_OUTPUTS
        assert torch.equal(fast_y[:, 32:], torch.zeros_like(fast_y[:, 32:]))
    found, expected = (pixels(layer, part.permute(0, 2, 3, 1)) for part in (fast_y, y))
    assert found.shape[1] == layer.channels
    if layer.size == 9:
        expected = y.permute(0, 2, 3, 1).reshape(2, y.shape[2] // 2, 2, y.shape[3] // 2, 2, -1)
        expected = expected.transpose(2, 3).reshape(-1, layer.channels)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


# -- the network with the kernels -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(("size", "band_px"), [((32, 48), None), ((21, 35), None), ((212, 16), 1)])
def test_the_kernels_paint_what_torch_paints(way, asset, size, band_px, dtype):
    asset("multistyle26")
    nets = [RegionStylizer(published(), way.device, dtype, impl=impl) for impl in (way.impl, "ref")]
    exact = RegionStylizer(published(), way.device, torch.float32, impl="ref")
    rgb = picture(*size, frames=2).to(way.device)
    styles = [exact.record(rgb[:1], norms(style)) for style in (19, 8, 3)]
    index = torch.randint(0, 3 * 3 * LEVELS, (2, 1, *size[1:]), dtype=torch.int32).expand(2, *size).to(way.device)
    for net in nets:
        net.band_px = band_px or net.band_px
    for arguments in ((styles[0], None), (blend_table(styles), index)):
        found, expected = (net.paint(rgb, *arguments) for net in nets)
        assert found.dtype == dtype
        whole = size[0] % 4 == size[1] % 4 == 0  # else a part of what was painted
        assert found.is_contiguous(memory_format=torch.channels_last) or way.impl != "cuda" or not whole
        if dtype == torch.float32:
            close(found, expected, 1e-4 if way.device.type == "cuda" else 1e-5)
        else:  # two roundings of the same picture
            true = exact.paint(rgb, *arguments)
            close(found, true, 0.2)
            assert (found - true).abs().mean() < 1.1 * (expected - true).abs().mean() + 1e-3


def test_the_kernels_record_what_torch_records(way, asset):
    asset("multistyle26")
    net, reference = (RegionStylizer(published(), way.device, torch.float32, impl=impl) for impl in (way.impl, "ref"))
    rgb = picture(32, 40).to(way.device)
    for found, expected in zip(net.record(rgb, norms(7)), reference.record(rgb, norms(7)), strict=True):
        for x, y in zip(found, expected, strict=True):
            torch.testing.assert_close(x, y, rtol=1e-3, atol=1e-3)


def test_the_kernels_paint_no_frames(way, asset):
    asset("multistyle26")
    net = RegionStylizer(published(), way.device, torch.float32, impl=way.impl)
    styles = net.record(picture(16, 16).to(way.device), norms(0))
    assert net.paint(torch.zeros(0, 3, 16, 20, device=way.device), styles).shape == (0, 3, 16, 20)


# -- the composite ----------------------------------------------------------------------------------------------------

TAGS = [ColorTags("bt601"), ColorTags("bt709", full_range=True), ColorTags("bt2020")]


def layers_of(count: int, size: tuple[int, int], subsample: bool, device: torch.device):
    """Painted RGB, original planes, rows and a table of shares with 0 and 1 among them."""
    height, width = size
    rgb = picture(height, width, frames=max(1, count))[:count].contiguous(memory_format=torch.channels_last)
    half = (height // 2, width // 2) if subsample else size
    planes = [torch.randint(0, 256, (count, *shape), dtype=torch.uint8) for shape in (size, half, half)]
    index = torch.randint(0, 40, (count, *size), dtype=torch.int32)
    shares = (torch.rand(40, 2) * 1.6 - 0.3).clamp(0, 1)
    return rgb.to(device), tuple(p.to(device) for p in planes), index.to(device), shares.to(device)


def same_levels(found, expected) -> None:
    """Equal, but where a sum lies on the border of two levels and rounding decides."""
    for plane, other in zip(found, expected, strict=True):
        assert plane.dtype == torch.uint8
        assert plane.shape == other.shape
        apart = (plane.int() - other.int()).abs()
        if apart.numel():
            assert apart.max() <= 1
            assert (apart > 0).float().mean() < 0.005


@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("subsample", [True, False], ids=["420", "444"])
@pytest.mark.parametrize("size", [(2, 2), (6, 10), (34, 64)])
def test_composite_is_conversion_and_blend(way, size, subsample, dtype):
    for count, tags in enumerate(TAGS):
        rgb, planes, index, shares = layers_of(count, size, subsample, way.device)
        rgb = rgb.to(dtype)
        both, ones = shares[:, :1].repeat(1, 2), torch.ones_like(shares[:, :1])
        for rows, table in (
            (None, None),
            (index, None),
            (index, shares),
            (index, both),
            (index, torch.cat((ones, shares[:, 1:]), 1)),
            (index, torch.cat((shares[:, :1], ones), 1)),
            (None, shares),
        ):
            given = None if table is None else planes
            found = composite(rgb, given, tags, rows, table, subsample=subsample, impl=way.impl)
            same_levels(found, composite(rgb, given, tags, rows, table, subsample=subsample, impl="ref"))


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 1), (5, 7)])
def test_composite_of_odd_sizes_is_444(way, size):
    rgb, planes, index, shares = layers_of(2, size, False, way.device)
    found = composite(rgb, planes, TAGS[0], index, shares, subsample=False, impl=way.impl)
    same_levels(found, composite(rgb, planes, TAGS[0], index, shares, subsample=False, impl="ref"))


@pytest.mark.parametrize("subsample", [True, False], ids=["420", "444"])
def test_composite_by_its_formula(way, subsample):
    """In float64 by NumPy from the painted planes."""
    rgb, planes, index, shares = layers_of(2, (12, 20), subsample, way.device)
    painted = composite(rgb, None, TAGS[1], subsample=subsample, impl=way.impl)
    found = composite(rgb, planes, TAGS[1], index, shares, subsample=subsample, impl=way.impl)
    strength, share = np.moveaxis(shares.double().cpu().numpy()[index.cpu().numpy()], -1, 0)
    if subsample:
        share = share.reshape(2, 6, 2, 10, 2).mean((2, 4))
    for k, part in enumerate((strength, share, share)):
        old, new = (x[k].double().cpu().numpy() for x in (planes, painted))
        expected = np.floor(old + part * (new - old) + 0.5)
        apart = np.abs(found[k].cpu().numpy() - expected)
        assert apart.max() <= 1
        assert (apart > 0).mean() < 0.005
        assert (found[k].cpu().numpy()[part == 0] == old[part == 0]).all()
        assert (found[k].cpu().numpy()[part == 1] == new[part == 1]).all()


@pytest.mark.parametrize("subsample", [True, False], ids=["420", "444"])
def test_where_nothing_is_painted_every_byte_is_the_originals(way, subsample):
    rgb, planes, index, shares = layers_of(2, (16, 20), subsample, way.device)

    def over(rows: torch.Tensor | None, table: torch.Tensor):
        return composite(rgb, planes, TAGS[0], rows, table, subsample=subsample, impl=way.impl)

    for rows in (index, None):
        for plane, kept in zip(over(rows, torch.zeros_like(shares)), planes, strict=True):
            assert torch.equal(plane, kept)
    luma = shares[:, :1]
    kept_colors, both = over(index, torch.cat((luma, luma * 0), 1)), over(index, luma.repeat(1, 2))
    assert torch.equal(kept_colors[0], both[0])
    for k in (1, 2):
        assert torch.equal(kept_colors[k], planes[k])


@pytest.mark.parametrize("subsample", [True, False], ids=["420", "444"])
def test_composite_by_the_table_of_blends(way, subsample):
    """A look that does not paint keeps its pixels, a whole one has its own, and a border has some of both."""
    rgb, planes, _, _ = layers_of(1, (8, 32), subsample, way.device)
    weight = torch.linspace(0.5, 1, 16, device=way.device).repeat_interleave(2).expand(1, 8, 32)
    first = torch.zeros(1, 8, 32, dtype=torch.uint8, device=way.device)
    table = blend_shares(torch.tensor([[0.0, 0.0], [1.0, 1.0]], device=way.device))
    painted = composite(rgb, None, TAGS[0], subsample=subsample, impl=way.impl)
    for whole, one in ((planes, 0), (painted, 1)):
        index = blend_index(first + one, 1 - first - one, weight, 2)
        found = composite(rgb, planes, TAGS[0], index, table, subsample=subsample, impl=way.impl)
        for plane, its in zip(found, whole, strict=True):
            assert torch.equal(plane[..., -1], its[..., -1])
            assert not torch.equal(plane, its)


@pytest.mark.parametrize("subsample", [True, False], ids=["420", "444"])
@pytest.mark.parametrize("shared", [True, False], ids=["shares", "painted"])
def test_composite_into_memory_that_is_given(way, subsample, shared):
    """Planes one after another, as an encoder takes them."""
    rgb, planes, *shares = layers_of(3, (8, 12), subsample, way.device)
    rest = (planes, TAGS[0], *shares) if shared else (None, TAGS[0])
    expected = composite(rgb, *rest, subsample=subsample, impl=way.impl)
    packed = rgb.new_full((3, packed_bytes(8, 12, subsample=subsample)), 7, dtype=torch.uint8)
    out = packed_planes(packed, 8, 12, subsample=subsample)
    found = composite(rgb, *rest, subsample=subsample, out=out, impl=way.impl)
    assert torch.equal(torch.cat([plane.flatten(1) for plane in expected], 1), packed)
    assert all(plane is given for plane, given in zip(found, out, strict=True))
    with pytest.raises(ShapeError, match=r"out must hold planes \[3, 8, 12\], got \[2, 8, 12\]"):
        composite(rgb, *rest, subsample=subsample, out=tuple(plane[:2] for plane in out), impl=way.impl)


def test_composite_takes_any_layout_and_leaves_its_input(way):
    rgb, planes, index, shares = layers_of(2, (8, 12), True, way.device)
    given = (rgb, *planes, index, shares)
    before = [x.clone() for x in given]
    expected = composite(rgb, planes, TAGS[0], index, shares, subsample=True, impl=way.impl)
    turned = [x.transpose(-2, -1).contiguous().transpose(-2, -1) for x in (*planes, index, shares)]
    found = composite(rgb.contiguous(), tuple(turned[:3]), TAGS[0], *turned[3:], subsample=True, impl=way.impl)
    shifted = torch.cat((shares.new_zeros(1), shares.flatten()))[1:].view_as(shares)  # 4 bytes past 8
    again = composite(rgb, planes, TAGS[0], index, shifted, subsample=True, impl=way.impl)
    for plane, other, third in zip(found, expected, again, strict=True):
        assert torch.equal(plane, other)
        assert torch.equal(third, other)
    for x, kept in zip(given, before, strict=True):
        assert torch.equal(x, kept)


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({"rgb": torch.zeros(1, 4, 4, 6)}, r"\[1, 4, 4, 6\]"),
        ({"rgb": torch.zeros(1, 3, 4, 6, dtype=torch.uint8)}, "uint8"),
        ({"rgb": torch.zeros(1, 3, 5, 6)}, "5x6"),
        ({"original": None}, "None"),
        ({"original": (torch.zeros(1, 4, 6, dtype=torch.uint8),) * 3}, r"\[1, 2, 3\] .* \[1, 4, 6\]"),
        ({"index": torch.zeros(1, 6, 4, dtype=torch.int32)}, r"\[1, 6, 4\]"),
        ({"index": torch.zeros(1, 4, 6, dtype=torch.int64)}, "int64"),
        ({"index": torch.zeros(1, 4, 6, dtype=torch.int32, device="meta")}, "meta"),
        ({"shares": torch.ones(3)}, r"\[3\]"),
        ({"shares": torch.ones(0, 2)}, r"\[0, 2\]"),
        ({"shares": torch.ones(3, 1)}, r"\[3, 1\]"),
        ({"shares": torch.ones(3, 2, dtype=torch.float16)}, "float16"),
        ({"shares": torch.ones(3, 2, device="meta")}, "meta"),
    ],
)
def test_a_composite_that_does_not_fit_is_refused_and_shown(change, shown):
    half = torch.zeros(1, 2, 3, dtype=torch.uint8)
    given = {
        "rgb": torch.zeros(1, 3, 4, 6),
        "original": (torch.zeros(1, 4, 6, dtype=torch.uint8), half, half),
        "index": torch.zeros(1, 4, 6, dtype=torch.int32),
        "shares": torch.ones(3, 2),
    } | change
    with pytest.raises(ShapeError, match=shown):
        composite(given.pop("rgb"), given.pop("original"), ColorTags(), **given, subsample=True)
