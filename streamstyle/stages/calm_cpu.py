"""The blending of ``stages.calm`` on a CPU, by OpenCV; what the two share is here."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
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
NEAR_ALIKE, NEAR_OTHER = 8.0, 30.0
"""The same near a border between looks, where motion is not one: what is even on one side follows the other."""
REACH_PX = 2
"""Pixels of the small picture from a border between objects within which it is not told whose they are."""
MOST_STRETCH, NEAR_STRETCH = 2.0, 1.3
"""How many times as long, or as short, strokes may have become; and near a border between looks, where what moves
pushes them together or draws them out."""
MOST_LINES = 1 << 14
"""Above which a CPU reads the last picture only: OpenCV counts in 16 bits, and both lie in one."""

TWICE = np.array([0.125, 0.75, 0.125])
"""Smooths a flow as enlarging it to twice its size, linear, and halving that does."""


def trust_cpu(
    flow: Tensor,
    luma: Tensor,
    previous: Tensor,
    painted_in: Tensor,
    looks: Tensor | None,
    previous_looks: Tensor | None,
    near_border: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """trust's share, without what the painting is bent by, and painted_in."""
    height, width = luma.shape
    x, y = places = places_of(flow.numpy(), luma.shape)
    before = read_cpu(previous.numpy().astype(np.float32), places, cv2.INTER_LINEAR)  # quicker than of uint8
    there = read_cpu(painted_in.numpy(), places, cv2.INTER_LINEAR)
    level = luma.numpy().astype(np.float32)
    other = cv2.blur(cv2.absdiff(level, before), (3, 3))
    share = _ramp_cpu(other, LOOKS_ALIKE, LOOKS_OTHER)
    if near_border is not None:
        cv2.copyTo(_ramp_cpu(other, NEAR_ALIKE, NEAR_OTHER), near_border.numpy().view(np.uint8), share)
    light = cv2.blur(cv2.subtract(level, there, dst=level), (5, 5))
    share *= _ramp_cpu(np.abs(light, out=light), LIGHT_HELD, LIGHT_NEW)
    share *= (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)
    if looks is not None and previous_looks is not None:
        worn, was = looks.numpy().astype(np.int16), previous_looks.numpy().astype(np.int16)
        was = read_cpu(np.where(inner_cpu(was, REACH_PX), was, np.int16(-1)), places, cv2.INTER_NEAREST)
        same = (was == worn) | (was < 0) | ~inner_cpu(worn, REACH_PX)
        share *= cv2.erode(same.view(np.uint8), np.ones((3, 3), np.uint8), borderType=cv2.BORDER_REPLICATE)
    return torch.from_numpy(share), torch.from_numpy(there)


def color_held_cpu(flow: Tensor, chroma: Tensor, painted_in: Tensor) -> tuple[Tensor, Tensor]:
    """color_held."""
    places = places_of(flow.numpy(), flow.shape[:2])
    there = np.empty(painted_in.shape, np.float32)
    changes = []
    for now, before, out in zip(chroma.numpy(), painted_in.numpy(), there, strict=True):
        read_cpu(before, places, cv2.INTER_LINEAR, out)
        change = cv2.blur(now.astype(np.float32) - out, (5, 5))
        changes.append(np.abs(change, out=change))
    share = _ramp_cpu(cv2.max(*changes), COLOR_HELD, COLOR_NEW)
    return torch.from_numpy(share), torch.from_numpy(there)


def bend_cpu(bent: Tensor, flow: Tensor, near_border: Tensor | None) -> tuple[Tensor, Tensor]:
    """bend; plane by plane, for NumPy is slow on what lies interleaved."""
    before = read_cpu(bent.numpy(), places_of(flow.numpy(), flow.shape[:2]), cv2.INTER_LINEAR)
    soft = cv2.blur(flow.numpy(), (5, 5), borderType=cv2.BORDER_REPLICATE)
    slope, unit = np.array([[-0.5, 0, 0.5]], np.float32), np.ones((1, 1), np.float32)
    border = cv2.BORDER_REPLICATE
    p, r = cv2.split(cv2.sepFilter2D(soft, -1, slope, unit, borderType=border))
    q, s = cv2.split(cv2.sepFilter2D(soft, -1, unit, slope, borderType=border))
    p += 1
    s += 1
    a, b, c, d = cv2.split(before)
    one = (a * p + b * r, a * q + b * s, c * p + d * r, c * q + d * s)
    most: Any = MOST_STRETCH
    if near_border is not None:
        most = np.where(near_border.numpy(), np.float32(NEAR_STRETCH), np.float32(MOST_STRETCH))
    return torch.from_numpy(cv2.merge(one)), torch.from_numpy(holds(*one, most))


