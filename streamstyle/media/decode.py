"""From a file to Frames: in order, upright, one size, with strictly increasing timestamps."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from fractions import Fraction

import av
from av.codec.hwaccel import HWAccel
from av.video.frame import VideoFrame

from streamstyle.errors import InputError
from streamstyle.frames import Checkpoint, Faults, Frame, VideoInfo, picture_crc
from streamstyle.media.hwaccel import choose_device
from streamstyle.media.images import frames_in, is_folder
from streamstyle.media.planes import PlaneConverter
from streamstyle.media.probe import (
    declared_frames,
    declared_length_s,
    decoded_frames,
    find_video_stream,
    frame_ticks,
    open_input,
)

Warn = Callable[[str], None]
_Timed = tuple[int, VideoFrame]  # pts beside it

# Where to look for a keyframe at or before the wanted time: just there, a little earlier, and at last from the
# very start, which always works. Containers whose index is by decode time or absent overshoot the first try.
_SEEK_BACK_S: tuple[float | None, ...] = (0.0, 5.0, None)
# Missing at the end: fewer frames than this are edit lists and rounding, more is a cut file.
_MISSING_FRAMES_IGNORED = 3


@dataclass
class _Faults:
    """What went wrong while reading, to be told once at the end; before is what an earlier reading met."""

    undecodable: list[str] = field(default_factory=list)
    repaired_pts: int = 0
    declared: int | None = None
    declared_end_pts: int = 0
    before: Faults = field(default_factory=Faults)

    def go_on(self, before: Faults, converter: PlaneConverter) -> None:
        """Count on from an earlier reading; what was read to meet its last frame again is in its count."""
        self.before, self.repaired_pts = before, before.repaired_pts
        self.undecodable.clear()
        converter.other_sizes.clear()
        converter.other_sizes.update({(width, height): count for width, height, count in before.other_sizes})

    def so_far(self, frames: int, converter: PlaneConverter) -> Faults:
        """All of it, by the time so many frames were given."""
        sizes = tuple((*size, count) for size, count in converter.other_sizes.items())
        return Faults(frames, self.before.undecodable + len(self.undecodable), self.repaired_pts, sizes)


def decode(
    info: VideoInfo,
    *,
    start_s: float = 0.0,
    duration_s: float | None = None,
    size: int | None = None,
    after: Checkpoint | None = None,
    threads: int = 0,
    hwaccel: str = "off",
    warn: Warn | None = None,
) -> Generator[Frame, None, None]:
    """Decode a film into planar 8-bit YUV frames; closing the generator closes the file.

    Args:
        info: the film, as probe gave it.
        start_s: seconds after the first frame; the first frame at or after it (to half a tick) is the first given.
        duration_s: stop this many seconds after start_s; None goes on to the end.
        size: short side in pixels to scale to, up or down; None leaves the film as it is.
        after: go on after this frame, as an earlier reading of the same window gave it; there may be no more.
        threads: decoder threads; 0 lets FFmpeg choose.
        hwaccel: off, auto or a device's name, as choose_device takes it. From the first packet that a device does
            not decode on, the film is decoded in software.
        warn: told in one line each, after the last frame, what was skipped, repaired or fitted, also before `after`.

    Yields:
        Frame: pts in ticks of info.time_base as in the file, strictly increasing. A film in 8-bit 4:2:0 gives
        4:2:0, also of odd size (chroma rounded up); any other gives what output_chroma says of the size.

    Raises:
        InputError: the file cannot be read, nothing decodes, start_s lies beyond the end, or the frame to go on after
            is not met as it was.
        DeviceError: hwaccel names a device that is not there or does not decode this film.

    Cost: one copy of the planes (0.1 to 0.3 ms a 1080p frame) where nothing is scaled or converted.
    """
    first, end = _window(info, start_s, duration_s)
    converter, faults = PlaneConverter(info, size), _Faults()
    count, last = 0 if after is None else after.faults.frames, info.start_pts
    if after is None:
        read = functools.partial(_frames_from, info, first, threads, faults)
    else:
        read = functools.partial(_frames_after, info, after, converter, threads, faults)
    with closing(_frames_on(choose_device(info, hwaccel, threads), read, faults)) as frames:
        for pts, frame in frames:
            if after is None and first is not None and pts < first:
                last = pts
                continue
            if end is not None and pts >= end:
                last = pts
                break
            picture = converter.convert(frame, pts)
            del frame  # PyAV frames form reference cycles: one held over the yield would keep its buffer
            count, last = count + 1, pts
            yield replace(picture, faults=faults.so_far(count, converter))
    if not count and after is None:
        _refuse_empty(info, start_s, duration_s, last)
    if warn is not None:
        whole_film = first is None and end is None
        shortage = _shortage(info, faults, count, last) if whole_film else None
        for line in _warnings(faults.so_far(count, converter), shortage):
            warn(line)


def frame_at(info: VideoInfo, seconds: float, size: int | None = None) -> Frame:
    """The frame on screen at a time: the last whose pts is not after it.

    Args:
        info: the film, as probe gave it.
        seconds: time after the first frame.
        size: short side in pixels to scale to; None leaves it as it is.

    Raises:
        InputError: the time is outside the film, or the file cannot be read.
    """
    if seconds < 0:
        raise InputError(f"{info.path}: {seconds:g} s is before the film; give 0 or more")
    refuse_beyond(info, seconds)
    wanted = info.start_pts + math.floor(Fraction(seconds) / info.time_base + Fraction(1, 2))
    shown: tuple[int, VideoFrame] | None = None
    with closing(_frames_from(info, wanted, 0, _Faults())) as frames:
        for pts, frame in frames:
            if pts > wanted and shown is not None:
                break
            shown = pts, frame
        else:
            end = (shown[0] if shown else info.start_pts) + frame_ticks(info)
            length_s = max(float((end - info.start_pts) * info.time_base), info.duration_s or 0.0)
            if shown is None or seconds >= length_s:
                raise InputError(f"{info.path}: {seconds:g} s is beyond the end; the film is {length_s:.2f} s long")
        pts, frame = shown
        return PlaneConverter(info, size).convert(frame, pts)


def _window(info: VideoInfo, start_s: float, duration_s: float | None) -> tuple[int | None, int | None]:
    """First pts wanted and first pts no longer wanted, in ticks; None where the film's own ends hold."""
    start = Fraction(start_s) / info.time_base - Fraction(1, 2)
    first = info.start_pts + math.ceil(start) if start_s > 0 else None
    if first is not None:
        refuse_beyond(info, start_s)
    if duration_s is None:
        return first, None
    return first, info.start_pts + max(1, math.ceil(start + Fraction(duration_s) / info.time_base))


