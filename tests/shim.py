"""Runs kernels/*.cu on the CPU: their text, unchanged, built as C++ against kernels/cpu_shim.h.

``running(order)`` puts the shim in the place of CuPy, so that a stage's launcher and its kernels run as they do on a
GPU, one thread a block and one lane a warp, blocks in natural or random order or side by side; ``running(flags=WARPS)``
with blocks of one whole warp.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import filelock
import numpy as np
import torch

from streamstyle.gpu import kernels

Order = Literal["natural", "reversed", "random", "threads"]
ORDERS: tuple[Order, ...] = ("natural", "reversed", "random", "threads")
WORKERS = 4
MOST_BLOCKS = 4096
"""A block has one thread here: so many make grid-stride loops go round several times."""

_C_TYPES = {
    "u8": ctypes.c_uint8,
    "int": ctypes.c_int32,
    "i64": ctypes.c_int64,
    "float": ctypes.c_float,
    "double": ctypes.c_double,
}
SANITIZED = ("-O1", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
FLAGS = SANITIZED if os.environ.get("STREAMSTYLE_SHIM") == "sanitized" else ("-O2",)
"""tests/kernels/test_sanitized.py runs the shim's tests once more, in a process with the sanitizers' runtime."""
WARPS = ("-O2", "-DSHIM_WARPS")
"""Flags for blocks of one warp of 32 lanes that talk to each other, a thread each: some hundred times as slow."""
MOST_WARPS = 24


def compiler() -> str | None:
    """The C++ compiler, if there is one."""
    return shutil.which(os.environ.get("CXX", "g++")) or shutil.which("clang++")


def program(stem: str, only: str | None = None) -> str:
    """A kernel's text, with one C function for each entry, or for one alone, that runs it over blocks."""
    runs = []
    for entry, parameters in kernels.entries(stem).items():
        if only not in (None, entry):
            continue
        declared = ", ".join(f"{p.kind} {'*' if p.pointer else ''}{p.name}" for p in parameters)
        names = ", ".join(p.name for p in parameters)
        runs.append(
            f'extern "C" void run_{entry}(const i64* shim_order, i64 shim_blocks, i64 shim_workers, {declared}) {{\n'
            f"    shim_run((const int64_t*)shim_order, shim_blocks, shim_workers, [&] {{ {entry}({names}); }});\n}}"
        )
    return "\n".join([kernels.text(stem), *runs])


@functools.cache
def build(
    stem: str, defines: tuple[tuple[str, str], ...] = (), flags: tuple[str, ...] = FLAGS, only: str | None = None
) -> Path:
    """The shared library of a kernel or of one of its entries, built once for each text, define and flag."""
    found = compiler()
    if found is None:
        raise FileNotFoundError("no C++ compiler")
    shim = kernels.source(stem).parent / "cpu_shim.h"
    command = [found, "-std=c++17", "-x", "c++", "-include", str(shim), "-fPIC", "-shared", "-pthread"]
    command += ["-ffp-contract=off", "-Wall", "-Wno-unknown-pragmas", "-Wno-unused-function", "-Wno-unused-variable"]
    command += [*flags, *(f"-D{name}={value}" for name, value in defines)]
    text = program(stem, only)
    key = hashlib.sha256("\0".join([text, shim.read_text("utf-8"), *command]).encode()).hexdigest()[:24]
    folder = Path(tempfile.gettempdir()) / f"streamstyle-shim-{os.getuid() if hasattr(os, 'getuid') else 0}"
    folder.mkdir(mode=0o700, exist_ok=True)
    library = folder / f"{stem}-{key}{sysconfig.get_config_var('SHLIB_SUFFIX') or '.so'}"
    with filelock.FileLock(library.with_suffix(".lock")):  # tests in several processes ask for the same build at once
        if not library.exists():
            fresh = library.with_suffix(f".{os.getpid()}")
            subprocess.run([*command, "-", "-o", str(fresh)], input=text.encode(), check=True)
            fresh.replace(library)
    return library


@functools.cache
def _library(path: Path) -> ctypes.CDLL:
    return ctypes.CDLL(str(path))


class Runner:
    """In the place of CuPy: gets what kernels.launch would launch."""

    def __init__(self, order: Order, flags: tuple[str, ...]) -> None:
        self.order, self.flags = order, flags
        self.launched: list[str] = []
        self._random = np.random.default_rng(0)

    def __call__(
        self, stem: str, entry: str, blocks: int, threads: int, values: list[Any], defines: dict[str, str]
    ) -> None:
        """Run the entry as `blocks * threads` threads would, at most MOST_BLOCKS at once."""
        self.launched.append(entry)
        # A build with defines mostly serves one entry, and the others would take two thirds of the compiler's time.
        only = entry if defines else None
        library = _library(build(stem, tuple(sorted(defines.items())), self.flags, only))
        count = min(blocks, MOST_WARPS) if self.flags is WARPS else min(blocks * threads, MOST_BLOCKS)
        order = np.arange(count, dtype=np.int64)
        if self.order == "reversed":
            order = order[::-1].copy()
        elif self.order == "random":
            self._random.shuffle(order)
        arguments: list[Any] = [order.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(count)]
        arguments.append(ctypes.c_int64(WORKERS if self.order == "threads" else 1))
        for parameter, value in zip(kernels.entries(stem)[entry], values, strict=True):
            if isinstance(value, torch.Tensor):
                assert value.device.type == "cpu"
                arguments.append(ctypes.c_void_p(value.data_ptr()))
            else:
                arguments.append(_C_TYPES[parameter.kind](value))
        function = getattr(library, f"run_{entry}")
        function.restype = None
        function(*arguments)


@contextlib.contextmanager
def running(order: Order = "natural", flags: tuple[str, ...] = FLAGS) -> Iterator[Runner]:
    """Let kernels.launch run on the CPU."""
    before = kernels._runner
    kernels._runner = runner = Runner(order, flags)
    try:
        yield runner
    finally:
        kernels._runner = before
