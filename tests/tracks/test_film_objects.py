"""Tracks: who has which number and name, a mask's objects found as regions, the command from end to end."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from clips import make_clip

from streamstyle import cli
from streamstyle.config import AnalysisOptions, OutputOptions
from streamstyle.errors import InputError, OptionError, OutputError, StreamstyleError
from streamstyle.look import Look, ObjectStyle
from streamstyle.media.images import TICKS
from streamstyle.media.label_track import LabelTrack
from streamstyle.media.masks import PALETTE, Mask
from streamstyle.media.probe import probe
from streamstyle.media.stills import encode_indexed_png, read_still
from streamstyle.objects.object_tracks import OverlapTracks
from streamstyle.objects.object_warnings import taken_warnings
from streamstyle.objects.tracker import Track, Tracker
from streamstyle.tracks import film_objects as module
from streamstyle.tracks.film_objects import NOBODY, FilmObjects, LabelBook, tracks
from tests.oracles import iou

# -- numbers and names ------------------------------------------------------------------------------------------------


def mask(*labels: int) -> Mask:
    return Mask(np.array([labels], np.uint8), {label: f"object {label}" for label in labels})


def test_tracks_without_names_are_numbered_as_they_are_met():
    book = LabelBook(Look("none"), None)
    assert [book.label_of_track(track) for track in (9, 4, 9, 5)] == [1, 2, 1, 3]
    assert book.names == {1: "object 1", 2: "object 2", 3: "object 3"}


def test_merging_moves_no_other_number():
    book = LabelBook(Look("none", called=(("object 3", "herd"), ("object 1", "herd"), ("object 2", "dog"))), None)
    assert [book.label_of_track(track) for track in (11, 12, 13, 14)] == [1, 2, 1, 4]
    assert book.names == {1: "herd", 2: "dog", 4: "object 4"}


def test_named_objects_come_alone():
    book = LabelBook(Look(objects=(ObjectStyle("b", "wave", (1, 2)), ObjectStyle("a", "wave", (1, 2)))), None)
    assert book.names == {1: "b", 2: "a"}
    assert (book.label_of("a"), book.label_of_track(7)) == (2, 0)


def test_a_masks_objects_keep_their_labels():
    look = Look(
        objects=(ObjectStyle("swan", "wave", mask=3), ObjectStyle("dog", "wave", (1, 2))),
        called=(("object 7", "herd"),),
    )
    book = LabelBook(look, mask(3, 5, 7))
    assert book.names == {3: "swan", 5: "object 5", 7: "herd", 8: "dog"}
    assert [book.label_of(name) for name in ("swan", "object 5", "herd", "dog")] == [3, 5, 7, 8]


def test_two_labels_of_one_name_are_one_object():
    look = Look(objects=(ObjectStyle("herd", "wave", mask=2), ObjectStyle("herd", "wave", mask=5)))
    book = LabelBook(look, mask(2, 5))
    assert (book.names, book.label_of("herd")) == ({2: "herd"}, 2)


def test_objects_beyond_the_largest_number_get_none_and_are_counted():
    book = LabelBook(Look("none", called=(("object 5", "object 1"),)), None, most=3)
    assert [book.label_of_track(track) for track in (1, 2, 3, 4, 5, 4, 6, 1)] == [1, 2, 3, 0, 1, 0, 0, 1]
    assert set(book.names) == {1, 2, 3}
    assert book.left_out == 2


def test_a_named_object_beyond_the_largest_number_takes_one_that_is_free():
    look = Look(objects=tuple(ObjectStyle(name, "wave", (1, 2)) for name in "abc"))
    book = LabelBook(look, mask(2, 4), most=4)
    assert book.names == {2: "object 2", 4: "object 4", 1: "a", 3: "b"}
    assert (book.label_of("c"), book.left_out) == (0, 1)


def test_a_book_begins_again_and_forgets_who_is_not_kept():
    book = LabelBook(Look("none"), None)
    names = book.names
    assert [book.label_of_track(track) for track in (7, 8)] == [1, 2]
    book.keep({8})
    assert [book.label_of_track(track) for track in (8, 7)] == [2, 3]
    book.restart()
    assert names == {}
    assert book.label_of_track(8) == 1
    assert book.names is names


class Told(FilmObjects):
    """Objects of a film that is not read: a tracker is shown in its place."""

    def __init__(self, look, tracker, drawn=None, **how):
        super().__init__(SimpleNamespace(path="in.mp4"), look, drawn, AnalysisOptions(), torch.device("cpu"), **how)
        self._tracks = OverlapTracks(None, "regions", (), 1)
        self._tracks.tracker = tracker

    def table(self):
        return self._label_table(self._tracks.tracker).tolist()


@pytest.fixture
def no_networks(monkeypatch):
    monkeypatch.setattr(module, "Segmenter", lambda *_, **__: None)


def test_what_does_not_last_uses_no_number_up(no_networks):
    tracker = Tracker()
    told = Told(NOBODY, tracker, most=2)
    for frame in range(300):  # one after the other splits off the background, and is gone
        tracker.tracks[1] = Track(frame + 1, frame, confirmed=False)
        tracker.observe(np.array([9, 9]), frame)
        assert told.table() == [0, 0]
        tracker.observe(np.array([9, 0]), frame)
    tracker.tracks = {slot: Track(1000 + slot, 600, seen=1) for slot in (1, 2, 3)}
    assert told.table() == told.table() == [0, 1, 2, 0]
    assert [row["label"] for row in told.report()] == [1, 2]
    told._tracks.left_out = 3
    line, other = told.warnings()
    assert other.startswith("3 regions beyond the 4096 a frame may have went to the background")
    assert line == (
        "1 object is left out, beyond number 2, the last there is; write labels.npz, or name the objects that matter"
    )


def test_tracks_the_tracker_forgets_are_forgotten(no_networks, monkeypatch):
    monkeypatch.setattr("streamstyle.objects.tracker.MOST_ENDED", 5)
    tracker = Tracker()
    told = Told(NOBODY, tracker)
    for number in range(1, 200):
        tracker.tracks[1] = Track(number, number)
        tracker.observe(np.array([9, 9 + number]), number)
        assert told.table() == [0, number]
        tracker.observe(np.array([9, 0]), number)
    told.table()
    assert len(told._book._of_track) <= 12
    labels = [row["label"] for row in told.report()]
    assert labels == [track.track_id for track in sorted(tracker.ended, key=lambda track: track.track_id)]


def test_a_merge_of_what_is_found_needs_no_place(no_networks):
    herd = ObjectStyle("herd", "wave")
    merged = Look(objects=(herd,), called=(("object 1", "herd"), ("object 3", "herd")))
    tracker = Tracker()
    tracker.tracks = {slot: Track(slot, 0) for slot in (1, 2, 3)}
    assert Told(merged, tracker).table() == [0, 1, 2, 1]
    assert Told(merged, Tracker(), mask(1, 3, 4)).names == {1: "herd", 4: "object 4"}
    assert Told(Look(objects=(herd,)), Tracker()).names == {1: "herd"}  # nobody's other name: it must have a place


# -- end to end -------------------------------------------------------------------------------------------------------


@pytest.fixture
def clip(tmp_path) -> Path:
    return make_clip(tmp_path / "in.mp4", frames=6, size=(320, 240))


def where(i: int) -> np.ndarray:
    """The card in picture i, [240, 320] bool."""
    card = np.zeros((240, 320), bool)
    card[60:180, 80 + 3 * i : 160 + 3 * i] = True
    return card


def mottled(rng: np.random.Generator, size: tuple[int, int], colour: tuple[int, int, int], grain: float) -> np.ndarray:
    """A surface of that colour, [H, W, 3] uint8."""
    noise = cv2.GaussianBlur(rng.normal(0, 1, (*size, 1)).astype(np.float32), (0, 0), grain)
    return np.clip(np.array(colour) + 15 * (noise / noise.std())[..., None], 0, 255).astype(np.uint8)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Pictures of a mottled yellow card moving over a lawn: motion is seen only where there is something to see."""
    at = tmp_path / "pictures"
    at.mkdir()
    rng = np.random.default_rng(0)
    lawn = mottled(rng, (240, 320), (60, 120, 60), 1.5)
    card = mottled(rng, (120, 80), (40, 200, 230), 1.5)
    for i in range(6):
        picture = lawn.copy()
        picture[60:180, 80 + 3 * i : 160 + 3 * i] = card
        cv2.imwrite(str(at / f"{i}.png"), picture)
    return at


