import os
import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamstyle.errors import OptionError
from streamstyle.look import Look, ObjectStyle
from streamstyle.nets import stylenet
from streamstyle.styles import NONE, STYLES, Painting, Style, canonical, moved, source_of, style_name


def test_every_row_of_the_network_has_its_own_slug():
    assert len(STYLES) == len(set(STYLES)) == stylenet.STYLES == 26
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", name) for name in STYLES)
    assert NONE not in STYLES


@pytest.mark.parametrize("number", range(26))
def test_a_style_is_found_by_slug_and_number(number):
    slug = STYLES[number]
    assert style_name(slug) == slug
    assert style_name(str(number)) == style_name(f" {number:03d} ") == slug
    assert style_name(slug.upper().replace("-", "_")) == style_name(slug.replace("-", " ")) == slug


def test_none_is_none():
    assert style_name(" None ") == NONE


@pytest.mark.parametrize(
    ("word", "near"),
    [("stary", "starry"), ("waves", "wave"), ("golden", "golden-haze"), ("embers", "ember"), ("non", "none")],
)
def test_a_word_nearly_right_is_told_the_nearest(word, near):
    with pytest.raises(OptionError) as error:
        style_name(word)
    hint = re.search(r"did you mean ([^?]*)\?", str(error.value))
    assert near in hint[1].split(" or ")
    assert repr(word) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("word", ["", "26", "-1", "1.0", "999", "²", "٣", "qqqqqq", "!"])
def test_a_word_like_nothing_is_shown_where_the_styles_are(word):
    with pytest.raises(OptionError, match=r"26 styles by name or number 0\.\.25, 'none', or a painting's file"):
        style_name(word)


# -- styles in words --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("19", "starry"),
        (" Water Lilies ", "water-lilies"),
        ("none; strength=0.5", "none"),
        ("starry_night.JPG", "starry_night.JPG"),
        ("./a//wave.jpg", "a/wave.jpg"),
        ("wave.jpg# 10,20, 300,200", "wave.jpg#10,20,300,200"),
        ("monet/", "./monet/"),
        ("./starry", "./starry"),
        ("none; feather=20", "none; feather=20"),
        ("candy.safetensors", "candy.safetensors"),
        ("starry:7+a.jpg:3", "starry:0.7+a.jpg:0.3"),
        ("starry+wave+ember", "starry:0.3334+wave:0.3333+ember:0.3333"),
        ("starry:0.5+19:0.5", "starry"),
        ("starry:1+wave:0", "starry"),
        ("none@2>wave@4", "none@2 > wave@4"),
        ("starry > wave@1:02.5", "starry@0 > wave@62.5"),
        ("starry@1 > starry@5", "starry"),
        ("starry@1>wave:2+a.png@3; Blend = Soft-Light", "starry@1 > wave:0.6667+a.png:0.3333@3; blend=soft-light"),
        ("wave;keep_colors; strength=.25;", "wave; strength=0.25; keep-colors"),
        ("'a+b.jpg'", "'a+b.jpg'"),
        (""" "a;b.jpg" """, "'a;b.jpg'"),
        ("'plain.jpg'; strength=0.5", "plain.jpg; strength=0.5"),
        ("'starry'", "./starry"),
        ("'a#1,2,3,4.jpg' # 10,20,30,40", "'a#1,2,3,4.jpg'#10,20,30,40"),
        ("'mo+net/':1+'x>y@2.png':3", "'./mo+net/':0.25+'x>y@2.png':0.75"),
        ("'a@1'@2 > \"it's;\"@4", "'./a@1'@2 > \"./it's;\"@4"),
        ("'a''b\";.jpg'", '"a\'b"";.jpg"'),
        ("it's.jpg+bob's.jpg", "it's.jpg:0.5+bob's.jpg:0.5"),
        ("'c+d.safetensors'", "'c+d.safetensors'"),
        ("wave; keep-colors=no; feather=3; scale=2", "wave; scale=2; feather=3; keep-colors=no"),
    ],
)
def test_a_style_is_written_in_one_form(said, written):
    assert canonical(said) == written
    assert canonical(written) == written
    assert Style.parse(written) == Style.parse(said) or written == NONE


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("stary", "unknown style 'stary': did you mean starry"),
        ("starry@2", "a keyframe is STYLE@SECONDS"),
        ("none@2 > wave", "a keyframe is STYLE@SECONDS"),
        ("wave@4 > ember@2", "2 s comes after 4 s; put them in the order of time"),
        ("wave@1:99 > ember@200", "not a time"),
        ("wave; strength=2", "strength=2 is out of range; give 0 to 1"),
        ("wave; strength=nan", "out of range"),
        ("wave; strength", "strength is not a number; give 0 to 1"),
        ("wave; scale=abc", "scale=abc is not a number"),
        ("night.jpg#10,20,300", "a crop is #X,Y,WIDTH,HEIGHT"),
        ("night.jpg#-5,0,9,9", "a crop is #X,Y,WIDTH,HEIGHT"),
        ("night.jpg:-1+wave:2", "the weight -1 is less than 0"),
        ("starry:1+", "a style is missing"),
        ("candy.pth", "read from .safetensors files; convert it to one"),
        ("wave; scale=0", "give 0.1 to 10"),
        ("wave; feather=-1", "give 0 to 200"),
        ("wave; blend=screen", "'blend=screen' is not understood; give strength="),
        ("wave; keep-colors=maybe", "is not understood"),
        ("wave; color=red", "is not understood"),
        ("wave:0+ember:0", "all weights are 0"),
        ("wave++ember", "a style is missing"),
        ("a;b.jpg", "'b.jpg' is not understood; give strength="),
        ("a;b.jpg", "; a path with any of ; + > # : @ = in it goes in quotes, as in 'a+b.jpg'"),
        ("art/a+b", "unknown style 'b'"),
        ("art/a+b", "goes in quotes"),
        ("a>b.jpg", "goes in quotes"),
        ("'a+b.jpg", "quotes go round a whole path and are closed, as in 'a+b.jpg'"),
        ("'a'b.jpg", "quotes go round a whole path"),
        ("'a.jpg'#1,2", "quotes go round a whole path"),
        ("''", "quotes go round a whole path"),
        ("'a+b.pth'", "read from .safetensors files; convert it to one"),
    ],
)
def test_what_is_not_understood_of_a_style_is_shown(said, told):
    with pytest.raises(OptionError) as error:
        Style.parse(said)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_a_source_is_a_style_a_painting_or_a_network():
    assert source_of("starry") == "starry"
    assert source_of("a/b.jpg") == Painting(Path("a/b.jpg"))
    assert source_of("a.jpg#1,2,3,4") == Painting(Path("a.jpg"), (1, 2, 3, 4))
    assert source_of("a/candy.safetensors") == Path("a/candy.safetensors")
    assert Style.parse("starry:1+a.jpg#1,2,3,4+b/:1 > c.safetensors@2").files == (
        Path("a.jpg"),
        Path("b"),
        Path("c.safetensors"),
    )


