"""``streamstyle tracks``: where the objects of a film are, for other programs and for the eye."""

from __future__ import annotations

import json as jsonlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro
from typing_extensions import Doc

from streamstyle.arguments import default_hint
from streamstyle.config import AnalysisOptions, Device, Fps, LookOptions, OutputOptions
from streamstyle.process import uncollected
from streamstyle.progress import Progress, say


@dataclass(frozen=True)
class Tracks:
    """Follow a film's objects; write masks, a film that shows them or a label track.

    streamstyle tracks in.mp4 --out tracks.mp4     all objects that are found

    streamstyle tracks in.mp4 --out labels.npz --object "swan@320,240"

    streamstyle tracks FOLDER --out "masks/%05d.png" --mask first.png

    Masks are as DAVIS has them: 0 the background, 1 and on the objects.
    """

    input: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="IN"), Doc("The film, or a folder of pictures.")]
    out: Annotated[
        Path,
        tyro.conf.arg(metavar="OUT"),
        Doc("What to write, by its ending: masks/%05d.png, a film (.mp4, .m4v, .mov, .mkv) or labels.npz."),
    ]
    mask: Annotated[
        Path | None,
        tyro.conf.arg(metavar="FIRST.png", help_behavior_hint=default_hint),
        Doc("The first frame's objects: a palette PNG, black and white, or one colour an object."),
    ] = None
    object: Annotated[
        tuple[str, ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(metavar="NAME@X,Y[@SECONDS]"),
        Doc("An object to follow, as for `streamstyle run`, without a style; default: all that are found."),
    ] = ()
    look: Annotated[
        Path | None,
        tyro.conf.arg(metavar="LOOK.toml", help_behavior_hint=default_hint),
        Doc("Read objects and names from a Look file."),
    ] = None
    fps: Fps = None
    overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff, Doc("Replace OUT if it exists.")] = False
    analysis: Annotated[AnalysisOptions, tyro.conf.OmitArgPrefixes, tyro.conf.arg(name="")] = field(
        default_factory=AnalysisOptions
    )
    device: Annotated[Device, Doc("Where to compute.")] = "auto"
    quiet: Annotated[bool, tyro.conf.FlagCreatePairsOff, Doc("No progress, no summary.")] = False
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff, Doc("Print one JSON object as the last line of stdout.")] = (
        False
    )

    def __call__(self) -> int:
        """Write the tracks; name the objects."""
        from streamstyle.look import Look
        from streamstyle.styles import NONE
        from streamstyle.tracks.target import check_tracks

        output = OutputOptions(fps=self.fps, overwrite=self.overwrite)
        look = Look.from_options(LookOptions(object=self.object, look=self.look), unstyled=NONE)
        check_tracks(self.input, self.out, self.overwrite, self.fps)
        with uncollected():
            from streamstyle.tracks.film_objects import tracks

        with Progress(self.quiet) as progress:
            report = tracks(
                self.input,
                self.out,
                look=look,
                mask=self.mask,
                analysis=self.analysis,
                output=output,
                device=self.device,
                on_frames=progress,
            )
        report = replace(report, warnings=(*report.warnings, *self._unworn()))
        for line in report.warnings:
            say(f"warning: {line}")
        if self.json:
            print(jsonlib.dumps(report.as_dict()))
        if self.json or self.quiet:
            return 0
        count = len({thing["label"] for thing in report.objects})
        told = (f"{n} {what}{'' if n == 1 else 's'}" for n, what in ((count, "object"), (report.frames, "frame")))
        say(f"{self.out}: {' in '.join(told)}, {report.fps:.1f} fps")
        return 0

    def _unworn(self) -> list[str]:
        """A line where styles were typed, as `run` takes them."""
        from streamstyle.look import ObjectStyle

        typed = dict.fromkeys(f"'{thing.name}'" for thing in map(ObjectStyle.parse, self.object) if thing.style)
        mend = "is left out, for nothing is painted here; give it to `streamstyle run`"
        return [f"--object: the style of {', '.join(typed)} {mend}"] if typed else []
