"""A folder of pictures as a film: one picture a frame, in the order a person would count them."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Container, Generator
from fractions import Fraction
from pathlib import Path
from typing import Any

from av.video.frame import VideoFrame

from streamstyle.errors import InputError, OptionError
from streamstyle.frames import VideoInfo
from streamstyle.media.stills import decode_still, turns_of

DEFAULT_FPS = Fraction(25)
SLOWEST_FPS, FASTEST_FPS = 0.1, 1000.0
TICKS = 512
"""Of a frame: times between frames can be told, as in any film."""
KINDS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".webp": "WebP",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
_SAMPLES, _SAMPLE_BYTES = 16, 1 << 16


def is_folder(path: str | Path) -> bool:
    """Whether a film is a folder of pictures."""
    return os.path.isdir(path)


def pictures_in(folder: str | Path) -> list[Path]:
    """The pictures of a folder in natural order (2 before 10); hidden files, folders and other files are no pictures.

    Raises:
        InputError: not readable, no picture, or pictures of several kinds (a data set's photos beside its masks).
    """
    kinds = {name: KINDS[_suffix(name)] for name in names_in(folder, KINDS)}
    if not kinds:
        raise InputError(
            f"{folder}: a folder without pictures (folders in it do not count); "
            "give a video file, or a folder of .jpg or .png files"
        )
    if len(found := sorted(set(kinds.values()))) > 1:
        raise InputError(f"{folder}: holds {' and '.join(found)} pictures; give a folder with one kind")
    return [Path(folder, name) for name in kinds]


def names_in(folder: str | Path, suffixes: Container[str]) -> list[str]:
    """The files of a folder with one of the suffixes (lower case, with the dot), not hidden, in natural order.

    Raises:
        InputError: not readable.
    """
    try:
        with os.scandir(folder) as entries:
            names = [e.name for e in entries if not e.name.startswith(".") and e.is_file()]
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror}); make it readable (chmod +rx)") from None
    return sorted((name for name in names if _suffix(name) in suffixes), key=_natural)


def rate_of(fps: float | None) -> Fraction:
    """Frames a second as a fraction; 25 where nothing is said.

    Raises:
        OptionError: not from 0.1 to 1000.
    """
    if fps is not None and not SLOWEST_FPS <= fps <= FASTEST_FPS:
        raise OptionError(f"--fps {fps:g}: must be from {SLOWEST_FPS:g} to {FASTEST_FPS:g}")
    return DEFAULT_FPS if fps is None else Fraction(fps).limit_denominator(1001)


def frames_in(info: VideoInfo, from_pts: int | None = None) -> Generator[tuple[int, VideoFrame], None, None]:
    """(pts, frame) of each picture from pts on; each lasts TICKS.

    Raises:
        InputError: a picture that cannot be read, or is of another size than the film, or turned otherwise.
    """
    for number, path in enumerate(pictures_in(info.path)):
        pts = number * TICKS
        if pts < (from_pts or 0):
            continue
        frame = decode_still(path)
        rotation = turns_of(frame)
        width, height = (frame.height, frame.width) if rotation in (90, 270) else (frame.width, frame.height)
        if (width, height) != (info.width, info.height):
            raise InputError(
                f"{path}: is {width}x{height}, the first picture {info.width}x{info.height}; bring all to one size"
            )
        if rotation != info.rotation:
            raise InputError(f"{path}: lies otherwise in its file than the first picture (EXIF); save all alike")
        yield pts, frame


def fingerprint_of_folder(folder: str | Path) -> dict[str, Any]:
    """What tells a changed folder: names, sizes, the last time of change, and a hash of 16 pictures' beginnings."""
    pictures = pictures_in(folder)
    seen = [path.stat() for path in pictures]
    digest = hashlib.blake2b(digest_size=16)
    for path, stat in zip(pictures, seen, strict=True):
        digest.update(f"{path.name}\0{stat.st_size}\0".encode())
    for i in range(_SAMPLES):
        with open(pictures[(len(pictures) - 1) * i // (_SAMPLES - 1)], "rb") as file:
            digest.update(file.read(_SAMPLE_BYTES))
    return {
        "size_bytes": sum(stat.st_size for stat in seen),
        "changed_ns": max(stat.st_mtime_ns for stat in seen),
        "blake2b": digest.hexdigest(),
    }


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts 2 before 10, whatever stands round the numbers; equal numbers by their spelling."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), part) if part.isdigit() else (-1, part) for part in parts]
