"""How paint is laid on a picture, where it is not laid over it whole: see ``stages.composite`` for what comes after.

Numbers of a look, such as its strength, are looked up by each pixel's row of the table of blends; see
``stages.blends``.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from streamstyle.stages.color import LUMA_WEIGHTS


def looked_up(numbers: Tensor, index: Tensor | None) -> Tensor:
    """A number [R] of each pixel's row, [N, 1, H, W]; or of row 0, [1, 1, 1, 1]."""
    if index is None:
        return numbers[:1].view(1, 1, 1, 1)
    return F.embedding(index, numbers[:, None]).permute(0, 3, 1, 2)


def soft_light(picture: Tensor, paint: Tensor) -> Tensor:
    """Paint laid on a picture as soft light (Pegtop's formula): grey 0.5 changes nothing. Both 0..1."""
    return (1 - 2 * paint) * picture * picture + 2 * paint * picture


def laid_over(painted: Tensor, rgb: Tensor, shares: Tensor, index: Tensor | None) -> Tensor:
    """A painting laid over the picture, both [N, 3, H, W] of 0..1, by shares [R, 2] of luma and of chroma."""
    luma, chroma = (looked_up(shares[:, part].contiguous(), index) for part in (0, 1))
    change = painted.clamp(0, 1) - rgb
    red, blue = LUMA_WEIGHTS["bt709"]
    weights = change.new_tensor((red, 1 - red - blue, blue)).view(1, 3, 1, 1)
    lighter = (change * weights).sum(1, keepdim=True)
    return (rgb + luma * lighter + chroma * (change - lighter)).clamp_(0, 1)
