"""A Look's file as tables: what cannot be read, is no TOML, or has keys that no Look has, is refused in a line."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from streamstyle.errors import OptionError

PARTS = ("style", "background", "foreground")
"""What a Look styles without naming an object."""


def read_look_file(path: str | Path) -> dict[str, Any]:
    """What a Look file says; OptionError where it is missing, is not TOML, or has an unknown key."""
    try:
        said = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise OptionError(f"Look '{path}': no such file; check the name") from None
    except IsADirectoryError:
        raise OptionError(f"Look '{path}': a folder; give the Look file in it") from None
    except OSError as error:
        raise OptionError(f"Look '{path}': cannot be read ({error.strerror}); check its path and its mode") from None
    except UnicodeDecodeError:
        raise OptionError(f"Look '{path}': not text in UTF-8; save it so") from None
    except tomllib.TOMLDecodeError as error:
        raise OptionError(f"Look '{path}': not TOML: {error}") from None
    unknown = set(said) - {*PARTS, "object", "merge", "rename"}
    if unknown:
        raise OptionError(
            f"Look '{path}': unknown key '{min(unknown)}'; a Look has style, background, foreground, [[object]], "
            "[[merge]], [rename]"
        )
    return said


def tables(said: Any) -> list[Any]:
    """What ``[[...]]`` gave; one None, which is no table either, for anything else."""
    return said if isinstance(said, list) else [None]
