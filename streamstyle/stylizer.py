"""Stylizer: frames in, painted frames out, from any source. Everything between decoder and encoder."""

from __future__ import annotations

import functools
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from streamstyle.boxes import Box
from streamstyle.config import Options
from streamstyle.errors import OptionError, ShapeError
from streamstyle.frames import ColorTags, Frame, FrameBatch, VideoInfo, packed_bytes, packed_planes
from streamstyle.frozen_statistics import FrozenStatistics
from streamstyle.gpu.memory import Portions
from streamstyle.gpu.streams import Download, Lanes, Mark
from streamstyle.gpu.transfer import Planes, choose_device, choose_dtype, to_device, upload
from streamstyle.look import Look, ObjectStyle
from streamstyle.nets.painting import Affine
from streamstyle.object_tracks import object_mask
from streamstyle.palette import Palette, Worn
from streamstyle.scene import Given, Numbers, ObjectStyleReport, Scene, SceneReader
from streamstyle.segmenter import Segmentation
from streamstyle.stages.blend_modes import laid_over, looked_up
from streamstyle.stages.color import filled, rgb_to_yuv, yuv_to_rgb
from streamstyle.stages.composite import composite
from streamstyle.stages.style_map import MOST_LOOKS, blend_map

COMPILE_PAYS_FRAMES = 1500
"""Frames of a 640x360 film after which a compiled lookup has earned its compilation (10 s) back."""
RECORD_PX = 1 << 22
"""Reference frames larger than this are shrunk before statistics are recorded."""


@dataclass(frozen=True)
class Reading:
    """A batch that has been read: its planes on the device, and all that painting it needs beside them.

    within is there where only a part of each frame is to be painted; the rest of it is of no account.
    """

    planes: Planes
    pts: tuple[int, ...]
    index: int
    color: ColorTags
    scene: Scene | None
    worn: list[Worn]
    ready: Mark
    within: tuple[Box, ...] | None = None


