"""Stretches of a film that is painted again from a project: copied, or merged of what was painted and what is new."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from streamstyle.frames import Checkpoint, FrameBatch, output_chroma, packed_planes
from streamstyle.media.closed import KeptSegment
from streamstyle.painting.boxes import Box
from streamstyle.painting.frame_painter import Painting, Reading
from streamstyle.stylizer import Stylizer


@dataclass(frozen=True)
class Piece:
    """Some frames of the film: as decoded, as they were painted, and what of them is to be painted again.

    Attributes:
        batch: as decoded; its checkpoint where the job may go on after it.
        painted: [N, bytes] uint8, packed.
        flows: what is known of their motion and wanted, N long where it was read; as of FrameBatch.
        at: which of them are touched; boxes: where.
        reading: of those.
    """

    batch: FrameBatch
    painted: np.ndarray
    flows: Sequence[np.ndarray | None] = ()
    at: tuple[int, ...] = ()
    boxes: tuple[Box, ...] = ()
    reading: Reading | None = None

    def __len__(self) -> int:
        return len(self.batch)


def begin(stylizer: Stylizer, piece: Piece | KeptSegment) -> tuple[Piece | KeptSegment, Painting | None]:
    """A piece, and what painting its touched frames needs no other frames for."""
    if isinstance(piece, KeptSegment) or piece.reading is None:
        return piece, None
    return piece, stylizer.begin_painting(piece.reading, subsample=_subsample(piece))


def end(
    stylizer: Stylizer, items: Iterator[tuple[Piece | KeptSegment, Painting | None]]
) -> Iterator[FrameBatch | KeptSegment]:
    """The pieces' frames, touched ones painted within their boxes, all else as it was painted; in order.

    Checkpoints hold what painting carries, too.
    """
    with closing(items) as upstream:  # type: ignore[type-var]
        for piece, painting in upstream:
            if isinstance(piece, KeptSegment):
                yield replace(piece, checkpoint=_with_painting(stylizer, piece.checkpoint))
                continue
            subsample = _subsample(piece)
            planes = packed_planes(piece.painted, *piece.batch.y.shape[1:], subsample=subsample)
            flows = [*piece.flows]
            if painting is not None:
                new = stylizer.end_painting(painting, subsample=subsample)
                _merge_(planes, new, piece, 1 + subsample)
                for i, flow in zip(piece.at, new.flows, strict=False):  # without a saver none
                    flows[i] = flows[i] if flow is None else flow
            y, u, v = planes
            last = piece.batch.checkpoint
            checkpoint = None if last is None else _with_painting(stylizer, last)
            wanted = flows if stylizer.painter.keeps_flow else ()
            yield replace(piece.batch, y=y, u=u, v=v, packed=piece.painted, checkpoint=checkpoint, flows=wanted)


def _with_painting(stylizer: Stylizer, checkpoint: Checkpoint) -> Checkpoint:
    return replace(checkpoint, state=checkpoint.state | {"painting": stylizer.painting_state()})


def _subsample(piece: Piece) -> bool:
    height, width = piece.batch.y.shape[1:]
    return output_chroma(width, height) == "yuv420p"


def _merge_(planes: tuple[Any, Any, Any], new: FrameBatch, piece: Piece, step: int) -> None:
    """Put what is new of a piece's touched frames into its planes; step: pixels a chroma sample."""
    for k, (i, box) in enumerate(zip(piece.at, piece.boxes, strict=True)):
        for plane, painted, each in zip(planes, (new.y, new.u, new.v), (1, step, step), strict=True):
            rows, columns = slice(box.top // each, box.bottom // each), slice(box.left // each, box.right // each)
            plane[i, rows, columns] = painted[k, rows, columns]
