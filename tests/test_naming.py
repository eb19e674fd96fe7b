"""Named objects: opaque, checked beforehand, and told of when they are lost."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from clips import make_clip
from moving_disc import disc_in, make_moving_disc

from streamstyle import cli
from streamstyle.config import AnalysisOptions, Options, OutputOptions
from streamstyle.errors import OptionError, StreamstyleError
from streamstyle.look import Look, ObjectStyle
from streamstyle.media.masks import PALETTE
from streamstyle.media.probe import probe
from streamstyle.media.stills import encode_indexed_png
from streamstyle.naming import early_warnings, naming_frame, place_objects
from streamstyle.objects.object_warnings import nobody_warning
from streamstyle.objects.places import drawn_mask, object_mask
from streamstyle.pipeline import stylize
from streamstyle.tracks.film_objects import FilmObjects
from tests.mottled_film import mottled


def test_an_object_owns_its_holes():
    ids = np.zeros((20, 30), np.int32)
    ids[2:18, 5:25] = 1
    ids[8:12, 12:16] = 2
    thing = ObjectStyle("swan", "wave", region=1)
    mask = object_mask(thing, torch.from_numpy(ids), 3, (20, 30))
    assert np.array_equal(mask, ids > 0)


def test_a_frame_round_everything_does_not_own_everything():
    ids = np.zeros((20, 30), np.int32)
    ids[:2], ids[-2:], ids[:, :2], ids[:, -2:] = 1, 1, 1, 1
    mask = object_mask(ObjectStyle("rim", "wave", region=1), torch.from_numpy(ids), 2, (20, 30))
    assert np.array_equal(mask, ids == 1)


def test_a_place_before_what_is_painted_is_told_of():
    places = [ObjectStyle("swan", "wave", (3, 4), at_s=at_s) for at_s in (0.0, 0.2, 1.0, 2.0)]
    (line,) = early_warnings(places, 1.0)
    assert line.startswith("object 'swan' @3,4@0.2: is looked for at 1 s, where the painting starts; ")
    assert early_warnings(places, 0.0) == []


def test_the_naming_frame_is_one_that_is_painted(tmp_path):
    info = probe(make_clip(tmp_path / "in.mkv", frames=12, fps=10, audio=False))
    out = OutputOptions(start=0.51)
    frame = naming_frame(info, ObjectStyle("it", "wave", point=(1, 1), at_s=0.55), out)
    assert float((frame.pts - info.start_pts) * info.time_base) == pytest.approx(0.6)


@pytest.mark.weights
def test_an_object_lost_at_a_cut_is_told(tmp_path, asset):
    asset("hed"), asset("multistyle26")
    from streamstyle.stylizer import Stylizer

    rng = np.random.default_rng(0)
    first = np.full((96, 128, 3), (10, 10, 60), np.uint8)
    first[30:70, 40:90] = (250, 240, 30)
    second = np.repeat(np.repeat(rng.integers(150, 255, (12, 16, 3), np.uint8), 8, 0), 8, 1)
    look = Look(background="none", objects=(ObjectStyle("lamp", "wave", point=(64, 50)),))
    stylizer = Stylizer(look)
    assert len(list(stylizer.paint([first] * 6 + [second] * 14))) == 20
    assert any("object 'lamp' was lost after frame" in line for line in stylizer.warnings())


@pytest.mark.weights
@pytest.mark.parametrize(
    ("look", "told"),
    [
        (Look(background="none", foreground="wave"), True),
        (Look(style="wave", background="none"), True),
        (Look(background="wave"), False),
        (Look(background="wave", foreground="none"), False),
        (Look(style="wave"), False),
    ],
)
@pytest.mark.parametrize("named", [False, True])
def test_where_nobody_moves_it_is_told_if_who_moves_has_a_style(asset, look, told, named):
    asset("hed"), asset("multistyle26")
    from streamstyle.stylizer import Stylizer

    frame = mottled(0, (96, 128), (70, 105, 80))  # of a plain ground it would stand out
    frame[30:70, 40:90] = (250, 240, 30)
    lamp = ObjectStyle("lamp", "ember", point=(64, 50))
    stylizer = Stylizer(replace(look, objects=(lamp,) * named))
    assert stylizer.warnings() == []
    assert len(list(stylizer.paint([frame] * 8))) == 8
    assert stylizer.warnings() == [nobody_warning("appearance", named=named)] * told


@pytest.mark.weights
def test_where_there_are_no_regions_the_tracker_that_takes_them_is_not_advised(asset):
    asset("hed"), asset("multistyle26")
    from streamstyle.stylizer import Stylizer

    options = Options(analysis=AnalysisOptions(tracker="overlap"))
    stylizer = Stylizer(Look(background="none", foreground="wave"), options)
    assert len(list(stylizer.paint([np.full((96, 128, 3), 60, np.uint8)] * 3))) == 3
    assert stylizer.warnings() == [nobody_warning("overlap")]


@pytest.mark.weights
def test_who_is_taken_away_whole_is_nowhere_and_not_lost(asset):
    asset("hed"), asset("multistyle26")
    from streamstyle.stylizer import Stylizer

    frame = mottled(0, (96, 128), (70, 105, 80))  # of a plain ground it would stand out
    frame[30:70, 40:90] = (250, 240, 30)
    lamp = ObjectStyle("lamp", "ember", point=(64, 50))
    stylizer = Stylizer(Look(background="none", objects=(lamp, replace(lamp, style="", remove=True))))
    assert len(list(stylizer.paint([frame] * 12))) == 12
    (line,) = stylizer.warnings()
    assert line.startswith("object 'lamp' is nowhere: ")
    assert "take less of it away" in line


@pytest.mark.weights
def test_a_look_is_saved_only_after_the_work_is_done(tmp_path, asset, capsys):
    asset("multistyle26")
    from streamstyle.cli import main

    source = make_clip(tmp_path / "in.mp4", frames=3, audio=False)
    saved = tmp_path / "look.toml"
    words = ["run", str(source), str(tmp_path / "out.mp4"), "--style", "wave", "--save-look", str(saved)]
    assert main([*words, "--dry-run"]) == 0
    assert not saved.exists()
    assert main(words) == 0
    assert Look.read(saved) == Look(style="wave")
    assert main([*words[:2], str(tmp_path / "other.mp4"), *words[3:]]) == 2
    assert "exists; add --overwrite" in capsys.readouterr().err


def test_a_picture_is_not_written_over_its_own_source(tmp_path):
    from streamstyle.errors import OutputError
    from streamstyle.preview import preview
    from streamstyle.sheets import write_png

    source = tmp_path / "photo.png"
    write_png(source, np.zeros((48, 64, 3), np.uint8))
    before = source.read_bytes()
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="is the input itself"):
            preview(source, source, overwrite=overwrite)
    assert source.read_bytes() == before


def test_what_cannot_be_found_is_refused_before_work(tmp_path):
    source = make_clip(tmp_path / "in.mp4", frames=3, audio=False)
    look = Look(objects=(ObjectStyle("it", "wave", point=(5, 5), at_s=99.0),))
    with pytest.raises(Exception, match="99 s is beyond the end"):
        stylize(source, tmp_path / "out.mp4", look=look, options=Options())
    assert list(tmp_path.iterdir()) == [source]


class StandIn:
    """A Stylizer that finds every region at one point."""

    def __init__(self, options, *things):
        self.options, self.look, self.asked = options, Look(objects=things), []

    def point_in(self, thing, batch, color):
        self.asked.append(batch.pts[0])
        return 7, 8

    def check_object(self, thing, batch, color, ahead=None):
        self.asked.append(batch.pts[0])
        return np.ones((1, 1), bool)

    def name_objects(self, objects, drawn=None):
        self.named, self.drawn = objects, drawn


@pytest.mark.parametrize("at_s", [0.0, 0.55])
def test_a_number_is_that_of_the_frame_preview_shows_at_the_start(tmp_path, at_s):
    info = probe(make_clip(tmp_path / "in.mkv", frames=12, fps=10, audio=False))
    stylizer = StandIn(Options(output=OutputOptions(start=0.55)), ObjectStyle("it", "wave", region=3, at_s=at_s))
    place_objects(stylizer, info)
    shown, painted = (float((pts - info.start_pts) * info.time_base) for pts in stylizer.asked)
    assert (shown, painted) == (pytest.approx(0.5), pytest.approx(0.6))
    assert [(o.region, o.point) for o in stylizer.named] == [(None, (7, 8))]
    assert stylizer.named[0].at_s == pytest.approx(0.6)


def test_places_to_remove_are_placed(tmp_path):
    info = probe(make_clip(tmp_path / "in.mkv", frames=12, fps=10, audio=False))
    things = (
        ObjectStyle("it", "wave", (9, 9)),
        ObjectStyle("other", "wave", (3, 4), at_s=0.5),
        ObjectStyle("it", "wave", (3, 4), at_s=0.5, remove=True),
    )
    stylizer = StandIn(Options(), *things)
    place_objects(stylizer, info)
    assert stylizer.named[:2] == things[:2]
    # The same region as another object's, which is no fault: it leaves the one that lacks it.
    assert stylizer.named[2] == things[2]


def test_a_mask_is_taken_as_drawn_from_the_first_painted_frame_on(tmp_path):
    info = probe(make_clip(tmp_path / "in.mkv", frames=12, fps=10, audio=False))
    drawn = np.zeros((info.height, info.width), np.uint8)
    drawn[5:20, 7:30] = 3
    (tmp_path / "first.png").write_bytes(encode_indexed_png(drawn, PALETTE))
    stylizer = StandIn(Options(output=OutputOptions(start=0.55)), ObjectStyle("it", "wave", mask=3))
    place_objects(stylizer, info, tmp_path / "first.png")
    (it,) = stylizer.named
    assert (it.name, it.style, it.mask, it.region, it.point) == ("it", "wave", 3, None, None)
    assert it.at_s == pytest.approx(0.6)
    np.testing.assert_array_equal(stylizer.drawn, drawn)


def test_a_drawn_object_is_where_at_least_half_of_a_small_pixel_is_covered():
    drawn = np.zeros((40, 60), np.uint8)
    drawn[10:30, 20:42] = 2  # of the small map's columns 5 .. 9 fully, and half of column 10
    drawn[0:10, 0:5] = 1  # the small map's column 1 by a quarter
    mask = drawn_mask(drawn, 2, (10, 15))
    assert mask.dtype == bool
    expected = np.zeros((10, 15), bool)
    expected[2:8, 5:10] = expected[3:7, 5:11] = True  # rows 2 and 7 are half covered, their corners a quarter
    np.testing.assert_array_equal(mask, expected)
    assert not drawn_mask(drawn, 3, (10, 15)).any()
    np.testing.assert_array_equal(drawn_mask(drawn, 2, (40, 60)), drawn == 2)


def cards(tmp_path) -> Path:
    """Pictures of a yellow card on a lawn, and a mask of it, with label 3."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    card = np.zeros((240, 320), np.uint8)
    card[60:180, 80:160] = 3
    for i in range(4):
        picture = np.where(np.roll(card, 3 * i, 1)[..., None], np.uint8((40, 200, 230)), np.uint8((60, 120, 60)))
        cv2.imwrite(str(folder / f"{i}.png"), picture)
    (tmp_path / "first.png").write_bytes(encode_indexed_png(card, PALETTE))
    return folder


