"""Layers written as films with alpha and as pictures: what is in them, when, and what is left where it goes wrong."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from streamstyle.config import OutputOptions
from streamstyle.errors import OutputError
from streamstyle.frames import Checkpoint, ColorTags, FrameBatch, VideoInfo
from streamstyle.media import layers as module
from streamstyle.media.closed import Segment
from streamstyle.media.layers import LayerFilms, safe_names
from streamstyle.media.segments import WorkFolder

NAMES = {0: "background", 1: "foreground", 2: "swan"}
FORMATS = {"prores": "swan.mov", "vp9": "swan.webm", "png": "swan"}
BATCHES = 3


@dataclass
class Layer:
    """What an editor gets of a layer: 8-bit planes at the frames' size, alpha 0..1, times, and the first frame."""

    planes: list[list[np.ndarray]]
    alphas: list[np.ndarray]
    times: list[Fraction]
    frame: av.VideoFrame | None = None


def info_of(path: Path, size: tuple[int, int], time_base: Fraction = Fraction(1, 600), full: bool = False) -> VideoInfo:
    color = ColorTags("bt709", full, 1, 1, 1, 2 if full else 1)
    return VideoInfo(str(path), *size, time_base, Fraction(25), color=color, sample_aspect_ratio=Fraction(4, 3))


def batches(size: tuple[int, int], pts: list[int]) -> Iterator[FrameBatch]:
    """Smooth frames; a swan that moves, and is not there in the last batch."""
    (width, height), odd = size, bool(size[0] % 2 or size[1] % 2)
    y, x = np.mgrid[:height, :width]
    each = len(pts) // BATCHES
    for number in range(BATCHES):
        count = each if number < BATCHES - 1 else len(pts) - each * number
        luma = np.stack([(40 + 2 * x + y + 5 * (number * each + i)) % 200 + 20 for i in range(count)]).astype(np.uint8)
        luma = cv2.GaussianBlur(luma.transpose(1, 2, 0), (9, 9), 4).reshape(height, width, count).transpose(2, 0, 1)
        u, v = (np.full((count, height, width), level, np.uint8) for level in (90, 160))
        swan = np.stack([np.clip(2 * (x - 8 * i) + 60, 0, 255) for i in range(count)]).astype(np.uint8)
        alphas = {0: 255 - swan, 2: swan} if number < BATCHES - 1 else {0: np.full_like(swan, 255)}
        chroma = (u, v) if odd else (u[:, ::2, ::2], v[:, ::2, ::2])
        begin = number * each
        times = tuple(pts[begin : begin + count])
        yield FrameBatch(luma, *chroma, times, begin, Checkpoint(times[-1], number, {}), alphas=alphas)


def films_in(folder: Path, kind: str, info: VideoInfo, *, start: float = 0.0, overwrite: bool = False) -> LayerFilms:
    out = OutputOptions(layers=folder, layer_format=kind, start=start, overwrite=overwrite)  # type: ignore[arg-type]
    return LayerFilms(out, NAMES, info, size=(info.width, info.height), target=folder.parent / "film.mp4")


def close_segment(work: WorkFolder, batch: FrameBatch) -> None:
    """Count a batch as a segment of the film, with a stand-in for its pictures."""
    number = len(work.segments)
    work.file(number).write_bytes(b"pictures")
    work.add(Segment(number, len(batch), batch.pts[0], batch.pts[-1], 8), batch.checkpoint)


def write(
    folder: Path, kind: str, info: VideoInfo, pts: list[int], *, start: float = 0.0, overwrite: bool = False
) -> tuple[LayerFilms, list[FrameBatch]]:
    """Each batch a segment."""
    films, passed = films_in(folder, kind, info, start=start, overwrite=overwrite), []
    with WorkFolder(folder.parent / "film.mp4", {}, beside=[films]) as work:
        for batch in films.through(batches((info.width, info.height), pts)):
            close_segment(work, batch)
            passed.append(batch)
        films.stage()
        films.place()
        films.clear()
    return films, passed


