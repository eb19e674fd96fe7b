from __future__ import annotations

import csv
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from clips import VIDEOS, audio_packets, data, draw, make_clip, video_times

from streamstyle.errors import InputError
from streamstyle.frames import Checkpoint, Frame, VideoInfo, picture_crc
from streamstyle.media.decode import decode, frame_at
from streamstyle.media.planes import scaled_size
from streamstyle.media.probe import probe

# Every clip of PROBE.tsv; kept here so that a run without the data names what it skipped.
REFUSED = {"derived/empty.mp4", "derived/not_a_video.mp4", "derived/trunc60_nomoov.mp4", "streamio/broken.mp4"}


def _plain_planes(path: Path) -> list[tuple[np.ndarray, ...]]:
    """Planes by PyAV's own to_ndarray, for even 4:2:0 clips."""
    planes = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            height, width = frame.height, frame.width
            flat = frame.to_ndarray(format="yuv420p").reshape(-1)
            y, u, v = np.split(flat, [height * width, height * width * 5 // 4])
            half = (height // 2, width // 2)
            planes.append((y.reshape(height, width), u.reshape(half), v.reshape(half)))
    return planes


def _same(frame: Frame, planes: tuple[np.ndarray, ...]) -> bool:
    return all(np.array_equal(ours, theirs) for ours, theirs in zip((frame.y, frame.u, frame.v), planes, strict=True))


def _rgb(frame: Frame, info: VideoInfo) -> np.ndarray:
    """Independent conversion of 4:4:4 or 4:2:0 planes to RGB, by the formulas of the standards."""
    kr, kb = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}[info.color.matrix]
    y, u, v = (plane.astype(np.float64) for plane in (frame.y, frame.u, frame.v))
    if u.shape != y.shape:
        u, v = (plane.repeat(2, 0).repeat(2, 1)[: y.shape[0], : y.shape[1]] for plane in (u, v))
    y = y / 255 if info.color.full_range else (y - 16) / 219
    u, v = ((plane - 128) / (255 if info.color.full_range else 224) for plane in (u, v))
    r, b = y + 2 * (1 - kr) * v, y + 2 * (1 - kb) * u
    g = (y - kr * r - kb * b) / (1 - kr - kb)
    return np.clip(np.stack([r, g, b], -1) * 255, 0, 255)


def test_planes_are_the_decoders_own(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4", size=(70, 46))  # 70: rows are padded
    frames = list(decode(probe(path)))
    assert len(frames) == 12
    assert all(_same(frame, planes) for frame, planes in zip(frames, _plain_planes(path), strict=True))
    assert all(plane.flags.c_contiguous and plane.flags.owndata for plane in (frames[0].y, frames[0].u, frames[0].v))


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (35, 21), (16, 16), (10, 8)])
@pytest.mark.parametrize(("codec", "pix_fmt"), [("libvpx-vp9", "yuv420p"), ("libx264", "yuv444p"), ("ffv1", "gray")])
def test_odd_and_tiny_sizes(tmp_path: Path, size: tuple[int, int], codec: str, pix_fmt: str) -> None:
    path = make_clip(tmp_path / "a.mkv", frames=3, size=size, codec=codec, pix_fmt=pix_fmt, audio=False)
    frames = list(decode(probe(path)))
    width, height = size
    halved = pix_fmt == "yuv420p" or (width % 2 == 0 and height % 2 == 0)
    chroma = ((height + 1) // 2, (width + 1) // 2) if halved else (height, width)
    assert {frame.y.shape for frame in frames} == {(height, width)}
    assert {frame.u.shape for frame in frames} == {frame.v.shape for frame in frames} == {chroma}
    assert len(frames) == 3


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotation_is_applied(tmp_path: Path, rotation: int) -> None:
    upright = list(decode(probe(make_clip(tmp_path / "a.mp4", audio=False))))
    turned = list(decode(probe(make_clip(tmp_path / "b.mp4", audio=False, rotation=rotation))))
    for plain, frame in zip(upright, turned, strict=True):
        assert _same(frame, tuple(np.rot90(plane, rotation // 90) for plane in (plain.y, plain.u, plain.v)))
    assert turned[0].y.flags.c_contiguous


@pytest.mark.parametrize(
    ("codec", "pix_fmt"),
    [
        ("libx264", "yuv444p"),
        ("libx264", "yuv422p10le"),
        ("libx264rgb", "rgb24"),
        ("ffv1", "bgra"),
    ],
)
def test_colours_stay_true(tmp_path: Path, codec: str, pix_fmt: str) -> None:
    options = {"crf": "1"} if codec.startswith("libx264") else {}
    path = make_clip(tmp_path / "a.mkv", frames=2, codec=codec, pix_fmt=pix_fmt, audio=False, options=options)
    info = probe(path)
    frame = next(decode(info))
    assert np.abs(_rgb(frame, info) - draw(0, (64, 48)))[4:-4, 40:60].mean() < 2.5


def test_colours_of_a_gif_stay_true(tmp_path: Path) -> None:
    _make_gif(tmp_path / "a.gif")
    info = probe(tmp_path / "a.gif")
    with av.open(info.path) as container:
        want = next(container.decode(video=0)).to_ndarray(format="rgb24")
    frame = next(decode(info))
    flat = (slice(4, -4), slice(20, 60))
    assert np.abs(_rgb(frame, info)[flat].mean((0, 1)) - want[flat].mean((0, 1))).max() < 2.5


def _make_gif(path: Path) -> None:
    with av.open(str(path), "w") as container:
        film = container.add_stream("gif", rate=10)
        film.width, film.height, film.pix_fmt = 64, 48, "rgb8"
        for i in range(3):
            container.mux(film.encode(av.VideoFrame.from_ndarray(draw(i, (64, 48)), "rgb24").reformat(format="rgb8")))
        container.mux(film.encode(None))


def test_transparency_is_over_black(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        film = container.add_stream("ffv1", rate=10)
        film.width, film.height, film.pix_fmt = 16, 8, "bgra"
        picture = np.full((8, 16, 4), 200, np.uint8)
        picture[:, :8, 3], picture[:, 8:, 3] = 0, 255
        container.mux(film.encode(av.VideoFrame.from_ndarray(picture, "bgra")))
        container.mux(film.encode(None))
    frame = next(decode(probe(tmp_path / "a.mkv")))
    assert set(frame.y[:, :8].ravel()) == {16}
    assert set(frame.y[:, 8:].ravel()) == {16 + round(200 * 219 / 255)}


def test_full_range_is_kept(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4", audio=False, color={"color_range": 2}, pix_fmt="yuvj420p")
    info = probe(path)
    assert info.color.full_range
    assert all(_same(f, p) for f, p in zip(decode(info), _plain_planes_full(path), strict=True))


def _plain_planes_full(path: Path) -> list[tuple[np.ndarray, ...]]:
    with av.open(str(path)) as container:
        return [
            tuple(
                np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width].copy()
                for plane in frame.planes
            )
            for frame in container.decode(video=0)
        ]


@pytest.mark.parametrize(
    ("native", "short", "scaled"),
    [
        ((640, 360), 240, (426, 240)),
        ((360, 640), 241, (240, 426)),
        ((64, 48), 96, (128, 96)),
        ((35, 21), None, (35, 21)),
    ],
)
def test_scaled_size(native: tuple[int, int], short: int | None, scaled: tuple[int, int]) -> None:
    info = VideoInfo("a", *native, Fraction(1, 30), Fraction(30))
    assert scaled_size(info, short) == scaled


@pytest.mark.parametrize("rotation", [0, 90])
def test_scaling(tmp_path: Path, rotation: int) -> None:
    info = probe(make_clip(tmp_path / "a.mp4", frames=2, size=(65, 49), pix_fmt="yuv444p", rotation=rotation))
    frame = next(decode(info, size=98))
    width, height = scaled_size(info, 98)
    assert (frame.y.shape, frame.u.shape) == ((height, width), (height // 2, width // 2))
    want = np.rot90(draw(0, (65, 49)), rotation // 90).repeat(2, 0).repeat(2, 1)[:height, :width]
    assert np.abs(_rgb(frame, info) - want).mean() < 8


def test_a_frame_of_another_size_is_fitted_not_stretched(tmp_path: Path) -> None:
    info = probe(_two_sizes(tmp_path / "a.mkv", (64, 48), (48, 64)))
    warnings: list[str] = []
    frames = list(decode(info, warn=warnings.append))
    assert {frame.y.shape for frame in frames} == {(48, 64)}
    assert warnings[-1] == "3 frames had another size (48x64) and were fitted"
    boxed = frames[-1]
    assert set(boxed.y[:, :14].ravel()) == set(boxed.y[:, 50:].ravel()) == {16}  # 36x48 in the middle
    assert set(boxed.u[:, :7].ravel()) == {128}
    assert boxed.y[:, 14:50].min() > 16


def _two_sizes(path: Path, *sizes: tuple[int, int]) -> Path:
    """One MPEG-TS track whose picture changes size halfway, as broadcasts do (Matroska holds the same packets)."""
    parts = [make_clip(path.with_name(f"{n}.ts"), frames=3, size=size, audio=False) for n, size in enumerate(sizes)]
    joined = path.with_suffix(".h264")
    joined.write_bytes(b"".join(_annex_b(part) for part in parts))
    return joined


def _annex_b(path: Path) -> bytes:
    with av.open(str(path)) as container:
        return b"".join(bytes(packet) for packet in container.demux(video=0))


def test_pts_are_the_files_own(tmp_path: Path) -> None:
    ticks = [0, 1, 5, 6, 20, 21, 22, 40]
    path = make_clip(tmp_path / "a.mp4", pts=ticks, time_base=Fraction(1, 90), audio=False)
    info = probe(path)
    assert [frame.pts * info.time_base for frame in decode(info)] == [Fraction(tick, 90) for tick in ticks]


def test_times_out_of_order_are_repaired_and_told() -> None:
    info = probe(data("videos/fate/mpeg4_packed_bframes.avi"))
    warnings: list[str] = []
    pts = [frame.pts for frame in decode(info, warn=warnings.append)]
    assert all(later > earlier for earlier, later in pairwise(pts))
    assert warnings == ["9 frames had no timestamp or one out of order; it was repaired"]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".avi"])
def test_window_is_a_slice_of_the_film(tmp_path: Path, suffix: str) -> None:
    codec = "mpeg4" if suffix == ".avi" else "libx264"
    path = make_clip(tmp_path / f"a{suffix}", frames=60, codec=codec, gop=17, audio=suffix != ".avi")
    info = probe(path)
    film = list(decode(info))
    for first, count in [(0, 5), (1, 1), (16, 3), (17, 20), (33, 27), (59, 1)]:
        cut = list(decode(info, start_s=first / 30, duration_s=count / 30))
        assert [frame.pts for frame in cut] == [frame.pts for frame in film[first : first + count]]
        assert all(np.array_equal(a.y, b.y) for a, b in zip(cut, film[first:], strict=False))


def test_frame_at_is_the_one_on_screen(tmp_path: Path) -> None:
    ticks = [0, 30, 60, 200, 230]
    info = probe(make_clip(tmp_path / "a.mp4", pts=ticks, time_base=Fraction(1, 1000), fps=30, audio=False))
    film = list(decode(info))
    for seconds, n in [(0, 0), (0.029, 0), (0.030, 1), (0.199, 2), (0.2, 3), (0.24, 4)]:
        assert np.array_equal(frame_at(info, seconds).y, film[n].y), seconds
    for seconds, reason in [(-0.1, "before the film"), (0.9, "beyond the end"), (50, "beyond the end")]:
        with pytest.raises(InputError, match=reason):
            frame_at(info, seconds)


def test_windows_outside_the_film_say_its_length(tmp_path: Path) -> None:
    info = probe(make_clip(tmp_path / "a.mp4", frames=30))
    for start in (1.0, 1.5, 99):
        with pytest.raises(InputError, match=r"beyond the end; the film is 1\.00 s long"):
            list(decode(info, start_s=start))
    with pytest.raises(InputError, match="no frame begins between"):
        list(decode(info, start_s=0.11, duration_s=0.01))


def test_closing_early_closes_the_file(tmp_path: Path) -> None:
    frames = decode(probe(make_clip(tmp_path / "a.mp4")))
    next(frames)
    before = _open_files(tmp_path)
    frames.close()
    assert (before, _open_files(tmp_path)) == (1, 0)


def _open_files(folder: Path) -> int:
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        pytest.skip("no /proc here to count open files in")
    return sum(str(folder) in str(link.readlink()) for link in descriptors.iterdir() if link.is_symlink())


def _cut(folder: Path) -> Path:
    """60 frames declared, and something over half of them there."""
    path = make_clip(folder / "a.mp4", frames=60, audio=False)
    whole = folder / "fast.mp4"
    with av.open(str(path)) as source, av.open(str(whole), "w", options={"movflags": "+faststart"}) as copy:
        track = copy.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = track
                copy.mux(packet)
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    return whole


def test_a_cut_file_is_told(tmp_path: Path) -> None:
    warnings: list[str] = []
    count = sum(1 for _ in decode(probe(_cut(tmp_path)), warn=warnings.append))
    assert 0 < count < 57
    assert f"input is truncated: {count} of 60 declared frames could be decoded" in warnings


def test_undecodable_packets_are_counted() -> None:
    warnings: list[str] = []
    assert sum(1 for _ in decode(probe(data("videos/decord/corrupted.mp4")), warn=warnings.append)) == 49
    assert warnings == ["1 packets could not be decoded and were left out"]


@pytest.mark.parametrize("film", ["cut", "corrupted", "sizes"])
def test_who_goes_on_is_told_of_all_that_the_first_reader_met(tmp_path: Path, film: str) -> None:
    if film == "corrupted":
        path = data("videos/decord/corrupted.mp4")
    elif film == "sizes":
        path = _two_sizes(tmp_path / "a.mkv", (64, 48), (48, 64), (64, 48))
    else:
        path = _cut(tmp_path)
    info, said = probe(path), list[str]()
    frames = list(decode(info, warn=said.append))
    for i in range(0, len(frames), max(1, len(frames) // 7)):
        frame, again = frames[i], list[str]()
        after = Checkpoint(frame.pts, picture_crc(frame.y, frame.u, frame.v), {}, frame.faults)
        rest = list(decode(info, after=after, warn=again.append))
        assert [later.pts for later in rest] == [later.pts for later in frames[i + 1 :]]
        assert again == said
        assert [later.faults for later in rest] == [later.faults for later in frames[i + 1 :]]
    assert said


def test_a_whole_film_gives_no_warning(tmp_path: Path) -> None:
    warnings: list[str] = []
    list(decode(probe(make_clip(tmp_path / "a.mp4")), warn=warnings.append))
    list(decode(probe(data("videos/torchcodec/discard_first_keyframe.mp4")), warn=warnings.append))
    assert warnings == []


def test_every_real_clip_decodes_or_is_refused() -> None:
    with (data(VIDEOS) / "PROBE.tsv").open() as table:
        rows = [(row["file"], row["decoded"]) for row in csv.DictReader(table, delimiter="\t")]
    wrong = {}
    for file, decoded in rows:
        try:
            info = probe(data(f"{VIDEOS}/{file}"))
            pts, shapes = [], set()
            for frame in decode(info):
                pts.append(frame.pts)
                shapes.add((frame.y.shape, frame.u.shape))
        except InputError as error:
            if file not in REFUSED or "\n" in str(error):
                wrong[file] = str(error)
            continue
        ordered = all(later > earlier for earlier, later in pairwise(pts))
        if (
            len(pts) != int(decoded)
            or not ordered
            or {y for y, _ in shapes} != {(info.height, info.width)}
            or len(shapes) > 1
        ):
            wrong[file] = f"{len(pts)} of {decoded} frames, ordered: {ordered}, shapes: {shapes}"
    assert not wrong
    assert len(rows) > 50


def test_the_clips_themselves(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4", frames=30, audio_tracks=2)
    assert video_times(path) == [Fraction(i, 30) for i in range(30)]
    assert audio_packets(path, 0) != audio_packets(path, 1)
