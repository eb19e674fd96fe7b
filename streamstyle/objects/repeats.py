"""Tells frames that repeat the one before: films that are drawn, and slow ones in quick containers, show each picture
up to four times. Such a frame moves as that did: that all stands still in it tells nothing of what moves by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from streamstyle.objects.evidence import own_motion
from streamstyle.objects.weighing import Motion

REPEATED_PX, MOST_REPEATS = 0.1, 3
"""Where nothing moves farther, a frame repeats the one before, but no more often than so: what stands still for longer
stands still."""


class Repeats:
    """Of one shot, frame by frame.

    Args:
        device: where motion is kept that comes as tensors.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.reset()

    def reset(self) -> None:
        """Forget all: a shot begins."""
        self._moved: tuple[Any, ...] = ()
        self._count = 0

    @property
    def copies(self) -> int:
        """How often in a row a frame was repeated, up to the one that was taken in last."""
        return self._count

    def step(self, motion: Motion) -> bool:
        """Take in a frame's motion; whether it repeats the frame before."""
        if motion.flow is None:
            return False
        farthest_px = motion.farthest_px
        if farthest_px is None:
            farthest_px = cv2.norm(motion.flow, cv2.NORM_INF)
        if farthest_px < REPEATED_PX and self._moved and self._count < MOST_REPEATS:
            self._count += 1
            return True
        self._moved = (motion.flow,) if isinstance(motion.flow, np.ndarray) else (motion.own, motion.moving)
        self._count = 0
        return False

    def as_before(self, motion: Motion) -> Motion:
        """The motion of a frame that repeats another, with what that had beside the camera's; of numbers that a device
        found, and of the flow's own on the host.

        Cost: on the host the camera's motion, 4 ms at 427x240 on one core.
        """
        # In half precision, as states keep it: who did not stop goes on as who did.
        if len(self._moved) == 1:
            return replace(motion, own=own_motion(_halved(self._moved[0]).astype(np.float32)), moving=None)
        own, moving = (part.half().float() for part in self._moved)
        return replace(motion, own=own, moving=moving)

    def state_dict(self) -> dict[str, Any]:
        """Everything later frames depend on; see load_state_dict."""
        return {"moved": [_halved(part) for part in self._moved], "count": self._count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as the one whose state_dict this is."""
        parts = tuple(state["moved"])
        self._moved = parts if len(parts) < 2 else tuple(torch.from_numpy(part).to(self._device) for part in parts)
        self._count = state["count"]


def _halved(part: Any) -> np.ndarray:
    """In half precision, on the host."""
    return part.half().cpu().numpy() if isinstance(part, Tensor) else part.astype(np.float16)