def read(path: Path) -> Layer:
    if path.is_dir():
        pictures = [cv2.imread(str(file), cv2.IMREAD_UNCHANGED) for file in sorted(path.iterdir())]
        return Layer([[p[..., :3].astype(float)] for p in pictures], [p[..., 3] / 255 for p in pictures], [])
    with av.open(str(path)) as container:
        track = container.streams.video[0]
        if path.suffix == ".webm":  # FFmpeg's own decoder leaves alpha out
            decoder = av.CodecContext.create("libvpx-vp9", "r")
            frames = [f for packet in container.demux(track) if packet.size for f in decoder.decode(packet)]
            frames += decoder.decode(None)
            assert track.metadata["alpha_mode"] == "1"
        else:
            frames = list(container.decode(track))
        times = [f.pts * track.time_base for f in frames]
    deep = frames[0].format.name.startswith("yuva444p1")
    bits = frames[0].format.components[0].bits
    found = []
    for frame in frames:
        kind = np.dtype("<u2") if deep else np.dtype(np.uint8)
        rows = [
            np.frombuffer(memoryview(p), kind).reshape(p.height, -1)[:, : p.width].astype(float) for p in frame.planes
        ]
        found.append(rows)
    scale = 2 ** (bits - 8)
    return Layer([[p / scale for p in f[:3]] for f in found], [f[3] / (2**bits - 1) for f in found], times, frames[0])


EVEN = [0, 24, 48, 72, 96, 120, 144]
UNEVEN = [0, 24, 30, 100, 120, 200, 1201]


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("size", [(64, 48), (35, 21), (17, 33)])
@pytest.mark.parametrize("full", [False, True], ids=["narrow", "full"])
def test_layers_added_up_are_the_film(tmp_path: Path, kind: str, size: tuple[int, int], full: bool) -> None:
    info = info_of(tmp_path / "in.mp4", size, full=full)
    films, passed = write(tmp_path / "layers", kind, info, EVEN)
    assert [layer.name for layer in films.report()] == list(NAMES.values())
    assert [layer.frames for layer in films.report()] == [7, 0, 4]
    assert films.report()[2].file == str(tmp_path / "layers" / FORMATS[kind])
    assert all(batch.alphas == {} for batch in passed)
    wanted = [frame for batch in batches(size, EVEN) for frame in batch.unstack()]
    ours = [read(Path(layer.file)) for layer in films.report()]
    assert {len(layer.alphas) for layer in ours} == {7}
    assert not np.stack(ours[1].alphas).any()  # every frame is there, empty
    lossy = 0.06 if kind == "vp9" else 0.001
    for i, frame in enumerate(wanted):
        total = sum(layer.alphas[i] for layer in ours)
        assert np.abs(total - 1).max() < lossy * 3
        luma = sum(layer.alphas[i] * layer.planes[i][0].reshape(*total.shape, -1)[..., 0] for layer in ours)
        if kind == "prores" and full:  # always 16..235
            luma = (luma - 16) * 255 / 219
        if kind != "png":
            assert np.abs(luma - frame.y).mean() < (4 if kind == "vp9" else 1), f"frame {i}"
        alpha = passed_alpha(size, i)
        assert np.abs(ours[2].alphas[i] - alpha / 255).mean() < lossy


def passed_alpha(size: tuple[int, int], i: int) -> np.ndarray:
    """The swan's alpha in a frame."""
    alphas = [batch.alphas.get(2, np.zeros_like(batch.y)) for batch in batches(size, EVEN)]
    return np.concatenate(alphas)[i]


@pytest.mark.parametrize("full", [False, True], ids=["narrow", "full"])
def test_pictures_added_up_are_the_film_up_to_rounding(tmp_path: Path, full: bool) -> None:
    from streamstyle.stages.color import yuv_to_rgb

    torch = pytest.importorskip("torch")
    info = info_of(tmp_path / "in.mp4", (64, 48), full=full)
    write(tmp_path / "layers", "png", info, EVEN)
    ours = [read(tmp_path / "layers" / name) for name in NAMES.values()]
    for i, frame in enumerate(f for batch in batches((64, 48), EVEN) for f in batch.unstack()):
        planes = [torch.from_numpy(np.ascontiguousarray(p))[None] for p in (frame.y, frame.u, frame.v)]
        rgb = yuv_to_rgb(tuple(planes), info.color)[0].permute(1, 2, 0).numpy() * 255
        bgr = sum(layer.alphas[i][..., None] * layer.planes[i][0] for layer in ours)
        assert np.abs(bgr[..., ::-1] - rgb).max() < 1


