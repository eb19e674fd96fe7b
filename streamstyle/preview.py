"""A frame and, beside it, its objects outlined, numbered and coloured; thickly those that move by themselves. Where
styles are given, then the same frame painted."""

from __future__ import annotations

import colorsys
from contextlib import closing, nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from streamstyle.config import AnalysisOptions, Device, Options
from streamstyle.flow import Ahead
from streamstyle.frames import Frame, FrameBatch, VideoInfo, output_chroma
from streamstyle.gpu.transfer import choose_device, upload
from streamstyle.look import Look
from streamstyle.media.decode import decode, frame_at
from streamstyle.media.probe import probe
from streamstyle.naming import place_objects
from streamstyle.objects.evidence import region_means
from streamstyle.objects.foresight import Coming, Foresight
from streamstyle.objects.segmenter import Segmentation, Segmenter
from streamstyle.plan import check_picture
from streamstyle.scene import small_planes
from streamstyle.sheets import write_png
from streamstyle.stages.color import yuv_to_rgb
from streamstyle.stages.region_stats import region_stats
from streamstyle.stylizer import Stylizer
from streamstyle.tracks.given_tracks import given_tracks

LABELLED_SHARE = 0.002
"""Regions smaller than this share of the frame are coloured but not numbered in the picture: numbers would overlap."""
FOREGROUND_SHARE = 0.5
"""Of a region that is foreground, at least."""
FOUND_COLOR = (255, 230, 0)
"""Of the outline of what is foreground."""


