"""What objects are called in the end, by a Look's ``[[merge]]`` and ``[rename]``; and which names are nobody's."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from streamstyle.errors import OptionError

NUMBERED = "; who has no name has a number in a label track: give it with --tracks"
"""What to do about a renaming of an object that has none."""


def final_name(name: str, called: dict[str, str]) -> str:
    """What an object is called in the end."""
    while name in called:
        name = called[name]
    return name


def unknown_names(
    wanted: Iterable[str], called: dict[str, str], said: Iterable[str], path: str | Path, mend: str = ""
) -> list[str]:
    """The names that a Look has and no object of a film does, a line each, with those that do appear.

    Args:
        wanted: what the Look's objects are called in the end.
        called: its renamings. Where a new name is an object's and none of the old ones is, this Look gave it the name.
        said: the objects' names, before they are renamed.
        path: what they were read from.
        mend: what to do about it.
    """
    before = set(said)
    after = {final_name(name, called) for name in before}
    passed = set[str]()
    for name in before:
        while name in called:
            passed.add(name)
            name = called[name]
    given = {final for final in before if not any(final_name(name, called) == final for name in passed)}
    gone = [name for name in called if name not in passed and final_name(name, called) not in given]
    who = [(f"object '{name}'", after) for name in dict.fromkeys(wanted) if name not in after]
    who += [(f"object '{name}', renamed '{called[name]}'", before) for name in gone]
    return [
        f"{what}: never appears, {path} has no such object; "
        + (f"it has {', '.join(sorted(there))}" if there else "it names none")
        + mend
        for what, there in who
    ]


def renamed_nobody(called: dict[str, str], names: Iterable[str]) -> list[str]:
    """A line for each renaming of an object that is not; names: what those there are called in the end."""
    there = sorted(set(names))
    return [
        f"object '{old}', renamed '{new}': nobody is called so; named were: {', '.join(there) or 'none'}"
        + (NUMBERED if re.fullmatch(r"object \d+", old) else "")
        for old, new in called.items()
        if final_name(old, called) not in there
    ]


def refuse_circles(called: dict[str, str]) -> None:
    """OptionError where following the new names comes back to where it began."""
    for name in called:
        now, seen = name, {name}
        while now in called:
            now = called[now]
            if now in seen:
                raise OptionError(f"object '{name}' is renamed in a circle; leave one of its names out of it")
            seen.add(now)


def refuse_parts(parts: Iterable[str], names: Iterable[str]) -> None:
    """OptionError where an object is, or shall be, called as a part of the picture that a Look styles by that word."""
    for name in sorted(set(parts) & set(names)):
        raise OptionError(
            f"object '{name}': the word has a meaning of its own; choose another name, and where the object is to look "
            f"as that does, give it the same style"
        )


def called_from(path: str | Path, merges: list[Any], rename: Any) -> tuple[dict[str, str], dict[str, str]]:
    """(name -> new name, new name -> style) from ``[[merge]]`` and ``[rename]``."""
    called: dict[str, str] = {}
    worn: dict[str, str] = {}
    try:
        pairs = [(old, new) for old, new in rename.items()]
        for table in merges:
            into, olds = table["into"], table["objects"]
            if set(table) - {"into", "objects", "style"} or not isinstance(olds, list) or not olds:
                raise ValueError
            if all(old == into for old in olds):
                raise OptionError(
                    f"Look '{path}': a [[merge]] of '{into}' into itself; name another in objects, or leave it out"
                )
            pairs += [(old, into) for old in olds if old != into]
            if "style" in table:
                worn[into] = str(table["style"])
        for old, new in pairs:
            if not isinstance(old, str) or not isinstance(new, str) or not new:
                raise ValueError
            if called.setdefault(old, new) != new:
                raise OptionError(f"Look '{path}': object '{old}' becomes both '{called[old]}' and '{new}'; choose one")
    except (TypeError, ValueError, KeyError, AttributeError):
        raise OptionError(
            f'Look \'{path}\': a [[merge]] needs into = "name" and objects = ["name", ...], and may have style; '
            '[rename] has lines "name" = "new name"'
        ) from None
    refuse_circles(called)
    return called, {final_name(into, called): style for into, style in worn.items()}
