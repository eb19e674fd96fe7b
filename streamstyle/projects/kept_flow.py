"""The motion that a project keeps of its film, where calm painted it: what was known of a segment, frame by frame."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from streamstyle.errors import InputError
from streamstyle.media.flow_track import FlowTrack
from streamstyle.painting.calm import LINES, halved_size
from streamstyle.painting.calm_flow import STEPS_PER_PX
from streamstyle.projects.project import FLOW, Project
from streamstyle.stages.resize import small_size


class KeptFlow:
    """Reads it, segment after segment. What is damaged is not known; where calm wants it, it is found again.

    Args:
        project: perhaps one without.

    Attributes:
        bytes_read: of the files that were opened.
        whole: segments whose file may go into another project as it is, of those that were checked.
    """

    def __init__(self, project: Project) -> None:
        self._project = project
        self._size = halved_size(small_size(project.size[::-1], LINES))
        self._damaged = dict[int, str]()
        self._searched = self._lost = False
        self._number, self._track = -1, cast(FlowTrack | None, None)
        self._counted = -1
        self.bytes_read, self.whole = 0, set[int]()

    def frame(self, number: int, k: int, *, calmed: bool) -> np.ndarray | None:
        """The motion of frame k of a segment: [h, w, 2] int16, see painting.calm_flow; None where it is not known.

        Args:
            calmed: by calm that is searched for which is damaged; else it is lost to the project that follows.
        """
        track = self._open(number)
        if track is None and number not in self._damaged:
            return None
        try:
            if track is not None:
                return track.frame(k)
        except InputError as error:
            self._damaged.setdefault(number, str(error))
        self._note(calmed=calmed)
        return None

    def check(self, number: int) -> None:
        """Read a segment's file, which is to go into another project as it is."""
        track = self._open(number)
        try:
            if track is not None:
                track.check()
        except InputError as error:
            self._damaged.setdefault(number, str(error))
        if number in self._damaged:
            self._note(calmed=False)
        elif track is not None:
            self.whole.add(number)

    def close(self) -> None:
        """Close the file that is open."""
        if self._track is not None:
            self._track.__exit__()
        self._number, self._track = -1, None

    def warnings(self) -> list[str]:
        """A line where something was damaged."""
        if not self._damaged:
            return []
        also = f", and of {len(self._damaged) - 1} more segments" if len(self._damaged) > 1 else ""
        said = "flow is searched for anew there" if self._searched else ""
        if self._lost:
            said += " where frames are calmed again, else" if said else "flow is"
            said += " left out of the project that is saved"
        return [f"{next(iter(self._damaged.values()))}{also}; {said}"]

    def state_dict(self) -> dict[str, Any]:
        """What of the segments so far is told at the end; see load_state_dict."""
        damaged = [[number, line] for number, line in self._damaged.items()]
        said = {"damaged": damaged, "searched": self._searched, "lost": self._lost}
        return said | {"bytes_read": self.bytes_read, "counted": self._counted}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as the one whose state_dict this is."""
        self._damaged = dict(state["damaged"])
        self._searched, self._lost = state["searched"], state["lost"]
        self.bytes_read, self._counted = state["bytes_read"], state["counted"]

    def _note(self, *, calmed: bool) -> None:
        self._searched |= calmed
        self._lost |= not calmed

    def _open(self, number: int) -> FlowTrack | None:
        """A segment's file, that of another one closed; None where there is none, or it is damaged."""
        if number != self._number:
            self.close()
            self._number, project = number, self._project
            if wanted := project.bytes_of(FLOW, number):
                path, first_pts = project.file(FLOW, number), project.segments[number].segment.first_pts
                try:
                    self._track = FlowTrack(path, self._size, STEPS_PER_PX, project.film, first_pts)
                    there = path.stat().st_size
                    if there != wanted:
                        raise InputError(f"{path}: has {there} bytes, {wanted} when the project was saved")
                    if number > self._counted:  # not of one opened again after a job went on within it
                        self._counted, self.bytes_read = number, self.bytes_read + wanted
                except InputError as error:
                    self._damaged.setdefault(number, str(error))
                    if self._track is not None:
                        self._track.__exit__()
                    self._track = None
        return self._track
