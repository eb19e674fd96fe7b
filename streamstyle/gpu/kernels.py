"""The only door to kernels/*.cu, and the only file that imports CuPy (lazily: nothing here needs a GPU to import).

>>> launch("connected_components", "connected_components_number", chunks, labels, ids, count, pixels, by_block=True)

Arguments are checked against the entry's own signature, so a wrong dtype is an error here and not garbage there.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from streamstyle.errors import DeviceError, ShapeError

_PACKAGE = Path(__file__).resolve().parents[1]
_FOLDERS = (_PACKAGE / "_kernels", _PACKAGE.parent / "kernels")  # in an installed wheel; in the repository
THREADS = 256
MOST_BLOCKS = 1 << 16
"""Blocks beyond this make a grid-stride loop go round once more; enough to fill any device many times over."""

_ENTRY = re.compile(r"^KERNEL\s+(?:__launch_bounds__\([^)]*\)\s+)?(\w+)\s*\(([^)]*)\)", re.MULTILINE)
_MACRO = re.compile(r"^#define[ \t]+(\w+)[ \t]+(\w+)[ \t]*(?://.*)?$", re.MULTILINE)
_POINTEES: dict[str, tuple[torch.dtype, ...]] = {
    "u8": (torch.uint8, torch.bool),
    "u16": (torch.uint16,),
    "int": (torch.int32,),
    "i64": (torch.int64,),
    "u64": (torch.int64,),  # torch has few operations on uint64
    "float": (torch.float32,),
    "double": (torch.float64,),
    "bf16": (torch.bfloat16,),
    "f16": (torch.float16,),
}
_NUMBERS: dict[str, Callable[[Any], Any]] = {"int": np.int32, "i64": int, "float": np.float32, "double": float}
"""As CuPy takes numbers: Python's own have 64 bits there, as pointers have."""
SCALARS = {torch.float32: "float", torch.bfloat16: "bf16", torch.float16: "f16"}
"""Names of floating dtypes in the kernels, for defines such as {"SCALAR": ...}."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of an entry: its type without const, whether it is a pointer, and whether it is only read."""

    kind: str
    name: str
    pointer: bool
    const: bool


# What runs a kernel: (stem, entry, blocks, threads, values in order, defines). Tests put the CPU shim here.
Runner = Callable[[str, str, int, int, list[Any], dict[str, str]], None]


def source(stem: str) -> Path:
    """The path of a kernel's source, ``<stem>.cu``.

    Raises:
        DeviceError: there is none of that name; the message lists those there are.
    """
    for folder in _FOLDERS:
        path = folder / f"{stem}.cu"
        if path.is_file():
            return path
    raise DeviceError(f"no CUDA source {stem}.cu; there are: {', '.join(stems()) or 'none'}")


@functools.cache
def text(stem: str) -> str:
    """A kernel's source with common.cuh put in its place: CuPy's cache key leaves out what a source includes."""
    path = source(stem)
    common = (path.parent / "common.cuh").read_text("utf-8")
    return path.read_text("utf-8").replace('#include "common.cuh"', common)


@functools.cache
def entries(stem: str) -> dict[str, tuple[Parameter, ...]]:
    """The entries of a kernel's source and their parameters."""
    found = {}
    for name, parameters in _ENTRY.findall(source(stem).read_text("utf-8")):
        found[name] = tuple(_parameter(one) for one in parameters.split(","))
    return found


@functools.cache
def _macros(stem: str) -> dict[str, str]:
    """What a source's own macros stand for unless a build says otherwise."""
    return dict(_MACRO.findall(source(stem).read_text("utf-8")))


def tunable(stem: str, name: str) -> int:
    """A number that a source defines and its launcher must know, such as the items of a thread."""
    return int(_macros(stem)[name])


def _parameter(declared: str) -> Parameter:
    words = declared.replace("*", " * ").split()
    kind = next(word for word in words if word not in ("const", "unsigned", "__restrict__"))
    return Parameter(kind, words[-1], "*" in words, "const" in words)


