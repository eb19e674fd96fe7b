"""What moves by itself is known in a shot's first frame already, from those that follow it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from moving_disc import disc_in, make_moving_disc, make_shots

from streamstyle import pipeline
from streamstyle.config import AnalysisOptions, Options, OutputOptions
from streamstyle.flow import rebatch
from streamstyle.frames import Frame, FrameBatch
from streamstyle.look import Look, ObjectStyle
from streamstyle.media.decode import decode
from streamstyle.media.label_track import LabelTrack
from streamstyle.media.probe import probe
from streamstyle.objects import between
from streamstyle.objects.appearance_tracks import EAGER_FRAMES, AppearanceTracks
from streamstyle.objects.between import MOST_BETWEEN
from streamstyle.objects.foresight import FORESIGHT_FRAMES
from streamstyle.objects.recalling_tracks import RecallingTracks
from streamstyle.objects.segmenter import Segmenter
from streamstyle.pipeline import stylize
from streamstyle.preview import painted_at
from streamstyle.scene import Scene
from streamstyle.stylizer import Stylizer
from streamstyle.tracks.film_objects import tracks

pytestmark = [pytest.mark.weights, pytest.mark.usefixtures("cached", "networks")]
FRAMES = 10
SHOTS = (7, 9, 1, 8)
"""Lengths of the shots of a film; the third is a flash frame."""
CUTS = tuple(np.cumsum(SHOTS)[:-1].tolist())
LOOK = Look(background="none", foreground="wave")
NAMED = Look(background="none", foreground="wave", objects=(ObjectStyle("it", "ember", (56, 60), at_s=7 / 25),))
"""Has a name for the disc in the frame behind the first cut."""
NAMED_AT_ONCE = Look(background="none", objects=(ObjectStyle("it", "ember", (56, 60)),))
FAST = Options(output=OutputOptions(preset="ultrafast"), analysis=AnalysisOptions(analyse_every=3))


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_moving_disc(tmp_path_factory.mktemp("film") / "pictures", FRAMES)


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shots(tmp_path_factory.mktemp("shots") / "pictures", SHOTS)


@pytest.fixture
def foreseen(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """One more each time that something was foreseen."""
    times: list[None] = []
    foresee = AppearanceTracks.foresee

    def note(self: AppearanceTracks, later: AppearanceTracks) -> None:
        times.append(None)
        foresee(self, later)

    monkeypatch.setattr(AppearanceTracks, "foresee", note)
    return times


def agreement(looks: np.ndarray, i: int) -> float:
    """IoU of what wears the foreground and the disc of frame i of a shot."""
    return float(((looks > 0) & disc_in(i)).sum() / ((looks > 0) | disc_in(i)).sum())


def in_shots(lengths: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Of each frame how long its shot is, and its number in that."""
    return ((length, i) for length in lengths for i in range(length))


def found_at_once(looks: list[np.ndarray], lengths: tuple[int, ...] = SHOTS) -> bool:
    """Whether the disc of every frame wears the foreground, where its shot is long enough to learn from."""
    assert len(looks) == sum(lengths)
    places = zip(looks, in_shots(lengths), strict=True)
    return all(agreement(seen, i) > 0.7 for seen, (length, i) in places if length >= EAGER_FRAMES)


def pictures(path: Path) -> list[np.ndarray]:
    return [frame.y for frame in decode(probe(path))]


def scenes(stylizer: Stylizer, film: Path, per_batch: int, begin: int = 0) -> Iterator[Scene]:
    """What a stylizer sees in a film from a frame on, batch by batch."""
    frames = list(decode(probe(film)))[begin:]
    batches = pipeline.stack(rebatch(frames, per_batch, begin=begin), begin, stylizer.device)
    for reading, _ in pipeline.read(stylizer, batches, probe(film), 100):
        assert reading.scene is not None
        yield reading.scene


def looks_of(stylizer: Stylizer, film: Path, per_batch: int, begin: int = 0) -> np.ndarray:
    found = [scene.looks for scene in scenes(stylizer, film, per_batch, begin) if scene.looks is not None]
    return np.concatenate(found)


