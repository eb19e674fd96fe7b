"""Alpha planes of layers: whose share is whose, and that the shares of a pixel are a whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import Implementation

from streamstyle.errors import ShapeError
from streamstyle.stages.layer_alphas import OPAQUE, layer_alphas


def maps(count: int, frames: int = 2) -> torch.Tensor:
    """Random blocks of layers, [N, 24, 32] int32."""
    blocks = np.random.default_rng(count).integers(0, count, (frames, 6, 8))
    return torch.from_numpy(np.kron(blocks, np.ones((4, 4), np.int64)).astype(np.int32))


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("feather_px", [0.0, 6.0, 40.0])
def test_they_sum_to_a_whole(way: Implementation, count: int, feather_px: float) -> None:
    layers = maps(count).to(way.device)
    alphas = layer_alphas(layers, count, (90, 121), feather_px, impl=way.impl)
    assert (alphas.shape, alphas.dtype) == ((count, 2, 90, 121), torch.uint8)
    assert bool((alphas.sum(0, dtype=torch.int64) == OPAQUE).all())
    assert feather_px > 0 or set(alphas.unique().tolist()) <= {0, OPAQUE}


def test_inside_a_layer_all_is_its_own(way: Implementation) -> None:
    layers = torch.zeros(1, 20, 20, dtype=torch.int32, device=way.device)
    layers[:, :, 10:] = 2
    background, nobody, thing = layer_alphas(layers, 3, (40, 40), 4.0, impl=way.impl)[:, 0].cpu()
    assert not nobody.any()
    assert (background[:, :12] == OPAQUE).all()
    assert (thing[:, 28:] == OPAQUE).all()
    assert len(thing[20].unique()) > 4  # a soft border


def test_only_the_planes_that_are_wanted() -> None:
    layers = maps(4)
    every, some = layer_alphas(layers, 4, (48, 64), 5.0), layer_alphas(layers, 4, (48, 64), 5.0, [3, 1])
    assert torch.equal(some, every[[3, 1]])
    assert layer_alphas(layers, 4, (48, 64), 5.0, []).shape == (0, 2, 48, 64)


def test_a_layer_that_is_none_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"layers are 0 \.\. 1, got \[2\]"):
        layer_alphas(maps(2), 2, (8, 8), 0.0, [2])