def first_card(path: Path, label: int = 1) -> Path:
    """A mask of the card in the first picture."""
    path.write_bytes(encode_indexed_png(where(0) * np.uint8(label), PALETTE))
    return path


@pytest.mark.weights
@pytest.mark.usefixtures("cached")
def test_an_object_of_a_mask_is_followed(tmp_path, folder):
    shown = first_card(tmp_path / "first.png", 3)
    report = tracks(folder, tmp_path / "masks" / "%05d.png", mask=shown)
    assert (report.frames, report.kind, report.width, report.height) == (6, "masks", 320, 240)
    assert [(thing["label"], thing["name"]) for thing in report.objects] == [(3, "object 3")]
    for i in range(6):
        labels = read_still(tmp_path / "masks" / f"{i:05d}.png").pixels
        assert iou(labels == 3, where(i)) > 0.9
        assert set(np.unique(labels)) == {0, 3}


@pytest.mark.weights
@pytest.mark.usefixtures("cached")
def test_what_moves_by_itself_is_followed_without_a_word(tmp_path, folder):
    report = tracks(folder, tmp_path / "labels.npz")
    assert [(thing["label"], thing["name"]) for thing in report.objects] == [(1, "object 1")]
    with LabelTrack(tmp_path / "labels.npz") as track:
        assert (len(track), track.size) == (6, (240, 320))
        assert track.names == {1: "object 1"}
        assert iou(track[5] == 1, where(5)) > 0.85


