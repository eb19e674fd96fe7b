"""The bench: what it says hangs together, what it refuses, and that it leaves nothing behind. No time is a failure."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from clips import make_clip

from streamstyle import cli
from streamstyle.bench import alone, jobs, measure, plot, report, table
from streamstyle.bench.options import BenchOptions, BenchOutput, JobOptions
from streamstyle.bench.scene import make_film, wide
from streamstyle.config import AnalysisOptions
from streamstyle.gpu.transfer import Planes
from streamstyle.media.decode import decode
from streamstyle.media.probe import probe
from streamstyle.objects.segmenter import Segmenter
from streamstyle.pipeline import frames_of
from streamstyle.scene import SceneReader
from streamstyle.stages import style_map

PATIENCE_S = 60
FAST = ("--preset", "ultrafast", "--device", "cpu")
REPORT_KEYS = {
    *("clip", "device", "machine", "encoder", "preset", "styles", "analyse_every", "resolutions", "flatness"),
    *("python", "seconds", "warnings"),
}
RESOLUTION_KEYS = {
    *("width", "height", "frames", "batch_frames", "alone_ms", "parts_ms", "network_ms", "job", "one_style"),
    *("in_turn_fps", "plain_fps", "slowest_alone", "end_to_end_per_slowest", "end_to_end_per_plain"),
    *(
        "end_to_end_per_in_turn",
        "following_share",
        "ns_per_px",
        "first_frame_s",
        "peak_memory_bytes",
        "peak_gpu_bytes",
        "gpu_busy",
    ),
}


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that temporary files go to; it is empty after each test. SIGTERM's handler is pytest's again."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    before = signal.getsignal(signal.SIGTERM)
    yield folder
    signal.signal(signal.SIGTERM, before)
    assert list(folder.iterdir()) == []


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each figure from fewer runs."""
    monkeypatch.setattr(alone, "ENOUGH_S", 0.0)
    monkeypatch.setattr(alone, "STYLE_COUNTS", (1, 2))
    monkeypatch.setattr(measure, "TINY_FRAMES", 40)