@pytest.mark.parametrize(("kind", "within_s"), [("prores", 0), ("vp9", Fraction(1, 2000))])
@pytest.mark.parametrize(("shift", "start", "begin"), [(0, 0.0, 0), (50, 0.0, 50), (50, 1.0, 0), (-30, 0.0, 0)])
def test_times_are_the_films(
    tmp_path: Path, kind: str, within_s: Fraction, shift: int, start: float, begin: int
) -> None:
    info = info_of(tmp_path / "in.mp4", (64, 48))
    pts = [shift + ticks for ticks in UNEVEN]
    write(tmp_path / "layers", kind, info, pts, start=start)
    wanted = [(begin + ticks) * info.time_base for ticks in UNEVEN]
    for file in (tmp_path / "layers").iterdir():
        assert max(abs(a - b) for a, b in zip(read(file).times, wanted, strict=True)) <= within_s


@pytest.mark.parametrize("kind", ["prores", "vp9"])
def test_size_shape_and_colours_are_told(tmp_path: Path, kind: str) -> None:
    films, _ = write(tmp_path / "layers", kind, info_of(tmp_path / "in.mp4", (64, 48)), EVEN)
    assert bool(films.warnings()) == (kind == "vp9")  # of the pixel's shape
    with av.open(str(tmp_path / "layers" / FORMATS[kind])) as container:
        track = container.streams.video[0]
        assert (track.width, track.height) == (64, 48)
        assert track.sample_aspect_ratio == (Fraction(4, 3) if kind == "prores" else 1)
        context = track.codec_context
        assert (context.colorspace, context.color_range) == (1, 1)
        if kind == "prores":
            assert (context.codec_tag, context.color_primaries, context.color_trc) == ("ap4h", 1, 1)


def test_pictures_of_uneven_times_are_warned_of(tmp_path: Path) -> None:
    info = replace(info_of(tmp_path / "in.mp4", (64, 48)), sample_aspect_ratio=Fraction(1))
    even, _ = write(tmp_path / "even", "png", info, EVEN)
    uneven, _ = write(tmp_path / "uneven", "png", info, UNEVEN)
    assert even.warnings() == []
    assert uneven.warnings() == [
        f"{tmp_path}/uneven: pictures have no times, and the film's frames are not evenly spaced"
    ]
    assert sorted(file.name for file in (tmp_path / "even/swan").iterdir()) == [f"{i:06d}.png" for i in range(7)]


def test_far_from_a_layer_its_film_is_black(tmp_path: Path) -> None:
    info = info_of(tmp_path / "in.mp4", (256, 48))
    write(tmp_path / "layers", "png", info, EVEN)
    alpha = 255 - passed_alpha((256, 48), 0)
    picture = cv2.imread(str(tmp_path / "layers/background/000000.png"), cv2.IMREAD_UNCHANGED)
    last = int(np.flatnonzero(alpha.any(0))[-1])
    assert picture[:, : last + 16, :3].any(axis=2).all()
    assert not picture[:, last + 17 :].any()


# -- what is left --------------------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("segments", [0, 1, BATCHES])
def test_stopped_it_goes_on_to_the_same_files(tmp_path: Path, kind: str, segments: int) -> None:
    info, target = info_of(tmp_path / "in.mp4", (64, 48)), tmp_path / "a" / "film.mp4"
    (tmp_path / "whole").mkdir()
    target.parent.mkdir()
    wanted, _ = write(tmp_path / "whole" / "layers", kind, info, UNEVEN, start=1)
    films = films_in(target.with_name("layers"), kind, info, start=1)
    with contextlib.suppress(Killed), WorkFolder(target, {}, beside=[films]) as work:
        with contextlib.closing(films.through(batches((64, 48), UNEVEN))) as through:
            for batch in through:
                if len(work.segments) == segments:
                    raise Killed
                close_segment(work, batch)
        raise Killed
    assert {path.name for path in target.parent.iterdir()} == ({"film.mp4.parts"} if segments else set())
    films = films_in(target.with_name("layers"), kind, info, start=1)
    with WorkFolder(target, {}, beside=[films]) as work:
        assert len(work.segments) == segments
        left = (batch for i, batch in enumerate(batches((64, 48), UNEVEN)) if i >= segments)
        for batch in films.through(left):
            close_segment(work, batch)
        films.stage()
        films.place()
        films.clear()
    assert contents(target.with_name("layers")) == contents(tmp_path / "whole" / "layers")
    assert [layer.frames for layer in films.report()] == [layer.frames for layer in wanted.report()]
    assert [line.partition(": ")[2] for line in films.warnings()] == [
        line.partition(": ")[2] for line in wanted.warnings()
    ]
    assert [path.name for path in target.parent.iterdir()] == ["layers"]


