"""What a person at a terminal is told while they wait."""

from __future__ import annotations

import sys
from typing import Any


class Progress:
    """A tqdm bar on stderr (frames, fps, time left), silent when stderr is no terminal or quiet is asked."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet or not sys.stderr.isatty()
        self._bar: Any = None

    def __enter__(self) -> Progress:
        return self

    def __call__(self, done: int, expected: int | None) -> None:
        """Advance by done frames."""
        if self._quiet:
            return
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(total=expected, unit="frame", dynamic_ncols=True, smoothing=0.1)
        self._bar.update(done)

    def finish(self) -> None:
        """Close the bar; the next frames begin a new one."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __exit__(self, *_: object) -> None:
        self.finish()


def say(line: str) -> None:
    """One line for the person, on stderr: stdout is for results."""
    print(line, file=sys.stderr)
