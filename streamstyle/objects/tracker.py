"""Which region of this frame is which object of the film: overlap counts in, track ids out. NumPy only.

A *slot* is the small integer a track has in the label map while it lives; slot 0 is the background for ever. A
*track_id* names it in reports and is never another's. Per analysed frame the caller counts how many pixels each
region shares with each slot of the map carried over from the frame before, and gets back a table: the new slot of a
pixel that lies in region r and was carried as slot s is ``table[r, s]``. Pixels never pass through here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from streamstyle.shots import ShotMemory

BACKGROUND = 0
SNAP_SHARE = 0.6
"""A region wholly takes a track that covers at least this share of it; below, its pixels keep what they carried."""
HOLD_SHARE = 0.3
"""A track with at least this share of itself in a region is not swallowed by it (a leak through a weak edge)."""
HEIR_SHARE = 0.5
"""A region that holds at least this share of the old background is background, though another area is larger now."""
SHED_SHARE = 0.1
"""A region that no track covers wholly is shared by those that cover at least this much of it; a small part of a track
there goes to the one of them whose colour it has. So a stain an object left behind heals."""
SHED_MARGIN = 8.0
"""How much nearer (in levels of 255, RGB) the other track's colour must be."""
COLOR_RATE = 0.1
"""How fast a track's colour follows its pixels."""
MOST_ENDED = 1000
"""Ended tracks kept for the report: all that have a name, and of the rest the largest; others are only counted."""
RECENT_FALL = 0.03
"""Of an area, a frame: what shrinks no faster, to a half in 23 frames, is as large as it was lately."""
CONFIRM_AFTER = 3
"""Analysed frames a part that split from the background must be seen in before it counts as an object."""


@dataclass
class Track:
    """One object's life so far; areas in pixels of the map."""

    track_id: int
    first_frame: int
    name: str | None = None
    last_frame: int = 0
    confirmed: bool = True
    confirmed_frame: int = 0
    seen: int = 0
    area_px: int = 0
    area_sum_px: int = 0
    color: np.ndarray | None = None
    measured: int = 0
    measured_px: int = 0
    recent_px: float = 0.0
    """The area it has, or had lately: less RECENT_FALL for each frame since. What shrinks slowly, as it drives away,
    has nearly all of it; who is hidden at once has little."""
    recent_frame: int = 0
    moved: float = 0.0
    """The largest share of it that was seen moving by itself at a time, where the caller notes it."""
    stood: int = 0
    """How often it was seen when it last stood out of a plain ground, likewise."""

    @property
    def shown_frame(self) -> int:
        """The first frame in which it was an object."""
        return max(self.first_frame, self.confirmed_frame)

    @property
    def usual_area_px(self) -> float:
        """Mean area since a person last said what is part of it; 0 before it was seen again."""
        return self.measured_px / max(1, self.measured)

    @property
    def mean_area_px(self) -> float:
        """Mean area over the analysed frames it was seen in."""
        return self.area_sum_px / max(1, self.seen)


