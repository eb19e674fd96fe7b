"""A film painted again from a project: what a whole run would paint, with less work; and what is refused."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, cast

import cv2
import numpy as np
import pytest
import torch
from clips import draw_mottled, make_clip
from faults import Killed, breaks

from streamstyle import cli, pipeline
from streamstyle.config import Options, OutputOptions, StyleOptions
from streamstyle.errors import InputError, OptionError, OutputError, StreamstyleError
from streamstyle.frozen_statistics import FrozenStatistics
from streamstyle.gpu.streams import Lane, Lanes, Mark
from streamstyle.job import STATE_FORM, Report
from streamstyle.look import Look, ObjectStyle
from streamstyle.media.decode import decode
from streamstyle.media.flow_track import FlowTrack, FlowTrackWriter
from streamstyle.media.label_track import LabelTrackWriter
from streamstyle.media.probe import probe
from streamstyle.media.segments import WorkFolder
from streamstyle.nets import int8
from streamstyle.painting import calm_flow
from streamstyle.painting.calm_flow import STEPS_PER_PX
from streamstyle.painting.palette import Palette
from streamstyle.pipeline import stylize
from streamstyle.projects.change import Change
from streamstyle.projects.project import FLOW, META, STATES, Project
from streamstyle.projects.repaint import repaint
from streamstyle.projects.save_project import ProjectWriter
from streamstyle.projects.touched import carries_paint
from streamstyle.stages import stylize_int8
from streamstyle.stages.stylize_int8 import in_bytes
from streamstyle.stylizer import Stylizer
from streamstyle.tracks.given_tracks import GivenTracks
from tests.johnson_nets import save, transformer

pytestmark = [pytest.mark.weights, pytest.mark.usefixtures("networks")]
SIZE, FRAMES, SEGMENT = (352, 224), 24, 6
NAMES = {1: "swan", 2: "dog", 3: "object 3"}
LOOK = Look(background="wave", foreground="none", objects=(ObjectStyle("swan", "starry"), ObjectStyle("dog", "ember")))
OPTIONS = Options(
    output=OutputOptions(preset="ultrafast"),
    painting=StyleOptions(precision="float32"),  # in 8-bit integers a whole run is rounded by all styles together
)


def drawn(i: int) -> np.ndarray:
    """A dog always, a swan far from it in frames 8 to 13, and something without a style of its own."""
    labels = np.zeros((56, 88), np.uint8)
    labels[40:50, 4:16] = 2
    labels[50:, 80:] = 3
    if 8 <= i < 14:
        labels[6:14, 66 + i - 8 : 76 + i - 8] = 1
    return labels


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "in.mp4"
    make_clip(path, frames=FRAMES, size=SIZE, picture=draw_mottled)
    info = probe(path)
    with LabelTrackWriter(path.with_name("labels.npz"), info, NAMES) as writer:
        for i, frame in enumerate(decode(info)):
            writer.add(drawn(i), frame.pts)
    return path


@pytest.fixture(autouse=True)
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "SEGMENT_FRAMES", (SEGMENT, SEGMENT))


@pytest.fixture(scope="module")
def saved(clip: Path) -> Path:
    """A project of LOOK; with the film it was saved with, first.mp4, beside it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "SEGMENT_FRAMES", (SEGMENT, SEGMENT))
        whole(clip, clip.with_name("first.mp4"), LOOK, save_project=clip.with_name("film.sstyle"))
    return clip.with_name("film.sstyle")


def whole(clip: Path, out: Path, look: Look, options: Options = OPTIONS, **more: Any) -> Report:
    return stylize(clip, out, look=look, options=options, tracks=clip.with_name("labels.npz"), **more)


def dressed(**styles: str) -> Look:
    """LOOK with other styles."""
    objects = tuple(ObjectStyle(o.name, styles.get(o.name, o.style)) for o in LOOK.objects)
    parts = {part: styles[part] for part in ("background", "foreground") if part in styles}
    return replace(LOOK, objects=objects, **parts)


