"""Painting by batches, with and without calm."""

from __future__ import annotations

import functools
from fractions import Fraction

import cv2
import numpy as np
import pytest

from streamstyle import Look, Options, Stylizer
from streamstyle.config import AnalysisOptions, StyleOptions
from streamstyle.frames import ColorTags, Frame, FrameBatch
from tests.clips import draw_mottled

pytestmark = [pytest.mark.weights, pytest.mark.usefixtures("cached")]
COLOR = ColorTags("bt709", full_range=True)
FRAMES = 7


def options(calm: float, **more) -> Options:
    painting = StyleOptions(precision="float32", calm=calm, **more)
    return Options(AnalysisOptions(analysis_size=64), painting, device="cpu")


@functools.cache
def film(moving: bool = True) -> list[Frame]:
    """A disc that moves over a texture, or stands."""
    frames = []
    for i in range(FRAMES):
        y = cv2.cvtColor(draw_mottled(i if moving else 0, (160, 120)), cv2.COLOR_RGB2GRAY)
        grey = np.full((y.shape[0] // 2, y.shape[1] // 2), 128, np.uint8)
        frames.append(Frame(y, grey, grey, i))
    return frames


def painted(look: Look, frames: list[Frame], sizes: list[int], calm: float) -> list[FrameBatch]:
    stylizer, done, begin = Stylizer(look, options(calm)), [], 0
    for size in sizes:
        batch = FrameBatch.stack(frames[begin : begin + size], begin)
        times_s = [float(Fraction(pts, 25)) for pts in batch.pts]
        done += stylizer.paint_batch(batch, COLOR, times_s).unstack()
        begin += size
    return done


def same(a, b) -> bool:
    return all(np.array_equal(x.y, z.y) and np.array_equal(x.u, z.u) for x, z in zip(a, b, strict=True))


@pytest.mark.parametrize("calm", [0.0, 1.0])
@pytest.mark.parametrize("look", [Look(style="starry"), Look(background="wave; strength=0.5", foreground="starry")])
def test_batches_of_any_size_give_the_same_frames(look, calm):
    one_by_one = painted(look, film(), [1] * FRAMES, calm)
    assert same(one_by_one, painted(look, film(), [3, 4], calm))
    assert same(one_by_one, painted(look, film(), [FRAMES], calm))


def test_calm_changes_what_moves_and_holds_what_stands():
    look = Look(style="starry")
    plain, calm = (painted(look, film(), [FRAMES], strength) for strength in (0.0, 1.0))
    assert same(plain[:1], calm[:1])
    assert not same(plain[3:], calm[3:])
    still = painted(look, film(moving=False), [2, 5], 1.0)
    assert same(still[1:], still[:-1])


def test_what_keeps_the_picture_is_kept_to_the_bit_under_calm():
    frames = film()
    for before, after in zip(
        frames, painted(Look(background="none", foreground="starry"), frames, [FRAMES], 1.0), strict=True
    ):
        corner = np.s_[:20, :20]
        assert np.array_equal(before.y[corner], after.y[corner])
    kept = painted(Look(style="starry; keep-colors"), frames, [FRAMES], 1.0)
    assert all(np.array_equal(a.u, b.u) and not np.array_equal(a.y, b.y) for a, b in zip(frames, kept, strict=True))


def test_what_wears_no_paint_is_not_in_the_report():
    for nothing in ("none", "wave; strength=0", "none@9 > wave@10"):
        stylizer = Stylizer(Look(background=nothing, foreground="starry"), options(1.0))
        batch = FrameBatch.stack(film(), 0)
        stylizer.paint_batch(batch, COLOR, [pts / 25 for pts in batch.pts])
        assert "background" not in [one["object"] for one in stylizer.calm_report()]


def test_a_style_that_changes_at_once_is_there_under_calm():
    """Still frames; from the fourth on another style."""
    look = Look(style="starry@0.12 > wave@0.12")
    plain, calm = (painted(look, film(moving=False), [FRAMES], strength) for strength in (0.0, 1.0))
    assert all(np.abs(a.y.astype(int) - b.y).mean() < 1 for a, b in zip(plain, calm, strict=True))


def test_a_background_is_as_still_while_the_foreground_fades():
    corner = np.s_[:20, :20]
    for fades, still in (("foreground", True), ("background", False)):
        worn = {"background": "starry", "foreground": "starry", fades: "starry@0.08 > wave@0.2"}
        shown = [frame.y[corner] for frame in painted(Look(**worn), film(), [3, 4], 1.0)]
        assert all(np.array_equal(shown[2], after) for after in shown[3:]) == still


def test_frames_from_any_source_are_calmed_as_well():
    frames = [cv2.cvtColor(frame.y, cv2.COLOR_GRAY2RGB) for frame in film(moving=False)]
    stylizer = Stylizer(Look(style="starry; strength=0.7"), options(1.0))
    shown = list(stylizer.paint(frames))
    assert all(np.array_equal(shown[0], frame) for frame in shown[1:])
    (report,) = stylizer.calm_report()
    assert report["object"] == "background"
    assert report["warping_error"] == 0


@pytest.mark.parametrize("calm", [0.0, 1.0])
def test_a_stylizer_goes_on_as_the_one_whose_state_it_has(calm):
    look = Look(background="wave", foreground="starry")
    whole = painted(look, film(), [4, 3], calm)
    first, second = Stylizer(look, options(calm)), Stylizer(look, options(calm))
    begun = first.paint_batch(FrameBatch.stack(film()[:4], 0), COLOR, [i / 25 for i in range(4)]).unstack()
    second.load_state_dict(first.state_dict())
    rest = second.paint_batch(FrameBatch.stack(film()[4:], 4), COLOR, [i / 25 for i in range(4, 7)]).unstack()
    assert same(begun + rest, whole)
