"""What is asked of a disk beside reading and writing: one file under two names, all of it there for sure, or gone."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path

import av

from streamstyle.errors import OutputError

DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NOT_ALLOWED = {errno.EACCES, errno.EPERM, errno.EROFS}
HOPELESS = DISK_FULL | _NOT_ALLOWED
"""Error numbers that another container would not mend."""


def link_or_copy(source: Path, target: Path) -> None:
    """The same file under another name; a copy where the disk has no links, or it is another disk."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def staging(folder: Path, film: Path, suffix: str) -> Path:
    """A hidden name in a folder for what is put together beside a film: of that film alone, which is locked."""
    return folder / f".{hashlib.blake2b(os.fsencode(film), digest_size=6).hexdigest()}{suffix}"


def sync(path: Path) -> None:
    """Have a file, or a folder's entries, on the disk."""
    if os.name != "posix":
        return  # no fsync of folders there, nor of files opened for reading
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def size_of(path: Path) -> int:
    """Bytes of a file; -1 where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


def crc_of(path: Path, size: int | None = None) -> int:
    """CRC-32 of a file, or of its first bytes, so many; OSError where there are fewer. Cost: 1 to 2 s a GB."""
    left, crc = path.stat().st_size if size is None else size, 0
    with open(path, "rb") as file:
        while left:
            data = file.read(min(left, 1 << 20))
            if not data:
                raise OSError(errno.EIO, "is cut short", str(path))
            crc, left = zlib.crc32(data, crc), left - len(data)
    return crc


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


@contextlib.contextmanager
def told(path: str | Path) -> Iterator[None]:
    """Turn what the encoder, the muxer and the disk say into an OutputError of one line."""
    try:
        yield
    except (av.FFmpegError, OSError) as error:
        reason = error.strerror or str(error)
        if error.errno in DISK_FULL:
            raise OutputError(f"{path}: the disk is full ({reason}); free some space or write elsewhere") from error
        if error.errno in _NOT_ALLOWED:
            raise OutputError(f"{path}: not allowed to write there ({reason}); choose another folder") from error
        raise OutputError(f"{path}: could not be written ({reason}); try another container or folder") from error
