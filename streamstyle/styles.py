"""What a style is, in words: a built-in one, a painting, a network, a blend of these, and how it is worn.

::

    starry                                     a built-in style, by name or number
    starry_night.jpg                           a painting; starry_night.jpg#10,20,300,200 a crop of it: x, y, w, h
    monet/                                     a folder of paintings: the mean of them
    candy.safetensors                          a network of one's own
    starry:0.7+the_scream.jpg:0.3              a blend
    none@2 > wave@4                            keyframes: the picture until 2 s, from 4 s on wave, a fade between
    starry; strength=0.6; keep-colors          and how it is worn; see Style
    'night; one.jpg'#10,20,300,200 + "a+b/"    what is in quotes is a path, whatever it holds; a quote in it is doubled

One form serves the command line, Look files and Python. What is written back is canonical: equal styles, equal text.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from streamstyle.arguments import seconds
from streamstyle.errors import OptionError

NONE = "none"
"""The word for "keep the picture as it is"."""

STYLES: tuple[str, ...] = (
    "golden-haze",
    "lemon-ink",
    "pale-winter",
    "neon-shards",
    "scarlet-shore",
    "autumn-fire",
    "indigo-dots",
    "primary-night",
    "white-blossom",
    "rose-speckle",
    "burnt-umber",
    "ochre-etching",
    "water-lilies",
    "jungle-woodcut",
    "sea-mist",
    "pastel-glass",
    "crayon-dusk",
    "brick-weave",
    "bamboo-sketch",
    "starry",
    "ember",
    "paper-cut",
    "poppy-field",
    "stormy-light",
    "wave",
    "copper-blue",
)


Blend = Literal["normal", "luminosity", "soft-light"]
Mix = tuple[tuple[str, float], ...]
"""(source, weight) of each part of a blend; the weights add up to 1."""
PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif", ".jp2", ".ppm", ".pgm", ".heic")
NETWORKS = (".safetensors",)
OTHER_NETWORKS = (".pth", ".pt", ".ckpt", ".t7", ".npz", ".onnx", ".h5")
SETTINGS = "strength=0..1, keep-colors, scale=0.1..10, feather=PX, blend=normal|luminosity|soft-light"
_PARTS = 10000
"""Weights of a blend are whole numbers of so many parts, so that what is written is what is read."""
_BOX = r"#\s*(?P<box>\d+\s*,\s*\d+\s*,\s*\d+\s*,\s*\d+)"
_CROP = re.compile(r"(?P<path>.+)" + _BOX)
_QUOTES = r"""(?P<path>'(?:[^']|'')*'|"(?:[^"]|"")*")"""
_QUOTED = re.compile(_QUOTES + rf"\s*(?:{_BOX})?")
_OPENS = re.compile(r"(?:^|[+>])\s*" + _QUOTES)
"""Quotes open where a source begins, and nowhere else: it's.jpg is as it stands."""
_SPECIAL = re.compile(r"""[;+>#:@]|^['"\s]|\s$""")
"""What a path is written in quotes for."""
_WEIGHT = re.compile(r"(?P<source>.+):(?P<weight>-?\d*\.?\d+)")
_MOMENT = re.compile(r"(?P<mix>.+)@(?P<at_s>\.?\d[\d:.]*)")


@dataclass(frozen=True)
class Painting:
    """A painting, or a crop (x, y, width, height) of it; or a folder of paintings."""

    path: Path
    crop: tuple[int, int, int, int] | None = None


@dataclass(frozen=True)
class Key:
    """What is worn at a moment."""

    at_s: float
    mix: Mix


