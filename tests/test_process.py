"""What the command line asks of its own process."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

from streamstyle.process import uncollected

FAULTS = """
import resource, sys
from streamstyle.process import share_one_heap
if sys.argv[1] == "shared":
    share_one_heap()
import torch
def layers():
    parts = [torch.ones(10 << 20) for _ in range(2)]  # 84 MB, each above glibc's own largest threshold; all given back
for _ in range(10):  # until the heap has its final size
    layers()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    layers()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str, **environment: str) -> int:
    """Page faults of five rounds of 84 MB each, once the heap has its size."""
    given = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    given |= {"PYTHONPATH": str(Path(__file__).resolve().parents[1])} | environment
    done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True, env=given)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's heap")
def test_memory_that_is_asked_for_again_is_still_there() -> None:
    plain, shared = faults("plain"), faults("shared")
    if plain < 5 * 84e6 / 4096 / 4:
        pytest.skip("this C library, or this system's large pages, keep it anyway")
    assert shared < plain / 10
    assert faults("shared", MALLOC_MMAP_THRESHOLD_="100000") > plain / 4  # what the environment says stands


def test_imports_are_not_collected_and_later_garbage_is() -> None:
    gc.unfreeze()
    with uncollected():
        assert not gc.isenabled()
        kept: list[object] = [[]]
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0
    assert not any(thing is kept for thing in gc.get_objects())
    gc.unfreeze()