@pytest.mark.parametrize(
    ("kind", "call"), [("prores", 0), ("prores", 2), ("prores", 3), ("vp9", 1), ("png", 0), ("png", 10), ("png", 21)]
)
def test_cut_short_while_it_is_put_in_place_it_is_put_in_place_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, call: int
) -> None:
    info, target, calls = info_of(tmp_path / "in.mp4", (64, 48)), tmp_path / "a" / "film.mp4", [0]
    (tmp_path / "whole").mkdir()
    target.parent.mkdir()
    write(tmp_path / "whole" / "layers", kind, info, EVEN)
    real = os.replace

    def replace_some(source: Path, place: Path) -> None:
        calls[0] += 1
        if calls[0] > call:
            raise Killed
        real(source, place)

    for again in (False, True):
        films = films_in(target.with_name("layers"), kind, info)
        with (
            contextlib.suppress(Killed),
            WorkFolder(target, {}, beside=[films]) as work,
            monkeypatch.context() as patch,
        ):
            for batch in films.through(iter(()) if again else batches((64, 48), EVEN)):
                close_segment(work, batch)
            (work.path / "joined.mp4").write_bytes(b"film")
            if not again:
                patch.setattr(os, "replace", replace_some)
            work.hand_over(work.path / "joined.mp4")
    assert contents(target.with_name("layers")) == contents(tmp_path / "whole" / "layers")
    assert {path.name for path in target.parent.iterdir()} == {"layers", "film.mp4"}


def placing(
    folder: Path, kind: str, info: VideoInfo, moved: int, job: dict[str, int], *, overwrite: bool = False
) -> None:
    """A job that is killed after it moved so many files of layers to their places."""
    films, calls, real = films_in(folder, kind, info, overwrite=overwrite), [0], os.replace

    def replace_some(source: Path, place: Path) -> None:
        calls[0] += 1
        if calls[0] > moved:
            raise Killed
        real(source, place)

    target = folder.parent / "film.mp4"
    with contextlib.suppress(Killed), WorkFolder(target, job, overwrite=False, beside=[films]) as work:
        for batch in films.through(batches((64, 48), EVEN)):
            close_segment(work, batch)
        (work.path / "joined.mp4").write_bytes(b"film")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "replace", replace_some)
            work.hand_over(work.path / "joined.mp4")


@pytest.mark.parametrize(("kind", "moved"), [("prores", 1), ("png", 9), ("png", 20), ("prores", 3)])
def test_a_move_that_fails_leaves_the_layers_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, moved: int
) -> None:
    info, calls, real = info_of(tmp_path / "in.mp4", (64, 48)), [0], os.replace
    write(tmp_path / "layers", kind, info, UNEVEN[:5] if kind == "prores" else EVEN)
    (tmp_path / "film.mp4").write_bytes(b"before")
    if kind == "png":
        (tmp_path / "layers" / "swan" / "000009.png").write_text("an old one")
        (tmp_path / "layers" / "swan" / "000006.png").unlink()
        (tmp_path / "layers" / "swan" / "000005.png").write_text("an old one")
    before = contents(tmp_path)

    def replace_some(source: Path, place: Path) -> None:
        calls[0] += 1
        if calls[0] == moved + 1:
            raise PermissionError(13, "Permission denied")
        real(source, place)

    films = films_in(tmp_path / "layers", kind, info, overwrite=True)
    with WorkFolder(tmp_path / "film.mp4", {}, resume=False, beside=[films]) as work:
        for batch in films.through(batches((64, 48), EVEN)):
            close_segment(work, batch)
        (work.path / "joined.mp4").write_bytes(b"film")
        monkeypatch.setattr(os, "replace", replace_some)
        with pytest.raises((OutputError, PermissionError)):
            work.hand_over(work.path / "joined.mp4")
    assert contents(tmp_path) == before


