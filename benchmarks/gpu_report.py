"""Everything a machine with CUDA can show, in one go, with nothing to download: one JSON and one Markdown report.

    make gpu-report
    python benchmarks/gpu_report.py --only stages pipeline --out gpu-report    renews these parts of the report

Each part is a process of its own with a time limit, so that a part that fails, hangs or crashes the device's context
costs itself alone: the report goes on, and says so. What that part had measured is kept: each figure is written down
as soon as it is there. Parts: the CUDA tests; compute-sanitizer's memcheck and racecheck where it is installed; each
kernel beside its reference and its peers; the stages alone; the whole path, other sizes, calm, and memory over length.
Where the published weights are not cached, networks of random weights stand in (same work, another picture), and the
report says that too.
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
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from common import RESULTS, Rows, figure, machine, save
from gpu_exercise import part_exercise
from gpu_parts import (
    part_calm,
    part_engine,
    part_graphs,
    part_objects,
    part_pipeline,
    part_sizes,
    part_slope,
    part_stages,
)

ROOT = Path(__file__).resolve().parent.parent
STEMS = sorted(path.stem for path in (ROOT / "kernels").glob("*.cu"))
LIMIT_S = 470

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
    command += ["--continue-on-collection-errors", "tests/stages", "tests/objects", "tests/gpu"]
    command += ["tests/nets", "tests/test_resume.py"]
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


PARTS: dict[str, tuple[Part, int]] = {
    "exercise": (part_exercise, 60),
    "stages": (part_stages, 60),
    "pipeline": (part_pipeline, 60),
    "engine": (part_engine, 120),
    "sizes": (part_sizes, 90),
    "calm": (part_calm, 60),
    "graphs": (part_graphs, 45),
    "objects": (part_objects, 60),
    "slope": (part_slope, 90),
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