@pytest.mark.weights
@pytest.mark.usefixtures("networks")
def test_a_label_of_a_mask_is_painted(tmp_path):
    look = Look(background="none", objects=(ObjectStyle("card", "wave", mask=3),))
    folder, options = cards(tmp_path), Options(output=OutputOptions(size=120))
    report = stylize(folder, tmp_path / "out.mp4", look=look, options=options, mask=tmp_path / "first.png")
    (card,) = report.objects
    assert (card.name, card.style, card.first_frame, card.last_frame) == ("card", "wave", 0, 3)
    assert card.mean_area_px == pytest.approx(60 * 40, rel=0.05)


@pytest.mark.weights
@pytest.mark.usefixtures("networks")
def test_a_look_that_is_saved_without_its_mask_is_told_of(tmp_path, capsys):
    saved, out = tmp_path / "look.toml", tmp_path / "out.mp4"
    words = ["run", str(cards(tmp_path)), str(out), "--background", "none", "--overwrite", "--json"]
    drawn = ["--mask", str(tmp_path / "first.png"), "--object", "card@mask3=wave"]
    line = f"--save-look {saved}: a Look holds no mask; for 'card' give --mask with it again"
    for dry_run in (["--dry-run"], []):
        assert not saved.exists()
        assert cli.main([*words, *drawn, "--save-look", str(saved), *dry_run]) == 0
        told = capsys.readouterr()
        assert told.err.splitlines()[-1] == f"warning: {line}"
        assert json.loads(told.out)["warnings"] == [line]
    assert cli.main([*words, "--look", str(saved)]) == 2
    assert cli.main([*words, "--look", str(saved), *drawn[:2]]) == 0