@dataclass(frozen=True)
class Style:
    """How something is painted. None is "not said": the options of the job decide.

    Attributes:
        keys: what is worn and when; between two keyframes one fades into the other, before the first and after the
            last nothing changes. One key alone is worn always.
        strength: 0 (the picture as it is) .. 1 (painted).
        keep_colors: only light and dark are painted; colours are the picture's.
        scale: of the strokes; 2 are twice as large.
        feather: width of the soft border with what is beside it, in pixels of the film.
        blend: how paint lies on the picture. luminosity is normal with the picture's colours.
    """

    keys: tuple[Key, ...]
    strength: float | None = None
    keep_colors: bool | None = None
    scale: float | None = None
    feather: float | None = None
    blend: Blend | None = None

    @classmethod
    def parse(cls, text: str) -> Style:
        """From the form above.

        Raises:
            OptionError: not understood, an unknown style, or a number out of range.
        """
        said, *settings = _split(text, ";")
        worn = _settings(text, settings)  # first, for a path with ; in it is told best here
        return cls(_keys(said), **worn)

    def __str__(self) -> str:
        """The canonical form, which :meth:`parse` reads back equal."""
        if self.sources == (NONE,):  # of a picture that is kept, only its border can be told
            return NONE if self.feather is None else f"{NONE}; feather={_number(self.feather)}"
        timed = len(self.keys) > 1
        words = [" > ".join(_mix_text(key.mix) + (f"@{_number(key.at_s)}" if timed else "") for key in self.keys)]
        return "; ".join([*words, *self.settings])

    @property
    def settings(self) -> list[str]:
        """How it is worn, in words, where it says so."""
        words = [f"{name}={_number(value)}" for name in _RANGES if (value := getattr(self, name)) is not None]
        if self.keep_colors is not None:
            words.append("keep-colors" if self.keep_colors else "keep-colors=no")
        return words if self.blend is None else [*words, f"blend={self.blend}"]

    @property
    def sources(self) -> tuple[str, ...]:
        """Every source it is made of, once each; ``none`` too."""
        return tuple(dict.fromkeys(source for key in self.keys for source, _ in key.mix))

    @property
    def files(self) -> tuple[Path, ...]:
        """The files and folders it is read from."""
        found = (source_of(source) for source in self.sources)
        return tuple(each.path if isinstance(each, Painting) else each for each in found if not isinstance(each, str))

    def shares(self, time_s: float) -> tuple[float, ...]:
        """How far each keyframe is worn at a time; they add up to 1, and at most two are not 0."""
        after = next((i for i, key in enumerate(self.keys) if time_s < key.at_s), len(self.keys))
        begin, end = max(0, after - 1), min(after, len(self.keys) - 1)
        span_s = self.keys[end].at_s - self.keys[begin].at_s
        part = 0.0 if span_s <= 0 else min(max((time_s - self.keys[begin].at_s) / span_s, 0.0), 1.0)
        worn = [0.0] * len(self.keys)
        worn[begin] += 1 - part
        worn[end] += part
        return tuple(worn)

    def moved(self, move: Callable[[str], str]) -> Style:
        """The same with every path changed."""

        def source(text: str) -> str:
            if isinstance(source_of(text), str):
                return text
            path, crop = _taken_apart(text)
            return _written(move(os.path.normpath(path)), crop, folder=path.endswith("/"))

        keys = (Key(key.at_s, tuple((source(name), weight) for name, weight in key.mix)) for key in self.keys)
        return replace(self, keys=tuple(keys))


_RANGES: dict[str, tuple[float, float]] = {"strength": (0, 1), "scale": (0.1, 10), "feather": (0, 200)}


def canonical(text: str) -> str:
    """A style's canonical form."""
    return str(Style.parse(text))


def moved(text: str, move: Callable[[str], str]) -> str:
    """A style with every path changed, in canonical form."""
    return str(Style.parse(text).moved(move))


def source_of(text: str) -> str | Painting | Path:
    """What a source in canonical form is: a built-in style's slug or ``none``, a painting or a folder of them, or a
    network's file."""
    if text == NONE or text in STYLES:
        return text
    path, crop = _taken_apart(text)
    if crop:
        x, y, width, height = (int(part) for part in crop.split(","))
        return Painting(Path(path), (x, y, width, height))
    return Path(path) if path.lower().endswith(NETWORKS) else Painting(Path(path))


def _taken_apart(text: str) -> tuple[str, str]:
    """The path of a source in canonical form, with a folder's slash, and its crop or nothing."""
    if quoted := _QUOTED.fullmatch(text):
        return _unquoted(quoted["path"]), quoted["box"] or ""
    cropped = _CROP.fullmatch(text)
    return (text, "") if cropped is None else (cropped["path"], cropped["box"])


