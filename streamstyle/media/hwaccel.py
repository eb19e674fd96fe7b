"""Which hardware decoder reads a film: none, the one asked for, or whatever the clock says is fastest here."""

from __future__ import annotations

import time

import av
from av.codec.hwaccel import HWAccel, hwdevices_available

from streamstyle.errors import DeviceError, StreamstyleError
from streamstyle.frames import VideoInfo
from streamstyle.media.images import is_folder
from streamstyle.media.planes import PlaneConverter
from streamstyle.media.probe import decoded_frames, find_video_stream, open_input

_MOST_FRAMES = 48
_MOST_S = 1.0


def choose_device(info: VideoInfo, hwaccel: str, threads: int = 0) -> str | None:
    """The device to decode a film on, by FFmpeg's name; None is software.

    Args:
        info: the film, as probe gave it.
        hwaccel: off, auto or a device's name, as in --hwaccel. auto decodes the film's first frames in software and
            on every device that can, and takes what was fastest; it never fails.
        threads: decoder threads, as they will be.

    Raises:
        DeviceError: a device that FFmpeg here does not know, or that does not decode this film.

    Cost: off nothing; a name, one frame; auto, at most 48 frames or 1 s each in software and on every device that
    opens, and some milliseconds where none does.
    """
    if hwaccel == "off":
        return None
    known = check_hwaccel(hwaccel)
    if hwaccel == "auto":
        return _fastest(info, known, threads)
    try:
        frames_per_second(info, hwaccel, threads, most_frames=1)
    except DeviceError as error:
        raise DeviceError(
            f"--hwaccel {hwaccel}: {info.path} cannot be decoded on it ({error}); give off or auto"
        ) from None
    return hwaccel


def frames_per_second(info: VideoInfo, device: str | None, threads: int, most_frames: int = _MOST_FRAMES) -> float:
    """How fast the film's first frames become planes, once the file and the device are open.

    Args:
        info: the film, as probe gave it.
        device: FFmpeg's name, or None for software.
        threads: decoder threads; 0 lets FFmpeg choose.
        most_frames: stop after this many, or after a second.

    Raises:
        DeviceError: the device is not there, or does not decode this film; nothing falls back to software.
    """
    if device is not None:
        _check_device(info, device)
    hwaccel = HWAccel(device, allow_software_fallback=False) if device is not None else None
    faults: list[str] = []
    with open_input(info.path, hwaccel) as container:
        video_stream = find_video_stream(container, info.path)
        video_stream.thread_type = "AUTO"
        video_stream.thread_count = threads
        converter, count, began = PlaneConverter(info), 0, time.perf_counter()
        for frame in decoded_frames(container, video_stream, faults):
            converter.convert(frame, count)
            count += 1
            if count == most_frames or time.perf_counter() - began > _MOST_S:
                break
        if not count:
            raise DeviceError(faults[0] if faults else "it gave no frame")
        return count / max(time.perf_counter() - began, 1e-9)


def _check_device(info: VideoInfo, device: str) -> None:
    """Refuse a device that does not open, or that has no decoder for the film's codec."""
    if is_folder(info.path):
        raise DeviceError("pictures are decoded in software")
    with open_input(info.path) as container:
        codec = find_video_stream(container, info.path).codec_context.codec
    try:
        HWAccel(device).create(codec)
    except NotImplementedError:
        raise DeviceError(f"it has no decoder for {info.codec}") from None
    except (av.FFmpegError, OSError, ValueError) as error:
        raise DeviceError(getattr(error, "strerror", None) or str(error)) from None


def check_hwaccel(hwaccel: str) -> list[str]:
    """The devices that FFmpeg knows here.

    Raises:
        DeviceError: the one asked for is none of them, and neither ``off`` nor ``auto``.
    """
    known = list(hwdevices_available())
    if hwaccel not in ("off", "auto", *known):
        raise DeviceError(
            f"--hwaccel {hwaccel}: FFmpeg here knows no such device; give one of {', '.join(['off', 'auto', *known])}"
        )
    return known


def _fastest(info: VideoInfo, known: list[str], threads: int) -> str | None:
    speeds = {device: _speed(info, device, threads) for device in known}
    best = max(known, key=speeds.__getitem__, default=None)
    if best is None or not speeds[best]:
        return None  # nothing to compare: software need not be timed
    return best if speeds[best] > _speed(info, None, threads) else None


def _speed(info: VideoInfo, device: str | None, threads: int) -> float:
    """Frames a second; 0 where it does not work, whatever the reason: what decodes in the end will tell."""
    try:
        return frames_per_second(info, device, threads)
    except (StreamstyleError, av.FFmpegError, OSError, ValueError, RuntimeError):
        return 0.0
