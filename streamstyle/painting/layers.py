"""A painted film cut into layers: which there are, and how much of each pixel is of which."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from streamstyle.errors import OptionError
from streamstyle.gpu.memory import Portions
from streamstyle.gpu.transfer import to_device
from streamstyle.scene import Scene, SceneReader
from streamstyle.stages.layer_alphas import layer_alphas
from streamstyle.stages.style_map import MOST_LOOKS, Widths


class LayerCutter:
    """Makes alpha planes of what a SceneReader has read.

    Args:
        reader: knows the layers; its objects have their names already.
        widths: [K][K], of the soft border between each two layers, in the frame's pixels.
        paints: whether anything is painted.

    Attributes:
        layers: those that may be there, by number.

    Raises:
        OptionError: there is but one layer, or there are too many.
    """

    def __init__(self, reader: SceneReader, widths: Widths, *, paints: bool) -> None:
        self.layers, self._count, self._widths = reader.layers, len(reader.layer_names), widths
        if not self.layers or not paints:
            raise OptionError(
                "--layers: there is but one layer, for one style covers the whole frame; name objects with --object, "
                "or give --background and --foreground"
            )
        if self._count > MOST_LOOKS:
            raise OptionError(
                f"--layers: {self._count} layers; name at most {MOST_LOOKS - 2} objects, or merge some in a Look"
            )

    def cut(
        self, scene: Scene | None, size: tuple[int, int], portions: Portions, device: torch.device
    ) -> dict[int, Tensor]:
        """The alpha planes [N, height, width] uint8 of a batch, by layer; none of a layer that is nowhere in it.

        Cost: as ``stages.layer_alphas``; no synchronisation.
        """
        if scene is None or scene.layers is None:
            return {}
        small = scene.layers
        there = np.flatnonzero(np.bincount(small.ravel(), minlength=self._count)).tolist()

        def cut(part: slice) -> Tensor:
            on_device = to_device(torch.from_numpy(small[part]), device)
            return layer_alphas(on_device, self._count, size, self._widths, there)

        return dict(zip(there, torch.cat(portions.each(len(small), size, cut), 1), strict=True))
