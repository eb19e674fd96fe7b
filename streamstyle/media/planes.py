"""From a PyAV frame to planes: turned upright, scaled, 8-bit planar YUV, with the colours kept true."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import numpy as np
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import VideoReformatter

from streamstyle.frames import Frame, VideoInfo, output_chroma
from streamstyle.media.probe import is_full_range

_PLANAR = ("yuv420p", "yuvj420p")
_DIRECT = (*_PLANAR, "nv12")  # nv12: what hardware decoders give, U and V by turns in one plane
SWS_MATRIX = {"bt709": 1, "bt601": 5, "bt2020": 9}  # swscale's own numbers (SWS_CS_*), not libav's tags


def scaled_size(info: VideoInfo, size: int | None) -> tuple[int, int]:
    """Width and height of the film as shown when its short side is scaled to size pixels.

    The aspect is kept and both sides are rounded to even numbers. None leaves the film as it is, odd or even.
    """
    if size is None:
        return info.width, info.height
    short = _even(size)
    scale = Fraction(short, min(info.width, info.height))
    width, height = _even(info.width * scale), _even(info.height * scale)
    return width, height


class PlaneConverter:
    """Turns the PyAV frames of one film into Frames of one size and one chroma layout.

    8-bit 4:2:0 of the right size is copied out row by row, from three planes or from two (nv12); everything else goes
    through swscale with source and target matrix and range given, so that only the layout changes and never the
    colour. `other_sizes` counts the frames, by (width, height), that had another size than the first and were fitted
    inside black bars.
    """

    def __init__(self, info: VideoInfo, size: int | None = None) -> None:
        shown = scaled_size(info, size)
        quarter_turn = info.rotation in (90, 270)
        self._native = (info.height, info.width) if quarter_turn else (info.width, info.height)
        self._target = (shown[1], shown[0]) if quarter_turn else shown
        as_decoded = info.pix_fmt in _PLANAR and size is None
        self._format = "yuv420p" if as_decoded else output_chroma(*shown)
        self._quarter_turns = info.rotation // 90
        self._color = info.color
        self._reformatter = VideoReformatter()
        self.other_sizes: Counter[tuple[int, int]] = Counter()

    def convert(self, frame: VideoFrame, pts: int) -> Frame:
        """The frame's planes, owned by the result; the PyAV frame may be dropped."""
        inner = self._target
        if (frame.width, frame.height) != self._native:
            self.other_sizes[frame.width, frame.height] += 1
            inner = self._fitted(frame)
        if not self._is_direct(frame, inner):
            frame = self._reformat(frame, inner)
        planes = _planes(frame)
        if inner != self._target:
            planes = self._letterbox(planes, inner)
        if self._quarter_turns:
            planes = [np.rot90(plane, self._quarter_turns) for plane in planes]
        y, u, v = (np.array(plane, order="C") for plane in planes)  # always a copy: the decoder reuses its buffers
        return Frame(y, u, v, pts)

    def _is_direct(self, frame: VideoFrame, inner: tuple[int, int]) -> bool:
        return (
            self._format == "yuv420p"
            and frame.format.name in _DIRECT
            and (frame.width, frame.height) == inner
            and is_full_range(frame) == self._color.full_range
        )

    def _reformat(self, frame: VideoFrame, inner: tuple[int, int]) -> VideoFrame:
        source_full = is_full_range(frame)
        if frame.format.name == "pal8" or any(part.is_alpha for part in frame.format.components):
            frame, source_full = _over_black(frame), True
        matrix = SWS_MATRIX[self._color.matrix]
        return self._reformatter.reformat(
            frame,
            *inner,
            format=self._format,
            src_colorspace=matrix,
            dst_colorspace=matrix,
            src_color_range=2 if source_full else 1,
            dst_color_range=2 if self._color.full_range else 1,
            interpolation="BICUBIC",
            threads=1,
        )

    def _fitted(self, frame: VideoFrame) -> tuple[int, int]:
        """The largest size of the frame's aspect that fits the target, even where chroma is halved."""
        width, height = self._target
        scale = min(width / frame.width, height / frame.height)
        step = 2 if self._format == "yuv420p" else 1
        fitted = (step * round(side * scale / step) for side in (frame.width, frame.height))
        inner_width, inner_height = (
            min(max(step, side), whole) for side, whole in zip(fitted, self._target, strict=True)
        )
        return inner_width, inner_height

    def _letterbox(self, planes: list[np.ndarray], inner: tuple[int, int]) -> list[np.ndarray]:
        width, height = self._target
        half = 2 if self._format == "yuv420p" else 1
        left, top = ((whole - part) // 2 // half * half for whole, part in zip(self._target, inner, strict=True))
        black = 0 if self._color.full_range else 16
        boxed = []
        for plane, ratio, value in zip(planes, (1, half, half), (black, 128, 128), strict=True):
            canvas = np.full((-(-height // ratio), -(-width // ratio)), value, np.uint8)
            rows, columns = plane.shape
            canvas[top // ratio : top // ratio + rows, left // ratio : left // ratio + columns] = plane
            boxed.append(canvas)
        return boxed


def _even(side: Fraction | int) -> int:
    return max(2, 2 * round(Fraction(side) / 2))


def _planes(frame: VideoFrame) -> list[np.ndarray]:
    """Y, U and V as views."""
    if frame.format.name == "nv12":
        y, u_and_v = frame.planes
        pairs = _rows(u_and_v, samples=2)
        return [_rows(y), pairs[:, 0::2], pairs[:, 1::2]]
    return [_rows(plane) for plane in frame.planes[:3]]


def _rows(plane: VideoPlane, samples: int = 1) -> np.ndarray:
    """The plane's pixels as a view, samples bytes each, without the padding at the end of each row."""
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, abs(plane.line_size))
    if plane.line_size < 0:  # stored bottom-up
        rows = rows[::-1]
    return rows[:, : plane.width * samples]


def _over_black(frame: VideoFrame) -> VideoFrame:
    rgba = frame.to_ndarray(format="rgba").astype(np.uint8, copy=False)
    rgb, alpha = rgba[..., :3], rgba[..., 3:]
    if alpha.min() < 255:
        rgb = ((rgb.astype(np.uint16) * alpha + 127) // 255).astype(np.uint8)
    return VideoFrame.from_ndarray(np.ascontiguousarray(rgb), "rgb24")
