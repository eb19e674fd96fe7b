"""Finds the objects a person named, before any work is done: the frame, the region, the point in painted pixels."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np

from streamstyle.config import OutputOptions
from streamstyle.errors import InputError, OptionError
from streamstyle.frames import Frame, FrameBatch, VideoInfo
from streamstyle.look import Look, ObjectStyle
from streamstyle.media.decode import decode, frame_at
from streamstyle.media.masks import Mask, read_mask
from streamstyle.media.planes import scaled_size
from streamstyle.objects.places import may_lie_anywhere, small_point
from streamstyle.stylizer import Stylizer

Placed = tuple[ObjectStyle, ObjectStyle, np.ndarray | OptionError]
"""A place as it was said, at its exact time, and where it is: see covered_or_doubt."""


def place_objects(stylizer: Stylizer, info: VideoInfo, mask: str | Path | None = None) -> None:
    """Give every named object the exact time of its frame and its point at the size that is painted.

    A person's numbers and points are those of the film's own size, as ``preview`` shows it. What is drawn in a mask is
    taken as it is.

    Args:
        stylizer: whose Look is placed.
        info: the film.
        mask: a picture of the objects in the first frame that is painted, for the places that are its labels.

    Raises:
        OptionError: a point outside the frame, or on no object and nothing that moves, no region of that number, a time
            after the part that is painted, a region that has another name already, or a label the mask lacks; in the
            person's own numbers.
        InputError: a time outside the film, or a mask that does not fit.

    Cost: of each place its frame's regions; where a point that names is on none, what moves there too, see
    Foresight.moving.
    """
    drawn = None if mask is None else read_mask(mask, (info.height, info.width))
    check_mask_places(stylizer.look, drawn)
    if drawn is not None and not any(thing.mask is not None for thing in stylizer.look.objects):
        raise OptionError(
            f'--mask {mask}: no --object is one of its labels; add --object "NAME@mask{min(drawn.names)}=STYLE"'
        )
    if not stylizer.look.objects:
        return
    objects, placed = list[ObjectStyle](), list[Placed]()
    for said in stylizer.look.objects:
        if said.mask is not None:
            frame = naming_frame(info, said, stylizer.options.output)
            objects.append(replace(said, at_s=info.time_of(frame.pts)))
            continue
        thing, covered = _placed(stylizer, info, said, stylizer.options.output)
        objects.append(thing)
        placed.append((said, thing, covered))
    check_together(placed, objects, scaled_size(info, stylizer.options.output.size)[::-1])
    stylizer.name_objects(tuple(objects), None if drawn is None else drawn.labels)


def check_together(placed: Iterable[Placed], objects: Sequence[ObjectStyle], size: tuple[int, int]) -> None:
    """Refuse a region that has two names, and a point that is taken away where nothing of its object can be.

    Args:
        placed: places that no mask tells.
        objects: all places, at their exact times.
        size: (height, width) in whose pixels their points are.
    """
    taken, doubtful = list[tuple[ObjectStyle, np.ndarray]](), list[tuple[ObjectStyle, OptionError]]()
    for said, thing, covered in placed:
        if isinstance(covered, OptionError):
            doubtful.append((thing, covered))
            continue
        if thing.remove:
            continue
        for other, region in taken:
            if other.at_s == thing.at_s and other.name != thing.name and np.array_equal(region, covered):
                raise OptionError(
                    f"object '{said.name}' @{said.where}: that region is object '{other.name}'; name it once"
                )
        taken.append((thing, covered))
    for thing, refusal in doubtful:
        if not may_lie_anywhere(thing, objects) and not _covered(taken, thing, size):
            raise refusal


def _covered(places: list[tuple[ObjectStyle, np.ndarray]], taken: ObjectStyle, size: tuple[int, int]) -> bool:
    """Whether a point that is taken away lies in one of its object's places [h, w] bool of the same moment."""
    assert taken.point is not None
    its = [mask for place, mask in places if (place.name, place.at_s) == (taken.name, taken.at_s)]
    return any(mask[small_point(taken, taken.point, size, mask.shape)[::-1]] for mask in its)