def search() -> cv2.DISOpticalFlow:
    """Finer than the presets of its cost: to all of the halved luma, without the refinement that takes most of theirs.

    Mean distance from the flow of the medium preset to full size, 640x360, six DAVIS sequences: 0.47 px; with patches
    each 6 px and not 5, in three quarters of the time, 0.56; with the fast preset 1.19.
    """
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    search.setFinestScale(0)
    search.setPatchStride(5)
    search.setGradientDescentIterations(6)
    search.setVariationalRefinementIterations(0)
    return search


def motion_cpu(search: cv2.DISOpticalFlow, luma: Tensor, previous: Tensor) -> Tensor:
    """Where in the previous picture each pixel was, [h, w, 2]: smooth, also where it is still."""
    found = search.calc(luma.numpy(), previous.numpy(), None)  # type: ignore[call-overload]
    smooth = cv2.sepFilter2D(found, -1, TWICE, TWICE, borderType=cv2.BORDER_REPLICATE)
    return torch.from_numpy(cv2.blur(smooth, (3, 3)))


def unbent_cpu(bent: Tensor, carried: Tensor) -> Tensor:
    """unbent."""
    new = _unit(*carried.shape).copy()
    cv2.copyTo(bent.numpy(), carried.numpy().view(np.uint8), new)
    return torch.from_numpy(new)


@functools.lru_cache(maxsize=4)
def _unit(height: int, width: int) -> np.ndarray:
    """No bend, [height, width, 4] float32."""
    return np.tile(np.array([1, 0, 0, 1], np.float32), (height, width, 1))


def holds(a: Any, b: Any, c: Any, d: Any, most: Any) -> Any:
    """Whether the matrix [[a, b], [c, d]] makes nothing most times as long, or as short; not where it folds over.

    They are the roots of x^2 - squares x + area^2, so both are below a limit where that is positive there, beyond the
    middle, and likewise above one.
    """
    squares, area = a * a + b * b + c * c + d * d, a * d - b * c
    high = most * most
    low = 1 / high
    product = area * area
    below = (high * (high - squares) + product > 0) & (squares < 2 * high)
    above = (low * (low - squares) + product > 0) & (squares > 2 * low)
    return below & above & (area > 0)


def _ramp_cpu(values: np.ndarray, whole: float, none: float) -> np.ndarray:
    ramp = values * np.float32(-1 / (none - whole)) + np.float32(none / (none - whole))
    return np.clip(ramp, 0, 1, out=ramp)


def inner_cpu(looks: np.ndarray, reach_px: int) -> np.ndarray:
    """Whether all within reach wear the same, of looks int16."""
    square = np.ones((2 * reach_px + 1,) * 2, np.uint8)
    border = cv2.BORDER_REPLICATE
    return cv2.dilate(looks, square, borderType=border) == cv2.erode(looks, square, borderType=border)


def places_of(flow: np.ndarray, size: tuple[int, ...], out: np.ndarray | None = None) -> np.ndarray:
    """Column and row to which a small flow leads, [2, H, W] float32."""
    places = np.empty((2, *size), np.float32) if out is None else out
    lines, columns = flow.shape[:2]
    scales, grid = (size[1] / columns, size[0] / lines), _grid(*size)
    for motion, scale, whole, place in zip(cv2.split(flow), scales, grid, places, strict=True):
        if motion.shape != size:
            scaled = cv2.multiply(motion, scale, dst=motion)
            motion = cv2.resize(scaled, size[::-1], dst=place, interpolation=cv2.INTER_LINEAR)
        cv2.add(motion, whole, dst=place)
    return places


@functools.lru_cache(maxsize=4)
def _grid(height: int, width: int) -> np.ndarray:
    """Column and row of each pixel, [2, height, width] float32."""
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return np.stack([columns, rows])