def call(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a bench."""
    capsys.readouterr()
    status = cli.main(["bench", *(str(word) for word in words)])
    out, err = capsys.readouterr()
    return status, out, err


def painting(**more: object) -> report.Painting:
    busy = {"decode": 0.2, "read": 0.3, "paint": 0.9, "encode": 0.4}
    made = report.Painting(4, 10.0, 8.0, busy, {"decode": 0.9, "read": 0.8, "paint": 0.1}, "paint")
    return dataclasses.replace(made, **more)  # type: ignore[arg-type]


def resolution(width: int, height: int, **more: object) -> report.Resolution:
    """Made-up figures of one size."""
    made = report.Resolution(
        *(width, height, 40, 4),
        alone_ms={"decode": 1.0, "paint_1": 40.0, "paint_k": 80.0, "encode": 5.0},
        parts_ms=dict.fromkeys(("upload", "find", "track", "map", "network_1", "network_k", "download"), 3.0),
        network_ms={"1": 30.0, "2": 50.0, "4": 51.0, "8": 53.0},
        job=painting(),
        one_style=painting(styles=1, fps=20.0),
        in_turn_fps=8.0,
        plain_fps=100.0,
        slowest_alone="paint_k",
        end_to_end_per_slowest=0.8,
        end_to_end_per_plain=0.1,
        end_to_end_per_in_turn=1.25,
        following_share=0.4,
        ns_per_px=400.0,
        first_frame_s=2.0,
        peak_memory_bytes=500 << 20,
        peak_gpu_bytes=None,
        gpu_busy=None,
    )
    return dataclasses.replace(made, **more)  # type: ignore[arg-type]


def made_up(*sizes: report.Resolution, styles: int = 4) -> report.BenchReport:
    machine = {"processor": "A processor", "cores": 2, "python": "3.12", "torch": "2.13", "streamstyle": "0.1"}
    python = report.PythonWork(0.1, 0.4, 0.2, 0.1)
    sized = ("libx264", "veryfast", styles, 4, sizes, 1.1 if len(sizes) > 1 else None, python, 60.0)
    return report.BenchReport(None, "cpu", machine, *sized)


# -- a whole bench --------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.weights
@pytest.mark.usefixtures("cached", "networks", "quick")
def test_what_is_printed_for_machines_hangs_together(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    drawn = tmp_path / "bench.png"
    words = ("--resolutions", "96,64", "--frames", 20, "--styles", 3, "--json", "--plot", drawn, *FAST)
    status, out, err = call(capsys, *words)
    assert status == 0, err
    said = json.loads(out.splitlines()[-1])
    assert drawn.read_bytes().startswith(b"\x89PNG")
    assert set(said) == REPORT_KEYS
    assert (said["clip"], said["device"], said["styles"], said["encoder"]) == (None, "cpu", 3, "libx264")
    assert [(size["width"], size["height"]) for size in said["resolutions"]] == [(170, 96), (114, 64)]
    large, small = said["resolutions"]
    assert said["flatness"] == pytest.approx(large["ns_per_px"] / small["ns_per_px"], rel=0.01)
    python = said["python"]
    left_ms = python["job_ms"] - python["decode_ms"] - python["encode_ms"]
    assert python["own_ms"] == pytest.approx(max(0, left_ms), abs=1e-3)
    for size in said["resolutions"]:
        assert set(size) == RESOLUTION_KEYS
        assert size["frames"] == 20
        assert size["batch_frames"] == frames_of((size["width"], size["height"]), "cpu")[0]
        assert size["job"]["styles"] == 3
        assert size["one_style"]["styles"] == 1
        check_ratios(size)
        took_ms = size["alone_ms"] | size["network_ms"] | size["parts_ms"]
        assert took_ms.pop("track") >= 0  # what reading takes beside finding, each measured by itself
        assert min(took_ms.values()) > 0
        assert set(size["network_ms"]) == {"1", "2", "3"}
        assert size["parts_ms"]["network_k"] == size["network_ms"]["3"]
        assert size["peak_memory_bytes"] > 50 << 20
        assert (size["peak_gpu_bytes"], size["gpu_busy"]) == (None, None)


def check_ratios(size: dict) -> None:  # type: ignore[type-arg]
    job, stages = size["job"], size["alone_ms"]
    assert size["end_to_end_per_slowest"] == pytest.approx(job["fps"] * stages[size["slowest_alone"]] / 1e3, abs=2e-3)
    assert size["end_to_end_per_plain"] == pytest.approx(job["fps"] / size["plain_fps"], abs=2e-3)
    assert size["end_to_end_per_in_turn"] == pytest.approx(job["fps"] / size["in_turn_fps"], abs=2e-3)
    assert size["ns_per_px"] == pytest.approx(1e9 / job["fps"] / (size["width"] * size["height"]), rel=0.01)
    parts = {part: ms for part, ms in size["parts_ms"].items() if part != "network_1"}
    following = (parts["find"] + parts["track"]) / (stages["decode"] + sum(parts.values()) + stages["encode"])
    assert size["following_share"] == pytest.approx(following, abs=2e-3)
    assert stages[size["slowest_alone"]] == max(stages["decode"], stages["paint_k"], stages["encode"])
    for one in (job, size["one_style"]):
        assert one["busy"][one["bottleneck"]] == max(one["busy"].values())
        assert set(one["busy"]) == {"decode", "read", "paint", "encode"}
        assert set(one["queues"]) == {"decode", "read", "paint"}


@pytest.mark.weights
@pytest.mark.usefixtures("cached", "networks", "quick")
def test_a_clip_of_ones_own_at_its_own_size(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=30)
    before = sorted(tmp_path.iterdir())
    status, out, err = call(capsys, clip, "--frames", 6, "--styles", 1, "--codec", "prores", *FAST)
    assert status == 0, err
    assert sorted(tmp_path.iterdir()) == before
    assert f"{clip}, 6 frames a job, prores_ks ultrafast" in out
    assert "64x48: " in out
    assert "objects" not in "".join(line for line in out.splitlines() if "find objects" not in line)


@pytest.mark.parametrize("kind", [report.BenchReport, report.Resolution, report.Painting, report.PythonWork])
def test_every_field_is_explained(kind: type) -> None:
    said = (kind.__doc__ or "").partition("Attributes:")[2]
    named = {name for line in said.splitlines() for name in line.partition(":")[0].replace(",", " ").split()}
    assert {field.name for field in dataclasses.fields(kind)} <= named


# -- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--resolutions", "480,hd"), "--resolutions 480,hd: 'hd' is not a whole number; give short sides of 16 to"),
        (("--resolutions", "480.5"), "'480.5' is not a whole number"),
        (("--resolutions", "480,,720"), "a number is missing"),
        (("--resolutions", ""), "--resolutions '': empty; give short sides of 16 to 8192 px, such as 480,720"),
        (("--resolutions", "15"), "--resolutions 15: 15 is out of range; give short sides of 16 to 8192 px"),
        (("--resolutions", "480,8193"), "8193 is out of range"),
        (("--resolutions=-480",), "-480 is out of range"),
        (("--styles", "0"), "--styles 0: out of range; give 1 to 26"),
        (("--styles", "27"), "--styles 27: out of range; give 1 to 26"),
        (("--frames", "1"), "--frames 1: out of range"),
        (("--start", "2"), "--start 2: goes with a CLIP; give one"),
        (("missing.mp4",), "missing.mp4: no such file"),
        (("--plot", "nowhere/bench.png"), "--plot nowhere/bench.png: no such folder; make it, or choose another place"),
        (("--plot", "bench.gif"), "--plot bench.gif: a plot is a picture; give it the ending .png, .svg, .pdf"),
        (("--plot", "bench"), "--plot bench: a plot is a picture"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    status, out, err = call(capsys, *words)
    assert (status, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("words", [("--size", "480"), ("--duration", "2"), ("--overwrite",)], ids=" ".join)
def test_what_a_bench_sets_itself_is_not_asked(capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    status, _, err = call(capsys, *words)
    assert status == 2
    assert "--help" in err


def test_a_plot_is_not_drawn_over_a_folder_or_the_clip(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    assert "is a folder" in call(capsys, "--plot", tmp_path / "folder.png")[2]
    clip = tmp_path / "clip.png"
    clip.touch()
    assert "is the clip itself" in call(capsys, clip, "--plot", clip)[2]


def test_a_plot_needs_matplotlib(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    status, _, err = call(capsys, "--plot", "bench.png")
    assert status == 2
    assert err == 'streamstyle: --plot bench.png: needs matplotlib; pip install "streamstyle[bench]"\n'


def test_resolutions_are_taken_once_each() -> None:
    assert BenchOptions(resolutions="480, 720,480").short_sides() == (480, 720)
    assert BenchOptions().short_sides() == ()


# -- nothing left ---------------------------------------------------------------------------------------------------


def test_stopped_in_a_job_it_leaves_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, nothing_left: Path
) -> None:
    def stopped(film: jobs.Film, look: object) -> None:
        film.target.with_name("half").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(measure, "run_job", stopped)
    monkeypatch.setattr(measure, "choose_look", lambda film, count: jobs.Look(style="wave"))
    status, out, err = call(capsys, "--resolutions", "64", "--frames", "4")
    assert (status, out) == (130, "")
    assert err.count("streamstyle: stopped") == 1


@pytest.mark.weights
@pytest.mark.usefixtures("cached")
@pytest.mark.skipif(os.name != "posix", reason="sends signals")
def test_a_signal_stops_it_and_leaves_nothing(nothing_left: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "streamstyle",
        "bench",
        "--resolutions",
        "64",
        "--frames",
        "300",
        "--styles",
        "1",
        *FAST,
    ]
    environment = os.environ | {"TMPDIR": str(nothing_left)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + PATIENCE_S
        while not list(nothing_left.glob("streamstyle-bench-*/out.mp4.parts/*.mp4")):
            assert time.monotonic() < deadline, "waited in vain"
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert [line for line in err.splitlines() if "stopped" in line] == [
        "streamstyle: stopped; nothing half-written was left behind"
    ]


# -- parts ----------------------------------------------------------------------------------------------------------


def test_a_job_of_its_own_gets_the_same_options() -> None:
    output = BenchOutput(size=96, duration=1.5, codec="hevc", encoder="software", start=0.5, preset="fast", crf=30)
    options = JobOptions(AnalysisOptions(analyse_every=2), output=output, device="cpu")
    run = cli.parse(["run", "a.mp4", "b.mp4", "--style", "wave", *jobs.words(options)])
    assert isinstance(run, cli.Run)
    assert dataclasses.asdict(run.options) == dataclasses.asdict(options)


@pytest.mark.weights
@pytest.mark.usefixtures("cached", "networks")
def test_the_objects_of_a_clip_are_named_at_every_size(tmp_path: Path) -> None:
    clip = make_film(tmp_path / "in.mp4", wide(180), 3)
    output = BenchOutput(size=96, preset="ultrafast", encoder="software")
    options = JobOptions(AnalysisOptions(), output=output, device="cpu")
    film = jobs.Film(clip, probe(clip), options, (170, 96), tmp_path)
    look = jobs.choose_look(film, 5)
    assert len(look.styles) == 5
    assert len({thing.point for thing in look.objects}) == 3
    _, batches = alone.decode_alone(film, 3)
    _, painted = alone.paint_alone(film, batches, look)
    assert painted[0].y.shape == (3, 96, 170)


class Clock:
    """A clock that stands still but for what is said to take time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ms, self._monkeypatch = 0.0, monkeypatch
        monkeypatch.setattr(alone, "time", SimpleNamespace(perf_counter=lambda: self.ms / 1e3))

    def takes(self, owner: type, name: str, took_ms: Callable[..., float]) -> None:
        """From now on a method takes so long, by its arguments."""
        method = getattr(owner, name)

        def slow(this: object, *arguments: Any) -> object:
            self.ms += took_ms(*arguments)
            return method(this, *arguments)

        self._monkeypatch.setattr(owner, name, slow)


# Two of the 16 frames that count are looked at, each for look_ms and one of shrinking; reading takes ten of each, and
# one to shrink each of the eight that were not followed with the batch before.
@pytest.mark.parametrize(("look_ms", "find_ms", "track_ms"), [(8, 9 / 8, 10.5 - 9 / 8), (200, 10.5, 0)])
@pytest.mark.weights
@pytest.mark.usefixtures("cached", "networks", "quick")
def test_following_is_what_reading_a_jobs_batches_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, look_ms: float, find_ms: float, track_ms: float
) -> None:
    monkeypatch.setitem(alone.FOLLOWED_FRAMES, "cpu", 12)
    options = JobOptions(output=BenchOutput(preset="ultrafast", encoder="software"), device="cpu")
    clip = make_film(tmp_path / "in.mp4", wide(96), 28)
    film = jobs.Film(clip, probe(clip), options, wide(96), tmp_path)
    look, (_, batches) = jobs.choose_look(film, 3), alone.decode_alone(film, 4, 1)
    clock, read, worn = Clock(monkeypatch), list[tuple[int, int]](), list[torch.Tensor]()

    def read_ms(planes: Planes, color: object, index: int, *_: object) -> float:
        read.append((index, len(planes[0])))
        disturbed = 8 < len(read) <= 16  # the second run, which is then not the median
        return len(planes[0]) * (10 if index >= 8 else 1000) * (3 if disturbed else 1)  # before is the shot's beginning

    def blend_map(looks: torch.Tensor, *arguments: Any) -> torch.Tensor:
        worn.append(looks)
        return style_map.blend_map(looks, *arguments)

    clock.takes(SceneReader, "small", lambda planes: len(planes[0]))
    clock.takes(SceneReader, "read", read_ms)
    clock.takes(Segmenter, "__call__", lambda rgb: look_ms * len(rgb))
    monkeypatch.setattr(alone, "blend_map", blend_map)
    parts, _ = alone.painting_parts(film, batches, torch.device("cpu"), look, 3)
    assert read == [(0, 1), (1, 1), (2, 2), (4, 4), (8, 4), (12, 4), (16, 4), (20, 4)] * alone.FEWEST_RUNS
    assert parts["find"] == pytest.approx(find_ms)
    assert parts["track"] == pytest.approx(track_ms, abs=1e-9)
    assert parts["track"] >= 0
    assert worn[0].shape == (4, 96, 170)
    assert 0 in worn[0]
    assert set(worn[0].unique().tolist()) <= set(range(len(look.styles)))


