"""The whole river on one screen: a film in, a painted film out."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from streamstyle.config import Options, OutputOptions
from streamstyle.errors import OutputError
from streamstyle.flow import prefetch, rebatch
from streamstyle.frames import Frame, FrameBatch, VideoInfo, output_chroma
from streamstyle.look import Look
from streamstyle.media.audio import AudioSource
from streamstyle.media.decode import decode
from streamstyle.media.encode import check_output, encode
from streamstyle.media.planes import scaled_size
from streamstyle.media.probe import probe
from streamstyle.naming import place_objects
from streamstyle.stylizer import ObjectStyleReport, Stylizer

BATCH_PX = {"cpu": 1 << 20, "cuda": 1 << 25}
"""Pixels of a batch: enough frames to keep the device busy, few enough to keep memory small."""
MOST_FRAMES = 16
QUEUE_BATCHES = 2
LARGEST_SIDE_PX = 16384


@dataclass(frozen=True)
class Report:
    """What a job did: the fields of ``--json``."""

    input: str
    output: str
    frames_in: int = 0
    frames_out: int = 0
    width: int = 0
    height: int = 0
    duration_s: float = 0.0
    audio: str = "none"
    seconds: float = 0.0
    fps: float = 0.0
    device: str = "cpu"
    objects: tuple[ObjectStyleReport, ...] = ()
    warnings: tuple[str, ...] = field(default=())
    peak_memory_bytes: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def stylize(
    input: str | Path,
    output: str | Path,
    *,
    look: Look | str,
    options: Options | None = None,
    on_frames: Callable[[int, int | None], None] | None = None,
    dry_run: bool = False,
) -> Report:
    """Paint a film.

    Args:
        input: any film PyAV reads.
        output: .mp4, .m4v, .mov or .mkv; appears only when whole.
        look: which object gets which style; a style's name stands for ``Look(style=name)``.
        options: everything else.
        on_frames: called with (frames done, frames expected or None) as the film is written.
        dry_run: check everything, also the named objects, but write nothing.

    Raises:
        StreamstyleError: one line that says what, where, and the mend; nothing is left behind.

    Example:
        >>> stylize("in.mp4", "out.mp4", look=Look(style="starry")).frames_out
        240
    """
    began, options = time.perf_counter(), options or Options()
    look = Look(style=look) if isinstance(look, str) else look
    out = options.output
    warnings: list[str] = []
    info = probe(input)  # first: "exists, add --overwrite" would mislead where the input is the trouble
    check_output(input, output, out.overwrite)
    width, height = painted_size(info, output, out)
    expected = frames_expected(info, out)
    stylizer = Stylizer(look, options, frames_expected=expected)
    place_objects(stylizer, info)
    report = Report(str(input), str(output), width=width, height=height, device=describe_device(stylizer))
    if dry_run:
        return replace(report, seconds=round(time.perf_counter() - began, 3))

    # The river. Three threads: decode, paint, and (this one) encode; bounded queues between them.
    per_batch = max(1, min(MOST_FRAMES, BATCH_PX[stylizer.device.type] // (width * height)))
    film = decode(info, start_s=out.start, duration_s=out.duration, size=out.size, warn=warnings.append)
    counted = CountedBatches(prefetch(rebatch(film, per_batch), QUEUE_BATCHES))
    painted = prefetch(
        paint(stylizer, counted, info, subsample=output_chroma(width, height) == "yuv420p"), QUEUE_BATCHES
    )
    sound = AudioSource(info, start_s=out.start, duration_s=out.duration, warn=warnings.append)
    written = encode(
        painted,
        output,
        info,
        out,
        size=(width, height),
        audio=sound,
        warn=warnings.append,
        on_frames=lambda count: on_frames(count, expected) if on_frames else None,
    )

    warnings += stylizer.warnings()
    seconds = time.perf_counter() - began
    return replace(
        report,
        frames_in=counted.frames,
        frames_out=written.frames,
        duration_s=round(written.duration_s, 6),
        audio=written.audio,
        seconds=round(seconds, 3),
        fps=round(written.frames / seconds, 3),
        objects=tuple(stylizer.report()),
        warnings=tuple(warnings),
        peak_memory_bytes=peak_memory_bytes(),
    )


class CountedBatches:
    """Stacks groups of frames into batches, numbered and counted."""

    def __init__(self, groups: Iterator[list[Frame]]) -> None:
        self._groups = groups
        self.frames = 0

    def __iter__(self) -> Iterator[FrameBatch]:
        try:
            for group in self._groups:
                batch = FrameBatch.stack(group, self.frames)
                self.frames += len(batch)
                yield batch
        finally:
            close = getattr(self._groups, "close", None)
            if close is not None:
                close()


def paint(stylizer: Stylizer, batches: CountedBatches, info: VideoInfo, *, subsample: bool) -> Iterator[FrameBatch]:
    """Paint batches as they come; times are seconds after the film's first frame."""
    upstream = iter(batches)
    try:
        for batch in upstream:
            times_s = [float((pts - info.start_pts) * info.time_base) for pts in batch.pts]
            yield stylizer.paint_batch(batch, info.color, times_s, subsample=subsample)
    finally:
        upstream.close()  # type: ignore[attr-defined]


def painted_size(info: VideoInfo, output: str | Path, out: OutputOptions) -> tuple[int, int]:
    """Width and height of the film to be written; OutputError where the encoder could not hold them."""
    width, height = scaled_size(info, out.size)
    if max(width, height) > LARGEST_SIDE_PX:
        raise OutputError(
            f"{output}: {width}x{height} is more than H.264 holds ({LARGEST_SIDE_PX} a side); give a smaller --size"
        )
    return width, height


def frames_expected(info: VideoInfo, out: OutputOptions) -> int | None:
    """How many frames a job will have, for progress; None where the file does not tell."""
    if info.frames is None:
        return None
    if not out.start and out.duration is None:
        return info.frames
    left_s = max(0.0, (info.duration_s or info.frames / float(info.fps)) - out.start)
    return round(min(left_s, out.duration if out.duration is not None else left_s) * float(info.fps))


def describe_device(stylizer: Stylizer) -> str:
    """``cpu`` or ``cuda (NVIDIA H200)``."""
    if stylizer.device.type == "cpu":
        return "cpu"
    import torch

    return f"{stylizer.device.type} ({torch.cuda.get_device_name(stylizer.device)})"


def peak_memory_bytes() -> int:
    """Largest resident size of this process so far; 0 where the system does not tell."""
    if os.name != "posix":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
