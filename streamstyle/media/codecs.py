"""What FFmpeg here can encode and decode, and which video encoder a job gets.

::

    --codec    software    hardware, in the order tried           frames
    h264       libx264     nvenc videotoolbox qsv vaapi amf       4:2:0; libx264 4:4:4 where a side is odd
    hevc       libx265     the same                               4:2:0; libx265 4:4:4 where a side is odd
    av1        libsvtav1   the same                               4:2:0, even sides only
    prores     prores_ks   none                                   4:2:2, 10 bits

A hardware encoder that FFmpeg knows need not work on this machine, nor for this size: it is tried before it is taken.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import cv2
from av.codec import Codec
from av.codec.codec import UnknownCodecError
from av.codec.context import CodecContext, Flags
from av.codec.hwaccel import HWAccel
from av.container import OutputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from streamstyle.config import OutputOptions
from streamstyle.errors import OptionError, OutputError
from streamstyle.frames import output_chroma
from streamstyle.process import cores

_AVX512 = 13  # OpenCV's number of AVX-512F
# Note [The same packets]
# A film that was stopped must come out as if it had not been. With AVX-512 libx264 gives other packets for the same
# frames now and then: 57 of 902 encodes here, on one thread too; with AVX2 or SSE 4.2 none of 500. It is told to leave
# AVX-512 alone where the processor has it (asm= would also switch on what a processor lacks).
SOFTWARE = {"h264": "libx264", "hevc": "libx265", "av1": "libsvtav1", "prores": "prores_ks"}
HARDWARE = ("nvenc", "videotoolbox", "qsv", "vaapi", "amf")
DEFAULT_CRF = {"h264": 20, "hevc": 22, "av1": 30}
"""About the same picture from each."""

FRAME_THREADS_FROM = 8
"""Cores from which libx264 does several frames at once. PyAV's default, several slices of one, is as fast on few (two:
30 frames of 720p a second against 27) and leaves many idle: on 16 cores 148 frames of 1080p a second, veryfast, against
255."""

_PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow")
_SVT_PRESETS = dict(zip(_PRESETS, ("10", "9", "8", "7", "6", "5", "4"), strict=True))
_NVENC_PRESETS = dict(zip(_PRESETS, ("p1", "p2", "p3", "p4", "p5", "p6", "p7"), strict=True))
_QSV_PRESETS = {name: "veryfast" if name in ("ultrafast", "superfast") else name for name in _PRESETS}
_AMF_PRESETS = {"fast": "balanced", "medium": "balanced", "slow": "quality"}

_SUFFIXES = {"av1": {"mp4": ".mp4", "matroska": ".mkv"}, "prores": {"mov": ".mov", "matroska": ".mkv"}}
_TAGS = {"h264": "avc1", "hevc": "hvc1"}  # what QuickTime and Safari play; the muxer's own choice is avc1 and hev1
# Closed segments join into one track only if their extradata are equal and no picture refers to one before its segment:
# no header that lists all options, no open groups of pictures. The number of frame threads changes the packets.
_X265 = "log-level=error:info=0:open-gop=0:frame-threads=4"
_SMALLEST_X265_PX = 64  # below its largest block libx265 4.1 writes past its buffers
_MOST_SVT_FPS = 240
_QUIET = {"SVT_LOG": "1", "LIBVA_MESSAGING_LEVEL": "0"}  # libraries that write to stderr by themselves
_TRIAL_FRAMES = 4


def versions() -> dict[str, str]:
    """Versions of PyAV and of the libraries it carries: {"av": "14.0.0", "libavcodec": "61.3.100", ...}."""
    libraries = {name: ".".join(str(part) for part in version) for name, version in av.library_versions.items()}
    return {"av": av.__version__, **libraries}


def has_encoder(name: str) -> bool:
    """Whether FFmpeg here can encode; name is an encoder's (libx264) or a format's (h264)."""
    return _has(name, "w")


def has_decoder(name: str) -> bool:
    """Whether FFmpeg here can decode; name is a decoder's (libdav1d) or a format's (av1)."""
    return _has(name, "r")


def _has(name: str, mode: str) -> bool:
    try:
        Codec(name, mode)  # type: ignore[arg-type]
    except UnknownCodecError:
        return False
    return True


@dataclass(frozen=True)
class VideoEncoder:
    """A video encoder and how it is to be set up; what choose_encoder gives and add_video_stream takes.

    Attributes:
        name: FFmpeg's name.
        pix_fmt: layout of the frames it is given; fit_frame brings a frame into it.
        options: FFmpeg's options: quality, effort, and what makes a software encoder's output the same each time.
        codec_tag: the track's four letters in this container; None leaves them to the muxer.
        device: kind of the hardware device that frames are uploaded to, or None where it takes them from memory.
        most_fps: the largest frame rate it takes; it only steers its quality, frames keep their times.
    """

    name: str
    pix_fmt: str
    options: dict[str, str] = field(default_factory=dict)
    codec_tag: str | None = None
    device: str | None = None
    most_fps: int | None = None

    @property
    def segment_suffix(self) -> str:
        """The file a closed segment of its packets goes to."""
        return ".mov" if self.name == SOFTWARE["prores"] else ".mp4"


def choose_encoder(
    options: OutputOptions, path: str | Path, *, size: tuple[int, int], format_name: str, fps: Fraction
) -> VideoEncoder:
    """The encoder for a job, known to open (software) or to encode (hardware) at the job's own size.

    Args:
        options: codec, encoder, crf and preset are used.
        path: the target; named in errors.
        size: width and height of the frames.
        format_name: FFmpeg's name of the container: mp4, mov or matroska.
        fps: frame rate, a hint for the encoder.

    Raises:
        OutputError: the codec does not go into this container, or not at this size, or FFmpeg here lacks it.
        OptionError: prores with a crf; an encoder that is unknown, is for another codec, or does not work here.

    Cost: a software encoder is opened once (libx264 is not): 10 ms for libx265, 0.1 s for libsvtav1 at 1080p and 0.4 s
    at 4K; a hardware encoder that is not there costs about 1 ms.
    """
    suffixes = _SUFFIXES.get(options.codec)
    if suffixes is not None and format_name not in suffixes:
        endings = " or ".join(suffixes.values())
        raise OutputError(f"{path}: {options.codec} does not go into this container; end the name in {endings}")
    if options.crf is not None and options.codec not in DEFAULT_CRF:
        raise OptionError(f"--crf {options.crf}: {options.codec} has no --crf; leave it out")
    job = _Job(options, path, size, format_name, fps)
    if options.encoder == "auto":
        return next(job.working_hardware(), None) or job.software()
    if options.encoder in ("software", SOFTWARE[options.codec]):
        return job.software()
    return job.named(options.encoder)


def add_video_stream(
    container: OutputContainer, encoder: VideoEncoder, *, size: tuple[int, int], fps: Fraction, time_base: Fraction
) -> VideoStream:
    """A new video track that the encoder fills; colour tags and pixel shape are for the caller to set.

    Args:
        container: the file being written, its header not yet.
        encoder: from choose_encoder, for this container's format.
        size: width and height of the frames.
        fps: frame rate declared to players.
        time_base: seconds of one tick of the frames' pts.
    """
    hwaccel = HWAccel(encoder.device) if encoder.device else None
    video_stream = cast(VideoStream, container.add_stream(encoder.name, rate=fps, hwaccel=hwaccel))
    video_stream.time_base = time_base
    _configure(video_stream.codec_context, encoder, size, fps, time_base)
    return video_stream


def encoder_context(
    encoder: VideoEncoder, *, size: tuple[int, int], fps: Fraction, time_base: Fraction
) -> VideoCodecContext:
    """The same as add_video_stream, without a container: parameter sets in extradata, not in the packets."""
    hwaccel = HWAccel(encoder.device) if encoder.device else None
    context = cast(VideoCodecContext, CodecContext.create(encoder.name, "w", hwaccel))
    context.flags |= Flags.global_header
    _configure(context, encoder, size, fps, time_base)
    return context


def _configure(
    context: VideoCodecContext, encoder: VideoEncoder, size: tuple[int, int], fps: Fraction, time_base: Fraction
) -> None:
    for variable, value in _QUIET.items():
        os.environ.setdefault(variable, value)
    context.width, context.height = size
    context.pix_fmt = encoder.pix_fmt
    context.framerate = min(fps, Fraction(encoder.most_fps)) if encoder.most_fps else fps
    context.time_base = time_base
    context.options = dict(encoder.options)
    if encoder.codec_tag is not None:
        context.codec_tag = encoder.codec_tag
    if encoder.name == SOFTWARE["h264"] and cores() >= FRAME_THREADS_FROM:
        context.thread_type = "FRAME"


def fit_frame(frame: VideoFrame, encoder: VideoEncoder) -> VideoFrame:
    """The frame in the encoder's layout: itself where it has it, else converted; its time and colour tags stay.

    Handing another layout to PyAV's own encode() would convert it in several threads, which swscale does wrongly at
    some sizes and differently from run to run.
    """
    if frame.format.name == encoder.pix_fmt:
        return frame
    fitted = frame.reformat(format=encoder.pix_fmt, interpolation="BICUBIC", threads=1)
    fitted.duration = frame.duration
    return fitted


@dataclass(frozen=True)
class _Job:
    """What is to be encoded; finds the encoders for it."""

    options: OutputOptions
    path: str | Path
    size: tuple[int, int]
    format_name: str
    fps: Fraction

    def software(self) -> VideoEncoder:
        """The codec's software encoder, or an OutputError."""
        codec, (width, height) = self.options.codec, self.size
        encoder, other = self._described(SOFTWARE[codec]), "another --codec" if codec == "h264" else "--codec h264"
        if not has_encoder(encoder.name):
            raise OutputError(f"{self.path}: FFmpeg here has no {encoder.name}, which writes {codec}; give {other}")
        if codec == "av1" and output_chroma(width, height) != "yuv420p":
            even = max(16, round(min(self.size) / 2) * 2)
            raise OutputError(f"{self.path}: av1 holds no odd size ({width}x{height}); give --size {even} or {other}")
        if codec == "hevc" and min(self.size) < _SMALLEST_X265_PX:
            raise OutputError(
                f"{self.path}: {width}x{height} is too small for hevc; give --size {_SMALLEST_X265_PX} or {other}"
            )
        reason = None if codec == "h264" else self._trouble(encoder, frames=0)
        if reason is not None:
            raise OutputError(
                f"{self.path}: {encoder.name} does not take {width}x{height} ({reason}); give another --size or {other}"
            )
        return encoder

    def working_hardware(self) -> Iterator[VideoEncoder]:
        """Each hardware encoder that passes a trial at the job's size, the preferred one first."""
        for name in self._hardware_names():
            encoder = self._described(name)
            if self._trouble(encoder, frames=_TRIAL_FRAMES) is None:
                yield encoder

    def named(self, name: str) -> VideoEncoder:
        """The hardware encoder of a name, or an OptionError that says which names work."""
        codec, (width, height) = self.options.codec, self.size
        if name in self._hardware_names():
            encoder = self._described(name)
            reason = self._trouble(encoder, frames=_TRIAL_FRAMES)
            if reason is None:
                return encoder
            problem = f"does not work here at {width}x{height} ({reason})"
        elif _codec_of(name) == codec and has_encoder(name):
            problem = f"holds no odd size ({width}x{height})"
        elif (other := _codec_of(name)) is not None and other != codec:
            raise OptionError(f"--encoder {name}: is for {other}, not {codec}; add --codec {other}")
        else:
            problem = f"FFmpeg here has none of that name for {codec}"
        works = [SOFTWARE[codec]] if has_encoder(SOFTWARE[codec]) else []
        works += [encoder.name for encoder in self.working_hardware()]
        raise OptionError(f"--encoder {name}: {problem}; give one of {', '.join(['auto', 'software', *works])}")

    def _hardware_names(self) -> list[str]:
        if self.options.codec == "prores" or output_chroma(*self.size) != "yuv420p":
            return []
        names = [f"{self.options.codec}_{kind}" for kind in HARDWARE]
        return [name for name in names if has_encoder(name)]

    def _trouble(self, encoder: VideoEncoder, frames: int) -> str | None:
        """Why the encoder does not open, or does not give as many packets as frames; None where it does."""
        time_base = 1 / self.fps
        try:
            context = encoder_context(encoder, size=self.size, fps=self.fps, time_base=time_base)
            context.open()
            if not frames:
                return None
            frame, packets = VideoFrame(*self.size, encoder.pix_fmt), []
            for plane in frame.planes:
                plane.update(b"\x80" * plane.buffer_size)
            for pts in range(frames):
                frame.pts, frame.time_base = pts, time_base
                packets += context.encode(frame)
            packets += context.encode(None)
        except (av.FFmpegError, OSError, ValueError, NotImplementedError, MemoryError) as error:
            return getattr(error, "strerror", None) or str(error)
        starts_well = bool(packets) and packets[0].is_keyframe
        return None if starts_well and len(packets) == frames else f"it gave {len(packets)} packets for {frames} frames"

    def _described(self, name: str) -> VideoEncoder:
        codec, preset = self.options.codec, self.options.preset
        crf = DEFAULT_CRF.get(codec, 0) if self.options.crf is None else self.options.crf
        tag = None if self.format_name == "matroska" else _TAGS.get(codec)
        chroma = output_chroma(*self.size)
        if name == "libx264":
            # Note [The same packets]
            steady = {"x264-params": "asm=avx2"} if cv2.checkHardwareSupport(_AVX512) else {}
            return VideoEncoder(name, chroma, {"crf": str(crf), "preset": preset, **steady}, tag)
        if name == "libx265":
            return VideoEncoder(name, chroma, {"crf": str(crf), "preset": preset, "x265-params": _X265}, tag)
        if name == "libsvtav1":
            # To this encoder's FFmpeg wrapper crf 0 means "not given".
            options = {"crf": str(max(1, crf)), "preset": _SVT_PRESETS[preset]}
            return VideoEncoder(name, "yuv420p", options, tag, most_fps=_MOST_SVT_FPS)
        if name == "prores_ks":
            return VideoEncoder(name, "yuv422p10le", {"vendor": "apl0"}, tag)
        kind = name.rpartition("_")[2]
        options = _hardware_options(codec, kind, crf, preset)
        pix_fmt = "yuv420p" if kind in ("nvenc", "videotoolbox") else "nv12"
        return VideoEncoder(name, pix_fmt, options, tag, device="vaapi" if kind == "vaapi" else None)