def count_painted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of frames that are handed to the networks."""
    counts: list[int] = []
    real = Stylizer.begin_painting

    def counted(self: Stylizer, reading: Any, **named: Any) -> Any:
        counts.append(len(reading.pts))
        return real(self, reading, **named)

    monkeypatch.setattr(Stylizer, "begin_painting", counted)
    return counts


# -- the same film ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("look", "painted", "copied"),
    [
        (dressed(swan="crayon-dusk"), 6, 2),
        (dressed(swan="none"), 6, 2),
        (dressed(swan="wave"), 6, 2),
        (dressed(swan="starry; strength=0.5; keep-colors; blend=soft-light"), 6, 2),
        (dressed(swan="starry:0.6+wave:0.4"), 6, 2),
        (dressed(swan="starry@0.3 > ember@0.5"), 4, 2),
        (dressed(swan="starry; scale=2"), 24, 0),
        (dressed(dog="poppy-field", swan="crayon-dusk"), 24, 0),
        (dressed(background="none"), 24, 0),
        (dressed(foreground="starry"), 24, 0),
        (replace(LOOK, objects=(*LOOK.objects, ObjectStyle("object 3", "starry"))), 24, 0),
        (replace(LOOK, objects=(ObjectStyle("bird", "starry"), LOOK.objects[1]), called=(("swan", "bird"),)), 0, 4),
        (LOOK, 0, 4),
    ],
)
def test_it_is_the_film_a_whole_run_makes(
    clip: Path, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, look: Look, painted: int, copied: int
) -> None:
    if look != LOOK:  # of which first.mp4 is the whole film
        whole(clip, tmp_path / "whole.mp4", look)
    else:
        shutil.copy(clip.with_name("first.mp4"), tmp_path / "whole.mp4")
    counts = count_painted(monkeypatch)
    report = repaint(clip, tmp_path / "again.mp4", Project(saved), look=look)
    assert (tmp_path / "again.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()
    assert report.project is not None
    assert (report.project["frames_painted"], sum(counts)) == (painted, painted)
    assert (report.project["segments_copied"], report.project["frames_reused"]) == (copied, FRAMES - painted)
    assert report.warnings == ()


@pytest.mark.parametrize("painting", [{"feather": 20}, {"strength": 0.5}, {"blend": "luminosity"}])
def test_other_paint_is_put_on_as_a_whole_run_does(
    clip: Path, saved: Path, tmp_path: Path, painting: dict[str, Any]
) -> None:
    whole(clip, tmp_path / "whole.mp4", LOOK, replace(OPTIONS, painting=replace(OPTIONS.painting, **painting)))
    repaint(clip, tmp_path / "again.mp4", Project(saved), look=LOOK, options=Options(painting=StyleOptions(**painting)))
    assert (tmp_path / "again.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def test_only_the_part_around_a_small_object_is_painted(clip: Path, saved: Path, tmp_path: Path) -> None:
    report = repaint(clip, tmp_path / "again.mp4", Project(saved), look=dressed(swan="none"))
    assert report.project is not None
    assert 0 < report.project["pixels_painted"] < 0.6 * 6 / FRAMES


def test_a_second_change_goes_on_from_the_first(clip: Path, saved: Path, tmp_path: Path) -> None:
    held = tmp_path / "film.sstyle"
    shutil.copytree(saved, held)
    look = dressed(swan="crayon-dusk")
    report = repaint(clip, tmp_path / "a.mp4", Project(held), look=look, save_project=held)
    assert report.project is not None
    assert report.project["bytes"]["painted"] > 0
    now = Project(held)
    assert now.look == look
    for number, touched in enumerate([False, True, True, False]):
        for kind in ("encoded", "painted"):
            same = now.file(kind, number).read_bytes() == Project(saved).file(kind, number).read_bytes()
            assert same != touched
    report = repaint(clip, tmp_path / "b.mp4", now, look=LOOK)
    assert report.project is not None
    assert report.project["frames_painted"] == 6
    assert (tmp_path / "b.mp4").read_bytes() == clip.with_name("first.mp4").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"a.mp4", "b.mp4", "film.sstyle"}


def test_a_film_that_was_analysed_is_painted_again(clip: Path, tmp_path: Path) -> None:
    """Not from given tracks: the labels kept are those that were found, cuts and light too."""
    frames = [draw_mottled(i, (96, 72)) // 2 for i in range(8)] + [255 - draw_mottled(i, (96, 72)) for i in range(6)]
    film, held = tmp_path / "in.mp4", tmp_path / "film.sstyle"
    make_clip(film, frames=14, size=(96, 72), picture=lambda i, size: frames[i])
    look = Look(background="none", foreground="wave", objects=(ObjectStyle("it", "starry", (19, 36)),))
    stylize(film, tmp_path / "first.mp4", look=look, options=OPTIONS, save_project=held)
    again = repaint(film, tmp_path / "again.mp4", Project(held), look=look)
    assert again.project is not None
    assert again.project["frames_painted"] == 0
    assert (tmp_path / "again.mp4").read_bytes() == (tmp_path / "first.mp4").read_bytes()
    other = Look(background="ember", foreground="wave", objects=(ObjectStyle("it", "wave"),))
    stylize(film, tmp_path / "whole.mp4", look=other, options=OPTIONS, tracks=held / "labels.npz")
    repaint(film, tmp_path / "other.mp4", Project(held), look=other)
    assert (tmp_path / "other.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def test_where_paint_is_carried_on_whole_shots_are_painted(
    clip: Path, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not carries_paint(StyleOptions())
    monkeypatch.setattr("streamstyle.projects.change.carries_paint", lambda painting: True)
    look, project, info = dressed(swan="none"), Project(saved), probe(clip)
    stylizer = Stylizer(look, given=GivenTracks(saved / "labels.npz", info, look))
    assert Change(project, stylizer, info, {}).touched.all()
    monkeypatch.undo()
    assert np.flatnonzero(Change(project, stylizer, info, {}).touched).tolist() == [*range(8, 14)]


class NotedLanes(Lanes):
    """Lanes that do nothing but note on which of them each thread is, and what painting waits for."""

    here = threading.local()
    awaited: ClassVar[list[Mark]] = []

    @contextlib.contextmanager
    def on(self, lane: Lane, *, after: Mark = None, uses: Iterable[torch.Tensor] = ()) -> Iterator[None]:
        outer, self.here.lane = getattr(self.here, "lane", None), lane
        if lane == "paint":
            self.awaited.append(after)
        try:
            yield
        finally:
            self.here.lane = outer

    def mark(self, lane: Lane) -> Mark:
        return cast(Mark, lane)


def test_what_is_worn_again_is_made_where_painting_waits_for_it(
    clip: Path, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def noted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*rest: Any, **named: Any) -> Any:
            made.append(getattr(NotedLanes.here, "lane", None))
            return real(*rest, **named)

        return call

    monkeypatch.setattr("streamstyle.stylizer.Lanes", NotedLanes)
    monkeypatch.setattr(NotedLanes, "awaited", [])
    for maker, name in ((Palette, "wear"), (FrozenStatistics, "step_light"), (Stylizer, "record_frame")):
        monkeypatch.setattr(maker, name, noted(getattr(maker, name)))
    repaint(clip, tmp_path / "out.mp4", Project(saved), look=dressed(swan="starry@0.3 > ember@0.5"))
    assert set(made) == {"analysis"}
    assert len(NotedLanes.awaited) > 0
    assert set(NotedLanes.awaited) == {"analysis"}


# -- calm, and the motion it goes by ----------------------------------------------------------------------------------

CALM = replace(OPTIONS, painting=StyleOptions(calm=1, precision="float32"))
EMBER = dressed(swan="ember")


@pytest.fixture(scope="module")
def calmed(clip: Path) -> Path:
    """A project of LOOK with calm; beside it its film, calm.mp4, and that of EMBER, ember.mp4."""
    held = clip.with_name("calm.sstyle")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "SEGMENT_FRAMES", (SEGMENT, SEGMENT))
        whole(clip, clip.with_name("calm.mp4"), LOOK, CALM, save_project=held)
        whole(clip, clip.with_name("ember.mp4"), EMBER, CALM)
    return held


def count_searched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A number for each frame whose motion calm searches for."""
    counts: list[int] = []
    real = calm_flow.motion_cpu

    def counted(*arguments: Any) -> Any:
        counts.append(1)
        return real(*arguments)

    monkeypatch.setattr(calm_flow, "motion_cpu", counted)
    return counts


