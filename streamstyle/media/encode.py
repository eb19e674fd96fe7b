"""From FrameBatches to a file: H.264 with the film's own timing, colours, shape and sound, whole or not at all.

Everything goes to a temporary file beside the target, which takes the target's place only when it is complete.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame

from streamstyle.config import OutputOptions
from streamstyle.errors import InputError, OutputError, ShapeError
from streamstyle.frames import FrameBatch, VideoInfo, output_chroma
from streamstyle.media.audio import AudioMode, AudioSource
from streamstyle.media.probe import frame_ticks

Warn = Callable[[str], None]

_FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NOT_ALLOWED = {errno.EACCES, errno.EPERM, errno.EROFS}
_SPACE_OF_MATRIX = {"bt709": 1, "bt601": 6, "bt2020": 9}  # libav's AVColorSpace
_UNSPECIFIED = 2
_RANGE_FULL = 2
# How the sound is put in: as it is; if the container refuses that, as AAC; if it refuses that too, not at all.
_SOUND_ATTEMPTS: tuple[AudioMode, ...] = ("copied", "transcoded", "none")


@dataclass(frozen=True)
class EncodeResult:
    """What was written.

    Attributes:
        frames: number of frames.
        audio: what became of the sound.
        duration_s: from the first frame's time to the end of the last.
        size_bytes: size of the file.
    """

    frames: int
    audio: AudioMode
    duration_s: float
    size_bytes: int


def check_output(in_path: str | Path, out_path: str | Path, overwrite: bool) -> None:
    """Refuse an output that could not or must not be written, before any work is done.

    Raises:
        OutputError: a container we do not write, OUT is IN (also through links) or a folder, the folder is missing
            or not writable, or OUT exists and overwrite is False.
    """
    out = Path(out_path)
    _format_of(out)
    if len(os.fsencode(out.name)) > 255:
        raise OutputError(f"{out.name[:20]}...{out.name[-20:]}: the name is too long; give one of at most 255 bytes")
    if out.is_dir():
        raise OutputError(f"{out}: is a folder; give a file name in it")
    _check_folder(out)
    if not os.path.lexists(out):
        return
    if out.exists() and os.path.exists(in_path) and os.path.samefile(in_path, out):
        raise OutputError(f"{out}: is the input itself; give another name")
    if not overwrite:
        raise OutputError(f"{out}: exists; add --overwrite")


def encode(
    frames: Iterable[FrameBatch],
    path: str | Path,
    info: VideoInfo,
    options: OutputOptions,
    *,
    size: tuple[int, int],
    audio: AudioSource | None = None,
    warn: Warn | None = None,
    on_frames: Callable[[int], None] | None = None,
) -> EncodeResult:
    """Write a film; the target appears only when it is whole, and an existing one is replaced.

    Every frame keeps its time: pts and time_base go to the container as they are (Matroska rounds to milliseconds).
    Only a film started late (options.start) or with negative times is moved to begin at 0, and its sound with it.

    Args:
        frames: batches with pts in ticks of info.time_base, strictly increasing; closed at the end, whatever happens.
        path: the target; .mp4, .m4v, .mov or .mkv.
        info: the input film: its timing, pixel shape and colour tags are written.
        options: crf, preset and start are used.
        size: width and height of the frames.
        audio: the film's sound, or None; closed at the end.
        warn: told in one line each what could not be kept.
        on_frames: called after each batch with the number of frames in it.

    Raises:
        OutputError: unknown container, folder missing or not writable, disk full, or the encoder refuses.
        InputError: no frames, or pts that do not increase.
        ShapeError: planes that do not fit size.

    Cost: one copy of the planes (0.1 to 0.3 ms a 1080p frame) beyond x264's own work. See Note [Planes to x264].
    """
    batches = iter(frames)
    target = Path(os.path.realpath(path))  # through a link: the link stays, what it points to is replaced
    temporary = target.with_name(
        f".{os.fsencode(target.stem)[:80].decode(errors='ignore')}.{os.getpid()}.part{target.suffix}"
    )
    try:
        format_name = _format_of(target)
        _check_folder(target)
        first = next(batches, None)
        if first is None or not len(first):
            raise InputError(f"{info.path}: no frames to write; check --start and --duration")
        job = _Job(temporary, Path(path), format_name, info, options, size, warn or (lambda line: None))
        with job.opened(audio, first.pts[0]) as writer:
            for batch in itertools.chain([first], batches):
                writer.write(batch)
                if on_frames is not None:
                    on_frames(len(batch))
                del batch
            result = writer.finish()
        with _told(path):
            os.replace(temporary, target)
        return result
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    finally:
        if audio is not None:
            audio.close()
        close = getattr(batches, "close", None)
        if close is not None:
            close()


@dataclass(frozen=True)
class _Job:
    """What is to be written, and where."""

    temporary: Path
    path: Path
    format_name: str
    info: VideoInfo
    options: OutputOptions
    size: tuple[int, int]
    warn: Warn

    @contextlib.contextmanager
    def opened(self, audio: AudioSource | None, first_pts: int) -> Iterator[_Writer]:
        """A writer whose header is on the disk; its file is closed at the end, complete or not."""
        writer = self._first_that_starts(audio, first_pts)
        try:
            yield writer
        finally:
            writer.abandon()

    def _first_that_starts(self, audio: AudioSource | None, first_pts: int) -> _Writer:
        attempts = _SOUND_ATTEMPTS if audio is not None else ("none",)
        for attempt in attempts:
            writer = _Writer(self, None if attempt == "none" else audio, first_pts, copy=attempt == "copied")
            try:
                with _told(self.path):
                    writer.container.start_encoding()
            except OutputError as error:
                writer.abandon()
                if attempt == attempts[-1] or getattr(error.__cause__, "errno", None) in _DISK_FULL | _NOT_ALLOWED:
                    raise
                if attempt == "transcoded":
                    self.warn(f"{self.path}: this container cannot hold the film's sound; it was left out")
            except BaseException:
                writer.abandon()
                raise
            else:
                return writer
        raise AssertionError("unreachable: the last attempt returns or raises")


class _Writer:
    """One output container being filled."""

    def __init__(self, job: _Job, audio: AudioSource | None, first_pts: int, *, copy: bool) -> None:
        info, (width, height) = job.info, job.size
        self._job, self._audio = job, audio
        moved = job.options.start > 0 or first_pts < 0
        self._shift = first_pts if moved else 0
        self._first_pts, self._last_pts, self._count = first_pts, first_pts - 1, 0
        self.container = av.open(
            str(job.temporary), "w", format=job.format_name, container_options=_container_options(job)
        )
        self._track = self.container.add_stream("libx264", rate=info.fps.limit_denominator(100_000))
        self._track.time_base = info.time_base
        context = self._track.codec_context
        context.width, context.height = width, height
        context.pix_fmt = output_chroma(width, height)
        context.time_base = info.time_base
        context.sample_aspect_ratio = info.sample_aspect_ratio.limit_denominator(65_535)
        context.options = {"crf": str(job.options.crf), "preset": job.options.preset}
        if job.format_name != "matroska":
            context.codec_tag = "avc1"
        self._frame = VideoFrame(width, height, context.pix_fmt)
        self._frame.duration = frame_ticks(info)
        for tagged in (context, self._frame):
            _write_color_tags(tagged, info, height)
        if audio is not None:
            audio.attach(self.container, shift=self._shift * info.time_base, copy=copy)

    def write(self, batch: FrameBatch) -> None:
        """Encode a batch and mux what the encoder gives back, the sound beside it."""
        _check_planes(batch, self._job.size)
        for i, pts in enumerate(batch.pts):
            if pts <= self._last_pts:
                raise InputError(
                    f"{self._job.info.path}: frame {self._count} has pts {pts}, not after {self._last_pts}"
                )
            frame = self._filled(batch, i)
            frame.pts = pts - self._shift
            frame.time_base = self._job.info.time_base
            with _told(self._job.path):
                self._mux(frame)
            self._last_pts = pts
            self._count += 1

    def finish(self) -> EncodeResult:
        """Drain the encoder and the sound, and complete the file."""
        with _told(self._job.path):
            self._mux(None)
            mode: AudioMode = "none"
            if self._audio is not None:
                for packet in self._audio.packets_until(math.inf):
                    self.container.mux_one(packet)
                mode = self._audio.mode
            self.container.close()
            size_bytes = self._job.temporary.stat().st_size
        ticks = self._last_pts - self._first_pts + frame_ticks(self._job.info)
        return EncodeResult(self._count, mode, float(ticks * self._job.info.time_base), size_bytes)

    def abandon(self) -> None:
        """Close the file, complete or not."""
        with contextlib.suppress(av.FFmpegError, OSError, ValueError):
            self.container.close()

    def _filled(self, batch: FrameBatch, i: int) -> VideoFrame:
        # Note [Planes to x264]
        # One VideoFrame is filled again and again. VideoFrame.from_numpy_buffer would save the copy, but wants Y, U
        # and V of a frame in one buffer of even width and of a height divisible by four, and a batch holds them
        # apart. x264 copies the picture before encode returns, so nothing waits for this buffer; make_writable
        # allocates another only if somebody still does.
        self._frame.make_writable()
        width, height = self._job.size
        if self._frame.format.name == "yuv444p" and batch.u.shape[1:] != (height, width):
            odd = VideoFrame(width, height, "yuv420p")  # 4:2:0 of odd size, straight from a decoder
            _write_color_tags(odd, self._job.info, height)
            _fill(odd, batch, i)
            full = odd.reformat(format="yuv444p", threads=1)
            full.duration = self._frame.duration
            return full
        _fill(self._frame, batch, i)
        return self._frame

    def _mux(self, frame: VideoFrame | None) -> None:
        for packet in self._track.encode(frame):
            time_s = float((packet.dts or 0) * packet.time_base)
            self.container.mux_one(packet)
            if self._audio is not None:
                for beside in self._audio.packets_until(time_s):
                    self.container.mux_one(beside)


def _container_options(job: _Job) -> dict[str, str]:
    if job.format_name == "matroska":
        return {"avoid_negative_ts": "disabled"}
    timescale = job.info.time_base.denominator
    while timescale < 10_000:  # as the muxer itself does
        timescale *= 2
    # An edit list holds a film's late start in ticks of the whole movie: milliseconds would round it.
    return {"movflags": "+faststart", "movie_timescale": str(timescale), "video_track_timescale": str(timescale)}


def _write_color_tags(tagged: av.VideoCodecContext | VideoFrame, info: VideoInfo, height: int) -> None:
    color = info.color
    space = color.space
    if space == _UNSPECIFIED and color.matrix != ("bt709" if height >= 720 else "bt601"):
        space = _SPACE_OF_MATRIX[color.matrix]  # scaled past 720 lines: players would guess another matrix
    tagged.colorspace = space
    tagged.color_primaries = color.primaries
    tagged.color_trc = color.transfer
    tagged.color_range = _RANGE_FULL if color.full_range else color.range


def _fill(frame: VideoFrame, batch: FrameBatch, i: int) -> None:
    for plane, source in zip(frame.planes, (batch.y[i], batch.u[i], batch.v[i]), strict=True):
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
        rows[:, : plane.width] = source


def _check_planes(batch: FrameBatch, size: tuple[int, int]) -> None:
    width, height = size
    count = len(batch)
    halves = (count, (height + 1) // 2, (width + 1) // 2)
    chroma = {halves, (count, height, width)} if output_chroma(width, height) == "yuv444p" else {halves}
    if batch.y.shape != (count, height, width) or batch.u.shape not in chroma or batch.v.shape != batch.u.shape:
        shapes = ", ".join(str(plane.shape) for plane in (batch.y, batch.u, batch.v))
        raise ShapeError(f"planes {shapes} do not make {count} frames of {width}x{height}")
    if {batch.y.dtype, batch.u.dtype, batch.v.dtype} != {np.dtype(np.uint8)}:
        raise ShapeError(f"planes must be uint8, got {batch.y.dtype}, {batch.u.dtype}, {batch.v.dtype}")


def _format_of(path: Path) -> str:
    try:
        return _FORMATS[path.suffix.lower()]
    except KeyError:
        known = ", ".join(_FORMATS)
        raise OutputError(f"{path}: cannot write '{path.suffix}' files; end the name in one of {known}") from None


def _check_folder(path: Path) -> None:
    folder = path.parent
    if not folder.is_dir():
        raise OutputError(f"{path}: the folder {folder} does not exist; make it first (mkdir -p {folder})")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: the folder {folder} is not writable; choose another")


@contextlib.contextmanager
def _told(path: str | Path) -> Iterator[None]:
    """Turn what the encoder, the muxer and the disk say into an OutputError of one line."""
    try:
        yield
    except (av.FFmpegError, OSError) as error:
        reason = error.strerror or str(error)
        if error.errno in _DISK_FULL:
            raise OutputError(f"{path}: the disk is full ({reason}); free some space or write elsewhere") from error
        if error.errno in _NOT_ALLOWED:
            raise OutputError(f"{path}: not allowed to write there ({reason}); choose another folder") from error
        raise OutputError(f"{path}: could not be written ({reason}); try another container or folder") from error
