"""Statistics that are recorded when they are first asked for: most shots of a film are not touched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import overload

from streamstyle.nets.painting import Affine


class Recorded(Sequence[Affine]):
    """Each pigment's affine maps; record gives them, once, if at all."""

    def __init__(self, record: Callable[[], list[Affine]]) -> None:
        self._record, self._done = record, list[Affine]()

    def _all(self) -> list[Affine]:
        self._done = self._done or self._record()
        return self._done

    def __len__(self) -> int:
        return len(self._all())

    @overload
    def __getitem__(self, number: int) -> Affine: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Affine]: ...
    def __getitem__(self, number: int | slice) -> Affine | Sequence[Affine]:
        return self._all()[number]