def flow_of(project: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(project.glob(f"{FLOW}/*"))}


def test_calm_is_painted_again_shot_by_shot_as_a_whole_run_does(
    clip: Path, calmed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts, held = count_searched(monkeypatch), tmp_path / "again.sstyle"
    report = repaint(clip, tmp_path / "again.mp4", Project(calmed), look=EMBER, save_project=held)
    assert counts == []
    assert (tmp_path / "again.mp4").read_bytes() == clip.with_name("ember.mp4").read_bytes()
    assert (tmp_path / "again.mp4").read_bytes() != clip.with_name("calm.mp4").read_bytes()
    assert report.project is not None
    assert report.project["frames_painted"] == FRAMES  # of one shot
    assert report.project["bytes"]["flow"] == sum(map(len, flow_of(calmed).values())) > 0
    assert any("MB of them flow" in line for line in report.in_words())
    assert len(flow_of(calmed)) == FRAMES // SEGMENT
    assert flow_of(held) == flow_of(calmed)
    assert report.warnings == ()


def test_without_calm_no_motion_is_kept(saved: Path) -> None:
    assert not (saved / FLOW).exists()


def without_flow(project: Path, folder: Path) -> Path:
    """The project as one that keeps no motion."""
    held = _other(project, folder)
    said = json.loads((held / META).read_text())
    shutil.rmtree(held / FLOW)
    said["files"] = {name: size for name, size in said["files"].items() if not name.startswith(FLOW)}
    (held / META).write_text(json.dumps(said))
    return held


def test_a_project_without_motion_is_painted_again_and_has_it_then(
    clip: Path, calmed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts, held = count_searched(monkeypatch), without_flow(calmed, tmp_path)
    report = repaint(clip, tmp_path / "again.mp4", Project(held), look=EMBER, save_project=held)
    assert len(counts) == FRAMES - 1
    assert (tmp_path / "again.mp4").read_bytes() == clip.with_name("ember.mp4").read_bytes()
    assert report.warnings == ()
    assert flow_of(held) == flow_of(calmed)


def test_every_form_since_the_first_that_opens_does() -> None:
    """Whoever raises STATE_FORM says whether what was painted before is painted likewise."""
    assert list(STATES) == list(range(7, STATE_FORM))


@pytest.mark.parametrize(
    ("state", "calm", "opens"), [(6, 0, False), (7, 0, True), (7, 1, False), (8, 0, True), (8, 1, True)]
)
def test_of_forms_before_those_open_that_were_painted_likewise(
    clip: Path, saved: Path, calmed: Path, tmp_path: Path, state: int, calm: int, opens: bool
) -> None:
    """In form 7 calm went by motion that was not rounded; frames that are kept would not match new ones."""
    project = Project(calmed if calm else saved)
    project.same["state"] = state
    if opens:
        report = repaint(clip, tmp_path / "out.mp4", project, look=LOOK, dry_run=True)
        assert report.project is not None
        return
    with pytest.raises(OptionError, match=r"was painted .*; make it again: run without --project") as said:
        repaint(clip, tmp_path / "out.mp4", project, look=LOOK, dry_run=True)
    assert "\n" not in str(said.value)
    assert ("by an earlier version, with another calm" in str(said.value)) == bool(calm)


@pytest.mark.parametrize("damage", ["gone", "short", "other", "another's", "flipped", "two"])
def test_motion_that_is_damaged_is_told_and_searched_for_again(
    clip: Path, calmed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    held, counts = _other(calmed, tmp_path), count_searched(monkeypatch)
    file = held / FLOW / "000002.zip"
    content = file.read_bytes()
    if damage == "gone":
        file.unlink()
    elif damage == "short":
        file.write_bytes(content[:-100])
    elif damage == "another's":
        shutil.copy(held / FLOW / "000001.zip", file)
    elif damage == "other":
        file.write_bytes(b"text".ljust(len(content)))
    else:
        at = content.index(b"000003") + 40
        file.write_bytes(content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :])
    if damage == "two":
        (held / FLOW / "000001.zip").unlink()
    report = repaint(clip, tmp_path / "again.mp4", Project(held), look=EMBER, save_project=tmp_path / "next.sstyle")
    assert (tmp_path / "again.mp4").read_bytes() == clip.with_name("ember.mp4").read_bytes()
    (line,) = report.warnings
    assert "\n" not in line
    first = "000001.zip: cannot be read (" if damage == "two" else "000002.zip: "
    assert first in line
    assert line.endswith(f"{', and of 1 more segments' if damage == 'two' else ''}; flow is searched for anew there")
    assert len(counts) == {"flipped": 1, "two": SEGMENT + 1}.get(damage, SEGMENT)
    assert flow_of(tmp_path / "next.sstyle") == flow_of(calmed)


def test_with_calm_where_there_was_none_motion_is_searched_for_and_kept(
    clip: Path, calmed: Path, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, asked = tmp_path / "film.sstyle", Options(painting=StyleOptions(calm=1))
    report = repaint(clip, tmp_path / "a.mp4", Project(saved), look=LOOK, options=asked, save_project=held)
    assert (tmp_path / "a.mp4").read_bytes() == clip.with_name("calm.mp4").read_bytes()
    assert report.project is not None
    assert (report.project["frames_painted"], report.project["segments_copied"]) == (FRAMES, 0)
    assert flow_of(held) == flow_of(calmed)
    counts = count_searched(monkeypatch)
    repaint(clip, tmp_path / "b.mp4", Project(held), look=EMBER, save_project=held)
    assert (tmp_path / "b.mp4").read_bytes() == clip.with_name("ember.mp4").read_bytes()
    assert counts == []


@pytest.fixture(scope="module")
def two_shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of LOOK with calm, of in.mp4 beside it: the dog in a shot of a segment and a half, then the swan."""
    folder, cut = tmp_path_factory.mktemp("two"), SEGMENT + 3
    film, held = folder / "in.mp4", folder / "film.sstyle"

    def picture(i: int, size: tuple[int, int]) -> np.ndarray:
        return draw_mottled(i, size) if i < cut else 255 - draw_mottled(i, size)

    make_clip(film, frames=2 * SEGMENT, size=(160, 96), picture=picture)
    info = probe(film)
    with LabelTrackWriter(folder / "labels.npz", info, NAMES) as writer:
        for i, frame in enumerate(decode(info)):
            labels = np.zeros((24, 40), np.uint8)
            labels[4:12, 4:16] = 1 if i >= cut else 2
            writer.add(labels, frame.pts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "SEGMENT_FRAMES", (SEGMENT, SEGMENT))
        whole(film, folder / "first.mp4", LOOK, CALM, save_project=held)
        whole(film, folder / "whole.mp4", EMBER, CALM)
    assert np.flatnonzero(np.diff(Project(held).frames.shots)).tolist() == [cut - 1]
    return held


def test_of_two_shots_the_one_that_is_touched_is_calmed_by_its_own_motion(
    two_shots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cut is in the middle of a segment: a part of that is as it was, its motion too."""
    (tmp_path / "b").mkdir()
    film, held = two_shots.with_name("in.mp4"), _other(two_shots, tmp_path)
    counts, bare = count_searched(monkeypatch), without_flow(held, tmp_path / "b")
    for project, searched in ((held, 0), (bare, 2)):
        report = repaint(film, tmp_path / f"{searched}.mp4", Project(project), look=EMBER, save_project=project)
        assert (tmp_path / f"{searched}.mp4").read_bytes() == two_shots.with_name("whole.mp4").read_bytes()
        assert report.project is not None
        assert (report.project["frames_painted"], report.project["segments_copied"]) == (SEGMENT - 3, 1)
        assert len(counts) == searched
    assert flow_of(held) == flow_of(two_shots)
    assert list(flow_of(bare)) == ["000001.zip"]
    info, first_pts = Project(held).film, Project(held).segments[1].segment.first_pts
    for project, before in ((held, True), (bare, False)):
        with FlowTrack(project / FLOW / "000001.zip", (48, 80), STEPS_PER_PX, info, first_pts) as known:
            assert [known.frame(k) is not None for k in range(SEGMENT)] == [before] * 3 + [False] + [True] * 2


def spoil(file: Path, frame: int) -> None:
    """Damage a frame's motion in a flow track."""
    content = file.read_bytes()
    at = content.index(f"{frame:06d}".encode()) + 40
    file.write_bytes(content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :])


def test_motion_is_read_where_calm_goes_by_it_and_all_of_it_only_for_the_next_project(
    two_shots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film, project, read = two_shots.with_name("in.mp4"), Project(two_shots), list[int]()
    real = FlowTrack.frame

    def noted(self: FlowTrack, number: int) -> Any:
        read.append(number)
        return real(self, number)

    monkeypatch.setattr(FlowTrack, "frame", noted)

    def told(**how: Any) -> tuple[list[int], int]:
        read.clear()
        report = repaint(film, tmp_path / "out.mp4", project, **({"look": EMBER, "options": OVER} | how))
        assert report.project is not None
        return [*read], report.project["bytes_read"]

    kept, flow = project.bytes_of("encoded", 0) + project.bytes_of("painted", 1), project.bytes_of(FLOW, 1)
    assert told() == ([3, 4, 5], kept + flow)
    every = told(save_project=tmp_path / "next.sstyle")
    assert every == ([*range(SEGMENT)], kept + flow + project.bytes_of(FLOW, 0))


OVER = Options(output=OutputOptions(overwrite=True))


def test_what_becomes_of_damaged_motion_is_told_as_it_is(two_shots: Path, tmp_path: Path) -> None:
    """In a segment that is copied, and in one where it is of frames that are not painted, the next project lacks it."""
    film, held, following = two_shots.with_name("in.mp4"), _other(two_shots, tmp_path), tmp_path / "next.sstyle"
    spoil(held / FLOW / "000000.zip", 2)
    spoil(held / FLOW / "000001.zip", 1)

    def warned(look: Look = EMBER, **how: Any) -> list[str]:
        report = repaint(film, tmp_path / "out.mp4", Project(held), look=look, options=OVER, **how)
        assert look != EMBER or (tmp_path / "out.mp4").read_bytes() == two_shots.with_name("whole.mp4").read_bytes()
        return [line.removeprefix(f"{held / FLOW}/") for line in report.warnings]

    lost = "flow is left out of the project that is saved"
    assert warned() == []
    (line,) = warned(save_project=following)
    assert line.startswith("000000.zip: frame 2 is damaged (")
    assert line.endswith(f", and of 1 more segments; {lost}")
    assert list(flow_of(following)) == ["000001.zip"]
    now = Project(following)
    assert now.files.keys() == Project(held).files.keys() - {"flow/000000.zip"}
    with FlowTrack(now.file(FLOW, 1), (48, 80), STEPS_PER_PX, now.film, now.segments[1].segment.first_pts) as known:
        assert [known.frame(k) is not None for k in range(SEGMENT)] == [True, False, True, False, True, True]
    spoil(held / FLOW / "000001.zip", 4)
    (line,) = warned()
    assert line.startswith("000001.zip: frame 4 is damaged (")
    assert line.endswith("); flow is searched for anew there")
    (line,) = warned(save_project=tmp_path / "last.sstyle")
    assert line.endswith(
        f"flow is searched for anew there where frames are calmed again, else {lost.removeprefix('flow is ')}"
    )


# -- the command line -------------------------------------------------------------------------------------------------


def test_from_the_command_line(clip: Path, saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", str(clip), str(tmp_path / "out.mp4"), "--project", str(saved), "--object", "swan=none"]
    assert cli.main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])["project"]
    assert (told["frames_painted"], told["segments_copied"], told["segments_encoded"]) == (6, 2, 2)
    assert set(told["bytes"]) == {"encoded", "painted", "references", "flow", "labels", "frames"}
    assert told["bytes_read"] > 0
    assert told["bytes_written"] > 0
    assert cli.main([*words, "--overwrite", "--object", "cat=wave"]) == 0
    said = capsys.readouterr().err
    assert "object 'cat': never appears" in said
    assert "it has dog, object 3, swan, as in --object 'dog=wave'; for a new object paint" in said
    assert "6 frames painted again" in said
    whole(clip, tmp_path / "whole.mp4", dressed(swan="none"))
    assert (tmp_path / "whole.mp4").read_bytes() == (tmp_path / "out.mp4").read_bytes()


def test_a_name_that_is_mended_and_never_appears_is_told(clip: Path, saved: Path, tmp_path: Path) -> None:
    look = replace(LOOK, called=(("object 3", "the rock"), ("object 9", "the rock")))
    report = repaint(clip, tmp_path / "again.mp4", Project(saved), look=look, dry_run=True)
    (line,) = report.warnings
    assert line.startswith(
        f"object 'object 9', renamed 'the rock': never appears, {saved} has no such object; it has dog"
    )


@pytest.mark.skipif(not int8.available(), reason="no x86, or no torch with oneDNN's operators")
def test_a_project_is_painted_in_floats(
    clip: Path, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stylize_int8, "has_native_bfloat16", lambda: False)
    assert in_bytes("auto", torch.device("cpu"))
    made: list[bool] = []
    real = Stylizer.__init__

    def noted(self: Stylizer, *arguments: Any, **more: Any) -> None:
        real(self, *arguments, **more)
        made.append(self.int8)

    monkeypatch.setattr(Stylizer, "__init__", noted)
    auto = replace(OPTIONS, painting=StyleOptions())
    for save_project in (None, tmp_path / "film.sstyle"):
        whole(clip, tmp_path / "film.mp4", LOOK, auto, dry_run=True, save_project=save_project)
    assert made == [True, False]
    int8_said = replace(OPTIONS, painting=StyleOptions(precision="int8"))
    with pytest.raises(OptionError, match=r"--precision int8: .* a project's parts would not match; use auto"):
        whole(clip, tmp_path / "film.mp4", LOOK, int8_said, save_project=tmp_path / "film.sstyle")
    with pytest.raises(OptionError, match="--precision int8: the project was painted with float32"):
        repaint(clip, tmp_path / "again.mp4", Project(saved), look=LOOK, options=int8_said)


# -- refusals ---------------------------------------------------------------------------------------------------------


def test_what_is_no_project_is_refused(clip: Path, saved: Path, tmp_path: Path) -> None:
    def refused(path: Path, words: str) -> None:
        with pytest.raises(InputError, match=words):
            Project(path)

    refused(tmp_path / "none", "no such project")
    refused(tmp_path, "not a project; give")
    refused(clip, "not a project but a file")
    held = tmp_path / "film.sstyle"
    shutil.copytree(saved, held)
    said = json.loads((held / META).read_text())
    for cut in (0, 1, 100):
        (held / META).write_text(json.dumps(said)[:cut])
        refused(held, "damaged .project.json cannot be read.; make it again")
    (held / META).write_text(json.dumps({**said, "version": 99}))
    refused(held, "of version 99.*make it again")
    (held / META).write_text(json.dumps({**said, "segments": []}))
    refused(held, "damaged .its frames do not add up.; make it again")
    (held / META).write_text(json.dumps(said))
    (held / "painted" / "000001.mkv").unlink()
    refused(held, "damaged .painted/000001.mkv is missing or cut short.; make it again")


def test_another_film_or_machine_is_refused(clip: Path, saved: Path, tmp_path: Path) -> None:
    other = make_clip(tmp_path / "other.mp4", frames=FRAMES, size=SIZE)
    with pytest.raises(InputError, match="is not the film"):
        repaint(other, tmp_path / "out.mp4", Project(saved), look=LOOK)
    project = Project(saved)
    project.same["version"]["torch"] = "1.0"
    with pytest.raises(OptionError, match="was painted with another torch's version; make it again"):
        repaint(clip, tmp_path / "out.mp4", project, look=LOOK)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (Options(output=OutputOptions(size=100)), "--size 100: the project was painted without it, and"),
        (Options(output=OutputOptions(codec="hevc")), "--codec hevc"),
        (Options(output=OutputOptions(crf=30)), "--crf 30"),
        (Options(painting=StyleOptions(precision="bfloat16")), "--precision bfloat16"),
    ],
)
def test_options_that_change_all_are_refused(
    clip: Path, saved: Path, tmp_path: Path, options: Options, words: str
) -> None:
    with pytest.raises(OptionError, match=words):
        repaint(clip, tmp_path / "out.mp4", Project(saved), look=LOOK, options=options)


