"""What travels: VideoInfo about a film, Frame as decoded, FrameBatch through the river.

Pixels are planar YUV, 8 bits a sample, exactly as a decoder gives and an encoder takes them. Chroma planes are half
size, rounded up (4:2:0), or full size (4:4:4, used where 4:2:0 cannot hold an odd width or height).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

import numpy as np

Empty = Callable[[tuple[int, ...]], np.ndarray]
Matrix = Literal["bt601", "bt709", "bt2020"]


@dataclass(frozen=True)
class ColorTags:
    """How the numbers in the planes mean colours, and the container's own tags, kept to be written back.

    Attributes:
        matrix: YUV to RGB matrix; where the file says nothing, BT.709 from 720 lines up, else BT.601.
        full_range: True for 0..255 luma ("pc"), False for 16..235 ("tv").
        space, primaries, transfer, range: the raw libav tags as read; 2 (0 for range) means "unspecified".
    """

    matrix: Matrix = "bt709"
    full_range: bool = False
    space: int = 2
    primaries: int = 2
    transfer: int = 2
    range: int = 0


@dataclass(frozen=True)
class VideoInfo:
    """A film as it is shown: rotation is already applied to width, height and sample_aspect_ratio.

    Attributes:
        path: the file.
        width, height: size in pixels of a frame as shown.
        rotation: degrees counter-clockwise (0, 90, 180, 270) by which coded frames are turned to be shown.
        time_base: seconds of one pts tick.
        fps: average frame rate, frames a second.
        frames: number of frames the container declares or that follows from its duration; None where unknown.
        duration_s: length in seconds; None where unknown.
        start_pts: pts of the first frame, in ticks of time_base.
        sample_aspect_ratio: width over height of one pixel as shown.
        audio: codec name of each audio stream, in order.
    """

    path: str
    width: int
    height: int
    time_base: Fraction
    fps: Fraction
    frames: int | None = None
    duration_s: float | None = None
    start_pts: int = 0
    rotation: int = 0
    sample_aspect_ratio: Fraction = Fraction(1)
    color: ColorTags = field(default_factory=ColorTags)
    codec: str = ""
    pix_fmt: str = ""
    audio: tuple[str, ...] = ()

    def time_of(self, pts: int) -> float:
        """Seconds from the first frame to a pts."""
        return float((pts - self.start_pts) * self.time_base)


@dataclass(frozen=True)
class Faults:
    """What a reader met from the first frame wanted to a certain one: frames given, packets that did not decode, times
    that were repaired, and frames of another size, (width, height, how many)."""

    frames: int = 0
    undecodable: int = 0
    repaired_pts: int = 0
    other_sizes: tuple[tuple[int, int, int], ...] = ()

    @classmethod
    def of(cls, told: dict[str, Any]) -> Faults:
        """As dataclasses.asdict told them, perhaps through JSON."""
        sizes = tuple((width, height, count) for width, height, count in told["other_sizes"])
        return cls(**{**told, "other_sizes": sizes})


@dataclass(frozen=True)
class Frame:
    """One decoded frame: y [H, W], u and v [Hc, Wc], uint8, C-contiguous, owned by the frame; pts in ticks; faults so
    far."""

    y: np.ndarray
    u: np.ndarray
    v: np.ndarray
    pts: int
    faults: Faults = Faults()


@dataclass(frozen=True)
class Checkpoint:
    """Where a job can be taken up again: after one frame of the film, with everything that later frames depend on.

    Attributes:
        pts: of that frame, in ticks, as decoded.
        crc: picture_crc of that frame as decoded: a reader that was sent there by a seek knows whether it arrived.
        state: what the painter carries from frame to frame, nested plain values and NumPy arrays.
        faults: what the reader had met by then, for the warnings of whoever goes on.
        closes: a segment of the film ends there.
        noted: where none does, what a project had noted of the segment so far; likewise plain.
    """

    pts: int
    crc: int
    state: dict[str, Any]
    faults: Faults = Faults()
    closes: bool = True
    noted: dict[str, Any] | None = None

    @classmethod
    def after(cls, batch: FrameBatch, state: dict[str, Any], *, closes: bool) -> Checkpoint:
        """Of the last frame of a batch as decoded."""
        crc = picture_crc(batch.y[-1], batch.u[-1], batch.v[-1])
        return cls(batch.pts[-1], crc, state, batch.faults, closes)


@dataclass(frozen=True)
class FrameBatch:
    """N consecutive frames: y [N, H, W], u and v [N, Hc, Wc], uint8; pts one per frame, in ticks.

    index is the number of the first frame, counted from 0 at the start of the job. checkpoint is there where the job
    may be taken up again after this batch; some end a segment of the film. packed [N, bytes] is there
    where y, u and v are views of it: each frame's planes one after another, as an encoder takes them without a copy.
    faults are the reader's up to the last frame. alphas are there where the film is cut into layers: by a layer's
    number [N, H, W] uint8, none for one that is in no frame. flows are there where a project keeps what calm went by:
    N long, of each frame [h, w, 2] int16, see painting.calm_flow, or None; else empty.
    """

    y: np.ndarray
    u: np.ndarray
    v: np.ndarray
    pts: tuple[int, ...]
    index: int = 0
    checkpoint: Checkpoint | None = None
    packed: np.ndarray | None = None
    faults: Faults = Faults()
    alphas: Mapping[int, np.ndarray] = field(default_factory=dict)
    flows: Sequence[np.ndarray | None] = ()

    def __len__(self) -> int:
        return len(self.pts)

    @classmethod
    def stack(cls, frames: Sequence[Frame], index: int = 0, empty: Empty | None = None) -> FrameBatch:
        """Copy frames of one size into one batch, in memory that empty(shape) gives."""
        y, u, v = (_stacked([getattr(frame, plane) for frame in frames], empty) for plane in "yuv")
        return cls(y, u, v, tuple(frame.pts for frame in frames), index, faults=frames[-1].faults)

    def unstack(self) -> list[Frame]:
        """The frames one by one, as views into the batch."""
        return [Frame(self.y[i], self.u[i], self.v[i], pts) for i, pts in enumerate(self.pts)]


def _stacked(planes: list[np.ndarray], empty: Empty | None) -> np.ndarray:
    return np.stack(planes, out=None if empty is None else empty((len(planes), *planes[0].shape)))


def packed_bytes(height: int, width: int, *, subsample: bool) -> int:
    """Bytes of a frame whose planes lie one after another: 4:2:0 where subsample, of even size, else 4:4:4."""
    return height * width * 3 // (2 if subsample else 1)


def packed_planes(packed: Any, height: int, width: int, *, subsample: bool) -> tuple[Any, Any, Any]:
    """Views y [N, H, W], u and v [N, Hc, Wc] of packed [N, packed_bytes], a NumPy array or a torch tensor."""
    luma = height * width
    rows, columns = (height // 2, width // 2) if subsample else (height, width)
    chroma = rows * columns
    y, u, v = packed[:, :luma], packed[:, luma : luma + chroma], packed[:, luma + chroma :]
    return (
        y.reshape(len(packed), height, width),
        u.reshape(len(packed), rows, columns),
        v.reshape(len(packed), rows, columns),
    )


def picture_crc(*planes: np.ndarray) -> int:
    """CRC-32 of a frame's planes, each [H, W] uint8: tells a picture from others."""
    crc = 0
    for plane in planes:
        crc = zlib.crc32(np.ascontiguousarray(plane).data, crc)
    return crc


def output_chroma(width: int, height: int) -> Literal["yuv420p", "yuv444p"]:
    """Chroma layout written for a size: 4:2:0 where both sides are even, else 4:4:4, which holds odd sizes."""
    return "yuv444p" if width % 2 or height % 2 else "yuv420p"
