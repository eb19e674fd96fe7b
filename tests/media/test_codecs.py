import re

import pytest

from streamstyle.media import codecs


def test_versions_are_of_pyav_and_its_libraries():
    found = codecs.versions()
    assert {"av", "libavcodec", "libavformat", "libswscale"} <= found.keys()
    assert all(re.fullmatch(r"\d+\.\d+\.\d+.*", version) for version in found.values()), found


@pytest.mark.parametrize("has", [codecs.has_encoder, codecs.has_decoder])
@pytest.mark.parametrize("name", ["aac", "rawvideo"])
def test_ffmpeg_always_has_these(has, name):
    assert has(name)


@pytest.mark.parametrize("has", [codecs.has_encoder, codecs.has_decoder])
def test_what_is_not_there_is_not_there(has):
    assert not has("no_such_codec")


def test_an_encoder_is_not_a_decoder():
    assert codecs.has_encoder("libx264")
    assert not codecs.has_decoder("libx264")