@pytest.mark.parametrize(
    ("lengths", "every", "enough", "counted"),
    [
        ((1, 1, 2, 4, 4, 4, 4, 4), 4, 12, (4, 7)),
        ((1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2), 4, 12, (4, 10)),
        ((1, 1, 2, 4, 8, 10, 6), 4, 12, (4, 7)),  # 18 are enough, but no whole rounds
        ((1,) * 20, 4, 12, (5, 17)),
        ((16, 16, 16, 16, 16), 1, 48, (1, 4)),
        ((16, 16, 8), 1, 48, (1, 3)),  # as many as there are
        ((1, 1, 2, 4, 4, 1), 4, 12, (4, 5)),
        ((1, 1, 2, 2), 4, 12, (0, 4)),  # no whole round: all there is
        ((4,), 1, 48, (0, 1)),
        ((10, 3), 4, 12, (0, 2)),
    ],
)
def test_whole_rounds_of_looking_count_after_a_shots_beginning(
    lengths: tuple[int, ...], every: int, enough: int, counted: tuple[int, int]
) -> None:
    assert alone.settled(lengths, every, enough) == slice(*counted)


def test_the_share_of_following_is_of_the_whole_path() -> None:
    parts_ms = {"upload": 1.0, "find": 8.0, "track": 2.0, "map": 3.0, "network_1": 70.0, "network_k": 90.0}
    share = measure.following_share({"decode": 6.0, "paint_1": 70.0, "paint_k": 85.0, "encode": 90.0}, parts_ms)
    assert share == pytest.approx((8 + 2) / (6 + (1 + 8 + 2 + 3 + 90) + 90))
    assert measure.following_share({"decode": 0.0, "encode": 0.0}, dict.fromkeys(("find", "track"), 1.0)) == 1


