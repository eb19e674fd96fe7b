"""A project: what a later run needs to paint a film again where its Look has changed, and only there.

::

    film.sstyle/
        project.json           format, sizes, the film's fingerprint, options, objects, segments; written last
        look.toml              the Look
        labels.npz             which object each pixel is of, in every frame; a label track as any other
        frames.npz             of each frame its time, shot, light, and the labels in it
        references/000012.npz  frames from which statistics were recorded, as they were read
        encoded/000000.mp4     closed segments of the painted film, as they are in it
        painted/000000.mkv     the same frames, bit for bit
        flow/000000.zip        the motion that calm went by in them, where there was calm: a flow track

Written beside its place and moved there when whole. See repaint for what is done with it, and Note [What is kept].
"""

# Note [What is kept]
# Encoded segments go into the next film packet by packet where nothing in them changes. Where something does, a frame
# needs its old pixels to the bit, which the encoded film does not have: so painted/ holds them, and is by far the
# largest part (see README). Statistics are not kept but recorded anew, from the same frames: a style that comes later
# has none, and a pass of the network a shot is little. Of optical flow what says where labels go is not kept, for those
# are here; what calm goes by is: a third of the time of a step of calm, for a fifth of what painted/ takes. It may be
# missing: then it is searched for again, and found the same. Segments and frames are linked, not copied, where one
# project follows another.

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from streamstyle.config import AnalysisOptions, Options, OutputOptions, StyleOptions, flag
from streamstyle.errors import InputError, OptionError, OutputError, StreamstyleError
from streamstyle.frames import Checkpoint, Faults, VideoInfo
from streamstyle.look import Look
from streamstyle.media.closed import KeptSegment, Segment
from streamstyle.media.disk import size_of, sync
from streamstyle.media.fingerprint import fingerprint
from streamstyle.media.flow_track import SUFFIX as FLOW_SUFFIX
from streamstyle.media.journal import changes
from streamstyle.media.label_track import LabelTrack
from streamstyle.media.lossless import SUFFIX

FORMAT, VERSION = "streamstyle project", 1
META, LOOK, LABELS, FRAMES = "project.json", "look.toml", "labels.npz", "frames.npz"
ENCODED, PAINTED, REFERENCES, FLOW = "encoded", "painted", "references", "flow"
PARTS = (META, LOOK, LABELS, FRAMES, ENCODED, PAINTED, REFERENCES, FLOW)
LITTER = (".DS_Store", "Thumbs.db", "desktop.ini")
"""What file managers leave in folders that they show."""
KINDS = {ENCODED: ENCODED, PAINTED: PAINTED, REFERENCES: REFERENCES, FLOW: FLOW, LABELS: "labels", FRAMES: "frames"}
"""Parts of a project and what its bytes are reported under."""
CHANGEABLE = ("feather", "strength", "keep_colors", "stroke_scale", "blend", "calm")
"""Options of painting that may be another with a project: pixels that they change are painted again."""
STATES = (7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24)
"""Forms of a job's state before today's whose projects are painted likewise: those of UNROUNDED without calm."""
UNROUNDED = (7,)
"""In which calm went by motion that was not rounded: frames that are kept would not match those painted again."""
ONLY_HOW = ("overwrite", "no_resume", "hwaccel")
AGAIN = "make it again: run without --project, with --save-project"


@dataclass(frozen=True)
class ProjectSegment:
    """A segment of the painted film, and where a reader of the film may go on after it: crc as of Checkpoint."""

    segment: Segment
    crc: int
    faults: Faults


@dataclass(frozen=True)
class ProjectFrames:
    """What is known of each of F frames.

    Attributes:
        pts: [F] int64.
        shots: [F] int64.
        light: [F, 2] float64, see frozen_statistics.light_of.
        labels: [*] uint16, those in the frames, one frame after another; ends: [F] int64, where each frame's end.
    """

    pts: np.ndarray
    shots: np.ndarray
    light: np.ndarray
    labels: np.ndarray
    ends: np.ndarray

    def __len__(self) -> int:
        return len(self.pts)

    def labels_in(self, i: int) -> tuple[int, ...]:
        """The labels in a frame, ascending."""
        return tuple(self.labels[self.ends[i - 1] if i else 0 : self.ends[i]].tolist())


