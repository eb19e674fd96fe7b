"""A slow job that is stopped within a segment goes on from the frames it had painted, to the very same film."""

from __future__ import annotations

import errno
import multiprocessing
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clips import make_clip, video_times
from faults import Killed, breaks, killed_within_a_segment

from streamstyle import pipeline
from streamstyle.config import AnalysisOptions, Options, OutputOptions, StyleOptions
from streamstyle.errors import InputError
from streamstyle.job import Report, River
from streamstyle.look import Look, ObjectStyle
from streamstyle.media import encode, segments
from streamstyle.media import tail as tail_module
from streamstyle.media.journal import parts_folder
from streamstyle.media.states import write_state
from streamstyle.media.tail import FRAMES as TAIL_FRAMES
from streamstyle.media.tail import STATE as TAIL_STATE
from streamstyle.media.tail import Tail
from streamstyle.pipeline import stylize
from streamstyle.stylizer import Stylizer

pytestmark = [pytest.mark.weights, pytest.mark.usefixtures("networks")]
FRAMES, SEGMENT = 32, 20
LOOK = Look(background="wave", foreground="none", objects=(ObjectStyle("it", "starry", (19, 36)),))
FAST = Options(AnalysisOptions(analyse_every=3), device="cpu", output=OutputOptions(preset="ultrafast"))
CALM = replace(FAST, painting=StyleOptions(calm=1))
POINTS = 8


@pytest.fixture(autouse=True)
def every_batch_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "SEGMENT_FRAMES", (SEGMENT, SEGMENT))
    monkeypatch.setattr(pipeline, "MOST_FRAMES", 3)
    monkeypatch.setattr(tail_module, "TAIL_BATCHES", 1)
    monkeypatch.setattr(tail_module, "TAIL_SHARE", float("inf"))


def paint(source: Path, target: Path, options: Options = FAST, **how: Any) -> Report:
    return stylize(source, target, look=LOOK, options=options, **how)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("film") / "in.mkv", frames=FRAMES, size=(96, 72))