def test_batches_grow_as_a_jobs_do(tmp_path: Path) -> None:
    clip = make_film(tmp_path / "in.mp4", wide(64), 15)
    film = jobs.Film(clip, probe(clip), JobOptions(), wide(64), tmp_path)
    assert [len(batch) for batch in film.batches(4, 1)] == [1, 1, 2, 4, 4, 3]
    assert [len(batch) for batch in film.batches(4)] == [4, 4, 4, 3]


def test_time_is_counted_after_the_first_batch() -> None:
    ticks = jobs.Ticks()
    ticks.began, ticks.marks = 0.0, [(5.0, 4), (6.0, 4), (7.0, 2)]
    assert (ticks.frames, ticks.first) == (10, 4)
    assert ticks.steady_s() == pytest.approx(2 / 6)
    assert ticks.steady_s(ended=8.0) == pytest.approx(3 / 6)
    ticks.marks = ticks.marks[:1]
    assert ticks.steady_s() == pytest.approx(5 / 4)


def test_kernels_that_run_at_once_are_busy_once() -> None:
    assert jobs.covered([(5, 6), (0, 2), (1, 3), (1.5, 2)]) == 4
    assert jobs.covered([]) == 0


def test_the_film_made_for_it_moves_and_is_the_same_each_time(tmp_path: Path) -> None:
    films = [make_film(tmp_path / name, wide(64), 5) for name in ("a.mp4", "b.mp4")]
    first, second = (list(decode(probe(film))) for film in films)
    assert [frame.y.tobytes() for frame in first] == [frame.y.tobytes() for frame in second]
    assert len({frame.y.tobytes() for frame in first}) == 5
    assert first[0].y.shape == (64, 114)