@pytest.mark.parametrize(("kind", "moved"), [("prores", 1), ("png", 9), ("prores", 3)])
def test_what_another_job_placed_is_not_replaced_unasked(tmp_path: Path, kind: str, moved: int) -> None:
    info, target = info_of(tmp_path / "in.mp4", (64, 48)), tmp_path / "film.mp4"
    placing(tmp_path / "layers", kind, info, moved, {"look": 1})
    before = contents(tmp_path)
    films = films_in(tmp_path / "layers", kind, info)  # it may be of this very job
    with (
        pytest.raises(OutputError, match=r"(holds pictures|exists); add --overwrite"),
        WorkFolder(target, {"look": 2}, overwrite=False, beside=[films]),
    ):
        pass
    assert contents(tmp_path) == before  # its segments, too


@pytest.mark.parametrize("what", ["swan.mov", "background.mov"])
def test_what_somebody_else_put_there_is_not_replaced_unasked(tmp_path: Path, what: str) -> None:
    info, target = info_of(tmp_path / "in.mp4", (64, 48)), tmp_path / "film.mp4"
    placing(tmp_path / "layers", "prores", info, 1, {"look": 1})  # the background
    (tmp_path / "layers" / what).unlink(missing_ok=True)
    (tmp_path / "layers" / what).write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(OutputError, match=rf"{what}: exists; add --overwrite"):
        films_in(tmp_path / "layers", "prores", info)
    films = films_in(tmp_path / "layers", "prores", info, overwrite=True)
    films._overwrite = False  # put there since
    with pytest.raises(OutputError, match="add --overwrite"), WorkFolder(target, {"look": 1}, beside=[films]):
        pass
    assert contents(tmp_path) == before


def test_a_part_that_is_lost_does_not_cost_the_right_to_what_was_placed(tmp_path: Path) -> None:
    info, target = info_of(tmp_path / "in.mp4", (64, 48)), tmp_path / "film.mp4"
    placing(tmp_path / "layers", "prores", info, 1, {})
    (tmp_path / "film.mp4.parts" / "000000.mp4").unlink()
    for _ in range(2):
        films = films_in(tmp_path / "layers", "prores", info)
        with contextlib.suppress(Killed), WorkFolder(target, {}, beside=[films]) as work:
            assert work.frames == 0
            close_segment(work, next(films.through(batches((64, 48), EVEN))))
            (work.path / "000000.mp4").unlink()
            raise Killed


def test_what_a_killed_job_left_is_cleared(tmp_path: Path) -> None:
    info = info_of(tmp_path / "in.mp4", (64, 48))
    films = films_in(tmp_path / "layers", "prores", info)
    with contextlib.suppress(Killed), WorkFolder(tmp_path / "film.mp4", {}, beside=[films]) as work:
        for batch in films.through(batches((64, 48), EVEN)):
            close_segment(work, batch)
        films.stage()
        raise Killed
    (hidden,) = (tmp_path / "layers").iterdir()
    assert hidden.name.startswith(".")
    with WorkFolder(tmp_path / "film.mp4", {}, beside=[films]) as work:
        films.stage()
        films.place()
        films.clear()
    assert sorted(file.name for file in (tmp_path / "layers").iterdir()) == [f"{name}.mov" for name in NAMES.values()]


def test_replaced_only_what_is_a_layers(tmp_path: Path) -> None:
    info = info_of(tmp_path / "in.mp4", (64, 48))
    write(tmp_path / "layers", "png", info, EVEN)
    for name in ("swan/000009.png", "swan/notes.txt", "goose.mov"):
        (tmp_path / "layers" / name).write_text("mine")
    with pytest.raises(OutputError, match="background: holds pictures; add --overwrite"):
        write(tmp_path / "layers", "png", info, EVEN)
    write(tmp_path / "layers", "png", info, EVEN[:3], overwrite=True)
    left = {str(file.relative_to(tmp_path / "layers")) for file in (tmp_path / "layers").rglob("*") if file.is_file()}
    pictures = {f"{name}/{i:06d}.png" for name in NAMES.values() for i in range(3)}
    assert left == pictures | {"swan/notes.txt", "goose.mov"}