def available() -> tuple[bool, str]:
    """Whether CUDA kernels can run here, and on what, or else why not and what mends it. Never raises."""
    if torch.version.cuda is None:
        return False, f"torch {torch.__version__} is built without CUDA"
    if not torch.cuda.is_available():
        return False, f"torch {torch.__version__} finds no CUDA device; check the driver with nvidia-smi"
    try:
        import cupy

        count = cupy.cuda.runtime.getDeviceCount()
    except ImportError as error:
        return False, f"CuPy cannot be imported ({_one_line(error)}); pip install 'streamstyle[cuda]'"
    except Exception as error:  # cupy_backends' own errors: a driver too old, a library that cannot be loaded
        return False, f"CuPy {cupy.__version__} cannot use the device ({_one_line(error)})"
    if count == 0:
        return False, f"CuPy {cupy.__version__} finds no CUDA device"
    return True, f"{torch.cuda.get_device_name()}, CuPy {cupy.__version__}"


def stems() -> list[str]:
    """The sources there are, without their ending."""
    return sorted({path.stem for folder in _FOLDERS for path in folder.glob("*.cu")})


def failing() -> list[str]:
    """Compile every source for the current device, as the first frame would: one line for each that cannot."""
    lines = []
    for stem in stems():
        try:
            for entry in entries(stem):
                _function(stem, entry, torch.cuda.current_device(), ())
        except DeviceError as error:
            lines.append(str(error))
    return lines


@functools.cache
def _usable() -> bool:
    return available()[0]


def chosen(impl: str, tensor: Tensor) -> bool:
    """Whether a stage should launch its kernels for this tensor.

    Args:
        impl: "auto" launches where the tensor is on a CUDA device and CuPy works; "cuda" insists; "ref" never does.
        tensor: the stage's input.

    Raises:
        DeviceError: "cuda" is asked for and cannot be had; the message says why.
        ShapeError: there is no such impl.
    """
    if impl not in ("auto", "ref", "cuda"):
        raise ShapeError(f"impl must be auto, ref or cuda, got {impl!r}")
    if impl == "ref":
        return False
    if impl == "cuda" and _runner is _run_with_cupy:
        works, why = available()
        if not works or not tensor.is_cuda:
            raise DeviceError(f"impl='cuda': {why if not works else f'the tensor is on {tensor.device}'}")
    return impl == "cuda" or (tensor.is_cuda and _usable())


