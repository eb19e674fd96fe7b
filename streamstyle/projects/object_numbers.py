"""Numbers for the objects of a film that is kept as a project."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamstyle.media.masks import object_name
from streamstyle.objects.tracker import Tracker


class ObjectNumbers:
    """A label for each object that is met, for good; one for each name, and for each track without one.

    Attributes:
        names: each label's name.
        wore: the name by which it finds its style in the Look; None for what is not named.
    """

    def __init__(self) -> None:
        self.names: dict[int, str] = {}
        self.wore: dict[int, str | None] = {}
        self._labels: dict[str | int, int] = {}

    def table(self, tracker: Tracker) -> np.ndarray:
        """Slot -> label, int32; what is not confirmed as an object is background."""
        table = np.zeros(tracker.slots, np.int32)
        for slot, track in tracker.tracks.items():
            if slot and (track.confirmed or track.name):
                table[slot] = self._label(track.name, track.track_id)
        return table

    def name_of_track(self, track_id: int) -> str | None:
        """What a track without a name is called, if it was ever met."""
        return self.names.get(self._labels.get(track_id, 0))

    def state_dict(self) -> dict[str, Any]:
        """All numbers given, as plain values; see load_state_dict."""
        return {"objects": [[key, label, self.names[label], self.wore[label]] for key, label in self._labels.items()]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as the numbers whose state_dict this is."""
        for known in (self._labels, self.names, self.wore):
            known.clear()
        for key, label, name, wore in state["objects"]:
            self._labels[key], self.names[label], self.wore[label] = label, name, wore

    def _label(self, name: str | None, track_id: int) -> int:
        key = name or track_id
        if key not in self._labels:
            label = len(self.names) + 1
            self._labels[key] = label
            self.names[label] = name or object_name(label)
            self.wore[label] = name
        return self._labels[key]
