"""What a frame is painted with: which networks pass over it, with which styles, and what each pixel takes of them.

::

    looks ──► styles ──► pigments: one style of one network each, recorded on a reference frame
                            │
                 coats: one pass of a network at one size of strokes, all its pigments at once
                            │
    painting = sum over coats of share * coat        share: looked up by the pixel's row of the table of blends

Styles of one network cost one pass together. A blend within a network is a pigment of its own; a blend across
networks, and the border between objects of two, is a sum of coats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from streamstyle.config import StyleOptions
from streamstyle.gpu.memory import FEWEST_BAND_PX, band_pixels
from streamstyle.gpu.transfer import to_device
from streamstyle.media.paintings import LEAST_PX, paintings_in, read_painting
from streamstyle.nets.arbitrary import ArbitraryNet, StylePredictor
from streamstyle.nets.johnson import JohnsonNet
from streamstyle.nets.painting import Affine, PaintingNet
from streamstyle.nets.stylenet import StyleNet
from streamstyle.painting.boxes import CHROMA_PX, Box, Painter, box_of, narrowed, paint_box
from streamstyle.painting.worn import Worn, WornCoat
from streamstyle.stages.blend_modes import laid_over, looked_up, soft_light
from streamstyle.stages.blends import blend_shares, mixed_norms
from streamstyle.stages.network_stylizer import NetworkStylizer
from streamstyle.stages.strokes import enlarge, enlarging_px, shrink, working_size
from streamstyle.stages.stylize_int8 import stylizer_in
from streamstyle.stages.stylize_regions import RegionStylizer
from streamstyle.styles import NONE, STYLES, Mix, Painting, Style, source_of


@dataclass
class Coat:
    """One pass of a network; of each pigment its number in the palette."""

    painter: Painter
    scale: float
    pigments: list[int] = field(default_factory=list)


class Palette:
    """The networks and pigments of some styles.

    Args:
        styles: one for each look, in canonical form.
        options: what is worn where a style does not say.
        device, dtype: where and in what precision to paint.
        int8: paint built-in styles and paintings in 8-bit integers, dtype being float32; see ``stages.stylize_int8``.
        compile_lookup: as ``RegionStylizer`` has it.

    Raises:
        InputError: a painting or a network of one's own cannot be read, or a painting is too small.
        WeightsError: another network cannot be fetched.
    """

    def __init__(
        self,
        styles: Sequence[str],
        options: StyleOptions,
        device: torch.device,
        dtype: torch.dtype,
        *,
        int8: bool = False,
        compile_lookup: bool = False,
    ) -> None:
        self.device, self.dtype, self._int8, self._compile = device, dtype, int8, compile_lookup
        self._styles = [Style.parse(text) for text in styles]
        self._options = options
        self._nets: dict[str, Painter] = {}
        self._predictor: StylePredictor | None = None
        self._built_in: StyleNet | None = None
        self._arbitrary: ArbitraryNet | None = None
        self.coats: list[Coat] = []
        self._pigments: list[tuple[Coat, Affine | None]] = []  # with its norms; own networks have one style
        self._number: dict[tuple[str, float, Mix], int] = {}
        self._keys = [[self._pigments_of(key.mix, self._scale(style)) for key in style.keys] for style in self._styles]

    @property
    def paints_in_bytes(self) -> bool:
        """Whether any network may paint in 8-bit integers."""
        return self._int8 and any(isinstance(painter, RegionStylizer) for painter in self._nets.values())

    # -- made once ------------------------------------------------------------------------------------------------

    def _scale(self, style: Style) -> float:
        return self._options.stroke_scale if style.scale is None else style.scale

    def _pigments_of(self, mix: Mix, scale: float) -> dict[int, float]:
        """The pigments of a blend, and how much of each; what is not there of a whole is the picture."""
        parts: dict[str, list[tuple[str, float]]] = {}
        for source, weight in mix:
            if source != NONE:
                parts.setdefault(self._network_of(source), []).append((source, weight))
        return {
            self._pigment(network, tuple(sources), scale): sum(weight for _, weight in sources)
            for network, sources in parts.items()
        }

    def _network_of(self, source: str) -> str:
        found = source_of(source)
        if isinstance(found, Path):
            return str(found)
        return "paintings" if isinstance(found, Painting) else "built-in"

    def _pigment(self, network: str, sources: Mix, scale: float) -> int:
        total = sum(weight for _, weight in sources)
        mix = tuple((source, weight / total) for source, weight in sources)
        key = (network, scale, mix)
        if key not in self._number:
            painter = self._painter(network)
            coat = next((c for c in self.coats if c.painter is painter and c.scale == scale), None)
            if coat is None:
                self.coats.append(coat := Coat(painter, scale))
            coat.pigments.append(len(self._pigments))
            self._number[key] = len(self._pigments)
            self._pigments.append((coat, self._norms(network, mix)))
        return self._number[key]

    def _painter(self, network: str) -> Painter:
        if network not in self._nets:
            painter: Painter
            if network == "built-in":
                self._built_in = StyleNet.load().to(self.device)
                painter = self._region_stylizer(self._built_in)
            elif network == "paintings":
                self._arbitrary = ArbitraryNet.load().to(self.device)
                painter = self._region_stylizer(self._arbitrary)
            else:
                painter = NetworkStylizer(JohnsonNet.read(Path(network)), self.device, self.dtype)
            painter.band_px = band_pixels(self.device, painter.band_px)
            self._nets[network] = painter
        return self._nets[network]

    def _region_stylizer(self, net: PaintingNet) -> RegionStylizer:
        return stylizer_in(None if self._int8 else self.dtype, net, self.device, compile_lookup=self._compile)

    def _norms(self, network: str, mix: Mix) -> Affine | None:
        if network == "built-in":
            assert self._built_in is not None
            norms = [self._built_in.norms(STYLES.index(source)) for source, _ in mix]
        elif network == "paintings":
            assert self._arbitrary is not None
            norms = [self._arbitrary.norms(self._vector(source)) for source, _ in mix]
        else:
            return None
        return mixed_norms(norms, [weight for _, weight in mix])

    def _vector(self, source: str) -> Tensor:
        """The style vector of a painting; of a folder the mean of its paintings'."""
        painting = source_of(source)
        assert isinstance(painting, Painting)
        if self._predictor is None:
            self._predictor = StylePredictor.load()
        files = paintings_in(painting.path) if painting.path.is_dir() else [painting.path]
        vectors = []
        for file in files:
            picture = torch.from_numpy(read_painting(file, painting.crop, least_px=LEAST_PX))
            vectors.append(self._predictor(picture.permute(2, 0, 1)[None].float() / 255))
        return torch.stack(vectors).mean(0).to(self.device)

    # -- each frame -----------------------------------------------------------------------------------------------

    @property
    def paints(self) -> bool:
        """False where all keeps the picture as it is."""
        return bool(self._pigments)

    @property
    def files(self) -> list[Path]:
        """The paintings and networks that were read, of folders each painting."""
        found = dict.fromkeys(file for style in self._styles for file in style.files)
        return [file for each in found for file in (paintings_in(each) if each.is_dir() else [each])]

    @property
    def feathers(self) -> list[float | None]:
        """The width of each look's soft border, where it has one of its own."""
        return [style.feather for style in self._styles]

    @property
    def compile_error(self) -> str | None:
        """What the compiler said, where it could not."""
        errors = (getattr(painter, "compile_error", None) for painter in self._nets.values())
        return next((error for error in errors if error), None)

    def moment(self, time_s: float) -> tuple[tuple[float, ...], ...]:
        """What of the looks depends on time; where it is equal, :meth:`wear` is."""
        return tuple(style.shares(time_s) for style in self._styles)

    def record(self, rgb: Tensor) -> list[Affine]:
        """Every pigment's affine maps, recorded on a reference frame [1, 3, H, W]."""
        shrunk: dict[float, Tensor] = {}
        recorded = []
        for coat, norms in self._pigments:
            if coat.scale not in shrunk:
                shrunk[coat.scale] = shrink(rgb, working_size(rgb.shape[2:], coat.scale))
            painter, small = coat.painter, shrunk[coat.scale]
            if isinstance(painter, NetworkStylizer):
                recorded.append(painter.record(small))
            else:
                assert norms is not None
                recorded.append(painter.record(small, norms))
        self.forget_workspace()  # seldom needed by the thread that reads
        return recorded

    def wear(self, recorded: Sequence[Affine], time_s: float, look: int | None = None) -> Worn:
        """What frames at a time wear, from what was recorded: one look, or None for all and their blends."""
        styles = self._styles if look is None else self._styles[look : look + 1]
        looks = [self._worn_by(k, time_s) for k in (range(len(styles)) if look is None else (look,))]
        coats: list[WornCoat | None] = []
        for coat in self.coats:
            affines, shares = zip(*(self._of_coat(coat, worn, recorded) for worn in looks), strict=True)
            coats.append(self._worn_coat(coat, affines, shares, mixed=look is None))
        painted, soft = zip(*(self._laid_on(*each) for each in zip(styles, looks, strict=True)), strict=True)
        by = tuple(
            frozenset(k for k, worn in enumerate(looks) if any(worn.get(p) for p in coat.pigments))
            for coat in self.coats
        )
        all_painted = all(share == (1.0, 1.0) for share in painted)
        return Worn(
            tuple(coats),
            by,
            None if all_painted else self._rows(painted, mixed=look is None),
            self._column(soft, mixed=look is None) if any(soft) else None,
            frozenset(k for k, shares in enumerate(painted) if not any(shares)),
        )

    def _worn_by(self, look: int, time_s: float) -> dict[int, float]:
        worn: dict[int, float] = {}
        for pigments, share in zip(self._keys[look], self._styles[look].shares(time_s), strict=True):
            for pigment, weight in pigments.items():
                worn[pigment] = worn.get(pigment, 0.0) + share * weight
        return worn

    def _of_coat(self, coat: Coat, worn: dict[int, float], recorded: Sequence[Affine]) -> tuple[Affine, float]:
        """What a look takes of a coat, and how much of it; of a coat it does not wear something, and 0."""
        weights = {p: worn[p] for p in coat.pigments if worn.get(p)}
        if len(weights) < 2:
            return recorded[next(iter(weights), coat.pigments[0])], sum(weights.values())
        return mixed_norms([recorded[p] for p in weights], list(weights.values())), sum(weights.values())

    def _worn_coat(
        self, coat: Coat, styles: Sequence[Affine], shares: Sequence[float], *, mixed: bool
    ) -> WornCoat | None:
        if not any(shares):
            return None
        share = None if len(self.coats) == 1 else self._column(shares, mixed=mixed)
        weights = None
        if mixed and len(set(shares)) > 1:
            weights = to_device(torch.tensor(shares, dtype=torch.float32), self.device)
        own = isinstance(coat.painter, NetworkStylizer)  # which has one style, and looks nothing up
        return WornCoat(styles[:1] if own else styles, weights, share, mixed=mixed and not own)

    def _laid_on(self, style: Style, worn: dict[int, float]) -> tuple[tuple[float, float], float]:
        """How far a look is painted, in luma and in chroma; and whether as soft light."""
        options = self._options
        strength = options.strength if style.strength is None else style.strength
        keeps = options.keep_colors if style.keep_colors is None else style.keep_colors
        blend = style.blend or options.blend
        painted = strength * min(1.0, sum(worn.values()))
        painted = 1.0 if painted > 1 - 1e-6 else painted
        return (painted, 0.0 if keeps or blend == "luminosity" else painted), float(blend == "soft-light")

    def _rows(self, pairs: Sequence[tuple[float, float]], *, mixed: bool) -> Tensor:
        """A pair of numbers of each look, [R, 2] on the device: a row of each blend, or where not mixed of the look."""
        numbers = torch.tensor(pairs, dtype=torch.float32)
        return to_device(blend_shares(numbers) if mixed else numbers, self.device)

    def _column(self, numbers: Sequence[float], *, mixed: bool) -> Tensor:
        """A number of each look, [R]; as _rows."""
        return self._rows([(number, number) for number in numbers], mixed=mixed)[:, 0].contiguous()

    def paint(
        self, rgb: Tensor, worn: Worn, index: Tensor | None, looks: np.ndarray | None, within: Box | None = None
    ) -> Tensor:
        """Paint frames of one moment.

        Args:
            rgb: [N, 3, H, W] floating, 0..1.
            worn: what they wear.
            index: [N, H, W] int32 rows of the table of blends; None where all wear one look.
            looks: [N, h, w] int32, the small map index was made from; a coat passes only over what wears it.
            within: what of the frames is wanted; the rest is of no account.

        Returns:
            [N, 3, H, W] in the palette's precision, 0..1; of no account where nothing is painted.
        """
        painted: Tensor | None = None
        total: Tensor | None = None
        for coat, wearing, by in zip(self.coats, worn.coats, worn.looks, strict=True):
            if wearing is None:
                continue
            reach_px = self._margin_px + enlarging_px(rgb.shape[2:], coat.scale)
            box = box_of(looks, by, rgb.shape[2:], reach_px)
            box = narrowed(box, within, rgb.shape[2:], enlarging_px(rgb.shape[2:], coat.scale) + CHROMA_PX)
            image = self._one_coat(coat, wearing, rgb, index, box)
            if wearing.share is None:
                painted = image
                break
            share = looked_up(wearing.share, index)
            image = image * share.to(image.dtype)
            painted = image if painted is None else painted.add_(image)
            total = share if total is None else total + share
        if painted is None:
            return rgb.to(self.dtype)
        if total is not None:
            painted = painted / total.clamp_min(1e-3).to(painted.dtype)
        if worn.soft is not None:
            soft = looked_up(worn.soft, index).to(painted.dtype)
            painted = painted + soft * (soft_light(rgb.to(painted.dtype), painted) - painted)
        return painted

    def paint_picture(self, rgb: Tensor, look: int, recorded: Sequence[Affine] | None = None) -> Tensor:
        """A picture [1, 3, H, W] of 0..1 all in one look, by its own statistics unless they are given; float32."""
        worn = self.wear(self.record(rgb) if recorded is None else recorded, 0.0, look)
        painted = self.paint(rgb, worn, None, None).float()
        return painted if worn.shares is None else laid_over(painted, rgb, worn.shares, None)

    @property
    def _margin_px(self) -> float:
        """How far beyond its own pixels of the small map a look may reach, in pixels of the film."""
        return max(self._options.feather, *(f or 0.0 for f in self.feathers))

    def _one_coat(self, coat: Coat, wearing: WornCoat, rgb: Tensor, index: Tensor | None, box: Box | None) -> Tensor:
        """A coat's pass over the box, or over all; outside the box the picture."""
        size = working_size(rgb.shape[2:], coat.scale)
        small = shrink(rgb, size)
        rows = index
        if index is not None and small is not rgb:
            rows = F.interpolate(index[:, None].float(), size, mode="nearest-exact")[:, 0].to(torch.int32)
        affine = wearing.affine
        rows = None if affine[0][0].ndim == 1 else rows
        if box is None and isinstance(coat.painter, NetworkStylizer):
            image = coat.painter.paint(small, affine)
        elif box is None:
            assert isinstance(coat.painter, RegionStylizer)
            image = coat.painter.paint(small, affine, rows)
        else:
            box = box.scaled(rgb.shape[2:], size)
            image = paint_box(coat.painter, small, affine, rows, box)
        return image if small is rgb else enlarge(image, rgb.shape[2:])

    def forget_workspace(self) -> None:
        """Give this thread's memory for the layers back until its next frame."""
        for painter in self._nets.values():
            painter.forget_workspace()

    def shrink_bands(self) -> bool:
        """Have the networks take half as much at once; False where it is as little as pays."""
        self.forget_workspace()
        larger = [painter for painter in self._nets.values() if painter.band_px > FEWEST_BAND_PX]
        for painter in larger:
            painter.band_px = max(FEWEST_BAND_PX, painter.band_px // 2)
        return bool(larger)
