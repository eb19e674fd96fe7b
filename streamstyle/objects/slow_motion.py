"""What moves too slowly for any one frame to show it, before a camera at rest: a body that sways, a head that turns.

::

    anchor ─► flow ─► flow ─► ... ─► how far each pixel went since the anchor ─► as what moves by itself, if there
      │                                                                            the picture is what it was where it
      └──────────────── after LONG_FRAMES a new one                                came from, and not what stood here

A camera that moves shows near things moving beside far ones, the more the longer one waits; one at rest shows no such
thing. What is seen moving before it moves by itself, so that counts for more there, too: enough for a body that was
taken for the ground while it stood still.

What is kept is of half the small picture's lines, and motion in pixels of that: it takes a quarter of the time, and
what comes of it is drawn to regions of the small picture in the end.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from streamstyle.gpu.transfer import to_device
from streamstyle.objects.device_weighing import moving_odds
from streamstyle.objects.evidence import SURELY_MOVING, moves_by_itself
from streamstyle.objects.trust import carried_maps
from streamstyle.objects.weighing import Motion
from streamstyle.stages.dominant_motion import dominant_motion
from streamstyle.stages.optical_flow import carry

CAMERA_PX = (0.5, 1.0)
"""A camera is at rest if most of the picture moves by no more than the first a frame (of 240 lines), and is not from
the second on. In each of eight DAVIS sequences, whose cameras chase, nine frames of ten have 1.2 px and more, and half
of them 4 to 21; of eleven other clips six have .2 or less in half of the frames, and one has more than .9."""
CAMERA_RATE = 0.1
"""Of a frame, in the mean that says how far the camera moves."""
LONG_FRAMES = 8
"""Frames after which one asks how far everything went, and until which the last answer is held, carried along."""
FAR_PX = 1.0
"""What went so far since (of 240 lines) moved; .7 finds no more bodies, and more ground."""
FAST_PX = 3.0
"""What is passed by something that goes so far along an axis in one frame is not asked: what is uncovered seems to have
come along, and what moves is seen anyway. Where it is asked, ground behind a swan that swims past is found with it: its
J is .83 for .90."""
FAST_REACH_PX = 1
"""And what is so near to it, each way, of half the lines."""
WINDOW_PX = 3
"""Pictures are compared by means over so many pixels each way."""
INLIER_PX = 0.5
"""As of dominant_motion, of half the lines."""
FITS, NOISE_LEVELS = 0.5, 1
"""What went somewhere differs from where it came from by such a share of how it differs from what stood here, and so
many levels of 255 more, at most ..."""
MATCHES_LEVELS, CHANGED_LEVELS = 20, 1
"""... and by less than the first in all; and from what stood here by the second at least: where a picture is the same
to the level, as in black bars, nothing was seen moving."""
SEEN_TIMES = 2.5
"""What is seen moving before a camera at rest counts so many times. At 1 a body that stood still before, and was taken
for the ground, is hardly found; the more, the more ground comes with it. In five clips in which bodies move little (15
frames, outlined by hand) J of what is found unasked is .33 without all of this, .48 at 2, .51 at 3; in films of what
walks and rests before a still picture it is .771 at 2, .769 at 3."""


class SlowMotion:
    """Of one shot, frame by frame.

    Args:
        device: where motion is, or else the host.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.reset()

    def reset(self) -> None:
        """A shot begins."""
        self._camera_px: float | None = None
        self._drop()

    def _drop(self) -> None:
        """There is no anchor, and nobody knows what moved before."""
        self._anchor: np.ndarray | None = None
        self._way: Any = None
        self._fast: Any = None
        self._far: Any = None
        self._frames = 0

    def step(
        self, motion: Motion, luma: np.ndarray, *, looked_at: bool, repeats: bool = False, eager: bool = False
    ) -> Motion:
        """Take in a frame.

        Args:
            motion: the frame's; with own if it is looked at.
            luma: [h, w] uint8.
            looked_at: whether it is.
            repeats: whether it is the frame before once more, which is not counted, and whose motion was.
            eager: whether anybody may still be found: then what is seen counts as it does elsewhere, or what moves most
                would be all that is learned.

        Returns:
            The motion; with moving, of what is seen in the frame and what it shows of the frames before it, if the
            frame is looked at and the camera at rest.

        Cost: of 427x240 on one core .1 ms; before a camera at rest .7 ms, and 5 ms more every LONG_FRAMES.
        """
        if motion.flow is None:
            self.reset()
            self._anchor = halved(luma)
            return motion
        rest = self._rest(motion, min(luma.shape) / 240)
        if rest == 0:
            self._drop()
            return motion
        if self._anchor is not None:
            self._follow(motion.flow, counts=not repeats)
        seen = motion
        if looked_at and motion.own is not None:
            moving = motion.moving if motion.moving is not None else moves_by_itself(motion.own)
            if self._frames >= LONG_FRAMES:
                far = self._gone_far(halved(luma))
                self._drop()
                self._far = far
            if self._far is not None:
                moving = _larger(moving, _enlarged(self._far, luma.shape) - 2 * SURELY_MOVING * (1 - rest))
            if not eager and not repeats:
                moving = _larger(moving, moving * (1 + rest * (SEEN_TIMES - 1)))
            seen = replace(motion, moving=moving)
        if self._anchor is None:
            self._anchor = halved(luma)
        return seen

    def _rest(self, motion: Motion, scale: float) -> float:
        """How far the camera is at rest, 0..1."""
        usual_px = usual_motion_px(motion.flow) if motion.usual_px is None else motion.usual_px
        earlier = usual_px / scale if self._camera_px is None else self._camera_px
        self._camera_px = earlier + CAMERA_RATE * (usual_px / scale - earlier)
        return float(np.clip((CAMERA_PX[1] - self._camera_px) / (CAMERA_PX[1] - CAMERA_PX[0]), 0, 1))

    def _follow(self, flow: Any, *, counts: bool) -> None:
        """Go on by a flow [h, w, 2] px from the anchor."""
        flow = flow[::2, ::2] * 0.5 if isinstance(flow, Tensor) else _every_second(flow) * np.float32(0.5)
        fast_px = FAST_PX * min(flow.shape[:2]) / 240
        way: Any
        fast: Any
        far: Any
        if isinstance(flow, Tensor):
            fast = flow.abs().amax(2) > fast_px
            way = flow if self._way is None else flow + _carried(self._way, flow)
            far = None if self._far is None else _carried(self._far[..., None], flow)[..., 0]
        else:
            fast = cv2.inRange(flow, (-fast_px,) * 2, (fast_px,) * 2) == 0
            way = flow if self._way is None else flow + carry(self._way, flow)
            far = None if self._far is None else carry(self._far, flow)
        self._way, self._fast = way, fast if self._fast is None else self._fast | fast
        self._far, self._frames = far, self._frames + counts

    def _gone_far(self, luma: np.ndarray) -> Any:
        """Log-odds [h, w] that each pixel moved by itself since the anchor."""
        assert self._anchor is not None
        if isinstance(self._way, Tensor):
            anchor, here = (to_device(torch.from_numpy(picture), self._device) for picture in (self._anchor, luma))
            return gone_far_on_device(here, anchor, self._way, self._fast)
        return gone_far(luma, self._anchor, self._way, self._fast)

    def state_dict(self) -> dict[str, Any]:
        """Everything later frames depend on; see load_state_dict."""
        parts = {"way": self._way, "fast": self._fast, "far": self._far}
        held = {name: part.cpu().numpy() if isinstance(part, Tensor) else part for name, part in parts.items()}
        return held | {"camera_px": self._camera_px, "anchor": self._anchor, "frames": self._frames}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as the one whose state_dict this is."""
        self._camera_px, self._anchor, self._frames = state["camera_px"], state["anchor"], state["frames"]
        way, fast, far = (self._there(state[name]) for name in ("way", "fast", "far"))
        self._way, self._fast, self._far = way, fast, far

    def _there(self, part: np.ndarray | None) -> Any:
        """Where motion is."""
        return part if part is None or self._device.type == "cpu" else torch.from_numpy(part).to(self._device)


def usual_motion_px(flow: np.ndarray) -> float:
    """How far most of a picture moves, in px, of a flow [h, w, 2]: the median, of every 64th pixel."""
    return float(np.median(np.abs(_complex(np.ascontiguousarray(flow[::8, ::8])))))


def usual_motions_px(flows: Tensor) -> Tensor:
    """usual_motion_px of flows [M, h, w, 2] at once, [M] float32 on their device; no synchronisation."""
    return torch.linalg.vector_norm(flows[:, ::8, ::8], dim=3).flatten(1).median(1).values


def halved(luma: np.ndarray) -> np.ndarray:
    """A picture [h, w] uint8 in half its lines."""
    return cv2.resize(luma, (-(-luma.shape[1] // 2), -(-luma.shape[0] // 2)), interpolation=cv2.INTER_AREA)


def gone_far(luma: np.ndarray, anchor: np.ndarray, way: np.ndarray, fast: np.ndarray) -> np.ndarray:
    """Log-odds that pixels moved by themselves since an earlier frame, no more than what the pictures show.

    All of one size, in pixels of which motion is.

    Args:
        luma, anchor: [h, w] uint8, of this frame and of the earlier one.
        way: [h, w, 2] float32 px, from this frame to that.
        fast: [h, w] bool, where something went too fast meanwhile.

    Returns:
        [h, w] float32, from -SURELY_MOVING to SURELY_MOVING.
    """
    own = dominant_motion(torch.from_numpy(way)[None], inlier_px=INLIER_PX)[1][0].numpy()
    stood, came = (
        cv2.blur(cv2.absdiff(luma, carry(anchor, there)), (WINDOW_PX, WINDOW_PX))
        for there in (np.ascontiguousarray(way - own.transpose(1, 2, 0)), way)
    )
    passed = cv2.dilate(fast.view(np.uint8), np.ones((2 * FAST_REACH_PX + 1,) * 2, np.uint8))
    shown = (came <= FITS * stood.astype(np.float32) + NOISE_LEVELS) & (came < MATCHES_LEVELS)
    shown &= (stood >= CHANGED_LEVELS) & (passed == 0)
    return np.where(shown, moves_by_itself(own, least_px=FAR_PX), np.float32(-SURELY_MOVING))


def gone_far_on_device(luma: Tensor, anchor: Tensor, way: Tensor, fast: Tensor) -> Tensor:
    """gone_far of tensors, on their device; no synchronisation."""
    own = dominant_motion(way[None], inlier_px=INLIER_PX)[1][0]
    was = anchor[None, None].float()
    stood, came = (
        _means((luma - carried_maps(was, there[None])[0, 0].round()).abs())
        for there in (way - own.permute(1, 2, 0), way)
    )
    passed = F.max_pool2d(fast[None].float(), 2 * FAST_REACH_PX + 1, 1, FAST_REACH_PX)[0]
    shown = (came <= FITS * stood + NOISE_LEVELS) & (came < MATCHES_LEVELS)
    shown &= (stood >= CHANGED_LEVELS) & (passed == 0)
    return torch.where(shown, moving_odds(own[None], least_px=FAR_PX)[0], -SURELY_MOVING)


def _carried(values: Tensor, flow: Tensor) -> Tensor:
    """carry of [h, w, C] float32 by a flow [h, w, 2] px, on their device."""
    return carried_maps(values.permute(2, 0, 1)[None], flow[None])[0].permute(1, 2, 0)


def _means(difference: Tensor) -> Tensor:
    """Means around each pixel of [h, w] float32, to the level."""
    reach = WINDOW_PX // 2
    return F.avg_pool2d(F.pad(difference[None], (reach,) * 4, mode="reflect"), WINDOW_PX, 1)[0].round()


def _enlarged(odds: Any, size: tuple[int, ...]) -> Any:
    """A map of half the lines in all of them."""
    if isinstance(odds, Tensor):
        return F.interpolate(odds[None, None], size=size, mode="bilinear")[0, 0]
    return cv2.resize(odds, size[::-1], interpolation=cv2.INTER_LINEAR)


def _every_second(flow: np.ndarray) -> np.ndarray:
    """Of a flow [h, w, 2] float32 every second row and column; as pairs, in a third of the time."""
    return np.ascontiguousarray(_complex(flow)[::2, ::2]).view(np.float32).reshape(-(-flow.shape[0] // 2), -1, 2)


def _complex(flow: np.ndarray) -> np.ndarray:
    """A flow [h, w, 2] float32 as complex numbers, whose lengths take a fifth of cv2.magnitude's time."""
    return np.ascontiguousarray(flow).view(np.complex64)[..., 0]


def _larger(one: Any, other: Any) -> Any:
    return torch.maximum(one, other) if isinstance(one, Tensor) else np.maximum(one, other)
