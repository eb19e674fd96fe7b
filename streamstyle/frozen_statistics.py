"""When each style's frozen statistics are recorded, and again recorded: at the start, at a cut, when the light changes.

A film is watched on a small luma picture a frame. A cut takes a new reference frame at once; a slow change of light
takes one too, and the old statistics fade into the new over FADE_FRAMES, so that nothing jumps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from streamstyle.stages.stylize_regions import Affine

CUT_DISTANCE = 0.45
"""Share of histogram mass that must move, from one frame to the next, for a cut ..."""
CUT_DIFFERENCE = 28.0
"""... together with this mean absolute difference of the pictures, in luma levels."""
DRIFT_LEVELS = 18.0
"""Change of mean or spread of luma from the reference frame's, in levels, that asks for a new reference."""
FLAT_LEVELS = 6.0
"""Spread of luma below which a frame is too flat (black, a fade) to be a reference for long."""
FADE_FRAMES = 24


class CutDetector:
    """Tells cuts from small luma pictures, [h, w] uint8, one a frame."""

    def __init__(self) -> None:
        self._previous: tuple[np.ndarray, np.ndarray] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Everything later frames depend on; see load_state_dict."""
        return {"previous": self._previous}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as the detector whose state_dict this is."""
        self._previous = None if state["previous"] is None else (state["previous"][0], state["previous"][1])

    def step(self, luma: np.ndarray) -> bool:
        """True if luma starts a new shot (the first frame does not)."""
        histogram = np.bincount(luma.ravel() >> 4, minlength=16) / max(1, luma.size)
        previous, self._previous = self._previous, (luma, histogram)
        if previous is None or previous[0].shape != luma.shape:
            return False
        moved = 0.5 * float(np.abs(histogram - previous[1]).sum())
        if moved < CUT_DISTANCE / 3:
            return False
        difference = float(np.abs(luma.astype(np.int16) - previous[0]).mean())
        return difference > 2 * CUT_DIFFERENCE or (moved > CUT_DISTANCE and difference > CUT_DIFFERENCE)


class FrozenStatistics:
    """The affine maps of the styles worn, as of now."""

    def __init__(self) -> None:
        self._reference: tuple[float, float] | None = None
        self._old: list[Affine] = []
        self._new: list[Affine] = []
        self._age = 0
        self.version = 0

    def state_dict(self) -> dict[str, Any]:
        """Everything later frames depend on, as NumPy arrays; see load_state_dict."""

        def arrays(styles: list[Affine]) -> list[Any]:
            return [[[part.cpu().numpy() for part in layer] for layer in style] for style in styles]

        old = None if self._old is self._new else arrays(self._old)
        return {
            "reference": self._reference,
            "old": old,
            "new": arrays(self._new),
            "age": self._age,
            "version": self.version,
        }

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Go on, on a device, as the statistics whose state_dict this is."""

        def affine(style: Any) -> Affine:
            return tuple((torch.from_numpy(a).to(device), torch.from_numpy(b).to(device)) for a, b in style)

        reference = state["reference"]
        self._reference = None if reference is None else (reference[0], reference[1])
        self._new = [affine(style) for style in state["new"]]
        self._old = self._new if state["old"] is None else [affine(style) for style in state["old"]]
        self._age, self.version = state["age"], state["version"]

    def step(self, luma: np.ndarray, cut: bool, record: Callable[[], list[Affine]]) -> list[Affine]:
        """Affine maps for this frame; ``version`` changes when they do.

        Args:
            luma: [h, w] uint8 small picture of the frame.
            cut: whether a new shot starts here.
            record: makes every style's map from this frame, called only when a new reference is due.
        """
        light = (float(luma.mean()), float(luma.std()))
        if self._reference is None or cut or self._reference[1] < FLAT_LEVELS <= light[1]:
            self._new = self._old = record()
            self._reference, self._age = light, FADE_FRAMES
            self.version += 1
            return self._new
        if (
            self._age >= FADE_FRAMES
            and max(abs(a - b) for a, b in zip(light, self._reference, strict=True)) > DRIFT_LEVELS
        ):
            if light[1] < FLAT_LEVELS:
                return self._new  # fading to black: keep what there is
            self._old, self._new = self._new, record()
            self._reference, self._age = light, 0
        if self._age >= FADE_FRAMES:
            return self._new
        self._age += 1
        self.version += 1
        if self._age == FADE_FRAMES:  # not by arithmetic: what comes after must not differ from it in a bit
            self._old = self._new
            return self._new
        return [_between(a, b, self._age / FADE_FRAMES) for a, b in zip(self._old, self._new, strict=True)]


def _between(old: Affine, new: Affine, share: float) -> Affine:
    """Statistics between two recordings; layer by layer and channel by channel."""
    return tuple((a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1])) for a, b in zip(old, new, strict=True))
