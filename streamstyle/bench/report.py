"""What a bench found: the fields of ``streamstyle bench --json``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Painting:
    """A whole job, its threads overlapped: decode, read, paint, encode.

    Attributes:
        styles: how many its Look has; fewer than asked where the film has too few objects.
        fps: frames a second once the first batch is written, to the film's end: what a long film runs at. The
            encoder's draining counts, so it is a little low on a short one.
        whole_fps: frames a second of the job, loading networks and all: what this short film ran at.
        busy: share of the job's time that each stage was at work: "decode", "read" (objects, cuts,
            styles), "paint", "encode".
        queues: mean share of the queue behind "decode", "read" and "paint" that was full.
        bottleneck: the stage with the largest busy share.
    """

    styles: int
    fps: float
    whole_fps: float
    busy: dict[str, float]
    queues: dict[str, float]
    bottleneck: str


@dataclass(frozen=True)
class Resolution:
    """Everything measured at one size.

    Attributes:
        width, height: of the painted film, in pixels.
        frames: of each job.
        batch_frames: painted at once, once the job's first batches, which may be smaller, are over.
        alone_ms: milliseconds a frame of each stage with nothing beside it: "decode", "paint_1" (one style, nothing to
            find), "paint_k" (K styles, objects tracked), "encode" (of the painted frames).
        parts_ms: milliseconds a frame of the parts of painting: "upload" (and YUV to RGB), "find" (shrinking; edges
            and regions of the frames that are looked at, spread over all), "track" (optical flow, matching: what
            reading the film in a job's batches takes beside "find"), "map" (soft borders at full size), "network_1",
            "network_k", "download" (RGB to YUV before it).
        network_ms: milliseconds a frame of the network by the number of styles in one pass: "1", "2", "4", "8" and K.
        job: with K styles; it, in_turn_fps and paint_k are each the better of two runs.
        one_style: with one style over the whole frame, nothing to find.
        in_turn_fps: of the job with K styles on one thread, a stage after the other.
        plain_fps: decoded and encoded with the same settings, nothing painted.
        slowest_alone: the slowest of "decode", "paint_k", "encode" alone.
        end_to_end_per_slowest: the job's fps over that of slowest_alone; 1 is perfect overlap.
        end_to_end_per_plain: the job's fps over plain_fps.
        end_to_end_per_in_turn: the job's fps over in_turn_fps.
        following_share: of a frame's time on the whole path, each step alone ("decode", all parts of painting with K
            styles, "encode"), that of "find" and "track".
        ns_per_px: nanoseconds of the job's time a pixel of a frame.
        first_frame_s: from a job's start, in a process of its own, until its first batch is painted and written.
        peak_memory_bytes: largest resident size of that process.
        peak_gpu_bytes: largest sum of tensors on the device; null without CUDA.
        gpu_busy: share of the job's time that the device ran a kernel, from a trace; null without CUDA or a tracer.
    """

    width: int
    height: int
    frames: int
    batch_frames: int
    alone_ms: dict[str, float]
    parts_ms: dict[str, float]
    network_ms: dict[str, float]
    job: Painting
    one_style: Painting
    in_turn_fps: float
    plain_fps: float
    slowest_alone: str
    end_to_end_per_slowest: float
    end_to_end_per_plain: float
    end_to_end_per_in_turn: float
    following_share: float
    ns_per_px: float
    first_frame_s: float
    peak_memory_bytes: int
    peak_gpu_bytes: int | None
    gpu_busy: float | None


@dataclass(frozen=True)
class PythonWork:
    """What Python itself costs, on a film so small that pixels cost next to nothing, in style ``none``, on one thread.

    Each figure is that of the fastest of several runs.

    Attributes:
        own_ms: job_ms less decode_ms and encode_ms: batching, handing over, checkpoints; not below 0.
        job_ms: milliseconds a frame of the whole job; no less than all of Python's work, PyAV's share of it too.
        decode_ms, encode_ms: of the same film alone.
    """

    own_ms: float
    job_ms: float
    decode_ms: float
    encode_ms: float


@dataclass(frozen=True)
class BenchReport:
    """A bench.

    Attributes:
        clip: the film; null for one made here.
        device: as in the report of ``run``.
        machine: "processor", "cores", "python", "torch", "streamstyle".
        encoder: FFmpeg's name; preset: the effort asked of it.
        preset: as given.
        styles: K.
        analyse_every: frames from one look for objects to the next, where nothing is in doubt.
        resolutions: in the order asked.
        flatness: ns_per_px at the largest size over that at the smallest; null where there is one size.
        python: what Python itself costs.
        seconds: how long the bench took.
        warnings: what a person should know.
    """

    clip: str | None
    device: str
    machine: dict[str, Any]
    encoder: str
    preset: str
    styles: int
    analyse_every: int
    resolutions: tuple[Resolution, ...]
    flatness: float | None
    python: PythonWork
    seconds: float
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)
