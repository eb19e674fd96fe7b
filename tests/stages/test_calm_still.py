"""What stands still: noise does, drift does not, and what is even goes along with what is around it."""

from __future__ import annotations

import pytest
import torch

from streamstyle.errors import ShapeError
from streamstyle.stages.calm import carried_along, near
from streamstyle.stages.calm_still import held, slower, standing, still_mask

SMALL = (48, 64)
INNER = slice(18, 30), slice(24, 36)
"""Of the picture, a place narrow enough to be in doubt."""


def smooth(seed: int = 0) -> torch.Tensor:
    """A random picture without detail finer than some pixels, uint8 [48, 64]."""
    coarse = torch.rand(1, 1, SMALL[0] // 8, SMALL[1] // 8, generator=torch.Generator().manual_seed(seed))
    return (torch.nn.functional.interpolate(coarse, size=SMALL, mode="bicubic")[0, 0] * 200).clamp(0, 255).byte()


def island() -> torch.Tensor:
    """Only the inner place stands."""
    still = torch.zeros(SMALL, dtype=torch.bool)
    still[INNER] = True
    return still


def motion(across: float) -> torch.Tensor:
    return torch.tensor([across, 0.0]).expand(*SMALL, 2).contiguous()


def test_noise_is_still_and_drift_is_not():
    luma = smooth() // 2 + 20
    noisy = luma + (torch.arange(luma.numel()).reshape(SMALL) % 2).to(torch.uint8)
    assert still_mask(noisy, luma, luma).all()
    assert not still_mask(luma + 3, luma + 2, luma).any()
    assert not still_mask(luma + 2, luma, luma).any()


@pytest.mark.parametrize("impl", ["auto", "ref"])
def test_what_is_even_amid_what_moves_goes_along(impl):
    luma = torch.full(SMALL, 200, dtype=torch.uint8)
    assert not standing(island(), motion(3), luma, luma, impl=impl).any()
    assert torch.equal(standing(island(), motion(0.5), luma, luma, impl=impl), island())


@pytest.mark.parametrize("impl", ["auto", "ref"])
def test_what_can_be_seen_to_stand_stands(impl):
    """A motion that was found there leads to something else."""
    luma = ((torch.arange(SMALL[1]) // 3 % 2) * 120).to(torch.uint8).expand(SMALL).contiguous()
    assert torch.equal(standing(island(), motion(3), luma, luma, impl=impl), island())


@pytest.mark.parametrize("impl", ["auto", "ref"])
@pytest.mark.parametrize("faint", [1, 2, 3])
def test_what_stands_to_the_bit_is_not_let_go_though_its_texture_is_faint(impl, faint):
    """A motion that was found there accounts for the luma within some levels, but standing does to the bit."""
    generator = torch.Generator().manual_seed(0)
    luma = (200 + torch.randint(-faint, faint + 1, SMALL, generator=generator)).to(torch.uint8)
    assert torch.equal(standing(island(), motion(3), luma, luma, impl=impl), island())


@pytest.mark.parametrize("impl", ["auto", "ref"])
def test_noise_does_not_keep_what_is_even_from_going_along(impl):
    generator = torch.Generator().manual_seed(0)
    luma, previous = (200 + (torch.rand(2, *SMALL, generator=generator) > 0.5)).to(torch.uint8)
    assert not standing(island(), motion(3), luma, previous, impl=impl).any()


@pytest.mark.parametrize("impl", ["auto", "ref"])
def test_what_is_wide_stands_though_it_is_even(impl):
    luma = torch.full(SMALL, 200, dtype=torch.uint8)
    still = torch.zeros(SMALL, dtype=torch.bool)
    still[:, 20:] = True
    assert torch.equal(standing(still, motion(3), luma, luma, impl=impl), still)


def test_opencv_and_torch_let_the_same_stand():
    generator = torch.Generator().manual_seed(1)
    still = ~near(torch.rand(SMALL, generator=generator) > 0.98, 1)
    flow = carried_along(torch.rand(*SMALL, 2, generator=generator) * 4, motion(1))
    luma = smooth() // 16 + 100  # so even that motions account for most of it
    one, other = (standing(still, flow, luma, luma.roll(-1, 1), impl=impl) for impl in ("auto", "ref"))
    assert (one != other).float().mean() < 0.01
    assert 0 < one.sum() < 0.9 * still.sum()


def test_opencv_and_torch_find_the_same_still_and_hold_it():
    generator = torch.Generator().manual_seed(2)
    luma, previous, shown = (200 + torch.rand(3, *SMALL, generator=generator) * 3).to(torch.uint8)
    one, other = (still_mask(luma, previous, shown, impl=impl) for impl in ("auto", "ref"))
    assert torch.equal(one, other)
    assert 0.1 < one.float().mean() < 0.9
    flow = torch.rand(*SMALL, 2, generator=generator) * 4 - 2
    assert torch.equal(slower(flow, 1.0), slower(flow, 1.0, impl="ref"))
    kept = flow.clone()
    assert torch.equal(held(flow, one), held(flow, one, impl="ref"))
    assert torch.equal(held(flow, one), flow.masked_fill(one[..., None], 0))
    assert torch.equal(flow, kept)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ShapeError, match="uint8"):
        still_mask(torch.zeros(SMALL), torch.zeros(SMALL), torch.zeros(SMALL))
