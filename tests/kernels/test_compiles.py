"""Every kernel compiles to a cubin for each architecture, by the compiler CuPy uses, without a word from it."""

from __future__ import annotations

import re

import pytest

from streamstyle.gpu import kernels
from streamstyle.stages import color
from tests import nvrtc
from tests.conftest import skip_or_fail

FOLDER = next(folder for folder in kernels._FOLDERS if (folder / "common.cuh").exists())
STEMS = sorted(path.stem for path in FOLDER.glob("*.cu"))
SCALARS = tuple(kernels.SCALARS.values())


def builds(stem: str) -> list[tuple[str, ...]]:
    """The defines a kernel is built with: each combination of the dtypes its macros stand for, or as its stage says."""
    if stem == color.STEM:
        every = (color._defines(dtype, depth) for dtype in kernels.SCALARS for depth in (8, 10))
        return [tuple(f"{name}={value}" for name, value in build.items()) for build in every]
    text = kernels.source(stem).read_text("utf-8")
    choices: list[tuple[str, ...]] = [()]
    for name, values in (("SCALAR", SCALARS), ("SAMPLE", ("u8", "u16")), ("VEC", ("1", "4", "8"))):
        if f"#ifndef {name}\n" in text:
            choices = [(*chosen, f"{name}={value}") for chosen in choices for value in values]
    return choices


@pytest.fixture(scope="module", autouse=True)
def compiler():
    try:
        from cuda.bindings import nvrtc  # noqa: F401
    except ImportError as error:
        skip_or_fail("nvrtc", f"NVRTC's wheels are missing ({error})")


@pytest.mark.parametrize("architecture", nvrtc.ARCHITECTURES)
@pytest.mark.parametrize(("stem", "defines"), [(stem, defines) for stem in STEMS for defines in builds(stem)])
def test_compiles_without_a_word(stem, defines, architecture):
    cubin, log = nvrtc.compile_cubin(kernels.text(stem), architecture, defines)
    assert cubin.startswith(b"\x7fELF")
    assert log == ""
    for entry in kernels.entries(stem):
        assert entry.encode() in cubin


def test_a_mistake_is_found():
    with pytest.raises(nvrtc.CompileError, match="undefined"):
        nvrtc.compile_cubin(kernels.text(STEMS[0]) + "\nDEVICE int f() { return nothing_of_that_name; }", "sm_90")


@pytest.mark.parametrize("stem", STEMS)
def test_a_source_says_what_it_is(stem):
    text = kernels.source(stem).read_text("utf-8")
    header = text.partition("#include")[0]
    for word in ("Input", "Output", "Passes", "Source", "Bytes"):
        assert re.search(rf"^// {word}\b", header, re.MULTILINE), f"{stem}.cu: the header says no {word}"
    assert kernels.entries(stem)
    assert all(entry.startswith(f"{stem}_") for entry in kernels.entries(stem))
    assert text.count("KERNEL ") == len(kernels.entries(stem)), "an entry whose parameters cannot be read"
    assert not re.search(r"#include <|fast_math", text)
