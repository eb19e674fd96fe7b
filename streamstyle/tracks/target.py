"""What tracks are written as, by the ending of their name, and whether they may be written there; without torch."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

from streamstyle.errors import OutputError
from streamstyle.frames import VideoInfo
from streamstyle.media.encode import check_output, check_place
from streamstyle.media.label_track import SUFFIX
from streamstyle.media.probe import probe

Kind = Literal["masks", "film", "labels"]
NUMBER = re.compile(r"%0?\d*d")
FILMS = (".mp4", ".m4v", ".mov", ".mkv")


def kind_of(out: str | Path) -> Kind:
    """What is to be written, by the ending; OutputError for one that says nothing."""
    out = Path(out)
    suffix = out.suffix.lower()
    if suffix == ".png" and len(NUMBER.findall(out.name)) == 1 and out.name.count("%") == 1:
        return "masks"
    if suffix in FILMS:
        return "film"
    if suffix == SUFFIX:
        return "labels"
    raise OutputError(f"{out}: not a kind of tracks; give masks/%05d.png, a film ({', '.join(FILMS)}) or labels.npz")


def check_tracks(input: str | Path, out: str | Path, overwrite: bool, fps: float | None = None) -> VideoInfo:
    """The film whose objects are to be written.

    Raises:
        InputError: no film. OptionError: fps is given for a film. OutputError: an ending that says nothing; else as for
            a film, and for masks also where the folder holds some already, or is the input.
    """
    info, kind, out = probe(input, fps=fps), kind_of(out), Path(out)
    if kind == "film":
        check_output(input, out, overwrite)
    elif kind == "labels":
        check_place(input, out, overwrite)
    elif not out.parent.exists():
        check_place(input, out.parent, overwrite)  # a folder like a file: its own folder must be there
    else:
        check_place(input, out, overwrite)
        if os.path.isdir(input) and os.path.samefile(input, out.parent):
            raise OutputError(f"{out}: {out.parent} is the input itself; give another folder")
        there = len(masks_there(out))
        if there and not overwrite:
            raise OutputError(f"{out}: {there} masks are there already; add --overwrite, or give another folder")
    return info


def masks_there(out: Path) -> list[Path]:
    """Files that a pattern like ``masks/%05d.png`` could have made."""
    before, after = NUMBER.split(out.name)
    form = re.compile(re.escape(before) + r"\d+" + re.escape(after))
    return [path for path in out.parent.iterdir() if form.fullmatch(path.name)]
