"""The films that cut and turn away are what they are said to be, and what is measured in them is right."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import eval_shots  # noqa: E402
from patches import check_patches  # noqa: E402
from schema import problems  # noqa: E402
from tables import shots_table  # noqa: E402

from streamstyle.media.decode import decode  # noqa: E402
from streamstyle.media.probe import probe  # noqa: E402
from streamstyle.media.stills import read_still  # noqa: E402
from streamstyle.tracks.export import LabelledFrame  # noqa: E402

FRAMES = eval_shots.FIRST + eval_shots.OTHER + eval_shots.BACK + eval_shots.VIEW
SIZE = (96, 256)
CHOICES = {**eval_shots.CUT_CHOICES, **eval_shots.AWAY_CHOICES, **eval_shots.PLAIN_CHOICES, **eval_shots.REST_CHOICES}
COLORS = {"lamp": (230, 200, 40), "pot": (40, 90, 220)}


def mask_of(name: str, i: int) -> np.ndarray:
    """Where the object truly is in frame i; that of "wall" is as wide as the film, and cannot hide."""
    mask = np.zeros(SIZE, bool)
    if name == "wall":
        mask[30:60] = True
    else:
        mask[30:60, 70 + i % 5 : 100 + i % 5] = True
    return mask


@pytest.fixture
def davis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with three sequences; what is written as a result lands beside it."""
    data = tmp_path / "data" / "vos" / "davis2016"
    for name in ("lamp", "pot", "wall"):
        pictures, truth = (data / kind / "480p" / name for kind in ("JPEGImages", "Annotations"))
        pictures.mkdir(parents=True)
        truth.mkdir(parents=True)
        for i in range(FRAMES):
            picture = np.where(mask_of(name, i)[..., None], np.uint8(COLORS.get(name, (9, 9, 9))), np.uint8(90))
            cv2.imwrite(str(pictures / f"{i:05d}.jpg"), picture[..., ::-1])
            cv2.imwrite(str(truth / f"{i:05d}.png"), mask_of(name, i) * np.uint8(255))
    monkeypatch.setenv("STREAMSTYLE_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("common.RESULTS", tmp_path / "results")
    return data


def pictures_of(film: eval_shots.MadeFilm) -> list[np.ndarray]:
    return [eval_shots.read_picture(path) for path in sorted(film.pictures.iterdir())]


def colored(picture: np.ndarray, name: str) -> np.ndarray:
    return np.abs(picture.astype(int) - COLORS[name]).max(2) < 90


def test_a_film_that_cuts_is_of_four_shots_and_its_truth_lies_on_the_object(davis: Path, tmp_path: Path) -> None:
    film = eval_shots.cut_film("lamp", "pot", tmp_path / "film")
    pictures = pictures_of(film)
    away, back, view = eval_shots.shots_after_first()
    assert len(pictures) == len(film.truth) == view.stop == FRAMES
    assert not any(mask.any() for mask in film.truth[away])
    assert all(colored(picture, "pot").any() and not colored(picture, "lamp").any() for picture in pictures[away])
    for part in (slice(0, eval_shots.FIRST), back, view):
        for picture, mask in zip(pictures[part], film.truth[part], strict=True):
            seen = colored(picture, "lamp")
            assert (seen & mask).sum() > 0.75 * (seen | mask).sum() > 0
    middles = [np.flatnonzero(film.truth[i].any(0)).mean() for i in (back.start, view.start)]
    assert middles[0] < SIZE[1] / 2 < middles[1], "mirrored"
    assert film.truth[view.start].sum() > film.truth[back.start].sum(), "enlarged"
    assert np.array_equal(read_still(film.first_mask).pixels > 0, film.truth[0])


def test_a_window_turns_away_and_back(davis: Path, tmp_path: Path) -> None:
    film = eval_shots.away_film("lamp", tmp_path / "film")
    assert film is not None
    seen = [colored(picture, "lamp").sum() for picture in pictures_of(film)]
    hidden = np.flatnonzero(np.array(seen) == 0)
    assert len(hidden) >= 3
    assert hidden[-1] - hidden[0] == len(hidden) - 1, "once"
    assert seen[0] > 0.9 * film.truth[0].sum()
    assert seen[-1] > 0.9 * film.truth[-1].sum() > 0
    assert film.truth[0].shape == (SIZE[0], SIZE[1] * 3 // 8)
    assert eval_shots.away_film("wall", tmp_path / "none") is None


def test_an_object_alone_rests_in_the_middle_of_an_even_sky(davis: Path, tmp_path: Path) -> None:
    film = eval_shots.plain_film("lamp", tmp_path / "film")
    assert len(film.truth) == FRAMES
    for picture, mask in zip(pictures_of(film), film.truth, strict=True):
        assert [places.mean() for places in np.nonzero(mask)] == pytest.approx([SIZE[0] / 2, SIZE[1] / 2], abs=1)
        seen, sky = colored(picture, "lamp"), picture[~mask]
        assert (seen & mask).sum() > 0.9 * (seen | mask).sum() > 0
        assert np.abs(np.median(sky, 0) - eval_shots.SKY).max() <= eval_shots.FALL / 2


def middles(film: eval_shots.MadeFilm) -> np.ndarray:
    """(Row, column) of the object's middle in each frame."""
    return np.array([[places.mean() for places in np.nonzero(mask)] for mask in film.truth])


def test_what_sways_goes_parts_of_a_pixel_a_frame_before_a_still_picture(davis: Path, tmp_path: Path) -> None:
    film = eval_shots.sway_film("lamp", "pot", tmp_path / "film")
    pictures, at = pictures_of(film), middles(film)
    assert len(pictures) == len(film.truth) == eval_shots.SWAY_FRAMES
    assert at[0] == pytest.approx([SIZE[0] / 2, SIZE[1] / 2], abs=1)
    assert np.ptp(at[:, 1]) == pytest.approx(2 * eval_shots.SWAY * SIZE[1], rel=0.3)
    assert np.abs(np.diff(at[:, 1])).max() < 1
    for picture, mask in zip(pictures, film.truth, strict=True):
        seen = colored(picture, "lamp")
        assert (seen & mask).sum() > 0.9 * (seen | mask).sum() > 0
    ground = ~np.any(film.truth, 0) & ~colored(pictures[0], "lamp")
    apart = np.abs(pictures[0].astype(int) - pictures[30])[cv2.erode(np.uint8(ground), np.ones((5, 5))) > 0]
    assert apart.max() < 8 * eval_shots.NOISE, "the camera is at rest"
    assert apart.max() > 0, "and sees noise"


def test_what_walks_comes_in_stays_and_goes_on(davis: Path, tmp_path: Path) -> None:
    film = eval_shots.walk_film("lamp", "pot", tmp_path / "film")
    across = middles(film)[:, 1] - SIZE[1] / 2
    way = eval_shots.WALK * SIZE[1]
    assert (across[0], across[-1]) == pytest.approx((-way, way), abs=1)
    assert np.abs(across[FRAMES // 3 : 2 * FRAMES // 3]).max() <= 1
    for picture, mask in zip(pictures_of(film), film.truth, strict=True):
        seen = colored(picture, "lamp")
        assert (seen & mask).sum() > 0.9 * (seen | mask).sum() > 0


def test_the_usual_number_is_that_of_most_frames_that_have_one() -> None:
    truth = [np.ones((2, 2), bool)] * 5
    labels = [np.full((2, 2), number) for number in (0, 0, 0, 3, 1)]
    assert eval_shots.usual_label([*labels, labels[3]], [*truth, truth[0]]) == 3
    assert eval_shots.usual_label(labels[:3], truth[:3]) == 0


@pytest.mark.parametrize("name", CHOICES)
def test_what_a_choice_changes_is_there_and_comes_back(name: str) -> None:
    check_patches(CHOICES[name])


def follower(loses: bool):
    """Tracks that are right in the first shot, and after it, too, or never again; unasked they change their number."""

    def track_objects(folder: Path, first_mask: Path | None, options: object):
        film = list(decode(probe(folder)))
        turns = film[0].y.shape[1] != SIZE[1]
        for i, frame in enumerate(film):
            picture = eval_shots.read_picture(sorted(folder.iterdir())[i])
            labels = colored(picture, folder.parent.parent.name).astype(np.int32)
            if loses and i >= eval_shots.FIRST:
                labels = labels * np.int32(2 if turns and first_mask is None else 0)
            yield LabelledFrame(frame, labels)

    return track_objects


@pytest.mark.parametrize("loses", [False, True])
def test_measures_and_their_table(
    davis: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], loses: bool
) -> None:
    real = eval_shots.measured

    def measured(name: str, other: str) -> dict:
        with monkeypatch.context() as patch:
            patch.setattr(eval_shots.tempfile, "TemporaryDirectory", lambda: Here(tmp_path / name))
            return real(name, other)

    monkeypatch.setattr(eval_shots, "measured", measured)
    monkeypatch.setattr(eval_shots, "track_objects", follower(loses))
    monkeypatch.setattr(sys, "argv", ["eval_shots.py", "--sequences", "lamp"])
    eval_shots.main()
    assert not (tmp_path / "results").exists(), "not all sequences"
    said = capsys.readouterr().out
    kept = 0.0 if loses else 1.0
    figures = {line[:100].strip(): float(line[100:]) for line in said.splitlines() if " films; " in line}
    assert figures["cut, 1 films; all of it: J back in the shot"] == pytest.approx(kept, abs=0.1)
    assert figures["cut, 1 films; all of it: J in another view"] == pytest.approx(kept, abs=0.1)
    assert figures["cut, 1 films; neither: named wrongly in the other shot"] == 0
    assert figures["away, 1 films; all of it: J after it is back"] == pytest.approx(kept, abs=0.1)
    assert figures["away, 1 films; all of it: zero clicks, keeps its number"] == kept
    share = eval_shots.FIRST / FRAMES if loses else 1
    assert figures["plain, 1 films; all of it: zero clicks J"] == pytest.approx(share, abs=0.1)
    for kind, count in (("walk", FRAMES), ("sway", eval_shots.SWAY_FRAMES)):
        share = eval_shots.FIRST / count if loses else 1
        for way in ("every frame", "as on a CPU"):
            assert figures[f"{kind}, 1 films; all of it: zero clicks J, {way}"] == pytest.approx(share, abs=0.1)


class Here:
    """A folder in the place of a temporary one, of a name that tells the sequence."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> str:
        self._path.mkdir(parents=True)
        return str(self._path)

    def __exit__(self, *_: object) -> None:
        pass


def test_the_committed_result_has_every_choice_and_no_other() -> None:
    result = json.loads((ROOT / "benchmarks" / "results" / "object_shots.json").read_text())
    assert problems(result) == []
    choices: dict[str, dict[str, None]] = {}
    for row in result["figures"]:
        kind, _, name = row["name"].partition("; ")
        choices.setdefault(kind.partition(",")[0], {})[name.rpartition(": ")[0]] = None
    cut, away, plain, sway, walk = (list(found) for found in choices.values())
    assert cut == list(eval_shots.CUT_CHOICES)
    assert away == list(eval_shots.AWAY_CHOICES)
    assert plain == list(eval_shots.PLAIN_CHOICES)
    assert sway == walk == list(eval_shots.REST_CHOICES)
    assert "| neither |" in shots_table(result)
