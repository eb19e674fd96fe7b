"""The sound beside the pictures: a second reading of the input, packets handed over as the film is written.

Packets are copied bit for bit where the container takes their codec, and made into AAC where it does not. Only one
packet is read ahead, so memory stays flat however long the film is.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Literal, Protocol

import av
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Discard

from streamstyle.frames import VideoInfo
from streamstyle.media.probe import open_input

AudioMode = Literal["copied", "transcoded", "none"]
Warn = Callable[[str], None]

# What a container takes as it is, by canonical codec name. Matroska takes anything.
_MP4 = {"aac", "mp3", "ac3", "eac3", "opus", "flac", "alac"}
_MOV = {"aac", "mp3", "ac3", "eac3", "alac"} | {
    f"pcm_{kind}"
    for kind in ("u8", "s16le", "s16be", "s24le", "s24be", "s32le", "s32be", "f32le", "f32be", "alaw", "mulaw")
}
_COPYABLE: dict[str, set[str] | None] = {"mp4": _MP4, "mov": _MOV, "matroska": None}
_AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
_AAC_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 8: "7.1"}
_AAC_BITS_PER_CHANNEL = 96_000
_AAC_FRAME = 1024
# Seeks land on video keyframes or on approximate bytes: read this much earlier and drop what is not wanted.
_SEEK_MARGIN_S = 1


class AudioSource:
    """The sound of a film, read from its file again and cut to the same window as the pictures.

    Use: `attach` to an output container before its header is written, mux what `packets_until` gives as the
    pictures advance, and `close`. `mode` tells what became of the sound.

    Args:
        info: the film, as probe gave it.
        start_s, duration_s: the window given to decode.
        warn: told in one line each what sound could not be kept.
    """

    def __init__(
        self, info: VideoInfo, *, start_s: float = 0.0, duration_s: float | None = None, warn: Warn | None = None
    ) -> None:
        origin = info.start_pts * info.time_base
        self._info = info
        self._start = origin + Fraction(start_s) if start_s > 0 else None
        self._end = None if duration_s is None else origin + Fraction(start_s) + Fraction(duration_s)
        self._warn = warn or (lambda line: None)
        self._input: InputContainer | None = None
        self._packets: Iterator[Packet] | None = None
        self._waiting: Packet | None = None
        self._tracks: dict[int, _Track] = {}
        self._shift = Fraction(0)

    @property
    def mode(self) -> AudioMode:
        """Whether the sound was copied, transcoded (any track of it), or there is none."""
        if not self._tracks:
            return "none"
        return "transcoded" if any(isinstance(t, _TranscodedTrack) for t in self._tracks.values()) else "copied"

    def attach(self, output: OutputContainer, *, shift: Fraction = Fraction(0), copy: bool = True) -> None:
        """Open the input and give the output a track for each of its sound tracks.

        Args:
            output: an output container whose header is not yet written; may be called again with a fresh one.
            shift: seconds taken off every timestamp, the same as off the pictures'.
            copy: False transcodes what could be copied, for a container that refused it.
        """
        self.close()
        if not self._info.audio:
            return
        self._input = open_input(self._info.path)
        self._shift = shift
        for source in self._input.streams:
            if not isinstance(source, AudioStream):
                source.discard = Discard.all
        for number, source in enumerate(self._input.streams.audio, 1):
            try:
                self._tracks[source.index] = self._track(source, output, copy)
            except (av.FFmpegError, ValueError) as error:
                source.discard = Discard.all
                self._warn(f"sound track {number} cannot be read and was left out ({error})")
        if self._tracks:
            self._seek()
            self._packets = self._input.demux([self._input.streams[index] for index in self._tracks])

    def packets_until(self, seconds: float) -> Iterator[Packet]:
        """Packets ready to mux whose time in the output is at most seconds; math.inf gives all the rest."""
        while self._packets is not None:
            packet = self._waiting if self._waiting is not None else self._next_packet()
            self._waiting = None
            if packet is None:
                break
            time = self._output_time(packet)
            if time is not None and time > seconds:
                self._waiting = packet
                return
            yield from self._tracks[packet.stream.index].feed(packet)
        if self._packets is None and math.isinf(seconds):
            for track in self._tracks.values():
                yield from track.flush()
            self._report()

    def close(self) -> None:
        """Close the input; safe to call twice."""
        if self._input is not None:
            self._input.close()
        self._input, self._packets, self._waiting = None, None, None
        self._tracks = {}

    def _track(self, source: AudioStream, output: OutputContainer, copy: bool) -> _Track:
        if source.codec_context is None:
            raise ValueError("no decoder for its codec")
        if not source.codec_context.sample_rate or not source.codec_context.layout.nb_channels:
            raise ValueError("it declares no samples")
        start = None if self._start is None else self._shift
        window = _Window(self._shift, start, self._end, may_be_negative=output.format.name != "matroska")
        takes = _COPYABLE.get(output.format.name)
        codec = source.codec_context.codec.canonical_name
        if copy and (takes is None or codec in takes):
            with contextlib.suppress(ValueError):  # the muxer knows better than the table
                return _CopiedTrack(source, output, window)
        return _TranscodedTrack(source, output, window)

    def _seek(self) -> None:
        if self._start is None or self._input is None:
            return
        target = max(self._start - _SEEK_MARGIN_S, Fraction(0))
        with contextlib.suppress(av.FFmpegError):  # no index: read from the start
            self._input.seek(int(target * av.time_base))

    def _next_packet(self) -> Packet | None:
        assert self._packets is not None
        try:
            for packet in self._packets:
                time = _packet_time(packet)
                track = self._tracks[packet.stream.index]
                if not packet.size:
                    continue
                if self._end is not None and time is not None and time >= self._end:
                    track.ended = True
                    if all(other.ended for other in self._tracks.values()):
                        break
                    continue
                return packet
        except av.FFmpegError as error:
            self._warn(f"the sound breaks off early ({error.strerror})")
        self._packets = None
        return None

    def _output_time(self, packet: Packet) -> Fraction | None:
        time = _packet_time(packet)
        return None if time is None else time - self._shift

    def _report(self) -> None:
        for number, track in enumerate(self._tracks.values(), 1):
            if track.bad:
                self._warn(f"{track.bad} packets of sound track {number} could not be decoded and are silent")
            if not track.given:
                self._warn(f"sound track {number} holds no sound that can be read here; it is empty in the output")


class _Track(Protocol):
    ended: bool
    bad: int
    given: int

    def feed(self, packet: Packet) -> Iterator[Packet]: ...

    def flush(self) -> Iterator[Packet]: ...


class _Window:
    """The times kept, in seconds of the input, and how far they move."""

    def __init__(self, shift: Fraction, start: Fraction | None, end: Fraction | None, *, may_be_negative: bool) -> None:
        self.shift, self.start, self.end, self.may_be_negative = shift, start, end, may_be_negative

    def holds(self, pts: int, duration: int, time_base: Fraction) -> bool:
        """Whether a packet or frame belongs inside; one that straddles the start does where an edit list can cut it."""
        begin = pts * time_base
        if self.end is not None and begin >= self.end:
            return False
        if self.start is None:
            return True
        return begin + duration * time_base > self.start if self.may_be_negative else begin >= self.start


class _CopiedTrack:
    """Packets as they are, moved in time."""

    def __init__(self, source: AudioStream, output: OutputContainer, window: _Window) -> None:
        self._out = output.add_stream_from_template(source)
        _keep_tags(source, self._out)
        self._window = window
        self._last_dts: int | None = None
        self.ended, self.bad, self.given = False, 0, 0

    def feed(self, packet: Packet) -> Iterator[Packet]:
        pts = packet.pts if packet.pts is not None else packet.dts
        if pts is not None and not self._window.holds(pts, packet.duration or 0, packet.time_base):
            return
        move = round(self._window.shift / packet.time_base)
        dts = packet.dts if packet.dts is not None else packet.pts
        dts = (self._last_dts or 0) + (packet.duration or 1) if dts is None else dts - move
        if self._last_dts is not None and dts <= self._last_dts:
            dts = self._last_dts + 1  # a muxer refuses times that do not grow
        packet.dts = self._last_dts = dts
        packet.pts = dts if pts is None else max(pts - move, dts)
        packet.stream = self._out
        self.given += 1
        yield packet

    def flush(self) -> Iterator[Packet]:
        return iter(())


class _TranscodedTrack:
    """Packets decoded, resampled where AAC needs it, and encoded again; gaps are filled with silence."""

    def __init__(self, source: AudioStream, output: OutputContainer, window: _Window) -> None:
        context = source.codec_context
        rate = context.sample_rate if context.sample_rate in _AAC_RATES else 48000
        layout = _AAC_LAYOUTS.get(context.layout.nb_channels, "stereo")
        out = output.add_stream("aac", rate=rate)
        out.codec_context.layout = layout
        out.codec_context.format = "fltp"
        out.codec_context.time_base = Fraction(1, rate)
        out.codec_context.bit_rate = min(_AAC_BITS_PER_CHANNEL * context.layout.nb_channels, 512_000)
        _keep_tags(source, out)
        self._source, self._out, self._window = source, out, window
        self._rate, self._layout = rate, layout
        self._resampler = self._new_resampler()
        self._next_pts: int | None = None
        self.ended, self.bad, self.given = False, 0, 0

    def feed(self, packet: Packet) -> Iterator[Packet]:
        try:
            frames = self._source.decode(packet)
        except av.FFmpegError:
            self.bad += 1
            return
        for frame in frames:
            yield from self._feed_frame(frame)

    def flush(self) -> Iterator[Packet]:
        with contextlib.suppress(av.FFmpegError):
            for frame in self._source.decode(None):
                yield from self._feed_frame(frame)
        yield from self._encode(self._resampler.resample(None))
        if self.given:
            yield from self._out.encode(None)

    def _feed_frame(self, frame: AudioFrame) -> Iterator[Packet]:
        time_base = frame.time_base or Fraction(1, frame.sample_rate)
        length = round(frame.samples / (frame.sample_rate * time_base))
        pts = frame.pts if frame.pts is not None else self._next_pts or 0
        self._next_pts = pts + length
        if not self._window.holds(pts, length, time_base):
            return
        frame.pts = pts - round(self._window.shift / time_base)
        try:
            ready = self._resampler.resample(frame)
        except ValueError:  # the format changed on the way
            ready = self._resampler.resample(None)
            self._resampler = self._new_resampler()
            ready += self._resampler.resample(frame)
        yield from self._encode(ready)

    def _encode(self, frames: list[AudioFrame]) -> Iterator[Packet]:
        for frame in frames:
            self.given += 1
            yield from self._out.encode(frame)

    def _new_resampler(self) -> AudioResampler:
        return AudioResampler("fltp", self._layout, self._rate, frame_size=_AAC_FRAME, options={"async": "1"})


def _packet_time(packet: Packet) -> Fraction | None:
    ticks = packet.pts if packet.pts is not None else packet.dts
    return None if ticks is None else ticks * packet.time_base


def _keep_tags(source: AudioStream, out: AudioStream) -> None:
    out.metadata.update({key: value for key, value in source.metadata.items() if key in ("language", "title")})
    out.disposition = source.disposition
