import numpy as np
import pytest
from clips import data

from streamstyle.errors import InputError
from streamstyle.media.masks import MOST_OBJECTS, PALETTE, color_index, enlarge_labels, object_name, read_mask
from streamstyle.media.stills import encode_indexed_png
from streamstyle.sheets import write_png

Image = pytest.importorskip("PIL.Image")


def squares(*labels: int) -> np.ndarray:
    """A square of each label on the background, from left to right."""
    picture = np.zeros((8, 6 * len(labels)), np.uint8)
    for i, label in enumerate(labels):
        picture[2:6, 6 * i + 1 : 6 * i + 5] = label
    return picture


def saved(tmp_path, picture: np.ndarray):
    Image.fromarray(picture).save(tmp_path / "mask.png")
    return tmp_path / "mask.png"


def test_the_palette_is_that_of_davis():
    # As published with the data set: background, then the first objects.
    known = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128)]
    assert PALETTE[:7].tolist() == [list(color) for color in known]
    assert PALETTE[255].tolist() == [224, 224, 192]
    assert len(np.unique(PALETTE, axis=0)) == 256


def test_a_label_has_one_colour_for_ever():
    index = color_index(np.arange(600, dtype=np.uint16))
    assert index.dtype == np.uint8
    assert index[: MOST_OBJECTS + 1].tolist() == list(range(MOST_OBJECTS + 1))
    assert index[MOST_OBJECTS + 2] == 2
    assert 1 <= index[1:].min() <= index.max() == MOST_OBJECTS
    assert color_index(np.arange(256, dtype=np.uint8))[255] == 1


def test_a_palette_png_keeps_its_labels(tmp_path):
    labels = squares(3, 1, 200, 255)
    (tmp_path / "mask.png").write_bytes(encode_indexed_png(labels, PALETTE))
    mask = read_mask(tmp_path / "mask.png", (8, 24))
    assert np.array_equal(mask.labels, np.where(labels == 255, 0, labels))
    assert mask.labels.dtype == np.uint8
    assert mask.names == {1: "object 1", 3: "object 3", 200: object_name(200)}


@pytest.mark.parametrize("as_palette", [False, True])
def test_white_on_black_is_one_object(tmp_path, as_palette):
    path = saved(tmp_path, squares(255, 255))
    if as_palette:
        path.write_bytes(encode_indexed_png(squares(255, 255), PALETTE))
    mask = read_mask(path)
    assert np.array_equal(mask.labels, squares(1, 1))
    assert mask.names == {1: "object 1"}


def test_grey_levels_are_labels_and_white_the_lowest_that_is_free(tmp_path):
    assert np.array_equal(read_mask(saved(tmp_path, squares(2, 7))).labels, squares(2, 7))
    assert np.array_equal(read_mask(saved(tmp_path, squares(2, 7, 255))).labels, squares(2, 7, 1))
    assert np.array_equal(read_mask(saved(tmp_path, squares(1, 2, 255))).labels, squares(1, 2, 3))
    assert np.array_equal(read_mask(saved(tmp_path, squares(128, 255))).labels, squares(128, 1))


@pytest.mark.parametrize("in_colours", [False, True])
@pytest.mark.parametrize("times", [2, 4, 8])
def test_a_smooth_rim_is_cut_at_half(tmp_path, times, in_colours):
    """As a paint program draws: a disc and a ring of two pixels, smoothed."""
    size = (90 * times, 120 * times)
    large = disc(size, 40 * times, 45 * times, 20 * times) | disc(size, 90 * times, 45 * times, 12 * times)
    large &= ~disc(size, 90 * times, 45 * times, 9 * times)
    shares = large.reshape(90, times, 120, times).mean((1, 3))
    picture = np.round(255 * shares).astype(np.uint8)
    assert len(np.unique(picture)) > 3
    mask = read_mask(saved(tmp_path, np.repeat(picture[..., None], 3, 2) if in_colours else picture))
    assert np.array_equal(mask.labels, picture >= 128)
    assert mask.names == {1: "object 1"}


def test_an_object_beside_a_white_one_stays_one_in_greys_of_colours_too(tmp_path):
    greys = np.repeat(squares(128, 255)[..., None], 3, 2)
    assert np.array_equal(read_mask(saved(tmp_path, greys)).labels, squares(1, 2))


def test_a_soft_mask_is_cut_at_half(tmp_path):
    soft = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(read_mask(saved(tmp_path, soft)).labels, soft >= 128)


def test_colours_are_objects_in_raster_order(tmp_path):
    labels = squares(1, 2, 3)
    colors = np.array([(0, 0, 0), (250, 3, 3), (3, 250, 3), (1, 0, 0)], np.uint8)
    assert np.array_equal(read_mask(saved(tmp_path, colors[labels])).labels, labels)


