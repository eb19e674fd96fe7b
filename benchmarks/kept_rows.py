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
        self._path, self._made_by, self._rows = path, made_by, dict[str, Any]()
        if path is not None and path.exists():
            kept = json.loads(path.read_text())
            if kept["made by"] != made_by:
                raise SystemExit(f"{path} has rows of other code or options: remove it, or name another file")
            self._rows = kept["rows"]

    def row(self, name: str, find: Callable[..., Any], *said: Any) -> Any:
        """The row kept, or found and kept."""
        if name not in self._rows:
            self._rows[name] = find(*said)
            if self._path is not None:
                fresh = self._path.with_suffix(".new")
                fresh.write_text(json.dumps({"made by": self._made_by, "rows": self._rows}))
                fresh.replace(self._path)
        return self._rows[name]


def code_print() -> str:
    """A digest of the sources of the package, its kernels and the benchmarks."""
    sources = [path for part in ("streamstyle", "kernels", "benchmarks") for path in sorted((ROOT / part).rglob("*"))]
    sources = [path for path in sources if path.suffix in (".py", ".cu", ".cuh")]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
