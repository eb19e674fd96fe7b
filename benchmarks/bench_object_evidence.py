"""All that speaks for who is where, weighed for a small picture: by the kernels, and by NumPy and OpenCV on the host.

    python benchmarks/bench_object_evidence.py

No library does this. On a CPU the host's way is what runs, and its parts are timed; on CUDA both are, one beside the
other, and how far they agree is verified first. Three discs cross a ground that moves: two have a name, one was found.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from common import Rows, figure, run_stage_bench, time_on
from discs_in_motion import Situation

from streamstyle.objects.bilateral_filter import smooth_borders_
from streamstyle.objects.device_weighing import DeviceWeighing, rules_of
from streamstyle.objects.evidence import drawn_to_bodies_, drawn_to_regions_, near, own_motion
from streamstyle.objects.guided_filter import GuidedFilter, drawn_to_colors
from streamstyle.objects.host_weighing import HostWeighing
from streamstyle.objects.tracker import Tracker
from streamstyle.objects.weighing import Motion, Weighing

SIZE = (240, 427)
RUNS = 30


def measure(device: torch.device) -> Rows:
    """Figures on a device; the results are verified first."""
    for name, named in (("one found", 0), ("one found, two named", 2)):
        yield from _measure(name, Situation(0, SIZE, named), device)
    yield from _parts(Situation(0, SIZE))


def _measure(name: str, situation: Situation, device: torch.device) -> Rows:
    host_ms = _timed(HostWeighing, situation, torch.device("cpu"))
    yield figure(f"{name}: on the host, 427x240", host_ms, "ms/frame")
    if device.type != "cuda":
        return
    yield from agreement(name, situation, device)
    ours = _timed(lambda tracker: DeviceWeighing(tracker, device), situation, device)
    yield figure(f"{name}: by the kernels, 427x240", ours, "ms/frame")
    yield figure(f"{name}: on the host / ours", host_ms / ours, "x", goal=5.0)


def agreement(name: str, situation: Situation, device: torch.device) -> Rows:
    """How far the device's shares and map are from the host's."""
    cpu, trackers = torch.device("cpu"), [_copy(situation.tracker) for _ in range(2)]
    host = situation.by(HostWeighing(trackers[0]), trackers[0], cpu)
    there = situation.by(DeviceWeighing(trackers[1], device), trackers[1], device)
    apart = float(np.abs(host[0] - there[0]).mean())
    yield figure(f"{name}: shares apart from the host's, mean", apart, "", goal=4e-3, at_least=False)
    others = float((host[3] != there[3]).mean())
    yield figure(f"{name}: pixels that are another's", others, "", goal=0.01, at_least=False)


def _copy(tracker: Tracker) -> Tracker:
    twin = Tracker("components")
    twin.load_state_dict(tracker.state_dict())
    return twin


def _timed(way: Any, situation: Situation, device: torch.device) -> float:
    """Milliseconds of a frame, the map's way to the host included; motion is there, as it is in a job."""
    tracker = _copy(situation.tracker)
    weighing: Weighing = way(tracker)
    own = own_motion(situation.flow)
    motion = Motion(situation.flow, own)
    if device.type == "cuda":
        motion = Motion(*(torch.from_numpy(part).to(device) for part in (situation.flow, own, own[0])))
    return time_on(device, lambda: situation.by(weighing, tracker, device, motion=motion), runs=RUNS)["median"]


def _parts(situation: Situation) -> Rows:
    cpu, share = torch.device("cpu"), situation.shares[0]
    ids, tree = situation.found.finest.numpy().astype(np.intp), situation.found.tree
    areas, radius = np.bincount(ids.ravel()), rules_of(SIZE, cpu).window_px
    rgb = situation.found.rgb.numpy()
    guided = GuidedFilter(rgb, radius)
    parts = {
        "how near an object is": lambda: near(share > 0.5),
        "a share drawn to its regions": lambda: drawn_to_regions_(share.copy(), ids, areas),
        "a share drawn to its bodies": lambda: drawn_to_bodies_(share.copy(), ids, areas, tree),
        "a guided filter's windows": lambda: GuidedFilter(rgb, radius),
        "a share drawn to the colours": lambda: drawn_to_colors(share, guided),
        "its border smoothed": lambda: smooth_borders_(share[None].copy(), rgb),
    }
    for name, call in parts.items():
        yield figure(f"on the host, {name}", time_on(cpu, call, runs=RUNS)["median"], "ms/frame")


if __name__ == "__main__":
    run_stage_bench("object_evidence", measure)
