"""The referee of tracking: its statistics by hand, and the whole of it on a sequence made here."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import eval_objects  # noqa: E402
import kept_regions  # noqa: E402
import kept_rows  # noqa: E402
from object_measures import changes, decay, dominant_label, matched_label, per_100_frames, recall  # noqa: E402
from patches import check_patches  # noqa: E402
from schema import problems  # noqa: E402

from streamstyle import preview  # noqa: E402
from streamstyle.config import AnalysisOptions  # noqa: E402
from streamstyle.media.decode import decode  # noqa: E402
from streamstyle.media.images import TICKS  # noqa: E402
from streamstyle.media.probe import probe  # noqa: E402
from streamstyle.objects.appearance_tracks import AppearanceTracks  # noqa: E402
from streamstyle.tracks.export import LabelledFrame  # noqa: E402

FRAMES = 8


def test_recall_and_decay():
    assert recall(np.array([0.5, 0.51, 0.9, 0.1])) == 0.5
    assert decay(np.array([0.9] * 4 + [0.5] * 8 + [0.1] * 4)) == pytest.approx(
        (0.9 * 4 + 0.5) / 5 - (0.5 + 0.1 * 4) / 5
    )
    assert decay(np.full(30, 0.7)) == pytest.approx(0)


def test_the_label_of_an_object():
    labels = np.array([[0, 0, 5, 5], [0, 7, 7, 7]])
    truth = np.array([[0, 0, 0, 0], [0, 1, 1, 1]], bool)
    assert (dominant_label(labels, truth), matched_label(labels, truth)) == (7, 7)
    away = np.zeros_like(truth)
    assert (dominant_label(labels, away), matched_label(labels, away)) == (-1, -1)
    background = labels == 0
    assert (dominant_label(labels, background), matched_label(labels, background)) == (0, -1)


def test_changes_pass_over_frames_without_one():
    assert changes([1, 1, -1, 1, 2, -1, 1, 1]) == 2
    assert changes([]) == changes([-1, 4]) == 0
    assert per_100_frames(2, 51) == 4
    assert per_100_frames(0, 1) == 0


TRUTH = np.array([[0, 0, 0, 0], [0, 1, 1, 1]], bool)
FIVE = np.array([[0, 0, 7, 7], [5, 5, 5, 0]])  # label 5 has most of the truth, and matches it best
SEVEN = np.array([[0, 0, 0, 0], [0, 5, 7, 7]])  # label 7 does
SPREAD = np.array([[5, 5, 5, 5], [5, 5, 5, 7]])  # label 5 has most (IoU 2/8), label 7 matches best (IoU 1/3)
NONE = np.zeros((2, 4), int)


def test_flips_and_switches_of_a_sequence():
    """A label with most of the true pixels that changes is a flip, a best match that changes a switch."""
    frames = [FIVE, SEVEN, SPREAD, NONE, FIVE]
    truth = [TRUTH] * 5
    # Most pixels: 5 7 5 0 5; best match: 5 7 7 - 5, where nobody matches being passed over.
    assert eval_objects.identity(frames, truth, " x") == {"region flips x": 100.0, "identity switches x": 50.0}
    assert eval_objects.identity([FIVE] * 5, truth) == {"region flips": 0, "identity switches": 0}
    gone = [TRUTH, TRUTH, ~TRUTH & False, TRUTH, TRUTH]  # where the object is not there nobody changes
    assert eval_objects.identity([FIVE, FIVE, SEVEN, FIVE, SEVEN], gone) == {
        "region flips": 25.0,
        "identity switches": 25.0,
    }


def test_the_mean_of_the_overlap():
    """J of three true pixels: all of them, two of the three, none of them and one beside, nothing where nothing is."""
    none, beside = NONE.astype(bool), NONE.astype(bool)
    beside[0, 0] = True
    two = (SEVEN == 7) & TRUTH
    masks = [none, TRUTH, two, beside, none, TRUTH]  # neither the first nor the last counts
    truth = [TRUTH, TRUTH, TRUTH, TRUTH, none, none]
    assert eval_objects.jaccard(masks, truth) == pytest.approx((1 + 2 / 3 + 0 + 0) / 4)
    assert eval_objects.jaccard([none, two | beside, none], [none, TRUTH, none]) == pytest.approx(2 / 4)


def test_a_table_that_was_cut_goes_on(tmp_path):
    """Rows there are not found again; those of other code or options are refused, and stay."""

    def cut(name: str) -> dict[str, float]:
        found.append(name)
        if name == "libby":
            raise KeyboardInterrupt
        return {"J mean": 0.5}

    found: list[str] = []
    file = tmp_path / "rows.json"
    rows = kept_rows.KeptRows(file, "these")
    assert rows.row("dog", cut, "dog") == {"J mean": 0.5}
    with pytest.raises(KeyboardInterrupt):
        rows.row("libby", cut, "libby")
    again = kept_rows.KeptRows(file, "these")
    assert again.row("dog", cut, "dog") == {"J mean": 0.5}
    assert again.row("libby", lambda: {"J mean": 0.25}) == {"J mean": 0.25}
    assert found == ["dog", "libby"]
    before = file.read_bytes()
    with pytest.raises(SystemExit, match="other code or options: remove it"):
        kept_rows.KeptRows(file, "others")
    assert file.read_bytes() == before


def card(i: int) -> np.ndarray:
    """The true object in frame i, [240, 320] bool."""
    mask = np.zeros((240, 320), bool)
    mask[60:180, 60 + 4 * i : 160 + 4 * i] = True
    return mask


@pytest.fixture
def davis(tmp_path, monkeypatch) -> Path:
    """A data folder with one sequence; what is written as a result lands beside it."""
    data = tmp_path / "data" / "vos" / "davis2016"
    for kind in ("JPEGImages", "Annotations"):
        (data / kind / "480p" / "card").mkdir(parents=True)
    for i in range(FRAMES):
        picture = np.where(card(i)[..., None], np.uint8((40, 200, 230)), np.uint8((60, 120, 60)))
        cv2.imwrite(str(data / "JPEGImages" / "480p" / "card" / f"{i:05d}.jpg"), picture)
        cv2.imwrite(str(data / "Annotations" / "480p" / "card" / f"{i:05d}.png"), card(i) * np.uint8(255))
    monkeypatch.setenv("STREAMSTYLE_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("common.RESULTS", tmp_path / "results")
    return data


def tracker(shift: int, switch_at: int):
    """Tracks that lag by some pixels, and whose number changes once."""

    def track_objects(folder, first_mask, options):
        for i, frame in enumerate(decode(probe(folder))):
            label = 1 if first_mask is not None or i < switch_at else 2
            yield LabelledFrame(frame, np.roll(card(i), -shift, axis=1) * np.int32(label))

    return track_objects


def run(monkeypatch, *words: str) -> None:
    pytest.importorskip("vos_benchmark", reason="make eval installs vos-benchmark")

    def segment_frame(info, frame, options, device):
        return None, Regions(card(frame.pts // TICKS))

    monkeypatch.setattr(eval_objects, "segment_frame", segment_frame)
    monkeypatch.setattr(sys, "argv", ["eval_objects.py", *words])
    eval_objects.main()


class Regions:
    """Each frame's own numbering: another number in every second frame."""

    count = 0

    def __init__(self, mask: np.ndarray) -> None:
        Regions.count += 1
        import torch

        self.ids = torch.from_numpy(mask * np.int32(1 + Regions.count % 2))


