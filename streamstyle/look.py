"""A Look: which object gets which style. Made from the command line, read from and written to TOML."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from streamstyle.config import LookOptions
from streamstyle.errors import OptionError, OutputError
from streamstyle.styles import NONE, style_name

OBJECT_FORM = re.compile(
    r"(?P<name>[^@=]+)@(?:(?P<x>\d+)\s*,\s*(?P<y>\d+)|#(?P<region>\d+))(?:@(?P<at_s>\d+(?:\.\d*)?))?=(?P<style>.+)"
)
NOTHING_SAID = (
    "no style given; for example:  --style starry   |   --background wave --foreground ember   |   "
    '--object "swan@320,240=starry" --background none'
)


@dataclass(frozen=True)
class ObjectStyle:
    """One named object: found by a point (x, y) in pixels or a region's number in the frame at at_s seconds."""

    name: str
    style: str
    point: tuple[int, int] | None = None
    region: int | None = None
    at_s: float = 0.0

    @property
    def where(self) -> str:
        """The place as a person typed it: ``320,240@2.5`` or ``#3``."""
        place = f"#{self.region}" if self.region is not None else "{},{}".format(*(self.point or (0, 0)))
        return f"{place}@{self.at_s:g}" if self.at_s else place

    @classmethod
    def parse(cls, text: str) -> ObjectStyle:
        """From ``NAME@X,Y[@SECONDS]=STYLE`` or ``NAME@#N[@SECONDS]=STYLE``."""
        match = OBJECT_FORM.fullmatch(text.strip())
        if match is None:
            raise OptionError(
                f'--object "{text}": not understood; write NAME@X,Y=STYLE or NAME@#N=STYLE, as in swan@320,240=starry'
            )
        got = match.groupdict()
        point = (int(got["x"]), int(got["y"])) if got["x"] is not None else None
        region = int(got["region"]) if got["region"] is not None else None
        return cls(got["name"].strip(), style_name(got["style"]), point, region, float(got["at_s"] or 0))


@dataclass(frozen=True)
class Look:
    """Styles by slug or number; None is "not said", ``none`` is "keep the picture".

    Attributes:
        style: everything not otherwise said.
        background: the background.
        foreground: every object not named.
        objects: the named objects; several places may share a name and then make up one object.
    """

    style: str | None = None
    background: str | None = None
    foreground: str | None = None
    objects: tuple[ObjectStyle, ...] = ()

    def __post_init__(self) -> None:
        for part in ("style", "background", "foreground"):
            word = getattr(self, part)
            if word is not None:
                object.__setattr__(self, part, style_name(str(word)))
        object.__setattr__(self, "objects", tuple(replace(o, style=style_name(str(o.style))) for o in self.objects))
        if not self.objects and self.style is None and self.background is None and self.foreground is None:
            raise OptionError(NOTHING_SAID)
        worn: dict[str, str] = {}
        for thing in self.objects:
            if worn.setdefault(thing.name, thing.style) != thing.style:
                raise OptionError(
                    f"object '{thing.name}' has two styles, {worn[thing.name]} and {thing.style}; give it one"
                )

    @property
    def background_style(self) -> str:
        """What the background wears."""
        return self.background or self.style or NONE

    @property
    def foreground_style(self) -> str:
        """What an object without a name wears."""
        return self.foreground or self.style or NONE

    @property
    def needs_objects(self) -> bool:
        """False where the whole frame wears one style and nothing has to be found."""
        return bool(self.objects) or self.background_style != self.foreground_style

    @property
    def styles(self) -> tuple[str, ...]:
        """Every style worn, once each: background, foreground, then the objects' in order."""
        return tuple(dict.fromkeys([self.background_style, self.foreground_style, *(o.style for o in self.objects)]))

    @classmethod
    def from_options(cls, options: LookOptions) -> Look:
        """From the command line; what is said there overrides the Look file it names."""
        base: dict[str, Any] = {}
        if options.look is not None:
            base = vars(cls.read(options.look)).copy()
        for part in ("style", "background", "foreground"):
            if getattr(options, part) is not None:
                base[part] = getattr(options, part)
        typed = tuple(ObjectStyle.parse(text) for text in options.object)
        names = {thing.name for thing in typed}
        base["objects"] = tuple(o for o in base.get("objects", ()) if o.name not in names) + typed
        return cls(**base)

    @classmethod
    def read(cls, path: str | Path) -> Look:
        """Read a Look file.

        Raises:
            OptionError: the file is missing, is not TOML, or says something a Look cannot hold.
        """
        try:
            said = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise OptionError(f"Look '{path}': no such file") from None
        except (OSError, UnicodeDecodeError) as error:
            raise OptionError(f"Look '{path}': cannot be read: {error}") from None
        except tomllib.TOMLDecodeError as error:
            raise OptionError(f"Look '{path}': not TOML: {error}") from None
        unknown = set(said) - {"style", "background", "foreground", "object"}
        if unknown:
            raise OptionError(
                f"Look '{path}': unknown key '{min(unknown)}'; a Look has style, background, foreground, [[object]]"
            )
        tables = said.pop("object", [])
        objects = tuple(_object_from(path, table) for table in (tables if isinstance(tables, list) else [None]))
        return cls(**said, objects=objects)

    def write(self, path: str | Path) -> None:
        """Write a Look file that :meth:`read` reads back equal.

        Raises:
            OutputError: the file cannot be written.
        """
        try:
            Path(path).write_text(self.to_toml(), encoding="utf-8")
        except OSError as error:
            raise OutputError(f"Look '{path}': cannot be written: {error.strerror}") from None

    def to_toml(self) -> str:
        """The Look as TOML."""
        import tomli_w

        said: dict[str, Any] = {
            part: getattr(self, part) for part in ("style", "background", "foreground") if getattr(self, part)
        }
        if self.objects:
            said["object"] = [_object_to(thing) for thing in self.objects]
        return tomli_w.dumps(said)


def _object_to(thing: ObjectStyle) -> dict[str, Any]:
    table: dict[str, Any] = {"name": thing.name, "style": thing.style}
    if thing.region is not None:
        table["region"] = thing.region
    else:
        table["point"] = list(thing.point or (0, 0))
    if thing.at_s:
        table["at_s"] = thing.at_s
    return table


def _object_from(path: str | Path, table: Any) -> ObjectStyle:
    try:
        unknown = set(table) - {"name", "style", "point", "region", "at_s"}
        point = table.get("point")
        x, y = point if point is not None else (0, 0)
        if unknown or (point is None) == (table.get("region") is None):
            raise ValueError
        region = None if table.get("region") is None else int(table["region"])
        return ObjectStyle(
            str(table["name"]),
            str(table["style"]),
            None if point is None else (int(x), int(y)),
            region,
            float(table.get("at_s", 0)),
        )
    except (TypeError, ValueError, KeyError, AttributeError):
        raise OptionError(
            f"Look '{path}': an [[object]] needs name, style, and point = [x, y] or region = N; it may have at_s"
        ) from None
