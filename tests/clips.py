"""Clips for tests: small ones made here through PyAV, real ones found in the shared data folder.

Nothing here uses streamstyle.media: a fault in it must not hide in the clips that test it.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame

VIDEOS = "videos"


def data(path: str) -> Path:
    """A file or folder of the shared data, by its path in it; skips the test where it is absent."""
    root = Path(os.environ.get("STREAMSTYLE_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    found = root / path
    if not found.exists():
        pytest.skip(f"{found} is absent (set STREAMSTYLE_DATA to the data folder)")
    return found


def make_clip(
    path: Path,
    *,
    frames: int = 12,
    size: tuple[int, int] = (64, 48),
    fps: Fraction | int = 30,
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    audio: bool = True,
    audio_codec: str = "aac",
    audio_rate: int = 48000,
    audio_tracks: int = 1,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    gop: int = 6,
    rotation: int = 0,
    sample_aspect_ratio: Fraction = Fraction(1),
    color: dict[str, int] | None = None,
    starts_at_s: float = 0.0,
    options: dict[str, str] | None = None,
) -> Path:
    """Write a clip of a coloured disc moving over a gradient, with a sine tone, and return its path.

    Args:
        pts: time of each frame in ticks of time_base (default: 0, 1, 2, ... of 1/fps).
        color: attributes of the codec context, such as {"colorspace": 1, "color_range": 2}.
        rotation: degrees counter-clockwise by which a player is told to turn the picture.
        starts_at_s: before this time the picture is black and the sound silent: a clapperboard to test sync by.
    """
    fps = Fraction(fps)
    time_base = time_base or 1 / fps
    pts = range(frames) if pts is None else pts
    with av.open(str(path), "w") as container:
        film = container.add_stream(codec, rate=fps)
        film.time_base = film.codec_context.time_base = time_base
        film.width, film.height, film.pix_fmt = *size, pix_fmt
        film.codec_context.gop_size = gop
        film.codec_context.sample_aspect_ratio = sample_aspect_ratio
        film.codec_context.options = {"preset": "ultrafast", "bf": "2"} if codec == "libx264" else {}
        film.codec_context.options |= options or {}
        for name, value in (color or {}).items():
            setattr(film.codec_context, name, value)
        if rotation:
            film.set_display_rotation(rotation)
        sounds = [container.add_stream(audio_codec, rate=audio_rate) for _ in range(audio_tracks if audio else 0)]
        for sound in sounds:
            sound.codec_context.layout = "stereo"
        for i, ticks in enumerate(pts):
            rgb = draw(i, size) if ticks * time_base >= starts_at_s else np.zeros((size[1], size[0], 3), np.uint8)
            frame = VideoFrame.from_ndarray(rgb, "rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = ticks, time_base
            container.mux(film.encode(frame))
        container.mux(film.encode(None))
        end_s = float(pts[-1] * time_base + 1 / fps)
        for number, sound in enumerate(sounds):
            _add_tone(container, sound, float(pts[0] * time_base), end_s, starts_at_s, 440.0 * (number + 1))
    return path


def draw(i: int, size: tuple[int, int]) -> np.ndarray:
    """Frame i as [H, W, 3] RGB: every frame differs from every other, also at 1x1."""
    width, height = size
    y, x = np.mgrid[:height, :width].astype(np.float32)
    rgb = np.stack([60 + 120 * x / width, 60 + 120 * y / height, np.full_like(x, 40 + 12 * (i % 16))], -1)
    centre_x, centre_y, radius = width * (0.2 + 0.6 * (i % 24) / 24), height / 2, min(size) / 4
    rgb[(x - centre_x) ** 2 + (y - centre_y) ** 2 < radius**2] = (230, 60, 30)
    return rgb.astype(np.uint8)


def _add_tone(
    container: av.container.OutputContainer, sound: av.AudioStream, begin_s: float, end_s: float, on_s: float, hz: float
) -> None:
    rate = sound.codec_context.sample_rate
    first, last = round(begin_s * rate), round(end_s * rate)
    block = sound.codec_context.frame_size or 1024
    for begin in itertools.count(first, block):
        if begin >= last:
            break
        times = np.arange(begin, min(begin + block, last)) / rate
        wave = np.where(times >= on_s, 0.4 * np.sin(2 * np.pi * hz * times), 0)
        samples = (wave * 32767).astype(np.int16).repeat(2)[None]
        frame = AudioFrame.from_ndarray(samples, "s16", "stereo")
        frame.sample_rate, frame.pts, frame.time_base = rate, begin, Fraction(1, rate)
        container.mux(sound.encode(frame))
    container.mux(sound.encode(None))


def video_times(path: Path) -> list[Fraction]:
    """Presentation time of every frame a plain PyAV loop decodes, in seconds."""
    with av.open(str(path)) as container:
        return [frame.pts * frame.time_base for frame in container.decode(video=0)]


def audio_packets(path: Path, track: int = 0) -> list[tuple[Fraction, bytes]]:
    """(time in seconds, bytes) of every packet of one sound track."""
    with av.open(str(path)) as container:
        sound = container.streams.audio[track]
        return [(p.pts * p.time_base, bytes(p)) for p in container.demux(sound) if p.size]


def audio_samples(path: Path, track: int = 0) -> tuple[float, np.ndarray, int]:
    """(time of the first sample in seconds, samples of the first channel as float, rate) of one sound track."""
    with av.open(str(path)) as container:
        sound = container.streams.audio[track]
        resampler = av.AudioResampler("flt", "mono", sound.codec_context.sample_rate)
        frames = [out for frame in container.decode(sound) for out in resampler.resample(frame)]
        start_s = float(frames[0].pts * frames[0].time_base)
        return start_s, np.concatenate([frame.to_ndarray()[0] for frame in frames]), sound.codec_context.sample_rate