def launch(
    stem: str, entry: str, size: int, *values: Tensor | int | float, by_block: bool = False, **defines: str
) -> None:
    """Launch an entry on torch's current CUDA stream.

    Args:
        stem: the kernel's source.
        entry: the entry's name.
        size: how many items there are to do: threads, or blocks where by_block. Nothing happens where it is 0.
        values: the entry's arguments in order: contiguous tensors of the dtype it declares, or numbers.
        by_block: an item is a whole block's work.
        defines: macros for this build, such as SCALAR="bf16".

    Raises:
        ShapeError: a value does not fit the entry's parameter; the message shows both.
        DeviceError: there is no such entry, or it does not compile.

    Cost: 9 us of Python for 4 arguments, 30 for 23, and what CuPy takes; the first launch of a build compiles it (CuPy
    keeps it on disk). Allocates nothing and waits for nothing.
    """
    parameters = entries(stem).get(entry)
    if parameters is None:
        raise DeviceError(f"{stem}.cu has no entry {entry}; it has {', '.join(entries(stem))}")
    if len(values) != len(parameters):
        raise ShapeError(f"{entry} takes {len(parameters)} arguments, got {len(values)}")
    if size <= 0:
        return
    device: torch.device | None = None
    for parameter, dtypes, value in zip(parameters, _dtypes(stem, entry, _build(defines)), values, strict=True):
        # What fits is passed by: a look at objects launches two dozen kernels of up to 23 parameters.
        if dtypes is None or not isinstance(value, Tensor):
            if dtypes is not None or type(value) not in (int, float) or not -(2**31) <= value < 2**31:
                _check(entry, parameter, value, _macros(stem) | defines)
            continue
        if value.dtype not in dtypes or not value.is_contiguous():
            _check(entry, parameter, value, _macros(stem) | defines)
        if value.numel():
            if device is None:
                device = value.device
            elif value.device != device:
                both = ", ".join(sorted((str(device), str(value.device))))
                raise ShapeError(f"{entry}: all tensors must be on one device, got {both}")
    blocks = min(MOST_BLOCKS, size if by_block else -(-size // THREADS))
    _runner(stem, entry, blocks, THREADS, list(values), defines)


def _build(defines: dict[str, str]) -> tuple[tuple[str, str], ...]:
    """What tells one build of a source from others."""
    return tuple(sorted(defines.items())) if defines else ()


@functools.cache
def _dtypes(stem: str, entry: str, build: tuple[tuple[str, str], ...]) -> tuple[tuple[torch.dtype, ...] | None, ...]:
    """The dtypes that each of an entry's parameters may have; None of numbers."""
    macros = _macros(stem) | dict(build)
    return tuple(_POINTEES[macros.get(one.kind, one.kind)] if one.pointer else None for one in entries(stem)[entry])


@functools.cache
def _converters(stem: str, entry: str) -> tuple[tuple[Callable[[Any], Any], ...], int]:
    """What makes of each of an entry's values what CuPy takes; and which is its last tensor."""
    parameters = entries(stem)[entry]
    last = max((i for i, one in enumerate(parameters) if one.pointer), default=-1)
    return tuple(Tensor.data_ptr if one.pointer else _NUMBERS[one.kind] for one in parameters), last


def _check(entry: str, parameter: Parameter, value: Tensor | int | float, macros: dict[str, str]) -> None:
    kind = macros.get(parameter.kind, parameter.kind)
    if parameter.pointer != isinstance(value, Tensor):
        wanted = "a tensor" if parameter.pointer else "a number"
        raise ShapeError(f"{entry}: {parameter.name} must be {wanted}, got {type(value).__name__}")
    if isinstance(value, Tensor):
        if not (value.is_contiguous() or (value.ndim == 4 and value.is_contiguous(memory_format=torch.channels_last))):
            raise ShapeError(
                f"{entry}: {parameter.name} must be contiguous, got {[*value.shape]} with strides {value.stride()}"
            )
        if value.dtype not in _POINTEES[kind]:
            raise ShapeError(f"{entry}: {parameter.name} must be {kind}, got {value.dtype} {[*value.shape]}")
    elif kind == "int" and not -(2**31) <= value < 2**31:
        raise ShapeError(f"{entry}: {parameter.name} must fit 32 bits, got {value}")


def _run_with_cupy(
    stem: str, entry: str, blocks: int, threads: int, values: list[Any], defines: dict[str, str]
) -> None:
    convert, last = _converters(stem, entry)
    index = values[last].get_device() if last >= 0 else -1
    arguments = tuple([of(value) for of, value in zip(convert, values, strict=True)])
    build = _build(defines)
    # To change the device and back costs as much as a launch, and it hardly ever needs to be.
    elsewhere = torch.cuda.device(index) if torch.cuda.current_device() != index else nullcontext()
    with elsewhere, _torch_stream(index, torch.cuda.current_stream(index).cuda_stream):
        _function(stem, entry, index, build)((blocks,), (threads,), arguments)


class _TorchStream:
    """torch's CUDA stream, by the protocol that CuPy 14 asks for."""

    def __init__(self, handle: int) -> None:
        self.handle = handle

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.handle


@functools.lru_cache(maxsize=256)
def _torch_stream(device: int, handle: int) -> Any:
    """torch's CUDA stream of that handle, as CuPy's; a context manager that any number of threads may be in."""
    import cupy

    from_external = getattr(cupy.cuda.Stream, "from_external", None)  # CuPy 14; ExternalStream is deprecated there
    return cupy.cuda.ExternalStream(handle) if from_external is None else from_external(_TorchStream(handle))


@functools.cache
def _function(stem: str, entry: str, device: int, defines: tuple[tuple[str, str], ...]) -> Any:
    try:
        return _module(stem, device, defines).get_function(entry)
    except Exception as error:  # NVRTC's log is long; its first line says what
        raise DeviceError(f"kernels/{stem}.cu: {entry} does not compile ({_one_line(error)})") from error


@functools.cache
def _module(stem: str, device: int, defines: tuple[tuple[str, str], ...]) -> Any:
    import cupy

    options = ("-std=c++17", *(f"-D{name}={value}" for name, value in defines))
    return cupy.RawModule(code=text(stem), options=options, backend="nvrtc")


_runner: Runner = _run_with_cupy


def _one_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
