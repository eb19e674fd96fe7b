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

from collections.abc import Sequence
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
from streamstyle.stages.optical_flow import carry, lengths

CAMERA_PX = (0.5, 1.0)
"""A camera is at rest if most of the picture moves by no more than the first a frame (of 240 lines), now and in the
mean of the frames before, and is not from the second on. In each of eight DAVIS sequences, whose cameras chase, nine
frames of ten have 1.2 px and more, and half of them 4 to 21; of eleven other clips six have .2 or less in half of the
frames, and one has more than .9."""
CAMERA_RATE = 0.1
"""Of a frame, in the mean that says how far the camera moves."""
CAMERA_WAY_PX = (2.0, 4.0)
"""Likewise, since the anchor: what is told of near things grows with that."""
LONG_FRAMES, MOST_FRAMES = 8, 16
"""Frames after which one asks how far everything went, in the next that is looked at: the answer is held, carried
along, until the next one. After more than the second nobody asks: the anchor is too far away."""
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
CHANGED_TIMES, CHANGED_LEVELS, MATCHES_LEVELS = 2.0, 0.5, 20.0
"""Where something moved the picture differs from what stood there by more than noise does, which is as much as it
differs by at most places: by so many times that, and so many levels of 255 more. From where it came from it differs by
less than the last. On even ground flow follows a film's grain, and into black bars what moves beside them: without
this a white table in a photograph with grain of 3 levels is found."""
FITS = 0.5
"""Beyond noise what went somewhere differs from where it came from by such a share of how it differs from what stood
here, at most."""
SEEN_TIMES = 2.5
"""What is seen moving before a camera at rest, where the picture changed, counts so many times. At 1 a body that stood
still before, and was taken for the ground, is hardly found; the more, the more ground comes with it. In five clips in
which bodies move little (15 frames, outlined by hand) J of what is found unasked is .33 without slow motion and .44
with it, .30 and .42 where every frame is looked at; before grain was asked for .48 at 2, .51 at 3."""
MOST_COPIES = 2
"""Of a film that shows each picture three times. Who stands still for longer is not seen moving."""


