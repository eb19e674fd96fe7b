"""Every option, once: its name, default, range, unit and help.

The command line (tyro), the option tables in README and the checks of values are all made from these frozen
dataclasses. Nothing heavy is imported here, so that ``streamstyle --help`` is quick.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

import tyro
from typing_extensions import Doc

from streamstyle.arguments import SECONDS, default_hint
from streamstyle.errors import OptionError

Device = Literal["auto", "cpu", "cuda"]
EdgeSide = Literal["1", "2", "3", "4", "5", "fuse"]


@dataclass(frozen=True)
class Range:
    """Closed range of a number, with its unit."""

    low: float
    high: float
    unit: str = ""


class Checked:
    """Mixin: after construction every field with a Range or a Literal type is checked against it."""

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self), include_extras=True)
        for option in dataclasses.fields(self):  # type: ignore[arg-type]
            _check(option.name, getattr(self, option.name), hints[option.name])


def flag(name: str) -> str:
    """The command-line spelling of an option's field name: ``edge_side`` -> ``--edge-side``."""
    return "--" + name.replace("_", "-")


def _check(name: str, value: Any, hint: Any) -> None:
    if value is None:
        return
    base, *notes = get_args(hint) if hasattr(hint, "__metadata__") else (hint,)
    if base == Literal["auto"] | int and value == "auto":
        return
    for note in notes:
        if isinstance(note, Range):
            try:
                number = float(value)
            except (TypeError, ValueError):
                raise OptionError(f"{flag(name)} {value}: not a number; give {note.low:g} to {note.high:g}") from None
            if not math.isfinite(number) or not note.low <= number <= note.high:
                unit = f" {note.unit}" if note.unit else ""
                raise OptionError(f"{flag(name)} {value}: out of range; give {note.low:g} to {note.high:g}{unit}")
    choices = get_args(base)
    if choices and all(isinstance(choice, str) for choice in choices) and value not in choices:
        raise OptionError(f"{flag(name)} {value}: unknown; give one of {', '.join(choices)}")


