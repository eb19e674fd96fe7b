"""When each style's frozen statistics are recorded, and again recorded: as a shot begins, and when the light changes.

A film is watched on a small luma picture a frame. A new shot takes a new reference frame at once; a slow change of
light takes one too, and the old statistics fade into the new over FADE_FRAMES, so that nothing jumps. A shot that the
film comes back to wears what it wore.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from streamstyle.shots import ShotMemory
from streamstyle.stages.stylize_regions import Affine

DRIFT_LEVELS = 18.0
"""Change of mean or spread of luma from the reference frame's, in levels, that asks for a new reference."""
FLAT_LEVELS = 6.0
"""Spread of luma below which a frame is too flat (black, a fade) to be a reference for long."""
FADE_FRAMES = 24


@dataclass
class Recording:
    """What a shot wears.

    Attributes:
        reference: mean and spread of the luma of the frame it was recorded from.
        old: maps that fade; new: into these.
        age: frames since the fade began, FADE_FRAMES at most.
    """

    reference: tuple[float, float]
    old: Sequence[Affine]
    new: Sequence[Affine]
    age: int = FADE_FRAMES

    def state_dict(self) -> dict[str, Any]:
        """All of it, as NumPy arrays."""

        def arrays(styles: Sequence[Affine]) -> list[Any]:
            return [[[part.cpu().numpy() for part in layer] for layer in style] for style in styles]

        old = None if self.old is self.new else arrays(self.old)
        return {"reference": self.reference, "old": old, "new": arrays(self.new), "age": self.age}

    @classmethod
    def of_state(cls, state: dict[str, Any], device: torch.device) -> Recording:
        """The recording, on a device, whose state_dict this is."""

        def affine(style: Any) -> Affine:
            return tuple(tuple(torch.from_numpy(part).to(device) for part in layer) for layer in style)

        new = [affine(style) for style in state["new"]]
        old = new if state["old"] is None else [affine(style) for style in state["old"]]
        return cls((state["reference"][0], state["reference"][1]), old, new, state["age"])


def light_of(luma: np.ndarray) -> tuple[float, float]:
    """What statistics know of a frame: mean and spread of its small luma picture [h, w] uint8."""
    return float(luma.mean()), float(luma.std())


class FrozenStatistics:
    """The affine maps of the styles worn, as of now."""

    def __init__(self) -> None:
        self._shot: int | None = None
        self._now: Recording | None = None
        self._left = ShotMemory[Recording]()
        self.version = 0

    def state_dict(self) -> dict[str, Any]:
        """Everything later frames depend on, as NumPy arrays; see load_state_dict."""
        return {
            "shot": self._shot,
            "now": None if self._now is None else self._now.state_dict(),
            "left": [(shot, recording.state_dict()) for shot, recording in self._left.items()],
            "version": self.version,
        }

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Go on, on a device, as the statistics whose state_dict this is."""
        self._shot, self.version = state["shot"], state["version"]
        self._now = None if state["now"] is None else Recording.of_state(state["now"], device)
        self._left = ShotMemory((shot, Recording.of_state(known, device)) for shot, known in state["left"])

    def step(self, luma: np.ndarray, shot: int, record: Callable[[], Sequence[Affine]]) -> Sequence[Affine]:
        """Affine maps for this frame; ``version`` changes when they do.

        Args:
            luma: [h, w] uint8 small picture of the frame.
            shot: the number of the shot it is of; see ShotDetector.
            record: makes every style's map from this frame, called only when a new reference is due.
        """
        return self.step_light(light_of(luma), shot, record)

    def step_light(
        self, light: tuple[float, float], shot: int, record: Callable[[], Sequence[Affine]]
    ) -> Sequence[Affine]:
        """The same, of a frame of which only the light is known; see light_of."""
        if shot != self._shot:
            self._turn(shot)
        now = self._now
        if now is None or now.reference[1] < FLAT_LEVELS <= light[1]:
            new = record()
            self._now = Recording(light, new, new)
            self.version += 1
            return new
        if now.age >= FADE_FRAMES and max(abs(a - b) for a, b in zip(light, now.reference, strict=True)) > DRIFT_LEVELS:
            if light[1] < FLAT_LEVELS:
                return now.new  # fading to black: keep what there is
            now = self._now = Recording(light, now.new, record(), 0)
        if now.age >= FADE_FRAMES:
            return now.new
        now.age += 1
        self.version += 1
        if now.age == FADE_FRAMES:  # not by arithmetic: what comes after must not differ from it in a bit
            now.old = now.new
            return now.new
        return [_between(a, b, now.age / FADE_FRAMES) for a, b in zip(now.old, now.new, strict=True)]

    def _turn(self, shot: int) -> None:
        """Leave a shot for another: one that is remembered wears what it wore."""
        known = self._left.take(shot)
        if self._shot is not None and self._now is not None:
            self._left.keep(self._shot, self._now)
        self._shot, self._now = shot, known
        self.version += known is not None


def _between(old: Affine, new: Affine, share: float) -> Affine:
    """Statistics between two recordings; layer by layer and channel by channel."""
    return tuple(
        tuple(a + share * (b - a) for a, b in zip(*layers, strict=True)) for layers in zip(old, new, strict=True)
    )
