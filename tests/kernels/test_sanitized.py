"""The shim's tests once more under AddressSanitizer and UndefinedBehaviorSanitizer, in a process that has them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from streamstyle.gpu import kernels
from tests import shim
from tests.conftest import skip_or_fail

ROOT = Path(__file__).resolve().parents[2]
STEMS = sorted(path.stem for folder in kernels._FOLDERS for path in folder.glob("*.cu"))
GROUPS = STEMS[::2], STEMS[1::2]
"""Of a process each: to start one takes longer than most kernels' tests."""

OVERRUN = """
#include "common.cuh"
KERNEL broken_write(int* out, int count) { FOR_GRID(i, 1) out[count] = 1; }
KERNEL broken_shift(int* out, int count) { FOR_GRID(i, 1) out[0] = 1 << (count + 31); }
"""


@pytest.fixture
def environment() -> dict[str, str]:
    """The sanitizers' runtime, loaded before Python, and kernels built for it."""
    found = shim.compiler()
    if found is None:
        skip_or_fail("shim", "there is no C++ compiler (g++ or clang++)")
    asked = [
        subprocess.run([found, f"-print-file-name=lib{name}.so"], capture_output=True, text=True, check=True)
        for name in ("asan", "ubsan")
    ]
    libraries = [Path(answer.stdout.strip()) for answer in asked]
    if not all(library.is_absolute() and library.exists() for library in libraries):
        skip_or_fail("shim", f"{found} has no shared sanitizer runtime")
    return os.environ | {
        "LD_PRELOAD": ":".join(map(str, libraries)),
        "ASAN_OPTIONS": "detect_leaks=0",
        "STREAMSTYLE_SHIM": "sanitized",
        "PYTHONPATH": str(ROOT),
    }


@pytest.mark.long
@pytest.mark.parametrize("stems", GROUPS, ids=" ".join)
def test_clean_under_the_sanitizers(stems, environment):
    tests = [f"tests/stages/test_{stem}.py" for stem in stems]
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", *tests, "-k", "shim-random"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for test in tests:
        assert re.search(rf"^{test}::.* PASSED", done.stdout, re.MULTILINE), f"nothing of {test} was run"


@pytest.mark.parametrize(("entry", "complaint"), [("write", "heap-buffer-overflow"), ("shift", "shift exponent")])
def test_the_sanitizers_are_awake(entry, complaint, environment, tmp_path):
    (tmp_path / "broken.cu").write_text(OVERRUN)
    folder = kernels.source(STEMS[0]).parent
    for name in ("common.cuh", "cpu_shim.h"):
        (tmp_path / name).write_text((folder / name).read_text())
    script = (
        "import sys, pathlib, torch\n"
        "from streamstyle.gpu import kernels\n"
        "from tests import shim\n"
        "kernels._FOLDERS = (pathlib.Path(sys.argv[1]),)\n"
        "with shim.running():\n"
        "    kernels.launch('broken', sys.argv[2], 1, torch.zeros(4, dtype=torch.int32), 4)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path), f"broken_{entry}"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert complaint in done.stderr
