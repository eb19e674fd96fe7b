"""How the command line reads numbers and times, shows defaults, and says in one line what it did not understand."""

from __future__ import annotations

import contextlib
import difflib
import inspect
import io
import itertools
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from streamstyle.errors import OptionError

T = TypeVar("T")
NUMBERS = ConstructorRegistry()
"""Reads int, float, and either of them or None or a word; tyro's own readers speak of Python."""

_NUMBER_NAMES: dict[type, str] = {int: "whole number", float: "number"}
_ASIDES = ("For full", "Similar", "Argument helptext", "Available", "Perhaps you meant", "Arguments similar")


def default_hint(label: str) -> str:
    """What the help says of a default; nothing where there is none."""
    return "" if label == "None" else f"(default: {label})"


def in_short(command: Callable[..., Any]) -> Callable[..., Any]:
    """A command's class with the first paragraph of its description, for a list of commands."""
    said = (inspect.getdoc(command) or "").partition("\n\n")[0]
    return type(command.__name__, (command,), {"__doc__": said, "__module__": command.__module__})  # type: ignore[arg-type]


def options_in(words: Sequence[str]) -> frozenset[str]:
    """Names of the options among a command's words, as fields have them: keep_colors for --keep-colors, and for
    --no-keep-colors, too."""
    typed = [_name(word)[2:] for word in words if word.startswith("--")]
    return frozenset([*typed, *(name.removeprefix("no_") for name in typed)])


def _name(word: str) -> str:
    """An option's, without its value, with one spelling for those with dashes and underscores: ``__keep_colors``."""
    return word.partition("=")[0].replace("-", "_")


def joined_removals(arguments: list[str]) -> list[str]:
    """``--object -swan@50,60@3`` as one word: the parser would take the second for an option."""
    joined: list[str] = []
    for word in arguments:
        if joined and joined[-1] == "--object" and word.startswith("-") and "@" in word:
            joined[-1] = f"--object={word}"
        else:
            joined.append(word)
    return joined


def seconds(text: str) -> float:
    """A time in seconds, from ``90.5`` or ``[HH:]MM:SS[.f]``; ValueError for anything else."""
    *whole, last = text.split(":")
    digits = all(part.isascii() and part.isdigit() for part in whole)
    if len(whole) <= 2 and digits and (not whole or last[:1].isdigit()):
        with contextlib.suppress(ValueError):
            time_s = float(last)
            minutes = int(whole[-1]) if whole else 0
            if not whole or (time_s < 60 and (len(whole) == 1 or minutes < 60)):
                return (int(whole[0]) * 3600 if len(whole) == 2 else 0) + minutes * 60 + time_s
    raise ValueError(f"{text}: not a time; give seconds or [HH:]MM:SS")


SECONDS = PrimitiveConstructorSpec[float | None](
    nargs=1,
    metavar="SECONDS|[HH:]MM:SS",
    instance_from_str=lambda words: seconds(words[0]),
    is_instance=lambda value: value is None or isinstance(value, int | float),
    str_from_instance=lambda value: [str(value)],
)
"""Of options that are times."""


@NUMBERS.primitive_rule
def _number(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    members = (info.type,) if info.type in _NUMBER_NAMES else get_args(info.type)
    kinds = [member for member in members if member in _NUMBER_NAMES]
    others = [member for member in members if member not in _NUMBER_NAMES and member is not NoneType]
    if len(kinds) != 1 or any(get_origin(other) is not Literal for other in others):
        return None
    kind, words = kinds[0], [word for other in others for word in get_args(other)]

    def read(texts: list[str]) -> Any:
        if texts[0] in words:
            return texts[0]
        with contextlib.suppress(ValueError):
            return kind(texts[0])
        raise ValueError(f"{texts[0]}: not {' or '.join(['a ' + _NUMBER_NAMES[kind], *words])}")

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="|".join([*words, kind.__name__.upper()]),
        instance_from_str=read,
        is_instance=lambda value: value is None or value in words or isinstance(value, int | kind),
        str_from_instance=lambda value: [str(value)],
    )


@NUMBERS.primitive_rule
def _path(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    if set(get_args(info.type) or (info.type,)) - {NoneType} != {Path}:
        return None

    def read(texts: list[str]) -> Path:
        if not texts[0]:  # else the folder one is in
            raise ValueError("is empty: a shell variable that is not set? Name a file or a folder")
        return Path(texts[0])

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=read,
        is_instance=lambda value: value is None or isinstance(value, Path),
        str_from_instance=lambda value: [str(value)],
    )


def _no_place(words: Sequence[str]) -> str:
    """What is said of words that tyro has no place for: of options among them, as the rest may be their values."""
    options = [word for word in words if word.startswith("-")]
    return (
        f"Unrecognized options: {', '.join(options)}" if options else f"{', '.join(words)}: no place for so many words"
    )


