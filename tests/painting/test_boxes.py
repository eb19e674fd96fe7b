"""Where a look can be, and that a part of a frame is painted as the whole is."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from streamstyle.painting.boxes import BOX_STEP_PX, Box, box_of, paint_box
from streamstyle.stages.strokes import working_size


class Blur:
    """A painter that sees 6 px far and mirrors the frame's edge: each pixel is a mean, where it is in the index."""

    dtype, band_px, halo_px = torch.float32, 1 << 20, 6

    def paint(self, rgb, styles, index=None):
        (scale, _), *_ = styles
        blurred = F.avg_pool2d(F.pad(rgb, (6,) * 4, mode="reflect"), 13, stride=1)
        return blurred * (scale if index is None else scale[index.long()][:, None])


@pytest.mark.parametrize(
    "box", [(32, 32, 64, 96), (0, 0, 32, 64), (64, 96, 101, 133), (0, 64, 101, 96), (0, 0, 101, 133)]
)
def test_a_box_is_painted_as_the_whole_is(box):
    rgb, index = torch.rand(2, 3, 101, 133), torch.randint(0, 4, (2, 101, 133), dtype=torch.int32)
    for styles, rows in ((((torch.tensor(0.5), torch.tensor(0.0)),), None), (((torch.rand(4), torch.rand(4)),), index)):
        whole = Blur().paint(rgb, styles, rows)
        part = paint_box(Blur(), rgb, styles, rows, Box(*box))
        top, left, bottom, right = box
        inside = torch.zeros(101, 133, dtype=torch.bool)
        inside[top:bottom, left:right] = True
        torch.testing.assert_close(part[..., inside], whole[..., inside])
        assert torch.equal(part[..., ~inside], rgb[..., ~inside])


def test_nothing_is_painted_of_an_empty_box():
    rgb = torch.rand(1, 3, 40, 40)
    assert torch.equal(paint_box(Blur(), rgb, ((torch.tensor(0.5),) * 2,), None, Box(0, 0, 0, 0)), rgb)


def test_a_box_holds_all_a_look_can_reach():
    looks = np.zeros((2, 60, 80), np.int32)
    looks[0, 20:25, 30:40] = 2
    looks[1, 22, 41] = 3
    box = box_of(looks, frozenset({2, 3}), (240, 320), 10)
    assert box is not None
    assert box.top <= 20 * 4 - 10 < 25 * 4 + 10 <= box.bottom
    assert box.left <= 30 * 4 - 10 < 42 * 4 + 10 <= box.right
    assert all(side % BOX_STEP_PX == 0 for side in (box.top, box.left, box.right))
    assert box_of(looks, frozenset({0}), (240, 320), 10) is None  # nearly all
    assert box_of(looks, frozenset({7}), (240, 320), 10) == Box(0, 0, 0, 0)
    assert box_of(None, frozenset({0}), (240, 320), 10) is None


def test_a_box_on_a_smaller_frame_covers_it():
    assert Box(32, 64, 65, 97).scaled((100, 200), (50, 50)) == Box(16, 16, 33, 25)


@pytest.mark.parametrize("height", [481, 680, 858, 1080, 1634, 2160, 4319])
def test_a_box_never_leaves_a_smaller_frame(height):
    size = working_size((height, 2 * height), 1)
    box = Box(height - 31, 2 * height - 33, height, 2 * height).scaled((height, 2 * height), size)
    assert box.bottom == size[0]
    assert box.right == size[1]
    assert box.top * height / size[0] <= height - 31