@pytest.mark.weights
@pytest.mark.usefixtures("networks")
def test_masks_that_do_not_go_with_the_look_are_refused(tmp_path):
    folder = cards(tmp_path)

    def refused(mask, *objects, match):
        with pytest.raises(StreamstyleError, match=match):
            stylize(folder, tmp_path / "out.mp4", look=Look("wave", objects=objects), mask=mask)

    refused(None, ObjectStyle("card", "wave", mask=3), match="a label of a mask; give the mask with --mask")
    refused(tmp_path / "first.png", ObjectStyle("card", "wave", mask=2), match="has no such label; it has 3")
    refused(tmp_path / "first.png", match='no --object is one of its labels; add --object "NAME@mask3=STYLE"')
    refused(tmp_path / "gone.png", ObjectStyle("card", "wave", mask=3), match="no such file")
    twice = ObjectStyle("card", "wave", mask=3), ObjectStyle("duck", "starry", mask=3)
    refused(tmp_path / "first.png", *twice, match="object 'duck' @mask3: that label is object 'card'; name it once")


@pytest.mark.weights
@pytest.mark.usefixtures("cached")
def test_one_region_has_one_name(tmp_path):
    source = make_clip(tmp_path / "in.mp4", frames=3, audio=False)
    one, other = ObjectStyle("a", "wave", region=1), ObjectStyle("b", "starry", region=1)
    with pytest.raises(OptionError, match="object 'b' @#1: that region is object 'a'; name it once"):
        stylize(source, tmp_path / "out.mp4", look=Look(background="none", objects=(one, other)), options=Options())
    assert list(tmp_path.iterdir()) == [source]


