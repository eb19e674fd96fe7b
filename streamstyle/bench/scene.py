"""A film to measure on, made here: a textured ground that pans, and objects of flat colour that cross it."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from streamstyle.frames import FrameBatch, VideoInfo

FPS = 25
PAN_PX = 2
"""Pixels a frame that the ground moves at 360 lines."""


def make_film(path: Path, size: tuple[int, int], frames: int, objects: int = 6) -> Path:
    """Write a film of a size (width, height), both even; the same every time.

    Cost: about 1 ms a frame at 640x360 and 60 ms at 4K, on two cores.
    """
    from streamstyle.config import OutputOptions
    from streamstyle.media.encode import encode  # the frames can do without PyAV

    width, height = size
    info = VideoInfo(str(path), width, height, Fraction(1, FPS), Fraction(FPS), frames, frames / FPS)
    options = OutputOptions(crf=18, preset="superfast", encoder="software")
    encode(batches(size, frames, objects), path, info, options, size=size)
    return path


def wide(short_side: int) -> tuple[int, int]:
    """(width, height) at 16:9, both even."""
    height = max(2, 2 * round(short_side / 2))
    return 2 * round(height * 8 / 9), height


def batches(size: tuple[int, int], frames: int, objects: int = 6) -> Iterator[FrameBatch]:
    """The film's frames, one a batch."""
    width, height = size
    ground = _ground(size)
    half = (1, height // 2, width // 2)
    for i in range(frames):
        left, top = (_swing(i * PAN_PX * height / 360, side // 4) for side in (width, height))
        picture = ground[top : top + height, left : left + width].copy()
        for number in range(objects):
            _draw_object(picture, number, objects, i)
        planes = cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420).ravel()
        y, u, v = np.split(planes, [height * width, height * width * 5 // 4])
        yield FrameBatch(y.reshape(1, height, width), u.reshape(half), v.reshape(half), (i,), i)


def _ground(size: tuple[int, int]) -> np.ndarray:
    """Noise at three scales, a quarter larger than the film, [H, W, 3] uint8."""
    width, height = (side + side // 4 + 2 for side in size)
    rng = np.random.default_rng(0)
    ground = np.zeros((height, width, 3), np.float32)
    for cells, strength in ((6, 90), (24, 50), (96, 25)):
        noise = rng.uniform(-0.5, 0.5, (cells, cells * 2, 3)).astype(np.float32)
        ground += strength * cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(ground + 110, 0, 255).astype(np.uint8)


def _swing(travelled: float, room: int) -> int:
    """To and fro within room."""
    at = travelled % max(1, 2 * room)
    return int(min(at, 2 * room - at)) if room else 0


def _draw_object(picture: np.ndarray, number: int, objects: int, i: int) -> None:
    """A disc, a box or an ellipse on a path of its own round a place of its own."""
    height, width = picture.shape[:2]
    columns = max(1, round((objects * width / height) ** 0.5))
    rows = -(-objects // columns)
    cell_x, cell_y = width / columns, height / rows
    radius = 0.3 * min(cell_x, cell_y)
    phase = i / 12 + number
    x = int((number % columns + 0.5) * cell_x + 0.15 * cell_x * np.sin(phase))
    y = int((number // columns + 0.5) * cell_y + 0.15 * cell_y * np.cos(0.7 * phase))
    hue = np.array([[[int(number * 180 * 0.618) % 180, 220, 240 if number % 2 else 150]]], np.uint8)
    color = tuple(int(part) for part in cv2.cvtColor(hue, cv2.COLOR_HSV2BGR)[0, 0])
    size = max(1, int(radius))
    if number % 3 == 1:
        cv2.rectangle(picture, (x - size, y - size), (x + size, y + size), color, -1)
    else:
        axes = (size, size if number % 3 == 0 else max(1, size * 2 // 3))
        cv2.ellipse(picture, (x, y), axes, 10.0 * phase, 0, 360, color, -1, cv2.LINE_AA)
