import dataclasses
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamstyle.config import LookOptions
from streamstyle.errors import OptionError, OutputError
from streamstyle.look import Look, ObjectStyle
from streamstyle.styles import NONE, STYLES

# -- one object -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected", "where"),
    [
        ("swan@320,240=starry", ObjectStyle("swan", "starry", (320, 240)), "320,240"),
        ("swan@320,240@2.5=starry", ObjectStyle("swan", "starry", (320, 240), at_s=2.5), "320,240@2.5"),
        ("swan@320,240@1:02.5=starry", ObjectStyle("swan", "starry", (320, 240), at_s=62.5), "320,240@62.5"),
        ("-swan@#2@1:00:00", ObjectStyle("swan", "", region=2, at_s=3600.0, remove=True), "#2@3600"),
        ("swan@320,240@2.=starry", ObjectStyle("swan", "starry", (320, 240), at_s=2.0), "320,240@2"),
        ("swan@#3=wave", ObjectStyle("swan", "wave", region=3), "#3"),
        ("swan@#3@12=wave", ObjectStyle("swan", "wave", region=3, at_s=12.0), "#3@12"),
        ("swan@0,0=none", ObjectStyle("swan", NONE, (0, 0)), "0,0"),
        ("  the white swan @ 3 , 4=19 ", None, None),
        ("swan@100,90@4", ObjectStyle("swan", "", (100, 90), at_s=4.0), "100,90@4"),
        ("-swan@50,60@3", ObjectStyle("swan", "", (50, 60), at_s=3.0, remove=True), "50,60@3"),
        ("- swan@#2", ObjectStyle("swan", "", region=2, remove=True), "#2"),
        ("swan@mask3=wave", ObjectStyle("swan", "wave", mask=3), "mask3"),
        ('swan@"white swan"=wave', ObjectStyle("swan", "wave", words="white swan"), '"white swan"'),
        ("swan@'a swan, @3=4'@2=wave", ObjectStyle("swan", "wave", words="a swan, @3=4", at_s=2.0), '"a swan, @3=4"@2'),
        ("swan@'6\" gun'", ObjectStyle("swan", words='6" gun'), "'6\" gun'"),
        ('-swan@"its shadow"@3', ObjectStyle("swan", words="its shadow", at_s=3.0, remove=True), '"its shadow"@3'),
        ("the white swan@3 , 4=19", ObjectStyle("the white swan", "starry", (3, 4)), "3,4"),
        ("Schwäne 2@3,4=Poppy Field", ObjectStyle("Schwäne 2", "poppy-field", (3, 4)), "3,4"),
    ],
)
def test_parse(text, expected, where):
    if expected is None:
        with pytest.raises(OptionError, match="not understood"):
            ObjectStyle.parse(text)
        return
    assert ObjectStyle.parse(text) == expected
    assert expected.where == where


def test_what_is_not_understood_is_told_of_words_and_of_quotes():
    for text in ("swan=a=b.jpg", "swan=films/take=2/night.jpg"):
        with pytest.raises(
            OptionError, match=r"in words swan@'a white swan'=starry; a path with any of .* = in it goes in"
        ):
            ObjectStyle.parse(text)
    with pytest.raises(OptionError, match=r"in words swan@'a white swan'=starry$"):
        ObjectStyle.parse("swan@=starry")
    assert ObjectStyle.parse("swan='a=b.jpg'").style == "a=b.jpg"
    assert ObjectStyle.parse("swan@'a white swan'=starry").words == "a white swan"


