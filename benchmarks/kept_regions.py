"""Regions found once: runs that differ in what comes after them alone share HED, the most of their time.

A picture is known by its bytes, so it does not matter who asks, in which order, or for what.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from streamstyle import preview
from streamstyle.config import AnalysisOptions
from streamstyle.objects.segmenter import Segmentation, Segmenter
from streamstyle.tracks import film_objects


class KeptSegmenter:
    """A Segmenter that keeps what it found: 20 MB a picture of 427x240, HED's features the most of it."""

    def __init__(self, own: Segmenter) -> None:
        self.options, self.device, self._own = own.options, own.device, own
        self._found: dict[tuple[bytes, torch.Size], Segmentation] = {}

    def __call__(self, rgb: Tensor) -> list[Segmentation]:
        """As Segmenter says."""
        return [self._of(picture) for picture in rgb]

    def _of(self, picture: Tensor) -> Segmentation:
        key = hashlib.blake2b(picture.cpu().numpy().tobytes()).digest(), picture.shape
        if key not in self._found:
            (self._found[key],) = self._own(picture[None])
        return self._found[key]


@contextlib.contextmanager
def kept_regions() -> Iterator[None]:
    """For a while, regions are kept, for each way to find them; they are forgotten at the end."""
    made: dict[tuple[AnalysisOptions, bool], KeptSegmenter] = {}

    def segmenter(options: AnalysisOptions, device: torch.device, *, features: bool = False) -> KeptSegmenter:
        features = features or options.segmenter == "regions"  # who asks for none finds the same regions
        key = replace(options, analyse_every="auto", tracker="appearance"), features
        if key not in made:
            made[key] = KeptSegmenter(Segmenter(options, device, features=features))
        return made[key]

    with patched({(film_objects, "Segmenter"): segmenter, (preview, "Segmenter"): segmenter}):
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
