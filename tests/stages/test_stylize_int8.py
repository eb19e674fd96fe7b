"""The painter in 8-bit integers: near float32; the same bits in bands, boxes, batches and threads."""

import functools

import numpy as np
import pytest
import torch

from streamstyle import Look, Options, StyleOptions, Stylizer, frozen_statistics
from streamstyle.errors import OptionError
from streamstyle.frozen_statistics import Recording
from streamstyle.nets import int8
from streamstyle.nets.arbitrary import VECTOR
from streamstyle.nets.stylenet import LAYERS, StyleNet
from streamstyle.painting.boxes import Box, paint_box
from streamstyle.stages import stylize_int8
from streamstyle.stages.stylize_int8 import Int8Stylizer, in_bytes, region_bytes, region_stylizer
from streamstyle.stages.stylize_regions import RegionStylizer, blend_index, blend_table, mixed_norms
from tests import oracles
from tests.arbitrary_net import untrained_net

pytestmark = [
    pytest.mark.skipif(not int8.available(), reason="no x86, or no torch with oneDNN's operators"),
    pytest.mark.weights,
]
CPU = torch.device("cpu")


@functools.cache
def published() -> StyleNet:
    return StyleNet.load()


@pytest.fixture
def net(asset):
    asset("multistyle26")
    return Int8Stylizer(published(), CPU)


@pytest.fixture
def floats(asset):
    asset("multistyle26")
    return RegionStylizer(published(), CPU, torch.float32)


