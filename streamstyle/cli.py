"""The command line: parse into config, call, print. Heavy imports wait until a command needs them."""

from __future__ import annotations

import difflib
import json as jsonlib
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro
from typing_extensions import Doc

from streamstyle._version import __version__
from streamstyle.arguments import (
    NUMBERS,
    SECONDS,
    default_hint,
    in_short,
    joined_removals,
    one_line_usage_errors,
    options_in,
    read_command,
)
from streamstyle.bench.options import BenchOptions
from streamstyle.config import AnalysisOptions, Device, Fps, LookOptions, Options, Range, StyleChoices, StyleOptions
from streamstyle.errors import OptionError, StreamstyleError
from streamstyle.process import share_one_heap, uncollected
from streamstyle.progress import Progress, say
from streamstyle.tracks_command import Tracks

PROGRAM = "streamstyle"
DESCRIPTION = f"""Paint a film: every object and the background in a style of its own. (streamstyle {__version__})

  streamstyle run in.mp4 out.mp4 --style starry
  streamstyle run in.mp4 out.mp4 --background wave --foreground ember
  streamstyle preview in.mp4 objects.png
  streamstyle run in.mp4 out.mp4 --object "swan@320,240=starry" --background none
  streamstyle tracks in.mp4 --out tracks.mp4

Exit status: 0 done, 2 something to mend (one line says what), 130 stopped with Ctrl-C."""

Json = Annotated[bool, tyro.conf.FlagCreatePairsOff, Doc("Print one JSON object as the last line of stdout.")]
Film = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="IN"), Doc("The film, or a folder of pictures.")]


@dataclass(frozen=True)
class Run:
    """Paint a film. Sound, timing and shape are kept; OUT appears only when whole."""

    input: Film
    output: Annotated[
        Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT"), Doc("What to write: .mp4, .m4v, .mov or .mkv.")
    ]
    look: Annotated[LookOptions, tyro.conf.OmitArgPrefixes, tyro.conf.arg(name="")] = field(default_factory=LookOptions)
    options: Annotated[Options, tyro.conf.OmitArgPrefixes, tyro.conf.arg(name="")] = field(default_factory=Options)
    json: Json = False
    quiet: Annotated[bool, tyro.conf.FlagCreatePairsOff, Doc("No progress, no summary.")] = False
    dry_run: Annotated[
        bool, tyro.conf.FlagCreatePairsOff, Doc("Check the film, the Look and the named objects; write nothing.")
    ] = False
    typed: tyro.conf.Suppress[frozenset[str]] = frozenset()

    def __call__(self) -> int:
        """Run the job and say how it went."""
        with uncollected():
            from streamstyle.run_job import planned, save_look

        look, paint = planned(self.input, self.output, self.look, self.options.output, self.typed)
        share_one_heap()
        with Progress(self.quiet) as progress:
            report = paint(
                self.input,
                self.output,
                look=look,
                options=self.options,
                on_frames=progress,
                say=None if self.quiet else say,
                dry_run=self.dry_run,
            )
        if self.look.save_look is not None:
            lines = save_look(look, self.look.save_look, dry_run=self.dry_run)
            report = replace(report, warnings=(*report.warnings, *lines))
        for line in report.warnings:
            say(f"warning: {line}")
        if self.json:
            print(jsonlib.dumps(report.as_dict()))
        elif self.quiet:
            pass
        elif self.dry_run:
            size, count = f"{report.width}x{report.height}", len(report.warnings)
            well = f"{count} warning{'' if count == 1 else 's'}, see above" if count else "all is well"
            say(f"nothing written (--dry-run): {self.input} -> {self.output}, {size}, {well}")
        else:
            for line in report.in_words():
                say(line)
        return 0