class Stylizer:
    """Paint frames, each object in its style.

    Args:
        look: which object gets which style.
        options: analysis, painting, device.
        frames_expected: how long the film is, where known; decides whether compiling pays.
        given: knows where the objects are, such as GivenTracks; then none is looked for.

    Raises:
        DeviceError: the device asked for is not there.
        OptionError: the Look and the options do not go together, or the Look has too many styles.
        InputError: a painting or a network of one's own cannot be read.
        WeightsError: weights are neither cached nor to be fetched.

    Example:
        >>> stylizer = Stylizer(Look(style="starry"))
        >>> painted = list(stylizer.paint(frames))        # frames: [H, W, 3] uint8 RGB, any source
    """

    def __init__(
        self,
        look: Look,
        options: Options | None = None,
        *,
        frames_expected: int | None = None,
        given: Given | None = None,
    ) -> None:
        self.look, self.options = look, options or Options()
        self.device = choose_device(self.options.device)
        self.dtype = choose_dtype(self.options.painting.precision, self.device)
        painting = self.options.painting
        if painting.statistics == "frame" and (look.needs_objects or len(look.styles) > 1):
            raise OptionError(
                "--statistics frame: paints one style over the whole frame; say only --style, or use frozen"
            )
        if look.needs_objects and len(look.styles) > MOST_LOOKS:
            raise OptionError(f"{len(look.styles)} styles in one film; give at most {MOST_LOOKS}")
        compiles = look.needs_objects and _compiles(painting.compile, frames_expected, self.device)
        self.palette = Palette(look.styles, painting, self.device, self.dtype, compile_lookup=compiles)
        self._feathers = painting.feather
        self._scene = SceneReader(look, self.options.analysis, self.device, given)
        self._lanes = Lanes(self.device)
        self._portions = Portions(self.device, self.palette.shrink_bands)
        self.restart()

    def restart(self) -> None:
        """Forget the film so far: the next frame is the first of another one, of any size."""
        self._scene.restart(self.look)
        self._portions.forget()
        self._statistics = FrozenStatistics()
        self._worn: tuple[Any, Worn] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Everything the frames to come depend on, as nested plain values and NumPy arrays; see load_state_dict."""
        with self._lanes.on("analysis"):
            return {"scene": self._scene.state_dict(), "statistics": self._statistics.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as the stylizer, of the same Look and options, whose state_dict this is."""
        self.restart()
        with self._lanes.on("analysis"):
            self._scene.load_state_dict(state["scene"])
            self._statistics.load_state_dict(state["statistics"], self.device)

    # -- any source ---------------------------------------------------------------------------------------------

    def paint(self, frames: Iterable[np.ndarray], *, fps: float = 25.0) -> Iterator[np.ndarray]:
        """Paint RGB frames from any source, one in, one out, in order; each call starts another film.

        Args:
            frames: [H, W, 3] uint8 RGB arrays of one size.
            fps: frames a second; gives the objects' SECONDS their meaning.

        Yields:
            [H, W, 3] uint8 RGB arrays of the same size; pixels that wear ``none`` are the frame's own.

        Raises:
            ShapeError: a frame is not [H, W, 3] uint8 or changes size.
        """
        self.restart()
        color = ColorTags("bt709", full_range=True)
        size = None
        for index, frame in enumerate(frames):
            if (
                frame.ndim != 3
                or frame.shape[2] != 3
                or frame.dtype != np.uint8
                or (size or frame.shape) != frame.shape
            ):
                raise ShapeError(f"frames must be [H, W, 3] uint8 of one size, got {frame.dtype} {[*frame.shape]}")
            size = frame.shape
            yield self._paint_rgb(frame, color, index, index / fps) if self.palette.paints else frame

    @torch.inference_mode()
    def _paint_rgb(self, frame: np.ndarray, color: ColorTags, index: int, time_s: float) -> np.ndarray:
        rgb = (torch.from_numpy(np.ascontiguousarray(frame)).to(self.device).permute(2, 0, 1)[None] / 255).float()
        planes = rgb_to_yuv(rgb, color, subsample=False)  # for the analysis; the network paints the RGB as it is
        scene = self._scene.read(self._scene.small(planes), color, index, [time_s], (rgb.shape[2], rgb.shape[3]))
        worn = self._wear(scene, lambda i: rgb, frame.shape[:2], [time_s])[0]
        rows, looks = self._rows_of(scene.looks, (rgb.shape[2], rgb.shape[3]))
        painted = self.palette.paint(rgb, worn, rows, looks).float()
        if worn.shares is not None:
            painted = laid_over(painted, rgb, worn.shares, rows)
        levels = (painted[0].permute(1, 2, 0) * 255 + 0.5).to(torch.uint8).cpu().numpy()
        if worn.shares is None:
            return levels
        part = looked_up(worn.shares[:, 0].contiguous(), rows)[0, 0, ..., None].cpu().numpy()
        return np.where(part > 0, levels, frame)

    # -- the river ----------------------------------------------------------------------------------------------

    def paint_batch(
        self, batch: FrameBatch, color: ColorTags, times_s: list[float], *, subsample: bool = True
    ) -> FrameBatch:
        """Paint one batch of planar YUV frames: read_batch, then paint_reading.

        Args:
            batch: consecutive frames.
            color: what their numbers mean.
            times_s: time of each frame in seconds after the film's first.
            subsample: give 4:2:0 back (even sizes), else 4:4:4.

        Returns:
            A batch with the same pts; pixels that wear ``none`` are the original bytes (where chroma goes from 4:2:0
            to 4:4:4, or back, their luma is).
        """
        return self.paint_reading(self.read_batch(batch, color, times_s), subsample=subsample)

    @torch.inference_mode()
    def read_batch(self, batch: FrameBatch, color: ColorTags, times_s: list[float]) -> Reading:
        """Advance by a batch: its objects, its shots, its styles. All that is carried from frame to frame changes here.

        Cost: the synchronisations of SceneReader.read.
        """
        lanes, size = self._lanes, batch.y.shape[1:]
        with lanes.on("upload"):
            planes = upload((batch.y, batch.u, batch.v), self.device)
        uploaded = lanes.mark("upload")
        if not self.palette.paints:
            return Reading(planes, batch.pts, batch.index, color, None, [], uploaded)
        with lanes.on("analysis", after=uploaded, uses=planes):
            scene = self._scene.read(self._scene.small(planes), color, batch.index, times_s, (size[0], size[1]))
            worn = self._wear(scene, lambda i: yuv_to_rgb(_part(planes, slice(i, i + 1)), color), size, times_s)
        return Reading(planes, batch.pts, batch.index, color, scene, worn, lanes.mark("analysis"))

    @torch.inference_mode()
    def reading_of(
        self, batch: FrameBatch, color: ColorTags, scene: Scene, worn: list[Worn], within: tuple[Box, ...]
    ) -> Reading:
        """A batch of which all is known already; nothing is carried on. within: what of each frame is wanted."""
        with self._lanes.on("upload"):
            planes = upload((batch.y, batch.u, batch.v), self.device)
        return Reading(planes, batch.pts, batch.index, color, scene, worn, self._lanes.mark("upload"), within)

    @torch.inference_mode()
    def record_frame(self, planes: tuple[np.ndarray, ...], color: ColorTags) -> list[Affine]:
        """Each pigment's affine maps from a reference frame, [1, H, W] planes."""
        with self._lanes.on("analysis"):
            rgb = yuv_to_rgb(upload(planes, self.device), color)
            (recorded,) = self._portions.each(1, planes[0].shape[1:], lambda part: self._record(rgb))
        return recorded

    @torch.inference_mode()
    def paint_reading(self, reading: Reading, *, subsample: bool = True) -> FrameBatch:
        """Paint a batch that was read, as paint_batch; several may be painted at once, in any order, by any thread.

        Cost: one synchronisation on CUDA, at the end.

        Raises:
            DeviceError: not even one frame fits the device's memory.
        """
        lanes, planes, color = self._lanes, reading.planes, reading.color
        size = planes[0].shape[1:]
        crossing = [*planes, *(tensor for worn in reading.worn for tensor in worn.tensors())]
        with lanes.on("paint", after=reading.ready, uses=crossing):
            packed = planes[0].new_empty(len(reading.pts), packed_bytes(*size, subsample=subsample))
            out = packed_planes(packed, *size, subsample=subsample)
            if reading.scene is None:
                fits = (planes[1].shape == planes[0].shape) != subsample
                filled(out, planes if fits else _relaid(planes, yuv_to_rgb(planes, color), color, subsample))
            else:
                self._portions.each(
                    len(reading.pts), size, lambda part: self._paint_planes(reading, part, _part(out, part), subsample)
                )
        with lanes.on("download", after=lanes.mark("paint"), uses=(packed,)):
            painted = Download((packed,)).wait()[0].numpy()
        y, u, v = packed_planes(painted, *size, subsample=subsample)
        return FrameBatch(y, u, v, reading.pts, reading.index, packed=painted)

    def _wear(
        self, scene: Scene, rgb_of: Callable[[int], Tensor], size: tuple[int, ...], times_s: Sequence[float]
    ) -> list[Worn]:
        """What each frame wears; rgb_of(i) is frame i as RGB [1, 3, H, W]."""

        def record(i: int) -> list[Affine]:
            (recorded,) = self._portions.each(1, size, lambda part: self._record(rgb_of(i)))
            return recorded

        look = 0 if scene.looks is None else None
        if self.options.painting.statistics == "frame":
            return [self.palette.wear(record(i), times_s[i], look) for i in range(len(scene.shots))]
        worn = []
        for i, (luma, shot) in enumerate(zip(scene.lumas, scene.shots, strict=True)):
            recorded = self._statistics.step(luma, shot, functools.partial(record, i))
            what = (self._statistics.version, self.palette.moment(times_s[i]))
            if self._worn is None or self._worn[0] != what:
                self._worn = what, self.palette.wear(recorded, times_s[i], look)
            worn.append(self._worn[1])
        return worn

    def _rows_of(self, looks: np.ndarray | None, size: tuple[int, int]) -> tuple[Tensor | None, np.ndarray | None]:
        """Each pixel's row of the table of blends, from the looks [N, h, w] int32 it wears; and these."""
        if looks is None:
            return None, None
        on_device = to_device(torch.from_numpy(looks), self.device)
        return blend_map(on_device, len(self.look.styles), size, self._feathers)[0], looks

    def _paint_planes(self, reading: Reading, part: slice, out: Planes, subsample: bool) -> Planes:
        """Paint the frames of a part of a batch, into out."""
        assert reading.scene is not None
        color, looks = reading.color, reading.scene.looks
        planes = _part(reading.planes, part)
        rgb = yuv_to_rgb(planes, color)
        fits = (planes[1].shape == planes[0].shape) != subsample
        index, looks = self._rows_of(None if looks is None else looks[part], (rgb.shape[2], rgb.shape[3]))
        for run, worn in _runs(reading.worn[part], 1 if self.device.type == "cpu" else len(rgb)):
            rows = None if index is None else index[run]
            within = None if reading.within is None else functools.reduce(Box.join, reading.within[part][run])
            image = self.palette.paint(rgb[run], worn, rows, None if looks is None else looks[run], within)
            original = _part(planes, run)
            if worn.shares is not None and not fits:
                original = _relaid(original, rgb[run], color, subsample)
            composite(image, original, color, rows, worn.shares, subsample=subsample, out=_part(out, run))
        return out

    def _record(self, rgb: Tensor) -> list[Affine]:
        """Each pigment's affine maps from a reference frame."""
        pixels = rgb.shape[2] * rgb.shape[3]
        if pixels > RECORD_PX:
            step = int(np.ceil(np.sqrt(pixels / RECORD_PX)))
            rgb = torch.nn.functional.avg_pool2d(rgb, step)
        return self.palette.record(rgb)

    # -- objects ------------------------------------------------------------------------------------------------

    def number_objects(self, numbers: Numbers) -> None:
        """From now on scenes have labels, as numbers gives them."""
        self._scene.numbers = numbers

    def report(self) -> list[ObjectStyleReport]:
        """The objects found so far, with the style each wore."""
        return self._scene.report()

    def foresee(self, frames: Iterable[Frame], info: VideoInfo) -> None:
        """Before a film is read, look at its first frames: what moves by itself is known from the very first on."""
        with self._lanes.on("analysis"):
            self._scene.foresee(frames, info)

    @torch.inference_mode()
    def find_objects(self, batch: FrameBatch, color: ColorTags) -> Segmentation:
        """The regions of a batch's first frame, as they are numbered for ``#N``."""
        return self._scene.find_objects(upload((batch.y[:1], batch.u[:1], batch.v[:1]), self.device), color)

    def check_object(self, thing: ObjectStyle, batch: FrameBatch, color: ColorTags) -> np.ndarray:
        """Where a named object is in the batch's first frame, [h, w] bool, at the analysis size.

        Args:
            thing: the object.
            batch, color: the frame it is named in.

        Raises:
            OptionError: outside the frame, on the background, or no region of that number.
        """
        found = self.find_objects(batch, color)
        return object_mask(thing, found.ids, found.regions, (batch.y.shape[1], batch.y.shape[2]))

    def point_in(self, thing: ObjectStyle, batch: FrameBatch, color: ColorTags) -> tuple[int, int]:
        """The pixel (x, y) of the batch's first frame that lies deepest in a named object."""
        mask = self.check_object(thing, batch, color)
        inside = cv2.distanceTransform(np.pad(mask.astype(np.uint8), 1), cv2.DIST_L2, 3)
        row, column = np.unravel_index(int(inside.argmax()), inside.shape)
        height, width = batch.y.shape[1:]
        return int((column - 0.5) * width / mask.shape[1]), int((row - 0.5) * height / mask.shape[0])

    def name_objects(self, objects: tuple[ObjectStyle, ...], drawn: np.ndarray | None = None) -> None:
        """Take these places for the Look's named objects, and start another film; drawn [H, W] uint8 is their mask."""
        self.look = replace(self.look, objects=objects)
        self._scene.drawn = drawn
        self.restart()

    def warnings(self) -> list[str]:
        """What a person should know of the film so far, a line each."""
        lines = []
        if self.palette.compile_error is not None:
            lines.append(f"--compile: went on without, the compiler said: {self.palette.compile_error}")
        if halved := self._portions.halved + self._scene.portions.halved:
            times = f"{halved} time{'s' if halved > 1 else ''}"
            lines.append(f"{self.device}: was out of memory {times} and went on with smaller batches, more slowly")
        return lines + self._scene.warnings()


