"""What a run would make of an earlier one's work is told beforehand, comes true, and looking changes nothing."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest

from streamstyle.frames import Checkpoint, Faults, FrameBatch
from streamstyle.media.closed import Segment
from streamstyle.media.earlier import Earlier, state_file
from streamstyle.media.journal import JOURNAL, parts_folder
from streamstyle.media.segments import WorkFolder
from streamstyle.media.tail import FRAMES, STATE

JOB = {"options": {"output": {"crf": 20}}}
SEGMENT_FRAMES, TAIL_FRAMES = 4, 3


class Killed(BaseException):
    """Nobody handles it."""


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
        ("no segment", "short segment", "no layer", "damaged state", "odd journal"),
        (
            2,
            True,
            "a run would start afresh, for a part of it is missing or damaged, and lose the 11 frames that are kept",
            "starting afresh, for a part of it is missing or damaged; 11 frames that were kept are gone",
        ),
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
}


@pytest.mark.parametrize("what", CASES)
def test_what_is_told_comes_true(tmp_path: Path, what: str) -> None:
    segments, tail, would, does = CASES[what]
    target = tmp_path / "out.mp4"
    folder = parts_folder(target) if what == "nothing" else left(target, segments, tail=tail)
    if what.startswith("damaged tail"):
        flip(folder / FRAMES)
    elif what == "damaged state":
        flip(state_file(folder, segments - 1))
    elif what == "no segment":
        (folder / "000000.mp4").unlink()
    elif what == "short segment":
        (folder / "000001.mp4").write_bytes(b"pict")
    elif what == "no layer":
        (folder / "000000" / "layers" / "swan.mov").unlink()
    elif what == "odd journal":  # whole, of this version, and not what it writes
        lines = [json.loads(line) for line in (folder / JOURNAL).read_text().splitlines()]
        del lines[1]["segment"]["size_bytes"]
        (folder / JOURNAL).write_text("".join(json.dumps(line) + "\n" for line in lines))
    job = {"options": {"output": {"crf": 30}}} if what == "another job" else JOB
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
    assert (earlier.same, earlier.complete, earlier.hindrance) == (True, False, None)
    assert [segment.number for segment in earlier.segments] == [0, 1]
    assert (earlier.frames, earlier.tail.frames) == (11, TAIL_FRAMES)
    assert earlier.checkpoint is not None
    assert (earlier.checkpoint.pts, earlier.checkpoint.state) == (70, {"age": 1})
    assert {STATE, FRAMES} <= {path.name for path in folder.iterdir()}
    with open(folder / JOURNAL, "a") as journal:
        journal.write('{"complete": true}\n')
    earlier = Earlier.read(folder, target, ".mp4", JOB)
    assert (earlier.complete, earlier.frames) == (True, 8)  # nothing can have been painted since
