import numpy as np
import pytest
import torch

from streamstyle.frames import ColorTags, Frame
from streamstyle.media.masks import PALETTE, color_index
from streamstyle.stages.color import yuv_to_rgb
from streamstyle.tracks.drawing import ObjectPainter

COLOR = ColorTags("bt709", full_range=True)


def frame(size: tuple[int, int], halved: bool = True) -> Frame:
    rng = np.random.default_rng(0)
    chroma = tuple((side + 1) // 2 for side in size) if halved else size
    y, u, v = (rng.integers(16, 236, shape, np.uint8) for shape in (size, chroma, chroma))
    return Frame(y, u, v, 7)


def square(size: tuple[int, int], label: int = 1) -> np.ndarray:
    labels = np.zeros(size, np.int32)
    labels[20:100, 30:130] = label
    return labels


@pytest.mark.parametrize("size", [(120, 160), (121, 161)])
@pytest.mark.parametrize("halved", [True, False])
def test_what_is_no_object_stays_as_it_is(size, halved):
    before, labels = frame(size, halved), square(size)
    after = ObjectPainter(COLOR, {1: "swan"}).draw(before, labels)
    assert after.pts == 7
    step = 2 if halved else 1
    for old, new, shown in zip(
        (before.y, before.u, before.v),
        (after.y, after.u, after.v),
        (labels, labels[::step, ::step], labels[::step, ::step]),
        strict=True,
    ):
        assert new.shape == old.shape
        assert new.dtype == np.uint8
        assert np.array_equal(new[shown == 0], old[shown == 0])
        assert (new[shown > 0] != old[shown > 0]).mean() > 0.5


@pytest.mark.parametrize("label", [1, 2, 5, 255, 300])
def test_an_object_has_its_labels_colour(label):
    size = (120, 160)
    black = Frame(np.zeros(size, np.uint8), *(np.full((60, 80), 128, np.uint8) for _ in "uv"), 0)
    after = ObjectPainter(COLOR, {}).draw(black, square(size, label))
    planes = tuple(torch.from_numpy(plane)[None] for plane in (after.y, after.u, after.v))
    rgb = (yuv_to_rgb(planes, COLOR)[0].permute(1, 2, 0) * 255).numpy()
    assert np.abs(rgb[30, 40] - PALETTE[color_index(np.array(label))] / 2.0).max() < 4


def test_objects_are_outlined_inside_and_named():
    labels = square((120, 160))
    grey = Frame(np.full((120, 160), 90, np.uint8), *(np.full((60, 80), 128, np.uint8) for _ in "uv"), 0)
    named = ObjectPainter(COLOR, {1: "swan"}).draw(grey, labels)
    numbered = ObjectPainter(COLOR, {}).draw(grey, labels)
    assert (named.y[20, 30:130] == 255).all()
    assert (named.y[19, 30:130] == 90).all()
    assert (named.y == 0).sum() > (numbered.y == 0).sum() > 0  # a longer word has more halo


def test_a_speck_is_tinted_but_not_named():
    labels = np.zeros((120, 160), np.uint8)
    labels[50:53, 50:53] = 1
    before = frame((120, 160))
    after = ObjectPainter(COLOR, {1: "swan"}).draw(before, labels)
    assert np.array_equal(after.y[labels == 0], before.y[labels == 0])


def test_a_colour_does_not_change_when_others_come():
    size = (120, 160)
    alone, both = square(size, 4), square(size, 4)
    both[105:118, :] = 9
    painter = ObjectPainter(COLOR, {})
    first, second = (painter.draw(frame(size), labels) for labels in (alone, both))
    assert np.array_equal(first.y[20:100], second.y[20:100])


def test_nothing_is_drawn_where_nothing_is():
    before = frame((12, 16))
    after = ObjectPainter(COLOR, {}).draw(before, np.zeros((12, 16), np.uint8))
    assert np.array_equal(after.y, before.y)
