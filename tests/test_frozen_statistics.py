import itertools

import numpy as np
import pytest
import torch

from streamstyle.frozen_statistics import FADE_FRAMES, FrozenStatistics
from streamstyle.media.states import read_state, write_state
from streamstyle.nets.stylenet import LAYERS
from streamstyle.shots import SHOTS_REMEMBERED
from tests import oracles

HEIGHT, WIDTH = 120, 160


def texture(seed: int, low: int = 0, high: int = 255, width: int = WIDTH) -> np.ndarray:
    return (low + (high - low) * oracles.smooth(np.random.default_rng(seed), HEIGHT, width, 4)).astype(np.uint8)


# -- statistics -------------------------------------------------------------------------------------------------------


class Recorder:
    """Records maps that hold the number of the recording in every place."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> list:
        self.count += 1
        value = float(self.count)
        one = tuple((torch.full((x.channels,), value), torch.full((x.channels,), -value)) for x in LAYERS)
        return [one, one]


def watch(lumas: list[np.ndarray], cut_at: tuple[int, ...] = ()) -> tuple[list[float], list[int], Recorder]:
    """What each frame wears (1 the first recording, 1.5 half way to the second), versions, and the recorder."""
    statistics, record = FrozenStatistics(), Recorder()
    worn, versions = [], []
    for i, luma in enumerate(lumas):
        styles = statistics.step(luma, sum(cut <= i for cut in cut_at), record)
        assert len(styles) == 2
        values = {round(float(x), 5) for style in styles for scale, shift in style for x in (*scale, *-shift)}
        (value,) = values
        worn.append(value)
        versions.append(statistics.version)
    return worn, versions, record


def test_a_still_film_is_recorded_once():
    worn, versions, record = watch([texture(1)] * 40)
    assert record.count == 1
    assert set(worn) == {1.0}
    assert set(versions) == {versions[0]}


def test_a_cut_is_recorded_at_once():
    worn, versions, record = watch([texture(1)] * 3 + [texture(2)] * 3, cut_at=(3,))
    assert worn == [1, 1, 1, 2, 2, 2]
    assert record.count == 2
    assert len(set(versions)) == 2


def test_a_change_of_light_is_recorded_and_fades_in():
    dark, bright = texture(1, 20, 140), texture(1, 80, 200)
    worn, versions, record = watch([dark] * 5 + [bright] * (FADE_FRAMES + 5))
    assert record.count == 2
    assert worn[:5] == [1.0] * 5
    expected = [1 + k / FADE_FRAMES for k in range(1, FADE_FRAMES + 1)] + [2.0] * 5
    assert worn[5:] == pytest.approx(expected, abs=1e-4)
    for (before, after), (version, following) in zip(
        itertools.pairwise(worn), itertools.pairwise(versions), strict=True
    ):
        assert before == after or version != following
    assert versions[-1] == versions[-5]


def test_a_small_change_of_light_is_not():
    assert watch([texture(1, 20, 140)] * 3 + [texture(1, 32, 152)] * 30)[2].count == 1


def test_a_cut_in_the_middle_of_a_change_ends_it():
    dark, bright = texture(1, 20, 140), texture(1, 80, 200)
    worn, _, record = watch([dark] * 2 + [bright] * 6 + [texture(2)] * 4, cut_at=(8,))
    assert record.count == 3
    assert worn[8:] == [3.0] * 4


def test_a_black_first_frame_is_replaced_at_once():
    black = np.zeros((HEIGHT, WIDTH), np.uint8)
    worn, _, record = watch([black, black, texture(1), texture(1)])
    assert worn == [1, 1, 2, 2]
    assert record.count == 2


def test_a_film_that_fades_to_black_keeps_what_it_has():
    picture = texture(1, 60, 200)
    frames = [picture] * 3 + [np.zeros_like(picture)] * 40
    worn, _, record = watch(frames)
    assert record.count == 1
    assert set(worn) == {1.0}


def test_a_slow_fade_from_black_never_jumps_once_there_is_a_picture():
    picture = texture(1, 0, 240).astype(float)
    worn, _, record = watch([(picture * min(1, i / 60)).astype(np.uint8) for i in range(160)])
    jumps = [b - a for a, b in itertools.pairwise(worn) if b - a > 1.5 / FADE_FRAMES]
    assert len(jumps) <= 1, "one, when black ends"
    assert record.count >= 3
    assert worn[-1] == record.count


def random_maps() -> list:
    return [tuple((torch.randn(kind.channels), torch.randn(kind.channels)) for kind in LAYERS)]


def same(one: list, other: list) -> bool:
    pairs = [
        (a, b)
        for x, y in zip(one, other, strict=True)
        for p, q in zip(x, y, strict=True)
        for a, b in zip(p, q, strict=True)
    ]
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("inserts", [[1], [1, 2], [1, 2, 3]])
@pytest.mark.parametrize("fading", [False, True])
def test_a_shot_that_is_back_wears_what_it_wore(inserts, fading):
    dark, bright, other = texture(1, 20, 140), texture(1, 80, 200), texture(2)
    frames = [dark] * 3 + [bright] * (5 + FADE_FRAMES)
    leaves = 6 if fading else FADE_FRAMES + 4
    torch.manual_seed(0)
    straight = FrozenStatistics()
    expected = [straight.step(luma, 0, random_maps) for luma in frames]
    torch.manual_seed(0)
    statistics = FrozenStatistics()
    found = [statistics.step(luma, 0, random_maps) for luma in frames[:leaves]]
    versions = [statistics.version]
    for shot in inserts:
        statistics.step(other, shot, random_maps)
        versions.append(statistics.version)
    found.append(statistics.step(frames[leaves], 0, random_maps))
    versions.append(statistics.version)
    assert len(set(versions)) == len(versions), "what is painted goes by the version"
    found += [statistics.step(luma, 0, random_maps) for luma in frames[leaves + 1 :]]
    assert all(map(same, found, expected))


def test_a_shot_that_is_forgotten_is_recorded_again():
    statistics, record = FrozenStatistics(), Recorder()
    for shot in (*range(SHOTS_REMEMBERED + 2), 0):
        statistics.step(texture(1), shot, record)
    assert record.count == SHOTS_REMEMBERED + 3
    assert len(statistics.state_dict()["left"]) == SHOTS_REMEMBERED


@pytest.mark.parametrize("stop", [4, 8, 9, 14])
def test_a_state_goes_on_alike_through_a_file(tmp_path, stop):
    dark, bright = texture(1, 20, 140), texture(1, 80, 200)
    film = [(dark, 0)] * 4 + [(bright, 0)] * 4 + [(texture(2), 1)] * 4 + [(bright, 0)] * (FADE_FRAMES + 4)
    statistics, again = FrozenStatistics(), FrozenStatistics()
    torch.manual_seed(0)
    for luma, shot in film[:stop]:
        statistics.step(luma, shot, random_maps)
    write_state(tmp_path / "state", statistics.state_dict())
    again.load_state_dict(read_state(tmp_path / "state"), torch.device("cpu"))
    runs = []
    for one in (statistics, again):
        torch.manual_seed(1)
        runs.append([(one.step(luma, shot, random_maps), one.version) for luma, shot in film[stop:]])
    assert all(same(a, b) and x == y for (a, x), (b, y) in zip(*runs, strict=True))


def test_the_same_film_wears_the_same():
    frames = [texture(1, 20, 140)] * 4 + [texture(1, 80, 200)] * 30
    assert watch(frames)[:2] == watch(frames)[:2]


def test_after_a_fade_nothing_is_left_of_its_arithmetic():
    """What a job goes on with must be, bit for bit, what one that was taken up again there has."""
    statistics, made = FrozenStatistics(), itertools.count()

    def record():
        torch.manual_seed(next(made))
        return [tuple((torch.randn(kind.channels), torch.randn(kind.channels)) for kind in LAYERS)]

    dark, bright = texture(1, 0, 90), texture(1, 120, 255)
    statistics.step(dark, 0, record)
    for _ in range(FADE_FRAMES):
        last = statistics.step(bright, 0, record)
    again = FrozenStatistics()
    again.load_state_dict(statistics.state_dict(), torch.device("cpu"))
    for now in (statistics.step(bright, 0, record), again.step(bright, 0, record)):
        for style, wanted in zip(now, last, strict=True):
            for pair, other in zip(style, wanted, strict=True):
                assert all(torch.equal(a, b) for a, b in zip(pair, other, strict=True))
    assert next(made) == 2
