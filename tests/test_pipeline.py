"""The whole river, film to film: what is kept, what is painted, and that neither depends on how it is computed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from clips import audio_packets, draw_mottled, make_clip, video_times

import streamstyle
from streamstyle import cli, pipeline
from streamstyle.config import AnalysisOptions, Options, OutputOptions, StyleOptions
from streamstyle.errors import OptionError, OutputError
from streamstyle.frames import FrameBatch
from streamstyle.job import MOST_WORKERS, Report, workers_for
from streamstyle.look import Look, ObjectStyle
from streamstyle.media.decode import decode
from streamstyle.media.probe import probe
from streamstyle.objects.object_warnings import nobody_warning
from streamstyle.pipeline import stylize
from streamstyle.preview import preview

pytestmark = [pytest.mark.weights, pytest.mark.usefixtures("networks")]
MIXED = Look(background="none", foreground="wave")
FAST = OutputOptions(preset="ultrafast")
LOSSLESS = OutputOptions(preset="ultrafast", crf=0)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("film") / "in.mp4", frames=10)


@pytest.fixture(scope="module")
def mottled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film in which something is found that moves by itself."""
    return make_clip(tmp_path_factory.mktemp("film") / "in.mp4", frames=10, picture=draw_mottled)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One black frame, five dark ones, a hard cut, six bright ones."""
    frames = [np.zeros((48, 64, 3), np.uint8), *((draw_mottled(i, (64, 48)) // 2) for i in range(5))]
    frames += [255 - draw_mottled(i, (64, 48))[::-1] // 2 for i in range(6)]
    return write(tmp_path_factory.mktemp("film") / "scenes.mp4", frames)


@pytest.mark.parametrize("options", [Options(), Options(analysis=AnalysisOptions(tracker="overlap", detail=0.3))])
def test_a_named_object_lives_through_a_flash(tmp_path: Path, options: Options) -> None:
    flash, size = 9, (96, 72)
    frames = [draw_mottled(i, size) for i in range(18)]
    frames.insert(flash, np.full_like(frames[0], 255))
    look = Look(background="none", objects=(ObjectStyle("it", "wave", (19, 36)),))
    source = write(tmp_path / "in.mp4", frames)
    report = stylize(source, tmp_path / "out.mp4", look=look, options=replace(options, output=LOSSLESS))
    assert report.warnings == ()
    assert [(o.name, o.first_frame, o.last_frame) for o in report.objects if o.name] == [("it", 0, len(frames) - 1)]
    before, after = read(source).y.astype(int), read(tmp_path / "out.mp4").y.astype(int)
    y, x = np.mgrid[: size[1], : size[0]]
    for i in range(len(frames)):
        centre = size[0] * (0.2 + 0.6 * (i - (i > flash)) / 24)
        disc = (x - centre) ** 2 + (y - size[1] / 2) ** 2 < 16**2
        changed = np.abs(after[i] - before[i]) > 4
        assert (changed[disc].mean() > 0.5) == (i != flash), f"frame {i}"


def write(path: Path, frames: list[np.ndarray], **options: str) -> Path:
    """A silent 30 fps film of RGB frames, as good as lossless."""
    with av.open(str(path), "w") as container:
        track = container.add_stream("libx264", rate=30)
        track.height, track.width = frames[0].shape[:2]
        track.pix_fmt = "yuv420p"
        track.codec_context.options = {"crf": "2", "preset": "ultrafast", **options}
        for i, rgb in enumerate(frames):
            frame = VideoFrame.from_ndarray(np.ascontiguousarray(rgb), "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = i, Fraction(1, 30)
            container.mux(track.encode(frame))
        container.mux(track.encode(None))
    return path


def read(path: Path) -> FrameBatch:
    """Every frame's planes, by our own decoder, which its own tests hold to a plain PyAV loop."""
    return FrameBatch.stack(list(decode(probe(path))))


def luma_changed(a: Path, b: Path) -> float:
    """Mean absolute difference of luma."""
    return float(np.abs(read(a).y.astype(int) - read(b).y).mean())


# -- what is kept ---------------------------------------------------------------------------------------------------