def test_the_colours_of_davis_keep_their_labels(tmp_path):
    labels = squares(9, 2, 255)
    assert np.array_equal(read_mask(saved(tmp_path, PALETTE[labels])).labels, squares(9, 2, 0))


def test_as_many_colours_as_fit_and_one_more(tmp_path):
    colors = np.zeros((1, MOST_OBJECTS + 2, 3), np.uint8)
    colors[0, 1:, 0], colors[0, 1:, 1] = 1 + np.arange(MOST_OBJECTS + 1) % 250, 1 + np.arange(MOST_OBJECTS + 1) // 250
    assert read_mask(saved(tmp_path, colors[:, :-1])).labels.max() == MOST_OBJECTS
    with pytest.raises(InputError, match="more than 254 objects; give a PNG with one colour an object"):
        read_mask(saved(tmp_path, colors))


def test_a_mask_without_an_object_or_of_another_size_is_refused(tmp_path):
    with pytest.raises(InputError, match="no object in it"):
        read_mask(saved(tmp_path, squares(0)))
    with pytest.raises(InputError, match="is 6x8, the film 8x6; give a mask of the film's size"):
        read_mask(saved(tmp_path, squares(1)), (6, 8))


def test_a_picture_of_ours_is_read(tmp_path):
    write_png(tmp_path / "mask.png", PALETTE[squares(1, 2)])
    assert np.array_equal(read_mask(tmp_path / "mask.png").labels, squares(1, 2))


def test_a_mask_of_davis_is_read():
    mask = read_mask(data("vos/davis2016/Annotations/480p/blackswan/00000.png"), (480, 854))
    assert mask.names == {1: "object 1"}
    assert 0.02 < (mask.labels == 1).mean() < 0.5


# -- enlarging --------------------------------------------------------------------------------------------------------


def disc(size: tuple[int, int], x: float, y: float, radius: float) -> np.ndarray:
    """A disc in pixels of a 480 x 640 frame, seen at another size."""
    rows, columns = ((np.arange(side) + 0.5) * whole / side for side, whole in zip(size, (480, 640), strict=True))
    return (rows[:, None] - y) ** 2 + (columns[None] - x) ** 2 < radius**2


@pytest.mark.parametrize("small", [(240, 320), (180, 241), (97, 131), (480, 640)])
def test_enlarged_discs_are_the_discs_in_their_place(small):
    labels = np.zeros(small, np.uint16)
    large = np.zeros((480, 640), np.uint16)
    for label, (x, y, radius) in {1: (150, 100, 80), 300: (500, 380, 120), 7: (380, 300, 60)}.items():
        labels[disc(small, x, y, radius)] = label
        large[disc((480, 640), x, y, radius)] = label
    seen = enlarge_labels(labels, (480, 640))
    assert seen.dtype == labels.dtype
    assert np.unique(seen).tolist() == [0, 1, 7, 300]
    nearest = labels[np.ix_(np.arange(480) * small[0] // 480, np.arange(640) * small[1] // 640)]
    wrong, wrong_nearest = (int((guess != large).sum()) for guess in (seen, nearest))
    assert wrong <= 0.75 * wrong_nearest
    for label in (1, 7, 300):
        both = ((seen == label) & (large == label)).sum()
        assert both / ((seen == label) | (large == label)).sum() > 0.96


@pytest.mark.parametrize("fill", [0, 3])
def test_a_frame_of_one_label_stays_so(fill):
    assert (enlarge_labels(np.full((5, 9), fill, np.uint8), (48, 64)) == fill).all()


def test_objects_at_the_border_reach_it():
    labels = np.zeros((24, 32), np.uint8)
    labels[:, :4], labels[-3:, 10:] = 1, 2
    seen = enlarge_labels(labels, (240, 320))
    assert (seen[:200, 0] == 1).all()
    assert (seen[-1, 120:] == 2).all()


def test_permuted_labels_make_permuted_masks():
    labels = np.random.default_rng(0).integers(0, 4, (12, 16), np.uint8).repeat(4, 0).repeat(4, 1)
    table = np.array([0, 9, 5, 7], np.uint8)
    assert (
        table[enlarge_labels(labels, (150, 200))] == enlarge_labels(table[labels], (150, 200))
    ).mean() > 0.99  # but for ties


def test_a_jpeg_is_refused_for_its_smeared_colours(tmp_path):
    path = tmp_path / "mask.JPG"
    path.write_bytes(b"whatever it holds")
    with pytest.raises(InputError, match=r"smears colours.*save the mask as \.png"):
        read_mask(path)
