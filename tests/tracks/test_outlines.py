import cv2
import numpy as np
import pytest

from streamstyle.frames import Frame
from streamstyle.media.masks import enlarge_labels
from streamstyle.tracks.outlines import enlarged_along_colors
from tests.oracles import iou

SIZE, SMALL = (240, 320), (60, 80)


def disc(x: float, y: float, radius: float, size: tuple[int, int] = SIZE) -> np.ndarray:
    rows, columns = np.indices(size) + 0.5
    return (rows - y) ** 2 + (columns - x) ** 2 < radius**2


def frame_of(luma: np.ndarray, *, subsampled: bool = True) -> Frame:
    height, width = luma.shape
    shape = ((height + 1) // 2, (width + 1) // 2) if subsampled else (height, width)
    grey = np.full(shape, 128, np.uint8)
    return Frame(luma.astype(np.uint8), grey, grey.copy(), 0)


def shrunk(mask: np.ndarray, size: tuple[int, int] = SMALL) -> np.ndarray:
    return cv2.resize(mask.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA) >= 0.5


def noisy(seed: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 3, size)


@pytest.mark.parametrize("moved_px", [-2, 2])
@pytest.mark.parametrize("subsampled", [True, False])
def test_an_outline_that_is_off_goes_to_the_colours(moved_px, subsampled):
    true = disc(160, 120, 60)
    frame = frame_of(np.where(true, 180, 90) + noisy(), subsampled=subsampled)
    labels = shrunk(disc(160, 120, 60 + moved_px)).astype(np.int32)
    seen, plain = enlarged_along_colors(labels, frame) == 1, enlarge_labels(labels, SIZE) == 1
    assert (seen != true).sum() < 0.75 * (plain != true).sum()


def test_what_is_told_by_chroma_alone_is_followed():
    true = disc(160, 120, 60)
    grey = frame_of(np.full(SIZE, 120))
    u = np.where(true[::2, ::2], 160, 100).astype(np.uint8)
    labels = shrunk(disc(160, 120, 62)).astype(np.int32)
    seen = enlarged_along_colors(labels, Frame(grey.y, u, grey.v, 0)) == 1
    assert (seen != true).sum() < 0.85 * ((enlarge_labels(labels, SIZE) == 1) != true).sum()


def test_it_moves_no_farther_than_a_pixel_of_the_small_map():
    labels = shrunk(disc(160, 120, 60)).astype(np.int32)
    frame = frame_of(np.where(disc(160, 120, 90), 180, 90))  # an edge far outside
    seen = enlarged_along_colors(labels, frame) == 1
    side = np.ones((3, 3), np.uint8)
    most, least = (cv2.dilate(labels.astype(np.uint8), side), cv2.erode(labels.astype(np.uint8), side))
    widest, narrowest = (cv2.resize(part, SIZE[::-1], interpolation=cv2.INTER_NEAREST) > 0 for part in (most, least))
    assert not (seen & ~widest).any()
    assert (seen | ~narrowest).all()


def test_where_colours_say_nothing_outlines_stay_as_they_are():
    labels = shrunk(disc(160, 120, 60)).astype(np.int32)
    seen = enlarged_along_colors(labels, frame_of(np.full(SIZE, 100)))
    assert iou(seen == 1, enlarge_labels(labels, SIZE) == 1) > 0.98


def test_two_that_touch_leave_no_gap():
    labels = np.ones(SMALL, np.int32)
    labels[:, 40:] = 7
    seen = enlarged_along_colors(labels, frame_of(100 + noisy() * 5))
    assert set(np.unique(seen)) == {1, 7}
    true = np.zeros(SIZE, bool)
    true[:, 160:] = True
    assert ((seen == 7) == true).mean() > 0.98


def test_numbers_do_not_matter():
    labels = shrunk(disc(100, 100, 50)).astype(np.int32) + 2 * shrunk(disc(230, 150, 40)).astype(np.int32)
    frame = frame_of(np.where(disc(100, 100, 48) | disc(230, 150, 42), 170, 80) + noisy(1))
    table = np.array([0, 300, 5], np.int32)
    seen = enlarged_along_colors(labels, frame)
    assert (table[seen] == enlarged_along_colors(table[labels], frame)).all()
    assert seen.dtype == labels.dtype


@pytest.mark.parametrize("size", [(241, 319), (61, 80), (480, 36)])
def test_any_size_and_nobody(size):
    labels = np.zeros(SMALL, np.int32)
    frame = frame_of(np.full(size, 90) + noisy(2, size))
    assert not enlarged_along_colors(labels, frame).any()
    labels[10:40, 20:60] = 3
    seen = enlarged_along_colors(labels, frame)
    assert seen.shape == size
    assert iou(seen == 3, enlarge_labels(labels, size) == 3) > 0.85


def test_labels_of_the_frames_size_are_given_back():
    labels = np.random.default_rng(0).integers(0, 3, SIZE).astype(np.int32)
    assert (enlarged_along_colors(labels, frame_of(np.full(SIZE, 90))) == labels).all()


def test_one_that_is_everywhere_or_nearly_so():
    labels, frame = np.full(SMALL, 4, np.int32), frame_of(100 + noisy())
    assert (enlarged_along_colors(labels, frame) == 4).all()
    labels[0, 0] = 0
    assert (enlarged_along_colors(labels, frame) == 4).mean() > 0.999


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 700), (3, 500)])
def test_tiny_frames_are_no_fault(size):
    labels = np.zeros(SMALL, np.int32)
    labels[10:40, 20:60], labels[50, 70] = 1, 2
    assert enlarged_along_colors(labels, frame_of(np.full(size, 90))).shape == size


def test_what_is_thinner_than_a_pixel_at_the_frames_size_is_no_fault():
    labels = np.zeros((480, 640), np.int32)
    labels[100, 50:500] = 1
    assert enlarged_along_colors(labels, frame_of(np.full((48, 64), 90))).shape == (48, 64)


@pytest.mark.parametrize("contrast", [0, 3, 8, 20])
@pytest.mark.parametrize("what", ["bar of 2", "disc of 2"])
def test_what_is_thin_stays_where_it_hardly_differs(contrast, what):
    labels = np.zeros((120, 213), np.int32)
    if what == "bar of 2":
        labels[60:62, 20:190] = 1
    else:
        labels[disc(100, 60, 2.2, labels.shape)] = 1
    shown = cv2.resize(labels.astype(np.uint8), (960, 540), interpolation=cv2.INTER_NEAREST)
    frame = frame_of(100 + contrast * shown + noisy(3, (540, 960)))
    seen, plain = enlarged_along_colors(labels, frame), enlarge_labels(labels, (540, 960))
    assert seen.sum() == pytest.approx(plain.sum(), rel=0.15)


def test_what_rests_stays_the_same_whatever_moves_elsewhere():
    labels = shrunk(disc(100, 100, 50)).astype(np.int32)
    frame = frame_of(np.where(disc(100, 100, 48), 170, 80) + noisy(1))
    seen = enlarged_along_colors(labels, frame)
    for column in (70, 71, 72):
        more = labels.copy()
        more[55, column] = 1
        near = np.s_[:200, :260]
        assert (enlarged_along_colors(more, frame)[near] == seen[near]).all()
