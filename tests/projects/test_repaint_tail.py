"""A repaint that is stopped within a segment goes on from the frames it had, painted again or as they were."""

from __future__ import annotations

import multiprocessing
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import test_repaint as again
from faults import Killed, breaks, killed_within_a_segment
from test_repaint import EMBER, FRAMES, OPTIONS, SEGMENT, contents

from streamstyle import pipeline
from streamstyle.frames import FrameBatch
from streamstyle.job import Report
from streamstyle.media import tail
from streamstyle.media.journal import parts_folder
from streamstyle.media.tail import FRAMES as TAIL_FRAMES
from streamstyle.media.tail import Tail
from streamstyle.projects import change
from streamstyle.projects.pieces import Piece
from streamstyle.projects.project import FLOW, Project
from streamstyle.projects.repaint import repaint
from streamstyle.stylizer import Stylizer

pytestmark = [pytest.mark.weights, pytest.mark.usefixtures("networks")]
clip, saved, calmed = again.clip, again.saved, again.calmed
BATCH = 2
MOST_POINTS = 10


def every_batch(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(pipeline, "SEGMENT_FRAMES", (SEGMENT, SEGMENT))
    patch.setattr(change, "MOST_FRAMES", BATCH)
    patch.setattr(tail, "TAIL_BATCHES", 1)
    patch.setattr(tail, "TAIL_SHARE", float("inf"))


@pytest.fixture(autouse=True)
def every_batch_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    every_batch(monkeypatch)


def paint(clip: Path, held: Path, folder: Path, **more: Any) -> Report:
    folder.mkdir(exist_ok=True)
    return repaint(clip, folder / "out.mp4", Project(held), look=EMBER, save_project=folder / "next.sstyle", **more)


def stop(clip: Path, held: Path, folder: Path, calls: int, **more: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        breaks(patch, Stylizer, "end_painting", calls, Killed())
        with pytest.raises(Killed):
            paint(clip, held, folder, **more)


def same(folder: Path, report: Report, other: Path, wanted: Report) -> bool:
    """Byte for byte the same files, and the same told of them."""
    assert report.project is not None
    assert wanted.project is not None
    assert report.project | {"seconds": 0} == wanted.project | {"seconds": 0}
    assert [*report.warnings] == [*wanted.warnings]
    assert report.calm == wanted.calm
    return contents(folder) == contents(other)


# Without calm frames 8 to 13 are painted, in the second and the third of four segments; with it all are.
@pytest.mark.parametrize(
    ("calls", "kept", "calm"),
    [(0, 8, False), (1, 10, False), (2, 12, False), (2, 4, True), (4, 8, True), (11, 22, True)],
)
def test_it_goes_on_from_the_last_batch(
    clip: Path, saved: Path, calmed: Path, tmp_path: Path, calls: int, kept: int, calm: bool
) -> None:
    held = calmed if calm else saved
    wanted = paint(clip, held, tmp_path / "whole")
    stop(clip, held, tmp_path / "film", calls)
    left = Tail(parts_folder(tmp_path / "film/out.mp4"), tmp_path)
    left.go_on(kept // SEGMENT)
    assert left.frames == kept % SEGMENT
    numbers: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        real = change.Change._segment

        def counted(self: change.Change, *arguments: Any) -> Any:
            for piece in real(self, *arguments):
                assert isinstance(piece, Piece)
                numbers.extend(range(piece.batch.index, piece.batch.index + len(piece)))
                yield piece

        patch.setattr(change.Change, "_segment", counted)
        report = paint(clip, held, tmp_path / "film", overlap=calls != 4)
    assert report.resumed_frames == kept
    assert numbers == list(range(kept, FRAMES if calm else 18)), "what counts is neither decoded nor painted again"
    assert same(tmp_path / "film", report, tmp_path / "whole", wanted)


def test_stopped_within_one_segment_again_and_again(clip: Path, calmed: Path, tmp_path: Path) -> None:
    wanted = paint(clip, calmed, tmp_path / "whole")
    for calls in (1, 1, 2):
        stop(clip, calmed, tmp_path / "film", calls)
    report = paint(clip, calmed, tmp_path / "film")
    assert report.resumed_frames == 4 * BATCH
    assert same(tmp_path / "film", report, tmp_path / "whole", wanted)


def test_motion_that_is_damaged_is_told_once_and_read_once(clip: Path, calmed: Path, tmp_path: Path) -> None:
    held = again._other(calmed, tmp_path)
    again.spoil(held / FLOW / "000001.zip", 3)
    wanted = paint(clip, held, tmp_path / "whole")
    stop(clip, held, tmp_path / "film", 5)
    report = paint(clip, held, tmp_path / "film")
    assert report.resumed_frames == 10
    assert len(report.warnings) == 1
    assert same(tmp_path / "film", report, tmp_path / "whole", wanted)


def test_what_is_damaged_is_painted_again_and_told(clip: Path, saved: Path, tmp_path: Path) -> None:
    wanted = paint(clip, saved, tmp_path / "whole")
    stop(clip, saved, tmp_path / "film", 1)
    path = parts_folder(tmp_path / "film/out.mp4") / TAIL_FRAMES
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    said: list[str] = []
    report = paint(clip, saved, tmp_path / "film", say=said.append)
    assert report.resumed_frames == SEGMENT
    assert len(said) == 1
    assert said[0].endswith(f"going on after frame {SEGMENT}; what was painted since is damaged")
    assert same(tmp_path / "film", report, tmp_path / "whole", wanted)


def test_without_a_project_to_save(clip: Path, calmed: Path, tmp_path: Path) -> None:
    """Motion is read for calm, and is of no use to the frames that count."""
    kept: list[FrameBatch] = []
    with pytest.MonkeyPatch.context() as patch:
        real = Tail._append

        def counted(self: Tail, batch: FrameBatch) -> None:
            kept.append(batch)
            real(self, batch)

        patch.setattr(Tail, "_append", counted)
        breaks(patch, Stylizer, "end_painting", 4, Killed())
        with pytest.raises(Killed):
            repaint(clip, tmp_path / "out.mp4", Project(calmed), look=EMBER)
    assert kept
    assert not any(flow is not None for batch in kept for flow in batch.flows)
    dry = list[str]()
    repaint(clip, tmp_path / "out.mp4", Project(calmed), look=EMBER, dry_run=True, say=dry.append)
    assert [line.endswith("a run would go on after frame 8") for line in dry] == [True]
    report = repaint(clip, tmp_path / "out.mp4", Project(calmed), look=EMBER)
    assert report.resumed_frames == 8
    assert (tmp_path / "out.mp4").read_bytes() == clip.with_name("ember.mp4").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def test_no_resume_keeps_none(clip: Path, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any) -> None:
        raise AssertionError("kept")

    monkeypatch.setattr(Tail, "_append", none)
    options = replace(OPTIONS, output=replace(OPTIONS.output, no_resume=True))
    assert paint(clip, saved, tmp_path / "film", options=options).frames_out == FRAMES


def child(source: str, held: str, folder: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        every_batch(patch)
        paint(Path(source), Path(held), Path(folder))


def test_killed_within_segments_it_comes_out_byte_for_byte(clip: Path, calmed: Path, tmp_path: Path) -> None:
    wanted = paint(clip, calmed, tmp_path / "whole")
    context, chance, resumed = multiprocessing.get_context("forkserver"), random.Random(4), 0
    for point in range(MOST_POINTS):
        folder = tmp_path / str(point)
        words = (str(clip), str(calmed), str(folder))
        killed_within_a_segment(context, child, words, folder / "out.mp4", chance.uniform(0, 0.5))
        report = paint(clip, calmed, folder)
        resumed += report.resumed_frames % SEGMENT > 0
        assert same(folder, report, tmp_path / "whole", wanted)
        if resumed == 2:
            break
    assert resumed