@pytest.mark.parametrize(
    "text",
    [
        *("", "swan", "=starry", "swan@=starry", "swan@3=starry", "@3,4=starry", " @3,4=starry", "swan@"),
        *("-@3,4", "- @3,4", "swan@mask=starry", "swan@mask3@2=starry", "-swan@mask3", "swan@mask-1=starry"),
        *("swan@3,4=", "swan@-3,4=starry", "swan@3,-4=starry", "swan@3.5,4=starry", "swan@3,4,5=starry"),
        *("swan@3,4@-1=starry", "swan@3,4@soon=starry", "swan@3,4@=starry", "swan@#=starry", "swan@#-1=starry"),
        *("swan@#3,4=starry", "swan@#1.5=starry", "a=b@3,4=starry", "a@b@3,4=starry"),
        *('swan@""=starry', 'swan@" "=starry', "swan@\"white swan'=starry", "swan@white swan=starry"),
    ],
)
def test_what_is_not_understood_is_shown_with_an_example(text):
    with pytest.raises(OptionError) as error:
        ObjectStyle.parse(text)
    assert f'--object "{text}"' in str(error.value)
    assert "swan@320,240=starry" in str(error.value)
    assert "\n" not in str(error.value)


def test_an_objects_unknown_style_is_told_the_nearest():
    with pytest.raises(OptionError, match=r"unknown style 'stary': did you mean starry"):
        ObjectStyle.parse("swan@3,4=stary")


# -- what a look says -------------------------------------------------------------------------------------------------


def swan(style: str = "wave", at: tuple[int, int] = (3, 4)) -> ObjectStyle:
    return ObjectStyle("swan", style, at)


@pytest.mark.parametrize(
    ("look", "background", "foreground", "needs_objects", "styles"),
    [
        (Look("starry"), "starry", "starry", False, ("starry",)),
        (Look(background="wave"), "wave", NONE, True, ("wave", NONE)),
        (Look(foreground="wave"), NONE, "wave", True, (NONE, "wave")),
        (Look("starry", foreground="wave"), "starry", "wave", True, ("starry", "wave")),
        (Look("starry", background="wave"), "wave", "starry", True, ("wave", "starry")),
        (Look(background="wave", foreground="wave"), "wave", "wave", False, ("wave",)),
        (Look(NONE), NONE, NONE, False, (NONE,)),
        (Look(objects=(swan(),)), NONE, NONE, True, (NONE, "wave")),
        (Look("wave", objects=(swan(),)), "wave", "wave", True, ("wave",)),
        (
            Look("ember", background="sea-mist", objects=(swan(), ObjectStyle("dog", "19", region=2))),
            *("sea-mist", "ember", True, ("sea-mist", "ember", "wave", "starry")),
        ),
    ],
)
def test_who_wears_what(look, background, foreground, needs_objects, styles):
    assert look.background_style == background
    assert look.foreground_style == foreground
    assert look.needs_objects == needs_objects
    assert look.styles == styles


def test_styles_may_be_said_as_numbers_or_nearly_so():
    look = Look(19, background="Paper Cut", objects=[ObjectStyle("swan", 24, (1, 2))])
    assert (look.style, look.background, look.objects) == (
        "starry",
        "paper-cut",
        (ObjectStyle("swan", "wave", (1, 2)),),
    )


def test_nothing_said_is_refused_with_examples():
    for nothing in (lambda: Look(), lambda: Look.from_options(LookOptions())):
        with pytest.raises(OptionError, match="no style given; for example:  --style starry") as error:
            nothing()
        assert "\n" not in str(error.value)


def test_one_object_may_have_two_places_but_not_two_styles():
    two = Look(objects=(swan(at=(1, 2)), swan(at=(3, 4))))
    assert len(two.objects) == 2
    with pytest.raises(OptionError, match="object 'swan' has two styles, wave and starry"):
        Look(objects=(swan("wave"), swan("starry", (9, 9))))


@pytest.mark.parametrize("part", ["style", "background", "foreground"])
def test_an_unknown_style_is_refused(part):
    with pytest.raises(OptionError, match="unknown style 'nope'"):
        Look(**{part: "nope"})


def test_one_place_says_the_style_for_all():
    look = Look(
        objects=(ObjectStyle("swan", "", (1, 2)), swan("wave", (3, 4)), ObjectStyle("swan", "", (5, 6), at_s=4))
    )
    assert [thing.style for thing in look.objects] == ["wave"] * 3
    assert look.styles == (NONE, "wave")
    with pytest.raises(OptionError, match=r"object 'swan' has no style; give it one, as in swan@1,2@4=wave"):
        Look("wave", objects=(ObjectStyle("swan", "", (1, 2), at_s=4.0),))


