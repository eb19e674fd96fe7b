"""One file under two names, so that what is kept costs no second copy where the disk can do that."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def link_or_copy(source: Path, target: Path) -> None:
    """The same file under another name; a copy where the disk has no links, or it is another disk."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
