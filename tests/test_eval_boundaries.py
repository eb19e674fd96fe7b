"""The boundary benchmark's own arithmetic, on pictures whose score one can say aloud."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import eval_boundaries as boundaries

from streamstyle.stages.region_hierarchy import FULL, cut, region_hierarchy


def line(column: int, size: int = 200) -> np.ndarray:
    picture = np.zeros((size, size), bool)
    picture[:, column] = True
    return picture


edgeval = pytest.mark.skipif(find_spec("edgeval_cu") is None, reason="edgeval is not on the path")


@pytest.mark.parametrize(
    "match",
    [boundaries.matched, boundaries.matched_by_scipy, pytest.param(boundaries.matched_by_edgeval, marks=edgeval)],
)
@pytest.mark.parametrize(("apart", "share"), [(0, 1), (2, 1), (3, 0)])
def test_pixels_match_within_reach(match, apart, share):
    hits, count = match(line(50), line(50 + apart))  # 0.0075 of the diagonal: 2.1 px
    chance = 4 if match is boundaries.matched_by_edgeval else 0  # draws by lot who may stay alone
    assert share * (200 - chance) <= count <= share * 200
    assert hits.sum() == count


def test_the_referee_matches_as_many_as_can_be_matched():
    rng = np.random.default_rng(0)
    predicted, drawn = (rng.random((150, 200)) < share for share in (0.01, 0.02))
    hits, count = boundaries.matched_by_scipy(predicted, drawn)
    places, others = np.argwhere(predicted), np.argwhere(drawn)
    near = np.linalg.norm(places[:, None] - others[None], axis=2) <= 0.0075 * 250
    rows, columns = linear_sum_assignment(near, maximize=True)
    assert count == near[rows, columns].sum() == hits.sum()
    assert not (hits & ~predicted).any()
    assert count >= boundaries.matched(predicted, drawn)[1]


def test_the_referee_gives_up_the_nearest_where_two_can_have_a_partner():
    predicted, drawn = line(50) | line(52), line(51) | line(54)
    assert boundaries.matched(predicted, drawn)[1] == 200, "52 takes 51, and 50 is too far from 54"
    assert boundaries.matched_by_scipy(predicted, drawn)[1] == 400


def test_a_drawn_pixel_has_one_partner():
    hits, count = boundaries.matched(line(50) | line(51), line(50))
    assert count == 200
    assert (hits == line(50)).all(), "the nearest"


def test_a_perfect_map_scores_one_and_half_a_map_less():
    drawn = line(50) | line(150)
    picture = boundaries.Picture(np.zeros((200, 200, 3), np.uint8), [drawn], [])
    thresholds = np.array([0.25, 0.5, 0.75])
    strengths = line(50) * 0.9 + line(150) * 0.6 + line(100) * 0.3
    perfect = boundaries.scores([boundaries.tallied(strengths, picture, thresholds)])
    assert (perfect["ODS"], perfect["OIS"]) == (pytest.approx(1), pytest.approx(1))  # at 0.5
    # No recall is below .5; from there to recall 1 precision falls from 1 to 2/3, that of the first to reach 1.
    assert perfect["AP"] == pytest.approx(0.425, abs=1e-6)
    rows = np.array(boundaries.tallied(strengths, picture, thresholds).rows)
    assert rows[0].tolist() == [600, 400, 400, 400]
    assert rows[2].tolist() == [200, 200, 400, 200]
    assert boundaries.f_measure(rows)[2] == pytest.approx(2 / 3)


@edgeval
def test_edgeval_scores_counts_as_we_do():
    rng = np.random.default_rng(0)
    thresholds = np.linspace(0, 1, 7)[1:-1]
    tallies = []
    for _ in range(3):
        predicted = np.sort(rng.integers(1000, 9000, 5))[::-1]
        hits, recalled = (predicted * rng.uniform(0.3, 0.9, 5)).astype(int), np.sort(rng.integers(100, 4000, 5))[::-1]
        tallies.append(
            boundaries.Tally(
                [(int(p), int(h), 5000, int(r)) for p, h, r in zip(predicted, hits, recalled, strict=True)]
            )
        )
    ours, theirs = boundaries.scores(tallies), boundaries.scores_by_edgeval(tallies, thresholds)
    assert ours["ODS"] - 1e-6 <= theirs["ODS"] < ours["ODS"] + 0.02, "the best between two thresholds, too"
    assert (ours["OIS"], ours["AP"]) == (pytest.approx(theirs["OIS"], abs=1e-5), pytest.approx(theirs["AP"], abs=1e-5))


@pytest.mark.parametrize("there", [True, False])
def test_the_referee_is_edgeval_where_that_is_there(monkeypatch, there):
    monkeypatch.setattr(boundaries.importlib.util, "find_spec", lambda name: there or None)
    judge = boundaries.referee()
    assert judge.name == ("edgeval" if there else "SciPy")
    assert judge.part(list(range(15))) == ([1, 4, 7, 10, 13] if there else list(range(15)))


def test_covering_is_one_for_the_same_regions_and_the_largest_share_for_one():
    regions = np.ones((10, 10), np.int64)
    regions[:, 6:] = 2
    picture = boundaries.Picture(np.zeros((10, 10, 3), np.uint8), [], [regions])
    assert boundaries.covering(regions, picture) == 1
    assert boundaries.covering(np.ones_like(regions), picture) == pytest.approx(0.6 * 0.6 + 0.4 * 0.4)


def test_a_contour_map_cut_at_a_level_is_the_outline_of_the_cut():
    rng = np.random.default_rng(0)
    edges = np.kron(rng.integers(0, 256, (8, 9)), np.ones((9, 9))).astype(np.uint8)
    hierarchy = region_hierarchy(torch.from_numpy(edges)[None])
    contours = boundaries.contour_map(hierarchy)
    assert int(hierarchy.regions) > 5
    for level in (0.1, 0.3, 0.5):
        ids = cut(hierarchy, level)[0][0].numpy()
        outline = np.zeros(ids.shape, bool)
        outline[:, :-1] |= ids[:, 1:] != ids[:, :-1]
        outline[:-1] |= ids[1:] != ids[:-1]
        np.testing.assert_array_equal(contours > np.floor(level * FULL) / FULL, outline)


def test_suppression_leaves_the_ridge_of_a_blurred_edge():
    y, x = np.indices((60, 60))
    edges = np.exp(-(((x + y - 60) / 6.0) ** 2)).astype(np.float32)
    thinned = boundaries.non_maximum_suppressed(edges)[8:-8, 8:-8]
    assert (thinned[(x + y == 60)[8:-8, 8:-8]] > 0.5).all()
    assert not thinned[(abs(x + y - 60) > 2)[8:-8, 8:-8] & (abs(x + y - 60) < 8)[8:-8, 8:-8]].any()


def test_only_what_is_of_the_same_pictures_is_kept(tmp_path: Path):
    file = tmp_path / "boundaries.json"
    with pytest.raises(SystemExit, match=r"--only narrow.*measure all anew"):
        boundaries.kept("25 pictures", ["narrow"], file)
    file.write_text(json.dumps({"note": "25 pictures", "date": "2026-11-27"}))
    assert boundaries.kept("25 pictures", ["narrow"], file)["date"] == "2026-11-27"
    with pytest.raises(SystemExit, match="other --images"):
        boundaries.kept("10 pictures", ["narrow"], file)
