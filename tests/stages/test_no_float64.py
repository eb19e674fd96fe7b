"""No reference makes a float64 tensor, for some devices, MPS among them, have none; and none brings one from the host
or asks for a number, for that would be to wait for the device.

Run on a CPU, and on torch's meta device, which has shapes and types but no numbers: there a reference takes the way it
takes on any device that is not a CPU.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from streamstyle import stages
from streamstyle.frames import ColorTags
from streamstyle.nets.stylenet import StyleNet
from streamstyle.painting.calm import Calm
from streamstyle.stages.blends import LEVELS, blend_index, blend_table
from streamstyle.stages.calm import bend, calm, carried_along, color_held, inner, mean, near, trust
from streamstyle.stages.calm_border import border_held, soft_bits
from streamstyle.stages.calm_still import held, slower, standing, still_mask
from streamstyle.stages.color import blend_planes_, rgb_to_yuv, yuv_to_rgb
from streamstyle.stages.composite import composite
from streamstyle.stages.connected_components import connected_components, dense_labels, label_regions
from streamstyle.stages.dominant_motion import dominant_motion
from streamstyle.stages.folding import Form
from streamstyle.stages.label_overlap import best_matches, consecutive_overlaps, label_overlap
from streamstyle.stages.layer_alphas import layer_alphas
from streamstyle.stages.optical_flow import occlusion, optical_flow
from streamstyle.stages.otsu_threshold import exact_thresholds, local_thresholds, otsu_threshold
from streamstyle.stages.region_hierarchy import region_hierarchy
from streamstyle.stages.region_stats import (
    _fill_holes_ref,
    fill_holes,
    largest_region,
    limit_regions,
    region_areas,
    region_stats,
)
from streamstyle.stages.resize import resize_planes
from streamstyle.stages.style_map import blend_map, style_map
from streamstyle.stages.stylize_regions import RegionStylizer, affine_into, picture_from, picture_into

with contextlib.suppress(ImportError):  # a machine that only tries the kernels may be without
    import kornia.filters  # noqa: F401  # a library may make what it likes while it is imported


class NoFloat64(TorchDispatchMode):
    """Fails at the first operation that gives a float64 tensor."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            assert not (isinstance(leaf, torch.Tensor) and leaf.dtype == torch.float64), f"{func} made float64"
        return out


class NoCopies(TorchDispatchMode):
    """Fails where a tensor of the host goes to the device, or a number of the device's to the host."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        given = {leaf.device.type for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)}
        made = {leaf.device.type for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)}
        assert not ("cpu" in given and "meta" in given | made), f"{func} waits for a copy"
        return out


class NoNumbers(TorchFunctionMode):
    """Fails where numbers of Python's become a tensor of the device, which torch makes on the host and copies."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        copies = func in (torch.tensor, torch.as_tensor, torch.asarray, torch.Tensor.new_tensor)
        assert not (copies and out.device.type == "meta"), f"{func.__name__} waits for a copy"
        return out


@contextlib.contextmanager
def no_waiting():
    """Fails at either."""
    with NoCopies(), NoNumbers():
        yield


class Given:
    """Small inputs on a device."""

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)
        self.edges = torch.randint(0, 256, (2, 70, 90), dtype=torch.uint8, device=device)
        self.ids = torch.randint(0, 7, (2, 70, 90), dtype=torch.int32, device=device)
        self.areas = torch.randint(0, 9, (2, 7), device=device)
        self.rgb = torch.rand(2, 3, 70, 90, device=device)
        self.colors = torch.randint(0, 256, (2, 3, 70, 90), dtype=torch.uint8, device=device)
        half = self.edges[:, ::2, ::2].contiguous()
        self.planes = self.edges, half, half.clone()
        self.deep = tuple(plane.to(torch.uint16) for plane in self.planes)
        self.flow = torch.rand(2, 70, 90, 2, device=device)
        self.share = torch.rand(2, 70, 90, device=device)


def stylize(given: Given) -> Any:
    published = StyleNet()
    net = RegionStylizer(published, given.device, torch.float32, impl="ref")
    one = net.record(given.rgb[:1], published.norms(0))
    where = torch.zeros(2, 70, 90, dtype=torch.int32, device=given.device)
    index = blend_index(where, where, given.share * 0.5 + 0.5, 2)
    return net.paint(given.rgb, one), net.paint(
        given.rgb, blend_table([one, net.record(given.rgb[:1], published.norms(1))]), index
    )


def affine(given: Given) -> torch.Tensor:
    y, table = torch.rand(2, 16, 16, 32, device=given.device), torch.rand(2 * LEVELS, 32, device=given.device)
    index = torch.zeros(2, 16, 16, dtype=torch.int32, device=given.device)
    padded = torch.zeros(2, 32, 18, 18, device=given.device).to(memory_format=torch.channels_last)
    return affine_into(y, index, table, table, padded, impl="ref")


