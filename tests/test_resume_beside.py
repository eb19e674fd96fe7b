"""A job with layers, or with a project, goes on to the very files it would have written, wherever it was stopped."""

from __future__ import annotations

import errno
import multiprocessing
import os
import random
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from clips import draw_mottled, make_clip
from faults import Killed, breaks

from streamstyle import pipeline
from streamstyle.config import AnalysisOptions, Options, OutputOptions, StyleOptions
from streamstyle.errors import OutputError
from streamstyle.job import Report
from streamstyle.look import Look, ObjectStyle
from streamstyle.media import label_track, tail
from streamstyle.media.journal import JOURNAL, parts_folder
from streamstyle.pipeline import stylize
from streamstyle.projects.project import FLOW, LABELS

pytestmark = [pytest.mark.weights, pytest.mark.usefixtures("networks")]
FRAMES, SEGMENT = 20, 4
FORMATS = ("prores", "vp9", "png")
LOOK = Look(
    background="wave",
    foreground="none",
    objects=(ObjectStyle("it", "starry", (19, 36)), ObjectStyle("late", "ember", (54, 36), at_s=0.55)),
)
FAST = Options(
    AnalysisOptions(analyse_every=3),
    StyleOptions(precision="float32"),  # as projects are painted
    output=OutputOptions(preset="ultrafast"),
)


@pytest.fixture(autouse=True)
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "SEGMENT_FRAMES", (SEGMENT, SEGMENT))
    monkeypatch.setattr(tail, "TAIL_BATCHES", float("inf"))  # what counts within a segment is told by no clock


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disc that moves, and a cut in the middle of a segment; times are uneven."""

    def picture(i: int, size: tuple[int, int]) -> Any:
        return draw_mottled(i, size) if i < 14 else 255 - draw_mottled(i, size)

    path = tmp_path_factory.mktemp("film") / "in.mp4"
    return make_clip(path, frames=FRAMES, size=(96, 72), pts=[i + i // 7 for i in range(FRAMES)], picture=picture)


def paint(clip: Path, folder: Path, kind: str | None, **how: Any) -> Report:
    """A film, its layers of a kind and a project of it, all in a folder."""
    folder.mkdir(exist_ok=True)
    said: dict[str, Any] = {"look": LOOK, "options": FAST, "save_project": folder / "film.sstyle"} | how
    if kind is not None:
        beside = {"layers": folder / "layers", "layer_format": kind}
        said["options"] = replace(said["options"], output=replace(said["options"].output, **beside))
    return stylize(clip, folder / "out.mp4", **said)


@pytest.fixture(scope="module")
def whole(clip: Path, cached: None, networks: None) -> Any:
    """What a job that nothing happens to makes, by the layers' format."""
    made: dict[str, tuple[dict[str, bytes], Report]] = {}

    def of(kind: str) -> tuple[dict[str, bytes], Report]:
        if kind not in made:
            folder = clip.with_name(kind)
            report = paint(clip, folder, kind)
            made[kind] = contents(folder), report
        return made[kind]

    return of


def contents(folder: Path) -> dict[str, bytes]:
    """All files in a folder; of a project's description what does not name the folder."""
    files = {str(file.relative_to(folder)): file for file in folder.rglob("*") if file.is_file()}
    return {
        name: file.read_bytes().replace(str(folder).encode(), b"") for name, file in files.items() if file.is_file()
    }


def owner_of(where: str) -> tuple[Any, str]:
    """The class or module of a function, and its name there, from the dotted whole."""
    path, _, name = where.rpartition(".")
    module, _, cls = path.rpartition(".")
    return (os if path == "os" else getattr(__import__(module, fromlist=[cls]), cls)), name


def same(folder: Path, report: Report, wanted: tuple[dict[str, bytes], Report]) -> bool:
    """Whether a folder has a whole job's films, layers and project to the byte, and nothing else."""
    told = [(layer.name, layer.frames) for layer in report.layers]
    assert told == [(layer.name, layer.frames) for layer in wanted[1].layers]
    assert (report.objects, report.project) == (wanted[1].objects, wanted[1].project)
    found = contents(folder)
    assert found.keys() == wanted[0].keys()
    assert [name for name in found if found[name] != wanted[0][name]] == []
    return True


