"""A picture's regions: HED edges, then a hierarchy of regions, or Otsu's threshold and connected components."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from streamstyle.config import AnalysisOptions
from streamstyle.errors import OptionError
from streamstyle.gpu.streams import Download
from streamstyle.gpu.transfer import choose_dtype
from streamstyle.nets import int8
from streamstyle.nets.hed import HED
from streamstyle.nets.hed_int8 import Int8HED
from streamstyle.objects import appearance
from streamstyle.plugins import BUILT_IN, POINT_AT_IT, Prompt, in_raster_order, load_segmenter
from streamstyle.stages.connected_components import label_regions
from streamstyle.stages.otsu_threshold import otsu_threshold
from streamstyle.stages.region_hierarchy import cut, region_hierarchy
from streamstyle.stages.region_stats import largest_region, limit_regions, region_areas

EDGE_FLOOR = 20
"""Edge strength (of 255) below which nothing is an edge: Otsu would split the noise of a flat picture in two."""
MARGIN_PX, NARROW_MARGIN_PX = 16, 8
"""Width of the border that HED sees around a picture, and that the narrow network does; multiples of their coarsest
pooling. With 8 px the latter takes a tenth less; edges in the outermost 4 px are in the mean 8 of 255 off those of a
wide border (1 with 16), and up to 140 (46), and J on eight DAVIS sequences is the same to .001."""
MOST_REGIONS = 4096
"""In a frame, the background among them; the smallest beyond so many go to the background, and are counted."""


@dataclass(frozen=True)
class Segmentation:
    """Regions of one frame, on the host.

    Attributes:
        ids: [h, w] int32, 0 the background, 1 .. regions - 1 in raster order: what a person sees and numbers.
        regions: how many, the background among them.
        rgb: the picture they were found in, [3, h, w] uint8.
        finest: [h, w] int32, the smallest parts there are: objects' borders lie on theirs.
        finest_regions: one more than the largest of finest.
        features: [C, h', w'] of each of the network's LOOK_LAYERS, on its device, in the units of this picture and
            layer alone; none if it was not asked for them.
        left_out: regions that were more than MOST_REGIONS.
        tree: how the finest join, as into and at of RegionHierarchy, [finest_regions] int32 each; None without one.
        there: rgb, finest and the tree's into and at on the device, where that is not the host.
        moving: gives where something moves by itself there, [h, w] bool; None where nobody knows.
    """

    ids: Tensor
    regions: int
    rgb: Tensor
    finest: Tensor
    finest_regions: int
    features: tuple[Tensor, ...] = ()
    left_out: int = 0
    tree: tuple[Tensor, Tensor] | None = None
    there: tuple[Tensor, ...] = ()
    moving: Callable[[], np.ndarray] | None = None

    @property
    def picture(self) -> Tensor:
        """rgb, on the device if it is there."""
        return self.there[0] if self.there else self.rgb


class Segmenter:
    """Find the regions of pictures.

    Args:
        options: segmenter, edge side, detail, threshold, smallest area.
        device: where the network runs, in the arithmetic that is quickest there, so that a region has one number in a
            preview and in every run.
        features: whether to give the network's features, for AppearanceTracks.

    Raises:
        OptionError: the segmenter is another's and cannot be loaded.
    """

    def __init__(self, options: AnalysisOptions, device: torch.device, *, features: bool = False) -> None:
        self.options, self.device = options, device
        # Of HED itself those of block 4 gain .008 of J for half its time again.
        deepest = 4 if self._narrow else 3
        self._layers = [layer for layer in appearance.LOOK_LAYERS if features and layer[0] <= deepest]
        own = options.segmenter in BUILT_IN
        self._others = None if own else load_segmenter(options.segmenter, device.type)
        self._hed: HED | None = None
        if own or self._layers:
            self._hed = self._load()

    def __call__(self, rgb: Tensor) -> list[Segmentation]:
        """Segment pictures [N, 3, h, w], floating, 0..1, one Segmentation each.

        Cost: the network, then about 15 ms a picture at 427x240 on one core; one synchronisation.
        """
        found, features = self.find(rgb)
        return segmentations(Download(found).wait(), features, found)

    @torch.inference_mode()
    def find(self, rgb: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """What segmentations are made of, on rgb's device; no synchronisation, unless the segmenter is another's.

        Returns:
            What the host needs: ids [N, h, w] int32, regions [N], left out [N], rgb [N, 3, h, w] uint8, finest
            [N, h, w] int32, its regions [N], into and at [N, R] int32 (R is 0 without a hierarchy). And what stays:
            features [N, C, h', w'].
        """
        edges, features = self._edges(rgb)
        tree = region_hierarchy(edges) if self._layers or self.options.segmenter == "regions" else None
        pixels = rgb.shape[2] * rgb.shape[3]
        smallest = max(1.0, self.options.min_area / 100 * pixels)
        pictures = (rgb * 255 + 0.5).to(torch.uint8)
        most = _most_regions(pixels)
        if self._others is not None:
            asked, most = self._asked(pictures)
            ids, regions = _renumber(asked, most, smallest, background=None)
        elif self.options.segmenter == "components":
            ids, regions = self._components(edges, smallest)
        else:
            assert tree is not None
            areas, parts = cut(tree, 1 - self.options.detail)[0], tree.into.shape[1]
            ids, regions = _renumber(areas, parts, smallest, background=_largest(areas, parts))
        left_out = torch.zeros_like(regions)
        bound = min(most, int(pixels / smallest) + 1)  # of regions that are large enough, and id 0
        if bound > MOST_REGIONS:
            ids, left_out = limit_regions(ids, region_areas(ids, bound), MOST_REGIONS)
            regions = regions.clamp_max(MOST_REGIONS)
        if tree is None:
            none = ids.new_zeros((len(ids), 0))
            return (ids, regions, left_out, pictures, ids, regions, none, none), features
        return (ids, regions, left_out, pictures, tree.ids, tree.regions + 1, tree.into, tree.at), features

    @property
    def takes(self) -> tuple[str, ...]:
        """Which prompts it may be asked by, any of plugins.KINDS: of our own segmenters none."""
        return () if self._others is None else self._others.takes

    def asked(self, rgb: Tensor, prompt: Prompt) -> np.ndarray:
        """What of a picture [3, h, w] uint8 a prompt means, [h, w] bool; nowhere, if it is not there.

        Raises:
            OptionError: the segmenter takes no such prompt.
        """
        if self._others is None:
            raise OptionError(f"--segmenter {self.options.segmenter} takes no words; {POINT_AT_IT}")
        picture = rgb.permute(1, 2, 0).contiguous().cpu().numpy()
        return self._others(picture, [prompt]) == 1

    @property
    def _narrow(self) -> bool:
        """Whether the narrow network is asked, not HED itself."""
        return self.options.edge_side == "auto" and self.options.segmenter != "components"

    def _load(self) -> HED:
        """The network that edges and features come from, ready to run on the device."""
        in_bytes = edges_in(self.device) == "int8"
        dtype = torch.float32 if in_bytes else choose_dtype("auto", self.device)
        if self._narrow:
            hed = HED.load_narrow(self.device, dtype)
        else:
            side = "2" if self.options.edge_side == "auto" else self.options.edge_side
            hed = HED.load(side, self.device, dtype, blocks=max((block for block, _ in self._layers), default=0))
        return Int8HED.of(hed) if in_bytes else hed

    def _edges(self, rgb: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """HED's edges [N, h, w] uint8 of pictures that go on beyond their border: its zero padding would put an edge
        all round. And the layers' features, without that border. Where HED is not needed, no edge and no features.
        """
        if self._hed is None:
            return rgb.new_zeros((len(rgb), *rgb.shape[2:]), dtype=torch.uint8), ()
        border = NARROW_MARGIN_PX if self._narrow else MARGIN_PX
        mode = "reflect" if min(rgb.shape[2:]) > border else "replicate"
        grown = F.pad(rgb, (border,) * 4, mode=mode)
        # A CPU gains nothing from more at once, and pays in memory.
        at_once = 1 if rgb.device.type == "cpu" else max(1, len(grown))
        seen = [self._hed.edges_and_features(pictures, self._layers) for pictures in grown.split(at_once)]
        strength = torch.cat([edges for edges, _ in seen]) if seen else rgb.new_zeros((0, *grown.shape[2:]))
        features = []
        for number, (block, _) in enumerate(self._layers):
            stride = 1 << (block - 1)
            margin, size = border // stride, (-(-rgb.shape[2] // stride), -(-rgb.shape[3] // stride))
            first = seen[0][1][number]
            shape = (len(rgb), first.shape[1], *size)
            # As the appearance model reads them, and copied once: a picture's are 11 MB in floats.
            maps = torch.empty(shape, dtype=first.dtype, device=first.device, memory_format=torch.channels_last)
            for place, (_, found) in zip(maps.split(at_once), seen, strict=True):
                place.copy_(found[number][:, :, margin : margin + size[0], margin : margin + size[1]])
            features.append(maps)
        strength = strength[:, border:-border, border:-border]
        return (strength * 255 + 0.5).to(torch.uint8), tuple(features)

    def _asked(self, pictures: Tensor) -> tuple[Tensor, int]:
        """Regions as another's segmenter sees them, numbered as ours are, and the number of ids they may have."""
        assert self._others is not None
        frames = [picture.permute(1, 2, 0).contiguous().cpu().numpy() for picture in pictures]  # synchronises
        ids = np.stack([in_raster_order(self._others(frame)) for frame in frames])
        return torch.from_numpy(ids).to(pictures.device), int(ids.max()) + 1

    def _components(self, edges: Tensor, smallest: float) -> tuple[Tensor, Tensor]:
        """The paper's two passes: the largest edge-free area is the background, what hangs together of the rest, an
        8-connected component, is an object; what it encloses is opaque."""
        is_edge = otsu_threshold(edges, method=self.options.threshold) & (edges > EDGE_FLOOR)
        areas, _ = label_regions(~is_edge, connectivity=4)
        most = _most_regions(areas[0].numel())
        foreground = areas != _largest(areas, most)
        objects, _ = label_regions(foreground, connectivity=8)
        return _renumber(objects, most, smallest, background=None)