def test_a_moving_disc_is_styled_from_the_first_frame_on(film, tmp_path, seen):
    report = stylize(film, tmp_path / "out.mp4", look=LOOK, options=FAST)
    assert [agreement(looks, i) > 0.8 for i, looks in enumerate(seen)] == [True] * FRAMES
    assert not report.warnings


def test_what_moves_and_wears_nothing_is_told_of_unless_that_was_said(film, tmp_path):
    report = stylize(film, tmp_path / "out.mp4", look=Look(background="wave"), options=FAST)
    assert report.warnings == (
        "1 thing without a name was found and wore no style; give --foreground or --style (--foreground none, if that "
        "is meant)",
    )
    said = Look(background="wave", foreground="none")
    assert not stylize(film, tmp_path / "again.mp4", look=said, options=FAST).warnings


def test_of_a_part_from_its_own_first_frame_on(film, tmp_path, seen):
    out = OutputOptions(preset="ultrafast", start=0.16)
    stylize(film, tmp_path / "out.mp4", look=LOOK, options=Options(output=out))
    assert len(seen) == FRAMES - 4
    assert agreement(seen[0], 4) > 0.8


def test_behind_every_cut_from_the_shots_first_frame_on(shots, tmp_path, seen, foreseen):
    stylize(shots, tmp_path / "out.mp4", look=LOOK, options=FAST)
    assert found_at_once(seen)
    assert len(foreseen) == sum(length >= EAGER_FRAMES for length in SHOTS)


@pytest.mark.parametrize(("look", "every"), [(LOOK, 3), (NAMED, 1), (NAMED, "auto")])
def test_batches_do_not_matter(shots, look, every):
    stylizer = Stylizer(look, Options(analysis=AnalysisOptions(analyse_every=every)))
    wanted = looks_of(stylizer, shots, 1)
    assert found_at_once(list(wanted))
    assert (wanted[CUTS[0]] == 2).any() == (look is NAMED)
    for per_batch in (3, CUTS[0] + 1, 25):
        stylizer.restart()
        np.testing.assert_array_equal(looks_of(stylizer, shots, per_batch), wanted)


def test_the_pipelines_batches_do_not_matter(film, tmp_path, seen, monkeypatch):
    stylize(film, tmp_path / "a.mp4", look=LOOK, options=FAST)
    monkeypatch.setattr(pipeline, "MOST_FRAMES", 1)
    stylize(film, tmp_path / "b.mp4", look=LOOK, options=FAST)
    assert len(seen) == 2 * FRAMES
    assert all(map(np.array_equal, seen[:FRAMES], seen[FRAMES:]))


@pytest.mark.parametrize("options", [FAST, Options()], ids=["every 3rd", "auto"])
def test_a_state_goes_on_to_the_same_film_wherever_a_cut_lies(shots, options):
    """Whether it ends before a cut, with its first frame, or with some of those that were followed ahead."""
    whole, states = Stylizer(NAMED, options), dict[int, object]()
    looks = list[np.ndarray]()
    for scene in scenes(whole, shots, 1):
        assert scene.looks is not None
        looks.extend(scene.looks)
        states[len(looks)] = whole.state_dict()
    assert found_at_once(looks)
    wanted = np.stack(looks)
    again = Stylizer(NAMED, options)
    for begin in (*range(CUTS[0] - 1, CUTS[0] + 6), *CUTS[1:]):
        again.load_state_dict(states[begin])  # type: ignore[arg-type]
        np.testing.assert_array_equal(looks_of(again, shots, 3, begin), wanted[begin:])
        assert again.report() == whole.report()


@pytest.mark.parametrize("segment", [CUTS[0], CUTS[0] + 1])
def test_a_stopped_job_goes_on_to_the_same_film(shots, tmp_path, monkeypatch, segment):
    """The cut lies at a segment's end, or before its last frame."""
    monkeypatch.setattr(pipeline, "SEGMENT_FRAMES", (segment, segment))
    options = replace(FAST, output=replace(FAST.output, duration=14 / 25))
    whole = stylize(shots, tmp_path / "whole.mp4", look=LOOK, options=options)

    def stop(done: int, expected: int | None) -> None:
        nonlocal count
        count += done
        if count > segment:
            raise KeyboardInterrupt

    count = 0
    with pytest.raises(KeyboardInterrupt):
        stylize(shots, tmp_path / "out.mp4", look=LOOK, options=options, on_frames=stop)
    again = stylize(shots, tmp_path / "out.mp4", look=LOOK, options=options)
    assert again.resumed_frames >= segment
    assert again.objects == whole.objects
    assert all(map(np.array_equal, pictures(tmp_path / "out.mp4"), pictures(tmp_path / "whole.mp4")))


