"""Whole jobs, timed: overlapped, in turn, transcoded only, and in a process of their own."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from streamstyle.bench.report import Painting
from streamstyle.config import Options, OutputOptions, flag
from streamstyle.errors import StreamstyleError
from streamstyle.flow import prefetch, rebatch
from streamstyle.frames import Frame, FrameBatch, VideoInfo
from streamstyle.job import Report
from streamstyle.look import Look, ObjectStyle
from streamstyle.media.audio import AudioSource
from streamstyle.media.decode import decode
from streamstyle.media.encode import encode
from streamstyle.pipeline import QUEUE_BATCHES, stack, stylize
from streamstyle.preview import describe_objects
from streamstyle.styles import STYLES
from streamstyle.stylizer import Stylizer


@dataclass(frozen=True)
class Film:
    """What is painted: a film, and how. options.output holds the size and the length.

    Attributes:
        size: (width, height) as painted.
        folder: where to write; it is removed at the end.
    """

    path: Path
    info: VideoInfo
    options: Options
    size: tuple[int, int]
    folder: Path

    @property
    def out(self) -> OutputOptions:
        """The options of reading and writing."""
        return self.options.output

    @property
    def target(self) -> Path:
        """A file to write, again and again."""
        return self.folder / ("out.mov" if self.out.codec == "prores" else "out.mp4")

    def decoded(self) -> Generator[Frame, None, None]:
        """Its frames, decoded as a job does."""
        out = self.out
        return decode(self.info, start_s=out.start, duration_s=out.duration, size=out.size, hwaccel=out.hwaccel)

    def batches(self, size: int, first: int | None = None) -> Iterator[FrameBatch]:
        """Its frames in batches of a size, which they grow to from first on, as a job's do; None: all of one size."""
        return stack(rebatch(self.decoded(), size, first=first), 0, torch.device("cpu"))


class Ticks:
    """Notes when frames were done; a callback.

    The first batch pays for opening files, loading networks and recording statistics, so time is counted after it.
    """

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.marks: list[tuple[float, int]] = []

    def __call__(self, frames: int, expected: int | None = None) -> None:
        """So many more frames are done."""
        self.marks.append((time.perf_counter(), frames))

    @property
    def frames(self) -> int:
        """How many were done in all."""
        return sum(frames for _, frames in self.marks)

    @property
    def first(self) -> int:
        """Frames of the first batch."""
        return self.marks[0][1]

    def steady_s(self, ended: float | None = None) -> float:
        """Seconds a frame after the first batch, until ended or the last batch; of all where there is one batch."""
        began, counted = (
            (self.marks[0][0], self.frames - self.first) if len(self.marks) > 1 else (self.began, self.first)
        )
        return ((self.marks[-1][0] if ended is None else ended) - began) / counted


@dataclass(frozen=True)
class Timed:
    """A job that was run: its report, when its frames were done, and when it ended."""

    report: Report
    ticks: Ticks
    ended: float

    @property
    def fps(self) -> float:
        """Frames a second after the first batch, the encoder's draining included."""
        return 1 / self.ticks.steady_s(self.ended)

    def painting(self, look: Look) -> Painting:
        """As reported."""
        report = self.report
        bottleneck = max(report.busy, key=lambda name: report.busy[name])
        return Painting(len(look.styles), round(self.fps, 3), report.fps, report.busy, report.queues, bottleneck)


def run_job(film: Film, look: Look, *, overlap: bool = True, on_frames: Callable[[], None] | None = None) -> Timed:
    """Paint the film in this process; on_frames is called after each batch."""
    ticks = Ticks()

    def count(frames: int, expected: int | None) -> None:
        ticks(frames)
        if on_frames is not None:
            on_frames()

    report = stylize(film.path, film.target, look=look, options=film.options, on_frames=count, overlap=overlap)
    return Timed(report, ticks, time.perf_counter())


