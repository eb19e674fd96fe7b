import dataclasses
from typing import Literal, get_args, get_type_hints

import pytest
from typing_extensions import Doc

from streamstyle import config
from streamstyle.config import AnalysisOptions, LookOptions, Options, OutputOptions, Range, StyleOptions, flag
from streamstyle.errors import OptionError

GROUPS = [LookOptions, AnalysisOptions, StyleOptions, OutputOptions, Options]


def options() -> list[tuple[type, str, object, tuple]]:
    """Every option: its group, name, type and the notes beside it."""
    found = []
    for group in GROUPS:
        hints = get_type_hints(group, include_extras=True)
        for field in dataclasses.fields(group):
            base, *notes = get_args(hints[field.name])
            if not (isinstance(base, type) and dataclasses.is_dataclass(base)):
                found.append((group, field.name, base, tuple(notes)))
    return found


OPTIONS = options()
RANGES = [(group, name, note) for group, name, _, notes in OPTIONS for note in notes if isinstance(note, Range)]
CHOICES = [
    (group, name, get_args(base))
    for group, name, base, _ in OPTIONS
    if get_args(base) and all(isinstance(choice, str) for choice in get_args(base))
]


def ids(rows: list[tuple]) -> list[str]:
    return [row[1] for row in rows]


def test_every_group_is_looked_at():
    groups = {
        thing for thing in vars(config).values() if isinstance(thing, type) and dataclasses.is_dataclass(thing)
    } - {Range, config.StyleChoices}  # whose fields LookOptions has
    assert groups == set(GROUPS)


@pytest.mark.parametrize("group", GROUPS)
def test_defaults_are_valid_and_frozen(group):
    made = group()
    assert made == group()
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(made, dataclasses.fields(group)[0].name, None)


@pytest.mark.parametrize(("group", "name", "base", "notes"), OPTIONS, ids=ids(OPTIONS))
def test_every_option_says_what_it_is(group, name, base, notes):
    (doc,) = (note for note in notes if isinstance(note, Doc))
    assert doc.documentation[0].isupper() or ":" in doc.documentation
    assert doc.documentation.endswith(".")


@pytest.mark.parametrize(("group", "name", "base", "notes"), OPTIONS, ids=ids(OPTIONS))
def test_every_number_has_a_range_and_every_range_a_number(group, name, base, notes):
    kinds = {base, *get_args(base)}
    assert bool(kinds & {int, float}) == any(isinstance(note, Range) for note in notes)


def test_names_are_given_once():
    assert len(set(ids(OPTIONS))) == len(OPTIONS)


def refused(group: type, name: str, value: object) -> str:
    with pytest.raises(OptionError) as error:
        group(**{name: value})
    message = str(error.value)
    assert message.startswith(f"{flag(name)} {value}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize(("group", "name", "limits"), RANGES, ids=ids(RANGES))
def test_a_number_is_held_to_its_range(group, name, limits):
    whole = int in {*get_args(get_type_hints(group)[name]), get_type_hints(group)[name]}
    low, high = (int(x) if whole else x for x in (limits.low, limits.high))
    for fine in (low, high):
        assert getattr(group(**{name: fine}), name) == fine
    for wrong in (low - 1, high + 1, -(10**9), 10**12, float("nan"), float("inf"), float("-inf")):
        message = refused(group, name, wrong)
        assert f"give {limits.low:g} to {limits.high:g}" in message
        assert message.endswith(limits.unit)
    for wrong in ("soon", (1, 2)):
        assert "not a number" in refused(group, name, wrong)


@pytest.mark.parametrize(("group", "name", "choices"), CHOICES, ids=ids(CHOICES))
def test_a_word_is_held_to_its_choices(group, name, choices):
    for fine in choices:
        assert getattr(group(**{name: fine}), name) == fine
    for wrong in ("", "nope", choices[0].upper() + "x", 2.5):
        assert refused(group, name, wrong).endswith(f"unknown; give one of {', '.join(choices)}")


def test_an_option_may_be_a_word_or_a_number():
    assert AnalysisOptions(analyse_every="auto").analyse_every == "auto"
    assert AnalysisOptions(analyse_every=3).analyse_every == 3
    assert "not a number" in refused(AnalysisOptions, "analyse_every", "never")


def test_what_may_be_left_out_may_be_none():
    made = OutputOptions(size=None, duration=None, crf=None)
    assert (made.size, made.duration, made.crf) == (None, None, None)


def test_a_mixin_checks_what_it_is_given():
    @dataclasses.dataclass(frozen=True)
    class Mine(config.Checked):
        side: Literal["left", "right"] = "left"

    assert Mine("right").side == "right"
    assert "give one of left, right" in refused(Mine, "side", "up")


def test_flag():
    assert flag("edge_side") == "--edge-side"
    assert flag("crf") == "--crf"
