"""Soft borders along the motion: what is the same, what is not, and that OpenCV and torch agree."""

from __future__ import annotations

import pytest
import torch

from streamstyle.errors import ShapeError
from streamstyle.stages.calm_border import border_held, soft_bits

SIZE = (48, 64)
NOWHERE = torch.zeros(*SIZE, 2)


def halves(at: int, size: tuple[int, int] = SIZE) -> torch.Tensor:
    """Looks 0, and 1 from a column on."""
    looks = torch.zeros(size, dtype=torch.int32)
    looks[:, at:] = 1
    return looks


def moved(px: float) -> torch.Tensor:
    flow = torch.zeros(*SIZE, 2)
    flow[..., 0] = px
    return flow


@pytest.mark.parametrize("count", [1, 2, 3, 5, 32])
@pytest.mark.parametrize("feather_px", [0, 3, 20])
@pytest.mark.parametrize("size", [SIZE, (24, 33), (64, 85)])
def test_opencv_and_torch_agree_on_bits(count, feather_px, size):
    looks = torch.randint(0, 3 * count, size, dtype=torch.int32)
    one, other = (soft_bits(looks, count, SIZE, feather_px, impl=impl) for impl in ("auto", "ref"))
    assert one.shape == other.shape == ((count - 1).bit_length(), *SIZE)
    assert torch.allclose(one, other, atol=1e-5)


def test_any_two_looks_are_told_from_each_other():
    whole = [soft_bits(torch.full(SIZE, look, dtype=torch.int32), 32, SIZE, 3) for look in range(32)]
    for k, one in enumerate(whole):
        for other in whole[:k]:
            assert (one - other).abs().amax(0).min() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("widths", [(3.0, 3.0), (12.0, 3.0), (3.0, 0.0)])
@pytest.mark.parametrize("looks", [2, 4])
def test_opencv_and_torch_hold_the_same(widths, looks):
    generator = torch.Generator().manual_seed(1)
    flow = torch.rand(*SIZE, 2, generator=generator) * 4 - 2
    now, before = (soft_bits(looks // 2 * halves(at), looks, SIZE, widths[0]) for at in (30, 31))
    one, other = (border_held(flow, now, before, *widths, impl=impl) for impl in ("auto", "ref"))
    assert torch.allclose(one[1], other[1], atol=0.02)  # OpenCV reads at 1/32 px
    off = (one[0] - other[0]).abs()
    assert (off > 0.3).float().mean() < 0.02
    assert 0.3 < one[0].mean() < 1


def test_a_border_that_goes_along_is_held_and_one_that_does_not_is_painted_anew():
    before, now = (soft_bits(halves(at), 2, SIZE, 3) for at in (32, 30))
    along, there = border_held(moved(2), now, before, 3, 3)
    assert along[:, 4:-4].min() == 1
    assert torch.allclose(there[:, :, 4:-4], now[:, :, 4:-4], atol=1e-5)
    left, _ = border_held(NOWHERE, now, before, 3, 3)
    assert left[:, 29:33].max() == 0
    assert left[:, :24].min() == left[:, 40:].min() == 1


def test_a_narrow_border_among_wide_ones_may_be_off_by_less():
    before, now = (soft_bits(halves(at), 2, SIZE, 12) for at in (32, 31))
    wide, narrow = (border_held(moved(0.8), now, before, 12, px)[0] for px in (12, 2))
    assert wide.min() == 1
    assert narrow.min() < 1


def test_at_a_hard_border_nothing_is_held():
    bits = soft_bits(halves(32), 2, SIZE, 0)
    held, _ = border_held(NOWHERE, bits, bits, 0, 0)
    assert held[:, 29:35].max() == 0
    assert held[:, :28].min() == held[:, 36:].min() == 1


def test_one_look_has_no_border():
    bits = soft_bits(halves(32), 1, SIZE, 6)
    held, there = border_held(moved(3), bits, bits, 6, 6)
    assert there.shape == (0, *SIZE)
    assert held.min() == 1


def test_what_does_not_fit_is_refused():
    with pytest.raises(ShapeError, match="int32"):
        soft_bits(torch.zeros(SIZE), 2, SIZE, 6)
    with pytest.raises(ShapeError, match="bits"):
        border_held(NOWHERE, torch.zeros(1, *SIZE), torch.zeros(2, *SIZE), 6, 6)
