"""A click where no region is, on what moves by itself or on what an object has there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from moving_disc import FAINT, disc_in, make_faint_disc

from streamstyle import pipeline
from streamstyle.config import AnalysisOptions, Options, OutputOptions
from streamstyle.errors import OptionError
from streamstyle.look import Look, ObjectStyle
from streamstyle.media.masks import Mask
from streamstyle.media.probe import probe
from streamstyle.objects.object_warnings import untaken_warnings
from streamstyle.pipeline import stylize
from streamstyle.stylizer import Stylizer
from streamstyle.tracks.film_objects import FilmObjects

FAST = Options(output=OutputOptions(preset="ultrafast"))


def faint(tmp_path, frames: int = 12) -> Path:
    return make_faint_disc(tmp_path / "film", frames)


def inside(i: int) -> tuple[int, int]:
    """The middle of the faint disc in frame i."""
    return 112 + 6 * i, 120


def car(i: int, **said) -> ObjectStyle:
    return ObjectStyle("car", "" if "remove" in said else "wave", inside(i), at_s=i / 25, **said)


def labels_of(film: Path, *objects: ObjectStyle, analysis: AnalysisOptions | None = None) -> list[np.ndarray]:
    """Of each frame where the named object is."""
    look, device = Look("none", objects=objects), torch.device("cpu")
    found = FilmObjects(probe(film), look, None, analysis or AnalysisOptions(), device)
    return [frame.labels == 1 for frame in found.labelled()]


def there(i: int) -> np.ndarray:
    return disc_in(i, FAINT, 6)


@pytest.mark.weights
@pytest.mark.parametrize("first", [0, 3])
def test_a_click_on_what_moves_names_it_though_no_region_is_there(tmp_path, asset, first):
    asset("hed")
    for i, is_it in enumerate(labels_of(faint(tmp_path), car(first))):
        if i < first:
            assert not is_it.any()
        else:
            least = 0.5 if first else 0.25  # of a flat disc on flat ground the first frame shows a part
            assert (is_it & there(i)).sum() / (is_it | there(i)).sum() > least, f"frame {i}"


@pytest.mark.weights
@pytest.mark.parametrize(("place", "tracker"), [((300, 20), "appearance"), (inside(0), "overlap")])
def test_a_click_on_still_ground_is_refused_and_any_where_motion_is_not_followed(tmp_path, asset, place, tracker):
    asset("hed"), asset("multistyle26")
    film, out, thing = faint(tmp_path, 8), tmp_path / "out.mp4", ObjectStyle("car", "wave", place)
    for remove in (False, True):
        objects, analysis = (thing, replace(thing, style="", remove=True))[: 1 + remove], AnalysisOptions()
        analysis = replace(analysis, tracker=tracker)
        with pytest.raises(OptionError, match=r"object 'car' @\d+,\d+: on no object, that is the background"):
            labels_of(film, *objects, analysis=analysis)
        with pytest.raises(OptionError, match=r"object 'car' @\d+,\d+: on no object, that is the background"):
            stylize(film, out, look=Look(background="none", objects=objects), options=Options(analysis))
    assert not out.exists()


@pytest.mark.weights
@pytest.mark.parametrize("foreground", [None, "starry"])
def test_run_paints_what_was_clicked_as_tracks_finds_it(tmp_path, asset, monkeypatch, foreground):
    """Also where what moves has a style already, and whatever comes in a batch."""
    asset("hed"), asset("multistyle26")
    film, first = faint(tmp_path), 3
    look = Look(background="none", foreground=foreground, objects=(car(first),))
    areas = []
    for batch in (1, 5):
        monkeypatch.setattr(pipeline, "frames_of", lambda *_, batch=batch: (batch, 10))
        report = stylize(film, tmp_path / f"{batch}.mp4", look=look, options=FAST)
        (it,) = (thing for thing in report.objects if thing.name == "car")
        assert (it.first_frame, it.last_frame) == (first, 11)
        areas.append(it.mean_area_px)
    assert areas[0] == areas[1]
    assert 0.5 < areas[0] / there(5).sum() < 1.2
    if foreground is None:
        maps = labels_of(film, car(first))
        assert areas[0] == pytest.approx(np.mean([is_it.sum() for is_it in maps[first:]]), rel=0.1)


@pytest.mark.weights
def test_what_an_object_has_on_no_region_is_taken_away(tmp_path, asset):
    asset("hed"), asset("multistyle26")
    film, objects = faint(tmp_path), (car(0), car(10, remove=True))  # nothing is known to move in the last frames
    maps = labels_of(film, *objects)
    assert all(is_it.any() for is_it in maps[:10])
    assert not any(is_it.any() for is_it in maps[10:])
    look = Look(background="none", objects=objects)
    (it,) = stylize(film, tmp_path / "out.mp4", look=look, options=FAST).objects
    assert (it.first_frame, it.last_frame) == (0, 9)


@pytest.mark.weights
@pytest.mark.parametrize("at", [0, 4])
def test_what_was_taken_away_whole_does_not_come_back(tmp_path, asset, at):
    """Nor from specks that are left of it; in the frame it is named in it is taken away by the same click."""
    asset("hed"), asset("multistyle26")
    film, objects = faint(tmp_path, 24), (car(0), car(at, remove=True))
    maps = labels_of(film, *objects)
    assert all(is_it.any() for is_it in maps[:at])
    assert not any(is_it.any() for is_it in maps[at:])
    report = stylize(film, tmp_path / "out.mp4", look=Look(background="none", objects=objects), options=FAST)
    assert [thing.last_frame for thing in report.objects] == [at - 1] * (at > 0)


@pytest.mark.weights
def test_a_speck_that_is_left_does_not_find_what_was_taken_away(tmp_path, asset):
    asset("hed")
    drawn = there(0)
    drawn[20:23, 20:23] = True
    look = Look("none", objects=(ObjectStyle("car", "wave", mask=1), car(0, remove=True)))
    film = probe(faint(tmp_path, 24))
    found = FilmObjects(film, look, Mask(np.uint8(drawn), {1: "car"}), AnalysisOptions(), torch.device("cpu"))
    assert not any((frame.labels == 1).any() for frame in found.labelled())


@pytest.mark.weights
@pytest.mark.parametrize("size", [None, 480])
@pytest.mark.parametrize("order", [1, -1])
def test_what_a_click_named_another_takes_away_in_the_same_frame(tmp_path, asset, size, order):
    """Whichever is said first, at any size that is painted; away from the middle, where rows and columns differ."""
    asset("hed"), asset("multistyle26")
    film, aside = faint(tmp_path, 8), replace(car(0, remove=True), point=(130, 100))
    look, options = Look(background="none", objects=(car(0), aside)[::order]), Options(output=OutputOptions(size=size))
    report = stylize(film, tmp_path / "out.mp4", look=look, options=options)
    assert report.objects == ()
    (told,) = report.warnings
    assert told.startswith("object 'car' is nowhere")


@pytest.mark.weights
def test_a_click_elsewhere_leaves_what_is_small(tmp_path, asset):
    asset("hed")
    drawn = np.zeros_like(there(0))
    drawn[118:121, 110:113] = True  # fewer pixels than can be learned from
    film, found = probe(faint(tmp_path, 4)), list[int]()
    for aside in ((), (replace(car(0, remove=True), point=(300, 20)),)):
        look = Look("none", objects=(ObjectStyle("car", "wave", mask=1), *aside))
        tracks = FilmObjects(film, look, Mask(np.uint8(drawn), {1: "car"}), AnalysisOptions(), torch.device("cpu"))
        found.append(int((next(iter(tracks.labelled())).labels == 1).sum()))
    assert found[0] == found[1] == drawn.sum()


@pytest.mark.weights
def test_tracks_refuses_what_run_refuses(tmp_path, asset):
    asset("hed")
    for objects in ((car(0), replace(car(0, remove=True), point=(300, 20))), (car(3, remove=True), car(4))):
        with pytest.raises(OptionError, match=r"'-car' @.*: on no object, there is nothing to take away"):
            labels_of(make_faint_disc(tmp_path / str(len(list(tmp_path.iterdir()))), 8), *objects)


@pytest.mark.weights
def test_what_lies_beside_an_object_is_not_taken_for_it(tmp_path, asset):
    """A click beside it takes nothing away, though that moves too and hangs together with it."""
    asset("hed")
    film, drawn = faint(tmp_path), there(0)
    drawn[:, 112:] = False  # half of what moves
    mask = Mask(np.uint8(drawn), {1: "car"})

    def areas(*objects: ObjectStyle) -> list[int]:
        look = Look("none", objects=(ObjectStyle("car", "wave", mask=1), *objects))
        found = FilmObjects(probe(film), look, mask, AnalysisOptions(), torch.device("cpu"))
        said.append(found)
        return [int((frame.labels == 1).sum()) for frame in found.labelled()]

    said: list[FilmObjects] = []
    alone, beside = areas(), areas(replace(car(0, remove=True), point=(140, 120)))
    assert beside == alone
    assert said[0].warnings() == []
    assert said[1].warnings() == untaken_warnings([("car", 0.0)])


@pytest.mark.weights
def test_of_an_object_that_is_not_drawn_nothing_lies_on_no_region_in_its_first_frame(tmp_path, asset):
    asset("hed"), asset("multistyle26")
    film, out, wrong = faint(tmp_path), tmp_path / "out.mp4", replace(car(0, remove=True), point=(300, 20))
    for size in (None, 480):
        look, options = Look(background="none", objects=(car(0), wrong)), Options(output=OutputOptions(size=size))
        with pytest.raises(OptionError, match=r"'-car' @300,20: on no object, there is nothing to take away"):
            stylize(film, out, look=look, options=options)
    assert list(tmp_path.iterdir()) == [film]


@pytest.mark.weights
def test_that_nothing_was_taken_away_is_told_also_by_who_goes_on(tmp_path, asset):
    asset("hed"), asset("multistyle26")
    film, wrong = faint(tmp_path), replace(car(3, remove=True), point=(300, 20))
    look, told = Look(background="none", objects=(car(0), wrong)), untaken_warnings([("car", 0.12)])
    report = stylize(film, tmp_path / "out.mp4", look=look, options=FAST)
    assert list(report.warnings) == told
    assert report.objects[0].last_frame == 11
    stylizer = Stylizer(look)
    stylizer._scene.tracks.untaken.append(("car", 0.12))
    other = Stylizer(look)
    other.load_state_dict(stylizer.state_dict())
    other._scene._begun = True
    assert other.warnings()[-1:] == told
