"""Kernels whose lanes talk to each other, with warps of 32 lanes: what comes out is what one lane alone gives.

A lane that a warp waits for in vain would wait for ever here, as it may on a GPU.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from discs_in_motion import Situation

from streamstyle.gpu import kernels
from streamstyle.objects.device_weighing import DeviceWeighing
from streamstyle.objects.evidence import own_motion
from streamstyle.objects.tracker import Tracker
from streamstyle.objects.weighing import Motion
from streamstyle.stages.connected_components import connected_components, label_regions
from streamstyle.stages.label_overlap import label_overlap
from streamstyle.stages.otsu_threshold import otsu_threshold
from streamstyle.stages.region_hierarchy import region_hierarchy
from streamstyle.stages.region_stats import region_areas, region_stats
from tests import oracles, shim
from tests.conftest import skip_or_fail

SIZE = (33, 59)


@pytest.fixture(autouse=True)
def compiler() -> None:
    if shim.compiler() is None:
        skip_or_fail("shim", "there is no C++ compiler (g++ or clang++)")


def mask(seed: int) -> torch.Tensor:
    return torch.from_numpy(oracles.random_mask(np.random.default_rng(seed), *SIZE, 0.5, 3))[None]


def ids(seed: int, regions: int = 6) -> torch.Tensor:
    return torch.randint(0, regions, (2, *SIZE), dtype=torch.int32, generator=torch.Generator().manual_seed(seed))


def picture(seed: int) -> torch.Tensor:
    smooth = oracles.smooth(np.random.default_rng(seed), *SIZE, 4)
    return torch.from_numpy(np.uint8(255 * (smooth - smooth.min()) / np.ptp(smooth)))[None]


CALLS: dict[str, Callable[[str], torch.Tensor]] = {
    "labels": lambda impl: connected_components(mask(0), connectivity=8, impl=impl),
    "regions": lambda impl: label_regions(mask(1), connectivity=4, impl=impl)[0],
    "small overlap tables": lambda impl: label_overlap(ids(0), ids(1), 6, 6, impl=impl),
    "large overlap tables": lambda impl: label_overlap(ids(2, 90), ids(3, 90), 90, 90, impl=impl),
    "areas": lambda impl: region_areas(ids(4), 6, impl=impl),
    "boxes": lambda impl: region_stats(ids(5), 6, impl=impl).box_xyxy,
    "threshold": lambda impl: otsu_threshold(picture(6), method="global", impl=impl),
    "hierarchy": lambda impl: region_hierarchy(picture(8), impl=impl).at,
}


@pytest.mark.parametrize("name", CALLS)
def test_a_whole_warp_gives_what_the_reference_does(name):
    with shim.running(flags=shim.WARPS) as launched:
        found = CALLS[name]("cuda")
    assert launched.launched
    assert torch.equal(found, CALLS[name]("ref"))


@pytest.mark.parametrize("named", [0, 2])
def test_who_is_where_is_weighed_alike(named):
    situation = Situation(1, SIZE, named)
    by_lane, by_warp = (weighed(situation, flags) for flags in (shim.FLAGS, shim.WARPS))
    for name, told in by_lane.items():
        assert torch.equal(by_warp[name], told), name


def weighed(situation: Situation, flags: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """Everything the kernels say of it."""
    twin = Tracker("components")
    twin.load_state_dict(situation.tracker.state_dict())
    weighing, motion = DeviceWeighing(twin, torch.device("cpu")), Motion(situation.flow, own_motion(situation.flow))
    with shim.running(flags=flags):
        carried = weighing.carry(torch.from_numpy(situation.shares), situation.slots, motion, situation.cast, SIZE)
        told = {"tally": carried.tally.clone(), "bits": carried.bits, "medians": carried.medians}
        told["shares"] = weighing.seen(situation.found, carried, motion, situation.look, situation.cast)
        overlap, _ = weighing.settle(told["shares"], carried, situation.cast)
        told["slots"] = torch.from_numpy(weighing.name(twin.update(overlap, 1)[:, 0]))
        return told | {"overlap": torch.from_numpy(overlap.copy()), "all counts": carried.tally}


def test_lanes_are_told_apart():
    """What one lane says another hears: without that all of these would pass with lanes that are deaf."""
    text = """
#include "common.cuh"
KERNEL heard(const int* said, int* from, int* sum, int count) {
    FOR_GRID_WARPS(i, count) {
        int value = said[i];
        from[i] = warp_from(value, (lane_id() + 5) % WARP);
        sum[i] = warp_prefix_sum(value);
    }
}
"""
    common = (kernels.source("resize").parent / "common.cuh").read_text("utf-8")
    with shim.running(flags=shim.WARPS) as runner, pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "text", lambda _: text.replace('#include "common.cuh"', common))
        parameters = kernels._ENTRY.findall(text)[0][1].split(",")
        patch.setattr(kernels, "entries", lambda _: {"heard": tuple(map(kernels._parameter, parameters))})
        said = torch.arange(64, dtype=torch.int32)
        heard, sums = torch.empty_like(said), torch.empty_like(said)
        runner("resize", "heard", 2, 32, [said, heard, sums, 64], {"ALONE": "1"})
    lanes = said.view(2, 32)
    assert torch.equal(heard.view(2, 32), lanes.roll(-5, 1))
    assert torch.equal(sums.view(2, 32), lanes.cumsum(1).int())
