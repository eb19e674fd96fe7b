"""What a run would make of an earlier one's work is told beforehand, comes true, and looking changes nothing."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
from faults import Killed

from streamstyle.errors import OutputError
from streamstyle.frames import Checkpoint, Faults, FrameBatch
from streamstyle.media.closed import Segment
from streamstyle.media.earlier import Earlier
from streamstyle.media.journal import JOURNAL, parts_folder, state_file
from streamstyle.media.segments import WorkFolder
from streamstyle.media.tail import FRAMES, STATE, Tail

JOB = {"options": {"output": {"crf": 20}}}
OTHER_JOB = {"options": {"output": {"crf": 30}}}
SEGMENT_FRAMES, TAIL_FRAMES = 4, 3


def left(target: Path, segments: int, *, tail: bool = False) -> Path:
    """The work folder of a job that was killed after so many segments, and perhaps some frames more."""
    with contextlib.suppress(Killed), WorkFolder(target, JOB) as folder:
        for number in range(segments):
            folder.file(number).write_bytes(b"pictures")
            (folder.make_beside(number, "layers") / "swan.mov").write_bytes(b"layer")
            segment = Segment(number, SEGMENT_FRAMES, 40 * number, 40 * number + 30, 8)
            folder.add(segment, Checkpoint(40 * number + 30, number, {"age": number}, Faults()))
        if tail:
            planes = [np.full((TAIL_FRAMES, 4, 6), 7, np.uint8)] + [np.full((TAIL_FRAMES, 2, 3), 9, np.uint8)] * 2
            at = Checkpoint(99, 1, {"age": 9}, Faults(), closes=False)
            index = segments * SEGMENT_FRAMES
            batch = FrameBatch(*planes, (1, 2, 3), index, checkpoint=at)
            list(folder.tail.keep((each for each in [batch]), segments, index))
        raise Killed
    return parts_folder(target)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def flip(path: Path, at: int = -3) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


ODD_BUT_WHOLE = ("{}", '{"placing": {}, "note": {}}')  # a line that says nothing takes nothing away
CASES = {
    # what: closed segments, a tail, what would be and what is said, after the folder's name
    "nothing": (0, False, None, None),
    "segments": (2, False, "a run would go on after frame 8", "going on after frame 8"),
    "a tail": (0, True, "a run would go on after frame 3", "going on after frame 3"),
    "both": (2, True, "a run would go on after frame 11", "going on after frame 11"),
    "damaged tail": (
        2,
        True,
        "a run would go on after frame 8; what was painted since is damaged",
        "going on after frame 8; what was painted since is damaged",
    ),
    "damaged tail alone": (
        0,
        True,
        "a run would start afresh, for what was painted so far is damaged",
        "starting afresh, for what was painted so far is damaged",
    ),
    **dict.fromkeys(
        ("no segment", "short segment", "damaged segment", "no layer", "damaged state", "odd journal"),
        (
            2,
            True,
            "a run would start afresh, for a part of it is missing or damaged, and lose the 11 frames that are kept",
            "starting afresh, for a part of it is missing or damaged; 11 frames that were kept are gone",
        ),
    ),
    "garbled line": (
        2,
        True,
        "a run would start afresh, for its journal is damaged, and lose the 4 frames that are kept",
        "starting afresh, for its journal is damaged; 4 frames that were kept are gone",
    ),
    "a line more": (
        2,
        True,
        "a run would go on after frame 11; its journal is damaged from there on",
        "going on after frame 11; its journal is damaged from there on",
    ),
    "first line garbled": (
        0,
        True,
        "a run would start afresh, for its journal is damaged, and lose the 3 frames that are kept",
        "starting afresh, for its journal is damaged; 3 frames that were kept are gone",
    ),
    "another job": (
        2,
        True,
        "a run would start afresh, for --crf changed since, and lose the 11 frames that are kept",
        "starting afresh, for --crf changed since; 11 frames that were kept are gone",
    ),
    "no resume": (
        2,
        True,
        "a run would start afresh, for --no-resume is given, and lose the 11 frames that are kept",
        "starting afresh, for --no-resume is given; 11 frames that were kept are gone",
    ),
    "no resume, nothing kept": (0, False, None, None),
    "another job, nothing kept": (
        0,
        False,
        "a run would start afresh, for --crf changed since",
        "starting afresh, for --crf changed since",
    ),
    "torn journal, nothing kept": (
        0,
        False,
        "a run would start afresh, for its journal is damaged",
        "starting afresh, for its journal is damaged",
    ),
}


@pytest.mark.parametrize("what", CASES)
def test_what_is_told_comes_true(tmp_path: Path, what: str) -> None:
    segments, tail, would, does = CASES[what]
    target = tmp_path / "out.mp4"
    folder = parts_folder(target)
    if segments or tail:
        left(target, segments, tail=tail)
    elif what != "nothing":  # killed before the first frame was kept
        folder.mkdir()
        (folder / JOURNAL).write_text("{" if what.startswith("torn") else json.dumps({"job": JOB}) + "\n")
    if what.startswith("damaged tail"):
        flip(folder / FRAMES)
    elif what == "damaged state":
        flip(state_file(folder, segments - 1))
    elif what == "no segment":
        (folder / "000000.mp4").unlink()
    elif what == "short segment":
        (folder / "000001.mp4").write_bytes(b"pict")
    elif what == "damaged segment":
        flip(folder / "000000.mp4")
    elif what == "no layer":
        (folder / "000000" / "layers" / "swan.mov").unlink()
    elif what == "a line more":
        with open(folder / JOURNAL, "a") as journal:
            journal.write("?\n")
    elif what in ("garbled line", "first line garbled"):
        lines = (folder / JOURNAL).read_text().splitlines()
        lines[2 if segments else 0] = "?" + lines[2 if segments else 0][1:]
        (folder / JOURNAL).write_text("".join(line + "\n" for line in lines))
    elif what == "odd journal":  # whole, of this version, and not what it writes
        lines = [json.loads(line) for line in (folder / JOURNAL).read_text().splitlines()]
        del lines[1]["segment"]["size_bytes"]
        (folder / JOURNAL).write_text("".join(json.dumps(line) + "\n" for line in lines))
    job = OTHER_JOB if what.startswith("another job") else JOB
    said, before = list[str](), contents(tmp_path)
    work = WorkFolder(target, job, resume=not what.startswith("no resume"), say=said.append)
    assert work.prospect() == (None if would is None else f"{folder}: {would}")
    assert contents(tmp_path) == before
    assert said == []
    with work:
        kept = 0 if does is None or "afresh" in does else int(does.split()[4].strip(";"))
        assert (work.kept_frames, work.resumed_frames) == (kept, kept)
    assert said == ([] if does is None else [f"{folder}: {does}"])


def test_it_tells_what_is_there(tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    folder = left(target, 2, tail=True)
    earlier = Earlier.read(folder, target, ".mp4", JOB)
    assert (earlier.complete, earlier.hindrance, earlier.placed.note) == (False, None, None)
    assert [segment.number for segment in earlier.segments] == [0, 1]
    assert (earlier.frames, earlier.tail.frames) == (11, TAIL_FRAMES)
    assert earlier.checkpoint is not None
    assert (earlier.checkpoint.pts, earlier.checkpoint.state) == (70, {"age": 1})
    assert {STATE, FRAMES} <= {path.name for path in folder.iterdir()}
    with open(folder / JOURNAL, "a") as journal:
        journal.write('{"complete": true}\n')
    earlier = Earlier.read(folder, target, ".mp4", JOB)
    assert (earlier.complete, earlier.frames) == (True, 8)  # nothing can have been painted since


@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize(
    "odd",
    [
        '{"job": 5}',
        "[1]",
        '{"segment": null}',
        '{"segment": {"frames": null}}',
        '"job"',
        '{"placing": {}}',
        '{"placing": {}, "note": {}}',
        '{"placing": [], "note": {}}',
        '{"placing": {"a": 1}, "note": 5}',
        "{}",
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_a_journal_of_whatever_lines_is_begun_anew(tmp_path: Path, odd: str, first: bool, resume: bool) -> None:
    target, said = tmp_path / "out.mp4", list[str]()
    folder = left(target, 2)
    lines = (folder / JOURNAL).read_text().splitlines()
    lines.insert(0 if first else 2, odd)
    (folder / JOURNAL).write_text("".join(line + "\n" for line in lines))
    work = WorkFolder(target, JOB, resume=resume, say=said.append)
    work.prospect()
    with work:
        assert work.kept_frames == (2 * SEGMENT_FRAMES if resume and odd in ODD_BUT_WHOLE and not first else 0)
        assert json.loads((folder / JOURNAL).read_text().splitlines()[0])["job"] == JOB
    assert not folder.exists()
    counted = not first  # else the journal is torn from its beginning, and nobody knows of frames
    assert len(said) == (1 if resume or counted else 0)


@pytest.mark.parametrize("what", ["damaged tail", "torn journal", "whole"])
def test_a_job_that_is_refused_leaves_what_was_there(tmp_path: Path, what: str) -> None:
    target = tmp_path / "out.mp4"
    folder = left(target, 0 if what == "damaged tail" else 2, tail=True)
    if what == "damaged tail":
        flip(folder / FRAMES)
    elif what == "torn journal":
        (folder / JOURNAL).write_text("{" + (folder / JOURNAL).read_text())
    target.write_bytes(b"mine")
    before = contents(tmp_path)
    with pytest.raises(OutputError, match="exists; add --overwrite"):
        WorkFolder(target, JOB, overwrite=False).__enter__()
    assert contents(tmp_path) == before


@pytest.mark.parametrize("lost", [False, True])
def test_a_film_that_is_in_place_is_told_of(tmp_path: Path, lost: bool) -> None:
    target, said = tmp_path / "out.mp4", list[str]()
    folder = left(target, 2)
    with contextlib.suppress(Killed), WorkFolder(target, JOB) as work:
        work.finish()
        joined = folder / "joined.mp4"
        joined.write_bytes(b"film")
        work.hand_over(joined, {"frames": 8})
        raise Killed
    if lost:
        (folder / "000000.mp4").unlink()
    assert WorkFolder(target, JOB).prospect() == f"{folder}: a run would find the film whole, and remove this folder"
    with WorkFolder(target, JOB, overwrite=False, say=said.append) as work:
        assert work.placed == {"frames": 8}
    assert said == [f"{target}: is whole; what an earlier run left beside it is removed"]
    assert contents(tmp_path) == {"out.mp4": b"film"}


def test_what_a_run_is_refused_for_is_refused_beforehand(tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    folder = left(target, 1)
    with WorkFolder(target, JOB), pytest.raises(OutputError, match="another streamstyle is writing this film"):
        WorkFolder(target, JOB).prospect()
    assert not folder.exists()
    with contextlib.suppress(Killed), WorkFolder(target, JOB) as work:
        work.finish()
        (folder / "joined.mp4").write_bytes(b"film")
        work.hand_over(folder / "joined.mp4", {"frames": 4})
        raise Killed
    for job, resume in ((OTHER_JOB, True), (JOB, False)):  # of which what is in place is not
        for look in ("prospect", "__enter__"):
            with pytest.raises(OutputError, match="exists; add --overwrite"):
                getattr(WorkFolder(target, job, resume=resume, overwrite=False), look)()
    with WorkFolder(target, JOB):
        pass
    target.unlink()
    folder.mkdir()
    (folder / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(OutputError, match="is in the way"):
        WorkFolder(target, JOB).prospect()
    assert contents(tmp_path) == {"out.mp4.parts/holiday.jpg": b"mine"}


def test_stopped_while_it_looks_it_lets_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "out.mp4"
    folder = left(target, 1, tail=True)

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Tail, "go_on", stopped)
        for look in (WorkFolder(target, JOB).__enter__, WorkFolder(target, JOB).prospect):
            with pytest.raises(KeyboardInterrupt):
                look()
    with WorkFolder(target, JOB) as work:
        assert work.kept_frames == SEGMENT_FRAMES + TAIL_FRAMES
    assert not folder.exists()
