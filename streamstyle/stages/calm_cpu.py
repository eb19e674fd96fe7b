"""The blending of ``stages.calm`` on a CPU, by OpenCV; what the two share is here."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

LOOKS_ALIKE, LOOKS_OTHER = 16.0, 48.0
"""Luma levels, mean of 3 x 3, up to which the source is what its motion says, and from which it is something else."""
LIGHT_HELD, LIGHT_NEW = 12.0, 48.0
"""Luma levels by which the light may leave what was painted before the new painting comes through, and does whole."""
COLOR_HELD, COLOR_NEW = 8.0, 24.0
"""The same of u and of v, which seldom change by as much."""
REACH_PX = 2
"""Pixels of the small picture from a border between looks within which nothing is blended at the least: what a
cubic reads."""
MOST_STRETCH = 2.0
"""How many times as long, or as short, strokes may have become."""
MOST_LINES = 1 << 14
"""Above which a CPU reads the last picture only: OpenCV counts in 16 bits, and both lie in one."""


def trust_cpu(
    flow: Tensor,
    luma: Tensor,
    previous: Tensor,
    painted_in: Tensor,
    looks: Tensor | None,
    previous_looks: Tensor | None,
    reach_px: int,
) -> tuple[Tensor, Tensor]:
    """trust's share, without what the painting is bent by, and painted_in."""
    height, width = luma.shape
    now = luma.numpy()
    places = places_of(flow.numpy(), luma.shape)
    both = cv2.merge([previous.numpy().astype(np.float32), painted_in.numpy()])
    before, there = cv2.split(read_cpu(both, places, cv2.INTER_LINEAR))  # float32 is read faster than uint8
    level = now.astype(np.float32)
    other = cv2.blur(cv2.absdiff(level, before), (3, 3))
    light = np.abs(cv2.blur(level - there, (5, 5)))
    share = _ramp_cpu(other, LOOKS_ALIKE, LOOKS_OTHER) * _ramp_cpu(light, LIGHT_HELD, LIGHT_NEW)
    x, y = places[..., 0], places[..., 1]
    inside = (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)
    if looks is not None and previous_looks is not None:
        worn, was = looks.numpy().astype(np.int16), previous_looks.numpy().astype(np.int16)
        inside &= _inner_cpu(worn, reach_px)
        was = np.where(_inner_cpu(was, reach_px), was, np.int16(-1))
        inside &= read_cpu(was, places, cv2.INTER_NEAREST) == worn
    share *= cv2.erode(inside.astype(np.uint8), np.ones((3, 3), np.uint8), borderType=cv2.BORDER_REPLICATE)
    return torch.from_numpy(share), torch.from_numpy(there)


