"""What gpu_report.py measures of stages and whole films on a device. Each part yields figures as they come.

The part_* take a folder to write in; it may be full of what others wrote.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import Rows, figure, slope, time_on, weights_or_random

if TYPE_CHECKING:
    import numpy as np
    import torch

    from streamstyle.bench.jobs import Film
    from streamstyle.config import StyleOptions
    from streamstyle.frames import FrameBatch
    from streamstyle.look import Look

DEVICE = "cuda"
HEIGHT, WIDTH, FRAMES = 1080, 1920, 240
SIZES = (480, 2160, 720)
"""Short sides; the first two are compared."""
OBJECT_FRAMES = 48
SLOPE_FRAMES, SLOPE_LINES, STALL_EVERY, STALL_S = 10_000, 96, 500, 0.5


def film_of(
    folder: Path, frames: int | None = None, lines: int | None = None, painting: StyleOptions | None = None
) -> Film:
    """The film that ``streamstyle bench`` makes for itself, with the encoder's settings that goals are stated for."""
    from streamstyle.bench.jobs import Film
    from streamstyle.bench.scene import make_film, wide
    from streamstyle.config import Options, OutputOptions, StyleOptions
    from streamstyle.media.probe import probe

    frames, lines = frames or FRAMES, lines or HEIGHT
    path = folder / f"{lines}x{frames}.mp4"
    if not path.exists():
        make_film(path, wide(lines), frames)
    out = OutputOptions(preset="veryfast", encoder="software", overwrite=True)
    options = Options(output=out, painting=painting or StyleOptions())
    return Film(path, probe(path), options, wide(lines), folder)


