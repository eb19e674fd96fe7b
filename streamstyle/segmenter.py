"""A picture's regions: HED edges, Otsu's threshold, connected components."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from streamstyle.config import AnalysisOptions
from streamstyle.gpu.streams import Download
from streamstyle.gpu.transfer import choose_dtype
from streamstyle.nets.hed import HED
from streamstyle.stages.connected_components import label_regions
from streamstyle.stages.grow_regions import grow_regions
from streamstyle.stages.otsu_threshold import otsu_threshold
from streamstyle.stages.region_stats import largest_region, limit_regions, region_areas

EDGE_FLOOR = 20
"""Edge strength (of 255) below which nothing is an edge: Otsu would split the noise of a flat picture in two."""


SEED_SHARE = 0.7
"""Regions are closed by edges above this share of Otsu's threshold: a weak gap then leaks less often. Measured on
eight DAVIS sequences: the mean IoU of the regions under the true object in the first frame is .60, against .54 at 1."""


MARGIN_PX = 16
"""Width of the border HED sees around a picture; a multiple of its coarsest pooling."""
MOST_REGIONS = 4096
"""In a frame, the background among them; the smallest beyond so many go to the background, and are counted."""


@dataclass(frozen=True)
class Segmentation:
    """Regions of one frame, on the host: ids [h, w] int32, 0 the background, 1 .. regions - 1 in raster order; and the
    picture they were found in, rgb [3, h, w] uint8."""

    ids: Tensor
    regions: int
    rgb: Tensor


class Segmenter:
    """Find the regions of pictures.

    Args:
        options: segmenter, edge side, threshold, smallest area.
        device: where HED runs, in the precision that is native there, so that a region has one number in a preview
            and in every run.

    Attributes:
        left_out: regions so far that were more than MOST_REGIONS a frame.
    """

    def __init__(self, options: AnalysisOptions, device: torch.device) -> None:
        self.options = options
        self.left_out = 0
        self._hed = HED.load(options.edge_side, device, choose_dtype("auto", device))

    def __call__(self, rgb: Tensor) -> list[Segmentation]:
        """Segment pictures [N, 3, h, w], floating, 0..1, one Segmentation each.

        Cost: HED, then about 10 ms a picture at 427x240 on one core; one synchronisation.
        """
        return self.told(Download(self.find(rgb)).wait())

    @torch.inference_mode()
    def find(self, rgb: Tensor) -> tuple[Tensor, ...]:
        """What told makes Segmentations of, on rgb's device; no synchronisation.

        Returns:
            ids [N, h, w] int32, regions [N], left out [N], rgb [N, 3, h, w] uint8.
        """
        edges = (self._strength(rgb) * 255 + 0.5).to(torch.uint8)
        share = SEED_SHARE if self.options.segmenter == "regions" else 1.0
        is_edge = otsu_threshold(edges, method=self.options.threshold, share=share) & (edges > EDGE_FLOOR)
        areas, _ = label_regions(~is_edge, connectivity=4)  # edge-free areas
        pixels = edges.shape[1] * edges.shape[2]
        smallest = max(1.0, self.options.min_area / 100 * pixels)
        bound = min(_most_regions(pixels), int(pixels / smallest) + 1)  # of regions that are large enough, and id 0
        if self.options.segmenter == "components":
            ids, regions = self._components(areas, smallest)
        else:
            ids, regions = self._regions(areas, edges, smallest, bound)
        left_out = torch.zeros_like(regions)
        if bound > MOST_REGIONS:
            ids, left_out = limit_regions(ids, region_areas(ids, bound), MOST_REGIONS)
            regions = regions.clamp_max(MOST_REGIONS)
        return ids, regions, left_out, (rgb * 255 + 0.5).to(torch.uint8)

    def told(self, found: Sequence[Tensor]) -> list[Segmentation]:
        """Segmentations of what find gave, brought to the host; what was left out is counted."""
        ids, regions, left_out, rgb = found
        self.left_out += int(left_out.sum())
        return [Segmentation(ids[i], count, rgb[i]) for i, count in enumerate(regions.tolist())]

    def _strength(self, rgb: Tensor) -> Tensor:
        """HED's edges of pictures that go on beyond their border: its zero padding would put an edge all round."""
        mode = "reflect" if min(rgb.shape[2:]) > MARGIN_PX else "replicate"
        grown = F.pad(rgb, (MARGIN_PX,) * 4, mode=mode)
        at_once = (
            1 if rgb.device.type == "cpu" else max(1, len(grown))
        )  # a CPU gains nothing from more, and pays in memory
        strength = torch.cat([self._hed(pictures) for pictures in grown.split(at_once)])
        return strength[:, MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]

    def _components(self, areas: Tensor, smallest: float) -> tuple[Tensor, Tensor]:
        """The paper's second pass: all but the largest edge-free region, 8-connected; what it encloses is opaque."""
        most = _most_regions(areas[0].numel())
        foreground = areas != _largest(areas, most)
        objects, _ = label_regions(foreground, connectivity=8)
        return _renumber(objects, most, smallest, background=None)

    def _regions(self, areas: Tensor, edges: Tensor, smallest: float, bound: int) -> tuple[Tensor, Tensor]:
        """Every edge-free region that is large enough, grown over the edges around it."""
        seeds, _ = _renumber(areas, _most_regions(areas[0].numel()), smallest, background=None)
        grown = grow_regions(seeds, edges)
        return _renumber(grown, bound, 1.0, background=_largest(grown, bound))


def _most_regions(pixels: int) -> int:
    """How many ids a frame of so many pixels can have, id 0 with them: a checkerboard's.

    Tables of that size spare asking the device how many there are, which would be to wait for it.
    """
    return (pixels + 1) // 2 + 1


def _largest(ids: Tensor, regions: int) -> Tensor:
    """[N, 1, 1] id of the largest region, 0 aside; of equals the lowest."""
    return largest_region(region_areas(ids, regions)).view(-1, 1, 1)


def _renumber(ids: Tensor, regions: int, smallest: float, background: Tensor | None) -> tuple[Tensor, Tensor]:
    """Give id 0 to regions that are small or the background, and 1, 2 ... to the rest, through a table.

    Returns ids [N, h, w] int32 and how many ids each frame has, 0 included, [N] int64.
    """
    areas = region_areas(ids, regions)
    stays = areas >= smallest
    stays[:, 0] = False
    if background is not None:
        stays.scatter_(1, background.view(-1, 1).long(), False)
    table = torch.where(stays, stays.cumsum(1), 0).to(torch.int32)
    renumbered = table.gather(1, ids.flatten(1).long()).view_as(ids)
    return renumbered, stays.sum(1) + 1
