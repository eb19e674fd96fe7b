import platform

import pytest
import torch
import torch.nn.functional as F

from streamstyle.nets import int8

needs_operators = pytest.mark.skipif(not int8.available(), reason="no x86, or no torch with oneDNN's operators")


def extreme_weights(outputs, inputs):
    """Whole weights whose pairs add up to 127 or -127 and no further, in every way there is to share it."""
    generator = torch.Generator().manual_seed(1)
    first = torch.randint(0, 128, (outputs, inputs // 2, 3, 3), generator=generator)
    first[::4], first[1::4] = 127, 0
    weight = torch.stack([first, 127 - first], 2).flatten(1, 2)
    weight[2::4] *= -1
    return weight


@needs_operators
@pytest.mark.parametrize(
    ("inputs", "outputs", "size"),
    [
        (64, 64, (68, 115)),
        (64, 128, (1, 1)),
        (128, 128, (34, 57)),
        (256, 256, (9, 15)),
        (192, 192, (30, 54)),
        (512, 512, (2, 7)),
    ],
)
def test_the_largest_sums_do_not_saturate(inputs, outputs, size):
    weight = extreme_weights(outputs, inputs)
    x = torch.randint(0, 2, (1, inputs, *size)) * 255
    x[:, :, ::2] = 255
    bias = (torch.arange(outputs) % 4 == 2) * (255 * 127 * 9 * inputs // 2)  # ReLU would hide what is below zero
    expected = F.conv2d(x.double(), weight.double(), bias.double(), padding=1)  # exact: all are below 2**53
    assert expected.min() >= 0
    layer = int8.Convolution(weight.float(), bias.float(), 1.0, None)
    found = layer(x.to(torch.uint8).to(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected.float(), rtol=1e-6, atol=0)


@needs_operators
def test_pairs_of_any_weights_are_held_within_what_sixteen_bits_hold():
    weight = torch.randn(32, 64, 3, 3) * torch.logspace(-6, 6, 32).view(-1, 1, 1, 1)
    weight[5] = 0
    x = torch.full((1, 64, 6, 7), 255, dtype=torch.uint8).to(memory_format=torch.channels_last)
    bias = weight.abs().sum((1, 2, 3)) * 255
    found = int8.Convolution(weight, bias, 1.0, None)(x)
    apart = (found - F.conv2d(x.float(), weight, bias, padding=1)).abs().amax((0, 2, 3))
    assert (apart <= 2e-3 * bias + 1e-9).all()


@needs_operators
@pytest.mark.parametrize("inputs", [3, 4, 16, 32])
@pytest.mark.parametrize(("size", "stride"), [(9, 1), (5, 1), (3, 2)])
def test_any_kernel_stride_and_number_of_channels(inputs, size, stride):
    weight = torch.randint(-63, 64, (8, inputs, size, size)).float()
    weight[:, 0, 0, 0], weight[:, 1, 0, 0] = 100, 27  # so that a step is one
    bias = torch.randint(-999, 999, (8,)).float()
    x = torch.randint(0, 256, (2, inputs, 23, 31))
    layer = int8.Convolution(weight, bias, 1.0, None, stride=stride, padding=0, relu=False)
    found = layer(x.to(torch.uint8).to(memory_format=torch.channels_last))
    assert torch.equal(found, F.conv2d(x.float(), weight, bias, stride=stride))


@pytest.mark.parametrize("shape", [(32, 3, 9, 9), (8, 16, 3, 3), (4, 8, 1, 1)])
def test_rounding_keeps_a_kernels_sum_and_pairs_within_sixteen_bits(shape):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(5)) + 0.3
    weight[0] = 0
    weight[1, :, 0, 0] = 0
    steps = weight / int8.step_sizes(weight).view(-1, 1, 1, 1)
    whole = int8.kept_even(steps)
    assert torch.equal(whole, whole.round())
    assert (whole - steps).abs().max() < 1
    assert (whole - steps).sum((2, 3)).abs().max() <= 0.5001
    assert (whole[steps == 0] == 0).all()
    pairs = F.pad(whole, (0, 0, 0, 0, 0, shape[1] % 2)).unflatten(1, (-1, 2))
    assert pairs.clamp_min(0).sum(2).max() <= 128
    assert pairs.clamp_max(0).sum(2).min() >= -128
    assert torch.equal(int8.kept_even(-steps), -whole)


@needs_operators
def test_even_surfaces_come_out_as_in_floats():
    """Weights that nearly cancel: a surface's sum is small beside what rounding each weight by itself adds to it."""
    weight = torch.randn(32, 3, 9, 9, generator=torch.Generator().manual_seed(7))
    weight -= weight.mean((2, 3), keepdim=True)
    x = torch.full((1, 3, 12, 12), 200, dtype=torch.uint8).to(memory_format=torch.channels_last)
    expected = F.conv2d(x.float(), weight)
    found = int8.Convolution(weight, torch.zeros(32), 1.0, None, padding=0, relu=False)(x)
    plain = weight / int8.step_sizes(weight).view(-1, 1, 1, 1)
    rounded = F.conv2d(x.float(), plain.round() * int8.step_sizes(weight).view(-1, 1, 1, 1))
    assert (found - expected).square().mean() < 0.1 * (rounded - expected).square().mean()


@needs_operators
def test_floats_into_bytes_are_rounded_and_clipped():
    x = torch.tensor([-3.0, 0.4, 0.6, 254.6, 255.4, 9999.0]).view(1, 1, 1, 6).repeat(1, 8, 1, 1)
    layer = int8.FloatConvolution(torch.eye(8)[:, :, None, None], torch.zeros(8), padding=0)
    assert layer(x).to(torch.uint8)[0, 3, 0].tolist() == [0, 0, 1, 255, 255, 255]


@pytest.fixture
def anew():
    """available() looks again, here and after."""
    int8.available.cache_clear()
    yield
    int8.available.cache_clear()


@needs_operators
def test_another_processor_does_without(monkeypatch, anew):
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert not int8.available()


@needs_operators
@pytest.mark.parametrize(
    ("room", "operator"), [("onednn", "qconv_prepack"), ("onednn", "qconv2d_pointwise"), ("quantized", "max_pool2d")]
)
@pytest.mark.parametrize("error", [AttributeError, RuntimeError, NotImplementedError, TypeError])
def test_a_torch_without_an_operator_does_without(monkeypatch, anew, room, operator, error):
    def fail(*_):
        raise error(operator)

    monkeypatch.setattr(getattr(torch.ops, room), operator, fail)
    assert not int8.available()


@needs_operators
def test_sums_that_saturate_are_found_out(monkeypatch, anew):
    monkeypatch.setattr(int8, "MOST_STEPS", 255)  # what a byte cannot hold wraps, or sixteen bits cannot
    assert not int8.available()


@needs_operators
def test_steps_of_a_call_are_as_those_it_is_made_for():
    weight, bias = torch.randn(16, 32, 3, 3), torch.randn(16)
    x = torch.randint(0, 256, (1, 32, 9, 11), dtype=torch.uint8).to(memory_format=torch.channels_last)
    for after in (0.7, None):
        made, expected = (
            int8.Convolution(weight, bias, 0.01, after),
            int8.Convolution(weight, bias, 0.03, after and 2.1),
        )
        assert torch.equal(made(x, 0.03, 2.1), expected(x))
        assert not torch.equal(made(x), expected(x))


@pytest.mark.parametrize("threads", [1, 2])
def test_one_packing_serves_pictures_of_all_sizes(threads):
    """Weights of many outputs are laid out for the size that comes, be it another each time."""
    generator = torch.Generator().manual_seed(5)
    weight, bias = torch.randn(192, 32, 3, 3, generator=generator), torch.randn(192, generator=generator)
    run, before = int8.Convolution(weight, bias, 1.0, None), torch.get_num_threads()
    try:
        for size in ((30, 54), (34, 44), (1, 1), (30, 54)):
            x = torch.randint(0, 256, (1, 32, *size), generator=generator, dtype=torch.uint8)
            x = x.to(memory_format=torch.channels_last)
            torch.set_num_threads(threads)
            found = run(x)
            torch.set_num_threads(3 - threads)
            assert torch.equal(run(x), found)
            anew = int8.Convolution(weight, bias, 1.0, None)
            assert torch.equal(anew(x), found)
    finally:
        torch.set_num_threads(before)
