import importlib
import importlib.metadata
import platform
import shutil
import sysconfig

import pytest
import torch

from streamstyle import doctor
from streamstyle.doctor import Check
from streamstyle.gpu import kernels, transfer
from streamstyle.media import codecs
from streamstyle.nets import int8, weights

NAMES = ["Python", "torch", "numpy", "kornia", "opencv", "safetensors", "h5py", "onnx", "av", "encoders", "decoders"]
NAMES += ["CPU", "CUDA", "CUDA kernels", "C++ compiler", "hed", "multistyle26"]
NAMES += ["arbitrary_predict", "arbitrary_transform", "bigbuckbunny"]


def row(name):
    return next(each for each in doctor.report() if each.name == name)


def test_every_row_is_there_and_this_machine_is_well(monkeypatch, tmp_path):
    monkeypatch.setenv("STREAMSTYLE_WEIGHTS", str(tmp_path))
    rows = doctor.report()
    assert [each.name for each in rows] == NAMES
    assert [each for each in rows if each.ok is False] == []
    assert all(each.detail and "\n" not in each.detail for each in rows)


def test_versions_are_the_installed_ones():
    assert row("Python").detail.startswith(platform.python_version())
    assert row("torch").detail == torch.__version__
    assert row("av").detail.startswith(importlib.metadata.version("av"))


def fail(*_, **__):
    raise RuntimeError("broken\nin two lines")


@pytest.mark.parametrize(
    ("where", "what", "name"),
    [
        (importlib, "import_module", "torch"),
        (platform, "python_version", "Python"),
        (codecs, "versions", "av"),
        (codecs, "has_encoder", "codecs"),
        (torch.cuda, "is_available", "CUDA"),
        (kernels, "available", "CUDA kernels"),
        (shutil, "which", "C++ compiler"),
        (doctor, "cpu_name", "CPU"),
        (weights, "status", "weights"),
    ],
)
def test_a_row_that_breaks_says_so_and_spares_the_others(monkeypatch, tmp_path, where, what, name):
    monkeypatch.setenv("STREAMSTYLE_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(where, what, fail)
    rows = doctor.report()
    broken = {each.name: each for each in rows if each.ok is False}
    assert broken[name].detail == "RuntimeError: broken in two lines"
    spared = {"numpy"} if what != "import_module" else {"CPU"}
    assert {each.name for each in rows if each.ok} >= spared


def test_a_library_that_does_not_load_is_a_failure_with_its_mend(monkeypatch):
    def load(name):
        if name == "cv2":
            raise ImportError("libGL.so.1: cannot open shared object file")
        return importlib.__import__(name)

    monkeypatch.setattr(importlib, "import_module", load)
    found = row("opencv")
    assert found.ok is False
    assert "libGL.so.1" in found.detail
    assert "opencv-python-headless" in found.mend


def test_kernels_that_do_not_compile_are_a_failure_with_its_mend(monkeypatch):
    monkeypatch.setattr(kernels, "available", lambda: (True, "H200, CuPy 14"))
    monkeypatch.setattr(kernels, "failing", list)
    assert row("CUDA kernels").ok
    assert row("CUDA kernels").detail.endswith(f"{len(kernels.stems())} compile")
    monkeypatch.setattr(kernels, "failing", lambda: ["kernels/color.cu: color_to_rgb does not compile (no driver)"])
    found = row("CUDA kernels")
    assert found.ok is False
    assert "no driver" in found.detail
    assert "streamstyle[cuda]" in found.mend


def test_without_cuda_the_reference_is_said_to_serve(monkeypatch):
    monkeypatch.setattr(kernels, "available", lambda: (False, "no CuPy"))
    found = row("CUDA kernels")
    assert found.ok is None
    assert "the torch reference instead (no CuPy)" in found.detail


def test_a_missing_encoder_fails_and_a_missing_decoder_is_told(monkeypatch):
    monkeypatch.setattr(codecs, "has_encoder", lambda name: name != "libx264")
    monkeypatch.setattr(codecs, "has_decoder", lambda name: name != "libdav1d" and name != "libaom-av1")
    assert row("encoders").ok is False
    assert row("encoders").detail == "without libx264"
    assert row("decoders").ok is None
    assert row("decoders").detail == "without av1: such films cannot be read"


def test_a_compiler_without_pythons_headers_is_not_enough(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/g++" if name == "g++" else None)
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    assert row("C++ compiler").ok is None
    assert "no Python.h" in row("C++ compiler").detail
    (tmp_path / "Python.h").touch()
    assert row("C++ compiler") == Check("C++ compiler", True, "/usr/bin/g++")


def test_no_compiler_is_no_failure(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert row("C++ compiler").ok is None
    assert "--compile off" in row("C++ compiler").mend


def test_weights_are_told_apart(monkeypatch, tmp_path):
    monkeypatch.setenv("STREAMSTYLE_WEIGHTS", str(tmp_path))
    (tmp_path / "hed.safetensors").write_bytes(b"damaged")
    assert row("hed").ok is None
    assert row("hed").detail.startswith("damaged")
    assert row("bigbuckbunny").detail == f"not yet fetched, {tmp_path / 'bigbuckbunny.mp4'}"
    assert row("bigbuckbunny").mend == "streamstyle weights --fetch"


def test_render_marks_aligns_and_mends():
    rows = [
        Check("torch", True, "2.13.0", "never shown"),
        Check("C++ compiler", None, "none", "install g++"),
        Check("av", False, "ImportError: no"),
    ]
    assert doctor.render(rows).splitlines() == [
        "  ok  torch         2.13.0",
        "  --  C++ compiler  none",
        "                    -> install g++",
        "FAIL  av            ImportError: no",
    ]


def test_render_of_nothing_is_nothing():
    assert doctor.render([]) == ""


@pytest.mark.parametrize(("bytes_", "halves"), [(True, True), (True, False), (False, True), (False, False)])
def test_the_cpu_row_says_what_edges_are_found_in(monkeypatch, bytes_, halves):
    monkeypatch.setattr(int8, "available", lambda: bytes_)
    monkeypatch.setattr(transfer, "has_native_bfloat16", lambda: halves)
    floats = "bfloat16" if halves else "float32"
    edges = "8-bit integers" if bytes_ else floats
    paint = floats if halves else edges
    said = f"bfloat16 {'yes' if halves else 'no'}, finds edges in {edges}, paints in {paint}"
    assert row("CPU").detail.endswith(said)