def test_a_place_to_remove_needs_one_where_the_object_is():
    gone = ObjectStyle("swan", "", (50, 60), at_s=3.0, remove=True)
    assert Look(objects=(swan(), gone)).objects[1] == dataclasses.replace(gone, style="wave")
    with pytest.raises(OptionError, match="object 'swan' has places to remove but none where it is"):
        Look("wave", objects=(gone,))


# -- other names ------------------------------------------------------------------------------------------------------

COW, CALF = ObjectStyle("cow", "wave", (1, 2)), ObjectStyle("calf", "wave", (3, 4))


def test_objects_that_share_a_new_name_are_one():
    look = Look(objects=(COW, CALF), called=(("cow", "herd"), ("calf", "herd"), ("object 7", "herd")))
    assert [thing.name for thing in look.objects] == ["herd", "herd"]
    assert [look.name_of(name) for name in ("object 7", "object 8", "cow")] == ["herd", "object 8", "herd"]


def test_a_name_may_change_twice_but_not_in_a_circle():
    assert Look("wave", called=(("a", "b"), ("b", "c"))).name_of("a") == "c"
    for circle in ((("a", "b"), ("b", "a")), (("a", "a"),), (("x", "a"), ("a", "b"), ("b", "a"))):
        with pytest.raises(OptionError, match="renamed in a circle"):
            Look("wave", called=circle)


def test_merged_objects_wear_one_style():
    with pytest.raises(OptionError, match="object 'herd' has two styles, wave and ember; give it one"):
        Look(objects=(COW, dataclasses.replace(CALF, style="ember")), called=(("cow", "herd"), ("calf", "herd")))


# -- from the command line --------------------------------------------------------------------------------------------


def test_from_options():
    options = LookOptions(background="wave", foreground="7", object=("swan@3,4=starry", "dog@#2@1=none"))
    assert Look.from_options(options) == Look(
        background="wave",
        foreground=STYLES[7],
        objects=(ObjectStyle("swan", "starry", (3, 4)), ObjectStyle("dog", NONE, region=2, at_s=1.0)),
    )


def test_what_is_said_overrides_the_file(tmp_path):
    file = tmp_path / "a.toml"
    dog = ObjectStyle("dog", "ember", region=2)
    Look("sea-mist", background="wave", objects=(swan("ember"), dog, swan("ember", (5, 6)))).write(file)
    options = LookOptions(background="starry", object=("swan@9,9=crayon-dusk",), look=file)
    assert Look.from_options(options) == Look(
        "sea-mist", background="starry", objects=(dog, ObjectStyle("swan", "crayon-dusk", (9, 9)))
    )
    assert Look.from_options(LookOptions(look=file)) == Look.read(file)


def test_the_options_do_conflict_as_well():
    with pytest.raises(OptionError, match="two styles"):
        Look.from_options(LookOptions(object=("swan@3,4=starry", "swan@5,6=wave")))


def test_a_place_typed_without_a_style_is_added_to_the_files(tmp_path):
    file = tmp_path / "a.toml"
    Look(objects=(swan("ember"),)).write(file)
    look = Look.from_options(LookOptions(object=("swan@9,9@4", "-swan@5,5@3"), look=file))
    assert look.objects == (
        swan("ember"),
        ObjectStyle("swan", "ember", (9, 9), at_s=4.0),
        ObjectStyle("swan", "ember", (5, 5), at_s=3.0, remove=True),
    )


def test_where_no_style_is_wanted_none_need_be_said(tmp_path):
    look = Look.from_options(LookOptions(object=("swan@9,9", "dog@1,2=wave", "dog@3,4@2")), unstyled=NONE)
    assert [thing.style for thing in look.objects] == [NONE, "wave", "wave"]
    assert look.style == NONE
    (tmp_path / "a.toml").write_text('[[object]]\nname = "swan"\npoint = [1, 2]\n')
    assert Look.from_options(LookOptions(look=tmp_path / "a.toml"), unstyled=NONE).objects[0].style == NONE
    with pytest.raises(OptionError, match="no style"):
        Look.from_options(LookOptions(look=tmp_path / "a.toml"))


