import sys
import types

import pytest
import torch

from streamstyle.errors import DeviceError
from streamstyle.gpu import kernels


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """An installed wheel's folder and a repository's, both empty."""
    pair = tmp_path / "streamstyle" / "_kernels", tmp_path / "kernels"
    for folder in pair:
        folder.mkdir(parents=True)
    monkeypatch.setattr(kernels, "_FOLDERS", pair)
    return pair


@pytest.mark.parametrize("place", [0, 1], ids=["in the wheel", "in the repository"])
def test_source_is_found_in_either_place(folders, place):
    path = folders[place] / "blur.cu"
    path.touch()
    assert kernels.source("blur") == path


def test_a_source_that_is_not_there_names_those_that_are(folders):
    with pytest.raises(DeviceError, match=r"no CUDA source blur\.cu; there are: none"):
        kernels.source("blur")
    for stem in ("sobel", "otsu"):
        (folders[1] / f"{stem}.cu").touch()
    with pytest.raises(DeviceError, match="there are: otsu, sobel"):
        kernels.source("blur")


def test_one_of_the_two_places_is_here():
    assert any((folder / "README.md").is_file() for folder in kernels._FOLDERS)


class FakeCupy(types.ModuleType):
    """A CuPy that sees `count` devices, or fails as the real one does under an old driver."""

    __version__ = "13.0"

    def __init__(self, count):
        super().__init__("cupy")
        self.count = count
        self.cuda = types.SimpleNamespace(runtime=types.SimpleNamespace(getDeviceCount=self.devices))

    def devices(self):
        if isinstance(self.count, Exception):
            raise self.count
        return self.count


@pytest.fixture
def cuda_torch(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "H200")


def test_a_torch_without_cuda_is_the_reason(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    can, why = kernels.available()
    assert not can
    assert "is built without CUDA" in why


def test_no_device_is_the_reason(cuda_torch, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    can, why = kernels.available()
    assert not can
    assert "finds no CUDA device" in why


def test_no_cupy_is_the_reason(cuda_torch, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    can, why = kernels.available()
    assert not can
    assert "pip install 'streamstyle[cuda]'" in why


@pytest.mark.parametrize(
    ("count", "reason"),
    [
        (RuntimeError("driver too old\nsee the manual"), "cannot use the device (driver too old)"),
        (RuntimeError(), "cannot use the device (RuntimeError)"),
        (0, "finds no CUDA device"),
    ],
)
def test_a_cupy_that_cannot_is_the_reason(cuda_torch, monkeypatch, count, reason):
    monkeypatch.setitem(sys.modules, "cupy", FakeCupy(count))
    can, why = kernels.available()
    assert not can
    assert reason in why
    assert "\n" not in why


def test_all_there(cuda_torch, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", FakeCupy(1))
    assert kernels.available() == (True, "H200, CuPy 13.0")


def test_the_answer_fits_this_machine():
    can, detail = kernels.available()
    assert detail
    if can:
        assert torch.cuda.is_available()
        import cupy

        assert cupy.__version__ in detail