def test_report(clip: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    report = streamstyle.stylize(
        clip, tmp_path / "out.mp4", look="starry", on_frames=lambda done, expected: seen.append((done, expected))
    )
    assert isinstance(report, Report)
    assert (report.frames_in, report.frames_out, report.width, report.height) == (10, 10, 64, 48)
    assert (report.audio, report.warnings, report.objects) == ("copied", (), ())
    assert sum(done for done, _ in seen) == 10
    assert {expected for _, expected in seen} == {10}
    json.dumps(report.as_dict())
    assert luma_changed(clip, tmp_path / "out.mp4") > 10


def test_every_frame_keeps_its_time_and_the_sound_its_bits(tmp_path: Path) -> None:
    uneven = [0, 1, 5, 6, 20, 21, 22, 40, 41]
    source = make_clip(tmp_path / "in.mp4", frames=9, pts=uneven, time_base=Fraction(1, 90))
    for suffix in (".mp4", ".mkv"):
        out = tmp_path / f"out{suffix}"
        report = stylize(source, out, look=MIXED, options=Options(output=FAST))
        assert (report.frames_out, report.audio) == (9, "copied")
        wanted, got = video_times(source), video_times(out)
        assert max(abs(a - b) for a, b in zip(wanted, got, strict=True)) <= (
            0 if suffix == ".mp4" else Fraction(1, 2000)
        )
        assert [data for _, data in audio_packets(out)] == [data for _, data in audio_packets(source)]


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotation_is_baked_in(tmp_path: Path, rotation: int) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=3, rotation=rotation)
    out = tmp_path / "out.mp4"
    report = stylize(source, out, look="none", options=Options(output=LOSSLESS))
    assert (report.width, report.height) == ((48, 64) if rotation != 180 else (64, 48))
    assert probe(out).rotation == 0
    with av.open(str(source)) as container:
        upright = np.rot90(next(container.decode(video=0)).to_ndarray()[:48], rotation // 90)
    assert np.array_equal(read(out).y[0], upright)


def test_pixel_shape_is_kept(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=3, sample_aspect_ratio=Fraction(16, 11))
    stylize(source, tmp_path / "out.mp4", look="wave", options=Options(output=FAST))
    assert probe(tmp_path / "out.mp4").sample_aspect_ratio == Fraction(16, 11)


@pytest.mark.parametrize(("size", "pix_fmt"), [((64, 48), "yuv420p"), ((35, 21), "yuv444p")])
@pytest.mark.parametrize(
    "look",
    [Look(style="none"), Look(style="none", objects=(ObjectStyle("x", "none", region=1),))],
    ids=["all", "named"],
)
def test_none_is_identity_from_film_to_film(tmp_path: Path, size: tuple[int, int], pix_fmt: str, look: Look) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=5, size=size, pix_fmt=pix_fmt)
    stylize(source, tmp_path / "out.mp4", look=look, options=Options(output=LOSSLESS))
    a, b = read(source), read(tmp_path / "out.mp4")
    assert all(np.array_equal(getattr(a, plane), getattr(b, plane)) for plane in "yuv")


def test_far_from_the_styled_object_the_film_is_kept_bit_for_bit(clip: Path, tmp_path: Path) -> None:
    look = Look(background="none", objects=(ObjectStyle("it", "wave", region=1),))
    options = Options(output=LOSSLESS, painting=StyleOptions(feather=0))
    stylize(clip, tmp_path / "out.mp4", look=look, options=options)
    a, b = read(clip), read(tmp_path / "out.mp4")
    changed = a.y != b.y
    assert changed.any()
    assert changed.mean() < 0.5
    assert all(np.array_equal(getattr(a, plane)[:, -4:], getattr(b, plane)[:, -4:]) for plane in "yuv")


# -- how it is computed does not matter -----------------------------------------------------------------------------

LOOKS = [
    Look(style="starry"),
    Look(background="starry", foreground="wave"),
    Look(background="none", foreground="ember", objects=(ObjectStyle("it", "wave", region=1, at_s=0.1),)),
]


