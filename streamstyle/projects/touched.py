"""What of a film a changed Look touches: in which frames, and where in them. Nothing is painted to know it.

::

    labels [h, w] ──► looks, then and now ──► rows of the two tables of blends ──► what a row means, then and now
                                                                                     │
          box = where they differ, and as far around that as a network sees, where what it paints is worn

Two rows mean the same where painting does the same arithmetic with the same numbers: the same pigments in the same
shares, laid on alike, and by the same way through the palette. So what is outside the box is equal to the last bit to
what a whole run would paint, and is kept. See Note [Where a change reaches].
"""

# Note [Where a change reaches]
# A pixel is a sum over coats of its share of each. Its shares, and how the sum is laid on the picture, are its own:
# they touch it alone (and its neighbours in chroma). Which norms a coat looks up there touches all that the coat's
# network sees from there, but only pixels that wear that coat. A coat has norms everywhere, also where nobody wears it
# (those of its first pigment), so that these count, too. A network with one style looks nothing up.

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch

from streamstyle.config import StyleOptions
from streamstyle.look import Look
from streamstyle.nets.painting import Affine
from streamstyle.painting.boxes import BOX_PAYS, CHROMA_PX, NOWHERE, Box, Painter
from streamstyle.painting.palette import Palette
from streamstyle.stages.blends import LEVELS
from streamstyle.stages.strokes import enlarging_px, working_size
from streamstyle.stages.style_map import blend_map, pair_feathers
from streamstyle.styles import NETWORKS, Mix, Painting, source_of

Prints = Mapping[str, Any]
"""Fingerprints of paintings and networks, by their full paths."""


def carries_paint(painting: StyleOptions) -> bool:
    """Whether what is painted depends on what was painted before it in the shot, as with ``calm``.

    Then a shot that is touched is painted whole, from its beginning: its frames would differ from the first on.
    """
    return painting.calm > 0


class Sketch(Palette):
    """A palette without networks: it says what would be worn and paints nothing; no file is read.

    Args:
        look: whose styles.
        options: what is worn where a style does not say.
        prints: of the files the styles are made from, as they were when they were painted with.
    """

    def __init__(self, look: Look, options: StyleOptions, prints: Prints) -> None:
        self.look = look
        self._prints = prints
        self._named: dict[str, Painter] = {}
        super().__init__(look.styles, options, torch.device("cpu"), torch.float32)
        self.widths = pair_feathers(self.feathers, options.feather)
        self._keys_of = {number: key for key, number in self._number.items()}
        self.coat_keys = [self._keys_of[coat.pigments[0]][:2] for coat in self.coats]

    def _painter(self, network: str) -> Painter:
        return self._named.setdefault(network, cast(Painter, object()))

    def _norms(self, network: str, mix: Mix) -> Affine | None:
        return None

    def table_of(self, names: Mapping[int, str], wore: Mapping[int, str | None] | None = None) -> np.ndarray:
        """Label -> index of the style it wears, int32.

        Args:
            names: each label's name.
            wore: the name by which each finds its style, where that is known; else as for a label track.
        """
        number = {style: k for k, style in enumerate(self.look.styles)}
        worn = {thing.name: thing.style for thing in self.look.objects}
        table = np.full(max(names, default=0) + 1, number[self.look.background_style], np.int32)
        for label, name in names.items():
            called = self.look.name_of(name) if wore is None else wore[label]
            table[label] = number[worn.get(called or "", self.look.foreground_style)]
        return table

    def meaning(self, time_s: float, known: dict[Any, int]) -> Meaning:
        """What each look means at a time; known numbers what was met, the same for all that are compared."""

        def number(*what: Any) -> int:
            return known.setdefault(what, len(known))

        looks = [self._worn_by(k, time_s) for k in range(len(self._styles))]
        single, many = len(looks) == 1, len(self.coats) > 1
        affines: list[list[int]] = []
        shares: list[list[float]] = []
        for coat in self.coats:
            worn = [{p: w[p] for p in coat.pigments if w.get(p)} for w in looks]
            shares.append([sum(w.values()) for w in worn])
            affines.append([number(*self._affine(w, coat.pigments[0])) for w in worn])
        equal = [len(set(each)) == 1 for each in shares]
        order = tuple(self.coat_keys) if len(self.coats) > 2 else ()
        alone, mixed = [], []
        for k, (style, look) in enumerate(zip(self._styles, looks, strict=True)):
            laid = self._laid_on(style, look)
            at = [c for c in range(len(self.coats)) if shares[c][k]]
            worn_coats = tuple((self.coat_keys[c], affines[c][k], shares[c][k]) for c in at)
            whole = all(shares[c][k] == 1 for c in at)
            alone.append(number("alone", single, whole or many, whole or order, laid, worn_coats))
            mixed.append(number("mixed", single, many, order, laid, worn_coats, tuple(equal[c] for c in at)))
        fields = {
            key: (np.array(affines[c]), np.array(shares[c]) > 0)
            for c, key in enumerate(self.coat_keys)
            if not key[0].endswith(NETWORKS)
        }
        return Meaning(np.array(alone), np.array(mixed), fields)

    def _affine(self, worn: dict[int, float], default: int) -> tuple[Any, ...]:
        if len(worn) < 2:
            return ("affine", self._pigment_key(next(iter(worn), default)))
        return ("affines", *((self._pigment_key(p), weight) for p, weight in worn.items()))

    def _pigment_key(self, pigment: int) -> tuple[Any, ...]:
        network, scale, mix = self._keys_of[pigment]
        return network, scale, tuple((self._source_key(source), weight) for source, weight in mix)

    def _source_key(self, source: str) -> tuple[Any, ...]:
        found = source_of(source)
        if isinstance(found, str):
            return (found,)
        path = os.path.abspath(found.path if isinstance(found, Painting) else found)
        crop = found.crop if isinstance(found, Painting) else None
        files = sorted(file for file in self._prints if path in (file, os.path.dirname(file)))
        seen = tuple((file, str(self._prints[file].get("blake2b"))) for file in files)
        return path, crop, seen


