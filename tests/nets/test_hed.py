import hashlib
from importlib import resources

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from streamstyle.errors import OptionError, ShapeError, WeightsError
from streamstyle.job import STATE_FORM
from streamstyle.nets import hed, weights
from streamstyle.nets.hed import HED, NARROW_CHANNELS, NARROW_FILE

SIDES = ["1", "2", "3", "4", "5", "fuse"]


def conv3x3(x, weight, bias):
    """[C, h, w] with [O, C, 3, 3], zero padding, as nine shifted matrix products."""
    _, h, w = x.shape
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    y = np.zeros((len(weight), h, w)) + bias[:, None, None]
    for dy in range(3):
        for dx in range(3):
            y += np.tensordot(weight[:, :, dy, dx], padded[:, dy : dy + h, dx : dx + w], axes=1)
    return y


def max_pool(x):
    """2 x 2, stride 2; an odd last row or column makes a smaller cell."""
    _, h, w = x.shape
    padded = np.pad(x, ((0, 0), (0, h % 2), (0, w % 2)), constant_values=-np.inf)
    return np.maximum.reduce([padded[:, dy::2, dx::2] for dy in (0, 1) for dx in (0, 1)])


def stretch(x, size, axis):
    """Linear interpolation along one axis, pixel centres at half-integers, clamped at the border."""
    length = x.shape[axis]
    at = np.clip((np.arange(size) + 0.5) * length / size - 0.5, 0, length - 1)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, length - 1)
    share = (at - low).reshape([-1 if each == axis else 1 for each in range(x.ndim)])
    return np.take(x, low, axis) * (1 - share) + np.take(x, high, axis) * share


def hed_formula(rgb, w, side):
    """Edge strength [h, w] of one picture [3, h, w] in 0..1, in float64, from the paper's description."""
    w = {key: value.double().numpy() for key, value in w.items()}
    x = rgb.astype(np.float64)[::-1] * 255 - np.array([104.00699, 116.66877, 122.67892])[:, None, None]
    logits = []
    for block, convolutions in enumerate((2, 2, 3, 3, 3)[: 5 if side == "fuse" else int(side)], start=1):
        if block > 1:
            x = max_pool(x)
        for k in range(convolutions):
            x = np.maximum(conv3x3(x, w[f"block{block}.{k}.weight"], w[f"block{block}.{k}.bias"]), 0)
        if side in ("fuse", str(block)):
            logit = np.tensordot(w[f"side{block}.weight"][0, :, 0, 0], x, axes=1) + w[f"side{block}.bias"]
            logits.append(stretch(stretch(logit, rgb.shape[1], 0), rgb.shape[2], 1))
    mix = w["fuse.weight"][0, :, 0, 0] if side == "fuse" else np.ones(1)
    offset = w["fuse.bias"] if side == "fuse" else 0.0
    return 1 / (1 + np.exp(-(np.tensordot(mix, np.stack(logits), axes=1) + offset)))


@pytest.fixture(scope="module")
def untrained():
    """Weights of HED's layout that keep the activations of every block alive, for tests without the published ones."""
    generator = torch.Generator().manual_seed(0)
    made = {}
    for key, like in HED("fuse").state_dict().items():
        values = torch.randn(like.shape, generator=generator)
        spread = (2 / like[0].numel()) ** 0.5 if key.endswith("weight") else 0.1
        made[key] = values * spread / (100 if key.startswith("side") else 1)  # logits of a few units, not saturated
    return made


def built(side, values):
    net = HED(side)
    net.load_state_dict({key: values[key] for key in net.state_dict()})
    return net.eval().requires_grad_(False)


@pytest.mark.parametrize("size", [(13, 22), (1, 1), (1, 9), (6, 1), (17, 16)])
@pytest.mark.parametrize("side", SIDES)
def test_equals_the_formula(untrained, side, size):
    rgb = torch.rand(3, *size)
    expected = hed_formula(rgb.numpy(), untrained, side)
    found = built(side, untrained)(rgb[None])
    assert found.shape == (1, *size)
    np.testing.assert_allclose(found[0].numpy(), expected, atol=2e-5)
    if min(size) > 1:
        assert np.ptp(expected) > 1e-3, "the picture must tell the formulas apart"


@pytest.mark.weights
@pytest.mark.parametrize("side", SIDES)
def test_the_published_weights_equal_the_formula(asset, device, side):
    asset("hed")
    rgb = torch.rand(3, 21, 34)
    rgb[:, 5:15, 8:25] *= 0.2
    found = HED.load(side, device)(rgb[None].to(device))
    assert found.device.type == device.type
    tolerance = 2e-5 if device.type == "cpu" else 5e-3  # CUDA convolutions may round to TF32
    np.testing.assert_allclose(
        found[0].cpu().numpy(), hed_formula(rgb.numpy(), weights.load("hed"), side), atol=tolerance
    )