def part_stages(folder: Path) -> Rows:
    """Each stage of the device alone, 1080p, in batches of 16 and of 4 for painting."""
    import torch

    from streamstyle.config import AnalysisOptions
    from streamstyle.frames import ColorTags
    from streamstyle.gpu.transfer import choose_dtype
    from streamstyle.nets.stylenet import StyleNet
    from streamstyle.objects.segmenter import Segmenter
    from streamstyle.stages.color import rgb_to_yuv, yuv_to_rgb
    from streamstyle.stages.stylize_regions import RegionStylizer, blend_index, blend_table

    known = weights_or_random()
    device = torch.device(DEVICE)
    y = torch.randint(0, 256, (16, HEIGHT, WIDTH), dtype=torch.uint8)
    u = torch.randint(0, 256, (16, HEIGHT // 2, WIDTH // 2), dtype=torch.uint8)
    host = tuple(plane.pin_memory() if DEVICE == "cuda" else plane for plane in (y, u, u.clone()))
    planes = host[0].to(device), host[1].to(device), host[2].to(device)
    rgb = yuv_to_rgb(planes, ColorTags())
    small = torch.nn.functional.interpolate(rgb, (240, 427), mode="area")
    stylenet = StyleNet.load()
    net = RegionStylizer(stylenet, device, choose_dtype("auto", device))
    styles, four = [net.record(rgb[:1], stylenet.norms(k)) for k in range(8)], rgb[:4]

    def several(count: int) -> Callable[[], Any]:
        columns = torch.arange(WIDTH, device=device, dtype=torch.int32) // 8 % count
        worn = columns.expand(4, HEIGHT, WIDTH).contiguous()
        index, table = blend_index(worn, worn, rgb[:4, 0] * 0 + 1, count), blend_table(styles[:count])
        return lambda: net.paint(four, table, index)

    segmenter = Segmenter(AnalysisOptions(), device)
    calls: list[tuple[str, int, Callable[[], Any]]] = [
        ("upload", 16, lambda: [plane.to(device, non_blocking=True) for plane in host]),
        ("YUV to RGB", 16, lambda: yuv_to_rgb(planes, ColorTags())),
        ("edges, hierarchy, regions (427x240)", 16, lambda: segmenter(small)),
        ("paint, one style", 4, lambda: net.paint(four, styles[0])),
        ("paint, four styles", 4, several(4)),
        ("paint, eight styles", 4, several(8)),
        ("RGB to YUV", 16, lambda: rgb_to_yuv(rgb, ColorTags(), subsample=True)),
        ("download", 16, lambda: [plane.cpu() for plane in planes]),
    ]
    took: dict[str, float] = {}
    yield figure("published weights", float(known), "")
    for name, count, call in calls:
        took[name] = time_on(device, call, runs=10)["median"] / count
        yield figure(f"{name}, 1080p", took[name], "ms/frame")
    ratio = took["paint, eight styles"] / took["paint, one style"]
    yield figure("paint, eight styles / one", ratio, "x", goal=1.1, at_least=False)


def part_objects(folder: Path) -> Rows:
    """Objects named and found at 1080p, with neither decoder nor encoder: where a CPU finds them, and in what time."""
    import numpy as np
    import torch

    from streamstyle.bench.scene import batches
    from streamstyle.frames import FrameBatch
    from streamstyle.look import Look, ObjectStyle
    from streamstyle.objects.chosen_tracks import LOOK_EVERY

    weights_or_random()
    frames = [frame for one in batches((WIDTH, HEIGHT), OBJECT_FRAMES) for frame in one.unstack()]
    film = [FrameBatch.stack(frames[i : i + 8], i) for i in range(0, len(frames), 8)]
    disc = ObjectStyle("disc", "starry", point=(WIDTH // 6, HEIGHT // 3))
    looks = {
        "one named": Look(background="wave", foreground="wave", objects=(disc,)),
        "found by themselves": Look(background="wave", foreground="ember"),
    }
    for name, look in looks.items():
        here, ms = scene_of(film, look, torch.device(DEVICE), LOOK_EVERY["cuda"]["appearance"])
        yield figure(f"objects at 1080p, {name}", ms, "ms/frame")
        there, cpu_ms = scene_of(film, look, torch.device("cpu"), LOOK_EVERY["cuda"]["appearance"])
        yield figure(f"objects at 1080p, {name}, on the CPU", cpu_ms, "ms/frame")
        either = np.logical_or(here, there).sum((1, 2))
        both = np.logical_and(here, there).sum((1, 2))
        yield figure(f"objects at 1080p, {name}, of the picture", float(here.mean()), "")
        same = float((both / np.maximum(1, either)).mean())  # nothing found anywhere is no agreement
        yield figure(f"objects at 1080p, {name}, J with what a CPU finds", same, "", goal=0.9)


def scene_of(film: list[FrameBatch], look: Look, device: torch.device, every: int) -> tuple[np.ndarray, float]:
    """Where a film wears no background, [N, h, w] bool; and the milliseconds a frame after the first batch."""
    import numpy as np

    from streamstyle.bench.scene import FPS
    from streamstyle.config import AnalysisOptions
    from streamstyle.frames import ColorTags
    from streamstyle.gpu.transfer import upload
    from streamstyle.scene import SceneReader

    reader, color, looks, began = (
        SceneReader(look, AnalysisOptions(analyse_every=every), device),
        ColorTags(),
        list[np.ndarray](),
        0.0,
    )
    background = look.styles.index(look.background_style)
    for number, batch in enumerate(film):
        began = time.perf_counter() if number == 1 else began
        times_s = [pts / FPS for pts in batch.pts]
        planes = upload((batch.y, batch.u, batch.v), device)
        later = [frame for more in film[number + 1 :] for frame in more.unstack()]
        scene = reader.read(planes, color, batch.index, times_s, functools.partial(iter, later))
        assert scene.looks is not None
        looks.append(scene.looks != background)
    taken_ms = (time.perf_counter() - began) * 1e3
    return np.concatenate(looks), taken_ms / sum(map(len, film[1:]))


def part_graphs(folder: Path) -> Rows:
    """A batch of four painted at 1080p by launches one after another, beside the same captured as one CUDA graph."""
    import torch

    from streamstyle.gpu.transfer import choose_dtype
    from streamstyle.nets.stylenet import StyleNet
    from streamstyle.stages.stylize_regions import RegionStylizer, blend_index, blend_table

    weights_or_random()
    device, stylenet = torch.device(DEVICE), StyleNet.load()
    net = RegionStylizer(stylenet, device, choose_dtype("auto", device))
    rgb = torch.rand(4, 3, HEIGHT, WIDTH, device=device, generator=torch.Generator(device).manual_seed(0))
    styles = [net.record(rgb[:1], stylenet.norms(k)) for k in range(4)]
    worn = torch.arange(WIDTH, device=device, dtype=torch.int32).expand(4, HEIGHT, WIDTH) // 8 % 4
    index = blend_index(worn.contiguous(), worn.contiguous(), rgb[:, 0] * 0 + 1, 4)
    table = blend_table(styles)
    calls = {"one style": lambda: net.paint(rgb, styles[0]), "four styles": lambda: net.paint(rgb, table, index)}
    for name, call in calls.items():
        launched = apart(call)
        yield figure(f"{name}, launched, whole batch", launched["whole"], "ms/frame")
        yield figure(f"{name}, of which the host launches", launched["host"], "ms/frame")
        replay, same = captured(call)
        yield figure(f"{name}, as a graph gives the same", float(same), "", goal=1)
        if not same:  # what paints something else is not timed
            continue
        replayed = apart(replay)
        yield figure(f"{name}, as a graph, whole batch", replayed["whole"], "ms/frame")
        yield figure(f"{name}, as a graph, of which the host launches", replayed["host"], "ms/frame")
        yield figure(f"{name}, launched / as a graph", launched["whole"] / replayed["whole"], "x")


def captured(call: Callable[[], Any]) -> tuple[Callable[[], Any], bool]:
    """A replay of a call as one CUDA graph, and whether it gives what the call gives, to the bit."""
    import torch

    expected, beside = call().clone(), torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):  # what is chosen or kept at a first call is not part of the graph
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=beside):  # which the kernels' launcher knows by now
        painted = call()
    graph.replay()
    torch.cuda.synchronize()
    return graph.replay, torch.equal(painted, expected)


def apart(call: Callable[[], Any], runs: int = 20) -> dict[str, float]:
    """Milliseconds a frame of a batch of four, medians: until it is done, and until the host has given it all away."""
    import statistics

    import torch

    host, whole = list[float](), list[float]()
    for _ in range(runs + 3):
        torch.cuda.synchronize()
        began = time.perf_counter()
        call()
        host.append(time.perf_counter() - began)
        torch.cuda.synchronize()
        whole.append(time.perf_counter() - began)
    return {name: statistics.median(took[3:]) * 1e3 / 4 for name, took in (("host", host), ("whole", whole))}


def part_pipeline(folder: Path) -> Rows:
    """The whole path at 1080p, beside plain transcoding of the same film with the same encoder settings."""
    import torch

    from streamstyle.bench.jobs import choose_look, run_job, transcode_fps
    from streamstyle.config import StyleOptions

    weights_or_random()
    film = film_of(folder)
    plain = transcode_fps(film, 8)
    yield figure("plain transcoding, 1080p, x264 veryfast", plain, "fps")
    own_size = film_of(folder, painting=StyleOptions(stroke_scale=480 / HEIGHT))
    cases = [(film, 1, ""), (film, 4, ", objects tracked"), (film, 8, ", objects tracked"), (own_size, 1, ", own size")]
    fps: dict[int, float] = {}
    for case, count, how in cases:
        look = choose_look(case, count)
        name = f"{len(look.styles)} style{'s' if len(look.styles) > 1 else ''}{how}"
        run_job(film_of(folder, 24, painting=case.options.painting), look)  # compiles what this look needs
        torch.cuda.reset_peak_memory_stats()
        job = run_job(case, look)
        fps.setdefault(count, job.fps)
        yield figure(f"{name}, 1080p, {job.report.device}", job.fps, "fps")
        yield figure(f"{name} / plain transcoding", job.fps / plain, "x", goal=0.9)
        yield figure(f"{name}, peak device memory", torch.cuda.max_memory_allocated() / 2**20, "MiB")
        yield figure(f"{name}, peak host memory", job.report.peak_memory_bytes / 2**20, "MiB")
    yield figure("whole path, t(8 styles) / t(4 styles)", fps[4] / fps[8], "x", goal=1.1, at_least=False)


def part_engine(folder: Path) -> Rows:
    """Overlap, memory and the device's idleness at 1080p, by ``streamstyle bench``."""
    said = benched("1080", "4", 64)  # a batch in which a shot begins, and three that count for following
    for size in said["resolutions"]:
        name, job = f"{size['height']} lines, 4 styles, objects tracked", size["job"]
        yield figure(name, job["fps"], "fps")
        yield figure(f"{name}, end to end / slowest stage alone", size["end_to_end_per_slowest"], "x", goal=0.9)
        yield figure(f"{name}, end to end / in turn", size["end_to_end_per_in_turn"], "x", goal=2.5)
        yield figure(f"{name}, end to end / plain transcoding", size["end_to_end_per_plain"], "x", goal=0.9)
        yield figure(f"{name}, {job['bottleneck']} binds, at work", max(job["busy"].values()), "")
        yield figure(f"{name}, device at work", size["gpu_busy"] or 0.0, "")
        share = size["following_share"]
        yield figure(f"{name}, finding and tracking, of the whole path", share, "", goal=0.1, at_least=False)
        yield figure(f"{name}, first frame after", size["first_frame_s"], "s")
        yield figure(f"{name}, peak device memory", (size["peak_gpu_bytes"] or 0) / 2**20, "MiB")
        yield figure(f"{name}, peak host memory", size["peak_memory_bytes"] / 2**20, "MiB")
        for stage, ms in (size["alone_ms"] | size["parts_ms"]).items():
            yield figure(f"{name}, {stage} alone", ms, "ms/frame")
    yield figure("Python's own work, nothing painted", said["python"]["own_ms"], "ms/frame", goal=0.3, at_least=False)


def part_sizes(folder: Path) -> Rows:
    """Time of a pixel from 480 lines to 2160, each size as soon as it is measured."""
    per_px: dict[int, float] = {}
    low, high = SIZES[:2]
    for lines in SIZES:
        (size,) = benched(str(lines), "1", 24)["resolutions"]
        per_px[lines] = size["ns_per_px"]
        yield figure(f"{lines} lines, one style", size["job"]["fps"], "fps")
        yield figure(f"{lines} lines, one style, time of a pixel", size["ns_per_px"], "ns")
        if lines == high:
            ratio = per_px[high] / per_px[low]
            yield figure(f"time of a pixel, {high} lines / {low}", ratio, "x", goal=1.1, at_least=False)


def part_calm(folder: Path) -> Rows:
    """What calm adds to a film in one style at 1080p, and a step of it alone."""
    import torch

    from streamstyle.config import StyleOptions
    from streamstyle.painting.calm import Calm

    weights_or_random()
    device = torch.device(DEVICE)
    generator = torch.Generator(device).manual_seed(0)
    painted = torch.rand(3, HEIGHT, WIDTH, device=device, generator=generator)
    luma = torch.randint(0, 256, (360, 640), dtype=torch.uint8, device=device, generator=generator)
    luma = torch.nn.functional.avg_pool2d(luma[None].float(), 9, 1, 4)[0].to(torch.uint8)
    lumas, calm = [luma, luma.roll(1, 1)], Calm()
    frames = iter(range(1 << 30))
    step_ms = time_on(device, lambda: calm.step(painted, lumas[next(frames) % 2], None, 0), runs=10)["median"]
    yield figure("a step alone, 1080p", step_ms, "ms/frame")
    from streamstyle.bench.jobs import choose_look, run_job  # these need PyAV, that does not

    fps = {}
    for strength in (0.0, 1.0):
        painting = StyleOptions(calm=strength)
        run_job(film_of(folder, 24, painting=painting), choose_look(film_of(folder, 24), 1))
        fps[strength] = run_job(film_of(folder, painting=painting), choose_look(film_of(folder), 1)).fps
        yield figure(f"one style, 1080p, calm {strength:g}", fps[strength], "fps")
    yield figure("calm adds, of a frame's time", fps[0.0] / fps[1.0] - 1, "", goal=0.15, at_least=False)


def part_slope(folder: Path) -> Rows:
    """Memory of host and device over a long film, with an encoder that stalls so that every queue fills."""
    import torch

    from streamstyle.bench.jobs import choose_look
    from streamstyle.pipeline import stylize

    weights_or_random()
    film = film_of(folder, SLOPE_FRAMES, SLOPE_LINES)
    seen = list[tuple[int, int, int]]()
    done = stalled = 0

    def stall(frames: int, expected: int | None) -> None:
        nonlocal done, stalled
        done += frames
        if done // STALL_EVERY > stalled:
            stalled = done // STALL_EVERY
            time.sleep(STALL_S)
            resident = int(Path("/proc/self/statm").read_text().split()[1]) * 4096
            seen.append((done, resident, torch.cuda.memory_allocated()))

    torch.cuda.reset_peak_memory_stats()
    report = stylize(film.path, film.target, look=choose_look(film, 2), options=film.options, on_frames=stall)
    settled = [row for row in seen if row[0] >= SLOPE_FRAMES // 5]
    yield figure("frames", report.frames_out, "frames")
    yield figure("queue before the encoder, mean fill", report.queues["paint"], "")
    for name, column in (("host", 1), ("device", 2)):
        per_frame = slope([row[0] for row in settled], [row[column] for row in settled])
        yield figure(f"memory slope, {name}, encoder stalled", per_frame, "B/frame", goal=100, at_least=False)
    yield figure("peak device memory", torch.cuda.max_memory_allocated() / 2**20, "MiB")


def benched(lines: str, styles: str, frames: int) -> dict[str, Any]:
    """What ``streamstyle bench`` says of one size, in a process of its own."""
    command = [sys.executable, "-m", "streamstyle", "bench", "--resolutions", lines, "--styles", styles]
    command += ["--frames", str(frames), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said
