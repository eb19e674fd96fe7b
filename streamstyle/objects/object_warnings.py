"""What a person should know of a film's objects when it ends, a line each."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from streamstyle.look import Look, ObjectStyle
from streamstyle.styles import NONE


def pending_warnings(pending: Iterable[str], named: Iterable[str]) -> list[str]:
    """Of objects whose moment never came; named: those whose did."""
    seen = ", ".join(sorted(set(named))) or "none"
    return [
        f"object '{name}' was never named: the film ended before its moment; named were: {seen}" for name in pending
    ]


def unnamed_warnings(look: Look, tracker: str, names: Collection[str | None]) -> list[str]:
    """Of what wears --foreground without a name: that there was none, or that it wore nothing.

    Args:
        look: what is worn.
        tracker: how objects were followed, as of ``--tracker``.
        names: of all objects there were, None of each that has none.
    """
    said, unnamed = look.foreground is not None or look.style is not None, sum(name is None for name in names)
    if said and not unnamed and look.foreground_style != NONE:
        return [nobody_warning(tracker, named=bool(look.objects))]
    if unnamed and not said:
        things = "1 thing without a name was" if unnamed == 1 else f"{unnamed} things without a name were"
        mend = "give --foreground or --style (--foreground none, if that is meant)"
        return [f"{things} found and wore no style; {mend}"]
    return []


def nobody_warning(tracker: str, *, named: bool = False) -> str:
    """What a person should know of a film in which nobody was followed, or nobody but those that are named."""
    if tracker == "overlap":
        found = "no other object is" if named else "no object is"
        return f"{found} found here; give another --edge-side or a smaller --min-area"
    what = "nothing else" if named else "nothing"
    return f"{what} moves by itself or stands out here; name an object with --object, or give --tracker overlap"


def naming_warnings(
    places: Iterable[ObjectStyle], pending: Iterable[ObjectStyle], names: Iterable[str | None]
) -> list[str]:
    """pending_warnings and taken_warnings of a film.

    Args:
        places: of the named objects; pending: those whose moment never came.
        names: of all objects there were.
    """
    left, there = [thing.name for thing in pending], {name for name in names if name}
    wanted = dict.fromkeys(thing.name for thing in places if not thing.remove)
    taken = [name for name in wanted if name not in left and name not in there]
    return pending_warnings(left, there) + taken_warnings(taken)


def taken_warnings(names: Iterable[str]) -> list[str]:
    """What a person should know of named objects of which nothing is left, a line each."""
    what = "what was taken away from it, or is another's, was all of it"
    mend = "take less of it away, or later, as with @SECONDS"
    return [f"object '{name}' is nowhere: {what}; {mend}" for name in names]


def untaken_warnings(places: Iterable[tuple[str, float]]) -> list[str]:
    """What a person should know of clicks that took nothing away, a line each; see ObjectTracks.untaken."""
    mend = "click on it, or at another moment, as with @SECONDS"
    return [
        f"object '-{name}': nothing was taken away at {at_s:g} s, where none of it was; {mend}"
        for name, at_s in dict.fromkeys(places)
    ]


def replaced_warnings(places: Iterable[tuple[str, str, float]]) -> list[str]:
    """What a person should know of places that were nearly all of another object, a line each; see
    ObjectTracks.replaced."""
    mend = "where both are in one region, another --detail may part them"
    return [
        f"object '{name}' took nearly all of object '{other}' at {at_s:g} s; {mend}"
        for name, other, at_s in dict.fromkeys(places)
    ]


def lost_warnings(lost: Iterable[tuple[str, int]]) -> list[str]:
    """What a person should know of objects that were lost, a line each; see ObjectTracks.lost."""
    mend = "where it is to be seen later, name it there with @SECONDS"
    return [f"object '{name}' was lost after frame {frame}: {mend}" for name, frame in lost]
