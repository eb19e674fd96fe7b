"""A job stopped anywhere, by anything, goes on to the very film it would have been."""

from __future__ import annotations

import errno
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import torch
from clips import audio_packets, draw_mottled, make_clip, video_times
from faults import Killed, breaks

from streamstyle import job, pipeline
from streamstyle.config import AnalysisOptions, Options, OutputOptions, StyleOptions
from streamstyle.errors import InputError, OutputError, StreamstyleError
from streamstyle.job import Report
from streamstyle.look import Look, ObjectStyle
from streamstyle.media import segments as segments_module
from streamstyle.media import tail
from streamstyle.media.journal import JOURNAL, parts_folder
from streamstyle.media.segments import LOCK, WorkFolder
from streamstyle.pipeline import stylize
from tests.johnson_nets import save, transformer

pytestmark = [pytest.mark.weights, pytest.mark.usefixtures("networks")]
ROOT = Path(__file__).resolve().parent.parent
FRAMES, SEGMENT = 45, 6
LOOK = Look(
    background="starry@0.3 > sea-mist@1.2",
    foreground="wave",
    objects=(
        ObjectStyle("it", "ember", (52, 36), at_s=0.5),
        ObjectStyle("it", "ember", (59, 37), at_s=0.6),
        ObjectStyle("late", "ember", (23, 36), at_s=0.9),
    ),
)
PLAIN = Look(style="starry")
"""Whose state is smaller than its film."""
FAST = Options(AnalysisOptions(analyse_every=3), output=OutputOptions(preset="ultrafast"))
CALM = replace(FAST, painting=StyleOptions(calm=1))
FILMS, KILLS = 5, 4
INSERT = range(29, 31)
"""Frames in which the film is back at its first shot, where it left it; a segment ends between them."""


def paint(source: Path, target: Path, look: Look = LOOK, options: Options = FAST, **how: Any) -> Report:
    """A job in short segments; what counts within one is told by no clock."""
    pipeline.SEGMENT_FRAMES, tail.TAIL_BATCHES = (SEGMENT, SEGMENT), float("inf")
    return stylize(source, target, look=look, options=options, **how)


@pytest.fixture(autouse=True)
def segments() -> Iterator[None]:
    before = pipeline.SEGMENT_FRAMES, tail.TAIL_BATCHES
    yield
    pipeline.SEGMENT_FRAMES, tail.TAIL_BATCHES = before


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film with sound, uneven times, cuts to another shot, back and there again, a slow change of
    light, and a disc that moves by itself in each shot."""
    path, size = tmp_path_factory.mktemp("film") / "in.mp4", (96, 72)
    make_clip(path, frames=FRAMES, size=size, pts=[i + i // 7 for i in range(FRAMES)])
    with av.open(str(path)) as film:
        times = [frame.pts for frame in film.decode(video=0)]
    assert len(times) == FRAMES
    scene = path.with_name("scenes.mp4")
    with av.open(str(scene), "w") as container, av.open(str(path)) as film:
        track = container.add_stream("libx264", rate=30)
        track.width, track.height, track.pix_fmt = *size, "yuv420p"
        track.time_base = film.streams.video[0].time_base
        track.codec_context.time_base = track.time_base
        track.codec_context.gop_size = 11
        sound = container.add_stream_from_template(film.streams.audio[0])
        for i, ticks in enumerate(times):
            rgb = draw_mottled(i - 9 if i in INSERT else i, size)
            rgb = rgb if i < 20 or i in INSERT else 255 - rgb[::-1] // (1 + (i - 20) // 8)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = ticks, track.time_base
            container.mux(track.encode(frame))
        container.mux(track.encode(None))
        for packet in film.demux(film.streams.audio[0]):
            if packet.size:
                packet.stream = sound
                container.mux(packet)
    return scene


@pytest.fixture(scope="module")
def whole(clip: Path, cached: None, networks: None) -> tuple[Path, Report]:
    """The film and the report of a job that nothing happens to."""
    target = clip.with_name("whole.mp4")
    report = paint(clip, target)
    assert {thing.name for thing in report.objects} >= {None, "it", "late"}  # there is something to go on with
    assert {thing.last_frame for thing in report.objects if thing.name == "it"} == {INSERT[-1]}
    return target, report


def planes(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray() for frame in container.decode(video=0)]


def assert_same_film(path: Path, report: Report, whole: tuple[Path, Report]) -> None:
    """Every decoded frame, its time, the sound's packets and what is said of the objects."""
    wanted, wanted_report = whole
    assert len(planes(path)) == FRAMES
    assert all(np.array_equal(a, b) for a, b in zip(planes(path), planes(wanted), strict=True))
    assert video_times(path) == video_times(wanted)
    assert audio_packets(path) == audio_packets(wanted)
    assert (report.frames_out, report.objects) == (FRAMES, wanted_report.objects)
    assert not parts_folder(path).exists()
    assert {entry.name for entry in path.parent.iterdir()} == {path.name}


