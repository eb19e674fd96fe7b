"""A Look: which object gets which style. Made from the command line, read from and written to TOML.

::

    background = "wave"

    [[object]]                                  # its place: point, points, region, words or mask; none with --tracks
    name = "swan"
    style = "starry; strength=0.7"              # once for each name is enough; all that ``styles.Style`` understands
    points = [[320, 240], [100, 90, 4.0]]       # x, y and, where not the first frame, seconds

    [[object]]                                  # what is not it, from this moment on
    name = "swan"
    point = [50, 60]
    at_s = 3.0
    remove = true

    [[object]]                                  # a part of the swan, from this moment on an object of its own
    name = "beak"
    style = "ember"
    point = [352, 210]
    at_s = 2.0

    [[object]]                                  # in words, for a segmenter that takes them (--segmenter)
    name = "cygnets"
    style = "ember"
    words = "the grey chicks"

    [[merge]]                                   # several objects are one
    into = "herd"
    objects = ["cow", "calf", "object 7"]       # 7: a number of `streamstyle tracks`
    style = "wave"

    [rename]
    "object 3" = "the dog"
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from streamstyle.arguments import seconds
from streamstyle.config import StyleChoices
from streamstyle.errors import OptionError, OutputError
from streamstyle.look_file import PARTS, read_look_file, tables
from streamstyle.renaming import called_from, final_name, refuse_circles, refuse_parts, renamed_nobody, unknown_names
from streamstyle.styles import NONE, canonical, moved, quotes_wanted

OBJECT_FORM = re.compile(
    r"(?P<name>[^@=]+)(?:@(?:(?P<x>\d+)\s*,\s*(?P<y>\d+)|#(?P<region>\d+)|mask(?P<mask>\d+)"
    r"|(?P<quote>[\"'])(?P<words>(?:(?!(?P=quote)).)+)(?P=quote))(?:@(?P<at_s>\d[\d:.]*))?"
    r"|(?==(?:'[^']*'|\"[^\"]*\"|[^=;])++(?:;|$)))(?:=(?P<style>.+))?"
)
REMOVE = "-"
"""Before a name, and without a style: this place is no part of the object."""
PLACES = ("point", "points", "region", "words", "mask")
NOTHING_SAID = (
    "no style given; for example:  --style starry   |   --background wave --foreground ember   |   "
    '--object "swan@320,240=starry" --background none'
)


@dataclass(frozen=True)
class ObjectStyle:
    """One place of a named object, in the frame at at_s seconds; an object may have several.

    Without point, region, words and mask it has none: a label track says where it is (``--tracks``).

    Attributes:
        style: in the words of ``styles.Style``; empty where another place of the same name says it.
        point: (x, y) in pixels, in the region that is meant.
        region: its number, as ``streamstyle preview`` shows it.
        remove: from this moment on the region is no part of the object.
        mask: a label of the mask of the first frame (``--mask``); then the place has no time.
        words: what it is, for a segmenter that takes words.
    """

    name: str
    style: str = ""
    point: tuple[int, int] | None = None
    region: int | None = None
    at_s: float = 0.0
    remove: bool = False
    mask: int | None = None
    words: str | None = None

    @property
    def has_place(self) -> bool:
        """Whether it says where the object is, or is not."""
        return not (self.point is None and self.region is None and self.mask is None and self.words is None)

    @property
    def where(self) -> str:
        """The place as a person typed it: ``320,240@2.5``, ``#3``, ``"white swan"@4`` or ``mask2``."""
        if self.mask is not None:
            return f"mask{self.mask}"
        if self.words is not None:
            quote = "'" if '"' in self.words else '"'
            place = quote + self.words + quote
        else:
            place = f"#{self.region}" if self.region is not None else "{},{}".format(*(self.point or (0, 0)))
        return f"{place}@{self.at_s:g}" if self.at_s else place

    @classmethod
    def parse(cls, text: str) -> ObjectStyle:
        """From ``NAME@PLACE[@TIME][=STYLE]``, PLACE being ``X,Y``, ``#N``, ``"words"`` or ``maskN``; ``-NAME@...``
        removes.

        Or, without a place, ``NAME=STYLE``.
        """
        match = OBJECT_FORM.fullmatch(text.strip())
        got = {} if match is None else match.groupdict()
        name = (got.get("name") or "").strip()
        if name.startswith(REMOVE) and got["style"] is not None:
            raise OptionError(
                f'--object "{text}": what is taken out of an object takes no style; leave ={got["style"]} out'
            )
        remove = name.startswith(REMOVE) and got["style"] is None
        name = name.removeprefix(REMOVE).strip() if remove else name
        words = got.get("words")
        no_words = words is not None and not words.strip()
        if not name or no_words or (got["mask"] is not None and (remove or got["at_s"] is not None)):
            raise OptionError(
                f'--object "{text}": not understood; write NAME@X,Y=STYLE, whole pixels from 0,0 on, or NAME@#N=STYLE, '
                "as in swan@320,240=starry; for another place of it swan@100,90@4, for one that is not it -swan@50,60@3"
                f"; in words swan@'a white swan'=starry{quotes_wanted(text)}"
            )
        try:
            at_s = seconds(got["at_s"] or "0")
        except ValueError as error:
            raise OptionError(f'--object "{text}": {error}') from None
        return cls(
            name,
            "" if got["style"] is None else canonical(got["style"]),
            None if got["x"] is None else (int(got["x"]), int(got["y"])),
            None if got["region"] is None else int(got["region"]),
            at_s,
            remove,
            None if got["mask"] is None else int(got["mask"]),
            None if words is None else words.strip(),
        )


