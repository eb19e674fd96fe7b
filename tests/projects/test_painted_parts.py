"""A segment's painted frames and their motion: written, taken from a project, put into one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from streamstyle.frames import FrameBatch
from streamstyle.media.flow_track import FlowTrack
from streamstyle.media.lossless import read_lossless
from streamstyle.painting.calm_flow import STEPS_PER_PX
from streamstyle.projects.painted_parts import NAMES, PaintedWriter, put_painted, take_painted
from streamstyle.projects.project import FLOW, PAINTED, Project

FILM = {"size_bytes": 9, "changed_ns": 1, "blake2b": "ab"}
FLOWS = [None, np.full((2, 3, 2), 5, np.int16), None, np.full((2, 3, 2), -7, np.int16)]


def batch(at: int, flows: list[Any]) -> FrameBatch:
    y, c = np.full((len(flows), 8, 12), 50 + at, np.uint8), np.full((len(flows), 4, 6), 128, np.uint8)
    return FrameBatch(y, c, c, tuple(range(at, at + len(flows))), at, flows=flows)


def write(folder: Path, flows: list[Any], every: int = 3) -> None:
    folder.mkdir(parents=True)
    writer = PaintedWriter(folder, (12, 8), FILM)
    for at in range(0, len(flows), every):
        writer.add(batch(at, flows[at : at + every]))
    writer.finish()


def test_motion_is_found_by_the_frames_number_in_its_segment(tmp_path: Path) -> None:
    write(tmp_path / "a", FLOWS)
    assert len(list(read_lossless(tmp_path / "a" / NAMES[PAINTED], (12, 8)))) == 4
    with FlowTrack(tmp_path / "a" / NAMES[FLOW], (2, 3), STEPS_PER_PX, FILM, 0) as track:
        for number, flow in enumerate(FLOWS):
            np.testing.assert_array_equal(track.frame(number), flow)


def test_without_motion_there_is_no_file_of_it(tmp_path: Path) -> None:
    for name, flows in (("a", [None, None]), ("b", [])):
        folder = tmp_path / name
        folder.mkdir()
        writer = PaintedWriter(folder, (12, 8), FILM)
        writer.add(FrameBatch(*(batch(0, [None, None]).__dict__[p] for p in "yuv"), (0, 1), flows=flows))
        writer.finish()
        assert [path.name for path in folder.iterdir()] == [NAMES[PAINTED]]
    writer = PaintedWriter(tmp_path / "b", (12, 8), FILM)
    writer.add(batch(0, FLOWS))
    writer.abandon()


def test_from_a_project_to_the_next(tmp_path: Path) -> None:
    write(tmp_path / "a", FLOWS)
    (tmp_path / "film.sstyle").mkdir()
    put_painted(tmp_path / "a", tmp_path / "film.sstyle", 3)
    held = {path.relative_to(tmp_path / "film.sstyle").as_posix() for path in (tmp_path / "film.sstyle").rglob("*.*")}
    assert held == {"painted/000003.mkv", "flow/000003.zip"}
    project: Any = Project.__new__(Project)
    project.path = tmp_path / "film.sstyle"
    project.files = {name: (project.path / name).stat().st_size for name in held} | {"encoded/000000.mp4": 0}
    for name, flow, parts in (("b", True, [*NAMES.values()]), ("c", False, [NAMES[PAINTED]])):
        (tmp_path / name).mkdir()
        take_painted(project, 3, tmp_path / name, flow=flow)
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == sorted(parts)
        assert all((tmp_path / name / p).read_bytes() == (tmp_path / "a" / p).read_bytes() for p in parts)
