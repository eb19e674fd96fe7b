"""Names of a Look that no object has are told, those that were given with it are not."""

from __future__ import annotations

import pytest

from streamstyle.errors import OptionError
from streamstyle.look import Look, ObjectStyle
from streamstyle.renaming import renamed_nobody, unknown_names

SAID = ("butterfly", "object 3", "swan")


@pytest.mark.parametrize(
    ("wanted", "called", "lines"),
    [
        ((), {}, []),
        (("swan", "swan"), {}, []),
        (("cat", "cat"), {}, ["object 'cat': never appears, labels.npz has no such object; it has {all}"]),
        (("birds",), {"butterfly": "birds", "swan": "birds"}, []),
        (
            ("birds",),
            {"butterfly": "birds", "object 7": "birds"},
            ["object 'object 7', renamed 'birds': never appears, labels.npz has no such object; it has {all}"],
        ),
        (
            (),
            {"object 8": "the rock"},
            ["object 'object 8', renamed 'the rock': never appears, labels.npz has no such object; it has {all}"],
        ),
        (
            ("the rock",),
            {"object 8": "the rock"},
            [
                "object 'the rock': never appears, labels.npz has no such object; it has {all}",
                "object 'object 8', renamed 'the rock': never appears, labels.npz has no such object; it has {all}",
            ],
        ),
        (("herd",), {"object 3": "cow", "cow": "herd"}, []),  # cow is a name on the way
        (("swan",), {"goose": "swan"}, []),  # the tracks were made with this Look
        (("swan",), {"goose": "swan", "object 3": "swan", "butterfly": "moth"}, ["object 'goose', renamed 'swan'"]),
    ],
)
def test_what_never_appears_is_told_with_what_does(wanted, called, lines):
    told = unknown_names(wanted, called, SAID, "labels.npz")
    there = ", ".join(SAID)
    assert len(told) == len(lines)
    assert all(line.startswith(start.format(all=there)) for line, start in zip(told, lines, strict=True))


def test_no_objects_at_all_and_the_mend():
    (line,) = unknown_names(["swan"], {}, (), "film.sstyle", "; paint it anew")
    assert line == "object 'swan': never appears, film.sstyle has no such object; it names none; paint it anew"


@pytest.mark.parametrize("word", ["background", "foreground"])
@pytest.mark.parametrize("how", ["named", "renamed"])
def test_what_a_look_styles_by_a_word_is_no_object_s_name(word, how):
    name, called = (word, ()) if how == "named" else ("dog", (("dog", word),))
    with pytest.raises(OptionError, match=f"^object '{word}': the word has a meaning of its own; choose another name"):
        Look(background="wave", objects=(ObjectStyle(name, "starry", (1, 2)),), called=called)


def test_a_renaming_of_nobody_is_told():
    called = {"object 99": "x", "dog": "hound", "hound": "rex"}
    assert renamed_nobody(called, ["rex", "cat"]) == [
        "object 'object 99', renamed 'x': nobody is called so; named were: cat, rex; who has no name has a number in a "
        "label track: give it with --tracks"
    ]
    assert renamed_nobody({"a": "b"}, []) == ["object 'a', renamed 'b': nobody is called so; named were: none"]
    assert renamed_nobody({}, []) == []
