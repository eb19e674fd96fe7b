"""Everything a machine with CUDA can show, in one go, with nothing to download: one JSON and one Markdown report.

    make gpu-report
    python benchmarks/gpu_report.py --only stages pipeline --out gpu-report    renews these parts of the report

Each part is a process of its own with a time limit, so that a part that fails, hangs or crashes the device's context
costs itself alone: the report goes on, and says so. What that part had measured is kept: each figure is written down
as soon as it is there. Parts: the CUDA tests; compute-sanitizer's memcheck and racecheck where it is installed; each
kernel beside its reference and its peers; the stages alone; the whole path, its memory and a clip. Where the published
weights are not cached, networks of random weights stand in (same work, another picture), and the report says that too.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from common import RESULTS, Rows, figure, machine, save, time_on, weights_or_random
from gpu_exercise import part_exercise

ROOT = Path(__file__).resolve().parent.parent
STEMS = sorted(path.stem for path in (ROOT / "kernels").glob("*.cu"))
LIMIT_S = 470
HEIGHT, WIDTH, FRAMES = 1080, 1920, 240

TEST_LINE = re.compile(
    r"\S+::.* (PASSED|FAILED|ERROR) +\[ *\d+%\]$"  # alone
    r"|\[gw\d+\] \[ *\d+%\] (PASSED|FAILED|ERROR) \S+::"  # many at once
)

Part = Callable[[Path], Rows]
"""Of figures with the same name the last counts."""


def nvidia_smi() -> str:
    """What the driver says of the device."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,clocks.max.sm", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        return f"nvidia-smi: {error}"