def test_layers_do_not_go_with_a_project(clip: Path, saved: Path, tmp_path: Path) -> None:
    options = replace(OPTIONS, output=replace(OPTIONS.output, layers=tmp_path / "layers"))
    with pytest.raises(OptionError, match="--layers: does not go with --project"):
        repaint(clip, tmp_path / "again.mp4", Project(saved), look=LOOK, options=options)
    assert not (tmp_path / "layers").exists()


def test_where_a_project_may_be_saved(clip: Path, saved: Path, tmp_path: Path) -> None:
    def refused(words: str, path: Path, look: Look = LOOK) -> None:
        for dry_run in (True, False):
            if not (dry_run and words == "nothing is painted"):  # which is seen while it is read
                with pytest.raises(StreamstyleError, match=words):
                    whole(clip, tmp_path / "out.mp4", look, save_project=path, dry_run=dry_run)

    refused("exists; add --overwrite", saved)
    refused("is there and no project", clip)
    refused("is no folder to write in", tmp_path / "a" / "b")
    refused("this Look has no objects", tmp_path / "film.sstyle", Look(style="wave"))
    refused("nothing is painted", tmp_path / "film.sstyle", Look(style="none", objects=(ObjectStyle("swan", "none"),)))
    assert not list(tmp_path.iterdir())
    with pytest.raises(OutputError, match="exists; add --overwrite"):
        repaint(clip, tmp_path / "out.mp4", Project(saved), look=LOOK, save_project=_other(saved, tmp_path))
    words = ["run", str(clip), str(tmp_path / "out.mp4"), "--project", str(saved)]
    assert cli.main([*words, "--tracks", str(clip.with_name("labels.npz"))]) == 2


