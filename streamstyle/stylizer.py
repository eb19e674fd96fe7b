"""Stylizer: frames in, painted frames out, from any source. Everything between decoder and encoder."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from streamstyle.config import Options
from streamstyle.errors import DeviceError, OptionError, ShapeError
from streamstyle.frames import ColorTags, FrameBatch
from streamstyle.frozen_statistics import CutDetector, FrozenStatistics
from streamstyle.gpu.transfer import Planes, choose_device, choose_dtype, download, upload
from streamstyle.look import Look, ObjectStyle
from streamstyle.nets.stylenet import StyleNet
from streamstyle.object_tracks import ObjectTracks, object_mask
from streamstyle.segmenter import MOST_REGIONS, Segmentation, Segmenter
from streamstyle.stages.color import rgb_to_yuv, yuv_to_rgb
from streamstyle.stages.composite import composite
from streamstyle.stages.resize import resize_planes, small_size
from streamstyle.stages.style_map import style_map
from streamstyle.stages.stylize_regions import Affine, RegionStylizer, blend_index, blend_table
from streamstyle.styles import NONE, style_number
from streamstyle.tracker import BACKGROUND

FLOW_EVERY_CPU = 4
COMPILE_PAYS_FRAMES = 1500
"""Frames of a 640x360 film after which a compiled lookup has earned its compilation (10 s) back."""
RECORD_PX = 1 << 22
"""Reference frames larger than this are shrunk before statistics are recorded."""


@dataclass(frozen=True)
class ObjectStyleReport:
    """One object of a finished job: as in the JSON report."""

    track_id: int
    name: str | None
    style: str
    first_frame: int
    last_frame: int
    mean_area_px: float


class Stylizer:
    """Paint frames, each object in its style.

    Args:
        look: which object gets which style.
        options: analysis, painting, device.
        frames_expected: how long the film is, where known; decides whether compiling pays.

    Raises:
        DeviceError: the device asked for is not there.
        OptionError: the Look and the options do not go together.
        WeightsError: weights are neither cached nor to be fetched.

    Example:
        >>> stylizer = Stylizer(Look(style="starry"))
        >>> painted = list(stylizer.paint(frames))        # frames: [H, W, 3] uint8 RGB, any source
    """

    def __init__(self, look: Look, options: Options | None = None, *, frames_expected: int | None = None) -> None:
        self.look, self.options = look, options or Options()
        self.device = choose_device(self.options.device)
        self.dtype = choose_dtype(self.options.painting.precision, self.device)
        painting = self.options.painting
        if painting.statistics == "frame" and (look.needs_objects or len(look.styles) > 1):
            raise OptionError(
                "--statistics frame: paints one style over the whole frame; say only --style, or use frozen"
            )
        compiles = look.needs_objects and _compiles(painting.compile, frames_expected, self.device)
        self._net = RegionStylizer(StyleNet.load(), self.device, self.dtype, compile_lookup=compiles)
        self._styles = look.styles
        self._segmenter = Segmenter(self.options.analysis, self.device) if look.needs_objects else None
        self.restart()

    def restart(self) -> None:
        """Forget the film so far: the next frame is the first of another one, of any size."""
        self._tracks: ObjectTracks | None = None
        if self._segmenter is not None:
            every = self.options.analysis.analyse_every
            every = every if every != "auto" else FLOW_EVERY_CPU if self.device.type == "cpu" else 1
            self._tracks = ObjectTracks(self._segmenter, self.options.analysis, self.look.objects, every)
        self._cuts = CutDetector()
        self._statistics = FrozenStatistics()
        self._table: tuple[int, Affine] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Everything the frames to come depend on, as nested plain values and NumPy arrays; see load_state_dict."""
        return {
            "tracks": None if self._tracks is None else self._tracks.state_dict(),
            "cuts": self._cuts.state_dict(),
            "statistics": self._statistics.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as the stylizer, of the same Look and options, whose state_dict this is."""
        self.restart()
        if self._tracks is not None:
            self._tracks.load_state_dict(state["tracks"])
        self._cuts.load_state_dict(state["cuts"])
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
            yield frame if self._styles == (NONE,) else self._paint_rgb(frame, color, index, index / fps)

    @torch.inference_mode()
    def _paint_rgb(self, frame: np.ndarray, color: ColorTags, index: int, time_s: float) -> np.ndarray:
        rgb = (torch.from_numpy(np.ascontiguousarray(frame)).to(self.device).permute(2, 0, 1)[None] / 255).float()
        planes = rgb_to_yuv(rgb, color, subsample=False)  # for the analysis; the network paints the RGB as it is
        image, share = self._paint_images(rgb, planes, color, index, [time_s])
        painted = (image.float()[0].permute(1, 2, 0) * 255 + 0.5).to(torch.uint8).cpu().numpy()
        if share is None:
            return painted
        part = share[0, ..., None].cpu().numpy()
        mixed = (frame + part * (painted.astype(np.float32) - frame) + 0.5).astype(np.uint8)
        return np.where(part > 0, mixed, frame)

    # -- the river ----------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def paint_batch(
        self, batch: FrameBatch, color: ColorTags, times_s: list[float], *, subsample: bool = True
    ) -> FrameBatch:
        """Paint one batch of planar YUV frames.

        Args:
            batch: consecutive frames.
            color: what their numbers mean.
            times_s: time of each frame in seconds after the film's first.
            subsample: give 4:2:0 back (even sizes), else 4:4:4.

        Returns:
            A batch with the same pts; pixels that wear ``none`` are the original bytes (where chroma goes from 4:2:0
            to 4:4:4, or back, their luma is).
        """
        fits = (batch.u.shape == batch.y.shape) != subsample
        if fits and self._styles == (NONE,):
            return batch
        try:
            return self._paint_batch(batch, color, times_s, subsample)
        except torch.OutOfMemoryError:
            height, width = batch.y.shape[1:]
            raise DeviceError(
                f"{self.device}: out of memory for {len(batch)} frames of {width}x{height}; "
                "give a smaller --size, or --device cpu"
            ) from None

    def _paint_batch(self, batch: FrameBatch, color: ColorTags, times_s: list[float], subsample: bool) -> FrameBatch:
        planes = upload((batch.y, batch.u, batch.v), self.device)
        if self._styles == (NONE,):
            y, u, v = download(_relaid(planes, yuv_to_rgb(planes, color), color, subsample))
            return FrameBatch(y, u, v, batch.pts, batch.index)
        rgb = yuv_to_rgb(planes, color)
        image, share = self._paint_images(rgb, planes, color, batch.index, times_s)
        fits = (planes[1].shape == planes[0].shape) != subsample
        original = planes if fits or share is None else _relaid(planes, rgb, color, subsample)
        y, u, v = download(composite(image, original, color, share, subsample=subsample))
        return FrameBatch(y, u, v, batch.pts, batch.index)

    def _paint_images(
        self, rgb: Tensor, planes: Planes, color: ColorTags, index: int, times_s: list[float]
    ) -> tuple[Tensor, Tensor | None]:
        """Paint RGB frames [N, 3, H, W]; planes are the same frames, for the analysis.

        Returns the pictures, and where ``none`` is worn the painted share [N, H, W] of each pixel.
        """
        small = self._small_planes(planes)
        lumas = small[0].cpu().numpy()  # synchronises
        cuts = [self._cuts.step(luma) for luma in lumas]
        size = (rgb.shape[2], rgb.shape[3])
        looks = None if self._tracks is None else self._follow(small, lumas, cuts, color, index, times_s, size)
        painted = [self._paint_frame(rgb[i : i + 1], looks, i, lumas[i], cuts[i]) for i in range(len(lumas))]
        shares = [share for _, share in painted if share is not None]
        return torch.cat([image for image, _ in painted]), torch.cat(shares) if shares else None

    def report(self) -> list[ObjectStyleReport]:
        """The objects found so far, with the style each wore."""
        if self._tracks is None:
            return []
        worn = {thing.name: thing.style for thing in self.look.objects}
        return [
            ObjectStyleReport(
                o.track_id,
                o.name,
                worn[o.name] if o.name else self.look.foreground_style,
                o.first_frame,
                o.last_frame,
                o.mean_area_px,
            )
            for o in self._tracks.report()
        ]

    @torch.inference_mode()
    def find_objects(self, batch: FrameBatch, color: ColorTags) -> Segmentation:
        """The regions of a batch's first frame, as they are numbered for ``#N``."""
        if self._tracks is None:
            raise OptionError("this Look paints the whole frame in one style; there are no objects to find")
        small = self._small_planes(upload((batch.y[:1], batch.u[:1], batch.v[:1]), self.device))
        return self._tracks.segmenter(yuv_to_rgb(small, color))[0]

    def check_object(self, thing: ObjectStyle, batch: FrameBatch, color: ColorTags) -> np.ndarray:
        """Where a named object is in the batch's first frame, [h, w] bool, at the analysis size.

        Args:
            thing: the object.
            batch, color: the frame it is named in.

        Raises:
            OptionError: outside the frame, on the background, or no region of that number.
        """
        found = self.find_objects(batch, color)
        return object_mask(thing, found.ids.cpu(), found.regions, (batch.y.shape[1], batch.y.shape[2]))

    def point_in(self, thing: ObjectStyle, batch: FrameBatch, color: ColorTags) -> tuple[int, int]:
        """The pixel (x, y) of the batch's first frame that lies deepest in a named object."""
        mask = self.check_object(thing, batch, color)
        inside = cv2.distanceTransform(np.pad(mask.astype(np.uint8), 1), cv2.DIST_L2, 3)
        row, column = np.unravel_index(int(inside.argmax()), inside.shape)
        height, width = batch.y.shape[1:]
        return int((column - 0.5) * width / mask.shape[1]), int((row - 0.5) * height / mask.shape[0])

    def name_objects(self, objects: tuple[ObjectStyle, ...]) -> None:
        """Take these places for the Look's named objects, and start another film."""
        self.look = replace(self.look, objects=objects)
        self.restart()

    def warnings(self) -> list[str]:
        """What a person should know of the film so far, a line each."""
        lines = []
        if self._net.compile_error is not None:
            lines.append(f"--compile: went on without, the compiler said: {self._net.compile_error}")
        if self._tracks is None:
            return lines
        lines += [
            f"object '{thing.name}' was never named: the film ended before its moment" for thing in self._tracks.pending
        ]
        lines += [
            f"object '{name}' was lost after frame {frame}: name it again at a later time with @SECONDS"
            for name, frame in self._tracks.lost()
        ]
        if self._tracks.segmenter.left_out:
            lines.append(
                f"{self._tracks.segmenter.left_out} regions beyond the {MOST_REGIONS} a frame may have went to the "
                "background, the smallest first; give a larger --min-area"
            )
        if self._tracks.tracker.forgotten:
            lines.append(f"{self._tracks.tracker.forgotten} small objects are left out of the report")
        return lines

    def _small_planes(self, planes: Planes) -> Planes:
        """y, u, v all at the analysis size (never larger than the frame)."""
        size = small_size(planes[0].shape, self.options.analysis.analysis_size)
        y, u, v = (resize_planes(plane, size) for plane in planes)
        return y, u, v

    def _follow(
        self,
        small: Planes,
        lumas: np.ndarray,
        cuts: list[bool],
        color: ColorTags,
        index: int,
        times_s: list[float],
        size: tuple[int, int],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Find and follow objects through a batch: the two strongest looks of each pixel and their weight."""
        assert self._tracks is not None
        wanted = self._tracks.plan(index, cuts, times_s)
        at = [i for i, want in enumerate(wanted) if want]
        found: dict[int, Segmentation] = {}
        if at:
            y, u, v = (plane[at] for plane in small)
            found = dict(zip(at, self._tracks.segmenter(yuv_to_rgb((y, u, v), color)), strict=True))
        maps = []
        for i, luma in enumerate(lumas):
            slots = self._tracks.step(luma, found.get(i), cuts[i], index + i, times_s[i], size)
            maps.append(self._look_table()[slots])
        looks = torch.from_numpy(np.stack(maps)).to(self.device)
        return style_map(looks, len(self._styles), size, self.options.painting.feather)

    def _look_table(self) -> np.ndarray:
        """Slot -> index of the style it wears, int32; a part not confirmed as an object wears the background's."""
        assert self._tracks is not None
        number = {style: k for k, style in enumerate(self._styles)}
        worn = {thing.name: thing.style for thing in self.look.objects}
        background, foreground = self.look.background_style, self.look.foreground_style
        table = np.full(self._tracks.tracker.slots, number[background], np.int32)
        for slot, track in self._tracks.tracker.tracks.items():
            if slot != BACKGROUND and (track.confirmed or track.name):
                table[slot] = number[worn[track.name] if track.name else foreground]
        return table

    def _paint_frame(
        self, rgb: Tensor, looks: tuple[Tensor, Tensor, Tensor] | None, i: int, luma: np.ndarray, cut: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Paint one frame; returns the picture, and where ``none`` is worn the painted share of each pixel."""
        if self.options.painting.statistics == "frame":
            return self._net.paint(rgb, self._record(rgb)[0]), None
        styles = self._statistics.step(luma, cut, lambda: self._record(rgb))
        if looks is None:
            return self._net.paint(rgb, styles[0]), None
        first, second, weight = (part[i : i + 1] for part in looks)
        if self._table is None or self._table[0] != self._statistics.version:
            self._table = (self._statistics.version, blend_table(styles))
        index = blend_index(first, second, weight, len(styles))
        image = self._net.paint(rgb, self._table[1], index)
        if NONE not in self._styles:
            return image, None
        paints = torch.tensor([float(style != NONE) for style in self._styles], device=self.device)
        share = torch.lerp(paints[second.long()], paints[first.long()], weight)
        return image, share

    def _record(self, rgb: Tensor) -> list[Affine]:
        """Each worn style's affine maps from a reference frame; ``none`` borrows a neighbour's, which is never seen."""
        pixels = rgb.shape[2] * rgb.shape[3]
        if pixels > RECORD_PX:
            step = int(np.ceil(np.sqrt(pixels / RECORD_PX)))
            rgb = torch.nn.functional.avg_pool2d(rgb, step)
        numbers = [style_number(style) for style in self._styles]
        recorded = {n: self._net.record(rgb, n) for n in dict.fromkeys(numbers) if n is not None}
        spare = next(iter(recorded.values()))
        return [spare if n is None else recorded[n] for n in numbers]


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