def refuse_beyond(info: VideoInfo, seconds: float) -> None:
    """Spare reading a whole film for a time that is clearly beyond its declared end (which may be a little off).

    Raises:
        InputError: it is.
    """
    if info.duration_s is not None and seconds > info.duration_s + 1:
        raise InputError(f"{info.path}: {seconds:g} s is beyond the end; the film is {info.duration_s:.2f} s long")


def _refuse_empty(info: VideoInfo, start_s: float, duration_s: float | None, last_pts: int) -> None:
    length_s = float((last_pts + frame_ticks(info) - info.start_pts) * info.time_base)
    if start_s >= length_s > 0:
        raise InputError(f"{info.path}: start {start_s:g} s is beyond the end; the film is {length_s:.2f} s long")
    if duration_s is not None:
        span = f"{start_s:g} and {start_s + duration_s:g} s"
        raise InputError(f"{info.path}: no frame begins between {span}; give a longer duration")
    raise InputError(f"{info.path}: no frame could be decoded; the file is empty or damaged, give another")


def _frames_on(
    device: str | None, read: Callable[[str | None], Generator[_Timed, None, None]], faults: _Faults
) -> Generator[_Timed, None, None]:
    """What read gives, on a device as long as it decodes all; then in software, without those already given."""
    given: int | None = None
    if device is not None:
        with contextlib.suppress(InputError), closing(read(device)) as frames:
            for pts, frame in frames:
                if faults.undecodable:
                    break
                yield pts, frame
                given = pts
                del frame
        if given is not None and not faults.undecodable:
            return
    with closing(read(None)) as frames:
        yield from frames if given is None else (later for later in frames if later[0] > given)


def _frames_from(
    info: VideoInfo, first: int | None, threads: int, faults: _Faults, device: str | None = None
) -> Generator[_Timed, None, None]:
    """(pts, frame) from a keyframe at or before pts `first` on; from the start of the file where it is None."""
    for back_s in _SEEK_BACK_S if first is not None else (None,):
        seek_to = None
        if first is not None and back_s is not None:
            seek_to = first - round(Fraction(back_s) / info.time_base)
            if seek_to <= info.start_pts:
                continue
        faults.undecodable.clear()
        faults.repaired_pts = 0
        with closing(_read(info, seek_to, threads, faults, device)) as frames:
            opening = next(frames, None)
            if seek_to is not None and not _is_good_opening(opening, first):
                continue
            if opening is not None:
                yield opening
                del opening
                yield from frames
            return


