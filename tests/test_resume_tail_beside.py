"""A job with layers and a project that is stopped within a segment goes on from the frames it had painted."""

from __future__ import annotations

import errno
import multiprocessing
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import test_resume_beside as beside
from faults import Killed, breaks, killed_within_a_segment
from test_resume_beside import FAST, FRAMES, contents, same

from streamstyle import pipeline
from streamstyle.config import StyleOptions
from streamstyle.job import Report
from streamstyle.media import tail
from streamstyle.media.journal import parts_folder
from streamstyle.media.states import read_state, write_state
from streamstyle.media.tail import STATE, Tail
from streamstyle.projects import read_parts
from streamstyle.projects.save_project import ProjectWriter
from streamstyle.stylizer import Stylizer

pytestmark = [pytest.mark.weights, pytest.mark.usefixtures("networks")]
SEGMENT = 11
"""Of 20 frames; the cut, at the fifteenth, is in the second."""
CALM = replace(FAST, painting=StyleOptions(precision="float32", calm=1))
POINTS = 5
clip = beside.clip
paint = beside.paint
Whole = Callable[[str, bool], tuple[dict[str, bytes], Report]]


def every_batch(patch: pytest.MonkeyPatch) -> None:
    for name, value in (("SEGMENT_FRAMES", (SEGMENT, SEGMENT)), ("MOST_FRAMES", 3)):
        patch.setattr(pipeline, name, value)
    patch.setattr(tail, "TAIL_BATCHES", 1)
    patch.setattr(tail, "TAIL_SHARE", float("inf"))


@pytest.fixture(autouse=True)
def every_batch_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    every_batch(monkeypatch)


@pytest.fixture(scope="module")
def whole(clip: Path, cached: None, networks: None) -> Whole:
    """What a job that nothing happens to makes, by the layers' format, with calm or without."""
    made: dict[tuple[str, bool], tuple[dict[str, bytes], Report]] = {}

    def of(kind: str, calm: bool) -> tuple[dict[str, bytes], Report]:
        if (kind, calm) not in made:
            folder = clip.with_name(f"{kind}-{calm}")
            report = paint(clip, folder, kind, options=CALM if calm else FAST)
            made[kind, calm] = contents(folder), report
        return made[kind, calm]

    return of


def stop(clip: Path, folder: Path, kind: str, calls: int, options: Any = FAST) -> None:
    with pytest.MonkeyPatch.context() as patch:
        breaks(patch, Stylizer, "end_painting", calls, Killed())
        with pytest.raises(Killed):
            paint(clip, folder, kind, options=options)


# Batches are of 1, 1, 2, 3, 3 and 1 frames, then, in the second segment, of 3, 3 and 3.
@pytest.mark.parametrize(
    ("kind", "calls", "kept", "calm"),
    [
        ("png", 3, 4, False),
        ("prores", 4, 7, False),
        ("vp9", 5, 10, True),
        ("png", 7, 14, True),
        ("prores", 8, 17, True),
        ("vp9", 8, 17, False),
    ],
)
def test_it_goes_on_from_the_last_batch_that_was_painted(
    clip: Path, whole: Whole, tmp_path: Path, kind: str, calls: int, kept: int, calm: bool
) -> None:
    folder, options = tmp_path / "film", CALM if calm else FAST
    stop(clip, folder, kind, calls, options)
    read: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        real = Stylizer.read_batch

        def counted(stylizer: Stylizer, batch: Any, *more: Any) -> Any:
            read.extend(range(batch.index, batch.index + len(batch)))
            return real(stylizer, batch, *more)

        patch.setattr(Stylizer, "read_batch", counted)
        report = paint(clip, folder, kind, options=options)
    assert report.resumed_frames == kept
    assert read == list(range(kept, FRAMES)), "what counts is neither read nor painted again"
    assert same(folder, report, whole(kind, calm))


def test_stopped_within_one_segment_again_and_again(clip: Path, whole: Whole, tmp_path: Path) -> None:
    folder, kept = tmp_path / "film", []
    for calls in (2, 2, 2):
        stop(clip, folder, "png", calls, CALM)
        tail = Tail(parts_folder(folder / "out.mp4"), folder / "out.mp4")
        tail.go_on(0)
        kept.append(tail.frames)
    assert 0 < kept[0] < kept[1] < kept[2] < SEGMENT
    assert same(folder, paint(clip, folder, "png", options=CALM), whole("png", True))