@dataclass(frozen=True)
class Look:
    """Styles in the words of ``styles.Style``; None is "not said", ``none`` is "keep the picture".

    Attributes:
        style: everything not otherwise said.
        background: the background.
        foreground: every object not named.
        objects: the named objects; several places may share a name and then make up one object.
        called: (name, what it is called instead): names that share a new one are one object from then on. Also for the
            names that objects get by themselves, ``object 7``.
    """

    style: str | None = None
    background: str | None = None
    foreground: str | None = None
    objects: tuple[ObjectStyle, ...] = ()
    called: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        for part in PARTS:
            word = getattr(self, part)
            if word is not None:
                object.__setattr__(self, part, canonical(str(word)))
        object.__setattr__(self, "called", tuple(sorted((str(old), str(new)) for old, new in self.called)))
        refuse_circles(dict(self.called))
        refuse_parts(PARTS[1:], (*(new for _, new in self.called), *(thing.name for thing in self.objects)))
        object.__setattr__(self, "objects", _dressed(replace(o, name=self.name_of(o.name)) for o in self.objects))
        if not self.objects and self.style is None and self.background is None and self.foreground is None:
            raise OptionError(NOTHING_SAID)

    def name_of(self, name: str) -> str:
        """What an object is called in the end."""
        return final_name(name, dict(self.called))

    def unknown_names(self, said: Iterable[str], path: str | Path, mend: str = "") -> list[str]:
        """Its names that none of the objects so called has; see renaming.unknown_names."""
        return unknown_names((thing.name for thing in self.objects), dict(self.called), said, path, mend)

    def renamed_nobody(self) -> list[str]:
        """A line for each of its renamings of an object that it does not name."""
        return renamed_nobody(dict(self.called), (thing.name for thing in self.objects))

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
    def from_options(cls, options: StyleChoices, *, base: Look | None = None, unstyled: str | None = None) -> Look:
        """From the command line; what is said there overrides the Look file it names.

        A name given a place and a style there is given all its places anew; a place without a style is added to the
        file's, a style without a place takes its style's.

        Args:
            options: what was said.
            base: the Look it changes, where it names no Look file.
            unstyled: the style of everything nobody gave one; None refuses that.
        """
        parts = _parts_of(options.look) if options.look is not None else {} if base is None else vars(base).copy()
        for part in PARTS:
            if getattr(options, part) is not None:
                parts[part] = getattr(options, part)
        typed = tuple(ObjectStyle.parse(text) for text in options.object)
        called = dict(parts.get("called", ()))
        anew = {final_name(thing.name, called) for thing in typed if thing.style and thing.has_place}
        worn = {final_name(thing.name, called) for thing in typed if thing.style}
        kept = [o for o in parts.get("objects", ()) if final_name(o.name, called) not in anew]
        if options.look is not None and unstyled is None:
            _refuse_unstyled(options.look, kept, called, worn)
        own = (replace(o, style="") if final_name(o.name, called) in worn else o for o in kept)
        parts["objects"] = (*own, *typed)
        return cls(**_styled(parts, unstyled))

    @classmethod
    def read(cls, path: str | Path, *, unstyled: str | None = None) -> Look:
        """Read a Look file, in the form above; paths of paintings and networks are taken from the file's folder.

        Args:
            path: the file.
            unstyled: the style of everything the file gives none; None refuses that.

        Raises:
            OptionError: the file is missing, is not TOML, or says something a Look cannot hold.
        """
        parts = _parts_of(path)
        if unstyled is None:
            _refuse_unstyled(path, parts["objects"], dict(parts["called"]))
        return cls(**_styled(parts, unstyled))

    def moved(self, move: Callable[[str], str]) -> Look:
        """The same Look with the path of every painting and network changed."""
        parts: dict[str, Any] = {part: moved(word, move) for part in PARTS if (word := getattr(self, part)) is not None}
        return replace(self, objects=tuple(replace(o, style=moved(o.style, move)) for o in self.objects), **parts)

    def write(self, path: str | Path) -> None:
        """Write a Look file that :meth:`read` reads back; paths of paintings are told from the file's folder.

        Raises:
            OutputError: the file cannot be written.
        """
        try:
            folder = os.path.dirname(os.path.abspath(path))
            look = self.moved(lambda file: file if os.path.isabs(file) else os.path.relpath(file, folder))
            Path(path).write_text(look.to_toml(), encoding="utf-8")
        except OSError as error:
            raise OutputError(f"Look '{path}': cannot be written: {error.strerror}") from None

    def to_toml(self) -> str:
        """The Look as TOML."""
        import tomli_w

        said: dict[str, Any] = {part: getattr(self, part) for part in PARTS if getattr(self, part)}
        if self.objects:
            said["object"] = [_place_to(thing) for thing in self.objects]
        olds: dict[str, list[str]] = {}
        for old, new in self.called:
            olds.setdefault(new, []).append(old)
        merged = [{"into": new, "objects": names} for new, names in olds.items() if len(names) > 1]
        renamed = {names[0]: new for new, names in olds.items() if len(names) == 1}
        said |= ({"merge": merged} if merged else {}) | ({"rename": renamed} if renamed else {})
        return tomli_w.dumps(said)


