"""Painting small and enlarging."""

import pytest
import torch

from streamstyle.stages.strokes import REFERENCE_PX, enlarge, shrink, working_size


@pytest.mark.parametrize(
    ("size", "scale", "expected"),
    [
        ((480, 854), 1, (480, 854)),
        ((240, 320), 1, (240, 320)),
        ((1080, 1920), 1, (480, 853)),
        ((2160, 3840), 1, (480, 853)),
        ((1920, 1080), 1, (853, 480)),
        ((1080, 1920), 0.5, (960, 1707)),
        ((480, 854), 2, (240, 427)),
        ((240, 320), 0.5, (480, 640)),
        ((240, 320), 0.1, (960, 1280)),  # never more than four times
        ((64, 64), 10, (16, 16)),  # never less than 16 px
        ((484, 860), 1, (484, 860)),  # nearly: as it is
    ],
)
def test_the_size_that_is_painted(size, scale, expected):
    assert working_size(size, scale) == expected


def test_strokes_are_the_same_part_of_any_large_picture():
    for lines in (REFERENCE_PX, 720, 1080, 2160):
        assert working_size((lines, lines * 16 // 9), 1)[0] == REFERENCE_PX


def test_shrinking_takes_means_and_enlarging_keeps_the_range(device):
    rgb = torch.rand(2, 3, 64, 96, device=device)
    small = shrink(rgb, (32, 48))
    if device.type == "cpu":
        torch.testing.assert_close(small, torch.nn.functional.avg_pool2d(rgb, 2), atol=1e-5, rtol=0)
    assert shrink(rgb, (64, 96)) is rgb
    image = (torch.rand(2, 3, 32, 48, device=device) > 0.5).bfloat16()
    large = enlarge(image, (64, 96))
    assert large.shape == (2, 3, 64, 96)
    assert large.dtype == torch.bfloat16
    assert large.device == image.device
    assert large.is_contiguous(memory_format=torch.channels_last)
    assert 0 <= large.min() < 0.01
    assert 0.99 < large.max() <= 1
    assert enlarge(image, (32, 48)) is image


def test_a_flat_picture_stays_flat():
    flat = torch.full((1, 3, 90, 160), 0.25)
    small = shrink(flat, (37, 61))
    torch.testing.assert_close(small, torch.full((1, 3, 37, 61), 0.25))
    torch.testing.assert_close(enlarge(small, (90, 160)), flat)


def test_a_painting_larger_than_the_film_is_averaged():
    stripes = torch.zeros(1, 3, 64, 64)
    stripes[..., ::4] = 1
    torch.testing.assert_close(enlarge(stripes, (16, 16)), torch.full((1, 3, 16, 16), 0.25))
