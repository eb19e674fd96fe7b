"""Odd pictures, each made here: shown as they should be, or refused in one line that names the file and the mend."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from clips import make_clip
from PIL import Image, ImageCms, ImageOps

from streamstyle.errors import InputError
from streamstyle.media.paintings import LARGEST_PX, LEAST_PX, LONG_SIDE_PX, is_picture, paintings_in, read_painting


def smooth(height: int = 48, width: int = 64) -> np.ndarray:
    """[H, W, 3] uint8 without fine detail, so that JPEG and shrinking leave it as it is; no symmetry."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    return np.stack([255 * x, 255 * y, 200 - 150 * x * y - 50 * y], axis=2).clip(0, 255).astype(np.uint8)


def saved(path: Path, pixels: np.ndarray, **options: object) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def apart(found: np.ndarray, expected: np.ndarray) -> float:
    assert found.shape == expected.shape
    assert found.dtype == np.uint8
    return float(np.abs(found.astype(int) - expected).max())


@pytest.mark.parametrize(
    "name", ["a.png", "a.bmp", "a.tif", "a.gif", "a.ppm", "a%05d.png", "a.jpg", "a.webp", "a.avif"]
)
def test_every_kind_is_read(tmp_path, name):
    pixels = smooth()
    if name == "a.gif":
        pixels = pixels // 64 * 80  # few colours
    found = read_painting(saved(tmp_path / name, pixels, quality=95))
    assert apart(found, pixels) <= (14 if name in ("a.jpg", "a.webp", "a.avif") else 0)


def test_the_content_tells_the_kind_and_not_the_name(tmp_path):
    saved(tmp_path / "a.png", smooth()).rename(tmp_path / "a.jpg")
    assert apart(read_painting(tmp_path / "a.jpg"), smooth()) == 0


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
def test_grey_becomes_rgb(tmp_path, name):
    found = read_painting(saved(tmp_path / name, np.full((5, 7), 90, np.uint8)))
    assert apart(found, np.full((5, 7, 3), 90)) == 0


def test_black_and_white_becomes_rgb(tmp_path):
    pixels = np.arange(35).reshape(5, 7) % 3 == 0
    assert apart(read_painting(saved(tmp_path / "a.png", pixels)), np.repeat(pixels[..., None] * 255, 3, 2)) == 0


def test_alpha_lies_over_white(tmp_path):
    pixels = np.dstack([smooth(), np.full((48, 64), 255, np.uint8)])
    pixels[:, :20, 3], pixels[:, 20:40, 3] = 0, 128
    alpha = pixels[..., 3:] / 255
    expected = np.round(pixels[..., :3] * alpha + 255 * (1 - alpha)).astype(int)
    assert apart(read_painting(saved(tmp_path / "a.png", pixels)), expected) <= 1
    grey = np.array([[[0, 0], [0, 255]]], np.uint8)
    Image.fromarray(grey, "LA").save(tmp_path / "grey.png")
    assert read_painting(tmp_path / "grey.png")[0, :, 0].tolist() == [255, 0]


def test_colours_hidden_by_alpha_do_not_bleed_where_a_picture_is_shrunk(tmp_path):
    pixels = np.zeros((8, 2000, 4), np.uint8)
    pixels[:, ::2] = (255, 0, 0, 255)
    pixels[:, 1::2] = (0, 255, 0, 0)
    found = read_painting(saved(tmp_path / "a.png", pixels))
    assert found[..., 0].min() > 250
    assert np.abs(found[:, 5:-5, 1].astype(int) - found[:, 5:-5, 2]).max() <= 1  # white seen through, and no green


@pytest.mark.parametrize("see_through", [False, True])
def test_palettes_become_their_colours(tmp_path, see_through):
    picture = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3)).convert("P")
    colours = np.array([[9, 8, 7], [255, 0, 0], [0, 255, 0], [0, 0, 255], [1, 2, 3], [77, 88, 99]])
    picture.putpalette(colours.astype(np.uint8).tobytes())
    picture.save(tmp_path / "a.png", **({"transparency": 0} if see_through else {}))
    expected = colours.reshape(2, 3, 3).copy()
    if see_through:
        expected[0, 0] = 255
    assert apart(read_painting(tmp_path / "a.png"), expected) == 0