def test_perfect_tracks_have_full_marks(davis, tmp_path, monkeypatch):
    monkeypatch.setattr(eval_objects, "track_objects", tracker(0, FRAMES))
    run(monkeypatch, "--masks", str(tmp_path / "masks"))
    result = json.loads((tmp_path / "results" / "objects.json").read_text())
    assert problems(result) == []
    (row,) = result["sequences"]
    assert (row["name"], row["frames"]) == ("card", FRAMES)
    for measure in ("J mean", "J recall", "F mean", "zero clicks J mean"):
        assert row[measure] == 1
    assert row["J decay"] == row["region flips"] == row["identity switches"] == 0
    assert row["region flips, each frame's numbering"] == 100
    assert len(list((tmp_path / "masks" / "card").iterdir())) == FRAMES
    (rarely,) = result["sequences, as often as on a CPU"]
    assert rarely == row, "these tracks are the same"
    goals = {row["name"] for row in result["figures"] if row.get("met")}
    assert goals == {f"{every}{name}" for every in ("", "as often as on a CPU: ") for name in eval_objects.GOALS}


def test_tracks_that_lag_and_switch_are_marked_down(davis, tmp_path, monkeypatch):
    monkeypatch.setattr(eval_objects, "track_objects", tracker(20, 4))
    run(monkeypatch)
    (row,) = json.loads((tmp_path / "results" / "objects.json").read_text())["sequences"]
    assert row["J mean"] == pytest.approx(80 / 120, abs=1e-3)
    assert row["F mean"] < 0.8
    assert row["zero clicks J mean"] == pytest.approx(80 / 120, abs=1e-3)  # all that is found counts as one object
    assert row["identity switches"] == row["region flips"] == pytest.approx(100 / (FRAMES - 1), abs=1e-3)


