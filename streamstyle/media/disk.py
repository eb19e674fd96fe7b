"""What is asked of a disk beside reading and writing: one file under two names, all of it there for sure, or gone."""

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


def sync(path: Path) -> None:
    """Have a file, or a folder's entries, on the disk."""
    if os.name != "posix":
        return  # no fsync of folders there, nor of files opened for reading
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def extent(folder: Path) -> list[int]:
    """How many files are in a folder, or in folders in it, and their bytes."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return [len(sizes), sum(sizes)]


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
