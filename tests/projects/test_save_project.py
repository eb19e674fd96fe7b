"""A project that is put in place: beside those of other films, and not at the cost of the one before."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from streamstyle.config import Options, OutputOptions
from streamstyle.look import Look, ObjectStyle
from streamstyle.projects.project import META
from streamstyle.projects.save_project import ProjectWriter


def writer(folder: Path, film: str) -> ProjectWriter:
    job: Any = SimpleNamespace(target=folder / film, encoder=SimpleNamespace(segment_suffix=".mp4"))
    look = Look(background="wave", objects=(ObjectStyle("it", "starry"),))
    return ProjectWriter(folder / "a.sstyle", job, look, Options(output=OutputOptions(overwrite=True)), {}, list)


def staged(project: ProjectWriter, text: str) -> None:
    project._folder.mkdir()
    (project._folder / META).write_text(text)


def test_two_films_saved_to_one_project_leave_each_others_parts(tmp_path: Path) -> None:
    one, other = writer(tmp_path, "one.mp4"), writer(tmp_path, "other.mp4")
    staged(one, "one")
    staged(other, "other")
    other.clear()
    one.place()
    one.clear()
    assert (tmp_path / "a.sstyle" / META).read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["a.sstyle"]


def test_put_back_the_project_of_before_is_there(tmp_path: Path) -> None:
    for before in (None, "before"):
        project = writer(tmp_path, "one.mp4")
        staged(project, "now")
        project.place()
        assert (tmp_path / "a.sstyle" / META).read_text() == "now"
        project.put_back()
        project.clear()
        assert (tmp_path / "a.sstyle").exists() == (before is not None)
        if before is None:
            (tmp_path / "a.sstyle").mkdir()
            (tmp_path / "a.sstyle" / META).write_text("before")
    assert (tmp_path / "a.sstyle" / META).read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["a.sstyle"]