@pytest.mark.parametrize("readable", [True, False])
def test_what_lies_in_a_project_is_not_lost_with_it(clip: Path, saved: Path, tmp_path: Path, readable: bool) -> None:
    held = _other(saved, tmp_path)
    project = Project(held)
    (held / ".DS_Store").touch()
    for name in ("notes.txt", "inner.sstyle/look.toml", *(["painted/mine.mkv"] if readable else [])):
        (held / name).parent.mkdir(exist_ok=True)
        (held / name).write_text("mine")
        if not readable:
            (held / META).write_text("{")
        over = replace(OPTIONS, output=replace(OPTIONS.output, overwrite=True))
        with pytest.raises(OutputError, match=f"holds {name}, which is no part of a project; move it elsewhere first"):
            whole(clip, tmp_path / "out.mp4", LOOK, over, save_project=held)
        if readable:
            with pytest.raises(OutputError, match=f"holds {name}, which"):
                repaint(clip, tmp_path / "out.mp4", project, look=LOOK, save_project=held)
        (held / name).unlink()
    assert not (tmp_path / "out.mp4").exists()


def test_no_film_is_painted_into_a_project_that_is_replaced(clip: Path, saved: Path, tmp_path: Path) -> None:
    held = _other(saved, tmp_path)
    with pytest.raises(OutputError, match=r"out.mp4: is to be in the folder of --save-project, .*choose another place"):
        repaint(clip, held / "out.mp4", Project(held), look=LOOK, save_project=held)
    assert repaint(clip, held / "out.mp4", Project(held), look=LOOK).frames_out == FRAMES