@dataclass(frozen=True)
class Meaning:
    """Numbers of what K looks mean; equal numbers, equal arithmetic.

    Attributes:
        alone, mixed: [K], of a pixel's own: where it wears one look, and where it wears a blend with another.
        fields: by coat, the norms [K] it looks up, and whether a look wears it.
    """

    alone: np.ndarray
    mixed: np.ndarray
    fields: dict[tuple[str, float], tuple[np.ndarray, np.ndarray]]


class Touched:
    """Compares what a film was painted in with what it is to be painted in.

    Args:
        before, after: the two Looks, with what they are painted by.
        before_table, after_table: label -> look of each.
        size: (height, width) of the film.
        halos_px: how far each network sees, by its name; of that one that sees farthest where it is not there.
        device: where rows are found, as painting finds them.
    """

    def __init__(
        self,
        before: Sketch,
        after: Sketch,
        tables: tuple[np.ndarray, np.ndarray],
        size: tuple[int, int],
        halo_px: int,
        device: torch.device,
    ) -> None:
        self._before, self._after, self._size, self._device = before, after, size, device
        self._tables, self._halo_px = tables, halo_px
        self._meanings: tuple[Any, tuple[Meaning, Meaning]] | None = None
        self._told: dict[Any, bool] = {}

    def looks(self, labels: np.ndarray) -> np.ndarray:
        """What labels [..., h, w] are to wear, int32."""
        return self._tables[1][labels]

    def may_touch(self, labels: Sequence[int], time_s: float) -> bool:
        """Whether any pixel of a frame can differ, from the labels in it; where False, none does."""
        then, now = self._at(time_s)
        key = (tuple(labels), self._moment(time_s))
        if key not in self._told:
            self._told[key] = self._differ(then, now, *(table[list(labels)] for table in self._tables))
        return self._told[key]

    def _differ(self, then: Meaning, now: Meaning, old: np.ndarray, new: np.ndarray) -> bool:
        _, old_rank = np.unique(old, return_inverse=True)
        _, new_rank = np.unique(new, return_inverse=True)
        if not np.array_equal(old_rank, new_rank):
            return True  # other borders, or ties between two looks may fall otherwise
        if len(set(new_rank.tolist())) > 1 and (
            not self._same_widths(old, new) or not np.array_equal(then.mixed[old], now.mixed[new])
        ):
            return True
        if not np.array_equal(then.alone[old], now.alone[new]):
            return True
        common = [(then.fields[c][0], *now.fields[c]) for c in then.fields.keys() & now.fields.keys()]
        return any(wears[new].any() and not np.array_equal(a[old], b[new]) for a, b, wears in common)

    def _same_widths(self, old: np.ndarray, new: np.ndarray) -> bool:
        """Whether borders are as wide as they were; the widest of all blurs every one."""
        widths = [np.array(sketch.widths) for sketch in (self._before, self._after)]
        widest = [each[~np.eye(len(each), dtype=bool)].max(initial=0.0) for each in widths]
        return widest[0] == widest[1] and np.array_equal(widths[0][np.ix_(old, old)], widths[1][np.ix_(new, new)])

    @torch.inference_mode()
    def box(self, labels: np.ndarray, time_s: float) -> Box:
        """Where a frame of labels [h, w] is to be painted again; NOWHERE where it is not.

        Cost: two maps of rows, as painting makes one; a synchronisation on CUDA.
        """
        then, now = self._at(time_s)
        sketches = (self._before, self._after)
        rows = [self._rows(table[labels], sketch) for table, sketch in zip(self._tables, sketches, strict=True)]
        counts = [len(sketch.look.styles) for sketch in sketches]
        own = [_own(meaning, count)[row] for meaning, count, row in zip((then, now), counts, rows, strict=True)]
        found = _bounds(own[0] != own[1])
        for coat in then.fields.keys() & now.fields.keys():
            (old, _), (new, wears) = then.fields[coat], now.fields[coat]
            differs = _pairs(old, old, counts[0])[rows[0]] != _pairs(new, new, counts[1])[rows[1]]
            reach = _bounds(differs)
            if reach.area_px:
                reach = Box(0, 0, *self._size).meet(reach, self._reach_px(coat[1]))
                inside = np.s_[reach.top : reach.bottom, reach.left : reach.right]
                worn = _bounds(_wears(wears, counts[1])[rows[1][inside]])
                found = found.join(worn.moved(reach.top, reach.left))
        if not found.area_px:
            return NOWHERE
        box = Box(0, 0, *self._size).meet(found, CHROMA_PX).on_grid(self._size)
        return Box(0, 0, *self._size) if box.area_px >= BOX_PAYS * self._size[0] * self._size[1] else box

    def _reach_px(self, scale: float) -> int:
        """How far a coat's network sees, in the film's pixels."""
        small = working_size(self._size, scale)
        factor = max(full / part for full, part in zip(self._size, small, strict=True))
        return int(np.ceil((self._halo_px + 1) * factor)) + enlarging_px(self._size, scale)

    def _rows(self, looks: np.ndarray, sketch: Sketch) -> np.ndarray:
        on_device = torch.from_numpy(np.ascontiguousarray(looks[None], np.int32)).to(self._device)
        return blend_map(on_device, len(sketch.look.styles), self._size, sketch.widths)[0].cpu().numpy()

    def _moment(self, time_s: float) -> tuple[Any, ...]:
        return self._before.moment(time_s), self._after.moment(time_s)

    def _at(self, time_s: float) -> tuple[Meaning, Meaning]:
        moment = self._moment(time_s)
        if self._meanings is None or self._meanings[0] != moment:
            known: dict[Any, int] = {}
            self._meanings = moment, (self._before.meaning(time_s, known), self._after.meaning(time_s, known))
            self._told = {}
        return self._meanings[1]


def _own(meaning: Meaning, count: int) -> np.ndarray:
    """What each row means for its own pixel, int64."""
    return _pairs(meaning.alone, meaning.mixed, count)


def _pairs(alone: np.ndarray, mixed: np.ndarray, count: int) -> np.ndarray:
    """A number for each row of a table of blends: its look's where that is alone, else of both and the level."""
    row = np.arange(count * count * LEVELS)
    first, second, level = row // LEVELS // count, row // LEVELS % count, row % LEVELS
    both = ((mixed[first].astype(np.int64) + 1 << 24) + mixed[second]) * LEVELS + level
    return np.where(level == LEVELS - 1, alone[first], both)


def _wears(wears: np.ndarray, count: int) -> np.ndarray:
    """Whether each row wears something of a coat."""
    row = np.arange(count * count * LEVELS)
    return wears[row // LEVELS // count] | (wears[row // LEVELS % count] & (row % LEVELS < LEVELS - 1))


def _bounds(mask: np.ndarray) -> Box:
    """The smallest box around what is set in a mask [H, W]."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1) if len(rows) else NOWHERE
