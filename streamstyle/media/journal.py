"""The journal of a job: what it is, a line a closed segment, and what it was putting in place when it was cut short.

::

    {"job": {…}}                                   all its pictures depend on
    {"segment": {…}, "crc": …, "beside": …, "checkpoint": …}  a line each
    {"complete": true}                             no more segments follow
    {"placing": {…}, "note": {…}}                  before anything is moved: what each file is known by; of the film
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

JOURNAL = "journal.jsonl"
_LONGEST_NAME_BYTES = 255
_PARTS = ("job", "segment", "placing", "note")
"""What a line may have that is more than a number, all of them groups."""


def parts_folder(target: Path) -> Path:
    """The work folder of a film to be written: ``film.mp4`` -> ``film.mp4.parts``, shortened where too long."""
    name = os.fsencode(target.name)[: _LONGEST_NAME_BYTES - len(".parts")].decode(errors="ignore")
    return target.with_name(name + ".parts")


def segment_file(folder: Path, number: int, suffix: str) -> Path:
    """Where in a work folder a segment's pictures are."""
    return folder / f"{number:06d}{suffix}"


def state_file(folder: Path, number: int) -> Path:
    """Where the state after a segment is."""
    return folder / f"{number:06d}.safetensors"


def beside_folder(folder: Path, number: int) -> Path:
    """Where what goes with a segment is."""
    return folder / f"{number:06d}"


class Placed:
    """What a job was putting in place when it was cut short, as its journal tells.

    Each file is known by what a move leaves as it is, and that is noted before any is moved: so there is no moment at
    which one that was moved is not known, and what somebody else puts there is no file of the job.

    Args:
        lines: of the journal; none where there is no such job.

    Attributes:
        job: the job.
        note: what was noted of the film, where it and all beside it are in place; else None.
    """

    def __init__(self, lines: Sequence[dict[str, Any]] = ()) -> None:
        self.job: dict[str, Any] = lines[0].get("job", {}) if lines else {}
        self.lines = [line for line in lines if isinstance(line.get("placing"), dict)]
        last = self.lines[-1] if self.lines else None
        places = {} if last is None else last["placing"]
        whole = places != {} and all(print_of(place) == known for place, known in places.items())
        self.note: dict[str, Any] | None = last["note"] if last is not None and whole else None

    @classmethod
    def beside(cls, target: Path) -> Placed:
        """As the journal tells that lies beside a film, of whatever job."""
        return cls(read_journal(parts_folder(target) / JOURNAL)[0])

    def has(self, path: Path) -> bool:
        """Whether what is there is of the job."""
        there = print_of(path)
        return there is not None and any(line["placing"].get(str(path)) == there for line in self.lines)


_IN_WORDS = {
    "look.objects": "--object",
    "look.called": "[rename]",
    "project": "--save-project",
    "options.output.layers.folder": "--layers",
    "options.output.layers.format": "--layer-format",
}
_FILES = ("mask", "tracks")


def plain(job: dict[str, Any]) -> dict[str, Any]:
    """A job as a journal gives it back."""
    return json.loads(json.dumps(job, default=str))


def changes(old: dict[str, Any], new: dict[str, Any], name: str = "") -> list[str]:
    """What differs between two jobs, options as they are typed, such as ``--crf``; groups are looked into."""
    found = []
    for key in dict.fromkeys([*old, *new]):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict) and key != "input":
            found += changes(a, b, f"{name}{key}.")
        elif a != b:
            found.append(_in_words(name + key))
    return found


def _in_words(name: str) -> str:
    """``options.output.crf`` as a person knows it: ``--crf``."""
    group, _, option = name.rpartition(".")
    if name in _IN_WORDS:
        return _IN_WORDS[name]
    if name in _FILES or group == "look" or group.startswith("options"):
        return f"--{option.replace('_', '-')}"
    return f"{option}'s version" if group == "version" else name


def read_journal(path: Path) -> tuple[list[dict[str, Any]], bool]:
    """The journal's lines up to the first that is none of a journal's, and whether there is one; no lines without a
    journal. A last line that is torn is no such line: that is how a kill leaves it."""
    lines = list[dict[str, Any]]()
    try:
        text = path.read_text(errors="replace")
    except FileNotFoundError:
        return lines, False
    except OSError:
        return lines, True
    for line in text.splitlines(keepends=True):
        if not line.endswith("\n"):
            break
        try:
            said = json.loads(line)
        except ValueError:
            return lines, True
        if not isinstance(said, dict) or not all(isinstance(said.get(key, {}), dict) for key in _PARTS):
            return lines, True
        if "job" not in (lines[0] if lines else said) or ("placing" in said) != ("note" in said):
            return lines, True
        lines.append(said)
    return lines, False


def print_of(path: str | Path) -> list[int] | None:
    """What a file is known by that is moved: which, how large and of when; None where there is none."""
    try:
        seen = os.lstat(path)
    except OSError:
        return None
    return [seen.st_ino, seen.st_size, seen.st_mtime_ns]