@pytest.fixture(scope="module")
def whole(clip: Path, cached: None, networks: None) -> dict[bool, tuple[Path, Report]]:
    """Films that nothing happened to, without and with calm; one closed segment of SEGMENT frames, and the rest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "SEGMENT_FRAMES", (SEGMENT, SEGMENT))
        films = {False: clip.with_name("whole.mp4"), True: clip.with_name("calm.mp4")}
        return {calm: (path, paint(clip, path, CALM if calm else FAST)) for calm, path in films.items()}


def pictures(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray() for frame in container.decode(video=0)]


def assert_same_film(path: Path, report: Report, expected: tuple[Path, Report]) -> None:
    found, wanted = pictures(path), pictures(expected[0])
    assert len(found) == len(wanted) == FRAMES
    assert all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))
    assert video_times(path) == video_times(expected[0])
    assert (report.frames_out, report.objects) == (FRAMES, expected[1].objects)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def stop(clip: Path, target: Path, calls: int, options: Options = FAST) -> None:
    """Stop at a call of end_painting: a batch is of 1, 1, 2, 3, 3 ... frames."""
    with pytest.MonkeyPatch.context() as patch:
        breaks(patch, Stylizer, "end_painting", calls, Killed())
        with pytest.raises(Killed):
            paint(clip, target, options)


@pytest.mark.parametrize("calm", [False, True])
@pytest.mark.parametrize(("calls", "kept"), [(1, 1), (5, 10), (7, 16), (9, 20), (10, 23), (12, 29)])
def test_it_goes_on_from_the_last_batch_that_was_painted(
    clip: Path, whole: dict[bool, tuple[Path, Report]], tmp_path: Path, calls: int, kept: int, calm: bool
) -> None:
    target, options = tmp_path / "out.mp4", CALM if calm else FAST
    stop(clip, target, calls, options)
    said: list[str] = []
    done: list[int] = []
    paint(clip, target, options, say=said.append, dry_run=True)
    assert said.pop() == f"{parts_folder(target)}: a run would go on after frame {kept}"
    report = paint(clip, target, options, say=said.append, on_frames=lambda frames, _: done.append(frames))
    assert said == [f"{parts_folder(target)}: going on after frame {report.resumed_frames}"]
    assert report.resumed_frames == kept
    assert f", {FRAMES - kept} of them in this run, {report.fps:.1f} fps" in report.in_words()[0]
    assert sum(done) == FRAMES
    assert_same_film(target, report, whole[calm])


def test_stopped_within_one_segment_again_and_again(
    clip: Path, whole: dict[bool, tuple[Path, Report]], tmp_path: Path
) -> None:
    target, kept = tmp_path / "out.mp4", []
    for _ in range(2):
        stop(clip, target, 4)
        kept.append(Tail(parts_folder(target), target))
        kept[-1].go_on(0)
    frames = [tail.frames for tail in kept]
    assert 0 < frames[0] < frames[1]
    assert_same_film(target, paint(clip, target), whole[False])


def test_an_error_says_what_is_kept(clip: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        breaks(patch, encode, "fit_frame", 14, InputError("in.mkv: is gone"))
        with pytest.raises(InputError, match="is gone") as caught:
            paint(clip, tmp_path / "out.mp4")
    (note,) = caught.value.__notes__
    tail = Tail(parts_folder(tmp_path / "out.mp4"), tmp_path / "out.mp4")
    tail.go_on(0)
    assert tail.frames > 0
    assert note.startswith(f"{tail.frames} frames are kept in {parts_folder(tmp_path / 'out.mp4')}; run the same")


@pytest.mark.parametrize("damage", ["flipped", "short", "state", "of another segment", "gone"])
@pytest.mark.parametrize("calls", [6, 11])
def test_a_damaged_tail_counts_for_nothing(
    clip: Path, whole: dict[bool, tuple[Path, Report]], tmp_path: Path, damage: str, calls: int
) -> None:
    target = tmp_path / "out.mp4"
    stop(clip, target, calls)
    parts = parts_folder(target)
    frames, state = parts / TAIL_FRAMES, parts / TAIL_STATE
    data = bytearray(frames.read_bytes())
    if damage == "flipped":
        data[len(data) // 3] ^= 1
        frames.write_bytes(data)
    elif damage == "short":
        frames.write_bytes(data[:1000])
    elif damage == "state":
        state.write_bytes(state.read_bytes()[:100])
    elif damage == "gone":
        frames.unlink()
    else:
        (parts / "kept").mkdir()
        for path in (frames, state):
            path.rename(parts / "kept" / path.name)
        (parts / "kept").rename(tmp_path / "kept")
        for stale in parts.glob("tail.*"):
            stale.unlink()
        other = tmp_path / "other"
        other.mkdir()
        stop(clip, other / "out.mp4", 17 - calls)  # 11 for 6, 6 for 11
        for path in (frames, state):
            path.write_bytes((parts_folder(other / "out.mp4") / path.name).read_bytes())
        for folder in (tmp_path / "kept", parts_folder(other / "out.mp4")):
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()
        other.rmdir()
    report = paint(clip, target)
    assert report.resumed_frames == (SEGMENT if calls == 11 else 0)
    assert_same_film(target, report, whole[False])


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    "place", [(Tail, "_append"), (Tail, "_count"), (tail_module, "sync"), (tail_module, "write_state")]
)
def test_a_disk_without_room_for_it_stops_no_job(
    clip: Path, whole: dict[bool, tuple[Path, Report]], tmp_path: Path, place: tuple[Any, str]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        breaks(patch, *place, 3, FULL)
        report = paint(clip, tmp_path / "out.mp4")
    assert_same_film(tmp_path / "out.mp4", report, whole[False])


def test_what_counted_before_it_could_not_be_written_counts_still(
    clip: Path, whole: dict[bool, tuple[Path, Report]], tmp_path: Path
) -> None:
    target = tmp_path / "out.mp4"
    with pytest.MonkeyPatch.context() as patch:
        breaks(patch, Tail, "_append", 4, OSError(errno.EIO, "Input/output error"))  # 1, 1, 2 and 3 frames were kept
        stop(clip, target, 6)
    assert not (parts_folder(target) / "tail.new").exists()
    report = paint(clip, target)
    assert report.resumed_frames == 7
    assert_same_film(target, report, whole[False])


def test_a_full_disk_has_the_room_for_the_film(
    clip: Path, whole: dict[bool, tuple[Path, Report]], tmp_path: Path
) -> None:
    target, left = tmp_path / "out.mp4", list[bool]()
    with pytest.MonkeyPatch.context() as patch:
        breaks(patch, Tail, "_append", 4, FULL)
        real = Stylizer.end_painting

        def seen(stylizer: Stylizer, *batch: Any, **how: Any) -> Any:
            left.append((parts_folder(target) / TAIL_FRAMES).exists())
            return real(stylizer, *batch, **how)

        patch.setattr(Stylizer, "end_painting", seen)
        report = paint(clip, target, overlap=False)
    assert left[:6] == [False, True, True, True, True, False]
    assert_same_film(target, report, whole[False])


def test_after_a_segment_it_is_tried_again(clip: Path, tmp_path: Path) -> None:
    target, real = tmp_path / "out.mp4", Tail._append
    with pytest.MonkeyPatch.context() as patch:

        def full_at_first(tail: Tail, batch: Any) -> None:
            if batch.index < 4:
                raise FULL
            real(tail, batch)

        patch.setattr(Tail, "_append", full_at_first)
        stop(clip, target, 10)
    assert paint(clip, target).resumed_frames == 23


def test_the_first_painted_frame_is_no_replayed_one(clip: Path, tmp_path: Path) -> None:
    """What is told of the time until then is about painting."""
    stop(clip, tmp_path / "out.mp4", 6)
    real, came = River.count, list[tuple[int, bool]]()
    with pytest.MonkeyPatch.context() as patch:

        def noted(river: River, frames: int) -> None:
            real(river, frames)
            came.append((frames, river.first_frame_at is not None))

        patch.setattr(River, "count", noted)
        resumed = paint(clip, tmp_path / "out.mp4").resumed_frames
    done = 0
    for frames, has_begun in came:
        done += frames
        assert has_begun == (done > resumed)
    assert done == FRAMES


@pytest.mark.parametrize("how", ["no-resume", "quick"])
def test_who_does_not_need_it_has_none(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    def none(*_: Any) -> None:
        raise AssertionError("kept")

    monkeypatch.setattr(segments, "write_state", none if how == "no-resume" else write_state)
    monkeypatch.setattr(Tail, "_count" if how == "quick" else "_append", none)
    if how == "quick":
        monkeypatch.setattr(tail_module, "TAIL_BATCHES", float("inf"))
    output = replace(FAST.output, no_resume=how == "no-resume")
    paint(clip, tmp_path / "out.mp4", replace(FAST, output=output))


def child(source: str, target: str) -> None:
    pipeline.SEGMENT_FRAMES, pipeline.MOST_FRAMES = (SEGMENT, SEGMENT), 3
    tail_module.TAIL_BATCHES, tail_module.TAIL_SHARE = 1, float("inf")
    paint(Path(source), Path(target))


def test_killed_within_segments_it_goes_on_to_the_same_film(
    clip: Path, whole: dict[bool, tuple[Path, Report]], tmp_path: Path
) -> None:
    context, chance, resumed = multiprocessing.get_context("forkserver"), random.Random(4), 0
    for point in range(POINTS):
        folder = tmp_path / str(point)
        folder.mkdir()
        target = folder / "out.mp4"
        killed_within_a_segment(context, child, (str(clip), str(target)), target, chance.uniform(0, 0.6))
        report = paint(clip, target)
        resumed += report.resumed_frames % SEGMENT > 0
        assert_same_film(target, report, whole[False])
    assert resumed
