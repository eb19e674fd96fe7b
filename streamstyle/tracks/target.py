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
NUMBER = re.compile(r"%(?:0\d+)?d")
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


def check_tracks(
    input: str | Path, out: str | Path, overwrite: bool, fps: float | None = None, mask: str | Path | None = None
) -> VideoInfo:
    """The film whose objects are to be written; mask: a picture that is read for them.

    Raises:
        InputError: no film. OptionError: fps is given for a film. OutputError: an ending that says nothing; else as for
            a film, and for masks also where the folder holds some already, the mask among them, or is the input.
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
        there = masks_there(out)
        if mask is not None and os.path.exists(mask) and any(os.path.samefile(mask, path) for path in there):
            raise OutputError(f"{out}: {mask} would be replaced, which is read; give another folder")
        if there and not overwrite:
            raise OutputError(f"{out}: {len(there)} masks are there already; add --overwrite, or give another folder")
    return info


def masks_there(out: Path) -> list[Path]:
    """Files that are named as by a pattern like ``masks/%05d.png``: of that 00007.png and 123456.png, not 7.png."""
    before, after = NUMBER.split(out.name)
    form = re.compile(re.escape(before) + r"([0-9]+)" + re.escape(after))
    named = [(path, form.fullmatch(path.name)) for path in out.parent.iterdir()]
    return [path for path, match in named if match and numbered(out.name, int(match.group(1))) == path.name]


def numbered(pattern: str, number: int) -> str:
    """The name of a frame's mask."""
    return NUMBER.sub(lambda match: match.group() % number, pattern)
