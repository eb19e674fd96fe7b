"""AppearanceTracks that know named objects again in a new shot: one that is missing is sought among what moves there.

::

    a shot begins ─► is somebody missing whose look is remembered? ─► SEARCH_LOOKS analysed frames:
                                                                      FOUND's pieces ─► Recall.known ─► the piece is it
    places a person gives of this shot ─► win over it; and teach Recall

Where what has no name is not asked for, a scout finds it: tracks of its own, of which nothing is shown. With foresight
FOUND is known in a shot's first frame, and then so is who it is.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from streamstyle.look import ObjectStyle
from streamstyle.objects.appearance_tracks import EAGER_FRAMES, AppearanceTracks
from streamstyle.objects.object_tracks import Moment
from streamstyle.objects.recall import SEARCH_LOOKS, Recall, pieces_of
from streamstyle.objects.reentry import WHOLE_SHARE
from streamstyle.objects.segmenter import Segmentation, Segmenter
from streamstyle.objects.weighing import FOUND


class RecallingTracks(AppearanceTracks):
    """Named objects, and what moves by itself; named ones are known again in new shots.

    State between frames: AppearanceTracks', the looks of named objects, and the scout of a shot that has one.

    Args:
        segmenter: must give features.
        objects: what the person named.
        every: look in every Nth frame.
        find: whether to find what is not named.
        doubts: whether to look in others, too; see AppearanceTracks.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        objects: tuple[ObjectStyle, ...],
        every: int,
        *,
        find: bool,
        doubts: bool = False,
    ) -> None:
        self._recall = Recall(segmenter.device)
        super().__init__(segmenter, objects, every, find=find, doubts=doubts)

    def _begin(self) -> None:
        super()._begin()
        self._search = SEARCH_LOOKS
        self._scout: AppearanceTracks | None = None
        self._given, self._recalled = set[str](), set[str]()

    def foresees(self, shot: int) -> bool:
        """As AppearanceTracks says; also where somebody may be known again."""
        new = shot != self._shot and shot not in self._left
        return new and (self._find or bool(self._recall.names))

    def _start(self, moment: Moment) -> None:
        foreseen, self._foreseen = self._foreseen, self._foreseen if self._find else None
        super()._start(moment)
        if self._recall.names and not self._find:
            self._eager = EAGER_FRAMES
            self._scout = AppearanceTracks(self.segmenter, (), self.every, find=True)
            self._scout._foreseen = foreseen

    def _advance(self, moment: Moment) -> np.ndarray:
        slots = super()._advance(moment)
        if moment.found is None:
            self._send_scout(moment)
            return slots
        there = self._there()
        for name in there:  # in their order: of a set of names each process has another
            if name not in self._given:
                continue
            mask, track = slots == there[name], self.tracker.tracks[there[name]]
            if self._shot is not None and mask.sum() > WHOLE_SHARE * track.usual_area_px:
                self._recall.learn(name, self._shot, mask, moment.found.features, moment.found.picture)
        return slots

    def _take_places(self, moment: Moment, found: Segmentation) -> None:
        super()._take_places(moment, found)
        if self._search:
            self._search -= 1
            self._send_scout(moment)
            self._know_again(moment, found)
        if not self._search or not self._recall.names - set(self._there()):
            self._scout = None

    def _send_scout(self, moment: Moment) -> None:
        if self._scout is not None:
            self._scout._slots = self._scout._advance(replace(moment, starts=self._scout._slots is None))

    def _know_again(self, moment: Moment, found: Segmentation) -> None:
        """Who is missing and clearly one of the pieces of what moves by itself becomes that."""
        missing = self._recall.names - set(self._there())
        finder = self if self._find else self._scout
        if finder is None or not missing:
            return
        assert finder._shares is not None
        assert self._shares is not None
        named = [share for slot, share in zip(self._members, self._shares, strict=True) if slot != FOUND]
        moving = finder._shares[finder._members.index(FOUND)] > 0.5
        pieces = pieces_of((moving & (sum(named) <= 0.5) if named else moving).cpu().numpy())
        known = self._recall.known(missing, pieces, found.features, found.picture)
        for name, k in known.items():
            self._recalled.add(name)
            self._give(name, pieces[k], moment.index)

    def _say(self, thing: ObjectStyle, place: np.ndarray, index: int) -> None:
        """A person's word wins: what was known again elsewhere is let go."""
        slot = self._there().get(thing.name)
        if slot is not None and thing.name in self._recalled and not thing.remove:
            assert self._shares is not None
            share = self._shares[self._members.index(slot)]
            if not (share[torch.from_numpy(place).to(share.device)] > 0.5).any():
                share.zero_()
            self._recalled.discard(thing.name)
        if thing.remove and self._shot is not None:
            self._recall.forget(thing.name, self._shot)
        super()._say(thing, place, index)
        if not thing.remove:
            self._given.add(thing.name)

    def _shot_state(self) -> dict[str, Any]:
        own = {"search": self._search, "given": sorted(self._given), "recalled": sorted(self._recalled)}
        scout = None if self._scout is None else self._scout.state_dict()
        return super()._shot_state() | own | {"scout": scout}

    def _take_up(self, state: dict[str, Any]) -> None:
        super()._take_up(state)
        self._search, self._scout = state["search"], None
        self._given, self._recalled = set(state["given"]), set(state["recalled"])
        if state["scout"] is not None:
            self._scout = AppearanceTracks(self.segmenter, (), self.every, find=True)
            self._scout.load_state_dict(state["scout"])

    def state_dict(self) -> dict[str, Any]:
        """Everything later frames depend on; see load_state_dict."""
        return super().state_dict() | {"recall": self._recall.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as the tracks, of the same objects, whose state_dict this is."""
        super().load_state_dict(state)
        self._recall.load_state_dict(state["recall"])
