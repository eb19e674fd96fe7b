"""Calm: a painted film without flicker, a frame at a time, in order; what it carries can be kept and taken up again.

The motion is the source's, from its own luma at no more than LINES lines; ``stages.calm`` says how pictures are blended
along it. A new shot begins anew. How sharp the paintings are is held by a slow control: what blending takes from the
Laplacian's energy a little sharpening gives back, no more.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import cv2
import torch
import torch.nn.functional as F
from torch import Tensor

from streamstyle.errors import OptionError, ShapeError
from streamstyle.painting.calm_flow import Lumas, flow_steps, in_px
from streamstyle.painting.calm_report import CalmReport, Steadiness
from streamstyle.painting.calm_state import Arriving, Carried, begun
from streamstyle.stages.calm import (
    ANCHOR_FRAMES,
    REFRESH,
    bend,
    calm,
    carried_along,
    color_held,
    inner,
    near,
    sharpness,
    trust,
    unbent,
)
from streamstyle.stages.calm_border import border_held, soft_bits
from streamstyle.stages.calm_cpu import REACH_PX, Workspace, one_thread, search
from streamstyle.stages.calm_still import held, slower, standing, still_mask

LINES = 360
"""Short side of the source's luma that is enough: at 240 lines the warping error is a fifth higher."""
REFRESH_FADING, SETTLE_FRAMES = 0.25, 18
"""Share of the new painting while a look's style itself changes, and for so many frames after: ½ % is left then."""
LOOSENED = (1 - REFRESH_FADING) / (1 - REFRESH)
"""What trust is multiplied by for that."""
OTHER_STYLE, CELL_PX = 0.16, 8
"""RMS of a look's change, of its means over cells of so many pixels of the halved luma, that is another style at once:
on DAVIS styles flicker by 0.04 to 0.12, and differ from each other by 0.23 to 0.55."""
SHARPNESS, MOST_SHARPEN, PATIENCE = 0.96, 0.5, 0.3
"""Sharpness kept, of the paintings'; the most that is added for it; and how fast that is learned."""
SOFT_REACH = 0.85
"""Of its width, how far a soft border reaches to either side: its Gaussian's tail, to half a step of the blend."""
BAND_PX = 8
"""Pixels of the halved luma within which a border between looks is near: as far as the search looks across it."""
EITHER = 0.2
"""Near a border, by how much trust differs between where it is whole and where it is none."""
STANDS_PX = 0.1
"""Motion under which nothing moves: a search finds some such everywhere."""


class Trusted(NamedTuple):
    """Of each pixel [h, w]: see trust, border_held and bend; whether nothing moved, bool; see color_held; and where a
    style changes.

    The last two are None where the colour is not known, and where no style changes.
    """

    share: Tensor
    painted_in: Tensor
    bits_in: Tensor
    bent: Tensor
    still: Tensor
    chroma_in: Tensor | None
    changing: Tensor | None = None

    @property
    def loosened(self) -> Tensor:
        """share, less where a style changes."""
        return self.share if self.changing is None else torch.where(self.changing, self.share * LOOSENED, self.share)