def folded_affine(given: Given) -> torch.Tensor:
    y, table = torch.rand(2, 8, 8, 16, device=given.device), torch.rand(2 * LEVELS, 4, device=given.device)
    index = torch.zeros(2, 16, 16, dtype=torch.int32, device=given.device)
    form = Form(up=True, apart=True, folded=True)
    return affine_into(y, index, table, table, blocks(given, 12), form=form, impl="ref")


def painted(given: Given) -> torch.Tensor:
    y, table = torch.rand(2, 8, 8, 16, device=given.device), torch.rand(2 * LEVELS, 3, device=given.device)
    index = torch.zeros(2, 16, 16, dtype=torch.int32, device=given.device)
    return picture_from(y, index, table, table, impl="ref")


def calm_a_frame(given: Given) -> torch.Tensor:
    flow, mask = given.flow[0, ::2, ::2].contiguous(), given.edges[0, ::2, ::2] > 99
    share = given.share[0, ::2, ::2].contiguous()
    picture, gain = given.rgb[0], given.share[0, 0, 0]
    return calm(picture, given.rgb[1], picture, flow, flow, mask, share, mask, gain, impl="ref")


def trust_a_frame(given: Given) -> tuple[torch.Tensor, torch.Tensor]:
    return trust(given.flow[0], *given.edges, given.share[0], *given.ids, impl="ref")


def blocks(given: Given, height: int, width: int | None = None) -> torch.Tensor:
    folded = torch.zeros(2, 16, height, width or height, device=given.device)
    return folded.to(memory_format=torch.channels_last)


TAGS = ColorTags()
CALLS: dict[str, Callable[[Given], Any]] = {
    "affine_into": affine,
    "affine_into, folded": folded_affine,
    "RegionStylizer": stylize,
    "blend_map": lambda g: blend_map(g.ids, 7, (99, 120), 6.0, impl="ref"),
    "best_matches": lambda g: best_matches(g.areas[None]),
    "blend_planes_": lambda g: blend_planes_(g.planes, g.planes, g.share),
    "bend": lambda g: bend(torch.cat([g.flow[0], g.flow[1]], 2), g.flow[0], impl="ref"),
    "calm": calm_a_frame,
    "border_held": lambda g: border_held(g.flow[0], g.rgb[0, :2], g.rgb[1, :2], 5.0, 3.0, impl="ref"),
    "carried_along": lambda g: carried_along(g.flow[1], g.flow[0], impl="ref"),
    "color_held": lambda g: color_held(g.flow[0], g.edges, g.edges.float(), impl="ref"),
    "held": lambda g: held(g.flow[0], g.ids[0] > 3, impl="ref"),
    "inner": lambda g: inner(g.ids[0], 2, impl="ref"),
    "mean": lambda g: mean(g.edges[0].float(), 5, impl="ref"),
    "near": lambda g: near(g.ids[0] > 3, 2, impl="ref"),
    "slower": lambda g: slower(g.flow[0], 1.0, impl="ref"),
    "standing": lambda g: standing(g.ids[0] > 3, g.flow[0], g.edges[0], g.edges[1], impl="ref"),
    "still_mask": lambda g: still_mask(g.edges[0], g.edges[1], g.edges[0], impl="ref"),
    "soft_bits": lambda g: soft_bits(g.ids[0], 7, (31, 47), 6.0, impl="ref"),
    "trust": trust_a_frame,
    "composite": lambda g: composite(g.rgb, g.planes, TAGS, g.ids, g.rgb[0, :2, 0].t(), subsample=True, impl="ref"),
    "connected_components": lambda g: connected_components(g.edges > 99, connectivity=8, impl="ref"),
    "consecutive_overlaps": lambda g: consecutive_overlaps(g.ids, 7, g.ids[0], impl="ref"),
    "dense_labels": lambda g: dense_labels(g.ids, impl="ref"),
    "dominant_motion": lambda g: dominant_motion(g.flow, g.share),
    "exact_thresholds": lambda g: exact_thresholds(g.edges, impl="ref"),
    "fill_holes": lambda g: fill_holes(g.ids, impl="ref"),
    "fill_holes, labelled": lambda g: _fill_holes_ref(g.ids, g.ids),
    "label_overlap": lambda g: label_overlap(g.ids, g.ids, 7, 7, impl="ref"),
    "label_regions": lambda g: label_regions(g.edges > 99, impl="ref"),
    "largest_region": lambda g: largest_region(g.areas),
    "limit_regions": lambda g: limit_regions(g.ids, g.areas, 3, impl="ref"),
    "local_thresholds": lambda g: local_thresholds(g.edges),
    "occlusion": lambda g: occlusion(g.flow, -g.flow, impl="ref"),
    "optical_flow": lambda g: optical_flow(g.edges, g.edges.flip(2), impl="ref"),
    "otsu_threshold": lambda g: otsu_threshold(g.edges, method="global", share=0.9, impl="ref"),
    "otsu_threshold, local": lambda g: otsu_threshold(g.edges, method="local", share=0.9, impl="ref"),
    "picture_from": painted,
    "picture_into": lambda g: picture_into(g.rgb, blocks(g, 39, 49), impl="ref"),
    "region_areas": lambda g: region_areas(g.ids, 7, impl="ref"),
    "region_hierarchy": lambda g: region_hierarchy(g.edges, impl="ref"),
    "region_stats": lambda g: region_stats(g.ids, 7, g.colors, impl="ref"),
    "resize_planes": lambda g: resize_planes(g.edges, (31, 47), impl="ref"),
    "resize_planes, larger": lambda g: resize_planes(g.edges, (99, 120), impl="ref"),
    "rgb_to_yuv": lambda g: rgb_to_yuv(g.rgb, TAGS, subsample=True, impl="ref"),
    "rgb_to_yuv, 10 bits": lambda g: rgb_to_yuv(g.rgb, TAGS, subsample=False, depth=10, impl="ref"),
    "layer_alphas": lambda g: layer_alphas(g.ids[:, ::2, ::2].contiguous(), 7, (70, 90), 6.0, impl="ref"),
    "style_map": lambda g: style_map(g.ids[:, ::2, ::2].contiguous(), 7, (70, 90), 6.0, impl="ref"),
    "yuv_to_rgb": lambda g: yuv_to_rgb(g.planes, TAGS, impl="ref"),
    "yuv_to_rgb, 10 bits": lambda g: yuv_to_rgb(g.deep, TAGS, depth=10, impl="ref"),
}
READ_NUMBERS = {"connected_components", "label_regions", "fill_holes", "region_hierarchy"}
"""Run until nothing changes, so not without numbers; they ask only one thing of the device's name (see fill_holes)."""


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("name", CALLS)
def test_a_reference_needs_no_float64(name, device):
    if device == "meta" and name in READ_NUMBERS:
        pytest.skip("reads its own results")
    given = Given(device)
    with NoFloat64():
        CALLS[name](given)


