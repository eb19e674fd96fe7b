import functools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from streamstyle.errors import ShapeError
from streamstyle.nets.johnson import JohnsonNet
from streamstyle.nets.johnson_file import EXAMPLES, Parameters, Recipe
from streamstyle.stages import network_stylizer
from streamstyle.stages.network_stylizer import NetworkStylizer
from tests import oracles
from tests.johnson_nets import save, save_variables, transformer, variables
from tests.stages.test_no_float64 import NoFloat64, no_waiting

CPU = torch.device("cpu")
RECIPES = ["examples", "lengstrom"]


@functools.cache
def network(recipe: str, folder: str) -> JohnsonNet:
    path = Path(folder) / f"{recipe}.safetensors"
    if recipe == "examples":
        return JohnsonNet.read(save(path, transformer().state_dict()))
    return JohnsonNet.read(save_variables(path, variables()))


@pytest.fixture(params=RECIPES)
def net(request, tmp_path_factory) -> JohnsonNet:
    return network(request.param, str(tmp_path_factory.getbasetemp()))


def picture(height: int, width: int, seed: int = 0, frames: int = 1) -> torch.Tensor:
    """Smooth colours, float32 [N, 3, H, W] in 0..1."""
    smooth = [oracles.smooth(np.random.default_rng(100 * seed + i), height, width, 3) for i in range(3 * frames)]
    return torch.from_numpy(np.stack(smooth)).float().view(frames, 3, height, width)


def crop(painted: torch.Tensor, box: tuple[int, int, int, int]) -> torch.Tensor:
    return painted[:, :, box[0] : box[2], box[1] : box[3]]


def close(painted: torch.Tensor, expected: torch.Tensor, at_most: float) -> None:
    assert painted.shape == expected.shape
    assert (painted.float() - expected.float()).abs().max() <= at_most


# -- the whole frame --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(16, 16), (64, 96), (16, 200), (100, 20)])
def test_with_its_own_statistics_is_the_network(net, size):
    rgb = picture(*size)
    stylizer = NetworkStylizer(net, CPU, torch.float32)
    painted = stylizer.paint(rgb, stylizer.record(rgb))
    assert painted.dtype == torch.float32
    assert painted.is_contiguous(memory_format=torch.channels_last)
    close(painted, net(rgb), 2e-5)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (3, 5), (16, 17), (61, 90), (33, 18)])
def test_odd_and_tiny_frames_are_reflected_to_fours(net, size):
    rgb = picture(*size)
    stylizer = NetworkStylizer(net, CPU, torch.float32)
    painted = stylizer.paint(rgb, stylizer.record(rgb))
    assert painted.shape == rgb.shape
    close(painted, crop(net(network_stylizer.pad_to_four(rgb)), (0, 0, *size)), 2e-5)


def test_on_each_device_and_in_16_bits(net, device):
    rgb = picture(64, 96)
    for dtype, at_most in ((torch.float32, 2e-3), (torch.float16, 0.02), (torch.bfloat16, 0.15)):
        stylizer = NetworkStylizer(net, device, dtype)
        affine = stylizer.record(rgb)
        assert {x.dtype for pair in affine for x in pair} == {torch.float32}
        painted = stylizer.paint(rgb, affine)
        assert (painted.dtype, painted.device.type) == (dtype, device.type)
        close(painted.cpu(), net(rgb), at_most)
        assert (painted.cpu().float() - net(rgb)).abs().mean() < at_most / 10
        box = (10, 30, 50, 61)
        close(stylizer.paint(rgb, affine, box), crop(painted, box), at_most)


def test_with_pixels_of_four_channels_as_on_cuda(net, monkeypatch):
    monkeypatch.setattr(network_stylizer, "_slot", lambda device: 4)
    rgb, box = picture(61, 90), (3, 4, 30, 50)
    stylizer = NetworkStylizer(net, CPU, torch.float32)
    painted = stylizer.paint(rgb, stylizer.record(rgb))
    monkeypatch.undo()
    plain = NetworkStylizer(net, CPU, torch.float32)
    affine = plain.record(rgb)
    close(painted, plain.paint(rgb, affine), 2e-5)
    close(stylizer.paint(rgb, affine, box), crop(painted, box), 2e-5)


def test_threads_do_not_touch_each_others_buffers(net):
    stylizer = NetworkStylizer(net, CPU, torch.float32)
    frames = [picture(24 + 4 * (i % 2), 32, seed=i) for i in range(12)]
    affine = stylizer.record(frames[0])
    expected = [stylizer.paint(rgb, affine) for rgb in frames]
    with ThreadPoolExecutor(3) as pool:
        for painted, alone in zip(pool.map(lambda rgb: stylizer.paint(rgb, affine), frames), expected, strict=True):
            assert torch.equal(painted, alone)


