from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from streamstyle.media.states import read_state, write_state
from streamstyle.shots import (
    CUT_DIFFERENCE,
    CUT_DISTANCE,
    SAME_DISTANCE,
    SHOTS_REMEMBERED,
    Glance,
    ShotDetector,
    ShotMemory,
)
from tests import oracles

HEIGHT, WIDTH = 120, 160


def texture(seed: int, low: int = 0, high: int = 255, width: int = WIDTH) -> np.ndarray:
    return (low + (high - low) * oracles.smooth(np.random.default_rng(seed), HEIGHT, width, 4)).astype(np.uint8)


def shots(frames: Sequence[np.ndarray], detector: ShotDetector | None = None) -> list[int]:
    """The number of the shot that each frame is of."""
    detector = detector or ShotDetector()
    return [detector.step(frame) for frame in frames]


def cuts(frames: Sequence[np.ndarray]) -> list[int]:
    numbers = shots(frames)
    return [i for i in range(1, len(numbers)) if numbers[i] != numbers[i - 1]]


# -- cuts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("one", "other"), [((0, 90), (120, 255)), ((110, 255), (0, 150)), ((0, 60), (60, 255))])
def test_a_cut_between_two_shots_is_found_once(one, other):
    assert cuts([texture(1, *one)] * 4 + [texture(2, *other)] * 4) == [4]


@pytest.mark.parametrize("back", [False, True])
def test_a_cut_between_two_shots_of_much_the_same_light_is_found_too(back):
    pair = Glance.at(texture(1, 0, 230)), Glance.at(texture(2, 50, 255))
    before, now = pair[::-1] if back else pair
    assert SAME_DISTANCE < before.moved(now) < CUT_DISTANCE  # so that what they show must tell
    assert cuts([before.luma] * 4 + [now.luma] * 4) == [4]


@pytest.mark.parametrize(("turn", "gain"), [(0, 1.4), (18, 1.32)])
def test_light_that_changes_is_no_cut(turn, gain):
    """All at once, by as much as a cut brings, and the camera turns, too."""
    wide = texture(4, 0, 180, width=WIDTH + turn)
    before, now = wide[:, :WIDTH], np.clip(gain * wide[:, turn:].astype(float), 0, 255).astype(np.uint8)
    assert SAME_DISTANCE < Glance.at(before).moved(Glance.at(now)) < CUT_DISTANCE
    assert CUT_DIFFERENCE < Glance.at(before).difference(Glance.at(now)) < 2 * CUT_DIFFERENCE
    assert cuts([before, before, now, now]) == []


def test_a_film_starts_without_a_cut_and_a_still_has_none():
    assert cuts([texture(1)] * 5) == []


@pytest.mark.parametrize("speed", [1, 4, 12])
def test_a_pan_is_no_cut(speed):
    wide = texture(3, width=WIDTH + 20 * speed)
    assert cuts([wide[:, speed * i : speed * i + WIDTH] for i in range(20)]) == []


@pytest.mark.parametrize("frames", [12, 25])
def test_a_fade_is_no_cut(frames):
    dark, bright = texture(1, 0, 90).astype(float), texture(2, 120, 255).astype(float)
    assert cuts([(dark + (bright - dark) * i / frames).astype(np.uint8) for i in range(frames + 1)]) == []
    assert cuts([(bright * (1 - i / frames)).astype(np.uint8) for i in range(frames + 1)]) == []


def test_noise_is_no_cut():
    rng, still = np.random.default_rng(0), texture(1, 40, 200)
    assert cuts([np.clip(still + rng.normal(0, 8, still.shape), 0, 255).astype(np.uint8) for _ in range(10)]) == []


def test_another_size_is_no_cut():
    assert cuts([texture(1, 0, 90), texture(2, 120, 255)[:60]]) == []


# -- shots that the film comes back to --------------------------------------------------------------------------------

