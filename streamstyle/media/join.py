"""From closed segments to the film: packets copied one after the other, the sound beside them, every time exact."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
from av.packet import Packet

from streamstyle.config import OutputOptions
from streamstyle.frames import VideoInfo
from streamstyle.media.audio import AudioMode, AudioSource
from streamstyle.media.closed import Segment
from streamstyle.media.codecs import VideoEncoder
from streamstyle.media.disk import HOPELESS
from streamstyle.media.probe import frame_ticks
from streamstyle.media.segments import WorkFolder

Warn = Callable[[str], None]

# How the sound is put in: as it is; if the container refuses that, as AAC; if it refuses that too, not at all.
_SOUND_ATTEMPTS: tuple[AudioMode, ...] = ("copied", "transcoded", "none")


@dataclass(frozen=True)
class FilmJob:
    """What is to be written, and where: path is the target's name as the person gave it."""

    work: WorkFolder
    path: Path
    format_name: str
    info: VideoInfo
    options: OutputOptions
    size: tuple[int, int]
    encoder: VideoEncoder
    warn: Warn

    @property
    def joined(self) -> Path:
        """The film until it is whole."""
        return self.work.path / f"joined{self.path.suffix}"


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


def join(job: FilmJob, audio: AudioSource | None) -> EncodeResult:
    """Remux the segments, the sound beside them, into job.joined.

    Raises:
        av.FFmpegError, OSError: the disk or the muxer refuses.

    Cost: reads and writes the packets once; decodes and encodes nothing, but sound that the container cannot hold.
    """
    segments = job.work.segments
    with _joiner(job, audio) as joiner:
        for segment in segments:
            joiner.append(segment)
        mode = joiner.finish()
    ticks = segments[-1].last_pts - segments[0].first_pts + frame_ticks(job.info)
    length_s = float(ticks * job.info.time_base)
    return EncodeResult(job.work.frames, mode, length_s, job.joined.stat().st_size)


@contextlib.contextmanager
def _joiner(job: FilmJob, audio: AudioSource | None) -> Iterator[_Joiner]:
    """A joiner whose header is on the disk; its file is closed at the end, complete or not."""
    attempts = _SOUND_ATTEMPTS if audio is not None else ("none",)
    for attempt in attempts:
        joiner = _Joiner(job, None if attempt == "none" else audio, copy=attempt == "copied")
        try:
            joiner.container.start_encoding()
        except (av.FFmpegError, OSError, ValueError) as error:
            joiner.abandon()
            if attempt == attempts[-1] or getattr(error, "errno", None) in HOPELESS:
                raise
            if attempt == "transcoded":
                job.warn(f"{job.path}: this container cannot hold the film's sound; it was left out")
            continue
        try:
            yield joiner
        finally:
            joiner.abandon()
        return


class _Joiner:
    """The film being put together from segments and sound."""

    def __init__(self, job: FilmJob, audio: AudioSource | None, *, copy: bool) -> None:
        self._job, self._audio = job, audio
        first = job.work.segments[0]
        moved = job.options.start > 0 or first.first_pts < 0
        self._shift = first.first_pts if moved else 0
        self._last_dts: int | None = None
        self.container = av.open(
            str(job.joined), "w", format=job.format_name, container_options=_container_options(job)
        )
        with av.open(str(job.work.file(first.number))) as source:
            # opaque: copied as it is, where PyAV would else look for an encoder of the decoder's name.
            self._track = self.container.add_stream_from_template(source.streams.video[0], opaque=True)
        self._track.codec_context.framerate = job.info.fps.limit_denominator(100_000)
        if job.encoder.codec_tag is not None:
            self._track.codec_context.codec_tag = job.encoder.codec_tag
        if audio is not None:
            audio.attach(self.container, shift=self._shift * job.info.time_base, copy=copy)

    def append(self, segment: Segment) -> None:
        """Copy a segment's packets, the sound beside them."""
        with av.open(str(self._job.work.file(segment.number))) as source:
            for packet in source.demux(video=0):
                if packet.pts is not None and packet.dts is not None:  # None: the flush at the end
                    self._mux(packet, packet.pts, packet.dts, segment.first_pts - self._shift)

    def finish(self) -> AudioMode:
        """Put in the rest of the sound and complete the file."""
        mode: AudioMode = "none"
        if self._audio is not None:
            for packet in self._audio.packets_until(math.inf):
                self.container.mux_one(packet)
            mode = self._audio.mode
        self.container.close()
        return mode

    def abandon(self) -> None:
        """Close the file, complete or not."""
        with contextlib.suppress(av.FFmpegError, OSError, ValueError):
            self.container.close()

    def _mux(self, packet: Packet, pts: int, dts: int, begin: int) -> None:
        scale = packet.time_base / self._job.info.time_base
        # A segment's first dts lie before its first pts, and with uneven frames perhaps before the last dts of the
        # segment before. Raised one by one they never pass a pts, for every segment is reordered as deeply.
        dts = begin + round(dts * scale)
        if self._last_dts is not None:
            dts = max(dts, self._last_dts + 1)
        packet.pts, packet.dts, self._last_dts = begin + round(pts * scale), dts, dts
        packet.duration = round((packet.duration or 0) * scale)
        packet.time_base = self._job.info.time_base
        packet.stream = self._track
        self.container.mux_one(packet)
        if self._audio is not None:
            for beside in self._audio.packets_until(float(dts * self._job.info.time_base)):
                self.container.mux_one(beside)


def _container_options(job: FilmJob) -> dict[str, str]:
    if job.format_name == "matroska":
        return {"avoid_negative_ts": "disabled"}
    timescale = str(timescale_of(job.info))
    # An edit list holds a film's late start in ticks of the whole movie: milliseconds would round it.
    return {"movflags": "+faststart", "movie_timescale": timescale, "video_track_timescale": timescale}


def timescale_of(info: VideoInfo) -> int:
    """Ticks a second of a track that holds the film's times exactly."""
    timescale = info.time_base.denominator
    while timescale < 10_000:  # as the muxer itself does
        timescale *= 2
    return timescale
