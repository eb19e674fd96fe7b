"""Paintings as styles: any picture file, or a crop of one, as plain RGB.

::

    file ─ header: kind, size, limit ─ decode (JPEG: at 1/2, 1/4 or 1/8) ─ crop ─ shrink ─ turn ─ sRGB ─ over white

What a painter's camera or a museum's scanner wrote is brought to one form: grey levels, palettes, inks (CMYK), 16 bits,
transparency, colour profiles and EXIF's turns. A film, a text, or a picture cut short is refused.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from streamstyle.errors import InputError
from streamstyle.media import images

Crop = tuple[int, int, int, int]
"""x, y, width and height in pixels of the picture as it is shown."""

LONG_SIDE_PX = 1024
"""No style is read from more: the style network looks at 256 px."""
LEAST_PX = 16
"""Short side of what can be a painting. The style network sees the middle square at 256 px, so that of less every pixel
is a plain patch as wide as a stroke. Of eight paintings shrunk to 8 px no more were told apart than by chance; at 16 px
two were, at 32 px four, at 64 px six, at 128 px all."""
LARGEST_PX = 178_956_970
"""Of a file, about 13 400 x 13 400: as RGB 0.5 GB. It is also where Pillow's own guard stands."""
KINDS = images.KINDS | {".gif": "GIF", ".avif": "AVIF"}
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "PPM")  # not EPS, which would run a program
_MEND = "give a .jpg or .png, or a .tif of 8 or 16 bits"
_SWAPPED, _FLIPPED_X, _FLIPPED_Y = (
    {5, 6, 7, 8},
    {2, 3, 7, 8},
    {3, 4, 6, 7},
)  # of EXIF's orientations, in the file's axes
_ORIENTATION = 0x0112


def paintings_in(folder: str | Path) -> list[Path]:
    """The pictures of a folder, of any kinds, in natural order (2 before 10); hidden and other files are none.

    Raises:
        InputError: not readable, or no picture.
    """
    names = images.names_in(folder, KINDS)
    if not names:
        raise InputError(f"{folder}: a folder without pictures; put .jpg or .png files in it, or give one painting")
    return [Path(folder, name) for name in names]


def is_picture(path: str | Path) -> bool:
    """Whether a file begins as a picture does; what follows may still be damaged."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=_FORMATS):
            return True
    except Image.DecompressionBombError:
        return True
    except (OSError, ValueError, SyntaxError):
        return False


def read_painting(
    path: str | Path, crop: Crop | None = None, *, long_side_px: int = LONG_SIDE_PX, least_px: int = 1
) -> np.ndarray:
    """A picture as it is shown, small enough to look at.

    Args:
        path: a picture; of an animation, the first frame.
        crop: the part of it that is meant; None for all.
        long_side_px: what is longer is shrunk to this; nothing is enlarged.
        least_px: short side, of the crop and after shrinking, below which it is refused: LEAST_PX for a style.

    Returns:
        [H, W, 3] uint8 sRGB, transparent parts over white.

    Raises:
        InputError: no such file, no picture, cut short or damaged, above LARGEST_PX, levels whose range is not known,
            a crop that reaches outside, or too small.

    Cost: JPEG is decoded at the smallest size that is enough, 20 MB for 100 megapixels; other kinds are decoded whole,
    3 or 4 bytes a pixel for a moment.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give a picture in it")
    try:
        # Pillow warns of odd but readable metadata, and of sizes from half its limit on.
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=_FORMATS) as picture:
            return _rgb(path, picture, crop, long_side_px, least_px)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the name") from None
    except PermissionError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); make it readable (chmod +r)") from None
    except Image.DecompressionBombError:
        raise _too_large(path, "") from None
    except UnidentifiedImageError:
        said = "is empty" if path.is_file() and path.stat().st_size == 0 else "not a picture that can be read"
        raise InputError(f"{path}: {said}; {_MEND}") from None
    except InputError:
        raise
    except Exception as error:  # Pillow's readers raise whatever a damaged file leads them to
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"{path}: cut short or damaged ({reason}); copy or download it again") from None


def _rgb(path: Path, picture: Image.Image, crop: Crop | None, long_side_px: int, least_px: int) -> np.ndarray:
    if picture.width * picture.height > LARGEST_PX:
        raise _too_large(path, f" {picture.width}x{picture.height},")
    # Pillow turns TIFFs by itself.
    turn = 1 if picture.format == "TIFF" else picture.getexif().get(_ORIENTATION, 1)
    width, height = picture.size
    box = _box(path, crop, (height, width) if turn in _SWAPPED else (width, height), turn)
    short, long = sorted((box[2] - box[0], box[3] - box[1]))
    enough = max(1.0, long / long_side_px)
    if max(1.0, short / enough) < least_px:
        _refuse_small(path, (box[2] - box[0], box[3] - box[1]), turn, least_px, thin=short >= least_px)
    picture.draft(None, (int(width / enough), int(height / enough)))  # only JPEG heeds it
    picture.load()
    shrunk_x, shrunk_y = picture.width / width, picture.height / height
    box = (box[0] * shrunk_x, box[1] * shrunk_y, box[2] * shrunk_x, box[3] * shrunk_y)
    small = _shrunk(_of_bytes(path, picture), box, long_side_px)
    return _over_white(_turned(small, turn), picture.info.get("icc_profile"))


