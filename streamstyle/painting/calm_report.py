"""How steady a calmed film is, as one would find who does not know how it was calmed.

In every EVERY_FRAMES-th pair of frames of the film, cuts apart, the motion is searched for anew, both ways, in the
source's own luma. Each pixel of the last picture is compared with where that motion leads in this one, as shown and as
painted, if the way there and the way back agree: elsewhere this one does not show it, or the motion is not known.
Neither what calm trusts counts, nor the motion it went by, which was searched for from this one back. Where the motion
is wrong by half a pixel, strokes that are the same differ; so what is shown reads a little worse than it is, also where
nothing moves but noise. Left out is where another look is worn, where another style comes at once, and the soft borders
between looks: they move with the objects' outlines.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from streamstyle.painting.calm_state import Carried
from streamstyle.stages.calm import differences, inner
from streamstyle.stages.calm_cpu import REACH_PX
from streamstyle.stages.optical_flow import occlusion, optical_flow

EVERY_FRAMES, EVERY_PX = 7, 4
"""Each how manyth frame is looked at, and of it each how manyth line and column of the luma. Films that show a picture
two, three or five times do not fall into step with seven, nor does calm's anchor."""
PENDING = 64
"""Frames whose sums are brought from a device at once."""


@dataclass(frozen=True)
class Steadiness:
    """How steady a look's pixels are: RMS of the difference to the next frame along the source's motion, 0..1.

    Attributes:
        look: its number.
        shown, painted: RMS with and without calm, over the same pixels: those that wear it wholly in both frames, and
            from which the motion leads there and back again; none where another style came at once.
    """

    look: int
    shown: float
    painted: float

    @property
    def ratio(self) -> float:
        """With calm / without."""
        return self.shown / self.painted if self.painted else 1.0


class CalmReport:
    """Gathers the differences of a film, look by look.

    Args:
        looks: how many there are: a number's is what is left of it divided by these.

    Attributes:
        pairs: how many of the film there were, looked at or not. Were they counted from each cut on, a film of short
            shots would be looked at right after its cuts only.
    """

    def __init__(self, looks: int) -> None:
        self.looks = looks
        self.pairs = 0
        self.pending: list[Tensor] = []
        self._sums = np.zeros((3, looks))

    def add(
        self, last: Carried, now: Carried, other: Tensor | None, unseen: Collection[int], reach_px: int = REACH_PX
    ) -> None:
        """Look at a frame and the one before it, if it is one of those that are looked at.

        Args:
            last, now: what was carried from either.
            other: [h, w] bool, of now: where another style came at once; not counted.
            unseen: looks that are not counted.
            reach_px: of the halved luma, from a border between looks to where it is soft; not counted.

        Cost: two searches every EVERY_FRAMES frames; on CUDA no synchronisation but once in PENDING of these.
        """
        self.pairs += 1
        if self.pairs % EVERY_FRAMES != 1 or min(now.fine.shape) <= EVERY_PX // 2:
            return
        seen = _seen(last, now, reach_px)
        counted = seen.counted if other is None else seen.counted & ~other[seen.there]
        scale_y, scale_x = (a / b for a, b in zip(now.shown.shape[1:], now.fine.shape, strict=True))
        places = ((seen.rows + 0.5) * scale_y).long(), ((seen.columns + 0.5) * scale_x).long()
        along = torch.stack([seen.motion[..., 0] * scale_x, seen.motion[..., 1] * scale_y], 2)
        rows = [counted.float()]
        for old, new in ((last.shown, now.shown), (last.painted, now.painted)):
            rows.append(differences(old, new, *places, along) * counted)
        sums = _by_look(seen.worn.reshape(-1) % self.looks, torch.stack(rows).reshape(3, -1), self.looks)
        for look in unseen:
            sums[:, look] = 0
        self.pending.append(sums)
        if sums.device.type == "cpu" or len(self.pending) >= PENDING:
            self.sums()

    def sums(self) -> np.ndarray:
        """Pixels and squares as shown and as painted, [3, looks] float64."""
        if self.pending:
            self._sums = self._sums + torch.stack(self.pending).cpu().numpy().astype(np.float64).sum(0)  # synchronises
            self.pending = []
        return self._sums

    def take(self, sums: np.ndarray, pairs: int) -> None:
        """Go on as the one whose sums and pairs these are: all that is carried from frame to frame."""
        self._sums, self.pairs, self.pending = sums, pairs, []

    def rows(self) -> list[Steadiness]:
        """How steady each look is of which two frames were looked at."""
        count, shown, painted = self.sums()
        return [
            Steadiness(k, float(np.sqrt(shown[k] / count[k])), float(np.sqrt(painted[k] / count[k])))
            for k in range(self.looks)
            if count[k]
        ]


class _Seen(NamedTuple):
    """The pixels of the last luma that are looked at, EVERY_PX apart, [h, w] of them.

    Their rows [h] and columns [w]; their motion [h, w, 2] px; where in the halved luma of this frame it leads, two
    [h, w]; the look they wear, int32; and which of them count, bool.
    """

    rows: Tensor
    columns: Tensor
    motion: Tensor
    there: tuple[Tensor, Tensor]
    worn: Tensor
    counted: Tensor


def _seen(last: Carried, now: Carried, reach_px: int) -> _Seen:
    """Counted are those of one look in both frames, farther than reach_px from a border, that motion leads back to."""
    ahead = _motion(last, now)
    hidden = occlusion(ahead, _motion(now, last))
    part = slice(EVERY_PX // 2, None, EVERY_PX)
    y, x = (torch.arange(side, device=now.fine.device)[part] for side in now.fine.shape)
    motion, hidden = ahead[0, part, part], hidden[0, part, part]
    there = (
        _halved_place(y[:, None] + motion[..., 1], now.looks.shape[0]),
        _halved_place(x + motion[..., 0], now.looks.shape[1]),
    )
    worn = last.looks[y // 2][:, x // 2]
    before, after = inner(last.looks, reach_px)[y // 2][:, x // 2], inner(now.looks, reach_px)[there]
    return _Seen(y, x, motion, there, worn, ~hidden & (now.looks[there] == worn) & before & after)


def _motion(source: Carried, target: Carried) -> Tensor:
    """Where each pixel of the luma is in the other's, [1, 2 h, 2 w, 2]: to a quarter of its size, smoothed.

    The kernels go to the half of what they are given, and with all of the luma find calm's own motion again, with its
    errors: of a swan in rippling water the report was .31 so and is .51, where the measure of eval_calm says .45.
    """
    if source.fine.device.type == "cpu":
        return optical_flow(source.fine[None].contiguous(), target.fine[None].contiguous())
    found = optical_flow(source.luma[None].contiguous(), target.luma[None].contiguous()).permute(0, 3, 1, 2)
    size = source.fine.shape
    return 2 * F.interpolate(found, size=size, mode="bilinear", align_corners=False).permute(0, 2, 3, 1).contiguous()


def _halved_place(place: Tensor, size: int) -> Tensor:
    """The pixel of the halved luma in which a place of the luma lies."""
    return ((place + 0.5) / 2).floor().long().clamp(0, size - 1)


def _by_look(worn: Tensor, rows: Tensor, looks: int) -> Tensor:
    """Sums of rows [R, n] over what wears each look, [R, looks]; worn: [n] int32."""
    if rows.device.type == "cpu":  # index_add_ takes ten times as long there
        numbers = worn.numpy()
        return torch.from_numpy(np.stack([np.bincount(numbers, row, looks) for row in rows.numpy()]).astype(np.float32))
    return torch.zeros(len(rows), looks, device=rows.device).index_add_(1, worn, rows)