@pytest.mark.parametrize("lengths", [(2,) * 8, (1, 5, 1), (6, 1), (3, 6), (5, 2)])
def test_shots_too_short_to_learn_from_cost_nothing(tmp_path, lengths, monkeypatch, foreseen):
    """Cuts every two frames, in the last frame and behind the first; each frame is segmented once at most."""
    film, pictures_found = make_shots(tmp_path / "film", lengths), list[int]()
    find = Segmenter.find
    monkeypatch.setattr(Segmenter, "find", lambda self, rgb: pictures_found.append(len(rgb)) or find(self, rgb))
    stylizer = Stylizer(LOOK, FAST)
    wanted = looks_of(stylizer, film, 1)
    assert found_at_once(list(wanted), lengths)
    assert sum(pictures_found) <= len(wanted)
    assert len(foreseen) == sum(length >= EAGER_FRAMES for length in lengths)
    stylizer.restart()
    np.testing.assert_array_equal(looks_of(stylizer, film, 4), wanted)


def test_a_shot_that_the_film_comes_back_to_is_not_looked_at_again(film, shots, tmp_path, foreseen):
    for i in range(14):
        insert = 5 <= i < 9
        folder, number = (shots, CUTS[0] + i) if insert else (film, min(i, 4) if i < 9 else i - 4)
        cv2.imwrite(str(tmp_path / f"{i:02d}.png"), cv2.imread(str(folder / f"{number:03d}.png")))
    told = [shot for scene in scenes(Stylizer(LOOK, FAST), tmp_path, 4) for shot in scene.shots]
    assert [shot for shot, after in pairwise([*told, None]) if shot != after] == [0, 1, 0]
    assert len(foreseen) == 2


def held(film: Path, look: Look, per_batch: int, options: Options = FAST) -> int:
    """The most frames that a film was read ahead of the batch in hand."""
    given, most = 0, 0

    def frames() -> Iterator[Frame]:
        nonlocal given
        for frame in decode(probe(film)):
            given += 1
            yield frame

    stylizer = Stylizer(look, options)
    batches = pipeline.stack(rebatch(frames(), per_batch), 0, stylizer.device)
    read = 0
    for reading, _ in pipeline.read(stylizer, batches, probe(film), 100):
        read += len(reading.pts)
        most = max(most, given - read)
    return most


@pytest.mark.parametrize("per_batch", [1, 2, 5, 25])
def test_each_frame_is_followed_once_whatever_batches_they_come_in(film, monkeypatch, per_batch):
    followed, step = list[int](), RecallingTracks.step

    def note(self: RecallingTracks, *args: Any) -> np.ndarray:
        followed.append(args[3])
        return step(self, *args)

    monkeypatch.setattr(RecallingTracks, "step", note)  # and not AppearanceTracks', by which a shot is foreseen
    looks_of(Stylizer(LOOK, FAST), film, per_batch)
    assert followed == list(range(FRAMES))


@pytest.mark.parametrize("per_batch", [1, 4])
def test_few_frames_are_held_and_only_where_objects_are_found(shots, per_batch):
    assert per_batch < held(shots, LOOK, per_batch) <= FORESIGHT_FRAMES + per_batch
    for look in (Look("wave"), Look(background="wave", foreground="wave")):
        assert held(shots, look, per_batch) <= per_batch  # whether the film ends is all that is asked


def test_few_frames_are_held_however_rarely_one_is_looked_at(tmp_path):
    film = make_moving_disc(tmp_path / "long", MOST_BETWEEN + 14)
    rarely = [replace(FAST, analysis=AnalysisOptions(analyse_every=every)) for every in (MOST_BETWEEN, 1000)]
    most = [held(film, NAMED_AT_ONCE, 1, options) for options in rarely]
    assert most[0] in range(MOST_BETWEEN - 2, MOST_BETWEEN + 1)
    assert most[1] <= FORESIGHT_FRAMES + 1