@pytest.mark.parametrize("look", LOOKS, ids=["one", "two", "named"])
def test_batches_queues_and_another_run_change_nothing(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, look: Look
) -> None:
    def run(name: str) -> tuple[bytes, tuple[Any, ...]]:
        report = stylize(scenes, tmp_path / name, look=look, options=Options(output=FAST))
        return (tmp_path / name).read_bytes(), report.objects

    first = run("a.mp4")
    assert run("b.mp4") == first
    monkeypatch.setattr(pipeline, "MOST_FRAMES", 1)
    assert run("c.mp4") == first
    monkeypatch.setattr(pipeline, "MOST_FRAMES", 5)
    monkeypatch.setattr(pipeline, "QUEUE_BATCHES", 1)
    assert run("d.mp4") == first
    monkeypatch.setattr(pipeline, "BATCH_PX", {"cpu": 64 * 48 * 3, "cuda": 64 * 48 * 3})
    monkeypatch.setattr(pipeline, "QUEUE_BATCHES", 9)
    assert run("e.mp4") == first


def test_a_stalled_encoder_stalls_the_decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the disk: a few batches are in flight, not the film."""
    source, decoded, written, ahead = make_clip(tmp_path / "in.mp4", frames=60), [0], [0], list[int]()
    real = pipeline.decode

    def counted(*arguments: Any, **named: Any) -> Iterator[Any]:
        for frame in real(*arguments, **named):
            decoded[0] += 1
            yield frame

    def stalled(done: int, expected: int | None) -> None:
        time.sleep(0.05)  # long enough for the other threads to run as far as they may
        ahead.append(decoded[0] - written[0])
        written[0] += done

    monkeypatch.setattr(pipeline, "decode", counted)
    monkeypatch.setattr(pipeline, "MOST_FRAMES", 2)
    stylize(source, tmp_path / "out.mp4", look="none", options=Options(output=FAST), on_frames=stalled)
    assert written == [60]
    # Three queues, a batch in the hands of each of their threads and of the encoder, one read ahead to know the last,
    # and the workers' (as many again wait for their turn).
    assert max(ahead) <= 2 * (3 * pipeline.QUEUE_BATCHES + 5 + 2 * MOST_WORKERS)


def test_in_turn_on_one_thread_it_is_the_same_film(clip: Path, tmp_path: Path) -> None:
    for name, overlap in (("a.mp4", True), ("b.mp4", False)):
        report = stylize(clip, tmp_path / name, look=MIXED, options=Options(output=FAST), overlap=overlap)
        assert set(report.busy) == ({"decode", "read", "paint", "encode"} if overlap else set())
        assert set(report.queues) == ({"decode", "read", "paint"} if overlap else set())
        assert 0 < report.first_frame_s <= report.seconds
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


@pytest.mark.parametrize(
    ("threads", "workers"), [(1, 1), (2, 2), (3, 3), (4, 4), (5, 4), (6, 3), (7, 3), (8, 4), (9, 3), (16, 4), (64, 4)]
)
def test_a_cpus_threads_are_dealt_out(threads: int, workers: int) -> None:
    assert workers_for(threads) == workers


# -- every option ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        "--style starry --statistics frame",
        "--style starry --precision float32",
        "--background starry --foreground wave --analyse-every 1",
        "--background starry --foreground wave --analyse-every 3",
        "--background starry --foreground wave --segmenter components",
        "--background starry --foreground wave --segmenter components --tracker overlap",
        "--background none --foreground wave --tracker overlap --detail 1",
        "--background starry --foreground wave --segmenter regions --edge-side fuse --threshold global",
        "--background starry --foreground wave --edge-side 5 --feather 0",
        "--background none --foreground wave --feather 200 --min-area 0 --analysis-size 64",
        "--style 25 --background none --device cpu --crf 51",
    ],
)
def test_options(mottled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: str) -> None:
    out = tmp_path / "out.mov"
    assert cli.main(["run", str(mottled), str(out), *words.split(), "--preset", "ultrafast", "--json"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (said["frames_in"], said["frames_out"]) == (10, 10)
    # Of so small a picture the coarsest edges have 4x3 pixels, and part nothing.
    assert said["warnings"] == [nobody_warning("appearance")] * ("--edge-side 5" in words)
    assert luma_changed(mottled, out) > 1


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_a_compiled_lookup_paints_the_same_picture(clip: Path, tmp_path: Path) -> None:
    said = "--background starry --foreground wave --duration 0.05 --preset ultrafast --crf 0 --quiet --compile"
    for compiled in ("on", "off"):  # in a process of their own: torch.compile changes much in the one it runs in
        words = ["run", str(clip), str(tmp_path / f"{compiled}.mp4"), *said.split(), compiled]
        subprocess.run([sys.executable, "-m", "streamstyle", *words], check=True, capture_output=True)
    assert luma_changed(tmp_path / "on.mp4", tmp_path / "off.mp4") < 2


@pytest.mark.parametrize(
    ("source_size", "size", "wanted"),
    [
        ((64, 48), 24, (32, 24)),
        ((64, 48), 96, (128, 96)),
        ((64, 48), 25, (32, 24)),
        ((35, 21), 42, (70, 42)),
        ((35, 21), None, (35, 21)),
        ((48, 65), 33, (32, 44)),
    ],
)
def test_size(tmp_path: Path, source_size: tuple[int, int], size: int | None, wanted: tuple[int, int]) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=3, size=source_size, pix_fmt="yuv444p")
    for number, look in enumerate((Look(style="starry"), MIXED)):
        out = tmp_path / f"{number}.mp4"
        report = stylize(source, out, look=look, options=Options(output=OutputOptions(size=size)))
        assert (report.width, report.height, report.frames_out) == (*wanted, 3)
        info = probe(out)
        assert (info.width, info.height) == wanted


def test_a_size_h264_cannot_hold_is_refused_at_once(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=2, size=(256, 16))
    with pytest.raises(OutputError, match=r"is more than a film holds .* smaller --size"):
        stylize(source, tmp_path / "out.mp4", look="wave", options=Options(output=OutputOptions(size=2048)))


@pytest.mark.parametrize(("start", "duration", "frames"), [(0.1, None, 7), (0.0, 0.1, 3), (0.1, 0.1, 3), (0.32, 9, 1)])
def test_start_and_duration(clip: Path, tmp_path: Path, start: float, duration: float | None, frames: int) -> None:
    output, start_s = OutputOptions(start=start, duration=duration), start
    if start == 0.32:  # past the last frame's time: nothing begins after it
        output = OutputOptions(start=0.3, duration=duration)
        start_s = 0.3
    report = stylize(clip, tmp_path / "out.mp4", look=MIXED, options=Options(output=output))
    assert (report.frames_in, report.frames_out) == (frames, frames)
    times = video_times(tmp_path / "out.mp4")
    wanted = [t for t in video_times(clip) if t >= Fraction(start_s).limit_denominator(1000)][:frames]
    assert [t - times[0] for t in times] == [t - wanted[0] for t in wanted]
    assert times[0] == 0


# -- objects --------------------------------------------------------------------------------------------------------


def test_black_first_then_content_then_a_cut(scenes: Path, tmp_path: Path) -> None:
    look = Look(background="none", foreground="wave", objects=(ObjectStyle("it", "starry", region=1, at_s=0.1),))
    options = Options(analysis=AnalysisOptions(analyse_every=1), output=LOSSLESS)
    report = stylize(scenes, tmp_path / "out.mp4", look=look, options=options)
    assert report.frames_out == 12
    a, b = read(scenes), read(tmp_path / "out.mp4")
    assert (a.y[0] != b.y[0]).mean() < 0.1  # black holds no object, but for what HED sees at its own border
    (named,) = (thing for thing in report.objects if thing.name == "it")
    assert (named.first_frame, named.style) == (3, "starry")
    assert named.last_frame <= 5  # the cut ends it
    assert len({thing.track_id for thing in report.objects}) == len(report.objects)


def test_a_number_from_preview_and_the_point_beside_it_are_one_object(clip: Path, tmp_path: Path) -> None:
    found = preview(clip, tmp_path / "objects.png", at_s=0.11)
    thing = found["objects"][0]
    reports = []
    for name, place in (("number", {"region": thing["number"]}), ("point", {"point": tuple(thing["point"])})):
        look = Look(background="none", objects=(ObjectStyle("it", "wave", at_s=0.11, **place),))
        report = stylize(clip, tmp_path / f"{name}.mp4", look=look, options=Options(output=FAST))
        (named,) = (o for o in report.objects if o.name == "it")
        assert named.first_frame == 3  # on screen at 0.11 s, as preview shows it
        reports.append((named, (tmp_path / f"{name}.mp4").read_bytes()))
    assert reports[0] == reports[1]


@pytest.mark.parametrize("size", [24, 36, 96])
def test_points_and_numbers_are_of_the_film_not_of_the_painted_size(clip: Path, tmp_path: Path, size: int) -> None:
    thing = preview(clip, tmp_path / "objects.png")["objects"][0]
    output = OutputOptions(size=size, preset="ultrafast", overwrite=True)
    for place in ({"region": thing["number"]}, {"point": tuple(thing["point"])}):
        look = Look(background="none", objects=(ObjectStyle("it", "wave", **place),))
        try:
            report = stylize(clip, tmp_path / "out.mp4", look=look, options=Options(output=output))
        except OptionError as error:  # at another size the analysis may see no object there; it is refused, not guessed
            assert "on no object" in str(error)  # noqa: PT017
            continue
        (named,) = (o for o in report.objects if o.name == "it")
        scale = size / 48
        assert 0.2 < named.mean_area_px / (thing["area_px"] * scale * scale) < 5


@pytest.mark.parametrize("size", [None, 24, 96])
@pytest.mark.parametrize("point", [(64, 10), (10, 48), (100, 20), (-1, 5)])
def test_a_point_outside_is_told_in_the_films_own_pixels(
    clip: Path, tmp_path: Path, size: int | None, point: tuple[int, int]
) -> None:
    look = Look(background="none", objects=(ObjectStyle("it", "wave", point),))
    with pytest.raises(OptionError, match=rf"object 'it' @{point[0]},{point[1]}: outside the frame, which is 64x48"):
        stylize(clip, tmp_path / "out.mp4", look=look, options=Options(output=OutputOptions(size=size)))


@pytest.mark.parametrize("size", [None, 96])
def test_a_point_on_the_background_is_told_as_it_was_typed(clip: Path, tmp_path: Path, size: int | None) -> None:
    look = Look(background="none", objects=(ObjectStyle("it", "wave", (60, 44), at_s=0.11),))
    with pytest.raises(
        OptionError, match=r"object 'it' @60,44@0.11: on no object, that is the background .* region is #"
    ):
        stylize(clip, tmp_path / "out.mp4", look=look, options=Options(output=OutputOptions(size=size)))


def test_an_object_after_the_painted_part_is_refused(clip: Path, tmp_path: Path) -> None:
    look = Look(background="none", objects=(ObjectStyle("it", "wave", region=1, at_s=0.2),))
    with pytest.raises(OptionError, match=r"after the part that is painted, which ends at 0.1 s; .* longer --duration"):
        stylize(clip, tmp_path / "out.mp4", look=look, options=Options(output=OutputOptions(duration=0.1)))


def test_an_object_named_before_the_start_is_named_in_the_first_painted_frame(clip: Path, tmp_path: Path) -> None:
    look = Look(background="none", objects=(ObjectStyle("it", "wave", region=1),))
    report = stylize(clip, tmp_path / "out.mp4", look=look, options=Options(output=OutputOptions(start=0.1)))
    (named,) = (o for o in report.objects if o.name == "it")
    assert named.first_frame == 0


def test_two_places_may_make_one_object(clip: Path, tmp_path: Path) -> None:
    thing = preview(clip, tmp_path / "objects.png")["objects"][0]
    objects = (
        ObjectStyle("it", "wave", region=thing["number"]),
        ObjectStyle("it", "wave", point=tuple(thing["point"])),
    )
    options = Options(output=FAST, analysis=AnalysisOptions(analyse_every=1))
    report = stylize(clip, tmp_path / "out.mp4", look=Look(background="none", objects=objects), options=options)
    assert len([o for o in report.objects if o.name == "it"]) == 1
