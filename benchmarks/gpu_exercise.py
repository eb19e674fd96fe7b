"""Every kernel once, on small pictures, against its reference: a part of gpu_report.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import Rows, figure


def part_exercise(folder: Path) -> Rows:
    """Every kernel once, on small pictures, against its reference."""
    import torch

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
    from streamstyle.stages.folding import FORMS
    from streamstyle.stages.stylize_regions import affine_into, picture_from, picture_into

    torch.manual_seed(0)
    edges = torch.randint(0, 256, (2, 70, 90), dtype=torch.uint8, device="cuda")
    noise = torch.randint(0, 256, (1, 700, 900), dtype=torch.uint8, device="cuda")  # more basins than are kept
    planes = (edges, edges[:, :35, :45].contiguous(), edges[:, 35:, 45:].contiguous())
    tags = ColorTags()
    rgb = torch.randint(0, 1025, (2, 3, 70, 90), device="cuda") / 1024
    colors = torch.randint(0, 256, (2, 3, 70, 90), dtype=torch.uint8, device="cuda")
    deep = (torch.randint(0, 1024, (2, 70, 90), device="cuda")).to(torch.uint16)
    y, scale = torch.rand(2, 70, 90, 32, device="cuda"), torch.rand(5, 32, device="cuda")
    index = torch.randint(0, 5, (2, 70, 90), dtype=torch.int32, device="cuda")
    flow = 4 * torch.randn(2, 70, 90, 2, device="cuda")
    blank = torch.zeros(2, 32, 72, 92, device="cuda").to(memory_format=torch.channels_last)
    blocks = torch.zeros(2, 16, 74, 94, device="cuda").to(memory_format=torch.channels_last)
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
        "affine of a folded layer": lambda impl: affine_into(
            y[..., :16].contiguous(), index, scale[:, :4], scale[:, :4], blocks.clone(), form=FORMS[16], impl=impl
        ),
        "picture into blocks": lambda impl: picture_into(rgb, whole.clone(), impl=impl),
        "picture from blocks": lambda impl: picture_from(
            y[..., :16].contiguous(), index.repeat(1, 2, 2), scale[:, :3], scale[:, :3], impl=impl
        ),
        "composite": lambda impl: composite(rgb, planes, tags, rgb[:, 0].contiguous(), subsample=True, impl=impl)[0],
        "composite, 4:4:4": lambda impl: composite(
            rgb, (edges, edges, edges), tags, rgb[:, 0].contiguous(), subsample=False, impl=impl
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
        "rows of a map": lambda impl: style_map.blend_map((edges // 37).int(), 7, (212, 332), 6.0, impl=impl)[0],
        "painted share of a map": lambda impl: style_map.blend_map(
            (edges // 37).int(), 7, (212, 332), 6.0, [True, False] * 3 + [True], impl=impl
        )[1],
        "areas": lambda impl: region_stats.region_areas((edges // 16).int(), 16, impl=impl),
        "overlap": lambda impl: label_overlap.label_overlap((edges // 16).int(), (edges % 9).int(), 16, 9, impl=impl),
    }
    close = ("RGB", "affine", "affine of a folded layer", "picture from blocks")
    for name, call in both.items():
        apart = (call("cuda").double() - call("ref").double()).abs().max().item()
        levels = name.startswith(("YUV", "composite"))
        allowed = 1.0 if levels else 1e-3 if "float16" in name else 1e-5 if name in close else 0.0
        yield figure(f"{name}, largest difference from the reference", apart, "", goal=allowed, at_least=False)
    torch.cuda.synchronize()
