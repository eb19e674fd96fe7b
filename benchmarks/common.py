"""What the benchmarks share: the machine's name, timing with spread, result files."""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """Processor, cores, memory, GPU and versions: what a figure belongs to."""
    import torch

    name = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        fields = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
        extra = [flag for flag in ("amx_bf16", "avx512_bf16", "avx2") if flag in fields.get("flags", "").split()]
        name = f"{fields.get('model name', name)} ({', '.join(extra)})"
    return {
        "processor": name,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def spread(values: list[float]) -> dict[str, float]:
    """Median, quartiles and 90th percentile."""
    ordered = sorted(values)
    if len(ordered) == 1:
        return {"median": ordered[0], "q1": ordered[0], "q3": ordered[0], "p90": ordered[0]}
    tenths = statistics.quantiles(ordered, n=10, method="inclusive")
    quarters = statistics.quantiles(ordered, n=4, method="inclusive")
    return {"median": statistics.median(ordered), "q1": quarters[0], "q3": quarters[2], "p90": tenths[8]}


def time_call(function: Callable[[], Any], runs: int = 9, warm_up: int = 2) -> dict[str, float]:
    """Milliseconds of a call, after warming up; waits for the GPU if there is one."""
    import torch

    def wait() -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    for _ in range(warm_up):
        function()
    wait()
    taken = []
    for _ in range(runs):
        began = time.perf_counter()
        function()
        wait()
        taken.append((time.perf_counter() - began) * 1e3)
    return spread(taken)


def run_json(*arguments: str) -> dict[str, Any]:
    """Run the command line in a fresh process; its JSON report."""
    command = [sys.executable, "-m", "streamstyle", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def save(name: str, figures: dict[str, Any]) -> Path:
    """Write results/<name>.json with the machine and the day."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    content = {"benchmark": name, "date": datetime.date.today().isoformat(), "machine": machine(), **figures}
    path.write_text(json.dumps(content, indent=2) + "\n")
    return path