@dataclass(frozen=True)
class StyleChoices(Checked):
    """Which style goes where."""

    style: Annotated[
        str | None,
        tyro.conf.arg(metavar="STYLE", help_behavior_hint=default_hint),
        Doc(
            "Style of everything not otherwise said: a built-in one (see `streamstyle styles`); a painting "
            "(night.jpg, a crop night.jpg#X,Y,W,H, a folder of them); a network (candy.safetensors); a blend "
            "(night.jpg:0.7+wave:0.3); keyframes (none@2 > wave@4); none. A path with any of ; + > # : @ = in it goes "
            "in quotes. How it is worn may follow: "
            "'wave; strength=0.6; keep-colors; scale=2; feather=20; blend=soft-light'."
        ),
    ] = None
    background: Annotated[
        str | None, tyro.conf.arg(metavar="STYLE", help_behavior_hint=default_hint), Doc("Style of the background.")
    ] = None
    foreground: Annotated[
        str | None,
        tyro.conf.arg(metavar="STYLE", help_behavior_hint=default_hint),
        Doc("Style of every object not named."),
    ] = None
    object: Annotated[
        tuple[str, ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(metavar="NAME@X,Y[@SECONDS]=STYLE"),
        Doc(
            "The object under pixel X,Y of the first frame (or of the frame at SECONDS or [HH:]MM:SS), called NAME. "
            "A region's number from `streamstyle preview` may stand for the point: NAME@#3=STYLE; so may words, with a "
            "--segmenter that takes them: 'NAME@\"white swan\"=STYLE'. Further places of an object need no style: "
            "NAME@X,Y@SECONDS; -NAME@X,Y@SECONDS says what is no part of it from then on."
        ),
    ] = ()
    mask: Annotated[
        Path | None,
        tyro.conf.arg(metavar="FIRST.png", help_behavior_hint=default_hint),
        Doc(
            "The objects of the first frame that is painted: a palette PNG, black and white, or one colour an object. "
            "Its labels are named so: NAME@mask1=STYLE."
        ),
    ] = None
    tracks: Annotated[
        Path | None,
        tyro.conf.arg(metavar="LABELS.npz", help_behavior_hint=default_hint),
        Doc(
            "Where the objects are, from `streamstyle tracks IN --out LABELS.npz`: nothing is analysed again, and an "
            "object needs no place: NAME=STYLE. Places that are given are not looked at."
        ),
    ] = None
    look: Annotated[
        Path | None,
        tyro.conf.arg(metavar="LOOK.toml", help_behavior_hint=default_hint),
        Doc("Read these choices from a Look file."),
    ] = None


@dataclass(frozen=True)
class LookOptions(StyleChoices):
    """Which style goes where, and a file to keep that in."""

    save_look: Annotated[
        Path | None,
        tyro.conf.arg(metavar="LOOK.toml", help_behavior_hint=default_hint),
        Doc("Write the choices to a Look file, to use again."),
    ] = None
    project: Annotated[
        Path | None,
        tyro.conf.arg(metavar="FILM.sstyle", help_behavior_hint=default_hint),
        Doc(
            "Go on from a project: its Look, changed by what is said here, and its options; only frames and pixels "
            "that this touches are painted, and nothing is analysed."
        ),
    ] = None
    save_project: Annotated[
        Path | None,
        tyro.conf.arg(metavar="FILM.sstyle", help_behavior_hint=default_hint),
        Doc(
            "Keep in this folder what --project needs; with --project it may be the same. It takes some times the "
            "room of the film."
        ),
    ] = None


@dataclass(frozen=True)
class AnalysisOptions(Checked):
    """How objects are found and followed."""

    segmenter: Annotated[
        str,
        tyro.conf.arg(metavar="regions|components|NAME:ARGUMENT"),
        Doc(
            "regions: areas behind walls of edges, by --detail; components: DeepGIF's, the largest edge-free "
            "area is the background and the connected rest are the regions; or another's, such as "
            "sam2:CHECKPOINT."
        ),
    ] = "regions"
    detail: Annotated[
        float,
        Range(0, 1),
        Doc("Regions that a person sees and numbers: 0 is none but the background, 1 is all that edges part."),
    ] = 0.35
    tracker: Annotated[
        Literal["appearance", "overlap"],
        Doc(
            "appearance: objects keep what they look like and how they move, and what moves by itself, or stands "
            "out of a plain ground, wears --foreground; overlap: every region is an object and takes the one it "
            "overlaps most, with components DeepGIF as published."
        ),
    ] = "appearance"
    edge_side: Annotated[
        Literal["auto", "1", "2", "3", "4", "5", "fuse"],
        Doc(
            "HED's side output: 1 fine .. 5 coarse, or all five fused; auto: what a narrow network gives, which was "
            "taught by side 3 and takes a third of its time, and HED's 2 for components."
        ),
    ] = "auto"
    threshold: Annotated[Literal["local", "global"], Doc("Otsu threshold of the edges, for components.")] = "local"
    analysis_size: Annotated[int, Range(64, 1080, "px"), Doc("Short side of the picture that is analysed.")] = 240
    min_area: Annotated[
        float, Range(0, 50, "%"), Doc("Regions smaller than this, in percent of the frame, join the background.")
    ] = 0.05
    analyse_every: Annotated[
        Literal["auto"] | int,
        tyro.conf.arg(metavar="auto|N"),
        Range(1, 1000, "frames"),
        Doc(
            "Look for objects in every Nth frame; those between are known along optical flow, from both sides where N "
            "is at most 16; auto: all on CUDA and with --tracker overlap --segmenter components; on a CPU every 8th, "
            "and others where motion leaves doubt, or every 4th with --tracker overlap."
        ),
    ] = "auto"


@dataclass(frozen=True)
class StyleOptions(Checked):
    """How the paint is put on."""

    feather: Annotated[float, Range(0, 200, "px"), Doc("Width of the soft border between two styles.")] = 6.0
    strength: Annotated[float, Range(0, 1), Doc("How far styles are worn: 0 is the picture, 1 all painted.")] = 1.0
    keep_colors: Annotated[
        bool, Doc("Paint light and dark alone; the picture keeps its colours. --no-keep-colors takes that back.")
    ] = False
    stroke_scale: Annotated[
        float,
        Range(0.1, 10),
        Doc("Size of the strokes; 2 are twice as large. From 480 lines on, 1 is the same part of any picture."),
    ] = 1.0
    blend: Annotated[
        Literal["normal", "luminosity", "soft-light"],
        Doc("How paint lies on the picture; luminosity is normal with the picture's colours."),
    ] = "normal"
    calm: Annotated[
        float,
        Range(0, 1),
        Doc("Hold strokes still along the film's motion: 0 paints each frame by itself and flickers."),
    ] = 0.0
    statistics: Annotated[
        Literal["frozen", "frame"],
        Doc(
            "frozen: each style's normalisation is recorded on a reference frame, and again after a cut or a slow "
            "change of light; frame: every frame by its own (one style over the whole frame only)."
        ),
    ] = "frozen"
    precision: Annotated[
        Literal["auto", "float32", "bfloat16", "float16", "int8"],
        Doc(
            "Arithmetic of the networks; auto: float16 on CUDA, bfloat16 on a processor that has it, else int8 (8-bit "
            "integers around a trunk in float32) on x86, else float32."
        ),
    ] = "auto"
    compile: Annotated[
        Literal["auto", "on", "off"],
        Doc("torch.compile the per-pixel style lookup; auto: for several styles on a clip long enough to pay for it."),
    ] = "auto"


Fps = Annotated[
    float | None,
    tyro.conf.arg(metavar="FPS", help_behavior_hint=default_hint),
    Range(0.1, 1000, "1/s"),
    Doc("Frames a second of a folder of pictures; default: 25. A film has its own."),
]
"""Of a command that reads films."""


@dataclass(frozen=True)
class OutputOptions(Checked):
    """What is read and what is written."""

    size: Annotated[
        int | None,
        tyro.conf.arg(metavar="PX", help_behavior_hint=default_hint),
        Range(16, 8192, "px"),
        Doc("Scale the film to this short side; default: as it is."),
    ] = None
    start: Annotated[
        float,
        SECONDS,
        Range(0, 1e6, "s"),
        Doc("Start this far into the film: what is said of the first frame is said of this one."),
    ] = 0.0
    duration: Annotated[
        float | None,
        SECONDS,
        tyro.conf.arg(help_behavior_hint=default_hint),
        Range(0.001, 1e6, "s"),
        Doc("Stop after this long."),
    ] = None
    fps: Fps = None
    codec: Annotated[
        Literal["h264", "hevc", "av1", "prores"],
        Doc("Video codec of OUT; av1 goes into .mp4 and .mkv, prores into .mov and .mkv, the others into all."),
    ] = "h264"
    encoder: Annotated[
        str,
        tyro.conf.arg(metavar="auto|software|NAME"),
        Doc(
            "auto: this machine's hardware encoder if a trial of it works, else software; software: the same film on "
            "every run; or FFmpeg's name of one, such as h264_nvenc."
        ),
    ] = "auto"
    crf: Annotated[
        int | None,
        tyro.conf.arg(metavar="N", help_behavior_hint=default_hint),
        Range(0, 51),
        Doc("Quality: lower is better and larger; default: 20 for h264, 22 for hevc, 30 for av1; prores has none."),
    ] = None
    preset: Annotated[
        Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow"],
        Doc("Encoder's effort, in x264's words: slower is smaller."),
    ] = "veryfast"
    hwaccel: Annotated[
        str,
        tyro.conf.arg(metavar="off|auto|NAME"),
        Doc(
            "Decode IN on a hardware decoder; auto: whatever decodes its first frames fastest, timed here; or FFmpeg's "
            "name of one, such as cuda."
        ),
    ] = "off"
    layers: Annotated[
        Path | None,
        tyro.conf.arg(metavar="DIR", help_behavior_hint=default_hint),
        Doc(
            "Write into this folder, for an editor, each object as a film of its own with alpha: background, "
            "foreground (objects without a name) and each named one."
        ),
    ] = None
    layer_format: Annotated[
        Literal["prores", "vp9", "png"],
        Doc(
            "Of --layers: prores (NAME.mov, ProRes 4444), vp9 (NAME.webm) or png (a folder NAME with 000000.png and so "
            "on; no times)."
        ),
    ] = "prores"
    overwrite: Annotated[
        bool,
        tyro.conf.FlagCreatePairsOff,
        Doc("Replace OUT, layers of the same names and the project of --save-project, if they exist."),
    ] = False
    no_resume: Annotated[
        bool,
        tyro.conf.FlagCreatePairsOff,
        Doc("Begin anew, and keep nothing when stopped; without it the same command goes on where it was stopped."),
    ] = False


@dataclass(frozen=True)
class Options(Checked):
    """All options of one job but the Look."""

    analysis: Annotated[AnalysisOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=AnalysisOptions)
    painting: Annotated[StyleOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=StyleOptions)
    output: Annotated[OutputOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=OutputOptions)
    device: Annotated[Device, Doc("Where to compute; auto: CUDA if there is one.")] = "auto"


def option_table() -> str:
    """Every option of ``streamstyle run`` as a Markdown table; README holds it, and a test compares."""
    rows = ["| option | default | what it does |", "|---|---|---|"]
    for group in (LookOptions, AnalysisOptions, StyleOptions, OutputOptions, Options):
        hints = get_type_hints(group, include_extras=True)
        for option in dataclasses.fields(group):
            _, *notes = get_args(hints[option.name]) if hasattr(hints[option.name], "__metadata__") else (None,)
            text = next((note.documentation for note in notes if isinstance(note, Doc)), None)
            if text is None:
                continue  # a group of options, listed for itself
            ranges = [note for note in notes if isinstance(note, Range)]
            limits = "".join(f" {r.low:g} to {r.high:g} {r.unit}".rstrip() + "." for r in ranges)
            said_nothing = option.default is None or option.default is False or option.default == ()
            default = "" if said_nothing else f"`{option.default}`"
            rows.append(f"| `{flag(option.name)}` | {default} | {(text + limits).replace('|', chr(92) + '|')} |")
    return "\n".join(rows)