@pytest.mark.parametrize("place", ["", "point = [1, 2]\n"])
def test_an_object_of_a_file_that_has_no_style_is_told_in_the_files_words(tmp_path, place):
    file = tmp_path / "a.toml"
    file.write_text(
        f'background = "wave"\n[[object]]\nname = "swan"\n{place}[[merge]]\ninto = "bird"\nobjects = ["swan"]\n'
    )
    with pytest.raises(OptionError) as told:
        Look.from_options(LookOptions(look=file))
    mend = 'has no style; give its [[object]] one, as in style = "wave", or --object "bird=wave"'
    assert str(told.value) == f"Look '{file}': object 'swan' {mend}"


@pytest.mark.parametrize(
    "said", ['[rename]\n"object 1" = "swan"\n', '[[merge]]\ninto = "swan"\nobjects = ["object 1"]\n']
)
def test_a_file_that_gives_names_alone_is_dressed_by_what_is_typed(tmp_path, said):
    file = tmp_path / "names.toml"
    file.write_text(said)
    options = LookOptions(look=file, background="none", object=("swan=starry",))
    look = Look.from_options(options)
    assert (look.background, look.called) == ("none", (("object 1", "swan"),))
    assert [(thing.name, thing.style) for thing in look.objects] == [("swan", "starry")]
    assert Look.from_options(LookOptions(look=file, style="wave")).style == "wave"
    with pytest.raises(OptionError, match="no style given; for example"):
        Look.from_options(LookOptions(look=file))
    with pytest.raises(OptionError, match="no style given; for example"):
        Look.read(file)


def test_an_object_of_a_file_wears_what_is_typed(tmp_path):
    """A file written for `tracks`, which needs no styles, serves for `run`."""
    file, painting = tmp_path / "a.toml", tmp_path / "mine.jpg"
    file.write_text('background = "mine.jpg"\n[[object]]\nname = "a"\npoint = [1, 2]\n[rename]\n"a" = "swan"\n')
    look = Look.from_options(LookOptions(look=file, object=("swan=starry", "-swan@3,4")))
    assert [(thing.name, thing.style, thing.point) for thing in look.objects] == [
        ("swan", "starry", (1, 2)),
        ("swan", "starry", (3, 4)),
    ]
    assert look.background == str(painting)
    with pytest.raises(OptionError, match="object 'a' has no style; give its"):
        Look.from_options(LookOptions(look=file, style="wave"))


# -- files ------------------------------------------------------------------------------------------------------------

slugs = st.sampled_from([*STYLES, NONE])
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
places = st.one_of(
    st.fixed_dictionaries({"point": st.tuples(st.integers(0, 9999), st.integers(0, 9999))}),
    st.fixed_dictionaries({"region": st.integers(1, 999)}),
    st.fixed_dictionaries({"mask": st.integers(1, 254)}),
    st.fixed_dictionaries({"words": st.text(string.ascii_letters + " ,@=;#'", min_size=1).map(str.strip).filter(bool)}),
)
moments = st.floats(0, 1e6, allow_nan=False)


@st.composite
def looks(draw) -> Look:
    parts = draw(st.fixed_dictionaries({}, optional=dict.fromkeys(("style", "background", "foreground"), slugs)))
    worn = draw(st.dictionaries(names, slugs, max_size=3))
    where = draw(st.lists(st.tuples(st.sampled_from(sorted(worn)), places, moments), max_size=4)) if worn else []
    objects = tuple(
        ObjectStyle(name, worn[name], at_s=0.0 if "mask" in place else at_s, **place) for name, place, at_s in where
    )
    removed = st.sampled_from([o.name for o in objects]) if objects else st.nothing()
    taken = draw(st.lists(st.tuples(removed, moments), max_size=2)) if objects else []
    objects += tuple(ObjectStyle(name, "", (1, 2), at_s=at_s, remove=True) for name, at_s in taken)
    # New names that are nobody's old one, so that there is no circle.
    called = draw(st.dictionaries(names.map("a".__add__), names.map("b".__add__), max_size=3)).items()
    if not parts and not objects:
        parts = {"style": draw(slugs)}
    return Look(**parts, objects=objects, called=tuple(called))


