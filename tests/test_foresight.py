"""What moves by itself is known in the first frame already, from those that follow it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from moving_disc import disc_in, make_moving_disc

from streamstyle import naming, pipeline
from streamstyle.config import AnalysisOptions, Options, OutputOptions
from streamstyle.frames import FrameBatch
from streamstyle.label_track import LabelTrack
from streamstyle.look import Look
from streamstyle.media.decode import decode
from streamstyle.media.probe import probe
from streamstyle.naming import foresee_objects
from streamstyle.pipeline import stylize
from streamstyle.scene import SceneReader
from streamstyle.stylizer import Stylizer
from streamstyle.tracks import tracks

pytestmark = [pytest.mark.weights, pytest.mark.usefixtures("cached", "networks")]
FRAMES = 10
LOOK = Look(background="none", foreground="wave")
FAST = Options(output=OutputOptions(preset="ultrafast"), analysis=AnalysisOptions(analyse_every=3))


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_moving_disc(tmp_path_factory.mktemp("film") / "pictures", FRAMES)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """Maps of looks, as they are read from now on."""
    looks: list[np.ndarray] = []
    read = SceneReader.read

    def note(self: SceneReader, *arguments: object) -> object:
        scene = read(self, *arguments)  # type: ignore[arg-type]
        looks.extend(scene.looks)  # type: ignore[arg-type]
        return scene

    monkeypatch.setattr(SceneReader, "read", note)
    return looks


def agreement(looks: np.ndarray, i: int) -> float:
    """IoU of what wears the foreground and the disc of frame i."""
    return float(((looks > 0) & disc_in(i)).sum() / ((looks > 0) | disc_in(i)).sum())


def pictures(path: Path) -> list[np.ndarray]:
    return [frame.y for frame in decode(probe(path))]


def test_a_moving_disc_is_styled_from_the_first_frame_on(film, tmp_path, seen):
    stylize(film, tmp_path / "out.mp4", look=LOOK, options=FAST)
    assert [agreement(looks, i) > 0.8 for i, looks in enumerate(seen)] == [True] * FRAMES


def test_of_a_part_from_its_own_first_frame_on(film, tmp_path, seen):
    out = OutputOptions(preset="ultrafast", start=0.16)
    stylize(film, tmp_path / "out.mp4", look=LOOK, options=Options(output=out))
    assert len(seen) == FRAMES - 4
    assert agreement(seen[0], 4) > 0.8


def test_batches_do_not_matter(film, tmp_path, seen, monkeypatch):
    stylize(film, tmp_path / "a.mp4", look=LOOK, options=FAST)
    monkeypatch.setattr(pipeline, "MOST_FRAMES", 1)
    stylize(film, tmp_path / "b.mp4", look=LOOK, options=FAST)
    assert len(seen) == 2 * FRAMES
    assert all(map(np.array_equal, seen[:FRAMES], seen[FRAMES:]))


def test_a_stopped_job_goes_on_to_the_same_film_and_looks_ahead_once(film, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "SEGMENT_FRAMES", (3, 3))
    whole = stylize(film, tmp_path / "whole.mp4", look=LOOK, options=FAST)

    def stop(done: int, expected: int | None) -> None:
        nonlocal count
        count += done
        if count >= 6:
            raise KeyboardInterrupt

    count = 0
    with pytest.raises(KeyboardInterrupt):
        stylize(film, tmp_path / "out.mp4", look=LOOK, options=FAST, on_frames=stop)
    monkeypatch.setattr(pipeline, "foresee_objects", lambda *_: pytest.fail("looked ahead again"))
    again = stylize(film, tmp_path / "out.mp4", look=LOOK, options=FAST)
    assert again.resumed_frames >= 3
    assert again.objects == whole.objects
    assert all(map(np.array_equal, pictures(tmp_path / "out.mp4"), pictures(tmp_path / "whole.mp4")))


def first_looks(stylizer: Stylizer, film: Path) -> np.ndarray:
    info = probe(film)
    batch = FrameBatch.stack([next(decode(info))])
    scene = stylizer.read_batch(batch, info.color, [0.0]).scene
    assert scene is not None
    assert scene.looks is not None
    return scene.looks[0]


def test_what_is_foreseen_is_part_of_the_state(film):
    first, second = Stylizer(LOOK, FAST), Stylizer(LOOK, FAST)
    foresee_objects(first, probe(film))
    second.load_state_dict(first.state_dict())
    looks = first_looks(second, film)
    assert agreement(looks, 0) > 0.8
    assert np.array_equal(looks, first_looks(first, film))


def test_only_the_first_shot_is_looked_at(film, tmp_path):
    """Of a shot too short to learn from nothing is known, nor of the one behind it."""
    for i in range(8):
        picture = cv2.imread(str(film / f"{i:03d}.png"))
        cv2.imwrite(str(tmp_path / f"{i}.png"), picture if i > 2 else 255 - picture[:, ::-1])
    stylizer = Stylizer(LOOK, FAST)
    foresee_objects(stylizer, probe(tmp_path))
    assert not first_looks(stylizer, tmp_path).any()


@pytest.mark.parametrize("look", [Look("wave"), Look(background="wave", foreground="wave")])
def test_where_nothing_is_found_nothing_is_looked_at(film, look, monkeypatch):
    stylizer = Stylizer(look)
    monkeypatch.setattr(naming, "decode", lambda *_, **__: (pytest.fail("decoded") for _ in "x"))
    foresee_objects(stylizer, probe(film))


def test_tracks_have_what_moves_from_the_first_frame_on(film, tmp_path):
    report = tracks(film, tmp_path / "labels.npz", analysis=FAST.analysis)
    assert report.objects[0]["first_frame"] == 0
    with LabelTrack(tmp_path / "labels.npz") as track:
        assert all(agreement(labels, i) > 0.8 for i, labels in enumerate(track))