_REWORDED: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
    (r"Unrecognized options: (.*)", lambda seen: _no_place(seen[1].split(", "))),
    (r"Missing value for argument '(\S+)'.*", lambda seen: f"{seen[1]} needs a value"),
    (r"Missing from (.+?): (\S+) .*", lambda seen: f"{seen[2]} is missing"),
    (r"Error parsing (\S+): (.*)", lambda seen: f"{seen[1]} {seen[2]}"),
    (
        r"invalid choice '(.*)' for argument '(\S+?)'\. Expected one of \((.*)\)",
        lambda seen: f"{seen[2]} {seen[1]}: unknown; give one of {seen[3].rstrip(',').replace(chr(39), '')}",
    ),
)


@contextlib.contextmanager
def one_line_usage_errors(
    program: str, words: Sequence[str] = (), options: Callable[[], Sequence[str]] = tuple
) -> Iterator[None]:
    """Turn tyro's box about a wrong command line into one line with the mend.

    Args:
        program: what to ask for help.
        words: of the command line.
        options: gives those that there are, such as ``--crf``; asked only where something is wrong.
    """
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            yield
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        said = _unknown(words, options()) or _reworded(told.getvalue())
        raise OptionError(f"{said or 'not understood'}; see `{program} --help`") from None


def read_command(command: Callable[..., T], program: str, words: Sequence[str]) -> T:
    """What a command's words make; OptionError, in one line, where they make nothing."""
    how: dict[str, Any] = {"prog": program, "config": (tyro.conf.HelptextFromCommentsOff,), "registry": NUMBERS}

    def printed() -> None:
        tyro.cli(command, args=["--help"], **how)

    with one_line_usage_errors(program, words, lambda: options_of(printed)):
        return tyro.cli(command, args=words, **how)


def options_of(print_help: Callable[[], None]) -> list[str]:
    """The options that a help text is about, as it is printed by a call that then exits, and its OUT; not those it only
    mentions."""
    told, columns = io.StringIO(), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "80"  # wider ones have two boxes side by side
    try:
        with contextlib.redirect_stdout(told), contextlib.suppress(SystemExit):
            print_help()
    finally:
        del os.environ["COLUMNS"]
        if columns is not None:
            os.environ["COLUMNS"] = columns
    rows = [re.match(r"[│ ] (--?[a-z].*?)(  |│|$)", line) for line in told.getvalue().splitlines()]
    found = {option for row in rows if row for option in re.findall(r"(?<![\w-])--[a-z][\w-]*", row[1])}
    return sorted(found | set(re.findall(r"^[│ ] +(OUT[.\w]*)  ", told.getvalue(), re.MULTILINE)))


def _unknown(words: Sequence[str], options: Sequence[str]) -> str:
    """What is said of options that there are not, with what each may have been meant for; empty where all are."""
    known = set(map(_name, options))
    strange, meant = list[str](), list[str]()
    for word in dict.fromkeys(itertools.takewhile(lambda word: word != "--", words)):
        name = word.partition("=")[0]
        output = name in ("-o", "--out", "--output")  # as other programs call it
        if not (output or re.match(r"-[A-Za-z][\w-]|--\w", name)) or _name(name) in known:
            continue
        if output:
            near = [
                option if option[0] == "-" else f"{option}, the word after IN" for option in options if _out(option)
            ]
        else:
            near = difflib.get_close_matches(name, options, n=1)
        if near or output or name.startswith("--"):  # -b.mp4 may be a file
            strange.append(name)
            meant += near
    hint = f"; did you mean {', '.join(dict.fromkeys(meant))}" if meant else ""
    return f"Unrecognized options: {', '.join(dict.fromkeys(strange))}{hint}" if strange else ""


def _out(option: str) -> bool:
    """Whether it says where the output goes: ``--out``, ``--sheet``, ``--plot``, OUT or OUT.png."""
    return option.lstrip("-").upper().partition(".")[0] in ("OUT", "SHEET", "PLOT")


def _reworded(told: str) -> str:
    """What tyro's box says, in a line."""
    box = [line.strip(" │\n") for line in told.splitlines()]
    rules = [i for i, line in enumerate(box) if line and set(line) == {"-"}]  # a terminal without Unicode
    if rules:
        box = box[rules[0] + 1 : rules[1] if len(rules) > 1 else None]
    words = [line for line in box if line and line[0] not in "╭╰├─"]
    said = " ".join(itertools.takewhile(lambda line: not line.startswith(_ASIDES), words)).rstrip(".")
    for pattern, reworded in _REWORDED:
        if seen := re.fullmatch(pattern, said):
            said = reworded(seen)
    return said
