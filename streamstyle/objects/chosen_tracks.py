"""What follows a film's objects, and how often a frame is looked at: as the options say."""

from __future__ import annotations

from typing import Literal

from streamstyle.config import AnalysisOptions
from streamstyle.errors import OptionError
from streamstyle.look import ObjectStyle
from streamstyle.objects.object_tracks import ObjectTracks, OverlapTracks
from streamstyle.objects.recalling_tracks import RecallingTracks
from streamstyle.objects.segmenter import Segmenter

LOOK_EVERY = {"cpu": {"appearance": 8, "overlap": 4}, "cuda": {"appearance": 1, "overlap": 1}}
"""Frames of which one is looked at where nobody says, by device and tracker; by appearance others are, too, where what
was carried is doubted."""


def follow(
    segmenter: Segmenter, options: AnalysisOptions, objects: tuple[ObjectStyle, ...], *, find: bool
) -> ObjectTracks:
    """What follows objects as the options say; find: those that are not named too.

    Raises:
        OptionError: an object has no place.
    """
    for thing in objects:
        if not thing.has_place:
            raise OptionError(
                f"object '{thing.name}': where is it? Give a place, as in {thing.name}@320,240, or to `run` a label "
                "track that has it, with --tracks"
            )
    every = look_every(options, segmenter.device.type)
    if options.tracker == "appearance":
        doubts = options.analyse_every == "auto" and every > 1
        return RecallingTracks(segmenter, objects, every, find=find, doubts=doubts)
    rule: Literal["components", "regions"] = "components" if options.segmenter == "components" else "regions"
    return OverlapTracks(segmenter, rule, objects, every)


def look_every(options: AnalysisOptions, device: str) -> int:
    """Of how many frames one is looked at in any case, on a type of device; as DeepGIF was published of each."""
    if options.analyse_every != "auto":
        return options.analyse_every
    published = (options.tracker, options.segmenter) == ("overlap", "components")
    return 1 if published else LOOK_EVERY[device][options.tracker]