def _hardware_options(codec: str, kind: str, crf: int, preset: str) -> dict[str, str]:
    """Constant quality about that of crf, in each hardware encoder's own words."""
    index = str(min(255, max(1, 4 * crf)) if codec == "av1" else max(1, crf))  # AV1's quantiser goes to 255
    if kind == "nvenc":
        # cq 0 means "not given"; with b 0 no bit rate holds the quality back.
        return {"rc": "vbr", "cq": str(max(1, crf)), "b": "0", "preset": _NVENC_PRESETS[preset], "tune": "hq"}
    if kind == "qsv":
        return {"global_quality": str(max(1, crf)), "preset": _QSV_PRESETS[preset]}
    if kind == "vaapi":
        return {"rc_mode": "CQP", "global_quality": index}
    if kind == "videotoolbox":
        # 1 to 100, upwards; as FFmpeg's -q:v, which is in units of 118.
        return {"flags": "+qscale", "global_quality": str(118 * max(1, round(100 - 1.75 * crf)))}
    options = {"rc": "cqp", "qp_i": index, "qp_p": index, "quality": _AMF_PRESETS.get(preset, "speed")}
    return options | ({"qp_b": index} if codec == "h264" else {})


def _codec_of(name: str) -> str | None:
    """The --codec whose encoder has this name, or None."""
    for codec, software in SOFTWARE.items():
        hardware = [] if codec == "prores" else [f"{codec}_{kind}" for kind in HARDWARE]
        if name in (software, *hardware):
            return codec
    return None
