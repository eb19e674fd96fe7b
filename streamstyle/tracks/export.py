"""What becomes of a film's objects: masks as DAVIS has them, a film with the objects drawn in, or a label track.

The ending says which: ``masks/%05d.png``, ``tracks.mp4``, ``labels.npz``.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamstyle.config import OutputOptions
from streamstyle.errors import InputError, OutputError
from streamstyle.frames import Frame, FrameBatch, VideoInfo
from streamstyle.media.audio import AudioSource
from streamstyle.media.disk import told
from streamstyle.media.encode import encode
from streamstyle.media.label_track import LabelTrackWriter
from streamstyle.media.masks import MOST_OBJECTS, PALETTE
from streamstyle.media.stills import encode_indexed_png
from streamstyle.tracks.drawing import ObjectPainter
from streamstyle.tracks.outlines import enlarged_along_colors
from streamstyle.tracks.target import kind_of, masks_there, numbered

Names = Mapping[int, str]


@dataclass(frozen=True)
class LabelledFrame:
    """A frame as decoded, and what each of its pixels belongs to: labels [h, w] integers, of any size, 0 background."""

    frame: Frame
    labels: np.ndarray


@dataclass(frozen=True)
class Exported:
    """What was written: how many frames, and what became of the sound (none but in a film)."""

    frames: int
    audio: str = "none"


def export(
    frames: Iterable[LabelledFrame],
    out: str | Path,
    info: VideoInfo,
    names: Names,
    *,
    options: OutputOptions | None = None,
    warn: Callable[[str], None] | None = None,
    on_frames: Callable[[int], None] | None = None,
) -> Exported:
    """Write the objects of a film; what is there is replaced, once all is written.

    Args:
        frames: every frame in order; closed at the end.
        out: where to, which also says what: see kind_of.
        info: the film.
        names: each label's name; read as late as it may, so it may grow while frames come.
        options: how a film is encoded.
        warn: told in one line each what could not be kept.
        on_frames: called with 1 after each frame.

    Raises:
        OutputError: cannot be written; or more than 254 objects for masks.
        InputError: there are no frames.

    Cost: one frame in memory; a film's is encoded beside.
    """
    write = {"masks": _write_masks, "film": _write_film, "labels": _write_labels}[kind_of(out)]
    with closing(_counted(frames, info, on_frames or (lambda count: None))) as counted:
        return write(counted, Path(out), info, names, options or OutputOptions(), warn)


def _counted(
    frames: Iterable[LabelledFrame], info: VideoInfo, on_frames: Callable[[int], None]
) -> Generator[LabelledFrame, None, None]:
    """The frames, told one by one; closed with this; InputError where there is none."""
    upstream, are_any = iter(frames), False
    try:
        for labelled in upstream:
            are_any = True
            yield labelled
            on_frames(1)
        if not are_any:
            raise InputError(f"{info.path}: no frames to write; give another film")
    finally:
        close = getattr(upstream, "close", None)
        if close is not None:
            close()


def _write_masks(
    frames: Iterator[LabelledFrame], out: Path, info: VideoInfo, names: Names, options: OutputOptions, warn: object
) -> Exported:
    """One indexed PNG a frame, of the film's size, all put in place at the end."""
    with told(out):
        folder = out.parent
        made = not folder.exists()
        folder.mkdir(exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=folder, prefix=".", suffix=".part"))
    try:
        count = 0
        for labelled in frames:
            most = int(labelled.labels.max())
            if most > MOST_OBJECTS:
                raise OutputError(
                    f"{out}: a mask holds {MOST_OBJECTS} objects, frame {count} has number {most}; write labels.npz, "
                    "or name the objects that matter"
                )
            labels = enlarged_along_colors(labelled.labels, labelled.frame).astype(np.uint8)
            with told(out):
                (part / numbered(out.name, count)).write_bytes(encode_indexed_png(labels, PALETTE))
            count += 1
        with told(out):
            stale = {old.name for old in masks_there(out)} - {new.name for new in part.iterdir()}
            for new in part.iterdir():
                new.replace(folder / new.name)
            for name in stale:  # of a longer film; last, so that a frame always has a mask
                (folder / name).unlink()
        return Exported(count)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        if made and not any(folder.iterdir()):
            folder.rmdir()


def _write_film(
    frames: Iterator[LabelledFrame],
    out: Path,
    info: VideoInfo,
    names: Names,
    options: OutputOptions,
    warn: Callable[[str], None] | None,
) -> Exported:
    painter = ObjectPainter(info.color, names)

    def drawn() -> Iterator[FrameBatch]:
        for index, labelled in enumerate(frames):
            labels = enlarged_along_colors(labelled.labels, labelled.frame)
            yield FrameBatch.stack([painter.draw(labelled.frame, labels)], index)

    audio = AudioSource(info, warn=warn)
    written = encode(drawn(), out, info, options, size=(info.width, info.height), audio=audio, warn=warn)
    return Exported(written.frames, written.audio)


def _write_labels(
    frames: Iterator[LabelledFrame], out: Path, info: VideoInfo, names: Names, options: OutputOptions, warn: object
) -> Exported:
    count = 0
    with LabelTrackWriter(out, info, names) as track:
        for labelled in frames:
            track.add(labelled.labels, labelled.frame.pts)
            count += 1
    return Exported(count)