def test_statistics_are_one_row_a_norm(net):
    affine = NetworkStylizer(net, CPU, torch.float32).record(picture(32, 40))
    channels = [layer.channels for layer in net.layers][: len(net.gamma)]
    assert [(scale.shape, shift.shape) for scale, shift in affine] == [((c,), (c,)) for c in channels]


def test_frames_of_a_batch_do_not_touch_each_other(net):
    rgb = picture(24, 36, frames=3)
    stylizer = NetworkStylizer(net, CPU, torch.float32)
    affine = stylizer.record(rgb[:1])
    together = stylizer.paint(rgb, affine)
    for i in range(3):
        assert torch.equal(stylizer.paint(rgb[i : i + 1], affine)[0], together[i])
    assert stylizer.paint(rgb[:0], affine).shape == (0, 3, 24, 36)


@pytest.mark.parametrize("level", [0.0, 0.5])
def test_after_a_flat_reference_a_picture_is_finite(net, level):
    flat = torch.full((1, 3, 32, 48), level)
    stylizer = NetworkStylizer(net, CPU, torch.float16)
    painted = stylizer.paint(picture(32, 48), stylizer.record(flat))
    assert torch.isfinite(painted).all()


def test_other_statistics_are_not_mistaken_for_the_last(net):
    rgb = picture(32, 48)
    stylizer = NetworkStylizer(net, CPU, torch.float32)
    first, second = stylizer.record(rgb), stylizer.record(picture(32, 48, seed=1) * 0.5)
    expected = NetworkStylizer(net, CPU, torch.float32).paint(rgb, second)
    stylizer.paint(rgb, first)
    assert torch.equal(stylizer.paint(rgb, second), expected)
    stylizer.forget_workspace()
    assert torch.equal(stylizer.paint(rgb, second), expected)


# -- a box of it ------------------------------------------------------------------------------------------------------

HEIGHT, WIDTH = 202, 239
BOXES = [
    (90, 100, 121, 133),
    (0, 0, 30, 30),
    (180, 210, 202, 239),
    (0, 100, 202, 140),
    (57, 61, 58, 62),
    (3, 70, 50, 75),
    (0, 0, 202, 239),
]


@pytest.mark.parametrize("box", BOXES, ids=str)
def test_a_box_is_what_the_whole_frame_has_there(net, box):
    rgb = picture(HEIGHT, WIDTH)
    stylizer = NetworkStylizer(net, CPU, torch.float32)
    affine = stylizer.record(rgb)
    painted = stylizer.paint(rgb, affine, box)
    assert painted.is_contiguous(memory_format=torch.channels_last)
    close(painted, crop(stylizer.paint(rgb, affine), box), 2e-6)


def test_boxes_anywhere(net):
    rgb, random = picture(HEIGHT, WIDTH), np.random.default_rng(0)
    stylizer = NetworkStylizer(net, CPU, torch.float32)
    affine = stylizer.record(rgb)
    whole = stylizer.paint(rgb, affine)
    for _ in range(10):
        top, left = (int(random.integers(0, size)) for size in (HEIGHT, WIDTH))
        bottom, right = (int(random.integers(a, b + 1)) for a, b in ((top, HEIGHT), (left, WIDTH)))
        box = (top, left, bottom, right)
        painted = stylizer.paint(rgb, affine, box)
        assert painted.shape == crop(whole, box).shape
        if painted.numel():
            close(painted, crop(whole, box), 2e-6)


def test_less_is_computed_for_a_box(net, monkeypatch):
    seen = []
    original = NetworkStylizer._pass
    monkeypatch.setattr(
        NetworkStylizer, "_pass", lambda self, image, *rest: seen.append(image.shape) or original(self, image, *rest)
    )
    rgb = picture(HEIGHT, WIDTH)
    stylizer = NetworkStylizer(net, CPU, torch.float32)
    stylizer.paint(rgb, stylizer.record(rgb), (90, 100, 100, 111))
    halo = stylizer.halo_px
    assert 2 * halo + 10 < seen[-1][2] <= 2 * halo + 10 + 3 + network_stylizer.GRAIN_PX < HEIGHT


def test_bands_are_the_whole(net):
    rgb = picture(HEIGHT + 200, 40, frames=2)
    stylizer = NetworkStylizer(net, CPU, torch.float32)
    affine = stylizer.record(rgb[:1])
    whole = stylizer.paint(rgb, affine)
    stylizer.band_px = 200 * 40
    bands = [each[1][0] for each in stylizer._bands(rgb.shape, 0, 0, HEIGHT + 200, 40)]
    assert len(bands) == 2 * len({(band.start, band.stop) for band in bands}) > 4
    close(stylizer.paint(rgb, affine), whole, 2e-6)
    box = (7, 5, 391, 30)
    close(stylizer.paint(rgb, affine, box), crop(whole, box), 2e-6)