@settings(max_examples=60)
@given(look=looks())
def test_a_look_comes_back_from_its_file(look, tmp_path_factory):
    file = tmp_path_factory.getbasetemp() / "look.toml"
    look.write(file)
    assert Look.read(file) == look


@settings(max_examples=40)
@given(
    # A name that begins with a minus takes away, and with a style is refused.
    st.text(string.ascii_letters + string.digits + " _-é").map(str.strip).filter(lambda n: n and n[0] != "-"),
    places,
    st.integers(0, 9999).map(lambda n: n / 4),
    slugs,
)
def test_where_is_what_a_person_types(name, place, at_s, style):
    thing = ObjectStyle(name, style, at_s=0.0 if "mask" in place else at_s, **place)
    assert ObjectStyle.parse(f"{name}@{thing.where}={style}") == thing


CORRECTED = """
background = "wave"
[[object]]
name = "swan"
style = "starry"
points = [[320, 240], [100, 90, 4.0]]
[[object]]
name = "swan"
point = [50, 60]
at_s = 3.0
remove = true
[[object]]
name = "cow"
style = "ember"
mask = 2
[[object]]
name = "calf"
region = 4
[[merge]]
into = "herd"
objects = ["cow", "calf", "object 7"]
style = "crayon-dusk"
[rename]
"object 3" = "the dog"
herd = "flock"
"""


def test_corrections_in_a_file(tmp_path):
    file = tmp_path / "look.toml"
    file.write_text(CORRECTED)
    look = Look.read(file)
    assert look.objects == (
        ObjectStyle("swan", "starry", (320, 240)),
        ObjectStyle("swan", "starry", (100, 90), at_s=4.0),
        ObjectStyle("swan", "starry", (50, 60), at_s=3.0, remove=True),
        ObjectStyle("flock", "crayon-dusk", mask=2),
        ObjectStyle("flock", "crayon-dusk", region=4),
    )
    assert [look.name_of(name) for name in ("object 7", "object 3", "object 1")] == ["flock", "the dog", "object 1"]
    look.write(file)
    assert Look.read(file) == look


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[merge]]\ninto = "herd"', "a [[merge]] needs into"),
        ('[[merge]]\ninto = "herd"\nobjects = []', "a [[merge]] needs into"),
        ('[[merge]]\ninto = 3\nobjects = ["cow"]', "a [[merge]] needs into"),
        ('[[merge]]\ninto = "herd"\nobjects = "cow"', "a [[merge]] needs into"),
        ('[[merge]]\ninto = "herd"\nobjects = ["cow"]\nat_s = 1', "a [[merge]] needs into"),
        ('merge = "herd"', "a [[merge]] needs into"),
        (
            '[[merge]]\ninto = "cow"\nobjects = ["cow", "cow"]',
            "a [[merge]] of 'cow' into itself; name another in objects",
        ),
        ('rename = "herd"', "[rename] has lines"),
        ("[rename]\ncow = 3", "[rename] has lines"),
        ('[rename]\ncow = "a"\n[[merge]]\ninto = "b"\nobjects = ["cow"]', "becomes both 'a' and 'b'"),
        ('[rename]\ncow = "a"\na = "cow"', "in a circle"),
    ],
)
def test_merges_and_names_that_are_wrong_are_refused(tmp_path, text, said):
    assert said in refused(tmp_path, f'style = "wave"\n{text}\n')


