"""The whole river on one screen: a film in, a painted film out."""

from __future__ import annotations

import functools
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamstyle._version import __version__
from streamstyle.config import Options, OutputOptions
from streamstyle.errors import OutputError
from streamstyle.flow import Gauge, marked_last, prefetch, rebatch
from streamstyle.frames import Checkpoint, Frame, FrameBatch, VideoInfo, luma_crc, output_chroma
from streamstyle.gpu.transfer import empty_pinned
from streamstyle.look import Look
from streamstyle.media.audio import AudioSource
from streamstyle.media.codecs import VideoEncoder, choose_encoder, versions
from streamstyle.media.decode import decode
from streamstyle.media.encode import check_output, encode, format_of
from streamstyle.media.planes import scaled_size
from streamstyle.media.probe import probe
from streamstyle.media.segments import WorkFolder, fingerprint
from streamstyle.naming import place_objects
from streamstyle.scene import ObjectStyleReport
from streamstyle.stylizer import Painting, Stylizer

if TYPE_CHECKING:
    import torch

BATCH_PX = {"cpu": 1 << 20, "cuda": 1 << 25}
"""Pixels of a batch: enough frames to keep the device busy, few enough to keep memory small."""
MOST_FRAMES = 16
QUEUE_BATCHES = 2
SEGMENT_PX = {"cpu": 24 << 20, "cuda": 1 << 30}
"""Pixels of a closed segment: some seconds of work. Shorter ones lose less in a crash, but a keyframe each makes the
film larger (2 % at 96 frames, 5 % at 48, 11 % at 24)."""
SEGMENT_FRAMES = (48, 480)
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
    resumed_frames: int = 0
    seconds: float = 0.0
    first_frame_s: float = 0.0
    fps: float = 0.0
    device: str = "cpu"
    objects: tuple[ObjectStyleReport, ...] = ()
    warnings: tuple[str, ...] = field(default=())
    peak_memory_bytes: int = 0
    busy: dict[str, float] = field(default_factory=dict)
    queues: dict[str, float] = field(default_factory=dict)

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
    say: Callable[[str], None] | None = None,
    dry_run: bool = False,
    overlap: bool = True,
) -> Report:
    """Paint a film.

    A job that is stopped, killed or fails is taken up by the same call: closed segments wait in a work folder beside
    the output, and the film comes out as if nothing had happened. ``options.output.no_resume`` does without.

    Args:
        input: any film PyAV reads.
        output: .mp4, .m4v, .mov or .mkv; appears only when whole.
        look: which object gets which style; a style's name stands for ``Look(style=name)``.
        options: everything else.
        on_frames: called with (frames done, frames expected or None) as the film is written.
        say: told in one line, at once, that an earlier job goes on or why it does not.
        dry_run: check everything, also the named objects, but write nothing.
        overlap: False decodes, paints and encodes in turn, on one thread, to measure what overlapping gains.

    Raises:
        StreamstyleError: one line that says what, where, and the mend; the work folder is left where a segment is done.

    Example:
        >>> stylize("in.mp4", "out.mp4", look=Look(style="starry")).frames_out
        240
    """
    began, options = time.perf_counter(), options or Options()
    look = Look(style=look) if isinstance(look, str) else look
    out, warnings = options.output, list[str]()
    info = probe(input)  # first: "exists, add --overwrite" would mislead where the input is the trouble
    check_output(input, output, out.overwrite)
    width, height = painted_size(info, output, out)
    encoder = choose_encoder(out, output, size=(width, height), format_name=format_of(Path(output)), fps=info.fps)
    expected = frames_expected(info, out)
    stylizer = Stylizer(look, options, frames_expected=expected)
    place_objects(stylizer, info)
    report = Report(str(input), str(output), width=width, height=height, device=describe_device(stylizer))
    if dry_run:
        return replace(report, seconds=round(time.perf_counter() - began, 3))

    per_segment = segment_frames(width * height, stylizer.device.type)
    job = describe_job(info, look, options, stylizer, encoder, per_segment)
    target = Path(os.path.realpath(output))
    with WorkFolder(target, job, resume=not out.no_resume, suffix=encoder.segment_suffix, say=say) as work:
        if work.checkpoint is not None:
            stylizer.load_state_dict(work.checkpoint.state)
        # The river. Three threads: decode, paint, and (this one) encode; bounded queues between them.
        river = River(overlap, on_frames, work.resumed_frames, expected)
        size = max(1, min(MOST_FRAMES, BATCH_PX[stylizer.device.type] // (width * height)))
        film = decode(
            info,
            start_s=out.start,
            duration_s=out.duration,
            size=out.size,
            after=work.checkpoint,
            hwaccel=out.hwaccel,
            warn=warnings.append,
        )
        batches = stack(rebatch(film, size, begin=work.frames, edge=per_segment), work.frames, stylizer.device)
        painted = paint(stylizer, river.thread("decode", batches), info, (width, height), per_segment)
        sound = AudioSource(info, start_s=out.start, duration_s=out.duration, warn=warnings.append)
        written = encode(
            river.thread("paint", painted),
            output,
            info,
            out,
            size=(width, height),
            audio=sound,
            work=work,
            encoder=encoder,
            warn=warnings.append,
            on_frames=river.count,
        )

    warnings += stylizer.warnings()
    seconds = time.perf_counter() - began
    return replace(
        report,
        frames_in=written.frames,
        frames_out=written.frames,
        duration_s=round(written.duration_s, 6),
        audio=written.audio,
        resumed_frames=work.resumed_frames,
        seconds=round(seconds, 3),
        first_frame_s=round(river.first_frame_at - began, 3) if river.first_frame_at else 0.0,
        fps=round((written.frames - work.resumed_frames) / seconds, 3),
        objects=tuple(stylizer.report()),
        warnings=tuple(warnings),
        peak_memory_bytes=peak_memory_bytes(),
        busy=river.busy(),
        queues={gauge.name: round(gauge.occupancy, 3) for gauge in river.gauges},
    )


class River:
    """The threads of a job and what they waited for."""

    def __init__(
        self, overlap: bool, on_frames: Callable[[int, int | None], None] | None, done: int, expected: int | None
    ) -> None:
        self.gauges: list[Gauge] = []
        self.first_frame_at = 0.0
        self._overlap, self._on_frames, self._expected = overlap, on_frames, expected
        self._began = time.perf_counter()
        if done and on_frames is not None:
            on_frames(done, expected)

    def thread(self, name: str, items: Iterable[FrameBatch]) -> Iterator[FrameBatch]:
        """Items made on a thread of their own, QUEUE_BATCHES ahead."""
        if not self._overlap:
            return iter(items)
        self.gauges.append(Gauge(name))
        return prefetch(items, QUEUE_BATCHES, self.gauges[-1])

    def count(self, frames: int) -> None:
        """Note frames written."""
        self.first_frame_at = self.first_frame_at or time.perf_counter()
        if self._on_frames is not None:
            self._on_frames(frames, self._expected)

    def busy(self) -> dict[str, float]:
        """Share of the job's time each stage was at work; the largest is the bottleneck."""
        seconds = time.perf_counter() - self._began
        if len(self.gauges) != 2:
            return {}
        decoded, painted = self.gauges
        idle = {
            "decode": decoded.upstream_waits_s,
            "paint": decoded.downstream_waits_s + painted.upstream_waits_s,
            "encode": painted.downstream_waits_s,
        }
        return {name: round(max(0.0, 1 - waits_s / seconds), 3) for name, waits_s in idle.items()}


def stack(groups: Iterable[list[Frame]], begin: int, device: torch.device) -> Iterator[FrameBatch]:
    """Groups of frames as batches, numbered from begin on, in memory from which the device takes them quickly."""
    empty = functools.partial(empty_pinned, device=device)
    with closing(iter(groups)) as upstream:  # type: ignore[type-var]
        for group in upstream:
            yield FrameBatch.stack(group, begin, empty)
            begin += len(group)


def paint(
    stylizer: Stylizer, batches: Iterator[FrameBatch], info: VideoInfo, size: tuple[int, int], per_segment: int
) -> Iterator[FrameBatch]:
    """Paint batches as they come, with a checkpoint after each that ends a segment, and after the last.

    Times given to the stylizer are seconds after the film's first frame.
    """
    subsample = output_chroma(*size) == "yuv420p"
    begun: deque[tuple[Painting, Checkpoint | None]] = deque()
    with closing(batches) as upstream:  # type: ignore[type-var]
        for batch, is_last in marked_last(upstream):
            times_s = [float((pts - info.start_pts) * info.time_base) for pts in batch.pts]
            painting = stylizer.begin_batch(batch, info.color, times_s, subsample=subsample)
            checkpoint = None
            if is_last or (batch.index + len(batch)) % per_segment == 0:
                checkpoint = Checkpoint(batch.pts[-1], luma_crc(batch.y[-1]), stylizer.state_dict())
            begun.append((painting, checkpoint))
            while len(begun) > (0 if is_last else stylizer.ahead):
                painting, checkpoint = begun.popleft()
                yield replace(painting.batch(), checkpoint=checkpoint)
            del batch, painting


def segment_frames(pixels: int, device: str) -> int:
    """Frames of a closed segment, from the pixels of one."""
    fewest, most = SEGMENT_FRAMES
    return max(fewest, min(most, SEGMENT_PX[device] // pixels))


def describe_job(
    info: VideoInfo, look: Look, options: Options, stylizer: Stylizer, encoder: VideoEncoder, per_segment: int
) -> dict[str, Any]:
    """All that the pictures of a job depend on: another run may go on with it only if nothing of this has changed."""
    import torch

    said = asdict(options)
    for only_how in ("overwrite", "no_resume"):
        del said["output"][only_how]
    return {
        "version": {"streamstyle": __version__, "torch": torch.__version__, **versions()},
        "input": fingerprint(info.path),
        "look": asdict(look),
        "options": said,
        "encoder": encoder.name,
        "device": describe_device(stylizer),
        "precision": str(stylizer.dtype),
        "threads": [torch.get_num_threads(), os.cpu_count()],
        "segment_frames": per_segment,
    }


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
