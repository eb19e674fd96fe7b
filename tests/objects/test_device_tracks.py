"""Whole films followed on the device, without one by the shim: as the host follows them, and the same after a stop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from streamstyle.config import AnalysisOptions
from streamstyle.media.states import read_state, write_state
from streamstyle.objects import appearance_tracks, object_tracks
from streamstyle.objects.appearance_tracks import AppearanceTracks
from streamstyle.objects.device_weighing import DeviceWeighing
from streamstyle.objects.object_tracks import motion_of_each
from streamstyle.objects.recalling_tracks import RecallingTracks
from streamstyle.objects.segmenter import Segmentation, Segmenter
from tests.mottled_film import BLUE, RED, SIZE, Film, PlainFilm, SwayingFilm, Thing, named, rising, run
from tests.oracles import iou

pytestmark = [
    pytest.mark.weights,
    pytest.mark.usefixtures("cached", "networks"),
    pytest.mark.parametrize("kernel_device", ["shim-natural", "cuda"], indirect=True),
]
FRAMES = 14
FILM = Film(
    [
        Thing(RED, 36, rising(60, 10, 0, 3), round=True),
        Thing(BLUE, 34, rising(15, 120, 1, -3)),
    ],
    pan=1,
)
IT = named("it", point=(10 + 18, 60 + 18))
HALF = FRAMES // 2


class There:
    """A film that cuts away to another and back."""

    OTHER = Film([Thing(RED, 40, rising(50, 30, 0, 4), round=True)], pan=1, ground=(150, 140, 100))

    def luma(self, frame: int) -> np.ndarray:
        film, at = self.scene(frame)
        return film.luma(at)

    def found(self, segmenter: Segmenter, frame: int) -> Segmentation:
        film, at = self.scene(frame)
        return film.found(segmenter, at)

    def scene(self, frame: int) -> tuple[Film, int]:
        """Which film, and which frame of it: it goes on where it was left."""
        return (FILM, frame) if frame < 4 else (self.OTHER, frame - 4) if frame < 10 else (FILM, frame - 6)


@pytest.fixture
def device(kernel_device: torch.device) -> torch.device:
    return kernel_device


@pytest.fixture
def follow(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list]:
    """follow(where, objects): tracks of the host, "here", or of the device, "there", each with its segmenter."""
    segmenters = {
        where: Segmenter(AnalysisOptions(detail=0.5), torch.device(where), features=True)
        for where in ("cpu", device.type)
    }

    def made(where: str, *objects, every: int = 1, find: bool = True) -> AppearanceTracks:
        monkeypatch.setattr(appearance_tracks, "weighs", lambda _: where == "there")
        tracks = RecallingTracks(segmenters[device.type if where == "there" else "cpu"], objects, every, find=find)
        assert isinstance(tracks._weighing, DeviceWeighing) == (where == "there")
        return tracks

    return made


def fresh(film):
    """Films keep what a segmenter found: another one finds it anew."""
    for part in (film, getattr(film, "OTHER", None), FILM):
        if isinstance(part, Film):
            part._found = {}
    return film


@pytest.mark.parametrize(
    ("every", "find", "objects"), [(1, True, (IT,)), (1, True, ()), (1, False, (IT,)), (3, True, (IT,))]
)
def test_a_film_is_followed_as_on_the_host(follow, every, find, objects):
    maps = {}
    for where in ("here", "there"):
        tracks = follow(where, *objects, every=every, find=find)
        maps[where] = list(run(tracks, fresh(FILM), range(FRAMES)))
        assert [thing.track_id for thing in tracks.report()] == list(range(1, 1 + len(tracks.report())))
    for i, (here, there) in enumerate(zip(maps["here"], maps["there"], strict=True)):
        for slot in np.unique(here)[1:]:
            assert iou(here == slot, there == slot) > 0.9, f"slot {slot} in frame {i}"
        assert (here != there).mean() < 0.02, f"frame {i}"
    assert maps["there"][-1].any()


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("objects", [(), (IT,)])
def test_what_is_at_rest_before_a_plain_ground_is_found_as_on_the_host(follow, every, objects):
    plain = [Thing(RED, 36, lambda _: (60, 10), round=True), Thing(BLUE, 34, lambda _: (15, 120))]
    film, maps = PlainFilm(plain, ground=(190, 195, 200)), {}
    for where in ("here", "there"):
        maps[where] = list(run(follow(where, *objects, every=every), fresh(film), range(8)))
    for i, (here, there) in enumerate(zip(maps["here"], maps["there"], strict=True)):
        assert (here != there).mean() < 0.005, f"frame {i}"
        for k in (0, 1):
            assert max(iou(there == slot, film.seen(k, i)) for slot in np.unique(there)[1:]) > 0.85, f"frame {i}"


@pytest.mark.parametrize("every", [1, 3])
def test_what_goes_on_elsewhere_is_the_same_to_the_bit(follow, tmp_path: Path, every):
    first, second = (follow("there", IT, every=every) for _ in range(2))
    list(run(first, fresh(FILM), range(HALF)))
    write_state(tmp_path / "state", first.state_dict())
    rest = list(run(first, FILM, range(HALF, FRAMES)))
    second.load_state_dict(read_state(tmp_path / "state"))
    assert all(map(np.array_equal, rest, run(second, FILM, range(HALF, FRAMES))))
    assert first.report() == second.report()


@pytest.mark.parametrize("find", [False, True])
def test_a_film_that_cuts_away_and_back_is_followed_as_on_the_host(follow, find):
    """Its shot goes on as it was left; and in the other who has a name is sought, by a scout where nobody is found."""
    film, maps = There(), {}
    shots = [0] * 4 + [1] * 6 + [0] * 4
    for where in ("here", "there"):
        fresh(film)
        tracks, maps[where] = follow(where, IT, find=find), []
        for i, shot in enumerate(shots):
            look = tracks.wants(i, shot, i / 25)
            found = film.found(tracks.segmenter, i) if look else None
            maps[where].append(tracks.step(film.luma(i), found, shot, i, i / 25, SIZE))
    for i, (here, there) in enumerate(zip(maps["here"], maps["there"], strict=True)):
        assert (here != there).mean() < 0.02, f"frame {i}"
    it = [slot for slot in np.unique(maps["there"][3])[1:] if iou(maps["there"][3] == slot, FILM.seen(0, 3)) > 0.7]
    assert len(it) == 1
    assert iou(maps["there"][11] == it[0], FILM.seen(0, 5)) > 0.7


def test_motion_of_a_batch_is_taken_as_it_comes(follow, device, monkeypatch):
    """The host is told how far a frame moved; flow and what moves by itself stay on the device."""
    monkeypatch.setattr(object_tracks, "chosen", lambda *_: True)
    tracks = follow("there", IT)
    fresh(FILM)
    lumas = torch.from_numpy(np.stack([FILM.luma(i) for i in range(FRAMES)])).to(device)
    motions = motion_of_each(tracks, lumas)
    assert tracks.motions_told == 1
    assert [bool(motion[0].any()) for motion in motions] == [False] + [True] * (FRAMES - 1)
    assert all(isinstance(part, torch.Tensor) for part in motions[1][1:])
    found = [
        tracks.step(FILM.luma(i), FILM.found(tracks.segmenter, i), 0, i, i / 25, SIZE, motions[i])
        for i in range(FRAMES)
    ]
    for i in range(5, FRAMES):
        assert iou(found[i] == 1, FILM.seen(0, i)) > 0.8, f"frame {i}"
        assert iou(found[i] > 1, FILM.seen(1, i)) > 0.8, f"frame {i}"


@pytest.mark.parametrize("every", [1, 4])
def test_who_sways_before_a_camera_at_rest_is_found_as_on_the_host(follow, device, monkeypatch, tmp_path: Path, every):
    """Its motion told a batch at a time, to the bit where it goes on elsewhere, and after another shot."""
    film, count, shots = SwayingFilm(Thing(RED, 50, lambda _: (50, 70), round=True), 3, 90), 40, [0] * 26 + [1, 1]
    shots += [0] * (count - len(shots))

    def stepped(tracks: AppearanceTracks, frames: range) -> list[np.ndarray]:
        found, lumas = [], torch.from_numpy(np.stack([film.luma(i) for i in frames]))
        motions = motion_of_each(tracks, lumas.to(device))
        for i, motion in zip(frames, motions, strict=True):
            look = tracks.wants(i, shots[i], i / 25)
            regions = film.found(tracks.segmenter, i) if look else None
            found.append(tracks.step(film.luma(i), regions, shots[i], i, i / 25, SIZE, motion))
        return found

    here = stepped(follow("here", every=every), range(count))
    monkeypatch.setattr(object_tracks, "chosen", lambda *_: True)
    first, second = (follow("there", every=every) for _ in range(2))
    fresh(film)
    there = stepped(first, range(21))
    write_state(tmp_path / "state", first.state_dict())
    second.load_state_dict(read_state(tmp_path / "state"))
    rest = stepped(first, range(21, count))
    assert all(map(np.array_equal, rest, stepped(second, range(21, count))))
    for i, (one, other) in enumerate(zip(here, there + rest, strict=True)):
        if shots[i] == 0:
            assert (one != other).mean() < 0.02, f"frame {i}"
    assert iou(rest[3] > 0, film.seen(0, 24)) > 0.7
    assert iou(rest[-1] > 0, film.seen(0, count - 1)) > 0.6


def test_a_frame_that_stands_still_changes_nothing(follow, monkeypatch, device):
    monkeypatch.setattr(object_tracks, "chosen", lambda *_: True)
    tracks = follow("there", IT)
    *_, last = run(tracks, fresh(FILM), range(HALF))
    luma = FILM.luma(HALF - 1)
    (motion,) = motion_of_each(tracks, torch.from_numpy(luma)[None].to(device))
    again = tracks.step(luma, FILM.found(tracks.segmenter, HALF - 1), 0, HALF, HALF / 25, SIZE, motion)
    np.testing.assert_array_equal(again, last)


@pytest.mark.parametrize("noise", [0, 1])
def test_who_moves_in_a_film_of_repeated_frames_is_followed(follow, monkeypatch, device, noise):
    """Of each two frames the copy is looked at, with or without what an encoder leaves: that all stands still in it
    tells nothing of what moves by itself."""
    monkeypatch.setattr(object_tracks, "chosen", lambda *_: True)
    tracks, rng = follow("there", every=2), np.random.default_rng(0)
    fresh(FILM)
    lumas = [FILM.luma(i // 2).astype(np.int16) for i in range(2 * FRAMES)]
    lumas = [luma + noise * rng.integers(-1, 2, SIZE) * (i % 2) for i, luma in enumerate(lumas)]
    film = np.clip(np.stack(lumas), 0, 255).astype(np.uint8)
    for i, motion in enumerate(motion_of_each(tracks, torch.from_numpy(film).to(device))):
        look = tracks.wants(i, 0, i / 25)
        found = FILM.found(tracks.segmenter, i // 2) if look else None
        slots = tracks.step(film[i], found, 0, i, i / 25, SIZE, motion)
        if i >= 6:
            assert max(iou(slots == slot, FILM.seen(0, i // 2)) for slot in np.unique(slots)) > 0.75, f"frame {i}"
