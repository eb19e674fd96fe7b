import contextlib
import io
import json
import re
import struct

import numpy as np
import pytest
import torch

from streamstyle.errors import OutputError, ShapeError, WeightsError
from streamstyle.nets.johnson import JohnsonNet
from streamstyle.nets.johnson_file import EXAMPLES, LENGSTROM
from tests import oracles
from tests.clips import data
from tests.johnson_nets import (
    painted_by,
    painted_by_variables,
    save,
    save_variables,
    transformer,
    variables,
)


def picture(height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Smooth colours, float32 [1, 3, H, W] in 0..1."""
    smooth = [oracles.smooth(np.random.default_rng(seed + i), height, width, 3) for i in range(3)]
    return torch.from_numpy(np.stack(smooth)).float()[None]


# -- the recipes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blocks", [0, 1, 2])
@pytest.mark.parametrize("size", [(16, 16), (20, 48)])
def test_paints_what_pytorch_examples_paints(tmp_path, size, blocks):
    theirs, rgb = transformer(blocks=blocks), torch.rand(2, 3, *size)
    net = JohnsonNet.read(save(tmp_path / "candy.safetensors", theirs.state_dict()))
    assert net.recipe == EXAMPLES
    painted, expected = net(rgb), painted_by(theirs, rgb)
    assert 0.1 < expected.std() < 0.5
    torch.testing.assert_close(painted, expected, atol=2e-5, rtol=0)


def test_at_the_published_size(tmp_path):
    theirs, rgb = transformer((32, 64, 128, 64, 32), 5), picture(32, 40)
    net = JohnsonNet.read(save(tmp_path / "candy.safetensors", theirs.state_dict()))
    torch.testing.assert_close(net(rgb), painted_by(theirs, rgb), atol=2e-5, rtol=0)


def test_old_names_of_training_are_left_out(tmp_path):
    """Of torch before 0.4, and of DataParallel."""
    theirs, rgb = transformer(), torch.rand(1, 3, 16, 16)
    named = {f"module.{name}": x for name, x in theirs.state_dict().items()}
    named |= {f"module.res1.in1.{name}": torch.full((16,), torch.nan) for name in ("running_mean", "running_var")}
    net = JohnsonNet.read(save(tmp_path / "old.safetensors", named))
    torch.testing.assert_close(net(rgb), painted_by(theirs, rgb), atol=2e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_are_read(tmp_path, dtype):
    theirs, rgb = transformer().to(dtype), torch.rand(1, 3, 16, 16)
    net = JohnsonNet.read(save(tmp_path / "candy.safetensors", theirs.state_dict()))
    assert {x.dtype for x in net.parameters()} == {torch.float32}
    torch.testing.assert_close(net(rgb), painted_by(theirs.float(), rgb), atol=2e-5, rtol=0)


@pytest.mark.parametrize("size", [(16, 16), (20, 48)])
def test_paints_what_lengstrom_paints(tmp_path, size):
    named = variables()
    trained = {"Variable/Adam": named["Variable"], "beta1_power": np.float32([0.9])}
    net = JohnsonNet.read(save_variables(tmp_path / "wave.safetensors", named | trained))
    assert net.recipe == LENGSTROM
    rgb = torch.rand(1, 3, *size)
    expected = painted_by_variables(named, rgb[0].permute(1, 2, 0).numpy())
    assert np.abs(net(rgb)[0].permute(1, 2, 0).numpy() - expected).max() < 2e-5


def test_the_great_wave(tmp_path):
    with np.load(data("weights/faststyle_wave_fp32.npz")) as archive:
        named = dict(archive)
    net = JohnsonNet.read(save_variables(tmp_path / "wave.safetensors", named))
    assert len(net.layers) == 16
    rgb = picture(32, 48)
    painted = net(rgb)
    expected = painted_by_variables(named, rgb[0].permute(1, 2, 0).numpy())
    assert np.abs(painted[0].permute(1, 2, 0).numpy() - expected).max() < 1e-4
    red, _, blue = painted[0].flatten(1)
    assert painted.std() > 0.15, "grey mush"
    assert torch.corrcoef(torch.stack((red, blue)))[0, 1] < 0.99, "blue and cream, not grey"


def test_numbers_beyond_the_picture_stay_for_training(tmp_path):
    net = JohnsonNet.read(save(tmp_path / "candy.safetensors", transformer().state_dict()))
    rgb = torch.rand(1, 3, 16, 16)
    net.bias += 127
    beyond = net(rgb, clamp=False)
    assert beyond.max() > 1
    assert torch.equal(beyond.clamp(0, 1), net(rgb))


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 4, 16, 16), (1, 3, 12, 16), (1, 3, 18, 16)], ids=str)
def test_another_shape_is_refused_and_shown(tmp_path, shape):
    net = JohnsonNet.read(save(tmp_path / "candy.safetensors", transformer().state_dict()))
    with pytest.raises(ShapeError, match=re.escape(str([*shape]))):
        net(torch.zeros(shape))


# -- streamstyle's own form -------------------------------------------------------------------------------------------


def test_what_is_written_is_read(tmp_path):
    net = JohnsonNet.read(save(tmp_path / "candy.safetensors", transformer().state_dict()))
    net.write(tmp_path / "own.safetensors", {"title": "Candy"})
    again, rgb = JohnsonNet.read(tmp_path / "own.safetensors"), torch.rand(1, 3, 16, 16)
    assert torch.equal(again(rgb), net(rgb))
    length = struct.unpack("<Q", (tmp_path / "own.safetensors").read_bytes()[:8])[0]
    header = json.loads((tmp_path / "own.safetensors").read_bytes()[8 : 8 + length])
    assert json.loads(header["__metadata__"]["streamstyle"]) == {"title": "Candy", "network": "johnson", "version": 1}


def test_what_cannot_be_written(tmp_path):
    net = JohnsonNet.read(save(tmp_path / "candy.safetensors", transformer().state_dict()))
    with pytest.raises(OutputError, match="cannot write"):
        net.write(tmp_path / "absent" / "own.safetensors")
    wave = JohnsonNet.read(save_variables(tmp_path / "wave.safetensors", variables()))
    with pytest.raises(OutputError, match="transposed"):
        wave.write(tmp_path / "own.safetensors")


@pytest.mark.parametrize("own", ['{"network": "johnson", "version": 2}', '{"network": "other"}', "[]", "no JSON"])
def test_a_form_of_another_version_is_refused(tmp_path, own):
    path = save(tmp_path / "own.safetensors", transformer().state_dict(), {"streamstyle": own})
    with pytest.raises(WeightsError, match="update streamstyle"):
        JohnsonNet.read(path)


# -- what is no such file ---------------------------------------------------------------------------------------------


def refused(path, *words: str) -> str:
    """The one line that says why path is refused, with each of the words in it."""
    with pytest.raises(WeightsError) as error:
        JohnsonNet.read(path)
    said = str(error.value)
    assert "\n" not in said
    assert len(said) < 600
    assert str(path) in said
    for word in words:
        assert word in said
    return said


def test_no_file_and_no_file_of_bytes(tmp_path):
    refused(tmp_path / "absent.safetensors", "no such file", "streamstyle styles")
    refused(tmp_path, "folder")


@pytest.mark.parametrize("old", [False, True])
def test_a_pickle_is_not_opened_and_its_mend_works(tmp_path, old):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    for name, content in (("evil.pth", {"x": Evil()}), ("candy.safetensors", transformer().state_dict())):
        torch.save(content, tmp_path / name, _use_new_zipfile_serialization=not old)
        said = refused(tmp_path / name, "pickle", "weights_only=True")
    assert not (tmp_path / "ran").exists()
    path = tmp_path / "candy.pth"
    torch.save(transformer().state_dict(), path, _use_new_zipfile_serialization=not old)
    said = refused(path, "pickle")
    exec(re.search(r'python -c "(.*)"', said)[1])
    assert len(JohnsonNet.read(tmp_path / "candy.safetensors").layers) == 10


def test_a_numpy_archive_and_its_mend(tmp_path):
    path = tmp_path / "wave.npz"
    np.savez(path, **variables())
    exec(re.search(r'python -c "(.*)"', refused(path, "NumPy"))[1])
    assert len(JohnsonNet.read(tmp_path / "wave.safetensors").layers) == 10


def header_of(header: object, body: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x05",
        b"PK\x03\x04 and no archive",
        b"\x89HDF\r\n\x1a\n" + bytes(64),
        struct.pack("<Q", 1 << 62) + b"{}",
        struct.pack("<Q", 99_000_000) + b"{}",
        struct.pack("<Q", 2) + b"{",
        struct.pack("<Q", 4) + b"\xff\xfe{}",
        header_of([]),
        header_of({"conv1.conv2d.weight": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}),
        header_of({"conv1.conv2d.weight": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, bytes(4)),
        header_of({"conv1.conv2d.weight": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}}, bytes(8)),
    ],
    ids=lambda content: repr(content[:12]),
)
def test_damaged_files(tmp_path, content):
    path = tmp_path / "candy.safetensors"
    path.write_bytes(content)
    refused(path, "again")


@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_a_file_cut_short(tmp_path, share):
    path = save(tmp_path / "candy.safetensors", transformer().state_dict())
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    refused(path, "cut short", "again")


def test_a_network_of_another_kind(tmp_path):
    layers = {f"model.layers.{i}.mlp.up_proj.weight": torch.zeros(4, 4) for i in range(9)}
    refused(save(tmp_path / "llm.safetensors", layers), "model.layers.0.mlp.up_proj.weight", "9 in all", "Variable_1")
    refused(save(tmp_path / "none.safetensors", {}), "no tensors")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"res1.conv1.conv2d.weight": None}, ("res1.conv1.conv2d.weight is missing",)),
        ({"deconv3.conv2d.weight": None}, ("deconv3.conv2d.weight is missing",)),
        ({"in6.weight": torch.zeros(3)}, ("in6.weight is of another network",)),
        ({"conv2.conv2d.weight": torch.zeros(12, 8, 5, 5)}, ("[12, 8, 5, 5]", "[12, 8, 3, 3]")),
        ({"conv2.conv2d.weight": torch.zeros(())}, ("[]",)),
        ({"conv2.conv2d.weight": torch.zeros(0, 8, 3, 3)}, ("[0, 8, 3, 3]",)),
        ({"in1.weight": torch.zeros(9)}, ("[9]", "[8]")),
        ({"conv1.conv2d.weight": torch.zeros(1025, 3, 9, 9)}, ("1024 channels",)),
        ({"in3.bias": torch.full((16,), torch.nan)}, ("in3.bias", "NaN")),
        ({"conv3.conv2d.weight": torch.full((16, 12, 3, 3), torch.inf)}, ("conv3.conv2d.weight", "infinite")),
        ({"in3.bias": torch.zeros(16, dtype=torch.int8)}, ("in3.bias is I8", "unquantised")),
        ({f"res{i}.conv1.conv2d.weight": torch.zeros(1) for i in range(3, 99)}, ("98 residual blocks",)),
    ],
)
def test_a_network_that_does_not_fit_is_refused_and_shown(tmp_path, change, words):
    named = {name: x for name, x in (transformer().state_dict() | change).items() if x is not None}
    refused(save(tmp_path / "candy.safetensors", named), *words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"Variable_29": None}, ("29 tensors", "18, 24")),
        ({"Variable_28": None, "Variable_99": np.zeros(10)}, ("Variable_28 is missing",)),
        ({"Variable_27": np.zeros((3, 3, 16, 10))}, ("Variable_27", "[3, 3, 16, 10]")),
        ({"Variable_4": np.full(12, np.nan, np.float32)}, ("Variable_4", "NaN")),
        ({f"Variable_{i}": np.zeros(1) for i in range(30, 600)}, ("residual blocks",)),
        ({"logits": np.zeros(3)}, ("logits",)),
    ],
)
def test_variables_that_do_not_fit_are_refused_and_shown(tmp_path, change, words):
    named = {name: x for name, x in (variables() | change).items() if x is not None}
    refused(save_variables(tmp_path / "wave.safetensors", named), *words)


def test_flipped_bits_are_an_error_or_a_network(tmp_path):
    """Never another exception."""
    good = bytearray(save(tmp_path / "candy.safetensors", transformer((4, 4, 4, 4, 4), 1).state_dict()).read_bytes())
    random = np.random.default_rng(0)
    header = struct.unpack("<Q", good[:8])[0]
    path = tmp_path / "flipped.safetensors"
    for at in [*range(9), *random.integers(9, 8 + header, 150)]:
        bad = bytearray(good)
        bad[at] ^= 1 << random.integers(8)
        path.write_bytes(bad)
        with contextlib.suppress(WeightsError):
            JohnsonNet.read(path)


def test_the_network_keeps_no_hold_of_its_file(tmp_path):
    path = save(tmp_path / "candy.safetensors", transformer().state_dict())
    net, rgb = JohnsonNet.read(path), torch.rand(1, 3, 16, 16)
    before = net(rgb)
    with path.open("r+b") as file:
        file.seek(-4096, io.SEEK_END)
        file.write(bytes(4096))
    assert torch.equal(net(rgb), before)
