"""What objects are called in the end: the ``[[merge]]`` and ``[rename]`` of a Look."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from streamstyle.errors import OptionError


def final_name(name: str, called: dict[str, str]) -> str:
    """What an object is called in the end."""
    while name in called:
        name = called[name]
    return name


def refuse_circles(called: dict[str, str]) -> None:
    """OptionError where following the new names comes back to where it began."""
    for name in called:
        now, seen = name, {name}
        while now in called:
            now = called[now]
            if now in seen:
                raise OptionError(f"object '{name}' is renamed in a circle; leave one of its names out of it")
            seen.add(now)


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
