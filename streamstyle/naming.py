"""Finds the objects a person named, before any work is done: the frame, the region, the point in painted pixels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from streamstyle.config import OutputOptions
from streamstyle.errors import OptionError
from streamstyle.frames import Frame, FrameBatch, VideoInfo
from streamstyle.look import ObjectStyle
from streamstyle.media.decode import decode, frame_at
from streamstyle.media.planes import scaled_size
from streamstyle.stylizer import Stylizer


def place_objects(stylizer: Stylizer, info: VideoInfo) -> None:
    """Give every named object the exact time of its frame and its point at the size that is painted.

    What a mask shows in the first frame needs no place. A person's numbers and points are those of the film's own
    size, as ``preview`` shows it.

    Raises:
        OptionError: a point outside the frame or on no object, no region of that number, a time after the part that is
            painted, or a region that has another name already; in the person's own numbers.
        InputError: a time outside the film.
    """
    if not stylizer.look.objects:
        return
    objects: list[ObjectStyle] = []
    taken: list[tuple[ObjectStyle, np.ndarray]] = []
    for said in stylizer.look.objects:
        if said.mask is not None:
            objects.append(said)
            continue
        thing, mask = _placed(stylizer, info, said, stylizer.options.output)
        objects.append(thing)
        if thing.remove:
            continue
        for other, region in taken:
            if other.at_s == thing.at_s and other.name != thing.name and np.array_equal(region, mask):
                raise OptionError(
                    f"object '{said.name}' @{said.where}: that region is object '{other.name}'; name it once"
                )
        taken.append((thing, mask))
    stylizer.name_objects(tuple(objects))


def _placed(
    stylizer: Stylizer, info: VideoInfo, said: ObjectStyle, out: OutputOptions
) -> tuple[ObjectStyle, np.ndarray]:
    """The object with its exact time and point, and where it is in that frame, [h, w] bool at the analysis size."""
    if said.point is not None and not (0 <= said.point[0] < info.width and 0 <= said.point[1] < info.height):
        raise OptionError(
            f"object '{said.name}' @{said.where}: outside the frame, which is {info.width}x{info.height} pixels"
        )
    frame = naming_frame(info, said, out)
    at_s = float((frame.pts - info.start_pts) * info.time_base)
    if out.duration is not None and at_s >= out.start + out.duration:
        raise OptionError(
            f"object '{said.name}' @{said.where}: after the part that is painted, which ends at "
            f"{out.start + out.duration:g} s; give an earlier time or a longer --duration"
        )
    painted, own_size = scaled_size(info, out.size), (info.width, info.height)
    thing = replace(said, at_s=at_s)
    shown = shown_frame(info, said, out)
    if painted != own_size or shown.pts != frame.pts:
        # Numbers are those `preview` shows; where another size or the next frame is painted, a point stands for one.
        point = said.point
        if point is None:
            point = stylizer.point_in(said, FrameBatch.stack([shown]), info.color)
        x, y = (int((p + 0.5) * to / of) for p, to, of in zip(point, painted, own_size, strict=True))
        thing = replace(thing, region=None, point=(x, y))
    try:
        mask = stylizer.check_object(thing, FrameBatch.stack([frame]), info.color)
    except OptionError as error:
        raise OptionError(str(error).replace(f"@{thing.where}", f"@{said.where}")) from None
    return thing, mask


def shown_frame(info: VideoInfo, thing: ObjectStyle, out: OutputOptions) -> Frame:
    """The frame that ``preview`` shows for an object's time, at the film's own size; of the start, if that is later."""
    return frame_at(info, max(thing.at_s, out.start))


def naming_frame(info: VideoInfo, thing: ObjectStyle, out: OutputOptions) -> Frame:
    """The frame an object is named in: on screen at its time, or the first that is painted."""
    if thing.at_s > out.start:
        frame = frame_at(info, thing.at_s, out.size)
        if float((frame.pts - info.start_pts) * info.time_base) >= out.start:
            return frame
    film = decode(info, start_s=out.start, size=out.size)
    try:
        return next(film)
    finally:
        film.close()