@pytest.mark.weights
@pytest.mark.usefixtures("cached")
def test_a_number_that_is_mended_and_nobody_has_is_told(tmp_path, folder):
    look = Look("none", called=(("object 1", "card"), ("object 4", "card"), ("object 5", "dog")))
    report = tracks(folder, tmp_path / "labels.npz", look=look)
    assert [(thing["label"], thing["name"]) for thing in report.objects] == [(1, "card")]
    there = f"never appears, {folder} has no such object; it has object 1"
    assert report.warnings == (
        f"object 'object 4', renamed 'card': {there}",
        f"object 'object 5', renamed 'dog': {there}",
    )


@pytest.mark.weights
@pytest.mark.usefixtures("cached")
def test_a_second_reading_begins_the_film_anew(folder):
    found = FilmObjects(probe(folder), NOBODY, None, AnalysisOptions(), torch.device("cpu"))
    first, second = ([shown.labels for shown in found.labelled()] for _ in range(2))
    assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))
    assert max(labels.max() for labels in second) == 1
    (row,) = found.report()
    assert (row["label"], row["first_frame"], row["last_frame"]) == (1, 0, 5)


@pytest.mark.weights
@pytest.mark.usefixtures("cached")
def test_every_region_is_followed_without_a_word_in_the_papers_way(tmp_path, folder):
    report = tracks(folder, tmp_path / "labels.npz", analysis=AnalysisOptions(tracker="overlap"))
    assert report.objects
    with LabelTrack(tmp_path / "labels.npz") as track:
        assert (len(track), track.size) == (6, (240, 320))
        assert set(track.names) == {thing["label"] for thing in report.objects}
        assert max(iou(track[0] == label, where(0)) for label in track.names) > 0.85


