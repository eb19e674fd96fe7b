"""Every kernel once, on small pictures, against its reference: a part of gpu_report.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import Rows, figure


def layers(device: str) -> dict[str, Callable[[str], Any]]:
    """A layer of each form that the painting network has, in whole numbers, which 16-bit floats hold exactly."""
    import torch

    from streamstyle.nets.stylenet import LAYERS
    from streamstyle.stages.folding import TRUNK_OUTPUTS, fold, forms
    from streamstyle.stages.stylize_regions import affine_into

    size = (6, 270)  # a row is more than one block's span, in every form

    def whole(low: int, high: int, *shape: int) -> torch.Tensor:
        return torch.randint(low, high, shape, device=device).float()

    def layer(i: int, channels: int, kept: int, pad: int, dtype: torch.dtype, how: Any) -> Callable[[str], Any]:
        form = forms(LAYERS)[i]
        y, index = whole(-8, 9, 2, *size, channels).to(dtype), whole(0, 5, 2, 2 * size[0], 2 * size[1]).int()
        plain = whole(-8, 9, 2, kept, *((1 + form.up) * side + 2 * pad for side in size)).to(dtype)
        padded = (fold(plain) if form.folded else plain).contiguous(memory_format=torch.channels_last)
        scale, shift = whole(1, 4, 5, kept), whole(-8, 9, 5, kept)
        border: Any = "replicate" if i == 15 else "reflect"
        return lambda impl: affine_into(
            y.clone(), index, scale, shift, padded.clone(), activation=how, border=border, form=form, impl=impl
        )

    return {
        "layer 0, bfloat16": layer(0, 128, 32, 1, torch.bfloat16, "relu"),
        "layer 3, float16": layer(3, TRUNK_OUTPUTS, 32, 1, torch.float16, "relu"),
        "layer 4, a residual, bfloat16": layer(4, TRUNK_OUTPUTS, 32, 1, torch.bfloat16, "residual"),
        "layer 15, bfloat16": layer(15, TRUNK_OUTPUTS, 8, 1, torch.bfloat16, "relu"),
        "layer 16, float16": layer(16, 16, 4, 4, torch.float16, "relu"),
        "layer with a sigmoid, float16": layer(3, TRUNK_OUTPUTS, 32, 1, torch.float16, "sigmoid"),
    }


def part_exercise(folder: Path) -> Rows:
    """Every kernel once, on small pictures, against its reference."""
    import torch
    from bench_object_evidence import agreement
    from discs_in_motion import Situation

    from streamstyle.frames import ColorTags
    from streamstyle.stages import (
        color,
        connected_components,
        label_overlap,
        optical_flow,
        otsu_threshold,
        region_hierarchy,
        region_stats,
        resize,
        style_map,
    )
    from streamstyle.stages.composite import composite
    from streamstyle.stages.stylize_regions import affine_into, picture_from, picture_into

    torch.manual_seed(0)
    edges = torch.randint(0, 256, (2, 70, 90), dtype=torch.uint8, device="cuda")
    noise = torch.randint(0, 256, (1, 700, 900), dtype=torch.uint8, device="cuda")  # more basins than are kept
    planes = (edges, edges[:, :35, :45].contiguous(), edges[:, 35:, 45:].contiguous())
    y88, u44, v44 = (plane[..., : plane.shape[2] // 44 * 44].contiguous() for plane in planes)  # rows of whole packs
    tags = ColorTags()
    rgb = torch.randint(0, 1025, (2, 3, 70, 90), device="cuda") / 1024
    rgb88 = rgb[..., :88]
    colors = torch.randint(0, 256, (2, 3, 70, 90), dtype=torch.uint8, device="cuda")
    deep = (torch.randint(0, 1024, (2, 70, 90), device="cuda")).to(torch.uint16)
    y, scale = torch.rand(2, 70, 90, 32, device="cuda"), torch.rand(5, 32, device="cuda")
    index = torch.randint(0, 5, (2, 70, 90), dtype=torch.int32, device="cuda")
    index88, shares = index[..., :88].contiguous(), rgb.flatten()[:10].view(5, 2).contiguous()
    flow = 4 * torch.randn(2, 70, 90, 2, device="cuda")
    blank = torch.zeros(2, 32, 72, 92, device="cuda").to(memory_format=torch.channels_last)
    whole = torch.zeros(2, 16, 39, 49, device="cuda").to(memory_format=torch.channels_last)
    both: dict[str, Callable[[str], Any]] = {
        "otsu local": lambda impl: otsu_threshold.otsu_threshold(edges, impl=impl),
        "otsu global": lambda impl: otsu_threshold.otsu_threshold(edges, method="global", impl=impl),
        "labels": lambda impl: connected_components.connected_components(edges > 99, connectivity=8, impl=impl),
        "RGB": lambda impl: color.yuv_to_rgb(planes, tags, impl=impl),
        "otsu exact": lambda impl: otsu_threshold.otsu_threshold(edges, method="exact", impl=impl),
        "ids": lambda impl: connected_components.label_regions(edges > 99, impl=impl)[0],
        "YUV": lambda impl: color.rgb_to_yuv(rgb, tags, subsample=True, impl=impl)[0],
        "stats": lambda impl: region_stats.region_stats((edges // 16).int(), 16, colors, impl=impl).box_xyxy,
        "boxes": lambda impl: region_stats.region_stats((edges // 16).int(), 16, impl=impl).box_xyxy,
        "holes": lambda impl: region_stats.fill_holes((edges // 16).int(), impl=impl),
        "overlaps of consecutive frames": lambda impl: label_overlap.consecutive_overlaps(
            (edges // 16).int(), 16, impl=impl
        ),
        "RGB, 4:4:4, 10 bits, float16": lambda impl: color.yuv_to_rgb(
            (deep, deep, deep), tags, dtype=torch.float16, depth=10, impl=impl
        ),
        "YUV, 4:4:4, 10 bits": lambda impl: color.rgb_to_yuv(rgb, tags, subsample=False, depth=10, impl=impl)[1].int(),
        "affine": lambda impl: affine_into(
            y.clone(), index, scale, scale, blank.clone(memory_format=torch.preserve_format), impl=impl
        ),
        "RGB in packs, float16": lambda impl: color.yuv_to_rgb((y88, u44, v44), tags, dtype=torch.float16, impl=impl),
        "YUV of float16, in packs": lambda impl: color.rgb_to_yuv(rgb88.half(), tags, subsample=True, impl=impl)[0],
        "YUV of bfloat16, 4:4:4, 10 bits": lambda impl: color.rgb_to_yuv(
            rgb.bfloat16(), tags, subsample=False, depth=10, impl=impl
        )[1].int(),
        "picture into blocks": lambda impl: picture_into(rgb, whole.clone(), impl=impl),
        "picture from blocks": lambda impl: picture_from(
            y[..., :16].contiguous(), index.repeat(1, 2, 2), scale[:, :3], scale[:, :3], impl=impl
        ),
        "composite": lambda impl: composite(rgb, planes, tags, index, shares, subsample=True, impl=impl)[0],
        "composite of float16, in packs": lambda impl: composite(
            rgb88.half(), (y88, u44, v44), tags, index88, shares, subsample=True, impl=impl
        )[0],
        "composite of bfloat16": lambda impl: composite(
            rgb.bfloat16(), planes, tags, index, shares, subsample=True, impl=impl
        )[1],
        "composite, 4:4:4": lambda impl: composite(
            rgb, (edges, edges, edges), tags, index, shares, subsample=False, impl=impl
        )[1],
        "large overlap tables": lambda impl: label_overlap.label_overlap(
            edges.int() * 9, edges.int() * 3, 2300, 800, impl=impl
        ),
        "few regions": lambda impl: region_stats.limit_regions(
            (edges // 16).int(), region_stats.region_areas((edges // 16).int(), 16), 5, impl=impl
        )[0],
        "flow": lambda impl: optical_flow.optical_flow(edges, edges.roll((2, 3), (1, 2)), impl=impl),
        "occlusion": lambda impl: optical_flow.occlusion(flow, -flow, impl=impl),
        "region hierarchy's tree": lambda impl: region_hierarchy.region_hierarchy(edges, impl=impl).at,
        "regions of a cut": lambda impl: region_hierarchy.cut(region_hierarchy.region_hierarchy(noise, impl=impl), 0.5)[
            0
        ],
        "shrinking": lambda impl: resize.resize_planes(edges, (31, 47), impl=impl),
        "styles of a map": lambda impl: style_map.style_map((edges // 37).int(), 7, (211, 333), 6.0, impl=impl)[2],
        "rows of a map": lambda impl: style_map.blend_map((edges // 37).int(), 7, (212, 332), 6.0, impl=impl),
        "rows of a map, borders of several widths": lambda impl: style_map.blend_map(
            (edges // 37).int(), 7, (212, 332), style_map.pair_feathers([0.0, 3.0, 20.0] + [None] * 4, 6.0), impl=impl
        ),
        "areas": lambda impl: region_stats.region_areas((edges // 16).int(), 16, impl=impl),
        "overlap": lambda impl: label_overlap.label_overlap((edges // 16).int(), (edges % 9).int(), 16, 9, impl=impl),
        **layers("cuda"),
    }
    close = ("RGB", "affine", "picture from blocks")
    for name, call in both.items():
        apart = (call("cuda").double() - call("ref").double()).abs().max().item()
        levels = name.startswith(("YUV", "composite"))
        allowed = 1.0 if levels else 1e-3 if "float16" in name else 1e-5 if name in close else 0.0
        yield figure(f"{name}, largest difference from the reference", apart, "", goal=allowed, at_least=False)
    for named in (0, 2):  # whose reference is NumPy's, on the host
        situation = Situation(0, (60, 107), named)
        yield from agreement(f"one found, {named} named", situation, torch.device("cuda"))
    torch.cuda.synchronize()
