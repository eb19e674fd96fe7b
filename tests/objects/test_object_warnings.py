"""What is said of a film's objects, and when nothing is."""

from __future__ import annotations

import re

import pytest

from streamstyle.look import Look, ObjectStyle
from streamstyle.objects.object_warnings import (
    lost_warnings,
    nobody_warning,
    pending_warnings,
    replaced_warnings,
    taken_warnings,
    unnamed_warnings,
    untaken_warnings,
)

SWAN = ObjectStyle("swan", "wave", point=(3, 4))
NOBODY, NOBODY_ELSE = (f"{what} moves by itself or stands out here" for what in ("nothing", "nothing else"))


@pytest.mark.parametrize(
    ("look", "names", "told"),
    [
        (Look(background="none", foreground="wave"), [], NOBODY),
        (Look(background="none", foreground="wave", objects=(SWAN,)), ["swan"], NOBODY_ELSE),
        (Look(background="none", foreground="wave", objects=(SWAN,)), [], NOBODY_ELSE),  # its moment never came
        (Look(background="none", foreground="wave", objects=(SWAN,)), ["swan", None], None),
        (Look(style="wave", background="none"), [], NOBODY),
        (Look(background="wave", foreground="none"), [], None),
        (Look(background="wave"), [], None),
        (Look(background="wave"), [None], "1 thing without a name was found and wore no style"),
        (Look(background="wave"), [None, "swan", None], "2 things without a name were found and wore no style"),
        (Look(background="wave", foreground="none"), [None], None),
    ],
)
def test_of_what_has_no_name(look, names, told):
    lines = unnamed_warnings(look, "appearance", names)
    assert len(lines) == (told is not None)
    assert all(line.startswith(f"{told}; ") for line in lines)


@pytest.mark.parametrize("named", [False, True])
def test_who_was_sought_by_overlap_is_not_told_to_try_that(named):
    assert "--tracker overlap" in nobody_warning("appearance", named=named)
    assert "--tracker" not in nobody_warning("overlap", named=named)


def test_each_line_names_its_object_and_what_is_told_once_needs_no_more():
    assert pending_warnings(["swan"], ["fox", "boat", "fox"]) == [
        "object 'swan' was never named: the film ended before its moment; named were: boat, fox"
    ]
    assert pending_warnings(["swan"], [])[0].endswith("named were: none")
    for lines, mend in (
        (taken_warnings(["swan"]), "take less of it away, or later, as with @SECONDS"),
        (lost_warnings([("swan", 7)]), "name it there with @SECONDS"),
        (
            untaken_warnings([("swan", 2.5)]),
            "click on it, or at another moment, as with @SECONDS",
        ),
    ):
        (line,) = lines
        assert re.match("object '-?swan'", line)
        assert line.endswith(mend)
    assert len(untaken_warnings([("swan", 2.5), ("swan", 2.5), ("swan", 3.0)])) == 2
    (line,) = replaced_warnings([("wake", "swan", 0.4)] * 2)
    assert line.startswith("object 'wake' took nearly all of object 'swan' at 0.4 s; ")
    assert not [*pending_warnings([], ["a"]), *taken_warnings([]), *lost_warnings([]), *untaken_warnings([])]
