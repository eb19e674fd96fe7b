"""Painting of batches that were read: what needs no other frame by any thread, what does (calm) in order.

::

    Reading ─ begin: networks, any thread, any order ─► Painting ─ end: calm, laid over the picture, in order ─► frames
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from streamstyle.config import StyleOptions
from streamstyle.frames import ColorTags, FrameBatch, packed_bytes, packed_planes
from streamstyle.gpu.memory import Portions
from streamstyle.gpu.streams import Download, Lane, Lanes, Mark
from streamstyle.gpu.transfer import Planes, to_device
from streamstyle.painting.boxes import Box
from streamstyle.painting.calm import LINES, Calm, halved_size
from streamstyle.painting.layers import LayerCutter
from streamstyle.painting.palette import Palette
from streamstyle.painting.worn import Worn
from streamstyle.scene import Scene
from streamstyle.stages.color import filled, rgb_to_yuv, yuv_to_rgb
from streamstyle.stages.composite import composite
from streamstyle.stages.resize import resize_planes, small_size
from streamstyle.stages.style_map import blend_map, pair_feathers


@dataclass(frozen=True)
class Reading:
    """A batch that has been read: its planes on the device, and all that painting it needs beside them.

    Attributes:
        worn: what each frame wears; fading: the looks that wore something else in the frame before it.
        within: what of each frame is to be painted, where that is not all; the rest is of no account.
        flows: each frame's motion for calm, where it is known; see Calm.step.
    """

    planes: Planes
    pts: tuple[int, ...]
    index: int
    color: ColorTags
    scene: Scene | None
    worn: list[Worn]
    fading: list[frozenset[int]]
    ready: Mark
    within: tuple[Box, ...] | None = None
    flows: Sequence[np.ndarray | None] | None = None


@dataclass(frozen=True)
class Painting:
    """A batch on its way: its frames where they are done; else each frame's painting [1, 3, H, W], the batch's rows of
    the table of blends [N, H, W], and its luma [N, h, w] and chroma [N, 2, h / 2, w / 2] for the motion."""

    reading: Reading
    done: FrameBatch | None
    images: list[Tensor]
    rows: Tensor | None
    lumas: Tensor | None
    chromas: Tensor | None
    ready: Mark


class FramePainter:
    """The networks of a Look, and what is carried from frame to frame while painting.

    Args:
        palette: what is painted with.
        options: calm and feather.
        count: how many looks there are; layers: what is calmed apart from the rest, each with the look it wears.
        lanes: of the job.

    Attributes:
        cutter: makes the alphas of layers, where they are wanted.
        keeps_flow: whether frames have the motion that calm went by.
    """

    def __init__(
        self, palette: Palette, options: StyleOptions, count: int, layers: Sequence[tuple[str, int]], lanes: Lanes
    ) -> None:
        self.palette, self._options, self._count = palette, options, count
        self._layers, self._looks = zip(*layers, strict=True)
        self.feathers = pair_feathers(palette.feathers, options.feather)
        self.portions = Portions(palette.device, palette.shrink_bands)
        self.cutter: LayerCutter | None = None
        self.keeps_flow = False
        self._lanes = lanes
        self.restart()

    def restart(self) -> None:
        """Forget the film so far."""
        self.portions.forget()
        self._calm: Calm | None = None
        if self._options.calm > 0:
            borders = [width for a, row in enumerate(self.feathers) for b, width in enumerate(row) if a != b]
            widths = (max(borders, default=0.0), min(borders, default=0.0))
            self._calm = Calm(self._options.calm, len(self._layers), *widths)

    def state_dict(self) -> dict[str, Any]:
        """Everything the frames to come depend on; see load_state_dict."""
        with self._lanes.on("calm"):
            return {} if self._calm is None else self._calm.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as the painter whose state_dict this is."""
        with self._lanes.on("calm"):
            if self._calm is not None:
                self._calm.load_state_dict(state, self.palette.device)

    def report(self) -> list[dict[str, Any]]:
        """How steady each layer is; nothing where calm is off."""
        steadiness = [] if self._calm is None else self._calm.report()
        return [
            {
                "object": self._layers[one.look],
                "warping_error": round(one.shown, 5),
                "as_painted": round(one.painted, 5),
                "ratio": round(one.ratio, 4),
            }
            for one in steadiness
        ]

    # -- a batch --------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def begin(self, reading: Reading, *, subsample: bool) -> Painting:
        """What of painting a batch needs no other: all of it without calm. By any thread, in any order.

        Cost: without calm one synchronisation on CUDA, at the end.

        Raises:
            DeviceError: not even one frame fits the device's memory.
        """
        lanes, planes = self._lanes, reading.planes
        size = (planes[0].shape[1], planes[0].shape[2])
        crossing = [*planes, *(tensor for worn in reading.worn for tensor in worn.tensors())]
        with lanes.on("paint", after=reading.ready, uses=crossing):
            if reading.scene is not None and self._calm is not None:
                parts = self.portions.each(len(reading.pts), size, lambda part: self._images(reading, part))
                images = [image for some, _ in parts for image in some]
                rows = None if parts[0][1] is None else torch.cat([part for _, part in parts if part is not None])
                return Painting(reading, None, images, rows, *_for_motion(planes), lanes.mark("paint"))
            packed, out = _new_frames(planes, subsample)
            if reading.scene is None:
                fits = (planes[1].shape == planes[0].shape) != subsample
                rgb = None if fits else yuv_to_rgb(planes, reading.color)
                filled(out, planes if rgb is None else relaid(planes, rgb, reading.color, subsample))
            else:
                self.portions.each(
                    len(reading.pts),
                    size,
                    lambda part: self._paint_planes(reading, part, part_of(out, part), subsample),
                )
            cut = self._cut(reading, size)
        return Painting(reading, self._downloaded(reading, packed, cut, subsample, "paint"), [], None, None, None, None)

    @torch.inference_mode()
    def end(self, painting: Painting, *, subsample: bool) -> FrameBatch:
        """The frames of a batch, in the order of the film; by one thread."""
        if painting.done is not None:
            return painting.done
        assert self._calm is not None
        assert painting.lumas is not None
        assert painting.chromas is not None
        assert painting.reading.scene is not None
        reading, lanes, scene = painting.reading, self._lanes, painting.reading.scene
        planes, color = reading.planes, reading.color
        size = (planes[0].shape[1], planes[0].shape[2])
        crossing = [
            *planes,
            *painting.images,
            painting.lumas,
            painting.chromas,
            *(() if painting.rows is None else (painting.rows,)),
        ]
        crossing += [tensor for worn in reading.worn for tensor in worn.tensors()]
        with lanes.on("calm", after=painting.ready, uses=crossing):
            packed, out = _new_frames(planes, subsample)
            flows = dict[int, Tensor]()
            parts = None
            if scene.parts is not None:
                parts = to_device(torch.from_numpy(scene.parts), self.palette.device)
            for i, (image, worn) in enumerate(zip(painting.images, reading.worn, strict=True)):
                shown = self._calm.step(
                    image[0],
                    painting.lumas[i],
                    None if parts is None else parts[i],
                    scene.shots[i],
                    fading=self._fading(reading.fading[i]),
                    chroma=painting.chromas[i],
                    unseen=_unseen(scene, i, worn),
                    flow=self._known_flow(reading, i),
                )
                if self.keeps_flow and self._calm.flow is not None:
                    flows[i] = self._calm.flow
                frame = slice(i, i + 1)
                rows = None if painting.rows is None else painting.rows[frame]
                self._lay(shown[None], part_of(planes, frame), color, rows, worn, part_of(out, frame), subsample)
            cut = self._cut(reading, size)
        return self._downloaded(reading, packed, cut, subsample, "calm", flows)

    @torch.inference_mode()
    def picture(
        self, rgb: Tensor, planes: Planes, worn: Worn, scene: Scene, fading: frozenset[int]
    ) -> tuple[Tensor, Tensor | None]:
        """One frame [1, 3, H, W] float32 painted (and calmed), not yet laid over, and its rows of the table."""
        rows, looks = self._rows(scene.looks, (rgb.shape[2], rgb.shape[3]))
        painted = self.palette.paint(rgb, worn, rows, looks).float()
        if self._calm is not None:
            luma, chroma = (part[0] for part in _for_motion(planes))
            parts = None if scene.parts is None else to_device(torch.from_numpy(scene.parts[0]), rgb.device)
            more: dict[str, Any] = {"fading": self._fading(fading), "unseen": _unseen(scene, 0, worn)}
            painted = self._calm.step(painted[0], luma, parts, scene.shots[0], chroma=chroma, **more)[None]
        return painted, rows

    def _known_flow(self, reading: Reading, frame: int) -> Tensor | None:
        known = None if reading.flows is None else reading.flows[frame]
        return None if known is None else to_device(torch.from_numpy(known), self.palette.device)

    def _fading(self, looks: frozenset[int]) -> set[int]:
        """The layers that wear them."""
        return {layer for layer, look in enumerate(self._looks) if look in looks}

    def _rows(self, looks: np.ndarray | None, size: tuple[int, int]) -> tuple[Tensor | None, np.ndarray | None]:
        """Each pixel's row of the table of blends, from the looks [N, h, w] int32 it wears; and these."""
        if looks is None:
            return None, None
        on_device = to_device(torch.from_numpy(looks), self.palette.device)
        return blend_map(on_device, self._count, size, self.feathers), looks

    def _images(self, reading: Reading, part: slice) -> tuple[list[Tensor], Tensor | None]:
        """Each frame's painting [1, 3, H, W] of a part of a batch, and the part's rows."""
        _, runs, rows = self._painted(reading, part)
        return [image[k : k + 1] for _, _, image in runs for k in range(len(image))], rows

    def _paint_planes(self, reading: Reading, part: slice, out: Planes, subsample: bool) -> Planes:
        """Paint the frames of a part of a batch, into out."""
        planes = part_of(reading.planes, part)
        rgb, runs, rows = self._painted(reading, part)
        for run, worn, image in runs:
            index = None if rows is None else rows[run]
            here = part_of(planes, run)
            self._lay(image, here, reading.color, index, worn, part_of(out, run), subsample, rgb[run])
        return out

    def _painted(
        self, reading: Reading, part: slice
    ) -> tuple[Tensor, Iterator[tuple[slice, Worn, Tensor]], Tensor | None]:
        """A part's RGB; its paintings [n, 3, H, W], a run of frames that wear the same at a time; its rows."""
        assert reading.scene is not None
        rgb = yuv_to_rgb(part_of(reading.planes, part), reading.color)
        small = None if reading.scene.looks is None else reading.scene.looks[part]
        rows, looks = self._rows(small, (rgb.shape[2], rgb.shape[3]))

        def each() -> Iterator[tuple[slice, Worn, Tensor]]:
            for run, worn in _runs(reading.worn[part], 1 if rgb.device.type == "cpu" else len(rgb)):
                index, here = None if rows is None else rows[run], None if looks is None else looks[run]
                within = None if reading.within is None else functools.reduce(Box.join, reading.within[part][run])
                yield run, worn, self.palette.paint(rgb[run], worn, index, here, within)

        return rgb, each(), rows

    def _lay(
        self,
        image: Tensor,
        planes: Planes,
        color: ColorTags,
        rows: Tensor | None,
        worn: Worn,
        out: Planes,
        subsample: bool,
        rgb: Tensor | None = None,
    ) -> None:
        """Lay paintings over the picture, into out; rgb is that picture, where it is there already."""
        fits = (planes[1].shape == planes[0].shape) != subsample
        if worn.shares is not None and not fits:
            planes = relaid(planes, yuv_to_rgb(planes, color) if rgb is None else rgb, color, subsample)
        composite(image, planes, color, rows, worn.shares, subsample=subsample, out=out)

    def _cut(self, reading: Reading, size: tuple[int, int]) -> dict[int, Tensor]:
        return {} if self.cutter is None else self.cutter.cut(reading.scene, size, self.portions, self.palette.device)

    def _downloaded(
        self,
        reading: Reading,
        packed: Tensor,
        cut: dict[int, Tensor],
        subsample: bool,
        lane: Lane,
        flows: dict[int, Tensor] | None = None,
    ) -> FrameBatch:
        lanes, flows = self._lanes, flows or {}
        down = (packed, *cut.values(), *flows.values())
        with lanes.on("download", after=lanes.mark(lane), uses=down):
            painted, *others = (part.numpy() for part in Download(down).wait())
        height, width = reading.planes[0].shape[1:]
        y, u, v = packed_planes(painted, height, width, subsample=subsample)
        layers = dict(zip(cut, others[: len(cut)], strict=True))
        known = dict(zip(flows, others[len(cut) :], strict=True))
        each = [known.get(i) for i in range(len(reading.pts))] if self.keeps_flow else []
        return FrameBatch(y, u, v, reading.pts, reading.index, packed=painted, alphas=layers, flows=each)