def _part(planes: Planes, part: slice) -> Planes:
    y, u, v = (plane[part] for plane in planes)
    return y, u, v


def _runs(worn: list[Worn], most: int) -> Iterator[tuple[slice, Worn]]:
    """Consecutive frames that wear the same, at most so many at once."""
    begin = 0
    for i in range(1, len(worn) + 1):
        if i == len(worn) or worn[i] is not worn[begin] or i - begin == most:
            yield slice(begin, i), worn[begin]
            begin = i


def _relaid(planes: Planes, rgb: Tensor, color: ColorTags, subsample: bool) -> Planes:
    """Planes in the other chroma layout; luma stays as it is."""
    _, u, v = rgb_to_yuv(rgb, color, subsample=subsample)
    return planes[0], u, v


def _compiles(wanted: str, frames: int | None, device: torch.device) -> bool:
    """Whether to compile the lookup; auto: where that saves more than it costs. A CPU needs torch's C++ compiler.

    Raises:
        OptionError: compiling is asked for, and there is no compiler.
    """
    compiler = os.environ.get("CXX", {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++"))
    can = device.type == "cuda" or shutil.which(compiler) is not None
    if wanted == "on" and not can:
        raise OptionError(f"--compile on: needs the C++ compiler {compiler}; install it, or leave --compile out")
    return can and (wanted == "on" or (wanted == "auto" and (frames or 0) >= COMPILE_PAYS_FRAMES))
