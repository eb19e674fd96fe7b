"""What the benchmarks share: the machine's name, timing with spread, result files."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch

    from streamstyle.frames import Frame, FrameBatch

RESULTS = Path(__file__).parent / "results"

HEAD_START_CYCLES = 4_000_000
"""About 2 ms: some hundred launches of Python."""

Rows = Iterator[dict[str, Any]]
"""Figures, each given as soon as it is measured: what was measured stays, whatever becomes of the rest."""


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


def read_picture(path: Path, *, grey: bool = False) -> np.ndarray:
    """A picture's pixels, [H, W, 3] uint8 RGB, or [H, W] where only grey is wanted."""
    import cv2

    picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR)
    if picture is None:
        raise SystemExit(f"{path}: no picture that can be read")
    return picture if grey else cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


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


def figure(name: str, value: float, unit: str, *, goal: float | None = None, at_least: bool = True) -> dict[str, Any]:
    """One measured figure, with its goal where there is one."""
    row: dict[str, Any] = {"name": name, "value": round(value, 4), "unit": unit}
    if goal is not None:
        row |= {"goal": goal, "at_least": at_least, "met": bool(value >= goal if at_least else value <= goal)}
    return row


def slope(frames: Sequence[int], values: Sequence[int]) -> float:
    """Of a line fitted to values over frames."""
    import numpy as np

    return float(np.polyfit(frames, values, 1)[0])


def time_on(device: torch.device, function: Callable[[], Any], runs: int = 20, warm_up: int = 3) -> dict[str, float]:
    """Milliseconds of a call: on CUDA between two events, so that only the device's work counts, else by the clock.

    The device is kept busy before the first event while the call's launches queue up behind it: else short kernels are
    measured as fast as Python launches them. Calls that wait for the device are measured with their waiting.
    """
    import torch

    if device.type != "cuda":
        return time_call(function, max(3, runs // 4), 1)
    for _ in range(warm_up):
        function()
    taken = []
    for _ in range(runs):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda._sleep(HEAD_START_CYCLES)
        begin.record()
        function()
        end.record()
        end.synchronize()
        taken.append(begin.elapsed_time(end))
    return spread(taken)


def weights_or_random() -> bool:
    """Whether the published weights are here; where not, HED itself and the painter get random ones from now on."""
    import torch

    from streamstyle.nets import weights
    from streamstyle.nets.hed import HED
    from streamstyle.nets.stylenet import StyleNet

    try:
        for name in ("multistyle26", "hed"):
            weights.fetch(name, say=None)
        return True
    except Exception as error:  # a report must not end here
        print(f"random weights stand in: {error}")

    def filled(net: Any) -> Any:
        for tensor in [*net.parameters(), *net.buffers()]:
            tensor.data.normal_(0, max(1, tensor[0].numel() if tensor.ndim > 1 else 1) ** -0.5)
        return net.requires_grad_(False).eval()

    def load_hed(
        cls: Any, side: Any = "2", device: Any = "cpu", dtype: Any = torch.float32, *, blocks: int = 0, **_: Any
    ) -> Any:
        return filled(cls(side, blocks)).to(device=device, dtype=dtype, memory_format=torch.channels_last)

    HED.load = classmethod(load_hed)  # type: ignore[method-assign, assignment]
    StyleNet.load = classmethod(lambda cls: filled(cls()))  # type: ignore[method-assign, assignment]
    return False


def copy_gbps(device: torch.device) -> float:
    """Bytes read plus bytes written a second by a plain copy of 256 MiB on the device, in 1e9."""
    import torch

    source = torch.zeros(1 << 28, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() / time_on(device, lambda: target.copy_(source))["median"] / 1e6


def try_peer(name: str, call: Callable[[], Any]) -> Any | None:
    """call(), or None with a line on stderr where a peer is not installed or cannot do it here."""
    try:
        return call()
    except Exception as error:  # a peer's trouble is no reason to lose our own figures
        print(f"{name}: left out ({type(error).__name__}: {str(error).strip().splitlines()[:1]})", file=sys.stderr)
        return None


def run_stage_bench(stem: str, measure: Callable[[torch.device], Rows]) -> None:
    """Measure on the GPU if there is one, else on the CPU; print each figure and save them in results/<stem>.json."""
    import torch

    argparse.ArgumentParser(description=sys.modules["__main__"].__doc__).parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(machine())
    rows = []
    for row in measure(device):
        mark = "" if "goal" not in row else ("  met" if row["met"] else "  MISSED") + f" (goal {row['goal']:g})"
        print(f"{row['name']:<70} {row['value']:>12.4f} {row['unit']}{mark}", flush=True)
        rows.append(row)
    print(save(stem, {"figures": rows}))


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


def make_clip(path: Path, frames: int, size: int = 360, shots: int = 1) -> Path:
    """The demo clip from 2.5 s on, played to and fro until it has enough frames, at a short side, with sound.

    Args:
        shots: equal parts, with a cut between each two: the second as a negative, upside down, the third mirrored in
            colours that are exchanged; without any cut for 1.
    """
    from streamstyle.config import OutputOptions
    from streamstyle.frames import FrameBatch
    from streamstyle.media.audio import AudioSource
    from streamstyle.media.decode import decode
    from streamstyle.media.encode import encode
    from streamstyle.media.planes import scaled_size
    from streamstyle.media.probe import probe
    from streamstyle.nets import weights

    info = probe(weights.fetch("bigbuckbunny"))
    film = list(decode(info, start_s=2.5, size=size))
    order = [*range(len(film)), *range(len(film) - 2, 0, -1)]
    step = film[1].pts - film[0].pts

    def batches() -> Iterator[FrameBatch]:
        for i in range(frames):
            shown = _turned(film[order[i % len(order)]], i * shots // frames)
            yield FrameBatch.stack([replace(shown, pts=i * step)], i)

    info = replace(info, start_pts=0)
    encode(batches(), path, info, OutputOptions(crf=18), size=scaled_size(info, size), audio=AudioSource(info))
    return path


def _turned(frame: Frame, shot: int) -> Frame:
    """A frame as the shot of that number has it."""
    if shot == 1:
        return replace(frame, y=255 - frame.y[::-1], u=255 - frame.u[::-1], v=255 - frame.v[::-1])
    if shot == 2:
        return replace(frame, y=frame.y[:, ::-1], u=frame.v[:, ::-1], v=frame.u[:, ::-1])
    return frame