def left_out_warnings(count: int) -> list[str]:
    """What a person should know of so many regions that were more than MOST_REGIONS, in a line; none of none."""
    told = f"{count} regions beyond the {MOST_REGIONS} a frame may have went to the background, the smallest first"
    return [f"{told}; give a larger --min-area"] if count else []


def edges_in(device: torch.device) -> str:
    """What HED computes in on a device: ``int8``, or the name of a floating dtype."""
    if device.type == "cpu" and int8.available():
        return "int8"
    return str(choose_dtype("auto", device)).removeprefix("torch.")


def file_of(spec: str) -> Path | None:
    """The file that a segmenter's argument is, such as a checkpoint, for ``NAME:ARGUMENT``; None where it is none."""
    argument = spec.partition(":")[2]
    path = Path(argument).expanduser()
    return path if argument and path.is_file() else None


def segmentations(
    found: Sequence[Tensor], features: Sequence[Tensor] = (), there: Sequence[Tensor] = ()
) -> list[Segmentation]:
    """One a picture of what Segmenter.find gave, the first part brought to the host; there: that part as it was."""
    ids, regions, left_out, rgb, finest, parts, into, at = found
    _, _, _, *kept = there if there and there[0].is_cuda and at.shape[1] else (None,) * 3
    counts = zip(regions.tolist(), parts.tolist(), left_out.tolist(), strict=True)
    some = []
    for i, (count, fine, left) in enumerate(counts):
        tree = (into[i, :fine], at[i, :fine]) if at.shape[1] else None
        seen = tuple(layer[i] for layer in features)
        here: tuple[Tensor, ...] = ()
        if kept:
            picture, map_, _, joins, heights = (part[i] for part in kept)
            here = (picture, map_, joins[:fine], heights[:fine])
        some.append(Segmentation(ids[i], count, rgb[i], finest[i], fine, seen, left, tree, here))
    return some


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
