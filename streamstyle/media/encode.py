"""From FrameBatches to a film: encoded in closed segments, joined with the sound, whole or not at all.

::

    batches ──► segment 0 │ segment 1 │ segment 2 …      a fresh encoder each, in the work folder
                    └──────────┴──────────┴──► remuxed beside the sound ──► takes the target's place

Joining copies packets and encodes nothing. The target appears only when it is whole.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame

from streamstyle.config import OutputOptions
from streamstyle.errors import InputError, OutputError, ShapeError
from streamstyle.frames import FrameBatch, VideoInfo, output_chroma
from streamstyle.media.audio import AudioSource
from streamstyle.media.closed import KeptSegment, Segment
from streamstyle.media.codecs import VideoEncoder, add_video_stream, choose_encoder, fit_frame
from streamstyle.media.disk import told
from streamstyle.media.join import EncodeResult, FilmJob, Warn, join, timescale_of
from streamstyle.media.probe import frame_ticks
from streamstyle.media.segments import WorkFolder

_FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
_SPACE_OF_MATRIX = {"bt709": 1, "bt601": 6, "bt2020": 9}  # libav's AVColorSpace
_UNSPECIFIED = 2
_RANGE_FULL = 2


def check_output(in_path: str | Path, out_path: str | Path, overwrite: bool) -> None:
    """Refuse an output that could not or must not be written, before any work is done.

    Raises:
        OutputError: a container we do not write, OUT is IN (also through links) or a folder, the folder is missing
            or not writable, or OUT exists and overwrite is False.
    """
    if not os.path.isdir(out_path):  # of a folder that is said first, whatever its ending
        format_of(Path(out_path))
    check_place(in_path, out_path, overwrite)


def check_place(in_path: str | Path, out_path: str | Path, overwrite: bool) -> None:
    """As check_output, for a file of any kind."""
    out = Path(out_path)
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
    frames: Iterable[FrameBatch | KeptSegment],
    path: str | Path,
    info: VideoInfo,
    options: OutputOptions,
    *,
    size: tuple[int, int],
    audio: AudioSource | None = None,
    work: WorkFolder | None = None,
    encoder: VideoEncoder | None = None,
    warn: Warn | None = None,
    on_frames: Callable[[int], None] | None = None,
) -> EncodeResult:
    """Write a film; the target appears only when it is whole, and an existing one is replaced.

    Every frame keeps its time: pts and time_base go to the container as they are (Matroska rounds to milliseconds).
    Only a film started late (options.start) or with negative times is moved to begin at 0, and its sound with it.

    Args:
        frames: batches with pts in ticks of info.time_base, strictly increasing; closed at the end, whatever happens.
            A segment is closed after each batch with a checkpoint that closes one; a segment that was written before
            may stand for its batches.
        path: the target; .mp4, .m4v, .mov or .mkv.
        info: the input film: its timing, pixel shape and colour tags are written.
        options: what choose_encoder takes, and start.
        size: width and height of the frames.
        audio: the film's sound, or None; closed at the end.
        work: the entered work folder, where frames before these may already be, or all of it done; None takes one
            that is never kept.
        encoder: as choose_encoder gave it for this film; None chooses here.
        warn: told in one line each what could not be kept.
        on_frames: called after each batch with the number of frames in it.

    Raises:
        OutputError: unknown container, folder missing or not writable, disk full, or the encoder refuses.
        InputError: no frames, or pts that do not increase.
        ShapeError: planes that do not fit size.

    Cost: beyond the encoder's own work nothing for packed batches, else one copy of the planes (0.3 to 0.8 ms a 1080p
    frame), see Note [Planes to an encoder]; the packets are written twice, and read once.
    """
    batches = iter(frames)
    target = Path(os.path.realpath(path))  # through a link: the link stays, what it points to is replaced
    try:
        format_name = format_of(target)
        _check_folder(target)
        if encoder is None:
            encoder = choose_encoder(options, path, size=size, format_name=format_name, fps=info.fps)
        with work_folder(target, work, encoder) as folder:
            if folder.placed is not None:
                return EncodeResult(**folder.placed)
            job = FilmJob(folder, Path(path), format_name, info, options, size, encoder, warn or (lambda line: None))
            if not folder.complete:
                _write_segments(batches, job, on_frames or (lambda count: None))
            with told(path):
                result = join(job, audio)
                folder.hand_over(job.joined, asdict(result))
        return result
    finally:
        if audio is not None:
            audio.close()
        close = getattr(batches, "close", None)
        if close is not None:
            close()


def work_folder(
    target: Path, work: WorkFolder | None, encoder: VideoEncoder
) -> contextlib.AbstractContextManager[WorkFolder]:
    """The folder given, already entered; or one for this film alone."""
    if work is not None:
        return contextlib.nullcontext(work)
    return WorkFolder(target, {}, resume=False, suffix=encoder.segment_suffix)


def _write_segments(
    batches: Iterator[FrameBatch | KeptSegment], job: FilmJob, on_frames: Callable[[int], None]
) -> None:
    """Encode every batch, closing a segment where a batch says so and at the end."""
    writer: _SegmentWriter | None = None
    last_pts = job.work.segments[-1].last_pts if job.work.segments else None
    try:
        for batch in batches:
            with told(job.path):
                if isinstance(batch, KeptSegment):
                    job.work.take(batch)
                    last_pts = batch.segment.last_pts
                    on_frames(len(batch))
                    continue
                if writer is None:
                    writer = _SegmentWriter(job, len(job.work.segments), batch.pts[0], last_pts)
                writer.write(batch)
                last_pts = batch.pts[-1]
                if batch.checkpoint is not None and batch.checkpoint.closes:
                    job.work.add(writer.finish(), batch.checkpoint)
                    writer = None
            on_frames(len(batch))
            del batch
        if writer is not None:
            with told(job.path):
                job.work.add(writer.finish(), None)
                writer = None
    finally:
        if writer is not None:
            writer.abandon()
    if not job.work.segments:
        raise InputError(f"{job.info.path}: no frames to write; check --start and --duration")
    with told(job.path):
        job.work.finish()


class _SegmentWriter:
    """One segment being filled; its first frame is at 0."""

    def __init__(self, job: FilmJob, number: int, first_pts: int, last_pts: int | None) -> None:
        info, (width, height) = job.info, job.size
        self._job, self._number, self._path = job, number, job.work.file(number)
        self._first_pts, self._count = first_pts, 0
        self._last_pts = first_pts - 1 if last_pts is None else last_pts
        timescale = {"video_track_timescale": str(timescale_of(info))}
        self.container = av.open(
            str(self._path), "w", format=self._path.suffix.removeprefix("."), container_options=timescale
        )
        self._track = add_video_stream(
            self.container, job.encoder, size=job.size, fps=info.fps, time_base=info.time_base
        )
        context = self._track.codec_context
        context.sample_aspect_ratio = info.sample_aspect_ratio.limit_denominator(65_535)
        self._frame = VideoFrame(width, height, output_chroma(width, height))
        self._frame.duration = frame_ticks(info)
        for tagged in (context, self._frame):
            write_color_tags(tagged, info, height)

    def write(self, batch: FrameBatch) -> None:
        """Encode a batch and mux what the encoder gives back."""
        _check_planes(batch, self._job.size)
        for i, pts in enumerate(batch.pts):
            if pts <= self._last_pts:
                frame_number = self._job.work.frames + self._count
                raise InputError(
                    f"{self._job.info.path}: frame {frame_number} has pts {pts}, not after {self._last_pts}"
                )
            frame = fit_frame(self._taken(batch, i), self._job.encoder)
            frame.pts = pts - self._first_pts
            frame.time_base = self._job.info.time_base
            self._mux(frame)
            self._last_pts = pts
            self._count += 1

    def finish(self) -> Segment:
        """Drain the encoder and complete the file."""
        self._mux(None)
        self.container.close()
        size_bytes = self._path.stat().st_size
        return Segment(self._number, self._count, self._first_pts, self._last_pts, size_bytes)

    def abandon(self) -> None:
        """Close the file, which counts for nothing."""
        with contextlib.suppress(av.FFmpegError, OSError, ValueError):
            self.container.close()

    def _taken(self, batch: FrameBatch, i: int) -> VideoFrame:
        """Frame i as the encoder takes it. See Note [Planes to an encoder]."""
        # Note [Planes to an encoder]
        # Where a batch is packed, a VideoFrame is laid over its memory, and nothing is copied here. PyAV holds on to
        # the array as long as FFmpeg holds the frame (lookahead, B-frames), and a painted batch's memory is its own,
        # so nobody overwrites what waits. from_numpy_buffer takes 4:2:0 only, of a height divisible by four; other
        # sizes, and batches whose planes lie apart, are copied into one VideoFrame again and again, and make_writable
        # allocates another where an encoder still holds it. Frames that must be converted are copied, too: swscale
        # wants rows that are aligned and may be read past their end.
        width, height = self._job.size
        if batch.packed is not None and height % 4 == 0 and self._job.encoder.pix_fmt == "yuv420p":
            laid = VideoFrame.from_numpy_buffer(batch.packed[i].reshape(height * 3 // 2, width), "yuv420p")
            laid.duration = self._frame.duration
            write_color_tags(laid, self._job.info, height)
            return laid
        return self._filled(batch, i)

    def _filled(self, batch: FrameBatch, i: int) -> VideoFrame:
        """Frame i copied."""
        self._frame.make_writable()
        width, height = self._job.size
        if self._frame.format.name == "yuv444p" and batch.u.shape[1:] != (height, width):
            odd = VideoFrame(width, height, "yuv420p")  # 4:2:0 of odd size, straight from a decoder
            write_color_tags(odd, self._job.info, height)
            _fill(odd, batch, i)
            full = odd.reformat(format="yuv444p", threads=1)
            full.duration = self._frame.duration
            return full
        _fill(self._frame, batch, i)
        return self._frame

    def _mux(self, frame: VideoFrame | None) -> None:
        for packet in self._track.encode(frame):
            self.container.mux_one(packet)


def write_color_tags(tagged: av.VideoCodecContext | VideoFrame, info: VideoInfo, height: int) -> None:
    """Say of a track, or of a frame, what the numbers of the film mean as colours."""
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


def format_of(path: Path) -> str:
    """The container's name to FFmpeg; OutputError for one we do not write."""
    try:
        return _FORMATS[path.suffix.lower()]
    except KeyError:
        what = f"'{path.suffix}' files" if path.suffix else "a file without an ending"
        raise OutputError(f"{path}: cannot write {what}; end the name in one of {', '.join(_FORMATS)}") from None


def _check_folder(path: Path) -> None:
    folder = path.parent
    if not folder.is_dir():
        wall = next((part for part in (folder, *folder.parents) if part.exists()), folder)
        if wall.exists() and not wall.is_dir():
            raise OutputError(f"{path}: {wall} is a file, and no folder; choose another place")
        raise OutputError(f"{path}: the folder {folder} does not exist; make it first (mkdir -p {folder})")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: the folder {folder} is not writable; choose another")
