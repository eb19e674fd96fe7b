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


def test_steps_are_the_nearest_and_come_back(device: torch.device) -> None:
    flow = torch.tensor([[[0.0, 0.4 / STEPS_PER_PX], [-1.6 / STEPS_PER_PX, 7.25], [1e6, -1e6]]], device=device)
    steps = in_steps(flow)
    assert steps.dtype == torch.int16
    assert steps.tolist() == [[[0, 0], [-2, 7.25 * STEPS_PER_PX], [32767, -32768]]]
    assert torch.equal(in_steps(in_px(steps)), steps)
    assert float((in_px(steps) - flow)[0, :2].abs().max()) <= 0.5 / STEPS_PER_PX


@pytest.mark.parametrize("size", [(72, 96), (20, 60)])
def test_a_pan_is_found(size: tuple[int, int], device: torch.device) -> None:
    wide = texture(2 * size[0], 2 * size[1] + 16).to(device)
    last, now = (wide[:, k : k + 2 * size[1]].contiguous() for k in (0, 4))
    halves = [torch.nn.functional.avg_pool2d(luma[None, None].float(), 2)[0, 0].byte() for luma in (now, last)]
    steps = flow_steps(search(), Lumas(now, halves[0]), Lumas(last, halves[1]))
    assert steps.shape == (*size, 2)
    assert steps.device.type == device.type
    middle = in_px(steps)[4:-4, 8:-8].cpu()
    assert float((middle - torch.tensor([2.0, 0.0])).abs().median()) < 0.1


def test_by_motion_that_is_known_none_is_searched_for_and_the_film_is_the_same(
    monkeypatch: pytest.MonkeyPatch, device: torch.device
) -> None:
    lumas = [*pan(6), pan(6)[-1], *pan(8, 3)]  # one stands still, then a cut that is none to calm
    frames = [(flickering(luma, k).to(device), luma.to(device), None, 0) for k, luma in enumerate(lumas)]
    flows, shown, calm = [], [], Calm(0.7)
    for frame in frames:
        shown.append(calm.step(*frame))
        flows.append(calm.flow)
    assert [flow is None for flow in flows] == [k in (0, 6) for k in range(len(lumas))]

    def fails(*_: Any) -> None:
        raise AssertionError("searched")

    for search_of in ("motion_cpu", "optical_flow"):
        monkeypatch.setattr(calm_flow, search_of, fails)
    again = Calm(0.7)
    for k, frame in enumerate(frames):
        picture = again.step(*frame, flow=flows[k])
        if device.type == "cpu":
            assert torch.equal(picture, shown[k])
        else:  # up to a last bit
            torch.testing.assert_close(picture, shown[k], rtol=0, atol=1e-5)
        assert (again.flow is None) == (flows[k] is None)


def test_motion_of_another_form_is_refused(device: torch.device) -> None:
    luma = texture(64, 96).to(device)
    for wrong in (torch.zeros(32, 48, 2, device=device), torch.zeros(64, 96, 2, dtype=torch.int16, device=device)):
        with pytest.raises(ShapeError, match=r"flow must be int16 \[h / 2, w / 2, 2\], got"):
            Calm().step(flickering(luma.cpu(), 0).to(device), luma, None, 0, flow=wrong)
