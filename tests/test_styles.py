import re

import pytest

from streamstyle.errors import OptionError
from streamstyle.nets import stylenet
from streamstyle.styles import NONE, STYLES, style_name, style_number


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
    assert style_number(slug) == number


def test_none_is_no_row():
    assert style_name(" None ") == NONE
    assert style_number(NONE) is None


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
    with pytest.raises(OptionError, match=r"26 styles by name or number 0\.\.25, or 'none'"):
        style_name(word)
