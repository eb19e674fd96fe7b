"""Hardware decoding on machines without it: the devices are stand-ins, the frames they give are real."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from av.video.frame import VideoFrame
from clips import make_clip

from streamstyle.errors import DeviceError, InputError
from streamstyle.frames import Frame, VideoInfo
from streamstyle.media import decode as decoding
from streamstyle.media import hwaccel, probe
from streamstyle.media.decode import decode
from streamstyle.media.planes import PlaneConverter


@pytest.fixture
def info(tmp_path: Path) -> VideoInfo:
    return probe.probe(make_clip(tmp_path / "a.mp4", frames=30, size=(70, 46), audio=False))


def same(ours: list[Frame], theirs: list[Frame]) -> bool:
    assert [frame.pts for frame in ours] == [frame.pts for frame in theirs]
    return all(
        np.array_equal(getattr(a, plane), getattr(b, plane))
        for a, b in zip(ours, theirs, strict=True)
        for plane in "yuv"
    )


# -- planes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rotation", [0, 90, 180])
@pytest.mark.parametrize("shown", [None, 32, 100])
@pytest.mark.parametrize("size", [(64, 48), (70, 46), (35, 21), (320, 180)])
@pytest.mark.parametrize("film", ["of this size", "of another size"])
def test_two_planes_are_the_three(size, shown, rotation, film):
    """nv12, which devices give, becomes bit for bit what yuv420p becomes."""
    planar = VideoFrame(*size, "yuv420p")
    noise = np.random.default_rng(1)
    for plane in planar.planes:
        plane.update(noise.integers(0, 255, plane.buffer_size, np.uint8).tobytes())
    planar.color_range = 1
    paired = _paired(planar)
    native = size if film == "of this size" else (96, 96)
    width, height = native[::-1] if rotation == 90 else native
    info = VideoInfo("a", width, height, Fraction(1, 30), Fraction(30), rotation=rotation, pix_fmt="yuv420p")
    assert same([PlaneConverter(info, shown).convert(paired, 7)], [PlaneConverter(info, shown).convert(planar, 7)])
    picture = PlaneConverter(info, shown).convert(paired, 7)
    assert all(plane.flags.c_contiguous and plane.flags.owndata for plane in (picture.y, picture.u, picture.v))


def _paired(planar: VideoFrame) -> VideoFrame:
    """The frame as nv12, written by hand: swscale is not asked."""
    y, u, v = (np.frombuffer(p, np.uint8).reshape(p.height, -1)[:, : p.width] for p in planar.planes)
    paired = VideoFrame(planar.width, planar.height, "nv12")
    pairs = np.stack([u, v], -1).reshape(u.shape[0], -1)
    for plane, source in zip(paired.planes, (y, pairs), strict=True):
        rows = np.zeros((plane.height, plane.line_size), np.uint8)
        rows[:, : source.shape[1]] = source
        plane.update(rows.tobytes())
    for tag in ("color_range", "colorspace", "pts", "time_base"):
        if getattr(planar, tag) is not None:
            setattr(paired, tag, getattr(planar, tag))
    return paired


# -- decoding -------------------------------------------------------------------------------------------------------


class StandIn:
    """A device that gives its first frames as nv12, and then does something else."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, then: str, after: int = 17) -> None:
        self.opened: list[bool] = []
        self._then, self._after = then, after
        monkeypatch.setattr(decoding, "choose_device", lambda info, hwaccel, threads: "cuda")
        monkeypatch.setattr(decoding, "open_input", self._open)
        monkeypatch.setattr(decoding, "decoded_frames", self._frames)

    def _open(self, path, hwaccel=None):
        self.opened.append(hwaccel is not None)
        if hwaccel is not None and self._then == "does not open":
            raise InputError("no device")
        return probe.open_input(path)

    def _frames(self, container, video_stream, faults) -> Iterator[VideoFrame]:
        for i, frame in enumerate(probe.decoded_frames(container, video_stream, faults)):
            if not self.opened[-1]:
                yield frame
            elif i < self._after:
                yield _paired(frame)
            elif self._then == "software":
                yield frame
            elif self._then == "loses a packet" and i == self._after:
                faults.append("device lost")
            elif self._then == "ends":
                faults.append("device lost")
                return
            else:
                yield _paired(frame)