def _unquoted(text: str) -> str:
    return text[1:-1].replace(2 * text[0], text[0])


def _written(path: str, crop: str, *, folder: bool) -> str:
    """A source's canonical form; see _taken_apart."""
    text = _path(path) + ("/" if folder else "")
    if _SPECIAL.search(text):
        quote = '"' if "'" in text else "'"
        text = quote + text.replace(quote, 2 * quote) + quote
    return text + (f"#{crop}" if crop else "")


def _split(text: str, separator: str) -> list[str]:
    """The text's parts between separators that stand in no quotes."""
    spans = [found.span("path") for found in _OPENS.finditer(text)]
    ends = [i for i, sign in enumerate(text) if sign == separator and not any(begin < i < end for begin, end in spans)]
    return [text[a + 1 : b] for a, b in zip([-1, *ends], [*ends, len(text)], strict=True)]


def style_name(word: str) -> str:
    """The slug meant by a slug, a number 0..25, or ``none``.

    Raises:
        OptionError: no such style; the message names the nearest ones.
    """
    wanted = word.strip().lower().replace("_", "-").replace(" ", "-")
    if wanted == NONE or wanted in STYLES:
        return wanted
    if wanted.isascii() and wanted.isdigit() and int(wanted) < len(STYLES):
        return STYLES[int(wanted)]
    near = difflib.get_close_matches(wanted, [*STYLES, NONE], n=3, cutoff=0.4)
    near = near or [name for name in STYLES if wanted[:3] and wanted[:3] in name][:3]
    hint = f"did you mean {' or '.join(near)}?" if near else "see `streamstyle styles`"
    raise OptionError(
        f"unknown style '{word}': {hint} (26 styles by name or number 0..25, 'none', or a painting's file)"
    )


def _source(word: str) -> str:
    """A source's canonical form; a word that cannot be a file is a built-in style's."""
    word = word.strip()
    if word[:1] in ("'", '"') and not os.path.exists(word):
        return _quoted_source(word)
    with contextlib.suppress(OptionError):
        return style_name(word)  # also where a file or folder is called so: ./wave is that
    cropped = None if os.path.exists(word) else _CROP.fullmatch(word)
    bare = cropped["path"] if cropped else word
    if not word:
        raise OptionError("a style is missing; name one, such as wave, also on both sides of a '+'")
    painting, _, crop = word.partition("#")
    if crop and cropped is None and painting.lower().endswith(PICTURES) and not os.path.exists(word):
        raise OptionError(f"style '{word}': a crop is #X,Y,WIDTH,HEIGHT in whole pixels, as in night.jpg#10,20,300,200")
    _refuse_other_networks(word, bare)
    ending = bare.lower().endswith((*PICTURES, *NETWORKS))
    if not (ending or "/" in bare or os.sep in bare or os.path.exists(bare)):
        return style_name(word)
    if cropped:
        return _written(bare, "".join(cropped["box"].split()), folder=False)
    return _written(word, "", folder=word.endswith(("/", os.sep)) or os.path.isdir(word))


def _quoted_source(word: str) -> str:
    """The canonical form of a path in quotes, and its crop."""
    quoted = _QUOTED.fullmatch(word)
    path = "" if quoted is None else _unquoted(quoted["path"])
    if quoted is None or not path:
        raise OptionError(
            f"style {word}: quotes go round a whole path and are closed, as in 'a+b.jpg' or 'a+b.jpg'#10,20,300,200; "
            "a quote within is doubled"
        )
    _refuse_other_networks(word, path)
    box = "".join((quoted["box"] or "").split())
    return _written(path, box, folder=not box and (path.endswith(("/", os.sep)) or os.path.isdir(path)))


def _refuse_other_networks(word: str, path: str) -> None:
    if path.lower().endswith(OTHER_NETWORKS):
        raise OptionError(f"style '{word}': networks are read from .safetensors files; convert it to one")