def bend_cpu(bent: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
    """bend."""
    before = read_cpu(bent.numpy(), places_of(flow.numpy(), flow.shape[:2]), cv2.INTER_LINEAR)
    soft = cv2.blur(flow.numpy(), (5, 5), borderType=cv2.BORDER_REPLICATE)
    slope = np.array([[-0.5, 0, 0.5]], np.float32)
    across = cv2.filter2D(soft, -1, slope, borderType=cv2.BORDER_REPLICATE)
    down = cv2.filter2D(soft, -1, slope.T, borderType=cv2.BORDER_REPLICATE)
    p, r = 1 + across[..., 0], across[..., 1]
    q, s = down[..., 0], 1 + down[..., 1]
    a, b, c, d = cv2.split(before)
    one = (a * p + b * r, a * q + b * s, c * p + d * r, c * q + d * s)
    return torch.from_numpy(cv2.merge(one)), torch.from_numpy(holds(*one))


def holds(a: Any, b: Any, c: Any, d: Any) -> Any:
    """Whether both stretches of the matrix [[a, b], [c, d]] are within MOST_STRETCH; not where it folds over.

    They are the roots of x^2 - squares x + area^2, so both are below a limit where that is positive there, beyond the
    middle, and likewise above one.
    """
    squares, area = a * a + b * b + c * c + d * d, a * d - b * c
    high, low = MOST_STRETCH**2, MOST_STRETCH**-2
    product = area * area
    below = (high * (high - squares) + product > 0) & (squares < 2 * high)
    above = (low * (low - squares) + product > 0) & (squares > 2 * low)
    return below & above & (area > 0)


def _ramp_cpu(values: np.ndarray, whole: float, none: float) -> np.ndarray:
    ramp = values * np.float32(-1 / (none - whole)) + np.float32(none / (none - whole))
    return np.clip(ramp, 0, 1, out=ramp)


def _inner_cpu(looks: np.ndarray, reach_px: int) -> np.ndarray:
    square = np.ones((2 * reach_px + 1,) * 2, np.uint8)
    border = cv2.BORDER_REPLICATE
    return cv2.dilate(looks, square, borderType=border) == cv2.erode(looks, square, borderType=border)


def places_of(flow: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Column and row to which a small flow leads, [H, W, 2] float32."""
    height, width = size
    if flow.shape[:2] == (height, width):
        return cv2.add(flow, _grid(height, width))
    scale = np.array([width / flow.shape[1], height / flow.shape[0]], np.float32)
    places = cv2.resize(flow * scale, (width, height), interpolation=cv2.INTER_LINEAR)
    return cv2.add(places, _grid(height, width), dst=places)


@functools.lru_cache(maxsize=4)
def _grid(height: int, width: int) -> np.ndarray:
    """Column and row of each pixel, [height, width, 2] float32."""
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return cv2.merge([columns, rows])


def read_cpu(picture: np.ndarray, places: np.ndarray, way: int) -> np.ndarray:
    """A picture read at places; what lies outside is the border's."""
    empty: Any = None
    return cv2.remap(picture, places, empty, interpolation=way, borderMode=cv2.BORDER_REPLICATE)


class Maps(NamedTuple):
    """What ``stages.calm.calm`` is told of each pixel of the small picture; see there."""

    flow: Tensor
    to_anchor: Tensor
    anchored: Tensor
    share: Tensor
    still: Tensor


def calm_cpu(
    pictures: tuple[Tensor, Tensor, Tensor], maps: Maps, sharpen: Tensor, refresh: float, strength: float
) -> Tensor:
    """calm; pictures are the painted one, the previous and the anchor."""
    flow, to_anchor, anchored, share, still = maps
    new, last, old = (np.ascontiguousarray(x.permute(1, 2, 0).numpy()) for x in pictures)
    height, width = size = new.shape[:2]
    places, source = places_of(flow.numpy(), size), last
    if height <= MOST_LINES:  # one reading of both, one above the other
        source = cv2.vconcat([last, last[-1:], last[-1:], old[:1], old[:1], old])
        np.clip(places[..., 1], 0, height - 1, out=places[..., 1])
        others = places_of(to_anchor.numpy(), size)
        np.clip(others[..., 1], 0, height - 1, out=others[..., 1])
        others[..., 1] += height + 4
        cv2.copyTo(others, _enlarged(anchored, size), places)
    carried = read_cpu(source, places, cv2.INTER_CUBIC)
    part = cv2.resize(share.numpy() * np.float32(strength), (width, height), interpolation=cv2.INTER_LINEAR)
    mixed = cv2.addWeighted(carried, 1 - refresh, new, refresh, 0, dst=carried)
    if (gain := float(sharpen)) > 0:
        mixed = cv2.addWeighted(mixed, 1 + gain, cv2.GaussianBlur(mixed, (3, 3), 0), -gain, 0)
    shown = cv2.blendLinear(mixed, new, part, 1 - part)
    np.clip(shown, 0, 1, out=shown)
    if bool(still.any()):
        cv2.copyTo(last, _enlarged(still, size), shown)
    return torch.from_numpy(shown).permute(2, 0, 1)


def _enlarged(mask: Tensor, size: tuple[int, int]) -> np.ndarray:
    """A mask of a picture's size, uint8 [H, W]."""
    return cv2.resize(mask.numpy().view(np.uint8), (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT)
