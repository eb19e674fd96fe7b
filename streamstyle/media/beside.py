"""What a film in the making wants of whoever writes something beside it: layers, a project."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from streamstyle.media.journal import Placed


class Beside(Protocol):
    """What is written beside a film, segment by segment: layers, a project.

    Its parts of a segment lie in ``WorkFolder.beside`` before the segment's last batch comes to the encoder.
    """

    def check(self, placed: Placed) -> None:
        """Refuse, with an OutputError, to replace unasked what is there; not what this very job placed."""

    def begin(self, work: Any) -> None:
        """Go on from a WorkFolder's segments, perhaps none, and its tail; may be called again, without that.

        Reads what was noted of every segment, so that damage is an error now, whatever error, and not at the end.
        """

    def stage(self) -> dict[Path, Path]:
        """Have all of it on the disk, put together, under a hidden name near its place.

        Returns:
            For each place the file that is to be moved there, or what tells a folder.
        """

    def place(self) -> None:
        """Move it there; what was there is kept until clear."""

    def put_back(self) -> None:
        """What was there before place is there again, as far as place came."""

    def clear(self) -> None:
        """Remove what was staged and not moved."""