@dataclass(frozen=True)
class Preview:
    """Show a frame and, beside it, its objects, numbered; with styles also painted.

    Thickly outlined is what moves by itself, or stands out of a plain ground. Styles are said as in `run`.
    """

    input: Film
    output: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT.png"), Doc("The picture to write.")]
    at: Annotated[float, SECONDS, Range(0, 1e6, "s"), Doc("Time of the frame.")] = 0.0
    fps: Fps = None
    look: Annotated[StyleChoices, tyro.conf.OmitArgPrefixes, tyro.conf.arg(name="")] = field(
        default_factory=StyleChoices
    )
    analysis: Annotated[AnalysisOptions, tyro.conf.OmitArgPrefixes, tyro.conf.arg(name="")] = field(
        default_factory=AnalysisOptions
    )
    painting: Annotated[StyleOptions, tyro.conf.OmitArgPrefixes, tyro.conf.arg(name="")] = field(
        default_factory=StyleOptions
    )
    device: Annotated[Device, Doc("Where to compute.")] = "auto"
    overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff, Doc("Replace OUT.png if it exists.")] = False
    json: Json = False

    def __call__(self) -> int:
        """Write the picture; list the objects."""
        from streamstyle.look import Look
        from streamstyle.media.probe import probe
        from streamstyle.plan import check_picture

        look = None if self.look == StyleChoices() else Look.from_options(self.look)
        probe(self.input, fps=self.fps)
        check_picture(self.input, self.output, self.overwrite)
        with uncollected():
            from streamstyle.preview import preview, words_of

        found = preview(
            self.input,
            self.output,
            at_s=self.at,
            fps=self.fps,
            look=look,
            mask=self.look.mask,
            tracks=self.look.tracks,
            options=Options(self.analysis, self.painting, device=self.device),
            overwrite=self.overwrite,
        )
        if self.json:
            print(jsonlib.dumps(found))
        else:
            for line in words_of(found):
                say(line)
        return 0


@dataclass(frozen=True)
class Styles:
    """Name the built-in styles; --sheet paints them all, and paintings of yours."""

    sheet: Annotated[
        Path | None,
        tyro.conf.arg(metavar="OUT.png", help_behavior_hint=default_hint),
        Doc("Write a contact sheet."),
    ] = None
    on: Annotated[
        Path | None,
        tyro.conf.arg(metavar="PHOTO", help_behavior_hint=default_hint),
        Doc("Picture or film to paint; default: a frame of the demo clip."),
    ] = None
    at: Annotated[float, SECONDS, Range(0, 1e6, "s"), Doc("Which frame of a film.")] = 0.0
    also: Annotated[
        tuple[str, ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(metavar="STYLE"),
        Doc("A painting, a folder of them, a network, a blend, keyframes one by one, before the built-in ones."),
    ] = ()
    device: Annotated[Device, Doc("Where to compute.")] = "auto"
    overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff, Doc("Replace OUT.png if it exists.")] = False

    def __call__(self) -> int:
        """Paint the sheet if asked, and print the names."""
        from streamstyle.styles import STYLES

        if self.sheet is not None:
            from streamstyle.plan import check_picture

            check_picture(self.on, self.sheet, self.overwrite, "contact sheet")
            from streamstyle.sheets import style_sheet

            count = style_sheet(
                self.sheet, self.on, at_s=self.at, styles=self.also, device=self.device, overwrite=self.overwrite
            )
            say(f"{self.sheet}: {count} styles")
        elif self.on is not None or self.also:
            raise OptionError(f"{'--also STYLE' if self.also else '--on PHOTO'}: goes with --sheet OUT.png; add it")
        for number, name in enumerate(STYLES):
            print(f"{number:2d}  {name}")
        print(" -  none (keep the picture)")
        return 0


@dataclass(frozen=True)
class Weights:
    """Say which weights are cached, their licence and hash; --fetch gets the rest."""

    fetch: Annotated[bool, tyro.conf.FlagCreatePairsOff, Doc("Fetch what is missing or damaged.")] = False
    list: Annotated[bool, tyro.conf.FlagCreatePairsOff, Doc("List (the default).")] = False

    def __call__(self) -> int:
        """Fetch if asked, then list."""
        from streamstyle.nets import weights

        if self.fetch:
            for name in weights.ASSETS:
                weights.fetch(name)
        print(f"{weights.cache_dir()}")
        for row in weights.status():
            size = f"{row.size_bytes / 1e6:.1f} MB" if row.size_bytes else "-"
            print(f"  {row.name:<13} {row.state:<8} {size:>8}  {row.source}; {row.licence}")
            print(f"  {'':<13} {row.path.name}  sha256 {row.sha256 or '-'}")
        return 0


@dataclass(frozen=True)
class Doctor:
    """Say what works on this machine, what does not, and the mend."""

    def __call__(self) -> int:
        """Print the table; 0 unless something the program cannot do without is missing."""
        from streamstyle.doctor import render, report

        rows = report()
        print(render(rows))
        return 2 if any(row.ok is False for row in rows) else 0


