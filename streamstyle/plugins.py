"""Segmenters of others: the one interface they have, and how they are found.

A package offers one by an entry point of the group ``streamstyle.segmenters``::

    [project.entry-points."streamstyle.segmenters"]
    mine = "my_package:load"            # load(argument, device) -> PictureSegmenter

and a person asks for it by ``--segmenter mine:ARGUMENT``. One that can be asked for single objects says by what, for
otherwise all that it finds would pass for them::

    find.takes = ("points", "words")                # any of KINDS

One that takes points is asked for what a person clicks on, ``NAME@320,240``; for others a click means the region under
it, of all that they find.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol, cast

import numpy as np

from streamstyle.errors import OptionError, ShapeError, StreamstyleError

GROUP = "streamstyle.segmenters"
KINDS = ("points", "words")
"""Of prompts: what a segmenter's ``takes`` may have."""
POINT_AT_IT = "point at it, as in NAME@320,240, or give a segmenter that takes them"
LARGEST_ID = 2**31 - 1
OWN = {"sam2": "streamstyle.sam2_segmenter:load"}


@dataclass(frozen=True)
class Prompt:
    """One object that is asked for; at least one of its fields says something.

    Attributes:
        points: pixels (x, y) in it; not_points: pixels that are not.
        text: what it is, in words.
    """

    points: tuple[tuple[int, int], ...] = ()
    not_points: tuple[tuple[int, int], ...] = ()
    text: str | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """Those of KINDS that it is made of."""
        said = (self.points or self.not_points, self.text)
        return tuple(kind for kind, what in zip(KINDS, said, strict=True) if what)


class PictureSegmenter(Protocol):
    """Finds what is in a picture.

    A function or an object; an attribute ``takes`` of it, a tuple of any of KINDS, says which prompts it takes. Without
    it is given none.
    """

    def __call__(self, rgb: np.ndarray, prompts: Sequence[Prompt] = ()) -> np.ndarray:
        """Region ids of a picture.

        Args:
            rgb: [H, W, 3] uint8.
            prompts: the objects asked for; without any, all that there are.

        Returns:
            [H, W] int32, 0 the background. Without prompts 1, 2 ... in raster order; with them prompts[i] is i + 1, and
            there are no other ids.
        """


Load = Callable[[str, str], PictureSegmenter]
"""Makes a segmenter of the argument a person gave it ("" for none) and a device, ``cpu`` or ``cuda``."""


BUILT_IN = ("regions", "components")
"""Those of our own, which need no loading."""


def known_segmenters() -> list[str]:
    """Names of the segmenters of others that are installed here, our own adapters among them."""
    return sorted({*OWN, *(found.name for found in entry_points(group=GROUP))})


def check_segmenter(spec: str) -> Load:
    """What loads the segmenter that ``NAME`` or ``NAME:ARGUMENT`` means.

    Raises:
        OptionError: there is none of that name, or its package cannot be loaded.
    """
    name = spec.partition(":")[0]
    try:
        load = _loader(name)
    except (ImportError, AttributeError) as error:
        raise OptionError(f"--segmenter {name}: cannot be loaded ({error}); install its package again") from None
    if load is None:
        there = ", ".join([*BUILT_IN, *known_segmenters()])
        raise OptionError(f"--segmenter {spec}: no such segmenter; there are {there}")
    return load


def load_segmenter(spec: str, device: str) -> Checked:
    """The segmenter that ``NAME`` or ``NAME:ARGUMENT`` means.

    Raises:
        OptionError: there is none of that name, it cannot be loaded, or it does not take the argument.
    """
    name, _, argument = spec.partition(":")
    load = check_segmenter(spec)
    try:
        return Checked(load(argument, device), name)
    except StreamstyleError as error:
        raise OptionError(f"--segmenter {spec}: {error}") from None
    except Exception as error:  # whatever another's code may raise
        raise OptionError(f"--segmenter {spec}: could not be loaded, {_told(error)}") from error


