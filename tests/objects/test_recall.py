"""The looks of named objects, over drawn features: who is known again, what is forgotten, what a state holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from streamstyle.media.states import read_state, write_state
from streamstyle.objects.recall import LEARN_EVERY, MOST_LOOKS, SMALLEST_PIECE, Recall, described, pieces_of

GRID = (24, 32)
SIZE = (GRID[0] * 4, GRID[1] * 4)
GROUND, RED, BLUE = 0, 1, 2


def picture(*things: tuple[np.ndarray, int], seed: int = 0) -> tuple[list[Tensor], Tensor]:
    """Features of three blocks and a picture; each mask [h, w] has the looks of a kind, all else the ground's."""
    kinds = np.zeros(SIZE, int)
    for mask, kind in things:
        kinds[mask] = kind
    rng, likes = np.random.default_rng(seed), np.random.default_rng(5)
    colors = np.array([(90, 110, 90), (190, 70, 50), (60, 80, 190)])
    features = []
    for channels, step in ((64, 2), (128, 4), (128, 8)):
        means = likes.uniform(0, 1, (3, channels))
        each = means[kinds[::step, ::step]] + rng.normal(0, 0.08, (SIZE[0] // step, SIZE[1] // step, channels))
        features.append(torch.from_numpy(each.transpose(2, 0, 1).astype(np.float32)))
    rgb = colors[kinds] + rng.normal(0, 8, (*SIZE, 3))
    return features, torch.from_numpy(np.clip(rgb, 0, 255).astype(np.uint8).transpose(2, 0, 1).copy())


def box(y: int, x: int, side: int = 32) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[y : y + side, x : x + side] = True
    return mask


LEFT, RIGHT = box(24, 8), box(48, 80, 40)


@pytest.fixture
def recall() -> Recall:
    """Knows a red thing as "it"."""
    known = Recall(torch.device("cpu"))
    known.learn("it", 0, LEFT, *picture((LEFT, RED)))
    return known


def who(recall: Recall, *things: tuple[np.ndarray, int], missing: Sequence[str] = ("it",)) -> dict[str, int]:
    return recall.known(missing, [mask for mask, _ in things], *picture(*things, seed=3))


def test_who_looks_alike_is_known_again(recall):
    assert who(recall, (RIGHT, RED)) == {"it": 0}
    assert who(recall, (LEFT, BLUE), (RIGHT, RED)) == {"it": 1}


def test_who_does_not_is_not(recall):
    assert who(recall, (RIGHT, BLUE)) == {}
    assert who(recall, (RIGHT, GROUND)) == {}


def test_of_two_alike_neither_is(recall):
    assert who(recall, (LEFT, RED), (RIGHT, RED)) == {}


def test_nobody_is_who_may_be_two(recall):
    recall.learn("other", 0, LEFT, *picture((LEFT, RED)))
    assert who(recall, (RIGHT, RED), missing=("it",)) == {}
    assert who(recall, (RIGHT, RED), missing=("it", "other")) == {}


def test_only_the_missing_are_known_again(recall):
    assert who(recall, (RIGHT, RED), missing=()) == {}
    assert who(recall, missing=("it",)) == {}


def test_two_at_once(recall):
    recall.learn("sky", 1, LEFT, *picture((LEFT, BLUE)))
    assert who(recall, (LEFT, BLUE), (RIGHT, RED), missing=("it", "sky")) == {"it": 1, "sky": 0}


def test_a_sliver_teaches_and_tells_nothing(recall):
    thin = np.zeros(SIZE, bool)
    thin[:, 50] = True
    recall.learn("thin", 0, thin, *picture((thin, BLUE)))
    assert recall.names == {"it"}
    assert who(recall, (thin, RED)) == {}


def test_the_last_looks_are_kept_and_each_is_enough(recall):
    for shot in range(1, MOST_LOOKS + 1):
        recall.learn("it", shot, LEFT, *picture((LEFT, BLUE)))
    assert who(recall, (RIGHT, BLUE)) == {"it": 0}
    assert who(recall, (RIGHT, RED)) == {}  # the look of shot 0 was one too many
    assert len(recall.state_dict()["looks"]) == MOST_LOOKS


def test_one_frame_in_some_is_learned(recall):
    before = recall.state_dict()["looks"][0][3]
    for i in range(1, LEARN_EVERY + 1):
        recall.learn("it", 0, LEFT, *picture((LEFT, BLUE)))
        changed = not np.array_equal(recall.state_dict()["looks"][0][3], before)
        assert changed == (i == LEARN_EVERY)


def test_what_was_not_it_alone_is_forgotten(recall):
    recall.learn("it", 1, LEFT, *picture((LEFT, BLUE)))
    recall.forget("it", 1)
    assert who(recall, (RIGHT, BLUE)) == {}
    assert who(recall, (RIGHT, RED)) == {"it": 0}
    recall.forget("it", 0)
    recall.forget("nobody", 0)
    assert recall.names == set()


def test_a_state_is_taken_up(recall, tmp_path: Path):
    recall.learn("array", 4, LEFT, *picture((LEFT, BLUE)))
    write_state(tmp_path / "state", recall.state_dict())
    again = Recall(torch.device("cpu"))
    again.load_state_dict(read_state(tmp_path / "state"))
    assert again.names == {"it", "array"}
    for one in (recall, again):
        one.learn("it", 0, LEFT, *picture((LEFT, BLUE)))
    for (*mine, look), (*others, other) in zip(recall.state_dict()["looks"], again.state_dict()["looks"], strict=True):
        assert mine == others
        np.testing.assert_array_equal(look, other)


def test_descriptions_do_not_depend_on_the_shot():
    features, rgb = picture((LEFT, RED))
    x = described(features, rgb)
    assert x.shape == (GRID[0] * GRID[1], 64 + 128 + 9)
    torch.testing.assert_close(x[:, :64].norm(dim=1), torch.ones(len(x)))
    torch.testing.assert_close(described([2 * block for block in features], rgb), x)
    torch.testing.assert_close(described(features, rgb, np.array([3, 70])), x[[3, 70]])


def test_pieces_are_what_hangs_together_and_is_large_enough():
    small = box(90, 0, 1)
    assert small.sum() < SMALLEST_PIECE * small.size
    found = pieces_of(LEFT | RIGHT | small)
    assert len(found) == 2
    assert {piece.sum() for piece in found} == {LEFT.sum(), RIGHT.sum()}
    assert pieces_of(np.zeros(SIZE, bool)) == []
