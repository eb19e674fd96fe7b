"""Closed segments: of this film, and of another that go into one as they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from streamstyle.frames import Checkpoint


@dataclass(frozen=True)
class Segment:
    """One closed stretch of film: a file of its own that begins with a keyframe.

    Attributes:
        number: counted from 0.
        frames: how many.
        first_pts, last_pts: in ticks of the film's time_base; in the file the first frame is at 0.
        size_bytes: of the file.
    """

    number: int
    frames: int
    first_pts: int
    last_pts: int
    size_bytes: int


@dataclass(frozen=True)
class KeptSegment:
    """A closed segment of another film, where it has its number, that goes into one as it is; and the state then."""

    segment: Segment
    file: Path
    checkpoint: Checkpoint

    def __len__(self) -> int:
        return self.segment.frames
