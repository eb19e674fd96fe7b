"""Faults on purpose: a process that ends, a disk that is full or slow, at a chosen call of a function."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest

from streamstyle.media.journal import parts_folder
from streamstyle.media.tail import STATE


class Killed(BaseException):
    """Stands for the end of the process, as near as one process can play it."""


def breaks(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, after: int, error: BaseException) -> None:
    """Let a function of a class or module raise from its call number `after` on."""
    calls, real = [0], getattr(owner, name)

    def counted(*arguments: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] > after:
            raise error
        return real(*arguments, **named)

    monkeypatch.setattr(owner, name, counted)


def stalls(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, then: Callable[[], None], pause_s: float) -> None:
    """Let a function of a class or module wait in each call, as for a slow disk, and then do something else first."""
    real = getattr(owner, name)

    def stalled(*arguments: Any, **named: Any) -> Any:
        time.sleep(pause_s)
        then()
        return real(*arguments, **named)

    monkeypatch.setattr(owner, name, stalled)


def killed_within_a_segment(
    context: ForkServerContext, child: Callable[..., None], words: tuple[str, ...], target: Path, after_s: float
) -> None:
    """Run a job in a process of its own, and kill it so long after its first frames within a segment count.

    What a quick machine has finished by then is removed, all of target's folder, and made again in half the time.
    """
    for _ in range(8):
        process = context.Process(target=child, args=words)
        process.start()
        while process.is_alive() and not (parts_folder(target) / STATE).exists() and not target.exists():
            time.sleep(0.002)
        time.sleep(after_s)
        process.kill()
        process.join()
        if not target.exists():
            return
        for path in target.parent.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        after_s /= 2
    raise AssertionError(f"{target} was always whole before it was killed")
