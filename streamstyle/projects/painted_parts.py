"""What a project keeps of a segment's painted frames, in the film's work folder: them bit for bit, and their motion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
        film: the fingerprint of the film they are of.

    Raises:
        OutputError: the disk is full, or not ours to write on.
    """

    def __init__(self, folder: Path, size: tuple[int, int], film: dict[str, Any]) -> None:
        self._folder, self._film, self._frames, self._first_pts = folder, film, 0, 0
        self._painted = LosslessWriter(folder / NAMES[PAINTED], size)
        self._flow: FlowTrackWriter | None = None

    def add(self, batch: FrameBatch) -> None:
        """Write a batch's frames.

        Raises:
            OutputError: the disk is full, or not ours to write on. ShapeError: flows are not all of one size.
        """
        self._painted.add(batch)
        if not self._frames:
            self._first_pts = batch.pts[0]
        for number, flow in enumerate(batch.flows, self._frames):
            if flow is not None:
                if self._flow is None:
                    path = self._folder / NAMES[FLOW]
                    self._flow = FlowTrackWriter(path, STEPS_PER_PX, self._film, self._first_pts)
                self._flow.add(number, flow)
        self._frames += len(batch)

    def finish(self) -> None:
        """Complete the files.

        Raises:
            OutputError: the disk is full, or not ours to write on.
        """
        self._painted.finish()
        if self._flow is not None:
            self._flow.finish()

    def abandon(self) -> None:
        """Close the files, which count for nothing."""
        self._painted.abandon()
        if self._flow is not None:
            self._flow.abandon()


def take_painted(project: Project, number: int, folder: Path, *, flow: bool) -> None:
    """Have a segment's parts in a folder as a project has them.

    Args:
        flow: motion, too; see KeptFlow.whole.

    Raises:
        OSError: the disk is full, or not ours to write on.
    """
    for kind in (PAINTED, *((FLOW,) if flow else ())):
        link_or_copy(project.file(kind, number), folder / NAMES[kind])


def put_painted(folder: Path, target: Path, number: int) -> None:
    """Have the parts in a folder in a project's place for them.

    Args:
        target: the project's folder.

    Raises:
        OSError: the disk is full, or not ours to write on.
    """
    for kind, name in NAMES.items():
        if (part := folder / name).exists():
            place = target / file_name(kind, number, "")
            place.parent.mkdir(exist_ok=True)
            link_or_copy(part, place)