def part_tests(folder: Path) -> Rows:
    """The CUDA half of the test suite, counted test by test."""
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "-k", "cuda", "--tb=line"]
    command += ["-p", "no:benchmark"]  # a plugin some machines have, which warns, and a warning is an error here
    if importlib.util.find_spec("xdist") is not None:
        command += ["-n", str(min(10, os.cpu_count() or 1))]
    command += ["--continue-on-collection-errors", "tests/stages", "tests/gpu", "tests/nets", "tests/test_resume.py"]
    environment = os.environ | {"STREAMSTYLE_REQUIRE": "cuda"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    yield from tallied(process.stdout)
    if process.wait() not in (0, 1):  # no tests, or none that ran to the end
        raise RuntimeError(f"pytest ended with status {process.returncode}")


def tallied(lines: Iterable[str]) -> Rows:
    """How many tests have passed and failed so far, after each line of a verbose pytest that tells of one."""
    counts = {"PASSED": 0, "FAILED": 0, "ERROR": 0}
    for line in lines:
        print(line, end="")
        if ended := TEST_LINE.match(line):
            counts[ended[1] or ended[2]] += 1
        elif unread := re.search(r"\bcollected \d+ items? / (\d+) errors?", line):
            counts["ERROR"] += int(unread[1])
        else:
            continue
        yield figure("CUDA tests passed", counts["PASSED"], "tests", goal=1)
        yield figure("CUDA tests failed", counts["FAILED"], "tests", goal=0, at_least=False)
        yield figure("CUDA tests with errors", counts["ERROR"], "tests", goal=0, at_least=False)


def sanitizer(tool: str) -> Part:
    """compute-sanitizer over one small launch of every entry."""

    def part(folder: Path) -> Rows:
        found = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
        if found is None:
            raise FileNotFoundError("compute-sanitizer is not installed")
        command = [found, "--tool", tool, "--error-exitcode", "9", sys.executable, __file__, "--part", "exercise"]
        environment = os.environ | {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
        done = subprocess.run(
            [*command, "--out", str(folder / tool)], env=environment, capture_output=True, text=True, check=False
        )
        print(done.stdout[-3000:], done.stderr[-1500:])
        if done.returncode:
            said = [line for line in done.stdout.splitlines() if "ERROR SUMMARY" in line or "Error:" in line]
            raise RuntimeError(f"{tool} ended with status {done.returncode}: {'; '.join(said[-2:])[:150]}")
        yield figure(f"compute-sanitizer {tool} found", 0, "errors", goal=0, at_least=False)

    return part


def bench(stem: str) -> Part:
    """A kernel's own benchmark."""

    def part(folder: Path) -> Rows:
        import torch

        yield from importlib.import_module(f"bench_{stem}").measure(torch.device("cuda"))

    return part


def make_clip(path: Path, frames: int = FRAMES) -> Path:
    """A moving scene of 1080p: textured ground that pans, and four discs that cross it."""
    from fractions import Fraction

    import cv2
    import numpy as np

    from streamstyle.config import OutputOptions
    from streamstyle.frames import FrameBatch, VideoInfo
    from streamstyle.media.encode import encode

    rng = np.random.default_rng(0)
    ground = cv2.GaussianBlur(rng.integers(0, 256, (HEIGHT, WIDTH + frames * 2, 3), np.uint8), (0, 0), 9)
    ground = cv2.normalize(ground, ground, 20, 230, cv2.NORM_MINMAX)

    def batches() -> Iterator[FrameBatch]:
        for i in range(frames):
            picture = ground[:, 2 * i : 2 * i + WIDTH].copy()
            for k in range(4):
                at = (int(300 + 400 * k + 90 * np.sin(i / 20 + k)), int(540 + 260 * np.cos(i / 30 + 2 * k)))
                cv2.circle(picture, at, 120, (40 * k + 60, 250 - 50 * k, 90), -1, cv2.LINE_AA)
            flat, quarter = cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420).ravel(), HEIGHT * WIDTH // 4
            y, u, v = np.split(flat, [4 * quarter, 5 * quarter])
            half = (1, HEIGHT // 2, WIDTH // 2)
            yield FrameBatch(y.reshape(1, HEIGHT, WIDTH), u.reshape(half), v.reshape(half), (i,), i)

    info = VideoInfo(str(path), WIDTH, HEIGHT, Fraction(1, 25), Fraction(25), frames, frames / 25)
    encode(batches(), path, info, OutputOptions(crf=18, preset="veryfast"), size=(WIDTH, HEIGHT))
    return path


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
    device = torch.device("cuda")
    y = torch.randint(0, 256, (16, HEIGHT, WIDTH), dtype=torch.uint8)
    u = torch.randint(0, 256, (16, HEIGHT // 2, WIDTH // 2), dtype=torch.uint8)
    host = y.pin_memory(), u.pin_memory(), u.clone().pin_memory()
    planes = host[0].to(device), host[1].to(device), host[2].to(device)
    rgb = yuv_to_rgb(planes, ColorTags())
    small = torch.nn.functional.interpolate(rgb, (240, 427), mode="area")
    stylenet = StyleNet.load()
    net = RegionStylizer(stylenet, device, choose_dtype("auto", device))
    styles = [net.record(rgb[:1], stylenet.norms(k)) for k in range(4)]
    first = torch.zeros(4, HEIGHT, WIDTH, device=device, dtype=torch.int32)
    index = blend_index(first, first, rgb[:4, 0] * 0 + 1, 4)
    table, four = blend_table(styles), rgb[:4]
    segmenter = Segmenter(AnalysisOptions(), device)
    calls: list[tuple[str, int, Callable[[], Any]]] = [
        ("upload", 16, lambda: [plane.to(device, non_blocking=True) for plane in host]),
        ("YUV to RGB", 16, lambda: yuv_to_rgb(planes, ColorTags())),
        ("HED, Otsu, labels, regions (427x240)", 16, lambda: segmenter(small)),
        ("paint, one style", 4, lambda: net.paint(four, styles[0])),
        ("paint, four styles", 4, lambda: net.paint(four, table, index)),
        ("RGB to YUV", 16, lambda: rgb_to_yuv(rgb, ColorTags(), subsample=True)),
        ("download", 16, lambda: [plane.cpu() for plane in planes]),
    ]
    yield figure("published weights", float(known), "")
    for name, count, call in calls:
        yield figure(f"{name}, 1080p", time_on(device, call, runs=10)["median"] / count, "ms/frame")


def part_pipeline(folder: Path) -> Rows:
    """The whole path at 1080p, beside plain transcoding of the same file with the same encoder settings."""
    import torch

    from streamstyle.config import Options, OutputOptions
    from streamstyle.flow import prefetch, rebatch
    from streamstyle.frames import FrameBatch
    from streamstyle.look import Look
    from streamstyle.media.decode import decode
    from streamstyle.media.encode import encode
    from streamstyle.media.probe import probe
    from streamstyle.pipeline import stylize

    weights_or_random()
    clip = make_clip(folder / "in.mp4")
    out = OutputOptions(preset="veryfast", overwrite=True)
    info = probe(clip)
    began = time.perf_counter()
    batches = (FrameBatch.stack(group) for group in prefetch(rebatch(decode(info), 8), 2))
    encode(batches, folder / "plain.mp4", info, out, size=(WIDTH, HEIGHT))
    plain = FRAMES / (time.perf_counter() - began)
    looks = {
        "one style": Look(style="starry"),
        "two styles, objects tracked": Look(background="wave", foreground="ember"),
    }
    yield figure("plain transcoding, 1080p, x264 veryfast", plain, "fps")
    for name, look in looks.items():
        stylize(clip, folder / "warm.mp4", look=look, options=Options(output=OutputOptions(duration=1, overwrite=True)))
        torch.cuda.reset_peak_memory_stats()
        report = stylize(clip, folder / f"{name.partition(' ')[0]}.mp4", look=look, options=Options(output=out))
        yield figure(f"{name}, 1080p, {report.device}", report.fps, "fps")
        yield figure(f"{name} / plain transcoding", report.fps / plain, "x", goal=0.9)
        yield figure(f"{name}, peak device memory", torch.cuda.max_memory_allocated() / 2**20, "MiB")
        yield figure(f"{name}, peak host memory", report.peak_memory_bytes / 2**20, "MiB")


def part_engine(folder: Path) -> Rows:
    """Overlap, memory and the device's idleness at 1080p, by ``streamstyle bench``, which can do other sizes too."""
    command = [sys.executable, "-m", "streamstyle", "bench", "--resolutions", "1080", "--styles", "4"]
    command += ["--frames", "96", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    said = json.loads(done.stdout.splitlines()[-1])
    for size in said["resolutions"]:
        name, job = f"{size['height']} lines, 4 styles, objects tracked", size["job"]
        yield figure(name, job["fps"], "fps")
        yield figure(f"{name}, end to end / slowest stage alone", size["end_to_end_per_slowest"], "x", goal=0.9)
        yield figure(f"{name}, end to end / in turn", size["end_to_end_per_in_turn"], "x", goal=2.5)
        yield figure(f"{name}, end to end / plain transcoding", size["end_to_end_per_plain"], "x", goal=0.9)
        yield figure(f"{name}, {job['bottleneck']} binds, at work", max(job["busy"].values()), "")
        yield figure(f"{name}, device at work", size["gpu_busy"] or 0.0, "")
        yield figure(f"{name}, first frame after", size["first_frame_s"], "s")
        yield figure(f"{name}, peak device memory", (size["peak_gpu_bytes"] or 0) / 2**20, "MiB")
        yield figure(f"{name}, peak host memory", size["peak_memory_bytes"] / 2**20, "MiB")
        for stage, ms in (size["alone_ms"] | size["parts_ms"]).items():
            yield figure(f"{name}, {stage} alone", ms, "ms/frame")
    yield figure("Python's own work", said["python"]["own_ms"], "ms/frame", goal=0.3, at_least=False)


PARTS: dict[str, tuple[Part, int]] = {
    "exercise": (part_exercise, 60),
    "stages": (part_stages, 60),
    "pipeline": (part_pipeline, 60),
    "engine": (part_engine, 90),
    **{f"bench_{stem}": (bench(stem), 60) for stem in STEMS},
    "tests": (part_tests, 150),
    "memcheck": (sanitizer("memcheck"), 150),
    "racecheck": (sanitizer("racecheck"), 150),
}
"""Each part and its time limit in seconds; the whole never takes longer than LIMIT_S."""
CHECKS = ("tests", "memcheck", "racecheck")
"""Parts that measure no time: they come last, and all at once."""


def run_part(name: str, folder: Path, limit_s: float) -> tuple[list[dict[str, Any]], str]:
    """Figures of a part run in a process of its own, up to its end, and how it ended: "ok", or what went wrong."""
    figures_of(name, folder).unlink(missing_ok=True)
    command = [sys.executable, __file__, "--part", name, "--out", str(folder)]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "PIP_NO_INDEX": "1",  # weights that are not cached are not waited for
        "PYTHONUNBUFFERED": "1",
    }
    with (folder / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
        try:
            status = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with all it started, or that would disturb the parts after it
            process.wait()
            return written(name, folder), f"stopped after {limit_s:.0f} s"
    said = (folder / f"{name}.log").read_text(errors="replace").strip().splitlines()
    if status:
        return written(name, folder), f"exit status {status}: {said[-1][:200] if said else 'nothing said'}"
    return written(name, folder), "ok"


def figures_of(name: str, folder: Path) -> Path:
    """Where a part writes its figures down, a line of JSON each."""
    return folder / f"part-{name}.jsonl"


def written(name: str, folder: Path) -> list[dict[str, Any]]:
    """The figures a part has written down; a line cut short is left out."""
    path = figures_of(name, folder)
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    rows = [json.loads(line) for line in lines if line.endswith("\n")]
    return list({row["name"]: row for row in rows}.values())


def markdown(device: str, rows: list[dict[str, Any]], ends: dict[str, str]) -> str:
    """The report for people."""
    lines = [f"# {device}", "", nvidia_smi(), "", "| part | ended |", "|---|---|"]
    lines += [f"| {name} | {ends.get(name, 'not run')} |" for name in PARTS]
    lines += ["", "| part | figure | value | goal |", "|---|---|---|---|"]
    for row in rows:
        goal = ""
        if "goal" in row:
            goal = (
                f"at {'least' if row['at_least'] else 'most'} {row['goal']:g}: {'met' if row['met'] else '**missed**'}"
            )
        lines.append(f"| {row['part']} | {row['name']} | {row['value']:.4g} {row['unit']} | {goal} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the parts; 0 where all ended well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--part", choices=PARTS, metavar="PART", help="run one part here, in this process")
    parser.add_argument("--out", type=Path, default=ROOT / "gpu-report", help="folder for logs, clips and part results")
    arguments = parser.parse_args()
    if arguments.part is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        with figures_of(arguments.part, arguments.out).open("w") as out:
            for row in PARTS[arguments.part][0](arguments.out):
                print(json.dumps(row), file=out, flush=True)
        return 0
    import torch

    if not torch.cuda.is_available():
        print("gpu-report: torch finds no CUDA device here; see `streamstyle doctor`", file=sys.stderr)
        return 2
    arguments.out.mkdir(parents=True, exist_ok=True)
    print(machine(), flush=True)
    began, (rows, ends) = time.perf_counter(), earlier(set(arguments.only))
    lock = threading.Lock()

    def run(name: str) -> None:
        left_s = LIMIT_S - (time.perf_counter() - began)
        found, end = list[dict[str, Any]](), "not begun: no time left"
        if left_s >= 5:
            try:
                found, end = run_part(name, arguments.out, min(left_s, PARTS[name][1]))
            except Exception:  # the report goes on whatever a part does
                end = traceback.format_exc().strip().splitlines()[-1]
        with lock:
            ends[name] = end
            rows.extend(row | {"part": name} for row in found)
            print(f"{name}: {end} ({time.perf_counter() - began:.0f} s)", flush=True)
            write(rows, ends)  # after each part: a report cut short is still a report

    for name in (name for name in arguments.only if name not in CHECKS):
        run(name)
    with ThreadPoolExecutor(len(CHECKS)) as pool:
        list(pool.map(run, [name for name in arguments.only if name in CHECKS]))
    print(write(rows, ends))
    return 0 if all(end == "ok" for end in ends.values()) else 1


def report_name() -> str:
    """The report's file in results/, without its ending: the device's name."""
    import torch

    return "gpu-" + "-".join(torch.cuda.get_device_name().lower().split())


def earlier(renewed: set[str]) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Figures and ends of the parts that are not measured now, from the report there is of this device."""
    path = RESULTS / f"{report_name()}.json"
    said = json.loads(path.read_text()) if path.exists() else {"figures": [], "ended": {}}
    kept = {part: end for part, end in said["ended"].items() if part in PARTS and part not in renewed}
    return [row for row in said["figures"] if row["part"] in kept], kept


def judged(rows: list[dict[str, Any]], ends: dict[str, str]) -> list[dict[str, Any]]:
    """The figures in the parts' order; counts of a part that did not end well meet no goal."""
    ordered = sorted(rows, key=lambda row: list(PARTS).index(row["part"]))
    aside = ("goal", "at_least", "met")
    return [
        {key: value for key, value in row.items() if key not in aside}
        if row["part"] in CHECKS and ends[row["part"]] != "ok"
        else row
        for row in ordered
    ]


def write(rows: list[dict[str, Any]], ends: dict[str, str]) -> Path:
    """Save what there is so far, as JSON and Markdown, under the device's name."""
    import torch

    device, name = torch.cuda.get_device_name(), report_name()
    rows = judged(rows, ends)
    (RESULTS / f"{name}.md").write_text(markdown(device, rows, ends))
    return save(name, {"figures": rows, "ended": ends})


if __name__ == "__main__":
    sys.exit(main())
