"""SAM 2 as a segmenter: ``--segmenter sam2:CHECKPOINT.pt``, with a checkpoint as its authors publish it.

Source: Ravi et al. 2024, "SAM 2: Segment Anything in Images and Videos"; PyPI ``sam2``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from streamstyle.errors import OptionError
from streamstyle.plugins import PictureSegmenter, Prompt, ids_of_masks, require

_SIZES = {"tiny": "t", "small": "s", "base_plus": "b+", "large": "l"}
_PUBLISHED = re.compile(r"(sam2(?:\.1)?)_hiera_(tiny|small|base_plus|large)")


def load(argument: str, device: str) -> PictureSegmenter:
    """The segmenter of a checkpoint.

    Raises:
        OptionError: no checkpoint, one whose name does not tell its size, or the package is missing.
    """
    if not argument:
        raise OptionError("needs a checkpoint; write sam2:/path/to/sam2.1_hiera_tiny.pt")
    checkpoint = Path(argument).expanduser()
    if not checkpoint.is_file():
        raise OptionError(f"{checkpoint}: no such file; give a checkpoint of SAM 2")
    config = config_of(checkpoint)
    require("sam2", "sam2")
    from sam2.build_sam import build_sam2

    try:
        model = build_sam2(config, str(checkpoint), device=device)
    except Exception as error:  # pickle, hydra and torch each have their own
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise OptionError(f"{checkpoint}: is not the checkpoint its name says ({reason}); fetch it again") from None
    return Sam2Segmenter(model)


def config_of(checkpoint: Path) -> str:
    """The configuration that a checkpoint was trained with, by its published name."""
    match = _PUBLISHED.search(checkpoint.name)
    if match is None:
        raise OptionError(f"{checkpoint}: its name does not tell its size; name it as published, sam2.1_hiera_tiny.pt")
    family, size = match.groups()
    return f"configs/{family}/{family}_hiera_{_SIZES[size]}.yaml"


class Sam2Segmenter:
    """SAM 2's picture model: all that there is, or the objects under points."""

    takes = ("points",)

    def __init__(self, model: Any) -> None:
        from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator
        from sam2.sam2_image_predictor import SAM2ImagePredictor

        self._everything, self._predictor = SAM2AutomaticMaskGenerator(model), SAM2ImagePredictor(model)

    def __call__(self, rgb: np.ndarray, prompts: Sequence[Prompt] = ()) -> np.ndarray:
        """Region ids, as PictureSegmenter says."""
        import torch

        size = (rgb.shape[0], rgb.shape[1])
        rgb = np.ascontiguousarray(rgb)
        with torch.inference_mode():
            if not prompts:
                return ids_of_masks((found["segmentation"] for found in self._everything.generate(rgb)), size)
            self._predictor.set_image(rgb)
            return ids_of_masks([self._mask(prompt) for prompt in prompts], size, in_order=True)

    def _mask(self, prompt: Prompt) -> np.ndarray:
        """One object [H, W] bool: of the masks SAM 2 offers for a lone point, the one it trusts most."""
        places = [*prompt.points, *prompt.not_points]
        signs = [1] * len(prompt.points) + [0] * len(prompt.not_points)
        masks, trust, _ = self._predictor.predict(
            point_coords=np.array(places, np.float32),
            point_labels=np.array(signs, np.int32),
            multimask_output=len(places) == 1,
        )
        return np.asarray(masks[int(np.argmax(trust))]) > 0