WHITE = np.full((HEIGHT, WIDTH), 255, np.uint8)
LIGHT = {name: texture(k, 50 * k, 50 * k + 40) for k, name in enumerate("ABCDE")}
"""Pictures of five shots."""


def film(letters: str) -> list[np.ndarray]:
    """A frame a letter, of a camera that moves a little; "!" is a flash."""
    return [WHITE if letter == "!" else np.roll(LIGHT[letter], i % 3, 1) for i, letter in enumerate(letters)]


@pytest.mark.parametrize(
    ("letters", "numbers"),
    [
        ("AAA!AAA", "0001000"),  # a flash frame
        ("AAABBBAAABBB", "000111000111"),  # a dialogue
        ("AABBCCAA", "00112200"),
        ("AB" + "C" * 60 + "A", "01" + "2" * 60 + "0"),
        ("ABCDABCD", "01230123"),  # as many as are remembered, and the one on screen
        ("ABCDEAB", "0123456"),  # one more: each is forgotten just before it is back
        ("ABCDEBA", "0123415"),
        ("A!B!A", "01210"),
    ],
)
def test_a_shot_has_its_number_again_when_the_film_comes_back(letters, numbers):
    assert "".join(map(str, shots(film(letters)))) == numbers


def test_the_shot_left_last_comes_back_where_several_might():
    alike = np.roll(LIGHT["A"], 2, 1)
    assert shots([LIGHT["A"], LIGHT["D"], LIGHT["B"], LIGHT["D"], alike]) == [0, 1, 2, 1, 0]
    detector = ShotDetector()
    detector.load_state_dict(detector.state_dict() | {"shots": 2, "left": [(0, glance(alike)), (1, glance(alike))]})
    assert shots([LIGHT["D"], LIGHT["A"]], detector)[1] == 1


def glance(luma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    detector = ShotDetector()
    detector.step(luma)
    return tuple(detector.state_dict()["previous"])


def test_another_picture_is_no_shot_that_was_there_though_it_were_no_cut_from_it():
    """Too many pictures that show nothing alike are no cut; between neighbouring frames there seldom are such."""
    one, other = texture(1, 40, 200), texture(2, 70, 230)
    assert shots([one, other]) == [0, 0]
    assert shots([one, WHITE, other]) == [0, 1, 2]


def test_the_same_histogram_in_another_place_is_another_shot():
    halves = np.repeat(np.uint8([[20] * (WIDTH // 2) + [220] * (WIDTH // 2)]), HEIGHT, 0)
    grey = np.full_like(halves, 120)
    assert shots([halves, grey, halves]) == [0, 1, 0]
    assert shots([halves, grey, halves[:, ::-1]]) == [0, 1, 2]


def test_another_size_is_not_what_was_there():
    small = LIGHT["A"][:60]
    assert shots([small, WHITE[:60], WHITE, LIGHT["A"]]) == [0, 1, 1, 2]


def test_memory_does_not_grow_with_the_film():
    detector = ShotDetector()
    shots(film("ABCDE" * 20), detector)
    assert len(detector.state_dict()["left"]) == SHOTS_REMEMBERED


@pytest.mark.parametrize("stop", range(1, 12))
def test_a_state_goes_on_alike_through_a_file(tmp_path: Path, stop):
    frames, detector, again = film("AAB!BBCAADEB"), ShotDetector(), ShotDetector()
    shots(frames[:stop], detector)
    write_state(tmp_path / "state", detector.state_dict())
    again.load_state_dict(read_state(tmp_path / "state"))
    assert shots(frames[stop:], again) == shots(frames[stop:], detector)


def test_a_memory_forgets_the_one_left_first():
    memory = ShotMemory[str]()
    assert [memory.keep(k, name) for k, name in enumerate("abc")] == [None] * 3
    assert memory.keep(3, "d") == "a"
    assert memory.take(0) is None
    assert memory.take(2) == "c"
    assert memory.take(2) is None
    assert list(ShotMemory(memory.items()).items()) == [(1, "b"), (3, "d")]