# -- in words ---------------------------------------------------------------------------------------------------------


def wordy(argument: str, device: str):
    """A plugin that knows one word: the disc, which is brighter than all else; it is asked for regions as well."""

    def find(rgb, prompts=()):
        bright = (rgb.mean(2) > 130).astype(np.int32)
        if not prompts:
            return bright
        assert [prompt.text for prompt in prompts] in (["the disc"], ["a unicorn"])
        return bright if prompts[0].text == "the disc" else np.zeros_like(bright)

    find.takes = ("words",)
    return find


@pytest.fixture
def wordy_segmenter(monkeypatch):
    monkeypatch.setattr("streamstyle.plugins._loader", lambda name: wordy if name == "wordy" else None)


def named_in_words(words: str, at_s: float = 0.0) -> Look:
    return Look(background="none", objects=(ObjectStyle("it", "wave", words=words, at_s=at_s),))


@pytest.mark.weights
@pytest.mark.parametrize("at_s", [0.0, 0.12])
def test_an_object_in_words_is_found_and_followed(tmp_path, asset, wordy_segmenter, at_s):
    asset("hed")
    film = make_moving_disc(tmp_path / "film", 8)
    found = FilmObjects(
        probe(film), named_in_words("the disc", at_s), None, AnalysisOptions("wordy"), torch.device("cpu")
    )
    first = round(at_s * 25)
    for i, frame in enumerate(found.labelled()):
        is_it = cv2.resize(frame.labels.astype(np.uint8), (160, 120), interpolation=cv2.INTER_NEAREST) == 1
        if i < first:
            assert not is_it.any()
        else:
            disc = disc_in(i)
            assert (is_it & disc).sum() / (is_it | disc).sum() > 0.85


@pytest.mark.weights
def test_an_object_in_words_is_painted(tmp_path, asset, wordy_segmenter):
    asset("hed"), asset("multistyle26")
    film = make_moving_disc(tmp_path / "film", 4)
    options = Options(AnalysisOptions("wordy"), output=OutputOptions(size=60))
    report = stylize(film, tmp_path / "out.mp4", look=named_in_words("the disc"), options=options)
    assert [one.name for one in report.objects] == ["it"]
    assert report.frames_out == 4