@pytest.mark.weights
@pytest.mark.usefixtures("cached")
def test_a_named_object_at_a_rate_of_ones_own(tmp_path, folder, capsys):
    words = ["tracks", folder, "--out", tmp_path / "a.npz", "--object", "card@100,120", "--fps", "10", "--json"]
    assert cli.main([str(word) for word in words]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [(thing["label"], thing["name"]) for thing in said["objects"]] == [(1, "card")]
    assert cli.main([*map(str, words[:-1]), "--overwrite", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    with LabelTrack(tmp_path / "a.npz") as track:
        assert (track.pts * track.time_base).tolist() == [Fraction(i, 10) for i in range(6)]
        assert track.pts.tolist() == [i * TICKS for i in range(6)]
        assert [frame[120, 120] for frame in track] == [1] * 6


@pytest.mark.weights
@pytest.mark.usefixtures("cached")
def test_a_style_that_is_typed_is_told_to_be_left_out(tmp_path, folder, capsys):
    words = ["tracks", folder, "--out", tmp_path / "a.npz", "--object", "card@100,120=starry", "--json"]
    assert cli.main([str(word) for word in words]) == 0
    told = capsys.readouterr()
    (line,) = json.loads(told.out)["warnings"]
    assert line.startswith("--object: the style of 'card' is left out, for nothing is painted here")
    assert told.err == f"warning: {line}\n"


@pytest.mark.weights
@pytest.mark.usefixtures("cached")
def test_what_is_taken_out_of_an_object_leaves_it_at_its_moment(tmp_path, folder):
    look = Look(
        objects=(ObjectStyle("card", "none", (100, 120)), ObjectStyle("card", "", (112, 120), at_s=0.12, remove=True))
    )
    report = tracks(folder, tmp_path / "labels.npz", look=look)
    assert [(thing["label"], thing["name"]) for thing in report.objects] == [(1, "card")]
    assert report.warnings == ()
    with LabelTrack(tmp_path / "labels.npz") as track:
        assert [int(frame[120, 120]) for frame in track] == [1, 1, 1, 0, 0, 0]
        assert track.names == {1: "card"}


@pytest.mark.weights
@pytest.mark.usefixtures("cached")
@pytest.mark.parametrize(
    ("thing", "said"),
    [
        (ObjectStyle("swan", "none", (9999, 30), at_s=0.16), r"object 'swan' @9999,30@0.16: outside the frame"),
        (ObjectStyle("card", "", (9999, 30), at_s=0.16, remove=True), r"'card' @9999,30@0.16: outside the frame"),
        (ObjectStyle("swan", "none", region=99, at_s=0.13), r"object 'swan' @#99@0.13: no such region"),
        (ObjectStyle("swan", "none", (300, 5), at_s=0.13), r"object 'swan' @300,5@0.13: on no object"),
        (ObjectStyle("swan", "none", (30, 30), at_s=60), r"object 'swan' @30,30@60: .* 60 s is beyond the end"),
        (ObjectStyle("swan", "none", (101, 121)), r"@101,121: that region is object .card.; name it once"),
        (ObjectStyle("swan", "none"), r"object 'swan': where is it\? Give a place, as in swan@320,240"),
    ],
)
def test_a_place_that_is_none_is_refused_before_a_frame_is_followed(tmp_path, folder, thing, said):
    followed, card = [], ObjectStyle("card", "none", (100, 120))
    with pytest.raises(StreamstyleError, match=said):
        tracks(folder, tmp_path / "a.npz", look=Look(objects=(card, thing)), on_frames=lambda *_: followed.append(1))
    assert (followed, (tmp_path / "a.npz").exists()) == ([], False)


@pytest.mark.weights
@pytest.mark.usefixtures("cached")
def test_who_is_nowhere_or_was_never_named_is_told_as_run_tells_it(tmp_path, folder):
    at = replace(ObjectStyle("card", "none", (100, 120)), remove=True)
    report = tracks(folder, tmp_path / "a.npz", look=Look(objects=(ObjectStyle("card", "none", (100, 120)), at)))
    assert report.objects == ()
    assert report.warnings[0] == taken_warnings(["card"])[0]


@pytest.mark.weights
@pytest.mark.usefixtures("cached")
@pytest.mark.parametrize("name", ["wake", "card"])
def test_who_takes_another_whole_is_told_and_not_who_adds_to_itself(tmp_path, folder, name):
    card, later = ObjectStyle("card", "none", (100, 120)), ObjectStyle(name, "none", (108, 120), at_s=0.08)
    report = tracks(folder, tmp_path / "a.npz", look=Look(objects=(card, later)))
    told = "object 'wake' took nearly all of object 'card' at 0.08 s"
    assert any(line.startswith(told) for line in report.warnings) == (name == "wake")


def test_the_mask_that_is_read_is_not_replaced(tmp_path, clip):
    folder = tmp_path / "masks"
    folder.mkdir()
    mask = first_card(folder / "00000.png")
    with pytest.raises(OutputError, match=r"00000\.png would be replaced, which is read; give another folder"):
        tracks(clip, folder / "%05d.png", mask=mask, output=OutputOptions(overwrite=True))
    assert mask.exists()


def test_what_does_not_go_together_is_refused_before_any_work(tmp_path, clip):
    labelled = Look(objects=(ObjectStyle("swan", "wave", mask=2),))
    with pytest.raises(OptionError, match="object 'swan' @mask2: a label of a mask; give the mask with --mask"):
        tracks(clip, tmp_path / "a.npz", look=labelled)
    with pytest.raises(OptionError, match="the mask has no such label; it has 1"):
        tracks(clip, tmp_path / "a.npz", look=labelled, mask=first_card(tmp_path / "first.png"))
    cv2.imwrite(str(tmp_path / "small.png"), np.full((60, 80), 255, np.uint8))
    with pytest.raises(InputError, match="is 80x60, the film 320x240"):
        tracks(clip, tmp_path / "a.npz", mask=tmp_path / "small.png")
    with pytest.raises(OutputError, match="not a kind of tracks"):
        tracks(clip, tmp_path / "a.gif")
    with pytest.raises(OptionError, match="has its own rate"):
        tracks(clip, tmp_path / "a.npz", output=OutputOptions(fps=10))
    assert {path.name for path in tmp_path.iterdir()} == {"in.mp4", "first.png", "small.png"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--out", "a.gif"), "not a kind of tracks"),
        (("--out", "a.npz", "--object", "swan"), "not understood"),
        (("--out", "a.npz", "--mask", "gone.png"), "no such file"),
        (("--out", "gone/a.npz"), "does not exist"),
        ((), "--out"),
    ],
)
def test_the_command_refuses_in_one_line(capsys, monkeypatch, tmp_path, clip, words, said):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["tracks", str(clip), *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.count("\n") == 1
