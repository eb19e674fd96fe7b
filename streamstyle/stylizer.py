"""Stylizer: frames in, painted frames out, from any source. Everything between decoder and encoder."""

from __future__ import annotations

import functools
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from streamstyle.config import Options
from streamstyle.errors import OptionError, ShapeError
from streamstyle.frames import ColorTags, FrameBatch
from streamstyle.frozen_statistics import FrozenStatistics
from streamstyle.gpu.streams import Lanes
from streamstyle.gpu.transfer import choose_device, choose_dtype, has_native, upload
from streamstyle.look import Look, ObjectStyle
from streamstyle.nets.painting import Affine
from streamstyle.objects.following import Given
from streamstyle.objects.places import place_mask
from streamstyle.objects.segmenter import Segmentation
from streamstyle.painting.boxes import Box
from streamstyle.painting.frame_painter import FramePainter, Painting, Reading, part_of
from streamstyle.painting.layers import LayerCutter
from streamstyle.painting.palette import Palette
from streamstyle.painting.worn import Worn, changed_looks
from streamstyle.plugins import BUILT_IN, check_segmenter
from streamstyle.scene import Numbers, ObjectStyleReport, Scene, SceneReader, Upcoming
from streamstyle.stages.blend_modes import laid_over, looked_up
from streamstyle.stages.color import rgb_to_yuv, yuv_to_rgb
from streamstyle.stages.style_map import MOST_LOOKS, pair_feathers
from streamstyle.stages.stylize_int8 import in_bytes
from streamstyle.styles import Style

COMPILE_PAYS_FRAMES = 1500
"""Frames of a 640x360 film after which a compiled lookup has earned its compilation (10 s) back."""
RECORD_PX = 1 << 22
"""Reference frames larger than this are shrunk before statistics are recorded."""