@pytest.mark.weights
def test_words_that_mean_nothing_are_refused_before_work(tmp_path, asset, wordy_segmenter):
    asset("hed"), asset("multistyle26")
    film, out = make_moving_disc(tmp_path / "film", 3), tmp_path / "out.mp4"
    with pytest.raises(
        OptionError, match=r"object 'it' @\"a unicorn\": wordy finds none in that frame; .* it@320,240$"
    ):
        stylize(film, out, look=named_in_words("a unicorn"), options=Options(AnalysisOptions("wordy")))
    with pytest.raises(OptionError, match="object 'it' @\"the disc\": --segmenter regions takes no words; point at it"):
        stylize(film, out, look=named_in_words("the disc"))
    assert not out.exists()


# -- clicks, for a segmenter that takes them --------------------------------------------------------------------------

CLICKS = list[tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]]()


def clicky(argument: str, device: str):
    """A plugin that sees halves of a picture, and knows the disc when it is pointed at; notes what it is asked."""

    def find(rgb, prompts=()):
        bright = (rgb.mean(2) > 130).astype(np.int32)
        if not prompts:
            ids = np.zeros_like(bright)
            ids[: len(ids) // 2], ids[len(ids) // 2 :] = 1, 2
            return ids
        (prompt,) = prompts
        CLICKS.append((prompt.points, prompt.not_points))
        (x, y), *_ = prompt.points
        return bright * bright[y, x]

    find.takes = ("points",)
    return find


@pytest.fixture
def clicky_segmenter(monkeypatch):
    monkeypatch.setattr("streamstyle.plugins._loader", lambda name: clicky if name == "clicky" else None)
    CLICKS.clear()


@pytest.mark.weights
@pytest.mark.parametrize("at_s", [0.0, 0.12])
def test_a_click_is_what_the_segmenter_says_of_it(tmp_path, asset, clicky_segmenter, at_s):
    """Not the region under it, of all that it finds, which is half the picture."""
    asset("hed")
    film, first = make_moving_disc(tmp_path / "film", 8), round(at_s * 25)
    click = ObjectStyle("it", "wave", (56 + 3 * first, 60), at_s=at_s)
    options = AnalysisOptions("clicky")
    found = FilmObjects(probe(film), Look("none", objects=(click,)), None, options, torch.device("cpu"))
    for i, frame in enumerate(found.labelled()):
        is_it = cv2.resize(frame.labels.astype(np.uint8), (160, 120), interpolation=cv2.INTER_NEAREST) == 1
        if i < first:
            assert not is_it.any()
        else:
            assert (is_it & disc_in(i)).sum() / (is_it | disc_in(i)).sum() > 0.85
    assert set(CLICKS) == {(((56 + 3 * first, 60),), ())}


@pytest.mark.weights
def test_what_is_taken_away_in_that_frame_is_told_the_segmenter(tmp_path, asset, clicky_segmenter):
    asset("hed"), asset("multistyle26")
    film = make_moving_disc(tmp_path / "film", 3)
    words = ["--object", "it@56,60=wave", "--object=-it@5,5", "--object=-it@9,9@0.08", "--background", "none"]
    words += ["--segmenter", "clicky", "--preset", "ultrafast", "--quiet"]
    assert cli.main(["run", str(film), str(tmp_path / "out.mp4"), *words]) == 0
    assert CLICKS[-1] == (((56, 60),), ((5, 5),))


@pytest.mark.weights
def test_a_click_that_means_nothing_is_refused_before_work(tmp_path, asset, clicky_segmenter):
    asset("hed"), asset("multistyle26")
    film, out = make_moving_disc(tmp_path / "film", 3), tmp_path / "out.mp4"
    look = Look(background="none", objects=(ObjectStyle("it", "wave", (3, 3)),))
    with pytest.raises(OptionError, match=r"object 'it' @3,3: clicky finds nothing there; click elsewhere, as in it@"):
        stylize(film, out, look=look, options=Options(AnalysisOptions("clicky")))
    assert not out.exists()
