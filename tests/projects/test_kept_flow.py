"""Motion of a project: by the frame's number in its segment; what is not there or not whole is not known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamstyle.media.flow_track import FlowTrackWriter
from streamstyle.painting.calm_flow import STEPS_PER_PX
from streamstyle.projects.kept_flow import KeptFlow
from streamstyle.projects.project import FLOW, Project, file_name

FLOW_SIZE = (45, 80)  # of a film of 160x90
ONE = np.arange(2 * 45 * 80, dtype=np.int16).reshape(*FLOW_SIZE, 2)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """One that has the motion of frame 2 of segments 0, 1 and 2."""
    project: Any = Project.__new__(Project)
    project.path, project.size, project.files = tmp_path, (160, 90), {"encoded/000000.mp4": 1}
    (tmp_path / FLOW).mkdir()
    for number in range(3):
        name = file_name(FLOW, number, "")
        writer = FlowTrackWriter(tmp_path / name, STEPS_PER_PX)
        writer.add(2, ONE)
        writer.finish()
        project.files[name] = (tmp_path / name).stat().st_size
    return project


def test_what_is_known_is_given_and_what_is_not_is_no_fault(project: Project) -> None:
    kept = KeptFlow(project)
    with kept.of(1) as flow:
        np.testing.assert_array_equal(flow(2), ONE)
        assert flow(1) is None
    with kept.of(7) as flow:
        assert flow(0) is None
    assert kept.warnings() == []


def test_faults_are_one_line_however_many(project: Project) -> None:
    kept = KeptFlow(project)
    (project.path / FLOW / "000000.zip").write_bytes(b"")
    (project.path / FLOW / "000002.zip").unlink()
    for number, known in ((0, False), (1, True), (2, False), (0, False)):
        with kept.of(number) as flow:
            assert (flow(2) is not None) == known
        if number == 0:
            (line,) = kept.warnings()
            assert line.startswith(f"{project.path / FLOW / '000000.zip'}: cannot be read (")
    (line,) = kept.warnings()
    assert line.endswith(", and of 1 more segments; flow is searched for anew there")


def test_motion_of_another_size_is_not_taken(project: Project) -> None:
    project.size = (1280, 720)
    kept = KeptFlow(project)
    with kept.of(0) as flow:
        assert flow(2) is None
    assert "not the flow track wanted (of [45, 80]" in kept.warnings()[0]