def _frames_after(
    info: VideoInfo,
    after: Checkpoint,
    converter: PlaneConverter,
    threads: int,
    faults: _Faults,
    device: str | None = None,
) -> Generator[_Timed, None, None]:
    """(pts, frame) of what follows a frame already given, once that very picture is met again.

    A seek may land where the decoder gives other pictures than it gave when it came from the start (open groups of
    pictures, repaired timestamps, damage); the frame's checksum tells, and an earlier point is tried, last the start.
    """
    for back_s in _SEEK_BACK_S:
        seek_to = None if back_s is None else after.pts - round(Fraction(back_s) / info.time_base)
        if seek_to is not None and seek_to <= info.start_pts:
            continue
        faults.undecodable.clear()
        faults.repaired_pts = 0
        with closing(_read(info, seek_to, threads, faults, device)) as frames:
            opening = next(frames, None)
            if opening is None or (seek_to is not None and not _is_good_opening(opening, after.pts)):
                continue
            for pts, frame in itertools.chain([opening], frames):
                if pts < after.pts:
                    continue
                met = converter.convert(frame, pts)
                if pts > after.pts or picture_crc(met.y, met.u, met.v) != after.crc:
                    break
                if seek_to is not None and faults.repaired_pts:
                    break  # times that are made up here depend on where the reading began
                del frame, opening
                faults.go_on(after.faults, converter)
                yield from frames
                return
    raise InputError(f"{info.path}: does not decode as it did before it was stopped; start over with --no-resume")


def _is_good_opening(opening: tuple[int, VideoFrame] | None, first: int | None) -> bool:
    """Whether a seek landed early enough, and on a picture that needs none before it.

    H.264 also marks recovery points as keyframes, from which the picture only gradually becomes right; the decoder
    says so by the corrupt flag.
    """
    return opening is not None and first is not None and opening[0] <= first and not opening[1].is_corrupt


def _read(
    info: VideoInfo, seek_to: int | None, threads: int, faults: _Faults, device: str | None
) -> Generator[_Timed, None, None]:
    """Open, seek, decode; each frame with a pts that is there and after the one before."""
    if is_folder(info.path):
        yield from frames_in(info, seek_to)
        return
    hwaccel = HWAccel(device, allow_software_fallback=True) if device is not None else None
    with open_input(info.path, hwaccel) as container:
        video_stream = find_video_stream(container, info.path)
        video_stream.thread_type = "AUTO"
        video_stream.thread_count = threads
        length = declared_length_s(container, video_stream)
        if length is not None:
            faults.declared = declared_frames(video_stream, length, info.fps)
            faults.declared_end_pts = info.start_pts + round(length / info.time_base)
        if seek_to is not None:
            try:
                container.seek(seek_to, stream=video_stream)
            except av.FFmpegError:
                return  # no index, or past the end: the caller tries from the start
        yield from _with_pts(info, decoded_frames(container, video_stream, faults.undecodable), faults)


def _with_pts(info: VideoInfo, frames: Iterator[VideoFrame], faults: _Faults) -> Iterator[tuple[int, VideoFrame]]:
    last: int | None = None
    for frame in frames:
        pts = frame.pts
        if pts is None:
            pts = info.start_pts if last is None else last + frame_ticks(info)
            faults.repaired_pts += 1
        elif last is not None and pts <= last:
            pts = last + 1
            faults.repaired_pts += 1
        last = pts
        yield pts, frame


def _shortage(info: VideoInfo, faults: _Faults, count: int, last_pts: int) -> str | None:
    """The warning that a file ends early, by its count and by its clock: one alone may be an edit list."""
    if faults.declared is None or faults.declared - count <= _MISSING_FRAMES_IGNORED:
        return None
    if faults.declared_end_pts - last_pts <= (_MISSING_FRAMES_IGNORED + 1) * frame_ticks(info):
        return None
    return f"input is truncated: {count} of {faults.declared} declared frames could be decoded"


def _warnings(faults: Faults, shortage: str | None) -> Iterator[str]:
    if faults.undecodable:
        yield f"{faults.undecodable} packets could not be decoded and were left out"
    if shortage is not None:
        yield shortage
    if faults.repaired_pts:
        yield f"{faults.repaired_pts} frames had no timestamp or one out of order; it was repaired"
    if faults.other_sizes:
        sizes = ", ".join(f"{width}x{height}" for width, height, _ in faults.other_sizes)
        total = sum(count for *_, count in faults.other_sizes)
        yield f"{total} frames had another size ({sizes}) and were fitted"
