"""A whole bench: every size in turn, then what Python itself costs."""

from __future__ import annotations

import gc
import os
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from streamstyle._version import __version__
from streamstyle.bench.alone import decode_alone, encode_alone, paint_alone, painting_parts
from streamstyle.bench.jobs import Film, Ticks, choose_look, gpu_busy, run_apart, run_job, transcode_fps
from streamstyle.bench.options import BenchOptions
from streamstyle.bench.report import BenchReport, PythonWork, Resolution
from streamstyle.bench.scene import make_film, wide
from streamstyle.config import Options, OutputOptions
from streamstyle.doctor import cpu_name
from streamstyle.gpu.transfer import choose_device
from streamstyle.look import Look
from streamstyle.media.codecs import choose_encoder
from streamstyle.media.encode import encode, format_of
from streamstyle.media.probe import probe
from streamstyle.objects.chosen_tracks import look_every
from streamstyle.pipeline import frames_of
from streamstyle.plan import painted_size
from streamstyle.process import cores
from streamstyle.styles import NONE

SHORT_SIDES = {"cpu": (240, 360, 480), "cuda": (480, 720, 1080, 2160)}
FRAMES = {"cpu": 32, "cuda": 240}
RUNS = 2
"""Of the job with K styles, overlapped and in turn, and of its painting alone; the fastest counts, for what other
programs take is not ours."""
BUSY_SHARE = 0.5
"""Load average a core from which other programs are thought to disturb."""
TINY_PX, TINY_FRAMES, TINY_RUNS = 64, 160, 5
Say = Callable[[str], None]


def bench(clip: Path | None, options: BenchOptions | None = None, *, say: Say | None = None) -> BenchReport:
    """Measure decoding, painting and encoding alone and together, size by size.

    Everything is written into a folder of the system's temporary one, which is removed, also when stopped.

    Args:
        clip: a film; None makes one of each size.
        options: what to measure.
        say: told what is being measured, as often as that changes.

    Raises:
        StreamstyleError: one line that says what, where, and the mend.

    Cost: with the defaults about two minutes on two cores.
    """
    options, say, began = options or BenchOptions(), say or (lambda line: None), time.perf_counter()
    options.check(clip)
    if clip is not None:
        probe(clip)
    device, warnings = choose_device(options.job.device), _load_warning()
    sides: tuple[int | None, ...] = options.short_sides() or ((None,) if clip else SHORT_SIDES[device.type])
    frames, found = options.frames or FRAMES[device.type], list[Resolution]()
    with tempfile.TemporaryDirectory(prefix="streamstyle-bench-") as folder:
        for side in sides:
            say("the film's making" if clip is None else "the film")
            film = _film(clip, side, frames, options, Path(folder))
            found.append(_measure(film, options.styles, device, say, warnings))
        say("Python's own work")
        python = _python_work(Path(folder))
    by_size = sorted(found, key=lambda size: size.width * size.height)
    return BenchReport(
        clip=None if clip is None else str(clip),
        device=device.type if device.type == "cpu" else f"{device.type} ({torch.cuda.get_device_name(device)})",
        machine=_machine(),
        encoder=_encoder_name(film),
        preset=options.job.output.preset,
        styles=options.styles,
        analyse_every=look_every(options.job.analysis, device.type),
        resolutions=tuple(found),
        flatness=round(by_size[-1].ns_per_px / by_size[0].ns_per_px, 3) if len(found) > 1 else None,
        python=python,
        seconds=round(time.perf_counter() - began, 1),
        warnings=tuple(warnings),
    )


def _film(clip: Path | None, side: int | None, frames: int, options: BenchOptions, folder: Path) -> Film:
    """The clip's first frames scaled to a short side, or a film made at it."""
    job = options.job
    if clip is None:
        assert side is not None
        path = make_film(folder / f"in{side}.mp4", wide(side), frames, objects=max(6, options.styles))
        film = Film(path, probe(path), job, wide(side), folder)
    else:
        info = probe(clip)
        length_s = max(0.001, frames / float(info.fps))
        job = replace(job, output=replace(job.output, size=side, duration=length_s))
        film = Film(clip, info, job, (0, 0), folder)
    return replace(film, size=painted_size(film.info, film.target, film.out))


def _measure(film: Film, styles: int, device: torch.device, say: Say, warnings: list[str]) -> Resolution:
    """Everything at one size."""
    name = "{}x{}: ".format(*film.size)
    one, look = choose_look(film, 1), choose_look(film, styles)
    if len(look.styles) < styles:
        warnings.append(f"{name}only {len(look.styles)} styles are worn: the first frame has no more objects to name")
    whole = _whole(film, one, look, device, lambda line: say(f"{name}{line}"))
    alone, parts, network = _stages(film, one, look, styles, whole["batch_frames"], device, say)
    fps, slowest = whole["job"].fps, max(("decode", "paint_k", "encode"), key=lambda stage: alone[stage])
    return Resolution(
        width=film.size[0],
        height=film.size[1],
        **whole,
        alone_ms=alone,
        parts_ms=parts,
        network_ms=network,
        slowest_alone=slowest,
        end_to_end_per_slowest=round(fps * alone[slowest] / 1e3, 3),
        end_to_end_per_plain=round(fps / whole["plain_fps"], 3),
        end_to_end_per_in_turn=round(fps / whole["in_turn_fps"], 3),
        following_share=round(following_share(alone, parts), 3),
        ns_per_px=round(1e9 / fps / (film.size[0] * film.size[1]), 3),
    )


