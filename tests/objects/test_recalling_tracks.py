"""Named objects in a new shot: who is known again, who is not, and a person's word that wins over it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from streamstyle.config import AnalysisOptions, Options, OutputOptions
from streamstyle.look import Look, ObjectStyle
from streamstyle.media.label_track import LabelTrack
from streamstyle.media.states import read_state, write_state
from streamstyle.objects import recall
from streamstyle.objects.appearance_tracks import EAGER_FRAMES, AppearanceTracks
from streamstyle.objects.object_warnings import nobody_warning
from streamstyle.objects.recall import SEARCH_LOOKS
from streamstyle.objects.recalling_tracks import RecallingTracks
from streamstyle.objects.segmenter import Segmentation, Segmenter
from streamstyle.pipeline import stylize
from streamstyle.tracks.film_objects import tracks as write_tracks
from tests.mottled_film import BLUE, RED, Film, Thing, named, rising, run
from tests.oracles import iou

pytestmark = [pytest.mark.weights, pytest.mark.usefixtures("cached", "networks")]
CUT, FRAMES = 8, 20
SAND = (150, 140, 100)


@pytest.fixture(scope="module")
def segmenter(cached: None) -> Segmenter:
    return Segmenter(AnalysisOptions(detail=0.5), torch.device("cpu"), features=True)


@dataclass
class Shots:
    """A film of two, the other from frame CUT on."""

    first: Film
    second: Film

    def luma(self, frame: int) -> np.ndarray:
        return self.first.luma(frame) if frame < CUT else self.second.luma(frame - CUT)

    def found(self, segmenter: Segmenter, frame: int) -> Segmentation:
        return self.first.found(segmenter, frame) if frame < CUT else self.second.found(segmenter, frame - CUT)


FIRST = Film([Thing(RED, 40, rising(40, 20, 0, 3), round=True)])
HERE = Film([Thing(RED, 52, rising(30, 130, 1, -4), round=True)], ground=SAND)
"""The thing of FIRST from another side, larger and before another ground."""
OTHER = Film([Thing(BLUE, 52, rising(30, 130, 1, -4), round=True)], ground=SAND)
TWINS = Film(
    [Thing(RED, 40, rising(10, 130, 0, -4), round=True), Thing(RED, 40, rising(90, 20, 0, 4), round=True)], ground=SAND
)
NOBODY = Film([], pan=1, ground=SAND)
"""The camera moves, for a frame that is the one before once more is not looked at."""


@pytest.fixture(scope="module")
def again() -> Shots:
    return Shots(FIRST, HERE)


def tracks_of(segmenter: Segmenter, *more: object, every: int = 1, find: bool = False) -> RecallingTracks:
    it = named("it", point=(40, 60))
    return RecallingTracks(segmenter, (it, *more), every, find=find)  # type: ignore[arg-type]


def of_name(tracks: AppearanceTracks, slots: np.ndarray, name: str = "it") -> np.ndarray:
    """[h, w] bool, where a named object is."""
    return np.isin(slots, [slot for slot, track in tracks.tracker.tracks.items() if track.name == name])


def maps(tracks: RecallingTracks, film: Shots, frames: range = range(FRAMES)) -> list[np.ndarray]:
    """Where the object is, in every frame."""
    return [of_name(tracks, slots) for slots in run(tracks, film, frames, cut_at=(CUT,))]


@pytest.mark.parametrize("find", [False, True])
@pytest.mark.parametrize("every", [1, 3])
def test_an_object_is_known_again_in_a_new_shot(segmenter, again, find, every):
    tracks = tracks_of(segmenter, every=every, find=find)
    found = maps(tracks, again)
    at = next(i for i in range(CUT, FRAMES) if found[i].any())
    assert at < CUT + EAGER_FRAMES
    for i in range(at, FRAMES):
        assert iou(found[i], HERE.seen(0, i - CUT)) > 0.6, f"frame {i}"
    assert tracks.lost() == []
    lives = [(thing.first_frame, thing.last_frame) for thing in tracks.report() if thing.name]
    assert lives == [(0, CUT - 1), (at, FRAMES - 1)]
    assert find or all(thing.name for thing in tracks.report())


@pytest.mark.parametrize("find", [False, True])
def test_with_foresight_it_is_known_in_the_very_first_frame(segmenter, again, find):
    tracks = tracks_of(segmenter, find=find)
    assert tracks.foresees(0) == find
    maps(tracks, again, range(CUT))
    assert tracks.foresees(1)
    later = AppearanceTracks(segmenter, (), 1, find=True)
    for i in range(6):
        later.step(HERE.luma(i), HERE.found(segmenter, i), 0, i, i / 25, HERE.luma(0).shape)
    tracks.foresee(later)
    found = maps(tracks, again, range(CUT, FRAMES))
    assert [iou(mask, HERE.seen(0, i)) > 0.6 for i, mask in enumerate(found)] == [True] * len(found)


@pytest.mark.parametrize("find", [False, True])
@pytest.mark.parametrize("second", [OTHER, TWINS, NOBODY], ids=["another", "twins", "nobody"])
def test_what_is_not_clearly_it_is_not_it(segmenter, second, find):
    tracks = tracks_of(segmenter, find=find)
    assert not any(mask.any() for mask in maps(tracks, Shots(FIRST, second))[CUT:])
    assert [name for name, _ in tracks.lost()] == ["it"]


def test_nothing_is_looked_for_after_the_first_looks_or_where_nobody_was_named(segmenter, again):
    tracks = tracks_of(segmenter)
    maps(tracks, again, range(CUT))
    assert tracks._scout is None
    for i, _ in enumerate(run(tracks, Shots(FIRST, NOBODY), range(CUT, FRAMES), cut_at=(CUT,))):
        assert (tracks._scout is not None) == (i < SEARCH_LOOKS - 1)
    without = RecallingTracks(segmenter, (), 1, find=False)
    maps(without, again)
    assert without._scout is None


def test_a_persons_word_wins(segmenter, again):
    at = CUT + 5
    elsewhere = named("it", at / 25, mask=9)
    tracks = tracks_of(segmenter, elsewhere)
    tracks.drawn = np.zeros(HERE.luma(0).shape, np.uint8)
    tracks.drawn[120:140, 5:45] = 9
    found = maps(tracks, again)
    assert iou(found[at - 1], HERE.seen(0, at - 1 - CUT)) > 0.6
    np.testing.assert_array_equal(found[at], tracks.drawn == 9)


def test_what_was_known_again_may_be_added_to(segmenter, again):
    at = CUT + 5
    tracks = tracks_of(segmenter, named("it", at / 25, mask=9))
    tracks.drawn = np.zeros(HERE.luma(0).shape, np.uint8)
    y, x = np.argwhere(HERE.seen(0, 5)).mean(0).astype(int)
    tracks.drawn[y - 5 : y + 5, x - 5 : x + 60] = 9
    found = maps(tracks, again)[at]
    assert (found >= (tracks.drawn == 9)).all()
    assert iou(found & (tracks.drawn != 9), HERE.seen(0, 5) & (tracks.drawn != 9)) > 0.6


def test_what_is_taken_away_stays_away(segmenter, again):
    at = CUT + 5
    whole = named("it", at / 25, mask=9, remove=True)
    tracks = tracks_of(segmenter, whole)
    tracks.drawn = np.full(HERE.luma(0).shape, 9, np.uint8)
    found = maps(tracks, again)
    assert found[at - 1].any()
    assert not any(mask.any() for mask in found[at:])


def test_named_in_the_very_frame_it_is_not_looked_for(segmenter, again):
    tracks = tracks_of(segmenter, named("it", CUT / 25, mask=9), every=4)
    tracks.drawn = np.full(HERE.luma(0).shape, 9, np.uint8)
    list(run(tracks, again, range(CUT + 1), cut_at=(CUT,)))
    assert tracks._recalled == set()
    assert tracks._scout is None


@pytest.mark.parametrize("find", [False, True])
def test_a_state_goes_on_to_the_same_maps(segmenter, tmp_path: Path, again, find):
    """Before the cut, while somebody is looked for, and after; the film comes back to the first shot in the end."""

    def shot_of(frame: int) -> int:
        return int(CUT <= frame < FRAMES - 2)

    whole, wanted = tracks_of(segmenter, every=2, find=find), list[np.ndarray]()
    stops = (CUT - 1, CUT + 1, CUT + 2, CUT + 5, FRAMES - 1)
    for i, slots in enumerate(run(whole, again, range(FRAMES), shot_of=shot_of)):
        wanted.append(slots)
        if i + 1 in stops:
            write_state(tmp_path / f"{i + 1}", whole.state_dict())
    assert of_name(whole, wanted[CUT + 6]).any() or find
    for stop in stops:
        tracks = tracks_of(segmenter, every=2, find=find)
        tracks.load_state_dict(read_state(tmp_path / f"{stop}"))
        got = list(run(tracks, again, range(stop, FRAMES), shot_of=shot_of))
        assert all(map(np.array_equal, got, wanted[stop:]))
        assert tracks.report() == whole.report()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, again: Shots) -> Path:
    """The film as pictures."""
    folder = tmp_path_factory.mktemp("film")
    for i in range(FRAMES):
        picture = again.first.picture(i) if i < CUT else again.second.picture(i - CUT)
        cv2.imwrite(str(folder / f"{i:02d}.png"), picture[..., ::-1])
    return folder


FAST = AnalysisOptions(analyse_every=3, detail=0.5)
IT = (ObjectStyle("it", "ember", (40, 60)),)


@pytest.mark.parametrize("foreground", [None, "wave"])
def test_a_film_shows_it_from_where_the_new_shot_begins(folder, tmp_path, seen, foreground, monkeypatch):
    monkeypatch.setattr(recall, "SAME_LIKENESS", 0.5)  # whose height is of photographs; in this film it is .55 to .57
    look = Look(background="none", foreground=foreground, objects=IT)
    options = Options(output=OutputOptions(preset="ultrafast"), analysis=FAST)
    report = stylize(folder, tmp_path / "out.mp4", look=look, options=options)
    worn = [iou(looks == look.styles.index("ember"), HERE.seen(0, i)) for i, looks in enumerate(seen[CUT:])]
    assert min(worn[EAGER_FRAMES - 1 :]) > 0.5
    (_, first), (second, last) = ((o.first_frame, o.last_frame) for o in report.objects if o.name)
    assert (first, last) == (CUT - 1, FRAMES - 1)
    assert CUT <= second < CUT + EAGER_FRAMES
    assert [*report.warnings] == ([nobody_warning("appearance", named=True)] if foreground else [])


def test_a_label_track_has_one_label_for_both_shots(folder, tmp_path):
    write_tracks(folder, tmp_path / "labels.npz", look=Look(objects=IT), analysis=FAST)
    with LabelTrack(tmp_path / "labels.npz") as track:
        assert list(track.names.values()) == ["it"]
        for i, labels in enumerate(track):
            if i >= CUT + EAGER_FRAMES - 1:
                assert iou(labels == 1, HERE.seen(0, i - CUT)) > 0.5, f"frame {i}"
