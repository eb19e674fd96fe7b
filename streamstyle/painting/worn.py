"""What frames wear at a moment: each coat's styles, how much of it each look wears, and how paint is laid on."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from streamstyle.nets.painting import Affine
from streamstyle.stages.blends import blend_table


class WornCoat:
    """What a coat paints now.

    Args:
        styles: of each look.
        weights: [K] float32, how much of the coat each look wears, where that differs; see ``blends.blend_table``.
        share: [R] float32, the part of the painting that is this coat's, of each row; None: all of it.
        mixed: looks meet, and rows of the table of blends are painted; else the first style alone.
    """

    def __init__(self, styles: Sequence[Affine], weights: Tensor | None, share: Tensor | None, *, mixed: bool) -> None:
        self._styles, self._weights, self.share, self._mixed = tuple(styles), weights, share, mixed
        self._table: Affine | None = None
        self._lock = threading.Lock()

    @property
    def affine(self) -> Affine:
        """A style, or the table of blends: made when it is first painted with, for many frames may wait for that, and
        while styles fade each has another (ten styles: 20 MB)."""
        if not self._mixed:
            return self._styles[0]
        with self._lock:  # several threads paint
            if self._table is None:
                self._table = blend_table(self._styles, self._weights)
            return self._table

    def tensors(self) -> Iterator[Tensor]:
        """All that it was made from."""
        for style in self._styles:
            for layer in style:
                yield from layer
        yield from (x for x in (self._weights, self.share) if x is not None)


@dataclass(frozen=True)
class Worn:
    """What frames wear.

    Attributes:
        coats: one for each of the palette; None where nobody wears it.
        looks: which of the looks each coat is worn by.
        shares: [R, 2] float32, how far each row is painted, in luma and in chroma; None: all of it.
        soft: [R] float32, how far each row's paint is laid on as soft light; None: nowhere.
        bare: the looks without any paint.
    """

    coats: tuple[WornCoat | None, ...]
    looks: tuple[frozenset[int], ...]
    shares: Tensor | None
    soft: Tensor | None
    bare: frozenset[int] = frozenset()

    def tensors(self) -> Iterator[Tensor]:
        """All of them."""
        for coat in filter(None, self.coats):
            yield from coat.tensors()
        yield from (x for x in (self.shares, self.soft) if x is not None)


def changed_looks(before: Sequence[Any], now: Sequence[Any]) -> frozenset[int]:
    """The looks that wear something else than at the moment before.

    Args:
        before, now: the statistics' version, and each look's shares; before is empty where there was none.
    """
    same = len(before) > 0 and before[0] == now[0]
    return frozenset(k for k, shares in enumerate(now[1]) if not same or list(before[1][k]) != list(shares))
