"""Single pictures: read with the numbers their pixels hold, and indexed PNGs written."""

from __future__ import annotations

import io
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import numpy as np
from av.codec.context import CodecContext
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from streamstyle.errors import InputError, ShapeError


@dataclass(frozen=True)
class Still:
    """A picture as its file holds it.

    Attributes:
        kind: palette, pixels are numbers of colours [H, W]; grey, levels [H, W]; or rgb, [H, W, 3].
        pixels: uint8; what is transparent is black.
    """

    kind: Literal["palette", "grey", "rgb"]
    pixels: np.ndarray


def read_still(path: str | Path) -> Still:
    """Read a picture without turning the numbers of a palette into colours.

    Raises:
        InputError: no such file, a folder, or no picture that can be read.
    """
    frame = decode_still(path)
    try:
        return _still(frame)
    except ValueError as error:
        raise InputError(f"{path}: {error}; give a .png of 8 bits") from None


def decode_still(path: str | Path) -> VideoFrame:
    """A picture's pixels as its file holds them.

    Raises:
        InputError: no such file, a folder, or no picture that can be read.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the name") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder; give a picture in it") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); make it readable (chmod +r)") from None
    try:
        # From memory: a name with %d in it would mean a series of pictures to FFmpeg.
        with av.open(io.BytesIO(data), "r") as container:
            frame = next(container.decode(video=0), None)
    except (av.FFmpegError, ValueError, IndexError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path}: not a picture that can be read ({reason}); give a .jpg or .png") from None
    if frame is None:
        raise InputError(f"{path}: not a picture that can be read; give a .jpg or .png")
    return frame


def turns_of(frame: VideoFrame) -> int:
    """Degrees counter-clockwise (0, 90, 180, 270) by which a frame is to be turned to be shown."""
    return round(frame.rotation / 90) * 90 % 360


def encode_indexed_png(numbers: np.ndarray, palette: np.ndarray) -> bytes:
    """A PNG whose pixels [H, W] uint8 are numbers of colours, palette [256, 3] uint8 RGB."""
    if numbers.ndim != 2 or numbers.dtype != np.uint8 or palette.shape != (256, 3):
        shapes = f"{numbers.dtype} {[*numbers.shape]} and {[*palette.shape]}"
        raise ShapeError(f"an indexed PNG is made of [H, W] uint8 numbers and [256, 3] colours, got {shapes}")
    opaque = np.concatenate([np.full((256, 1), 255, np.uint8), palette.astype(np.uint8)], axis=1)  # ARGB
    encoder = CodecContext.create("png", "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.height, encoder.width = numbers.shape
    encoder.pix_fmt, encoder.time_base = "pal8", Fraction(1, 25)
    encoder.sample_aspect_ratio = Fraction(1)
    pair = (np.ascontiguousarray(numbers), opaque)
    frame = VideoFrame.from_ndarray(pair, "pal8")  # type: ignore[arg-type]  # as PyAV takes pal8
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])


def _still(frame: VideoFrame) -> Still:
    name = frame.format.name
    if name == "pal8":
        numbers, _ = frame.to_ndarray()
        return Still("palette", np.ascontiguousarray(numbers))
    if name.startswith("gray") and "16" in name:
        levels = frame.to_ndarray()
        if levels.max() > 255:
            raise ValueError("has 16-bit levels above 255")
        return Still("grey", levels.astype(np.uint8))
    if name.startswith(("gray", "mono")):
        return Still("grey", frame.reformat(format="gray").to_ndarray())
    rgba = frame.to_ndarray(format="rgba")
    rgb = np.where(rgba[..., 3:] > 0, rgba[..., :3], 0).astype(np.uint8)
    is_grey = name.startswith("ya") or (name.startswith("yuv") and bool((np.ptp(rgb, axis=2) == 0).all()))
    return Still("grey", np.ascontiguousarray(rgb[..., 0])) if is_grey else Still("rgb", rgb)
