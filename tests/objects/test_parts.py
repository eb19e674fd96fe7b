"""What belongs together: a part that becomes an object of its own, and a background that something lies across."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from streamstyle.config import AnalysisOptions
from streamstyle.frames import ColorTags
from streamstyle.look import Look, ObjectStyle
from streamstyle.objects.appearance_tracks import EAGER_FRAMES
from streamstyle.objects.evidence import BORDER, found_odds
from streamstyle.objects.host_weighing import HostCarried, HostWeighing
from streamstyle.objects.segmenter import Segmenter
from streamstyle.objects.tracker import Tracker
from streamstyle.objects.weighing import FOUND, SMALLEST_FOUND, Cast
from streamstyle.scene import SceneReader
from streamstyle.stages.color import rgb_to_yuv
from tests.mottled_film import BLUE, GREY, HEIGHT, RED, SIZE, WIDTH, Film, Thing, named, rising, run, tracks_of
from tests.oracles import iou

pytestmark = pytest.mark.weights
SPLIT_AT = 8


@pytest.fixture(scope="module")
def segmenter(cached: None) -> Segmenter:
    return Segmenter(AnalysisOptions(detail=0.5), torch.device("cpu"), features=True)


# -- a part of a named object ---------------------------------------------------------------------------------------


def pair() -> Film:
    """A thing of two colours that goes its way: its lower half is thing 0, its upper half thing 1."""
    return Film([Thing(RED, 30, rising(60, 20, 0, 2)), Thing(BLUE, 30, rising(30, 20, 0, 2))])


@pytest.mark.parametrize("every", [1, 4])
def test_a_part_of_an_object_that_is_named_later_is_an_object_of_its_own(segmenter, every):
    film = pair()
    whole = np.uint8(film.seen(0, 0) | film.seen(1, 0))
    head = named("head", SPLIT_AT / 25, point=(20 + 2 * SPLIT_AT + 15, 45))
    tracks = tracks_of(segmenter, named("it", mask=1), head, every=every, drawn=whole)
    found = list(run(tracks, film, range(24)))
    slots = {track.name: slot for slot, track in tracks.tracker.tracks.items()}
    for i, seen in enumerate(found):
        body, part = film.seen(0, i), film.seen(1, i)
        least = 0.85 if i == 0 or (i + 1) % every == 0 else 0.75
        if i < SPLIT_AT:
            assert iou(seen == slots["it"], body | part) > least, f"frame {i}"
            assert not (seen == slots["head"]).any()
        else:
            assert iou(seen == slots["it"], body) > least, f"frame {i}"
            assert iou(seen == slots["head"], part) > least, f"frame {i}"
    life = {thing.name: (thing.first_frame, thing.last_frame) for thing in tracks.report()}
    assert life == {"it": (0, 23), "head": (SPLIT_AT, 23)}


def test_a_part_wears_its_own_style_from_then_on(cached):
    film = pair()
    whole = ObjectStyle("it", "starry", (35, 75))
    more = replace(whole, point=(35, 45))
    head = ObjectStyle("head", "ember", (20 + 2 * SPLIT_AT + 15, 45), at_s=SPLIT_AT / 25)
    look = Look(background="none", objects=(whole, more, head))
    number = {style: k for k, style in enumerate(look.styles)}
    for i, looks in enumerate(looks_of(film, look, 20)):
        body, part = film.seen(0, i), film.seen(1, i)
        assert iou(looks == number["starry"], body | part if i < SPLIT_AT else body) > 0.85, f"frame {i}"
        assert iou(looks == number["ember"], part) > 0.85 if i >= SPLIT_AT else not (looks == number["ember"]).any()


def looks_of(film: Film, look: Look, frames: int) -> list[np.ndarray]:
    """Who wears what, as a scene reader has it, frame by frame."""
    options = AnalysisOptions(detail=0.5, analysis_size=HEIGHT, analyse_every=1)
    reader = SceneReader(look, options, torch.device("cpu"))
    looks = []
    for i in range(frames):
        rgb = torch.from_numpy(film.picture(i)).permute(2, 0, 1)[None].float() / 255
        planes = rgb_to_yuv(rgb, ColorTags(), subsample=False)
        scene = reader.read(planes, ColorTags(), i, [i / 25])
        assert scene.looks is not None
        looks.append(scene.looks[0])
    return looks


# -- a background that something lies across ------------------------------------------------------------------------


class Bridge(Thing):
    """A bar of full height, side px wide, that cuts the picture in two."""

    def mask(self, frame: int) -> np.ndarray:
        place, mask = self.at(frame), np.zeros(SIZE, bool)
        if place is not None:
            mask[:, max(0, place[1]) : max(0, place[1] + self.side)] = True
        return mask


def bridge() -> Film:
    film = Film([Bridge(RED, 34, rising(0, 50, 0, 3))])
    film._faces = [np.tile(face, (HEIGHT // 34 + 1, 1, 1)) for face in film._faces]
    return film


def test_a_background_cut_in_two_is_one_background(segmenter):
    film = bridge()
    tracks = tracks_of(segmenter, find=True)
    found = list(run(tracks, film, range(24)))
    parts = cut_off(film.found(segmenter, 12).ids.numpy(), film.seen(0, 12))
    assert len(parts) == 2
    assert parts[0] != parts[1]  # the regions of a frame do not know that they belong together
    for i in range(EAGER_FRAMES, 24):
        assert iou(found[i] > 0, film.seen(0, i)) > 0.85, f"frame {i}"
        left, right = (int(np.bincount(found[i][:, side].ravel()).argmax()) for side in sides(film.seen(0, i)))
        assert (left, right) == (0, 0), f"frame {i}"
    assert len(tracks.report()) == 1  # the bridge, and neither part


def test_both_parts_wear_the_backgrounds_style(cached):
    film, look = bridge(), Look(background="wave", foreground="ember")
    number = {style: k for k, style in enumerate(look.styles)}
    for i, looks in enumerate(looks_of(film, look, 16)):
        if i >= EAGER_FRAMES:
            for side in sides(film.seen(0, i)):
                assert (looks[:, side] == number["wave"]).mean() > 0.97, f"frame {i}"
            assert (looks[film.seen(0, i)] == number["ember"]).mean() > 0.9, f"frame {i}"


def sides(bar: np.ndarray) -> tuple[slice, slice]:
    """The columns on either side of a bar, some pixels from it."""
    columns = np.flatnonzero(bar.any(0))
    return slice(0, columns[0] - 4), slice(columns[-1] + 5, WIDTH)


def cut_off(ids: np.ndarray, bar: np.ndarray) -> list[int]:
    """The region that has most of each side."""
    return [int(np.bincount(ids[:, side].ravel()).argmax()) for side in sides(bar)]


# -- what else says that something is an object ---------------------------------------------------------------------


def test_at_the_border_less_is_taken_for_an_object_than_inside(segmenter):
    """Where motion says neither yes nor no, the picture's border says no and its middle yes."""
    odds = found_odds(None, None, np.zeros(SIZE, np.float32), SIZE)
    assert odds[0, 0] == odds[-1, WIDTH // 2] == pytest.approx(BORDER[0])
    assert odds[HEIGHT // 2, WIDTH // 2] == pytest.approx(BORDER[1])
    assert BORDER[0] < 0 < BORDER[1]


@pytest.mark.parametrize(("share", "is_one"), [(0.8, False), (1.2, True)])
def test_what_is_too_small_is_no_object(share, is_one):
    weighing, cast = HostWeighing(Tracker("components")), Cast((FOUND,), (True,), False)
    mask = np.zeros(SIZE, bool)
    width = round(share * SMALLEST_FOUND * mask.size / 8)
    mask[40:48, 60 : 60 + width] = True
    assert (mask.sum() >= SMALLEST_FOUND * mask.size) == is_one
    overlap, _ = weighing.settle(torch.from_numpy(mask[None].astype(np.float32)), HostCarried(None, None), cast)
    assert len(overlap) == 1 + is_one
    assert weighing.name(np.array([0, 7])[: len(overlap)]).any() == is_one


@pytest.mark.parametrize(("side", "is_one"), [(6, False), (24, True)])
def test_a_speck_that_moves_is_none_and_a_thing_is(segmenter, side, is_one):
    film = Film([Thing(GREY, side, rising(60, 30, 0, 3))])
    found = [bool(slots.any()) for slots in run(tracks_of(segmenter, find=True), film, range(12))]
    assert found[EAGER_FRAMES:] == [is_one] * (12 - EAGER_FRAMES)
