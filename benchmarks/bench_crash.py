"""What it costs that a job can be killed, and what a kill costs; a part of bench_pipeline.py."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from common import figure, run_json, spread

KILLED_AT = 0.6
"""Of a whole run's time."""
OTHER_GROUND = "wave"
"""Of the film that is painted again: all of its frames are."""


def bench_crash(clip: Path, styles: list[str], frames: int, runs: int) -> list[dict[str, Any]]:
    """A job that writes layers and a project beside the film: whole, without anything kept, and killed and taken up.

    Whole runs, with and without, in turn, so many times; the median's time is when the last is killed. Then that film
    painted again from its project, on another background: likewise.

    Args:
        styles: arguments that name objects and styles.
    """
    folder = clip.parent / "crash"
    words = ["run", str(clip), str(folder / "out.mp4"), "--overwrite", *styles]
    words += ["--layers", str(folder / "layers"), "--layer-format", "png"]
    words += ["--save-project", str(folder / "film.sstyle")]
    clear(folder)
    rows = both_ways("layers and a project", words, folder, frames, runs)
    project = clip.parent / "crash.sstyle"
    shutil.rmtree(project, ignore_errors=True)
    (folder / "film.sstyle").rename(project)
    words = ["run", str(clip), str(folder / "again.mp4"), "--overwrite", "--project", str(project)]
    words += ["--background", OTHER_GROUND]
    return rows + both_ways("painted again from the project", words, folder, frames, runs)


def clear(folder: Path) -> None:
    """Have a folder be there, with nothing in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()


def both_ways(what: str, words: list[str], folder: Path, frames: int, runs: int) -> list[dict[str, Any]]:
    """A job whole, without anything kept, and killed; it writes into a folder of its own."""

    def taken(*more: str) -> float:
        clear(folder)
        began = time.perf_counter()
        run_json(*words, *more)
        return time.perf_counter() - began

    times = [(taken(), taken("--no-resume")) for _ in range(runs)]
    whole, bare = (spread(list(each))["median"] for each in zip(*times, strict=True))
    clear(folder)
    began = time.perf_counter()
    with subprocess.Popen([sys.executable, "-m", "streamstyle", *words, "--quiet"]) as job:
        time.sleep(whole * KILLED_AT)
        job.kill()
    killed = time.perf_counter() - began
    began = time.perf_counter()
    said = run_json(*words)
    again = time.perf_counter() - began
    name = f"{what}, {frames} frames, 640x360"
    return [
        figure(f"{name}: whole process", whole, "s"),
        figure(f"{name}: whole process / with --no-resume", whole / bare, "x"),
        figure(f"{name}: killed", killed, "s after its start"),
        figure(f"{name}: frames that were kept", float(said["resumed_frames"]), ""),
        figure(f"{name}: time lost by the kill, starting again in it", killed + again - whole, "s"),
    ]