class SlowMotion:
    """Of one shot, frame by frame.

    Args:
        device: where tensors are kept; None: arrays are, on the host.
    """

    def __init__(self, device: torch.device | None) -> None:
        self._device = device
        self.reset()

    def reset(self) -> None:
        """A shot begins."""
        self._camera_px: float | None = None
        self._changed: np.ndarray | None = None
        self.drop()

    def drop(self) -> None:
        """There is no anchor, and nobody knows what moved before; how far the camera moves is known."""
        self._anchor: np.ndarray | None = None
        self._way: Any = None
        self._fast: Any = None
        self._far: Any = None
        self._frames = 0

    def step(
        self, motion: Motion, lumas: Sequence[Any], *, looked_at: bool, copies: int = 0, eager: bool = False
    ) -> Motion:
        """Take in a frame.

        Args:
            motion: the frame's, arrays or tensors; with own if it is looked at.
            lumas: [h, w] uint8 on the host, of the frame before and of this one; the first is None where motion has no
                flow.
            looked_at: whether it is.
            copies: how often the frame before was shown again by now: that is not counted, and moves as it did.
            eager: whether anybody may still be found: then what is seen counts as it does elsewhere, or what moves most
                would be all that is learned.

        Returns:
            The motion; with moving, of what is seen in the frame and what it shows of the frames before it, if the
            frame is looked at and the camera at rest.

        Cost: of 427x240 on one core .1 ms; before a camera at rest 1 to 2 ms, and 5 to 8 ms more every LONG_FRAMES.
        """
        before, luma = lumas
        if motion.flow is None:
            self.reset()
            self._anchor = halved(luma)
            return motion
        rest = self._rest(motion, min(luma.shape) / 240, is_copy=copies > 0)
        if rest == 0:
            self.drop()
            self._changed = None
            return motion
        here = halved(luma)
        if not copies:
            self._changed = changed(here, halved(before))
        if self._anchor is not None:
            self._follow(self._here(motion.flow), self._here(motion.steady), counts=not copies)
        if self._frames > MOST_FRAMES:
            self.drop()
        seen = motion
        if looked_at and motion.own is not None:
            moving = self._moving(motion)
            if self._frames >= LONG_FRAMES:
                far = self._gone_far(here)
                self.drop()
                self._far = far
            if self._far is not None:
                moving = _larger(moving, _enlarged(self._far, luma.shape) - 2 * SURELY_MOVING * (1 - rest))
            if not eager and copies <= MOST_COPIES and self._changed is not None:
                times = 1 + rest * (SEEN_TIMES - 1) * _enlarged(self._here(self._changed), luma.shape)
                moving = _larger(moving, moving * times)
            seen = replace(motion, moving=moving)
        if self._anchor is None:
            self._anchor = here
        return seen

    def _rest(self, motion: Motion, scale: float, *, is_copy: bool) -> float:
        """How far the camera is at rest, 0..1: it sets off at once, and comes to rest in the mean."""
        usual_px = (usual_motion_px(motion.flow) if motion.usual_px is None else motion.usual_px) / scale
        earlier = usual_px if self._camera_px is None else self._camera_px
        if not is_copy:
            self._camera_px = earlier + CAMERA_RATE * (usual_px - earlier)
        return _below(max(usual_px, self._camera_px or 0.0), CAMERA_PX)

    def _moving(self, motion: Motion) -> Any:
        """Log-odds that each pixel moves by itself, of the frame alone."""
        if motion.moving is not None:
            return self._here(motion.moving)
        return moves_by_itself(motion.own) if self._device is None else moving_odds(self._here(motion.own)[None])[0]

    def _here(self, part: Any) -> Any:
        """Where maps are kept: the motion of who comes back to a shot was found on the host."""
        if self._device is None or not isinstance(part, np.ndarray):
            return part
        return to_device(torch.from_numpy(np.ascontiguousarray(part)), self._device)

    def _follow(self, flow: Any, steady: Any, *, counts: bool) -> None:
        """Go on by a flow [h, w, 2] px from the anchor; steady: trust in it, [h, w]; None where nobody asks."""
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
        if far is not None:  # what was there is not there any more
            left = 1 - fast.float() if isinstance(fast, Tensor) else 1 - fast.astype(np.float32)
            left = left if steady is None else left * steady[::2, ::2]
            far = (far + SURELY_MOVING) * left - SURELY_MOVING
        self._way, self._fast = way, fast if self._fast is None else self._fast | fast
        self._far, self._frames = far, self._frames + counts

    def _gone_far(self, luma: np.ndarray) -> Any:
        """Log-odds [h, w] that each pixel moved by itself since the anchor."""
        assert self._anchor is not None
        if isinstance(self._way, Tensor):
            anchor, here = (self._here(picture) for picture in (self._anchor, luma))
            return gone_far_on_device(here, anchor, self._way, self._fast)
        return gone_far(luma, self._anchor, self._way, self._fast)

    def state_dict(self) -> dict[str, Any]:
        """Everything later frames depend on; see load_state_dict. Synchronises where maps are kept on a device."""
        parts = {"way": self._way, "fast": self._fast, "far": self._far}
        held = {name: part.cpu().numpy() if isinstance(part, Tensor) else part for name, part in parts.items()}
        held["changed"] = self._changed
        return held | {"camera_px": self._camera_px, "anchor": self._anchor, "frames": self._frames}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as the one whose state_dict this is."""
        self._camera_px, self._anchor, self._frames = state["camera_px"], state["anchor"], state["frames"]
        self._changed = state["changed"]
        way, fast, far = (self._here(state[name]) for name in ("way", "fast", "far"))
        self._way, self._fast, self._far = way, fast, far


def usual_motion_px(flow: np.ndarray) -> float:
    """How far most of a picture moves, in px, of a flow [h, w, 2]: the lower median, of every 64th pixel."""
    return _lower_median(lengths(flow[::8, ::8]))


def usual_motions_px(flows: Tensor) -> Tensor:
    """usual_motion_px of flows [M, h, w, 2] at once, [M] float32 on their device; no synchronisation."""
    return torch.linalg.vector_norm(flows[:, ::8, ::8], dim=3).flatten(1).median(1).values


def halved(luma: np.ndarray) -> np.ndarray:
    """A picture [h, w] uint8 in half its lines."""
    return cv2.resize(luma, (-(-luma.shape[1] // 2), -(-luma.shape[0] // 2)), interpolation=cv2.INTER_AREA)


def changed(luma: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Where pictures [h, w] uint8 differ by more than noise, [h, w] float32 of 0 and 1."""
    apart = _apart(luma, before)
    return (apart >= CHANGED_TIMES * _lower_median(apart[::4, ::4]) + CHANGED_LEVELS).astype(np.float32)