def _told(error: Exception) -> str:
    """An error of another's code in one line."""
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def ids_of_masks(masks: Iterable[np.ndarray], size: tuple[int, int], *, in_order: bool = False) -> np.ndarray:
    """Region ids [H, W] int32 of masks [H, W] bool that may overlap: the smaller lies on the larger.

    Args:
        masks: as a network gave them.
        size: (height, width).
        in_order: number them as they come; else 1, 2 ... in raster order, and those that are wholly covered go.
    """
    ids = np.zeros(size, np.int32)
    numbered = [(number, mask.astype(bool)) for number, mask in enumerate(masks, 1)]
    for number, mask in sorted(numbered, key=lambda pair: -int(pair[1].sum())):
        ids[mask] = number
    if in_order:
        return ids
    return in_raster_order(ids)


def in_raster_order(ids: np.ndarray) -> np.ndarray:
    """Ids [H, W], integers, numbered 1, 2 ... in raster order of their first pixels, [H, W] int32; 0 stays 0."""
    present, first, index = np.unique(ids, return_index=True, return_inverse=True)
    table = np.zeros(len(present), np.int32)
    raster = [k for k in np.argsort(first) if present[k] != 0]
    table[raster] = np.arange(1, len(raster) + 1)
    return table[index].reshape(ids.shape)


class Checked:
    """A segmenter whose answers are looked at: a fault of another's must not show up as one of ours."""

    def __init__(self, segmenter: PictureSegmenter, name: str) -> None:
        self._segmenter, self._name = segmenter, name
        takes = getattr(segmenter, "takes", ())
        if isinstance(takes, str) or not set(takes) <= set(KINDS):
            kinds = ", ".join(map(repr, KINDS))
            raise OptionError(f"its `takes` is {takes!r}; a tuple of any of {kinds} is meant")

    @property
    def takes(self) -> tuple[str, ...]:
        """Those of KINDS that it takes."""
        said = tuple(getattr(self._segmenter, "takes", ()))
        return tuple(kind for kind in KINDS if kind in said)

    def __call__(self, rgb: np.ndarray, prompts: Sequence[Prompt] = ()) -> np.ndarray:
        """Region ids, as PictureSegmenter says.

        Raises:
            OptionError: a prompt of a kind it does not take, or it failed.
            ShapeError: its answer is not what it must be.
        """
        for kind in KINDS:
            if kind not in self.takes and any(kind in prompt.kinds for prompt in prompts):
                mend = POINT_AT_IT if kind == "words" else f"it takes {' and '.join(self.takes) or 'no prompts'}"
                raise OptionError(f"--segmenter {self._name} takes no {kind}; {mend}")
        try:
            ids = self._segmenter(rgb, prompts)
        except StreamstyleError:
            raise
        except Exception as error:  # whatever another's code may raise
            raise OptionError(f"--segmenter {self._name}: failed on a picture, {_told(error)}") from error
        if not isinstance(ids, np.ndarray) or ids.shape != rgb.shape[:2] or ids.dtype.kind not in "iu":
            seen = f"{ids.dtype} {[*ids.shape]}" if isinstance(ids, np.ndarray) else type(ids).__name__
            raise ShapeError(f"segmenter {self._name}: must give [H, W] integers, {[*rgb.shape[:2]]}, gave {seen}")
        if ids.size and ids.min() < 0:
            raise ShapeError(f"segmenter {self._name}: ids must not be negative, gave {ids.min()}")
        if ids.size and ids.max() > LARGEST_ID:
            raise ShapeError(f"segmenter {self._name}: ids must not be above {LARGEST_ID}, gave {ids.max()}")
        if prompts and ids.size and ids.max() > len(prompts):
            asked = "one object, id 1" if len(prompts) == 1 else f"{len(prompts)} objects, ids 1..{len(prompts)}"
            raise ShapeError(f"segmenter {self._name}: asked for {asked}, gave {ids.max()}")
        return ids.astype(np.int32, copy=False)


def _loader(name: str) -> Load | None:
    for found in entry_points(group=GROUP):
        if found.name == name:
            return cast(Load, found.load())
    if name not in OWN:
        return None
    return cast(Load, EntryPoint(name, OWN[name], GROUP).load())


def require(package: str, extra: str) -> None:
    """Refuse, with the mend, where a package that an adapter needs is not installed."""
    try:
        importlib.import_module(package)
    except ImportError as error:
        raise OptionError(f"needs the package {package} ({error}); pip install 'streamstyle[{extra}]'") from None
