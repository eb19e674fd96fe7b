"""What is asked of whatever tells where a film's objects are, from frame to frame: found, or given in a label track."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch

from streamstyle.look import Look, ObjectStyle
from streamstyle.objects.between import Followed
from streamstyle.objects.object_tracks import ObjectReport
from streamstyle.objects.segmenter import Segmentation
from streamstyle.objects.tracker import Tracker


class Following(Protocol):
    """What a SceneReader asks of what follows objects; ObjectTracks says more, of followed, too."""

    every: int
    left_out: int
    tracker: Tracker
    followed: Followed | None

    @property
    def untaken(self) -> Sequence[tuple[str, float]]:
        """Of clicks on no region that took nothing away: whose, and when in seconds; see ObjectTracks."""

    @property
    def replaced(self) -> Sequence[tuple[str, str, float]]:
        """Of places that were nearly all of another object: whose, the other's name, and when in seconds."""

    @property
    def motions_told(self) -> int | None:
        """How many of motions, from the first on, step wants on the host; None for all."""

    @property
    def pending(self) -> tuple[ObjectStyle, ...]:
        """Named objects whose moment has not come yet."""

    def is_due(self, number: int) -> bool:
        """Whether a frame will be looked at in any case, whatever the frames before it show."""

    def wants(self, index: int, shot: int, time_s: float) -> bool:
        """Whether the next frame must be looked at."""

    def motions(self, lumas: torch.Tensor, part: slice = slice(None)) -> tuple[torch.Tensor, ...]:
        """What step may be given of a batch's motion, found on the device; nothing where step does without."""

    def step(
        self,
        luma: np.ndarray,
        found: Segmentation | None,
        shot: int,
        index: int,
        time_s: float,
        size: tuple[int, int],
        motion: Sequence[Any] = (),
    ) -> np.ndarray:
        """Advance by one frame: its map of slots, [h, w] int32."""

    def lost(self) -> list[tuple[str, int]]:
        """Named objects that were gone before the film was, and the last frame of each."""

    def report(self) -> list[ObjectReport]:
        """Every object so far."""

    def state_dict(self) -> dict[str, Any]:
        """Everything later frames depend on; see load_state_dict."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as what this is the state_dict of."""


class Given(Following, Protocol):
    """What knows where objects are without being shown regions."""

    def restart(self, look: Look) -> None:
        """Forget the film so far; from now on this Look."""
