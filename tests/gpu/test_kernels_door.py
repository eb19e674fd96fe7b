import contextlib
import sys
import types

import numpy as np
import pytest
import torch

from streamstyle.errors import DeviceError, ShapeError
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


# -- launching --------------------------------------------------------------------------------------------------------

SOURCE = """
// KERNEL commented_out is no entry
#ifndef SCALAR
#define SCALAR float
#endif
#ifndef RUNS
#define RUNS 16  // at most, in a word
#endif
#define TWICE (2 * RUNS)
#define DAMPING	4// of a step
KERNEL blur_rows(const u8* __restrict__ mask, const SCALAR* y, i64* __restrict__ out, i64 count, int width,
                 float share) {}
KERNEL blur_columns(int* labels) {}
"""


SOURCES = (kernels.entries, kernels.text, kernels._macros, kernels._dtypes, kernels._converters)
"""What is remembered of sources."""


@pytest.fixture
def launched(folders, monkeypatch):
    """A source with two entries, and the list of what is launched from it."""
    (folders[1] / "blur.cu").write_text(SOURCE)
    (folders[1] / "common.cuh").write_text("// nothing in common")
    calls = []
    monkeypatch.setattr(kernels, "_runner", lambda *call: calls.append(call))
    for cached in SOURCES:
        cached.cache_clear()
    yield calls
    for cached in SOURCES:
        cached.cache_clear()


def arguments(**other):
    values = {
        "mask": torch.zeros(2, 3, dtype=torch.uint8),
        "y": torch.zeros(4),
        "out": torch.zeros(4, dtype=torch.int64),
        "count": 5,
        "width": 6,
        "share": 0.5,
    }
    return list((values | other).values())


def test_tunables_are_read_from_the_source_also_with_a_comment(launched):
    assert (kernels.tunable("blur", "RUNS"), kernels.tunable("blur", "DAMPING")) == (16, 4)
    assert kernels._macros("blur").keys() == {"SCALAR", "RUNS", "DAMPING"}


def test_entries_and_their_parameters_are_read_from_the_source(launched):
    entries = kernels.entries("blur")
    assert list(entries) == ["blur_rows", "blur_columns"]
    assert [(p.kind, p.name, p.pointer, p.const) for p in entries["blur_rows"]] == [
        ("u8", "mask", True, True),
        ("SCALAR", "y", True, True),
        ("i64", "out", True, False),
        ("i64", "count", False, False),
        ("int", "width", False, False),
        ("float", "share", False, False),
    ]


@pytest.mark.parametrize(
    ("size", "by_block", "blocks"),
    [(1, False, 1), (256, False, 1), (257, False, 2), (300, True, 300), (10**9, True, 1 << 16)],
)
def test_a_launch_has_enough_blocks_and_not_too_many(launched, size, by_block, blocks):
    values = arguments()
    kernels.launch("blur", "blur_rows", size, *values, by_block=by_block)
    assert launched == [("blur", "blur_rows", blocks, kernels.THREADS, values, {})]


def test_nothing_is_launched_for_nothing(launched):
    kernels.launch("blur", "blur_rows", 0, *arguments())
    assert launched == []


def test_a_macro_names_the_dtype(launched):
    y = torch.zeros(4, dtype=torch.bfloat16)
    kernels.launch("blur", "blur_rows", 1, *arguments(y=y), SCALAR="bf16")
    assert launched[0][5] == {"SCALAR": "bf16"}
    with pytest.raises(ShapeError, match=r"y must be f16, got torch\.bfloat16 \[4\]"):
        kernels.launch("blur", "blur_rows", 1, *arguments(y=y), SCALAR="f16")


