"""Rows of a long table kept in a file, so that one that was cut goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


class KeptRows:
    """Rows in a file, so that an hour's table that was cut goes on: never with rows of other code or options."""

    def __init__(self, path: Path | None, made_by: str) -> None:
        self._path, self._rows = path, {"made by": made_by}
        if path is not None and path.exists():
            self._rows = json.loads(path.read_text())
            if self._rows["made by"] != made_by:
                raise SystemExit(f"{path} has rows of other code or options: remove it, or name another file")

    def row(self, name: str, find: Callable[..., Any], *said: Any) -> Any:
        """The row kept, or found and kept."""
        if name not in self._rows:
            self._rows[name] = find(*said)
            if self._path is not None:
                self._path.write_text(json.dumps(self._rows))
        return self._rows[name]


def code_print() -> str:
    """A digest of the package's sources and of this program's."""
    sources = sorted((ROOT / "streamstyle").rglob("*.py")) + sorted((ROOT / "benchmarks").glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
