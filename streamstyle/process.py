"""What the command line asks of its own process before a long job: one heap, and no collecting of what stays."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Import without the garbage collector, and let it leave alone for good what was imported.

    It would look again and again through what stays: 0.2 s of the 1.3 that torch takes, and pauses afterwards.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def share_one_heap() -> None:
    """Keep glibc from giving each thread a heap of its own, which fragment apart (440 MiB became 415)."""
    if sys.platform == "linux":
        import ctypes

        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None and "MALLOC_ARENA_MAX" not in os.environ:
            mallopt(-8, 1)  # M_ARENA_MAX