class Calm:
    """Steps through a film.

    Args:
        strength: 0 (as painted) .. 1.
        looks: how many there are for the report and for fading: a number's is what is left of it divided by these.
        feather_px, narrowest_px: widths of the widest and the narrowest soft border between them, in pixels of the
            film; None: all are one.

    Attributes:
        flow: the motion that the last step went by, [h, w, 2] int16, see calm_flow; None where it needed none.

    Raises:
        OptionError: strength is not 0 .. 1.
    """

    def __init__(
        self, strength: float = 1.0, looks: int = 1, feather_px: float = 0.0, narrowest_px: float | None = None
    ) -> None:
        if not 0 <= strength <= 1:
            raise OptionError(f"--calm must be 0 .. 1, got {strength:g}")
        self.strength, self.looks = strength, looks
        self.widths_px = feather_px, feather_px if narrowest_px is None else narrowest_px
        self._shot: int | None = None
        self._now: Carried | None = None
        self.flow: Tensor | None = None
        self._report = CalmReport(looks)
        self._search = search()
        self._workspace = Workspace()

    def step(
        self,
        painted: Tensor,
        luma: Tensor,
        looks: Tensor | None,
        shot: int,
        *,
        fading: Collection[int] = (),
        chroma: Tensor | None = None,
        unseen: Collection[int] = (),
        flow: Tensor | None = None,
    ) -> Tensor:
        """The picture to show for the next frame.

        Args:
            painted: [3, H, W] floating, 0..1; it is kept, so it must not be written to afterwards.
            luma: [h, w] uint8 of the source, on painted's device; LINES lines are enough.
            looks: the look each pixel wears, int32 of any size, on that device; None where all wear one.
            shot: its number; another begins anew.
            fading: looks whose styles themselves are changing; the others are held as without.
            chroma: [2, *halved_size(h, w)] uint8, u and v of the source: what changes in these alone is seen too.
            unseen: looks of whose painting nothing is shown: left out of the report.
            flow: the motion from the last frame, as the attribute of that name was, if it is known: none is searched.

        Returns:
            [3, H, W] float32, 0..1, not to be written to.

        Raises:
            ShapeError: painted is not [3, H, W], luma not uint8 [h, w], or chroma or flow not of half its size.

        Cost: on CUDA no synchronisation but once in some seconds' frames.
        """
        if painted.ndim != 3 or painted.shape[0] != 3 or not painted.is_floating_point():
            raise ShapeError(f"painted must be floating [3, H, W], got {painted.dtype} {[*painted.shape]}")
        if luma.ndim != 2 or luma.dtype != torch.uint8:
            raise ShapeError(f"luma must be uint8 [h, w], got {luma.dtype} {[*luma.shape]}")
        if chroma is not None and (chroma.dtype != torch.uint8 or chroma.shape != (2, *halved_size(luma.shape))):
            raise ShapeError(f"chroma must be uint8 [2, h / 2, w / 2], got {chroma.dtype} {[*chroma.shape]}")
        if flow is not None and (flow.dtype != torch.int16 or flow.shape != (*halved_size(luma.shape), 2)):
            raise ShapeError(f"flow must be int16 [h / 2, w / 2, 2], got {flow.dtype} {[*flow.shape]}")
        painted, self.flow = painted.float(), None
        if self.strength == 0:
            return painted
        with one_thread(painted.device):
            return self._shown(self._arriving(painted, luma, looks, chroma), shot, fading, unseen, flow)

    def _arriving(self, painted: Tensor, fine: Tensor, looks: Tensor | None, chroma: Tensor | None) -> Arriving:
        if painted.device.type == "cpu":
            painted = painted.contiguous()  # OpenCV and NumPy are quick plane by plane
        luma = _halved(fine)
        worn = torch.zeros_like(luma, dtype=torch.int32) if looks is None else _resized(looks, luma.shape)
        widest_px, _ = self._widths_px(luma, painted)
        bits = soft_bits(worn if looks is None else looks, self.looks, luma.shape, widest_px)
        return Arriving(painted, fine, luma, worn, bits, chroma, looks is not None)

    def _shown(
        self, frame: Arriving, shot: int, fading: Collection[int], unseen: Collection[int], steps: Tensor | None
    ) -> Tensor:
        last, same = self._now, shot == self._shot
        self._shot = shot
        if last is None or not same or not last.leads_to(frame):
            self._now = begun(frame)
            return frame.painted
        reach_px = self._reach_px(frame.luma, frame.painted)
        left = last.settling or [0] * self.looks
        settling = [SETTLE_FRAMES if k in fading else max(0, frames - 1) for k, frames in enumerate(left)]
        changes = {k for k in range(self.looks) if k in fading or left[k]}
        changing = self._wearing(frame.looks, changes) if changes else None
        still, other, renews = self._still(last, frame, changing, reach_px), None, False
        if still.device.type == "cpu" and bool(still.all()):
            painted, fine, luma, worn, _, chroma, _ = frame
            now = replace(last, painted=painted, fine=fine, luma=luma, looks=worn, chroma=chroma)
        else:
            if steps is None:
                steps = flow_steps(self._search, Lumas(frame.fine, frame.luma), Lumas(last.fine, last.luma))
            self.flow = steps
            flow, still = self._flow(last, frame.luma, still, steps)
            trusted, other = self._trusted(last, frame, flow, still, fading, reach_px)
            # An anchor for nothing but what changes would be read once: then it is renewed at once.
            renews = len(changes) == self.looks or last.age + 1 >= ANCHOR_FRAMES
            now = self._blended(last, frame, flow, trusted._replace(changing=changing), renews)
        now.settling = settling
        self._report.add(last, now, other, unseen, reach_px)
        self._now = now.renewed() if renews else now
        return now.shown

    def _still(self, last: Carried, frame: Arriving, changing: Tensor | None, reach_px: int) -> Tensor:
        """Where nothing moved, and nothing changes, [h, w] bool."""
        still = still_mask(frame.luma, last.luma, last.settled)
        if frame.chroma is not None and last.chroma is not None and last.chroma_settled is not None:
            for planes in zip(frame.chroma, last.chroma, last.chroma_settled, strict=True):
                still &= still_mask(*planes)
        if frame.looked:
            still &= ~near(frame.looks != last.looks, reach_px + 2)
        if changing is not None:  # soft borders change with it
            still &= ~(near(changing, reach_px + 2) if frame.looked else changing)
        return still

    def _trusted(
        self, last: Carried, frame: Arriving, flow: Tensor, still: Tensor, fading: Collection[int], reach_px: int
    ) -> tuple[Trusted, Tensor | None]:
        """How far the last picture is trusted, and where another style came at once, [h, w] bool, if one fades."""
        pair = (frame.looks, last.looks) if frame.looked else ()
        near_border = ~inner(frame.looks, max(BAND_PX, reach_px)) if frame.looked else None
        share, painted_in = trust(flow, frame.luma, last.luma, last.painted_in, *pair, near_border=near_border)
        there, bits_in = border_held(flow, frame.bits, last.bits_in, *self._widths_px(frame.luma, frame.painted))
        share = share * there
        chroma_in = other = None
        if frame.chroma is not None and last.chroma_in is not None:
            color_share, chroma_in = color_held(flow, frame.chroma, last.chroma_in)
            share = share * color_share
        if fading:
            other = self._other_style(last.painted, frame.painted, frame.looks, flow, share)
            other &= self._wearing(frame.looks, fading)
            share = share.masked_fill(other, 0)
        bent, holds = bend(last.bent, flow, near_border)
        share = share * holds
        if near_border is not None:  # there much is half trusted, and half of two paintings is a blur
            share = torch.where(near_border, ((share - 0.5) / EITHER + 0.5).clamp(0, 1), share)
        return Trusted(share, painted_in, bits_in, bent, still, chroma_in), other

    def _blended(self, last: Carried, frame: Arriving, flow: Tensor, trusted: Trusted, renews: bool) -> Carried:
        painted, fine, luma, worn, bits, chroma, _ = frame
        share, still, loosened = trusted.share, trusted.still, trusted.loosened
        to_anchor = flow + carried_along(last.to_anchor, flow)
        anchored = (carried_along(last.anchored.float(), flow) > 0.999) & (share >= 0.5)
        if trusted.changing is not None:
            anchored &= ~trusted.changing  # where the last picture is nearer to what arrives
        around = (flow, to_anchor, anchored, loosened, still)
        shown = calm(
            painted, last.shown, last.anchor, *around, last.sharpen, strength=self.strength, workspace=self._workspace
        )
        missing = SHARPNESS - sharpness(shown) / (sharpness(painted) + 1e-9)
        now = Carried(
            painted=painted,
            shown=shown,
            anchor=last.anchor,
            fine=fine,
            luma=luma,
            settled=torch.where(still, last.settled, luma),
            painted_in=trusted.painted_in,
            looks=worn,
            bits_in=trusted.bits_in,
            to_anchor=to_anchor,
            anchored=anchored,
            bent=unbent(trusted.bent, (share >= 0.5) | still),
            sharpen=(last.sharpen + PATIENCE * missing).clamp(0, MOST_SHARPEN),
            chroma=chroma,
            chroma_in=trusted.chroma_in,
            age=last.age + 1,
        )
        if chroma is not None and last.chroma_settled is not None:
            now.chroma_settled = torch.where(still, last.chroma_settled, chroma)
        self._repaint_(now, bits, loosened, still if renews else still | anchored)
        return now

    def _repaint_(self, now: Carried, bits: Tensor, share: Tensor, keeps: Tensor) -> None:
        """Bring what it was painted in nearer to the frame by as much as is painted anew, but where keeps is."""
        new = 1 - (1 - REFRESH) * self.strength * share  # how much of what is shown is the new painting
        now.painted_in = torch.where(keeps, now.painted_in, now.painted_in + new * (now.luma.float() - now.painted_in))
        now.bits_in = now.bits_in + (new * (bits - now.bits_in)).masked_fill_(keeps, 0)
        if now.chroma is not None and now.chroma_in is not None:
            renewed = new * (now.chroma.float() - now.chroma_in)
            now.chroma_in = now.chroma_in + renewed.masked_fill(keeps, 0)

    def _wearing(self, worn: Tensor, looks: Collection[int]) -> Tensor:
        """Where some of the looks are worn, [h, w] bool."""
        if len(looks) >= self.looks:
            return torch.ones_like(worn, dtype=torch.bool)
        number, where = worn % self.looks, torch.zeros_like(worn, dtype=torch.bool)
        for look in looks:  # compared on the device: a table of them would have to be copied there
            where |= number == look
        return where

    def _widths_px(self, luma: Tensor, painted: Tensor) -> tuple[float, float]:
        """Widths of the widest and the narrowest soft border, in pixels of the halved luma."""
        scale = max(a / b for a, b in zip(luma.shape, painted.shape[1:], strict=True))
        return self.widths_px[0] * scale, self.widths_px[1] * scale

    def _reach_px(self, luma: Tensor, painted: Tensor) -> int:
        """How far a soft border reaches to either side, in pixels of the halved luma."""
        return max(REACH_PX, math.ceil(SOFT_REACH * self._widths_px(luma, painted)[0]) + 1)

    def _other_style(self, before: Tensor, painted: Tensor, worn: Tensor, flow: Tensor, share: Tensor) -> Tensor:
        """Where the look that is worn is painted in quite another style than one frame ago, [h, w] bool."""
        small, was = (F.interpolate(picture[None], size=worn.shape, mode="area")[0] for picture in (painted, before))
        was = carried_along(was.permute(1, 2, 0).contiguous(), flow).permute(2, 0, 1)
        counted = (share >= 0.5).float()[None]
        cells = F.avg_pool2d(torch.cat([(small - was) * counted, counted])[None], CELL_PX, ceil_mode=True)[0]
        weight = cells[3].flatten()
        change = (cells[:3].flatten(1) / weight.clamp_min(1e-6)).square().mean(0)
        looks = worn % self.looks
        sums = torch.zeros(2, self.looks, device=worn.device)
        sums.index_add_(1, looks[::CELL_PX, ::CELL_PX].flatten(), torch.stack([weight, weight * change]))
        other = sums[1] > OTHER_STYLE**2 * sums[0]
        return other.index_select(0, looks.flatten()).view(worn.shape)

    def _flow(self, last: Carried, luma: Tensor, still: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        """Where in the previous frame each pixel of the halved luma was, [h, w, 2], and what of still does stand."""
        flow = in_px(steps)
        still = standing(still, flow, luma, last.luma)
        return held(flow, still | slower(flow, STANDS_PX / 2)), still

    def report(self) -> list[Steadiness]:
        """How steady each look is of which two frames were looked at; see calm_report."""
        return self._report.rows()

    # -- a job that goes on -------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything later frames depend on, as NumPy arrays; see load_state_dict."""
        return {
            "shot": self._shot,
            "now": None if self._now is None else self._now.state_dict(),
            "sums": self._report.sums(),
            "pairs": self._report.pairs,
        }

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Go on, on a device, as the one whose state_dict this is."""
        self._shot = state["shot"]
        self._report.take(state["sums"], state["pairs"])
        self._now = None if state["now"] is None else Carried.of_state(state["now"], device)


def halved_size(shape: Sequence[int]) -> tuple[int, int]:
    """Size of the halved luma of a luma [h, w]."""
    return -(-shape[-2] // 2), -(-shape[-1] // 2)


def _halved(luma: Tensor) -> Tensor:
    size = halved_size(luma.shape)
    if luma.device.type == "cpu":
        return torch.from_numpy(cv2.resize(luma.numpy(), size[::-1], interpolation=cv2.INTER_AREA))
    return F.interpolate(luma[None, None].float(), size=size, mode="area")[0, 0].round().to(torch.uint8)


def _resized(looks: Tensor, size: torch.Size) -> Tensor:
    if looks.shape == size:
        return looks
    return F.interpolate(looks[None, None].float(), size=size, mode="nearest-exact")[0, 0].to(torch.int32)