def test_a_file_whose_name_looks_like_more_is_that_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a+b.jpg", "a.jpg#1,2,3,4", "night:2.jpg"):
        Path(name).touch()
        assert Style.parse(canonical(name)).files == (Path(name),)
    Path("noext").touch()
    assert Style.parse("noext").files == (Path("noext"),)
    (tmp_path / "starry").mkdir()
    assert canonical("starry") == "starry"  # a built-in style, whatever the folder we are in holds
    assert source_of(canonical("starry/")) == Painting(Path("starry"))


paths = st.text(st.sampled_from("ab1 ;+>#:@'\"=,/."), min_size=1).filter(lambda path: path.strip("/. "))


@given(path=paths, crop=st.sampled_from(["", "#1,2,3,4"]), folder=st.booleans())
def test_any_path_can_be_said_in_quotes_and_is_read_back(path, crop, folder):
    for quote in "'", '"':
        said = quote + path.replace(quote, 2 * quote) + "/" * folder + quote + crop
        style = Style.parse(f"{said}:1+starry:3@1 > {said}@2; strength=0.5")
        assert style.files == (Path(os.path.normpath(path)),)
        assert Style.parse(str(style)) == style
        assert moved(str(style), lambda file: file) == str(style)
        look = Look(style=str(style), objects=(ObjectStyle("swan", said, point=(1, 2)),))
        assert tomllib.loads(look.to_toml())["style"] == str(style)
        assert ObjectStyle.parse(f"swan@1,2={said}") == look.objects[0]
        assert ObjectStyle.parse(f"swan={said}").style == look.objects[0].style


def test_a_style_moves_with_its_files():
    said = "a.jpg:0.5+starry:0.5@1 > b/c.png#1,2,3,4@2 > monet/@3 > d.safetensors@4; strength=0.5"
    assert moved(said, lambda path: os.path.join("x", path)) == (
        "x/a.jpg:0.5+starry:0.5@1 > x/b/c.png#1,2,3,4@2 > x/monet/@3 > x/d.safetensors@4; strength=0.5"
    )


def test_keyframes_fade_and_hold():
    style = Style.parse("none@2 > wave@4 > wave@6 > ember@6")
    assert style.shares(0) == style.shares(2) == (1, 0, 0, 0)
    assert style.shares(3) == (0.5, 0.5, 0, 0)
    assert style.shares(4.5) == (0, 0.75, 0.25, 0)
    assert style.shares(6) == style.shares(99) == (0, 0, 0, 1)  # at one moment: a change without a fade
    assert Style.parse("wave").shares(7) == (1,)
    assert Style.parse("none@.5 > wave@1") == Style.parse("none@0.5 > wave@1")


sources = st.sampled_from([*STYLES[:5], "a.jpg", "b/c.png", "d.png#1,2,3,4", "e.safetensors", NONE])
mixes = st.dictionaries(sources, st.floats(0.01, 5), min_size=1, max_size=3).map(
    lambda parts: "+".join(f"{source}:{weight:.4f}" for source, weight in parts.items())
)


@given(
    mixes=st.lists(mixes, min_size=1, max_size=3),
    strength=st.none() | st.floats(0, 1),
    feather=st.none() | st.floats(0, 200),
    keeps=st.sampled_from(["", "; keep-colors", "; keep-colors=no"]),
)
def test_what_is_written_is_read_back(mixes, strength, feather, keeps):
    text = mixes[0] if len(mixes) == 1 else " > ".join(f"{mix}@{at_s}" for at_s, mix in enumerate(mixes))
    text += "" if strength is None else f"; strength={strength}"
    text += "" if feather is None else f"; feather={feather}"
    written = canonical(text + keeps)
    assert canonical(written) == written
    for time_s in (0.0, 0.3, 1.0, 1.7, 9.0):
        assert sum(Style.parse(written).shares(time_s)) == pytest.approx(1)