def gone_far(luma: np.ndarray, anchor: np.ndarray, way: np.ndarray, fast: np.ndarray) -> np.ndarray:
    """Log-odds that pixels moved by themselves since an earlier frame, no more than what the pictures show.

    All of one size, of at least two pixels each way, in pixels of which motion is.

    Args:
        luma, anchor: [h, w] uint8, of this frame and of the earlier one.
        way: [h, w, 2] float32 px, from this frame to that.
        fast: [h, w] bool, where something went too fast meanwhile.

    Returns:
        [h, w] float32, SURELY_MOVING at most.
    """
    own = dominant_motion(torch.from_numpy(way)[None], inlier_px=INLIER_PX)[1][0].numpy()
    camera = np.ascontiguousarray(way - own.transpose(1, 2, 0))
    stood, came = (_apart(luma, carry(anchor, there)) for there in (camera, way))
    passed = cv2.dilate(fast.view(np.uint8), np.ones((2 * FAST_REACH_PX + 1,) * 2, np.uint8))
    noise = _lower_median(stood[::4, ::4])
    shown = (came <= noise + FITS * (stood - noise)) & (came < MATCHES_LEVELS)
    shown &= (stood >= CHANGED_TIMES * noise + CHANGED_LEVELS) & (passed == 0)
    odds = np.where(shown, moves_by_itself(own, least_px=FAR_PX), np.float32(-SURELY_MOVING))
    camera_px = usual_motion_px(camera) * 240 / min(luma.shape)
    return odds - np.float32(2 * SURELY_MOVING * (1 - _below(camera_px, CAMERA_WAY_PX)))


def gone_far_on_device(luma: Tensor, anchor: Tensor, way: Tensor, fast: Tensor) -> Tensor:
    """gone_far of tensors, on their device; no synchronisation."""
    own = dominant_motion(way[None], inlier_px=INLIER_PX)[1][0]
    was, camera = anchor[None, None].float(), way - own.permute(1, 2, 0)
    stood, came = (_means((luma - carried_maps(was, there[None])[0, 0].round()).abs()) for there in (camera, way))
    passed = F.max_pool2d(fast[None].float(), 2 * FAST_REACH_PX + 1, 1, FAST_REACH_PX)[0]
    noise = stood[::4, ::4].flatten().median()
    shown = (came <= noise + FITS * (stood - noise)) & (came < MATCHES_LEVELS)
    shown &= (stood >= CHANGED_TIMES * noise + CHANGED_LEVELS) & (passed == 0)
    odds = torch.where(shown, moving_odds(own[None], least_px=FAR_PX)[0], -SURELY_MOVING)
    camera_px = usual_motions_px(camera[None]) * 240 / min(luma.shape)
    least, most = CAMERA_WAY_PX
    return odds - 2 * SURELY_MOVING * (1 - ((most - camera_px) / (most - least)).clamp(0, 1))


def _carried(values: Tensor, flow: Tensor) -> Tensor:
    """carry of [h, w, C] float32 by a flow [h, w, 2] px, on their device."""
    return carried_maps(values.permute(2, 0, 1)[None], flow[None])[0].permute(1, 2, 0)


def _means(difference: Tensor) -> Tensor:
    """Means around each pixel of [h, w] float32."""
    reach = WINDOW_PX // 2
    return F.avg_pool2d(F.pad(difference[None], (reach,) * 4, mode="reflect"), WINDOW_PX, 1)[0]


def _enlarged(odds: Any, size: tuple[int, ...]) -> Any:
    """A map of half the lines in all of them."""
    if isinstance(odds, Tensor):
        return F.interpolate(odds[None, None], size=size, mode="bilinear")[0, 0]
    return cv2.resize(odds, size[::-1], interpolation=cv2.INTER_LINEAR)


def _every_second(flow: np.ndarray) -> np.ndarray:
    """Of a flow [h, w, 2] float32 every second row and column; as pairs, in a third of the time."""
    pairs = np.ascontiguousarray(flow).view(np.complex64)[::2, ::2]
    return np.ascontiguousarray(pairs).view(np.float32)


def _apart(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """How far pictures [h, w] uint8 differ, in the mean around each pixel, float32."""
    return cv2.blur(cv2.absdiff(one, other).astype(np.float32), (WINDOW_PX, WINDOW_PX))


def _lower_median(values: np.ndarray) -> float:
    """As torch's: of an even count the lower of the two in the middle."""
    middle = (values.size - 1) // 2
    return float(np.partition(values, middle, axis=None)[middle])


def _below(px: float, least_and_most: tuple[float, float]) -> float:
    """1 up to the first, 0 from the second on, between them between."""
    least, most = least_and_most
    return float(np.clip((most - px) / (most - least), 0, 1))


def _larger(one: Any, other: Any) -> Any:
    return torch.maximum(one, other) if isinstance(one, Tensor) else np.maximum(one, other)