@pytest.mark.parametrize("look", [Look("wave"), Look(background="wave", foreground="wave")])
def test_where_nothing_is_found_nothing_is_looked_at(shots, look, monkeypatch):
    monkeypatch.setattr(AppearanceTracks, "foresee", lambda *_: pytest.fail("looked ahead"))
    assert len(list(scenes(Stylizer(look, FAST), shots, 5))) == sum(SHOTS) // 5


def test_frames_from_any_source_wait_for_no_other(film):
    """Stylizer.paint gives each frame before it takes the next."""
    taken = 0

    def frames() -> Iterator[np.ndarray]:
        nonlocal taken
        for i in range(3):
            taken += 1
            yield cv2.imread(str(film / f"{i:03d}.png"))

    for i, _ in enumerate(Stylizer(LOOK, FAST).paint(frames())):
        assert taken == i + 1


def test_tracks_have_what_moves_from_every_shots_first_frame_on(shots, tmp_path, foreseen):
    tracks(shots, tmp_path / "labels.npz", analysis=FAST.analysis)
    with LabelTrack(tmp_path / "labels.npz") as track:
        assert found_at_once(list(track))
    assert len(foreseen) == sum(length >= EAGER_FRAMES for length in SHOTS)


@pytest.fixture
def blank(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known better from behind is that nobody is there: so that one sees of which frames it is."""
    empty = lambda carried, seen: [np.zeros_like(frame.slots) for frame in carried]  # noqa: E731
    monkeypatch.setattr(between, "revised", empty)


CARRIED = (4, 6, 7)
"""Frames of the film between two that are looked at: the first four are, and every third; the last one is followed."""


@pytest.mark.parametrize("per_batch", [1, 2, 3, 4, 25])
def test_frames_between_two_looks_are_known_by_the_second(film, blank, per_batch):
    looks = looks_of(Stylizer(LOOK, FAST), film, per_batch)
    assert tuple(i for i, seen in enumerate(looks) if not seen.any()) == CARRIED


def test_tracks_know_frames_between_two_looks_by_the_second(film, blank, tmp_path):
    tracks(film, tmp_path / "labels.npz", analysis=FAST.analysis)
    with LabelTrack(tmp_path / "labels.npz") as track:
        assert tuple(i for i, labels in enumerate(track) if not labels.any()) == CARRIED


def test_where_nobody_gives_frames_that_come_they_are_not_waited_for(film, blank):
    stylizer, info = Stylizer(LOOK, FAST), probe(film)
    found = [
        stylizer.read_batch(FrameBatch.stack([frame], i), info.color, [info.time_of(frame.pts)]).scene
        for i, frame in enumerate(decode(info))
    ]
    assert all(scene is not None and scene.looks is not None and scene.looks.any() for scene in found[3:])


@pytest.mark.parametrize(("clicked", "carried"), [(5, (6, 7)), (6, (4, 7)), (7, (4,)), (8, (4,))])
@pytest.mark.parametrize("per_batch", [1, 3, 25])
def test_what_a_person_says_tells_nothing_of_the_frames_before(film, blank, per_batch, clicked, carried):
    """Also where the frame is followed ahead of its batch."""
    x, y = (int(np.median(at)) for at in np.nonzero(disc_in(clicked))[::-1])
    it = ObjectStyle("it", "ember", (x, y), at_s=clicked / 25)
    look = Look(background="none", foreground="wave", objects=(it,))
    looks = looks_of(Stylizer(look, FAST), film, per_batch)
    assert tuple(i for i, seen in enumerate(looks) if not seen.any()) == carried
    assert (looks[clicked] == 2).any()


def test_a_film_and_its_tracks_show_the_same(shots, tmp_path):
    tracks(shots, tmp_path / "labels.npz", analysis=FAST.analysis)
    with LabelTrack(tmp_path / "labels.npz") as track:
        np.testing.assert_array_equal(np.stack(list(track)) > 0, looks_of(Stylizer(LOOK, FAST), shots, 4) > 0)


def test_a_preview_is_painted_as_the_film_is(shots, seen):
    painted_at(probe(shots), CUTS[1] / 25, LOOK, FAST)
    painted_at(probe(shots), CUTS[0] / 25, LOOK, FAST)
    assert agreement(seen[-1], 0) > 0.7