def quotes_wanted(text: str) -> str:
    """What an error adds where the text may be a path that was taken apart."""
    path = "/" in text or os.sep in text or any(ending in text.lower() for ending in (*PICTURES, *NETWORKS))
    return "; a path with any of ; + > # : @ = in it goes in quotes, as in 'a+b.jpg'" if path else ""


def _path(text: str) -> str:
    """A path in one form, and in one that is a path whatever stands in the folder we are in."""
    path = os.path.normpath(text)
    plain = os.sep not in path and "/" not in path and not path.lower().endswith((*PICTURES, *NETWORKS))
    return os.path.join(".", path) if plain else path


def _mix(text: str, whole: str) -> Mix:
    """The parts of a blend, of a whole style's text; a name that a file has is not taken apart."""
    words = [text] if os.path.exists(text.strip()) else _split(text, "+")
    weights: dict[str, float] = {}
    for word in words:
        said = None if os.path.exists(word.strip()) else _WEIGHT.fullmatch(word.strip())
        source, weight = (word, 1.0) if said is None else (said["source"], float(said["weight"]))
        if weight < 0:
            raise OptionError(f"style '{text.strip()}': the weight {weight:g} is less than 0; give 0 or more")
        try:
            name = _source(source)
        except OptionError as error:
            raise OptionError(f"{error}{quotes_wanted(whole) if whole.strip() != word.strip() else ''}") from None
        weights[name] = weights.get(name, 0.0) + weight
    total = sum(weights.values())
    if not total > 0:
        raise OptionError(f"style '{text.strip()}': all weights are 0; give one more than that")
    shares = {name: round(weight / total * _PARTS) for name, weight in weights.items()}
    shares[max(shares, key=lambda name: shares[name])] += _PARTS - sum(shares.values())
    return tuple((name, share / _PARTS) for name, share in shares.items() if share > 0)


def _keys(text: str) -> tuple[Key, ...]:
    words = _split(text, ">")
    keys = []
    for i, word in enumerate(words):
        moment = None if os.path.exists(word.strip()) else _MOMENT.fullmatch(word.strip())
        if moment is None and i == 0:
            keys.append(Key(0.0, _mix(word, text)))
            continue
        if moment is None or len(words) == 1:
            raise OptionError(
                f"style '{text.strip()}': a keyframe is STYLE@SECONDS, and there are two or more, as in none@2 > wave@4"
                f"{quotes_wanted(text)}"
            )
        try:
            at_s = round(seconds(moment["at_s"]), 6)
        except ValueError as error:
            raise OptionError(f"style '{text.strip()}': {error}") from None
        if keys and at_s < keys[-1].at_s:
            raise OptionError(
                f"style '{text.strip()}': {at_s:g} s comes after {keys[-1].at_s:g} s; put them in the order of time"
            )
        keys.append(Key(at_s, _mix(moment["mix"], text)))
    if all(key.mix == keys[0].mix for key in keys):
        return (Key(0.0, keys[0].mix),)
    return tuple(keys)


def _settings(text: str, words: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for word in words:
        name, equals, value = (part.strip().lower().replace("_", "-") for part in word.partition("="))
        if not name:
            continue
        if name in _RANGES:
            low, high = _RANGES[name]
            try:
                number = float(value)
            except ValueError:
                raise OptionError(
                    f"style '{text}': {name}{equals}{value} is not a number; give {low:g} to {high:g}"
                ) from None
            if not low <= number <= high:  # nor NaN
                raise OptionError(f"style '{text}': {name}={value} is out of range; give {low:g} to {high:g}")
            found[name] = round(number, 6)
        elif name == "keep-colors" and value in ("yes", "no", ""):
            found["keep_colors"] = value != "no" and (equals == "" or value == "yes")
        elif name == "blend" and value in get_args(Blend):
            found["blend"] = value
        else:
            raise OptionError(
                f"style '{text}': '{word.strip()}' is not understood; give {SETTINGS}{quotes_wanted(word)}"
            )
    return found


def _mix_text(mix: Mix) -> str:
    return mix[0][0] if len(mix) == 1 else "+".join(f"{name}:{_number(weight)}" for name, weight in mix)


def _number(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")
