"""Pictures for people: PNG files and contact sheets."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch

from streamstyle.config import Device, StyleOptions
from streamstyle.errors import InputError, OutputError
from streamstyle.frames import FrameBatch
from streamstyle.gpu.transfer import choose_device, choose_dtype, upload
from streamstyle.media.decode import frame_at
from streamstyle.media.paintings import is_picture, paintings_in, read_painting
from streamstyle.media.probe import probe
from streamstyle.nets import weights
from streamstyle.painting.palette import Palette
from streamstyle.plan import check_picture
from streamstyle.stages.color import yuv_to_rgb
from streamstyle.styles import STYLES, Key, Painting, Style, canonical, source_of

TILE_WIDTH_PX = 320
COLUMNS = 5
DEMO_FRAME_S = 3.6
SHEET_PHOTO_PX = 640
FONT = cv2.FONT_HERSHEY_SIMPLEX, 0.5


def write_png(path: str | Path, rgb: np.ndarray) -> None:
    """Write [H, W, 3] uint8 RGB; OutputError where that cannot be."""
    path = Path(path)
    done, data = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    try:
        if not done:
            raise OSError("the picture could not be coded")
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", suffix=".part.png", delete=False) as temporary:
            try:
                temporary.write(data.tobytes())
                temporary.close()
                os.chmod(temporary.name, 0o644)
                os.replace(temporary.name, path)
            except BaseException:
                os.unlink(temporary.name)
                raise
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}; choose another place") from None


def read_picture(path: str | Path, at_s: float = 0.0) -> np.ndarray:
    """A photo, shrunk where it is large, or a frame of a film, as [H, W, 3] uint8 RGB."""
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file; give a photo or a film")
    return read_painting(path) if is_picture(path) else film_frame(path, at_s)


def film_frame(path: str | Path, at_s: float) -> np.ndarray:
    """The frame on screen at a time, as [H, W, 3] uint8 RGB."""
    info = probe(path)
    batch = FrameBatch.stack([frame_at(info, at_s)])
    rgb = yuv_to_rgb(upload((batch.y, batch.u, batch.v), torch.device("cpu")), info.color)
    return (rgb[0].permute(1, 2, 0) * 255 + 0.5).to(torch.uint8).numpy()


def style_sheet(
    output: str | Path,
    photo: str | Path | None = None,
    *,
    at_s: float = 0.0,
    styles: Sequence[str] = (),
    device: Device = "auto",
    overwrite: bool = False,
) -> int:
    """Paint a picture in styles of one's own, then in all 26, side by side with what they are.

    Args:
        output: the .png file.
        photo: a picture or a film; None for a frame of the demo clip.
        at_s: which frame of a film.
        styles: in the words of ``styles.Style``; a folder stands for each painting in it, keyframes for what is worn
            at each.
        device: where to compute.
        overwrite: replace output if it exists.

    Returns:
        How many styles are on it.

    Raises:
        OptionError: output is not a .png: a film given by mistake is not overwritten; or a style is not understood.
        OutputError: output exists, is the photo itself, or cannot be written.
        InputError: a painting cannot be read.

    Cost: two passes of a network a style, at 640 px; about 4 s on two cores for the 26.
    """
    check_picture(photo, output, overwrite, "contact sheet")
    named = _each_painting(styles)
    named += [(f"{number} {name}", name) for number, name in enumerate(STYLES)]
    picture = _photo(photo, at_s)
    where = choose_device(device)
    palette = Palette([text for _, text in named], StyleOptions(), where, choose_dtype("auto", where))
    rgb = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        recorded = palette.record(rgb.to(where))
        tiles = [("the picture", picture)]
        for look, (name, _) in enumerate(named):
            painted = palette.paint_picture(rgb.to(where), look, recorded)[0].permute(1, 2, 0)
            tiles.append((name, (painted * 255 + 0.5).to(torch.uint8).cpu().numpy()))
    write_png(output, contact_sheet(tiles))
    return len(named)


def _each_painting(styles: Sequence[str]) -> list[tuple[str, str]]:
    """(caption, canonical form) of the styles, a folder as the paintings in it, keyframes one by one."""
    each: list[tuple[str, str]] = []
    for text in map(canonical, styles):
        found, style = source_of(text), Style.parse(text)
        if isinstance(found, Painting) and found.crop is None and found.path.is_dir():
            each += [(file.name, canonical(str(file))) for file in paintings_in(found.path)]
            continue
        for key in style.keys:
            moment = f"at {key.at_s:g} s: " if len(style.keys) > 1 else ""
            each.append((moment + caption(style, key), str(replace(style, keys=(replace(key, at_s=0.0),)))))
    return each


def caption(style: Style, key: Key) -> str:
    """What is worn at a keyframe, for people: files without their folders, a blend's parts in percent."""
    names = []
    for source, weight in key.mix:
        found = source_of(source)
        name = found if isinstance(found, str) else (found.path if isinstance(found, Painting) else found).name
        crop = f" #{','.join(map(str, found.crop))}" if isinstance(found, Painting) and found.crop else ""
        names.append(f"{round(100 * weight)}% " * (len(key.mix) > 1) + name + crop)
    return "; ".join([" + ".join(names), *style.settings])


def _photo(photo: str | Path | None, at_s: float) -> np.ndarray:
    """The picture that is painted, at most 640 px wide."""
    picture = film_frame(weights.fetch("bigbuckbunny"), DEMO_FRAME_S) if photo is None else read_picture(photo, at_s)
    scale = min(1.0, SHEET_PHOTO_PX / picture.shape[1])
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def contact_sheet(
    tiles: Sequence[tuple[str, np.ndarray]], *, columns: int = COLUMNS, width_px: int = TILE_WIDTH_PX
) -> np.ndarray:
    """Named pictures in a grid, each scaled to one width; [H, W, 3] uint8 RGB."""
    gap, line = 8, 18
    captions = [_wrapped(name, width_px - 4) for name, _ in tiles]
    below = 8 + line * max(map(len, captions))
    height = max(round(picture.shape[0] * width_px / picture.shape[1]) for _, picture in tiles)
    rows = -(-len(tiles) // columns)
    columns = min(columns, len(tiles))
    sheet = np.full((rows * (height + below + gap) + gap, columns * (width_px + gap) + gap, 3), 255, np.uint8)
    for i, (_, picture) in enumerate(tiles):
        row, column = divmod(i, columns)
        top, left = gap + row * (height + below + gap), gap + column * (width_px + gap)
        size = (width_px, round(picture.shape[0] * width_px / picture.shape[1]))
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        sheet[top : top + small.shape[0], left : left + width_px] = small
        for k, text in enumerate(captions[i]):
            baseline = (left + 2, top + height + line * (k + 1))
            cv2.putText(sheet, text, baseline, *FONT, (30, 30, 30), 1, cv2.LINE_AA)
    return sheet


def _wrapped(text: str, width_px: int) -> list[str]:
    """A caption in lines that are no wider; a word that is wider goes on in the next."""

    def fits(part: str) -> bool:
        return cv2.getTextSize(part, *FONT, 1)[0][0] <= width_px

    lines = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}".strip()
        if fits(joined):
            lines[-1] = joined
            continue
        lines += [word] if lines[-1] else []
        lines[-1] = lines[-1] or word
        while not fits(lines[-1]):
            most = next(k for k in range(len(lines[-1]) - 1, 0, -1) if k == 1 or fits(lines[-1][:k]))
            lines[-1:] = [lines[-1][:most], lines[-1][most:]]
    return lines