PLACES: list[tuple[str, str, int]] = [
    ("streamstyle.stylizer.Stylizer", "read_batch", 9),
    ("streamstyle.media.planes.PlaneConverter", "convert", FRAMES),
    ("streamstyle.media.segments.WorkFolder", "add", 8),
    ("streamstyle.media.segments.WorkFolder", "_append", 9),
    ("streamstyle.media.encode._SegmentWriter", "_taken", FRAMES),
    ("streamstyle.media.encode._SegmentWriter", "finish", 8),
    ("streamstyle.media.join._Joiner", "_mux", FRAMES),
    ("streamstyle.media.segments.WorkFolder", "finish", 1),
    ("os.replace", "", 1),
]


@pytest.mark.parametrize("point", range(24))
def test_stopped_anywhere_it_goes_on_to_the_same_film(
    clip: Path, whole: tuple[Path, Report], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: int
) -> None:
    chance = random.Random(point)
    where, name, most = PLACES[point % len(PLACES)]
    owner, _, attribute = where.rpartition(".")
    with monkeypatch.context() as patch:
        if not name:
            breaks(patch, os, "replace", 0, Killed())
        else:
            module = __import__(owner, fromlist=[attribute])
            breaks(patch, getattr(module, attribute), name, chance.randrange(most), Killed())
        with pytest.raises(Killed):
            paint(clip, tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()
    report = paint(clip, tmp_path / "out.mp4")
    assert report.resumed_frames % SEGMENT == 0 or report.resumed_frames == FRAMES
    assert_same_film(tmp_path / "out.mp4", report, whole)


def test_stopped_again_and_again(
    clip: Path, whole: tuple[Path, Report], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from streamstyle.stylizer import Stylizer

    for _ in range(50):
        try:
            with monkeypatch.context() as patch:
                breaks(patch, Stylizer, "read_batch", 6, Killed())  # a segment is read in batches of 1, 1, 2, 2 frames
                report = paint(clip, tmp_path / "out.mp4")
        except Killed:
            continue
        break
    assert report.resumed_frames > FRAMES / 2
    assert_same_film(tmp_path / "out.mp4", report, whole)


def test_calm_goes_on_as_if_it_had_not_been_stopped(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from streamstyle.painting.frame_painter import FramePainter

    for name in ("at_once", "film"):
        (tmp_path / name).mkdir()
    at_once = paint(clip, tmp_path / "at_once" / "out.mp4", options=CALM)
    assert {one["object"] for one in at_once.calm} >= {"background", "foreground"}
    held = [one for one in at_once.calm if one["object"] != "it"]  # few of its pixels are not near its outline
    assert all(one["warping_error"] < one["as_painted"] for one in held)
    for _ in range(20):
        try:
            with monkeypatch.context() as patch:
                breaks(patch, FramePainter, "end", 9, Killed())
                report = paint(clip, tmp_path / "film" / "out.mp4", options=CALM)
        except Killed:
            continue
        break
    assert report.resumed_frames > FRAMES / 2
    assert report.calm == at_once.calm
    assert_same_film(tmp_path / "film" / "out.mp4", report, (tmp_path / "at_once" / "out.mp4", at_once))


# -- a process that is killed ---------------------------------------------------------------------------------------


def child(source: str, target: str) -> None:
    """A job in a process of its own, which notes what it says, and at its end how many frames it took over."""
    with open(Path(target).parent.with_suffix(".said"), "a") as said:
        report = paint(Path(source), Path(target), say=lambda line: print(line, file=said, flush=True))
    Path(target).parent.with_suffix(".txt").write_text(str(report.resumed_frames))


def run(
    context: Any,
    source: Path,
    target: Path,
    *,
    kill: tuple[int, float] | None = None,
    ends_s: list[float] | None = None,
) -> bool:
    """A child process, to its end; or killed so many seconds after its journal told of so many segments.

    Returns: whether it was killed, and had not ended before. ends_s is given when each segment was told of.
    """
    process = context.Process(target=child, args=(str(source), str(target)))
    process.start()
    if kill is not None:
        segments, then_s = kill
        while process.is_alive() and segments_told(target) < segments:
            time.sleep(0.002)
        process.join(then_s)
        process.kill()
    while ends_s is not None and process.is_alive():
        ends_s += [time.perf_counter()] * (segments_told(target) - len(ends_s))
        time.sleep(0.002)
    process.join()
    killed = process.exitcode == -signal.SIGKILL
    assert killed if kill is not None and process.exitcode else process.exitcode == 0
    process.close()
    return killed


def segments_told(target: Path) -> int:
    """Segments in the journal of the job that writes target."""
    try:
        return max(0, (parts_folder(target) / JOURNAL).read_bytes().count(b"\n") - 1)
    except FileNotFoundError:  # not yet there, or the film is whole
        return 0


@pytest.mark.long
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_killed_at_twenty_moments_it_goes_on_to_the_same_film(clip: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["test_resume", "streamstyle.pipeline"])
    (tmp_path / "whole").mkdir()
    wanted = tmp_path / "whole" / "out.mp4"
    ends_s = list[float]()
    run(context, clip, wanted, ends_s=ends_s)
    late_s = (ends_s[-1] - ends_s[0]) / (len(ends_s) - 1)  # what a segment takes: a film has no more for four kills
    frames, chance, landed, gone_on = planes(wanted), random.Random(0), 0, list[int]()
    for film in range(FILMS):
        (tmp_path / str(film)).mkdir()
        target, told = tmp_path / str(film) / "out.mp4", 0
        for _ in range(KILLS):
            killed = run(context, clip, target, kill=(told + chance.randrange(3), chance.uniform(0, late_s)))
            landed += killed
            if target.exists():
                break  # what is whole cannot be killed any more
            assert killed, film
            before, told = told, segments_told(target)
            assert told >= before  # no kill costs what the journal told of
        if not target.exists():
            run(context, clip, target)
            taken_over = int(target.parent.with_suffix(".txt").read_text())
            assert taken_over == min(told * SEGMENT, FRAMES)  # what the journal told of was not painted again
        said = target.parent.with_suffix(".said").read_text()
        gone_on += [int(after) for after in re.findall(r"going on after frame (\d+)", said)]
        assert all(np.array_equal(a, b) for a, b in zip(planes(target), frames, strict=True)), film
        assert video_times(target) == video_times(wanted)
        assert audio_packets(target) == audio_packets(wanted)
        assert {entry.name for entry in target.parent.iterdir()} <= {"out.mp4", "out.mp4.parts"}
    assert landed > FILMS * KILLS * 3 / 4, landed
    assert len(gone_on) > landed / 2  # what was killed before its first segment has nothing to go on with
    assert all(after % SEGMENT == 0 or after == FRAMES for after in gone_on)  # the film's last segment is a short one


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_cuda_overlapped_in_turn_and_taken_up_again_are_one_film(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to a last bit, where cuDNN picks another algorithm; so the films are encoded without loss."""
    options = Options(FAST.analysis, output=OutputOptions(preset="ultrafast", crf=0), device="cuda")
    overlapped = paint(clip, tmp_path / "a.mp4", options=options)
    in_turn = paint(clip, tmp_path / "b.mp4", options=options, overlap=False)
    with monkeypatch.context() as patch:
        breaks(patch, WorkFolder, "add", 3, Killed())
        with pytest.raises(Killed):
            paint(clip, tmp_path / "c.mp4", options=options)
    resumed = paint(clip, tmp_path / "c.mp4", options=options)
    assert resumed.resumed_frames == 3 * SEGMENT
    assert overlapped.objects == in_turn.objects == resumed.objects
    first, *others = (planes(tmp_path / name) for name in ("a.mp4", "b.mp4", "c.mp4"))
    for film in others:
        apart = [np.abs(a.astype(int) - b) for a, b in zip(first, film, strict=True)]
        assert max(int(frame.max()) for frame in apart) <= 2
        assert float(np.mean(apart)) < 0.01
        assert video_times(tmp_path / "a.mp4") == video_times(tmp_path / "c.mp4") == video_times(tmp_path / "b.mp4")


# -- what a journal must not be used for ----------------------------------------------------------------------------


def stop(clip: Path, target: Path, monkeypatch: pytest.MonkeyPatch, **how: Any) -> None:
    """A job stopped after three segments."""
    with monkeypatch.context() as patch:
        breaks(patch, WorkFolder, "add", 3, Killed())
        with pytest.raises(Killed):
            paint(clip, target, **how)


def other_clip(clip: Path, tmp_path: Path) -> Path:
    changed = tmp_path / "changed.mp4"
    changed.write_bytes(clip.read_bytes())
    return changed


@pytest.mark.parametrize("kind", ["painting", "folder", "network"])
def test_a_changed_painting_starts_afresh_and_is_told(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    folder = tmp_path / "art"
    folder.mkdir()
    painting = folder / "night.png"
    cv2.imwrite(str(painting), draw_mottled(0, (40, 30)))
    network = save(tmp_path / "candy.safetensors", transformer(blocks=0).state_dict())
    look = Look(style=str({"painting": painting, "folder": folder, "network": network}[kind]))
    options = Options(output=OutputOptions(preset="ultrafast"))
    source, target, said = other_clip(clip, tmp_path), tmp_path / "film" / "out.mp4", list[str]()
    target.parent.mkdir()
    with monkeypatch.context() as patch:
        breaks(patch, WorkFolder, "add", 3, Killed())
        with pytest.raises(Killed):
            paint(source, target, look, options)
    if kind == "painting":
        cv2.imwrite(str(painting), draw_mottled(9, (40, 30)))
    elif kind == "folder":
        cv2.imwrite(str(folder / "fire.png"), draw_mottled(9, (40, 30)))
    else:
        save(network, transformer(blocks=0, seed=3).state_dict())
    assert paint(source, target, look, options, say=said.append).resumed_frames == 0
    (line,) = said
    assert "painted_with" in line
    assert "starting afresh" in line


@pytest.mark.parametrize(
    "what", ["the input", "its time", "crf", "the Look", "version", "a segment", "the state", "journal"]
)
def test_what_changed_starts_afresh_and_is_told(
    clip: Path, whole: tuple[Path, Report], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    source, target, said = other_clip(clip, tmp_path), tmp_path / "film" / "out.mp4", list[str]()
    target.parent.mkdir()
    stop(source, target, monkeypatch)
    parts, how, reason = parts_folder(target), {}, ""
    if what == "the input":
        source.write_bytes(source.read_bytes() + bytes(8))  # the film is the same: only the journal may not be sure
        reason = "for input changed since"
    elif what == "its time":
        os.utime(source, (1, 1))
        reason = "for input changed since"
    elif what == "crf":
        how = {"options": Options(analysis=FAST.analysis, output=OutputOptions(preset="ultrafast", crf=30))}
        reason = "for --crf changed since"
    elif what == "the Look":
        how = {"look": Look(style="poppy-field")}
        reason = "for --style, --background, --foreground, --object changed since"
    elif what == "version":
        monkeypatch.setattr(job, "__version__", "0.0.0")
        reason = "for streamstyle's version changed since"
    elif what == "a segment":
        (parts / "000001.mp4").write_bytes(b"")
        reason = "a part of it is missing or damaged"
    elif what == "the state":
        state = next(parts.glob("*.safetensors"))
        state.write_bytes(state.read_bytes()[:99])
        reason = "a part of it is missing or damaged"
    else:
        (parts / "journal.jsonl").write_text("not JSON\n")
        reason = "for its journal is damaged"
    report = paint(source, target, say=said.append, **how)
    assert report.resumed_frames == 0
    (line,) = said
    assert reason in line
    assert f"{parts}: starting afresh" in line
    assert ("frames that were kept are gone" in line) == (what != "journal")
    if not how:
        assert_same_film(target, report, whole)


@pytest.mark.parametrize("changed", [False, True])
def test_a_dry_run_tells_what_a_run_would_make_of_what_is_kept(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: bool
) -> None:
    target, said = tmp_path / "out.mp4", list[str]()
    stop(clip, target, monkeypatch)
    before = sorted((path.name, path.stat().st_mtime_ns) for path in parts_folder(target).iterdir())
    paint(clip, target, Look(style="poppy-field") if changed else LOOK, say=said.append, dry_run=True)
    frames = 3 * SEGMENT
    how = (
        f"start afresh, for --style, --background, --foreground, --object changed since, and lose the {frames} frames "
        "that are kept"
        if changed
        else f"go on after frame {frames}"
    )
    assert said == [f"{parts_folder(target)}: a run would {how}"]
    assert sorted((path.name, path.stat().st_mtime_ns) for path in parts_folder(target).iterdir()) == before


def test_no_resume_begins_anew_and_leaves_nothing(
    clip: Path, whole: tuple[Path, Report], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    anew = Options(analysis=FAST.analysis, output=OutputOptions(preset="ultrafast", no_resume=True))
    stop(clip, tmp_path / "out.mp4", monkeypatch)
    assert parts_folder(tmp_path / "out.mp4").exists()
    said = list[str]()
    report = paint(clip, tmp_path / "out.mp4", options=anew, say=said.append)
    assert report.resumed_frames == 0
    (line,) = said
    assert line.startswith(f"{parts_folder(tmp_path / 'out.mp4')}: starting afresh, for --no-resume is given; ")
    assert line.endswith(" frames that were kept are gone")
    assert_same_film(tmp_path / "out.mp4", report, whole)
    (tmp_path / "out.mp4").unlink()
    stop(clip, tmp_path / "out.mp4", monkeypatch, options=anew)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_where_no_segment_was_closed(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        breaks(patch, WorkFolder, "add", 0, Killed())
        with pytest.raises(Killed):
            paint(clip, tmp_path / "out.mp4")
    assert list(tmp_path.iterdir()) == []


def test_two_jobs_for_one_film_are_refused(clip: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    with WorkFolder(target, {}), pytest.raises(OutputError, match=r"another streamstyle is writing this film; wait"):
        paint(clip, target)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_not_ours_is_left_alone(clip: Path, tmp_path: Path, kind: str) -> None:
    parts = parts_folder(tmp_path / "out.mp4")
    if kind == "file":
        parts.write_text("mine")
    else:
        parts.mkdir()
        (parts / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"is in the way .* move it, or rename the output"):
        paint(clip, tmp_path / "out.mp4")
    assert (parts if kind == "file" else parts / "mine.txt").read_text() == "mine"


def test_an_error_says_what_is_kept_and_is_told_once(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from streamstyle.stylizer import Stylizer

    threads = threading.active_count()
    with monkeypatch.context() as patch:
        breaks(patch, Stylizer, "read_batch", 9, ValueError("a worker failed"))  # 1, 1, 2, 2 and five times 6 frames
        with pytest.raises(ValueError, match="a worker failed") as caught:
            paint(clip, tmp_path / "out.mp4")
    (note,) = caught.value.__notes__
    assert note.startswith(f"{6 * SEGMENT} frames are kept in {tmp_path / 'out.mp4.parts'}; run the same command again")
    assert threading.active_count() == threads
    names = {entry.name for entry in (tmp_path / "out.mp4.parts").iterdir()}
    segments = {f"{number:06}.mp4" for number in range(6)}
    assert names == {JOURNAL, LOCK, "000005.safetensors", *segments}
    assert {entry.name for entry in tmp_path.iterdir()} == {"out.mp4.parts"}


# -- faults, and the way on -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("call", "keeps"), [(3, False), (9, True), (20, True)])
def test_a_full_disk_is_told_and_once_there_is_space_the_job_goes_on(
    clip: Path, whole: tuple[Path, Report], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int, keeps: bool
) -> None:
    with monkeypatch.context() as patch:
        breaks(patch, segments_module, "sync", call, OSError(errno.ENOSPC, "No space left on device"))
        with pytest.raises(OutputError, match=r"the disk is full .* free some space or write elsewhere") as full:
            paint(clip, tmp_path / "out.mp4")
    kept = [int(note.split()[0]) for note in getattr(full.value, "__notes__", ()) if "frames are kept" in note]
    report = paint(clip, tmp_path / "out.mp4")
    assert report.resumed_frames == sum(kept)
    assert (report.resumed_frames > 0) == keeps
    assert_same_film(tmp_path / "out.mp4", report, whole)


def child_with_little_room(source: str, target: str, most_bytes: int) -> None:
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    try:
        paint(Path(source), Path(target), PLAIN)
    except OutputError as error:
        Path(target).with_suffix(".txt").write_text(" ".join([str(error), *error.__notes__]))


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="no limits of a file's size here")
def test_a_film_that_does_not_fit_while_it_is_joined(clip: Path, tmp_path: Path) -> None:
    context, target = multiprocessing.get_context("forkserver"), tmp_path / "out.mp4"
    paint(clip, tmp_path / "whole.mp4", PLAIN)
    room = (tmp_path / "whole.mp4").stat().st_size * 2 // 3
    process = context.Process(target=child_with_little_room, args=(str(clip), str(target), room))
    process.start()
    process.join()
    said = target.with_suffix(".txt").read_text()
    assert "the disk is full" in said
    assert f"{FRAMES} frames are kept" in said
    target.with_suffix(".txt").unlink()
    assert paint(clip, target, PLAIN).resumed_frames == FRAMES
    assert len(planes(target)) == FRAMES
    assert {entry.name for entry in tmp_path.iterdir()} == {"out.mp4", "whole.mp4"}


@pytest.mark.parametrize(
    ("place", "name"),
    [("streamstyle.media.decode", "_with_pts"), ("streamstyle.media.encode", "fit_frame")],
)
def test_an_error_of_the_decoder_or_the_encoder_is_told_and_the_job_goes_on(
    clip: Path, whole: tuple[Path, Report], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, name: str
) -> None:
    module, threads = __import__(place, fromlist=[name]), threading.active_count()
    real = getattr(module, name)

    def failing_frames(*arguments: Any) -> Iterator[Any]:
        for i, frame in enumerate(real(*arguments)):
            if i == FRAMES // 2:
                raise InputError("in.mp4: the disk it lies on was taken away; put it back")
            yield frame

    with monkeypatch.context() as patch:
        if name == "_with_pts":
            patch.setattr(module, name, failing_frames)
        else:
            breaks(patch, module, name, FRAMES // 2, av.error.ExternalError(542398533, "Generic error"))
        with pytest.raises(
            StreamstyleError, match=r"was taken away; put it back|could not be written \(Generic error"
        ) as told:
            paint(clip, tmp_path / "out.mp4")
    assert "run the same command again" in told.value.__notes__[0]
    assert threading.active_count() == threads
    report = paint(clip, tmp_path / "out.mp4")
    assert report.resumed_frames > 0
    assert_same_film(tmp_path / "out.mp4", report, whole)


STOPPED = (
    "import sys; from streamstyle import cli, pipeline; pipeline.SEGMENT_FRAMES = (6, 6); "
    "from streamstyle.media import tail; "
    "tail.TAIL_BATCHES = float('inf'); sys.exit(cli.main())"
)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("extra", [[], ["--no-resume"]])
def test_a_signal_stops_the_job_and_the_same_command_goes_on(
    tmp_path: Path, sent: signal.Signals, extra: list[str]
) -> None:
    source, target = make_clip(tmp_path / "in.mkv", frames=60, size=(320, 240)), tmp_path / "out.mp4"
    words = [sys.executable, "-c", STOPPED, "run", str(source), str(target), "--style", "starry", *extra]
    job = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    while not (parts_folder(target) / "000002.mp4").exists():
        assert job.poll() is None, job.communicate()
        time.sleep(0.005)
    job.send_signal(sent)
    out, err = job.communicate(timeout=60)
    assert (job.returncode, out) == (130, "")
    if extra:
        assert err == "streamstyle: stopped; nothing half-written was left behind\n"
        assert list(tmp_path.iterdir()) == [source]
        return
    kept = f"frames are kept in {parts_folder(target)}; run the same command again to go on, or delete that folder"
    assert err.startswith("streamstyle: stopped; ")
    assert kept in err
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=True)
    first, last = done.stderr.splitlines()
    assert first.startswith(f"{parts_folder(target)}: going on after frame ")
    assert last.startswith(f"{target}: 60 frames")
    assert {entry.name for entry in tmp_path.iterdir()} == {"in.mkv", "out.mp4"}