@pytest.mark.parametrize("window", [{}, {"start_s": 0.5}, {"start_s": 0.9}, {"start_s": 0.1, "duration_s": 0.6}])
@pytest.mark.parametrize("then", ["goes on", "software", "loses a packet", "ends", "does not open"])
@pytest.mark.parametrize("after", [0, 3, 17])
def test_a_device_gives_what_software_gives_whatever_becomes_of_it(monkeypatch, info, window, then, after):
    wanted = list(decode(info, **window))
    device, warnings = StandIn(monkeypatch, then, after), []
    assert same(list(decode(info, hwaccel="cuda", warn=warnings.append, **window)), wanted)
    assert warnings == []
    assert device.opened[0]
    if then in ("goes on", "software"):
        assert all(device.opened)
    if then == "does not open":
        assert device.opened[-1] is False


def test_off_opens_no_device(monkeypatch, info):
    seen = []
    real = probe.open_input
    monkeypatch.setattr(decoding, "open_input", lambda path, hwaccel=None: seen.append(hwaccel) or real(path, hwaccel))
    list(decode(info))
    assert seen == [None]


# -- choosing -------------------------------------------------------------------------------------------------------


def test_an_unknown_device_is_refused(info):
    with pytest.raises(DeviceError) as refused:
        next(decode(info, hwaccel="tpu"))
    message = str(refused.value)
    assert message.startswith("--hwaccel tpu: FFmpeg here knows no such device; give one of off, auto")
    assert "\n" not in message


def test_a_device_that_is_not_there_is_refused(info):
    for device in hwaccel.hwdevices_available():
        try:
            hwaccel.frames_per_second(info, device, 0, most_frames=1)
        except DeviceError:
            break
    else:
        pytest.skip("every device works here")
    with pytest.raises(DeviceError) as refused:
        next(decode(info, hwaccel=device))
    message = str(refused.value)
    assert message.startswith(f"--hwaccel {device}: {info.path} cannot be decoded on it (")
    assert message.endswith("); give off or auto")
    assert "\n" not in message


def test_a_device_without_a_decoder_for_the_film_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(hwaccel, "hwdevices_available", lambda: ["cuda"])
    film = probe.probe(make_clip(tmp_path / "a.mkv", codec="ffv1", audio=False))
    with pytest.raises(DeviceError, match=r"cannot be decoded on it \(it has no decoder for ffv1\)"):
        hwaccel.choose_device(film, "cuda")


@pytest.mark.parametrize(
    ("speeds", "chosen", "timed"),
    [
        ({}, None, []),
        ({"slow": 0, "fast": 0, None: 50}, None, ["slow", "fast"]),
        ({"slow": 20, "fast": 90, None: 50}, "fast", ["slow", "fast", None]),
        ({"slow": 0, "fast": 90, None: 50}, "fast", ["slow", "fast", None]),
        ({"slow": 20, "fast": 49, None: 50}, None, ["slow", "fast", None]),
        ({"slow": 20, "fast": 50, None: 50}, None, ["slow", "fast", None]),
        ({"slow": 20, "fast": 50, None: 0}, "fast", ["slow", "fast", None]),
    ],
)
def test_auto_takes_what_the_clock_says(monkeypatch, info, speeds, chosen, timed):
    asked = []

    def frames_per_second(info, device, threads):
        asked.append(device)
        if not speeds[device]:
            raise DeviceError("not there") if device else InputError("not a film")
        return speeds[device]

    monkeypatch.setattr(hwaccel, "hwdevices_available", lambda: [device for device in speeds if device])
    monkeypatch.setattr(hwaccel, "frames_per_second", frames_per_second)
    assert hwaccel.choose_device(info, "auto") == chosen
    assert asked == timed


def test_auto_never_fails_here(info):
    assert hwaccel.choose_device(info, "auto") in {None, *hwaccel.hwdevices_available()}
    assert same(list(decode(info, hwaccel="auto")), list(decode(info)))
    assert hwaccel.choose_device(dataclasses.replace(info, path="gone.mp4"), "auto") is None


def test_the_clock_stops_after_the_frames_it_needs(monkeypatch, info):
    counted = []
    monkeypatch.setattr(PlaneConverter, "convert", lambda self, frame, pts: counted.append(pts))
    assert hwaccel.frames_per_second(info, None, 1, most_frames=7) > 0
    assert counted == list(range(7))
    monkeypatch.setattr(hwaccel, "_MOST_S", -1.0)
    assert hwaccel.frames_per_second(info, None, 1) > 0
    assert len(counted) == 8