# -- the halo ---------------------------------------------------------------------------------------------------------


def influence(recipe: Recipe, blocks: int) -> tuple[int, int]:
    """The farthest that an input pixel is seen from, in a network of positive weights; and the halo it says."""
    channels = (3, 4, 4, 4, 4, 4, *(4 for _ in range(2 * blocks)))
    sizes = [9, 3, 3, *([3] * (2 * blocks)), 3, 3, 9]
    outputs = [*channels[1 : len(sizes)], 3]
    weights = [torch.full((o, i, k, k), 1 / (i * k)) for o, i, k in zip(outputs, channels, sizes, strict=True)]
    ones = [torch.ones(4) for _ in sizes[:-1]]
    net = JohnsonNet(Parameters(recipe, weights, ones, [torch.zeros(4) for _ in ones], torch.zeros(3)))
    stylizer = NetworkStylizer(net, CPU, torch.float32)
    plain = tuple((torch.ones(4), torch.zeros(4)) for _ in ones)
    farthest, size = 0, 4 * 42
    for phase in range(4):
        at = size // 2 + phase
        rgb = torch.zeros(1, 3, size, size)
        rgb[:, :, at, at] = 1e-3
        seen = stylizer.paint(rgb, plain)[0, 0].nonzero()
        assert 0 < seen.min() < seen.max() < size - 1
        farthest = max(farthest, int((seen - at).abs().max()))
    return farthest, net.halo_px


@pytest.mark.parametrize("blocks", [0, 1, 3, 5])
@pytest.mark.parametrize("recipe", [EXAMPLES, Recipe("zero", "transposed", 1e-3, "levels")], ids=RECIPES)
def test_the_halo_is_exactly_what_a_pixel_sees(recipe, blocks):
    farthest, said = influence(recipe, blocks)
    assert farthest == said


def test_a_smaller_halo_shows(net, monkeypatch):
    monkeypatch.setattr(network_stylizer, "GRAIN_PX", 4)
    rgb, box = picture(HEIGHT, WIDTH), (88, 100, 120, 132)
    rgb += torch.rand(rgb.shape)
    stylizer = NetworkStylizer(net, CPU, torch.float32)
    affine = stylizer.record(rgb)
    whole = crop(stylizer.paint(rgb, affine), box)
    close(stylizer.paint(rgb, affine, box), whole, 2e-6)
    stylizer.halo_px -= 16
    assert (stylizer.paint(rgb, affine, box) - whole).abs().max() > 2e-5


# -- what it asks of its inputs and of the device ----------------------------------------------------------------------


@pytest.mark.parametrize("box", [(-1, 0, 4, 4), (0, 0, 33, 4), (0, 0, 4, 49), (5, 0, 4, 4), (0, 9, 4, 8)], ids=str)
def test_a_box_outside_the_frame_is_refused_and_shown(net, box):
    rgb = picture(32, 48)
    stylizer = NetworkStylizer(net, CPU, torch.float32)
    with pytest.raises(ShapeError, match=r"\[1, 3, 32, 48\]") as error:
        stylizer.paint(rgb, stylizer.record(rgb), box)
    assert str(box) in str(error.value)


@pytest.mark.parametrize(
    "rgb",
    [torch.zeros(3, 16, 16), torch.zeros(1, 4, 16, 16), torch.zeros(1, 3, 0, 16), torch.zeros(1, 3, 16, 16).int()],
)
def test_no_picture_is_refused_and_shown(net, rgb):
    stylizer = NetworkStylizer(net, CPU, torch.float32)
    affine = stylizer.record(picture(16, 16))
    for paint in (stylizer.record, lambda rgb: stylizer.paint(rgb, affine)):
        with pytest.raises(ShapeError, match="rgb must be"):
            paint(rgb)
    with pytest.raises(ShapeError, match=r"one reference frame .*\[2, 3"):
        stylizer.record(picture(16, 16, frames=2))


def test_nothing_waits_for_the_device_and_nothing_is_float64(net):
    stylizer = NetworkStylizer(net, torch.device("meta"), torch.float32)
    rgb = torch.rand(2, 3, 70, 90, device="meta")
    with no_waiting(), NoFloat64():
        affine = stylizer.record(rgb[:1])
        stylizer.paint(rgb, affine)
        assert stylizer.paint(rgb, affine, (3, 4, 50, 60)).shape == (2, 3, 47, 56)