@pytest.mark.parametrize("name", sorted(CALLS.keys() - READ_NUMBERS - {"RegionStylizer"}))
def test_a_reference_waits_for_nothing(name):
    given = Given("meta")
    with no_waiting():
        CALLS[name](given)


def test_renewing_the_statistics_waits_for_nothing():
    given = Given("meta")
    published = StyleNet().to(given.device)  # as Stylizer holds it: its norms are on the device
    net = RegionStylizer(published, given.device, torch.float32, impl="ref")
    with no_waiting():
        blend_table([net.record(given.rgb[:1], published.norms(style)) for style in (0, 1, 25)])


def test_calming_a_frame_waits_for_nothing():
    given, calm_film = Given("meta"), Calm(looks=7, feather_px=20)
    chroma = given.colors[:, :2, :35, :45]
    with no_waiting(), NoFloat64():
        for k in (0, 1, 0, 1):
            how = {"fading": {0} if k == 1 else (), "chroma": chroma[k], "unseen": {3}}
            calm_film.step(given.rgb[k], given.edges[k], given.ids[k], 0, **how)
    assert calm_film._report.pending


def test_waiting_is_seen():
    on_device = torch.zeros(2, device="meta")
    with pytest.raises(AssertionError, match="waits for a copy"), no_waiting():
        torch.zeros(2).to(on_device)
    with pytest.raises(AssertionError, match="waits for a copy"), no_waiting():
        torch.tensor([1.0], device="meta")
    with pytest.raises(AssertionError, match="waits for a copy"), no_waiting():
        on_device.new_tensor([1.0])
    with pytest.raises(RuntimeError, match="cannot be called on meta tensors"), no_waiting():
        on_device.sum().item()


def test_every_stage_with_a_reference_is_here():
    names = set()
    for module in pkgutil.iter_modules(stages.__path__, "streamstyle.stages."):
        for name, thing in vars(importlib.import_module(module.name)).items():
            if name.startswith("_") or not callable(thing) or getattr(thing, "__module__", "") != module.name:
                continue
            if "impl" in inspect.signature(thing).parameters:
                names.add(name)
    assert names <= {name.partition(",")[0] for name in CALLS}
    assert len(names) > 15


def test_float64_is_seen():
    with pytest.raises(AssertionError, match="made float64"), NoFloat64():
        torch.zeros(2).double()
