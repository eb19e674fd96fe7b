"""What a project keeps of a segment's painted frames, in the film's work folder: them bit for bit, and their motion."""

from __future__ import annotations

from pathlib import Path

from streamstyle.frames import FrameBatch
from streamstyle.media.disk import link_or_copy
from streamstyle.media.flow_track import SUFFIX as FLOW_SUFFIX
from streamstyle.media.flow_track import FlowTrackWriter
from streamstyle.media.lossless import SUFFIX, LosslessWriter
from streamstyle.painting.calm_flow import STEPS_PER_PX
from streamstyle.projects.project import FLOW, PAINTED, Project, file_name

NAMES = {PAINTED: f"painted{SUFFIX}", FLOW: f"flow{FLOW_SUFFIX}"}
"""Of the files; there is none of flow where calm went by none."""


class PaintedWriter:
    """Write one segment's.

    Args:
        folder: where.
        size: (width, height) of the frames.

    Raises:
        OutputError: the disk is full, or not ours to write on.
    """

    def __init__(self, folder: Path, size: tuple[int, int]) -> None:
        self._folder, self._frames = folder, 0
        self._painted = LosslessWriter(folder / NAMES[PAINTED], size)
        self._flow: FlowTrackWriter | None = None

    def add(self, batch: FrameBatch) -> None:
        """Write a batch's frames."""
        self._painted.add(batch)
        for number, flow in enumerate(batch.flows, self._frames):
            if flow is not None:
                self._flow = self._flow or FlowTrackWriter(self._folder / NAMES[FLOW], STEPS_PER_PX)
                self._flow.add(number, flow)
        self._frames += len(batch)

    def finish(self) -> int:
        """Complete the files; how many bytes they have."""
        self._painted.finish()
        if self._flow is not None:
            self._flow.finish()
        return sum(path.stat().st_size for name in NAMES.values() if (path := self._folder / name).exists())

    def abandon(self) -> None:
        """Close the files, which count for nothing."""
        self._painted.abandon()
        if self._flow is not None:
            self._flow.abandon()


def take_painted(project: Project, number: int, folder: Path) -> None:
    """Have a segment's parts in a folder as a project has them; motion that is cut short is left out."""
    link_or_copy(project.file(PAINTED, number), folder / NAMES[PAINTED])
    flow = project.file(FLOW, number)
    if flow.is_file() and flow.stat().st_size == project.bytes_of(FLOW, number):
        link_or_copy(flow, folder / NAMES[FLOW])


def put_painted(folder: Path, project: Path, number: int) -> None:
    """Have the parts in a folder in a project's place for them."""
    for kind, name in NAMES.items():
        if (part := folder / name).exists():
            place = project / file_name(kind, number, "")
            place.parent.mkdir(exist_ok=True)
            link_or_copy(part, place)