def refused(tmp_path, text: str | bytes) -> str:
    file = tmp_path / "look.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(OptionError) as error:
        Look.read(file)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "table",
    [
        'name = "swan"\nstyle = "wave"\nat_s = 1.0',
        'name = "swan"\nstyle = "wave"\nremove = true',
        'name = "swan"\nstyle = "wave"\npoint = [3, 4, 5]',
        'name = "swan"\nstyle = "wave"\npoints = [3, 4]',
        'name = "swan"\nstyle = "wave"\npoints = [[3, 4, 5, 6]]',
        'name = "swan"\nstyle = "wave"\npoints = [[3, 4]]\npoint = [3, 4]',
        'name = "swan"\nstyle = "wave"\nmask = "three"',
        'name = "swan"\nstyle = "wave"\nmask = 3\nat_s = 1.0',
        'name = "swan"\nstyle = "wave"\nmask = 3\nremove = true',
        'name = "swan"\nstyle = "wave"\npoint = [3, 4]\nremove = "yes"',
        'style = "wave"\npoint = [3, 4]',
        'name = "swan"\nstyle = "wave"\npoint = [3]',
        'name = "swan"\nstyle = "wave"\npoint = 3',
        'name = "swan"\nstyle = "wave"\npoint = ["a", "b"]',
        'name = "swan"\nstyle = "wave"\npoint = [3, 4]\nregion = 2',
        'name = "swan"\nstyle = "wave"\nregion = "two"',
        'name = "swan"\nstyle = "wave"\nregion = 2\nat_s = "soon"',
        'name = "swan"\nstyle = "wave"\nregion = 2\ncolour = "red"',
        'name = "swan"\nstyle = "wave"\nregion = 2\nwords = "swan"',
        'name = "swan"\nstyle = "wave"\nwords = 3',
        'name = "swan"\nstyle = "wave"\nwords = " "',
    ],
)
def test_an_object_of_a_file_that_is_wrong_is_refused(tmp_path, table):
    assert "needs name, and one of point = [x, y]" in refused(tmp_path, f"[[object]]\n{table}\n")


@pytest.mark.parametrize("value", ["5", '"swan"', "[1, 2]", '{name = "swan", style = "wave", region = 1}', "true"])
def test_objects_that_are_no_tables_are_refused(tmp_path, value):
    assert "[[object]] needs" in refused(tmp_path, f'style = "wave"\nobject = {value}\n')


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("style = wave", "not TOML"),
        (b"style = '\xff'", "not text in UTF-8"),
        ('styles = "wave"', "unknown key 'styles'"),
        ('style = "wav"', "unknown style 'wav'"),
        ("style = 26", "unknown style '26'"),
        ("style = [1]", "unknown style"),
        ("", "no style given"),
    ],
)
def test_a_malformed_file_is_refused(tmp_path, text, said):
    assert said in refused(tmp_path, text)


def test_a_number_is_a_style_in_a_file_too(tmp_path):
    file = tmp_path / "look.toml"
    file.write_text('style = 19\n[[object]]\nname = "swan"\nstyle = 24\npoint = [3, 4]\n', "utf-8")
    assert Look.read(file) == Look("starry", objects=(swan("wave"),))


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(OptionError, match="no such file"):
        Look.read(tmp_path / "gone.toml")
    with pytest.raises(OptionError, match="a folder; give the Look file in it"):
        Look.read(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(OptionError, match=r"cannot be read .*; check its path"):
        Look.read(tmp_path / "file" / "look.toml")


def test_a_file_that_cannot_be_written_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match=r"gone.*cannot be written"):
        Look("wave").write(tmp_path / "gone" / "look.toml")


def test_a_look_does_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Look("wave").style = "starry"


# -- objects without a place, of a label track ------------------------------------------------------------------------


def test_an_object_of_a_label_track_needs_no_place(tmp_path):
    thing = ObjectStyle.parse(" the swan = starry")
    assert thing == ObjectStyle("the swan", "starry")
    assert not thing.has_place
    assert all(ObjectStyle.parse(f"a@{place}=wave").has_place for place in ("0,0", "#0", "mask0"))
    look = Look(objects=(thing, ObjectStyle("dog", "wave", (1, 2))))
    look.write(tmp_path / "look.toml")
    assert Look.read(tmp_path / "look.toml") == look