def _parts_of(path: str | Path) -> dict[str, Any]:
    """What a Look file says, as Look's arguments: perhaps too little for one, if more is said elsewhere."""
    said = read_look_file(path)
    objects = [place for table in tables(said.pop("object", [])) for place in _places_from(path, table)]
    called, worn = called_from(path, tables(said.pop("merge", [])), said.pop("rename", {}))
    dressed = [replace(o, style=worn.get(final_name(o.name, called), o.style)) for o in objects]
    there = {final_name(o.name, called) for o in objects}
    # What is merged of objects that are found by themselves has no place, and a style all the same.
    dressed += [ObjectStyle(name, style) for name, style in worn.items() if name not in there]

    def here(word: Any) -> str:  # paths are told from the file's folder
        return moved(canonical(str(word)), lambda file: os.path.normpath(os.path.join(os.path.dirname(path), file)))

    said |= {part: here(said[part]) for part in PARTS if said.get(part) is not None}
    placed = tuple(replace(o, style=here(o.style) if o.style != "" else "") for o in dressed)
    return {**said, "objects": placed, "called": tuple(called.items())}


def _styled(parts: dict[str, Any], unstyled: str | None) -> dict[str, Any]:
    """A Look's parts, with a style where none is said; objects that are given one elsewhere keep it."""
    if unstyled is None:
        return parts
    called = dict(parts.get("called", ()))
    worn = {final_name(o.name, called) for o in parts["objects"] if o.style}
    objects = tuple(
        o if o.style or final_name(o.name, called) in worn else replace(o, style=unstyled) for o in parts["objects"]
    )
    return {**parts, "objects": objects, "style": parts.get("style") or unstyled}