class Stylizer:
    """Paint frames, each object in its style.

    Args:
        look: which object gets which style.
        options: analysis, painting, device.
        frames_expected: how long the film is, where known; decides whether compiling pays.
        given: knows where the objects are, such as GivenTracks; then none is looked for.
        apart: the film is painted in parts, as a project's is, which must match; see ``stylize_int8.in_bytes``.

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
        apart: bool = False,
    ) -> None:
        self.look, self.options = look, options or Options()
        self.device = choose_device(self.options.device)
        painting = self.options.painting
        self.dtype = choose_dtype(painting.precision, self.device)
        self.int8 = in_bytes(painting.precision, self.device, apart=apart, briefly=painting.statistics == "frame")
        if painting.statistics == "frame" and (look.needs_objects or len(look.styles) > 1):
            raise OptionError(
                "--statistics frame: paints one style over the whole frame; say only --style, or use frozen"
            )
        if look.needs_objects and len(look.styles) > MOST_LOOKS:
            raise OptionError(f"{len(look.styles)} styles in one film; give at most {MOST_LOOKS}")
        if self.options.analysis.segmenter not in BUILT_IN:
            check_segmenter(self.options.analysis.segmenter)
        compiles = look.needs_objects and _compiles(painting.compile, frames_expected, self.device)
        self.palette = Palette(look.styles, painting, self.device, self.dtype, int8=self.int8, compile_lookup=compiles)
        self._scene = SceneReader(look, self.options.analysis, self.device, given)
        self._lanes = Lanes(self.device)
        number = {style: k for k, style in enumerate(look.styles)}
        layers = [(name, number[style]) for name, style in zip(self.layer_names, self._layer_styles(), strict=True)]
        self.painter = FramePainter(self.palette, painting, len(look.styles), layers, self._lanes)
        self.restart()

    def restart(self) -> None:
        """Forget the film so far: the next frame is the first of another one, of any size."""
        self._scene.restart(self.look)
        self.painter.restart()
        self._statistics = FrozenStatistics()
        self._worn: tuple[Any, Worn] | None = None
        self._moment: list[Any] = []

    def state_dict(self) -> dict[str, Any]:
        """Everything the frames to come depend on, as nested plain values and NumPy arrays; see load_state_dict."""
        return {"reading": self.reading_state(), "painting": self.painting_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as the stylizer, of the same Look and options, whose state_dict this is."""
        self.restart()
        reading = state["reading"]
        with self._lanes.on("analysis"):
            self._scene.load_state_dict(reading["scene"])
            self._statistics.load_state_dict(reading["statistics"], self.device)
            self._moment = reading["moment"]
        self.painter.load_state_dict(state["painting"])

    def reading_state(self) -> dict[str, Any]:
        """What reading carries from frame to frame: where batches are read ahead, as of the last one read."""
        with self._lanes.on("analysis"):
            return {
                "scene": self._scene.state_dict(),
                "statistics": self._statistics.state_dict(),
                "moment": self._moment,
            }

    def painting_state(self) -> dict[str, Any]:
        """What painting carries, as of the last batch whose painting was ended."""
        return self.painter.state_dict()

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
        scene = self._scene.read(planes, color, index, [time_s])
        (worn,), (fading,) = self._wear(scene, lambda i: rgb, frame.shape[:2], [time_s])
        painted, rows = self.painter.picture(rgb, planes, worn, scene, fading=fading)
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
    def read_batch(
        self,
        batch: FrameBatch,
        color: ColorTags,
        times_s: list[float],
        ahead: Upcoming | None = None,
        time_of: Callable[[int], float] | None = None,
    ) -> Reading:
        """Advance by a batch: its objects, its shots, its styles. All that is carried from frame to frame changes here.

        Args:
            batch, color, times_s: as for paint_batch; ahead, time_of: as for SceneReader.read.

        Cost: the synchronisations of SceneReader.read.
        """
        lanes, size = self._lanes, batch.y.shape[1:]
        with lanes.on("upload"):
            planes = upload((batch.y, batch.u, batch.v), self.device)
        uploaded = lanes.mark("upload")
        if not self.palette.paints:
            return Reading(planes, batch.pts, batch.index, color, None, [], [], uploaded)
        with lanes.on("analysis", after=uploaded, uses=planes):
            scene = self._scene.read(planes, color, batch.index, times_s, ahead, time_of)
            wear = self._wear(scene, lambda i: yuv_to_rgb(part_of(planes, slice(i, i + 1)), color), size, times_s)
        return Reading(planes, batch.pts, batch.index, color, scene, *wear, lanes.mark("analysis"))

    @torch.inference_mode()
    def reading_of(
        self,
        batch: FrameBatch,
        color: ColorTags,
        scene: Scene,
        worn: list[Worn],
        fading: list[frozenset[int]],
        within: tuple[Box, ...],
        flows: Sequence[np.ndarray | None],
    ) -> Reading:
        """A batch of which all is known, and worn was made when analysing; nothing is carried on. See Reading."""
        with self.analysing():  # who waits for these planes waits for what is worn, too
            planes = upload((batch.y, batch.u, batch.v), self.device)
        ready = self._lanes.mark("analysis")
        return Reading(planes, batch.pts, batch.index, color, scene, worn, fading, ready, within, flows)

    def analysing(self) -> AbstractContextManager[None]:
        """Where what is read of frames, recorded of them and worn by them is made, so that painting waits for it."""
        return self._lanes.on("analysis")

    @torch.inference_mode()
    def record_frame(self, planes: tuple[np.ndarray, ...], color: ColorTags) -> list[Affine]:
        """Each pigment's affine maps from a reference frame, [1, H, W] planes."""
        with self.analysing():
            rgb = yuv_to_rgb(upload(planes, self.device), color)
            (recorded,) = self.painter.portions.each(1, planes[0].shape[1:], lambda part: self._record(rgb))
        return recorded

    def paint_reading(self, reading: Reading, *, subsample: bool = True) -> FrameBatch:
        """Paint a batch that was read, as paint_batch: begin_painting, then end_painting."""
        return self.end_painting(self.begin_painting(reading, subsample=subsample), subsample=subsample)

    def begin_painting(self, reading: Reading, *, subsample: bool = True) -> Painting:
        """What of painting needs no other batch; several may be begun at once, in any order, by any thread.

        Raises:
            DeviceError: not even one frame fits the device's memory.
        """
        return self.painter.begin(reading, subsample=subsample)

    def end_painting(self, painting: Painting, *, subsample: bool = True) -> FrameBatch:
        """The rest, in the order of the film; what is carried from frame to frame while painting changes here."""
        return self.painter.end(painting, subsample=subsample)

    def _wear(
        self, scene: Scene, rgb_of: Callable[[int], Tensor], size: tuple[int, ...], times_s: Sequence[float]
    ) -> tuple[list[Worn], list[frozenset[int]]]:
        """What each frame wears, and which looks wore something else in the one before; rgb_of(i): [1, 3, H, W]."""

        def record(i: int) -> list[Affine]:
            (recorded,) = self.painter.portions.each(1, size, lambda part: self._record(rgb_of(i)))
            return recorded

        look = 0 if scene.looks is None else None
        if self.options.painting.statistics == "frame":
            each = [self.palette.wear(record(i), times_s[i], look) for i in range(len(scene.shots))]
            return each, [frozenset(range(len(self.look.styles)))] * len(each)
        worn, fading = [], []
        for i, (luma, shot) in enumerate(zip(scene.lumas, scene.shots, strict=True)):
            recorded = self._statistics.step(luma, shot, functools.partial(record, i))
            what = (self._statistics.version, self.palette.moment(times_s[i]))
            if self._worn is None or self._worn[0] != what:
                self._worn = what, self.palette.wear(recorded, times_s[i], look)
            worn.append(self._worn[1])
            moment = [what[0], [list(shares) for shares in what[1]]]
            fading.append(changed_looks(self._moment, moment))
            self._moment = moment
        return worn, fading

    def _record(self, rgb: Tensor) -> list[Affine]:
        """Each pigment's affine maps from a reference frame."""
        pixels = rgb.shape[2] * rgb.shape[3]
        if pixels > RECORD_PX:
            step = int(np.ceil(np.sqrt(pixels / RECORD_PX)))
            rgb = torch.nn.functional.avg_pool2d(rgb, step)
        return self.palette.record(rgb)

    # -- objects ------------------------------------------------------------------------------------------------

    def cut_layers(self) -> dict[int, str]:
        """From now on, batches that are painted have alphas, as ``LayerCutter`` makes them; the layers, by number."""
        feathers = [Style.parse(style).feather for style in self._layer_styles()]
        widths = pair_feathers(feathers, self.options.painting.feather)
        cutter = LayerCutter(self._scene, widths, paints=self.palette.paints)
        self.painter.cutter = cutter
        return cutter.layers

    def _layer_styles(self) -> list[str]:
        """What each layer wears."""
        worn = {thing.name: thing.style for thing in self.look.objects}
        return [self.look.background_style, self.look.foreground_style, *(worn[n] for n in self.layer_names[2:])]

    @property
    def layer_names(self) -> tuple[str, ...]:
        """The background, all objects without a name together, and each that has one."""
        return self._scene.layer_names

    def number_objects(self, numbers: Numbers) -> None:
        """Scenes have labels, as numbers gives them; to be said before a film begins."""
        self._scene.numbers = numbers

    def calm_report(self) -> list[dict[str, Any]]:
        """How steady each layer is, and was before it was calmed: RMS along the source's motion; empty without calm.

        See painting.calm_report. A film of one frame has none.
        """
        return self.painter.report()

    def report(self) -> list[ObjectStyleReport]:
        """The objects found so far, with the style each wore."""
        return self._scene.report()

    @torch.inference_mode()
    def find_objects(self, batch: FrameBatch, color: ColorTags, ahead: Upcoming | None = None) -> Segmentation:
        """The regions of a batch's first frame, as they are numbered for ``#N``."""
        return self._scene.find_objects(upload((batch.y[:1], batch.u[:1], batch.v[:1]), self.device), color, ahead)

    def check_object(
        self, thing: ObjectStyle, batch: FrameBatch, color: ColorTags, ahead: Upcoming | None = None
    ) -> np.ndarray:
        """Where a named object, thing, is in the batch's first frame, [h, w] bool, at the analysis size.

        Args:
            batch, color: the frame it is named in; ahead: those after it, for what moves by itself there.

        Raises:
            OptionError: outside the frame, on ground that is still, no such region, or the segmenter finds nothing.
        """
        found = self.find_objects(batch, color, ahead)
        assert self._scene.segmenter is not None
        return place_mask(thing, found, self._scene.segmenter, (batch.y.shape[1], batch.y.shape[2]))

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
        precision = self.options.painting.precision
        if precision == "int8" and not self.palette.paints_in_bytes:
            lines.append("--precision int8: networks of your own paint in floats; leave it out")
        if precision in ("bfloat16", "float16") and self.device.type == "cpu" and not has_native(self.dtype):
            lines.append(f"--precision {precision}: this processor only imitates it, very slowly; use auto")
        if self.palette.compile_error is not None:
            lines.append(f"--compile: went on without, the compiler said: {self.palette.compile_error}")
        if halved := self.painter.portions.halved + self._scene.portions.halved:
            times = f"{halved} time{'s' if halved > 1 else ''}"
            lines.append(f"{self.device}: was out of memory {times} and went on with smaller batches, more slowly")
        return lines + self._scene.warnings()


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