def read_cpu(picture: np.ndarray, places: np.ndarray, way: int, out: np.ndarray | None = None) -> np.ndarray:
    """A picture read at places [2, H, W]; what lies outside is the border's."""
    return cv2.remap(picture, places[0], places[1], way, dst=out, borderMode=cv2.BORDER_REPLICATE)


class Maps(NamedTuple):
    """What ``stages.calm.calm`` is told of each pixel of the small picture; see there."""

    flow: Tensor
    to_anchor: Tensor
    anchored: Tensor
    share: Tensor
    still: Tensor


@contextlib.contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """Within, torch's operators on a CPU keep to the caller's thread.

    They are many and small; shared, each waits at a barrier for a core that painting or an encoder may have taken. With
    two cores busy otherwise, a frame took 160 ms shared and 24 ms so. OpenCV's threads do not wait for one another.
    """
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Workspace:
    """Memory that is used again for each frame: of pages the system has just given most of a blend's time is spent."""

    def __init__(self) -> None:
        self._arrays: dict[str, np.ndarray] = {}

    def array(self, name: str, *shape: int) -> np.ndarray:
        """Memory of a name, float32 with anything in it; what it was before is lost."""
        array = self._arrays.get(name)
        if array is None or array.shape != shape:
            array = self._arrays[name] = np.empty(shape, np.float32)
        return array


def calm_cpu(
    pictures: tuple[Tensor, Tensor, Tensor],
    maps: Maps,
    sharpen: Tensor,
    refresh: float,
    strength: float,
    workspace: Workspace | None = None,
) -> Tensor:
    """calm; pictures are the painted one, the previous and the anchor."""
    new, last, old = (picture.numpy() for picture in pictures)
    space = workspace or Workspace()
    size = new.shape[1:]
    carried = _carried(last, old, maps, space)
    share = maps.share.numpy() * np.float32(strength)
    part = cv2.resize(share, size[::-1], dst=space.array("part", *size), interpolation=cv2.INTER_LINEAR)
    keeps = _enlarged(maps.still, size) if bool(maps.still.any()) else None
    gain, soft = float(sharpen), space.array("soft", *size)
    shown = np.empty(new.shape, np.float32)
    for k, mixed in enumerate(shown):  # a plane stays in the cache
        cv2.addWeighted(carried[k], 1 - refresh, new[k], refresh, 0, dst=mixed)
        if gain > 0:
            cv2.GaussianBlur(mixed, (3, 3), 0, dst=soft)
            cv2.addWeighted(mixed, 1 + gain, soft, -gain, 0, dst=mixed)
        mixed -= new[k]
        mixed *= part
        mixed += new[k]
        np.clip(mixed, 0, 1, out=mixed)
        if keeps is not None:
            cv2.copyTo(last[k], keeps, mixed)
    return torch.from_numpy(shown)


def _carried(last: np.ndarray, old: np.ndarray, maps: Maps, space: Workspace) -> list[np.ndarray]:
    """The planes of the anchor, and of the last picture where the anchor has nothing, read where the motion leads.

    Read interleaved: for each place the sixteen weights are looked up once.
    """
    height, width = size = last.shape[1:]
    places = places_of(maps.flow.numpy(), size, space.array("places", 2, *size))
    if height <= MOST_LINES:  # one reading of both, one above the other
        source = space.array("both", 2 * height + 4, width, 3)
        cv2.merge([*last], dst=source[:height])
        cv2.merge([*old], dst=source[height + 4 :])
        source[height : height + 2], source[height + 2 : height + 4] = source[height - 1], source[height + 4]
        others = places_of(maps.to_anchor.numpy(), size, space.array("others", 2, *size))
        for rows in (places[1], others[1]):
            np.clip(rows, 0, height - 1, out=rows)
        others[1] += height + 4
        there = _enlarged(maps.anchored, size)
        for place, other in zip(places, others, strict=True):
            cv2.copyTo(other, there, place)
    else:
        source = cv2.merge([*last])
    carried = read_cpu(source, places, cv2.INTER_CUBIC, space.array("carried", height, width, 3))
    return [*cv2.split(carried, mv=[*space.array("planes", 3, height, width)])]


def _enlarged(mask: Tensor, size: tuple[int, ...]) -> np.ndarray:
    """A mask of a picture's size, uint8 [H, W]."""
    return cv2.resize(mask.numpy().view(np.uint8), (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT)