@pytest.mark.weights
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(("dtype", "apart"), [(torch.bfloat16, 0.03), (torch.float16, 0.004)])
def test_half_precision_is_near_float32(asset, device, side, dtype, apart):
    asset("hed")
    rgb = torch.rand(2, 3, 40, 56, device=device)
    found = HED.load(side, device, dtype)(rgb)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, HED.load(side, device)(rgb), atol=apart, rtol=0)


@pytest.mark.weights
def test_the_published_weights_see_the_border_of_a_square(asset):
    asset("hed")
    rgb = torch.full((1, 3, 64, 64), 0.2)
    rgb[:, :, 16:48, 16:48] = 0.8
    edges = HED.load("2")(rgb)[0]
    border = torch.cat([edges[15:17, 20:44].flatten(), edges[20:44, 47:49].flatten()])
    assert border.min() > 2 * edges[26:38, 26:38].max()


@pytest.mark.weights
def test_load_is_ready_for_inference(asset):
    asset("hed")
    before = torch.get_rng_state()
    net = HED.load("2")
    assert torch.equal(torch.get_rng_state(), before)
    assert not net.training
    for key, value in net.named_parameters():
        assert not value.requires_grad, key
        assert value.ndim != 4 or value.is_contiguous(memory_format=torch.channels_last), key


def test_features_are_what_the_layers_give(untrained):
    net, rgb, layers = built("3", untrained), torch.rand(2, 3, 21, 18), [(1, 2), (2, 1), (2, 2), (3, 2)]
    edges, features = net.edges_and_features(rgb, layers)
    assert torch.equal(edges, net(rgb))
    x, given = net._centred(rgb), {}
    for number, block in enumerate((net.block1, net.block2, net.block3), start=1):
        x = F.max_pool2d(x, 2, ceil_mode=True) if number > 1 else x
        for place, convolution in enumerate(block, start=1):
            given[number, place] = x = F.relu(convolution(x))
    assert [tuple(seen.shape[2:]) for seen in features] == [(21, 18), (11, 9), (11, 9), (6, 5)]
    for layer, seen in zip(layers, features, strict=True):
        torch.testing.assert_close(seen, given[layer])


@pytest.mark.parametrize(("layers", "done"), [([(3, 2)], 6), ([(2, 1), (3, 1)], 5), ([(2, 2)], 4), ([], 4)])
def test_nothing_is_done_that_nobody_asked_for(untrained, monkeypatch, layers, done):
    given, relu = [], F.relu_
    net = HED("2", blocks=3).requires_grad_(False)
    net.load_state_dict({key: untrained[key] for key in net.state_dict()})
    monkeypatch.setattr(F, "relu_", lambda x: given.append(1) or relu(x))
    edges, features = net.edges_and_features(torch.rand(1, 3, 12, 9), layers)
    assert len(given) == done
    assert len(features) == len(layers)
    assert edges.shape == (1, 12, 9)


def test_only_the_blocks_of_the_chosen_side_are_built():
    assert {key.split(".")[0] for key in HED("2").state_dict()} == {"block1", "block2", "side2"}
    assert {key.split(".")[0] for key in HED("fuse").state_dict()} == {
        *(f"block{b}" for b in range(1, 6)),
        *(f"side{b}" for b in range(1, 6)),
        "fuse",
    }


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_any_floating_point_picture_gives_float32(untrained, dtype):
    rgb = (torch.randint(0, 2, (1, 3, 9, 9))).to(dtype)  # 0 and 1 are exact in all of them
    found = built("2", untrained)(rgb)
    assert found.dtype == torch.float32
    assert torch.equal(found, built("2", untrained)(rgb.float()))


def test_memory_format_and_the_callers_tensor_do_not_matter(untrained):
    net, rgb = built("3", untrained), torch.rand(2, 3, 12, 14)
    before = rgb.clone()
    expected = net(rgb)
    assert torch.equal(rgb, before)
    torch.testing.assert_close(net(rgb.to(memory_format=torch.channels_last)), expected)
    wide = F.pad(rgb, (3, 3))[..., 3:-3]
    assert not wide.is_contiguous()
    torch.testing.assert_close(net(wide), expected)


def test_pictures_of_a_batch_do_not_touch_each_other(untrained):
    net, rgb = built("fuse", untrained), torch.rand(3, 3, 17, 20)
    together = net(rgb)
    for i in range(3):
        torch.testing.assert_close(net(rgb[i : i + 1])[0], together[i])