def _box(path: Path, crop: Crop | None, shown: tuple[int, int], turn: int) -> tuple[float, float, float, float]:
    """Corners of the crop in the file's own axes."""
    width, height = shown
    x, y, w, h = (0, 0, width, height) if crop is None else crop
    if min(x, y) < 0 or min(w, h) < 1 or x + w > width or y + h > height:
        raise InputError(f"{path}: the picture is {width}x{height}; the crop {w}x{h} at {x},{y} is not inside, move it")
    left, top, right, bottom = x, y, x + w, y + h
    if turn in _SWAPPED:
        width, height = height, width
        left, top, right, bottom = top, left, bottom, right
    if turn in _FLIPPED_X:
        left, right = width - right, width - left
    if turn in _FLIPPED_Y:
        top, bottom = height - bottom, height - top
    return left, top, right, bottom


def _refuse_small(path: Path, size: tuple[float, float], turn: int, least_px: int, *, thin: bool) -> None:
    width, height = (int(side) for side in (size[::-1] if turn in _SWAPPED else size))
    said = "long and thin for a painting; give a crop of it" if thin else "small for a painting; give more"
    raise InputError(f"{path}: {width}x{height} px is too {said}, at least {least_px} px wide and high")


def _of_bytes(path: Path, picture: Image.Image) -> Image.Image:
    """The picture in a mode of 8 bits that can be averaged: L, LA, RGB, RGBA or CMYK."""
    mode = picture.mode
    if mode.startswith("I") or mode == "F":
        return Image.fromarray(_levels(path, np.asarray(picture), mode))
    if picture.has_transparency_data:
        return picture if mode in ("LA", "RGBA") else picture.convert("RGBA")
    if mode == "LAB":
        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(picture, *profiles, outputMode="RGB")
        assert converted is not None
        return converted
    return picture if mode in ("L", "RGB", "CMYK") else picture.convert("L" if mode == "1" else "RGB")


def _levels(path: Path, levels: np.ndarray, mode: str) -> np.ndarray:
    """Levels of 16 bits, or of a wider type whose range its values tell, as 8 bits."""
    if levels.dtype == np.uint16:
        return ((np.arange(1 << 16) * 255 + 32767) // 65535).astype(np.uint8)[levels]
    low, high = float(levels.min()), float(levels.max())
    ceiling = next((top for top in ((1.0, 255.0, 65535.0) if mode == "F" else (255.0, 65535.0)) if high <= top), None)
    if ceiling is None or not low >= 0:  # also where a level is no number
        raise InputError(f"{path}: has levels from {low:g} to {high:g}; save it with 8 or 16 bits")
    return (levels.astype(np.float32) * (255 / ceiling) + 0.5).astype(np.uint8)


def _shrunk(picture: Image.Image, box: tuple[float, float, float, float], long_side_px: int) -> Image.Image:
    """The part inside the box, its long side at most long_side_px."""
    width, height = box[2] - box[0], box[3] - box[1]
    scale = min(1.0, long_side_px / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if size == picture.size:
        return picture
    # Transparent pixels are weighed by their alpha. The gap of 3 lets whole blocks be averaged first.
    return picture.resize(size, Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)


def _turned(picture: Image.Image, turn: int) -> Image.Image:
    """The picture as EXIF says it is shown."""
    if turn in _FLIPPED_X:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if turn in _FLIPPED_Y:
        picture = picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    return picture.transpose(Image.Transpose.TRANSPOSE) if turn in _SWAPPED else picture


def _over_white(picture: Image.Image, profile: bytes | None) -> np.ndarray:
    """[H, W, 3] uint8 sRGB."""
    alpha = picture.getchannel("A") if picture.mode in ("LA", "RGBA") else None
    colours = picture if alpha is None else picture.convert(picture.mode.removesuffix("A"))
    rgb = _srgb(colours, profile)
    if alpha is not None:
        rgb = Image.composite(rgb, Image.new("RGB", rgb.size, "white"), alpha)
    return np.array(rgb)


def _srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """Colours by the profile the file carries; a profile of another colour space, or a broken one, is not heeded."""
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if source.profile.xcolor_space.strip() == {"L": "GRAY"}.get(picture.mode, picture.mode):
                target = ImageCms.createProfile("sRGB")
                converted = ImageCms.profileToProfile(picture, source, target, outputMode="RGB")
                assert converted is not None
                return converted
        except (ImageCms.PyCMSError, OSError, ValueError):
            pass
    return picture.convert("RGB")


def _too_large(path: Path, size: str) -> InputError:
    return InputError(f"{path}:{size} more than {LARGEST_PX // 10**6} million pixels; save a smaller copy of it")
