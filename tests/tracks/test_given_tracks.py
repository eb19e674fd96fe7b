"""A label track given back: the same objects, found by nobody, wear what a Look gives them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from clips import make_clip

from streamstyle import cli, pipeline
from streamstyle.config import AnalysisOptions, Options, OutputOptions
from streamstyle.errors import InputError, OptionError, StreamstyleError
from streamstyle.look import Look, ObjectStyle
from streamstyle.media.decode import decode
from streamstyle.media.images import TICKS
from streamstyle.media.label_track import LabelTrackWriter
from streamstyle.media.probe import probe
from streamstyle.nets.hed import HED
from streamstyle.pipeline import stylize
from streamstyle.preview import preview
from streamstyle.sheets import write_png
from streamstyle.tracks.film_objects import tracks
from streamstyle.tracks.given_tracks import GivenTracks, given_tracks

SIZE, FRAMES = (64, 48), 20
NAMES = {1: "swan", 2: "object 2", 5: "calf"}
LOOK = Look(background="none", foreground="wave", objects=(ObjectStyle("swan", "starry"),))
FAST = OutputOptions(preset="ultrafast")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Uneven times: frame i is shown at i + i // 7 ticks of 1/30 s."""
    path = tmp_path_factory.mktemp("film") / "in.mp4"
    return make_clip(path, frames=FRAMES, size=SIZE, pts=[i + i // 7 for i in range(FRAMES)], audio=False)


def drawn(i: int) -> np.ndarray:
    """The labels of frame i: a swan that goes right, and from frame 4 on another thing; both away in frame 9."""
    labels = np.zeros((24, 32), np.uint8)
    if i != 9:
        labels[6:18, i : i + 10] = 1
        labels[:4] = 2 * (i >= 4)
    return labels


@pytest.fixture(scope="module")
def labels(clip: Path) -> Path:
    return write(clip.with_name("labels.npz"), clip)


def write(path: Path, film: Path, frames: int = FRAMES) -> Path:
    info = probe(film)
    with LabelTrackWriter(path, info, NAMES) as writer:
        for i, frame in enumerate(decode(info)):
            if i < frames:
                writer.add(drawn(i), frame.pts)
    return path


def planes(path: Path) -> list[np.ndarray]:
    return [np.concatenate([plane.ravel() for plane in (f.y, f.u, f.v)]) for f in decode(probe(path))]


def given(labels: Path, clip: Path, look: Look = LOOK) -> GivenTracks:
    return GivenTracks(labels, probe(clip), look)


def steps(track: GivenTracks, times_s: list[float]) -> list[np.ndarray]:
    luma = np.zeros((24, 32), np.uint8)
    return [track.step(luma, None, 0, i, t, SIZE[::-1]) for i, t in enumerate(times_s)]


def times(clip: Path) -> list[float]:
    info = probe(clip)
    return [float((frame.pts - info.start_pts) * info.time_base) for frame in decode(info)]


# -- labels by time ---------------------------------------------------------------------------------------------------


def test_each_frame_has_the_labels_of_its_time(clip, labels):
    at = times(clip)
    with given(labels, clip) as track:
        assert not track.wants(0, 0, 0.0)
        for i, found in enumerate(steps(track, at)):
            assert found.dtype == np.int32
            assert np.array_equal(found, drawn(i))
        for near_s in (-0.01, 0.01):  # a container whose clock is coarser
            assert np.array_equal(steps(track, [at[12] + near_s])[0], drawn(12))


def test_what_becomes_of_the_objects_is_reported(clip, labels):
    with given(labels, clip) as track:
        steps(track, times(clip))
        assert track.lost() == []
        swan, other = track.report()
        assert (swan.track_id, swan.name, swan.first_frame, swan.last_frame) == (1, "swan", 0, 19)
        assert (other.track_id, other.name, other.first_frame, other.last_frame) == (2, "object 2", 4, 19)
        assert other.mean_area_px == 4 * 32 * 4  # a label is four pixels of the film


def test_after_the_end_all_is_background_and_told(clip, tmp_path):
    short = write(tmp_path / "short.npz", clip, 12)
    with given(short, clip) as track:
        found = steps(track, times(clip))
        assert all(np.array_equal(labels, drawn(i)) for i, labels in enumerate(found[:12]))
        assert not np.any(found[12:])
        assert any("ends before the film; 8 frames were all background" in line for line in track.warnings())


def test_one_goes_on_as_the_other(clip, labels):
    at = times(clip)
    with given(labels, clip) as whole, given(labels, clip) as second:
        steps(whole, at[:7])
        second.load_state_dict(whole.state_dict())
        for track in (whole, second):
            for i in range(7, FRAMES):
                track.step(np.zeros((24, 32), np.uint8), None, 0, i, at[i], SIZE[::-1])
        assert second.report() == whole.report()


@pytest.mark.parametrize("fps", [5, 25, 50])
def test_a_folders_pictures_have_the_labels_of_their_number_at_any_rate(tmp_path, fps):
    folder = tmp_path / "film"
    folder.mkdir()
    for i in range(6):
        write_png(folder / f"{i:05d}.png", np.full((48, 64, 3), 40 * i, np.uint8))
    made = write(tmp_path / "labels.npz", folder, 6)
    info = probe(folder, fps=fps)
    with GivenTracks(made, info, LOOK) as track:
        found = steps(track, [info.time_of(i * TICKS) for i in range(6)])
        assert all(np.array_equal(labels, drawn(i)) for i, labels in enumerate(found))
        assert track.warnings() == []


def test_an_empty_track_is_refused(clip, tmp_path):
    with pytest.raises(InputError, match="has no frames"):
        given(write(tmp_path / "empty.npz", clip, 0), clip)


# -- jobs -------------------------------------------------------------------------------------------------------------

weights = pytest.mark.weights
cached = pytest.mark.usefixtures("cached", "networks")


@weights
@cached
def test_painted_pixels_are_those_of_the_labels_and_nothing_is_looked_for(clip, labels, tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> HED:
        raise AssertionError("a network was loaded")

    monkeypatch.setattr(HED, "load", refuse)
    monkeypatch.setattr(HED, "load_narrow", refuse)
    options = Options(output=replace(FAST, crf=0))
    report = stylize(clip, tmp_path / "out.mp4", look=LOOK, options=options, tracks=labels)
    assert [(o.name, o.style, o.first_frame) for o in report.objects] == [
        ("swan", "starry", 0),
        ("object 2", "wave", 4),
    ]
    assert report.warnings == ()
    for i, (a, b) in enumerate(zip(decode(probe(clip)), decode(probe(tmp_path / "out.mp4")), strict=True)):
        changed = np.abs(a.y.astype(int) - b.y) > 0
        inside = np.kron(drawn(i), np.ones((2, 2))) > 0
        far = np.kron(drawn(i), np.ones((2, 2)))
        assert changed[inside].mean() > 0.6 if inside.any() else not changed.any(), i
        away = np.ones_like(inside)
        rows, columns = np.nonzero(far)
        for y, x in zip(rows, columns, strict=True):
            away[max(0, y - 6) : y + 7, max(0, x - 6) : x + 7] = False
        assert not changed[away].any(), i


@weights
@cached
def test_a_film_of_its_own_tracks_is_the_film_of_the_named_object(tmp_path):
    """Named with a point, and by name in the label track of the same point: the same film."""
    source = make_clip(tmp_path / "in.mp4", frames=8, size=(160, 120), audio=False)
    analysis = AnalysisOptions(analyse_every=2)
    place = ObjectStyle("disc", "starry", (32, 60))
    named = Look(background="none", objects=(place,))
    options = Options(analysis=analysis, output=FAST)
    tracks(source, tmp_path / "labels.npz", look=named, analysis=analysis)
    named_film = Look(background="none", foreground="none", objects=(place,))
    stylize(source, tmp_path / "named.mp4", look=named_film, options=options)
    by_name = Look(background="none", foreground="none", objects=(ObjectStyle("disc", "starry"),))
    stylize(source, tmp_path / "given.mp4", look=by_name, options=options, tracks=tmp_path / "labels.npz")
    assert all(map(np.array_equal, planes(tmp_path / "named.mp4"), planes(tmp_path / "given.mp4")))
    assert any(not np.array_equal(a, b) for a, b in zip(planes(source), planes(tmp_path / "given.mp4"), strict=True))


@weights
@cached
@pytest.mark.parametrize("most_frames", [1, 3, 16])
def test_a_part_wears_the_labels_of_its_own_times(clip, labels, tmp_path, monkeypatch, seen, most_frames):
    monkeypatch.setattr(pipeline, "MOST_FRAMES", most_frames)
    start_s = times(clip)[8]
    out = replace(FAST, start=start_s - 1e-3, duration=0.3)
    stylize(clip, tmp_path / "out.mp4", look=LOOK, options=Options(output=out), tracks=labels)
    number = {style: k for k, style in enumerate(LOOK.styles)}
    table = np.array([number["none"], number["starry"], number["wave"]])
    assert len(seen) >= 6
    for i, looks in enumerate(seen):
        assert np.array_equal(looks, table[drawn(8 + i)])


def stop_after(frames: int) -> Callable[[int, int | None], None]:
    """What on_frames may be, to stop a job when it has written so many."""
    count = 0

    def stop(done: int, expected: int | None) -> None:
        nonlocal count
        count += done
        if count > frames:
            raise KeyboardInterrupt

    return stop


@weights
@cached
def test_a_stopped_job_goes_on_to_the_same_film(clip, labels, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "SEGMENT_FRAMES", (4, 4))
    options = Options(output=FAST)
    whole = stylize(clip, tmp_path / "whole.mp4", look=LOOK, options=options, tracks=labels)

    with pytest.raises(KeyboardInterrupt):
        stylize(clip, tmp_path / "out.mp4", look=LOOK, options=options, tracks=labels, on_frames=stop_after(10))
    again = stylize(clip, tmp_path / "out.mp4", look=LOOK, options=options, tracks=labels)
    assert again.resumed_frames >= 8
    assert again.objects == whole.objects
    assert all(map(np.array_equal, planes(tmp_path / "out.mp4"), planes(tmp_path / "whole.mp4")))


@weights
@cached
def test_other_labels_are_another_job(clip, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "SEGMENT_FRAMES", (4, 4))
    options, said = Options(output=FAST), list[str]()

    given_labels = write(tmp_path / "labels.npz", clip)
    with pytest.raises(KeyboardInterrupt):
        stylize(clip, tmp_path / "out.mp4", look=LOOK, options=options, tracks=given_labels, on_frames=stop_after(10))
    write(given_labels, clip, 19)
    again = stylize(clip, tmp_path / "out.mp4", look=LOOK, options=options, tracks=given_labels, say=said.append)
    assert again.resumed_frames == 0
    assert any("tracks" in line for line in said)


def test_what_does_not_fit_is_refused_in_one_line(clip, labels, tmp_path):
    wide = make_clip(tmp_path / "wide.mp4", frames=2, size=(80, 48), audio=False)
    for look, film, more, said in (
        (LOOK, wide, {}, "labels of a film of 64x48"),
        (LOOK, clip, {"mask": tmp_path / "first.png"}, "--mask: does not go with --tracks"),
        (LOOK, clip, {"tracks": clip}, "not a label track"),
    ):
        if more.get("mask"):
            with pytest.raises(OptionError, match="--mask: does not go with --tracks"):
                preview(film, tmp_path / "out.png", look=look, tracks=labels, **more)
        with pytest.raises(StreamstyleError, match=r"^[^\n]*$") as error:
            stylize(film, tmp_path / "out.mp4", look=look, **{"tracks": labels, **more})  # type: ignore[arg-type]
        assert said in str(error.value)


def test_what_a_merge_is_made_of_is_missed_by_its_own_name(clip, labels):
    birds = ObjectStyle("birds", "wave")
    look = Look(background="none", objects=(birds,), called=(("butterfly", "birds"), ("object 7", "birds")))
    with pytest.raises(InputError) as error:
        given_tracks(labels, probe(clip), look)
    assert "has no object 'birds', which is to be 'butterfly' or 'object 7' but " in str(error.value)


def test_names_are_those_of_the_look(clip, labels):
    herd = Look(
        background="none", objects=(ObjectStyle("herd", "starry"),), called=(("calf", "herd"), ("object 2", "herd"))
    )
    with given(labels, clip, herd) as track:
        steps(track, times(clip))
        assert [(o.track_id, o.name) for o in track.report()] == [(1, "swan"), (2, "herd")]
    calves = ObjectStyle("calves", "starry")
    (line,) = given(labels, clip, replace(herd, objects=(calves, *herd.objects))).warnings()
    assert line == f"object 'calves': never appears, {labels} has no such object; it has herd, swan"


def test_a_track_of_which_nothing_would_be_painted_is_refused(clip, labels, tmp_path):
    cat = Look(objects=(ObjectStyle("cat", "starry"), ObjectStyle("cow", "wave")))
    with pytest.raises(InputError, match=r"has no object 'cat' but calf, object 2, swan, so nothing would") as error:
        stylize(clip, tmp_path / "out.mp4", look=cat, tracks=labels)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())
    for more in ({"background": "wave"}, {"foreground": "ember"}, {"called": (("swan", "cat"),)}):
        assert given_tracks(labels, probe(clip), replace(cat, **more)) is not None
    swan = (*cat.objects, ObjectStyle("swan", "starry"))
    assert given_tracks(labels, probe(clip), replace(cat, objects=swan)).warnings()
    assert given_tracks(None, probe(clip), cat) is None


def test_what_is_renamed_or_merged_and_never_appears_is_told(clip, labels):
    look = Look(
        background="none",
        objects=(ObjectStyle("herd", "starry"),),
        called=(("calf", "herd"), ("cow", "herd"), ("object 7", "the rock")),
    )
    there = f"never appears, {labels} has no such object; it has calf, object 2, swan"
    assert given(labels, clip, look).warnings() == [
        f"object 'cow', renamed 'herd': {there}",
        f"object 'object 7', renamed 'the rock': {there}",
    ]
    assert len(given(labels, clip, replace(look, objects=())).warnings()) == 2


def test_places_are_not_looked_at_and_that_is_told(clip, labels):
    look = Look(background="none", objects=(ObjectStyle("swan", "starry", (3000, 4)),))
    (line,) = given(labels, clip, look).warnings()
    assert "are not looked at" in line
    assert given(labels, clip).warnings() == []


@weights
@cached
def test_the_command_takes_names_and_a_track(clip, labels, tmp_path, capsys):
    words = [
        "run",
        clip,
        tmp_path / "out.mp4",
        "--background",
        "none",
        "--object",
        "swan=starry",
        "--preset",
        "ultrafast",
    ]
    assert cli.main([str(word) for word in [*words, "--tracks", labels, "--json", "--quiet"]]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [(thing["name"], thing["style"]) for thing in said["objects"]] == [("swan", "starry"), ("object 2", "none")]
    assert cli.main([str(word) for word in [*words, "--overwrite"]]) == 2
    _, err = capsys.readouterr()
    assert err.count("\n") == 1
    assert "object 'swan': where is it?" in err
    assert "--tracks" in err