# -- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("file", "--layers .*: is no folder; give another name"),
        ("no parent", "the folder .* does not exist; make it first"),
        ("film there", r"swan\.mov: exists; add --overwrite"),
        ("folder there", r"swan\.mov: is a folder"),
        ("pictures are a file", "swan: exists"),
        ("input", r"swan\.mov: is the input itself"),
        ("output", r"swan\.mov: a layer is to be written there"),
        ("input folder", "swan: is the input itself"),
        ("no codec", "FFmpeg here has no prores_ks; give another --layer-format, such as png"),
    ],
)
def test_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, said: str) -> None:
    folder, info, target = tmp_path / "layers", info_of(tmp_path / "in.mp4", (64, 48)), tmp_path / "film.mp4"
    out = OutputOptions(layers=folder, overwrite=what.startswith(("input", "output")))
    if what == "file":
        folder.touch()
    elif what == "no parent":
        out = replace(out, layers=tmp_path / "none" / "layers")
    elif what != "no codec":
        folder.mkdir()
    if what in ("film there", "input"):
        (folder / "swan.mov").touch()
    if what in ("folder there",):
        (folder / "swan.mov").mkdir()
    if what in ("pictures are a file", "input folder"):
        out = replace(out, layer_format="png")
        (folder / "swan").touch() if what == "pictures are a file" else (folder / "swan").mkdir()
        info = replace(info, path=str(folder / "swan")) if what == "input folder" else info
    if what == "input":
        info = replace(info, path=str(folder / "swan.mov"))
    if what == "output":
        target = folder / "swan.mov"
    if what == "no codec":
        monkeypatch.setattr(module, "has_encoder", lambda name: False)
    with pytest.raises(OutputError, match=said):
        LayerFilms(out, NAMES, info, size=(64, 48), target=target)


@pytest.mark.parametrize(("kind", "taken"), [("png", "swan"), ("prores", "swan.mov")])
def test_no_other_place_may_be_a_layers(tmp_path: Path, kind: str, taken: str) -> None:
    layers = films_in(tmp_path / "layers", kind, info_of(tmp_path / "in.mp4", (64, 48)))
    for place in (f"layers/{taken}", f"layers/{taken}/film.sstyle"):
        with pytest.raises(OutputError, match=rf"--save-project .*{taken}.*: a layer is to be written there; choose"):
            layers.refuse("--save-project", tmp_path / place)
    for place in ("layers/film.sstyle", "film.sstyle", taken):
        layers.refuse("--save-project", tmp_path / place)


def test_a_full_disk_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: object, *_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("streamstyle.media.layer_writers.FilmWriter.write", full)
    with pytest.raises(OutputError, match="layers: the disk is full"):
        write(tmp_path / "layers", "prores", info_of(tmp_path / "in.mp4", (64, 48)), EVEN)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("names", "safe"),
    [
        (["background", "foreground", "background"], ["background", "foreground", "background-2"]),
        (["Swan", "swan", "SWAN"], ["Swan", "swan-2", "SWAN-3"]),
        (["a/b", "a\\b", "a:b"], ["a-b", "a-b-2", "a-b-3"]),
        (["..", ".hidden", " x. ", ""], ["object", "hidden", "x", "object-2"]),
        (["../../etc", "50%", "a\nb"], ["-..-etc", "50-", "a-b"]),
        (["con", "LPT1.x", "con-"], ["con-", "LPT1.x-", "con--2"]),
        (["sw\u0061\u0308n", "swän"], ["swän", "swän-2"]),
    ],
)
def test_names_become_names_of_files(names: list[str], safe: list[str]) -> None:
    assert safe_names(names) == safe


def test_a_long_name_is_cut(tmp_path: Path) -> None:
    a, b = safe_names(["ä" * 300, "ä" * 299])
    assert a != b
    for name in (a, b):
        (tmp_path / f"{name}.webm").touch()
    assert a == "ä" * 100