def picture(height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Smooth colours and some noise, float32 [1, 3, H, W] in 0..1."""
    generator = np.random.default_rng(seed)
    smooth = np.stack([oracles.smooth(generator, height, width, 3) for _ in range(3)])
    noisy = smooth + generator.normal(0, 0.02, smooth.shape)
    return torch.from_numpy(noisy.clip(0, 1)).float()[None]


def record(net, rgb, style):
    return net.record(rgb, published().norms(style))


def in_floats(affine):
    """Without their reach: what a stylizer of floats takes."""
    return tuple(layer[:2] for layer in affine)


def psnr(painted: torch.Tensor, expected: torch.Tensor) -> float:
    assert painted.shape == expected.shape
    return float(-10 * torch.log10((painted - expected).square().mean()))


def thirds(height: int, width: int) -> torch.Tensor:
    """Rows of a table of three styles, side by side, with soft borders."""
    first = (torch.arange(width) * 3 // width).expand(1, height, width)
    weight = 0.5 + ((torch.arange(width) * 3 / width) % 1 * 2 - 1).abs().clamp(max=0.5).expand(1, height, width)
    return blend_index(first, (first + 1) % 3, weight.clamp(max=1), 3)


# -- nearness ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", [0, 3, 11, 15, 19, 25])
def test_one_style_is_near_floats_on_another_frame_too(net, floats, style):
    rgb = picture(96, 128)
    affine = record(net, rgb, style)
    for frame in (rgb, rgb.flip(3), (rgb * 0.8 + 0.1).roll(17, 2)):
        assert psnr(net.paint(frame, affine), floats.paint(frame, in_floats(affine))) > 38


def test_scale_and_shift_are_those_of_floats(net, floats):
    rgb = picture(64, 80)
    affine = record(net, rgb, 4)
    for (scale, shift, reach), expected in zip(affine, record(floats, rgb, 4), strict=True):
        assert torch.equal(scale, expected[0])
        assert torch.equal(shift, expected[1])
        assert reach.shape == scale.shape
        assert (reach > 0).all()


def test_bytes_reach_beyond_the_layers_largest_value(net):
    """Of the first layer, whatever the sign of its scale; by as much as contrast may grow."""
    rgb, (gamma, beta) = picture(48, 64), published().norms(0)[0]
    signs = torch.where(torch.arange(len(gamma)) % 2 == 0, 1.0, -1.0)
    norms = ((gamma * signs, beta), *published().norms(0)[1:])
    scale, shift, reach = net.record(rgb, norms)[0]
    padded = torch.nn.functional.pad(rgb, (4,) * 4, mode="reflect")
    y = torch.nn.functional.conv2d(padded, published().convolution[0]).permute(0, 2, 3, 1) * scale + shift
    luma = 255 * (0.2126 * rgb[:, 0] + 0.7152 * rgb[:, 1] + 0.0722 * rgb[:, 2]).std(correction=0)
    expected = y.amax((0, 1, 2)).clamp_min(1e-3) * 1.1 * (luma + 18) / luma
    torch.testing.assert_close(reach, expected, rtol=1e-4, atol=1e-5)


def test_room_is_for_what_statistics_let_pass():
    assert stylize_int8.DRIFT_LEVELS == frozen_statistics.DRIFT_LEVELS
    assert stylize_int8.DULL_LEVELS == frozen_statistics.FLAT_LEVELS


@pytest.mark.parametrize("spread", [8, 15, 30])
def test_a_shot_that_gains_contrast_is_near_floats_until_it_is_recorded_anew(net, floats, spread):
    rgb = picture(96, 128)
    levels = 255 * float((rgb * torch.tensor(stylize_int8.LUMA).view(1, 3, 1, 1)).sum(1).std())
    affine = record(net, (rgb - 0.5) * spread / levels + 0.5, 3)
    livelier = ((rgb - 0.5) * (spread + 17) / levels + 0.5).clamp(0, 1)
    assert psnr(net.paint(livelier, affine), floats.paint(livelier, in_floats(affine))) > 30


def test_three_styles_in_one_pass_are_near_floats(net, floats):
    rgb, index = picture(96, 132), thirds(96, 132)
    styles = [record(net, rgb, style) for style in (3, 11, 19)]
    painted = net.paint(rgb, blend_table(styles), index)
    assert psnr(painted, floats.paint(rgb, blend_table([in_floats(s) for s in styles]), index)) > 38


def test_a_table_of_one_row_paints_the_style(net):
    rgb, style = picture(64, 80), record(net, picture(64, 80), 7)
    index = blend_index(torch.zeros(1, 64, 80), torch.zeros(1, 64, 80), torch.ones(1, 64, 80), 1)
    assert psnr(net.paint(rgb, blend_table([style]), index), net.paint(rgb, style)) > 48


def test_so_with_any_painting():
    """Other channels, and layers without a norm."""
    made = untrained_net()
    net, floats = Int8Stylizer(made, CPU), RegionStylizer(made, CPU, torch.float32)
    rgb, index = picture(64, 96), thirds(64, 96)
    styles = [net.record(rgb, made.norms(torch.randn(VECTOR))) for _ in range(3)]
    assert psnr(net.paint(rgb, styles[0]), floats.paint(rgb, in_floats(styles[0]))) > 32
    table = [in_floats(style) for style in styles]
    assert psnr(net.paint(rgb, blend_table(styles), index), floats.paint(rgb, blend_table(table), index)) > 32


def test_values_beyond_the_reference_are_clipped_and_no_more(net, floats):
    """A frame of far more contrast than the reference frame."""
    affine = record(net, picture(64, 96) * 0.2 + 0.4, 2)
    harsh = (picture(64, 96, seed=1) > 0.5).float()
    painted = net.paint(harsh, affine)
    assert ((painted >= 0) & (painted <= 1)).all()
    assert (painted - floats.paint(harsh, in_floats(affine))).abs().mean() < 0.1


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_a_flat_reference_paints_flat(net, floats, level):
    flat = torch.full((1, 3, 32, 48), level)
    affine = record(net, flat, 8)
    assert (net.paint(flat, affine) - floats.paint(flat, in_floats(affine))).abs().max() < 0.05
    assert torch.isfinite(net.paint(picture(32, 48), affine)).all()


def slide() -> torch.Tensor:
    """Black lines on white, as of lettering."""
    made = torch.ones(1, 3, 96, 128)
    made[:, :, 20:80:12, 16:110] = 0
    made[:, :, 20:80:12, 20:110:9] = 1
    return made


def test_what_bytes_would_spoil_is_painted_in_floats(net, floats):
    affine = record(net, slide(), 1)
    assert all(torch.isinf(reach).all() for _, _, reach in affine)
    for frame in (slide(), picture(96, 128)):
        assert torch.equal(net.paint(frame, affine), floats.paint(frame, in_floats(affine)))
    assert all(torch.isfinite(reach).all() for _, _, reach in record(net, picture(96, 128), 1))


def test_so_are_styles_that_meet_it(net, floats):
    """In one table, in a blend, and while statistics fade."""
    spoilt, fine, rgb = record(net, slide(), 1), record(net, picture(96, 128), 3), picture(96, 128)
    index = thirds(96, 128)
    table = blend_table([spoilt, fine, fine])
    expected = floats.paint(rgb, blend_table([in_floats(style) for style in (spoilt, fine, fine)]), index)
    assert torch.equal(net.paint(rgb, table, index), expected)
    for mixed in (mixed_norms([fine, spoilt], [3, 1]), frozen_statistics._between(spoilt, fine, 0.5)):
        assert torch.equal(net.paint(rgb, mixed), floats.paint(rgb, in_floats(mixed)))


@pytest.mark.parametrize("style", [1, 3, 8, 11, 19, 23])
def test_a_reference_is_never_far_from_floats(net, floats, style):
    flat = torch.full((1, 3, 96, 128), 0.8)
    flat[:, 0, 30:70, 40:90], flat[:, 2, 60:] = 0.1, 0.3
    for rgb in (slide(), 1 - slide(), flat, picture(96, 128)):
        affine = record(net, rgb, style)
        assert psnr(net.paint(rgb, affine), floats.paint(rgb, in_floats(affine))) >= stylize_int8.LEAST_DB


def test_enlarged_pictures_that_overshoot_are_clipped(net):
    """As bicubic enlarging makes them: white must not become black."""
    rgb = picture(64, 80)
    affine = record(net, rgb, 0)
    beyond = rgb * 1.4 - 0.2
    assert beyond.max() > 1.1
    assert torch.equal(net.paint(beyond, affine), net.paint(beyond.clamp(0, 1), affine))


# -- the same however it is cut ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("several", [False, True])
def test_bands_boxes_batches_and_threads_paint_the_same_bits(net, several):
    rgb = torch.cat([picture(240, 112, seed) for seed in range(2)])
    styles = [record(net, rgb[:1], style) for style in (3, 11, 19)]
    affine, index = (blend_table(styles), thirds(240, 112).repeat(2, 1, 1)) if several else (styles[0], None)
    expected = net.paint(rgb, affine, index)
    net.band_px = 112 * 160
    assert torch.equal(net.paint(rgb, affine, index), expected)
    net.band_px = 1 << 22
    assert torch.equal(net.paint(rgb[1:], affine, None if index is None else index[1:]), expected[1:])
    box = Box(100, 40, 140, 80)
    boxed = paint_box(net, rgb, affine, index, box)
    assert torch.equal(boxed[:, :, 100:140, 40:80], expected[:, :, 100:140, 40:80])
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert torch.equal(net.paint(rgb, affine, index), expected)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("size", [(1, 1), (2, 17), (17, 2), (16, 16), (33, 47)])
@pytest.mark.parametrize("several", [False, True])
def test_any_size(net, floats, size, several):
    rgb = picture(64, 64)
    styles = [record(net, rgb, style) for style in (3, 11, 19)]
    frame = rgb[:, :, : size[0], : size[1]]
    table = blend_table([in_floats(style) for style in styles])
    if several:
        painted, expected = (
            each.paint(frame, affine, thirds(*size)) for each, affine in ((net, blend_table(styles)), (floats, table))
        )
    else:
        painted, expected = net.paint(frame, styles[0]), floats.paint(frame, in_floats(styles[0]))
    assert painted.shape == (1, 3, *size)
    assert (painted - expected).abs().mean() < 0.02


def test_styles_in_turn_do_not_take_each_others_weights(net):
    rgb = picture(32, 48)
    styles = [record(net, rgb, style) for style in (3, 11)]
    expected = [net.paint(rgb, style) for style in styles]
    table, index = blend_table(styles), thirds(32, 48) % 2 * 0
    between = net.paint(rgb, table, index)
    for _ in range(2):
        assert torch.equal(net.paint(rgb, styles[0]), expected[0])
        assert torch.equal(net.paint(rgb, styles[1]), expected[1])
        assert torch.equal(net.paint(rgb, table, index), between)


def test_floats_become_bytes_by_rounding(net):
    y = torch.tensor([[0.4, 0.6], [-5.0, 254.6], [300.0, 1e9]]).view(1, 3, 1, 2)
    index = torch.tensor([0, 0, 1], dtype=torch.int32).view(1, 3, 1)
    scale, shift = torch.tensor([[1.0, 1.0], [0.5, 1.0]]), torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    out = torch.empty(1, 3, 1, 2, dtype=torch.uint8)
    assert region_bytes(y, index, scale, shift, out).flatten().tolist() == [0, 1, 0, 255, 151, 255]


def test_chunks_of_rows_are_as_good_as_all_at_once(net, monkeypatch):
    rgb, index = picture(64, 96), thirds(64, 96)
    table = blend_table([record(net, rgb, style) for style in (3, 11, 19)])
    expected = net.paint(rgb, table, index)
    monkeypatch.setattr(stylize_int8, "CHUNK_BYTES", 1)
    assert torch.equal(net.paint(rgb, table, index), expected)


def test_a_compiled_lookup_paints_the_same(asset, monkeypatch):
    asset("multistyle26")
    compiled, plain = Int8Stylizer(published(), CPU, compile_lookup=True), Int8Stylizer(published(), CPU)
    rgb, index = picture(32, 48), thirds(32, 48)
    table = blend_table([record(plain, rgb, style) for style in (3, 11, 19)])
    expected = plain.paint(rgb, table, index)
    assert psnr(compiled.paint(rgb, table, index), expected) > 60
    assert compiled.compile_error is None
    monkeypatch.setattr(compiled, "_compiled_bytes", lambda *_: 1 / 0)
    monkeypatch.setattr(compiled, "_compiled", None)
    assert torch.equal(compiled.paint(rgb, table, index), expected)
    assert compiled.compile_error == "division by zero"


# -- what is kept of a style ------------------------------------------------------------------------------------------


def test_mixed_and_saved_styles_keep_their_reach(net):
    rgb = picture(32, 48)
    styles = [record(net, rgb, style) for style in (3, 11)]
    mixed = mixed_norms(styles, [1, 3])
    for i in range(len(LAYERS)):
        for part in range(3):
            expected = 0.25 * styles[0][i][part] + 0.75 * styles[1][i][part]
            torch.testing.assert_close(mixed[i][part], expected)
    saved = Recording.of_state(Recording((0.0, 1.0), styles, styles).state_dict(), CPU)
    assert all(
        torch.equal(a, b) for x, y in zip(saved.new[1], styles[1], strict=True) for a, b in zip(x, y, strict=True)
    )


# -- who computes in what ---------------------------------------------------------------------------------------------


def test_int8_is_refused_where_it_cannot_be(monkeypatch):
    with pytest.raises(OptionError, match=r"--precision int8: cuda computes in floats; .* Use auto"):
        in_bytes("int8", torch.device("cuda"))
    monkeypatch.setattr(int8, "available", lambda: False)
    with pytest.raises(OptionError, match=r"--precision int8: this torch has no such operators; .* Use auto"):
        Stylizer(Look(style="starry"), Options(device="cpu", painting=StyleOptions(precision="int8")))
    assert not in_bytes("auto", CPU)


@pytest.mark.parametrize("bfloat16", [True, False])
def test_auto_takes_bytes_where_bfloat16_is_slow(asset, monkeypatch, bfloat16):
    asset("multistyle26")
    monkeypatch.setattr(stylize_int8, "has_native_bfloat16", lambda: bfloat16)
    assert in_bytes("auto", CPU) == (not bfloat16)
    assert not in_bytes("auto", torch.device("cuda"))
    for precision in ("float32", "bfloat16", "float16"):
        assert not in_bytes(precision, CPU)
    made = region_stylizer(published(), CPU, "auto")
    assert isinstance(made, Int8Stylizer) == (not bfloat16)
