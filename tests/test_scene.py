"""Batches of a film as the scene reader takes them."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from streamstyle.config import AnalysisOptions
from streamstyle.frames import ColorTags, Frame
from streamstyle.look import Look, ObjectStyle
from streamstyle.media.states import read_state, write_state
from streamstyle.objects import object_tracks
from streamstyle.projects.object_numbers import ObjectNumbers
from streamstyle.scene import Scene, SceneReader

FRAMES, CUT = 12, 7
SIZE = (96, 144)


def luma(frame: int) -> np.ndarray:
    """A textured square that crosses a textured ground; another ground from the cut on."""
    rng = np.random.default_rng(frame >= CUT)
    ground = cv2.GaussianBlur(rng.integers(0, 256, SIZE, np.uint8), (0, 0), 1.5)
    ground = cv2.normalize(ground, None, 20 + 100 * (frame >= CUT), 90 + 100 * (frame >= CUT), cv2.NORM_MINMAX)
    thing = cv2.normalize(cv2.GaussianBlur(rng.integers(0, 256, (40, 40), np.uint8), (0, 0), 1), None, 130, 255, 32)
    left = 10 + 4 * frame
    ground[30:70, left : left + 40] = thing
    return ground


@pytest.mark.weights
@pytest.mark.parametrize("tracker", ["appearance", "overlap"])
def test_motion_found_for_batches_of_any_size_gives_the_same_film(asset, monkeypatch, tracker):
    """As on CUDA, where a batch's motion is found at once, in portions that the memory holds."""
    asset("hed")
    monkeypatch.setattr(object_tracks, "chosen", lambda impl, tensor: True)
    options = AnalysisOptions(tracker=tracker, analysis_size=SIZE[0], analyse_every=1)
    films = []
    for batch in (1, 3, 12):
        reader = SceneReader(Look(background="wave", foreground="ember"), options, torch.device("cpu"))
        reader.portions._together = 2
        looks = []
        for begin in range(0, FRAMES, batch):
            y = torch.from_numpy(np.stack([luma(i) for i in range(begin, begin + batch)]))
            grey = torch.full_like(y, 128)
            times_s = [i / 25 for i in range(begin, begin + batch)]
            scene = reader.read((y, grey, grey), ColorTags(), begin, times_s)
            assert [shot > 0 for shot in scene.shots] == [i >= CUT for i in range(begin, begin + batch)]
            assert scene.looks is not None
            looks.append(scene.looks)
        films.append(np.concatenate(looks))
    assert 0.02 < films[0].mean() < 0.5
    np.testing.assert_array_equal(films[1], films[0])
    np.testing.assert_array_equal(films[2], films[0])


# -- looks go by doubt ------------------------------------------------------------------------------------------------

LOOK = Look(background="wave", foreground="ember", objects=(ObjectStyle("it", "starry", (30, 50), at_s=0.0),))


def read(
    frames: list[Frame], per_batch: int, begin: int = 0, state: dict[str, Any] | None = None
) -> Iterator[tuple[int, Scene, dict[str, Any]]]:
    """Scenes with labels of a film read in batches from a state on, where each ends, and the state then."""
    numbers = ObjectNumbers()
    reader = SceneReader(LOOK, AnalysisOptions(analysis_size=SIZE[0]), torch.device("cpu"))
    reader.numbers = numbers
    if state is not None:
        reader.load_state_dict(state["scene"])
        numbers.load_state_dict(state["numbers"])
    for first in range(begin, len(frames), per_batch):
        end = min(len(frames), first + per_batch)
        y = torch.from_numpy(np.stack([frame.y for frame in frames[first:end]]))
        grey, times_s = torch.full_like(y, 128), [i / 25 for i in range(first, end)]
        ahead = functools.partial(iter, frames[end:])
        scene = reader.read((y, grey, grey), ColorTags(), first, times_s, ahead, lambda pts: pts / 25)
        yield end, scene, {"scene": reader.state_dict(), "numbers": numbers.state_dict()}


@pytest.fixture(scope="module")
def shown() -> list[Frame]:
    """Each picture twice, a cut before frame 22."""
    grey = np.full(SIZE, 128, np.uint8)
    pictures = [luma(i // 2) if i < 22 else 255 - luma(i // 2)[:, ::-1] for i in range(36)]
    return [Frame(np.ascontiguousarray(picture), grey, grey, i) for i, picture in enumerate(pictures)]


@pytest.mark.weights
def test_batches_and_stops_do_not_matter_where_looks_go_by_doubt(asset, tmp_path, shown):
    asset("hed")
    states, whole = dict[int, dict[str, Any]](), list[Scene]()
    for end, scene, state in read(shown, 1):
        whole.append(scene)
        write_state(tmp_path / f"{end}", state)
        states[end] = read_state(tmp_path / f"{end}")
    wanted = [np.concatenate([getattr(scene, kind) for scene in whole]) for kind in ("parts", "labels", "lumas")]
    assert {0, 1} < set(wanted[1].ravel().tolist())
    assert any(state["scene"]["follower"]["held"] for state in states.values())
    for per_batch, begin in [(5, 0), (13, 0), *((7, stop) for stop in (5, 9, 13, 20, 22, 23, 30))]:
        found = [scene for _, scene, _ in read(shown, per_batch, begin, states.get(begin))]
        for kind, of in zip(("parts", "labels", "lumas"), wanted, strict=True):
            np.testing.assert_array_equal(np.concatenate([getattr(scene, kind) for scene in found]), of[begin:])
