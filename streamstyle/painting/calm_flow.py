"""The motion that calm goes by: searched for in the source's halved luma, in whole steps, so that it can be kept.

A project keeps the steps, and calm goes by no more than they tell, kept or just found: so a film that is painted again
by motion that was kept is, bit for bit, the one a whole run makes. Steps of 1/32 px leave the warping error as it is
(eight DAVIS sequences: within .0003 of its ratio; with 1/16 px it is up to .0014 more).
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import torch
import torch.nn.functional as F
from torch import Tensor

from streamstyle.stages.calm_cpu import motion_cpu
from streamstyle.stages.optical_flow import optical_flow

STEPS_PER_PX = 32
FARTHEST = torch.iinfo(torch.int16)
"""Steps; 1024 px of the halved luma, which are more than it has but in strips."""
SMALLEST_PX = 32
"""Short side of the halved luma under which OpenCV's search has no pyramid to speak of."""


class Lumas(NamedTuple):
    """A frame's luma [h, w] uint8, fine, and the same halved."""

    fine: Tensor
    halved: Tensor


def flow_steps(search: cv2.DISOpticalFlow, now: Lumas, last: Lumas) -> Tensor:
    """Where in the last frame each pixel of the halved luma was.

    Args:
        search: OpenCV's, for a CPU.
        now, last: the two frames' lumas, of one size, on one device.

    Returns:
        [h, w, 2] int16 steps, x before y, of the halved luma's size and on its device.

    Cost: at 320x180 a third of the time of a step of calm on a CPU; on CUDA no synchronisation.
    """
    if now.halved.device.type == "cpu" and min(now.halved.shape) >= SMALLEST_PX:
        return in_steps(motion_cpu(search, now.halved, last.halved))
    found = optical_flow(now.fine[None].contiguous(), last.fine[None].contiguous()).permute(0, 3, 1, 2)
    return in_steps(0.5 * F.interpolate(found, size=now.halved.shape, mode="area")[0].permute(1, 2, 0))


def in_steps(flow: Tensor) -> Tensor:
    """A motion [h, w, 2] float32 px in whole steps, [h, w, 2] int16, the nearest."""
    return (flow * STEPS_PER_PX).round_().clamp_(FARTHEST.min, FARTHEST.max).to(torch.int16)


def in_px(steps: Tensor) -> Tensor:
    """Steps [h, w, 2] int16 as pixels, [h, w, 2] float32, without rounding."""
    return steps.float().div_(STEPS_PER_PX)