@pytest.mark.parametrize(
    ("said", "default"),
    [
        ("--strength=.5", "--strength=1"),
        ("--blend=luminosity", "--blend=normal"),
        ("--keep-colors", "--no-keep-colors"),
    ],
)
def test_an_option_typed_at_its_default_is_meant(
    clip: Path, saved: Path, tmp_path: Path, said: str, default: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def again(project: Path, out: str, *words: str) -> dict[str, Any]:
        command = ["run", clip, tmp_path / out, "--project", project, "--save-project", tmp_path / f"{out}.sstyle"]
        assert cli.main([*map(str, command), *words, "--json"]) == 0
        return dict(json.loads(capsys.readouterr().out)["project"])

    assert again(saved, "other.mp4", said)["frames_painted"] == FRAMES
    assert again(tmp_path / "other.mp4.sstyle", "same.mp4")["frames_painted"] == 0
    assert again(tmp_path / "other.mp4.sstyle", "back.mp4", default)["frames_painted"] == FRAMES
    assert (tmp_path / "back.mp4").read_bytes() == clip.with_name("first.mp4").read_bytes()
    assert cli.main(["run", str(clip), str(tmp_path / "a.mp4"), "--project", str(saved), "--preset", "medium"]) == 2
    assert "--preset medium: the project was painted with ultrafast" in capsys.readouterr().err


def _other(saved: Path, folder: Path) -> Path:
    shutil.copytree(saved, folder / "other.sstyle")
    return folder / "other.sstyle"


def test_a_job_that_fails_leaves_the_project_as_it_was_and_goes_on(
    clip: Path, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, look = _other(saved, tmp_path), dressed(swan="none")

    def fails(*_: Any, **__: Any) -> Any:
        raise OutputError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Stylizer, "begin_painting", fails)
        with pytest.raises(OutputError, match="disk is full"):
            repaint(clip, tmp_path / "out.mp4", Project(held), look=look, save_project=held)
    assert Project(held).look == LOOK
    assert {path.name for path in tmp_path.iterdir()} == {"other.sstyle", "out.mp4.parts"}
    report = repaint(clip, tmp_path / "out.mp4", Project(held), look=look, save_project=held)
    assert report.resumed_frames == SEGMENT
    assert Project(held).look == look
    assert {path.name for path in tmp_path.iterdir()} == {"other.sstyle", "out.mp4"}


def killed(owner: Any, name: str, after: int, work: Callable[[], Any]) -> None:
    """Do something that ends with call number `after` of a function."""
    with pytest.MonkeyPatch.context() as patch:
        breaks(patch, owner, name, after, Killed())
        with pytest.raises(Killed):
            work()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize(
    ("owner", "name", "after", "resumed", "kind"),
    [
        (WorkFolder, "add", 0, 0, ""),
        (WorkFolder, "add", 1, 1, ""),
        (Stylizer, "end_painting", 1, 2, ""),
        (WorkFolder, "add", 3, 3, ""),
        (WorkFolder, "add", 2, 2, "calm"),
        (Stylizer, "end_painting", 2, 2, "calm"),
        (FlowTrackWriter, "add", SEGMENT + 2, 1, "calm"),
        (FlowTrackWriter, "add", 2 * SEGMENT + 2, 2, "damaged"),
        (WorkFolder, "finish", 0, 4, "damaged"),
        (WorkFolder, "finish", 0, 4, ""),
        (ProjectWriter, "_fill", 0, 4, ""),
        (os, "rename", 1, 4, ""),  # the old project is out of the way, the new one not yet there
        (os, "rename", 1, 4, "damaged"),
    ],
)
def test_stopped_anywhere_it_goes_on_to_the_same_film_and_project(
    clip: Path,
    saved: Path,
    calmed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    name: str,
    after: int,
    resumed: int,
    kind: str,
) -> None:
    look = dressed(swan="ember")
    if kind:
        saved = _other(calmed, tmp_path)
    if kind == "damaged":
        spoil(saved / FLOW / "000000.zip", 3)
    counts = count_searched(monkeypatch)
    wanted = repaint(clip, _in(tmp_path, "whole"), Project(saved), look=look, save_project=tmp_path / "whole/a.sstyle")
    assert len(counts) == (kind == "damaged")
    held = tmp_path / "film" / "a.sstyle"

    def again(**how: Any) -> Report:
        return repaint(clip, _in(tmp_path, "film"), Project(held), look=look, save_project=held, **how)

    _in(tmp_path, "film")
    shutil.copytree(saved, held)
    killed(owner, name, after, again)
    said = list[str]()
    report = again(say=said.append)
    assert kind == "damaged" or counts == []
    assert report.resumed_frames == resumed * SEGMENT
    assert len(said) == bool(report.resumed_frames)
    assert contents(tmp_path / "film") == contents(tmp_path / "whole")
    assert report.project is not None
    assert wanted.project is not None
    assert report.project | {"seconds": 0} == wanted.project | {"seconds": 0}
    assert [line.replace(str(held), str(saved)) for line in report.warnings] == [*wanted.warnings]
    assert len(wanted.warnings) == (kind == "damaged")


@pytest.mark.parametrize(("owner", "name", "after"), [(os, "replace", 0), (WorkFolder, "_clear", 1)])
def test_killed_once_the_project_is_replaced_it_goes_on(
    clip: Path, saved: Path, tmp_path: Path, owner: Any, name: str, after: int
) -> None:
    """Before the film is in place, and after it."""
    look, held = dressed(swan="ember"), tmp_path / "film" / "a.sstyle"
    repaint(clip, _in(tmp_path, "whole"), Project(saved), look=look, save_project=tmp_path / "whole/a.sstyle")

    def again(**how: Any) -> Report:
        return repaint(clip, _in(tmp_path, "film"), Project(held), look=look, save_project=held, **how)

    _in(tmp_path, "film")
    shutil.copytree(saved, held)
    killed(owner, name, after, again)
    report = again()
    assert report.resumed_frames == FRAMES
    assert "all of them kept from before" in report.in_words()[0]
    assert contents(tmp_path / "film") == contents(tmp_path / "whole")


def _in(folder: Path, name: str) -> Path:
    (folder / name).mkdir(exist_ok=True)
    return folder / name / "out.mp4"


def test_another_change_starts_afresh_and_is_told(clip: Path, saved: Path, tmp_path: Path) -> None:
    first, said = dressed(swan="ember"), list[str]()
    killed(WorkFolder, "add", 2, lambda: repaint(clip, tmp_path / "out.mp4", Project(saved), look=first))
    report = repaint(clip, tmp_path / "out.mp4", Project(saved), look=LOOK, say=said.append)
    assert report.resumed_frames == 0
    (line,) = said
    assert line.startswith(f"{tmp_path / 'out.mp4.parts'}: starting afresh, for --object changed since; ")
    assert (tmp_path / "out.mp4").read_bytes() == clip.with_name("first.mp4").read_bytes()


def test_own_paintings_and_an_own_network_are_painted_again_as_a_whole_run_does(clip: Path, tmp_path: Path) -> None:
    night, fire = tmp_path / "night.jpg", tmp_path / "fire.jpg"
    for i, painting in enumerate((night, fire)):
        cv2.imwrite(str(painting), draw_mottled(5 * i, (160, 120)))
    candy = save(tmp_path / "candy.safetensors", transformer(blocks=0).state_dict())
    look = dressed(background=str(night), swan=str(candy))
    held = tmp_path / "film.sstyle"
    whole(clip, tmp_path / "first.mp4", look, save_project=held)
    again = repaint(clip, tmp_path / "same.mp4", Project(held), look=look)
    assert again.project is not None
    assert again.project["frames_painted"] == 0
    assert (tmp_path / "same.mp4").read_bytes() == (tmp_path / "first.mp4").read_bytes()
    for i, other in enumerate(
        [
            dressed(background=str(night), swan=f"{fire}#10,10,100,80"),
            dressed(background=f"{night}:0.6+{fire}:0.4", swan=str(candy), dog=f"{candy}; strength=0.5"),
        ]
    ):
        whole(clip, tmp_path / f"whole{i}.mp4", other)
        repaint(clip, tmp_path / f"again{i}.mp4", Project(held), look=other)
        assert (tmp_path / f"again{i}.mp4").read_bytes() == (tmp_path / f"whole{i}.mp4").read_bytes()
        assert (tmp_path / f"again{i}.mp4").read_bytes() != (tmp_path / "first.mp4").read_bytes()


def test_a_project_that_was_being_replaced_is_there(saved: Path, tmp_path: Path) -> None:
    held = _other(saved, tmp_path)
    held.rename(tmp_path / ".other.sstyle.old")
    assert Project(held).look == LOOK