@pytest.mark.parametrize(
    ("other", "complaint"),
    [
        ({"mask": torch.zeros(2, 3)}, r"blur_rows: mask must be u8, got torch\.float32 \[2, 3\]"),
        (
            {"mask": torch.zeros(4, 3, dtype=torch.uint8).T},
            r"mask must be contiguous, got \[3, 4\] with strides \(1, 3\)",
        ),
        ({"out": 3}, "out must be a tensor, got int"),
        ({"width": torch.zeros(1)}, "width must be a number, got Tensor"),
        ({"width": 2**31}, "width must fit 32 bits, got 2147483648"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_and_shown(launched, other, complaint):
    with pytest.raises(ShapeError, match=complaint):
        kernels.launch("blur", "blur_rows", 1, *arguments(**other))
    assert launched == []


def test_tensors_on_two_devices_are_refused_and_shown(launched):
    with pytest.raises(ShapeError, match="all tensors must be on one device, got cpu, meta"):
        kernels.launch("blur", "blur_rows", 1, *arguments(y=torch.zeros(4, device="meta")))
    assert launched == []


def test_too_few_values_and_an_unknown_entry_are_refused(launched):
    with pytest.raises(ShapeError, match="takes 6 arguments, got 1"):
        kernels.launch("blur", "blur_rows", 1, 5)
    with pytest.raises(DeviceError, match=r"blur\.cu has no entry blur_all; it has blur_rows, blur_columns"):
        kernels.launch("blur", "blur_all", 1)


def test_common_code_is_put_into_the_text():
    text = kernels.text("connected_components")
    assert "#include" not in text.replace("#include <", "")
    assert "warp_run" in text


# -- choosing ---------------------------------------------------------------------------------------------------------


def test_a_cpu_tensor_is_not_launched_for_unless_asked():
    assert not kernels.chosen("auto", torch.zeros(1))
    assert not kernels.chosen("ref", torch.zeros(1))


def test_kernels_that_cannot_be_had_are_an_error_that_says_why(monkeypatch):
    monkeypatch.setattr(kernels, "available", lambda: (False, "CuPy is not installed"))
    with pytest.raises(DeviceError, match="impl='cuda': CuPy is not installed"):
        kernels.chosen("cuda", torch.zeros(1))
    monkeypatch.setattr(kernels, "available", lambda: (True, "H200"))
    with pytest.raises(DeviceError, match="impl='cuda': the tensor is on cpu"):
        kernels.chosen("cuda", torch.zeros(1))


def test_another_impl_is_refused_and_shown():
    with pytest.raises(ShapeError, match="got 'fast'"):
        kernels.chosen("fast", torch.zeros(1))


def test_a_source_that_does_not_compile_is_named(launched, monkeypatch):
    class Module:
        def get_function(self, entry):
            if entry == "blur_columns":
                raise RuntimeError("error: expected a ;\nand much more")
            return entry

    monkeypatch.setattr(kernels, "_module", lambda stem, device, defines: Module())
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    kernels._function.cache_clear()
    assert kernels.failing() == ["kernels/blur.cu: blur_columns does not compile (error: expected a ;)"]
    kernels._function.cache_clear()


@pytest.mark.parametrize("current", [-1, 5])
@pytest.mark.parametrize("version", [13, 14])
def test_cupy_is_given_pointers_and_numbers_of_the_declared_types(launched, monkeypatch, version, current):
    """What CuPy gets, seen by a stand-in: types, grid, stream, build options."""
    seen = {}

    class Function:
        def __call__(self, grid, block, values):
            seen.update(grid=grid, block=block, values=values, inside=dict(seen["entered"]))

    class RawModule:
        def __init__(self, code, options, backend):
            seen.update(code=code, options=options, backend=backend)

        def get_function(self, entry):
            seen["entry"] = entry
            return Function()

    def entering(kind):
        @contextlib.contextmanager
        def enter(which):
            seen.setdefault("entered", {})[kind] = which
            yield

        return enter

    cupy = types.ModuleType("cupy")
    cupy.RawModule = RawModule
    enter = entering("stream")
    if version == 13:
        stream = {"Stream": object, "ExternalStream": enter}
    else:
        protocol = types.SimpleNamespace(from_external=lambda given: enter(given.__cuda_stream__()[1]))
        stream = {"Stream": protocol, "ExternalStream": None}
    cupy.cuda = types.SimpleNamespace(**stream)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(torch.cuda, "device", entering("device"))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: current)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: types.SimpleNamespace(cuda_stream=1234))
    monkeypatch.setattr(kernels, "_runner", kernels._run_with_cupy)
    for cached in (kernels._function, kernels._module, kernels._torch_stream):
        cached.cache_clear()
    values = arguments(y=torch.zeros(4, dtype=torch.float16))
    kernels.launch("blur", "blur_rows", 600, *values, SCALAR="f16")
    assert (seen["entry"], seen["grid"], seen["block"]) == ("blur_rows", (3,), (256,))
    assert [type(value) for value in seen["values"]] == [int, int, int, int, np.int32, np.float32]
    assert seen["values"][0] == values[0].data_ptr()
    assert seen["inside"]["stream"] == 1234
    assert seen["inside"].get("device") == (None if current == -1 else -1)  # the tensors', where it is another
    assert "-DSCALAR=f16" in seen["options"]
    assert not any("fast" in option for option in seen["options"])
    assert seen["backend"] == "nvrtc"
    for cached in (kernels._function, kernels._module, kernels._torch_stream):
        cached.cache_clear()
