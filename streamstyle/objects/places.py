"""Where in a frame a person's object is, by a point, a region's number, a mask they drew, or in words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import cv2
import numpy as np
from torch import Tensor

from streamstyle.errors import OptionError
from streamstyle.look import ObjectStyle
from streamstyle.objects.segmenter import Segmentation, Segmenter
from streamstyle.plugins import Prompt


def place_mask(
    thing: ObjectStyle,
    found: Segmentation,
    segmenter: Segmenter,
    size: tuple[int, int],
    not_points: Sequence[tuple[int, int]] = (),
) -> np.ndarray:
    """Where a place that is not a mask's is, [h, w] bool, in the frame it was named in.

    A segmenter that takes points is asked what is meant by a click; what a click takes away is the region under it, for
    of that a segmenter would give the object. Where no region is, a click that names is on the piece of what moves by
    itself.

    Args:
        thing: the place.
        found: the frame's regions.
        segmenter: that found them.
        size: (height, width) of the film, in whose pixels points are.
        not_points: (x, y) of clicks in the same frame that are taken away from the object.

    Raises:
        OptionError: as object_mask; or it is said in words, which the segmenter does not take; or that finds nothing.
    """
    clicked = thing.point is not None and not thing.remove and "points" in segmenter.takes
    if thing.words is None and not clicked:
        return object_mask(thing, found.ids, found.regions, size, found.moving)
    prompt = Prompt(text=thing.words)
    if thing.point is not None:
        small = [small_point(thing, point, size, found.ids.shape) for point in (thing.point, *not_points)]
        prompt = Prompt(points=(small[0],), not_points=tuple(small[1:]))
    try:
        mask = segmenter.asked(found.rgb, prompt)
    except OptionError as error:
        raise OptionError(f"object '{thing.name}' @{thing.where}: {error}") from None
    if not mask.any():
        mend = "say it in other words or at another time, or point at it" if thing.words else "click elsewhere"
        raise OptionError(
            f"object '{thing.name}' @{thing.where}: {segmenter.options.segmenter.partition(':')[0]} finds "
            f"{'none in that frame' if thing.words else 'nothing there'}; {mend}, as in {thing.name}@320,240"
        )
    return mask


def small_point(
    thing: ObjectStyle, point: tuple[int, int], size: tuple[int, int], shape: Sequence[int]
) -> tuple[int, int]:
    """A pixel (x, y) of the film in a map of another size, (x, y) too; OptionError where it is outside the film."""
    (x, y), (height, width) = point, size
    if not (0 <= x < width and 0 <= y < height):
        raise OptionError(f"object '{thing.name}' @{thing.where}: outside the frame, which is {width}x{height} pixels")
    return int((x + 0.5) * shape[1] / width), int((y + 0.5) * shape[0] / height)


def object_mask(
    thing: ObjectStyle,
    ids: Tensor,
    regions: int,
    size: tuple[int, int],
    moving: Callable[[], np.ndarray] | None = None,
) -> np.ndarray:
    """Where the object is, [h, w] bool, in the frame it was named in.

    moving is asked where a point that names it is on no region: what moves by itself, [h, w] bool.

    Raises:
        OptionError: the point is outside the frame or on no object, or there is no region of that number.
    """
    labels = ids.numpy()
    if thing.region is not None:
        if not 1 <= thing.region < regions:
            there = f"the regions are #1 .. #{regions - 1}" if regions > 1 else "no region was found there"
            raise OptionError(f"object '{thing.name}' @{thing.where}: no such region; {there}, see {_preview(thing)}")
        return _filled(labels == thing.region)
    column, row = small_point(thing, thing.point or (0, 0), size, labels.shape)
    region = int(labels[row, column])
    if region == 0:
        piece = None if moving is None or thing.remove else piece_at(moving(), column, row)
        if piece is not None:
            return _filled(piece)
        near = _nearest(labels, row, column)
        hint = f"the nearest region is #{near}" if near else "no region was found in that frame"
        what = (
            "there is nothing to take away" if thing.remove else "that is the background (style it with --background)"
        )
        shown = "" if moving is None or thing.remove else ", which outlines what moves"
        raise OptionError(
            f"object '{'-' * thing.remove}{thing.name}' @{thing.where}: on no object, {what}; {hint}, see "
            f"{_preview(thing)}{shown}, and more are told apart with a larger --detail"
        )
    return _filled(labels == region)


def may_lie_anywhere(taken: ObjectStyle, places: Iterable[ObjectStyle]) -> bool:
    """Whether an object of which something is taken away may by then be where no region is: it was drawn, or named
    before and moved."""
    its = (place for place in places if place.name == taken.name and not place.remove)
    return any(place.mask is not None or place.at_s < taken.at_s for place in its)


def piece_at(mask: np.ndarray, column: int, row: int) -> np.ndarray | None:
    """The 8-connected piece of a mask [h, w] bool at a pixel; None where the mask is not there."""
    if not mask[row, column]:
        return None
    _, pieces = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    return np.asarray(pieces == pieces[row, column])


def _preview(thing: ObjectStyle) -> str:
    """The command that shows the frame in which a place is, with its regions' numbers."""
    return f"`streamstyle preview{f' --at {thing.at_s:g}' if thing.at_s else ''}`"


def _filled(mask: np.ndarray) -> np.ndarray:
    """The mask and what it encloses: objects are opaque."""
    outside = np.pad((~mask).astype(np.uint8), 1, constant_values=1)
    cv2.floodFill(outside, None, (0, 0), 0)
    filled = mask | (outside[1:-1, 1:-1] > 0)
    # A ring round the whole scene is not an object with a hole.
    return filled if filled.sum() <= 2 * mask.sum() else mask


def _nearest(labels: np.ndarray, row: int, column: int) -> int:
    rows, columns = np.nonzero(labels)
    if not rows.size:
        return 0
    at = int(np.argmin((rows - row) ** 2 + (columns - column) ** 2))
    return int(labels[rows[at], columns[at]])


def drawn_mask(drawn: np.ndarray, label: int, shape: tuple[int, int]) -> np.ndarray:
    """Where a label [H, W] of a mask is in a smaller map, [h, w] bool: pixels at least half covered by it; of what is
    too thin for that, those that are covered most."""
    covered = cv2.resize((drawn == label).astype(np.float32), shape[::-1], interpolation=cv2.INTER_AREA)
    return (covered > 0) & (covered >= min(0.5, float(covered.max())))
