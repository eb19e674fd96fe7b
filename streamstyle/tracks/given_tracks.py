"""Objects that were followed before: their labels come from a label track, and nothing is looked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from streamstyle.errors import InputError, OptionError
from streamstyle.frames import VideoInfo
from streamstyle.look import Look, ObjectStyle
from streamstyle.media.images import is_folder
from streamstyle.media.label_track import LabelTrack
from streamstyle.media.masks import object_name
from streamstyle.objects.between import Followed
from streamstyle.objects.object_tracks import ObjectReport
from streamstyle.objects.tracker import Track, Tracker
from streamstyle.styles import NONE


class GivenTracks:
    """The objects of a label track, in place of ObjectTracks: a label is its object's slot and identity.

    A frame wears the labels of the frame of the track nearest in time, a picture of a folder those of its number,
    whatever ``--fps`` either was given; after the last of those, all is background.
    A context manager, for the file is open while frames are read.

    Args:
        path: a file of ``streamstyle tracks``.
        info: the film.
        look: its objects are those the track names so; their places are not looked at.

    Raises:
        InputError: no label track, or one of a film of another size.
    """

    every = 0
    """Frames of which one is looked at: never."""
    pending: tuple[ObjectStyle, ...] = ()
    """Objects whose moment has not come: none, for none is looked for."""
    left_out = 0
    """Regions that were too many: none, for none is looked for."""
    followed: Followed | None = None
    """The last frame, as between takes it: its map is known already."""
    replaced: tuple[tuple[str, str, float], ...] = ()
    """Places that were another's: none, likewise."""
    untaken: tuple[tuple[str, float], ...] = ()
    """Places of which nothing could be taken away: none, for none is looked at."""

    def __init__(self, path: str | Path, info: VideoInfo, look: Look) -> None:
        self._path = path
        self._track: LabelTrack | None = None
        with LabelTrack(path) as track:
            self._doubts = track.check(info)
            self._said = track.names
            times = (track.pts - track.pts[:1]) * float(track.time_base)
            if is_folder(info.path):
                times = np.arange(len(track)) / float(info.fps)
        if not len(times):
            raise InputError(f"{path}: has no frames; make it again with `streamstyle tracks`")
        self._times_s = times
        self._end_s = float(times[-1] + (np.median(np.diff(times)) / 2 if len(times) > 1 else 0.0))
        self._doubts += look.unknown_names(self._said.values(), path)
        if any(thing.has_place for thing in look.objects):
            self._doubts.append(
                f"{path}: says where objects are; the Look's points, regions and masks are not looked at"
            )
        self.restart(look)

    def __enter__(self) -> GivenTracks:
        self._track = LabelTrack(self._path)
        return self

    def __exit__(self, *_: object) -> None:
        if self._track is not None:
            self._track.close()

    def restart(self, look: Look) -> None:
        """Forget the film so far; from now on objects are called as this Look says."""
        self._names = {label: look.name_of(name) for label, name in self._said.items()}
        self.tracker = Tracker()
        self._scale_px = 1.0
        self._unlabelled = 0

    @property
    def names(self) -> tuple[str, ...]:
        """What objects of the track are called in the end, by label."""
        return tuple(self._names.values())

    def is_due(self, number: int) -> bool:
        """Whether a frame will be looked at: none."""
        return False

    def wants(self, index: int, shot: int, time_s: float) -> bool:
        """Whether the next frame must be looked at: none."""
        return False

    @property
    def motions_told(self) -> int | None:
        """How many of motions step wants on the host: all, which are none."""
        return None

    def motions(self, lumas: object, part: object = None) -> tuple[()]:
        """What step wants to know of motion: nothing."""
        return ()

    def step(
        self,
        luma: np.ndarray,
        found: object,
        shot: int,
        index: int,
        time_s: float,
        size: tuple[int, int],
        motion: object = (),
    ) -> np.ndarray:
        """The labels of a frame, [h, w] int32 at the track's size; see ObjectTracks.step."""
        labels = self._labels_at(time_s)
        self._scale_px = size[0] * size[1] / labels.size
        areas = np.bincount(labels.ravel())
        for label in np.flatnonzero(areas[1:]) + 1:
            if label not in self.tracker.tracks:
                name = self._names.get(int(label), object_name(int(label)))
                self.tracker.tracks[int(label)] = Track(int(label), index, name)
        self.tracker.observe(areas, index, hidden=self.tracker.tracks)  # a label may come back
        return labels

    def _labels_at(self, time_s: float) -> np.ndarray:
        assert self._track is not None
        if time_s > self._end_s:
            self._unlabelled += 1
            return np.zeros(self._track.size, np.int32)
        after = int(np.searchsorted(self._times_s, time_s).clip(1, len(self._times_s) - 1)) if time_s > 0 else 0
        before = max(0, after - 1)
        nearer = time_s - self._times_s[before] <= self._times_s[after] - time_s
        return self._track[before if nearer else after].astype(np.int32)

    def lost(self) -> list[tuple[str, int]]:
        """Named objects that were gone before the film was, for a person to name again: none, all is said."""
        return []

    def report(self) -> list[ObjectReport]:
        """Every object seen so far, in the order of the labels."""
        return [
            ObjectReport(t.track_id, t.name, t.first_frame, t.last_frame, round(t.mean_area_px * self._scale_px, 1))
            for _, t in sorted(self.tracker.tracks.items())
        ]

    def warnings(self) -> list[str]:
        """What a person should know of the track, a line each."""
        if not self._unlabelled:
            return self._doubts
        return [*self._doubts, f"{self._path}: ends before the film; {self._unlabelled} frames were all background"]

    def state_dict(self) -> dict[str, Any]:
        """Everything later frames depend on, and the report; see load_state_dict."""
        return {"tracker": self.tracker.state_dict(), "scale_px": self._scale_px, "unlabelled": self._unlabelled}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as the tracks, of the same file and Look, whose state_dict this is."""
        self.tracker.load_state_dict(state["tracker"])
        self._scale_px, self._unlabelled = state["scale_px"], state["unlabelled"]


def given_tracks(
    path: str | Path | None, info: VideoInfo, look: Look, mask: str | Path | None = None
) -> GivenTracks | None:
    """The tracks that a person gives with a Look; None where none are given.

    Raises:
        InputError: as of GivenTracks; or the Look styles objects alone, of which none is in the track.
        OptionError: there is a mask, too, which would say the same.
    """
    if path is None:
        return None
    if mask is not None:
        raise OptionError("--mask: does not go with --tracks, which says where objects are; leave one of them out")
    given = GivenTracks(path, info, look)
    wanted = {thing.name for thing in look.objects}
    if wanted and not wanted & set(given.names) and look.background_style == look.foreground_style == NONE:
        there = f"but {', '.join(sorted(given.names))}" if given.names else "nor any other"
        name = min(wanted)
        parts = "' or '".join(old for old, _ in look.called if look.name_of(old) == name)
        missing = f"{name}', which is to be '{parts}" if parts else name
        raise InputError(
            f"{path}: has no object '{missing}' {there}, so nothing would be painted; say what it has, or make "
            "the track of this film with `streamstyle tracks`"
        )
    return given