def test_looks_are_counted_and_no_longer_afterwards(monkeypatch):
    monkeypatch.setattr(AppearanceTracks, "wants", lambda self, index, shot, time_s: index % 4 == 3)
    before = AppearanceTracks.wants
    with eval_objects.counted_looks() as looks:
        asked = [AppearanceTracks.wants(None, i, 0, 0.0) for i in range(8)]
    assert looks == asked == [False, False, False, True] * 2
    assert AppearanceTracks.wants is before


def test_a_part_is_measured_but_not_saved(davis, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(eval_objects, "track_objects", tracker(0, FRAMES))
    run(monkeypatch, "--sequences", "card", "--frames", "6")
    assert "card  6" in capsys.readouterr().out
    assert not (tmp_path / "results").exists()


def test_the_committed_table_has_every_choice_and_no_other():
    result = json.loads((ROOT / "benchmarks" / "results" / "object_choices.json").read_text())
    names = dict.fromkeys(row["name"].rpartition(": ")[0] for row in result["figures"])
    assert list(names) == list(eval_objects.CHOICES)


@pytest.mark.parametrize("name", eval_objects.CHOICES)
def test_what_a_choice_changes_is_there_and_comes_back(name):
    said, constants = eval_objects.CHOICES[name]
    AnalysisOptions(**said)
    check_patches(constants)


def test_choices_are_told_by_both_modes(davis, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(eval_objects, "track_objects", tracker(20, 4))
    run(monkeypatch, "--choices", "all of it", "no look", "--frames", "6")
    assert "no look: J mean" in capsys.readouterr().out
    assert not (tmp_path / "results").exists(), "not all of them"
    run(monkeypatch, "--choices")
    result = json.loads((tmp_path / "results" / "object_choices.json").read_text())
    assert problems(result) == []
    found = {row["name"]: row["value"] for row in result["figures"]}
    assert len(found) == 3 * len(eval_objects.CHOICES)
    assert found["no look: J mean"] == found["no look: zero clicks J mean"] == pytest.approx(80 / 120, abs=1e-3)
    assert found["no look: identity switches"] == pytest.approx(100 / (FRAMES - 1), abs=1e-3)


def test_regions_are_found_once_for_each_way_to_find_them(monkeypatch):
    asked = []

    class Counted:
        def __init__(self, options, device, *, features):
            self.options, self.device = options, device

        def __call__(self, rgb):
            asked.append(len(rgb))
            return [object() for _ in rgb]

    monkeypatch.setattr(kept_regions, "Segmenter", Counted)
    before, cpu, rgb = preview.Segmenter, torch.device("cpu"), torch.rand(2, 3, 8, 8)
    with kept_regions.kept_regions():
        every, fourth = (preview.Segmenter(AnalysisOptions(analyse_every=n), cpu, features=n == 1) for n in (1, 4))
        found = every(rgb)
        assert fourth(rgb[1:]) == found[1:]
        assert asked == [1, 1]
        preview.Segmenter(AnalysisOptions(detail=0.5), cpu)(rgb)
        assert asked == [1] * 4
    assert preview.Segmenter is before


@pytest.mark.parametrize("words", [("--sequences", "swan"), ("--frames", "3")])
def test_what_is_not_there_is_refused(davis, monkeypatch, capsys, words):
    with pytest.raises(SystemExit):
        run(monkeypatch, *words)
    assert "has card; at least 6 frames" in capsys.readouterr().err
