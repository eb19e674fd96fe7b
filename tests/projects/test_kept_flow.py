"""Motion of a project: by the frame's number in its segment; what is not there or not whole is not known."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamstyle.media.closed import Segment
from streamstyle.media.flow_track import FlowTrackWriter
from streamstyle.painting.calm_flow import STEPS_PER_PX
from streamstyle.projects.kept_flow import KeptFlow
from streamstyle.projects.project import FLOW, Project, ProjectSegment, file_name

FLOW_SIZE = (45, 80)  # of a film of 160x90
ONE = np.arange(2 * 45 * 80, dtype=np.int16).reshape(*FLOW_SIZE, 2)
FILM = {"size_bytes": 9, "changed_ns": 1, "blake2b": "ab"}
LEFT_OUT = "left out of the project that is saved"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """One that has the motion of frame 2 of segments 0, 1 and 2, of four frames each; segment 3 has none."""
    project: Any = Project.__new__(Project)
    project.path, project.size, project.files, project.film = tmp_path, (160, 90), {"encoded/000000.mp4": 1}, FILM
    project.segments = [
        ProjectSegment(Segment(number, 4, 40 * number, 40 * number + 30, 1), 0, None)  # type: ignore[arg-type]
        for number in range(4)
    ]
    (tmp_path / FLOW).mkdir()
    for number in range(3):
        name = file_name(FLOW, number, "")
        writer = FlowTrackWriter(tmp_path / name, STEPS_PER_PX, FILM, 40 * number)
        writer.add(2, ONE)
        writer.finish()
        project.files[name] = (tmp_path / name).stat().st_size
    return project


def test_what_is_known_is_given_and_what_is_not_is_no_fault(project: Project) -> None:
    kept = KeptFlow(project)
    np.testing.assert_array_equal(kept.frame(1, 2, calmed=True), ONE)
    assert kept.frame(1, 1, calmed=True) is None
    assert kept.frame(3, 0, calmed=True) is None
    kept.check(2)
    kept.check(3)
    assert kept.whole == {2}
    assert kept.warnings() == []
    assert kept.bytes_read == project.bytes_of(FLOW, 1) + project.bytes_of(FLOW, 2)
    kept.close()


def test_faults_are_one_line_however_many(project: Project) -> None:
    kept = KeptFlow(project)
    (project.path / FLOW / "000000.zip").write_bytes(b"")
    (project.path / FLOW / "000002.zip").unlink()
    for number, known in ((0, False), (1, True), (2, False), (0, False)):
        assert (kept.frame(number, 2, calmed=True) is not None) == known
        if number == 0:
            (line,) = kept.warnings()
            assert line.startswith(f"{project.path / FLOW / '000000.zip'}: cannot be read (")
    (line,) = kept.warnings()
    assert line.endswith(", and of 1 more segments; flow is searched for anew there")
    assert kept.bytes_read == project.bytes_of(FLOW, 1)
    kept.close()


def test_motion_of_another_size_is_not_taken(project: Project) -> None:
    project.size = (1280, 720)
    kept = KeptFlow(project)
    assert kept.frame(0, 2, calmed=True) is None
    assert "not the flow track wanted (of [45, 80]" in kept.warnings()[0]


def test_one_segments_motion_in_place_of_anothers_is_not_taken(project: Project) -> None:
    shutil.copy(project.path / FLOW / "000001.zip", project.path / FLOW / "000002.zip")
    kept = KeptFlow(project)
    assert kept.frame(2, 2, calmed=True) is None
    assert "of another film, or another stretch of it" in kept.warnings()[0]


@pytest.mark.parametrize("damage", ["longer", "flipped"])
def test_what_goes_into_another_project_is_whole(project: Project, damage: str) -> None:
    file = project.path / FLOW / "000001.zip"
    content = file.read_bytes()
    at = content.index(b"000002") + 40
    flipped = content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :]
    if damage == "longer":
        project.files["flow/000001.zip"] += 1
    file.write_bytes({"longer": content, "flipped": flipped}[damage])
    kept = KeptFlow(project)
    for number in range(4):
        kept.check(number)
    assert kept.whole == {0, 2}
    assert kept.warnings()[0].endswith(f"; flow is {LEFT_OUT}")
    kept.close()


def test_what_becomes_of_damage_is_told_as_it_is(project: Project) -> None:
    (project.path / FLOW / "000001.zip").write_bytes(b"")

    def told(*calmed: bool) -> str:
        kept = KeptFlow(project)
        for each in calmed:
            kept.frame(1, 2, calmed=each)
        again = KeptFlow(project)
        again.load_state_dict(json.loads(json.dumps(kept.state_dict())))
        assert (again.warnings(), again.bytes_read) == (kept.warnings(), kept.bytes_read)
        return kept.warnings()[0].partition("; ")[2]

    assert told(True) == "flow is searched for anew there"
    assert told(False) == f"flow is {LEFT_OUT}"
    assert told(False, True) == f"flow is searched for anew there where frames are calmed again, else {LEFT_OUT}"