@pytest.mark.parametrize("what", ["a byte", "no maps", "no note"])
@pytest.mark.parametrize(("calls", "left"), [(4, 0), (8, SEGMENT)])
def test_a_damaged_note_costs_what_is_not_in_a_segment(
    clip: Path, whole: Whole, tmp_path: Path, what: str, calls: int, left: int
) -> None:
    folder = tmp_path / "film"
    stop(clip, folder, "png", calls)
    path = parts_folder(folder / "out.mp4") / STATE
    if what == "a byte":
        data = bytearray(path.read_bytes())
        data[-3] ^= 1
        path.write_bytes(data)
    else:
        state = read_state(path)
        if what == "no note":
            state["noted"] = None
        else:
            del state["noted"]["read"]["maps"]
        write_state(path, state)
    said: list[str] = []
    report = paint(clip, folder, "png", say=said.append)
    assert report.resumed_frames == left
    words = f"going on after frame {left}"
    if what == "a byte":
        words += "; what was painted since is damaged"
        words = words if left else "starting afresh, for what was painted so far is damaged"
    elif not left:
        words = "starting afresh, for a part of it is missing"
    assert len(said) == 1
    assert words in said[0]
    assert same(folder, report, whole("png", False))


def test_references_of_a_shot_are_taken_on(clip: Path, whole: Whole, tmp_path: Path) -> None:
    """The frame that a shot's statistics are recorded from is before the one the job goes on with."""
    folder = tmp_path / "film"
    stop(clip, folder, "png", 8)  # the cut's frame is kept, three more are
    taken: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        real = read_parts.ReadPartsWriter.take

        def noted(writer: read_parts.ReadPartsWriter, kept: read_parts.Noted) -> None:
            taken.extend(kept.references)
            real(writer, kept)

        patch.setattr(read_parts.ReadPartsWriter, "take", noted)
        report = paint(clip, folder, "png")
    assert taken == ["000014.npz"]
    assert same(folder, report, whole("png", False))


@pytest.mark.parametrize("place", ["_append", "_count"])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_where_it_cannot_be_written_the_job_goes_on_without(
    clip: Path, whole: Whole, tmp_path: Path, place: str, error: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        breaks(patch, Tail, place, 2, OSError(error, "refused"))
        report = paint(clip, tmp_path / "film", "png")
    assert same(tmp_path / "film", report, whole("png", False))


def test_no_resume_keeps_none(clip: Path, whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any) -> None:
        raise AssertionError("kept")

    films = {name: data for name, data in whole("png", False)[0].items() if not name.endswith(".json")}
    monkeypatch.setattr(Tail, "_append", none)
    monkeypatch.setattr(read_parts.ReadPartsWriter, "noted", none)
    options = replace(FAST, output=replace(FAST.output, no_resume=True))
    paint(clip, tmp_path / "film", "png", options=options)
    assert films.items() <= contents(tmp_path / "film").items()


def test_stopped_while_frames_are_encoded_again_it_loses_none(clip: Path, whole: Whole, tmp_path: Path) -> None:
    folder = tmp_path / "film"
    stop(clip, folder, "prores", 5)
    with pytest.MonkeyPatch.context() as patch:
        breaks(patch, ProjectWriter, "_add", 2, Killed())  # four frames a time
        with pytest.raises(Killed):
            paint(clip, folder, "prores")
    report = paint(clip, folder, "prores")
    assert report.resumed_frames == 10
    assert same(folder, report, whole("prores", False))


def child(source: str, folder: str, kind: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        every_batch(patch)
        paint(Path(source), Path(folder), kind, options=CALM)


def test_killed_within_segments_it_goes_on_to_the_same_files(clip: Path, whole: Whole, tmp_path: Path) -> None:
    context, chance, resumed = multiprocessing.get_context("forkserver"), random.Random(5), 0
    for point in range(POINTS):
        folder, kind = tmp_path / str(point), ("png", "prores")[point % 2]
        words = (str(clip), str(folder), kind)
        after_s = chance.uniform(0, 0.6) if point else 0.0  # of which the first is within a segment on any machine
        killed_within_a_segment(context, child, words, folder / "out.mp4", after_s)
        report = paint(clip, folder, kind, options=CALM)
        resumed += report.resumed_frames % SEGMENT > 0
        assert same(folder, report, whole(kind, True))
    assert resumed