WRITERS = {"png": "PictureWriter", "prores": "FilmWriter", "vp9": "FilmWriter"}
PLACES: list[tuple[str, int]] = [
    ("streamstyle.media.layer_writers.WRITER.write", 3 * FRAMES),
    ("streamstyle.media.layer_writers.WRITER.finish", 12),
    ("streamstyle.media.layers.LayerFilms._close", 5),
    ("streamstyle.media.layers.LayerFilms._join", 3),
    ("streamstyle.media.layers.LayerFilms._place", 3),
    ("streamstyle.projects.save_project.ProjectWriter.read", 8),
    ("streamstyle.projects.save_project.ProjectWriter._add", 8),
    ("streamstyle.projects.save_project.ProjectWriter._fill", 1),
    ("streamstyle.projects.save_project.ProjectWriter.place", 1),
    ("streamstyle.media.label_track.LabelTrackWriter._finish", 6),
    ("streamstyle.media.segments.WorkFolder.add", 5),
    ("streamstyle.media.segments.WorkFolder._append", 7),
    ("os.rename", 1),
    ("os.replace", 8),
]


@pytest.mark.parametrize("point", range(len(PLACES)))
def test_stopped_anywhere_it_goes_on_to_the_same_files(
    clip: Path, whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: int
) -> None:
    (place, most), kind, chance = PLACES[point], FORMATS[point % 3], random.Random(point)
    with monkeypatch.context() as patch:
        breaks(patch, *owner_of(place.replace("WRITER", WRITERS[kind])), chance.randrange(most), Killed())
        with pytest.raises(Killed):
            paint(clip, tmp_path / "film", kind)
    assert not (tmp_path / "film" / "out.mp4").exists()
    report = paint(clip, tmp_path / "film", kind)
    assert same(tmp_path / "film", report, whole(kind))


@pytest.mark.parametrize(
    ("place", "after"),
    [("streamstyle.stylizer.Stylizer.read_batch", 5), ("streamstyle.media.flow_track.FlowTrackWriter.add", 7)],
)
def test_stopped_again_and_again_with_calm(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, after: int
) -> None:
    calm = replace(FAST, painting=StyleOptions(calm=1))
    wanted = paint(clip, tmp_path / "whole", "png", options=calm)
    assert len(list((tmp_path / "whole" / "film.sstyle" / FLOW).iterdir())) == FRAMES // SEGMENT
    report = None
    while report is None:
        with monkeypatch.context() as patch:
            breaks(patch, *owner_of(place), after, Killed())
            try:
                report = paint(clip, tmp_path / "film", "png", options=calm)
            except Killed:
                continue
    assert report.resumed_frames > FRAMES / 2
    assert same(tmp_path / "film", report, (contents(tmp_path / "whole"), wanted))


# -- a process that is killed ---------------------------------------------------------------------------------------


def child(clip: str, folder: str, kind: str) -> None:
    """A job in a process of its own; with PNG files, one with calm."""
    pipeline.SEGMENT_FRAMES, tail.TAIL_BATCHES = (SEGMENT, SEGMENT), float("inf")
    painting = replace(FAST.painting, calm=0.7 if kind == "png" else 0.0)
    paint(Path(clip), Path(folder), kind, options=replace(FAST, painting=painting))