def _refuse_unstyled(
    path: str | Path, places: Sequence[ObjectStyle], called: dict[str, str], worn: Iterable[str] = ()
) -> None:
    """OptionError where an object of a Look file is given no style in it, and is none of those that have one."""
    worn = {*worn, *(final_name(place.name, called) for place in places if place.style)}
    for place in places:
        if not place.remove and (name := final_name(place.name, called)) not in worn:
            give = f'give its [[object]] one, as in style = "wave", or --object "{name}=wave"'
            raise OptionError(f"Look '{path}': object '{place.name}' has no style; {give}")


def _dressed(places: Iterable[ObjectStyle]) -> tuple[ObjectStyle, ...]:
    """The places, each with its object's style; of an object that has places, only those."""
    places = [replace(place, style=canonical(str(place.style)) if place.style != "" else "") for place in places]
    worn: dict[str, str] = {}
    for place in places:
        if place.style and worn.setdefault(place.name, place.style) != place.style:
            raise OptionError(
                f"object '{place.name}' has two styles, {worn[place.name]} and {place.style}; give it one"
            )
    placed = {place.name for place in places if place.has_place}
    places = [place for place in places if place.has_place or place.name not in placed]
    there = {place.name for place in places if not place.remove}
    for place in places:
        if place.name not in there:
            give = f"give one, as in {place.name}@320,240, or {place.name}@mask1 of a --mask"
            raise OptionError(f"object '{place.name}' has places to remove but none where it is; {give}")
        if place.name not in worn:
            at = f"@{place.where}" if place.has_place else ""
            raise OptionError(f"object '{place.name}' has no style; give it one, as in {place.name}{at}=wave")
    return tuple(dict.fromkeys(replace(place, style=worn[place.name]) for place in places))


def _place_to(thing: ObjectStyle) -> dict[str, Any]:
    table: dict[str, Any] = {"name": thing.name, "style": thing.style}
    if thing.mask is not None:
        table["mask"] = thing.mask
    elif thing.words is not None:
        table["words"] = thing.words
    elif thing.region is not None:
        table["region"] = thing.region
    elif thing.point is not None:
        table["point"] = list(thing.point)
    if thing.at_s:
        table["at_s"] = thing.at_s
    if thing.remove:
        table["remove"] = True
    return table


def _places_from(path: str | Path, table: Any) -> list[ObjectStyle]:
    try:
        unknown = set(table) - {"name", "style", *PLACES, "at_s", "remove"}
        kind, *more = sorted({*PLACES} & set(table)) or [""]
        said, remove = table.get(kind), table.get("remove", False)
        no_moment = kind in ("mask", "") and (remove or "at_s" in table)
        if unknown or more or not isinstance(remove, bool) or no_moment:
            raise ValueError
        place = ObjectStyle(
            str(table["name"]), str(table.get("style", "")), at_s=float(table.get("at_s", 0)), remove=remove
        )
        if not kind:
            return [place]
        if kind == "words":
            if not isinstance(said, str) or not said.strip():
                raise ValueError
            return [replace(place, words=said.strip())]
        if kind in ("region", "mask"):
            return [replace(place, region=int(said)) if kind == "region" else replace(place, mask=int(said))]
        places = []
        for x, y, *at_s in [said] if kind == "point" else said:
            if len(at_s) > (kind == "points"):
                raise ValueError
            at = float(at_s[0]) if at_s else place.at_s
            places.append(replace(place, point=(int(x), int(y)), at_s=at))
        return places
    except (TypeError, ValueError, KeyError, AttributeError):
        raise OptionError(
            f"Look '{path}': an [[object]] needs name, and one of point = [x, y], points = [[x, y, seconds], ...], "
            'region = N, words = "what it is", mask = N, or none with --tracks; it may have style, and where it has a '
            "place but a mask's at_s, remove = true"
        ) from None
