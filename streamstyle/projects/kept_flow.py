"""The motion that a project keeps of its film, where calm painted it: what was known of a segment, frame by frame."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import numpy as np

from streamstyle.errors import InputError
from streamstyle.media.flow_track import FlowTrack
from streamstyle.painting.calm import LINES, halved_size
from streamstyle.painting.calm_flow import STEPS_PER_PX
from streamstyle.projects.project import FLOW, Project
from streamstyle.stages.resize import small_size


class KeptFlow:
    """Reads it. What is damaged is not known, which costs no more than a search: it is found again, to the bit.

    Args:
        project: perhaps one without.
    """

    def __init__(self, project: Project) -> None:
        self._project = project
        self._size = halved_size(small_size(project.size[::-1], LINES))
        self._damaged = dict[int, str]()

    def warnings(self) -> list[str]:
        """A line where something was damaged."""
        if not self._damaged:
            return []
        also = f", and of {len(self._damaged) - 1} more segments" if len(self._damaged) > 1 else ""
        return [f"{next(iter(self._damaged.values()))}{also}; flow is searched for anew there"]

    @contextlib.contextmanager
    def of(self, number: int) -> Iterator[Callable[[int], np.ndarray | None]]:
        """Within, a segment's motion by the frame's number in it: [h, w, 2] int16, see painting.calm_flow, or None."""
        path = self._project.file(FLOW, number)
        if not self._project.bytes_of(FLOW, number):
            yield lambda frame: None
            return
        with contextlib.ExitStack() as closing:
            track: FlowTrack | None = None
            try:
                track = closing.enter_context(FlowTrack(path, self._size, STEPS_PER_PX))
            except InputError as error:
                self._damaged.setdefault(number, str(error))

            def frame(k: int) -> np.ndarray | None:
                try:
                    return None if track is None else track.frame(k)
                except InputError as error:
                    self._damaged.setdefault(number, str(error))
                    return None

            yield frame
