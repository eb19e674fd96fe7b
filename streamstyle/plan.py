"""What a job will read and write, looked at before all else: nothing here needs torch, whose import takes seconds, so
that a refusal comes at once."""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from streamstyle.config import OutputOptions
from streamstyle.errors import OptionError, OutputError
from streamstyle.frames import VideoInfo
from streamstyle.media.codecs import VideoEncoder, choose_encoder
from streamstyle.media.decode import refuse_beyond
from streamstyle.media.encode import check_output, check_place, format_of
from streamstyle.media.hwaccel import check_hwaccel
from streamstyle.media.journal import Placed, parts_folder
from streamstyle.media.planes import scaled_size
from streamstyle.media.probe import probe

LARGEST_SIDE_PX = 16384


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


def plan(input: str | Path, output: str | Path, out: OutputOptions, save_project: str | Path | None = None) -> Plan:
    """Look at the film and at where it is to go, and what goes beside it.

    Raises:
        InputError, OutputError, OptionError: what is wrong, and the mend.
    """
    info, target = check_places(input, output, out, save_project)
    if out.start > 0:
        refuse_beyond(info, out.start)
    check_hwaccel(out.hwaccel)
    width, height = painted_size(info, output, out)
    encoder = choose_encoder(
        out, output, size=(width, height), format_name=format_of(Path(output)), fps=info.fps or Fraction(25)
    )
    return Plan(info, width, height, target, encoder, frames_expected(info, out))


def check_places(
    input: str | Path, output: str | Path, out: OutputOptions, save_project: str | Path | None = None
) -> tuple[VideoInfo, Path]:
    """The film that is to be read, and the file that is to be written, links followed.

    Raises:
        InputError: no film. OutputError: OUT could not or must not be written, is there already, or is in the way of
            layers or a project. OptionError: fps is given for a film.
    """
    info = probe(input, fps=out.fps)  # first: "exists, add --overwrite" would mislead where the input is the trouble
    target = Path(os.path.realpath(output))
    # What a job that was killed had placed is no reason to refuse; whether it is of this job, WorkFolder sees.
    check_output(input, output, out.overwrite or Placed.beside(target).has(target))
    _check_apart(target, out.layers, save_project)
    return info, target


def _check_apart(target: Path, layers: str | Path | None, project: str | Path | None) -> None:
    """Refuse places of which one would take another's: a project and a work folder are replaced or removed whole."""
    said = {"--layers": layers, "--save-project": project}
    places = {option: Path(os.path.realpath(place)) for option, place in said.items() if place is not None}
    for option, place in places.items():
        for what, there in (("OUT", target), ("the work folder of OUT", parts_folder(target))):
            if there in (place, *place.parents):
                raise OutputError(f"{option} {said[option]}: is {what}, or in it; choose another place")
    whole = places.pop("--save-project", None)
    others = {str(target): target, **{f"{option} {said[option]}": place for option, place in places.items()}}
    for what, place in others.items():
        if whole in (place, *place.parents):
            where = "is to be in the folder of --save-project, which is replaced as a whole"
            raise OutputError(f"{what}: {where}; choose another place")


def check_picture(input: str | Path | None, output: str | Path, overwrite: bool, what: str = "preview") -> None:
    """Look at where a picture is to go.

    Args:
        input: the film, a folder of pictures perhaps, or the photo that it is made from; None for none of one's own.
        output: a .png file.
        overwrite: it may be there.
        what: it is, for the message.

    Raises:
        OptionError: not a .png. OutputError: as of check_places.
    """
    if Path(output).suffix.lower() != ".png":
        raise OptionError(f"{output}: a {what} is a picture; give it the ending .png")
    check_place(input or "", output, overwrite)
    if input is not None and os.path.isdir(input) and os.path.samefile(input, Path(output).parent):
        raise OutputError(f"{output}: would be a picture of the folder it is made from; choose another folder")


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
