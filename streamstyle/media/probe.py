"""What a film is, learned by opening it and decoding one frame.

A header may lie about size, rotation and colour; the first decoded frame does not, so it is the witness.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from streamstyle.errors import InputError, OptionError
from streamstyle.frames import ColorTags, Matrix, VideoInfo
from streamstyle.media.images import TICKS, is_folder, pictures_in, rate_of
from streamstyle.media.stills import decode_still, turns_of

# libav's AVColorSpace numbers whose matrix is known here; every other number goes by the size rule.
_MATRIX_OF_SPACE: dict[int, Matrix] = {1: "bt709", 5: "bt601", 6: "bt601", 9: "bt2020", 10: "bt2020"}
_SPACE_RGB, _SPACE_UNSPECIFIED = 0, 2
_RANGE_FULL = 2
_FALLBACK_FPS = Fraction(25)
# libavformat opens any .txt as a "video" of a terminal: never what a user meant.
_NOT_FILMS = {"tty"}


def probe(path: str | Path, *, fps: float | None = None) -> VideoInfo:
    """Read what a film is: its size as shown, timing, colour tags and sound.

    The first video track counts; cover art is no video. Rotation is baked in: width, height and
    sample_aspect_ratio are those of the picture as shown.

    Args:
        path: a file of any container and codec this build of FFmpeg reads, or a folder of pictures.
        fps: frames a second of a folder of pictures; None for 25.

    Returns:
        VideoInfo; `frames` is the container's own count, else duration times rate, else None.

    Raises:
        InputError: no such file, a folder without pictures, unreadable, not a video, sound only, or nothing in it
            decodes.
        OptionError: fps is given for a film, which has its own.

    Cost: opens the file and decodes one frame.
    """
    if is_folder(path):
        return _describe_folder(str(path), rate_of(fps))
    if fps is not None and os.path.exists(path):
        raise OptionError(f"--fps {fps:g}: {path} is no folder of pictures and has its own rate; leave it out")
    with open_input(path) as container:
        video_stream = find_video_stream(container, path)
        frame = next(decoded_frames(container, video_stream), None)
        if frame is None:
            raise InputError(f"{path}: no frame could be decoded; the file is empty or damaged, give another")
        return _describe(str(path), container, video_stream, frame)


def open_input(path: str | Path, hwaccel: HWAccel | None = None) -> InputContainer:
    """Open a file for reading, or raise an InputError that says in one line why not and what to do.

    Video is decoded in software, or as hwaccel says.
    """
    if not os.path.lexists(path):
        raise InputError(f"{path}: no such file; check the name")
    if os.path.isdir(path):
        raise InputError(f"{path}: is a folder; give a video file inside it")
    try:
        # Old files carry tags in Latin-1 and the like: a tag that is not UTF-8 must not refuse the film.
        container = av.open(os.fspath(path), metadata_errors="replace", hwaccel=hwaccel)
    except av.error.PermissionError:
        raise InputError(f"{path}: permission denied; make it readable (chmod +r)") from None
    except av.error.FileNotFoundError:
        raise InputError(f"{path}: a link to nothing; check the name") from None
    except (av.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        if getattr(error, "errno", None) == errno.EIO:
            raise InputError(f"{path}: cannot be read ({reason}); check the disk") from None
        raise InputError(f"{path}: not a video that can be read ({reason}); give a video file") from None
    if container.format.name in _NOT_FILMS:
        container.close()
        raise InputError(f"{path}: is a text file; give a video file")
    return container


def find_video_stream(container: InputContainer, path: str | Path) -> VideoStream:
    """The first video track that is a film and not cover art."""
    films = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not films:
        found = "has sound but no video" if container.streams.audio else "has no video"
        raise InputError(f"{path}: {found}; give a file with a video track")
    if films[0].codec_context is None:
        raise InputError(
            f"{path}: no decoder for its video codec; convert it first (ffmpeg -i IN -c:v libx264 OUT.mp4)"
        )
    return films[0]


def decoded_frames(
    container: InputContainer, video_stream: VideoStream, faults: list[str] | None = None
) -> Iterator[VideoFrame]:
    """Every frame that decodes, in order; a packet that does not is skipped and its reason added to faults."""
    faults = [] if faults is None else faults
    packets = container.demux(video_stream)
    while True:
        try:
            packet = next(packets, None)
        except av.FFmpegError as error:  # the container itself breaks off here; what the decoder holds is still good
            faults.append(str(error))
            with contextlib.suppress(av.FFmpegError):
                yield from video_stream.decode(None)
            return
        if packet is None:
            return
        try:
            frames = video_stream.decode(packet)
        except EOFError:
            continue
        except av.FFmpegError as error:
            faults.append(str(error))
            continue
        while frames:
            yield frames.pop(0)  # popped: a frame kept in the list would hold its buffer back from the decoder


def frame_ticks(info: VideoInfo) -> int:
    """Nominal length of one frame in ticks of info.time_base, at least 1."""
    return max(1, round(1 / (info.fps * info.time_base)))


def is_full_range(frame: VideoFrame) -> bool:
    """Whether a frame's numbers span 0..255: tagged so, or of a format that means so unless tagged otherwise."""
    if frame.color_range:
        return bool(frame.color_range == _RANGE_FULL)
    name = frame.format.name
    return name.startswith(("yuvj", "gray", "ya8", "mono")) or frame.format.is_rgb


