"""How far what was carried may be trusted: as far as the picture there is what it was where that came from.

Flow leads what comes out from behind a post to the post, and who is carried by it alone never comes out. Where the
picture is another than flow says, what was carried is doubted, and looks and motion tell.

All maps are of the small picture, [h, w]: trust is 0..1, and of a frame that comes after some that were not looked at
the product over these, each carried along.
"""

from __future__ import annotations

import functools
from typing import Any, cast

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from streamstyle.objects.weighing import Motion
from streamstyle.stages.optical_flow import carry, lengths

NOISE_LEVELS, DOUBT_LEVELS = 8.0, 30.0
"""A difference of so many of 255 is noise; so many more leave a trust of 1 / e, see trust_in. What is doubted is worth
the same between 15 and 50, and half of it at 80."""
WINDOW_PX = 3
"""Differences are means over so many pixels each way."""
LOOK_DOUBT = 0.2
"""Where what was carried is doubted so far, the next frame is looked at; see Doubt. On DAVIS, where .2 looks at 36 % of
the frames (a shot's first and those that are foreseen among them), .15 looks at 38 % for J +.001, .25 at 34 % for J
-.004."""
DOUBT_PER_PX = 0.0075
"""For each pixel (of 240 lines) that objects moved: flow is never exact, and they turn as they go."""
BESIDE_PX = 4
"""What is doubted so far beside objects counts as in them."""
OPEN_EVERY = 4
"""One of so many frames is looked at where nobody is there, one with a name is missing, or it is not known yet whether
somebody is an object."""


class Trust:
    """Trust in what was carried since a frame was looked at.

    Args:
        device: where motion is, or else the host.

    Attributes:
        since: how many frames ago one was looked at, but for those that repeat another; 0: what is followed is as it
            was seen.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.reset()

    def reset(self) -> None:
        """A shot begins."""
        self.since, self._map = 0, cast(Tensor | None, None)

    def step(
        self,
        motion: Motion,
        before: np.ndarray | None,
        luma: np.ndarray,
        *,
        looked_at: bool,
        repeats: bool = False,
    ) -> tuple[Any, Any]:
        """Trust in a frame's flow, and in all that comes into it since one was looked at, each [h, w] float32.

        Args:
            motion: the frame's.
            before, luma: [h, w] uint8, of the frame before and of this one; before is None where nobody asks.
            looked_at: whether what is followed is then as it was seen, so that trust begins anew after it.
            repeats: whether it is the frame before once more, which is not counted.

        Returns:
            Arrays, or tensors where motion has those; None, None where nobody asks or knows the motion.
        """
        earlier, self._map = self._map, None
        self.since = 0 if looked_at else self.since + (not repeats)
        if motion.flow is None or before is None:
            return None, None
        steady = motion.steady
        if steady is None:
            steady = trust(luma, before, motion.flow)
        both = steady
        if earlier is not None and isinstance(steady, Tensor):
            both = steady * carried_maps(earlier[None, None], motion.flow[None])[0, 0]
        elif earlier is not None:
            both = steady * carry(earlier.cpu().numpy(), motion.flow)
        if not looked_at:
            self._map = torch.as_tensor(both, device=self._device)
            if both is motion.steady:
                self._map = self._map.clone()  # a view, which would hold its whole batch
        return steady, both

    def state_dict(self) -> dict[str, Any]:
        """Everything later frames depend on; see load_state_dict."""
        return {"since": self.since, "map": None if self._map is None else self._map.cpu().numpy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as that whose state_dict this is."""
        self.since, known = state["since"], state["map"]
        self._map = None if known is None else torch.from_numpy(known).to(self._device)


