"""One layer of a film on its way to the disk: as films with alpha, one a segment, that are joined; or as pictures."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.frame import VideoFrame

from streamstyle.frames import VideoInfo
from streamstyle.media.codecs import VideoEncoder, add_video_stream
from streamstyle.media.encode import write_color_tags
from streamstyle.media.join import timescale_of
from streamstyle.media.probe import frame_ticks

MARGIN_PX = 16
"""So far round what is seen of a layer its film goes on, so that no block of a codec mixes it with the black beyond."""
NARROW, FULL = 1, 2  # libav's AVColorRange
_ALPHA10 = np.array([level << 2 | level >> 6 for level in range(256)], np.uint16)
"""8 bits to 10: of what sums to 255 it makes what sums to 1023."""


@dataclass(frozen=True)
class Kind:
    """How layers of one ``--layer-format`` are written; without an encoder as pictures.

    Attributes:
        under: layout of the painted film as it lies under the alpha.
        is_narrow: its readers take luma for 16..235, whatever is said.
        has_shape: it tells the shape of a pixel; PyAV gives WebM's muxer none.
    """

    under: str
    suffix: str = ""
    container: str = ""
    encoder: VideoEncoder | None = None
    is_narrow: bool = False
    has_shape: bool = False


_PRORES = VideoEncoder("prores_ks", "yuva444p10le", {"profile": "4444", "vendor": "apl0"})
_VP9 = VideoEncoder(
    "libvpx-vp9",
    "yuva420p",
    {"crf": "20", "b": "0", "deadline": "good", "cpu-used": "5", "row-mt": "1", "auto-alt-ref": "0"},
)
KINDS = {
    "prores": Kind("yuv444p10le", ".mov", "mov", _PRORES, is_narrow=True, has_shape=True),
    "vp9": Kind("yuv420p", ".webm", "webm", _VP9),
    "png": Kind("bgr24"),
}


class FilmWriter:
    """One segment of a layer as a film that begins at first_pts."""

    def __init__(
        self,
        path: Path,
        kind: Kind,
        encoder: VideoEncoder,
        info: VideoInfo,
        size: tuple[int, int],
        first_pts: int,
    ) -> None:
        self._info, self._first_pts = info, first_pts
        self._container = av.open(
            str(path), "w", format=kind.container, container_options=_container_options(kind, info)
        )
        self._track = add_video_stream(self._container, encoder, size=size, fps=info.fps, time_base=info.time_base)
        context = self._track.codec_context
        context.sample_aspect_ratio = info.sample_aspect_ratio.limit_denominator(65_535)
        self._frame = VideoFrame(*size, encoder.pix_fmt)
        self._frame.duration = frame_ticks(info)
        for tagged in (context, self._frame):
            write_color_tags(tagged, info, size[1])
            if kind.is_narrow and info.color.full_range:
                tagged.color_range = NARROW
        deep = encoder.pix_fmt.endswith("10le")
        black = 0 if info.color.full_range and not kind.is_narrow else 16
        self._nothing = [level << (2 if deep else 0) for level in (black, 128, 128, 0)]
        self._alpha_levels = _ALPHA10 if deep else None

    def write(self, under: list[np.ndarray], alpha: np.ndarray | None, pts: int) -> None:
        """Encode the next frame; without alpha there is nothing in it."""
        self._frame.make_writable()
        rows = rows_of(self._frame)
        for plane, nothing in zip(rows, self._nothing, strict=True):
            plane[:] = nothing
        if alpha is not None:
            seen = _seen(alpha)
            halved = np.ascontiguousarray(seen[::2, ::2])
            for plane, painted in zip(rows[:3], under, strict=True):
                cv2.copyTo(painted, seen if plane.shape == seen.shape else halved, plane)
            rows[3][:] = alpha if self._alpha_levels is None else cv2.LUT(alpha, self._alpha_levels)
        self._frame.pts, self._frame.time_base = pts - self._first_pts, self._info.time_base
        self._mux(self._frame)

    def finish(self) -> None:
        """Drain the encoder and complete the file."""
        self._mux(None)
        self._container.close()

    def abandon(self) -> None:
        """Close the file, complete or not."""
        with contextlib.suppress(av.FFmpegError, OSError, ValueError):
            self._container.close()

    def _mux(self, frame: VideoFrame | None) -> None:
        for packet in self._track.encode(frame):
            self._container.mux_one(packet)


def join_films(
    segments: Iterable[tuple[Path, Sequence[int]]], path: Path, kind: Kind, info: VideoInfo, first_pts: int
) -> None:
    """Remux one layer's segments, each with the pts of its frames, into one film that begins at first_pts.

    A packet is a frame here, and they come in order: so times are the film's own again, whatever a segment's file could
    tell of them (WebM: milliseconds). Alpha of VP9 lies beside each packet, and goes with it.

    Raises:
        av.FFmpegError, OSError: the disk or the muxer refuses.
    """
    assert kind.encoder is not None
    with av.open(str(path), "w", format=kind.container, container_options=_container_options(kind, info)) as container:
        track = None
        for file, times in segments:
            with av.open(str(file)) as source:
                theirs = source.streams.video[0]
                if track is None:
                    track = container.add_stream_from_template(theirs, opaque=True)
                    track.codec_context.framerate = info.fps
                    track.codec_context.pix_fmt = kind.encoder.pix_fmt  # by which WebM's muxer knows of alpha
                    if kind.has_shape:
                        track.codec_context.codec_tag = theirs.codec_context.codec_tag
                        track.codec_context.sample_aspect_ratio = theirs.sample_aspect_ratio
                packets = (packet for packet in source.demux(theirs) if packet.size)  # the last is the flush
                for packet, pts in zip(packets, times, strict=True):
                    packet.pts = packet.dts = pts - first_pts
                    packet.duration, packet.time_base = frame_ticks(info), info.time_base
                    packet.stream = track
                    container.mux_one(packet)


def _container_options(kind: Kind, info: VideoInfo) -> dict[str, str]:
    if kind.container == "webm":
        return {"fflags": "+bitexact"}  # else the track's number is drawn by chance
    timescale = str(timescale_of(info))
    return {"movie_timescale": timescale, "video_track_timescale": timescale}


class PictureWriter:
    """Some pictures of a layer, in a folder, numbered from first on."""

    def __init__(self, folder: Path, size: tuple[int, int], first: int) -> None:
        self._folder, self._count = folder, first
        self._bgra = np.zeros((size[1], size[0], 4), np.uint8)
        folder.mkdir()

    def write(self, under: list[np.ndarray], alpha: np.ndarray | None, pts: int) -> None:
        """Write the next picture; without alpha there is nothing in it."""
        self._bgra[:] = 0
        if alpha is not None:
            picture = cv2.merge([under[0], alpha])
            cv2.copyTo(picture, _seen(alpha), self._bgra)
        written, png = cv2.imencode(".png", self._bgra, [cv2.IMWRITE_PNG_COMPRESSION, 1])
        assert written
        (self._folder / f"{self._count:06d}.png").write_bytes(png.data)
        self._count += 1

    def finish(self) -> None:
        """All is written."""

    def abandon(self) -> None:
        """Nothing is open."""


def _seen(alpha: np.ndarray) -> np.ndarray:
    """Where a layer's film is to be: not 0 up to MARGIN_PX from where it is seen."""
    return cv2.dilate(alpha, np.ones((2 * MARGIN_PX + 1,) * 2, np.uint8))


def rows_of(frame: VideoFrame) -> list[np.ndarray]:
    """Views of a frame's planes: [H, W] uint8 or uint16, or [H, W, 3]."""
    views = []
    for plane in frame.planes:
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
        if frame.format.name.endswith("10le"):
            rows = rows.view("<u2")
        channels = 3 if frame.format.name == "bgr24" else 1
        rows = rows[:, : plane.width * channels]
        views.append(rows if channels == 1 else rows.reshape(plane.height, plane.width, channels))
    return views