def run(clip: Path, folder: Path, kind: str, kill: tuple[int, float] | None = None) -> None:
    """A child process, to its end; or killed so many seconds after its journal had so many lines."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["test_resume_beside", "streamstyle.pipeline"])
    process = context.Process(target=child, args=(str(clip), str(folder), kind))
    process.start()
    if kill is not None:
        journal = parts_folder(folder / "out.mp4") / JOURNAL
        while process.is_alive() and (not journal.exists() or lines_of(journal) < kill[0]):
            time.sleep(0.002)
        process.join(kill[1])
        process.kill()
    process.join()
    assert kill is not None or process.exitcode == 0
    process.close()


def lines_of(journal: Path) -> int:
    try:
        return journal.read_bytes().count(b"\n")
    except FileNotFoundError:
        return 99  # the film is whole


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
@pytest.mark.parametrize("kind", FORMATS)
def test_killed_it_goes_on_to_the_same_files(clip: Path, tmp_path: Path, kind: str) -> None:
    run(clip, tmp_path / "whole", kind)
    wanted, chance = contents(tmp_path / "whole"), random.Random(kind)
    assert any(name.startswith(f"film.sstyle/{FLOW}/") for name in wanted) == (kind == "png")
    for point in range(2):
        folder = tmp_path / str(point)
        run(clip, folder, kind, kill=(chance.choice([2, 4, 6, 7, 8]), chance.uniform(0, 0.1)))
        if not (folder / "out.mp4").exists():
            run(clip, folder, kind)
        assert {name for name in contents(folder) if ".parts/" not in name} == wanted.keys()
        assert all(contents(folder)[name] == wanted[name] for name in wanted)


# -- what must not be gone on with ------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["format", "folder", "no layers", "project", "a part", "a note", "a reading"])
def test_what_changed_starts_afresh_and_is_told(
    clip: Path, whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    folder, said, kind = tmp_path / "film", list[str](), "prores" if what == "format" else "png"
    with monkeypatch.context() as patch:
        breaks(patch, *owner_of("streamstyle.media.segments.WorkFolder.add"), 3, Killed())
        with pytest.raises(Killed):
            paint(clip, folder, kind)
    how: dict[str, Any] = {}
    if what == "folder":
        how = {"options": replace(FAST, output=replace(FAST.output, layers=folder / "others", layer_format="png"))}
    elif what == "project":
        how = {"save_project": None}
    elif what == "a part":
        next(parts_folder(folder / "out.mp4").glob("000001/layers/it/*.png")).unlink()
    elif what in ("a note", "a reading"):
        name = {"a note": "000001/layers.json", "a reading": "000001/project/read.safetensors"}[what]
        noted = parts_folder(folder / "out.mp4") / name
        noted.write_bytes(bytes(noted.stat().st_size))
    asked = None if what in ("folder", "no layers") else "png"
    report = paint(clip, folder, asked, say=said.append, **how)
    reason = {
        "format": "for --layer-format changed since",
        "folder": "for --layers changed since",
        "no layers": "for --layers changed since",
        "project": "for --save-project changed since",
    }.get(what, "for a part of it is missing or damaged")
    assert report.resumed_frames == 0
    (line,) = said
    assert line.startswith(f"{parts_folder(folder / 'out.mp4')}: starting afresh, {reason}")
    if what in ("format", "a part", "a note", "a reading"):
        assert same(folder, report, whole("png"))
    wanted = {"folder": {"out.mp4", "others", "film.sstyle"}, "no layers": {"out.mp4", "film.sstyle"}}
    wanted["project"] = {"out.mp4", "layers"}
    assert {path.name for path in folder.iterdir()} == wanted.get(what, {"out.mp4", "layers", "film.sstyle"})


def test_no_resume_leaves_nothing(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    breaks(monkeypatch, *owner_of("streamstyle.media.layers.LayerFilms._place"), 0, Killed())
    anew = replace(FAST, output=replace(FAST.output, no_resume=True))
    with pytest.raises(Killed):
        paint(clip, tmp_path / "film", "vp9", options=anew)
    assert list((tmp_path / "film").iterdir()) == []


@pytest.mark.parametrize(
    ("place", "after", "kind"),
    [
        ("streamstyle.media.layer_writers.FilmWriter.write", 30, "vp9"),
        ("streamstyle.media.layer_writers.PictureWriter.write", 50, "png"),
        ("streamstyle.media.layers.LayerFilms._join", 1, "prores"),
        ("streamstyle.media.label_track.LabelTrackWriter._finish", 2, "prores"),
        ("streamstyle.projects.save_project.ProjectWriter._fill", 0, "png"),
    ],
)
def test_a_full_disk_is_told_and_once_there_is_space_the_job_goes_on(
    clip: Path, whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, after: int, kind: str
) -> None:
    with monkeypatch.context() as patch:
        breaks(patch, *owner_of(place), after, OSError(errno.ENOSPC, "No space left on device"))
        with pytest.raises(OutputError, match=r"the disk is full .* free some space or write elsewhere") as told:
            paint(clip, tmp_path / "film", kind)
    assert "run the same command again to go on" in told.value.__notes__[0]
    assert {path.name for path in (tmp_path / "film").iterdir()} == {"out.mp4.parts"}
    report = paint(clip, tmp_path / "film", kind)
    assert report.resumed_frames > 0
    assert same(tmp_path / "film", report, whole(kind))


def test_a_project_takes_the_films_fingerprint_once(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(path: Any) -> Any:
        raise AssertionError(f"{path} is known already")

    monkeypatch.setattr(label_track, "fingerprint", never)
    paint(clip, tmp_path / "film", None)
    with label_track.LabelTrack(tmp_path / "film" / "film.sstyle" / LABELS) as track:
        assert {"it", "late"} <= set(track.names.values())
