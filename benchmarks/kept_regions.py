"""Regions and motion found once: runs that differ in what comes after alone share them, the most of their time.

A picture is known by its bytes, so it does not matter who asks, in which order, or for what.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from streamstyle import preview
from streamstyle.config import AnalysisOptions
from streamstyle.objects import appearance, appearance_tracks
from streamstyle.objects.evidence import own_motion
from streamstyle.objects.segmenter import Segmentation, Segmenter
from streamstyle.stages import optical_flow
from streamstyle.stages.optical_flow import OpticalFlow
from streamstyle.tracks import film_objects


class KeptSegmenter:
    """A Segmenter that keeps what it found: of a picture of 427x240 4 MB, 12 where HED counts in floats."""

    def __init__(self, own: Segmenter) -> None:
        self.options, self.device, self._own = own.options, own.device, own
        self._found: dict[tuple[bytes, torch.Size], Segmentation] = {}

    def __call__(self, rgb: Tensor) -> list[Segmentation]:
        """As Segmenter says."""
        return [self._of(picture) for picture in rgb]

    def _of(self, picture: Tensor) -> Segmentation:
        key = digest(picture.cpu().numpy()), picture.shape
        if key not in self._found:
            (self._found[key],) = self._own(picture[None])
        return self._found[key]


def digest(pixels: np.ndarray) -> bytes:
    """What a picture is known by."""
    return hashlib.blake2b(pixels.tobytes()).digest()


class KeptMotion:
    """Careful flows, and the motion beside the camera's of each, that were found before."""

    def __init__(self) -> None:
        self._flows: dict[Any, dict[tuple[bytes, bytes], np.ndarray | None]] = {}  # by how they are searched for
        self._own: dict[bytes, np.ndarray] = {}

    def flow(self, *, careful_px: int | None = None) -> OpticalFlow:
        """In the place of OpticalFlow."""
        carrying = (optical_flow.CARRYING_PX, optical_flow.CARRYING_STEPS, optical_flow.CARRYING_ROUNDS)
        kept = self._flows

        class KeptFlow(OpticalFlow):
            def step(self, luma: np.ndarray, *, to_carry: bool = False) -> np.ndarray | None:
                if self.previous is None:
                    return super().step(luma)
                flows = kept.setdefault(carrying if to_carry and careful_px is not None else careful_px, {})
                key = digest(self.previous), digest(luma)
                if key not in flows:
                    flows[key] = super().step(luma, to_carry=to_carry)
                self.previous = luma
                return flows[key]

        return KeptFlow(careful_px=careful_px)

    def own_motion(self, flow: np.ndarray) -> np.ndarray:
        """In the place of evidence's."""
        key = digest(flow)
        if key not in self._own:
            self._own[key] = own_motion(flow)
        return self._own[key]


@contextlib.contextmanager
def kept_regions() -> Iterator[None]:
    """For a while, regions are kept, for each way to find them, and motions; they are forgotten at the end."""
    made: dict[tuple[Any, ...], KeptSegmenter] = {}

    def segmenter(options: AnalysisOptions, device: torch.device, *, features: bool = False) -> KeptSegmenter:
        features = features or options.segmenter == "regions"  # who asks for none finds the same regions
        key = replace(options, analyse_every="auto", tracker="appearance"), features, appearance.LOOK_LAYERS
        if key not in made:
            made[key] = KeptSegmenter(Segmenter(options, device, features=features))
        return made[key]

    motion = KeptMotion()
    kept = {
        (film_objects, "Segmenter"): segmenter,
        (preview, "Segmenter"): segmenter,
        (appearance_tracks, "weighs"): lambda _: False,  # what is kept is the host's, and choices are its parts
        (appearance_tracks, "OpticalFlow"): motion.flow,
        (appearance_tracks, "own_motion"): motion.own_motion,
    }
    with patched(kept):
        yield


@contextlib.contextmanager
def patched(constants: dict[tuple[Any, str], Any]) -> Iterator[None]:
    """Other values of constants of modules and classes, for a while."""
    before = {(module, name): getattr(module, name) for module, name in constants}
    for (module, name), value in constants.items():
        setattr(module, name, value)
    try:
        yield
    finally:
        for (module, name), value in before.items():
            setattr(module, name, value)