def _placed(
    stylizer: Stylizer, info: VideoInfo, said: ObjectStyle, out: OutputOptions
) -> tuple[ObjectStyle, np.ndarray | OptionError]:
    """The object with its exact time and point, and where it is in that frame, [h, w] bool at the analysis size; of a
    point that is taken away and on no region, the refusal: some of the object may be there by then."""
    if said.point is not None and not (0 <= said.point[0] < info.width and 0 <= said.point[1] < info.height):
        raise OptionError(
            f"object '{said.name}' @{said.where}: outside the frame, which is {info.width}x{info.height} pixels"
        )
    frame = naming_frame(info, said, out)
    at_s = info.time_of(frame.pts)
    if out.duration is not None and at_s >= out.start + out.duration:
        raise OptionError(
            f"object '{said.name}' @{said.where}: after the part that is painted, which ends at "
            f"{out.start + out.duration:g} s; give an earlier time or a longer --duration"
        )
    painted, own_size = scaled_size(info, out.size), (info.width, info.height)
    thing = replace(said, at_s=at_s)
    shown = shown_frame(info, said, out)
    if thing.words is None and (painted != own_size or shown.pts != frame.pts):
        # Numbers are those `preview` shows; where another size or the next frame is painted, a point stands for one.
        point = said.point
        if point is None:
            point = stylizer.point_in(said, FrameBatch.stack([shown]), info.color)
        x, y = (int((p + 0.5) * to / of) for p, to, of in zip(point, painted, own_size, strict=True))
        thing = replace(thing, region=None, point=(x, y))
    ahead = functools.partial(frames_after, info, at_s, out)
    look_for = functools.partial(stylizer.check_object, thing, FrameBatch.stack([frame]), info.color, ahead)
    return thing, covered_or_doubt(look_for, said, thing, stylizer.options.analysis.tracker)


def covered_or_doubt(
    look_for: Callable[[], np.ndarray], said: ObjectStyle, thing: ObjectStyle, tracker: str
) -> np.ndarray | OptionError:
    """Where a place is in its frame, [h, w] bool, as look_for tells; of a point that is taken away and on no region the
    refusal: some of the object may be there by then. A refusal speaks of the place as it was said."""
    try:
        return look_for()
    except OptionError as error:
        refusal = OptionError(str(error).replace(f"@{thing.where}", f"@{said.where}"))
        if thing.remove and thing.point is not None and tracker == "appearance":
            return refusal
        raise refusal from None


def frames_after(info: VideoInfo, at_s: float, out: OutputOptions) -> Iterator[Frame]:
    """The frames that are read after one of an exact time."""
    left_s = None if out.duration is None else out.start + out.duration - at_s
    with closing(decode(info, start_s=at_s, duration_s=left_s, size=out.size)) as film:
        yield from islice(film, 1, None)


def shown_frame(info: VideoInfo, thing: ObjectStyle, out: OutputOptions) -> Frame:
    """The frame that ``preview`` shows for an object's time, at the film's own size; of the start, if that is later."""
    return frame_at(info, max(thing.at_s, out.start))


def naming_frame(info: VideoInfo, thing: ObjectStyle, out: OutputOptions) -> Frame:
    """The frame an object is named in: on screen at its time, or the first that is painted."""
    if thing.at_s > out.start:
        frame = frame_of(info, thing, out.size)
        if info.time_of(frame.pts) >= out.start:
            return frame
    film = decode(info, start_s=out.start, size=out.size)
    try:
        return next(film)
    finally:
        film.close()


def early_warnings(places: Iterable[ObjectStyle], start_s: float) -> list[str]:
    """What a person should know of places whose moment is before the part that is painted, a line each."""
    mend = "where it is elsewhere by then, give a place of that time"
    return [
        f"object '{thing.name}' @{thing.where}: is looked for at {start_s:g} s, where the painting starts; {mend}"
        for thing in places
        if 0 < thing.at_s < start_s
    ]


def frame_of(info: VideoInfo, thing: ObjectStyle, size: int | None = None) -> Frame:
    """The frame that is on screen at an object's time; InputError, which names it, where there is none."""
    try:
        return frame_at(info, thing.at_s, size)
    except InputError as error:
        raise InputError(f"object '{thing.name}' @{thing.where}: {error}") from None


def check_mask_places(look: Look, mask: Mask | None) -> None:
    """Refuse an object that is a label of a mask where there is no mask, or none with that label, or another is it."""
    named = dict[int, str]()
    for thing in look.objects:
        if thing.mask is not None and not thing.remove and named.setdefault(thing.mask, thing.name) != thing.name:
            raise OptionError(
                f"object '{thing.name}' @{thing.where}: that label is object '{named[thing.mask]}'; name it once"
            )
        if thing.mask is not None and mask is None:
            raise OptionError(f"object '{thing.name}' @{thing.where}: a label of a mask; give the mask with --mask")
        if thing.mask is not None and mask is not None and thing.mask not in mask.names:
            there = ", ".join(map(str, mask.names))
            raise OptionError(f"object '{thing.name}' @{thing.where}: the mask has no such label; it has {there}")
