"""What surrounds the river of one job: its identity, its work folder, its threads, its report."""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from streamstyle._version import __version__
from streamstyle.config import Options, OutputOptions
from streamstyle.flow import Gauge, parallel, prefetch
from streamstyle.media.beside import Beside
from streamstyle.media.codecs import versions
from streamstyle.media.fingerprint import fingerprint
from streamstyle.media.join import EncodeResult
from streamstyle.media.layers import LayerReport
from streamstyle.media.segments import Say, WorkFolder
from streamstyle.objects.segmenter import edges_in, file_of
from streamstyle.plan import Plan
from streamstyle.process import cores
from streamstyle.scene import ObjectStyleReport
from streamstyle.stylizer import Stylizer

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
R = TypeVar("R")
OnFrames = Callable[[int, int | None], None]

MOST_WORKERS = 4
STATE_FORM = 25
"""Of what checkpoints hold, and how it goes on: one more whenever that changes, so that a work folder of before starts
afresh; ``projects.project.STATES`` says whether a project of before may be used."""
CUDA_WORKERS = 2


@dataclass(frozen=True)
class Report:
    """What a job did: the fields of ``--json``.

    Attributes:
        frames_in, frames_out: of the whole film, also those of an earlier run.
        resumed_frames: how many of them an earlier run had painted.
        seconds, fps: of this run; first_frame_s: until its first painted batch was encoded.
        calm: of each object, and of what has no name: RMS of the change along the source's motion, 0..1, as shown
            (warping_error) and as painted, and their ratio, in every seventh pair of frames, where the motion there and
            back agrees and one look is wholly worn; see painting.calm_report.
        busy: share of the run's time each stage was at work; the largest is the bottleneck.
        project: what a project kept and what was painted anew, in frames, pixels and bytes; see repaint.
        queues: how full each stage's queue was on the average, 0..1: near 1 the stage below it binds.
    """

    input: str
    output: str
    frames_in: int = 0
    frames_out: int = 0
    width: int = 0
    height: int = 0
    duration_s: float = 0.0
    audio: str = "none"
    encoder: str = ""
    resumed_frames: int = 0
    seconds: float = 0.0
    first_frame_s: float = 0.0
    fps: float = 0.0
    device: str = "cpu"
    objects: tuple[ObjectStyleReport, ...] = ()
    calm: tuple[dict[str, Any], ...] = ()
    layers: tuple[LayerReport, ...] = ()
    warnings: tuple[str, ...] = field(default=())
    peak_memory_bytes: int = 0
    busy: dict[str, float] = field(default_factory=dict)
    queues: dict[str, float] = field(default_factory=dict)
    project: dict[str, Any] | None = None

    @classmethod
    def begun(cls, input: str | Path, output: str | Path, job: Plan, stylizer: Stylizer) -> Report:
        """What is known before any work is done."""
        encoder, device = job.encoder.name, describe_device(stylizer)
        return cls(str(input), str(output), width=job.width, height=job.height, encoder=encoder, device=device)

    def dry(self, began: float, warnings: Sequence[str], prospect: str | None, say: Say | None) -> Report:
        """The same where nothing is to be written; prospect is what a run would make of an earlier one's work."""
        if say is not None and prospect is not None:
            say(prospect)
        return replace(self, seconds=round(time.perf_counter() - began, 3), warnings=tuple(warnings))

    def finished(self, written: EncodeResult, river: River, began: float, resumed: int = 0, **found: Any) -> Report:
        """The same once the film is written; began: by perf_counter; found: what the job itself knows."""
        seconds = time.perf_counter() - began
        return replace(
            self,
            frames_in=written.frames,
            frames_out=written.frames,
            duration_s=round(written.duration_s, 6),
            audio=written.audio,
            resumed_frames=resumed,
            seconds=round(seconds, 3),
            first_frame_s=round((river.first_frame_at or began) - began, 3),
            fps=round((written.frames - resumed) / seconds, 3),
            peak_memory_bytes=peak_memory_bytes(),
            busy=river.busy(),
            queues={gauge.name: round(gauge.occupancy, 3) for gauge in river.gauges},
            **found,
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def in_words(self) -> list[str]:
        """What was written, a line for people each."""
        size, sound = f"{self.width}x{self.height}", f"sound {self.audio}"
        now, speed = self.frames_out - self.resumed_frames, f"{self.fps:.1f} fps"
        if self.resumed_frames:
            speed = f"{now} of them in this run, {speed}" if now else "all of them kept from before"
        film = f"{self.output}: {self.frames_out} frames, {size}, {self.duration_s:.2f} s, {sound}, {speed}"
        told = self.project or {}
        if "frames_painted" in told:
            film += (
                f"; {told['frames_painted']} frames painted again, {100 * told['pixels_painted']:.1f} % of all pixels, "
                f"{told['segments_copied']} segments copied, {told['segments_encoded']} encoded"
            )
        if told.get("bytes"):
            flow = told["bytes"].get("flow", 0)
            film += f"; the project has {sum(told['bytes'].values()) / 1e6:.1f} MB"
            film += f", {flow / 1e6:.1f} MB of them flow" if flow else ""
        return [film, *(f"{layer.file}: {layer.name}, in {layer.frames} frames" for layer in self.layers)]


def work_folder(
    job: Plan, same: dict[str, Any], out: OutputOptions, beside: Sequence[Beside], say: Say | None = None
) -> WorkFolder:
    """Where a film, and what goes beside it, is made: to be entered; same is the job's identity."""
    return WorkFolder(
        job.target,
        same,
        resume=not out.no_resume,
        suffix=job.encoder.segment_suffix,
        overwrite=out.overwrite,
        beside=beside,
        say=say,
    )


def identity(
    job: Plan,
    options: Options,
    stylizer: Stylizer,
    per_segment: int,
    mask: str | Path | None,
    tracks: str | Path | None,
    project: str | Path | None = None,
) -> dict[str, Any]:
    """All that the pictures of a job depend on: another run may go on with it only if nothing of this has changed."""
    import cv2
    import numpy as np
    import torch

    said = asdict(options)
    for only_how in ("overwrite", "no_resume"):
        del said["output"][only_how]
    form = said["output"].pop("layer_format")
    if options.output.layers is not None:  # one value, so that without layers no format differs
        said["output"]["layers"] = {"folder": os.path.realpath(options.output.layers), "format": form}
    return {
        "version": {
            "streamstyle": __version__,
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "numpy": np.__version__,
            "opencv": cv2.__version__,
            **versions(),
        },
        "input": fingerprint(job.info.path),
        "mask": None if mask is None else fingerprint(mask),
        "project": None if project is None else os.path.realpath(project),
        "tracks": None if tracks is None else fingerprint(tracks),
        "segmenter": None if (asked := file_of(options.analysis.segmenter)) is None else fingerprint(asked),
        "look": asdict(stylizer.look),
        "painted_with": {str(file): fingerprint(file) for file in stylizer.palette.files},
        "options": said,
        "encoder": job.encoder.name,
        "device": describe_device(stylizer),
        "precision": "int8" if stylizer.int8 else str(stylizer.dtype),
        "edges": edges_in(stylizer.device),
        "threads": [torch.get_num_threads(), cores()],
        "state": STATE_FORM,
        "segment_frames": per_segment,
    }


def workers_for(threads: int) -> int:
    """How many workers share a CPU's threads: as many as leave the fewest idle, at most MOST_WORKERS."""
    return max(
        range(1, min(MOST_WORKERS, threads) + 1),
        key=lambda workers: (workers > 1, threads // workers * workers, workers),
    )


class River:
    """The threads of a job and what they waited for.

    Args:
        depth: how many items may wait between two threads; 0 runs all in turn on the caller's.
        device: where frames are painted.
        on_frames: told of frames done and expected.
        done: frames of an earlier run; expected: of the whole film.

    Attributes:
        replayed: frames that an earlier run painted and this one only writes.
    """

    # Note [Workers]
    # A CPU's cores paint different frames, each alone, instead of sharing every layer of one: on two cores with AMX
    # three styles take 38 ms a frame so, 54 ms shared, and no core waits at a barrier for one that x264 has taken. The
    # torch threads of the process are dealt out to the workers, at most MOST_WORKERS, for each has a workspace. The
    # thread that reads keeps all of them: a network's large layers share well (HED's: 92 ms a picture, 215 on one). The
    # one that ends paintings has a worker's share: its many small operations would wait for cores that paint. On
    # CUDA two workers suffice: one brings its batch down while the other's is painted.

    def __init__(
        self, depth: int, device: torch.device, on_frames: OnFrames | None, done: int, expected: int | None
    ) -> None:
        import torch

        self.gauges: list[Gauge] = []
        self.first_frame_at: float | None = None
        self.replayed = 0
        self._depth, self._on_frames, self._expected = depth, on_frames, expected
        on_cpu, threads = device.type == "cpu", torch.get_num_threads()
        self._workers = workers_for(threads) if on_cpu else CUDA_WORKERS
        each = max(1, threads // self._workers) if on_cpu else threads
        self._setup = functools.partial(torch.set_num_threads, each)
        self._restore = functools.partial(torch.set_num_threads, threads)
        self._began = time.perf_counter()
        if done and on_frames is not None:
            on_frames(done, expected)

    def __enter__(self) -> River:
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()  # what a worker sets is also what threads begun later find

    def thread(self, name: str, items: Iterable[T], *, is_light: bool = False) -> Iterator[T]:
        """Items made on a thread of their own, ahead of who takes them; is_light: on a worker's share of the cores."""
        if not self._depth:
            return iter(items)
        self.gauges.append(Gauge(name))
        return prefetch(self._alone(items, self._setup if is_light else self._restore), self._depth, self.gauges[-1])

    def share(self, work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """work of each item, by several workers where the river has threads; in order. See Note [Workers]."""
        if not self._depth:
            return self._in_turn(work, items)
        return parallel(items, work, self._workers, setup=self._setup)

    def _in_turn(self, work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        for item in items:
            yield work(item)

    def _alone(self, items: Iterable[T], setup: Callable[[], None]) -> Iterator[T]:
        """The items, made by a thread that may use so many of torch's threads, whatever a worker has set."""
        setup()
        iterator = iter(items)
        try:
            yield from iterator
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    def count(self, frames: int) -> None:
        """Note frames written."""
        self.replayed -= frames
        if self.first_frame_at is None and self.replayed < 0:
            self.first_frame_at = time.perf_counter()
        if self._on_frames is not None:
            self._on_frames(frames, self._expected)

    def busy(self) -> dict[str, float]:
        """Share of the job's time each stage was at work; nothing is known of stages that work in turn."""
        seconds = time.perf_counter() - self._began
        waits_s, above_s = dict[str, float](), 0.0
        for gauge in self.gauges:
            waits_s[gauge.name] = above_s + gauge.upstream_waits_s
            above_s = gauge.downstream_waits_s
        if waits_s:
            waits_s["encode"] = above_s
        return {name: round(max(0.0, 1 - idle_s / seconds), 3) for name, idle_s in waits_s.items()}


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