@dataclass(frozen=True)
class Bench:
    """Measure how fast films are painted here, and what holds them up.

    streamstyle bench                     a film made for it, at several sizes

    streamstyle bench in.mp4 --styles 8   a film of yours, at its own size

    streamstyle bench --resolutions 360,720 --plot bench.png

    Nothing is left behind but the plot.
    """

    clip: Annotated[
        Path | None,
        tyro.conf.Positional,
        tyro.conf.arg(metavar="[CLIP]", help_behavior_hint=default_hint),
        Doc("A film; default: one made for it."),
    ] = None
    options: Annotated[BenchOptions, tyro.conf.OmitArgPrefixes, tyro.conf.arg(name="")] = field(
        default_factory=BenchOptions
    )
    json: Json = False

    def __call__(self) -> int:
        """Measure, print, draw."""
        from streamstyle.bench.measure import bench
        from streamstyle.bench.table import StatusLine, render

        share_one_heap()
        with StatusLine() as status:
            report = bench(self.clip, self.options, say=status)
        for line in report.warnings:
            say(f"warning: {line}")
        print(jsonlib.dumps(report.as_dict()) if self.json else render(report))
        if self.options.plot is not None:
            from streamstyle.bench.plot import draw

            draw(report, self.options.plot)
            say(f"{self.options.plot}: time per frame against pixels and styles")
        return 0


@dataclass(frozen=True)
class Demo:
    """Paint the demo clip (Big Buck Bunny) into a folder: two films and three pictures."""

    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER"), Doc("Folder to write into.")] = Path("demo")

    def __call__(self) -> int:
        """Write the films and the pictures."""
        from streamstyle.demo import demo

        with Progress(quiet=False) as progress:

            def announce(line: str) -> None:
                progress.finish()
                say(line)

            demo(self.out, say=announce, on_frames=progress)
        return 0


COMMANDS: dict[str, Callable[..., Callable[[], int]]] = {
    "run": Run,
    "preview": Preview,
    "tracks": Tracks,
    "styles": Styles,
    "weights": Weights,
    "doctor": Doctor,
    "bench": Bench,
    "demo": Demo,
}


def say_with_notes(line: str, error: BaseException, otherwise: tuple[str, ...] = ()) -> None:
    """The line, and in it what the error was given on its way: how the job can go on."""
    say("; ".join([line, *getattr(error, "__notes__", otherwise)]))


def parse(arguments: list[str]) -> Callable[[], int]:
    """The command meant by the arguments."""
    arguments = joined_removals(arguments)
    if arguments and arguments[0] in COMMANDS:
        made = read_command(COMMANDS[arguments[0]], f"{PROGRAM} {arguments[0]}", arguments[1:])
        return replace(made, typed=options_in(arguments)) if isinstance(made, Run) else made
    if arguments and arguments[0] not in ("-h", "--help"):
        word, is_option = arguments[0], arguments[0].startswith("-")
        near = [] if is_option else difflib.get_close_matches(word, COMMANDS, n=1)
        hint = f"did you mean {near[0]}" if near else f"give one of {', '.join(COMMANDS)}"
        wrong = "comes after a command" if is_option else "no such command"
        raise OptionError(f"{word}: {wrong}; {hint}, see `{PROGRAM} --help`")
    with one_line_usage_errors(PROGRAM):
        return tyro.extras.subcommand_cli_from_dict(
            {name: in_short(command) for name, command in COMMANDS.items()},
            prog=PROGRAM,
            description=DESCRIPTION,
            args=arguments,
            registry=NUMBERS,
        )


def stop_once(number: int, frame: object) -> None:
    """Stop the job; a second Ctrl-C must not stop the cleaning up."""
    for sent in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sent, signal.SIG_IGN)
    raise KeyboardInterrupt


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments == ["--version"]:
        print(__version__)
        return 0
    # A polite kill cleans up as Ctrl-C does.
    before = {sent: signal.signal(sent, stop_once) for sent in (signal.SIGINT, signal.SIGTERM)}
    try:
        status = parse(arguments)()
        sys.stdout.flush()  # here, where a reader that left early is no fault
        return status
    except StreamstyleError as error:
        say_with_notes(f"{PROGRAM}: {error}", error)
        return 2
    except (MemoryError, RuntimeError) as error:  # torch's own is known by its name: torch is not imported here
        if not isinstance(error, MemoryError) and type(error).__name__ != "OutOfMemoryError":
            raise
        say_with_notes(f"{PROGRAM}: out of memory; give a smaller --size", error)
        return 2
    except KeyboardInterrupt as error:
        say_with_notes(f"{PROGRAM}: stopped", error, ("nothing half-written was left behind",))
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # the system refuses what nobody thought of: a name too long, a disk that fails
        place = error.filename or "the system"
        say_with_notes(f"{PROGRAM}: {place}: {error.strerror or error}; choose another place", error)
        return 2
    finally:
        for sent, handler in before.items():
            signal.signal(sent, handler)