class Tracker:
    """Overlap tracking.

    Args:
        rule: "components": DeepGIF's, each object takes the one track it overlaps most and the other way round, the
            rest are births; "regions": a region takes the track that covers most of it, so parts of one object stay
            together, and a track that leaks into another region keeps its pixels while they have its colour.
    """

    def __init__(self, rule: Literal["components", "regions"] = "regions") -> None:
        self.rule = rule
        self.tracks: dict[int, Track] = {}
        self.ended: list[Track] = []
        self.forgotten = 0
        self._next_id = 1
        self._background = Track(0, 0)
        self._left = ShotMemory[tuple[dict[int, Track], Track]]()

    @property
    def all_tracks(self) -> list[Track]:
        """Those that ended, those of shots that the film may come back to, and those that live."""
        aside = [track for _, (tracks, _) in self._left.items() for track in tracks.values()]
        return [*self.ended, *aside, *self.tracks.values()]

    @property
    def slots(self) -> int:
        """One more than the largest slot in use: the width of the overlap table to hand to update."""
        return max(self.tracks, default=0) + 1

    def turn(self, left: int | None, shot: int) -> None:
        """Go from a shot (None: from before the film) to another: living tracks are put aside, or taken up again.

        Those of the shot that is forgotten for it end.
        """
        known = self._left.take(shot)
        if left is not None:
            forgotten = self._left.keep(left, (self.tracks, self._background))
            for track in forgotten[0].values() if forgotten else ():
                self._note_end(track)
        self.tracks, self._background = known or ({}, Track(0, 0))

    def start(self, regions: int, frame: int) -> np.ndarray:
        """Begin a shot: every living track ends, every region but the background is born.

        Returns:
            [regions, 1] int32 table, to be looked up with a carried map of zeros.
        """
        for slot in list(self.tracks):
            self._end(slot)
        self._background = Track(0, frame)
        return np.array([[BACKGROUND], *([self._birth(frame)] for _ in range(1, regions))], np.int32)

    def update(
        self, overlap: np.ndarray, frame: int, color_sums: np.ndarray | None = None, *, sure: bool = True
    ) -> np.ndarray:
        """Match the regions of a frame with the living tracks.

        Args:
            overlap: [R, S] integer: pixels in region r (0 is the frame's background) that were carried as slot s.
            frame: number of this frame.
            color_sums: [R, S, 3] sums over these pixels of red, green, blue (0..255), for the rule "regions"; without
                them no pixel changes its track for its colour.
            sure: by the rule "components", whether those born are objects at once, or after CONFIRM_AFTER frames.

        Returns:
            [R, S'] int32 table of new slots; S' is S, columns of slots not living are never looked up.
        """
        if self.rule == "components":
            return self._components(overlap, frame, sure)
        table = self._regions(overlap, frame)
        if color_sums is not None:
            self._shed(table, overlap, color_sums)
        return table

    def _components(self, overlap: np.ndarray, frame: int, sure: bool) -> np.ndarray:
        regions, slots = overlap.shape
        owner = np.full(regions, -1, np.int32)
        owner[0] = BACKGROUND
        inner = overlap[1:, 1:]
        taken: set[int] = set()
        # Largest overlap first; a stable sort makes the lower region, then the lower slot, win a tie.
        for pair in np.argsort(-inner, axis=None, kind="stable"):
            region, slot = (int(x) + 1 for x in divmod(int(pair), max(1, slots - 1)))
            if overlap[region, slot] == 0:
                break
            if owner[region] < 0 and slot not in taken:
                owner[region] = slot
                taken.add(slot)
        for unowned in np.flatnonzero(owner < 0):
            owner[unowned] = self._birth(frame, confirmed=sure)
        return np.repeat(owner[:, None], slots, axis=1)

    def _regions(self, overlap: np.ndarray, frame: int) -> np.ndarray:
        regions, slots = overlap.shape
        keep = np.arange(slots, dtype=np.int32)
        table = np.repeat(keep[None], regions, axis=0)
        area = overlap.sum(1)
        track_area = np.maximum(1, overlap.sum(0))
        best = overlap.argmax(1)
        for region in np.flatnonzero(area):
            slot = int(best[region])
            if overlap[region, slot] < SNAP_SHARE * area[region]:
                continue
            owner = slot
            heir = overlap[region, BACKGROUND] >= HEIR_SHARE * track_area[BACKGROUND]
            if slot == BACKGROUND and region != 0 and not heir:
                owner = self._birth(frame, confirmed=False)
            held = overlap[region] >= HOLD_SHARE * track_area
            held[slot] = False
            table[region] = np.where(held, keep, owner)
        return table

    def _shed(self, table: np.ndarray, overlap: np.ndarray, color_sums: np.ndarray) -> None:
        """In shared regions, give parts of tracks to the track they look like; tracks' colours follow."""
        area, track_area = overlap.sum(1), np.maximum(1, overlap.sum(0))
        colors = self._colors(color_sums.sum(0) / track_area[:, None], overlap.sum(0))
        for region in np.flatnonzero((area > 0) & (overlap.max(1) < SNAP_SHARE * area)):
            sharing = np.flatnonzero(overlap[region] >= SHED_SHARE * area[region])
            for slot in sharing:
                if overlap[region, slot] >= HOLD_SHARE * track_area[slot]:
                    continue
                part = color_sums[region, slot] / overlap[region, slot]
                apart = np.linalg.norm(colors[sharing] - part, axis=1)
                if apart.min() + SHED_MARGIN < np.linalg.norm(colors[slot] - part):
                    table[region, slot] = sharing[apart.argmin()]

    def _colors(self, now: np.ndarray, areas: np.ndarray) -> np.ndarray:
        """[S, 3] colours of the slots' tracks, after they followed their present mean colours [S, 3] a little."""
        colors = now.copy()
        for slot in np.flatnonzero(areas):
            track = self.tracks.get(int(slot), self._background)
            if track.color is not None:
                colors[slot] = track.color + COLOR_RATE * (now[slot] - track.color)
            track.color = colors[slot]
        return colors

    def claim(self, name: str, frame: int) -> int:
        """A slot for the object a person named: the one that has the name already, or a new one."""
        for slot, track in self.tracks.items():
            if track.name == name:
                return slot
        slot = self._birth(frame)
        self.tracks[slot].name = name
        return slot

    def ended_track(self, track_id: int) -> Track | None:
        """The track of that id, if it ended and is still known."""
        return next((track for track in self.ended if track.track_id == track_id), None)

    def revive(self, slot: int, track_id: int) -> None:
        """Have a slot's track be one that ended, for it was that all along.

        What was not confirmed counts as a part of that one's life. What was has been seen under its own id: it ends.
        """
        at = [track.track_id for track in self.ended].index(track_id)
        old, young = self.ended.pop(at), self.tracks[slot]
        self.tracks[slot] = old
        old.moved = max(old.moved, young.moved)
        if young.confirmed:
            self._note_end(young)
            return
        old.last_frame = young.last_frame
        old.seen, old.area_sum_px = old.seen + young.seen, old.area_sum_px + young.area_sum_px
        old.measured, old.measured_px = old.measured + young.measured, old.measured_px + young.measured_px

    def forget_area(self, slot: int) -> None:
        """Measure a track's usual area anew: a person said what is and what is not part of it."""
        track = self.tracks[slot]
        track.measured = track.measured_px = 0
        track.recent_px = 0.0

    def observe(self, areas: np.ndarray, frame: int, hidden: Collection[int] = ()) -> None:
        """Note the areas [S] px of all slots in the new map: tracks that are gone end, lasting ones are confirmed.

        Slots in hidden may be out of sight and come back.
        """
        for slot, track in list(self.tracks.items()):
            track.area_px = int(areas[slot]) if slot < len(areas) else 0
            kept = (1 - RECENT_FALL) ** (frame - track.recent_frame)
            track.recent_px, track.recent_frame = max(track.area_px, track.recent_px * kept), frame
            if track.area_px == 0:
                if slot not in hidden:
                    self._end(slot)
                continue
            track.last_frame = frame
            track.seen += 1
            track.area_sum_px += track.area_px
            track.measured += 1
            track.measured_px += track.area_px
            if not track.confirmed and track.seen >= CONFIRM_AFTER:
                track.confirmed, track.confirmed_frame = True, frame

    def present(self, areas: np.ndarray, frame: int) -> None:
        """Note which slots were on screen in a frame that was not analysed, by the areas [S] px that all have there."""
        for slot, track in self.tracks.items():
            if slot < len(areas) and areas[slot]:
                track.last_frame = frame

    def state_dict(self) -> dict[str, Any]:
        """Everything later frames depend on; see load_state_dict."""
        return {
            "tracks": _plain(self.tracks),
            "ended": [dataclasses.asdict(track) for track in self.ended],
            "background": dataclasses.asdict(self._background),
            "left": [(s, _plain(tracks), dataclasses.asdict(ground)) for s, (tracks, ground) in self._left.items()],
            "next_id": self._next_id,
            "forgotten": self.forgotten,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as the tracker whose state_dict this is."""
        self.tracks = _living(state["tracks"])
        self.ended = [Track(**track) for track in state["ended"]]
        self._background = Track(**state["background"])
        self._left = ShotMemory((s, (_living(tracks), Track(**ground))) for s, tracks, ground in state["left"])
        self._next_id, self.forgotten = state["next_id"], state["forgotten"]

    def _birth(self, frame: int, *, confirmed: bool = True) -> int:
        slot = next(slot for slot in range(1, len(self.tracks) + 2) if slot not in self.tracks)
        self.tracks[slot] = Track(self._next_id, frame, last_frame=frame, confirmed=confirmed)
        self._next_id += 1
        return slot

    def _end(self, slot: int) -> None:
        self._note_end(self.tracks.pop(slot))

    def _note_end(self, track: Track) -> None:
        if track.seen and (track.confirmed or track.name):
            self.ended.append(track)
        if len(self.ended) > 2 * MOST_ENDED:
            ranked = sorted(self.ended, key=lambda track: (track.name is None, -track.area_sum_px))
            self.forgotten += len(ranked) - MOST_ENDED
            self.ended = ranked[:MOST_ENDED]


def _plain(tracks: dict[int, Track]) -> list[tuple[int, dict[str, Any]]]:
    return [(slot, dataclasses.asdict(track)) for slot, track in tracks.items()]


def _living(tracks: list[tuple[int, dict[str, Any]]]) -> dict[int, Track]:
    return {slot: Track(**track) for slot, track in tracks}