def preview(
    input: str | Path,
    output: str | Path,
    *,
    at_s: float = 0.0,
    fps: float | None = None,
    look: Look | None = None,
    mask: str | Path | None = None,
    tracks: str | Path | None = None,
    options: Options | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write the picture.

    Args:
        input: a film, or a folder of pictures.
        output: a .png file.
        at_s: time of the frame in seconds after the first.
        fps: frames a second of a folder of pictures; None for 25.
        look: how it is painted, which is then shown too; None shows only the objects.
        mask, tracks: as ``stylize`` takes them.
        options: how objects are found and painted; the same options make ``run`` find the same regions.
        overwrite: replace output if it exists.

    Returns:
        input, output, at_s, width, height and objects: number, area_px, box_xyxy, point, a pixel well inside it,
        moving_share, how much of it is what ``--foreground`` paints without a word: what moves by itself in this and
        the next frames, and every object where objects are followed by overlap; and foreground, whether that is half or
        more. And moving: area_px, box_xyxy and point of each piece of what moves by itself that is by half or more on
        no region; a click there names it. All in pixels of the film as shown, largest first.

    Raises:
        InputError: no such film, or no such time. OptionError: output is not a .png, or fps is given for a film.
        OutputError: it exists, is the film, or cannot be written.
    """
    info = probe(input, fps=fps)
    check_picture(input, output, overwrite)
    frame = frame_at(info, at_s)
    options = options or Options()
    analysis, where = options.analysis, choose_device(options.device)
    segmenter = Segmenter(analysis, where, features=analysis.tracker == "appearance")
    found = regions_of(info, frame, segmenter)
    foreground = find_foreground(info, frame, found, segmenter, analysis)
    shares = moving_shares(found, foreground)
    objects = []
    for thing in describe_objects(found, (info.height, info.width)):
        share = float(shares[thing["number"]])
        objects.append({**thing, "moving_share": round(share, 3), "foreground": share >= FOREGROUND_SHARE})
    panels = [draw(picture_of(info, frame, where), found.ids.numpy(), objects, foreground)]
    if look is not None:
        panels.append(painted_at(info, at_s, look, options, mask, tracks))
    write_png(output, side_by_side(panels))
    return {
        "input": str(input),
        "output": str(output),
        "at_s": at_s,
        "width": info.width,
        "height": info.height,
        "objects": objects,
        "moving": describe_moving(found, foreground, (info.height, info.width)),
    }


def words_of(found: dict[str, Any]) -> list[str]:
    """What a person is told of what preview gave, a line each."""
    at = f"@{found['at_s']:g}" if found["at_s"] else ""
    lines = []
    if found["objects"]:
        moving = sum(thing["foreground"] for thing in found["objects"])
        thing = max(found["objects"], key=lambda thing: (thing["foreground"], thing["area_px"]))
        x, y = thing["point"]
        count = f"{len(found['objects'])} objects, {moving} of them foreground,"
        if len(found["objects"]) == 1:
            count = f"1 object, {'' if moving else 'not '}foreground,"
        lines = [
            f"{found['output']}: {count} to name by number or by a point inside, e.g.",
            f'  --object "name@#{thing["number"]}{at}=starry"   or   --object "name@{x},{y}{at}=starry"',
        ]
    if found["moving"]:
        x, y = found["moving"][0]["point"]
        what = "and what moves or stands out and has no number" if lines else "no objects but what moves or stands out"
        lines += [
            f"{found['output']}: {what}, to name by a point inside, e.g.",
            f'  --object "name@{x},{y}{at}=starry"',
        ]
    parts = {thing["number"]: thing["moving_share"] * thing["area_px"] for thing in found["objects"]}
    moving_px = sum(parts.values()) + sum(piece["area_px"] for piece in found["moving"])
    mend = "another --detail parts them, or 0, with which a click names what moves"
    lines += [
        f"{found['output']}: what moves is only a part of #{thing['number']}, and a click there names all of it; {mend}"
        for thing in found["objects"]
        if not thing["foreground"] and parts[thing["number"]] > moving_px / 2
    ]
    return lines or [
        f"{found['output']}: no objects; try another --edge-side, a smaller --min-area or another moment (--at)"
    ]


def painted_at(
    info: VideoInfo,
    at_s: float,
    look: Look,
    options: Options,
    mask: str | Path | None = None,
    tracks: str | Path | None = None,
) -> np.ndarray:
    """The frame at a time as ``run`` paints it, [H, W, 3] uint8 RGB.

    Objects are followed to it from where the first of them is named. Statistics are of the first frame followed, where
    ``run`` takes the shot's first.

    Cost: each frame between is looked at; none but the last is painted.
    """
    begin_s = min([at_s, *(thing.at_s for thing in look.objects if tracks is None)])
    options = replace(options, output=replace(options.output, start=begin_s))
    given = given_tracks(tracks, info, look, mask)
    stylizer = Stylizer(look, options, given=given)
    with given or nullcontext():
        if given is None:
            place_objects(stylizer, info, mask)
        reading = None
        with closing(Ahead(decode(info, start_s=begin_s))) as film:
            for index, frame in enumerate(film):
                time_s = info.time_of(frame.pts)
                if reading is not None and time_s > at_s:
                    break
                batch = FrameBatch.stack([frame], index)
                reading = stylizer.read_batch(batch, info.color, [time_s], film.ahead, info.time_of)
    assert reading is not None
    planes = stylizer.paint_reading(reading, subsample=output_chroma(info.width, info.height) == "yuv420p")
    return picture_of(info, planes.unstack()[0], stylizer.device)


def side_by_side(panels: list[np.ndarray]) -> np.ndarray:
    """Pictures in a row, as high as the first, with a white gap between."""
    height = panels[0].shape[0]
    row: list[np.ndarray] = []
    for panel in panels:
        if panel.shape[0] != height:
            width = round(panel.shape[1] * height / panel.shape[0])
            panel = cv2.resize(panel, (width, height), interpolation=cv2.INTER_CUBIC)
        gap = np.full((height, max(4, panel.shape[1] // 80), 3), 255, np.uint8)
        row += [gap, panel] if row else [panel]
    return np.hstack(row)


def segment_frame(
    info: VideoInfo, frame: Frame, analysis: AnalysisOptions, device: Device
) -> tuple[np.ndarray, Segmentation]:
    """The frame as RGB [H, W, 3] uint8, and its regions (on the host), for those who need no other frame's."""
    where = choose_device(device)
    return picture_of(info, frame, where), regions_of(info, frame, Segmenter(analysis, where))


def regions_of(info: VideoInfo, frame: Frame, segmenter: Segmenter) -> Segmentation:
    """The frame's regions."""
    return segmenter(yuv_to_rgb(small_planes(frame, segmenter.options, segmenter.device), info.color))[0]


def picture_of(info: VideoInfo, frame: Frame, device: torch.device) -> np.ndarray:
    """The frame as RGB, [H, W, 3] uint8."""
    batch = FrameBatch.stack([frame])
    planes = upload((batch.y, batch.u, batch.v), device)
    return (yuv_to_rgb(planes, info.color)[0].permute(1, 2, 0) * 255 + 0.5).to(torch.uint8).cpu().numpy()


def find_foreground(
    info: VideoInfo, frame: Frame, found: Segmentation, segmenter: Segmenter, analysis: AnalysisOptions
) -> np.ndarray:
    """What would wear --foreground in a frame, were it a film's first, [h, w] bool: what moves by itself from here on.

    A click there that is on no region names a piece of it. Cost: see Foresight.moving.
    """
    if analysis.tracker == "overlap":
        return found.ids.numpy() > 0
    at_s, device = info.time_of(frame.pts), segmenter.device
    foresight = Foresight(lambda planes, color: segmenter(yuv_to_rgb(planes, color)))
    with closing(decode(info, start_s=at_s)) as film:
        later = (small_planes(after, analysis, device) for after in islice(film, 1, None))  # once: it is asked once
        coming = Coming(0, small_planes(frame, analysis, device), info.color, lambda: later)
        return foresight.moving(segmenter, found, coming)


def moving_shares(found: Segmentation, foreground: np.ndarray) -> np.ndarray:
    """How much of each region is foreground ([h, w] bool), [regions]."""
    ids = found.ids.numpy()
    return region_means(foreground, ids, np.bincount(ids.ravel(), minlength=found.regions))


def describe_objects(found: Segmentation, size: tuple[int, int]) -> list[dict[str, Any]]:
    """Number, area, box and an inner point of every region but the background, largest first, in pixels of size."""
    return _described(found.ids, found.regions, np.ones(found.ids.shape, bool), size)


def describe_moving(found: Segmentation, foreground: np.ndarray, size: tuple[int, int]) -> list[dict[str, Any]]:
    """Area, box and a point of each piece of what moves by itself ([h, w] bool), half of which is on no region."""
    count, pieces = cv2.connectedComponents(foreground.astype(np.uint8), connectivity=8)
    ground = found.ids.numpy() == 0
    areas, bare = (np.bincount(pieces[where], minlength=count) for where in (pieces >= 0, ground))
    some = _described(torch.from_numpy(pieces), count, ground & (2 * bare >= areas)[pieces], size)
    return [{key: thing[key] for key in ("area_px", "box_xyxy", "point")} for thing in some]


def _described(ids: Tensor, count: int, within: np.ndarray, size: tuple[int, int]) -> list[dict[str, Any]]:
    """As describe_objects, of ids [h, w] int32 from 1 on, with points within [h, w] bool; who has none is left out."""
    stats, labels = region_stats(ids[None], count), ids.numpy()
    down, right = size[0] / labels.shape[0], size[1] / labels.shape[1]
    objects = []
    for number in range(1, count):
        x0, y0, x1, y1 = stats.box_xyxy[0, number].tolist()
        its = (labels[y0:y1, x0:x1] == number) & within[y0:y1, x0:x1]
        if not its.any():
            continue
        # The pixel farthest from the region's border: inside it even where the centroid is not.
        inside = cv2.distanceTransform(np.pad(its.astype(np.uint8), 1), cv2.DIST_L2, 3)
        row, column = np.unravel_index(int(inside.argmax()), inside.shape)
        objects.append(
            {
                "number": number,
                "area_px": round(int(stats.area[0, number]) * down * right),
                "box_xyxy": [round(x0 * right), round(y0 * down), round(x1 * right), round(y1 * down)],
                "point": [int((x0 + column - 0.5) * right), int((y0 + row - 0.5) * down)],
            }
        )
    return sorted(objects, key=lambda thing: -thing["area_px"])


def draw(rgb: np.ndarray, ids: np.ndarray, objects: list[dict[str, Any]], foreground: np.ndarray) -> np.ndarray:
    """The frame on the left; on the right greyed, its regions tinted, outlined in white and numbered.

    What is foreground ([h, w] bool) has a thick bright outline.
    """
    height, width = rgb.shape[:2]
    scale = max(1, round(360 / height)) if height < 360 else 1
    left = cv2.resize(rgb, (width * scale, height * scale), interpolation=cv2.INTER_CUBIC)
    labels = cv2.resize(ids.astype(np.int16), (width * scale, height * scale), interpolation=cv2.INTER_NEAREST)
    grey = cv2.cvtColor(cv2.cvtColor(left, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB).astype(np.float32)
    tint = np.array([(0, 0, 0), *(_color(n) for n in range(1, int(ids.max()) + 1))], np.float32)[labels]
    right = np.where((labels > 0)[..., None], 0.45 * grey + 0.55 * tint, grey * 0.6).astype(np.uint8)
    border = cv2.morphologyEx(labels, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    right[border] = 255
    covered = cv2.resize(foreground.astype(np.float32), labels.shape[::-1]) >= 0.5
    outlines, _ = cv2.findContours(covered.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(right, outlines, -1, FOUND_COLOR, max(3, left.shape[0] // 120))
    size = max(0.4, left.shape[0] / 900)
    for thing in objects:
        if thing["area_px"] >= LABELLED_SHARE * height * width:
            _write_number(right, str(thing["number"]), (thing["point"][0] * scale, thing["point"][1] * scale), size)
    return side_by_side([left, right])


def _color(number: int) -> tuple[float, float, float]:
    """Colours far apart for neighbouring numbers: hues by the golden ratio."""
    red, green, blue = colorsys.hsv_to_rgb(number * 0.618034 % 1, 0.75, 1.0)
    return red * 255, green * 255, blue * 255


def _write_number(picture: np.ndarray, text: str, middle: tuple[int, int], size: float) -> None:
    font = cv2.FONT_HERSHEY_SIMPLEX
    thickness = max(1, round(2 * size))
    (width, height), _ = cv2.getTextSize(text, font, size, thickness)
    at = (
        int(np.clip(middle[0] - width // 2, 0, max(0, picture.shape[1] - width))),
        int(np.clip(middle[1] + height // 2, height, picture.shape[0])),
    )
    cv2.putText(picture, text, at, font, size, (0, 0, 0), thickness + 3, cv2.LINE_AA)
    cv2.putText(picture, text, at, font, size, (255, 255, 255), thickness, cv2.LINE_AA)
