import numpy as np
import pytest
import torch

from streamstyle.errors import ShapeError
from streamstyle.nets.stylenet import LAYERS, STYLES, StyleNet
from tests import oracles


def untrained() -> StyleNet:
    """Weights of a likely size, different in every style."""
    net = StyleNet()
    for weight, gamma, beta in zip(net.convolution, net.gamma, net.beta, strict=True):
        weight.normal_(0, (2 / weight[0].numel()) ** 0.5)
        gamma.normal_(1, 0.3)
        beta.normal_(0, 0.3)
    return net


def as_published(net: StyleNet) -> dict[str, np.ndarray]:
    """The net's tensors under their names in the cache."""
    named = {}
    for layer, weight, gamma, beta in zip(LAYERS, net.convolution, net.gamma, net.beta, strict=True):
        named |= {f"{layer.name}.w": weight, f"{layer.name}.norm.gamma": gamma, f"{layer.name}.norm.beta": beta}
    return {name: tensor.numpy() for name, tensor in named.items()}


@pytest.mark.parametrize("size", [(16, 16), (16, 40), (64, 96)])
def test_equals_onnx_runtime(size):
    net, rgb = untrained(), torch.rand(2, 3, *size)
    for style in (0, 7, 25):
        (expected,) = oracles.stylenet_session(as_published(net), style).run(None, {"rgb": rgb.numpy()})
        painted = net(rgb, style)
        assert painted.shape == rgb.shape
        assert painted.dtype == torch.float32
        assert np.abs(painted.numpy() - expected).max() < 1e-4


@pytest.mark.weights
def test_published_weights_equal_onnx_runtime(asset):
    asset("multistyle26")
    net = StyleNet.load()
    smooth = [oracles.smooth(np.random.default_rng(i), 64, 96, 3) for i in range(3)]
    rgb = torch.from_numpy(np.stack(smooth)).float()[None]
    painted = []
    for style in range(STYLES):
        (expected,) = oracles.stylenet_session(as_published(net), style).run(None, {"rgb": rgb.numpy()})
        painted.append(net(rgb, style))
        assert np.abs(painted[-1].numpy() - expected).max() < 1e-3
    apart = torch.cat(painted).flatten(1)
    closest = (torch.cdist(apart, apart) + torch.eye(STYLES) * 1e6).min()
    assert closest > 1, "two styles are the same"


def test_pictures_of_a_batch_do_not_touch_each_other():
    net, rgb = untrained(), torch.rand(3, 3, 20, 24)
    together = net(rgb, 3)
    for i in range(3):
        torch.testing.assert_close(net(rgb[i : i + 1], 3)[0], together[i], atol=1e-5, rtol=0)


def test_the_same_picture_gives_the_same_painting():
    net, rgb = untrained(), torch.rand(1, 3, 32, 32)
    assert torch.equal(net(rgb, 1), net(rgb, 1))
    assert not net.training
    assert not any(parameter.requires_grad for parameter in net.parameters())


@pytest.mark.parametrize(
    "shape", [(3, 16, 16), (1, 4, 16, 16), (1, 3, 12, 16), (1, 3, 16, 12), (1, 3, 18, 16), (1, 3, 16, 17)], ids=str
)
def test_another_shape_is_refused_and_shown(shape):
    with pytest.raises(ShapeError) as error:
        StyleNet()(torch.zeros(shape), 0)
    assert str(list(shape)) in str(error.value)