def following_share(alone_ms: dict[str, float], parts_ms: dict[str, float]) -> float:
    """As in report.Resolution."""
    painting_ms = sum(ms for part, ms in parts_ms.items() if part != "network_1")
    return (parts_ms["find"] + parts_ms["track"]) / (alone_ms["decode"] + painting_ms + alone_ms["encode"])


def _whole(film: Film, one: Look, look: Look, device: torch.device, say: Say) -> dict[str, Any]:
    """The fields of a Resolution that whole jobs give."""
    on_cuda = device.type == "cuda"
    say(f"a whole job, {len(look.styles)} styles")
    _forget(device)
    jobs = [run_job(film, look)]
    peak_gpu_bytes = torch.cuda.max_memory_allocated(device) if on_cuda else None
    say("the same, a stage after the other")
    in_turn = [run_job(film, look, overlap=False)]
    for _ in range(RUNS - 1):
        say("both once more")
        jobs.append(run_job(film, look))
        in_turn.append(run_job(film, look, overlap=False))
    job = max(jobs, key=lambda timed: timed.fps)
    say("the same, in a process of its own")
    apart = run_apart(film, look)
    say("a whole job, one style")
    single = job if look == one else run_job(film, one)
    say("plain transcoding")
    plain_fps = transcode_fps(film, job.ticks.first)
    if on_cuda:
        say("the same job, the device traced")
    busy = gpu_busy(film, look) if on_cuda else None
    return {
        "frames": job.report.frames_out,
        "batch_frames": frames_of(film.size, device.type)[0],
        "job": job.painting(look),
        "one_style": single.painting(one),
        "in_turn_fps": round(max(timed.fps for timed in in_turn), 3),
        "plain_fps": round(plain_fps, 3),
        "first_frame_s": apart["first_frame_s"],
        "peak_memory_bytes": apart["peak_memory_bytes"],
        "peak_gpu_bytes": peak_gpu_bytes,
        "gpu_busy": busy,
    }


def _stages(
    film: Film, one: Look, look: Look, styles: int, batch_frames: int, device: torch.device, say: Say
) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
    """alone_ms, parts_ms and network_ms of a Resolution."""
    name = "{}x{}: ".format(*film.size)
    _forget(device)
    say(f"{name}decoding alone")
    decode_ms, batches = decode_alone(film, batch_frames, 1 if device.type == "cpu" else None)
    say(f"{name}painting alone")
    paint_ms, painted = min((paint_alone(film, batches, look) for _ in range(RUNS)), key=lambda found: found[0])
    one_ms = paint_ms if styles == 1 else paint_alone(film, batches, one)[0]
    say(f"{name}encoding alone")
    encode_ms = encode_alone(film, painted)
    say(f"{name}the parts of painting")
    parts, network = painting_parts(film, batches, device, look, styles)
    alone = {"decode": decode_ms, "paint_1": one_ms, "paint_k": paint_ms, "encode": encode_ms}
    a, b, c = ({key: round(ms, 4) for key, ms in found.items()} for found in (alone, parts, network))
    return a, b, c


def _python_work(folder: Path) -> PythonWork:
    """A tiny film in style ``none``, on one thread; the fastest of several runs."""
    path = make_film(folder / "tiny.mp4", (TINY_PX, TINY_PX), TINY_FRAMES)
    out = OutputOptions(preset="ultrafast", encoder="software", overwrite=True, no_resume=True)
    film = Film(path, probe(path), Options(output=out, device="cpu"), (TINY_PX, TINY_PX), folder)
    took: dict[str, list[float]] = {"job": [], "decode": [], "encode": []}
    for _ in range(TINY_RUNS):
        job = run_job(film, Look(style=NONE), overlap=False)
        took["job"].append(job.ticks.steady_s() * 1e3)
        decode_ms, batches = decode_alone(film, job.ticks.first)
        took["decode"].append(decode_ms)
        ticks = Ticks()
        encode(batches, film.target, film.info, out, size=film.size, on_frames=ticks)
        took["encode"].append(ticks.steady_s() * 1e3)
    job_ms, decode_ms, encode_ms = (round(min(values), 4) for values in took.values())
    return PythonWork(round(max(0.0, job_ms - decode_ms - encode_ms), 4), job_ms, decode_ms, encode_ms)


def _forget(device: torch.device) -> None:
    """Free what the last measurement held, so that peaks are the next one's."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def _encoder_name(film: Film) -> str:
    """FFmpeg's name of the encoder that the film's jobs got."""
    format_name = format_of(film.target)
    return choose_encoder(film.out, film.target, size=film.size, format_name=format_name, fps=film.info.fps).name


def _load_warning() -> list[str]:
    """A line where other programs are at work."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load < BUSY_SHARE * cores():
        return []
    return [f"the machine was busy when this began (load {load:.1f}, {cores()} cores): it is faster when left alone"]


def _machine() -> dict[str, Any]:
    versions = {"python": platform.python_version(), "torch": torch.__version__, "streamstyle": __version__}
    return {"processor": cpu_name(), "cores": cores(), **versions}
