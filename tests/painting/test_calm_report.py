"""The report of calm: what it counts, and that it tells nothing rosier than what can be seen."""

from __future__ import annotations

import pytest
import torch

from streamstyle.painting.calm import Calm
from streamstyle.painting.calm_report import EVERY_FRAMES, CalmReport
from streamstyle.painting.calm_state import Arriving, begun
from streamstyle.stages.style_map import style_map

SIZE, HALF = (96, 128), (48, 64)


def texture(seed: int = 0, width: int = SIZE[1]) -> torch.Tensor:
    """Luma [96, width] uint8 in which motion can be seen."""
    generator = torch.Generator().manual_seed(seed)
    layers = [
        torch.nn.functional.interpolate(
            torch.rand(1, 1, SIZE[0] // step, width // step, generator=generator), size=(SIZE[0], width), mode="bicubic"
        )
        for step in (4, 8)
    ]
    return (sum(layers)[0, 0] / 2 * 255).clamp(0, 255).to(torch.uint8)


def reported(shown: list[torch.Tensor], lumas: list[torch.Tensor], **how: object) -> CalmReport:
    """Of two frames; the paintings are grey and white."""
    report = CalmReport(2)
    looks = how.get("looks", torch.zeros(HALF, dtype=torch.int32))
    last, now = (
        begun(Arriving(picture, luma, luma[::2, ::2], looks, torch.zeros(0, *HALF), None, True))
        for picture, luma in zip(shown, lumas, strict=True)
    )
    last.painted, now.painted = torch.full((3, *SIZE), 0.5), torch.ones(3, *SIZE)
    report.add(last, now, how.get("other"), how.get("unseen", ()), how.get("reach_px", 2))
    return report


def test_what_is_moved_with_the_source_is_steady_and_what_stays_behind_is_not():
    wide = texture(width=160)
    lumas = [wide[:, :128].contiguous(), wide[:, 4:132].contiguous()]
    pictures = [luma.float().expand(3, -1, -1) / 255 for luma in lumas]
    (moved,) = reported(pictures, lumas).rows()
    (behind,) = reported([pictures[0], pictures[0]], lumas).rows()
    assert moved.shown < 0.03
    assert behind.shown > 5 * moved.shown
    assert moved.painted == behind.painted == pytest.approx(0.5)


def test_what_flickers_counts_wherever_it_does():
    """Calm's own flow and trust are no part of it: half of the picture changes whole."""
    luma = texture()
    before, after = torch.zeros(3, *SIZE), torch.zeros(3, *SIZE)
    after[..., 64:] = 1
    (seen,) = reported([before, after], [luma, luma]).rows()
    assert seen.shown == pytest.approx(0.5**0.5, abs=0.03)


def test_what_is_new_in_the_source_does_not_count():
    luma, other = texture(), texture(1)
    now = luma.clone()
    now[:, 64:] = other[:, 64:]
    after = torch.zeros(3, *SIZE)
    after[..., 64:] = 1
    (whole,) = reported([torch.zeros(3, *SIZE), after], [luma, luma]).rows()
    (seen,) = reported([torch.zeros(3, *SIZE), after], [luma, now]).rows()
    assert seen.shown < 0.8 * whole.shown


def test_other_looks_and_other_styles_do_not_count():
    luma, looks = texture(), torch.zeros(HALF, dtype=torch.int32)
    looks[:, 32:] = 1
    before, after = torch.zeros(3, *SIZE), torch.zeros(3, *SIZE)
    after[..., 64:] = 1
    for how in ({"unseen": {1}}, {"other": looks > 0}):
        (seen,) = reported([before, after], [luma, luma], looks=looks, **how).rows()
        assert (seen.look, seen.shown) == (0, 0)
    steady, flickers = reported([before, after], [luma, luma], looks=looks).rows()
    assert (steady.shown, flickers.shown) == (0, 1)


def test_a_soft_border_that_moves_does_not_count():
    """Of two looks, black and white, blended over 16 px; the border goes on by two."""
    luma, pictures, looks = texture(), [], torch.zeros(HALF, dtype=torch.int32)
    looks[:, 32:] = 1
    for border in (64, 66):
        ramp = ((torch.arange(SIZE[1]) - border) / 16 + 0.5).clamp(0, 1)
        pictures.append(ramp.expand(3, *SIZE).contiguous())
    for reach_px, flickers in ((2, True), (6, False)):
        rows = reported(pictures, [luma, luma], looks=looks, reach_px=reach_px).rows()
        assert [row.shown > 0 for row in rows] == [flickers] * 2


def test_calm_tells_the_report_how_far_a_soft_border_reaches():
    """Of two looks, black and white, blended as painting does; the border goes on where nothing moves."""
    luma = texture()
    for feather_px, flickers in ((12.0, False), (0.0, True)):
        calm = Calm(looks=2, feather_px=feather_px)
        for k in range(2):
            looks = torch.zeros(1, *HALF, dtype=torch.int32)
            looks[..., 32 + k :] = 1
            first, _, weight = style_map(looks, 2, SIZE, 12.0)
            white = torch.where(first[0] == 1, weight[0], 1 - weight[0])
            calm.step(white.expand(3, -1, -1).contiguous(), luma, looks[0], 0)
        assert [(seen.look, seen.shown > 0.01) for seen in calm.report()] == [(0, flickers), (1, flickers)]


def test_calm_tells_the_report_where_another_style_came_at_once():
    calm, luma, looks = Calm(looks=2), texture(), torch.zeros(HALF, dtype=torch.int32)
    looks[:, 32:] = 1
    for k in range(2):
        painted = torch.zeros(3, *SIZE)
        painted[2, :, 64:] = k
        calm.step(painted, luma, looks, 0, fading={1} if k else ())
    (seen,) = calm.report()
    assert (seen.look, seen.shown) == (0, 0)


def test_a_film_is_looked_at_once_in_some_frames_from_the_second_on():
    calm, counts, luma = Calm(), [], texture()
    for _ in range(2 * EVERY_FRAMES):
        calm.step(torch.zeros(3, *SIZE), luma, None, 0)
        counts.append(calm.state_dict()["sums"][0, 0])
    each = counts[1]
    assert each > 0
    assert counts == [each * (0 if k == 0 else 1 + (k - 1) // EVERY_FRAMES) for k in range(2 * EVERY_FRAMES)]


def test_a_film_of_short_shots_is_looked_at_anywhere_in_them_also_taken_up_again():
    """Shots of EVERY_FRAMES frames, so one pair less: the pair that is looked at comes one later in each shot."""
    calm, luma, looked_at, before = Calm(), texture(), [], 0
    for k in range(4 * EVERY_FRAMES):
        calm.step(torch.zeros(3, *SIZE), luma, None, k // EVERY_FRAMES)
        state = calm.state_dict()
        if state["sums"][0, 0] > before:
            looked_at.append(k % EVERY_FRAMES)
        before = state["sums"][0, 0]
        calm = Calm()
        calm.load_state_dict(state, torch.device("cpu"))
    assert looked_at == [1, 2, 3, 4]
