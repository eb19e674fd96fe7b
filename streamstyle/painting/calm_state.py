"""What calm carries from frame to frame, and its form on the disk."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from streamstyle.stages.calm import unit

PICTURES = {"painted", "shown", "anchor"}


class Arriving(NamedTuple):
    """Of the next frame, what Carried has of the last one; bits: see soft_bits; looked: were looks told, else all wear
    one."""

    painted: Tensor
    fine: Tensor
    luma: Tensor
    looks: Tensor
    bits: Tensor
    chroma: Tensor | None
    looked: bool


@dataclass
class Carried:
    """What the frames to come depend on.

    Attributes:
        painted: [3, H, W] the last painting; shown: what was shown for it; anchor: what was shown some frames ago.
        fine: [2 h, 2 w] uint8 luma of the source; luma: the same halved, [h, w] uint8; settled: that when each pixel
            last changed; painted_in: [h, w] float32, that when what the anchor shows was painted.
        looks: [h, w] int32; bits_in: [C, h, w] float32, its soft_bits when what the anchor shows was painted.
        chroma, chroma_settled, chroma_in: as luma, settled and painted_in, of u and v, [2, h, w]; None where it is
            not known.
        to_anchor: [h, w, 2] float32 px; anchored: [h, w] bool; bent: [h, w, 4] float32, see bend.
        sharpen: 0-d float32.
        age: frames since the anchor; settling: of each look, those for which what changed goes on arriving; empty where
            nothing did.
    """

    painted: Tensor
    shown: Tensor
    anchor: Tensor
    fine: Tensor
    luma: Tensor
    settled: Tensor
    painted_in: Tensor
    looks: Tensor
    bits_in: Tensor
    to_anchor: Tensor
    anchored: Tensor
    bent: Tensor
    sharpen: Tensor
    chroma: Tensor | None = None
    chroma_settled: Tensor | None = None
    chroma_in: Tensor | None = None
    age: int = 0
    settling: list[int] = field(default_factory=list)

    def leads_to(self, frame: Arriving) -> bool:
        """Whether a frame is of the same size and known in as much."""
        sizes = self.shown.shape == frame.painted.shape and self.fine.shape == frame.fine.shape
        return sizes and (self.chroma is None) == (frame.chroma is None)

    def renewed(self) -> Carried:
        """The same with what was shown as the anchor."""
        nowhere, everywhere = torch.zeros_like(self.to_anchor), torch.ones_like(self.anchored)
        return replace(self, anchor=self.shown, to_anchor=nowhere, anchored=everywhere, age=0)

    def state_dict(self) -> dict[str, Any]:
        """All of it, as NumPy arrays and plain values; see of_state."""
        parts = ((part.name, getattr(self, part.name)) for part in fields(self))
        return {name: _array(name, part) if isinstance(part, Tensor) else part for name, part in parts}

    @classmethod
    def of_state(cls, state: dict[str, Any], device: torch.device) -> Carried:
        """What was carried, on a device, whose state_dict this is."""
        parts = {n: _tensor(n, part, device) if isinstance(part, np.ndarray) else part for n, part in state.items()}
        return cls(**parts)  # type: ignore[arg-type]


def begun(frame: Arriving) -> Carried:
    """A shot's first frame."""
    painted, fine, luma, worn, bits, chroma, _ = frame
    return Carried(
        painted=painted,
        shown=painted,
        anchor=painted,
        fine=fine,
        luma=luma,
        settled=luma,
        painted_in=luma.float(),
        looks=worn,
        bits_in=bits,
        to_anchor=torch.zeros(*luma.shape, 2, device=luma.device),
        anchored=torch.ones_like(luma, dtype=torch.bool),
        bent=unit(luma.shape, luma.device),
        sharpen=torch.zeros((), device=luma.device),
        chroma=chroma,
        chroma_settled=chroma,
        chroma_in=None if chroma is None else chroma.float(),
    )


def _array(name: str, part: Tensor) -> np.ndarray:
    """On the host; pictures [H, W, 3]."""
    return (part.permute(1, 2, 0) if name in PICTURES else part).cpu().numpy()


def _tensor(name: str, part: np.ndarray, device: torch.device) -> Tensor:
    tensor = torch.from_numpy(np.array(part)).to(device)
    if name not in PICTURES:
        return tensor
    picture = tensor.permute(2, 0, 1)
    return picture.contiguous() if device.type == "cpu" else picture  # as they are blended there
