"""A film in which one thing moves by itself, and motion can be seen: both it and what lies behind have a texture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np


def make_moving_disc(folder: Path, frames: int, size: tuple[int, int] = (160, 120), step_px: int = 3) -> Path:
    """A folder of pictures, a film of a bright textured disc that moves by itself over a dark texture that does not."""
    folder.mkdir()
    ground, disc = _texture(size, 6, (40, 110)), _texture(size, 4, (150, 255))
    for i in range(frames):
        where = disc_in(i, size, step_px)[..., None]
        picture = np.where(where, np.roll(disc, step_px * i, 1), ground).clip(0, 255)
        cv2.imwrite(str(folder / f"{i:03d}.png"), picture.astype(np.uint8))
    return folder


SHOT_LEVELS = (
    ((20, 60), (150, 255)),
    ((160, 230), (0, 90)),
    ((80, 120), (190, 255)),
    ((200, 255), (40, 130)),
    ((130, 170), (0, 60)),
)
"""Levels of the ground and of the disc, for shots that follow each other: no two of them are taken for one."""


def make_shots(folder: Path, lengths: Sequence[int], size: tuple[int, int] = (160, 120), step_px: int = 3) -> Path:
    """As make_moving_disc; a film of so many shots, each of its own ground and disc, where the disc begins anew."""
    folder.mkdir()
    number = 0
    for shot, length in enumerate(lengths):
        levels = SHOT_LEVELS[shot % len(SHOT_LEVELS)]
        ground, disc = (_texture(size, cell_px, level, shot) for cell_px, level in zip((6, 4), levels, strict=True))
        for i in range(length):
            where = disc_in(i, size, step_px)[..., None]
            picture = np.where(where, np.roll(disc, step_px * i, 1), ground).clip(0, 255)
            cv2.imwrite(str(folder / f"{number:03d}.png"), picture.astype(np.uint8))
            number += 1
    return folder


def disc_in(i: int, size: tuple[int, int] = (160, 120), step_px: int = 3) -> np.ndarray:
    """Where the disc of make_moving_disc is in frame i, [H, W] bool."""
    y, x = np.mgrid[: size[1], : size[0]]
    return (x - size[0] * 0.35 - step_px * i) ** 2 + (y - size[1] / 2) ** 2 < (size[1] / 5) ** 2


FAINT = (320, 240)
"""Size of make_faint_disc, in whose frame i the disc is disc_in(i, FAINT, 6)."""


def make_faint_disc(folder: Path, frames: int) -> Path:
    """As make_moving_disc; no edge parts the disc from the ground, so that it has no region of its own."""
    folder.mkdir()
    ground, disc = _grain(5, (110, 110, 105)), _grain(6, (124, 112, 104))
    for i in range(frames):
        share = cv2.GaussianBlur(disc_in(i, FAINT, 6).astype(np.float32), (0, 0), 6)[..., None]
        picture = share * np.roll(disc, 6 * i, 1) + (1 - share) * ground
        cv2.imwrite(str(folder / f"{i:03d}.png"), picture.clip(0, 255).astype(np.uint8))
    return folder


def _grain(seed: int, color: tuple[int, int, int]) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 1, FAINT[::-1]).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), 4)[..., None]
    return np.array(color) + 14 * noise / noise.std()


def _texture(size: tuple[int, int], cell_px: int, levels: tuple[int, int], seed: int = 0) -> np.ndarray:
    width, height = size
    cells = np.random.default_rng(cell_px + 100 * seed).uniform(
        *levels, (height // cell_px + 2, width // cell_px + 2, 3)
    )
    return cv2.resize(cells.astype(np.float32), size, interpolation=cv2.INTER_CUBIC)
