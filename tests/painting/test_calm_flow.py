"""The motion calm goes by: whole steps, and by those of before a film is painted as by those just found."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from streamstyle.errors import ShapeError
from streamstyle.painting import calm_flow
from streamstyle.painting.calm import Calm
from streamstyle.painting.calm_flow import STEPS_PER_PX, Lumas, flow_steps, in_px, in_steps
from streamstyle.stages.calm_cpu import search
from tests.painting.test_calm_film import flickering, pan, texture


def test_steps_are_the_nearest_and_come_back() -> None:
    flow = torch.tensor([[[0.0, 0.4 / STEPS_PER_PX], [-1.6 / STEPS_PER_PX, 7.25], [1e6, -1e6]]])
    steps = in_steps(flow)
    assert steps.dtype == torch.int16
    assert steps.tolist() == [[[0, 0], [-2, 7.25 * STEPS_PER_PX], [32767, -32768]]]
    assert torch.equal(in_steps(in_px(steps)), steps)
    assert float((in_px(steps) - flow)[0, :2].abs().max()) <= 0.5 / STEPS_PER_PX


@pytest.mark.parametrize("size", [(72, 96), (20, 60)])
def test_a_pan_is_found(size: tuple[int, int]) -> None:
    wide = texture(2 * size[0], 2 * size[1] + 16)
    last, now = (wide[:, k : k + 2 * size[1]].contiguous() for k in (0, 4))
    halves = [torch.nn.functional.avg_pool2d(luma[None, None].float(), 2)[0, 0].byte() for luma in (now, last)]
    steps = flow_steps(search(), Lumas(now, halves[0]), Lumas(last, halves[1]))
    assert steps.shape == (*size, 2)
    middle = in_px(steps)[4:-4, 8:-8]
    assert float((middle - torch.tensor([2.0, 0.0])).abs().median()) < 0.1


def test_by_motion_that_is_known_none_is_searched_for_and_the_film_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    lumas = [*pan(6), pan(6)[-1], *pan(8, 3)]  # one stands still, then a cut that is none to calm
    flows, shown, calm = [], [], Calm(0.7)
    for k, luma in enumerate(lumas):
        shown.append(calm.step(flickering(luma, k), luma, None, 0))
        flows.append(calm.flow)
    assert [flow is None for flow in flows] == [k in (0, 6) for k in range(len(lumas))]

    def fails(*_: Any) -> None:
        raise AssertionError("searched")

    monkeypatch.setattr(calm_flow, "motion_cpu", fails)
    again = Calm(0.7)
    for k, luma in enumerate(lumas):
        assert torch.equal(again.step(flickering(luma, k), luma, None, 0, flow=flows[k]), shown[k])
        assert (again.flow is None) == (flows[k] is None)


def test_motion_of_another_form_is_refused() -> None:
    luma = texture(64, 96)
    for wrong in (torch.zeros(32, 48, 2), torch.zeros(64, 96, 2, dtype=torch.int16)):
        with pytest.raises(ShapeError, match=r"flow must be int16 \[h / 2, w / 2, 2\], got"):
            Calm().step(flickering(luma, 0), luma, None, 0, flow=wrong)