class Project:
    """A project that was saved; nothing in it is changed.

    Args:
        path: its folder.

    Attributes:
        look: as it was painted last.
        options: likewise.
        names: each label's name; wore: the name by which it found its style in look, None for ``foreground``.
        objects: the report of the objects.
        segments: of the painted film, in order.
        painted_with: fingerprints of the paintings and networks, by their full paths.

    Raises:
        InputError: no project, of another version, or with parts missing or damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        _put_back(self.path)
        try:
            said = json.loads((self.path / META).read_text("utf-8"))
            if said["format"] != FORMAT:
                raise ValueError
        except NotADirectoryError:
            raise InputError(f"{path}: not a project but a file; give a folder of --save-project") from None
        except (OSError, ValueError, KeyError, TypeError):
            if (self.path / FRAMES).is_file():  # beside a description that is gone, or cut short
                raise InputError(f"{path}: damaged ({META} cannot be read); {AGAIN}") from None
            what = "not a project" if self.path.exists() else "no such project"
            raise InputError(f"{path}: {what}; give a folder of --save-project") from None
        if said["version"] != VERSION:
            raise InputError(f"{path}: a project of version {said['version']}, this is {VERSION}; {AGAIN}")
        try:
            self._read(said)
        except (OSError, ValueError, KeyError, TypeError, StreamstyleError) as error:
            raise InputError(f"{path}: damaged ({error}); {AGAIN}") from None

    def _read(self, said: dict[str, Any]) -> None:
        needed = {name: size for name, size in said["files"].items() if name.partition("/")[0] != FLOW}
        missing = [name for name, size in needed.items() if size_of(self.path / name) != size]
        if missing:
            raise ValueError(f"{missing[0]} is missing or cut short")
        self.film: dict[str, Any] = said["film"]
        self.same: dict[str, Any] = said["same"]
        self.painted_with: dict[str, Any] = said["painted_with"]
        self.files: dict[str, int] = said["files"]
        self.size: tuple[int, int] = tuple(said["size"])
        options = said["options"]
        groups = {"analysis": AnalysisOptions, "painting": StyleOptions, "output": OutputOptions}
        self.options = Options(
            **{name: group(**options[name]) for name, group in groups.items()}, device=options["device"]
        )
        self.look = Look.read(self.path / LOOK)
        self.names = {int(label): name for label, name in said["names"].items()}
        self.wore = {int(label): name for label, name in said["wore"].items()}
        self.objects: list[dict[str, Any]] = said["objects"]
        self.segments = [
            ProjectSegment(Segment(**each["segment"]), each["crc"], _faults(each["faults"]))
            for each in said["segments"]
        ]
        with np.load(self.path / FRAMES, allow_pickle=False) as held:
            self.frames = ProjectFrames(*(held[part] for part in ("pts", "shots", "light", "labels", "ends")))
        if sum(each.segment.frames for each in self.segments) != len(self.frames):
            raise ValueError("its frames do not add up")
        with LabelTrack(self.path / LABELS) as track:
            if len(track) != len(self.frames):
                raise ValueError(f"{LABELS} has {len(track)} frames of {len(self.frames)}")

    def file(self, kind: str, number: int) -> Path:
        """Where a segment of ENCODED, PAINTED or FLOW is, or a frame of REFERENCES."""
        return self.path / file_name(kind, number, self.segment_suffix)

    def bytes_of(self, kind: str, number: int) -> int:
        """Of such a file; 0 where the project has none."""
        return self.files.get(file_name(kind, number, self.segment_suffix), 0)

    @property
    def segment_suffix(self) -> str:
        """Of encoded segments."""
        return Path(next(name for name in self.files if name.startswith(ENCODED))).suffix

    def kept(self, number: int) -> KeptSegment:
        """A segment, to be put into another film as it is."""
        return KeptSegment(self.segments[number].segment, self.file(ENCODED, number), self.after(number))

    def after(self, number: int) -> Checkpoint:
        """Where the film is read on after a segment."""
        last = self.segments[number]
        return Checkpoint(last.segment.last_pts, last.crc, {}, last.faults)

    def reference(self, frame: int) -> tuple[np.ndarray, ...]:
        """Planes [1, H, W] of a frame from which statistics were recorded."""
        path = self.file(REFERENCES, frame)
        try:
            with np.load(path, allow_pickle=False) as held:
                return held["y"], held["u"], held["v"]
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{path}: damaged ({error}); {AGAIN}") from None

    def options_with(self, said: Options, typed: Collection[str] = ()) -> Options:
        """The project's options and, of those said that are no defaults or are typed, what may be another.

        Args:
            said: options; a default says nothing ...
            typed: ... unless it is named here.

        Raises:
            OptionError: another would change pixels everywhere, or where objects are.
        """
        fresh, held = asdict(Options()), asdict(self.options)
        taken: dict[str, dict[str, Any]] = {"painting": {}, "output": {}}
        meant = [f"{group}.{name}" for group, held_in in fresh.items() if isinstance(held_in, dict) for name in held_in]
        meant = [name for name in meant if name.rpartition(".")[2] in typed]
        for name in dict.fromkeys([*changes(fresh, asdict(said)), *meant]):
            group, _, option = name.rpartition(".")
            value, there = getattr(getattr(said, group) if group else said, option), held[group] if group else held
            if option == "device":
                continue  # what it comes to is told by check
            if option in (*CHANGEABLE, *ONLY_HOW):
                taken[group][option] = value
            elif value != there[option]:
                before = f"with {there[option]}" if there[option] is not None else "without it"
                raise OptionError(
                    f"{flag(option)} {value}: the project was painted {before}, and this would change all of it; leave "
                    f"it out, or {AGAIN}"
                )
        taken["output"] |= {name: getattr(said.output, name) for name in ("overwrite", "no_resume")}  # of one run
        return replace(
            self.options,
            painting=replace(self.options.painting, **taken["painting"]),
            output=replace(self.options.output, **taken["output"]),
            device=said.device if said.device != "auto" else self.options.device,
        )

    def check_film(self, info: VideoInfo) -> None:
        """Refuse another film: InputError."""
        now = fingerprint(info.path)
        if any(self.film.get(part) != now.get(part) for part in now if part != "changed_ns"):
            raise InputError(f"{info.path}: is not the film {self.path} is of; give that one, or {AGAIN}")

    def check(self, same: dict[str, Any]) -> None:
        """Refuse what would paint every pixel otherwise.

        Args:
            same: what the job's pictures depend on, as of what_must_stay.

        Raises:
            OptionError: another version, device or precision, or an earlier version's calm.
        """
        state = self.same.get("state")
        if state in UNROUNDED and self.options.painting.calm > 0:
            raise OptionError(f"{self.path}: was painted by an earlier version, with another calm; {AGAIN}")
        held = self.same | ({"state": same["state"]} if state in STATES else {})
        if changed := changes(held, json.loads(json.dumps(same, default=str))):
            raise OptionError(f"{self.path}: was painted with another {', '.join(changed)}; {AGAIN}")


def what_must_stay(identity: dict[str, Any]) -> dict[str, Any]:
    """Of a job's identity what a project cannot be without: all else is in its options, its Look or its film."""
    return {name: identity[name] for name in ("version", "encoder", "device", "precision", "state")}


