import io

import numpy as np
import pytest

from streamstyle.errors import InputError, ShapeError
from streamstyle.media.stills import encode_indexed_png, read_still

Image = pytest.importorskip("PIL.Image")  # an independent reader; scikit-image brings it
PALETTE = np.random.default_rng(1).integers(0, 256, (256, 3), np.uint8)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (48, 64), (37, 1)])
def test_an_indexed_png_keeps_its_numbers_and_colours(tmp_path, size):
    numbers = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    data = encode_indexed_png(numbers, PALETTE)
    seen = Image.open(io.BytesIO(data))
    assert seen.mode == "P"
    assert np.array_equal(np.array(seen), numbers)
    assert np.array_equal(np.array(seen.convert("RGB")), PALETTE[numbers])
    (tmp_path / "a%05d.png").write_bytes(data)
    still = read_still(tmp_path / "a%05d.png")
    assert still.kind == "palette"
    assert np.array_equal(still.pixels, numbers)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palettes_of_few_bits_keep_their_numbers(tmp_path, bits):
    numbers = np.random.default_rng(0).integers(0, 2**bits, (7, 9), np.uint8)
    picture = Image.fromarray(numbers).convert("P")
    picture.putpalette(PALETTE.tobytes())
    picture.save(tmp_path / "a.png", bits=bits)
    still = read_still(tmp_path / "a.png")
    assert still.kind == "palette"
    assert np.array_equal(still.pixels, numbers)


def test_grey_pictures_keep_their_levels(tmp_path):
    levels = np.random.default_rng(0).integers(0, 256, (6, 8), np.uint8)
    Image.fromarray(levels).save(tmp_path / "8.png")
    Image.fromarray(levels.astype(np.uint16)).save(tmp_path / "16.png")
    Image.fromarray(levels > 99).save(tmp_path / "1.png")
    for name, expected in (("8.png", levels), ("16.png", levels), ("1.png", (levels > 99) * np.uint8(255))):
        still = read_still(tmp_path / name)
        assert still.kind == "grey"
        assert np.array_equal(still.pixels, expected)


def test_what_is_transparent_is_black(tmp_path):
    rgba = np.full((2, 3, 4), 200, np.uint8)
    rgba[0, :, 3] = 0
    Image.fromarray(rgba).save(tmp_path / "a.png")
    still = read_still(tmp_path / "a.png")
    assert still.kind == "rgb"
    assert still.pixels[:, 0].tolist() == [[0, 0, 0], [200, 200, 200]]


@pytest.mark.parametrize("content", [b"", b"a shopping list\n" * 9, b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(InputError, match="not a picture that can be read") as error:
        read_still(tmp_path / "a.png")
    assert "\n" not in str(error.value)


def test_missing_files_folders_and_wide_numbers_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_still(tmp_path / "gone.png")
    with pytest.raises(InputError, match="is a folder"):
        read_still(tmp_path)
    Image.fromarray(np.full((2, 2), 256, np.uint16)).save(tmp_path / "wide.png")
    with pytest.raises(InputError, match="above 255"):
        read_still(tmp_path / "wide.png")


@pytest.mark.parametrize("numbers", [np.zeros((2, 2), np.int32), np.zeros((1, 2, 2), np.uint8)])
def test_only_bytes_of_one_picture_are_written(numbers):
    with pytest.raises(ShapeError):
        encode_indexed_png(numbers, PALETTE)