def transcode_fps(film: Film, batch_frames: int) -> float:
    """Frames a second of decoding and encoding alone, on two threads, sound and all."""
    sound = AudioSource(film.info, start_s=film.out.start, duration_s=film.out.duration)
    began = time.perf_counter()
    batches = prefetch(film.batches(batch_frames), QUEUE_BATCHES)
    written = encode(batches, film.target, film.info, film.out, size=film.size, audio=sound)
    return written.frames / (time.perf_counter() - began)


def run_apart(film: Film, look: Look) -> dict[str, Any]:
    """The report of the same job as a command of its own: its memory and its start are a user's.

    Raises:
        StreamstyleError: it failed; its own line.
    """
    choices = film.folder / "look.toml"
    look.write(choices)
    command = [sys.executable, "-m", "streamstyle", "run", str(film.path), str(film.target), "--look", str(choices)]
    command += [*words(film.options), "--quiet", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or [f"{film.path}: the job ended with status {done.returncode}"]
        raise StreamstyleError(said[0].removeprefix("streamstyle: "))
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def words(options: Any) -> list[str]:
    """Options as a command line says them: those that differ from ``run``'s defaults."""
    said: list[str] = []
    plain = OutputOptions() if isinstance(options, OutputOptions) else type(options)()
    for option in dataclasses.fields(plain):
        value = getattr(options, option.name)
        if dataclasses.is_dataclass(value):
            said += words(value)
        elif value is True:
            said.append(flag(option.name))
        elif value != getattr(plain, option.name):
            said += [flag(option.name), str(value)]
    return said


def choose_look(film: Film, count: int) -> Look:
    """A Look of count styles: background, every other object, and the largest objects of the first frame by name.

    There are fewer where the frame has too few objects.
    """
    if count == 1:
        return Look(style=STYLES[0])
    look = Look(background=STYLES[0], foreground=STYLES[1])
    if count == 2:
        return look
    frames = film.decoded()
    with closing(frames):
        batch = FrameBatch.stack([next(frames)])
    found = Stylizer(look, film.options).find_objects(batch, film.info.color)
    width, height = film.size
    named: list[ObjectStyle] = []
    for thing in describe_objects(found, (height, width)):
        # Named by a point of the film at its own size, which must lead back to the region.
        own = (film.info.width, film.info.height)
        x, y = (int((at + 0.5) * to / of) for at, to, of in zip(thing["point"], own, film.size, strict=True))
        column, row = (int((at + 0.5) * to / of) for at, to, of in zip((x, y), film.size, own, strict=True))
        label = found.ids[
            int((row + 0.5) * found.ids.shape[0] / height), int((column + 0.5) * found.ids.shape[1] / width)
        ]
        if int(label) == thing["number"] and len(named) < count - 2:
            named.append(ObjectStyle(f"thing{thing['number']}", STYLES[2 + len(named)], point=(x, y)))
    return replace(look, objects=tuple(named))


def gpu_busy(film: Film, look: Look) -> float | None:
    """Share of a job's time, after its first batch, that the device ran a kernel; None where it cannot be traced."""
    from torch.profiler import ProfilerActivity, profile

    began: list[float] = []
    try:
        with profile(activities=[ProfilerActivity.CUDA]):
            torch.zeros(1, device="cuda").add_(1)  # the tracer's own start takes a second
        trace = profile(activities=[ProfilerActivity.CUDA])

        def start() -> None:
            if not began:
                trace.start()
                began.append(time.perf_counter())

        ended = run_job(film, look, on_frames=start).ended
        torch.cuda.synchronize()
        trace.stop()
        spans = [
            (event.time_range.start, event.time_range.end)
            for event in trace.events() or []
            if event.device_type.name == "CUDA" and not event.name.startswith(("Memcpy", "Memset"))
        ]
    except (RuntimeError, ImportError, AttributeError):
        return None
    return round(covered(spans) / 1e6 / (ended - began[0]), 3) if spans else None


def covered(spans: list[tuple[float, float]]) -> float:
    """Length of the union of spans (begin, end)."""
    total, reached = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total