def file_name(kind: str, number: int, suffix: str) -> str:
    """Of a part of a project, in it; suffix is that of encoded segments."""
    suffixes = {ENCODED: suffix, PAINTED: SUFFIX, REFERENCES: ".npz", FLOW: FLOW_SUFFIX}
    return f"{kind}/{number:06d}{suffixes[kind]}"


def bytes_by_kind(files: dict[str, int]) -> dict[str, int]:
    """Bytes of a project's files, by kind."""
    found = dict.fromkeys(KINDS.values(), 0)
    for name, size in files.items():
        kind = KINDS.get(name.partition("/")[0])
        if kind is not None:
            found[kind] += size
    return found


def check_place(path: str | Path, *, overwrite: bool, going_on: Path | None = None) -> None:
    """Refuse before any work what could not be saved.

    Raises:
        OutputError: something else is there, or in the project that is there; or the folder it is to be in is not; or a
            project that is neither the one gone on from nor to be replaced.
    """
    path = Path(path)
    parent = Path(os.path.abspath(path)).parent
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"--save-project {path}: {parent} is no folder to write in; make it, or choose another place")
    if not path.exists():
        return
    if not (path / META).is_file() and (not path.is_dir() or any(path.iterdir())):
        raise OutputError(f"--save-project {path}: is there and no project; give another name")
    if (path / META).is_file() and not overwrite and not (going_on and os.path.samefile(going_on, path)):
        raise OutputError(f"--save-project {path}: exists; add --overwrite, or give another name")
    for stranger in _strangers(path):
        raise OutputError(
            f"--save-project {path}: holds {stranger}, which is no part of a project; move it elsewhere first"
        )


def _strangers(path: Path) -> Iterator[Path]:
    """What lies in a project's folder and is not of it, and would be lost with it."""
    try:
        own = set(json.loads((path / META).read_text("utf-8"))["files"])
    except (OSError, ValueError, LookupError, TypeError):
        own = set()  # a damaged one: what has the names of a project's parts is taken for them
    for entry in sorted(path.rglob("*")):
        within = entry.relative_to(path)
        known = within.as_posix() in own if own else within.parts[0] in PARTS
        if (
            not (entry.is_dir() and not entry.is_symlink())
            and not known
            and within.as_posix() not in (META, LOOK, *LITTER)
        ):
            yield within


def put_in_place(new: Path, path: Path) -> None:
    """Have a folder stand where another may be, which is kept beside it until forget_old."""
    old = _aside(path)
    if path.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.rename(path, old)
    try:
        os.rename(new, path)
    except (OSError, KeyboardInterrupt):
        _put_back(path)
        raise
    sync(path.parent)


def take_back(new: Path, path: Path) -> None:
    """Undo put_in_place."""
    os.rename(path, new)
    _put_back(path)


def forget_old(path: Path) -> None:
    """Remove what was there before put_in_place."""
    shutil.rmtree(_aside(path), ignore_errors=True)


def _put_back(path: Path) -> None:
    """Where putting a new one in place was cut off half-way, the old one is there again."""
    old = _aside(path)
    if not path.exists() and old.is_dir():
        os.rename(old, path)


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def _faults(said: dict[str, Any]) -> Faults:
    return Faults(**{**said, "other_sizes": tuple(tuple(each) for each in said["other_sizes"])})


def seconds_of(info: VideoInfo, pts: int) -> float:
    """A frame's time after the film's first, as painting knows it."""
    return float((pts - info.start_pts) * Fraction(info.time_base))