def time_base_of(track: Stream) -> Fraction:
    """Seconds of one tick of a track's timestamps; libav's microseconds where it has none."""
    return track.time_base or Fraction(1, av.time_base)


def declared_length_s(container: InputContainer, video_stream: VideoStream) -> Fraction | None:
    """Length of the video track itself as the container declares it, or None where it does not."""
    if video_stream.duration:
        return video_stream.duration * time_base_of(video_stream)
    tag = video_stream.metadata.get("DURATION", "")  # Matroska: "00:00:01.500000000"
    try:
        hours, minutes, seconds = tag.split(":")
        length = int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)
    except ValueError:
        return None
    return length or None


def declared_frames(video_stream: VideoStream, length_s: Fraction | None, fps: Fraction) -> int:
    """Frames to expect; 0 where nothing tells. The smaller of count and length: an edit list may hide some."""
    by_length = round(length_s * fps) if length_s else 0
    return min(video_stream.frames or by_length, by_length or video_stream.frames)


def _describe(path: str, container: InputContainer, video_stream: VideoStream, frame: VideoFrame) -> VideoInfo:
    rotation = turns_of(frame)
    aspect = Fraction(video_stream.sample_aspect_ratio or 1)
    width, height = frame.width, frame.height
    if rotation in (90, 270):
        width, height, aspect = height, width, 1 / aspect
    fps = _frame_rate(video_stream)
    length = declared_length_s(container, video_stream)
    if length is None and container.duration:
        length = Fraction(container.duration, av.time_base)
    return VideoInfo(
        path=path,
        width=width,
        height=height,
        time_base=frame.time_base or time_base_of(video_stream),
        fps=fps,
        frames=declared_frames(video_stream, length, fps) or None,
        duration_s=float(length) if length else None,
        start_pts=frame.pts or 0,
        rotation=rotation,
        sample_aspect_ratio=aspect,
        color=_color_tags(frame, height),
        codec=video_stream.codec_context.codec.canonical_name,
        pix_fmt=frame.format.name,
        audio=tuple(
            s.codec_context.codec.canonical_name if s.codec_context else "unknown" for s in container.streams.audio
        ),
    )


def _describe_folder(path: str, fps: Fraction) -> VideoInfo:
    pictures = pictures_in(path)
    frame = decode_still(pictures[0])
    rotation = turns_of(frame)
    width, height = (frame.height, frame.width) if rotation in (90, 270) else (frame.width, frame.height)
    return VideoInfo(
        path=path,
        width=width,
        height=height,
        time_base=1 / (fps * TICKS),
        fps=fps,
        frames=len(pictures),
        duration_s=float(len(pictures) / fps),
        rotation=rotation,
        color=_color_tags(frame, height),
        codec=pictures[0].suffix.lower().removeprefix("."),
        pix_fmt=frame.format.name,
    )


def _frame_rate(video_stream: VideoStream) -> Fraction:
    for rate in (video_stream.average_rate, video_stream.guessed_rate):
        if rate is not None and 0 < rate <= 1000:
            return Fraction(rate)
    return _FALLBACK_FPS


def _color_tags(frame: VideoFrame, height: int) -> ColorTags:
    by_size: Matrix = "bt709" if height >= 720 else "bt601"
    if frame.format.is_rgb or frame.colorspace == _SPACE_RGB:
        # Becomes limited-range YUV on decoding; its RGB tags would be untrue of that.
        return ColorTags(matrix=by_size, primaries=frame.color_primaries, transfer=frame.color_trc)
    yuv_full = frame.color_range == _RANGE_FULL or frame.format.name.startswith("yuvj")
    return ColorTags(
        matrix=_MATRIX_OF_SPACE.get(frame.colorspace, by_size),
        full_range=yuv_full,
        space=frame.colorspace,
        primaries=frame.color_primaries,
        transfer=frame.color_trc,
        range=frame.color_range,
    )