class Doubt:
    """How far all that was carried since a frame was looked at is doubted, 0..1: so that calm films are looked at
    rarely, and violent ones often.

    It is the mean of what trust lacks, over objects and a little around, and grows with the way they went.

    Attributes:
        so_far: the doubt.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """A frame is looked at."""
        self.so_far, self._moved_px = 0.0, 0.0

    def step(self, slots: np.ndarray, motion: Motion, since: int, *, open_question: bool) -> None:
        """Take in a frame that was carried.

        Args:
            slots: [h, w] int32, above 0 who is there.
            motion: the frame's, on the host, with trust in all that was carried.
            since: how many frames ago one was looked at.
            open_question: whether somebody with a name is nowhere, or it is not known yet who is an object.

        Cost: .5 ms at 427x240 on one core.
        """
        there = cv2.compare(slots, 0, cv2.CMP_GT)  # type: ignore[call-overload]  # its types know of no number
        if open_question or not cv2.countNonZero(there):
            self.so_far = max(self.so_far, LOOK_DOUBT * since / (OPEN_EVERY - 1))
        if motion.flow is None or motion.trust is None or not cv2.countNonZero(there):
            return
        self._moved_px += cv2.mean(lengths(motion.flow), there)[0] * 240 / min(slots.shape)
        around = cv2.dilate(there, np.ones((2 * BESIDE_PX + 1,) * 2, np.uint8))
        doubt = 1 - cv2.mean(motion.trust, around)[0] + DOUBT_PER_PX * self._moved_px
        self.so_far = max(self.so_far, doubt)

    def state_dict(self) -> dict[str, Any]:
        """Everything later frames depend on; see load_state_dict."""
        return {"so_far": self.so_far, "moved_px": self._moved_px}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as that whose state_dict this is."""
        self.so_far, self._moved_px = state["so_far"], state["moved_px"]


def trust_in(difference: np.ndarray) -> np.ndarray:
    """Trust by differences of luma, 0..255."""
    beyond = np.maximum(0, difference.astype(np.float32) - NOISE_LEVELS)
    found: np.ndarray = np.exp(-((beyond / DOUBT_LEVELS) ** 2))
    return found


def trust(luma: np.ndarray, before: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """How far what flow carries from one frame into the next may be trusted.

    Args:
        luma, before: [h, w] uint8, the frame's and that of the one before.
        flow: [h, w, 2] float32 px, from the frame to the one before.

    Returns:
        [h, w] float32.

    Cost: 1 ms at 427x240 on one core.
    """
    difference = cv2.blur(cv2.absdiff(luma, carry(before, flow)), (WINDOW_PX, WINDOW_PX))
    found: np.ndarray = cv2.LUT(difference, _by_level())
    return found


def trusts(lumas: Tensor, before: Tensor, flows: Tensor) -> Tensor:
    """trust of frames at once, [N, h, w] float32, on their device; no synchronisation.

    Args:
        lumas, before: [N, h, w] uint8.
        flows: [N, h, w, 2] float32 px.
    """
    was = carried_maps(before[:, None].float(), flows).round()
    difference = F.pad((lumas[:, None].float() - was).abs(), (WINDOW_PX // 2,) * 4, mode="reflect")
    beyond = (F.avg_pool2d(difference, WINDOW_PX, 1)[:, 0].round() - NOISE_LEVELS).clamp_min(0)
    return torch.exp(-((beyond / DOUBT_LEVELS) ** 2))


def carried_maps(maps: Tensor, flows: Tensor) -> Tensor:
    """optical_flow.carry of maps [N, C, h, w] float32 at once, on their device, by flows [N, h, w, 2] px."""
    height, width = maps.shape[2:]
    rows, columns = (torch.arange(n, dtype=torch.float32, device=maps.device) for n in (height, width))
    x, y = flows[..., 0] + columns, flows[..., 1] + rows[:, None]
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], -1)
    return F.grid_sample(maps, grid, mode="bilinear", padding_mode="border", align_corners=False)


def doubted(share: np.ndarray, trust: np.ndarray | None) -> np.ndarray:
    """What was carried as a share of each pixel, drawn to one half as far as it cannot be trusted."""
    return share if trust is None else (0.5 + trust * (share - 0.5)).astype(np.float32, copy=False)


@functools.cache
def _by_level() -> np.ndarray:
    """[256] float32, trust_in each difference there may be."""
    return trust_in(np.arange(256))
