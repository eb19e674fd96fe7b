"""What ``streamstyle bench`` may be asked, and what is refused before anything is measured."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro
from typing_extensions import Doc

from streamstyle.arguments import default_hint
from streamstyle.config import Checked, Options, OutputOptions, Range
from streamstyle.errors import OptionError, OutputError

SIZES_PX = (16, 8192)
PLOT_ENDINGS = (".png", ".svg", ".pdf")


@dataclass(frozen=True)
class BenchOutput(OutputOptions):
    """OutputOptions without those that a bench sets itself."""

    size: Annotated[int | None, tyro.conf.Suppress] = None
    duration: Annotated[float | None, tyro.conf.Suppress] = None
    layers: Annotated[Path | None, tyro.conf.Suppress] = None
    layer_format: Annotated[Literal["prores", "vp9", "png"], tyro.conf.Suppress] = "prores"
    overwrite: Annotated[bool, tyro.conf.Suppress] = True
    no_resume: Annotated[bool, tyro.conf.Suppress] = True


@dataclass(frozen=True)
class JobOptions(Options):
    """The options of the jobs that are measured: those of ``streamstyle run``."""

    output: Annotated[BenchOutput, tyro.conf.OmitArgPrefixes] = field(default_factory=BenchOutput)


@dataclass(frozen=True)
class BenchOptions(Checked):
    """What to measure."""

    styles: Annotated[
        int,
        tyro.conf.arg(metavar="K"),
        Range(1, 26),
        Doc(
            "Paint in so many styles, with objects found and tracked where it is more than one; one style is "
            "measured in any case."
        ),
    ] = 4
    resolutions: Annotated[
        str | None,
        tyro.conf.arg(metavar="PX,PX...", help_behavior_hint=default_hint),
        Doc(
            "Short sides to measure at, 16 to 8192 px, such as 480,720,1080,2160 (the default on CUDA; 240,360,480 on "
            "a CPU; a CLIP's own)."
        ),
    ] = None
    frames: Annotated[
        int | None,
        tyro.conf.arg(metavar="N", help_behavior_hint=default_hint),
        Range(2, 1e6),
        Doc("Frames of each measurement; more are steadier. Default: 32 on a CPU, 240 on CUDA."),
    ] = None
    plot: Annotated[
        Path | None,
        tyro.conf.arg(metavar="OUT.png", help_behavior_hint=default_hint),
        Doc(
            "Also draw time per frame against pixels and against styles: .png, .svg or .pdf. Needs matplotlib: "
            'pip install "streamstyle[bench]".'
        ),
    ] = None
    job: Annotated[JobOptions, tyro.conf.OmitArgPrefixes, tyro.conf.arg(name="")] = field(default_factory=JobOptions)

    def short_sides(self) -> tuple[int, ...]:
        """--resolutions as numbers, each once; () where it is not given.

        Raises:
            OptionError: empty, not whole numbers, or out of range.
        """
        if self.resolutions is None:
            return ()
        said = f"--resolutions {self.resolutions or repr('')}"
        hint = f"give short sides of {SIZES_PX[0]} to {SIZES_PX[1]} px, such as 480,720"
        sides = []
        for word in self.resolutions.split(","):
            if not word.strip():
                raise OptionError(f"{said}: {'a number is missing' if self.resolutions.strip() else 'empty'}; {hint}")
            try:
                sides.append(int(word))
            except ValueError:
                raise OptionError(f"{said}: '{word.strip()}' is not a whole number; {hint}") from None
            if not SIZES_PX[0] <= sides[-1] <= SIZES_PX[1]:
                raise OptionError(f"{said}: {sides[-1]} is out of range; {hint}")
        return tuple(dict.fromkeys(sides))

    def check(self, clip: Path | None) -> None:
        """Refuse before any work what would be refused after it.

        Raises:
            OptionError: resolutions, a plot that cannot be drawn, or a start without a clip.
            OutputError: the plot cannot be written there.
        """
        self.short_sides()
        if clip is None and self.job.output.start:
            raise OptionError(f"--start {self.job.output.start:g}: goes with a CLIP; give one, or leave it out")
        if self.plot is None:
            return
        if self.plot.suffix.lower() not in PLOT_ENDINGS:
            raise OptionError(f"--plot {self.plot}: a plot is a picture; give it the ending {', '.join(PLOT_ENDINGS)}")
        if self.plot.is_dir():
            raise OutputError(f"--plot {self.plot}: is a folder; give a file name in it")
        if not self.plot.parent.is_dir():
            raise OutputError(f"--plot {self.plot}: no such folder; make it, or choose another place")
        if clip is not None and self.plot.exists() and clip.exists() and self.plot.samefile(clip):
            raise OutputError(f"--plot {self.plot}: is the clip itself; choose another name")
        if importlib.util.find_spec("matplotlib") is None:
            raise OptionError(f'--plot {self.plot}: needs matplotlib; pip install "streamstyle[bench]"')