@pytest.mark.parametrize("side", SIDES)
def test_no_pictures_give_no_edges(untrained, side):
    assert built(side, untrained)(torch.empty(0, 3, 8, 9)).shape == (0, 8, 9)


@pytest.mark.parametrize(
    "rgb",
    [torch.rand(3, 8, 8), torch.rand(1, 1, 8, 8), torch.zeros(1, 3, 8, 8, dtype=torch.uint8)],
    ids=["no batch", "grey", "bytes"],
)
def test_another_shape_or_type_is_refused_and_shown(rgb):
    with pytest.raises(ShapeError) as error:
        HED("1")(rgb)
    assert f"{list(rgb.shape)} {rgb.dtype}" in str(error.value)


@pytest.mark.parametrize("side", ["0", "6", 2, "fused"])
def test_an_unknown_side_is_refused_and_shown(side):
    with pytest.raises(OptionError, match=f"{side!r}: unknown; give one of 1, 2, 3, 4, 5, fuse"):
        HED(side)


def test_the_narrow_network_comes_with_the_package_and_is_ready_for_inference():
    before = torch.get_rng_state()
    net = HED.load_narrow()
    assert torch.equal(torch.get_rng_state(), before)
    assert (net.side, net.channels, net.depth) == ("3", NARROW_CHANNELS, 4)
    assert not net.training
    assert all(values.dtype == torch.float32 and not values.requires_grad for values in net.parameters())


def test_a_job_begun_with_other_narrow_weights_starts_afresh():
    """Who changes them raises STATE_FORM: a film's frames are all found by the same."""
    packed = resources.files("streamstyle.nets").joinpath(NARROW_FILE).read_bytes()
    known = "631bd6c8e667ea05b8e4cfe1769f2dfcae925516fd9848bd8b2ed2fc4362fd0c"
    assert (hashlib.sha256(packed).hexdigest(), STATE_FORM) == (known, 25)


@pytest.mark.parametrize(("dtype", "apart"), [(torch.bfloat16, 0.05), (torch.float16, 0.01)])
def test_the_narrow_network_in_half_precision_is_near_float32(device, dtype, apart):
    rgb = torch.rand(4, 3, 40, 56)
    rgb[1], rgb[2], rgb[3] = 0, 1, torch.tensor([1.0, 0, 0])[:, None, None]
    found = HED.load_narrow(device, dtype)(rgb.to(device))
    torch.testing.assert_close(found, HED.load_narrow(device)(rgb.to(device)), atol=apart, rtol=0)


def test_without_its_weights_the_narrow_network_says_so(monkeypatch):
    monkeypatch.setattr(hed, "NARROW_FILE", "gone.safetensors")
    with pytest.raises(
        WeightsError, match=r"gone\.safetensors is missing in streamstyle\.nets; install streamstyle again"
    ):
        HED.load_narrow()


@pytest.mark.weights
def test_the_narrow_network_sees_the_edges_and_likenesses_that_hed_sees(asset):
    """Of pictures it was not taught with: made here."""
    asset("hed")
    rgb = F.interpolate(torch.rand(4, 3, 6, 9), (96, 144), mode="bicubic").clamp(0, 1)
    rgb[:, :, 30:70, 40:90] *= 0.4
    layers = [(2, 2), (3, 2)]
    narrow, hed = HED.load_narrow(), HED.load("3", blocks=3)
    edges, features = hed.edges_and_features(rgb, layers)
    found, seen = narrow.edges_and_features(rgb, layers)
    assert (found - edges).abs().mean() < 0.05
    for mine, theirs in zip(seen, features, strict=True):
        cosines = [(unit := F.normalize(x.flatten(2), dim=1)).transpose(1, 2) @ unit for x in (mine, theirs)]
        assert (cosines[0] - cosines[1]).abs().mean() < 0.06


def test_channels_of_too_few_blocks_are_refused():
    with pytest.raises(OptionError, match=r"channels \(4, 6\): 3 blocks are built; give as many"):
        HED("3", channels=(4, 6))


@pytest.mark.parametrize("channels", [(4,), (4, 6), (4, 6, 8, 8, 8)])
def test_channels_may_be_any(channels):
    net = HED(str(len(channels)), channels=channels).requires_grad_(False)
    edges, features = net.edges_and_features(torch.rand(1, 3, 20, 30), [(len(channels), 1)])
    assert edges.shape == (1, 20, 30)
    assert features[0].shape[1] == channels[-1]