def test_a_style_without_a_place_is_one_of_the_places_there_are(tmp_path):
    places = (ObjectStyle("swan", "", (3, 4)), ObjectStyle("swan", "", (5, 6), at_s=2.0))
    worn = tuple(dataclasses.replace(place, style="starry") for place in places)
    assert Look(objects=(ObjectStyle("swan", "starry"), *places)).objects == worn
    Look(objects=tuple(dataclasses.replace(place, style="wave") for place in places)).write(tmp_path / "look.toml")
    said = LookOptions(look=tmp_path / "look.toml", object=("swan=starry",))
    assert Look.from_options(said).objects == worn
    with pytest.raises(OptionError, match="none where it is"):
        Look(objects=(ObjectStyle("swan", "starry"), dataclasses.replace(places[0], remove=True)))


MERGED = 'style = "none"\n[[merge]]\ninto = "herd"\nobjects = ["object 7", "object 8"]\nstyle = "wave"\n'


def test_the_style_of_a_merge_of_objects_found_by_themselves_is_kept(tmp_path):
    file = tmp_path / "look.toml"
    file.write_text(MERGED)
    look = Look.read(file)
    assert look.objects == (ObjectStyle("herd", "wave"),)
    assert look.needs_objects
    assert look.styles == (NONE, "wave")
    look.write(tmp_path / "again.toml")
    assert Look.read(tmp_path / "again.toml") == look
    typed = Look.from_options(LookOptions(look=file, object=("herd=ember",)))
    assert typed.objects == (ObjectStyle("herd", "ember"),)


def test_the_style_of_a_merge_that_is_merged_itself_goes_with_it(tmp_path):
    file = tmp_path / "look.toml"
    file.write_text(MERGED + '[rename]\nherd = "flock"\n')
    assert Look.read(file).objects == (ObjectStyle("flock", "wave"),)


# -- paintings --------------------------------------------------------------------------------------------------------


def test_a_look_file_finds_its_paintings_beside_it(tmp_path, monkeypatch):
    folder = tmp_path / "looks"
    folder.mkdir()
    (folder / "a.toml").write_text('style = "wave"\nbackground = "art/night.jpg:1+ember:1; strength=0.5"\n')
    look = Look.read(folder / "a.toml")
    assert look.background == f"{folder}/art/night.jpg:0.5+ember:0.5; strength=0.5"
    monkeypatch.chdir(tmp_path)
    Look("looks/art/night.jpg").write(folder / "b.toml")
    assert 'style = "art/night.jpg"' in (folder / "b.toml").read_text()
    assert Look.read("looks/b.toml").style == "looks/art/night.jpg"


def test_a_look_file_keeps_paths_in_quotes(tmp_path, monkeypatch):
    (tmp_path / "a+b").mkdir()
    (tmp_path / "a+b" / "night; one.jpg").touch()
    monkeypatch.chdir(tmp_path)
    look = Look("'a+b/night; one.jpg'#1,2,30,40:1+wave:1", background="a+b/")
    assert look.background == "'./a+b/'"  # as it is called, for the folder is there
    look.write("look.toml")
    monkeypatch.chdir("a+b")
    again = Look.read("../look.toml")
    assert again.style == "'../a+b/night; one.jpg'#1,2,30,40:0.5+wave:0.5"
    assert again.background == "'../a+b/'"
    (tmp_path / "b.toml").write_text("""style = '"a+b/night.jpg"'\n""")
    assert Look.read("../b.toml").style == "'../a+b/night.jpg'"


def test_a_style_may_say_more_on_the_command_line():
    thing = ObjectStyle.parse("swan@320,240@1.5=none@2 > a.jpg:0.7+wave:0.3@4; strength=0.5; keep-colors")
    assert (thing.name, thing.point, thing.at_s) == ("swan", (320, 240), 1.5)
    assert thing.style == "none@2 > a.jpg:0.7+wave:0.3@4; strength=0.5; keep-colors"
    assert ObjectStyle.parse("swan=wave; strength=0.5") == ObjectStyle("swan", "wave; strength=0.5")
    assert Look(objects=(thing,)).styles == (NONE, thing.style)


def test_what_is_taken_out_of_an_object_has_no_style():
    with pytest.raises(OptionError, match="takes no style; leave =wave out"):
        ObjectStyle.parse("-swan@3,4=wave")