def _for_motion(planes: Planes) -> tuple[Tensor, Tensor]:
    """Luma [N, h, w] and chroma [N, 2, h / 2, w / 2] as Calm wants them."""
    luma = resize_planes(planes[0], small_size(planes[0].shape, LINES))
    size = halved_size(luma.shape)
    return luma, torch.stack([resize_planes(plane, size) for plane in planes[1:]], 1)


def _unseen(scene: Scene, frame: int, worn: Worn) -> set[int]:
    """The layers that wear no paint."""
    if not worn.bare or scene.looks is None or scene.layers is None:
        return {0} if worn.bare and scene.looks is None else set()
    bare = np.isin(scene.looks[frame], list(worn.bare))
    return set(np.unique(scene.layers[frame][bare]).tolist())


def part_of(planes: Planes, part: slice) -> Planes:
    """Some frames of planes."""
    y, u, v = (plane[part] for plane in planes)
    return y, u, v


def relaid(planes: Planes, rgb: Tensor, color: ColorTags, subsample: bool) -> Planes:
    """Planes in the other chroma layout; luma stays as it is."""
    _, u, v = rgb_to_yuv(rgb, color, subsample=subsample)
    return planes[0], u, v


def _new_frames(planes: Planes, subsample: bool) -> tuple[Tensor, Planes]:
    """Memory for a batch's frames, each one's planes one after another; and the planes in it."""
    count, height, width = planes[0].shape
    packed = planes[0].new_empty(count, packed_bytes(height, width, subsample=subsample))
    return packed, packed_planes(packed, height, width, subsample=subsample)


def _runs(worn: list[Worn], most: int) -> Iterator[tuple[slice, Worn]]:
    """Consecutive frames that wear the same, at most so many at once."""
    begin = 0
    for i in range(1, len(worn) + 1):
        if i == len(worn) or worn[i] is not worn[begin] or i - begin == most:
            yield slice(begin, i), worn[begin]
            begin = i
