"""Stylizer: frames in, painted frames out, and what must not change on the way."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import johnson_nets
import numpy as np
import pytest
import torch
from clips import draw, draw_mottled

import streamstyle
from streamstyle import scene as scene_module
from streamstyle import stylizer as stylizer_module
from streamstyle.config import AnalysisOptions, Options, StyleOptions
from streamstyle.errors import DeviceError, OptionError, ShapeError
from streamstyle.frames import ColorTags, FrameBatch
from streamstyle.gpu import transfer
from streamstyle.gpu.transfer import Planes
from streamstyle.look import Look, ObjectStyle
from streamstyle.media.states import read_state, write_state
from streamstyle.nets import int8
from streamstyle.objects.object_warnings import nobody_warning
from streamstyle.objects.segmenter import Segmenter
from streamstyle.painting import frame_painter
from streamstyle.painting.frame_painter import FramePainter, Reading
from streamstyle.stylizer import Stylizer

pytestmark = [pytest.mark.weights, pytest.mark.usefixtures("networks")]
COLOR = ColorTags("bt601")
MIXED = Look(background="none", foreground="wave")


def film(count: int = 6, size: tuple[int, int] = (64, 48)) -> list[np.ndarray]:
    return [draw(i, size) for i in range(count)]


def planes(count: int = 6, size: tuple[int, int] = (64, 48), *, halved: bool = True) -> FrameBatch:
    """Planes that no RGB picture gives: noise, out of gamut too, so that a way through RGB would show."""
    width, height = size
    rng = np.random.default_rng(5)
    chroma = (-(-height // 2), -(-width // 2)) if halved else (height, width)
    y = np.stack([draw(i, size)[..., 0] for i in range(count)])
    u, v = (rng.integers(0, 256, (count, *chroma), np.uint8) for _ in "uv")
    return FrameBatch(y, u, v, tuple(range(count)))


def painted(look: Look, batch: FrameBatch, step: int, *, subsample: bool = True, **more: object) -> FrameBatch:
    """A film painted in batches of step frames."""
    stylizer, done = Stylizer(look, Options(**more)), []  # type: ignore[arg-type]
    for first in range(0, len(batch), step):
        part = slice(first, first + step)
        some = FrameBatch(batch.y[part], batch.u[part], batch.v[part], batch.pts[part], first)
        done += stylizer.paint_batch(some, COLOR, [i / 25 for i in some.pts], subsample=subsample).unstack()
    return FrameBatch.stack(done)


@pytest.mark.parametrize(
    "look", [Look(style="wave"), Look(style="wave", objects=(ObjectStyle("it", "ember", (13, 24)),))]
)
def test_a_film_that_comes_back_from_an_insert_is_painted_as_if_it_had_not_been(look: Look) -> None:
    frames = [draw_mottled(i, (64, 48)) for i in range(8)]
    insert = [np.full_like(frames[0], 255), 255 - frames[0] // 4]
    stylizer = Stylizer(look, Options(analysis=AnalysisOptions(analyse_every=1)))
    straight = list(stylizer.paint(frames))
    painted = list(stylizer.paint([*frames[:4], *insert, *frames[4:]]))
    np.testing.assert_array_equal(painted[:4] + painted[6:], straight)
    assert stylizer.warnings() == []


@pytest.mark.parametrize("look", [Look(style="wave"), Look(background="none", foreground="wave"), Look(style="none")])
@pytest.mark.parametrize(("size", "subsample"), [((64, 48), True), ((64, 48), False), ((35, 21), False)])
def test_a_painted_batch_is_packed_in_memory_of_its_own(look: Look, size: tuple[int, int], subsample: bool) -> None:
    batch, stylizer = planes(3, size), Stylizer(look)
    first, second = (stylizer.paint_batch(batch, COLOR, [0.0, 0.1, 0.2], subsample=subsample) for _ in range(2))
    assert first.packed is not None
    for i, frame in enumerate(first.unstack()):
        assert first.packed[i].tobytes() == frame.y.tobytes() + frame.u.tobytes() + frame.v.tobytes()
    assert not np.shares_memory(first.packed, second.packed)
    assert not any(np.shares_memory(first.packed, plane) for plane in (batch.y, batch.u, batch.v))


def same(a: FrameBatch, b: FrameBatch) -> bool:
    return a.pts == b.pts and all(np.array_equal(getattr(a, part), getattr(b, part)) for part in "yuv")


# -- frames from any source -----------------------------------------------------------------------------------------


def test_paint_gives_a_frame_for_a_frame_as_it_comes() -> None:
    frames = film(4)
    painted_frames = streamstyle.Stylizer(streamstyle.Look(style="starry")).paint(itertools.cycle(frames))
    for frame in itertools.islice(painted_frames, 6):
        assert (frame.shape, frame.dtype) == (frames[0].shape, np.uint8)
        assert np.abs(frame.astype(int) - frames[0]).mean() > 10
    painted_frames.close()


def test_no_frames_give_no_frames() -> None:
    assert list(Stylizer(Look(style="wave")).paint([])) == []


@pytest.mark.parametrize(
    "frames",
    [
        [np.zeros((48, 64), np.uint8)],
        [np.zeros((48, 64, 4), np.uint8)],
        [np.zeros((48, 64, 3), np.float32)],
        [np.zeros((48, 64, 3), np.uint8), np.zeros((48, 62, 3), np.uint8)],
    ],
)
def test_frames_of_another_form_are_refused(frames: list[np.ndarray]) -> None:
    with pytest.raises(ShapeError, match=r"frames must be \[H, W, 3\] uint8 of one size, got"):
        list(Stylizer(Look(style="wave")).paint(frames))


def test_frames_are_not_written_to_and_may_have_any_strides() -> None:
    frames = film(3)
    flipped = [frame[:, ::-1] for frame in frames]
    before = [frame.copy() for frame in flipped]
    for frame in flipped:
        frame.flags.writeable = False
    out = list(Stylizer(MIXED).paint(flipped))
    assert all(np.array_equal(a, b) for a, b in zip(flipped, before, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(out, Stylizer(MIXED).paint(before), strict=True))


@pytest.mark.parametrize("size", [(64, 48), (35, 21), (1, 1)])
def test_none_is_identity_on_rgb_frames(size: tuple[int, int]) -> None:
    frames = film(3, size)
    assert all(np.array_equal(a, b) for a, b in zip(frames, Stylizer(Look(style="none")).paint(frames), strict=True))


def test_rgb_outside_every_styled_region_is_the_frames_own() -> None:
    frames = film(5)
    options = Options(painting=StyleOptions(feather=0))
    stylizer = Stylizer(Look(background="none", objects=(ObjectStyle("disc", "wave", region=1),)), options)
    for before, after in zip(frames, stylizer.paint(frames), strict=True):
        changed = (before != after).any(-1)
        assert 0 < changed.mean() < 0.6
        assert np.array_equal(before[-8:], after[-8:])  # no object reaches down there


def test_one_stylizer_paints_film_after_film_alike() -> None:
    stylizer = Stylizer(Look(background="starry", foreground="wave"))
    first = list(stylizer.paint(film(5)))
    list(stylizer.paint(film(4, (80, 64))))
    assert all(np.array_equal(a, b) for a, b in zip(first, stylizer.paint(film(5)), strict=True))


@pytest.mark.parametrize("segmenter", ["regions", "components"])
@pytest.mark.parametrize("size", [(1, 1), (10, 8), (16, 16), (3, 90), (90, 3), (35, 21)])
def test_any_size(segmenter: str, size: tuple[int, int]) -> None:
    options = Options(analysis=AnalysisOptions(segmenter=segmenter, analyse_every=2))  # type: ignore[arg-type]
    frames = film(4, size)
    for look in (Look(background="starry", foreground="wave"), Look(style="ember")):
        assert [frame.shape for frame in Stylizer(look, options).paint(frames)] == [frame.shape for frame in frames]


@pytest.mark.parametrize("level", [0, 128, 255])
@pytest.mark.parametrize("look", [Look(style="starry"), Look(background="starry", foreground="wave")])
def test_flat_frames_and_what_follows_them(level: int, look: Look) -> None:
    flat = [np.full((48, 64, 3), level, np.uint8)] * 2
    out = list(Stylizer(look).paint([*flat, *film(3), *flat]))
    assert len(out) == 7
    # After black the film is painted as if it had begun there: its statistics do not come from the flat frame.
    if look.style:
        alone = list(Stylizer(look).paint(film(3)))
        assert all(np.array_equal(a, b) for a, b in zip(alone, out[2:5], strict=True))


def test_a_cut_starts_statistics_and_tracks_anew() -> None:
    dark = [(frame // 6).astype(np.uint8) for frame in film(4)]
    bright = [255 - np.ascontiguousarray(frame[::-1]) // 6 for frame in film(4)]
    look = Look(background="starry", foreground="wave")
    stylizer = Stylizer(look, Options(analysis=AnalysisOptions(analyse_every=1)))
    out = list(stylizer.paint([*dark, *bright]))
    assert all(np.array_equal(a, b) for a, b in zip(stylizer.paint(bright), out[4:], strict=True))


def test_objects_do_not_live_through_a_cut() -> None:
    mottled = [draw_mottled(i, (96, 72)) for i in range(8)]
    bright = [255 - np.ascontiguousarray(frame[::-1]) // 2 for frame in mottled]
    options = Options(analysis=AnalysisOptions(analyse_every=1))
    look = Look(background="none", foreground="ember", objects=(ObjectStyle("it", "wave", point=(20, 36)),))
    stylizer = Stylizer(look, options)
    list(stylizer.paint([*mottled[:4], *bright]))
    report = stylizer.report()
    (named,) = (thing for thing in report if thing.name == "it")
    assert (named.first_frame, named.last_frame, named.style) == (0, 3, "wave")
    after = [thing for thing in report if thing.first_frame >= 4]
    assert after  # what moves by itself in the second shot
    assert not {thing.track_id for thing in report if thing.first_frame < 4} & {thing.track_id for thing in after}
    assert len({thing.track_id for thing in report}) == len(report)
    assert all(thing.last_frame <= 3 for thing in report if thing.first_frame < 4)


# -- the river ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "halved"), [((64, 48), True), ((35, 21), False), ((1, 1), False)])
def test_none_is_identity_on_planes(size: tuple[int, int], halved: bool) -> None:
    batch = planes(size=size, halved=halved)
    assert same(painted(Look(style="none"), batch, 4, subsample=halved), batch)
    look = Look(background="none", foreground="none", objects=(ObjectStyle("x", "none", region=1),))
    if size != (1, 1):
        assert same(painted(look, batch, 4, subsample=halved), batch)


def test_none_keeps_luma_where_the_chroma_layout_changes() -> None:
    odd = planes(size=(35, 21))
    out = painted(Look(style="none"), odd, 4, subsample=False)
    assert np.array_equal(out.y, odd.y)
    assert out.u.shape == odd.y.shape
    full = planes(halved=False)
    out = painted(Look(style="none"), full, 4)
    assert np.array_equal(out.y, full.y)
    assert out.u.shape == (6, 24, 32)


@pytest.mark.parametrize(
    ("size", "halved", "subsample"),
    [((64, 48), True, True), ((35, 21), False, False), ((35, 21), True, False), ((64, 48), False, True)],
)
@pytest.mark.parametrize("feather", [0.0, 3.0])
def test_planes_outside_every_styled_region_are_the_films_own(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], halved: bool, subsample: bool, feather: float
) -> None:
    shares: list[torch.Tensor] = []
    real = frame_painter.composite

    def spy(rgb: torch.Tensor, original: Planes, color: ColorTags, *rest: torch.Tensor, **more: Any) -> Planes:
        index, table = rest
        shares.append(table[index.long(), 0])
        return real(rgb, original, color, *rest, **more)

    monkeypatch.setattr(frame_painter, "composite", spy)
    batch = planes(size=size, halved=halved)
    look = Look(background="none", objects=(ObjectStyle("it", "wave", region=1),))
    out = painted(look, batch, 4, subsample=subsample, painting=StyleOptions(feather=feather))
    share = torch.cat(shares).numpy()
    kept = share == 0
    assert 0.1 < kept.mean() < 1
    assert np.array_equal(out.y[kept], batch.y[kept])
    assert (out.y != batch.y).any()
    if halved == subsample:
        if subsample:
            n, height, width = share.shape
            kept = (share.reshape(n, height // 2, 2, width // 2, 2) == 0).all((2, 4))
        assert np.array_equal(out.u[kept], batch.u[kept])
        assert np.array_equal(out.v[kept], batch.v[kept])


@pytest.mark.parametrize(
    "look",
    [
        Look(style="starry"),
        Look(background="starry", foreground="wave"),
        Look(background="none", foreground="ember", objects=(ObjectStyle("disc", "wave", (12, 24), at_s=0.12),)),
    ],
    ids=["one", "two", "named"],
)
@pytest.mark.parametrize("every", [1, 3])
def test_the_size_of_a_batch_changes_nothing(look: Look, every: int) -> None:
    rgb = film(9)
    y = np.stack([frame.mean(-1).astype(np.uint8) for frame in rgb])
    u, v = (np.stack([frame[::2, ::2, channel] for frame in rgb]) for channel in (2, 0))
    batch = FrameBatch(y, u, v, tuple(range(9)))
    analysis = AnalysisOptions(analyse_every=every)
    whole = painted(look, batch, 9, analysis=analysis)
    assert same(painted(look, batch, 1, analysis=analysis), whole)
    assert same(painted(look, batch, 4, analysis=analysis), whole)


@pytest.mark.parametrize(
    "options",
    [
        Options(painting=StyleOptions(precision="float32")),
        Options(painting=StyleOptions(precision="bfloat16")),
        Options(painting=StyleOptions(precision="float16")),
        *(Options(analysis=AnalysisOptions(edge_side=side)) for side in ("1", "2", "3", "4", "5", "fuse")),  # type: ignore[arg-type]
        Options(analysis=AnalysisOptions(threshold="global")),
        Options(analysis=AnalysisOptions(analysis_size=64, min_area=5)),
    ],
)
def test_every_option_paints(options: Options) -> None:
    frames = film(3)
    out = list(Stylizer(Look(background="starry", foreground="wave"), options).paint(frames))
    assert all(np.abs(a.astype(int) - b).mean() > 10 for a, b in zip(frames, out, strict=True))


def test_statistics_of_every_frame_are_for_one_style() -> None:
    options = Options(painting=StyleOptions(statistics="frame"))
    frames = film(3)
    out = list(Stylizer(Look(style="starry"), options).paint(frames))
    # A frame's own statistics: the third is painted as it would be as a film of its own.
    assert np.array_equal(out[2], next(Stylizer(Look(style="starry"), options).paint(frames[2:])))
    with pytest.raises(OptionError, match="--statistics frame: paints one style"):
        Stylizer(MIXED, options)


def test_one_style_said_in_two_ways_is_one_style() -> None:
    frames = film(3)
    twice = Look(background="wave", foreground="wave")
    assert not twice.needs_objects
    for a, b in zip(Stylizer(Look(style="wave")).paint(frames), Stylizer(twice).paint(frames), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(DeviceError, match="use --device cpu"):
        Stylizer(Look(style="wave"), Options(device="cuda"))


def test_compiling_without_a_compiler_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.cuda.is_available():
        pytest.skip("compiling for CUDA needs no C++ compiler")
    monkeypatch.setenv("CXX", "/nowhere/g++")
    with pytest.raises(OptionError, match="--compile on: needs the C\\+\\+ compiler /nowhere/g\\+\\+"):
        Stylizer(MIXED, Options(painting=StyleOptions(compile="on")))
    Stylizer(MIXED, frames_expected=10**6)  # auto does without
    Stylizer(Look(style="wave"), Options(painting=StyleOptions(compile="on")))  # one style: nothing to compile


# -- out of memory --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fits", [1, 2, 5])
def test_out_of_memory_halves_the_batch_with_a_warning_and_the_same_picture(
    monkeypatch: pytest.MonkeyPatch, fits: int
) -> None:
    look, batch = Look(background="starry", foreground="wave"), planes(6)
    wanted, real = painted(look, batch, 6), FramePainter._paint_planes

    def limited(self: FramePainter, reading: Reading, part: slice, out: Planes, subsample: bool) -> Planes:
        if part.stop - part.start > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, reading, part, out, subsample)

    monkeypatch.setattr(FramePainter, "_paint_planes", limited)
    stylizer = Stylizer(look)
    assert same(stylizer.paint_batch(batch, COLOR, [i / 25 for i in batch.pts]), wanted)
    line, other = stylizer.warnings()
    assert "was out of memory" in line
    assert "went on with smaller batches" in line
    assert other == nobody_warning("appearance")


def test_out_of_memory_while_a_reference_is_recorded_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    look, batch = Look(background="starry", foreground="wave"), planes(6)
    wanted, real, failures = painted(look, batch, 6), Stylizer._record, [2]

    def limited(self: Stylizer, rgb: torch.Tensor) -> object:
        if failures[0]:
            failures[0] -= 1
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, rgb)

    monkeypatch.setattr(Stylizer, "_record", limited)
    assert same(painted(look, batch, 3), wanted)


@pytest.mark.parametrize("place", ["streamstyle.scene.resize_planes", "streamstyle.objects.segmenter.Segmenter.find"])
def test_out_of_memory_in_the_analysis_is_tried_again_in_halves(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    owner, _, name = place.rpartition(".")
    look, batch = Look(background="starry", foreground="wave"), planes(8)
    options = {"analysis": AnalysisOptions(analyse_every=1)}
    wanted = painted(look, batch, 8, **options)
    target = Segmenter if owner.endswith("Segmenter") else scene_module
    real = getattr(target, name)

    def limited(*arguments: torch.Tensor) -> object:
        pictures = arguments[1] if target is Segmenter else arguments[0]
        if len(pictures) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(*arguments)

    monkeypatch.setattr(target, name, limited)
    stylizer = Stylizer(look, Options(**options))
    assert same(stylizer.paint_batch(batch, COLOR, [i / 25 for i in batch.pts]), wanted)
    assert any("was out of memory" in line for line in stylizer.warnings())


def test_no_memory_for_one_frame_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> Planes:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(FramePainter, "_paint_planes", never)
    with pytest.raises(DeviceError, match=r"out of memory for one frame of 64x48; give a smaller --size"):
        painted(MIXED, planes(6), 6)


def test_a_state_put_into_another_stylizer_goes_on_alike(tmp_path: Path) -> None:
    """Through a file, as a journal does it; at a moment when statistics fade and an object still waits."""
    look = Look(background="starry", foreground="wave", objects=(ObjectStyle("it", "ember", region=1, at_s=0.3),))
    frames = [draw(i, (64, 48)) // (1 if i < 4 else 2) for i in range(14)]
    y = np.stack([frame[..., 0] for frame in frames])
    u = np.full((len(frames), 24, 32), 120, np.uint8)
    batch = FrameBatch(y, u, u, tuple(range(len(frames))))
    state = tmp_path / "state.safetensors"

    def run(stylizer: Stylizer, begin: int, end: int) -> FrameBatch:
        part = FrameBatch(y[begin:end], u[begin:end], u[begin:end], batch.pts[begin:end], begin)
        return stylizer.paint_batch(part, COLOR, [i / 25 for i in part.pts])

    for stop in (2, 6, 9):
        first, second = Stylizer(look), Stylizer(look)
        run(first, 0, stop)
        write_state(state, first.state_dict())
        second.load_state_dict(read_state(state))
        assert same(run(first, stop, len(y)), run(second, stop, len(y)))
        assert first.report() == second.report()


def test_float16_is_nearer_to_float32_than_bfloat16() -> None:
    """CUDA paints in float16 for this."""
    apart = {}
    exact = next(Stylizer(Look(style="starry"), Options(painting=StyleOptions(precision="float32"))).paint(film(1)))
    for half in ("float16", "bfloat16"):
        options = Options(painting=StyleOptions(precision=half))  # type: ignore[arg-type]
        near = next(Stylizer(Look(style="starry"), options).paint(film(1)))
        apart[half] = np.abs(near.astype(int) - exact).mean()
    assert apart["float16"] < apart["bfloat16"] / 2


@pytest.mark.parametrize(
    ("precision", "native", "said"),
    [
        ("bfloat16", False, "--precision bfloat16: this processor only imitates it, very slowly; use auto"),
        ("float16", True, "--precision float16: this processor only imitates it, very slowly; use auto"),
        ("bfloat16", True, None),
        ("float32", False, None),
        ("auto", False, None),
    ],
)
def test_a_precision_that_is_imitated_is_warned_of(
    monkeypatch: pytest.MonkeyPatch,
    precision: Literal["auto", "float32", "bfloat16", "float16"],
    native: bool,
    said: str | None,
) -> None:
    monkeypatch.setattr(transfer, "has_native_bfloat16", lambda: native)
    options = Options(device="cpu", painting=StyleOptions(precision=precision))
    assert Stylizer(Look(style="wave"), options).warnings() == ([] if said is None else [said])


def test_bytes_for_networks_of_ones_own_alone_are_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stylizer_module, "in_bytes", lambda *_, **__: True)
    own = johnson_nets.save(tmp_path / "own.safetensors", johnson_nets.transformer().state_dict())
    options = Options(device="cpu", painting=StyleOptions(precision="int8"))
    (line,) = Stylizer(Look(style=str(own)), options).warnings()
    assert line == "--precision int8: networks of your own paint in floats; leave it out"


@pytest.mark.skipif(not int8.available(), reason="needs an x86 processor and oneDNN")
def test_bytes_are_not_warned_of_where_they_are_used() -> None:
    options = Options(device="cpu", painting=StyleOptions(precision="int8"))
    assert Stylizer(Look(style="wave"), options).warnings() == []


def test_a_renaming_of_nobody_is_told() -> None:
    thing = ObjectStyle("it", "wave", (19, 36))
    look = Look(background="starry", objects=(thing,), called=(("object 99", "x"), ("it", "that")))
    said = "object 'object 99', renamed 'x': nobody is called so; named were: that; who has no name"
    assert any(line.startswith(said) for line in Stylizer(look).warnings())
    assert not any("nobody" in line for line in Stylizer(replace(look, called=(("it", "that"),))).warnings())


@pytest.mark.parametrize("look", [Look(background="none"), Look(style="wave")])
def test_a_renaming_of_nobody_is_told_where_nobody_is_looked_for(look: Look) -> None:
    stylizer = Stylizer(replace(look, called=(("cow", "herd"),)))
    said = ["object 'cow', renamed 'herd': nobody is called so; named were: none"]
    assert stylizer.warnings() == said
    assert len(list(stylizer.paint(film(2)))) == 2
    assert stylizer.warnings() == said
