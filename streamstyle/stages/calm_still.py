"""What stands still in a film: there what was shown stays, to the bit.

Where there is something to see and it stays as it is, nothing moved. What is even stays as it is whether it moves or
not, as the white roof of a bus: then what is around it tells. Painted strokes that stood there while all around them is
carried along would tear.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from streamstyle.errors import ShapeError
from streamstyle.stages.calm import carried_along, mean, near

STILL_LEVELS, STILL_DRIFT = 1.0, 2.0
"""Luma levels, means of 5 x 5, within which nothing moved since the last frame, and since the pixel was painted."""
ISLAND_PX = 10
"""What is no wider than twice this, and one, of what seems to stand is looked at again."""
MOVES_PX = 1.0
"""Motion found there from which it may be carried along."""
AS_WELL = 0.5
"""Luma levels, mean of 5 x 5, by which a motion may account for the luma worse than standing does: where both are
right, rounding to whole levels makes a third of one, and noise the rest. Faint texture that stands differs by more."""


def still_mask(luma: Tensor, previous: Tensor, shown: Tensor, *, impl: str = "auto") -> Tensor:
    """Where nothing moved, noise apart, since the last frame and since the pixel was last painted.

    Args:
        luma, previous, shown: [h, w] uint8: now, one frame ago, and as each pixel was when it last changed.
        impl: as for ``stages.calm.trust``.

    Returns:
        [h, w] bool.

    Raises:
        ShapeError: the pictures are not uint8 [h, w] of one shape.
    """
    for picture in (luma, previous, shown):
        if picture.dtype != torch.uint8 or picture.ndim != 2 or picture.shape != luma.shape:
            raise ShapeError(f"lumas must be uint8 {[*luma.shape]}, got {picture.dtype} {[*picture.shape]}")
    if impl == "auto" and luma.device.type == "cpu":
        now, before, last = luma.numpy(), previous.numpy(), shown.numpy()
        moved = cv2.boxFilter(cv2.absdiff(now, before), cv2.CV_32F, (5, 5))
        drift = cv2.boxFilter(cv2.absdiff(now, last), cv2.CV_32F, (5, 5))
        return torch.from_numpy((moved <= STILL_LEVELS) & (drift <= STILL_DRIFT))
    level = luma.float()
    stands = mean((level - previous.float()).abs(), 5, impl=impl) <= STILL_LEVELS
    return stands & (mean((level - shown.float()).abs(), 5, impl=impl) <= STILL_DRIFT)


def standing(still: Tensor, flow: Tensor, luma: Tensor, previous: Tensor, *, impl: str = "auto") -> Tensor:
    """What stands still, less what is narrow and even amid what moves: that goes along.

    It goes along where a motion was found that accounts for the luma as well as standing does, within AS_WELL.

    Args:
        still: [h, w] bool: see :func:`still_mask`.
        flow: [h, w, 2] float32 px: where in the previous frame each pixel was, also where it is still.
        luma, previous: [h, w] uint8.
        impl: as for ``stages.calm.trust``.

    Returns:
        [h, w] bool.

    Cost: no synchronisation; on a CPU 1 ms at 320x180, less where nothing is in doubt.
    """
    if still.device.type == "cpu" and not bool(still.any()):
        return still
    doubtful = still & ~slower(flow, MOVES_PX, impl=impl)
    if doubtful.device.type == "cpu" and not bool(doubtful.any()):
        return still
    narrow = still & ~near(~near(~still, ISLAND_PX, impl=impl), ISLAND_PX, impl=impl)
    now, before = luma.float(), previous.float()
    moving = mean((now - carried_along(before, flow, impl=impl)).abs(), 5, impl=impl)
    resting = mean((now - before).abs(), 5, impl=impl)
    return still & ~(doubtful & narrow & (moving <= resting + AS_WELL))


def slower(flow: Tensor, px: float, *, impl: str = "auto") -> Tensor:
    """Where neither part of the motion [h, w, 2] is over so many pixels, [h, w] bool; impl: as for trust."""
    if impl == "auto" and flow.device.type == "cpu":
        return torch.from_numpy(cv2.inRange(flow.numpy(), (-px, -px), (px, px)) > 0)
    return (flow.abs() <= px).all(2)


def held(flow: Tensor, stands: Tensor, *, impl: str = "auto") -> Tensor:
    """The motion [h, w, 2], none where it stands, [h, w] bool; impl: as for trust."""
    if (
        impl == "auto" and flow.device.type == "cpu"
    ):  # torch's masked_fill takes long of a mask that is spread over planes
        flow = flow.clone()
        cv2.copyTo(np.zeros_like(flow.numpy()), stands.numpy().view(np.uint8), flow.numpy())
        return flow
    return flow.masked_fill(stands[..., None], 0)