def test_one_transparent_colour_of_an_rgb_png_is_white(tmp_path):
    pixels = np.array([[[10, 20, 30], [40, 50, 60]]], np.uint8)
    found = read_painting(saved(tmp_path / "a.png", pixels, transparency=(10, 20, 30)))
    assert found.tolist() == [[[255, 255, 255], [40, 50, 60]]]


def test_inks_become_colours(tmp_path):
    pixels = smooth()
    Image.fromarray(pixels).convert("CMYK").save(tmp_path / "a.jpg", quality=98)  # inverted, as Adobe's are
    assert b"Adobe" in (tmp_path / "a.jpg").read_bytes()
    assert apart(read_painting(tmp_path / "a.jpg"), pixels) <= 12
    Image.fromarray(pixels).convert("CMYK").save(tmp_path / "a.tif")
    assert apart(read_painting(tmp_path / "a.tif"), pixels) <= 2


def png16(pixels: np.ndarray) -> bytes:
    """A PNG of [H, W, 3] uint16, which Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_16_bits_are_scaled_and_not_cut(tmp_path):
    levels = np.linspace(0, 65535, 300).reshape(20, 15).astype(np.uint16)
    expected = np.repeat(np.round(levels / 257)[..., None], 3, 2)
    for name in ("a.png", "a.tif"):
        assert apart(read_painting(saved(tmp_path / name, levels)), expected) == 0
    Image.fromarray(levels.astype(">u2")).save(tmp_path / "motorola.tif")
    assert apart(read_painting(tmp_path / "motorola.tif"), expected) == 0
    colours = np.dstack([levels, levels[::-1], levels[:, ::-1]])
    (tmp_path / "rgb.png").write_bytes(png16(colours))
    assert apart(read_painting(tmp_path / "rgb.png"), np.round(colours / 257)) <= 1


@pytest.mark.parametrize("top", [1.0, 255.0, 65535.0])
def test_levels_of_a_wider_type_are_scaled_by_the_range_their_values_tell(tmp_path, top):
    levels = np.linspace(0, 1, 35, dtype=np.float32).reshape(5, 7) * np.float32(top)
    expected = np.repeat(np.round(levels / top * 255)[..., None], 3, 2)
    assert apart(read_painting(saved(tmp_path / "a.tif", levels)), expected) <= 1
    if top > 1:
        assert apart(read_painting(saved(tmp_path / "int.tif", levels.astype(np.int32))), expected) <= 1


@pytest.mark.parametrize("level", [-1.0, 1e6, float("nan")])
def test_levels_of_an_unknown_range_are_refused(tmp_path, level):
    levels = np.full((4, 4), 0.5, np.float32)
    levels[1, 2] = level
    path = saved(tmp_path / "a.tif", levels)
    with pytest.raises(InputError, match=r"a\.tif: has levels from .* to .*; save it with 8 or 16 bits"):
        read_painting(path)


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif"])
def test_exif_turns_are_heeded_by_picture_and_crop(tmp_path, turn, name):
    exif = Image.Exif()
    exif[0x0112] = turn
    path = saved(tmp_path / name, smooth(), exif=exif, quality=98)
    with Image.open(path) as picture:
        shown = np.array(ImageOps.exif_transpose(picture))
    assert apart(read_painting(path), shown) == 0
    x, y, w, h = 5, 9, 31, 17
    assert apart(read_painting(path, (x, y, w, h)), shown[y : y + h, x : x + w]) == 0
    found = read_painting(path, (x, y, w, h), long_side_px=10)
    assert found.shape[:2] == (5, 10)


def test_an_unknown_turn_is_none(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 77
    assert apart(read_painting(saved(tmp_path / "a.png", smooth(), exif=exif)), smooth()) == 0


def test_one_pixel_is_a_picture(tmp_path):
    assert read_painting(saved(tmp_path / "a.png", np.full((1, 1, 3), 9, np.uint8))).tolist() == [[[9, 9, 9]]]


@pytest.mark.parametrize(
    ("size", "crop", "told"),
    [
        ((1, 1), None, "1x1 px is too small for a painting; give more, at least 16 px wide and high"),
        ((15, 400), None, "400x15 px is too small"),
        ((200, 200), (3, 4, 15, 100), "15x100 px is too small"),
        ((20, 4000), None, "4000x20 px is too long and thin for a painting; give a crop of it, at least 16 px"),
    ],
)
@pytest.mark.parametrize("turn", [1, 6])
def test_what_is_too_small_for_a_painting_is_refused(tmp_path, size, crop, told, turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    shape = size[::-1] if turn == 6 else size
    path = saved(tmp_path / "a.png", np.full((*shape, 3), 90, np.uint8), exif=exif)
    with pytest.raises(InputError) as error:
        read_painting(path, crop, least_px=LEAST_PX)
    assert str(error.value).startswith(f"{path}: {told}")
    assert "\n" not in str(error.value)


def test_what_is_just_large_enough_is_a_painting(tmp_path):
    path = saved(tmp_path / "a.png", smooth(40, 30))
    assert read_painting(path, (5, 5, 16, 17), least_px=LEAST_PX).shape == (17, 16, 3)


def test_a_line_stays_one_pixel_high(tmp_path):
    assert read_painting(saved(tmp_path / "a.png", np.zeros((1, 5000, 3), np.uint8))).shape == (1, LONG_SIDE_PX, 3)


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_what_is_large_is_shrunk_and_shows_the_same(tmp_path, name):
    pixels = smooth(600, 2400)
    path = saved(tmp_path / name, pixels, quality=95)
    expected = Image.fromarray(pixels).resize((1024, 256), Image.Resampling.BOX)
    assert apart(read_painting(path), np.array(expected)) <= 4
    part = Image.fromarray(pixels[100:500, 1100:2300]).resize((1024, 341), Image.Resampling.BOX)
    assert apart(read_painting(path, (1100, 100, 1200, 400)), np.array(part)) <= 5


MEASURE = """
import resource, sys
from streamstyle.media.paintings import read_painting
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = read_painting(sys.argv[1])
print(found.shape, found[300, 500].tolist(), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts resident KiB as Linux does")
def test_a_hundred_megapixels_of_jpeg_take_little_memory(tmp_path):
    path = tmp_path / "a.jpg"
    Image.new("L", (12500, 8000), 90).save(path, quality=50)
    run = subprocess.run([sys.executable, "-c", MEASURE, path], capture_output=True, text=True, check=True)
    said, grown_mb = run.stdout.rsplit(maxsplit=1)
    assert said == "(655, 1024, 3) [90, 90, 90]"
    assert int(grown_mb) < 50


def bomb(width: int, height: int) -> bytes:
    """The beginning of a PNG that says it is so large."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    return start + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))


@pytest.mark.parametrize("guard", [True, False])
def test_what_would_fill_the_memory_is_refused_before_it_does(tmp_path, monkeypatch, guard):
    if not guard:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    (tmp_path / "a.png").write_bytes(bomb(LARGEST_PX // 1000 + 1, 1000))
    tracemalloc.start()
    with pytest.raises(InputError, match=r"a\.png:.* more than 178 million pixels; save a smaller copy of it$"):
        read_painting(tmp_path / "a.png")
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("kind", ["gif", "webp", "png", "tif"])
def test_of_an_animation_the_first_frame_is_taken(tmp_path, kind):
    first, second = Image.new("RGB", (8, 6), (250, 0, 0)), Image.new("RGB", (8, 6), (0, 0, 250))
    first.save(tmp_path / f"a.{kind}", save_all=True, append_images=[second], duration=40)
    assert np.abs(read_painting(tmp_path / f"a.{kind}").astype(int) - (250, 0, 0)).max() <= 8


def test_colour_profiles_are_heeded(tmp_path):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert apart(read_painting(saved(tmp_path / "s.png", smooth(), icc_profile=srgb)), smooth()) <= 1
    # The same profile with red and green exchanged: its tags' places, in the table after the 128 bytes of the header.
    places = {srgb[i : i + 4]: i for i in range(132, 132 + 12 * struct.unpack(">I", srgb[128:132])[0], 12)}
    red, green = places[b"rXYZ"], places[b"gXYZ"]
    swapped = bytearray(srgb)
    swapped[red : red + 4], swapped[green : green + 4] = b"gXYZ", b"rXYZ"
    path = saved(tmp_path / "w.png", smooth(), icc_profile=bytes(swapped))
    assert apart(read_painting(path), smooth()[..., [1, 0, 2]]) <= 2


@pytest.mark.parametrize("profile", [b"nonsense", b"\0" * 200])
def test_a_broken_profile_or_one_of_another_colour_space_is_not_heeded(tmp_path, profile):
    assert apart(read_painting(saved(tmp_path / "a.png", smooth(), icc_profile=profile)), smooth()) == 0
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    grey = saved(tmp_path / "g.png", np.full((3, 3), 70, np.uint8), icc_profile=srgb)
    assert apart(read_painting(grey), np.full((3, 3, 3), 70)) == 0


@pytest.mark.parametrize(
    "content", [b"", b"a shopping list\n" * 9, b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a"]
)
def test_what_is_no_picture_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(InputError) as error:
        read_painting(tmp_path / "a.png")
    said = str(error.value)
    assert said.startswith(f"{tmp_path / 'a.png'}: ")
    assert "; " in said
    assert "\n" not in said
    assert ("is empty" in said) == (content == b"")


def test_a_film_is_no_painting(tmp_path):
    path = make_clip(tmp_path / "in.mp4", frames=2, size=(64, 48), audio=False)
    assert not is_picture(path)
    with pytest.raises(InputError, match=r"in\.mp4: not a picture that can be read; give a \.jpg or \.png"):
        read_painting(path)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.gif", "a.tif", "a.webp", "a.bmp"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_picture_cut_short_is_refused_in_one_line(tmp_path, name, share):
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    path = saved(tmp_path / name, noise)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InputError) as error:
        read_painting(path)
    said = str(error.value)
    assert said.startswith(f"{path}: ")
    assert "\n" not in said


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.gif", "a.tif", "a.webp", "a.bmp", "a.avif"])
def test_damage_is_survived_or_refused(tmp_path, name):
    whole = saved(tmp_path / name, smooth()).read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(60):
        data = bytearray(whole)
        for at in rng.integers(0, len(data), 4):
            data[at] = rng.integers(256)
        (tmp_path / name).write_bytes(data)
        with contextlib.suppress(InputError):
            assert read_painting(tmp_path / name).ndim == 3


def test_a_missing_file_a_folder_and_a_locked_file_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"none\.png: no such file; check the name"):
        read_painting(tmp_path / "none.png")
    with pytest.raises(InputError, match="is a folder; give a picture in it"):
        read_painting(tmp_path)
    if os.geteuid():
        saved(tmp_path / "a.png", smooth()).chmod(0)
        with pytest.raises(InputError, match=r"cannot be read .*; make it readable"):
            read_painting(tmp_path / "a.png")


@pytest.mark.parametrize(
    "crop", [(0, 0, 65, 48), (-1, 0, 5, 5), (60, 0, 5, 5), (0, 47, 1, 2), (3, 3, 0, 4), (3, 3, 4, -1)]
)
def test_a_crop_that_reaches_outside_is_refused_with_the_pictures_size(tmp_path, crop):
    path = saved(tmp_path / "a.png", smooth())
    with pytest.raises(InputError, match=r"a\.png: the picture is 64x48; the crop .* is not inside"):
        read_painting(path, crop)


def test_a_crop_of_all_is_all(tmp_path):
    assert apart(read_painting(saved(tmp_path / "a.png", smooth()), (0, 0, 64, 48)), smooth()) == 0


def test_a_folder_of_paintings_is_listed_in_natural_order(tmp_path):
    names = ["b1.png", "b2.JPG", "b10.webp", "c.gif"]
    for name in [*names, ".hidden.png", "note.txt", "film.mp4"]:
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in paintings_in(tmp_path)] == names
    assert all(path.parent == tmp_path for path in paintings_in(tmp_path))


def test_a_folder_without_paintings_is_refused(tmp_path):
    (tmp_path / "note.txt").touch()
    with pytest.raises(InputError, match=r"a folder without pictures; put \.jpg or \.png files in it"):
        paintings_in(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        paintings_in(tmp_path / "none")


def test_nothing_of_pillows_own_state_is_changed(tmp_path):
    before = Image.MAX_IMAGE_PIXELS
    buffer = io.BytesIO()
    Image.fromarray(smooth()).save(buffer, "PNG")
    (tmp_path / "a.png").write_bytes(buffer.getvalue())
    read_painting(tmp_path / "a.png")
    assert before == Image.MAX_IMAGE_PIXELS
