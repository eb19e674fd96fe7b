import numpy as np
import pytest
import torch
import torch.nn.functional as F

from streamstyle.errors import OptionError, ShapeError, WeightsError
from streamstyle.nets.vgg import CONVOLUTIONS, VGG16, gram

CHANNELS = dict(zip(CONVOLUTIONS, [64, 64, 128, 128, 256, 256, 256, 512, 512, 512], strict=True))
TORCHVISION = dict(zip(CONVOLUTIONS, [0, 2, 5, 7, 10, 12, 14, 17, 19, 21], strict=True))


@pytest.fixture(scope="module")
def published():
    """Random weights of the published shapes, by name."""
    generator, made, inputs = torch.Generator().manual_seed(0), {}, 3
    for name, channels in CHANNELS.items():
        made[f"{name}.weight"] = torch.randn(channels, inputs, 3, 3, generator=generator) * (2 / (9 * inputs)) ** 0.5
        made[f"{name}.bias"] = torch.randn(channels, generator=generator) * 0.1
        inputs = channels
    return made


def features(x, published, name):
    """The plain formula from normalised pictures on."""
    for each in CONVOLUTIONS:
        if each.endswith("_1") and each != "conv1_1":
            x = F.max_pool2d(x, 2)
        x = F.relu(F.conv2d(x, published[f"{each}.weight"], published[f"{each}.bias"], padding=1))
        if each == name:
            return x
    raise AssertionError(name)


@pytest.fixture(scope="module")
def files(published, tmp_path_factory):
    """Both published forms of the same numbers."""
    folder = tmp_path_factory.mktemp("vgg")
    np.savez(folder / "vgg.npz", **{key: value.numpy() for key, value in published.items()})
    state = {f"features.{TORCHVISION[key[:7]]}{key[7:]}": value for key, value in published.items()}
    torch.save(state | {"classifier.0.weight": torch.zeros(2, 2)}, folder / "vgg.pth")
    return folder


def test_the_original_takes_blue_first_and_bytes_minus_the_mean(files, published):
    rgb = torch.rand(2, 3, 17, 22)
    bgr = rgb.flip(1) * 255 - torch.tensor([103.939, 116.779, 123.68]).view(1, 3, 1, 1)
    found = VGG16.load(files / "vgg.npz")(rgb, ["conv1_1", "conv2_2"])
    assert list(found) == ["conv1_1", "conv2_2"]
    for name in found:
        torch.testing.assert_close(found[name], features(bgr, published, name), rtol=1e-4, atol=1e-2)


def test_torchvisions_takes_normalised_rgb(files, published):
    rgb = torch.rand(1, 3, 24, 16)
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = (rgb - mean.view(1, 3, 1, 1)) / deviation.view(1, 3, 1, 1)
    found = VGG16.load(files / "vgg.pth")(rgb)
    assert list(found) == ["conv1_2", "conv2_2", "conv3_3", "conv4_3"]
    for name in found:
        torch.testing.assert_close(found[name], features(x, published, name), rtol=1e-4, atol=1e-4)


def test_gradients_reach_the_picture_and_not_the_weights(files):
    net = VGG16.load(files / "vgg.pth")
    rgb = torch.rand(1, 3, 16, 16, requires_grad=True)
    gram(net(rgb, ["conv2_1"])["conv2_1"]).sum().backward()
    assert rgb.grad is not None
    assert rgb.grad.abs().sum() > 0
    assert all(weight.grad is None for weight in net.parameters())


def test_gram_is_the_mean_of_products():
    x = torch.rand(2, 5, 3, 4)
    expected = torch.einsum("nchw,ndhw->ncd", x, x) / 12
    torch.testing.assert_close(gram(x), expected)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.npz", None, "no such file"),
        ("a.pth", None, "no such file"),
        ("a.npz", b"text", "not VGG-16 weights"),
        ("a.pth", b"text", "not VGG-16 weights"),
        ("a.npz", {"conv1_1.weight": np.zeros((64, 3, 5, 5))}, r"conv1_1.weight is \[64, 3, 5, 5\], expected"),
        ("a.npz", {"x": np.zeros(3)}, "conv1_1.weight is absent"),
        ("a.pth", {"features.0.bias": torch.zeros(3)}, "conv1_1.weight is absent"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path, name, content, said):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None and name == "a.npz":
        np.savez(path, **content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(WeightsError, match=said) as error:
        VGG16.load(path)
    assert "\n" not in str(error.value)


def test_a_pickle_that_would_run_something_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").touch, ())

    torch.save(Evil(), tmp_path / "a.pth")
    with pytest.raises(WeightsError):
        VGG16.load(tmp_path / "a.pth")
    assert not (tmp_path / "ran").exists()


def test_wrong_pictures_and_layers_are_refused(files):
    net = VGG16.load(files / "vgg.npz")
    for rgb in (torch.rand(3, 9, 9), torch.rand(1, 3, 7, 9), torch.zeros(1, 3, 9, 9, dtype=torch.uint8)):
        with pytest.raises(ShapeError, match="got"):
            net(rgb)
    with pytest.raises(OptionError, match="conv5_1"):
        net(torch.rand(1, 3, 9, 9), ["conv5_1"])
