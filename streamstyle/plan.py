"""What a command will read and write, looked at before all else: nothing here needs torch, whose import takes seconds,
so that a refusal comes at once."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

from streamstyle.config import OutputOptions
from streamstyle.errors import OptionError, OutputError
from streamstyle.frames import VideoInfo
from streamstyle.media.codecs import VideoEncoder, choose_encoder
from streamstyle.media.decode import refuse_beyond
from streamstyle.media.encode import check_output, check_place, format_of
from streamstyle.media.hwaccel import check_hwaccel
from streamstyle.media.journal import Placed
from streamstyle.media.label_track import SUFFIX
from streamstyle.media.planes import scaled_size
from streamstyle.media.probe import probe

LARGEST_SIDE_PX = 16384
Kind = Literal["masks", "film", "labels"]
NUMBER = re.compile(r"%0?\d*d")
FILMS = (".mp4", ".m4v", ".mov", ".mkv")


@dataclass(frozen=True)
class Plan:
    """What a job will read and write, checked before any work is done.

    Attributes:
        info: the film.
        width, height: of the film to be written.
        target: the file to be written, links followed.
        encoder: known to work at that size.
        frames: how many are expected; None where the file does not tell.
    """

    info: VideoInfo
    width: int
    height: int
    target: Path
    encoder: VideoEncoder
    frames: int | None


def plan(input: str | Path, output: str | Path, out: OutputOptions) -> Plan:
    """Look at the film and at where it is to go.

    Raises:
        InputError, OutputError, OptionError: what is wrong, and the mend.
    """
    info, target = check_film(input, output, out)
    if out.start > 0:
        refuse_beyond(info, out.start)
    check_hwaccel(out.hwaccel)
    width, height = painted_size(info, output, out)
    encoder = choose_encoder(
        out, output, size=(width, height), format_name=format_of(Path(output)), fps=info.fps or Fraction(25)
    )
    return Plan(info, width, height, target, encoder, frames_expected(info, out))


def check_film(input: str | Path, output: str | Path, out: OutputOptions) -> tuple[VideoInfo, Path]:
    """The film that is to be read, and the file that is to be written, links followed.

    Raises:
        InputError: no film. OutputError: OUT could not or must not be written, or is there already.
    """
    info = probe(input, fps=out.fps)  # first: "exists, add --overwrite" would mislead where the input is the trouble
    target = Path(os.path.realpath(output))
    # What a job that was killed had placed is no reason to refuse; whether it is of this job, WorkFolder sees.
    check_output(input, output, out.overwrite or Placed.beside(target).has(target))
    return info, target


def check_picture(input: str | Path, output: str | Path, overwrite: bool, fps: float | None = None) -> VideoInfo:
    """The film of which a picture is to be written.

    Raises:
        OptionError: the picture is not to be a .png. InputError: no film. OutputError: as of check_film.
    """
    if Path(output).suffix.lower() != ".png":
        raise OptionError(f"{output}: a preview is a picture; give it the ending .png")
    info = probe(input, fps=fps)
    check_place(input, output, overwrite)
    return info


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
        InputError: no film. OutputError: as of check_film; for masks also where the folder holds some already, or is
            the input.
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


def painted_size(info: VideoInfo, output: str | Path, out: OutputOptions) -> tuple[int, int]:
    """Width and height of the film to be written; OutputError where the encoder could not hold them."""
    width, height = scaled_size(info, out.size)
    if max(width, height) > LARGEST_SIDE_PX:
        raise OutputError(
            f"{output}: {width}x{height} is more than a film holds ({LARGEST_SIDE_PX} a side); give a smaller --size"
        )
    return width, height


def frames_expected(info: VideoInfo, out: OutputOptions) -> int | None:
    """How many frames a job will have, for progress; None where the file does not tell."""
    if info.frames is None:
        return None
    if not out.start and out.duration is None:
        return info.frames
    left_s = max(0.0, (info.duration_s or info.frames / float(info.fps)) - out.start)
    return round(min(left_s, out.duration if out.duration is not None else left_s) * float(info.fps))


def masks_there(out: Path) -> list[Path]:
    """Files that a pattern like ``masks/%05d.png`` could have made."""
    before, after = NUMBER.split(out.name)
    form = re.compile(re.escape(before) + r"\d+" + re.escape(after))
    return [path for path in out.parent.iterdir() if form.fullmatch(path.name)]