@pytest.mark.parametrize(
    ("short_side", "size"), [(16, (28, 16)), (480, (854, 480)), (1080, (1920, 1080)), (2160, (3840, 2160))]
)
def test_sizes_are_wide_and_even(short_side: int, size: tuple[int, int]) -> None:
    assert wide(short_side) == size


# -- for people -----------------------------------------------------------------------------------------------------

SIZES = (
    resolution(854, 480),
    resolution(1280, 720),
    resolution(1920, 1080),
    resolution(3840, 2160),
    resolution(28, 16),
)


@pytest.mark.parametrize("sizes", [SIZES[:1], SIZES[:4], SIZES], ids=len)
@pytest.mark.parametrize("styles", [1, 4])
def test_the_table_fits_and_names_the_bottleneck(sizes: tuple[report.Resolution, ...], styles: int) -> None:
    text = table.render(made_up(*sizes, styles=styles))
    assert max(map(len, text.splitlines())) <= 100
    assert "854x480: painting is the bottleneck, at work 90 % of the time\n" in text
    assert "(decoding 20 %, analysis 30 %, encoding 40 %)" in text
    (share,) = {line.split()[-2] for line in text.splitlines() if "finding and tracking, of the whole path" in line}
    assert share == "40"
    for size in sizes:
        assert text.count(f"{size.width}x{size.height}") >= 2
    assert ("a pixel at" in text) == (len(sizes) > 1)


def test_what_is_too_little_to_measure_is_not_called_nothing() -> None:
    said = dataclasses.replace(made_up(SIZES[0]), python=report.PythonWork(0.0, 0.2, 0.15, 0.1))
    assert "Python's own work: less than 0.01 ms a frame" in table.render(said)


def test_what_cuda_tells_is_in_the_table() -> None:
    text = table.render(made_up(resolution(854, 480, peak_gpu_bytes=3 << 30, gpu_busy=0.87)))
    assert "3072" in text
    assert "87 %" in text


@pytest.mark.parametrize("ending", [".png", ".svg", ".pdf"])
@pytest.mark.parametrize("styles", [1, 4])
def test_the_plot_is_drawn(tmp_path: Path, ending: str, styles: int) -> None:
    target = tmp_path / f"bench{ending}"
    plot.draw(made_up(*SIZES, styles=styles), target)
    assert target.stat().st_size > 5000
    assert {path.name for path in tmp_path.iterdir()} == {target.name, "temporary"}


def test_the_status_line_is_silent_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    with table.StatusLine() as status:
        status("something")
    assert capsys.readouterr().err == ""


def test_the_status_line_is_gone_at_the_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with table.StatusLine() as status:
        status("something")
    err = capsys.readouterr().err
    assert "\r\x1b[Kmeasuring something" in err
    assert err.endswith("\r\x1b[K")
